import assert from "node:assert/strict";
import test from "node:test";
import { inRange, lineUp, median, PERIOD_MS, RANGE, TAPS } from "../../../src/web/sound/lineup.js";
import { Random } from "./random.js";

/** Taps of a player to 16 beats: late by `delay`, with a spread, and confused at first. */
function play(random, { delay, spread, first = 1000, taps = TAPS }) {
  return {
    first,
    taps: Array.from({ length: taps }, (_, i) => first + i * PERIOD_MS + delay + spread * random.normal() + (i < 3 ? 120 * random.normal() : 0)),
  };
}

test("a steady player's offset is right within 10 ms, whatever the habit and the touch screen's delay", () => {
  const random = new Random(11);
  for (let i = 0; i < 400; i += 1) {
    const delay = random.int(RANGE.min + 12, RANGE.max - 12);
    const habit = random.range(-80, 80);
    const spread = 6;
    const found = lineUp(play(random, { delay: habit, spread }), play(random, { delay: habit + delay, spread, first: 77_000 }));
    assert.ok(found.ok, JSON.stringify(found));
    assert.ok(Math.abs(found.offsetMs - delay) <= 10, `${found.offsetMs} instead of ${delay}`);
    assert.ok(Number.isInteger(found.offsetMs));
  }
});

test("a player with a spread of 20 ms is within 20 ms in nine cases of ten", () => {
  const random = new Random(12);
  let near = 0;
  for (let i = 0; i < 400; i += 1) {
    const delay = random.int(0, 700);
    const found = lineUp(play(random, { delay: -30, spread: 20 }), play(random, { delay: delay - 30, spread: 20 }));
    if (found.ok && Math.abs(found.offsetMs - delay) <= 20) near += 1;
  }
  assert.ok(near >= 360, `${near} of 400`);
});

test("a restless player is refused", () => {
  const random = new Random(13);
  const steady = { delay: 0, spread: 8 };
  for (const spreads of [[90, 8], [8, 90]]) {
    const found = lineUp(play(random, { ...steady, spread: spreads[0] }), play(random, { ...steady, spread: spreads[1] }));
    assert.equal(found.code, "not_steady");
    assert.ok(found.deviationMs > 30);
  }
});

test("some taps may be missed or doubled", () => {
  const random = new Random(14);
  const [flash, click] = [play(random, { delay: -20, spread: 5 }), play(random, { delay: 630, spread: 5 })];
  flash.taps.splice(7, 2);
  click.taps.splice(9, 0, click.taps[9] + 300);
  assert.ok(Math.abs(lineUp(flash, click).offsetMs - 650) <= 10);
  assert.equal(lineUp({ ...flash, taps: flash.taps.slice(0, 11) }, click).code, "too_few");
  assert.equal(lineUp({ first: 0, taps: [] }, click).code, "too_few");
});

test("the ends of the range are found, and what lies beyond is refused", () => {
  const exact = (delay) => ({ first: 0, taps: Array.from({ length: TAPS }, (_, i) => i * PERIOD_MS + delay) });
  for (const delay of [-100, 0, 499, 500, 501, 800]) assert.equal(lineUp(exact(-40), exact(delay - 40)).offsetMs, delay);
  for (const delay of [-140, 840]) assert.equal(lineUp(exact(0), exact(delay)).code, "out_of_range");
  assert.deepEqual([-400, -100.4, 3.6, 1e9].map(inRange), [-100, -100, 4, 800]);
});

test("the median of an even number of values is the mean of the middle two", () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5]);
});
