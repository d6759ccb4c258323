// The shared timeline: what the music does at a server time, and the server time of a beat.
//
// Times and positions are integer microseconds on the server's clock, beats are integer microbeats
// (1 beat = 1 000 000), tempos are integer milli-BPM. Every result is the exact value, rounded once with halves
// up, so that the server and every device compute the same microsecond for the same beat:
//
//   round(n, d) = floor((2n + d) / 2d)              tau = t - t0, R = ramp, D = bpm1 - bpm0
//
//   count      b0 + round(bpm0 tau, 60000)                                            tau <= 0
//              b0 + round(2 bpm0 R tau + D tau^2, 120000 R)                           0 < tau < R
//              b0 + round((bpm0 + bpm1) R + 2 bpm1 (tau - R), 120000)                 tau >= R
//   time       t0 + round(60000 n, bpm0)                                              n = count - b0 <= 0
//              t0 + R + round(120000 n - (bpm0 + bpm1) R, 2 bpm1)                     past the ramp
//              t0 + floor((isqrt(Q) - 2 bpm0 R + D) / 2D)                             speeding up
//              t0 + floor((2 bpm0 R - ceil(sqrt(Q)) - D) / -2D)                       slowing down
//              with Q = 4 (bpm0^2 R^2 + 120000 D R n)
//   position   p0 + rate tau; in a loop, p + time since the last wrap
//
// A loop does not take the count back: the song beat is the count folded into [from, to), and each fold is a pass. So
// the pass, and what is armed for a later one, need no state beside the timeline.
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

/** Count at `t`, in microbeats: the song beat as it would be without loops. */
export function countAt(timeline, t) {
  return countDuring(timeline, segmentAt(timeline, t), t);
}

/** Song beat at `t`, in microbeats: 0 is the first beat of bar 1. */
export function beatAt(timeline, t) {
  const i = segmentAt(timeline, t);
  return songBeat(timeline.segments[i], countDuring(timeline, i, t));
}

/** Position at `t`, in microseconds. Below zero during a count-in; each pass of a loop begins at its `p`. */
export function positionAt(timeline, t) {
  const i = segmentAt(timeline, t);
  const s = timeline.segments[i];
  const { loop } = s;
  if (s.rate !== 1 || !loop) return s.p0 + s.rate * (t - s.t0);
  const count = countDuring(timeline, i, t);
  if (count < nextWrap(loop, s.b0)) return s.p0 + t - s.t0;
  const wrap = count - mod(count - loop.from, loop.to - loop.from);
  return loop.p + Math.max(0, t - timeInSegment(s, wrap));
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
 * Everything that a page shows at `t`: `{ segment, count, beat, pass, position, tempo, playing, bar, inBar, num, den,
 * countIn }`. `pass` is 0 outside of a loop and counts from 1 in it. `bar` counts from 0; during a count-in it counts
 * back from the bar where the song starts: -1, -2, …
 */
export function placeAt(timeline, t) {
  const segment = segmentAt(timeline, t);
  const s = timeline.segments[segment];
  const count = countDuring(timeline, segment, t);
  const { loop } = s;
  const pass = loop && count >= loop.from ? 1 + Math.floor((count - loop.from) / (loop.to - loop.from)) : 0;
  return {
    segment,
    count,
    pass,
    position: positionAt(timeline, t),
    tempo: tempoAt(timeline, t),
    playing: s.rate === 1,
    ...placeOf(timeline, segment, count),
  };
}

/**
 * The first instant, not before `from`, at which the song reaches beat `b`; null if it never does.
 * Which segment a beat belongs to is decided by counts, so that rounding leaves no gap at a seam.
 */
export function timeOfBeat(timeline, b, from = -Infinity) {
  const { segments } = timeline;
  for (let i = 0; i < segments.length; i += 1) {
    const s = segments[i];
    const { loop } = s;
    if (s.rate !== 1 || (loop && b >= loop.to)) continue;
    const { low, high } = countsOf(timeline, i);
    const first = Math.max(low, s.start ?? -Infinity);
    const size = loop && b >= loop.from ? loop.to - loop.from : 0;
    let count = b;
    if (size > 0) {
      // To the first pass of this segment, then to the last one that may begin before `from`.
      if (count < first) count += size * Math.ceil((first - count) / size);
      if (timeInSegment(s, count) < from) {
        count += size * Math.max(0, Math.floor((countInSegment(s, from) - count) / size));
      }
    }
    for (; count >= first && count < high; count += size) {
      const t = timeInSegment(s, count);
      if (t >= from) return t;
      if (size === 0) break;
    }
  }
  return null;
}

/**
 * Every whole beat that sounds in [from, to), as `{ beat, t, bar, inBar, countIn }` with its song beat, in order; at
 * most `limit` of them.
 */
export function beatsBetween(timeline, from, to, limit = 64) {
  const found = [];
  const { segments } = timeline;
  for (let i = 0; i < segments.length; i += 1) {
    const s = segments[i];
    const next = segments[i + 1];
    if (s.rate !== 1 || (i > 0 && s.t0 >= to) || (next && next.t0 < from)) continue;
    const { low, high } = countsOf(timeline, i);
    const first = countInSegment(s, i === 0 ? from : Math.max(from, s.t0));
    // One beat early, for a beat whose time rounds up into the window.
    let k = Math.max(Math.ceil(first / BEAT) - 1, Math.ceil(low / BEAT));
    for (; k * BEAT < high && found.length < limit; k += 1) {
      const count = k * BEAT + 0; // no negative zero
      const t = timeInSegment(s, count);
      if (t >= to) break;
      if (t < from) continue;
      const { beat, bar, inBar, countIn } = placeOf(timeline, i, count);
      found.push({ beat, t, bar, inBar, countIn });
    }
  }
  return found;
}

/** The first instant after `t` at which a bar begins; null if none begins within the next 64 beats. */
export function nextBarAt(timeline, t) {
  return beatsBetween(timeline, t + 1, Infinity).find(({ inBar }) => inBar === 0)?.t ?? null;
}

/**
 * The bar at song beat `b`: `bar` counts from 0 over all meter entries, `inBar` is microbeats into it. The meter is
 * that of the segment with index `segment`.
 */
export function barAt(timeline, b, segment = 0) {
  const meter = meterOf(timeline, segment);
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
  const meter = meterOf(timeline, 0);
  const m = entryAt(meter, b);
  const next = meter[m].beat + quantum * Math.ceil((b - meter[m].beat) / quantum);
  return m + 1 < meter.length ? Math.min(next, meter[m + 1].beat) : next;
}

/** Whether a value from outside has the shape and the ranges that the functions above rely on. */
export function isTimeline(value) {
  if (!value || !isCount(value.epoch) || !isCount(value.version) || !Array.isArray(value.segments)) return false;
  const { segments } = value;
  if (segments.length < 1 || segments.length > 8 || !segments.every(isSegment)) return false;
  return segments.every((s, i) => i === 0 || segments[i - 1].t0 <= s.t0) && isMeter(value.meter ?? []);
}

/** Count at `t` in segment `i`. Until the next segment begins, it stays below that one's `cut`. */
function countDuring(timeline, i, t) {
  const cut = timeline.segments[i + 1]?.cut ?? Infinity;
  return Math.min(countInSegment(timeline.segments[i], t), cut - 1);
}

/** The counts that playing segment `i` covers, from `low` up to, but not including, `high`. */
function countsOf(timeline, i) {
  const { segments } = timeline;
  const next = segments[i + 1];
  const low = i === 0 ? -Infinity : segments[i].b0;
  return { low, high: next ? (next.cut ?? countInSegment(segments[i], next.t0)) : Infinity };
}

const isCountIn = (s, count) => s.rate === 1 && count < (s.start ?? -Infinity);

function songBeat(s, count) {
  const { loop } = s;
  if (!loop || count < loop.to || isCountIn(s, count)) return count;
  return loop.from + mod(count - loop.from, loop.to - loop.from);
}

/** The first count after `count` at which the loop begins again. */
function nextWrap({ from, to }, count) {
  return count < to ? to : count - mod(count - from, to - from) + to - from;
}

/** Song beat and bar of a count in segment `i`. */
function placeOf(timeline, i, count) {
  const s = timeline.segments[i];
  const beat = songBeat(s, count);
  if (!isCountIn(s, count)) return { beat, ...barAt(timeline, beat, i), countIn: false };
  const meter = meterOf(timeline, i);
  const { num, den } = meter[entryAt(meter, s.start)];
  const bar = Math.floor((count - s.start) / (num * BEAT));
  return { beat, bar, inBar: count - s.start - bar * num * BEAT, num, den, countIn: true };
}

/** Count at `t` as if the segment had no end. */
function countInSegment(s, t) {
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

/** Time of a count: the inverse of `countInSegment`, for a segment that plays. */
function timeInSegment(s, count) {
  const n = BigInt(count - s.b0);
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

/** Remainder of a division by a positive number, never negative. */
function mod(n, d) {
  const rest = n % d;
  return rest < 0 ? rest + d : rest + 0; // no negative zero
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

/** The meter of segment `i`: its own or that of the last segment before it that has one, else the timeline's. */
function meterOf(timeline, i) {
  for (let k = i; k >= 0; k -= 1) if (timeline.segments[k].meter) return timeline.segments[k].meter;
  return timeline.meter?.length ? timeline.meter : COMMON_TIME;
}

function entryAt(meter, b) {
  let m = meter.length - 1;
  while (m > 0 && meter[m].beat > b) m -= 1;
  return m;
}

const isInteger = Number.isSafeInteger;
const isCount = (x) => isInteger(x) && x >= 0;
/** Fields that a segment need not have may be missing or null. */
const isAbsentOr = (check, x) => x === undefined || x === null || check(x);

function isSegment(s) {
  return (
    Boolean(s) &&
    [s.t0, s.p0, s.b0, s.ramp, s.bpm0, s.bpm1].every(isInteger) &&
    (s.rate === 0 || s.rate === 1) &&
    s.ramp >= 0 &&
    s.bpm0 > 0 &&
    s.bpm1 > 0 &&
    isAbsentOr(isLoop, s.loop) &&
    isAbsentOr(isInteger, s.start) &&
    isAbsentOr(isInteger, s.cut) &&
    isAbsentOr((meter) => isMeter(meter) && meter.length > 0, s.meter)
  );
}

const isLoop = ({ from, to, p }) => [from, to, p].every(isInteger) && from < to;

function isMeter(meter) {
  return Array.isArray(meter) && meter.every((m, i) => isEntry(m) && (i === 0 || meter[i - 1].beat < m.beat));
}

function isEntry(m) {
  return Boolean(m) && isInteger(m.beat) && isCount(m.num) && m.num > 0 && isCount(m.den) && m.den > 0;
}
