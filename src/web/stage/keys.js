// The list of keys, and learning a pedal: its key, or its MIDI message where the browser has MIDI.

import { STAGE, fill } from "../texts.js";
import { h, write } from "./dom.js";
import { midiOf, nameOfSignal } from "./midi.js";
import { remark } from "./say.js";

const MODIFIERS = ["Shift", "Control", "Alt", "Meta", "Tab"];

/** Provides `keys`, which opens the sheet, and `midi`, which opens MIDI again if the browser need not ask. */
export function mountKeys(stage) {
  /** While a pedal is learned: `"forward"` or `"back"`. */
  let learns = null;

  const row = ([keys, text]) => h("div", {}, h("dt", {}, ...keys.split("  ").map((key) => h("kbd", {}, key))), h("dd", {}, text));
  const rows = (leadsOnly) => STAGE.keyList.filter((entry) => entry[2] === leadsOnly).map(row);
  const letters = h("input", { type: "checkbox", data: { testid: "letters" }, onchange: () => stage.setView({ letters: letters.checked }) });
  const learned = h("p", { class: "hint", role: "status", data: { testid: "learned" } });
  const learnButton = (way) => h("button", { data: { testid: `learn-${way}` }, onclick: () => learn(learns === way ? null : way) });
  const forward = learnButton("forward");
  const back = learnButton("back");
  const forget = h("button", { class: "quiet", data: { testid: "learn-forget" }, onclick: () => {
    stage.setView({ pedals: { forward: [], back: [] } });
    show();
  } }, STAGE.forget);
  const sheet = h("div", { class: "keys", data: { testid: "keys" } },
    h("h3", {}, STAGE.pedals), h("p", { class: "hint" }, STAGE.pedalsHint),
    h("div", { class: "more-row" }, forward, back, forget), learned, midiRow(stage),
    h("h3", {}, STAGE.keysLead), h("dl", {}, ...rows(true)),
    h("h3", {}, STAGE.keysAll), h("dl", {}, ...rows(false)),
    h("label", { class: "check" }, letters, h("span", {}, STAGE.letters)), h("p", { class: "hint" }, STAGE.lettersHint));

  function show() {
    const { pedals } = stage.view;
    write(forward, learns === "forward" ? STAGE.learnNow : STAGE.learnForward);
    write(back, learns === "back" ? STAGE.learnNow : STAGE.learnBack);
    forward.setAttribute("aria-pressed", String(learns === "forward"));
    back.setAttribute("aria-pressed", String(learns === "back"));
    const names = (keys) => keys.map(nameOfSignal).join(", ") || STAGE.learnedNone;
    write(learned, fill(STAGE.learned, { forward: names(pedals.forward), back: names(pedals.back) }));
    forget.hidden = pedals.forward.length + pedals.back.length === 0;
  }

  function learn(way) {
    learns = way;
    stage.call("learn-key", way ? take : null);
    show();
  }

  function take(event) {
    event.preventDefault();
    if (event.key === "Escape") return learn(null);
    if (event.repeat || MODIFIERS.includes(event.key)) return undefined;
    const without = (keys) => keys.filter((key) => key !== event.key);
    const { pedals } = stage.view;
    const next = { forward: without(pedals.forward), back: without(pedals.back) };
    next[learns].push(event.key);
    stage.setView({ pedals: next });
    learn(null);
    return remark(learned.textContent);
  }

  stage.provide("midi", () => midiOf(stage).reopen());
  stage.provide("keys", () => {
    letters.checked = stage.view.letters;
    show();
    stage.openSheet(sheet, { title: STAGE.keysTitle, testid: "keys-sheet", onClose: () => learn(null) });
  });
}

/** The state of MIDI, and the button that asks for it; nothing where the browser has none. */
function midiRow(stage) {
  if (typeof navigator.requestMIDIAccess !== "function") return null;
  const midi = midiOf(stage);
  const text = h("p", { class: "hint", role: "status", data: { testid: "midi-state" } });
  const ask = h("button", { data: { testid: "midi-open" }, onclick: () => midi.open() }, STAGE.midiAsk);
  const show = () => {
    const { state, names, busy } = midi;
    const on = busy.length > 0 ? STAGE.midiBusy : names.length > 0 ? STAGE.midiOn : STAGE.midiNone;
    const texts = { off: STAGE.midiHint, asking: STAGE.midiHint, on, denied: STAGE.midiDenied, failed: STAGE.midiFailed };
    write(text, fill(texts[state], { names: (busy.length > 0 ? busy : names).join(", ") }));
    ask.hidden = state === "on";
    if (state === "asking") ask.setAttribute("aria-busy", "true");
    else ask.removeAttribute("aria-busy");
  };
  midi.addEventListener("state", show);
  show();
  return h("div", { data: { testid: "midi" } }, text, ask);
}
