// The files of tools/deploy for containers and process managers: compose.yml, kubernetes.yml, ecosystem.config.cjs. Schemas
// find a wrong field; the tests below find what a schema does not know.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { shipped } from "../support/deploy.js";
import { target } from "../support/paths.js";
import { until } from "../support/redis.js";
import { binary, launch } from "../support/server.js";
import { PATIENCE_MS, within } from "../support/wait.js";

const DEPLOY = fileURLToPath(new URL("../../../tools/deploy/", import.meta.url));
const PYTHON = target("schemas", "bin/python");
const NO_SCHEMAS = !existsSync(PYTHON) && "schemas is not here: ./tools/test --only integration installs it";
const PM2 = target("pm2", "bin/pm2");
const NO_PM2 = !existsSync(PM2) && "pm2 is not here: ./tools/test --only integration installs it";

/** The version of Kubernetes whose schemas are used: the first that kubernetes.yml works with. */
const KUBERNETES = "1.30";

/** The time in which the server stops, by the documentation of DRAIN_TIMEOUT. */
const DRAIN_S = 5;

const seconds = (text) => Number(/^(\d+)s$/.exec(text)[1]);

/** Runs a module of the validators over `text`. */
function python(args, text) {
  const { status, stdout, stderr } = spawnSync(PYTHON, args, { input: text, encoding: "utf8" });
  return { status, text: stdout + stderr };
}

/** Checks settings with `bandsync check --settings`, which fails for a value that is not allowed. */
async function accepts(settings) {
  const { code, stdout, stderr } = await within(PATIENCE_MS, launch({ args: ["check", "--settings"], env: settings }).exited, "the check ends");
  assert.equal(code, 0, stderr);
  for (const name of Object.keys(settings)) assert.match(stdout, new RegExp(`\\b${name}\\b`), `${name} is a setting`);
}

describe("compose.yml", () => {
  const { services, secrets, volumes } = parse(shipped("compose.yml"));

  test("matches the schema of Compose", { skip: NO_SCHEMAS }, () => {
    const check = (yaml) => python(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "-"], JSON.stringify(parse(yaml)));
    const { status, text } = check(shipped("compose.yml"));
    assert.equal(status, 0, text);
    const broken = check(shipped("compose.yml").replace("read_only: true", "read_only: [1]"));
    assert.match(broken.text, /read_only/, "a fault is found");
  });

  test("its settings are accepted, and the goodbyes have time", async () => {
    const { REDIS_URL, ADMIN_TOKEN, ...others } = services.bandsync.environment;
    assert.match(ADMIN_TOKEN, /^\$\{ADMIN_TOKEN:\?/, "there is no default token");
    await accepts({ REDIS_URL, ADMIN_TOKEN: "a-token-of-some-length", ...others });
    assert.equal(new URL(REDIS_URL).hostname, "redis");
    assert.ok(Object.hasOwn(services, "redis"));
    assert.ok(seconds(services.bandsync.stop_grace_period) > DRAIN_S);
  });

  test("Redis keeps what it is given, and Prometheus reads the shipped files", () => {
    assert.match(services.redis.command.join(" "), /--appendonly yes --maxmemory-policy noeviction/);
    const { network_mode: network, volumes: mounts, secrets: used } = services.prometheus;
    assert.equal(network, "service:bandsync", "prometheus.yml names 127.0.0.1");
    for (const mount of mounts.map((one) => one.split(":")[0])) {
      assert.ok(mount.startsWith("./") ? existsSync(path(DEPLOY, mount)) : Object.hasOwn(volumes, mount), mount);
    }
    const { authorization } = parse(shipped("prometheus.yml")).scrape_configs[0];
    assert.deepEqual(used, [{ source: "admin-token", target: authorization.credentials_file }]);
    assert.deepEqual(secrets["admin-token"], { environment: "ADMIN_TOKEN" });
  });
});

describe("kubernetes.yml", () => {
  const objects = parseAllDocuments(shipped("kubernetes.yml")).map((document) => document.toJS());
  const find = (kind, name) => objects.find((one) => one.kind === kind && one.metadata.name === name);
  const pod = find("Deployment", "bandsync").spec.template;
  const [container] = pod.spec.containers;

  test(`matches the schemas of Kubernetes ${KUBERNETES}`, { skip: NO_SCHEMAS }, () => {
    const script = `import json, sys, kubernetes_validate
for one in json.load(sys.stdin): kubernetes_validate.validate(one, "${KUBERNETES}", strict=True)`;
    const check = (list) => python(["-c", script], JSON.stringify(list));
    const { status, text } = check(objects);
    assert.equal(status, 0, text);
    const broken = structuredClone(objects);
    broken[0].spec.template.spec.terminationGracePeriod = 1;
    assert.notEqual(check(broken).status, 0, "a fault is found");
  });

  test("objects select the pods and ports that are there", () => {
    for (const kind of ["Service", "PodDisruptionBudget"]) {
      const { selector } = find(kind, "bandsync").spec;
      assert.deepEqual(selector.matchLabels ?? selector, pod.metadata.labels, kind);
    }
    assert.deepEqual(find("Service", "redis").spec.selector, find("StatefulSet", "redis").spec.template.metadata.labels);
    for (const name of ["bandsync", "redis"]) {
      const owner = find("Deployment", name) ?? find("StatefulSet", name);
      const named = owner.spec.template.spec.containers[0].ports.map((port) => port.name);
      for (const { targetPort } of find("Service", name).spec.ports) assert.ok(named.includes(targetPort), targetPort);
    }
    assert.ok(find("Deployment", "bandsync").spec.replicas > find("PodDisruptionBudget", "bandsync").spec.maxUnavailable);
  });

  test("a shard that hangs restarts the pod, and a pod that is not ready receives no members", () => {
    const { livenessProbe, readinessProbe, startupProbe, lifecycle } = container;
    const paths = [livenessProbe, readinessProbe, startupProbe].map((probe) => probe.httpGet.path);
    assert.deepEqual(paths, ["/livez", "/readyz", "/readyz"]);
    const sleep = lifecycle.preStop.sleep.seconds;
    assert.ok(sleep > readinessProbe.periodSeconds, "balancers hear of the end first");
    assert.ok(pod.spec.terminationGracePeriodSeconds > sleep + DRAIN_S, "the goodbyes have time");
  });

  test("its settings are accepted, and memory runs out in the server first", async () => {
    const settings = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const secret = "a-secret-of-some-length";
    await accepts({ ...settings, ADMIN_TOKEN: secret, CLUSTER_SECRET: secret });
    const [, limit] = /^(\d+)Mi$/.exec(container.resources.limits.memory);
    assert.ok(limit * 1.048576 > 1_000, "above the default of MEMORY_LIMIT, in MB");
    assert.equal(settings.SHARDS, container.resources.requests.cpu);
  });
});

describe("ecosystem.config.cjs", { skip: NO_PM2 }, () => {
  let folder, env, port;
  const pm2 = (...args) => {
    const { status, stdout, stderr } = spawnSync(PM2, args, { cwd: folder, env, encoding: "utf8", timeout: 4 * PATIENCE_MS });
    return { status, text: stdout + stderr };
  };
  before(async () => {
    folder = mkdtempSync(path(tmpdir(), "bandsync-pm2-"));
    const socket = net.createServer();
    await new Promise((done) => socket.listen(0, "127.0.0.1", done));
    ({ port } = socket.address());
    await new Promise((done) => socket.close(done));
    env = { PATH: process.env.PATH, HOME: folder, PM2_HOME: path(folder, "pm2"), BANDSYNC: binary, PORT: String(port), HOST: "127.0.0.1", STORAGE: "memory", SHARDS: "1" };
  });
  after(() => {
    pm2("kill");
    rmSync(folder, { recursive: true, force: true });
  });
  const list = () => JSON.parse(pm2("jlist").text.replace(/^[^[]*/, ""));
  const ready = () => fetch(`http://127.0.0.1:${port}/readyz`).then(({ status }) => status, () => 0);

  test("PM2 starts, restarts and stops the server in order", async () => {
    const started = pm2("start", path(DEPLOY, "ecosystem.config.cjs"));
    assert.equal(started.status, 0, started.text);
    await until("the server is ready", async () => (await ready()) === 200);
    const [first] = list();
    assert.deepEqual([first.name, first.pm2_env.exec_mode], ["bandsync", "fork_mode"]);
    assert.ok(first.pm2_env.kill_timeout > DRAIN_S * 1_000, "the goodbyes have time");
    process.kill(first.pid, "SIGKILL");
    await until("it is started again after a crash", async () => (await ready()) === 200 && list()[0].pid !== first.pid);
    const stopped = pm2("stop", "bandsync");
    assert.equal(stopped.status, 0, stopped.text);
    const [{ pm2_env: state }] = list();
    assert.deepEqual([state.status, state.exit_code], ["stopped", 0]);
    assert.equal(await ready(), 0);
  });
});
