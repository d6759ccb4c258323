// The course of a song: which sections are played in which order, and which key, tempo, meter and transposition hold.
//
// What holds at a section depends on where it stands in the text, not on what was played before it: a section that
// `flow` plays again is the same music again. A call such as `{chorus}` takes tempo, key and transposition from its own
// place. It takes the meter from the called section, unless `{time}` stands right before the call.

/** Maximum number of sections in playing order. Guessed: no song plays that many. */
export const PASSES_MAX = 1000;

const COMMON_TIME = Object.freeze({ num: 4, den: 4 });
const SOUNDING = new Set(["words", "chords", "grid", "tab"]);

/** Whether a line takes time. Lines for one instrument do not: all members share one song map. */
export const sounds = (line) => SOUNDING.has(line.kind) && !line.only;

/**
 * What holds at a place of the text.
 *
 * @typedef {object} Hold
 * @property {string} key as written, "" if unknown
 * @property {number} transpose semitones
 * @property {number | null} tempo as written
 * @property {{ num: number, den: number }} time
 * @property {{ num: number, den: number } | null} tempoTime the meter for which the tempo was written; null until a
 *   line has sounded since
 */

/** What holds before the first section. @returns {Hold} */
export const holdAtStart = (chart) => ({
  key: chart.key ?? "",
  transpose: wholeOr(chart.transpose, 0),
  tempo: isTempo(chart.tempo) ? chart.tempo : null,
  time: isMeter(chart.time) ? chart.time : COMMON_TIME,
  tempoTime: null,
});

/** What holds after a line. @param {Hold} hold @returns {Hold} */
export function holdAfter(hold, line) {
  if (sounds(line)) return hold.tempoTime ? hold : { ...hold, tempoTime: hold.time };
  const change = line.kind === "change" ? line.change : null;
  if (!change) return hold;
  const next = { ...hold };
  if (typeof change.key === "string") next.key = change.key;
  if (Number.isFinite(change.transpose)) next.transpose = Math.round(change.transpose);
  if (isTempo(change.tempo)) [next.tempo, next.tempoTime] = [change.tempo, null];
  if (isMeter(change.time)) next.time = change.time;
  return next;
}

/** What holds where each section begins, in the order of the text. A call is entered with its own changes applied. */
export function holdsOf(chart) {
  const entries = [];
  let hold = holdAtStart(chart);
  for (const section of chart.sections) {
    const target = calledBy(chart, entries.length);
    const before = hold;
    for (const line of section.lines) hold = holdAfter(hold, line);
    if (target < 0) {
      entries.push(before);
      continue;
    }
    const own = section.lines.some((line) => isMeter(line.change?.time));
    entries.push(own ? hold : { ...hold, time: (entries[target] ?? before).time });
  }
  return entries;
}

/** The index of the section that a call plays; -1 if the section calls none. */
export function calledBy(chart, index) {
  const target = chart.sections[index]?.calls ?? -1;
  return Number.isInteger(target) && target >= 0 && target < index && !((chart.sections[target].calls ?? -1) >= 0)
    ? target
    : -1;
}

/**
 * The sections in playing order, each repeat on its own.
 *
 * @returns {{ order: { section: number, place: number, name: string }[], comments: { before: number, text: string }[],
 *   cut: boolean }} `section` has the lines, `place` is where the text names it: a call, or the section itself. A
 *   comment is a word of `flow` that names no section; it stands before an entry of `order`. `cut` says that the end of
 *   a longer song is missing
 */
export function courseOf(chart) {
  const order = [];
  const comments = [];
  let cut = false;
  const play = (place) => {
    const { name, times, only } = chart.sections[place];
    if (only) return;
    const called = calledBy(chart, place);
    const section = called < 0 ? place : called;
    if (!chart.sections[section].lines.some(sounds)) return;
    const n = Math.max(1, wholeOr(times, 1));
    for (let i = 0; i < n; i += 1) {
      if (order.length >= PASSES_MAX) {
        cut = true;
        return;
      }
      order.push({ section, place, name: name || chart.sections[section].name || "" });
    }
  };
  if (chart.flow?.length > 0) {
    const find = finder(chart);
    for (const word of chart.flow) {
      if (cut || comments.length >= PASSES_MAX) break;
      const place = find(String(word));
      if (place >= 0) play(place);
      else if (String(word).trim() !== "") comments.push({ before: order.length, text: String(word).trim() });
    }
    if (order.length > 0) return { order, comments, cut };
  }
  // Without a flow, or if it names no section that sounds, the order of the text.
  for (let place = 0; place < chart.sections.length && !cut; place += 1) play(place);
  return { order, comments, cut };
}

/**
 * Finds the section that a word of `flow` names: by its name, else by shorthand such as "V1", "C", "PC" or "Vs 2".
 * Of several, one without a number comes first, then the first one in the text.
 */
function finder(chart) {
  const found = new Map();
  const named = [];
  chart.sections.forEach(({ kind, name, calls, only }, index) => {
    if (only || calls >= 0) return;
    const full = plain(name);
    named.push({ index, full, ...numbered(full), kind: plain(kind) });
  });
  const tiers = [
    (s, { letters }) => s.letters === letters,
    (s, { letters }) => initials(s.letters) === letters,
    (s, { letters }) => initials(s.kind) === letters,
    (s, { letters }) => joined(s.letters).startsWith(letters),
    (s, { letters }) => s.kind.startsWith(letters),
    (s, { letters }) => letters.length <= 3 && isShort(letters, joined(s.letters)),
  ];
  const search = (word) => {
    const exact = named.find(({ full }) => full === word);
    if (exact) return exact.index;
    const wanted = numbered(word);
    wanted.letters = joined(wanted.letters);
    if (wanted.letters === "") return -1;
    for (const fits of tiers) {
      const all = named.filter((s) => s.full !== "" && fits(s, wanted));
      if (all.length === 0) continue;
      const best =
        wanted.number === null
          ? (all.find(({ number }) => number === null) ?? all[0])
          : (all.find(({ number }) => number === wanted.number) ??
            (all.every(({ number }) => number === null) ? all[wanted.number - 1] : undefined));
      if (best) return best.index;
    }
    return -1;
  };
  return (text) => {
    const word = plain(text);
    if (!found.has(word)) found.set(word, word === "" ? -1 : search(word));
    return found.get(word);
  };
}

const plain = (text) => String(text ?? "").normalize("NFC").toLowerCase().replace(/\s+/g, " ").replace(/[\s:]+$/, "").trim();
const joined = (text) => text.replace(/[\s\-‐–]+/g, "");
const initials = (text) => text.split(/[\s\-‐–]+/).map((word) => [...word][0] ?? "").join("");

function numbered(text) {
  const [, letters, digits] = /^(.*?)[\s.]*(\d{1,3})$/.exec(text) ?? [null, text, null];
  return { letters, number: digits === null ? null : Number(digits) };
}

/** Whether the letters are those of a word in their order, from its first one on, as "vs" of "verse". */
function isShort(letters, word) {
  if (letters[0] !== word[0]) return false;
  let at = 0;
  for (const letter of letters) {
    at = word.indexOf(letter, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

const isTempo = (tempo) => Number.isFinite(tempo) && tempo > 0;
const isMeter = (time) =>
  Number.isInteger(time?.num) && time.num >= 1 && time.num <= 32 && [1, 2, 4, 8, 16, 32].includes(time.den);
const wholeOr = (x, otherwise) => (Number.isFinite(x) ? Math.round(x) : otherwise);
