// The click: beats of the timeline, scheduled on the audio clock.
//
// Timers are late and messages are later, so neither makes a sound. Each turn of a 25 ms timer lists the clicks that
// the timeline has within the next 150 ms and compares them with those that are scheduled. New ones are scheduled,
// those that the timeline no longer has are cancelled, and one that can't be in time any more is dropped: no click is
// ever late. So a jump, a pause or a new tempo needs no code of its own, and an armed one is right to the sample.

import { feltIn } from "../chart/map.js";
import { BEAT, barAt, beatsBetween, segmentAt } from "../timeline.js";
import { samplesOf } from "./sounds.js";

/** Period of the timer, and how far ahead of now sounds are scheduled. Specified. */
const TURN_MS = 25;
const HORIZON_MS = 150;
/** A hidden page gets its timer once a second. */
const HIDDEN_HORIZON_MS = 1500;
/** Clicks are listed from this long before now, so that one that sounds at this moment is not taken for a stranger. */
const PAST_MS = 60;
/** Least time to schedule a sound: a few blocks of 128 samples, and at least a buffer of the device. Guessed. */
const LEAD_S = 0.005;
/** A scheduled sound is moved if the clock now says otherwise by more than this. */
const MOVE_S = 0.002;
/** Two clicks that are nearer are one that was moved: only one of them sounds. The shortest half beat has 75 ms. */
const APART_S = 0.05;
/** A lost clock with a larger bound silences the click. Specified. */
const BOUND_MS = 50;
const FADE_S = 1.5;
/** Time for which played clicks are remembered, in microseconds of the server's clock. */
const REMEMBERED_US = 3_000_000;

/** Loudness and pitch by accent, for the first beat of a bar; and loudness of the other beats and of half beats. */
const ACCENTS = [
  { bar: { gain: 0.7, pitch: 1 }, beat: 0.7, half: 0.35 },
  { bar: { gain: 0.85, pitch: 1 }, beat: 0.65, half: 0.35 },
  { bar: { gain: 1, pitch: 1.5 }, beat: 0.65, half: 0.35 },
  { bar: { gain: 1, pitch: 2 }, beat: 0.45, half: 0.22 },
];


/**
 * Lists the clicks of a timeline in [from, to), in microseconds of the server's clock, as `{ t, level, countIn }`.
 * `level` is `bar` for the first beat of a bar, `beat`, or `half`. In compound metres a beat is a dotted quarter, and
 * its eighths are the halves.
 * @param {object} timeline
 * @param {{ eighths?: boolean, countInOnly?: boolean, felt?: 1 | 3 | null }} [options] `felt` is that of the chart
 */
export function clicksBetween(timeline, from, to, { eighths = false, countInOnly = false, felt = null } = {}) {
  const clicks = [];
  for (const { beat, t, inBar, countIn } of beatsBetween(timeline, from, to)) {
    const segment = segmentAt(timeline, t);
    const { num, den } = barAt(timeline, countIn ? timeline.segments[segment].start : beat, segment);
    const place = Math.floor(inBar / BEAT);
    const group = feltIn({ num, den }, felt);
    const level = place === 0 ? "bar" : place % group === 0 ? "beat" : "half";
    if ((level !== "half" || eighths) && (countIn || !countInOnly)) clicks.push({ t, level, countIn });
  }
  return eighths ? withHalves(timeline, from, to, clicks, countInOnly) : clicks;
}

/** Adds half beats where a beat is a quarter or longer. */
function withHalves(timeline, from, to, clicks, countInOnly) {
  const doubled = doubledTimeline(timeline);
  for (const { beat, t, inBar, countIn } of beatsBetween(doubled, from, to)) {
    const isHalf = Math.floor(inBar / BEAT) % 2 === 1;
    const segment = segmentAt(timeline, t);
    const { den } = barAt(timeline, countIn ? timeline.segments[segment].start : beat / 2, segment);
    // A beat where a segment begins may be listed by the rounding of the doubled count as well.
    const isKnown = clicks.some((click) => Math.abs(click.t - t) < 1000);
    if (isHalf && den < 8 && (countIn || !countInOnly) && !isKnown) clicks.push({ t, level: "half", countIn });
  }
  return clicks.sort((a, b) => a.t - b.t);
}

/** The timeline in which each half beat is a beat. All formulas are linear in beats, so times are exact. */
function doubledTimeline({ segments, meter, ...rest }) {
  const twice = (value) => (Number.isFinite(value) ? 2 * value : value);
  const bars = (entries) => entries?.map(({ beat, num, den }) => ({ beat: 2 * beat, num: 2 * num, den }));
  return {
    ...rest,
    meter: bars(meter?.length ? meter : [{ beat: 0, num: 4, den: 4 }]),
    segments: segments.map((s) => ({
      ...s,
      b0: 2 * s.b0,
      bpm0: 2 * s.bpm0,
      bpm1: 2 * s.bpm1,
      start: twice(s.start),
      cut: twice(s.cut),
      loop: s.loop && { ...s.loop, from: 2 * s.loop.from, to: 2 * s.loop.to },
      meter: bars(s.meter),
    })),
  };
}

/**
 * Schedules the clicks of a band on an Output.
 *
 * Events: `state` when `state` or `isSilenced` changes; `click` for each sound that is scheduled, with `{ t, level, at,
 * heardAt }`: time in microseconds of the server's clock, audio time in seconds, performance time in milliseconds.
 */
export class Click extends EventTarget {
  #band;
  #output;
  #view;
  #felt;
  #now;
  #isHidden;
  #every;
  #clear;
  #timer = null;
  #volume = null;
  /** Node that fades everything out when the clock is lost. */
  #fader = null;
  /** Scheduled sounds by their time in the timeline: `{ at, stamp, source }`. */
  #planned = new Map();
  /** Times of clicks that have sounded or were dropped. */
  #done = new Set();
  #soundedAt = -Infinity;
  #buffers = new Map();
  #silenced = false;
  #heard = () => this.turn();

  /** Whether nothing is scheduled for the moment, because something else sounds. */
  isHeld = false;
  /** Clicks that were dropped, because they could not be in time. */
  dropped = 0;

  /**
   * @param {object} options
   * @param {{ timeline: object | null, clock: object } & EventTarget} options.band
   * @param {import("./output.js").Output} options.output
   * @param {() => 1 | 3 | null} [options.felt] what the song's chart says of the beats that are felt
   * @param {() => { click: string, volume: number, sound: string, accent: number, eighths: boolean, offsetMs: number }} options.view
   */
  constructor({
    band,
    output,
    view,
    felt = () => null,
    now = () => performance.now(),
    isHidden = () => globalThis.document?.hidden ?? false,
    every = (run, ms) => setInterval(run, ms),
    clear = (timer) => clearInterval(timer),
  }) {
    super();
    this.#band = band;
    this.#output = output;
    this.#view = view;
    this.#felt = felt;
    this.#now = now;
    this.#isHidden = isHidden;
    this.#every = every;
    this.#clear = clear;
    output.addEventListener("state", () => {
      if (output.state !== "on") this.#cancelAll();
      this.#report();
    });
  }

  get isOn() {
    return this.#timer !== null;
  }

  /** Whether the click is silent because the clock is lost. */
  get isSilenced() {
    return this.#silenced;
  }

  /** The most that the place of a click may be wrong, in milliseconds. */
  get boundMs() {
    return this.#band.clock.bound;
  }

  /** Begins. Call it from a press, with `tapped`: until then browsers keep audio locked. */
  start({ tapped = false } = {}) {
    const started = this.#output.start({ tapped, user: this });
    if (this.#timer === null) {
      this.#timer = this.#every(() => this.turn(), TURN_MS);
      this.#band.addEventListener("change", this.#heard);
    }
    this.turn();
    this.#report();
    return started;
  }

  stop() {
    if (this.#timer === null) return;
    this.#clear(this.#timer);
    this.#timer = null;
    this.#band.removeEventListener("change", this.#heard);
    this.#cancelAll();
    this.#output.stop({ user: this });
    this.#silenced = false;
    this.#report();
  }

  /** Brings what is scheduled up to date with the timeline. The timer calls it, and every change of the timeline. */
  turn() {
    if (this.#timer === null) return;
    this.#output.sample();
    const server = this.#band.clock.now();
    const { timeline } = this.#band;
    this.#guard();
    if (this.#output.state !== "on" || !timeline || server === null || this.isHeld) return this.#cancelAll();
    const { click, volume, eighths, offsetMs = 0 } = this.#view();
    this.#ready(volume);
    // A device that is late gets its sounds earlier by its offset, so clicks are looked for further ahead.
    const now = this.#now();
    const heard = server + offsetMs;
    const from = Math.ceil((heard - PAST_MS) * 1000);
    const until = Math.ceil((heard + (this.#isHidden() ? HIDDEN_HORIZON_MS : HORIZON_MS)) * 1000);
    const options = { eighths, countInOnly: click === "count-in", felt: this.#felt() };
    const all = click === "off" ? [] : clicksBetween(timeline, from, until, options);
    // A timeline does not know what was before its first segment: beats there belong to the one before it, and what is
    // scheduled of them stays.
    const begins = timeline.segments[0].t0;
    const wanted = all.filter(({ t }, i) => t >= begins && !(all[i + 1]?.t - t < APART_S * 1e6));
    const times = new Set(wanted.map(({ t }) => t));
    const { currentTime, baseLatency = 0 } = this.#output.context;
    const soonest = currentTime + Math.max(LEAD_S, baseLatency);
    for (const [t, plan] of this.#planned) {
      if (plan.at <= currentTime) this.#sounded(t, plan);
      else if (!times.has(t) && (t >= begins || click === "off")) this.#cancel(t, plan);
    }
    for (const each of wanted) {
      const ms = now + each.t / 1000 - heard;
      this.#place(each, ms, this.#output.map.at(ms), soonest);
    }
    for (const t of this.#done) if (t < from - REMEMBERED_US) this.#done.delete(t);
    return undefined;
  }

  #place(click, ms, at, soonest) {
    const { t, level } = click;
    if (this.#done.has(t)) return;
    const stamp = this.#stamp(level);
    const plan = this.#planned.get(t);
    if (plan) {
      const isRight = Math.abs(plan.at - at) <= MOVE_S && plan.stamp === stamp;
      if (isRight || plan.at < soonest) return;
      this.#cancel(t, plan);
    }
    if (at < soonest || at - this.#soundedAt < APART_S) {
      this.#done.add(t);
      if (!this.#silenced) this.dropped += 1;
      return;
    }
    this.#planned.set(t, { at, stamp, source: this.#schedule(level, at) });
    this.dispatchEvent(Object.assign(new Event("click"), { detail: { ...click, at, heardAt: ms } }));
  }

  /** Everything that decides how a click sounds. */
  #stamp(level) {
    const { sound, accent } = this.#view();
    return `${sound} ${accent} ${level}`;
  }

  #schedule(level, at) {
    const { sound, accent } = this.#view();
    const { context } = this.#output;
    const { bar, [level]: plain } = ACCENTS[accent] ?? ACCENTS[2];
    const { gain, pitch } = level === "bar" ? bar : { gain: plain, pitch: 1 };
    const source = context.createBufferSource();
    source.buffer = this.#buffer(sound, pitch);
    const loudness = context.createGain();
    loudness.gain.value = gain;
    source.connect(loudness);
    loudness.connect(this.#volume);
    source.start(at);
    return source;
  }

  #buffer(sound, pitch) {
    const { context } = this.#output;
    const key = `${sound} ${pitch}`;
    if (!this.#buffers.has(key)) {
      const samples = samplesOf(sound, context.sampleRate, pitch);
      const buffer = context.createBuffer(1, samples.length, context.sampleRate);
      buffer.getChannelData(0).set(samples);
      this.#buffers.set(key, buffer);
    }
    return this.#buffers.get(key);
  }

  /** Makes the nodes that all sounds pass through, and sets the volume, which is heard by its square. */
  #ready(volume) {
    const { context } = this.#output;
    if (!this.#volume) {
      this.#volume = context.createGain();
      this.#fader = context.createGain();
      this.#volume.connect(this.#fader);
      this.#fader.connect(context.destination);
      this.#volume.gain.value = volume ** 2;
      this.#fader.gain.value = this.#silenced ? 0 : 1;
    } else if (this.#volume.gain.value !== Math.fround(volume ** 2)) {
      this.#volume.gain.value = volume ** 2;
    }
  }

  /** Fades out while the clock is lost and may be too far off, and in again. */
  #guard() {
    const { quality, bound } = this.#band.clock;
    const isLost = quality === "lost" && bound > BOUND_MS && this.#band.timeline !== null;
    if (isLost === this.#silenced) return;
    this.#silenced = isLost;
    if (this.#fader) {
      const { gain } = this.#fader;
      const at = this.#output.context.currentTime;
      gain.cancelScheduledValues(at);
      gain.setValueAtTime(gain.value, at);
      gain.linearRampToValueAtTime(isLost ? 0 : 1, at + FADE_S);
    }
    this.#report();
  }

  #sounded(t, { at }) {
    this.#planned.delete(t);
    this.#done.add(t);
    this.#soundedAt = Math.max(this.#soundedAt, at);
  }

  #cancel(t, { source }) {
    this.#planned.delete(t);
    source.stop();
    source.disconnect();
  }

  #cancelAll() {
    const currentTime = this.#output.context?.currentTime ?? 0;
    for (const [t, plan] of this.#planned) {
      if (plan.at <= currentTime) this.#sounded(t, plan);
      else this.#cancel(t, plan);
    }
  }

  #report() {
    this.dispatchEvent(new Event("state"));
  }
}
