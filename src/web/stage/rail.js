// The rail: each section of the song once, with its bars and passes, then the next song. On narrow screens it is a row
// of chips above the dock.

import { STAGE, fill } from "../texts.js";
import { Reel, h, mark, write } from "./dom.js";
import { barAt, passAt } from "./model.js";

/** Times that are laid out ahead. */
const SECONDS_AHEAD = 60;

export function mountRail(stage, root, steer) {
  root.setAttribute("aria-label", STAGE.sections);
  const list = h("div", { class: "rail-list", role: "group", "aria-label": STAGE.sections, data: { testid: "sections" } });
  const place = h("span", { data: { testid: "song-of" } });
  const time = h("span", { data: { testid: "position" } });
  const times = new Reel(time);
  const nextName = h("span", { class: "name", dir: "auto" });
  const nextSong = h("button", { class: "next-song", data: { testid: "next-song" }, onclick: () => steer.toSong(1, nextSong) }, nextName);
  /** The dock puts the button *Repeat* here on narrow screens. */
  const slot = h("div", { class: "rail-slot", id: "rail-slot" });
  root.append(list, h("div", { class: "rail-foot" }, h("p", { class: "song-of" }, place, time), nextSong), slot);

  /** `{ section, passes, button, note }` in order of the first pass. */
  let rows = [];
  let shownPass = null;

  function build() {
    const map = stage.song?.map;
    const found = new Map();
    for (const [i, pass] of (map?.passes ?? []).entries()) {
      if (!found.has(pass.section)) found.set(pass.section, { section: pass.section, passes: [] });
      found.get(pass.section).passes.push({ ...pass, i });
    }
    rows = [...found.values()].map((row) => {
      const { name, from, to } = row.passes[0];
      const bars = Math.max(1, barAt(map.meter, to - 1e-6) - barAt(map.meter, from) + 1);
      const note = h("small", { class: "passes" });
      const title = fill(bars === 1 ? STAGE.bars.one : STAGE.bars.many, { n: bars });
      const button = h(
        "button",
        { data: { testid: "section", section: row.section, from, name }, title, onclick: () => steer.toSection(row.section, button) },
        h("span", { class: "name", dir: "auto" }, name || "—"),
        h("span", { class: "counts" }, h("small", { class: "bars" }, String(bars)), note),
      );
      return { ...row, button, note, bars };
    });
    list.replaceChildren(...rows.map(({ button }) => button));
    shownPass = null;
    roles();
    where();
    armed();
    songs();
  }

  function where() {
    const here = stage.now();
    const map = stage.song?.map;
    const pass = here && map ? here.pass : -1;
    if (pass === shownPass) return;
    shownPass = pass;
    const section = map?.passes[pass]?.section;
    // Reads the layout before anything changes it.
    const current = rows.find((row) => row.section === section);
    if (current) reveal(current.button);
    for (const row of rows) {
      const isCurrent = row.section === section;
      mark(row.button, "aria-current", isCurrent ? "true" : null);
      if (row.passes.length > 1) {
        const done = row.passes.filter(({ i }) => i <= pass).length;
        write(row.note, fill(STAGE.passOf, { n: Math.max(1, done), of: row.passes.length }));
      }
    }
  }

  /** Scrolls the rail alone, never the page. */
  function reveal(button) {
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    const top = button.offsetTop - (list.clientHeight - button.offsetHeight) / 2;
    const left = button.offsetLeft - (list.clientWidth - button.offsetWidth) / 2;
    list.scrollTo({ top, left, behavior });
  }

  function armed() {
    const map = stage.song?.map;
    const { armed: next } = stage;
    const section = next?.kind === "jump" && map ? map.passes[passAt(map, next.beat)]?.section : undefined;
    for (const row of rows) mark(row.button, "data-armed", row.section === section ? "true" : null);
    mark(nextSong, "data-armed", next?.kind === "song" && next.songId === stage.songAfter(1)?.id ? "true" : null);
  }

  function songs() {
    const all = stage.setlist?.songs ?? [];
    const n = all.findIndex(({ id }) => id === stage.song?.id) + 1;
    write(place, n > 0 ? fill(STAGE.songOf, { n, of: all.length }) : "");
    const next = stage.songAfter(1);
    nextSong.hidden = !next || n === 0;
    if (!next) return;
    write(nextName, fill(STAGE.nextSong, { name: next.title }));
    mark(nextSong, "aria-label", fill(STAGE.nextSongTitle, { name: next.title }));
  }

  function roles() {
    for (const { button } of rows) button.disabled = !stage.isLeader;
    // Without a button that can have the focus, a keyboard scrolls the list itself.
    mark(list, "tabindex", stage.isLeader ? null : "0");
    nextSong.disabled = !stage.isLeader;
  }

  new ResizeObserver(() => {
    const current = rows.find(({ button }) => button.hasAttribute("aria-current"));
    if (current) reveal(current.button);
  }).observe(list);
  stage.addEventListener("song", build);
  stage.addEventListener("open", build);
  stage.addEventListener("setlist", songs);
  stage.addEventListener("armed", armed);
  stage.addEventListener("members", roles);
  /** The time changes with the bar. */
  let timed = null;
  function clock({ detail: here }) {
    const ms = here && stage.band.position();
    if (ms === null) return;
    time.dataset.ms = ms;
    const bar = `${here.beat.bar} ${here.playing}`;
    if (bar === timed) return;
    timed = bar;
    times.show(clockText(ms), () => Array.from({ length: SECONDS_AHEAD }, (_, i) => clockText(ms + 1000 * i)));
  }

  stage.addEventListener("frame", where);
  stage.addEventListener("frame", clock);
}

function clockText(ms) {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  return `${ms < 0 ? "−" : ""}${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
