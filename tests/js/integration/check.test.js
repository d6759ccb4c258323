// `bandsync check` on this machine: its findings and its exit codes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { binary, launch, startServer } from "../support/server.js";

const check = (env, args = []) => launch({ env: { HOST: "127.0.0.1", PORT: "0", ...env }, args: ["check", ...args] }).exited;

describe("bandsync check", () => {
  test("checks everything, explains each finding, and starts no server", async () => {
    const { code, stdout, stderr } = await check({});
    assert.equal(code, 0, stdout + stderr);
    const lines = stdout.trim().split("\n");
    for (const what of ["configuration", "port", "open files", "cores", "clock", "waiting connections", "half-open connections", "files of the system", "memory", "log", "operator pages", "storage"]) {
      assert.ok(lines.some((line) => new RegExp(`^(ok|advice) +${what}: .{5,}`).test(line)), `${what} in\n${stdout}`);
    }
  });

  test("--settings lists every setting with its source, and nothing else", async () => {
    const { code, stdout, stderr } = await check({ BANDSYNC_SHARDS: "1", ADMIN_TOKEN: "0123456789abcdef" }, ["--settings", "--leader-grace", "7"]);
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split("\n");
    assert.ok(lines.length > 60 && lines.every((line) => /^[A-Z_0-9]+ = .+ \(.+\)$/.test(line)), stdout);
    for (const line of ["SHARDS = 1 (environment)", "LEADER_GRACE = 7 ms (command line)", "DRAIN_GOODBYE = reconnect (default in development)", "ADMIN_TOKEN = (secret) (environment)"]) {
      assert.ok(lines.includes(line), line);
    }
  });

  test("a port in use is reported as trouble", async () => {
    const server = await startServer();
    const { code, stdout } = await check({ PORT: String(server.port) });
    assert.equal(code, 1);
    assert.match(stdout, /ERROR +port: .*in use/);
    await server.stop();
  });

  test("more shards than cores and an unknown Redis are reported, without the password", async () => {
    const { code, stdout } = await check({ SHARDS: "200", REDIS_URL: "redis://me:hush@127.0.0.1:9/0" });
    assert.equal(code, 0);
    assert.match(stdout, /advice +cores: 200 shards/);
    assert.match(stdout, /advice +Redis: 127\.0\.0\.1:9 does not answer/);
    const parts = await check({ REDIS_HOST: "127.0.0.1", REDIS_PORT: "9", REDIS_PASSWORD: "hush" });
    assert.match(parts.stdout, /advice +Redis: 127\.0\.0\.1:9 does not answer/);
    assert.ok(!parts.stdout.includes("hush"));
    assert.ok(!stdout.includes("hush"));
  });

  test("a low limit of files is reported; the server raises its own limit as far as it may", async () => {
    const limited = (soft, hard, args) => spawnSync("sh", ["-c", `ulimit -Sn ${soft} && ulimit -Hn ${hard} && exec "$0" ${args}`, binary], { encoding: "utf8", env: { PORT: "0", HOST: "127.0.0.1", HOME: "/tmp", PATH: process.env.PATH } });
    assert.match(limited(64, 128, "check").stdout, /advice +open files: only 128 are allowed/);
    const server = await startServer();
    const limits = readFileSync(`/proc/${server.pid}/limits`, "utf8");
    const [, soft, hard] = /^Max open files +(\d+) +(\d+)/m.exec(limits);
    assert.equal(soft, hard);
    await server.stop();
  });

  test("an invalid value is named, with exit code 2", async () => {
    const { code, stderr } = await check({ SHARDS: "none" });
    assert.equal(code, 2);
    assert.match(stderr, /SHARDS cannot be "none"/);
  });
});
