// When and how the song scrolls: which lines the timeline plays next, and keyframes in server time. No DOM.
//
// While a line sounds, nothing moves until half of it; then the text glides, and the next line's start reaches the
// anchor exactly on its first beat. Every time comes from `timeOfBeat`, so it is right through ramps, loops and jumps.

import { lineAt } from "../chart/map.js";
import * as music from "../timeline.js";

/** Part of a line after which the text moves, by mode. Specified. */
const MOVES_FROM = { glide: 1 / 2, line: 7 / 8 };
/** Duration of a jump of up to one screen, in microseconds. Specified. */
const JUMP_US = 200_000;
/** Highest speed of `ease-in-out` in relation to its mean: x' = 0.87 and y' = 1.5 in the middle of the curve. */
const PEAK = 1.5 / 0.87;
const SETTLE_US = 1000;

const micro = (beat) => Math.round(beat * music.BEAT);
/** A line begins this many microbeats early: those of a microsecond at 400 BPM, to which times are rounded. */
const SLACK = 8;

/** The last time up to `now` at which the song was at `beat`; null if the timeline does not know. */
export function timeBefore(timeline, beat, now, since) {
  let found = null;
  let from = since;
  for (let i = 0; i < 64; i += 1) {
    const t = music.timeOfBeat(timeline, beat, from);
    if (t === null || t > now) return found;
    found = t;
    from = t + 1;
  }
  return found;
}

/**
 * The lines that sound from `now` until `until`, in microseconds of the server's clock: `{ line, t0, t1, next, jumps }`
 * in order. `next` is the index of the line after it, -1 if the music stops or the song changes; `jumps` says that the
 * next line is not the following one. Empty while nothing plays.
 */
export function linesBetween(timeline, map, now, until) {
  const found = [];
  let t = now;
  if (!music.isPlayingAt(timeline, t) || map.lines.length === 0) return found;
  let beat = music.beatAt(timeline, t);
  let line = lineAt(map, (beat + SLACK) / music.BEAT);
  // The first line began before now: at half the tempo at the latest.
  const { from } = map.lines[line];
  const bpm = music.tempoAt(timeline, t);
  const ago = Math.max(0, beat - micro(from)) * (120_000 / bpm) + 1e6;
  let t0 = timeBefore(timeline, micro(from), t, Math.floor(t - ago)) ?? t;
  while (t < until && found.length < 256) {
    const k = music.segmentAt(timeline, t);
    const segment = timeline.segments[k];
    const end = map.lines[line].to;
    const last = line === map.lines.length - 1;
    const candidates = [
      { t: last ? null : music.timeOfBeat(timeline, micro(end), t + 1), why: "next" },
      { t: timeline.segments[k + 1]?.t0 ?? null, why: "segment" },
      { t: segment.loop && beat < segment.loop.to ? music.timeOfBeat(timeline, segment.loop.from, t + 1) : null, why: "wrap" },
    ].filter((event) => event.t !== null && event.t > t);
    const event = candidates.reduce((first, other) => (other.t < first.t ? other : first), { t: Infinity, why: "" });
    if (event.t === Infinity) {
      found.push({ line, t0, t1: Infinity, next: -1, jumps: false });
      break;
    }
    t = event.t;
    const after = timeline.segments[music.segmentAt(timeline, t)];
    if (after.rate !== 1 || (after !== segment && after.song !== undefined && after.song !== songAt(timeline, k))) {
      found.push({ line, t0, t1: t, next: -1, jumps: false });
      break;
    }
    const here = music.beatAt(timeline, t);
    const there = lineAt(map, (here + SLACK) / music.BEAT);
    const wraps = event.why === "wrap" && beat >= segment.loop.from - SLACK;
    const isBack = wraps || here < beat - SLACK;
    beat = here;
    if (there === line && !isBack) continue;
    found.push({ line, t0, t1: t, next: there, jumps: isBack || there !== line + 1 || here > micro(end) + SLACK });
    line = there;
    t0 = t;
  }
  return found;
}

function songAt(timeline, k) {
  for (let i = k; i >= 0; i -= 1) if (timeline.segments[i].song !== undefined) return timeline.segments[i].song;
  return timeline.song;
}

/**
 * Keyframes `{ t, y, easing }` of the song's offset, for lines of `linesBetween`.
 *
 * @param {object[]} plan
 * @param {number[]} targets the offset that each line of the map wants, in pixels
 * @param {object} options
 * @param {object} options.timeline
 * @param {object} options.map
 * @param {number} options.height of the screen, in pixels: no glide is faster than one screen a second
 * @param {"glide" | "line"} [options.mode]
 * @param {boolean} [options.steps] whether every move is a step, for reduced motion
 */
export function keyframes(plan, targets, { timeline, map, height, mode = "glide", steps = false }) {
  const frames = [];
  const add = (t, y, easing = "linear") => frames.push({ t: Math.max(t, frames.at(-1)?.t ?? t), y, easing });
  for (const [i, { line, t0, t1, next, jumps }] of plan.entries()) {
    const y = targets[line];
    if (i === 0) add(t0, y);
    if (next < 0 || t1 === Infinity) {
      add(t0 + SETTLE_US, y);
      break;
    }
    const to = targets[next];
    if (jumps) {
      add(t1, y, "ease-out");
      const lasts = steps || Math.abs(to - y) > height ? 0 : JUMP_US;
      add(t1 + Math.min(lasts, plan[i + 1] ? (plan[i + 1].t1 - t1) / 2 : lasts), to);
    } else if (to === y || steps) {
      add(t1, y);
      add(t1, to);
    } else {
      const { start, easing } = wayOf(map.lines[line], { t0, t1, timeline, mode, screens: Math.abs(to - y) / height });
      add(start, y, easing);
      add(t1, to);
    }
  }
  return frames;
}

/** When the way to the next line begins, and how it goes: at most one screen a second, and a jump if that is too slow. */
function wayOf({ from, to }, { t0, t1, timeline, mode, screens }) {
  const fastest = screens * 1e6;
  const length = t1 - t0;
  if (screens > 1) return { start: t1, easing: "linear" };
  if (fastest > length) return { start: Math.max(t0, t1 - JUMP_US), easing: "ease-out" };
  if (fastest * PEAK > length) return { start: t0, easing: "linear" };
  const rests = music.timeOfBeat(timeline, micro(from + (to - from) * MOVES_FROM[mode]), t0) ?? t1;
  return { start: Math.max(t0, Math.min(rests, t1 - fastest * PEAK)), easing: "ease-in-out" };
}
