// Draws a chart: headings, lines with chords over their letters, cells of bars, tabs and comments, in playing order.
//
// A chord stands in a box without width right before its letter, raised by one row, so the text keeps one baseline and a
// line without chords has no row for them. How far chords must be moved apart is worked out in em from widths on a
// canvas, before any layout: a space grows, and inside a word a thin rule fills the gap.
//
// All text becomes text nodes. The result is flat: blocks in the order of the page, so that the scroller can put them
// into columns and half pages.

import { isNoChord, keyName, readKey } from "../chart/chord.js";
import { holdsOf } from "../chart/course.js";
import { feltAt } from "../chart/map.js";
import { SOUNDING } from "../chart/model.js";
import { SONG, fill, noteOf } from "../texts.js";
import { directionOf, joins, syllables } from "./bidi.js";
import { h } from "./dom.js";
import { emWidth } from "./measure.js";

/** Smallest distance of two chords, in em of the text. Specified. */
const APART = 0.4;
const CHORD_SCALE = 0.8;
const CHORD_MIN_PX = 14;
const WEIGHTS = { chord: 750, annotation: "italic 500", bar: 500, beat: 500 };
/** Smallest width of a beat in a cell, and of a cell, in em. */
const SLOT = 0.95;
const CELL = 4.4;
/** Wider cells hold for their line only. */
const CELL_MOST = 7.5;
/** Size of a chord in a cell, in em, as in song.css. */
const CELL_CHORD = 0.9;
const TAB_MIN_PX = 11;
const TAB_FONTS = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
/** Words and marks over this width, in em, are looked at when a line is wider than the page. */
const LONG_WORD = 5;
/** A word with a hyphen inside, at which a line must not break. */
const HYPHEN = /\S[-‐–]\S/;
const JOINER = "\u200d";
const TATWEEL = "\u0640";
const SIDE = { ltr: "\u200e", rtl: "\u200f" };

/** Chords are 0.8 of the text, and never smaller than 14 px. */
export const chordScale = (size) => Math.max(CHORD_SCALE, CHORD_MIN_PX / size);

/** Whether a selector such as `keys`, or `keys!` for all others, means this instrument. */
export function isFor(selector, instrument) {
  if (!selector) return true;
  const others = selector.endsWith("!");
  const is = selector.replace(/!$/, "").toLowerCase() === instrument.toLowerCase();
  return others !== is;
}

/**
 * Draws a song.
 *
 * @param {object} options
 * @param {object} options.chart
 * @param {object} options.map
 * @param {(section: number, line: number, place: number) => (text: string) => string} options.writer of `chartWriter`
 * @param {"both" | "chords" | "words"} [options.show]
 * @param {string} [options.instrument] of the member, for comments with a selector
 * @param {boolean} [options.isShort] whether a chorus that comes again is a heading alone
 * @param {function} [options.keyWriter] as `writer`, for names of keys
 * @param {string} [options.tabKey] the key of tabs if chords are shown in another one
 * @returns {Drawing}
 */
export function drawSong({ chart, map, writer, show = "both", instrument = "", isShort = false, keyWriter = writer, tabKey = "" }) {
  const drawing = new Drawing();
  const context = { chart, map, show, instrument, drawing, tabKey };
  const holds = holdsOf(chart);
  const byPass = map.passes.map(() => new Map());
  for (const [index, line] of map.lines.entries()) byPass[line.pass]?.set(line.line, { ...line, index });
  const silent = silentSections(chart, map, instrument);
  const drawSilent = (before) => {
    while (silent.length > 0 && silent[0] < before) {
      const index = silent.shift();
      const { name } = chart.sections[index];
      if (name) drawing.add(heading(name, { of: 1, from: null }));
      const write = (line) => writer(index, line, index);
      const writeKey = (line) => keyWriter(index, line, index);
      drawLines(chart.sections[index], new Map(), { ...context, write, writeKey, key: holds[index].key });
    }
  };
  for (const [i, pass] of map.passes.entries()) {
    drawSilent(pass.place ?? pass.section);
    for (const { text } of map.comments?.filter((comment) => comment.pass === i) ?? []) drawing.add(drawComment(text));
    const section = chart.sections[pass.section];
    const name = pass.name || section.name;
    const write = (line) => writer(pass.section, line, pass.place);
    // Another key has other chords, so that chorus is drawn.
    const isSame = () => section.lines.every((_, line) => write(line) === writer(pass.section, line, pass.section));
    if (isShort && section.kind === "chorus" && pass.pass > 1 && name && isSame()) {
      drawing.add(drawAgain(name, pass, [...byPass[i].values()], drawing));
      continue;
    }
    if (name) drawing.add(heading(name, pass));
    const { key } = holds[pass.place];
    // What changes before a call stands in the section that calls.
    const calling = { ...context, key, from: pass.from, writeKey: () => keyWriter(pass.section, 0, pass.place) };
    if (pass.place !== pass.section) drawLines(chart.sections[pass.place], new Map(), calling);
    drawLines(section, byPass[i], { ...context, write, key, writeKey: (line) => keyWriter(pass.section, line, pass.place) });
  }
  drawSilent(Infinity);
  drawing.add(h("p", { class: "fine" }, SONG.end));
  return drawing;
}

/** Sections that take no time, such as comments before the first verse: they are shown once, where they stand. */
function silentSections(chart, map, instrument) {
  const played = new Set(map.passes.flatMap(({ section, place }) => [section, place]));
  return chart.sections.flatMap(({ lines, calls, only }, index) => {
    const isShown = !played.has(index) && calls < 0 && isFor(only, instrument) && lines.some(({ kind }) => kind !== "change");
    const sounds = lines.some((line) => SOUNDING.includes(line.kind) && !line.only);
    // What `flow` leaves out stays out.
    return isShown && (only || !sounds || map.passes.length === 0) ? [index] : [];
  });
}

/** A drawn song. All widths are in em of the song's text. */
class Drawing {
  /** Blocks in order. */
  blocks = [];
  /** Sounding lines by index in the map: `{ el, index, from, to, pass, marks: [{ beat, el }], cells }`. */
  lines = [];
  /** Natural widths of lines that wrap. */
  widths = [];
  /** Width of the widest chord that a row can hold, in pixels. */
  room = 0;
  #spacers = [];
  #longWords = [];
  #wideMarks = [];
  #tabs = [];
  #cells = [];
  #cellWidth = CELL;
  #wrapped = [];

  add(el) {
    this.blocks.push(el);
    return el;
  }

  addWords(row) {
    this.#spacers.push(row);
    this.widths.push(row.space(CHORD_SCALE));
    this.#longWords.push(...row.longWords);
    this.#wideMarks.push(...row.wideMarks);
  }

  addTab(el, width) {
    this.#tabs.push({ el, width });
  }

  addCells(el, width) {
    this.#cells.push({ el, width });
    if (width <= CELL_MOST) this.#cellWidth = Math.max(this.#cellWidth, width);
  }

  /** The size at which a share of the lines fits into `width` pixels, between `least` and `most`. */
  sizeFor(width, { share = 0.9, least = 20, most = 40 } = {}) {
    const sorted = [...this.widths].sort((a, b) => a - b);
    const widest = sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
    if (widest === 0) return most;
    return Math.min(most, Math.max(least, Math.floor(width / widest)));
  }

  /** Adapts what depends on the size of the text and the width of a row, in pixels. */
  fit(size, width) {
    const scale = chordScale(size);
    this.room = Math.floor(width - size);
    for (const row of this.#spacers) row.space(scale);
    for (const { box, width: ems } of this.#wideMarks) box.firstChild.classList.toggle("wide", ems * scale * size > this.room);
    for (const word of this.#longWords) {
      const isLong = word.ems * size > this.room;
      if (isLong) word.parts ??= cutAtMarks(word.el);
      word.el.classList.toggle("long", isLong);
      for (const part of word.parts ?? []) part.el.classList.toggle("long", part.ems * size > this.room);
    }
    for (const { el, width: ems } of this.#tabs) {
      const px = Math.min(size * 0.72, Math.max(TAB_MIN_PX, Math.floor((width / ems) * 10) / 10));
      el.style.setProperty("--tab", `${px}px`);
      el.style.setProperty("--tab-row", `${Math.round(px * 1.25)}px`);
    }
    for (const { el, width: own } of this.#cells) {
      const ems = own > CELL_MOST ? own : this.#cellWidth;
      const room = width / (ems * size);
      // A bar that is wider than the page is drawn smaller.
      el.style.setProperty("font-size", room < 1 ? `${Math.max(0.4, room - 0.02).toFixed(2)}em` : "");
      el.style.setProperty("--across", room >= 8 ? 8 : room >= 4 ? 4 : room >= 2 ? 2 : 1);
      el.style.setProperty("--cell", `${ems.toFixed(2)}em`);
    }
  }

  /**
   * Keeps chords inside the page that stand at the end of a row of a wrapped line. Reads the layout once.
   * @returns {boolean} whether something was moved
   */
  tuck() {
    for (const word of this.#wrapped) word.style.removeProperty("padding-inline-end");
    const found = [];
    for (const { el, words, isRtl } of this.#spacers) {
      if (words.length === 0 || el.offsetHeight === 0) continue;
      const box = el.getBoundingClientRect();
      for (const { el: word, last } of words) {
        const chord = last.getBoundingClientRect();
        const over = isRtl ? box.left - chord.left : chord.right - box.right;
        if (over <= 1) continue;
        const end = word.getBoundingClientRect();
        found.push({ word, px: isRtl ? end.left - chord.left : chord.right - end.right });
      }
    }
    this.#wrapped = found.map(({ word }) => word);
    for (const { word, px } of found) word.style.setProperty("padding-inline-end", `${Math.ceil(px)}px`);
    return found.length > 0;
  }
}

function heading(name, { pass, of, from }) {
  const many = of > 1 && h("small", {}, fill(SONG.passOf, { pass, of }));
  return h("h3", { class: "heading", dir: "auto", data: { from } }, h("span", {}, name), many && " ", many);
}

/** A section as one line, which stands for all its lines. */
function drawAgain(name, { pass, of, from, to }, lines, drawing) {
  const ink = h("span", { class: "ink" }, name);
  const timed = { ...lines[0], from, to };
  const el = lineOf(timed, { drawing }, { class: "again", role: "heading", "aria-level": "3" }, ink, " ", h("small", {}, fill(SONG.passOf, { pass, of })));
  drawing.lines[timed.index].ink = ink;
  for (const { index } of lines) drawing.lines[index] = drawing.lines[timed.index];
  return el;
}

function drawLines(section, sounding, context) {
  const { drawing, instrument } = context;
  const { lines } = section;
  let { key } = context;
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i];
    const timed = sounding.get(i);
    if (!isFor(line.only, instrument)) continue;
    if (line.kind === "tab") {
      // All strings of a tab are one block.
      let end = i + (timed?.rows ?? 1);
      while (!timed && lines[end]?.kind === "tab" && !sounding.has(end)) end += 1;
      if (context.tabKey) drawing.add(h("p", { class: "note" }, fill(SONG.tabKey, { key: context.tabKey })));
      drawing.add(drawTab(lines.slice(i, end).map(({ text }) => text), timed, context));
      i = end - 1;
      continue;
    }
    if (line.kind === "change") {
      const next = lines.findIndex((_, at) => at > i && sounding.has(at));
      key = line.change?.key ?? key;
      const note = drawChange(line.change, { ...context, key, write: context.writeKey(i), from: sounding.get(next)?.from ?? context.from });
      if (note) drawing.add(note);
      continue;
    }
    const el = drawLine(line, timed, { ...context, write: context.write(i) });
    if (el) drawing.add(el);
  }
}

const drawComment = (text, style = "") => h("p", { class: `comment ${style}`.trim(), dir: "auto" }, text);

function drawLine(line, timed, context) {
  switch (line.kind) {
    case "words":
      return context.show === "chords" ? drawCells(line, timed, context) : drawWords(line, timed, context);
    case "chords":
    case "grid":
      return context.show === "words" ? drawRest(timed, context) : drawCells(line, timed, context);
    case "comment":
      return drawComment(line.text, line.style);
    case "note":
      return h("p", { class: "note", dir: "auto" }, line.text);
    case "empty":
      return h("div", { class: "empty" });
    default:
      return null;
  }
}

/** A note of a change, at the beat of the line that follows it. */
function drawChange(change, { chart, map, key, write, from }) {
  if (!change) return null;
  const { tempo, time } = change;
  const isOtherKey = key && (change.key !== undefined || change.transpose !== undefined);
  const text = isOtherKey ? fill(SONG.keyFrom, { key: keyText(key, chart, write) }) : tempo ? tempoOf(map, from, tempo) : time && `${time.num}/${time.den}`;
  return text ? h("p", { class: "note change" }, text) : null;
}

/** A key as written, or in the view's key and notation. */
function keyText(key, { notation }, write) {
  const name = keyName(readKey(key, notation), 0, notation) || key;
  const shown = write(name);
  return shown === name ? key : shown;
}

/** The tempo at a beat as musicians count it; without a beat, as the chart has it. */
export function tempoOf(map, from, written) {
  if (from === undefined) return fill(SONG.tempo, { note: noteOf(1, 4), tempo: written });
  const felt = feltAt(map, from);
  const bpm = map.tempos.findLast(({ beat }) => beat <= from).bpm / felt;
  const { den } = map.meter.findLast(({ beat }) => beat <= from) ?? { den: 4 };
  return fill(SONG.tempo, { note: noteOf(felt, den), tempo: Math.round(10 * bpm) / 10 });
}

/** Makes the element of a line, and lists it if it sounds. */
function lineOf(timed, { drawing }, props, ...children) {
  if (!timed) return h("p", { dir: "auto", ...props }, ...children);
  const { from, to, index, pass } = timed;
  const data = { testid: "line", from, to };
  const el = h("p", { dir: "auto", ...props, class: `line ${props.class}`, data }, ...children);
  drawing.lines[index] = { el, index, from, to, pass, marks: [], ink: el };
  return el;
}

// Words with chords.

function drawWords(line, timed, context) {
  const { drawing, show, write } = context;
  const ink = h("span", { class: "ink" });
  // The direction is found by the letters: once, when all are there.
  const el = lineOf(timed, context, { class: "words", dir: false }, ink);
  const row = new Row(ink, el, directionOf(line.parts.map(({ text }) => text).join("")));
  const beats = timed?.chords ?? [];
  let chords = 0;
  for (const part of line.parts) {
    if (part.mark && show !== "words") {
      const { mark, box } = drawMark(part.mark, write);
      row.mark(box, emWidth(mark.textContent, WEIGHTS[part.mark.kind] ?? 500));
      if (part.mark.kind === "chord") {
        if (timed && beats[chords] !== undefined) drawing.lines[timed.index].marks.push({ beat: beats[chords], el: mark });
        chords += 1;
      }
    }
    for (const span of part.spans ?? [{ text: part.text }]) row.text(span);
  }
  row.end();
  el.dir = "auto";
  if (timed) drawing.lines[timed.index].ink = ink;
  el.classList.toggle("with-chords", row.hasMarks);
  drawing.addWords(row);
  return el;
}

function drawMark({ kind, text }, write) {
  let mark;
  if (kind === "chord") {
    const isNone = isNoChord(text);
    mark = h("b", { class: isNone ? "chord none" : "chord", dir: "ltr" }, isNone ? SONG.noChord : write(text));
  } else if (kind === "annotation") {
    mark = h("i", { class: "annotation", dir: "auto" }, text);
  } else {
    mark = h("i", { class: kind === "bar" ? "bar-mark" : "beat-mark", dir: "ltr" }, text);
  }
  return { mark, box: h("span", { class: "at" }, mark) };
}

/**
 * Builds a line of words: a pen that moves from left to right and keeps chords apart. Words without chords are one text
 * node, so that a long song has few nodes.
 */
class Row {
  /** Words with chords, each with the mark that comes last. */
  words = [];
  longWords = [];
  wideMarks = [];
  hasMarks = false;
  #into;
  #direction;
  #pieces = [];
  /** Letters before the pen in this word, the span that keeps the word in one piece, and the text node at the pen. */
  #before = "";
  #word = null;
  #run = null;
  /** Bold and italic parts of this word, which begin it. */
  #styled = [];
  /** Whether a space is right before the pen. */
  #afterSpace = false;
  /** Boxes that wait for the letter after them, which decides their side. */
  #waiting = [];
  #joins = false;

  constructor(into, el, direction) {
    this.el = el;
    this.isRtl = direction === "rtl";
    this.#into = into;
    this.#direction = direction;
  }

  mark(box, width) {
    this.hasMarks = true;
    const space = this.#afterSpace ? this.#takeSpace() : null;
    this.#startWord();
    const piece = { kind: "mark", box, width, space, word: this.#word, gap: null, side: null, ems: "", letters: this.#before !== "" };
    this.#pieces.push(piece);
    this.#waiting.push(piece);
    if (width > LONG_WORD) this.wideMarks.push(piece);
    this.#word.append(box);
    this.#run = null;
    const entry = this.words.find(({ el }) => el === this.#word);
    if (entry) entry.last = box.firstChild;
    else this.words.push({ el: this.#word, last: box.firstChild });
  }

  text({ text, bold = false, italic = false }) {
    for (const [piece] of text.matchAll(/\s+|\S+/g)) {
      if (/\s/.test(piece)) this.#space();
      else for (const [i, part] of syllables(piece).entries()) this.#letters(part, { bold, italic }, i > 0);
    }
  }

  end() {
    this.#turn("");
    this.#endWord();
  }

  /** Sets the gaps for chords of a size, and returns the width of the line in em. */
  space(scale) {
    let x = 0;
    let free = 0;
    let width = 0;
    for (const piece of this.#pieces) {
      if (piece.kind === "text") x += piece.width;
      else {
        const gap = Math.max(0, free - x);
        setGap(piece, gap);
        x += gap;
        free = x + piece.width * scale + APART;
        width = Math.max(width, free - APART);
      }
    }
    const over = Math.max(0, width - x);
    const wanted = over > 0.02 ? `${over.toFixed(2)}em` : "";
    if (this.el.style.getPropertyValue("--over") !== wanted) this.el.style.setProperty("--over", wanted);
    return Math.max(width, x);
  }

  #space() {
    this.#turn("");
    this.#endWord();
    if (this.#pieces.length === 0) return;
    this.#pieces.push({ kind: "text", width: emWidth(" "), text: " ", before: "", weight: 500 });
    this.#write(this.#into, " ");
    this.#afterSpace = true;
  }

  /** Makes an element of the space before the pen, for it may have to grow. */
  #takeSpace() {
    this.#afterSpace = false;
    const span = h("span", { class: "space" }, " ");
    this.#run.data = this.#run.data.slice(0, -1);
    this.#run.after(span);
    if (this.#run.data === "") this.#run.remove();
    this.#run = null;
    return span;
  }

  #letters(text, { bold, italic }, isNewWord) {
    this.#turn(text);
    if (isNewWord) this.#endWord();
    this.#afterSpace = false;
    if (!this.#word && HYPHEN.test(text)) this.#startWord();
    const joined = this.#joins ? JOINER : "";
    this.#joins = false;
    const weight = bold ? 800 : 500;
    const before = joined ? TATWEEL : "";
    this.#pieces.push({ kind: "text", text, weight, before, width: joinedWidth(before, text, "", weight) });
    const parent = this.#word ?? this.#into;
    if (bold || italic) {
      const el = h(bold ? "b" : "i", {}, text);
      parent.append(el);
      if (!this.#word) this.#styled.push(el);
      this.#run = null;
    } else {
      this.#write(parent, joined + text);
      if (!this.#word && this.#styled.length > 0) this.#styled.push(this.#run);
    }
    this.#before += text;
    if (this.#word && emWidth(this.#before) > LONG_WORD) this.#noteLong();
  }

  /** Adds to the text node at the pen. */
  #write(parent, text) {
    if (this.#run) this.#run.data += text;
    else {
      this.#run = document.createTextNode(text);
      parent.append(this.#run);
    }
  }

  /** Decides the side of the waiting boxes by the letter that follows. */
  #turn(text) {
    for (const piece of this.#waiting) {
      const direction = directionOf(text, this.#direction);
      piece.box.setAttribute("dir", direction);
      if (joins(this.#before, text)) {
        piece.box.before(JOINER);
        this.#joins = true;
        // Joined letters are narrower.
        const last = this.#pieces.findLast(({ kind }) => kind === "text");
        last.width = joinedWidth(last.before, last.text, TATWEEL, last.weight);
      }
      if (direction !== this.#direction) {
        piece.side = document.createTextNode(SIDE[direction]);
        piece.box.before(piece.side);
      }
    }
    this.#waiting = [];
  }

  /** Makes the letters before the pen a word in one piece. */
  #startWord() {
    if (this.#word) return;
    this.#word = h("span", { class: "word" });
    if (this.#styled.length > 0) {
      this.#styled[0].before(this.#word);
      this.#word.append(...this.#styled);
      this.#styled = [];
    } else {
      if (this.#before !== "") {
        this.#run.data = this.#run.data.slice(0, -this.#before.length);
        this.#word.append(this.#before);
        if (this.#run.data === "") this.#run.remove();
      }
      this.#into.append(this.#word);
    }
    this.#run = null;
    if (emWidth(this.#before) > LONG_WORD) this.#noteLong();
  }

  #noteLong() {
    const known = this.longWords.find(({ el }) => el === this.#word);
    const ems = emWidth(this.#before) + 1;
    if (known) known.ems = ems;
    else this.longWords.push({ el: this.#word, ems });
  }

  #endWord() {
    if (this.#word || this.#styled.length > 0) this.#run = null;
    this.#word = null;
    this.#styled = [];
    this.#before = "";
  }
}

/** Cuts a word that is wider than the page into parts, so that each chord stays with its letters. */
function cutAtMarks(word) {
  const parts = [];
  for (const node of [...word.childNodes]) {
    if (parts.length === 0 || node.className === "at") {
      const el = h("span", { class: "part" });
      node.before(el);
      if (parts.length > 0) el.before(h("wbr"));
      parts.push({ el, ems: 0 });
    }
    const part = parts.at(-1);
    part.el.append(node);
    if (node.className !== "at") part.ems += emWidth(node.textContent);
  }
  return parts;
}

/** Width of letters in their joined forms. A canvas ignores the joiner, so they are measured with a stroke that joins. */
const joinedWidth = (before, text, after, weight) =>
  emWidth(before + text + after, weight) - emWidth(before, weight) - emWidth(after, weight);

/** A gap before a chord: the space before its word grows, and inside a word a rule fills it. */
function setGap(piece, gap) {
  const ems = gap > 0.02 ? `${gap.toFixed(2)}em` : "";
  if (piece.ems === ems) return;
  piece.ems = ems;
  if (piece.space) {
    piece.space.style.wordSpacing = ems;
    return;
  }
  if (!ems) {
    piece.gap?.remove();
    piece.gap = null;
    return;
  }
  if (!piece.gap) {
    piece.gap = h("span", { class: piece.letters ? "gap rule" : "gap" });
    (piece.side ?? piece.box).before(piece.gap);
  }
  piece.gap.style.setProperty("--ems", ems);
}

// Bars as cells.

/** Bars between two beats of the song: `{ from, to, num, full }`. */
function barsBetween(meter, from, to) {
  const bars = [];
  let at = from;
  while (at < to - 1e-9 && bars.length < 256) {
    const m = Math.max(0, meter.findLastIndex((entry) => entry.beat <= at + 1e-9));
    const { beat, num, den } = meter[m] ?? { beat: 0, num: 4, den: 4 };
    const first = beat + Math.floor((at - beat + 1e-9) / num) * num;
    const next = Math.min(first + num, meter[m + 1]?.beat ?? Infinity, to);
    bars.push({ from: at, to: next, num, den });
    at = next;
  }
  return bars;
}

function drawCells(line, timed, context) {
  const { map, drawing, write } = context;
  if (!timed) return drawUntimedCells(line, write, context);
  const felt = feltAt(map, timed.from);
  const bars = barsBetween(map.meter, timed.from, timed.to);
  const el = lineOf(timed, context, { class: "cells" });
  const entry = drawing.lines[timed.index];
  const marks = marksOf(line, timed.chords, write);
  let widest = 0;
  const symbols = barSymbols(line, bars.length);
  entry.cells = bars.map((bar, i) => {
    const compound = felt === 3 && bar.num % 3 === 0 ? 3 : 1;
    const count = Math.max(1, Math.round((bar.to - bar.from) / compound));
    const cell = h("span", { class: "cell", dir: "ltr" });
    cell.style.setProperty("--beats", count);
    if (symbols[i]) cell.dataset.left = symbols[i];
    if (i === bars.length - 1 && symbols[bars.length]) cell.dataset.right = symbols[bars.length];
    const inside = marks.filter(({ beat }) => beat >= bar.from - 1e-6 && beat < bar.to - 1e-6);
    let covered = 0;
    for (let s = 0; s < count; s += 1) {
      const low = bar.from + s * compound;
      const here = inside.filter(({ beat }) => beat >= low - 1e-6 && beat < low + compound - 1e-6);
      const slot = h("span", { class: "slot" });
      if (here.length > 0) {
        let width = 0;
        for (const { el: mark, beat, kind, width: own } of here) {
          slot.append(mark);
          width += own + 0.3;
          if (kind === "chord") entry.marks.push({ beat, el: mark });
        }
        const later = inside.find(({ beat }) => beat >= low + compound - 1e-6);
        const slots = later ? Math.max(1, Math.floor((later.beat - low) / compound + 1e-6)) : count - s;
        widest = Math.max(widest, (width / slots) * count);
        const slotWidth = (Math.max(CELL, widest) - 0.5) / count;
        covered = low + Math.ceil((width * CELL_CHORD - 0.1) / slotWidth) * compound;
      } else if (low >= covered - 1e-6) {
        slot.append(h("i", { class: "dot", "aria-hidden": "true" }));
      }
      cell.append(slot);
    }
    widest = Math.max(widest, SLOT * count);
    el.append(cell);
    return { from: bar.from, to: bar.to, el: cell };
  });
  const words = context.show === "chords" ? "" : line.parts.map(({ text }) => text).join(" ").trim();
  if (words) el.append(h("span", { class: "aside", dir: "auto" }, words));
  drawing.addCells(el, widest + 0.8);
  return el;
}

/** Marks with their beats. An annotation stands where the next chord does, or with the last one. */
function marksOf(line, beats, write) {
  const marks = [];
  let chords = 0;
  for (const { mark } of line.parts) {
    if (!mark || mark.kind === "bar" || mark.kind === "beat" || mark.text === "%") continue;
    const beat = beats[Math.min(chords, beats.length - 1)];
    if (beat === undefined) continue;
    const { mark: el } = drawMark(mark, write);
    marks.push({ kind: mark.kind, beat, el, width: emWidth(el.textContent, WEIGHTS[mark.kind]) });
    if (mark.kind === "chord") chords += 1;
  }
  return marks;
}

/** Special bar lines of a grid, such as repeats, by the bar before which they stand. */
function barSymbols(line, bars) {
  const found = line.parts.filter(({ mark }) => mark?.kind === "bar").map(({ mark }) => mark.text);
  return found.length === bars + 1 ? found.map((text) => (text === "|" ? "" : text)) : [];
}

function drawUntimedCells(line, write, context) {
  const marks = line.parts.filter(({ mark }) => mark).map(({ mark }) => drawMark(mark, write).mark);
  return lineOf(null, context, { class: "loose" }, ...marks.flatMap((mark) => [mark, " "]));
}

/** A line without words where only words are shown. */
function drawRest(timed, context) {
  if (!timed) return null;
  const bars = barsBetween(context.map.meter, timed.from, timed.to).length;
  const ink = h("span", { class: "ink" }, fill(bars === 1 ? SONG.oneBar : SONG.bars, { bars }));
  const el = lineOf(timed, context, { class: "rest" }, ink);
  context.drawing.lines[timed.index].ink = ink;
  return el;
}

// Tabs.

function drawTab(rows, timed, context) {
  const { drawing } = context;
  const ink = h("span", { class: "ink" }, rows.join("\n"));
  const el = lineOf(timed, context, { class: "tab", dir: "ltr", tabindex: "0" }, ink);
  if (timed) drawing.lines[timed.index].ink = ink;
  drawing.addTab(el, emWidth("0", 500, TAB_FONTS) * Math.max(...rows.map((row) => [...row].length)));
  return el;
}
