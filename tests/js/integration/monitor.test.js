// What an operator sees of a real server: metrics in both forms, history, alerts that come and go, who may look.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { networkInterfaces } from "node:os";
import { fileURLToPath } from "node:url";
import { after, before, describe, test } from "node:test";
import { band, emit, freshSession, join } from "../support/client.js";
import { binary, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { request } from "../support/wire.js";

const TOP = fileURLToPath(new URL("../../../", import.meta.url));
const EVERY_MS = 100;

async function until(what, holds, tries = 400) {
  for (let i = 0; i < tries; i += 1) {
    const found = await holds();
    if (found) return found;
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
  assert.fail(`it never came: ${what}`);
}

const get = async (server, path, headers = {}) => request(server, "GET", path, headers);
const json = async (server, path) => JSON.parse((await get(server, path)).body);

/** Answers the application's pings `away` ms late, until told otherwise. */
function pongs(socket, away) {
  const state = { away };
  socket.on("ping", (ping) => setTimeout(() => socket.emit("pong", { timestamp: ping?.timestamp }), state.away));
  return state;
}

/** The values of a Prometheus text by their series. */
function series(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

const sum = (found, name) => [...found].reduce((all, [key, value]) => (key === name || key.startsWith(`${name}{`) ? all + value : all), 0);

describe("metrics", () => {
  let server;
  before(async () => {
    server = await startServer({ env: { SHARDS: "2", METRICS_INTERVAL: "1000", HEARTBEAT_INTERVAL: "200" } });
  });
  after(() => server.stop());

  test("percentiles of ticks, turns, handlers and round trips come from what a band does", async () => {
    const { sessionId, leader, all } = await band(server, 3);
    all.forEach((socket) => pongs(socket, 20));
    assertDone(await emit(leader, "play", { sessionId }));
    const metrics = await until("an interval with all of them", async () => {
      const found = await json(server, "/metrics");
      const counts = ["roundTrip", "tickLateness", "turn", "handler"].map((name) => found.percentiles[name].count);
      return counts.every((count) => count > 0) && found;
    });
    for (const spread of Object.values(metrics.percentiles)) {
      assert.ok(spread.p50 <= spread.p99 && spread.p99 <= spread.p999 && spread.p999 <= spread.max, JSON.stringify(spread));
    }
    assert.ok(metrics.percentiles.roundTrip.p50 >= 19, "members are 20 ms away");
    assert.ok(metrics.percentiles.handler.p50 < metrics.percentiles.roundTrip.p50);
    assert.equal(metrics.shards.length, 2);
    const ticks = metrics.shards.map((shard) => shard.percentiles.tickLateness.count);
    assert.equal(ticks.filter((count) => count > 0).length, 1, "one shard has the session");
    assert.ok(metrics.threads.some((thread) => thread.name === "shard-0"));
  });

  test("Prometheus gets text, and counts agree with what was done", async () => {
    const before = series((await get(server, "/metrics/prometheus")).body);
    const { sessionId, followers } = await band(server, 2);
    for (let i = 0; i < 3; i += 1) {
      const refused = await emit(followers[0], "play", { sessionId });
      assert.equal(refused.error.code, "not_leader");
    }
    const answer = await get(server, "/metrics", { Accept: "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1" });
    assert.match(answer.headers["content-type"], /^text\/plain; version=0\.0\.4/);
    const now = series(answer.body);
    const more = (name) => sum(now, name) - sum(before, name);
    assert.equal(now.get('bandsync_refusals_total{code="not_leader"}') - before.get('bandsync_refusals_total{code="not_leader"}'), 3);
    assert.equal(more("bandsync_members"), 2);
    assert.ok(more("bandsync_messages_received_total") >= 5);
    assert.ok(sum(now, "bandsync_turn_duration_seconds_count") > 0);
    for (const shard of [0, 1]) {
      const last = now.get(`bandsync_turn_duration_seconds_bucket{shard="${shard}",le="+Inf"}`);
      assert.equal(last, now.get(`bandsync_turn_duration_seconds_count{shard="${shard}"}`));
    }
  });

  test("promtool finds no fault with the text", async (t) => {
    const unpacked = `${TOP}target/promtool/usr/bin/promtool`;
    const promtool = existsSync(unpacked) ? unpacked : "promtool";
    if (spawnSync(promtool, ["--version"]).error) return t.diagnostic("promtool is not here: ./tools/test brings it");
    const text = (await get(server, "/metrics/prometheus")).body;
    const { status, stdout, stderr } = spawnSync(promtool, ["check", "metrics"], { input: text, encoding: "utf8" });
    assert.equal(status, 0, stdout + stderr);
    const rules = execFileSync(promtool, ["check", "rules", `${TOP}tools/deploy/prometheus-rules.yml`], { encoding: "utf8" });
    assert.match(rules, /SUCCESS/);
  });

  test("history has a row for each interval, and only what was asked for", async () => {
    const history = await until("rows", async () => {
      const found = await json(server, "/metrics/history");
      return found.rows.length >= 3 && found;
    });
    assert.equal(history.fields[0], "timestamp");
    for (const row of history.rows) assert.equal(row.length, history.fields.length);
    const times = history.rows.map((row) => row[0]);
    assert.deepEqual(times, [...times].sort((a, b) => a - b));
    assert.equal((await json(server, "/metrics/history?limit=2")).rows.length, 2);
    const since = await json(server, `/metrics/history?since=${times[1]}&limit=1000`);
    assert.ok(since.rows.every((row) => row[0] > times[1]) && since.rows.length >= times.length - 2);
    for (const query of ["?limit=-1", "?limit=x", "?since=1e400", "?since", "?limit=99999999999999999999"]) {
      assert.equal((await get(server, `/metrics/history${query}`)).status, 200, query);
    }
  });

  test("the dashboard's data lists sessions with their members and no secret", async () => {
    const sessionId = freshSession("private");
    await join(server, sessionId, { displayName: "Ada", passcode: "hush-hush" });
    const data = await until("the session", async () => {
      const found = await json(server, "/dashboard/data");
      return found.sessions.some((session) => session.sessionId === sessionId) && found;
    });
    const session = data.sessions.find((one) => one.sessionId === sessionId);
    assert.deepEqual(session.members.map((member) => member.displayName), ["Ada"]);
    assert.equal(session.members[0].role, "leader");
    assert.ok(!JSON.stringify(data).includes("hush-hush"));
  });
});

describe("alerts", () => {
  test("members who are far away raise one, members who come back clear it; webhook, health and log say so", async () => {
    const posted = [];
    const hook = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => {
        posted.push(JSON.parse(body));
        response.end();
      });
    });
    await new Promise((done) => hook.listen(0, "127.0.0.1", done));
    const url = `http://127.0.0.1:${hook.address().port}/alerts?key=between-us`;
    const server = await startServer({ env: { HEARTBEAT_INTERVAL: "500", SYNC_TARGET_LATENCY: "500", ALERT_LATENCY: "100", ALERT_WEBHOOK: url } });
    const { all } = await band(server, 2);
    const far = all.map((socket) => pongs(socket, 300));
    const raised = await until("the alert", async () => {
      const health = await json(server, "/health");
      return health.reasons.some((reason) => reason.name === "sync_latency_p99") && health;
    });
    assert.equal(raised.status, "degraded");
    assert.equal((await get(server, "/health")).status, 200, "degraded serves");
    far.forEach((state) => (state.away = 0));
    await until("the end of it", async () => (await json(server, "/health")).status === "healthy");
    await until("both posts", () => posted.length >= 2);
    assert.deepEqual(posted.map((one) => `${one.event} ${one.name}`), ["raised sync_latency_p99", "cleared sync_latency_p99"]);
    const { stderr } = await server.stop();
    assert.match(stderr, /alert sync_latency_p99 raised/);
    assert.match(stderr, /alert sync_latency_p99 cleared/);
    assert.ok(!stderr.includes("between-us"), "the address of a webhook is a secret");
    hook.close();
  });

  test("a busy thread raises one after its time", async () => {
    const server = await startServer({ env: { SHARDS: "1", ALERT_CPU: "2", ALERT_CPU_TIME: "1000", SCROLL_TICK_INTERVAL: "4" } });
    const { sessionId, leader } = await band(server, 40);
    assertDone(await emit(leader, "play", { sessionId }));
    await until("the alert", async () => (await json(server, "/health")).reasons.some((reason) => reason.name === "cpu"));
    assertDone(await emit(leader, "pause", { sessionId }));
    await until("the end of it", async () => (await json(server, "/health")).reasons.length === 0);
    await server.stop();
  });

  test("little memory sheds empty sessions; none turns newcomers away, politely, and lets the band play on", async () => {
    const low = await startServer({ env: { MEMORY_THRESHOLD: "10", MEMORY_LIMIT: "100000" } });
    await until("the alert", async () => (await json(low, "/health")).status === "degraded");
    const guest = await join(low, freshSession("left"));
    guest.disconnect();
    await until("the empty session's end", async () => (await json(low, "/health")).sessions.total === 0);
    await until("what was given back", () => /memory is scarce: .* MB given back/.test(low.logs));
    await low.stop();

    const full = await startServer({ env: { MEMORY_THRESHOLD: "10", MEMORY_LIMIT: "10" } });
    const { sessionId, leader } = await band(full, 2);
    const refused = await until("the refusal", async () => {
      const answer = await get(full, "/socket.io/?EIO=4&transport=websocket", { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" }).catch(() => null);
      return answer?.status === 503 && answer;
    });
    assert.equal(refused.headers["retry-after"], "5");
    const health = await get(full, "/health");
    assert.equal(health.status, 503);
    assert.equal(JSON.parse(health.body).status, "unhealthy");
    assertDone(await emit(leader, "play", { sessionId }));
    await full.stop();
  });
});

describe("who may look", () => {
  const secret = "a-token-of-some-length";
  const outside = Object.values(networkInterfaces()).flat().find((one) => one.family === "IPv4" && !one.internal);
  const pages = ["/metrics", "/metrics/prometheus", "/metrics/history", "/dashboard/data"];

  test("behind a proxy it takes the token, which is never logged", async () => {
    const server = await startServer({ env: { ADMIN_TOKEN: secret, LOG_LEVEL: "trace" } });
    for (const path of pages) {
      const proxied = { "X-Forwarded-For": "192.0.2.7" };
      assert.equal((await get(server, path)).status, 200, path);
      assert.equal((await get(server, path, proxied)).status, 401, path);
      assert.equal((await get(server, path, { ...proxied, Authorization: "Bearer wrong" })).status, 401, path);
      assert.equal((await get(server, path, { ...proxied, Authorization: `Bearer ${secret}` })).status, 200, path);
    }
    assert.equal((await get(server, "/health", { "X-Forwarded-For": "192.0.2.7" })).status, 200);
    const end = await server.stop();
    assert.ok(!(end.stderr + end.stdout).includes(secret));
  });

  test("from another address it is refused unless a token is set", async (t) => {
    if (!outside) return t.diagnostic("this machine has no address but its own");
    const server = await startServer({ env: { HOST: "all" } });
    const from = `http://${outside.address}:${server.port}`;
    for (const path of pages) assert.equal((await fetch(from + path)).status, 403, path);
    assert.equal((await fetch(`${from}/health`)).status, 200);
    await server.stop();
  });
});

describe("a supervisor", () => {
  test("hears that the server is ready, lives, and stops", async (t) => {
    // Node has no sockets of this kind; a few lines of Python have.
    const listen = "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint('bound',flush=True)\nwhile True: print(s.recv(99).decode(),flush=True)";
    if (spawnSync("python3", ["--version"]).error) return t.diagnostic("python3 is not here");
    const path = `/tmp/bandsync-notify-${process.pid}`;
    const ear = spawn("python3", ["-c", listen, path]);
    let heard = "";
    ear.stdout.setEncoding("utf8").on("data", (text) => (heard += text));
    await until("the ear", () => heard.includes("bound"));
    const server = await startServer({ env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "10000000" } });
    await until("it lives", () => (heard.match(/WATCHDOG=1/g) ?? []).length >= 2);
    await server.stop();
    await until("it stops", () => heard.includes("STOPPING=1"));
    assert.ok(heard.indexOf("READY=1") >= 0 && heard.indexOf("READY=1") < heard.indexOf("STOPPING=1"), heard);
    ear.kill();
    execFileSync("rm", ["-f", path]);
  });
});

describe("top", () => {
  test("shows a server once if nobody looks at a terminal", async () => {
    const server = await startServer();
    const { sessionId, leader } = await band(server, 2);
    assertDone(await emit(leader, "play", { sessionId }));
    const shown = await until("the session", () => {
      const { stdout, status } = spawnSync(binary, ["top", server.url], { encoding: "utf8" });
      assert.equal(status, 0);
      return stdout.includes(sessionId) && stdout;
    });
    assert.match(shown, /2 members/);
    assert.match(shown, /playing/);
    await server.stop();
    const gone = spawnSync(binary, ["top", server.url], { encoding: "utf8" });
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /does not answer/);
  });
});
