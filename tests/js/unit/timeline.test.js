import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as music from "../../../src/web/timeline.js";
import { makeVectors } from "./make-vectors.js";
import { Random } from "./random.js";

const read = (name) => readFileSync(new URL(`../../vectors/${name}`, import.meta.url), "utf8");
const vectors = JSON.parse(read("timeline.json"));
const song = JSON.parse(read("timeline-song.json"));
const { plans } = JSON.parse(read("timeline-plans.json"));

test("the vector files equal the output of the generator", () => {
  for (const [name, text] of Object.entries(makeVectors())) assert.ok(read(name) === text, `${name} is out of date`);
});

test("every number in the vectors fits in 53 bits", () => {
  for (const name of ["timeline.json", "timeline-song.json", "timeline-plans.json"]) {
    JSON.parse(read(name), (_, value) => {
      if (typeof value === "number") assert.ok(Number.isSafeInteger(value), `${name}: ${value}`);
      return value;
    });
  }
});

test("all timelines of the song vectors are there", () => {
  assert.equal(song.timelines.length, 112);
  const fields = new Set(song.timelines.flatMap((v) => v.timeline.segments.flatMap(Object.keys)));
  for (const field of ["loop", "start", "cut", "meter", "song", "end"]) assert.ok(fields.has(field), field);
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

for (const { name, timeline, at, times, clicks } of song.timelines) {
  test(`timeline with loops, count-ins and armed changes: ${name}`, () => {
    assert.ok(music.isTimeline(timeline));
    for (const { t, song: beat, ...place } of at) {
      assert.deepEqual(music.placeAt(timeline, t), { beat, ...place }, `at ${t}`);
      assert.equal(music.segmentAt(timeline, t), place.segment, `segment at ${t}`);
      assert.equal(music.countAt(timeline, t), place.count, `count at ${t}`);
      assert.equal(music.beatAt(timeline, t), beat, `beat at ${t}`);
      assert.equal(music.positionAt(timeline, t), place.position, `position at ${t}`);
      assert.equal(music.tempoAt(timeline, t), place.tempo, `tempo at ${t}`);
      assert.equal(music.isPlayingAt(timeline, t), place.playing, `playing at ${t}`);
    }
    for (const { beat, from, t } of times) {
      assert.equal(music.timeOfBeat(timeline, beat, from), t, `time of beat ${beat} from ${from}`);
    }
    const found = music.beatsBetween(timeline, clicks.since, clicks.until);
    assert.deepEqual(
      found.map(({ beat, t, bar, inBar }) => ({ t, song: beat, bar, inBar })),
      clicks.beats,
    );
  });
}

for (const { name, after, at } of plans) {
  test(`the timeline after a command: ${name}`, () => {
    assert.ok(music.isTimeline(after));
    for (const { t, song: beat, position } of at) {
      assert.deepEqual([music.beatAt(after, t), music.positionAt(after, t)], [beat, position], `at ${t}`);
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
  for (const { name, timeline } of [...vectors.timelines, ...song.timelines]) {
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
    for (const { beat, t, countIn } of whole) {
      // The beats of a count-in are not beats of the song.
      if (!countIn) assert.equal(music.timeOfBeat(timeline, beat, t), t, `${name}: beat ${beat}`);
      assert.equal(music.beatsBetween(timeline, t, t + 1)[0].beat, beat, `${name}: beat ${beat}, window from its time`);
    }
    for (let i = 1; i < whole.length; i += 1) assert.ok(whole[i - 1].t <= whole[i].t);
  }
});

test("a count that rounds up to a wrap is at the loop's position, never before it", () => {
  const slow = { t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 20_000, bpm1: 20_000, ramp: 0, loop: { from: 0, to: music.BEAT, p: 70 } };
  const looped = { epoch: 1, version: 1, segments: [slow] };
  assert.deepEqual([music.countAt(looped, 3e6 - 1), music.positionAt(looped, 3e6 - 1)], [music.BEAT, 70]);
  assert.equal(music.positionAt(looped, 3e6 + 1), 71);
});

test("a count waits below the cut of a segment that begins late", () => {
  const segment = { t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 60_000, bpm1: 60_000, ramp: 0 };
  const jump = { ...segment, t0: 5e6, b0: 20e6, p0: 20e6, cut: 4e6, armed: "jump" };
  const late = { epoch: 1, version: 1, segments: [segment, jump] };
  assert.equal(music.countAt(late, 4.5e6), 4e6 - 1);
  assert.deepEqual(music.beatsBetween(late, 3e6, 7e6).map(({ beat }) => beat), [3e6, 20e6, 21e6]);
});

test("a count-in to a place in a later pass is not folded", () => {
  const loop = { from: 0, to: 8e6, p: 0 };
  const segment = { t0: 0, p0: 4e6, b0: 16e6, rate: 1, bpm0: 60_000, bpm1: 60_000, ramp: 0, loop, start: 20e6 };
  const counted = { epoch: 1, version: 1, segments: [segment] };
  assert.deepEqual([music.beatAt(counted, 1e6), music.placeAt(counted, 1e6).bar], [17e6, -1]);
  assert.deepEqual([music.beatAt(counted, 5e6), music.placeAt(counted, 5e6).bar], [5e6, 1]);
});

test("a beat far into an endless loop is found at once", () => {
  const segment = { t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 60_000, bpm1: 60_000, ramp: 0 };
  const looped = { epoch: 1, version: 1, segments: [{ ...segment, loop: { from: 0, to: 1, p: 0 } }] };
  assert.equal(music.timeOfBeat(looped, 0, 86_400_000_000), 86_400_000_000);
});

test("the next bar is found across the end of a loop, a count-in and an armed jump", () => {
  const segment = { t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 60_000, bpm1: 60_000, ramp: 0 };
  const of = (...segments) => ({ epoch: 1, version: 1, segments, meter: [{ beat: 0, num: 4, den: 4 }] });
  const beats = (n) => n * music.BEAT;
  const loop = of({ ...segment, loop: { from: beats(4), to: beats(10), p: 4e6 } });
  assert.equal(music.nextBarAt(loop, 0), 4e6);
  assert.equal(music.nextBarAt(loop, 8e6), 10e6, "beat 4 of the second pass");
  const countIn = of({ ...segment, b0: beats(-5), start: beats(3) });
  assert.equal(music.nextBarAt(countIn, 0), 4e6, "the second bar of the count-in");
  assert.equal(music.nextBarAt(countIn, 4e6), 9e6, "bar 2 of the song, which starts on beat 4 of bar 1");
  const jump = of(segment, { ...segment, t0: 6e6, p0: 16e6, b0: beats(16), cut: beats(6), armed: "jump" });
  assert.equal(music.nextBarAt(jump, 5e6), 6e6);
  const short = of({ ...segment, loop: { from: beats(5), to: beats(7), p: 5e6 } });
  assert.equal(music.nextBarAt(short, 6e6), null, "a loop without a bar line");
  assert.equal(music.nextBarAt(of({ ...segment, rate: 0 }), 0), null);
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
    { ...good, segments: [{ ...segment, loop: { from: 4, to: 4, p: 0 } }] },
    { ...good, segments: [{ ...segment, loop: { from: 0, to: 4 } }] },
    { ...good, segments: [{ ...segment, loop: 4 }] },
    { ...good, segments: [{ ...segment, start: 0.5 }] },
    { ...good, segments: [segment, { ...segment, cut: "4" }] },
    { ...good, segments: [{ ...segment, meter: [] }] },
    { ...good, segments: [{ ...segment, meter: [{ beat: 0, num: 4 }] }] },
    { ...good, meter: [{ beat: 0, num: 0, den: 4 }] },
    { ...good, meter: [{ beat: 4, num: 4, den: 4 }, { beat: 4, num: 3, den: 4 }] },
  ];
  for (const value of bad) assert.equal(music.isTimeline(value), false, JSON.stringify(value));
});
