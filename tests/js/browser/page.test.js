// The stage page in two browsers: one leads, and the other follows in step.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { startServer } from "../support/server.js";
import { PATIENCE_MS } from "../support/wait.js";

// Guessed: two tablets that differ by less look in step.
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

/**
 * Defines a test that also fails if a page logs an error. A failure saves a picture of each page.
 */
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

/** Opens the page in a browser context of its own and joins under `name`. */
async function enter(name, role) {
  const context = await browser.newContext({ viewport: { width: 800, height: 600 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && complaints.push(`${name}: ${message.text()}`));
  pages.push(page);
  await page.goto(`${server.url}/?session=${sessionId}`);
  await page.getByTestId("name").fill(name);
  await comeIn(page, role);
  return page;
}

async function comeIn(page, role) {
  await page.getByTestId(`join-${role}`).click();
  await page.getByTestId("stage").waitFor();
  await page.waitForFunction(() => window.bandsync.position() !== null);
}

async function pair() {
  const leader = await enter("Ada", "lead");
  const follower = await enter("Bo", "follow");
  return [leader, follower];
}

/** Reads what a page computes, with the time of the clock that all pages of this machine share. */
function reading(page) {
  return page.evaluate(() => {
    const clock = performance.timeOrigin + performance.now();
    const { bandsync } = window;
    const { bar, beat, microbeats, tempoBpm } = bandsync.beat();
    return {
      clock,
      position: bandsync.position(),
      isPlaying: bandsync.isPlaying,
      version: bandsync.timeline.version,
      microbeats,
      tempoBpm,
      bar,
      beat,
    };
  });
}

const playing = (page, isPlaying) => page.waitForFunction((wanted) => window.bandsync.isPlaying === wanted, isPlaying);

/**
 * Checks that position minus clock is the same on both pages, so that they are in step at any time.
 */
async function assertInStep(one, two) {
  const [a, b] = await Promise.all([reading(one), reading(two)]);
  assert.equal(a.isPlaying, true);
  assert.equal(b.isPlaying, true);
  const apart = a.position - a.clock - (b.position - b.clock);
  assert.ok(Math.abs(apart) <= IN_STEP_MS, `${apart} ms apart: ${JSON.stringify([a, b])}`);
  assert.equal(a.tempoBpm, b.tempoBpm);
  // The beats must be equal too, after correction for the time between the two readings.
  const beats = ((a.clock - b.clock) * a.tempoBpm) / 60_000;
  const beatsApart = (a.microbeats - b.microbeats) / 1e6 - beats;
  assert.ok(Math.abs(beatsApart) <= (IN_STEP_MS * a.tempoBpm) / 60_000, `${beatsApart} beats apart`);
  return [a, b];
}

/** Waits until the page shows the bar and beat that it computes at that moment. */
function showsItsBeat(page) {
  return page.waitForFunction(() => {
    const { bar, beat, num } = window.bandsync.beat();
    const show = (name) => document.querySelector(`[data-testid="${name}"]`).textContent;
    return show("bar") === String(bar) && show("beat") === `${beat} / ${num}`;
  });
}

const shows = (page, name, text) => page.getByTestId(name).filter({ hasText: new RegExp(`^${text}$`) }).waitFor();

describe("two pages", () => {
  scene("show each other and the leader", async () => {
    const [leader, follower] = await pair();
    for (const page of [leader, follower]) {
      await shows(page, "member-count", "2");
      assert.deepEqual(await page.locator("[data-testid=member] .who").allTextContents(), ["Ada", "Bo"]);
    }
    assert.equal(await leader.getByTestId("lead-controls").isVisible(), true);
    assert.equal(await follower.getByTestId("lead-controls").isVisible(), false);
    assert.match(await follower.getByTestId("following").textContent(), /Ada/);
  });

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

  scene("move to the chorus together, playing or not", async () => {
    const [leader, follower] = await pair();
    const chorus = () => leader.getByTestId("section-2").click();
    const isThere = (page) => shows(page, "current-section", "Chorus");
    await chorus();
    await Promise.all([isThere(leader), isThere(follower)]);
    const [a, b] = await Promise.all([reading(leader), reading(follower)]);
    assert.equal(a.position, b.position);

    await leader.getByTestId("stop").click();
    await Promise.all(pages.map((page) => shows(page, "current-section", "Intro")));
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    await chorus();
    await Promise.all([isThere(leader), isThere(follower)]);
    await assertInStep(leader, follower);
  });

  scene("change the tempo together", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    const { tempoBpm, version } = await reading(leader);
    for (let i = 0; i < 3; i += 1) await leader.getByTestId("tempo-up").click();
    await Promise.all(pages.map((page) => shows(page, "tempo", String(tempoBpm + 3))));
    // Two changes: the tempo, and the place in the song, which moves with it.
    const both = (page) => page.waitForFunction((least) => window.bandsync.timeline.version >= least, version + 2);
    await Promise.all([both(leader), both(follower)]);
    assert.equal((await reading(follower)).tempoBpm, tempoBpm + 3);
    await assertInStep(leader, follower);
  });

  scene("a follower that reloads returns with its name, at the right position", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await Promise.all([playing(leader, true), playing(follower, true)]);
    await follower.reload();
    assert.equal(await follower.getByTestId("name").inputValue(), "Bo");
    assert.equal(await follower.getByTestId("session").inputValue(), sessionId);
    await comeIn(follower, "follow");
    await playing(follower, true);
    await assertInStep(leader, follower);
    await showsItsBeat(follower);
  });

  scene("a leader that reloads has its seat and the lead again", async () => {
    const [leader, follower] = await pair();
    await leader.reload();
    await comeIn(leader, "follow");
    await leader.getByTestId("play").click();
    await playing(follower, true);
    const members = await follower.evaluate(() => window.bandsync.members.map(({ displayName, role }) => `${displayName} ${role}`));
    assert.deepEqual(members, ["Ada leader", "Bo follower"]);
  });

  scene("a second tab is a member of its own, and a page leaves when another device takes its seat", async () => {
    const page = await enter("Ada", "lead");
    const tab = await page.context().newPage();
    await tab.goto(`${server.url}/?session=${sessionId}`);
    await tab.getByTestId("name").fill("Bo");
    await comeIn(tab, "follow");
    assert.equal(await tab.evaluate(() => window.bandsync.memberCount), 2);
    const token = await page.evaluate(() => window.bandsync.token);
    const device = new BandSync({ url: server.url, sessionId, token });
    await device.join();
    await page.getByTestId("join-follow").waitFor();
    assert.match(await page.locator("#join-error").textContent(), /another device/);
    const replaced = new Promise((resolve) => device.addEventListener("replaced", resolve));
    await comeIn(page, "follow");
    await replaced;
    assert.equal(await page.evaluate(() => window.bandsync.isLeader), true);
    assert.notEqual(await page.evaluate(() => window.bandsync.token), token);
  });

  scene("a follower cannot play until the leader hands the lead over", async () => {
    const [leader, follower] = await pair();
    const code = await follower.evaluate(() => window.bandsync.play().catch((error) => error.code));
    assert.equal(code, "not_leader");
    assert.equal((await reading(follower)).isPlaying, false);
    await follower.getByTestId("take-lead").click();
    await leader.getByTestId("approve").click();
    await follower.getByTestId("play").click();
    await playing(leader, true);
    assert.equal(await follower.getByTestId("lead-request").isVisible(), false);
  });

  scene("members that request the lead are answered one after the other, in order", async () => {
    const [leader, follower] = await pair();
    const third = await enter("\u202eCleo", "follow");
    const asks = (text) => leader.getByTestId("lead-request").filter({ hasText: text }).waitFor();
    await follower.getByTestId("take-lead").click();
    await asks("Bo asks for the lead.");
    await third.getByTestId("take-lead").click();
    await third.getByTestId("toast").filter({ hasText: "Asked" }).waitFor();
    await asks("Bo asks for the lead.");
    await leader.getByTestId("deny").click();
    await follower.getByTestId("toast").filter({ hasText: "keeps the lead" }).waitFor();
    await asks("Cleo asks for the lead.");
    await third.getByTestId("leave").click();
    await leader.getByTestId("lead-request").waitFor({ state: "hidden" });
    assert.equal((await leader.evaluate(() => window.bandsync.isLeader)), true);
  });

  scene("a session that exists keeps its rule when a member joins to lead", async () => {
    const rule = (page) => page.evaluate(() => window.bandsync.snapshot.settings.leaderRule);
    const follower = await enter("Bo", "follow");
    await follower.waitForFunction(() => window.bandsync.snapshot.settings.leaderRule === "ask");
    await follower.evaluate(() => window.bandsync.request("update_settings", { leaderRule: "open" }));
    const leader = await enter("Ada", "lead");
    await leader.waitForFunction(() => window.bandsync.isLeader);
    assert.equal(await rule(leader), "open");
  });
});
