import assert from "node:assert/strict";
import test from "node:test";
import { parseChart } from "../../../src/web/chart/chordpro.js";
import { songMap } from "../../../src/web/chart/map.js";
import { hasLengths, LineTap, roundPress, writeBeats } from "../../../src/web/chart/tap.js";
import { chartOf, gridLine } from "./charts-by-hand.js";
import { Random } from "./random.js";

const mapOf = (fields) => songMap(chartOf(fields));
const four = mapOf({ sections: [{ lines: ["one", "two", "three", "four"] }] });
const short = (tap, beat) => tap.press(beat) && !tap.release(beat + 0.2);
const beatsOf = (tap) => tap.lengths.map(({ beats }) => beats);

test("presses are rounded to the beat", () => {
  assert.deepEqual([3.4, 3.6, 7.49, 0.2, -2, 1.7].map((beat) => roundPress(four, beat)), [3, 4, 7, 0, 0, 2]);
});

test("a press within 15 % of half a bar of a half bar is moved to it", () => {
  const twelve = mapOf({ time: { num: 12, den: 8 }, sections: [{ lines: ["la", "la"] }] });
  // Half a bar has 6 beats, and 15 % of it are 0.9.
  assert.deepEqual([5.2, 5.05, 6.85, 6.95, 4.8].map((beat) => roundPress(twelve, beat)), [6, 5, 6, 7, 5]);
  const six = mapOf({ time: { num: 6, den: 8 }, sections: [{ lines: ["la"] }] });
  assert.deepEqual([2.6, 3.4, 2.4, 3.55].map((beat) => roundPress(six, beat)), [3, 3, 2, 4]);
  const three = mapOf({ time: { num: 3, den: 4 }, sections: [{ lines: ["la"] }] });
  assert.deepEqual([1.5, 2.6, 1.4].map((beat) => roundPress(three, beat)), [2, 3, 1]);
});

test("half bars count from the bar lines of the song", () => {
  const pickup = mapOf({ time: { num: 12, den: 8 }, sections: [{ beats: [2, 24], lines: ["and", "one"] }] });
  assert.equal(roundPress(pickup, 7.2), 8);
});

test("each press begins a line, and the distances are the lengths", () => {
  const tap = new LineTap(four);
  assert.deepEqual([tap.current, tap.next, tap.isDone], [-1, 0, false]);
  for (const beat of [0.1, 7.1, 15.9, 24.2]) assert.ok(short(tap, beat));
  assert.deepEqual([tap.current, tap.next, tap.isDone], [3, 4, true]);
  assert.equal(tap.press(30), false);
  tap.finish(33.1);
  assert.deepEqual(beatsOf(tap), [7, 9, 8, 9]);
  assert.deepEqual([...tap.lists], [[0, [7, 9, 8, 9]]]);
});

test("the first line begins with the song", () => {
  const tap = new LineTap(four);
  short(tap, 15.8);
  short(tap, 24);
  tap.finish();
  assert.deepEqual(beatsOf(tap), [24, 8]);
  assert.deepEqual([...tap.lists], [[0, [24, 8, 8, 8]]]);
});

test("backspace takes one press back", () => {
  const tap = new LineTap(four);
  assert.equal(tap.back(), false);
  for (const beat of [0, 8, 11]) short(tap, beat);
  assert.equal(tap.back(), true);
  assert.deepEqual([tap.current, tap.starts], [1, [0, 8]]);
  for (const beat of [16, 24]) short(tap, beat);
  tap.finish(32);
  assert.equal(tap.isDone, true);
  tap.back();
  assert.equal(tap.isDone, false);
  assert.deepEqual(beatsOf(tap), [8, 8, 8]);
});

test("a press that is not after the last one does not count", () => {
  const tap = new LineTap(four);
  short(tap, 0);
  assert.equal(tap.press(0.3), false);
  assert.equal(tap.press(-4), false);
  assert.equal(short(tap, 8), true);
  assert.equal(tap.press(4), false);
});

test("while a press is held the band vamps, and those rounds do not count", () => {
  const tap = new LineTap(four);
  tap.press(0);
  assert.equal(tap.isHeld, true);
  assert.equal(tap.release(24.1), true);
  short(tap, 32);
  short(tap, 40);
  tap.finish(48);
  assert.deepEqual(beatsOf(tap), [8, 8, 8]);
});

test("a vamp that is released as the next line begins has the length of one round", () => {
  const tap = new LineTap(four);
  tap.press(0);
  tap.release(31.8);
  short(tap, 32.9);
  tap.finish(40);
  assert.deepEqual(beatsOf(tap), [8, 7]);
});

test("the song may be tapped from a later line on", () => {
  const tap = new LineTap(four, 2);
  short(tap, 16.1);
  short(tap, 26);
  tap.finish(36);
  assert.deepEqual(tap.lengths, [{ line: 2, beats: 10 }, { line: 3, beats: 10 }]);
  assert.deepEqual([...tap.lists], [[0, [8, 8, 10, 10]]]);
});

test("a line of several passes gets the length that it had most often", () => {
  const map = mapOf({ sections: [{ name: "A", times: 3, lines: ["one"] }] });
  const tap = new LineTap(map);
  for (const beat of [0, 9, 17]) short(tap, beat);
  tap.finish(25);
  assert.deepEqual([...tap.lists], [[0, [8]]]);
});

test("lines with bar lines keep their length", () => {
  const map = mapOf({ sections: [{ lines: [gridLine("| C | G |"), "one"] }, { lines: [gridLine("| C |")] }] });
  const tap = new LineTap(map);
  for (const beat of [0, 9, 17]) short(tap, beat);
  tap.finish(21);
  assert.deepEqual([...tap.lists], [[0, [8, 8]]]);
});

const SONG = "{title: Sea}\r\n{time: 4/4}\r\n\r\n{sov}\r\nOne [C]two\r\n  three \r\n{eov}\r\n{soc}\r\n{x_bars: 2}\r\n{x_beats: 9 9}\r\nfour\r\n{eoc}\r\n\r\nfive\r\nsix";

test("the result is written as x_beats, and all else stays byte for byte", () => {
  const lists = new Map([[0, [7, 9]], [1, [16]], [2, [8, 8]]]);
  const text = writeBeats(SONG, lists);
  assert.equal(
    text,
    "{title: Sea}\r\n{time: 4/4}\r\n\r\n{sov}\r\n{x_beats: 7 9}\r\nOne [C]two\r\n  three \r\n{eov}\r\n{soc}\r\n{x_bars: 2}\r\n" +
      "{x_beats: 16}\r\nfour\r\n{eoc}\r\n\r\n{x_beats: 8}\r\nfive\r\nsix",
  );
  assert.ok(hasLengths(text, lists));
  assert.equal(writeBeats(text, lists), text);
  assert.equal(writeBeats(SONG, new Map()), SONG);
  assert.equal(writeBeats(SONG, new Map([[7, [8]]])), SONG);
});

test("random songs, tapped by a player with a delay, have the lengths that were played", () => {
  const random = new Random(18);
  for (let run = 0; run < 150; run += 1) {
    const end = random.pick(["\n", "\r\n"]);
    const count = random.int(1, 5);
    const body = Array.from({ length: count }, (_, s) => {
      const kind = random.pick(["verse", "chorus", "bridge", "solo"]);
      const lines = Array.from({ length: random.int(1, 5) }, (_, l) => `words ${s} [C]${l}`);
      const x = random.pick([[], [], ["{x_beats: 3 5}"], ["{x_bars: 4}"]]);
      return random.int(0, 3) > 0 ? [`{start_of_${kind}}`, ...x, ...lines, `{end_of_${kind}}`] : [...x, ...lines, "{c: so}", "{c: it}"];
    });
    const text = ["{title: Any}", ...body.flatMap((lines) => ["", ...lines])].join(end) + random.pick(["", end]);
    const map = songMap(parseChart(text));
    const tap = new LineTap(map);
    const played = [];
    let at = 0;
    map.lines.forEach(() => {
      short(tap, at + random.range(-0.25, 0.25));
      played.push(random.int(4, 24));
      at += played.at(-1);
    });
    tap.finish(at);
    assert.deepEqual(beatsOf(tap), played);
    const written = writeBeats(text, tap.lists);
    assert.ok(hasLengths(written, tap.lists), `${text}\n----\n${written}`);
    const rest = (song) => song.split(/\r?\n/).filter((line) => !line.startsWith("{x_beats"));
    assert.deepEqual(rest(written), rest(text));
    assert.deepEqual(songMap(parseChart(written)).lines.map(({ from, to }) => to - from), played);
  }
});
