// A Redis that lies about one session: it stands before a real one, passes commands on one by one, and answers those
// that name the session by itself.
import net from "node:net";

/** The bytes of the value that begins at `at`, or null if it is not whole yet. */
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
  let place = next;
  for (let n = 0; n < count; n += 1) {
    place = valueEnd(buffer, place);
    if (place === null) return null;
  }
  return place;
}

/** Takes whole values out of a stream of bytes. */
function values(socket, heard) {
  let buffer = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    let at = 0;
    for (;;) {
      const end = at < buffer.length ? valueEnd(buffer, at) : null;
      if (end === null) break;
      heard(buffer.subarray(at, end));
      at = end;
    }
    buffer = buffer.subarray(at);
  });
}

/** `lie(command)` returns what to answer instead of what the real one would, or null. */
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
    // Lies that wait for the answers before them: how many true ones come first.
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
      const place = order.indexOf(null);
      // What is published answers no command.
      if (place < 0) near.write(answer);
      else order[place] = Buffer.from(answer);
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
