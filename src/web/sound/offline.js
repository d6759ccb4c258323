// Installs the page, so that it opens without the server. Browsers allow that only over HTTPS and on localhost.

/** Time after a visit at which files are fetched for later, when the page is no longer busy. Guessed. */
const LATER_MS = 3000;

/**
 * The event `state` reports each change of `state`:
 * - `insecure`: this address is plain HTTP, so the page can't be installed
 * - `missing`: this browser has no service worker (a private window, for example)
 * - `installing`, `ready`
 * - `outdated`: the page came from this device, and the server has a newer one
 * - `failed`
 */
export class Offline extends EventTarget {
  #state = "installing";
  #prompt = null;
  #isAway;
  /** Whether the worker waits for a server that went away. */
  #waits = false;

  /** @param {() => boolean} isAway whether the server can't be reached: browsers log each script that they can't fetch */
  constructor(isAway = () => false) {
    super();
    this.#isAway = isAway;
    const workers = globalThis.navigator?.serviceWorker;
    if (!globalThis.isSecureContext) this.#state = "insecure";
    else if (!workers) this.#state = "missing";
    else this.#install(workers);
  }

  get state() {
    return this.#state;
  }

  /** Whether the browser offers to make an app of the page. */
  get canInstall() {
    return this.#prompt !== null;
  }

  /** Asks the user, as the browser does it. Call it from a press. */
  async install() {
    const prompt = this.#prompt;
    this.#prompt = null;
    await prompt?.prompt();
    this.#tell();
  }

  /** Fetches what is new on the server. Call it when the server is back. */
  refresh() {
    const workers = globalThis.navigator?.serviceWorker;
    if (this.#waits || this.#state === "failed") this.#register(workers);
    else workers?.controller?.postMessage("collect");
  }

  async #install(workers) {
    for (const [rel, href] of [
      ["manifest", "/manifest.webmanifest"],
      ["apple-touch-icon", "/icon.png"],
    ]) {
      if (document.querySelector(`link[rel="${rel}"]`)) continue;
      document.head.append(Object.assign(document.createElement("link"), { rel, href }));
    }
    addEventListener("beforeinstallprompt", (event) => {
      event.preventDefault();
      this.#prompt = event;
      this.#tell();
    });
    workers.addEventListener("message", ({ data }) => {
      if (data === "new version") this.#is("outdated");
    });
    await loaded();
    await this.#register(workers);
  }

  async #register(workers) {
    try {
      // Browsers compare a worker that they have with the server's at each visit.
      const known = await workers.getRegistration();
      this.#waits = !known && this.#isAway();
      if (this.#waits) return;
      const { installing } = known ?? (await workers.register("/sw.js", { updateViaCache: "none" }));
      // A worker that could not collect all files is thrown away.
      installing?.addEventListener("statechange", () => {
        if (installing.state === "redundant" && this.#state === "installing") this.#is("failed");
      });
      await workers.ready;
      if (this.#state !== "outdated") this.#is("ready");
      if (!installing) this.refresh();
    } catch {
      this.#is("failed");
    }
  }

  #is(state) {
    this.#state = state;
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("state"));
  }
}

/** Resolves some seconds after the page was loaded, so that the worker takes nothing from a page that opens. */
async function loaded() {
  if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done, { once: true }));
  await new Promise((done) => setTimeout(done, LATER_MS));
}
