// Several servers as the nodes of one cluster, on a real Redis of their own: as nodes, or in place of
// the one server of a test that exists already.
import assert from "node:assert/strict";
import { Redis, until } from "./redis.js";
import { startServer } from "./server.js";
import { health } from "./owned.js";
import { request } from "./wire.js";

/** Number of nodes that {@link startServers} starts: `NODES`, or a single server without a cluster. */
export const NODES = Number(process.env.NODES ?? 1);

/** Settings of every node. */
const ENV = { CLUSTER: "on", STORAGE_TTL: "60000", EVENT_RATES: "other=0,join_session=0,chat_message=0" };

/** A cluster of nodes. All its processes end with {@link Nodes.stop}, also after a failed start. */
export class Nodes {
  constructor(redis) {
    this.redis = redis;
    this.all = [];
  }

  /** Starts Redis and this many nodes, and waits until each knows all others. */
  static async start(count, env = {}) {
    const nodes = new Nodes(await Redis.start());
    try {
      await found(nodes.redis);
      // In the order of their names, whichever starts first.
      nodes.all = await Promise.all(Array.from({ length: count }, (_, n) => nodes.add(`node-${n}`, env)));
      await nodes.settled();
      return nodes;
    } catch (error) {
      await nodes.stop();
      throw error;
    }
  }

  /** Starts one more node. */
  async add(name, env = {}) {
    const node = await startServer({ env: { ...ENV, REDIS_URL: this.redis.url, NODE_NAME: name, ...env } });
    this.all.push(node);
    return node;
  }

  /** The nodes whose process runs and was not stopped by a signal. */
  get living() {
    return this.all.filter((node) => node.run.child.exitCode === null && node.run.child.signalCode === null && !node.isPaused);
  }

  /** Waits until every living node is ready, in full standing, and sees exactly the living ones. */
  async settled() {
    const expected = this.living.length;
    for (const node of this.living) {
      await until(`a node of ${expected} is in full standing`, async () => {
        const { cluster } = await health(node);
        const ready = (await request(node, "GET", "/readyz")).status === 200;
        if (ready && cluster.standing === "full" && cluster.nodes.length === expected) return true;
        throw new Error(JSON.stringify({ ready, cluster }));
      });
    }
  }

  /** Waits until a node has this standing. */
  standing(node, standing) {
    return until(`the standing is ${standing}`, async () => (await health(node)).cluster.standing === standing);
  }

  /** Stops a process as if the machine slept. */
  pause(node) {
    node.isPaused = true;
    node.signal("SIGSTOP");
  }

  wake(node) {
    node.isPaused = false;
    node.signal("SIGCONT");
  }

  async stop() {
    for (const node of this.all) {
      for (const close of node.closers.splice(0)) close();
      node.signal("SIGKILL");
      await node.exited;
    }
    await this.redis.stop();
  }
}

/** Founds a cluster in an empty Redis. The first node would wait 3 s before it does. */
export const found = (redis, buckets = 64) =>
  redis.ask("HSET", "bandsync:{nodes}:table", "origin", String(Date.now() * 1_000), "buckets", String(buckets));

/** The node that owns a session, by Redis. Throws if nobody does. */
export async function ownerOf(nodes, sessionId) {
  const owner = await nodes.redis.ask("HGET", `session:${sessionId}`, "owner");
  for (const node of nodes.living) if ((await health(node)).cluster.node === owner) return node;
  throw new Error(`${sessionId} is owned by ${owner}`);
}

/**
 * Starts a server for a test of the protocol. With `NODES=2` it starts two nodes that look like one
 * server, so that the same tests run against a cluster: `./tools/test --only two-nodes`.
 */
export async function startServers({ env = {} } = {}) {
  if (NODES === 1) return startServer({ env });
  // Nodes wait for a core of a busy machine here, which must not count as their loss.
  return new Together(await Nodes.start(NODES, { EVENT_RATES: "default", LEASE_TTL: "10000", ...env }));
}

/**
 * Checks that two members received the same ticks of a song that was not moved. Each node ticks its own
 * members, so with `NODES=2` their times may differ, but not the line that they are on.
 */
export function assertSameTicks(ticks, others) {
  if (NODES === 1) return assert.deepEqual(ticks, others);
  assert.ok(ticks.length > 0 && others.length > 0);
  const start = ({ positionMs, serverTimestamp }) => serverTimestamp - positionMs;
  for (const tick of ticks) {
    assert.ok(Math.abs(start(tick) - start(others[0])) <= 1, `${JSON.stringify([tick, others[0]])}: one song at one time`);
  }
}

/** Options of a test that needs a single server. With `NODES=2` it is listed as skipped, with the reason. */
export const oneServer = (reason) => ({ skip: NODES > 1 && `one server: ${reason}` });

/** Options of a test that fails on two nodes, because they lack something. With `NODES=2` it is listed. */
export const notYet = (fault) => ({ todo: NODES > 1 && fault });

/** Nodes in place of a server. Each client that reads `url` is on another node than the one before. */
class Together {
  constructor(nodes) {
    this.nodes = nodes;
    this.turn = 0;
    this.closers = [];
  }

  get url() {
    this.turn += 1;
    return this.nodes.all[(this.turn - 1) % this.nodes.all.length].url;
  }

  /** The port of the first node: for raw bytes, and for networks whose clients return to one node. */
  get port() {
    return this.nodes.all[0].port;
  }

  get logs() {
    return this.nodes.all.map((node) => node.logs).join("\n");
  }

  owns(close) {
    this.closers.push(close);
  }

  /** Closes the clients and stops all nodes. Throws if one of them does not end cleanly. */
  async stop() {
    for (const close of this.closers.splice(0)) close();
    try {
      await Promise.all(this.nodes.all.map((node) => node.stop()));
    } finally {
      await this.nodes.stop();
    }
  }
}
