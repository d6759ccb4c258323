// Starts the installed Chromium without a window. Nothing is downloaded.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { target } from "./paths.js";

const PICTURES = target("browser");

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

function executable() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of NAMES) {
    try {
      return execFileSync("which", [name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    } catch {
      // Not installed: try the next name.
    }
  }
  throw new Error(`no browser found: install one of ${NAMES.join(", ")}, or name it in CHROMIUM`);
}

/** Starts the browser. `args` are further options of its command line. */
export function launchBrowser({ args = [] } = {}) {
  return chromium.launch({
    executablePath: executable(),
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
}

/** Saves a screenshot of each page to `browser` in cargo's folder. */
export async function picture(name, pages) {
  mkdirSync(PICTURES, { recursive: true });
  const file = (i) => `${PICTURES}/${name.replace(/\W+/g, "-")}-${i}.png`;
  await Promise.all(pages.map((page, i) => page.screenshot({ path: file(i), timeout: 5000 }).catch(() => {})));
}
