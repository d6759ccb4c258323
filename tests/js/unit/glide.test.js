// The lines that the timeline plays next, and the keyframes for them.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { directionOf, joins, syllables } from "../../../src/web/stage/bidi.js";
import { keyframes, linesBetween, timeBefore } from "../../../src/web/stage/glide.js";
import * as music from "../../../src/web/timeline.js";

const T0 = 5_000_000;
const BEAT = music.BEAT;
const map = {
  beats: 64,
  tempos: [{ beat: 0, bpm: 120 }],
  lines: [0, 8, 16, 24, 32, 40, 48, 56].map((from) => ({ from, to: from + 8 })),
};
const targets = map.lines.map((_, i) => 100 * i);

const segment = (fields = {}) => ({ t0: T0, p0: 0, b0: 0, rate: 1, bpm0: 120_000, bpm1: 120_000, ramp: 0, ...fields });
const timeline = (...segments) => ({ segments, meter: [{ beat: 0, num: 4, den: 4 }] });
const frames = (music_, plan, options = {}) => keyframes(plan, targets, { timeline: music_, map, height: 1000, ...options });

/** Offset at a time, between the keyframes before and after it. */
function at(list, t) {
  const i = list.findLastIndex((frame) => frame.t <= t);
  return i < 0 ? list[0].y : list[i].y;
}

describe("lines to come", () => {
  test("follow one another, and the last one has no end", () => {
    const plain = timeline(segment());
    const plan = linesBetween(plain, map, T0 + 1000, T0 + 60e6);
    assert.deepEqual(plan.map(({ line }) => line), [0, 1, 2, 3, 4, 5, 6, 7]);
    plan.forEach(({ t0, next, jumps }, i) => {
      assert.equal(t0, T0 + i * 4e6);
      assert.equal(next, i < 7 ? i + 1 : -1);
      assert.equal(jumps, false);
    });
    assert.equal(plan.at(-1).t1, Infinity);
  });

  test("are none while nothing plays", () => {
    assert.deepEqual(linesBetween(timeline(segment({ rate: 0 })), map, T0, T0 + 1e7), []);
  });

  test("begin exactly where the timeline has them, at any tempo and in ramps", () => {
    for (let bpm = 37_000; bpm < 400_000; bpm += 13_337) {
      for (const [bpm1, ramp] of [[bpm, 0], [120_000, 7_000_000], [399_000, 11_000_000]]) {
        const ramped = timeline(segment({ bpm0: bpm, bpm1, ramp }));
        for (const { line, t0, next, t1 } of linesBetween(ramped, map, T0, T0 + 30e6)) {
          assert.equal(t0, music.timeOfBeat(ramped, map.lines[line].from * BEAT));
          if (next >= 0) assert.equal(t1, music.timeOfBeat(ramped, map.lines[next].from * BEAT));
        }
      }
    }
  });

  test("jump back at the end of a loop, pass after pass", () => {
    const looped = timeline(segment({ b0: 16 * BEAT, loop: { from: 16 * BEAT, to: 32 * BEAT, p: 0 } }));
    const plan = linesBetween(looped, map, T0, T0 + 20e6);
    assert.deepEqual(plan.slice(0, 5).map(({ line, jumps }) => [line, jumps]), [[2, false], [3, true], [2, false], [3, true], [2, false]]);
    assert.equal(plan[2].t0, T0 + 8e6);
  });

  test("loop within one line without an end", () => {
    const looped = timeline(segment({ b0: 16 * BEAT, loop: { from: 16 * BEAT, to: 20 * BEAT, p: 0 } }));
    const plan = linesBetween(looped, map, T0, T0 + 9e6);
    assert.ok(plan.every(({ line, jumps }) => line === 2 && jumps));
    assert.equal(plan[1].t0, T0 + 2e6);
  });

  test("take an armed jump, and end where the music stops or the song changes", () => {
    const jump = timeline(segment(), segment({ t0: T0 + 6e6, b0: 48 * BEAT, cut: 12 * BEAT, armed: "jump" }));
    const plan = linesBetween(jump, map, T0, T0 + 12e6);
    assert.deepEqual(plan.slice(0, 3).map(({ line, next, jumps }) => [line, next, jumps]), [[0, 1, false], [1, 6, true], [6, 7, false]]);
    assert.equal(plan[1].t1, T0 + 6e6);
    for (const end of [{ rate: 0, b0: 12 * BEAT }, { b0: 0, song: "other" }]) {
      const ends = timeline(segment(), segment({ t0: T0 + 6e6, ...end }));
      assert.deepEqual(linesBetween(ends, map, T0, T0 + 12e6).map(({ line, next }) => [line, next]), [[0, 1], [1, -1]]);
    }
  });

  test("keep their beginning when the tempo changes inside a line", () => {
    const change = timeline(segment(), segment({ t0: T0 + 6e6, b0: 12 * BEAT, bpm0: 60_000, bpm1: 60_000, armed: "tempo" }));
    const plan = linesBetween(change, map, T0, T0 + 20e6);
    assert.deepEqual(plan.slice(0, 3).map(({ line, t0, t1 }) => [line, t0 - T0, t1 - T0]), [[0, 0, 4e6], [1, 4e6, 10e6], [2, 10e6, 18e6]]);
  });

  test("know when the present line began", () => {
    const plain = timeline(segment());
    assert.equal(linesBetween(plain, map, T0 + 7e6, T0 + 8e6)[0].t0, T0 + 4e6);
    assert.equal(timeBefore(plain, 8 * BEAT, T0 + 7e6, T0), T0 + 4e6);
    assert.equal(timeBefore(plain, 24 * BEAT, T0 + 7e6, T0), null);
  });
});

describe("keyframes", () => {
  test("rest until half of a line, and reach the next on its first beat", () => {
    const plain = timeline(segment());
    const list = frames(plain, linesBetween(plain, map, T0, T0 + 20e6));
    for (let line = 0; line < 4; line += 1) {
      assert.equal(at(list, T0 + line * 4e6), 100 * line);
      assert.equal(at(list, T0 + line * 4e6 + 1.99e6), 100 * line);
      assert.ok(list.some(({ t, y, easing }) => t === T0 + line * 4e6 + 2e6 && y === 100 * line && easing !== "linear"));
    }
  });

  test("never go back in time", () => {
    for (const music_ of [
      timeline(segment({ bpm0: 400_000, bpm1: 400_000 })),
      timeline(segment({ b0: 16 * BEAT, loop: { from: 16 * BEAT, to: 17 * BEAT, p: 0 } })),
      timeline(segment(), segment({ t0: T0 + 100_000, b0: 48 * BEAT, armed: "jump" })),
    ]) {
      for (const mode of ["glide", "line"]) {
        for (const steps of [false, true]) {
          const list = frames(music_, linesBetween(music_, map, T0, T0 + 20e6), { mode, steps });
          list.forEach(({ t }, i) => assert.ok(i === 0 || t >= list[i - 1].t));
        }
      }
    }
  });

  test("cut over more than a screen, and take 200 ms for a shorter jump", () => {
    const jump = timeline(segment(), segment({ t0: T0 + 6e6, b0: 48 * BEAT, cut: 12 * BEAT, armed: "jump" }));
    const plan = linesBetween(jump, map, T0, T0 + 12e6);
    const way = (height) => {
      const list = frames(jump, plan, { height });
      const end = list.findIndex(({ y }) => y === 600);
      return list[end].t - T0;
    };
    assert.equal(way(1000), 6.2e6);
    assert.equal(way(300), 6e6);
  });

  test("are steps where motion is reduced", () => {
    const plain = timeline(segment());
    const list = frames(plain, linesBetween(plain, map, T0, T0 + 20e6), { steps: true });
    for (let i = 1; i < list.length; i += 1) if (list[i].y !== list[i - 1].y) assert.equal(list[i].t, list[i - 1].t);
  });
});

describe("scripts", () => {
  test("have a direction", () => {
    assert.equal(directionOf("12 abc"), "ltr");
    assert.equal(directionOf("12 שלום abc"), "rtl");
    assert.equal(directionOf("… 12", "rtl"), "rtl");
  });

  test("join Arabic letters, but not after those that stand alone, nor in other scripts", () => {
    assert.equal(joins("بال", "عالم"), true);
    assert.equal(joins("با", "لم"), false);
    assert.equal(joins("بِ", "لم"), true, "marks are skipped");
    assert.equal(joins("שלו", "ם"), false);
    assert.equal(joins("", "عالم"), false);
  });

  test("break between letters where there are no spaces", () => {
    assert.deepEqual(syllables("hello"), ["hello"]);
    assert.deepEqual(syllables("君が代"), ["君", "が", "代"]);
    assert.deepEqual(syllables("ギター、ね"), ["ギ", "ター、", "ね"]);
  });
});
