// The steps of the gig that specification marks with *, in the distribution's Firefox and WebKitGTK. gig.test.js has them
// all in Chromium.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { freshSession } from "../support/client.js";
import { Firefox, firefoxPath, pathOf } from "../support/gig/bidi.js";
import { Referee } from "../support/gig/referee.js";
import { pause } from "../support/gig/screen.js";
import { CAFE, CHAPEL, LANTERN, VAN, inWindows1252 } from "../support/gig/songs.js";
import { WebKit, webkitPath } from "../support/gig/webkit.js";
import { startServer } from "../support/server.js";
import { cannot, lacks } from "../support/skips.js";
import { SLOWER } from "../support/wait.js";

const TABLET = { width: 1180, height: 820 };
const PHONE = { width: 500, height: 844 };
const ANCHOR_PX = 2;
const LEADERS_KEYS = { "Van at Night": "G", Lantern: "G", "Chapel Road": "D", "Café Lights": "F?" };

const ENGINES = [
  { name: "Firefox", needs: [[firefoxPath, "firefox-esr"]], start: () => Firefox.start() },
  {
    name: "WebKitGTK",
    needs: [[webkitPath, "webkit2gtk-driver"], [() => pathOf(["Xvfb"]), "xvfb"]],
    start: () => WebKit.start(),
  },
];

let server;

before(async () => {
  server = await startServer({ env: { SHARDS: "1", STORAGE: "memory", EVENT_RATES: "other=0" } });
});
after(() => server.stop());

for (const { name, needs, start } of ENGINES) {
  test(`the marked steps of the gig in ${name}`, { timeout: 240_000 * SLOWER }, async (t) => {
    const missing = needs.filter(([path]) => path() === null).map(([, what]) => what);
    if (missing.length > 0) return lacks(t, missing.join(", "), `sudo ./tools/test --packages ${missing.join(" ")}`);
    const session = freshSession(name);
    const engine = await start();
    const band = new BandSync({ url: server.url, sessionId: session, view: "screen", storage: null });
    const screens = [];
    let isBroken = false;
    const step = (title, play) => t.test(title, async (sub) => {
      if (isBroken) return cannot(sub, "a step before this one failed");
      try {
        await play(sub);
        for (const screen of screens) {
          await screen.quietly?.();
          assert.deepEqual(screen.complaints.splice(0), [], `${screen.name} logs no error`);
          assert.deepEqual(screen.foreign.splice(0), [], `${screen.name} asks no other server`);
        }
      } catch (error) {
        isBroken = true;
        throw error;
      }
      return undefined;
    });
    const open = async (called, size) => {
      const screen = await engine.screen(called, { size, origin: server.url });
      screens.push(screen);
      await screen.open(`${server.url}/?session=${session}`);
      await screen.shows("join");
      await screen.join();
      screen.keys = { ...LEADERS_KEYS };
      return screen;
    };
    let referee;
    let ada;
    let ben;
    const same = () => referee.check(screens);

    try {
      await step("2 the leader adds songs, and the follower holds all charts", async () => {
        ada = await open("Ada", TABLET);
        await ada.tap("empty-paste");
        await ada.fill("chart", VAN);
        await ada.shows("chart-preview", "Load the");
        await ada.tap("save-for-band");
        await ada.until(() => window.stage.setlist?.songs.length === 1);
        await ada.hides("chart");
        await ada.drop([
          { name: "café.txt", bytes: inWindows1252(CAFE) },
          { name: "lantern.onsong", bytes: Buffer.from(LANTERN) },
          { name: "chapel", bytes: Buffer.from(CHAPEL) },
        ]);
        await ada.until(() => window.stage.setlist?.songs.length === 4);
        await band.join();
        referee = new Referee(band);
        await referee.learnTitles();
        ben = await open("Ben", PHONE);
        await ben.until(() => window.stage.setlist?.songs.length === 4 && window.stage.setlist.songs.every(({ body }) => typeof body === "string"));
        await ada.eval(() => window.stage.call("songs"));
        await ada.shows("songs");
        await ada.click('[data-testid="song-row"] [data-testid="song-go"]');
        for (const one of screens) await one.shows("song-title", "Van at Night");
        await ada.press("Escape");
        await ada.hides("songs");
        await same();
      });

      await step("4 each has its own view of the same line", async () => {
        await ben.eval(() => window.stage.call("view"));
        await ben.shows("transpose-down");
        await ben.rests();
        for (const shift of [-1, -2]) {
          await ben.tap("transpose-down");
          await ben.until((wanted) => window.stage.view.perSong[window.stage.song.id]?.shift === wanted, shift);
        }
        await ben.select("capo", "2");
        await ben.select("notation", "german");
        await ben.press("Escape");
        await ben.hides("capo");
        ben.keys["Van at Night"] = "sounds in G · you play Es, capo 2";
        await ben.eval(() => window.stage.setView({ size: 40 }));
        const first = (one) => one.eval(() => [...document.querySelector('[data-testid="line"]').querySelectorAll(".chord")].map((el) => el.textContent).join(" "));
        assert.equal(await first(ada), "G D/F# Em C");
        assert.equal(await first(ben), "Es B/D Cm As");
        await same();
      });

      await step("5 count-in, then lines are at the anchor on their first beat, and the click sounds or says why not", async (sub) => {
        await ada.press("c");
        await ben.eval(() => window.probe.record("anchor"));
        await ada.eval(() => window.probe.record());
        await ada.tap("play");
        await referee.until(({ playing, countIn }) => playing && countIn, "the count-in");
        await ben.shows("current-section", "Count-in");
        await referee.until(({ songBeat }) => songBeat > 9.5, "the third line");
        await same();
        const frames = { Ada: await ada.eval(() => window.probe.stop()), Ben: await ben.eval(() => window.probe.stop()) };
        for (const one of screens) {
          assert.ok(frames[one.name].length > 0);
          for (const frame of frames[one.name]) assert.ok(referee.judge(one, frame), "a known timeline");
        }
        let seen = 0;
        for (const frame of frames.Ben) {
          const { songBeat, countIn } = referee.atStart(frame);
          const share = (songBeat - frame.line.from) / (frame.line.to - frame.line.from);
          if (countIn || share < 0 || share >= 0.45) continue;
          seen += 1;
          const off = frame.top - 0.3 * frame.height;
          assert.ok(Math.abs(off) <= ANCHOR_PX, `at beat ${songBeat} the line is ${off} px from the anchor: ${JSON.stringify(frame)}`);
        }
        assert.ok(seen > 0, "a line was seen at the anchor");
        await ada.until(() => ["on", "none", "tap"].includes(window.stage.sound.output.state));
        sub.diagnostic(`sound: ${await ada.eval(() => window.stage.sound.output.state)}`);
      });

      await step("12 the phone reloads while the music plays, and is back by itself", async (sub) => {
        const began = performance.now();
        await ben.reload();
        await ben.until(() => window.stage?.isOpen === true && Boolean(document.querySelector('[data-testid="line"][aria-current]')));
        sub.diagnostic(`back after ${Math.round(performance.now() - began)} ms`);
        await ben.entered();
        await same();
      });

      await step("20 rotated, zoomed, narrow and in the day", async () => {
        const fits = async (one, state) => {
          const wide = await one.eval(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wide <= 0, `${one.name}, ${state}: ${wide} px too wide`);
          await same();
        };
        for (const [state, width, height] of [["rotated", 820, 1180], ["at 200 %", 590, 410], ["320 px wide", 320, 640], ["as before", 1180, 820]]) {
          await ada.resize({ width, height });
          await pause(100);
          await fits(ada, state);
          // On low screens the dock comes with a press on the lowest part of the song.
          const inner = await ada.eval(() => ({ width: innerWidth, height: innerHeight }));
          await ada.clickAt(Math.round(inner.width / 3), inner.height - 12);
          await ada.rests();
          const buttons = ["play", "pause", "stop", "next-section", "more-open", "members-open"];
          const hidden = await ada.eval((ids) => ids.filter((id) => {
            const el = document.querySelector(`[data-testid="${id}"]`);
            if (el.hidden) return false;
            const { left, right, top, bottom } = el.getBoundingClientRect();
            const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
            return !(hit && el.contains(hit));
          }), buttons);
          assert.deepEqual(hidden, [], `${state}: all buttons can be pressed`);
        }
        await ben.eval(() => window.stage.setView({ theme: "day" }));
        await ben.until(() => document.documentElement.dataset.theme === "day");
        await fits(ben, "the day theme");
      });
    } finally {
      band.leave();
      for (const screen of screens) await screen.close().catch(() => {});
      await engine.close();
    }
    return undefined;
  });
}
