// A band of four as its screens show it. Also takes the pictures of the README files: with `BANDSYNC_PICTURES=1` they
// are saved in the repository, otherwise in `browser` of cargo's folder.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { launchBrowser } from "../support/browser.js";
import { TOP, target } from "../support/paths.js";
import { startServer } from "../support/server.js";
import { setlist } from "../support/songs.js";
import { PATIENCE_MS } from "../support/wait.js";

const FOLDER = process.env.BANDSYNC_PICTURES ? `${TOP}tests/pictures` : target("browser");
/** Beat of the pictures: the third line of the chorus begins. */
const BEAT = 64;

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await launchBrowser();
  mkdirSync(FOLDER, { recursive: true });
});
after(async () => {
  await browser?.close();
  await server.stop();
});

async function enter(name, viewport, view) {
  const context = await browser.newContext({ viewport, deviceScaleFactor: viewport.width < 500 ? 2 : 1 });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(`${name}: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && page.complaints.push(`${name}: ${message.text()}`));
  await page.goto(`${server.url}/?session=friday${view ? `&view=${view}` : ""}`);
  if (!view) {
    await page.getByTestId("name").fill(name);
    await page.getByTestId("join").click();
  }
  await page.waitForFunction(() => window.stage.isOpen && window.bandsync.position() !== null);
  return page;
}

async function take(page, name) {
  // Sheets slide in; the song's own animations last as long as it plays.
  await page.evaluate(() => Promise.all(document.querySelector("#sheets")?.getAnimations({ subtree: true }).map(({ finished }) => finished) ?? []));
  await page.screenshot({ path: `${FOLDER}/${name}.png` });
}

/** Waits until the pages show the line that sounds at `BEAT`. */
const shown = (page) =>
  page.waitForFunction((beat) => {
    const current = document.querySelector('[data-testid="line"][aria-current="true"]');
    return current && Number(current.dataset.from) <= beat && beat < Number(current.dataset.to);
  }, BEAT);

test("four screens of a band show the same line, and the editor shows its chart", async () => {
  const leader = await enter("Ada", { width: 1180, height: 820 });
  await leader.evaluate((list) => window.bandsync.setSetlist(list), setlist());
  await leader.evaluate(() => window.bandsync.selectSong("van-at-midnight"));
  const phone = await enter("Bo", { width: 390, height: 844 });
  const laptop = await enter("Cy", { width: 1440, height: 900 });
  const screen = await enter("screen", { width: 1280, height: 720 }, "screen");
  await laptop.evaluate(() => window.stage.setView({ theme: "day", notation: "german" }));
  // Followers see their controls for some seconds.
  await Promise.all([phone, laptop].map((page) => page.waitForFunction(() => !document.getElementById("dock").classList.contains("shown"))));
  await leader.evaluate((beat) => window.bandsync.seekBeat(beat), BEAT);
  // The line sounds for four seconds.
  await leader.evaluate(() => window.bandsync.play());
  await Promise.all([leader, phone, laptop].map(shown));
  await screen.getByText("keep one light").first().waitFor();
  await Promise.all([take(leader, "leader"), take(phone, "follower"), take(laptop, "day"), take(screen, "screen")]);
  await leader.evaluate(() => window.bandsync.stop());
  await leader.getByTestId("songs-open").click();
  await leader.getByTestId("song-row").first().waitFor();
  await take(leader, "songs");
  await leader.locator('[data-testid="song-row"][data-song="harbour"]').getByTestId("song-more").click();
  await leader.getByRole("button", { name: "Edit" }).first().click();
  await leader.getByTestId("chart-preview").getByText("Hold the").first().waitFor();
  assert.match(await leader.getByTestId("chart").inputValue(), /title: Harbour/);
  await take(leader, "editor");
  for (const page of [leader, phone, laptop, screen]) {
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  }
});
