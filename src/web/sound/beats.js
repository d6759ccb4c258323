// Steady beats of this page's own, in the form of a band: they need no server. *Line up my sound* taps to them, and a
// page that has lost its server keeps time with them.

export class Beats extends EventTarget {
  timeline = null;
  clock = { now: () => performance.now(), quality: "tight", bound: 0 };
  /** Performance time of the first beat, in milliseconds. */
  first = Infinity;

  /**
   * Begins.
   * @param {number} first performance time in milliseconds
   * @param {{ bpm: number, num?: number, den?: number }} music
   */
  begin(first, { bpm, num = 4, den = 4 }) {
    // Whole microseconds and thousandths, as in every timeline.
    const t0 = Math.round(1000 * first);
    const speed = Math.round(1000 * bpm);
    this.first = t0 / 1000;
    const segment = { t0, p0: 0, b0: 0, rate: 1, bpm0: speed, bpm1: speed, ramp: 0 };
    this.#become({ epoch: 1, version: t0, segments: [segment], meter: [{ beat: 0, num, den }] });
  }

  end() {
    this.first = Infinity;
    this.#become(null);
  }

  #become(timeline) {
    this.timeline = timeline;
    this.dispatchEvent(new Event("change"));
  }
}
