// Memory that really fills. At its threshold the server frees memory and loses no session. At its
// limit it refuses new members while a band plays on.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { band, connect, emit, freshSession, join, next, received } from "../support/client.js";
import { Redis } from "../support/redis.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { cannot } from "../support/skips.js";
import { request } from "../support/wire.js";

// Measured: a debug build without sessions takes about 40 MB.
const THRESHOLD_MB = 100;
const LIMIT_MB = 120;

const json = async (server, path) => JSON.parse((await request(server, "GET", path)).body);

async function until(what, holds) {
  for (let i = 0; i < 300; i += 1) {
    const found = await holds();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail(`it never came: ${what}`);
}

/** A set list of about 900 kB. */
const setlist = (name) => ({
  title: name,
  songs: Array.from({ length: 16 }, (_, i) => ({ id: `song-${i}`, title: `Song ${i}`, format: "text", body: `${name} ${i} `.padEnd(55_000, "la ") })),
});

/** Creates a session with a large set list and one member. */
async function heavy(server) {
  const sessionId = freshSession("heavy");
  const member = await connect(server);
  assert.equal((await emit(member, "join_session", { sessionId })).ok, true);
  assertDone(await emit(member, "set_setlist", { sessionId, setlist: setlist(sessionId) }));
  return { sessionId, member };
}

/** Counts the ticks that a member receives within 500 ms. */
async function ticks(member) {
  const before = received(member, "scroll_tick").length;
  await new Promise((done) => setTimeout(done, 500));
  return received(member, "scroll_tick").length - before;
}

test("at the threshold empty sessions are left to the storage, memory is freed, and no session is lost", { timeout: 120_000 }, async (t) => {
  const env = { SHARDS: "1", MEMORY_THRESHOLD: String(THRESHOLD_MB), MEMORY_LIMIT: "100000", METRICS_INTERVAL: "1000" };
  const server = await startServer({ env });
  const { sessionId, leader } = await band(server, 2);
  assertDone(await emit(leader, "play", { sessionId }));
  const left = [];
  let most = 0;
  await until("the alert", async () => {
    const { sessionId: name, member } = await heavy(server);
    left.push(name);
    member.disconnect();
    most = Math.max(most, residentBytes(server.pid));
    return (await json(server, "/health")).reasons.some((reason) => reason.name === "memory");
  });
  await until("the alert is cleared", async () => (await json(server, "/health")).status === "healthy");
  const [, freed, kept, sessions] = await until("the log has the memory freed", () =>
    /memory pressure: freed ([\d.]+) MB \(([\d.]+) MB kept for lost members, (\d+) empty sessions\)/.exec(server.logs));
  const now = residentBytes(server.pid);
  t.diagnostic(`${left.length} sessions: ${(most / 1e6).toFixed(0)} MB, then ${(now / 1e6).toFixed(0)} MB; the log says ${freed} MB, ${kept} MB of it for lost members, ${sessions} sessions`);
  assert.ok(now < 0.8e6 * THRESHOLD_MB, `${now}`);
  assert.ok(kept !== undefined && Number(sessions) > 0);
  assert.equal((await json(server, "/health")).sessions.total, 1, "the band's");
  assert.ok((await ticks(leader)) > 5, "the band plays on");
  for (const name of [left[0], left.at(-1)]) {
    const back = await connect(server);
    const ack = await emit(back, "join_session", { sessionId: name });
    assert.equal(ack.restored, true, JSON.stringify(ack));
    const song = await emit(back, "get_song", { sessionId: name, songId: "song-8" });
    assert.ok(JSON.stringify(song).includes(`${name} 8 la`), "its set list is restored");
    back.disconnect();
  }
  await server.stop();
});

/**
 * Makes a memory cgroup of `bytes` that ends with the test. Null if this machine does not allow
 * one.
 */
function confine(t, bytes) {
  const name = `bandsync-test-${process.pid}`;
  for (const [root, limit, events] of [
    ["/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"],
    ["/sys/fs/cgroup", "memory.max", "memory.events"],
  ]) {
    const group = `${root}/${name}`;
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    if (existsSync(`${group}/${limit}`)) {
      writeFileSync(`${group}/${limit}`, String(bytes));
      const under = ["sh", "-c", `echo $$ >${group}/cgroup.procs && exec "$@"`, "sh"];
      if (spawnSync(under[0], [...under.slice(1), "true"]).status === 0) {
        // A process that has just ended may still be in the group.
        t.after(() => until("an empty group", () => removed(group)));
        return { under, kills: () => Number(/^oom_kill (\d+)$/m.exec(readFileSync(`${group}/${events}`, "utf8"))?.[1] ?? 0) };
      }
    }
    rmdirSync(group);
  }
  return null;
}

/** Kills the processes in a group and removes it. Returns whether it is gone. */
function removed(group) {
  try {
    for (const pid of readFileSync(`${group}/cgroup.procs`, "utf8").split("\n").filter(Boolean)) process.kill(Number(pid), "SIGKILL");
    rmdirSync(group);
    return true;
  } catch (error) {
    if (error.code === "EBUSY" || error.code === "ESRCH") return false;
    throw error;
  }
}

for (const where of ["", ", where the system would kill it"])
test(`at the limit new members receive 503, present members stay, and later new ones are accepted again${where}`, { timeout: 120_000 }, async (t) => {
  // The kernel's limit is above MEMORY_LIMIT, but below the size that a server without one would
  // reach.
  const group = where && confine(t, (LIMIT_MB + 80) * 1_000_000);
  if (group === null) return cannot(t, "memory cgroups are not allowed");
  // If the temporary folder is in memory, a file in it counts for the group, so this test uses
  // Redis.
  const redis = group && (await Redis.start());
  if (redis) t.after(() => redis.stop());
  const env = { SHARDS: "1", MEMORY_THRESHOLD: String(THRESHOLD_MB), MEMORY_LIMIT: String(LIMIT_MB), ...(redis && { REDIS_URL: redis.url }) };
  const server = await startServer({ env, under: group ? group.under : [] });
  const { sessionId, leader } = await band(server, 2);
  assertDone(await emit(leader, "play", { sessionId }));
  const here = [];
  // Sessions with members are not evicted for new ones.
  const refused = await until("a client is refused", async () => {
    try {
      here.push(await heavy(server));
    } catch {
      const answer = await request(server, "GET", "/socket.io/?EIO=4&transport=polling");
      return answer.status === 503 && answer;
    }
  });
  assert.equal(refused.headers["retry-after"], "5");
  assert.equal(JSON.parse(refused.body).error, "Too many connections");
  const health = await request(server, "GET", "/health");
  assert.equal(health.status, 503);
  assert.deepEqual(JSON.parse(health.body).reasons.map((reason) => reason.name), ["memory_limit", "memory"]);
  assert.ok((await ticks(leader)) > 5, "the band plays on");
  // All sessions are stored again. The queue may hold 8 MiB of records and one more.
  for (const { sessionId: name, member } of here) assertDone(await emit(member, "play", { sessionId: name }));
  const { waitingBytes } = (await json(server, "/health")).storage;
  assert.ok(waitingBytes < (8 + 1) * 1024 * 1024, `${waitingBytes} bytes of records wait`);
  here.forEach(({ member }) => member.disconnect());
  await until("the server accepts clients again", async () => (await json(server, "/health")).status === "healthy");
  const late = await join(server, sessionId);
  await next(late, "scroll_tick");
  await server.stop();
  if (group) assert.equal(group.kills(), 0);
});
