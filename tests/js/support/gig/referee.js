// Compares screens with the server's timeline, which a screen in Node receives over a connection of its own.
//
// How times are aligned: a page gives each reading the server times between which it was drawn, by its own clock; the
// expected place is computed for these times, widened by one frame on both sides. So nothing depends on how soon a
// reading arrives. The clocks themselves are compared apart from that, through the clock of the computer.
import assert from "node:assert/strict";
import { PATIENCE_MS } from "../wait.js";
import { placeAt, songIdAt } from "./place.js";
import { pause } from "./screen.js";
import { SCORES } from "./songs.js";

/** Specified. */
export const FRAME_US = 34_000;
const STEP_US = 2000;
/** At 400 BPM a step is 0.013 beats. */
const NEAR_BEATS = 0.02;

const isNewer = (a, b) => a.epoch > b.epoch || (a.epoch === b.epoch && a.version > b.version);

export class Referee {
  /** @param {import("../../../../src/web/bandsync.js").BandSync} band a client that has joined as a screen */
  constructor(band) {
    this.band = band;
    this.titles = new Map();
    /** Timelines by epoch and version, so that a recording can be judged later. */
    this.known = new Map();
    const keep = () => {
      const { timeline } = band;
      if (timeline) this.known.set(`${timeline.epoch} ${timeline.version}`, timeline);
    };
    band.addEventListener("change", keep);
    keep();
  }

  async learnTitles() {
    const { songs } = await this.band.setlist();
    this.titles = new Map(songs.map(({ id, title }) => [id, title]));
  }

  get timeline() {
    return this.band.timeline;
  }

  /** The place by the timeline at this moment. */
  now() {
    const t = this.band.serverMicros();
    return placeAt(this.timeline, this.scoreAt(t), t);
  }

  scoreAt(t, timeline = this.timeline) {
    return SCORES[this.titles.get(songIdAt(timeline, t))];
  }

  /** Milliseconds by which the referee's clock of the server is ahead of the computer's. */
  get skew() {
    return this.band.serverMicros() / 1000 - Date.now();
  }

  /** Waits until `check` is true of the place by the timeline. */
  async until(check, what = check) {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const place = this.now();
      if (check(place)) return place;
      if (performance.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}; at ${JSON.stringify(place)}`);
      await pause(5);
    }
  }

  /** Waits until all screens have the referee's timeline. */
  async settled(screens) {
    for (const screen of screens) {
      await screen.until(([epoch, version]) => {
        const { timeline } = window.bandsync;
        return timeline !== null && (timeline.epoch > epoch || (timeline.epoch === epoch && timeline.version >= version));
      }, [this.timeline.epoch, this.timeline.version]);
    }
  }

  /** The place at the start of the frame of a reading: animations show that instant, however late the rest was drawn. */
  atStart(reading) {
    const timeline = this.known.get(`${reading.epoch} ${reading.version}`);
    return placeAt(timeline, this.scoreAt(reading.from, timeline), reading.from);
  }

  /** Checks one reading of a screen, against the timeline that it had or another one. Returns false if that is unknown. */
  judge(screen, reading, timeline = this.known.get(`${reading.epoch} ${reading.version}`)) {
    if (!timeline) return false;
    const times = [];
    for (let t = reading.from - FRAME_US; t <= reading.to + FRAME_US; t += STEP_US) times.push(t);
    const middle = (reading.from + reading.to) / 2;
    times.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    if (times.some((t) => this.#differences(screen, reading, timeline, t).length === 0)) return true;
    const wrong = times.map((t) => this.#differences(screen, reading, timeline, t)).sort((a, b) => a.length - b.length)[0];
    const text = wrong.map(([name, value]) => `${name} ${JSON.stringify(reading[name])} instead of ${JSON.stringify(value)}`).join(", ");
    throw new Error(`${screen.name} shows ${text}: ${JSON.stringify(reading)}`);
  }

  /** What a reading has otherwise than the timeline at `t`, as `[name, expected]`. */
  #differences(screen, reading, timeline, t) {
    const title = this.titles.get(songIdAt(timeline, t));
    const score = SCORES[title];
    if (!score) return [["song", title]];
    const { songBeat, playing, line, bar, beat, num, section } = placeAt(timeline, score, t);
    const wrong = Object.entries({ song: title, isPlaying: playing, bar, beat, num, section }).filter(([name, value]) => reading[name] !== value);
    const isMember = screen.view === "member";
    const key = screen.keys[title] ?? "";
    if (isMember && reading.key !== key) wrong.push(["key", key]);
    const { from, to } = score.lines[line];
    const isShown = isMember || songBeat < score.end;
    if (isShown && (reading.line?.from !== from || reading.line.to !== to)) wrong.push(["line", { from, to }]);
    if (!(Math.abs(songBeat - reading.songBeat) < NEAR_BEATS)) wrong.push(["songBeat", songBeat]);
    return wrong;
  }

  /** Checks that each screen shows the place of the server's timeline, and has its clock. */
  async check(screens) {
    await this.settled(screens);
    const end = performance.now() + PATIENCE_MS;
    for (const screen of screens) {
      for (;;) {
        const reading = await screen.read();
        // A timeline that is newer than the referee's has not arrived here yet.
        if (!this.judge(screen, reading)) {
          assert.ok(performance.now() < end, `${screen.name} has a timeline that the server did not send: ${reading.epoch} ${reading.version}`);
          await pause(20);
          continue;
        }
        if (isNewer(this.timeline, reading)) continue;
        const off = reading.skew - this.skew;
        if (Math.abs(off) <= FRAME_US / 1000) break;
        // Right after a connection the clock knows little.
        assert.ok(performance.now() < end, `the clock of ${screen.name} is off by ${off} ms`);
        await pause(20);
      }
    }
  }
}
