// The shared timeline: position of the music at a server time, and server time of a beat.
//
// Times and positions are integer microseconds on the server's clock, beats are integer microbeats
// (1 beat = 1 000 000), tempos are integer milli-BPM. Every result is the exact value, rounded once with halves
// up, so that the server and every device compute the same microsecond for the same beat:
//
//   round(n, d) = floor((2n + d) / 2d)              tau = t - t0, R = ramp, D = bpm1 - bpm0
//
//   position   p0 + rate tau
//   beat       b0 + round(bpm0 tau, 60000)                                            tau <= 0
//              b0 + round(2 bpm0 R tau + D tau^2, 120000 R)                           0 < tau < R
//              b0 + round((bpm0 + bpm1) R + 2 bpm1 (tau - R), 120000)                 tau >= R
//   time       t0 + round(60000 n, bpm0)                                              n = b - b0 <= 0
//              t0 + R + round(120000 n - (bpm0 + bpm1) R, 2 bpm1)                     past the ramp
//              t0 + floor((isqrt(Q) - 2 bpm0 R + D) / 2D)                             speeding up
//              t0 + floor((2 bpm0 R - ceil(sqrt(Q)) - D) / -2D)                       slowing down
//              with Q = 4 (bpm0^2 R^2 + 120000 D R n)
//
// The root needs no scaling: floor((x + k) / m) = floor((floor(x) + k) / m) for integers k and m > 0.
// Products reach 112 bits, hence BigInt inside. tests/vectors/README.md has the whole contract.

/** Microbeats in a beat. */
export const BEAT = 1_000_000;

const COMMON_TIME = [{ beat: 0, num: 4, den: 4 }];

/** Whether timeline `a` replaces `b`: the higher (epoch, version) wins, and anything replaces nothing. */
export function isNewer(a, b) {
  if (!b) return true;
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.version > b.version);
}

/** Index of the segment at `t`: the last that has begun, or the first if none has. */
export function segmentAt(timeline, t) {
  const { segments } = timeline;
  let i = segments.length - 1;
  while (i > 0 && segments[i].t0 > t) i -= 1;
  return i;
}

/** Position in the song at `t`, in microseconds. Below zero during a count-in. */
export function positionAt(timeline, t) {
  const s = timeline.segments[segmentAt(timeline, t)];
  return s.p0 + s.rate * (t - s.t0);
}

/** Beat at `t`, in microbeats. */
export function beatAt(timeline, t) {
  return beatInSegment(timeline.segments[segmentAt(timeline, t)], t);
}

/** Tempo at `t`, in milli-BPM. If the music is stopped, the tempo that it would have. */
export function tempoAt(timeline, t) {
  const s = timeline.segments[segmentAt(timeline, t)];
  const tau = t - s.t0;
  if (tau >= s.ramp && tau >= 0) return s.bpm1;
  if (tau <= 0) return s.bpm0;
  return s.bpm0 + Number(round(BigInt(s.bpm1 - s.bpm0) * BigInt(tau), BigInt(s.ramp)));
}

/** Whether the music runs at `t`. */
export function isPlayingAt(timeline, t) {
  return timeline.segments[segmentAt(timeline, t)].rate === 1;
}

/**
 * The first instant, not before `from`, at which the music reaches beat `b`; null if it never does.
 * Which segment a beat belongs to is decided by beats, so that rounding leaves no gap at a seam.
 */
export function timeOfBeat(timeline, b, from = -Infinity) {
  const { segments } = timeline;
  for (let i = 0; i < segments.length; i += 1) {
    const next = segments[i + 1];
    if (segments[i].rate !== 1) continue;
    if (i > 0 && b < segments[i].b0) continue;
    if (next && b >= beatInSegment(segments[i], next.t0)) continue;
    const t = timeInSegment(segments[i], b);
    if (t >= from) return t;
  }
  return null;
}

/** Every whole beat that sounds in [from, to), as `{ beat, t }`, in order; at most `limit` of them. */
export function beatsBetween(timeline, from, to, limit = 64) {
  const found = [];
  const { segments } = timeline;
  for (let i = 0; i < segments.length; i += 1) {
    const s = segments[i];
    const next = segments[i + 1];
    if (s.rate !== 1 || (i > 0 && s.t0 >= to) || (next && next.t0 < from)) continue;
    const first = beatInSegment(s, i === 0 ? from : Math.max(from, s.t0));
    // One beat early, for a beat whose time rounds up into the window.
    let k = Math.ceil(first / BEAT) - 1;
    if (i > 0) k = Math.max(k, Math.ceil(s.b0 / BEAT));
    const end = next ? beatInSegment(s, next.t0) : Infinity;
    for (; k * BEAT < end && found.length < limit; k += 1) {
      const beat = k * BEAT + 0; // no negative zero
      const t = timeInSegment(s, beat);
      if (t >= to) break;
      if (t >= from) found.push({ beat, t });
    }
  }
  return found;
}

/** The bar at beat `b`: `bar` counts from 0 over all meter entries, `inBar` is microbeats into it. */
export function barAt(timeline, b) {
  const meter = meterOf(timeline);
  const m = entryAt(meter, b);
  let before = 0;
  for (let k = 0; k < m; k += 1) {
    before += Math.ceil((meter[k + 1].beat - meter[k].beat) / (meter[k].num * BEAT));
  }
  const { beat, num, den } = meter[m];
  const bars = Math.floor((b - beat) / (num * BEAT));
  return { bar: before + bars, inBar: b - beat - bars * num * BEAT, num, den };
}

/** The first boundary at or after beat `b`: of a grid of `quantum` microbeats, or a meter entry. */
export function nextBoundary(timeline, b, quantum) {
  if (quantum === 0) return b;
  const meter = meterOf(timeline);
  const m = entryAt(meter, b);
  const next = meter[m].beat + quantum * Math.ceil((b - meter[m].beat) / quantum);
  return m + 1 < meter.length ? Math.min(next, meter[m + 1].beat) : next;
}

/** Whether a value from outside has the shape and the ranges that the functions above rely on. */
export function isTimeline(value) {
  if (!value || !isCount(value.epoch) || !isCount(value.version) || !Array.isArray(value.segments)) return false;
  const { segments } = value;
  if (segments.length < 1 || segments.length > 8 || !segments.every(isSegment)) return false;
  const meter = value.meter ?? [];
  return (
    segments.every((s, i) => i === 0 || segments[i - 1].t0 <= s.t0) &&
    Array.isArray(meter) &&
    meter.every((m, i) => isMeter(m) && (i === 0 || meter[i - 1].beat < m.beat))
  );
}

function beatInSegment(s, t) {
  if (s.rate !== 1) return s.b0;
  const tau = BigInt(t - s.t0);
  const v0 = BigInt(s.bpm0);
  const v1 = BigInt(s.bpm1);
  const R = BigInt(s.ramp);
  let beats;
  if (tau <= 0n) beats = round(v0 * tau, 60000n);
  else if (tau < R) beats = round(2n * v0 * R * tau + (v1 - v0) * tau * tau, 120000n * R);
  else beats = round((v0 + v1) * R + 2n * v1 * (tau - R), 120000n);
  return s.b0 + Number(beats);
}

function timeInSegment(s, b) {
  const n = BigInt(b - s.b0);
  const v0 = BigInt(s.bpm0);
  const v1 = BigInt(s.bpm1);
  const R = BigInt(s.ramp);
  const D = v1 - v0;
  const rampEnd = (v0 + v1) * R;
  let tau;
  if (n <= 0n) tau = round(60000n * n, v0);
  else if (120000n * n >= rampEnd) tau = R + round(120000n * n - rampEnd, 2n * v1);
  else if (D === 0n) tau = round(60000n * n, v0);
  else {
    const Q = 4n * (v0 * v0 * R * R + 120000n * D * R * n);
    const root = isqrt(Q);
    tau =
      D > 0n
        ? floorDiv(root - 2n * v0 * R + D, 2n * D)
        : floorDiv(2n * v0 * R - (root * root === Q ? root : root + 1n) - D, -2n * D);
  }
  return s.t0 + Number(tau);
}

function floorDiv(n, d) {
  const q = n / d;
  return n < 0n && q * d !== n ? q - 1n : q;
}

function round(n, d) {
  return floorDiv(2n * n + d, 2n * d);
}

/** Newton's method from above: the estimates fall until they reach the root. */
function isqrt(n) {
  if (n < 2n) return n;
  let r = 1n << BigInt((n.toString(2).length + 1) >> 1);
  for (;;) {
    const better = (r + n / r) >> 1n;
    if (better >= r) return r;
    r = better;
  }
}

function meterOf(timeline) {
  return timeline.meter?.length ? timeline.meter : COMMON_TIME;
}

function entryAt(meter, b) {
  let m = meter.length - 1;
  while (m > 0 && meter[m].beat > b) m -= 1;
  return m;
}

const isCount = (x) => Number.isSafeInteger(x) && x >= 0;

function isSegment(s) {
  return (
    Boolean(s) &&
    [s.t0, s.p0, s.b0, s.ramp, s.bpm0, s.bpm1].every(Number.isSafeInteger) &&
    (s.rate === 0 || s.rate === 1) &&
    s.ramp >= 0 &&
    s.bpm0 > 0 &&
    s.bpm1 > 0
  );
}

function isMeter(m) {
  return Boolean(m) && Number.isSafeInteger(m.beat) && isCount(m.num) && m.num > 0 && isCount(m.den) && m.den > 0;
}
