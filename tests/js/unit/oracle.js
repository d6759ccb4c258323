// The formulas of the timeline a second time, with exact fractions, and a search instead of a root.
// Shares no code with src/web/timeline.js, so an error passes only if it is made in both.

const BEAT = 1_000_000n;

const floor = (n, d) => (n - (((n % d) + d) % d)) / d;
const ceil = (n, d) => -floor(-n, d);
const halfUp = ([n, d]) => floor(2n * n + d, 2n * d);
const big = (s) => Object.fromEntries(Object.entries(s).map(([k, v]) => [k, BigInt(v)]));

/**
 * Beats since b0 after `twice` half microseconds, as a fraction. Half units make rounding exact.
 */
function beats(s, twice) {
  const { bpm0, bpm1, ramp } = s;
  if (twice <= 0n) return [bpm0 * twice, 120000n];
  if (twice < 2n * ramp) {
    // (bpm0 tau + (bpm1 - bpm0) tau^2 / 2 ramp) / 60000
    return [4n * bpm0 * ramp * twice + (bpm1 - bpm0) * twice * twice, 480000n * ramp];
  }
  return [(bpm0 + bpm1) * ramp + bpm1 * (twice - 2n * ramp), 120000n];
}

function ruling(timeline, t) {
  let found = 0;
  timeline.segments.forEach((s, i) => {
    if (s.t0 <= t) found = i;
  });
  return found;
}

function segmentBeat(s, t) {
  return s.rate === 0n ? s.b0 : s.b0 + halfUp(beats(s, 2n * (t - s.t0)));
}

/** The t with t - 1/2 <= exact time < t + 1/2, found by bisection, as beats grow with time. */
function segmentTime(s, b) {
  const n = b - s.b0;
  const reached = (tau) => {
    const [p, q] = beats(s, 2n * tau - 1n);
    return p <= n * q;
  };
  let lo = -(1n << 44n);
  let hi = 1n << 44n;
  while (hi - lo > 1n) {
    const mid = floor(lo + hi, 2n);
    if (reached(mid)) lo = mid;
    else hi = mid;
  }
  return s.t0 + lo;
}

export function at(timeline, time) {
  const segment = ruling(timeline, time);
  const s = big(timeline.segments[segment]);
  const t = BigInt(time);
  const tau = t - s.t0;
  let tempo;
  if (tau >= 0n && tau >= s.ramp) tempo = s.bpm1;
  else if (tau <= 0n) tempo = s.bpm0;
  else tempo = halfUp([s.bpm0 * s.ramp + (s.bpm1 - s.bpm0) * tau, s.ramp]);
  const position = s.rate === 0n ? s.p0 : s.p0 + tau;
  return { t: time, segment, position: Number(position), beat: Number(segmentBeat(s, t)), tempo: Number(tempo) };
}

export function timeOfBeat(timeline, beat, from) {
  const all = timeline.segments.map(big);
  const b = BigInt(beat);
  for (let i = 0; i < all.length; i += 1) {
    const next = all[i + 1];
    if (all[i].rate === 0n || (i > 0 && b < all[i].b0)) continue;
    if (next && segmentBeat(all[i], next.t0) <= b) continue;
    const t = segmentTime(all[i], b);
    if (t >= BigInt(from)) return Number(t);
  }
  return null;
}

export function bar(timeline, beat) {
  const meter = (timeline.meter.length ? timeline.meter : [{ beat: 0, num: 4, den: 4 }]).map(big);
  const b = BigInt(beat);
  let m = 0;
  let before = 0n;
  while (m + 1 < meter.length && meter[m + 1].beat <= b) {
    before += ceil(meter[m + 1].beat - meter[m].beat, meter[m].num * BEAT);
    m += 1;
  }
  const length = meter[m].num * BEAT;
  const bars = floor(b - meter[m].beat, length);
  return {
    beat,
    bar: Number(before + bars),
    inBar: Number(b - meter[m].beat - bars * length),
    num: Number(meter[m].num),
    den: Number(meter[m].den),
  };
}

export function boundary(timeline, beat, quantum) {
  const meter = (timeline.meter.length ? timeline.meter : [{ beat: 0 }]).map((m) => BigInt(m.beat));
  const b = BigInt(beat);
  const q = BigInt(quantum);
  if (q === 0n) return beat;
  let m = 0;
  while (m + 1 < meter.length && meter[m + 1] <= b) m += 1;
  let next = meter[m] + q * ceil(b - meter[m], q);
  if (m + 1 < meter.length && meter[m + 1] < next) next = meter[m + 1];
  return Number(next);
}
