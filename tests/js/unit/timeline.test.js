import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as music from "../../../src/web/timeline.js";
import { makeVectors } from "./make-vectors.js";
import { Random } from "./random.js";

const read = (name) => readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8");
const vectors = JSON.parse(read("timeline.json"));

test("the vector files equal the output of the generator", () => {
  for (const [name, text] of Object.entries(makeVectors())) assert.ok(read(name) === text, `${name} is out of date`);
});

test("every number in the vectors fits in 53 bits", () => {
  JSON.parse(read("timeline.json"), (_, value) => {
    if (typeof value === "number") assert.ok(Number.isSafeInteger(value), `${value}`);
    return value;
  });
});

test("there are more than 400 cases", () => {
  const cases = vectors.timelines.flatMap((v) => [...v.at, ...v.beats, ...v.bars, ...v.boundaries]);
  assert.ok(cases.length > 400, `${cases.length}`);
  assert.ok(vectors.timelines.some((v) => v.beats.some((c) => c.t === null)));
});

for (const { name, timeline, at, beats, bars, boundaries } of vectors.timelines) {
  test(`timeline: ${name}`, () => {
    assert.ok(music.isTimeline(timeline));
    for (const { t, segment, position, beat, tempo } of at) {
      assert.equal(music.segmentAt(timeline, t), segment, `segment at ${t}`);
      assert.equal(music.positionAt(timeline, t), position, `position at ${t}`);
      assert.equal(music.beatAt(timeline, t), beat, `beat at ${t}`);
      assert.equal(music.tempoAt(timeline, t), tempo, `tempo at ${t}`);
    }
    for (const { beat, from, t } of beats) {
      assert.equal(music.timeOfBeat(timeline, beat, from), t, `time of beat ${beat} from ${from}`);
    }
    for (const { beat, ...bar } of bars) assert.deepEqual(music.barAt(timeline, beat), bar, `bar at ${beat}`);
    for (const { beat, quantum, next } of boundaries) {
      assert.equal(music.nextBoundary(timeline, beat, quantum), next, `boundary ${quantum} at ${beat}`);
    }
  });
}

test("the newest (epoch, version) wins", () => {
  const value = ([epoch, version]) => ({ epoch, version });
  for (const { a, b, newer } of vectors.newer) {
    assert.equal(music.isNewer(value(a), value(b)), newer, `${a} against ${b}`);
  }
  assert.ok(music.isNewer(value([0, 0]), null));
});

test("beats never go back, and a beat's time leads back to the beat", () => {
  const random = new Random(7);
  for (const { timeline } of vectors.timelines) {
    const last = timeline.segments.at(-1);
    if (last.rate !== 1) continue;
    let before = -Infinity;
    for (let t = last.t0; t < last.t0 + 120e6; t += random.int(1, 3e6)) {
      const beat = music.beatAt(timeline, t);
      assert.ok(beat >= before);
      before = beat;
      // At 400 BPM, rounding by 0.5 µs changes the beat by at most four microbeats.
      const again = music.beatAt(timeline, music.timeOfBeat(timeline, beat, last.t0));
      assert.ok(Math.abs(again - beat) <= 4, `${beat} came back as ${again}`);
    }
  }
});

test("beatsBetween finds each whole beat once, for any windows", () => {
  const random = new Random(8);
  for (const { name, timeline } of vectors.timelines) {
    const start = timeline.segments[0].t0 - 3e6;
    const end = start + 20e6;
    const whole = music.beatsBetween(timeline, start, end, 1000);
    const pieces = [];
    for (let t = start; t < end; ) {
      const next = Math.min(end, t + random.int(1, 700_000));
      pieces.push(...music.beatsBetween(timeline, t, next));
      t = next;
    }
    assert.deepEqual(pieces, whole, name);
    for (const { beat, t } of whole) {
      assert.equal(music.timeOfBeat(timeline, beat, t), t, `${name}: beat ${beat}`);
      assert.equal(music.beatsBetween(timeline, t, t + 1)[0].beat, beat, `${name}: beat ${beat}, window from its time`);
    }
    for (let i = 1; i < whole.length; i += 1) assert.ok(whole[i - 1].t <= whole[i].t);
  }
});

test("a malformed timeline is rejected", () => {
  const good = vectors.timelines[0].timeline;
  const [segment] = good.segments;
  const bad = [
    null,
    {},
    { ...good, epoch: -1 },
    { ...good, version: 1.5 },
    { ...good, segments: [] },
    { ...good, segments: Array(9).fill(segment) },
    { ...good, segments: [{ ...segment, bpm0: 0 }] },
    { ...good, segments: [{ ...segment, rate: 2 }] },
    { ...good, segments: [{ ...segment, ramp: -1 }] },
    { ...good, segments: [{ ...segment, p0: "0" }] },
    { ...good, segments: [segment, { ...segment, t0: segment.t0 - 1 }] },
    { ...good, meter: [{ beat: 0, num: 0, den: 4 }] },
    { ...good, meter: [{ beat: 4, num: 4, den: 4 }, { beat: 4, num: 3, den: 4 }] },
  ];
  for (const value of bad) assert.equal(music.isTimeline(value), false, JSON.stringify(value));
});
