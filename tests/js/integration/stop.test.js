// Starting and stopping as operators see it: signals, exit codes, help, and sources of settings.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { describe, test } from "node:test";
import { io } from "socket.io-client";
import io2 from "socket.io-client-2";
import { band, emit, freshSession, join, next } from "../support/client.js";
import { launch, startServer } from "../support/server.js";
import { assertDone, assertShape } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { engineMember, head, request, tcp, upgradeHead } from "../support/wire.js";

const ended = (run) => within(PATIENCE_MS, run.exited, "the run ends");

describe("stopping", () => {
  for (const [signal, goodbye] of [["SIGTERM", undefined], ["SIGINT", "reconnect"], ["SIGTERM", "disconnect"]]) {
    test(`${signal} says goodbye to every client and exits with 0, with DRAIN_GOODBYE=${goodbye ?? ""}`, async () => {
      const server = await startServer({ env: { SHARDS: "3", DRAIN_GOODBYE: goodbye ?? "" } });
      const { all } = await band(server, 4);
      const idle = await tcp(server);
      const plain = await engineMember(server);
      const errors = all.map((one) => next(one, "error", (error) => error.code === "draining"));
      const goodbyes = all.map((one) => new Promise((done) => one.once("disconnect", done)));
      server.signal(signal);
      for (const error of await Promise.all(errors)) assertShape(error, { code: "draining", message: "string" });
      const reasons = await within(PATIENCE_MS, Promise.all(goodbyes), "every client is disconnected");
      // The stock client stays away after the first reason, and reconnects after the second.
      const reason = goodbye === "disconnect" ? "io server disconnect" : "transport close";
      assert.deepEqual(new Set(reasons), new Set([reason]));
      if (goodbye === "disconnect") await plain.read((packet) => packet === "41", "the disconnect packet");
      assert.equal(await plain.closeCode(), 1001);
      await idle.closed();
      const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
      assert.equal(code, 0);
      await assert.rejects(tcp(server), "the port is closed");
    });
  }

  test("/readyz is never ready after the server has logged that it stops", async () => {
    const server = await startServer();
    const ready = () => request(server, "GET", "/readyz").then((answer) => answer, () => null);
    assert.equal((await ready()).status, 200);
    const seen = [];
    const stopped = () => /Stopping/.test(server.run.stdout);
    server.signal("SIGTERM");
    for (let over = false; !over; ) {
      const logged = stopped();
      const answer = await ready();
      seen.push(answer?.status ?? "closed");
      if (logged) assert.notEqual(answer?.status, 200, "a balancer would send members to a stopping server");
      if (answer?.status === 503) assert.equal(answer.body, '{"ready":false,"reasons":["draining"]}');
      over = logged && answer === null;
    }
    assert.ok(seen.includes("closed"));
    const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.equal(code, 0);
  });

  test("while a client holds the drain open, probes are answered and clients are refused", async () => {
    const server = await startServer({ env: { SHARDS: "1" } });
    const stubborn = await engineMember(server);
    // A client that reads nothing answers no close, so the server waits for it.
    stubborn.ws._socket.pause();
    const get = (path) => request(server, "GET", path);
    const upgrade = async () => {
      const socket = await tcp(server);
      socket.write(upgradeHead(server));
      return socket.readAnswer();
    };
    // Connections from before the drain. The server may read their requests before or during it.
    const early = await Promise.all(Array.from({ length: 20 }, () => tcp(server)));
    server.signal("SIGTERM");
    for (const socket of early) socket.write(head(server, "GET", "/livez"));
    for (const socket of early) assert.equal((await socket.readAnswer()).status, 200);
    let ready = await get("/readyz");
    while (ready.status === 200) ready = await get("/readyz");
    assert.deepEqual([ready.status, ready.body], [503, '{"ready":false,"reasons":["draining"]}']);
    assert.equal((await get("/livez")).status, 200, "a restart would not help");
    assert.equal(typeof JSON.parse((await get("/health")).body).status, "string");
    for (const ask of [() => get("/socket.io/?EIO=4&transport=polling"), upgrade]) {
      // A shard may begin to drain a moment after /readyz says so.
      let refused = await ask();
      while (refused.status !== 503) refused = await ask();
      assert.equal(refused.headers["retry-after"], "5");
      assert.match(refused.body, /draining/);
    }
    stubborn.ws.terminate();
    assert.equal((await within(PATIENCE_MS, server.exited, "the server exits")).code, 0);
    await assert.rejects(tcp(server), "the port is closed");
  });

  for (const transport of ["websocket", "polling"]) {
    test(`the stock client reconnects by itself after a restart, by ${transport}`, async () => {
      let server = await startServer({ env: { STORAGE: "memory" } });
      const { port } = server;
      const sessionId = freshSession("restart");
      const reconnection = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200, transports: [transport] };
      const one = await join(server, sessionId, { displayName: "Ada" }, reconnection);
      try {
        // A polling client receives the error only if a request of it is waiting at that moment.
        const isTold = transport === "websocket" ? next(one, "error", (error) => error.code === "draining") : null;
        const gone = new Promise((done) => one.once("disconnect", done));
        const back = new Promise((done) => one.once("connect", done));
        const plain = transport === "websocket" ? await engineMember(server) : null;
        server.signal("SIGTERM");
        if (isTold) assertShape(await isTold, { code: "draining", message: "string" });
        const reason = await within(PATIENCE_MS, gone, "the client is disconnected");
        assert.ok(reason === "transport close" || (!isTold && reason === "transport error"), reason);
        if (plain) assert.equal(await plain.closeCode(), 1001);
        const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
        assert.equal(code, 0);
        server = await startServer({ env: { PORT: String(port), STORAGE: "memory" } });
        await within(PATIENCE_MS, back, "the client reconnects by itself");
        assertDone(await emit(one, "join_session", { sessionId, displayName: "Ada" }), {
          role: "string",
          sessionId: "string",
          socketId: "string",
          epoch: "number",
          version: "number",
        });
        await server.stop();
      } finally {
        one.disconnect();
      }
    });
  }

  for (const [version, client, transports] of [
    [4, io, ["polling", "websocket"]],
    [2, io2, ["polling", "websocket"]],
    [2, io2, ["websocket"]],
    [2, io2, ["polling"]],
  ]) {
    test(`socket.io-client ${version} reconnects by itself after a restart, by ${transports.join(" and ")}`, async () => {
      let server = await startServer({ env: { STORAGE: "memory" } });
      const options = { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200 };
      const socket = client(server.url, options);
      const connects = () => new Promise((done) => socket.once("connect", done));
      try {
        await within(PATIENCE_MS, connects(), "it connects");
        const back = connects();
        server.signal("SIGTERM");
        assert.equal((await within(PATIENCE_MS, server.exited, "the server exits")).code, 0);
        server = await startServer({ env: { PORT: String(server.port), STORAGE: "memory" } });
        await within(PATIENCE_MS, back, "the client reconnects by itself");
        await server.stop();
      } finally {
        socket.disconnect();
      }
    });
  }

  test("a server without clients exits with 0", async () => {
    const server = await startServer();
    server.signal("SIGINT");
    const { code, signal } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.deepEqual([code, signal], [0, null]);
  });

  test("a second signal ends the server although a client is still connected", async () => {
    const server = await startServer();
    const stubborn = await engineMember(server);
    // A client that reads nothing answers no close, so the server would wait for it.
    stubborn.ws._socket.pause();
    server.signal("SIGINT");
    server.signal("SIGTERM");
    const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.notEqual(code, 0, "the exit code says that a client was cut off");
    stubborn.ws.terminate();
  });
});

describe("the command line", () => {
  test("--help explains every option and variable", async () => {
    const { code, stdout } = await ended(launch({ args: ["--help"] }));
    assert.equal(code, 0);
    const names = [
      "PORT",
      "HOST",
      "MDNS",
      "SHARDS",
      "LOG_LEVEL",
      "CORS_ORIGIN",
      "SYNC_TARGET_LATENCY",
      "SCROLL_TICK_INTERVAL",
      "BATCH_INTERVAL",
      "SOCKET_PING_INTERVAL",
      "SOCKET_PING_TIMEOUT",
      "MAX_SESSION_MEMBERS",
      "BANDSYNC_ENV",
    ];
    for (const name of names) assert.ok(stdout.includes(name), `${name} is not in the help`);
    for (const option of ["--port", "--host", "--shards", "--help", "--version"]) {
      assert.ok(stdout.includes(option), `${option} is not in the help`);
    }
  });

  test("--version names the program and its version", async () => {
    const { code, stdout } = await ended(launch({ args: ["--version"] }));
    assert.equal(code, 0);
    assert.match(stdout, /^bandsync \d+\.\d+\.\d+/);
  });

  const bad = [
    ["PORT", "70000", /65535/],
    ["PORT", "music", /65535/],
    ["SHARDS", "0", /from 1 to/],
    ["SCROLL_TICK_INTERVAL", "-3", /from \d+ to \d+/],
    ["SOCKET_PING_INTERVAL", "soon", /from \d+ to \d+/],
    ["MAX_SESSION_MEMBERS", "0", /10000/],
    ["LOG_LEVEL", "loud", /debug/],
    ["BANDSYNC_ENV", "holiday", /production/],
  ];
  for (const [name, value, range] of bad) {
    test(`${name}=${value} is rejected with its name, the value, the range and exit code 2`, async () => {
      const { code, stderr } = await ended(launch({ env: { [name]: value } }));
      assert.equal(code, 2, stderr);
      for (const part of [name, value]) assert.ok(stderr.includes(part), `${part} is not in: ${stderr}`);
      assert.match(stderr, range);
      assert.doesNotMatch(stderr, /panicked/);
    });
  }

  test("-h fits a screen", async () => {
    const { code, stdout } = await ended(launch({ args: ["-h"] }));
    assert.equal(code, 0);
    const lines = stdout.trimEnd().split("\n");
    assert.ok(lines.length <= 24, stdout);
    assert.ok(lines.every((line) => line.length <= 80), stdout);
  });

  test("bash completes options and their values", async () => {
    const { code, stdout } = await ended(launch({ args: ["completions", "bash"] }));
    assert.equal(code, 0);
    const complete = (...words) => {
      const line = `COMP_WORDS=(bandsync ${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length}`;
      const call = `${line}; _bandsync bandsync '${words.at(-1)}' '${words.at(-2) ?? "bandsync"}'; echo "\${COMPREPLY[@]}"`;
      // By standard input, because an argument may have 128 KiB.
      return execFileSync("bash", { input: `${stdout}\n${call}\n`, encoding: "utf8" }).trim().split(" ");
    };
    assert.deepEqual(complete("--log-format", ""), ["auto", "pretty", "json"]);
    assert.deepEqual(complete("serve", "--drain-goodbye", "re"), ["reconnect"]);
    assert.ok(complete("--redis-p").includes("--redis-port"));
    assert.ok(complete("che").includes("check"));
  });

  test("the manual page has the headings and macros of man", async () => {
    const { code, stdout } = await ended(launch({ args: ["man"] }));
    assert.equal(code, 0);
    assert.match(stdout, /^\.TH bandsync 1/m);
    for (const part of [".SH NAME", ".SH SYNOPSIS", "PORT", "SIGTERM"]) assert.ok(stdout.includes(part), part);
  });

  test("an unknown option is rejected with exit code 2", async () => {
    const { code, stderr } = await ended(launch({ args: ["--louder"] }));
    assert.equal(code, 2);
    assert.match(stderr, /--louder/);
  });

  test("a port in use ends the start with a sentence that names it", async () => {
    const server = await startServer();
    try {
      const { code, stderr, stdout } = await ended(launch({ env: { PORT: String(server.port), HOST: "127.0.0.1" } }));
      assert.notEqual(code, 0);
      assert.ok((stderr + stdout).includes(String(server.port)));
      assert.doesNotMatch(stderr, /panicked/);
    } finally {
      await server.stop();
    }
  });
});

describe("the start", () => {
  /** The lines that a server with `env` prints at its start, on both streams. */
  async function started(env) {
    const server = await startServer({ env: { LOG_LEVEL: "", SHARDS: "", ...env } });
    const { stdout, stderr } = await server.stop();
    return (stdout + stderr).trim().split("\n").filter((line) => !/SIGTERM|Stopp/.test(line));
  }

  test("takes at most twelve lines, the addresses first", async () => {
    const lines = await started({});
    assert.ok(lines.length <= 12, lines.join("\n"));
    assert.match(lines[1], /^ {2}open +http:\/\/127\.0\.0\.1:\d+\/$/);
    const indices = ["storage", "shards", "settings", "stop"].map((word) => lines.findIndex((line) => line.startsWith(`  ${word} `)));
    assert.ok(indices.every((index, at) => index > (indices[at - 1] ?? 1)), lines.join("\n"));
    assert.match(lines[indices[2]], /PORT=0 HOST=127\.0\.0\.1$/);
  });

  test("names each setting that differs from its default, in at most twelve lines", async () => {
    const given = { LEADER_GRACE: "1", SESSION_TTL: "2000", RECOVERY_WINDOW: "3", BATCH_INTERVAL: "4", REDIS_TTL: "50", SERVER_ID: "a", BANDSYNC_ALERT_CPU: "60" };
    const lines = await started({ ...given, BANDSYNC_ENV: "production", ADMIN_TOKEN: "0123456789abcdef" });
    assert.ok(lines.length <= 12, lines.join("\n"));
    const text = lines.join("\n");
    for (const part of ["LEADER_GRACE=1", "SESSION_TTL=2000", "RECOVERY_WINDOW=3", "BATCH_INTERVAL=4", "STORAGE_TTL=50000", "ALERT_CPU=60", "BANDSYNC_ENV=production", "ADMIN_TOKEN=(secret)"]) {
      assert.ok(text.includes(part), `${part} is not in\n${text}`);
    }
    assert.ok(!text.includes("0123456789abcdef"));
  });

  test("the log at debug lists every setting as check --settings does", async () => {
    const env = { LOG_LEVEL: "debug", BANDSYNC_LEADER_GRACE: "7", REDIS_TTL: "50", SHARDS: "" };
    const text = (await started(env)).join("\n");
    const listed = await launch({ args: ["check", "--settings"], env: { PORT: "0", HOST: "127.0.0.1", ...env } }).exited;
    const settings = listed.stdout.trim().split("\n");
    assert.ok(settings.includes("LEADER_GRACE = 7 ms (environment)") && settings.length > 60, listed.stdout);
    for (const setting of settings) assert.ok(text.includes(setting), `${setting} is not in\n${text}`);
  });
});

describe("cores", () => {
  /** The cores that the kernel allows each thread of a shard, as lists. */
  function masks(pid) {
    const threads = readdirSync(`/proc/${pid}/task`).map((id) => readFileSync(`/proc/${pid}/task/${id}/status`, "utf8"));
    const shards = threads.filter((status) => /^Name:\tshard-\d+$/m.test(status));
    return shards.map((status) => /^Cpus_allowed_list:\t(.+)$/m.exec(status)[1]).sort();
  }
  const [own] = /^Cpus_allowed_list:\t(.+)$/m.exec(readFileSync("/proc/self/status", "utf8")).slice(1);
  const isOne = /^\d+$/;

  test("two servers with one shard each are not pinned to the same core", async () => {
    const servers = [await startServer({ env: { SHARDS: "1" } }), await startServer({ env: { SHARDS: "1" } })];
    for (const server of servers) {
      // A shard pins itself before it answers a client.
      await engineMember(server);
      assert.deepEqual(masks(server.pid), [own]);
    }
    for (const server of servers) {
      const { stdout } = await server.stop();
      // With a single core the server does not say "not pinned".
      if (!isOne.test(own)) assert.match(stdout, /shards +1 \(\d+ cores.*; not pinned\)/);
    }
  });

  test("as many shards as cores are pinned to one each", async (t) => {
    const server = await startServer({ env: { SHARDS: "auto" } });
    await within(PATIENCE_MS, (async () => {
      const shards = () => Number(/shards +(\d+)/.exec(server.run.stdout)?.[1]);
      const settled = () => masks(server.pid).length === shards() && (/not pinned/.test(server.run.stdout) || masks(server.pid).every((mask) => isOne.test(mask)));
      while (!settled()) await new Promise((done) => setTimeout(done, 20));
    })(), "each shard has its final mask");
    const found = masks(server.pid);
    const { stdout } = await server.stop();
    if (/CPU quota/.test(stdout)) {
      t.diagnostic("this machine has a CPU quota");
      assert.deepEqual(new Set(found), new Set([own]));
    } else {
      assert.ok(found.every((mask) => isOne.test(mask)), found.join(" "));
      assert.equal(new Set(found).size, found.length);
      assert.match(stdout, /; pinned\)/);
    }
  });

  test("PIN_CORES overrides the choice of the server", async () => {
    const on = await startServer({ env: { SHARDS: "1", PIN_CORES: "on" } });
    await engineMember(on);
    assert.match(masks(on.pid)[0], isOne);
    await on.stop();
    const off = await startServer({ env: { SHARDS: "auto", PIN_CORES: "off" } });
    await engineMember(off);
    assert.deepEqual(new Set(masks(off.pid)), new Set([own]));
    await off.stop();
  });
});

describe("where a setting comes from", () => {
  // The open packet of a connection contains this setting, so a test can read it.
  async function pingInterval({ args, env, dotenv }) {
    const cwd = mkdtempSync(joinPath(tmpdir(), "bandsync-test-"));
    if (dotenv) writeFileSync(joinPath(cwd, ".env"), dotenv);
    const server = await startServer({ args, env, cwd });
    try {
      return (await engineMember(server)).opened.pingInterval;
    } finally {
      await server.stop();
      rmSync(cwd, { recursive: true });
    }
  }

  test("the command line overrides the environment, that overrides .env, and that the default", async () => {
    const dotenv = "# a comment\nSOCKET_PING_INTERVAL=4000\n";
    const env = { SOCKET_PING_INTERVAL: "3000" };
    assert.equal(await pingInterval({}), 2500);
    assert.equal(await pingInterval({ dotenv }), 4000);
    assert.equal(await pingInterval({ dotenv, env }), 3000);
    assert.equal(await pingInterval({ dotenv, env, args: ["--socket-ping-interval", "2000"] }), 2000);
  });

  test("a name with BANDSYNC_ overrides the bare one", async () => {
    assert.equal(await pingInterval({ env: { SOCKET_PING_INTERVAL: "3000", BANDSYNC_SOCKET_PING_INTERVAL: "3500" } }), 3500);
    assert.equal(await pingInterval({ dotenv: "SOCKET_PING_INTERVAL=4000\nBANDSYNC_SOCKET_PING_INTERVAL=4500\n" }), 4500);
  });

  test("variables that Kubernetes sets for Services named redis and bandsync are ignored, with a line for each", async () => {
    const env = { REDIS_PORT: "tcp://10.96.0.5:6379", REDIS_PORT_6379_TCP: "tcp://10.96.0.5:6379", REDIS_SERVICE_HOST: "10.96.0.5", BANDSYNC_PORT: "tcp://10.96.0.6:80", STORAGE: "memory" };
    const server = await startServer({ env });
    const { stdout, stderr } = await server.stop();
    const ignored = (stdout + stderr).split("\n").filter((line) => line.includes("is ignored"));
    assert.equal(ignored.length, 2, stderr);
    assert.match(ignored.join("\n"), /REDIS_PORT="tcp:\/\/10\.96\.0\.5:6379" is ignored/);
    assert.doesNotMatch(stderr, /no effect/);
  });

  test("variables of the Node.js server set ours, with a line for each", async () => {
    const env = { REDIS_TTL: "7200", RATE_LIMIT_MAX_REQUESTS: "50", SOCKET_MAX_BUFFER_SIZE: "5000", SERVER_ID: "a", BANDSYNC_ENV: "production", LOG_LEVEL: "" };
    const server = await startServer({ env });
    assert.equal((await engineMember(server)).opened.maxPayload, 5000);
    const { stderr } = await server.stop();
    assert.match(stderr, /REDIS_TTL sets STORAGE_TTL=7200000/);
    assert.match(stderr, /RATE_LIMIT_MAX_REQUESTS sets EVENT_RATES=total=50/);
    assert.match(stderr, /these variables have no effect: SERVER_ID/);
  });

  test("the profile sets the log level and the tick, and NODE_ENV is honoured", async () => {
    const effective = async (env) => (await ended(launch({ args: ["check", "--settings"], env }))).stdout;
    assert.match(await effective({ BANDSYNC_ENV: "development" }), /SCROLL_TICK_INTERVAL\D*16/i);
    assert.match(await effective({ BANDSYNC_ENV: "production" }), /SCROLL_TICK_INTERVAL\D*8/i);
    assert.match(await effective({ NODE_ENV: "production" }), /SCROLL_TICK_INTERVAL\D*8/i);
    assert.match(await effective({ NODE_ENV: "production", SCROLL_TICK_INTERVAL: "20" }), /SCROLL_TICK_INTERVAL\D*20/i);
  });
});
