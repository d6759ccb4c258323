// The files of tools/deploy for monitoring: Prometheus, the OpenTelemetry Collector for New Relic,
// Datadog and systemd.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { band, emit } from "../support/client.js";
import { shipped } from "../support/deploy.js";
import { TOP, target } from "../support/paths.js";
import { until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { request } from "../support/wire.js";

const TOKEN = "a-token-of-some-length";

const promtool = [target("promtool", "usr/bin/promtool"), "promtool"].find((one) => !spawnSync(one, ["--version"]).error);

/** The Python that has the Agent's check, installed by tools/test. */
const DATADOG = target("datadog", "bin/python");

let server, folder, token, families;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "bandsync-deploy-"));
  token = join(folder, "admin-token");
  writeFileSync(token, TOKEN);
  server = await startServer({ env: { ADMIN_TOKEN: TOKEN, STORAGE: "memory", HEARTBEAT_INTERVAL: "100" } });
  const { sessionId, leader } = await band(server, 3);
  assertDone(await emit(leader, "play", { sessionId }));
  const metrics = async () => {
    const { status, body } = await request(server, "GET", "/metrics", { Authorization: `Bearer ${TOKEN}`, Accept: "application/openmetrics-text" });
    assert.equal(status, 200);
    families = new Map([...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => [name, kind]));
    return body;
  };
  // Histograms are merged once per second, and an empty one is not served.
  await until("the turns are counted", async () => /^bandsync_turn_duration_seconds_count\S* [1-9]/m.test(await metrics()));
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Checks a configuration of Prometheus, and the files that it names, with promtool. */
function checkPrometheus(config) {
  const file = join(folder, "prometheus.yml");
  // Every JSON text is also YAML.
  writeFileSync(file, JSON.stringify(config).replaceAll("/etc/bandsync/admin-token", token));
  writeFileSync(join(folder, "prometheus-rules.yml"), shipped("prometheus-rules.yml"));
  const { status, stdout, stderr } = spawnSync(promtool, ["check", "config", file], { encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
}

/** Checks that the path and the token of a scrape configuration lead to the metrics. */
async function checkScrape({ metrics_path: path, authorization }) {
  assert.deepEqual([authorization.type, authorization.credentials_file], ["Bearer", "/etc/bandsync/admin-token"]);
  const answer = await request(server, "GET", path, { Authorization: `Bearer ${readFileSync(token, "utf8")}` });
  assert.equal(answer.status, 200);
  assert.match(answer.headers["content-type"], /^text\/plain; version=0\.0\.4/);
}

describe("Prometheus", () => {
  test("finds the metrics", () => checkScrape(parse(shipped("prometheus.yml")).scrape_configs[0]));
  test("promtool finds no fault", { skip: !promtool && "promtool is not here: ./tools/test installs it" }, () => {
    checkPrometheus(parse(shipped("prometheus.yml")));
  });
});

describe("the OpenTelemetry Collector", () => {
  const config = parse(shipped("otel-collector.yml"));

  test("sends the metrics to New Relic, and defines and uses every part", async () => {
    assert.deepEqual(Object.keys(config).sort(), ["exporters", "processors", "receivers", "service"]);
    const { metrics, ...others } = config.service.pipelines;
    assert.deepEqual(others, {});
    for (const kind of ["receivers", "processors", "exporters"]) {
      assert.deepEqual([...metrics[kind]].sort(), Object.keys(config[kind]).sort(), `every one of ${kind} is used`);
    }
    assert.deepEqual(metrics.processors.at(0), "memory_limiter", "first, as the Collector requires");
    assert.deepEqual(metrics.processors.at(-1), "batch", "last");
    const { endpoint, headers } = config.exporters.otlphttp;
    assert.equal(new URL(endpoint).host, "otlp.nr-data.net");
    assert.deepEqual(headers, { "api-key": "${env:NEW_RELIC_LICENSE_KEY}" });
    await checkScrape(config.receivers.prometheus.config.scrape_configs[0]);
  });

  test("promtool finds no fault with its receiver", { skip: !promtool && "promtool is not here: ./tools/test installs it" }, () => {
    checkPrometheus(config.receivers.prometheus.config);
  });
});

describe("Datadog", () => {
  const [instance] = parse(shipped("datadog-openmetrics.yml")).instances;
  const mapped = new Map(instance.metrics.flatMap((one) => Object.entries(one)));

  test("every metric has a Datadog name, and every Datadog name a metric", () => {
    // A process without a limit has no value for this one.
    const unlimited = ["process_virtual_memory_max_bytes"];
    // The labels of the build are not a measurement.
    const served = [...families].filter(([name, kind]) => kind !== "info" && !unlimited.includes(name)).map(([name]) => name);
    assert.ok(served.length > 40, `${served}`);
    assert.deepEqual([...mapped.keys()].sort(), served.sort());
    assert.equal(new Set(mapped.values()).size, mapped.size, "no two metrics have the same name");
  });

  test("the Agent's own check reads all metrics", { skip: !existsSync(DATADOG) && `datadog-checks-base is not here: ./tools/test --only integration installs it` }, () => {
    const config = structuredClone(instance);
    config.openmetrics_endpoint = instance.openmetrics_endpoint.replace("http://127.0.0.1:3001", server.url);
    assert.equal(config.auth_token.reader.path, "/etc/bandsync/admin-token");
    config.auth_token.reader.path = token;
    const script = fileURLToPath(new URL("../support/datadog.py", import.meta.url));
    const { status, stdout, stderr } = spawnSync(DATADOG, [script], { input: JSON.stringify(config), encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const sent = JSON.parse(stdout.trim().split("\n").at(-1));
    for (const [name, to] of mapped) {
      const suffix = families.get(name) === "counter" ? ".count" : "";
      assert.ok(sent[`bandsync.${to}${suffix}`] > 0, `${name} as bandsync.${to}${suffix} is not in ${Object.keys(sent)}`);
    }
  });
});

/** The tests that run or check each file of tools/deploy. */
const CHECKED = {
  Caddyfile: "tests/js/integration/proxies.test.js",
  "README.md": "tests/js/integration/readme.test.js",
  "bandsync.env": "tests/js/integration/deploy.test.js",
  "bandsync.service": "tests/js/integration/units.test.js",
  "bandsync.socket": "tests/js/integration/units.test.js",
  "compose.yml": "tests/js/integration/containers.test.js",
  "datadog-openmetrics.yml": "tests/js/integration/deploy.test.js",
  "ecosystem.config.cjs": "tests/js/integration/containers.test.js",
  "grafana-dashboard.json": "tests/js/integration/monitor.test.js",
  "haproxy.cfg": "tests/js/integration/proxies.test.js",
  "kubernetes.yml": "tests/js/integration/containers.test.js",
  "leak-check": "tools/test",
  logrotate: "tests/js/integration/units.test.js",
  "nginx.conf": "tests/js/integration/proxies.test.js",
  "otel-collector.yml": "tests/js/integration/deploy.test.js",
  "prometheus-rules.yml": "tests/js/integration/deploy.test.js",
  "prometheus.yml": "tests/js/integration/deploy.test.js",
};

test("each file of tools/deploy is run or checked by a test that names it", () => {
  const files = readdirSync(join(TOP, "tools/deploy"), { recursive: true, withFileTypes: true }).filter((one) => one.isFile());
  const names = files.map((one) => relative(join(TOP, "tools/deploy"), join(one.parentPath, one.name)));
  assert.deepEqual(names.sort(), Object.keys(CHECKED).sort());
  for (const [name, file] of Object.entries(CHECKED)) {
    // Proxies are named by their programs.
    const texts = [file, "tests/js/support/deploy.js"].map((one) => readFileSync(join(TOP, one), "utf8"));
    assert.ok(texts.join("\n").includes(name.split("/").at(-1)), `${file} does not name ${name}`);
  }
});

describe("restarts and balancing", () => {
  test("balancers ask /readyz, and no supervisor restarts because of /health", () => {
    const balancers = { "haproxy.cfg": /option httpchk GET (\S+)/, Caddyfile: /health_uri (\S+)/ };
    for (const [name, asks] of Object.entries(balancers)) assert.equal(asks.exec(shipped(name))[1], "/readyz", name);
    assert.match(shipped("kubernetes.yml"), /livenessProbe:\s+httpGet: {path: \/livez,/);
    assert.match(shipped("kubernetes.yml"), /readinessProbe:\s+httpGet: {path: \/readyz,/);
    assert.match(shipped("bandsync.service"), /^WatchdogSec=30$/m);
  });

  test("the unit reads the settings that the proxies need", () => {
    assert.match(shipped("bandsync.service"), /^EnvironmentFile=-\/etc\/bandsync\/env$/m);
    assert.match(shipped("bandsync.env"), /^# \/etc\/bandsync\/env/);
  });
});
