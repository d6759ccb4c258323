// By how many beats the line that sounds moves when a chart is edited while the band plays it.

import { lineAt, textOf } from "./map.js";

/** Maximum shift in beats. Specified by the protocol. */
const SHIFT_MAX = 4096;

/**
 * Whole beats by which the line that sounds moves when a chart is edited, so that the band stays in this line.
 *
 * The line is found by its text; a line whose text changed is found between its neighbours. If the line became shorter,
 * the place moves back into it, by whole bars if possible.
 */
export function shiftOf(oldChart, oldMap, newChart, newMap, songBeat) {
  if (oldMap.lines.length === 0 || newMap.lines.length === 0) return 0;
  if (songBeat >= oldMap.beats) return clampShift(newMap.beats - oldMap.beats);
  const index = lineAt(oldMap, songBeat);
  const to = matchLine(lineTexts(oldChart, oldMap), lineTexts(newChart, newMap), index);
  const [was, is] = [oldMap.lines[index], newMap.lines[to]];
  let shift = is.from - was.from;
  const into = songBeat - was.from;
  const excess = into - (is.to - is.from);
  if (excess >= 0) {
    const { num } = newMap.meter.findLast(({ beat }) => beat <= is.from) ?? newMap.meter[0];
    const bars = num * (Math.floor(excess / num) + 1);
    shift -= bars <= into ? bars : Math.floor(excess) + 1;
  }
  return clampShift(shift);
}

const clampShift = (shift) => Math.max(-SHIFT_MAX, Math.min(SHIFT_MAX, shift)) + 0;

/** The text of each line in playing order: its words, or its chords if it has none. */
function lineTexts(chart, map) {
  return map.lines.map(({ section, line, rows }) => {
    const lines = chart.sections[section].lines.slice(line, line + rows);
    const words = lines.map(textOf).join("\n").replace(/[ \t]+/g, " ").trim();
    return words || lines.flatMap(({ parts }) => parts.map(({ mark }) => mark?.text ?? "")).join(" ").trim();
  });
}

/** Maximum number of cells of the table that compares two charts. Guessed: takes about 10 ms. */
const TABLE_MAX = 1_000_000;

/** The index of the new line that corresponds to an old one. */
function matchLine(was, is, index) {
  let start = 0;
  while (start < was.length && start < is.length && was[start] === is[start]) start += 1;
  if (index < start) return index;
  let end = 0;
  while (end < was.length - start && end < is.length - start && was.at(-1 - end) === is.at(-1 - end)) end += 1;
  if (index >= was.length - end) return is.length - (was.length - index);
  const middle = was.slice(start, was.length - end);
  const pairs = commonPairs(middle, is.slice(start, is.length - end));
  const at = index - start;
  const exact = pairs.find(([a]) => a === at);
  if (exact) return start + exact[1];
  // The text changed: the line lies between its nearest neighbours that stayed, as far behind the first as before.
  const before = pairs.findLast(([a]) => a < at) ?? [-1, -1];
  const after = pairs.find(([a]) => a > at) ?? [middle.length, is.length - start - end];
  const guess = before[1] + at - before[0];
  return Math.max(0, Math.min(is.length - 1, start + Math.max(before[1], Math.min(guess, Math.max(after[1] - 1, before[1])))));
}

/** Lines that are searched for the next occurrence of a text in long lists. Guessed. */
const SEARCH_MAX = 200;

/** Pairs of equal texts in the same order, as many as possible; in long lists each with its next occurrence. */
function commonPairs(a, b) {
  const pairs = [];
  if (a.length * b.length > TABLE_MAX) {
    let from = 0;
    a.forEach((text, i) => {
      const ahead = b.slice(from, from + SEARCH_MAX).indexOf(text);
      if (ahead < 0) return;
      pairs.push([i, from + ahead]);
      from += ahead + 1;
    });
    return pairs;
  }
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let k = b.length - 1; k >= 0; k -= 1) {
      table[i * width + k] =
        a[i] === b[k] ? table[(i + 1) * width + k + 1] + 1 : Math.max(table[(i + 1) * width + k], table[i * width + k + 1]);
    }
  }
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    if (a[i] === b[k]) pairs.push([i++, k++]);
    else if (table[(i + 1) * width + k] >= table[i * width + k + 1]) i += 1;
    else k += 1;
  }
  return pairs;
}
