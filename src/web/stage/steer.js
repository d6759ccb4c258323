// What the leader does to the music: the same actions for the dock, the rail, the keyboard and pedals.

import { STAGE, fill, noteOf } from "../texts.js";
import { feltHere, passAt } from "./model.js";
import { remark } from "./say.js";

const TAP_FORGET_MS = 2000;
const TAPS_LEAST = 4;
const TAPS_MOST = 8;
/** Quick presses make one change. */
const TEMPO_WAIT_MS = 150;
const TEMPO = { least: 1, most: 400 };

/** The music begins this much after the press, so that all devices play its first beat. Guessed: a command takes less
 * time over Wi-Fi, and a drummer does not notice it. */
const PLAY_LEAD_MS = 150;

export class Steer {
  #stage;
  #taps = [];
  #wantedTimer = null;

  /** The tempo that was asked for and is not confirmed yet, as the server counts it; or null. */
  wanted = null;

  constructor(stage) {
    this.#stage = stage;
  }

  get #band() {
    return this.#stage.band;
  }

  get #map() {
    return this.#stage.song?.map ?? null;
  }

  play(source) {
    const { countIn } = this.#stage.view;
    const now = this.#band.clock.now();
    const when = now === null ? {} : { atServerMs: now + PLAY_LEAD_MS };
    return this.#do(this.#band.play(countIn > 0 ? { ...when, countInBars: countIn } : when), { source });
  }

  /** Pauses where the button was pressed. */
  pause(source) {
    const atServerMs = this.#band.clock.now();
    return this.#do(this.#band.pause(atServerMs === null ? {} : { atServerMs }), { source });
  }

  toggle(source) {
    return this.#band.isPlaying ? this.pause(source) : this.play(source);
  }

  stop(source) {
    return this.#do(this.#band.stop(), { source });
  }

  /** Goes to a song beat: at the next bar line if the music plays. */
  jump(beat, source) {
    if (!this.#stage.isLeader) return undefined;
    return this.#do(this.#band.seekBeat(beat, this.#band.isPlaying ? { at: "bar" } : {}), { source });
  }

  /** Cancels what is armed. */
  cancel(source) {
    this.#stage.dispatchEvent(new Event("cancelled"));
    return this.#do(this.#band.cancel(), { source });
  }

  /**
   * Arms a jump to the next pass of a section, or cancels the one that is armed. A section that has no later pass begins
   * again with its first one, except the one that sounds: that is begun again.
   */
  toSection(section, source) {
    const { armed } = this.#stage;
    const map = this.#map;
    if (!map) return undefined;
    if (armed?.kind === "jump" && map.passes[passAt(map, armed.beat)]?.section === section) return this.cancel(source);
    const here = this.#stage.now();
    const passes = map.passes.map((pass, i) => ({ ...pass, i })).filter((pass) => pass.section === section);
    const current = map.passes[here?.pass]?.section === section && (here.playing || here.songBeat > map.passes[here.pass].from)
      ? passes.find(({ i }) => i === here.pass)
      : null;
    const next = passes.find(({ i }) => i > (here?.pass ?? -1)) ?? current ?? passes[0];
    return next && this.jump(next.from, source);
  }

  /** Arms the next section, counted from the armed one if there is one; or the section itself, or the one before. */
  bySection(step, source) {
    const map = this.#map;
    const here = this.#stage.now();
    if (!map || !here) return undefined;
    const { armed } = this.#stage;
    const isArmed = armed?.kind === "jump";
    const pass = isArmed ? passAt(map, armed.beat) : here.pass < 0 ? map.passes.length : here.pass;
    const begun = !isArmed && here.pass >= 0 && here.songBeat - map.passes[here.pass].from > here.beat.num / 2;
    const target = map.passes[Math.max(0, pass + (step < 0 && begun ? 0 : step))];
    if (!target) return remark(STAGE.lastSection);
    return this.jump(target.from, source);
  }

  /** Repeats the section that sounds until it is pressed again. Then this pass is played out. */
  repeat(source) {
    if (this.#stage.loop) return this.#do(this.#band.releaseLoop(), { source });
    const here = this.#stage.now();
    const pass = this.#map?.passes[here?.pass];
    if (!pass) return undefined;
    return this.#do(this.#band.loop(pass.from, pass.to), { source, texts: { too_late: STAGE.loopOver } });
  }

  /** The downbeat is this very press. @param {number} [at] `performance.now()` of the press */
  one(at = performance.now(), source) {
    const now = this.#band.clock.now();
    if (now === null) return undefined;
    return this.#do(this.#band.one(now - Math.max(0, performance.now() - at)), { source });
  }

  /** Moves the place by bars; the click goes on. */
  byBars(bars, source) {
    const here = this.#stage.now();
    return here && this.#do(this.#band.nudge(bars * here.beat.num), { source });
  }

  /** Goes to the song `step` places on, or with an id to that one: at once, or at the end of the song that plays. */
  toSong(idOrStep, source) {
    const song = typeof idOrStep === "number" ? this.#stage.songAfter(idOrStep) : this.#stage.songById(idOrStep);
    if (!song) return undefined;
    const { armed } = this.#stage;
    if (armed?.kind === "song" && armed.songId === song.id) return this.cancel(source);
    const here = this.#stage.now();
    const end = this.#map?.beats ?? 0;
    const waits = here?.playing && here.songBeat < end && !this.#stage.loop;
    return this.#do(this.#band.selectSong(song.id, waits ? { atBeat: end } : {}), { source });
  }

  /** The tempo as the band feels it: dotted quarters in compound metres. */
  feltTempo() {
    const here = this.#stage.now();
    return here && (this.wanted ?? here.beat.tempoBpm) / feltHere(this.#stage, here);
  }

  /** Changes the tempo by a number of felt beats per minute. */
  byTempo(step) {
    const tempo = this.feltTempo();
    if (tempo !== null) this.toTempo(Math.round(tempo + step));
  }

  /** Sets the tempo that is felt. Of quick changes only the newest is sent. */
  toTempo(felt) {
    const here = this.#stage.now();
    if (!here || !Number.isFinite(felt)) return;
    const bpm = Math.round(felt * feltHere(this.#stage, here) * 10) / 10;
    this.wanted = Math.min(TEMPO.most, Math.max(TEMPO.least, bpm));
    clearTimeout(this.#wantedTimer);
    this.#wantedTimer = setTimeout(() => this.#sendTempo(), TEMPO_WAIT_MS);
  }

  /** One tap of a tempo. @param {number} [at] `performance.now()` of the tap */
  tap(at = performance.now()) {
    if (at - (this.#taps.at(-1) ?? -Infinity) > TAP_FORGET_MS) this.#taps = [];
    this.#taps = [...this.#taps, at].slice(-TAPS_MOST);
    const { length } = this.#taps;
    if (length < TAPS_LEAST) return;
    this.toTempo(Math.round((60_000 * (length - 1)) / (at - this.#taps[0])));
  }

  setMetre(num, den, source) {
    return this.#do(this.#band.setTimeSignature(num, den), { source });
  }

  async #sendTempo() {
    const tempo = this.wanted;
    await this.#do(this.#band.setTempo(tempo));
    if (this.wanted === tempo) this.wanted = null;
  }

  #do(promise, options) {
    return this.#stage.command(promise, options);
  }
}

/** What is armed, in words: “Chorus in 2 bars”. @param {object} armed an entry of `stage.armedAll` */
export function armedText(stage, armed) {
  const now = stage.band.clock.now();
  const here = stage.now();
  if (!here || now === null) return "";
  const bars = Math.ceil(((armed.at - now) * here.beat.tempoBpm) / 60_000 / here.beat.num - 0.02);
  const name = armedName(stage, armed);
  const end = stage.song?.map?.beats;
  if (armed.kind === "song" && end !== undefined && armed.count >= end) return fill(STAGE.armedAtEnd, { name });
  return fill(bars <= 1 ? STAGE.armedIn.one : STAGE.armedIn.many, { name, n: bars });
}

function armedName(stage, { kind, beat, songId, bpm }) {
  if (kind === "song") return stage.songById(songId)?.title ?? "";
  if (kind === "tempo") {
    const here = stage.now();
    const felt = feltHere(stage, here);
    return fill(STAGE.armedTempo, { note: noteOf(felt, here.beat.den), bpm: tempoText(bpm / felt) });
  }
  if (kind === "meter") return STAGE.metre;
  const map = stage.song?.map;
  return map?.passes[passAt(map, beat)]?.name || STAGE.sections;
}

/** A tempo without needless decimals. */
export const tempoText = (bpm) => (Number.isInteger(bpm) ? String(bpm) : bpm.toFixed(1));
