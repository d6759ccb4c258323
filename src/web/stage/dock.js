// The dock of the leader, the small dock that a follower gets by a tap on the lowest part of the screen, and the sheet
// *More*. Controls that a narrow dock has no room for are moved into the sheet: each exists once.

import { STAGE, fill } from "../texts.js";
import { h, icon, mark, write } from "./dom.js";
import { feltHere } from "./model.js";
import { guard } from "./press.js";
import { times } from "./header.js";
import { tempoText } from "./steer.js";

const DRAWN = {
  back: "M6 5h2.5v14H6zM20 5v14L9.5 12z",
  play: "M7 4.5v15L20 12z",
  pause: "M6 5h4.5v14H6zM13.5 5H18v14h-4.5z",
  stop: "M6 6h12v12H6z",
  on: "M15.5 5H18v14h-2.5zM4 5l10.5 7L4 19z",
  repeat: "M7 7h9V4l5 4.5L16 13v-3H9v3H6V8a1 1 0 0 1 1-1zm10 10H8v3l-5-4.5L8 11v3h7v-3h3v5a1 1 0 0 1-1 1z",
  more: "M5 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4zm7 0a2 2 0 1 1 0 4 2 2 0 0 1 0-4zm7 0a2 2 0 1 1 0 4 2 2 0 0 1 0-4z",
};
/** A follower's dock hides after this time without a touch. Specified. */
const SHOWN_MS = 5000;
/** The part of the song, from below, where a tap shows it. Specified. */
const LOWEST = 0.15;
const METRES = ["2/4", "3/4", "4/4", "5/4", "6/4", "7/4", "2/2", "3/8", "5/8", "6/8", "7/8", "9/8", "12/8"];

export function mountDock(stage, root, steer) {
  const { band } = stage;
  const at = (event) => (event.timeStamp > 0 ? event.timeStamp : performance.now());

  const button = (testid, label, content, run, props = {}) => {
    const el = h("button", { "aria-label": label, title: label, data: { testid }, onclick: (event) => run?.(el, event), ...props }, ...content);
    return el;
  };
  const previous = button("previous-section", STAGE.previous, [icon(DRAWN.back)], (el) => steer.bySection(-1, el), { class: "icon big" });
  const play = button("play", STAGE.play, [icon(DRAWN.play)], (el) => steer.play(el), { class: "icon big go" });
  const pause = button("pause", STAGE.pause, [icon(DRAWN.pause)], (el) => steer.pause(el), { class: "icon big go", hidden: true });
  const stop = button("stop", STAGE.stop, [icon(DRAWN.stop)], null, { class: "icon big stop" });
  const next = button("next-section", STAGE.nextSection, [icon(DRAWN.on)], (el) => steer.bySection(1, el), { class: "icon big" });
  const repeatText = h("span", {}, STAGE.repeat);
  const repeat = button("repeat", STAGE.repeatTitle, [icon(DRAWN.repeat), repeatText], (el) => steer.repeat(el), { class: "with-icon", "aria-pressed": "false" });
  const one = button("one", STAGE.oneTitle, [STAGE.one], null);
  const down = button("tempo-down", STAGE.slower, ["−"], () => steer.byTempo(-1), { class: "sign" });
  const up = button("tempo-up", STAGE.faster, ["+"], () => steer.byTempo(1), { class: "sign" });
  const figure = h("span", {});
  const number = button("tempo-open", STAGE.tempo, [figure], () => openMore("tempo"), { class: "figure" });
  const tap = button("tap", STAGE.tapTitle, [STAGE.tap], null);
  const cues = button("cues-open", STAGE.cueTitle, [STAGE.cue], () => stage.call("cues"));
  const songs = button("songs-open", STAGE.songs, [STAGE.songs], () => stage.call("songs"));
  const more = button("more-open", STAGE.moreTitle, [icon(DRAWN.more)], () => openMore(), { class: "icon" });
  const view = button("view-open", STAGE.viewTitle, [STAGE.view], () => stage.call("view"));
  const click = button("click-toggle", STAGE.click, [STAGE.click], () => stage.call("click"), { "aria-pressed": "false" });
  const lead = button("take-lead", STAGE.lead, [STAGE.lead], () => stage.call("take-lead"), { class: "ask" });

  guard(stop, { run: () => steer.stop(stop), isGuarded: () => band.isPlaying, hint: STAGE.stopAgain });
  // These count when the finger touches, not when it lifts.
  for (const [el, run] of [[one, (t) => steer.one(t, one)], [tap, (t) => steer.tap(t)]]) {
    el.addEventListener("pointerdown", (event) => event.button === 0 && run(at(event)));
    el.addEventListener("click", (event) => event.detail === 0 && run(at(event)));
  }

  const transport = h("div", { class: "transport", role: "group", "aria-label": STAGE.transport }, previous, play, pause, stop, next);
  const tempo = h("div", { class: "tempo", role: "group", "aria-label": STAGE.tempo }, down, number, up);
  const ends = h("div", { class: "ends" });
  root.setAttribute("data-testid", "dock");

  // ---- the sheet More

  const metre = h("select", { id: "metre", data: { testid: "metre" }, onchange: () => {
    const [num, den] = metre.value.split("/").map(Number);
    steer.setMetre(num, den, metre);
  } }, ...METRES.map((text) => h("option", { value: text }, text)));
  const countIn = h("select", { id: "count-in", data: { testid: "count-in" }, onchange: () => stage.setView({ countIn: Number(countIn.value) }) },
    ...[0, 1, 2].map((n) => h("option", { value: n }, n === 0 ? STAGE.countInNone : fill(n === 1 ? STAGE.countInMany.one : STAGE.countInMany.many, { n }))));
  const enter = h("input", { id: "tempo-enter", type: "number", min: 1, max: 400, step: "any", inputmode: "decimal", data: { testid: "tempo-enter" },
    onchange: () => steer.toTempo(Number(enter.value)) });
  const barBack = button("bar-back", STAGE.barBack, [STAGE.barBack], (el) => steer.byBars(-1, el));
  const barOn = button("bar-on", STAGE.barOn, [STAGE.barOn], (el) => steer.byBars(1, el));
  const moved = h("div", { class: "more-row more-moved" });
  const leads = h("div", { class: "more-lead" },
    moved,
    h("div", { class: "more-fields" },
      h("label", { for: "tempo-enter" }, STAGE.tempo), enter,
      h("label", { for: "metre" }, STAGE.metre), metre,
      h("label", { for: "count-in" }, STAGE.countInBars), countIn),
    h("div", { class: "more-row", role: "group", "aria-label": STAGE.moveTitle }, barBack, barOn));
  const own = h("div", { class: "more-row" });
  const link = (name, text) => h("button", { data: { testid: `${name}-open` }, onclick: () => stage.call(name) }, text);
  const links = [
    ["members", STAGE.members], ["invite", STAGE.invite], ["settings", STAGE.settings], ["keys", STAGE.keyboard],
  ].map(([name, text]) => [name, link(name === "members" ? "more-members" : name, text)]);
  for (const [name, el] of links) if (name === "members") el.onclick = () => stage.call("members");
  const full = h("button", { data: { testid: "full-screen" }, onclick: () => stage.call("full-screen") }, STAGE.fullScreen);
  full.hidden = !document.documentElement.requestFullscreen;
  const leave = h("button", { class: "quiet leave", data: { testid: "leave" }, onclick: () => stage.call("leave", { isMeant: true }) }, STAGE.leave);
  const awake = h("p", { class: "hint", id: "awake-room" });
  const sheet = h("div", { class: "more", data: { testid: "more" } }, leads, own,
    h("div", { class: "more-links" }, ...links.map(([, el]) => el), full), awake, leave);

  function openMore(field) {
    place();
    for (const [name, el] of links) el.hidden = !stage.has(name);
    stage.call("timing", own);
    stage.openSheet(sheet, { title: STAGE.moreTitle, testid: "more-sheet" });
    const beat = band.beat();
    if (beat) {
      const text = `${beat.num}/${beat.den}`;
      if (!METRES.includes(text) && !metre.querySelector(`[value="${text}"]`)) metre.append(h("option", { value: text }, text));
      metre.value = text;
      enter.value = tempoText(Math.round(steer.feltTempo() * 10) / 10);
    }
    countIn.value = String(stage.view.countIn);
    if (field === "tempo") {
      enter.focus();
      enter.select();
    }
  }
  stage.provide("more", openMore);

  // ---- which control stands where

  const phone = matchMedia("(max-width: 37.4rem), (max-height: 30rem)");
  const low = matchMedia("(max-height: 30rem)");
  const narrow = matchMedia("(max-width: 62.4rem)");
  const whole = document.getElementById("stage");
  const song = document.getElementById("song");
  /** The song for which the layout was chosen. */
  let laidOutFor = null;

  /** Pixels of the song below the upper edge of the dock, or of the rail above it. */
  function coveredByDock() {
    const rail = document.getElementById("rail");
    const top = narrow.matches && rail.offsetHeight > 0 ? rail.offsetTop : root.offsetTop;
    return Math.max(0, song.offsetTop + song.offsetHeight - top);
  }

  /** A leader has a dock below the song, a follower has not. The music that plays is not moved by a change of the lead. */
  function layOut() {
    const { role, layout } = whole.dataset;
    const songId = stage.song?.id ?? null;
    if (layout === undefined || !band.isPlaying || songId !== laidOutFor) mark(whole, "data-layout", role);
    laidOutFor = songId;
    const isLent = role === "leader" && whole.dataset.layout === "follower";
    whole.classList.toggle("lent", isLent);
    const covered = isLent && !low.matches ? coveredByDock() : 0;
    whole.style.setProperty("--covered", `${covered}px`);
    stage.call("cover-song", covered);
  }

  function place() {
    const leader = stage.isLeader;
    root.dataset.role = leader ? "leader" : "follower";
    whole.dataset.role = root.dataset.role;
    const slot = document.getElementById("rail-slot");
    const row = [];
    const small = phone.matches;
    // A follower has it too, unseen: a rail that stays while the lead changes must not move.
    set(slot, narrow.matches ? [repeat] : []);
    if (leader) {
      const kept = narrow.matches ? [] : [repeat];
      if (!small) kept.push(...(narrow.matches ? [one, tempo] : [one, h("div", { class: "tempo-tap" }, tempo, tap)]));
      set(ends, small ? [more] : [cues, songs, more]);
      row.push(transport, ...kept, ends);
      set(moved, small ? [songs, cues, one, tap, tempo] : narrow.matches ? [tap] : []);
      set(own, stage.has("click") ? [view, click] : [view]);
    } else {
      set(moved, []);
      const cue = stage.mayCue ? [cues] : [];
      const clicks = stage.has("click") ? [click] : [];
      set(ends, small ? [view, ...clicks, more] : [view, ...clicks, ...cue, songs, more]);
      set(own, small ? [songs, ...cue] : []);
      row.push(lead, ends);
    }
    leads.hidden = !leader;
    set(root, row);
    words();
    layOut();
  }

  /** Replaces children only if they differ, so that focus and pressed buttons are kept. */
  function set(parent, children) {
    const same = parent.children.length === children.length && children.every((child, i) => child === parent.children[i]
      || (child.className === "tempo-tap" && parent.children[i].className === "tempo-tap" && child.children.length === 0));
    if (!same) parent.replaceChildren(...children);
  }

  function words() {
    const text = stage.call("lead-word") ?? STAGE.lead;
    write(lead, text);
    mark(lead, "aria-label", text);
    mark(lead, "title", null);
  }

  // ---- what changes while it plays

  let drawn = "";
  let lastTempo = null;
  function frame({ detail: here }) {
    if (!here) return;
    const loop = stage.loop !== null;
    const bpm = (steer.wanted ?? here.beat.tempoBpm) / feltHere(stage, here);
    const steps = bpm === lastTempo ? 10 : 1;
    lastTempo = bpm;
    const tempoWords = tempoText(Math.round(bpm * steps) / steps);
    const state = `${here.playing} ${loop} ${here.beat.pass} ${tempoWords}`;
    if (state === drawn) return;
    drawn = state;
    if (play.hidden !== here.playing) {
      const focused = document.activeElement;
      play.hidden = here.playing;
      pause.hidden = !here.playing;
      if (focused === play) pause.focus({ preventScroll: true });
      if (focused === pause) play.focus({ preventScroll: true });
    }
    mark(repeat, "aria-pressed", String(loop));
    write(repeatText, loop && here.beat.pass > 0 ? times(here.beat.pass) : STAGE.repeat);
    mark(repeat, "aria-label", loop ? fill(STAGE.release, { time: repeatText.textContent }) : STAGE.repeatTitle);
    write(figure, tempoWords);
    mark(number, "aria-label", fill(STAGE.tempoEnter, { bpm: tempoWords }));
  }

  // ---- a follower's dock

  let hide = null;
  function reveal() {
    root.classList.add("shown");
    clearTimeout(hide);
    hide = setTimeout(() => root.classList.remove("shown"), SHOWN_MS);
  }
  let pressedAt = null;
  song.addEventListener("pointerdown", (event) => {
    pressedAt = { x: event.clientX, y: event.clientY, at: performance.now() };
  });
  // A tap, no scrolling: the finger has not moved.
  song.addEventListener("pointerup", (event) => {
    const { x = Infinity, y = 0, at: since = 0 } = pressedAt ?? {};
    const isTap = Math.hypot(event.clientX - x, event.clientY - y) < 10 && performance.now() - since < 500;
    const box = whole.getBoundingClientRect();
    if (!isTap || event.clientY < box.bottom - box.height * LOWEST) return;
    reveal();
  });
  root.addEventListener("pointerdown", reveal);
  stage.provide("show-dock", reveal);

  for (const query of [phone, narrow]) query.addEventListener?.("change", place);
  stage.addEventListener("members", place);
  for (const type of ["timeline", "song"]) stage.addEventListener(type, () => stage.isOpen && layOut());
  stage.addEventListener("close", () => whole.removeAttribute("data-layout"));
  stage.addEventListener("view", () => {
    mark(click, "aria-pressed", String(stage.view.click !== "off"));
    whole.classList.toggle("left-handed", stage.view.leftHanded);
  });
  stage.addEventListener("frame", frame);
  stage.addEventListener("open", () => {
    drawn = "";
    place();
    mark(click, "aria-pressed", String(stage.view.click !== "off"));
    whole.classList.toggle("left-handed", stage.view.leftHanded);
    reveal();
  });
}
