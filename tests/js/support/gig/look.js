// Looks in a page for texts that are cut off, and for parts that scroll sideways.

/**
 * Runs in a page; it takes nothing from outside. Returns `{ plain, clipped, sideways }`: visible texts without `mark`,
 * elements whose text is not shown as a whole, and elements wider than their place. With null as the mark there is none:
 * all texts are looked at, and `plain` is empty.
 */
export function look(mark) {
  const isSeen = (el) => el.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const isCutAway = (el) => getComputedStyle(el).clipPath === "inset(50%)" || (el.parentElement !== null && isCutAway(el.parentElement));
  const inert = (el) => el.closest("[inert], .unseen, .too-old, noscript") !== null || isCutAway(el);
  const plain = new Set();
  const clipped = [];
  // Words of songs, and names that people gave.
  const ofBand = ".song-sheet, .two-lines, .preview-song, bdi, textarea, datalist, kbd, time, script, style, [data-testid=song-title], [data-testid=key]";
  // These end with an ellipsis if a name in them is long.
  const named = "[dir=auto], :has(> bdi), .next, .next-song, .armed, .screen-then, .sheet-head h2, .song-name";
  if (mark !== null) {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const el = node.parentElement;
      const text = node.textContent.trim();
      if (text === "" || el.closest(ofBand) || !isSeen(el) || inert(el)) continue;
      if (/\p{L}{2}/u.test(text) && !text.includes(mark) && el.tagName !== "OPTION") plain.add(text);
    }
    for (const el of document.querySelectorAll("[aria-label], [title], [placeholder]")) {
      if (!isSeen(el) || inert(el)) continue;
      for (const name of ["aria-label", "title", "placeholder"]) {
        const text = el.getAttribute(name) ?? "";
        if (/\p{L}{2}/u.test(text) && !text.includes(mark) && !el.closest(ofBand)) plain.add(text);
      }
    }
  }
  /** Whether it is in a row that scrolls sideways on purpose; a sheet must not. */
  const rows = (el) => {
    for (let up = el.parentElement; up && !up.matches(".sheet-body, body"); up = up.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(up).overflowX) && up.scrollWidth > up.clientWidth) return true;
    }
    return false;
  };
  /** The ancestor that hides a part of an element, and offers no way to scroll there; null if none does. */
  const hidesPart = (el, box) => {
    for (let up = el.parentElement; up && up !== document.body; up = up.parentElement) {
      const style = getComputedStyle(up);
      const outer = up.getBoundingClientRect();
      if (/auto|scroll/.test(style.overflowY)) return null;
      if (/hidden|clip/.test(style.overflowY) && (box.top < outer.top - 1 || box.bottom > outer.bottom + 1)) return up;
      if (style.position === "fixed") return box.top < -1 || box.bottom > innerHeight + 1 ? up : null;
    }
    return null;
  };
  const nameOf = (el) => `${el.tagName}.${el.className} ${el.dataset.testid ?? ""}: ${el.textContent.slice(0, 60)}`;
  // A control whose text is wider than itself shows only a part of it. Names may be cut by an ellipsis.
  for (const el of document.querySelectorAll("button, label, summary, legend, h1, h2, h3, p, dt, dd, span, small, b")) {
    if (!isSeen(el) || inert(el) || el.closest(ofBand)) continue;
    if (mark === null ? el.textContent.trim() === "" || el.matches(named) : !el.textContent.includes(mark)) continue;
    const style = getComputedStyle(el);
    const cuts = (axis) => style[`overflow${axis}`] === "hidden" || style[`overflow${axis}`] === "clip";
    const wide = el.scrollWidth > el.clientWidth + 1 && cuts("X");
    const high = el.scrollHeight > el.clientHeight + 1 && cuts("Y");
    if ((wide || high) && style.display !== "inline") clipped.push(nameOf(el));
    const box = el.getBoundingClientRect();
    if (box.width > 0 && (box.left < -1 || box.right > innerWidth + 1) && !rows(el)) clipped.push(`outside: ${nameOf(el)}`);
    if (box.height > 0 && hidesPart(el, box)) clipped.push(`hidden by ${hidesPart(el, box).className}: ${nameOf(el)}`);
  }
  // The song itself: nothing of it is beyond the edges, nor runs into the rail.
  const room = document.getElementById("song").getBoundingClientRect();
  for (const el of document.querySelectorAll("#song :is(.part, .chord, .heading, .words-line)")) {
    const box = el.getBoundingClientRect();
    if (box.width > 0 && (box.left < room.left - 1 || box.right > room.right + 1)) clipped.push(`of the song: ${nameOf(el)}`);
  }
  // The sections, of which the one that sounds is always shown, and tabs, which lose their meaning in two rows.
  const onPurpose = ".rail-list, .tab";
  const sideways = [];
  for (const el of document.querySelectorAll("*")) {
    if (el.scrollWidth <= el.clientWidth + 1 || el.matches(onPurpose) || !isSeen(el)) continue;
    if (el === document.documentElement || /auto|scroll/.test(getComputedStyle(el).overflowX)) sideways.push(`${nameOf(el)} by ${el.scrollWidth - el.clientWidth} px`);
  }
  return { plain: [...plain], clipped, sideways };
}
