// From one server to a cluster and back, on one Redis, as src/README.md describes it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, emit, freshSession, join, next } from "../support/client.js";
import { Nodes, found } from "../support/nodes.js";
import { owned } from "../support/owned.js";
import { Redis, until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { isLower, order } from "../support/spread.js";

const TOKEN = "lead-token_with-128-bits";

test("sessions come along from one server to a cluster, and back", async () => {
  const nodes = owned(new Nodes(await Redis.start()));
  const sessionId = freshSession("along");
  /** Returns as the leader, and changes the tempo from the one that is expected to another. */
  const visit = async (server, before, tempo) => {
    const socket = await connect(server);
    const received = next(socket, "snapshot");
    const ack = await emit(socket, "join_session", { sessionId, token: TOKEN });
    assertDone(ack);
    const snapshot = await received;
    assert.deepEqual([ack.seat, ack.role, snapshot.tempoBpm], ["back", "leader", before.tempo]);
    assert.ok(isLower(before, snapshot), `${order(before)} to ${order(snapshot)}`);
    const { epoch, version } = await emit(socket, "set_tempo", { sessionId, tempo });
    await until("it is stored", async () => (await nodes.redis.session(sessionId)).version === String(version));
    socket.io.engine.close();
    return { epoch, version, tempo };
  };
  const alone = () => startServer({ env: { REDIS_URL: nodes.redis.url, CLUSTER: "off" } });

  const first = await alone();
  const leader = await join(first, sessionId, { role: "leader", token: TOKEN });
  const { epoch, version } = await emit(leader, "set_tempo", { sessionId, tempo: 91 });
  leader.io.engine.close();
  await first.stop();

  await found(nodes.redis);
  await Promise.all([nodes.add("node-0"), nodes.add("node-1")]);
  await nodes.settled();
  let state = await visit(nodes.all[0], { epoch, version, tempo: 91 }, 92);
  // A rolling upgrade: each node is replaced by a new one.
  for (const name of ["node-2", "node-3"]) {
    const [old] = nodes.all.splice(0, 1);
    await old.stop();
    const fresh = await nodes.add(name);
    await nodes.settled();
    state = await visit(fresh, state, state.tempo + 1);
  }
  for (const node of nodes.all.splice(0)) await node.stop();

  const last = await alone();
  await visit(last, state, 120);
  await last.stop();
});
