// Real Redis servers on free ports: alone, as a Cluster of three, or with a replica and three Sentinels. They end
// with the test, pass or fail.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PATIENCE_MS, deferred, within } from "./wait.js";

/** A port that nobody listens on now. Cluster nodes use the port 10 000 above it too. */
export async function freePort() {
  for (;;) {
    const server = net.createServer().listen(0, "127.0.0.1");
    await new Promise((done) => server.once("listening", done));
    const { port } = server.address();
    await new Promise((done) => server.close(done));
    if (port < 50_000) return port;
  }
}

/** Tries again until `attempt` does not throw and gives something true. */
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
  constructor(port, args = []) {
    this.port = port;
    this.args = args;
    this.directory = mkdtempSync(join(tmpdir(), "bandsync-redis-"));
    this.password = null;
  }

  static async start(args = []) {
    const redis = new Redis(await freePort(), args);
    await redis.launch();
    return redis;
  }

  get url() {
    const login = this.password === null ? "" : `:${encodeURIComponent(this.password)}@`;
    return `redis://${login}127.0.0.1:${this.port}/0`;
  }

  /** Starts it, again if it had ended; `args` go before those that it was made with. */
  async launch(args = []) {
    const options = ["--port", this.port, "--bind", "127.0.0.1", "--dir", this.directory, "--save", ""];
    this.child = spawn("redis-server", [...options, ...args, ...this.args].map(String), { stdio: "ignore" });
    const { child } = this;
    this.ended = new Promise((done) => child.once("close", done));
    this.killNow = () => child.kill("SIGKILL");
    process.once("exit", this.killNow);
    await until(`Redis on port ${this.port} answers`, async () => (await this.ask("PING")) !== undefined);
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

  /** One command on a connection of its own. An error of Redis is thrown. */
  async ask(...command) {
    const socket = net.connect(this.port, "127.0.0.1");
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

  /** The fields of a session, as text, without the record. */
  async session(id) {
    const fields = await this.ask("HGETALL", `session:${id}`);
    const pairs = [];
    for (let i = 0; i < fields.length; i += 2) pairs.push([fields[i], fields[i + 1]]);
    return Object.fromEntries(pairs.filter(([name]) => name !== "record"));
  }
}

const encode = (words) =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join("")}`;

/** So many answers, as strings, numbers, arrays, null and errors. */
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
        let place = next;
        for (let i = 0; i < Number(line); i += 1) {
          const item = parse(place);
          if (item === null) return null;
          items.push(item[0]);
          place = item[1];
        }
        return [items, place];
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

/** Three nodes that share the slots, without replicas. */
export async function startCluster() {
  const nodes = [];
  for (let n = 0; n < 3; n += 1) nodes.push(await Redis.start(["--cluster-enabled", "yes"]));
  const share = (n) => [Math.floor((16384 * n) / 3), Math.floor((16384 * (n + 1)) / 3) - 1];
  for (const [n, node] of nodes.entries()) await node.ask("CLUSTER", "ADDSLOTSRANGE", ...share(n));
  for (const [n, node] of nodes.entries()) await node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1);
  for (const node of nodes.slice(1)) await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port);
  const isWhole = async (node) => /cluster_state:ok/.test(await node.ask("CLUSTER", "INFO"));
  for (const node of nodes) await until("the Cluster is whole", () => isWhole(node));
  const url = `redis+cluster://${nodes.map((node) => `127.0.0.1:${node.port}`).join(",")}`;
  return { nodes, url, stop: () => Promise.all(nodes.map((node) => node.stop())) };
}

/** A primary, a replica, and three Sentinels that notice within a second. */
export async function startSentinels() {
  const primary = await Redis.start();
  const replica = await Redis.start(["--replicaof", "127.0.0.1", primary.port]);
  const sentinels = [];
  for (let n = 0; n < 3; n += 1) {
    const sentinel = new Redis(await freePort());
    const file = join(sentinel.directory, "sentinel.conf");
    const lines = [
      `sentinel monitor band 127.0.0.1 ${primary.port} 2`,
      "sentinel down-after-milliseconds band 1000",
      "sentinel failover-timeout band 5000",
    ];
    writeFileSync(file, `port ${sentinel.port}\nbind 127.0.0.1\ndir ${sentinel.directory}\n${lines.join("\n")}\n`);
    sentinel.launch = async () => {
      sentinel.child = spawn("redis-server", [file, "--sentinel"], { stdio: "ignore" });
      const { child } = sentinel;
      sentinel.ended = new Promise((done) => child.once("close", done));
      sentinel.killNow = () => child.kill("SIGKILL");
      process.once("exit", sentinel.killNow);
      await until("the Sentinel answers", () => sentinel.ask("PING"));
    };
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

/** A TCP proxy to a server: `delay` ms before bytes of the server go on, in pieces of at most `piece` bytes. */
export async function startProxy(port) {
  const proxy = { delay: 0, piece: Infinity, garbage: false, sockets: new Set() };
  const pass = async (from, to, slow) => {
    for await (const bytes of from) {
      const out = slow && proxy.garbage ? Buffer.from("HTTP/1.1 400 nonsense\r\n\r\n") : bytes;
      for (let at = 0; at < out.length; at += Math.min(proxy.piece, out.length)) {
        if (slow && proxy.delay > 0) await new Promise((done) => setTimeout(done, proxy.delay));
        to.write(out.subarray(at, at + Math.min(proxy.piece, out.length)));
      }
    }
    to.end();
  };
  const server = net.createServer((client) => {
    const upstream = net.connect(port, "127.0.0.1");
    for (const socket of [client, upstream]) {
      proxy.sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => proxy.sockets.delete(socket));
    }
    pass(client, upstream, false).catch(() => upstream.destroy());
    pass(upstream, client, true).catch(() => client.destroy());
  });
  server.listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  proxy.url = `redis://127.0.0.1:${server.address().port}/0`;
  proxy.stop = async () => {
    for (const socket of proxy.sockets) socket.destroy();
    await new Promise((done) => server.close(done));
  };
  return proxy;
}
