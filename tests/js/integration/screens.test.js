// Screens, which show a session and are no members of it, through the unmodified socket.io-client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { band, connect, emit, freshSession, join, next, received } from "../support/client.js";
import { startServers } from "../support/nodes.js";
import { assertDone, assertRefused } from "../support/shape.js";

let server;
before(async () => (server = await startServers({ env: { EVENT_RATES: "join_session=0" } })));
after(() => server.stop());

const SCREEN = { view: "screen" };

test("a screen shows the session and is no member", async () => {
  const { sessionId, leader, followers: [follower] } = await band(server, 2);
  const counted = next(leader, "room_stats", (one) => one.screens === 1);
  const screen = await join(server, sessionId, SCREEN);
  assert.equal((await counted).memberCount, 2);
  assert.deepEqual(screen.snapshot.members.map((one) => one.socketId), [leader.id, follower.id]);
  assert.ok(received(leader, "user_joined").every((one) => one.member.socketId !== screen.id));
  const [shown, ticked, said] = [next(screen, "play"), next(screen, "scroll_tick"), next(screen, "chat_message")];
  assertDone(await emit(leader, "play", { sessionId }));
  assertDone(await emit(leader, "chat_message", { sessionId, message: "hello" }));
  await Promise.all([shown, ticked, said]);
  for (const event of ["sync_request", "get_setlist", "get_songs", "latency_probe"]) {
    assertDone(await emit(screen, event, { sessionId, timestamp: 1 }));
  }
  const refused = [
    ["stop", {}], ["set_role", { role: "leader" }], ["request_leader", {}], ["chat_message", { message: "x" }],
    ["update_message", { message: "x" }], ["cue", { text: "x" }], ["edit_setlist", { ops: [{ op: "retitle", title: "x" }] }],
  ];
  for (const [event, fields] of refused) assertRefused(await emit(screen, event, { sessionId, ...fields }), "not_allowed");
  const gone = next(leader, "room_stats", (one) => one.screens === 0);
  assertDone(await emit(screen, "leave_session", { sessionId }));
  await gone;
  assert.deepEqual(received(leader, "user_left"), []);
});

test("a screen needs the passcode, and a session that exists", async () => {
  const sessionId = freshSession("closed");
  const screen = await connect(server);
  const show = (fields) => emit(screen, "join_session", { sessionId, ...SCREEN, ...fields });
  assertRefused(await show(), "session_not_found");
  await join(server, sessionId, { passcode: "open" });
  assertRefused(await show(), "bad_passcode", "passcode");
  assertRefused(await show({ passcode: "shut" }), "bad_passcode", "passcode");
  assertDone(await show({ passcode: "open" }));
  assertRefused(await show({ view: "tv" }), "invalid_payload", "view");
});

test("a session has 16 screens, whatever its number of members", async () => {
  const { sessionId, leader } = await band(server, 1);
  assertDone(await emit(leader, "update_settings", { sessionId, maxMembers: 1 }));
  const screens = [];
  for (let n = 0; n < 16; n += 1) screens.push(await join(server, sessionId, SCREEN));
  const seventeenth = await connect(server);
  assertRefused(await emit(seventeenth, "join_session", { sessionId, ...SCREEN }), "session_full");
  assertRefused(await emit(seventeenth, "join_session", { sessionId }), "session_full");
  const gone = next(leader, "room_stats", (one) => one.screens === 15);
  screens[5].disconnect();
  await gone;
  assertDone(await emit(seventeenth, "join_session", { sessionId, ...SCREEN }));
});

test("the library joins as a screen and returns as one", async () => {
  const { sessionId, leader } = await band(server, 1);
  const screen = new BandSync({ url: server.url, sessionId, view: "screen" });
  try {
    await screen.join();
    assert.deepEqual(screen.members.map((one) => one.socketId), [leader.id]);
    await assert.rejects(screen.play(), { code: "not_allowed" });
    assert.equal((await screen.setlist()).revision, 0);
  } finally {
    screen.leave();
  }
});
