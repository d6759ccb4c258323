// Where the music is at an instant of the server's clock: worked out a second time, in plain floating point, from the
// timeline that the server sent and the table of a song. Nothing here comes from the page.

const BEAT = 1e6;

/** Index of the segment that rules at `t`. */
function ruling({ segments }, t) {
  let i = segments.length - 1;
  while (i > 0 && segments[i].t0 > t) i -= 1;
  return i;
}

/** Beats since the segment's `b0`, by its ramp. */
function beatsOf({ rate, t0, bpm0, bpm1, ramp }, t) {
  if (rate !== 1) return 0;
  const minutes = (us) => us / 60e6;
  const [from, to] = [bpm0 / 1000, bpm1 / 1000];
  const tau = t - t0;
  if (tau <= 0 || ramp === 0) return minutes(tau) * (tau <= 0 ? from : to);
  const inRamp = Math.min(tau, ramp);
  const reached = from + ((to - from) * inRamp) / ramp;
  return minutes(inRamp) * ((from + reached) / 2) + minutes(tau - inRamp) * to;
}

/** Id of the song that is on at `t`, or null. */
export function songIdAt(timeline, t) {
  for (let i = ruling(timeline, t); i >= 0; i -= 1) {
    const { song } = timeline.segments[i];
    if (song !== undefined && song !== null) return song;
  }
  return timeline.song ?? null;
}

/** Tempo at `t`, in beats per minute. */
export function tempoAt(timeline, t) {
  const { t0, bpm0, bpm1, ramp } = timeline.segments[ruling(timeline, t)];
  const share = ramp === 0 ? 1 : Math.min(1, Math.max(0, (t - t0) / ramp));
  return (t < t0 ? bpm0 : bpm0 + (bpm1 - bpm0) * share) / 1000;
}

/** Beat and bar of a song from its table, as `{ bar, beat, num }`, counted from 1. */
function barOf(meter, b) {
  let bars = 0;
  for (const [i, [from, num]] of meter.entries()) {
    const next = meter[i + 1]?.[0] ?? Infinity;
    if (b < next || i === meter.length - 1) {
      const n = Math.floor((b - from) / num);
      return { bar: bars + n + 1, beat: Math.floor(b - from - n * num) + 1, num };
    }
    bars += Math.ceil((next - from) / num);
  }
  return null;
}

/**
 * What each screen has to show at `t` (microseconds of the server's clock): `{ songBeat, playing, countIn, pass, bar,
 * beat, num, section, line }`; `line` is an index into the table.
 * @param {object} timeline as the server sent it @param {object} score a table of songs.js
 */
export function placeAt(timeline, score, t) {
  const i = ruling(timeline, t);
  const segment = timeline.segments[i];
  const cut = timeline.segments[i + 1]?.cut ?? Infinity;
  const count = Math.min(segment.b0 / BEAT + beatsOf(segment, t), (cut - 1) / BEAT);
  const start = (segment.start ?? -Infinity) / BEAT;
  const countIn = segment.rate === 1 && count < start;
  let songBeat = count;
  let pass = 0;
  if (segment.loop) {
    const [from, to] = [segment.loop.from / BEAT, segment.loop.to / BEAT];
    if (count >= from) pass = 1 + Math.floor((count - from) / (to - from));
    if (count >= to && !countIn) songBeat = from + ((count - from) % (to - from));
  }
  const line = Math.max(0, score.lines.findLastIndex(({ from }) => from <= songBeat));
  const at = { songBeat, pass, countIn, playing: segment.rate === 1, line, ...barOf(score.meter, songBeat) };
  if (countIn) {
    const { num } = barOf(score.meter, start);
    const bar = Math.floor((count - start) / num);
    Object.assign(at, { num, bar: bar + 1, beat: Math.floor(count - start - bar * num) + 1 });
  }
  const within = score.sections.findLast(({ from }) => from <= Math.max(0, songBeat));
  at.section = countIn ? "Count-in" : songBeat >= score.end ? "End" : within.name;
  return at;
}
