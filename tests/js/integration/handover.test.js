// Hand-overs: the kernel gives connections to any shard, and members meet on the session's shard
// without losing an event on the way.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connected, emit, freshSession, join, next, open, received } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { assertDone, assertRefused } from "../support/shape.js";
import { event, rawMember, text } from "../support/wire.js";

const SESSIONS = 40;

let server;
before(async () => (server = await startServers({ env: { SHARDS: "4" } })));
after(() => server.stop());

test(`${SESSIONS} pairs over four shards: every pair meets`, async () => {
  // With four shards, both connections and the session are on one shard in only 1 of 16 cases, so
  // most of these pairs need a hand-over.
  await Promise.all(
    Array.from({ length: SESSIONS }, async () => {
      const sessionId = freshSession("pair");
      const one = await join(server, sessionId, { role: "leader" });
      const met = next(one, "user_joined", (payload) => payload.memberCount === 2);
      const two = await join(server, sessionId, { role: "follower" });
      await met;
      const chat = next(one, "chat_message");
      assertDone(await emit(two, "chat_message", { sessionId, message: "here" }));
      assert.equal((await chat).socketId, two.id);
      const ticks = [next(one, "scroll_tick"), next(two, "scroll_tick")];
      assertDone(await emit(one, "play", { sessionId }));
      await Promise.all(ticks);
      one.disconnect();
      two.disconnect();
    }),
  );
});

test("commands sent in one write with the join are applied in order", async () => {
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      const sessionId = freshSession("burst");
      // Emitted before the client is connected, so it sends all events right after its connect
      // packet.
      const socket = open(server);
      const acks = [emit(socket, "join_session", { sessionId, role: "leader" })];
      for (let i = 0; i < 8; i += 1) acks.push(emit(socket, "chat_message", { sessionId, message: `line ${i}` }));
      acks.push(emit(socket, "update_message", { sessionId, message: "last" }));
      const end = next(socket, "snapshot", (snapshot) => snapshot.message === "last");
      await connected(socket);
      (await Promise.all(acks)).forEach((ack) => assertDone(ack));
      await end;
      const lines = received(socket, "chat_message").map((one) => one.message);
      assert.deepEqual(lines, Array.from({ length: 8 }, (_, i) => `line ${i}`));
      socket.disconnect();
    }),
  );
});

test("a burst that is cut within a frame loses nothing", async () => {
  // The first shard receives part of a frame. The rest arrives after the connection has moved.
  const sessionIds = Array.from({ length: 16 }, () => freshSession("cut"));
  await Promise.all(
    sessionIds.map(async (sessionId, i) => {
      const raw = await rawMember(server);
      const burst = Buffer.concat([
        text(event("join_session", { sessionId }, 1)),
        text(event("chat_message", { sessionId, message: "whole" }, 2)),
        text(event("chat_message", { sessionId, message: "cut in two" }, 3)),
      ]);
      const cut = burst.length - 1 - i * 4;
      raw.send(burst.subarray(0, cut));
      assertDone((await raw.readAck(1))[0]);
      assertDone((await raw.readAck(2))[0]);
      raw.send(burst.subarray(cut), text(event("chat_message", { sessionId, message: "after" }, 4)));
      assertDone((await raw.readAck(3))[0]);
      assertDone((await raw.readAck(4))[0]);
    }),
  );
});

test("joining another session leaves the first, on whichever shards the two are", async () => {
  for (let i = 0; i < 8; i += 1) {
    const [first, second] = [freshSession("first"), freshSession("second")];
    const stays = await join(server, first);
    const moves = await join(server, first);
    const { id } = moves;
    const left = next(stays, "user_left");
    assertDone(await emit(moves, "join_session", { sessionId: second }));
    assert.equal((await left).socketId, id);
    assertRefused(await emit(moves, "chat_message", { sessionId: first, message: "still here?" }), "not_member");
    assertDone(await emit(moves, "chat_message", { sessionId: second, message: "here" }));
    assert.equal(moves.id, id, "the socket is the same one");
    stays.disconnect();
    moves.disconnect();
  }
});

for (const transport of ["websocket", "polling"]) {
  test(`a member that another session rejects stays in the first, on whichever shards the two are, by ${transport}`, async () => {
    for (let i = 0; i < 8; i += 1) {
      const [first, locked] = [freshSession("first"), freshSession("locked")];
      await join(server, locked, { passcode: "right" });
      const stays = await join(server, first);
      const tries = await join(server, first, {}, { transports: [transport] });
      const refused = emit(tries, "join_session", { sessionId: locked, passcode: "wrong" });
      // Sent before the answer of the other session.
      const chat = next(stays, "chat_message");
      assertDone(await emit(tries, "chat_message", { sessionId: first, message: "still here" }));
      assertRefused(await refused, "bad_passcode", "passcode");
      assert.equal((await chat).socketId, tries.id);
      assert.deepEqual(received(stays, "user_left"), []);
      const left = next(stays, "user_left");
      assertDone(await emit(tries, "join_session", { sessionId: locked, passcode: "right" }));
      assert.equal((await left).socketId, tries.id);
      stays.disconnect();
      tries.disconnect();
    }
  });
}

test("a member can leave and return any number of times", async () => {
  const sessionId = freshSession("again");
  const stays = await join(server, sessionId);
  for (let i = 0; i < 6; i += 1) {
    const comes = await join(server, sessionId);
    assertDone(await emit(comes, "leave_session", { sessionId }));
    assertDone(await emit(comes, "join_session", { sessionId }));
    const chat = next(stays, "chat_message", (chat) => chat.message === `round ${i}`);
    assertDone(await emit(comes, "chat_message", { sessionId, message: `round ${i}` }));
    await chat;
    comes.disconnect();
  }
});

test("a connection that closes during its hand-over leaves no member behind", async () => {
  const sessionId = freshSession("ghost");
  const stays = await join(server, sessionId);
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      const raw = await rawMember(server);
      raw.tcp.socket.end(text(event("join_session", { sessionId })));
      await raw.tcp.closed();
    }),
  );
  for (let attempt = 1; ; attempt += 1) {
    // Each new member receives the list again. Joins also give the server time to notice the
    // closes.
    const newcomer = await join(server, sessionId);
    const present = newcomer.snapshot.members.filter((member) => member.connected);
    const gone = next(stays, "room_stats", (stats) => stats.connectedCount < present.length);
    newcomer.disconnect();
    await gone;
    if (present.length === 2) break;
    assert.ok(attempt < 100, `still there: ${JSON.stringify(present)}`);
  }
});
