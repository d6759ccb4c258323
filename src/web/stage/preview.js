// The preview of the editor: the song as the stage draws it, at a smaller size.

import { drawSong } from "./render.js";

/** Size of the preview's text, in CSS pixels. Guessed: readable at arm's length. */
const SIZE = { least: 14, most: 20 };

export class Preview {
  #el;
  #drawing = null;
  /** Lines of the text, from 1, of the drawing's lines. */
  #sources = [];

  /** @param {HTMLElement} el scrolls @param {(line: number) => void} onPick a line of the text was pointed at */
  constructor(el, onPick) {
    this.#el = el;
    new ResizeObserver(() => this.fit()).observe(el);
    el.addEventListener("dblclick", ({ target }) => {
      const at = this.#drawing?.lines.findIndex((line) => line?.el.contains(target)) ?? -1;
      if (at >= 0) onPick(this.#sources[at]);
    });
  }

  /** Draws a song and keeps the place. */
  draw(chart, map) {
    const { scrollTop } = this.#el;
    this.#drawing = chart && map ? drawSong({ chart, map, writer: () => (text) => text }) : null;
    this.#sources = this.#drawing
      ? map.lines.map(({ section, line }) => chart.sections[section].lines[line].source)
      : [];
    const page = document.createElement("div");
    page.className = "song-sheet preview-song";
    for (const block of this.#drawing?.blocks ?? []) {
      // Lines of the stage are those with this handle.
      if (block.dataset.testid === "line") block.dataset.testid = "preview-line";
      page.append(block);
    }
    this.#el.replaceChildren(page);
    this.fit();
    this.#el.scrollTop = scrollTop;
  }

  /** Scrolls to the line of the text, or the one before it that sounds. */
  show(source) {
    const before = this.#sources.filter((line) => line <= source);
    const at = before.length > 0 ? this.#sources.indexOf(Math.max(...before)) : -1;
    const el = this.#drawing?.lines[at]?.el;
    if (!el) return;
    const [box, line] = [this.#el.getBoundingClientRect(), el.getBoundingClientRect()];
    if (line.top < box.top) this.#el.scrollTop += line.top - box.top - 40;
    else if (line.bottom > box.bottom) this.#el.scrollTop += line.bottom - box.bottom + 40;
  }

  /** Adapts the drawing to the width. */
  fit() {
    const width = this.#el.clientWidth - 32;
    if (!this.#drawing || width <= 0) return;
    const size = this.#drawing.sizeFor(width, { least: SIZE.least, most: SIZE.most });
    // The measures of css/song.css, as the stage sets them.
    const small = Math.max(13, size * 0.64);
    const px = {
      size,
      row: size * 1.24,
      raise: size * 1.02,
      top: size * 0.16,
      foot: size * 0.3,
      small,
      "small-row": small * 1.3,
    };
    for (const [name, value] of Object.entries(px))
      this.#el.firstChild.style.setProperty(`--${name}`, `${Math.round(value)}px`);
    this.#drawing.fit(size, width);
  }
}
