// A short evening on a server under a leak checker, which tools/deploy/leak-check starts. Whatever
// clients do, no memory may leak. If some does, the checker's exit code fails the test.
import assert from "node:assert/strict";
import { test } from "node:test";
import { band, emit, freshSession, join, open } from "../support/client.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { request, tcp } from "../support/wire.js";

const ROUNDS = 6;

test("frees everything that it allocated", { timeout: 110_000 }, async () => {
  const server = await startServer({ env: { SHARDS: "2", SESSION_TTL: "1000", LEADER_GRACE: "0", IO_URING: "off" } });
  for (let round = 0; round < ROUNDS; round += 1) {
    const { sessionId, leader, followers, all } = await band(server, 4);
    assertDone(await emit(leader, "play", { sessionId }));
    const songs = [{ id: "a", title: "A", format: "text", body: "la ".repeat(1000) }];
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "x", songs } }));
    await emit(followers[0], "play", { sessionId });
    await emit(followers[0], "join_session", { sessionId: freshSession("other") });
    const polled = await join(server, sessionId, {}, { transports: ["polling"] });
    polled.disconnect();
    // One client breaks the protocol, one its connection, and the others disconnect.
    followers[1].io.engine.transport.ws.send("no packet");
    followers[2].io.engine.transport.ws._socket.destroy();
    const rubbish = await tcp(server);
    rubbish.write("rubbish\r\n\r\n");
    await rubbish.closed();
    open(server, { path: "/nowhere/" }).disconnect();
    for (const path of ["/", "/health", "/metrics", "/metrics/prometheus", "/metrics/history", "/dashboard/data"]) {
      assert.equal((await request(server, "GET", path)).status, 200, path);
    }
    all.forEach((socket) => socket.disconnect());
  }
  const end = await server.stop();
  assert.equal(end.code, 0, end.stderr);
});
