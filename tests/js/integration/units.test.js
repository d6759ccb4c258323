// The files of tools/deploy for services: bandsync.service, bandsync.socket, the socket that systemd passes to the server,
// and logrotate. activate.py stands for systemd, so that no machine needs to have been started by it.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect, emit, everyoneReceives, freshSession } from "../support/client.js";
import { has, shipped } from "../support/deploy.js";
import { leashed } from "../support/leash.js";
import { until } from "../support/redis.js";
import { binary, launch, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";

const NO_SYSTEMD = !has("systemd-analyze", "--version") && "systemd is not here: apt-get install systemd";
const NO_PYTHON = !has("python3", "--version") && "python3 is not here: apt-get install python3";

/** The most that `systemd-analyze security` may find: 0 is locked up, 10 is as root. */
const EXPOSURE_MAX = 2.0;

const analyze = (...args) => {
  const { status, stdout, stderr } = spawnSync("systemd-analyze", ["--no-pager", ...args], { encoding: "utf8" });
  return { status, text: stdout + stderr };
};

describe("the units", { skip: NO_SYSTEMD }, () => {
  let folder;
  before(() => {
    folder = mkdtempSync(path(tmpdir(), "bandsync-units-"));
    // The program must exist where the unit names it.
    const unit = shipped("bandsync.service").replaceAll("/usr/local/bin/bandsync", binary);
    writeFileSync(path(folder, "bandsync.service"), unit);
    writeFileSync(path(folder, "bandsync.socket"), shipped("bandsync.socket"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("systemd finds no fault", () => {
    const { status, text } = analyze("verify", "--man=no", path(folder, "bandsync.service"), path(folder, "bandsync.socket"));
    const ours = text.split("\n").filter((line) => /bandsync/.test(line));
    assert.deepEqual([status, ours], [0, []], text);
  });

  test("systemd finds a fault in a broken unit", () => {
    const broken = path(folder, "broken.service");
    writeFileSync(broken, shipped("bandsync.service").replaceAll("/usr/local/bin/bandsync", "/no/such/program"));
    assert.notEqual(analyze("verify", "--man=no", broken).status, 0);
  });

  test(`the service is exposed by ${EXPOSURE_MAX} at most`, () => {
    const { text } = analyze("security", "--offline=true", path(folder, "bandsync.service"));
    const [, exposure] = /exposure level for bandsync\.service: ([\d.]+)/.exec(text) ?? assert.fail(text);
    assert.ok(Number(exposure) <= EXPOSURE_MAX, text);
  });
});

describe("a socket that a supervisor passes", { skip: NO_PYTHON }, () => {
  const script = fileURLToPath(new URL("../support/activate.py", import.meta.url));
  let supervisor, port, report, url;
  const env = { PATH: process.env.PATH, SHARDS: "2", STORAGE: "memory", LOG_LEVEL: "info", MDNS: "off" };

  before(async () => {
    supervisor = spawn(...leashed("python3", [script, binary]), { env, stdio: ["pipe", "pipe", "inherit"] });
    report = "";
    supervisor.stdout.setEncoding("utf8").on("data", (text) => (report += text));
    await until("the port is known", async () => /^\d+\n/.test(report));
    port = Number(/^\d+/.exec(report)[0]);
    url = `http://127.0.0.1:${port}`;
  });
  after(async () => {
    const ended = new Promise((done) => supervisor.once("close", done));
    supervisor.stdin.end();
    stop();
    await within(PATIENCE_MS, ended, "the supervisor ends");
  });

  const start = () => supervisor.stdin.write("\n");
  const stop = () => process.kill(Number(/started (\d+)\n$/.exec(report)[1]), "SIGTERM");
  const ask = async (page) => (await fetch(`${url}${page}`)).status;

  test("serves members on all shards", async () => {
    start();
    await until("members may connect", async () => (await ask("/readyz")) === 200);
    const sessionId = freshSession("activated");
    const server = { url, port, owns: () => {} };
    const members = [];
    for (let at = 0; at < 8; at += 1) members.push(await connect(server));
    for (const member of members) assertDone(await emit(member, "join_session", { sessionId, displayName: "one of eight" }));
    await everyoneReceives(members, "play", () => true, async () => assertDone(await emit(members[0], "play", { sessionId })));
    const { shards } = await (await fetch(`${url}/health`)).json();
    assert.equal(shards.length, 2);
    for (const member of members) member.disconnect();
  });

  test("refuses nobody while the server restarts", async () => {
    stop();
    await until("the server has ended", async () => report.endsWith("ended 0\n"));
    // Nobody accepts this connection yet.
    const waiting = ask("/livez");
    start();
    assert.equal(await within(PATIENCE_MS, waiting, "the next server answers"), 200);
  });
});

describe("a socket that does not fit", { skip: NO_PYTHON }, () => {
  const passed = (open, env = {}) => {
    const script = `import os, socket, sys\n${open}\nos.dup2(one.fileno(), 3)\nos.set_inheritable(3, True)\nos.environ.update(LISTEN_PID=str(os.getpid()))\nos.execv(sys.argv[1], sys.argv[1:])`;
    const run = launch({ under: ["python3", "-c", script], env: { STORAGE: "memory", LISTEN_FDS: "1", ...env } });
    return within(PATIENCE_MS, run.exited, "the server ends");
  };
  for (const [what, open, env, said] of [
    ["another port than PORT", 'one = socket.create_server(("127.0.0.1", 0))', { PORT: "1" }, /listens on port \d+, but PORT is 1: set both to the same port/],
    ["a socket for datagrams", "one = socket.socket(type=socket.SOCK_DGRAM)", {}, /not a listening TCP socket/],
    ["a file", 'one = open("/dev/null")', {}, /not a listening TCP socket/],
    ["two sockets", 'one = socket.create_server(("127.0.0.1", 0))', { LISTEN_FDS: "2" }, /2 sockets were passed .* a single ListenStream=/],
  ]) {
    test(`${what} is rejected with the remedy`, async () => {
      const { code, stderr } = await passed(open, env);
      assert.equal(code, 1, stderr);
      assert.match(stderr, said);
    });
  }
});

describe("logrotate", { skip: !has("logrotate", "--version") && "logrotate is not here: apt-get install logrotate" }, () => {
  test("the server continues in a new file, and the old one is kept", async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-rotated-"));
    const log = path(folder, "log");
    const server = await startServer({ env: { STORAGE: "memory", LOG_FILE: log } });
    try {
      // A line to keep: a quiet server has logged nothing yet.
      server.signal("SIGHUP");
      const before = await until("the server has logged", async () => readFileSync(log, "utf8"));
      const [rotation, signal] = ["/var/log/bandsync/log", "systemctl kill --signal=HUP bandsync.service"];
      const text = shipped("logrotate");
      assert.ok(text.includes(rotation) && text.includes(signal));
      writeFileSync(path(folder, "rotation"), text.replaceAll(rotation, log).replace(signal, `kill -HUP ${server.pid}`), { mode: 0o644 });
      const { status, stderr } = spawnSync("logrotate", ["--force", "--state", path(folder, "state"), path(folder, "rotation")], { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      await until("the server logs to the new file", async () => /SIGHUP/.test(readFileSync(log, "utf8")));
      assert.ok(readFileSync(`${log}.1`, "utf8").startsWith(before));
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
