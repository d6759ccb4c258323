// The sheet that sends cues: three kinds at one press, words that bands need, and one's own.

import { STAGE } from "../texts.js";
import { SHAPES } from "./cues.js";
import { h, icon } from "./dom.js";

export function mountCueSheet(stage) {
  const { band } = stage;
  const stays = h("input", { type: "checkbox", data: { testid: "cue-stays" } });
  const own = h("input", { id: "cue-text", maxlength: 200, enterkeyhint: "send", autocomplete: "off", data: { testid: "cue-text" } });
  const kinds = Object.keys(SHAPES);
  const choice = (kind) => h("label", { class: `chip cue-${kind}` },
    h("input", { type: "radio", name: "cue-kind", value: kind, checked: kind === "info" }), h("span", {}, STAGE.cueKinds[kind]));
  const form = h("form", { class: "cue-own", onsubmit: (event) => {
    event.preventDefault();
    const kind = form.elements["cue-kind"].value;
    const words = own.value.trim();
    if (words || kind !== "info") send(kind, words);
    own.value = "";
  } },
  h("label", { for: "cue-text" }, STAGE.cueText),
  h("div", { class: "row" }, own, h("button", { type: "submit", class: "primary", data: { testid: "cue-send" } }, STAGE.cueSend)),
  h("div", { class: "chips", role: "radiogroup", "aria-label": STAGE.cueTitle }, ...kinds.map(choice)));
  const sheet = h("div", { class: "cues", data: { testid: "cues" } },
    h("div", { class: "cue-kinds" }, ...kinds.slice(0, 3).map((kind) =>
      h("button", { class: `big-cue cue-${kind}`, data: { testid: `cue-${kind}` }, onclick: () => send(kind, "") }, icon(SHAPES[kind]), STAGE.cueKinds[kind]))),
    h("div", { class: "cue-ready" }, ...STAGE.cueReady.map((words) =>
      h("button", { data: { testid: "cue-ready" }, onclick: () => send("info", words) }, words))),
    form,
    h("label", { class: "check" }, stays, h("span", {}, STAGE.cueStays)));

  function send(kind, words) {
    stage.command(band.cue(words, { kind, ...(stays.checked && { seconds: 0 }) }));
  }

  stage.provide("cues", () => {
    if (stage.mayCue) stage.openSheet(sheet, { title: STAGE.cueTitle, testid: "cues-sheet" });
  });
}
