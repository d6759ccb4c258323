import assert from "node:assert/strict";
import test from "node:test";
import { parseChart } from "../../../src/web/chart/chordpro.js";
import { exportSetlist, importFile, insertChord, setDirective, setSectionDirective, wrapSection } from "../../../src/web/chart/write.js";
import { Random } from "./random.js";

const returns = (list) => assert.deepEqual(importFile(exportSetlist(list)), list);
const titled = (body) => ({ title: parseChart(body).title, body });

test("a plain list needs nothing but {new_song}", () => {
  const list = { title: "Friday, Lighthouse", songs: [titled("{title: A}\n[G]la\n"), titled("{t: B}\nlo\n")] };
  assert.equal(exportSetlist(list), "{x_setlist: Friday, Lighthouse}\n{new_song}\n{title: A}\n[G]la\n{new_song}\n{t: B}\nlo\n");
  returns(list);
});

test("bodies come back to the letter", () => {
  const bodies = [
    "", "\n", "\n\n", "a", "a\n", "a\r\n", "a\r", "\r", "{title: A}\r\nb", "\uFEFF{title: A}\n", "{new_song}\n", "{new_song}", "a\n{ns}\nb", "a\n  { NEW_SONG : x }  \nb\r\n{ns}",
    "a\\", "a\\\n", "{x_song: songs=\"3\"}\n", "{x_song: end=\"none\"}", "{x_setlist: other}\na\n", "# only a remark", " ", "{", "}", "{x_song",
  ];
  returns({ title: "all", songs: bodies.map(titled) });
  for (const body of bodies) returns({ title: "one", songs: [titled(body)] });
  for (const body of bodies) returns({ title: "", songs: [titled(body), titled(body)] });
});

test("a list may call a song by another name", () => {
  for (const title of ["", "Other", 'a "quoted" {title}', "100 % %20", "line\nend"]) returns({ title: "x", songs: [{ title, body: "{title: A}\n" }] });
});

test("an empty list comes back", () => {
  returns({ title: "Nothing yet", songs: [] });
  returns({ title: "", songs: [] });
});

test("random lists come back", () => {
  const random = new Random(18);
  const pieces = ["{new_song}", "{ns}", "\n", "\r\n", "\r", "a", " ", "\\", "{x_song: songs=\"2\"}", "{x_setlist: y}", "{title: T}", "#", "{", "}", "\uFEFF", "é"];
  for (let i = 0; i < 2000; i += 1) {
    const body = () => Array.from({ length: random.int(0, 8) }, () => random.pick(pieces)).join("");
    const songs = Array.from({ length: random.int(0, 4) }, () => (random.int(0, 3) === 0 ? { title: "other", body: body() } : titled(body())));
    returns({ title: random.pick(["", "Gig", "{odd}"]), songs });
  }
});

test("a file with one song is that song, whole", () => {
  for (const text of ["", "[G]la", "{title: A}\r\n", "\uFEFF{t: A}", "{new_song}\n{t: A}\n", "words\n"]) {
    assert.deepEqual(importFile(text), { title: null, songs: [titled(text)] });
  }
});

test("a song book of another program is cut into its songs", () => {
  const { title, songs } = importFile("# mine\n{new_song}\n{title: A}\nla\n{ns}\n{title: B}\n");
  assert.equal(title, null);
  assert.deepEqual(songs, [{ title: "A", body: "{title: A}\nla\n" }, { title: "B", body: "{title: B}\n" }]);
});

test("a list that was written by hand or saved with other line ends is read", () => {
  assert.deepEqual(importFile("{x_setlist: L}\n{title: A}\nla\n{ns}\n{title: B}"), {
    title: "L", songs: [{ title: "A", body: "{title: A}\nla\n" }, { title: "B", body: "{title: B}" }],
  });
  const list = { title: "L", songs: [titled("{title: A}\nla"), titled("{title: B}\n")] };
  const { songs } = importFile(exportSetlist(list).replaceAll("\n", "\r\n"));
  assert.deepEqual(songs.map(({ body }) => body), ["{title: A}\r\nla", "{title: B}\r\n"]);
});

test("the whole list is also readable by {new_song} alone", () => {
  assert.equal(parseChart(exportSetlist({ title: "L", songs: [titled("{title: A}\nla")] })).title, "A");
});

for (const [what, text, name, value, expected] of [
  ["replaces a value and keeps its spelling", "{t:A}\n{key:  G }\nla", "key", "D", "{t:A}\n{key:  D }\nla"],
  ["keeps the short name", "{t:A}\r\nla", "title", "B", "{t:B}\r\nla"],
  ["replaces a value in {meta}", "{meta: key G}\nla", "key", "A", "{meta: key A}\nla"],
  ["replaces one of several on a line", "{t: A}{key: G}{c: x}\nla", "key", "E", "{t: A}{key: E}{c: x}\nla"],
  ["fills an empty directive", "{title}\nla", "title", "A", "{title: A}\nla"],
  ["fills one with a colon", "{title:}\nla", "title", "A", "{title: A}\nla"],
  ["changes a value that is part of the name", "{time: e}\nla", "time", "4/4", "{time: 4/4}\nla"],
  ["adds a line in the usual order", "{title: A}\n{tempo: 90}\n\n[G]la", "key", "G", "{title: A}\n{key: G}\n{tempo: 90}\n\n[G]la"],
  ["adds a first line", "la", "title", "A", "{title: A}\nla"],
  ["adds to an empty text", "", "title", "A", "{title: A}\n"],
  ["adds after an open end", "{title: A}", "key", "G", "{title: A}\n{key: G}"],
  ["uses the line end of the text", "{title: A}\r\nla", "tempo", 90, "{title: A}\r\n{tempo: 90}\r\nla"],
  ["leaves a byte order mark first", "\uFEFFla", "title", "A", "\uFEFF{title: A}\nla"],
  ["removes a directive with its line", "{title: A}\n{key: G}\nla", "key", null, "{title: A}\nla"],
  ["removes one of several on a line", "{t: A}{key: G}\nla", "key", "", "{t: A}\nla"],
  ["removes what is not there", "la", "key", null, "la"],
  ["leaves later changes alone", "{key: G}\n[G]la\n{key: A}\nlo", "key", "D", "{key: D}\n[G]la\n{key: A}\nlo"],
  ["adds before a later change", "[G]la\n{key: A}\nlo", "key", "D", "{key: D}\n[G]la\n{key: A}\nlo"],
  ["sets the last of two", "{key: G}\n{key: A}\nla", "key", "B", "{key: G}\n{key: B}\nla"],
  ["sets the first title", "{title: A}\n{title: B}\nla", "title", "C", "{title: C}\n{title: B}\nla"],
  ["sets the first song's", "{new_song}\n{t: A}\n{ns}\n{key: C}", "key", "D", "{new_song}\n{t: A}\n{key: D}\n{ns}\n{key: C}"],
  ["leaves selectors and remarks alone", "#{key: G}\n{key-capo: G}\nla", "key", "D", "{key: D}\n#{key: G}\n{key-capo: G}\nla"],
  ["keeps the value on one line", "la", "title", "A\r\nB", "{title: A B}\nla"],
  ["sets our own", "{title: A}\nla", "x_bars_per_line", 4, "{title: A}\n{x_bars_per_line: 4}\nla"],
]) {
  test(`setDirective ${what}`, () => {
    const written = setDirective(text, name, value);
    assert.equal(written, expected);
    assert.equal(setDirective(written, name, value), expected, "twice is as once");
  });
}

test("setDirective can be taken back", () => {
  const text = "{t: A}\r\n\r\n{sov}\r\n[G]la\r\n{eov}";
  for (const [name, value] of [["key", "G"], ["tempo", 90], ["time", "6/8"], ["duration", "3:00"], ["transpose", -2], ["x_felt", 3], ["x_bars_per_line", 2]]) {
    const changed = setDirective(text, name, value);
    assert.notEqual(changed, text);
    assert.equal(setDirective(changed, name, null), text);
  }
  const { key, tempo, durationMs, transpose, felt } = parseChart(["key G", "tempo 90", "duration 3:00", "transpose -2", "x_felt 3"].reduce((t, d) => setDirective(t, ...d.split(" ")), text));
  assert.deepEqual([key, tempo, durationMs, transpose, felt], ["G", 90, 180_000, -2, 3]);
});

test("setSectionDirective writes the timing of every kind of section", () => {
  const text = "{title: A}\nwords\n{sov}\nla\n{eov}\n\n{c: now}\n{soc}\nlo\n{eoc}\n{chorus}\ntail\ntail";
  let written = text;
  const count = parseChart(text).sections.length;
  for (let round = 1; round <= 2; round += 1) {
    for (let i = 0; i < count; i += 1) written = setSectionDirective(written, parseChart(written).sections[i], "x_beats", `${round} ${i + 1}`);
    assert.deepEqual(parseChart(written).sections.map(({ beats }) => beats), Array.from({ length: count }, (_, i) => [round, i + 1]));
    assert.equal(written.split("\n").length, text.split("\n").length + count);
  }
  for (let i = 0; i < count; i += 1) written = setSectionDirective(written, parseChart(written).sections[i], "x_beats", null);
  assert.equal(written, text);
});

test("wrapSection takes whole lines", () => {
  assert.deepEqual(wrapSection("a\nbb\ncc\nd", 3, 6, "chorus", "Chorus x2"), { text: "a\n{start_of_chorus: Chorus x2}\nbb\ncc\n{end_of_chorus}\nd", from: 31, to: 36 });
  assert.equal(wrapSection("a\r\nb", 0, 3, "verse").text, "{start_of_verse}\r\na\r\n{end_of_verse}\r\nb");
  assert.equal(wrapSection("a\nb", 2, 0, "verse").text, "{start_of_verse}\na\n{end_of_verse}\nb");
  assert.equal(wrapSection("", 0, 0, "verse").text, "{start_of_verse}\n\n{end_of_verse}");
  assert.equal(wrapSection("a\n", 2, 2, "verse").text, "a\n{start_of_verse}\n\n{end_of_verse}");
});

test("insertChord puts a chord in, or replaces one", () => {
  assert.deepEqual(insertChord("la lo", 3, "G"), { text: "la [G]lo", at: 6 });
  assert.deepEqual(insertChord("la [G]lo", 4, "Am7"), { text: "la [Am7]lo", at: 8 });
  assert.deepEqual(insertChord("la [G]lo", 3, "C"), { text: "la [C][G]lo", at: 6 });
  assert.deepEqual(insertChord("la [G]lo", 6, "C"), { text: "la [G][C]lo", at: 9 });
  assert.deepEqual(insertChord("{title: A}\nla", 4, "G"), { text: "{title: A}\nla", at: 4 });
  assert.deepEqual(insertChord("a\n", 2, "[G]"), { text: "a\n[G]", at: 5 });
  assert.deepEqual(insertChord("🎸e\u0301x", 1, "G"), { text: "[G]🎸e\u0301x", at: 3 });
  assert.deepEqual(insertChord("🎸e\u0301x", 3, "G"), { text: "🎸[G]e\u0301x", at: 5 });
});
