// The client of `perf clock` measures real members. What the command makes of its output is tested in perf.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { after, before, test } from "node:test";
import { leashed } from "../support/leash.js";
import { TOP } from "../support/paths.js";
import { startServer } from "../support/server.js";
import { PATIENCE_MS, within } from "../support/wait.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

/** Runs the client with a plan, and returns its output. */
async function measured(plan) {
  const whole = { url: server.url, sessionId: "rig", name: "Rig", seed: 1, stampMs: 0.1, browser: false, ...plan };
  const child = spawn(...leashed(process.execPath, [join(TOP, "perf/clock-client.js"), JSON.stringify(whole)]), {
    stdio: ["pipe", "pipe", "inherit"],
  });
  server.owns(() => child.kill("SIGKILL"));
  const ended = once(child, "close");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await within(PATIENCE_MS, lines.next(), "the client is ready")).value, "ready");
  child.stdin.write("\n");
  const { value } = await within(4 * PATIENCE_MS, lines.next(), "the client has measured");
  assert.deepEqual(await within(PATIENCE_MS, ended, "the client ends"), [0, null]);
  return JSON.parse(value);
}

/** Asserts that every look is within its bound of the difference that all probes together allow. */
function assertHonest({ probes, looks }) {
  const upper = Math.min(...probes.map(([sent, t1]) => t1 - sent));
  const lower = Math.max(...probes.map(([, , t2, received]) => t2 - received));
  assert.ok(lower <= upper, `from ${lower} to ${upper}`);
  for (const [at, estimated, shown, bound] of looks) {
    assert.ok(Math.abs(estimated - shown) <= bound, `${estimated} and ${shown}, bound ${bound}`);
    assert.ok(shown - at >= lower - bound && shown - at <= upper + bound, `${shown} at ${at}, bound ${bound}`);
  }
}

test("the client of `perf clock` reports probes, looks and steps in true time", async () => {
  const { connects, steady } = await measured({ connects: 2, seconds: 1, steps: 1 });
  assert.equal(connects.length, 2);
  for (const seen of connects) {
    assert.equal(seen.looks.length, 1);
    // Node's timers count in whole milliseconds, so they may be early by a part of one.
    assert.ok(seen.looks[0][0] - seen.probes[0][0] > 999, "it looks after a second");
    assertHonest(seen);
  }

  const [[stepAt, by]] = steady.steps;
  assert.ok(Math.abs(by) >= 20, `a step of ${by} ms`);
  const before = { probes: steady.probes.filter((probe) => probe[3] < stepAt), looks: steady.looks.filter(([at]) => at < stepAt) };
  const later = { probes: steady.probes.filter(([sent]) => sent > stepAt), looks: steady.looks.slice(-1) };
  for (const part of [before, later]) {
    assert.ok(part.probes.length > 1 && part.looks.length > 0, JSON.stringify(part));
    assertHonest(part);
  }
});
