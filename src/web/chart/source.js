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
  if (inner.startsWith("+")) return { name: "+config", selector: "", value: inner };
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

const FORMATTING = /^(?:chord|chorus|footer|grid|header|label|tab|text|title|toc)(?:font|size|colou?r)$/;

const KNOWN = new Set([
  "title", "sorttitle", "subtitle", "artist", "sortartist", "composer", "lyricist", "arranger", "copyright", "album", "year",
  "key", "tempo", "time", "capo", "duration", "meta", "ccli", "tag", "flow", "transpose", "new_song", "chorus",
  "comment", "comment_italic", "comment_box", "highlight", "titles", "columns", "column_break", "new_page",
  "new_physical_page", "pagetype", "image", "define", "chord", "diagrams", "no_diagrams", "+config", "grid", "no_grid",
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
const QUALITY =
  "(?:[Mm]aj|[Mm]in|mi|ma|dim|aug|sus|add|omit|no|dom|alt|[mM0-9#b♯♭Δ∆△°ºøØ+\\-−^(),*’']|o(?=[\\d/]))*";
const CHORD = new RegExp(`^${ROOT}${QUALITY}(?:/[0-9]+)?(?:/${ROOT})?$`);

/** Whether a text is a chord that only German has: on H, or on a note such as Fis or Es. */
export const isGermanChord = (text) => /^\(?(?:H|[CDFGA]is|[CDG]es|[EA]s(?!us))/.test(text) && isChord(text);

/** Whether a text is a rest: `N.C.`, also written `NC` or `n.c.`. */
export const isNoChord = (text) => /^n\.?\s?c\.?$/i.test(text);

/** Whether a text is a chord beyond doubt, or a rest. Parentheses around it are allowed. */
export function isChord(text) {
  if (text.length > 24) return false;
  const bare = text.startsWith("(") && text.endsWith(")") ? text.slice(1, -1) : text;
  return CHORD.test(bare) || isNoChord(bare);
}

/** Words that name a section only with a colon or in brackets, because a line of lyrics may consist of them. */
const SHY_HEADS = "tag|coda|turnaround|breakdown|break|hook|vamp|link|riff|ad[- ]?lib";
const HEADS =
  "verse|vers|strophe|chorus|refrain|bridge|pre[- ]?chorus|post[- ]?chorus|intro|outro|ending|interlude|instrumental|solo";
const COUNT = "(?:\\s*\\d{1,2}[a-d]?)?(?:\\s*,?\\s*\\(?(?:[x×]\\s?\\d{1,2}|\\d{1,2}\\s?[x×])\\)?)?";
const HEAD = new RegExp(`^\\s*(?:([[(])\\s*)?((${HEADS}|${SHY_HEADS})${COUNT})\\s*(?:([\\])])\\s*)?(:?)(?:\\s+|$)`, "i");
const HEAD_ALONE = new RegExp(`^(?:${HEADS})$`, "i");
const HEAD_KINDS = { vers: "verse", strophe: "verse", refrain: "chorus" };

/**
 * Reads the head of a section as songbooks write it: `Verse 1:`, `[Chorus x2]`, `Bridge`, or `Intro: G C` with chords.
 *
 * @returns {{ kind: string, label: string, rest: string, isMarked: boolean } | null}
 */
export function readHead(text) {
  const found = HEAD.exec(text.slice(0, 80));
  if (!found) return null;
  const [all, open = "", label, word, close = "", colon] = found;
  const isMarked = colon !== "" || (open !== "" && close !== "");
  if (!isMarked && (open !== close || !HEAD_ALONE.test(word))) return null;
  const rest = text.slice(all.length).trim();
  if (rest !== "" && !readChordLine(rest)) return null;
  const name = word.toLowerCase().replace(/[- ]/, "_").replace(/^(pre|post)chorus$/, "$1_chorus");
  return { kind: HEAD_KINDS[name] ?? name, label, rest, isMarked };
}

/**
 * Reads a line of chords over words: at least three quarters of its words are chords.
 *
 * @returns {{ text: string, column: number, kind: "chord" | "bar" | "sign" | "word" }[] | null} null if it is no such line
 */
export function readChordLine(text) {
  const tokens = [];
  let chords = 0;
  let words = 0;
  for (const { 0: all, index } of text.matchAll(/:?\|[|:]*|[^\s|]+/g)) {
    const token = all.replace(/[,;]+$/, "");
    let kind = "word";
    if (/^:?\|/.test(token)) kind = "bar";
    else if (isChord(token) && token !== "As") kind = "chord";
    else if (!/[\p{L}\p{N}]/u.test(token) || /^\(?(?:[x×]\d{1,2}|\d{1,2}[x×])\)?$/i.test(token)) kind = "sign";
    if (kind === "chord") chords += 1;
    if (kind === "word") words += 1;
    if (token !== "") tokens.push({ text: token, column: index, kind });
  }
  return chords > 0 && chords >= 3 * words ? tokens : null;
}

const HEADER = new RegExp(
  "^\\s*(title|subtitle|artist|author|by|composer|lyricist|key|original ?key|transposed ?key|capo|tempo|bpm|time|" +
    "time ?sig(?:nature)?|duration|flow|copyright|ccli|number|book|topics?|keywords|tags|notes|album|year|footer|pitch|scripture)\\s*:\\s*(\\S.*)$",
  "i",
);

/** Reads a line such as `Key: G` at the top of an OnSong file. */
export function readHeader(text) {
  const found = text.length <= 500 ? HEADER.exec(text) : null;
  return found && { name: found[1].toLowerCase().replace(/ /g, ""), value: found[2].trim() };
}

/** Whether a line is tablature: a string's name, a bar line, and dashes. */
export const isTabLine = (text) =>
  /^\s*[A-Ga-gH]?[#b]?\s?\|?[|:]?[-–]/.test(text) && text.includes("|") && /--|––/.test(text);
