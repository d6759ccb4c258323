// Passcodes and PINs: they cannot be guessed from any address, and members that know them can join.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { emit, freshSession, join } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { assertDone, assertRefused } from "../support/shape.js";

/** Settings without the rate of joins, which would limit guesses too. */
const UNHURRIED = { EVENT_RATES: "join_session=1000,refusals=0", TRUSTED_PROXIES: "127.0.0.1" };

/** Options of a client that connects from `address` through a proxy. */
const from = (address) => ({ extraHeaders: { "X-Forwarded-For": address } });

describe("a PIN cannot be guessed from a seat", () => {
  let server;
  before(async () => (server = await startServers({ env: { ...UNHURRIED, SHARDS: "2" } })));
  after(() => server.stop());

  test("ten guesses are answered, in the session and from a seat in another one", async () => {
    const sessionId = freshSession("locked");
    const leader = await join(server, sessionId, { leaderPin: "4711" }, from("203.0.113.1"));
    // Some of these sessions are on the other shard.
    const seats = [sessionId, ...Array.from({ length: 4 }, () => freshSession("seat"))];
    let all = 0;
    for (const [n, seat] of seats.entries()) {
      const guesser = await join(server, seat, {}, from(`203.0.113.${10 + n}`));
      const guess = (leaderPin) => emit(guesser, "join_session", { sessionId, leaderPin });
      let compared = 0;
      for (let n = 0; n < 12; n += 1) {
        const { error } = await guess(String(n).padStart(4, "0"));
        assert.match(error.code, /^(bad_passcode|rate_limited)$/);
        compared += error.code === "bad_passcode" ? 1 : 0;
      }
      assert.ok(compared <= 10, `${compared} from seat ${n}`);
      all += compared;
      assertRefused(await guess("4711"), "rate_limited");
      // The guesser keeps its seat.
      assert.equal((await emit(guesser, "chat_message", { sessionId: seat, message: "still here" })).ok, true);
    }
    // Ten guesses each of the first three addresses, then one of each other. On a slow machine one
    // more is allowed every 10 s.
    assert.ok(all >= 5 && all < 42, `${all} guesses were compared`);
    assertDone(await emit(leader, "play", { sessionId }), { epoch: "number", version: "number" });
    const mate = await join(server, sessionId, { role: "leader", leaderPin: "4711" }, from("203.0.113.2"));
    assert.equal(mate.snapshot.leaderSocketId, mate.id);
  });
});

describe("on the internet", () => {
  let server;
  before(async () => {
    const env = { ...UNHURRIED, SECURITY_PROFILE: "internet", CORS_ORIGIN: "https://band.example", SHARDS: "2" };
    server = await startServers({ env });
  });
  after(() => server.stop());

  test("new secrets need eight characters, and the error says so", async () => {
    const short = (ack, field) => {
      assertRefused(ack, "invalid_payload", field);
      assert.match(ack.error.message, /at least 8 characters/);
    };
    const sessionId = freshSession("public");
    const member = await join(server, freshSession("seat"), {}, from("203.0.113.1"));
    for (const field of ["passcode", "leaderPin"]) {
      short(await emit(member, "join_session", { sessionId, [field]: "1234567" }), field);
    }
    const leader = await join(server, sessionId, { passcode: "12345678", leaderPin: "ünlösbar" }, from("203.0.113.2"));
    for (const field of ["passcode", "leaderPin"]) {
      short(await emit(leader, "update_settings", { sessionId, [field]: "1234567" }), field);
    }
    assertDone(await emit(leader, "update_settings", { sessionId, passcode: null }), { epoch: "number", version: "number" });
  });

  test("the band can join while a whole network guesses", async () => {
    const sessionId = freshSession("public");
    const right = { passcode: "open sesame" };
    await join(server, sessionId, right, from("2001:db8:1:1::a"));
    let seconds = 0;
    for (let n = 0; n < 60; n += 1) {
      const seat = freshSession("seat");
      const bot = await join(server, seat, {}, from(`2001:db8:2:${(0x100 + n).toString(16)}::1`));
      assertRefused(await emit(bot, "join_session", { sessionId, passcode: "wrong" }), "bad_passcode", "passcode");
      const { error } = await emit(bot, "join_session", { sessionId, passcode: "wrong" });
      assert.match(error.code, /^(bad_passcode|rate_limited)$/);
      seconds += error.code === "bad_passcode" ? 1 : 0;
      bot.disconnect();
    }
    assert.ok(seconds < 45, `${seconds} second guesses were compared`);
    for (const address of ["2001:db8:1:1::b", "2001:db8:3::1", "203.0.113.9"]) {
      await join(server, sessionId, right, from(address));
    }
  });
});
