// 60 ticks per second: the same for every member, and never further from the clock than one tick.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { band, connect, emit, freshSession, join, next, received } from "../support/client.js";
import { assertSameTicks, oneServer, startServers } from "../support/nodes.js";
import { assertDone, assertShape } from "../support/shape.js";
import { engineMember, event } from "../support/wire.js";

// The length of the test. Drift shows within seconds; TICKS_SECONDS=60 makes a longer run.
const SECONDS = Number(process.env.TICKS_SECONDS ?? 6);
const TICK_MS = 16;
const TICK = {
  sessionId: "string",
  positionMs: "number",
  tempoBpm: "number",
  serverTimestamp: "number",
  epoch: "number",
  version: "number",
};

let server;
before(async () => (server = await startServers({ env: { SHARDS: "3", SCROLL_TICK_INTERVAL: String(TICK_MS) } })));
after(() => server.stop());

/**
 * The position of the song, which the server read between `asked` and `answered` on this clock.
 *
 * Comparisons of such intervals do not depend on speed, so they hold on a loaded machine too.
 */
async function sample(socket, sessionId) {
  const answer = next(socket, "sync_response");
  const asked = performance.now();
  socket.emit("sync_request", { sessionId });
  const { positionMs } = await answer;
  return { positionMs, asked, answered: performance.now() };
}

function assertAgrees(start, end, what) {
  const moved = end.positionMs - start.positionMs;
  const least = end.asked - start.answered - TICK_MS;
  const most = end.answered - start.asked + TICK_MS;
  assert.ok(moved >= least && moved <= most, `${what}: moved ${moved} ms, the clock between ${least} and ${most} ms`);
}

/** Waits for a tick at or after `position`. */
const reaches = (socket, position) =>
  next(socket, "scroll_tick", (tick) => tick.positionMs >= position, SECONDS * 1000 + 20_000);

/** Sends probes as fast as they are answered. Reconnects when the server closes it for its rate. */
function noisyNeighbour() {
  const filler = "x".repeat(10_000);
  let stopped = false;
  const noise = (async () => {
    while (!stopped) {
      const member = await engineMember(server);
      member.send(event("join_session", { sessionId: freshSession("noise") }, 0));
      for (let number = 1; !stopped && (await answered(member, number - 1)); number += 1) {
        member.send(event("latency_probe", { timestamp: number, filler }, number));
      }
      member.ws.terminate();
    }
  })();
  return async () => {
    stopped = true;
    await noise;
  };
}

const answered = (member, number) => member.readAck(number).then(
  () => true,
  () => false,
);

test(`over ${SECONDS} s beside noisy neighbours, every member receives the same ticks, and they follow the clock`, async () => {
  const { sessionId, leader, all } = await band(server, 8);
  const hush = [noisyNeighbour(), noisyNeighbour(), noisyNeighbour()];

  const playAsked = performance.now();
  assertDone(await emit(leader, "play", { sessionId }));
  const start = await sample(leader, sessionId);
  for (let second = 1; second <= SECONDS; second += 1) {
    await reaches(leader, second * 1000);
    assertAgrees(start, await sample(leader, sessionId), `after ${second} s`);
  }
  const paused = Promise.all(all.map((one) => next(one, "pause")));
  assertDone(await emit(leader, "pause", { sessionId }));
  await paused;
  await Promise.all(hush.map((stop) => stop()));

  const ticks = received(leader, "scroll_tick");
  for (const member of all.slice(1)) {
    assertSameTicks(received(member, "scroll_tick"), ticks);
  }
  ticks.forEach((tick) => assertShape(tick, { ...TICK, sessionId }));

  for (let i = 1; i < ticks.length; i += 1) {
    assert.ok(ticks[i].positionMs > ticks[i - 1].positionMs, `tick ${i} has a later position`);
    // Compares a tick's timestamp, in whole milliseconds, with its position.
    const moved = ticks[i].positionMs - ticks[0].positionMs;
    const clock = ticks[i].serverTimestamp - ticks[0].serverTimestamp;
    assert.ok(Math.abs(moved - clock) <= TICK_MS, `tick ${i}: moved ${moved} ms in ${clock} ms`);
  }
  for (const { event: name, payload, at } of leader.received) {
    if (name !== "scroll_tick") continue;
    assert.ok(payload.positionMs <= at - playAsked + TICK_MS, "no tick is ahead of the clock");
  }
  assert.ok(ticks.length <= ticks.at(-1).positionMs / TICK_MS + 2, "a late tick is sent once");
  // A loaded machine may leave ticks out, so only the median gap is checked.
  const gaps = ticks.slice(1).map((tick, i) => tick.positionMs - ticks[i].positionMs);
  const median = gaps.sort((a, b) => a - b)[gaps.length >> 1];
  assert.ok(median >= TICK_MS / 2 && median <= TICK_MS * 2, `half of the gaps are about a tick: ${median} ms`);
});

test("after a seek while playing the next tick continues from the new position", async () => {
  const { sessionId, leader, all } = await band(server, 3);
  assertDone(await emit(leader, "play", { sessionId }));
  await reaches(leader, 100);
  for (const position of [60_000, 5_000]) {
    const asked = performance.now();
    const sought = all.map((one) => next(one, "seek", (seek) => seek.position === position));
    assertDone(await emit(leader, "seek", { sessionId, position }));
    await Promise.all(sought);
    await Promise.all(all.map((one) => next(one, "scroll_tick")));
    for (const member of all) {
      const from = member.received.findLastIndex((one) => one.event === "seek");
      const first = member.received.slice(from).find((one) => one.event === "scroll_tick");
      const { positionMs } = first.payload;
      const most = position + (first.at - asked) + TICK_MS;
      assert.ok(positionMs >= position && positionMs <= most, `${positionMs} follows a seek to ${position}`);
    }
  }
});

test("the song keeps its position through a tempo change", async () => {
  const { sessionId, leader } = await band(server, 2);
  assertDone(await emit(leader, "play", { sessionId }));
  await reaches(leader, 100);
  const start = await sample(leader, sessionId);
  assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 200 }));
  await next(leader, "scroll_tick", (tick) => tick.tempoBpm === 200);
  assertAgrees(start, await sample(leader, sessionId), "across the change");
});

test("no tick follows a pause or a stop", async () => {
  const { sessionId, leader, followers } = await band(server, 2);
  for (const event of ["pause", "stop"]) {
    assertDone(await emit(leader, "play", { sessionId }));
    await next(followers[0], "scroll_tick");
    const quiet = next(followers[0], event);
    assertDone(await emit(leader, event, { sessionId }));
    await quiet;
    // Another session plays for several ticks, so the server had time for a tick too many.
    const other = await band(server, 1);
    assertDone(await emit(other.leader, "play", { sessionId: other.sessionId }));
    await reaches(other.leader, 5 * TICK_MS);
    const from = followers[0].received.findLastIndex((one) => one.event === event);
    const later = followers[0].received.slice(from).filter((one) => one.event === "scroll_tick");
    assert.deepEqual(later, [], `after ${event}`);
  }
});

test("a member that joins while the band plays receives the ticks of the others at once", oneServer("each node ticks at times of its own"), async () => {
  const { sessionId, leader } = await band(server, 1);
  assertDone(await emit(leader, "play", { sessionId }));
  await reaches(leader, 100);
  const late = await join(server, sessionId);
  assert.equal(late.snapshot.isPlaying, true);
  const tick = await next(late, "scroll_tick");
  await next(leader, "scroll_tick", (one) => one.positionMs >= tick.positionMs);
  assert.ok(received(leader, "scroll_tick").some((one) => one.positionMs === tick.positionMs));
});

test("ticks reach only the members of their session", async () => {
  const { sessionId, leader } = await band(server, 1);
  const stranger = await connect(server);
  const other = await band(server, 1);
  assertDone(await emit(leader, "play", { sessionId }));
  await reaches(leader, 100);
  await emit(stranger, "latency_probe", { timestamp: 1 });
  await emit(other.leader, "latency_probe", { timestamp: 1 });
  assert.deepEqual(received(stranger, "scroll_tick"), []);
  assert.deepEqual(received(other.leader, "scroll_tick"), []);
});
