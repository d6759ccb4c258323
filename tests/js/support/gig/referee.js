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

  /** Checks one reading of a screen against the timeline that it had. */
  judge(screen, reading) {
    const timeline = this.known.get(`${reading.epoch} ${reading.version}`);
    if (!timeline) return false;
    const wrong = [];
    let nearest = Infinity;
    for (let t = reading.from - FRAME_US; t <= reading.to + FRAME_US; t += STEP_US) {
      const title = this.titles.get(songIdAt(timeline, t));
      const score = SCORES[title];
      if (!score) continue;
      const place = placeAt(timeline, score, t);
      const expected = { song: title, isPlaying: place.playing, bar: place.bar, beat: place.beat, num: place.num, section: place.section };
      if (screen.view === "member") expected.key = screen.keys[title] ?? "";
      const line = score.lines[place.line];
      if (screen.view === "member" || place.songBeat < score.end) Object.assign(expected, { line });
      const different = Object.entries(expected).filter(([name, value]) => JSON.stringify(reading[name]) !== JSON.stringify(value));
      nearest = Math.min(nearest, Math.abs(place.songBeat - reading.songBeat));
      if (different.length === 0) {
        if (Math.abs(place.songBeat - reading.songBeat) < 0.03) return true;
        different.push(["songBeat", place.songBeat]);
      }
      wrong.push(different.map(([name, value]) => `${name} ${JSON.stringify(reading[name])} instead of ${JSON.stringify(value)}`).join(", "));
    }
    const least = wrong.sort((a, b) => a.length - b.length)[0];
    throw new Error(`${screen.name} shows ${least} (beat ${reading.songBeat}, off by ${nearest}; ${JSON.stringify(reading)})`);
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
        assert.ok(Math.abs(off) <= FRAME_US / 1000, `the clock of ${screen.name} is off by ${off} ms`);
        break;
      }
    }
  }
}
