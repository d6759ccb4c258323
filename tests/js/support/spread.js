// One session on three nodes: its members, and what they must receive.
import assert from "node:assert/strict";
import { emit, freshSession, join, next } from "./client.js";
import { Nodes, ownerOf } from "./nodes.js";
import { until } from "./redis.js";
import { assertDone } from "./shape.js";

export const TICK_MS = 100;

/** A cluster with few ticks, so that a busy machine does not drop any. */
export const startNodes = (env) => Nodes.start(3, { SCROLL_TICK_INTERVAL: String(TICK_MS), ...env });

/** A session that the first node owns, with its leader on the second and followers on the others. */
export async function spread(nodes, fields = {}) {
  const sessionId = freshSession("spread");
  const [a, b, c] = nodes.all;
  const first = await join(a, sessionId, { displayName: "First", role: "follower", ...fields });
  const leader = await join(b, sessionId, { displayName: "Lead", role: "leader", ...fields });
  const third = await join(c, sessionId, { displayName: "Third", role: "follower", ...fields });
  assert.equal(await ownerOf(nodes, sessionId), a);
  return { sessionId, first, leader, third, all: [first, leader, third] };
}

/** Starts the music, and waits until everybody receives ticks. */
export async function play({ sessionId, leader, all }) {
  const begun = Promise.all(all.map((one) => next(one, "scroll_tick")));
  assertDone(await emit(leader, "play", { sessionId }));
  await begun;
}

export async function sync(socket, sessionId) {
  const answer = next(socket, "sync_response");
  socket.emit("sync_request", { sessionId });
  return answer;
}

/** What is equal for all members at one (epoch, version): all but positions and times of answers. */
export function lasting({ positionMs, position, serverTime, serverTimestamp, ...rest }) {
  return rest;
}

/** Repeats a change of the tempo until it is acknowledged. Returns the answers and the time taken. */
export async function writable(socket, sessionId, tempo) {
  const began = performance.now();
  const answers = [];
  await until(`${sessionId} can be changed`, async () => {
    const ack = await emit(socket, "set_tempo", { sessionId, tempo });
    answers.push(ack);
    if (!ack.ok) throw new Error(JSON.stringify(ack));
    return true;
  });
  return { ms: Math.round(performance.now() - began), answers, ...answers.at(-1) };
}

/** The ticks of a member since an index of what it received. */
export const ticksSince = (socket, from) =>
  socket.received.slice(from).filter(({ event }) => event === "scroll_tick").map(({ payload }) => payload);

/** Checks that no tick is missing over two intervals, and that the position moved with the time. */
export function assertUnbroken(ticks, what) {
  assert.ok(ticks.length > 1, `${what}: ${ticks.length} ticks`);
  for (let i = 1; i < ticks.length; i += 1) {
    const passed = ticks[i].serverTimestamp - ticks[i - 1].serverTimestamp;
    assert.ok(passed <= 2 * TICK_MS, `${what}: ${passed} ms without a tick`);
    const moved = ticks[i].positionMs - ticks[i - 1].positionMs;
    assert.ok(Math.abs(moved - passed) <= 1, `${what}: the music moved ${moved} ms in ${passed} ms`);
  }
}

export const order = ({ epoch, version }) => [epoch, version];

/** Whether the first (epoch, version) is lower than the second. */
export const isLower = (a, b) => a.epoch < b.epoch || (a.epoch === b.epoch && a.version < b.version);

/** Checks that (epoch, version) never falls in what a member received. */
export function assertNeverFalls(socket) {
  let last = { epoch: 0, version: 0 };
  for (const { event, payload } of socket.received) {
    if (payload?.epoch === undefined || payload.version === undefined) continue;
    assert.ok(!isLower(payload, last), `${event} falls from ${order(last)} to ${order(payload)}`);
    last = payload;
  }
}

/** A member's newest snapshot, which an own join renews. */
export async function snapshotOf(socket, sessionId) {
  const snapshot = next(socket, "snapshot", (one) => one.sessionId === sessionId);
  assertDone(await emit(socket, "join_session", { sessionId }));
  return snapshot;
}
