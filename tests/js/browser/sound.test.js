// The sound room in a browser: clicks of two devices, a device's own delay, the screen that stays on, the invitation,
// and the page without its server.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import jsQR from "jsqr";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { secureFront } from "../support/front.js";
import { startServer } from "../support/server.js";
import { PATIENCE_MS, within } from "../support/wait.js";

/** Two clicks that differ by less are heard as one. Specified. */
const TOGETHER_MS = 2;
/** Error of a calibration with a player that taps exactly. Specified. */
const LINED_UP_MS = 10;
/** A name that is no secure context over plain HTTP, as the address of a server in a rehearsal room is. */
const PLAIN_HOST = "bandsync.local";

let server;
let browser;
let sessionId;
let pages;
let complaints;

before(async () => {
  server = await startServer();
  browser = await launchBrowser({
    args: [`--host-resolver-rules=MAP ${PLAIN_HOST} 127.0.0.1`, "--ignore-certificate-errors"],
  });
});
after(async () => {
  await browser?.close();
  await server.stop();
});

beforeEach(() => {
  sessionId = freshSession("sound");
  pages = [];
  complaints = [];
});
afterEach(() => Promise.all(pages.map((page) => page.context().close())));

/** Defines a test that also fails if a page logs an error. A failure saves a picture of each page. */
function scene(name, play) {
  test(name, async () => {
    try {
      await play();
      assert.deepEqual(complaints, [], "the pages have no errors");
    } catch (error) {
      await picture(`sound ${name}`, pages);
      throw error;
    }
  });
}

/** Opens the page in a context of its own, and joins. */
async function enter(name, { url = server.url, workers = "block", init, argument, bypassCSP = false } = {}) {
  const context = await browser.newContext({
    viewport: { width: 900, height: 700 },
    serviceWorkers: workers,
    bypassCSP,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    // Browsers ignore this header over plain HTTP, and say so.
    const isOurs = message.type() === "error" && !/Cross-Origin-Opener-Policy/.test(message.text());
    if (isOurs) complaints.push(`${name}: ${message.text()}`);
  });
  pages.push(page);
  if (init) await page.addInitScript(init, argument);
  await page.goto(`${url}/?session=${sessionId}`);
  await join(page, name);
  return page;
}

async function join(page, name) {
  await page.getByTestId("name").fill(name);
  await page.getByTestId("join").click();
  await page.getByTestId("stage").waitFor();
  await page.waitForFunction(() => window.bandsync.position() !== null);
}

/** Opens the own-view sheet and switches the click on there, as a musician would. */
async function clickOn(page) {
  await page.evaluate(() => window.stage.call("view"));
  await page.getByTestId("click").click();
  await page.waitForFunction(() => window.stage.sound.output.state === "on" && window.stage.sound.output.map.isChecked);
  await page.evaluate(() => window.stage.closeSheet());
}

const sound = (page, path) =>
  page.evaluate((keys) => keys.split(".").reduce((at, key) => at[key], window.stage.sound), path);

describe("the click", () => {
  /**
   * A worklet between the page and its speaker, which reports the frame of each onset: the first loud sample after 40 ms
   * of silence.
   */
  const RECORDER = `
    registerProcessor("recorder", class extends AudioWorkletProcessor {
      quiet = Infinity;
      process([input]) {
        const [samples] = input;
        for (let i = 0; samples && i < samples.length; i += 1) {
          if (Math.abs(samples[i]) > 0.02) {
            if (this.quiet > 0.04 * sampleRate) this.port.postMessage(currentFrame + i);
            this.quiet = 0;
          } else this.quiet += 1;
        }
        if (!samples) this.quiet += 128;
        return true;
      }
    });`;
  const record = (source) => {
    window.onsets = [];
    const scheduled = [];
    const { start } = AudioBufferSourceNode.prototype;
    const { connect } = AudioNode.prototype;
    /** Difference between the two clocks, in milliseconds, as the browser tells it at this moment. */
    const difference = ({ context }) => {
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      return performanceTime - 1000 * contextTime;
    };
    AudioBufferSourceNode.prototype.start = function noted(at) {
      scheduled.push({ at, difference: difference(this) });
      return start.call(this, at);
    };
    AudioNode.prototype.connect = function tapped(target, ...rest) {
      if (target === this.context.destination && !this.context.recorder) {
        const { context } = this;
        context.recorder = context.audioWorklet.addModule(source).then(() => {
          const recorder = new AudioWorkletNode(context, "recorder");
          recorder.port.onmessage = ({ data }) => {
            const at = data / context.sampleRate;
            const now = difference(recorder);
            const plan = scheduled.findLast((each) => Math.abs(each.at - at) < 0.003);
            window.onsets.push({
              heardAt: performance.timeOrigin + now + 1000 * at,
              slip: Math.abs(now - (plan?.difference ?? NaN)),
            });
          };
          connect.call(this, recorder);
        });
      }
      return connect.call(this, target, ...rest);
    };
  };
  /** The page's policy lets no other script in, so these pages are opened without it. */
  const recorded = { init: record, argument: `data:text/javascript,${encodeURIComponent(RECORDER)}`, bypassCSP: true };

  /**
   * Onsets so far, in milliseconds of the clock that all pages of this machine share. Each is a frame of the page's own
   * audio clock, and the browser tells at that moment when the frame is heard (`getOutputTimestamp`). So this measures all
   * of the page's way from timeline to sample, but not the sound card, of which a machine without speakers has none.
   * A machine that is too busy to fill its audio buffers in time delays all that is in them. Onsets whose audio clock
   * slipped like that after they were scheduled say nothing about the page, and are left out.
   */
  const heard = async (page) => {
    const onsets = await page.evaluate(() => window.onsets);
    return onsets.filter(({ slip }) => slip < 0.5).map(({ heardAt }) => heardAt);
  };

  async function band() {
    const leader = await enter("Ada", recorded);
    const follower = await enter("Bo", recorded);
    for (const page of [leader, follower]) {
      await clickOn(page);
      // The estimates of the server's clock settle within the first bursts of probes.
      await page.waitForFunction(() => window.bandsync.clock.samples >= 20);
    }
    return [leader, follower];
  }

  /** Waits until `least` more clicks were heard by both pages, and checks that they were together. */
  async function assertTogether(one, two, least, since = 0) {
    const deadline = performance.now() + 4 * PATIENCE_MS;
    for (;;) {
      const [a, b] = await Promise.all([heard(one), heard(two)]);
      const apart = a.filter((at) => at > since).map((at) => Math.min(...b.map((other) => Math.abs(other - at))));
      // A page that was held up drops a beat, and then its neighbour is a beat away.
      const pairs = apart.filter((ms) => ms < 60);
      const worst = Math.max(...pairs);
      if (pairs.length > 0) assert.ok(worst <= TOGETHER_MS, `${worst} ms apart: ${apart}`);
      if (pairs.length >= least) return;
      if (performance.now() > deadline) assert.fail(`only ${pairs.length} clicks together: ${apart}`);
      await one.waitForTimeout(500);
    }
  }

  const clock = (page) => page.evaluate(() => performance.timeOrigin + performance.now());

  scene("sounds on two devices within 2 ms, also after a jump and at another tempo", async () => {
    const [leader, follower] = await band();
    await leader.evaluate(() => window.bandsync.play());
    await assertTogether(leader, follower, 6);
    await leader.evaluate(() => window.bandsync.seekBeat(32, { at: "beat" }));
    await leader.evaluate(() => window.bandsync.setTempo(168));
    await assertTogether(leader, follower, 6, await clock(leader));
  });

  scene("stops at once with the band, and a follower that comes later is in time", async () => {
    const leader = await enter("Ada", recorded);
    await clickOn(leader);
    await leader.evaluate(() => window.bandsync.play());
    const follower = await enter("Bo", recorded);
    await clickOn(follower);
    await follower.waitForFunction(() => window.bandsync.clock.samples >= 20);
    await assertTogether(follower, leader, 5, await clock(follower));
    await leader.evaluate(() => window.bandsync.pause());
    for (const page of [leader, follower]) await page.waitForFunction(() => !window.bandsync.isPlaying);
    const stoppedAt = await clock(leader);
    await leader.waitForTimeout(1200);
    for (const page of [leader, follower]) assert.ok((await heard(page)).every((at) => at < stoppedAt + 60));
  });

  scene("is switched by its button and by the key C, and keeps its settings", async () => {
    const page = await enter("Ada");
    await clickOn(page);
    assert.equal(await sound(page, "click.isOn"), true);
    await page.keyboard.press("c");
    await page.waitForFunction(() => !window.stage.sound.click.isOn);
    await page.evaluate(() => window.stage.call("view"));
    await page.getByTestId("sound-wood").click();
    await page.getByTestId("accent-3").click();
    await page.getByTestId("eighths").check();
    await page.getByTestId("click-count-in").check();
    await page.getByTestId("click-offset").fill("120");
    await page.getByTestId("click-volume").fill("35");
    const kept = await page.evaluate(() => JSON.parse(localStorage.getItem("bandsync.view")));
    const { click, sound: name, accent, eighths, offsetMs, volume } = kept;
    assert.deepEqual(
      { click, name, accent, eighths, offsetMs, volume },
      { click: "count-in", name: "wood", accent: 3, eighths: true, offsetMs: 120, volume: 0.35 },
    );
    assert.equal(await page.getByTestId("click").getAttribute("aria-pressed"), "true");
  });

  scene("asks for a tap after a reload, and sounds after it", async () => {
    // This browser lets a reloaded page sound at once. Others lock it until it is touched, as this does.
    const lock = () => {
      if (performance.getEntriesByType("navigation")[0].type !== "reload") return;
      const { resume } = AudioContext.prototype;
      const { get } = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "state");
      let isLocked = true;
      addEventListener("click", () => (isLocked = false), true);
      Object.defineProperty(AudioContext.prototype, "state", {
        get() {
          return isLocked ? "suspended" : get.call(this);
        },
      });
      AudioContext.prototype.resume = function locked() {
        return isLocked ? new Promise(() => {}) : resume.call(this);
      };
      Object.defineProperty(Navigator.prototype, "userActivation", { value: { hasBeenActive: false } });
    };
    const page = await enter("Ada", { init: lock });
    await clickOn(page);
    // The reloaded page returns by itself.
    await page.reload();
    await page.getByTestId("stage").waitFor();
    await page.getByTestId("sound-note").filter({ hasText: "Tap for sound" }).waitFor();
    await page.mouse.click(450, 300);
    await page.getByTestId("sound-note").waitFor({ state: "hidden" });
    await page.waitForFunction(() => window.stage.sound.output.state === "on");
  });

  scene("says that the device gives no sound", async () => {
    const page = await enter("Ada", {
      init: () => {
        AudioContext.prototype.resume = () => new Promise(() => {});
        Object.defineProperty(AudioContext.prototype, "state", { value: "suspended" });
      },
    });
    await page.evaluate(() => window.stage.call("view"));
    await page.getByTestId("click").click();
    await page.getByTestId("sound-status").filter({ hasText: "This device gives no sound." }).waitFor();
  });
});

describe("line up my sound", () => {
  /**
   * A simulated player. It sees a flash a frame after the page drew it, hears a click when the audio clock says so plus
   * the delay of its headphones, and taps 35 ms early by habit.
   */
  const play = async ({ delay, habit, shake }) => {
    const pad = document.querySelector("[data-testid=lineup-pad]");
    const tap = () => pad.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, button: 0 }));
    let turn = 0;
    const sway = () => {
      turn += 1;
      return shake * Math.sin(1.7 * turn);
    };
    let isLit = false;
    await new Promise((done) => {
      const watcher = new MutationObserver(() => {
        const lit = pad.classList.contains("lit");
        if (lit && !isLit) setTimeout(tap, 1000 + 1000 / 60 + habit + sway());
        isLit = lit;
        if (pad.dataset.round === "flash") return;
        watcher.disconnect();
        done();
      });
      watcher.observe(pad, { attributes: true });
    });
    let seen = window.sounds.length;
    await new Promise((done) => {
      const timer = setInterval(() => {
        for (; seen < window.sounds.length; seen += 1) {
          const { at, context } = window.sounds[seen];
          const { contextTime, performanceTime } = context.getOutputTimestamp();
          const heardAt = performanceTime + 1000 * (at - contextTime) + delay;
          setTimeout(tap, heardAt - performance.now() + habit + sway());
        }
        if (pad.dataset.round === "click") return;
        clearInterval(timer);
        done();
      }, 5);
    });
  };
  const listen = () => {
    window.sounds = [];
    const { start } = AudioBufferSourceNode.prototype;
    AudioBufferSourceNode.prototype.start = function heard(at) {
      window.sounds.push({ at, context: this.context });
      return start.call(this, at);
    };
  };

  async function lineUp(player) {
    const page = await enter("Ada", { init: listen });
    await page.evaluate(() => window.stage.call("line-up"));
    await page.getByTestId("lineup-pad").click();
    await page.evaluate(play, player);
    return page;
  }

  scene("finds the delay of headphones within 10 ms, though the player taps early", async () => {
    const page = await lineUp({ delay: 240, habit: -35, shake: 8 });
    const found = await page.evaluate(() => window.stage.view.offsetMs);
    assert.ok(Math.abs(found - 240) <= LINED_UP_MS, `${found} ms`);
    await page
      .getByTestId("lineup-result")
      .filter({ hasText: `${found} ms late` })
      .waitFor();
    assert.equal(await page.getByTestId("lineup-offset").inputValue(), String(found));
  });

  scene("refuses taps that are not steady, and changes nothing", async () => {
    const page = await lineUp({ delay: 100, habit: 0, shake: 90 });
    await page.getByTestId("lineup-result").filter({ hasText: "Not steady, again?" }).waitFor();
    assert.equal(await page.evaluate(() => window.stage.view.offsetMs), 0);
  });
});

describe("the screen", () => {
  scene("stays on by the wake lock in a secure context, without a video, until the member leaves", async () => {
    const page = await enter("Ada");
    await page.waitForFunction(() => window.stage.sound.awake.means === "lock");
    assert.equal(await page.getByTestId("awake-video").count(), 0);
    await page.evaluate(() => window.stage.leave());
    await page.waitForFunction(() => window.stage.sound.awake.state === "off");
  });

  scene("stays on over plain HTTP by a video with sound that is on screen, until the member leaves", async () => {
    const page = await enter("Ada", { url: `http://${PLAIN_HOST}:${server.port}` });
    assert.equal(await page.evaluate(() => window.isSecureContext || "wakeLock" in navigator), false);
    await page.waitForFunction(() => window.stage.sound.awake.means === "video");
    const video = page.getByTestId("awake-video");
    const state = () =>
      video.evaluate((el) => ({
        plays: !el.paused && !el.ended,
        muted: el.muted || el.volume === 0,
        loops: el.loop,
        sound: el.webkitAudioDecodedByteCount,
        picture: el.videoWidth,
        opacity: getComputedStyle(el).opacity,
        visibility: getComputedStyle(el).visibility,
      }));
    await video.evaluate(
      (el) => new Promise((done) => el.addEventListener("timeupdate", () => el.currentTime > 0.3 && done())),
    );
    const { sound: decoded, ...rest } = await state();
    assert.ok(decoded > 0, "a sound track is played");
    assert.deepEqual(rest, {
      plays: true,
      muted: false,
      loops: false,
      picture: 64,
      opacity: "1",
      visibility: "visible",
    });
    const box = await video.boundingBox();
    assert.equal(box.height, 1);
    assert.equal(box.width, 900);
    assert.ok(box.y >= 0 && box.y + box.height <= 700, JSON.stringify(box));
    // Another app that plays pauses it; it goes on.
    await video.evaluate((el) => el.pause());
    await video.evaluate((el) => new Promise((done) => (el.paused ? el.addEventListener("playing", done) : done())));
    // It never ends: it is sent back half way.
    await video.evaluate((el) => (el.currentTime = 14.6));
    await video.evaluate(
      (el) => new Promise((done) => el.addEventListener("timeupdate", () => el.currentTime < 5 && done())),
    );
    await page.evaluate(() => window.stage.call("view"));
    assert.equal(await page.getByTestId("awake").textContent(), "Screen stays on");
    await page.evaluate(() => window.stage.leave());
    await video.waitFor({ state: "detached" });
    assert.equal(await sound(page, "awake.state"), "off");
  });

  scene("may go dark if the video can't play, and says what to do", async () => {
    const page = await enter("Ada", {
      url: `http://${PLAIN_HOST}:${server.port}`,
      init: () => {
        HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("no", "NotAllowedError"));
      },
    });
    await page.evaluate(() => window.stage.call("view"));
    await page.getByTestId("awake").filter({ hasText: "This screen may go dark: set auto-lock to never" }).waitFor();
  });
});

describe("the invitation", () => {
  /** The text in the code on the page, read from its drawing by a decoder of others. */
  async function decoded(page) {
    const { rows, side } = await page.getByTestId("invite-code").evaluate(async (svg) => {
      const side = 400;
      const copy = svg.cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      copy.setAttribute("width", side);
      copy.setAttribute("height", side);
      const image = new Image();
      image.src = `data:image/svg+xml,${encodeURIComponent(copy.outerHTML)}`;
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, side, side);
      pen.drawImage(image, 0, 0);
      const { data } = pen.getImageData(0, 0, side, side);
      let rows = "";
      for (let i = 0; i < data.length; i += 4) rows += data[i] < 128 ? "1" : "0";
      return { rows, side };
    });
    const pixels = new Uint8ClampedArray(4 * side * side).fill(255);
    for (let i = 0; i < rows.length; i += 1) if (rows[i] === "1") pixels.fill(0, 4 * i, 4 * i + 3);
    return (jsQR.default ?? jsQR)(pixels, side, side)?.data;
  }

  scene("shows a code that leads into the session, and large letters", async () => {
    const page = await enter("Ada");
    await page.evaluate(() => window.stage.call("invite"));
    const link = await decoded(page);
    assert.equal(link, `${server.url}/?session=${sessionId}`);
    assert.equal(await page.getByTestId("invite-session").textContent(), sessionId);
    assert.equal(await page.getByTestId("invite-address").textContent(), new URL(server.url).host);
    const size = await page.getByTestId("invite-session").evaluate((el) => parseFloat(getComputedStyle(el).fontSize));
    assert.ok(size >= (1.2 * 96) / 2.54 - 0.1, `${size} px`);
    assert.equal(await page.getByTestId("invite-secret").isVisible(), false);
    // The link works.
    const context = await browser.newContext();
    const guest = await context.newPage();
    pages.push(guest);
    await guest.goto(link);
    await guest.getByTestId("name").fill("Bo");
    await guest.getByTestId("join").click();
    await guest.getByTestId("stage").waitFor();
    assert.equal(await guest.evaluate(() => window.bandsync.sessionId), sessionId);
  });

  scene("carries the passcode in the fragment only if the leader says so", async () => {
    const page = await enter("Ada");
    await page.evaluate(() => window.bandsync.updateSettings({ passcode: "blue & white" }));
    await page.waitForFunction(() => window.bandsync.snapshot.settings.hasPasscode);
    await page.evaluate(() => window.stage.call("invite"));
    assert.equal((await decoded(page)).includes("#"), false);
    await page.getByTestId("invite-passcode").check();
    await page.getByTestId("invite-secret").fill("blue & white");
    const link = new URL(await decoded(page));
    assert.equal(link.search, `?session=${sessionId}`);
    assert.equal(new URLSearchParams(link.hash.slice(1)).get("passcode"), "blue & white");
    assert.equal((await page.getByTestId("invite-link").textContent()).includes("blue"), false);
    const context = await browser.newContext();
    const guest = await context.newPage();
    pages.push(guest);
    const asked = [];
    guest.on("request", (request) => asked.push(request.url()));
    await guest.goto(link.href);
    await guest.getByTestId("name").fill("Bo");
    await guest.getByTestId("join").click();
    await guest.getByTestId("stage").waitFor();
    assert.ok(
      asked.every((url) => !/blue/.test(url.split("#")[0])),
      `${asked}`,
    );
    // It is not kept for the next time.
    await page.evaluate(() => window.stage.closeSheet());
    await page.evaluate(() => window.stage.call("invite"));
    assert.equal((await decoded(page)).includes("#"), false);
  });
});

describe("the page without its server", () => {
  scene("can't be had over plain HTTP, and the page says so", async () => {
    const page = await enter("Ada", { url: `http://${PLAIN_HOST}:${server.port}`, workers: "allow" });
    await page.evaluate(() => window.stage.call("view"));
    const text = await page.getByTestId("offline").textContent();
    assert.match(text, /plain HTTP/);
    assert.equal(await page.locator("link[rel=manifest]").count(), 0);
  });

  scene(
    "opens over HTTPS, with the files of the last visit and never with older ones while the server is there",
    async () => {
      const front = await secureFront(server);
      let version = 1;
      // Scripts have names that change with them, so the page itself shows the version.
      const mark = () => `<meta name="test-version" content="${version}">`;
      front.change = (path, body) => (path === "/" ? String(body).replace("</head>", `${mark()}</head>`) : undefined);
      const page = await enter("Ada", { url: front.url, workers: "allow" });
      await page.waitForFunction(() => window.stage.sound.offline.state === "ready");
      const versionNow = () => page.evaluate(() => Number(document.querySelector("[name=test-version]").content));
      const sets = () =>
        page.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith("bandsync-page ")));
      const opened = async () => {
        await page.reload();
        // The page goes back to the stage and sets its history right, which would cut the next reload off.
        const isBack = () => window.stage?.isOpen && history.state?.depth === 1;
        await page.waitForFunction(isBack, undefined, { timeout: 2 * PATIENCE_MS });
      };
      assert.equal((await sets()).length, 1);
      await page.evaluate(async () => {
        const body = "{title: Pier}\n{tempo: 120}\n[G]Lamps on the [D]pier\n";
        await window.bandsync.setSetlist({ title: "Friday", songs: [{ id: "pier", title: "Pier", format: "chordpro", body }] });
        await window.bandsync.selectSong("pier");
        const lists = () =>
          new Promise((resolve, reject) => {
            const opening = indexedDB.open("bandsync");
            opening.onerror = () => reject(opening.error);
            opening.onsuccess = () => {
              const all = opening.result.transaction("lists").objectStore("lists").getAll();
              all.onsuccess = () => resolve((opening.result.close(), all.result));
            };
          });
        const isKept = async () => (await lists()).some(({ songs }) => songs.some(({ body: kept }) => kept === body));
        while (!(await isKept())) await new Promise((done) => setTimeout(done, 200));
      });

      // Without the server, the whole page opens, and its songs can be read.
      await front.close();
      await opened();
      assert.equal(await versionNow(), 1);
      await page.getByTestId("stage").waitFor({ timeout: 2 * PATIENCE_MS });
      await page.waitForFunction(() => window.stage.setlist?.songs[0]?.body?.includes("Lamps"));
      await page.getByTestId("songs-open").click();
      await page.getByTestId("song-look").click();
      await page.locator("#song").getByText("Lamps").first().waitFor();
      // The click counts by itself, at the tempo of the song that is looked at.
      const own = () => page.evaluate(() => window.stage.sound.own.click.isOn);
      assert.equal(await own(), false, "no click begins because the server is away");
      await page.evaluate(() => window.stage.call("click"));
      await page.getByTestId("toast").filter({ hasText: "at 120" }).waitFor();
      assert.equal(await own(), true);
      assert.equal(await page.evaluate(() => window.stage.sound.own.beats.timeline.segments[0].bpm0), 120_000);
      await page.evaluate(() => window.stage.call("click"));
      assert.equal(await own(), false);
      const missing = await page.evaluate(async () => {
        const [name] = (await caches.keys()).filter((each) => each.startsWith("bandsync-page "));
        const kept = new Set((await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname));
        const used = performance.getEntriesByType("resource").map(({ name: url }) => new URL(url));
        return used
          .filter(
            ({ origin, pathname }) =>
              origin === location.origin && !pathname.startsWith("/socket.io") && !kept.has(pathname),
          )
          .map(String);
      });
      assert.deepEqual(missing, []);

      // The server is back with new files: a page that came from the device is told, and the next visit has them.
      version = 2;
      await front.open();
      await page
        .getByTestId("toast")
        .filter({ hasText: "newer version" })
        .waitFor({ timeout: 3 * PATIENCE_MS });
      assert.equal(await versionNow(), 1);
      await opened();
      assert.equal(await versionNow(), 2);

      // A newer server is never hidden by what is kept.
      version = 3;
      await opened();
      assert.equal(await versionNow(), 3);
      await within(
        2 * PATIENCE_MS,
        page.evaluate(async () => {
          const kept = async () => {
            const names = (await caches.keys()).filter((name) => name.startsWith("bandsync-page "));
            const texts = await Promise.all(
              names.map(async (name) => (await (await caches.open(name)).match("/"))?.text()),
            );
            return texts.length === 1 && texts[0]?.includes('content="3"');
          };
          while (!(await kept())) await new Promise((done) => setTimeout(done, 200));
        }),
        "the third version is kept",
      );
      await front.close();
      await opened();
      assert.equal(await versionNow(), 3);
      // Without a server the browser logs each failed connection; those are no errors of the page.
      complaints = complaints.filter((text) => !/ERR_CONNECTION_REFUSED|WebSocket|Failed to load resource/.test(text));
      await front.open();
    },
  );
});
