// Texts for screen readers: one polite line, which never repeats the beat.

let line = null;

/** Tells where polite texts go. */
export function speakIn(el) {
  line = el;
}

/** Says a text once. */
export function remark(text) {
  if (!line) return;
  line.textContent = "";
  // Two texts that are equal are both said if the line was empty between them.
  requestAnimationFrame(() => {
    line.textContent = text;
  });
}
