// Measures the whole stage page in Chromium, and prints a table of its budgets. It asserts nothing, because the figures
// depend on the machine: measure on a quiet one, with a release build.
//
//   BANDSYNC_BIN=../../target/release/bandsync node figures.js [seconds]
import { BandSync } from "../../src/web/bandsync.js";
import { launchBrowser } from "./support/browser.js";
import { freshSession } from "./support/client.js";
import { ChromiumScreen } from "./support/gig/chromium.js";
import { watchCue } from "./support/gig/cue.js";
import { VAN } from "./support/gig/songs.js";
import { startServer } from "./support/server.js";

const SECONDS = Number(process.argv[2] ?? 20);
const SLOWDOWN = 4;
const LINES = 300;
const CUES = 5;
const BYTES_PER_S = 10e6 / 8;
const TABLET = { width: 1180, height: 820 };
const PHONE = { width: 390, height: 844 };
const WORDS = ["[G]Load the last amp in the [D]rain,", "[Em]one more town with a [Cmaj7]borrowed name,", "[G]strings gone [D/F#]dull and the heater dead,", "still got the count-in going round my head."];

const rows = [];
/** Adds a row to the table. `isMet` is left out where there is nothing to compare with. */
const row = (figure, wanted, measured, isMet) => rows.push([figure, wanted, measured, isMet === undefined ? "" : isMet ? "yes" : "NO"]);
const kB = (bytes) => (bytes / 1000).toFixed(1);
const quantile = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
const middle = (list) => quantile([...list].sort((a, b) => a - b), 0.5);

function longSong(title) {
  let text = `{title: ${title}}\n{key: G}\n{tempo: 120}\n`;
  for (let i = 0; i < LINES / 4; i += 1) text += `{start_of_verse: Verse ${i + 1}}\n${WORDS.join("\n")}\n{end_of_verse}\n`;
  return text;
}

const server = await startServer({ env: { SHARDS: "1", STORAGE: "memory", EVENT_RATES: "other=0" } });
const browser = await launchBrowser();
const screens = [];

async function make(name, size, options = {}) {
  const screen = await ChromiumScreen.make(browser, name, { size, origin: server.url, ...options });
  screens.push(screen);
  screen.cdp = await screen.context.newCDPSession(screen.page);
  // CPU time of the thread: other processes of the machine do not count.
  await screen.cdp.send("Performance.enable", { timeDomain: "threadTicks" });
  return screen;
}

async function open(name, size, session, options) {
  const screen = await make(name, size, options);
  await screen.open(`${server.url}/?session=${session}${options?.search ?? ""}`);
  if (options?.search) await screen.entered();
  else await screen.join();
  return screen;
}

async function metrics({ cdp }) {
  const { metrics: list } = await cdp.send("Performance.getMetrics");
  return Object.fromEntries(list.map(({ name, value }) => [name, value]));
}

/** A band whose leader is a program, so that the pages do nothing but show. */
async function band(songs) {
  const leader = new BandSync({ url: server.url, sessionId: freshSession("figures"), name: "Cleo", role: "leader", storage: null });
  await leader.join();
  await leader.setSetlist({ title: "Figures", songs: songs.map((body, i) => ({ id: `song-${i}`, format: "chordpro", title: `Song ${i}`, body })) });
  await leader.selectSong("song-0");
  return leader;
}

async function loading() {
  const screen = await make("loads", PHONE);
  const { cdp, page } = screen;
  await cdp.send("Network.enable");
  await cdp.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: BYTES_PER_S, uploadThroughput: BYTES_PER_S });
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: SLOWDOWN });
  let [bytes, requests] = [0, 0];
  const sizes = new Map();
  cdp.on("Network.responseReceived", ({ requestId, response }) => sizes.set(requestId, response.url));
  cdp.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (!sizes.has(requestId)) return;
    bytes += encodedDataLength;
    requests += 1;
  });
  await page.addInitScript(() => {
    const look = () => {
      const join = document.querySelector("[data-testid=join]");
      if (join?.getClientRects().length > 0) window.readyAt = performance.now();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
  await screen.open(`${server.url}/?session=${freshSession("loads")}`);
  await page.waitForFunction(() => window.readyAt !== undefined);
  await page.waitForLoadState("networkidle");
  const ready = await page.evaluate(() => window.readyAt);
  row("page before songs, transferred", "≤ 100 kB", `${kB(bytes)} kB`, bytes <= 100_000);
  row("page before songs, requests", "≤ 12", String(requests), requests <= 12);
  row(`ready, 10 Mbit/s, ${SLOWDOWN} × throttled`, "≤ 1000 ms", `${Math.round(ready)} ms`, ready <= 1000);
  await screen.close();
}

async function opening() {
  const leader = await band([VAN, ...["A", "B", "C"].map((name) => longSong(`Long ${name}`))]);
  const screen = await open("opens", TABLET, leader.sessionId);
  await screen.until(() => Boolean(window.stage.song?.chart) && window.stage.setlist.songs.every(({ body }) => typeof body === "string"));
  const took = [];
  for (const id of ["song-1", "song-2", "song-3"]) {
    await leader.request("get_setlist"); // a moment in which nothing else happens in the page
    const before = await metrics(screen);
    await screen.eval(async (wanted) => {
      window.stage.look(wanted);
      // A task after the next frame: the song is laid out and painted.
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    }, id);
    const after = await metrics(screen);
    took.push(1000 * (after.TaskDuration - before.TaskDuration));
  }
  const ms = middle(took);
  row(`a song of ${LINES} lines opens, CPU`, "≤ 100 ms", `${Math.round(ms)} ms (${took.map(Math.round).join(", ")})`, ms <= 100);
  leader.leave();
  await screen.close();
}

/** Plays a song on one page for `SECONDS`, and returns what its main thread did. */
async function play(kind, size, { throttle = 1, leads = false } = {}) {
  const leader = await band([VAN]);
  const screen = await open("plays", size, leader.sessionId, size === PHONE ? { hasTouch: true, isMobile: true } : {});
  await screen.until(() => Boolean(window.stage.song?.chart));
  await screen.eval(() => window.stage.setView({ size: 40 }));
  if (leads) {
    await leader.handOver(await screen.eval(() => window.bandsync.id));
    await screen.until(() => window.bandsync.isLeader);
    await screen.eval(async () => {
      await window.bandsync.loop(0, 80);
      await window.bandsync.play();
    });
  } else {
    await leader.loop(0, 80);
    await leader.play();
  }
  if (throttle > 1) await screen.cdp.send("Emulation.setCPUThrottlingRate", { rate: throttle });
  await screen.until(() => window.bandsync.isPlaying && window.bandsync.beat().songBeat > 2);
  await screen.shifts();
  const before = await metrics(screen);
  const times = await screen.eval((ms) => new Promise((done) => {
    const list = [];
    const end = performance.now() + ms;
    const draw = (at) => {
      list.push(at);
      if (at < end) requestAnimationFrame(draw);
      else done(list);
    };
    requestAnimationFrame(draw);
  }), SECONDS * 1000);
  const after = await metrics(screen);
  const seconds = (times.at(-1) - times[0]) / 1000;
  const apart = times.slice(1).map((at, i) => at - times[i]).sort((a, b) => a - b);
  const took = (name) => after[name] - before[name];
  const found = {
    fps: apart.length / seconds,
    p99: quantile(apart, 0.99),
    busy: took("TaskDuration") / seconds,
    parts: ["Script", "RecalcStyle", "Layout"].map((name) => `${name.replace("Recalc", "").toLowerCase()} ${((100 * took(`${name}Duration`)) / seconds).toFixed(1)}`),
    layouts: took("LayoutCount") / times.length,
    shifts: (await screen.shifts()).reduce((sum, { value }) => sum + value, 0),
  };
  leader.leave();
  await screen.close();
  const { fps, p99, busy, parts, layouts, shifts } = found;
  if (throttle === 1) {
    row(`${kind}: main thread busy`, "≤ 10 %", `${(100 * busy).toFixed(1)} % (${parts.join(", ")})`, busy <= 0.1);
    row(`${kind}: frames with a layout`, "≤ 1 %", `${(100 * layouts).toFixed(2)} %`, layouts <= 0.01);
  } else {
    row(`${kind}: frames per second`, "≥ 57", fps.toFixed(1), fps >= 57);
    row(`${kind}: p99 of a frame`, "≤ 34 ms", `${p99.toFixed(1)} ms`, p99 <= 34);
  }
  row(`${kind}: layout shift`, "0", shifts.toFixed(4), shifts === 0);
}

async function cues() {
  const leader = await band([VAN]);
  const session = leader.sessionId;
  const [ada, ben] = [await open("Ada", TABLET, session), await open("Ben", PHONE, session)];
  const wall = await open("screen", { width: 1280, height: 720 }, session, { search: "&view=screen" });
  await leader.handOver(await ada.eval(() => window.bandsync.id));
  await ada.until(() => window.bandsync.isLeader);
  await ada.eval(() => window.bandsync.play());
  await ada.eval(() => window.stage.call("cues"));
  const took = [];
  for (let i = 0; i < CUES; i += 1) {
    for (const one of [ada, ben, wall]) await one.eval(watchCue);
    await ada.tap("cue-stop");
    for (const one of [ada, ben, wall]) await one.until(() => window.cueSeen.drawn !== null);
    const pressed = await ada.eval(() => window.cueSeen.pressed);
    for (const one of [ada, ben, wall]) {
      took.push((await one.eval(() => window.cueSeen.drawn)) - pressed);
      await one.eval(() => document.querySelector(".cue-hide").click());
    }
  }
  took.sort((a, b) => a - b);
  const most = took.at(-1);
  row("a cue, from the press to three screens", "≤ 100 ms", `${Math.round(middle(took))} ms, at most ${Math.round(most)} ms`, most <= 100);
  leader.leave();
  for (const one of [ada, ben, wall]) await one.close();
}

try {
  await loading();
  await opening();
  await play("tablet that leads", TABLET, { leads: true });
  await play("phone that follows", PHONE);
  await play(`phone, ${SLOWDOWN} × throttled`, PHONE, { throttle: SLOWDOWN });
  await cues();
  const widths = [0, 1, 2].map((i) => Math.max(...rows.map((cells) => cells[i].length)));
  console.log([["figure", "wanted", "measured", "met"], ...rows].map((cells) => cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd()).join("\n"));
} finally {
  for (const screen of screens) await screen.close().catch(() => {});
  await browser.close();
  await server.stop();
}
