// The corpus of charts: those that are written by hand in tests/charts/songs, and drawn ones, 200 in all.
//
// `node tests/js/unit/make-charts.js --write` writes tests/charts/snapshots.json: the short form of each chart as BandSync
// reads it. Read its diff before you commit it. `--json` prints what the oracle needs, one chart a line.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseSongs } from "../../../src/web/chart/chordpro.js";
import { toChordPro } from "../../../src/web/chart/convert.js";
import { decode, detect } from "../../../src/web/chart/decode.js";
import { brief } from "./chart-brief.js";
import { Random } from "./random.js";

const SONGS = new URL("../../charts/songs/", import.meta.url);
const SNAPSHOTS = new URL("../../charts/snapshots.json", import.meta.url);
const COUNT = 200;

const WORDS = (
  "harbour lantern gravel window kettle signal river amber corner paper ladder winter button carry follow under after slowly " +
  "never maybe tonight again a the and we you it in on of to with every little open counting Später größer déjà naïve 夜 שיר"
).split(" ");
const CHORDS = "C D Em F G Am Bm7b5 C/E D/F# Bb Ebmaj7 F#m G7 Asus4 Cadd9 A7#9 Dm7 E+ G° N.C. B♭m/D♭".split(" ");
const KEYS = "C D E F G A Bb Em Am F#m".split(" ");
const OTHERS = ["intro", "outro", "pre_chorus", "solo", "refrain"];

/** Draws songs in several formats. */
class Pen {
  constructor(seed) {
    this.random = new Random(seed);
  }

  /** Whether something happens that does so once in `times`. */
  once(times) {
    return this.random.int(1, times) === 1;
  }

  pick(list) {
    return this.random.pick(list);
  }

  words(lo, hi) {
    return Array.from({ length: this.random.int(lo, hi) }, () => this.pick(WORDS)).join(" ");
  }

  /** A line with chords between, before and inside its words. */
  line() {
    const letters = Array.from(this.words(3, 8));
    const out = letters.map((letter, i) => (this.once(i === 0 ? 2 : 12) ? `[${this.pick(CHORDS)}]${letter}` : letter)).join("");
    if (this.once(12)) return `${out} \\\n  ${this.words(1, 3)}`;
    if (this.once(12)) return `<b>${out}</b>`;
    if (this.once(12)) return `${out} <i>${this.words(1, 2)}</i> [*${this.words(1, 2)}]`;
    if (this.once(15)) return `[|] ${out} [|]`;
    return out;
  }

  change() {
    return this.pick([`{key: ${this.pick(KEYS)}}`, `{tempo: ${this.random.int(50, 200)}}`, `{time: ${this.pick(["3/4", "6/8", "7/8"])}}`, `{transpose: ${this.random.int(-5, 6)}}`]);
  }

  grid() {
    const bars = Array.from({ length: this.random.int(2, 4) }, () => `${this.pick(CHORDS)} ${this.pick([". . .", ". / .", ""])}`);
    return `${this.once(3) ? "A " : ""}| ${bars.join(" | ")} ${this.pick(["|", "||", ":|"])}${this.once(4) ? " x2" : ""}`;
  }

  tab() {
    return "eBGDAE".split("").map((string) => `${string}|${Array.from({ length: 12 }, () => (this.once(4) ? this.random.int(0, 9) : "-")).join("")}|`);
  }

  section() {
    const kind = this.pick(["verse", "verse", "chorus", "chorus", "bridge", "tab", "grid", this.pick(OTHERS), ""]);
    const label = this.once(3) ? this.pick([": ", ": label=\""]) : "";
    const name = `${this.words(1, 2)}${this.once(4) ? ` x${this.random.int(2, 4)}` : ""}`;
    const close = label.endsWith('"') ? '"' : "";
    const short = { verse: "v", chorus: "c", bridge: "b", tab: "t", grid: "g" }[kind];
    const isShort = short && this.once(2);
    const body = [];
    const count = this.random.int(1, 5);
    for (let i = 0; i < count; i += 1) {
      if (kind === "tab") body.push(...this.tab());
      else if (kind === "grid") body.push(this.grid());
      else if (this.once(12)) body.push(CHORDS.slice(0, this.random.int(1, 5)).map((chord) => `[${chord}]`).join(" "));
      else body.push(this.line());
      if (kind !== "tab" && kind !== "grid" && this.once(12)) body.push(this.pick([`{c: ${this.words(1, 4)}}`, `{ci-keys: ${this.words(1, 3)}}`, "", "# remark", this.change()]));
    }
    if (kind !== "tab" && kind !== "grid" && this.once(4)) body.unshift(this.pick(["{x_bars: 2}", "{x_bars: 2 2 4}", "{x_beats: 8 6.5}"]));
    if (kind === "") return [...body, ""];
    const [start, end] = isShort ? [`so${short}`, `eo${short}`] : [`start_of_${kind}`, `end_of_${kind}`];
    return [`{${start}${label === "" ? "" : `${label}${name}${close}`}}`, ...body, `{${end}}`, ""];
  }

  chordPro() {
    const lines = [`{${this.pick(["title", "t"])}: ${this.words(1, 4)}}`];
    for (const name of ["subtitle", "artist", "composer", "copyright"]) if (this.once(3)) lines.push(`{${name}: ${this.words(1, 3)}}`);
    if (!this.once(4)) lines.push(`{key: ${this.pick(KEYS)}}`);
    if (!this.once(4)) lines.push(`{tempo: ${this.random.int(50, 200)}}`);
    if (!this.once(4)) lines.push(`{time: ${this.pick(["4/4", "3/4", "6/8", "12/8"])}}`);
    if (this.once(4)) lines.push(`{capo: ${this.random.int(1, 7)}}`);
    if (this.once(4)) lines.push(`{duration: ${this.random.int(2, 5)}:${this.random.int(10, 59)}}`);
    if (this.once(4)) lines.push(`{meta: ${this.pick(["mood", "album"])} ${this.words(1, 2)}}`);
    if (this.once(5)) lines.push(`{flow: ${this.pick(["V1 C V2 C", "Verse 1, Chorus, Verse 1", "C x2 V1"])}}`);
    lines.push("");
    for (let i = this.random.int(2, 6); i > 0; i -= 1) {
      lines.push(...this.section());
      const hasChorus = lines.some((line) => /^\{(?:soc|start_of_chorus)/.test(line)) && !lines.includes("{new_song}");
      if (hasChorus && this.once(3)) lines.push("{chorus}", "");
      if (this.once(10)) lines.push("{new_song}", `{title: ${this.words(1, 2)}}`);
    }
    return `${lines.join(this.pick(["\n", "\n", "\r\n"]))}\n`;
  }

  onSong() {
    const lines = [this.words(1, 3), this.words(1, 2), `Key: ${this.pick(KEYS)}`, `Tempo: ${this.random.int(60, 160)}`, ""];
    for (const head of ["Verse 1:", "Chorus:", "Verse 2:", "Bridge:"].slice(0, this.random.int(2, 4))) {
      lines.push(head, ...Array.from({ length: this.random.int(1, 4) }, () => this.line().replace("\\\n", "\n")), "");
    }
    return lines.join("\n");
  }

  overWords() {
    const lines = [this.words(2, 3), ""];
    for (const head of ["Verse 1", "[Chorus]", "Verse 2:"].slice(0, this.random.int(1, 3))) {
      lines.push(head);
      for (let i = this.random.int(2, 4); i > 0; i -= 1) {
        let above = "";
        for (let at = this.random.int(0, 3); at < 30; at += this.random.int(4, 14)) above = `${above.padEnd(at)}${this.pick(CHORDS)} `;
        lines.push(above.trimEnd(), this.words(4, 8));
      }
      lines.push("");
    }
    return lines.join("\n");
  }

  /** Damages a text in a few places. */
  damage(text) {
    let damaged = text;
    for (let i = this.random.int(3, 12); i > 0; i -= 1) {
      const at = this.random.int(0, damaged.length - 1);
      const piece = this.pick(["[", "]", "{", "}", "<b>", "</i>", "\\", "\n", "#", "{eov}", "{sot}", "|", "{chorus}", ""]);
      damaged = damaged.slice(0, at) + piece + damaged.slice(at + this.random.int(0, 3));
    }
    return damaged;
  }
}

function drawn(number) {
  const pen = new Pen(1000 + number);
  const kind = ["song", "song", "damaged", "song", "onsong", "song", "over", "damaged"][number % 8];
  const text = { song: () => pen.chordPro(), damaged: () => pen.damage(pen.chordPro()), onsong: () => pen.onSong(), over: () => pen.overWords() }[kind]();
  return { name: `drawn ${number} ${kind}`, text };
}

/** Returns the charts of the corpus: name, text, and encoding if it is a file. */
export function readCorpus() {
  const files = readdirSync(SONGS).sort().map((name) => ({ name, ...decode(new Uint8Array(readFileSync(new URL(name, SONGS))), name) }));
  return [...files, ...Array.from({ length: COUNT - files.length }, (_, i) => drawn(i))];
}

/** The snapshot of a chart: its format, and the short form of its songs. */
const snapshot = ({ text, encoding }) => {
  const format = detect(text);
  const songs = parseSongs(toChordPro(text, format)).map(brief);
  return { ...(encoding ? { encoding } : {}), format, songs };
};

export function makeSnapshots() {
  const entries = readCorpus().map((chart) => `${JSON.stringify(chart.name)}: ${JSON.stringify(snapshot(chart))}`);
  return `{\n${entries.join(",\n")}\n}\n`;
}

/**
 * Charts that the oracle reads differently on purpose, by their names. For all others it must agree.
 *
 * In every chart: the oracle joins no lines that end with a backslash, so it gets the text with the joins made. It reads
 * markup between two chords alone, and ours goes on over chords, so it gets the text without. It has no opinion on
 * grids, x_ directives, flow and transpositions. A tab inside a verse is part of the verse for us.
 */
const DIFFERENT = [
  [/^broken|^nested|^unknown|damaged$/, "after a fault each parser goes on in its own way; ours keeps the words at fault as text"],
  [/^markup|^injection/, "only <b> and <i> are markup for us, and only in pairs; the oracle knows ten tags"],
  [/^tab\.|^grid\./, "we obey directives inside a tab or a grid, and leave out `#` lines there; for the oracle they are text"],
  [/^several-on-a-line/, "one line may hold several directives for us, as other programs write them"],
  [/^bad-values|^good-values|^time-changes/, "values are checked and converted: `96,5 BPM` is a tempo of 96.5, a time of `C` is 4/4"],
  [/^whitespace/, "a directive may be indented for us"],
  [/^cr\.|^mixed-ends/, "CR alone ends a line for us, as on old Macs"],
  [/^control/, "the end mark of old files is no line of words for us"],
  [/^chorus-calls/, "a call before any chorus is a comment for us"],
  [/^labels/, "`(2x)` in a label is a number of repeats for us"],
  [/^delegates|^selectors/, "the end of a tab or delegate may have a selector for us; for the oracle it is then text"],
  [/^bars-in-words/, "an annotation alone on its line is a comment for us, because it takes no time"],
];

const reasonOf = (name) => DIFFERENT.find(([pattern]) => pattern.test(name))?.[1];

const MARKS = { chord: "", annotation: "*", bar: "", beat: "" };

/** What the oracle compares of a song. */
function compared(chart) {
  const { title, subtitle, artist, composer, lyricist, copyright, capo } = chart;
  const lines = chart.sections.flatMap((section) => section.lines);
  const held = (name, write = (value) => value) => {
    const changes = lines.map(({ change }) => change?.[name]).filter((value) => value !== undefined);
    return [chart[name], ...changes].filter((value) => value !== "" && value !== null).map(write);
  };
  const labelOf = ({ name, times, kind, calls }) => ({ kind: calls < 0 ? kind : "call", label: name, times });
  return {
    fields: {
      title, subtitle, artist, composer, lyricist, copyright, capo, keys: held("key"), tempos: held("tempo"),
      times: held("time", ({ num, den }) => `${num}/${den}`),
    },
    sections: chart.sections.filter(({ kind }) => kind !== "text").map(labelOf),
    lines: lines.filter(({ kind }) => kind === "words" || kind === "chords").map(comparedLine),
    tabs: lines.filter(({ kind }) => kind === "tab").map(({ text }) => text),
  };
}

function comparedLine({ parts }) {
  let text = "";
  const chords = [];
  for (const part of parts) {
    if (part.mark) chords.push([Array.from(text).length, MARKS[part.mark.kind] + part.mark.text]);
    text += part.text;
  }
  return { text, chords };
}

function printForOracle() {
  for (const { name, text } of readCorpus()) {
    if (reasonOf(name)) continue;
    const chordPro = toChordPro(text).replace(/^\uFEFF/, "").replace(/\\(?:\r\n|\r|\n)[ \t]*(?!\{)/g, "").replace(/<\/?[bi]>/g, "");
    console.log(JSON.stringify({ name, text: chordPro, songs: parseSongs(chordPro).map(compared) }));
  }
}

export const readSnapshots = () => readFileSync(SNAPSHOTS, "utf8");

if (process.argv.includes("--json")) printForOracle();
// A test runner that is given the folder runs this file too, so only options make it write.
if (process.argv.includes("--write")) writeFileSync(SNAPSHOTS, makeSnapshots());
