// Changes ChordPro text: whole set lists as one file, and the small edits of the editor.
//
// An edit replaces the characters that it is about and no others, so a text keeps its line ends, its order and its own
// way of writing directives.

import { DELEGATES, isBlank, parseChart, splitSongs } from "./chordpro.js";
import { SOUNDING } from "./model.js";
import { isNewSong, lineEnd, readDirective, readDirectives, splitLines } from "./source.js";

// Set lists

/**
 * Writes a set list as one ChordPro file.
 *
 * Each song follows a `{new_song}` line. An `{x_song}` line comes first if a reader could not tell otherwise where the
 * song ends or what the list calls it: `songs` is the number of `{new_song}` lines inside plus one, `end="none"` says
 * that the last line end is not part of the song, `title` is the title in the list, `encoding` is that of the file from
 * which the song came.
 *
 * @param {{ title: string, songs: { title: string, body: string, encoding?: string }[] }} setlist
 * @returns {string}
 */
export function exportSetlist({ title, songs }) {
  const pieces = [`{x_setlist: ${oneLine(title)}}\n`];
  for (const song of songs) {
    const facts = factsOf(song);
    pieces.push("{new_song}\n", facts === "" ? "" : `{x_song:${facts}}\n`, song.body, endsLine(song.body) ? "" : "\n");
  }
  return pieces.join("");
}

/**
 * Reads a file with songs: one that `exportSetlist` wrote, or any ChordPro file. Bodies are what was exported, to the
 * letter. A file without a set list's name and with one song is that song, whole.
 *
 * @param {string} text
 * @returns {{ title: string | null, songs: { title: string, body: string, encoding?: string }[] }} title null if the
 *   file names no list
 */
export function importFile(text) {
  const lines = splitLines(text);
  const first = lines.findIndex((line) => isNewSong(line.text));
  const top = first < 0 ? lines : lines.slice(0, first);
  const title = readListTitle(top);
  if (title === null && !lines.some((line) => readFacts(line.text))) {
    const slices = splitSongs(text);
    return { title, songs: slices.length === 1 ? [named(text)] : slices.map((slice) => named(slice.text)) };
  }
  const songs = [];
  const before = top.filter((line) => !isListTitle(line.text)).map(joined).join("");
  if (!isBlank(before)) songs.push(named(before));
  for (let i = top.length; i < lines.length; ) {
    const facts = readFacts(lines[i + 1]?.text ?? "");
    const from = i + (facts ? 2 : 1);
    let end = from;
    for (let songsLeft = facts?.songs ?? 1; end < lines.length; end += 1) {
      if (isNewSong(lines[end].text) && (songsLeft -= 1) === 0) break;
    }
    let body = lines.slice(from, end).map(joined).join("");
    if (facts?.isOpen) body = withoutLineEnd(body, lines[i + 1].end);
    songs.push({ ...named(body, facts?.title), ...(facts?.encoding && { encoding: facts.encoding }) });
    i = end;
  }
  return { title, songs };
}

const joined = (line) => line.text + line.end;
const oneLine = (text) => text.replace(/[\r\n]+/g, " ").trim();
const endsLine = (text) => /[\r\n]$/.test(text);

function named(body, title = parseChart(body).title) {
  return { title, body };
}

const readOwn = (line) => (line.includes("x_setlist") ? readDirective(line.replace(/^\uFEFF/, "")) : null);
const isListTitle = (line) => readOwn(line)?.name === "x_setlist";

function readListTitle(lines) {
  const line = lines.find((line) => isListTitle(line.text));
  return line ? readOwn(line.text).value : null;
}

/** Removes one line end, as the file has them. Another program may have turned LF into CRLF. */
function withoutLineEnd(body, end) {
  if (body.endsWith(end)) return body.slice(0, body.length - end.length);
  return body.replace(/[\r\n]$/, "");
}

/** The content of the `{x_song}` line that a song needs, or "". */
function factsOf({ title, body, encoding = "utf-8" }) {
  const lines = splitLines(body);
  const songs = 1 + lines.filter((line) => isNewSong(line.text)).length;
  const facts = [];
  if (songs > 1) facts.push(` songs="${songs}"`);
  if (!endsLine(body)) facts.push(' end="none"');
  if (title !== parseChart(body).title) facts.push(` title="${escape(title)}"`);
  if (encoding !== "utf-8") facts.push(` encoding="${encoding}"`);
  // A line of the song that looks like this one would be taken for it.
  if (facts.length === 0 && readFacts(lines[0]?.text ?? "")) facts.push(' songs="1"');
  return facts.join("");
}

function readFacts(line) {
  const directive = line.includes("x_song") ? readDirective(line) : null;
  if (directive?.name !== "x_song") return null;
  const fact = (name) => new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(directive.value)?.[1];
  const title = fact("title");
  const songs = Number(fact("songs") ?? 1);
  const encoding = fact("encoding");
  return { songs: songs >= 1 ? songs : 1, isOpen: fact("end") === "none", title: title && unescape(title), encoding };
}

const escape = (text) => text.replace(/[%"{}\r\n]/g, (sign) => `%${sign.charCodeAt(0).toString(16).padStart(2, "0")}`);
const unescape = (text) => text.replace(/%([0-9a-f]{2})/gi, (_, code) => String.fromCharCode(parseInt(code, 16)));

// Edits

/** Directives of the top of a song, in the order in which a new one is put among them. */
const TOP = [
  "title", "subtitle", "artist", "composer", "lyricist", "copyright", "key", "capo", "tempo", "time", "duration", "transpose",
  "flow", "x_notation", "x_felt", "x_bars_per_line",
];

/**
 * Sets a directive of the whole song: a title, key, tempo, time, duration, transpose, `x_felt`, `x_bars_per_line` and so
 * on. Directives that stand after the first sounding line are changes, and stay.
 *
 * @param {string} text
 * @param {string} name the full name
 * @param {string | number | null} value null removes the directive
 * @returns {string} the text, unchanged if it says so already
 */
export function setDirective(text, name, value) {
  const lines = splitLines(text);
  const { from, to, offset } = topOf(text, lines);
  const top = readable(lines.slice(from, to));
  const found = top.flatMap((line) => occurrences(line, name));
  if (value === null || value === "") return found.reduceRight((rest, place) => cut(rest, place), text);
  const written = oneLine(String(value));
  // The first title counts, and the last of the others.
  const place = name === "title" || name === "subtitle" ? found[0] : found.at(-1);
  if (place) {
    if (place.value === written) return text;
    return text.slice(0, place.from) + place.before + written + place.after + text.slice(place.to);
  }
  return insertLine(text, placeFor(name, top, text, offset), `{${name}: ${written}}`);
}

/**
 * Finds the top of the first song: the index of its first line, of the line after its top (the first that sounds, or the
 * song's end), of the line after its last one, and its place in the text.
 */
function topOf(text, lines) {
  const song = splitSongs(text)[0];
  const from = Math.max(0, lines.findIndex((line) => line.from === song.from));
  const all = parseChart(song.text).sections.flatMap((section) => section.lines);
  const sounding = all.find((line) => SOUNDING.includes(line.kind));
  const end = lines.findIndex((line) => line.from >= song.to);
  const last = end < 0 ? lines.length : end;
  return { from, to: sounding ? from + sounding.source - 1 : last, last, offset: song.from };
}

/**
 * Moves a song by semitones: its `{transpose}`, and those further down, which count from the written key as well.
 *
 * @param {string} text a text with one song
 * @param {number} by
 * @returns {string}
 */
export function transposeBy(text, by) {
  const lines = splitLines(text);
  const { to, last } = topOf(text, lines);
  // From the last one on, so that the places of the others stay.
  const moved = lines.slice(to, last).flatMap((line) => occurrences(line, "transpose")).reduceRight((rest, place) => {
    const number = /^[+-]?\d{1,2}/.exec(place.value);
    if (!number) return rest;
    return rest.slice(0, place.from) + place.before + octave(Number(number[0]) + by) + place.after + rest.slice(place.to);
  }, text);
  const now = octave(parseChart(text).transpose + by);
  return setDirective(moved, "transpose", now === 0 ? null : now);
}

/** Semitones within an octave: chords are the same an octave higher. */
const octave = (semitones) => semitones % 12;

/** The lines outside of sections in other languages, whose directives are theirs. */
function readable(lines) {
  const names = (line) => (line.text.includes("{") ? (readDirectives(line.text) ?? []).map(({ name }) => name) : []);
  let end = -1;
  return lines.filter((line, i) => {
    if (i <= end) return false;
    const kind = names(line).find((name) => DELEGATES.has(name.replace("start_of_", "")) && name.startsWith("start_of_"))?.slice(9);
    if (kind) end = lines.findIndex((other, at) => at > i && names(other).includes(`end_of_${kind}`));
    return true;
  });
}

/** The places of a directive in a line, also as `{meta: name …}`. */
function occurrences(line, name) {
  const all = line.text.replace(/^\uFEFF/, "");
  const skip = line.text.length - all.length;
  const directives = readDirectives(all);
  if (!directives) return [];
  const single = [{ text: all, index: 0 }];
  const several = () => Array.from(all.matchAll(/\{[^{}]*\}/g), ({ 0: text, index }) => ({ text, index }));
  const pieces = directives.length === 1 ? single : several();
  return pieces.flatMap(({ text, index }, i) => {
    const { name: own, selector, value } = directives[i];
    const meta = own === "meta" ? /^(\S+)\s*(.*)$/s.exec(value) : null;
    if (selector !== "" || (own !== name && meta?.[1].toLowerCase() !== name)) return [];
    const from = line.from + skip + index;
    const current = meta ? meta[2] : value;
    const isAlone = pieces.length === 1;
    const start = current === "" ? -1 : text.lastIndexOf(current);
    const close = text.lastIndexOf("}");
    const bare = text.slice(0, close).trimEnd().replace(/:$/, "");
    const before = start < 0 ? `${bare}${meta ? " " : ": "}` : text.slice(0, start);
    const after = start < 0 ? text.slice(close) : text.slice(start + current.length);
    return [{ from, to: from + text.length, before, after, value: current, lineEnd: isAlone ? line.end.length : 0 }];
  });
}

const cut = (text, { from, to, lineEnd }) => text.slice(0, from) + text.slice(to + lineEnd);

/** The place of a new directive: after the last one at the top that comes before it by order. */
function placeFor(name, lines, text, offset) {
  const rank = TOP.indexOf(name) < 0 ? TOP.length : TOP.indexOf(name);
  let place = offset;
  for (const line of lines) {
    const directives = readDirectives(line.text.replace(/^\uFEFF/, "")) ?? [];
    const ranks = directives.map(({ name: own, selector }) => (selector === "" ? TOP.indexOf(own) : -1));
    if (ranks.some((own) => own >= 0 && own <= rank)) place = line.from + line.text.length + line.end.length;
  }
  return place === 0 && text.startsWith("\uFEFF") ? 1 : place;
}

/** Inserts a line at a place that begins a line, or at the end of the text. */
function insertLine(text, at, line) {
  const end = lineEnd(text);
  const isOpen = at > 0 && at === text.length && !endsLine(text) && text !== "\uFEFF";
  // At an open end the new line takes the open end over.
  return isOpen ? `${text}${end}${line}` : `${text.slice(0, at)}${line}${end}${text.slice(at)}`;
}

/**
 * Sets a directive such as `x_bars` or `x_beats` of one section.
 *
 * @param {string} text a text with one song
 * @param {import("./model.js").Section} section a section of this text's chart
 * @param {string} name
 * @param {string | null} value null removes the directive
 * @returns {string}
 */
export function setSectionDirective(text, section, name, value) {
  const lines = splitLines(text);
  const { from: start, last } = topOf(text, lines);
  const { sections } = parseChart(text);
  const index = sections.findIndex((other) => other.source === section.source && other.kind === section.kind);
  if (index < 0) return text;
  const at = start + section.source - 1;
  const isStart = readDirectives(lines[at].text.replace(/^\uFEFF/, ""))?.some((d) => d.name.startsWith("start_of_"));
  const next = sections[index + 1];
  const end = next ? start + next.source - 1 : last;
  // A section without a start takes the timing that stands before it, and so does a call.
  const from = isStart ? at + 1 : endOf(sections[index - 1], start);
  const textEnd = next ? endOf(section, start) : last;
  const to = section.calls >= 0 ? at : isStart ? end : textEnd;
  const found = [];
  for (let i = from; i < to; i += 1) {
    if (isStart && readDirectives(lines[i].text)?.some((d) => d.name === `end_of_${section.kind}`)) break;
    found.push(...occurrences(lines[i], name));
  }
  if (value === null || value === "") return found.reduceRight((rest, place) => cut(rest, place), text);
  const place = found.at(-1);
  if (place?.value === value) return text;
  if (place) return text.slice(0, place.from) + place.before + value + place.after + text.slice(place.to);
  const line = lines[isStart ? at : at];
  const offset = isStart ? line.from + line.text.length + line.end.length : line.from;
  return insertLine(text, offset === 0 && text.startsWith("\uFEFF") ? 1 : offset, `{${name}: ${value}}`);
}

/** Index of the line after a section; `start` if there is no section. */
const endOf = (section, start) => (section ? start + (section.lines.at(-1)?.source ?? section.source) : start);

/**
 * Makes the selected lines a section.
 *
 * @param {string} text
 * @param {number} from start of the selection
 * @param {number} to end of the selection
 * @param {string} kind "verse", "chorus", …
 * @param {string} [label]
 * @returns {{ text: string, from: number, to: number }} the selection is that of the same lines
 */
export function wrapSection(text, from, to, kind, label = "") {
  const end = lineEnd(text);
  const [low, high] = [Math.min(from, to), Math.max(from, to)].map((at) => outsideLineEnd(text, at));
  const first = startOfLine(text, low);
  // A selection that ends at the start of a line does not take that line in.
  const isPastEnd = high > low && high === startOfLine(text, high);
  const last = endOfLine(text, isPastEnd ? outsideLineEnd(text, high - 1) : high);
  const head = `{start_of_${kind}${label === "" ? "" : `: ${oneLine(label)}`}}${end}`;
  const tail = `${end}{end_of_${kind}}`;
  const wrapped = text.slice(0, first) + head + text.slice(first, last) + tail + text.slice(last);
  return { text: wrapped, from: first + head.length, to: last + head.length };
}

/** Moves a place between CR and LF before both. */
const outsideLineEnd = (text, at) => (text[at - 1] === "\r" && text[at] === "\n" ? at - 1 : at);

function startOfLine(text, at) {
  const before = Math.max(text.lastIndexOf("\n", at - 1), text.lastIndexOf("\r", at - 1));
  return at === 0 ? 0 : before + 1;
}

function endOfLine(text, at) {
  const found = text.slice(at).search(/[\r\n]/);
  return found < 0 ? text.length : at + found;
}

/**
 * Inserts a chord, or replaces the one that the place is in. Inside a directive nothing happens.
 *
 * @param {string} text
 * @param {number} at
 * @param {string} chord
 * @returns {{ text: string, at: number }} the place after the chord
 */
export function insertChord(text, at, chord) {
  const from = startOfLine(text, at);
  const to = endOfLine(text, at);
  const line = text.slice(from, to);
  if (readDirectives(line)) return { text, at };
  const written = `[${chord.replace(/[[\]\r\n]/g, "").trim()}]`;
  for (const { 0: all, index } of line.matchAll(/\[[^[\]]*\]/g)) {
    const start = from + index;
    if (at <= start || at >= start + all.length) continue;
    return { text: text.slice(0, start) + written + text.slice(start + all.length), at: start + written.length };
  }
  // Never between the halves of a letter, or between a letter and its accents.
  let place = at;
  const isInside = (at) => /^[\uDC00-\uDFFF]/.test(text.slice(at, at + 1)) || /^\p{M}/u.test(text.slice(at, at + 2));
  while (place > from && isInside(place)) place -= 1;
  return { text: text.slice(0, place) + written + text.slice(place), at: place + written.length };
}
