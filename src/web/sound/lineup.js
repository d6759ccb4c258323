// Line up my sound: finds how late a device's sound is, from taps to a flash and taps to the click.
//
// A player taps early by habit, and a screen reports taps late. Both are the same for flash and click, so they cancel:
// the offset is the difference of the two medians. Flashes and clicks come once a second, because a tap does not say
// which click it belongs to: the time between clicks must exceed the range of offsets.

/** Time between flashes and between clicks, in milliseconds. Must exceed `RANGE`. */
export const PERIOD_MS = 1000;
/** Taps to each. Specified. */
export const TAPS = 16;
/** Taps of each that are not used: a player needs some to find the beat. Specified. */
const DROPPED = 4;
/** Minimum number of taps that are used. Guessed. */
const USED_MIN = 8;
/** Range of offsets, in milliseconds. Specified. */
export const RANGE = Object.freeze({ min: -100, max: 800 });
/** Maximum median absolute deviation of steady taps, in milliseconds. Specified. */
const DEVIATION_MAX_MS = 30;

/**
 * Offset of a device's sound.
 *
 * @param {{ taps: number[], first: number }} flash times of the taps, and of the first flash, in milliseconds on one
 *   clock
 * @param {{ taps: number[], first: number }} click the same for the click; `first` is when it was meant to sound
 * @param {number} [period]
 * @returns {{ ok: true, offsetMs: number, deviationMs: number }
 *   | { ok: false, code: "too_few" | "not_steady" | "out_of_range", deviationMs?: number }}
 */
export function lineUp(flash, click, period = PERIOD_MS) {
  const [seen, heard] = [errorsOf(flash, period), errorsOf(click, period)];
  if (seen.length < USED_MIN || heard.length < USED_MIN) return { ok: false, code: "too_few" };
  const deviationMs = Math.max(deviation(seen), deviation(heard));
  if (deviationMs > DEVIATION_MAX_MS) return { ok: false, code: "not_steady", deviationMs };
  // Which click a tap belongs to follows from the range.
  const middle = (RANGE.min + RANGE.max) / 2;
  const difference = median(heard) - median(seen);
  const offsetMs = Math.round(difference - period * Math.round((difference - middle) / period)) + 0;
  if (offsetMs < RANGE.min || offsetMs > RANGE.max) return { ok: false, code: "out_of_range", deviationMs };
  return { ok: true, offsetMs, deviationMs };
}

/** Keeps an offset that a player sets by hand in its range, in whole milliseconds. */
export const inRange = (offsetMs) => Math.max(RANGE.min, Math.min(RANGE.max, Math.round(offsetMs))) + 0;

/** By how much taps are late, close to one another: a tap may belong to any of the beats. */
function errorsOf({ taps, first }, period) {
  const errors = taps.slice(DROPPED).map((tap) => tap - first);
  // The direction in which the taps point on a clock whose hand goes round once a period.
  const angles = errors.map((error) => (2 * Math.PI * error) / period);
  const sum = (of) => angles.reduce((all, angle) => all + of(angle), 0);
  const centre = (period * Math.atan2(sum(Math.sin), sum(Math.cos))) / (2 * Math.PI);
  return errors.map((error) => error - period * Math.round((error - centre) / period));
}

function deviation(numbers) {
  const middle = median(numbers);
  return median(numbers.map((n) => Math.abs(n - middle)));
}

/** The median; of an even number of values the mean of the middle two. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
