// Faults at full size: thousands of clients that hang, read slowly, reconnect at once or receive a
// goodbye, beside a band that must receive every tick in order. The time that a crowd takes is
// printed. It is asserted only with `QUIET_MACHINE=1`, on a machine that runs nothing else.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { test } from "node:test";
import { band, connect, emit, freshSession, join, next, received } from "../support/client.js";
import { Extra, extra, many } from "../support/crowd.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, SLOWER, within } from "../support/wait.js";
import { ENGINE_PATH, OPCODE, frame, head, request, tcp } from "../support/wire.js";

const QUIET = process.env.QUIET_MACHINE === "1";
const CHANGED = { epoch: "number", version: "number" };
// Specified: the limit of the Node.js server that this one replaces.
const MEMORY_MAX = 500 * 1024 * 1024;
const LIMIT = { timeout: 120_000 * SLOWER };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const health = async (server) => JSON.parse((await request(server, "GET", "/health")).body);

/** Repeats `holds` every 100 ms until it returns something true. */
async function until(what, holds, ms = 3 * PATIENCE_MS) {
  let found;
  const look = async () => {
    for (;;) {
      found = await holds();
      if (found) return found;
      await pause(100);
    }
  };
  return within(ms, look(), what);
}

/** Runs `act` while a band plays. All its members must receive the same ticks, in order. */
async function beside(server, act) {
  const playing = await band(server, 3);
  const { leader, all, sessionId } = playing;
  assertDone(await emit(leader, "play", { sessionId }), CHANGED);
  await Promise.all(all.map((one) => next(one, "scroll_tick")));
  const from = received(leader, "scroll_tick").at(-1).positionMs;
  await act(playing);
  for (let i = 0; i < 10; i += 1) await next(leader, "scroll_tick", undefined, 3 * PATIENCE_MS);
  const to = received(leader, "scroll_tick").at(-1).positionMs;
  await Promise.all(all.map((one) => received(one, "scroll_tick").at(-1).positionMs >= to || next(one, "scroll_tick", (tick) => tick.positionMs >= to)));
  const [ticks, ...others] = all.map((one) => received(one, "scroll_tick").filter((tick) => tick.positionMs >= from && tick.positionMs <= to));
  for (const other of others) assert.deepEqual(other, ticks, "each member received every tick");
  assert.ok(ticks.slice(1).every((tick, i) => tick.positionMs > ticks[i].positionMs), "each tick has a later position");
  for (const one of all) {
    assert.equal(one.connected, true);
    assert.deepEqual(received(one, "error"), []);
  }
}

/**
 * Runs `beside` on a server of its own. Stops it even after a failure, or the file would never end.
 */
async function served(env, act) {
  const server = await startServer({ env });
  try {
    await beside(server, () => act(server));
  } finally {
    await server.stop();
  }
}

test("a thousand readers that crawl or hang are closed, and the band plays on", LIMIT, async (t) => {
  const env = { SHARDS: "1", SCROLL_TICK_INTERVAL: "32", SOCKET_PING_INTERVAL: "2000", SOCKET_PING_TIMEOUT: "8000", LOG_LEVEL: "debug" };
  await served(env, async (server) => {
    const sessions = Array.from({ length: 10 }, () => freshSession("mute"));
    // Once they have joined, half of them read 1 KiB per second, the others nothing.
    const leaders = await many(10, 10, (i) => extra(server, sessions[i], { role: "leader" }, { sipping: 1024 }));
    const others = await many(990, 50, (i) => extra(server, sessions[i % 10], { role: "follower" }, { sipping: 1024 }));
    const crowd = [...leaders, ...others];
    leaders.forEach((leader, i) => leader.say("play", { sessionId: sessions[i] }));
    const timer = setInterval(() => crowd.forEach((one, i) => i % 2 === 0 && one.sip()), 1_000);
    let most = 0;
    await until("all of them are disconnected", async () => {
      most = Math.max(most, residentBytes(server.pid));
      return (await health(server)).sessions.members === 3;
    }, 6 * PATIENCE_MS);
    clearInterval(timer);
    t.diagnostic(`${Math.round(most / 1e6)} MB at most`);
    assert.ok(most < MEMORY_MAX, `${most} bytes`);
    await until("the log has the reason", () => server.logs.includes("connection closed by client: ping timeout"));
  });
});

test("readers that answer pings but read nothing are closed when their unread bytes fill the memory", LIMIT, async (t) => {
  const threshold = 150_000_000;
  const env = { SHARDS: "1", MEMORY_THRESHOLD: String(threshold / 1e6), SOCKET_PING_INTERVAL: "300000", STORAGE: "memory", LOG_LEVEL: "info" };
  await served(env, async (server) => {
    const sessionId = freshSession("hoard");
    const leader = await join(server, sessionId, { role: "leader" });
    const crowd = await many(200, 50, () => extra(server, sessionId, { role: "follower" }, { sipping: 1024 }));
    const timer = setInterval(() => crowd.forEach((one) => one.socket.write(frame(OPCODE.text, "3"))), 1_000);
    const body = "x".repeat(55_000);
    const setlist = { title: "long", songs: Array.from({ length: 16 }, (_, i) => ({ id: `s${i}`, title: "x", format: "text", body })) };
    // Two set lists fit the limit of a connection, and take 300 MB for all 200.
    for (const title of ["one", "two"]) assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { ...setlist, title } }), CHANGED);
    const most = residentBytes(server.pid);
    await until("they are disconnected", async () => (await health(server)).sessions.members === 4);
    clearInterval(timer);
    await until("memory is given back", () => residentBytes(server.pid) < threshold);
    t.diagnostic(`${Math.round(most / 1e6)} MB, then ${Math.round(residentBytes(server.pid) / 1e6)} MB`);
    await until("the log has the reason", () => server.logs.includes("connection closed by server: slow reader, 256 KiB unsent"));
    assert.equal(leader.connected, true, "a member that reads stays connected");
  });
});

test("five thousand requests at a byte a second are closed, and meanwhile members connect", LIMIT, async () => {
  await served({ SHARDS: "1" }, async (server) => {
    const slow = await many(5_000, 200, () => tcp(server));
    const bytes = head(server, "GET", ENGINE_PATH, { "X-Slow": "x".repeat(500) });
    let sent = 0;
    const timer = setInterval(() => {
      for (const one of slow) if (!one.isEnded) one.write(bytes[sent]);
      sent += 1;
    }, 1_000);
    let came = 0;
    let over = false;
    const coming = (async () => {
      while (!over) {
        (await connect(server)).disconnect();
        came += 1;
        await pause(100);
      }
    })();
    await Promise.all(slow.map((one) => one.closed(4 * PATIENCE_MS)));
    over = true;
    clearInterval(timer);
    await coming;
    assert.ok(came > 10, `only ${came} members connected meanwhile`);
    assert.ok(sent < bytes.length - 4, "every request was still incomplete");
  });
});

test("a thousand joins and a thousand leaves of one session at once leave equal lists of members", LIMIT, async () => {
  await served({ SHARDS: "1", EVENT_RATES: "join_session=20,other=20" }, async (server) => {
    const sessionId = freshSession("door");
    const witness = await join(server, sessionId);
    const crowd = await many(100, 50, (i) => extra(server, freshSession(`own-${i}`)));
    const seen = () => [received(witness, "user_joined").length, received(witness, "user_left").length];
    const before = seen()[0];
    for (let round = 0; round < 10; round += 1) {
      for (const one of crowd) {
        one.say("join_session", { sessionId });
        one.say("leave_session", { sessionId });
      }
    }
    await until("the witness has received all leaves", () => seen()[1] >= 1_000);
    assert.deepEqual(seen(), [before + 1_000, 1_000]);
    const here = new Set([witness.id]);
    for (const { event, payload } of witness.received) {
      if (event === "user_joined") here.add(payload.member.socketId);
      if (event === "user_left") assert.ok(here.delete(payload.socketId), "a member that leaves was in the list");
    }
    assert.deepEqual([...here], [witness.id]);
    const last = await join(server, sessionId);
    assert.deepEqual(last.snapshot.members.map((member) => member.socketId), [witness.id, last.id]);
    assert.equal((await health(server)).sessions.members, 5);
    crowd.forEach((one) => one.socket.destroy());
  });
});

const CROWD = Number(process.env.CROWD_SIZE ?? 10_000);
const BAND_SIZE = 10;

/**
 * Joins with an extra until that succeeds. Waits `wait` ms first, then longer, as socket.io-client
 * does.
 */
async function persist(server, sessionId, wait, failures) {
  for (let next = wait; ; next = Math.min(2 * next, 5_000)) {
    await pause(next * (0.5 + Math.random()));
    const one = new Extra(server);
    try {
      return Object.assign(one, { ack: await one.join(sessionId) });
    } catch (error) {
      failures.push(error.message);
    }
  }
}

test("ten thousand members receive a goodbye, and all of them reconnect to the next server", { timeout: 240_000 * SLOWER }, async (t) => {
  const directory = mkdtempSync(path(tmpdir(), "bandsync-crowd-"));
  // Long limits, because one process runs all clients and may be slower than a server expects of
  // each.
  const patience = { DRAIN_TIMEOUT: "30000", STORAGE_WAIT: "10000", SOCKET_PING_INTERVAL: "60000", SOCKET_PING_TIMEOUT: "60000" };
  const env = { DATA_DIR: directory, STORAGE: "file", LOG_LEVEL: "warn", ...patience };
  const sessions = Array.from({ length: CROWD / BAND_SIZE }, () => freshSession("hall"));
  let server = await startServer({ env });
  try {
    const failures = [];
    const session = (i) => sessions[Math.floor(i / BAND_SIZE)];
    const members = await many(CROWD, 100, (i) => persist(server, session(i), 1, failures));
    const asked = performance.now();
    server.signal("SIGTERM");
    const end = await within(4 * PATIENCE_MS, server.exited, "the server ends");
    t.diagnostic(`goodbyes took ${Math.round(performance.now() - asked)} ms`);
    assert.equal(end.code, 0);
    assert.doesNotMatch(end.stderr, /panicked|cut off/);
    const codes = await within(PATIENCE_MS, Promise.all(members.map((one) => one.goodbye)), "every connection ends");
    const others = codes.filter((code) => code !== 1001);
    assert.deepEqual(others, [], "each close frame says that the server goes away");

    server = await startServer({ env: { ...env, PORT: String(server.port) } });
    const began = performance.now();
    const took = [];
    const back = await many(CROWD, CROWD, async (i) => {
      const one = await persist(server, session(i), 1_000, failures);
      assert.equal(one.ack.restored, true, "its session is restored");
      took.push(performance.now() - began);
      return one;
    });
    if (failures.length > 0) t.diagnostic(`${failures.length} attempts failed, the first one: ${failures[0]}`);
    const p99 = took.sort((a, b) => a - b)[Math.ceil(0.99 * CROWD) - 1];
    t.diagnostic(`99 of 100 had joined again after ${Math.round(p99)} ms, all after ${Math.round(took.at(-1))} ms`);
    assert.equal((await health(server)).sessions.members, CROWD);
    if (QUIET) assert.ok(p99 < 5_000, `${p99} ms`);

    // No client reads the goodbye, so only a second signal ends the server at once.
    back.forEach((one) => one.socket.pause());
    server.signal("SIGTERM");
    await until("the server drains", async () => (await request(server, "GET", "/readyz")).status === 503);
    server.signal("SIGTERM");
    const hurried = await within(PATIENCE_MS, server.exited, "the server ends at once");
    assert.equal(hurried.code, 143);
  } finally {
    server.signal("SIGKILL");
    server.closers.splice(0).forEach((close) => close());
    rmSync(directory, { recursive: true, force: true });
  }
});
