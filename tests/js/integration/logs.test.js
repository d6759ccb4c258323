// What the real server writes down, where, and what it never does.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { describe, test } from "node:test";
import { band, emit, freshSession, join } from "../support/client.js";
import { launch, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";

async function until(what, holds) {
  for (let i = 0; i < 200; i += 1) {
    if (holds()) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.fail(`it never came: ${what}`);
}

describe("the log", () => {
  test("is one JSON object a line, each with time, level, target and msg", async () => {
    const server = await startServer({ env: { LOG_FORMAT: "json", LOG_LEVEL: "debug" } });
    await band(server, 2);
    const { stderr } = await server.stop();
    const lines = stderr.trim().split("\n").map((line) => JSON.parse(line));
    assert.ok(lines.length > 5);
    for (const line of lines) {
      assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.match(line.level, /^(ERROR|WARN|INFO|DEBUG|TRACE)$/);
      assert.deepEqual([typeof line.target, typeof line.msg], ["string", "string"]);
    }
  });

  test("has a level for each part of the program", async () => {
    const server = await startServer({ env: { LOG_FORMAT: "json", LOG_LEVEL: "off,bandsync::stop=info" } });
    const { stderr } = await server.stop();
    const targets = stderr.trim().split("\n").map((line) => JSON.parse(line).target);
    assert.deepEqual([...new Set(targets)], ["bandsync::stop"]);
  });

  test("goes to a file, and to a new one after SIGHUP", async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-log-"));
    const [file, old] = [path(folder, "log"), path(folder, "log.1")];
    const server = await startServer({ env: { LOG_FILE: file } });
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

  test("a file that cannot be written ends the start, and says so", async () => {
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

  test("a secret that is refused is not repeated", async () => {
    const end = await launch({ env: { ADMIN_TOKEN: "too-short-secret" .slice(0, 9) } }).exited;
    assert.equal(end.code, 2);
    assert.match(end.stderr, /ADMIN_TOKEN/);
    assert.ok(!end.stderr.includes("too-short"));
  });
});
