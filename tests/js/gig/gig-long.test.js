// The two steps of the gig that have a command of their own: GIG=long node --test gig/gig-long.test.js
//
// 22: a leader that has only a keyboard. 23: a phone that is four times slower, for GIG_SECONDS (480). Its figures are
// asserted with QUIET_MACHINE=1 alone; otherwise they are only printed.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { launchBrowser } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { ChromiumScreen } from "../support/gig/chromium.js";
import { Referee } from "../support/gig/referee.js";
import { pause } from "../support/gig/screen.js";
import { HARBOUR, VAN } from "../support/gig/songs.js";
import { startServer } from "../support/server.js";

const SECONDS = Number(process.env.GIG_SECONDS ?? 480);
const SLOWDOWN = 4;
/** Specified. */
const LEAST_FPS = 57;
const FRAME_MS = 34;
const BOUNCE_MS = 260;
const KEYS = { "Van at Night": "G", Harbour: "Am" };

if (process.env.GIG === "long") {
  let server;
  let browser;
  before(async () => {
    server = await startServer({ env: { SHARDS: "1", STORAGE: "memory", EVENT_RATES: "other=0" } });
    browser = await launchBrowser();
  });
  after(async () => {
    await browser?.close();
    await server.stop();
  });

  const open = async (name, size, session, options = {}) => {
    const screen = await ChromiumScreen.make(browser, name, { size, origin: server.url, ...options });
    screen.keys = { ...KEYS };
    await screen.open(`${server.url}/?session=${session}`);
    await screen.shows("join");
    return screen;
  };
  const watch = async (session) => {
    const band = new BandSync({ url: server.url, sessionId: session, view: "screen", storage: null });
    await band.join();
    return new Referee(band);
  };

  test("22 the gig by keyboard alone", { timeout: 300_000 }, async () => {
    const session = freshSession("keys");
    const ada = await open("Ada", { width: 1180, height: 820 }, session);
    const ben = await open("Ben", { width: 390, height: 844 }, session);
    let referee;
    try {
      const { keyboard } = ada.page;
      const press = async (key) => {
        await pause(BOUNCE_MS);
        await keyboard.press(key);
      };
      /** Presses Tab until an element with this test id has the focus. */
      const reach = async (id, back = false) => {
        for (let i = 0; i < 80; i += 1) {
          if (await ada.eval((wanted) => document.activeElement?.dataset.testid === wanted, id)) {
            assert.ok(await ada.eval(() => document.activeElement.matches(":focus-visible")), `${id} shows its focus`);
            return;
          }
          await keyboard.press(back ? "Shift+Tab" : "Tab");
        }
        assert.fail(`${id} is not reached by Tab`);
      };
      await reach("name");
      await keyboard.type("Ada");
      await keyboard.press("Enter");
      await ada.entered();
      await ben.join();
      for (const text of [VAN, HARBOUR]) {
        await press("l");
        await ada.shows("songs");
        await reach("song-add");
        await keyboard.press("Enter");
        await ada.shows("chart");
        await reach("chart");
        await keyboard.insertText(text);
        await keyboard.press("Control+s");
        await ada.hides("chart");
        await keyboard.press("Escape");
        await ada.hides("songs");
      }
      await ben.until(() => window.stage.setlist.songs.length === 2);
      referee = await watch(session);
      await referee.learnTitles();
      await press("l");
      await ada.shows("songs");
      await reach("song-go");
      await keyboard.press("Enter");
      await ben.shows("song-title", "Van at Night");
      await keyboard.press("Escape");
      await ada.hides("songs");
      await press("c");
      await press(" ");
      await referee.until(({ playing, countIn }) => playing && !countIn, "space plays");
      await referee.check([ada, ben]);
      await press("4");
      await ada.shows("armed", "Outro");
      await press("Escape");
      await ben.until(() => window.stage.armed === null);
      await press("r");
      await ben.until(() => window.stage.loop !== null);
      await press("+");
      await ben.until(() => window.bandsync.beat().tempoBpm === 121);
      await press("k");
      await reach("cue-hold");
      await keyboard.press("Enter");
      await ben.shows("cue", "HOLD");
      await keyboard.press("Escape");
      await press("r");
      await ben.until(() => window.stage.loop === null);
      await press("?");
      await ada.shows("keys");
      await keyboard.press("Escape");
      await press("PageDown");
      await ada.until(() => window.stage.armed !== null || window.stage.now().pass > 0);
      await referee.check([ada, ben]);
      await press(" ");
      await referee.until(({ playing }) => !playing, "space pauses");
      await press("n");
      await ben.shows("song-title", "Harbour");
      await referee.check([ada, ben]);
      await reach("members-open");
      await keyboard.press("Enter");
      await reach("hand-over");
      await keyboard.press("Enter");
      await ben.until(() => window.bandsync.isLeader);
      await keyboard.press("Escape");
      for (const one of [ada, ben]) assert.deepEqual(one.complaints, []);
    } finally {
      referee?.band.leave();
      for (const one of [ada, ben]) await one.close();
    }
  });

  test(`23 ${SECONDS} s on a phone that is ${SLOWDOWN} times slower`, { timeout: (SECONDS + 120) * 1000 }, async (t) => {
    const session = freshSession("slow");
    const ada = await open("Ada", { width: 1180, height: 820 }, session);
    const ben = await open("Ben", { width: 390, height: 844 }, session, { hasTouch: true, isMobile: true });
    // Nobody but the server plays: a loop over the whole song.
    const leader = new BandSync({ url: server.url, sessionId: session, name: "Cleo", storage: null });
    let referee;
    try {
      for (const one of [ada, ben]) await one.join();
      await ada.eval((body) => window.stage.call("song-add", body), VAN);
      await ada.shows("chart");
      await ada.tap("save-for-band");
      await ada.hides("chart");
      await ada.eval(() => window.bandsync.selectSong(window.stage.setlist.songs[0].id));
      await ben.until(() => Boolean(window.stage.song?.chart));
      await ben.eval(() => window.stage.setView({ size: 40 }));
      referee = await watch(session);
      await referee.learnTitles();
      await leader.join();
      await ada.eval((id) => window.bandsync.handOver(id), leader.id);
      await ada.close();
      await ben.until(() => window.bandsync.leader?.displayName === "Cleo");
      await leader.loop(0, 80);
      await leader.play();
      const cdp = await ben.page.context().newCDPSession(ben.page);
      await cdp.send("Emulation.setCPUThrottlingRate", { rate: SLOWDOWN });
      await ben.eval(() => {
        window.probe.shifts.splice(0);
        window.apart = [];
        let last = null;
        const frame = (at) => {
          if (last !== null) window.apart.push(at - last);
          last = at;
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
      });
      const end = performance.now() + SECONDS * 1000;
      while (performance.now() < end) {
        await pause(Math.min(10_000, Math.max(0, end - performance.now())));
        await referee.check([ben]);
      }
      const apart = await ben.eval(() => window.apart.sort((a, b) => a - b));
      const fps = (1000 * apart.length) / apart.reduce((sum, ms) => sum + ms, 0);
      const p99 = apart[Math.floor(0.99 * apart.length)];
      t.diagnostic(`${fps.toFixed(1)} frames per second, p99 ${p99.toFixed(1)} ms`);
      assert.deepEqual(await ben.shifts(), []);
      assert.deepEqual(ben.complaints, []);
      if (process.env.QUIET_MACHINE === "1") {
        assert.ok(fps >= LEAST_FPS, `${fps} frames per second`);
        assert.ok(p99 <= FRAME_MS, `p99 ${p99} ms`);
      }
    } finally {
      leader.leave();
      referee?.band.leave();
      for (const one of [ada, ben]) await one.close();
    }
  });
}
