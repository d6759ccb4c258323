// Recovery with socket.io-client: a member whose network fails returns with its id, session and
// role, and receives the events that it missed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { band, connected, emit, next, received } from "../support/client.js";
import { notYet, startServers } from "../support/nodes.js";
import { assertDone } from "../support/shape.js";

let server;
before(async () => (server = await startServers({ env: { SHARDS: "4" } })));
after(() => server.stop());

/** Breaks the TCP connection of a client silently. The client stays away until `connect`. */
async function lose(socket) {
  const gone = next(socket, "disconnect");
  socket.io.engine.transport.ws.terminate();
  socket.io.engine.transport.onClose("test");
  await gone;
}

async function comeBack(socket) {
  socket.connect();
  await connected(socket);
}

test("a follower returns to its seat and receives what it missed, in order and once", notYet("a member of a branch returns by its token, and not by recovery"), async () => {
  for (let round = 0; round < 8; round += 1) {
    const { sessionId, leader, followers: [follower] } = await band(server, 2);
    const id = follower.id;
    const left = next(leader, "user_left", (payload) => payload.socketId === id);
    await lose(follower);
    await left;
    for (const message of ["one", "two", "three"]) {
      assertDone(await emit(leader, "chat_message", { sessionId, message }));
    }
    const back = next(leader, "user_joined", (payload) => payload.member.socketId === id);
    back.catch(() => {});
    await comeBack(follower);
    assert.equal(follower.recovered, true);
    assert.equal(follower.id, id);
    await back;
    const last = next(follower, "chat_message", (payload) => payload.message === "four");
    assertDone(await emit(follower, "chat_message", { sessionId, message: "four" }));
    await last;
    const lines = received(follower, "chat_message").map((one) => one.message);
    assert.deepEqual(lines, ["one", "two", "three", "four"]);
    for (const socket of [leader, follower]) socket.disconnect();
  }
});

test("a leader returns as leader while the music plays on", async () => {
  const { sessionId, leader, followers: [follower] } = await band(server, 2);
  assertDone(await emit(leader, "play", { sessionId }));
  const id = leader.id;
  await lose(leader);
  await next(follower, "scroll_tick");
  await comeBack(leader);
  assert.equal(leader.recovered, true);
  assert.equal(leader.id, id);
  await next(leader, "scroll_tick");
  assertDone(await emit(leader, "pause", { sessionId }));
});

test("a member that disconnects on purpose does not get its seat back", async () => {
  const { leader, followers: [follower] } = await band(server, 2);
  const id = follower.id;
  const left = next(leader, "user_left");
  follower.disconnect();
  await left;
  await comeBack(follower);
  assert.equal(follower.recovered, false);
  assert.notEqual(follower.id, id);
});
