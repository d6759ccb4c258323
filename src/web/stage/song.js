// The song on the stage: draws it, lays it out, follows the music, and lets the reader look elsewhere.
//
// Three layouts: a flow that scrolls, pages of two columns, and half pages that are replaced in turn. `Scroll` moves the
// flow and the pages, `Rule` draws the progress under the words. A frame in which nothing changes costs two comparisons.

import { chartWriter, keyName, keysFor, writtenKey } from "../chart/chord.js";
import { SONG, fill } from "../texts.js";
import { h, mark, write } from "./dom.js";
import { feltHere } from "./model.js";
import { drawSong, tempoOf } from "./render.js";
import { Rule } from "./rule.js";
import { Scroll } from "./scroll.js";
import { keyNotation, ownView } from "./own-view.js";

const PAD_START = 20;
const PAD_END = 16;
/** Specified: time without a touch after which a detached song returns while the music plays. */
const RETURN_MS = 10_000;
const DOUBLE_TAP_MS = 400;
const TAP_PX = 12;
const DOUBLE_TAP_PX = 40;
const SIZE_LEAST = 16;
const SIZE_MOST = 64;
/** Two columns: least width of the page (specified), and least size that is chosen to make a song fit. */
const TWO_FROM_PX = 1000;
const TWO_LEAST_PX = 24;
const REDRAWS = ["shift", "capo", "instrument", "notation", "show", "perSong", "minorAsRelative", "chorus"];

/**
 * Shows the song in `root`. Provides `page` (1 or -1: a screen less two lines), `now` (back to the music), and
 * `cover-song` (pixels at the end of the room that something lies over).
 */
export function mountSong(stage, root) {
  return new SongRoom(stage, root);
}

class SongRoom {
  #stage;
  #root;
  #frame = h("div", { class: "song-frame", role: "region", tabindex: "0" });
  #clip = h("div", { class: "song-clip" });
  #shift = h("div", { class: "song-shift" });
  #sheet = h("div", { class: "song-sheet" });
  #pill = h("button", { class: "back-to-now", data: { testid: "back-to-now" }, hidden: true, onclick: () => this.#back() });
  #count = h("output", { class: "count-in", "aria-hidden": "true", hidden: true });
  #scroll;
  #rule;
  /** What is drawn: `{ id, chart, map, isLooked }`. */
  #shown = null;
  #drawing = null;
  #cover = null;
  /** Tops of lines in the flow, and the offset that each wants. */
  #tops = [];
  #bottoms = [];
  #targets = [];
  /** Pixels at the end of the room that a dock lies over. */
  #covered = 0;
  #height = 0;
  #width = 0;
  /** `flow`, `columns` or `halves`. */
  #layoutIs = "flow";
  /** Index of each line's half page, and the elements of half pages. */
  #halfOf = [];
  #halves = [];
  #current = -1;
  /** Beat at which the next chord of the current line sounds. */
  #nextMark = Infinity;
  #lastBeat = -Infinity;
  #touchedAt = -Infinity;
  #fingers = 0;
  #pinch = null;
  #tap = null;
  #down = null;
  #heldTop = 0;
  #instrument = "";

  constructor(stage, root) {
    this.#stage = stage;
    this.#root = root;
    root.classList.add("song-room");
    this.#shift.append(this.#sheet);
    this.#clip.append(this.#shift);
    this.#frame.append(this.#clip);
    root.replaceChildren(this.#frame, this.#pill);
    this.#sheet.style.setProperty("--pad-start", `${PAD_START}px`);
    this.#sheet.style.setProperty("--pad-end", `${PAD_END}px`);
    this.#rule = new Rule(stage, this.#sheet);
    const elements = { frame: this.#frame, shift: this.#shift, sheet: this.#sheet };
    this.#scroll = new Scroll(stage, elements, () => this.#attachment());

    stage.addEventListener("song", () => this.#show());
    stage.addEventListener("look", () => this.#show());
    stage.addEventListener("setlist", () => stage.looked && this.#show());
    stage.addEventListener("view", ({ detail }) => this.#viewed(detail ?? {}));
    stage.addEventListener("members", () => this.#members());
    stage.addEventListener("timeline", () => this.#turn());
    stage.addEventListener("frame", ({ detail }) => this.#draw(detail));
    stage.addEventListener("open", () => this.#show());
    stage.addEventListener("close", () => this.#show());
    stage.provide("page", (direction) => this.#page(direction));
    stage.provide("now", () => this.#back());
    stage.provide("cover-song", (px) => this.#coverEnd(px));
    new ResizeObserver(() => this.#resized()).observe(this.#frame);
    this.#listen();
    this.#show();
  }

  // What is shown.

  #show() {
    const { looked } = this.#stage;
    const other = looked ? this.#stage.chartOf(looked) : null;
    const song = this.#stage.song;
    const isLooked = Boolean(other);
    const next = isLooked ? { id: looked, ...other } : song?.chart ? { id: song.id, chart: song.chart, map: song.map } : null;
    const isSameSong = next !== null && next.id === this.#shown?.id;
    const kept = isSameSong ? this.#kept() : null;
    this.#shown = next && { ...next, isLooked };
    if (!isSameSong && this.#scroll.isDetached) this.#scroll.attach();
    this.#redraw(kept);
    this.#attachment();
  }

  #redraw(kept = this.#kept()) {
    // Before the new song is in the page: to ask later would lay it out once more, in a size that it does not keep.
    const size = this.#frameSize();
    this.#rule.go(null);
    this.#current = -1;
    if (!this.#shown) {
      this.#drawing = null;
      this.#scroll.place(null);
      this.#sheet.replaceChildren();
      return;
    }
    const { id, chart, map } = this.#shown;
    const view = ownView(this.#stage.view, id);
    this.#instrument = this.#stage.me?.instrument ?? "";
    const writer = chartWriter(chart, view);
    const notation = keyNotation(view);
    const keyWriter = notation === view.notation ? writer : chartWriter(chart, { ...view, notation });
    const { plays } = keysFor(chart, view);
    const written = writtenKey(chart);
    const tabKey = plays && plays.tonic !== written.tonic ? keyName(written, 0, notation) : "";
    const isShort = view.chorus === "heading";
    this.#drawing = drawSong({ chart, map, writer, keyWriter, show: view.show, instrument: this.#instrument, isShort, tabKey });
    this.#cover = this.#drawCover(chart, map, view);
    this.#sheet.replaceChildren(this.#cover, ...this.#drawing.blocks, ...this.#over());
    mark(this.#frame, "aria-label", chart.title || SONG.song);
    mark(this.#root, "data-song", id);
    this.#layout(kept, size);
  }

  #drawCover(chart, map, view) {
    const { sounds, plays, capo } = keysFor(chart, view);
    const facts = [
      plays && sounds.text && keyName(plays, 0, keyNotation(view)) + (plays.guessed ? "?" : ""),
      map.tempoGuessed ? SONG.tempoUnknown : tempoOf(map, 0),
      map.meter[0] && `${map.meter[0].num}/${map.meter[0].den}`,
      capo > 0 && fill(SONG.capo, { capo }),
    ].filter(Boolean);
    return h(
      "header",
      { class: "cover" },
      h("h2", { dir: "auto" }, chart.title),
      (chart.artist || chart.subtitle) && h("p", { class: "by", dir: "auto" }, chart.artist || chart.subtitle),
      facts.length > 0 && h("p", { class: "facts" }, ...facts.map((fact) => h("span", {}, fact))),
    );
  }

  #members() {
    const instrument = this.#stage.me?.instrument ?? "";
    if (instrument !== this.#instrument && this.#shown) this.#redraw();
  }

  #viewed(changes) {
    if (!this.#shown) return;
    if (Object.keys(changes).length === 0 || REDRAWS.some((name) => name in changes)) this.#redraw();
    else if (["size", "columns", "wrap", "anchor", "scroll"].some((name) => name in changes)) this.#layout(this.#kept());
  }

  #resized() {
    const size = this.#frameSize();
    if (size[0] !== this.#width || size[1] !== this.#height) this.#layout(this.#kept(), size);
  }

  // Layout.

  /** The line at the anchor and its distance from the top of the frame, to find the place again. */
  #kept() {
    if (!this.#drawing || this.#tops.length === 0) return null;
    const { top } = this.#scroll;
    const anchor = top + Math.round(this.#stage.view.anchor * this.#height);
    const line = Math.max(0, this.#tops.findLastIndex((y) => y <= anchor + 1));
    return { line, y: this.#tops[line] - top };
  }

  #frameSize() {
    return [this.#frame.clientWidth, this.#frame.clientHeight];
  }

  #layout(kept, [width, height] = this.#frameSize()) {
    const drawing = this.#drawing;
    this.#width = width;
    this.#height = height;
    if (!drawing || width === 0 || height === 0) return;
    const { view } = this.#stage;
    this.#flatten();
    this.#root.classList.toggle("fit-width", !view.wrap);
    this.#scroll.mode = view.scroll;
    const two = this.#inTwo(width, height);
    if (!two) this.#inOne(width, height);
    this.#rule.go(null);
    const line = this.#current;
    this.#current = -1;
    if (line >= 0) this.#go(line);
    const stays = kept && this.#tops[kept.line] !== undefined ? this.#tops[kept.line] - kept.y : 0;
    this.#scroll.place(this.#aims(), Math.max(0, stays));
    this.#draw(this.#stage.now());
  }

  /** What the scroller needs: a line that stands under a dock is moved up until that no longer covers it. */
  #aims() {
    const height = this.#height;
    const isUnder = (i) => this.#bottoms[i] - this.#targets[i] > height - this.#covered;
    const targets = this.#targets.map((y, i) => (this.#covered > 0 && isUnder(i) ? y + this.#covered : y));
    return { targets, height, map: this.#shown.isLooked ? null : this.#shown.map };
  }

  #coverEnd(px) {
    if (px === this.#covered) return;
    this.#covered = px;
    if (this.#drawing && this.#height > 0) this.#scroll.place(this.#aims(), undefined, { eased: true });
  }

  /** Puts all blocks back into the sheet, in order. */
  #flatten() {
    const { blocks } = this.#drawing;
    if (this.#layoutIs !== "flow") this.#sheet.replaceChildren(this.#cover, ...blocks, ...this.#over());
    this.#sheet.classList.remove("columns", "halves", "covered");
    for (const name of ["width", "height"]) this.#sheet.style.removeProperty(name);
    this.#above(0, 0);
    this.#layoutIs = "flow";
    this.#halves = [];
  }

  /** What lies over the song. */
  #over() {
    return [this.#count, ...this.#rule.bars];
  }

  #above(above, below) {
    this.#sheet.style.padding = `${above}px 0 ${below}px`;
    this.#cover.style.height = `${above}px`;
  }

  #size(size, width) {
    const px = { "font-size": size, "--row": size * 1.24, "--raise": size * 1.02, "--top": size * 0.16, "--foot": size * 0.3 };
    px["--small"] = Math.max(15, size * 0.64);
    px["--small-row"] = px["--small"] * 1.3;
    for (const [name, value] of Object.entries(px)) this.#sheet.style.setProperty(name, `${Math.round(value)}px`);
    this.#root.dataset.size = size;
    this.#drawing.fit(size, width - PAD_START - PAD_END);
    this.#sheet.style.setProperty("--room", `${this.#drawing.room}px`);
  }

  /** The size of the text for rows of a width: the reader's, or the largest that fits. */
  #sizeFor(width) {
    const { size, wrap } = this.#stage.view;
    const room = width - PAD_START - PAD_END - 2;
    if (!wrap) return this.#drawing.sizeFor(room, { share: 1, least: 12, most: size ?? 40 });
    if (typeof size === "number") return Math.min(SIZE_MOST, Math.max(SIZE_LEAST, size));
    return this.#drawing.sizeFor(room);
  }

  #inOne(width, height) {
    const { view } = this.#stage;
    this.#size(this.#sizeFor(width), width);
    this.#drawing.tuck();
    this.#measure();
    const anchor = Math.round(view.anchor * height);
    if (this.#sheetHeight() <= height) {
      this.#targets = this.#tops.map(() => 0);
      return;
    }
    if (view.scroll === "page" && !this.#scroll.isDetached && this.#inHalves(height)) return;
    const first = this.#tops[0] ?? 0;
    const above = Math.max(0, Math.floor(anchor - first));
    const tail = this.#sheetHeight() - (this.#tops.at(-1) ?? 0);
    const below = Math.max(0, Math.ceil(height - anchor - tail));
    this.#above(above, below);
    this.#sheet.classList.toggle("covered", above >= 56);
    this.#tops = this.#tops.map((y) => y + above);
    this.#bottoms = this.#bottoms.map((y) => y + above);
    this.#targets = this.#tops.map((y) => Math.max(0, y - anchor));
  }

  #sheetHeight() {
    return this.#sheet.offsetHeight;
  }

  #measure() {
    const { top } = this.#sheet.getBoundingClientRect();
    const boxes = this.#drawing.lines.map((line) => line?.el.getBoundingClientRect() ?? { top, bottom: top });
    this.#tops = boxes.map((box) => box.top - top);
    this.#bottoms = boxes.map((box) => box.bottom - top);
  }

  /** Sections with the heights of their blocks. A heading stays with the block after it. */
  #groups() {
    const groups = [];
    const { blocks } = this.#drawing;
    const tops = blocks.map((el) => el.getBoundingClientRect().top);
    const end = this.#sheet.getBoundingClientRect().bottom;
    for (const [i, el] of blocks.entries()) {
      const item = { els: [el], height: (tops[i + 1] ?? end) - tops[i] };
      const isHeading = el.tagName === "H3";
      const group = groups.at(-1);
      const last = group?.at(-1);
      if (isHeading || !group) groups.push([item]);
      else if (last.els.at(-1).tagName === "H3") {
        last.els.push(el);
        last.height += item.height;
      } else group.push(item);
    }
    return groups;
  }

  /** Sets the song in two columns, if that is wanted or fits the screen. Returns whether it did. */
  #inTwo(width, height) {
    const { columns, size, wrap } = this.#stage.view;
    if (columns === 1 || (columns === "auto" && width < TWO_FROM_PX)) return false;
    if (columns === "auto") {
      const one = this.#sizeFor(width);
      this.#size(one, width);
      const tall = this.#sheetHeight();
      // It fits in one, or can't fit in two: rows only break more often there.
      if (tall <= height || (tall * Math.min(one, TWO_LEAST_PX)) / one > 2 * height) return false;
    }
    const column = Math.floor(width / 2);
    this.#sheet.style.setProperty("width", `${column}px`);
    const most = this.#sizeFor(column);
    const least = columns === 2 || (typeof size === "number" && wrap) ? most : Math.min(most, TWO_LEAST_PX);
    let found = null;
    for (let px = most; px >= least - 0.01; px = px > least ? Math.max(least, Math.floor(px * 0.92)) : 0) {
      this.#size(px, column);
      this.#drawing.tuck();
      found = fillColumns(this.#groups(), height);
      if (found.length <= 2 || columns === 2) break;
      found = null;
    }
    this.#sheet.style.removeProperty("width");
    if (!found) return false;
    const pages = [];
    for (let i = 0; i < found.length; i += 2) {
      const page = h("div", { class: "page" }, ...[found[i], found[i + 1] ?? []].map((els) => h("div", { class: "column" }, ...els)));
      page.style.setProperty("height", `${height}px`);
      pages.push(page);
    }
    this.#sheet.replaceChildren(...pages, ...this.#over());
    this.#sheet.classList.add("columns");
    this.#layoutIs = "columns";
    this.#measure();
    this.#targets = this.#drawing.lines.map(({ el }) => pages.indexOf(el.closest(".page")) * height);
    return true;
  }

  /** Half pages: the upper one is replaced while the last line of the lower one sounds. */
  #inHalves(height) {
    const half = Math.floor(height / 2);
    const halves = fillHalves(this.#groups().flat(), half);
    if (!halves) return false;
    this.#halves = halves.map((els, i) => {
      const el = h("div", { class: i % 2 ? "half lower" : "half upper" }, ...els);
      el.style.setProperty("height", `${half}px`);
      el.style.setProperty("top", `${i % 2 ? half : 0}px`);
      return el;
    });
    this.#sheet.style.setProperty("height", `${height}px`);
    this.#sheet.replaceChildren(...this.#halves, ...this.#over());
    this.#sheet.classList.add("halves");
    this.#layoutIs = "halves";
    this.#halfOf = this.#drawing.lines.map(({ el }) => this.#halves.indexOf(el.closest(".half")));
    this.#measure();
    this.#targets = this.#tops.map(() => 0);
    this.#turnHalves(Math.max(0, this.#stage.now()?.line ?? 0));
    return true;
  }

  #turnHalves(line) {
    if (this.#layoutIs !== "halves") return;
    const at = this.#halfOf[line] ?? 0;
    const isLast = this.#halfOf[line + 1] !== at;
    const shown = at % 2 === 0 ? [at, at + 1] : [isLast && at + 1 < this.#halves.length ? at + 1 : at - 1, at];
    for (const [i, half] of this.#halves.entries()) half.classList.toggle("shown", shown.includes(i));
  }

  // In time.

  #turn() {
    this.#scroll.turn();
    this.#rule.renew();
    this.#nextMark = -Infinity;
  }

  #draw(now) {
    if (!this.#drawing || !now || this.#shown.isLooked) {
      if (this.#shown?.isLooked && this.#current >= 0) this.#go(-1);
      this.#returnInTime(now);
      return;
    }
    this.#scroll.follow();
    if (now.line !== this.#current) this.#go(now.line);
    const { songBeat } = now;
    if (songBeat >= this.#nextMark || songBeat < this.#lastBeat) this.#sound(songBeat);
    this.#lastBeat = songBeat;
    this.#countIn(now);
    this.#returnInTime(now);
  }

  /** Makes another line the current one; -1 for none. */
  #go(index) {
    const { lines } = this.#drawing;
    const old = lines[this.#current];
    const line = lines[index];
    if (old) {
      for (const { el } of old.marks) el.classList.remove("sounding");
      old.el.removeAttribute("aria-current");
    }
    this.#turnHalves(index);
    // Reads the layout before it changes anything.
    this.#rule.go(line ?? null);
    line?.el.setAttribute("aria-current", "true");
    for (const [i, each] of lines.entries()) {
      const isPast = i < index;
      if (each && each.isPast !== isPast) {
        each.isPast = isPast;
        each.el.classList.toggle("past", isPast);
      }
    }
    this.#current = index;
    this.#nextMark = -Infinity;
  }

  /** Marks the chord that sounds. */
  #sound(songBeat) {
    const marks = this.#drawing.lines[this.#current]?.marks ?? [];
    const isOn = songBeat >= 0 && songBeat < this.#shown.map.beats;
    const begun = isOn ? marks.filter(({ beat }) => beat <= songBeat + 1e-6).length : 0;
    this.#nextMark = songBeat < 0 ? 0 : (marks[begun]?.beat ?? Infinity);
    for (const [i, { el }] of marks.entries()) el.classList.toggle("sounding", i === begun - 1);
  }

  #countIn({ beat, playing, line }) {
    const isOn = playing && beat.countIn;
    if (this.#count.hidden === isOn) {
      this.#count.hidden = !isOn;
      const el = this.#drawing.lines[Math.max(0, line)]?.el;
      if (isOn && el) {
        const box = el.getBoundingClientRect();
        const sheet = this.#sheet.getBoundingClientRect();
        this.#count.style.transform = `translateY(${box.top - sheet.top}px)`;
      }
    }
    if (!isOn) return;
    const felt = feltHere(this.#stage, { beat });
    write(this.#count, String(Math.floor((beat.num - beat.beat) / felt) + 1));
  }

  // Looking elsewhere.

  #attachment() {
    const isAway = this.#scroll.isDetached || Boolean(this.#shown?.isLooked);
    if (this.#scroll.isDetached && this.#layoutIs === "halves") this.#layout(this.#kept());
    else if (!isAway && this.#stage.view.scroll === "page" && this.#drawing && this.#layoutIs === "flow") this.#layout(null);
    this.#pill.hidden = !isAway;
    if (isAway) {
      this.#touchedAt = performance.now();
      this.#nameBack(this.#stage.now());
    }
  }

  #nameBack(now) {
    write(this.#pill, now ? fill(SONG.backToBar, { bar: Math.max(1, now.beat.bar) }) : SONG.back);
  }

  #returnInTime(now) {
    if (this.#pill.hidden) return;
    this.#nameBack(now);
    const { returns } = this.#stage.view;
    if (!returns || !now?.playing || this.#fingers > 0) return;
    if (performance.now() - this.#touchedAt >= RETURN_MS) this.#back();
  }

  #back() {
    if (this.#stage.looked) this.#stage.look(null);
    this.#scroll.attach();
    if (document.activeElement === this.#pill) this.#frame.focus({ preventScroll: true });
  }

  #page(direction) {
    const line = this.#drawing?.lines[Math.max(0, this.#current)]?.el.offsetHeight ?? 0;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#touched();
    this.#scroll.detach();
    const top = direction * Math.max(this.#height / 3, this.#height - 2 * line);
    this.#frame.scrollBy({ top, behavior: calm ? "auto" : "smooth" });
    return true;
  }

  #touched() {
    this.#touchedAt = performance.now();
  }

  // Hands.

  #listen() {
    const frame = this.#frame;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("touchstart", (event) => this.#touchStart(event), { passive: false });
    frame.addEventListener("touchmove", (event) => this.#touchMove(event), { passive: false });
    for (const type of ["touchend", "touchcancel"]) frame.addEventListener(type, (event) => this.#touchEnd(event));
    frame.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    frame.addEventListener("contextmenu", (event) => event.preventDefault());
    frame.addEventListener("pointerdown", (event) => {
      this.#down = event.isPrimary && event.button === 0 ? { x: event.clientX, y: event.clientY, at: event.timeStamp } : null;
    });
    frame.addEventListener("pointerup", (event) => this.#tapped(event));
    frame.addEventListener("pointercancel", () => {
      this.#down = null;
    });
  }

  #wheel(event) {
    if (event.ctrlKey) return;
    this.#touched();
    if (this.#scroll.isNative) return;
    const lines = event.deltaMode === 1 ? 40 : event.deltaMode === 2 ? this.#height : 1;
    event.preventDefault();
    this.#scroll.detach(event.deltaY * lines);
  }

  #touchStart(event) {
    this.#fingers = event.touches.length;
    this.#touched();
    if (this.#fingers === 1) {
      this.#scroll.hold();
      this.#heldTop = this.#frame.scrollTop;
    } else if (this.#fingers === 2) {
      event.preventDefault();
      this.#tap = this.#down = null;
      const size = Number(this.#root.dataset.size) || 24;
      this.#pinch = { apart: distance(event.touches), size, shown: size };
    }
  }

  #touchMove(event) {
    this.#touched();
    if (this.#pinch && event.touches.length === 2) {
      event.preventDefault();
      const { apart, size, shown } = this.#pinch;
      const wanted = Math.round(Math.min(SIZE_MOST, Math.max(SIZE_LEAST, (size * distance(event.touches)) / apart)));
      if (wanted === shown) return;
      this.#pinch.shown = wanted;
      this.#stage.setView({ size: wanted });
      return;
    }
    const { y } = this.#down ?? {};
    const isAway = y !== undefined && Math.abs(event.touches[0].clientY - y) > 2 * TAP_PX;
    if (isAway && this.#layoutIs === "halves") this.#scroll.detach();
  }

  #touchEnd(event) {
    this.#fingers = event.touches.length;
    this.#touched();
    if (this.#fingers < 2) this.#pinch = null;
    if (this.#fingers === 0) this.#scroll.release();
  }

  /** The browser has scrolled: a finger that drags, or a key, or a search in the page. */
  #scrolled() {
    const { scrollTop } = this.#frame;
    if (this.#scroll.isDetached) this.#touched();
    else if (this.#scroll.isNative) {
      if (Math.abs(scrollTop - this.#heldTop) > 2) this.#scroll.detach();
    } else if (scrollTop > 0) {
      this.#frame.scrollTop = 0;
      this.#touched();
      this.#scroll.detach(scrollTop);
    }
  }

  /** The second tap on a line jumps to it, for the leader. */
  #tapped(event) {
    const down = this.#down;
    this.#down = null;
    const { clientX: x, clientY: y, timeStamp: at } = event;
    if (!down || at - down.at > DOUBLE_TAP_MS || Math.hypot(x - down.x, y - down.y) > TAP_PX) return;
    const el = event.target.closest?.(".line");
    const first = this.#tap;
    this.#tap = { x, y, at, el };
    if (!el || first?.el !== el || at - first.at > DOUBLE_TAP_MS || Math.hypot(x - first.x, y - first.y) > DOUBLE_TAP_PX) return;
    this.#tap = null;
    if (this.#stage.isLeader && !this.#shown.isLooked) this.#jump(Number(el.dataset.from));
  }

  #jump(beat) {
    const { band } = this.#stage;
    this.#scroll.attach();
    this.#stage.command(band.seekBeat(beat, band.isPlaying ? { at: "bar" } : {}));
  }
}

const distance = ([a, b]) => Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));

/** Spreads sections over columns of a height. A section is split only if it is higher than a column. */
function fillColumns(groups, height) {
  const columns = [[]];
  let free = height;
  const next = () => {
    columns.push([]);
    free = height;
  };
  for (const group of groups) {
    const whole = group.reduce((sum, item) => sum + item.height, 0);
    if (whole > free && columns.at(-1).length > 0 && (whole <= height || free < height / 3)) next();
    for (const item of group) {
      if (item.height > free && columns.at(-1).length > 0) next();
      columns.at(-1).push(...item.els);
      free -= item.height;
    }
  }
  return columns;
}

/** Spreads blocks over half pages; null if a block is higher than one. */
function fillHalves(items, height) {
  const halves = [[]];
  let free = height;
  for (const { els, height: tall } of items) {
    if (tall > height) return null;
    if (tall > free) {
      halves.push([]);
      free = height;
    }
    halves.at(-1).push(...els);
    free -= tall;
  }
  return halves;
}
