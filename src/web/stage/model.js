// The state that all rooms of the stage page read: the song that is on, its chart in beats, the set list, the place in
// the music, and this browser's own view.
//
// Rooms listen to the events of `Stage` and call methods of `stage.band` through `stage.command`. Messages draw nothing:
// each animation frame asks the timeline where the music is, once, and passes the answer on in the event `frame`.
//
// Events: `song` (another song, or another text of it), `setlist`, `view`, `frame` (detail: `now()`), `armed`, `members`
// (members, roles, settings), `status` (connection), `timeline` (another one, or the music begins or ends by it), `look`
// (another song is looked at), `toast` and `busy` (for the room that shows them), `open` and `close` (the stage was
// entered or left).

import { feltIn, lineAt } from "../chart/map.js";
import { readSong } from "../chart/unfold.js";
import { ERRORS, STAGE, fill } from "../texts.js";
import * as music from "../timeline.js";
import { recall, remember } from "./keep.js";
import { SetlistKeeper } from "./setlist.js";
import * as sheets from "./sheet.js";

/** Age up to which `now()` gives its last answer again, in milliseconds: less than a frame. */
const NOW_MS = 4;
/** Time after which a command without an answer shows progress, and after which a text says so. Specified. */
const BUSY_MS = 300;
const NO_ANSWER_MS = 2000;
/** Time within which a command belongs to the button that was pressed. */
const PRESS_MS = 100;

/** Settings of this browser's view, with their defaults. */
export const VIEW_DEFAULTS = Object.freeze({
  shift: 0,
  capo: 0,
  instrument: "",
  notation: "letters",
  size: null,
  columns: "auto",
  wrap: true,
  show: "both",
  chorus: "full",
  theme: "night",
  scroll: "glide",
  anchor: 0.3,
  returns: true,
  click: "off",
  volume: 0.8,
  sound: "tick",
  accent: 2,
  eighths: false,
  offsetMs: 0,
  letters: true,
  pedals: { forward: [], back: [] },
  leftHanded: false,
  countIn: 1,
  perSong: {},
});

/** Beats that are felt as one at a place of `now()`: a chart may say more than the metre. */
export const feltHere = (stage, { beat }) => feltIn(beat, stage.song?.chart?.felt);

/** Number of the bar, from 0, in which song beat `beat` lies; `meter` is that of a SongMap. */
export function barAt(meter, beat) {
  let bars = 0;
  for (let i = 0; i < meter.length; i += 1) {
    const next = meter[i + 1];
    if (!next || beat < next.beat) return bars + Math.floor((beat - meter[i].beat) / meter[i].num);
    bars += Math.ceil((next.beat - meter[i].beat) / meter[i].num);
  }
  return bars;
}

/** Index of the pass in which song beat `beat` lies: the first before the song, -1 without passes or after its end. */
export function passAt(map, beat) {
  if (!map || map.passes.length === 0 || beat >= map.beats) return -1;
  return Math.max(0, map.passes.findLastIndex((pass) => pass.from <= beat + 1e-6));
}

/** One member's stage. */
export class Stage extends EventTarget {
  #screen;
  /** Timeline for which `armed` and the song were last worked out. */
  #seen = null;
  /** Whether the music ran when `armed` and the song were worked out. */
  #runs = false;
  /** Server time in microseconds at which the next scheduled segment begins. */
  #turnsAt = Infinity;
  #now = null;
  #nowAt = -Infinity;
  #frame = null;
  /** Charts by id: `{ body, chart, map }`. */
  #charts = new Map();
  #pressed = { el: null, at: -Infinity };
  #rooms = new Map();

  /** The library's client. */
  band;
  /** `{ id, title, artist, key, revision, body, chart, map }` of the song that is on; null if there is none. */
  song = null;
  /** Keeps the set list and its charts, a SetlistKeeper. */
  keeper;
  /** Settings of this browser's view. Change them with `setView`. */
  view;
  /** The armed jump or song, else the next armed tempo: `{ kind, beat, at, count, songId?, bpm? }`; or null. */
  armed = null;
  /** All that is armed, in order. */
  armedAll = [];
  /** Id of the song that is looked at while another one is on; null for none. */
  looked = null;
  /** Changes the key of the band, a BandKey; null until the room of the songs is here. */
  bandKey = null;
  /** Number of screens in the session. */
  screens = 0;
  /** Whether the stage is entered. */
  isOpen = false;

  /** @param {import("../bandsync.js").BandSync} band @param {{ screen?: boolean }} [options] */
  constructor(band, { screen = false } = {}) {
    super();
    this.band = band;
    this.#screen = screen;
    const { pedals, ...kept } = recall("view", {});
    this.view = { ...VIEW_DEFAULTS, ...kept, pedals: { ...VIEW_DEFAULTS.pedals, ...pedals } };
    band.addEventListener("change", () => this.#changed());
    band.addEventListener("status", ({ detail }) => this.#tell("status", detail));
    band.addEventListener("room_stats", ({ detail: { screens } }) => {
      if (!Number.isInteger(screens) || screens === this.screens) return;
      this.screens = screens;
      this.#tell("members");
    });
    this.keeper = new SetlistKeeper(band);
    this.keeper.addEventListener("setlist", () => this.#listed());
    globalThis.document?.addEventListener("click", (event) => this.#press(event.target), true);
  }

  get isScreen() {
    return this.#screen;
  }

  get isLeader() {
    return !this.#screen && this.band.isLeader;
  }

  /** This member, as the session lists it; null while that is unknown. */
  get me() {
    return this.band.members.find(({ socketId }) => socketId === this.band.id) ?? null;
  }

  get settings() {
    return this.band.snapshot?.settings ?? null;
  }

  get mayEdit() {
    if (this.#screen) return false;
    return this.isLeader || this.settings?.anyoneMayEdit === true || this.me?.mayEdit === true;
  }

  get mayCue() {
    return !this.#screen && (this.isLeader || this.settings?.anyoneMayCue === true);
  }

  /** Whether commands can reach the server. */
  get isOnline() {
    return this.band.status === "online";
  }

  /** The loop that holds: `{ from, to }` in song beats; or null. */
  get loop() {
    const { timeline } = this.band;
    const t = this.band.serverMicros();
    const loop = timeline && t !== null ? timeline.segments[music.segmentAt(timeline, t)].loop : null;
    return loop ? { from: loop.from / music.BEAT, to: loop.to / music.BEAT } : null;
  }

  /**
   * The set list, its songs with bodies where they are known; null before the first one. If this member keeps a version
   * of its own of a song, that is its `body`, and the band's is `bandBody`.
   */
  get setlist() {
    return this.keeper.setlist;
  }

  /** The song with an id, as it is in the set list; null if it is not. */
  songById(id) {
    return this.keeper.songById(id);
  }

  /** The song of the set list `step` places after the one that is on; null if there is none. */
  songAfter(step = 1) {
    const songs = this.setlist?.songs ?? [];
    const place = songs.findIndex(({ id }) => id === this.song?.id);
    return songs[place + step] ?? null;
  }

  /** `{ chart, map }` of a song of the set list; null without its text, or if that can't be read. */
  chartOf(id) {
    const body = this.songById(id)?.body;
    if (typeof body !== "string") return null;
    let known = this.#charts.get(id);
    if (known?.body !== body) {
      known = { body, ...readChart(body) };
      this.#charts.set(id, known);
    }
    return known.chart ? known : null;
  }

  /**
   * The place in the music: `{ beat, songBeat, line, pass, playing }`, worked out once per frame; null without a
   * timeline or clock. `beat` is the library's, `line` an index into `song.map.lines` (-1 without a map), `pass` one
   * into `song.map.passes` (-1 after the end).
   */
  now() {
    const at = performance.now();
    if (at - this.#nowAt < NOW_MS) return this.#now;
    this.#nowAt = at;
    this.#follow();
    // Two questions are answered at two instants, and the music may begin or end between them.
    let playing;
    let beat;
    do {
      playing = this.band.isPlaying;
      beat = this.band.beat();
    } while (playing !== this.band.isPlaying);
    const map = this.song?.map ?? null;
    this.#now = beat && {
      beat,
      songBeat: beat.songBeat,
      line: map ? lineAt(map, beat.songBeat) : -1,
      pass: passAt(map, beat.songBeat),
      playing,
    };
    return this.#now;
  }

  /** Begins: frames are drawn until `leave`. */
  enter() {
    if (this.isOpen) return;
    this.isOpen = true;
    this.#tell("open");
    this.#changed();
    this.fetchSongs();
    const draw = () => {
      if (!this.isOpen) return;
      this.#frame = requestAnimationFrame(draw);
      this.#nowAt = -Infinity;
      this.#tell("frame", this.now());
    };
    this.#frame = requestAnimationFrame(draw);
  }

  leave() {
    if (!this.isOpen) return;
    this.isOpen = false;
    cancelAnimationFrame(this.#frame);
    sheets.closeSheets();
    Object.assign(this, { song: null, armed: null, armedAll: [], looked: null });
    this.#seen = null;
    this.#now = null;
    this.#tell("close");
  }

  /** Changes settings of the view, and keeps them in this browser. */
  setView(changes) {
    this.view = { ...this.view, ...changes };
    remember("view", this.view);
    this.#tell("view", changes);
  }

  /** Shows a song of the set list on this page only; null shows the song that is on. */
  look(songId) {
    this.looked = songId === this.song?.id ? null : songId;
    this.#tell("look", this.looked);
  }

  /**
   * Waits for a command, and shows how it goes: progress after 300 ms, “No answer yet” after 2 s, and a text if it is
   * rejected. Resolves with true or false.
   * @param {Promise} promise
   * @param {{ source?: Element, texts?: Object<string, string>, quiet?: boolean, onError?: function }} [options]
   *   the button that shows progress (by default the one that was just pressed), other texts by code, whether to show
   *   nothing, and a handler that returns true for errors that it has handled
   */
  async command(promise, { source, texts = {}, quiet = false, onError } = {}) {
    const el = source ?? (performance.now() - this.#pressed.at < PRESS_MS ? this.#pressed.el : null);
    const busy = setTimeout(() => {
      el?.setAttribute("aria-busy", "true");
      this.#tell("busy", { el, isBusy: true });
    }, BUSY_MS);
    const late = setTimeout(() => {
      if (!quiet) this.toast(STAGE.noAnswerYet, { plain: true });
    }, NO_ANSWER_MS);
    try {
      await promise;
      return true;
    } catch (error) {
      if (!onError?.(error) && !quiet) this.toast(texts[error.code] ?? this.reason(error));
      return false;
    } finally {
      clearTimeout(busy);
      clearTimeout(late);
      el?.removeAttribute("aria-busy");
      this.#tell("busy", { el, isBusy: false });
    }
  }

  /** The text for a rejection. */
  reason(error) {
    const { leader } = this.band;
    // A list that is too large in bytes says how many it has.
    const code = error.code === "too_large" && error.bytes === undefined ? "too_many" : error.code;
    const text = Object.hasOwn(ERRORS, code) ? ERRORS[code] : sentence(error.message || ERRORS.unknown);
    return fill(text, {
      leader: leader ? nameOf(leader) : STAGE.somebody,
      n: this.settings?.maxMembers ?? "",
      kB: Math.ceil((error.bytes ?? 0) / 1000),
      max: Math.floor((error.max ?? 0) / 1000),
    });
  }

  /**
   * Shows a short text for some seconds.
   * @param {string} text
   * @param {{ plain?: boolean, action?: { text: string, run: function }, seconds?: number }} [options] whether it is
   *   no problem, a button, and how long it stays: 0 until it is tapped
   */
  toast(text, options = {}) {
    this.#tell("toast", { text, ...options });
  }

  /**
   * Opens a sheet with an element. It has one history entry, so the back gesture closes it.
   * @param {Element} element @param {{ title: string, onClose?: function, wide?: boolean }} options
   */
  openSheet(element, options) {
    return sheets.openSheet(element, options);
  }

  /** Closes a sheet, by default the topmost one. */
  closeSheet(element) {
    sheets.closeSheet(element);
  }

  /**
   * Lets other rooms call a function of this room by a name. In use: `songs`, `song-add`, `song-import` (files?), `view`,
   * `invite`, `click` (toggles it), `awake`, `cues`, `more`, `timing` (puts itself before an element), `members`,
   * `settings`, `keys`, `leave`.
   */
  provide(name, run) {
    this.#rooms.set(name, run);
  }

  /** Whether a room provides a function. */
  has(name) {
    return this.#rooms.has(name);
  }

  /** Calls a function that a room provides. */
  call(name, ...args) {
    return this.#rooms.get(name)?.(...args);
  }

  /** Requests the chart of the song that is on again. */
  fetchSongs() {
    if (this.song) this.keeper.fetch(this.song.id).catch(() => {});
  }

  #tell(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  #press(target) {
    const el = target?.closest?.("button");
    if (el) this.#pressed = { el, at: performance.now() };
  }

  #changed() {
    this.#nowAt = -Infinity;
    if (!this.isOpen) return;
    this.#follow();
    this.#tell("members");
  }

  /** Keeps song and armed changes up with the timeline, which turns by itself when a scheduled segment begins. */
  #follow() {
    const { timeline } = this.band;
    const t = this.band.serverMicros();
    if (!timeline || t === null || (timeline === this.#seen && t < this.#turnsAt)) return;
    const ruling = music.segmentAt(timeline, t);
    // A start that was scheduled begins by itself, and so does an end.
    const runs = timeline.segments[ruling].rate === 1;
    const isNew = timeline !== this.#seen || runs !== this.#runs;
    this.#seen = timeline;
    this.#runs = runs;
    this.#turnsAt = timeline.segments[ruling + 1]?.t0 ?? Infinity;
    this.#arm(timeline, ruling);
    this.#choose(songOf(timeline, ruling));
    if (!isNew) return;
    // Rooms ask where the music is by this timeline, also if this runs within `now()`.
    this.#nowAt = -Infinity;
    this.#tell("timeline");
  }

  #arm(timeline, ruling) {
    const armed = timeline.segments.slice(ruling + 1).filter((segment) => segment.armed && segment.armed !== "end");
    const all = armed.map((segment) => ({
      kind: segment.armed,
      beat: segment.b0 / music.BEAT,
      at: segment.t0 / 1000,
      count: (segment.cut ?? segment.b0) / music.BEAT,
      ...(segment.song !== undefined && { songId: segment.song }),
      ...(segment.armed === "tempo" && { bpm: segment.bpm1 / 1000 }),
    }));
    if (JSON.stringify(all) === JSON.stringify(this.armedAll)) return;
    this.armedAll = all;
    this.armed = all.find(({ kind }) => kind === "jump" || kind === "song") ?? all.find(({ kind }) => kind === "tempo") ?? null;
    this.#tell("armed", this.armed);
  }

  #choose(id) {
    if (id === null) {
      if (this.song === null) return;
      this.song = null;
      this.#tell("song");
      return;
    }
    const listed = this.songById(id);
    const known = this.band.snapshot?.song?.id === id ? this.band.snapshot.song : null;
    const body = typeof listed?.body === "string" ? listed.body : null;
    const { title = "", artist = "", key = "", revision = 0 } = listed ?? known ?? this.song ?? {};
    const old = this.song;
    if (old?.id === id && old.body === body && old.title === title && old.revision === revision) return;
    const read = body === null ? null : this.chartOf(id);
    this.song = { id, title, artist, key, revision, body, chart: read?.chart ?? null, map: read?.map ?? null };
    this.#nowAt = -Infinity;
    if (this.looked === id) this.looked = null;
    this.#tell("song");
  }

  /** Reads the song that is on again if its text came or changed. */
  #listed() {
    for (const id of this.#charts.keys()) if (!this.songById(id)) this.#charts.delete(id);
    const { timeline } = this.band;
    const t = this.band.serverMicros();
    if (timeline && t !== null) this.#choose(songOf(timeline, music.segmentAt(timeline, t)));
    this.#tell("setlist");
  }
}

export const nameOf = (member) => member?.displayName || STAGE.somebody;

/** Id of the song that is on during a segment; null for none. */
function songOf(timeline, ruling) {
  for (let i = ruling; i >= 0; i -= 1) if (timeline.segments[i].song !== undefined) return timeline.segments[i].song;
  return timeline.song ?? null;
}

/** A chart that can't be read must not take the stage down. */
function readChart(body) {
  try {
    return readSong(body);
  } catch (error) {
    console.warn("chart not readable", error);
    return { chart: null, map: null };
  }
}

/** Makes a sentence of a message of the server, which begins with a small letter and has no full stop. */
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
