import assert from "node:assert/strict";
import test from "node:test";
import { parseChart, parseSongs, readTimes } from "../../../src/web/chart/chordpro.js";
import { playedLines, visibleText } from "../../../src/web/chart/model.js";
import { CHART, fill } from "../../../src/web/texts.js";
import { brief } from "./chart-brief.js";

/** The short form of a text's first song, without its sections' lines of source. */
const read = (...lines) => brief(parseChart(lines.join("\n"))).map((line) => line.replace(/^\d+ /, ""));
const fields = (...lines) => parseChart(lines.join("\n"));
const names = (...lines) => parseChart(lines.join("\n")).sections.map((section) => section.name);
const problems = (...lines) => parseChart(lines.join("\n")).problems.map(({ line, code, text }) => `${line} ${code} ${text}`);

test("an empty text is one song without sections", () => {
  const [chart, ...others] = parseSongs("");
  assert.deepEqual(others, []);
  assert.deepEqual({ ...chart, meta: { ...chart.meta } }, {
    title: "", subtitle: "", artist: "", composer: "", lyricist: "", copyright: "", key: "", capo: 0, tempo: null, time: null,
    durationMs: null, felt: null, notation: "letters", barsPerLine: null, transpose: 0, flow: null, meta: {}, sections: [],
    problems: [], text: "",
  });
});

test("song fields are read in both spellings", () => {
  const long = fields("{title: A}", "{subtitle: B}", "{artist: C}", "{key: Em}", "{tempo: 90}", "{time: 6/8}", "{capo: 3}");
  const short = fields("{t:A}", "{st:B}", "{meta: artist C}", "{meta: key Em}", "{Tempo 90}", "{ TIME : 6/8 }", "{capo 3rd}");
  for (const chart of [long, short]) {
    const { title, subtitle, artist, key, tempo, time, capo } = chart;
    assert.deepEqual([title, subtitle, artist, key, tempo, time, capo], ["A", "B", "C", "Em", 90, { num: 6, den: 8 }, 3]);
  }
});

test("the first title counts, and all artists", () => {
  const { title, artist } = fields("{title: A}", "{title: B}", "{artist: C}", "{artist: D}");
  assert.deepEqual([title, artist], ["A", "C, D"]);
});

test("other metadata keeps its names, even odd ones", () => {
  const { meta } = fields("{album: A}", "{meta: __proto__ B}", "{meta: tag C}", "{meta: tag D}");
  assert.deepEqual(Object.entries(meta), [["album", "A"], ["__proto__", "B"], ["tag", "C; D"]]);
});

for (const [text, ms] of [["3:40", 220_000], ["215", 215_000], ["1:00:01", 3_601_000], ["0", null], ["soon", null], ["1:2:3:4", null]]) {
  test(`a duration of ${text} is ${ms} ms`, () => assert.equal(fields(`{duration: ${text}}`).durationMs, ms));
}

for (const [text, time] of [["4/4", [4, 4]], ["12/8", [12, 8]], ["6/8 swing", [6, 8]], ["C", [4, 4]], ["C|", [2, 2]], ["3", null], ["4/3", null], ["33/4", null]]) {
  test(`a time of ${text} is ${time}`, () => {
    const read = fields(`{time: ${text}}`).time;
    assert.deepEqual(read && [read.num, read.den], time);
  });
}

test("a value that can't be used is reported, and has no effect", () => {
  const chart = fields("{tempo: 401}", "{tempo: fast}", "{capo: x}", "{x_felt: 2}", "{x_bars: 0}", "[G]la");
  assert.deepEqual(chart.problems.map(({ line, code }) => [line, code]), [1, 2, 3, 4, 5].map((line) => [line, "value"]));
  assert.deepEqual([chart.tempo, chart.capo, chart.felt, chart.sections[0].bars], [null, 0, null, null]);
});

test("sections have their kind and label", () => {
  assert.deepEqual(
    read("{start_of_verse: One}", "{eov}", "{soc label=\"Two\"}", "{end_of_chorus}", "{start_of_bridge: label='Three'}", "{eob}", "{start_of_solo}", "{end_of_solo}"),
    ["# verse “One”", "# chorus “Two”", "# bridge “Three”", "# solo “Solo”"],
  );
});

test("sections without a label are numbered", () => {
  assert.deepEqual(names("{sov}", "{eov}", "{soc}", "{eoc}", "{sov}", "{eov}"), ["Verse 1", "Chorus", "Verse 2"]);
  assert.deepEqual(names("{soc}", "{eoc}", "{soc}", "{eoc}"), ["Chorus 1", "Chorus 2"]);
  assert.deepEqual(names("{sov: Verse 1}", "{eov}", "{sov}", "{eov}"), ["Verse 1", "Verse 2"]);
  assert.deepEqual(names("{sov}", "{eov}", "{sov: Verse 2}", "{eov}", "{sov}", "{eov}"), ["Verse 1", "Verse 2", "Verse 3"]);
});

test("text outside of sections is a section without a name", () => {
  assert.deepEqual(read("a", "", "b", "", "{sov}", "c", "{eov}", "", "d"), [
    "# text “”", "words: a", "empty: ", "words: b", "# verse “Verse 1”", "words: c", "# text “”", "words: d",
  ]);
});

for (const [label, name, times] of [
  ["Chorus x2", "Chorus", 2], ["Chorus (x3)", "Chorus", 3], ["Chorus 2x", "Chorus", 2], ["Chorus, ×4", "Chorus", 4], ["x2", "", 2],
  ["Chorus", "Chorus", 1], ["Appendix 2", "Appendix 2", 1], ["Chorus x0", "Chorus x0", 1], ["Chorus x99", "Chorus x99", 1], ["Max 2x4", "Max 2x4", 1],
]) {
  test(`“${label}” is “${name}”, ${times} times`, () => assert.deepEqual(readTimes(label), { name, times }));
}

test("{chorus} plays the last chorus again", () => {
  const chart = fields("{soc}", "a", "{eoc}", "{chorus}", "{soc: B}", "b", "{eoc}", "{chorus: Last x2}", "{chorus}");
  assert.deepEqual(chart.sections.map(({ name, calls, times }) => [name, calls, times]), [
    ["Chorus", -1, 1], ["Chorus", 0, 1], ["B", -1, 1], ["Last", 2, 2], ["B", 2, 1],
  ]);
  assert.deepEqual(chart.sections.map((section) => playedLines(chart, section).map(visibleText)), [["a"], ["a"], ["b"], ["b"], ["b"]]);
});

test("{chorus} before any chorus is a comment and a problem", () => {
  assert.deepEqual(read("{chorus}", "a"), ["# text “”", "comment box: Chorus", "words: a", "! 1 chorus {chorus}"]);
});

for (const [value, flow] of [
  ["V1 C V2 C C B C", ["V1", "C", "V2", "C", "C", "B", "C"]], ["Verse 1, Chorus", ["Verse 1", "Chorus"]], ["Verse 1 Chorus Verse 2", ["Verse 1", "Chorus", "Verse 2"]],
  ["C x2 B", ["C", "C", "B"]], ["Cx2", ["C", "C"]], ["Chorus x3,", ["Chorus", "Chorus", "Chorus"]], ["", null], [",,", null],
]) {
  test(`the flow “${value}” is read`, () => assert.deepEqual(fields(`{flow: ${value}}`).flow, flow));
}

test("a flow has at most 500 entries", () => {
  assert.equal(fields(`{flow: ${"A x32 ".repeat(1000)}}`).flow.length, 500);
});

test("comments have a style, and a selector says for whom they are", () => {
  assert.deepEqual(read("{c: a}", "{ci: b}", "{cb: c}", "{highlight: d}", "{comment-Keys: e}", "{c-keys!: f}", "{c}"), [
    "# text “”", "comment: a", "comment italic: b", "comment box: c", "comment highlight: d", "comment only keys: e", "comment only keys!: f",
  ]);
});

test("a section with a selector is for that instrument, and so are its lines", () => {
  assert.deepEqual(read("{sov-guitar: A}", "a", "{c-keys: b}", "{eov-guitar}"), [
    "# verse “A” only guitar", "words only guitar: a", "comment only keys: b",
  ]);
});

test("other directives with a selector have no effect and are no fault", () => {
  const chart = fields("{title: A}", "{title-de: B}", "{key-capo: D}", "{transpose-alto: 9}", "{foo-bar: 1}", "[G]la");
  assert.deepEqual([chart.title, chart.key, chart.transpose], ["A", "", 0]);
  assert.deepEqual(chart.problems.map(({ text }) => text), ["{foo}"]);
});

test("key, tempo, time and transpose hold from where they stand", () => {
  assert.deepEqual(read("{key: C}", "{transpose: 2}", "{sov}", "[C]a", "{key: D}", "[D]b", "{eov}", "{tempo: 80}", "{time: 3/4}", "{soc}", "c", "{transpose: -3}", "{eoc}"), [
    "key: C", "transpose: 2", "# verse “Verse 1”", "words: ⟪C⟫a", 'change: {"key":"D"}', "words: ⟪D⟫b", "# chorus “Chorus”", 'change: {"tempo":80}',
    'change: {"time":{"num":3,"den":4}}', "words: c", 'change: {"transpose":-3}',
  ]);
});

test("until the first line sounds, they hold for the whole song", () => {
  const { key, tempo, sections } = fields("{c: count in}", "{sov}", "{key: G}", "{key: A}", "{tempo: 70}", "[A]la", "{eov}");
  assert.deepEqual([key, tempo], ["A", 70]);
  assert.ok(sections.every((section) => section.lines.every((line) => line.kind !== "change")));
});

test("a change before {chorus} belongs to the call", () => {
  const { sections } = fields("{soc}", "a", "{eoc}", "{transpose: 2}", "{chorus}", "{key: E}");
  assert.deepEqual(sections[1].lines.map(({ change, source }) => [change, source]), [[{ transpose: 2 }, 4], [{ key: "E" }, 6]]);
});

test("{transpose} without a value returns to the one before", () => {
  const { sections } = fields("{transpose: 1}", "a", "{transpose: +5}", "b", "{transpose}", "c", "{transpose}", "d", "{transpose}");
  const changes = sections[0].lines.filter((line) => line.change).map((line) => line.change.transpose);
  assert.deepEqual(changes, [5, 1, 0, 0]);
});

test("{new_song} begins the next song", () => {
  const songs = parseSongs("{t: A}\na\n{new_song}\n{t: B}\n{ns: toc=no}\n{t: C}\n");
  assert.deepEqual(songs.map(({ title, text }) => [title, text]), [["A", "{t: A}\na\n"], ["B", "{t: B}\n"], ["C", "{t: C}\n"]]);
});

test("nothing before the first {new_song} and nothing after the last is a song", () => {
  assert.deepEqual(parseSongs("# book\n{x_setlist: L}\n\n{ns}\n{t: A}\n{ns}\n\n").map(({ title }) => title), ["A"]);
  assert.equal(parseSongs("{ns}\n{ns}\n").length, 1);
});

test("x_bars and x_beats belong to their section", () => {
  const chart = fields("{x_bars: 1}", "a", "{sov}", "{x_bars: 2 2 4 2}", "b", "{eov}", "{x_beats: 8, 7.5}", "{soc}", "c", "{eoc}", "d", "{x_beats: 3}");
  assert.deepEqual(chart.sections.map(({ bars, beats }) => [bars, beats]), [[[1], null], [[2, 2, 4, 2], null], [null, [8, 7.5]], [null, [3]]]);
});

test("outside of sections x_bars belongs to what comes next", () => {
  const bars = (...lines) => fields(...lines).sections.map((section) => section.bars?.[0] ?? 0);
  assert.deepEqual(bars("{c: hi}", "{x_bars: 2}", "a", "{soc}", "b", "{eoc}"), [2, 0]);
  assert.deepEqual(bars("{soc}", "b", "{eoc}", "a", "{x_bars: 3}", "{chorus}", "c"), [0, 0, 3, 0]);
  assert.deepEqual(bars("a", "{x_bars: 4}", "b", "{soc}", "{x_bars: 5}"), [4, 5]);
});

test("our own fields are read, and those of others are left alone", () => {
  const chart = fields("{x_felt: 3}", "{x_notation: German}", "{x_bars_per_line: 4}", "{x_somebody: else}", "[H]la");
  assert.deepEqual([chart.felt, chart.notation, chart.barsPerLine, chart.problems], [3, "german", 4, []]);
});

test("a German chord makes a file German unless it says otherwise", () => {
  assert.equal(fields("[Fis]la [B]lo").notation, "german");
  assert.equal(fields("[Esus4]la [Asus2]lo").notation, "letters");
  assert.deepEqual(problems("{x_notation: letters}", "[Fis]la"), ["2 chord Fis"]);
  assert.equal(fields("[H7]la [B]lo").notation, "german");
  assert.equal(fields("[B]la").notation, "letters");
  assert.equal(fields("[Hello]la").notation, "letters");
  assert.deepEqual(problems("{x_notation: letters}", "[H7]la"), ["2 chord H7"]);
  assert.deepEqual(problems("{x_notation: german}", "[a]la [fis]lo [Es]li"), []);
  assert.deepEqual(problems("[a]la"), ["1 chord a"]);
  for (const small of ["h", "h7", "hm", "fis", "cis7", "(h)"]) assert.deepEqual([fields(`[${small}]la [B]lo`).notation, problems(`[${small}]la [e]lo`)], ["german", []], small);
  // Small letters alone are minor chords too, if no chord speaks against it.
  for (const small of ["a", "e7", "(d)", "g/B"]) {
    const isClear = small !== "g/B";
    assert.deepEqual([fields(`[${small}]la [C]lo`).notation, problems(`[${small}]la [C]lo`).length], isClear ? ["german", 0] : ["letters", 1], small);
  }
  assert.equal(fields("[a]la [B]lo").notation, "letters", "a B may be of either notation");
  assert.equal(fields("[a]la [Zzz]lo").notation, "letters");
  for (const word of ["hello", "his own", "heh", "dislike", "fi"]) assert.equal(fields(`[${word}]la [B]lo`).notation, "letters", word);
});

test("directives of print are kept in the file and not shown", () => {
  const hidden = ["{textfont: A}", "{ts: 1}", "{chordcolour: red}", "{columns: 2}", "{np}", "{image: a.png}", "{define: G frets 3}", "{chord: G}", "{diagrams}", "{ng}", "{pagetype: a4}"];
  assert.deepEqual(read(...hidden), []);
});

test("an unknown directive is not shown, and reported", () => {
  assert.deepEqual(read("{foo: bar}", "a"), ["# text “”", "words: a", "! 1 directive {foo}"]);
});

test("several directives may share a line", () => {
  assert.deepEqual(read("{t: A}{st: B} {key: G}", "{c: with {braces} in it}"), ["title: A", "subtitle: B", "key: G", "# text “”", "comment: with {braces} in it"]);
});

test("a delegate is a note", () => {
  assert.deepEqual(read("{start_of_abc}", "X:1", "{title: no}", "[G]", "{end_of_abc}", "{sov}", "a", "{start_of_ly-keys}", "c", "{end_of_ly-keys}", "b", "{eov}"), [
    "# text “”", "note: [abc: not shown]", "# verse “Verse 1”", "words: a", "note only keys: [ly: not shown]", "words: b",
  ]);
});

test("a delegate without an end hides nothing", () => {
  assert.deepEqual(read("{start_of_svg}", "[G]a"), ["# text “”", "note: [svg: not shown]", "words: ⟪G⟫a", "! 1 unclosed {start_of_svg}"]);
});

test("a chord stands over the letter that follows it", () => {
  const { parts, kind } = fields("Oh [G]hello [C][D]there[Em]").sections[0].lines[0];
  assert.equal(kind, "words");
  assert.deepEqual(parts, [
    { text: "Oh ", mark: null }, { text: "hello ", mark: { kind: "chord", text: "G" } }, { text: "", mark: { kind: "chord", text: "C" } },
    { text: "there", mark: { kind: "chord", text: "D" } }, { text: "", mark: { kind: "chord", text: "Em" } },
  ]);
});

test("lines of chords have no words", () => {
  assert.deepEqual(read("[G] [C]", "  ", "[|] [G]"), ["# text “”", "chords: ⟪G⟫ ⟪C⟫", "empty: ", "chords: ⟪=|⟫ ⟪G⟫"]);
});

test("bar lines, beats, annotations and rests are marks", () => {
  assert.deepEqual(read("[|][G]a [/][.] [||]b [:|]c [*soft]d [N.C.]e"), ["# text “”", "words: ⟪=|⟫⟪G⟫a ⟪-/⟫⟪-.⟫ ⟪=||⟫b ⟪=:|⟫c ⟪*soft⟫d ⟪N.C.⟫e"]);
});

test("an annotation alone takes no time", () => {
  assert.deepEqual(read("[*To coda]"), ["# text “”", "comment italic: To coda"]);
});

test("a word that is no chord stays in its place and is reported", () => {
  assert.deepEqual(read("[Chorus]a", "[Gmaj7#11]b"), ["# text “”", "words: ⟪Chorus⟫a", "words: ⟪Gmaj7#11⟫b", "! 1 chord Chorus"]);
});

test("broken brackets stay text", () => {
  assert.deepEqual(read("a [G b", "c] d", "[[G]e", "[]f"), [
    "# text “”", "words: a [G b", "words: c] d", "words: [⟪G⟫e", "words: []f", "! 1 bracket [G b", "! 2 bracket ] d", "! 3 bracket [[G]e", "! 4 chord []",
  ]);
});

test("a directive without its closing brace stays text", () => {
  assert.deepEqual(read("{title: A", "{}"), ["# text “”", "words: {title: A", "words: {}", "! 1 brace {title: A", "! 2 brace {}"]);
});

test("<b> and <i> are markup, and nothing else is", () => {
  const { parts } = fields("a <b>b <i>c</i></b> [G]<u>d</u> <B>e</B> &lt;").sections[0].lines[0];
  assert.deepEqual(parts, [
    { text: "a b c ", mark: null, spans: [{ text: "a " }, { text: "b ", bold: true }, { text: "c", bold: true, italic: true }, { text: " " }] },
    { text: "<u>d</u> <B>e</B> &lt;", mark: { kind: "chord", text: "G" } },
  ]);
});

test("markup without its pair stays text", () => {
  assert.deepEqual(read("<b>a", "b</i>", "<b>c</b></b>"), ["# text “”", "words: <b>a", "words: b</i>", "words: ‹b c›</b>", "! 1 markup <b>", "! 2 markup </i>", "! 3 markup </b>"]);
});

test("titles, labels and comments lose their markup", () => {
  assert.deepEqual(read("{t: <b>A</b>}", "{c: <i>b</i> <u>c</u>}", "{sov: <b>D</b>}"), [
    "title: A", "# text “”", "comment: b <u>c</u>", "# verse “D”", "! 3 unclosed {start_of_verse}",
  ]);
});

test("lines that begin with # are not shown", () => {
  assert.deepEqual(read("# a", "b # c", "{sot}", "# d", "{eot}"), ["# text “”", "words: b # c", "# tab “Tab”"]);
});

test("a backslash joins a line with the next one", () => {
  assert.deepEqual(read("[G]a \\", "   b \\", "\t[C]c", "{title: A \\", "B}", "d \\", "{c: e}", "f \\"), [
    "title: A B", "# text “”", "words: ⟪G⟫a b ⟪C⟫c", "words: d \\", "comment: e", "words: f \\",
  ]);
  assert.deepEqual(parseChart("a \\\nb\n[x]").problems[0].line, 3);
});

test("{new_song} after a backslash begins a song all the same", () => {
  assert.deepEqual(parseSongs("a\\\n{new_song}\nb").map(({ text }) => text), ["a\\\n", "b"]);
});

test("a tab is text to the letter", () => {
  assert.deepEqual(read("{sot}", "e|--5\\", " [x] {y: z} <b>a</b>", "{c: b}", "{eot}"), ["# tab “Tab”", "tab: e|--5\\", "tab:  [x] {y: z} <b>a</b>", "comment: b"]);
});

test("a tab or a grid inside a verse belongs to the verse", () => {
  assert.deepEqual(read("{sov}", "a", "{sot-guitar: Lick}", "e|--|", "{eot-guitar}", "b", "{sog}", "| G |", "{eog}", "{eov}"), [
    "# verse “Verse 1”", "words: a", "comment only guitar: Lick", "tab only guitar: e|--|", "words: b", "grid: ⟪=|⟫⟪G⟫⟪=|⟫",
  ]);
});

test("a grid has bar lines, cells, beats and margins", () => {
  assert.deepEqual(read("{sog: 1+4x2+1 Solo x2}", "A | G . / C | % . N.C. C~D :| twice", "||Am|F||", "G . C .", "just words", "|s up dn |", "{eog}"), [
    "# grid “Solo” x2", "grid: A⟪=|⟫⟪G⟫⟪-.⟫⟪-/⟫⟪C⟫⟪=|⟫⟪*%⟫⟪-.⟫⟪N.C.⟫⟪C⟫⟪~D⟫⟪=:|⟫twice", "grid: ⟪=||⟫⟪Am⟫⟪=|⟫⟪F⟫⟪=||⟫", "grid: ⟪G⟫⟪-.⟫⟪C⟫⟪-.⟫",
    "comment: just words", "note: |s up dn |",
  ]);
  assert.deepEqual(names("{sog: 4x4}", "{eog}", '{sog shape="1+4x2" label="Turn"}', "{eog}"), ["Grid", "Turn"]);
});

test("a section without an end ends at the next one", () => {
  assert.deepEqual(read("{sov}", "a", "{soc}", "b"), ["# verse “Verse 1”", "words: a", "# chorus “Chorus”", "words: b", "! 1 unclosed {start_of_verse}", "! 3 unclosed {start_of_chorus}"]);
});

test("an end without a start is reported", () => {
  assert.deepEqual(problems("{eov}", "{sov}", "{eoc}", "{eov}", "{end_of_abc}"), ["1 end {end_of_verse}", "3 end {end_of_chorus}", "5 end {end_of_abc}"]);
});

test("the end of a verse ends a tab in it", () => {
  assert.deepEqual(read("{sov}", "{sot}", "e|--|", "{eov}", "a"), ["# verse “Verse 1”", "tab: e|--|", "# text “”", "words: a", "! 2 unclosed {start_of_tab}"]);
});

test("all line ends are known, and a mark at the start is no text", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = ["\uFEFF{t: A}", "{sov}", "[G]a", "", "b", "{eov}", ""].join(end);
    const chart = parseChart(text);
    assert.deepEqual(brief(chart), ["title: A", "2 # verse “Verse 1”", "3 words: ⟪G⟫a", "4 empty: ", "5 words: b"]);
    assert.equal(chart.text, text);
  }
});

test("words keep every letter and every space", () => {
  for (const words of ["  a  b\t", "שלום עולם", "夜の駅 🚉", "e\u0301 \u2028 x", "&amp; <3 {b} | \\n"]) {
    assert.equal(visibleText(parseChart(words).sections[0].lines[0]), words);
  }
});

test("a chart has at most 200 problems, and quotes at most 60 letters", () => {
  const chart = parseChart("[x]\n".repeat(1000));
  assert.equal(chart.problems.length, 200);
  assert.equal(Array.from(parseChart(`[${"🎸".repeat(100)}]`).problems[0].text).length, 60);
});

test("every problem has a text", () => {
  for (const code of ["chord", "chorus", "bracket", "brace", "markup", "directive", "value", "unclosed", "end"]) {
    assert.match(fill(CHART.problems[code], { n: 7, text: "WORDS" }), code === "chorus" ? /^Line 7: \{chorus\}/ : /^Line 7: .*WORDS/);
  }
  assert.equal(Object.keys(CHART.problems).length, 9);
});
