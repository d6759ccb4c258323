// Waits with a limit. If time runs out, the error names the missing event.

/** Factor for all time limits, `PATIENCE`. A leak checker, for example, needs a larger one. */
export const SLOWER = Number(process.env.PATIENCE ?? 1);

/** Time limit for one answer. Guessed: generous, because a loaded machine is not a failure. */
export const PATIENCE_MS = 10_000 * SLOWER;

/** Returns the outcome of `promise`, or throws an error naming `what` after `ms` milliseconds. */
export function within(ms, promise, what) {
  let timer;
  const limit = new Promise((_, fail) => {
    timer = setTimeout(() => {
      fail(new Error(`not within ${ms} ms: ${typeof what === "function" ? what() : what}`));
    }, ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** A promise and the functions that settle it. */
export function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
