// Songs from files, and back into files.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { listFile, readFiles, readText, refusal, songFile, songOf } from "../../../src/web/stage/files.js";
import { markAt, marked, sentText, unmarked } from "../../../src/web/chart/filemark.js";
import { CHART, SONGS } from "../../../src/web/texts.js";
import { Random } from "./random.js";

const file = (name, content, encoding = "utf8") => new File([Buffer.from(content, encoding)], name);
const CORPUS = new URL("../../charts/songs/", import.meta.url);
const HARBOUR = "{title: Harbour}\n{artist: The Lamps}\n{key: Am}\n{tempo: 92}\n\n[Am]Slow boats\n";

test("files of several formats are read in order, and others are refused with a sentence", async () => {
  const { songs, refused, title } = await readFiles([
    file("harbour.cho", HARBOUR),
    file("lantern.onsong", "Lantern\nThe Lamps\nKey: G\n\nVerse 1:\n[G]low\n"),
    file("x.pdf", "%PDF-1.7"),
    file("cafe.txt", "Café\n\nC     G\nna\u00efve low\nAm    F\nas I know\n", "latin1"),
    file("empty.cho", "\n"),
  ]);
  assert.deepEqual(
    songs.map((one) => one.from),
    ["chordpro", "onsong", "over"],
  );
  assert.deepEqual(
    songs.slice(0, 2).map((one) => [one.title, one.artist]),
    [
      ["Harbour", "The Lamps"],
      ["Lantern", "The Lamps"],
    ],
  );
  assert.match(songs[2].body, /naïve/);
  assert.equal(new Set(songs.map(({ id }) => id)).size, 3);
  assert.deepEqual(
    refused.map((one) => one.text),
    [CHART.refused.pdf, SONGS.refused.empty],
  );
  assert.equal(title, null);
  assert.equal(refusal({}), SONGS.refused.unreadable);
});

test("a song has the fields that the server takes, within their bounds", () => {
  const { id, title, artist, key, tempoBpm, format, meter, endBeat } = songOf("a", HARBOUR);
  assert.deepEqual([id, title, artist, key, tempoBpm, format], ["a", "Harbour", "The Lamps", "Am", 92, "chordpro"]);
  assert.ok(meter.length > 0 && endBeat > 0);
  assert.equal(songOf("a", "words").title, SONGS.untitled);
  assert.equal(songOf("a", "words", { title: "From the file" }).title, "From the file");
  assert.equal([...songOf("a", `{title: ${"🎸".repeat(300)}}`).title].length, 200);
});

test("the file of a song comes back byte for byte on any device", async () => {
  const windows = HARBOUR.replaceAll("\n", "\r\n");
  const {
    songs: [song],
  } = await readFiles([file("harbour.cho", windows)]);
  assert.equal(song.body, `${HARBOUR}{x_file: crlf}\n`, "the server keeps plain line ends");
  assert.equal(song.source, undefined, "the chart says it all");
  assert.deepEqual(Buffer.from(songFile({ title: song.title, body: song.body }).content), Buffer.from(windows));
  assert.equal(songFile({ title: "a", body: HARBOUR }).content, HARBOUR);
  assert.equal(songFile({ title: "a/b: c?", body: "x" }).name, "a b c.cho");
});

test("every ChordPro file of the corpus comes back byte for byte, from what the server keeps", async () => {
  let marks = 0;
  for (const name of readdirSync(CORPUS)) {
    const bytes = readFileSync(new URL(name, CORPUS));
    const { songs } = await readFiles([new File([bytes], name)]);
    if (songs.length !== 1 || songs[0].from !== "chordpro" || songs[0].source) continue;
    const { title, body } = songs[0];
    assert.equal(sentText(body), body, `${name} is a text that the server keeps`);
    const { content } = songFile({ title, body });
    assert.deepEqual(Buffer.from(content), Buffer.from(bytes), name);
    if (body.includes("{x_file:")) marks += 1;
  }
  assert.ok(marks >= 5, `${marks} charts of the corpus have a mark`);
});

test("a list keeps the line ends and encodings of its songs", async () => {
  const { songs } = await readFiles([
    file("a.cho", HARBOUR.replaceAll("\n", "\r\n")),
    file("b.cho", "{title: Caf\u00e9}\r\n[G]na\u00efve\r\n", "latin1"),
    file("c.cho", "{title: Mixed}\r\n[G]one\n[D]two\rthree"),
    file("d.cho", "{title: Old}\n[G]one\n\u001a"),
  ]);
  const { content } = listFile({ title: "Friday", songs });
  assert.ok(content.includes("Slow boats\r\n") && content.includes("naïve\r\n") && content.includes("two\rthree"));
  const read = await readFiles([file("list.cho", content)]);
  assert.deepEqual(
    read.songs.map(({ title, body }) => [title, body]),
    songs.map(({ title, body }) => [title, body]),
  );
  assert.deepEqual(Buffer.from(songFile(read.songs[1]).content), Buffer.from("{title: Caf\u00e9}\r\n[G]na\u00efve\r\n", "latin1"));
});

test("an edited chart keeps line ends and encoding, and forgets what named places", () => {
  const crlf = marked("la\r\nlo\r\n", "windows-1252");
  assert.equal(crlf, "la\nlo\n{x_file: crlf windows-1252}\n");
  assert.deepEqual(unmarked(crlf.replace("lo", "lu\nli")), { text: "la\r\nlu\r\nli\r\n", encoding: "windows-1252" });
  const mixed = marked("la\r\nlo\n\u202dli");
  assert.equal(unmarked(mixed).text, "la\r\nlo\n\u202dli");
  assert.equal(unmarked(mixed.replace("la", "ja")).text, "ja\r\nlo\r\nli");
  const greek = songFile({ title: "x", body: crlf.replace("lo", "λ") }).content;
  assert.equal(greek, "la\r\nλ\r\n", "what the encoding lacks makes the file UTF-8");
});

test("any text comes back from its mark, or has none", () => {
  const random = new Random(4);
  const pieces = ["a", "[G]", "\n", "\r\n", "\r", "\u0007", "\u2028", "\u202e", " ", "{x_file: crlf}", "{x_file: cr open}\n", "{c: x}", "\u{1f3b8}", "\t", "\ufeff"];
  for (let i = 0; i < 20_000; i += 1) {
    const text = Array.from({ length: random.int(0, 12) }, () => random.pick(pieces)).join("");
    const body = marked(text, random.pick(["utf-8", "utf-8", "windows-1252", "utf-16le"]));
    assert.equal(sentText(body), body, "the server keeps it");
    if (markAt(body) < body.length) assert.equal(unmarked(body).text, text, JSON.stringify(text));
    else assert.equal(body, sentText(text));
    assert.ok(typeof unmarked(text).text === "string", "a mark that somebody wrote breaks nothing");
  }
  const long = "\u0007\n".repeat(3000);
  assert.equal(marked(long), sentText(long), "a mark is short, or there is none");
});

test("a list is one file, and the same list again", async () => {
  const bodies = [HARBOUR, "{t:Odd}  \n\n[G]  spaces\t\n{c: x}", "no title at all\n"];
  const songs = bodies.map((body, n) => ({ ...songOf(`s${n}`, body, { title: `Song ${n}` }), revision: 3 }));
  const { name, content } = listFile({ title: "Friday, Lighthouse", songs });
  assert.equal(name, "Friday, Lighthouse.cho");
  const read = await readFiles([file(name, content)]);
  assert.equal(read.title, "Friday, Lighthouse");
  assert.deepEqual(
    read.songs.map(({ title, body }) => [title, body]),
    songs.map(({ title, body }) => [title, body]),
  );
});

test("a text for the server has no control characters, and loses nothing else", () => {
  assert.equal(sentText("a\r\nb\rc\td\u0007\u202e\u2028e\u200f"), "a\nb\nc\td e\u200f");
  const { songs, format } = readText("{title: A}\nla\n{new_song}\n{title: B}\nlo\n");
  assert.equal(format, "chordpro");
  assert.equal(songs.length, 2);
});

test("a forged mark names no more line ends than its chart has", () => {
  const ends = Array(100).fill("crlf*999999999").join(",");
  const forged = marked("la\r\nlo\nli\r\n").replace(/ends=\S+/, `ends=${ends}`);
  assert.ok(markAt(forged) < "la\nlo\nli\n".length + 1, "it is a mark");
  assert.equal(unmarked(forged).text, "la\r\nlo\r\nli\r\n");
});
