import assert from "node:assert/strict";
import test from "node:test";
import * as maps from "../../../src/web/chart/map.js";
import { shiftOf } from "../../../src/web/chart/shift.js";
import { change, chartOf, gridLine, lineOf, tabLine } from "./charts-by-hand.js";
import { Random } from "./random.js";

const { lineAt, songFields, songMap } = maps;

const lengths = (map) => map.lines.map(({ from, to }) => to - from);
const names = (map) => map.passes.map(({ name, pass, of }) => (of > 1 ? `${name} ${pass}/${of}` : name));
const oneSection = (lines, fields = {}, section = {}) => chartOf({ ...fields, sections: [{ ...section, lines }] });

test("bars per line: two, the chart's number, or the caller's", () => {
  const chart = oneSection(["[C]One", "two"]);
  assert.deepEqual(lengths(songMap(chart)), [8, 8]);
  assert.deepEqual(lengths(songMap({ ...chart, barsPerLine: 4 })), [16, 16]);
  assert.deepEqual(lengths(songMap({ ...chart, barsPerLine: 4 }, { barsPerLine: 1 })), [4, 4]);
  for (const barsPerLine of [0, -1, NaN, null, undefined, "4"]) assert.deepEqual(lengths(songMap(chart, { barsPerLine })), [8, 8]);
  assert.equal(songMap(chart).guessed, true);
});

test("a line of chords has a bar for each", () => {
  const map = songMap(oneSection(["[C][G][Am]", "[N.C.]"], { time: { num: 3, den: 4 } }));
  assert.deepEqual(lengths(map), [9, 3]);
  assert.deepEqual(map.lines[0].chords, [0, 3, 6]);
});

test("a line with bar lines says its length itself", () => {
  const lines = ["[|][C]One [G]two [|][Am]three", "[C]One [|]two", "and [|][C]one [|][G]two [|]", "[|][C][G][|][D][|]", "[C]One [|]"];
  const map = songMap(oneSection(lines, {}, { bars: [9] }));
  assert.deepEqual(lengths(map), [8, 8, 8, 8, 4]);
  assert.equal(map.guessed, false);
  assert.deepEqual(map.lines.map(({ rule }) => rule), [1, 1, 1, 1, 1]);
  assert.deepEqual(map.lines[0].chords, [0, 2, 4]);
  assert.deepEqual(map.lines[3].chords, [24, 26, 28]);
});

test("a grid has its bars, and its chords are at their cells", () => {
  const map = songMap(oneSection([gridLine("| C . . . | G . Am . |"), gridLine("|: F G | % | C . . D :|"), gridLine("C G")]));
  assert.deepEqual(lengths(map), [8, 12, 8]);
  assert.deepEqual(map.lines[0].chords, [0, 4, 6]);
  assert.deepEqual(map.lines[1].chords, [8, 10, 16, 19]);
});

test("chords that share a cell of a grid share its beats", () => {
  const line = gridLine("| C G . . | D . |");
  line.parts[2].mark.joined = true;
  const map = songMap(oneSection([line]));
  assert.deepEqual(map.lines[0].chords.map((beat) => Math.round(100 * beat) / 100), [0, 0.5, 4]);
});

test("all strings of a tab are one line with its bars", () => {
  const six = ["e|--0--|--1--|", "B|-----|-----|", "G|-----|-----|", "D|-----|-----|", "A|-----|-----|", "E|--3--|--3--|"];
  const map = songMap(oneSection([...six, ...six, lineOf(""), "E|--3--|", lineOf("words [C]here")].map((line) => (typeof line === "string" ? tabLine(line) : line))));
  assert.deepEqual(lengths(map), [8, 8, 4, 8]);
  assert.deepEqual(map.lines.map(({ line, rows }) => [line, rows]), [[0, 6], [6, 6], [13, 1], [14, 1]]);
});

test("a tab without bar lines is guessed", () => {
  const map = songMap(oneSection([tabLine("e-----0-----"), tabLine("B-----------")]));
  assert.deepEqual([lengths(map), map.guessed], [[8], true]);
});

test("x_bars and x_beats name a length for each line, and the last one repeats", () => {
  const lines = ["one", "two", "three", "four"];
  assert.deepEqual(lengths(songMap(oneSection(lines, {}, { bars: [2, 4] }))), [8, 16, 16, 16]);
  assert.deepEqual(lengths(songMap(oneSection(lines, {}, { bars: [1.5], beats: null }))), [6, 6, 6, 6]);
  const map = songMap(oneSection(lines, {}, { bars: [2], beats: [7, 8, 9] }));
  assert.deepEqual([lengths(map), map.guessed], [[7, 8, 9, 9], false]);
  assert.deepEqual(lengths(songMap(oneSection(lines, {}, { beats: [0, -3, 0.2, 1e12] }))), [1, 1, 1]);
});

test("a line with bar lines uses up its number of x_bars", () => {
  assert.deepEqual(lengths(songMap(oneSection(["one", "[|]two[|]", "three"], {}, { bars: [2, 9, 3] }))), [8, 4, 12]);
});

test("a first line shorter than a bar is a pickup", () => {
  const map = songMap(oneSection(["and", "one", "two"], {}, { beats: [1, 8] }));
  assert.deepEqual(map.meter, [{ beat: 0, num: 1, den: 4 }, { beat: 1, num: 4, den: 4 }]);
  assert.deepEqual(songFields(chartOf(), map).timeSignature, { numerator: 4, denominator: 4 });
  assert.equal(songMap(oneSection(["one", "and", "two"], {}, { beats: [8, 1, 8] })).meter.length, 1);
  assert.equal(songMap(oneSection(["one", "two"], {}, { beats: [4] })).meter.length, 1);
  const two = oneSection(["and", change({ time: { num: 2, den: 4 } }), "one"], {}, { beats: [2, 8] });
  assert.deepEqual(songMap(two).meter, [{ beat: 0, num: 2, den: 4 }]);
});

test("the duration is shared out by weight, in whole bars", () => {
  // 2:00 at 120 is 60 bars.
  const chart = oneSection(["[C]One [G]two", "[C]three", "la la la la la", "eight"], { tempo: 120, durationMs: 120_000 });
  const map = songMap(chart);
  assert.equal(map.beats, 240);
  assert.deepEqual([map.guessed, map.lines[0].rule], [true, 3]);
  // Weights 2, 1, 1.25 (five syllables) and 0.25.
  assert.deepEqual(lengths(map).map((beats) => beats / 4), [27, 13, 17, 3]);
});

test("what says its length itself is taken off the duration first", () => {
  const sections = [{ bars: [10], lines: ["one"] }, { lines: ["[C]two", "[C]three"] }];
  const map = songMap(chartOf({ tempo: 120, durationMs: 60_000, sections }));
  assert.deepEqual(lengths(map).map((beats) => beats / 4), [10, 10, 10]);
});

test("a duration without a tempo, or too short, decides nothing it can't", () => {
  const lines = ["[C]one", "[C]two"];
  assert.deepEqual(lengths(songMap(oneSection(lines, { durationMs: 60_000 }))), [8, 8]);
  assert.deepEqual(lengths(songMap(oneSection(lines, { durationMs: 1, tempo: 60 }))), [4, 4]);
});

test("shares add up, are at least one, and the largest remainders are rounded up", () => {
  assert.deepEqual(maps.share(10, [1, 1, 1]), [4, 3, 3]);
  assert.deepEqual(maps.share(7, [2, 1, 1]), [3, 2, 2]);
  assert.deepEqual(maps.share(2, [1, 5, 1]), [1, 1, 1]);
  assert.deepEqual(maps.share(-4, [1]), [1]);
  const random = new Random(3);
  for (let i = 0; i < 500; i += 1) {
    const weights = Array.from({ length: random.int(1, 40) }, () => random.int(1, 24) / 4);
    const total = random.int(weights.length, 400);
    const shares = maps.share(total, weights);
    assert.equal(shares.reduce((a, b) => a + b), total);
    assert.ok(shares.every((n) => Number.isInteger(n) && n >= 1));
    shares.forEach((n, a) => shares.forEach((m, b) => assert.ok(weights[a] <= weights[b] || n >= m, `${weights} ${shares}`)));
  }
});

test("comments, headings, empty lines and lines for one instrument take no time", () => {
  const comment = { kind: "comment", parts: [], text: "slower", only: "" };
  const chart = oneSection([comment, "one", "", { kind: "note", parts: [], text: "[abc: not shown]" }, { ...lineOf("keys"), only: "keys" }]);
  assert.deepEqual(songMap(chart).lines.map(({ line }) => line), [1]);
  const only = chartOf({ sections: [{ lines: ["one"] }, { only: "guitar", lines: ["two"] }] });
  assert.equal(songMap(only).passes.length, 1);
});

const song = (fields = {}) =>
  chartOf({
    sections: [
      { kind: "intro", name: "Intro", lines: ["[C]"] },
      { name: "Verse 1", lines: ["one"] },
      { kind: "chorus", name: "Chorus", lines: ["two"] },
      { name: "Verse 2", lines: ["three"] },
      { kind: "chorus", name: "Chorus", calls: 2 },
      { kind: "bridge", name: "Pre-Chorus", lines: ["four"] },
    ],
    ...fields,
  });

test("without a flow the sections play in order, and a call plays the called one again", () => {
  const map = songMap(song());
  assert.deepEqual(names(map), ["Intro", "Verse 1", "Chorus 1/2", "Verse 2", "Chorus 2/2", "Pre-Chorus"]);
  assert.deepEqual(map.passes.map(({ section, place }) => [section, place])[4], [2, 4]);
  assert.deepEqual(map.lines.map(({ section }) => section), [0, 1, 2, 3, 2, 5]);
});

test("a flow may name sections or use shorthand, and other words are comments", () => {
  const flow = "V1 C v2 chorus PC Cho Vs1 I zap verse  2: 7".split(" ").slice(0, 9);
  const map = songMap(song({ flow: [...flow, "Verse  2:", "7"] }));
  assert.deepEqual(
    map.passes.map(({ name }) => name),
    ["Verse 1", "Chorus", "Verse 2", "Chorus", "Pre-Chorus", "Chorus", "Verse 1", "Intro", "Verse 2"],
  );
  assert.deepEqual(map.comments, [{ pass: 8, text: "zap" }, { pass: 9, text: "7" }]);
  assert.deepEqual(map.passes.map(({ pass, of }) => `${pass}/${of}`).slice(0, 4), ["1/2", "1/3", "1/2", "2/3"]);
});

test("V means the first verse, V3 none of two, and a flow that names nothing is ignored", () => {
  assert.deepEqual(names(songMap(song({ flow: ["V", "V3"] }))), ["Verse 1"]);
  assert.equal(songMap(song({ flow: ["?", ""] })).passes.length, 6);
});

test("numbers count sections that have none themselves", () => {
  const sections = ["a", "b", "c"].map((line) => ({ name: "Refrain", kind: "chorus", lines: [line] }));
  assert.deepEqual(songMap(chartOf({ sections, flow: ["R2", "C3", "C"] })).lines.map(({ section }) => section), [1, 2, 0]);
});

test("shorthand without a number prefers a section without one", () => {
  const sections = [{ name: "Chorus 2", lines: ["a"] }, { name: "Chorus", lines: ["b"] }];
  assert.deepEqual(songMap(chartOf({ sections, flow: ["C", "C2", "Cho"] })).lines.map(({ section }) => section), [1, 0, 1]);
});

test("a section is repeated as its heading says", () => {
  const map = songMap(chartOf({ sections: [{ name: "Verse", times: 2, lines: ["one"] }, { name: "Tag", lines: ["two"] }] }));
  assert.deepEqual(names(map), ["Verse 1/2", "Verse 2/2", "Tag"]);
});

test("repeats without end are cut", () => {
  const map = songMap(chartOf({ sections: [{ times: 1e9, lines: ["one"] }] }));
  assert.deepEqual([map.passes.length, map.cut], [1000, true]);
  const beats = songMap(chartOf({ sections: [{ times: 999, beats: [1000], lines: ["one"] }] }));
  assert.deepEqual([beats.beats, beats.cut], [576_000, true]);
  const long = songMap(chartOf({ sections: [{ times: 999, lines: new Array(300).fill("one") }] }));
  assert.deepEqual([long.lines.length, long.cut], [20_000, true]);
  assert.equal(songMap(chartOf({ sections: [{ beats: [1e9], lines: ["one"] }] })).beats, 576_000);
});

test("calls of calls, of themselves and of later sections are no calls", () => {
  const sections = [{ calls: 0, lines: ["one"] }, { calls: 2, lines: ["two"] }, { calls: 1, lines: ["three"] }, { calls: 9, lines: [] }];
  assert.doesNotThrow(() => songMap(chartOf({ sections, flow: ["V1", "V2"] })));
  assert.equal(songMap(chartOf({ sections })).passes.length > 0, true);
});

test("the meter follows the sections in playing order", () => {
  const sections = [
    { name: "A", lines: ["one", change({ time: { num: 3, den: 4 } }), "two"] },
    { name: "B", lines: ["three", change({ time: { num: 4, den: 4 } })] },
    { name: "C", lines: ["four"] },
  ];
  const map = songMap(chartOf({ sections, flow: ["A", "A", "B", "C"] }));
  assert.deepEqual(lengths(map), [8, 6, 8, 6, 6, 8]);
  assert.deepEqual(map.meter.map(({ beat, num }) => [beat, num]), [[0, 4], [8, 3], [14, 4], [22, 3], [34, 4]]);
});

test("a called chorus keeps its meter and takes the tempo of its place", () => {
  const sections = [
    { name: "Verse 1", lines: ["one", change({ time: { num: 3, den: 4 } })] },
    { name: "Chorus", lines: ["two"] },
    { name: "Verse 2", lines: [change({ time: { num: 4, den: 4 } }), change({ tempo: 140 }), "three"] },
    { calls: 1 },
    { calls: 1, lines: [change({ time: { num: 2, den: 4 } })] },
  ];
  const map = songMap(chartOf({ tempo: 120, sections }));
  assert.deepEqual(lengths(map), [8, 6, 8, 6, 4]);
  assert.deepEqual(map.tempos, [{ beat: 0, bpm: 120 }, { beat: 14, bpm: 140 }]);
});

test("more than 64 meters are cut, and the lines stay as long as they are", () => {
  const lines = [];
  for (let i = 0; i < 200; i += 1) lines.push(change({ time: { num: 3 + (i % 2), den: 4 } }), "la");
  const map = songMap(oneSection(lines));
  assert.deepEqual([map.meter.length, map.cut, map.beats], [64, true, 100 * 14]);
});

test("tempos up to 120 count dotted beats in compound meters", () => {
  const bpm = (tempo, num, den, felt = null) => {
    const map = songMap(oneSection(["one"], { tempo, time: { num, den }, felt }));
    return [map.tempos[0].bpm, map.felt];
  };
  assert.deepEqual(bpm(60, 6, 8), [180, 3]);
  assert.deepEqual(bpm(120, 12, 8), [360, 3]);
  assert.deepEqual(bpm(121, 9, 8), [121, 3]);
  assert.deepEqual(bpm(180, 6, 8), [180, 3]);
  assert.deepEqual(bpm(130, 6, 8, 3), [390, 3]);
  assert.deepEqual(bpm(399, 6, 8, 3), [400, 3]);
  assert.deepEqual(bpm(60, 6, 8, 1), [60, 1]);
  assert.deepEqual(bpm(60, 3, 4), [60, 1]);
  assert.deepEqual(bpm(60, 3, 4, 3), [180, 3]);
  assert.deepEqual(bpm(60, 7, 8), [60, 1]);
  assert.deepEqual(bpm(100.0004, 4, 4), [100, 1]);
});

test("no tempo is 100, and marked", () => {
  const map = songMap(oneSection(["one"]));
  assert.deepEqual([map.tempos, map.tempoGuessed], [[{ beat: 0, bpm: 100 }], true]);
  assert.equal(songMap(oneSection([change({ tempo: 90 }), "one"])).tempoGuessed, false);
});

test("a tempo is converted where the meter changes without one", () => {
  const after = (first, time, second) => {
    const lines = ["one", change({ time: second }), "two"];
    return songMap(oneSection(lines, { tempo: first, time })).tempos.at(-1).bpm;
  };
  const [four, six, seven, nine] = [{ num: 4, den: 4 }, { num: 6, den: 8 }, { num: 7, den: 8 }, { num: 9, den: 8 }];
  assert.equal(after(120, four, seven), 240);
  assert.equal(after(60, six, four), 60);
  assert.equal(after(60, six, nine), 180);
  assert.equal(after(60, four, six), 180);
  assert.equal(after(180, six, four), 90);
  assert.equal(after(60, six, seven), 180);
});

test("felt beats are known along the song", () => {
  const map = songMap(oneSection(["one", change({ time: { num: 6, den: 8 } }), "two"], { tempo: 80 }));
  assert.deepEqual([map.felt, maps.feltAt(map, 7.9), maps.feltAt(map, 8), maps.feltAt(map, -3)], [1, 1, 3, 1]);
});

test("chords are spread evenly, on whole beats if there are enough", () => {
  assert.deepEqual(songMap(oneSection(["[C]a [D]b [E]c"])).lines[0].chords, [0, 3, 5]);
  assert.deepEqual(songMap(oneSection(["[C]a [D]b"], {}, { beats: [1] })).lines[0].chords, [0, 0.5]);
});

test("syllables are counted in several scripts", () => {
  assert.equal(maps.syllables("hold it with me"), 4);
  assert.equal(maps.syllables("Überall ist Glück"), 5);
  assert.equal(maps.syllables("Привет мир"), 3);
  assert.equal(maps.syllables("こんにちは"), 5);
  assert.equal(maps.syllables("안녕하세요"), 5);
  assert.equal(maps.syllables("שלום עולם"), 4);
  assert.equal(maps.syllables(""), 0);
});

test("a song without lines has a meter, a tempo and no end", () => {
  const map = songMap(chartOf({ title: "Empty" }));
  assert.deepEqual([map.beats, map.lines.length, map.guessed, lineAt(map, 3)], [0, 0, false, -1]);
  assert.deepEqual(songFields(chartOf({ title: "Empty" }), map), {
    title: "Empty",
    tempoBpm: 100,
    timeSignature: { numerator: 4, denominator: 4 },
    meter: [{ beat: 0, num: 4, den: 4 }],
  });
});

test("the fields of the server's song follow from the chart", () => {
  const chart = song({ title: "x".repeat(300), artist: "Ada", key: "F#m", capo: 1, tempo: 60, time: { num: 6, den: 8 }, durationMs: 61_000.4 });
  const fields = songFields(chart, songMap(chart));
  assert.deepEqual(fields, {
    title: "x".repeat(200),
    artist: "Ada",
    key: "Gm",
    tempoBpm: 180,
    timeSignature: { numerator: 6, denominator: 8 },
    durationMs: 61_000,
    meter: [{ beat: 0, num: 6, den: 8 }],
    endBeat: songMap(chart).beats,
  });
});

test("lineAt finds the line", () => {
  const map = songMap(oneSection(["one", "two", "three"]));
  assert.deepEqual([-5, 0, 7.99, 8, 15, 16, 23.9, 24, 1e9].map((beat) => lineAt(map, beat)), [0, 0, 0, 1, 1, 2, 2, 2, 2]);
});

const words = "la hey ooh day night run stay home road sea wind fire".split(" ");

function randomChart(random) {
  const text = () => Array.from({ length: random.int(1, 6) }, () => random.pick(words)).join(" ");
  const mark = () => `[${random.pick(["C", "G", "Am", "F#m7", "*riff", "|", "N.C."])}]`;
  const line = () => {
    const kind = random.int(0, 11);
    if (kind === 0) return { kind: "comment", parts: [], text: text(), only: "" };
    if (kind === 1) return lineOf("");
    if (kind === 2) return gridLine(random.pick(["| C . . . | G . . . |", "|: C | G | % :|", "| C | D | E |"]));
    if (kind === 3) return tabLine(random.pick(["e|---|---|", "B|---|", "---"]));
    if (kind === 4) return change({ time: { num: random.int(1, 13), den: random.pick([4, 8]) } });
    if (kind === 5) return change(random.pick([{ tempo: random.int(30, 200) }, { key: "D" }, { transpose: 2 }]));
    if (kind === 6) return lineOf(`${mark()}${mark()}`);
    return lineOf(Array.from({ length: random.int(1, 4) }, () => (random.int(0, 1) ? mark() : "") + text()).join(" "));
  };
  const sections = Array.from({ length: random.int(1, 7) }, (_, index) => ({
    kind: random.pick(["verse", "chorus", "bridge", "text"]),
    name: random.pick(["", `Verse ${index}`, "Chorus", "Bridge", "Solo"]),
    times: random.pick([1, 1, 1, 2, 3, 50]),
    calls: index > 0 && random.int(0, 3) === 0 ? random.int(0, index - 1) : -1,
    bars: random.int(0, 3) === 0 ? Array.from({ length: random.int(1, 4) }, () => random.int(1, 8)) : null,
    beats: random.int(0, 3) === 0 ? Array.from({ length: random.int(1, 4) }, () => random.int(1, 20)) : null,
    only: random.int(0, 9) === 0 ? "keys" : "",
    lines: Array.from({ length: random.int(0, 8) }, line),
  }));
  return chartOf({
    tempo: random.pick([null, 60, 96, 132]),
    time: random.pick([null, { num: 4, den: 4 }, { num: 6, den: 8 }]),
    durationMs: random.pick([null, null, 180_000, 240_000]),
    flow: random.pick([null, null, ["V1", "C", "V2", "C", "zap"], ["B", "C", "C"]]),
    sections,
  });
}

test("every map is whole: lines and passes without gaps, meters at whole beats in order", () => {
  const random = new Random(9);
  for (let i = 0; i < 1500; i += 1) {
    const chart = randomChart(random);
    const map = songMap(chart, { barsPerLine: random.pick([undefined, 1, 4]) });
    let at = 0;
    for (const line of map.lines) {
      assert.equal(line.from, at);
      assert.ok(Number.isInteger(line.to) && line.to > line.from);
      assert.ok(line.chords.every((beat, k) => beat >= line.from && beat < line.to && (k === 0 || beat >= line.chords[k - 1])));
      const source = chart.sections[line.section].lines[line.line];
      assert.equal(line.chords.length, source.kind === "tab" ? 0 : source.parts.filter(({ mark }) => mark?.kind === "chord").length);
      at = line.to;
    }
    assert.equal(map.beats, at);
    let place = 0;
    map.passes.forEach((pass, index) => {
      assert.equal(pass.from, place);
      assert.ok(pass.to > pass.from && pass.pass >= 1 && pass.pass <= pass.of);
      const own = map.lines.filter((line) => line.pass === index);
      assert.deepEqual([own[0].from, own.at(-1).to], [pass.from, pass.to]);
      place = pass.to;
    });
    assert.equal(place, map.beats);
    for (const list of [map.meter, map.tempos, map.felts]) {
      assert.equal(list[0].beat, 0);
      list.forEach(({ beat }, k) => assert.ok(Number.isInteger(beat) && (k === 0 || beat > list[k - 1].beat)));
    }
    assert.ok(map.meter.length <= 64 && map.tempos.every(({ bpm }) => bpm >= 1 && bpm <= 400));
    assert.ok(map.meter.every(({ beat }) => beat <= map.beats));
    for (let k = 0; k < 20; k += 1) {
      const beat = random.range(-4, map.beats + 4);
      const found = lineAt(map, beat);
      if (beat >= 0 && beat < map.beats) assert.ok(map.lines[found].from <= beat && beat < map.lines[found].to);
    }
  }
});

test("a map depends on the chart alone", () => {
  const random = new Random(10);
  for (let i = 0; i < 200; i += 1) {
    const chart = randomChart(random);
    const text = JSON.stringify(chart);
    const map = songMap(chart);
    assert.equal(JSON.stringify(chart), text);
    assert.deepEqual(songMap(JSON.parse(text)), map);
  }
});

test("the bars of the duration add up", () => {
  const random = new Random(11);
  for (let i = 0; i < 500; i += 1) {
    const lines = Array.from({ length: random.int(1, 30) }, () => `${random.pick(["", "[C]", "[C]a [G]"])}${random.pick(words)} ${random.pick(words)}`);
    const num = random.pick([3, 4]);
    const bars = random.int(lines.length, 200);
    const tempo = random.int(60, 180);
    const durationMs = (bars * num * 60_000) / tempo;
    const map = songMap(oneSection(lines, { tempo, durationMs, time: { num, den: 4 } }));
    assert.equal(map.beats, bars * num);
    assert.ok(lengths(map).every((beats) => beats % num === 0 && beats >= num));
  }
});

test("an edit elsewhere keeps the sounding line", () => {
  const random = new Random(12);
  for (let i = 0; i < 1000; i += 1) {
    const lines = Array.from({ length: random.int(2, 20) }, (_, k) => `line ${k} ${random.pick(words)}`);
    const at = random.int(0, lines.length - 1);
    const edited = [...lines];
    edited.splice(random.int(0, at), 0, ...Array.from({ length: random.int(0, 3) }, () => `new ${random.pick(words)}`));
    const tail = edited.indexOf(lines[at]) + 1;
    if (random.int(0, 1)) edited.splice(tail, random.int(0, 2));
    if (random.int(0, 1)) edited.push("the end");
    const numbers = () => ({ bars: Array.from({ length: random.int(1, 20) }, () => random.int(1, 8)) });
    const [was, is] = [oneSection(lines, {}, numbers()), oneSection(edited, {}, numbers())];
    const [wasMap, isMap] = [songMap(was), songMap(is)];
    const beat = random.range(wasMap.lines[at].from, wasMap.lines[at].to - 0.001);
    const shift = shiftOf(was, wasMap, is, isMap, beat);
    assert.ok(Number.isInteger(shift));
    const line = isMap.lines[lineAt(isMap, beat + shift)];
    assert.equal(line.line, edited.indexOf(lines[at]), `${lines[at]} of ${lines} in ${edited}`);
    const into = beat + shift - line.from;
    assert.ok(into >= 0 && into < line.to - line.from);
  }
});

test("no edit is no shift, at any beat of any chart", () => {
  const random = new Random(13);
  for (let i = 0; i < 200; i += 1) {
    const chart = randomChart(random);
    const map = songMap(chart);
    for (let k = 0; k < 10; k += 1) assert.equal(shiftOf(chart, map, chart, map, random.range(-4, map.beats + 8)), 0);
  }
});

test("the right pass of a repeated line is kept", () => {
  const was = song({ flow: ["V1", "C", "V2", "C"] });
  const is = song({ flow: ["C", "V1", "C", "V2", "C"] });
  const [wasMap, isMap] = [songMap(was), songMap(is)];
  assert.equal(shiftOf(was, wasMap, is, isMap, 9), 8);
  assert.equal(shiftOf(was, wasMap, is, isMap, 25), 8);
});

test("a line whose words changed is found between its neighbours", () => {
  const was = oneSection(["one", "two", "three", "four"]);
  const is = oneSection(["zero", "one", "too", "three", "five"]);
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 9), 8);
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 31), 8);
});

test("a line that became shorter keeps the place in the bar", () => {
  const [was, is] = [oneSection(["one", "two"], {}, { bars: [4] }), oneSection(["one", "two"], {}, { bars: [2] })];
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 16 + 14.5), -8 - 8);
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 40), -16);
});

test("a shift is limited as the protocol says", () => {
  const [was, is] = [oneSection(["one", "two"]), oneSection(["one", "two"], {}, { beats: [9000] })];
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 9), 4096);
});

test("long songs are compared in bounded time", () => {
  const lines = Array.from({ length: 3000 }, (_, i) => `line ${i}`);
  const [was, is] = [oneSection(["a", ...lines, "b"]), oneSection(["c", "d", ...lines, "e"])];
  const begin = performance.now();
  assert.equal(shiftOf(was, songMap(was), is, songMap(is), 8 * 1500), 8);
  assert.ok(performance.now() - begin < 2000);
});
