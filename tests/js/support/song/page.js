// A stage without a server: the room of the song alone, with a timeline that a test sets. The timeline's functions and
// the song map are the real ones, and the clock is the page's.
import { lineAt } from "/chart/map.js";
import { readSong } from "/chart/unfold.js";
import * as music from "/timeline.js";

const BPM = 120;

class FakeBand extends EventTarget {
  timeline = null;
  status = "online";
  isLeader = true;
  members = [];
  id = "me";
  snapshot = null;
  calls = [];
  clock = { now: () => performance.now(), bound: 1, quality: "good" };
  serverMicros = () => Math.floor(performance.now() * 1000);

  beat() {
    const { beat: microbeats, bar, inBar, num, den, tempo, pass, countIn } = music.placeAt(this.timeline, this.serverMicros());
    const beat = Math.floor(inBar / music.BEAT);
    return { microbeats, songBeat: microbeats / music.BEAT, bar: bar + 1, beat: beat + 1, phase: inBar / music.BEAT - beat, num, den, tempoBpm: tempo / 1000, pass, countIn };
  }

  get isPlaying() {
    return music.isPlayingAt(this.timeline, this.serverMicros());
  }

  seekBeat(beat, options) {
    this.calls.push({ beat, ...options });
    return Promise.resolve();
  }
}

const VIEW = {
  shift: 0, capo: 0, instrument: "", notation: "letters", size: null, columns: "auto", wrap: true, show: "both",
  theme: "night", scroll: "glide", anchor: 0.3, returns: true, leftHanded: false, perSong: {},
};

class FakeStage extends EventTarget {
  band = new FakeBand();
  song = null;
  setlist = null;
  looked = null;
  armed = null;
  view = { ...VIEW };
  isLeader = true;
  isScreen = false;
  provided = {};

  get me() {
    return this.band.members.find(({ socketId }) => socketId === "me") ?? null;
  }

  now() {
    const beat = this.band.timeline && this.band.beat();
    const map = this.song?.map;
    if (!beat) return null;
    const pass = map && beat.songBeat < map.beats ? Math.max(0, map.passes.findLastIndex(({ from }) => from <= beat.songBeat)) : -1;
    return { beat, songBeat: beat.songBeat, line: map ? lineAt(map, beat.songBeat) : -1, pass, playing: this.band.isPlaying };
  }

  tell(type, detail) {
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  setView(changes) {
    this.view = { ...this.view, ...changes };
    this.tell("view", changes);
  }

  provide(name, run) {
    this.provided[name] = run;
  }

  has = (name) => name in this.provided;
  call = (name, ...args) => this.provided[name]?.(...args);

  command(promise) {
    return promise.then(() => true);
  }

  songById = (id) => this.setlist?.songs.find((song) => song.id === id) ?? null;
  songAfter = () => this.setlist?.songs[1] ?? null;
  chartOf = (id) => {
    const { body } = this.songById(id) ?? {};
    return body ? readSong(body) : null;
  };
  look(id) {
    this.looked = id;
    this.tell("look", id);
  }
  openSheet(element) {
    document.getElementById("sheets").replaceChildren(element);
  }

  /** Shows a song. */
  load(body, id = "one") {
    const { chart, map } = readSong(body);
    this.song = { id, title: chart.title, artist: chart.artist, body, chart, map };
    this.tell("song");
  }

  /** Puts the music at a beat, now: playing or not. @param {object} [more] fields of the segment */
  at(beat, { playing = false, bpm = BPM, now = performance.now(), ...more } = {}) {
    const meter = (this.song?.map.meter ?? [{ beat: 0, num: 4, den: 4 }]).map((entry) => ({ ...entry, beat: entry.beat * music.BEAT }));
    const t0 = Math.round(now * 1000);
    const speed = bpm * 1000;
    const segment = { t0, p0: 0, b0: Math.round(beat * music.BEAT), rate: playing ? 1 : 0, bpm0: speed, bpm1: speed, ramp: 0, ...more };
    this.set([segment], meter);
  }

  set(segments, meter = this.band.timeline.meter) {
    this.band.timeline = { epoch: 1, version: (this.band.timeline?.version ?? 0) + 1, leader: "me", song: this.song?.id, segments, meter, quantum: 0, countIn: 0, madeAt: 0 };
    this.tell("timeline");
  }
}

const stage = new FakeStage();
window.stage = stage;
window.music = music;
const options = new URLSearchParams(location.search);
const root = document.getElementById("song");
if (options.has("view")) {
  stage.isScreen = true;
  const { mountScreen } = await import("/stage/screen.js");
  mountScreen(stage, root);
} else {
  const { mountSong } = await import("/stage/song.js");
  const { mountView } = await import("/stage/view.js");
  mountView(stage);
  window.room = mountSong(stage, root);
}
const draw = () => {
  requestAnimationFrame(draw);
  if (stage.band.timeline) stage.tell("frame", stage.now());
};
requestAnimationFrame(draw);
stage.at(0);
window.ready = true;
