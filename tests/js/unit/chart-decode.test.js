import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { ChartError, decode, detect, encode } from "../../../src/web/chart/decode.js";
import { CHART } from "../../../src/web/texts.js";

const charts = new URL("../../charts/", import.meta.url);
const read = (name) => new Uint8Array(readFileSync(new URL(name, charts)));
const bytes = (...values) => Uint8Array.from(values);
const latin = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

const REFUSED = {
  "song.pdf": "pdf", "photo.png": "image", "scan.jpg": "image", "picture.svg": "image", "score.musicxml": "musicxml", "score.mxl": "musicxml",
  "song.gp5": "guitarpro", "song.gpx": "guitarpro", "song.gp": "guitarpro", "words.docx": "document", "words.rtf": "document",
  "songs.zip": "archive", "noise.bin": "binary",
};

test("every file that must be refused is listed", () => {
  assert.deepEqual(readdirSync(new URL("refused/", charts)).sort(), Object.keys(REFUSED).sort());
});

for (const [name, code] of Object.entries(REFUSED)) {
  test(`${name} is refused as ${code}, whatever its name is`, () => {
    for (const given of [name, "song.cho", undefined]) {
      assert.throws(() => decode(read(`refused/${name}`), given), (error) => error instanceof ChartError && error.code === code);
    }
    assert.match(CHART.refused[code], /^This is (?:a|an|not a|MusicXML)/);
  });
}

for (const [start, code] of [
  ["GIF89a;", "image"], ["RIFF\x01\x02\x03\x04WEBPVP8 ", "image"], ["\0\0\0\x18ftypheic", "image"], ["MM\0*\0\0", "image"], ["\n%PDF-1.7", "pdf"],
  ["\x1F\x8B\x08", "archive"], ["PK\x03\x04\x14\0", "archive"], ["\xD0\xCF\x11\xE0", "document"], ["MThd\0\0", "binary"], ["a\0b", "binary"],
]) {
  test(`bytes that begin with ${JSON.stringify(start)} are refused as ${code}`, () => {
    assert.throws(() => decode(latin(start)), { name: "ChartError", code });
  });
}

test("an archive with the name of MusicXML or Guitar Pro is refused as that", () => {
  assert.throws(() => decode(latin("PK\x03\x04"), "Score.MXL"), { code: "musicxml" });
  assert.throws(() => decode(latin("PK\x03\x04"), "a.gpx"), { code: "guitarpro" });
});

test("a word such as PK or BM at the start of a song is no reason to refuse it", () => {
  for (const text of ["PK and I", "BM is a key\nnot", "%PD", "MM"]) assert.equal(decode(latin(text)).text, text);
});

test("UTF-8 is read, and its mark stays", () => {
  assert.deepEqual(decode(new TextEncoder().encode("é 🎸")), { text: "é 🎸", encoding: "utf-8" });
  assert.deepEqual(decode(bytes(0xef, 0xbb, 0xbf, 0x61)), { text: "\uFEFFa", encoding: "utf-8" });
  assert.deepEqual(decode(bytes()), { text: "", encoding: "utf-8" });
});

test("UTF-16 with a mark is read", () => {
  assert.deepEqual(decode(bytes(0xff, 0xfe, 0x61, 0, 0x3c, 0xd8, 0xb8, 0xdf)), { text: "a🎸", encoding: "utf-16le" });
  assert.deepEqual(decode(bytes(0xfe, 0xff, 0, 0x61, 0xd8, 0x3c, 0xdf, 0xb8)), { text: "a🎸", encoding: "utf-16be" });
  assert.deepEqual(decode(bytes(0xff, 0xfe, 0x61)), { text: "", encoding: "utf-16le" });
});

test("what is no UTF-8 is Windows-1252, every byte of it", () => {
  assert.deepEqual(decode(bytes(0x93, 0x61, 0x94, 0x85, 0x80, 0xe9)), { text: "“a”…€é", encoding: "windows-1252" });
  const all = Uint8Array.from({ length: 224 }, (_, i) => i + 32);
  const { text } = decode(all);
  assert.equal(new Set(text).size, 224);
  assert.deepEqual(encode(text, "windows-1252"), all);
});

test("a view into a larger buffer is read alone", () => {
  const whole = latin("xx\xFF\xFEa\0yy");
  assert.equal(decode(whole.subarray(2, 6)).text, "a");
});

test("a long file is decoded whole", () => {
  const text = "é".repeat(100_000);
  assert.equal(decode(encode(text, "windows-1252")).text, text);
  assert.equal(decode(encode(text, "utf-16be")).text, text);
});

test("every chart of the corpus is encoded as it was", () => {
  for (const { name } of readdirSync(new URL("songs/", charts), { withFileTypes: true })) {
    const file = read(`songs/${name}`);
    const { text, encoding } = decode(file, name);
    assert.deepEqual(encode(text, encoding), file, name);
  }
});

test("Windows-1252 can't hold every letter", () => {
  assert.equal(encode("夜", "windows-1252"), null);
  assert.equal(encode("\x80", "windows-1252"), null);
  assert.deepEqual(encode("\x81", "windows-1252"), bytes(0x81));
});

for (const [format, ...texts] of [
  ["chordpro", "{title: A}", "words [G]with a chord", "{c: a}\nwords", "[Am7]", "  {sov}\nKey: G", "\uFEFF{t: A}", "{x_felt: 3}\nla", "[G]la\n[Hello]"],
  ["onsong", "Key: G\n\n[G]la", "A Song\nSomebody\nTempo: 90\n\nla", "Verse 1:\n[G]la", "Key: G\n{c: a}\n[G]la", "[Verse 1]\n[G]la"],
  ["opensong", "<?xml version='1.0'?>\n<song><title>A</title><lyrics>.G\n la</lyrics></song>", "\uFEFF<song>\n<lyrics/></song>"],
  ["over", "G  C\nla la", "Verse 1\nAm      G\nwords", "Verse:\nG C\nwords", "| G | C |\nwords", "H7 E\nkalt"],
  ["words", "", "just words\nand more", "Verse 1\nwords", "A\nlonely letter", "[Verse 1]\nwords", "{not a directive at all\nwords", "<song>no</song>", "A man in a van"],
]) {
  for (const text of texts) test(`${JSON.stringify(text)} is ${format}`, () => assert.equal(detect(text), format));
}
