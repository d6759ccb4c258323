// The keeper of the set list, against a server that is played by hand.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as later } from "node:timers/promises";
import { SetlistKeeper, missingCharts, withCharts, withKnownCharts } from "../../../src/web/stage/setlist.js";

const song = (id, revision = 1, more = {}) => ({
  id,
  title: id.toUpperCase(),
  format: "chordpro",
  body: `la ${id} ${revision}`,
  revision,
  ...more,
});
const bare = ({ body, ...rest }) => rest;
const turn = () => later(0);

/** A client whose server has a list, and answers at most two songs at a time. */
class FakeBand extends EventTarget {
  sessionId = "stage";
  status = "online";
  snapshot = null;
  timeline = null;
  members = [{ socketId: "ben", displayName: "Ben" }];
  asked = [];
  fails = [];
  served = { revision: 0, title: "", songs: [] };

  tell(type, detail) {
    if (type === "snapshot") this.snapshot = detail;
    if (type === "setlist_changed") this.snapshot = { ...this.snapshot, setlistRevision: detail.revision };
    this.dispatchEvent(Object.assign(new Event(type), { detail }));
  }

  join(served) {
    this.served = served;
    const { revision, title, songs } = served;
    this.tell("snapshot", {
      setlistRevision: revision || undefined,
      setlist: revision ? { revision, title, songs: songs.map(bare) } : undefined,
    });
  }

  async setlist() {
    this.asked.push("list");
    if (this.fails.length > 0) throw this.fails.shift();
    return { ...this.served, songs: this.served.songs.map(bare) };
  }

  async request(event, { songIds }) {
    this.asked.push(songIds.join(" "));
    await turn();
    if (this.fails.length > 0) throw this.fails.shift();
    const songs = songIds.map((id) => this.served.songs.find((one) => one.id === id)).filter(Boolean);
    return { revision: this.served.revision, songs: songs.slice(0, 2), more: songs.slice(2).map(({ id }) => id) };
  }

  /** Applies an edit on the server only. */
  edit(ops, from = "ben") {
    const base = this.served.revision;
    const revision = base + 1;
    const songs = [...this.served.songs];
    const sent = ops.map((op) => (op.song ? { ...op, song: { ...op.song, revision } } : op));
    for (const { op, song: one, songId } of sent) {
      const at = songs.findIndex(({ id }) => id === (songId ?? one?.id));
      if (op === "add") songs.push(one);
      if (op === "replace") songs[at] = one;
      if (op === "remove") songs.splice(at, 1);
    }
    this.served = { ...this.served, revision, songs };
    return { revision, base, ops: sent, from };
  }
}

async function settled(keeper) {
  for (let n = 0; n < 50 && !keeper.isComplete; n += 1) await turn();
  assert.ok(keeper.isComplete, "all charts arrive");
}

const bodies = ({ setlist }) => setlist.songs.map(({ body }) => body);

describe("a newcomer", () => {
  test("requests charts in pieces, the selected song first", async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    assert.equal(keeper.setlist, null);
    band.timeline = { song: "d" };
    band.join({ revision: 1, title: "Friday", songs: ["a", "b", "c", "d"].map((id) => song(id)) });
    assert.deepEqual(
      keeper.setlist.songs.map(({ body }) => body),
      [undefined, undefined, undefined, undefined],
    );
    await settled(keeper);
    assert.deepEqual(band.asked, ["d a b c", "b c"]);
    assert.equal(keeper.songById("c").body, "la c 1");
    assert.equal(keeper.songById("x"), null);
  });

  test("of a session without a list has an empty one", () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.join({ revision: 0, title: "", songs: [] });
    assert.deepEqual(keeper.setlist, { revision: 0, title: "", songs: [] });
    assert.deepEqual(band.asked, []);
  });

  test("shows a list of this device until the server has sent one", async () => {
    const band = new FakeBand();
    band.status = "connecting";
    const keeper = new SetlistKeeper(band);
    keeper.offer({ title: "Last time", songs: [song("a"), song("b")] });
    assert.equal(keeper.isCached, true);
    assert.deepEqual(bodies(keeper), ["la a 1", "la b 1"]);
    band.status = "online";
    band.join({ revision: 4, title: "Friday", songs: [song("a", 4), song("b")] });
    assert.equal(keeper.isCached, false);
    await settled(keeper);
    assert.deepEqual(bodies(keeper), ["la a 4", "la b 1"]);
    assert.deepEqual(band.asked, ["a"], "a chart that is here is not requested");
  });
});

describe("edits", () => {
  const joined = async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.join({ revision: 1, title: "Friday", songs: ["a", "b"].map((id) => song(id)) });
    await settled(keeper);
    band.asked = [];
    return { band, keeper };
  };

  test("are applied without a request, and name their editor", async () => {
    const { band, keeper } = await joined();
    band.tell(
      "setlist_changed",
      band.edit([
        { op: "replace", song: song("a", 1, { body: "new" }), was: 1 },
        { op: "add", song: song("c") },
      ]),
    );
    assert.deepEqual(bodies(keeper), ["new", "la b 1", "la c 1"]);
    assert.equal(keeper.editorOf("a"), "Ben");
    assert.equal(keeper.editorOf("b"), "");
    await turn();
    assert.deepEqual(band.asked, []);
  });

  test("that were missed bring the list, and only the charts that changed", async () => {
    const { band, keeper } = await joined();
    band.edit([{ op: "replace", song: song("b", 1, { body: "missed" }), was: 1 }]);
    band.tell("setlist_changed", band.edit([{ op: "add", song: song("c") }]));
    await turn();
    await settled(keeper);
    assert.deepEqual(bodies(keeper), ["la a 1", "missed", "la c 1"]);
    assert.deepEqual(band.asked, ["list", "b c"]);
  });

  test("that were missed show by the revision of a snapshot", async () => {
    const { band, keeper } = await joined();
    band.edit([{ op: "remove", songId: "a", was: 1 }]);
    band.tell("snapshot", { setlistRevision: 2 });
    await turn();
    await settled(keeper);
    assert.deepEqual(
      keeper.setlist.songs.map(({ id }) => id),
      ["b"],
    );
  });

  test("during a request win over its answer", async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.join({ revision: 1, title: "Friday", songs: [song("a")] });
    band.tell("setlist_changed", band.edit([{ op: "replace", song: song("a", 1, { body: "newer" }), was: 1 }]));
    await settled(keeper);
    await turn();
    assert.deepEqual(bodies(keeper), ["newer"]);
  });

  test("of a session that lost its list leave none here", async () => {
    const { band, keeper } = await joined();
    band.join({ revision: 0, title: "", songs: [] });
    assert.deepEqual(keeper.setlist.songs, []);
  });
});

describe("failures", () => {
  test("are tried again, after the pause that the server asks for", async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.fails = [Object.assign(new Error("too fast"), { code: "rate_limited", retryAfter: 20 })];
    band.join({ revision: 1, title: "Friday", songs: [song("a")] });
    await later(10);
    assert.equal(keeper.isComplete, false);
    await later(60);
    assert.equal(keeper.isComplete, true);
  });

  test("end with the connection, and go on with it", async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.status = "reconnecting";
    band.join({ revision: 1, title: "Friday", songs: [song("a")] });
    await turn();
    assert.deepEqual(band.asked, []);
    band.status = "online";
    band.tell("status", "online");
    await settled(keeper);
  });

  test("leave a song that can be fetched by hand", async () => {
    const band = new FakeBand();
    const keeper = new SetlistKeeper(band);
    band.fails = [Object.assign(new Error("lost"), { code: "timeout" })];
    band.join({ revision: 1, title: "Friday", songs: [song("a")] });
    await turn();
    await turn();
    await keeper.fetch("a");
    assert.equal(keeper.songById("a").body, "la a 1");
  });
});

test("a member's own version is shown in place of the band's", async () => {
  const band = new FakeBand();
  const keeper = new SetlistKeeper(band);
  const told = [];
  keeper.addEventListener("setlist", ({ detail }) => told.push(detail.songs[0].body));
  keeper.setMine("a", "mine");
  band.join({ revision: 1, title: "Friday", songs: [song("a"), song("b")] });
  await settled(keeper);
  assert.deepEqual([keeper.songById("a").body, keeper.songById("a").bandBody], ["mine", "la a 1"]);
  band.tell("setlist_changed", band.edit([{ op: "replace", song: song("a", 1, { body: "theirs" }), was: 1 }]));
  assert.deepEqual([keeper.songById("a").body, keeper.songById("a").bandBody], ["mine", "theirs"]);
  keeper.setMine("a", null);
  assert.equal(keeper.songById("a").body, "theirs");
  assert.equal(told.at(-1), "theirs");
});

test("charts are known by all that the list says of them", () => {
  const held = { songs: [song("a"), song("b")] };
  const list = {
    revision: 3,
    title: "",
    songs: [bare(song("a")), bare(song("b", 1, { title: "Other" })), bare(song("c"))],
  };
  const merged = withKnownCharts(list, held);
  assert.deepEqual(
    merged.songs.map(({ body }) => body),
    ["la a 1", undefined, undefined],
  );
  assert.deepEqual(missingCharts(merged, "c"), ["c", "b"]);
  assert.deepEqual(missingCharts(merged, "a"), ["b", "c"]);
  assert.deepEqual(
    withCharts(merged, [song("b", 2), song("c")]).songs.map(({ body }) => body),
    ["la a 1", undefined, "la c 1"],
  );
});
