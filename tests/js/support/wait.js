// Every wait of these tests has a limit and says what it waited for.

/** How much slower than usual everything is, such as under a leak checker. */
export const SLOWER = Number(process.env.PATIENCE ?? 1);

/** How long an answer may take before the test gives up: generous, as a loaded machine is no failure. */
export const PATIENCE_MS = 10_000 * SLOWER;

/** The outcome of `promise`, or an error that says `what` did not happen in time. */
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
