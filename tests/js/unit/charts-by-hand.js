// Charts made by hand, so that the tests of the song map do not depend on the parser.

/** A chart with defaults for all that is not given. */
export const chartOf = (fields = {}) => ({
  title: "",
  subtitle: "",
  artist: "",
  composer: "",
  lyricist: "",
  copyright: "",
  key: "",
  capo: 0,
  tempo: null,
  time: null,
  durationMs: null,
  felt: null,
  notation: "letters",
  barsPerLine: null,
  transpose: 0,
  flow: null,
  meta: {},
  problems: [],
  text: "",
  ...fields,
  sections: (fields.sections ?? []).map(sectionOf),
});

/** A section; lines may be given as texts, see `lineOf`. */
export const sectionOf = (fields, index = 0) => ({
  kind: "verse",
  name: `Verse ${index + 1}`,
  times: 1,
  calls: -1,
  bars: null,
  beats: null,
  only: "",
  source: 1,
  ...fields,
  lines: (fields.lines ?? []).map((line) => (typeof line === "string" ? lineOf(line) : lineOf("", line))),
});

/** A line from a text with marks in brackets: "[|][C]One [*riff]two". Without words it is a line of chords. */
export function lineOf(text, fields = {}) {
  const parts = [];
  for (const [, mark, words] of text.matchAll(/(?:\[([^\]]*)\])?([^[]*)/g)) {
    if (mark === undefined && words === "") continue;
    parts.push({ text: words, mark: mark === undefined ? null : markOf(mark) });
  }
  const hasWords = parts.some((part) => part.text.trim() !== "");
  const kind = hasWords ? "words" : parts.length > 0 ? "chords" : "empty";
  return { kind, parts, text: "", style: "", only: "", change: null, source: 1, ...fields };
}

/** A line of a grid: "| C . . . | G . Am . |". */
export const gridLine = (text) => ({
  kind: "grid",
  parts: text
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => ({ text: "", mark: /\|/.test(word) ? { kind: "bar", text: word } : markOf(word) })),
});

export const tabLine = (text) => ({ kind: "tab", text });
export const change = (fields) => ({ kind: "change", change: fields });

function markOf(text) {
  if (text.startsWith("*")) return { kind: "annotation", text: text.slice(1) };
  if (text === "%") return { kind: "annotation", text };
  if (/^[|:]+$/.test(text)) return { kind: "bar", text };
  if (text === "." || text === "/") return { kind: "beat", text };
  return { kind: "chord", text };
}
