// What this browser keeps: the last set lists, and all songs that it saw or made.

import { SONGS, fill } from "../texts.js";
import { h } from "./dom.js";

/** Maximum number of songs that are listed at once; the field finds the others. Guessed. */
const SHOWN_MAX = 200;
const UNDO_S = 10;

/**
 * Opens the sheet.
 * @param {import("./model.js").Stage} stage
 * @param {import("./library.js").Library} library
 * @param {{ onLoad: (list: object) => void, onAdd: (song: object) => Promise<void> }} options a list replaces that of
 *   the band; a song is added to it
 */
export async function openShelf(stage, library, { onLoad, onAdd }) {
  const [lists, songs] = [await library.lists(), await library.songs()];
  const panel = h("div", { class: "songs-more", data: { testid: "songs-more-panel" } });
  const load = (list) => {
    stage.closeSheet(panel);
    onLoad({ title: list.title, songs: list.songs.filter(({ body }) => body !== undefined) });
  };
  const hint = (text) => h("p", { class: "hint" }, text);
  panel.append(
    h("h3", {}, SONGS.lastLists),
    lists.length > 0
      ? h("ul", { class: "library-list" }, ...lists.map((list) => listRow(stage, list, load)))
      : hint(SONGS.noLists),
    h("h3", {}, SONGS.mySongs),
    ...(songs.length > 0 ? songRows(stage, library, songs, onAdd) : [hint(SONGS.noSongs)]),
    ...(library.isKept ? [] : [hint(SONGS.notKept)]),
  );
  stage.openSheet(panel, { title: SONGS.thisBrowser });
}

const names = (title, below) => h("span", { class: "song-names" }, h("bdi", { class: "song-title" }, title), below);

function listRow(stage, list, load) {
  const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const { length: n } = list.songs;
  const about = [fill(n === 1 ? SONGS.oneSong : SONGS.countSongs, { n }), list.sessionId, dates.format(list.at)].join(" · ");
  const button = h(
    "button",
    { disabled: !stage.isLeader, data: { testid: "last-list-load" }, onclick: () => load(list) },
    SONGS.loadList,
  );
  return h(
    "li",
    { data: { testid: "last-list" } },
    names(list.title || SONGS.untitledList, h("span", { class: "hint" }, about)),
    button,
  );
}

/** A field that finds songs, and the songs that it found. */
function songRows(stage, library, songs, onAdd) {
  const found = h("ul", { class: "library-list" });
  const search = h("input", {
    type: "search",
    placeholder: SONGS.search,
    "aria-label": SONGS.search,
    data: { testid: "library-search" },
  });
  const show = () => {
    const words = search.value.toLowerCase();
    const fits = songs.filter(({ title, artist = "" }) => `${title} ${artist}`.toLowerCase().includes(words));
    found.replaceChildren(...fits.slice(0, SHOWN_MAX).map((song) => songRow(stage, library, song, onAdd)));
  };
  search.addEventListener("input", show);
  show();
  return [search, found];
}

function songRow(stage, library, song, onAdd) {
  const isListed = stage.songById(song.id) !== null;
  const add = h(
    "button",
    { disabled: isListed, data: { testid: "library-add" } },
    isListed ? SONGS.listed : SONGS.addToList,
  );
  add.addEventListener("click", () => {
    add.disabled = true;
    onAdd(song);
  });
  const label = fill(SONGS.forget, { title: song.title });
  const forget = h("button", { class: "quiet", "aria-label": label, data: { testid: "library-forget" } }, "✕");
  const below = h("bdi", { class: "song-artist" }, song.artist ?? "");
  const item = h("li", { data: { testid: "library-song" } }, names(song.title, below), add, forget);
  forget.addEventListener("click", () => {
    item.remove();
    library.removeSong(song.id);
    const action = { text: SONGS.undo, run: () => library.keepSongs([song], { isMade: song.isMade }) };
    stage.toast(fill(SONGS.forgotten, { title: song.title }), { plain: true, seconds: UNDO_S, action });
  });
  return item;
}
