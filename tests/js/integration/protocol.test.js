// Every event of the protocol through the unmodified socket.io-client: applied, rejected,
// malformed. Each payload, in both directions, must match /asyncapi.json.
import assert from "node:assert/strict";
import { Parser } from "@asyncapi/parser";
import { after, before, describe, test } from "node:test";
import { band, connect, emit, freshSession, join, next, received } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { protocolOf } from "../support/schema.js";
import { assertDone, assertErrorEvent, assertRefused } from "../support/shape.js";
import { request } from "../support/wire.js";

const SONG = { id: "s1", title: "Harbour", format: "chordpro", body: "[Em]\tOne\n  two", tempoBpm: 96.5, timeSignature: { numerator: 6, denominator: 8 } };
const SETLIST = { title: "Friday", songs: [SONG, { id: "s2", title: "Quay", format: "text", body: "la", artist: "Us", key: "D", durationMs: 1000 }] };

const OPS = [
  { op: "add", song: { ...SONG, id: "s3" }, before: "s2" },
  { op: "replace", song: { ...SONG, title: "Port" }, was: 1, shift: 4 },
  { op: "move", songId: "s2", before: "s1" },
  { op: "remove", songId: "s2", was: 1 },
  { op: "retitle", title: "Saturday" },
];

const LEADERS = { code: "not_leader" };
const STRANGERS = { code: "not_member", sender: "stranger" };
const RATE = { code: "rate_limited" };

/**
 * All events. `sender` sends the event with `fields` after `before` has run; it is the leader by
 * default. `notices` lists what all members receive then. `refused` is a sender and a
 * code with which the event is rejected, `wrong` has one invalid value per field. RATE marks events
 * that any client may send, up to their rate.
 */
const EVENTS = {
  join_session: { own: true, fields: { displayName: "Ann", tickHz: 30, instrument: "keys", view: "member" }, notices: ["user_joined", "room_stats"], refused: { code: "bad_passcode", own: true }, wrong: { sessionId: "", role: "boss", tickHz: 126, metronome: 1, displayName: 7, view: "tv" } },
  leave_session: { sender: "follower", notices: ["user_left", "room_stats"], refused: STRANGERS, wrong: { sessionId: 5 } },
  set_role: { sender: "follower", fields: { role: "leader" }, notices: ["role_changed", "leader_changed", "snapshot"], refused: { code: "not_leader", fields: (b) => ({ role: "leader", memberId: b.leader.id }) }, wrong: { role: "boss", memberId: "me" } },
  request_leader: { sender: "follower", refused: STRANGERS, wrong: { sessionId: null } },
  approve_leader_request: { before: asks, fields: requester, notices: ["role_changed", "leader_changed", "snapshot"], refused: { ...LEADERS, fields: requester }, wrong: { requesterId: 1 } },
  deny_leader_request: { before: asks, fields: requester, refused: { ...LEADERS, fields: requester }, wrong: { requesterId: "?" } },
  sync_request: { sender: "follower", fields: { checksum: "00000000", version: 0 }, refused: STRANGERS, wrong: { version: -1 } },
  update_message: { sender: "follower", fields: { message: "Hello\nall" }, notices: ["snapshot"], refused: STRANGERS, wrong: { message: 7 } },
  chat_message: { sender: "follower", fields: { message: "la", username: "Bob" }, notices: ["chat_message"], refused: STRANGERS, wrong: { message: "", username: 7 } },
  update_settings: { fields: { maxMembers: 10, onLeaderLoss: "pause", leaderRule: "ask", anyoneMayCue: true, anyoneMayEdit: true }, notices: ["session_update"], refused: LEADERS, wrong: { maxMembers: 0, leaderRule: "any", onLeaderLoss: "stop" } },
  set_member: { fields: rights, notices: ["session_update"], refused: { ...LEADERS, fields: rights }, wrong: { memberId: "me", mayEdit: "yes" } },
  cue: { fields: { text: "chorus x2", kind: "hold", seconds: 2.5, target: "horns" }, notices: ["cue"], refused: { code: "not_leader" }, wrong: { text: 7, kind: "jump", seconds: 61 } },
  play: { fields: { countInBars: 1, quantize: "bar" }, notices: ["play", "snapshot", "scroll_tick"], refused: LEADERS, wrong: { atServerMs: -1, countInBars: 9, quantize: "hour" } },
  pause: { before: plays, notices: ["pause", "snapshot"], refused: LEADERS, wrong: { sessionId: [], atServerMs: "x" } },
  stop: { before: plays, notices: ["stop", "snapshot"], refused: LEADERS, wrong: { sessionId: {} } },
  seek: { fields: { position: 1234.5 }, notices: ["seek", "snapshot"], refused: LEADERS, wrong: { position: -1, atServerMs: "now", beat: -1, at: "hour", atBeat: 0.5 } },
  set_tempo: { fields: { tempo: 93.5 }, notices: ["tempo_changed", "snapshot"], refused: LEADERS, wrong: { tempo: 0.9 } },
  tempo_change: { fields: { tempo: 140, fadeTime: 500 }, notices: ["tempo_change", "snapshot"], refused: LEADERS, wrong: { tempo: "fast", fadeTime: -1, atBeat: -1 } },
  tempo_changed: { fields: { tempo: 141 }, notices: ["tempo_changed", "snapshot"], refused: LEADERS, wrong: { tempo: 401 } },
  set_time_signature: { fields: { numerator: 7, denominator: 8 }, notices: ["session_update"], refused: LEADERS, wrong: { numerator: 0, denominator: 3 } },
  loop: { fields: { from: 0, to: 8 }, notices: ["session_update"], refused: LEADERS, wrong: { from: "a", to: -1 } },
  cancel: { before: arms, notices: ["session_update"], refused: LEADERS, wrong: { sessionId: 5 } },
  nudge: { fields: { beats: 4 }, notices: ["seek", "snapshot"], refused: LEADERS, wrong: { beats: 0.5 } },
  one: { before: plays, fields: { atServerMs: 1e9 }, notices: ["seek", "snapshot"], refused: LEADERS, wrong: { atServerMs: -1 } },
  beat_sync: { fields: { beatPosition: 1.5, masterTime: 1 }, notices: ["beat_sync"], refused: LEADERS, wrong: { beatPosition: "one", masterTime: null } },
  position_sync: { fields: { positionMs: 5, timestamp: 1 }, notices: ["position_sync"], refused: STRANGERS, wrong: { positionMs: -5, timestamp: "x" } },
  latency_probe: { sender: "stranger", fields: { timestamp: 1 }, refused: RATE, wrong: { timestamp: "1" } },
  clock_sync: { sender: "stranger", fields: { t0: 1.25 }, refused: RATE, wrong: { t0: null } },
  set_setlist: { fields: { setlist: SETLIST }, notices: ["setlist"], refused: LEADERS, wrong: { setlist: { title: "x", songs: [{ id: 1 }] } } },
  edit_setlist: { before: lists, fields: { ops: OPS }, notices: ["setlist_changed"], refused: { code: "not_allowed" }, wrong: { ops: [{ op: "sort" }] } },
  get_setlist: { before: lists, sender: "follower", refused: STRANGERS, wrong: { sessionId: 5 } },
  get_songs: { before: lists, sender: "follower", fields: { songIds: ["s2", "s1"] }, refused: STRANGERS, wrong: { songIds: "s1" } },
  select_song: { before: lists, fields: { songId: "s1" }, notices: ["song_changed", "snapshot"], refused: { ...LEADERS, fields: () => ({ step: 1 }) }, wrong: { songId: 5, play: 1, at: "end" } },
  get_song: { before: lists, sender: "follower", fields: { songId: "s1" }, refused: STRANGERS, wrong: { songId: "" } },
  pong: { sender: "stranger", fields: { timestamp: 1 }, refused: RATE, wrong: { timestamp: "x" } },
  heartbeat: { sender: "stranger", fields: { timestamp: 1 }, refused: RATE, wrong: { timestamp: [] } },
  connection_quality: { sender: "stranger", refused: RATE, wrong: {} },
  // Accepted from old clients and ignored, with any payload.
  heartbeat_response: { sender: "stranger", refused: RATE, takesAnything: true },
  role_changed: { sender: "stranger", fields: { role: "leader" }, refused: RATE, takesAnything: true },
  error: { sender: "stranger", refused: RATE, takesAnything: true },
};

async function asks(b) {
  const asked = next(b.leader, "leader_handoff_request");
  assertDone(await emit(b.follower, "request_leader", { sessionId: b.sessionId }), { pending: true });
  await asked;
}

function rights(b) {
  return { memberId: b.follower.id, mayEdit: true };
}

function requester(b) {
  return { requesterId: b.follower.id };
}

async function plays(b) {
  assertDone(await emit(b.leader, "play", { sessionId: b.sessionId }), { epoch: "number", version: "number" });
}

async function arms(b) {
  await plays(b);
  const all = b.all.map((one) => next(one, "session_update"));
  assertDone(await emit(b.leader, "seek", { sessionId: b.sessionId, beat: 64, at: "bar" }), { epoch: "number", version: "number" });
  await Promise.all(all);
}

async function lists(b) {
  const all = b.all.map((one) => next(one, "setlist"));
  assertDone(await emit(b.leader, "set_setlist", { sessionId: b.sessionId, setlist: SETLIST }), { epoch: "number", version: "number" });
  await Promise.all(all);
}

let server;
let protocol;
const sockets = [];

before(async () => {
  server = await startServers({ env: { HEARTBEAT_INTERVAL: "300", HTTP_REQUESTS_PER_IP: "0" } });
  protocol = await protocolOf(server);
});
after(() => server.stop());

/** A leader, a follower, and a client without a session. */
async function people() {
  const { sessionId, leader, followers, all } = await band(server, 2);
  const stranger = await connect(server);
  sockets.push(...all, stranger);
  for (const one of [...all, stranger]) one.on("ping", ({ timestamp }) => one.emit("pong", { timestamp }));
  return { sessionId, leader, follower: followers[0], stranger, all };
}

const takes = (name, field) => field in protocol.message(name, "sent").payload.properties;
const isAppliedOnce = (name) => takes(name, "commandId");
const isTimed = (name) => takes(name, "notAfterServerMs");
const fieldsOf = (fields, b) => (typeof fields === "function" ? fields(b) : (fields ?? {}));

test("the table has every event of the document, and the document every event that the server sends", () => {
  assert.deepEqual(Object.keys(EVENTS).sort(), [...protocol.sent].sort());
});

for (const [name, one] of Object.entries(EVENTS)) {
  describe(name, () => {
    test("is applied", async () => {
      const b = await people();
      await one.before?.(b);
      const sender = one.own ? b.stranger : b[one.sender ?? "leader"];
      const payload = { sessionId: b.sessionId, ...fieldsOf(one.fields, b) };
      if (isAppliedOnce(name)) payload.commandId = "a_phone-7";
      assert.deepEqual(protocol.faults(name, "sent", payload), []);
      const staying = name === "leave_session" ? [b.leader] : b.all;
      const notices = staying.flatMap((member) => (one.notices ?? []).map((event) => next(member, event)));
      const ack = await emit(sender, name, payload);
      assert.equal(ack.ok, true, JSON.stringify(ack));
      assert.deepEqual(protocol.faults(name, "ack", ack), []);
      await Promise.all(notices);
      // A request that waits for the leader may be repeated.
      if (!isAppliedOnce(name) || ack.pending) return;
      const again = await emit(sender, name, payload);
      assert.equal(again.repeated, true);
      assert.deepEqual(protocol.faults(name, "ack", again), []);
    });

    test("is rejected", async () => {
      const b = await people();
      const { code, sender: role, own, fields } = one.refused;
      if (code === "rate_limited") {
        const rate = protocol.message(name, "sent")["x-rate"];
        const payload = { ...fieldsOf(one.fields, b) };
        const acks = await Promise.all(Array.from({ length: rate.burst + 9 }, () => emit(b.stranger, name, payload)));
        const refused = acks.filter((ack) => !ack.ok);
        assert.ok(acks.length - refused.length >= rate.burst, "a burst is accepted");
        assert.ok(refused.length > 0);
        for (const ack of refused) assertRefused(ack, "rate_limited");
        return;
      }
      let payload = { sessionId: b.sessionId, ...fieldsOf(one.fields, b), ...fieldsOf(fields, b) };
      if (fields && name === "select_song") delete payload.songId;
      let sender = b[role ?? "follower"];
      if (own) {
        const sessionId = freshSession("closed");
        sockets.push(await join(server, sessionId, { passcode: "open" }));
        [payload, sender] = [{ sessionId, passcode: "shut" }, b.stranger];
      }
      const ack = await emit(sender, name, payload);
      assert.equal(ack.ok, false);
      assert.equal(ack.error.code, code);
      assert.deepEqual(protocol.faults(name, "ack", ack), []);
      assert.ok(protocol.message(name, "sent")["x-refusals"].includes(code), `${code} is described`);
      // Without an acknowledgement the same error arrives as an event.
      const rejection = next(sender, "error", (error) => error.event === name);
      sender.emit(name, payload);
      assert.equal((await rejection).code, code);
    });

    test("is rejected after its time, and repeated if it was applied before", async () => {
      if (!isTimed(name)) return;
      const b = await people();
      await one.before?.(b);
      const sender = b[one.sender ?? "leader"];
      const payload = { sessionId: b.sessionId, ...fieldsOf(one.fields, b), notAfterServerMs: 0 };
      const late = await emit(sender, name, payload);
      assertRefused(late, "too_late", "notAfterServerMs");
      assert.deepEqual(protocol.faults(name, "ack", late), []);
      assert.ok(protocol.message(name, "sent")["x-refusals"].includes("too_late"));
      const { t1 } = await emit(sender, "clock_sync", { t0: 0 });
      const named = { ...payload, ...(isAppliedOnce(name) && { commandId: "a_pedal-1" }) };
      assert.equal((await emit(sender, name, { ...named, notAfterServerMs: t1 + 60_000 })).ok, true);
      if (isAppliedOnce(name)) assert.equal((await emit(sender, name, named)).repeated, true);
    });

    test("is malformed", async () => {
      const b = await people();
      const sender = one.own ? b.stranger : b[one.sender ?? "leader"];
      if (one.takesAnything) {
        for (const anything of [5, "x", null, { timestamp: [] }]) assertDone(await emit(sender, name, anything));
        return;
      }
      const right = { sessionId: b.sessionId, ...fieldsOf(one.fields, b) };
      const wrong = {
        ...one.wrong,
        ...(isAppliedOnce(name) && { commandId: "a_phone" }),
        ...(isTimed(name) && { notAfterServerMs: -1 }),
      };
      for (const [field, value] of Object.entries(wrong)) {
        const payload = { ...right, [field]: value };
        assert.notDeepEqual(protocol.faults(name, "sent", payload), [], `${field} is described as wrong`);
        // Joins have the lowest rate, so each attempt has its own client.
        const ack = await emit(one.own ? await connect(server) : sender, name, payload);
        const code = field === "sessionId" && value === "" ? "invalid_session_id" : "invalid_payload";
        assertRefused(ack, code, field);
      }
      const rejection = next(sender, "error", (error) => error.event === name);
      sender.emit(name, ["no object"]);
      assertErrorEvent(await rejection, name, "invalid_payload");
    });
  });
}

describe("other events of the server", () => {
  test("metronome ticks arrive ahead of the beat, at members that asked for them", async () => {
    const { sessionId, leader, all } = await people();
    const listener = await join(server, sessionId, { metronome: true });
    sockets.push(listener);
    const beat = next(listener, "metronome_tick");
    assertDone(await emit(leader, "play", { sessionId }), { epoch: "number", version: "number" });
    await beat;
    for (const one of all) assert.deepEqual(received(one, "metronome_tick"), []);
  });

  test("a follower with a wrong position is corrected", async () => {
    const { sessionId, follower } = await people();
    const corrected = next(follower, "drift_correction");
    assertDone(await emit(follower, "position_sync", { sessionId, positionMs: 60_000, timestamp: 1 }));
    assert.equal((await corrected).drift, 60_000);
  });

  test("a request for the lead can be denied and approved", async () => {
    const { sessionId, leader, follower } = await people();
    const ask = async () => {
      const asked = next(leader, "leader_handoff_request");
      const sent = next(follower, "leader_request_sent");
      await emit(follower, "request_leader", { sessionId });
      await Promise.all([asked, sent]);
    };
    await ask();
    const denied = next(follower, "leader_request_denied");
    assertDone(await emit(leader, "deny_leader_request", { sessionId, requesterId: follower.id }));
    await denied;
    await ask();
    const approved = Promise.all([next(follower, "leader_request_approved"), next(leader, "leader_handoff_completed")]);
    await emit(leader, "approve_leader_request", { sessionId, requesterId: follower.id });
    await approved;
  });

  test("events without an acknowledgement, and events above their rate, are answered", async () => {
    const { stranger } = await people();
    for (const [event, payload, answer] of [
      ["clock_sync", { t0: 1 }, "clock_sync"],
      ["latency_probe", { timestamp: 1 }, "latency_response"],
      ["heartbeat", { timestamp: 1 }, "heartbeat_response"],
      ["connection_quality", undefined, "connection_quality"],
    ]) {
      const answered = next(stranger, answer);
      stranger.emit(event, payload);
      await answered;
    }
    await next(stranger, "ping");
    const limited = next(stranger, "rate_limit_exceeded");
    for (let i = 0; i < 13; i += 1) stranger.emit("heartbeat", { timestamp: i });
    assert.equal((await limited).eventType, "heartbeat");
  });

  test("every event sent is described, and every described event was sent", () => {
    const sent = new Set();
    for (const socket of sockets) {
      for (const { event, payload } of socket.received) {
        sent.add(event);
        assert.deepEqual(protocol.faults(event, "received", payload), []);
      }
    }
    assert.deepEqual([...sent].sort(), [...protocol.received].sort());
  });
});

test("a chart keeps its tabs and spaces", async () => {
  const b = await people();
  await lists(b);
  const { song } = await emit(b.follower, "get_song", { sessionId: b.sessionId, songId: "s1" });
  assert.equal(song.body, SONG.body);
});

test("the document passes the parser of AsyncAPI, has examples, and names the server's address", async () => {
  const { diagnostics } = await new Parser().parse(JSON.stringify(protocol.document));
  const problems = diagnostics.filter(({ severity }) => severity < 2);
  assert.deepEqual(problems.map(({ message, path }) => `${path.join(".")}: ${message}`), []);
  for (const [name, { examples }] of Object.entries(protocol.document.components.messages)) assert.ok(examples?.length, name);
  assert.equal(protocol.document.servers.here.host, `127.0.0.1:${server.port}`);
});

test("the document is AsyncAPI 3, and a page shows it to people", async () => {
  const { document } = protocol;
  assert.match(document.asyncapi, /^3\.0\./);
  for (const operation of Object.values(document.operations)) {
    assert.ok(["send", "receive"].includes(operation.action));
    const name = operation.channel.$ref.split("/").at(-1);
    assert.ok(document.channels[name].messages);
  }
  const page = await request(server, "GET", "/protocol");
  assert.equal(page.status, 200);
  assert.match(page.headers["content-type"], /^text\/html/);
  for (const [, path] of page.body.matchAll(/(?:src|href)="(\/[^"]+\.(?:js|css))"/g)) {
    assert.equal((await request(server, "GET", path)).status, 200, path);
  }
  assert.doesNotMatch(page.body, /<script>|style=|onclick/, "the page uses nothing that its policy forbids");
});
