// The preview of the editor: the song as the stage draws it, at a smaller size.

import { drawSong } from "./render.js";

/** Size of the preview's text, in CSS pixels. Guessed: readable at arm's length. */
const SIZE = { least: 14, most: 20 };

export class Preview {
  #el;
  #drawing = null;

  /** @param {HTMLElement} el scrolls */
  constructor(el) {
    this.#el = el;
    new ResizeObserver(() => this.fit()).observe(el);
  }

  /** Draws a song and keeps the place. */
  draw(chart, map) {
    const { scrollTop } = this.#el;
    this.#drawing = chart && map ? drawSong({ chart, map, writer: () => (text) => text }) : null;
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

  /** Adapts the drawing to the width. */
  fit() {
    const width = this.#el.clientWidth - 32;
    if (!this.#drawing || width <= 0) return;
    const size = this.#drawing.sizeFor(width, { least: SIZE.least, most: SIZE.most });
    // The measures of css/song.css, as the stage sets them.
    const small = Math.max(13, size * 0.64);
    const px = { size, row: size * 1.24, raise: size * 1.02, top: size * 0.16, foot: size * 0.3, small, "small-row": small * 1.3 };
    for (const [name, value] of Object.entries(px)) this.#el.firstChild.style.setProperty(`--${name}`, `${Math.round(value)}px`);
    this.#drawing.fit(size, width);
  }
}
