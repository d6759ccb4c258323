// Starts real Redis servers on free ports: alone, with TLS, as a Cluster of three, or with a
// replica and three Sentinels. They end with the test, pass or fail.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { leashed } from "./leash.js";
import { target } from "./paths.js";
import { PATIENCE_MS, deferred, within } from "./wait.js";

/** A port that is free now. Another program may take it before the caller does. */
async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Repeats `attempt` every 50 ms until it returns something true without throwing. */
export async function until(what, attempt, ms = PATIENCE_MS * 2) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const result = await attempt();
      if (result) return result;
      last = result;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}; last: ${last?.stack ?? JSON.stringify(last)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export class Redis {
  constructor({ args = [], tls = null, isNode = false, env = process.env } = {}) {
    this.isNode = isNode;
    this.args = args;
    this.tls = tls;
    this.env = env;
    this.directory = mkdtempSync(join(tmpdir(), "bandsync-redis-"));
    this.password = null;
  }

  /** Starts a server on a free port and returns it once it answers. */
  static async start(args = [], options = {}) {
    const redis = new Redis({ args, ...options });
    // Another program may take the port before the server does.
    for (let tries = 1; ; tries += 1) {
      redis.port = await freePort();
      redis.busPort = await freePort();
      try {
        await redis.launch();
        return redis;
      } catch (error) {
        await redis.kill();
        if (tries === 5 || !redis.portWasTaken) throw error;
      }
    }
  }

  get url() {
    const login = this.password === null ? "" : `:${encodeURIComponent(this.password)}@`;
    return `${this.tls ? "rediss" : "redis"}://${login}127.0.0.1:${this.port}/0`;
  }

  get command() {
    const listen = this.tls
      ? ["--port", 0, "--tls-port", this.port, "--tls-auth-clients", "no", "--tls-ca-cert-file", this.tls.ca,
          "--tls-cert-file", this.tls.cert, "--tls-key-file", this.tls.key]
      : ["--port", this.port];
    if (this.isNode) listen.push("--cluster-enabled", "yes", "--cluster-port", this.busPort);
    return [...listen, "--bind", "127.0.0.1", "--dir", this.directory, "--save", "", ...this.args];
  }

  /** Starts the process. May be called again after it has ended. */
  async launch() {
    this.output = "";
    const stdio = ["ignore", "pipe", "pipe"];
    const child = spawn(...leashed("redis-server", this.command.map(String)), { stdio, env: this.env });
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (this.output += text));
    this.ended = new Promise((done) => {
      child.once("close", done);
      child.once("error", done);
    });
    this.killNow = () => child.kill("SIGKILL");
    process.once("exit", this.killNow);
    const over = this.ended.then(() => Promise.reject(new Error(`redis-server ended:\n${this.output}`)));
    over.catch(() => {});
    // An answer may come from another program on that port.
    const isOurs = async () => (await this.ask("INFO", "server")).includes(`process_id:${child.pid}\r`);
    const answers = until(`Redis on port ${this.port} answers`, isOurs);
    answers.catch(() => {});
    await Promise.race([answers, over]);
  }

  get portWasTaken() {
    return /Address already in use|Failed listening/.test(this.output);
  }

  signal(name) {
    this.child.kill(name);
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.ended;
    process.off("exit", this.killNow);
  }

  async stop() {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Sends one command on a connection of its own and returns the answer. Throws Redis's errors. */
  async ask(...command) {
    const where = { port: this.port, host: "127.0.0.1" };
    const socket = this.tls ? tls.connect({ ...where, ca: readFileSync(this.tls.ca) }) : net.connect(where);
    socket.on("error", () => {});
    try {
      const login = this.password === null ? [] : [["AUTH", this.password]];
      const commands = [...login, command];
      socket.write(commands.map(encode).join(""));
      const answers = await within(2_000, read(socket, commands.length), `Redis answers ${command[0]}`);
      const answer = answers.at(-1);
      if (answer instanceof Error) throw answer;
      return answer;
    } finally {
      socket.destroy();
    }
  }

  /** Collects the messages that are published on a channel from now on. */
  subscribe(channel) {
    const socket = net.connect(this.port, "127.0.0.1");
    const listener = { messages: [], id: null, stop: async () => socket.destroy() };
    socket.on("error", () => {});
    let text = "";
    socket.setEncoding("utf8").on("data", (more) => {
      text += more;
      listener.id ??= /^:(\d+)/.exec(text)?.[1] ?? null;
      const lines = text.split("\r\n");
      listener.messages = lines.filter((line, at) => at < lines.length - 1 && line.startsWith("{"));
    });
    socket.write(encode(["CLIENT", "ID"]) + encode(["SUBSCRIBE", channel]));
    return listener;
  }

  /** The fields of a session as text, without the binary `record`. */
  async session(id) {
    const fields = await this.ask("HGETALL", `session:${id}`);
    const pairs = [];
    for (let i = 0; i < fields.length; i += 2) pairs.push([fields[i], fields[i + 1]]);
    return Object.fromEntries(pairs.filter(([name]) => name !== "record"));
  }
}

const encode = (words) =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join("")}`;

/** Reads `count` answers. Each is a string, a number, an array, null or an Error. */
function read(socket, count) {
  const { promise, resolve, reject } = deferred();
  let buffer = Buffer.alloc(0);
  const parse = (at) => {
    const end = buffer.indexOf("\r\n", at);
    if (end < 0) return null;
    const line = buffer.toString("latin1", at + 1, end);
    const next = end + 2;
    switch (String.fromCharCode(buffer[at])) {
      case "+":
        return [line, next];
      case "-":
        return [new Error(line), next];
      case ":":
        return [Number(line), next];
      case "$": {
        const length = Number(line);
        if (length < 0) return [null, next];
        if (buffer.length < next + length + 2) return null;
        return [buffer.toString("utf8", next, next + length), next + length + 2];
      }
      default: {
        const items = [];
        let at = next;
        for (let i = 0; i < Number(line); i += 1) {
          const item = parse(at);
          if (item === null) return null;
          items.push(item[0]);
          at = item[1];
        }
        return [items, at];
      }
    }
  };
  socket.on("data", (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    const answers = [];
    let at = 0;
    while (answers.length < count) {
      const item = at < buffer.length ? parse(at) : null;
      if (item === null) return;
      answers.push(item[0]);
      at = item[1];
    }
    resolve(answers);
  });
  socket.once("close", () => reject(new Error("Redis closed the connection")));
  return promise;
}

/** Starts a Cluster of three nodes without replicas. */
export async function startCluster() {
  const nodes = [];
  for (let n = 0; n < 3; n += 1) nodes.push(await Redis.start([], { isNode: true }));
  const share = (n) => [Math.floor((16384 * n) / 3), Math.floor((16384 * (n + 1)) / 3) - 1];
  for (const [n, node] of nodes.entries()) await node.ask("CLUSTER", "ADDSLOTSRANGE", ...share(n));
  for (const [n, node] of nodes.entries()) await node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1);
  for (const node of nodes.slice(1)) await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.busPort);
  const isWhole = async (node) => /cluster_state:ok/.test(await node.ask("CLUSTER", "INFO"));
  for (const node of nodes) await until("the Cluster is whole", () => isWhole(node));
  const url = `redis+cluster://${nodes.map((node) => `127.0.0.1:${node.port}`).join(",")}`;
  return { nodes, url, stop: () => Promise.all(nodes.map((node) => node.stop())) };
}

/** A Sentinel that counts its primary as lost after one second. */
class Sentinel extends Redis {
  constructor(primaryPort) {
    super();
    this.primaryPort = primaryPort;
  }

  get command() {
    const file = join(this.directory, "sentinel.conf");
    const lines = [
      `port ${this.port}`,
      "bind 127.0.0.1",
      `dir ${this.directory}`,
      `sentinel monitor band 127.0.0.1 ${this.primaryPort} 2`,
      "sentinel down-after-milliseconds band 1000",
      "sentinel failover-timeout band 5000",
    ];
    writeFileSync(file, `${lines.join("\n")}\n`);
    return [file, "--sentinel"];
  }
}

/** Starts a primary, a replica and three Sentinels. */
export async function startSentinels() {
  const primary = await Redis.start();
  const replica = await Redis.start(["--replicaof", "127.0.0.1", primary.port]);
  const sentinels = [];
  for (let n = 0; n < 3; n += 1) {
    const sentinel = new Sentinel(primary.port);
    sentinel.port = await freePort();
    await sentinel.launch();
    sentinels.push(sentinel);
  }
  const agree = async (sentinel) => {
    const fields = await sentinel.ask("SENTINEL", "MASTER", "band");
    const value = (name) => Number(fields[fields.indexOf(name) + 1]);
    return value("num-other-sentinels") === 2 && value("num-slaves") === 1;
  };
  for (const sentinel of sentinels) await until("the Sentinels know each other", () => agree(sentinel));
  const url = `redis+sentinel://${sentinels.map((one) => `127.0.0.1:${one.port}`).join(",")}/band`;
  const all = [primary, replica, ...sentinels];
  return { primary, replica, sentinels, url, stop: () => Promise.all(all.map((one) => one.stop())) };
}

/** Makes an authority and a certificate for 127.0.0.1 that it signed. Returns their files. */
export function certificates() {
  const directory = mkdtempSync(join(tmpdir(), "bandsync-tls-"));
  const path = (name) => join(directory, name);
  const openssl = (...args) => execFileSync("openssl", args, { stdio: "pipe" });
  const key = (name) => ["-newkey", "rsa:2048", "-nodes", "-keyout", path(`${name}.key`)];
  openssl("req", "-x509", ...key("ca"), "-out", path("ca.crt"), "-subj", "/CN=Band authority", "-days", "2");
  openssl("req", ...key("server"), "-out", path("server.csr"), "-subj", "/CN=127.0.0.1");
  writeFileSync(path("server.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
  const sign = ["-req", "-in", path("server.csr"), "-CA", path("ca.crt"), "-CAkey", path("ca.key"), "-CAcreateserial"];
  openssl("x509", ...sign, "-out", path("server.crt"), "-days", "2", "-extfile", path("server.ext"));
  const stop = async () => rmSync(directory, { recursive: true, force: true });
  return { ca: path("ca.crt"), cert: path("server.crt"), key: path("server.key"), stop };
}

/** Options for a Redis with RedisTimeSeries, or null if `tools/test` has not unpacked it. */
export function withTimeSeries() {
  const folder = target("redis-stack");
  const module = join(folder, "redistimeseries.so");
  if (!existsSync(module)) return null;
  return { args: ["--loadmodule", module], options: { env: { ...process.env, LD_LIBRARY_PATH: folder } } };
}
