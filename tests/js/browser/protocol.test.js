// The page /protocol: documentation made from /asyncapi.json.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { launchBrowser } from "../support/browser.js";
import { faults } from "../support/gig/axe.js";
import { target } from "../support/paths.js";
import { startServer } from "../support/server.js";

let server;
let browser;
before(async () => {
  server = await startServer();
  browser = await launchBrowser();
  mkdirSync(target("browser"), { recursive: true });
});
after(async () => {
  await browser?.close();
  await server.stop();
});

async function open(options, hash = "") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  await page.goto(`${server.url}/protocol${hash}`);
  await page.locator("#types .entry").first().waitFor();
  return page;
}

describe("the protocol's page", () => {
  test("has every event with fields as a table, an example and its rejections", async () => {
    const page = await open();
    const api = await (await fetch(`${server.url}/asyncapi.json`)).json();
    const { messages, schemas } = api.components;
    const count = (kind) => Object.keys(messages).filter((id) => id.endsWith(`.${kind}`)).length;
    assert.equal(await page.locator("#sent .entry").count(), count("sent"));
    assert.equal(await page.locator("#received .entry").count(), count("received"));
    assert.equal(await page.locator("#types .entry").count(), Object.keys(schemas).length);
    const play = page.locator("#event-play");
    const fields = Object.keys(messages["play.sent"].payload.properties);
    assert.deepEqual(await play.locator("table").first().locator("tbody th").allInnerTexts(), fields);
    assert.match(await play.locator("pre").innerText(), /^socket\.emit\("play", \{/);
    for (const code of messages["play.sent"]["x-refusals"]) assert.equal(await play.locator(".codes li", { hasText: new RegExp(`^${code}$`) }).count(), 1, code);
    const broken = await page.evaluate(() => [...document.querySelectorAll("main a[href^='#'], nav a[href^='#']")].filter((link) => !document.getElementById(link.hash.slice(1))).map((link) => link.hash));
    assert.deepEqual(broken, []);
    assert.deepEqual(page.complaints, []);
    await page.screenshot({ path: target("browser", "protocol.png") });
    await page.context().close();
  });

  test("is navigated by address, links and search, by keyboard alone", async () => {
    const page = await open({}, "#event-seek");
    const top = await page.locator("#event-seek").evaluate((one) => one.getBoundingClientRect().top);
    assert.ok(top >= -1 && top < 400, `${top}`);
    await page.locator("#find").focus();
    await page.keyboard.type("LOOP");
    assert.match(await page.locator("#found").innerText(), /^\d+ found$/);
    assert.ok((await page.locator(".entry:visible").count()) < 8);
    await page.keyboard.press("Tab");
    const hash = await page.evaluate(() => document.activeElement.hash);
    assert.equal(hash, "#event-loop");
    await page.keyboard.press("Enter");
    assert.equal(new URL(page.url()).hash, "#event-loop");
    await page.context().close();
  });

  test("has no barrier on a desk and on a phone, in either colour scheme", async () => {
    for (const [width, colorScheme] of [[1280, "dark"], [390, "light"]]) {
      const page = await open({ viewport: { width, height: 844 }, colorScheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `the page is ${wide} px too wide`);
      assert.deepEqual(await faults(page), []);
      await page.screenshot({ path: target("browser", `protocol-${width}.png`) });
      await page.context().close();
    }
  });
});
