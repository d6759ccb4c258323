// Members of a band: the unmodified socket.io-client, plus waiting for what they hear.
import { io } from "socket.io-client";
import { PATIENCE_MS, within } from "./wait.js";

let sessions = 0;

/** A session id that no other test uses. */
export function freshSession(name = "session") {
  sessions += 1;
  return `${name}-${process.pid}-${sessions}`;
}

/**
 * A client that has begun to connect: what is emitted now is sent right behind the connect packet.
 *
 * `heard` keeps everything it is ever told, in order, as `{event, payload}`.
 */
export function open(server, options = {}) {
  const socket = io(server.url, {
    transports: ["websocket"],
    reconnection: false,
    forceNew: true,
    ...options,
  });
  socket.heard = [];
  socket.onAny((event, payload) => socket.heard.push({ event, payload, at: performance.now() }));
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

/** The payload of the next `event` that satisfies `accepts`; call it before causing the event. */
export function next(socket, event, accepts = () => true, ms = PATIENCE_MS) {
  let listener;
  const heard = new Promise((done) => {
    listener = (payload) => accepts(payload) && done(payload);
    socket.on(event, listener);
  });
  const what = () => {
    const others = socket.heard.filter((one) => one.event !== "scroll_tick").slice(-8);
    return `"${event}" is heard; last heard: ${JSON.stringify(others)}`;
  };
  return within(ms, heard, what).finally(() => socket.off(event, listener));
}

/** Emits with an acknowledgement and returns it. */
export function emit(socket, event, payload, ms = PATIENCE_MS) {
  return socket.timeout(ms).emitWithAck(event, payload);
}

/** Every payload of `event` heard so far. */
export function heard(socket, event) {
  return socket.heard.filter((one) => one.event === event).map((one) => one.payload);
}

/** A client in the session, after its own snapshot. */
export async function join(server, sessionId, fields = {}, options = {}) {
  const socket = open(server, options);
  const snapshot = next(socket, "snapshot");
  const answer = emit(socket, "join_session", { sessionId, ...fields });
  // Where the connection fails nobody waits for these two any more; they fail later, perhaps after the test.
  for (const one of [snapshot, answer]) one.catch(() => {});
  await connected(socket);
  const ack = await answer;
  if (ack?.ok !== true) throw new Error(`join refused: ${JSON.stringify(ack)}`);
  socket.snapshot = await snapshot;
  return socket;
}

/** A leader and followers in a session of their own; `all` has the leader first. */
export async function band(server, size, sessionId = freshSession("band")) {
  const leader = await join(server, sessionId, { displayName: "Lead", role: "leader" });
  const followers = [];
  for (let i = 1; i < size; i += 1) {
    followers.push(await join(server, sessionId, { displayName: `Member ${i}`, role: "follower" }));
  }
  return { sessionId, leader, followers, all: [leader, ...followers] };
}

/** What each of the sockets hears next as `event`, caused by `cause`. */
export async function everyoneHears(sockets, event, accepts, cause) {
  const all = Promise.all(sockets.map((socket) => next(socket, event, accepts)));
  all.catch(() => {});
  await cause();
  return all;
}
