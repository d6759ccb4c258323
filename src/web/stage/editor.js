// The editor of one song: its text, a live preview, fields that write directives, and saving.
//
// The text is the song. Fields change one line of it and leave all others alone. Every change is kept as a draft in this
// browser, so neither a reload nor a closed sheet loses it. A song that another member changed meanwhile is never
// overwritten by chance: the server refuses, and both versions are shown.

import { readChord } from "../chart/chord.js";
import { parseChart } from "../chart/chordpro.js";
import { detect } from "../chart/decode.js";
import { markAt } from "../chart/filemark.js";
import { shiftOf } from "../chart/shift.js";
import { readSong } from "../chart/unfold.js";
import { insertChord, setDirective, setSectionDirective, wrapSection } from "../chart/write.js";
import { CHART, EDITOR, SONGS, fill } from "../texts.js";
import { h, icon, mark, write } from "./dom.js";
import { recall, remember } from "./keep.js";
import {
  TextHistory,
  bandSong,
  barsByLength,
  barsPerLine,
  changedLines,
  clockText,
  commented,
  durationOfMap,
  offsetOfLine,
  readClock,
  sectionAt,
  settled,
  withBarsPerLine,
} from "./edits.js";
import { CHART_BYTES_MAX, bytesOf, formatName, readText, save, songFile, songOf } from "./files.js";
import { bareSong } from "./library.js";
import { Preview } from "./preview.js";
import { tapLines } from "./taplines.js";

/** Pauses after typing before the preview is drawn and the draft is kept. Guessed. */
const PREVIEW_MS = 120;
const DRAFT_MS = 300;
const UNDO_S = 10;
const CHORDS_SHOWN = 8;
const SHIFT_MAX = 4096;
/** Highest tempo that counts dotted beats in 6/8, 9/8 and 12/8. Specified. */
const DOTTED_MAX = 120;

const UNDO =
  "M12.5 8c-2.65 0-5.05 1-6.9 2.6L2 7v9h9l-3.62-3.62A7.95 7.95 0 0 1 12.5 10.5c3.54 0 6.55 2.31 7.6 5.5l2.37-.78C21.08 11.03 17.15 8 12.5 8z";
const REDO =
  "M18.4 10.6A10.46 10.46 0 0 0 11.5 8c-4.65 0-8.58 3.03-9.96 7.22L3.9 16a8.02 8.02 0 0 1 7.6-5.5c1.95 0 3.73.72 5.12 1.88L13 16h9V7z";

/** Reads a text; a fault in it must not take the editor down. */
function read(text) {
  try {
    return readSong(text);
  } catch (error) {
    console.warn("chart not readable", error);
    return { chart: null, map: null };
  }
}

/** Event `drafts`: a draft was kept or dropped. */
export class Editor extends EventTarget {
  #stage;
  #library;
  #root = null;
  #el = {};
  #history;
  /** The mark of the file that the chart came from, or "". */
  #mark = "";
  /** What is edited: `{ id, song, isNew, was, base, title, source }`, `song` as the band had it when it was opened. */
  #work = null;
  #chart = null;
  #map = null;
  #preview;
  #timers = {};
  /** The other version of a conflict: `{ theirs, name }`. */
  #clash = null;
  #isSaving = false;
  #tapping = null;

  /** @param {import("./model.js").Stage} stage @param {Promise<import("./library.js").Library>} library */
  constructor(stage, library) {
    super();
    this.#stage = stage;
    this.#library = library;
    stage.addEventListener("setlist", () => this.#watch());
    for (const type of ["members", "status", "song"]) stage.addEventListener(type, () => this.#drawSaving());
    // A database may not finish when the page ends, so the last words go where writing is immediate.
    addEventListener("pagehide", () => remember("draft", this.#draft(), "tab"));
    document.addEventListener("visibilitychange", () => document.hidden && this.#keepDraft());
    library.then(async (opened) => {
      const draft = recall("draft", null, "tab");
      remember("draft", null, "tab");
      if (draft) await opened.keepDraft(draft);
      this.#tell();
    });
  }

  /**
   * Opens the editor.
   * @param {{ id: string, song?: object, isNew?: boolean, pasted?: string, taps?: boolean }} options a song of the list,
   *   or a new one; whether its lines are to be tapped
   */
  async open({ id, song = null, isNew = false, pasted = "", taps = false }) {
    const library = await this.#library;
    const draft = await library.draft(id);
    if (song && song.body === undefined) {
      this.#stage.keeper.fetch(id).catch(() => {});
      return void this.#stage.toast(EDITOR.notHere, { plain: true });
    }
    if (this.#work) this.#stage.closeSheet(this.#root);
    const own = (await library.mine()).find((mine) => mine.id === id);
    const band = song && bandSong(song);
    const base = song?.body ?? "";
    const was = draft?.was ?? song?.revision ?? null;
    this.#work = {
      id,
      song: band,
      isNew: isNew || !song,
      was,
      base,
      old: band?.body ?? "",
      hasOwn: own !== undefined,
      title: song?.title ?? draft?.title ?? "",
    };
    this.#clash = null;
    this.#build();
    const text = draft?.body ?? base;
    this.#history = new TextHistory(text);
    this.#put(text);
    const title = isNew || !song ? EDITOR.newSong : fill(EDITOR.editSong, { title: song.title });
    this.#stage.openSheet(this.#root, { title, wide: true, testid: "editor-sheet", onClose: () => this.#closed() });
    this.#note(
      draft ? "draft" : "",
      draft ? EDITOR.draftNote : "",
      draft && [EDITOR.discardDraft, () => this.#discardHere()],
    );
    this.#refresh();
    if (pasted.trim() !== "") this.#paste(pasted);
    this.#watch();
    if (taps) this.#tap();
    else if (this.#work.isNew && !matchMedia("(pointer: coarse)").matches) this.#el.text.focus();
    return undefined;
  }

  /** Whether a song is being edited. */
  get isOpen() {
    return this.#work !== null;
  }

  /** Drops a draft, which can be undone for ten seconds. */
  async discard(id) {
    const library = await this.#library;
    const draft = await library.draft(id);
    await library.dropDraft(id);
    this.#tell();
    const run = async () => {
      await library.keepDraft(draft);
      this.#tell();
    };
    this.#stage.toast(EDITOR.discarded, { plain: true, seconds: UNDO_S, action: { text: SONGS.undo, run } });
  }

  #tell() {
    this.dispatchEvent(new Event("drafts"));
  }

  // The sheet.

  #build() {
    const el = {};
    this.#el = el;
    const button = (text, testid, run, props = {}) =>
      h("button", { type: "button", ...props, data: { testid }, onclick: run }, text);
    const field = (name, label, props, onchange) => {
      el[name] = h("input", {
        ...props,
        "data-testid": `chart-${name}`,
        autocomplete: "off",
        oninput: () => onchange(el[name].value.trim(), name),
      });
      return h("label", { class: `field field-${name}` }, h("span", {}, label), el[name]);
    };
    el.text = h("textarea", {
      class: "chart-text",
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      "aria-label": EDITOR.chart,
      placeholder: EDITOR.placeholder,
      data: { testid: "chart" },
      oninput: (event) => this.#typed(event),
      onkeydown: (event) => this.#key(event),
      onpaste: (event) => this.#pasted(event),
      onkeyup: () => this.#showPlace(),
      onclick: () => this.#showPlace(),
    });
    el.tempoNote = button("", "tempo-felt", () => this.#switchFelt(), { class: "tempo-note" });
    el.bars = h("input", {
      type: "number",
      min: 1,
      max: 64,
      inputmode: "numeric",
      data: { testid: "bars-per-line" },
      oninput: () => this.#setBars(Number(el.bars.value)),
    });
    const bars = h(
      "div",
      { class: "field field-bars", role: "group", "aria-label": EDITOR.barsPerLine },
      h("span", { id: "bars-label" }, EDITOR.barsPerLine),
      h(
        "div",
        { class: "stepper" },
        button("−", "bars-less", () => this.#setBars(this.#bars - 1), { "aria-label": EDITOR.fewerBars }),
        el.bars,
        button("+", "bars-more", () => this.#setBars(this.#bars + 1), { "aria-label": EDITOR.moreBars }),
      ),
    );
    el.bars.setAttribute("aria-labelledby", "bars-label");
    const set = (name) => (value) => this.#direct(name, value);
    el.fields = h(
      "div",
      { class: "editor-fields" },
      field("title", EDITOR.title, { maxlength: 200 }, set("title")),
      field("key", EDITOR.key, { maxlength: 8, autocapitalize: "characters" }, set("key")),
      h(
        "div",
        { class: "field-tempo-box" },
        field("tempo", EDITOR.tempo, { inputmode: "decimal", maxlength: 6 }, (value) => this.#setTempo(value)),
        el.tempoNote,
      ),
      field("time", EDITOR.time, { maxlength: 5, list: "editor-times", placeholder: "4/4" }, (value) =>
        this.#setTime(value),
      ),
      h(
        "datalist",
        { id: "editor-times" },
        ...["4/4", "3/4", "6/8", "12/8", "2/4", "5/4", "7/8", "9/8"].map((value) => h("option", { value })),
      ),
      field("duration", EDITOR.duration, { maxlength: 8, placeholder: "3:40" }, (value) => this.#setDuration(value)),
      bars,
    );
    el.section = h(
      "select",
      {
        "aria-label": EDITOR.section,
        data: { testid: "help-section" },
        onchange: () => {
          const kind = el.section.value;
          el.section.value = "";
          if (kind) this.#help(kind);
        },
      },
      h("option", { value: "" }, EDITOR.section),
      ...["verse", "chorus", "bridge", "grid", "tab"].map((kind) =>
        h("option", { value: kind }, EDITOR.sections[kind]),
      ),
    );
    el.chords = h("span", { class: "chord-chips", role: "group", "aria-label": EDITOR.chords });
    el.undo = button("", "undo", () => this.#undo("undo"), { class: "icon", "aria-label": SONGS.undo });
    el.undo.append(icon(UNDO));
    el.redo = button("", "redo", () => this.#undo("redo"), { class: "icon", "aria-label": EDITOR.redo });
    el.redo.append(icon(REDO));
    el.helpers = h(
      "div",
      { class: "editor-helpers", role: "toolbar", "aria-label": EDITOR.helpers },
      el.undo,
      el.redo,
      el.section,
      button(EDITOR.chord, "help-chord", () => this.#help("chord")),
      el.chords,
      button(EDITOR.bars, "help-bars", () => this.#help("bars")),
      button(EDITOR.comment, "help-comment", () => this.#help("comment")),
      button(EDITOR.tapLines, "tap-lines", () => this.#tap(), { class: "tap-lines" }),
    );
    el.note = h("div", { class: "editor-note", role: "status", hidden: true });
    el.clash = h("section", {
      class: "clash",
      role: "alert",
      "aria-label": EDITOR.conflict,
      data: { testid: "conflict" },
      hidden: true,
    });
    el.preview = h("div", {
      class: "chart-preview",
      tabindex: "0",
      role: "region",
      "aria-label": EDITOR.preview,
      data: { testid: "chart-preview" },
    });
    el.problems = h("ol", {
      class: "chart-problems",
      "aria-label": EDITOR.problems,
      data: { testid: "chart-problems" },
    });
    el.tabs = h(
      "div",
      { class: "editor-tabs", role: "tablist" },
      ...["text", "preview"].map((name) =>
        h(
          "button",
          {
            type: "button",
            role: "tab",
            "aria-selected": String(name === "text"),
            data: { tab: name, testid: `tab-${name}` },
            onclick: () => this.#showPane(name),
          },
          EDITOR.tabs[name],
        ),
      ),
    );
    el.forBand = button(EDITOR.saveForBand, "save-for-band", () => this.#saveForBand(), { class: "primary" });
    el.asMine = button(EDITOR.saveAsMine, "save-as-mine", () => this.#saveAsMine());
    el.back = button(EDITOR.backToBand, "drop-mine", () => this.#dropMine(), { class: "quiet" });
    el.file = button(SONGS.saveSong, "chart-save", () => this.#saveFile(), { class: "quiet" });
    el.why = h("p", { class: "hint editor-why" });
    this.#root = h(
      "div",
      { class: "editor", data: { pane: "text", testid: "editor" } },
      el.fields,
      el.helpers,
      el.note,
      el.clash,
      el.tabs,
      h(
        "div",
        { class: "editor-panes" },
        h("div", { class: "pane pane-text" }, el.text, el.problems),
        h("div", { class: "pane pane-preview" }, el.preview),
      ),
      h("footer", { class: "editor-bar" }, el.forBand, el.asMine, el.back, el.file, el.why),
    );
    this.#preview = new Preview(el.preview, (line) => this.#showLine(line));
  }

  #showPane(name) {
    this.#root.dataset.pane = name;
    for (const tab of this.#el.tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
    if (name === "preview") this.#preview.fit();
  }

  #closed() {
    this.#keepDraft();
    clearTimeout(this.#timers.preview);
    this.#tapping?.();
    this.#work = null;
    this.#clash = null;
  }

  // The text.

  /** The text, with the mark of its file, which is not shown. */
  get #text() {
    const { value } = this.#el.text;
    if (this.#mark === "" || value.trim() === "") return value;
    return `${value}${value.endsWith("\n") ? "" : "\n"}${this.#mark}`;
  }

  /** Shows a text, without a step of undo. */
  #put(text, from, to = from) {
    const at = markAt(text);
    this.#mark = text.slice(at);
    this.#el.text.value = text.slice(0, at);
    if (from !== undefined) this.#el.text.setSelectionRange(from, to);
  }

  /** Changes the text, as one step of undo. */
  #change(text, { kind = "", from, to, focus = false } = {}) {
    const { text: area } = this.#el;
    const { scrollTop, selectionStart } = area;
    if (text === this.#text) return;
    this.#put(text, from ?? Math.min(selectionStart, text.length), to ?? from);
    area.scrollTop = scrollTop;
    if (focus) area.focus();
    this.#history.push(text, area.selectionStart, kind);
    this.#refresh();
  }

  #typed(event) {
    const isLetter = /^(insertText|deleteContentBackward|insertCompositionText)$/.test(event.inputType ?? "");
    this.#history.push(this.#text, this.#el.text.selectionStart, isLetter ? event.inputType : "");
    this.#soon();
  }

  #key(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (isCommand && (key === "z" || key === "y")) {
      event.preventDefault();
      this.#undo(key === "y" || event.shiftKey ? "redo" : "undo");
    } else if (isCommand && key === "s") {
      event.preventDefault();
      this.#saveForBand();
    }
  }

  #undo(which) {
    const { text, caret } = this.#history[which]();
    this.#put(text, Math.min(caret, text.length));
    this.#refresh();
  }

  /** Takes a text that was pasted beside the field, if the chart is empty. Returns whether the editor is open. */
  paste(text) {
    if (!this.#work) return false;
    if (this.#text.trim() === "") this.#paste(text);
    return true;
  }

  /** A paste into an empty text is converted; into a song it is text as it is. */
  #pasted(event) {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (this.#text.trim() !== "" || text.trim() === "") return;
    event.preventDefault();
    this.#paste(text);
  }

  #paste(text, format = detect(text)) {
    const { songs } = readText(text, format);
    const body = songs.map((song) => song.body).join("\n{new_song}\n");
    this.#change(body, { from: 0 });
    this.#work.source = songs.length === 1 ? songs[0].source : undefined;
    if (format === "chordpro") return;
    const others = ["chordpro", "onsong", "over", "words"].filter((other) => other !== format);
    const select = h(
      "select",
      { "aria-label": EDITOR.format, data: { testid: "paste-format" } },
      ...[format, ...others].map((one) => h("option", { value: one }, formatName(one))),
    );
    select.addEventListener("change", () => this.#paste(text, select.value));
    this.#note("format", EDITOR.readAs, null, select);
  }

  // What depends on the text.

  #soon() {
    clearTimeout(this.#timers.preview);
    this.#timers.preview = setTimeout(() => this.#refresh(), PREVIEW_MS);
  }

  /** Reads the text again if it was changed a moment ago. */
  #catchUp() {
    if (this.#work && this.#chart?.text !== this.#text) this.#refresh();
  }

  #refresh() {
    clearTimeout(this.#timers.preview);
    const { chart, map } = read(this.#text);
    [this.#chart, this.#map] = [chart, map];
    this.#preview.draw(chart, map);
    this.#drawFields();
    this.#drawProblems();
    this.#drawChords();
    this.#drawSaving();
    this.#el.undo.disabled = !this.#history.mayUndo;
    this.#el.redo.disabled = !this.#history.mayRedo;
    clearTimeout(this.#timers.draft);
    this.#timers.draft = setTimeout(() => this.#keepDraft(), DRAFT_MS);
  }

  get #bars() {
    return barsPerLine(this.#chart, this.#map);
  }

  #drawFields() {
    const { el } = { el: this.#el };
    const show = (name, value) => {
      if (document.activeElement !== el[name]) el[name].value = value;
    };
    const { title = "", key = "", tempo = null, time = null, durationMs = null } = this.#chart ?? {};
    show("title", title);
    el.title.placeholder = this.#work.title;
    show("key", key);
    show("tempo", tempo === null ? "" : String(tempo));
    el.tempo.placeholder = this.#map ? `${Math.round((this.#map.tempos[0]?.bpm ?? 100) / (this.#map.felt ?? 1))}?` : "";
    show("time", time ? `${time.num}/${time.den}` : "");
    show("duration", durationMs === null ? "" : clockText(durationMs));
    el.duration.placeholder = this.#map ? `≈ ${clockText(durationOfMap(this.#map))}` : "3:40";
    show("bars", String(this.#bars));
    const isCompound = isCompoundTime(time);
    el.tempoNote.hidden = !isCompound || tempo === null;
    const isDotted = this.#chart !== null && this.#isDotted;
    write(el.tempoNote, isDotted ? "♩." : "♪");
    mark(el.tempoNote, "aria-label", isDotted ? EDITOR.tempoDotted : EDITOR.tempoEighths);
    mark(el.tempoNote, "title", isDotted ? EDITOR.tempoDotted : EDITOR.tempoEighths);
    this.#root.classList.toggle("guessed", this.#map?.guessed === true);
  }

  #drawProblems() {
    const problems = this.#chart?.problems ?? [];
    const items = problems.map(({ line, code, text }) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            data: { line, code },
            onclick: () => this.#showLine(line),
          },
          fill(CHART.problems?.[code] ?? EDITOR.problem, { n: line, text }),
        ),
      ),
    );
    const isByLength = this.#map !== null && barsByLength(this.#map) !== null;
    if (this.#map?.guessed) items.push(h("li", { class: "hint" }, isByLength ? EDITOR.guessedByLength : EDITOR.guessed));
    const isIdle = this.#chart?.durationMs > 0 && this.#chart.tempo === null && this.#map?.guessed;
    if (isIdle) items.push(h("li", { class: "hint" }, EDITOR.lengthNeedsTempo));
    if (this.#map?.tempoGuessed) items.push(h("li", { class: "hint" }, EDITOR.tempoGuessed));
    this.#el.problems.replaceChildren(...items);
    this.#el.problems.hidden = items.length === 0 || this.#text.trim() === "";
  }

  #drawChords() {
    const counts = new Map();
    const marks = (this.#chart?.sections ?? []).flatMap(({ lines }) =>
      lines.flatMap(({ parts }) => parts.map((part) => part.mark)),
    );
    const isChord = (one) => one?.kind === "chord" && readChord(one.text, this.#chart.notation) !== null;
    for (const one of marks.filter(isChord)) counts.set(one.text, (counts.get(one.text) ?? 0) + 1);
    const chords = [...counts]
      .sort((a, b) => b[1] - a[1])
      .slice(0, CHORDS_SHOWN)
      .map(([text]) => text);
    const key = chords.join(" ");
    if (this.#el.chords.dataset.key === key) return;
    this.#el.chords.dataset.key = key;
    this.#el.chords.replaceChildren(
      ...chords.map((chord) =>
        h("button", { type: "button", class: "chord-chip", onclick: () => this.#help("chord", chord) }, chord),
      ),
    );
  }

  #drawSaving() {
    if (!this.#work) return;
    const { mayEdit, isOnline, band } = this.#stage;
    const { forBand, asMine, back, why } = this.#el;
    const leader = band.leader?.displayName;
    forBand.classList.toggle("unfit", !mayEdit || !isOnline);
    back.hidden = !this.#work.hasOwn;
    const reason = !isOnline
      ? EDITOR.offline
      : mayEdit
        ? ""
        : leader
          ? fill(SONGS.noRight, { leader })
          : SONGS.noRightNoLeader;
    write(why, reason);
    why.hidden = reason === "";
    asMine.classList.toggle("primary", reason !== "");
    forBand.classList.toggle("primary", reason === "");
  }

  /** One note above the text: about a draft, or the format. @param {[string, function] | null} action */
  #note(kind, text, action = null, ...more) {
    const { note } = this.#el;
    note.dataset.kind = kind;
    note.hidden = text === "";
    const run = () => {
      note.hidden = true;
      action[1]();
    };
    note.replaceChildren(
      h("span", {}, text),
      ...more,
      ...(action
        ? [h("button", { type: "button", class: "quiet", onclick: run, data: { testid: "note-action" } }, action[0])]
        : []),
    );
  }

  /** Scrolls the preview to the line of the caret. */
  #showPlace() {
    const { text } = this.#el;
    this.#preview.show(this.#text.slice(0, text.selectionStart).split("\n").length);
  }

  #showLine(line) {
    this.#showPane("text");
    const { text } = this.#el;
    const from = offsetOfLine(this.#text, line);
    const end = this.#text.indexOf("\n", from);
    text.focus();
    text.setSelectionRange(from, end < 0 ? this.#text.length : end);
    const height = parseFloat(getComputedStyle(text).lineHeight) || 22;
    text.scrollTop = Math.max(0, (line - 1) * height - text.clientHeight / 3);
  }

  // Fields and helpers.

  /** Sets a directive, or takes it away if the value is empty. */
  #direct(name, value) {
    this.#change(setDirective(this.#text, name, value === "" ? null : value), { kind: `field ${name}` });
  }

  #setTempo(value) {
    const bpm = Number(value.replace(",", "."));
    const isValid = value === "" || (bpm >= 1 && bpm <= 400);
    mark(this.#el.tempo, "aria-invalid", isValid ? null : "true");
    if (isValid) this.#direct("tempo", value.replace(",", "."));
  }

  #setTime(value) {
    const isValid = value === "" || /^([1-9]|[12]\d|3[0-2])\/(1|2|4|8|16|32)$/.test(value);
    mark(this.#el.time, "aria-invalid", isValid ? null : "true");
    if (isValid) this.#direct("time", value);
  }

  #setDuration(value) {
    const ms = readClock(value);
    const isValid = value === "" || (ms !== null && ms > 0);
    mark(this.#el.duration, "aria-invalid", isValid ? null : "true");
    if (isValid) this.#direct("duration", value === "" ? "" : clockText(ms));
  }

  #setBars(bars) {
    this.#catchUp();
    const isByLength = this.#map !== null && barsByLength(this.#map) !== null;
    const text = withBarsPerLine(this.#text, this.#map, bars);
    if (text === null) return;
    this.#change(text, { kind: "field x_bars_per_line" });
    if (isByLength) this.#note("length", EDITOR.lengthOut, [SONGS.undo, () => this.#undo("undo")]);
    if (document.activeElement !== this.#el.bars) this.#el.bars.value = bars;
  }

  /** Whether the number of the tempo means dotted quarters. Without a directive, a number up to 120 does. */
  get #isDotted() {
    const { tempo, felt } = this.#chart;
    return felt === 3 || (felt !== 1 && (tempo ?? 0) <= DOTTED_MAX);
  }

  /** Changes whether the number of the tempo means dotted quarters or eighths. */
  #switchFelt() {
    this.#catchUp();
    const { tempo } = this.#chart;
    const felt = this.#isDotted ? 1 : 3;
    const isUsual = (felt === 3) === tempo <= DOTTED_MAX;
    this.#change(setDirective(this.#text, "x_felt", isUsual ? null : String(felt)));
  }

  #help(kind, value = "") {
    const { selectionStart: from, selectionEnd: to } = this.#el.text;
    this.#showPane("text");
    const { text, ...selection } = this.#helped(kind, value, from, to);
    this.#change(text, { ...selection, focus: true });
  }

  /** The text after a helper, and the selection. */
  #helped(kind, value, from, to) {
    const text = this.#text;
    if (kind === "comment") return commented(text, from, to);
    if (kind === "bars") return this.#barsHere(text, from);
    if (kind !== "chord") return wrapSection(text, from, to, kind);
    if (value !== "") {
      const { text: changed, at } = insertChord(text, from, value);
      return { text: changed, from: at };
    }
    return { text: `${text.slice(0, from)}[]${text.slice(from)}`, from: from + 1 };
  }

  /** Writes the bars of each line of the section at a place, with the number selected. */
  #barsHere(text, at) {
    const chart = parseChart(text);
    const section = sectionAt(chart, at);
    if (!section) return { text, from: at };
    const bars = section.bars?.join(" ") ?? String(this.#bars);
    const changed = setSectionDirective(text, section, "x_bars", bars);
    const from = changed.indexOf("{x_bars", offsetOfLine(changed, section.source));
    const number = changed.indexOf(bars, from);
    return from < 0 || number < 0
      ? { text: changed, from: at }
      : { text: changed, from: number, to: number + bars.length };
  }

  #tap() {
    this.#catchUp();
    if (!this.#map || this.#map.lines.length === 0) return void this.#stage.toast(EDITOR.noLines, { plain: true });
    this.#tapping = tapLines(this.#stage, {
      songId: this.#work.id,
      chart: this.#chart,
      map: this.#map,
      text: this.#text,
      onDone: (text) => {
        this.#tapping = null;
        if (text !== null) this.#change(text);
      },
    });
    return undefined;
  }

  // Drafts.

  /** The draft of what is edited; null if nothing was changed. */
  #draft() {
    if (!this.#work || this.#isSaving) return null;
    const { id, was, base, isNew, title } = this.#work;
    const body = this.#text;
    const isChanged = body !== base && !(isNew && body.trim() === "");
    return isChanged ? { id, body, was, title: this.#chart?.title || title, isNew } : null;
  }

  async #keepDraft() {
    clearTimeout(this.#timers.draft);
    if (!this.#work || this.#isSaving) return;
    const { id } = this.#work;
    const draft = this.#draft();
    const library = await this.#library;
    if (draft) await library.keepDraft(draft);
    else await library.dropDraft(id);
    this.#tell();
  }

  async #discardHere() {
    this.#change(this.#work.base, { from: 0 });
    await (await this.#library).dropDraft(this.#work.id);
    if (!this.#work.isNew) this.#work.was = this.#stage.songById(this.#work.id)?.revision ?? this.#work.was;
    this.#tell();
  }

  // Saving.

  /** The song of the text, and further songs if the text has several; null if there is nothing to save. */
  #songs() {
    this.#catchUp();
    const { id, title } = this.#work;
    if (this.#text.trim() === "") return null;
    const { songs } = readText(this.#text, "chordpro");
    return songs.map(({ body }, i) =>
      i === 0 ? songOf(id, body, { title }) : { ...songOf(`${id}-${i + 1}`.slice(0, 64), body) },
    );
  }

  async #saveForBand() {
    if (this.#isSaving) return;
    const { mayEdit, isOnline, band } = this.#stage;
    if (!isOnline) return void this.#stage.toast(EDITOR.offline);
    if (!mayEdit) {
      const leader = band.leader?.displayName;
      return void this.#stage.toast(leader ? fill(SONGS.noRight, { leader }) : SONGS.noRightNoLeader, { plain: true });
    }
    const songs = this.#songs();
    if (!songs) return void this.#stage.toast(EDITOR.nothing, { plain: true });
    const [song, ...others] = songs;
    const bytes = bytesOf(song.body);
    if (bytes > CHART_BYTES_MAX)
      return void this.#stage.toast(
        fill(EDITOR.tooLong, { kB: Math.ceil(bytes / 1000), max: Math.floor(CHART_BYTES_MAX / 1000) }),
      );
    const { isNew, was } = this.#work;
    const isListed = this.#stage.songById(song.id) !== null;
    const first =
      isNew && !isListed ? { op: "add", song } : { op: "replace", song, was, ...this.#shift(this.#work.old) };
    return this.#send([first, ...others.map((other) => ({ op: "add", song: bareSong(other) }))], song);
  }

  /** By how many beats the line that sounds moves, from the chart that the band has. */
  #shift(oldText) {
    const { id } = this.#work;
    const { song, band } = this.#stage;
    if (song?.id !== id || !this.#map) return {};
    const old = read(oldText);
    const beat = band.beat();
    if (!old.map || !beat) return {};
    const shift = Math.trunc(shiftOf(old.chart, old.map, this.#chart, this.#map, beat.songBeat));
    return shift !== 0 && Math.abs(shift) <= SHIFT_MAX ? { shift } : {};
  }

  async #send(ops, song) {
    const { id } = this.#work;
    const before = this.#work.isNew ? null : this.#work.song;
    this.#isSaving = true;
    const onError = (error) => {
      if (error.code !== "conflict") return false;
      this.#show({ theirs: error.song ?? null, name: this.#stage.keeper.editorOf(id) || SONGS.somebody });
      return true;
    };
    clearTimeout(this.#timers.draft);
    const isDone = await this.#stage.command(this.#stage.band.editSetlist(ops), { source: this.#el.forBand, onError });
    this.#isSaving = false;
    if (!isDone) return void this.#keepDraft();
    const library = await this.#library;
    await library.dropDraft(id);
    await library.dropMine(id);
    await library.keepSongs([{ ...song, source: this.#work?.source }], { isMade: true });
    this.#stage.keeper.setMine(id, null);
    this.#tell();
    this.#leave();
    this.#said(before, song);
    return undefined;
  }

  /** Says that the song is saved; a replaced one can be brought back. */
  #said(before, song) {
    const undo = async () => {
      const now = this.#stage.songById(song.id);
      if (now)
        await this.#stage.command(this.#stage.band.editSetlist([{ op: "replace", song: before, was: now.revision }]));
    };
    const action = before ? { action: { text: SONGS.undo, run: undo } } : {};
    this.#stage.toast(fill(EDITOR.savedForBand, { title: song.title }), { plain: true, seconds: UNDO_S, ...action });
  }

  /** Closes without a draft. */
  #leave() {
    if (!this.#work) return;
    clearTimeout(this.#timers.draft);
    this.#work.base = this.#text;
    this.#stage.closeSheet(this.#root);
  }

  async #saveAsMine() {
    const songs = this.#songs();
    if (!songs) return void this.#stage.toast(EDITOR.nothing, { plain: true });
    const { id, old } = this.#work;
    const library = await this.#library;
    if (this.#stage.songById(id)) {
      await library.keepMine(id, this.#text, old);
      this.#stage.keeper.setMine(id, this.#text);
    } else {
      await library.keepSongs(songs, { isMade: true });
    }
    await library.dropDraft(id);
    this.#tell();
    this.#leave();
    const text = library.isKept ? EDITOR.savedAsMine : EDITOR.savedNotKept;
    return void this.#stage.toast(fill(text, { title: songs[0].title }), { plain: true });
  }

  async #dropMine() {
    const { id, old } = this.#work;
    const library = await this.#library;
    await library.dropMine(id);
    this.#stage.keeper.setMine(id, null);
    this.#work.hasOwn = false;
    this.#work.base = this.#stage.songById(id)?.body ?? old;
    this.#change(this.#work.base, { from: 0 });
    this.#drawSaving();
  }

  #saveFile() {
    const songs = this.#songs();
    if (!songs) return void this.#stage.toast(EDITOR.nothing, { plain: true });
    return void save(songFile({ title: songs[0].title, body: this.#text }));
  }

  // Two editors.

  /** Another member changed the song that is edited here. */
  #watch() {
    if (!this.#work || this.#work.isNew || this.#isSaving) return;
    const now = this.#stage.songById(this.#work.id);
    if (now?.revision === this.#work.was || (now === null && this.#stage.setlist === null)) return;
    if (now && now.body === undefined) return;
    const theirs = now && bandSong(now);
    // Without own changes there is nothing to decide.
    if (theirs && this.#text === this.#work.base && !this.#work.hasOwn)
      return void this.#takeTheirs({ ...theirs, revision: now.revision }, true);
    if (this.#clash?.theirs?.revision === now?.revision && this.#clash) return undefined;
    return void this.#show({
      theirs: theirs && { ...theirs, revision: now.revision },
      name: this.#stage.keeper.editorOf(this.#work.id) || SONGS.somebody,
    });
  }

  /** Shows a conflict and its three answers. */
  #show(clash) {
    this.#clash = clash;
    const { theirs, name } = clash;
    const answer = (text, testid, run) => h("button", { type: "button", data: { testid }, onclick: run }, text);
    const both = h("div", { class: "clash-both", hidden: true, data: { testid: "both-versions" } });
    const { clash: box } = this.#el;
    box.replaceChildren(
      h("p", {}, fill(theirs ? EDITOR.changedMeanwhile : EDITOR.removedMeanwhile, { name })),
      h(
        "div",
        { class: "clash-answers" },
        answer(EDITOR.keepTheirs, "keep-theirs", () => this.#takeTheirs(theirs)),
        answer(EDITOR.keepMine, "keep-mine", () => this.#takeMine(theirs)),
        theirs &&
          answer(EDITOR.showBoth, "show-both", (event) => {
            both.hidden = !both.hidden;
            event.currentTarget.setAttribute("aria-expanded", String(!both.hidden));
            if (!both.hidden) this.#compare(both, theirs);
          }),
      ),
      both,
    );
    box.hidden = false;
    box.scrollIntoView({ block: "nearest" });
  }

  #compare(both, theirs) {
    const mine = this.#text;
    const [inTheirs, inMine] = changedLines(theirs.body, mine);
    const column = (title, text, changed) =>
      h(
        "div",
        {},
        h("h3", {}, title),
        h(
          "pre",
          { tabindex: "0", dir: "auto" },
          ...text.split("\n").map((line, i) => h(changed.has(i) ? "mark" : "span", {}, line === "" ? " " : line)),
        ),
      );
    both.replaceChildren(
      column(fill(EDITOR.theirVersion, { name: this.#clash.name }), theirs.body, inTheirs),
      column(EDITOR.myVersion, mine, inMine),
    );
    for (const pre of both.querySelectorAll("pre")) {
      const first = pre.querySelector("mark");
      if (first)
        pre.scrollTop += first.getBoundingClientRect().top - pre.getBoundingClientRect().top - pre.clientHeight / 3;
    }
  }

  #settle() {
    this.#clash = null;
    this.#el.clash.hidden = true;
    this.#el.clash.replaceChildren();
  }

  /** Takes the other version. The own one is a step of undo away. */
  #takeTheirs(theirs, isSilent = false) {
    this.#settle();
    if (!theirs) {
      this.#work.isNew = true;
      this.#leave();
      return;
    }
    Object.assign(this.#work, { was: theirs.revision, song: bareSong(theirs), old: theirs.body, base: theirs.body });
    if (isSilent) {
      this.#history = new TextHistory(theirs.body);
      this.#put(theirs.body);
      this.#refresh();
      return;
    }
    this.#change(theirs.body, { from: 0 });
    this.#note("theirs", EDITOR.theirsTaken, [SONGS.undo, () => this.#undo("undo")]);
  }

  /** Puts the own version in place of the other one. */
  #takeMine(theirs) {
    const songs = this.#songs();
    if (!songs) return;
    const { shift } = theirs ? this.#shift(theirs.body) : {};
    const ops = settled("mine", { mine: songs[0], theirs, shift });
    if (theirs) Object.assign(this.#work, { was: theirs.revision, song: bareSong(theirs), old: theirs.body });
    this.#settle();
    if (!this.#stage.mayEdit) return void this.#saveForBand();
    return void this.#send(ops, songs[0]);
  }
}

const isCompoundTime = (time) => time !== null && time.den === 8 && time.num % 3 === 0 && time.num > 3;
