// Recordings of real clients: they replay, and contain no secrets.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import ioOfVersion2 from "socket.io-client-2";
import WebSocket from "ws";
import { emit, freshSession, join, next, open } from "../support/client.js";
import { until } from "../support/redis.js";
import { binary, startServer } from "../support/server.js";
import { within } from "../support/wait.js";
import { request } from "../support/wire.js";

const directories = [];
function directory() {
  const made = mkdtempSync(joinPath(tmpdir(), "bandsync-record-"));
  directories.push(made);
  return made;
}
after(() => directories.forEach((one) => rmSync(one, { recursive: true, force: true })));

const bandsync = async (...args) => (await promisify(execFile)(binary, args, { maxBuffer: 1 << 28 })).stdout;

/** Starts a server that ends with its test, even if that fails. */
async function start(t, env) {
  const server = await startServer({ env });
  t.after(() => {
    for (const close of server.closers.splice(0)) close();
    server.signal("SIGKILL");
  });
  return server;
}

/** Replays every shard, and returns the output of `trace show`. */
async function replay(traces) {
  const report = await bandsync("replay", traces);
  assert.ok(report.includes("the outputs are the same") && !report.includes("DIFFER"), report);
  return bandsync("trace", "show", "--json", traces);
}

const passcode = 'öpen "sésame" \\ number 4711';

test("clients of every kind are recorded, without compression", async (t) => {
  const traces = directory();
  const server = await start(t, { RECORD_DIR: traces, SHARDS: "3", STORAGE: "memory" });
  const sessionId = freshSession("recorded");
  const leader = await join(server, sessionId, { role: "leader", displayName: "Ann" });
  const set = await emit(leader, "update_settings", { sessionId, passcode, leaderPin: "a pin 99" });
  assert.equal(set.ok, true);
  await emit(leader, "play", { sessionId });
  const everyKind = [
    { perMessageDeflate: { threshold: 0 } },
    { transports: ["polling"] },
    { transports: ["polling", "websocket"] },
  ];
  for (const options of everyKind) {
    const member = await join(server, sessionId, { passcode }, options);
    const notice = next(leader, "chat_message");
    const chat = await emit(member, "chat_message", { sessionId, message: "hello ".repeat(50) });
    assert.ok(chat.ok, JSON.stringify(chat));
    await notice;
    await next(member, "scroll_tick");
  }
  const stranger = open(server, { transports: ["polling"] });
  const refused = await emit(stranger, "join_session", { sessionId, passcode: "wrong sésame" });
  assert.equal(refused.error.code, "bad_passcode");
  // A member of another session asks by a message between shards, which contains the passcode too.
  for (let i = 0; i < 6; i += 1) {
    const neighbour = await join(server, freshSession("elsewhere"));
    const wrong = await emit(neighbour, "join_session", { sessionId, passcode: "wrong sésame" });
    assert.equal(wrong.error.code, "bad_passcode");
    assert.equal((await emit(neighbour, "join_session", { sessionId, passcode })).ok, true);
  }

  const old = ioOfVersion2(server.url, { reconnection: false, forceNew: true });
  server.owns(() => old.disconnect());
  const joined = new Promise((done) => old.emit("join_session", { sessionId, passcode }, done));
  assert.equal((await within(10_000, joined, "the old client joins")).ok, true);

  const socket = new WebSocket(`${server.url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`);
  server.owns(() => socket.terminate());
  await within(10_000, new Promise((done) => socket.once("open", done)), "the WebSocket opens");
  assert.equal(socket.extensions, "", "compression is offered but not accepted");
  await server.stop();

  const shown = await replay(traces);
  assert.ok(shown.includes("bad_passcode") && shown.includes("scroll_tick"));
  for (const secret of ["sésame", "number 4711", "a pin 99"]) assert.ok(!shown.includes(secret), `the recording contains ${secret}`);
});

test("the passcode of a stored session is accepted in the replay too", async (t) => {
  const [data, traces] = [directory(), directory()];
  const env = { DATA_DIR: data, SHARDS: "1", STORAGE: "file" };
  const sessionId = freshSession("stored");
  let server = await start(t, env);
  const leader = await join(server, sessionId, { role: "leader" });
  assert.equal((await emit(leader, "update_settings", { sessionId, passcode })).ok, true);
  await until("the records are stored", async () => {
    const { storage } = JSON.parse((await request(server, "GET", "/health")).body);
    return storage.written >= 1 && storage.pending === 0 && storage.queue === 0;
  });
  await server.stop();

  server = await start(t, { ...env, RECORD_DIR: traces });
  const member = await join(server, sessionId, { passcode });
  assert.equal((await emit(member, "join_session", { sessionId, passcode })).restored, true);
  const stranger = open(server);
  const refused = await emit(stranger, "join_session", { sessionId, passcode: "else" });
  assert.equal(refused.error.code, "bad_passcode");
  await server.stop();

  const shown = await replay(traces);
  assert.ok(shown.includes('"restored\\":true') && shown.includes("bad_passcode"), shown);
  assert.ok(!shown.includes("sésame") && !shown.includes("number 4711"), "the recording contains the passcode");
});
