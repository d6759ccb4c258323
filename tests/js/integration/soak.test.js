// Bands come, play and go, over and over: once the server has seen it all, memory grows by no more than a slack.
// SOAK_SECONDS says for how long, 20 unless told otherwise; hours are fine.
import assert from "node:assert/strict";
import { test } from "node:test";
import { band, emit } from "../support/client.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";

const SECONDS = Number(process.env.SOAK_SECONDS ?? 20);
const BANDS = 4;
const MEMBERS = 5;

// What the allocator may keep for later, beyond what it has after the first half.
const SLACK_BYTES = 6_000_000;

test(`memory stays within its slack over ${SECONDS} s of bands that come and go`, { timeout: (SECONDS + 240) * 1000 }, async (t) => {
  const server = await startServer({ env: { SESSION_TTL: "1000", LEADER_GRACE: "0", LOG_LEVEL: "warn" } });
  const ends = performance.now() + SECONDS * 1000;
  const samples = [];
  do {
    const bands = await Promise.all(Array.from({ length: BANDS }, () => band(server, MEMBERS)));
    for (const { sessionId, leader } of bands) {
      assertDone(await emit(leader, "play", { sessionId }));
      assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 90 }));
    }
    for (const one of bands) one.all.forEach((socket) => socket.disconnect());
    server.closers.length = 0;
    samples.push(residentBytes(server.pid));
  } while (performance.now() < ends || samples.length < 10);
  const half = samples.slice(0, Math.ceil(samples.length / 2));
  const rest = samples.slice(half.length);
  t.diagnostic(`${samples.length} rounds of ${BANDS * MEMBERS} members: ${(half.at(-1) / 1e6).toFixed(1)} MB, then ${(rest.at(-1) / 1e6).toFixed(1)} MB`);
  assert.ok(Math.max(...rest) <= Math.max(...half) + SLACK_BYTES, samples.map((bytes) => (bytes / 1e6).toFixed(1)).join(" "));
  await server.stop();
});
