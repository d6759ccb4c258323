// Reorders the rows of a list by dragging a grip. A finger holds the grip first, so that scrolling past it moves nothing.

import { dropIndex } from "./edits.js";

/** Time for which a finger holds a grip before it drags. Guessed. */
const HOLD_MS = 250;
/** Distance that a finger may move meanwhile, and that a mouse must move, in CSS pixels. Guessed. */
const SLACK_PX = 6;
/** Height of the edges at which the list scrolls during a drag, and the speed there in pixels per frame. */
const EDGE_PX = 56;
const SCROLL_PX = 12;

export class Reordering {
  #list;
  #options;
  #drag = null;

  /**
   * @param {Element} list its children have `data-song`, and a grip with the class `song-grip`
   * @param {{ mayMove: () => boolean, onBegin: () => void, onDrop: (songId: string, index: number) => void }} options
   *   `onBegin` may change the rows; `index` counts without the row
   */
  constructor(list, options) {
    this.#list = list;
    this.#options = options;
    list.addEventListener("pointerdown", (event) => this.#press(event));
    list.addEventListener("pointermove", (event) => this.#move(event));
    list.addEventListener("pointerup", () => this.#end(true));
    list.addEventListener("pointercancel", () => this.#end(false));
    list.addEventListener("contextmenu", (event) => event.target.closest(".song-grip") && event.preventDefault());
    document.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Escape" || !this.#drag?.rows) return;
        event.stopPropagation();
        event.preventDefault();
        this.#end(false);
      },
      true,
    );
  }

  #press(event) {
    const grip = event.target.closest(".song-grip");
    if (!grip || event.button !== 0 || this.#drag || !this.#options.mayMove()) return;
    const row = grip.closest("[data-song]");
    this.#drag = {
      row,
      pointer: event.pointerId,
      grip,
      x: event.clientX,
      y: event.clientY,
      at: event.clientY,
      isTouch: event.pointerType === "touch",
    };
    if (this.#drag.isTouch) this.#drag.hold = setTimeout(() => this.#begin(), HOLD_MS);
  }

  #move(event) {
    const drag = this.#drag;
    if (drag?.pointer !== event.pointerId) return;
    drag.at = event.clientY;
    if (drag.rows) return void this.#place();
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) <= SLACK_PX) return undefined;
    return void (drag.isTouch ? this.#end(false) : this.#begin());
  }

  #begin() {
    const drag = this.#drag;
    drag.grip.setPointerCapture?.(drag.pointer);
    const { top } = drag.row.getBoundingClientRect();
    this.#options.onBegin();
    drag.y += drag.row.getBoundingClientRect().top - top;
    drag.scroller = scrollerOf(this.#list);
    drag.scrolled = drag.scroller.scrollTop;
    drag.items = [...this.#list.children];
    drag.from = drag.items.indexOf(drag.row);
    drag.rows = drag.items.map((el) => ({ top: el.offsetTop, height: el.offsetHeight }));
    drag.index = drag.from;
    this.#list.classList.add("reordering");
    drag.row.classList.add("dragged");
    navigator.vibrate?.(10);
    this.#place();
    this.#scroll();
  }

  /** Draws the dragged row under the finger, and the others around its place. */
  #place() {
    const { row, rows, from, items, y, at, scroller, scrolled } = this.#drag;
    const by = at - y + scroller.scrollTop - scrolled;
    row.style.setProperty("--by", `${by}px`);
    const { top, height } = rows[from];
    const index = dropIndex(rows, from, top + by + height / 2);
    if (index === this.#drag.index) return;
    this.#drag.index = index;
    items.forEach((el, i) => {
      if (i === from) return;
      const place = i > from ? i - 1 : i;
      const shift = (i > from ? -height : 0) + (place >= index ? height : 0);
      el.style.setProperty("--by", `${shift}px`);
    });
  }

  /** Scrolls while the finger is at an edge. */
  #scroll() {
    const drag = this.#drag;
    if (!drag?.rows) return;
    requestAnimationFrame(() => this.#scroll());
    const { top, bottom } = drag.scroller.getBoundingClientRect();
    const before = drag.scroller.scrollTop;
    if (drag.at < top + EDGE_PX) drag.scroller.scrollTop -= SCROLL_PX;
    else if (drag.at > bottom - EDGE_PX) drag.scroller.scrollTop += SCROLL_PX;
    if (drag.scroller.scrollTop !== before) this.#place();
  }

  #end(isDropped) {
    const drag = this.#drag;
    this.#drag = null;
    clearTimeout(drag?.hold);
    if (!drag?.rows) return;
    this.#list.classList.remove("reordering");
    drag.row.classList.remove("dragged");
    for (const el of drag.items) el.style.removeProperty("--by");
    if (isDropped && drag.index !== drag.from) this.#options.onDrop(drag.row.dataset.song, drag.index);
  }
}

/** The element that scrolls the list. */
function scrollerOf(el) {
  for (let one = el; one; one = one.parentElement) {
    if (one.scrollHeight > one.clientHeight && /auto|scroll/.test(getComputedStyle(one).overflowY)) return one;
  }
  return document.scrollingElement;
}
