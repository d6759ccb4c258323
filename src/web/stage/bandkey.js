// The key in which the band plays: the `{transpose}` of a song's chart, which its leader and editors change for all.
//
// The stage gets the event `band-key` when what was on its way is applied or rejected.
//
// Presses that follow each other are one edit. If somebody else edits the song meanwhile, the rest is added to that
// version, for both edits are wanted.

import { parseChart } from "../chart/chordpro.js";
import { transposeBy } from "../chart/write.js";
import { bandBodyOf, editForBand } from "./bandedit.js";

/** Pause after a press before it is sent. Guessed: shorter than it takes to hear the new key. */
const WAIT_MS = 250;

export class BandKey {
  #stage;
  #later;
  /** Semitones by song id that are not sent yet. */
  #wanted = new Map();
  #isBusy = false;

  /** @param {import("./model.js").Stage} stage @param {(run: function, ms: number) => void} [later] */
  constructor(stage, later = (run, ms) => setTimeout(run, ms)) {
    this.#stage = stage;
    this.#later = later;
  }

  /** Semitones by which the band plays a song above its written chords, with those on their way. */
  of(songId) {
    const body = bandBodyOf(this.#stage.songById(songId));
    return body === undefined ? 0 : (parseChart(body).transpose + (this.#wanted.get(songId) ?? 0)) % 12;
  }

  /** Moves a song by semitones, for all. */
  move(songId, by) {
    this.#wanted.set(songId, (this.#wanted.get(songId) ?? 0) + by);
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#later(() => this.#send(), WAIT_MS);
  }

  async #send() {
    for (const [songId, by] of this.#wanted) {
      const isDone = by === 0 || (await editForBand(this.#stage, songId, (body) => transposeBy(body, by)));
      // Presses came meanwhile; those of a rejected edit are dropped with it.
      const rest = isDone ? (this.#wanted.get(songId) ?? 0) - by : 0;
      if (rest === 0) this.#wanted.delete(songId);
      else this.#wanted.set(songId, rest);
    }
    this.#isBusy = this.#wanted.size > 0;
    if (this.#isBusy) this.#later(() => this.#send(), WAIT_MS);
    this.#stage.dispatchEvent(new Event("band-key"));
  }
}
