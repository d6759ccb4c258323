// Compiled by types.test.js in strict mode: the unmodified socket.io-client with the types of the protocol.

import { io, type Socket } from "socket.io-client";
import type { Answer, ClientToServerEvents, ErrorCode, ServerToClientEvents, Timeline } from "../../../src/web/protocol.d.ts";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://127.0.0.1:3001");

socket.on("snapshot", ({ members, timeline, isPlaying }) => {
  const newest: Timeline = timeline;
  console.log(members[0]?.socketId, newest.version, isPlaying === true);
});
socket.on("scroll_tick", ({ positionMs }) => console.log(positionMs.toFixed(1)));
socket.on("error", ({ code }) => {
  const known: ErrorCode = code;
  console.log(known);
});

socket.emit("join_session", { sessionId: "stage", displayName: "Ada" }, (answer) => {
  if (answer.ok) return;
  console.log(answer.error.code, answer.error.message);
});
socket.emit("pause", { sessionId: "stage" });
socket.emit("play", { sessionId: "stage", commandId: "ada-1" }, (answer: Answer<"play">) => {
  if (answer.ok && "repeated" in answer) console.log(answer.version);
});

// @ts-expect-error: a join names its session
socket.emit("join_session", { displayName: "Ada" });
// @ts-expect-error: a tempo is a number
socket.emit("set_tempo", { sessionId: "stage", tempo: "fast" });
// @ts-expect-error: the server sends no such event
socket.on("applause", () => {});
