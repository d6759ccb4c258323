// Moves the song in time. The text hangs in a frame and is moved by a Web Animation that is computed from the timeline,
// so the browser moves it without the page; once a second the animation's start is corrected by the server's clock.
//
// A finger or a wheel scrolls the frame natively: at the first touch the animated offset is handed over to it, so nothing
// jumps. From then on the song is *detached* until the reader or the room returns it.

import { keyframes, linesBetween } from "./glide.js";

/** How far ahead keyframes reach, and how much of it is left when they are made again. Guessed. */
const AHEAD_US = 15e6;
const RENEW_US = 6e6;
const CORRECT_MS = 1000;
/** Error of the animation that is corrected, in milliseconds. */
const ERROR_MS = 0.3;
const JUMP_MS = 200;

export class Scroll {
  #stage;
  #frame;
  #shift;
  #sheet;
  #onChange;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  /** `{ targets, height, map }` of the present layout. */
  #place = null;
  #animation = null;
  /** The animation of a jump, over that of the music. */
  #easing = null;
  /** `{ t0, until }` of the animation, in microseconds. */
  #plan = null;
  #correctedAt = 0;
  /** The offset where nothing is animated. */
  #still = 0;
  #isHeld = false;
  #isDetached = false;

  /**
   * @param {object} stage
   * @param {{ frame: Element, shift: Element, sheet: Element }} elements the scroller, and the two elements inside it
   *   that are moved: for jumps and for the music
   * @param {function} onChange is called when the song was detached or returned
   */
  constructor(stage, { frame, shift, sheet }, onChange) {
    this.#stage = stage;
    this.#frame = frame;
    this.#shift = shift;
    this.#sheet = sheet;
    this.#onChange = onChange;
    this.#calm.addEventListener?.("change", () => this.renew());
  }

  /** `glide`, `line`, `page` or `off`. */
  mode = "glide";

  get isDetached() {
    return this.#isDetached;
  }

  /** Whether the browser scrolls, not the music. */
  get isNative() {
    return this.#isHeld || this.#isDetached || this.mode === "off";
  }

  /** The offset that is shown, in pixels. */
  get top() {
    if (this.isNative) return this.#frame.scrollTop;
    const eased = this.#easing ? shiftOf(this.#shift) : 0;
    return (this.#animation ? -shiftOf(this.#sheet) : this.#still) - eased;
  }

  /**
   * Takes a new layout.
   * @param {{ targets: number[], height: number, map: object | null } | null} place the offset that each line wants;
   *   the map is null if it is another song's than the one that plays
   * @param {number} [top] the offset to show if the music does not move the song
   * @param {{ eased?: boolean }} [options] whether the way there takes 200 ms
   */
  place(place, top, options) {
    this.#place = place;
    if (this.isNative && top !== undefined) this.#frame.scrollTop = top;
    this.renew(options);
  }

  /** Makes the animation again. `eased`: the way from where the text is takes 200 ms. */
  renew({ eased = false } = {}) {
    const from = eased ? this.top : 0;
    this.#stop();
    if (this.isNative || !this.#place) return;
    this.#frame.scrollTop = 0;
    const micros = this.#stage.band.serverMicros();
    const { timeline } = this.#stage.band;
    const now = this.#stage.now();
    const { targets, height, map } = this.#place;
    const still = (map ? targets[Math.max(0, now?.line ?? 0)] : 0) ?? 0;
    const isMoving = Boolean(timeline && micros !== null && now?.playing && map);
    const plan = isMoving ? linesBetween(timeline, map, micros, micros + AHEAD_US) : [];
    if (plan.length > 0) this.#animate(plan, micros);
    else this.#rest(still);
    if (eased) this.#ease(from);
  }

  /** Keeps the animation up with the timeline and the clock. Called in each frame. */
  follow(at = performance.now()) {
    if (this.isNative || !this.#place || at - this.#correctedAt < CORRECT_MS) return;
    this.#correctedAt = at;
    const micros = this.#stage.band.serverMicros();
    if (micros === null || !this.#plan) return;
    if (this.#plan.until - micros < RENEW_US) this.renew();
    else if (this.#animation) this.#correct(micros);
  }

  /** The timeline changed: to where the music is now. */
  turn() {
    if (!this.isNative) this.renew({ eased: true });
  }

  /** Hands the offset over to the browser's own scrolling, while a finger rests on the song. */
  hold() {
    if (this.isNative) return;
    const { top } = this;
    this.#isHeld = true;
    this.#native(top);
  }

  /** The finger has left the song, which did not move. */
  release() {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    if (!this.isNative) this.#return();
  }

  /** The reader scrolls. `by` pixels are added. */
  detach(by = 0) {
    if (this.mode === "off") return;
    if (!this.isNative) this.#native(this.top);
    this.#isHeld = false;
    if (by !== 0) this.#frame.scrollTop += by;
    if (this.#isDetached) return;
    this.#isDetached = true;
    this.#onChange();
  }

  /** Returns to where the music is. */
  attach() {
    if (!this.#isDetached && !this.#isHeld) return;
    this.#isHeld = false;
    this.#isDetached = false;
    this.#return();
    this.#onChange();
  }

  #return() {
    const from = this.#frame.scrollTop;
    this.renew();
    this.#ease(from);
  }

  #native(top) {
    this.#stop();
    this.#sheet.style.transform = "none";
    this.#frame.scrollTop = top;
  }

  #stop() {
    this.#animation?.cancel();
    this.#easing?.cancel();
    this.#animation = this.#easing = null;
    this.#plan = null;
    if (this.isNative) this.#sheet.style.transform = "none";
  }

  #rest(top) {
    const ratio = devicePixelRatio || 1;
    this.#still = Math.round(top * ratio) / ratio;
    this.#sheet.style.transform = `translateY(${-this.#still}px)`;
  }

  #animate(plan, micros) {
    const { targets, height, map } = this.#place;
    const { timeline } = this.#stage.band;
    const mode = this.mode === "line" ? "line" : "glide";
    const frames = keyframes(plan, targets, { timeline, map, height, mode, steps: this.#calm.matches });
    const t0 = frames[0].t;
    const length = frames.at(-1).t - t0;
    const ends = plan.at(-1).next < 0;
    this.#plan = { t0, until: ends ? Infinity : frames.at(-1).t };
    if (frames.every(({ y }) => y === frames[0].y)) {
      this.#rest(frames[0].y);
      return;
    }
    const steps = frames.map(({ t, y, easing }) => ({
      offset: Math.min(1, (t - t0) / length),
      transform: `translateY(${-y}px)`,
      easing,
    }));
    this.#animation = this.#sheet.animate(steps, { duration: length / 1000, fill: "both" });
    this.#correct(micros);
  }

  /** Sets the time at which the animation began, by the server's clock as it is known now. */
  #correct(micros) {
    const start = performance.now() - (micros - this.#plan.t0) / 1000;
    const { startTime } = this.#animation;
    if (startTime === null || Math.abs(startTime - start) > ERROR_MS) this.#animation.startTime = start;
  }

  /** Covers the way from another offset in 200 ms, or at once if it is over a screen. */
  #ease(from) {
    const way = this.top - from;
    const { height } = this.#place ?? { height: 0 };
    if (Math.abs(way) < 1 || Math.abs(way) > height || this.#calm.matches) return;
    const way0 = { transform: `translateY(${way}px)` };
    const easing = this.#shift.animate([way0, { transform: "none" }], { duration: JUMP_MS, easing: "ease-out" });
    easing.onfinish = () => {
      if (this.#easing === easing) this.#easing = null;
    };
    this.#easing = easing;
  }
}

/** How far an element is moved down by its transform. */
const shiftOf = (el) => new DOMMatrixReadOnly(getComputedStyle(el).transform).m42;
