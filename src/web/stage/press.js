// Buttons that must not act by chance: hold for half a second, or press twice within two seconds.

import { STAGE } from "../texts.js";
import { remark } from "./say.js";

/** The ring that fills while the button is held. */
function ring() {
  const NS = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NS, "svg");
  const circle = document.createElementNS(NS, "circle");
  for (const [name, value] of Object.entries({ viewBox: "0 0 40 40", class: "ring", "aria-hidden": "true" })) svg.setAttribute(name, value);
  for (const [name, value] of Object.entries({ cx: 20, cy: 20, r: 18, pathLength: 1 })) circle.setAttribute(name, value);
  svg.append(circle);
  return svg;
}

/** Specified. */
export const HOLD_MS = 500;
export const AGAIN_MS = 2000;

/**
 * Runs `run` when a button is pressed, but while `isGuarded()` only after it was held for 0.5 s (a ring fills) or
 * pressed a second time within 2 s. A keyboard presses twice.
 * @param {HTMLElement} button @param {{ run: function, isGuarded: () => boolean, hint?: string }} options
 */
export function guard(button, { run, isGuarded, hint = STAGE.pressAgain }) {
  button.append(ring());
  let holding = null;
  let ran = false;
  let firstAt = -Infinity;
  let forget = null;
  const end = () => {
    clearTimeout(holding);
    holding = null;
    button.classList.remove("holding");
  };
  const disarm = () => {
    clearTimeout(forget);
    firstAt = -Infinity;
    button.classList.remove("asks");
  };
  const act = () => {
    end();
    disarm();
    run();
  };
  button.addEventListener("pointerdown", (event) => {
    ran = false;
    if (event.button !== 0 || !isGuarded()) return;
    button.classList.add("holding");
    holding = setTimeout(() => {
      ran = true;
      act();
    }, HOLD_MS);
  });
  for (const type of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(type, end);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    if (ran) {
      ran = false;
      return;
    }
    const now = performance.now();
    if (!isGuarded() || now - firstAt < AGAIN_MS) return void act();
    firstAt = now;
    button.classList.add("asks");
    remark(hint);
    clearTimeout(forget);
    forget = setTimeout(disarm, AGAIN_MS);
  });
}
