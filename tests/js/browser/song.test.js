// The song room in a browser, with a timeline that the test sets: geometry of chords, scrolling in time, own view,
// looking elsewhere, and the screens.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { launchBrowser, picture } from "../support/browser.js";
import { serveSong } from "../support/song/serve.js";
import { decode } from "../../../src/web/chart/decode.js";
import { toChordPro } from "../../../src/web/chart/convert.js";

let server;
let browser;
let pages;
let complaints;

before(async () => {
  server = await serveSong();
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});
beforeEach(() => {
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
      await picture(name, pages);
      throw error;
    }
  });
}

/** Opens the page with a song. */
async function show(body, { width = 800, height = 700, view = {}, query = "", touch = false, calm = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    hasTouch: touch,
    reducedMotion: calm ? "reduce" : "no-preference",
  });
  const page = await context.newPage();
  pages.push(page);
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await page.goto(`${server.url}/${query}`);
  await page.waitForFunction(() => window.ready);
  await page.evaluate(
    ([text, changes]) => {
      window.stage.setView(changes);
      window.stage.load(text);
      window.stage.at(0);
    },
    [body, view],
  );
  await frames(page);
  return page;
}

const frames = (page, count = 2) =>
  page.evaluate((n) => new Promise((done) => {
    const step = (left) => (left === 0 ? done() : requestAnimationFrame(() => step(left - 1)));
    step(n);
  }), count);

/** Waits until a jump of the text is over. */
const settled = async (page) => {
  await frames(page);
  await page.evaluate(() => Promise.all(document.getAnimations().filter(({ effect }) => effect.target.className === "song-shift").map(({ finished }) => finished.catch(() => {}))));
  await frames(page);
};

const CHORUS = `{title: Swell}
{key: G}
{tempo: 120}
{start_of_verse: Verse}
[G]one
{end_of_verse}
{start_of_chorus}
[C]two
[D]three
{end_of_chorus}
{chorus}
{transpose: 2}
{chorus}
`;

/** The lines of the page: their text and beats. */
const drawnLines = (page) =>
  page.evaluate(() => [...document.querySelectorAll('[data-testid="line"]')].map(({ textContent, dataset: { from, to } }) => `${textContent} ${from}-${to}`));

const LINES = [
  "[G]Load the last amp in the [D]rain,",
  "[Em]one more town with a [C]borrowed name,",
  "[G]strings gone dull and the [D]heater dead,",
  "[Em]still got the count-[C]in going round my head.",
];
const verse = (n, lines = LINES) => `{start_of_verse: Verse ${n}}\n${lines.join("\n")}\n{end_of_verse}\n`;
const SONG = `{title: Van at Midnight}\n{key: G}\n{tempo: 120}\n{time: 4/4}\n${[1, 2, 3, 4, 5, 6].map((n) => verse(n)).join("")}`;

/** Chords with the first letter after each: `{ chord, letter, rtl, row }` as boxes, by line. */
const chordsAndLetters = (page) =>
  page.evaluate(() => {
    const box = ({ left, right, top, bottom }) => ({ left, right, top, bottom });
    return [...document.querySelectorAll(".line.words")].map((line) => {
      const found = [];
      for (const at of line.querySelectorAll(".at")) {
        const walk = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
        let node = walk.nextNode();
        const SIGN = /[^\u200d-\u200f]/u;
        const isLetters = (text) => !text.parentElement.closest(".at") && SIGN.test(text.data);
        while (node && !(at.compareDocumentPosition(node) & 4 && isLetters(node))) node = walk.nextNode();
        // Of several chords on one letter the last one stands over it.
        const isLast = at.nextSibling?.nodeType === 3 ? SIGN.test(at.nextSibling.data) : !at.nextElementSibling?.matches(".at, .gap") && !at.parentElement.nextElementSibling?.matches(".part");
        if (!node || !isLast || /\s/.test(SIGN.exec(node.data)[0])) continue;
        const range = document.createRange();
        const i = node.data.search(SIGN);
        range.setStart(node, i);
        range.setEnd(node, i + String.fromCodePoint(node.data.codePointAt(i)).length);
        const size = parseFloat(getComputedStyle(line).fontSize);
        found.push({
          text: at.textContent,
          rtl: at.dir === "rtl",
          size,
          chord: box(at.firstChild.getBoundingClientRect()),
          letter: box(range.getBoundingClientRect()),
        });
      }
      return found;
    });
  });

/** Checks that each chord begins with its letter, and that chords of a row keep their distance. */
function assertChords(lines) {
  let count = 0;
  for (const found of lines) {
    for (const [i, { text, rtl, size, chord, letter }] of found.entries()) {
      count += 1;
      const off = rtl ? chord.right - letter.right : chord.left - letter.left;
      assert.ok(Math.abs(off) <= 1.5, `${text} is ${off.toFixed(1)} px beside its letter`);
      assert.ok(chord.bottom <= letter.top + size * 0.45, `${text} is over its letter`);
      const next = found[i + 1];
      if (!next || Math.abs(next.chord.top - chord.top) > 2 || next.rtl !== rtl) continue;
      const apart = rtl ? chord.left - next.chord.right : next.chord.left - chord.right;
      assert.ok(apart >= 0.4 * size - 1, `${text} and ${next.text} are ${(apart / size).toFixed(2)} em apart`);
    }
  }
  return count;
}

/** Place of the current line and of the anchor, in pixels from the top of the room. */
const place = (page) =>
  page.evaluate(() => {
    const room = document.getElementById("song").getBoundingClientRect();
    const line = document.querySelector('[aria-current="true"]');
    const anchor = Math.round(window.stage.view.anchor * room.height);
    return { from: Number(line.dataset.from), top: line.getBoundingClientRect().top - room.top, anchor };
  });

describe("what comes again", () => {
  scene("a chorus is drawn in full, or as a heading that sounds as long", async () => {
    const full = await show(CHORUS);
    assert.equal((await drawnLines(full)).length, 7);
    const page = await show(CHORUS, { view: { chorus: "heading" } });
    assert.deepEqual(await drawnLines(page), ["Gone 0-8", "Ctwo 8-16", "Dthree 16-24", "Chorus 2/3 24-40", "Dtwo 40-48", "Ethree 48-56"], "a chorus in another key has its chords");
    for (const beat of [24, 30, 39]) {
      await page.evaluate((at) => window.stage.at(at), beat);
      await frames(page);
      assert.equal(await page.locator('[aria-current="true"]').textContent(), "Chorus 2/3", `beat ${beat}`);
    }
    await page.evaluate(() => window.stage.at(41));
    await frames(page);
    assert.equal(await page.locator('[aria-current="true"]').getAttribute("data-from"), "40");
    assert.equal(await page.locator(".line.again.past").count(), 1);
    await page.evaluate(() => window.stage.setView({ chorus: "full" }));
    assert.equal((await drawnLines(page)).length, 7);
  });

  scene("repeat signs are written out", async () => {
    const page = await show("{tempo: 120}\n{start_of_grid}\n|: G . . . | C . . . :|\n{end_of_grid}\n");
    const beats = await page.evaluate(() => [...document.querySelectorAll('[data-testid="line"]')].map(({ dataset }) => [dataset.from, dataset.to]));
    assert.deepEqual(beats, [["0", "8"], ["8", "16"]]);
  });
});

describe("what the song says of itself", () => {
  scene("the tempo is that of the beats which are felt", async () => {
    const page = await show(`{title: Tide}\n{tempo: 180}\n{time: 6/8}\n${verse(1)}{tempo: 90}\n${verse(2)}${verse(3)}${verse(4)}`, { height: 400 });
    assert.match(await page.locator(".cover .facts").textContent(), /♩\. = 60/);
    assert.equal(await page.locator(".note.change").textContent(), "♩. = 90");
  });

  scene("a key that changes is named in the reader's key, and a tab in its own", async () => {
    const body = "{key: G}\n[G]one\n{key: Am}\n[Am]two\n{start_of_tab}\ne|--0--|\n{end_of_tab}\n";
    const note = (page) => page.locator(".note").allTextContents();
    assert.deepEqual(await note(await show(body)), ["Key Am"]);
    assert.deepEqual(await note(await show(body, { view: { shift: 2 } })), ["Key Bm", "The tab is in G"]);
    assert.deepEqual(await note(await show(body, { view: { shift: 2, notation: "nashville" } })), ["Key Bm", "The tab is in G"]);
    assert.deepEqual(await note(await show(CHORUS)), ["Key A"], "a chorus that is called in another key");
    assert.deepEqual(await note(await show(CHORUS, { view: { capo: 2, notation: "german" } })), ["Key G"]);
  });
});

describe("a chart", () => {
  const HARD = [
    "[Cmaj7]I [Am7]am [F]here",
    "[C]im[Fmaj7#11]prac[G6/9]ti[Bbm7b5]cal [G]things",
    "[Am]שלום [G]לך ארץ נה[F]דרת",
    "مرحبا [Am]بال[G]عالم الجم[F]يل",
    "[C]hello שלום [G]rock and [F]roll",
    "words alone",
    "[C][G][Am]three on one",
    "end with a [G]chord [D]",
    "[*softly]with a note [|]and a [N.C.]bar",
  ];

  for (const [width, size] of [[1000, 40], [420, 20], [320, 16], [600, 64]]) {
    scene(`stands with each chord over its letter at ${size} px on ${width} px`, async () => {
      const page = await show(`{title: x}\n${verse(1, HARD)}${verse(2)}`, { width, view: { size, columns: 1 } });
      const count = assertChords(await chordsAndLetters(page));
      assert.ok(count >= 20, `${count} chords were looked at`);
    });
  }

  scene("breaks lines between words, indents the rest by 1 em, and has no empty row of chords", async () => {
    const page = await show(`{title: x}\n${verse(1, [...LINES, "a plain-spoken well-known line-break", "words alone"])}`, { width: 380, view: { size: 30 } });
    const found = await page.evaluate(() => {
      const rows = (el) => [...el.getClientRects()];
      const lines = [...document.querySelectorAll(".line.words")];
      const last = lines.at(-1);
      const style = getComputedStyle(last);
      return {
        broken: [...document.querySelectorAll(".word")].filter((word) => new Set(rows(word).map(({ top }) => top)).size > 1).length,
        words: document.querySelectorAll(".word").length,
        hyphens: [...document.querySelectorAll(".word")].filter((word) => word.textContent.includes("-") && word.getClientRects().length > 1 && new Set(rows(word).map(({ top }) => top)).size > 1).length,
        lefts: lines.slice(0, 4).map((line) => {
          const byRow = new Map();
          for (const { left, top } of rows(line.querySelector(".ink"))) byRow.set(top, Math.min(left, byRow.get(top) ?? left));
          return [...byRow.values()];
        }),
        plain: last.getBoundingClientRect().height - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom),
        row: parseFloat(style.lineHeight),
        wide: document.querySelector(".song-frame").scrollWidth - document.querySelector(".song-frame").clientWidth,
      };
    });
    assert.ok(found.words >= 8);
    assert.equal(found.hyphens, 0, "nor at its hyphen");
    assert.equal(found.broken, 0, "no word is broken");
    assert.ok(found.lefts.some((lefts) => lefts.length > 1), "lines wrap");
    for (const [first, ...rest] of found.lefts) for (const left of rest) assert.equal(Math.round(left - first), 30);
    assert.equal(found.plain, found.row, "words alone take one row");
    assert.equal(found.wide, 0);
  });

  scene("never becomes markup, a link or a request", async () => {
    const asked = server.asked.length;
    const evil = '<img src="/evil.png" onerror="alert(1)"> <script>fetch("/evil.js")</script> <a href="/evil">x</a> url(/evil.css)';
    const page = await show(
      `{title: ${evil}}\n{artist: ${evil}}\n{key: <b>G</b>}\n{comment: ${evil}}\n{image: /evil.png}\n` +
        `{start_of_verse: ${evil}}\n[<i onclick=x>]${evil} <b>bold</b>\n[*<img src=/evil.png>]words\n[<img src=/evil.png>] [G]\n{end_of_verse}\n` +
        `{start_of_tab: t}\ne|--<img src=/evil.png>--|\n{end_of_tab}\n{start_of_abc}\n<img src=/evil.png>\n{end_of_abc}\n`,
    );
    const tags = await page.evaluate(() => [...new Set([...document.querySelectorAll("#song *")].map((el) => el.localName))]);
    for (const tag of ["img", "script", "a", "style", "link", "iframe", "object"]) assert.ok(!tags.includes(tag), `no ${tag}`);
    assert.equal(await page.locator("#song [onerror], #song [onclick], #song [href], #song [src]").count(), 0);
    await page.waitForTimeout(100);
    assert.deepEqual(server.asked.slice(asked).filter((path) => path.includes("evil")), []);
    assert.match(await page.locator(".line.words").first().textContent(), /<script>/);
  });

  scene("is drawn in cells where it has chords only, and as one block where it is a tab", async () => {
    const page = await show(
      `{title: x}\n{start_of_verse: Intro}\n[G] [D] [Em] [C]\n{end_of_verse}\n{start_of_grid: Solo}\n|: G . D . | E . C . :|\n|| A . . . | D . . . |.\n{end_of_grid}\n` +
        "{start_of_tab: Riff}\ne|-----|-----|\nB|--3--|--3--|\n{end_of_tab}\n",
      { width: 390 },
    );
    const cells = await page.evaluate(() =>
      [...document.querySelectorAll(".line.cells")].map((line) =>
        [...line.querySelectorAll(".cell")].map((cell) => [...cell.querySelectorAll(".slot")].map((slot) => slot.textContent || (slot.querySelector(".dot") ? "." : "")).join(" ")),
      ),
    );
    assert.deepEqual(cells[0].map((cell) => cell.split(" ")[0]), ["G", "D", "Em", "C"]);
    assert.deepEqual(cells.slice(1), [["G . D .", "E . C ."], ["G . D .", "E . C ."], ["A . . .", "D . . ."]], "a repeat is written out");
    assert.equal(await page.locator('.cell[data-left="||"]').count(), 1);
    assert.equal(await page.locator('.cell[data-right="|."]').count(), 1);
    assert.equal(await page.locator(".line.tab").count(), 1);
    assert.equal(await page.locator(".line.tab").textContent(), "e|-----|-----|\nB|--3--|--3--|");
  });

  scene("shows comments to the instrument that they are for", async () => {
    const body = `{title: x}\n{start_of_verse}\n{comment: all}\n{comment-keys: keys only}\n[G]words\n{end_of_verse}\n`;
    const page = await show(body);
    assert.deepEqual(await page.locator(".comment").allTextContents(), ["all"]);
    await page.evaluate(() => {
      window.stage.band.members = [{ socketId: "me", instrument: "keys" }];
      window.stage.tell("members");
    });
    assert.deepEqual(await page.locator(".comment").allTextContents(), ["all", "keys only"]);
  });

  scene("shows what stands before the first verse, and what takes no time at all", async () => {
    const page = await show(`{title: x}\n{comment: capo by ear}\n${verse(1)}`);
    assert.equal(await page.locator("#song .comment").textContent(), "capo by ear");
    assert.ok(await page.evaluate(() => {
      const [comment, heading] = ["#song .comment", "#song h3"].map((name) => document.querySelector(name));
      return Boolean(comment.compareDocumentPosition(heading) & 4);
    }));
    await page.evaluate(() => window.stage.load("{title: y}\n{comment: only this}\n"));
    assert.equal(await page.locator("#song .comment").textContent(), "only this");
  });

  scene("is drawn pass by pass, with a heading for each", async () => {
    const page = await show(`{title: x}\n${verse(1)}{start_of_chorus: Chorus}\n[C]One\n{end_of_chorus}\n${verse(2)}{chorus}\n`);
    assert.deepEqual(await page.locator("h3").allTextContents(), ["Verse 1", "Chorus 1/2", "Verse 2", "Chorus 2/2"]);
    const beats = await page.locator('[data-testid="line"]').evaluateAll((lines) => lines.map(({ dataset }) => [Number(dataset.from), Number(dataset.to)]));
    assert.equal(beats.length, 10);
    beats.forEach(([from], i) => assert.equal(from, beats[i - 1]?.[1] ?? 0));
  });
});

describe("the corpus of charts", () => {
  const SONGS = new URL("../../charts/songs/", import.meta.url);

  for (const [width, size] of [[390, 20], [390, 40], [1060, 30]]) {
    scene(`is drawn within ${width} px at ${size} px, with each chord over its letter`, async () => {
      const page = await show("{title: x}", { width, view: { size, columns: 1 } });
      let chords = 0;
      for (const name of readdirSync(SONGS)) {
        const body = toChordPro(decode(readFileSync(new URL(name, SONGS)), name).text);
        await page.evaluate((text) => window.stage.load(text), body);
        for (const show of ["both", "words", "chords"]) {
          await page.evaluate((each) => window.stage.setView({ show: each }), show);
          const over = await page.evaluate(() => {
            const frame = document.querySelector(".song-frame");
            const edge = frame.getBoundingClientRect().right + 1;
            const inTab = (el) => el.closest(".tab");
            const found = [...frame.querySelectorAll(".chord, .word, .cell, .comment, .heading, .annotation")].find((el) => !inTab(el) && (el.getBoundingClientRect().right > edge || el.getBoundingClientRect().left < -1));
            return { wide: frame.scrollWidth - frame.clientWidth, found: found?.outerHTML.slice(0, 200) };
          });
          assert.deepEqual(over, { wide: 0, found: undefined }, `${name}, ${show}`);
          if (show !== "both") continue;
          try {
            chords += assertChords(await chordsAndLetters(page));
          } catch (error) {
            throw new Error(`${name}: ${error.message}`, { cause: error });
          }
        }
      }
      assert.ok(chords > 100, `${chords} chords were looked at`);
    });
  }
});

describe("scrolling", () => {
  /**
   * Records what each frame shows while the music plays: the time, the line that sounds by the timeline, and where its
   * top is.
   */
  const record = (page, ms) =>
    page.evaluate((length) => new Promise((done) => {
      const seen = [];
      const room = document.getElementById("song").getBoundingClientRect();
      const end = performance.now() + length;
      const { lines } = window.stage.song.map;
      const els = [...document.querySelectorAll('[data-testid="line"]')];
      const draw = () => {
        // The time of the animations of this frame.
        const at = document.timeline.currentTime;
        const beat = window.music.beatAt(window.stage.band.timeline, Math.floor(at * 1000)) / 1e6;
        const i = Math.max(0, lines.findLastIndex(({ from }) => from <= beat + 1e-5));
        const since = (beat - lines[i].from);
        seen.push({ at, beat, line: i, since, top: els[i].getBoundingClientRect().top - room.top, first: els[0].getBoundingClientRect().top });
        if (performance.now() < end) requestAnimationFrame(draw);
        else done(seen);
      };
      requestAnimationFrame(draw);
    }), ms);

  const anchorOf = async (page) => (await place(page)).anchor;

  /** In the first frame of each line, its top must be where it belongs. */
  function assertOnTheBeat(seen, anchor, least) {
    let count = 0;
    for (let i = 1; i < seen.length; i += 1) {
      if (seen[i].line !== seen[i - 1].line + 1) continue;
      count += 1;
      assert.ok(Math.abs(seen[i].top - anchor) <= 1, `line ${seen[i].line} is ${(seen[i].top - anchor).toFixed(2)} px off`);
    }
    assert.ok(count >= least, `${count} lines began`);
  }

  scene("brings each line to the anchor on its first beat, and rests until half of it", async () => {
    const page = await show(SONG, { width: 700, height: 600 });
    const anchor = await anchorOf(page);
    await page.evaluate(() => window.stage.at(0, { playing: true, bpm: 360 }));
    const seen = await record(page, 6500);
    assertOnTheBeat(seen, anchor, 3);
    for (const { since, top } of seen) if (since > 0.05 && since < 3.9) assert.ok(Math.abs(top - anchor) <= 0.6, `at rest, ${top - anchor} px off`);
    assert.ok(seen.some(({ since, top }) => since > 5 && top < anchor - 5), "it glides");
    for (let i = 1; i < seen.length; i += 1) assert.ok(seen[i].first <= seen[i - 1].first + 0.6, "it never scrolls back");
  });

  scene("stays exact through a ramp", async () => {
    const page = await show(SONG, { width: 700, height: 600 });
    const anchor = await anchorOf(page);
    await page.evaluate(() => window.stage.at(0, { playing: true, bpm0: 400_000, bpm1: 240_000, ramp: 5_000_000 }));
    assertOnTheBeat(await record(page, 6000), anchor, 3);
  });

  scene("follows a loop and an armed jump", async () => {
    const page = await show(SONG, { width: 700, height: 600 });
    const anchor = await anchorOf(page);
    await page.evaluate(() => {
      const from = 32e6;
      window.stage.at(40, { playing: true, bpm: 600, loop: { from, to: 48e6, p: 0 } });
    });
    await page.waitForFunction(() => window.stage.now().songBeat < 36, null, { polling: "raf" });
    await page.waitForTimeout(250);
    const looped = await place(page);
    assert.equal(looped.from, 32);
    assert.ok(Math.abs(looped.top - anchor) <= 1, `${looped.top - anchor} px off after the loop`);
    await page.evaluate(() => {
      const t0 = Math.round(performance.now() * 1000);
      const speed = { rate: 1, p0: 0, bpm0: 120_000, bpm1: 120_000, ramp: 0 };
      window.stage.set([{ t0, b0: 8e6, ...speed }, { t0: t0 + 500_000, b0: 128e6, cut: 9e6, armed: "jump", ...speed }]);
    });
    await page.waitForFunction(() => window.stage.now().songBeat >= 128, null, { polling: "raf" });
    await frames(page, 3);
    const jumped = await place(page);
    assert.equal(jumped.from, 128);
    assert.ok(Math.abs(jumped.top - anchor) <= 1, `${jumped.top - anchor} px off after the jump`);
  });

  scene("steps without gliding where motion is reduced", async () => {
    const page = await show(SONG, { width: 700, height: 600, calm: true });
    const anchor = await anchorOf(page);
    await page.evaluate(() => window.stage.at(0, { playing: true, bpm: 480 }));
    const seen = await record(page, 3500);
    const tops = seen.slice(2).map(({ top }) => top);
    assert.ok(tops.every((top) => Math.abs(top - anchor) <= 1), `${Math.min(...tops)} to ${Math.max(...tops)}`);
  });

  scene("moves nothing if the song fits, or if scrolling is off", async () => {
    const page = await show(`{title: x}\n${verse(1)}`, { width: 900, height: 900 });
    const before = await page.locator('[data-testid="line"]').first().boundingBox();
    await page.evaluate(() => window.stage.at(24, { playing: true }));
    await frames(page, 4);
    assert.deepEqual(await page.locator('[data-testid="line"]').first().boundingBox(), before);
    const off = await show(SONG, { view: { scroll: "off" }, height: 500 });
    const top = (await off.locator('[data-testid="line"]').first().boundingBox()).y;
    await off.evaluate(() => window.stage.at(64, { playing: true }));
    await frames(off, 4);
    assert.equal((await off.locator('[data-testid="line"]').first().boundingBox()).y, top);
    assert.equal(await off.locator('[aria-current="true"]').getAttribute("data-from"), "64");
  });

  scene("turns half pages: the upper one while the last line of the lower one sounds", async () => {
    const page = await show(SONG, { view: { scroll: "page", size: 24, columns: 1 }, width: 700, height: 500 });
    const shown = () => page.evaluate(() =>
      [...document.querySelectorAll(".half.shown")].map((half) => [...half.parentElement.children].indexOf(half)));
    assert.deepEqual(await shown(), [0, 1]);
    const lower = await page.evaluate(() => [...document.querySelectorAll(".half")][1].querySelectorAll('[data-testid="line"]').length);
    const upper = await page.evaluate(() => [...document.querySelectorAll(".half")][0].querySelectorAll('[data-testid="line"]').length);
    await page.evaluate((n) => window.stage.at(8 * (n - 1)), upper + lower);
    await frames(page);
    assert.deepEqual(await shown(), [1, 2], "the last line of the lower half");
    await page.evaluate((n) => window.stage.at(8 * n), upper + lower);
    await frames(page);
    assert.deepEqual(await shown(), [2, 3]);
    assert.equal(await page.locator('[aria-current="true"]').isVisible(), true);
    await page.locator(".song-frame").hover();
    await page.mouse.wheel(0, 100);
    await page.getByTestId("back-to-now").waitFor();
    assert.deepEqual(await shown(), [], "a reader scrolls through the whole song");
    await page.getByTestId("back-to-now").click();
    assert.deepEqual(await shown(), [2, 3]);
  });

  scene("marks one line, and the chord that sounds", async () => {
    const page = await show(SONG, { width: 900 });
    const marked = () => page.evaluate(() => ({
      lines: [...document.querySelectorAll('[aria-current="true"]')].map(({ dataset }) => dataset.from),
      chords: [...document.querySelectorAll(".chord.sounding")].map((el) => el.textContent),
      past: document.querySelectorAll(".line.past").length,
    }));
    await page.evaluate(() => window.stage.at(17));
    await frames(page);
    assert.deepEqual(await marked(), { lines: ["16"], chords: ["G"], past: 2 });
    await page.evaluate(() => window.stage.at(20));
    await frames(page);
    assert.deepEqual(await marked(), { lines: ["16"], chords: ["D"], past: 2 });
    await page.evaluate(() => window.stage.at(0));
    await frames(page);
    assert.deepEqual(await marked(), { lines: ["0"], chords: ["G"], past: 0 });
  });
});

describe("the own view", () => {
  scene("changes without moving the line from the anchor", async () => {
    const page = await show(SONG, { width: 700, height: 600 });
    await page.evaluate(() => window.stage.at(80));
    await settled(page);
    const { anchor } = await place(page);
    const changes = [
      { notation: "german" },
      { notation: "nashville" },
      { perSong: { one: { shift: 3, capo: 2 } } },
      { size: 40 },
      { size: 18 },
      { wrap: false },
      { show: "chords" },
      { show: "words" },
      { show: "both", wrap: true },
    ];
    for (const change of changes) {
      await page.evaluate((each) => window.stage.setView(each), change);
      await frames(page);
      const { from, top } = await place(page);
      assert.equal(from, 80);
      assert.ok(Math.abs(top - anchor) <= 1, `${JSON.stringify(change)} moves the line by ${top - anchor} px`);
    }
    await page.setViewportSize({ width: 390, height: 600 });
    await frames(page, 4);
    const narrow = await place(page);
    assert.ok(Math.abs(narrow.top - narrow.anchor) <= 1, `a resize moves the line by ${narrow.top - narrow.anchor} px`);
  });

  scene("keeps the line that is read where it is while looking elsewhere", async () => {
    const page = await show(SONG, { width: 700, height: 600 });
    await page.locator(".song-frame").hover();
    await page.mouse.wheel(0, 700);
    await page.getByTestId("back-to-now").waitFor();
    const atAnchor = () => page.evaluate(() => {
      const room = document.getElementById("song").getBoundingClientRect();
      const lines = [...document.querySelectorAll('[data-testid="line"]')];
      const line = lines.findLast((el) => el.getBoundingClientRect().top - room.top <= 0.3 * room.height + 2);
      return { from: line.dataset.from, top: line.getBoundingClientRect().top };
    });
    const before = await atAnchor();
    await page.evaluate(() => window.stage.setView({ size: 28 }));
    await frames(page);
    const now = await atAnchor();
    assert.equal(now.from, before.from);
    assert.ok(Math.abs(now.top - before.top) <= 1.5, `moved by ${now.top - before.top} px`);
  });

  scene("writes chords in the notation, key and capo of the sheet", async () => {
    const page = await show(SONG, { width: 900 });
    const chords = () => page.locator(".line").first().locator(".chord").allTextContents();
    assert.deepEqual(await chords(), ["G", "D"]);
    await page.evaluate(() => window.stage.provided.view());
    await page.getByTestId("transpose-up").click();
    await page.getByTestId("transpose-up").click();
    assert.deepEqual(await chords(), ["A", "E"]);
    await page.getByTestId("capo").selectOption("2");
    assert.deepEqual(await chords(), ["G", "D"]);
    await page.getByTestId("notation").selectOption("nashville");
    assert.deepEqual(await chords(), ["1", "5"]);
    await page.getByTestId("notation").selectOption("solfege");
    assert.deepEqual(await chords(), ["Sol", "Re"]);
    const size = () => page.evaluate(() => Number(document.getElementById("song").dataset.size));
    // Steps of two pixels, to even sizes: the automatic one may be odd.
    const was = await size();
    await page.getByTestId("size-down").click();
    const less = await size();
    assert.deepEqual([less % 2, less < was && less >= was - 2], [0, true], `${was} to ${less}`);
    await page.getByTestId("size-up").click();
    await page.getByTestId("size-up").click();
    assert.equal(await size(), less + 4);
    for (const slot of ["sound", "pedals"]) assert.equal(await page.locator(`[data-slot=${slot}]`).count(), 1);
  });

  scene("chooses the size at which nine of ten lines fit", async () => {
    const lines = [...Array(9).fill("[G]twenty letters, about"), "[G]and one line that is far too long to fit into the width that there is"];
    const page = await show(`{title: x}\n${verse(1, lines)}${verse(2, lines)}`, { width: 390, height: 600 });
    const found = await page.evaluate(() => ({
      size: Number(document.getElementById("song").dataset.size),
      wrapped: [...document.querySelectorAll(".line .ink")].filter((ink) => new Set([...ink.getClientRects()].map(({ top }) => top)).size > 1).length,
    }));
    assert.ok(found.size >= 20 && found.size <= 40);
    assert.equal(found.wrapped, 2);
  });

  scene("sets two columns on a wide screen if the song fits that way", async () => {
    const body = `{title: x}\n${[1, 2, 3, 4].map((n) => verse(n)).join("")}`;
    const page = await show(body, { width: 1440, height: 900 });
    assert.equal(await page.locator(".column").count(), 2);
    assert.deepEqual(await page.locator(".column").nth(1).locator("h3").allTextContents(), ["Verse 3", "Verse 4"]);
    const bottom = await page.locator('[data-testid="line"]').last().evaluate((el) => el.getBoundingClientRect().bottom);
    assert.ok(bottom <= 900);
    await page.evaluate(() => window.stage.setView({ columns: 1 }));
    assert.equal(await page.locator(".column").count(), 0);
  });
});

describe("looking elsewhere", () => {
  scene("shows the way back, and returns at a tap", async () => {
    const page = await show(SONG, { height: 500 });
    await page.evaluate(() => window.stage.at(64));
    await settled(page);
    const { anchor } = await place(page);
    assert.equal(await page.getByTestId("back-to-now").isVisible(), false);
    await page.locator(".song-frame").hover();
    const before = await place(page);
    await page.mouse.wheel(0, 120);
    await frames(page);
    const moved = await place(page);
    assert.ok(Math.abs(before.top - moved.top - 120) <= 1, `a wheel scrolls by ${before.top - moved.top} px`);
    assert.equal(await page.getByTestId("back-to-now").textContent(), "Back to bar 17");
    await page.getByTestId("back-to-now").click();
    await settled(page);
    assert.ok(Math.abs((await place(page)).top - anchor) <= 1);
    assert.equal(await page.getByTestId("back-to-now").isVisible(), false);
  });

  scene("returns by itself after 10 s while the music plays, never while it is stopped", async () => {
    const [playing, stopped, stays] = await Promise.all([show(SONG), show(SONG), show(SONG, { view: { returns: false } })]);
    for (const page of [playing, stays]) await page.evaluate(() => window.stage.at(0, { playing: true, bpm: 60 }));
    const scroll = (page) =>
      page.evaluate(() => {
        document.querySelector(".song-frame").dispatchEvent(new WheelEvent("wheel", { deltaY: 300, cancelable: true }));
        window.scrolledAt = performance.now();
      });
    await Promise.all([playing, stopped, stays].map(scroll));
    const took = await playing.evaluate(() => new Promise((done) => {
      const pill = document.querySelector('[data-testid="back-to-now"]');
      const look = () => (pill.hidden ? done(performance.now() - window.scrolledAt) : requestAnimationFrame(look));
      look();
    }));
    assert.ok(took >= 9990 && took < 12_000, `returned after ${took} ms`);
    await playing.waitForTimeout(1500);
    for (const page of [stopped, stays]) assert.equal(await page.getByTestId("back-to-now").isVisible(), true);
  });

  scene("scrolls with a finger from where the text is, and sizes the text with two", async () => {
    const page = await show(SONG, { width: 390, height: 700, touch: true });
    await page.evaluate(() => window.stage.at(48));
    await settled(page);
    const before = await place(page);
    const cdp = await page.context().newCDPSession(page);
    const touch = (type, ...ys) => cdp.send("Input.dispatchTouchEvent", { type, touchPoints: ys.map((y, id) => ({ x: 200, y, id })) });
    await touch("touchStart", 450);
    for (let y = 440; y >= 300; y -= 10) {
      await touch("touchMove", y);
      await frames(page, 1);
    }
    await page.waitForTimeout(300);
    await touch("touchEnd");
    const moved = await place(page);
    // The first pixels are taken for a tap.
    const way = before.top - moved.top;
    assert.ok(way >= 115 && way <= 155, `a finger that moves 150 px scrolls by ${way} px`);
    assert.equal(await page.getByTestId("back-to-now").isVisible(), true);
    const size = await page.evaluate(() => Number(document.getElementById("song").dataset.size));
    await touch("touchStart", 300, 400);
    for (let by = 5; by <= 25; by += 5) {
      await touch("touchMove", 300 - by, 400 + by);
      await frames(page, 1);
    }
    await touch("touchEnd");
    await frames(page);
    const larger = await page.evaluate(() => Number(document.getElementById("song").dataset.size));
    assert.ok(larger >= size * 1.3, `${size} px becomes ${larger} px`);
    assert.equal(await page.evaluate(() => window.visualViewport.scale), 1, "the page is not zoomed");
  });

  scene("does nothing at one tap, and jumps at two for the leader only", async () => {
    const page = await show(SONG, { touch: true });
    await page.evaluate(() => window.stage.at(0, { playing: true }));
    const line = page.locator('[data-testid="line"]').nth(2);
    const calls = () => page.evaluate(() => window.stage.band.calls);
    const tap = async (times) => {
      const { x, y, width, height } = await line.boundingBox();
      for (let i = 0; i < times; i += 1) await page.touchscreen.tap(x + width / 3, y + height / 2);
    };
    await tap(1);
    await page.waitForTimeout(500);
    assert.deepEqual(await calls(), []);
    assert.equal(await page.getByTestId("back-to-now").isVisible(), false, "a tap does not detach");
    await tap(2);
    assert.deepEqual(await calls(), [{ beat: 16, at: "bar" }]);
    await page.evaluate(() => {
      window.stage.isLeader = false;
    });
    await page.waitForTimeout(500);
    await tap(2);
    assert.equal((await calls()).length, 1);
    assert.equal(await page.evaluate(() => String(getSelection())), "", "no text is selected");
  });

  scene("shows another song that is looked at, and returns from it", async () => {
    const page = await show(SONG);
    await page.evaluate(() => {
      window.stage.setlist = { songs: [{ id: "two", title: "Harbour", body: "{title: Harbour}\n[Am]Boats\n" }] };
      window.stage.look("two");
    });
    await frames(page);
    assert.deepEqual(await page.locator(".line").allTextContents(), ["AmBoats"]);
    assert.equal(await page.locator('[aria-current="true"]').count(), 0);
    await page.getByTestId("back-to-now").click();
    await frames(page);
    assert.equal(await page.locator(".line").count(), 24);
    assert.equal(await page.locator('[aria-current="true"]').count(), 1);
  });

  scene("turns a page less two lines for a pedal", async () => {
    const page = await show(SONG, { height: 600 });
    const before = (await place(page)).top;
    await page.evaluate(() => window.stage.provided.page(1));
    await page.waitForTimeout(800);
    const way = before - (await place(page)).top;
    assert.ok(way > 300 && way < 600, `${way} px`);
    assert.equal(await page.getByTestId("back-to-now").isVisible(), true);
  });
});

describe("screens", () => {
  scene("show bar, beat, section, next section, song and words, and no controls", async () => {
    const page = await show(SONG, { query: "?view=screen", width: 1280, height: 720 });
    await page.evaluate(() => window.stage.at(18));
    await frames(page);
    const text = (id) => page.getByTestId(id).textContent();
    assert.equal(await text("bar"), "5");
    assert.equal(await text("beat"), "3");
    assert.equal(await text("current-section"), "Verse 1");
    assert.match(await text("next"), /Verse 2/);
    assert.equal(await text("song-title"), "Van at Midnight");
    assert.match(await text("wall-clock"), /\d\d:\d\d/);
    assert.equal(await page.locator('[aria-current="true"]').textContent(), "strings gone dull and the heater dead,");
    assert.equal(await page.locator("#song button, #song a, #song input").count(), 0);
  });

  scene("show two lines of words in the middle for the audience, without a ground for a stream", async () => {
    const page = await show(SONG, { query: "?view=lyrics&bg=none", width: 1280, height: 720 });
    assert.equal(await page.locator("#song").textContent(), "Van at Midnight", "the title before the song");
    await page.evaluate(() => window.stage.at(16, { playing: true }));
    await frames(page);
    assert.deepEqual(await page.locator(".words-line").allTextContents(), [
      "strings gone dull and the heater dead,",
      "still got the count-in going round my head.",
    ]);
    const found = await page.evaluate(() => {
      const boxes = [...document.querySelectorAll(".words-line")].map((el) => el.getBoundingClientRect());
      return {
        middle: (boxes[0].top + boxes.at(-1).bottom) / 2,
        align: getComputedStyle(document.querySelector(".words-line")).textAlign,
        ground: [document.documentElement, document.body].map((el) => getComputedStyle(el).backgroundColor),
        chords: document.querySelectorAll(".chord").length,
      };
    });
    assert.ok(Math.abs(found.middle - 360) < 30);
    assert.equal(found.align, "center");
    assert.deepEqual(found.ground, ["rgba(0, 0, 0, 0)", "rgba(0, 0, 0, 0)"]);
    assert.equal(found.chords, 0);
    await page.evaluate(() => window.stage.at(10_000, { playing: true }));
    await frames(page);
    assert.equal(await page.locator("#song").textContent(), "", "nothing after the song");
  });
});
