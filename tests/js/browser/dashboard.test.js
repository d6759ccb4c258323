// The dashboard in a real browser, with bands that play. Also takes the picture of the README: with
// `BANDSYNC_PICTURES=1` it is saved in the repository, otherwise in `browser` of cargo's folder.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { launchBrowser, picture } from "../support/browser.js";
import { emit, freshSession, join } from "../support/client.js";
import { faults } from "../support/gig/axe.js";
import { Nodes } from "../support/nodes.js";
import { TOP, target } from "../support/paths.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";

const PICTURE = process.env.BANDSYNC_PICTURES ? `${TOP}tests/pictures` : target("browser");
// Guessed: enough for visible lines in the picture.
const PICTURE_MS = 20_000;

let server;
let browser;
let leaders;

before(async () => {
  server = await startServer({ env: { SHARDS: "2", HEARTBEAT_INTERVAL: "250", METRICS_INTERVAL: "1000" } });
  browser = await launchBrowser();
  leaders = [];
  for (const [name, members] of [["Friday rehearsal", 8], ["Wedding band", 5], ["Ceilidh", 3]]) {
    leaders.push(await playing(name, members));
  }
});
after(async () => {
  await browser?.close();
  await server.stop();
});

const NAMES = ["Ada", "Bo", "Cy", "Dana", "Eli", "Fay", "Gus", "Hana"];

/** Starts a band that plays. Its members answer pings as late as over Wi-Fi. */
async function playing(name, members) {
  const sessionId = name.toLowerCase().replace(/\W/g, "-");
  const all = [];
  for (const displayName of NAMES.slice(0, members)) {
    const socket = await join(server, sessionId, { displayName });
    const away = 2 + 3 * all.length;
    socket.on("ping", (ping) => setTimeout(() => socket.emit("pong", { timestamp: ping?.timestamp }), away));
    all.push(socket);
  }
  assertDone(await emit(all[0], "play", { sessionId }));
  return { sessionId, leader: all[0], all };
}

async function open(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1240 }, colorScheme: "dark", ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  await page.goto(`${server.url}/dashboard`);
  await page.locator("#tiles .tile").first().waitFor();
  return page;
}

const tile = async (page, label) => {
  const found = page.locator(".tile", { hasText: label });
  return Number.parseFloat(await found.locator("dd").innerText());
};

/** Counts the pixels of a plot that have the colour of its first line. */
const lines = (page, n) =>
  page.locator(".plot canvas").nth(n).evaluate((canvas) => {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(canvas.closest(".plot").querySelector(".line-1")).getPropertyValue("--line");
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] > 200 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 30) found += 1;
    }
    return found;
  });

async function until(what, holds) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.fail(`did not happen within 20 s: ${what}`);
}

describe("the dashboard", () => {
  test("shows sessions, their members, the tempo, and the round trip to each member", async () => {
    const page = await open();
    try {
      await until("all members are counted", async () => (await tile(page, "members")) === 16);
      assert.equal(await tile(page, "sessions"), 3);
      await until("messages are counted", async () => (await tile(page, "messages out")) > 300);
      await until("all sessions are listed", async () => (await page.locator(".session").count()) === 3);
      const first = page.locator(".session").first();
      assert.match(await first.innerText(), /friday-rehearsal/);
      const measured = first.locator('.quality[data-quality]:not([data-quality="unknown"])');
      await until("a round trip is shown", async () => (await measured.count()) > 0);
      assert.equal(await first.locator(".role", { hasText: "leads" }).count(), 1);
      assert.equal(await page.locator("#plots canvas").count(), 6);
      // In the other plots the first line may be on the axis, such as a lateness of microseconds.
      for (const plot of [0, 1, 4, 5]) {
        await until(`a line in plot ${plot}`, async () => (await lines(page, plot)) > 20);
      }
      assert.equal(await page.locator("#shards tr").count(), 2);
      if (process.env.BANDSYNC_PICTURES) await page.waitForTimeout(PICTURE_MS);
      mkdirSync(PICTURE, { recursive: true });
      await page.screenshot({ path: `${PICTURE}/dashboard.png` });
      assert.deepEqual(page.complaints, []);
    } catch (error) {
      await picture("dashboard", [page]);
      throw error;
    } finally {
      await page.context().close();
    }
  });

  test("fits on a phone with a light colour scheme", async () => {
    const page = await open({ viewport: { width: 390, height: 844 }, colorScheme: "light", deviceScaleFactor: 2 });
    await until("all sessions are listed", async () => (await page.locator(".session").count()) === 3);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `the page is ${wide} px too wide`);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.ok(ground.match(/\d+/g).every((part) => Number(part) > 200), ground);
    mkdirSync(target("browser"), { recursive: true });
    await page.screenshot({ path: target("browser", "dashboard-phone.png"), fullPage: true });
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("clips no axis and no column at 1024 px, and has no barrier in either colour scheme", async () => {
    for (const colorScheme of ["dark", "light"]) {
      const page = await open({ viewport: { width: 1024, height: 768 }, colorScheme });
      await until("all sessions are listed", async () => (await page.locator(".session").count()) === 3);
      const clipped = await page.evaluate(() => {
        const wide = [...document.querySelectorAll(".scroll, .card, .tile, .plot")].filter((one) => one.scrollWidth > one.clientWidth + 1);
        return wide.map((one) => `${one.className}: ${one.scrollWidth} in ${one.clientWidth} px`);
      });
      assert.deepEqual(clipped, []);
      // The longest number of an axis is as wide as the place that is kept for it.
      const axes = await page.evaluate(async () => {
        const { Plot } = await import("/dashboard-plot.js");
        const box = document.body.appendChild(document.createElement("div"));
        const plot = new Plot(box, { title: "A test", unit: "ms", lines: ["one"] });
        plot.show([0, 1000], [[1000, 12345]]);
        const pen = plot.canvas.getContext("2d");
        const needed = pen.measureText("15 k ms").width;
        const { side } = plot.canvas.dataset;
        const first = pen.getImageData(0, 0, 1, plot.canvas.height).data.some((value) => value !== 0);
        box.remove();
        return { side: Number(side), needed, first };
      });
      assert.ok(axes.side > axes.needed && !axes.first, JSON.stringify(axes));
      assert.deepEqual(await faults(page), []);
      await page.screenshot({ path: target("browser", `dashboard-1024-${colorScheme}.png`), fullPage: true });
      await page.context().close();
    }
  });

  test("says in words what is wrong and what to do", async () => {
    const context = await browser.newContext({ viewport: { width: 1024, height: 768 } });
    // Without a band nothing is late, however busy the machine is.
    const idle = await startServer();
    const well = await context.newPage();
    await well.goto(`${idle.url}/dashboard`);
    await well.locator("#verdict", { hasText: "Everything works" }).waitFor();
    assert.equal(await well.locator("#alerts li").count(), 0);
    await idle.stop();
    // /dev/null is not a directory, so nothing can be stored.
    const degraded = await startServer({ env: { STORAGE: "file", DATA_DIR: "/dev/null" } });
    const sick = await context.newPage();
    await sick.goto(`${degraded.url}/dashboard`);
    const problem = sick.locator('#alerts li[data-name="storage"]');
    await problem.waitFor();
    const text = await problem.innerText();
    assert.match(text, /^The storage is unavailable\. \(for \d+ s\)/);
    assert.match(text, /The band plays on, but a restart loses changes\./);
    assert.match(text, /What to do: The/);
    assert.match(text, /The storage says: .*dev.null/);
    assert.match(await sick.locator("#verdict").innerText(), /look into this/);
    assert.match(await sick.locator("#status").innerText(), /degraded: 1 problem/);
    assert.deepEqual(await faults(sick), []);
    await sick.screenshot({ path: target("browser", "dashboard-degraded.png") });
    await context.close();
    await degraded.stop();
  });

  test("shows the nodes of a cluster, this node's part, and the owner of each session", async () => {
    const nodes = await Nodes.start(2);
    const context = await browser.newContext({ viewport: { width: 1024, height: 768 } });
    try {
      const sessionId = freshSession("shared");
      for (const node of nodes.all) await join(node, sessionId);
      const page = await context.newPage();
      await page.goto(`${nodes.all[1].url}/dashboard`);
      const rows = page.locator("#nodes tr");
      await until("both nodes are listed", async () => (await rows.count()) === 2);
      const texts = await rows.allInnerTexts();
      assert.match(texts.find((text) => text.startsWith("node-0")), /lives/);
      assert.match(texts.find((text) => text.startsWith("node-1")), /full, this node/);
      await until("the branch is counted", async () => /1 branches of others/.test(await page.locator("#cluster-facts").innerText()));
      await until("the owner is named", async () => (await page.locator(".session", { hasText: "owned by node-0" }).count()) === 1);
      assert.deepEqual(await faults(page), []);
      await page.screenshot({ path: target("browser", "dashboard-nodes.png"), fullPage: true });
      await page.goto(`${server.url}/dashboard`);
      await page.locator("#tiles .tile").first().waitFor();
      assert.equal(await page.locator("#cluster").isVisible(), false, "a server alone has no nodes");
    } finally {
      await context.close();
      await nodes.stop();
    }
  });

  test("shows the history on request", async () => {
    const page = await open();
    await page.getByRole("button", { name: "1 h" }).click();
    await until("a line of the history is drawn", async () => (await lines(page, 0)) > 20);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("shows names as text, even if they contain markup", async () => {
    const page = await open();
    const sessionId = freshSession("markup");
    await join(server, sessionId, { displayName: "<img src=x onerror=alert(1)>" });
    const name = page.locator(".member .name", { hasText: "<img" });
    await until("the name is shown", async () => (await name.count()) === 1);
    assert.equal(await page.locator("#sessions img").count(), 0);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("marks its numbers as old while the server does not answer", async () => {
    const first = await startServer();
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${first.url}/dashboard`);
    await page.locator("#tiles .tile").first().waitFor();
    assert.equal(await page.locator("#lost").isVisible(), false);
    assert.match(await page.locator("#storage").innerText(), /^storage: file, healthy$/);
    await page.locator("#queues tr td:first-child").first().waitFor();
    assert.deepEqual(await page.locator("#queues tr td:first-child").allInnerTexts(), ["mailbox", "log", "storage"]);
    await first.stop();
    await until("the page says that the server does not answer", async () => /does not answer since .*from then/.test(await page.locator("#lost").innerText()));
    assert.match(await page.title(), /^\(no answer\)/);
    const second = await startServer({ env: { PORT: String(first.port) } });
    await until("the page has new numbers", async () => !(await page.locator("#lost").isVisible()));
    assert.equal(await page.locator(".stale").count(), 0);
    await context.close();
    await second.stop();
  });

  test("asks for the token behind a proxy, and opens with it", async () => {
    const secret = "a-token-for-this-test";
    const closed = await startServer({ env: { ADMIN_TOKEN: secret } });
    const context = await browser.newContext({ extraHTTPHeaders: { "X-Forwarded-For": "192.0.2.7" } });
    const page = await context.newPage();
    await page.goto(`${closed.url}/dashboard`);
    await page.locator("#token").fill("not-the-right-token");
    await page.getByRole("button", { name: "Open" }).click();
    await until("the wrong token is rejected", async () => /Wrong token/.test(await page.locator("#gate-why").innerText()));
    await page.locator("#token").fill(secret);
    await page.getByRole("button", { name: "Open" }).click();
    await page.locator("#tiles .tile").first().waitFor();
    assert.equal(await page.locator("#gate").isVisible(), false);
    await context.close();
    await closed.stop();
  });
});
