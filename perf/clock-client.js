// One client of `perf clock`: members of a session whose clocks are compared with the true one.
//
//   node perf/clock-client.js '{"url": …, …}'
//
// Prints `ready`, waits for a line, measures, and prints one line of JSON. Every time in it is in milliseconds of the
// machine's monotonic clock, which all processes share. The member itself sees a clock of its own: with another origin,
// too fast or slow by up to 100 ppm, and rounded as browsers round it. With `"browser": true` the member runs in a page of
// headless Chromium, with the page's clock and WebSocket.

import { createRequire } from "node:module";
import { createInterface } from "node:readline/promises";

/**
 * Joins, looks at the clock, and returns what was seen. Uses no variable from outside, because a page runs it, too.
 *
 * First `connects` members join in turn, and each is looked at once, a second after it has connected. Another one is looked
 * at every 50 ms for `seconds`, and then while its clock steps `steps` times.
 */
async function measure({ plan, BandSync, WebSocket, monotonic }) {
  const { url, sessionId, name, connects, seconds, steps, stampMs } = plan;
  const LOOK_MS = 50;
  /** Time within which a connected client has an answer to a probe. Guessed: the slowest network takes a second. */
  const PROBE_WAIT_MS = 20_000;
  /** Time between two steps: a client that resumes sends bursts for 5.4 s, and sends none again for 5 s. */
  const CALM_MS = 6_500;
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  let state = plan.seed >>> 0;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  for (let i = 0; i < 8; i += 1) random();

  /** A member with a clock of its own. */
  const create = async (label) => {
    const began = monotonic();
    const rate = 1 + (2 * random() - 1) * 100e-6;
    let origin = random() * 1e6;
    let at = null;
    const local = (t) => origin + (t - began) * rate;
    const truth = (c) => began + (c - origin) / rate;
    const now = () => {
      if (at !== null) return local(at);
      const t = local(monotonic());
      return stampMs > 0 ? Math.floor(t / stampMs) * stampMs : t;
    };
    const seen = { stampMs, skew: rate - 1, probes: [], looks: [], steps: [] };
    let answered = () => {};
    const band = new BandSync({ url, sessionId, name: `${name}, ${label}`, WebSocket, now });
    const { clock } = band;
    const add = clock.add.bind(clock);
    clock.add = (c0, t1, t2, c3) => {
      seen.probes.push([truth(c0), t1, t2, truth(c3)]);
      const stepped = add(c0, t1, t2, c3);
      // After the client has handled the answer.
      setTimeout(() => answered(), 0);
      return stepped;
    };
    const look = () => {
      if (!clock.ready) return;
      // The same instant for both.
      at = monotonic();
      const estimated = local(at) + clock.estimate().offset;
      seen.looks.push([at, estimated, clock.now(), clock.bound]);
      at = null;
    };
    const lookUntil = async (end) => {
      for (let next = monotonic(); next < end; next += LOOK_MS) {
        await sleep(Math.max(0, next - monotonic()));
        look();
      }
    };
    /** Lets the clock step when no probe is under way, as if the device had slept and now resumes. */
    const step = async (by) => {
      await new Promise((done) => (answered = done));
      answered = () => {};
      origin += by;
      seen.steps.push([monotonic(), by]);
      globalThis.window.dispatchEvent(new Event("online"));
    };
    await band.join();
    return { band, seen, look, lookUntil, step };
  };

  const found = { connects: [], steady: null };
  // A client looks for the events of a page. In Node.js there is no page.
  globalThis.window ??= new EventTarget();
  for (let i = 0; i < connects; i += 1) {
    const member = await create(`connect ${i + 1}`);
    const until = monotonic() + PROBE_WAIT_MS;
    while (member.seen.probes.length === 0) {
      if (monotonic() > until) throw new Error(`no probe was answered within ${PROBE_WAIT_MS} ms`);
      await sleep(1);
    }
    await sleep(Math.ceil(member.seen.probes[0][0] + 1_000 - monotonic()));
    member.look();
    member.band.leave();
    found.connects.push(member.seen);
  }
  const member = await create("steady");
  await member.lookUntil(monotonic() + seconds * 1_000);
  for (let i = 0; i < steps; i += 1) {
    await member.lookUntil(monotonic() + CALM_MS);
    const size = 20 * 25 ** random();
    await member.step(random() < 0.5 ? size : -size);
  }
  if (steps > 0) await member.lookUntil(monotonic() + CALM_MS);
  member.band.leave();
  found.steady = member.seen;
  return found;
}

/** Measures here, in Node.js. */
async function here(plan) {
  const require = createRequire(new URL("../tests/js/package.json", import.meta.url));
  const { WebSocket } = require("ws");
  const { BandSync } = await import("../src/web/bandsync.js");
  const monotonic = () => Number(process.hrtime.bigint()) / 1e6;
  return { start: () => measure({ plan, BandSync, WebSocket, monotonic }), close: () => {} };
}

/** Measures in a page of a browser. */
async function inPage(plan) {
  const { launchBrowser } = await import("../tests/js/support/browser.js");
  const browser = await launchBrowser();
  const page = await browser.newPage();
  // Any file of the server: the page must not join by itself, and must have the server's origin.
  await page.goto(`${plan.url}/bandsync.js`);
  // `performance.now` counts from the start of the navigation, which the browser tells by the machine's monotonic clock.
  const inspector = await page.context().newCDPSession(page);
  await inspector.send("Performance.enable");
  const { metrics } = await inspector.send("Performance.getMetrics");
  const origin = metrics.find(({ name }) => name === "NavigationStart").value * 1_000;
  const start = () => page.evaluate(`(async () => {
    const measure = ${measure};
    const { BandSync } = await import("/bandsync.js");
    const monotonic = () => ${origin} + performance.now();
    return measure({ plan: ${JSON.stringify(plan)}, BandSync, WebSocket, monotonic });
  })()`);
  return { start, close: () => browser.close() };
}

const plan = JSON.parse(process.argv[2]);
const client = await (plan.browser ? inPage(plan) : here(plan));
const input = createInterface({ input: process.stdin });
console.log("ready");
await input.question("");
// A member that is cut off would wait for ever. Guessed: three times as long as on a quiet machine, and a minute.
const patience = 60_000 + 3 * 1_000 * (2 * plan.connects + plan.seconds + 10 * plan.steps);
setTimeout(() => {
  console.error(`${plan.name} has not measured within ${patience} ms`);
  process.exit(1);
}, patience).unref();
const found = await client.start();
input.close();
await new Promise((done) => process.stdout.write(`${JSON.stringify(found)}\n`, done));
await client.close();
process.exit(0);
