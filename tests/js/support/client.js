// Members of a band: the unmodified socket.io-client, and functions that await its events.
import { io } from "socket.io-client";
import { PATIENCE_MS, within } from "./wait.js";

let sessions = 0;

/** A session id that no other test uses. */
export function freshSession(name = "session") {
  sessions += 1;
  return `${name}-${process.pid}-${sessions}`;
}

/**
 * A client that has begun to connect. Events emitted now are sent right after its connect packet.
 *
 * Its `received` keeps every event that it receives, in order, as `{event, payload, at}`.
 */
export function open(server, options = {}) {
  const socket = io(server.url, {
    transports: ["websocket"],
    reconnection: false,
    forceNew: true,
    ...options,
  });
  socket.received = [];
  socket.onAny((event, payload) => socket.received.push({ event, payload, at: performance.now() }));
  server.owns(() => socket.disconnect());
  return socket;
}

/** A connected client. */
export async function connect(server, options = {}) {
  const socket = open(server, options);
  await connected(socket);
  return socket;
}

export function connected(socket) {
  const answer = new Promise((done, fail) => {
    if (socket.connected) done();
    socket.once("connect", done);
    socket.once("connect_error", fail);
  });
  return within(PATIENCE_MS, answer, "the client connects");
}

/** The payload of the next `event` that `accepts` takes. Call it before causing the event. */
export function next(socket, event, accepts = () => true, ms = PATIENCE_MS) {
  let listener;
  const received = new Promise((done) => {
    listener = (payload) => accepts(payload) && done(payload);
    socket.on(event, listener);
  });
  const what = () => {
    const others = socket.received.filter((one) => one.event !== "scroll_tick").slice(-8);
    return `"${event}" is received; last received: ${JSON.stringify(others)}`;
  };
  return within(ms, received, what).finally(() => socket.off(event, listener));
}

/** Emits an event and returns its acknowledgement. */
export function emit(socket, event, payload, ms = PATIENCE_MS) {
  return socket.timeout(ms).emitWithAck(event, payload);
}

/** The payloads of every `event` received so far. */
export function received(socket, event) {
  return socket.received.filter((one) => one.event === event).map((one) => one.payload);
}

/** A client that has joined the session and received its snapshot. */
export async function join(server, sessionId, fields = {}, options = {}) {
  const socket = open(server, options);
  const snapshot = next(socket, "snapshot");
  const answer = emit(socket, "join_session", { sessionId, ...fields });
  // If the connection fails, these two are never awaited, and would fail after the test.
  for (const one of [snapshot, answer]) one.catch(() => {});
  await connected(socket);
  const ack = await answer;
  if (ack?.ok !== true) throw new Error(`join refused: ${JSON.stringify(ack)}`);
  socket.snapshot = await snapshot;
  return socket;
}

/** A leader and followers in a session of their own. The leader is first in `all`. */
export async function band(server, size, sessionId = freshSession("band")) {
  const leader = await join(server, sessionId, { displayName: "Lead", role: "leader" });
  const followers = [];
  for (let i = 1; i < size; i += 1) {
    followers.push(await join(server, sessionId, { displayName: `Member ${i}`, role: "follower" }));
  }
  return { sessionId, leader, followers, all: [leader, ...followers] };
}

/** The payload of the next `event` at each of the sockets, after `cause` has run. */
export async function everyoneReceives(sockets, event, accepts, cause) {
  const all = Promise.all(sockets.map((socket) => next(socket, event, accepts)));
  all.catch(() => {});
  await cause();
  return all;
}
