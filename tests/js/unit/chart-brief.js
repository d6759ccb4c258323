// A chart in few lines of text, for snapshots and for messages of tests.
//
// Marks stand in double angles, so that they differ from brackets in the text: ⟪G⟫ is a chord, ⟪*soft⟫ an annotation,
// ⟪=|⟫ a bar line, ⟪-.⟫ a beat, ⟪~G⟫ a chord that shares a cell. ‹b text› and ‹i text› are bold and italic.

const FIELDS = [
  "title", "subtitle", "artist", "composer", "lyricist", "copyright", "key", "capo", "tempo", "durationMs", "felt", "notation",
  "barsPerLine", "transpose", "time", "flow", "meta",
];
const ABSENT = ["", 0, null, "letters"];
const SIGNS = { chord: "", annotation: "*", bar: "=", beat: "-" };

/** Returns the lines of the short form. */
export function brief(chart) {
  const lines = [];
  for (const name of FIELDS) {
    const value = chart[name];
    if (ABSENT.includes(value) || (name === "meta" && Object.keys(value).length === 0)) continue;
    lines.push(`${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
  }
  for (const section of chart.sections) {
    const { kind, name, times, calls, bars, beats, only, source } = section;
    const more = [
      times === 1 ? "" : ` x${times}`, calls < 0 ? "" : ` calls ${calls}`, bars ? ` bars ${bars}` : "", beats ? ` beats ${beats}` : "",
      only === "" ? "" : ` only ${only}`,
    ];
    lines.push(`${source} # ${kind} “${name}”${more.join("")}`);
    for (const line of section.lines) lines.push(briefLine(line));
  }
  for (const { line, code, text } of chart.problems) lines.push(`! ${line} ${code} ${text}`);
  return lines;
}

function briefLine({ kind, parts, text, style, only, change, source }) {
  const how = [kind, style, only && `only ${only}`].filter(Boolean).join(" ");
  const content = change ? JSON.stringify(change) : parts.length > 0 ? parts.map(briefPart).join("") : text;
  return `${source} ${how}: ${content}`;
}

function briefPart({ text, spans, mark }) {
  const sign = mark ? `⟪${mark.joined ? "~" : ""}${SIGNS[mark.kind]}${mark.text}⟫` : "";
  if (!spans) return sign + text;
  return sign + spans.map((s) => (s.bold || s.italic ? `‹${s.bold ? "b" : ""}${s.italic ? "i" : ""} ${s.text}›` : s.text)).join("");
}
