// Measures the error of the positions that members show. Some follow position ticks, 62.5 per second; others keep the
// timeline and a clock, and receive no ticks. Both are behind the same network at the same time.
//
//   BANDSYNC_BIN=target/release/bandsync node perf/positions.js [SECONDS]
//
// The truth is the position of a member that reaches the server directly: on one machine, over loopback, its clock is
// within the bound that is printed. Members behind a network have clocks that run 40 ppm fast from another origin. The
// networks are those of clock-sync research: good Wi-Fi has a round trip of 3 ms and a mean of 2 ms more, with bursts of
// up to 30 ms each way, each 20 s for half a second; bad Wi-Fi has 20 ms and a Pareto tail with a mean of 15 ms more, and
// stops for 0.2 s every 20 s. TCP keeps the order, so late data delays all data behind it.

import { createRequire } from "node:module";
import { freshSession, connect, next } from "../tests/js/support/client.js";
import { badNetwork, chance } from "../tests/js/support/proxy.js";
import { startServer } from "../tests/js/support/server.js";
import { BandSync } from "../src/web/bandsync.js";

const { WebSocket } = createRequire(new URL("../tests/js/package.json", import.meta.url))("ws");

const SETTLING_MS = 5_000;
const seconds = Number(process.argv[2] ?? 30);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const random = chance(1);

/** Milliseconds that one leg takes, drawn anew for each piece of data. */
const profiles = {
  loopback: null,
  "good Wi-Fi": (now) => 1.5 - Math.log(1 - random()) + (now % 20_000 < 500 ? random() * 30 : 0),
  "bad Wi-Fi": (now) => {
    const shape = 2.2;
    const least = (7.5 * (shape - 1)) / shape;
    const stands = now % 20_000 < 200 ? 200 - (now % 20_000) : 0;
    return 10 + least * (1 - random()) ** (-1 / shape) + stands;
  },
};

const server = await startServer({ env: { SHARDS: "1", SCROLL_TICK_INTERVAL: "16" } });
const sessionId = freshSession();
const member = (url, options) => new BandSync({ url, sessionId, WebSocket, ...options });

const truth = member(server.url, { name: "Truth", role: "leader" });
await truth.join();
const members = [];
for (const [profile, leg] of Object.entries(profiles)) {
  let door = server;
  if (leg) {
    door = await badNetwork(server);
    Object.defineProperty(door.weather, "delay", { get: () => leg(performance.now()) });
  }
  const keeper = member(door.url, { name: `Timeline, ${profile}`, now: () => performance.now() * (1 + 40e-6) + 1e6 });
  await keeper.join();
  const plain = await connect(door);
  let tick = null;
  plain.on("scroll_tick", ({ positionMs }) => (tick = { positionMs, at: performance.now() }));
  const snapshot = next(plain, "snapshot");
  plain.emit("join_session", { sessionId, displayName: `Ticks, ${profile}`, role: "follower" });
  await snapshot;
  const shows = {
    "last tick": () => tick?.positionMs,
    "last tick, carried on": () => tick && tick.positionMs + performance.now() - tick.at,
    timeline: () => keeper.position(),
  };
  for (const [way, position] of Object.entries(shows)) members.push({ profile, way, position, errors: [] });
  server.owns(() => keeper.leave());
}
server.owns(() => truth.leave());
await truth.play();
await sleep(SETTLING_MS);

let bound = 0;
for (const end = performance.now() + seconds * 1_000; performance.now() < end; ) {
  // Anywhere between two frames of a screen, so that it keeps no step with the ticks.
  await sleep(4 + random() * 24);
  bound = Math.max(bound, truth.clock.bound);
  for (const { position, errors } of members) {
    let [before, shown, after] = [0, 0, Infinity];
    // Again if something else had the processor between the two.
    while (after - before > 0.1) [before, shown, after] = [truth.position(), position(), truth.position()];
    errors.push(Math.abs(shown - (before + after) / 2));
  }
}
await server.stop();

console.log(`${members[0].errors.length} looks in ${seconds} s; the truth is known to ${bound.toFixed(2)} ms\n`);
console.log("| network | what is shown | off by, ms: p50 | p95 | p99 | most |\n|---|---|---|---|---|---|");
for (const { profile, way, errors } of members) {
  errors.sort((a, b) => a - b);
  const at = (share) => errors[Math.min(errors.length - 1, Math.floor(errors.length * share))].toFixed(2);
  console.log(`| ${profile} | ${way} | ${at(0.5)} | ${at(0.95)} | ${at(0.99)} | ${at(1)} |`);
}
