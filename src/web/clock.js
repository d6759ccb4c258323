// BandClock: an estimate of the server's clock, with a bound on its error.
//
// A probe gives four timestamps in milliseconds: the client sends at c0, the server receives at s1 and answers at s2, and
// the client receives at c3. Neither direction takes negative time, so offset = server - client is between s2 - c3 and
// s1 - c0. The estimate is the middle of the interval that all recent probes allow, each extrapolated to now by the
// measured skew of the two clocks. The bound is the maximum error for any skew. No probe can show a constant difference
// between the two directions; such an error is within the bound.

const RING = 64;
const PRIOR_SKEW = 50e-6;
const MAX_SKEW = 110e-6;
/** Rounds of the search for a skew that agrees. The width is then exact to a thousandth of a millisecond. */
const SKEW_ROUNDS = 30;
/** Smallest width of what samples allow, in ms: below zero because timestamps are rounded. */
const LEAST_WIDTH = -0.3;
/** Rounding of timestamps in ms, by browsers without cross-origin isolation. */
const STAMP = 0.1;

const LOST_AFTER_MS = 10_000;
const TIGHT_MS = 5;
const GOOD_MS = 15;

/** Smallest error that is slewed. With 0.5 ms the shown clock was 0.24 ms worse at p99 than its estimate. */
const SLEW_FROM_MS = 0.15;
const SLEW_TO_MS = 0.05;
/** Smallest error that is stepped. Slewing it would take three seconds. */
const STEP_FROM_MS = 15;
const SLEW_PER_MS = 0.005;
const SETTLED_SAMPLES = 20;

export class BandClock {
  #local;
  #mayStep;
  /** The samples since a clock has stepped or the route has changed, and the line through them. */
  #ring = [];
  #line = null;
  /** The samples since a clock has certainly stepped, without those that say nothing more. They only show steps. */
  #witnesses = [];
  /** The difference that now() adds to the local clock at local time `at`. It follows the estimate without jumps. */
  #applied = null;
  #slewing = false;
  #last = -Infinity;

  /**
   * @param {object} [options]
   * @param {() => number} [options.now] local monotonic clock in milliseconds
   * @param {(missMs: number) => boolean} [options.mayStep] whether now() may jump, called if it is over 15 ms off.
   *   By default it may; a player allows it between bars and in silence.
   */
  constructor({ now = () => performance.now(), mayStep = () => true } = {}) {
    this.#local = now;
    this.#mayStep = mayStep;
  }

  /**
   * Adds an answered probe. All four timestamps are in milliseconds.
   * @returns {boolean} true if a clock has stepped or the route has changed, so that another burst of probes is useful
   */
  add(c0, s1, s2, c3) {
    if (![c0, s1, s2, c3].every(Number.isFinite) || c3 < c0 || s2 < s1) return false;
    const sample = { c0, c3, upper: s1 - c0, lower: s2 - c3, mid: (s1 - c0 + s2 - c3) / 2, rtt: c3 - c0 - (s2 - s1) };
    this.#ring.push(sample);
    if (this.#ring.length > RING) this.#ring.shift();
    const before = this.#ring.length;
    this.#witnesses.push(sample);
    if (agree(this.#witnesses, c3)) {
      this.#witnesses = useful(this.#witnesses).slice(-RING);
      // These samples are removed for good: with age their intervals get so wide that they would fit again.
      this.#ring = sinceRouteChange(this.#ring, c3);
    } else {
      // Only the newest is surely from after the step: a slow one from before may agree with it, and be wrong.
      this.#witnesses = [sample];
      this.#ring = [sample];
    }
    this.#line = fit(this.#ring);
    return this.#ring.length < before;
  }

  /** Drops all samples. Call it if another server answers, or if the device has slept. */
  reset() {
    this.#ring = [];
    this.#line = null;
    this.#witnesses = [];
  }

  /** Whether there is an estimate. */
  get ready() {
    return this.#line !== null;
  }

  /** Probes answered since the last reset or step, at most 64. */
  get samples() {
    return this.#ring.length;
  }

  /** Minimum round trip of the samples in use, in milliseconds; null without samples. */
  get roundTrip() {
    return this.ready ? leastRtt(this.#ring) : null;
  }

  /**
   * `{ offset, bound }` at a local time, in milliseconds: server time = local time + offset, and the true offset is
   * within `bound` of it. Null without an answer.
   */
  estimate(at = this.#local()) {
    if (!this.ready) return null;
    const { slope, slopeSd } = this.#line;
    const likely = intersect(this.#ring, at, slope, slopeSd);
    const offset = likely.lower <= likely.upper ? (likely.lower + likely.upper) / 2 : along(this.#line, at);
    // The line is only likely: if round trips vary widely, it may be far from the truth. The interval that the samples
    // allow for any skew is certain.
    const { lower, upper } = intersect(this.#ring, at, 0, MAX_SKEW);
    return { offset, bound: Math.max(upper - offset, offset - lower, 0) + STAMP };
  }

  get offset() {
    return this.estimate()?.offset ?? null;
  }

  /** Maximum error of now(), in milliseconds, including what it has yet to slew; Infinity without an answer. */
  get bound() {
    const at = this.#local();
    const best = this.estimate(at);
    if (!best) return Infinity;
    return best.bound + (this.#applied ? Math.abs(best.offset - this.#appliedAt(at)) : 0);
  }

  /** `tight` (at most 5 ms), `good` (at most 15), `loose` (more), `lost` (no answer for 10 s). */
  get quality() {
    const newest = this.#ring.at(-1);
    if (!newest || this.#local() - newest.c3 > LOST_AFTER_MS) return "lost";
    const { bound } = this;
    if (bound <= TIGHT_MS) return "tight";
    return bound <= GOOD_MS ? "good" : "loose";
  }

  /**
   * The server's clock in milliseconds, for playing and drawing. It moves to a better estimate by at most 5 ms a
   * second and does not run backwards, except where it may step. Null before the first answer, and after a reset
   * until the next.
   */
  now() {
    const at = this.#local();
    const best = this.estimate(at);
    if (!best) return this.#applied ? Math.max(this.#last, at + this.#appliedAt(at)) : null;

    const elapsed = this.#applied ? at - this.#applied.at : 0;
    let offset = this.#applied ? this.#appliedAt(at) : best.offset;
    const miss = best.offset - offset;
    const far = Math.abs(miss) > STEP_FROM_MS;
    if (far && this.#mayStep(miss)) {
      offset = best.offset;
      this.#last = -Infinity;
    } else if (!far && this.samples < SETTLED_SAMPLES) {
      offset = best.offset;
    } else if (!far) {
      this.#slewing = Math.abs(miss) > (this.#slewing ? SLEW_TO_MS : SLEW_FROM_MS);
      if (this.#slewing) offset += Math.sign(miss) * Math.min(Math.abs(miss), SLEW_PER_MS * elapsed);
    }
    this.#applied = { at, offset, slope: this.#line.slope };
    this.#last = Math.max(this.#last, at + offset);
    return this.#last;
  }

  #appliedAt(at) {
    const { offset, slope } = this.#applied;
    return offset + slope * (at - this.#applied.at);
  }
}

/**
 * Times of probes, in local milliseconds: 20 at 50 ms at the start, 8 more after 1, 2, 5, 10 and 20 s, and one every
 * 2.5 s.
 * The client starts every probe, because a phone that has just sent is awake.
 */
export class ProbePlan {
  #bursts = [];
  #steady = Infinity;

  start(at) {
    this.#bursts = [];
    this.#steady = at + 2500;
    this.burst(at, 20);
    for (const after of [1000, 2000, 5000, 10_000, 20_000]) this.burst(at + after);
  }

  /** A few probes in a row: on resume, on a network change, after a step. */
  burst(at, count = 8) {
    for (let i = 0; i < count; i += 1) this.#bursts.push(at + 50 * i);
    this.#bursts.sort((a, b) => a - b);
  }

  stop() {
    this.#bursts = [];
    this.#steady = Infinity;
  }

  /** Local time of the next probe; Infinity when stopped. */
  get next() {
    return Math.min(this.#bursts[0] ?? Infinity, this.#steady);
  }

  /** Whether a probe is due at `at`. All missed ones count as one. */
  take(at) {
    if (this.next > at) return false;
    this.#bursts = this.#bursts.filter((t) => t > at);
    while (this.#steady <= at) this.#steady += 2500 * Math.ceil((at - this.#steady + 1) / 2500);
    return true;
  }
}

/**
 * The newest samples that are from one route. The interval that samples allow can hardly be narrower than the minimum
 * round trip. If an older sample makes it narrower, the route may have changed, so this sample and all older ones are
 * dropped. From 20 samples on, the round trip is known well enough to require three quarters of it.
 *
 * This is likely, not certain. So the dropped samples still testify to a step that the kept ones would hide.
 */
function sinceRouteChange(ring, at) {
  const least = ring.length >= SETTLED_SAMPLES ? Math.max(0.75 * leastRtt(ring) - 0.5, LEAST_WIDTH) : LEAST_WIDTH;
  let upper = Infinity;
  let lower = -Infinity;
  for (let i = ring.length - 1; i >= 0; i -= 1) {
    const slack = MAX_SKEW * (at - ring[i].c0);
    upper = Math.min(upper, ring[i].upper + slack);
    lower = Math.max(lower, ring[i].lower - slack);
    // The newest sample alone is always kept, whatever its timestamps are.
    if (upper - lower < least && i < ring.length - 1) return ring.slice(i + 1);
  }
  return ring.slice();
}

/** Drops the samples in both of whose directions others limit the offset more, whatever the skew is. */
function useful(samples) {
  return samples.filter(
    (s) =>
      samples.every((t) => s.upper - t.upper <= MAX_SKEW * Math.abs(s.c0 - t.c0)) ||
      samples.every((t) => t.lower - s.lower <= MAX_SKEW * Math.abs(s.c3 - t.c3)),
  );
}

/** Whether some skew and offset agree with all samples. If not, a clock has stepped. */
function agree(ring, at) {
  const width = (skew) => {
    const { lower, upper } = intersect(ring, at, skew, 0);
    return upper - lower;
  };
  // The width is a concave function of the skew: of the two outer thirds, the worse one cannot hold its maximum.
  let [from, to] = [-MAX_SKEW, MAX_SKEW];
  for (let i = 0; i < SKEW_ROUNDS; i += 1) {
    const third = (to - from) / 3;
    const [low, high] = [width(from + third), width(to - third)];
    if (Math.max(low, high) >= LEAST_WIDTH) return true;
    if (low < high) from += third;
    else to -= third;
  }
  return ring.length === 1;
}

/**
 * Fits a line through the midpoints over time, by weighted least squares. The deviation of a sample grows with the excess
 * of its round trip over the minimum. The slope has a prior of 0 ± 50 ppm, so that a short span cannot distort it.
 */
function fit(window) {
  const least = leastRtt(window);
  const weight = (s) => (STAMP / 2 + 0.02 * least + (s.rtt - least) / 2) ** -2;
  const when = (s) => (s.c0 + s.c3) / 2;
  // Relative to the first sample: timestamps are large, and their squares would lose precision.
  const t0 = when(window[0]);
  const m0 = window[0].mid;
  let sum = 0;
  let t = 0;
  let m = 0;
  for (const s of window) {
    const w = weight(s);
    sum += w;
    t += w * (when(s) - t0);
    m += w * (s.mid - m0);
  }
  t /= sum;
  m /= sum;
  let tt = 0;
  let tm = 0;
  for (const s of window) {
    const w = weight(s);
    const dt = when(s) - t0 - t;
    tt += w * dt * dt;
    tm += w * dt * (s.mid - m0 - m);
  }
  const precision = tt + PRIOR_SKEW ** -2;
  return { when: t0 + t, mid: m0 + m, slope: tm / precision, slopeSd: precision ** -0.5 };
}

function along(line, at) {
  return line.mid + line.slope * (at - line.when);
}

/** Intersects the intervals of all samples at `at`, extrapolated by `slope` and widened by `slack` per ms of age. */
function intersect(window, at, slope, slack) {
  let upper = Infinity;
  let lower = -Infinity;
  for (const s of window) {
    upper = Math.min(upper, s.upper + (slope + slack) * (at - s.c0));
    lower = Math.max(lower, s.lower + (slope - slack) * (at - s.c3));
  }
  return { lower, upper };
}

function leastRtt(samples) {
  return samples.reduce((least, s) => Math.min(least, s.rtt), Infinity);
}
