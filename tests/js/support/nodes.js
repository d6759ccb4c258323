// Several servers as the nodes of one cluster, on a real Redis of their own.
import { Redis, until } from "./redis.js";
import { startServer } from "./server.js";
import { health } from "./owned.js";
import { request } from "./wire.js";

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
      await Promise.all(Array.from({ length: count }, (_, n) => nodes.add(`node-${n}`, env)));
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
