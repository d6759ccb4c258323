// Every event of a band on a server with three shards: applied, rejected and malformed.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { band, connect, emit, everyoneReceives, freshSession, join, next } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import {
  assertDone,
  assertErrorEvent,
  assertMember,
  assertRefused,
  assertShape,
  assertSnapshot,
  assertTimeline,
} from "../support/shape.js";

let server;
before(async () => (server = await startServers({ env: { SHARDS: "3" } })));
after(() => server.stop());

// Each test has its own band, so tests may run in any order and stay below the rate limits.
const quartet = () => band(server, 4);

/** Checks that an event is rejected in its acknowledgement, and by an `error` event without one. */
async function refusedBothWays(socket, event, payload, code, field) {
  assertRefused(await emit(socket, event, payload), code, field);
  const error = next(socket, "error", (one) => one.event === event);
  socket.emit(event, payload);
  assertErrorEvent(await error, event, code, field);
}

/**
 * Checks a command for the leader alone: rejected from others, and from the leader if malformed.
 */
async function guarded(event, payload, malformed) {
  const { sessionId, leader, followers } = await band(server, 2);
  const stranger = await connect(server);
  const before = await state(leader, sessionId);
  await refusedBothWays(followers[0], event, { sessionId, ...payload }, "not_leader");
  await refusedBothWays(stranger, event, { sessionId, ...payload }, "not_member");
  await refusedBothWays(leader, event, { ...payload }, "invalid_payload", "sessionId");
  for (const [field, values] of Object.entries(malformed)) {
    for (const value of values) {
      const ack = await emit(leader, event, { sessionId, ...payload, [field]: value });
      assertRefused(ack, "invalid_payload", field);
    }
  }
  assert.deepEqual(await state(leader, sessionId), before, "a rejected command changes nothing");
}

/** The state that a rejected command must not change. */
async function state(socket, sessionId) {
  const { positionMs, tempoBpm, isPlaying, epoch, version, timeline } = await sync(socket, sessionId);
  return { positionMs, tempoBpm, isPlaying, epoch, version, timeline };
}

async function sync(socket, sessionId) {
  const answer = next(socket, "sync_response");
  socket.emit("sync_request", { sessionId });
  return answer;
}

describe("join_session", () => {
  test("eight members join, the first one leads, and all receive each join", async () => {
    const sessionId = freshSession("octet");
    const leader = await join(server, sessionId, { displayName: "Ada" });
    assertSnapshot(leader.snapshot);
    assert.equal(leader.snapshot.sessionId, sessionId);
    assert.equal(leader.snapshot.leaderSocketId, leader.id, "the first member leads without asking");

    const all = [leader];
    for (let i = 2; i <= 8; i += 1) {
      const joins = everyoneReceives(all, "user_joined", (one) => one.memberCount === i, () => {});
      const stats = next(leader, "room_stats", (one) => one.memberCount === i);
      const newcomer = await join(server, sessionId, { displayName: `Member ${i}`, role: "follower" });
      for (const payload of await joins) {
        assertMember(payload.member);
        assert.equal(payload.member.displayName, `Member ${i}`);
        assert.equal(payload.member.socketId, newcomer.id);
      }
      assertShape(await stats, {
        sessionId,
        memberCount: i,
        connectedCount: i,
        isPlaying: false,
        tempo: "number",
        position: 0,
        leader: leader.id,
        uptime: "number",
      });
      all.push(newcomer);
    }
    const last = all.at(-1).snapshot;
    assertSnapshot(last);
    assert.equal(last.members.length, 8);
    assert.deepEqual(new Set(last.members.map((member) => member.socketId)), new Set(all.map((one) => one.id)));
    assert.equal(last.leaderSocketId, leader.id);
  });

  test("a member that asks to lead replaces a leader that did not ask", async () => {
    const sessionId = freshSession();
    const first = await join(server, sessionId);
    const change = next(first, "role_changed", (one) => one.role === "leader");
    const second = await join(server, sessionId, { role: "leader" });
    assertShape(await change, { socketId: second.id, role: "leader", previousRole: "string or null", timestamp: "number" });
    assertRefused(await emit(first, "play", { sessionId }), "not_leader");
    assertDone(await emit(second, "play", { sessionId }));
  });

  test("malformed fields are named", async () => {
    const malformed = [
      ["sessionId", undefined, "invalid_payload"],
      ["sessionId", 7, "invalid_payload"],
      ["sessionId", "", "invalid_session_id"],
      ["sessionId", "x".repeat(129), "invalid_session_id"],
      ["sessionId", "line\nbreak", "invalid_session_id"],
      ["displayName", 7, "invalid_payload"],
      ["role", "conductor", "invalid_payload"],
    ];
    for (const [field, value, code] of malformed) {
      const socket = await connect(server);
      const payload = { sessionId: freshSession(), [field]: value };
      await refusedBothWays(socket, "join_session", payload, code, code === "invalid_payload" ? field : undefined);
    }
  });

  test("a payload that is not an object is rejected", async () => {
    for (const payload of [null, 7, "text", [], true]) {
      const socket = await connect(server);
      await refusedBothWays(socket, "join_session", payload, "invalid_payload");
    }
  });

  test("a full session rejects another member and does not change", async () => {
    const small = await startServers({ env: { MAX_SESSION_MEMBERS: "2" } });
    try {
      const { sessionId, leader } = await band(small, 2);
      const third = await connect(small);
      assertRefused(await emit(third, "join_session", { sessionId }), "session_full");
      assertRefused(await emit(third, "chat_message", { sessionId, message: "hello?" }), "not_member");
      assertDone(await emit(leader, "play", { sessionId }));
    } finally {
      await small.stop();
    }
  });
});

describe("play, pause, stop", () => {
  test("play starts all members", async () => {
    const { sessionId, leader, all } = await quartet();
    const snapshots = all.map((one) => next(one, "snapshot", (snapshot) => snapshot.isPlaying));
    const plays = await everyoneReceives(all, "play", undefined, async () =>
      assertDone(await emit(leader, "play", { sessionId })),
    );
    for (const payload of plays) {
      assertShape(payload, { sessionId, tempoBpm: "number", position: 0, serverTimestamp: "number" });
      assertTimeline(payload.timeline);
      assert.deepEqual(payload, plays[0], "all members receive the same payload");
    }
    for (const snapshot of await Promise.all(snapshots)) {
      assertSnapshot(snapshot);
      assert.deepEqual(snapshot.timeline, plays[0].timeline);
    }
  });

  test("pause keeps the position, stop returns to the start", async () => {
    const { sessionId, leader, all } = await quartet();
    assertDone(await emit(leader, "play", { sessionId }));
    await next(all.at(-1), "scroll_tick", (tick) => tick.positionMs > 40);

    const pauses = await everyoneReceives(all, "pause", undefined, () => leader.emit("pause", { sessionId }));
    for (const payload of pauses) {
      assertShape(payload, { sessionId, position: "number", serverTimestamp: "number" });
      assertTimeline(payload.timeline);
      assert.deepEqual(payload, pauses[0]);
    }
    const [{ position }] = pauses;
    assert.ok(position > 40, `paused where it was: ${position}`);
    const paused = await sync(leader, sessionId);
    assertShape(paused, { isPlaying: false, positionMs: position });

    const stops = await everyoneReceives(all, "stop", undefined, () => leader.emit("stop", { sessionId }));
    for (const payload of stops) {
      assertShape(payload, { sessionId, serverTimestamp: "number" });
      assertTimeline(payload.timeline);
    }
    assertShape(await sync(leader, sessionId), { isPlaying: false, positionMs: 0 });
  });

  for (const event of ["play", "pause", "stop"]) {
    test(`${event} is for the leader alone, in its own session`, () => guarded(event, {}, { sessionId: [7, null, {}] }));
  }
});

describe("seek", () => {
  test("all members move to the position, and stay there while paused", async () => {
    const { sessionId, leader, all } = await quartet();
    const seeks = await everyoneReceives(all, "seek", undefined, () => leader.emit("seek", { sessionId, position: 42_000.5 }));
    for (const payload of seeks) {
      assertShape(payload, { sessionId, position: 42_000.5, serverTimestamp: "number" });
      assertTimeline(payload.timeline);
    }
    assertShape(await sync(all[1], sessionId), { isPlaying: false, positionMs: 42_000.5 });
  });

  test("is for the leader alone, with a position from 0 to 24 hours", () =>
    guarded("seek", { position: 1000 }, { position: [undefined, null, "1000", -1, 86_400_001, [], {}] }));
});

describe("tempo", () => {
  test("set_tempo changes the tempo of all members", async () => {
    const { sessionId, leader, all } = await quartet();
    const snapshots = await everyoneReceives(all, "snapshot", (one) => one.tempo === 97.5, async () =>
      assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 97.5 })),
    );
    for (const snapshot of snapshots) {
      assertSnapshot(snapshot);
      assert.equal(snapshot.tempoBpm, 97.5);
    }
  });

  for (const event of ["tempo_change", "tempo_changed"]) {
    test(`${event} sends the old and the new tempo to all members`, async () => {
      const { sessionId, leader, all } = await quartet();
      const old = leader.snapshot.tempoBpm;
      const changes = await everyoneReceives(all, event, undefined, () => leader.emit(event, { sessionId, tempo: 150 }));
      for (const payload of changes) {
        assertShape(payload, {
          sessionId,
          oldTempo: old,
          newTempo: 150,
          changeTime: "number",
          fadeTime: "number",
          serverTimestamp: "number",
          ...(event === "tempo_changed" && { isRealTime: true }),
        });
        assertTimeline(payload.timeline);
      }
    });
  }

  const tempi = { tempo: [undefined, null, "120", 0.9, 400.1, -5, [], {}] };
  for (const event of ["set_tempo", "tempo_change", "tempo_changed"]) {
    test(`${event} is for the leader alone, from 1 to 400 BPM`, () => guarded(event, { tempo: 1 }, tempi));
  }
});

describe("set_role", () => {
  test("role leader takes the lead at once, and all members are notified", async () => {
    const { sessionId, leader, followers, all } = await quartet();
    const changes = all.map((one) => next(one, "role_changed", (change) => change.role === "leader"));
    const snapshots = await everyoneReceives(all, "snapshot", (one) => one.leaderSocketId === followers[1].id, async () =>
      assertDone(await emit(followers[1], "set_role", { sessionId, role: "leader" })),
    );
    for (const change of await Promise.all(changes)) {
      assertShape(change, { socketId: followers[1].id, role: "leader", previousRole: "follower", timestamp: "number" });
    }
    for (const snapshot of snapshots) {
      assertSnapshot(snapshot);
      const leaders = snapshot.members.filter((member) => member.role === "leader");
      assert.deepEqual(leaders.map((member) => member.socketId), [followers[1].id], "exactly one leads");
    }
    assertRefused(await emit(leader, "play", { sessionId }), "not_leader");
    assertDone(await emit(followers[1], "play", { sessionId }));
  });

  test("the leader hands over to a member of its choice", async () => {
    const { sessionId, leader, followers, all } = await quartet();
    await everyoneReceives(all, "snapshot", (one) => one.leaderSocketId === followers[2].id, async () =>
      assertDone(await emit(leader, "set_role", { sessionId, role: "leader", memberId: followers[2].id })),
    );
  });

  test("a follower may not make another member lead", async () => {
    const { sessionId, followers } = await quartet();
    const ack = await emit(followers[0], "set_role", { sessionId, role: "leader", memberId: followers[1].id });
    assertRefused(ack, "not_leader");
  });

  test("set_role accepts known roles only, in the sender's own session", async () => {
    const { sessionId, leader } = await quartet();
    for (const role of [undefined, null, "drummer", 1]) {
      assertRefused(await emit(leader, "set_role", { sessionId, role }), "invalid_payload", "role");
    }
    const stranger = await connect(server);
    await refusedBothWays(stranger, "set_role", { sessionId, role: "leader" }, "not_member");
  });

  test("role_changed sent by a client changes nothing", async () => {
    const { sessionId, leader, followers } = await quartet();
    followers[0].emit("role_changed", { sessionId, socketId: followers[0].id, role: "leader" });
    assertRefused(await emit(followers[0], "play", { sessionId }), "not_leader");
    assertDone(await emit(leader, "play", { sessionId }));
  });
});

describe("leave_session", () => {
  test("the others are notified, and the seat is free", async () => {
    const { sessionId, leader, followers } = await quartet();
    const stats = next(leader, "room_stats", (one) => one.memberCount === 3);
    const lefts = await everyoneReceives([leader, followers[0]], "user_left", undefined, async () =>
      assertDone(await emit(followers[2], "leave_session", { sessionId })),
    );
    for (const payload of lefts) {
      assertShape(payload, { socketId: followers[2].id, memberCount: 3, timestamp: "number" });
      assertShape(payload, { newLeader: "string or null", disconnectReason: "string or null" });
    }
    assertShape(await stats, { sessionId, memberCount: 3, connectedCount: 3 });
    assertRefused(await emit(followers[2], "chat_message", { sessionId, message: "hello" }), "not_member");
  });

  test("a leader that leaves hands over to the longest-present follower", async () => {
    const { sessionId, leader, followers } = await quartet();
    const left = next(followers[1], "user_left");
    leader.emit("leave_session", { sessionId });
    assertShape(await left, { socketId: leader.id, newLeader: followers[0].id });
    assertDone(await emit(followers[0], "play", { sessionId }));
  });

  test("a member cannot leave a session that it is not in", async () => {
    const { sessionId } = await quartet();
    const stranger = await connect(server);
    await refusedBothWays(stranger, "leave_session", { sessionId }, "not_member");
    await refusedBothWays(stranger, "leave_session", {}, "invalid_payload", "sessionId");
  });

  test("the others are notified when a member's connection closes", async () => {
    const { followers, leader } = await quartet();
    const stats = next(leader, "room_stats", (one) => one.connectedCount === 3);
    followers[0].disconnect();
    await stats;
  });
});

describe("sync_request", () => {
  test("answers any member with the state", async () => {
    const { sessionId, leader, followers } = await quartet();
    assertDone(await emit(leader, "play", { sessionId }));
    const answer = await sync(followers[0], sessionId);
    assertShape(answer, {
      sessionId,
      positionMs: "number",
      tempoBpm: "number",
      isPlaying: true,
      serverTime: "number",
      serverTimestamp: "number",
      epoch: "number",
      version: "number",
    });
    assertTimeline(answer.timeline);
    const ack = await emit(followers[1], "sync_request", { sessionId });
    assertDone(ack, { sessionId, positionMs: "number", isPlaying: true, version: answer.version });
    assert.deepEqual(ack.timeline, answer.timeline);
  });

  test("rejects strangers and malformed requests", async () => {
    const { sessionId, leader } = await quartet();
    const stranger = await connect(server);
    await refusedBothWays(stranger, "sync_request", { sessionId }, "not_member");
    await refusedBothWays(leader, "sync_request", { sessionId: 5 }, "invalid_payload", "sessionId");
  });
});

describe("clocks", () => {
  test("latency_probe is answered to its sender at once, member or not", async () => {
    const socket = await connect(server);
    const answer = next(socket, "latency_response");
    const before = Date.now();
    socket.emit("latency_probe", { timestamp: 1234.5 });
    const payload = await answer;
    assertShape(payload, { clientTimestamp: 1234.5, serverTimestamp: "number", t1: "number", t2: "number" });
    assert.ok(payload.t1 < payload.t2, "the answer is sent after the probe was received");
    // The server smooths its wall clock, so it may differ from this one by a little.
    assert.ok(payload.serverTimestamp > before - 1000 && payload.serverTimestamp < Date.now() + 1000);
    assertDone(await emit(socket, "latency_probe", { timestamp: 1 }), { clientTimestamp: 1, serverTimestamp: "number" });
  });

  test("clock_sync returns the client's timestamp and two of the server", async () => {
    const socket = await connect(server);
    const ack = await emit(socket, "clock_sync", { t0: 17.25 });
    assertDone(ack, { t0: 17.25, t1: "number", t2: "number" });
    const event = next(socket, "clock_sync");
    socket.emit("clock_sync", { t0: 18 });
    const later = await event;
    assertShape(later, { t0: 18, t1: "number", t2: "number" });
    assert.ok(ack.t1 < ack.t2 && ack.t2 <= later.t1 && later.t1 < later.t2, "the server's clock does not go back");
  });

  test("a timestamp that is not a number is rejected", async () => {
    const socket = await connect(server);
    for (const value of [undefined, null, "now", {}]) {
      await refusedBothWays(socket, "latency_probe", { timestamp: value }, "invalid_payload", "timestamp");
      await refusedBothWays(socket, "clock_sync", { t0: value }, "invalid_payload", "t0");
    }
  });
});

describe("messages", () => {
  test("update_message reaches all members and those that join later", async () => {
    const { sessionId, followers, all } = await quartet();
    const message = "Zugabe: “Ännchen” 🎺";
    const snapshots = await everyoneReceives(all, "snapshot", (one) => one.message === message, async () =>
      assertDone(await emit(followers[0], "update_message", { sessionId, message })),
    );
    snapshots.forEach(assertSnapshot);
    const late = await join(server, sessionId);
    assert.equal(late.snapshot.message, message);
  });

  test("chat_message reaches all members with its sender", async () => {
    const { sessionId, followers, all } = await quartet();
    const chats = await everyoneReceives(all, "chat_message", undefined, async () =>
      assertDone(await emit(followers[0], "chat_message", { sessionId, message: "ready?", username: "Bo" })),
    );
    for (const payload of chats) {
      const expected = { sessionId, message: "ready?", username: "Bo", socketId: followers[0].id, timestamp: "number" };
      assertShape(payload, expected);
    }
  });

  for (const event of ["update_message", "chat_message"]) {
    test(`${event} is for members, and cut to 500 characters`, async () => {
      const { sessionId, leader } = await quartet();
      const stranger = await connect(server);
      await refusedBothWays(stranger, event, { sessionId, message: "hi" }, "not_member");
      for (const message of [undefined, null, 7, {}]) {
        assertRefused(await emit(leader, event, { sessionId, message }), "invalid_payload", "message");
      }
      const whole = await emit(leader, event, { sessionId, message: "ü".repeat(500) });
      assertDone(whole);
      assert.equal(whole.cut, undefined);
    });
  }
});

describe("heartbeats", () => {
  test("the server sends event ping, which old clients answer, and counts the pongs", async () => {
    const { leader } = await band(server, 1);
    const ping = await next(leader, "ping");
    assertShape(ping, { timestamp: "number" });
    leader.emit("pong", { timestamp: ping.timestamp });
    const quality = next(leader, "connection_quality");
    leader.emit("connection_quality", {});
    assertShape(await quality, { pongCount: 1 });
  });

  test("heartbeat is always answered", async () => {
    const socket = await connect(server);
    const answer = next(socket, "heartbeat_response");
    socket.emit("heartbeat", { timestamp: 99 });
    assertShape(await answer, {
      timestamp: 99,
      clientTimestamp: 99,
      serverTimestamp: "number",
      rtt: "number or null",
    });
    assertDone(await emit(socket, "heartbeat_response", { timestamp: 1 }));
    await refusedBothWays(socket, "heartbeat", { timestamp: "x" }, "invalid_payload", "timestamp");
  });

  test("connection_quality describes the connection of its sender", async () => {
    const { leader } = await band(server, 1);
    const quality = next(leader, "connection_quality");
    leader.emit("connection_quality", {});
    const payload = await quality;
    assertShape(payload, {
      socketId: leader.id,
      latency: "number or null",
      packetLoss: "number",
      connectionDuration: "number",
      pingCount: "number",
      pongCount: "number",
      timeouts: "number",
      quality: "string",
    });
    assert.ok(["excellent", "good", "fair", "poor", "unknown"].includes(payload.quality), payload.quality);
  });
});

describe("any other event", () => {
  test("an unknown event is rejected, and the member stays", async () => {
    const { sessionId, leader } = await quartet();
    await refusedBothWays(leader, "make_coffee", { sessionId }, "unknown_event");
    assertDone(await emit(leader, "play", { sessionId }));
  });

  test("a command for a session of others is rejected", async () => {
    const { leader } = await band(server, 1);
    const other = await band(server, 1);
    await refusedBothWays(leader, "play", { sessionId: other.sessionId }, "not_member");
  });

  test("an event above its rate is rejected and changes nothing", async () => {
    const { sessionId, leader } = await band(server, 1);
    const warning = next(leader, "rate_limit_exceeded");
    // The rate is 5 per second with a burst of 10. Of 18 events at most 8 are rejected: after 10
    // rejections the server would close the connection.
    const burst = Array.from({ length: 18 }, (_, i) => emit(leader, "update_message", { sessionId, message: `${i}` }));
    const acks = await Promise.all(burst);
    const refused = acks.filter((ack) => !ack.ok);
    assert.ok(refused.length > 0, "eighteen messages at once are too many");
    for (const ack of refused) {
      assertRefused(ack, "rate_limited");
      assert.ok(ack.error.retryAfter > 0 && ack.error.retryAfter <= 200, JSON.stringify(ack));
    }
    assertShape(await warning, { eventType: "update_message", retryAfter: "number" });
    const late = await join(server, sessionId, { role: "follower" });
    assert.equal(late.snapshot.message, `${acks.findLastIndex((ack) => ack.ok)}`, "the last accepted message holds");
  });
});
