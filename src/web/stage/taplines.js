// “Tap the lines”: while the song plays, each press says that the next line starts now. The result is timing in the
// chart, so it travels with the file.
//
// If the band plays this song, its beats count. Otherwise this device counts alone, with a click of its own.

import { feltAt } from "../chart/map.js";
import { LineTap, writeBeats } from "../chart/tap.js";
import { EDITOR, fill, noteOf } from "../texts.js";
import { h, write } from "./dom.js";

/** Presses that follow quicker are one: a pedal bounces. Specified. */
const BOUNCE_MS = 250;
const FORWARD = new Set([" ", "Enter", "PageDown", "ArrowDown", "ArrowRight"]);
const BACK = new Set(["Backspace", "PageUp", "ArrowUp", "ArrowLeft"]);
/** A press this long before beat 0 begins the song. In beats. */
const EARLY = 0.5;
/** A line that began this long ago, in beats, is still the next one to press. */
const LATE = 0.25;
/** Clicks are scheduled this far ahead. */
const AHEAD_S = 0.1;
const TURN_MS = 25;

/**
 * Opens the pad.
 * @param {import("./model.js").Stage} stage
 * @param {{ songId: string, chart: object, map: object, text: string, onDone: (text: string | null) => void }} options
 *   `onDone` receives the text with its timing, or null if it was given up
 * @returns {function} closes the pad
 */
export function tapLines(stage, options) {
  const pad = new Pad(stage, options);
  return () => pad.close();
}

class Pad {
  #stage;
  #options;
  #taps;
  #alone = null;
  #el = {};
  #root;
  #frame = null;
  #lastAt = -Infinity;
  /** Whether the end of the last line was pressed. */
  #isEnded = false;
  #isOver = false;

  constructor(stage, options) {
    this.#stage = stage;
    this.#options = options;
    this.#taps = this.#begin();
    this.#build();
    stage.openSheet(this.#root, {
      title: EDITOR.tapTitle,
      wide: true,
      testid: "taps-sheet",
      onClose: () => this.#end(null),
    });
    document.addEventListener("keydown", this.#onKey, true);
    document.addEventListener("keyup", this.#onKeyUp, true);
    this.#el.pad.focus();
    this.#draw();
  }

  close() {
    if (!this.#isOver) this.#stage.closeSheet(this.#root);
  }

  #build() {
    const el = this.#el;
    const button = (text, testid, run, props = {}) =>
      h("button", { type: "button", ...props, data: { testid }, onclick: run }, text);
    el.state = h("p", { role: "status", data: { testid: "taps-state" } });
    el.beats = h("div", { class: "taps-beat", "aria-hidden": "true" });
    el.pad = h(
      "button",
      { type: "button", class: "taps-pad", data: { testid: "taps-pad" }, "aria-describedby": "taps-hint" },
      (el.was = h("span", { class: "taps-was", dir: "auto" })),
      (el.now = h("span", { class: "taps-now", dir: "auto" })),
      h("small", {}, EDITOR.tapNext),
      (el.next = h("span", { class: "taps-next", dir: "auto", data: { testid: "taps-next" } })),
      (el.later = h("span", { class: "taps-later", dir: "auto" })),
    );
    el.pad.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      el.pad.focus();
      this.#press();
    });
    for (const type of ["pointerup", "pointercancel", "pointerleave"])
      el.pad.addEventListener(type, () => this.#release());
    el.count = h("p", { data: { testid: "taps-count" } });
    el.play = button("", "taps-start", () => this.#start(), { class: "primary" });
    el.back = button(EDITOR.tapBack, "taps-back", () => this.#takeBack());
    el.use = button(EDITOR.tapDone, "taps-use", () => this.#use(), { class: "primary" });
    this.#root = h(
      "div",
      { class: "taps", data: { testid: "taps" } },
      h("header", { class: "taps-head" }, el.state, el.beats),
      el.pad,
      h(
        "footer",
        { class: "taps-bar" },
        el.play,
        el.back,
        el.use,
        el.count,
        h("p", { class: "hint", id: "taps-hint" }, EDITOR.tapHint),
      ),
    );
  }

  /** Whether the band's beats count. */
  get #isWithBand() {
    return this.#stage.song?.id === this.#options.songId && this.#stage.band.isPlaying;
  }

  /** The song beat now; null while nothing counts. */
  #beat() {
    if (this.#isWithBand) return this.#stage.band.beat()?.songBeat ?? null;
    return this.#alone?.beat() ?? null;
  }

  #start() {
    const { stage, songId } = { stage: this.#stage, songId: this.#options.songId };
    this.#el.pad.focus();
    if (stage.isLeader && stage.song?.id === songId && stage.isOnline) {
      stage.command(stage.band.play({ countInBars: 1 }), { source: this.#el.play });
      return;
    }
    this.#alone?.stop();
    this.#alone = new Alone(this.#options.map);
  }

  /** Begins with the first line, or where the band is. */
  #begin() {
    const { map } = this.#options;
    const beat = this.#stage.song?.id === this.#options.songId ? (this.#stage.band.beat()?.songBeat ?? 0) : 0;
    return new LineTap(
      map,
      Math.max(
        0,
        map.lines.findIndex(({ from }) => from >= beat - LATE),
      ),
    );
  }

  #press() {
    const now = performance.now();
    const beat = this.#beat();
    if (beat === null) return void this.#start();
    if (now - this.#lastAt < BOUNCE_MS || beat < -EARLY) return undefined;
    this.#lastAt = now;
    if (this.#taps.next < this.#options.map.lines.length) this.#taps.press(Math.max(0, beat));
    else if (!this.#isEnded) {
      this.#taps.finish(beat);
      this.#isEnded = true;
    }
    return undefined;
  }

  #release() {
    const beat = this.#beat();
    if (beat !== null) this.#taps.release(Math.max(0, beat));
  }

  #takeBack() {
    this.#taps.back();
    this.#isEnded = false;
    this.#el.pad.focus();
  }

  #use() {
    const { text } = this.#options;
    const n = this.#taps.starts.length;
    this.#end(n === 0 ? null : writeBeats(text, this.#taps.lists));
    if (n > 0) this.#stage.toast(fill(EDITOR.tapUsed, { n }), { plain: true });
    this.#stage.closeSheet(this.#root);
  }

  #onKey = (event) => {
    const { forward, back } = this.#stage.view.pedals;
    const isForward = FORWARD.has(event.key) || forward.includes(event.key);
    const isBack = BACK.has(event.key) || back.includes(event.key);
    const target = event.target instanceof Element ? event.target.closest("button") : null;
    // Other buttons of the pad are pressed as usual.
    if ((!isForward && !isBack) || (target && target !== this.#el.pad && (event.key === " " || event.key === "Enter")))
      return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return;
    if (isForward) this.#press();
    else this.#takeBack();
  };

  #onKeyUp = (event) => {
    if (!FORWARD.has(event.key) && !this.#stage.view.pedals.forward.includes(event.key)) return;
    if (event.target === this.#el.pad) event.preventDefault();
    this.#release();
  };

  #draw() {
    if (this.#isOver) return;
    this.#frame = requestAnimationFrame(() => this.#draw());
    const { chart, map } = this.#options;
    const el = this.#el;
    const next = this.#taps.next;
    const textOf = (i) => lineText(chart, map.lines[i]);
    write(el.was, next > 1 ? textOf(next - 2) : "");
    write(el.now, next > 0 ? textOf(next - 1) : "");
    write(el.next, next < map.lines.length ? textOf(next) : this.#isEnded ? EDITOR.tapAll : EDITOR.tapEnd);
    write(el.later, next + 1 < map.lines.length ? textOf(next + 1) : "");
    write(el.count, fill(EDITOR.tapCount, { n: Math.min(next, map.lines.length), of: map.lines.length }));
    el.use.disabled = this.#taps.starts.length === 0;
    el.back.disabled = this.#taps.starts.length === 0;
    const beat = this.#beat();
    this.#root.dataset.beat = beat ?? "";
    el.play.hidden = beat !== null;
    const isLeading = this.#stage.isLeader && this.#stage.song?.id === this.#options.songId;
    write(el.play, isLeading ? EDITOR.tapPlay : EDITOR.tapStart);
    const felt = feltAt(map, 0);
    const bpm = Math.round(map.tempos[0].bpm / felt);
    write(
      el.state,
      this.#isWithBand ? EDITOR.tapBand : fill(EDITOR.tapAlone, { bpm: `${noteOf(felt, map.meter[0]?.den ?? 4)} = ${bpm}` }),
    );
    this.#pulse(beat, felt);
  }

  #pulse(beat, felt) {
    const { beats } = this.#el;
    const count = this.#options.map.meter.at(-1).num / felt;
    while (beats.children.length < count) beats.append(document.createElement("i"));
    while (beats.children.length > count) beats.lastChild.remove();
    const lit = beat === null ? -1 : Math.floor((((beat % (count * felt)) + count * felt) % (count * felt)) / felt);
    [...beats.children].forEach((el, i) => el.classList.toggle("lit", i === lit));
  }

  #end(text) {
    if (this.#isOver) return;
    this.#isOver = true;
    cancelAnimationFrame(this.#frame);
    document.removeEventListener("keydown", this.#onKey, true);
    document.removeEventListener("keyup", this.#onKeyUp, true);
    this.#alone?.stop();
    this.#options.onDone(text);
  }
}

/** The visible text of a line of the map, or its chords. */
function lineText(chart, { section, line }) {
  const { parts, text } = chart.sections[section].lines[line];
  const words =
    parts
      .map((part) => part.text)
      .join("")
      .trim() || text;
  return (
    words ||
    parts
      .map((part) => part.mark?.text ?? "")
      .filter(Boolean)
      .join(" ")
  );
}

/** Counts on this device: one bar ahead of beat 0, with a click. */
class Alone {
  #map;
  #since;
  #audio = null;
  #timer = null;
  #next;

  constructor(map) {
    this.#map = map;
    const [{ num }] = map.meter;
    this.#next = -num;
    this.#since = performance.now() + (num * 60_000) / map.tempos[0].bpm;
    try {
      this.#audio = new AudioContext();
    } catch {
      // No sound; the blocks still count.
    }
    this.#timer = setInterval(() => this.#click(), TURN_MS);
  }

  beat() {
    let ms = performance.now() - this.#since;
    const { tempos } = this.#map;
    for (const [i, { beat, bpm }] of tempos.entries()) {
      const length = ((tempos[i + 1]?.beat ?? Infinity) - beat) * (60_000 / bpm);
      if (ms < length) return beat + (ms * bpm) / 60_000;
      ms -= length;
    }
    return 0;
  }

  stop() {
    clearInterval(this.#timer);
    this.#audio?.close().catch(() => {});
    this.#audio = null;
  }

  #click() {
    const felt = feltAt(this.#map, 0);
    const now = this.beat();
    const bpm = (this.#map.tempos.findLast(({ beat }) => beat <= now) ?? this.#map.tempos[0]).bpm;
    while (this.#next < now + (AHEAD_S * bpm) / 60) {
      const isOne = this.#next % this.#map.meter[0].num === 0;
      if (this.#next >= now && this.#next % felt === 0) this.#sound(((this.#next - now) * 60) / bpm, isOne);
      this.#next += 1;
    }
  }

  #sound(inSeconds, isOne) {
    const audio = this.#audio;
    if (audio?.state !== "running") return;
    const at = audio.currentTime + inSeconds;
    const tone = new OscillatorNode(audio, { frequency: isOne ? 1500 : 1000 });
    const gain = new GainNode(audio, { gain: 0 });
    gain.gain.setValueAtTime(isOne ? 0.5 : 0.3, at);
    gain.gain.exponentialRampToValueAtTime(0.001, at + 0.05);
    tone.connect(gain).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.06);
  }
}
