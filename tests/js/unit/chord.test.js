import assert from "node:assert/strict";
import test from "node:test";
import * as chords from "../../../src/web/chart/chord.js";
import { change, chartOf } from "./charts-by-hand.js";
import { Random } from "./random.js";

const { chartWriter, chordWriter, keyName, readChord, readKey, soundingKey, viewShift } = chords;

const shifted = (key, shift, text, options = {}) => text.split(" ").map(chordWriter({ key, shift, ...options })).join(" ");

const VECTORS = [
  ["D", 3, "D A/C# Bm G", "F C/E Dm B♭"],
  ["A", -1, "A F#m D E", "A♭ Fm D♭ E♭"],
  ["G", 2, "G E♭ F D/F#", "A F G E/G♯"],
  ["C", 6, "C F G Am", "F♯ B C♯ D♯m"],
  ["Em", -2, "Em C D B7", "Dm B♭ C A7"],
  ["Am", 1, "Am E7 F", "B♭m F7 G♭"],
];
for (const [key, shift, from, to] of VECTORS) {
  test(`${key} ${shift > 0 ? "+" : ""}${shift}: ${from}`, () => assert.equal(shifted(key, shift, from), to));
}

test("one up with an own capo in the first fret shows what was written", () => {
  const chart = chartOf({ key: "E", transpose: 1, sections: [{ lines: ["[E]One [B7]two [C#m/G#]three"] }] });
  const write = chartWriter(chart, { capo: 1 })(0, 0);
  assert.deepEqual(["E", "B7", "C#m/G#"].map(write), ["E", "B7", "C#m/G#"]);
});

test("Nashville, German and solfège write the same chords", () => {
  assert.equal(shifted("G", 0, "G D/F# Em C F", { notation: "nashville" }), "1 5/7 6m 4 ♭7");
  assert.equal(shifted("Bb", 0, "Bb Eb F7 B", { notation: "german" }), "B Es F7 H");
  assert.equal(shifted("D", 0, "D F#m G A7 Bb", { notation: "german" }), "D Fism G A7 B");
  assert.equal(shifted("C", 0, "C Dm E F#m7b5 G Ab B", { notation: "solfege" }), "Do Rem Mi Fa♯m7b5 Sol La♭ Si");
  assert.equal(shifted("C", 0, "Ab7 D#m", { notation: "german" }), "As7 Dism");
});

test("Nashville does not depend on the shift, and raises figures of the quality", () => {
  for (let shift = -12; shift <= 12; shift += 1) {
    assert.equal(shifted("G", shift, "G7 D/F# Em7", { notation: "nashville" }), "1⁷ 5/7 6m7");
  }
});

test("Nashville counts a minor key from its relative major, or from its tonic", () => {
  assert.equal(shifted("Am", 0, "Am F G C E7", { notation: "nashville" }), "6m 4 5 1 3⁷");
  assert.equal(shifted("Am", 0, "Am F G C", { notation: "nashville", minorAsRelative: false }), "1m ♭6 ♭7 ♭3");
});

test("nothing changes at shift 0 and in letters, nor at a shift of octaves", () => {
  for (const text of ["Bb", "A#", "Cb", "E#m7b5/B#", "(Db)", "Gently", "N.C.", "Asus4 ", "C#"]) {
    for (const shift of [0, 12, -24]) assert.equal(chordWriter({ key: "C", shift })(text), text);
  }
});

test("words and other texts are no chords and stay as they are", () => {
  const write = chordWriter({ key: "C", shift: 5 });
  const texts = ["Break", "Coda", "Fine", "End", "Drums", "Bass", "Gently", "D.C.", "D.S. al Coda", "Fill", "Verse", "N.C.", "nc"];
  texts.push("", "x", "G-D", "G,D", "C/E7", "C D", "c", "H", "Fis", "C|G", "/", "F".repeat(40), "A capella", "Bridge", "Add");
  for (const text of texts) {
    assert.equal(readChord(text), null, text);
    assert.equal(write(text), text);
  }
});

test("qualities are kept as text, known or not", () => {
  const qualities = ["", "m", "min", "maj7", "M7", "7", "m7b5", "7#9", "sus4", "7sus4", "add9", "dim", "dim7", "°7", "ø7", "aug", "+"];
  qualities.push("6/9", "m(maj7)", "7(b9,#11)", "5", "Δ", "^7", "-7", "7alt", "(no3)", "mMaj7", "13", "2", "h7", "7*", "(foo)", "7foo", "!");
  for (const quality of qualities) {
    const chord = readChord(`F#${quality}/C`);
    assert.ok(chord, quality);
    assert.deepEqual([chord.root, chord.quality, chord.bass, chord.text], [6, quality, 0, `F#${quality}/C`]);
    assert.equal(chordWriter({ key: "D", shift: 1 })(`F#${quality}`), `G${quality}`);
  }
});

test("signs are read in both forms, and a sign belongs to the root", () => {
  for (const [text, root, quality] of [["B♭m", 10, "m"], ["F♯", 6, ""], ["Bb5", 10, "5"], ["Ebb5", 3, "b5"], ["Cb", 11, ""], ["B#", 0, ""], ["Bbb", 9, ""], ["F##m", 7, "m"], ["Bbb5", 10, "b5"]]) {
    assert.deepEqual([readChord(text).root, readChord(text).quality], [root, quality], text);
  }
});

test("double signs are kept if nothing is shifted, and replaced otherwise", () => {
  assert.equal(shifted("Db", 0, "Ebbm F##/A# Bbb", { notation: "solfege" }), "Mi♭♭m Fa♯♯/La♯ Si♭♭");
  assert.equal(shifted("Db", 0, "Ebbm F##/A# Bbb Abb", { notation: "german" }), "Esesm Fisis/Ais Heses Ases");
  assert.equal(shifted("Db", 2, "Ebbm F##/A# Bbb"), "Em A/C B");
});

test("optional chords and bass notes alone are shifted too", () => {
  assert.equal(shifted("G", 2, "(D/F#) /F# (N.C.)"), "(E/G♯) /G♯ (N.C.)");
  assert.deepEqual([readChord("/F#").root, readChord("/F#").bass], [null, 6]);
});

test("German chords are read", () => {
  const read = (text) => {
    const chord = readChord(text, "german");
    return chord && [chord.root, chord.quality, chord.bass];
  };
  const cases = {
    H: [11, "", null], H7: [11, "7", null], B: [10, "", null], Bb: [10, "", null], Fis: [6, "", null], Fism7: [6, "m7", null],
    Es: [3, "", null], As7: [8, "7", null], Esus4: [4, "sus4", null], Asus2: [9, "sus2", null], Essus4: [3, "sus4", null],
    Des: [1, "", null], Cis: [1, "", null], Ges: [6, "", null], Ais: [10, "", null], "G/H": [7, "", 11], "F#m": [6, "m", null],
    a: [9, "m", null], fis7: [6, "m7", null], es: [3, "m", null], hm: [11, "m", null], b: [10, "m", null], "a/g": [9, "m", 7],
    Hdim: [11, "dim", null], Esdur: null, das: null, Hallo: null,
  };
  for (const [text, expected] of Object.entries(cases)) assert.deepEqual(read(text), expected, text);
});

test("a German file is read in German, and letters are those of the file", () => {
  const options = { key: "G", source: "german" };
  assert.equal(shifted("G", 0, "G H7 e B", { source: "german" }), "G H7 e B");
  assert.equal(shifted("G", 0, "G H7 e B", { source: "german", notation: "english" }), "G B7 Em B♭");
  assert.equal(shifted("G", 2, "G H7 e Es", { source: "german" }), "A Cis7 Fism F");
  assert.equal(chordWriter({ ...options, notation: "nashville" })("H7"), "3⁷");
  assert.equal(chords.isGerman(["G", "H7"]), true);
  assert.equal(chords.isGerman(["G", "B7", "Hallo", "Hook"]), false);
});

test("keys are read", () => {
  const cases = {
    G: [7, false], Am: [9, true], "F# minor": [6, true], Bb: [10, false], "B♭ major": [10, false], "C#m": [1, true],
    "D-Dur": [2, false], "e-Moll": null, "E dorian": [4, true], "G mixolydian": [7, false], Em7: [4, true], "": null, H: null,
    Between: null, "Original: G": null, Cmaj7: [0, false], CM: [0, false], "A min": [9, true], "D Minor": [2, true],
  };
  for (const [text, expected] of Object.entries(cases)) {
    const key = readKey(text);
    assert.deepEqual(key && [key.tonic, key.minor], expected, text);
  }
  const german = { H: [11, false], h: [11, true], "e-Moll": [4, true], "B-Dur": [10, false], "fis moll": [6, true], Es: [3, false] };
  for (const [text, [tonic, minor]] of Object.entries(german)) {
    const key = readKey(text, "german");
    assert.deepEqual([key.tonic, key.minor], [tonic, minor], text);
  }
});

test("names of keys use the allowed tonics after a shift, and the written one before", () => {
  const majors = Array.from({ length: 12 }, (_, i) => keyName("C", i === 0 ? 12 : i));
  assert.deepEqual(majors, "C D♭ D E♭ E F F♯ G A♭ A B♭ B".split(" "));
  const minors = Array.from({ length: 12 }, (_, i) => keyName("Cm", i));
  assert.deepEqual(minors, "Cm C♯m Dm E♭m Em Fm F♯m Gm G♯m Am B♭m Bm".split(" "));
  assert.equal(keyName("Gb", 0), "G♭");
  assert.equal(keyName("F", 1), "F♯");
  assert.equal(keyName("Bb", 0, "german"), "B");
  assert.equal(keyName("A", 2, "german"), "H");
  assert.equal(keyName("A", 2, "solfege"), "Si");
  assert.equal(keyName("A", 2, "nashville"), "B");
  assert.equal(keyName("who knows", 2), "who knows");
});

test("degrees are right in all 24 keys", () => {
  // A degree's letter is counted from the tonic's letter; only double signs and E♯, B♯, F♭, C♭ are replaced.
  const letters = "CDEFGAB";
  const natural = [0, 2, 4, 5, 7, 9, 11];
  const degrees = "1 ♭2 2 ♭3 3 4 ♯4 5 ♭6 6 ♭7 7".split(" ");
  for (const isMinor of [false, true]) {
    for (let shift = 1; shift <= 12; shift += 1) {
      if (shift === 12) continue;
      const from = isMinor ? "Cm" : "C";
      const tonic = keyName(from, shift).replace("m", "");
      const pitch = readChord(tonic).root;
      const write = chordWriter({ key: from, shift });
      "C Db D Eb E F F# G Ab A Bb B".split(" ").forEach((name, semitones) => {
        const step = Number(degrees[semitones].at(-1)) - 1;
        const letter = (letters.indexOf(tonic[0]) + step) % 7;
        const sign = ((pitch + semitones - natural[letter] + 18) % 12) - 6;
        const plain = letters[letter] + ({ "-1": "♭", 0: "", 1: "♯" }[sign] ?? "?");
        const written = write(name);
        assert.equal(readChord(written).root, (pitch + semitones) % 12);
        if (plain.includes("?") || ["E♯", "B♯", "F♭", "C♭"].includes(plain)) assert.match(written, /^[A-G]$/);
        else assert.equal(written, plain, `${tonic}${isMinor ? "m" : ""} ${degrees[semitones]}`);
      });
    }
  }
});

test("every chord up and down again has the same pitches", () => {
  const random = new Random(18);
  const notes = "C C# Db D D# Eb E F F# Gb G G# Ab A A# Bb B Cb B# E# Fb F♯ B♭".split(" ");
  const qualities = ["", "m", "7", "maj7", "m7b5", "sus4", "dim7", "6/9", "(add9)"];
  for (let i = 0; i < 5000; i += 1) {
    const key = random.pick(notes.slice(0, 17)) + random.pick(["", "m"]);
    const by = random.int(-13, 13);
    const text = random.pick(notes) + random.pick(qualities) + random.pick(["", `/${random.pick(notes)}`]);
    const up = chordWriter({ key, shift: by })(text);
    const back = chordWriter({ key: keyName(key, by), shift: -by })(up);
    const [was, is, between] = [readChord(text), readChord(back), readChord(up)];
    assert.ok(between, `${text} in ${key} by ${by}: ${up}`);
    const mod = (n) => ((n % 12) + 12) % 12;
    assert.deepEqual([is.root, is.bass, is.quality], [was.root, was.bass, was.quality], `${text} ${up} ${back}`);
    assert.equal(between.root, mod(was.root + by));
    assert.doesNotMatch(up.slice(0, 2), by % 12 === 0 ? /^$/ : /E♯|B♯|F♭|C♭/);
    for (const notation of ["german", "solfege"]) {
      const other = chordWriter({ key, shift: by, notation })(text);
      if (notation === "german") assert.equal(readChord(other, "german").root, between.root, other);
    }
  }
});

test("German is read back as the same pitches", () => {
  for (let pitch = 0; pitch < 12; pitch += 1) {
    for (const from of ["C", "Cm"]) {
      const german = chordWriter({ key: from, shift: pitch, notation: "german" })("C7/G");
      const chord = readChord(german, "german");
      assert.deepEqual([chord.root, chord.bass, chord.quality], [pitch, (pitch + 7) % 12, "7"], german);
    }
  }
});

test("an unknown key is that of the song's last chord, else of the first", () => {
  const song = (...lines) => chartOf({ sections: lines.map((line) => ({ lines: [line] })) });
  assert.deepEqual(
    [song("[C]One [G]two", "[Am7]three"), song("[D]One", "two"), song("[D]One", "[N.C.]two [Break]"), song("words")].map(
      (chart) => soundingKey(chart).text,
    ),
    ["Am?", "D?", "D?", ""],
  );
  assert.equal(soundingKey({ ...song("[C]One", "[G]two"), flow: ["Verse 2", "Verse 1"] }).text, "C?");
  assert.equal(soundingKey({ ...song("[G]One"), key: "Em" }).text, "Em");
  assert.equal(soundingKey({ ...song("[G]One"), key: "?" }).text, "G?");
});

test("a file's capo raises the sound, and so does the band's transposition", () => {
  const chart = chartOf({ key: "G", capo: 2, transpose: 1, sections: [{ lines: ["[G]One"] }] });
  assert.equal(soundingKey(chart).text, "B♭");
  const { sounds, plays, capo } = chords.keysFor(chart, {});
  assert.deepEqual([keyName(sounds), keyName(plays), capo], ["B♭", "A♭", 2]);
});

test("the header says what is played with which capo", () => {
  const { sounds, plays, capo } = chords.keysFor(chartOf({ key: "F" }), { capo: 3 });
  assert.deepEqual([keyName(sounds), keyName(plays), capo], ["F", "D", 3]);
});

test("own shift, capo and instrument add up; an own capo or a wind instrument starts from the sound", () => {
  const plain = chartOf({ key: "C" });
  assert.equal(viewShift(plain, { shift: -2, capo: 2 }), -4);
  assert.deepEqual(["", "B♭", "E♭", "F"].map((instrument) => viewShift(plain, { instrument })), [0, 2, 9, 7]);
  const capo = chartOf({ key: "G", capo: 2 });
  assert.equal(viewShift(capo, {}), 0);
  assert.equal(viewShift(capo, { capo: 2 }), 0);
  assert.equal(viewShift(capo, { capo: 4 }), -2);
  assert.equal(viewShift(capo, { instrument: "B♭" }), 4);
  assert.equal(viewShift(capo, { shift: 3 }, 1), 4);
});

test("key and transposition hold from where they stand, and a call takes those of its place", () => {
  const chart = chartOf({
    key: "G",
    sections: [
      { lines: ["[G]One", change({ key: "A" }), "[A]two [F]", change({ transpose: 2 }), "[A]three"] },
      { name: "Chorus", lines: ["[D]four"] },
      { calls: 1, lines: [change({ transpose: 3 })] },
    ],
  });
  const write = chartWriter(chart, {});
  assert.equal(write(0, 0)("G"), "G");
  assert.equal(write(0, 2)("F"), "F");
  assert.equal(write(0, 4)("A"), "B");
  assert.equal(write(1, 0)("D"), "E");
  assert.equal(write(1, 0, 2)("D"), "F");
  assert.equal(chartWriter(chart, { notation: "nashville" })(0, 0)("G"), "1");
  assert.equal(chartWriter(chart, { notation: "nashville" })(0, 2)("A"), "1");
  assert.equal(write(9, 9)("D"), "D");
});

test("a chart of any text is written without an error", () => {
  const random = new Random(8);
  const signs = "ABCDEFGHabm#b♯♭/()7+-sujdi |.*é𝄪\u0000";
  const all = [...signs];
  for (let i = 0; i < 20000; i += 1) {
    const text = Array.from({ length: random.int(0, 8) }, () => random.pick(all)).join("");
    for (const source of ["letters", "german"]) {
      const chord = readChord(text, source);
      const options = { key: random.pick(["C", "F#m", "", "H"]), source, shift: random.int(-11, 11) };
      const out = chordWriter({ ...options, notation: random.pick(chords.NOTATIONS) })(text);
      assert.equal(typeof out, "string");
      if (!chord) assert.equal(out, text);
      assert.doesNotMatch(out, /undefined|NaN|null/);
    }
  }
});
