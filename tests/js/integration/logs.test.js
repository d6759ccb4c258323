// The log of the real server: its lines, its files, and secrets that it must never contain.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, existsSync, mkdtempSync, openSync, readFileSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { describe, test } from "node:test";
import { band, emit, freshSession, join, next } from "../support/client.js";
import { launch, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { request, tcp } from "../support/wire.js";

/** Parses the lines of a JSON log. */
const parsed = (text) => text.trim().split("\n").map((line) => JSON.parse(line));

const json = async (server, path) => JSON.parse((await request(server, "GET", path)).body);

/** Sends a malformed request, which causes a line in the log. */
async function refused(server) {
  const connection = await tcp(server);
  connection.write("rubbish\r\n\r\n");
  await connection.closed();
}

/** Fills a pipe. */
function fill(pipe) {
  try {
    for (;;) writeSync(pipe, "x".repeat(1024));
  } catch (error) {
    assert.equal(error.code, "EAGAIN");
  }
}

/** Reads all bytes that are in a pipe. */
function take(pipe) {
  const buffer = Buffer.alloc(1 << 16);
  let text = "";
  try {
    for (;;) text += buffer.toString("utf8", 0, readSync(pipe, buffer));
  } catch (error) {
    assert.equal(error.code, "EAGAIN");
  }
  return text;
}

async function until(what, holds) {
  for (let i = 0; i < 400; i += 1) {
    const found = await holds();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.fail(`did not happen within 20 s: ${what}`);
}

describe("the log", () => {
  test("has one JSON object per line, with time, level, target and msg", async () => {
    const server = await startServer({ env: { LOG_FORMAT: "json", LOG_LEVEL: "debug" } });
    await band(server, 2);
    const { stderr } = await server.stop();
    const lines = parsed(stderr);
    assert.ok(lines.length > 5);
    for (const line of lines) {
      assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.match(line.level, /^(ERROR|WARN|INFO|DEBUG|TRACE)$/);
      assert.deepEqual([typeof line.target, typeof line.msg], ["string", "string"]);
    }
  });

  test("names the client, session, shard and reason of a close", async () => {
    const server = await startServer({ env: { LOG_FORMAT: "json", LOG_LEVEL: "warn,bandsync_driver=debug" } });
    const { sessionId, followers } = await band(server, 3);
    followers[0].disconnect();
    await until("the first close is logged", () => server.run.stderr.includes("connection closed by client"));
    followers[1].io.engine.transport.ws.send("no packet");
    await until("the second close is logged", () => server.run.stderr.includes("connection closed by server"));
    const [left, rejected] = parsed(server.run.stderr);
    for (const [line, level, msg] of [[left, "DEBUG", /^connection closed by client: client namespace disconnect$/], [rejected, "INFO", /^connection closed by server: malformed Engine\.IO packet$/]]) {
      assert.equal(line.level, level);
      assert.match(line.msg, msg);
      assert.deepEqual(Object.keys(line), ["time", "level", "target", "shard", "conn", "session", "peer", "msg"]);
      assert.match(line.conn, /^\d+\.\d+$/);
      assert.deepEqual([typeof line.shard, line.session, line.peer], ["number", sessionId, "127.0.0.1"]);
    }
    await server.stop();
  });

  test("does not stop the band when nobody reads it; its full queue raises an alert, and lost lines are counted", async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-pipe-"));
    const fifo = path(folder, "pipe");
    execFileSync("mkfifo", [fifo]);
    const end = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    fill(end);
    const stderr = openSync(fifo, constants.O_WRONLY);
    const server = await startServer({ env: { LOG_LEVEL: "info" }, stderr });
    closeSync(stderr);
    const { sessionId, leader, followers } = await band(server, 2);
    assertDone(await emit(leader, "play", { sessionId }));
    for (let i = 0; i < 60; i += 1) {
      await Promise.all(Array.from({ length: 100 }, () => refused(server)));
    }
    const health = await until("the queue raises an alert", async () => {
      const found = await json(server, "/health");
      return found.reasons.length > 0 && found;
    });
    assert.deepEqual(health.reasons.map((reason) => reason.name), ["queue"]);
    await until("lines are lost", async () => (await json(server, "/metrics")).performance.logLinesLost > 0);
    const paused = next(followers[0], "pause");
    assertDone(await emit(leader, "pause", { sessionId }));
    await paused;
    // The pipe is read again.
    let read = "";
    const reader = setInterval(() => (read += take(end)), 20);
    await until("the alert is cleared", async () => (await json(server, "/health")).reasons.length === 0);
    await until("the number of lost lines is logged", () => /\d+ lines of the log were lost/.test(read));
    await server.stop();
    clearInterval(reader);
    closeSync(end);
    rmSync(folder, { recursive: true });
  });

  test("does not stop the band when the disk is full; lost lines are counted", async () => {
    const server = await startServer({ env: { LOG_FILE: "/dev/full", LOG_LEVEL: "debug" } });
    const { sessionId, leader } = await band(server, 2);
    assertDone(await emit(leader, "play", { sessionId }));
    await next(leader, "scroll_tick");
    await until("lines are lost", async () => (await json(server, "/metrics")).performance.logLinesLost > 10);
    assert.equal((await json(server, "/health")).status, "healthy");
    await server.stop();
  });

  test("has a level for each module", async () => {
    const server = await startServer({ env: { LOG_FORMAT: "json", LOG_LEVEL: "off,bandsync::server::stop=info" } });
    const { stderr } = await server.stop();
    const targets = stderr.trim().split("\n").map((line) => JSON.parse(line).target);
    assert.deepEqual([...new Set(targets)], ["bandsync::server::stop"]);
  });

  test("is written to a file, and to a new one after SIGHUP", async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-log-"));
    const [file, old] = [path(folder, "log"), path(folder, "log.1")];
    const server = await startServer({ env: { LOG_FILE: file, LOG_LEVEL: "debug" } });
    await until("the first lines", () => existsSync(file) && readFileSync(file, "utf8").includes("PORT"));
    renameSync(file, old);
    server.signal("SIGHUP");
    await until("the new file", () => existsSync(file) && readFileSync(file, "utf8").includes("SIGHUP"));
    const { stderr } = await server.stop();
    assert.equal(stderr, "");
    assert.match(readFileSync(file, "utf8"), /SIGTERM/);
    assert.ok(!readFileSync(old, "utf8").includes("SIGTERM"));
    rmSync(folder, { recursive: true });
  });

  test("ends the start with an error if its file cannot be written", async () => {
    const end = await launch({ env: { PORT: "0", HOST: "127.0.0.1", LOG_FILE: "/no/such/folder/log" } }).exited;
    assert.equal(end.code, 2);
    assert.match(end.stderr, /cannot log to \/no\/such\/folder\/log/);
  });

  test("never holds a passcode, a PIN, a token or the seed, however much is logged", async () => {
    const secrets = { passcode: "open-sesame", leaderPin: "24681357" };
    const server = await startServer({
      env: { LOG_LEVEL: "trace", ADMIN_TOKEN: "token-nobody-may-see", SEED: "918273645", ALERT_WEBHOOK: "http://127.0.0.1:9/?k=hook-secret" },
    });
    const sessionId = freshSession("secret");
    const leader = await join(server, sessionId, { displayName: "Ada", ...secrets });
    assertDone(await emit(leader, "play", { sessionId }));
    const { stderr, stdout } = await server.stop();
    for (const secret of [...Object.values(secrets), "token-nobody-may-see", "918273645", "hook-secret"]) {
      assert.ok(!(stderr + stdout).includes(secret), secret);
    }
  });

  test("does not repeat a secret that is rejected", async () => {
    const end = await launch({ env: { ADMIN_TOKEN: "too-short-secret" .slice(0, 9) } }).exited;
    assert.equal(end.code, 2);
    assert.match(end.stderr, /ADMIN_TOKEN/);
    assert.ok(!end.stderr.includes("too-short"));
  });
});
