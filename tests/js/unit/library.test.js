// The songs of a browser, in the memory that replaces IndexedDB where that is refused. The browser tests use IndexedDB.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Library, MemoryShelves, isSameSong } from "../../../src/web/stage/library.js";

const song = (id, more = {}) => ({ id, title: id.toUpperCase(), format: "chordpro", body: `la ${id}`, ...more });

function fresh() {
  let now = 0;
  return new Library(new MemoryShelves(), () => (now += 1));
}

test("songs are kept by id, and what only the server knows is left out", async () => {
  const library = fresh();
  await library.keepSongs([song("b", { revision: 4, bandBody: "x" }), song("a"), song("c", { body: undefined })]);
  assert.deepEqual(
    (await library.songs()).map(({ id }) => id),
    ["a", "b"],
  );
  const kept = await library.song("b");
  assert.deepEqual([kept.revision, kept.bandBody, kept.isMade], [undefined, undefined, false]);
  await library.keepSongs([song("b")], { isMade: true });
  assert.equal((await library.song("b")).isMade, true);
  await library.removeSong("b");
  assert.equal(await library.song("b"), undefined);
});

test("the file of a song stays until its chart changes", async () => {
  const library = fresh();
  await library.keepSongs([song("a", { source: "la a\r\n" })], { isMade: true });
  await library.keepSongs([song("a", { title: "Other" })]);
  assert.equal((await library.song("a")).source, "la a\r\n");
  await library.keepSongs([song("a", { body: "new" })]);
  assert.equal((await library.song("a")).source, undefined);
});

test("a song is known again by title and artist", async () => {
  const library = fresh();
  await library.keepSongs([song("a", { title: "Harbour", artist: "The Lamps" })]);
  assert.equal((await library.findSong({ title: " harbour " })).id, "a");
  assert.equal((await library.findSong({ title: "Harbour", artist: "the  lamps" })).id, "a");
  assert.equal(await library.findSong({ title: "Harbour", artist: "Others" }), null);
  assert.equal(isSameSong({ title: "A" }, { title: "B" }), false);
});

test("the last ten lists are kept, each session and title once", async () => {
  const library = fresh();
  for (let n = 0; n < 12; n += 1) await library.keepList("stage", { title: `List ${n}`, songs: [song(`a${n}`)] });
  await library.keepList("stage", { title: "List 5", songs: [song("b")] });
  await library.keepList("stage", { title: "Empty", songs: [] });
  const lists = await library.lists();
  assert.equal(lists.length, 10);
  assert.deepEqual(
    lists.slice(0, 2).map(({ title, songs }) => [title, songs[0].id]),
    [
      ["List 5", "b"],
      ["List 11", "a11"],
    ],
  );
});

test("a list with a new title is no new list", async () => {
  const library = fresh();
  await library.keepList("stage", { title: "", songs: [song("a"), song("b")] });
  await library.keepList("stage", { title: "Friday", songs: [song("a"), song("b")] });
  await library.keepList("other", { title: "Saturday", songs: [song("a"), song("b")] });
  assert.deepEqual(
    (await library.lists()).map(({ title }) => title),
    ["Saturday", "Friday"],
  );
});

test("drafts and own versions are kept and dropped", async () => {
  const library = fresh();
  await library.keepDraft({ id: "a", body: "x", was: 3 });
  assert.equal((await library.draft("a")).was, 3);
  await library.dropDraft("a");
  assert.equal(await library.draft("a"), undefined);
  await library.keepMine("a", "mine", "theirs");
  assert.deepEqual(
    (await library.mine()).map(({ id, body, was }) => [id, body, was]),
    [["a", "mine", "theirs"]],
  );
  await library.dropMine("a");
  assert.deepEqual(await library.mine(), []);
});

test("a browser that refuses its database gets a library in memory", async () => {
  for (const factory of [
    undefined,
    {
      open: () => {
        throw new Error("denied");
      },
    },
  ]) {
    const library = await Library.open(factory);
    assert.equal(library.isKept, false);
    await library.keepSongs([song("a")]);
    assert.equal((await library.songs()).length, 1);
  }
});

test("a database that fails later is replaced by memory, with what it had", async () => {
  const shelves = new MemoryShelves();
  const library = new Library(Object.assign(shelves, { isKept: true }));
  await library.keepSongs([song("a")]);
  shelves.change = async () => {
    throw new Error("no room");
  };
  await library.keepSongs([song("b")]);
  assert.equal(library.isKept, false);
  assert.deepEqual(
    (await library.songs()).map(({ id }) => id),
    ["a", "b"],
  );
});
