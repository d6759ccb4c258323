// Screens for a wall or a stream: they show and never steer. `screen` is for the band: a big clock, bar and beat,
// section, next section, song, and the words that sound. `lyrics` is for the audience: words only, two lines, in the
// middle; with `bg=none` on nothing, for a stream. Cues lie over both, in their own room.

import { SONG, fill } from "../texts.js";
import { directionOf } from "./bidi.js";
import { h, mark, renewed, write } from "./dom.js";
import { emWidth } from "./measure.js";
import { barAt, feltHere } from "./model.js";

const CLOCK_MS = 1000;
const LOST_BOUND_MS = 50;
/** Sizes of words: part of the height, and of the width that the widest usual line takes. Chosen by eye. */
const HEIGHT_SHARE = { lyrics: 0.13, screen: 0.085 };
const WIDTH_SHARE = 0.92;
/** Rows that a line may take: an audience sits far away. Balanced rows are not quite full. */
const ROWS = { lyrics: 1.7, screen: 1 };
const LINES_THAT_FIT = 0.9;

/**
 * Shows a screen view in `root`.
 * @param {object} stage @param {Element} root @param {string | null} [view] `screen` or `lyrics`; by default the address's
 */
export function mountScreen(stage, root, view = new URLSearchParams(location.search).get("view")) {
  const isLyrics = view === "lyrics";
  const bare = new URLSearchParams(location.search).get("bg") === "none";
  document.documentElement.classList.toggle("no-ground", bare);
  root.classList.add("screen-room", isLyrics ? "lyrics" : "screen");
  const words = new Words(stage, isLyrics ? "lyrics" : "screen");
  const panel = isLyrics ? null : new Panel(stage);
  root.replaceChildren(...(panel ? [panel.top, words.el, panel.foot] : [words.el]));
  const handle = root.closest('[data-testid="stage"]') ?? root;

  const renew = () => {
    mark(handle, "data-song", stage.song?.id ?? "");
    words.load(root);
    panel?.load();
  };
  for (const event of ["song", "open", "close"]) stage.addEventListener(event, renew);
  stage.addEventListener("setlist", () => panel?.load());
  stage.addEventListener("armed", () => panel?.load());
  stage.addEventListener("frame", ({ detail: now }) => {
    words.show(now);
    panel?.show(now);
    if (!now) return;
    mark(handle, "data-playing", String(now.playing));
    handle.dataset.beat = now.songBeat;
  });
  new ResizeObserver(() => words.fit(root)).observe(root);
  renew();
}

/** The text of a line without its chords. */
const wordsOf = (line) => (line?.kind === "words" ? line.parts.map(({ text }) => text).join("").replace(/\s+/g, " ").trim() : "");

/** Two lines: the one that sounds and the next one with words. */
class Words {
  el = h("div", { class: "two-lines" });
  #stage;
  #kind;
  #texts = [];
  #lines = [];
  #shown = null;

  constructor(stage, kind) {
    this.#stage = stage;
    this.#kind = kind;
  }

  load(root) {
    const { chart, map } = this.#stage.song ?? {};
    this.#lines = map?.lines ?? [];
    this.#texts = this.#lines.map(({ section, line }) => wordsOf(chart.sections[section].lines[line]));
    this.#shown = null;
    this.el.replaceChildren();
    this.fit(root);
    this.show(this.#stage.now());
  }

  fit(root) {
    const { clientWidth, clientHeight } = root;
    if (clientWidth === 0) return;
    const widths = this.#texts.filter(Boolean).map((text) => emWidth(text, 650)).sort((a, b) => a - b);
    const widest = widths[Math.max(0, Math.ceil(widths.length * LINES_THAT_FIT) - 1)] ?? 1;
    const size = Math.min(clientHeight * HEIGHT_SHARE[this.#kind], (clientWidth * WIDTH_SHARE * ROWS[this.#kind]) / widest);
    this.el.style.setProperty("font-size", `${Math.max(18, Math.floor(size))}px`);
  }

  show(now) {
    const { song } = this.#stage;
    const isOver = Boolean(now && song?.map && now.songBeat >= song.map.beats);
    const isBefore = Boolean(now && !now.playing && now.songBeat <= 0);
    const key = !song || !now ? "none" : `${now.line} ${isOver} ${isBefore}`;
    if (key === this.#shown) return;
    this.#shown = key;
    if (!song || !now || isOver) {
      this.el.replaceChildren();
      return;
    }
    if (isBefore && this.#kind === "lyrics") {
      this.el.replaceChildren(h("p", { class: "song-title", dir: "auto" }, song.title));
      return;
    }
    const next = this.#texts.findIndex((text, i) => i > now.line && text !== "");
    this.el.replaceChildren(this.#line(now.line, true), this.#line(next, false));
  }

  #line(index, isCurrent) {
    const line = this.#lines[index];
    const text = this.#texts[index] ?? "";
    if (!line) return h("p", { class: "words-line" });
    const data = { testid: "line", from: line.from, to: line.to };
    const props = { class: "words-line", dir: directionOf(text), data, "aria-current": isCurrent && "true" };
    return h("p", props, text ? inWords(text) : isCurrent && SONG.music);
  }
}

/** A text that breaks only between words, not after the hyphens in them. */
const inWords = (text) =>
  text.split(/(\S*\S[-‐–]\S+)/).map((part, i) => (i % 2 ? h("span", { class: "one-word" }, part) : part)).filter(Boolean);

/** Everything of the band's screen but the words. */
class Panel {
  top;
  foot;
  #stage;
  #parts;
  #pulse = [];
  #lit = null;
  #clockAt = -Infinity;
  #shown = "";

  constructor(stage) {
    this.#stage = stage;
    const output = (testid, props = {}) => h("output", { ...props, data: { testid } });
    const parts = {
      bar: output("bar", { class: "big" }),
      beat: output("beat", { class: "big" }),
      pulse: h("div", { class: "screen-pulse", "aria-hidden": "true" }),
      section: output("current-section", { class: "screen-section", dir: "auto" }),
      next: output("next", { class: "screen-next", dir: "auto" }),
      time: h("time", { class: "big wall", data: { testid: "wall-clock" } }),
      title: h("h1", { dir: "auto", data: { testid: "song-title" } }),
      then: h("p", { class: "screen-then", dir: "auto" }),
      sync: h("p", { class: "screen-sync", role: "status", data: { testid: "clock" } }),
    };
    this.#parts = parts;
    this.top = h(
      "header",
      { class: "screen-top" },
      h("p", { class: "screen-place" }, parts.bar, h("span", { class: "big mid" }, "·"), parts.beat),
      h("div", { class: "screen-where" }, parts.section, parts.next),
      parts.time,
      parts.pulse,
    );
    this.foot = h("footer", { class: "screen-foot" }, parts.title, parts.then, parts.sync);
  }

  load() {
    const { song, armed } = this.#stage;
    this.#shown = "";
    const { map } = song ?? {};
    this.top.style.setProperty("--bar-digits", map && barAt(map.meter, map.beats) >= 100 ? 3 : 2);
    write(this.#parts.title, song?.title || SONG.nothing);
    const after = armed?.kind === "song" ? this.#stage.songById(armed.songId) : this.#stage.songAfter(1);
    write(this.#parts.then, song && after?.title ? fill(SONG.then, { title: after.title }) : "");
  }

  show(now) {
    this.#clock();
    if (!now) return;
    const { beat, playing, pass } = now;
    const state = `${beat.bar} ${beat.beat} ${beat.num}/${beat.den} ${playing} ${pass} ${beat.pass} ${beat.countIn}`;
    if (state === this.#shown) return;
    this.#shown = state;
    const { map } = this.#stage.song ?? {};
    const { armed } = this.#stage;
    const felt = feltHere(this.#stage, now);
    const big = Math.floor((beat.beat - 1) / felt) + 1;
    const parts = this.#parts;
    const bar = String(beat.bar);
    // Digits stand at the end, so another length moves them: a new element.
    if (bar.length !== parts.bar.textContent.length) parts.bar = renewed(parts.bar);
    write(parts.bar, bar);
    write(parts.beat, String(big));
    Object.assign(parts.bar.dataset, { bar: beat.bar });
    Object.assign(parts.beat.dataset, { beat: beat.beat, of: beat.num });
    const isOver = Boolean(map?.passes.length) && now.songBeat >= map.beats;
    const aimed = armed?.kind === "jump" ? passAt(map, armed.beat) : (map?.passes[pass + 1] ?? null);
    write(parts.section, beat.countIn ? SONG.countIn : isOver ? SONG.end : (map?.passes[pass]?.name ?? ""));
    write(parts.next, aimed?.name && !isOver ? fill(SONG.next, { name: aimed.name }) : "");
    this.#beat(Math.ceil(beat.num / felt), playing ? big - 1 : -1);
  }

  #beat(count, on) {
    if (this.#pulse.length !== count) {
      this.#pulse = Array.from({ length: count }, () => h("i"));
      this.#parts.pulse.replaceChildren(...this.#pulse);
    }
    this.#lit?.classList.remove("lit");
    this.#lit = this.#pulse[on] ?? null;
    this.#lit?.classList.add("lit");
  }

  #clock() {
    const at = performance.now();
    if (at - this.#clockAt < CLOCK_MS / 4) return;
    this.#clockAt = at;
    const time = new Date();
    const text = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    write(this.#parts.time, text);
    const { bound, quality } = this.#stage.band.clock;
    this.#parts.sync.dataset.boundMs = bound;
    const isLost = quality === "lost" || bound > LOST_BOUND_MS || this.#stage.band.status !== "online";
    write(this.#parts.sync, isLost ? SONG.offBeat : "");
  }
}

const passAt = (map, beat) => map?.passes.findLast(({ from }) => from <= beat + 1e-6) ?? null;
