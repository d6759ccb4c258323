// The sheet with the settings of this browser's own view.
//
// Key and capo belong to a song, and are kept by its id; everything else holds for all songs. Settings take effect at
// once. Nothing here reaches the server or another member.

import { keyName, keysFor, soundingKey } from "../chart/chord.js";
import { VIEW, fill } from "../texts.js";
import { h, mark, write } from "./dom.js";
import { keyNotation, ownView } from "./own-view.js";

const SHIFT_MOST = 11;
const CAPO_MOST = 11;
const SIZE_LEAST = 16;
const SIZE_MOST = 64;
const SIZE_STEP = 2;
const ANCHOR_LEAST = 20;
const ANCHOR_MOST = 60;

/** Provides `view`, which opens the sheet. */
export function mountView(stage) {
  const sheet = new ViewSheet(stage);
  stage.provide("view", () => sheet.open());
}

/** A key, and by how many semitones it was moved. */
function keyText(key, steps, view) {
  const text = steps === 0 ? VIEW.asWritten : `${steps > 0 ? "+" : "−"}${Math.abs(steps)}`;
  return key ? `${keyName(key, 0, keyNotation(view))} · ${text}` : text;
}

class ViewSheet {
  #stage;
  #el = null;
  #refresh = [];
  #isOpen = false;

  constructor(stage) {
    this.#stage = stage;
    for (const event of ["view", "song", "members", "band-key"]) stage.addEventListener(event, () => this.#isOpen && this.#show());
  }

  /** Opens the sheet. Other rooms fill `[data-slot=sound]` and `[data-slot=pedals]` on the event `view-sheet`. */
  open() {
    this.#el ??= this.#make();
    this.#isOpen = true;
    this.#show();
    const onClose = () => {
      this.#isOpen = false;
      this.#stage.dispatchEvent(Object.assign(new Event("view-sheet"), { detail: { element: this.#el, isOpen: false } }));
    };
    this.#stage.openSheet(this.#el, { title: VIEW.title, testid: "view", onClose });
    this.#stage.dispatchEvent(Object.assign(new Event("view-sheet"), { detail: { element: this.#el, isOpen: true } }));
  }

  get #view() {
    return ownView(this.#stage.view, this.#stage.song?.id);
  }

  /** Sets key or capo: for the song that is on, or for all if there is none. */
  #setOwn(changes) {
    const id = this.#stage.song?.id;
    if (!id) return this.#stage.setView(changes);
    const { perSong = {} } = this.#stage.view;
    return this.#stage.setView({ perSong: { ...perSong, [id]: { ...perSong[id], ...changes } } });
  }

  #show() {
    for (const refresh of this.#refresh) refresh(this.#view);
  }

  #make() {
    const set = (changes) => this.#stage.setView(changes);
    const turn = (by) => {
      const shift = (this.#view.shift ?? 0) + by;
      this.#setOwn({ shift: Math.abs(shift) > SHIFT_MOST ? 0 : shift });
    };
    const fretText = (fret) => (fret === 0 ? VIEW.noCapo : fill(VIEW.capoFret, { fret }));
    const frets = Array.from({ length: CAPO_MOST + 1 }, (_, fret) => [fret, fretText(fret)]);
    const columns = [["auto", VIEW.columnCounts.auto], [1, VIEW.columnCounts[1]], [2, VIEW.columnCounts[2]]];
    const keyNames = { id: "transpose", down: VIEW.keyDown, up: VIEW.keyUp };
    return h(
      "div",
      { class: "own-view" },
      h(
        "section",
        { class: "set-group" },
        h("h3", {}, VIEW.thisSong),
        this.#stepper(VIEW.key, keyNames, turn, (view) => this.#keyText(view)),
        this.#select(VIEW.capo, "capo", frets, (value) => this.#setOwn({ capo: Number(value) })),
        this.#note((view) => this.#plays(view)),
      ),
      this.#forBand(),
      h(
        "section",
        { class: "set-group" },
        h("h3", {}, VIEW.forAll),
        this.#select(VIEW.notation, "notation", Object.entries(VIEW.notations), (notation) => set({ notation })),
        this.#check(VIEW.minorAsRelative, "minorAsRelative", (view) => view.notation === "nashville"),
        this.#choice(VIEW.instrument, "instrument", Object.entries(VIEW.instruments)),
        this.#choice(VIEW.show, "show", Object.entries(VIEW.shows)),
        this.#choice(VIEW.chorus, "chorus", Object.entries(VIEW.choruses)),
        this.#sizes(),
        this.#choice(VIEW.wrap, "wrap", [[true, VIEW.wraps.true], [false, VIEW.wraps.false]]),
        this.#choice(VIEW.columns, "columns", columns),
        this.#choice(VIEW.theme, "theme", Object.entries(VIEW.themes)),
        this.#choice(VIEW.scroll, "scroll", Object.entries(VIEW.scrolls)),
        this.#anchor(),
        this.#check(VIEW.returns, "returns"),
        this.#check(VIEW.leftHanded, "leftHanded"),
      ),
      h("div", { data: { slot: "sound" } }),
      h("div", { data: { slot: "pedals" } }),
      this.#stage.has("keys") && h("button", { onclick: () => this.#stage.call("keys") }, VIEW.keys),
    );
  }

  /** Whether this member may change the band's key. The room of the songs does that, which comes a little later. */
  get #isForBand() {
    return Boolean(this.#stage.mayEdit && this.#stage.bandKey);
  }

  /** The key of the band: offered to members that may edit, because it changes the song for all. */
  #forBand() {
    const turn = (by) => {
      this.#stage.bandKey.move(this.#stage.song.id, by);
      this.#show();
    };
    const names = { id: "band-key", down: VIEW.bandKeyDown, up: VIEW.bandKeyUp };
    const text = (view) => {
      const { id, chart } = this.#stage.song ?? {};
      if (!chart || !this.#isForBand) return "";
      const transpose = this.#stage.bandKey.of(id);
      const sounds = soundingKey({ ...chart, transpose });
      return keyText(sounds.text && sounds, transpose, view);
    };
    const group = h("section", { class: "set-group" }, h("h3", {}, VIEW.forBand), this.#stepper(VIEW.bandKey, names, turn, text));
    this.#refresh.push(() => {
      group.hidden = !this.#isForBand || !this.#stage.song?.chart;
    });
    return group;
  }

  #keyText(view) {
    const { shift = 0 } = view;
    const { chart } = this.#stage.song ?? {};
    return keyText(chart && keysFor(chart, { shift }).plays, shift, view);
  }

  #plays(view) {
    const { chart } = this.#stage.song ?? {};
    if (!chart) return "";
    const { sounds, plays, capo } = keysFor(chart, view);
    if (!plays || !sounds.text || (plays.tonic === sounds.tonic && capo === 0)) return "";
    const name = (key) => keyName(key, 0, keyNotation(view));
    const text = capo > 0 ? VIEW.playsWithCapo : VIEW.plays;
    return fill(text, { shown: name(plays), sounds: name(sounds), capo });
  }

  // Kinds of controls.

  #row(label, ...controls) {
    return h("div", { class: "set-row", role: "group", "aria-label": label }, h("span", { class: "set-label" }, label), ...controls);
  }

  #note(text) {
    const el = h("p", { class: "set-note", role: "status" });
    this.#refresh.push((view) => {
      write(el, text(view));
      el.hidden = el.textContent === "";
    });
    return el;
  }

  #stepper(label, { id, down, up }, turn, text) {
    const value = h("output", { class: "set-value", data: { testid: id } });
    this.#refresh.push((view) => write(value, text(view)));
    const button = (name, by, sign, what) =>
      h("button", { class: "icon step", "aria-label": what, data: { testid: `${id}-${name}` }, onclick: () => turn(by) }, sign);
    return this.#row(label, h("div", { class: "set-steps" }, button("down", -1, "−", down), value, button("up", 1, "+", up)));
  }

  #select(label, name, options, run) {
    const id = `view-${name}`;
    const choices = options.map(([value, text]) => h("option", { value: String(value) }, text));
    const select = h("select", { id, data: { testid: name }, onchange: () => run(select.value) }, ...choices);
    this.#refresh.push((view) => {
      select.value = String(view[name] ?? options[0][0]);
    });
    return h("div", { class: "set-row" }, h("label", { class: "set-label", for: id }, label), select);
  }

  #choice(label, name, options) {
    const buttons = options.map(([value, text]) => {
      const data = { testid: `${name}-${value}` };
      return h("button", { "aria-pressed": "false", data, onclick: () => this.#stage.setView({ [name]: value }) }, text);
    });
    this.#refresh.push((view) => {
      for (const [i, button] of buttons.entries()) mark(button, "aria-pressed", String(view[name] === options[i][0]));
    });
    const row = this.#row(label, h("div", { class: "set-choice" }, ...buttons));
    row.dataset.testid = name;
    return row;
  }

  #check(label, name, isOffered = () => true) {
    const onchange = () => this.#stage.setView({ [name]: box.checked });
    const box = h("input", { type: "checkbox", data: { testid: name }, onchange });
    const row = h("label", { class: "set-row set-check" }, h("span", { class: "set-label" }, label), box);
    this.#refresh.push((view) => {
      box.checked = Boolean(view[name]);
      row.hidden = !isOffered(view);
    });
    return row;
  }

  #sizes() {
    const shown = () => Number(document.querySelector(".song-room")?.dataset.size) || 24;
    const turn = (by) => {
      // An automatic size may lie between two steps.
      const steps = (this.#stage.view.size ?? shown()) / SIZE_STEP;
      const size = SIZE_STEP * (by > 0 ? Math.floor(steps) + 1 : Math.ceil(steps) - 1);
      this.#stage.setView({ size: Math.min(SIZE_MOST, Math.max(SIZE_LEAST, size)) });
    };
    const text = ({ size }) => fill(VIEW.pixels, { size: Math.round(size ?? shown()) });
    const row = this.#stepper(VIEW.size, { id: "size", down: VIEW.sizeDown, up: VIEW.sizeUp }, turn, text);
    const onclick = () => this.#stage.setView({ size: null });
    const auto = h("button", { "aria-pressed": "false", data: { testid: "size-auto" }, onclick }, VIEW.sizeAuto);
    this.#refresh.push(({ size }) => mark(auto, "aria-pressed", size === null ? "true" : "false"));
    row.querySelector(".set-steps").append(auto);
    return row;
  }

  #anchor() {
    const [min, max, step] = [ANCHOR_LEAST, ANCHOR_MOST, 5];
    const range = h("input", { id: "view-anchor", type: "range", min, max, step, data: { testid: "anchor" } });
    const value = h("output", { class: "set-value", for: "view-anchor" });
    range.addEventListener("input", () => this.#stage.setView({ anchor: Number(range.value) / 100 }));
    this.#refresh.push(({ anchor }) => {
      const percent = Math.round(anchor * 100);
      range.value = String(percent);
      write(value, fill(VIEW.anchorAt, { percent }));
    });
    const label = h("label", { class: "set-label", for: "view-anchor" }, VIEW.anchor);
    return h("div", { class: "set-row" }, label, h("div", { class: "set-range" }, range, value));
  }
}
