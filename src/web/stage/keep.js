// What this browser keeps for the stage page, under keys that begin with `bandsync.`. A private window may refuse to
// keep anything; then everything works until the page is closed.

const stores = { long: "localStorage", tab: "sessionStorage" };

/** Keeps a value, as JSON; null removes it. @param {"long" | "tab"} [where] for this browser, or for this tab only */
export function remember(key, value, where = "long") {
  try {
    if (value === null) globalThis[stores[where]].removeItem(`bandsync.${key}`);
    else globalThis[stores[where]].setItem(`bandsync.${key}`, JSON.stringify(value));
  } catch {
    // Not kept.
  }
}

/** The value that is kept, or `fallback`. */
export function recall(key, fallback = null, where = "long") {
  try {
    return JSON.parse(globalThis[stores[where]].getItem(`bandsync.${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
}
