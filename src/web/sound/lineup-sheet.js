// *Line up my sound*: 16 taps to a flash, 16 taps to the click. Both have the delay of the touch screen and the habit
// of tapping early; only the click has the delay of the sound. So the difference is the offset that this device needs.

import { h, write } from "../stage/dom.js";
import { LINEUP, fill } from "../texts.js";
import { Beats } from "./beats.js";
import { Click } from "./click.js";
import { PERIOD_MS, RANGE, TAPS, lineUp } from "./lineup.js";
import { offsetRow } from "./offset.js";

const FLASH_MS = 120;
/** A frame of most screens. */
const FRAME_MS = 1000 / 60;
/** Pause before each round. */
const LEAD_IN_MS = 1500;

export class LineUpSheet {
  #stage;
  #output;
  #main;
  #click;
  #beats;
  /** The round: `flash`, `click`, or `fine` when the offset is known; null before the first. */
  #round = null;
  #taps = { flash: [], click: [] };
  #frame = null;
  #refresh = [];
  #el = null;
  #parts = {};

  /** @param {object} stage @param {{ output: import("./output.js").Output, click: Click }} sound */
  constructor(stage, { output, click }) {
    this.#stage = stage;
    this.#output = output;
    this.#main = click;
    this.#beats = new Beats();
    const view = () => ({
      ...stage.view,
      click: this.#round === "flash" ? "off" : "on",
      eighths: false,
      offsetMs: this.#offset,
    });
    this.#click = new Click({ band: this.#beats, output, view });
    stage.addEventListener("view", () => this.#show());
    output.addEventListener("state", () => this.#show());
  }

  /** The round with the click measures the delay without correction. */
  get #offset() {
    return this.#round === "fine" ? this.#stage.view.offsetMs : 0;
  }

  open() {
    this.#el ??= this.#make();
    this.#begin(null);
    this.#stage.openSheet(this.#el, { title: LINEUP.title, testid: "lineup", onClose: () => this.#end() });
  }

  #make() {
    const pad = h("button", {
      class: "lineup-pad",
      data: { testid: "lineup-pad" },
      onpointerdown: (event) => this.#pressed(event),
      onkeydown: (event) => {
        if ((event.key === " " || event.key === "Enter") && !event.repeat) this.#pressed(event);
      },
    });
    const word = h("span", {});
    const count = h("span", { class: "lineup-count" });
    pad.append(word, count);
    const result = h("p", { class: "lineup-result", role: "status", data: { testid: "lineup-result" } });
    const row = offsetRow(this.#stage, { id: "lineup-offset", refresh: this.#refresh });
    const again = h("button", { data: { testid: "lineup-again" }, onclick: () => this.#begin("flash") }, LINEUP.again);
    const fine = h("div", { class: "lineup-fine" }, h("p", { class: "hint" }, LINEUP.fine), row);
    this.#parts = { pad, word, count, result, fine, again };
    return h("div", { class: "lineup" }, h("p", {}, LINEUP.intro), pad, result, fine, again);
  }

  #begin(round) {
    this.#round = round;
    if (round === "flash") {
      this.#taps = { flash: [], click: [] };
      write(this.#parts.result, "");
      // The press that begins is what lets the device sound later.
      this.#main.isHeld = true;
      this.#main.turn();
      this.#click.start({ tapped: true });
    }
    if (round) this.#beats.begin(performance.now() + LEAD_IN_MS, { bpm: 60_000 / PERIOD_MS, num: 1 });
    cancelAnimationFrame(this.#frame);
    if (round) this.#frame = requestAnimationFrame(() => this.#draw());
    this.#show();
  }

  #end() {
    cancelAnimationFrame(this.#frame);
    this.#click.stop();
    this.#main.isHeld = false;
    this.#main.turn();
    this.#round = null;
    this.#parts.pad.classList.remove("lit");
  }

  /** A tap counts when the finger touches. */
  #pressed(event) {
    if (event.button > 0) return;
    event.preventDefault();
    event.stopPropagation();
    if (this.#round === null) return void this.#begin("flash");
    const taps = this.#taps[this.#round];
    const at = event.timeStamp > 0 ? event.timeStamp : performance.now();
    if (!taps || taps.length >= TAPS || at < this.#beats.first - PERIOD_MS / 2) return;
    if (this.#round === "click" && this.#output.state !== "on") return void write(this.#parts.result, LINEUP.noSound);
    taps.push(at - this.#beats.first);
    if (taps.length < TAPS) this.#show();
    else if (this.#round === "flash") this.#begin("click");
    else this.#finish();
  }

  #finish() {
    const { flash, click } = this.#taps;
    const { ok, code, offsetMs } = lineUp({ taps: flash, first: 0 }, { taps: click, first: 0 });
    if (!ok) {
      this.#end();
      write(this.#parts.result, code === "out_of_range" ? fill(LINEUP.beyond, RANGE) : LINEUP.unsteady);
    } else {
      const text = offsetMs > 0 ? LINEUP.result : offsetMs < 0 ? LINEUP.early : LINEUP.exact;
      write(this.#parts.result, fill(text, { n: Math.abs(offsetMs) }));
      this.#stage.setView({ offsetMs });
      this.#begin("fine");
    }
    this.#show();
  }

  #draw() {
    this.#frame = requestAnimationFrame(() => this.#draw());
    // What is drawn now is seen a frame later. Half a frame more makes it the frame that is nearest to the beat.
    const since = performance.now() + 1.5 * FRAME_MS - this.#beats.first;
    const isLit = this.#round !== "click" && since >= 0 && since % PERIOD_MS < FLASH_MS;
    if (this.#parts.pad.classList.contains("lit") !== isLit) this.#parts.pad.classList.toggle("lit", isLit);
  }

  #show() {
    if (!this.#el) return;
    for (const each of this.#refresh) each(this.#stage.view);
    const { word, count, fine, again, pad } = this.#parts;
    const left = TAPS - (this.#taps[this.#round]?.length ?? 0);
    const words = { flash: LINEUP.flash, click: LINEUP.click, fine: LINEUP.both };
    write(word, this.#round === null ? LINEUP.start : words[this.#round]);
    write(
      count,
      this.#round === "flash" || this.#round === "click"
        ? fill(left === 1 ? LINEUP.left.one : LINEUP.left.many, { n: left })
        : "",
    );
    pad.dataset.round = this.#round ?? "";
    fine.hidden = this.#round !== "fine";
    again.hidden = this.#round !== "fine";
    if (this.#round === "click" && this.#output.state === "none") write(this.#parts.result, LINEUP.noSound);
  }
}
