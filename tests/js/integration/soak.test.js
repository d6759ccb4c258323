// Bands join, play and leave, over and over. After a warm-up, memory and open files must not grow.
// SOAK_SECONDS is the length, 30 s by default. It may be hours.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { band, emit } from "../support/client.js";
import { residentBytes, startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { request } from "../support/wire.js";

const SECONDS = Number(process.env.SOAK_SECONDS ?? 30);
const BANDS = 4;
const MEMBERS = 5;

// Connections until the caches of allocator and storage are full. Measured: about 10 000.
const WARM_UP_CONNECTIONS = 10_000;
const CONNECTIONS_MIN = 16_000;

// Far below a leaked connection or a leaked session record, which take about 1 kB each.
const BYTES_PER_CONNECTION_MAX = 200;
// Variation of resident memory without a leak: buffers and caches grow and shrink.
const NOISE_BYTES = 1_500_000;

const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

test(`memory and open files do not grow over ${SECONDS} s of bands that join and leave`, { timeout: (SECONDS + 240) * 1000 }, async (t) => {
  const server = await startServer({ env: { SESSION_TTL: "1000", LEADER_GRACE: "0", LOG_LEVEL: "warn", HANDSHAKES_PER_IP: "0" } });
  const files = descriptors(server.pid);
  const ends = performance.now() + SECONDS * 1000;
  const samples = [];
  let connections = 0;
  while (performance.now() < ends || connections < CONNECTIONS_MIN) {
    const bands = await Promise.all(Array.from({ length: BANDS }, () => band(server, MEMBERS)));
    for (const { sessionId, leader } of bands) {
      assertDone(await emit(leader, "play", { sessionId }));
      assertDone(await emit(leader, "set_tempo", { sessionId, tempo: 90 }));
    }
    // Half of the members disconnect. The others are lost, and their seats are kept with the
    // session.
    for (const { all } of bands) all.forEach((socket, i) => (i % 2 ? socket.disconnect() : socket.io.engine.close()));
    server.closers.length = 0;
    connections += BANDS * MEMBERS;
    samples.push({ connections, bytes: residentBytes(server.pid) });
  }
  const warm = samples.filter((sample) => sample.connections > WARM_UP_CONNECTIONS);
  const [early, late] = [warm.slice(0, warm.length / 3), warm.slice((-warm.length / 3) | 0)];
  const more = median(late.map((sample) => sample.bytes)) - median(early.map((sample) => sample.bytes));
  const between = median(late.map((sample) => sample.connections)) - median(early.map((sample) => sample.connections));
  t.diagnostic(`${connections} connections; in the last ${between} of them ${(more / 1e6).toFixed(2)} MB more, which is ${Math.round(more / between)} bytes each, to ${(samples.at(-1).bytes / 1e6).toFixed(1)} MB`);
  const line = samples.filter((_, i) => i % Math.ceil(samples.length / 40) === 0).map(({ bytes }) => (bytes / 1e6).toFixed(1)).join(" ");
  assert.ok(more <= NOISE_BYTES + BYTES_PER_CONNECTION_MAX * between, line);
  for (let tries = 0; ; tries += 1) {
    const { connectionsDetail: open, sessions } = JSON.parse((await request(server, "GET", "/health")).body);
    // One HTTP connection is that of this request.
    if (open.current === 0 && open.http <= 1 && sessions.total === 0 && descriptors(server.pid) <= files + 2) break;
    assert.ok(tries < 100, `left: ${JSON.stringify({ open, sessions })}, ${descriptors(server.pid)} files instead of ${files}`);
    await new Promise((done) => setTimeout(done, 100));
  }
  await server.stop();
});
