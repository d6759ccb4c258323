import assert from "node:assert/strict";
import test from "node:test";
import { Beats } from "../../../src/web/sound/beats.js";
import { clicksBetween } from "../../../src/web/sound/click.js";
import { NAMES, samplesOf } from "../../../src/web/sound/sounds.js";
import * as music from "../../../src/web/timeline.js";
import { drawn } from "./drawn.js";
import { Random } from "./random.js";
import { Device } from "./sounding.js";

const { BEAT } = music;
const SECOND = 1_000_000;
/** A click may be off by this much: rounding of the simulated clocks, and the drift within the median. */
const EXACT_MS = 0.1;
/** Time after a change during which a beat may be dropped: it could not be in time. */
const LATE_MS = 45;

const segment = (fields) => ({ t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 120_000, bpm1: 120_000, ramp: 0, ...fields });
let version = 0;
function timeline(segments, meter = [{ beat: 0, num: 4, den: 4 }]) {
  version += 1;
  return { epoch: 1, version, leader: null, segments, meter, quantum: 0, countIn: 0, madeAt: 0 };
}

/** A device with a timeline that begins at `inMs` from now. */
async function playing(options, { inMs = 1000, fields = {}, meter, view = {} } = {}) {
  const device = new Device(options);
  Object.assign(device.view, view);
  await device.start();
  device.pass(600); // The output timestamps are checked over 500 ms.
  const t0 = Math.round(1000 * (device.serverMs() + inMs));
  device.setTimeline(timeline([segment({ t0, ...fields })], meter));
  return { device, t0 };
}

/** Checks that the sounds heard are the given times, each once. */
function assertHeard(device, times, within = EXACT_MS) {
  const heard = device.heard();
  assert.equal(heard.length, times.length, `heard ${heard}\nexpected ${times}`);
  for (const [i, ms] of times.entries())
    assert.ok(Math.abs(heard[i] - ms) <= within, `${i}: ${heard[i]} instead of ${ms}`);
  assert.equal(device.wasLate, false);
}

const beats = (t0, count, ms = 500) => Array.from({ length: count }, (_, i) => t0 / 1000 + i * ms);

test("every beat sounds once, at its time", async () => {
  const { device, t0 } = await playing({ latencyMs: 40, ppm: 80 });
  device.pass(1000 + 500 * 19 + 100);
  assertHeard(device, beats(t0, 20));
  assert.equal(device.click.dropped, 0);
});

test("a timer that comes late changes nothing while it comes within the horizon", async () => {
  const random = new Random(5);
  const { device, t0 } = await playing({});
  device.pass(1000 + 500 * 19 + 100, () => random.range(0, 80));
  assertHeard(device, beats(t0, 20));
});

test("a timer that is held up for longer drops a beat instead of playing it late", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 1000 + 100);
  device.timers.find(({ every }) => every).at = t0 / 1000 + 1515 - device.band.offsetMs; // the beat is at 1500
  device.pass(1900);
  assertHeard(
    device,
    [0, 1, 2, 4, 5, 6].map((i) => t0 / 1000 + 500 * i),
  );
  assert.equal(device.click.dropped, 1);
});

test("the first beat after play is dropped if it can't be in time", async () => {
  const { device, t0 } = await playing({}, { inMs: 10 });
  device.pass(1600);
  assertHeard(device, beats(t0, 4).slice(1));
});

test("the first beat after play sounds if there is just time for it", async () => {
  const { device, t0 } = await playing({ latencyMs: 5 }, { inMs: 40 });
  device.pass(1200);
  assertHeard(device, beats(t0, 3));
});

test("an offset makes clicks earlier, and its device is given them further ahead", async () => {
  const { device, t0 } = await playing({}, { inMs: 2000, view: { offsetMs: 650 } });
  device.pass(2000 - 650 + 1200);
  assertHeard(
    device,
    beats(t0, 3).map((ms) => ms - 650),
  );
});

test("a negative offset makes clicks later", async () => {
  const { device, t0 } = await playing({}, { view: { offsetMs: -100 } });
  device.pass(1000 + 100 + 1200);
  assertHeard(
    device,
    beats(t0, 3).map((ms) => ms + 100),
  );
});

test("an offset that changes moves what is scheduled, and no beat sounds twice", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 500 + 400); // The third beat is scheduled.
  device.view.offsetMs = 40;
  device.pass(700);
  assertHeard(
    device,
    [0, 500, 960, 1460].map((ms) => t0 / 1000 + ms),
  );
  device.view.offsetMs = -20;
  device.pass(10);
  device.pass(900);
  assertHeard(
    device,
    [0, 500, 960, 1460, 2020, 2520].slice(0, device.heard().length).map((ms) => t0 / 1000 + ms),
  );
});

test("a pause cancels what is scheduled", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 1400);
  const stopAt = Math.round(1000 * device.serverMs());
  device.setTimeline(timeline([segment({ t0 }), segment({ t0: stopAt, rate: 0, b0: 2_800_000 })]));
  device.pass(3000);
  assertHeard(device, beats(t0, 3));
});

test("a jump cancels what is scheduled and plays the new beats", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 1400);
  const at = Math.round(1000 * device.serverMs());
  // A seek that does not keep the phase: the next beat is 300 ms away.
  device.setTimeline(timeline([segment({ t0: at, b0: 16 * BEAT + 400_000 })]));
  device.pass(1000);
  assertHeard(device, [...beats(t0, 3), at / 1000 + 300, at / 1000 + 800]);
});

test("a change that keeps the beats keeps what is scheduled", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 1400);
  const before = device.sounds.length;
  device.setTimeline(timeline([segment({ t0 })]));
  assert.equal(device.sounds.length, before);
  device.pass(700);
  assertHeard(device, beats(t0, 5));
});

test("a ramp, a loop and an armed jump are played as the timeline has them", async () => {
  const { device, t0 } = await playing({}, { fields: { bpm0: 100_000, bpm1: 160_000, ramp: 6 * SECOND } });
  device.pass(1000);
  const { segments } = device.band.timeline;
  const loop = { from: 0, to: 4 * BEAT, p: 0 };
  const cut = 21 * BEAT;
  const jumpAt = music.timeOfBeat({ segments }, cut);
  const armed = timeline([
    { ...segments[0], loop },
    segment({ t0: jumpAt, b0: 8 * BEAT, bpm0: 160_000, bpm1: 160_000, cut, armed: "jump" }),
  ]);
  device.setTimeline(armed);
  device.pass(12_000);
  const until = Math.floor(1000 * (device.serverMs() + device.latencyMs));
  const expected = music.beatsBetween(armed, t0, until).map(({ t }) => t / 1000);
  assert.ok(expected.length > 25, `${expected.length}`);
  assertHeard(device, expected);
});

test("count-in only: the bar before the song, and then silence", async () => {
  const meter = [{ beat: 0, num: 3, den: 4 }];
  const { device, t0 } = await playing({}, { meter, view: { click: "count-in" }, fields: { b0: -3 * BEAT, start: 0 } });
  device.pass(1000 + 4000);
  assertHeard(device, beats(t0, 3));
});

test("a view that is switched off is silent at once", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 400);
  device.view.click = "off";
  device.pass(2000);
  assertHeard(device, beats(t0, 1));
});

test("a hidden page is scheduled for a second and a half", async () => {
  const { device, t0 } = await playing({});
  device.isHidden = true;
  device.pass(1000 + 500 * 9 + 100, () => 975);
  assertHeard(device, beats(t0, 10));
});

test("the click fades out when the clock is lost and may be off by more than 50 ms, and returns", async () => {
  const { device } = await playing({});
  let told = 0;
  device.click.addEventListener("state", () => (told += 1));
  Object.assign(device.band.clock, { quality: "lost", bound: 49 });
  device.pass(100);
  assert.equal(device.click.isSilenced, false);
  device.band.clock.bound = 51;
  device.pass(100);
  assert.equal(device.click.isSilenced, true);
  assert.equal(told, 1);
  Object.assign(device.band.clock, { quality: "good", bound: 8 });
  device.pass(100);
  assert.equal(device.click.isSilenced, false);
});

for (const stamps of ["none", "wild", "far"]) {
  test(`output timestamps that are ${stamps} are not used`, async () => {
    const { device, t0 } = await playing({ stamps, latencyMs: 40 });
    device.pass(1000 + 500 * 5 + 100);
    assert.equal(device.output.map.isChecked, false);
    // The audio clock is read by blocks of 10 ms, so half a block is unknown.
    assertHeard(device, beats(t0, 6), 8);
  });
}

test("good output timestamps are used from 500 ms on", async () => {
  const device = new Device();
  await device.start();
  device.pass(450);
  assert.equal(device.output.map.isChecked, false);
  device.pass(150);
  assert.equal(device.output.map.isChecked, true);
});

test("a single wild timestamp moves nothing", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 450);
  const good = device.context.getOutputTimestamp;
  let calls = 0;
  device.context.getOutputTimestamp = () => {
    const stamp = good();
    calls += 1;
    return calls % 5 ? stamp : { ...stamp, contextTime: stamp.contextTime + 0.4 };
  };
  device.pass(2000);
  assertHeard(device, beats(t0, 5));
});

test("an output that never begins says so after a second, and a tap tries again", async () => {
  const device = new Device({ isDead: true });
  device.click.start({ tapped: true });
  assert.equal(device.output.state, "starting");
  device.pass(1100);
  assert.equal(device.output.state, "none");
  device.isDead = false;
  device.taps.dispatchEvent(new Event("click"));
  assert.equal(device.output.state, "on");
});

test("before the first tap the output asks for one", async () => {
  const device = new Device({ isDead: true });
  device.click.start();
  device.pass(1100);
  assert.equal(device.output.state, "tap");
});

test("a call interrupts the sound, and the next tap brings it back", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 600);
  device.context.become("interrupted");
  assert.equal(device.output.state, "tap");
  device.pass(1000);
  device.taps.dispatchEvent(new Event("click"));
  assert.equal(device.output.state, "on");
  device.pass(1000);
  const [first, second, ...later] = device.heard();
  for (const ms of later)
    assert.ok(Math.abs((ms - t0 / 1000) % 500) < 8 || Math.abs((ms - t0 / 1000) % 500) > 492, `${ms}`);
  assert.equal(later.length, 2);
  assert.ok(first < second);
});

test("an audio clock that stands still is no sound", async () => {
  const { device } = await playing({});
  device.pass(500);
  const stuck = device.audioTime();
  device.audioTime = () => stuck;
  device.pass(1200);
  assert.equal(device.output.state, "none");
});

test("a device without Web Audio gives no sound", async () => {
  const device = new Device();
  const { Output } = await import("../../../src/web/sound/output.js");
  const output = new Output({
    make: () => {
      throw new TypeError("no AudioContext");
    },
    taps: device.taps,
    session: null,
  });
  output.start({ tapped: true });
  assert.equal(output.state, "none");
});

test("other apps' music is interrupted only while the click is on", async () => {
  const { device } = await playing({});
  assert.equal(device.session.type, "playback");
  device.click.stop();
  assert.equal(device.session.type, "auto");
  assert.equal(device.output.state, "off");
});

test("the click can be stopped and started again", async () => {
  const { device, t0 } = await playing({});
  device.pass(1000 + 600);
  device.click.stop();
  device.pass(1000);
  const before = device.heard().length;
  await device.start();
  device.pass(1400);
  assert.equal(before, 2);
  assert.ok(device.heard().length >= 4);
  assert.ok(device.heard().every((ms) => (ms - t0 / 1000 + 8) % 500 < 16));
});

test("compound metres click on dotted quarters, and on eighths if wanted", () => {
  const six = timeline([segment({})], [{ beat: 0, num: 6, den: 8 }]);
  const levels = (options) =>
    clicksBetween(six, 0, 6 * 500_000, options).map(({ t, level }) => `${t / 500_000} ${level}`);
  assert.deepEqual(levels({}), ["0 bar", "3 beat"]);
  assert.deepEqual(levels({ eighths: true }), ["0 bar", "1 half", "2 half", "3 beat", "4 half", "5 half"]);
});

test("eighths stand between quarters, and other metres in eighths have each beat", () => {
  const plain = timeline(
    [segment({})],
    [
      { beat: 0, num: 2, den: 4 },
      { beat: 2 * BEAT, num: 7, den: 8 },
    ],
  );
  const found = clicksBetween(plain, 0, 5 * 500_000, { eighths: true }).map(({ t, level }) => `${t / 1000} ${level}`);
  assert.deepEqual(found, ["0 bar", "250 half", "500 beat", "750 half", "1000 bar", "1500 beat", "2000 beat"]);
  const without = clicksBetween(plain, 0, 5 * 500_000).map(({ t }) => t / 1000);
  assert.deepEqual(without, [0, 500, 1000, 1500, 2000]);
});

test("a half beat alone in the window is found", () => {
  const plain = timeline([segment({ bpm0: 60_000, bpm1: 60_000 })]);
  assert.deepEqual(clicksBetween(plain, 400_000, 600_000, { eighths: true }), [
    { t: 500_000, level: "half", countIn: false },
  ]);
});

test("whole beats are those of the timeline, with and without eighths, on random timelines", () => {
  let count = 0;
  let n = 0;
  for (const { timeline: value, clicks } of drawn(11)) {
    if ((n += 1) > 300) break;
    const { since, until } = clicks;
    const wanted = music.beatsBetween(value, since, until, 16).map(({ t }) => t);
    if (wanted.length === 0) continue;
    const end = wanted.at(-1) + 1;
    const all = clicksBetween(value, since, end, { eighths: true });
    const times = new Set(all.map(({ t }) => t));
    for (const t of wanted) assert.ok(times.has(t), `${t} of ${JSON.stringify(value)}`);
    for (let i = 1; i < all.length; i += 1) assert.ok(all[i].t >= all[i - 1].t);
    count += wanted.length;
  }
  assert.ok(count > 500, `${count}`);
});

test("property: whatever the leader does, each beat sounds once at its time, and nothing late", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = new Random(seed);
    const device = new Device({ latencyMs: random.int(0, 80), ppm: random.int(-100, 100) });
    device.view.offsetMs = random.pick([0, 0, 120, 650, -100]);
    const { offsetMs } = device.view;
    await device.start();
    device.pass(700);
    // Server times at which the timeline changed, with the timeline that held before.
    const changes = [];
    let state = { bpm: 120_000, rate: 0, b0: 0 };
    for (let step = 0; step < 12; step += 1) {
      const now = Math.round(1000 * device.serverMs());
      const kind = random.pick(["play", "pause", "jump", "tempo", "armed", "loop"]);
      const old = device.band.timeline;
      const b0 = old ? music.countAt(old, now) : 0;
      const at = now + random.pick([0, 0, 60_000, 400_000]);
      if (kind === "pause") state = { ...state, rate: 0 };
      else state = { ...state, rate: 1 };
      if (kind === "tempo") state.bpm = random.int(60, 240) * 1000;
      const base = segment({ t0: now, b0, bpm0: state.bpm, bpm1: state.bpm, rate: state.rate });
      const segments = [base];
      if (kind === "play") {
        // Until it begins, the segment before it rules.
        const before = old?.segments[music.segmentAt(old, now)] ?? segment({ t0: now, rate: 0 });
        segments.splice(
          0,
          1,
          ...(at > now ? [before] : []),
          segment({ ...base, t0: at, b0: BEAT * Math.round(b0 / BEAT) }),
        );
      }
      if (kind === "jump") segments[0].b0 = BEAT * random.int(0, 64) + (((b0 % BEAT) + BEAT) % BEAT);
      if (kind === "loop")
        segments[0].loop = {
          from: BEAT * Math.floor(b0 / BEAT),
          to: BEAT * (Math.floor(b0 / BEAT) + random.int(1, 5)),
          p: 0,
        };
      if (kind === "armed") {
        const cut = BEAT * (Math.floor(b0 / BEAT) + random.int(1, 4));
        segments.push(
          segment({
            ...base,
            t0: music.timeOfBeat({ segments: [base] }, cut),
            b0: BEAT * random.int(0, 64),
            cut,
            armed: "jump",
          }),
        );
      }
      changes.push({ at: now / 1000, value: timeline(segments) });
      device.setTimeline(changes.at(-1).value);
      device.pass(random.int(100, 2500), () => random.int(0, 40));
    }
    device.pass(1000);

    const end = device.serverMs();
    const heard = device.heard();
    assert.equal(device.wasLate, false, `seed ${seed}`);
    const allowed = [];
    const needed = [];
    for (const [i, { at, value }] of changes.entries()) {
      const until = changes[i + 1]?.at ?? end - 200;
      const over = i + 1 < changes.length ? 160 : 400;
      for (const { t } of music.beatsBetween(
        value,
        Math.floor(1000 * (at + offsetMs - 20)),
        Math.ceil(1000 * (until + offsetMs + over)),
        999,
      )) {
        if (t < value.segments[0].t0) continue;
        const due = t / 1000 - offsetMs;
        allowed.push(due);
        // After a change, a beat may come too soon to be scheduled. Before one, it may be cancelled while it is in the device.
        const isSoon = due < at + LATE_MS + device.latencyMs + 30;
        const isOver = due > until - 60;
        if (!isSoon && !isOver) needed.push(due);
      }
    }
    for (const ms of heard)
      assert.ok(
        allowed.some((due) => Math.abs(due - ms) < 8.1),
        `seed ${seed}: a sound at ${ms}`,
      );
    for (const due of needed) {
      // Where a change brings two beats together, one of them sounds.
      if (allowed.some((other) => other !== due && Math.abs(other - due) < 60)) continue;
      const found = heard.filter((ms) => Math.abs(due - ms) < 25);
      assert.equal(found.length, 1, `seed ${seed}: ${found.length} sounds at ${due}`);
      assert.ok(Math.abs(found[0] - due) < 0.5, `seed ${seed}: ${found[0]} instead of ${due}`);
    }
    assert.ok(needed.length > 3, `seed ${seed}: ${needed.length}`);
  }
});

test("sounds begin at once, peak at 1, and end in silence", () => {
  for (const name of NAMES) {
    for (const rate of [44_100, 48_000]) {
      const samples = samplesOf(name, rate, 1.5);
      const peak = samples.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      assert.equal(peak, 1, name);
      const onset = samples.findIndex((value) => Math.abs(value) > 0.1);
      assert.ok(onset / rate < 0.001, `${name}: ${onset}`);
      assert.ok(Math.abs(samples.at(-1)) < 0.01, name);
      assert.ok(samples.length / rate < 0.075, name);
    }
  }
});

test("beats of the page's own need no server", async () => {
  const device = new Device();
  const beats = new Beats();
  beats.clock = device.band.clock;
  device.band.offsetMs = 0;
  beats.addEventListener("change", () => device.setTimeline(beats.timeline));
  await device.start();
  device.pass(600);
  beats.begin(device.ms + 300, { bpm: 90, num: 3 });
  const { first } = beats;
  device.pass(300 + 2100);
  assertHeard(device, [0, 1, 2, 3].map((i) => first + (i * 60_000) / 90));
  assert.deepEqual(
    clicksBetween(beats.timeline, 1000 * first, 1000 * first + 2_700_000).map(({ level }) => level),
    ["bar", "beat", "beat", "bar", "beat"],
  );
  beats.end();
  device.pass(2000);
  assert.equal(device.heard().length, 4);
});
