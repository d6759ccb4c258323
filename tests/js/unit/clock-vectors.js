// The arithmetic of BandClock a second time, without state. Makes the clock vectors.

import { ProbePlan } from "../../../src/web/clock.js";
import { Network, NETWORKS } from "./network.js";

const upper = ([c0, s1]) => s1 - c0;
const lower = ([, , s2, c3]) => s2 - c3;
const rtt = (s) => upper(s) - lower(s);
const middle = (s) => (upper(s) + lower(s)) / 2;
const when = ([c0, , , c3]) => (c0 + c3) / 2;
const sum = (list, f) => list.reduce((total, x) => total + f(x), 0);

function widest(samples, at, slope, slack) {
  const hi = Math.min(...samples.map((s) => upper(s) + (slope + slack) * (at - s[0])));
  const lo = Math.max(...samples.map((s) => lower(s) + (slope - slack) * (at - s[3])));
  return [lo, hi];
}

/** Whether some skew and offset agree with all samples. The widest interval is at a skew where two limits cross. */
export function possible(samples) {
  if (samples.length === 1) return true;
  const newest = samples.at(-1)[3];
  const highs = samples.map((s) => [upper(s), newest - s[0]]);
  const lows = samples.map((s) => [lower(s), newest - s[3]]);
  const crossings = (limits) => {
    const pairs = limits.flatMap(([a, x], i) => limits.slice(i + 1).map(([b, y]) => (b - a) / (x - y)));
    return pairs.filter((skew) => Math.abs(skew) <= 110e-6);
  };
  const width = (skew) => {
    const at = ([limit, age]) => limit + skew * age;
    return Math.min(...highs.map(at)) - Math.max(...lows.map(at));
  };
  return [-110e-6, 110e-6, ...crossings(highs), ...crossings(lows)].some((skew) => width(skew) >= -0.3);
}

/** The newest samples that are likely from one route. */
function sameRoute(samples) {
  const newest = samples.at(-1)[3];
  const floor = samples.length < 20 ? -0.3 : Math.max(-0.3, 0.75 * Math.min(...samples.map(rtt)) - 0.5);
  for (let n = 2; n <= samples.length; n += 1) {
    const some = samples.slice(-n);
    const hi = Math.min(...some.map((s) => upper(s) + 110e-6 * (newest - s[0])));
    const lo = Math.max(...some.map((s) => lower(s) - 110e-6 * (newest - s[0])));
    if (hi - lo < floor) return some.slice(1);
  }
  return samples;
}

export function estimate(all, at) {
  let [samples, witnesses] = [[], []];
  for (const s of all) {
    witnesses = [...witnesses, s];
    if (possible(witnesses)) samples = sameRoute([...samples, s].slice(-64));
    else samples = witnesses = [s];
  }
  const least = Math.min(...samples.map(rtt));
  const w = (s) => 1 / (0.05 + 0.02 * least + (rtt(s) - least) / 2) ** 2;
  const total = sum(samples, w);
  const [t0, m0] = [when(samples[0]), middle(samples[0])];
  const t = t0 + sum(samples, (s) => w(s) * (when(s) - t0)) / total;
  const m = m0 + sum(samples, (s) => w(s) * (middle(s) - m0)) / total;
  const precision = sum(samples, (s) => w(s) * (when(s) - t) ** 2) + 50e-6 ** -2;
  const slope = sum(samples, (s) => w(s) * (when(s) - t) * (middle(s) - m)) / precision;
  const sd = 1 / Math.sqrt(precision);
  const [lo, hi] = widest(samples, at, slope, sd);
  const offset = lo <= hi ? (lo + hi) / 2 : m + slope * (at - t);
  const [from, to] = widest(samples, at, 0, 110e-6);
  return { samples: samples.length, offset, bound: Math.max(to - offset, offset - from, 0) + 0.1 };
}

/** True times of the probe plan up to `end`. */
export function planned(end) {
  const plan = new ProbePlan();
  plan.start(0);
  const times = [];
  while (plan.next <= end) {
    times.push(plan.next);
    plan.take(plan.next);
  }
  return times;
}

function recorded(kind, seed, end, step) {
  const network = new Network(kind, seed);
  if (step) network.step(...step);
  const probes = planned(end).map((t) => network.probe(t));
  probes.sort((a, b) => a.back - b.back);
  return probes.map((p) => p.stamps);
}

export function makeClockVectors() {
  const runs = [
    ...NETWORKS.map((kind, i) => [kind, recorded(kind, 100 + i, 22_000)]),
    ["goodWifi, the client's clock steps by 200 ms", recorded("goodWifi", 200, 22_000, [12_000, 200])],
    ["mobile, the client's clock steps back by 12 ms", recorded("mobile", 202, 60_000, [12_000, -12])],
    ["mobile, the client's clock steps by 40 ms", recorded("mobile", 307, 45_000, [30_000, 40])],
    ["badWifi, the client's clock steps back by 80 ms", recorded("badWifi", 201, 40_000, [11_000, -80])],
    ["badWifi, the client's clock steps by 20 ms", recorded("badWifi", 204, 60_000, [40_000, 20])],
  ];
  const micro = (x) => Number(x.toFixed(9));
  return {
    clocks: runs.map(([name, samples]) => ({
      name,
      samples,
      checks: [1, 2, 5, 20, 21, 40, 60, samples.length].flatMap((count) => {
        const seen = samples.slice(0, count);
        return [0, 777].map((later) => {
          const at = seen.at(-1)[3] + later;
          const { samples: used, offset, bound } = estimate(seen, at);
          return { after: count, at, used, offset: micro(offset), bound: micro(bound) };
        });
      }),
    })),
  };
}
