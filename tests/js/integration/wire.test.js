// Engine.IO 4 and Socket.IO 5 on a WebSocket, packet by packet, and WebSocket frames byte by byte.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { freshSession } from "../support/client.js";
import { startServer } from "../support/server.js";
import { assertDone, assertRefused } from "../support/shape.js";
import {
  ENGINE_PATH,
  OPCODE,
  engineMember,
  engineSocket,
  event,
  frame,
  rawMember,
  rawSocket,
  request,
  tcp,
  text,
  upgradeHead,
} from "../support/wire.js";

const ALLOWED = "http://allowed.example";

let server;
before(async () => (server = await startServer({ env: { CORS_ORIGIN: ALLOWED } })));
after(() => server.stop());

/** Checks that the connection still works: the server acknowledges an event. */
async function assertAlive(socket) {
  socket.send(event("latency_probe", { timestamp: 1 }, 991));
  assertDone((await socket.readAck(991))[0]);
}

describe("Engine.IO", () => {
  test("the open packet has its five keys and no other", async () => {
    const { open, opened } = await engineSocket(server);
    assert.equal(open[0], "0");
    assert.deepEqual(Object.keys(opened).sort(), ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert.match(opened.sid, /^[A-Za-z0-9_-]{20}$/);
    assert.deepEqual(opened.upgrades, []);
    assert.deepEqual([opened.pingInterval, opened.pingTimeout, opened.maxPayload], [2500, 5000, 1_000_000]);
  });

  test("the order of the parameters does not matter, and unknown ones are ignored", async () => {
    for (const query of ["transport=websocket&EIO=4", "EIO=4&t=abc&transport=websocket&sessionId=x%20y"]) {
      const { opened } = await engineSocket(server, { path: `/socket.io/?${query}` });
      assert.equal(opened.sid.length, 20);
    }
  });

  test("a garbled packet closes", async () => {
    for (const packet of ["", "9", "x", "hello", "\u0000", "é"]) {
      const socket = await engineMember(server);
      socket.send(packet);
      assert.equal(await socket.closeCode(), 1005, `after ${JSON.stringify(packet)}`);
    }
  });

  test("a ping from the client closes, because only the server pings", async () => {
    const socket = await engineMember(server);
    socket.send("2");
    assert.equal(await socket.closeCode(), 1005);
  });

  test("packets without a meaning are ignored", async () => {
    const socket = await engineMember(server);
    socket.send("3", "0", "5", "6");
    await assertAlive(socket);
  });

  test("a close packet closes", async () => {
    const socket = await engineMember(server);
    socket.send("1");
    await socket.closeCode();
  });

  describe("with short heartbeats", () => {
    let brisk;
    const env = { SOCKET_PING_INTERVAL: "200", SOCKET_PING_TIMEOUT: "300" };
    before(async () => (brisk = await startServer({ env })));
    after(() => brisk.stop());

    test("a client that answers stays", async () => {
      const socket = await engineMember(brisk);
      assert.deepEqual([socket.opened.pingInterval, socket.opened.pingTimeout], [200, 300]);
      for (let i = 0; i < 6; i += 1) {
        await socket.read((packet) => packet === "2", "a ping");
        socket.send("3");
      }
      await assertAlive(socket);
    });

    test("a client that does not answer is closed", async () => {
      const socket = await engineMember(brisk);
      await socket.read((packet) => packet === "2", "a ping");
      assert.equal(await socket.closeCode(), 1005);
    });

    test("a client that never connects to a namespace is pinged too", async () => {
      const socket = await engineSocket(brisk);
      await socket.read((packet) => packet === "2", "a ping");
      await socket.closeCode();
    });
  });
});

describe("Socket.IO connect", () => {
  test("is answered with a socket id that is not the engine's", async () => {
    const socket = await engineSocket(server);
    socket.send("40");
    const answer = JSON.parse((await socket.read((packet) => packet.startsWith("40"))).slice(2));
    assert.match(answer.sid, /^[A-Za-z0-9_-]{20}$/);
    assert.notEqual(answer.sid, socket.opened.sid);
    assert.deepEqual(Object.keys(answer), ["sid", "pid"]);
  });

  test("accepts an auth object", async () => {
    await assertAlive(await engineMember(server, { token: "x", nested: { deep: [1, 2, 3] } }));
  });

  test("closes with any other payload", async () => {
    for (const packet of ["40null", "40[1]", '40"x"', "407", "40{", "40{}x"]) {
      const socket = await engineSocket(server);
      socket.send(packet);
      assert.equal(await socket.closeCode(), 1005, `after ${packet}`);
    }
  });

  test("to another namespace is rejected, and the connection stays open", async () => {
    const socket = await engineSocket(server);
    for (const [packet, answer] of [
      ["40/admin,", '44/admin,{"message":"Invalid namespace"}'],
      ["40/admin", '44/admin,{"message":"Invalid namespace"}'],
      ['40/a/b,{"token":1}', '44/a/b,{"message":"Invalid namespace"}'],
    ]) {
      socket.send(packet);
      assert.equal(await socket.read((one) => one.startsWith("44")), answer);
    }
    socket.send("40");
    await socket.read((packet) => packet.startsWith("40{"), "the connect answer");
    await assertAlive(socket);
  });

  test("a second one closes", async () => {
    const socket = await engineMember(server);
    socket.send("40");
    assert.equal(await socket.closeCode(), 1005);
  });

  test("anything else before it closes", async () => {
    for (const packet of [event("latency_probe", { timestamp: 1 }), "41", "430[]", '44{"message":"x"}', "42"]) {
      const socket = await engineSocket(server);
      socket.send(packet);
      assert.equal(await socket.closeCode(), 1005, `after ${packet}`);
    }
  });

  test("after a disconnect the same connection may connect again, with a new id", async () => {
    const socket = await engineMember(server);
    socket.send("41", "40");
    const answer = await socket.read((packet) => packet.startsWith("40{"), "the second connect answer");
    assert.notEqual(JSON.parse(answer.slice(2)).sid, socket.sid);
    await assertAlive(socket);
  });
});

describe("Socket.IO events", () => {
  test("an acknowledgement carries the number of its event", async () => {
    const socket = await engineMember(server);
    for (const number of ["0", "1", "42", "4294967296", "9007199254740991"]) {
      socket.send(event("clock_sync", { t0: 5 }, number));
      const [answer] = await socket.readAck(number);
      assert.equal(answer.t0, 5);
    }
  });

  test("acknowledgements without a request are ignored", async () => {
    const socket = await engineMember(server);
    socket.send("430[]", '4317["x"]');
    await assertAlive(socket);
  });

  test("a malformed packet closes", async () => {
    const packets = [
      "4",
      "42[]",
      "42{}",
      '42["a"',
      '42["a",]',
      "42[7",
      '42"text"',
      "42null",
      '42["a"]]',
      "43",
      "431",
      '431{"a":1}',
      "47",
      "4x",
      '42/admin,["x"]',
      "41/admin,",
      '44{"message":"x"}',
      '42["connect"]',
      '42["connect_error"]',
      '42["disconnect"]',
      '42["disconnecting"]',
      '42["newListener"]',
      '42["removeListener"]',
    ];
    for (const packet of packets) {
      const socket = await engineMember(server);
      socket.send(packet);
      assert.equal(await socket.closeCode(), 1005, `after ${packet}`);
    }
  });

  test("an event without fields needs no payload, any other does", async () => {
    const socket = await engineMember(server);
    socket.send('421["connection_quality"]', '422["latency_probe"]');
    assertDone((await socket.readAck(1))[0]);
    assertRefused((await socket.readAck(2))[0], "invalid_payload");
  });

  test("a payload that is not an object is rejected", async () => {
    const socket = await engineMember(server);
    for (const [number, payload] of ["7", '"text"', "true", "[]", "[{}]"].entries()) {
      socket.send(`42${number}["heartbeat",${payload}]`);
      assertRefused((await socket.readAck(number))[0], "invalid_payload");
    }
  });

  test("a number as the name is an unknown event", async () => {
    const socket = await engineMember(server);
    socket.send("421[7,{}]");
    assertRefused((await socket.readAck(1))[0], "unknown_event");
  });

  test("unknown fields and further arguments are ignored", async () => {
    const socket = await engineMember(server);
    socket.send('425["latency_probe",{"timestamp":1,"more":[null,{"a":1}]},"x",2]');
    assertDone((await socket.readAck(5))[0]);
  });
});

describe("binary events", () => {
  const withBinary = '1-{ack}["latency_probe",{"timestamp":1,"blob":{"_placeholder":true,"num":0}}]';

  test("are accepted with an attachment in an unknown field, which is ignored", async () => {
    const socket = await engineMember(server);
    socket.send(`45${withBinary.replace("{ack}", "7")}`, Buffer.from([1, 2, 3]));
    assertDone((await socket.readAck(7))[0]);
    await assertAlive(socket);
  });

  test("may have ten attachments", async () => {
    const socket = await engineMember(server);
    const blobs = Array.from({ length: 10 }, (_, num) => ({ _placeholder: true, num }));
    socket.send(`4510-8${JSON.stringify(["latency_probe", { timestamp: 1, blobs }])}`);
    for (let i = 0; i < 10; i += 1) socket.send(Buffer.alloc(i));
    assertDone((await socket.readAck(8))[0]);
  });

  test("are rejected if they have bytes instead of a text", async () => {
    const socket = await engineMember(server);
    const sessionId = freshSession();
    socket.send(event("join_session", { sessionId }, 1));
    await socket.readAck(1);
    socket.send(`451-2["chat_message",{"sessionId":"${sessionId}","message":{"_placeholder":true,"num":0}}]`);
    socket.send(Buffer.from("text"));
    assertRefused((await socket.readAck(2))[0], "invalid_payload", "message");
  });

  test("close if they are malformed", async () => {
    const blob = Buffer.from([1]);
    const tooMany = Array.from({ length: 11 }, (_, num) => ({ _placeholder: true, num }));
    const sequences = [
      [blob],
      [`4511-${JSON.stringify(["x", ...tooMany])}`],
      ['452147483648-["x"]'],
      ['45-["x",{"_placeholder":true,"num":0}]'],
      ['450-["x"]'],
      ['45["x"]'],
      ['451-["x",{"_placeholder":true,"num":0}]', "2"],
      ['451-["x",{"_placeholder":true,"num":0}]', event("heartbeat", {})],
      ['451-["x",{"_placeholder":true,"num":1}]', blob],
      ['451-["x",{"_placeholder":true,"num":"0"}]', blob],
      ['451-["x",{"_placeholder":true,"num":0}]', blob, blob],
    ];
    for (const sequence of sequences) {
      const socket = await engineMember(server);
      socket.send(...sequence);
      assert.equal(await socket.closeCode(), 1005, `after ${sequence[0]}`);
    }
  });

  test("a base64 message closes, as an attachment that was not announced", async () => {
    const socket = await engineMember(server);
    socket.send("bAQID");
    assert.equal(await socket.closeCode(), 1005);
  });
});

describe("WebSocket frames", () => {
  const probe = event("latency_probe", { timestamp: 1 }, 5);

  test("the server's frames are whole, unmasked and without reserved bits", async () => {
    const raw = await rawMember(server);
    raw.send(text(probe));
    const got = await raw.readFrame();
    assert.deepEqual([got.opcode, got.fin, got.rsv, got.masked], [OPCODE.text, true, 0, false]);
  });

  test("a message sent byte by byte is the same message", async () => {
    const raw = await rawMember(server);
    for (const byte of text(probe)) {
      raw.tcp.socket.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    assertDone((await raw.readAck(5))[0]);
  });

  test("fragments are joined, even with control frames between them", async () => {
    const raw = await rawMember(server);
    const bytes = Buffer.from(event("latency_probe", { timestamp: 1, text: "ä🎸" }, 5));
    raw.send(frame(OPCODE.text, bytes.subarray(0, 1), { fin: false }));
    for (let i = 1; i < bytes.length; i += 1) raw.send(frame(OPCODE.continuation, bytes.subarray(i, i + 1), { fin: false }));
    raw.send(frame(OPCODE.ping, "are you there"), frame(OPCODE.pong), frame(OPCODE.continuation));
    let pong;
    do pong = await raw.readFrame("a pong");
    while (pong.opcode !== OPCODE.pong);
    assert.equal(pong.payload.toString(), "are you there");
    assertDone((await raw.readAck(5))[0]);
  });

  test("a set list of almost 1 MB is accepted, and any other event of that length is rejected", async () => {
    const raw = await rawMember(server);
    const filler = "x".repeat(999_000);
    raw.send(text(event("set_setlist", { sessionId: "nobody's", filler }, 6)));
    assertRefused((await raw.readAck(6))[0], "invalid_payload", "setlist");
    const long = event("latency_probe", { timestamp: 1, filler }, 7);
    raw.send(text(long));
    assertRefused((await raw.readAck(7))[0], "too_large", undefined, { bytes: long.length - 1, max: 65_536 });
    raw.send(text(event("latency_probe", { timestamp: 1, filler: filler.slice(0, 60_000) }, 8)));
    assertDone((await raw.readAck(8))[0]);
    // The server checks the length before it parses the JSON, which is malformed here.
    raw.send(text(`429["latency_probe",${filler}`));
    assertRefused((await raw.readAck(9))[0], "too_large", undefined, { bytes: "number", max: 65_536 });
  });

  test("any other packet of that length closes", async () => {
    const filler = "1,".repeat(50_000);
    for (const packet of [`40{"a":[${filler}1]}`, `431[${filler}1]`, `451-["latency_probe",[${filler}{"_placeholder":true,"num":0}]]`]) {
      const raw = packet.startsWith("40") ? await rawSocket(server) : await rawMember(server);
      raw.send(text(packet));
      assert.equal(await raw.readClose(), 1005, packet.slice(0, 10));
    }
  });

  test("a close is answered with its code", async () => {
    for (const [payload, code] of [["", 1005], ["\x03\xe8", 1000], ["\x03\xe9bye", 1001], ["\x0f\xa0own", 4000]]) {
      const raw = await rawMember(server);
      raw.send(frame(OPCODE.close, Buffer.from(payload, "latin1")));
      assert.equal(await raw.readClose(), code);
      await raw.tcp.closed();
    }
  });

  const { text: TEXT, continuation: CONT, ping: PING, close: CLOSE } = OPCODE;
  const bad = Buffer.from([0xc3, 0x28]);
  const breaches = [
    ["an unmasked frame", 1002, [frame(TEXT, probe, { masked: false })]],
    ["a reserved bit", 1002, [frame(TEXT, probe, { rsv: 4 })]],
    ["another reserved bit", 1002, [frame(TEXT, probe, { rsv: 1 })]],
    ["a reserved opcode", 1002, [frame(3, "x")]],
    ["a reserved control opcode", 1002, [frame(0xb, "x")]],
    ["a fragmented ping", 1002, [frame(PING, "x", { fin: false })]],
    ["a ping of 126 bytes", 1002, [frame(PING, "x".repeat(126))]],
    ["a continuation of nothing", 1002, [frame(CONT, "x")]],
    ["a message within a message", 1002, [frame(TEXT, "4", { fin: false }), frame(TEXT, "2")]],
    ["a close of one byte", 1002, [frame(CLOSE, "x")]],
    ["a close with a code that must not be sent", 1002, [frame(CLOSE, Buffer.from([0x03, 0xed]))]],
    ["a close with a code out of range", 1002, [frame(CLOSE, Buffer.from([0x00, 0x64]))]],
    ["a close whose reason is no UTF-8", 1007, [frame(CLOSE, Buffer.from([0x03, 0xe8, 0xc3, 0x28]))]],
    ["a text that is no UTF-8", 1007, [frame(TEXT, bad)]],
    ["a text that cannot become UTF-8, before its end", 1007, [frame(TEXT, bad, { fin: false })]],
    ["a text that ends within a character", 1007, [frame(TEXT, Buffer.from([0x34, 0xf0, 0x9f]))]],
    ["an encoded surrogate", 1007, [frame(TEXT, Buffer.from([0x34, 0xed, 0xa0, 0x80]))]],
    ["a frame that claims a terabyte", 1009, [frame(TEXT, "", { length: 2n ** 40n })]],
    ["a message above a megabyte", 1009, [frame(TEXT, `4${"x".repeat(1_100_000)}`)]],
    ["more fragments than a message may have", 1008, [frame(TEXT, "4", { fin: false }), ...Array(20_000).fill(frame(CONT, "", { fin: false }))]],
    [
      "fragments above a megabyte in all",
      1009,
      [frame(TEXT, "4", { fin: false }), ...Array.from({ length: 12 }, () => frame(CONT, Buffer.alloc(100_000, 120), { fin: false }))],
    ],
  ];
  for (const [name, code, frames] of breaches) {
    test(`${name} closes with ${code}`, async () => {
      const raw = await rawMember(server);
      raw.send(...frames);
      assert.equal(await raw.readClose(), code);
      await raw.tcp.closed();
    });
  }

  test("compression is granted only to clients that offer it", async () => {
    const raw = await rawSocket(server, { "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits" });
    assert.match(raw.answer.headers["sec-websocket-extensions"], /^permessage-deflate/);
    assert.equal((await rawSocket(server)).answer.headers["sec-websocket-extensions"], undefined);
  });

  test("frames that come in one piece with the upgrade request are kept", async () => {
    const connection = await tcp(server);
    connection.write(Buffer.concat([Buffer.from(upgradeHead(server)), text("40"), text(probe)]));
    assert.equal((await connection.readAnswer()).status, 101);
    await connection.read(() => (connection.buffer.includes("435[") ? true : undefined), "the acknowledgement");
  });
});

describe("refused handshakes", () => {
  // A server with WebSocket as its only transport.
  let server;
  before(async () => (server = await startServer({ env: { TRANSPORTS: "websocket" } })));
  after(() => server.stop());

  const refusals = [
    ["no transport", "GET", "/socket.io/?EIO=4", 0, "Transport unknown"],
    ["long-polling", "GET", "/socket.io/?EIO=4&transport=polling", 0, "Transport unknown"],
    ["an unknown transport", "GET", "/socket.io/?EIO=4&transport=pigeon", 0, "Transport unknown"],
    ["an unknown session", "GET", `${ENGINE_PATH}&sid=AAAAAAAAAAAAAAAAAAAA`, 1, "Session ID unknown"],
    ["another method", "POST", ENGINE_PATH, 2, "Bad handshake method"],
    ["no upgrade", "GET", ENGINE_PATH, 3, "Bad request"],
  ];
  for (const [name, method, path, code, message] of refusals) {
    test(`${name} is answered with 400, code ${code}`, async () => {
      const answer = await request(server, method, path, method === "POST" ? { "Content-Length": "0" } : {});
      assert.equal(answer.status, 400);
      assert.match(answer.headers["content-type"], /^application\/json/);
      assert.equal(answer.body, JSON.stringify({ code, message }));
    });
  }

  const upgrades = [
    ["an upgrade to polling", "/socket.io/?EIO=4&transport=polling", /Transport unknown/],
    ["an upgrade of an unknown session", `${ENGINE_PATH}&sid=AAAAAAAAAAAAAAAAAAAA`, /Session ID unknown/],
  ];
  for (const [name, path, body] of upgrades) {
    test(`${name} is answered with 400`, async () => {
      const connection = await tcp(server);
      connection.write(upgradeHead(server, {}, path));
      const answer = await connection.readAnswer();
      assert.equal(answer.status, 400);
      assert.match(answer.body, body);
      await connection.closed();
    });
  }

  const broken = [
    ["an invalid key", { "Sec-WebSocket-Key": "short" }, 400],
    ["an old version of WebSocket", { "Sec-WebSocket-Version": "7" }, 426],
  ];
  for (const [name, headers, status] of broken) {
    test(`${name} is answered with ${status}`, async () => {
      const connection = await tcp(server);
      connection.write(upgradeHead(server, headers));
      const answer = await connection.readAnswer();
      assert.equal(answer.status, status);
      if ("Sec-WebSocket-Version" in headers) assert.match(answer.headers["sec-websocket-version"], /13/);
    });
  }

  test("a WebSocket on another path than /socket.io/ is refused", async () => {
    const connection = await tcp(server);
    connection.write(upgradeHead(server, {}, "/elsewhere"));
    const answer = await connection.readAnswer();
    assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status}`);
  });
});

describe("origins", () => {
  test("an allowed origin is named in every answer", async () => {
    const answer = await request(server, "GET", "/socket.io/?EIO=4&transport=pigeon", { Origin: ALLOWED });
    assert.equal(answer.status, 400);
    assert.equal(answer.headers["access-control-allow-origin"], ALLOWED);
    assert.match(answer.headers.vary, /Origin/);
    const raw = await rawSocket(server, { Origin: ALLOWED });
    assert.equal(raw.answer.headers["access-control-allow-origin"], ALLOWED);
  });

  test("a preflight is answered", async () => {
    const answer = await request(server, "OPTIONS", ENGINE_PATH, {
      Origin: ALLOWED,
      "Access-Control-Request-Method": "GET",
      "Access-Control-Request-Headers": "x-band",
    });
    assert.equal(answer.status, 204);
    assert.equal(answer.headers["access-control-allow-origin"], ALLOWED);
    assert.match(answer.headers["access-control-allow-methods"], /GET/);
    assert.match(answer.headers["access-control-allow-headers"], /x-band/);
  });

  test("the server's own page and clients without an origin are always allowed", async () => {
    await rawMember(server);
    await rawSocket(server, { Origin: `http://127.0.0.1:${server.port}` });
  });

  test("any other origin is refused", async () => {
    const Origin = "http://evil.example";
    const answer = await request(server, "GET", ENGINE_PATH, { Origin });
    assert.equal(answer.status, 403);
    assert.equal(JSON.parse(answer.body).code, 4);
    assert.equal(answer.headers["access-control-allow-origin"], undefined);

    const connection = await tcp(server);
    connection.write(upgradeHead(server, { Origin }));
    assert.equal((await connection.readAnswer()).status, 403);
    await connection.closed();
  });
});
