// Three real nodes of a cluster on a real Redis: one session for members on all of them, and what
// remains of it when nodes and Redis fail.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connect, emit, freshSession, join, next, received } from "../support/client.js";
import { liar } from "../support/liar.js";
import { Nodes, found, ownerOf } from "../support/nodes.js";
import { health, owned } from "../support/owned.js";
import { Redis, until } from "../support/redis.js";
import { launch, startServer } from "../support/server.js";
import { assertDone, assertRefused } from "../support/shape.js";
import { request } from "../support/wire.js";

const TICK_MS = 100;

/** A cluster with few ticks, so that a busy machine does not drop any. */
const startNodes = (env) => Nodes.start(3, { SCROLL_TICK_INTERVAL: String(TICK_MS), ...env });

/** A session that the first node owns, with its leader on the second and followers on the others. */
async function spread(nodes, fields = {}) {
  const sessionId = freshSession("spread");
  const [a, b, c] = nodes.all;
  const first = await join(a, sessionId, { displayName: "First", role: "follower", ...fields });
  const leader = await join(b, sessionId, { displayName: "Lead", role: "leader", ...fields });
  const third = await join(c, sessionId, { displayName: "Third", role: "follower", ...fields });
  assert.equal(await ownerOf(nodes, sessionId), a);
  return { sessionId, first, leader, third, all: [first, leader, third] };
}

/** Starts the music, and waits until everybody receives ticks. */
async function play({ sessionId, leader, all }) {
  const begun = Promise.all(all.map((one) => next(one, "scroll_tick")));
  assertDone(await emit(leader, "play", { sessionId }));
  await begun;
}

async function sync(socket, sessionId) {
  const answer = next(socket, "sync_response");
  socket.emit("sync_request", { sessionId });
  return answer;
}

/** What is equal for all members at one (epoch, version): all but positions and times of answers. */
function lasting({ positionMs, position, serverTime, serverTimestamp, ...rest }) {
  return rest;
}

/** Repeats a change of the tempo until it is acknowledged. Returns the answers and the time taken. */
async function writable(socket, sessionId, tempo) {
  const began = performance.now();
  const answers = [];
  await until(`${sessionId} can be changed`, async () => {
    const ack = await emit(socket, "set_tempo", { sessionId, tempo });
    answers.push(ack);
    if (!ack.ok) throw new Error(JSON.stringify(ack));
    return true;
  });
  return { ms: Math.round(performance.now() - began), answers, ...answers.at(-1) };
}

/** The ticks of a member since an index of what it received. */
const ticksSince = (socket, from) =>
  socket.received.slice(from).filter(({ event }) => event === "scroll_tick").map(({ payload }) => payload);

/** Checks that no tick is missing over two intervals, and that the position moved with the time. */
function assertUnbroken(ticks, what) {
  assert.ok(ticks.length > 1, `${what}: ${ticks.length} ticks`);
  for (let i = 1; i < ticks.length; i += 1) {
    const passed = ticks[i].serverTimestamp - ticks[i - 1].serverTimestamp;
    assert.ok(passed <= 2 * TICK_MS, `${what}: ${passed} ms without a tick`);
    const moved = ticks[i].positionMs - ticks[i - 1].positionMs;
    assert.ok(Math.abs(moved - passed) <= 1, `${what}: the music moved ${moved} ms in ${passed} ms`);
  }
}

const order = ({ epoch, version }) => [epoch, version];

/** Whether the first (epoch, version) is lower than the second. */
const isLower = (a, b) => a.epoch < b.epoch || (a.epoch === b.epoch && a.version < b.version);

/** Checks that (epoch, version) never falls in what a member received. */
function assertNeverFalls(socket) {
  let last = { epoch: 0, version: 0 };
  for (const { event, payload } of socket.received) {
    if (payload?.epoch === undefined || payload.version === undefined) continue;
    assert.ok(!isLower(payload, last), `${event} falls from ${order(last)} to ${order(payload)}`);
    last = payload;
  }
}

describe("members on three nodes", () => {
  let nodes;
  before(async () => (nodes = await startNodes()));
  after(() => nodes?.stop());

  test("have the same snapshot, epoch, version, checksum and member list", async () => {
    const { sessionId, first, leader, third, all } = await spread(nodes);
    await play({ sessionId, leader, all });
    const leads = ({ leaderSocketId, isPlaying }) => leaderSocketId === third.id && isPlaying;
    const snapshots = Promise.all(all.map((one) => next(one, "snapshot", leads)));
    assertDone(await emit(third, "set_role", { sessionId, role: "leader" }));
    const [one, ...others] = (await snapshots).map(lasting);
    for (const other of others) assert.deepEqual(other, one);
    assert.deepEqual(one.members.map(({ displayName }) => displayName).sort(), ["First", "Lead", "Third"]);
    assert.deepEqual(new Set(one.members.map(({ socketId }) => socketId)), new Set([first.id, leader.id, third.id]));
    const states = (await Promise.all(all.map((member) => sync(member, sessionId)))).map(lasting);
    assert.match(states[0].checksum ?? "", /^[0-9a-f]{8}$/);
    for (const state of states) assert.deepEqual(state, states[0]);
    assert.deepEqual(order(states[0]), order(one));
    assert.equal(states[0].epoch % 2_048, (await health(nodes.all[0])).cluster.number, "the epoch names its owner");
  });

  test("receive equal ticks at equal times", async () => {
    const { sessionId, leader, all } = await spread(nodes);
    await play({ sessionId, leader, all });
    await Promise.all(all.map((one) => next(one, "scroll_tick", (tick) => tick.positionMs > 1_000)));
    const ticks = all.map((one) => received(one, "scroll_tick"));
    const start = ({ positionMs, serverTimestamp }) => serverTimestamp - positionMs;
    for (const [member, list] of ticks.entries()) {
      assertUnbroken(list, `member ${member}`);
      assert.ok(Math.abs(start(list[0]) - start(ticks[0][0])) <= 1, "all nodes place the beat at one time");
    }
  });

  test("obey commands from any node in one order, each once", async () => {
    const { sessionId, leader, third, all } = await spread(nodes);
    assertDone(await emit(leader, "update_settings", { sessionId, anyoneMayEdit: true }));
    assertDone(await emit(leader, "update_settings", { sessionId, anyoneMayCue: true }));
    const texts = (one) => received(one, "cue").map(({ text }) => text);
    const count = 20;
    const heard = Promise.all(all.map((one) => until("all cues", () => texts(one).length >= 3 * count)));
    const acks = await Promise.all(
      all.flatMap((one, member) =>
        Array.from({ length: count }, (_, n) => emit(one, "cue", { sessionId, text: `${member}:${n}` })),
      ),
    );
    for (const ack of acks) assertDone(ack);
    await heard;
    for (const one of all) assert.deepEqual(texts(one), texts(third));
    assert.equal(new Set(texts(third)).size, 3 * count, "each cue came once");
    for (const [member] of all.entries()) {
      const own = texts(third).filter((text) => text.startsWith(`${member}:`));
      assert.deepEqual(own, Array.from({ length: count }, (_, n) => `${member}:${n}`), "in the sender's order");
    }
    const versions = [];
    for (let tempo = 90; tempo < 100; tempo += 1) {
      const ack = await emit(leader, "set_tempo", { sessionId, tempo });
      assertDone(ack);
      versions.push(ack.version);
    }
    assert.deepEqual(versions, versions.map((_, n) => versions[0] + n), "one version for each command");
    await Promise.all(all.map((one) => until("the last tempo", async () => (await sync(one, sessionId)).tempoBpm === 99)));
    all.forEach(assertNeverFalls);
  });

  test("read chat in one order, each message once", async () => {
    const { sessionId, all } = await spread(nodes);
    const texts = (one) => received(one, "chat_message").map(({ message }) => message);
    const count = 20;
    const acks = all.flatMap((one, member) =>
      Array.from({ length: count }, (_, n) => emit(one, "chat_message", { sessionId, message: `${member}:${n}` })),
    );
    for (const ack of await Promise.all(acks)) assertDone(ack);
    await Promise.all(all.map((one) => until("all messages", () => texts(one).length === 3 * count)));
    for (const one of all) assert.deepEqual(texts(one), texts(all[0]));
    assert.equal(new Set(texts(all[0])).size, 3 * count);
  });

  test("are counted exactly, and no more are admitted than the session allows", async () => {
    const { sessionId, leader, third, all } = await spread(nodes);
    assertDone(await emit(leader, "update_settings", { sessionId, maxMembers: 4 }));
    const stats = Promise.all(all.map((one) => next(one, "room_stats", ({ memberCount }) => memberCount === 4)));
    const fourth = await join(nodes.all[2], sessionId, { role: "follower" });
    for (const { connectedCount, leader: id } of await stats) assert.deepEqual([connectedCount, id], [4, leader.id]);
    for (const node of nodes.all) {
      const late = await connect(node);
      assertRefused(await emit(late, "join_session", { sessionId }), "session_full");
    }
    const fewer = Promise.all([leader, all[0]].map((one) => next(one, "room_stats", ({ memberCount }) => memberCount === 2)));
    assertDone(await emit(fourth, "leave_session", { sessionId }));
    assertDone(await emit(third, "leave_session", { sessionId }));
    for (const { connectedCount } of await fewer) assert.equal(connectedCount, 2);
    const back = await join(nodes.all[2], sessionId, { role: "follower" });
    assert.equal(back.snapshot.members.length, 3);
  });

  test("need the passcode on every node", async () => {
    const { sessionId, leader } = await spread(nodes, { passcode: "sesame" });
    for (const node of nodes.all) {
      const stranger = await connect(node);
      assertRefused(await emit(stranger, "join_session", { sessionId, passcode: "wrong" }), "bad_passcode", "passcode");
      assertDone(await emit(stranger, "join_session", { sessionId, passcode: "sesame" }));
    }
    assertDone(await emit(leader, "update_settings", { sessionId, passcode: "changed" }));
    const late = await connect(nodes.all[2]);
    assertRefused(await emit(late, "join_session", { sessionId, passcode: "sesame" }), "bad_passcode", "passcode");
    assertDone(await emit(late, "join_session", { sessionId, passcode: "changed" }));
  });

  test("join one new session at once: one owner, one leader", async () => {
    const sessionId = freshSession("at-once");
    const members = await Promise.all(nodes.all.map((node) => join(node, sessionId)));
    const owner = await ownerOf(nodes, sessionId);
    assert.ok(nodes.all.includes(owner));
    await Promise.all(members.map((one) => until("all are there", async () => (await snapshotOf(one, sessionId)).members.length === 3)));
    const leaders = new Set();
    for (const one of members) leaders.add((await snapshotOf(one, sessionId)).leaderSocketId);
    assert.equal(leaders.size, 1);
  });

  test("see their cluster in /health, /metrics and for Prometheus", async () => {
    const { sessionId } = await spread(nodes);
    const [a, b] = nodes.all;
    const { status, redis, cluster } = await health(a);
    assert.deepEqual([status, redis, cluster.standing], ["healthy", true, "full"]);
    assert.deepEqual(cluster.nodes.map(({ name }) => name).sort(), ["node-0", "node-1", "node-2"]);
    assert.ok(cluster.owned >= 1, sessionId);
    assert.ok((await health(b)).cluster.branches >= 1);
    const metrics = JSON.parse((await request(a, "GET", "/metrics")).body);
    assert.ok(metrics.cluster.commits > 0 && metrics.cluster.claims > 0);
    const text = (await request(a, "GET", "/metrics/prometheus")).body;
    assert.match(text, /^bandsync_cluster_standing\{standing="full"\} 1$/m);
    assert.match(text, /^bandsync_cluster_nodes 3$/m);
    assert.match(text, /^bandsync_cluster_events_total\{kind="commits"\} [1-9]/m);
  });
});

/** A member's newest snapshot, which an own join renews. */
async function snapshotOf(socket, sessionId) {
  const snapshot = next(socket, "snapshot", (one) => one.sessionId === sessionId);
  assertDone(await emit(socket, "join_session", { sessionId }));
  return snapshot;
}

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
    const isLost = ({ members }) => members.some(({ socketId, connected }) => socketId === first.id && !connected);
    const gone = Promise.all([leader, third].map((one) => next(one, "snapshot", isLost)));
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
    assert.equal((await sync(third, sessionId)).tempoBpm, 66);
    const from = first.received.length;
    nodes.wake(owner);
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
    await until("the others read it", () => received(third, "chat_message").some(({ message }) => message === "awake"));
    assertNeverFalls(leader);
  });

  test("nodes that are drained one after the other lose no session", async () => {
    const nodes = owned(await startNodes());
    const band = await spread(nodes);
    const { sessionId, leader, third } = band;
    await play(band);
    assertDone(await emit(leader, "update_message", { sessionId, message: "kept" }));
    nodes.all[0].signal("SIGTERM");
    const { code, stderr } = await nodes.all[0].exited;
    assert.equal(code, 0, stderr);
    await writable(leader, sessionId, 99);
    await Promise.all([leader, third].map((one) => until("the tempo", async () => (await sync(one, sessionId)).tempoBpm === 99)));
    assert.equal((await snapshotOf(third, sessionId)).message, "kept");
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
      t.diagnostic(`the shared session is unavailable ${Math.round(performance.now() - died)} ms after the kill`);
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

describe("a node that does not fit", () => {
  /** Starts a node that is expected to end, and returns its last words. */
  async function refusedWith(env) {
    const run = launch({ env: { PORT: "0", HOST: "127.0.0.1", SHARDS: "1", CLUSTER: "on", ...env } });
    const { code, stderr } = await run.exited;
    assert.notEqual(code, 0, stderr);
    return stderr;
  }

  test("is refused if another has its name, or if it counts other buckets", async () => {
    const nodes = owned(await Nodes.start(1));
    const REDIS_URL = nodes.redis.url;
    const [name, buckets] = await Promise.all([
      refusedWith({ REDIS_URL, NODE_NAME: "node-0" }),
      refusedWith({ REDIS_URL, NODE_NAME: "other", CLUSTER_BUCKETS: "32" }),
    ]);
    assert.match(name, /"node-0".*set NODE_NAME to another name/);
    assert.match(buckets, /64 buckets.*set CLUSTER_BUCKETS=64/);
  });

  test("is refused by a Redis that drops keys, and runs alone if it may", async () => {
    const redis = owned(await Redis.start(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]));
    await found(redis);
    assert.match(await refusedWith({ REDIS_URL: redis.url }), /set maxmemory-policy noeviction/);
    const alone = await startServer({ env: { REDIS_URL: redis.url, CLUSTER: "auto" } });
    assert.match(alone.logs, /running alone.*noeviction/);
    assert.equal((await health(alone)).cluster, undefined);
    await alone.stop();
  });

  test("is refused by a Redis that is too old or missing, and without one", async () => {
    const redis = owned(await Redis.start());
    const info = "# Server\r\nredis_version:6.0.16\r\n";
    const lie = (command) => (/INFO/i.test(command) ? `$${info.length}\r\n${info}\r\n` : null);
    const old = owned(await liar(redis, lie));
    assert.match(await refusedWith({ REDIS_URL: `redis://127.0.0.1:${old.port}/0` }), /6\.0\.16 is too old.*6\.2/);
    await redis.kill();
    assert.match(await refusedWith({ REDIS_URL: redis.url }), /Redis does not answer.*check REDIS_URL/);
    assert.match(await refusedWith({}), /CLUSTER=on is not possible: it requires Redis/);
  });
});
