// Songs from files, and back into files.
import assert from "node:assert/strict";
import { test } from "node:test";
import { listFile, readFiles, readText, refusal, sentText, songFile, songOf } from "../../../src/web/stage/files.js";
import { CHART, SONGS } from "../../../src/web/texts.js";

const file = (name, content, encoding = "utf8") => new File([Buffer.from(content, encoding)], name);
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

test("the file of a song comes back byte for byte if the chart is the same", async () => {
  const windows = HARBOUR.replaceAll("\n", "\r\n");
  const {
    songs: [song],
  } = await readFiles([file("harbour.cho", windows)]);
  assert.equal(song.body, HARBOUR, "the server keeps plain line ends");
  assert.deepEqual(Buffer.from(songFile(song, song.source).content), Buffer.from(windows));
  assert.equal(songFile(song).content, HARBOUR);
  assert.equal(songFile({ title: "a/b: c?", body: "x" }).name, "a b c.cho");
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
