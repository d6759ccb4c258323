// Commands that are void once their time is over: on a dead link, in a stopped server, and behind a
// slow storage.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { memory } from "../../../src/web/tokens.js";
import { band, emit, freshSession, join, next, open, received } from "../support/client.js";
import { owned, serve, stops } from "../support/owned.js";
import { badNetwork } from "../support/proxy.js";
import { Redis, until } from "../support/redis.js";
import { assertRefused } from "../support/shape.js";
import { PATIENCE_MS, within } from "../support/wait.js";

/** The server does not give up on a link that is dead for seconds. */
const PATIENT = { STORAGE: "memory", SOCKET_PING_TIMEOUT: "60000", SOCKET_PING_INTERVAL: "60000" };

const LIFE_MS = 2_000;
const DEAD_MS = 6_000;

/** A leader behind a bad network and a follower on a good one, in a session that plays. */
async function playing(server) {
  const weather = await badNetwork(server);
  stops.push(async () => weather.stop());
  const sessionId = freshSession("late");
  const leader = await join(weather, sessionId, { role: "leader" });
  const follower = await join(server, sessionId, { role: "follower" });
  assert.equal((await emit(leader, "play", { sessionId })).ok, true);
  return { weather, leader, follower, sessionId };
}

/** The server's time in ms, from a probe. */
const serverTime = async (socket) => (await emit(socket, "clock_sync", { t0: 0 })).t1;

/** Waits until the music has gone on for `ms`, as a member on a good network receives it. */
async function musicGoesOn(follower, ms) {
  const { positionMs } = await next(follower, "scroll_tick");
  return next(follower, "scroll_tick", (tick) => tick.positionMs > positionMs + ms);
}

/** Checks that the music plays on, in this version if it is given, and no member has received a pause. */
async function assertPlays(follower, version) {
  const tick = await musicGoesOn(follower, 100);
  if (version) assert.equal(tick.version, version, "nothing was decided");
  assert.deepEqual(received(follower, "pause"), []);
}

test("a pause on a link that is dead for six seconds is too late, and the band plays on", async () => {
  const server = await serve(PATIENT);
  const { weather, leader, follower, sessionId } = await playing(server);
  const { version } = await next(follower, "scroll_tick");
  const notAfterServerMs = (await serverTime(leader)) + LIFE_MS;
  weather.freeze();
  const answer = emit(leader, "pause", { sessionId, notAfterServerMs });
  await musicGoesOn(follower, DEAD_MS);
  weather.thaw();
  assertRefused(await answer, "too_late", "notAfterServerMs");
  await assertPlays(follower, version);
  await server.stop();
});

test("bandsync.js reports such a pause as failed, and never sends it again", async () => {
  const server = await serve(PATIENT);
  const weather = await badNetwork(server);
  stops.push(async () => weather.stop());
  const sessionId = freshSession("late");
  const leader = new BandSync({ url: weather.url, sessionId, role: "leader", storage: memory() });
  stops.push(async () => leader.leave());
  await leader.join();
  await until("its clock is known", async () => leader.clock.now() !== null);
  const follower = await join(server, sessionId, { role: "follower" });
  await leader.play();
  const { version } = await next(follower, "scroll_tick");
  weather.freeze();
  const paused = within(PATIENCE_MS, leader.pause(), "the pause is reported");
  paused.catch(() => {});
  await musicGoesOn(follower, DEAD_MS);
  await assert.rejects(paused, (error) => ["timeout", "offline"].includes(error.code));
  // The link comes back once as it was, and once as another connection.
  weather.thaw();
  await assertPlays(follower, version);
  weather.cut();
  await until("the connection is lost", async () => leader.status === "reconnecting");
  await until("it is online again", async () => leader.status === "online");
  // The loss and the return are versions of their own.
  await assertPlays(follower);
  await server.stop();
});

test("a pause that a stopped server reads when it wakes is too late", async () => {
  const server = await serve(PATIENT);
  const { leader, followers: [follower], sessionId } = await band(server, 2);
  await emit(leader, "play", { sessionId });
  const { version } = await next(follower, "scroll_tick");
  const notAfterServerMs = (await serverTime(leader)) + LIFE_MS;
  server.signal("SIGSTOP");
  const state = () => readFileSync(`/proc/${server.run.child.pid}/stat`, "utf8").split(") ")[1][0];
  await until("the server is stopped", async () => state() === "T");
  const answer = emit(leader, "pause", { sessionId, notAfterServerMs });
  await new Promise((done) => setTimeout(done, LIFE_MS + 500));
  server.signal("SIGCONT");
  assertRefused(await answer, "too_late", "notAfterServerMs");
  await assertPlays(follower, version);
  await server.stop();
});

test("a start that waits for its session behind a slow storage is too late", async () => {
  const redis = owned(await Redis.start());
  const network = await badNetwork({ port: redis.port, owns: () => {} });
  stops.push(async () => network.stop());
  const env = { REDIS_URL: `redis://127.0.0.1:${network.port}/0` };
  const sessionId = freshSession("late");
  const first = await serve(env);
  const token = "late-token_with-128-bits";
  const leader = await join(first, sessionId, { role: "leader", token });
  assert.equal((await emit(leader, "seek", { sessionId, position: 5_000 })).ok, true);
  await until("the session is stored", async () => Number((await redis.session(sessionId)).position) === 5_000);
  await first.crash();

  const second = await serve(env);
  const socket = open(second);
  const notAfterServerMs = (await serverTime(socket)) + 20;
  network.weather.delay = 100;
  const snapshot = next(socket, "snapshot");
  const joined = emit(socket, "join_session", { sessionId, token });
  const answer = emit(socket, "play", { sessionId, notAfterServerMs });
  const ack = await joined;
  assert.deepEqual([ack.ok, ack.role], [true, "leader"], JSON.stringify(ack));
  assertRefused(await answer, "too_late", "notAfterServerMs");
  assert.equal((await snapshot).isPlaying, false);
  assert.deepEqual(received(socket, "play"), []);
  network.weather.delay = 0;
  await second.stop();
});
