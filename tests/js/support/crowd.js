// Clients that are small enough to run by the thousand beside the server under test.
import net from "node:net";
import { PATIENCE_MS, deferred, within } from "./wait.js";
import { OPCODE, event, frame, text, upgradeHead } from "./wire.js";

/** Runs `act` for each number below `count`, `atOnce` at a time, and returns all results. */
export async function many(count, atOnce, act) {
  const results = Array(count);
  let begun = 0;
  const worker = async () => {
    while (begun < count) {
      const mine = begun++;
      results[mine] = await act(mine);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, worker));
  return results;
}

/**
 * A member that keeps no received events. Its `goodbye` resolves to the close code, or to
 * `null` if the connection ended without a close frame.
 *
 * With `sipping`, it reads that many bytes at a time once it has joined, one portion per `sip()`.
 */
export class Extra {
  constructor(server, { sipping = 0 } = {}) {
    this.code = null;
    this.tail = Buffer.alloc(0);
    this.bytes = 0;
    this.over = deferred();
    this.goodbye = this.over.promise;
    this.acked = deferred();
    const take = (bytes) => this.take(bytes);
    const buffer = sipping > 0 ? Buffer.alloc(sipping) : null;
    // The callback returns whether Node.js is to go on reading.
    const onread = buffer && { buffer, callback: (length) => take(buffer.subarray(0, length)) ?? !this.isIn };
    this.socket = net.connect({ port: server.port, host: "127.0.0.1", noDelay: true, ...(onread && { onread }) });
    if (!onread) this.socket.on("data", take);
    this.socket.on("error", () => {});
    this.socket.once("close", () => {
      this.over.resolve(this.code);
      const last = `code ${this.code}, ${this.bytes} bytes, the last ones ${this.tail.toString("latin1", 0, 200)}`;
      this.acked.reject(new Error(`the connection ended before the join was acknowledged: ${last}`));
    });
    this.acked.promise.catch(() => {});
    server.owns(() => this.socket.destroy());
    this.socket.write(upgradeHead(server));
  }

  /** Handles the frames that matter here: acknowledgements, Engine.IO pings and the close. */
  take(bytes) {
    this.bytes += bytes.length;
    this.tail = this.tail.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.tail, bytes]);
    if (!this.upgraded) {
      const end = this.tail.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.upgraded = this.tail.toString("latin1", 0, 13) === "HTTP/1.1 101 ";
      this.tail = this.tail.subarray(end + 4);
      if (!this.upgraded) return void this.socket.destroy();
    }
    for (;;) {
      const [first, second] = this.tail;
      const start = second === 126 ? 4 : second === 127 ? 10 : 2;
      if (this.tail.length < start) break;
      const length = start === 4 ? this.tail.readUInt16BE(2) : start === 10 ? Number(this.tail.readBigUInt64BE(2)) : second;
      if (this.tail.length < start + length) break;
      this.understand(first & 0x0f, this.tail.subarray(start, start + length));
      this.tail = this.tail.subarray(start + length);
    }
  }

  understand(opcode, payload) {
    if (opcode === OPCODE.close) {
      this.code = payload.length === 0 ? 1005 : payload.readUInt16BE(0);
      this.socket.end(frame(OPCODE.close, payload.subarray(0, 2)));
    } else if (payload.length === 1 && payload[0] === 0x32) {
      this.socket.write(text("3"));
    } else if (payload.toString("latin1", 0, 4) === "431[") {
      const [ack] = JSON.parse(payload.subarray(3));
      this.isIn = ack.ok;
      if (ack.ok) this.acked.resolve(ack);
      else this.acked.reject(new Error(JSON.stringify(ack)));
    }
  }

  /** Connects to the main namespace and joins. Returns the acknowledgement. */
  join(sessionId, fields = {}) {
    this.socket.write(Buffer.concat([text("40"), text(event("join_session", { sessionId, ...fields }, 1))]));
    return within(3 * PATIENCE_MS, this.acked.promise, "the join of an extra is acknowledged");
  }

  say(name, payload) {
    this.socket.write(text(event(name, payload)));
  }

  /** Reads the next portion of a client that was made with `sipping`. */
  sip() {
    this.socket.resume();
  }
}

/** An extra that has joined `sessionId`. */
export async function extra(server, sessionId, fields, options) {
  const one = new Extra(server, options);
  await one.join(sessionId, fields);
  return one;
}
