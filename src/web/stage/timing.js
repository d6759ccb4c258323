// How long the lines of the song that is on sound, if its chart does not say: bars per line, the length of the song, and
// *Tap the lines*, in the sheet *More*. It changes the chart for all, so it is offered to members that may edit.

import { readSong } from "../chart/unfold.js";
import { setDirective } from "../chart/write.js";
import { EDITOR } from "../texts.js";
import { editForBand } from "./bandedit.js";
import { h, mark, write } from "./dom.js";
import { barsByLength, barsPerLine, clockText, durationOfMap, readClock, withBarsPerLine } from "./edits.js";
import { feltHere } from "./model.js";

/** Pause after a press before it is sent, so that several presses are one edit. Guessed. */
const WAIT_MS = 400;

/** Provides `timing`, which puts these controls before an element. */
export function mountTiming(stage) {
  const hint = h("p", { class: "hint" });
  const count = h("output", { class: "set-value", data: { testid: "timing-bars" } });
  const step = (name, text, label, by) => h("button", { class: "icon step", "aria-label": label, data: { testid: name }, onclick: () => turn(by) }, text);
  const length = h("input", { id: "timing-length", maxlength: 8, autocomplete: "off", data: { testid: "timing-length" }, onchange: () => setLength() });
  const tap = h("button", { data: { testid: "timing-tap" }, onclick: () => {
    const { id } = stage.song;
    stage.closeSheet();
    stage.call("song-edit", id, { taps: true });
  } }, EDITOR.tapLines);
  const root = h("section", { class: "set-group", data: { testid: "timing" }, hidden: true },
    hint,
    h("div", { class: "set-row", role: "group", "aria-label": EDITOR.barsPerLine },
      h("span", { class: "set-label" }, EDITOR.barsPerLine),
      h("div", { class: "set-steps" }, step("timing-less", "−", EDITOR.fewerBars, -1), count, step("timing-more", "+", EDITOR.moreBars, 1))),
    h("div", { class: "set-row" }, h("label", { class: "set-label", for: "timing-length" }, EDITOR.duration), length),
    tap);
  /** The song and its number of bars that are not sent yet; null for none. */
  let wanted = null;
  let timer = null;

  function show() {
    const { song, mayEdit } = stage;
    const { chart, map } = song ?? {};
    // A version of one's own is changed in the editor.
    const isOffered = mayEdit && Boolean(map?.guessed) && stage.songById(song.id)?.bandBody === undefined;
    root.hidden = !isOffered;
    if (!isOffered) return;
    const isByLength = barsByLength(map) !== null;
    write(hint, isByLength ? EDITOR.guessedByLength : EDITOR.guessed);
    write(count, String(wanted?.id === song.id ? wanted.bars : barsPerLine(chart, map)));
    if (document.activeElement !== length) length.value = isByLength ? clockText(chart.durationMs) : "";
    length.placeholder = `≈ ${clockText(durationOfMap(map))}`;
  }

  function turn(by) {
    const { id, chart, map } = stage.song;
    const bars = (wanted?.id === id ? wanted.bars : barsPerLine(chart, map)) + by;
    if (withBarsPerLine(chart.text, map, bars) === null) return;
    wanted = { id, bars };
    clearTimeout(timer);
    timer = setTimeout(send, WAIT_MS);
    show();
  }

  async function send() {
    const sent = wanted;
    await editForBand(stage, sent.id, (body) => withBarsPerLine(body, readSong(body).map, sent.bars), { movesLines: true });
    if (wanted === sent) wanted = null;
    show();
  }

  async function setLength() {
    const { id, chart } = stage.song;
    const ms = readClock(length.value);
    const isValid = length.value.trim() === "" || ms > 0;
    mark(length, "aria-invalid", isValid ? null : "true");
    if (!isValid) return;
    const here = stage.now();
    // A length counts only with a tempo: without one in the chart it is the band's.
    const tempo = chart.tempo === null && ms > 0 && here ? Math.round(here.beat.tempoBpm / feltHere(stage, here)) : null;
    const change = (body) => {
      const timed = tempo === null ? body : setDirective(body, "tempo", String(tempo));
      return setDirective(timed, "duration", ms > 0 ? clockText(ms) : null);
    };
    await editForBand(stage, id, change, { movesLines: true });
    show();
  }

  for (const type of ["song", "setlist", "members"]) stage.addEventListener(type, show);
  stage.provide("timing", (place) => {
    show();
    place.before(root);
  });
}
