// One screen of the gig. All browsers are driven through this interface, so that a step is written once.
import { PATIENCE_MS } from "../wait.js";
import { installProbe } from "./probe.js";

const POLL_MS = 25;
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * What a driver has to give: `open(url)`, `reload()`, `eval(fn, arg)`, `press(key)`, `click(selector, options)`,
 * `type(text)`, `resize(size)`, `close()`; `complaints` and `foreign`, two lists of texts.
 */
export class Screen {
  /** Errors that the page logged. */
  complaints = [];
  /** Addresses outside of the server that the page requested. */
  foreign = [];
  /** The text in `key`, by song. */
  keys = {};
  view = "member";

  constructor(name) {
    this.name = name;
  }

  /** Waits until `check(arg)` is true in the page. */
  async until(check, arg, ms = PATIENCE_MS) {
    const end = performance.now() + ms;
    for (;;) {
      let last;
      try {
        last = await this.eval(check, arg);
      } catch (error) {
        // A page that reloads has no context for a moment.
        last = error.message;
      }
      if (last === true) return;
      if (performance.now() > end) throw new Error(`${this.name}: not within ${ms} ms: ${check} with ${JSON.stringify(arg)}; last: ${last}`);
      await pause(POLL_MS);
    }
  }

  /** Waits until an element with this test id is shown, and contains `text` if one is given. */
  shows(id, contained = "") {
    return this.until(([wanted, words]) => {
      const els = [...document.querySelectorAll(`[data-testid="${wanted}"]`)];
      const shown = els.filter((el) => el.getClientRects().length > 0 && getComputedStyle(el).visibility !== "hidden");
      return shown.some((el) => el.textContent.includes(words));
    }, [id, contained]);
  }

  hides(id) {
    return this.until((wanted) => [...document.querySelectorAll(`[data-testid="${wanted}"]`)].every((el) => el.getClientRects().length === 0), id);
  }

  /** Presses an element with a test id. */
  tap(id, options) {
    return this.click(`[data-testid="${id}"]`, options);
  }

  /** Waits until nothing slides or fades any more. */
  rests() {
    return this.until(() => document.getAnimations().every((one) =>
      one.playState !== "running" || one.effect.getComputedTiming().endTime === Infinity
      || !(one instanceof CSSAnimation || one instanceof CSSTransition)));
  }

  /** Writes into a field with a test id, as if it was pasted. */
  async fill(id, text) {
    await this.shows(id);
    await this.eval(([wanted, words]) => {
      const field = document.querySelector(`[data-testid="${wanted}"]`);
      field.focus();
      field.value = words;
      field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertFromPaste" }));
      field.dispatchEvent(new Event("change", { bubbles: true }));
    }, [id, text]);
  }

  /** Chooses an option of a field of choices. */
  select(id, value) {
    return this.fill(id, value);
  }

  /** Drops files: `[{ name, bytes }]`. */
  drop(files) {
    const given = files.map(({ name, bytes }) => ({ name, bytes: [...bytes] }));
    return this.eval((list) => {
      const dataTransfer = new DataTransfer();
      for (const { name, bytes } of list) dataTransfer.items.add(new File([Uint8Array.from(bytes)], name));
      const target = document.querySelector("[data-testid=stage]");
      for (const type of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
      }
    }, given);
  }

  async atDoor(url) {
    await this.open(url);
    await this.shows("join");
  }

  /** Joins under this screen's name. */
  async join() {
    await this.fill("name", this.name);
    await this.tap("join");
    await this.entered();
  }

  /** Waits for the stage and the clock. */
  async entered() {
    await this.until(() => Boolean(window.stage?.isOpen && window.bandsync.position() !== null));
    await this.eval(installProbe);
  }

  read() {
    return this.eval(() => window.probe.read());
  }

  /** Layout shifts while the music played, since the last call. */
  shifts() {
    return this.eval(() => window.probe.shifts.splice(0).filter(({ isPlaying, hadRecentInput }) => isPlaying && !hadRecentInput));
  }
}
