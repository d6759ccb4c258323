// BandClock: what the server's clock reads now, and how far off that can be.
//
// A probe gives four stamps in milliseconds: the client sends at c0, the server receives at s1 and answers at s2, the
// client receives at c3. No leg takes less than no time, so offset = server - client lies between s2 - c3 and s1 - c0.
// The estimate is the middle of what all recent probes together allow, each carried to now along the measured skew
// of the two clocks; the bound is how far off that can be, whatever the skew is. What no probe can show is a constant
// difference between the legs: it is within the bound, and only there.

const RING = 64;
const PRIOR_SKEW = 50e-6;
const MAX_SKEW = 110e-6;
/** Stamps are rounded to 0.1 ms by browsers without isolation. */
const STAMP = 0.1;

const LOST_AFTER_MS = 10_000;
const TIGHT_MS = 5;
const GOOD_MS = 15;

const SLEW_FROM_MS = 0.5;
const SLEW_TO_MS = 0.05;
const STEP_FROM_MS = 30;
const SLEW_PER_MS = 0.005;
const SETTLED_SAMPLES = 20;

export class BandClock {
  #local;
  #mayStep;
  /** The samples since the last step of a clock, and the line through them. */
  #ring = [];
  #line = null;
  /** The difference that now() adds to the local clock at local time `at`. It follows the estimate without jumps. */
  #applied = null;
  #slewing = false;
  #last = -Infinity;

  /**
   * @param {object} [options]
   * @param {() => number} [options.now] local monotonic clock in milliseconds
   * @param {(missMs: number) => boolean} [options.mayStep] asked when now() is over 30 ms off: may it jump now?
   *   The default says yes; a player says yes between bars and when nothing sounds.
   */
  constructor({ now = () => performance.now(), mayStep = () => true } = {}) {
    this.#local = now;
    this.#mayStep = mayStep;
  }

  /**
   * Takes one answered probe; all four stamps in milliseconds.
   * @returns {boolean} true if it shows that a clock stepped or the route changed: worth another burst of probes
   */
  add(c0, s1, s2, c3) {
    if (![c0, s1, s2, c3].every(Number.isFinite) || c3 < c0 || s2 < s1) return false;
    this.#ring.push({ c0, c3, upper: s1 - c0, lower: s2 - c3, mid: (s1 - c0 + s2 - c3) / 2, rtt: c3 - c0 - (s2 - s1) });
    if (this.#ring.length > RING) this.#ring.shift();
    // Samples that a step made void stay void: with age their bounds get so wide that they would seem to agree again.
    const before = this.#ring.length;
    this.#ring = sinceStep(this.#ring, c3);
    this.#line = fit(this.#ring);
    return this.#ring.length < before;
  }

  /** Drops all samples: another server answers now, or the device slept. */
  reset() {
    this.#ring = [];
    this.#line = null;
  }

  /** Whether there is an estimate. */
  get ready() {
    return this.#line !== null;
  }

  /** Probes answered since the last reset or step, at most 64. */
  get samples() {
    return this.#ring.length;
  }

  /** Least round trip of the samples in use, in milliseconds; null without any. */
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
    // The line is a good guess and no more: where round trips scatter widely it may be far from the truth. What the
    // samples allow whatever the skew is sure.
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
 * The newest samples that agree with each other. What the samples allow can never be narrower than the path's own round
 * trip; where it is, walking back from the newest, a clock stepped or slept or the route changed, and what is older is void.
 * With 20 samples the round trip is known well enough to ask for three quarters of it; before, for more than nothing.
 */
function sinceStep(ring, at) {
  const least = ring.length >= SETTLED_SAMPLES ? Math.max(0.75 * leastRtt(ring) - 0.5, -0.3) : -0.3;
  let upper = Infinity;
  let lower = -Infinity;
  for (let i = ring.length - 1; i >= 0; i -= 1) {
    const slack = MAX_SKEW * (at - ring[i].c0);
    upper = Math.min(upper, ring[i].upper + slack);
    lower = Math.max(lower, ring[i].lower - slack);
    // The newest sample alone is never void, however odd its stamps.
    if (upper - lower < least && i < ring.length - 1) return ring.slice(i + 1);
  }
  return ring.slice();
}

/**
 * Weighted least squares of the midpoints over time. A sample's deviation grows with its round trip's excess over the
 * least; the slope has a prior of 0 +- 50 ppm, so that a short span cannot throw it.
 */
function fit(window) {
  const least = leastRtt(window);
  const weight = (s) => (STAMP / 2 + 0.02 * least + (s.rtt - least) / 2) ** -2;
  const when = (s) => (s.c0 + s.c3) / 2;
  // Centred on the first sample: raw stamps are large, and their squares would eat the precision.
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

/** What all samples allow at `at`, each carried there along `slope` and widened by `slack` per millisecond of age. */
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
