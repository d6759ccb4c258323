// The header: where the music is, what comes next, and who leads. Its height never changes, and the beat is drawn
// without a layout: digits and blocks are there already, only their visibility changes.

import { STAGE, fill, noteOf } from "../texts.js";
import { keyName, keysFor } from "../chart/chord.js";
import { Reel, h, mark, renewed, write } from "./dom.js";
import { barAt, feltHere, nameOf } from "./model.js";
import { armedText, tempoText } from "./steer.js";

const BEATS_MOST = 32;
/** Bars that are laid out ahead. */
const BARS_AHEAD = 24;
const SLOW_MS = 500;
/** A bound over this is no clock at all. Guessed. */
const UNKNOWN_MS = 10_000;
/** An armed tempo is announced this many bars ahead. */
const TEMPO_NEWS_BARS = 8;

export function mountHeader(stage, root, steer) {
  const { band } = stage;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  // No outputs: screen readers would say each one.
  const bar = h("span", { data: { testid: "bar" } });
  const beat = h("span", { class: "beat", data: { testid: "beat" } });
  const [bars, beats] = [new Reel(bar), new Reel(beat)];
  const pulse = h("div", { class: "pulse", "aria-hidden": "true" });
  const section = h("b", { class: "section-name", dir: "auto", data: { testid: "current-section" } });
  const of = new Reel(h("span", { class: "of", data: { testid: "section-bar" } }));
  let next = h("span", { class: "next", data: { testid: "next" } });
  const cancel = h("button", { class: "armed", data: { testid: "armed" }, hidden: true, onclick: () => steer.cancel(cancel) });
  const title = h("h1", { class: "title", dir: "auto", tabindex: "-1", data: { testid: "song-title" } });
  const key = h("output", { class: "key", data: { testid: "key" } });
  const note = h("span", { class: "note" }, noteOf(1, 4));
  const unknown = h("small", { data: { testid: "tempo-unknown" }, hidden: true }, STAGE.tempoUnknown);
  const tempo = h("span", { data: { testid: "tempo" } });
  let clock = h("span", { class: "clock", title: STAGE.clockTitle, data: { testid: "clock" } });
  const people = h("span", { class: "count", data: { testid: "member-count" } });
  const members = h("button", { class: "members-open quiet", data: { testid: "members-open" }, onclick: () => stage.call("members") }, h("i", { class: "sync-dot" }), people);
  const role = h("p", { class: "role", data: { testid: "role" } });
  root.append(
    h("p", { class: "place", role: "group", "aria-label": STAGE.place }, bar, h("span", { class: "mid" }, "·"), beat),
    pulse,
    h("p", { class: "where" }, section, of.el, next, cancel),
    h("div", { class: "what" }, title, key, h("p", { class: "bpm", title: STAGE.tempoTitle }, note, "=", tempo, " ", unknown)),
    h("div", { class: "people-now" }, clock, members),
    role,
    h("i", { class: "away-line", "aria-hidden": "true" }),
  );

  let drawn = "";
  let blocks = [];
  let lit = null;
  let fade = null;
  let slowAt = -Infinity;
  let lastTempo = null;

  function frame({ detail: here }) {
    const at = performance.now();
    if (at - slowAt > SLOW_MS) {
      slowAt = at;
      slow();
    }
    if (!here) return;
    // In 6/8 the beats within a big one change nothing that is drawn.
    if (beat.dataset.beat !== String(here.beat.beat)) beat.dataset.beat = here.beat.beat;
    const felt = feltHere(stage, here);
    const big = Math.floor((here.beat.beat - 1) / felt) + 1;
    const tempoNow = (steer.wanted ?? here.beat.tempoBpm) / felt;
    // During a ramp decimals would only flicker.
    const digitsOfTempo = tempoNow === lastTempo ? 10 : 1;
    lastTempo = tempoNow;
    const tempoWords = tempoText(Math.round(tempoNow * digitsOfTempo) / digitsOfTempo);
    const state = `${here.beat.bar} ${big} ${here.beat.num}/${here.beat.den} ${here.playing} ${here.pass} ${tempoWords} ${here.beat.pass}`;
    if (state === drawn) return;
    drawn = state;
    const barText = String(here.beat.bar);
    bars.show(barText, () => numbers(here.beat.bar, BARS_AHEAD).filter((text) => text.length === barText.length));
    bar.dataset.bar = here.beat.bar;
    beats.show(String(Math.min(BEATS_MOST, big)), () => numbers(1, BEATS_MOST));
    beat.dataset.of = here.beat.num;
    tempo.dataset.bpm = here.beat.tempoBpm;
    write(note, noteOf(felt, here.beat.den));
    write(tempo, tempoWords);
    // Until somebody sets another one.
    const map = stage.song?.map;
    unknown.hidden = !map?.tempoGuessed || here.beat.tempoBpm !== map.tempos[0].bpm;
    showPulse(here, felt, big);
    showWhere(here);
  }

  function showPulse(here, felt, big) {
    const wanted = Math.ceil(here.beat.num / felt);
    if (blocks.length !== wanted) {
      blocks = Array.from({ length: wanted }, () => h("i", {}, h("b")));
      pulse.replaceChildren(...blocks);
      pulse.style.setProperty("--blocks", wanted);
    }
    fade?.cancel();
    lit?.classList.remove("lit");
    lit = here.playing ? blocks[big - 1] : null;
    if (!lit) return;
    lit.classList.add("lit");
    if (calm.matches || !lit.firstChild.animate) return;
    const duration = (60_000 * felt) / here.beat.tempoBpm;
    fade = lit.firstChild.animate([{ opacity: 1 }, { opacity: 0.25 }], { duration, easing: "ease-in" });
  }

  function showWhere(here) {
    const map = stage.song?.map ?? null;
    const pass = map?.passes[here.pass];
    const isOver = Boolean(map) && map.passes.length > 0 && here.songBeat >= map.beats;
    const called = here.beat.countIn ? STAGE.countIn : isOver ? STAGE.end : (pass?.name ?? "");
    let [n, total] = [0, 0];
    if (pass && !here.beat.countIn) {
      const from = barAt(map.meter, pass.from);
      total = Math.max(1, barAt(map.meter, pass.to - 1e-6) - from + 1);
      n = Math.min(total, Math.max(1, barAt(map.meter, here.songBeat + 1e-6) - from + 1));
    }
    mark(bar, "data-guessed", map?.guessed ? "true" : null);
    mark(bar, "title", map?.guessed ? STAGE.guessed : null);
    const following = map?.passes[here.pass + 1]?.name;
    const song = stage.songAfter(1)?.title;
    const loops = here.beat.pass > 0 && stage.loop !== null;
    const name = loops ? pass?.name : isOver ? song : following || (pass && song ? fill(STAGE.then, { name: song }) : "");
    const nextText = loops ? `⟳ ${times(Math.max(1, here.beat.pass))}` : name ? fill(STAGE.next, { name }) : "";
    if (section.textContent !== called || next.textContent !== nextText) {
      // New elements appear where the old ones would have moved: no layout shift.
      of.renew();
      next = renewed(next);
    }
    write(section, called);
    const barOf = (k) => (total === 0 ? "" : fill(STAGE.barOf, { n: k, of: total }));
    of.show(barOf(n), () => numbers(1, total).map(barOf));
    write(next, nextText);
    mark(next, "data-loop", loops ? here.beat.pass : null);
    showArmed();
  }

  function showArmed() {
    const { armed } = stage;
    const text = armed && isNews(armed) ? armedText(stage, armed) : "";
    const isShown = text !== "";
    if (cancel.hidden === isShown) {
      cancel.hidden = !isShown;
      next.hidden = isShown;
    }
    write(cancel, text);
    cancel.disabled = !stage.isLeader;
    mark(cancel, "data-kind", armed?.kind ?? null);
    mark(cancel, "aria-label", isShown && stage.isLeader ? fill(STAGE.cancelArmed, { what: text }) : null);
  }

  function isNews({ kind, at }) {
    const here = stage.now();
    if (kind !== "tempo") return true;
    const bars = ((at - band.clock.now()) * here.beat.tempoBpm) / 60_000 / here.beat.num;
    return bars <= TEMPO_NEWS_BARS;
  }

  /** What changes with nothing that is drawn: quality of the clock and connection. */
  function slow() {
    const { quality, bound } = band.clock;
    clock.dataset.quality = quality;
    clock.dataset.boundMs = bound;
    const isAway = !stage.isOnline && stage.isOpen;
    const poor = quality === "loose" || quality === "lost";
    const away = band.status === "connecting" ? STAGE.connecting : STAGE.offline;
    const words = isAway ? away : poor ? fill(STAGE.quality[bound < UNKNOWN_MS ? quality : "none"], { ms: Math.round(bound) }) : "";
    if (clock.textContent !== words) {
      // Its left edge depends on its width.
      clock = renewed(clock);
      write(clock, words);
    }
    mark(clock, "data-away", isAway);
    mark(clock, "data-poor", poor);
  }

  function song() {
    const now = stage.song;
    const bars = now?.map ? barAt(now.map.meter, now.map.beats) : 0;
    root.style.setProperty("--bar-digits", bars >= 100 ? 3 : 2);
    write(title, now ? now.title : STAGE.noSong);
    document.title = now ? fill(STAGE.pageTitle, { song: now.title }) : STAGE.appName;
    title.classList.toggle("none", !now);
    showKey();
    drawn = "";
  }

  function showKey() {
    const { song: now, view } = stage;
    if (!now?.chart) return write(key, now?.key ?? "");
    const { sounds, plays, capo } = keysFor(now.chart, { ...view, ...view.perSong?.[now.id] });
    if (!sounds.text) return write(key, "");
    const name = keyName(sounds, 0, view.notation);
    const text = sounds.guessed ? fill(STAGE.keyGuessed, { key: name }) : name;
    const own = plays ? keyName(plays, 0, view.notation) : name;
    if (own === name) return write(key, text);
    const parts = [fill(STAGE.keySounds, { key: text }), fill(capo > 0 ? STAGE.keyCapo : STAGE.keyOwn, { own, capo })];
    // Narrow screens show only the second.
    if (key.textContent !== parts.join(" · ")) key.replaceChildren(h("span", { class: "sounds" }, `${parts[0]} · `), parts[1]);
    return undefined;
  }

  function showMembers() {
    const n = band.memberCount;
    write(people, n > 0 ? String(n) : "");
    mark(members, "aria-label", fill(STAGE.membersOpen, { n }));
    members.dataset.count = n;
    root.dataset.role = stage.isLeader ? "leader" : "follower";
    const { leader } = band;
    if (stage.isLeader) return write(role, STAGE.youLead);
    if (!leader) return write(role, STAGE.nobodyLeads);
    // A name may be written in any direction.
    const [before, after] = STAGE.leads.split("{name}");
    if (role.textContent !== before + nameOf(leader) + after) role.replaceChildren(before, h("bdi", {}, nameOf(leader)), after);
    return undefined;
  }

  stage.addEventListener("frame", frame);
  stage.addEventListener("song", song);
  stage.addEventListener("setlist", () => {
    drawn = "";
  });
  stage.addEventListener("view", showKey);
  for (const type of ["armed", "timeline"]) {
    stage.addEventListener(type, () => {
      drawn = "";
    });
  }
  stage.addEventListener("members", showMembers);
  stage.addEventListener("status", slow);
  stage.addEventListener("open", () => {
    song();
    showMembers();
    slow();
  });
}

/** `n` numbers from `first` on, as texts. */
const numbers = (first, n) => Array.from({ length: n }, (_, i) => String(first + i));

const ordinal = new Intl.PluralRules("en", { type: "ordinal" });

/** “3rd time” */
export const times = (n) => fill(STAGE.looping[ordinal.select(n)], { n });
