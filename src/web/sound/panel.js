// The sound room: the click with its settings, the screen that stays on, and use without the server.
//
// It fills `[data-slot=sound]` of the own-view sheet, and provides `click` (switches it on and off), `awake` (the
// state of the screen) and `line-up` (opens the sheet). Without the server, the click counts for this page alone.

import { h, write } from "../stage/dom.js";
import { recall, remember } from "../stage/keep.js";
import { mountLater } from "../stage/later.js";
import { SOUND, fill } from "../texts.js";
import { Awake } from "./awake.js";
import { Beats } from "./beats.js";
import { Click } from "./click.js";
import { Offline } from "./offline.js";
import { Output } from "./output.js";

/** Pause before the first beat of the own metronome. */
const OWN_LEAD_MS = 300;
/** Its tempo, if no song is looked at. */
const OWN_BPM = 120;
/** Time for which a note about a device without sound covers the song. */
const NOTE_MS = 8000;

/** Begins the sound room of a stage. A screen has no click, but stays on. */
export function mountSound(stage) {
  const awake = keepAwake(stage);
  const offline = keepPage(stage);
  const room = { awake, offline };
  if (!stage.isScreen) {
    const output = new Output();
    const click = new Click({ band: stage.band, output, view: () => stage.view, felt: () => stage.song?.chart?.felt ?? null });
    Object.assign(room, { output, click });
    steerClick(stage, click, output);
    offsetsByDevice(stage);
    Object.assign(room, { own: ownMetronome(stage, output) });
    mountLater(stage, ["line-up"], async () => {
      // Through the settings, so that these modules are not part of the page's script.
      const { makeLineUp } = await import("./settings.js");
      const sheet = makeLineUp(stage, { output, click });
      stage.provide("line-up", () => sheet.open());
    });
    let panel = null;
    stage.addEventListener("view-sheet", async ({ detail: { element, isOpen } }) => {
      if (!isOpen) return;
      const { makeSettings } = await import("./settings.js");
      const texts = { trouble: () => trouble(click, output), awake: () => awakeText(awake) };
      panel ??= makeSettings(stage, room, texts);
      const slot = element.querySelector("[data-slot=sound]");
      if (slot && panel.element.parentNode !== slot) slot.append(panel.element);
      panel.show();
    });
    noteOverSong(stage, click, output);
  }
  // For tests, and for the curious.
  stage.sound = room;
  return room;
}

function keepAwake(stage) {
  const awake = new Awake();
  const { band } = stage;
  // The status changes during the press on Join, and only a press may start a video.
  const follow = () => {
    if (band.status === "connecting") awake.start();
    else if (band.status === "closed" && !stage.isOpen) awake.stop();
  };
  band.addEventListener("status", follow);
  stage.addEventListener("open", () => awake.start());
  stage.addEventListener("close", () => awake.stop());
  stage.provide("awake", () => awake.state);

  // The sheet More has a line for it, which exists only while that sheet is open.
  const show = () => {
    const line = document.getElementById("awake-room");
    if (line) write(line, awakeText(awake));
  };
  awake.addEventListener("state", show);
  const sheets = document.getElementById("sheets");
  if (sheets) new MutationObserver(show).observe(sheets, { childList: true });
  return awake;
}

const awakeText = ({ state }) => (state === "on" ? SOUND.awake : SOUND.dark);

function keepPage(stage) {
  const offline = new Offline(() => stage.band.status === "reconnecting");
  stage.band.addEventListener("status", ({ detail }) => {
    if (detail === "online") offline.refresh();
  });
  offline.addEventListener("state", () => {
    if (offline.state !== "outdated") return;
    stage.toast(SOUND.newVersion, {
      plain: true,
      seconds: 0,
      action: { text: SOUND.reload, run: () => location.reload() },
    });
  });
  return offline;
}

/** Starts and stops the click as the view says, while the stage is open. */
function steerClick(stage, click, output) {
  let last = stage.view.click === "off" ? "on" : stage.view.click;
  const follow = (tapped) => {
    const { click: mode } = stage.view;
    if (mode !== "off") last = mode;
    if (!stage.isOpen || mode === "off") click.stop();
    else if (!click.isOn) click.start({ tapped });
    else click.turn();
  };
  stage.addEventListener("open", () => follow(navigator.userActivation?.hasBeenActive ?? false));
  stage.addEventListener("close", () => follow(false));
  stage.addEventListener("view", () => follow(true));
  stage.provide("click", () => stage.setView({ click: stage.view.click === "off" ? last : "off" }));
  // After a page was hidden, its timers were late.
  document.addEventListener("visibilitychange", () => click.turn());
  output.addEventListener("state", () => click.turn());
}

/** Beats without a server, for a page that opened offline. They end when the band is back. */
function ownMetronome(stage, output) {
  const beats = new Beats();
  const click = new Click({ band: beats, output, view: () => ({ ...stage.view, click: "on" }) });
  const end = () => {
    beats.end();
    click.stop();
  };
  /** Begins or ends as the click is switched, with the tempo of the song that is looked at. */
  const follow = () => {
    const isAlone = stage.isOpen && !stage.band.timeline && !stage.isOnline;
    if (!isAlone || stage.view.click === "off") return end();
    const map = stage.chartOf(stage.looked)?.map;
    const { num = 4, den = 4 } = map?.meter.at(-1) ?? {};
    const bpm = map?.tempos[0].bpm ?? OWN_BPM;
    beats.begin(performance.now() + OWN_LEAD_MS, { bpm, num, den });
    stage.toast(fill(SOUND.alone, { bpm: Math.round(bpm / (map?.felt ?? 1)) }), { plain: true });
    return click.start({ tapped: true });
  };
  // Only a press begins it: nobody wants a click because the network is slow.
  stage.addEventListener("view", ({ detail }) => detail && "click" in detail && follow());
  stage.addEventListener("look", () => click.isOn && follow());
  stage.addEventListener("close", end);
  stage.band.addEventListener("change", () => {
    if (click.isOn && stage.band.timeline) end();
  });
  return { beats, click };
}

/** Keeps an offset for each output device of which the browser tells the name. */
function offsetsByDevice(stage) {
  const media = navigator.mediaDevices;
  let name = "";
  const kept = () => recall("offsets", {});
  const look = async () => {
    const devices = (await media?.enumerateDevices?.().catch(() => null)) ?? [];
    const found = devices.find(({ kind, deviceId }) => kind === "audiooutput" && deviceId === "default")?.label ?? "";
    if (found === name) return;
    name = found;
    const offsetMs = kept()[name];
    if (name && offsetMs !== undefined && offsetMs !== stage.view.offsetMs) stage.setView({ offsetMs });
  };
  stage.addEventListener("view", ({ detail }) => {
    if (name && detail?.offsetMs !== undefined) remember("offsets", { ...kept(), [name]: detail.offsetMs });
  });
  media?.addEventListener?.("devicechange", look);
  look();
}

/** What is wrong with the sound: a text, or "". */
function trouble(click, output) {
  if (!click.isOn) return "";
  if (output.state === "tap") return SOUND.tap;
  if (output.state === "none") return SOUND.none;
  if (!click.isSilenced) return "";
  const ms = Math.round(click.boundMs);
  return Number.isFinite(ms) ? fill(SOUND.lost, { ms }) : SOUND.lostUnknown;
}

/** Says over the song what is wrong with the sound. Nothing moves when it appears. */
function noteOverSong(stage, click, output) {
  const note = h("p", { class: "sound-note", role: "status", hidden: true, data: { testid: "sound-note" } });
  document.getElementById("stage").append(note);
  let hide = null;
  const show = () => {
    const text = stage.isOpen ? trouble(click, output) : "";
    if (note.textContent === text) return;
    clearTimeout(hide);
    write(note, text);
    note.hidden = text === "";
    note.dataset.state = click.isSilenced ? "lost" : output.state;
    // A device without sound stays one; the song is more important.
    if (output.state === "none") hide = setTimeout(() => (note.hidden = true), NOTE_MS);
  };
  click.addEventListener("state", show);
  output.addEventListener("state", show);
  stage.addEventListener("close", show);
}
