// Repeat signs of bar lines: the chart is written out as it is played.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSongs } from "../../../src/web/chart/chordpro.js";
import { toChordPro } from "../../../src/web/chart/convert.js";
import { songMap } from "../../../src/web/chart/map.js";
import { readSong, unfold } from "../../../src/web/chart/unfold.js";
import { readCorpus } from "./make-charts.js";
import { Random } from "./random.js";

/** Chords and bar lines of each line, as they are played. */
const lines = (text) =>
  readSong(text).chart.sections.flatMap((section) =>
    section.lines.flatMap(({ kind, parts, text: words }) =>
      kind === "comment" ? [`(${words})`] : parts.length > 0 ? [parts.map((part) => part.mark?.text ?? part.text.trim()).join(" ").trim()] : [],
    ),
  );
const bars = (text) => readSong(text).map.beats / 4;
const grid = (...rows) => `{start_of_grid}\n${rows.join("\n")}\n{end_of_grid}\n`;

test("a repeated line is played twice, or as often as it says", () => {
  assert.deepEqual(lines(grid("|: G . . . | C . . . :|")), ["| G . . . | C . . . |", "| G . . . | C . . . |"]);
  assert.equal(bars(grid("|: G . . . | C . . . :|")), 4);
  assert.equal(bars(grid("|: G . . . | C . . . :| x4")), 8);
  assert.equal(bars(grid("|: G . . . | C . . . :| 3x")), 6);
  assert.equal(bars(grid("|: G . . . | C . . . :| x1")), 2);
  assert.ok(lines(grid("|: G | C :| x4")).every((line) => !line.includes("x4")), "what counts the passes is gone");
});

test("a repeat may go over several lines, and begin or end within one", () => {
  assert.deepEqual(lines(grid("|: G | C |", "| D | E :|")), ["| G | C |", "| D | E |", "| G | C |", "| D | E |"]);
  assert.deepEqual(lines(grid("| A |: B | C :| D |")), ["| A | B | C |", "| B | C | D |"]);
  assert.equal(bars(grid("| A |: B | C :| D |")), 6);
});

test("a repeat without a beginning goes back to the last one's end, or to the first bar", () => {
  assert.deepEqual(lines(grid("| A | B :|", "| C | D :|")), ["| A | B |", "| A | B |", "| C | D |", "| C | D |"]);
  assert.equal(bars(grid("| A | B :|", "| C | D :|")), 8);
  assert.equal(bars(grid("|: A | B :|: C | D :|")), 8);
  assert.equal(bars("[A]la [:|]"), bars("[A]la [|]") * 2);
});

test("a first ending is left out in the second pass", () => {
  assert.equal(bars(grid("|: A | B |1 C :|2 D | E |")), 3 + 2 + 2);
  const played = lines(grid("|: A | B |1 C :|2 D | E |")).join(" ").replace(/[|.\s]+/g, "");
  assert.equal(played, "ABCABDE");
});

test("each pass has its own ending, whatever their number", () => {
  const played = (...rows) => lines(grid(...rows)).join(" ").replace(/[|.\s]+/g, "");
  assert.equal(played("|: A |1 B :|2 C :|3 D | E |"), "ABACADE");
  assert.equal(played("|: A |1 B :|2 C :|3 D :|4 E |"), "ABACADAE");
  assert.equal(played("|: A |1 B :| |2 C :| |3 D | E |"), "ABACADE");
  assert.equal(played("|: A |1 B :|", "|2 C :|", "|3 D | E |"), "ABACADE");
  assert.equal(played("|: A |1,2 B :|3 C | D |"), "ABABACD");
  assert.equal(played("|: A |1-3 B :|4 C |"), "ABABABAC");
  assert.equal(played("|: A |1. B :|2,3 C :|4. D |"), "ABACACAD");
  assert.equal(played("|: A |1 B :|2 C |: D |1 E :|2 F |"), "ABACDEDF", "the next repeat has endings of its own");
  assert.equal(bars(grid("|: A |1 B :|2 C :|3 D | E |")), 7);
});

test("comments come once, and a change of key comes again", () => {
  const text = "{start_of_verse}\n[|:][A]one [|]\n{c: soft}\n{key: B}\n[B]two [:|]\n{end_of_verse}";
  const { chart } = readSong(text);
  const kinds = chart.sections[0].lines.map(({ kind }) => kind);
  assert.deepEqual(kinds, ["words", "comment", "change", "words", "words", "change", "words"]);
});

test("a chart without repeat signs stays as it is, and every chart of the corpus keeps its maps whole", () => {
  for (const { name, text } of readCorpus()) {
    for (const chart of parseSongs(toChordPro(text))) {
      const before = chart.sections.map((section) => section.lines);
      const signs = chart.sections.map(({ lines: all }) => all.some(({ parts }) => parts.some(({ mark }) => mark?.kind === "bar" && mark.text.startsWith(":|"))));
      unfold(chart);
      chart.sections.forEach((section, i) => signs[i] || assert.equal(section.lines, before[i], name));
      const map = songMap(chart);
      for (const { section, line } of map.lines) assert.ok(chart.sections[section].lines[line], name);
    }
  }
});

test("no signs in any order break the reading, and songs stay short", () => {
  const random = new Random(20);
  const tokens = ["|", "|:", ":|", ":|:", "|1", ":|2", "||", "G", "C", ".", "x3", "\n", "\n"];
  for (let i = 0; i < 2000; i += 1) {
    const text = grid(Array.from({ length: random.int(1, 30) }, () => random.pick(tokens)).join(" "));
    const { chart, map } = readSong(text);
    for (const { section, line, chords } of map.lines) {
      const { parts } = chart.sections[section].lines[line];
      assert.equal(chords.length, parts.filter(({ mark }) => mark?.kind === "chord").length, text);
    }
  }
  const endless = grid(...Array.from({ length: 3000 }, () => "|: G :| x32"));
  assert.ok(readSong(endless).chart.sections[0].lines.length <= 5000);
});
