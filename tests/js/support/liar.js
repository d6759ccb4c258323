// A proxy in front of a real Redis that lies about one session: it forwards commands one by one,
// but answers those that name the session itself.
import net from "node:net";

/** The end of the value that begins at `at`, or null if the value is incomplete. */
function valueEnd(buffer, at) {
  const line = buffer.indexOf("\r\n", at);
  if (line < 0) return null;
  const next = line + 2;
  const kind = String.fromCharCode(buffer[at]);
  const count = Number(buffer.toString("latin1", at + 1, line));
  if (kind === "$") {
    const end = count < 0 ? next : next + count + 2;
    return end <= buffer.length ? end : null;
  }
  if (kind !== "*") return next;
  let position = next;
  for (let n = 0; n < count; n += 1) {
    position = valueEnd(buffer, position);
    if (position === null) return null;
  }
  return position;
}

/** Calls `take` with each complete value that a socket receives. */
function values(socket, take) {
  let buffer = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    let at = 0;
    for (;;) {
      const end = at < buffer.length ? valueEnd(buffer, at) : null;
      if (end === null) break;
      take(buffer.subarray(at, end));
      at = end;
    }
    buffer = buffer.subarray(at);
  });
}

/** Starts the proxy. `lie(command)` returns its own answer, or null to ask the real Redis. */
export async function liar(redis, lie) {
  const sockets = new Set();
  const listener = net.createServer((near) => {
    const far = net.connect(redis.port, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => {
        near.destroy();
        far.destroy();
        sockets.delete(socket);
      });
    }
    // Answers in the order of the commands. Null stands for an answer that the real Redis still
    // owes.
    const order = [];
    const flush = () => {
      while (order.length > 0 && order[0] !== null) near.write(order.shift());
    };
    values(near, (command) => {
      const answer = lie(command.toString("latin1"));
      order.push(answer);
      if (answer === null) far.write(command);
      else flush();
    });
    values(far, (answer) => {
      const index = order.indexOf(null);
      // A published message answers no command.
      if (index < 0) near.write(answer);
      else order[index] = Buffer.from(answer);
      flush();
    });
  });
  await new Promise((done) => listener.listen(0, "127.0.0.1", done));
  const stop = async () => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  };
  return { port: listener.address().port, stop };
}
