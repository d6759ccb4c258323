// Keys and pedals. Most pedals are keyboards that send arrows or page keys: those go forward and back on every device,
// and never touch the tempo.

import { STAGE, fill } from "../texts.js";
import { h, write } from "./dom.js";
import { AGAIN_MS } from "./press.js";
import { topSheet } from "./sheet.js";

const FORWARD = ["PageDown", "ArrowDown", "ArrowRight"];
const BACK = ["PageUp", "ArrowUp", "ArrowLeft"];
/** Pedals bounce, and some send two presses for one. Specified. */
const BOUNCE_MS = 250;
const FIELDS = "input, textarea, select, [contenteditable]";

/** Whether a learned key is a message of a MIDI pedal. */
const isMidi = (key) => key.startsWith("midi:");

export function mountKeyboard(stage, steer) {
  const { band } = stage;
  let pressed = { key: null, at: -Infinity };
  let confirmed = { song: null, at: -Infinity };
  /** Takes all keys while a pedal is learned. */
  let learner = null;

  /** Runs a change of song only with the second press while the music plays. */
  function confirmSong(step, always) {
    const song = stage.songAfter(step);
    if (!song) return;
    const now = performance.now();
    const isSecond = confirmed.song === song.id && now - confirmed.at < AGAIN_MS;
    confirmed = { song: song.id, at: now };
    if (!isSecond && (always || band.isPlaying)) {
      stage.toast(fill(STAGE.confirmSong, { song: song.title }), { plain: true, seconds: AGAIN_MS / 1000 });
      return;
    }
    confirmed = { song: null, at: -Infinity };
    steer.toSong(step);
  }

  /** A press of a pedal. @param {1 | -1} way */
  function pedal(way) {
    if (!stage.isLeader) return stage.has("page") ? stage.call("page", way) : page(way);
    const here = stage.now();
    const map = stage.song?.map;
    const isOver = Boolean(here && map && map.passes.length > 0 && here.songBeat >= map.beats);
    if (way > 0 && isOver) return confirmSong(1, true);
    if (way > 0 && !here?.playing) return steer.play(find("play"));
    return steer.bySection(way, find(way > 0 ? "next-section" : "previous-section"));
  }

  /** One screen less two lines, where the room of the song has no better idea. */
  function page(way) {
    const scroller = [...document.querySelectorAll("#song, #song *")].find((el) => el.scrollHeight > el.clientHeight + 8 && el.clientHeight > 100);
    scroller?.scrollBy({ top: way * Math.max(48, scroller.clientHeight - 96), behavior: "smooth" });
  }

  function section(n) {
    const buttons = document.querySelectorAll('#rail [data-testid="section"]');
    const button = buttons[n - 1];
    if (button) steer.toSection(Number(button.dataset.section), button);
  }

  function fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen?.();
    else document.documentElement.requestFullscreen?.().catch(() => {});
  }

  const leads = {
    r: () => steer.repeat(find("repeat")),
    o: (event) => steer.one(event.timeStamp, find("one")),
    t: (event) => steer.tap(event.timeStamp),
    "+": () => steer.byTempo(1),
    "=": () => steer.byTempo(1),
    "-": () => steer.byTempo(-1),
    "−": () => steer.byTempo(-1),
    n: () => confirmSong(1, false),
    p: () => confirmSong(-1, false),
  };
  const all = {
    c: () => stage.call("click"),
    k: () => stage.call("cues"),
    l: () => stage.call("songs"),
    f: fullScreen,
    "?": () => stage.call("keys"),
  };
  for (let n = 1; n <= 9; n += 1) leads[n] = () => section(n);

  /** Taps of the tempo may be quicker than a pedal bounces. */
  const QUICK = new Set(["t", "o", "+", "=", "-", "−"]);

  function onKey(event) {
    if (!stage.isOpen || stage.isScreen || event.defaultPrevented) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { key } = event;
    if (learner) {
      pressed = { key, at: performance.now() };
      return learner(event);
    }
    if (key === "Escape") return escape(event);
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest(FIELDS)) return;
    const name = key.length === 1 ? key.toLowerCase() : key;
    const { pedals, letters } = stage.view;
    const learned = pedals.forward.includes(key) ? 1 : pedals.back.includes(key) ? -1 : 0;
    const inSheet = target.closest(".sheet") !== null;
    // Inside a sheet, arrows, space and page keys scroll and press what is there.
    const standard = inSheet ? 0 : FORWARD.includes(key) ? 1 : BACK.includes(key) ? -1 : 0;
    const way = learned || standard;
    const onButton = target.closest("button, a, summary") !== null && (key === " " || key === "Enter");
    let act = null;
    if (way !== 0) act = () => pedal(way);
    else if (onButton || (inSheet && key === " ")) return;
    else if (key === " ") act = stage.isLeader ? () => steer.toggle(find(band.isPlaying ? "pause" : "play")) : () => {};
    else if (!letters && name !== " ") return;
    else if (Object.hasOwn(all, name)) act = all[name];
    else if (Object.hasOwn(leads, name) && stage.isLeader) act = leads[name];
    if (!act) return;
    event.preventDefault();
    const now = performance.now();
    const bounces = event.repeat || (pressed.key === key && now - pressed.at < BOUNCE_MS && !QUICK.has(name));
    if (bounces) return;
    pressed = { key, at: now };
    act(event);
  }

  function escape(event) {
    if (topSheet()) stage.closeSheet();
    else if (stage.armed && stage.isLeader) steer.cancel();
    else return;
    event.preventDefault();
  }

  stage.provide("learn-key", (run) => {
    learner = run;
  });

  /** MIDI pedals that were learned before work again without a question. */
  function reopenMidi() {
    const { forward, back } = stage.view.pedals;
    if ([...forward, ...back].some(isMidi)) stage.call("midi");
  }
  stage.addEventListener("open", reopenMidi);

  // ---- leaving

  const leaveText = h("p", {});
  const leaveNow = h("button", { class: "primary", data: { testid: "leave-now" }, onclick: () => stage.call("close-stage") }, STAGE.leave);
  const stay = h("button", { data: { testid: "stay" }, onclick: () => stage.closeSheet(leaving) }, STAGE.stay);
  const leaving = h("div", { class: "fields" }, leaveText, h("div", { class: "more-row" }, leaveNow, stay));
  /** A leader is asked, and all are whose hand only went back. */
  stage.provide("leave", ({ isMeant = false } = {}) => {
    if (isMeant && !stage.isLeader) return stage.call("close-stage");
    write(leaveText, !stage.isLeader ? STAGE.leaveFollow : band.memberCount > 1 ? STAGE.leaveLead : STAGE.leaveAlone);
    stage.openSheet(leaving, { title: STAGE.leaveTitle, testid: "leave-sheet" });
    return stay.focus({ preventScroll: true });
  });

  stage.provide("full-screen", fullScreen);
  document.addEventListener("keydown", onKey);
  // After a touch or a click on the stage, the keyboard and pedals steer the stage again and do not press that button.
  document.addEventListener("click", (event) => {
    if (event.detail === 0 || !(event.target instanceof Element)) return;
    event.target.closest("#stage button")?.blur();
  }, true);

  const find = (testid) => document.querySelector(`#stage [data-testid="${testid}"]`) ?? undefined;
}
