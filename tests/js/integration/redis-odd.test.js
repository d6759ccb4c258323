// Odd cases of Redis: malformed hashes of other programs, senseless answers, a Cluster behind
// REDIS_HOST, and a second server with the same sessions.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { emit, freshSession, join, next } from "../support/client.js";
import { liar } from "../support/liar.js";
import { health, owned, say, serve as serveAny } from "../support/owned.js";
import { Redis, startCluster, until } from "../support/redis.js";

const serve = (env) => serveAny({ EVENT_RATES: "other=0,join_session=0", ...env });

const isDegraded = (server) =>
  until("the server is degraded", async () => {
    const { status, storage } = await health(server);
    return status === "degraded" && storage.status === "degraded" && storage;
  });
const isWell = (server) => until("the server is well", async () => (await health(server)).status === "healthy");

/** A session with one member and a stored message. */
async function band(server, redis, sessionId = freshSession("band")) {
  const leader = await join(server, sessionId, { role: "leader" });
  const made = { sessionId, leader, redis };
  await say(made, "first");
  await stored(made, "first");
  return made;
}

const stored = ({ redis, sessionId }, message) =>
  until(`“${message}” is stored`, async () => {
    const fields = await redis.session(sessionId).catch(() => ({}));
    return fields.message === message && fields;
  });

const rejoin = async (server, sessionId) => {
  const socket = await join(server, freshSession("elsewhere"));
  return emit(socket, "join_session", { sessionId });
};

const set = (redis, key, ...fields) => redis.ask("HSET", key, ...fields);
const NUMBERS = [
  "inf", "-inf", "nan", "1e30", "1e3", "18446744073709551615", "18446744073709551616", "9007199254740993", "9007199254740992",
  "9007199254740991", "4503599627370496", "-1", "0x10", "1.5", " 1", "1 ", "", "many", "9".repeat(100_000),
];
const ODD = [
  ...NUMBERS.map((value) => [`epoch = ${value.slice(0, 30)}`, (redis, key) => set(redis, key, "epoch", value)]),
  ...["inf", "9007199254740993", "-1", ""].map((value) => [`version = ${value}`, (redis, key) => set(redis, key, "version", value)]),
  ["no epoch", (redis, key) => redis.ask("HDEL", key, "epoch")],
  ["no version", (redis, key) => redis.ask("HDEL", key, "version")],
  ["text instead of a hash", (redis, key) => redis.ask("SET", key, "text")],
  ["a list instead of a hash", async (redis, key) => {
    await redis.ask("DEL", key);
    await redis.ask("RPUSH", key, "a", "b");
  }],
  ["twenty thousand fields", (redis, key) =>
    redis.ask("EVAL", "for n = 1, 20000 do redis.call('HSET', KEYS[1], 'f' .. n, n) end", 1, key)],
];
const ODD_FOR_READERS = [
  ["no record", (redis, key) => redis.ask("HDEL", key, "record")],
  ["an empty record", (redis, key) => set(redis, key, "record", "")],
  ["a record of another kind", (redis, key) => set(redis, key, "record", "{}")],
  ["a record of 17 MB", (redis, key) => set(redis, key, "record", "x".repeat(17_000_000))],
];

describe("a hash in Redis that makes no sense", () => {
  test("is set aside when its session is stored again, and affects no other", async () => {
    const redis = owned(await Redis.start());
    const server = await serve({ REDIS_URL: redis.url });
    const [other, victim] = [await band(server, redis), await band(server, redis)];
    const key = `session:${victim.sessionId}`;
    for (const [n, [what, spoil]] of ODD.entries()) {
      await redis.ask("DEL", `quarantine:${key}`);
      await spoil(redis, key);
      await say(victim, `over ${n}`);
      await say(other, `beside ${n}`);
      await stored(victim, `over ${n}`);
      await stored(other, `beside ${n}`);
      assert.equal(await redis.ask("EXISTS", `quarantine:${key}`), 1, what);
      const ttl = await redis.ask("PTTL", `quarantine:${key}`);
      assert.ok(ttl > 6 * 24 * 3_600_000 && ttl <= 7 * 24 * 3_600_000, `${what}: ${ttl} ms`);
      const { storage, status } = await health(server);
      assert.deepEqual([status, storage.failures, storage.setAside], ["healthy", 0, n + 1], what);
    }
    // Each change is written once. A set-aside record causes no further writes.
    const { epoch } = await redis.session(victim.sessionId);
    assert.ok(Number(epoch) < 2e12, epoch);
    const { written } = (await health(server)).storage;
    await say(other, "the end");
    await stored(other, "the end");
    const after = (await health(server)).storage;
    assert.equal(after.written, written + 1);
    assert.ok(!server.logs.includes("storage unavailable"));
    await server.stop();
  });

  test("is set aside when a member returns to it, and affects no other", async () => {
    const redis = owned(await Redis.start());
    let server = await serve({ REDIS_URL: redis.url });
    const cases = [...ODD, ...ODD_FOR_READERS];
    const bands = [];
    for (const _ of cases) bands.push(await band(server, redis));
    const other = await band(server, redis);
    await server.stop();
    for (const [n, [, spoil]] of cases.entries()) await spoil(redis, `session:${bands[n].sessionId}`);
    server = await serve({ REDIS_URL: redis.url });
    for (const [n, [what]] of cases.entries()) {
      const ack = await rejoin(server, bands[n].sessionId);
      assert.deepEqual([ack.ok, ack.restored], [true, false], what);
      assert.equal(await redis.ask("EXISTS", `quarantine:session:${bands[n].sessionId}`), 1, what);
    }
    assert.equal((await rejoin(server, other.sessionId)).restored, true);
    const { storage, status } = await health(server);
    assert.deepEqual([status, storage.failures, storage.setAside], ["healthy", 0, cases.length]);
    await server.stop();
  });

  test("with an epoch just below the highest raises the epoch of its session, and of no other", async () => {
    const redis = owned(await Redis.start());
    const server = await serve({ REDIS_URL: redis.url, SHARDS: "1" });
    const victim = await band(server, redis);
    await set(redis, `session:${victim.sessionId}`, "epoch", String(2 ** 52 - 1));
    await say(victim, "above");
    assert.equal((await stored(victim, "above")).epoch, String(2 ** 52));
    await say(victim, "and on");
    await stored(victim, "and on");
    const later = await band(server, redis);
    assert.ok(Number((await redis.session(later.sessionId)).epoch) < 2e12);
    assert.equal((await health(server)).status, "healthy");
    await server.stop();
  });
});

describe("Redis that answers nonsense about one session", () => {
  const nested = (depth) => "*1\r\n".repeat(depth) + ":1\r\n";
  for (const [what, answer] of [
    ["a number", ":5\r\n"],
    ["an empty list", "*0\r\n"],
    ["nothing", "$-1\r\n"],
    ["lists within lists", nested(3)],
    ["lists too deep to be read", nested(300)],
    ["bytes that are no answer", "HTTP/1.1 400 nonsense\r\n"],
    ["a script's result that is no number", "$3\r\ninf\r\n"],
    ["an unknown error", "-ODD things happen\r\n"],
    ["an error of its script", "-ERR user_script:5: attempt to compare nil with number\r\n"],
    ["a redirection to nowhere", "-MOVED somewhere\r\n"],
  ]) {
    test(`${what}: that session waits, the others are stored and loaded`, async () => {
      const redis = owned(await Redis.start());
      const id = freshSession("victim");
      let lies = false;
      const network = owned(await liar(redis, (command) => (lies && command.includes(`session:${id}`) ? answer : null)));
      const server = await serve({ REDIS_URL: `redis://127.0.0.1:${network.port}` });
      const [victim, other] = [await band(server, redis, id), await band(server, redis)];
      lies = true;
      for (let n = 0; n < 5; n += 1) {
        await say(victim, `victim ${n}`);
        await say(other, `other ${n}`);
        await stored(other, `other ${n}`);
        assert.equal((await rejoin(server, freshSession("new"))).restored, undefined, "others are loaded");
      }
      const { reason } = await isDegraded(server);
      assert.match(reason, /a session cannot be stored, while all others can/);
      assert.ok(!/storage unavailable|storage is back/.test(server.logs), "the storage itself was never unavailable");
      lies = false;
      await stored(victim, "victim 4");
      await isWell(server);
      await server.stop();
    });
  }

  test("when it is loaded: the session starts empty, and the others are restored", async () => {
    const redis = owned(await Redis.start());
    const id = freshSession("victim");
    const first = await serve({ REDIS_URL: redis.url });
    const [, other] = [await band(first, redis, id), await band(first, redis)];
    await first.stop();
    const network = owned(await liar(redis, (command) => (command.includes(`session:${id}`) ? ":7\r\n" : null)));
    const server = await serve({ REDIS_URL: `redis://127.0.0.1:${network.port}` });
    assert.equal((await rejoin(server, id)).restored, false);
    assert.equal((await rejoin(server, other.sessionId)).restored, true);
    assert.ok(!/storage unavailable/.test(server.logs));
    await server.stop();
  });
});

describe("a Redis Cluster that only REDIS_HOST names", () => {
  for (const [what, env] of [
    ["REDIS_HOST and REDIS_PORT", ({ port }) => ({ REDIS_HOST: "127.0.0.1", REDIS_PORT: String(port) })],
    ["a plain REDIS_URL", ({ port }) => ({ REDIS_URL: `redis://127.0.0.1:${port}/0` })],
  ]) {
    test(`is used as a whole with ${what}`, async () => {
      const cluster = owned(await startCluster());
      const where = env(cluster.nodes[1]);
      let server = await serve(where);
      const bands = [];
      for (let n = 0; n < 8; n += 1) {
        const sessionId = freshSession("spread");
        bands.push({ sessionId, leader: await join(server, sessionId) });
      }
      for (const one of bands) await say(one, "kept");
      await until("all sessions are stored", async () => {
        const { storage } = await health(server);
        return storage.pending === 0 && storage.queue === 0 && storage.written >= 8;
      });
      const sizes = await Promise.all(cluster.nodes.map((node) => node.ask("DBSIZE")));
      assert.ok(sizes.every((size) => size > 0), `keys on the nodes: ${sizes}`);
      const { status, storage } = await health(server);
      assert.deepEqual([status, storage.failures], ["healthy", 0]);
      // A malformed record is set aside in the slot of its session.
      const [victim] = bands;
      const key = `session:${victim.sessionId}`;
      for (const node of cluster.nodes) await set(node, key, "epoch", "inf").catch(() => {});
      await say(victim, "again");
      await until("the record is set aside", async () => (await health(server)).storage.setAside === 1);
      await until("all sessions are stored", async () => (await health(server)).storage.pending === 0);
      await server.stop();
      server = await serve(where);
      for (const one of bands) {
        const socket = await join(server, freshSession("elsewhere"));
        const snapshot = next(socket, "snapshot", (received) => received.sessionId === one.sessionId);
        assert.equal((await emit(socket, "join_session", { sessionId: one.sessionId })).restored, true);
        assert.equal((await snapshot).message, one === victim ? "again" : "kept");
      }
      assert.match(server.logs, /node of a Redis Cluster/);
      await server.stop();
    });
  }

  test("is found by the first redirection if CLUSTER commands are not allowed", async () => {
    const cluster = owned(await startCluster());
    const [node] = cluster.nodes;
    let asked = 0;
    // Rejected at the start, as by a proxy or for a user without permission.
    const network = owned(
      await liar(node, (command) => (/CLUSTER/.test(command) && (asked += 1) === 1 ? "-NOPERM no\r\n" : null)),
    );
    const server = await serve({ REDIS_HOST: "127.0.0.1", REDIS_PORT: String(network.port) });
    for (let n = 0; n < 8; n += 1) await say({ sessionId: `s${n}`, leader: await join(server, `s${n}`) }, "kept");
    await until("all sessions are stored", async () => {
      const { storage } = await health(server);
      return storage.pending === 0 && storage.queue === 0 && storage.written >= 8;
    });
    const sizes = await Promise.all(cluster.nodes.map((one) => one.ask("DBSIZE")));
    assert.ok(sizes.every((size) => size > 0), `keys on the nodes: ${sizes}`);
    await isWell(server);
    await server.stop();
  });
});

describe("two servers that keep one session", () => {
  for (const quiet of [0, 1]) {
    test(`both are degraded until one is gone, while ${quiet === 0 ? "the first" : "the second"} changes nothing`, async () => {
      const redis = owned(await Redis.start());
      const listener = owned(redis.subscribe("bandsync:sessions"));
      const servers = [await serve({ REDIS_URL: redis.url }), await serve({ REDIS_URL: redis.url })];
      const one = await band(servers[0], redis);
      await isWell(servers[0]);
      const leader = await join(servers[1], one.sessionId);
      await say({ ...one, leader: quiet === 0 ? leader : one.leader }, "from one of them").catch(() => {});
      for (const server of servers) {
        const { reason, conflicts } = await isDegraded(server);
        assert.match(reason, /served by another server too.*reach the same server/);
        assert.ok(conflicts > 0);
        await until("the conflict is logged", () => /in use at another server too/.test(server.run.stderr));
      }
      // The conflict lasts as long as both servers run, even without further events of members.
      await until("both have published it several times", async () => {
        for (const server of servers) assert.equal((await health(server)).storage.status, "degraded");
        const kept = listener.messages.map(JSON.parse).filter((message) => message.event === "kept");
        const names = [...new Set(kept.map((message) => message.server))];
        return names.length === 2 && names.every((name) => kept.filter(({ server }) => server === name).length >= 4);
      });
      await servers[quiet].crash();
      await isWell(servers[1 - quiet]);
      await servers[1 - quiet].stop();
    });
  }

  test("are no conflict if all members of one server have left", async () => {
    const redis = owned(await Redis.start());
    const servers = [await serve({ REDIS_URL: redis.url }), await serve({ REDIS_URL: redis.url })];
    const one = await band(servers[0], redis);
    await emit(one.leader, "leave_session", { sessionId: one.sessionId });
    await until("the session has no members", async () => (await redis.session(one.sessionId)).memberCount === "0");
    const moved = { ...one, leader: await join(servers[1], one.sessionId, { role: "leader" }) };
    await say(moved, "moved");
    await stored(moved, "moved");
    for (const server of servers) assert.equal((await health(server)).status, "healthy");
    for (const server of servers) await server.stop();
  });
});
