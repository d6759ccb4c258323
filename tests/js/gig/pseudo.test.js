// A pseudo-language: all texts are accented and 40 % longer. Nothing on the main screens is hard-coded or clipped.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import * as texts from "../../../src/web/texts.js";
import { launchBrowser, picture } from "../support/browser.js";
import { freshSession } from "../support/client.js";
import { ChromiumScreen } from "../support/gig/chromium.js";
import { look } from "../support/gig/look.js";
import { MARK, pseudo, pseudoSource, textsOf } from "../support/gig/pseudo.js";
import { HARBOUR, VAN } from "../support/gig/songs.js";
import { startServer } from "../support/server.js";

const TEXTS = textsOf(texts);
/**
 * Visible texts that are not of the page: names of programs, keys, formats, units, and what the songs and members are
 * called.
 */
const OWN = /^(BandSync|Ada|Ben|Van at Night|The Tests|Harbour|Verse( [12])?|Chorus|Outro|Swell|Tide|stage|ChordPro|OnSong|OpenSong|MB|kB|http\S*|\S*pseudo\S*|[A-G][♭♯b#]?m?\d?(\/[A-G][♭♯b#]?)?|Space|Esc|PageDown|PageUp)$/;

/** The part of a bundle that has the texts. Other modules have names of events and rooms that read like a text: “cues”. */
const PART = /^\/\/ texts\.js\n[^]*?(?=^\/\/ \S+\.js$)/m;

let server;
let browser;

before(async () => {
  server = await startServer({ env: { SHARDS: "1", STORAGE: "memory" } });
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  await server.stop();
});

/** Opens a page whose scripts have their texts in the pseudo-language, whatever files they are in. */
async function open(name, size, session, search = "") {
  const screen = await ChromiumScreen.make(browser, name, { size, origin: server.url, serviceWorkers: "block" });
  screen.replaced = 0;
  await screen.page.route(/\.js(\?|$)/, async (route) => {
    const answer = await route.fetch();
    const source = await answer.text();
    const isTexts = new URL(route.request().url()).pathname.endsWith("/texts.js");
    const body = isTexts ? pseudoSource(source, TEXTS) : source.replace(PART, (part) => pseudoSource(part, TEXTS));
    if (body !== source) screen.replaced += 1;
    const { "content-encoding": _, "content-length": __, ...headers } = answer.headers();
    await route.fulfill({ response: answer, headers, body });
  });
  await screen.open(`${server.url}/?session=${session}${search}`);
  return screen;
}

test("a text in the pseudo-language is longer and keeps its places", () => {
  assert.equal(pseudo("Ask {name} now"), `Ásk {name} ñöw${MARK.repeat(4)}`);
  assert.equal(pseudo("♩"), "♩");
  assert.equal(pseudoSource('const a = { key: "Key", code: "KEY" };', new Set(["Key"])), `const a = { key: "Kéý${MARK.repeat(2)}", code: "KEY" };`);
});

for (const [kind, size] of [["a tablet", { width: 1180, height: 820 }], ["a phone", { width: 390, height: 844 }]]) {
  test(`nothing is hard-coded or clipped on ${kind}`, { timeout: 240_000 }, async (t) => {
    const session = freshSession("pseudo");
    const ada = await open("Ada", size, session);
    const screens = [ada];
    const state = async (screen, name) => {
      await t.test(`${screen.name}: ${name}`, async () => {
        await screen.page.evaluate(() => Promise.all(document.getAnimations()
          .filter((one) => one instanceof CSSAnimation || one instanceof CSSTransition)
          .filter((one) => one.effect.getComputedTiming().endTime !== Infinity).map((one) => one.finished.catch(() => {}))));
        const { plain, clipped } = await screen.eval(look, MARK);
        const words = plain.filter((text) => !text.split(/[\s·:,–—]+/).every((word) => !/\p{L}{2}/u.test(word) || OWN.test(word)) && !OWN.test(text));
        try {
          assert.deepEqual(words, [], "all texts are in texts.js");
          assert.deepEqual(clipped, [], "all texts are shown as a whole");
        } catch (error) {
          await picture(`pseudo ${kind} ${name}`, [screen.page]);
          throw error;
        }
      });
    };
    try {
      await ada.shows("join");
      assert.ok(ada.replaced > 0, "the texts were replaced");
      await state(ada, "the door");
      await ada.join();
      await ada.shows("empty-paste");
      await state(ada, "no songs");
      const ben = await open("Ben", size, session);
      screens.push(ben);
      await ben.shows("join");
      await ben.join();
      await ben.shows("empty-text");
      await state(ben, "waiting");
      for (const text of [VAN, HARBOUR]) {
        await ada.eval((body) => window.stage.call("song-add", body), text);
        await ada.shows("chart");
        if (text === VAN) await state(ada, "the editor");
        await ada.tap("save-for-band");
        await ada.hides("chart");
      }
      await ada.eval(() => window.bandsync.selectSong(window.stage.setlist.songs[0].id));
      for (const screen of screens) await screen.until(() => Boolean(window.stage.song?.chart));
      await ada.eval(() => window.stage.toast(""));
      await state(ada, "a song");
      await state(ben, "a song");
      for (const room of ["songs", "view", "more", "members", "settings", "cues", "invite", "keys"]) {
        await ada.eval((name) => window.stage.call(name), room);
        await ada.until(() => document.querySelector("#sheets .sheet") !== null);
        await state(ada, `the sheet ${room}`);
        await ada.press("Escape");
        await ada.until(() => document.querySelector("#sheets .sheet") === null);
      }
      await ada.tap("play");
      await ben.until(() => window.bandsync.isPlaying && !window.bandsync.beat().countIn);
      await state(ada, "the song that plays");
      await state(ben, "the song that plays");
      await ben.eval(() => window.stage.call("take-lead"));
      await ada.shows("lead-request");
      await state(ada, "a request for the lead");
      const wall = await open("screen", { width: 1280, height: 720 }, session, "&view=screen");
      screens.push(wall);
      await wall.entered();
      await state(wall, "the screen");
    } finally {
      for (const screen of screens) await screen.close();
    }
  });
}
