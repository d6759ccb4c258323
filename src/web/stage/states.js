// States that stand over the song: no songs, a text on its way, the count-in, the end of the song, a lost connection, a
// seat that another device took. Nothing of it pushes the song.

import { STAGE, fill } from "../texts.js";
import { h, mark, write } from "./dom.js";
import { nameOf } from "./model.js";
import { remark, speakIn } from "./say.js";

/** Specified. */
const FETCHING_MS = 400;
const TRY_AGAIN_MS = 5000;
const AMBER_MS = 10_000;
const TOAST_SECONDS = 4;
const NAMES_MOST = 20;

export function mountStates(stage, root, steer) {
  const { band } = stage;
  const top = document.getElementById("stage");
  speakIn(document.getElementById("say"));

  // ---- empty

  const files = h("input", { type: "file", multiple: true, class: "unseen", tabindex: "-1", "aria-hidden": "true", onchange: () => {
    stage.call("song-import", [...files.files]);
    files.value = "";
  } });
  const emptyText = h("p", { data: { testid: "empty-text" } });
  const here = h("p", { class: "here", data: { testid: "empty-members" } });
  const paste = h("button", { class: "primary", data: { testid: "empty-paste" }, onclick: () => stage.call("song-add") }, STAGE.emptyPaste);
  const choose = h("button", { data: { testid: "empty-files" }, onclick: () => files.click() }, STAGE.emptyFiles);
  const demo = h("button", { data: { testid: "demo" }, onclick: () => addDemo(demo) }, STAGE.emptyDemo);
  const list = h("button", { class: "primary", data: { testid: "empty-songs" }, onclick: () => stage.call("songs") }, STAGE.chooseOpen);
  const again = h("button", { data: { testid: "try-again" }, hidden: true, onclick: () => stage.fetchSongs() }, STAGE.tryAgain);
  const empty = h("div", { class: "empty", data: { testid: "empty" }, hidden: true }, emptyText, here, h("div", { class: "row" }, paste, choose, demo, list, again), files);
  let fetchingSince = null;

  function showEmpty() {
    const { song, setlist, isLeader } = stage;
    const none = (setlist?.songs.length ?? 0) === 0;
    const isFetching = song !== null && song.body === null;
    fetchingSince = isFetching ? (fetchingSince ?? performance.now()) : null;
    const waited = isFetching ? performance.now() - fetchingSince : 0;
    let text = "";
    if (isFetching) text = waited > FETCHING_MS ? STAGE.fetching : "";
    else if (song) text = song.chart ? "" : STAGE.unreadable;
    else if (!band.snapshot) text = "";
    else if (none && (isLeader || stage.mayEdit)) text = STAGE.emptyLeader;
    else if (isLeader) text = STAGE.chooseLeader;
    else if (band.leader) text = fill(STAGE.emptyFollower, { leader: nameOf(band.leader) });
    else text = STAGE.emptyNobody;
    empty.hidden = text === "";
    write(emptyText, text);
    // While all wait for a song.
    const names = text === "" || song || isLeader ? [] : band.members.slice(0, NAMES_MOST);
    const others = band.memberCount - names.length;
    here.hidden = names.length === 0;
    here.replaceChildren(STAGE.emptyHere, ...names.flatMap((member, i) => [i > 0 ? ", " : " ", h("bdi", {}, nameOf(member))]));
    if (others > 0) here.append(" ", fill(others === 1 ? STAGE.others.one : STAGE.others.many, { n: others }));
    const offers = text === STAGE.emptyLeader;
    for (const el of [paste, choose, demo]) el.hidden = !offers;
    list.hidden = text !== STAGE.chooseLeader;
    again.hidden = !(isFetching && waited > TRY_AGAIN_MS);
    mark(top, "data-empty", text === "" ? null : "true");
  }

  /** Adds our own song to the list, and selects it. */
  async function addDemo(source) {
    const add = async () => {
      const { demoSong } = await import("./demo.js");
      const song = demoSong();
      await band.editSetlist([{ op: "add", song }]);
      return song;
    };
    const adding = add();
    const done = await stage.command(adding, { source });
    if (done && stage.isLeader) await stage.command(band.selectSong((await adding).id), { source });
  }
  stage.provide("demo", () => addDemo(demo));

  // ---- the end

  const endText = h("p", {});
  const go = h("button", { class: "primary", data: { testid: "end-next" }, onclick: () => steer.toSong(1, go) });
  const end = h("div", { class: "notice ended", role: "status", data: { testid: "ended" }, hidden: true }, endText, go);
  let ended = null;

  function showEnd(here) {
    const map = stage.song?.map;
    const isOver = Boolean(here && map && map.passes.length > 0 && here.songBeat >= map.beats);
    const next = isOver ? stage.songAfter(1) : null;
    const state = isOver ? `${next?.id} ${next?.title} ${stage.isLeader}` : null;
    if (state === ended) return;
    ended = state;
    const isLast = isOver && !next && (stage.setlist?.songs.length ?? 0) > 1;
    end.hidden = !next && !isLast;
    if (end.hidden) return;
    write(endText, next ? fill(STAGE.endNext, { song: next.title }) : STAGE.endLast);
    go.hidden = !next || !stage.isLeader;
    if (next) write(go, fill(STAGE.goNext, { song: next.title }));
  }

  // ---- what comes next, for a follower's phone

  const upNext = h("p", { class: "up-next", dir: "auto", "aria-hidden": "true", data: { testid: "up-next" } });
  let nextShown = "";
  function showNext(here) {
    const state = `${here?.pass} ${stage.song?.id} ${stage.song?.revision} ${stage.setlist?.revision}`;
    if (state === nextShown) return;
    nextShown = state;
    const map = stage.song?.map;
    const name = map?.passes[(here?.pass ?? -1) + 1]?.name;
    const song = stage.songAfter(1)?.title;
    const isPlaced = map && here && here.pass >= 0;
    if (!isPlaced) write(upNext, "");
    else if (name && song) write(upNext, fill(STAGE.upNextThen, { name, song }));
    else write(upNext, name || song ? fill(STAGE.upNext, { name: name || song }) : "");
  }

  // ---- what a screen reader says: the song, and each section that begins

  let said = { song: null, pass: null };
  function say(here) {
    const { song } = stage;
    const id = song?.id ?? null;
    const pass = here?.playing && !here.beat.countIn ? here.pass : null;
    const isNew = id !== said.song;
    if (!isNew && (pass === null || pass === said.pass)) return;
    said = { song: id, pass: pass ?? (isNew ? null : said.pass) };
    const words = [isNew && song?.title, pass !== null && song?.map?.passes[pass]?.name].filter(Boolean);
    if (words.length > 0) remark(words.join(": "));
  }

  // ---- the connection

  const banner = h("p", { class: "unseen", role: "status", data: { testid: "banner" } });
  let awaySince = null;

  function showStatus() {
    const isAway = stage.isOpen && !stage.isOnline && band.status !== "closed";
    if (!isAway) awaySince = null;
    else awaySince ??= performance.now();
    const isLong = isAway && performance.now() - awaySince > AMBER_MS;
    mark(top, "data-connection", isAway ? (isLong ? "lost" : "away") : null);
    banner.dataset.state = isAway ? (isLong ? "lost" : "away") : "online";
    write(banner, isAway ? STAGE.offline : "");
  }

  // ---- the seat is taken

  const gone = document.getElementById("gone");
  const comeBack = h("button", { class: "primary big", data: { testid: "come-back" }, onclick: async () => {
    gone.hidden = true;
    top.inert = false;
    try {
      await band.join();
    } catch (error) {
      stage.call("close-stage", stage.reason(error));
    }
  } }, STAGE.comeBack);
  const goneText = h("p", { id: "gone-text" }, STAGE.replaced);
  gone.append(h("div", { role: "alertdialog", "aria-labelledby": "gone-text", data: { testid: "gone" } }, goneText, comeBack));
  band.addEventListener("replaced", () => {
    if (!stage.isOpen) return;
    gone.hidden = false;
    top.inert = true;
    comeBack.focus({ preventScroll: true });
  });

  // ---- toasts

  const toastText = h("span", {});
  const toastAct = h("button", { class: "quiet", hidden: true });
  const toast = h("div", { class: "toast", role: "alert", data: { testid: "toast" }, hidden: true }, toastText, toastAct);
  document.getElementById("toasts").append(toast);
  let toastTimer = null;
  let act = null;
  const hideToast = () => {
    clearTimeout(toastTimer);
    toast.hidden = true;
  };
  toastAct.addEventListener("click", () => {
    hideToast();
    act?.();
  });
  toast.addEventListener("click", hideToast);
  stage.addEventListener("toast", ({ detail: { text, plain = false, action, seconds = TOAST_SECONDS } }) => {
    clearTimeout(toastTimer);
    toast.hidden = text === "";
    // A toast of another size that takes the place of one that is shown appears anew, and does not move.
    toast.parentNode.append(toast);
    toast.classList.toggle("plain", plain);
    toastText.textContent = text;
    act = action?.run ?? null;
    toastAct.hidden = !action;
    toastAct.textContent = action?.text ?? "";
    if (seconds > 0) toastTimer = setTimeout(hideToast, seconds * 1000);
  });
  let isDraining = false;
  band.addEventListener("error", ({ detail }) => {
    if (detail?.code === "draining") isDraining = true;
    else if (detail?.code && detail.code !== "replaced") stage.toast(stage.reason(detail));
  });
  band.addEventListener("status", ({ detail }) => {
    if (detail === "reconnecting" && isDraining) stage.toast(stage.reason({ code: "draining" }), { plain: true });
    isDraining = false;
  });

  // The sections of the song are headings below this one.
  document.getElementById("song").before(h("h2", { class: "unseen" }, STAGE.chart));
  root.append(empty, end, upNext, banner);

  let slowAt = -Infinity;
  stage.addEventListener("frame", ({ detail: here }) => {
    showEnd(here);
    showNext(here);
    say(here);
    if (here) {
      mark(top, "data-playing", String(here.playing));
      top.dataset.beat = here.songBeat;
    }
    if (performance.now() - slowAt < 200) return;
    slowAt = performance.now();
    showStatus();
    if (fetchingSince !== null) showEmpty();
  });
  for (const type of ["song", "setlist", "members", "open"]) {
    stage.addEventListener(type, () => {
      showEmpty();
      top.dataset.song = stage.song?.id ?? "";
      // Neither is a state that is shown: both are drawn again.
      ended = nextShown = undefined;
    });
  }
  stage.addEventListener("status", showStatus);
  stage.addEventListener("close", () => {
    gone.hidden = true;
    top.inert = false;
    hideToast();
    end.hidden = true;
    awaySince = null;
  });
}
