// Cues: a short message on every screen, large enough to be read from the other end of the stage.

import { STAGE, fill } from "../texts.js";
import { h, icon } from "./dom.js";
import { nameOf } from "./model.js";

/** One shape per kind, so that no kind is known by its colour alone. */
export const SHAPES = {
  go: "M5 3.5v17L20.5 12z",
  hold: "M5 4h5v16H5zM14 4h5v16h-5z",
  stop: "M8 2h8l6 6v8l-6 6H8l-6-6V8z",
  info: "M12 2a10 10 0 1 1 0 20 10 10 0 0 1 0-20zm-1.3 8.6v6.6h2.6v-6.6zm0-3.6v2.4h2.6V7z",
};

export function mountCues(stage, root) {
  const { band } = stage;
  const text = h("b", { dir: "auto" });
  const from = h("small", {});
  const shape = h("span", { class: "shape" });
  const hide = h("button", { class: "cue-hide", "aria-label": STAGE.cueDismiss, onclick: () => end() });
  const box = h("div", { class: "cue", data: { testid: "cue" }, hidden: true }, shape, h("p", {}, text, from), hide);
  // Announced as a whole, once, and at once.
  const said = h("p", { class: "unseen", role: "alert", "aria-live": "assertive", data: { testid: "cue-said" } });
  root.append(box, said);
  let timer = null;

  function end() {
    clearTimeout(timer);
    box.hidden = true;
    said.textContent = "";
  }

  band.addEventListener("cue", ({ detail }) => {
    const kind = Object.hasOwn(SHAPES, detail.kind) ? detail.kind : "info";
    const word = STAGE.cueWords[kind];
    const words = [word, detail.text].filter(Boolean).join(" · ");
    shape.replaceChildren(icon(SHAPES[kind]));
    text.textContent = words;
    const sender = band.members.find(({ socketId }) => socketId === (detail.from?.socketId ?? detail.from));
    const notes = [
      detail.target && fill(STAGE.cueFor, { target: detail.target }),
      sender && sender.socketId !== band.id && sender.socketId !== band.leaderId && fill(STAGE.cueFrom, { name: nameOf(sender) }),
    ];
    from.textContent = notes.filter(Boolean).join(" · ");
    box.dataset.kind = kind;
    box.classList.toggle("long", words.length > 24);
    box.hidden = false;
    said.textContent = words;
    clearTimeout(timer);
    if (detail.seconds !== 0) timer = setTimeout(end, (detail.seconds ?? 5) * 1000);
  });
  stage.addEventListener("close", end);
}
