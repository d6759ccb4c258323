// `bandsync check` on this machine: what it finds, and what its exit code means.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { launch, startServer } from "../support/server.js";

const check = (env, args = []) => launch({ env: { HOST: "127.0.0.1", PORT: "0", ...env }, args: ["check", ...args] }).exited;

describe("bandsync check", () => {
  test("looks at everything, explains each finding, and starts nothing", async () => {
    const { code, stdout, stderr } = await check({});
    assert.equal(code, 0, stdout + stderr);
    const lines = stdout.trim().split("\n");
    for (const what of ["configuration", "port", "open files", "cores", "clock", "waiting connections", "memory", "log", "operator pages", "Redis"]) {
      assert.ok(lines.some((line) => new RegExp(`^(ok|advice) +${what}: .{5,}`).test(line)), `${what} in\n${stdout}`);
    }
  });

  test("a port in use is trouble", async () => {
    const server = await startServer();
    const { code, stdout } = await check({ PORT: String(server.port) });
    assert.equal(code, 1);
    assert.match(stdout, /TROUBLE +port: .*in use/);
    await server.stop();
  });

  test("more shards than cores, a strange Redis and a password are spoken of, the password not told", async () => {
    const { code, stdout } = await check({ SHARDS: "200", REDIS_URL: "redis://me:hush@127.0.0.1:9/0" });
    assert.equal(code, 0);
    assert.match(stdout, /advice +cores: 200 shards/);
    assert.match(stdout, /advice +Redis: 127\.0\.0\.1:9 does not answer/);
    assert.ok(!stdout.includes("hush"));
  });

  test("a value that is not allowed is named, with exit code 2", async () => {
    const { code, stderr } = await check({ SHARDS: "none" });
    assert.equal(code, 2);
    assert.match(stderr, /SHARDS cannot be "none"/);
  });
});
