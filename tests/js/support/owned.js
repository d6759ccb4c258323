// What a test file starts and must end with it, and questions that every file about storage asks its servers.
import assert from "node:assert/strict";
import { after } from "node:test";
import { emit } from "./client.js";
import { startServer } from "./server.js";
import { request } from "./wire.js";

/** Called when the file's tests are over, the last one first. */
export const stops = [];
after(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** Has `thing` stopped with the file's tests; returns it. */
export const owned = (thing) => {
  stops.push(() => thing.stop());
  return thing;
};

/** A server without limits of rate, which is killed with the file's tests. */
export async function serve(env) {
  const server = await startServer({ env: { EVENT_RATES: "other=0", ...env } });
  stops.push(async () => server.run.child.kill("SIGKILL"));
  return server;
}

export const health = async (server) => JSON.parse((await request(server, "GET", "/health")).body);

/** Changes the session's message. */
export async function say({ sessionId, leader }, message) {
  const ack = await emit(leader, "update_message", { sessionId, message });
  assert.equal(ack.ok, true, JSON.stringify(ack));
}
