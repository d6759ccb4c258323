// The key of the band: the chart's `{transpose}`, changed for all.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseChart } from "../../../src/web/chart/chordpro.js";
import { chartWriter, soundingKey } from "../../../src/web/chart/chord.js";
import { transposeBy } from "../../../src/web/chart/write.js";
import { BandKey } from "../../../src/web/stage/bandkey.js";
import { readCorpus } from "./make-charts.js";

const SONG = "{title: Harbour}\n{key: G}\n\n[G]one [D]two\n";

test("a song is moved by one directive, and back without a trace", () => {
  const up = transposeBy(SONG, 2);
  assert.equal(up, "{title: Harbour}\n{key: G}\n{transpose: 2}\n\n[G]one [D]two\n");
  assert.equal(soundingKey(parseChart(up)).text, "A");
  assert.equal(transposeBy(up, -2), SONG);
  assert.equal(transposeBy(transposeBy(SONG, 11), 1), SONG, "an octave is no change");
  assert.match(transposeBy(SONG, -1), /\{transpose: -1\}/);
});

test("a chorus that is a tone higher stays a tone higher", () => {
  const text = `${SONG}{transpose: 2}\n[G]three\n{transpose}\n[G]four\n`;
  const played = (body) => {
    const chart = parseChart(body);
    const write = chartWriter(chart);
    return chart.sections.flatMap(({ lines }, section) => lines.flatMap(({ parts }, line) => parts.flatMap(({ mark }) => (mark ? [write(section, line)(mark.text)] : []))));
  };
  assert.deepEqual(played(text), ["G", "D", "A", "G"]);
  assert.deepEqual(played(transposeBy(text, 1)), ["A♭", "E♭", "B♭", "A♭"]);
  assert.equal(transposeBy(transposeBy(text, 1), -1), text);
});

test("every song of the corpus comes back after any way through the keys", () => {
  for (const { name, text } of readCorpus()) {
    if (/transpose/.test(text)) continue;
    for (const by of [1, -1, 5, 11]) assert.equal(transposeBy(transposeBy(text, by), -by), text, `${name} by ${by}`);
  }
});

/** A stage with one song, whose server applies edits as `answer` says. */
function stageOf(answer) {
  const song = { id: "a", title: "Harbour", body: SONG, revision: 1 };
  const sent = [];
  const edit = async ([op]) => {
    sent.push(op);
    const error = answer(op, sent.length);
    if (error) throw error;
    Object.assign(song, { body: op.song.body, revision: song.revision + 1 });
  };
  const stage = Object.assign(new EventTarget(), {
    sent,
    song,
    songById: (id) => (id === "a" ? song : null),
    band: { editSetlist: edit },
    command: async (promise, { onError }) => promise.then(() => true, (error) => void onError(error) ?? false),
  });
  return stage;
}

/** Runs what waits, until nothing does. */
async function settle(waiting) {
  for (let turns = 0; waiting.length > 0 && turns < 20; turns += 1) {
    waiting.shift()();
    await new Promise((done) => setImmediate(done));
  }
}

test("presses that follow each other are one edit", async () => {
  const stage = stageOf(() => null);
  const waiting = [];
  const key = new BandKey(stage, (run) => waiting.push(run));
  for (const by of [1, 1, -1, 1]) key.move("a", by);
  assert.equal(key.of("a"), 2, "what is on its way is shown");
  await settle(waiting);
  assert.deepEqual([stage.sent.length, stage.sent[0].was, key.of("a")], [1, 1, 2]);
  assert.equal(stage.sent[0].song.key, "A", "the list shows the key that sounds");
});

test("the edit of another member is kept, and moved as well", async () => {
  const theirs = { id: "a", title: "Harbour", body: SONG.replace("two", "three"), revision: 7 };
  const stage = stageOf((op) => (op.was === 1 ? Object.assign(new Error("conflict"), { code: "conflict", song: theirs }) : null));
  const waiting = [];
  const key = new BandKey(stage, (run) => waiting.push(run));
  key.move("a", 3);
  await settle(waiting);
  assert.equal(stage.sent.at(-1).was, 7);
  assert.match(stage.song.body, /\{transpose: 3\}[^]*three/);
});

test("a rejected edit is not sent again", async () => {
  const stage = stageOf(() => Object.assign(new Error("no"), { code: "not_allowed" }));
  const waiting = [];
  let changes = 0;
  stage.addEventListener("band-key", () => (changes += 1));
  const key = new BandKey(stage, (run) => waiting.push(run));
  key.move("a", 1);
  await settle(waiting);
  assert.deepEqual([stage.sent.length, key.of("a"), changes], [1, 0, 1]);
});
