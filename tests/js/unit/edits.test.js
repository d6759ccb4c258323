// Edits of a set list, as the page makes them: operations, dragging, conflicts, and the steps of an editor.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { editedSetlist } from "../../../src/web/bandsync.js";
import { readSong } from "../../../src/web/chart/unfold.js";
import {
  TextHistory,
  barsByLength,
  changedLines,
  clockText,
  commented,
  dropIndex,
  durationOf,
  excessOf,
  inPieces,
  moveBy,
  moveTo,
  newSongId,
  offsetOfLine,
  readClock,
  restored,
  settled,
  totalDuration,
  withBarsPerLine,
} from "../../../src/web/stage/edits.js";

const songs = (ids) =>
  [...ids].map((id) => ({ id, title: id.toUpperCase(), format: "chordpro", body: `la ${id}`, revision: 1 }));
const list = (ids) => ({ revision: 1, title: "Friday", songs: songs(ids) });
const after = (ids, ...ops) => {
  const sent = ops.map((op) => (op.song ? { ...op, song: { ...op.song, revision: 2 } } : op));
  return editedSetlist(list(ids), { revision: 2, base: 1, ops: sent })
    .songs.map(({ id }) => id)
    .join("");
};

describe("moves", () => {
  test("a song goes to any place, counted without it", () => {
    for (let from = 0; from < 4; from += 1) {
      for (let to = 0; to < 4; to += 1) {
        const id = "abcd"[from];
        const op = moveTo(songs("abcd"), id, to);
        const wanted = [..."abcd"].filter((one) => one !== id);
        wanted.splice(to, 0, id);
        assert.equal(op ? after("abcd", op) : "abcd", wanted.join(""), `${id} to ${to}`);
        assert.equal(op === null, from === to);
      }
    }
  });

  test("up and down end at the ends", () => {
    assert.equal(after("abc", moveBy(songs("abc"), "b", -1)), "bac");
    assert.equal(after("abc", moveBy(songs("abc"), "b", 1)), "acb");
    assert.equal(moveBy(songs("abc"), "a", -1), null);
    assert.equal(moveBy(songs("abc"), "c", 1), null);
    assert.equal(moveBy(songs("abc"), "gone", 1), null);
  });

  test("a dragged row takes the place that it covers most", () => {
    const rows = [0, 60, 160, 220].map((top, i) => ({ top, height: [60, 100, 60, 60][i] }));
    const middle = (from, top) => top + rows[from].height / 2;
    for (let from = 0; from < 4; from += 1)
      assert.equal(dropIndex(rows, from, middle(from, rows[from].top)), from, `row ${from} at rest`);
    assert.equal(dropIndex(rows, 0, middle(0, 49)), 0, "not yet over half of the next row");
    assert.equal(dropIndex(rows, 0, middle(0, 51)), 1);
    assert.equal(dropIndex(rows, 0, middle(0, 1000)), 3);
    assert.equal(dropIndex(rows, 3, middle(3, -1000)), 0);
    assert.equal(dropIndex(rows, 3, middle(3, 109)), 1);
  });

  test("a removed song comes back to its place, with the band's chart", () => {
    const all = songs("abc");
    all[1] = { ...all[1], body: "mine", bandBody: "the band's" };
    const [op] = restored(all, "b");
    assert.deepEqual(op, {
      op: "add",
      before: "c",
      song: { id: "b", title: "B", format: "chordpro", body: "the band's" },
    });
    assert.equal(restored(songs("abc"), "c")[0].before, undefined);
  });
});

describe("sending", () => {
  test("many operations go in pieces of at most 100, and of a size", () => {
    const add = (n, body = "") => ({ op: "add", song: { id: `s${n}`, body } });
    const small = Array.from({ length: 250 }, (_, n) => add(n));
    assert.deepEqual(
      inPieces(small).map((piece) => piece.length),
      [100, 100, 50],
    );
    const large = Array.from({ length: 10 }, (_, n) => add(n, "é".repeat(30_000)));
    const pieces = inPieces(large);
    assert.deepEqual(pieces.flat(), large);
    for (const piece of pieces) assert.ok(JSON.stringify(piece).length <= 240_000 && piece.length >= 1);
    assert.equal(inPieces([add(0, "x".repeat(500_000))]).length, 1, "an operation is never cut");
    assert.deepEqual(inPieces([]), []);
  });

  test("new ids differ, and fit", () => {
    const ids = new Set(Array.from({ length: 1000 }, newSongId));
    assert.equal(ids.size, 1000);
    for (const id of ids) assert.match(id, /^[\w-]{8,64}$/);
  });

  test("an answer to a conflict says what is sent", () => {
    const mine = { id: "a", body: "mine" };
    const theirs = { id: "a", body: "theirs", revision: 7 };
    assert.deepEqual(settled("theirs", { mine, theirs }), []);
    assert.deepEqual(settled("mine", { mine, theirs }), [{ op: "replace", song: mine, was: 7 }]);
    assert.deepEqual(settled("mine", { mine, theirs, shift: -8 }), [{ op: "replace", song: mine, was: 7, shift: -8 }]);
    assert.deepEqual(settled("mine", { mine, theirs: null }), [{ op: "add", song: mine }]);
  });
});

describe("durations", () => {
  test("come from the chart, else from beats and tempo", () => {
    assert.equal(durationOf({ durationMs: 1000, endBeat: 8, tempoBpm: 60 }), 1000);
    assert.equal(durationOf({ endBeat: 8, tempoBpm: 60 }), 8000);
    assert.equal(durationOf({ endBeat: 8 }), null);
    assert.deepEqual(totalDuration([{ durationMs: 1000 }, { endBeat: 8, tempoBpm: 60 }, {}]), {
      ms: 9000,
      isWhole: false,
    });
  });

  test("are written and read", () => {
    for (const [ms, text] of [
      [220_000, "3:40"],
      [0, "0:00"],
      [3_725_000, "1:02:05"],
      [59_999, "1:00"],
    ])
      assert.equal(clockText(ms), text);
    for (const [text, ms] of [
      ["3:40", 220_000],
      ["220", 220_000],
      ["1:02:05", 3_725_000],
      ["", null],
      ["3:x", null],
      ["-1", null],
      ["1:2:3:4", null],
    ]) {
      assert.equal(readClock(text), ms, text);
    }
  });
});

describe("two versions", () => {
  const changed = (a, b) => changedLines(a.join("\n"), b.join("\n")).map((set) => [...set].sort((x, y) => x - y));

  test("only the lines that differ are marked", () => {
    assert.deepEqual(changed(["a", "b", "c"], ["a", "b", "c"]), [[], []]);
    assert.deepEqual(changed(["a", "b", "c"], ["a", "x", "b", "c"]), [[], [1]]);
    assert.deepEqual(changed(["a", "b", "c", "d"], ["a", "c", "d", "e"]), [[1], [3]]);
    assert.deepEqual(changed(["a", "a", "b"], ["a", "b", "b"]), [[1], [1]]);
    assert.deepEqual(changed(["x"], ["y"]), [[0], [0]]);
  });

  test("long texts that share nothing are marked whole, and quickly", () => {
    const of = (letter) => Array.from({ length: 5000 }, (_, n) => `${letter}${n}`);
    const [a, b] = changed(of("a"), of("b"));
    assert.deepEqual([a.length, b.length], [5000, 5000]);
  });
});

describe("the text of an editor", () => {
  test("typed letters are one step, until a pause or another kind of change", () => {
    const history = new TextHistory("");
    history.push("a", 1, "insertText", 0);
    history.push("ab", 2, "insertText", 500);
    history.push("abc", 3, "insertText", 2000);
    history.push("[G]abc", 3, "", 2100);
    history.push("[G]abcd", 7, "insertText", 2200);
    const texts = [];
    while (history.mayUndo) texts.push(history.undo().text);
    assert.deepEqual(texts, ["[G]abc", "abc", "ab", ""]);
    assert.equal(history.redo().text, "ab");
    assert.equal(history.redo().text, "abc");
    history.push("other", 5);
    assert.equal(history.mayRedo, false);
    assert.equal(history.undo().text, "abc");
  });

  test("the same text is no step", () => {
    const history = new TextHistory("a");
    history.push("a", 1);
    assert.equal(history.mayUndo, false);
    assert.equal(history.undo().text, "a");
  });

  test("lines are found by number", () => {
    assert.deepEqual(
      [1, 2, 3, 9].map((line) => offsetOfLine("ab\n\ncd", line)),
      [0, 3, 4, 4],
    );
  });

  test("a comment goes around the selection, or before the line", () => {
    assert.deepEqual(commented("one\ntwo\n", 5, 5), { text: "one\n{comment: }\ntwo\n", from: 14, to: 14 });
    assert.deepEqual(commented("one\ntwo\n", 4, 7), { text: "one\n{comment: two}\n", from: 14, to: 17 });
    assert.deepEqual(commented("", 0, 0), { text: "{comment: }\n", from: 10, to: 10 });
  });
});

describe("bars per line", () => {
  const lines = "\n[G]one\n[D]two\n[G]three\n[D]four\n";
  const bars = (top) => barsByLength(readSong(`${top}${lines}`).map);

  test("are those of the length where it decides", () => {
    assert.equal(bars("{tempo: 120}\n{duration: 0:32}"), 4, "16 bars over four lines");
    assert.equal(bars("{tempo: 120}\n{time: 3/4}\n{duration: 0:24}"), 4);
  });

  test("are not, if a length has no tempo or every line says its bars", () => {
    assert.equal(bars("{duration: 0:32}"), null);
    assert.equal(bars("{tempo: 120}\n{x_bars_per_line: 4}"), null);
    assert.equal(bars("{tempo: 120}\n{duration: 0:32}\n{x_bars: 2}"), null);
  });

  test("take the place of a length that decides, and of nothing else", () => {
    const written = (top, count) => withBarsPerLine(`${top}${lines}`, readSong(`${top}${lines}`).map, count);
    assert.equal(written("{tempo: 120}\n{duration: 0:32}", 5)?.includes("{duration"), false);
    assert.match(written("{tempo: 120}\n{duration: 0:32}", 5), /\{x_bars_per_line: 5\}/);
    assert.match(written("{duration: 0:32}", 5), /\{duration: 0:32\}/, "without a tempo the length decides nothing");
    for (const count of [0, 65, 1.5, NaN]) assert.equal(written("{tempo: 120}", count), null);
  });
});

test("a list that the server would refuse is known before any of it is sent", () => {
  const many = (n, body) => Array.from({ length: n }, (_, i) => ({ id: `s${i}`, body }));
  assert.equal(excessOf(many(500, "la")), null);
  assert.deepEqual(excessOf(many(501, "la")), { code: "too_large" });
  assert.equal(excessOf(many(16, "x".repeat(65_536))), null);
  assert.deepEqual(excessOf(many(17, "x".repeat(65_536))), { code: "too_large", bytes: 1_114_112, max: 1_048_576 });
  assert.equal(excessOf(many(400, "ü".repeat(2000))).bytes, 1_600_000, "bytes are counted, not letters");
  assert.equal(excessOf([{ id: "a", body: "x".repeat(2_000_000), bandBody: "la" }]), null, "a version of one's own counts for nobody");
});
