// The layers below socket.io-client: TCP bytes, HTTP answers, WebSocket frames, Engine.IO packets.
import { randomBytes } from "node:crypto";
import net from "node:net";
import WebSocket from "ws";
import { PATIENCE_MS, deferred, within } from "./wait.js";

export const ENGINE_PATH = "/socket.io/?EIO=4&transport=websocket";

export const OPCODE = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa };

/** A TCP connection that buffers its input until a test reads it. */
export class Tcp {
  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.ended = deferred();
    this.wakeReader = null;
    socket.setNoDelay(true);
    socket.on("data", (bytes) => {
      this.buffer = Buffer.concat([this.buffer, bytes]);
      this.wakeReader?.();
    });
    // A reset counts as a close. Tests that care look at the input before it.
    socket.on("error", () => {});
    socket.once("close", () => {
      this.isEnded = true;
      this.ended.resolve();
      this.wakeReader?.();
    });
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  /** Calls `take` after each input until it returns a value other than undefined. Returns that. */
  async read(take, what, ms = PATIENCE_MS) {
    const attempt = async () => {
      for (;;) {
        const found = take();
        if (found !== undefined) return found;
        if (this.isEnded) throw new Error(`the connection ended before ${what}; left: ${this.buffer}`);
        const more = deferred();
        this.wakeReader = more.resolve;
        await more.promise;
      }
    };
    return within(ms, attempt(), () => `${what}; so far: ${this.buffer.subarray(0, 300)}`);
  }

  take(length) {
    const taken = this.buffer.subarray(0, length);
    this.buffer = this.buffer.subarray(length);
    return taken;
  }

  /** Waits until the peer has closed the connection. */
  closed(ms = PATIENCE_MS) {
    return within(ms, this.ended.promise, () => `the server closes; so far: ${this.buffer.subarray(0, 300)}`);
  }

  /** Reads one HTTP answer: `{status, headers, body}`, with header names in lower case. */
  async readAnswer({ head = false } = {}) {
    const text = await this.read(() => {
      const end = this.buffer.indexOf("\r\n\r\n");
      return end < 0 ? undefined : this.take(end + 4).toString("latin1");
    }, "the head of an answer");
    const [first, ...lines] = text.trimEnd().split("\r\n");
    const headers = {};
    for (const line of lines) {
      const colon = line.indexOf(":");
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const status = Number(first.split(" ")[1]);
    const bodyless = head || status === 101 || status === 204 || status === 304;
    const length = bodyless ? 0 : Number(headers["content-length"] ?? NaN);
    let body;
    if (Number.isNaN(length)) {
      // Without a length the body ends with the connection.
      await this.closed();
      body = this.take(this.buffer.length);
    } else {
      body = await this.read(() => (this.buffer.length < length ? undefined : this.take(length)), "a body");
    }
    return { first, status, headers, body: body.toString("utf8") };
  }

  destroy() {
    this.socket.destroy();
  }
}

export async function tcp(server) {
  const socket = net.connect(server.port, "127.0.0.1");
  const connection = new Tcp(socket);
  server.owns(() => connection.destroy());
  const open = new Promise((done, fail) => {
    socket.once("connect", done);
    socket.once("error", fail);
  });
  await within(PATIENCE_MS, open, "the TCP connection");
  return connection;
}

/** Sends a request on a connection of its own. `headers` may replace the Host. */
export async function request(server, method, path, headers = {}, body = "") {
  const connection = await tcp(server);
  connection.write(head(server, method, path, { Connection: "close", ...headers }) + body);
  const answer = await connection.readAnswer({ head: method === "HEAD" });
  connection.destroy();
  return answer;
}

export function head(server, method, path, headers = {}) {
  const lines = Object.entries({ Host: `127.0.0.1:${server.port}`, ...headers });
  return `${method} ${path} HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join("")}\r\n`;
}

export function upgradeHead(server, headers = {}, path = ENGINE_PATH) {
  return head(server, "GET", path, {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    ...headers,
  });
}

/** The bytes of one frame as a client sends it. */
export function frame(opcode, payload = "", { fin = true, rsv = 0, masked = true, length } = {}) {
  const bytes = Buffer.from(payload);
  const claimed = BigInt(length ?? bytes.length);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const maskBit = masked ? 0x80 : 0;
  let start;
  if (claimed < 126n) {
    start = Buffer.from([first, maskBit | Number(claimed)]);
  } else if (claimed < 65536n) {
    start = Buffer.from([first, maskBit | 126, 0, 0]);
    start.writeUInt16BE(Number(claimed), 2);
  } else {
    start = Buffer.alloc(10);
    start[0] = first;
    start[1] = maskBit | 127;
    start.writeBigUInt64BE(claimed, 2);
  }
  if (!masked) return Buffer.concat([start, bytes]);
  const mask = randomBytes(4);
  return Buffer.concat([start, mask, bytes.map((byte, i) => byte ^ mask[i % 4])]);
}

export const text = (packet) => frame(OPCODE.text, packet);

/** An event packet. `ack` is its acknowledgement id, if it asks for an acknowledgement. */
export const event = (name, payload, ack = "") => `42${ack}${JSON.stringify([name, payload])}`;

/** A WebSocket whose frames the test writes byte by byte. */
export class RawSocket {
  constructor(connection) {
    this.tcp = connection;
  }

  send(...frames) {
    this.tcp.write(Buffer.concat(frames));
  }

  /** Reads the next frame: `{opcode, fin, rsv, masked, payload}`. */
  readFrame(what = "a frame") {
    return this.tcp.read(() => {
      const { buffer } = this.tcp;
      if (buffer.length < 2) return undefined;
      let length = buffer[1] & 0x7f;
      let start = 2;
      if (length === 126) {
        if (buffer.length < 4) return undefined;
        length = buffer.readUInt16BE(2);
        start = 4;
      } else if (length === 127) {
        if (buffer.length < 10) return undefined;
        length = Number(buffer.readBigUInt64BE(2));
        start = 10;
      }
      if (buffer.length < start + length) return undefined;
      const [first, second] = buffer;
      const payload = Buffer.from(this.tcp.take(start + length).subarray(start));
      return { opcode: first & 0x0f, fin: first >> 7 === 1, rsv: (first >> 4) & 7, masked: second >> 7 === 1, payload };
    }, what);
  }

  /** Reads up to the next text that `accepts` takes, and returns it. */
  async readText(accepts = () => true, what = "a text") {
    for (;;) {
      const got = await this.readFrame(what);
      const packet = got.payload.toString("utf8");
      if (got.opcode === OPCODE.text && accepts(packet)) return packet;
      if (got.opcode === OPCODE.close) throw new Error(`closed with ${closeCode(got.payload)} before ${what}`);
    }
  }

  /** Reads up to the acknowledgement with this id. Returns its arguments. */
  async readAck(number) {
    const prefix = `43${number}[`;
    const packet = await this.readText((one) => one.startsWith(prefix), `acknowledgement ${number}`);
    return JSON.parse(packet.slice(prefix.length - 1));
  }

  /** Reads up to the close frame. Returns its code, 1005 if it is empty, null if there is none. */
  async readClose() {
    for (;;) {
      let got;
      try {
        got = await this.readFrame("a close frame");
      } catch (error) {
        if (this.tcp.isEnded) return null;
        throw error;
      }
      if (got.opcode === OPCODE.close) return closeCode(got.payload);
    }
  }

  /** Connects to the main namespace and returns the socket id. */
  async connect(auth) {
    this.send(text(auth === undefined ? "40" : `40${JSON.stringify(auth)}`));
    const packet = await this.readText((one) => one.startsWith("40"), "the connect answer");
    return JSON.parse(packet.slice(2)).sid;
  }
}

function closeCode(payload) {
  return payload.length === 0 ? 1005 : payload.readUInt16BE(0);
}

/** Opens a raw WebSocket. Its `opened` is the content of the Engine.IO open packet. */
export async function rawSocket(server, headers = {}) {
  const connection = await tcp(server);
  connection.write(upgradeHead(server, headers));
  const answer = await connection.readAnswer();
  if (answer.status !== 101) throw new Error(`refused: ${answer.first} ${answer.body}`);
  const raw = new RawSocket(connection);
  raw.answer = answer;
  const open = await raw.readText(undefined, "the open packet");
  raw.opened = JSON.parse(open.slice(1));
  return raw;
}

/** Opens a raw WebSocket and connects it to the main namespace. */
export async function rawMember(server) {
  const raw = await rawSocket(server);
  raw.sid = await raw.connect();
  return raw;
}

/** A WebSocket of the package `ws`, for tests that send packets rather than frames. */
export class EngineSocket {
  constructor(server, options = {}) {
    this.ws = new WebSocket(`ws://127.0.0.1:${server.port}${options.path ?? ENGINE_PATH}`, {
      perMessageDeflate: false,
      headers: options.headers,
    });
    this.packets = [];
    this.wakeReader = null;
    this.ended = deferred();
    this.ws.on("message", (data, isBinary) => {
      this.packets.push(isBinary ? data : data.toString());
      this.wakeReader?.();
    });
    this.ws.on("error", () => {});
    this.ws.on("close", (code) => {
      this.ended.resolve(code);
      this.wakeReader?.();
    });
    server.owns(() => this.ws.terminate());
  }

  send(...packets) {
    for (const packet of packets) this.ws.send(packet);
  }

  /** Reads up to the next packet that `accepts` takes, and returns it. */
  async read(accepts = () => true, what = "a packet") {
    const attempt = async () => {
      for (;;) {
        while (this.packets.length > 0) {
          const packet = this.packets.shift();
          if (accepts(packet)) return packet;
        }
        if (this.ws.readyState === WebSocket.CLOSED) throw new Error(`closed before ${what}`);
        const more = deferred();
        this.wakeReader = more.resolve;
        await more.promise;
      }
    };
    return within(PATIENCE_MS, attempt(), what);
  }

  /** Reads up to the acknowledgement with this id. Returns its arguments. */
  async readAck(number) {
    const prefix = `43${number}[`;
    const packet = await this.read((one) => one.startsWith?.(prefix), `acknowledgement ${number}`);
    return JSON.parse(packet.slice(prefix.length - 1));
  }

  /** Waits for the close. Returns the code of `ws`: 1005 for an empty frame, 1006 for none. */
  closeCode() {
    return within(PATIENCE_MS, this.ended.promise, "the server closes the WebSocket");
  }
}

/** Opens an Engine.IO connection. Its `opened` is the content of the open packet. */
export async function engineSocket(server, options) {
  const socket = new EngineSocket(server, options);
  const open = await socket.read(undefined, "the open packet");
  socket.open = open;
  socket.opened = JSON.parse(open.slice(1));
  return socket;
}

/** Opens an Engine.IO connection and connects it to the main namespace. */
export async function engineMember(server, auth) {
  const socket = await engineSocket(server);
  socket.send(auth === undefined ? "40" : `40${JSON.stringify(auth)}`);
  const answer = await socket.read((one) => one.startsWith?.("40"), "the connect answer");
  socket.sid = JSON.parse(answer.slice(2)).sid;
  return socket;
}
