// The offset of this device's sound: how much earlier the click is sent, because it is heard later.

import { h, write } from "../stage/dom.js";
import { SOUND, fill } from "../texts.js";
import { RANGE, inRange } from "./lineup.js";

/** The row of the offset: a slider with a step of 1 ms, and buttons for single steps. */
export function offsetRow(stage, { id, refresh }) {
  const set = (ms) => stage.setView({ offsetMs: inRange(ms) });
  const slider = h("input", { id, type: "range", min: RANGE.min, max: RANGE.max, step: 1, data: { testid: id } });
  const value = h("output", { for: id });
  slider.addEventListener("input", () => set(Number(slider.value)));
  const step = (by, sign, label) =>
    h("button", { class: "icon", "aria-label": label, onclick: () => set(stage.view.offsetMs + by) }, sign);
  refresh.push(({ offsetMs }) => {
    if (Number(slider.value) !== offsetMs) slider.value = String(offsetMs);
    write(value, fill(SOUND.ms, { n: String(offsetMs).replace("-", "−") }));
  });
  return h(
    "div",
    { class: "set-row" },
    h("label", { class: "set-label", for: id }, SOUND.offset),
    h("div", { class: "set-range" }, step(-1, "−", SOUND.offsetDown), slider, step(1, "+", SOUND.offsetUp), value),
  );
}
