// Asks a session in which this page has no place who leads it: a screen needs none.

import { BandSync } from "../bandsync.js";

const PATIENCE_MS = 3000;

/** The name of the leader; "" if nobody leads, or the session does not say. @param {{ sessionId: string, passcode?: string }} session */
export async function leaderOf(session) {
  const band = new BandSync({ storage: null });
  try {
    const told = new Promise((done) => {
      band.addEventListener("snapshot", done, { once: true });
      setTimeout(done, PATIENCE_MS);
    });
    await band.join({ ...session, view: "screen" });
    await told;
    return band.leader?.displayName ?? "";
  } catch {
    return "";
  } finally {
    band.leave();
  }
}
