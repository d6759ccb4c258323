// Set lists of several editors, their rights, and stage messages, through the unmodified
// socket.io-client.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, before, describe, test } from "node:test";
import { BandSync, editedSetlist } from "../../../src/web/bandsync.js";
import { band, connect, emit, everyoneReceives, freshSession, join, next, received } from "../support/client.js";
import { oneServer, startServers } from "../support/nodes.js";
import { startServer } from "../support/server.js";
import { assertDone, assertErrorEvent, assertRefused, assertShape } from "../support/shape.js";
import { within } from "../support/wait.js";

const EDITED = { epoch: "number", version: "number", revision: "number" };
const song = (id, fields = {}) => ({ id, title: id.toUpperCase(), format: "text", body: `la ${id}`, ...fields });
const list = (...ids) => ({ title: "Friday", songs: ids.map((id) => song(id)) });
const ids = ({ songs }) => songs.map(({ id, revision }) => `${id}@${revision}`).join(" ");

let server;
before(async () => (server = await startServers()));
after(() => server.stop());

/** A band with a set list of these songs. */
async function listed(size, ...songs) {
  const b = await band(server, size);
  await everyoneReceives(b.all, "setlist", () => true, async () =>
    assertDone(await emit(b.leader, "set_setlist", { sessionId: b.sessionId, setlist: list(...songs) })));
  b.edit = (member, ...ops) => emit(member, "edit_setlist", { sessionId: b.sessionId, ops });
  b.list = (member = b.leader) => emit(member, "get_setlist", { sessionId: b.sessionId });
  return b;
}

describe("questions", () => {
  test("any member asks for the list and for its songs", async () => {
    const b = await listed(2, "a", "b", "c");
    const [follower] = b.followers;
    const whole = await b.list(follower);
    assertDone(whole, { revision: 1, title: "Friday", songs: "array" });
    assert.equal(ids(whole), "a@1 b@1 c@1");
    assert.ok(whole.songs.every((one) => one.body === undefined));
    assertDone(await emit(b.leader, "select_song", { sessionId: b.sessionId, songId: "b" }));
    const all = await emit(follower, "get_songs", { sessionId: b.sessionId });
    assertDone(all, { revision: 1, songs: "array", more: "array" });
    assert.deepEqual(all.songs.map((one) => one.body), ["la b", "la a", "la c"]);
    const some = await emit(follower, "get_songs", { sessionId: b.sessionId, songIds: ["c", "gone", "a"] });
    assert.deepEqual([ids(some), some.more], ["c@1 a@1", []]);
    const stranger = await connect(server);
    for (const event of ["get_setlist", "get_songs"]) {
      assertRefused(await emit(stranger, event, { sessionId: b.sessionId }), "not_member");
    }
    for (const songIds of ["a", [7], [""], Array(501).fill("a")]) {
      assertRefused(await emit(follower, "get_songs", { sessionId: b.sessionId, songIds }), "invalid_payload", "songIds");
    }
  });

  test("a session without a list has revision 0", async () => {
    const { sessionId, leader } = await band(server, 1);
    assert.equal(leader.snapshot.setlistRevision, undefined);
    assertDone(await emit(leader, "get_setlist", { sessionId }), { revision: 0, title: "" });
    assert.deepEqual((await emit(leader, "get_songs", { sessionId })).more, []);
  });

  test("songs come in answers of up to 256 KiB, and at least one", async () => {
    const b = await listed(1);
    const songs = Array.from({ length: 12 }, (_, n) => song(`s${n}`, { body: "é".repeat(25_000) }));
    const setlist = { title: "long", songs };
    assertDone(await emit(b.leader, "set_setlist", { sessionId: b.sessionId, setlist }));
    const found = [];
    let wanted;
    for (let asked = 0; asked < 5 && wanted?.length !== 0; asked += 1) {
      const answer = await emit(b.leader, "get_songs", { sessionId: b.sessionId, ...(wanted && { songIds: wanted }) });
      assert.ok(answer.songs.length >= 1 && answer.songs.length <= 5);
      found.push(...answer.songs);
      wanted = answer.more;
    }
    assert.deepEqual(found.map(({ revision, ...one }) => one), songs);
  });
});

describe("edits", () => {
  test("all members receive the operations, with the songs that are new only", async () => {
    const b = await listed(3, "a", "b", "c");
    const ops = [
      { op: "add", song: song("d"), before: "b" },
      { op: "replace", song: song("c", { body: "lo" }), was: 1 },
      { op: "move", songId: "a" },
      { op: "remove", songId: "b", was: 1 },
      { op: "retitle", title: "Saturday" },
    ];
    const changes = everyoneReceives(b.all, "setlist_changed", () => true, async () =>
      assertDone(await b.edit(b.leader, ...ops), { ...EDITED, revision: 2 }));
    for (const change of await changes) {
      assertShape(change, {
        sessionId: b.sessionId, revision: 2, base: 1, from: b.leader.id, epoch: "number", version: "number", checksum: "string",
      });
      const [added, replaced, ...others] = change.ops;
      assert.deepEqual(added, { op: "add", song: { ...song("d"), revision: 2 }, before: "b" });
      assert.deepEqual(replaced, { op: "replace", song: { ...song("c", { body: "lo" }), revision: 2 }, was: 1 });
      assert.deepEqual(others, ops.slice(2));
    }
    const whole = await b.list();
    assert.deepEqual([whole.title, ids(whole)], ["Saturday", "d@2 c@2 a@1"]);
    const newcomer = await join(server, b.sessionId);
    assert.equal(newcomer.snapshot.setlistRevision, 2);
    assert.equal(ids(newcomer.snapshot.setlist), "d@2 c@2 a@1");
  });

  test("of two editors of a song the second receives the song of the first", async () => {
    const b = await listed(2, "a", "b");
    const [follower] = b.followers;
    assertDone(await emit(b.leader, "set_member", { sessionId: b.sessionId, memberId: follower.id, mayEdit: true }));
    const replace = (member, body) => b.edit(member, { op: "add", song: song(body) }, { op: "replace", song: song("a", { body }), was: 1 });
    const [first, second] = await Promise.all([replace(b.leader, "one"), replace(follower, "two")]);
    const [won, lost, body] = first.ok ? [first, second, "one"] : [second, first, "two"];
    assertDone(won, { revision: 2 });
    assertRefused(lost, "conflict", undefined, { revision: 2, songId: "a", song: "object" });
    assert.deepEqual(lost.error.song, { ...song("a", { body }), revision: 2 });
    const whole = await b.list();
    assert.equal(ids(whole), `a@2 b@1 ${body}@2`, "of the second edit nothing was applied");
    assertDone(await b.edit(b.leader, { op: "remove", songId: "a", was: 2 }));
    const gone = await b.edit(follower, { op: "remove", songId: "a", was: 2 });
    assertRefused(gone, "conflict", undefined, { songId: "a" });
    assert.equal(gone.error.song, null);
    const told = next(follower, "error");
    follower.emit("edit_setlist", { sessionId: b.sessionId, ops: [{ op: "remove", songId: "a", was: 2 }] });
    const error = await told;
    assertErrorEvent(error, "edit_setlist", "conflict");
    assert.deepEqual([error.revision, error.songId, error.song], [3, "a", null]);
  });

  test("an edit that is sent again is applied once", async () => {
    const b = await listed(1, "a");
    const payload = { sessionId: b.sessionId, commandId: "an_editor-1", ops: [{ op: "add", song: song("b") }] };
    assertDone(await emit(b.leader, "edit_setlist", payload), { revision: 2 });
    assertDone(await emit(b.leader, "edit_setlist", payload), { repeated: true });
    assert.equal(ids(await b.list()), "a@1 b@2");
  });

  test("the song that plays stays, and the line that sounds", async () => {
    const b = await listed(2, "a", "b");
    const { sessionId, leader } = b;
    assertDone(await emit(leader, "select_song", { sessionId, songId: "b" }));
    assertDone(await emit(leader, "play", { sessionId }));
    assertRefused(await b.edit(leader, { op: "remove", songId: "b", was: 1 }), "not_allowed");
    const before = await emit(leader, "sync_request", { sessionId });
    const moved = next(b.followers[0], "snapshot", (one) => one.song?.title === "New");
    assertDone(await b.edit(leader, { op: "replace", song: song("b", { title: "New" }), was: 1, shift: 16 }));
    const { timeline } = await moved;
    const beat = ({ segments: [{ t0, b0, bpm0 }] }, t) => b0 + ((t - t0) * bpm0) / 60_000;
    const t = timeline.madeAt;
    assert.ok(Math.abs(beat(timeline, t) - beat(before.timeline, t) - 16_000_000) <= 1);
    assertDone(await emit(leader, "stop", { sessionId }));
    assertDone(await b.edit(leader, { op: "remove", songId: "b", was: 2 }));
    assert.equal((await join(server, sessionId)).snapshot.song, undefined);
  });

  test("an edit beyond a limit changes nothing", async () => {
    const b = await listed(1, "a");
    const big = (id) => ({ op: "add", song: song(id, { body: "x".repeat(65_536) }) });
    assertRefused(await b.edit(b.leader, { op: "add", song: song("b", { body: "x".repeat(65_537) }) }), "too_large", "ops", { max: 65_536 });
    assertRefused(await b.edit(b.leader), "invalid_payload", "ops");
    assertRefused(await b.edit(b.leader, ...Array(101).fill({ op: "retitle", title: "x" })), "invalid_payload", "ops");
    assertRefused(await b.edit(b.leader, { op: "add", song: song("a") }), "invalid_payload", "ops");
    assertDone(await b.edit(b.leader, ...Array.from({ length: 10 }, (_, n) => big(`s${n}`))));
    const over = await b.edit(b.leader, ...Array.from({ length: 6 }, (_, n) => big(`t${n}`)));
    assertRefused(over, "too_large", "ops", { bytes: "number", max: 1_048_576 });
    assert.equal((await b.list()).songs.length, 11);
  });

  test("the 501st song is rejected", async () => {
    const b = await listed(1, ...Array.from({ length: 500 }, (_, n) => `s${n}`));
    assertRefused(await b.edit(b.leader, { op: "add", song: song("t") }), "too_large", "ops");
    assertDone(await b.edit(b.leader, { op: "add", song: song("t") }, { op: "remove", songId: "s7", was: 1 }));
  });

  test("a member that applies every edit has the server's list", async () => {
    const b = await listed(2, "a", "b", "c", "d");
    assertDone(await emit(b.leader, "update_settings", { sessionId: b.sessionId, anyoneMayEdit: true }));
    let held = await b.list(b.followers[0]);
    delete held.ok;
    b.followers[0].on("setlist_changed", (change) => (held = editedSetlist(held, change)));
    for (let n = 0; n < 8; n += 1) {
      const { songs } = await b.list();
      const pick = () => songs[(7 * n + 3) % songs.length];
      const { id: songId, revision: was } = pick();
      const before = songs[(3 * n) % songs.length].id;
      const ops = [
        { op: "move", songId, before },
        { op: "add", song: song(`n${n}`), before: n % 2 === 0 ? songId : "gone" },
        n % 3 === 0 ? { op: "remove", songId, was } : { op: "replace", song: song(songId, { title: `${n}` }), was },
        { op: "move", songId: before },
      ];
      assertDone(await b.edit(b.all[n % 2], ...ops));
      await new Promise((done) => setTimeout(done, 250));
    }
    const { ok, ...whole } = await b.list();
    const bare = { ...held, songs: held.songs.map(({ body, ...one }) => one) };
    assert.deepEqual(bare, whole);
  });
});

describe("rights", () => {
  test("the leader lets members edit, one by one or all", async () => {
    const b = await listed(2, "a");
    const [follower] = b.followers;
    const { sessionId, leader } = b;
    const edit = () => b.edit(follower, { op: "retitle", title: "x" });
    const right = (mayEdit, from = leader) => emit(from, "set_member", { sessionId, memberId: follower.id, mayEdit });
    assertRefused(await edit(), "not_allowed");
    assertRefused(await right(true, follower), "not_leader");
    assertRefused(await emit(leader, "set_member", { sessionId, memberId: "x".repeat(20), mayEdit: true }), "invalid_payload", "memberId");
    const [told] = await everyoneReceives(b.all, "session_update", () => true, async () => assertDone(await right(true)));
    assertShape(told.member, { socketId: follower.id, mayEdit: true });
    assertDone(await edit());
    const shown = (await join(server, sessionId)).snapshot.members;
    assert.deepEqual(shown.map((member) => member.mayEdit), [undefined, true, undefined]);
    assertDone(await right(false));
    assertRefused(await edit(), "not_allowed");
    assertDone(await emit(leader, "update_settings", { sessionId, anyoneMayEdit: true }));
    assertDone(await edit());
    assert.equal((await join(server, sessionId)).snapshot.settings.anyoneMayEdit, true);
  });
});

describe("stage messages", () => {
  test("have a kind and a time, and old ones get both", async () => {
    const { sessionId, leader, followers: [follower] } = await band(server, 2);
    for (const [fields, expected] of [
      [{ text: "chorus" }, { text: "chorus", kind: "info", seconds: 5 }],
      [{ kind: "go" }, { text: "", kind: "go", seconds: 5 }],
      [{ text: "wait", kind: "hold", seconds: 0, target: "drums" }, { text: "wait", kind: "hold", seconds: 0, target: "drums" }],
    ]) {
      const cue = next(follower, "cue");
      assertDone(await emit(leader, "cue", { sessionId, ...fields }));
      assertShape(await cue, { sessionId, from: leader.id, atServerMs: "number", serverTimestamp: "number", ...expected });
    }
    assertRefused(await emit(leader, "cue", { sessionId }), "invalid_payload", "text");
    assertRefused(await emit(leader, "cue", { sessionId, text: "x", kind: "run" }), "invalid_payload", "kind");
    assertRefused(await emit(leader, "cue", { sessionId, kind: "stop", seconds: 61 }), "invalid_payload", "seconds");
    assertRefused(await emit(follower, "cue", { sessionId, kind: "stop" }), "not_leader");
    assert.equal(received(follower, "cue").length, 3);
  });
});

describe("the library", () => {
  test("edits, asks for songs, and shows conflicts", async () => {
    const sessionId = freshSession("library");
    const ann = new BandSync({ url: server.url, sessionId, role: "leader" });
    const ben = new BandSync({ url: server.url, sessionId });
    try {
      await ann.join();
      await ben.join();
      const songs = Array.from({ length: 30 }, (_, n) => song(`s${n}`, { body: "é".repeat(16_000) }));
      // Another node has the list when its members receive it, which may be after Ann's answer.
      const sent = within(10_000, new Promise((done) => ben.addEventListener("setlist", done, { once: true })), "the list is received");
      sent.catch(() => {});
      await ann.setSetlist({ title: "long", songs });
      await sent;
      assert.deepEqual((await ben.songs()).map(({ id }) => id), songs.map(({ id }) => id));
      const changed = within(10_000, new Promise((done) => ben.addEventListener("setlist_changed", done)), "the edit is received");
      await ann.setMember(ben.id, { mayEdit: true });
      await ben.editSetlist([{ op: "retitle", title: "short" }, { op: "remove", songId: "s3", was: 1 }]);
      const { detail } = await changed;
      assert.equal(ben.snapshot.setlistRevision, detail.revision);
      assert.equal((await ann.setlist()).title, "short");
      const conflict = await ann.editSetlist([{ op: "remove", songId: "s3", was: 1 }]).catch((error) => error);
      assert.deepEqual([conflict.code, conflict.songId, conflict.song], ["conflict", "s3", null]);
    } finally {
      ann.leave();
      ben.leave();
    }
  });
});

test("revisions and rights survive kill -9", oneServer("nodes have Redis, and no file"), async () => {
  const directory = mkdtempSync(joinPath(tmpdir(), "bandsync-songs-"));
  const env = { DATA_DIR: joinPath(directory, "data") };
  const sessionId = freshSession("stored");
  let running = await startServer({ env });
  try {
    const leader = await join(running, sessionId, { role: "leader" });
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: list("a", "b") }));
    assertDone(await emit(leader, "edit_setlist", { sessionId, ops: [{ op: "replace", song: song("b", { title: "B!" }), was: 1 }] }));
    assertDone(await emit(leader, "update_settings", { sessionId, anyoneMayEdit: true }));
    await new Promise((done) => setTimeout(done, 1_000));
    await running.crash();
    running = await startServer({ env });
    const follower = await join(running, sessionId, { role: "follower" });
    assert.equal(ids(await emit(follower, "get_setlist", { sessionId })), "a@1 b@2");
    const stale = await emit(follower, "edit_setlist", { sessionId, ops: [{ op: "remove", songId: "b", was: 1 }] });
    assertRefused(stale, "conflict", undefined, { revision: 2 });
    assertDone(await emit(follower, "edit_setlist", { sessionId, ops: [{ op: "remove", songId: "b", was: 2 }] }), { revision: 3 });
  } finally {
    await running.crash();
    rmSync(directory, { recursive: true, force: true });
  }
});
