// HTTP long-polling, for networks that block WebSockets, and for `io(url)` with default options.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect, connected, emit, freshSession, join, next } from "../support/client.js";
import { notYet, startServers } from "../support/nodes.js";
import { assertDone } from "../support/shape.js";

const POLLING = { transports: ["polling"] };

let server;
before(async () => (server = await startServers({ env: { SHARDS: "4" } })));
after(() => server.stop());

const WAYS = { "default options": {}, "polling alone": POLLING };

for (const [name, transports] of Object.entries(WAYS)) {
  test(`members with ${name} meet a member on a WebSocket`, async () => {
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        const sessionId = freshSession("polling");
        const leader = await join(server, sessionId, { role: "leader" });
        const options = { transports: undefined, ...transports };
        const follower = await join(server, sessionId, { displayName: "É🎸", role: "follower" }, options);
        const chat = next(leader, "chat_message");
        assertDone(await emit(follower, "chat_message", { sessionId, message: "é🎸" }));
        assert.equal((await chat).message, "é🎸");
        const ticks = Promise.all([next(leader, "scroll_tick"), next(follower, "scroll_tick")]);
        assertDone(await emit(leader, "play", { sessionId }));
        await ticks;
        follower.disconnect();
        await next(leader, "user_left");
        leader.disconnect();
      }),
    );
  });
}

test("a client with default options upgrades to a WebSocket, and nothing is lost meanwhile", async () => {
  for (let round = 0; round < 8; round += 1) {
    const sessionId = freshSession("upgrade");
    const socket = await connect(server, { transports: undefined });
    const upgraded = new Promise((done) => socket.io.engine.once("upgrade", done));
    const last = next(socket, "chat_message", (payload) => payload.message === "line 7");
    const acks = [emit(socket, "join_session", { sessionId, role: "leader" })];
    for (let i = 0; i < 8; i += 1) acks.push(emit(socket, "chat_message", { sessionId, message: `line ${i}` }));
    for (const ack of await Promise.all(acks)) assertDone(ack);
    if (socket.io.engine.transport.name !== "websocket") await upgraded;
    await last;
    assertDone(await emit(socket, "latency_probe", { timestamp: 1 }));
    const lines = socket.received.filter((one) => one.event === "chat_message").map((one) => one.payload.message);
    assert.deepEqual(lines, Array.from({ length: 8 }, (_, i) => `line ${i}`));
    socket.disconnect();
  }
});

test("a set list can be sent and received by polling", async () => {
  const sessionId = freshSession("polling");
  const socket = await join(server, sessionId, { role: "leader" }, POLLING);
  const songs = [{ id: "1", title: "One", format: "text", body: "la la li é\n".repeat(5_000) }];
  const received = next(socket, "setlist");
  assertDone(await emit(socket, "set_setlist", { sessionId, setlist: { title: "Tonight", songs } }));
  assert.equal((await received).setlist.songs[0].body, songs[0].body);
});

test("a polling client that was lost returns to its seat", notYet("a member of a branch returns by its token, and not by recovery"), async () => {
  const sessionId = freshSession("polling");
  const leader = await join(server, sessionId, { role: "leader" });
  const follower = await join(server, sessionId, { role: "follower" }, POLLING);
  const id = follower.id;
  const left = next(leader, "user_left");
  follower.io.engine.transport.pollXhr?.abort?.();
  follower.io.engine.close();
  await left;
  assertDone(await emit(leader, "chat_message", { sessionId, message: "missed" }));
  const missed = next(follower, "chat_message");
  missed.catch(() => {});
  follower.connect();
  await connected(follower);
  assert.equal(follower.recovered, true);
  assert.equal(follower.id, id);
  assert.equal((await missed).message, "missed");
});

test("TRANSPORTS=websocket turns it off", async () => {
  const strict = await startServers({ env: { TRANSPORTS: "websocket" } });
  const answer = await fetch(`${strict.url}/socket.io/?EIO=4&transport=polling`);
  assert.equal(answer.status, 400);
  assert.deepEqual(await answer.json(), { code: 0, message: "Transport unknown" });
  await strict.stop();
});
