// The mark of a file: line ends, encoding, and signs that the server leaves out of a stored chart. One directive at the
// end of the chart says them, so any device writes the file as it was, byte for byte:
//
//     {x_file: crlf windows-1252}
//
// Line ends and encoding also hold for an edited chart. `ends` and `signs`, which name places, hold only for the text
// whose sum they give.

/** Characters that the server leaves out of a chart. Line ends are changed before. */
const UNSENT = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
const SEPARATORS = /[\u2028\u2029]/g;
const ENDS = { lf: "\n", crlf: "\r\n", cr: "\r" };
const ENCODINGS = ["windows-1252", "utf-16le", "utf-16be"];
/** Maximum length of a mark. Guessed; a file that needs more is no chart that somebody typed. */
const MARK_MAX = 2000;
const MARK = /(^|\n)\{x_file:([^{}\n]*)\}\n?$/;

/** A chart as the server keeps it: with plain line ends, and without control characters. */
export const sentText = (text) => text.replace(/\r\n?/g, "\n").replace(SEPARATORS, " ").replace(UNSENT, "");

/** Where the mark of a chart begins; the length of the chart if it has none. */
export const markAt = (body) => {
  // The mark is one of the last lines: a search from the front would take long in a long text.
  const from = Math.max(0, body.length - MARK_MAX - 100);
  const found = MARK.exec(body.slice(from));
  return found && (from === 0 || found[1] !== "") ? from + found.index + found[1].length : body.length;
};

/**
 * A chart as the server keeps it, with a mark if the file differs from that.
 *
 * @param {string} text as decoded from the file
 * @param {string} [encoding] of the file
 */
export function marked(text, encoding = "utf-8") {
  const sent = sentText(text);
  const isMarked = markAt(sent) < sent.length;
  if (sent === text && encoding === "utf-8" && !isMarked) return sent;
  const isOpen = sent !== "" && !sent.endsWith("\n");
  const ends = text.match(/\r\n|\r|\n/g) ?? [];
  const signs = signsOf(text.replace(/\r\n?/g, "\n"));
  const [first = "\n"] = ends;
  const isMixed = ends.some((end) => end !== first);
  const facts = [nameOf(first)];
  if (encoding !== "utf-8") facts.push(encoding);
  if (isOpen) facts.push("open");
  if (isMixed) facts.push(`ends=${runsOf(ends)}`);
  if (signs.length > 0) facts.push(`signs=${signs.join(",")}`);
  if (isMixed || signs.length > 0) facts.push(`sum=${sumOf(sent)}`);
  const mark = `{x_file: ${facts.join(" ")}}\n`;
  const body = `${sent}${isOpen ? "\n" : ""}${mark}`;
  return mark.length <= MARK_MAX && unmarked(body).text === text ? body : sent;
}

/** The text and the encoding of the file that a chart came from. Without a mark: the chart, in UTF-8. */
export function unmarked(body) {
  const at = markAt(body);
  const facts = at < body.length ? MARK.exec(body.slice(at))[2].trim().split(" ") : [];
  const fact = (name) => facts.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  const encoding = facts.find((each) => ENCODINGS.includes(each)) ?? "utf-8";
  let text = body.slice(0, at);
  if (facts.includes("open")) text = text.replace(/\n$/, "");
  const isSame = fact("sum") === sumOf(text);
  if (isSame) text = withSigns(text, fact("signs"));
  const ends = isSame ? readRuns(fact("ends"), text.length) : [];
  const usual = ENDS[facts[0]] ?? "\n";
  let n = 0;
  return { text: text.replace(/\n/g, () => ends[n++] ?? usual), encoding };
}

const nameOf = (end) => Object.keys(ENDS).find((name) => ENDS[name] === end);

/** Line ends in short: `crlf*12,lf*1`. */
function runsOf(ends) {
  const runs = [];
  for (const end of ends) {
    if (runs.at(-1)?.end === end) runs.at(-1).count += 1;
    else runs.push({ end, count: 1 });
  }
  return runs.map(({ end, count }) => `${nameOf(end)}*${count}`).join(",");
}

/** The line ends that runs name. Anybody can write a mark, so at most `max` of them are made. */
function readRuns(text = "", max) {
  const ends = [];
  for (const run of text.split(",")) {
    const [name, count] = run.split("*");
    if (!Object.hasOwn(ENDS, name)) return [];
    for (let i = Math.min(Number(count), max - ends.length); i > 0; i -= 1) ends.push(ENDS[name]);
  }
  return ends;
}

/** Signs that the server leaves out or changes, each with its place: `120+1a`, or `120=2028` in place of a space. */
function signsOf(text) {
  const found = [...text.matchAll(new RegExp(`${UNSENT.source}|${SEPARATORS.source}`, "g"))];
  const hex = (sign) => sign.charCodeAt(0).toString(16);
  return found.map(({ 0: sign, index }) => `${index}${/\s/.test(sign) && sign > "\u2000" ? "=" : "+"}${hex(sign)}`);
}

function withSigns(text, signs = "") {
  let whole = text;
  for (const each of signs.split(",")) {
    const [, place, how, code] = /^(\d{1,7})([+=])([0-9a-f]{1,4})$/.exec(each) ?? [];
    if (place === undefined) continue;
    const at = Number(place);
    whole = whole.slice(0, at) + String.fromCharCode(parseInt(code, 16)) + whole.slice(how === "=" ? at + 1 : at);
  }
  return whole;
}

/** A sum of a text (FNV-1a), which tells whether it was edited. */
function sumOf(text) {
  let sum = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193);
  return (sum >>> 0).toString(36);
}
