// Sessions in a file: what survives `kill -9`, and what happens if the file cannot be used.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, describe, test } from "node:test";
import { emit, freshSession, join, next, received } from "../support/client.js";
import { until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { cannot } from "../support/skips.js";
import { request } from "../support/wire.js";

const directories = [];
function directory() {
  const made = mkdtempSync(joinPath(tmpdir(), "bandsync-data-"));
  directories.push(made);
  return joinPath(made, "data");
}
const servers = [];
async function serve(options) {
  const server = await startServer(options);
  servers.push(server);
  return server;
}
after(() => {
  for (const server of servers) server.signal("SIGKILL");
  directories.forEach((one) => rmSync(one, { recursive: true, force: true }));
});

const health = async (server) => JSON.parse((await request(server, "GET", "/health")).body);
const stored = (server, count) =>
  until("the records are stored", async () => {
    const { storage } = await health(server);
    return storage.written >= count && storage.pending === 0 && storage.queue === 0;
  });

const joinAck = async (server, sessionId, fields = {}) => {
  const socket = await join(server, freshSession("elsewhere"));
  const snapshot = next(socket, "snapshot", (one) => one.sessionId === sessionId);
  const ack = await emit(socket, "join_session", { sessionId, ...fields });
  return { socket, ack, snapshot: await snapshot };
};

/** A leader in a session that plays. */
async function playing(server) {
  const sessionId = freshSession("playing");
  const leader = await join(server, sessionId, { role: "leader" });
  const begun = next(leader, "scroll_tick");
  await emit(leader, "play", { sessionId });
  await begun;
  return { sessionId, leader };
}

const degraded = (server, reason) =>
  until(`the server is degraded: ${reason}`, async () => {
    const { status, storage } = await health(server);
    return status === "degraded" && reason.test(storage.reason) && storage;
  });

/** Stores set lists of 450 kB each until the file cannot grow, and a few more. */
async function fill(server, reason) {
  const body = "la ".repeat(15_000);
  let refused = 0;
  for (let n = 0; n < 60 && refused < 4; n += 1) {
    const sessionId = freshSession("large");
    const leader = await join(server, sessionId);
    const songs = Array.from({ length: 10 }, (_, i) => ({ id: `s${i}`, title: `Song ${n}`, format: "text", body }));
    await emit(leader, "set_setlist", { sessionId, setlist: { title: "Long", songs } });
    const { status } = await health(server);
    if (status === "degraded") refused += 1;
  }
  return degraded(server, reason);
}

/**
 * Fills the storage while a band plays, and checks the number and order of its ticks. Then makes
 * room, and checks that changes made meanwhile are stored.
 */
async function survivesAFullDisk(server, t, makeRoom) {
  const band = await playing(server);
  const { reason, since } = await fill(server, /disk is full/);
  const ticksBefore = received(band.leader, "scroll_tick").length;
  const ack = await emit(band.leader, "update_message", { sessionId: band.sessionId, message: "in spite of all" });
  assert.equal(ack.ok, true);
  const more = next(band.leader, "scroll_tick", () => received(band.leader, "scroll_tick").length > ticksBefore + 100);
  await more;
  const positions = received(band.leader, "scroll_tick").map((tick) => tick.positionMs);
  assert.ok(positions.every((position, n) => n === 0 || position > positions[n - 1]), "no tick has an earlier position");
  t.diagnostic(`${positions.length - ticksBefore} ticks since “${reason}”`);
  // The storage is retried meanwhile, and `since` stays that of the first failure.
  const { failures } = (await health(server)).storage;
  await until("the storage is retried", async () => (await health(server)).storage.failures > failures + 1);
  assert.equal((await degraded(server, /disk is full/)).since, since);
  await makeRoom();
  await until("the server is healthy", async () => (await health(server)).status === "healthy");
  await stored(server, 1);
  return band;
}

const RATES = { EVENT_RATES: "other=0,join_session=0" };

describe("a file", () => {
  test("keeps every stored change through kill -9, and the music goes on", async () => {
    const env = { DATA_DIR: directory(), SHARDS: "1" };
    const sessionId = freshSession("kept");
    let server = await serve({ env });
    const leader = await join(server, sessionId, { displayName: "Ann", role: "leader", passcode: "sesame" });
    const songs = [{ id: "a", title: "First", tempoBpm: 96, format: "text", body: "la la" }];
    for (const [event, fields] of [
      ["update_message", { message: "capo 2" }],
      ["set_setlist", { setlist: { title: "Tonight", songs } }],
      ["select_song", { songId: "a" }],
      ["update_settings", { maxMembers: 5 }],
      ["play", {}],
    ]) {
      const ack = await emit(leader, event, { sessionId, ...fields });
      assert.equal(ack.ok, true, JSON.stringify(ack));
    }
    const sync = await emit(leader, "sync_request", { sessionId });
    // A shard's records are written in the order of their changes, so a record that changed later
    // proves that this one is written. One is not enough: the first may be written with an older
    // version of this record, and the second in one batch with the newest.
    for (let round = 0; round < 3; round += 1) {
      const { written } = (await health(server)).storage;
      await join(server, freshSession("barrier"));
      await stored(server, written + 1);
    }
    await server.crash();

    server = await serve({ env });
    const refused = await join(server, freshSession("elsewhere"));
    const wrong = await emit(refused, "join_session", { sessionId, passcode: "guess" });
    assert.equal(wrong.error.code, "bad_passcode");
    const { ack, snapshot } = await joinAck(server, sessionId, { passcode: "sesame" });
    assert.equal(ack.restored, true);
    assert.ok(snapshot.epoch > sync.epoch, `${snapshot.epoch} after ${sync.epoch}`);
    assert.deepEqual(
      [snapshot.message, snapshot.isPlaying, snapshot.tempoBpm, snapshot.settings.maxMembers, snapshot.song.id],
      ["capo 2", true, 96, 5, "a"],
    );
    // Both readings contain the wall clock's time, so the length of the restart does not matter.
    const moved = snapshot.position - sync.positionMs;
    const passed = snapshot.serverTimestamp - sync.serverTimestamp;
    assert.ok(Math.abs(moved - passed) <= 5, `the music moved ${moved} ms in ${passed} ms`);
    const { song } = await emit(refused, "get_song", { sessionId, songId: "a" }).then(async () => {
      await emit(refused, "join_session", { sessionId, passcode: "sesame" });
      return emit(refused, "get_song", { sessionId, songId: "a" });
    });
    assert.equal(song.body, "la la");
    await server.stop();
  });

  test("keeps every acknowledged change when the server is stopped by a signal", async () => {
    const env = { DATA_DIR: directory() };
    const sessionId = freshSession("stopped");
    let server = await serve({ env });
    const leader = await join(server, sessionId, { role: "leader" });
    await emit(leader, "update_message", { sessionId, message: "the last word" });
    // `server.stop` would close the clients first, and they would leave the session.
    server.signal("SIGTERM");
    assert.equal((await server.exited).code, 0);
    server = await serve({ env });
    const { ack, snapshot } = await joinAck(server, sessionId);
    assert.deepEqual([ack.restored, snapshot.message], [true, "the last word"]);
    await server.stop();
  });

  test("has permissions for its owner alone", async () => {
    const env = { DATA_DIR: directory() };
    const server = await serve({ env });
    await join(server, freshSession());
    await stored(server, 1);
    assert.equal(statSync(joinPath(env.DATA_DIR, "bandsync.redb")).mode & 0o777, 0o600);
    assert.equal(statSync(env.DATA_DIR).mode & 0o777, 0o700);
    await server.stop();
    // The mode of an existing file is corrected too.
    chmodSync(joinPath(env.DATA_DIR, "bandsync.redb"), 0o664);
    const next = await serve({ env });
    assert.equal(statSync(joinPath(env.DATA_DIR, "bandsync.redb")).mode & 0o777, 0o600);
    await next.stop();
  });

  test("is used by one server; another reports that, plays from memory, and takes the file over", async () => {
    const env = { DATA_DIR: directory() };
    const first = await serve({ env });
    const second = await serve({ env });
    const degraded = await health(second);
    assert.equal(degraded.status, "degraded");
    assert.match(degraded.storage.reason, /in use by another BandSync/);
    assert.match(second.run.stderr, /in use by another BandSync/);
    const sessionId = freshSession("second");
    const leader = await join(second, sessionId, { role: "leader" });
    const ticks = next(leader, "scroll_tick");
    await emit(leader, "play", { sessionId });
    await ticks;
    await first.stop();
    await until("the second has the file", async () => (await health(second)).status === "healthy");
    await stored(second, 1);
    await second.crash();
    const third = await serve({ env });
    assert.equal((await joinAck(third, sessionId)).ack.restored, true);
    await third.stop();
  });

  for (const [what, damage] of [
    ["that begins with something else", (file) => {
      const bytes = readFileSync(file);
      writeFileSync(file, Buffer.concat([Buffer.from("not a database"), bytes.subarray(14)]));
    }],
    ["that was cut in a page", (file) => truncateSync(file, 5_000)],
    ["that was cut in its header", (file) => truncateSync(file, 100)],
    ["that was cut off", (file) => truncateSync(file, Math.floor(statSync(file).size / 2))],
    ["with wrong bytes everywhere", (file) => {
      const bytes = readFileSync(file);
      for (let at = 4_096; at < bytes.length; at += 64) bytes[at] ^= 0x55;
      writeFileSync(file, bytes);
    }],
  ]) {
    test(`${what} is set aside and reported`, async () => {
      const env = { DATA_DIR: directory() };
      let server = await serve({ env });
      await join(server, "damaged");
      await stored(server, 1);
      await server.stop();
      damage(joinPath(env.DATA_DIR, "bandsync.redb"));
      server = await serve({ env });
      await until("the damage is reported", () => /is damaged/.test(server.run.stderr));
      assert.ok(readdirSync(env.DATA_DIR).some((name) => name.startsWith("bandsync.redb.damaged-")));
      const { ack } = await joinAck(server, "damaged");
      assert.deepEqual([ack.ok, ack.restored], [true, undefined]);
      assert.equal((await health(server)).status, "healthy");
      await server.stop();
    });
  }

  test("that is removed while the server runs is created again with all sessions", async () => {
    const env = { DATA_DIR: directory(), SHARDS: "1" };
    let server = await serve({ env });
    const quiet = await playing(server);
    const changed = await playing(server);
    await stored(server, 2);
    rmSync(joinPath(env.DATA_DIR, "bandsync.redb"));
    // A change that was still under way may be written to the removed file, so a count of written records proves
    // nothing before the server has opened the new one. It may have written all sessions by the time of the count,
    // so a change raises the count once more.
    await until("the server has opened a new file", () => /storage is back/.test(server.run.stderr));
    const { written } = (await health(server)).storage;
    await emit(changed.leader, "update_message", { sessionId: changed.sessionId, message: "once more" });
    await stored(server, written + 1);
    await server.crash();
    server = await serve({ env });
    for (const { sessionId } of [quiet, changed]) {
      assert.equal((await joinAck(server, sessionId)).ack.restored, true);
    }
    await server.stop();
  });

  test("that may not grow: a full disk stops no music", async (t) => {
    // A soft limit can be raised again without privileges. An ignored signal stays ignored after
    // exec.
    const under = ["bash", "-c", 'trap "" XFSZ; ulimit -S -f 4096; exec "$@"', "bash"];
    const env = { DATA_DIR: directory(), ...RATES };
    let server = await serve({ env, under });
    const { sessionId } = await survivesAFullDisk(server, t, () => {
      const { status, stderr } = spawnSync("prlimit", [`--pid=${server.pid}`, "--fsize=unlimited:"], { encoding: "utf8" });
      assert.equal(status, 0, stderr);
    });
    await server.crash();
    server = await serve({ env });
    const { ack, snapshot } = await joinAck(server, sessionId);
    assert.deepEqual([ack.restored, snapshot.message], [true, "in spite of all"]);
    await server.stop();
  });

  test("on a file system that is really full", async (t) => {
    const folder = directory();
    mkdirSync(folder);
    const mount = `mount -t tmpfs -o size=26m,mode=700 none ${folder}`;
    const alone = ["unshare", ...(process.getuid() === 0 ? [] : ["--user", "--map-root-user"]), "--mount"];
    if (spawnSync(alone[0], [...alone.slice(1), "sh", "-c", mount]).status !== 0) {
      return cannot(t, "no file system may be mounted; the test before shows the same with a limit");
    }
    const under = [...alone, "sh", "-c", `${mount} && head -c 20m /dev/zero > ${folder}/ballast && exec "$@"`, "sh"];
    const server = await serve({ env: { DATA_DIR: folder, ...RATES }, under });
    const inside = `/proc/${server.pid}/root${folder}`;
    await survivesAFullDisk(server, t, () => rmSync(`${inside}/ballast`));
    assert.deepEqual(readdirSync(inside), ["bandsync.redb"]);
    await server.stop();
  });

  test("in a directory that may not be written to", async () => {
    const folder = directory();
    mkdirSync(folder);
    chmodSync(folder, 0o500);
    // Root may write anywhere unless it drops these capabilities.
    const less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    const under = process.getuid() === 0 ? less : [];
    const server = await serve({ env: { DATA_DIR: folder }, under });
    const { reason } = await degraded(server, /may not be written to/);
    assert.ok(reason.includes(folder) && reason.includes("--data"), reason);
    const { sessionId } = await playing(server);
    chmodSync(folder, 0o700);
    await until("the server is healthy", async () => (await health(server)).status === "healthy");
    await stored(server, 1);
    await server.crash();
    const again = await serve({ env: { DATA_DIR: folder } });
    assert.equal((await joinAck(again, sessionId)).ack.restored, true);
    await again.stop();
  });

  test("that cannot be created leaves sessions in memory", async () => {
    const blocked = directory();
    writeFileSync(blocked, "a file where the directory should be");
    const server = await serve({ env: { DATA_DIR: blocked } });
    const { status, storage } = await health(server);
    assert.deepEqual([status, storage.place], ["degraded", "file"]);
    assert.ok(storage.reason.includes(blocked) && !Number.isNaN(Date.parse(storage.since)));
    const { ack } = await joinAck(server, freshSession());
    assert.deepEqual([ack.ok, ack.restored], [true, false]);
    await server.stop();
  });

  test("loses a session to which no member returns within SESSION_TTL", async () => {
    const env = { DATA_DIR: directory(), SESSION_TTL: "1000" };
    let server = await serve({ env });
    const sessionId = freshSession("gone");
    const leader = await join(server, sessionId);
    await emit(leader, "leave_session", { sessionId });
    await until("the session is evicted", async () => (await health(server)).sessions.total === 0);
    await stored(server, 1);
    await server.crash();
    server = await serve({ env });
    const { ack } = await joinAck(server, sessionId);
    assert.equal(ack.restored, undefined);
    await server.stop();
  });
});

describe("memory", () => {
  test("is healthy and writes no file", async () => {
    const env = { DATA_DIR: directory(), STORAGE: "memory" };
    const server = await serve({ env });
    const { ack } = await joinAck(server, freshSession());
    assert.deepEqual([ack.ok, ack.restored], [true, undefined]);
    const { status, storage } = await health(server);
    assert.deepEqual([status, storage.place, existsSync(env.DATA_DIR)], ["healthy", "memory", false]);
    await server.stop();
  });
});

describe("the history", () => {
  test("continues after a restart", async () => {
    const env = { DATA_DIR: directory(), METRICS_INTERVAL: "1000" };
    let server = await serve({ env });
    const history = async (query) => JSON.parse((await request(server, "GET", `/metrics/history${query}`)).body);
    const begun = await until("a point is recorded", async () => {
      const { points } = await history("?metric=cpuPercent&since=1h");
      return points?.length > 0 && points;
    });
    assert.ok((await history("")).fields.includes("messagesOutPerSecond"));
    await server.stop();
    server = await serve({ env });
    const after = await until("the points are read back", async () => {
      const { points } = await history("?metric=cpuPercent");
      return points?.length > 0 && points;
    });
    assert.deepEqual(after[0], begun[0]);
    assert.equal((await request(server, "GET", "/metrics/history?metric=nothing")).status, 404);
    await server.stop();
  });
});
