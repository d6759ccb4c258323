// Expectations of old clients: each command is answered, a slider ends on its newest value, and
// long texts are cut.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { band, emit, freshSession, join, next, received } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { assertDone, assertRefused, assertShape } from "../support/shape.js";

let server;
before(async () => (server = await startServers({ env: { SHARDS: "2" } })));
after(() => server.stop());

/** The names of all events that a member received, without ticks, pings and answers. */
const names = (socket) =>
  socket.received.map((one) => one.event).filter((event) => !["scroll_tick", "ping", "connection_quality", "sync_response"].includes(event));

/** Waits until all members have received every earlier event, then clears the lists of events. */
async function settle({ sessionId, all }) {
  const message = `settled ${Math.random()}`;
  const updates = all.map((member) => next(member, "snapshot", (one) => one.message === message));
  assertDone(await emit(all[0], "update_message", { sessionId, message }));
  await Promise.all(updates);
  for (const member of all) member.received.length = 0;
  return message;
}

/** The current version of the session's timeline. */
const version = async ({ sessionId, leader }) => (await emit(leader, "sync_request", { sessionId })).version;

const MOVES = ["role_changed", "leader_changed", "snapshot"];

describe("a command that changes nothing is answered to its sender alone", () => {
  for (const [event, fields, notices, playing] of [
    ["set_role", { role: "leader" }, MOVES],
    ["set_tempo", { tempo: 120 }, ["tempo_changed", "snapshot"]],
    ["tempo_change", { tempo: 120 }, ["tempo_change", "snapshot"]],
    ["tempo_changed", { tempo: 120 }, ["tempo_changed", "snapshot"]],
    ["set_tempo", { tempo: 120 }, ["tempo_changed", "snapshot"], true],
    ["seek", { position: 0 }, ["seek", "snapshot"]],
    ["play", {}, ["play", "snapshot"], true],
    ["pause", {}, ["pause", "snapshot"]],
    ["stop", {}, ["stop", "snapshot"]],
    ["update_message", {}, ["snapshot"]],
    ["set_role", { role: "follower" }, ["role_changed", "snapshot"], false, "follower"],
  ]) {
    for (const acknowledged of [true, false]) {
      const how = `${playing ? " while playing" : ""}${acknowledged ? "" : ", unacknowledged"}`;
      test(`${event} ${JSON.stringify(fields)}${how}`, async () => {
        const b = await band(server, 3);
        const sender = fields.role === "follower" ? b.followers[0] : b.leader;
        assertDone(await emit(b.leader, "set_role", { sessionId: b.sessionId, role: "leader" }));
        if (playing) assertDone(await emit(b.leader, "play", { sessionId: b.sessionId }));
        const message = await settle(b);
        const before = await version(b);
        sender.received.length = 0;
        const payload = { sessionId: b.sessionId, ...(event === "update_message" ? { message } : {}), ...fields };
        const last = next(sender, notices.at(-1));
        const answer = acknowledged ? await emit(sender, event, payload) : sender.emit(event, payload);
        if (acknowledged) assertShape(answer, { ok: true, epoch: "number", version: before });
        assert.equal((await last).version, before);
        assert.deepEqual(names(sender), notices);
        // The next event at the others is the next change.
        const others = b.all.filter((member) => member !== sender);
        const changed = others.map((member) => next(member, "snapshot", (one) => one.version > before));
        assertDone(await emit(b.leader, "update_message", { sessionId: b.sessionId, message: "next" }));
        for (const snapshot of await Promise.all(changed)) assert.equal(snapshot.version, before + 1);
        for (const member of others) assert.deepEqual(names(member), ["snapshot"]);
      });
    }
  }
});

describe("the newest value wins", () => {
  test("a dragged slider ends on its last value, and its client stays connected", async () => {
    const { sessionId, leader, followers } = await band(server, 2);
    const values = Array.from({ length: 60 }, (_, i) => 60 + i);
    const last = next(followers[0], "tempo_changed", (one) => one.newTempo === 119);
    const acks = await Promise.all(values.map((tempo) => emit(leader, "set_tempo", { sessionId, tempo })));
    await last;
    for (const ack of acks) assertDone(ack, { ok: true, epoch: "number", version: "number" });
    assert.equal(acks.at(-1).superseded, undefined, "the last one is applied");
    assert.equal(acks.filter((ack) => ack.superseded === true).length, 49);
    assert.deepEqual(received(leader, "rate_limit_exceeded"), []);
    assert.equal((await emit(leader, "sync_request", { sessionId })).tempoBpm, 119);
    assert.ok(leader.connected);
  });

  test("play is applied after a tempo that was sent before it", async () => {
    const { sessionId, leader, followers } = await band(server, 2);
    const notice = next(followers[0], "play");
    const drag = Array.from({ length: 30 }, (_, i) => emit(leader, "set_tempo", { sessionId, tempo: 80 + i }));
    const play = await emit(leader, "play", { sessionId });
    assertDone(play);
    assert.equal((await notice).tempoBpm, 109);
    const newest = (await Promise.all(drag)).at(-1);
    assert.ok(newest.version < play.version, JSON.stringify([newest, play]));
  });

  test("events without an acknowledgement end on the last value too", async () => {
    const { sessionId, leader } = await band(server, 1);
    for (let i = 0; i < 20; i += 1) {
      leader.emit("tempo_change", { sessionId, tempo: 100 + i });
      leader.emit("tempo_changed", { sessionId, tempo: 200 + i });
      leader.emit("seek", { sessionId, position: 1000 * i });
      for (let k = 0; k < 6; k += 1) leader.emit("position_sync", { sessionId, positionMs: 10 * i, timestamp: i });
    }
    const { tempoBpm, positionMs } = await emit(leader, "sync_request", { sessionId });
    assert.deepEqual([tempoBpm, positionMs], [219, 190]);
    assert.deepEqual(received(leader, "rate_limit_exceeded"), []);
    assert.ok(leader.connected);
  });

  test("a seek to a later time is applied as sent", async () => {
    const { sessionId, leader } = await band(server, 1);
    const seeks = Array.from({ length: 13 }, (_, i) => emit(leader, "seek", { sessionId, position: i, atServerMs: 1 }));
    const acks = await Promise.all(seeks);
    assertRefused(acks.at(-1), "rate_limited");
  });
});

describe("texts are cut where they are too long", () => {
  const long = "🎸".repeat(700);
  test("messages to 500 characters, and the acknowledgement has the cut text", async () => {
    const { sessionId, leader, followers } = await band(server, 2);
    const shown = next(followers[0], "snapshot", (one) => one.message.startsWith("🎸"));
    assertDone(await emit(leader, "update_message", { sessionId, message: long }), {
      ok: true,
      epoch: "number",
      version: "number",
      cut: true,
    });
    assert.equal((await shown).message, "🎸".repeat(500));
    const notice = next(followers[0], "chat_message");
    const chat = { sessionId, message: `\u202e${long}`, username: long };
    assert.deepEqual(await emit(leader, "chat_message", chat), { ok: true, cut: true });
    const { message, username } = await notice;
    assert.deepEqual([message, username], ["🎸".repeat(500), "🎸".repeat(64)]);
    assertRefused(await emit(leader, "chat_message", { sessionId, message: "\u202e \u0000" }), "invalid_payload", "message");
  });

  test("names, instruments and the target of a cue to 64 characters", async () => {
    const sessionId = freshSession();
    const member = await join(server, sessionId, { displayName: `\u0007${long}`, instrument: long });
    const [own] = member.snapshot.members;
    assert.deepEqual([own.displayName, own.instrument], ["🎸".repeat(64), "🎸".repeat(64)]);
    const cue = next(member, "cue");
    assertDone(await emit(member, "cue", { sessionId, text: "go", target: long }));
    assert.equal((await cue).target, "🎸".repeat(64));
  });
});

test("the automatic message names the leader until a message is set", async () => {
  const sessionId = freshSession();
  const ann = await join(server, sessionId, { displayName: "Ann" });
  assert.equal(ann.snapshot.message, "Ann is leading");
  const ben = await join(server, sessionId, { displayName: "Ben", role: "follower" });
  assert.equal(ben.snapshot.message, "Ann is leading");
  const shows = async (message, cause) => {
    const shown = [ann, ben].filter((one) => one.connected).map((one) => next(one, "snapshot", (s) => s.message === message));
    await cause();
    await Promise.all(shown);
  };
  await shows("Leader connected", () => emit(ann, "set_role", { sessionId, role: "leader" }));
  await shows("Ben is now leading", () => emit(ann, "set_role", { sessionId, role: "leader", memberId: ben.id }));
  await shows("Waiting for verse", () => emit(ann, "update_message", { sessionId, message: "Waiting for verse" }));
  await shows("Waiting for verse", () => emit(ann, "set_role", { sessionId, role: "leader" }));
  await shows("Ann is leading", () => emit(ben, "update_message", { sessionId, message: "" }));
  await shows("Leader connected", () => emit(ben, "set_role", { sessionId, role: "leader" }));
});

test("a tempo of 1 BPM is valid", async () => {
  const { sessionId, leader } = await band(server, 1);
  assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 1 }));
  assert.equal((await emit(leader, "sync_request", { sessionId })).tempoBpm, 1);
  assertRefused(await emit(leader, "set_tempo", { sessionId, tempo: 0.99 }), "invalid_payload", "tempo");
});

test("an event name of the Node.js server's other dialect is rejected with the name to use", async () => {
  const { leader } = await band(server, 1);
  for (const [theirs, ours] of [["session:join", "join_session"], ["metronome:start", "play"]]) {
    const ack = await emit(leader, theirs, {});
    assertRefused(ack, "unknown_event");
    assert.match(ack.error.message, new RegExp(`\\b${ours}\\b`));
  }
});
