// RFC 6455 and RFC 7692 case by case, against `tools examine ws-echo`, which echoes WebSocket
// messages.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import zlib from "node:zlib";
import { startExamine } from "../support/examine.js";
import { OPCODE, RawSocket, frame, tcp, upgradeHead } from "../support/wire.js";

const { text: TEXT, binary: BINARY, continuation: CONT, ping: PING, pong: PONG, close: CLOSE } = OPCODE;
const MESSAGE_MAX = 16 * 1024 * 1024;
const FRAGMENTS_MAX = 65_536;

let server;
before(async () => {
  server = await startExamine(
    "ws-echo", "--max-message-bytes", String(MESSAGE_MAX), "--max-fragments", String(FRAGMENTS_MAX), "--threshold", "0",
  );
});
after(() => server.stop());

/** Opens a raw WebSocket that offers this extension. */
async function open(offer) {
  const connection = await tcp(server);
  connection.write(upgradeHead(server, offer ? { "Sec-WebSocket-Extensions": offer } : {}, "/anywhere"));
  const answer = await connection.readAnswer();
  assert.equal(answer.status, 101, answer.body);
  return Object.assign(new RawSocket(connection), { answer, extension: answer.headers["sec-websocket-extensions"] });
}

async function expectEcho(raw, opcode, payload) {
  const got = await raw.readFrame("the echo");
  assert.deepEqual([got.opcode, got.fin, got.rsv, got.masked], [opcode, true, 0, false]);
  assert.ok(got.payload.equals(Buffer.from(payload)), "the echo equals the message");
}

/** Closes with 1000. Checks that the server answers with that code and ends the connection. */
async function closeWell(raw) {
  raw.send(frame(CLOSE, Buffer.from([0x03, 0xe8])));
  assert.equal(await raw.readClose(), 1000);
  await raw.tcp.closed();
}

/** Writes the bytes in pieces of `size`, each in a write of its own. */
async function chopped(raw, bytes, size) {
  for (let at = 0; at < bytes.length; at += size) {
    raw.tcp.write(bytes.subarray(at, at + size));
    await new Promise(setImmediate);
  }
}

/** The frames of a message that is cut into pieces of `size` bytes. */
function fragments(opcode, payload, size) {
  const frames = [];
  for (let at = 0; at < payload.length; at += size) {
    const fin = at + size >= payload.length;
    frames.push(frame(at === 0 ? opcode : CONT, payload.subarray(at, at + size), { fin }));
  }
  return frames;
}

describe("framing", () => {
  for (const length of [0, 1, 125, 126, 127, 128, 65_535, 65_536]) {
    for (const [name, opcode] of [["text", TEXT], ["binary", BINARY]]) {
      test(`a ${name} message of ${length} bytes is echoed`, async () => {
        const raw = await open();
        const payload = Buffer.alloc(length, opcode === TEXT ? "*" : 0xfe);
        raw.send(frame(opcode, payload));
        await expectEcho(raw, opcode, payload);
        await closeWell(raw);
      });
    }
  }
  test("a message in writes of 997 bytes is echoed", async () => {
    const raw = await open();
    const payload = Buffer.alloc(65_536, "é");
    await chopped(raw, frame(TEXT, payload), 997);
    await expectEcho(raw, TEXT, payload);
    await closeWell(raw);
  });
});

describe("pings", () => {
  for (const length of [0, 1, 4, 125]) {
    test(`one of ${length} bytes is answered with a pong`, async () => {
      const raw = await open();
      raw.send(frame(PING, Buffer.alloc(length, 0xfe)));
      const pong = await raw.readFrame();
      assert.deepEqual([pong.opcode, pong.payload.length], [PONG, length]);
      assert.ok(pong.payload.every((byte) => byte === 0xfe));
      await closeWell(raw);
    });
  }
  test("one of 126 bytes closes with 1002", async () => {
    const raw = await open();
    raw.send(frame(PING, Buffer.alloc(126)));
    assert.equal(await raw.readClose(), 1002);
  });
  test("one that arrives byte by byte is answered", async () => {
    const raw = await open();
    await chopped(raw, frame(PING, Buffer.alloc(125, 7)), 1);
    assert.equal((await raw.readFrame()).payload.length, 125);
    await closeWell(raw);
  });
  test("unsolicited pongs are ignored", async () => {
    const raw = await open();
    raw.send(frame(PONG), frame(PONG, "unasked"), frame(PING, "asked"));
    assert.equal((await raw.readFrame()).payload.toString(), "asked");
    await closeWell(raw);
  });
  for (const size of [Infinity, 1]) {
    test(`ten at once are answered one by one, in order, ${size === 1 ? "byte by byte" : "in one piece"}`, async () => {
      const raw = await open();
      const pings = Buffer.concat(Array.from({ length: 10 }, (_, i) => frame(PING, `ping ${i}`)));
      await chopped(raw, pings, Math.min(size, pings.length));
      for (let i = 0; i < 10; i += 1) assert.equal((await raw.readFrame()).payload.toString(), `ping ${i}`);
      await closeWell(raw);
    });
  }
});

describe("reserved bits and opcodes", () => {
  for (let rsv = 1; rsv < 8; rsv += 1) {
    for (const opcode of [TEXT, BINARY, PING, CLOSE]) {
      test(`reserved bits ${rsv} on opcode ${opcode} close with 1002, after the message before is answered`, async () => {
        const raw = await open();
        raw.send(frame(TEXT, "before"), frame(opcode, "", { rsv }), frame(PING));
        await expectEcho(raw, TEXT, "before");
        assert.equal(await raw.readClose(), 1002);
        await raw.tcp.closed();
      });
    }
  }
  for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) {
    test(`opcode ${opcode} closes with 1002`, async () => {
      const raw = await open();
      raw.send(frame(TEXT, "before"), frame(opcode, "x"), frame(PING));
      await expectEcho(raw, TEXT, "before");
      assert.equal(await raw.readClose(), 1002);
    });
  }
});

describe("fragments", () => {
  const first = (payload, options) => frame(TEXT, payload, { fin: false, ...options });
  const more = (payload) => frame(CONT, payload, { fin: false });
  const last = (payload) => frame(CONT, payload);
  for (const [name, frames] of [
    ["a ping in pieces", [frame(PING, "a", { fin: false }), last("b")]],
    ["a pong in pieces", [frame(PONG, "a", { fin: false }), last("b")]],
    ["a close in pieces", [frame(CLOSE, Buffer.from([3]), { fin: false }), last(Buffer.from([0xe8]))]],
    ["a continuation of nothing", [last("a"), frame(TEXT, "b")]],
    ["an open continuation of nothing", [more("a"), frame(TEXT, "b")]],
    ["a continuation after the end", [first("a"), last("b"), last("c")]],
    ["a message within a message", [first("a"), frame(TEXT, "b")]],
    ["a binary within a text", [first("a"), frame(BINARY, "b")]],
  ]) {
    test(`${name} closes with 1002`, async () => {
      const raw = await open();
      raw.send(...frames);
      assert.equal(await raw.readClose(), 1002);
    });
  }
  test("are one message, with pings between them answered at once", async () => {
    for (const size of [1, 1_000]) {
      const raw = await open();
      const frames = [first("one "), frame(PING, "1"), more("two "), more(""), frame(PING, "2"), last("three")];
      await chopped(raw, Buffer.concat(frames), size);
      assert.equal((await raw.readFrame()).payload.toString(), "1");
      assert.equal((await raw.readFrame()).payload.toString(), "2");
      await expectEcho(raw, TEXT, "one two three");
      await closeWell(raw);
    }
  });
  test("may all be empty", async () => {
    const raw = await open();
    raw.send(first(""), more(""), last(""));
    await expectEcho(raw, TEXT, "");
    await closeWell(raw);
  });
});

describe("UTF-8", () => {
  const hex = (text) => Buffer.from(text.replaceAll(" ", ""), "hex");
  const good = {
    "κόσμε": hex("ceba cf8c cf83 cebc ceb5"),
    "the first of each length": hex("00 c280 e0a080 f0908080"),
    "the last of each length": hex("7f dfbf efbfbf f48fbfbf"),
    "around the surrogates": hex("ed9fbf ee8080"),
    "the replacement and non-characters": hex("efbfbd efbfbe efb790 f09fbfbe"),
    "a byte order mark": hex("efbbbf 61"),
  };
  for (const [name, payload] of Object.entries(good)) {
    test(`${name} is echoed: whole, byte by byte, and in frames of one byte`, async () => {
      const raw = await open();
      raw.send(frame(TEXT, payload));
      await expectEcho(raw, TEXT, payload);
      await chopped(raw, frame(TEXT, payload), 1);
      await expectEcho(raw, TEXT, payload);
      raw.send(...fragments(TEXT, payload, 1));
      await expectEcho(raw, TEXT, payload);
      await closeWell(raw);
    });
  }
  const bad = {
    "a lone continuation": hex("80"),
    "all continuations": Buffer.from(Array.from({ length: 64 }, (_, i) => 0x80 + i)),
    "starts without continuation": hex("c0 20 c1 20 df 20"),
    "an overlong slash of two": hex("c0af"),
    "an overlong slash of three": hex("e080af"),
    "an overlong slash of four": hex("f08080af"),
    "an overlong null": hex("c080"),
    "the largest overlong of two": hex("c1bf"),
    "the largest overlong of three": hex("e09fbf"),
    "the largest overlong of four": hex("f08fbfbf"),
    "a sequence of five": hex("f888808080"),
    "a sequence of six": hex("fc8480808080"),
    "above the last": hex("f4908080"),
    "a first surrogate": hex("eda080"),
    "a last surrogate": hex("edbfbf"),
    "a pair of surrogates": hex("eda080 edb080"),
    "fe and ff": hex("fefeffff"),
    "a start cut off by another character": hex("e282 41"),
  };
  for (const [name, payload] of Object.entries(bad)) {
    test(`${name} closes with 1007`, async () => {
      const text = Buffer.concat([Buffer.from("κόσμε"), payload, Buffer.from("edited")]);
      for (const frames of [[frame(TEXT, text)], fragments(TEXT, text, 1)]) {
        const raw = await open();
        raw.send(...frames);
        assert.equal(await raw.readClose(), 1007);
        await raw.tcp.closed();
      }
    });
    test(`${name} closes before the message ends`, async () => {
      // The rest of the message is never sent, so the server must not wait for it.
      const raw = await open();
      raw.send(frame(TEXT, Buffer.concat([Buffer.from("κόσμε"), payload, Buffer.from("x")]), { fin: false }));
      assert.equal(await raw.readClose(), 1007);
      const within = await open();
      const whole = frame(TEXT, Buffer.concat([Buffer.from("κ"), payload, Buffer.alloc(300, "x")]));
      within.tcp.write(whole.subarray(0, whole.length - 100));
      assert.equal(await within.readClose(), 1007);
    });
  }
  for (const cut of ["ce", "e282", "f09f8e"]) {
    test(`a message that ends within a character (${cut}) closes with 1007`, async () => {
      const raw = await open();
      raw.send(frame(TEXT, Buffer.concat([Buffer.from("a"), hex(cut)])));
      assert.equal(await raw.readClose(), 1007);
    });
  }
  test("frames and reads may cut a character anywhere", async () => {
    const raw = await open();
    const payload = Buffer.from("κόσμε 🎸 ".repeat(40));
    for (let size = 1; size < 6; size += 1) {
      await chopped(raw, Buffer.concat(fragments(TEXT, payload, size)), 7);
      await expectEcho(raw, TEXT, payload);
    }
    await closeWell(raw);
  });
});

describe("closing", () => {
  const body = (code, reason = "") => Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]);
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]) {
    test(`code ${code} is echoed`, async () => {
      const raw = await open();
      raw.send(frame(CLOSE, body(code, "because")));
      assert.equal(await raw.readClose(), code);
      await raw.tcp.closed();
    });
  }
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]) {
    test(`code ${code} is answered with 1002`, async () => {
      const raw = await open();
      raw.send(frame(CLOSE, body(code)));
      assert.equal(await raw.readClose(), 1002);
      await raw.tcp.closed();
    });
  }
  for (const [name, payload, code] of [
    ["no body", "", 1005],
    ["a body of one byte", "x", 1002],
    ["the longest reason", body(1000, "r".repeat(123)), 1000],
    ["a reason that is too long", body(1000, "r".repeat(124)), 1002],
    ["a reason that is not UTF-8", Buffer.concat([body(1000), Buffer.from([0xce, 0xba, 0xed, 0xa0, 0x80])]), 1007],
  ]) {
    test(`${name} is answered with ${code}`, async () => {
      const raw = await open();
      raw.send(frame(CLOSE, payload));
      assert.equal(await raw.readClose(), code);
      await raw.tcp.closed();
    });
  }
  test("input after a close is not answered", async () => {
    const raw = await open();
    raw.send(frame(CLOSE, body(1000)), frame(PING, "late"), frame(TEXT, "late"), frame(CLOSE, body(1000)));
    assert.equal(await raw.readClose(), 1000);
    await raw.tcp.closed();
    assert.equal(raw.tcp.buffer.length, 0);
  });
  test("an incomplete message is not answered", async () => {
    const raw = await open();
    raw.send(frame(TEXT, "begun", { fin: false }), frame(CLOSE, body(1000)), frame(CONT, "never"));
    assert.equal((await raw.readFrame()).opcode, CLOSE);
    await raw.tcp.closed();
  });
});

describe("limits", () => {
  test("16 MiB are echoed, in one frame and in the maximum number of fragments", async () => {
    const payload = Buffer.alloc(MESSAGE_MAX, "BAsd7&jh23");
    const raw = await open();
    raw.send(frame(BINARY, payload));
    await expectEcho(raw, BINARY, payload);
    raw.send(...fragments(TEXT, payload, MESSAGE_MAX / FRAGMENTS_MAX));
    await expectEcho(raw, TEXT, payload);
    await closeWell(raw);
  });
  test("one byte more closes with 1009, one fragment more with 1008", async () => {
    const large = await open();
    large.send(frame(BINARY, "", { length: MESSAGE_MAX + 1 }));
    assert.equal(await large.readClose(), 1009);
    const many = await open();
    const piece = frame(CONT, "", { fin: false });
    many.send(frame(TEXT, "", { fin: false }), ...Array(FRAGMENTS_MAX - 1).fill(piece), frame(PING, "so far"));
    assert.equal((await many.readFrame()).payload.toString(), "so far");
    many.send(piece);
    assert.equal(await many.readClose(), 1008);
  });
  test("a thousand messages of each size are echoed", async () => {
    const raw = await open();
    for (const size of [0, 16, 64, 256, 1_024, 4_096]) {
      const payload = Buffer.alloc(size, "x");
      for (let i = 0; i < 10; i += 1) {
        raw.send(...Array(100).fill(frame(TEXT, payload)));
        for (let got = 0; got < 100; got += 1) await expectEcho(raw, TEXT, payload);
      }
    }
    await closeWell(raw);
  });
});

/** The client's side of permessage-deflate, in both directions. */
class Deflater {
  constructor({ extension }) {
    const bits = (name) => Number(new RegExp(`${name}=(\\d+)`).exec(extension)?.[1] ?? 15);
    this.forgets = extension.includes("client_no_context_takeover");
    this.theyForget = extension.includes("server_no_context_takeover");
    this.sent = Buffer.alloc(0);
    this.received = Buffer.alloc(0);
    this.ours = 2 ** Math.max(9, bits("client_max_window_bits"));
    this.theirs = 2 ** bits("server_max_window_bits");
  }

  deflate(payload) {
    const windowBits = Math.log2(this.ours);
    const dictionary = this.sent.length > 0 && !this.forgets ? this.sent : undefined;
    const options = { windowBits, finishFlush: zlib.constants.Z_SYNC_FLUSH, dictionary };
    const deflated = zlib.deflateRawSync(payload, options);
    this.sent = Buffer.concat([this.sent, payload]).subarray(-this.ours);
    return payload.length === 0 ? Buffer.from([0]) : deflated.subarray(0, -4);
  }

  /** Inflates a payload. Fails if it refers further back than the negotiated window. */
  inflate(payload) {
    const dictionary = this.received.length > 0 && !this.theyForget ? this.received : undefined;
    const options = { finishFlush: zlib.constants.Z_SYNC_FLUSH, dictionary };
    const windowBits = Math.max(9, Math.log2(this.theirs));
    const inflated = zlib.inflateRawSync(Buffer.concat([payload, Buffer.from([0, 0, 0xff, 0xff])]), { ...options, windowBits });
    this.received = Buffer.concat([this.received, inflated]).subarray(-this.theirs);
    return inflated;
  }
}

/** Sends a compressed message and checks the echo. Returns whether that is compressed. */
async function roundTrip(raw, deflater, opcode, payload, { size = Infinity } = {}) {
  const deflated = deflater.deflate(payload);
  const frames = [];
  for (let at = 0; at === 0 || at < deflated.length; at += size) {
    const fin = at + size >= deflated.length;
    frames.push(frame(at === 0 ? opcode : CONT, deflated.subarray(at, at + Math.min(size, deflated.length)), { fin, rsv: at === 0 ? 4 : 0 }));
  }
  raw.send(...frames);
  const got = await raw.readFrame("the echo");
  assert.deepEqual([got.opcode, got.fin, got.rsv & 3], [opcode, true, 0]);
  const back = got.rsv === 4 ? deflater.inflate(got.payload) : got.payload;
  assert.ok(back.equals(payload), `the echo has the ${payload.length} bytes sent`);
  return got.rsv === 4;
}

const lines = (length) => Buffer.from("Verse two, chorus, bridge; position 12345 tempo 120. ".repeat(length / 50 + 1)).subarray(0, length);
const noise = (length) => {
  let state = 7;
  return Buffer.from(Array.from({ length }, () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) >> 16 & 0xff));
};

describe("compression", () => {
  const offers = [];
  for (const server of [null, 8, 9, 10, 11, 12, 13, 14, 15]) {
    for (const client of [null, "", 9, 12, 15]) {
      for (const takeover of ["", "; server_no_context_takeover", "; client_no_context_takeover", "; server_no_context_takeover; client_no_context_takeover"]) {
        const serverBits = server === null ? "" : `; server_max_window_bits=${server}`;
        const clientBits = client === null ? "" : `; client_max_window_bits${client === "" ? "" : `=${client}`}`;
        offers.push(`permessage-deflate${takeover}${serverBits}${clientBits}`);
      }
    }
  }
  for (const offer of offers) {
    test(offer, async () => {
      const raw = await open(offer);
      assert.match(raw.extension, /^permessage-deflate/);
      const deflater = new Deflater(raw);
      for (const length of [0, 1, 16, 500, 3_000, 40_000, 100, 40_000]) {
        await roundTrip(raw, deflater, TEXT, lines(length));
        await roundTrip(raw, deflater, BINARY, noise(length));
      }
      await roundTrip(raw, deflater, TEXT, lines(131_072), { size: 256 });
      await closeWell(raw);
    });
  }
  for (const [offer, granted] of [
    ["permessage-deflate; server_max_window_bits=9, permessage-deflate", /server_max_window_bits=9/],
    ["x-unknown; a=1, permessage-deflate", /^permessage-deflate/],
    ["permessage-deflate; client_max_window_bits=\"10\"", /client_max_window_bits=10/],
  ]) {
    test(`the first known one of several offers is accepted: ${offer}`, async () => assert.match((await open(offer)).extension, granted));
  }
  for (const parameters of [
    "server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=16", "client_max_window_bits=7",
    "server_no_context_takeover=1", "unknown", "client_max_window_bits; client_max_window_bits",
  ]) {
    test(`a malformed offer is rejected: ${parameters}`, async () => {
      const connection = await tcp(server);
      const offer = `permessage-deflate; ${parameters}`;
      connection.write(upgradeHead(server, { "Sec-WebSocket-Extensions": offer }, "/"));
      assert.equal((await connection.readAnswer()).status, 400);
    });
  }
  test("an unknown extension is not accepted", async () => {
    assert.equal((await open("x-webkit-deflate-frame")).extension, undefined);
  });
  test("large messages are compressed, and with context takeover the second more than the first", async () => {
    const raw = await open("permessage-deflate");
    const deflater = new Deflater(raw);
    assert.ok(await roundTrip(raw, deflater, BINARY, Buffer.concat([noise(8_000), lines(100)])));
    raw.send(frame(BINARY, deflater.deflate(noise(8_000)), { rsv: 4 }));
    const again = await raw.readFrame();
    assert.equal(again.rsv, 4);
    assert.ok(again.payload.length < 500, `${again.payload.length} bytes refer to the first`);
    assert.ok(deflater.inflate(again.payload).equals(noise(8_000)));
  });
  test("a thousand messages of 128 KiB are echoed", async () => {
    const raw = await open("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    const deflater = new Deflater(raw);
    const payload = lines(131_072);
    const one = frame(TEXT, deflater.deflate(payload), { rsv: 4 });
    for (let i = 0; i < 20; i += 1) {
      raw.send(...Array(50).fill(one));
      for (let got = 0; got < 50; got += 1) {
        assert.ok(deflater.inflate((await raw.readFrame()).payload).equals(payload));
      }
    }
    await closeWell(raw);
  });
  test("16 MiB of equal bytes are echoed", async () => {
    const raw = await open("permessage-deflate");
    assert.ok(await roundTrip(raw, new Deflater(raw), BINARY, Buffer.alloc(MESSAGE_MAX, 1)));
  });
  test("one byte more than 16 MiB closes with 1009, however small its compressed form is", async () => {
    const raw = await open("permessage-deflate");
    raw.send(frame(BINARY, new Deflater(raw).deflate(Buffer.alloc(MESSAGE_MAX + 1, 1)), { rsv: 4 }));
    assert.equal(await raw.readClose(), 1009);
  });
  for (const [name, payload] of [
    ["a stored block", Buffer.from([0x00, 0x05, 0x00, 0xfa, 0xff, ...Buffer.from("Hello"), 0x00])],
    ["a final block", Buffer.from([0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])],
    ["two blocks", Buffer.from([0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])],
  ]) {
    test(`${name} is read`, async () => {
      const raw = await open("permessage-deflate");
      raw.send(frame(TEXT, payload, { rsv: 4 }));
      const got = await raw.readFrame();
      const back = got.rsv === 4 ? new Deflater(raw).inflate(got.payload) : got.payload;
      assert.equal(back.toString(), "Hello");
      await closeWell(raw);
    });
  }
  test("uncompressed messages between compressed ones leave the window unchanged", async () => {
    const raw = await open("permessage-deflate");
    const deflater = new Deflater(raw);
    await roundTrip(raw, deflater, TEXT, lines(400));
    raw.send(frame(TEXT, "as it is"));
    const got = await raw.readFrame();
    assert.equal((got.rsv === 4 ? deflater.inflate(got.payload) : got.payload).toString(), "as it is");
    await roundTrip(raw, deflater, TEXT, lines(500));
    await closeWell(raw);
  });
  const packed = (payload) => zlib.deflateRawSync(payload, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);
  for (const [name, code, frames] of [
    ["a payload that is not deflate", 1007, [frame(TEXT, Buffer.alloc(20, 0xff), { rsv: 4 })]],
    ["compressed text that is not UTF-8", 1007, [frame(TEXT, packed(Buffer.from([0x61, 0xc3, 0x28])), { rsv: 4 })]],
    ["the bit on a continuation", 1002, [frame(TEXT, "", { rsv: 4, fin: false }), frame(CONT, "x", { rsv: 4 })]],
    ["the bit on a ping", 1002, [frame(PING, "x", { rsv: 4 })]],
    ["the bit on a close", 1002, [frame(CLOSE, "", { rsv: 4 })]],
    ["another bit with it", 1002, [frame(TEXT, packed(Buffer.from("a")), { rsv: 6 })]],
    ["a reference to bytes that were never sent", 1007, [frame(TEXT, Buffer.from([0xf2, 0x00, 0x11, 0x00, 0x00]), { rsv: 4 })]],
  ]) {
    test(`${name} closes with ${code}`, async () => {
      const raw = await open("permessage-deflate");
      raw.send(...frames);
      assert.equal(await raw.readClose(), code);
      await raw.tcp.closed();
    });
  }
});
