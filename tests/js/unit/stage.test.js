// The model of the stage page: bars and passes, the song that is on, what is armed, and how commands are waited for.
import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import { barAt, feltHere, passAt, Stage } from "../../../src/web/stage/model.js";
import { BandSyncError } from "../../../src/web/bandsync.js";
import { ERRORS, STAGE, noteOf } from "../../../src/web/texts.js";

globalThis.requestAnimationFrame ??= () => 0;
globalThis.cancelAnimationFrame ??= () => {};

const segment = (fields) => ({ t0: 0, p0: 0, b0: 0, rate: 1, bpm0: 120_000, bpm1: 120_000, ramp: 0, ...fields });

/** A band whose server time and timeline are set by the test. */
class FakeBand extends EventTarget {
  timeline = null;
  snapshot = { settings: { anyoneMayCue: false, anyoneMayEdit: false, maxMembers: 8 } };
  members = [];
  memberCount = 1;
  status = "online";
  id = "me";
  isLeader = true;
  leader = { displayName: "Ben" };
  at = 0;
  clock = { now: () => this.at / 1000 };
  isPlaying = true;

  serverMicros() {
    return this.at;
  }

  beat() {
    return this.timeline && { songBeat: 0, num: 4, den: 4, bar: 1, beat: 1, tempoBpm: 120, pass: 0, countIn: false };
  }

  request() {
    return Promise.resolve({ songs: [], more: [], revision: 0, title: "" });
  }

  setlist() {
    return Promise.resolve({ songs: [], revision: 0, title: "" });
  }

  songs() {
    return Promise.resolve([]);
  }

  becomes(timeline) {
    this.timeline = { epoch: 1, version: 1, meter: [], ...timeline };
    this.dispatchEvent(new Event("change"));
  }
}

const stageOf = (band) => {
  const stage = new Stage(band);
  stage.enter();
  return stage;
};

describe("places", () => {
  test("bars are counted over changes of the metre, and a short first bar is one", () => {
    const meter = [{ beat: 0, num: 1, den: 4 }, { beat: 1, num: 4, den: 4 }, { beat: 9, num: 3, den: 4 }];
    assert.deepEqual([0, 0.5, 1, 4.9, 5, 8.9, 9, 12].map((beat) => barAt(meter, beat)), [0, 0, 1, 1, 2, 2, 3, 4]);
  });

  test("three beats are felt as one in 6/8, 9/8 and 12/8 only", () => {
    const felt = (num, den, chart) => feltHere({ song: chart && { chart } }, { beat: { num, den } });
    assert.deepEqual([felt(6, 8), felt(9, 8), felt(12, 8), felt(3, 8), felt(7, 8), felt(6, 4)], [3, 3, 3, 1, 1, 1]);
    assert.deepEqual([felt(6, 8, { felt: 1 }), felt(6, 4, { felt: 3 }), felt(4, 4, { felt: 3 })], [1, 3, 1], "unless the chart says another thing");
  });

  test("a tempo is shown with the note that it counts", () => {
    assert.deepEqual([noteOf(3, 8), noteOf(1, 8), noteOf(1, 4), noteOf(1, 2)], ["♩.", "♪", "♩", "1/2"]);
  });

  test("a place before the song is in its first pass, and one after it in none", () => {
    const map = { beats: 16, passes: [{ from: 0, to: 8 }, { from: 8, to: 16 }] };
    assert.deepEqual([-4, 0, 7.9, 8, 15.9, 16, 20].map((beat) => passAt(map, beat)), [0, 0, 0, 1, 1, -1, -1]);
    assert.equal(passAt({ beats: 0, passes: [] }, 0), -1);
    assert.equal(passAt(null, 0), -1);
  });
});

describe("the song that is on", () => {
  test("changes at the instant of an armed song, without a message", () => {
    const band = new FakeBand();
    const stage = stageOf(band);
    const heard = [];
    stage.addEventListener("song", () => heard.push(stage.song?.id));
    const armed = segment({ t0: 5_000_000, armed: "song", song: "b", cut: 10_000_000 });
    band.becomes({ song: "a", segments: [segment({}), armed] });
    assert.deepEqual(heard, ["a"]);
    assert.deepEqual(stage.armed, { kind: "song", beat: 0, at: 5000, count: 10, songId: "b" });
    band.at = 5_000_001;
    band.dispatchEvent(new Event("change"));
    assert.deepEqual(heard, ["a", "b"]);
    assert.equal(stage.armed, null);
    stage.leave();
  });

  test("is shown with its title from the snapshot until its text comes", () => {
    const band = new FakeBand();
    band.snapshot.song = { id: "a", title: "Harbour", index: 0 };
    const stage = stageOf(band);
    band.becomes({ song: "a", segments: [segment({})] });
    assert.deepEqual([stage.song.title, stage.song.body, stage.song.map], ["Harbour", null, null]);
    stage.leave();
  });

  test("a jump goes before a tempo in what is armed, and the end counts for nothing", () => {
    const band = new FakeBand();
    const stage = stageOf(band);
    const later = [
      segment({ t0: 1e6, armed: "tempo", bpm1: 96_000, b0: 4e6 }),
      segment({ t0: 2e6, armed: "jump", b0: 32e6, cut: 8e6 }),
      segment({ t0: 3e6, armed: "end", rate: 0 }),
    ];
    band.becomes({ segments: [segment({}), ...later] });
    assert.equal(stage.armed.kind, "jump");
    assert.equal(stage.armed.beat, 32);
    assert.deepEqual(stage.armedAll.map(({ kind }) => kind), ["tempo", "jump"]);
    stage.leave();
  });
});

describe("a command", () => {
  const toasts = (stage) => {
    const texts = [];
    stage.addEventListener("toast", ({ detail }) => texts.push(detail.text));
    return texts;
  };

  test("shows progress after 300 ms and a text after 2 s, and neither once it is answered", async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      const stage = new Stage(new FakeBand());
      const texts = toasts(stage);
      const busy = [];
      stage.addEventListener("busy", ({ detail }) => busy.push(detail.isBusy));
      let answer = null;
      const done = stage.command(new Promise((resolve) => {
        answer = resolve;
      }));
      mock.timers.tick(299);
      assert.deepEqual(busy, []);
      mock.timers.tick(1);
      assert.deepEqual(busy, [true]);
      mock.timers.tick(1700);
      assert.deepEqual(texts, [STAGE.noAnswerYet]);
      answer();
      assert.equal(await done, true);
      assert.deepEqual(busy, [true, false]);
    } finally {
      mock.timers.reset();
    }
  });

  test("that is rejected shows the text of its code, with names put in", async () => {
    const stage = new Stage(new FakeBand());
    const texts = toasts(stage);
    const rejected = (fields) => stage.command(Promise.reject(new BandSyncError(fields)));
    assert.equal(await rejected({ code: "not_leader" }), false);
    await rejected({ code: "too_late" });
    await rejected({ code: "not_allowed", message: "the loop is shorter than a bar" });
    await stage.command(Promise.reject(new BandSyncError({ code: "too_late" })), { texts: { too_late: "Over." } });
    await stage.command(Promise.reject(new BandSyncError({ code: "offline" })), { quiet: true });
    assert.deepEqual(texts, ["Ben leads now.", ERRORS.too_late, "The loop is shorter than a bar.", "Over."]);
  });
});

describe("rights", () => {
  test("a leader may edit and cue, others by setting or right, a screen never", () => {
    const band = new FakeBand();
    const stage = new Stage(band);
    assert.deepEqual([stage.mayEdit, stage.mayCue], [true, true]);
    band.isLeader = false;
    assert.deepEqual([stage.mayEdit, stage.mayCue], [false, false]);
    band.members = [{ socketId: "me", mayEdit: true }];
    assert.equal(stage.mayEdit, true);
    band.snapshot.settings.anyoneMayCue = true;
    assert.equal(stage.mayCue, true);
    const screen = new Stage(band, { screen: true });
    assert.deepEqual([screen.mayEdit, screen.mayCue, screen.isLeader], [false, false, false]);
  });
});

describe("rejections", () => {
  test("a list with too many songs is told so, and one that is too large how large it is", () => {
    const stage = new Stage(new FakeBand());
    assert.equal(stage.reason({ code: "too_large" }), ERRORS.too_many);
    assert.equal(stage.reason({ code: "too_large", bytes: 1_200_100, max: 1_048_576 }), "The list would be 1201 kB; it may have 1048. Remove a song or its tabs.");
    assert.equal(stage.reason({ message: "this server is full" }), "This server is full.");
  });
});
