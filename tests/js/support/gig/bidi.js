// A screen in the distribution's Firefox, through WebDriver BiDi over a WebSocket of our own: no download, no driver.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { leashed } from "../leash.js";
import { PATIENCE_MS, deferred, within } from "../wait.js";
import { Screen } from "./screen.js";

const NAMES = ["firefox-esr", "firefox"];
/** A new profile asks the network for nothing, and lets a page sound. */
const PREFERENCES = {
  "app.normandy.enabled": false,
  "app.update.disabledForTesting": true,
  "browser.aboutwelcome.enabled": false,
  "browser.safebrowsing.downloads.enabled": false,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.getAddons.cache.enabled": false,
  "media.autoplay.default": 0,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "remote.active-protocols": 1,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
};

/** Path of a program of these names; null if there is none. */
export function pathOf(names) {
  for (const name of names) {
    try {
      return execFileSync("which", [name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    } catch {
      // Not installed: try the next name.
    }
  }
  return null;
}

export const firefoxPath = () => process.env.FIREFOX ?? pathOf(NAMES);

/** One Firefox without a window. */
export class Firefox {
  #child;
  #ws;
  #waiting = new Map();
  #last = 0;
  #profile;
  #listeners = new Set();

  static async start() {
    const firefox = new Firefox();
    firefox.#profile = mkdtempSync(join(tmpdir(), "bandsync-firefox-"));
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
    writeFileSync(join(firefox.#profile, "user.js"), lines.join(""));
    const args = ["--headless", "--no-remote", "--profile", firefox.#profile, "--remote-debugging-port", "0", "about:blank"];
    const child = spawn(...leashed(firefoxPath(), args), {
      env: { ...process.env, HOME: firefox.#profile, MOZ_HEADLESS_WIDTH: "1440", MOZ_HEADLESS_HEIGHT: "900" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    firefox.#child = child;
    let said = "";
    const address = deferred();
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said = (said + text).slice(-20_000);
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said);
      if (found) address.resolve(found[1]);
    });
    child.once("error", address.reject);
    child.once("close", (code) => address.reject(new Error(`Firefox ended with ${code}: ${said}`)));
    try {
      const url = await within(3 * PATIENCE_MS, address.promise, () => `Firefox listens: ${said}`);
      await firefox.#connect(`${url}/session`);
    } catch (error) {
      await firefox.close();
      throw error;
    }
    return firefox;
  }

  async #connect(url) {
    this.#ws = new WebSocket(url, { perMessageDeflate: false });
    const open = deferred();
    this.#ws.on("open", open.resolve);
    this.#ws.on("error", open.reject);
    this.#ws.on("message", (data) => {
      const message = JSON.parse(data);
      if (message.id === undefined) {
        for (const listener of this.#listeners) listener(message);
        return;
      }
      const { resolve, reject } = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.type === "error") reject(new Error(`${message.error}: ${message.message}`));
      else resolve(message.result);
    });
    await within(PATIENCE_MS, open.promise, "the connection to Firefox");
    await this.send("session.new", { capabilities: {} });
    await this.send("session.subscribe", { events: ["log.entryAdded", "network.beforeRequestSent"] });
  }

  /** Sends a command, and resolves with its result. */
  send(method, params = {}) {
    this.#last += 1;
    const id = this.#last;
    const answer = deferred();
    this.#waiting.set(id, answer);
    this.#ws.send(JSON.stringify({ id, method, params }));
    return within(3 * PATIENCE_MS, answer.promise, `Firefox answers ${method}`);
  }

  /** Calls `listener` with every event. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Opens a screen with storage of its own, in a window: a tab behind another one draws seldom. */
  async screen(name, { size, origin }) {
    const { userContext } = await this.send("browser.createUserContext");
    const { context } = await this.send("browsingContext.create", { type: "window", userContext });
    const screen = new FirefoxScreen(this, context, name);
    screen.origin = origin;
    await screen.resize(size);
    this.listen(({ method, params }) => screen.hear(method, params));
    return screen;
  }

  async close() {
    const gone = new Promise((done) => (this.#child.exitCode === null ? this.#child.once("close", done) : done()));
    this.#ws?.terminate();
    this.#child.kill("SIGTERM");
    const force = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await gone;
    clearTimeout(force);
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Values of keys in WebDriver. */
export const KEYS = { Escape: "\uE00C", Enter: "\uE007", Tab: "\uE004", ArrowDown: "\uE015", ArrowUp: "\uE013", PageDown: "\uE00F", PageUp: "\uE00E", " ": " " };

/** Runs in a page: the middle of the element that a press on the selector hits, or null while it is covered. */
export function middleOf(selector) {
  const el = [...document.querySelectorAll(selector)].find((one) => one.getClientRects().length > 0);
  if (!el) return null;
  el.scrollIntoView({ block: "nearest", inline: "nearest" });
  const { left, top, width, height } = el.getBoundingClientRect();
  const [x, y] = [Math.round(left + width / 2), Math.round(top + height / 2)];
  const hit = document.elementFromPoint(x, y);
  return hit && (el.contains(hit) || hit.contains(el)) ? { x, y } : null;
}

export class FirefoxScreen extends Screen {
  browser = "Firefox";
  #firefox;
  #context;

  constructor(firefox, context, name) {
    super(name);
    this.#firefox = firefox;
    this.#context = context;
  }

  hear(method, params) {
    if (method === "log.entryAdded" && params.source?.context === this.#context && params.level === "error") {
      if (!(this.isCut && /WebSocket|connection/.test(params.text))) this.complaints.push(`${this.name}: ${params.text} ${JSON.stringify(params.stackTrace?.callFrames?.[0] ?? "")}`);
    }
    if (method === "network.beforeRequestSent" && params.context === this.#context) {
      const { url } = params.request;
      const own = [`${this.origin}/`, `${this.origin.replace("http", "ws")}/`];
      if (!own.some((start) => url.startsWith(start)) && !/^(data|blob|about):/.test(url)) this.foreign.push(`${this.name}: ${url}`);
    }
  }

  open(url) {
    return this.#firefox.send("browsingContext.navigate", { context: this.#context, url, wait: "complete" });
  }

  reload() {
    return this.#firefox.send("browsingContext.reload", { context: this.#context, wait: "complete" });
  }

  async eval(fn, arg) {
    const { type, result, exceptionDetails } = await this.#firefox.send("script.callFunction", {
      functionDeclaration: `async (given) => JSON.stringify({ value: await (${fn})(given === "" ? undefined : JSON.parse(given)) })`,
      arguments: [{ type: "string", value: arg === undefined ? "" : JSON.stringify(arg) }],
      awaitPromise: true,
      target: { context: this.#context },
    });
    if (type === "exception") throw new Error(`${this.name}: ${exceptionDetails.text}`);
    return JSON.parse(result.value).value;
  }

  press(key) {
    const value = KEYS[key] ?? key;
    const actions = [{ type: "keyDown", value }, { type: "keyUp", value }];
    return this.#firefox.send("input.performActions", { context: this.#context, actions: [{ type: "key", id: "keys", actions }] });
  }

  async click(selector) {
    const end = performance.now() + PATIENCE_MS;
    let last = null;
    for (;;) {
      // What still moves is not where it will be.
      const place = await this.eval(middleOf, selector);
      if (place && place.x === last?.x && place.y === last.y) return this.clickAt(place.x, place.y);
      last = place;
      if (performance.now() > end) throw new Error(`${this.name}: nothing to press at ${selector}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  clickAt(x, y) {
    const actions = [{ type: "pointerMove", x, y }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
    return this.#firefox.send("input.performActions", {
      context: this.#context,
      actions: [{ type: "pointer", id: "mouse", parameters: { pointerType: "mouse" }, actions }],
    });
  }

  resize({ width, height }) {
    return this.#firefox.send("browsingContext.setViewport", { context: this.#context, viewport: { width, height } });
  }

  close() {
    return this.#firefox.send("browsingContext.close", { context: this.#context });
  }
}
