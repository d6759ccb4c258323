// The stage page in several browsers: one leads, and the others follow in step.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { badNetwork } from "../support/proxy.js";
import { startServer } from "../support/server.js";
import { PATIENCE_MS } from "../support/wait.js";

// Guessed: two tablets that differ by less look in step.
const IN_STEP_MS = 50;
const TABLET = { width: 1180, height: 820 };
const PHONE = { width: 390, height: 844 };

const SONG = (id, title, body) => ({ id, title, format: "chordpro", body });
const LINES = (name) => `{start_of_verse: ${name}}\n[G]One line of ${name}\n[D]Another of ${name}\n{end_of_verse}\n`;
/** Two bars a line: Intro 4 bars, Chorus 4, Verse 4, Chorus 4, Outro 4. */
const VAN = `{title: Van}\n{key: G}\n{tempo: 120}\n{x_bars_per_line: 2}\n${LINES("Intro")}{start_of_chorus}\n[C]Hold it\n[D]with me\n{end_of_chorus}\n${LINES("Verse")}{chorus}\n${LINES("Outro")}`;
const HARBOUR = `{title: Harbour}\n{key: Am}\n{tempo: 60}\n{time: 6/8}\n{x_bars_per_line: 2}\n${LINES("Verse")}`;
const RAMP = `{title: Ramp}\n{tempo: 240}\n{x_bars_per_line: 1}\n${LINES("Fast")}{tempo: 200}\n${LINES("Slow")}`;

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

/** Defines a test that also fails if a page logs an error. A failure saves a picture of each page. */
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

/** Opens the page in a browser context of its own, at the door. */
async function atDoor(name, { size = TABLET, url = server.url, search = "", hash = "", lost = false, init, ...options } = {}) {
  const context = await browser.newContext({ viewport: size, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
  // A connection that a test cuts is logged by the browser itself.
  const isExpected = (text) => lost && /WebSocket|ERR_|Failed to load/.test(text);
  page.on("console", (message) => {
    if (message.type() === "error" && !isExpected(message.text())) complaints.push(`${name}: ${message.text()}`);
  });
  pages.push(page);
  if (init) await page.addInitScript(init);
  await page.goto(`${url}/?session=${sessionId}${search}${hash}`);
  return page;
}

/** Opens the page and joins under `name`. */
async function enter(name, options) {
  const page = await atDoor(name, options);
  await page.getByTestId("name").fill(name);
  await page.getByTestId("join").click();
  await onStage(page);
  return page;
}

async function onStage(page) {
  await page.getByTestId("stage").waitFor();
  await page.waitForFunction(() => window.bandsync.position() !== null);
}

/** Fills the set list, selects its first song, and waits until all pages have its chart. */
async function withSongs(leader, others = [], bodies = { van: VAN, harbour: HARBOUR }) {
  await leader.evaluate(async (given) => {
    const [{ parseChart }, { songFields, songMap }] = await Promise.all([import("/chart/chordpro.js"), import("/chart/map.js")]);
    const songs = Object.entries(given).map(([id, body]) => {
      const chart = parseChart(body);
      return { id, format: "chordpro", body, ...songFields(chart, songMap(chart)) };
    });
    await window.bandsync.setSetlist({ title: "Friday", songs });
    await window.bandsync.selectSong(songs[0].id);
  }, bodies);
  const [first] = Object.keys(bodies);
  for (const page of [leader, ...others]) await page.waitForFunction((id) => window.stage.song?.id === id && window.stage.song.chart, first);
}

/** Puts a MIDI pedal into a page, whose cable can be pulled. */
function fakeMidi() {
  const input = { id: "1", name: "Stomp", state: "connected", onmidimessage: null, open: async () => input };
  const access = { inputs: new Map([["1", input]]), onstatechange: null };
  window.midiAsked = 0;
  navigator.requestMIDIAccess = async () => {
    window.midiAsked += 1;
    return access;
  };
  window.midiSends = (...data) => input.onmidimessage?.({ data: Uint8Array.from(data) });
  window.midiPulls = () => {
    input.state = "disconnected";
    access.onstatechange();
  };
}

async function pair(options) {
  const leader = await enter("Ada", options);
  const follower = await enter("Bo", options);
  await withSongs(leader, [follower]);
  return [leader, follower];
}

/** Plays without counting in, so that a test need not wait. */
async function play(leader, others = []) {
  await leader.evaluate(() => window.stage.setView({ countIn: 0 }));
  await leader.getByTestId("play").click();
  await Promise.all([leader, ...others].map((page) => playing(page, true)));
}

/** Reads what a page computes, with the time of the clock that all pages of this machine share. */
function reading(page) {
  return page.evaluate(() => {
    const clock = performance.timeOrigin + performance.now();
    const { bandsync } = window;
    const { bar, beat, microbeats, songBeat, tempoBpm } = bandsync.beat();
    return {
      clock,
      position: bandsync.position(),
      isPlaying: bandsync.isPlaying,
      version: bandsync.timeline.version,
      microbeats,
      songBeat,
      tempoBpm,
      bar,
      beat,
    };
  });
}

const playing = (page, isPlaying) => page.waitForFunction((wanted) => window.bandsync.isPlaying === wanted, isPlaying);

/** Checks that position minus clock is the same on both pages, so that they are in step at any time. */
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
    const { bar, beat } = window.bandsync.beat();
    const of = (name) => document.querySelector(`[data-testid="${name}"]`);
    return of("bar").dataset.bar === String(bar) && of("beat").dataset.beat === String(beat) && of("beat").querySelector(".shown").textContent === String(beat);
  });
}

const shows = (page, name, text) => page.getByTestId(name).filter({ hasText: new RegExp(`^${text}$`) }).waitFor({ state: "attached" });
/** The bars that come next are in the page too, so the one that is shown is marked. */
const showsBar = (page, bar) => page.locator(`[data-testid="bar"][data-bar="${bar}"] .shown`, { hasText: new RegExp(`^${bar}$`) }).waitFor();
const section = (page, name) => page.locator(`[data-testid="section"][data-name="${name}"]`);
const until = (page, check, value) => page.waitForFunction(check, value);
const tempoOf = (page) => page.evaluate(() => window.bandsync.beat().tempoBpm);

/** Sums the layout shifts of a page from now on; the function that it returns gives the sum. */
async function watchShifts(page) {
  await page.evaluate(() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const nodes = entry.sources?.map(({ node }) => `${node?.nodeName}.${node?.className ?? node?.textContent}`);
        window.shifts.push({ value: entry.value, nodes });
      }
    }).observe({ type: "layout-shift" });
  });
  return () => page.evaluate(() => window.shifts);
}

describe("the door", () => {
  scene("asks for a name, remembers it, and lets the first one lead", async () => {
    const page = await atDoor("Ada");
    await page.getByTestId("join").click();
    await page.getByTestId("join-error").filter({ hasText: "name" }).waitFor();
    assert.equal(await page.getByTestId("session").isVisible(), false);
    await page.getByTestId("name").fill("Ada");
    await page.locator(".chip", { hasText: "Keys" }).click();
    await page.getByTestId("join").click();
    await onStage(page);
    await shows(page, "role", "You lead");
    assert.equal(await page.evaluate(() => window.stage.me.instrument), "Keys");
    const tab = await page.context().newPage();
    await tab.goto(`${server.url}/?session=${sessionId}-other`);
    assert.equal(await tab.getByTestId("name").inputValue(), "Ada");
    assert.equal(await tab.getByTestId("instrument-keys").isChecked(), true);
  });

  scene("offers another session, and the address brings it back", async () => {
    const page = await atDoor("Ada");
    await page.getByTestId("another-session").click();
    await page.getByTestId("session").fill(`${sessionId}-b`);
    await page.getByTestId("name").fill("Ada");
    await page.getByTestId("join").click();
    await onStage(page);
    assert.equal(await page.evaluate(() => window.bandsync.sessionId), `${sessionId}-b`);
    await page.reload();
    await onStage(page);
    assert.equal(await page.evaluate(() => window.bandsync.sessionId), `${sessionId}-b`);
  });

  scene("says how many places a full session has, and offers to watch", async () => {
    const leader = await enter("Ada");
    await leader.evaluate(() => window.bandsync.updateSettings({ maxMembers: 2 }));
    await enter("Bo");
    const third = await atDoor("Cleo");
    await third.getByTestId("name").fill("Cleo");
    await third.getByTestId("join").click();
    await third.getByTestId("join-error").filter({ hasText: "All 2 places are taken. Ask Ada for one, or watch as a screen." }).waitFor();
    // To ask who leads takes no place, and is over.
    await until(leader, () => window.stage.screens === 0 && window.bandsync.memberCount === 2);
    await third.getByTestId("watch").click();
    await third.waitForFunction(() => window.stage?.isOpen && window.stage.isScreen);
    assert.equal(await third.evaluate(() => window.bandsync.sessionId), sessionId);
  });

  scene("takes a passcode from the link's fragment, and asks again if it is wrong", async () => {
    const leader = await enter("Ada");
    await leader.evaluate(() => window.bandsync.updateSettings({ passcode: "chorus" }));
    const requests = [];
    const wrong = await atDoor("Bo", { hash: "#passcode=verse" });
    wrong.on("request", (request) => requests.push(request.url()));
    await wrong.getByTestId("name").fill("Bo");
    assert.equal(await wrong.getByTestId("passcode").isVisible(), false);
    await wrong.getByTestId("join").click();
    await wrong.getByTestId("join-error").filter({ hasText: "not the passcode" }).waitFor();
    await wrong.getByTestId("passcode").fill("chorus");
    await wrong.getByTestId("join").click();
    await onStage(wrong);

    const without = await atDoor("Cleo");
    await without.getByTestId("name").fill("Cleo");
    await without.getByTestId("join").click();
    await without.getByTestId("join-error").filter({ hasText: "needs a passcode" }).waitFor();

    const right = await atDoor("Dee", { hash: "#passcode=chorus" });
    right.on("request", (request) => requests.push(request.url()));
    assert.doesNotMatch(right.url(), /passcode/);
    await right.getByTestId("name").fill("Dee");
    await right.getByTestId("join").click();
    await onStage(right);
    assert.doesNotMatch(right.url(), /passcode|chorus/);
    assert.doesNotMatch(requests.join(" "), /chorus|verse/);
    // A member that reloads has its seat, which needs no passcode.
    await right.reload();
    await onStage(right);
  });
});

describe("a browser that can't", () => {
  scene("run scripts, or is too old, reads what it needs", async () => {
    const without = await atDoor("no scripts", { javaScriptEnabled: false });
    const text = without.getByText("It needs JavaScript");
    await text.waitFor();
    await without.waitForTimeout(3500);
    assert.equal(await text.evaluate((el) => getComputedStyle(el).opacity), "1");
    const context = await browser.newContext();
    const old = await context.newPage();
    pages.push(old);
    await old.addInitScript(() => {
      CSS.supports = () => false;
    });
    await old.goto(`${server.url}/?session=${sessionId}`);
    await old.getByText("Safari 15.4").waitFor();
    assert.equal(await old.getByTestId("join").count(), 0);
  });
});

describe("a screen", () => {
  scene("waits for its session, and shows it without a name or a seat", async () => {
    const screen = await atDoor("screen", { search: "&view=screen" });
    await screen.getByTestId("join-error").filter({ hasText: "Waiting" }).waitFor();
    const leader = await enter("Ada");
    await withSongs(leader);
    await onStage(screen);
    await until(screen, () => window.stage.song?.chart);
    await leader.evaluate(() => window.bandsync.cue("", { kind: "hold" }));
    await screen.getByTestId("cue").filter({ hasText: "HOLD" }).waitFor();
    assert.equal(await leader.evaluate(() => window.bandsync.memberCount), 1);
  });

  scene("that needed the passcode is back after a reload by itself", async () => {
    const leader = await enter("Ada");
    await leader.evaluate(() => window.bandsync.updateSettings({ passcode: "chorus" }));
    const screen = await atDoor("screen", { search: "&view=screen" });
    await screen.getByTestId("passcode").fill("chorus");
    await screen.getByTestId("join").click();
    await onStage(screen);
    await screen.reload();
    await onStage(screen);
  });
});

describe("two pages", () => {
  scene("show each other and the leader", async () => {
    const [leader, follower] = await pair();
    for (const page of [leader, follower]) {
      await shows(page, "member-count", "2");
      await page.getByTestId("members-open").click();
      await page.getByTestId("members").waitFor();
      assert.deepEqual(await page.locator("[data-testid=member] .who").allTextContents(), ["Ada", "Bo"]);
      await page.keyboard.press("Escape");
    }
    assert.equal(await leader.getByTestId("play").isVisible(), true);
    assert.equal(await follower.getByTestId("play").count(), 0);
    await shows(follower, "role", "Ada leads");
  });

  scene("play together: position, bar and beat are in step and shown", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    for (const page of [leader, follower]) {
      await until(page, () => window.bandsync.beat().bar >= 2);
      await showsItsBeat(page);
    }
    await assertInStep(leader, follower);
  });

  scene("count in: bars from 0 down, then the first bar", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("play").click();
    await until(follower, () => window.bandsync.beat().countIn);
    await shows(follower, "current-section", "Count-in");
    await showsBar(follower, 0);
    await until(follower, () => !window.bandsync.beat().countIn);
    await shows(follower, "current-section", "Intro");
    await assertInStep(leader, follower);
  });

  scene("pause together, at the same position", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    await leader.getByTestId("pause").click();
    await Promise.all([playing(leader, false), playing(follower, false)]);
    const [a, b] = await Promise.all([reading(leader), reading(follower)]);
    assert.equal(a.position, b.position);
    assert.deepEqual([a.bar, a.beat], [b.bar, b.beat]);
  });

  scene("move to the chorus together: at once when stopped, at the bar line while playing", async () => {
    const [leader, follower] = await pair();
    const isThere = (page) => shows(page, "current-section", "Chorus");
    await section(leader, "Chorus").click();
    await Promise.all([isThere(leader), isThere(follower)]);
    for (const page of [leader, follower]) await showsBar(page, 5);
    const [a, b] = await Promise.all([reading(leader), reading(follower)]);
    assert.equal(a.position, b.position);

    await leader.getByTestId("stop").click();
    await Promise.all(pages.map((page) => shows(page, "current-section", "Intro")));
    await play(leader, [follower]);
    await section(leader, "Chorus").click();
    await Promise.all([isThere(leader), isThere(follower)]);
    const [c] = await assertInStep(leader, follower);
    assert.ok(c.bar >= 5 && c.bar <= 6, `the bar is the chorus's: ${c.bar}`);
  });

  scene("show an armed jump, and cancel it with a second tap", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    await section(leader, "Outro").click();
    for (const page of [leader, follower]) await page.getByTestId("armed").filter({ hasText: "Outro" }).waitFor();
    assert.equal(await section(leader, "Outro").getAttribute("data-armed"), "true");
    await section(leader, "Outro").click();
    for (const page of [leader, follower]) await until(page, () => window.stage.armed === null);
    await until(follower, () => window.bandsync.beat().bar === 3);
    await shows(follower, "current-section", "Intro");
  });

  scene("repeat a section until it is released, and say which time it is", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.bandsync.setTempo(400));
    await play(leader, [follower]);
    await leader.getByTestId("repeat").click();
    await follower.getByTestId("next").filter({ hasText: "2nd time" }).waitFor();
    assert.equal(await leader.getByTestId("repeat").getAttribute("aria-pressed"), "true");
    await leader.getByTestId("repeat").click();
    await shows(follower, "current-section", "Chorus");
    assert.equal(await leader.getByTestId("repeat").getAttribute("aria-pressed"), "false");
  });

  scene("change the tempo together, and stay at the same beat", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    const { tempoBpm } = await reading(leader);
    for (let i = 0; i < 3; i += 1) await leader.getByTestId("tempo-up").click();
    await Promise.all(pages.map((page) => shows(page, "tempo", String(tempoBpm + 3))));
    await until(follower, (tempo) => window.bandsync.beat().tempoBpm === tempo, tempoBpm + 3);
    await assertInStep(leader, follower);
  });

  scene("show dotted quarters in 6/8, and two big beats", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.bandsync.selectSong("harbour"));
    await shows(follower, "song-title", "Harbour");
    await shows(follower, "tempo", "60");
    assert.equal(await follower.getByTestId("tempo").getAttribute("data-bpm"), "180");
    await until(follower, () => document.querySelectorAll(".pulse i").length === 2);
    await leader.getByTestId("tempo-up").click();
    await until(follower, () => window.bandsync.beat().tempoBpm === 183);
  });

  scene("name the note that the tempo counts, and say that a chart has no tempo", async () => {
    const [leader, follower] = await pair();
    const odd = "{title: Odd}\n{tempo: 200}\n{time: 7/8}\n[C]One line\n";
    const eighths = "{title: Eighths}\n{tempo: 110}\n{time: 6/8}\n{x_felt: 1}\n[C]One line\n";
    await withSongs(leader, [follower], { odd, eighths, none: "{title: None}\n[C]One line\n" });
    const bpm = (text) => follower.locator(".bpm").filter({ hasText: new RegExp(`^${text}\\s*(tempo\\?)?$`) }).waitFor();
    const isUnknown = () => follower.getByTestId("tempo-unknown").isVisible();
    await bpm("♪=200");
    assert.equal(await isUnknown(), false);
    await leader.evaluate(() => window.bandsync.selectSong("eighths"));
    await bpm("♪=110");
    assert.equal(await follower.locator(".pulse i").count(), 6);
    await leader.evaluate(() => window.bandsync.selectSong("none"));
    await bpm("♩=100");
    assert.equal(await isUnknown(), true);
    await leader.evaluate(() => window.bandsync.setTempo(96));
    await bpm("♩=96");
    assert.equal(await isUnknown(), false, "somebody knows it");
  });

  scene("say in which key the song sounds, and which one this member plays", async () => {
    const [leader, follower] = await pair();
    await follower.evaluate(() => window.stage.setView({ capo: 2 }));
    await shows(follower, "key", "sounds in G · you play F, capo 2");
    await shows(leader, "key", "G");
  });

  scene("say how far off a lost clock may be", async () => {
    const [, follower] = await pair();
    await follower.evaluate(() => {
      const { clock } = window.bandsync;
      Object.defineProperty(clock, "quality", { get: () => "lost" });
      Object.defineProperty(clock, "bound", { get: () => window.boundMs });
      window.boundMs = 83.4;
    });
    await shows(follower, "clock", "lost ±83 ms");
    await follower.evaluate(() => {
      window.boundMs = Infinity;
    });
    await shows(follower, "clock", "no clock");
  });

  scene("name all who wait for a song", async () => {
    const leader = await enter("Ada");
    const follower = await enter("Bo");
    await shows(follower, "empty-text", "Waiting for Ada to choose a song.");
    await shows(follower, "empty-members", "Here: Ada, Bo");
    assert.equal(await leader.getByTestId("empty-members").isVisible(), false);
  });

  scene("stop only after a hold, or a second press, while the music plays", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    const stop = leader.getByTestId("stop");
    await stop.click();
    await leader.waitForTimeout(300);
    assert.equal((await reading(leader)).isPlaying, true, "one tap does not stop");
    await stop.click();
    await playing(follower, false);
    await play(leader, [follower]);
    await leader.waitForTimeout(2100);
    const box = await stop.boundingBox();
    await leader.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await leader.mouse.down();
    await leader.waitForTimeout(300);
    assert.equal((await reading(leader)).isPlaying, true, "a short hold does not stop");
    await playing(follower, false);
    await leader.mouse.up();
    assert.equal((await reading(leader)).songBeat, 0);
  });

  scene("show cues large, with a word and a shape, and read them out", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("cues-open").click();
    await leader.getByTestId("cue-stop").click();
    for (const page of [leader, follower]) {
      await page.getByTestId("cue").filter({ hasText: "STOP" }).waitFor();
      assert.equal(await page.getByTestId("cue").getAttribute("data-kind"), "stop");
      const size = await page.getByTestId("cue").evaluate((el) => parseFloat(getComputedStyle(el).fontSize));
      assert.ok(size >= 48, `${size} px`);
      await shows(page, "cue-said", "STOP");
    }
    await leader.getByTestId("cue-text").fill("Ben solo");
    await leader.getByTestId("cue-send").click();
    await follower.getByTestId("cue").filter({ hasText: "Ben solo" }).waitFor();
    await leader.keyboard.press("Escape");
  });

  scene("end with the song, and name the next one", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.bandsync.setTempo(400));
    await play(leader, [follower]);
    await leader.evaluate(() => window.bandsync.seekBeat(76));
    await follower.getByTestId("ended").filter({ hasText: "End. Next: Harbour" }).waitFor();
    await playing(follower, false);
    // A pedal needs a second press for the next song.
    await leader.keyboard.press("PageDown");
    await leader.getByTestId("toast").filter({ hasText: "Harbour" }).waitFor();
    assert.equal(await leader.getByTestId("song-title").textContent(), "Van");
    await leader.waitForTimeout(300);
    await leader.keyboard.press("PageDown");
    for (const page of [leader, follower]) await shows(page, "song-title", "Harbour");
  });

  scene("a pause into a dead link shows a sign, and is never applied late", async () => {
    const network = await badNetwork(server);
    try {
      const leader = await enter("Ada", { url: network.url, lost: true });
      const follower = await enter("Bo");
      await withSongs(leader, [follower]);
      await play(leader, [follower]);
      network.freeze();
      await leader.getByTestId("pause").click();
      await leader.locator('[data-testid="pause"][aria-busy="true"]').waitFor({ timeout: 1500 });
      await leader.getByTestId("toast").filter({ hasText: "No answer yet" }).waitFor();
      await leader.waitForTimeout(500);
      network.thaw();
      await leader.getByTestId("toast").filter({ hasText: "slower than the music" }).waitFor();
      assert.equal((await reading(follower)).isPlaying, true);
      assert.equal((await reading(leader)).isPlaying, true);
    } finally {
      network.stop();
    }
  });

  scene("arm the chart's later tempos", async () => {
    const leader = await enter("Ada");
    await withSongs(leader, [], { ramp: RAMP });
    await play(leader);
    await until(leader, () => window.bandsync.beat().songBeat > 8.5);
    assert.equal(await tempoOf(leader), 200);
  });

  scene("offer the demo to a leader without songs", async () => {
    const leader = await enter("Ada");
    const follower = await enter("Bo");
    await follower.getByTestId("empty-text").filter({ hasText: "Waiting for Ada to choose a song." }).waitFor();
    await leader.getByTestId("demo").click();
    for (const page of [leader, follower]) await shows(page, "song-title", "Van at Midnight");
    await follower.getByTestId("empty").waitFor({ state: "hidden" });
  });
});

describe("seats", () => {
  scene("a follower that reloads is back on the stage by itself, at the right position", async () => {
    const [leader, follower] = await pair();
    await play(leader, [follower]);
    await follower.reload();
    await onStage(follower);
    await playing(follower, true);
    await until(follower, () => window.stage.song?.chart);
    await assertInStep(leader, follower);
    await showsItsBeat(follower);
    assert.equal(await follower.evaluate(() => window.bandsync.memberCount), 2);
  });

  scene("a leader that reloads has its seat and the lead again", async () => {
    const [leader, follower] = await pair();
    await leader.reload();
    await onStage(leader);
    await until(leader, () => window.stage.song?.chart);
    await play(leader, [follower]);
    const members = await follower.evaluate(() => window.bandsync.members.map(({ displayName, role }) => `${displayName} ${role}`));
    assert.deepEqual(members, ["Ada leader", "Bo follower"]);
  });

  scene("a browser that crashed goes back to its seat by itself, and a browser that left asks again", async () => {
    const page = await enter("Ada");
    // Neither the tab nor its storage is left; the browser's own storage is.
    const context = page.context();
    await page.close({ runBeforeUnload: false });
    const back = await context.newPage();
    await back.goto(`${server.url}/?session=${sessionId}`);
    await onStage(back);
    assert.deepEqual(await back.evaluate(() => [window.bandsync.name, window.bandsync.memberCount, window.bandsync.isLeader]), ["Ada", 1, true]);
    await back.getByTestId("more-open").click();
    await back.getByTestId("leave").click();
    await back.getByTestId("leave-now").click();
    await back.getByTestId("name").waitFor();
    await back.close();
    const later = await context.newPage();
    await later.goto(`${server.url}/?session=${sessionId}`);
    await later.waitForFunction(() => window.stage);
    // Longer than it asks other tabs.
    await later.evaluate(() => new Promise((resolve) => setTimeout(resolve, 500)));
    assert.equal(await later.getByTestId("name").isVisible(), true);
  });

  scene("a leader leads again after kill -9 and a start of the server", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bandsync-page-"));
    const env = { SHARDS: "1", STORAGE: "file", DATA_DIR: folder };
    let running = await startServer({ env });
    try {
      const options = { url: running.url, lost: true };
      const leader = await enter("Ada", options);
      const follower = await enter("Bo", options);
      await withSongs(leader, [follower]);
      await play(leader, [follower]);
      await leader.waitForTimeout(500);
      running.signal("SIGKILL");
      await follower.getByTestId("clock").filter({ hasText: "offline" }).waitFor();
      assert.equal((await reading(leader)).isPlaying, true, "the music plays on");
      await running.exited;
      running = await startServer({ env: { ...env, PORT: String(running.port) } });
      await Promise.all([leader, follower].map((page) => until(page, () => window.bandsync.status === "online")));
      assert.equal(await leader.evaluate(() => window.bandsync.isLeader), true);
      await assertInStep(leader, follower);
      await leader.getByTestId("pause").click();
      await playing(follower, false);
    } finally {
      await running.stop().catch(() => {});
      rmSync(folder, { recursive: true, force: true });
    }
  });

  scene("a second tab is a member of its own, and a page asks before it takes its seat back", async () => {
    const page = await enter("Ada");
    const tab = await page.context().newPage();
    await tab.goto(`${server.url}/?session=${sessionId}`);
    await tab.getByTestId("name").fill("Bo");
    await tab.getByTestId("join").click();
    await onStage(tab);
    assert.equal(await tab.evaluate(() => window.bandsync.memberCount), 2);
    const token = await page.evaluate(() => window.bandsync.token);
    const device = new BandSync({ url: server.url, sessionId, token });
    await device.join();
    await page.getByTestId("gone").filter({ hasText: "another device" }).waitFor();
    const replaced = new Promise((resolve) => device.addEventListener("replaced", resolve));
    await page.getByTestId("come-back").click();
    await replaced;
    await until(page, () => window.bandsync.status === "online");
    assert.equal(await page.evaluate(() => window.bandsync.isLeader), true);
    assert.notEqual(await page.evaluate(() => window.bandsync.token), token);
    assert.equal(await page.getByTestId("gone").isVisible(), false);
  });

  scene("leaving asks a leader once, and the way back closes sheets first", async () => {
    const [leader] = await pair();
    await leader.getByTestId("more-open").click();
    await leader.getByTestId("more").waitFor();
    await leader.goBack();
    await leader.getByTestId("more").waitFor({ state: "detached" });
    await leader.getByTestId("stage").waitFor();
    await leader.goBack();
    await leader.getByTestId("leave-sheet").filter({ hasText: "You lead" }).waitFor();
    await leader.getByTestId("stay").click();
    await leader.getByTestId("stage").waitFor();
    await leader.getByTestId("more-open").click();
    await leader.getByTestId("leave").click();
    await leader.getByTestId("leave-now").click();
    await leader.getByTestId("name").waitFor();
    await leader.reload();
    await leader.getByTestId("name").waitFor();
    assert.equal(await leader.getByTestId("stage").isVisible(), false);
  });
});

describe("the lead", () => {
  /** A follower's dock comes with a tap on the lowest part of the screen. */
  async function showDock(page) {
    const { width, height } = page.viewportSize();
    await page.mouse.click(width / 3, height - 20);
    await page.getByTestId("take-lead").waitFor();
  }

  scene("a follower cannot play until the leader hands the lead over", async () => {
    const [leader, follower] = await pair();
    const code = await follower.evaluate(() => window.bandsync.play().catch((error) => error.code));
    assert.equal(code, "not_leader");
    assert.equal((await reading(follower)).isPlaying, false);
    await showDock(follower);
    await follower.getByTestId("take-lead").click();
    await leader.getByTestId("approve").click();
    await follower.getByTestId("play").click();
    await playing(leader, true);
    assert.equal(await follower.getByTestId("lead-request").isVisible(), false);
    await shows(leader, "role", "Bo leads");
  });

  scene("members that request the lead are answered one after the other, in order", async () => {
    const [leader, follower] = await pair();
    const third = await enter("\u202eCleo");
    const asks = (text) => leader.getByTestId("lead-request").filter({ hasText: text }).waitFor();
    await showDock(follower);
    await follower.getByTestId("take-lead").click();
    await asks("Bo asks for the lead.");
    await showDock(third);
    await third.getByTestId("take-lead").click();
    await third.getByTestId("toast").filter({ hasText: "Asked" }).waitFor();
    await asks("Bo asks for the lead.");
    await leader.getByTestId("deny").click();
    await follower.getByTestId("toast").filter({ hasText: "keeps the lead" }).waitFor();
    await asks("Cleo asks for the lead.");
    await third.evaluate(() => window.stage.call("close-stage"));
    await leader.getByTestId("lead-request").waitFor({ state: "hidden" });
    assert.equal(await leader.evaluate(() => window.bandsync.isLeader), true);
  });

  scene("the leader hands over from the list of members, and lets members edit", async () => {
    const [leader, follower] = await pair();
    await leader.getByTestId("members-open").click();
    await leader.getByTestId("may-edit").check();
    await until(follower, () => window.stage.mayEdit);
    await leader.getByTestId("hand-over").click();
    await until(follower, () => window.bandsync.isLeader);
  });

  scene("a leader whose lead went on while it was away reads who leads, and can ask for it back", async () => {
    const network = await badNetwork(server);
    try {
      const leader = await enter("Ada", { url: network.url, lost: true });
      const follower = await enter("Bo");
      await withSongs(leader, [follower]);
      await leader.evaluate(() => window.bandsync.updateSettings({ leaderRule: "open" }));
      network.freeze();
      network.cut();
      await until(leader, () => window.bandsync.status === "reconnecting");
      await follower.evaluate(() => window.bandsync.takeLead());
      network.thaw();
      await leader.getByTestId("lead-lost").filter({ hasText: "Bo leads now." }).waitFor();
      await leader.getByTestId("ask-back").click();
      await until(leader, () => window.bandsync.isLeader);
    } finally {
      network.stop();
    }
  });

  scene("a session that exists keeps its rule when a member joins", async () => {
    const rule = (page) => page.evaluate(() => window.bandsync.snapshot.settings.leaderRule);
    const first = await enter("Bo");
    await until(first, () => window.bandsync.snapshot.settings.leaderRule === "ask");
    await first.evaluate(() => window.bandsync.updateSettings({ leaderRule: "open" }));
    const second = await enter("Ada");
    await second.evaluate(() => window.bandsync.takeLead());
    await until(second, () => window.bandsync.isLeader);
    assert.equal(await rule(second), "open");
  });

  scene("with a PIN, who knows it takes the lead", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.bandsync.updateSettings({ leaderRule: "pin", leaderPin: "1234" }));
    await until(follower, () => window.stage.settings.leaderRule === "pin");
    await showDock(follower);
    await follower.getByTestId("take-lead").click();
    await follower.getByTestId("pin").fill("1");
    await follower.keyboard.press("Enter");
    await follower.getByTestId("toast").filter({ hasText: "not the PIN" }).waitFor();
    await follower.getByTestId("pin").fill("1234");
    await follower.keyboard.press("Enter");
    await until(follower, () => window.bandsync.isLeader);
    await leader.getByTestId("lead-lost").filter({ hasText: "Bo leads now." }).waitFor();
  });

  scene("settings take effect at once, and followers only read them", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.stage.call("settings"));
    await leader.getByTestId("anyone-may-cue").check();
    await until(follower, () => window.stage.mayCue);
    await leader.getByTestId("new-passcode").fill("chorus");
    await leader.getByTestId("new-passcode-save").click();
    await until(follower, () => window.stage.settings.hasPasscode);
    await leader.getByTestId("passcode-remove").click();
    await until(follower, () => !window.stage.settings.hasPasscode);
    await follower.evaluate(() => window.stage.call("settings"));
    assert.equal(await follower.getByTestId("anyone-may-cue").isDisabled(), true);
  });
});

describe("keys and pedals", () => {
  scene("arrow and page keys go forward and back, and never change the tempo", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.stage.setView({ countIn: 0 }));
    const tempo = await tempoOf(leader);
    await leader.keyboard.press("ArrowDown");
    await playing(follower, true);
    await leader.waitForTimeout(300);
    await leader.keyboard.press("PageDown");
    await leader.getByTestId("armed").filter({ hasText: "Chorus" }).waitFor();
    await shows(follower, "current-section", "Chorus");
    for (const key of ["ArrowUp", "PageUp", "ArrowLeft", "ArrowRight", "ArrowDown"]) {
      await leader.waitForTimeout(260);
      await leader.keyboard.press(key);
    }
    for (const key of ["ArrowUp", "ArrowDown", "PageDown"]) await follower.keyboard.press(key);
    await leader.waitForTimeout(400);
    assert.equal(await tempoOf(leader), tempo);
    assert.equal((await reading(follower)).isPlaying, true);
  });

  scene("a bounce and a held key count once, and a learned key acts", async () => {
    const [leader] = await pair();
    await play(leader);
    await leader.keyboard.press("PageDown");
    await leader.keyboard.press("PageDown");
    await leader.getByTestId("armed").filter({ hasText: "Chorus" }).waitFor();
    await leader.keyboard.press("Escape");
    await until(leader, () => window.stage.armed === null);
    await leader.keyboard.press("?");
    await leader.getByTestId("learn-forward").click();
    await leader.keyboard.press("F9");
    await leader.getByTestId("learned").filter({ hasText: "F9" }).waitFor();
    await leader.keyboard.press("Escape");
    await leader.waitForTimeout(300);
    await leader.keyboard.press("F9");
    await until(leader, () => window.stage.armed !== null);
  });

  scene("a MIDI pedal is learned like a key, and a pulled cable is told", async () => {
    const leader = await enter("Ada", { init: fakeMidi });
    await withSongs(leader);
    await play(leader);
    await leader.keyboard.press("?");
    assert.equal(await leader.evaluate(() => window.midiAsked), 0, "nothing is asked before the button is pressed");
    await leader.getByTestId("midi-open").click();
    await leader.getByTestId("midi-state").filter({ hasText: "Stomp" }).waitFor();
    await leader.getByTestId("learn-forward").click();
    await leader.evaluate(() => window.midiSends(0xb0, 64, 127));
    await leader.getByTestId("learned").filter({ hasText: "controller 64, channel 1 (Stomp)" }).waitFor();
    await leader.evaluate(() => window.midiSends(0xb0, 64, 0));
    await leader.keyboard.press("Escape");
    await leader.waitForTimeout(300);
    assert.equal(await leader.evaluate(() => window.stage.armed), null);
    await leader.evaluate(() => window.midiSends(0xb0, 64, 127));
    await until(leader, () => window.stage.armed !== null);
    await leader.evaluate(() => window.midiPulls());
    await leader.getByTestId("toast").filter({ hasText: "Stomp is unplugged." }).waitFor();
  });

  scene("space plays and pauses, letters steer, and can be switched off", async () => {
    const [leader, follower] = await pair();
    await leader.evaluate(() => window.stage.setView({ countIn: 0 }));
    await leader.keyboard.press(" ");
    await playing(follower, true);
    await leader.keyboard.press("4");
    await leader.getByTestId("armed").filter({ hasText: "Outro" }).waitFor();
    await leader.keyboard.press("Escape");
    await until(follower, () => window.stage.armed === null);
    await leader.keyboard.press("r");
    await until(follower, () => window.stage.loop !== null);
    await leader.keyboard.press("+");
    await until(follower, () => window.bandsync.beat().tempoBpm === 121);
    await leader.evaluate(() => window.stage.setView({ letters: false }));
    await leader.waitForTimeout(300);
    await leader.keyboard.press("r");
    await leader.keyboard.press("+");
    await leader.waitForTimeout(400);
    assert.equal(await tempoOf(leader), 121);
    assert.equal(await follower.evaluate(() => window.stage.loop !== null), true);
    await leader.keyboard.press(" ");
    await playing(follower, false);
  });
});

describe("the stage", () => {
  scene("keeps its layout while it plays, is cut off and returns", async () => {
    const network = await badNetwork(server);
    try {
      const leader = await enter("Ada");
      const follower = await enter("Bo", { size: PHONE, url: network.url, lost: true });
      await withSongs(leader, [follower]);
      await leader.evaluate(() => window.bandsync.setTempo(240));
      const [ofLeader, ofFollower] = [await watchShifts(leader), await watchShifts(follower)];
      const height = () => follower.locator("#top").evaluate((el) => el.getBoundingClientRect().height);
      const before = await height();
      await play(leader, [follower]);
      network.freeze();
      network.cut();
      await follower.getByTestId("clock").filter({ hasText: "offline" }).waitFor();
      assert.equal(await height(), before);
      assert.equal((await reading(follower)).isPlaying, true);
      network.thaw();
      await until(follower, () => window.bandsync.status === "online");
      await until(leader, () => window.bandsync.beat().bar >= 10);
      assert.deepEqual(await ofFollower(), []);
      assert.deepEqual(await ofLeader(), []);
      await assertInStep(leader, follower);
    } finally {
      network.stop();
    }
  });

  scene("opens every sheet without the server, also one that was never opened before", async () => {
    const network = await badNetwork(server);
    try {
      await enter("Ada");
      const follower = await enter("Bo", { url: network.url, lost: true });
      const rooms = ["view", "members", "settings", "invite", "keys", "cue-sheet", "songs"];
      await follower.waitForFunction((names) => {
        const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
        return names.every((name) => loaded.some((url) => url.includes(`/stage/${name}.`)));
      }, rooms);
      network.freeze();
      network.cut();
      await follower.getByTestId("clock").filter({ hasText: "offline" }).waitFor();
      for (const name of ["view", "members", "settings", "invite", "keys", "songs", "line-up"]) {
        await follower.evaluate((room) => void window.stage.call(room), name);
        await follower.locator("#sheets .sheet").waitFor();
        await follower.evaluate(() => window.stage.closeSheet());
        await follower.locator("#sheets .sheet").waitFor({ state: "detached" });
      }
    } finally {
      network.stop();
    }
  });

  for (const [kind, size] of [["tablets", TABLET], ["tablets held upright", { width: 820, height: 1180 }], ["phones", PHONE]]) {
    scene(`does not move the song on ${kind} whose lead changes while it plays`, async () => {
      const leader = await enter("Ada", { size });
      const follower = await enter("Bo", { size });
      await withSongs(leader, [follower]);
      await play(leader, [follower]);
      await leader.evaluate(() => window.bandsync.loop(0, 80));
      await follower.waitForFunction(() => !document.getElementById("dock").classList.contains("shown"));
      const box = (page, id) => page.locator(id).evaluate((el) => {
        const { top, bottom, height } = el.getBoundingClientRect();
        return { top, bottom, height };
      });
      const sizes = async () => [await box(leader, "#song"), await box(follower, "#song")];
      const before = await sizes();
      const shifts = [await watchShifts(leader), await watchShifts(follower)];
      for (const [from, to, name] of [[leader, follower, "Bo"], [follower, leader, "Ada"], [leader, follower, "Bo"]]) {
        await from.evaluate((wanted) => {
          const { members } = window.bandsync;
          return window.bandsync.handOver(members.find(({ displayName }) => displayName === wanted).socketId);
        }, name);
        await until(to, () => window.bandsync.isLeader);
        await until(from, () => !window.bandsync.isLeader);
        for (const id of ["pause", "next-section"]) await to.getByTestId(id).click({ trial: true });
        await section(to, "Outro").click({ trial: true });
        assert.deepEqual(await sizes(), before);
      }
      for (const seen of shifts) assert.deepEqual(await seen(), []);
      // The layout of the new role comes when nothing moves by it.
      await follower.getByTestId("pause").click();
      await Promise.all([playing(leader, false), playing(follower, false)]);
      await until(leader, (height) => document.getElementById("song").offsetHeight > height, before[0].height);
      assert.deepEqual((await box(follower, "#song")).height, before[0].height);
      assert.ok((await box(follower, "#dock")).top >= (await box(follower, "#song")).bottom - 1);
    });
  }

  /** Returns a function that gives the number of layouts of a page so far. */
  async function layouts(page) {
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Performance.enable");
    return async () => (await cdp.send("Performance.getMetrics")).metrics.find(({ name }) => name === "LayoutCount").value;
  }

  for (const [kind, size] of [["a tablet", TABLET], ["a phone", PHONE]]) {
    scene(`lays nothing out on ${kind} while bars and lines of a section go by`, async () => {
      const leader = await enter("Ada", { size });
      const lines = "[C]Hold it with me\n".repeat(14);
      const many = `{title: Many}\n{tempo: 400}\n{time: 2/4}\n{x_bars_per_line: 2}\n{start_of_verse: All}\n${lines}`;
      await withSongs(leader, [], { many });
      await play(leader);
      const isAt = (bar) => until(leader, (wanted) => window.bandsync.beat().bar >= wanted, bar);
      await isAt(5);
      const count = await layouts(leader);
      const before = await count();
      await isAt(21);
      // Sixteen bars. What else happens at that time, such as a text that goes, may be a layout.
      const found = (await count()) - before;
      assert.ok(found <= 4, `${found} layouts`);
    });
  }

  scene("lays a long song out no more often than it must", async () => {
    const leader = await enter("Ada");
    const long = (name) => `{title: ${name}}\n${`{start_of_verse}\n${"[G]Load the [D]rain\n".repeat(4)}{end_of_verse}\n`.repeat(25)}`;
    await withSongs(leader, [], { van: VAN, first: long("First"), second: long("Second"), third: long("Third"), fourth: long("Fourth") });
    const count = await layouts(leader);
    const counts = [];
    for (const id of ["first", "second", "third", "fourth"]) {
      const before = await count();
      await leader.evaluate((wanted) => window.stage.look(wanted), id);
      counts.push((await count()) - before);
    }
    // To find its height, and to place it. Sometimes another text changes in the same moment.
    assert.ok(Math.min(...counts.slice(1)) <= 2, `${counts} layouts`);
  });

  scene("shows a line that stands under the dock of a leader who took over", async () => {
    const leader = await enter("Ada");
    const follower = await enter("Bo");
    await withSongs(leader, [follower]);
    // A screen on which the song just fits as a whole: its last line is where a leader has the dock.
    const height = await follower.evaluate(() => {
      window.stage.setView({ columns: 1, size: 16 });
      return document.querySelector(".song-sheet").offsetHeight + document.getElementById("top").offsetHeight + 1;
    });
    await follower.setViewportSize({ width: TABLET.width, height });
    await until(follower, (wanted) => document.getElementById("stage").offsetHeight === wanted, height);
    await play(leader, [follower]);
    await leader.evaluate(() => window.bandsync.loop(0, 80));
    await leader.evaluate(() => window.bandsync.handOver(window.bandsync.members.find(({ displayName }) => displayName === "Bo").socketId));
    await until(follower, () => window.bandsync.isLeader);
    const bottoms = () => follower.evaluate(() => {
      const lines = [...document.querySelectorAll("[data-testid=line]")];
      return { last: lines.at(-1).getBoundingClientRect().bottom, dock: document.getElementById("dock").getBoundingClientRect().top };
    });
    const at = await bottoms();
    assert.ok(at.last > at.dock, `the last line is under the dock: ${JSON.stringify(at)}`);
    await follower.evaluate(() => window.bandsync.seekBeat(72));
    await until(follower, () => {
      const line = document.querySelector("[data-testid=line][aria-current]");
      return Number(line.dataset.to) === 80 && line.getBoundingClientRect().bottom <= document.getElementById("dock").getBoundingClientRect().top;
    });
  });

  scene("gives the song the greatest part of the screen", async () => {
    const leader = await enter("Ada");
    const follower = await enter("Bo", { size: PHONE });
    await withSongs(leader, [follower]);
    const share = (page) => page.locator("#song").evaluate((el) => (el.clientWidth * el.clientHeight) / (innerWidth * innerHeight));
    assert.ok((await share(leader)) >= 0.75);
    assert.ok((await share(follower)) >= 0.85);
  });

  scene("tells a screen reader the song, and each section that begins", async () => {
    const [leader, follower] = await pair();
    const hears = (text) => follower.waitForFunction((wanted) => document.getElementById("say").textContent === wanted, text);
    await hears(await follower.evaluate(() => window.stage.song.title));
    await play(leader, [follower]);
    await hears("Intro");
    await section(leader, "Chorus").click();
    await hears("Chorus");
    // Never each beat, bar or second.
    const said = await follower.evaluate(() => ["bar", "beat", "tempo", "position", "section-bar"].filter((id) =>
      document.querySelector(`[data-testid="${id}"]`).closest("output, [role=status], [role=alert], [aria-live]")));
    assert.deepEqual(said, []);
  });

  scene("keeps all sections reachable among 30 members, and in 320 pixels", async () => {
    const leader = await enter("Ada");
    await withSongs(leader);
    const others = Array.from({ length: 29 }, (_, i) => new BandSync({ url: server.url, sessionId, name: `${"Long name ".repeat(5)}${i}` }));
    await Promise.all(others.map((member) => member.join()));
    await shows(leader, "member-count", "30");
    for (const size of [TABLET, { width: 820, height: 1180 }, PHONE, { width: 320, height: 640 }]) {
      await leader.setViewportSize(size);
      for (const name of ["Intro", "Outro"]) await section(leader, name).click({ trial: true });
      for (const name of ["play", "stop", "next-section", "more-open"]) await leader.getByTestId(name).click({ trial: true });
      const overflow = await leader.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${size.width}: ${overflow} px too wide`);
    }
    for (const member of others) member.leave();
  });
});
