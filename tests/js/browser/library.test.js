// A page of another origin imports the library from the server, as the library's README shows it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join as path } from "node:path";
import { after, before, test } from "node:test";
import { launchBrowser } from "../support/browser.js";
import { emit, join, next } from "../support/client.js";
import { TOP } from "../support/paths.js";
import { startServer } from "../support/server.js";
import { assertDone } from "../support/shape.js";
import { PATIENCE_MS } from "../support/wait.js";

const [, EXAMPLE] = /^```html\n([^]*?)^```$/m.exec(readFileSync(path(TOP, "src/web/README.md"), "utf8"));

let pages;
let origin;
let server;
let browser;
before(async () => {
  pages = createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(EXAMPLE.replaceAll("http://127.0.0.1:3001", server.url));
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  origin = `http://127.0.0.1:${pages.address().port}`;
  server = await startServer({ env: { STORAGE: "memory", CORS_ORIGIN: origin } });
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  pages.close();
  await server.stop();
});

test("a page of another origin imports the library, joins, and receives cues and errors", async () => {
  const leader = await join(server, "rehearsal", { role: "leader" });
  const joined = next(leader, "user_joined", ({ member }) => member.displayName === "Cleo");
  const page = await browser.newPage();
  const lines = [];
  page.on("console", (message) => lines.push(message.text()));
  page.on("pageerror", (error) => lines.push(`${error}`));
  const refused = page.waitForEvent("console", { predicate: (message) => message.text().startsWith("not_leader "), timeout: PATIENCE_MS });
  await page.goto(origin);
  await joined;
  await refused;
  const cue = page.waitForEvent("console", { predicate: (message) => message.text() === "last chorus", timeout: PATIENCE_MS });
  assertDone(await emit(leader, "cue", { sessionId: "rehearsal", text: "last chorus" }));
  await cue;
  assert.ok(lines.includes("the connection is online"), lines.join("\n"));
});
