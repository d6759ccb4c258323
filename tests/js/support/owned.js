// Stops everything that a test file started, and has the helpers of all tests of storage.
import assert from "node:assert/strict";
import { after } from "node:test";
import { emit } from "./client.js";
import { startServer } from "./server.js";
import { request } from "./wire.js";

/** Functions that run after the file's tests, the last one first. */
export const stops = [];
after(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** Stops `thing` after the file's tests. Returns it. */
export const owned = (thing) => {
  stops.push(() => thing.stop());
  return thing;
};

/** Starts a server without a rate limit. It is killed after the file's tests. */
export async function serve(env) {
  const server = await startServer({ env: { EVENT_RATES: "other=0", ...env } });
  stops.push(async () => server.run.child.kill("SIGKILL"));
  return server;
}

export const health = async (server) => JSON.parse((await request(server, "GET", "/health")).body);

/** Changes the message of a session. */
export async function say({ sessionId, leader }, message) {
  const ack = await emit(leader, "update_message", { sessionId, message });
  assert.equal(ack.ok, true, JSON.stringify(ack));
}
