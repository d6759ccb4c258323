// Sessions in real Redis servers that fail and return while a band plays.
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test } from "node:test";
import { emit, freshSession, join, next, received } from "../support/client.js";
import { health, owned, say, serve as serveAny, stops } from "../support/owned.js";
import { badNetwork } from "../support/proxy.js";
import { Redis, certificates, startCluster, startSentinels, until, withTimeSeries } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { lacks } from "../support/skips.js";
import { request } from "../support/wire.js";

const redisServer = async (args, options) => owned(await Redis.start(args, options));

/**
 * The time limit for Redis. It is so long that the tests would notice a shard that waits for Redis.
 */
const TIMEOUT_MS = 4_000;

const serve = (url, env) => serveAny({ REDIS_URL: url, METRICS_INTERVAL: "1000", ...env });

/** Starts a server that reaches Redis through a bad network, which the test controls. */
async function serveBehind(redis, env, conditions) {
  const network = await badNetwork({ port: redis.port, owns: () => {} }, conditions);
  stops.push(async () => network.stop());
  return { network, server: await serve(`redis://127.0.0.1:${network.port}/0`, env) };
}

const degraded = (server, reason) =>
  until(`the server is degraded: ${reason}`, async () => {
    const { status, redis, redisStatus, reasons, storage } = await health(server);
    if (status === "degraded") assert.ok(reasons.length > 0, "a degraded server names a reason");
    return status === "degraded" && redis === false && redisStatus === "degraded" && reason.test(storage.reason) && storage;
  });
const pick = (object, ...names) => Object.fromEntries(names.map((name) => [name, object[name]]));
const well = (server) => until("the server is healthy", async () => (await health(server)).status === "healthy");

/** Waits until a session's fields in Redis are as expected, and returns them. */
const stored = (redis, id, expected) =>
  until(`${id} is stored with ${JSON.stringify(expected)}`, async () => {
    const fields = await redis.session(id);
    return Object.entries(expected).every(([name, value]) => fields[name] === value) && fields;
  });

/** A leader in a session that plays. */
async function playing(server) {
  const sessionId = freshSession("playing");
  const leader = await join(server, sessionId, { role: "leader" });
  const begun = next(leader, "scroll_tick");
  await emit(leader, "play", { sessionId });
  await begun;
  return { sessionId, leader };
}

/**
 * Prints the lateness of ticks before, during and after a fault, from the server's own histograms.
 * Checks that the order of ticks is right and that no gap is as long as half of `TIMEOUT_MS`.
 */
async function lateness(server, { leader }, t) {
  const lines = [];
  const rows = async (since) => {
    const { fields, rows } = JSON.parse((await request(server, "GET", `/metrics/history?since=${since}`)).body);
    const column = (name) => fields.indexOf(name);
    const read = (row) => ["tickLatenessP50", "tickLatenessP99", "tickLatenessMax"].map((name) => row[column(name)]);
    return rows.map(read);
  };
  const phase = async (name) => {
    const since = Date.now();
    // The first interval contains a part of the previous phase.
    const whole = await until(`an interval ${name}`, async () => {
      const found = await rows(since);
      const some = found.slice(1).filter(([, , most]) => most > 0);
      return some.length > 0 && some;
    });
    const worst = [0, 1, 2].map((column) => Math.max(...whole.map((row) => row[column])));
    lines.push(`${name} ${worst.join(" / ")}`);
  };
  await phase("before");
  return {
    during: () => phase("during"),
    after: async () => {
      await phase("after");
      t.diagnostic(`tick lateness p50 / p99 / most, ms: ${lines.join("; ")}`);
      const positions = received(leader, "scroll_tick").map((tick) => tick.positionMs);
      const gaps = positions.slice(1).map((position, i) => position - positions[i]);
      assert.ok(gaps.every((gap) => gap > 0), "no tick has an earlier position");
      assert.ok(Math.max(...gaps) < TIMEOUT_MS / 2, `${Math.max(...gaps)} ms without a tick`);
    },
  };
}

const restored = async (server, sessionId) => {
  const socket = await join(server, freshSession("elsewhere"));
  const snapshot = next(socket, "snapshot", (one) => one.sessionId === sessionId);
  const ack = await emit(socket, "join_session", { sessionId });
  return { ack, snapshot: await snapshot };
};

describe("Redis", { concurrency: 3 }, () => {
  test("keeps a session as a hash that other programs can read, until a member returns", async () => {
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
    await server.crash();
    server = await serve(redis.url);
    const { ack, snapshot } = await restored(server, band.sessionId);
    assert.deepEqual([ack.restored, snapshot.message, snapshot.isPlaying], [true, "capo 2", true]);
    const passed = snapshot.serverTimestamp - Number(fields.updatedAt);
    const moved = snapshot.position - Number(fields.position);
    assert.ok(Math.abs(moved - passed) <= 5, `the music moved ${moved} ms in ${passed} ms`);
    assert.ok(snapshot.epoch > Number(fields.epoch));
    await server.stop();
  });

  test("refreshes an unchanged session, and deletes one without members", async () => {
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
    await until("the hash is refreshed", async () => (await redis.ask("PTTL", key)) > low + 200);
    await emit(leader, "leave_session", { sessionId });
    await until("the hash is deleted", async () => (await redis.ask("EXISTS", key)) === 0);
    await server.stop();
  });

  test("is not needed to start, and receives all sessions once it runs", async () => {
    const redis = await redisServer();
    await redis.kill();
    const server = await serve(redis.url);
    const { since } = await degraded(server, /no Redis listens/);
    assert.ok(!Number.isNaN(Date.parse(since)));
    const band = await playing(server);
    await say(band, "before Redis");
    await redis.launch();
    await well(server);
    await stored(redis, band.sessionId, { message: "before Redis" });
    await server.stop();
  });

  for (const [what, reason, leave, come] of [
    ["SIGKILL, and back without its data", /Redis/, (redis) => redis.kill(), (redis) => redis.launch()],
    ["SIGSTOP", /does not answer/, (redis) => redis.signal("SIGSTOP"), (redis) => redis.signal("SIGCONT")],
    [
      "out of memory",
      /out of memory/,
      (redis) => redis.ask("CONFIG", "SET", "maxmemory", 1),
      (redis) => redis.ask("CONFIG", "SET", "maxmemory", 0),
    ],
    [
      "a replica that may not be written to",
      /replica|loading/,
      async (redis) => redis.ask("REPLICAOF", "127.0.0.1", (await redisServer()).port),
      (redis) => redis.ask("REPLICAOF", "NO", "ONE"),
    ],
    [
      "a password that is changed",
      /password/,
      async (redis) => {
        await redis.ask("CONFIG", "SET", "requirepass", "changed");
        redis.password = "changed";
        await redis.ask("CLIENT", "KILL", "TYPE", "normal");
      },
      async (redis) => {
        await redis.ask("CONFIG", "SET", "requirepass", "");
        redis.password = null;
      },
    ],
  ]) {
    test(`${what}: the band plays on, and everything is stored again, once`, async (t) => {
      const redis = await redisServer();
      const server = await serve(redis.url, { REDIS_TIMEOUT: String(TIMEOUT_MS) });
      const band = await playing(server);
      const quiet = await join(server, freshSession("quiet"), {});
      const quietId = quiet.snapshot.sessionId;
      await stored(redis, quietId, { sessionId: quietId });
      await say(band, "before");
      await stored(redis, band.sessionId, { message: "before" });
      const ticks = await lateness(server, band, t);
      await leave(redis);
      for (let n = 0; n < 6; n += 1) await say(band, `during ${n}`);
      const { since } = await degraded(server, reason);
      await ticks.during();
      assert.equal((await degraded(server, reason)).since, since, "`since` stays that of the first failure");
      // Redis may be unable to answer this test too.
      const { message } = await redis.session(band.sessionId).catch(() => ({}));
      assert.ok(!message?.startsWith("during"), "Redis has rejected all changes since the fault");
      const { ack } = await restored(server, freshSession("newcomer"));
      assert.deepEqual([ack.ok, ack.restored], [true, false]);
      const before = (await health(server)).storage.written;
      const returns = () => server.logs.split("storage is back").length - 1;
      const returnedBefore = returns();
      await come(redis);
      await well(server);
      await stored(redis, band.sessionId, { message: "during 5" });
      await stored(redis, quietId, { sessionId: quietId });
      await until("no record waits", async () => (await health(server)).storage.pending === 0);
      const { storage, sessions } = await health(server);
      const again = storage.written - before;
      // Queued records may be written before the shards offer all sessions again, so a record is
      // written twice at most for each return of Redis. On a loaded machine it may time out and
      // return again.
      const times = returns() - returnedBefore;
      assert.ok(again <= times * 2 * sessions.total, `${again} records for ${sessions.total} sessions, ${times} times`);
      await ticks.after();
      await server.stop();
    });
  }

  test("slow answers: the band plays on, and everything is stored when they are fast again", async (t) => {
    const redis = await redisServer();
    const { network, server } = await serveBehind(redis, { REDIS_TIMEOUT: String(TIMEOUT_MS) });
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    const ticks = await lateness(server, band, t);
    network.weather.delay = TIMEOUT_MS * 2;
    await say(band, "during");
    await degraded(server, /does not answer/);
    await ticks.during();
    network.weather.delay = 0;
    await well(server);
    await stored(redis, band.sessionId, { message: "during" });
    await ticks.after();
    await server.stop();
  });

  test("answers in single bytes are read", async () => {
    const redis = await redisServer();
    const { server } = await serveBehind(redis, {}, { chop: 1 });
    const band = await playing(server);
    await say(band, "in pieces");
    await stored(redis, band.sessionId, { message: "in pieces" });
    await server.stop();
  });

  test("connections that are cut at any time lose nothing", async () => {
    const redis = await redisServer();
    const { network, server } = await serveBehind(redis, {}, { seed: 7, chop: 16, jitter: 3 });
    const band = await playing(server);
    for (let n = 0; n < 40; n += 1) {
      await say(band, `word ${n}`);
      if (n % 4 === 3) network.cut();
    }
    network.cut();
    await stored(redis, band.sessionId, { message: "word 39" });
    await well(server);
    assert.ok((await health(server)).storage.failures > 0, "cuts are noticed");
    await server.stop();
  });

  test("garbage is handled like other faults", async () => {
    const babbler = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => socket.write("HTTP/1.1 400 nonsense\r\n\r\n"));
    });
    await new Promise((done) => babbler.listen(0, "127.0.0.1", done));
    stops.push(async () => babbler.close());
    const server = await serve(`redis://127.0.0.1:${babbler.address().port}`);
    await degraded(server, /Redis/);
    await playing(server);
    await server.stop();
  });

  test("back with its data, but older: the newer state wins, with scripts that it has forgotten", async () => {
    const redis = await redisServer(["--appendonly", "yes", "--appendfsync", "always"]);
    const server = await serve(redis.url);
    const band = await playing(server);
    await say(band, "old");
    await stored(redis, band.sessionId, { message: "old" });
    await redis.kill();
    await say(band, "new");
    await redis.launch();
    await stored(redis, band.sessionId, { message: "new" });
    assert.match(await redis.ask("INFO", "errorstats"), /errorstat_NOSCRIPT:count=[1-9]/);
    await server.stop();
  });

  test("a record that looks newer is not overwritten; the session gets a higher epoch and keeps its state", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    const { epoch } = await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("HSET", `session:${band.sessionId}`, "epoch", Number(epoch) + 5_000);
    await say(band, "mine");
    const fields = await stored(redis, band.sessionId, { message: "mine" });
    assert.equal(Number(fields.epoch), Number(epoch) + 5_001);
    await until("the log has the reason", () => /another server serves it/.test(server.logs));
    await server.stop();
  });

  test("a record whose checksum is wrong is set aside and reported", async () => {
    const redis = await redisServer();
    let server = await serve(redis.url);
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await server.crash();
    await redis.ask("EVAL", "return redis.call('HSET', KEYS[1], 'record', redis.call('HGET', KEYS[1], 'record') .. 'x')", 1, `session:${band.sessionId}`);
    server = await serve(redis.url);
    const { ack } = await restored(server, band.sessionId);
    assert.equal(ack.restored, false);
    assert.equal(await redis.ask("EXISTS", `quarantine:session:${band.sessionId}`), 1);
    await until("the log has the reason", () => /checksum is wrong/.test(server.logs));
    assert.equal((await health(server)).storage.setAside, 1);
    await server.stop();
  });

  test("another program's key with the same name is set aside too", async () => {
    const redis = await redisServer();
    await redis.ask("SET", "session:taken", "not a hash");
    const server = await serve(redis.url);
    const { ack } = await restored(server, "taken");
    assert.deepEqual([ack.ok, ack.restored], [true, false]);
    await stored(redis, "taken", { sessionId: "taken" });
    await server.stop();
  });

  test("a script that Redis has forgotten is loaded again", async () => {
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

  test("a wrong password is reported but not shown, until it is right", async () => {
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

  test("FLUSHALL is noticed by itself, and all sessions are stored again", async () => {
    const redis = await redisServer();
    const server = await serve(redis.url);
    const band = await playing(server);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("FLUSHALL");
    await stored(redis, band.sessionId, { isPlaying: "1" });
    assert.equal((await health(server)).storage.failures, 0);
    await server.stop();
  });

  test("a record that could not be loaded in time is set aside, not overwritten", async () => {
    const redis = await redisServer(["--appendonly", "yes", "--appendfsync", "always"]);
    let server = await serve(redis.url);
    const band = await playing(server);
    await say(band, "of yesterday");
    await stored(redis, band.sessionId, { message: "of yesterday" });
    await server.crash();
    await redis.kill();
    server = await serve(redis.url);
    const { ack } = await restored(server, band.sessionId);
    assert.deepEqual([ack.ok, ack.restored], [true, false]);
    await redis.launch();
    await until("the new one takes its place, with its message as members see it", async () =>
      /^User .{4} is leading$/.test((await redis.session(band.sessionId)).message),
    );
    assert.equal(await redis.ask("HGET", `quarantine:session:${band.sessionId}`, "message"), "of yesterday");
    assert.ok((await redis.ask("PTTL", `quarantine:session:${band.sessionId}`)) > 0);
    await server.stop();
  });

  test("TLS works with a user, a password and a database; an untrusted certificate is rejected", async () => {
    const files = owned(certificates());
    const redis = await redisServer([], { tls: files });
    await redis.ask("ACL", "SETUSER", "ann", "on", ">p@ss/word", "~*", "&*", "+@all");
    const url = `rediss://ann:p%40ss%2Fword@127.0.0.1:${redis.port}/3`;
    const server = await serve(url, { SSL_CERT_FILE: files.ca });
    const band = await playing(server);
    await until("the session is in that database", async () => /db3:keys/.test(await redis.ask("INFO", "keyspace")));
    await say(band, "secret");
    assert.deepEqual(pick(await health(server), "redis", "redisStatus"), { redis: true, redisStatus: "connected" });
    const clients = await redis.ask("CLIENT", "LIST");
    assert.ok(clients.match(/user=ann/g).length >= 3, "one connection each for operations, publishing and subscribing");
    await server.stop();
    const stranger = await serve(url);
    await degraded(stranger, /certificate/);
    assert.ok(!stranger.logs.includes("p@ss") && !stranger.logs.includes("p%40ss"));
    await stranger.stop();
  });

  test("a write counts only once a replica has it, if that is configured", async () => {
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

  test("the variables of the Node.js server configure it", async () => {
    const redis = await redisServer();
    const env = { REDIS_HOST: "127.0.0.1", REDIS_PORT: String(redis.port), REDIS_DB: "3" };
    const server = await startServer({ env });
    stops.push(async () => server.run.child.kill("SIGKILL"));
    const band = await playing(server);
    await until("the session is in that database", async () => {
      const keys = await redis.ask("INFO", "keyspace");
      return /db3:/.test(keys) && !/db0:/.test(keys);
    });
    assert.deepEqual(pick(await health(server), "redis", "redisStatus"), { redis: true, redisStatus: "connected" });
    band.leader.disconnect();
    await server.stop();
  });

  test("the history is kept there with percentiles, has a maximum length, and is read back", async () => {
    const redis = await redisServer();
    let server = await serve(redis.url);
    for (const metric of ["cpuPercent", "memoryBytes", "messagesOutPerSecond", "roundTripP99", "tickLatenessP99"]) {
      const key = `history:metric:${metric}`;
      await until(`a point of ${metric} is stored`, async () => (await redis.ask("ZCARD", key)) > 0);
      assert.ok((await redis.ask("PTTL", key)) > 0);
    }
    await server.crash();
    const [member, at] = await redis.ask("ZRANGE", "history:metric:cpuPercent", 0, 0, "WITHSCORES");
    server = await serve(redis.url);
    const points = await until("the history is read back", async () => pointsOf(server, "cpuPercent"));
    assert.deepEqual(points[0], [Number(at), Number(member.split(":")[1])]);
    await server.stop();
  });

  test("with RedisTimeSeries the history is in series", async (t) => {
    const stack = withTimeSeries();
    if (stack === null) return lacks(t, "RedisTimeSeries", "./tools/test --only integration unpacks it");
    const redis = await redisServer(stack.args, stack.options);
    let server = await serve(redis.url);
    const key = "history:series:tickLatenessP99";
    const [[at, value]] = await until("a point is stored", async () => {
      const points = await redis.ask("TS.RANGE", key, "-", "+");
      return points.length > 0 && points;
    });
    const info = await redis.ask("TS.INFO", key);
    assert.equal(info[info.indexOf("retentionTime") + 1], 24 * 3_600_000);
    assert.equal(await redis.ask("EXISTS", "history:metric:tickLatenessP99"), 0);
    await server.crash();
    server = await serve(redis.url);
    const points = await until("the history is read back", async () => pointsOf(server, "tickLatenessP99"));
    assert.deepEqual(points[0], [at, Number(value)]);
    await server.stop();
  });
});

const pointsOf = async (server, metric) => {
  const { points } = JSON.parse((await request(server, "GET", `/metrics/history?metric=${metric}&since=1h`)).body);
  return points?.length > 0 && points;
};

describe("what is published", { concurrency: 3 }, () => {
  test("names the sessions that were stored and deleted, even after its connection was lost", async () => {
    const redis = await redisServer();
    const listener = owned(redis.subscribe("bandsync:sessions"));
    const server = await serve(redis.url, { SESSION_TTL: "1000" });
    const band = await playing(server);
    const published = (event) =>
      until(`"${event}" is published`, () =>
        listener.messages.map(JSON.parse).find((one) => one.sessionId === band.sessionId && one.event === event),
      );
    const stored = await published("stored");
    assert.match(stored.server, /^[0-9a-f]{16}$/);
    assert.ok(stored.epoch > 0 && stored.version > 0);
    const ids = [...(await redis.ask("CLIENT", "LIST")).matchAll(/^id=(\d+)/gm)].map(([, id]) => id);
    for (const id of ids.filter((id) => id !== listener.id)) await redis.ask("CLIENT", "KILL", "ID", id).catch(() => {});
    let count = 0;
    const again = await until("the session is published again", async () => {
      await say(band, `again ${(count += 1)}`);
      return listener.messages.map(JSON.parse).find((one) => one.version > stored.version);
    });
    assert.equal(again.server, stored.server);
    await emit(band.leader, "leave_session", { sessionId: band.sessionId });
    await published("deleted");
    await server.stop();
  });

  test("lets two servers notice that they keep the same session, even after a pause of the connection", async () => {
    const redis = await redisServer();
    const [first, second] = [await serve(redis.url), await serve(redis.url)];
    const band = await playing(first);
    await stored(redis, band.sessionId, { isPlaying: "1" });
    await redis.ask("CLIENT", "KILL", "TYPE", "pubsub");
    const subscribers = async () => (await redis.ask("PUBSUB", "NUMSUB", "bandsync:sessions"))[1];
    await until("both servers subscribe again", async () => (await subscribers()) === 2);
    const other = await join(second, band.sessionId, { role: "leader" });
    await until("the conflict is noticed", async () => {
      await say({ ...band, leader: other }, `from the other ${Math.random()}`);
      return (await health(first)).storage.conflicts > 0;
    });
    await until("the conflict is logged", () => /in use at another server too/.test(first.run.stderr));
    await first.stop();
    await second.stop();
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
    assert.ok(holders.size > 1, "the sessions are on several nodes");

    // The slot of one session, and with it the session, moves to another node.
    const [band] = bands;
    const from = await holder(band.sessionId);
    const to = cluster.nodes.find((node) => node !== from);
    const key = `session:${band.sessionId}`;
    const slot = await first.ask("CLUSTER", "KEYSLOT", key);
    const [fromId, toId] = [await from.ask("CLUSTER", "MYID"), await to.ask("CLUSTER", "MYID")];
    await to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId);
    await from.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", toId);
    await from.ask("MIGRATE", "127.0.0.1", to.port, key, 0, 1_000);
    // The old node now answers with ASK.
    await say(band, "asked");
    await until("the new node has it", async () => {
      const fields = await to.ask("EVAL", "return redis.call('HGET', KEYS[1], 'message')", 1, key).catch(() => null);
      return fields === "asked" || (await health(server)).storage.pending === 0;
    });
    for (const node of [to, from]) await node.ask("CLUSTER", "SETSLOT", slot, "NODE", toId);
    await say(band, "moved");
    await stored(to, band.sessionId, { message: "moved" });
    await server.crash();
    server = await serve(cluster.url);
    const { ack, snapshot } = await restored(server, band.sessionId);
    assert.deepEqual([ack.restored, snapshot.message], [true, "moved"]);
    await server.stop();
  });

  test("without replicas confirms no write, if a replica is configured", async () => {
    const cluster = owned(await startCluster());
    const server = await serve(cluster.url, { REDIS_REPLICAS: "1" });
    await playing(server);
    await degraded(server, /only 0 of 1 replicas/);
    await server.stop();
  });

  test("that loses a node keeps what changes, and stores it when the node is back", async () => {
    const cluster = owned(await startCluster());
    const server = await serve(cluster.url);
    const bands = [];
    for (let n = 0; n < 6; n += 1) bands.push(await playing(server));
    await until("all sessions are stored", async () => (await health(server)).storage.pending === 0);
    const [, node] = cluster.nodes;
    await node.kill();
    for (const band of bands) await say(band, "without a node");
    await degraded(server, /Redis/);
    await node.launch();
    await well(server);
    const message = async (key) => {
      for (const one of cluster.nodes) {
        const found = await one.ask("HGET", key, "message").catch(() => null);
        if (found !== null) return found;
      }
      return null;
    };
    for (const { sessionId } of bands) {
      await until(`${sessionId} is stored`, async () => (await message(`session:${sessionId}`)) === "without a node");
    }
    await server.stop();
  });
});

describe("Redis behind Sentinel", () => {
  test("is followed to the replica that takes over, and that receives the newest state", async (t) => {
    const group = owned(await startSentinels());
    const server = await serve(group.url, { REDIS_TIMEOUT: String(TIMEOUT_MS) });
    const band = await playing(server);
    await say(band, "before");
    await stored(group.primary, band.sessionId, { message: "before" });
    const ticks = await lateness(server, band, t);
    await group.primary.kill();
    await say(band, "during");
    await degraded(server, /./);
    await ticks.during();
    await until("the replica leads", async () => (await group.replica.ask("ROLE"))[0] === "master", 30_000);
    await well(server);
    await stored(group.replica, band.sessionId, { message: "during" });
    await ticks.after();
    await server.stop();
  });
});
