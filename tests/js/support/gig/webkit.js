// A screen in WebKitGTK's MiniBrowser, through its WebDriver: plain HTTP.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leashed } from "../leash.js";
import { PATIENCE_MS, within } from "../wait.js";
import { KEYS, middleOf, pathOf } from "./bidi.js";
import { Screen, pause } from "./screen.js";

export const webkitPath = () => process.env.WEBKIT_DRIVER ?? pathOf(["WebKitWebDriver"]);

const freePort = () => new Promise((done, fail) => {
  const server = createServer().once("error", fail).listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});

/** MiniBrowser on an X server of its own, because it has no headless mode. A driver has one session, so each screen has one. */
export class WebKit {
  #children = [];
  #home;
  #env;

  static async start() {
    const webkit = new WebKit();
    webkit.#home = mkdtempSync(join(tmpdir(), "bandsync-webkit-"));
    try {
      const DISPLAY = await webkit.#display();
      webkit.#env = {
        ...process.env, DISPLAY, HOME: webkit.#home, XDG_RUNTIME_DIR: webkit.#home, GDK_BACKEND: "x11", LIBGL_ALWAYS_SOFTWARE: "1", NO_AT_BRIDGE: "1",
        // As root there is no sandbox.
        ...(process.getuid() === 0 && { WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1" }),
      };
    } catch (error) {
      await webkit.close();
      throw error;
    }
    return webkit;
  }

  /** Starts a driver, and returns its address. */
  async #driver() {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    this.#children.push(spawn(...leashed(webkitPath(), [`--port=${port}`]), { env: this.#env, stdio: "ignore" }));
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        await fetch(`${url}/status`);
        return url;
      } catch (error) {
        if (performance.now() > end) throw error;
        await pause(50);
      }
    }
  }

  /** Starts an X server that draws nowhere, and returns its name. */
  async #display() {
    const child = spawn(...leashed("Xvfb", ["-displayfd", "3", "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]), { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    this.#children.push(child);
    const number = new Promise((done, fail) => {
      child.once("error", fail);
      child.stdio[3].setEncoding("utf8").once("data", (text) => done(text.trim()));
    });
    return `:${await within(PATIENCE_MS, number, "Xvfb starts")}`;
  }

  async screen(name, { size }) {
    const url = await this.#driver();
    const options = { binary: miniBrowser(), args: ["--automation"] };
    const { sessionId } = await send("POST", `${url}/session`, { capabilities: { alwaysMatch: { "webkitgtk:browserOptions": options } } });
    const screen = new WebKitScreen(`${url}/session/${sessionId}`, name);
    await screen.send("POST", "/timeouts", { script: 3 * PATIENCE_MS, pageLoad: 3 * PATIENCE_MS });
    await screen.resize(size);
    return screen;
  }

  async close() {
    for (const child of this.#children.reverse()) {
      const gone = new Promise((done) => (child.exitCode === null && child.signalCode === null ? child.once("close", done) : done()));
      child.kill("SIGTERM");
      const force = setTimeout(() => child.kill("SIGKILL"), 3000);
      await gone;
      clearTimeout(force);
    }
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function send(method, url, body) {
  const answer = await fetch(url, { method, ...(body && { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }) });
  const { value } = await answer.json();
  if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
  return value;
}

/** MiniBrowser is in a folder of the library, which has the version of its interface in its name. */
function miniBrowser() {
  const folders = readdirSync("/usr/lib", { withFileTypes: true }).filter((one) => one.isDirectory()).map(({ name }) => `/usr/lib/${name}`);
  for (const folder of ["/usr/libexec", "/usr/lib", ...folders]) {
    const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith("webkit2gtk-")) : [];
    const found = names.sort().reverse().map((name) => join(folder, name, "MiniBrowser")).find((path) => existsSync(path));
    if (found) return found;
  }
  throw new Error("no MiniBrowser found");
}

export class WebKitScreen extends Screen {
  browser = "WebKitGTK";
  #url;

  /** @param {string} url address of the driver's session */
  constructor(url, name) {
    super(name);
    this.#url = url;
  }

  send(method, path, body) {
    return send(method, this.#url + path, body);
  }

  async open(url) {
    await this.send("POST", "/url", { url });
    await this.#watch();
  }

  async reload() {
    await this.send("POST", "/refresh", {});
    await this.#watch();
  }

  /** Errors of the page from now on: this driver reports none itself. */
  #watch() {
    return this.eval(() => {
      window.complaints = [];
      addEventListener("error", ({ message, filename, lineno }) => window.complaints.push(`${message} ${filename}:${lineno}`));
      addEventListener("unhandledrejection", ({ reason }) => window.complaints.push(`rejected: ${reason?.stack ?? reason}`));
      const { error } = console;
      console.error = (...words) => {
        window.complaints.push(words.join(" "));
        error(...words);
      };
    });
  }

  async eval(fn, arg) {
    const script = `const done = arguments[arguments.length - 1]; const given = arguments[0];
      (async () => (${fn})(given === "" ? undefined : JSON.parse(given)))()
        .then((value) => done(JSON.stringify({ value })), (error) => done(JSON.stringify({ error: String(error.stack ?? error) })));`;
    const text = await this.send("POST", "/execute/async", { script, args: [arg === undefined ? "" : JSON.stringify(arg)] });
    const { value, error } = JSON.parse(text);
    if (error) throw new Error(`${this.name}: ${error}`);
    return value;
  }

  press(key) {
    const value = KEYS[key] ?? key;
    const actions = [{ type: "keyDown", value }, { type: "keyUp", value }];
    return this.send("POST", "/actions", { actions: [{ type: "key", id: "keys", actions }] });
  }

  async click(selector) {
    const end = performance.now() + PATIENCE_MS;
    let last = null;
    for (;;) {
      // What still moves is not where it will be.
      const at = await this.eval(middleOf, selector);
      if (at && at.x === last?.x && at.y === last.y) return this.clickAt(at.x, at.y);
      last = at;
      if (performance.now() > end) throw new Error(`${this.name}: nothing to press at ${selector}`);
      await pause(50);
    }
  }

  clickAt(x, y) {
    const actions = [{ type: "pointerMove", duration: 0, x, y }, { type: "pause", duration: 50 }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
    return this.send("POST", "/actions", { actions: [{ type: "pointer", id: "mouse", parameters: { pointerType: "mouse" }, actions }] });
  }

  /** Resizes the window, so that the page has this size where the screen allows it. */
  async resize({ width, height }) {
    await this.send("POST", "/window/rect", { width, height });
  }

  async quietly() {
    this.complaints.push(...(await this.eval(() => window.complaints?.splice(0) ?? [])).map((text) => `${this.name}: ${text}`));
  }

  close() {
    return this.send("DELETE", "");
  }
}
