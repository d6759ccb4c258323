import assert from "node:assert/strict";
import test from "node:test";
import { BandSync, BandSyncError, editedSetlist } from "../../../src/web/bandsync.js";
import { memory } from "../../../src/web/tokens.js";

const timeline = (fields = {}) => ({
  epoch: 1,
  version: 1,
  leader: "sid-1",
  segments: [{ t0: 0, p0: 0, b0: 0, rate: 0, bpm0: 120_000, bpm1: 120_000, ramp: 0 }],
  meter: [{ beat: 0, num: 4, den: 4 }],
  quantum: 0,
  countIn: 0,
  madeAt: 0,
  ...fields,
});
const playing = (version) => timeline({ version, segments: [{ ...timeline().segments[0], rate: 1 }] });

/** A payload without its `commandId`, time limit and token. */
const unnamed = ({ commandId, notAfterServerMs, token, ...payload }) => payload;

/** A server in the same process. The test reads what the client sends and decides the answers. */
function stage() {
  const sockets = [];
  const server = {
    sockets,
    serverClock: () => performance.now() + 5_000_000,
    /** Maps an event name to its answer: a value, or a function of the payload. */
    answers: {
      join_session: () => {
        server.event("snapshot", server.snapshot);
        return { ok: true };
      },
      clock_sync: ({ t0 }) => ({ ok: true, t0, t1: server.serverClock(), t2: server.serverClock() }),
    },
    snapshot: { sessionId: "stage", leaderSocketId: "sid-1", members: [{ socketId: "sid-1", displayName: "Ada" }], timeline: timeline() },
    sent: [],
    connect: (n) => `0{"sid":"e${n}","upgrades":[],"pingInterval":2500,"pingTimeout":5000,"maxPayload":1000000}`,
    event: (...args) => sockets.at(-1).deliver(`42${JSON.stringify(args)}`),
    events: (name) => server.sent.filter((e) => e.name === name),
  };
  class FakeWebSocket {
    readyState = 0;
    raw = [];

    constructor(url) {
      this.url = url;
      sockets.push(this);
      this.n = sockets.length;
      queueMicrotask(() => {
        if (server.down) return this.drop();
        this.readyState = 1;
        return this.deliver(server.connect(this.n));
      });
    }

    send(text) {
      this.raw.push(text);
      if (text.startsWith("40")) return queueMicrotask(() => this.deliver(`40${JSON.stringify({ sid: `sid-${this.n}`, ...server.connected })}`));
      const event = /^42(\d*)(.*)$/.exec(text);
      if (!event) return undefined;
      const [name, payload] = JSON.parse(event[2]);
      server.sent.push({ name, payload, socket: this.n });
      return queueMicrotask(() => {
        const answer = server.answers[name];
        const value = typeof answer === "function" ? answer(payload) : answer;
        if (value !== undefined && event[1] !== "") this.deliver(`43${event[1]}${JSON.stringify([value])}`);
      });
    }

    deliver(data) {
      if (this.readyState === 1) this.onmessage({ data });
    }

    close() {
      this.drop();
    }

    drop() {
      if (this.readyState === 3) return;
      this.readyState = 3;
      this.onclose?.({});
    }
  }
  server.WebSocket = FakeWebSocket;
  return server;
}

function member(server, options = {}) {
  return new BandSync({ url: "http://127.0.0.1:3001", name: "Ada", WebSocket: server.WebSocket, backoff: { least: 1, most: 2 }, ...options });
}

const once = (band, type) => new Promise((resolve) => band.addEventListener(type, resolve, { once: true }));

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function onStage(run, options) {
  const server = stage();
  const band = member(server, options);
  try {
    await band.join();
    await run(server, band);
  } finally {
    band.leave();
  }
}

test("joins over Socket.IO with name, role and no ticks, and names its session to balancers", () =>
  onStage(async (server, band) => {
    assert.equal(server.sockets[0].url, "ws://127.0.0.1:3001/socket.io/?EIO=4&transport=websocket&sessionId=stage");
    assert.deepEqual(unnamed(server.events("join_session")[0].payload), { sessionId: "stage", role: "follower", tickHz: 0, displayName: "Ada" });
    assert.equal(band.status, "online");
    assert.equal(band.id, "sid-1");
    assert.equal(band.isLeader, true);
    assert.equal(band.leader.displayName, "Ada");
  }));

test("a screen that comes back before the members waits for the session", () =>
  onStage(async (server, band) => {
    let refused = false;
    band.addEventListener("refused", () => (refused = true));
    const joined = server.answers.join_session;
    server.answers.join_session = { ok: false, error: { code: "session_not_found", message: "no such session" } };
    server.sockets.at(-1).drop();
    await until(() => server.sockets.length > 3);
    assert.deepEqual([band.status, refused], ["reconnecting", false]);
    server.answers.join_session = joined;
    await until(() => band.status === "online");
  }, { view: "screen" }));

test("a rejected join throws code, message and field, and does not retry", async () => {
  const server = stage();
  server.answers.join_session = { ok: false, error: { code: "session_full", message: "256 members", field: "sessionId" } };
  const band = member(server);
  await assert.rejects(band.join(), (error) => {
    assert.ok(error instanceof BandSyncError);
    assert.deepEqual([error.code, error.message, error.field], ["session_full", "256 members", "sessionId"]);
    return true;
  });
  assert.equal(band.status, "closed");
  assert.equal(server.sockets[0].readyState, 3);
});

test("answers Engine.IO pings, the event ping, and requests of the server for an acknowledgement", () =>
  onStage(async (server) => {
    const [socket] = server.sockets;
    socket.deliver("2");
    assert.equal(socket.raw.at(-1), "3");
    server.event("ping", { timestamp: 77 });
    assert.deepEqual(server.events("pong")[0].payload, { timestamp: 77 });
    socket.deliver('4212["cue",{"text":"cut"}]');
    assert.equal(socket.raw.at(-1), "4312[]");
  }));

test("commands resolve with the acknowledgement or reject with the server's reason", () =>
  onStage(async (server, band) => {
    server.answers.play = { ok: true, timeline: playing(2) };
    assert.equal((await band.play({ countInBars: 1 })).ok, true);
    assert.deepEqual(unnamed(server.events("play")[0].payload), { sessionId: "stage", countInBars: 1 });
    assert.equal(band.timeline.version, 2);
    server.answers.seek = { ok: false, error: { code: "not_leader", message: "only the leader may" } };
    await assert.rejects(band.seek(1000), { code: "not_leader", message: "only the leader may" });
    server.answers.tempo_change = { ok: true };
    await band.setTempo(98.5, 2000);
    assert.deepEqual(unnamed(server.events("tempo_change")[0].payload), { sessionId: "stage", tempo: 98.5, fadeTime: 2000 });
  }));

test("a command in flight when the connection ends for good is rejected, and so is one without a connection", (t) =>
  onStage(async (server, band) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const [pending, question] = [band.pause(), band.request("get_song", { songId: "one" })];
    server.down = true;
    server.sockets[0].drop();
    await assert.rejects(question, { code: "offline" });
    await assert.rejects(band.pause(), { code: "offline" });
    t.mock.timers.tick(5_000);
    await assert.rejects(pending, { code: "offline" });
    t.mock.timers.reset();
  }));

test("a command in flight when the member leaves is rejected at once", async () => {
  const server = stage();
  const band = member(server);
  await band.join();
  const pending = band.pause();
  server.down = true;
  server.sockets[0].drop();
  band.leave();
  await assert.rejects(pending, { code: "offline" });
});

test("commands whose answers are lost are sent again in order, with the same ids, before newer ones", () =>
  onStage(async (server, band) => {
    const asked = [band.play(), band.seek(7_000)];
    const back = once(band, "status");
    server.sockets[0].drop();
    server.answers.play = { ok: true, epoch: 1, version: 3, repeated: true };
    server.answers.seek = { ok: true, epoch: 1, version: 3 };
    server.answers.pause = { ok: true };
    await back;
    assert.deepEqual((await Promise.all(asked)).map((ack) => ack.repeated), [true, undefined]);
    await band.pause();
    const commands = server.sent.filter(({ payload }) => payload.commandId);
    assert.deepEqual(commands.map(({ name, socket }) => [name, socket]), [["play", 1], ["seek", 1], ["play", 2], ["seek", 2], ["pause", 2]]);
    const names = commands.map(({ payload }) => /^[a-z0-9]{24}-(\d)$/.exec(payload.commandId)[1]);
    assert.deepEqual(names, ["1", "2", "1", "2", "3"]);
    const second = server.sent.filter(({ socket }) => socket === 2).map(({ name }) => name);
    assert.ok(second.indexOf("join_session") < second.indexOf("play"), "in the session again");
  }));

test("commands that change the music have two seconds, once the server's clock is known", () =>
  onStage(async (server, band) => {
    server.answers.play = server.answers.select_song = server.answers.chat_message = { ok: true };
    await until(() => band.clock.now() !== null);
    const before = band.clock.now();
    await band.play();
    await band.request("select_song", { step: 1, notAfterServerMs: 7 });
    await band.chat("hi");
    const limit = (name) => server.events(name)[0].payload.notAfterServerMs;
    assert.ok(limit("play") >= Math.round(before) + 2000 && limit("play") <= band.clock.now() + 2001, `${limit("play")}`);
    assert.equal(limit("select_song"), 7, "a limit of the caller");
    assert.equal(limit("chat_message"), undefined);
  }));

test("a command that timed out is never sent again", (t) =>
  onStage(async (server, band) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const pending = band.pause();
    t.mock.timers.tick(5_000);
    await assert.rejects(pending, { code: "timeout" });
    t.mock.timers.reset();
    const back = once(band, "status");
    server.sockets.at(-1).drop();
    await back;
    await until(() => band.status === "online");
    server.answers.stop = { ok: true };
    await band.stop();
    assert.equal(server.events("pause").length, 1);
    assert.equal(server.events("stop").length, 1);
  }));

test("an aborted command rejects with the signal's reason, and is not sent again", () =>
  onStage(async (server, band) => {
    const stopped = new AbortController();
    const pending = band.pause({ signal: stopped.signal });
    stopped.abort(new Error("another song"));
    await assert.rejects(pending, { message: "another song" });
    assert.deepEqual(unnamed(server.events("pause")[0].payload), { sessionId: "stage" });
    await assert.rejects(band.stop({ signal: stopped.signal }), { message: "another song" });
    assert.equal(server.events("stop").length, 0, "a signal that has aborted sends nothing");
    server.sockets.at(-1).drop();
    await until(() => server.sockets.length === 2 && band.status === "online");
    server.answers.seek = { ok: true };
    await band.seek(1000);
    assert.equal(server.events("pause").length, 1);
  }));

test("an aborted join leaves", async () => {
  const server = stage();
  delete server.answers.join_session;
  const band = member(server);
  const stopped = new AbortController();
  const joining = band.join({ signal: stopped.signal });
  await until(() => server.events("join_session").length === 1);
  stopped.abort();
  await assert.rejects(joining, { name: "AbortError" });
  assert.equal(band.status, "closed");
  await assert.rejects(band.join({ signal: stopped.signal }), { name: "AbortError" });
  assert.equal(server.sockets.length, 1);
});

test("a rejection has the numbers of the server's error", () =>
  onStage(async (server, band) => {
    server.answers.set_setlist = { ok: false, error: { code: "too_large", message: "too long", bytes: 5, max: 4 } };
    const error = await band.setSetlist({ title: "", songs: [] }).catch((rejected) => rejected);
    assert.deepEqual({ ...error }, { name: "BandSyncError", code: "too_large", bytes: 5, max: 4 });
  }));

test("joins with one token, also after a lost connection, until it leaves", async () => {
  const server = stage();
  const band = member(server);
  assert.equal(band.token, null);
  await band.join();
  const { token } = band;
  assert.match(token, /^[A-Za-z0-9_-]{22}$/);
  server.sockets[0].drop();
  await until(() => server.events("join_session").length === 2 && band.status === "online");
  band.leave();
  await band.join();
  band.leave();
  const tokens = server.events("join_session").map(({ payload }) => payload.token);
  assert.deepEqual(tokens.slice(0, 2), [token, token]);
  assert.notEqual(tokens[2], token, "the server has forgotten it");
  const kept = member(server, { token });
  await kept.join();
  kept.leave();
  assert.equal(server.events("join_session").at(-1).payload.token, token);
});

test("an aborted join keeps its token", async () => {
  const server = stage();
  server.down = true;
  const storage = memory();
  const band = member(server, { storage });
  await assert.rejects(band.join({ signal: AbortSignal.timeout(5) }), { name: "TimeoutError" });
  server.down = false;
  const { token } = band;
  const later = member(server, { storage });
  await later.join();
  assert.equal(later.token, token);
  later.leave();
});

test("a replaced member stays away until it is told to join, with a new token", async () => {
  const server = stage();
  const storage = memory();
  const band = member(server, { storage });
  await band.join();
  const replaced = once(band, "replaced");
  server.event("error", { code: "replaced", event: "join_session", message: "another connection has your seat" });
  assert.equal((await replaced).detail.code, "replaced");
  assert.equal(band.status, "closed");
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(server.sockets.length, 1);
  // The acknowledgement of the first attempt is lost, so the next one repeats both tokens, also after a reload.
  const join = server.answers.join_session;
  server.answers.join_session = () => server.sockets.at(-1).drop();
  const again = band.join();
  await until(() => server.events("join_session").length === 2);
  server.answers.join_session = join;
  await again;
  const [first, second, third] = server.events("join_session").map(({ payload }) => payload);
  assert.equal(first.newToken, undefined);
  assert.equal(second.token, first.token);
  assert.match(second.newToken, /^[A-Za-z0-9_-]{22}$/);
  assert.notEqual(second.newToken, first.token);
  assert.deepEqual([third.token, third.newToken], [second.token, second.newToken]);
  assert.equal(band.token, second.newToken);
  const reloaded = member(server, { storage });
  await reloaded.join();
  const last = server.events("join_session").at(-1).payload;
  assert.deepEqual([last.token, last.newToken], [second.newToken, undefined]);
  reloaded.leave();
  band.leave();
});

test("each method sends its event with its fields, and further ones", () =>
  onStage(async (server, band) => {
    const song = { id: "1", title: "One", format: "text", body: "" };
    const calls = [
      [() => band.play({ countInBars: 2 }), "play", { countInBars: 2 }],
      [() => band.pause(), "pause", {}],
      [() => band.stop(), "stop", {}],
      [() => band.seek(5, { atServerMs: 7 }), "seek", { position: 5, atServerMs: 7 }],
      [() => band.seekBeat(32, { at: "bar" }), "seek", { beat: 32, at: "bar" }],
      [() => band.loop(0, 8), "loop", { from: 0, to: 8 }],
      [() => band.releaseLoop(), "loop", { from: null }],
      [() => band.cancel(), "cancel", {}],
      [() => band.nudge(-4), "nudge", { beats: -4 }],
      [() => band.one(7), "one", { atServerMs: 7 }],
      [() => band.setTempo(90), "set_tempo", { tempo: 90 }],
      [() => band.setTempo(90, 400), "tempo_change", { tempo: 90, fadeTime: 400 }],
      [() => band.setTimeSignature(6, 8), "set_time_signature", { numerator: 6, denominator: 8 }],
      [() => band.takeLead(), "set_role", { role: "leader" }],
      [() => band.follow(), "set_role", { role: "follower" }],
      [() => band.handOver("sid-2"), "set_role", { role: "leader", memberId: "sid-2" }],
      [() => band.requestLead(), "request_leader", {}],
      [() => band.approveLead("sid-2"), "approve_leader_request", { requesterId: "sid-2" }],
      [() => band.denyLead("sid-2"), "deny_leader_request", { requesterId: "sid-2" }],
      [() => band.sync(), "sync_request", {}],
      [() => band.chat("hi"), "chat_message", { message: "hi" }],
      [() => band.setMessage(""), "update_message", { message: "" }],
      [() => band.updateSettings({ passcode: null }), "update_settings", { passcode: null }],
      [() => band.cue("go", { target: "drums" }), "cue", { text: "go", target: "drums" }],
      [() => band.setSetlist({ title: "", songs: [song] }), "set_setlist", { setlist: { title: "", songs: [song] } }],
      [() => band.setMember("sid-2", { mayEdit: true }), "set_member", { memberId: "sid-2", mayEdit: true }],
      [() => band.editSetlist([{ op: "retitle", title: "x" }]), "edit_setlist", { ops: [{ op: "retitle", title: "x" }] }],
      [() => band.setlist(), "get_setlist", {}],
      [() => band.selectSong("1"), "select_song", { songId: "1" }],
      [() => band.stepSong(-1), "select_song", { step: -1 }],
      [() => band.song("1"), "get_song", { songId: "1" }],
      [() => band.reportBeat(4, 99), "beat_sync", { beatPosition: 4, masterTime: 99 }],
      [() => band.connectionQuality(), "connection_quality", {}],
    ];
    for (const [call, event, fields] of calls) {
      server.answers[event] = { ok: true, song };
      const answer = await call();
      assert.deepEqual(unnamed(server.events(event).at(-1).payload), { sessionId: "stage", ...fields }, event);
      if (event === "get_song") assert.deepEqual(answer, song);
    }
    server.answers.position_sync = server.answers.latency_probe = { ok: true };
    await band.reportPosition(1000);
    assert.equal(server.events("position_sync")[0].payload.positionMs, 1000);
    assert.ok((await band.measureLatency()) >= 0);
  }));

test("a set list that is longer than a message goes in pieces", () =>
  onStage(async (server, band) => {
    const song = (n) => ({ id: `s${n}`, title: "x", format: "text", body: "é".repeat(30_000) });
    const songs = Array.from({ length: 40 }, (_, n) => song(n));
    server.answers.set_setlist = { ok: true, epoch: 1, version: 1 };
    server.answers.edit_setlist = { ok: true, epoch: 1, version: 2, revision: 2 };
    assert.equal((await band.setSetlist({ title: "x", songs })).revision, 2);
    const [{ payload: whole }] = server.events("set_setlist");
    const edits = server.events("edit_setlist").map(({ payload }) => payload.ops);
    assert.equal(whole.setlist.title, "x");
    assert.ok(whole.setlist.songs.length > 10 && edits.length > 1);
    for (const ops of edits) assert.ok(ops.every(({ op }) => op === "add"));
    assert.deepEqual([...whole.setlist.songs, ...edits.flat().map((op) => op.song)], songs);
    const short = Array.from({ length: 300 }, (_, n) => ({ ...song(n), body: n < 2 ? "x".repeat(600_000) : "" }));
    await band.setSetlist({ title: "y", songs: short });
    assert.ok(server.events("edit_setlist").every(({ payload }) => payload.ops.length <= 100));
  }));

test("asks for songs until it has all", () =>
  onStage(async (server, band) => {
    server.answers.get_songs = ({ songIds = ["1", "2", "3"] }) => ({
      ok: true, revision: 1, songs: [{ id: songIds[0] }], more: songIds.slice(1),
    });
    assert.deepEqual(await band.songs(), [{ id: "1" }, { id: "2" }, { id: "3" }]);
    assert.deepEqual(await band.songs(["3", "1"]), [{ id: "3" }, { id: "1" }]);
  }));

test("applies edits of the set list to the revision that it holds", () => {
  const songs = ["a", "b", "c"].map((id) => ({ id }));
  const list = { revision: 4, title: "x", songs };
  const edit = (...ops) => {
    const { songs: after, ...rest } = editedSetlist(list, { revision: 5, base: 4, ops });
    return [after.map((song) => song.id + (song.title ?? "")).join(""), rest];
  };
  assert.equal(editedSetlist(list, { revision: 6, base: 5, ops: [] }), null);
  assert.deepEqual(edit({ op: "retitle", title: "y" }), ["abc", { revision: 5, title: "y" }]);
  for (const [op, after] of [
    [{ op: "add", song: { id: "d" } }, "abcd"],
    [{ op: "add", song: { id: "d" }, before: "b" }, "adbc"],
    [{ op: "add", song: { id: "d" }, before: "gone" }, "abcd"],
    [{ op: "replace", song: { id: "b", title: "!" }, was: 1 }, "ab!c"],
    [{ op: "move", songId: "a" }, "bca"],
    [{ op: "move", songId: "c", before: "b" }, "acb"],
    [{ op: "move", songId: "b", before: "b" }, "abc"],
    [{ op: "move", songId: "gone", before: "b" }, "abc"],
    [{ op: "remove", songId: "b", was: 1 }, "ac"],
  ]) assert.equal(edit(op)[0], after, JSON.stringify(op));
});

test("keeps rights and the revision of the set list current", () =>
  onStage(async (server, band) => {
    const [member] = band.members;
    server.event("session_update", { sessionId: "stage", member: { ...member, mayEdit: true } });
    assert.equal(band.members[0].mayEdit, true);
    server.event("session_update", { sessionId: "stage", member });
    assert.equal(band.members[0].mayEdit, undefined);
    assert.equal(band.snapshot.member, undefined);
    server.event("setlist_changed", { sessionId: "stage", revision: 7, base: 6, ops: [] });
    assert.equal(band.snapshot.setlistRevision, 7);
  }));

test("keeps the newest timeline of any event, and ignores a malformed one", () =>
  onStage(async (server, band) => {
    server.event("play", { sessionId: "stage", timeline: playing(5) });
    server.event("pause", { sessionId: "stage", timeline: timeline({ version: 4 }) });
    server.event("seek", { sessionId: "stage", timeline: { epoch: 9, version: 9, segments: [] } });
    server.event("stop", { sessionId: "other", timeline: timeline({ version: 99 }) });
    server.event("snapshot", { ...server.snapshot, timeline: timeline({ version: 3 }) });
    assert.equal(band.timeline.version, 5);
    server.event("snapshot", { ...server.snapshot, timeline: timeline({ epoch: 2, version: 0 }) });
    assert.equal(band.timeline.epoch, 2);
  }));

test("a tick that is newer than the timeline causes one sync_request", () =>
  onStage(async (server, band) => {
    server.answers.sync_request = { ok: true, timeline: playing(8) };
    server.event("scroll_tick", { sessionId: "stage", epoch: 1, version: 8 });
    server.event("scroll_tick", { sessionId: "stage", epoch: 1, version: 8 });
    await until(() => band.timeline.version === 8);
    assert.equal(server.events("sync_request").length, 1);
  }));

test("a change that it hears of right after a sync_request is requested too", () =>
  onStage(async (server, band) => {
    let version = 8;
    server.answers.sync_request = () => ({ ok: true, timeline: playing(version) });
    server.event("setlist_changed", { sessionId: "stage", epoch: 1, version: 8, revision: 1, base: 0, ops: [] });
    await until(() => band.timeline.version === 8);
    version = 9;
    server.event("setlist_changed", { sessionId: "stage", epoch: 1, version: 9, revision: 2, base: 1, ops: [] });
    await until(() => band.timeline.version === 9);
    assert.equal(server.events("sync_request").length, 2);
  }));

test("keeps the list of members and the leader current", () =>
  onStage(async (server, band) => {
    const names = () => band.members.map((m) => `${m.displayName}:${m.role}`);
    server.event("user_joined", { member: { socketId: "b", displayName: "Bob", role: "follower" }, memberCount: 2 });
    server.event("role_changed", { socketId: "b", role: "leader", previousRole: "follower" });
    assert.deepEqual(names(), ["Ada:follower", "Bob:leader"]);
    assert.equal(band.isLeader, false);
    server.event("user_left", { socketId: "b", newLeader: "sid-1" });
    assert.deepEqual(names(), ["Ada:leader"]);
    assert.equal(band.isLeader, true);
  }));

test("counts the members that a large session does not list", () =>
  onStage(async (server, band) => {
    assert.equal(band.memberCount, band.members.length, "as long as all are named");
    server.event("snapshot", { ...server.snapshot, memberCount: 300 });
    assert.equal(band.memberCount, 300);
    let changes = 0;
    band.addEventListener("change", () => (changes += 1));
    for (const memberCount of [302, 302, 301]) server.event("room_stats", { sessionId: "stage", memberCount });
    assert.deepEqual([band.memberCount, changes], [301, 2]);
    server.event("user_left", { socketId: "b", memberCount: 256, newLeader: null });
    assert.equal(band.memberCount, 256);
    server.event("snapshot", server.snapshot);
    assert.equal(band.memberCount, band.members.length, "all are named again");
  }));

test("plays on while the connection is lost, and joins again with the same name and role", () =>
  onStage(async (server, band) => {
    server.event("play", { sessionId: "stage", timeline: playing(2) });
    await until(() => band.position() !== null);
    const before = band.position();
    server.down = true;
    server.sockets[0].drop();
    assert.equal(band.status, "reconnecting");
    await until(() => server.sockets.length >= 4);
    assert.ok(band.position() > before);
    server.down = false;
    server.snapshot = { ...server.snapshot, leaderSocketId: "sid-9", timeline: timeline({ epoch: 1, version: 0 }) };
    await until(() => band.status === "online");
    const again = server.events("join_session").at(-1).payload;
    assert.deepEqual([again.displayName, again.role], ["Ada", "leader"]);
    assert.equal(band.timeline.version, 0, "a restarted server starts from version 0");
  }));

test("a server that was started again is believed when its clock is known", () =>
  onStage(async (server, band) => {
    await until(() => band.clock.ready);
    const old = band.timeline;
    const { clock_sync: clock } = server.answers;
    server.answers.clock_sync = undefined;
    server.snapshot = { ...server.snapshot, timeline: timeline({ epoch: 2 }) };
    server.sockets.at(-1).drop();
    const rejoined = once(band, "snapshot");
    await rejoined;
    server.event("session_update", { sessionId: "stage", timeline: timeline({ epoch: 2, version: 2 }) });
    assert.equal(band.timeline, old, "times of the new timeline mean nothing by the old clock");
    // Its clock began anew.
    server.serverClock = () => performance.now() - 5_000_000;
    server.answers.clock_sync = clock;
    await until(() => band.timeline !== old);
    assert.deepEqual([band.timeline.epoch, band.timeline.version], [2, 2]);
    assert.ok(band.serverMicros() < 0, "and the clock is the new one");
  }));

test("a leader that was away for longer than the grace period asks for no role", async () => {
  let asleep = 0;
  await onStage(
    async (server, band) => {
      server.down = true;
      server.sockets[0].drop();
      await until(() => server.sockets.length >= 2);
      asleep = 11_000;
      server.down = false;
      await until(() => band.status === "online");
      assert.equal("role" in server.events("join_session").at(-1).payload, false);
    },
    { now: () => performance.now() + asleep },
  );
});

test("asks for connection state recovery and, recovered, does not join again", () =>
  onStage(async (server, band) => {
    server.connected = { pid: "p1" };
    server.sockets[0].drop();
    await until(() => server.events("join_session").length === 2 && band.status === "online");
    server.sockets.at(-1).deliver('42["cue",{"text":"x"},"offset-7"]');
    server.answers.sync_request = { ok: true };
    server.sockets.at(-1).drop();
    await until(() => band.status === "online");
    assert.equal(server.sockets.at(-1).raw[0], '40{"pid":"p1","offset":"offset-7"}');
    assert.equal(server.events("join_session").length, 2);
    assert.equal(server.events("sync_request").length, 1);
  }));

test("reconnects and joins again after a goodbye of the server", () =>
  onStage(async (server, band) => {
    server.event("error", { code: "draining", message: "restarting" });
    server.sockets[0].deliver("41");
    assert.equal(band.status, "reconnecting");
    await until(() => band.status === "online");
    assert.equal(server.events("join_session").length, 2);
  }));

test("a rejected rejoin ends the connection with a reason", () =>
  onStage(async (server, band) => {
    server.answers.join_session = { ok: false, error: { code: "bad_passcode", message: "changed" } };
    const refused = once(band, "refused");
    server.sockets[0].drop();
    assert.equal((await refused).detail.code, "bad_passcode");
    assert.equal(band.status, "closed");
  }));

test("an invalid packet from the server closes the connection, and the client reconnects", () =>
  onStage(async (server, band) => {
    for (const nonsense of ["9", "", "42{", "4", "40[]", '42[1]']) {
      const count = server.sockets.length;
      server.sockets.at(-1).deliver(nonsense);
      await until(() => server.sockets.length > count && band.status === "online");
    }
  }));

test("closes the connection of a silent server", async () => {
  const server = stage();
  server.connect = () => '0{"sid":"e","pingInterval":5,"pingTimeout":5}';
  const band = member(server);
  await band.join();
  await until(() => server.sockets.length > 1);
  band.leave();
});

test("computes position and beat from the timeline at the server's time", () =>
  onStage(async (server, band) => {
    assert.equal(band.isPlaying, false);
    assert.equal(band.nextBarAt(), null);
    const t0 = Math.floor(server.serverClock() * 1000) - 3_250_000;
    const segments = [{ t0, p0: 10_000_000, b0: 0, rate: 1, bpm0: 120_000, bpm1: 120_000, ramp: 0 }];
    server.event("play", { sessionId: "stage", timeline: timeline({ version: 3, segments }) });
    await until(() => band.position() !== null);
    const expected = 10_000 + (server.serverClock() * 1000 - t0) / 1000;
    const position = band.position();
    const { bar, beat, num, tempoBpm } = band.beat();
    const late = 10_000 + (server.serverClock() * 1000 - t0) / 1000;
    const { bound } = band.clock;
    assert.ok(position >= expected - bound && position <= late + bound, `${expected} <= ${position} <= ${late}, bound ${bound}`);
    assert.deepEqual([bar, num, tempoBpm], [2, 4, 120]);
    assert.ok(beat >= 3);
    const next = band.nextBarAt();
    assert.equal((next - t0 / 1000) % 2000, 0, "bars of two seconds");
    assert.ok(next > server.serverClock() - bound && next < server.serverClock() + 2000 + bound);
    const [first] = band.beatsBetween(t0 / 1000, t0 / 1000 + 100);
    assert.deepEqual(first, { beat: 0, atServerMs: t0 / 1000, isDownbeat: true });
  }));

test("knows the pass of a loop, and counts the bars of a count-in back from the start", () =>
  onStage(async (server, band) => {
    const segment = { p0: 0, rate: 1, bpm0: 60_000, bpm1: 60_000, ramp: 0 };
    const show = async (version, ago, fields) => {
      const t0 = Math.floor(server.serverClock() * 1000) - ago;
      server.event("session_update", { sessionId: "stage", timeline: timeline({ version, segments: [{ ...segment, t0, ...fields }] }) });
      await until(() => band.beat() !== null);
      return band.beat();
    };
    const loop = { from: 4e6, to: 12e6, p: 4e6 };
    const looped = await show(3, 21_500_000, { b0: 0, loop });
    assert.deepEqual([looped.pass, Math.floor(looped.songBeat), looped.bar, looped.beat, looped.countIn], [3, 5, 2, 2, false]);
    assert.ok(Math.abs(band.position() - 5500) < 400, `${band.position()} ms`);
    const counted = await show(4, 1_500_000, { b0: 56e6, start: 64e6 });
    assert.deepEqual([counted.pass, counted.bar, counted.beat, counted.countIn], [0, -1, 2, true]);
  }));

test("leaving disconnects and does not reconnect", async () => {
  const server = stage();
  const band = member(server);
  await band.join();
  band.leave();
  assert.equal(server.events("leave_session").length, 1);
  assert.equal(server.sockets[0].raw.at(-1), "41");
  assert.equal(band.status, "closed");
  await assert.rejects(band.play(), { code: "offline" });
  assert.equal(server.sockets.length, 1);
});

test("a step of the clock is corrected before the next bar line", () =>
  onStage(async (server, band) => {
    // A bar of 32 seconds.
    const began = Math.floor(server.serverClock() * 1000);
    const segments = [{ ...timeline().segments[0], t0: began, rate: 1, bpm0: 30_000, bpm1: 30_000 }];
    const meter = [{ beat: 0, num: 16, den: 4 }];
    server.event("snapshot", { ...server.snapshot, timeline: timeline({ version: 2, segments, meter }) });
    await until(() => band.clock.now() !== null && band.clock.samples >= 20);
    const { serverClock } = server;
    server.serverClock = () => serverClock() + 100;
    const error = () => Math.abs(band.clock.now() - server.serverClock());
    assert.ok(error() > 90, "the clock does not know yet");
    await until(() => error() < 15 || server.sockets.length > 1);
    assert.deepEqual([server.sockets.length, band.beat().bar], [1, 1], "without a new connection, in the first bar");
  }));
