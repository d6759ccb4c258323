// Other text formats to ChordPro: OnSong, OpenSong, chords over words, and plain words.
//
// The result is ChordPro text that the user sees before it is kept, so a wrong guess costs an edit and no music.

import { detect } from "./decode.js";
import { isTabLine, readChordLine, readDirectives, readHead, readHeader, splitLines } from "./source.js";

/**
 * Converts a text to ChordPro. A ChordPro text is returned unchanged.
 *
 * @param {string} text
 * @param {ReturnType<typeof detect>} [format]
 * @returns {string}
 */
export function toChordPro(text, format = detect(text)) {
  if (format === "chordpro") return text;
  const source = text.replace(/^\uFEFF/, "");
  if (format === "opensong") return convertOpenSong(source);
  const lines = splitLines(source).map((line) => expandTabs(line.text).trimEnd());
  const { header, body } = readTop(lines, format);
  return finish([...header, ...convertLines(body, format)]);
}

const finish = (lines) => `${lines.join("\n").replace(/\n{3,}/g, "\n\n").trim()}\n`;

// The top of a file

const HEADER_NAMES = {
  author: "artist", by: "artist", bpm: "tempo", timesig: "time", timesignature: "time",
};
const DIRECTIVES = new Set([
  "title", "subtitle", "artist", "composer", "lyricist", "copyright", "key", "tempo", "time", "capo", "duration", "flow",
]);

function directiveOf({ name, value }) {
  const renamed = Object.hasOwn(HEADER_NAMES, name) ? HEADER_NAMES[name] : name;
  if (!DIRECTIVES.has(renamed)) return `{meta: ${renamed} ${value}}`;
  const bare = renamed === "key" ? value.replace(/^\[(.*)\]$/, "$1") : value;
  return `{${renamed}: ${bare}}`;
}

const BRACKETS = /\[[^[\]]+\]/;

const isContent = (line, format) =>
  readHead(line) !== null || isTabLine(line) || BRACKETS.test(line) || (format !== "words" && readChordLine(line) !== null);

/** Takes title, artist and headers from the top. The rest is the body. */
function readTop(lines, format) {
  const header = [];
  const names = [];
  let at = 0;
  while (at < lines.length && lines[at].trim() === "") at += 1;
  const first = at;
  const end = (from) => {
    const next = lines.findIndex((line, i) => i >= from && line.trim() === "");
    return next < 0 ? lines.length : next;
  };
  if (format === "onsong") {
    for (; at < lines.length; at += 1) {
      const headed = readHeader(lines[at]);
      if (headed) header.push(directiveOf(headed));
      else if (isContent(lines[at], format)) break;
      else if (readDirectives(lines[at])) header.push(lines[at]);
      else if (lines[at].trim() === "") {
        // Headers may go on after an empty line.
        if (!lines.slice(at, at + 3).some((line) => readHeader(line))) break;
      } else if (at < first + 2 && names.length < 2 && header.length === names.length) {
        names.push(lines[at].trim());
        header.push(`{${names.length === 1 ? "title" : "artist"}: ${names.at(-1)}}`);
      } else break;
    }
  } else if (end(first) < lines.length && lines.slice(end(first)).some((line) => line.trim() !== "")) {
    const top = lines.slice(first, end(first)).map((line) => line.trim());
    const by = /^by:? +(\S.*)$/i.exec(top[1] ?? "");
    if (!top.some((line) => isContent(line, format)) && (top.length === 1 || (top.length === 2 && by))) {
      header.push(`{title: ${top[0]}}`);
      if (by) header.push(`{artist: ${by[1]}}`);
      at = end(first);
    }
  }
  return { header: header.length > 0 ? [...header, ""] : header, body: lines.slice(at) };
}

// Lines

/** Converts lines of chords, words, heads and tablature. */
function convertLines(lines, format) {
  const out = [];
  const hasHeads = lines.some((line) => readHead(line));
  let open = "";
  /** Whether the paragraph at hand is a section of its own. */
  let isParagraph = false;
  const close = () => {
    if (open === "") return;
    while (out.at(-1) === "") out.pop();
    out.push(`{end_of_${open}}`, "");
    open = "";
  };
  const begin = (kind, label) => {
    close();
    out.push(`{start_of_${kind}${label ? `: ${label}` : ""}}`);
    open = kind;
  };
  for (let i = 0; i < lines.length; ) {
    const line = lines[i];
    const head = readHead(line) ?? (format === "onsong" ? anyHead(line) : null);
    if (head) {
      begin(head.kind, head.label);
      i += 1;
      if (head.rest !== "") out.push(...chordsAlone(head.rest));
    } else if (line.trim() === "") {
      if (!hasHeads) close();
      isParagraph = false;
      if (out.at(-1) !== "") out.push("");
      i += 1;
    } else {
      if (!hasHeads && !isParagraph && hasWords(lines, i, format)) begin("verse", "");
      isParagraph = true;
      i = convertAt(lines, i, format, out);
    }
  }
  close();
  return out;
}

/** OnSong takes any short line that ends with a colon for a head. */
function anyHead(line) {
  const found = /^\s*([^\s[\]{}|:][^[\]{}|:]{0,30}):\s*$/.exec(line);
  if (!found) return null;
  const kind = found[1].trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_").replace(/_?\d*_*$/, "") || "part";
  return { kind: /^[\p{L}_]/u.test(kind) ? kind : "part", label: found[1].trim(), rest: "" };
}

/** Whether the paragraph at `i` has a line of words. */
function hasWords(lines, i, format) {
  for (let at = i; at < lines.length && lines[at].trim() !== ""; at += 1) {
    if (!isTabLine(lines[at]) && (format === "words" || !chordLine(lines[at], format))) return true;
  }
  return false;
}

/** The tokens of a line of chords, or null. OnSong marks such lines with a dot if need be. */
function chordLine(line, format) {
  if (format === "words") return null;
  if (format === "onsong" && /^\.\s*\S/.test(line)) return readChordLine(` ${line.slice(1)}`) ?? null;
  return readChordLine(line);
}

/** Converts the line at `i`, with the words below it. Returns the index of the next line. */
function convertAt(lines, i, format, out) {
  const line = lines[i];
  if (isTabLine(line)) {
    let end = i;
    while (end < lines.length && isTabLine(lines[end])) end += 1;
    out.push("{start_of_tab}", ...lines.slice(i, end), "{end_of_tab}");
    return end;
  }
  const tokens = chordLine(line, format);
  if (!tokens) {
    out.push(format === "onsong" ? onSongWords(line) : words(line));
    return i + 1;
  }
  const below = lines[i + 1] ?? "";
  const isOther = readHead(below) || isTabLine(below) || chordLine(below, format) || readDirectives(below);
  const hasOwnChords = format === "onsong" && BRACKETS.test(below);
  if (below.trim() !== "" && !isOther && !hasOwnChords && !tokens.some(({ kind }) => kind === "bar")) {
    out.push(over(tokens, below));
    return i + 2;
  }
  out.push(...chordsAlone(line.replace(/^\./, " "), tokens));
  return i + 1;
}

/** A line of chords without words. Bar lines make it a grid. */
function chordsAlone(line, tokens = readChordLine(line)) {
  if (!tokens.some(({ kind }) => kind === "bar")) return [over(tokens, "")];
  return ["{start_of_grid}", line.trim(), "{end_of_grid}"];
}

function markOf({ text, kind }) {
  if (kind === "chord" || kind === "bar" || text === "/" || text === ".") return `[${text}]`;
  return /[\p{L}\p{N}%]/u.test(text) ? `[*${text.replace(/[[\]]/g, "")}]` : "";
}

/** Puts chords before the letters that they stand over. */
function over(tokens, below) {
  const cells = cellsOf(below);
  const pieces = [];
  let at = 0;
  let column = 0;
  for (const token of tokens) {
    for (; column < token.column; column += cells[at++]?.width ?? 1) pieces.push(cells[at]?.text ?? " ");
    pieces.push(markOf(token));
  }
  for (; at < cells.length; at += 1) pieces.push(cells[at].text);
  return safe(pieces.join("").trimEnd());
}

/** Letters of two columns: Hangul, Kana and Chinese characters, and wide forms of others. */
const WIDE = /[\u1100-\u115F\u2E80-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFF00-\uFF60]/;

/** Cuts words into cells of a fixed-width screen: combining marks take no column, wide letters take two. */
function cellsOf(text) {
  const cells = [];
  for (const letter of text.replace(/\[/g, "(").replace(/\]/g, ")")) {
    if (/[\p{M}\u200C\u200D\u200E\u200F]/u.test(letter) && cells.length > 0) cells.at(-1).text += letter;
    else cells.push({ text: letter, width: WIDE.test(letter) ? 2 : 1 });
  }
  return cells;
}

/** Words of a format without brackets: what ChordPro would read as a chord becomes parentheses. */
const words = (line) => safe(line.replace(/\[/g, "(").replace(/\]/g, ")"));

/** Keeps a line of words from being read as a directive, a remark or the first half of a line. */
function safe(line) {
  let text = line;
  if (/^\s*\{/.test(text)) text = text.replace(/\{/g, "(").replace(/\}/g, ")");
  if (text.startsWith("#")) text = ` ${text}`;
  return text.endsWith("\\") ? `${text} ` : text;
}

/** OnSong: `*` makes a line bold, `/` italic. Directives stay. */
function onSongWords(line) {
  if (readDirectives(line)) return line;
  const styled = /^([*/])\s*([^\s*/].*)$/.exec(line);
  if (!styled) return safe(line);
  const tag = styled[1] === "*" ? "b" : "i";
  return `<${tag}>${styled[2]}</${tag}>`;
}

function expandTabs(text) {
  if (!text.includes("\t")) return text;
  let column = 0;
  return Array.from(text, (letter) => {
    const piece = letter === "\t" ? " ".repeat(8 - (column % 8)) : letter;
    column += piece.length;
    return piece;
  }).join("");
}

// OpenSong

const OPENSONG_HEADS = {
  V: ["verse", "Verse"], C: ["chorus", "Chorus"], B: ["bridge", "Bridge"], P: ["pre_chorus", "Pre-chorus"], T: ["tag", "Tag"],
  I: ["intro", "Intro"], O: ["outro", "Outro"], E: ["ending", "Ending"], S: ["solo", "Solo"],
};

function convertOpenSong(xml) {
  const field = (name) => xmlField(xml, name).trim();
  const header = [];
  const put = (name, value) => value !== "" && header.push(`{${name}: ${value.replace(/\s+/g, " ")}}`);
  put("title", field("title"));
  put("artist", field("author"));
  put("copyright", field("copyright"));
  put("key", field("key"));
  put("tempo", /^\d/.test(field("tempo")) ? field("tempo") : "");
  put("time", field("time_sig"));
  put("capo", field("capo"));
  put("flow", field("presentation"));
  put("meta: ccli", field("ccli"));
  const lines = splitLines(xmlField(xml, "lyrics")).map((line) => expandTabs(line.text).trimEnd());
  return finish([...header.map((line) => line.replace("meta: ccli:", "meta: ccli")), "", ...openSongLines(lines)]);
}

/** The text of the first element of a name, without its tags. */
function xmlField(xml, name) {
  const start = new RegExp(`<${name}(?=[\\s>/])`, "i").exec(xml);
  if (!start) return "";
  const open = xml.indexOf(">", start.index);
  if (open < 0 || xml[open - 1] === "/") return "";
  const rest = xml.slice(open + 1);
  const close = rest.search(new RegExp(`</${name}\\s{0,9}>`, "i"));
  const end = close < 0 && name !== "lyrics" ? rest.search(/[<\r\n]/) : close;
  const content = end < 0 ? rest : rest.slice(0, end);
  return content.split(/<!\[CDATA\[|\]\]>/).map(unescapeXml).join("");
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescapeXml(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos));/gi, (all, decimal, hex, name) => {
    if (name) return ENTITIES[name.toLowerCase()];
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : all;
  });
}

/** Sections of OpenSong: a head, then lines of chords (`.`), words (space), verses (digit) and remarks (`;`). */
function openSongLines(lines) {
  const sections = [{ head: null, lines: [] }];
  for (const line of lines) {
    const head = /^\s*\[([^\]]+)\]\s*$/.exec(line);
    if (head) sections.push({ head: head[1].trim(), lines: [] });
    else if (!/^(?:---|\|\|)/.test(line)) sections.at(-1).lines.push(line);
  }
  return sections.flatMap(({ head, lines }) => {
    const numbers = [...new Set(lines.map((line) => /^[1-9]/.exec(line)?.[0]).filter(Boolean))];
    if (numbers.length === 0) return openSongSection(head, lines);
    return numbers.flatMap((number) => {
      const own = lines.filter((line) => !/^[1-9]/.test(line) || line[0] === number);
      return openSongSection(`${head ?? "V"}${number}`, own.map((line) => line.replace(/^[1-9]/, " ")));
    });
  });
}

function openSongSection(head, lines) {
  const out = [];
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i];
    if (line.startsWith(";")) out.push(`{comment: ${line.slice(1).trim()}}`);
    else if (line.startsWith(".")) {
      const tokens = openSongChords(line);
      const below = lines[i + 1] ?? "";
      const isOver = /^\s*[^\s.;]/.test(below);
      if (isOver) i += 1;
      if (tokens.some(({ kind }) => kind === "bar") && !isOver) out.push(...chordsAlone(line.slice(1), tokens));
      else out.push(withoutFillers(over(tokens, isOver ? below : "")));
    } else if (isTabLine(line)) out.push("{start_of_tab}", line, "{end_of_tab}");
    else out.push(withoutFillers(words(line)));
  }
  while (out.at(-1) === "") out.pop();
  while (out[0] === "") out.shift();
  if (head === null) return out.length > 0 ? [...out, ""] : [];
  const [, letter, number] = /^([A-Z])(\d{0,2}[a-z]?)$/i.exec(head) ?? [];
  const known = letter && OPENSONG_HEADS[letter.toUpperCase()];
  const [kind, name] = known ?? readHeadOf(head);
  const label = known && number ? `${name} ${number}` : name;
  return [`{start_of_${kind}: ${label}}`, ...out, `{end_of_${kind}}`, ""];
}

function readHeadOf(head) {
  const found = readHead(head) ?? anyHead(`${head}:`);
  return found ? [found.kind, found.label || head] : ["part", head];
}

/** In a line with a dot every word is a chord or a sign, whatever it is. */
const openSongChords = (line) =>
  Array.from(line.matchAll(/:?\|[|:]*|[^\s|.][^\s|]*/g), ({ 0: text, index }) => {
    const chordLike = /^\(?[A-H]/.test(text) ? "chord" : "word";
    return { text, column: index, kind: /^:?\|/.test(text) ? "bar" : chordLike };
  });

/** OpenSong stretches words with underscores to make room for chords. They are not shown. */
const withoutFillers = (line) => line.replace(/^ /, "").replace(/_+/g, "");
