// Small helpers for elements.

/**
 * Makes an element. `props` are attributes; `on…` are listeners, `data` and `class` as expected, and properties whose
 * value is false, null or undefined are left out.
 * @param {string} tag @param {object} [props] @param {...(Node | string | null | false)} children
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") el.addEventListener(name.slice(2), value);
    else if (name === "class") el.className = value;
    else if (name === "data") Object.assign(el.dataset, value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
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
