// Two people open the page in two browsers: what one leads, the other shows in step.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { startServer } from "../support/server.js";
import { PATIENCE_MS } from "../support/wait.js";

// What two tablets may differ by and still look in step.
const IN_STEP_MS = 50;

let server;
let browser;
let sessionId;
let pages;
let complaints;

before(async () => {
  server = await startServer({ env: { SHARDS: "3" } });
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  await server.stop();
});

beforeEach(() => {
  sessionId = freshSession("page");
  pages = [];
  complaints = [];
});
afterEach(() => Promise.all(pages.map((page) => page.context().close())));

/** A test that leaves a picture of each page when it fails, and fails when a page complains. */
function scene(name, play) {
  test(name, async () => {
    try {
      await play();
      assert.deepEqual(complaints, [], "the pages have no errors");
    } catch (error) {
      await picture(name, pages);
      throw error;
    }
  });
}

/** A person with a browser of their own on the page, having joined under a name. */
async function enter(name, role) {
  const context = await browser.newContext({ viewport: { width: 800, height: 600 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && complaints.push(`${name}: ${message.text()}`));
  pages.push(page);
  await page.goto(server.url);
  await page.getByTestId("name").fill(name);
  await page.getByTestId("session").fill(sessionId);
  await page.getByTestId(`join-${role}`).click();
  await page.waitForFunction(() => window.bandsync?.status === "online" && window.bandsync.position() !== null);
  return page;
}

async function pair() {
  const leader = await enter("Ada", "lead");
  const follower = await enter("Bo", "follow");
  return [leader, follower];
}

/** What a page computes and shows at one moment of the clock that all pages of this machine share. */
function reading(page) {
  return page.evaluate(() => {
    const show = (name) => document.querySelector(`[data-testid="${name}"]`)?.textContent.trim();
    const clock = performance.timeOrigin + performance.now();
    const { bandsync } = window;
    const { bar, beat, microbeats, tempoBpm } = bandsync.beat();
    return {
      clock,
      position: bandsync.position(),
      isPlaying: bandsync.isPlaying,
      microbeats,
      tempoBpm,
      bar,
      beat,
      shown: { bar: show("bar"), beat: show("beat"), tempo: show("tempo") },
    };
  });
}

const playing = (page, isPlaying) => page.waitForFunction((wanted) => window.bandsync.isPlaying === wanted, isPlaying);

/** While the music plays, position less clock is the same on both pages: then they are in step at every moment. */
async function assertInStep(one, two) {
  const [a, b] = await Promise.all([reading(one), reading(two)]);
  assert.equal(a.isPlaying, true);
  assert.equal(b.isPlaying, true);
  const apart = a.position - a.clock - (b.position - b.clock);
  assert.ok(Math.abs(apart) <= IN_STEP_MS, `${apart} ms apart: ${JSON.stringify([a, b])}`);
  assert.equal(a.tempoBpm, b.tempoBpm);
  // The same beat, once the time between the two readings is taken out.
  const beats = ((a.clock - b.clock) * a.tempoBpm) / 60_000;
  const beatsApart = (a.microbeats - b.microbeats) / 1e6 - beats;
  assert.ok(Math.abs(beatsApart) <= (IN_STEP_MS * a.tempoBpm) / 60_000, `${beatsApart} beats apart`);
  return [a, b];
}

/** What the page shows is what it computes: waits until both are seen to agree within one frame. */
function showsItsBeat(page) {
  return page.waitForFunction(() => {
    const { bar, beat } = window.bandsync.beat();
    const show = (name) => document.querySelector(`[data-testid="${name}"]`)?.textContent.trim();
    return show("bar") === String(bar) && show("beat") === String(beat);
  });
}

describe("two pages", () => {
  scene("play together: position, bar and beat are in step and shown", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    for (const page of [leader, follower]) {
      await page.waitForFunction(() => window.bandsync.beat().bar >= 2);
      await showsItsBeat(page);
    }
    await assertInStep(leader, follower);
  });

  scene("pause together, at the same position", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    await leader.getByTestId("pause").click();
    await Promise.all([playing(leader, false), playing(follower, false)]);
    const [a, b] = await Promise.all([reading(leader), reading(follower)]);
    assert.equal(a.position, b.position);
    assert.deepEqual([a.bar, a.beat], [b.bar, b.beat]);
  });

  scene("move together, playing or not", async () => {
    const [leader, follower] = await pair();
    const seek = (position) => leader.evaluate((ms) => window.bandsync.seek(ms), position);
    const at = (page, position) => page.waitForFunction((ms) => window.bandsync.position() >= ms, position);
    await seek(12_000);
    await at(follower, 12_000);
    const [a, b] = await Promise.all([reading(leader), reading(follower)]);
    assert.deepEqual([a.position, b.position], [12_000, 12_000]);
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    await seek(40_000);
    await Promise.all([at(leader, 40_000), at(follower, 40_000)]);
    await assertInStep(leader, follower);
  });

  scene("change the tempo together", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await leader.evaluate(() => window.bandsync.setTempo(151));
    await Promise.all(pages.map((page) => page.waitForFunction(() => window.bandsync.beat().tempoBpm === 151)));
    await assertInStep(leader, follower);
  });

  scene("a follower that reloads comes back to the right place", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    await follower.close();
    pages = [leader];
    const back = await enter("Bo", "follow");
    await playing(back, true);
    await assertInStep(leader, back);
    await showsItsBeat(back);
  });

  scene("a follower has no say over the transport", async () => {
    const [, follower] = await pair();
    const code = await follower.evaluate(() => window.bandsync.play().catch((error) => error.code));
    assert.equal(code, "not_leader");
    assert.equal((await reading(follower)).isPlaying, false);
  });
});
