// Monitoring of a real server: metrics, history, alerts, access to the pages, supervisor and `top`.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { networkInterfaces, tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import { band, emit, freshSession, join } from "../support/client.js";
import { certificates } from "../support/certificates.js";
import { Nodes } from "../support/nodes.js";
import { TOP, target } from "../support/paths.js";
import { binary, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { cannot, lacks } from "../support/skips.js";
import { request } from "../support/wire.js";

const hasPython = () => !spawnSync("python3", ["--version"]).error;
const EVERY_MS = 100;

/** The `Accept` header that Prometheus sends. */
const OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

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

/** Answers each event `ping` after `away` ms, which the result can change. */
function pongs(socket, away) {
  const state = { away };
  socket.on("ping", (ping) => setTimeout(() => socket.emit("pong", { timestamp: ping?.timestamp }), state.away));
  return state;
}

/** Parses a Prometheus text into a map of series to values. */
function series(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}

const sum = (found, name) => [...found].reduce((all, [key, value]) => (key === name || key.startsWith(`${name}{`) ? all + value : all), 0);

/**
 * Opens a supervisor's socket. Node.js has no datagram sockets of this kind, so Python opens it.
 */
async function listen() {
  const code = "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint('bound',flush=True)\nwhile True: print(s.recv(99).decode(),flush=True)";
  const folder = mkdtempSync(path(tmpdir(), "bandsync-notify-"));
  const python = spawn("python3", ["-c", code, path(folder, "socket")]);
  let received = "";
  python.stdout.setEncoding("utf8").on("data", (text) => (received += text));
  await until("the socket is bound", () => received.includes("bound"));
  return {
    path: path(folder, "socket"),
    received: () => received,
    alive: () => (received.match(/WATCHDOG=1/g) ?? []).length,
    close() {
      python.kill();
      rmSync(folder, { recursive: true });
    },
  };
}

// A debugger can stop one thread while the others run. A signal stops all of them.
const FREEZE = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ATTACH, DETACH, WALL = 16, 17, 0x40000000
thread = int(sys.argv[1])
if libc.ptrace(ATTACH, thread, None, None) != 0: sys.exit("ptrace: " + os.strerror(ctypes.get_errno()))
os.waitpid(thread, WALL)
print("frozen", flush=True)
sys.stdin.readline()
libc.ptrace(DETACH, thread, None, None)
print("thawed", flush=True)
`;

/** Stops a thread of a process. Returns a function that resumes it. */
async function freeze(pid, name) {
  // A thread gets its name when it first runs, which may be after the server has printed its
  // address.
  const named = (one) => readFileSync(`/proc/${pid}/task/${one}/comm`, "utf8").trim() === name;
  let thread;
  await until(`there is a thread named ${name}`, () => (thread = readdirSync(`/proc/${pid}/task`).find(named)));
  const python = spawn("python3", ["-c", FREEZE, thread], { stdio: ["pipe", "pipe", "inherit"] });
  let output = "";
  python.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  await until("the thread stops", () => output.includes("frozen"));
  return async () => {
    python.stdin.end("\n");
    await until("the thread resumes", () => output.includes("thawed"));
  };
}

function canFreeze() {
  const sleeper = spawn("sleep", ["20"]);
  const { status } = spawnSync("python3", ["-c", FREEZE, String(sleeper.pid)], { input: "\n" });
  sleeper.kill("SIGKILL");
  return status === 0;
}

describe("metrics", () => {
  let server;
  before(async () => {
    server = await startServer({ env: { SHARDS: "2", METRICS_INTERVAL: "1000", HEARTBEAT_INTERVAL: "200" } });
  });
  after(() => server.stop());

  test("percentiles of ticks, turns, handlers and round trips come from a real band", async () => {
    const { sessionId, leader, all } = await band(server, 3);
    all.forEach((socket) => pongs(socket, 20));
    assertDone(await emit(leader, "play", { sessionId }));
    const metrics = await until("an interval has all percentiles", async () => {
      const found = await json(server, "/metrics");
      const counts = ["roundTrip", "tickLateness", "turn", "handler"].map((name) => found.percentiles[name].count);
      return counts.every((count) => count > 0) && found;
    });
    for (const spread of Object.values(metrics.percentiles)) {
      assert.ok(spread.p50 <= spread.p99 && spread.p99 <= spread.p999 && spread.p999 <= spread.max, JSON.stringify(spread));
    }
    assert.ok(metrics.percentiles.roundTrip.p50 >= 19, "members answer after 20 ms");
    assert.ok(metrics.percentiles.handler.p50 < metrics.percentiles.roundTrip.p50);
    assert.equal(metrics.shards.length, 2);
    const ticks = metrics.shards.map((shard) => shard.percentiles.tickLateness.count);
    assert.equal(ticks.filter((count) => count > 0).length, 1, "only the session's shard sends ticks");
    assert.ok(metrics.threads.some((thread) => thread.name === "shard-0"));
  });

  test("Prometheus receives text, with counts that match the calls", async () => {
    const before = series((await get(server, "/metrics/prometheus")).body);
    const { sessionId, followers } = await band(server, 2);
    for (let i = 0; i < 3; i += 1) {
      const refused = await emit(followers[0], "play", { sessionId });
      assert.equal(refused.error.code, "not_leader");
    }
    const answer = await get(server, "/metrics", { Accept: "text/plain;version=0.0.4;q=0.5,*/*;q=0.1" });
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

  test("the process, the build and every alert have a series from the start", async () => {
    const text = (await get(server, "/metrics/prometheus")).body;
    const now = series(text);
    const status = readFileSync(`/proc/${server.pid}/status`, "utf8");
    const number = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)[1]);
    const near = (name, value, factor = 3) => assert.ok(now.get(name) > value / factor && now.get(name) < value * factor, `${name} is ${now.get(name)}, not about ${value}`);
    near("process_resident_memory_bytes", number("VmRSS") * 1024);
    near("process_virtual_memory_bytes", number("VmSize") * 1024);
    near("process_threads", number("Threads"), 1.5);
    near("process_open_fds", readdirSync(`/proc/${server.pid}/fd`).length, 2);
    near("process_start_time_seconds", Date.now() / 1000, 1.0001);
    const limits = readFileSync(`/proc/${server.pid}/limits`, "utf8");
    assert.equal(now.get("process_max_fds"), Number(/^Max open files\s+(\d+)/m.exec(limits)[1]));
    assert.ok(now.get("process_cpu_seconds_total") > 0);
    assert.match(text, /^bandsync_build_info\{version="\d+\.\d+\.\d+",arch="\w+"\} 1$/m);
    const alerts = [...now.keys()].filter((name) => name.startsWith("bandsync_alert{"));
    for (const name of ["storage", "memory_limit", "shard_stalled", "cpu"]) assert.ok(alerts.includes(`bandsync_alert{name="${name}"}`), name);
    const readme = readFileSync(`${TOP}src/README.md`, "utf8");
    for (const alert of alerts) {
      const [, name] = /name="(\w+)"/.exec(alert);
      assert.ok(readme.includes(`\`${name}\``), `${name} is in the README`);
    }
    const openMetrics = (await get(server, "/metrics", { Accept: OPEN_METRICS })).body;
    assert.match(openMetrics, /^# TYPE bandsync_build info$/m);
    assert.match(openMetrics, /^# TYPE process_cpu_seconds counter$/m);
  });

  const frozen = { skip: !canFreeze() && (hasPython() ? "not possible here: no process may be traced" : "python3 is not here: apt-get install python3") };
  test("long answers are printed by the reporter and not by a shard", frozen, async () => {
    const one = await startServer({ env: { SHARDS: "1" } });
    const thaw = await freeze(one.pid, "reporter");
    const answers = ["/metrics", "/metrics/prometheus", "/metrics/history", "/dashboard/data"].map((path) => get(one, path));
    let early = false;
    for (const answer of answers) answer.then(() => (early = true));
    // The only shard answers short requests meanwhile.
    for (const path of ["/health", "/livez", "/readyz", "/"]) assert.equal((await get(one, path)).status, 200, path);
    assert.equal(early, false, "the long answers wait for the reporter");
    await thaw();
    assert.deepEqual((await Promise.all(answers)).map((answer) => answer.status), [200, 200, 200, 200]);
    await one.stop();
  });

  test("promtool accepts both texts and the rules", async (t) => {
    const unpacked = target("promtool", "usr/bin/promtool");
    const promtool = existsSync(unpacked) ? unpacked : "promtool";
    if (spawnSync(promtool, ["--version"]).error) return lacks(t, "promtool", "./tools/test --only integration unpacks it if the distribution has it");
    const text = (await get(server, "/metrics/prometheus")).body;
    const { status, stdout, stderr } = spawnSync(promtool, ["check", "metrics"], { input: text, encoding: "utf8" });
    assert.equal(status, 0, stdout + stderr);
    const nodes = await Nodes.start(1);
    const ofNode = spawnSync(promtool, ["check", "metrics"], { input: (await get(nodes.all[0], "/metrics/prometheus")).body, encoding: "utf8" });
    await nodes.stop();
    assert.equal(ofNode.status, 0, ofNode.stdout + ofNode.stderr);
    const rules = execFileSync(promtool, ["check", "rules", `${TOP}tools/deploy/prometheus-rules.yml`], { encoding: "utf8" });
    assert.match(rules, /SUCCESS/);

    const answer = await get(server, "/metrics", { Accept: OPEN_METRICS });
    assert.match(answer.headers["content-type"], /^application\/openmetrics-text; version=1\.0\.0/);
    assert.ok(answer.body.endsWith("\n# EOF\n"));
    // promtool reads OpenMetrics only into a database, which needs a time at each value.
    const folder = mkdtempSync(path(tmpdir(), "bandsync-open-metrics-"));
    const now = Math.floor(Date.now() / 1000);
    const stamped = answer.body.replace(/^(?!#)(.+)$/gm, `$1 ${now}`);
    writeFileSync(path(folder, "metrics"), stamped);
    const made = spawnSync(promtool, ["tsdb", "create-blocks-from", "openmetrics", path(folder, "metrics"), path(folder, "blocks")], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stdout + made.stderr);
    const torn = stamped.replace("# TYPE bandsync_members gauge", "# TYPE bandsync_members gouge");
    writeFileSync(path(folder, "metrics"), torn);
    const refused = spawnSync(promtool, ["tsdb", "create-blocks-from", "openmetrics", path(folder, "metrics"), path(folder, "blocks")], { encoding: "utf8" });
    assert.notEqual(refused.status, 0, "promtool notices a fault");
    rmSync(folder, { recursive: true });
  });

  test("the alerts of a cluster are raised by its faults, and by nothing else", async (t) => {
    const unpacked = target("promtool", "usr/bin/promtool");
    const promtool = existsSync(unpacked) ? unpacked : "promtool";
    if (spawnSync(promtool, ["--version"]).error) return lacks(t, "promtool", "./tools/test --only integration unpacks it if the distribution has it");
    const node = (series, values, instance = "one") => ({ series: series.replace("{", `{job="bandsync",instance="${instance}",`), values });
    const event = (kind, values) => node(`bandsync_cluster_events_total{kind="${kind}"}`, values);
    const commits = (fast) => ["0.01", "0.1", "+Inf"].map((le, n) => node(`bandsync_cluster_commit_duration_seconds_bucket{le="${le}"}`, n === 0 ? fast : "0+60x20"));
    const nodes = (one, two) => [node("bandsync_cluster_nodes{}", `${one}x20`, "one"), node("bandsync_cluster_nodes{}", `${two}x20`, "two")];
    const FAULTS = {
      BandSyncNodeAlone: [[node('bandsync_cluster_standing{standing="alone"}', "1x20")], [node('bandsync_cluster_standing{standing="alone"}', "0x20")]],
      BandSyncNodeNew: [[node('bandsync_cluster_standing{standing="new"}', "1x20")], [node('bandsync_cluster_standing{standing="new"}', "0x20")]],
      BandSyncNodesSplit: [nodes(3, 2), nodes(3, 3)],
      BandSyncLeaseLapses: [[event("lapses", "0x15 1x5")], [event("lapses", "3x20")]],
      BandSyncCommitsSlow: [commits("0x20"), commits("0+60x20")],
      BandSyncGaps: [[event("gaps", "0+2x40"), event("bulletins", "0+100x40")], [event("gaps", "0x40"), event("bulletins", "0+100x40")]],
      BandSyncCommandsUnavailable: [[event("unavailable", "0+20x20")], [event("unavailable", "1x20")]],
      BandSyncForgedMessages: [[event("dropped_forged", "0x15 1x5")], [event("dropped_forged", "0x20")]],
    };
    const rules = `${TOP}tools/deploy/prometheus-rules.yml`;
    const named = [...readFileSync(rules, "utf8").split("name: bandsync-cluster")[1].matchAll(/alert: (\w+)/g)].map(([, name]) => name);
    assert.deepEqual(Object.keys(FAULTS).sort(), named.sort(), "each alert has a fault");
    const folder = mkdtempSync(path(tmpdir(), "bandsync-rules-"));
    // No alert is expected, so promtool prints those that are raised.
    const outcome = (alertname, input_series) => {
      const text = { rule_files: [rules], evaluation_interval: "15s", tests: [{ interval: "30s", input_series, alert_rule_test: [{ eval_time: "9m", alertname, exp_alerts: [] }] }] };
      // Every JSON text is also YAML.
      writeFileSync(path(folder, "test.yml"), JSON.stringify(text));
      const { status, stdout, stderr } = spawnSync(promtool, ["test", "rules", path(folder, "test.yml")], { encoding: "utf8" });
      const said = stdout + stderr;
      return { raised: status !== 0 && /got:\[\s*0:\s*Labels/.test(said), said };
    };
    for (const [name, [fault, calm]] of Object.entries(FAULTS)) {
      const [bad, good] = [outcome(name, fault), outcome(name, calm)];
      assert.ok(bad.raised, `${name}: ${bad.said}`);
      assert.match(good.said, /SUCCESS/, name);
    }
    rmSync(folder, { recursive: true });
  });

  test("every series that the Grafana dashboard and the alert rules name exists", async () => {
    // A server alone has no series of a cluster.
    const nodes = await Nodes.start(1);
    const ofNode = (await get(nodes.all[0], "/metrics/prometheus")).body;
    await nodes.stop();
    const text = `${(await get(server, "/metrics/prometheus")).body}\n${ofNode}`;
    const kinds = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => [name, kind]));
    const labels = new Map();
    for (const [, name, inside] of text.matchAll(/^(bandsync_\w+)\{([^}]*)\}/gm)) {
      labels.set(name, new Set([...(labels.get(name) ?? []), ...[...inside.matchAll(/(\w+)="/g)].map(([, label]) => label)]));
    }
    const grafana = JSON.parse(readFileSync(`${TOP}tools/deploy/grafana-dashboard.json`, "utf8"));
    const panels = grafana.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
    const queries = panels.flatMap((panel) => (panel.targets ?? []).map((target) => target.expr));
    const variables = (grafana.templating?.list ?? []).map((one) => (typeof one.query === "string" ? one.query : one.query?.query ?? ""));
    const rules = [...readFileSync(`${TOP}tools/deploy/prometheus-rules.yml`, "utf8").matchAll(/^\s+expr: (.+)$/gm)].map(([, expr]) => expr);
    assert.ok(queries.length >= 8 && rules.length >= 6, `${queries.length} queries, ${rules.length} rules`);
    let named = 0;
    for (const expr of [...queries, ...variables, ...rules]) {
      for (const [, name, inside] of expr.matchAll(/\b(bandsync_\w+)(?:\{([^}]*)\})?/g)) {
        const family = name.replace(/_(bucket|sum|count)$/, "");
        assert.ok(kinds.has(name) || kinds.get(family) === "histogram", `${name} in ${expr}`);
        for (const [, label] of (inside ?? "").matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) {
          if (!["job", "instance"].includes(label)) assert.ok(labels.get(name)?.has(label), `${label} of ${name} in ${expr}`);
        }
        if (name.startsWith("bandsync_cluster")) {
          for (const [pair] of (inside ?? "").matchAll(/\w+="\w+"/g)) assert.ok(ofNode.includes(`${name}{${pair}`), `${pair} of ${name} in ${expr}`);
        }
        named += 1;
      }
    }
    assert.ok(named >= queries.length - 2);
  });

  test("queues have a fill level, threads a CPU time, and refusals a count", async () => {
    const { sessionId, followers } = await band(server, 2);
    const names = (found) => found.queues.map((queue) => queue.name);
    const first = await until("the queues are measured", async () => {
      const found = await json(server, "/metrics");
      return found.queues.length > 0 && found;
    });
    assert.deepEqual(names(first), ["mailbox", "log", "storage"]);
    for (const queue of first.queues) assert.ok(queue.room > 0 && queue.waiting <= queue.room, JSON.stringify(queue));
    const rates = await until("refusals have a rate", async () => {
      await emit(followers[0], "play", { sessionId });
      const found = (await json(server, "/metrics")).refusalsPerSecond;
      return found.not_leader > 0 && found;
    });
    assert.deepEqual(Object.keys(rates), ["not_leader"]);
    const now = series((await get(server, "/metrics/prometheus")).body);
    for (const mode of ["user", "system"]) assert.ok(now.has(`bandsync_thread_cpu_seconds_total{thread="shard-0",mode="${mode}"}`));
    assert.ok(now.get('bandsync_queue_capacity{queue="storage"}') > 0);
    assert.ok(sum(now, "bandsync_recovery_bytes") > 0, "events of the band are kept for recovery");
  });

  test("history has a row for each interval, and only the requested metrics", async () => {
    const history = await until("the history has rows", async () => {
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
    const data = await until("the session is shown", async () => {
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
  test("a long round trip raises one, and a short one clears it, in webhook, health and log", async () => {
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
    const raised = await until("the alert is raised", async () => {
      const health = await json(server, "/health");
      return health.reasons.some((reason) => reason.name === "sync_latency_p99") && health;
    });
    assert.equal(raised.status, "degraded");
    assert.equal((await get(server, "/health")).status, 200, "a degraded server answers with 200");
    far.forEach((state) => (state.away = 0));
    await until("the server is healthy again", async () => (await json(server, "/health")).status === "healthy");
    await until("both posts arrive", () => posted.length >= 2);
    assert.deepEqual(posted.map((one) => `${one.event} ${one.name}`), ["raised sync_latency_p99", "cleared sync_latency_p99"]);
    const { stderr } = await server.stop();
    assert.match(stderr, /alert sync_latency_p99 raised/);
    assert.match(stderr, /alert sync_latency_p99 cleared/);
    assert.ok(!stderr.includes("between-us"), "the address of a webhook is a secret");
    hook.close();
  });

  const secure = { skip: spawnSync("openssl", ["version"]).error && "openssl is not here: apt-get install openssl" };
  test("an HTTPS webhook receives a text for Slack, if its authority is trusted", secure, async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-webhook-"));
    const tls = certificates(folder, ["localhost"]);
    const posted = [];
    const hook = createSecureServer({ key: readFileSync(tls.key), cert: readFileSync(tls.cert) }, (request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => {
        posted.push({ body: JSON.parse(body), type: request.headers["content-type"], url: request.url });
        response.end("ok");
      });
    });
    await new Promise((done) => hook.listen(0, "127.0.0.1", done));
    const env = { STORAGE: "file", DATA_DIR: "/dev/null", ALERT_WEBHOOK: `https://localhost:${hook.address().port}/services/between-us` };
    const stranger = await startServer({ env });
    await until("the webhook is not trusted", () => /alert \w+ not posted after 3 tries: .*not trusted here.*SSL_CERT_FILE/.test(stranger.logs));
    assert.equal(posted.length, 0);
    assert.ok(!(await stranger.stop()).stderr.includes("between-us"), "the address of a webhook is a secret");
    const server = await startServer({ env: { ...env, SSL_CERT_FILE: tls.authority } });
    await until("a post arrives", () => posted.length >= 1);
    const [{ body, type, url }] = posted;
    assert.deepEqual([type, url], ["application/json", "/services/between-us"]);
    assert.deepEqual([body.event, body.name, body.severity], ["raised", "storage", "warning"]);
    assert.match(body.text, /^BandSync on \S+: alert storage raised: /);
    await server.stop();
    hook.close();
    rmSync(folder, { recursive: true });
  });

  test("a round trip longer than the heartbeat's interval raises one too", async () => {
    const server = await startServer({ env: { HEARTBEAT_INTERVAL: "300", SYNC_TARGET_LATENCY: "10", ALERT_LATENCY: "100" } });
    const { all } = await band(server, 2);
    const far = all.map((socket) => pongs(socket, 1000));
    const health = await until("the alert is raised", async () => {
      const found = await json(server, "/health");
      return found.reasons.some((reason) => reason.name === "sync_latency_p99") && found;
    });
    assert.ok(health.reasons.find((reason) => reason.name === "sync_latency_p99").value >= 900, JSON.stringify(health.reasons));
    far.forEach((state) => (state.away = 0));
    await until("the server is healthy again", async () => (await json(server, "/health")).status === "healthy");
    await server.stop();
  });

  test("a shard that hangs raises one, and the supervisor receives no watchdog message until it resumes", async (t) => {
    if (!hasPython()) return lacks(t, "python3", "apt-get install python3");
    if (!canFreeze()) return cannot(t, "processes may not be traced, so no thread can be stopped");
    const supervisor = await listen();
    const server = await startServer({ env: { NOTIFY_SOCKET: supervisor.path, WATCHDOG_USEC: "10000000", LOG_LEVEL: "warn" } });
    await until("two watchdog messages arrive", () => supervisor.alive() >= 2);
    const thaw = await freeze(server.pid, "shard-1");
    // The kernel gives some connections to the shard that hangs, and those receive no answer.
    const answered = (path) => Promise.race([get(server, path).catch(() => null), new Promise((done) => setTimeout(done, 300, null))]);
    const health = await until("the alert is raised", async () => {
      const found = await answered("/health");
      return found && JSON.parse(found.body).status === "unhealthy" && found;
    });
    assert.equal(health.status, 503);
    assert.deepEqual(JSON.parse(health.body).reasons.map((reason) => [reason.name, reason.value]), [["shard_stalled", 1]]);
    const probe = await until("the probe is answered", () => answered("/livez"));
    assert.deepEqual([probe.status, probe.body], [503, '{"live":false}']);
    const before = supervisor.alive();
    await new Promise((done) => setTimeout(done, 2500));
    assert.equal(supervisor.alive(), before, "systemd receives no message, so it would restart the server");
    await thaw();
    await until("/livez is well again", async () => (await get(server, "/livez")).status === 200);
    await until("the alert is cleared", async () => (await json(server, "/health")).status === "healthy");
    await until("a watchdog message arrives again", () => supervisor.alive() > before);
    const { stderr } = await server.stop();
    assert.match(stderr, /alert shard_stalled raised/);
    assert.match(stderr, /alert shard_stalled cleared/);
    supervisor.close();
  });

  test("a shard that hangs for too long ends the process", async (t) => {
    if (!hasPython()) return lacks(t, "python3", "apt-get install python3");
    if (!canFreeze()) return cannot(t, "processes may not be traced, so no thread can be stopped");
    const server = await startServer({ env: { STALL_LIMIT: "6000", LOG_LEVEL: "warn" } });
    const thaw = await freeze(server.pid, "shard-1");
    await until("the server aborts", () => /shard 1 hangs: aborting/.test(server.logs));
    // The kernel reports the end of a process only after all its threads are untraced.
    await thaw();
    const { signal } = await server.exited;
    assert.equal(signal, "SIGABRT");
  });

  test("a storage that cannot be used raises one, which is cleared once it can", async () => {
    const folder = mkdtempSync(path(tmpdir(), "bandsync-shared-"));
    const env = { STORAGE: "file", DATA_DIR: folder };
    const first = await startServer({ env });
    // The first server has the file as long as it runs.
    const second = await startServer({ env });
    await until("the alert is raised", async () => (await json(second, "/health")).reasons.some((reason) => reason.name === "storage"));
    await until("the alert is logged", () => /alert storage raised/.test(second.logs));
    assert.equal((await json(first, "/health")).status, "healthy");
    await first.stop();
    await until("the server is healthy again", async () => (await json(second, "/health")).status === "healthy");
    const { stderr } = await second.stop();
    assert.match(stderr, /alert storage raised/);
    assert.match(stderr, /alert storage cleared/);
    rmSync(folder, { recursive: true });
  });

  test("a thread that is busy for ALERT_CPU_TIME raises one", async () => {
    const server = await startServer({ env: { SHARDS: "1", ALERT_CPU: "2", ALERT_CPU_TIME: "1000", SCROLL_TICK_INTERVAL: "4" } });
    // Enough members that the shard is busy for 2 % of its core even when other programs use the
    // core too.
    const { sessionId, leader } = await band(server, 60);
    assertDone(await emit(leader, "play", { sessionId }));
    // The log is awaited, because requests would keep the shard busy.
    await until("the alert is raised", () => /alert cpu raised/.test(server.logs));
    const isReason = async () => (await json(server, "/health")).reasons.some((reason) => reason.name === "cpu");
    assert.equal(await isReason(), true);
    assertDone(await emit(leader, "pause", { sessionId }));
    await until("the alert is cleared", () => /alert cpu cleared/.test(server.logs));
    assert.equal(await isReason(), false);
    await server.stop();
  });

  test("low memory sheds empty sessions; at the limit new members receive 503, and the band plays on", async () => {
    const low = await startServer({ env: { MEMORY_THRESHOLD: "10", MEMORY_LIMIT: "100000" } });
    await until("the alert is raised", async () => (await json(low, "/health")).status === "degraded");
    const guest = await join(low, freshSession("left"));
    guest.disconnect();
    await until("the empty session is evicted", async () => (await json(low, "/health")).sessions.total === 0);
    await until("the log has the memory freed", () => /memory pressure: freed .* MB/.test(low.logs));
    await low.stop();

    const full = await startServer({ env: { MEMORY_THRESHOLD: "10", MEMORY_LIMIT: "10" } });
    const { sessionId, leader } = await band(full, 2);
    const refused = await until("a client is refused", async () => {
      const answer = await get(full, "/socket.io/?EIO=4&transport=websocket", { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" }).catch(() => null);
      return answer?.status === 503 && answer;
    });
    assert.equal(refused.headers["retry-after"], "5");
    const health = await get(full, "/health");
    assert.equal(health.status, 503);
    assert.equal(JSON.parse(health.body).status, "unhealthy");
    const ready = await get(full, "/readyz");
    assert.deepEqual([ready.status, ready.body], [503, '{"ready":false,"reasons":["memory"]}']);
    assert.equal((await get(full, "/livez")).status, 200, "a restart would only interrupt the band");
    assertDone(await emit(leader, "play", { sessionId }));
    await full.stop();
  });
});

describe("access", () => {
  const secret = "a-token-of-some-length";
  const outside = Object.values(networkInterfaces()).flat().find((one) => one.family === "IPv4" && !one.internal);
  const pages = ["/metrics", "/metrics/prometheus", "/metrics/history", "/dashboard/data"];

  test("behind a proxy the pages need the token, which is never logged", async () => {
    const server = await startServer({ env: { ADMIN_TOKEN: secret, LOG_LEVEL: "trace" } });
    for (const path of pages) {
      const proxied = { "X-Forwarded-For": "192.0.2.7" };
      assert.equal((await get(server, path)).status, 401, `this machine needs it too: ${path}`);
      assert.equal((await get(server, path, { Authorization: `Bearer ${secret}` })).status, 200, path);
      assert.equal((await get(server, path, proxied)).status, 401, path);
      assert.equal((await get(server, path, { ...proxied, Authorization: "Bearer wrong" })).status, 401, path);
      assert.equal((await get(server, path, { ...proxied, Authorization: `Bearer ${secret}` })).status, 200, path);
    }
    assert.equal((await get(server, "/health", { "X-Forwarded-For": "192.0.2.7" })).status, 200);
    const end = await server.stop();
    assert.ok(!(end.stderr + end.stdout).includes(secret));
  });

  test("from another address the pages are refused unless a token is set", async (t) => {
    if (!outside) return cannot(t, "this machine has no address but loopback");
    const server = await startServer({ env: { HOST: "all" } });
    const from = `http://${outside.address}:${server.port}`;
    for (const path of pages) assert.equal((await fetch(from + path)).status, 403, path);
    assert.equal((await fetch(`${from}/health`)).status, 200);
    await server.stop();
  });
});

describe("a supervisor", () => {
  test("receives messages that the server is ready, alive, and stopping", async (t) => {
    if (!hasPython()) return lacks(t, "python3", "apt-get install python3");
    const supervisor = await listen();
    const server = await startServer({ env: { NOTIFY_SOCKET: supervisor.path, WATCHDOG_USEC: "10000000" } });
    await until("two watchdog messages arrive", () => supervisor.alive() >= 2);
    await server.stop();
    await until("the stop is reported", () => supervisor.received().includes("STOPPING=1"));
    const received = supervisor.received();
    assert.ok(received.indexOf("READY=1") >= 0 && received.indexOf("READY=1") < received.indexOf("STOPPING=1"), received);
    supervisor.close();
  });
});

describe("top", () => {
  test("shows a server once if the output is not a terminal", async () => {
    const server = await startServer();
    const { sessionId, leader } = await band(server, 2);
    assertDone(await emit(leader, "play", { sessionId }));
    const shown = await until("the session is shown", () => {
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

  test("shows the nodes of a cluster, this node's part, and the owner of each session", async () => {
    const nodes = await Nodes.start(2);
    try {
      const sessionId = freshSession("shared");
      for (const node of nodes.all) await join(node, sessionId);
      const shown = await until("the session is shown", () => {
        const { stdout, status } = spawnSync(binary, ["top", nodes.all[1].url], { encoding: "utf8" });
        assert.equal(status, 0);
        return stdout.includes("on node-0") && stdout;
      });
      assert.match(shown, /^cluster: full +owns \d+ sessions, 1 branches {2}2 nodes$/m);
      assert.match(shown, /^\d+ +node-0 .*lives/m);
      assert.match(shown, /^\d+\* +node-1 .*full/m);
    } finally {
      await nodes.stop();
    }
  });

  test("refreshes every second on a terminal, and shows whether the server answers", async (t) => {
    if (!hasPython()) return lacks(t, "python3", "apt-get install python3");
    let server = await startServer();
    await band(server, 2);
    // Node.js cannot open a pseudo-terminal, so Python does.
    const shown = spawn("python3", ["-c", "import pty,sys; pty.spawn(sys.argv[1:])", binary, "top", server.url], { stdio: ["pipe", "pipe", "inherit"] });
    let text = "";
    shown.stdout.setEncoding("utf8").on("data", (more) => (text += more));
    const views = () => text.split("\x1b[H\x1b[2J").length - 1;
    await until("top has refreshed twice", () => views() >= 3 && /2 members/.test(text));
    assert.match(text, /Ctrl-C ends this view, not the server/);
    const { port } = server;
    await server.stop();
    await until("top shows that the server does not answer", () => /does not answer.*Trying again/s.test(text));
    server = await startServer({ env: { PORT: String(port) } });
    text = "";
    await until("top shows the next server", () => /0 members/.test(text));
    const ended = new Promise((done) => shown.once("exit", done));
    shown.stdin.write("\x03");
    await ended;
    await server.stop();
  });
});
