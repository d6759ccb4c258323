import assert from "node:assert/strict";
import test from "node:test";
import { songMap } from "../../../src/web/chart/map.js";
import { ease, jumpMs, keyframes, offsetAt, pageAt } from "../../../src/web/stage/glide.js";
import { chartOf } from "./charts-by-hand.js";
import { Random } from "./random.js";

/** A song of lines of 8 beats at 120, each 50 px high. */
const map = songMap(chartOf({ tempo: 120, sections: [{ lines: new Array(40).fill("la") }] }));
const layout = { tops: map.lines.map((_, i) => 100 + 50 * i), heights: map.lines.map(() => 50), content: 2200, viewport: 600 };

test("a line rests for its first half, and the next one is at the anchor exactly on its first beat", () => {
  for (const anchor of [0.2, 0.3, 0.6]) {
    for (let i = 10; i < 20; i += 1) {
      const at = (beat) => offsetAt({ ...layout, anchor }, map, beat);
      const rest = layout.tops[i] - anchor * 600;
      assert.equal(at(8 * i), rest);
      assert.equal(at(8 * i + 4), rest);
      assert.ok(at(8 * i + 5) > rest);
      assert.ok(Math.abs(at(8 * i + 6) - rest - 25) < 1e-6);
      assert.ok(Math.abs(at(8 * i + 8 - 1e-9) - rest - 50) < 1e-6);
    }
  }
});

test("in line mode the text moves in the last eighth of a line", () => {
  const at = (beat) => offsetAt({ ...layout, mode: "line" }, map, beat);
  assert.equal(at(80 + 7), at(80));
  assert.ok(at(80 + 7.5) > at(80));
  assert.equal(at(88), at(80) + 50);
});

test("the ends of the song stay at the ends of the screen", () => {
  assert.equal(offsetAt(layout, map, -8), 0);
  assert.equal(offsetAt(layout, map, 0), 0);
  assert.equal(offsetAt(layout, map, 319), 1600);
  assert.equal(offsetAt(layout, map, 999), 1600);
});

test("nothing moves if the song fits, and never in mode off", () => {
  assert.equal(offsetAt({ ...layout, content: 600 }, map, 200), 0);
  assert.equal(keyframes({ ...layout, content: 600 }, map, 200).length, 1);
  assert.equal(offsetAt({ ...layout, mode: "off" }, map, 200), null);
  assert.deepEqual(keyframes({ ...layout, mode: "off" }, map, 200), []);
  assert.equal(offsetAt(layout, songMap(chartOf()), 200), 0);
});

test("a way of more than a screen is a cut on the first beat", () => {
  const far = { ...layout, tops: layout.tops.map((top, i) => (i >= 20 ? top + 1000 : top)), content: 3200 };
  assert.equal(offsetAt(far, map, 160 - 1e-9), layout.tops[19] - 180);
  assert.equal(offsetAt(far, map, 160), layout.tops[20] + 1000 - 180);
  const frames = keyframes(far, map, 152, 2).filter(({ beat }) => beat === 160);
  assert.deepEqual(frames.map(({ offset }) => offset), [layout.tops[19] - 180, layout.tops[20] + 820]);
});

test("the way back to a repeated section takes 200 ms and ends on the beat", () => {
  const back = { ...layout, tops: layout.tops.map((top, i) => (i >= 20 ? top - 400 : top)) };
  const rest = layout.tops[19] - 180;
  // 200 ms are 0.4 beats at 120.
  assert.equal(offsetAt(back, map, 160 - 0.401), rest);
  assert.ok(offsetAt(back, map, 160 - 0.2) < rest);
  assert.equal(offsetAt(back, map, 160), layout.tops[20] - 400 - 180);
  assert.equal(jumpMs(0, 600, 600), 200);
  assert.equal(jumpMs(700, 0, 600), 0);
});

test("a move is never faster than a screen a second; a long one begins earlier", () => {
  const random = new Random(5);
  for (let run = 0; run < 200; run += 1) {
    const chart = chartOf({ tempo: random.int(60, 200), sections: [{ beats: Array.from({ length: 30 }, () => random.int(2, 16)), lines: new Array(30).fill("la") }] });
    const song = songMap(chart);
    let top = 0;
    const tops = song.lines.map(() => (top += random.int(20, 250)));
    const page = { tops, heights: tops.map(() => 20), content: top + 300, viewport: random.int(300, 900), mode: random.pick(["glide", "line"]), anchor: random.range(0.2, 0.6) };
    const perBeat = 60 / chart.tempo;
    song.lines.forEach(({ from, to }, i) => {
      const [a, b] = [offsetAt(page, song, from), offsetAt(page, song, to)];
      const need = (b - a) / page.viewport;
      if (need > (to - from) * perBeat || b - a > page.viewport) return;
      const steps = 64;
      for (let k = 0; k < steps; k += 1) {
        const [x, y] = [k, k + 1].map((n) => offsetAt(page, song, n === steps ? to - 1e-9 : from + ((to - from) * n) / steps));
        const speed = (y - x) / page.viewport / (((to - from) * perBeat) / steps);
        assert.ok(speed <= 1.0001 && speed >= -1e-9, `line ${i}: ${speed}`);
      }
      const rest = Math.max(0, Math.min(tops[i] - page.anchor * page.viewport, page.content - page.viewport));
      assert.ok(Math.abs(a - rest) < 1e-9);
    });
  }
});

test("keyframes describe the same motion as the offsets", () => {
  const random = new Random(6);
  for (let run = 0; run < 300; run += 1) {
    const page = { ...layout, mode: random.pick(["glide", "line", "page"]), viewport: random.int(200, 1200) };
    const begin = random.range(-4, 330);
    const frames = keyframes(page, map, begin, random.int(1, 6));
    assert.equal(frames[0].beat, begin);
    assert.equal(frames[0].offset, offsetAt(page, map, begin));
    for (let i = 1; i < frames.length; i += 1) {
      const [a, b] = [frames[i - 1], frames[i]];
      assert.ok(b.beat >= a.beat);
      for (const part of [0.1, 0.5, 0.9]) {
        if (a.beat === b.beat) continue;
        const beat = a.beat + part * (b.beat - a.beat);
        const shown = a.offset + (b.offset - a.offset) * (a.easing === "linear" ? part : ease(part));
        assert.ok(Math.abs(shown - offsetAt(page, map, beat)) < 1, `${page.mode} ${beat}: ${shown} ${offsetAt(page, map, beat)}`);
      }
    }
  }
});

test("pages turn half by half: the upper half as the last line begins, the lower one with the next page", () => {
  const page = { ...layout, mode: "page" };
  // Lines of 50 px from 100 on: ten fit on the first page, which has the title, and twelve on the second.
  assert.deepEqual(pageAt(page, map, 0), { upper: 0, lower: 0 });
  assert.deepEqual(pageAt(page, map, 8 * 8), { upper: 0, lower: 0 });
  assert.deepEqual(pageAt(page, map, 8 * 9), { upper: 600, lower: 0 });
  assert.deepEqual(pageAt(page, map, 8 * 10), { upper: 600, lower: 600 });
  assert.equal(offsetAt(page, map, 8 * 9.9), 0);
  assert.equal(offsetAt(page, map, 8 * 10), 600);
  assert.deepEqual(pageAt(page, map, 8 * 39), { upper: 1600, lower: 1600 });
  const heads = layout.tops.map((top) => top - 30);
  assert.equal(offsetAt({ ...page, heads }, map, 8 * 10), 570);
});

test("the curve is that of CSS", () => {
  assert.deepEqual([ease(-1), ease(0), ease(0.5), ease(1), ease(2)].map((n) => Math.round(1e6 * n) / 1e6), [0, 0, 0.5, 1, 1]);
  // Values of cubic-bezier(0.42, 0, 0.58, 1) at a quarter and at three quarters.
  assert.ok(Math.abs(ease(0.25) - 0.1291) < 0.0005 && Math.abs(ease(0.75) - 0.8709) < 0.0005);
});
