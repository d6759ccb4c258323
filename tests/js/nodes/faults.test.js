// Three real nodes of a cluster, while nodes are killed, stopped and drained, and while Redis is
// killed, emptied and frozen. Alone on a machine: a busy one looks like a node that is stopped.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect, emit, freshSession, join, next, received } from "../support/client.js";
import { Nodes, found, ownerOf } from "../support/nodes.js";
import { health, owned } from "../support/owned.js";
import { Redis, until } from "../support/redis.js";
import { assertDone, assertRefused } from "../support/shape.js";
import {
  TICK_MS,
  assertNeverFalls,
  assertUnbroken,
  isLower,
  order,
  play,
  snapshotOf,
  spread,
  startNodes,
  sync,
  ticksSince,
  writable,
} from "../support/spread.js";

describe("a node is lost", () => {
  test("the owner is killed: the music goes on, and another node takes the session over", async (t) => {
    const nodes = owned(await startNodes());
    const token = "lead-token_with-128-bits";
    const band = await spread(nodes);
    const { sessionId, first, leader, third } = band;
    await play(band);
    const home = await join(nodes.all[0], sessionId, { token, role: "leader", displayName: "Boss" });
    const before = await sync(third, sessionId);
    const from = [leader, third].map((one) => one.received.length);
    const [dead] = nodes.all;
    const { id } = first;
    const isFirst = ({ socketId }) => socketId === id;
    const gone = Promise.all([leader, third].map((one) => next(one, "user_left", isFirst)));
    await dead.crash();

    const back = await until("the leader is back on another node", async () => {
      const socket = await connect(nodes.all[2]);
      const ack = await emit(socket, "join_session", { sessionId, token });
      return ack.ok && { socket, ack };
    });
    assert.deepEqual([back.ack.seat, back.ack.role], ["back", "leader"], "the seat is kept by its token");
    const after = await writable(back.socket, sessionId, 77);
    t.diagnostic(`writable ${after.ms} ms after the leader was back`);
    assert.ok(isLower(before, after), `${order(before)} to ${order(after)}`);
    await Promise.all([leader, third].map((one) => next(one, "scroll_tick", (tick) => tick.tempoBpm === 77)));
    await gone;
    for (const [n, one] of [leader, third].entries()) {
      const kept = ticksSince(one, from[n]).filter((tick) => tick.tempoBpm !== 77);
      assertUnbroken(kept, `survivor ${n}`);
      assertNeverFalls(one);
    }
    assert.ok(nodes.living.includes(await ownerOf(nodes, sessionId)));
    assert.equal(home.connected, false);
  });

  test("the owner is killed: a session is writable again when its lease has ended", async (t) => {
    const nodes = owned(await startNodes());
    const band = await spread(nodes);
    await play(band);
    await nodes.all[0].crash();
    const after = await writable(band.leader, band.sessionId, 88);
    t.diagnostic(`writable ${after.ms} ms after the kill`);
    for (const ack of after.answers.slice(0, -1)) assertRefused(ack, "unavailable");
    await nodes.settled();
  });

  test("the owner sleeps until it is replaced: it sends nothing old when it wakes", async () => {
    const nodes = owned(await startNodes());
    const band = await spread(nodes);
    const { sessionId, first, leader, third } = band;
    await play(band);
    const [owner] = nodes.all;
    nodes.pause(owner);
    const after = await writable(leader, sessionId, 66);
    await until("the third member follows", async () => (await sync(third, sessionId)).tempoBpm === 66);
    const from = first.received.length;
    // This command waits in the owner's socket: the new owner carries it out.
    const early = emit(first, "chat_message", { sessionId, message: "early" });
    nodes.wake(owner);
    assertDone(await early);
    await nodes.standing(owner, "full");
    await until("the woken member follows", async () => {
      const stale = first.received.slice(from).find(({ event }) => event === "snapshot");
      return stale ?? first.connected === false;
    });
    const since = first.received.slice(from).filter(({ payload }) => payload?.epoch !== undefined);
    for (const { event, payload } of since) {
      assert.ok(!isLower(payload, after), `${event} of ${order(payload)} is older than ${order(after)}`);
    }
    const again = first.connected ? first : await join(owner, sessionId);
    assertDone(await emit(again, "chat_message", { sessionId, message: "awake" }));
    const texts = (one) => received(one, "chat_message").map(({ message }) => message);
    for (const one of [leader, third, again]) {
      await until("all read both, once", () => texts(one).join() === "early,awake");
      assertNeverFalls(one);
    }
  });

  test("nodes that are drained one after the other lose no session", async (t) => {
    const nodes = owned(await startNodes());
    const band = await spread(nodes);
    const { sessionId, first, leader, third } = band;
    await play(band);
    assertDone(await emit(leader, "update_message", { sessionId, message: "kept" }));
    const goodbye = new Promise((resolve) => first.once("disconnect", resolve));
    const from = [leader, third].map((one) => one.received.length);
    const drain = async (node) => {
      node.signal("SIGTERM");
      const { code, stderr } = await node.exited;
      assert.equal(code, 0, stderr);
    };
    const drained = drain(nodes.all[0]);
    assert.equal(await goodbye, "transport close", "socket.io-client reconnects by itself");
    const after = await writable(leader, sessionId, 120);
    t.diagnostic(`writable ${after.ms} ms after the members of the drained node were told`);
    await drained;
    for (const [n, one] of [leader, third].entries()) {
      await until("ticks of the new epoch", () => ticksSince(one, from[n]).length > 20);
      assertUnbroken(ticksSince(one, from[n]), `member ${n}`);
      assertNeverFalls(one);
    }
    assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 99 }));
    assert.equal(await ownerOf(nodes, sessionId), nodes.all[1], "the leader's node owns the session");
    await drain(nodes.all[1]);
    await until("the last node owns the session", async () => (await ownerOf(nodes, sessionId)) === nodes.all[2]);
    const { message, tempoBpm, isPlaying } = await snapshotOf(third, sessionId);
    assert.deepEqual([message, tempoBpm, isPlaying], ["kept", 99, true]);
    assertNeverFalls(third);
  });
});

describe("Redis is lost", () => {
  for (const [what, args] of [
    ["with its data", ["--appendonly", "yes", "--appendfsync", "always"]],
    ["empty", []],
  ]) {
    test(`killed, and back ${what}: the music goes on, and all sessions are writable again`, async (t) => {
      const nodes = owned(new Nodes(await Redis.start(args)));
      await found(nodes.redis);
      const env = { SCROLL_TICK_INTERVAL: String(TICK_MS) };
      await Promise.all([0, 1, 2].map((n) => nodes.add(`node-${n}`, env)));
      await nodes.settled();
      const band = await spread(nodes);
      const { sessionId, leader, third } = band;
      await play(band);
      const homeId = freshSession("home");
      const home = await join(nodes.all[0], homeId, { role: "leader" });
      await play({ sessionId: homeId, leader: home, all: [home] });
      const from = [...band.all, home].map((one) => one.received.length);
      const before = { shared: await sync(third, sessionId), home: await sync(home, homeId) };

      const died = performance.now();
      await nodes.redis.kill();
      const refused = await until("the shared session says unavailable", async () => {
        const ack = await emit(leader, "set_tempo", { sessionId, tempo: 50 });
        return ack.ok === false && ack;
      });
      const rejectedMs = Math.round(performance.now() - died);
      t.diagnostic(`the shared session is unavailable ${rejectedMs} ms after the kill`);
      assertRefused(refused, "unavailable");
      const alone = await writable(home, homeId, 70);
      t.diagnostic(`the home session is writable after ${alone.ms} ms`);
      for (const node of nodes.all) {
        await nodes.standing(node, "alone");
        const { status, redis } = await health(node);
        assert.deepEqual([status, redis], ["degraded", false]);
      }
      await nodes.redis.launch();
      const returned = performance.now();
      const shared = await writable(leader, sessionId, 60);
      t.diagnostic(`the shared session is writable ${Math.round(performance.now() - returned)} ms after the return`);
      assert.ok(isLower(before.shared, shared) && isLower(before.home, alone));
      assertDone(await emit(home, "set_tempo", { sessionId: homeId, tempo: 71 }));
      await nodes.settled();
      for (const id of [sessionId, homeId]) {
        await until(`${id} is stored, and owned as before`, async () => (await ownerOf(nodes, id)) === nodes.all[0]);
      }
      await Promise.all(band.all.map((one) => next(one, "scroll_tick", (tick) => tick.tempoBpm === 60)));
      for (const [n, one] of [...band.all, home].entries()) {
        assertNeverFalls(one);
        const ticks = ticksSince(one, from[n]);
        const tempo = ticks[0].tempoBpm;
        assertUnbroken(ticks.filter((tick) => tick.tempoBpm === tempo), `member ${n}`);
      }
    });
  }

  test("frozen and woken: no session changes its owner", async () => {
    const nodes = owned(await startNodes());
    const band = await spread(nodes);
    const { sessionId, leader, third } = band;
    await play(band);
    const before = await sync(third, sessionId);
    nodes.redis.signal("SIGSTOP");
    for (const node of nodes.all) await nodes.standing(node, "alone");
    assertRefused(await emit(leader, "set_tempo", { sessionId, tempo: 50 }), "unavailable");
    nodes.redis.signal("SIGCONT");
    const after = await writable(leader, sessionId, 61);
    assert.equal(after.epoch, before.epoch);
    await nodes.settled();
    assert.equal(await ownerOf(nodes, sessionId), nodes.all[0]);
    band.all.forEach(assertNeverFalls);
  });
});
