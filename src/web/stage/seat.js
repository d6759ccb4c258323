// Whether this browser was on the stage when it ended: after a crash it goes back there without a touch, like a tab
// that is reloaded. A second tab must not: it joins as another member, so it shows the door.

import { recall, remember } from "./keep.js";

/** Age up to which a seat is worth returning to: the server keeps seats of absent members as long. */
const KEPT_MS = 12 * 3600 * 1000;
/** Time for which other tabs may answer. Guessed. */
const ANSWER_MS = 150;

/**
 * @param {() => string | null} sessionHere the session that this tab shows; null while it shows the door
 */
export function keepSeat(sessionHere) {
  const channel = globalThis.BroadcastChannel ? new globalThis.BroadcastChannel("bandsync.stage") : null;
  let heard = null;
  channel?.addEventListener("message", ({ data }) => {
    if (data?.asks !== undefined && data.asks === sessionHere()) channel.postMessage({ here: data.asks });
    else if (data?.here !== undefined && data.here === heard?.session) heard.answer(true);
  });

  const isOpenElsewhere = (session) =>
    new Promise((resolve) => {
      const timer = setTimeout(() => heard.answer(false), ANSWER_MS);
      heard = {
        session,
        answer: (isOpen) => {
          clearTimeout(timer);
          heard = null;
          resolve(isOpen);
        },
      };
      channel.postMessage({ asks: session });
    });

  return {
    /** Keeps how this browser joined: `{ sessionId, name, instrument }`. */
    take: (joined) => remember("seat", { ...joined, at: Date.now() }),

    /** Forgets it, because the member has left. */
    leave: () => remember("seat", null),

    /** How this browser joined `session` if it was there when it ended, and no other tab is; else null. */
    async lost(session) {
      const kept = recall("seat");
      if (!channel || kept?.sessionId !== session || !(Date.now() - kept.at < KEPT_MS)) return null;
      return (await isOpenElsewhere(session)) ? null : kept;
    },
  };
}
