// The settings of the sound, in the sheet of the own view: fetched with it.

import { h, mark, write } from "../stage/dom.js";
import { SOUND, fill } from "../texts.js";
import { LineUpSheet } from "./lineup-sheet.js";
import { offsetRow } from "./offset.js";
import { NAMES } from "./sounds.js";

/** Makes the sheet *Line up my sound*. */
export const makeLineUp = (stage, parts) => new LineUpSheet(stage, parts);

/** An iPhone whose browser can't say that its sound is music: the silent switch mutes it. */
const hasSilentSwitch = () => /iPhone/.test(navigator.userAgent) && !navigator.audioSession;

/**
 * Makes the settings. Rows look as those of the own view.
 * @param {object} room what `mountSound` made
 * @param {{ trouble: () => string, awake: () => string }} texts what is wrong with the sound, and whether the screen
 *   stays on
 */
export function makeSettings(stage, { click, output, awake, offline }, texts) {
  const set = (changes) => stage.setView(changes);
  const refresh = [];
  const row = (label, ...controls) =>
    h(
      "div",
      { class: "set-row", role: "group", "aria-label": label },
      h("span", { class: "set-label" }, label),
      ...controls,
    );

  const choice = (label, name, options) => {
    const buttons = options.map(([value, text]) =>
      h(
        "button",
        { "aria-pressed": "false", data: { testid: `${name}-${value}` }, onclick: () => set({ [name]: value }) },
        text,
      ),
    );
    refresh.push((view) => {
      for (const [i, button] of buttons.entries()) mark(button, "aria-pressed", String(view[name] === options[i][0]));
    });
    return row(label, h("div", { class: "set-choice" }, ...buttons));
  };
  const check = (label, testid, isOn, run) => {
    const box = h("input", { type: "checkbox", data: { testid }, onchange: () => run(box.checked) });
    refresh.push((view) => {
      box.checked = isOn(view);
    });
    return h("label", { class: "set-row set-check" }, h("span", { class: "set-label" }, label), box);
  };

  const toggle = h("button", {
    "aria-pressed": "false",
    data: { testid: "click" },
    onclick: () => stage.call("click"),
  });
  refresh.push(({ click: mode }) => {
    mark(toggle, "aria-pressed", String(mode !== "off"));
    write(toggle, mode === "off" ? SOUND.off : SOUND.on);
  });
  const status = h("p", { class: "sound-status", role: "status", data: { testid: "sound-status" } });
  const hint = h("p", { class: "hint" });

  const volume = h("input", {
    id: "click-volume",
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    data: { testid: "click-volume" },
  });
  const loud = h("output", { for: "click-volume" });
  volume.addEventListener("input", () => set({ volume: Number(volume.value) / 100 }));
  refresh.push((view) => {
    const n = Math.round(100 * view.volume);
    if (Number(volume.value) !== n) volume.value = String(n);
    write(loud, fill(SOUND.percent, { n }));
  });

  const device = h("p", { data: { testid: "awake" } });
  const kept = h("p", { class: "hint", data: { testid: "offline" } });
  const install = h(
    "button",
    { hidden: true, data: { testid: "install" }, onclick: () => offline.install() },
    SOUND.install,
  );

  const element = h(
    "div",
    { class: "sound-room" },
    h(
      "section",
      { class: "set-group" },
      h("h3", {}, SOUND.title),
      row(SOUND.click, h("div", { class: "set-choice" }, toggle)),
      check(
        SOUND.countInOnly,
        "click-count-in",
        (view) => view.click === "count-in",
        (isOnly) => set({ click: isOnly ? "count-in" : "on" }),
      ),
      status,
      hint,
      h(
        "div",
        { class: "set-row" },
        h("label", { class: "set-label", for: "click-volume" }, SOUND.volume),
        h("div", { class: "set-range" }, volume, loud),
      ),
      choice(
        SOUND.sound,
        "sound",
        NAMES.map((name) => [name, SOUND.sounds[name]]),
      ),
      choice(
        SOUND.accent,
        "accent",
        SOUND.accents.map((text, i) => [i, text]),
      ),
      check(
        SOUND.eighths,
        "eighths",
        (view) => view.eighths,
        (eighths) => set({ eighths }),
      ),
      offsetRow(stage, { id: "click-offset", refresh }),
      h("p", { class: "hint" }, SOUND.offsetHint),
      h("button", { data: { testid: "line-up" }, onclick: () => stage.call("line-up") }, SOUND.lineUp),
    ),
    h("section", { class: "set-group" }, h("h3", {}, SOUND.device), device, kept, install),
  );

  function show() {
    if (!element.isConnected) return;
    for (const each of refresh) each(stage.view);
    write(status, texts.trouble());
    status.hidden = status.textContent === "";
    const isOn = stage.view.click !== "off";
    write(hint, !isOn ? "" : hasSilentSwitch() ? SOUND.silentSwitch : navigator.audioSession ? SOUND.stopsMusic : "");
    hint.hidden = hint.textContent === "";
    write(device, texts.awake());
    mark(device, "data-state", awake.state);
    write(kept, SOUND.offline[offline.state]);
    mark(kept, "data-state", offline.state);
    install.hidden = !offline.canInstall;
  }
  for (const source of [click, output, awake, offline]) source.addEventListener("state", show);
  stage.addEventListener("view", show);
  return { element, show };
}
