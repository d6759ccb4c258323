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
    this.#el.firstChild.style.setProperty("font-size", `${size}px`);
    this.#drawing.fit(size, width);
  }
}
