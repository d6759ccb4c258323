// Edits of a set list: operations, their undoing, conflicts, and the texts of an editor. No DOM.

import { setDirective } from "../chart/write.js";
import { bareSong } from "./library.js";

/** Maximum number of operations of one edit, and of songs and bytes of a list. Specified. */
const OPERATIONS_MAX = 100;
const SONGS_MAX = 500;
const LIST_BYTES_MAX = 1_048_576;
/** Bytes of one edit. Guessed: every server takes it, and a slow link shows progress. */
const EDIT_BYTES = 240_000;
/** Time within which typed letters become one step of undo. Guessed. */
const TYPING_MS = 1000;
const STEPS_MAX = 200;
/** Bars per line without a directive, and at most. Specified; the reader of charts takes no more. */
const BARS_PER_LINE = 2;
const BARS_PER_LINE_MAX = 64;
/** Above this many pairs of lines a comparison marks all lines instead. Guessed: 20 ms. */
const PAIRS_MAX = 4_000_000;

/** A new id, which no other editor makes. */
export function newSongId() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(10));
  return `s-${Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("")}`;
}

/** The operation that moves a song to another place, counted without the song itself; null if it stays. */
export function moveTo(songs, songId, index) {
  const from = songs.findIndex(({ id }) => id === songId);
  const others = songs.filter(({ id }) => id !== songId);
  const to = Math.min(Math.max(index, 0), others.length);
  if (from < 0 || from === to) return null;
  const before = others[to]?.id;
  return before === undefined ? { op: "move", songId } : { op: "move", songId, before };
}

/** The operation that moves a song up (-1) or down (1); null at the end of the list. */
export function moveBy(songs, songId, step) {
  const from = songs.findIndex(({ id }) => id === songId);
  return from < 0 ? null : moveTo(songs, songId, from + step);
}

/**
 * The place where a dragged row is dropped, counted without it.
 * @param {{ top: number, height: number }[]} rows as they lay before the drag
 * @param {number} from the dragged row
 * @param {number} middle the middle of the dragged row now
 */
export function dropIndex(rows, from, middle) {
  // The rows below have moved up into the gap that the dragged row left.
  const isAbove = (row, i) =>
    row.top + row.height / 2 - (i > from ? rows[from].height : 0) < middle - rows[from].height / 2;
  return rows.filter((row, i) => i !== from && isAbove(row, i)).length;
}

/** The operations that bring a removed song back to its place. */
export function restored(songs, songId) {
  const index = songs.findIndex(({ id }) => id === songId);
  const before = songs[index + 1]?.id;
  const song = bandSong(songs[index]);
  return [before === undefined ? { op: "add", song } : { op: "add", song, before }];
}

/** The song as the band has it, as the server takes it. */
export function bandSong(song) {
  return bareSong({ ...song, body: song.bandBody ?? song.body });
}

/** Splits operations so that each part is one edit. */
export function inPieces(ops, bytesMax = EDIT_BYTES) {
  const pieces = [];
  let room = 0;
  for (const op of ops) {
    const bytes = new TextEncoder().encode(JSON.stringify(op)).length + 1;
    if (bytes > room || pieces.at(-1).length === OPERATIONS_MAX) {
      pieces.push([]);
      room = bytesMax;
    }
    pieces.at(-1).push(op);
    room -= bytes;
  }
  return pieces;
}

/** The rejection that the server would send for a list of these songs; null if it would take them. */
export function excessOf(songs) {
  if (songs.length > SONGS_MAX) return { code: "too_large" };
  const encoder = new TextEncoder();
  const bytes = songs.reduce((sum, song) => sum + encoder.encode(song.bandBody ?? song.body ?? "").length, 0);
  return bytes > LIST_BYTES_MAX ? { code: "too_large", bytes, max: LIST_BYTES_MAX } : null;
}

/**
 * The operations of an answer to a conflict.
 * @param {"theirs" | "mine"} choice
 * @param {{ mine: object, theirs: object | null, shift?: number }} versions `theirs` is null if the song is gone
 */
export function settled(choice, { mine, theirs, shift = 0 }) {
  if (choice === "theirs") return [];
  if (!theirs) return [{ op: "add", song: mine }];
  return [{ op: "replace", song: mine, was: theirs.revision, ...(shift !== 0 && { shift }) }];
}

/** Duration of a song in milliseconds: as the chart says, else from its beats; null if neither is known. */
export function durationOf({ durationMs, endBeat, tempoBpm }) {
  if (durationMs > 0) return durationMs;
  return endBeat > 0 && tempoBpm > 0 ? (endBeat * 60_000) / tempoBpm : null;
}

/** Duration of all songs, and whether that of each is known. */
export function totalDuration(songs) {
  const durations = songs.map(durationOf);
  return { ms: durations.reduce((sum, ms) => sum + (ms ?? 0), 0), isWhole: !durations.includes(null) };
}

/** Bars of a line on average where the length of the song decides; null where it does not. */
export function barsByLength({ lines, meter }) {
  const shared = lines.filter(({ rule }) => rule === 3);
  if (shared.length === 0) return null;
  const barsOf = ({ from, to }) => (to - from) / meter.findLast(({ beat }) => beat <= from).num;
  return Math.max(1, Math.round(shared.reduce((sum, line) => sum + barsOf(line), 0) / shared.length));
}

/** Bars per line of a chart: on average where the length of the song decides, otherwise the song's number. */
export function barsPerLine(chart, map) {
  return (map && barsByLength(map)) ?? chart?.barsPerLine ?? BARS_PER_LINE;
}

/**
 * A chart with a number of bars per line; null if there is no such number. A length of the song is taken out where it
 * decides: it would go on deciding, and the number would change nothing.
 */
export function withBarsPerLine(text, map, bars) {
  if (!Number.isInteger(bars) || bars < 1 || bars > BARS_PER_LINE_MAX) return null;
  const isByLength = map !== null && barsByLength(map) !== null;
  return setDirective(isByLength ? setDirective(text, "duration", null) : text, "x_bars_per_line", String(bars));
}

/** Duration of a song by its own tempos, in milliseconds. */
export function durationOfMap({ beats, tempos }) {
  return tempos.reduce(
    (ms, { beat, bpm }, i) => ms + ((Math.min(beats, tempos[i + 1]?.beat ?? beats) - beat) * 60_000) / bpm,
    0,
  );
}

/** `3:40`, or `1:02:05`. */
export function clockText(ms) {
  const seconds = Math.round(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Milliseconds of `3:40`, `220` (seconds) or `1:02:05`; null if it is none of them. */
export function readClock(text) {
  const parts = text.trim().split(":").map(Number);
  if (text.trim() === "" || parts.length > 3 || parts.some((n) => !Number.isInteger(n) || n < 0)) return null;
  return parts.reduce((sum, n) => sum * 60 + n, 0) * 1000;
}

/**
 * The lines that differ between two texts, as two sets of indices. By the longest common part, so that an inserted line
 * does not mark all lines below it.
 */
export function changedLines(one, other) {
  const [a, b] = [one.split("\n"), other.split("\n")];
  let begin = 0;
  while (begin < a.length && begin < b.length && a[begin] === b[begin]) begin += 1;
  let [endA, endB] = [a.length, b.length];
  while (endA > begin && endB > begin && a[endA - 1] === b[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
  const range = (from, to) => new Set(Array.from({ length: to - from }, (_, i) => from + i));
  const [inA, inB] = [range(begin, endA), range(begin, endB)];
  const [n, m] = [endA - begin, endB - begin];
  if (n * m > PAIRS_MAX) return [inA, inB];
  const common = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      const same = a[begin + i] === b[begin + j];
      common[i][j] = same ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  for (let [i, j] = [0, 0]; i < n && j < m;) {
    if (a[begin + i] === b[begin + j]) {
      inA.delete(begin + i);
      inB.delete(begin + j);
      [i, j] = [i + 1, j + 1];
    } else if (common[i + 1][j] >= common[i][j + 1]) i += 1;
    else j += 1;
  }
  return [inA, inB];
}

/** The steps of a text, for undo. Letters that are typed without a pause are one step. */
export class TextHistory {
  #steps;
  #at = 0;
  #kind = "";
  #since = -Infinity;

  constructor(text) {
    this.#steps = [{ text, caret: 0 }];
  }

  get mayUndo() {
    return this.#at > 0;
  }

  get mayRedo() {
    return this.#at < this.#steps.length - 1;
  }

  get text() {
    return this.#steps[this.#at].text;
  }

  /** @param {string} kind steps of one kind that follow quickly become one; "" never does */
  push(text, caret, kind = "", now = Date.now()) {
    if (text === this.text) return;
    const joins = kind !== "" && kind === this.#kind && now - this.#since < TYPING_MS && this.#at > 0;
    this.#steps.length = this.#at + 1;
    if (joins) this.#steps[this.#at] = { text, caret };
    else this.#steps.push({ text, caret });
    if (this.#steps.length > STEPS_MAX) this.#steps.shift();
    this.#at = this.#steps.length - 1;
    [this.#kind, this.#since] = [kind, now];
  }

  undo() {
    if (this.mayUndo) this.#at -= 1;
    this.#kind = "";
    return this.#steps[this.#at];
  }

  redo() {
    if (this.mayRedo) this.#at += 1;
    this.#kind = "";
    return this.#steps[this.#at];
  }
}

/** Offset of a line, from 1, in a text. */
export function offsetOfLine(text, line) {
  let at = 0;
  for (let n = 1; n < line; n += 1) {
    const end = text.indexOf("\n", at);
    if (end < 0) return at;
    at = end + 1;
  }
  return at;
}

/** The section of a chart in which a place of its text lies: the last one that begins at or before it; or null. */
export function sectionAt({ sections, text }, at) {
  const line = text.slice(0, at).split("\n").length;
  return sections.findLast(({ source }) => source <= line) ?? sections[0] ?? null;
}

/** A comment directive at a selection: around it, or as a line of its own before. Returns the text and the selection. */
export function commented(text, from, to) {
  const chosen = text.slice(from, to).replace(/\n/g, " ").trim();
  const head = "{comment: ";
  const at = chosen ? from : text.lastIndexOf("\n", from - 1) + 1;
  const insert = chosen ? `${head}${chosen}}` : `${head}}\n`;
  const rest = text.slice(chosen ? to : at);
  return { text: text.slice(0, at) + insert + rest, from: at + head.length, to: at + head.length + chosen.length };
}
