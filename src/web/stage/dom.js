// Small helpers for elements.

/**
 * Makes an element. `props` are attributes; `on…` are listeners, `data` and `class` as expected, and properties whose
 * value is false, null or undefined are left out.
 * @param {string} tag @param {object} [props] @param {...(Node | string | null | false)} children
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const name in props) {
    const value = props[name];
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") el.addEventListener(name.slice(2), value);
    else if (name === "class") el.className = value;
    else if (name === "data") Object.assign(el.dataset, value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  // One by one: a list of several would become a fragment first.
  for (const child of children.flat()) if (child !== null && child !== false && child !== undefined) el.append(child);
  return el;
}

/** Changes a text only if it is another one, so that nothing is laid out again. */
export function write(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** A copy in the place of an element: where the old one would have moved, the new one appears, which shifts no layout. */
export function renewed(el) {
  const copy = el.cloneNode(true);
  el.replaceWith(copy);
  return copy;
}

/** Texts on one spot, of which one is shown. To show another one that is here already is no layout. */
export class Reel {
  #texts = new Map();
  #shown = null;

  constructor(el) {
    this.el = el;
    el.classList.add("reel");
  }

  /** Shows a text. If it is not here, `ahead` returns those that come next. */
  show(text, ahead) {
    if (!this.#texts.has(text)) {
      this.#texts = new Map([text, ...ahead()].map((each) => [each, h("b", {}, each)]));
      // New elements: in the place of the old ones they would have moved.
      this.el.replaceChildren(...this.#texts.values());
    }
    const next = this.#texts.get(text);
    if (next === this.#shown) return;
    this.#shown?.classList.remove("shown");
    next.classList.add("shown");
    this.#shown = next;
  }

  /** Goes on in a new element, for one that has moved. */
  renew() {
    this.el = renewed(this.el);
    this.#texts.clear();
  }
}

/** Sets an attribute only if it changes; null removes it. */
export function mark(el, name, value) {
  if (value === null || value === false) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else if (el.getAttribute(name) !== String(value)) {
    el.setAttribute(name, value);
  }
}

/** An icon of `/icons.svg`-free drawings: paths in a box of 24. */
export function icon(path) {
  const NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(NS, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}
