// Songs from files and from the clipboard, and back into files.
//
// A file is read here, never by the server. What is no text chart is refused with a sentence. A ChordPro file that comes
// back unedited is the same, byte for byte, on any device: a mark in the chart says what the server does not keep, such as
// line ends.

import { toChordPro } from "../chart/convert.js";
import { decode, detect, encode } from "../chart/decode.js";
import { marked, sentText, unmarked } from "../chart/filemark.js";
import { songFields } from "../chart/map.js";
import { readSong } from "../chart/unfold.js";
import { exportSetlist, importFile } from "../chart/write.js";
import { CHART, SONGS } from "../texts.js";
import { h } from "./dom.js";
import { newSongId } from "./edits.js";

/** Maximum bytes of a chart, and of a file that is read. Specified; guessed: 500 songs of a large size. */
export const CHART_BYTES_MAX = 65_536;
const FILE_BYTES_MAX = 4 << 20;
const TITLE_MAX = 200;
const KEY_MAX = 16;

export const bytesOf = (text) => new TextEncoder().encode(text).length;

const cut = (text, max) => [...text].slice(0, max).join("");

/**
 * A song as the server takes it, from its chart. Whatever the chart does not say, such as the title of a text without
 * directives, comes from `fallback`.
 */
export function songOf(id, body, fallback = {}) {
  const { chart, map } = readSong(body);
  const fields = songFields(chart, map);
  const title = cut((fields.title || fallback.title || SONGS.untitled).trim(), TITLE_MAX);
  const song = { ...fields, id, title, format: "chordpro", body };
  if (song.artist) song.artist = cut(song.artist, TITLE_MAX);
  if (song.key) song.key = cut(song.key, KEY_MAX);
  return Object.fromEntries(
    Object.entries(song).filter(([, value]) => value !== undefined && value !== null && value !== ""),
  );
}

/**
 * The songs of a text in any format: `{ title, format, songs: [{ title, body, source? }] }`. The title is that of an
 * exported set list, or null; that of a song is "" if nothing names it. With an encoding the text is a file's: what the
 * server leaves out is then marked in the chart; `source` is the song as the file has it, if no mark can say it.
 */
export function readText(text, format = detect(text), encoding = null) {
  const { title, songs } = importFile(format === "chordpro" ? text : toChordPro(text, format));
  const filled = songs.filter(({ body }) => sentText(body).trim() !== "");
  const read = filled.map(({ title: own, body, encoding: of = songs.length === 1 ? encoding : "utf-8" }) => {
    if (format !== "chordpro" || encoding === null) return { title: own, body: sentText(body) };
    const chart = marked(body, of);
    const isShort = bytesOf(chart) <= CHART_BYTES_MAX && unmarked(chart).text === body;
    return isShort ? { title: own, body: chart } : { title: own, body: sentText(body), source: body };
  });
  return { title, format, songs: read };
}

/** The name of a file without its ending. */
const stem = (name) =>
  name
    .replace(/\.[^.]{1,8}$/, "")
    .replace(/[_]+/g, " ")
    .trim();

/**
 * Reads files in order.
 * @param {File[]} files
 * @returns {Promise<{ title: string | null, songs: object[], refused: { file: string, text: string }[] }>} new songs
 *   with ids, the title of a set list if exactly one file was one, and sentences for the files that were refused
 */
export async function readFiles(files) {
  const [songs, refused, titles] = [[], [], []];
  for (const file of files) {
    try {
      if (file.size > FILE_BYTES_MAX) throw Object.assign(new Error("too large"), { code: "too_large" });
      const bytes = new Uint8Array(await file.arrayBuffer());
      const { text, encoding } = decode(bytes, file.name);
      const read = readText(text, detect(text), encoding);
      if (read.songs.length === 0) throw Object.assign(new Error("empty"), { code: "empty" });
      for (const { title, body, source } of read.songs) {
        if (bytesOf(body) > CHART_BYTES_MAX) throw Object.assign(new Error("too long"), { code: "too_long" });
        const song = songOf(newSongId(), body, { title: title || stem(file.name) });
        const isWhole = read.format === "chordpro" && (source ?? unmarked(body).text) === text;
        const isUnlike = isWhole && !sameBytes(bytesOfFile(body), bytes);
        songs.push({ ...song, file: file.name, from: read.format, source: isUnlike ? bytes : source });
      }
      titles.push(read.title);
    } catch (error) {
      refused.push({ file: file.name, text: refusal(error) });
    }
  }
  return { title: titles.length === 1 ? titles[0] : null, songs, refused };
}

/** The sentence for a file that can't be read. */
export const refusal = ({ code }) => SONGS.refused[code] ?? CHART.refused?.[code] ?? SONGS.refused.unreadable;

/** The text of a library song's source: what the file had, with its line ends. */
const sourceText = (source) =>
  typeof source === "string" ? source : new TextDecoder("utf-8", { ignoreBOM: true }).decode(source);

/**
 * The set list as one ChordPro file.
 * @param {object} setlist
 * @param {(song: object) => (string | Uint8Array | undefined)} sourceOf the file that a song came from, if its chart is
 *   the same
 */
export function listFile({ title, songs }, sourceOf = () => undefined) {
  const fileOf = (song) => {
    const source = sourceOf(song);
    const text = source === undefined ? song.body : sourceText(source);
    // Bytes of another encoding can't stand in a file with other songs.
    if (source !== undefined && sentText(text) === song.body) return { body: text };
    const file = unmarked(song.body);
    return { body: file.text, encoding: file.encoding };
  };
  const text = exportSetlist({ title, songs: songs.map((song) => ({ title: song.title, ...fileOf(song) })) });
  return { name: `${fileName(title || SONGS.listFile)}.cho`, content: text };
}

/** One song as a ChordPro file. */
export function songFile(song, source) {
  return { name: `${fileName(song.title)}.cho`, content: source ?? contentOf(song.body) };
}

/** The file of a chart: text, or bytes if it came from a file of another encoding. */
function contentOf(body) {
  const { text, encoding } = unmarked(body);
  // An edited chart may have letters that the encoding lacks.
  return encoding === "utf-8" ? text : (encode(text, encoding) ?? text);
}

const bytesOfFile = (body) => {
  const content = contentOf(body);
  return typeof content === "string" ? new TextEncoder().encode(content) : content;
};

const sameBytes = (one, other) => one.length === other.length && one.every((byte, i) => byte === other[i]);

/** A title without what file systems refuse. */
const fileName = (title) =>
  title
    .replace(/[\\/:*?"<>|\s\u0000-\u001f]+/g, " ")
    .replace(/^[. ]+|[. ]+$/g, "")
    .slice(0, 100) || SONGS.untitled;

/** Gives a file to the user. */
export function save({ name, content }) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * Takes files that are dropped anywhere on the page, and files or texts that are pasted outside of a field.
 * @param {{ isOpen: () => boolean, onFiles: (files: File[]) => void, onText: (text: string) => void }} options
 */
export function takeDrops({ isOpen, onFiles, onText }) {
  const veil = h(
    "div",
    { class: "drop-veil", data: { testid: "drop-veil" }, hidden: true },
    h("p", {}, SONGS.dropHere),
  );
  document.body.append(veil);
  const hasFiles = (event) => isOpen() && [...(event.dataTransfer?.types ?? [])].includes("Files");
  let hide = null;
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    veil.hidden = false;
    // Browsers differ in the events at the end of a drag, but all repeat `dragover` while it lasts.
    clearTimeout(hide);
    hide = setTimeout(() => (veil.hidden = true), 400);
  });
  addEventListener("drop", (event) => {
    clearTimeout(hide);
    veil.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length > 0) onFiles(files);
  });
  addEventListener("paste", (event) => {
    if (!isOpen() || event.target.closest?.("input, textarea, [contenteditable]")) return;
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (files.length > 0) onFiles(files);
    else if (text.trim() !== "") onText(text);
    else return;
    event.preventDefault();
  });
}

/** The name of a format. */
export const formatName = (format) => SONGS.formats[format] ?? format;
