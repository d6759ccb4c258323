// Every room and state of the page, on a tablet and on phones, at night and in the day: no faults of accessibility by
// axe (WCAG 2.2 AA), no text that is cut off, and nothing that scrolls sideways, down to a width of 320 px.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { BandSync } from "../../../src/web/bandsync.js";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { faults } from "../support/gig/axe.js";
import { ChromiumScreen } from "../support/gig/chromium.js";
import { look } from "../support/gig/look.js";
import { HARBOUR, VAN } from "../support/gig/songs.js";
import { badNetwork } from "../support/proxy.js";
import { startServer } from "../support/server.js";
import { SLOWER } from "../support/wait.js";

const LOOKS = [
  { name: "a tablet at night", size: { width: 1180, height: 820 }, theme: "night" },
  { name: "a tablet in the day", size: { width: 1180, height: 820 }, theme: "day" },
  { name: "a tablet at 200 %", size: { width: 590, height: 410 }, theme: "night" },
  { name: "a phone of 320 px in the day", size: { width: 320, height: 640 }, theme: "day" },
];
const SHEETS = ["songs", "view", "more", "members", "settings", "cues", "invite", "keys", "line-up"];
const WITHOUT_TIMING = "{title: Pier}\n{key: G}\n\n[G]one\n[D]two\n";
const WITH_PROBLEMS = "{title: Odd}\n{start_of_verse}\n[G]Load the [Zzz9]last amp\n{chorus}\n";

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

for (const { name, size, theme } of LOOKS) {
  test(`all rooms on ${name}`, { timeout: 240_000 * SLOWER }, async (t) => {
    const session = freshSession("rooms");
    const network = await badNetwork(server);
    const screens = [];
    const helpers = [];
    const open = async (called, { search = "", origin = server.url } = {}) => {
      const screen = await ChromiumScreen.make(browser, called, { size, origin });
      screens.push(screen);
      screen.isCut = true;
      await screen.open(`${origin}/?session=${session}${search}`);
      await screen.until(() => Boolean(window.stage));
      await screen.eval((wanted) => window.stage.setView({ theme: wanted, countIn: 0 }), theme);
      return screen;
    };
    const state = (screen, called) => t.test(`${screen.name}: ${called}`, async () => {
      await screen.rests(); // What fades in has no contrast yet.
      try {
        const { clipped, sideways } = await screen.eval(look, null);
        const wrong = await faults(screen.page);
        assert.deepEqual({ faults: wrong, clipped, sideways }, { faults: [], clipped: [], sideways: [] });
      } catch (error) {
        await picture(`rooms ${name} ${screen.name} ${called}`, [screen.page]);
        throw error;
      }
    });
    const noSheet = (screen) => screen.until(() => document.querySelector("#sheets .sheet") === null);
    const closeSheets = async (screen) => {
      await screen.eval(() => {
        while (document.querySelector("#sheets .sheet")) window.stage.closeSheet();
      });
      await noSheet(screen);
    };
    const sheet = async (screen, room, called = `the sheet ${room}`) => {
      await screen.eval((wanted) => void window.stage.call(wanted), room);
      await screen.until(() => document.querySelector("#sheets .sheet") !== null);
      await state(screen, called);
      // Axe judges some things only where they can be seen.
      const hasMore = await screen.eval(() => {
        const body = [...document.querySelectorAll("#sheets .sheet-body")].at(-1);
        body.scrollTo(0, body.scrollHeight);
        return body.scrollTop > 0;
      });
      if (hasMore) await state(screen, `${called}, its end`);
    };

    try {
      const ada = await open("Ada", { origin: network.url });
      await ada.shows("join");
      await state(ada, "the door");
      await ada.tap("another-session");
      await ada.tap("join");
      await ada.shows("join-error");
      await state(ada, "the door with another session and a missing name");
      await ada.join();
      await ada.shows("empty-paste");
      await state(ada, "no songs");
      const ben = await open("Ben");
      await ben.join();
      await ben.shows("empty-text");
      await state(ben, "waiting for a song");

      await ada.eval((text) => void window.stage.call("song-add", text), WITH_PROBLEMS);
      await ada.shows("chart");
      await ada.until(() => document.querySelector("[data-testid=chart-problems]").textContent !== "");
      await state(ada, "the editor, with problems");
      await closeSheets(ada);
      await ada.eval(async (given) => {
        const [{ parseChart }, { songFields, songMap }] = await Promise.all([import("/chart/chordpro.js"), import("/chart/map.js")]);
        const songs = given.map((body, i) => {
          const chart = parseChart(body);
          return { id: `song-${i}`, format: "chordpro", body, ...songFields(chart, songMap(chart)) };
        });
        await window.bandsync.setSetlist({ title: "Friday", songs });
        await window.bandsync.updateSettings({ anyoneMayCue: true });
      }, [VAN, HARBOUR, WITHOUT_TIMING]);
      await ada.shows("empty-songs");
      await state(ada, "no song chosen");
      await ada.eval(() => window.bandsync.selectSong("song-2"));
      await ada.until(() => window.stage.song?.map?.guessed === true && window.stage.has("timing"));
      await sheet(ada, "more", "the sheet more of a song without timing");
      await ada.shows("timing");
      await closeSheets(ada);
      await ada.eval(() => window.bandsync.selectSong("song-0"));
      for (const screen of [ada, ben]) await screen.until(() => window.stage.song?.id === "song-0" && Boolean(window.stage.song.chart));
      // The list fits its sheet: axe takes a row that is scrolled half out of it for one that is covered.
      await ada.eval(() => window.bandsync.editSetlist([{ op: "remove", songId: "song-2", was: window.stage.songById("song-2").revision }]));
      await state(ada, "a song");
      await state(ben, "a song");
      await ben.eval(() => window.stage.call("show-dock"));
      await state(ben, "the dock of a follower");

      for (const room of SHEETS) {
        await sheet(ada, room);
        if (room === "songs") {
          await ada.click('[data-testid="song-row"] [data-testid="song-more"]');
          await state(ada, "what can be done with a song");
        }
        await closeSheets(ada);
      }
      await ada.eval(() => window.bandsync.updateSettings({ passcode: "harbour", leaderRule: "pin", leaderPin: "1234" }));
      await ben.until(() => window.stage.settings.leaderRule === "pin");
      await sheet(ada, "settings", "the settings with a PIN and a passcode");
      await closeSheets(ada);
      await sheet(ada, "invite", "the invitation with a passcode");
      await closeSheets(ada);
      for (const room of ["members", "settings", "more", "songs"]) {
        await sheet(ben, room);
        await closeSheets(ben);
      }
      await sheet(ben, "take-lead", "the PIN");
      await closeSheets(ben);
      await ada.eval(() => void window.stage.call("leave"));
      await ada.shows("leave-sheet");
      await state(ada, "the question before leaving");
      await closeSheets(ada);
      const cleo = await open("Cleo");
      await cleo.join().catch(() => {});
      await cleo.shows("join-error");
      await state(cleo, "the door that asks for a passcode");
      await ada.eval(() => window.bandsync.updateSettings({ passcode: null, leaderRule: "ask" }));

      await ada.eval(() => window.bandsync.play());
      await ada.eval(() => window.bandsync.loop(0, 80));
      for (const screen of [ada, ben]) await screen.until(() => window.bandsync.isPlaying && window.stage.loop !== null);
      await ada.eval(() => window.bandsync.seekBeat(64, { atBeat: 76 }));
      await ada.shows("armed", "Outro");
      await state(ada, "an armed jump");
      await state(ben, "an armed jump");
      await ben.press("PageDown");
      await ben.shows("back-to-now");
      await state(ben, "looking elsewhere");
      await ada.eval(() => window.bandsync.cue("Ben solo", { kind: "hold", seconds: 0 }));
      await ben.shows("cue", "Ben solo");
      await state(ben, "a cue");
      for (const screen of [ada, ben]) await screen.eval(() => document.querySelector(".cue-hide").click());
      await ben.eval(() => window.stage.call("take-lead"));
      await ada.shows("lead-request");
      await ada.until(() => document.querySelector("[data-testid=toast]").getClientRects().length === 0);
      await state(ada, "a request for the lead");
      await ada.eval(() => window.bandsync.handOver(window.bandsync.members.find(({ displayName }) => displayName === "Ben").socketId));
      await ben.until(() => window.bandsync.isLeader);
      await state(ada, "the lead given away while the music plays");
      await state(ben, "the lead taken over while the music plays");
      await ben.eval(() => window.stage.toast("Not done: the connection was slower than the music. Press again.", { seconds: 0 }));
      await ben.shows("toast");
      await state(ben, "a text about an error");
      await ben.eval(() => window.stage.toast(""));

      for (const view of ["screen", "lyrics"]) {
        const wall = await open(view, { search: `&view=${view}` });
        await wall.entered();
        await wall.until(() => document.querySelector("[data-testid=line]") !== null);
        await state(wall, "a screen");
      }

      network.freeze();
      network.cut();
      await ada.shows("clock", "offline");
      await state(ada, "the connection lost");
      await sheet(ada, "songs", "the songs without a connection");
      await closeSheets(ada);
      network.thaw();
      await ada.until(() => window.bandsync.status === "online");
      const token = await ada.eval(() => window.bandsync.token);
      const device = new BandSync({ url: server.url, sessionId: session, token, storage: null });
      helpers.push(device);
      await device.join();
      await ada.shows("gone");
      await state(ada, "the seat taken by another device");

      await ben.eval(async () => {
        await window.bandsync.releaseLoop();
        await window.bandsync.setTempo(400);
        await window.bandsync.seekBeat(78);
      });
      await ben.shows("ended", "Harbour");
      await ben.until(() => !window.bandsync.isPlaying);
      await state(ben, "the end of a song");
    } finally {
      for (const helper of helpers) helper.leave();
      network.stop();
      for (const screen of screens) await screen.close();
    }
  });
}
