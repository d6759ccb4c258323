// A gig, played from the first song to the last: four screens behind bad networks, and a referee that has the server's
// timeline. Each step of the specification (stage page, section 19) is a subtest; they build on each other.
//
// Steps 22 (by keyboard alone) and 23 (eight minutes, throttled) are in gig-long.test.js. GIG_STEPS=7,8 plays these two
// alone, after the steps that fill the stage.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { faults } from "../support/gig/axe.js";
import { ChromiumScreen } from "../support/gig/chromium.js";
import { watchCue } from "../support/gig/cue.js";
import { FRAME_US, Referee } from "../support/gig/referee.js";
import { pause } from "../support/gig/screen.js";
import { CAFE, CHAPEL, HARBOUR, LANTERN, SCORES, VAN, inWindows1252 } from "../support/gig/songs.js";
import { codeOf, onTerminal } from "../support/gig/terminal.js";
import { badNetwork } from "../support/proxy.js";
import { startServer } from "../support/server.js";
import { cannot } from "../support/skips.js";
import { PATIENCE_MS } from "../support/wait.js";

const SEED = Number(process.env.GIG_SEED ?? 19);
/** Steps that are played; those that fill the stage always are. */
const PLAYED = process.env.GIG_STEPS ? new Set(["2", "3", "4", ...process.env.GIG_STEPS.split(",")]) : null;
const IS_LONG = process.env.GIG === "long";
const TABLET = { width: 1180, height: 820 };
const PHONE = { width: 390, height: 844 };
const LAPTOP = { width: 1440, height: 900 };
const PASSCODE = "harbour lights";
/** Distance of a line from its anchor that nobody sees. Guessed. */
const ANCHOR_PX = 1.5;
/** What a page says about a command: before it is known what became of it, and when it is void, or the link is lost. */
const EARLY = /No answer yet/;
const VOID = /press again/i;
const AWAY = /Not connected/;
/** A tempo at which a bar is long enough for two presses on a loaded computer. */
const SLOW_BPM = 60;
/** Longer than the leader's network holds a heartbeat up. */
const HEARTBEAT_PASSES_MS = 50;

const folder = mkdtempSync(join(tmpdir(), "bandsync-gig-"));
const env = { SHARDS: "2", STORAGE: "file", DATA_DIR: folder, EVENT_RATES: "other=0" };
const session = freshSession("gig");

let server;
let browser;
let referee;
/** What each screen's proxy talks to, also after the server was started again. */
const far = { port: 0, closers: [], owns: (close) => far.closers.push(close) };
/** Screens and networks by name. */
const screens = {};
const networks = {};
const others = [];
let isBroken = false;

const all = () => Object.values(screens);
const members = () => all().filter(({ view }) => view === "member");

before(async () => {
  server = await startServer({ env });
  far.port = server.port;
  browser = await launchBrowser();
});
after(async () => {
  for (const member of others) member.leave();
  referee?.band.leave();
  await browser?.close();
  for (const close of far.closers) close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens a screen behind a network of its own, at the door. */
async function open(name, size, { weather, search = "", hash = "", ...options } = {}) {
  const network = await badNetwork(far, { seed: SEED + all().length, ...weather });
  const screen = await ChromiumScreen.make(browser, name, { size, origin: network.url, ...options });
  screen.url = (more = "") => `${network.url}/?session=${session}${search}${more}`;
  screens[name] = screen;
  networks[name] = network;
  await screen.open(screen.url(hash));
  return screen;
}

/** Plays one step. It also fails if a page logs an error, moves its layout while it plays, or asks another server. */
async function step(t, name, play, options = {}) {
  await t.test(name, options, async (sub) => {
    const [number] = name.split(" ");
    if (PLAYED && !PLAYED.has(number)) return cannot(sub, "the step is not in GIG_STEPS");
    if (isBroken) return cannot(sub, "a step before this one failed");
    try {
      await play(sub);
      await quiet();
    } catch (error) {
      isBroken = !PLAYED;
      if (PLAYED) sub.diagnostic(`${name}: ${String(error.stack).slice(0, 1500)}`);
      await picture(`gig ${name}`, all().map(({ page }) => page));
      throw error;
    }
    return undefined;
  });
}

async function quiet() {
  for (const screen of all()) {
    assert.deepEqual(screen.complaints.splice(0), [], `${screen.name} logs no error`);
    assert.deepEqual(screen.foreign.splice(0), [], `${screen.name} asks no other server`);
    if (!(await screen.eval(() => Boolean(window.probe)))) continue;
    assert.deepEqual(await screen.shifts(), [], `${screen.name} keeps its layout while it plays`);
  }
}

/** Forgets layout shifts that a step wants: a rotation gives a page another width. */
async function forgetShifts(on) {
  for (const screen of on) {
    await screen.read();
    await screen.eval(() => void window.probe.shifts.splice(0));
  }
}

async function clean(screen, state) {
  if (PLAYED && ["the door", "no songs", "waiting", "the editor", "the songs", "a song", "the settings"].includes(state)) return;
  await screen.rests(); // What fades in has no contrast yet.
  assert.deepEqual(await faults(screen.page), [], `${screen.name}, ${state}: no faults of accessibility`);
}

const same = () => referee.check(all());

/** Records all screens while `play` runs, then judges each frame. Returns the frames by name. */
async function recorded(play, { on = all(), extras = {} } = {}) {
  await Promise.all(on.map((screen) => screen.eval((more) => window.probe.record(more), extras[screen.name])));
  await play();
  const frames = {};
  for (const screen of on) frames[screen.name] = await screen.eval(() => window.probe.stop());
  for (const screen of on) {
    assert.ok(frames[screen.name].length > 0, `${screen.name} draws`);
    for (const frame of frames[screen.name]) assert.ok(referee.judge(screen, frame), `${screen.name} has a known timeline`);
  }
  return frames;
}

/** Checks that the music never goes back, but for less than a frame. */
function onlyRises(name, frames, back = FRAME_US / 1e6 * 2) {
  for (const [i, frame] of frames.entries()) {
    if (i === 0) continue;
    const before = frames[i - 1];
    assert.ok(frame.songBeat >= before.songBeat - back, `${name}: beat ${before.songBeat}, then ${frame.songBeat}`);
    assert.ok(frame.bar >= before.bar, `${name}: bar ${before.bar}, then ${frame.bar}`);
  }
}

/** Frames in the first part of a line, from the share `since` on, while nothing glides, with the line's distance from the anchor. */
function atRest(frames, since = 0) {
  const resting = [];
  for (const frame of frames) {
    const { songBeat, countIn } = referee.atStart(frame);
    const share = (songBeat - frame.line.from) / (frame.line.to - frame.line.from);
    if (!countIn && share >= since && share < 0.45) resting.push({ ...frame, songBeat, off: frame.top - 0.3 * frame.height });
  }
  return resting;
}

/** Presses a button of a follower's dock, which comes with a press on the lowest part of the song, for five seconds. */
async function fromDock(screen, id) {
  const { width, height } = screen.page.viewportSize();
  for (let i = 0; ; i += 1) {
    await screen.page.mouse.click(width / 3, height - 20);
    try {
      return await screen.tap(id, { timeout: 4000 });
    } catch (error) {
      if (i === 5) throw error;
    }
  }
}

/** Opens the sheet More, and sets the tempo that is felt. */
async function setTempo(screen, bpm) {
  await screen.tap("more-open");
  await screen.shows("more");
  await screen.page.getByTestId("tempo-enter").fill(String(bpm));
  await screen.press("Enter");
  await screen.press("Tab");
  await screen.until((wanted) => Math.abs(window.bandsync.beat().tempoBpm - wanted) < 0.01, bpm);
  await screen.press("Escape");
  await screen.hides("more");
}

const section = (screen, name) => screen.click(`[data-testid="section"][data-name="${name}"]`);
const offline = (screen) => screen.shows("clock", "offline");
const online = (screen) => screen.until(() => window.bandsync.status === "online");
const sizeOf = (screen) => screen.eval(() => parseFloat(getComputedStyle(document.querySelector(".song-sheet")).fontSize));
async function waitFor(what, check) {
  const end = performance.now() + PATIENCE_MS;
  while (!(await check())) {
    assert.ok(performance.now() < end, `not within ${PATIENCE_MS} ms: ${what}`);
    await pause(20);
  }
}
const titles = (screen) => screen.eval(() => window.stage.setlist.songs.map(({ title }) => title));

/** Song that the referee's timeline has on, in which nothing plays; then plays it with the leader's button. */
async function start(leader) {
  await leader.tap("play");
  await referee.until(({ playing }) => playing, "the music plays");
}

/** Plays the song from its start, unless it plays. */
async function playing(leader) {
  if (referee.now().playing) return;
  await start(leader);
  await referee.until(({ countIn }) => !countIn, "the count-in is over");
}

/** Stops: while the music plays the button has to be held. */
async function halt(leader) {
  const isDone = (place) => !place.playing && place.songBeat === 0;
  if (referee.now().playing) {
    await leader.page.getByTestId("stop").hover();
    await leader.page.mouse.down();
    await referee.until((place) => !place.playing, "the music has stopped");
    await leader.page.mouse.up();
  }
  if (!isDone(referee.now())) await leader.tap("stop");
  await referee.until(isDone, "the song is back at its start");
}

/** Repeats a section, which is begun at once by stopping first: the music plays on for as long as a step takes. */
async function keepPlaying(leader, name) {
  if (referee.now().playing) await halt(leader);
  await section(leader, name);
  await leader.shows("current-section", name);
  await start(leader);
  await referee.until(({ countIn }) => !countIn, "the count-in is over");
  if (!(await leader.eval(() => window.stage.loop !== null))) await leader.tap("repeat");
  await leader.until(() => window.stage.loop !== null);
}

test("a gig", { timeout: 600_000 }, async (t) => {
  await step(t, "1 the code in the terminal leads to an address that answers", async (sub) => {
    const isPrivate = ({ family, internal, address }) =>
      family === "IPv4" && !internal && /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/.test(address);
    const addresses = Object.entries(networkInterfaces()).filter(([name]) => !/^(docker|br-|veth|virbr|vmnet)/.test(name)).flatMap(([, list]) => list);
    if (!addresses.some(isPrivate)) return cannot(sub, "without a private IPv4 address the server prints no code");
    return onTerminal({ HOST: "all" }, (text) => text.includes("Ctrl-C"), async (text) => {
      const address = codeOf(text);
      assert.match(String(address), /^http:\/\/[\d.]+:\d+\/$/, text);
      const answer = await fetch(address);
      assert.equal(answer.status, 200);
      assert.match(await answer.text(), /BandSync/);
    });
  });

  let ada;
  let phone;
  let laptop;
  let screen;

  await step(t, "2 the leader adds songs, and followers hold all charts", async (sub) => {
    ada = await open("Ada", TABLET, { weather: { delay: 1, jitter: 2 } });
    await ada.shows("join");
    await clean(ada, "the door");
    await ada.join();
    await ada.shows("empty-paste");
    await clean(ada, "no songs");

    const band = new BandSync({ url: server.url, sessionId: session, view: "screen", passcode: PASSCODE, storage: null });
    await band.join();
    referee = new Referee(band);
    laptop = await open("Cleo", LAPTOP, { weather: { delay: 3, jitter: 8, chop: 700 } });
    await laptop.join();
    await laptop.shows("empty-text", "Waiting for Ada");
    await clean(laptop, "waiting");

    await ada.tap("empty-paste");
    await ada.fill("chart", VAN);
    await ada.shows("chart-preview", "Load the");
    await clean(ada, "the editor");
    await ada.tap("save-for-band");
    await ada.until(() => window.stage.setlist?.songs.length === 1);
    await ada.hides("chart");
    await ada.eval(() => window.stage.call("songs"));
    await ada.drop([
      { name: "café.txt", bytes: inWindows1252(CAFE) },
      { name: "lantern.onsong", bytes: Buffer.from(LANTERN) },
      { name: "chapel", bytes: Buffer.from(CHAPEL) },
    ]);
    await ada.until(() => window.stage.setlist?.songs.length === 4);
    await ada.page.getByTestId("song-import").setInputFiles({ name: "harbour.cho", mimeType: "text/plain", buffer: Buffer.from(HARBOUR) });
    await ada.until(() => window.stage.setlist?.songs.length === 5);
    assert.deepEqual(await titles(ada), ["Van at Night", "Café Lights", "Lantern", "Chapel Road", "Harbour"]);
    await clean(ada, "the songs");
    // The keyboard's way of reordering: Harbour to the second place, then Café to the end.
    const grip = (title) => ada.page.getByTestId("song-row").filter({ hasText: title }).getByTestId("song-grip");
    const moved = async (title, key, place) => {
      for (let i = 0; i < 5 && (await titles(ada)).indexOf(title) !== place; i += 1) {
        const now = (await titles(ada)).join();
        await grip(title).press(key);
        await ada.until((old) => window.stage.setlist.songs.map((one) => one.title).join() !== old, now);
      }
    };
    await moved("Harbour", "ArrowUp", 1);
    await moved("Café Lights", "ArrowDown", 4);
    const wanted = ["Van at Night", "Harbour", "Lantern", "Chapel Road", "Café Lights"];
    assert.deepEqual(await titles(ada), wanted);
    const began = performance.now();
    await laptop.until((list) => {
      const songs = window.stage.setlist?.songs ?? [];
      return songs.map(({ title }) => title).join() === list && songs.every(({ body }) => typeof body === "string");
    }, wanted.join());
    sub.diagnostic(`all charts after ${Math.round(performance.now() - began)} ms`);
    await referee.learnTitles();
    await ada.page.getByTestId("song-row").filter({ hasText: "Van at Night" }).getByTestId("song-go").click();
    await laptop.shows("song-title", "Van at Night");
    await ada.press("Escape");
    await ada.hides("songs");
    for (const one of [ada, laptop]) one.keys = { "Van at Night": "G", Harbour: "Am", Lantern: "G", "Chapel Road": "D", "Café Lights": "F?" };
    await clean(ada, "a song");
    await same();
  });

  await step(t, "3 the phone and the screen join by a link with the passcode", async () => {
    await ada.eval(() => window.stage.call("settings"));
    await ada.shows("new-passcode");
    await clean(ada, "the settings");
    await ada.fill("new-passcode", PASSCODE);
    await ada.tap("new-passcode-save");
    await laptop.until(() => window.stage.settings.hasPasscode);
    await ada.press("Escape");
    const options = { weather: { delay: 6, jitter: 14 }, hash: "#passcode=wrong", hasTouch: true, isMobile: true };
    phone = await open("Ben", PHONE, options);
    await phone.fill("name", "Ben");
    await phone.tap("join");
    await phone.shows("join-error", "not the passcode");
    await clean(phone, "the door that asks for a passcode");
    const requests = [];
    phone.page.on("request", (request) => requests.push(request.url()));
    await phone.open("about:blank");
    await phone.open(phone.url(`#passcode=${encodeURIComponent(PASSCODE)}`));
    await phone.join();
    assert.doesNotMatch(requests.join(" "), /passcode|harbour.lights|wrong/);
    assert.doesNotMatch(phone.page.url(), /passcode|harbour.lights/);
    screen = await open("screen", { width: 1280, height: 720 }, { weather: { delay: 2, jitter: 4 }, search: "&view=screen", hash: `#passcode=${encodeURIComponent(PASSCODE)}` });
    screen.view = "screen";
    await screen.entered();
    phone.foreign = [];
    for (const one of [phone, screen]) {
      await one.until(() => window.stage.setlist?.songs.length === 5 && window.stage.setlist.songs.every(({ body }) => typeof body === "string"));
    }
    phone.keys = { ...ada.keys };
    await clean(phone, "a song");
    await clean(screen, "a song");
    await same();
  });

  await step(t, "4 each has its own view of the same line", async () => {
    await fromDock(laptop, "view-open");
    await laptop.shows("view");
    await clean(laptop, "the own view");
    for (let i = 0; i < 2; i += 1) await laptop.tap("transpose-down");
    await laptop.select("capo", "2");
    await laptop.select("notation", "german");
    await laptop.press("Escape");
    laptop.keys = { ...laptop.keys, "Van at Night": "sounds in G · you play Es, capo 2" };

    await fromDock(phone, "view-open");
    await phone.select("notation", "nashville");
    await clean(phone, "the own view");
    for (let i = 0; i < 30; i += 1) {
      const size = await phone.eval(() => Number(document.querySelector(".song-room").dataset.size));
      if (Math.abs(size - 40) <= 1) break; // Steps are of 2 px, from what fitted.
      await phone.tap(size < 40 ? "size-up" : "size-down");
    }
    await phone.press("Escape");
    const first = (one) => one.eval(() => [...document.querySelector('[data-testid="line"]').querySelectorAll(".chord")].map((el) => el.textContent).join(" "));
    assert.equal(await first(ada), "G D/F# Em C");
    assert.equal(await first(laptop), "Es B/D Cm As");
    assert.equal(await first(phone), "1 5/7 6m 4");
    assert.ok(Math.abs((await sizeOf(phone)) - 40) <= 1);
    await same();
  });

  await step(t, "5 count-in, then the first line is at the anchor on its first beat, and the clicks agree", async (sub) => {
    for (const one of [ada, laptop]) await one.press("c");
    for (const one of [ada, laptop]) {
      await one.eval(() => {
        window.clicks = [];
        window.stage.sound.click.addEventListener("click", ({ detail }) => window.clicks.push(detail));
      });
    }
    const frames = await recorded(async () => {
      await start(ada);
      await laptop.shows("current-section", "Count-in");
      await same();
      await referee.until(({ songBeat }) => songBeat > 9.5, "the third line");
      await same();
    }, { extras: { Ben: "anchor" } });
    const counted = frames.Cleo.filter(({ section: name }) => name === "Count-in");
    assert.ok(counted.length > 0 && counted.every(({ bar }) => bar === 0));
    const resting = atRest(frames.Ben);
    for (const { off, songBeat } of resting) assert.ok(Math.abs(off) <= ANCHOR_PX, `at beat ${songBeat} the line is ${off} px from the anchor`);
    assert.ok(resting.length > 0, "a line was seen at the anchor");
    await clicksAgree(sub, ada, laptop);
  });

  await step(t, "6 on a ramp the bars only rise", async () => {
    await playing(ada);
    const frames = await recorded(async () => {
      await ada.eval(() => window.bandsync.setTempo(96, 8000));
      await referee.settled(all());
      await same();
      await ada.until(() => window.bandsync.beat().tempoBpm === 96);
    });
    for (const [name, list] of Object.entries(frames)) onlyRises(name, list);
  });

  await step(t, "7 an armed chorus is cancelled, armed again, and lands on the bar line", async () => {
    await setTempo(ada, SLOW_BPM);
    // There is a bar's time to cancel, and another one to arm again, which a loaded computer may miss.
    for (let i = 0; ; i += 1) {
      await halt(ada);
      await playing(ada);
      await section(ada, "Chorus");
      await Promise.all(members().map((one) => one.shows("armed", "Chorus")));
      await section(ada, "Chorus");
      await Promise.all(all().map((one) => one.until(() => window.stage.armed === null)));
      await referee.settled(all());
      if (referee.now().songBeat < 7 && referee.timeline.segments.every(({ armed }) => armed !== "jump")) break;
      assert.ok(i < 5, "the jump is cancelled");
    }
    // The chorus is at beat 16 by the table, so at bar 5.
    const target = 16;
    const frames = await recorded(async () => {
      await section(ada, "Chorus");
      await referee.until(({ songBeat }) => songBeat >= target + 0.2, "the chorus");
      await same();
    });
    for (const [name, list] of Object.entries(frames)) {
      const at = list.findIndex(({ songBeat }) => songBeat >= target);
      assert.equal(list[at].bar, target / 4 + 1, `${name} shows the bar of the chorus`);
      assert.ok(list[at - 1].songBeat < target - 0.5, `${name} jumped: ${list[at - 1].songBeat}, then ${list[at].songBeat}`);
    }
  });

  await step(t, "8 a loop goes on without its leader, and its last pass is played out", async () => {
    await playing(ada);
    await ada.tap("repeat");
    await ada.until(() => window.stage.loop !== null);
    await setTempo(ada, 240);
    await referee.until(({ pass }) => pass >= 2, "the second pass");
    ada.isCut = true;
    networks.Ada.freeze();
    networks.Ada.cut();
    await offline(ada);
    const { pass } = referee.now();
    await referee.until((place) => place.pass > pass, "the next pass");
    await referee.check(all().filter((one) => one !== ada));
    assert.ok(referee.judge(ada, await ada.read(), referee.timeline), "the leader's page loops too");
    networks.Ada.thaw();
    await online(ada);
    assert.equal(await ada.eval(() => window.bandsync.isLeader), true);
    const { to } = await ada.eval(() => window.stage.loop);
    const frames = await recorded(async () => {
      await ada.tap("repeat");
      await ada.until(() => window.stage.loop === null);
      await referee.until(({ songBeat }) => songBeat >= to + 0.2, "the section after the loop");
      await same();
    });
    for (const [name, list] of Object.entries(frames)) {
      const after = list.slice(list.findIndex(({ version }) => version === list.at(-1).version));
      onlyRises(name, after);
      assert.ok(after.some(({ songBeat }) => songBeat > to - 4 && songBeat < to), `${name} plays the pass out`);
    }
  });

  await step(t, "9 the laptop returns by a tap, the phone by itself", async () => {
    await keepPlaying(ada, "Verse 2");
    await laptop.page.mouse.move(700, 450);
    await laptop.page.mouse.wheel(0, 300);
    await laptop.shows("back-to-now", "Back to bar");
    await phone.page.mouse.move(200, 400);
    await phone.page.mouse.wheel(0, 400);
    await phone.shows("back-to-now");
    await same();
    await laptop.tap("back-to-now");
    await laptop.hides("back-to-now");
    await phone.until(() => document.querySelector("[data-testid=back-to-now]").hidden, undefined, 30_000);
    const frames = await recorded(async () => {
      const { pass } = referee.now();
      await referee.until((place) => place.pass > pass && place.songBeat > 39, "the second line of the next pass");
    }, { on: [phone], extras: { Ben: "anchor" } });
    // The way back takes 200 ms, and so does the jump with which a loop begins anew: a fifth of a line at this tempo.
    const off = atRest(frames.Ben, 0.25).slice(-5).map((frame) => frame.off);
    assert.ok(off.length > 0 && off.every((px) => Math.abs(px) <= ANCHOR_PX), `the phone is back: ${off} px from the anchor`);
    await same();
  });

  await step(t, "10 a cue is on all screens, and is read out", async (sub) => {
    await ada.press("k");
    await ada.shows("cue-stop");
    await clean(ada, "the cues");
    for (const one of all()) await one.eval(watchCue);
    await ada.tap("cue-stop");
    for (const one of all()) await one.shows("cue", "STOP");
    for (const one of all()) await one.until(() => window.cueSeen.drawn !== null);
    const pressed = await ada.eval(() => window.cueSeen.pressed);
    const after = await Promise.all(all().map(async (one) => `${one.name} ${Math.round(await one.eval(() => window.cueSeen.drawn) - pressed)}`));
    sub.diagnostic(`from the press to the screen, in ms, behind these networks: ${after.join(", ")}`);
    for (const one of all()) {
      const session = await one.page.context().newCDPSession(one.page);
      const { nodes } = await session.send("Accessibility.getFullAXTree");
      await session.detach();
      const alert = nodes.find(({ role, ignored }) => !ignored && role?.value === "alert");
      const live = alert?.properties.find(({ name }) => name === "live")?.value.value;
      assert.equal(live, "assertive", `${one.name} reads the cue out at once`);
      assert.ok(nodes.some(({ name, ignored }) => !ignored && name?.value === "STOP"), `${one.name} has the cue in its tree`);
    }
    await ada.press("Escape");
    await same();
  });

  await step(t, "11 a pause on a link that is dead for 6 s shows at once, comes too late, and stops nothing", async (sub) => {
    if (!referee.now().playing) await keepPlaying(ada, "Verse 2");
    ada.isCut = true;
    const toast = (text) => ada.page.getByTestId("toast").filter({ hasText: text }).waitFor();
    const pausedInVain = async () => {
      await ada.eval(() => {
        window.signAfter = null;
        const button = document.querySelector("[data-testid=pause]");
        button.addEventListener("click", () => {
          const pressed = performance.now();
          new MutationObserver((_, observer) => {
            if (button.getAttribute("aria-busy") !== "true") return;
            window.signAfter = performance.now() - pressed;
            observer.disconnect();
          }).observe(button, { attributes: true });
        }, { once: true });
      });
      await ada.tap("pause");
      await ada.until(() => window.signAfter !== null);
      sub.diagnostic(`a sign after ${Math.round(await ada.eval(() => window.signAfter))} ms`);
      await toast(EARLY);
    };
    const frames = await recorded(async () => {
      // Right after a heartbeat, so that the link outlives 6 s: the server refuses what it then receives.
      const { pongs } = ada;
      await waitFor("a heartbeat", () => ada.pongs > pongs);
      await pause(HEARTBEAT_PASSES_MS);
      const marks = ada.received.length;
      const { sockets } = ada;
      networks.Ada.freeze();
      const frozen = performance.now();
      await pausedInVain();
      await toast(VOID);
      assert.equal(await ada.eval(() => window.bandsync.status), "online");
      await pause(Math.max(0, 6000 - (performance.now() - frozen)));
      networks.Ada.thaw();
      await waitFor("the server refuses the pause", () => ada.received.slice(marks).some((text) => text.includes("too_late")));
      assert.equal(ada.sockets, sockets, "the link lives");
      // Until both sides have given the link up.
      networks.Ada.freeze();
      await pausedInVain();
      await ada.page.getByTestId("toast").filter({ hasText: VOID }).or(ada.page.getByTestId("toast").filter({ hasText: AWAY })).waitFor();
      await offline(ada);
      networks.Ada.thaw();
      await online(ada);
      await ada.until(() => document.querySelector("[data-testid=clock]").textContent !== "offline");
    });
    for (const [name, list] of Object.entries(frames)) assert.ok(list.every(({ isPlaying }) => isPlaying), `${name} never stops`);
    await same();
  });

  await step(t, "12 the phone reloads while the music plays, and is back by itself", async (sub) => {
    if (!referee.now().playing) await keepPlaying(ada, "Verse 2");
    const began = performance.now();
    await phone.reload();
    await phone.until(() => window.stage?.isOpen === true && Boolean(document.querySelector('[data-testid="line"][aria-current]')));
    sub.diagnostic(`back after ${Math.round(performance.now() - began)} ms`);
    await phone.entered();
    await same();
    assert.ok(Math.abs((await sizeOf(phone)) - 40) <= 1, "the size is kept");
  });

  await step(t, "13 the laptop is right at once after it was in the background", async () => {
    if (!referee.now().playing) await keepPlaying(ada, "Verse 2");
    const cdp = await laptop.page.context().newCDPSession(laptop.page);
    await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
    const { pass } = referee.now();
    await (IS_LONG ? pause(60_000) : referee.until((place) => place.pass > pass, "the next pass"));
    await cdp.send("Page.setWebLifecycleState", { state: "active" });
    assert.ok(referee.judge(laptop, await laptop.read()), "the first frame is right");
    await cdp.detach();
    await online(laptop);
    await same();
  });

  await step(t, "14 after kill -9 the leader leads again, and no line goes backwards", async (sub) => {
    await halt(ada);
    await setTempo(ada, 80);
    await start(ada);
    await referee.until(({ songBeat }) => songBeat > 1, "the first line");
    await same();
    for (const one of all()) one.isCut = true;
    for (const one of all()) await one.eval(() => window.probe.record());
    await pause(1200); // The server stores the session once a second.
    server.signal("SIGKILL");
    await server.exited;
    for (const one of members()) await offline(one);
    server = await startServer({ env: { ...env, PORT: String(server.port) } });
    const began = performance.now();
    await ada.until(() => window.bandsync.status === "online" && window.bandsync.isLeader);
    sub.diagnostic(`the leader leads ${Math.round(performance.now() - began)} ms after the start`);
    for (const one of all()) await online(one);
    await referee.until(() => referee.band.status === "online", "the referee is back");
    await referee.learnTitles();
    await same();
    for (const one of all()) {
      const frames = await one.eval(() => window.probe.stop());
      for (const [i, frame] of frames.entries()) {
        const before = frames[i - 1] ?? frame;
        const both = () => `${one.name}: ${JSON.stringify(before)}, then ${JSON.stringify(frame)}`;
        assert.ok(frame.isPlaying, `plays on; ${both()}`);
        assert.ok(frame.line.from >= before.line.from, `no line goes backwards; ${both()}`);
      }
    }
  });

  await step(t, "15 the lead is asked for, denied, asked for and handed over", async () => {
    await keepPlaying(ada, "Verse 2");
    await fromDock(laptop, "take-lead");
    await ada.shows("lead-request", "Cleo asks for the lead.");
    await clean(ada, "a request for the lead");
    await ada.tap("deny");
    await laptop.shows("toast", "keeps the lead");
    await fromDock(laptop, "take-lead");
    await ada.shows("lead-request");
    await ada.tap("approve");
    await laptop.until(() => window.bandsync.isLeader);
    await ada.until(() => !window.bandsync.isLeader);
    await referee.settled(all());
    const { version } = referee.timeline;
    await ada.press("PageDown");
    await ada.press("ArrowLeft");
    await laptop.tap("tempo-up");
    await referee.until(() => referee.timeline.version > version, "the new leader's change");
    assert.equal(referee.timeline.version, version + 1, "the old leader's pedal steers no more");
    assert.equal(await ada.eval(() => window.stage.armed), null);
    await same();
    await laptop.tap("members-open");
    await laptop.page.getByTestId("member").filter({ hasText: "Ada" }).getByTestId("hand-over").click();
    await ada.until(() => window.bandsync.isLeader);
    await laptop.press("Escape");
    await same();
  });

  await step(t, "16 keys of pedals move as they should, and never touch the tempo", async () => {
    await halt(ada);
    await ada.eval(() => window.stage.setView({ countIn: 0 }));
    await phone.until(() => !window.bandsync.isPlaying);
    const tempo = await ada.eval(() => window.bandsync.beat().tempoBpm);
    await ada.press("ArrowDown");
    await referee.until(({ playing }) => playing, "forward starts");
    const armed = (name) => ada.shows("armed", name);
    for (const [key, name] of [["PageDown", "Chorus"], ["ArrowRight", "Verse 2"], ["ArrowLeft", "Chorus"]]) {
      await pause(260); // Presses within 250 ms are a bounce.
      await ada.press(key);
      await armed(name);
    }
    await referee.until(({ songBeat }) => songBeat > 16.1, "the chorus");
    await same();
    // A follower turns pages, and steers nothing.
    const top = () => phone.eval(() => document.querySelector(".song-frame").scrollTop);
    const before = await top();
    const { version } = referee.timeline;
    await phone.press("PageDown");
    await phone.shows("back-to-now");
    await phone.until((old) => document.querySelector(".song-frame").scrollTop > old, before);
    await pause(260);
    await phone.press("ArrowUp");
    await phone.press(" ");
    await laptop.press(" ");
    await phone.tap("back-to-now");
    await ada.press(" ");
    await referee.until(({ playing }) => !playing, "space pauses");
    assert.equal(referee.timeline.version, version + 1, "followers steer nothing");
    for (const one of all()) assert.equal(await one.eval(() => window.bandsync.beat().tempoBpm), tempo);
    await same();
  });

  await step(t, "17 a member with the right edits the song that plays, another one is refused", async () => {
    await ada.tap("members-open");
    await clean(ada, "the members");
    await ada.page.getByTestId("member").filter({ hasText: "Cleo" }).getByTestId("may-edit").check();
    await laptop.until(() => window.stage.mayEdit);
    await ada.press("Escape");
    await start(ada);
    const edit = async (one, change) => {
      await one.eval(() => window.stage.call("songs"));
      const row = one.page.getByTestId("song-row").filter({ hasText: "Van at Night" });
      await row.getByTestId("song-more").click();
      await row.getByTestId("song-edit").click();
      await one.shows("chart");
      await one.fill("chart", change);
      await one.tap("save-for-band");
    };
    const changed = VAN.replace("good [G]night", "sleep [G]well");
    await edit(laptop, changed);
    for (const one of all()) await one.until((words) => window.stage.song.body?.includes(words) === true, "sleep [G]well");
    for (const one of members()) {
      await one.until(() => [...document.querySelectorAll('[data-testid="line"]')].some((el) => el.textContent.replace(/\s+/g, " ").includes("well")));
    }
    await laptop.eval(() => window.stage.closeSheet(document.querySelector(".songs")));
    await same();
    await edit(phone, changed.replace("sleep", "be"));
    await phone.shows("editor", "Ada leads, and decides who may edit the list.");
    await clean(phone, "the editor");
    assert.equal(await ada.eval(() => window.stage.song.body.includes("be [G]well")), false);
    await phone.press("Escape");
    await phone.eval(() => window.stage.closeSheet(document.querySelector(".songs")));
    await same();
  });

  await step(t, "18 the next song is in 6/8 and 9/8, and pulse and bars are right", async () => {
    await halt(ada);
    await ada.tap("next-song");
    for (const one of all()) await one.shows("song-title", "Harbour");
    await same();
    await start(ada);
    const blocks = (one) => one.eval(() => document.querySelectorAll(".pulse i, .screen-pulse i").length);
    const frames = await recorded(async () => {
      await referee.until(({ songBeat }) => songBeat > 7, "the second bar");
      await same();
      for (const one of all()) assert.equal(await blocks(one), 2, `${one.name} pulses two big beats`);
      await referee.until(({ songBeat }) => songBeat > 34, "the second bar of 9/8");
      await same();
      for (const one of all()) assert.equal(await blocks(one), 3, `${one.name} pulses three big beats`);
    });
    for (const list of Object.values(frames)) {
      for (const { beat, bigBeat } of list) assert.equal(bigBeat, Math.ceil(beat / 3));
    }
    for (const one of members()) assert.equal(await one.eval(() => document.querySelector("[data-testid=tempo]").textContent), "100");
  });

  await step(t, "19 with 30 members of any name the sections stay reachable", async () => {
    await halt(ada);
    const names = ["👩‍🎤 Zoë 🎸🥁", "محمد عبد الرحمن", "דוד בן־גוריון", "\u202eevil\u202c", "Wolfeschlegelsteinhausenbergerdorff ".repeat(2).slice(0, 64)];
    for (let i = 0; i < 27; i += 1) {
      others.push(new BandSync({ url: server.url, sessionId: session, name: `${names[i % names.length]}`.slice(0, 62) + i, passcode: PASSCODE, storage: null }));
    }
    await Promise.all(others.map((member) => member.join()));
    for (const one of members()) await one.shows("member-count", "30");
    await ada.tap("members-open");
    await ada.until(() => document.querySelectorAll("[data-testid=member]").length === 30);
    await clean(ada, "30 members");
    await ada.press("Escape");
    await ada.hides("members");
    for (const size of [TABLET, { width: 820, height: 1180 }, PHONE]) {
      await ada.resize(size);
      for (const name of ["Swell", "Tide"]) await ada.page.locator(`[data-testid="section"][data-name="${name}"]`).click({ trial: true });
    }
    await ada.resize(TABLET);
    await same();
    for (const member of others.splice(0)) member.leave();
  });

  await step(t, "20 rotated, zoomed, narrow, in the day, calm and in forced colours", async () => {
    await ada.eval(() => window.stage.setView({ countIn: 0 }));
    const fits = async (one, state) => {
      const wide = await one.eval(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${one.name}, ${state}: ${wide} px too wide`);
      // On low screens the dock comes with a press on the lowest part of the song.
      const { width, height } = one.page.viewportSize();
      await one.page.mouse.click(width / 3, height - 12);
      for (const id of one === ada ? ["play", "stop", "next-section", "more-open", "members-open"] : ["members-open"]) {
        await one.page.getByTestId(id).click({ trial: true });
      }
      await same();
    };
    const sizes = [["rotated", TABLET.height, TABLET.width], ["at 200 %", TABLET.width / 2, TABLET.height / 2], ["320 px wide", 320, 640], ["a phone on its side", 844, 390]];
    for (const [state, width, height] of sizes) {
      await ada.resize({ width, height });
      await fits(ada, state);
      await clean(ada, state);
    }
    await ada.resize(TABLET);
    for (const [state, width, height] of [["rotated", PHONE.height, PHONE.width], ["320 px wide", 320, 640]]) {
      await phone.resize({ width, height });
      await fits(phone, state);
      await clean(phone, state);
    }
    await phone.resize(PHONE);
    await laptop.eval(() => window.stage.setView({ theme: "day" }));
    await laptop.until(() => document.documentElement.dataset.theme === "day");
    await clean(laptop, "the day theme");
    await laptop.page.emulateMedia({ reducedMotion: "reduce" });
    await laptop.page.emulateMedia({ forcedColors: "active" });
    await fits(laptop, "forced colours");
    await clean(laptop, "forced colours");
    await laptop.page.emulateMedia({ forcedColors: "none" });
    await start(ada);
    await referee.until(({ songBeat }) => songBeat > 3, "some beats");
    await same();
    await halt(ada);
    await laptop.page.emulateMedia({ reducedMotion: "no-preference" });
    await laptop.eval(() => window.stage.setView({ theme: "night" }));
    // What was resized while nothing played counts for nothing.
    await forgetShifts(all());
  });

  await step(t, "21 the song and the list end; the list is exported and imported again", async () => {
    for (const title of ["Lantern", "Chapel Road"]) {
      await ada.tap("next-song");
      for (const one of all()) await one.shows("song-title", title);
      await same();
    }
    await setTempo(ada, 400);
    await start(ada);
    await laptop.shows("ended", "End. Next: Café Lights");
    await referee.until(({ playing }) => !playing, "the transport stops by itself");
    await same();
    await clean(ada, "the end of a song");
    await ada.tap("end-next");
    for (const one of all()) await one.shows("song-title", "Café Lights");
    await setTempo(ada, 400);
    await start(ada);
    await laptop.until(() => /^End\.(?! Next)/.test(document.querySelector("[data-testid=ended]:not([hidden])")?.textContent ?? ""));
    await referee.until(({ playing }) => !playing, "the transport stops by itself");
    await same();
    const songs = () => ada.eval(() => window.stage.setlist.songs.map(({ title, body }) => ({ title, body })));
    const held = await songs();
    assert.equal(held.length, 5);
    await ada.eval(() => window.stage.call("songs"));
    const waits = ada.page.waitForEvent("download");
    await ada.tap("setlist-save");
    const file = readFileSync(await (await waits).path());
    await ada.tap("setlist-new");
    await ada.fill("new-list-title", "Saturday");
    await ada.tap("new-list-make");
    await ada.until(() => window.stage.setlist.songs.length === 0);
    await ada.page.getByTestId("song-import").setInputFiles({ name: "gig.cho", mimeType: "text/plain", buffer: file });
    await ada.until(() => window.stage.setlist.songs.length === 5);
    assert.deepEqual(await songs(), held, "the same songs, byte for byte");
    assert.equal(held[1].body, HARBOUR, "as it was imported");
    for (const one of [phone, laptop]) {
      await one.until(() => window.stage.setlist.songs.length === 5 && window.stage.setlist.songs.every(({ body }) => typeof body === "string"));
    }
  });
});

/** Compares when the clicks of two pages are heard, by stamps of their audio clocks. */
async function clicksAgree(sub, one, other) {
  const state = await one.eval(() => window.stage.sound.output.state);
  if (state !== "on") return sub.diagnostic(`no sound here: ${state}`);
  const heard = (screen) => screen.eval(() => {
    const { context } = window.stage.sound.output;
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    const toServer = window.bandsync.serverMicros() / 1000 - performance.now();
    return window.clicks.map(({ t, at }) => [t, performanceTime + 1000 * (at - contextTime) + toServer]);
  });
  const [a, b] = [new Map(await heard(one)), new Map(await heard(other))];
  const common = [...a.keys()].filter((t) => b.has(t));
  assert.ok(common.length >= 8, `${common.length} clicks were scheduled on both`);
  const apart = common.map((t) => a.get(t) - b.get(t));
  const middle = [...apart].sort((x, y) => x - y)[apart.length >> 1];
  sub.diagnostic(`clicks of two pages are ${middle.toFixed(2)} ms apart (median of ${apart.length})`);
  return undefined;
}
