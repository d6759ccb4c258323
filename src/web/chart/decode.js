// From the bytes of a file to text, and from text to its format. Both look at the content and never at a name, apart
// from the archives of MusicXML.

import { isChord, isKnownDirective, readChordLine, readDirectives, readHead, readHeader, splitLines } from "./source.js";

/** A file that BandSync does not read. `code` is a key of `CHART.refused` in texts.js. */
export class ChartError extends Error {
  constructor(code) {
    super(`not a text chart: ${code}`);
    this.name = "ChartError";
    this.code = code;
  }
}

/** Windows-1252 from 0x80 to 0x9F; all other bytes are the code point itself. Five places are control characters. */
const WINDOWS_1252 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8DŽ\x8F\x90‘’“”•–—˜™š›œ\x9DžŸ";

/**
 * Decodes a file. A byte order mark of UTF-8 stays in the text as U+FEFF, so that the text saved is the file again.
 *
 * @param {Uint8Array} bytes
 * @param {string} [fileName]
 * @returns {{ text: string, encoding: "utf-8" | "utf-16le" | "utf-16be" | "windows-1252" }}
 * @throws {ChartError} if the file is not a text chart
 */
export function decode(bytes, fileName = "") {
  const foreign = foreignBytes(bytes, fileName);
  if (foreign) throw new ChartError(foreign);
  const { text, encoding } = decodeText(bytes);
  const start = text.slice(0, 4096).replace(/^[\uFEFF\s]+/, "");
  const isXml = /^(?:<\?xml|<!DOCTYPE|<score-|<museScore)/i.test(start);
  if (isXml && /<(?:score-partwise|score-timewise|museScore)[\s>]/.test(start)) throw new ChartError("musicxml");
  if (/^(?:<svg[\s>]|<\?xml[^>]*>\s*(?:<!DOCTYPE svg|<svg[\s>]))/i.test(start)) throw new ChartError("image");
  return { text, encoding };
}

/**
 * Encodes a text as `decode` found it, so that the bytes are those of the file if the text is.
 *
 * @returns {Uint8Array | null} null if Windows-1252 lacks a letter of the text
 */
export function encode(text, encoding) {
  if (encoding === "utf-8") return new TextEncoder().encode(text);
  if (encoding === "windows-1252") {
    const bytes = Array.from(text, (letter) => {
      const at = WINDOWS_1252.indexOf(letter);
      const code = at < 0 ? letter.codePointAt(0) : 0x80 + at;
      return code < 0x80 || (code > 0x9f && code <= 0xff) || at >= 0 ? code : -1;
    });
    return bytes.includes(-1) ? null : Uint8Array.from(bytes);
  }
  const view = new DataView(new ArrayBuffer(2 + 2 * text.length));
  const isLittle = encoding === "utf-16le";
  view.setUint16(0, 0xfeff, isLittle);
  for (let i = 0; i < text.length; i += 1) view.setUint16(2 + 2 * i, text.charCodeAt(i), isLittle);
  return new Uint8Array(view.buffer);
}

function decodeText(bytes) {
  const [first, second] = bytes;
  for (const [encoding, a, b] of [["utf-16le", 0xff, 0xfe], ["utf-16be", 0xfe, 0xff]]) {
    if (first === a && second === b) return { text: decodeUtf16(bytes.subarray(2), encoding === "utf-16le"), encoding };
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { text, encoding: "utf-8" };
  } catch {
    return { text: decodeWindows1252(bytes), encoding: "windows-1252" };
  }
}

/** Decodes UTF-16. Lone surrogates stay, so nothing is lost but half a character at the end. */
function decodeUtf16(bytes, isLittle) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return inPieces(bytes.length >> 1, (i) => view.getUint16(2 * i, isLittle));
}

/** Decodes Windows-1252. `TextDecoder` is not used, because some versions of Node decode Latin-1 instead. */
const decodeWindows1252 = (bytes) => {
  const codeOf = (byte) => (byte >= 0x80 && byte <= 0x9f ? WINDOWS_1252.charCodeAt(byte - 0x80) : byte);
  return inPieces(bytes.length, (i) => codeOf(bytes[i]));
};

/** Makes a text of `length` code units, in pieces that fit into the arguments of a call. */
function inPieces(length, unitAt) {
  const pieces = [];
  for (let from = 0; from < length; from += 4096) {
    const units = Array.from({ length: Math.min(4096, length - from) }, (_, i) => unitAt(from + i));
    pieces.push(String.fromCharCode(...units));
  }
  return pieces.join("");
}

/** First bytes of files that are no text, as Latin-1. */
const MAGIC = [
  ["\x89PNG", "image"], ["\xFF\xD8\xFF", "image"], ["GIF87a", "image"], ["GIF89a", "image"], ["II*\0", "image"],
  ["MM\0*", "image"], ["BCFZ", "guitarpro"], ["BCFS", "guitarpro"], ["{\\rtf", "document"],
  ["\xD0\xCF\x11\xE0", "document"], ["\x1F\x8B", "archive"], ["7z\xBC\xAF", "archive"], ["Rar!", "archive"],
  ["MThd", "binary"], ["SQLite format 3\0", "binary"],
];

/** Returns the code of the refusal if the bytes are of a known foreign format or no text, else null. */
function foreignBytes(bytes, fileName) {
  const start = String.fromCharCode(...bytes.subarray(0, 4096));
  if (start.slice(0, 1024).includes("%PDF-")) return "pdf";
  if (/^[\x14-\x20]?FICHIER GUITAR PRO/.test(start)) return "guitarpro";
  const magic = MAGIC.find(([first]) => start.startsWith(first));
  if (magic) return magic[1];
  if (start.startsWith("RIFF") && start.slice(8, 12) === "WEBP") return "image";
  if (/^....ftyp(?:hei|hev|mif1|msf1|avi)/s.test(start)) return "image";
  if (start.startsWith("BM") && bytes.length > 26 && readSize(bytes) === bytes.length) return "image";
  if (start.startsWith("PK\x03\x04")) return archiveKind(start, fileName);
  if (start.startsWith("\xFF\xFE") || start.startsWith("\xFE\xFF")) return null;
  return isBinary(bytes) ? "binary" : null;
}

const readSize = (bytes) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(2, true);

function archiveKind(start, fileName) {
  if (/\.mxl$/i.test(fileName) || /META-INF\/container\.xml|\.musicxml|\.mscx/.test(start)) return "musicxml";
  if (/\.gpx?$/i.test(fileName) || /score\.gpif|Content\/|VERSIONPK/.test(start)) return "guitarpro";
  if (/\[Content_Types\]\.xml|word\/|mimetypeapplication\/|Index\/Document\.iwa/.test(start)) return "document";
  return "archive";
}

/** Whether bytes are no text: a zero byte, or more than one control character in fifty bytes. */
function isBinary(bytes) {
  let controls = 0;
  for (const byte of bytes) {
    if (byte === 0) return true;
    if (byte < 0x20 && (byte < 0x09 || byte > 0x0d) && byte !== 0x1a && byte !== 0x1b) controls += 1;
  }
  return controls * 50 > bytes.length;
}

/** Lines at the top among which an OnSong file has its headers. */
const HEADER_LINES = 20;
/** Directives that OnSong files have too. */
const SHARED = new Set(["comment", "comment_italic", "comment_box", "highlight"]);

/**
 * Finds the format of a text by its content.
 *
 * @param {string} text
 * @returns {"chordpro" | "onsong" | "opensong" | "over" | "words"}
 */
export function detect(text) {
  const start = text.slice(0, 4096).replace(/^[\uFEFF\s]+/, "");
  if (start.startsWith("<") && /<song[\s>]/i.test(start) && /<lyrics[\s>/]/i.test(text)) return "opensong";
  const found = { directives: 0, shared: 0, headers: 0, heads: 0, brackets: 0, chords: 0 };
  let isEarly = HEADER_LINES;
  for (const { text: line } of splitLines(text.replace(/^\uFEFF/, ""))) {
    if (line.trim() === "") continue;
    isEarly -= 1;
    const directives = (readDirectives(line) ?? []).filter(({ name }) => isKnownDirective(name));
    if (directives.some(({ name }) => SHARED.has(name))) found.shared += 1;
    else if (directives.length > 0) found.directives += 1;
    else if (isEarly >= 0 && readHeader(line)) found.headers += 1;
    else if (readHead(line)?.isMarked) found.heads += 1;
    else if (hasBracketChord(line)) found.brackets += 1;
    else found.chords += readChordLine(line)?.filter(({ kind }) => kind === "chord").length ?? 0;
  }
  if (found.directives > 0 || (found.shared > 0 && found.headers === 0)) return "chordpro";
  if (found.headers > 0 || (found.heads > 0 && found.brackets > 0)) return "onsong";
  if (found.brackets > 0) return "chordpro";
  return found.chords > 1 ? "over" : "words";
}

function hasBracketChord(line) {
  for (const [, content] of line.matchAll(/\[([^[\]]*)\]/g)) if (isChord(content.trim())) return true;
  return false;
}
