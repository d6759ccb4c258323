// Old clients: the unmodified socket.io-client 2.5.0 by WebSocket, by polling, and with default
// options.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import io from "socket.io-client-2";
import { freshSession, join, next } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { within } from "../support/wait.js";

let server;
before(async () => (server = await startServers({ env: { SHARDS: "4", SOCKET_PING_INTERVAL: "500" } })));
after(() => server.stop());

function connect(options) {
  const socket = io(server.url, { reconnection: false, forceNew: true, ...options });
  server.owns(() => socket.disconnect());
  const connected = new Promise((done, fail) => {
    socket.once("connect", () => done(socket));
    for (const event of ["connect_error", "error"]) socket.once(event, fail);
  });
  return within(10_000, connected, "the old client connects");
}

const receive = (socket, event) =>
  within(10_000, new Promise((done) => socket.once(event, done)), `the old client receives ${event}`);
const emit = (socket, event, payload) =>
  within(10_000, new Promise((done) => socket.emit(event, payload, done)), `${event} is acknowledged`);

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  test(`version 2.5.0 plays along by ${transports.join(" and ")}`, async () => {
    for (let round = 0; round < 4; round += 1) {
      const sessionId = freshSession("old");
      const leader = await join(server, sessionId, { role: "leader" });
      const old = await connect({ transports });
      const snapshot = receive(old, "snapshot");
      const ack = await emit(old, "join_session", { sessionId, displayName: "Óld", role: "follower" });
      assert.equal(ack.ok, true);
      const { members } = await snapshot;
      assert.ok(members.some((member) => member.socketId === old.id));
      const chat = next(leader, "chat_message");
      assert.equal((await emit(old, "chat_message", { sessionId, message: "é🎸" })).ok, true);
      assert.equal((await chat).message, "é🎸");
      const tick = receive(old, "scroll_tick");
      await leader.emitWithAck("play", { sessionId });
      await tick;
      const left = next(leader, "user_left");
      old.disconnect();
      await left;
      leader.disconnect();
    }
  });
}

test("it pings, receives pongs, and stays connected", async () => {
  const old = await connect({ transports: ["websocket"] });
  for (let pongs = 0; pongs < 3; pongs += 1) await receive(old, "pong");
  assert.ok(old.connected);
});

test("an unknown namespace is rejected", async () => {
  const old = io(`${server.url}/nope`, { transports: ["websocket"], reconnection: false, forceNew: true });
  server.owns(() => old.disconnect());
  const error = await receive(old, "error");
  assert.equal(error.message ?? error, "Invalid namespace");
});
