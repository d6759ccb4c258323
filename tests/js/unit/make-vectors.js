// Writes tests/vectors/*.json, always with the same bytes. The expected values come from the oracle
// and not from the code under test.

import { writeFileSync } from "node:fs";
import { makeClockVectors } from "./clock-vectors.js";
import * as oracle from "./oracle.js";
import { Random } from "./random.js";

const SECOND = 1_000_000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
const BEAT = 1_000_000;

const segment = (fields) => ({ t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 120_000, bpm1: 120_000, ramp: 0, ...fields });

function timeline(segments, fields = {}) {
  const meter = [{ beat: 0, num: 4, den: 4 }];
  return { epoch: 1, version: 1, leader: null, segments, meter, quantum: 0, countIn: 0, madeAt: 0, ...fields };
}

/** Segments without jumps between them. Each begins with the tempo at which the last one ends. */
function chain(first, steps) {
  const segments = [first];
  for (const { after, ...fields } of steps) {
    const last = segments.at(-1);
    const t0 = last.t0 + after;
    const { beat, position, tempo } = oracle.at(timeline(segments), t0);
    segments.push(segment({ t0, p0: position, b0: beat, bpm0: tempo, bpm1: tempo, rate: last.rate, ...fields }));
  }
  return segments;
}

function named() {
  const steady = segment({ t0: 5 * SECOND });
  const countIn = segment({ t0: 10 * SECOND, p0: -2 * SECOND, b0: -4 * BEAT });
  const up = segment({ t0: SECOND, bpm0: 60_000, bpm1: 180_000, ramp: 8 * SECOND });
  const down = segment({ t0: SECOND, bpm0: 180_000, bpm1: 60_000, ramp: 8 * SECOND });
  const stopped = segment({ rate: 0, p0: 7_654_321, b0: 12_345_678 });
  return [
    ["steady 120", timeline([steady])],
    ["steady, a third of a beat a tick", timeline([segment({ t0: 17, bpm0: 99_999, bpm1: 99_999 })])],
    ["stopped", timeline([stopped])],
    ["count-in of four below zero", timeline([countIn], { countIn: 4, quantum: 4 * BEAT })],
    ["stopped, then a scheduled start", timeline([stopped, segment({ t0: 9 * SECOND, b0: -8 * BEAT, p0: -4 * SECOND })])],
    ["ramp up", timeline([up])],
    ["ramp down", timeline([down])],
    ["ramp of one microsecond", timeline([segment({ bpm0: 20_000, bpm1: 400_000, ramp: 1 })])],
    ["ramp between equal tempos", timeline([segment({ ramp: 3 * SECOND })])],
    ["ramp of one milli-BPM over an hour", timeline([segment({ bpm1: 120_001, ramp: HOUR })])],
    ["slowing by one milli-BPM", timeline([segment({ bpm0: 20_001, bpm1: 20_000, ramp: 10 * SECOND })])],
    ["slowing by two milli-BPM", timeline([segment({ bpm0: 90_002, bpm1: 90_000, ramp: 10 * SECOND })])],
    ["speeding up, exactly half a microsecond to the first microbeat", timeline([segment({ bpm0: 119_999, bpm1: 120_399, ramp: 100 })])],
    ["slowing, exactly half a microsecond to the first microbeat", timeline([segment({ bpm0: 120_001, bpm1: 119_601, ramp: 100 })])],
    ["longest ramp up", timeline([segment({ bpm0: 20_000, bpm1: 400_000, ramp: DAY })])],
    ["longest ramp down", timeline([segment({ bpm0: 400_000, bpm1: 20_000, ramp: DAY })])],
    ["slowest for a day", timeline([segment({ bpm0: 20_000, bpm1: 20_000 })])],
    ["fastest for a day, late server clock", timeline([segment({ t0: 300 * DAY + 1, bpm0: 400_000, bpm1: 400_000 })])],
    [
      "faster, then slower, on the same grid",
      timeline(chain(steady, [{ after: 7_777_777, bpm0: 130_000, bpm1: 130_000 }, { after: 33_333_333, bpm0: 87_500, bpm1: 87_500 }])),
    ],
    [
      "ramp begun inside a ramp",
      timeline(chain(up, [{ after: 3_141_592, bpm1: 90_000, ramp: 5 * SECOND }, { after: 2_718_281, bpm1: 240_000, ramp: 9 * SECOND }])),
    ],
    ["seek keeps the grid", timeline(chain(steady, [{ after: 10_400_000, p0: 90 * SECOND }]))],
    ["pause and go on", timeline(chain(steady, [{ after: 8_123_456, rate: 0 }, { after: 4 * SECOND, rate: 1 }]))],
    ["two segments at one instant", timeline([steady, segment({ t0: 5 * SECOND, b0: 8 * BEAT, bpm0: 90_000, bpm1: 90_000 })])],
    [
      "a seam that skips two microbeats",
      timeline([segment({ bpm0: 60_000, bpm1: 60_000 }), segment({ t0: 999_999, b0: 1_000_001, bpm0: 400_000, bpm1: 400_000 })]),
    ],
    [
      "a beat that rounds up onto the seam",
      timeline(chain(segment({ bpm0: 60_001, bpm1: 60_001 }), [{ after: 999_983, bpm0: 20_000, bpm1: 20_000 }])),
    ],
    ["waltz", timeline([steady], { meter: [{ beat: 0, num: 3, den: 4 }], quantum: 3 * BEAT })],
    ["six-eight from a pickup", timeline([steady], { meter: [{ beat: -2 * BEAT, num: 6, den: 8 }] })],
    ["no meter is common time", timeline([steady], { meter: [] })],
    [
      "four, three, then a bar cut short by five",
      timeline([steady], {
        meter: [
          { beat: 0, num: 4, den: 4 },
          { beat: 16 * BEAT, num: 3, den: 4 },
          { beat: 24 * BEAT, num: 5, den: 8 },
        ],
      }),
    ],
  ];
}

function drawn(random, i) {
  const tempo = () => random.int(20_000, 400_000);
  const first = segment({
    t0: random.int(0, HOUR),
    p0: random.int(-10 * SECOND, HOUR),
    b0: random.int(-16 * BEAT, 4000 * BEAT),
    rate: random.int(0, 5) ? 1 : 0,
    bpm0: tempo(),
    bpm1: tempo(),
    ramp: random.int(0, 3) ? random.int(1, 60 * SECOND) : 0,
  });
  const steps = Array.from({ length: random.int(0, 7) }, () => {
    const step = { after: random.int(0, 90 * SECOND), bpm1: tempo(), ramp: random.int(0, 30 * SECOND) };
    if (!random.int(0, 4)) step.rate = random.int(0, 1);
    if (!random.int(0, 4)) step.p0 = random.int(0, HOUR);
    if (!random.int(0, 2)) return { ...step, bpm0: step.bpm1, ramp: 0 };
    return step;
  });
  const meter = [{ beat: random.int(-4, 4) * BEAT, num: random.int(1, 12), den: random.pick([2, 4, 8, 16]) }];
  while (random.int(0, 1) && meter.length < 8) {
    meter.push({ beat: meter.at(-1).beat + random.int(1, 64) * BEAT, num: random.int(1, 12), den: random.pick([4, 8]) });
  }
  const quantum = random.pick([0, BEAT, 4 * BEAT, meter[0].num * BEAT]);
  return [`drawn ${i}`, timeline(chain(first, steps), { meter, quantum, countIn: random.int(0, 8) })];
}

/** Expected values of a timeline at its edges and at random times. */
function examined([name, value], random) {
  const { segments, meter } = value;
  const times = new Set();
  for (const s of segments) {
    for (const t of [s.t0 - 1, s.t0, s.t0 + 1, s.t0 + s.ramp - 1, s.t0 + s.ramp, s.t0 + s.ramp + 1]) times.add(t);
    for (let i = 0; i < 3; i += 1) times.add(s.t0 + random.int(0, s.ramp || 10 * SECOND));
  }
  times.add(segments[0].t0 - random.int(1, 20 * SECOND));
  times.add(segments.at(-1).t0 + random.int(1, HOUR));
  times.add(segments.at(-1).t0 + DAY);
  const at = [...times].sort((a, b) => a - b).map((t) => oracle.at(value, t));

  const beats = new Set(segments.flatMap((s) => [s.b0 - 1, s.b0, s.b0 + 1]));
  for (const { beat } of at) beats.add(random.int(0, 1) ? beat : Math.ceil(beat / BEAT) * BEAT + 0);
  beats.add(-4 * BEAT).add(0).add(BEAT);
  const asked = [...beats].sort((a, b) => a - b);
  const never = segments[0].t0 - 2 * DAY;
  const found = asked.flatMap((beat) => {
    const froms = random.int(0, 3) ? [never] : [never, random.pick(at).t];
    return froms.map((from) => ({ beat, from, t: oracle.timeOfBeat(value, beat, from) }));
  });

  const edges = meter.flatMap((m) => [m.beat - 1, m.beat, m.beat + 1, m.beat + m.num * BEAT]);
  const inBars = [...new Set([...edges, -1, random.pick(asked), random.pick(asked)])];
  const quanta = [0, 1, BEAT, 4 * BEAT, random.int(1, 16 * BEAT)];
  return {
    name,
    timeline: value,
    at,
    beats: found,
    bars: inBars.map((beat) => oracle.bar(value, beat)),
    boundaries: inBars.map((beat, i) => {
      const quantum = quanta[i % quanta.length];
      return { beat, quantum, next: oracle.boundary(value, beat, quantum) };
    }),
  };
}

function makeTimelineVectors() {
  const random = new Random(20);
  const timelines = [...named(), ...Array.from({ length: 12 }, (_, i) => drawn(random, i))];
  const pairs = [[[1, 1], [1, 1]], [[1, 2], [1, 1]], [[1, 1], [1, 2]], [[2, 0], [1, 999]], [[1, 999], [2, 0]], [[0, 1], [0, 0]]];
  const newer = pairs.map(([a, b]) => ({ a, b, newer: a[0] > b[0] || (a[0] === b[0] && a[1] > b[1]) }));
  return { timelines: timelines.map((one) => examined(one, random)), newer };
}

/** Prints JSON with one case per line, so that a diff shows the case. */
function print(value, depth = 0) {
  const pad = " ".repeat(depth);
  if (Array.isArray(value) && depth < 5 && value.some((x) => x && typeof x === "object")) {
    return `[\n${value.map((x) => `${pad} ${print(x, depth + 1)}`).join(",\n")}\n${pad}]`;
  }
  if (value && typeof value === "object" && !Array.isArray(value) && depth < 3) {
    const fields = Object.entries(value).map(([k, v]) => `${pad} ${JSON.stringify(k)}: ${print(v, depth + 1)}`);
    return `{\n${fields.join(",\n")}\n${pad}}`;
  }
  return JSON.stringify(value);
}

export function makeVectors() {
  return {
    "timeline.json": `${print(makeTimelineVectors())}\n`,
    "clock.json": `${print(makeClockVectors())}\n`,
  };
}

// A test runner that is given the folder runs this file too, so only `--write` writes the vectors.
if (process.argv.includes("--write")) {
  for (const [name, text] of Object.entries(makeVectors())) {
    writeFileSync(new URL(`../../vectors/${name}`, import.meta.url), text);
  }
}
