import assert from "node:assert/strict";
import test from "node:test";
import { chartWriter, chordWriter, keyName, keysFor, readChord, soundingKey, writtenKey } from "../../../src/web/chart/chord.js";
import { toChordPro } from "../../../src/web/chart/convert.js";
import { parseChart, parseSongs } from "../../../src/web/chart/chordpro.js";
import { playedLines } from "../../../src/web/chart/model.js";
import { songFields, songMap } from "../../../src/web/chart/map.js";
import { shiftOf } from "../../../src/web/chart/shift.js";
import { readCorpus } from "./make-charts.js";

const charts = readCorpus().flatMap(({ name, text }) => parseSongs(toChordPro(text)).map((chart) => ({ name, chart })));

const chordsOf = (chart) =>
  chart.sections.flatMap((section, s) =>
    section.lines.flatMap(({ parts }, l) => parts.flatMap(({ mark }) => (mark?.kind === "chord" ? [{ s, l, text: mark.text }] : []))),
  );
const mod = (n) => ((n % 12) + 12) % 12;

test("all chords of the corpus, up by n and down again in their key, have the same pitches", () => {
  let count = 0;
  for (const { name, chart } of charts) {
    const key = writtenKey(chart);
    for (const { text } of chordsOf(chart)) {
      const was = readChord(text, chart.notation);
      for (let n = -11; n <= 11; n += 1) {
        const up = chordWriter({ key, source: chart.notation, shift: n })(text);
        const back = chordWriter({ key: keyName(key, n, "english"), source: chart.notation, shift: -n })(up);
        if (!was) {
          assert.equal(back, text);
          continue;
        }
        const is = readChord(back, chart.notation);
        assert.deepEqual([is.root, is.bass, is.quality], [was.root, was.bass, was.quality], `${name}: ${text} ${n} ${up} ${back}`);
        assert.equal(readChord(up, chart.notation).root, was.root === null ? null : mod(was.root + n));
        count += 1;
      }
    }
  }
  assert.ok(count > 2000, `${count} chords`);
});

test("every chart of the corpus has a map, without gaps, and fields that a server accepts", () => {
  for (const { name, chart } of charts) {
    const map = songMap(chart);
    let at = 0;
    for (const { from, to } of map.lines) {
      assert.equal(from, at, name);
      at = to;
    }
    assert.equal(map.beats, at);
    const fields = songFields(chart, map);
    assert.ok(fields.tempoBpm >= 1 && fields.tempoBpm <= 400 && fields.meter[0].beat === 0, name);
    assert.ok((fields.key ?? "").length <= 16);
    assert.equal(shiftOf(chart, map, chart, map, map.beats / 2), 0);
    const write = chartWriter(chart, { shift: 3, notation: "german" });
    for (const { s, l, text } of chordsOf(chart)) assert.doesNotMatch(write(s, l)(text), /undefined|NaN/);
  }
});

test("without a flow, each section of the corpus plays the lines that the reader says", () => {
  for (const { name, chart } of charts) {
    if (chart.flow) continue;
    const map = songMap(chart);
    const played = chart.sections.filter(({ only }) => !only).flatMap((section) => {
      const lines = playedLines(chart, section).filter((line) => line.only === "");
      return new Array(section.times).fill(lines).flat();
    });
    const mapped = map.lines.flatMap(({ section, line, rows }) => chart.sections[section].lines.slice(line, line + rows));
    assert.deepEqual(mapped.map(({ source }) => source), played.map(({ source }) => source), name);
  }
});

const SONG = `{title: Harbour}
{key: Am}
{tempo: 60}
{time: 6/8}
{flow: Intro V1 C V2 C}

{start_of_intro}
[|][Am][|][F][|]
{end_of_intro}
{sov}
{x_bars: 2}
[Am]Harbour lights go [F]down
[C]one by one by [G]one
{eov}
{soc: Chorus}
{time: 9/8}
[F]Row, [G]row
{time: 6/8}
{c: softly}
[Am]row
{eoc}
{sov}
[Am]Second verse
{eov}
`;

test("a song in 6/8 with changes of meter", () => {
  const chart = parseChart(SONG);
  const map = songMap(chart);
  assert.deepEqual(map.passes.map(({ name, from, to }) => [name, from, to]), [
    ["Intro", 0, 12], ["Verse 1", 12, 36], ["Chorus", 36, 66], ["Verse 2", 66, 78], ["Chorus", 78, 108],
  ]);
  assert.deepEqual(map.meter, [
    { beat: 0, num: 6, den: 8 }, { beat: 36, num: 9, den: 8 }, { beat: 54, num: 6, den: 8 },
    { beat: 78, num: 9, den: 8 }, { beat: 96, num: 6, den: 8 },
  ]);
  assert.deepEqual([map.tempos, map.felt, map.guessed, map.tempoGuessed], [[{ beat: 0, bpm: 180 }], 3, true, false]);
  assert.deepEqual(map.lines[1].chords, [12, 18]);
});

test("a German song is read, sounds in its key and is shown to others in theirs", () => {
  const chart = parseChart("{key: h-Moll}\n[h]Eins [H7]zwei [e]drei [B]vier [Fis]");
  assert.equal(chart.notation, "german");
  assert.equal(soundingKey(chart).text, "Hm");
  const write = (view) => ["h", "H7", "e", "B", "Fis"].map(chartWriter(chart, view)(0, 0)).join(" ");
  assert.equal(write({}), "h H7 e B Fis");
  assert.equal(write({ notation: "english" }), "Bm B7 Em B♭ F♯");
  assert.equal(write({ notation: "german", shift: 1 }), "Cm C7 Fm H G");
  assert.equal(write({ notation: "nashville" }), "6m 6⁷ 2m ♭6 3");
});

test("the header of a song with the band's transposition and an own capo", () => {
  const chart = parseChart("{key: D}\n{transpose: 3}\n[D]One [A/C#]two");
  const view = { capo: 3 };
  const { sounds, plays, capo } = keysFor(chart, view);
  assert.deepEqual([keyName(sounds), keyName(plays), capo], ["F", "D", 3]);
  assert.deepEqual(["D", "A/C#"].map(chartWriter(chart, view)(0, 0)), ["D", "A/C#"]);
  assert.deepEqual(["D", "A/C#"].map(chartWriter(chart, {})(0, 0)), ["F", "C/E"]);
});
