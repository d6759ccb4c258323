// Loops, armed changes and corrections of the place, as members of a band see them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, before, describe, test } from "node:test";
import { band, emit, everyoneReceives, freshSession, join, next, received } from "../support/client.js";
import { oneServer, startServers } from "../support/nodes.js";
import { until } from "../support/redis.js";
import { startServer } from "../support/server.js";
import { assertDone, assertRefused } from "../support/shape.js";
import { request } from "../support/wire.js";

const PLACED = { epoch: "number", version: "number" };

let server;
before(async () => (server = await startServers({ env: { SHARDS: "2" } })));
after(() => server.stop());

const command = async (socket, event, fields) => {
  const ack = await emit(socket, event, fields);
  assertDone(ack, PLACED);
  return ack;
};

/** The server's clock, at most a round trip ago. */
const serverMs = async (socket) => (await emit(socket, "clock_sync", { t0: 0 })).t1;

/** A band that plays at `tempo`. */
async function playing(size, tempo = 120) {
  const b = await band(server, size);
  const { leader, sessionId } = b;
  await command(leader, "set_tempo", { sessionId, tempo });
  await command(leader, "play", { sessionId });
  return b;
}

describe("changes that wait for a place in the song", () => {
  test("an armed jump is shown to all at once, and its event follows when it begins", async () => {
    const { sessionId, leader, all } = await playing(3);
    const jumped = Promise.all(all.map((member) => next(member, "seek")));
    // It may arrive before the event of the last member, which may be on another node.
    const shown = next(leader, "snapshot", ({ beat }) => beat >= 64);
    for (const one of [jumped, shown]) one.catch(() => {});
    let version;
    const armed = await everyoneReceives(all, "session_update", (one) => one.timeline, async () => {
      ({ version } = await command(leader, "seek", { sessionId, beat: 64, at: "beat" }));
    });
    for (const { timeline, version: announced } of armed) {
      assert.deepEqual([announced, timeline.version], [version, version]);
      const [, jump] = timeline.segments;
      assert.deepEqual([jump.armed, jump.b0, jump.cut % 1_000_000], ["jump", 64_000_000, 0]);
    }
    for (const seek of await jumped) {
      assert.deepEqual([seek.beat, seek.position], [64, 32_000]);
      assert.equal(seek.timeline.version, version, "its beginning is no new version");
    }
    const { beat, position } = await shown;
    assert.ok(beat >= 64 && position >= 32_000, `beat ${beat} at ${position} ms`);
    assertRefused(await emit(leader, "seek", { sessionId, beat: 0, atBeat: 4 }), "too_late");
  });

  test("a cancelled jump does not begin", async () => {
    const { sessionId, leader, followers } = await playing(2, 400);
    await command(leader, "seek", { sessionId, beat: 400, atBeat: 12 });
    const update = next(followers[0], "session_update", ({ timeline }) => timeline?.segments.length === 1);
    await command(leader, "cancel", { sessionId });
    await update;
    await next(followers[0], "scroll_tick", ({ positionMs }) => positionMs > 2100);
    assert.deepEqual(received(followers[0], "seek"), []);
  });

  for (const event of ["tempo_change", "tempo_changed"]) {
    test(`an armed ${event} is announced under its own name`, async () => {
      const { sessionId, leader, all } = await playing(2, 240);
      const begun = Promise.all(all.map((member) => next(member, event, (one) => one.newTempo === 90)));
      begun.catch(() => {});
      await command(leader, event, { sessionId, tempo: 90, atBeat: 8 });
      for (const change of await begun) {
        assert.deepEqual([change.oldTempo, change.newTempo, change.fadeTime], [240, 90, 0]);
        assert.equal(change.isRealTime, event === "tempo_changed" ? true : undefined);
        assert.equal(change.timeline.segments[1].b0, 8_000_000);
      }
    });
  }

  test("an armed song begins at the next bar line", async () => {
    const { sessionId, leader, all } = await playing(2, 240);
    const song = (id, more) => ({ id, title: id, format: "text", body: "la", ...more });
    const songs = [song("a"), song("b", { tempoBpm: 100, meter: [{ beat: 0, num: 3, den: 4 }], endBeat: 96 })];
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "", songs } }), PLACED);
    const begun = Promise.all(all.map((member) => next(member, "song_changed")));
    begun.catch(() => {});
    await command(leader, "select_song", { sessionId, songId: "b", play: true, at: "bar" });
    for (const change of await begun) {
      assert.deepEqual([change.songId, change.index], ["b", 1]);
      const armed = change.timeline.segments.find((segment) => segment.armed === "song");
      assert.deepEqual([armed.song, armed.rate, armed.bpm0, armed.end], ["b", 1, 100_000, 96_000_000]);
      assert.equal(armed.cut % 4_000_000, 0, "it leaves at a bar line");
    }
    const shown = await next(all[1], "snapshot", (one) => one.song?.id === "b");
    assert.deepEqual([shown.tempoBpm, shown.timeSignature.numerator], [100, 3]);
    const { song: whole } = await emit(all[1], "get_song", { sessionId, songId: "b" });
    assert.deepEqual([whole.meter, whole.endBeat], [[{ beat: 0, num: 3, den: 4 }], 96]);
  });

  test("a song stops one bar after its end, with a pause that says so", async () => {
    const { sessionId, leader, all } = await band(server, 2);
    const meter = [{ beat: 0, num: 1, den: 4 }];
    const songs = [{ id: "s", title: "Short", format: "text", body: "la", tempoBpm: 400, meter, endBeat: 1 }];
    assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "", songs } }), PLACED);
    const ended = await everyoneReceives(all, "pause", () => true, () =>
      command(leader, "select_song", { sessionId, songId: "s", play: true }));
    for (const pause of ended) assert.deepEqual([pause.reason, pause.position], ["end", 300]);
    const shown = await emit(leader, "sync_request", { sessionId });
    assert.deepEqual([shown.isPlaying, shown.positionMs], [false, 300]);
    const play = next(leader, "play");
    await command(leader, "play", { sessionId });
    assert.equal((await play).position, 0, "it begins again");
  });
});

describe("loops", () => {
  test("lead back to their beginning until they are released, also for clients that know only positions", async () => {
    const { sessionId, leader, followers } = await playing(2, 400);
    // Four beats last 600 ms.
    await command(leader, "loop", { sessionId, from: 0, to: 4 });
    let last = -1;
    await next(followers[0], "scroll_tick", ({ positionMs }) => {
      assert.ok(positionMs < 610, `${positionMs} ms is past the end of the loop`);
      const wrapped = positionMs < last;
      last = positionMs;
      return wrapped;
    });
    const free = next(followers[0], "scroll_tick", ({ positionMs }) => positionMs > 700);
    await command(leader, "loop", { sessionId, from: null });
    await free;
    assertRefused(await emit(leader, "loop", { sessionId, from: 0, to: 1 }), "too_late");
  });

  test("have bounds", async () => {
    const { sessionId, leader } = await band(server, 1);
    for (const [fields, field] of [
      [{}, "from"],
      [{ from: 0 }, "to"],
      [{ from: 4, to: 4 }, "to"],
      [{ from: 4, to: 4.5 }, "to"],
      [{ from: -1, to: 4 }, "from"],
      [{ from: 0, to: 576_001 }, "to"],
    ]) {
      assertRefused(await emit(leader, "loop", { sessionId, ...fields }), "invalid_payload", field);
    }
  });
});

describe("corrections", () => {
  test("a nudge moves the place by whole beats, but not to before the beginning", async () => {
    const { sessionId, leader, all } = await playing(2);
    const before = await emit(leader, "sync_request", { sessionId });
    const [seek] = await everyoneReceives(all, "seek", () => true, () =>
      command(leader, "nudge", { sessionId, beats: 8 }));
    const moved = seek.position - (before.positionMs + seek.serverTimestamp - before.serverTimestamp);
    assert.ok(Math.abs(moved - 4000) < 5, `8 beats at 120 BPM moved by ${moved} ms`);
    assert.ok(seek.beat >= 8 && Math.abs(seek.beat * 500 - seek.position) < 1, `${seek.beat} at ${seek.position}`);
    assertRefused(await emit(leader, "nudge", { sessionId, beats: -64 }), "not_allowed");
    assertRefused(await emit(leader, "nudge", { sessionId, beats: 0 }), "invalid_payload", "beats");
  });

  test("one moves the nearest bar line to the press", async () => {
    const { sessionId, leader, all } = await playing(2);
    const pressed = await serverMs(leader);
    const [seek] = await everyoneReceives(all, "seek", () => true, () =>
      command(leader, "one", { sessionId, atServerMs: pressed }));
    const [segment] = seek.timeline.segments;
    const beat = segment.b0 + (segment.bpm0 * (pressed * 1000 - segment.t0)) / 60_000;
    assert.ok(Math.abs(beat / 4_000_000 - Math.round(beat / 4_000_000)) < 1e-6, `beat ${beat} at the press`);
    assertRefused(await emit(leader, "one", { sessionId, atServerMs: Math.max(0, pressed - 2500) }), "too_late");
    assertRefused(await emit(leader, "one", { sessionId }), "invalid_payload", "atServerMs");
    await command(leader, "pause", { sessionId });
    assertRefused(await emit(leader, "one", { sessionId, atServerMs: await serverMs(leader) }), "not_allowed");
  });

  test("a pause counts where it was pressed", async () => {
    const { sessionId, leader } = await playing(1);
    const ticked = await next(leader, "scroll_tick", ({ positionMs }) => positionMs > 300);
    const { segments: [segment] } = (await emit(leader, "sync_request", { sessionId })).timeline;
    const pressed = segment.t0 / 1000 + ticked.positionMs - segment.p0 / 1000;
    const paused = next(leader, "pause");
    await command(leader, "pause", { sessionId, atServerMs: pressed });
    const { position, reason } = await paused;
    assert.ok(Math.abs(position - ticked.positionMs) < 0.01, `${position} instead of ${ticked.positionMs}`);
    assert.equal(reason, undefined);
  });
});

describe("the place of a seek", () => {
  test("is named once, and so is its time", async () => {
    const { sessionId, leader } = await playing(1);
    for (const [fields, field] of [
      [{}, "position"],
      [{ position: 1, beat: 1 }, "beat"],
      [{ position: 1, at: "bar" }, "position"],
      [{ beat: 1.5, at: "bar" }, "beat"],
      [{ beat: 1, at: "bar", atBeat: 8 }, "at"],
      [{ beat: 1, at: "bar", atServerMs: 1 }, "atServerMs"],
      [{ beat: 1, at: "line" }, "at"],
    ]) {
      assertRefused(await emit(leader, "seek", { sessionId, ...fields }), "invalid_payload", field);
    }
  });
});

test("a loop and an armed jump survive kill -9", oneServer("nodes have Redis, and no file"), async () => {
  const directory = mkdtempSync(joinPath(tmpdir(), "bandsync-timeline-"));
  const env = { DATA_DIR: joinPath(directory, "data"), SHARDS: "1" };
  let stored = await startServer({ env });
  try {
    const sessionId = freshSession("kept");
    const leader = await join(stored, sessionId, { displayName: "Ann", role: "leader" });
    await command(leader, "play", { sessionId });
    await command(leader, "loop", { sessionId, from: 0, to: 1000 });
    await command(leader, "seek", { sessionId, beat: 8, atBeat: 900 });
    await command(leader, "tempo_changed", { sessionId, tempo: 90, atBeat: 800 });
    const { timeline } = await emit(leader, "sync_request", { sessionId });
    // Records are written in the order of their changes, so later ones prove that this one is written.
    const storage = async () => JSON.parse((await request(stored, "GET", "/health")).body).storage;
    for (let round = 0; round < 3; round += 1) {
      const { written } = await storage();
      await join(stored, freshSession("barrier"));
      await until("the record is stored", async () => {
        const now = await storage();
        return now.written > written && now.pending === 0 && now.queue === 0;
      });
    }
    await stored.crash();
    stored = await startServer({ env });
    const { snapshot } = await join(stored, sessionId);
    const kept = snapshot.timeline.segments;
    assert.deepEqual(kept.map((segment) => segment.armed), [undefined, "tempo", "jump"]);
    assert.deepEqual(kept[0].loop, timeline.segments[0].loop);
    assert.deepEqual(kept.slice(1).map(({ cut, b0 }) => [cut, b0]), [[800_000_000, 800_000_000], [900_000_000, 8_000_000]]);
    assert.equal(snapshot.isPlaying, true);
  } finally {
    await stored.stop();
    rmSync(directory, { recursive: true, force: true });
  }
});
