import assert from "node:assert/strict";
import test from "node:test";
import { parseChart, parseSongs, splitSongs } from "../../../src/web/chart/chordpro.js";
import { toChordPro } from "../../../src/web/chart/convert.js";
import { ChartError, decode, detect } from "../../../src/web/chart/decode.js";
import { visibleText } from "../../../src/web/chart/model.js";
import { exportSetlist, importFile, insertChord, setDirective, setSectionDirective, wrapSection } from "../../../src/web/chart/write.js";
import { CHART } from "../../../src/web/texts.js";
import { makeSnapshots, readCorpus, readSnapshots } from "./make-charts.js";
import { Random } from "./random.js";

const corpus = readCorpus();
const converted = corpus.map(({ name, text }) => ({ name, text: toChordPro(text) }));

test("the corpus has 200 charts, in every format and encoding", () => {
  assert.equal(corpus.length, 200);
  assert.deepEqual(new Set(corpus.map(({ text }) => detect(text))), new Set(["chordpro", "onsong", "opensong", "over", "words"]));
  assert.deepEqual(new Set(corpus.map(({ encoding }) => encoding)), new Set(["utf-8", "utf-16le", "utf-16be", "windows-1252", undefined]));
});

test("every chart is read as before", () => {
  const [before, now] = [readSnapshots(), makeSnapshots()].map((text) => JSON.parse(text));
  for (const name of Object.keys(now)) assert.deepEqual(now[name], before[name], `${name}: see make-charts.js if this is on purpose`);
  assert.deepEqual(Object.keys(before), Object.keys(now));
});

test("converted charts are ChordPro and convert to themselves", () => {
  for (const { name, text } of converted) {
    assert.equal(toChordPro(text, "chordpro"), text);
    if (/\S/.test(text) && !/^(?:opensong|words)/.test(name)) assert.ok(["chordpro", "words"].includes(detect(text)), `${name}: ${detect(text)}`);
  }
});

// Properties

const KINDS = new Set(["words", "chords", "grid", "tab", "comment", "empty", "note", "change"]);
const MARKS = new Set(["chord", "annotation", "bar", "beat"]);
const KEYS = {
  chart: "title subtitle artist composer lyricist copyright key capo tempo time durationMs felt notation barsPerLine transpose flow meta sections problems text",
  section: "kind name times calls bars beats only source lines", line: "kind parts text style only change source", part: "mark text", markedUp: "mark spans text",
  problem: "line code text",
};
const sorted = (text) => text.split(" ").sort();
const hasKeys = (object, kind) => assert.deepEqual(Object.keys(object).sort(), sorted(KEYS[kind]));

/** Checks that a chart has the form of the model, and nothing else in it. */
function checkForm(chart) {
  hasKeys(chart, "chart");
  const lineCount = chart.text.split(/\r\n|\r|\n/).length;
  for (const section of chart.sections) {
    hasKeys(section, "section");
    assert.ok(section.calls < chart.sections.length && section.calls >= -1 && section.times >= 1);
    if (section.calls >= 0) assert.equal(chart.sections[section.calls].calls, -1);
    assert.equal(section.name === "", section.kind === "text");
    for (const line of section.lines) checkLine(line, lineCount);
  }
  for (const problem of chart.problems) {
    hasKeys(problem, "problem");
    assert.ok(problem.code in CHART.problems && problem.line >= 1 && problem.line <= lineCount);
  }
  assert.deepEqual(chart.problems.map(({ line }) => line), chart.problems.map(({ line }) => line).sort((a, b) => a - b));
}

function checkLine(line, lineCount) {
  hasKeys(line, "line");
  assert.ok(KINDS.has(line.kind) && line.source >= 1 && line.source <= lineCount);
  assert.equal(line.parts.length > 0, ["words", "chords", "grid"].includes(line.kind));
  assert.equal(line.change !== null, line.kind === "change");
  for (const part of line.parts) {
    hasKeys(part, part.spans ? "markedUp" : "part");
    assert.equal(typeof part.text, "string");
    if (part.mark) assert.ok(MARKS.has(part.mark.kind) && typeof part.mark.text === "string" && part.mark.text !== "");
    if (!part.spans) continue;
    assert.equal(part.spans.map((span) => span.text).join(""), part.text);
    for (const span of part.spans) assert.ok(Object.keys(span).every((key) => ["text", "bold", "italic"].includes(key)));
  }
  assert.equal(visibleText(line), line.parts.map((part) => part.text).join("") || line.text);
}

const SIGNS = { chord: "", annotation: "*", bar: "", beat: "" };
const withoutTags = (text) => text.replace(/<\/?[bi]>/g, "");
const normal = (text) => withoutTags(text.replace(/\[\s*(\*?)\s*([^[\]]*?)\s*\]/g, "[$1$2]"));
const written = (line) => line.parts.map(({ text, mark }) => (mark ? `[${SIGNS[mark.kind]}${mark.text}]` : "") + text).join("");

/** Checks that every line of words is the line of the file: nothing is lost, added or moved. */
function checkWords(chart) {
  const source = chart.text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/);
  for (const line of chart.sections.flatMap((section) => section.lines)) {
    const text = source[line.source - 1];
    if (text.endsWith("\\") && line.kind !== "tab") continue;
    if (line.kind === "words" || line.kind === "chords") assert.equal(normal(written(line)), normal(text));
    if (line.kind === "tab") assert.equal(line.text, text);
  }
}

/** Checks that every line of the file is shown, is a directive, or is a remark. */
function checkNothingLost(chart) {
  const shown = new Set(chart.sections.flatMap((section) => [section.source, ...section.lines.map((line) => line.source)]));
  const source = chart.text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/);
  let isJoined = false;
  let delegate = "";
  source.forEach((text, i) => {
    const start = /^\s*\{start_of_(abc|ly|svg|textblock|musicxml)\b/i.exec(text);
    if (start) delegate = start[1];
    else if (delegate !== "" && new RegExp(`end_of_${delegate}`, "i").test(text)) delegate = "";
    const isHidden = /^[\s\0-\x1F]*$|^#|^\s*\{.*(?:\}\s*|\\)$/.test(withoutTags(text)) || isJoined || delegate !== "";
    assert.ok(isHidden || shown.has(i + 1), `line ${i + 1} is lost: ${text}`);
    isJoined = text.endsWith("\\");
  });
}

function checkAll(text) {
  const songs = parseSongs(text);
  assert.ok(songs.length >= 1);
  for (const chart of songs) {
    checkForm(chart);
    checkWords(chart);
    assert.ok(text.includes(chart.text));
    assert.deepEqual(parseChart(chart.text.replace(/^/, "")).sections.length > 0, chart.sections.length > 0);
  }
  return songs;
}

test("charts of the corpus have the form of the model, and all their words", () => {
  for (const { name, text } of [...corpus, ...converted]) {
    try {
      for (const chart of checkAll(text)) checkNothingLost(chart);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    }
  }
});

test("the songs of a file and what is between them are the file", () => {
  for (const { text } of converted) {
    const slices = splitSongs(text);
    let at = 0;
    for (const { from, to, text: slice } of slices) {
      assert.ok(from >= at);
      assert.equal(text.slice(from, to), slice);
      at = to;
    }
  }
});

const PIECES = [
  "[", "]", "[G]", "[*", "[|]", "{", "}", "{sov}", "{eov}", "{soc}", "{eoc}", "{chorus}", "{sot}", "{eot}", "{sog}", "{eog}", "{c:", "{title:", "{key: ", "{new_song}", "{start_of_",
  "{end_of_abc}", "{start_of_abc}", "{transpose:", "{x_bars:", "{flow:", "label=\"", "-keys", "<b>", "</b>", "<i>", "</i>", "<", ">", "&", "\\", "#", "|", ":", ".", "~", "%", "x2",
  "\n", "\n", "\n", "\r\n", "\r", "\t", " ", " ", "G", "Am7", "H", "a", "word", "é", "夜", "ש", "🎸", "\u0301", "\uFEFF", "\uD83C", "\0", "\x1A", "Verse 1:", "Key: G", "e|--1--|", ". ", "1",
  "<song>", "<lyrics>", "</lyrics>", "&amp;", "__proto__", "constructor",
];

/** Draws texts of pieces that mean something, in an order that does not. */
function* fuzz(seed, count) {
  const random = new Random(seed);
  for (let i = 0; i < count; i += 1) yield Array.from({ length: random.int(0, 60) }, () => random.pick(PIECES)).join("");
}

test("random texts never throw, keep their words and have the form of the model", () => {
  for (const text of fuzz(1, 1500)) {
    for (const format of ["chordpro", "onsong", "opensong", "over", "words"]) {
      const chordPro = toChordPro(text, format);
      try {
        checkAll(chordPro);
        if (format !== "opensong") for (const chart of parseSongs(chordPro)) checkNothingLost(chart);
      } catch (error) {
        throw new Error(`${error.message} in ${JSON.stringify(chordPro)} of ${JSON.stringify(text)}`, { cause: error });
      }
    }
    detect(text);
  }
});

test("random bytes are refused or read, and never throw anything else", () => {
  const random = new Random(2);
  const starts = [[], [0xff, 0xfe], [0xfe, 0xff], [0xef, 0xbb, 0xbf], [0x50, 0x4b, 3, 4], [0x42, 0x4d]];
  for (let i = 0; i < 1000; i += 1) {
    const lowest = random.pick([0, 9, 32, 0x80]);
    const bytes = Uint8Array.from([...random.pick(starts), ...Array.from({ length: random.int(0, 200) }, () => random.int(lowest, 255))]);
    try {
      const { text } = decode(bytes, "x.cho");
      checkAll(toChordPro(text));
    } catch (error) {
      if (!(error instanceof ChartError)) throw error;
      assert.ok(error.code in CHART.refused);
    }
  }
});

test("random edits never throw, and change what they are about alone", () => {
  const random = new Random(3);
  const texts = [...converted.map(({ text }) => text), ...fuzz(4, 500)];
  for (const text of texts) {
    const at = random.int(0, text.length);
    const { text: chorded } = insertChord(text, at, "Am");
    assert.ok(chorded === text || chorded.includes("[Am]"));
    const to = random.int(0, text.length);
    const { text: wrapped, from: start, to: end } = wrapSection(text, at, to, "chorus");
    const newLine = /\r\n|\r|\n/.exec(text)?.[0] ?? "\n";
    const head = `{start_of_chorus}${newLine}`;
    const tail = `${newLine}{end_of_chorus}`;
    const [before, selected, after] = [wrapped.slice(0, start), wrapped.slice(start, end), wrapped.slice(end)];
    assert.ok(before.endsWith(head) && after.startsWith(tail));
    assert.equal(before.slice(0, -head.length) + selected + after.slice(tail.length), text);
    for (const [name, value] of [["key", "D"], ["title", "New"], ["x_bars_per_line", "3"]]) {
      setDirective(setDirective(text, name, value), name, null);
    }
    const { sections } = parseChart(text);
    if (sections.length > 0) setSectionDirective(text, random.pick(sections), "x_bars", "2");
  }
});

test("edits of the corpus take effect, and touch one line", () => {
  for (const { name, text } of converted.filter(({ name }) => !/damaged|delegates|joins|broken|injection/.test(name))) {
    for (const [directive, value, read] of [["key", "D", (c) => c.key], ["title", "New", (c) => c.title], ["tempo", "77", (c) => String(c.tempo)], ["x_bars_per_line", "3", (c) => String(c.barsPerLine)]]) {
      const edited = setDirective(text, directive, value);
      assert.equal(read(parseChart(edited)), value, `${name} ${directive}`);
      const [before, after] = [text, edited].map((whole) => whole.split(/\r\n|\r|\n/));
      const kept = after.filter((line) => before.includes(line)).length;
      assert.ok(after.length - kept <= 1 && after.length - before.length <= 1, `${name} ${directive}`);
    }
    const { sections } = parseChart(text);
    sections.forEach((section, i) => {
      const edited = setSectionDirective(text, section, "x_beats", "5 7");
      assert.deepEqual(parseChart(edited).sections[i].beats, [5, 7], `${name} section ${i}`);
      assert.equal(parseChart(edited).sections.length, sections.length);
    });
  }
});

test("the corpus as one set list comes back to the letter", () => {
  const songs = corpus.map(({ text }) => ({ title: parseChart(text).title, body: text }));
  const list = { title: "All of them", songs };
  assert.deepEqual(importFile(exportSetlist(list)), list);
});

// Chords over words

test("chords over words come to stand over the same letters", () => {
  const random = new Random(5);
  const names = ["C", "G", "Am", "F#m7", "Bb", "Dsus4"];
  for (let i = 0; i < 500; i += 1) {
    const words = `w${Array.from({ length: random.int(5, 30) }, () => random.pick("abcdefgh ij klmn op".split(""))).join("")}q`;
    const chords = [];
    for (let at = random.int(0, 4); at < words.length + 8; at += random.int(8, 12)) chords.push({ at, name: random.pick(names) });
    const above = chords.reduce((line, { at, name }) => `${line.padEnd(at)}${name}`, "");
    const chart = parseChart(toChordPro(`Verse 1\n${above}\n${words}\n`, "over"));
    const { parts } = chart.sections[0].lines[0];
    let column = 0;
    const found = [];
    for (const { text, mark } of parts) {
      if (mark) found.push({ at: column, name: mark.text });
      column += text.length;
    }
    assert.deepEqual(found, chords);
    assert.equal(visibleText(chart.sections[0].lines[0]).trimEnd(), words);
  }
});

// Work

const SIZES = [4 * 1024, 32 * 1024];
const filled = (piece, size) => piece.repeat(Math.ceil(size / piece.length)).slice(0, size);

/** CPU time of this process for one call, in ms. */
function cost(run) {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** The least of several costs, because others use the machine too. */
const least = (times, run) => Math.min(...Array.from({ length: times }, () => cost(run)));

for (const piece of [
  "[", "]", "[]", "[G", "[G]", "[[G]", "{", "}", "{}", "{a}", "{a", "<b>", "</b>", "<b></b>", "<", "\\", "\\\n", "a\\\n", " ", "\t", "\n", "\r", "#\n", "a", "G ", "G\n", "x2 ", "x2", "(", ", ",
  "{chorus}\n", "{soc}{chorus}\n", "{start_of_abc}\n", "{end_of_abc}\n", "{sov}\n", "{sov}{eov}\n", "{sot}\n", "{transpose: 1}\n", "{ns}\n", "{c: x}\n", "{label=\"", " a='", "|", "| G ", "||:", "%", "~", ":|", "1",
  "Verse 1:\n", "Verse ", "Key: G\n", "Key: G", "e|--\n", "-", "e|-", "<song>", "<song><lyrics>", "<lyrics>", "<title", "<title>", "<!--", "&#1", "&amp", ".G\n", ".G\n la\n", "1a\n", "_", "mi", "maj", "#b", "G/G/",
  "\uFEFF", "\u0301", "{flow: a", "a,", "{x_song: songs=\"", "{x_bars: 1 ", "{meta: a b}\n", "{artist: a}\n", "[V]\n", "{title: a}\n",
]) {
  test(`work grows with the length of ${JSON.stringify(piece)} repeated, not with its square`, () => {
    for (const [frame, run] of [
      [(x) => x, importFile], [(x) => x, (text) => toChordPro(text, "over")], [(x) => x, (text) => toChordPro(text, "onsong")], [(x) => `{sog}\n${x}`, parseSongs], [(x) => `{sov: ${x}}`, parseSongs],
      [(x) => `<song><lyrics>${x}`, (text) => toChordPro(text, "opensong")],
    ]) {
      const [small, large] = SIZES.map((size) => frame(filled(piece, size)));
      // Eight times the text: linear work is 8, square is 64. A few milliseconds prove nothing, and harm nobody.
      const first = cost(() => run(large));
      if (first < 100) continue;
      const [much, little] = [least(3, () => run(large)), least(20, () => run(small))];
      assert.ok(much < 32 * little, `${JSON.stringify(large.slice(0, 40))}: ${little} ms, ${much} ms`);
    }
  });
}
