// Sessions in real Redis servers, which come and go while a band plays.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { emit, freshSession, heard, join, next } from "../support/client.js";
import { Redis, startCluster, startProxy, startSentinels, until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { request } from "../support/wire.js";

const stops = [];
after(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});
const owned = (thing) => {
  stops.push(() => thing.stop());
  return thing;
};
const redisServer = async (args) => owned(await Redis.start(args));

async function serve(url, env = {}) {
  const server = await startServer({ env: { REDIS_URL: url, ...env } });
  stops.push(async () => server.run.child.kill("SIGKILL"));
  return server;
}

const health = async (server) => JSON.parse((await request(server, "GET", "/health")).body);
const degraded = (server, reason) =>
  until(`the server is degraded: ${reason}`, async () => {
    const { status, redis, storage } = await health(server);
    return status === "degraded" && redis.status === "degraded" && reason.test(storage.reason) && storage;
  });
const well = (server) => until("the server is well", async () => (await health(server)).status === "healthy");

/** The session's fields in Redis, when they say what is expected. */
const stored = (redis, id, expected) =>
  until(`${id} is stored with ${JSON.stringify(expected)}`, async () => {
    const fields = await redis.session(id);
    return Object.entries(expected).every(([name, value]) => fields[name] === value) && fields;
  });

async function crash(server) {
  for (const close of server.closers.splice(0)) close();
  server.signal("SIGKILL");
  await server.exited;
}

/** A band that plays, and what it hears of ticks. */
async function playing(server) {
  const sessionId = freshSession("playing");
  const leader = await join(server, sessionId, { role: "leader" });
  const begun = next(leader, "scroll_tick");
  await emit(leader, "play", { sessionId });
  await begun;
  return { sessionId, leader };
}

const say = async ({ sessionId, leader }, message) => {
  const ack = await emit(leader, "update_message", { sessionId, message });
  assert.equal(ack.ok, true, JSON.stringify(ack));
};

/** Every tick is there: positions follow each other by no more than a few intervals of 16 ms, and never go back. */
async function assertSteady({ leader }, what) {
  await until("there are ticks to look at", () => heard(leader, "scroll_tick").length > 60);
  const positions = heard(leader, "scroll_tick").map((tick) => tick.positionMs);
  const expected = (positions.at(-1) - positions[0]) / 16;
  const gaps = positions.slice(1).map((position, i) => position - positions[i]);
  assert.ok(gaps.every((gap) => gap > 0), "no tick goes back");
  // A machine that is busy elsewhere skips one now and then; a shard that waits for Redis skips thirty at once.
  assert.ok(Math.max(...gaps) < 400, `${what}: ${Math.max(...gaps)} ms without a tick`);
  assert.ok(positions.length > expected * 0.8, `${what}: ${positions.length} ticks of ${expected}`);
}

const restored = async (server, sessionId) => {
  const socket = await join(server, freshSession("elsewhere"));
  const snapshot = next(socket, "snapshot", (one) => one.sessionId === sessionId);
  const ack = await emit(socket, "join_session", { sessionId });
  return { ack, snapshot: await snapshot };
};

describe("Redis", () => {
  test("keeps a session as a hash that others can read, until it comes back", async () => {
    const redis = await redisServer();
    let server = await serve(redis.url, { STORAGE_TTL: "60000" });
    const band = await playing(server);
    await say(band, "capo 2");
    const fields = await stored(redis, band.sessionId, { message: "capo 2", isPlaying: "1" });
    assert.match(fields.checksum, /^[0-9a-f]{8}$/);
    assert.deepEqual([fields.sessionId, fields.tempo, fields.memberCount], [band.sessionId, "120.000", "1"]);
    assert.equal(fields.leaderSocketId, band.leader.id);
    const ttl = await redis.ask("PTTL", `session:${band.sessionId}`);
    assert.ok(ttl > 0 && ttl <= 60_000, `${ttl} ms`);
    await crash(server);
    server = await serve(redis.url);
    const { ack, snapshot } = await restored(server, band.sessionId);
    assert.deepEqual([ack.restored, snapshot.message, snapshot.isPlaying], [true, "capo 2", true]);
    const passed = snapshot.serverTimestamp - Number(fields.updatedAt);
    const moved = snapshot.position - Number(fields.position);
    assert.ok(Math.abs(moved - passed) <= 5, `the music moved ${moved} ms in ${passed} ms`);
    assert.ok(snapshot.epoch > Number(fields.epoch));
    await server.stop();
  });

  test("refreshes a session that nobody changes, and forgets one that nobody is in", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url, { STORAGE_TTL: "3000", SESSION_TTL: "1000" });
    const sessionId = freshSession("quiet");
    const leader = await join(server, sessionId);
    await stored(redis, sessionId, { sessionId });
    const key = `session:${sessionId}`;
    const low = await until("time passes", async () => {
      const left = await redis.ask("PTTL", key);
      return left < 2_500 && left;
    });
    await until("it is refreshed", async () => (await redis.ask("PTTL", key)) > low + 200);
    await emit(leader, "leave_session", { sessionId });
    await until("it is forgotten", async () => (await redis.ask("EXISTS", key)) === 0);
    await server.stop();
  });

  test("is not needed to start, and gets everything when it comes", async () => {
    const redis = await redisServer();
    await redis.kill();
    const server = await serve(redis.url);
    const { since } = await degraded(server, /nothing listens/);
    assert.ok(!Number.isNaN(Date.parse(since)));
    const band = await playing(server);
    await say(band, "before Redis");
    await redis.launch();
    await well(server);
    await stored(redis, band.sessionId, { message: "before Redis" });
    await server.stop();
  });

  for (const [what, leave, come] of [
    ["SIGKILL, and back without its data", (redis) => redis.kill(), (redis) => redis.launch()],
    ["SIGSTOP", (redis) => redis.signal("SIGSTOP"), (redis) => redis.signal("SIGCONT")],
  ]) {
    test(`${what}: the band plays on, and everything is stored again, once`, async () => {
      const redis = await redisServer();
      const server = await serve(redis.url);
      const band = await playing(server);
      const quiet = await join(server, freshSession("quiet"), {});
      const quietId = quiet.snapshot.sessionId;
      await stored(redis, quietId, { sessionId: quietId });
      await say(band, "before");
      await stored(redis, band.sessionId, { message: "before" });
      await leave(redis);
      for (let n = 0; n < 6; n += 1) await say(band, `during ${n}`);
      await degraded(server, /Redis/);
      const { ack } = await restored(server, freshSession("newcomer"));
      assert.deepEqual([ack.ok, ack.restored], [true, false]);
      const before = (await health(server)).storage.written;
      await come(redis);
      await well(server);
      await stored(redis, band.sessionId, { message: "during 5" });
      await stored(redis, quietId, { sessionId: quietId });
      await until("nothing waits", async () => (await health(server)).storage.pending === 0);
      const { storage, sessions } = await health(server);
      const again = storage.written - before;
      assert.ok(again <= sessions.total + 1, `${again} records for ${sessions.total} sessions`);
      await assertSteady(band, what);
      await server.stop();
    });
  }

  test("back with its data, but older: the newer state wins", async () => {
    const redis = await redisServer(["--appendonly", "yes", "--appendfsync", "always"]);
    const server = await serve(redis.url);
    const band = await playing(server);
    await say(band, "old");
    await stored(redis, band.sessionId, { message: "old" });
    await redis.kill();
    await say(band, "new");
    await redis.launch();
    await stored(redis, band.sessionId, { message: "new" });
    await server.stop();
  });

  test("what looks newer is not replaced; the session rises above it and keeps its state", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    const { epoch } = await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("HSET", `session:${band.sessionId}`, "epoch", Number(epoch) + 5_000);
    await say(band, "mine");
    const fields = await stored(redis, band.sessionId, { message: "mine" });
    assert.equal(Number(fields.epoch), Number(epoch) + 5_001);
    assert.match(server.run.stderr, /another server keeps it/);
    await server.stop();
  });

  test("a record whose checksum is wrong is set aside and reported", async () => {
    const redis = await redisServer();
    let server = await serve(redis.url);
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await crash(server);
    await redis.ask("EVAL", "return redis.call('HSET', KEYS[1], 'record', redis.call('HGET', KEYS[1], 'record') .. 'x')", 1, `session:${band.sessionId}`);
    server = await serve(redis.url);
    const { ack } = await restored(server, band.sessionId);
    assert.equal(ack.restored, false);
    assert.equal(await redis.ask("EXISTS", `quarantine:session:${band.sessionId}`), 1);
    assert.match(server.run.stderr, /checksum is wrong/);
    assert.equal((await health(server)).storage.setAside, 1);
    await server.stop();
  });

  test("somebody else's key of that name is set aside too", async () => {
    const redis = await redisServer();
    await redis.ask("SET", "session:taken", "not a hash");
    const server = await serve(redis.url);
    const { ack } = await restored(server, "taken");
    assert.deepEqual([ack.ok, ack.restored], [true, false]);
    await stored(redis, "taken", { sessionId: "taken" });
    await server.stop();
  });

  test("a script that is forgotten is taught again", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    await say(band, "one");
    await stored(redis, band.sessionId, { message: "one" });
    await redis.ask("SCRIPT", "FLUSH");
    await say(band, "two");
    await stored(redis, band.sessionId, { message: "two" });
    assert.equal((await health(server)).storage.failures, 0);
    await server.stop();
  });

  test("out of memory", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("CONFIG", "SET", "maxmemory", 1);
    await say(band, "during");
    await degraded(server, /out of memory/);
    await redis.ask("CONFIG", "SET", "maxmemory", 0);
    await well(server);
    await stored(redis, band.sessionId, { message: "during" });
    await assertSteady(band, "out of memory");
    await server.stop();
  });

  test("a replica that may not be written to", async () => {
    const primary = await redisServer();
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("REPLICAOF", "127.0.0.1", primary.port);
    await say(band, "during");
    await degraded(server, /replica|loading/);
    await redis.ask("REPLICAOF", "NO", "ONE");
    await well(server);
    await stored(redis, band.sessionId, { message: "during" });
    await server.stop();
  });

  test("a password that is wrong, then right; none of it is shown", async () => {
    const redis = await redisServer();
    redis.password = "right";
    await redis.kill();
    redis.args = ["--requirepass", "right"];
    await redis.launch();
    const server = await serve(redis.url.replace("right", "wrong-secret"));
    await degraded(server, /password/);
    const band = await playing(server);
    await say(band, "during");
    assert.ok(!server.logs.includes("wrong-secret") && !server.logs.includes(":right@"));
    await redis.ask("CONFIG", "SET", "requirepass", "wrong-secret");
    redis.password = "wrong-secret";
    await stored(redis, band.sessionId, { message: "during" });
    await server.stop();
  });

  for (const [what, fault, reason] of [
    ["slow answers", { delay: 1_000 }, /does not answer/],
    ["answers in single bytes", { piece: 1 }, null],
    ["garbage", { garbage: true }, /Redis/],
  ]) {
    test(`${what}`, async () => {
      const redis = await redisServer();
      const proxy = owned(await startProxy(redis.port));
      const server = await serve(proxy.url);
      const band = await playing(server);
      await stored(redis, band.sessionId, { isPlaying: "1" });
      Object.assign(proxy, fault);
      await say(band, "during");
      // Answers that are whole in the end are answers.
      if (reason) await degraded(server, reason);
      else await stored(redis, band.sessionId, { message: "during" });
      Object.assign(proxy, { delay: 0, piece: Infinity, garbage: false });
      await well(server);
      await stored(redis, band.sessionId, { message: "during" });
      await assertSteady(band, what);
      await server.stop();
    });
  }

  test("a write counts when a replica has it, if that is wanted", async () => {
    const primary = await redisServer();
    const server = await serve(primary.url, { REDIS_REPLICAS: "1" });
    const band = await playing(server);
    await say(band, "alone");
    await degraded(server, /only 0 of 1 replicas/);
    await redisServer(["--replicaof", "127.0.0.1", primary.port]);
    await well(server);
    await stored(primary, band.sessionId, { message: "alone" });
    await server.stop();
  });

  test("the variables of the Node.js server name it", async () => {
    const redis = await redisServer();
    const env = { REDIS_HOST: "127.0.0.1", REDIS_PORT: String(redis.port), REDIS_DB: "3" };
    const server = await startServer({ env });
    stops.push(async () => server.run.child.kill("SIGKILL"));
    const band = await playing(server);
    await until("it is in that database", async () => {
      const keys = await redis.ask("INFO", "keyspace");
      return /db3:/.test(keys) && !/db0:/.test(keys);
    });
    assert.equal((await health(server)).redis.status, "connected");
    band.leader.disconnect();
    await server.stop();
  });

  test("the history is kept there, capped", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url, { METRICS_INTERVAL: "1000" });
    const key = "history:metric:cpuPercent";
    await until("a point is stored", async () => (await redis.ask("ZCARD", key)) > 0);
    assert.ok((await redis.ask("PTTL", key)) > 0);
    await server.stop();
  });
});

describe("a Redis Cluster", () => {
  test("keeps sessions on all nodes, and follows a slot that moves", async () => {
    const cluster = owned(await startCluster());
    const [first] = cluster.nodes;
    let server = await serve(cluster.url);
    const bands = [];
    for (let n = 0; n < 6; n += 1) bands.push(await playing(server));
    const holder = (id) =>
      until(`${id} is on a node`, async () => {
        for (const node of cluster.nodes) {
          const fields = await node.session(id).catch(() => ({}));
          if (fields.isPlaying === "1") return node;
        }
        return null;
      });
    const holders = new Set();
    for (const band of bands) holders.add(await holder(band.sessionId));
    assert.ok(holders.size > 1, "the sessions are spread");

    // One session's slot moves to another node, with the session.
    const [band] = bands;
    const from = await holder(band.sessionId);
    const to = cluster.nodes.find((node) => node !== from);
    const key = `session:${band.sessionId}`;
    const slot = await first.ask("CLUSTER", "KEYSLOT", key);
    const [fromId, toId] = [await from.ask("CLUSTER", "MYID"), await to.ask("CLUSTER", "MYID")];
    await to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId);
    await from.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", toId);
    await from.ask("MIGRATE", "127.0.0.1", to.port, key, 0, 1_000);
    // Now the old node answers ASK.
    await say(band, "asked");
    await until("the new node has it", async () => {
      const fields = await to.ask("EVAL", "return redis.call('HGET', KEYS[1], 'message')", 1, key).catch(() => null);
      return fields === "asked" || (await health(server)).storage.pending === 0;
    });
    for (const node of [to, from]) await node.ask("CLUSTER", "SETSLOT", slot, "NODE", toId);
    await say(band, "moved");
    await stored(to, band.sessionId, { message: "moved" });
    await crash(server);
    server = await serve(cluster.url);
    const { ack, snapshot } = await restored(server, band.sessionId);
    assert.deepEqual([ack.restored, snapshot.message], [true, "moved"]);
    await server.stop();
  });
});

describe("Redis behind Sentinel", () => {
  test("is followed to the replica that takes over, which gets the newest state", async () => {
    const group = owned(await startSentinels());
    const server = await serve(group.url);
    const band = await playing(server);
    await say(band, "before");
    await stored(group.primary, band.sessionId, { message: "before" });
    await group.primary.kill();
    await say(band, "during");
    await degraded(server, /./);
    await until("the replica leads", async () => (await group.replica.ask("ROLE"))[0] === "master", 30_000);
    await well(server);
    await stored(group.replica, band.sessionId, { message: "during" });
    await assertSteady(band, "a failover");
    await server.stop();
  });
});
