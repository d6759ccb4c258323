// Starts the proxies of tools/deploy in front of real servers, with copies of the shipped files in
// which only ports, paths, certificates and the host name are replaced.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { certificates } from "./certificates.js";
import { leashed } from "./leash.js";
import { PATIENCE_MS } from "./wait.js";

const DEPLOY = fileURLToPath(new URL("../../../tools/deploy/", import.meta.url));

/** The host name in the shipped files, and the one that tests use, which no name server knows. */
const SHIPPED = "band.example.org";
export const NAME = "band.example.test";

/** Whether a program is installed. */
export const has = (program, argument) => spawnSync(program, [argument]).error === undefined;

/** The text of a file in tools/deploy. */
export const shipped = (name) => readFileSync(join(DEPLOY, name), "utf8");

/** Replaces all pairs in a text. Throws if one is missing: then the shipped file has changed. */
function replaced(text, pairs) {
  for (const [from, to] of pairs) {
    if (!text.includes(from)) throw new Error(`${JSON.stringify(from)} is not in the shipped file`);
    text = text.replaceAll(from, to);
  }
  return text;
}

const freePort = () =>
  new Promise((done, fail) => {
    const listener = net.createServer().once("error", fail);
    listener.listen(0, "127.0.0.1", () => {
      const { port } = listener.address();
      listener.close(() => done(port));
    });
  });

/** The settings of a node behind a proxy: those of the unit, then those of its file. */
export function nodeSettings(port) {
  const unit = [...shipped("bandsync.service").matchAll(/^Environment=(\w+)=(.*)$/gm)];
  const file = [...shipped("bandsync.env").matchAll(/^(\w+)=(.*)$/gm)];
  const settings = Object.fromEntries([...unit, ...file].map(([, name, value]) => [name, value]));
  settings.CORS_ORIGIN = replaced(settings.CORS_ORIGIN, [[SHIPPED, `${NAME}:${port}`]]);
  return settings;
}

/** The proxies. `folder` is where the copies go; `nodes` are two ports of 127.0.0.1. */
export const PROXIES = {
  nginx: {
    version: "-v",
    start({ folder, nodes, http, https, tls }) {
      const site = replaced(shipped("nginx.conf"), [
        [SHIPPED + "/fullchain.pem", SHIPPED + "/" + "server.pem"],
        [SHIPPED + "/privkey.pem", SHIPPED + "/" + "server.key"],
        [`/etc/letsencrypt/live/${SHIPPED}`, folder],
        [SHIPPED, NAME],
        ["listen 80;", `listen 127.0.0.1:${http};`],
        ["listen 443 ssl;", `listen 127.0.0.1:${https} ssl;`],
        ["10.0.0.11:3001", `127.0.0.1:${nodes[0]}`],
        ["10.0.0.12:3001", `127.0.0.1:${nodes[1]}`],
      ]);
      writeFileSync(join(folder, "site.conf"), site);
      // A distribution's nginx.conf has these settings around a site.
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
      const user = process.getuid() === 0 ? "user root;" : "";
      writeFileSync(
        join(folder, "nginx.conf"),
        `daemon off; ${user} pid ${folder}/pid; error_log stderr; events {} http { access_log off;
        ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(" ")} include ${folder}/site.conf; }`,
      );
      return { command: "nginx", args: ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"] };
    },
  },
  haproxy: {
    version: "-v",
    start({ folder, nodes, http, https, tls }) {
      const text = replaced(shipped("haproxy.cfg"), [
        [`/etc/haproxy/${SHIPPED}.pem`, tls.both],
        ["bind :80", `bind 127.0.0.1:${http}`],
        ["bind :443", `bind 127.0.0.1:${https}`],
        ["10.0.0.11:3001", `127.0.0.1:${nodes[0]}`],
        ["10.0.0.12:3001", `127.0.0.1:${nodes[1]}`],
      ]);
      writeFileSync(join(folder, "haproxy.cfg"), text);
      return { command: "haproxy", args: ["-db", "-f", join(folder, "haproxy.cfg")] };
    },
  },
  caddy: {
    version: "version",
    start({ folder, nodes, http, https, tls }) {
      const text = replaced(shipped("Caddyfile"), [
        // By default Caddy fetches a certificate and listens on port 80 and an administration port.
        [`${SHIPPED} {`, `{\n\tadmin off\n\tauto_https disable_redirects\n\thttp_port ${http}\n\thttps_port ${https}\n}\n${NAME} {\n\tbind 127.0.0.1\n\ttls ${tls.cert} ${tls.key}`],
        ["10.0.0.11:3001", `127.0.0.1:${nodes[0]}`],
        ["10.0.0.12:3001", `127.0.0.1:${nodes[1]}`],
      ]);
      writeFileSync(join(folder, "Caddyfile"), text);
      const home = join(folder, "home");
      mkdirSync(home);
      const env = { HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home };
      return { command: "caddy", args: ["run", "--config", join(folder, "Caddyfile"), "--adapter", "caddyfile"], env };
    },
  },
};

/** Two free ports: for TLS, which the nodes must know, and for plain HTTP, which is redirected. */
export async function publicPorts() {
  return { https: await freePort(), http: await freePort() };
}

/** Starts a proxy in front of two nodes. */
export async function startProxy(name, nodes, { https: secure, http }) {
  const folder = mkdtempSync(join(tmpdir(), `bandsync-${name}-`));
  const tls = certificates(folder, [NAME]);
  const plan = { folder, nodes: nodes.map((node) => node.port), http, https: secure, tls };
  const { command, args, env = {} } = PROXIES[name].start(plan);
  const child = spawn(...leashed(command, args), { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const ended = new Promise((done) => child.once("close", done));
  let over = false;
  ended.then(() => (over = true));
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  const ca = readFileSync(tls.authority);
  // Stands for a name server: the public name is this machine.
  const lookup = (_, options, found) => (options.all ? found(null, [{ address: "127.0.0.1", family: 4 }]) : found(null, "127.0.0.1", 4));
  const agent = new https.Agent({ ca, lookup, keepAlive: true, rejectUnauthorized: true });
  const origin = `https://${NAME}:${secure}`;

  /** Sends a request through the proxy and returns the answer. */
  const get = (path, headers = {}, options = {}) =>
    new Promise((done, fail) => {
      const asked = https.request(origin + path, { agent, headers, ...options }, (answer) => {
        let body = "";
        answer.setEncoding("utf8").on("data", (part) => (body += part));
        answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, body }));
      });
      asked.once("upgrade", (answer, socket) => {
        socket.destroy();
        done({ status: 101, headers: answer.headers, body: "" });
      });
      asked.once("error", fail).end();
    });

  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await get("/livez").catch((error) => ({ status: 0, body: error.message }));
    if (answer.status === 200) break;
    if (over || performance.now() > deadline) {
      await stop();
      throw new Error(`${name} reaches no server: ${answer.status} ${answer.body}\n${output}`);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  return { name, origin, agent, ca, get, http, stop, output: () => output };
}
