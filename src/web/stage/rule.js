// The progress rule: a thin line under the words that sound, row by row, which reaches each chord on its beat.
//
// A few elements lie over the song and are moved by Web Animations: nothing is laid out, and no frame is drawn by hand.

import * as music from "../timeline.js";
import { timeBefore } from "./glide.js";
import { h } from "./dom.js";

const THICK = 3;
/** Rows of most lines. */
const ROWS = 3;
const micro = (beat) => Math.round(beat * music.BEAT);

/** Rows of an element as boxes `{ left, right, top, bottom }`, from the top. */
function rowsOf(ink) {
  const rows = [];
  for (const { left, right, top, bottom } of ink.getClientRects()) {
    if (right - left < 1) continue;
    const last = rows.at(-1);
    if (last && top < last.bottom - (last.bottom - last.top) / 3) {
      last.left = Math.min(last.left, left);
      last.right = Math.max(last.right, right);
      last.bottom = Math.max(last.bottom, bottom);
    } else {
      rows.push({ left, right, top, bottom });
    }
  }
  return rows;
}

export class Rule {
  #stage;
  #into;
  #bars = [];
  #animations = [];
  #line = null;
  #path = [];

  /** @param {object} stage @param {Element} into the sheet of the song */
  constructor(stage, into) {
    this.#stage = stage;
    this.#into = into;
  }

  /** The elements, to be kept in the sheet: a new one is a layout. */
  get bars() {
    for (let i = 0; i < ROWS; i += 1) this.#bar(i);
    return this.#bars;
  }

  /** Goes under another line of a drawing; null for none. Reads the layout. */
  go(line) {
    this.#line = line;
    this.#path = line ? this.#pathOf(line) : [];
    this.renew();
  }

  /** Makes the animation again, because the timeline changed. */
  renew() {
    for (const animation of this.#animations) animation.cancel();
    this.#animations = [];
    for (const bar of this.#bars) bar.style.transform = "scale(0)";
    const { timeline } = this.#stage.band;
    const now = this.#stage.band.serverMicros();
    const place = this.#stage.now();
    if (!this.#line || !place || !timeline || now === null) return;
    for (const [i, row] of this.#path.entries()) this.#draw(this.#bar(i), row, { timeline, now, place });
  }

  #bar(i) {
    this.#bars[i] ??= h("i", { class: "rule-bar", "aria-hidden": "true" });
    if (!this.#bars[i].isConnected) this.#into.append(this.#bars[i]);
    return this.#bars[i];
  }

  #draw(bar, { x, y, points, sign }, { timeline, now, place }) {
    const at = (width) => `translate(${x}px, ${y}px) scale(${(sign * Math.max(0, width)).toFixed(2)}, 1)`;
    if (!place.playing) {
      bar.style.transform = at(widthAt(points, place.songBeat));
      return;
    }
    const { from, to } = this.#line;
    const bpm = music.tempoAt(timeline, now);
    const since = Math.floor(now - (to - from) * (120_000_000 / bpm) * 1000 - 1e6);
    const start = timeBefore(timeline, micro(from), now, since) ?? now;
    const times = points.map(({ beat }) => music.timeOfBeat(timeline, micro(beat), start) ?? now);
    const first = times[0];
    const length = times.at(-1) - first;
    if (length <= 0) {
      bar.style.transform = at(widthAt(points, place.songBeat));
      return;
    }
    const frames = points.map(({ width }, i) => ({
      offset: Math.min(1, Math.max(0, (times[i] - first) / length)),
      transform: at(width),
    }));
    for (let i = 1; i < frames.length; i += 1) frames[i].offset = Math.max(frames[i].offset, frames[i - 1].offset);
    const animation = bar.animate(frames, { duration: length / 1000, fill: "both" });
    animation.startTime = performance.now() - (now - first) / 1000;
    this.#animations.push(animation);
  }

  /** Rows of the line as `{ x, y, sign, points: [{ beat, width }] }` in the coordinates of the sheet. */
  #pathOf(line) {
    const sheet = this.#into.getBoundingClientRect();
    if (line.cells) return this.#pathOfCells(line, sheet);
    const isRtl = getComputedStyle(line.el).direction === "rtl";
    const rows = rowsOf(line.ink);
    if (rows.length === 0) return [];
    let length = 0;
    for (const row of rows) {
      row.start = length;
      length += row.right - row.left;
    }
    // Places of chords along all rows.
    const known = [{ beat: line.from, s: 0 }];
    for (const { beat, el } of line.marks) {
      const box = el.getBoundingClientRect();
      const row = rows.find(({ top, bottom }) => box.bottom > top - box.height && box.bottom <= bottom + 1) ?? rows[0];
      const s = row.start + (isRtl ? row.right - box.right : box.left - row.left);
      if (beat > known.at(-1).beat && s > known.at(-1).s && s < length) known.push({ beat, s });
    }
    known.push({ beat: line.to, s: length });
    const beatOf = (s) => {
      const i = Math.max(0, known.findLastIndex((point, k) => k < known.length - 1 && point.s <= s + 0.01));
      const [a, b] = [known[i], known[i + 1]];
      return a.beat + ((b.beat - a.beat) * (s - a.s)) / Math.max(0.01, b.s - a.s);
    };
    return rows.map(({ left, right, bottom, start }) => {
      const width = right - left;
      const inside = known.filter(({ s }) => s > start && s < start + width);
      const points = [
        { beat: beatOf(start), width: 0 },
        ...inside.map(({ beat, s }) => ({ beat, width: s - start })),
        { beat: beatOf(start + width), width },
      ];
      return { x: (isRtl ? right : left) - sheet.left, y: bottom - sheet.top - THICK / 2, sign: isRtl ? -1 : 1, points };
    });
  }

  #pathOfCells({ cells }, sheet) {
    const rows = [];
    for (const { from, to, el } of cells) {
      const { left, right, bottom } = el.getBoundingClientRect();
      const last = rows.at(-1);
      if (last && Math.abs(last.bottom - bottom) < 2) {
        last.points.push({ beat: to, width: right - last.left });
      } else {
        rows.push({ left, bottom, points: [{ beat: from, width: 0 }, { beat: to, width: right - left }] });
      }
    }
    return rows.map(({ left, bottom, points }) => ({ x: left - sheet.left, y: bottom - sheet.top - THICK, sign: 1, points }));
  }
}

function widthAt(points, beat) {
  if (beat <= points[0].beat) return 0;
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    if (beat <= b.beat) return a.width + ((b.width - a.width) * (beat - a.beat)) / Math.max(1e-9, b.beat - a.beat);
  }
  return points.at(-1).width;
}
