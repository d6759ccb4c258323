// A device with a fake audio context: real time passes as the test says, and every sound that it would make is
// recorded.

import { Click } from "../../../src/web/sound/click.js";
import { Output } from "../../../src/web/sound/output.js";

const BLOCK_S = 0.01;

class FakeParam {
  value = 1;
  ramps = [];

  setValueAtTime() {}

  cancelScheduledValues() {}

  linearRampToValueAtTime(value, at) {
    this.value = value;
    this.ramps.push({ value, at });
  }
}

class FakeContext extends EventTarget {
  #device;
  state = "suspended";
  sampleRate = 48_000;
  baseLatency = BLOCK_S;
  outputLatency;
  destination = {};
  getOutputTimestamp;

  constructor(device) {
    super();
    this.#device = device;
    this.outputLatency = device.latencyMs / 1000;
    if (device.stamps !== "none") this.getOutputTimestamp = () => this.#stamp();
  }

  /** Exact audio time; `currentTime` advances by blocks. */
  get exact() {
    return this.#device.audioTime();
  }

  get currentTime() {
    return this.state === "running" ? BLOCK_S * Math.floor(this.exact / BLOCK_S) : 0;
  }

  #stamp() {
    const { ms, latencyMs, stamps } = this.#device;
    if (stamps === "wild") return { contextTime: this.exact * 1.5, performanceTime: ms };
    if (stamps === "far") return { contextTime: this.exact, performanceTime: ms + 5000 };
    return { contextTime: this.exact - latencyMs / 1000, performanceTime: ms };
  }

  resume() {
    if (this.#device.isDead) return new Promise(() => {});
    this.become("running");
    return Promise.resolve();
  }

  suspend() {
    this.become("suspended");
    return Promise.resolve();
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("statechange"));
  }

  createGain() {
    return { gain: new FakeParam(), connect() {}, disconnect() {} };
  }

  createBuffer(_, length) {
    const samples = new Float32Array(length);
    return { length, getChannelData: () => samples };
  }

  createBufferSource() {
    const device = this.#device;
    const sound = { at: null, isStopped: false, plannedAt: null };
    return {
      connect() {},
      disconnect() {},
      start: (at) => {
        Object.assign(sound, { at, plannedAt: this.currentTime });
        device.sounds.push(sound);
      },
      stop: () => {
        // A sound that has begun has been heard.
        if (sound.at > this.exact) sound.isStopped = true;
      },
    };
  }
}

export class Device {
  ms = 1_000_000;
  sounds = [];
  timers = [];
  view = { click: "on", volume: 0.8, sound: "tick", accent: 2, eighths: false, offsetMs: 0 };
  taps = new EventTarget();
  session = { type: "auto" };
  isHidden = false;

  /**
   * @param {{ latencyMs?: number, ppm?: number, stamps?: "good" | "none" | "wild" | "far", isDead?: boolean }} [options]
   *   delay of the output, rate of the audio clock, and whether resume() ever settles
   */
  constructor({ latencyMs = 30, ppm = 0, stamps = "good", isDead = false } = {}) {
    Object.assign(this, { latencyMs, ppm, stamps, isDead });
    const device = this;
    this.band = Object.assign(new EventTarget(), {
      timeline: null,
      offsetMs: 500_000,
      clock: { now: () => device.ms + device.band.offsetMs, quality: "tight", bound: 1 },
    });
    this.output = new Output({
      make: () => new FakeContext(this),
      now: () => this.ms,
      session: this.session,
      taps: this.taps,
      later: (run, ms) => this.timers.push({ at: this.ms + ms, run }),
    });
    this.click = new Click({
      band: this.band,
      output: this.output,
      view: () => this.view,
      now: () => this.ms,
      isHidden: () => this.isHidden,
      every: (run, every) => {
        const timer = { at: this.ms + every, run, every };
        this.timers.push(timer);
        return timer;
      },
      clear: (timer) => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    });
  }

  get context() {
    return this.output.context;
  }

  audioTime(ms = this.ms) {
    return ((ms - 1_000_000) / 1000) * (1 + this.ppm * 1e-6) + 0.25;
  }

  serverMs(ms = this.ms) {
    return ms + this.band.offsetMs;
  }

  setTimeline(timeline) {
    this.band.timeline = timeline;
    this.band.dispatchEvent(new Event("change"));
  }

  async start() {
    await this.click.start({ tapped: true });
    this.click.turn();
  }

  /** Lets time pass. `late()` says by how many ms each turn of a timer comes too late. */
  pass(ms, late = () => 0) {
    const end = this.ms + ms;
    for (;;) {
      const next = this.timers.reduce((a, b) => (a && a.at <= b.at ? a : b), null);
      if (!next || next.at > end) break;
      this.ms = Math.max(this.ms, next.at);
      if (next.every) next.at = this.ms + next.every + late();
      else this.timers = this.timers.filter((other) => other !== next);
      next.run();
    }
    this.ms = Math.max(this.ms, end);
  }

  /** Times on the server's clock, in ms, at which sounds were heard, in order. */
  heard() {
    const done = this.sounds.filter(({ at, isStopped }) => !isStopped && at <= this.audioTime());
    const real = ({ at }) => ((at - 0.25) * 1000) / (1 + this.ppm * 1e-6) + 1_000_000 + this.latencyMs;
    return done.map((sound) => this.serverMs(real(sound))).sort((a, b) => a - b);
  }

  /** Whether any sound was asked for at a time that was over. */
  get wasLate() {
    return this.sounds.some(({ at, plannedAt }) => at < plannedAt);
  }
}
