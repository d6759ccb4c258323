// How long a cue takes from the press to the screen, without the time that a test takes to press and to look.

/**
 * Runs in a page. From now on `window.cueSeen` has two times of the clock that all pages of a computer share, in
 * milliseconds: `pressed`, of the last click, and `drawn`, at the end of the frame that shows the next cue.
 */
export function watchCue() {
  const seen = { pressed: null, drawn: null };
  window.cueSeen = seen;
  const time = () => performance.timeOrigin + performance.now();
  addEventListener("click", ({ timeStamp }) => {
    seen.pressed = performance.timeOrigin + timeStamp;
  }, { capture: true });
  const cue = document.querySelector("[data-testid=cue]");
  new MutationObserver((_, observer) => {
    if (cue.hidden) return;
    observer.disconnect();
    // A task after the frame's callbacks: style, layout and paint of the frame are done.
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        seen.drawn = time();
      };
      port2.postMessage(null);
    });
  }).observe(cue, { attributes: true, attributeFilter: ["hidden"] });
}
