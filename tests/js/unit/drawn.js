// Random timelines, with the answers of src/web/timeline.js, as JSON lines in the form of timeline-song.json. The
// server's code computes the answers again:
//
//   node tests/js/unit/drawn.js --seed 7 --answers 1000000 | cargo run --release -p bandsync-tools -- timelines
//
// They need not be timelines that a leader can make: a segment may begin late, and a loop may be shorter than a
// beat. So they reach cases that the planner of today avoids.

import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import * as music from "../../../src/web/timeline.js";
import { Random } from "./random.js";

const SECOND = 1_000_000;
const DAY = 86_400 * SECOND;
const { BEAT } = music;

/** Yields timelines with their answers, endlessly. */
export function* drawn(seed) {
  const random = new Random(seed);
  for (let i = 0; ; i += 1) yield examined(`${seed}/${i}`, timeline(random), random);
}

/** The number of answers of a case. */
export const answersOf = ({ at, times, clicks }) => at.length + times.length + clicks.beats.length;

function timeline(random) {
  const segments = [segment(random, random.int(DAY, 30 * DAY))];
  while (segments.length < 8 && random.int(0, 2)) segments.push(following(random, segments.at(-1)));
  const value = { epoch: random.int(0, 9), version: random.int(0, 9), leader: null, segments, meter: meter(random) };
  return { ...value, quantum: 0, countIn: 0, madeAt: 0 };
}

function segment(random, t0) {
  const bpm0 = tempo(random);
  const ramp = random.int(0, 1) ? 0 : random.int(1, random.pick([3, SECOND, 60 * SECOND, DAY]));
  const place = { t0, p0: random.int(-10 * SECOND, 3600 * SECOND), b0: beat(random, -32, 4000) };
  const made = { ...place, rate: random.int(0, 5) ? 1 : 0, bpm0, bpm1: random.int(0, 2) ? bpm0 : tempo(random), ramp };
  if (random.int(0, 1)) made.loop = loop(random, made.b0);
  if (made.rate === 1 && !random.int(0, 3)) made.start = made.b0 + random.int(1, 16) * BEAT;
  return made;
}

/** A segment that begins where `last` has counted to its cut, or not at all by counts. */
function following(random, last) {
  const made = segment(random, last.t0 + random.int(1, 30 * SECOND));
  if (last.rate === 1 && random.int(0, 4)) {
    made.cut = random.int(0, 1) ? last.b0 + random.int(1, 24 * BEAT) : BEAT * (Math.floor(last.b0 / BEAT) + random.int(1, 24));
    made.armed = random.pick(["jump", "song", "tempo", "meter", "end"]);
    const { loop: _, start: __, ...endless } = last;
    const t0 = music.timeOfBeat({ segments: [endless] }, made.cut);
    // Most segments begin on time, others late.
    made.t0 = random.int(0, 3) ? t0 : t0 + random.int(1, 3 * SECOND);
  }
  if (made.armed === "song") Object.assign(made, { song: `song ${random.int(0, 9)}`, end: beat(random, 1, 400) });
  if (made.armed === "song" || made.armed === "meter") made.meter = meter(random);
  return made;
}

/** A loop around or after a count, or one that lies far behind it. */
function loop(random, count) {
  const from = Math.max(0, random.int(0, 3) ? BEAT * (Math.floor(count / BEAT) + random.int(-8, 8)) : beat(random, 0, 64));
  const size = random.int(0, 9) ? random.int(1, 32) * BEAT : random.int(1, BEAT);
  return { from, to: from + size, p: random.int(0, 3600 * SECOND) };
}

function meter(random) {
  const entry = (at) => ({ beat: at, num: random.int(1, 32), den: random.pick([1, 2, 4, 8, 16, 32]) });
  const entries = [entry(random.int(-4, 4) * BEAT)];
  while (entries.length < 8 && random.int(0, 1)) entries.push(entry(entries.at(-1).beat + random.int(1, 64) * BEAT));
  return entries;
}

const tempo = (random) => random.int(1000, 400_000);
const beat = (random, from, to) => (random.int(0, 1) ? random.int(from, to) * BEAT : random.int(from * BEAT, to * BEAT));

function examined(name, value, random) {
  const { segments } = value;
  const instants = new Set();
  for (const s of segments) {
    for (const t of [s.t0 - 1, s.t0, s.t0 + 1, s.t0 + random.int(1, 60 * SECOND), s.t0 + random.int(1, DAY)]) instants.add(t);
    if (s.rate !== 1 || !s.loop) continue;
    for (let i = 0; i < 2; i += 1) {
      const wrap = music.timeOfBeat({ segments: [s] }, s.loop.from, s.t0 + random.int(0, 100 * SECOND));
      for (const t of [wrap - 1, wrap, wrap + 1]) instants.add(t);
    }
  }
  const at = [...instants].map((t) => {
    const { beat: song, ...place } = music.placeAt(value, t);
    return { t, song, ...place };
  });

  const beats = at.map((place) => (random.int(0, 1) ? place.song : beat(random, 0, 4000)));
  for (const s of segments) if (s.loop) beats.push(s.loop.from, s.loop.to - 1, s.loop.to);
  const times = beats.map((asked) => {
    const from = random.int(0, 1) ? segments[0].t0 : random.pick(at).t;
    return { beat: asked, from, t: music.timeOfBeat(value, asked, from) };
  });

  const since = random.pick(at).t;
  const until = since + random.int(1, 20 * SECOND);
  const clicks = music.beatsBetween(value, since, until, Infinity);
  // The engine asks for one click after the other, so of two in the same microsecond it finds the first.
  const single = clicks.filter(({ t }, i) => i === 0 || clicks[i - 1].t < t);
  const found = single.map(({ t, beat: song, bar, inBar }) => ({ t, song, bar, inBar }));
  return { name, timeline: value, at, times, clicks: { since, until, beats: found } };
}

// Only as a command; a test that imports this file writes nothing.
if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href && process.argv.length > 2) {
  const { values } = parseArgs({ options: { seed: { type: "string", default: "1" }, answers: { type: "string", default: "100000" } } });
  let left = Number(values.answers);
  for (const one of drawn(values.seed)) {
    if (left <= 0) break;
    left -= answersOf(one);
    if (!process.stdout.write(`${JSON.stringify(one)}\n`)) await once(process.stdout, "drain");
  }
}
