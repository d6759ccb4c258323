// The leader, while networks fail, members leave and several members want to lead. The music goes
// on.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { band, connected, emit, everyoneReceives, freshSession, join, next, received } from "../support/client.js";
import { assertSameTicks, startServers } from "../support/nodes.js";
import { badNetwork } from "../support/proxy.js";
import { assertDone, assertRefused } from "../support/shape.js";

const CHANGED = { epoch: "number", version: "number" };
const GRACE_MS = 1_000;

let server;
before(async () => (server = await startServers({ env: { LEADER_GRACE: String(GRACE_MS) } })));
after(() => server.stop());

const leads = (socket) => (snapshot) => snapshot.leaderSocketId === socket.id;

/** Checks that all sockets received the same ticks from position `from` on, without a gap. */
function assertMusicWentOn(sockets, from) {
  const [first, ...others] = sockets.map((socket) => received(socket, "scroll_tick").filter((tick) => tick.positionMs >= from));
  for (const ticks of others) assertSameTicks(ticks, first);
  for (let i = 1; i < first.length; i += 1) {
    assert.ok(first[i].positionMs > first[i - 1].positionMs, "each tick has a later position");
    // The position moves exactly with the time, so nothing was left out or played twice.
    const moved = first[i].positionMs - first[i - 1].positionMs;
    const passed = first[i].serverTimestamp - first[i - 1].serverTimestamp;
    assert.ok(Math.abs(moved - passed) <= 1, `moved ${moved} ms in ${passed} ms`);
  }
}

describe("the leader's network fails mid-song", () => {
  test("the music goes on, and the leader returns as leader", async () => {
    const network = await badNetwork(server);
    const sessionId = freshSession("cut");
    const leader = await join(network, sessionId, { displayName: "Ann", role: "leader" }, { reconnection: true, reconnectionDelay: 50 });
    const followers = [await join(server, sessionId, { role: "follower" }), await join(server, sessionId, { role: "follower" })];
    const playing = followers.map((one) => next(one, "scroll_tick"));
    assertDone(await emit(leader, "play", { sessionId }), CHANGED);
    const [{ positionMs }] = await Promise.all(playing);
    const { id } = leader;

    const gone = followers.map((one) => next(one, "snapshot", (s) => s.members.some((m) => m.socketId === id && !m.connected)));
    const back = followers.map((one) => next(one, "snapshot", (s) => s.members.some((m) => m.socketId === id && m.connected)));
    const again = next(leader, "scroll_tick", () => leader.connected && leader.recovered);
    network.cut();
    for (const snapshot of await Promise.all(gone)) assert.equal(snapshot.leaderSocketId, id, "the seat is kept");
    await connected(leader);
    await again;
    assert.equal(leader.recovered, true);
    assert.equal(leader.id, id);
    for (const snapshot of await Promise.all(back)) assert.equal(snapshot.leaderSocketId, id);
    assertDone(await emit(leader, "seek", { sessionId, position: 100_000 }), CHANGED);
    await Promise.all(followers.map((one) => next(one, "scroll_tick", (tick) => tick.positionMs >= 100_000)));
    for (const one of followers) assert.deepEqual(received(one, "role_changed"), []);
    for (const one of followers) assert.deepEqual(received(one, "pause"), []);
    const before = (one) => ({ ...one, received: one.received.slice(0, one.received.findIndex(({ event }) => event === "seek")) });
    assertMusicWentOn(followers.map(before), positionMs);
  });

  test("after the grace period the longest-present member leads, and the music goes on", async () => {
    const network = await badNetwork(server);
    const sessionId = freshSession("election");
    const leader = await join(network, sessionId, { role: "leader" });
    const followers = [];
    for (let i = 0; i < 3; i += 1) followers.push(await join(server, sessionId, { role: "follower" }));
    const playing = followers.map((one) => next(one, "scroll_tick"));
    assertDone(await emit(leader, "play", { sessionId }), CHANGED);
    const [{ positionMs }] = await Promise.all(playing);
    const heirs = await everyoneReceives(followers, "role_changed", ({ role }) => role === "leader", () => network.cut());
    for (const heir of heirs) {
      assert.equal(heir.socketId, followers[0].id);
      assert.equal(heir.reason, "leader_disconnected");
    }
    const left = received(followers[0], "user_left");
    assert.equal(left.length, 1);
    assert.equal(left[0].newLeader, followers[0].id);
    await Promise.all(followers.map((one) => next(one, "scroll_tick")));
    for (const one of followers) assert.deepEqual(received(one, "pause"), []);
    const last = Math.min(...followers.map((one) => received(one, "scroll_tick").at(-1).positionMs));
    const upTo = (one) => ({ received: one.received.filter(({ event, payload }) => event !== "scroll_tick" || payload.positionMs <= last) });
    assertMusicWentOn(followers.map(upTo), positionMs);
    assertDone(await emit(followers[0], "pause", { sessionId }), CHANGED);
  });

  test("with onLeaderLoss \"pause\" the song is paused when the lead passes on", async () => {
    const network = await badNetwork(server);
    const sessionId = freshSession("pause");
    const leader = await join(network, sessionId, { role: "leader" });
    const follower = await join(server, sessionId, { role: "follower" });
    assertDone(await emit(leader, "update_settings", { sessionId, onLeaderLoss: "pause" }), CHANGED);
    assertDone(await emit(leader, "play", { sessionId }), CHANGED);
    await next(follower, "scroll_tick");
    const paused = next(follower, "pause");
    const stands = next(follower, "snapshot", (s) => s.leaderSocketId === follower.id && !s.isPlaying);
    network.cut();
    await Promise.all([paused, stands]);
  });
});

describe("leaderRule", () => {
  test("open: a member that claims the lead receives it", async () => {
    const { sessionId, followers, all } = await band(server, 3);
    const snapshots = everyoneReceives(all, "snapshot", leads(followers[1]), async () =>
      assertDone(await emit(followers[1], "set_role", { sessionId, role: "leader" }), CHANGED),
    );
    await snapshots;
  });

  test("ask: a claim is a request, which the leader approves or denies", async () => {
    const { sessionId, leader, followers, all } = await band(server, 2);
    const [follower] = followers;
    assertDone(await emit(leader, "update_settings", { sessionId, leaderRule: "ask" }), CHANGED);
    for (const answer of ["deny_leader_request", "approve_leader_request"]) {
      const asked = next(leader, "leader_handoff_request");
      const sent = next(follower, "leader_request_sent");
      assertDone(await emit(follower, "set_role", { sessionId, role: "leader" }), { pending: true });
      assert.equal((await asked).requesterId, follower.id);
      assert.equal((await sent).currentLeader, leader.id);
      const outcome = answer.startsWith("deny") ? "leader_request_denied" : "leader_request_approved";
      const heardOutcome = next(follower, outcome);
      const answered = await emit(leader, answer, { sessionId, requesterId: follower.id });
      assert.equal(answered.ok, true);
      await heardOutcome;
    }
    const roles = await emit(follower, "set_tempo", { sessionId, tempo: 99 });
    assertDone(roles, CHANGED);
    assertRefused(await emit(leader, "set_tempo", { sessionId, tempo: 98 }), "not_leader");
    assert.equal(all.length, 2);
  });

  test("pin: only a member that knows the PIN leads, even after the leader has left", async () => {
    const sessionId = freshSession("pin");
    const leader = await join(server, sessionId, { role: "leader", leaderPin: "1234" });
    const guest = await join(server, sessionId, { role: "leader" });
    const second = await join(server, sessionId, { role: "follower", leaderPin: "1234" });
    assertRefused(await emit(guest, "set_role", { sessionId, role: "leader" }), "not_allowed");
    assertRefused(await emit(guest, "join_session", { sessionId, leaderPin: "4321" }), "bad_passcode");
    assertRefused(await emit(guest, "set_role", { sessionId, role: "leader" }), "not_allowed");
    const heir = next(guest, "role_changed", ({ role }) => role === "leader");
    assertDone(await emit(leader, "leave_session", { sessionId }));
    assert.equal((await heir).socketId, second.id, "the guest was present longer, but does not know the PIN");
    assertDone(await emit(guest, "join_session", { sessionId, leaderPin: "1234" }), { socketId: guest.id, role: "follower", sessionId, ...CHANGED });
    assertDone(await emit(guest, "set_role", { sessionId, role: "leader" }), CHANGED);
  });
});

describe("hand-over", () => {
  test("a leader that leaves on purpose hands over at once", async () => {
    const { sessionId, leader, followers } = await band(server, 3);
    const changes = everyoneReceives(followers, "role_changed", ({ role }) => role === "leader", async () =>
      assertDone(await emit(leader, "leave_session", { sessionId })),
    );
    for (const { socketId, reason } of await changes) {
      assert.equal(socketId, followers[0].id);
      assert.equal(reason, "leader_left");
    }
  });

  test("the former leader's late commands change nothing", async () => {
    const { sessionId, leader, followers } = await band(server, 2);
    assertDone(await emit(leader, "set_role", { sessionId, role: "leader", memberId: followers[0].id }), CHANGED);
    for (const [event, fields] of [["play"], ["seek", { position: 5 }], ["set_tempo", { tempo: 50 }]]) {
      assertRefused(await emit(leader, event, { sessionId, ...fields }), "not_leader");
    }
    const { isPlaying, positionMs, tempoBpm } = await emit(leader, "sync_request", { sessionId });
    assert.deepEqual({ isPlaying, positionMs, tempoBpm }, { isPlaying: false, positionMs: 0, tempoBpm: 120 });
  });
});

test("of two claims in one batch window exactly one wins, and both are answered", async () => {
  const wide = await startServers({ env: { BATCH_INTERVAL: "100", SHARDS: "1" } });
  try {
    for (let round = 0; round < 5; round += 1) {
      const { sessionId, followers, all } = await band(wide, 3);
      const claim = (socket) => emit(socket, "set_role", { sessionId, role: "leader" });
      const settled = all.map((socket) => next(socket, "leader_changed"));
      const answers = await Promise.all(followers.map(claim));
      const winner = followers[answers.findIndex((answer) => answer.ok)];
      assert.equal(answers.filter((answer) => answer.ok).length, 1, JSON.stringify(answers));
      assertRefused(answers.find((answer) => !answer.ok), "not_allowed");
      for (const change of await Promise.all(settled)) assert.equal(change.newLeaderId, winner.id);
      for (const socket of all) {
        const { timeline } = await emit(socket, "sync_request", { sessionId });
        assert.equal(timeline.leader, winner.id);
        assert.equal(received(socket, "leader_changed").length, 1);
      }
    }
  } finally {
    await wide.stop();
  }
});
