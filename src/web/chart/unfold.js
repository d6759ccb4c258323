// Repeat signs are real bars: `|: G | C :|` is played twice, and `:| x3` three times. The lines of a section are written
// out as they are played, so nothing else needs to know of the signs.
//
// A repeat without a beginning goes back to the end of the one before, or to the first bar line of the section. Of
// endings (`|1 … :|2 … :|3`, `|1,2 … :|3`) each pass has its own.

import { parseChart } from "./chordpro.js";
import { songMap } from "./map.js";
import { SOUNDING } from "./model.js";

/** Maximum number of lines that repeats add to a song. Guessed: a long song has 300. */
const ADDED_MAX = 2000;
/** Maximum number of passes of a repeat, as for sections. Guessed. */
const TIMES_MAX = 32;
const TIMES = /^\s*\(?(?:[x×]\s?(\d{1,2})|(\d{1,2})\s?[x×])\)?/i;

/** Reads a song: its chart, with repeats written out, and its map. */
export function readSong(text) {
  const chart = unfold(parseChart(text));
  return { chart, map: songMap(chart) };
}

/** Writes the repeats of a chart out. Changes the chart, and returns it. */
export function unfold(chart) {
  let room = ADDED_MAX;
  for (const section of chart.sections) {
    const runs = runsOf(section.lines);
    const sum = runs.reduce((lines, [from, to]) => lines + to.line - from.line + 1, 0);
    if (runs.length === 1 || sum > room + section.lines.length) continue;
    room -= sum;
    section.lines = written(section.lines, runs);
  }
  return chart;
}

const signOf = ({ mark }) => (mark?.kind === "bar" ? mark.text : "");

/** The number of passes of a repeat, from the words after its end. */
function timesAfter(parts, at) {
  const next = parts[at + 1];
  const [, before, after] = TIMES.exec(parts[at].text || (next?.mark ? "" : next?.text) || "") ?? [];
  const times = Number(before ?? after ?? 2);
  return times >= 1 && times <= TIMES_MAX ? times : 2;
}

/** The passes for which an ending is: `|1`, `:|2`, and of `|1,2` or `|1-3` all. Empty if a sign has none. */
function endingsOf(sign) {
  const [, first, rest = ""] = /(\d+)((?:[,.-]\d+)*)/.exec(sign) ?? [];
  const found = first ? [Number(first)] : [];
  for (const [, how, digits] of rest.matchAll(/([,.-])(\d+)/g)) {
    const to = Math.min(Number(digits), TIMES_MAX);
    for (let n = how === "-" ? found.at(-1) + 1 : to; n <= to; n += 1) found.push(n);
  }
  return found;
}

/** The passes of the ending that begins with a sign, or right after it. */
function endingsFrom(lines, { line, part }) {
  for (let i = line; i < lines.length; i += 1) {
    const { parts } = lines[i];
    for (let k = i === line ? part : 0; k < parts.length; k += 1) {
      const sign = signOf(parts[k]);
      const isFirst = i === line && k === part;
      if (sign !== "" && endingsOf(sign).length > 0) return endingsOf(sign);
      if (!isFirst && (parts[k].mark || parts[k].text.trim() !== "")) return [];
    }
  }
  return [];
}

/** The places `[from, to]` between which the lines are played, in order. A place is a line and a part of it. */
function runsOf(lines) {
  const runs = [];
  let start = { line: 0, part: 0 };
  let begin = null;
  let ending = null;
  /** The repeat whose endings are being read: where it begins, and where its first ending does. */
  let group = null;
  let passes = 1;
  for (const [line, { parts }] of lines.entries()) {
    for (const [part, each] of parts.entries()) {
      const sign = signOf(each);
      const here = { line, part };
      const isEnd = sign.startsWith(":|");
      const next = isEnd ? endingsFrom(lines, here) : [];
      // A third ending follows the second one of the same repeat.
      const goesOn = isEnd && group !== null && next[0] > 2 && !ending;
      if (goesOn) {
        for (let n = 0; n < passes; n += 1) {
          runs.push([start, here], [group.begin, group.ending]);
          start = group.second;
        }
        [start, passes] = [here, next.length];
        group.second = here;
        continue;
      }
      if (isEnd) {
        begin ??= { line, part: 0 };
        const times = passes > 1 ? passes + 1 : timesAfter(parts, part);
        for (let n = 1; n < times; n += 1) runs.push([n === 1 ? start : begin, here]);
        if (times > 1) start = begin;
        group = null;
        if (times > 1 && ending) {
          runs.push([start, ending]);
          start = here;
          group = { begin, ending, second: here };
        }
        passes = Math.max(1, next.length);
      }
      if (sign !== "" && (begin === null || sign.includes(":"))) {
        [begin, ending] = [here, null];
        if (!isEnd) group = null;
      } else if (/^\|1(?!\d)/.test(sign)) [ending, passes] = [here, endingsOf(sign).length];
    }
  }
  runs.push([start, { line: lines.length - 1, part: Infinity }]);
  return runs;
}

/** The lines of all runs. What takes no time is shown once, but a change of key or tempo comes again. */
function written(lines, runs) {
  const shown = new Set();
  return runs.flatMap(([from, to]) =>
    lines.slice(from.line, to.line + 1).flatMap((line, i) => {
      const at = from.line + i;
      if (!SOUNDING.includes(line.kind) && line.kind !== "change") {
        if (shown.has(line)) return [];
        shown.add(line);
      }
      const parts = line.parts.slice(at === from.line ? from.part : 0, at === to.line ? to.part + 1 : Infinity);
      // A bar line alone is left of a line whose end begins the next repeat.
      const isRest = parts.length < line.parts.length && parts.every((part) => signOf(part) !== "" && part.text.trim() === "");
      return isRest ? [] : [{ ...line, parts: parts.map(plainSign).filter(({ text, mark }) => mark || text !== "") }];
    }),
  );
}

/** A part without its repeat sign, and without the words that count its passes. */
function plainSign(part, i, parts) {
  const sign = signOf(part);
  const isAfterEnd = sign.startsWith(":|") || (!part.mark && i > 0 && signOf(parts[i - 1]).startsWith(":|"));
  const text = isAfterEnd ? part.text.replace(TIMES, "") : part.text;
  return { ...part, text, mark: /[:\d]/.test(sign) ? { ...part.mark, text: "|" } : part.mark };
}
