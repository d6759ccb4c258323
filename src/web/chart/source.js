// Reads the smallest things of a song's text: its lines, its directives, and words that look like chords.
//
// Every function takes time in proportion to the length of its text, whatever is in it.

/**
 * Splits a text into lines that end with LF, CRLF or CR.
 *
 * @returns {{ text: string, end: string, from: number }[]} the line, its line end ("" at the end of the text), and its
 *   place in the text. A final line end begins no further line
 */
export function splitLines(text) {
  const lines = [];
  const ends = /\r\n|\r|\n/g;
  let from = 0;
  for (let found = ends.exec(text); found; found = ends.exec(text)) {
    lines.push({ text: text.slice(from, found.index), end: found[0], from });
    from = ends.lastIndex;
  }
  if (from < text.length) lines.push({ text: text.slice(from), end: "", from });
  return lines;
}

/** The line end that a text uses first; "\n" if it has none. */
export const lineEnd = (text) => /\r\n|\r|\n/.exec(text)?.[0] ?? "\n";

const SHORT = {
  t: "title", st: "subtitle", c: "comment", ci: "comment_italic", cb: "comment_box", ns: "new_song", g: "grid",
  ng: "no_grid", np: "new_page", npp: "new_physical_page", col: "columns", colb: "column_break",
  cf: "chordfont", cs: "chordsize", tf: "textfont", ts: "textsize",
  sov: "start_of_verse", eov: "end_of_verse", soc: "start_of_chorus", eoc: "end_of_chorus",
  sob: "start_of_bridge", eob: "end_of_bridge", sot: "start_of_tab", eot: "end_of_tab",
  sog: "start_of_grid", eog: "end_of_grid",
};

const NAME = /^[\p{L}_][\p{L}\p{M}\p{N}_]*/u;

/**
 * Reads one directive.
 *
 * @param {string} line a whole line
 * @returns {{ name: string, selector: string, value: string } | null} the full name in lower case and the trimmed value;
 *   null if the line is not a directive
 */
export function readDirective(line) {
  const trimmed = line.trim();
  if (trimmed.length < 3 || !trimmed.startsWith("{") || !trimmed.endsWith("}")) return null;
  const inner = trimmed.slice(1, -1).trim();
  const head = NAME.exec(inner)?.[0];
  if (head === undefined) return null;
  let rest = inner.slice(head.length);
  const selector = /^-([^\s:]+)/.exec(rest)?.[1] ?? "";
  if (selector !== "") rest = rest.slice(selector.length + 1);
  if (rest !== "" && !/^[\s:]/.test(rest)) return null;
  const name = head.toLowerCase();
  const value = rest.trimStart().replace(/^:/, "").trim();
  return { name: Object.hasOwn(SHORT, name) ? SHORT[name] : name, selector: selector.toLowerCase(), value };
}

/** Reads the directives of a line: one, or several in a row such as `{t: Sea}{st: Live}`. Null if there is other text. */
export function readDirectives(line) {
  if (line.trimStart()[0] !== "{") return null;
  if (/^\s*\{[^{}]*\}\s*\{/.test(line) && /^\s*(?:\{[^{}]*\}\s*)+$/.test(line)) {
    const all = line.match(/\{[^{}]*\}/g).map(readDirective);
    return all.includes(null) ? null : all;
  }
  const one = readDirective(line);
  return one && [one];
}

/** Whether a line begins the next song of the file. */
export const isNewSong = (line) => line.includes("{") && readDirective(line)?.name === "new_song";

const FORMATTING = /^(?:chord|chorus|footer|grid|label|tab|text|title|toc)(?:font|size|colou?r)$/;

const KNOWN = new Set([
  "title", "sorttitle", "subtitle", "artist", "sortartist", "composer", "lyricist", "arranger", "copyright", "album", "year",
  "key", "tempo", "time", "capo", "duration", "meta", "ccli", "tag", "flow", "transpose", "new_song", "chorus",
  "comment", "comment_italic", "comment_box", "highlight", "titles", "columns", "column_break", "new_page",
  "new_physical_page", "pagetype", "image", "define", "chord", "diagrams", "grid", "no_grid",
]);

/** Whether BandSync knows a directive, be it only to leave it alone. */
export const isKnownDirective = (name) =>
  KNOWN.has(name) || /^(?:x_|start_of_.|end_of_.)/.test(name) || FORMATTING.test(name);

/** The label in a directive's value: after `label=`, else the value itself without other attributes. */
export function readLabel(value) {
  const label = /(?:^|\s)label\s*=\s*(?:"([^"]*)"|'([^']*)')/i.exec(value);
  if (label) return (label[1] ?? label[2]).replaceAll("\\n", " ").trim();
  return value.replace(/(?:^|\s)[a-z]\w*=(?:"[^"]*"|'[^']*')/gi, "").replaceAll("\\n", " ").trim();
}

const ROOT = "(?:[CDFGA]is|[CDGH]es|[EA]s(?!us)|[A-H](?:##|bb|[#b♯♭])?)";
const QUALITY = "(?:maj|min|mi|ma|dim|aug|sus|add|omit|no|alt|[mM0-9#b♯♭Δ°øo+\\-−^(),])*";
const CHORD = new RegExp(`^${ROOT}${QUALITY}(?:/[0-9]+)?(?:/${ROOT})?$`);

/** Whether a text is a rest: `N.C.`, also written `NC` or `n.c.`. */
export const isNoChord = (text) => /^n\.?\s?c\.?$/i.test(text);

/** Whether a text is a chord beyond doubt, or a rest. Parentheses around it are allowed. */
export function isChord(text) {
  if (text.length > 24) return false;
  const bare = text.startsWith("(") && text.endsWith(")") ? text.slice(1, -1) : text;
  return CHORD.test(bare) || isNoChord(bare);
}
