import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { BandClock, ProbePlan } from "../../../src/web/clock.js";
import { planned, possible } from "./clock-vectors.js";
import { Network, NETWORKS } from "./network.js";

const vectors = JSON.parse(readFileSync(new URL("../../vectors/clock.json", import.meta.url), "utf8"));
const near = (a, b, what, within = 1e-6) => assert.ok(Math.abs(a - b) < within, `${what}: ${a} is not ${b}`);

for (const { name, samples, checks } of vectors.clocks) {
  test(`clock vectors: ${name}`, () => {
    for (const { after, at, used, offset, bound } of checks) {
      const clock = new BandClock();
      for (const stamps of samples.slice(0, after)) clock.add(...stamps);
      const found = clock.estimate(at);
      assert.equal(clock.samples, used);
      near(found.offset, offset, `offset after ${after} at ${at}`);
      near(found.bound, bound, `bound after ${after} at ${at}`);
    }
  });
}

/** Runs the probe plan of a client and calls `look(t, error, bound)` at the true times `checks`. */
function live(network, times, checks, look) {
  const clock = new BandClock();
  const answers = times.map((t) => network.probe(t)).sort((a, b) => a.back - b.back);
  let i = 0;
  for (const t of checks) {
    for (; i < answers.length && answers[i].back <= t; i += 1) clock.add(...answers[i].stamps);
    const at = network.local(t);
    const { offset, bound } = clock.estimate(at);
    look(t, Math.abs(at + offset - t), bound);
  }
}

const p95 = (list) => list.sort((a, b) => a - b)[Math.floor(list.length * 0.95)];

// Specified: maximum p95 error in ms after 1 s, 5 s, 30 s and 5 min. 4G has 3 ms of asymmetry.
const GOALS = {
  wired: [0.2, 0.2, 0.2, 0.1],
  goodWifi: [0.3, 0.4, 0.4, 0.3],
  busyPhone: [0.5, 0.4, 0.4, 0.3],
  badWifi: [0.9, 0.6, 1, 0.6],
  mobile: [3.8, 3.8, 4.2, 3.8],
};

for (const kind of NETWORKS) {
  test(`clock on ${kind}: the error is small and the bound holds`, () => {
    const times = planned(300_000);
    const checks = [1100, 5000, 30_000, 300_000];
    const errors = checks.map(() => []);
    for (let seed = 1; seed <= 60; seed += 1) {
      live(new Network(kind, seed), times, checks, (t, error, bound) => {
        assert.ok(error <= bound, `seed ${seed} at ${t}: off by ${error}, bound ${bound}`);
        errors[checks.indexOf(t)].push(error);
      });
    }
    errors.forEach((list, i) => {
      const worst = p95(list);
      assert.ok(worst <= GOALS[kind][i], `p95 ${worst} after ${checks[i]} ms`);
    });
  });
}

test("a step of the client's clock is noticed and corrected", () => {
  for (const [kind, after, within] of [["wired", 1000, 1], ["goodWifi", 1000, 5], ["badWifi", 3000, 10]]) {
    for (const by of [-500, -60, 60, 500]) {
      for (let seed = 1; seed <= 10; seed += 1) {
        const network = new Network(kind, seed);
        network.step(60_000, by);
        const clock = new BandClock();
        const times = [...planned(60_000), ...planned(after).map((t) => 60_001 + t)];
        let noticed = 0;
        for (const t of times) {
          const stepped = clock.add(...network.probe(t).stamps);
          if (stepped) noticed += 1;
          assert.ok(!stepped || t >= 60_000, `false alarm at ${t}`);
        }
        const at = network.local(60_001 + after);
        const error = Math.abs(at + clock.estimate(at).offset - (60_001 + after));
        assert.ok(noticed > 0 && error < within, `${kind}, step ${by}, seed ${seed}: off by ${error}`);
      }
    }
  }
});

test("a slow answer from before a step does not outlive it, though it agrees with the first one after", () => {
  const clock = new BandClock();
  const add = (c0, up, down, offset) => clock.add(c0, c0 + up + offset, c0 + up + offset, c0 + up + down);
  add(0, 1, 1, 0);
  add(1_000, 2, 28, 0);
  assert.equal(add(2_000, 5, 18.2, 20), true, "no offset agrees with the first and the third");
  const { offset, bound } = clock.estimate(2_024);
  assert.ok(Math.abs(offset - 20) <= bound, `off by ${Math.abs(offset - 20)}, bound ${bound}`);
});

test("a step is noticed that is small for any skew, but not for the measured one", () => {
  const clock = new BandClock();
  const add = (c0, up, down, offset) => clock.add(c0, c0 + up + offset, c0 + up + offset, c0 + up + down);
  // These two leave at most 67 ppm, and so at most 3.1 ms by the third. With 110 ppm, it would be 4.4 ms.
  add(0, 1, 1, 0);
  add(30_000, 1, 1, 0);
  assert.equal(add(61_000, 10, 2, 4.5), false, "2.5 ms are possible");
  assert.equal(add(61_050, 10, 1.1, 5), true, "3.9 ms are not");
});

test("a step is noticed once all answers together show it, also those that a change of route has dropped", () => {
  for (const [kind, by] of [["mobile", 40], ["badWifi", 25], ["badWifi", -30]]) {
    for (let seed = 300; seed < 340; seed += 1) {
      const network = new Network(kind, seed);
      network.step(30_000, by);
      const clock = new BandClock();
      const seen = [];
      let shows = false;
      const answers = planned(60_000).map((t) => network.probe(t)).sort((a, b) => a.back - b.back);
      for (const { stamps, back } of answers) {
        clock.add(...stamps);
        seen.push(stamps);
        shows ||= !possible(seen);
        if (back < 30_000 || !shows) continue;
        const at = network.local(back);
        const { offset, bound } = clock.estimate(at);
        const error = Math.abs(at + offset - back);
        assert.ok(error <= bound, `${kind}, step ${by}, seed ${seed} at ${back}: off by ${error}, bound ${bound}`);
      }
    }
  }
});

// Error beyond the bound of a clock that is wrong by 500 ppm. The bound allows for 110 ppm, which
// covers every quartz.
const UNFORESEEN_MS = 0.05;

for (const [what, { ppm = 100, by = 0, silent = 0 }] of Object.entries({
  "an hour ahead": { by: 3_600_000 },
  "an hour behind": { by: -3_600_000 },
  "500 ppm fast or slow": { ppm: 500 },
  "ten minutes asleep, its clock too": { silent: 600_000, by: -600_000 },
  "ten minutes asleep while its clock ran on": { ppm: 500, silent: 600_000 },
})) {
  test(`a client that is ${what}: the bound holds, and its error is small again within seconds`, () => {
    for (const [kind, after, within] of [["wired", 1_000, 1], ["goodWifi", 1_000, 5], ["badWifi", 3_000, 10]]) {
      for (let seed = 1; seed <= 20; seed += 1) {
        const network = new Network(kind, seed, { ppm });
        const woke = 60_001 + silent;
        network.step(woke - 1, by);
        const clock = new BandClock();
        for (const t of planned(60_000)) clock.add(...network.probe(t).stamps);
        // The page sends a burst of probes when it becomes visible again.
        for (const t of planned(after)) clock.add(...network.probe(woke + t).stamps);
        const at = network.local(woke + after);
        const { offset, bound } = clock.estimate(at);
        const error = Math.abs(at + offset - (woke + after));
        const honest = error <= bound + (ppm > 110 ? UNFORESEEN_MS : 0);
        assert.ok(honest && error < within, `${kind}, seed ${seed}: off by ${error}, bound ${bound}`);
      }
    }
  });
}

/** A BandClock whose local time is set by the test. */
function driven(options = {}) {
  const world = { t: 1000 };
  const clock = new BandClock({ now: () => world.t, ...options });
  /** Adds `count` symmetric probes with server = local + offset, one every `rtt` ms. */
  const feed = (offset, count = 64, rtt = 2) => {
    for (let i = 0; i < count; i += 1) {
      world.t += rtt;
      clock.add(world.t - rtt, world.t - rtt / 2 + offset, world.t - rtt / 2 + offset, world.t);
    }
  };
  return { world, clock, feed };
}

test("quality follows the bound, and is lost after ten seconds without a probe", () => {
  const { world, clock, feed } = driven();
  assert.equal(clock.quality, "lost");
  assert.equal(clock.now(), null);
  assert.equal(clock.bound, Infinity);
  feed(50, 1, 60);
  assert.equal(clock.quality, "loose");
  feed(50, 1, 20);
  assert.equal(clock.quality, "good");
  feed(50, 1, 4);
  assert.equal(clock.quality, "tight");
  world.t += 10_001;
  assert.equal(clock.quality, "lost");
  assert.ok(clock.now() > 0, "a lost clock continues");
});

test("a small correction is slewed by 5 ms per second, and never backwards", () => {
  const { world, clock, feed } = driven();
  feed(100);
  near(clock.now(), world.t + 100, "first reading", 1e-3);
  clock.reset();
  feed(92, 64);
  let before = clock.now();
  const from = world.t;
  const offsets = [];
  while (world.t < from + 3000) {
    world.t += 16;
    const now = clock.now();
    assert.ok(now >= before, "ran backwards");
    before = now;
    offsets.push(now - world.t);
  }
  assert.ok(offsets[0] > 99, `${offsets[0]} jumped`);
  for (let i = 1; i < offsets.length; i += 1) {
    assert.ok(Math.abs(offsets[i] - offsets[i - 1]) <= 0.005 * 16 + 1e-6, "too fast");
  }
  assert.ok(Math.abs(offsets.at(-1) - 92) < 0.1, `the offset is still ${offsets.at(-1)}`);
});

test("while the first probes arrive, the clock uses each estimate at once, but never runs backwards", () => {
  const { world, clock, feed } = driven();
  feed(100, 1, 20);
  const first = clock.now();
  feed(96, 1, 2);
  assert.equal(clock.now(), first, "the estimate fell by 4 ms within 2 ms, so the clock stops");
  world.t += 10;
  near(clock.now() - world.t, clock.offset, "caught up", 1e-3);
});

test("the bound includes the correction that is still to be slewed", () => {
  const { clock, feed } = driven();
  feed(100);
  clock.now();
  const tight = clock.bound;
  clock.reset();
  feed(110);
  assert.ok(clock.bound > tight + 9);
});

test("a large correction waits until the player may step", () => {
  let may = false;
  const { world, clock, feed } = driven({ mayStep: () => may });
  feed(100);
  clock.now();
  clock.reset();
  feed(20);
  near(clock.now() - world.t, 100, "still the old offset", 1e-3);
  may = true;
  near(clock.now() - world.t, 20, "stepped", 1e-3);
});

test("malformed timestamps are ignored", () => {
  const { clock } = driven();
  for (const bad of [[1, NaN, 2, 3], [3, 5, 5, 1], [1, 9, 5, 3], [undefined, 1, 1, 1], ["1", 1, 1, 2]]) clock.add(...bad);
  assert.equal(clock.ready, false);
});

test("the plan sends 20 probes, five bursts of 8, and one per 2.5 s except where three coincide with a burst", () => {
  const times = planned(299_999);
  assert.equal(times.length, 20 + 5 * 8 + 119 - 3);
  assert.deepEqual(times.slice(0, 21), [...Array.from({ length: 20 }, (_, i) => 50 * i), 1000]);
  assert.equal(times.at(-1), 297_500);
});

test("probes missed in the background are not sent later", () => {
  const plan = new ProbePlan();
  plan.start(0);
  assert.equal(plan.take(-1), false);
  assert.equal(plan.take(100_000), true);
  assert.equal(plan.take(100_000), false);
  assert.equal(plan.next, 102_500);
  plan.burst(100_500);
  assert.equal(plan.next, 100_500);
  plan.stop();
  assert.equal(plan.next, Infinity);
});
