// Three real nodes of a cluster on a real Redis: one session for members on all of them. What remains
// of it when nodes and Redis fail: ../nodes/faults.test.js.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connect, emit, freshSession, join, next, received } from "../support/client.js";
import { liar } from "../support/liar.js";
import { Nodes, found, ownerOf } from "../support/nodes.js";
import { health, owned } from "../support/owned.js";
import { Redis, until } from "../support/redis.js";
import { launch, startServer } from "../support/server.js";
import { assertDone, assertRefused } from "../support/shape.js";
import {
  assertNeverFalls,
  assertUnbroken,
  lasting,
  order,
  play,
  snapshotOf,
  spread,
  startNodes,
  sync,
} from "../support/spread.js";
import { request } from "../support/wire.js";

describe("members on three nodes", () => {
  let nodes;
  // A node that waits for a core of a busy machine does not count as lost here.
  before(async () => (nodes = await startNodes({ LEASE_TTL: "5000" })));
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
