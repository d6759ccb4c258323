// A screen in the installed Chromium, through playwright-core.
import { PATIENCE_MS } from "../wait.js";
import { Screen } from "./screen.js";

/** Lines that the browser itself logs about a connection that the test cut. */
const OF_A_CUT = /WebSocket|ERR_|Failed to load/;

export class ChromiumScreen extends Screen {
  /** Whether the network of this screen is cut at times. */
  isCut = false;
  /** Connections of this page so far, and what it received over them. */
  sockets = 0;
  received = [];
  /** Heartbeats that this page has answered. */
  pongs = 0;

  /** @param {import("playwright-core").Browser} browser */
  static async make(browser, name, { size, origin, ...options }) {
    const screen = new ChromiumScreen(name);
    screen.context = await browser.newContext({ viewport: size, acceptDownloads: true, ...options });
    screen.page = await screen.context.newPage();
    const { page } = screen;
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => screen.complaints.push(`${name}: ${error.stack ?? error.message}`));
    page.on("console", (message) => {
      const isNews = message.type() === "error" || message.type() === "warning";
      const place = message.location();
      if (isNews && !(screen.isCut && OF_A_CUT.test(message.text()))) screen.complaints.push(`${name}: ${message.text()} ${place.url}:${place.lineNumber}`);
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${origin}/`) && !/^(data|blob):/.test(url)) screen.foreign.push(`${name}: ${url}`);
    });
    page.on("websocket", (socket) => {
      screen.sockets += 1;
      if (!socket.url().startsWith(origin.replace("http", "ws"))) screen.foreign.push(`${name}: ${socket.url()}`);
      socket.on("framereceived", ({ payload }) => screen.received.push(String(payload)));
      socket.on("framesent", ({ payload }) => {
        if (payload === "3") screen.pongs += 1;
      });
    });
    return screen;
  }

  open(url) {
    return this.page.goto(url);
  }

  reload() {
    return this.page.reload();
  }

  eval(fn, arg) {
    return this.page.evaluate(fn, arg);
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  click(selector, options) {
    return this.page.locator(selector).filter({ visible: true }).first().click(options);
  }

  type(text) {
    return this.page.keyboard.insertText(text);
  }

  resize(size) {
    return this.page.setViewportSize(size);
  }

  close() {
    return this.context.close();
  }
}
