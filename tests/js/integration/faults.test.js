// Faults of networks and machines, on the real process: no descriptors left, links that die
// silently, a stopped process, and hundreds of members that reconnect or receive a goodbye at once.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { execFileSync } from "node:child_process";
import net from "node:net";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { band, emit, freshSession, join, next, received } from "../support/client.js";
import { badNetwork } from "../support/proxy.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";
import { engineMember, event } from "../support/wire.js";

const CHANGED = { epoch: "number", version: "number" };

async function served(options, act) {
  const server = await startServer(options);
  try {
    await act(server);
  } finally {
    await server.stop();
  }
}

const play = async ({ leader, sessionId }) => assertDone(await emit(leader, "play", { sessionId }), CHANGED);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Opens TCP connections until the server closes one that has sent nothing. */
async function openUntilRefused(server, most) {
  const open = [];
  let refused;
  const isRefused = new Promise((done) => (refused = done));
  for (let i = 0; i < most; i += 1) {
    const socket = net.connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.once("close", () => refused());
    open.push(socket);
  }
  await within(PATIENCE_MS, isRefused, "a connection is refused");
  return open;
}

test("without descriptors new connections are refused, and the band plays on", async () => {
  await served({ under: ["prlimit", "--nofile=96:96"], env: { STORAGE: "memory" } }, async (server) => {
    const playing = await band(server, 3);
    await play(playing);
    const crowd = await openUntilRefused(server, 300);
    const ticks = received(playing.leader, "scroll_tick").length;
    await next(playing.leader, "scroll_tick", () => received(playing.leader, "scroll_tick").length > ticks + 20);
    assertDone(await emit(playing.leader, "seek", { sessionId: playing.sessionId, position: 60_000 }), CHANGED);
    crowd.forEach((socket) => socket.destroy());
    // A retry succeeds as soon as there are descriptors.
    for (let tries = 0; ; tries += 1) {
      const late = await join(server, playing.sessionId).catch((error) => error);
      if (!(late instanceof Error)) break;
      assert.ok(tries < 50, `no client can connect any more: ${late.message}`);
      await pause(100);
    }
    assert.match(server.logs, /rejecting new connections until others close/);
  });
});

test("a connection that died silently is noticed, and its member counts as lost", async () => {
  const env = { SOCKET_PING_INTERVAL: "200", SOCKET_PING_TIMEOUT: "400" };
  await served({ env }, async (server) => {
    const weather = await badNetwork(server);
    const { leader, sessionId } = await band(server, 2);
    const lost = await join(weather, sessionId, { displayName: "Lost" });
    const { id } = lost;
    const left = next(leader, "user_left", ({ socketId }) => socketId === id);
    weather.freeze();
    assert.equal((await left).disconnectReason, "ping timeout");
  });
});

test("output that was held up for seconds arrives, and the newest state wins", async () => {
  await served({ env: { SOCKET_PING_TIMEOUT: "60000", SOCKET_PING_INTERVAL: "60000" } }, async (server) => {
    const weather = await badNetwork(server, { seed: 5, chop: 700 });
    const playing = await band(server, 2);
    const { leader, sessionId } = playing;
    const behind = await join(weather, sessionId, { displayName: "Behind" });
    await play(playing);
    await next(behind, "scroll_tick");
    weather.freeze("down");
    for (const position of [30_000, 90_000, 10_000]) assertDone(await emit(leader, "seek", { sessionId, position }), CHANGED);
    const { version } = await emit(leader, "set_tempo", { sessionId, tempo: 93 });
    await pause(2_000);
    const caughtUp = next(behind, "snapshot", (snapshot) => snapshot.version >= version);
    weather.thaw();
    const snapshot = await caughtUp;
    assert.equal(snapshot.tempoBpm, 93);
    // From here on its ticks must equal the leader's.
    const tick = await next(behind, "scroll_tick", (one) => one.version >= version);
    await next(leader, "scroll_tick", (one) => one.positionMs >= tick.positionMs);
    const same = received(leader, "scroll_tick").find((one) => one.version === tick.version && one.positionMs === tick.positionMs);
    assert.deepEqual(same, tick);
  });
});

const SONGS = ["a", "b", "c", "d"].map((id) => ({ id, title: id, format: "text", body: "" }));

/** Waits for the first `event`, which may have arrived already. */
async function receive(socket, event) {
  if (received(socket, event).length === 0) await next(socket, event);
}

/** A band with a set list at its first song. The follower records cues and selected songs. */
async function reading(server) {
  const { leader, followers: [follower], sessionId } = await band(server, 2);
  assertDone(await emit(leader, "set_setlist", { sessionId, setlist: { title: "", songs: SONGS } }));
  assertDone(await emit(leader, "select_song", { sessionId, songId: "a" }));
  assertDone(await emit(leader, "update_settings", { sessionId, anyoneMayCue: true }));
  await receive(follower, "song_changed");
  const cues = () => received(follower, "cue").map(({ text }) => text);
  const chosen = () => received(follower, "song_changed").map(({ songId }) => songId);
  return { leader, follower, sessionId, cues, chosen };
}

test("commands that socket.io-client sends again after it has lost the answer are applied once", async () => {
  await served({}, async (server) => {
    const weather = await badNetwork(server);
    const { leader, follower, sessionId, cues, chosen } = await reading(server);
    const again = { retries: 50, ackTimeout: 100, reconnection: true, reconnectionDelay: 20 };
    const pedal = await join(weather, sessionId, { displayName: "Pedal" }, again);
    assertDone(await emit(leader, "set_role", { sessionId, role: "leader", memberId: pedal.id }), CHANGED);
    const commands = [["select_song", { step: 1 }], ["cue", { text: "one" }], ["select_song", { step: 1 }], ["cue", { text: "two" }]];
    for (const [i, [event, fields]] of commands.entries()) {
      const applied = next(follower, event === "cue" ? "cue" : "song_changed");
      weather.freeze("down");
      const answer = pedal.emitWithAck(event, { sessionId, commandId: `pedal-${i}`, ...fields });
      await applied;
      // Cutting the connection drops the bytes held back, and so the acknowledgement.
      weather.cut();
      weather.thaw();
      assertDone(await within(PATIENCE_MS, answer, `${event} is acknowledged`), { ...CHANGED, repeated: true });
      assert.equal(pedal.recovered, true);
    }
    // Events arrive in order, so after this one all earlier ones have arrived.
    assertDone(await emit(leader, "chat_message", { sessionId, message: "end" }));
    await within(PATIENCE_MS, receive(follower, "chat_message"), "the last message is received");
    assert.deepEqual([chosen(), cues()], [["a", "b", "c"], ["one", "two"]]);
  });
});

test("a server that was stopped for two seconds sends the right position at once, without a burst of old ticks", async () => {
  await served({ env: { SCROLL_TICK_INTERVAL: "16" } }, async (server) => {
    const playing = await band(server, 2);
    await play(playing);
    await next(playing.leader, "scroll_tick");
    server.signal("SIGSTOP");
    await pause(2_000);
    const last = received(playing.leader, "scroll_tick").at(-1).positionMs;
    const after = next(playing.leader, "scroll_tick", ({ positionMs }) => positionMs > last + 2_500);
    server.signal("SIGCONT");
    await after;
    const positions = received(playing.leader, "scroll_tick").map(({ positionMs }) => positionMs);
    const resumed = positions.findIndex((position) => position > last);
    // One tick may have been on its way before the stop. The one after it must have the new
    // position.
    const gap = Math.max(...positions.slice(resumed - 1, resumed + 2).map((position, i, all) => position - (all[i - 1] ?? position)));
    assert.ok(gap > 1_500, `the tick after the pause is only ${gap} ms later`);
  });
});

test("the wall clock is set by an hour, forth and back, and the music is not affected", async () => {
  const directory = mkdtempSync(path(tmpdir(), "bandsync-clock-"));
  const library = path(directory, "wall-clock.so");
  execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, fileURLToPath(new URL("../support/wall-clock.c", import.meta.url))]);
  const file = path(directory, "ahead");
  const set = (seconds) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(seconds));
    // Written in place, because the server has mapped the file.
    const ahead = openSync(file, "r+");
    writeSync(ahead, bytes, 0, 8, 0);
    closeSync(ahead);
  };
  writeFileSync(file, Buffer.alloc(8));
  const env = { LD_PRELOAD: library, CLOCK_AHEAD: file };
  await served({ env }, async (server) => {
    const playing = await band(server, 3);
    const { leader, all, sessionId } = playing;
    await play(playing);
    const now = async () => (await emit(leader, "clock_sync", { t0: 1 })).t1;
    const sync = () => emit(leader, "sync_request", { sessionId });
    const { timeline } = await sync();
    const [segment] = timeline.segments.slice(-1);
    for (const by of [3_600, -3_600]) {
      set(by);
      // The server reads the wall clock every 10 s.
      let found;
      for (let tries = 0; tries < 300; tries += 1) {
        await pause(100);
        const before = await now();
        found = await sync();
        const after = await now();
        const at = (t) => (segment.p0 + (t * 1_000 - segment.t0)) / 1_000;
        assert.ok(at(before) <= found.positionMs && found.positionMs <= at(after), `${found.positionMs} is not between ${at(before)} and ${at(after)}`);
        if (Math.abs(found.serverTimestamp - Date.now() - by * 1_000) < 60_000) break;
      }
      assert.ok(Math.abs(found.serverTimestamp - Date.now() - by * 1_000) < 60_000, "serverTimestamp follows the wall clock");
      assert.deepEqual(found.timeline, timeline, "the timeline does not depend on the wall clock");
    }
    const positions = received(leader, "scroll_tick").map(({ positionMs }) => positionMs);
    assert.ok(positions.slice(1).every((position, i) => position > positions[i]), "each tick has a later position");
    for (const one of all) assert.equal(one.connected, true, "no timer fired too early");
  });
  rmSync(directory, { recursive: true });
});

test("a hall full of members reconnects by itself after the server was killed", async () => {
  const directory = mkdtempSync(path(tmpdir(), "bandsync-hall-"));
  const env = { DATA_DIR: directory, STORAGE: "file" };
  const sessions = Array.from({ length: 10 }, () => freshSession("hall"));
  let members = [];
  const reconnection = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 500 };
  try {
    let server = await startServer({ env });
    members = await Promise.all(
      Array.from({ length: 300 }, (_, i) => join(server, sessions[i % 10], { displayName: `Member ${i}` }, reconnection)),
    );
    const leaders = members.slice(0, 10);
    for (const [i, leader] of leaders.entries()) {
      const role = await emit(leader, "set_role", { sessionId: sessions[i], role: "leader" });
      assertDone(role, CHANGED);
      assertDone(await emit(leader, "set_tempo", { sessionId: sessions[i], tempo: 60 + i }), CHANGED);
    }
    await stored(server, 10);
    const { port } = server;
    const back = members.map(
      (member, i) =>
        new Promise((done, fail) =>
          member.once("disconnect", () =>
            member.once("connect", () => {
              const snapshot = next(member, "snapshot");
              emit(member, "join_session", { sessionId: sessions[i % 10], displayName: `Member ${i}` })
                .then(async (ack) => done({ ack, snapshot: await snapshot }))
                .catch(fail);
            }),
          ),
        ),
    );
    server.signal("SIGKILL");
    await server.exited;
    server = await startServer({ env: { ...env, PORT: String(port) } });
    const came = await within(6 * PATIENCE_MS, Promise.all(back), "all members have joined again");
    for (const [i, { ack, snapshot }] of came.entries()) {
      assert.equal(ack.ok, true, JSON.stringify(ack));
      assert.equal(snapshot.tempoBpm, 60 + (i % 10), "the stored tempo is restored");
    }
    const metrics = await (await fetch(`${server.url}/health`)).json();
    assert.equal(metrics.sessions.members, 300);
    await server.stop();
  } finally {
    members.forEach((member) => member.disconnect());
    rmSync(directory, { recursive: true, force: true });
  }
});

/** Waits until the storage has the latest state of `count` sessions. */
async function stored(server, count) {
  const done = async () => {
    for (;;) {
      const { storage } = await (await fetch(`${server.url}/health`)).json();
      if (storage.written >= count && storage.queue + storage.pending === 0) return;
      await pause(20);
    }
  };
  await within(PATIENCE_MS, done(), "all sessions are stored");
}

test("each of a thousand members receives a goodbye", async () => {
  const server = await startServer({ env: { EVENT_RATES: "default" } });
  const sessions = Array.from({ length: 50 }, () => freshSession("goodbye"));
  const members = [];
  for (let i = 0; i < 1_000; i += 50) {
    const more = Array.from({ length: 50 }, async (_, j) => {
      const member = await engineMember(server);
      member.send(event("join_session", { sessionId: sessions[j] }, 1));
      await member.readAck(1);
      return member;
    });
    members.push(...(await Promise.all(more)));
  }
  const codes = Promise.all(members.map((member) => member.closeCode()));
  server.signal("SIGTERM");
  const end = await within(PATIENCE_MS, server.exited, "the server ends");
  assert.equal(end.code, 0);
  assert.deepEqual(new Set(await codes), new Set([1001]));
});
