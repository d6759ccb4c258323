// Chords and keys: reads a chord, shifts it, and writes it in the notation that a member wants.
//
// After a shift a chord is spelled by its degree in the target key, with the letter counted from the tonic's letter. So
// the flat sixth of G is E♭, and its seventh is F♯. A text that is no chord is returned as it is, and so is every chord
// if nothing is shifted and the notation is the file's.

import { calledBy, courseOf, holdAfter, holdsOf } from "./course.js";

const LETTERS = ["C", "D", "E", "F", "G", "A", "B"];
const NATURAL = [0, 2, 4, 5, 7, 9, 11];
const SOLFEGE = ["Do", "Re", "Mi", "Fa", "Sol", "La", "Si"];
const SIGNS = { "#": 1, "♯": 1, b: -1, "♭": -1, is: 1, es: -1 };
/** Names of the tonics by pitch. */
const MAJOR = "C D♭ D E♭ E F F♯ G A♭ A B♭ B".split(" ");
const MINOR = "C C♯ D E♭ E F F♯ G G♯ A B♭ B".split(" ");
/** Degrees by semitones above the tonic. */
const DEGREES = "1 ♭2 2 ♭3 3 4 ♯4 5 ♭6 6 ♭7 7".split(" ");
const STEPS = DEGREES.map((degree) => Number(degree.at(-1)) - 1);

/** Semitones by which instruments are written above their sound. */
export const INSTRUMENTS = Object.freeze({ "": 0, "B♭": 2, "E♭": 9, F: 7 });

/** Notations that a view can have. "letters" means the letters of the file, "english" always has B below C. */
export const NOTATIONS = Object.freeze(["letters", "german", "nashville", "solfege", "english"]);

/** Maximum length of a chord's text. Guessed. */
const CHORD_MAX = 32;

const KNOWN =
  /(?:[Mm]aj(?:or)?|MAJ|[Mm]in(?:or)?|mi|ma|dim|aug|sus|add|alt|omit|no|dom|[mMho°ºøØΔ∆△^+\-#♯b♭(),*'’]|\d+|\/(?=\d))/y;

/**
 * A chord.
 *
 * @typedef {object} Chord
 * @property {number | null} root pitch from 0 (C) to 11 (B); null if only the bass is named, as in "/F♯"
 * @property {string} quality the text after the root, such as "m7b5"
 * @property {number | null} bass
 * @property {string} text as written
 * @property {Note | null} rootNote the root as spelled
 * @property {Note | null} bassNote
 * @property {boolean} optional whether it stands in parentheses
 */

/** @typedef {{ letter: number, sign: number }} Note letter from 0 (C) to 6 (B), sign from -2 (♭♭) to 2 */

/** Words that may follow the tonic of a key. */
const MINOR_MODES = /^(?:minor|moll|mineur|minore|dorian|phrygian|aeolian|locrian)/i;
const MODES = /^(?:major|dur|majeur|maggiore|ionian|lydian|mixolydian|minor|moll|mineur|minore|dorian|phrygian|aeolian|locrian)/i;

/** Whether a text says that no chord is played. */
export const isNoChord = (text) => /^\(?n\.?\s?c\.?\)?$/i.test(text.trim());

/** Whether chords are written in German: only there H is a note. */
export const isGerman = (texts) => texts.some((text) => /^\(?H/.test(text) && readChord(text, "german") !== null);

/**
 * Reads a chord. Unknown qualities are kept as text, but words such as "Break" are no chords.
 *
 * @param {string} text
 * @param {"letters" | "german"} [notation] of the text. In "german" B is B♭, H is B, and small letters are minor chords
 * @returns {Chord | null} null if the text is no chord
 */
export function readChord(text, notation = "letters") {
  if (typeof text !== "string" || text.length > CHORD_MAX) return null;
  const trimmed = text.trim();
  const optional = /^\(.*\)$/.test(trimmed);
  const inner = optional ? trimmed.slice(1, -1) : trimmed;
  const slash = inner.lastIndexOf("/");
  const bassNote = slash < 0 ? null : readNote(inner.slice(slash + 1), notation, true);
  const upper = bassNote ? inner.slice(0, slash) : inner;
  if (bassNote && upper === "") {
    return { root: null, quality: "", bass: pitchOf(bassNote), text, rootNote: null, bassNote, optional };
  }
  const head = readRoot(upper, notation);
  if (!head || !isQuality(head.rest)) return null;
  const isMinor = head.small && !/^(?:m(?!aj)|dim|aug|sus|[°øo+-])/.test(head.rest);
  return {
    root: pitchOf(head.note),
    quality: (isMinor ? "m" : "") + head.rest,
    bass: bassNote && pitchOf(bassNote),
    text,
    rootNote: head.note,
    bassNote,
    optional,
  };
}

/**
 * Makes a function that writes the chords of a text in one key.
 *
 * @param {object} options
 * @param {object} [options.chart] whose key and notation hold, unless `key` and `source` are given
 * @param {Key | string} [options.key] of the chords as written
 * @param {"letters" | "german"} [options.source] notation of the chords as written
 * @param {number} [options.shift] semitones, as `viewShift` returns them
 * @param {string} [options.notation] of the result, one of `NOTATIONS`
 * @param {boolean} [options.minorAsRelative] whether Nashville counts a minor key from its relative major
 * @returns {(text: string) => string}
 */
export function chordWriter(options = {}) {
  const { chart = null, shift = 0, notation = "letters", minorAsRelative = true } = options;
  const source = options.source ?? chart?.notation ?? "letters";
  const key = asKey(options.key, source) ?? (chart ? writtenKey(chart) : null);
  const by = mod(shift, 12);
  const target = alphabetOf(notation, source);
  const spell = (note) => {
    if (by === 0) return note;
    const pitch = mod(pitchOf(note) + by, 12);
    return key ? noteInKey(pitch, mod(key.tonic + by, 12), key.minor) : tonicNote(pitch, false);
  };
  const tonic = key && mod(key.tonic + (key.minor && minorAsRelative ? 3 : 0), 12);
  const name =
    notation === "nashville" && key
      ? (note) => DEGREES[mod(pitchOf(note) - tonic, 12)]
      : (note) => noteName(spell(note), target);
  const isSame = by === 0 && target === source && notation !== "nashville";
  const written = new Map();
  const write = (text) => {
    const chord = isSame ? null : readChord(text, source);
    if (!chord) return text;
    const { rootNote, bassNote, optional } = chord;
    let { quality } = chord;
    if (notation === "nashville") quality = quality.replace(/^\d+/, raised);
    const root = rootNote ? name(rootNote) + quality : "";
    const all = bassNote ? `${root}/${name(bassNote)}` : root;
    return optional ? `(${all})` : all;
  };
  return (text) => {
    if (!written.has(text)) written.set(text, write(text));
    return written.get(text);
  };
}

/**
 * A key.
 *
 * @typedef {object} Key
 * @property {number} tonic pitch from 0 to 11
 * @property {boolean} minor
 * @property {boolean} guessed whether it follows from the chords
 * @property {Note} note the tonic as spelled
 * @property {"letters" | "german"} source notation of the file that names it
 */

/**
 * Reads a key such as "Bb", "F# minor", "c-Moll" or "Am".
 *
 * @returns {Key | null}
 */
export function readKey(text, notation = "letters") {
  const head = typeof text === "string" ? readRoot(text.trim(), notation) : null;
  if (!head) return null;
  const mode = head.rest.replace(/^[\s-]+(?=\p{L})/u, "").trim();
  if (!isQuality(mode) && !MODES.test(mode)) return null;
  const isMinor = isMinorQuality(mode) || MINOR_MODES.test(mode) || (head.small && !MODES.test(mode));
  return { tonic: pitchOf(head.note), minor: isMinor, guessed: false, note: head.note, source: notation };
}

/** The key of the chords as written: the chart's, else that of the song's last chord, else of the first. */
export function writtenKey(chart) {
  const key = readKey(chart.key, chart.notation);
  if (key) return key;
  const { order } = courseOf(chart);
  const sections = order.map(({ section }) => chart.sections[section]);
  const chord = lastChord(sections.at(-1), chart.notation) ?? lastChord(sections.findLast(hasChord(chart)), chart.notation);
  if (!chord) return null;
  return { tonic: chord.root, minor: isMinorQuality(chord.quality), guessed: true, note: chord.rootNote, source: chart.notation ?? "letters" };
}

/**
 * The key in which the band sounds: that of the written chords, up by the file's capo and transposition.
 *
 * @returns {Key & { text: string }} `text` is "" if the song has neither a key nor a chord
 */
export function soundingKey(chart) {
  const key = writtenKey(chart);
  if (!key) return { tonic: 0, minor: false, guessed: true, note: { letter: 0, sign: 0 }, source: "letters", text: "" };
  const sounding = shiftedKey(key, (chart.capo || 0) + (chart.transpose || 0));
  const text = keyName(sounding);
  return { ...sounding, text: key.guessed ? `${text}?` : text };
}

/** The name of a key after a shift, such as "F♯m". @param {Key | string} key @param {string} [notation] */
export function keyName(key, shift = 0, notation = "letters") {
  const read = asKey(key, notation === "german" ? "german" : "letters");
  if (!read) return typeof key === "string" ? key : "";
  const { note, minor } = shiftedKey(read, shift);
  return noteName(note, alphabetOf(notation, read.source ?? "letters")) + (minor ? "m" : "");
}

/**
 * Semitones between the chords as written and the chords that a member sees. An own capo lowers the shapes below the
 * sound. Without one a file's capo stays: the written chords are its shapes. Wind instruments read the sound.
 *
 * @param {object} chart
 * @param {{ shift?: number, capo?: number, instrument?: string }} view
 * @param {number} [transpose] that holds at the place
 */
export function viewShift(chart, view = {}, transpose = chart.transpose || 0) {
  const { shift = 0, capo = 0, instrument = "" } = view;
  const up = INSTRUMENTS[instrument] ?? 0;
  const sound = up > 0 || capo > 0 ? chart.capo || 0 : 0;
  return transpose + shift + sound + up - capo;
}

/** What the header says: the sounding key, the key of the shapes that a member plays, and the capo. */
export function keysFor(chart, view = {}) {
  const sounds = soundingKey(chart);
  const key = writtenKey(chart);
  const capo = view.capo > 0 ? view.capo : INSTRUMENTS[view.instrument] > 0 ? 0 : chart.capo || 0;
  return { sounds, plays: key && shiftedKey(key, viewShift(chart, view)), capo };
}

/**
 * Makes the writers of a whole chart: key and transposition hold from where they stand.
 *
 * @param {object} chart
 * @param {{ shift?: number, capo?: number, instrument?: string, notation?: string, minorAsRelative?: boolean }} view
 * @returns {(section: number, line?: number, place?: number) => (text: string) => string} the writer for a line.
 *   `place` is the index of the section that calls it, if it is not played from its own place
 */
export function chartWriter(chart, view = {}) {
  const entries = holdsOf(chart);
  const byLine = new Map();
  const writers = new Map();
  const unknown = writtenKey(chart);
  const writerFor = ({ key, transpose }) => {
    const name = `${transpose} ${key}`;
    if (!writers.has(name)) {
      const { notation, minorAsRelative } = view;
      const shift = viewShift(chart, view, transpose);
      const read = readKey(key, chart.notation) ?? unknown;
      writers.set(name, chordWriter({ key: read, source: chart.notation, shift, notation, minorAsRelative }));
    }
    return writers.get(name);
  };
  return (section, line = 0, place = section) => {
    if (!byLine.has(place)) {
      const called = calledBy(chart, place);
      let hold = entries[place];
      byLine.set(
        place,
        (chart.sections[called < 0 ? place : called]?.lines ?? []).map((each) => writerFor((hold = holdAfter(hold, each)))),
      );
    }
    return byLine.get(place)[line] ?? writerFor(entries[place] ?? entries[0] ?? { key: chart.key, transpose: chart.transpose || 0 });
  };
}

const alphabetOf = (notation, source) =>
  notation === "german" || notation === "solfege" ? notation : notation === "letters" ? source : "letters";

const asKey = (key, notation) => (typeof key === "string" ? readKey(key, notation) : (key ?? null));

function shiftedKey(key, shift) {
  const tonic = mod(key.tonic + shift, 12);
  const isSame = mod(shift, 12) === 0;
  return { ...key, tonic, note: isSame && key.note ? key.note : tonicNote(tonic, key.minor) };
}

function tonicNote(pitch, isMinor) {
  return readNote((isMinor ? MINOR : MAJOR)[pitch], "letters");
}

/** Spells a pitch by its degree in a key. Double signs, E♯, B♯, F♭ and C♭ are replaced. */
function noteInKey(pitch, tonic, isMinor) {
  const { letter: first, sign: tonicSign } = tonicNote(tonic, isMinor);
  const letter = (first + STEPS[mod(pitch - tonic, 12)]) % 7;
  const sign = mod(pitch - NATURAL[letter] + 6, 12) - 6;
  const natural = NATURAL.indexOf(pitch);
  if (natural >= 0) return { letter: natural, sign: 0 };
  if (Math.abs(sign) <= 1) return { letter, sign };
  const up = tonicSign > 0 ? 1 : -1;
  return { letter: NATURAL.indexOf(mod(pitch - up, 12)), sign: up };
}

function noteName({ letter, sign }, alphabet) {
  const name = LETTERS[letter];
  if (alphabet !== "german") return (alphabet === "solfege" ? SOLFEGE[letter] : name) + ["♭♭", "♭", "", "♯", "♯♯"][sign + 2];
  if (name === "B") return ["Heses", "B", "H", "His", "Hisis"][sign + 2];
  return name + ["EA".includes(name) ? "ses" : "eses", "EA".includes(name) ? "s" : "es", "", "is", "isis"][sign + 2];
}

/** Reads the note at the beginning of a text: `{ note, rest, small }`. */
function readRoot(text, notation) {
  if (notation !== "german") {
    // "Ebb" has two signs, "Ebb5" has a flat fifth.
    const [, name, signs = "", rest] = /^([A-G])([#♯]{2}(?!\d)|[b♭]{2}(?!\d)|[#♯b♭])?(.*)$/s.exec(text) ?? [];
    return name ? { note: { letter: LETTERS.indexOf(name), sign: signs.length * (SIGNS[signs[0]] ?? 0) }, rest, small: false } : null;
  }
  const [, name, written = "", after] = /^([A-Ha-h])(is|es|[#♯b♭])?(.*)$/s.exec(text) ?? [];
  if (!name) return null;
  const upper = name.toUpperCase();
  // "Es" and "As", but "Esus4" is E with a suspended fourth.
  const isShort = written === "" && "EA".includes(upper) && after.startsWith("s") && !after.startsWith("sus");
  const rest = isShort ? after.slice(1) : after;
  const sign = isShort ? -1 : (SIGNS[written] ?? 0);
  if (upper === "B" && sign > 0) return null;
  const note = { letter: LETTERS.indexOf(upper === "H" ? "B" : upper), sign: upper === "B" ? -1 : sign };
  return { note, rest, small: name !== upper };
}

function readNote(text, notation, anySize = false) {
  const read = readRoot(text, notation);
  return read && read.rest === "" && (anySize || !read.small) ? read.note : null;
}

/** Whether a text may stand after a root. A word that begins with the letter of a note is no chord. */
function isQuality(text) {
  KNOWN.lastIndex = 0;
  let end = 0;
  while (KNOWN.test(text)) end = KNOWN.lastIndex;
  const rest = text.slice(end);
  if (/mm(?!aj)/.test(text)) return false;
  if (rest === "") return true;
  if (/[\s|/\\A-H]|\.\p{L}/u.test(rest)) return false;
  return !/^\p{L}/u.test(rest) || /[\d(]$/.test(text.slice(0, end));
}

const isMinorQuality = (quality) => /^(?:m(?!aj|ixo|agg)|Min|-|dim|°|o(?!mit)|ø|h)/.test(quality);

const chordsOf = (section, notation) =>
  (section?.lines ?? []).flatMap(({ parts = [], only }) =>
    only ? [] : parts.flatMap(({ mark }) => (mark?.kind === "chord" ? [readChord(mark.text, notation)] : [])),
  );
const lastChord = (section, notation) => chordsOf(section, notation).findLast((chord) => chord?.root != null);
const hasChord = (chart) => (section) => lastChord(section, chart.notation) !== undefined;

const raised = (digits) => [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("");
const pitchOf = ({ letter, sign }) => mod(NATURAL[letter] + sign, 12);
const mod = (n, d) => ((n % d) + d) % d;
