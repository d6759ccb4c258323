// Measures the song room in Chromium, and prints a report. It asserts nothing: numbers depend on the machine.
//
//   node support/song/measure.js [seconds]
import { launchBrowser } from "../browser.js";
import { serveSong } from "./serve.js";

const SECONDS = Number(process.argv[2] ?? 20);
const LINES = 300;

const WORDS = ["[G]Load the last amp in the [D]rain,", "[Em]one more town with a [Cmaj7]borrowed name,", "[G]strings gone [D/F#]dull and the heater dead,", "still got the count-in going round my head."];

function longSong() {
  let text = "{title: Long}\n{key: G}\n{tempo: 120}\n";
  for (let i = 0; i < LINES / 4; i += 1) text += `{start_of_verse: Verse ${i + 1}}\n${WORDS.join("\n")}\n{end_of_verse}\n`;
  return text;
}

async function open(browser, url, throttle) {
  const page = await (await browser.newContext({ viewport: { width: 1180, height: 712 } })).newPage();
  page.on("pageerror", (error) => console.log("error:", error.message));
  const cdp = await page.context().newCDPSession(page);
  // CPU time of the thread: other processes of the machine do not count.
  await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
  await page.goto(url);
  await page.waitForFunction(() => window.ready);
  if (throttle > 1) await cdp.send("Emulation.setCPUThrottlingRate", { rate: throttle });
  return { page, cdp };
}

async function metrics(cdp) {
  const { metrics: list } = await cdp.send("Performance.getMetrics");
  return Object.fromEntries(list.map(({ name, value }) => [name, value]));
}

/** Milliseconds to draw a song of 300 lines, and to change what is drawn. */
async function opening(browser, url) {
  const { page, cdp } = await open(browser, url, 1);
  await page.evaluate(async (body) => {
    const { parseChart } = await import("/chart/chordpro.js");
    const { songMap } = await import("/chart/map.js");
    const chart = parseChart(body);
    const map = songMap(chart);
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const load = (id) => {
      window.stage.song = { id, title: "Long", body, chart, map };
      window.stage.tell("song");
      return frame();
    };
    const change = (view) => {
      window.stage.setView(view);
      return frame();
    };
    Object.assign(window, { load, change });
  }, longSong());
  const steps = {
    first: () => window.load("a"),
    again: () => window.load("b"),
    size: () => window.change({ size: 30 }),
    key: () => window.change({ perSong: { b: { shift: 2 } } }),
    column: () => window.change({ columns: 1, size: null }),
    "one column": () => window.load("c"),
  };
  for (const [name, step] of Object.entries(steps)) {
    const before = await metrics(cdp);
    await page.evaluate(step);
    const after = await metrics(cdp);
    const ms = (key) => Math.round(1000 * (after[key] - before[key]));
    console.log(`${LINES} lines, ${name}: ${ms("TaskDuration")} ms of CPU (script ${ms("ScriptDuration")}, style ${ms("RecalcStyleDuration")}, ` +
      `layout ${ms("LayoutDuration")} in ${after.LayoutCount - before.LayoutCount})`);
  }
  await page.context().close();
}

async function playing(browser, url, throttle) {
  const { page, cdp } = await open(browser, url, throttle);
  await page.evaluate((body) => {
    window.stage.load(body);
    window.stage.at(0, { playing: true });
  }, longSong());
  await page.waitForTimeout(1500);
  const events = [];
  const session = await browser.newBrowserCDPSession();
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  await session.send("Tracing.start", { categories: "devtools.timeline,disabled-by-default-devtools.timeline", transferMode: "ReportEvents" });
  const before = await metrics(cdp);
  const frames = await page.evaluate((ms) => new Promise((done) => {
    const times = [];
    const end = performance.now() + ms;
    const draw = (at) => {
      times.push(at);
      if (performance.now() < end) requestAnimationFrame(draw);
      else done(times);
    };
    requestAnimationFrame(draw);
  }), SECONDS * 1000);
  const after = await metrics(cdp);
  const ended = new Promise((done) => session.once("Tracing.tracingComplete", done));
  await session.send("Tracing.end");
  await ended;
  const lengths = frames.slice(1).map((at, i) => at - frames[i]).sort((a, b) => a - b);
  const took = (name) => after[name] - before[name];
  const seconds = SECONDS;
  const percent = (x) => `${((100 * x) / seconds).toFixed(1)} %`;
  const styles = events.filter(({ name }) => name === "UpdateLayoutTree");
  const failed = events.filter(({ name, args }) => name === "Animation" && args?.data?.compositeFailed);
  const reasons = [...new Set(failed.map(({ args }) => `${args.data.compositeFailed}/${args.data.unsupportedProperties ?? ""}`))];
  const layouts = events.filter(({ name }) => name === "Layout").length;
  console.log(
    `${throttle} x throttled, ${SECONDS} s: ${(frames.length / seconds).toFixed(1)} fps, p95 ${lengths.at(Math.floor(lengths.length * 0.95)).toFixed(1)} ms, ` +
      `p99 ${lengths.at(Math.floor(lengths.length * 0.99)).toFixed(1)} ms; busy ${percent(took("TaskDuration"))} ` +
      `(script ${percent(took("ScriptDuration"))}, style ${percent(took("RecalcStyleDuration"))}, layout ${percent(took("LayoutDuration"))}); ` +
      `layouts ${took("LayoutCount")} in ${frames.length} frames (${((100 * took("LayoutCount")) / frames.length).toFixed(2)} %), traced ${layouts}; ` +
      `style updates ${styles.length}, elements ${styles.reduce((sum, { args }) => sum + (args?.elementCount ?? 0), 0)}; animations not composited: ${failed.length} ${reasons}`,
  );
  await page.context().close();
}

const server = await serveSong();
const browser = await launchBrowser();
try {
  await opening(browser, server.url);
  await playing(browser, server.url, 1);
  await playing(browser, server.url, 4);
} finally {
  await browser.close();
  await server.stop();
}
