// Reads ChordPro text into charts.
//
// The text is read once, line by line. A fault never stops the reading: the words at fault stay text, and a problem
// names them. The result holds plain text only; `<b>` and `<i>` become spans, any other markup stays as it is written.

import { CHART, fill } from "../texts.js";
import { isNoChord, readChord } from "./chord.js";
import { SOUNDING } from "./model.js";
import { isChord, isGermanChord, isKnownDirective, isNewSong, readDirectives, readLabel, splitLines } from "./source.js";

/** Maximum number of problems kept for a song. Guessed: nobody reads more. */
const PROBLEMS_MAX = 200;
/** Maximum length of the words that a problem quotes. */
const QUOTE_MAX = 60;
/** Maximum number of repeats that "x4" in a label or a flow may ask for. Guessed. */
const TIMES_MAX = 32;
/** Maximum number of entries in a flow, with repeats written out. Guessed. */
const FLOW_MAX = 500;

/** Sections in languages of their own, which are not shown. */
export const DELEGATES = new Set(["abc", "ly", "svg", "textblock", "musicxml"]);

const STYLES = { comment: "", comment_italic: "italic", comment_box: "box", highlight: "highlight" };

/** The first value counts: a song has one title. */
const SINGLE = new Set(["title", "subtitle"]);
/** All values count. */
const LISTS = new Set(["artist", "composer", "lyricist", "copyright"]);
const OTHER_META = new Set(["sorttitle", "sortartist", "arranger", "album", "year", "ccli", "tag"]);

/**
 * Reads all songs of a text. `{new_song}` separates them.
 *
 * @param {string} text
 * @returns {import("./model.js").Chart[]} at least one chart
 */
export function parseSongs(text) {
  return splitSongs(text).map(({ text }) => new Reader(text).read());
}

/** Reads the first song of a text. */
export const parseChart = (text) => parseSongs(text)[0];

/**
 * Cuts a text at its `{new_song}` lines, which belong to no song. What comes before the first of them is a song only if
 * it has content.
 *
 * @param {string} text
 * @param {(slice: string) => boolean} [isEmpty] whether a slice is no song
 * @returns {{ from: number, to: number, text: string }[]} at least one slice
 */
export function splitSongs(text, isEmpty = isBlank) {
  const slices = [];
  let from = 0;
  const cut = (to) => slices.push({ from, to, text: text.slice(from, to) });
  for (const line of splitLines(text)) {
    if (!isNewSong(line.text)) continue;
    cut(line.from);
    from = line.from + line.text.length + line.end.length;
  }
  cut(text.length);
  if (slices.length === 1) return slices;
  const songs = slices.filter((slice) => !isEmpty(slice.text));
  return songs.length > 0 ? songs : slices.slice(-1);
}

/** Whether a text has nothing to show: only empty lines, `#` lines and the name of a set list. */
export function isBlank(text) {
  const isListName = (line) => readDirectives(line)?.every(({ name }) => name === "x_setlist");
  const lines = splitLines(text.replace(/^\uFEFF/, ""));
  return lines.every(({ text }) => text.trim() === "" || text.startsWith("#") || isListName(text));
}

class Reader {
  #chart;
  #lines;
  /** The section that lines go to; null between sections. */
  #section = null;
  /** Whether that section has a `start_of_…`. */
  #isExplicit = false;
  /** A tab or grid inside that section: `{ kind, only }`. */
  #inner = null;
  /** Whether a line has sounded. Until then `{key}` and its like hold for the whole song. */
  #hasSounded = false;
  /** Changes that wait for the next section. */
  #changes = [];
  /** Timing that waits for the next sounding line or section. */
  #timing = {};
  #transposes = [0];
  /** Index of the last chorus; -1 before the first. */
  #chorus = -1;
  /** All chords with their lines. Whether they are readable depends on the notation of the whole song. */
  #chords = [];
  #notation = "";
  /** Index of the last line with each `end_of_…`, made when first needed. */
  #lastEnds = null;

  constructor(text) {
    this.#chart = {
      title: "", subtitle: "", artist: "", composer: "", lyricist: "", copyright: "", key: "", capo: 0, tempo: null,
      time: null, durationMs: null, felt: null, notation: "letters", barsPerLine: null, transpose: 0, flow: null,
      meta: Object.create(null), sections: [], problems: [], text,
    };
    this.#lines = splitLines(text.replace(/^\uFEFF/, ""));
  }

  read() {
    for (let i = 0; i < this.#lines.length; ) i = this.#readAt(i);
    this.#settleTiming();
    this.#close(false);
    this.#chart.sections.at(-1)?.lines.push(...this.#changes);
    nameSections(this.#chart.sections);
    this.#checkChords();
    this.#chart.problems.sort((a, b) => a.line - b.line);
    return this.#chart;
  }

  /** Finds the notation of the chords, and reports those that it does not have. */
  #checkChords() {
    // A song has few chords, each of them many times.
    const texts = [...new Set(this.#chords.map(({ text }) => text))];
    const isGerman = texts.some((text) => isGermanChord(text) || isSmallGerman(text)) || areSmallGerman(texts);
    const notation = this.#notation || (isGerman ? "german" : "letters");
    this.#chart.notation = notation;
    const unreadable = new Set(texts.filter((text) => !readChord(text, notation) && !isNoChord(text)));
    if (unreadable.size === 0) return;
    for (const { text, number } of this.#chords) if (unreadable.has(text)) this.#fault(number, "chord", text);
  }

  /** Reads the line at index `i` with those that it is joined with. Returns the index of the next line. */
  #readAt(i) {
    const first = this.#lines[i].text;
    const number = i + 1;
    if (first.startsWith("#")) return i + 1;
    const inTab = this.#kind() === "tab";
    let text = first;
    let next = i + 1;
    if (!inTab && first.endsWith("\\")) [text, next] = this.#join(i);
    const directives = text.includes("{") ? readDirectives(text) : null;
    if (directives && (!inTab || directives.every(({ name }) => isKnownDirective(name)))) {
      for (const directive of directives) next = this.#obey(directive, number, next);
    } else if (inTab) {
      this.#push(line("tab", number, { text }));
    } else {
      if (text.includes("{") && /^\s*\{/.test(text)) this.#fault(number, "brace", text.trim());
      this.#push(this.#kind() === "grid" ? this.#readGrid(text, number) : this.#readWords(text, number));
    }
    return next;
  }

  /** Joins the line at index `i` with the next one as long as it ends with a backslash. Directives stay alone. */
  #join(i) {
    const pieces = [this.#lines[i].text];
    let next = i + 1;
    while (next < this.#lines.length && pieces.at(-1).endsWith("\\") && !readDirectives(this.#lines[next].text)) {
      pieces.push(pieces.pop().slice(0, -1), this.#lines[next].text.trimStart());
      next += 1;
    }
    return [pieces.join(""), next];
  }

  /** The kind of the section that is read at present. */
  #kind() {
    return this.#inner?.kind ?? this.#section?.kind;
  }

  #fault(number, code, text) {
    const { problems } = this.#chart;
    if (problems.length >= PROBLEMS_MAX) return;
    const letters = text.length > QUOTE_MAX ? Array.from(text.slice(0, 2 * QUOTE_MAX + 2)) : [];
    const quoted = letters.length > QUOTE_MAX ? `${letters.slice(0, QUOTE_MAX - 1).join("")}…` : text;
    problems.push({ line: number, code, text: quoted });
  }

  // Sections

  #open(kind, label, number, only = "", isExplicit = true) {
    const { name, times } = readTimes(plain(label));
    const { bars = null, beats = null } = this.#timing;
    this.#timing = {};
    this.#section = { kind, name, times, calls: -1, bars, beats, only, source: number, lines: this.#changes };
    this.#changes = [];
    this.#chart.sections.push(this.#section);
    if (kind === "chorus") this.#chorus = this.#chart.sections.length - 1;
    this.#isExplicit = isExplicit;
  }

  /** Ends the present section. `isEnded` says that all its ends were read. */
  #close(isEnded) {
    if (!this.#section) return;
    if (!isEnded && (this.#isExplicit || this.#inner)) {
      const kind = this.#inner?.kind ?? this.#section.kind;
      this.#fault(this.#inner?.source ?? this.#section.source, "unclosed", `{start_of_${kind}}`);
    }
    const { lines } = this.#section;
    if (!this.#isExplicit) while (lines.at(-1)?.kind === "empty") lines.pop();
    this.#section = null;
    this.#inner = null;
    this.#isExplicit = false;
  }

  /** Adds a line to the present section, or to a new one without a name. */
  #push(added) {
    if (added.kind === "empty" && (!this.#section || (!this.#isExplicit && this.#section.lines.length === 0))) return;
    if (!this.#section) this.#open("text", "", added.source, "", false);
    if (SOUNDING.includes(added.kind)) {
      this.#hasSounded = true;
      this.#settleTiming();
    }
    if (added.only === "") added.only = this.#inner?.only || this.#section.only;
    this.#section.lines.push(added);
  }

  /** Gives timing that waits to the present section. */
  #settleTiming() {
    if (this.#section) Object.assign(this.#section, this.#timing);
    this.#timing = {};
  }

  #start(kind, { selector, value }, number, next) {
    if (DELEGATES.has(kind)) return this.#skip(kind, selector, number, next);
    let label = readLabel(value);
    if (kind === "grid") label = label.replace(/^(?:\d+\+)?\d+(?:x\d+)?(?:\+\d+)?(?=[\s:]|$)[\s:]*/, "");
    const isInner = (kind === "tab" || kind === "grid") && this.#isExplicit && this.#section.kind !== kind;
    if (isInner && !this.#inner && !["tab", "grid"].includes(this.#section.kind)) {
      this.#inner = { kind, only: selector, source: number };
      if (label !== "") this.#push(line("comment", number, { text: label, only: selector }));
      return next;
    }
    this.#close(false);
    this.#open(kind, label, number, selector);
    return next;
  }

  #end(kind, directive, number) {
    if (this.#inner?.kind === kind) this.#inner = null;
    else if (this.#isExplicit && this.#section.kind === kind) this.#close(!this.#inner);
    else this.#fault(number, "end", `{end_of_${kind}}`);
  }

  /** Skips a section in another language. Without an end its lines are read as text. */
  #skip(kind, selector, number, next) {
    this.#push(line("note", number, { text: fill(CHART.notShown, { name: kind }), only: selector }));
    const isEnd = ({ text }) => text.includes("{") && readDirectives(text)?.some((d) => d.name === `end_of_${kind}`);
    if (!this.#lastEnds) {
      this.#lastEnds = new Map();
      this.#lines.forEach(({ text }, at) => {
        if (!text.includes("{")) return;
        for (const { name } of readDirectives(text) ?? []) if (name.startsWith("end_of_")) this.#lastEnds.set(name, at);
      });
    }
    if (!(this.#lastEnds.get(`end_of_${kind}`) >= next)) {
      this.#fault(number, "unclosed", `{start_of_${kind}}`);
      return next;
    }
    let at = next;
    while (!isEnd(this.#lines[at])) at += 1;
    return at + 1;
  }

  /** Plays the last chorus again. */
  #call(label, number) {
    const calls = this.#chorus;
    if (calls < 0) {
      this.#fault(number, "chorus", "{chorus}");
      this.#push(line("comment", number, { text: label || CHART.sections.chorus, style: "box" }));
      return;
    }
    this.#close(false);
    this.#open("chorus", label, number, this.#chart.sections[calls].only);
    this.#section.calls = calls;
    this.#chorus = calls;
    this.#close(true);
  }

  // Directives

  /** Carries out a directive. Returns the index of the line to be read next. */
  #obey(directive, number, next) {
    const { name, selector, value } = directive;
    const section = /^(start|end)_of_(.+)$/.exec(name);
    if (section?.[1] === "start") return this.#start(section[2], directive, number, next);
    if (section) this.#end(section[2], directive, number);
    else if (Object.hasOwn(STYLES, name)) {
      if (value === "") return next;
      this.#push(line("comment", number, { text: plain(value), style: STYLES[name], only: selector }));
    } else if (name === "chorus" && selector === "") this.#call(readLabel(value), number);
    // Other directives with a selector are for one instrument's print-out. A band shares one key and one title.
    else if (selector !== "") this.#checkKnown(name, number);
    else if (name === "meta") this.#setMeta(value, number);
    else if (name === "transpose") this.#transpose(value, number);
    else if (name === "flow") this.#chart.flow = readFlow(value);
    else if (name.startsWith("x_")) this.#setOwn(name, value, number);
    else if (!this.#set(name, value, number)) this.#checkKnown(name, number);
    return next;
  }

  #checkKnown(name, number) {
    if (!isKnownDirective(name)) this.#fault(number, "directive", `{${name}}`);
  }

  /** Sets a field of the song. Returns false if the name is not one of them. */
  #set(name, value, number) {
    const chart = this.#chart;
    if (SINGLE.has(name)) chart[name] ||= plain(value);
    else if (LISTS.has(name)) chart[name] = [chart[name], plain(value)].filter((text) => text !== "").join(", ");
    else if (OTHER_META.has(name)) this.#addMeta(name, value);
    else if (Object.hasOwn(READERS, name)) this.#measure(name, value, number);
    else return false;
    return true;
  }

  #setMeta(value, number) {
    const [, name, rest] = /^(\S+)\s*(.*)$/s.exec(value) ?? [];
    if (name === undefined) this.#fault(number, "value", "{meta}");
    else if (!this.#set(name.toLowerCase(), rest.trim(), number)) this.#addMeta(name.toLowerCase(), rest.trim());
  }

  #addMeta(name, value) {
    const { meta } = this.#chart;
    meta[name] = name in meta ? `${meta[name]}; ${value}` : value;
  }

  /** Reads a field that has a value of its own form. Key, tempo and time hold from where they stand. */
  #measure(name, value, number) {
    const chart = this.#chart;
    const read = READERS[name](value);
    if (read === null) this.#fault(number, "value", `{${name}: ${value}}`);
    else if (name === "capo") chart.capo = read;
    else if (name === "duration") chart.durationMs = read;
    else if (!this.#hasSounded) chart[name] = read;
    else this.#change({ [name]: read }, number);
  }

  #transpose(value, number) {
    const found = /^([+-]?\d{1,2})\s*[sf#b♯♭]?$/.exec(value);
    if (value !== "" && !found) return this.#fault(number, "value", `{transpose: ${value}}`);
    if (value !== "") this.#transposes.push(Number(found[1]));
    else if (this.#transposes.length > 1) this.#transposes.pop();
    const semitones = this.#transposes.at(-1);
    if (this.#hasSounded) this.#change({ transpose: semitones }, number);
    else this.#chart.transpose = semitones;
  }

  #change(change, number) {
    const changed = line("change", number, { change });
    if (this.#section) this.#push(changed);
    else this.#changes.push(changed);
  }

  /** Our own directives. Those of others are theirs. */
  #setOwn(name, value, number) {
    const chart = this.#chart;
    const wrong = () => this.#fault(number, "value", `{${name}: ${value}}`);
    if (name === "x_bars" || name === "x_beats") {
      const numbers = readNumbers(value);
      if (!numbers) return wrong();
      const key = name.slice(2);
      // Outside of a section it belongs to what comes next: to more text, or to a call.
      this.#timing[key] = numbers;
      if (this.#isExplicit) this.#settleTiming();
    } else if (name === "x_felt") {
      if (!["", "1", "3"].includes(value)) return wrong();
      chart.felt = value === "" ? null : Number(value);
    } else if (name === "x_notation") {
      const notation = value.toLowerCase();
      if (notation !== "german" && notation !== "letters") return wrong();
      this.#notation = notation;
    } else if (name === "x_bars_per_line") {
      const [bars, ...others] = readNumbers(value) ?? [];
      if (bars === undefined || others.length > 0) return wrong();
      chart.barsPerLine = bars;
    }
  }

  // Lines

  /** Reads a line of words, chords and markup. */
  #readWords(text, number) {
    // Most lines of a long text are plain words.
    if (!/[[\]<]/.test(text)) {
      return INVISIBLE.test(text) ? line("empty", number) : line("words", number, { parts: [{ text, mark: null }] });
    }
    const parts = assemble(this.#tokens(text, number));
    const marks = parts.filter((part) => part.mark);
    const isWordless = parts.every((part) => INVISIBLE.test(part.text));
    if (!isWordless) return line("words", number, { parts });
    if (marks.length === 0) return line("empty", number);
    if (marks.some(({ mark }) => mark.kind !== "annotation")) return line("chords", number, { parts });
    // An annotation alone takes no time.
    const comment = marks.map(({ mark }) => mark.text).join(" ");
    return line("comment", number, { text: comment, style: "italic" });
  }

  /** Cuts a line into texts, marks and tags. */
  #tokens(text, number) {
    const tokens = [];
    const special = /\[([^[\]]*)\]|<\/?[bi]>|[[\]]/g;
    let from = 0;
    let isBroken = false;
    for (let found = special.exec(text); found; found = special.exec(text)) {
      const { 0: all, 1: content, index } = found;
      const mark = content === undefined ? null : this.#readMark(content.trim(), number);
      if ((all === "[" || all === "]") && !isBroken) {
        isBroken = true;
        this.#fault(number, "bracket", text.slice(index, index + 2 * QUOTE_MAX + 2));
      }
      if (!mark && all[0] !== "<") continue;
      if (index > from) tokens.push({ text: text.slice(from, index) });
      tokens.push(mark ? { mark } : { text: all, tag: all.at(-2), isEnd: all[1] === "/" });
      from = special.lastIndex;
    }
    if (from < text.length) tokens.push({ text: text.slice(from) });
    return this.#pairTags(tokens, number);
  }

  /** Takes tags without a pair for text. */
  #pairTags(tokens, number) {
    const open = { b: [], i: [] };
    for (const token of tokens) {
      if (!token.tag) continue;
      const partner = token.isEnd ? open[token.tag].pop() : null;
      if (!token.isEnd) open[token.tag].push(token);
      if (partner) [token.isTag, partner.isTag] = [true, true];
    }
    const single = tokens.find((token) => token.tag && !token.isTag);
    if (single) this.#fault(number, "markup", single.text);
    return tokens;
  }

  /** Reads the content of a bracket. Returns null if it is empty. */
  #readMark(text, number) {
    if (text.startsWith("*")) {
      const annotation = text.slice(1).trim();
      if (annotation !== "") return { kind: "annotation", text: annotation };
    } else if (text !== "") {
      if (BAR.test(text)) return { kind: "bar", text };
      if (text === "." || text === "/") return { kind: "beat", text };
      return this.#readChord(text, number);
    }
    this.#fault(number, "chord", `[${text}]`);
    return null;
  }

  #readChord(text, number) {
    this.#chords.push({ text, number });
    return { kind: "chord", text };
  }

  /** Reads a line of a grid. Words before the first bar line and after the last one are its margins. */
  #readGrid(text, number) {
    if (text.trim() === "") return line("empty", number);
    if (/^\s*\|[sS]\s/.test(text)) return line("note", number, { text: text.trim() });
    const tokens = [...text.matchAll(GRID_TOKEN)];
    const bars = tokens.filter(([token]) => BAR.test(token));
    const from = bars[0]?.index ?? 0;
    const to = bars.length > 0 ? bars.at(-1).index + bars.at(-1)[0].length : text.length;
    const hasCells = bars.length > 0 || tokens.some(([token]) => token === "." || token === "/" || isChord(token));
    if (!hasCells) return line("comment", number, { text: plain(text.trim()) });
    const parts = [];
    const margin = (words) => words !== "" && parts.push({ text: words, mark: null });
    margin(plain(text.slice(0, from).trim()));
    for (const { 0: token, index } of tokens) {
      if (index >= from && index < to) parts.push(...this.#readCell(token, number).map((mark) => ({ text: "", mark })));
    }
    margin(plain(text.slice(to).trim()));
    return line("grid", number, { parts });
  }

  #readCell(token, number) {
    if (BAR.test(token)) return [{ kind: "bar", text: token }];
    if (token === "." || token === "/") return [{ kind: "beat", text: token }];
    if (/^\*./.test(token)) return [{ kind: "annotation", text: token.slice(1) }];
    if (!/[\p{L}\p{N}]/u.test(token)) return [{ kind: "annotation", text: token }];
    const chords = token.split("~").filter((text) => text !== "");
    return chords.map((text, i) => ({ ...this.#readChord(text, number), ...(i > 0 ? { joined: true } : {}) }));
  }
}

/** Spaces and control characters, such as the end mark of old files. */
const INVISIBLE = /^[\s\0-\x1F]*$/;

/** Bar lines, with repeats and endings ("|1"). */
const BAR = /^(?::?\|[:.|]?|:\|:|:?\|\d{1,2}(?:[,.-]\d{1,2})*[.>]?)$/;
const GRID_TOKEN = /:\|:|:?\|(?:\d{1,2}(?:[,.-]\d{1,2})*[.>]?|[:.|])?|(?:(?!:\|)[^\s|])+/g;

/** Whether a text is a minor chord that only German writes so: `h`, `h7`, `fis`. */
const isSmallGerman = (text) => /^\(?(?:h|[cdfg]is)/.test(text) && readChord(text, "german") !== null;

/**
 * Whether small letters are minor chords: some are, `[a]` or `[e7]`, beside large ones, and all can be read so. Without an H, a B may
 * be of either notation, so a song with a B is left alone.
 */
function areSmallGerman(texts) {
  const chords = texts.filter((text) => !isNoChord(text));
  const isSmall = (text) => /^\(?[a-g]/.test(text) && !readChord(text, "letters");
  return chords.some(isSmall) && !chords.every(isSmall) && chords.every((text) => readChord(text, "german") && !/^\(?[Bb]|\/[Bb]/.test(text));
}

const NOTHING = Object.freeze({});

function line(kind, source, { parts = [], text = "", style = "", only = "", change = null } = NOTHING) {
  return { kind, parts, text, style, only, change, source };
}

/** Makes parts from tokens: a mark begins a part, and texts join the part before them. */
function assemble(tokens) {
  const parts = [];
  const depth = { b: 0, i: 0 };
  let spans = [];
  const finish = () => {
    const part = parts.at(-1);
    if (!part) return;
    part.text = spans.map((span) => span.text).join("");
    if (spans.some((span) => span.bold || span.italic)) part.spans = spans;
    spans = [];
  };
  const begin = (mark) => {
    finish();
    parts.push({ text: "", mark });
  };
  for (const token of tokens) {
    if (token.mark) begin(token.mark);
    else if (token.isTag) depth[token.tag] += token.isEnd ? -1 : 1;
    else {
      if (parts.length === 0) begin(null);
      const bold = depth.b > 0;
      const italic = depth.i > 0;
      const last = spans.at(-1);
      if (last && Boolean(last.bold) === bold && Boolean(last.italic) === italic) last.text += token.text;
      else spans.push({ text: token.text, ...(bold ? { bold } : {}), ...(italic ? { italic } : {}) });
    }
  }
  finish();
  return parts;
}

/** A text without its pairs of `<b>` and `<i>`, for places that show no markup. */
function plain(text) {
  if (!/<\/[bi]>/.test(text)) return text;
  const pieces = text.split(/(<\/?[bi]>)/);
  const open = { b: [], i: [] };
  pieces.forEach((piece, at) => {
    if (at % 2 === 0) return;
    const stack = open[piece.at(-2)];
    if (piece[1] !== "/") stack.push(at);
    else if (stack.length > 0) [pieces[stack.pop()], pieces[at]] = ["", ""];
  });
  return pieces.join("");
}

/** Names the sections that have no label, and takes the name of a called section if the call has none. */
function nameSections(sections) {
  const taken = new Set(sections.filter(({ calls }) => calls < 0).map(({ name }) => name.toLowerCase()));
  const nameless = sections.filter(({ kind, name, calls }) => name === "" && calls < 0 && kind !== "text");
  const counts = new Map();
  for (const { kind } of nameless) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const used = new Map();
  for (const section of nameless) {
    const { kind } = section;
    const name = Object.hasOwn(CHART.sections, kind) ? CHART.sections[kind] : capitalized(kind.replaceAll("_", " "));
    section.name = name;
    if (kind !== "verse" && counts.get(kind) === 1 && !taken.has(name.toLowerCase())) continue;
    let number = used.get(kind) ?? 0;
    do {
      number += 1;
      section.name = fill(CHART.numbered, { name, number });
    } while (taken.has(section.name.toLowerCase()));
    used.set(kind, number);
  }
  for (const section of sections) if (section.calls >= 0) section.name ||= sections[section.calls].name;
}

function capitalized(text) {
  const [first = "", ...rest] = text;
  return first.toUpperCase() + rest.join("");
}

/** Reads "x2" at the end of a label. */
export function readTimes(label) {
  const found = /(?:^|[\s(,])\(?(?:[x×]\s?(\d{1,2})|(\d{1,2})\s?[x×])\)?$/i.exec(label.slice(-12));
  const times = Number(found?.[1] ?? found?.[2] ?? 1);
  if (!found || times < 1 || times > TIMES_MAX) return { name: label, times: 1 };
  return { name: label.slice(0, label.length - found[0].length).trim().replace(/[,(]$/, "").trim(), times };
}

/** Reads a playing order: names between commas, or words. A number belongs to the word before it. */
function readFlow(value) {
  const hasCommas = value.includes(",");
  const flow = [];
  for (const part of value.split(hasCommas ? "," : /\s+/)) {
    const { name, times } = readTimes(part.trim().replace(/^([A-Z]{1,2}\d?)([x×]\d{1,2})$/, "$1 $2"));
    if (part.trim() === "") continue;
    if (flow.length > 0 && !hasCommas && /^\d{1,2}$/.test(part)) flow.push(`${flow.pop()} ${part}`);
    else if (name === "" && flow.length > 0) flow.push(...Array(times - 1).fill(flow.at(-1)));
    else flow.push(...Array(times).fill(name || part.trim()));
    if (flow.length > FLOW_MAX) break;
  }
  return flow.length > 0 ? flow.slice(0, FLOW_MAX) : null;
}

const readKey = (value) => (/^[A-Ha-h]/.test(value) ? value : null);

function readTempo(value) {
  const tempo = Number(/\d+(?:[.,]\d+)?/.exec(value)?.[0].replace(",", "."));
  return tempo >= 1 && tempo <= 400 ? tempo : null;
}

function readTime(value) {
  if (value === "C") return { num: 4, den: 4 };
  if (value === "C|") return { num: 2, den: 2 };
  const [, num, den] = /^(\d{1,2})\s*\/\s*(\d{1,2})(?!\d)/.exec(value)?.map(Number) ?? [];
  return num >= 1 && num <= 32 && [1, 2, 4, 8, 16, 32].includes(den) ? { num, den } : null;
}

function readCapo(value) {
  const capo = Number(/^\d{1,2}(?!\d)/.exec(value)?.[0]);
  return capo <= 24 ? capo : null;
}

/** Reads "3:40", "1:02:03" or seconds. Returns milliseconds. */
function readDuration(value) {
  if (!/^\d{1,5}(?::\d{1,2}){0,2}(?:\.\d{1,3})?$/.test(value)) return null;
  const seconds = value.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return seconds > 0 && seconds <= 86_400 ? Math.round(seconds * 1000) : null;
}

function readNumbers(value) {
  const words = value.split(/[\s,]+/).filter((word) => word !== "");
  const numbers = words.map((word) => (/^[\d.]+$/.test(word) ? Number(word) : NaN));
  return numbers.length > 0 && numbers.every((n) => n > 0 && n <= 1000) ? numbers : null;
}

const READERS = { key: readKey, tempo: readTempo, time: readTime, capo: readCapo, duration: readDuration };
