// Sheets: panels that slide over an edge of the stage and never push the song. Each open sheet has one history entry,
// so the back gesture closes the topmost one and does not leave the stage.

import { STAGE } from "../texts.js";
import { h, icon } from "./dom.js";

const CROSS = "M6.4 5 12 10.6 17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4L12 13.4 6.4 19 5 17.6 10.6 12 5 6.4z";

/** Open sheets, the topmost one last: `{ element, panel, onClose, opener }`. */
const open = [];
/** Called when the back gesture would leave the stage; null while that is nobody's business. */
let onBack = null;
/** Whether a `history.go` of this module is under way. */
let moves = false;
let listens = false;

/** Whether a sheet is open. */
export const isSheetOpen = () => open.length > 0;

/** The element of the topmost sheet; null if none is open. */
export const topSheet = () => open.at(-1)?.element ?? null;

/**
 * Opens a sheet with `element` inside. If the element is in a sheet already, that one stays.
 * @param {Element} element
 * @param {{ title: string, onClose?: function, wide?: boolean, testid?: string }} options
 * @returns {function} closes the sheet
 */
export function openSheet(element, { title, onClose, wide = false, testid } = {}) {
  const known = open.find((sheet) => sheet.element === element);
  if (known) return () => closeSheet(element);
  const id = `sheet-${open.length + 1}-title`;
  const close = h("button", { class: "icon quiet", "aria-label": STAGE.close, data: { testid: "sheet-close" }, onclick: () => closeSheet(element) }, icon(CROSS));
  const heading = h("h2", { id, tabindex: "-1" }, title);
  const panel = h(
    "section",
    { class: wide ? "sheet wide" : "sheet", role: "dialog", "aria-labelledby": id, data: { testid: testid ?? "sheet" } },
    h("header", { class: "sheet-head" }, heading, close),
    h("div", { class: "sheet-body" }, element),
  );
  open.push({ element, panel, onClose, opener: document.activeElement });
  document.getElementById("sheets").append(panel);
  adjust();
  show();
  heading.focus({ preventScroll: true });
  return () => closeSheet(element);
}

/** Closes a sheet and those above it; by default the topmost one. */
export function closeSheet(element = topSheet()) {
  const place = open.findIndex((sheet) => sheet.element === element);
  if (place < 0) return;
  while (open.length > place) drop();
  adjust();
}

/** Closes all sheets. */
export function closeSheets() {
  if (open.length > 0) closeSheet(open[0].element);
}

/** From now on the back gesture calls `run` where it would leave the page. Null ends that. */
export function keepBack(run) {
  onBack = run;
  adjust();
}

/** Makes the history as deep as the page: one entry for the stage and one for each sheet. */
function adjust() {
  if (!listens) {
    listens = true;
    addEventListener("popstate", popped);
    addEventListener("resize", show);
  }
  if (moves) return;
  const wanted = (onBack ? 1 : 0) + open.length;
  let depth = history.state?.depth ?? 0;
  for (; depth < wanted; depth += 1) history.pushState({ depth: depth + 1 }, "");
  if (depth === wanted) return;
  moves = true;
  history.go(wanted - depth);
}

function popped() {
  if (moves) {
    moves = false;
    return adjust();
  }
  const depth = history.state?.depth ?? 0;
  while (open.length > Math.max(0, depth - (onBack ? 1 : 0))) drop();
  if (onBack && depth === 0) onBack();
  return adjust();
}

function drop() {
  const { panel, element, onClose, opener } = open.pop();
  panel.remove();
  show();
  if (opener?.isConnected) opener.focus({ preventScroll: true });
  onClose?.(element);
}

/** Only the topmost sheet can be used. On small screens it covers the stage, which then can't be used either. */
function show() {
  for (const [i, { panel }] of open.entries()) panel.inert = i < open.length - 1;
  const last = open.at(-1)?.panel;
  const covers = last !== undefined && last.offsetWidth >= innerWidth && last.offsetHeight >= innerHeight;
  document.getElementById("stage").inert = covers;
  document.documentElement.classList.toggle("has-sheet", open.length > 0);
}
