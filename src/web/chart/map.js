// The song map: at which beat each line begins, and what the server needs to know of a chart.
//
// Four rules say how long a line is; the first that applies decides: bar lines in the line itself, `x_bars` or
// `x_beats` of its section, the duration of the song shared out by the weight of lines, and a number of bars per line.
// Lengths by the last two are guessed. Everything is bounded, and depends on the chart alone, so all devices agree.

import { courseOf, holdAfter, holdAtStart, holdsOf, sounds } from "./course.js";
import { soundingKey } from "./chord.js";

/** Maximum number of beats. Specified for beats that the protocol names. */
export const BEATS_MAX = 576_000;
/** Maximum number of lines in playing order. Guessed: 64 KiB of text has fewer that carry words. */
export const LINES_MAX = 20_000;
/** Maximum number of meter entries. Specified by the protocol. */
export const METERS_MAX = 64;
/** Tempo without a `{tempo}`. Specified. */
const DEFAULT_TEMPO = 100;
/** Highest tempo that counts dotted beats in 6/8, 9/8 and 12/8. Specified. */
const DOTTED_MAX = 120;
/** Range of the server's tempos, in BPM. */
const [TEMPO_MIN, TEMPO_MAX] = [1, 400];
const BARS_PER_LINE = 2;
const BARS_PER_LINE_MAX = 64;

/**
 * A song in beats.
 *
 * @typedef {object} SongMap
 * @property {number} beats the beat at which the song ends
 * @property {{ beat: number, num: number, den: number }[]} meter
 * @property {{ beat: number, bpm: number }[]} tempos in the server's BPM: eighths in 6/8
 * @property {boolean} guessed whether any line's length is guessed
 * @property {boolean} tempoGuessed whether the song begins without a known tempo
 * @property {1 | 3} felt beats of the server in one beat that musicians feel, where the song begins
 * @property {{ beat: number, felt: 1 | 3 }[]} felts the same along the song
 * @property {Pass[]} passes in playing order
 * @property {MapLine[]} lines in playing order, without gaps
 * @property {{ pass: number, text: string }[]} comments words of `flow` that name no section, before a pass
 * @property {boolean} cut whether the song was longer than a map may be
 */

/**
 * A section that is played.
 *
 * @typedef {object} Pass
 * @property {number} section index of the section that has the lines
 * @property {number} place index of the section that names it: a call such as `{chorus}`, or `section` itself
 * @property {string} name
 * @property {number} from
 * @property {number} to
 * @property {number} pass from 1
 * @property {number} of how often the section is played in all
 */

/**
 * A line that sounds. All strings of a tab are one line: `rows` says of how many lines of the section it consists.
 *
 * @typedef {object} MapLine
 * @property {number} pass index into `passes`
 * @property {number} section
 * @property {number} line index into the section's lines, of the first one of a tab
 * @property {number} rows
 * @property {number} from
 * @property {number} to
 * @property {number[]} chords the beat of each chord mark
 * @property {1 | 2 | 3 | 4} rule that decided the length; 3 and 4 guess
 */

/**
 * Maps a chart to beats.
 *
 * @param {object} chart
 * @param {{ barsPerLine?: number }} [options] in place of the chart's number
 * @returns {SongMap}
 */
export function songMap(chart, { barsPerLine } = {}) {
  const { order, comments, cut: wasCut } = courseOf(chart);
  const entries = holdsOf(chart);
  const unitsBySection = new Map();
  const unitsOf = (index) => {
    if (!unitsBySection.has(index)) unitsBySection.set(index, soundingUnits(chart.sections[index]));
    return unitsBySection.get(index);
  };

  const all = [];
  let isFull = false;
  for (let pass = 0; pass < order.length && !isFull; pass += 1) {
    const { section, place } = order[pass];
    const { lines } = chart.sections[section];
    let hold = entries[place];
    let at = 0;
    for (const unit of unitsOf(section)) {
      for (; at <= unit.line; at += 1) hold = holdAfter(hold, lines[at]);
      isFull = all.length >= LINES_MAX;
      if (isFull) break;
      const [num, bpm] = [hold.time.num, bpmOf(hold, chart.felt)];
      all.push({ unit, pass, section, hold, bpm, ...lengthByText(unit, chart.sections[section], num) });
    }
  }
  shareDuration(all, chart);
  guessRest(all, barsPerLine ?? chart.barsPerLine);
  const begun = all[0]?.hold ?? holdAtStart(chart);

  const map = {
    beats: 0,
    meter: [],
    tempos: [],
    guessed: false,
    tempoGuessed: begun.tempo === null,
    felt: 1,
    felts: [],
    passes: [],
    lines: [],
    comments: [],
    cut: wasCut || isFull,
  };
  const plays = new Map();
  const passAt = new Map();
  for (const { unit, pass, section, hold, bpm, beats: wanted, rule, isPickup } of all) {
    const from = map.beats;
    const beats = from === 0 ? Math.min(wanted, BEATS_MAX) : wanted;
    if (from + beats > BEATS_MAX) {
      map.cut = true;
      break;
    }
    if (!passAt.has(pass)) {
      const nth = (plays.get(section) ?? 0) + 1;
      plays.set(section, nth);
      passAt.set(pass, map.passes.length);
      map.passes.push({ section, place: order[pass].place, name: order[pass].name, from, to: from, pass: nth, of: nth });
    }
    const to = from + beats;
    addMeter(map, from, to, hold.time, isPickup && from === 0);
    addChange(map.tempos, "bpm", from, bpm);
    addChange(map.felts, "felt", from, feltIn(hold.time, chart.felt));
    const index = passAt.get(pass);
    map.lines.push({
      pass: index,
      section,
      line: unit.line,
      rows: unit.rows,
      from,
      to,
      chords: chordBeats(unit, from, beats, hold.time.num, rule),
      rule,
    });
    map.guessed ||= rule > 2;
    map.passes[index].to = to;
    map.beats = to;
  }
  for (const pass of map.passes) pass.of = plays.get(pass.section);
  for (const { before, text } of comments) map.comments.push({ pass: passFrom(passAt, before, order.length, map), text });

  if (map.meter.length === 0) {
    map.meter.push({ beat: 0, num: begun.time.num, den: begun.time.den });
    map.tempos.push({ beat: 0, bpm: bpmOf(begun, chart.felt) });
    map.felts.push({ beat: 0, felt: feltIn(begun.time, chart.felt) });
  }
  map.felt = map.felts[0].felt;
  return map;
}

/** The index of the line that sounds at a beat: the first before the song, the last after it; -1 if there is none. */
export function lineAt(map, songBeat) {
  let [low, high] = [0, map.lines.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (map.lines[middle].from <= songBeat) low = middle;
    else high = middle - 1;
  }
  return high < 0 ? -1 : low;
}

/** Beats of the server in one beat that musicians feel, at a song beat: 3 where dotted beats are felt, otherwise 1. */
export const feltAt = (map, songBeat) => (map.felts.findLast(({ beat }) => beat <= songBeat) ?? map.felts[0]).felt;

/** The fields of a server's song that follow from a chart. */
export function songFields(chart, map) {
  const fields = { title: cutTo(chart.title ?? "", 200) };
  const key = soundingKey(chart).text;
  const [{ num, den }] = map.meter.slice(isPickup(map) ? 1 : 0);
  if (chart.artist) fields.artist = cutTo(chart.artist, 200);
  if (key) fields.key = cutTo(key, 16);
  fields.tempoBpm = map.tempos[0].bpm;
  fields.timeSignature = { numerator: num, denominator: den };
  if (chart.durationMs > 0) fields.durationMs = Math.min(Math.round(chart.durationMs), 86_400_000);
  fields.meter = map.meter.map(({ beat, num: n, den: d }) => ({ beat, num: n, den: d }));
  if (map.beats > 0) fields.endBeat = map.beats;
  return fields;
}

/** Whether the song begins with a short bar. */
const isPickup = ({ meter: [first, next] }) =>
  next !== undefined && next.beat === first.num && first.num < next.num && first.den === next.den;

/** Beats of a meter that are felt as one, in a chart with this `felt`. */
export const feltIn = (time, felt) => (isCompound(time, felt) && felt !== 1 ? 3 : 1);

const isCompound = ({ num, den }, felt) => (den === 8 && [6, 9, 12].includes(num)) || (felt === 3 && num % 3 === 0);

/** The server's tempo: beats of the meter in a minute. A tempo that was written for another meter is converted. */
function bpmOf({ tempo, tempoTime, time }, felt) {
  const written = tempo ?? DEFAULT_TEMPO;
  const from = tempoTime ?? time;
  const isDotted = felt === 3 || (felt !== 1 && written <= DOTTED_MAX);
  let bpm;
  if (isCompound(time, felt) && isDotted) bpm = 3 * written;
  else if (isCompound(from, felt) && isDotted) bpm = time.den === 8 ? 3 * written : (written * time.den) / 4;
  else bpm = (written * time.den) / from.den;
  return Math.max(TEMPO_MIN, Math.min(TEMPO_MAX, Math.round(1000 * bpm) / 1000));
}

function passFrom(passAt, before, count, map) {
  for (let pass = before; pass < count; pass += 1) if (passAt.has(pass)) return passAt.get(pass);
  return map.passes.length;
}

/** Adds a meter where it changes. Beyond the last entry that the protocol allows, bars are counted on. */
function addMeter(map, from, to, { num, den }, isPickupLine) {
  const { meter } = map;
  const isLike = (entry) => entry?.num === num && entry.den === den;
  if (isPickupLine) {
    meter.push({ beat: 0, num: to, den }, { beat: to, num, den });
    return;
  }
  if (isLike(meter.at(-1))) return;
  if (meter.at(-1)?.beat === from) meter.pop();
  if (isLike(meter.at(-1))) return;
  if (meter.length >= METERS_MAX) map.cut = true;
  else meter.push({ beat: from, num, den });
}

function addChange(list, name, beat, value) {
  if (list.at(-1)?.[name] !== value) list.push({ beat, [name]: value });
}

/** The lines of a section that take time. Adjacent lines of a tab are one. */
function soundingUnits(section) {
  const units = [];
  const { lines } = section;
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i];
    if (!sounds(line)) continue;
    if (line.kind !== "tab") {
      const bars = barsIn(line);
      const chords = line.parts.filter(isChord).length;
      units.push({ line: i, rows: 1, kind: line.kind, bars, chords, weight: weightOf(line, chords) });
      continue;
    }
    const end = endOfTab(lines, i);
    const count = Math.max(...lines.slice(i, end).map(({ text }) => tabBars(text)));
    units.push({ line: i, rows: end - i, kind: "tab", bars: new Array(count).fill(null), chords: 0, weight: BARS_PER_LINE });
    i = end - 1;
  }
  units.forEach((unit, nth) => {
    unit.nth = nth;
  });
  return units;
}

const isChord = ({ mark }) => mark?.kind === "chord";
const isBar = ({ mark }) => mark?.kind === "bar";

/**
 * The bars of a line with bar lines, each as the marks in it: `{ isChord, joined }`. Words before the first bar line
 * are a pickup, which sounds in the bar before.
 */
function barsIn(line) {
  if (!line.parts.some(isBar)) return [];
  const bars = [{ marks: [], hasText: false, isFirst: true }];
  for (const part of line.parts) {
    const { mark, text } = part;
    if (mark?.kind === "bar") bars.push({ marks: [], hasText: false, isFirst: false });
    else if (mark) bars.at(-1).marks.push({ isChord: mark.kind === "chord", isNote: mark.kind === "annotation", joined: mark.joined === true });
    if (text.trim() !== "") bars.at(-1).hasText = true;
  }
  bars.forEach((bar, i) => {
    bar.isLast = i === bars.length - 1;
  });
  const isOutside = ({ isFirst, isLast }) => isFirst || (isLast && line.kind === "grid");
  const filled = bars.filter((bar) =>
    isOutside(bar) ? bar.marks.some(({ isNote }) => !isNote) : bar.hasText || bar.marks.length > 0,
  );
  const cells = filled.map(({ marks }) => marks.filter(({ isNote }) => !isNote || line.kind === "grid"));
  return cells.length > 0 ? cells : [[]];
}

/** Where a tab ends: at a line of another kind, or where the first string's name comes again. */
function endOfTab(lines, first) {
  const nameOf = (i) => (lines[i]?.kind === "tab" ? (/^\s*([A-Ga-g][#b♯♭]?)\s*\|/.exec(lines[i].text)?.[1] ?? null) : null);
  let end = first + 1;
  for (; end < lines.length && lines[end].kind === "tab" && sounds(lines[end]); end += 1) {
    const isAgain = nameOf(end) !== null && nameOf(end) === nameOf(first) && nameOf(end + 1) === nameOf(first + 1);
    if (end - first >= 4 && isAgain) break;
  }
  return end;
}

/** Bars of one string of a tab: the dashed parts between bar lines; 0 if it has no bar lines. */
function tabBars(text) {
  if (!text.includes("|")) return 0;
  return text.split("|").filter((part) => /[-–—_]/.test(part)).length;
}

/** Weight of a line when the duration of a song is shared out: its chords, else a quarter of its syllables. */
const weightOf = (line, chords) => (chords > 0 ? chords : Math.max(0.25, syllables(textOf(line)) / 4));

/** The words of a line. */
export const textOf = ({ parts, text }) => (parts?.length > 0 ? parts.map((part) => part.text).join("") : (text ?? ""));

/**
 * About how many syllables a text has: groups of vowels, or signs that are syllables themselves. In scripts that leave
 * vowels out, two and a half letters are taken for one syllable.
 */
export function syllables(text) {
  let count = 0;
  for (const [word] of text.normalize("NFD").replace(/\p{M}/gu, "").normalize("NFC").matchAll(/[\p{L}\p{N}'’]+/gu)) {
    const signs = word.match(/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/gu)?.length ?? 0;
    const vowels = word.match(/[aeiouyæøœıаеёиоуыэюяіїєαεηιουω]+/giu)?.length ?? 0;
    count += Math.max(1, signs + vowels || Math.round(word.length / 2.5));
  }
  return count;
}

/** Length of a line by its own bar lines or by the numbers of its section. `rule` is 0 if neither says it. */
function lengthByText(unit, section, num) {
  const own = unit.bars.length;
  if (own > 0) return { beats: own * num, rule: 1, isPickup: false };
  const nth = (list) => list?.[Math.min(unit.nth, list.length - 1)];
  const beats = nth(section.beats);
  if (Number.isFinite(beats)) {
    const whole = atLeastOne(beats);
    return { beats: whole, rule: 2, isPickup: whole < num };
  }
  const bars = nth(section.bars);
  if (Number.isFinite(bars)) return { beats: atLeastOne(bars * num), rule: 2, isPickup: false };
  return { beats: 0, rule: 0, isPickup: false };
}

const atLeastOne = (beats) => Math.max(1, Math.min(BEATS_MAX, Math.round(beats)));

/** Shares the song's duration out over lines without a length, in whole bars by weight, at least one each. */
function shareDuration(all, chart) {
  const open = all.filter(({ rule }) => rule === 0);
  if (open.length === 0 || !(chart.durationMs > 0) || all[0].hold.tempo === null) return;
  const minutes = chart.durationMs / 60_000;
  const used = all.reduce((sum, { beats, bpm }) => sum + beats / bpm, 0);
  const weight = open.reduce((sum, { unit }) => sum + unit.weight, 0);
  const bar = open.reduce((sum, { unit, hold, bpm }) => sum + (unit.weight * hold.time.num) / bpm, 0) / weight;
  const bars = Math.min(BEATS_MAX, Math.round((minutes - used) / bar));
  const shares = share(bars, open.map(({ unit }) => unit.weight));
  open.forEach((line, i) => {
    line.beats = shares[i] * line.hold.time.num;
    line.rule = 3;
  });
}

/**
 * Shares a whole number out by weight into whole numbers of at least one; the largest remainders are rounded up. If
 * there are more shares than units, each gets one.
 *
 * @returns {number[]}
 */
export function share(total, weights) {
  const shares = new Array(weights.length).fill(1);
  let open = weights.map((_, i) => i);
  let rest = total;
  for (;;) {
    const sum = open.reduce((all, i) => all + weights[i], 0);
    const small = new Set(open.filter((i) => weights[i] * rest < sum));
    if (small.size === 0) break;
    rest -= small.size;
    open = open.filter((i) => !small.has(i));
    if (open.length === 0 || rest <= open.length) return shares;
  }
  if (open.length === 0) return shares;
  const sum = open.reduce((all, i) => all + weights[i], 0);
  const exact = open.map((i) => ({ i, quota: (weights[i] * rest) / sum }));
  for (const { i, quota } of exact) shares[i] = Math.floor(quota);
  let left = rest - exact.reduce((all, { i }) => all + shares[i], 0);
  // Of equal remainders the first: the sort keeps their order.
  exact.sort((a, b) => b.quota - Math.floor(b.quota) - (a.quota - Math.floor(a.quota)));
  for (const { i } of exact) {
    if (left <= 0) break;
    shares[i] += 1;
    left -= 1;
  }
  return shares;
}

/** Gives the remaining lines a number of bars; a line of chords alone one bar for each. */
function guessRest(all, barsPerLine) {
  const isNumber = Number.isFinite(barsPerLine) && barsPerLine > 0;
  const bars = isNumber ? Math.max(1, Math.min(BARS_PER_LINE_MAX, Math.round(barsPerLine))) : BARS_PER_LINE;
  for (const line of all) {
    if (line.rule !== 0) continue;
    const { kind, chords } = line.unit;
    const isChords = kind === "chords" || kind === "grid";
    line.beats = (isChords ? Math.max(1, chords) : bars) * line.hold.time.num;
    line.rule = 4;
  }
}

/** The beats of a line's chords: in a bar by its cells, otherwise evenly, on whole beats if there are enough. */
function chordBeats(unit, from, beats, num, rule) {
  if (rule !== 1 || unit.kind === "tab") return spread(unit.chords, from, beats);
  const found = [];
  unit.bars.forEach((marks, bar) => {
    const cells = [];
    for (const mark of marks) {
      if (mark.joined && cells.length > 0) cells.at(-1).push(mark);
      else cells.push([mark]);
    }
    const starts = spread(cells.length, from + bar * num, num);
    cells.forEach((cell, i) => {
      const end = starts[i + 1] ?? from + (bar + 1) * num;
      cell.forEach((mark, k) => {
        if (mark.isChord) found.push(starts[i] + (k * (end - starts[i])) / cell.length);
      });
    });
  });
  return found;
}

function spread(count, from, beats) {
  const isWhole = count <= beats;
  return Array.from({ length: count }, (_, i) => from + (isWhole ? Math.round((i * beats) / count) : (i * beats) / count));
}

const cutTo = (text, length) => [...text].slice(0, length).join("");
