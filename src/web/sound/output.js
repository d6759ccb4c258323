// The sound output of this device: its state, and a map from the performance clock to the audio clock.
//
// A sound that starts at `context.currentTime` is heard later, by a delay that only the browser knows.
// `getOutputTimestamp` names an audio time and the performance time at which it is heard, but some browsers answer
// nonsense (Safari 15.1 to 17) or jump about (Chromium). So each answer is checked, and the median of the last 16
// counts. Without good answers the map uses `currentTime` and the latency that the context claims.

/** Number of samples whose median is the map. Specified. */
const MEDIAN_OF = 16;
/** Maximum distance of a stamp's performance time from now. Specified. */
const STAMP_NEAR_MS = 1000;
/** Span over which the two clocks of the stamps must agree, and their tolerance. Specified. */
const CHECK_MS = 500;
const CHECK_WITHIN = 0.01;
/** Time after which good stamps that stopped coming no longer count. Guessed: some timer periods of a hidden page. */
const STAMPS_OLD_MS = 3000;
/** Time within which `resume()` must settle. Specified. */
const RESUME_MS = 1000;
/** Presses after which browsers allow sound. */
const TAPS = ["click", "touchend", "keydown"];

/** Maps the performance clock, in milliseconds, to the audio clock, in seconds. */
export class AudioMap {
  #context;
  #now;
  /** Stamps of the last seconds: `{ now, heard, context }` in milliseconds. */
  #stamps = [];
  /** Differences audio time minus performance time, in milliseconds: of checked stamps, and of `currentTime`. */
  #checked = [];
  #plain = [];
  #checkedAt = -Infinity;

  /** @param {AudioContext} context @param {() => number} now milliseconds of the performance clock */
  constructor(context, now) {
    this.#context = context;
    this.#now = now;
  }

  /** Whether the map relies on checked stamps. */
  get isChecked() {
    return this.#now() - this.#checkedAt < STAMPS_OLD_MS;
  }

  /** Takes a sample of both clocks. Call it at each turn of the scheduler. */
  sample() {
    const now = this.#now();
    const { currentTime, outputLatency, baseLatency } = this.#context;
    put(this.#plain, 1000 * (currentTime - (outputLatency || baseLatency || 0)) - now);
    const stamp = this.#context.getOutputTimestamp?.();
    const heard = stamp?.performanceTime;
    const context = 1000 * (stamp?.contextTime ?? NaN);
    if (!Number.isFinite(heard) || !Number.isFinite(context) || heard <= 0 || Math.abs(heard - now) >= STAMP_NEAR_MS)
      return;
    // The newest stamp that is old enough is the one to compare with; the older ones are no longer needed.
    while (this.#stamps.length > 1 && now - this.#stamps[1].now >= CHECK_MS) this.#stamps.shift();
    const [old] = this.#stamps;
    this.#stamps.push({ now, heard, context });
    const passed = old ? now - old.now : 0;
    if (passed < CHECK_MS) return;
    const agree = (a, b) => Math.abs(a - b) <= CHECK_WITHIN * passed;
    // The performance time of stamps advances in steps, by a buffer of the device.
    const advances = Math.abs(heard - old.heard - passed) < CHECK_MS / 10;
    if (!advances || !agree(context - old.context, heard - old.heard)) return;
    put(this.#checked, context - heard);
    this.#checkedAt = now;
  }

  /** Audio time, in seconds, of the sound that is heard at a performance time; null before the first sample. */
  at(ms) {
    const ring = this.isChecked ? this.#checked : this.#plain;
    return ring.length === 0 ? null : (ms + median(ring)) / 1000;
  }

  /** Performance time, in milliseconds, at which an audio time is heard. */
  heardAt(seconds) {
    const ring = this.isChecked ? this.#checked : this.#plain;
    return ring.length === 0 ? null : 1000 * seconds - median(ring);
  }

  /** Forgets all samples. Call it when the context was interrupted. */
  reset() {
    this.#stamps = [];
    this.#checked = [];
    this.#plain = [];
    this.#checkedAt = -Infinity;
  }
}

function put(ring, value) {
  ring.push(value);
  if (ring.length > MEDIAN_OF) ring.shift();
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * The audio context and its state, which is one of
 * - `off`: no sound is wanted
 * - `starting`: the context is being resumed
 * - `on`: it runs
 * - `tap`: the browser or a call has suspended it, and the next tap resumes it
 * - `none`: this device gives no sound. A tap tries again.
 *
 * The event `state` reports each change.
 */
export class Output extends EventTarget {
  #make;
  #now;
  #session;
  #taps;
  #later;
  #state = "off";
  /** Who wants sound. */
  #users = new Set();
  #tries = 0;
  #movedAt = 0;
  #moved = 0;

  /** The audio context; null before the first start. */
  context = null;
  /** The AudioMap of the context; null before the first start. */
  map = null;

  /**
   * @param {object} [options] parts of the browser, for tests
   * @param {() => AudioContext} [options.make]
   * @param {() => number} [options.now] milliseconds of the performance clock
   * @param {{ type: string } | null} [options.session] `navigator.audioSession`
   * @param {EventTarget | null} [options.taps] dispatches the events of presses
   * @param {(run: () => void, ms: number) => unknown} [options.later]
   */
  constructor({
    make = () => new (globalThis.AudioContext ?? globalThis.webkitAudioContext)({ latencyHint: "interactive" }),
    now = () => performance.now(),
    session = globalThis.navigator?.audioSession ?? null,
    taps = globalThis.document ?? null,
    later = (run, ms) => setTimeout(run, ms),
  } = {}) {
    super();
    this.#make = make;
    this.#now = now;
    this.#session = session;
    this.#taps = taps;
    this.#later = later;
  }

  get state() {
    return this.#state;
  }

  /** Whether sound is wanted, whatever the device does. */
  get isWanted() {
    return this.#users.size > 0;
  }

  /**
   * Begins. `tapped` says whether a press of the user is the cause: before one, browsers keep audio locked. The output
   * ends when every `user` has stopped it.
   */
  start({ tapped = false, user = this } = {}) {
    if (!this.isWanted) for (const type of TAPS) this.#taps?.addEventListener(type, this.#tapped, true);
    this.#users.add(user);
    this.#route("playback");
    if (!this.context) {
      try {
        this.context = this.#make();
      } catch {
        return this.#is("none");
      }
      this.map = new AudioMap(this.context, this.#now);
      this.context.addEventListener?.("statechange", () => this.#changed());
    }
    return this.#resume(tapped);
  }

  /** Ends, and lets other apps play again. */
  stop({ user = this } = {}) {
    if (!this.#users.delete(user) || this.isWanted) return;
    this.#tries += 1;
    for (const type of TAPS) this.#taps?.removeEventListener(type, this.#tapped, true);
    this.context?.suspend?.()?.catch?.(() => {});
    this.map?.reset();
    this.#route("auto");
    this.#is("off");
  }

  /** Samples the clocks, and checks that the audio clock moves. Call it at each turn of the scheduler. */
  sample() {
    if (!this.context || !this.isWanted || this.context.state !== "running") return;
    this.map.sample();
    const now = this.#now();
    if (this.context.currentTime !== this.#moved) {
      this.#moved = this.context.currentTime;
      this.#movedAt = now;
      if (this.#state !== "on") this.#is("on");
    } else if (this.#state === "on" && now - this.#movedAt > RESUME_MS) {
      this.map.reset();
      this.#is("none");
    }
  }

  async #resume(tapped) {
    this.#tries += 1;
    const mine = this.#tries;
    if (this.context.state === "running") return this.#running();
    if (this.#state !== "none") this.#is("starting");
    // A promise that never settles: headless Firefox, and any browser before the first tap.
    this.#later(() => {
      if (mine === this.#tries && this.isWanted && this.context.state !== "running") this.#is(tapped ? "none" : "tap");
    }, RESUME_MS);
    try {
      await this.context.resume();
    } catch {
      if (mine === this.#tries && this.isWanted) this.#is(tapped ? "none" : "tap");
      return undefined;
    }
    if (this.isWanted && this.context.state === "running") this.#running();
    return undefined;
  }

  #running() {
    this.#movedAt = this.#now();
    this.#moved = this.context.currentTime;
    this.#is("on");
  }

  #changed() {
    if (!this.isWanted) return;
    const { state } = this.context;
    if (state === "running") {
      this.#running();
    } else if (this.#state === "on") {
      // A call, or headphones that were pulled.
      this.map.reset();
      this.#is("tap");
    }
  }

  #tapped = () => {
    if (this.#state !== "on") this.start({ tapped: true, user: this.#users.values().next().value });
  };

  /** On an iPhone `playback` sounds in spite of the silent switch, and stops other apps' music. */
  #route(type) {
    if (!this.#session) return;
    try {
      this.#session.type = type;
    } catch {
      // An older draft of the interface.
    }
  }

  #is(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new Event("state"));
  }
}
