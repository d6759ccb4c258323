// What the load generator asks of a server, on socket.io: sessions are rooms, and each ticks on an absolute grid.
//
//   node server.js PORT TICK_MS

import { Server } from "socket.io";
import { performance } from "node:perf_hooks";

const port = Number(process.argv[2] ?? 7400);
const tickMs = Number(process.argv[3] ?? 16);

const io = new Server({
  transports: ["websocket"],
  serveClient: false,
  pingInterval: 2500,
  pingTimeout: 5000,
});

/** Sessions by name: who is there, and since when they play. */
const sessions = new Map();

function snapshot(name, session) {
  const members = [...session.members.values()];
  return { sessionId: name, members, tempoBpm: 120, position: 0, isPlaying: session.playing, epoch: 1, version: 1 };
}

/** Sends a tick, and sets the timer for the next point of the grid, so that lateness does not add up. */
function tick(name, session) {
  if (session.members.size === 0) {
    sessions.delete(name);
    return;
  }
  const now = performance.now();
  io.to(name).volatile.emit("scroll_tick", {
    sessionId: name,
    positionMs: now - session.startedAt,
    tempoBpm: 120,
    serverTimestamp: Date.now(),
    epoch: 1795374685368,
    version: 12,
  });
  while (session.next <= now) {
    session.next += tickMs;
  }
  setTimeout(() => tick(name, session), session.next - performance.now());
}

io.on("connection", (socket) => {
  let joined;

  socket.on("join_session", ({ sessionId, displayName, role }) => {
    joined = sessionId;
    if (!sessions.has(sessionId)) {
      sessions.set(sessionId, { members: new Map(), playing: false, startedAt: 0, next: 0 });
    }
    const session = sessions.get(sessionId);
    const member = { socketId: socket.id, displayName, role, joinedAt: Date.now(), connected: true };
    session.members.set(socket.id, member);
    socket.join(sessionId);
    socket.emit("snapshot", snapshot(sessionId, session));
    io.to(sessionId).emit("user_joined", { member, memberCount: session.members.size });
    io.to(sessionId).emit("room_stats", { sessionId, memberCount: session.members.size });
  });

  socket.on("play", ({ sessionId }) => {
    const session = sessions.get(sessionId);
    if (session === undefined || session.playing) return;
    session.playing = true;
    session.startedAt = performance.now();
    session.next = session.startedAt + tickMs;
    io.to(sessionId).emit("play", { sessionId, tempoBpm: 120, position: 0, serverTimestamp: Date.now() });
    setTimeout(() => tick(sessionId, session), tickMs);
  });

  socket.on("chat_message", ({ sessionId, message }) => {
    io.to(sessionId).emit("chat_message", { sessionId, socketId: socket.id, message, timestamp: Date.now() });
  });

  socket.on("latency_probe", ({ timestamp }) => {
    socket.emit("latency_response", { clientTimestamp: timestamp, serverTimestamp: Date.now() });
  });

  socket.on("disconnect", () => {
    const session = sessions.get(joined);
    if (session === undefined) return;
    session.members.delete(socket.id);
    io.to(joined).emit("user_left", { socketId: socket.id, memberCount: session.members.size });
  });
});

io.listen(port);
