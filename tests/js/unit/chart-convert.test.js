import assert from "node:assert/strict";
import test from "node:test";
import { toChordPro } from "../../../src/web/chart/convert.js";

const convert = (format, ...lines) => toChordPro(lines.join("\n"), format).split("\n").slice(0, -1);

test("ChordPro is left alone, even its ends of lines", () => {
  for (const text of ["{t: A}\r\n[G]la", "[G]", "\uFEFF{t: A}\n\n\n"]) assert.equal(toChordPro(text), text);
});

test("OnSong: the first two lines are title and artist, and headers are directives", () => {
  assert.deepEqual(convert("onsong", "A Song", "Somebody", "Key: [G]", "Tempo: 90", "Capo: 2", "Flow: V1 C", "Book: Green", "", "Verse 1:", "[G]la"), [
    "{title: A Song}", "{artist: Somebody}", "{key: G}", "{tempo: 90}", "{capo: 2}", "{flow: V1 C}", "{meta: book Green}", "",
    "{start_of_verse: Verse 1}", "[G]la", "{end_of_verse}",
  ]);
});

test("OnSong: any short line with a colon is a head", () => {
  assert.deepEqual(convert("onsong", "Key: G", "", "Chorus x2:", "[G]la", "", "Odd Part 2:", "[C]lo", "2:", "li"), [
    "{key: G}", "", "{start_of_chorus: Chorus x2}", "[G]la", "{end_of_chorus}", "", "{start_of_odd_part: Odd Part 2}", "[C]lo", "{end_of_odd_part}",
    "", "{start_of_part: 2}", "li", "{end_of_part}",
  ]);
});

test("OnSong: a dot marks a line of chords, a star bold and a slash italic words", () => {
  assert.deepEqual(convert("onsong", "Key: G", "", "Verse:", ".G   C", " la  lo", "*loud", "/soft"), [
    "{key: G}", "", "{start_of_verse: Verse}", " [G]la  [C]lo", "<b>loud</b>", "<i>soft</i>", "{end_of_verse}",
  ]);
});

test("OnSong: directives stay", () => {
  assert.deepEqual(convert("onsong", "Key: G", "{c: a}", "", "[G]la"), ["{key: G}", "{c: a}", "", "{start_of_verse}", "[G]la", "{end_of_verse}"]);
});

test("chords over words stand before the letter below them", () => {
  assert.deepEqual(convert("over", "Verse 1", "G    Am7", "Here I am", "  C          D", "and far", "E"), [
    "{start_of_verse: Verse 1}", "[G]Here [Am7]I am", "an[C]d far      [D]", "[E]", "{end_of_verse}",
  ]);
});

test("columns count letters, not bytes: accents take none, wide letters two, tabs stop at eight", () => {
  assert.deepEqual(convert("over", "Verse 1", "G C", "e\u0301\u0301xy", "C   G", "夜の駅", "G\tC", "la\tlo", "  Am", "🎸🎸x"), [
    "{start_of_verse: Verse 1}", "[G]e\u0301\u0301x[C]y", "[C]夜の[G]駅", "[G]la      [C]lo", "🎸🎸[Am]x", "{end_of_verse}",
  ]);
});

test("lines with bar lines become grids, tablature stays", () => {
  assert.deepEqual(convert("over", "Solo:", "| G . | C |", "e|--0--|", "B|--1--|", "G C"), [
    "{start_of_solo: Solo}", "{start_of_grid}", "| G . | C |", "{end_of_grid}", "{start_of_tab}", "e|--0--|", "B|--1--|", "{end_of_tab}", "[G]  [C]", "{end_of_solo}",
  ]);
});

test("a head may have its chords beside it", () => {
  assert.deepEqual(convert("over", "Intro: G  C", "[Outro] | G |"), [
    "{start_of_intro: Intro}", "[G]   [C]", "{end_of_intro}", "", "{start_of_outro: Outro}", "{start_of_grid}", "| G |", "{end_of_grid}", "{end_of_outro}",
  ]);
});

test("signs in a line of chords are annotations, and separators vanish", () => {
  assert.deepEqual(convert("over", "Verse 1", "G - C x2 / .", "la la la"), ["{start_of_verse: Verse 1}", "[G]la l[C]a [*x2]la [/]  [.]", "{end_of_verse}"]);
});

test("words that ChordPro would read otherwise are kept as words", () => {
  assert.deepEqual(convert("over", "Verse 1", "G", "la [softly]", "#1", "{c: x}", "end \\", "C"), [
    "{start_of_verse: Verse 1}", "[G]la (softly)", " #1", "(c: x)", "end \\ ", "[C]", "{end_of_verse}",
  ]);
});

test("the first lines are the title if they stand alone", () => {
  assert.deepEqual(convert("over", "A Song", "", "G", "la"), ["{title: A Song}", "", "{start_of_verse}", "[G]la", "{end_of_verse}"]);
  assert.deepEqual(convert("words", "A Song", "by Somebody", "", "la"), ["{title: A Song}", "{artist: Somebody}", "", "{start_of_verse}", "la", "{end_of_verse}"]);
  assert.deepEqual(convert("words", "one", "two", "", "three"), ["{start_of_verse}", "one", "two", "{end_of_verse}", "", "{start_of_verse}", "three", "{end_of_verse}"]);
  assert.deepEqual(convert("words", "only"), ["{start_of_verse}", "only", "{end_of_verse}"]);
});

test("with heads an empty line ends no section", () => {
  assert.deepEqual(convert("words", "Chorus", "a", "", "b", "Verse 2:", "c"), [
    "{start_of_chorus: Chorus}", "a", "", "b", "{end_of_chorus}", "", "{start_of_verse: Verse 2}", "c", "{end_of_verse}",
  ]);
});

test("words that are also heads need a colon or brackets", () => {
  assert.deepEqual(convert("words", "Verse 1", "Break", "Hook", "[Hook]", "la"), [
    "{start_of_verse: Verse 1}", "Break", "Hook", "{end_of_verse}", "", "{start_of_hook: Hook}", "la", "{end_of_hook}",
  ]);
});

const song = (lyrics, more = "") => `<?xml version="1.0"?>\n<song>${more}<lyrics>${lyrics}</lyrics></song>`;

test("OpenSong: fields, entities and CDATA", () => {
  assert.deepEqual(convert("opensong", song("la &lt;b&gt; &#233;&#x1F3B8;", "<title>A &amp; B</title><author><![CDATA[C & D]]></author><key>G</key><capo print='true'>2</capo><tempo>slow</tempo><presentation>V C</presentation>")), [
    "{title: A & B}", "{artist: C & D}", "{key: G}", "{capo: 2}", "{flow: V C}", "", "la <b> é🎸",
  ]);
});

test("OpenSong: chord lines, words, remarks and heads", () => {
  assert.deepEqual(convert("opensong", song("[C]\n.G    Am\n Sing  along\n;softly\n[B2]\n la\n[Outro]\n.G | C\n---\n")), [
    "{start_of_chorus: Chorus}", "[G]Sing [Am] along", "{comment: softly}", "{end_of_chorus}", "", "{start_of_bridge: Bridge 2}", "la", "{end_of_bridge}",
    "", "{start_of_outro: Outro}", "{start_of_grid}", "G | C", "{end_of_grid}", "{end_of_outro}",
  ]);
});

test("OpenSong: numbered lines are verses under the same chords", () => {
  assert.deepEqual(convert("opensong", song("[V]\n.G   C\n1one  a\n2two  b\n.D\n1three\n2four")), [
    "{start_of_verse: Verse 1}", "[G]one [C] a", "[D]three", "{end_of_verse}", "", "{start_of_verse: Verse 2}", "[G]two [C] b", "[D]four", "{end_of_verse}",
  ]);
});

test("OpenSong: fillers move a chord and are not shown", () => {
  assert.deepEqual(convert("opensong", song(".G     C\n wo___nder")), ["[G]won[C]der"]);
});

test("OpenSong: broken XML is read as far as it goes", () => {
  assert.deepEqual(convert("opensong", "<song><title>A\n<lyrics>[V1]\n la &amp &bogus; &#x110000;"), [
    "{title: A}", "", "{start_of_verse: Verse 1}", "la &amp &bogus; &#x110000;", "{end_of_verse}",
  ]);
  assert.deepEqual(convert("opensong", "<song><lyrics"), [""]);
});
