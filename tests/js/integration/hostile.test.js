// Hostile clients, beside an honest band on the same server that must not be affected.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { band, emit, freshSession, next, received } from "../support/client.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone, assertRefused, assertShape } from "../support/shape.js";
import { PATIENCE_MS, deferred, within } from "../support/wait.js";
import {
  OPCODE,
  RawSocket,
  engineMember,
  event,
  frame,
  head,
  rawMember,
  request,
  tcp,
  text,
  upgradeHead,
} from "../support/wire.js";

const SESSIONS = Number(process.env.HOSTILE_SESSIONS ?? 10_000);
const SEED = Number(process.env.HOSTILE_SEED ?? 20_251);
// Specified: the limit of the Node.js server that this one replaces.
const MEMORY_MAX = 500 * 1024 * 1024;

let server;
let honest;
let dawdler;

before(async () => {
  server = await startServer({ env: { SHARDS: "2", LOG_LEVEL: "warn" } });
  honest = await band(server, 4);
  // One member of the band never reads.
  const mute = await engineMember(server);
  mute.send(event("join_session", { sessionId: honest.sessionId, role: "follower" }, 1));
  await mute.readAck(1);
  mute.ws._socket.pause();
  assertDone(await emit(honest.leader, "play", { sessionId: honest.sessionId }));
  dawdler = await dawdle();
});

afterEach(async () => {
  await Promise.all(honest.all.map((one) => next(one, "scroll_tick")));
  assertDone(await emit(honest.leader, "latency_probe", { timestamp: 1 }));
});

after(async () => {
  dawdler.stop();
  await server.stop();
});

/** Sends a request at one byte per second, until `stop` is called. */
async function dawdle() {
  const connection = await tcp(server);
  const bytes = head(server, "GET", "/", { "X-Slow": "x".repeat(200) });
  let sent = 0;
  const timer = setInterval(() => connection.write(bytes[sent++]), 1000);
  return { connection, stop: () => clearInterval(timer) };
}

/** A seeded generator of random bytes. Its quality suffices for attacks. */
function generator(seed) {
  let state = seed >>> 0;
  const below = (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  return { below, bytes: (length) => Buffer.from(Array.from({ length }, () => below(256))) };
}

/** Runs `attack` `times` times, `atOnce` at a time. */
async function repeat(times, atOnce, attack) {
  let begun = 0;
  const worker = async () => {
    while (begun < times) await attack(begun++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Ends the client's side of a connection and waits for the server's. */
async function finish(connection) {
  connection.socket.end();
  connection.socket.resume();
  await connection.closed(30_000);
}

test(`random bytes instead of a request end only their connection (seed ${SEED})`, async () => {
  await repeat(200, 20, async (i) => {
    const random = generator(SEED + i);
    const connection = await tcp(server);
    connection.write(random.bytes(1 + random.below(2000)));
    await finish(connection);
  });
});

test("random bytes instead of frames end only their connection", async () => {
  await repeat(200, 20, async (i) => {
    const random = generator(SEED + i);
    const raw = await rawMember(server);
    raw.send(random.bytes(1 + random.below(2000)));
    await finish(raw.tcp);
  });
});

test("packets with random changes end at most their connection", async () => {
  const packets = [
    "40",
    event("join_session", { sessionId: "s", displayName: "Ä", role: "leader" }, 3),
    event("seek", { sessionId: "s", position: 12.5e3 }),
    '451-7["chat_message",{"_placeholder":true,"num":0}]',
    '430[{"ok":true}]',
    "3",
  ];
  await repeat(300, 20, async (i) => {
    const random = generator(SEED + i);
    const raw = await rawMember(server);
    for (let sent = 0; sent < 5; sent += 1) {
      const packet = Buffer.from(packets[random.below(packets.length)]);
      for (let change = random.below(4); change >= 0; change -= 1) packet[random.below(packet.length)] = random.below(128);
      raw.send(frame(OPCODE.text, packet));
    }
    await finish(raw.tcp);
  });
});

test("frames and requests that break off anywhere end only their connection", async () => {
  const whole = text(event("join_session", { sessionId: freshSession() }));
  await repeat(whole.length, 20, async (length) => {
    const raw = await rawMember(server);
    raw.send(whole.subarray(0, length));
    await finish(raw.tcp);
  });
  const asked = upgradeHead(server);
  await repeat(asked.length, 20, async (length) => {
    const connection = await tcp(server);
    connection.write(asked.slice(0, length));
    await finish(connection);
  });
});

test("connections that are reset affect no other", async () => {
  await repeat(100, 20, async () => {
    const raw = await rawMember(server);
    raw.send(text(event("join_session", { sessionId: freshSession() })));
    raw.tcp.socket.resetAndDestroy();
  });
});

test("messages above the limit close with 1009, whole and in parts", async () => {
  const part = frame(OPCODE.continuation, Buffer.alloc(500_000, 120), { fin: false });
  await repeat(20, 5, async (i) => {
    const raw = await rawMember(server);
    if (i % 2 === 0) raw.send(frame(OPCODE.text, "4", { fin: false }), part, part, part);
    else raw.send(frame(OPCODE.text, Buffer.alloc(2_000_000, 120)));
    assert.ok([1009, null].includes(await raw.readClose()), "closed as too large");
    raw.tcp.destroy();
  });
});

test("attachments that are announced and hoarded end only their connection", async () => {
  const blobs = Array.from({ length: 10 }, (_, num) => ({ _placeholder: true, num }));
  const blob = frame(OPCODE.binary, Buffer.alloc(900_000));
  await repeat(20, 20, async () => {
    const raw = await rawMember(server);
    raw.send(text(`4510-${JSON.stringify(["x", ...blobs])}`));
    for (let i = 0; i < 9; i += 1) raw.send(blob);
    await finish(raw.tcp);
  });
});

test("JSON of depth 10 000 does not crash the server", async () => {
  const deep = { arrays: "[".repeat(10_000) + "]".repeat(10_000), objects: '{"a":'.repeat(10_000) + "1" + "}".repeat(10_000) };
  for (const value of [...Object.values(deep), "[".repeat(10_000)]) {
    for (const packet of [`40{"a":${value}}`, `421["join_session",${value}]`, `421["join_session",{"sessionId":"s","x":${value}}]`]) {
      const raw = await rawMember(server);
      raw.send(text(packet));
      // The server rejects the packet or closes the connection, and does not crash.
      const answer = await raw.readText((one) => one.startsWith("431"), "an answer").catch((error) => error);
      if (answer instanceof Error) assert.match(answer.message, /closed with 1005|ended/);
      else assertShape(JSON.parse(answer.slice(3))[0], { ok: "boolean" });
      raw.tcp.destroy();
    }
  }
});

const CODES = [
  "invalid_payload",
  "invalid_session_id",
  "session_not_found",
  "not_member",
  "not_leader",
  "not_allowed",
  "bad_passcode",
  "unknown_event",
  "too_large",
];

const FIELDS = {
  join_session: ["sessionId", "displayName", "role", "passcode", "leaderPin", "tickHz", "instrument", "metronome"],
  leave_session: ["sessionId"],
  set_role: ["sessionId", "role", "memberId"],
  sync_request: ["sessionId", "checksum", "version"],
  update_message: ["sessionId", "message"],
  chat_message: ["sessionId", "message", "username"],
  play: ["sessionId", "atServerMs", "countInBars", "quantize"],
  pause: ["sessionId"],
  stop: ["sessionId"],
  seek: ["sessionId", "position", "atServerMs"],
  set_tempo: ["sessionId", "tempo"],
  tempo_change: ["sessionId", "tempo", "fadeTime"],
  tempo_changed: ["sessionId", "tempo", "fadeTime"],
  beat_sync: ["sessionId", "beatPosition", "masterTime"],
  position_sync: ["sessionId", "positionMs", "timestamp"],
  latency_probe: ["timestamp", "sessionId"],
  clock_sync: ["t0"],
  heartbeat: ["timestamp", "sessionId"],
  heartbeat_response: ["timestamp"],
  pong: ["timestamp"],
  ping: ["timestamp"],
  connection_quality: ["x"],
  role_changed: ["sessionId", "role"],
  request_leader: ["sessionId"],
  approve_leader_request: ["sessionId", "requesterId"],
  deny_leader_request: ["sessionId", "requesterId"],
};

const WRONG = [null, true, [], {}, "", "\u0000", "x".repeat(5000), "\ud800", -1, 0.1, 1e300, -1e300, 2 ** 53];

/** Groups of three: a connection may send three of any event without exceeding its rate. */
const inThrees = (list) => list.flatMap((_, i) => (i % 3 === 0 ? [list.slice(i, i + 3)] : []));

for (const [name, fields] of Object.entries(FIELDS)) {
  test(`${name} with anything in any field is answered`, async () => {
    for (const [field, values] of fields.flatMap((one) => inThrees(WRONG).map((three) => [one, three]))) {
      const member = await engineMember(server);
      const sessionId = freshSession("types");
      member.send(event("join_session", { sessionId }, 1));
      await member.readAck(1);
      for (const [i, value] of values.entries()) {
        // All other fields are valid, so that the server reads this one.
        const rest = { sessionId, position: 1, tempo: 120, message: "x", timestamp: 1, t0: 1, positionMs: 1, role: "leader" };
        member.send(event(name, { ...rest, [field]: value }, 100 + i));
        const [answer] = await member.readAck(100 + i);
        const what = `${name} with ${field} = ${JSON.stringify(value)?.slice(0, 50)}`;
        if (answer.ok) continue;
        assertShape(answer, { ok: false, error: "object" }, what);
        assertShape(answer.error, { code: "string", message: "string" }, what);
        assert.ok(CODES.includes(answer.error.code), `${what}: ${JSON.stringify(answer)}`);
      }
      member.ws.terminate();
    }
  });
}

test("numbers that JSON does not have, or that overflow, are rejected or close", async () => {
  const member = await engineMember(server);
  const sessionId = freshSession();
  member.send(event("join_session", { sessionId }, 1));
  await member.readAck(1);
  for (const [i, number] of ["1e400", "-1e400", "123456789012345678901234567890"].entries()) {
    member.send(`42${10 + i}["seek",{"sessionId":"${sessionId}","position":${number}}]`);
    const answer = await Promise.race([member.readAck(10 + i), member.closeCode()]);
    if (answer === 1005) return;
    assertRefused(answer[0], "invalid_payload", "position");
  }
  const strict = await engineMember(server);
  strict.send(`421["seek",{"sessionId":"${sessionId}","position":NaN}]`);
  assert.equal(await strict.closeCode(), 1005);
});

test("events of unknown names are rejected", async () => {
  const member = await engineMember(server);
  const names = ["", " ", "x".repeat(5000), "__proto__", "constructor", "toString", "scroll_tick", "snapshot", "日本", "\u0000"];
  for (const [i, name] of names.entries()) {
    member.send(event(name, {}, i));
    assertRefused((await member.readAck(i))[0], "unknown_event");
  }
});

test("ten thousand frames in one piece are handled", async () => {
  const raw = await rawMember(server);
  raw.send(Buffer.concat(Array(10_000).fill(frame(OPCODE.ping, "x"))));
  raw.send(text(event("latency_probe", { timestamp: 1 }, 1)));
  assertDone((await raw.readAck(1))[0]);
});

test("a client that keeps sending above its rate is closed", async () => {
  const member = await engineMember(server);
  for (let i = 0; i < 60; i += 1) member.send(event("heartbeat", { timestamp: i }, i));
  await member.closeCode();
});

test("a client that sends requests and never reads is closed", async () => {
  const raw = await rawMember(server);
  raw.tcp.socket.pause();
  const questions = Buffer.concat(Array(1000).fill(text(event("heartbeat", { timestamp: 1 }))));
  const { socket } = raw.tcp;
  const asking = async () => {
    for (let i = 0; i < 2000 && !raw.tcp.isEnded; i += 1) {
      const taken = deferred();
      socket.write(questions, taken.resolve);
      await Promise.race([taken.promise, raw.tcp.ended.promise]);
    }
  };
  await asking();
  // A client learns of the end only by reading.
  raw.tcp.socket.resume();
  await raw.tcp.closed(30_000);
  assert.ok(residentBytes(server.pid) < MEMORY_MAX);
});

test(`${SESSIONS} sessions at once fit into ${MEMORY_MAX / 1024 / 1024} MiB`, async () => {
  const joined = [];
  await repeat(SESSIONS, 100, async () => {
    const connection = await tcp(server);
    connection.write(upgradeHead(server));
    assert.equal((await connection.readAnswer()).status, 101);
    const raw = new RawSocket(connection);
    raw.send(text("40"), text(event("join_session", { sessionId: freshSession("many") }, 1)));
    assertDone((await raw.readAck(1))[0]);
    joined.push(connection);
  });
  const memory = residentBytes(server.pid);
  assert.ok(memory < MEMORY_MAX, `${Math.round(memory / 1024 / 1024)} MB`);
  assert.equal((await request(server, "GET", "/health")).status, 200);
  await Promise.all(honest.all.map((one) => next(one, "scroll_tick")));
  joined.forEach((connection) => connection.destroy());
});

test("a client that sends a byte a second is closed", async () => {
  await dawdler.connection.closed(30_000);
  dawdler.stop();
});

test("after all attacks the members of the honest band have received the same ticks in order", async () => {
  const { sessionId, leader, all } = honest;
  const paused = Promise.all(all.map((one) => next(one, "pause")));
  assertDone(await emit(leader, "pause", { sessionId }));
  await within(PATIENCE_MS, paused, "all members receive the pause");
  const ticks = received(leader, "scroll_tick");
  for (let i = 1; i < ticks.length; i += 1) {
    assert.ok(ticks[i].positionMs > ticks[i - 1].positionMs, "each tick has a later position");
  }
  for (const member of all) {
    assert.equal(member.connected, true);
    assert.deepEqual(received(member, "scroll_tick"), ticks);
    assert.deepEqual(received(member, "error"), []);
  }
  const memory = residentBytes(server.pid);
  assert.ok(memory < MEMORY_MAX, `${Math.round(memory / 1024 / 1024)} MB`);
  assertDone(await emit(leader, "play", { sessionId }));
});
