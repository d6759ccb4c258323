// Tap the lines: somebody presses once as each line begins, and the presses become `x_beats` of the sections.
//
// A press is rounded to a beat. A line's length is the distance to the next press, so a late press of one line is made
// up for by the next. While a press is held the band vamps: the line begins over until the release, and those rounds
// do not count.

import { parseChart } from "./chordpro.js";
import { readSong } from "./unfold.js";
import { setSectionDirective } from "./write.js";

/** Share of half a bar within which a press is moved to it. Specified. */
const NEAR = 0.15;

export class LineTap {
  #map;
  /** For each line that was pressed: `at`, where it begins, and `until`, the release of a vamp, or null. Song beats. */
  #presses = [];
  #first;
  /** The beat of the press that is held. */
  #held = null;
  #end = null;

  /**
   * @param {import("./map.js").SongMap} map of the song that plays
   * @param {number} [first] index of the line that the first press begins; the song may be tapped from there on
   */
  constructor(map, first = 0) {
    this.#map = map;
    this.#first = Math.max(0, Math.min(first, map.lines.length));
  }

  /** The index of the line that the next press begins; the number of lines if all have begun. */
  get next() {
    return this.#first + this.#presses.length;
  }

  /** The index of the line that sounds; -1 before the first press. */
  get current() {
    return this.#presses.length === 0 ? -1 : this.next - 1;
  }

  get isHeld() {
    return this.#held !== null;
  }

  /** Whether all lines have begun, or the tapping was finished. */
  get isDone() {
    return this.#end !== null || this.next >= this.#map.lines.length;
  }

  /** The beats at which the lines that were pressed begin. */
  get starts() {
    return this.#presses.map(({ at }) => at);
  }

  /**
   * A line begins.
   *
   * @param {number} songBeat of the press, as the timeline says it
   * @returns {boolean} false if the press does not count: it is not after the last one, or no line is left
   */
  press(songBeat) {
    if (this.isDone) return false;
    const last = this.#presses.at(-1);
    // The first line of a song begins with the song: a map has no time before its first line.
    const rounded = roundPress(this.#map, songBeat);
    const at = !last && this.#first === 0 ? 0 : rounded;
    if (last && at <= (last.until ?? last.at)) return false;
    this.#presses.push({ at, until: null });
    this.#held = rounded;
    return true;
  }

  /** The press ends. If it was held for half a bar or longer, it was a vamp. Returns whether it was. */
  release(songBeat) {
    const held = this.#held;
    this.#held = null;
    if (held === null) return false;
    const until = roundPress(this.#map, songBeat);
    if (until - held < halfBar(this.#map, held).size) return false;
    this.#presses.at(-1).until = until;
    return true;
  }

  /** Takes the last press back. Returns false if there is none. */
  back() {
    this.#held = null;
    this.#end = null;
    return this.#presses.pop() !== undefined;
  }

  /** The last line that was pressed ends. Without a beat it gets the length that it has in the map. */
  finish(songBeat) {
    this.#held = null;
    const last = this.#presses.at(-1);
    if (!last) return;
    const start = last.until ?? last.at;
    const end = Number.isFinite(songBeat) ? roundPress(this.#map, songBeat) : -Infinity;
    this.#end = end > start ? end : start + this.#lengthInMap(this.current);
  }

  /** Lengths of the lines that were pressed, as `{ line, beats }` with indices into the map's lines. */
  get lengths() {
    return this.#presses.map(({ at, until }, i) => {
      const line = this.#first + i;
      const start = until ?? at;
      const end = this.#presses[i + 1]?.at ?? this.#end ?? start + this.#lengthInMap(line);
      let beats = end - start;
      // Whoever released a vamp as the next line began means one round of the line.
      if (until !== null && beats < halfBar(this.#map, at).size) beats = Math.min(this.#lengthInMap(line), end - at);
      return { line, beats: Math.max(1, beats) };
    });
  }

  /**
   * The `x_beats` of each section that was tapped. A line of several passes gets the length that it had most often; a
   * line that was not tapped, or has bar lines, keeps that of the map.
   *
   * @returns {Map<number, number[]>} by index of the section
   */
  get lists() {
    const tapped = new Map(this.lengths.map(({ line, beats }) => [line, beats]));
    const bySection = new Map();
    this.#map.lines.forEach(({ section, line, rule }, index) => {
      if (!bySection.has(section)) bySection.set(section, new Map());
      const units = bySection.get(section);
      if (!units.has(line)) units.set(line, { rule, inMap: this.#lengthInMap(index), found: [] });
      if (rule !== 1 && tapped.has(index)) units.get(line).found.push(tapped.get(index));
    });
    const lists = new Map();
    for (const [section, units] of bySection) {
      const all = [...units.values()];
      if (all.every(({ found }) => found.length === 0)) continue;
      lists.set(section, all.map(({ found, inMap }) => mostOften(found) ?? inMap));
    }
    return lists;
  }

  #lengthInMap(index) {
    const { from, to } = this.#map.lines[index];
    return to - from;
  }
}

/** Rounds a press to the beat, or to the half bar if it is within 15 % of half a bar of it. */
export function roundPress(map, songBeat) {
  const beat = Math.max(0, songBeat);
  const { from, size } = halfBar(map, beat);
  const half = from + size * Math.round((beat - from) / size);
  const rounded = Math.abs(beat - half) <= NEAR * size ? half : Math.round(beat);
  return rounded + 0;
}

/** Half a bar at a beat, in whole beats; a whole bar of an odd meter. `from` is a bar line before the beat. */
function halfBar({ meter }, beat) {
  const { beat: from, num } = meter.findLast((entry) => entry.beat <= beat) ?? meter[0];
  return { from, size: num % 2 === 0 ? num / 2 : num };
}

/** The number that occurs most often, of several the first; undefined if there is none. */
function mostOften(numbers) {
  const counts = new Map();
  for (const n of numbers) counts.set(n, (counts.get(n) ?? 0) + 1);
  let best;
  for (const [n, count] of counts) if (best === undefined || count > counts.get(best)) best = n;
  return best;
}

/**
 * Writes `x_beats` into the text of a song. Other lines stay as they are, byte for byte.
 *
 * @param {string} text
 * @param {Map<number, number[]>} lists by index of the section in the text's chart
 * @returns {string}
 */
export function writeBeats(text, lists) {
  const { sections } = parseChart(text);
  // From the last one on, so that the places of the others stay.
  for (const index of [...lists.keys()].sort((a, b) => b - a)) {
    const beats = [...lists.get(index)];
    // The last number repeats by itself.
    while (beats.length > 1 && beats.at(-1) === beats.at(-2)) beats.pop();
    if (sections[index] && beats.length > 0) text = setSectionDirective(text, sections[index], "x_beats", beats.join(" "));
  }
  return text;
}

/** Whether a text with new `x_beats` has the lengths that were tapped. */
export function hasLengths(text, lists) {
  const { lines } = readSong(text).map;
  for (const [section, list] of lists) {
    const first = lines.find((line) => line.section === section)?.pass;
    const own = lines.filter((line) => line.section === section && line.pass === first);
    if (own.some(({ from, to }, i) => to - from !== list[i])) return false;
  }
  return true;
}
