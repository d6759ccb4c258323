// Starting and stopping as an operator sees it: signals, exit codes, help, and where a setting comes from.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { describe, test } from "node:test";
import { band, emit, freshSession, join, next } from "../support/client.js";
import { launch, startServer } from "../support/server.js";
import { assertDone, assertShape } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { engineMember, request, tcp } from "../support/wire.js";

const ended = (run) => within(PATIENCE_MS, run.exited, "the run ends");

describe("stopping", () => {
  for (const signal of ["SIGTERM", "SIGINT"]) {
    test(`${signal} says goodbye to every client and exits with 0`, async () => {
      const server = await startServer({ env: { SHARDS: "3" } });
      const { all } = await band(server, 4);
      const idle = await tcp(server);
      const plain = await engineMember(server);
      const errors = all.map((one) => next(one, "error", (error) => error.code === "draining"));
      const goodbyes = all.map((one) => new Promise((told) => one.once("disconnect", told)));
      server.signal(signal);
      for (const error of await Promise.all(errors)) assertShape(error, { code: "draining", message: "string" });
      const reasons = await within(PATIENCE_MS, Promise.all(goodbyes), "every client is disconnected");
      assert.deepEqual(new Set(reasons), new Set(["io server disconnect"]));
      await plain.read((packet) => packet === "41", "the disconnect packet");
      assert.equal(await plain.closeCode(), 1001);
      await idle.closed();
      const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
      assert.equal(code, 0);
      await assert.rejects(tcp(server), "nobody listens any more");
    });
  }

  test("once it says that it stops, /readyz sends nobody any more", async () => {
    const server = await startServer();
    const ready = () => request(server, "GET", "/readyz").then((answer) => answer, () => null);
    assert.equal((await ready()).status, 200);
    const seen = [];
    const stopped = () => /Stopping/.test(server.run.stdout);
    server.signal("SIGTERM");
    for (let over = false; !over; ) {
      const told = stopped();
      const answer = await ready();
      seen.push(answer?.status ?? "closed");
      if (told) assert.notEqual(answer?.status, 200, "a balancer would send members into the end");
      if (answer?.status === 503) assert.equal(answer.body, '{"ready":false,"reasons":["draining"]}');
      over = told && answer === null;
    }
    assert.ok(seen.includes("closed"));
    const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.equal(code, 0);
  });

  for (const transport of ["websocket", "polling"]) {
    test(`with DRAIN_GOODBYE=reconnect the stock client comes back by itself, by ${transport}`, async () => {
      let server = await startServer({ env: { DRAIN_GOODBYE: "reconnect", STORAGE: "memory" } });
      const { port } = server;
      const sessionId = freshSession("restart");
      const reconnection = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200, transports: [transport] };
      const one = await join(server, sessionId, { displayName: "Ada" }, reconnection);
      try {
        // Who polls is told by the request that waits, and there is none while it sends its next one.
        const isTold = transport === "websocket" ? next(one, "error", (error) => error.code === "draining") : null;
        const gone = new Promise((done) => one.once("disconnect", done));
        const back = new Promise((done) => one.once("connect", done));
        const plain = transport === "websocket" ? await engineMember(server) : null;
        server.signal("SIGTERM");
        if (isTold) assertShape(await isTold, { code: "draining", message: "string" });
        const reason = await within(PATIENCE_MS, gone, "it is disconnected");
        assert.ok(reason === "transport close" || (!isTold && reason === "transport error"), reason);
        if (plain) assert.equal(await plain.closeCode(), 1001);
        const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
        assert.equal(code, 0);
        server = await startServer({ env: { PORT: String(port), STORAGE: "memory" } });
        await within(PATIENCE_MS, back, "it is back without having been told to connect");
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

  test("a server without clients exits with 0", async () => {
    const server = await startServer();
    server.signal("SIGINT");
    const { code, signal } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.deepEqual([code, signal], [0, null]);
  });

  test("a second signal exits although a client does not let go", async () => {
    const server = await startServer();
    const stubborn = await engineMember(server);
    // Reads nothing, so it answers no close and the server would wait for it.
    stubborn.ws._socket.pause();
    server.signal("SIGINT");
    server.signal("SIGTERM");
    const { code } = await within(PATIENCE_MS, server.exited, "the server exits");
    assert.notEqual(code, 0, "it did not wait for the client, and says so");
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
    test(`${name}=${value} is refused with its name, the value, the range and exit code 2`, async () => {
      const { code, stderr } = await ended(launch({ env: { [name]: value } }));
      assert.equal(code, 2, stderr);
      for (const part of [name, value]) assert.ok(stderr.includes(part), `${part} is not in: ${stderr}`);
      assert.match(stderr, range);
      assert.doesNotMatch(stderr, /panicked/);
    });
  }

  test("an unknown option is refused with exit code 2", async () => {
    const { code, stderr } = await ended(launch({ args: ["--louder"] }));
    assert.equal(code, 2);
    assert.match(stderr, /--louder/);
  });

  test("a port that is taken is refused with a sentence", async () => {
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

describe("where a setting comes from", () => {
  // The heartbeat is seen from outside, in the open packet of every connection.
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

  test("the command line goes before the environment, that before .env, that before the default", async () => {
    const dotenv = "# a comment\nSOCKET_PING_INTERVAL=4000\n";
    const env = { SOCKET_PING_INTERVAL: "3000" };
    assert.equal(await pingInterval({}), 2500);
    assert.equal(await pingInterval({ dotenv }), 4000);
    assert.equal(await pingInterval({ dotenv, env }), 3000);
    assert.equal(await pingInterval({ dotenv, env, args: ["--socket-ping-interval", "2000"] }), 2000);
  });

  test("the profile sets the log level and the tick, and NODE_ENV is honoured", async () => {
    const effective = async (env) => {
      // At info everything effective is printed; the level itself is then not the profile's.
      const server = await startServer({ env });
      const { stdout, stderr } = await server.stop();
      return stdout + stderr;
    };
    assert.match(await effective({ BANDSYNC_ENV: "development" }), /SCROLL_TICK_INTERVAL\D*16/i);
    assert.match(await effective({ BANDSYNC_ENV: "production" }), /SCROLL_TICK_INTERVAL\D*8/i);
    assert.match(await effective({ NODE_ENV: "production" }), /SCROLL_TICK_INTERVAL\D*8/i);
    assert.match(await effective({ NODE_ENV: "production", SCROLL_TICK_INTERVAL: "20" }), /SCROLL_TICK_INTERVAL\D*20/i);
  });
});
