// Where the song scrolls to: an offset in pixels for every song beat. Pure numbers, no page.
//
// Each line has one way to the next: it rests, then moves so that the next line's start is at the anchor exactly on its
// first beat. The same ways give the offset at a beat and the keyframes of an animation, so both always agree.

import { lineAt } from "../chart/map.js";

/** Easing of a move, in CSS. `ease` computes the same curve. */
export const EASING = "cubic-bezier(0.42, 0, 0.58, 1)";
/** Steepest slope of that curve: x' = 0.87 and y' = 1.5 in its middle. */
const STEEPEST = 1.5 / 0.87;
/** Duration of a short jump, in milliseconds. Specified. */
export const JUMP_MS = 200;
/** Part of a line that is over before the text moves. Specified. */
const REST = { glide: 1 / 2, line: 7 / 8 };

/**
 * What scrolling needs to know of the page, in pixels.
 *
 * @typedef {object} Layout
 * @property {number[]} tops of the map's lines, by their index, from the top of the song
 * @property {number[]} heights of the same lines
 * @property {number[]} [heads] tops of what a page must show with a line, such as the heading of its section
 * @property {number} content height of the whole song
 * @property {number} viewport height of the part that is seen
 * @property {number} [anchor] part of the viewport above the line that sounds, 0.3 without it
 * @property {"glide" | "line" | "page" | "off"} [mode] "glide" without it
 * @property {number} [bpm] tempo of the performance, in the server's beats; without it, that of the map
 */

/**
 * The offset at which the song stands at a beat.
 *
 * @param {Layout} layout
 * @param {import("../chart/map.js").SongMap} map
 * @param {number} songBeat
 * @returns {number | null} null if the mode is "off": nothing moves
 */
export function offsetAt(layout, map, songBeat) {
  if (layout.mode === "off") return null;
  if (map.lines.length === 0 || fits(layout)) return 0;
  const way = wayOf(layout, map, lineAt(map, songBeat));
  if (songBeat >= way.to) return way.b;
  if (songBeat <= way.start) return way.a;
  const progress = (songBeat - way.start) / (way.to - way.start);
  return way.a + (way.b - way.a) * (way.isEven ? progress : ease(progress));
}

/**
 * Keyframes of the next lines, for a Web Animation: at `beat` the song stands at `offset`, and `easing` leads to the
 * next keyframe. Two keyframes at one beat are a cut. The caller turns beats into times with the timeline, which knows
 * tempo changes; the first keyframe is at `songBeat` itself.
 *
 * @param {number} [count] number of lines, from the one that sounds
 * @returns {{ beat: number, offset: number, easing: string }[]} empty if the mode is "off"
 */
export function keyframes(layout, map, songBeat, count = 4) {
  const first = offsetAt(layout, map, songBeat);
  if (first === null) return [];
  const frames = [{ beat: songBeat, offset: first, easing: "linear" }];
  if (map.lines.length === 0 || fits(layout)) return frames;
  const add = (beat, offset, easing) => {
    const last = frames.at(-1);
    if (last.beat === beat && last.offset === offset) last.easing = easing;
    else frames.push({ beat, offset, easing });
  };
  const from = lineAt(map, songBeat);
  for (let i = from; i < Math.min(map.lines.length, from + count); i += 1) {
    const { a, b, start, to, isEven } = wayOf(layout, map, i);
    if (songBeat >= to) continue;
    if (songBeat > start) {
      // In the middle of a move: the rest of the curve is not an easing of its own, so it goes in short straight steps.
      frames[0].easing = "linear";
      const steps = isEven ? 1 : 8;
      for (let k = 1; k <= steps; k += 1) {
        const beat = songBeat + ((to - songBeat) * k) / steps;
        add(k === steps ? to : beat, k === steps ? b : offsetAt(layout, map, beat), "linear");
      }
      continue;
    }
    add(start, a, isEven ? "linear" : EASING);
    add(to, b, "linear");
  }
  return frames;
}

/**
 * How the song gets from one offset to another after a jump of the band, or of a member: longer ways than a screen are
 * a cut, shorter ones take 200 ms.
 *
 * @returns {number} the duration in milliseconds
 */
export const jumpMs = (from, to, viewport) => (Math.abs(to - from) > viewport || from === to ? 0 : JUMP_MS);

/**
 * What a half-page turn shows: `upper` and `lower` are offsets of the two halves of the viewport. They differ while the
 * last line of a page sounds: its upper half then shows the next page already.
 */
export function pageAt(layout, map, songBeat) {
  if (map.lines.length === 0 || fits(layout)) return { upper: 0, lower: 0 };
  const pages = pagesOf(layout, map);
  const line = lineAt(map, songBeat);
  const page = pages[pageOf(pages, line)];
  const next = pages[pageOf(pages, line) + 1];
  return { upper: next && line === next.first - 1 && next.offset !== page.offset ? next.offset : page.offset, lower: page.offset };
}

const fits = ({ content, viewport }) => content <= viewport;

/** The offset at which a line is at the anchor, as far as the song's ends allow. */
function restOf({ tops, content, viewport, anchor = 0.3 }, index) {
  return Math.max(0, Math.min(tops[index] - anchor * viewport, content - viewport));
}

/** The way from a line to the next: at `a` until beat `start`, then to `b`, which it reaches at beat `to`. */
function wayOf(layout, map, index) {
  const { mode = "glide", viewport } = layout;
  const { from, to } = map.lines[index];
  if (mode === "page") {
    const pages = pagesOf(layout, map);
    const [a, b] = [index, Math.min(index + 1, map.lines.length - 1)].map((i) => pages[pageOf(pages, i)].offset);
    return { a, b, start: to, to, isEven: true };
  }
  const a = restOf(layout, index);
  const b = index + 1 < map.lines.length ? restOf(layout, index + 1) : a;
  const distance = Math.abs(b - a);
  if (distance > viewport) return { a, b, start: to, to, isEven: true };
  const beatsIn = (ms) => (ms * bpmAt(layout, map, from)) / 60_000;
  const jump = Math.max(from, to - beatsIn(JUMP_MS));
  // Back to a repeated section: a jump.
  if (layout.tops[index + 1] < layout.tops[index]) return { a, b, start: jump, to, isEven: false };
  // At most one screen a second: the move begins earlier if it must, and is even if that is not enough.
  const fastest = beatsIn((1000 * distance) / viewport);
  const length = to - from;
  if (fastest > length) return { a, b, start: jump, to, isEven: false };
  if (fastest * STEEPEST > length) return { a, b, start: from, to, isEven: true };
  return { a, b, start: Math.min(from + length * REST[mode], to - fastest * STEEPEST), to, isEven: false };
}

const bpmAt = ({ bpm }, map, beat) => bpm ?? (map.tempos.findLast((tempo) => tempo.beat <= beat) ?? map.tempos[0]).bpm;

/** Pages in playing order: `{ first, offset }`. A page ends before the first line that it does not show whole. */
function pagesOf({ tops, heights, heads = tops, content, viewport }, map) {
  const pages = [];
  for (let i = 0; i < map.lines.length; i += 1) {
    const page = pages.at(-1);
    const isSeen = page && tops[i] >= page.offset && tops[i] + heights[i] <= page.offset + viewport;
    if (!isSeen) pages.push({ first: i, offset: i === 0 ? 0 : Math.max(0, Math.min(heads[i], content - viewport)) });
  }
  return pages;
}

const pageOf = (pages, line) => pages.findLastIndex(({ first }) => first <= line);

/** The curve of `EASING`: its progress at a part of the time. */
export function ease(part) {
  if (part <= 0 || part >= 1) return part <= 0 ? 0 : 1;
  const x = (t) => 3 * (1 - t) ** 2 * t * 0.42 + 3 * (1 - t) * t * t * 0.58 + t ** 3;
  let [low, high] = [0, 1];
  for (let i = 0; i < 30; i += 1) {
    const middle = (low + high) / 2;
    if (x(middle) < part) low = middle;
    else high = middle;
  }
  const t = (low + high) / 2;
  return 3 * (1 - t) * t * t + t ** 3;
}
