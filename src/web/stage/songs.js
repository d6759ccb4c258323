// The list of songs: a sheet with the set list, where songs are looked at, selected, added, moved and removed.
//
// The list is the server's. An edit is sent, and the rows change when it comes back; only a dragged row lies where it
// was dropped until then. Nothing asks “are you sure?”: what was removed can be brought back for ten seconds.

import { SONGS, fill, noteOf } from "../texts.js";
import { Reordering } from "./drag.js";
import { h, icon, mark, write } from "./dom.js";
import {
  bandSong,
  clockText,
  durationOf,
  excessOf,
  inPieces,
  moveBy,
  moveTo,
  newSongId,
  restored,
  totalDuration,
} from "./edits.js";
import { BandKey } from "./bandkey.js";
import { Editor } from "./editor.js";
import { formatName, listFile, readFiles, readText, save, songFile, songOf, takeDrops } from "./files.js";
import { Library, bareSong } from "./library.js";
import { guard } from "./press.js";
import { remark } from "./say.js";
import { openShelf } from "./shelf.js";
import { mountTiming } from "./timing.js";

/** Time within which a removal can be undone. Specified. */
const UNDO_S = 10;
/** Pause after a change of the list before it is kept in the library. Guessed. */
const KEEP_MS = 1000;
/** Width from which the sheet leaves room for the song beside it. */
const BESIDE_PX = 900;
/** Age up to which a draft is offered when the page opens. Guessed: a gig. */
const DRAFT_AGE_MS = 12 * 3_600_000;
/** Time for reading charts at a stretch. Guessed: half a frame. */
const READ_MS = 8;
/** Refusals that are named in a toast; the rest is counted. */
const REFUSALS_SHOWN = 3;

const DOTS = "M6 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4zm6 0a2 2 0 1 1 0 4 2 2 0 0 1 0-4zm6 0a2 2 0 1 1 0 4 2 2 0 0 1 0-4z";
const GRIP = "M4 8h16v1.6H4zm0 3.2h16v1.6H4zm0 3.2h16V16H4z";

/** The room's styles, which its mounting needs. */
export const STYLE = new URL("../css/songs.css", import.meta.url).href;

/** Mounts the room. It provides `songs`, `song-add`, `song-import`, `song-edit` and `timing`. */
export function mountSongs(stage) {
  return new SongsRoom(stage);
}

class SongsRoom {
  #stage;
  /** The Library; until it is open, a promise. */
  #library;
  #editor;
  #root;
  #rows = new Map();
  /** The order of the rows while a move is on its way. */
  #order = null;
  #expanded = null;
  #drawn = false;
  #keeping = null;
  #drafts = [];
  /** What the rows show of charts: `{ body, guessed, tempoGuessed, felt }` by song id. */
  #timings = new Map();
  #isReading = false;
  /** Whether a draft was offered on this page. */
  #isOffered = false;
  #el = {};

  constructor(stage) {
    this.#stage = stage;
    this.#library = Library.open();
    this.#editor = new Editor(stage, this.#library);
    stage.bandKey = new BandKey(stage);
    stage.dispatchEvent(new Event("band-key"));
    this.#build();
    stage.provide("songs", () => this.open());
    stage.provide("song-add", (text) => this.add(text));
    stage.provide("song-import", (files) =>
      files?.length > 0 ? this.importFiles([...files]) : this.#el.input.click(),
    );
    stage.provide("song-edit", (songId, options) => this.edit(songId, options));
    mountTiming(stage);
    for (const type of ["setlist", "song", "members", "armed", "status", "look"])
      stage.addEventListener(type, () => this.#draw());
    stage.addEventListener("setlist", () => this.#keepLater());
    stage.addEventListener("close", () => clearTimeout(this.#keeping));
    const offer = () => {
      this.#offerDraft();
      this.#offerList();
    };
    stage.addEventListener("open", offer);
    if (stage.isOpen) offer();
    this.#editor.addEventListener("drafts", () => this.#loadDrafts());
    takeDrops({
      isOpen: () => stage.isOpen && !stage.isScreen,
      onFiles: (files) => this.importFiles(files),
      onText: (text) => this.#editor.paste(text) || this.add(text),
    });
    this.#library.then(async (library) => {
      for (const { id, body } of await library.mine()) stage.keeper.setMine(id, body);
      this.#loadDrafts();
    });
  }

  /** Opens the list. */
  open() {
    this.#expanded = null;
    this.#drawNow();
    this.#stage.openSheet(this.#root, { title: SONGS.title, testid: "songs-sheet" });
    this.#rows.get(this.#stage.song?.id)?.el.scrollIntoView({ block: "center" });
  }

  /** Opens the editor for a new song, with a text that was pasted. */
  add(text = "") {
    if (this.#stage.isScreen) return;
    const read = text.trim() === "" ? null : readText(text);
    if (read && read.songs.length > 1) {
      this.#put(
        read.songs.map(({ title, body, source }) => ({
          ...songOf(newSongId(), body, { title }),
          source,
          from: read.format,
        })),
      );
      return;
    }
    this.#editor.open({ id: newSongId(), isNew: true, pasted: text });
  }

  /** Opens the editor for a song of the list. @param {{ taps?: boolean }} [options] whether its lines are to be tapped */
  edit(songId, options = {}) {
    const song = this.#stage.songById(songId);
    if (song) this.#editor.open({ id: songId, song, ...options });
  }

  /** Adds the songs of files to the list. */
  async importFiles(files) {
    const { title, songs, refused } = await readFiles(files);
    const notes = refusals(refused);
    if (songs.length === 0) return void this.#stage.toast(notes, { seconds: UNDO_S });
    const library = await this.#library;
    const listed = new Set(this.#songs().map(({ id }) => id));
    for (const song of songs) {
      const known = await library.findSong(song);
      // A song of another evening keeps its id, and with it what members keep for it.
      if (known && !listed.has(known.id)) song.id = known.id;
      listed.add(song.id);
    }
    const isFirst = this.#songs().length === 0 && title !== null;
    const more = isFirst ? [{ op: "retitle", title: title.slice(0, 200) }] : [];
    return void (await this.#put(songs, { more, notes }));
  }

  #songs() {
    return this.#stage.setlist?.songs ?? [];
  }

  /**
   * Adds songs for the band, or without the right for this member only. Says which formats were found.
   * @param {{ more?: object[], notes?: string }} [options] further operations, and a text to show with the result
   */
  async #put(songs, { more = [], notes = "" } = {}) {
    const library = await this.#library;
    await library.keepSongs(songs, { isMade: true });
    // What this member adds now is what it wants to see.
    for (const { id } of songs) {
      await library.dropMine(id);
      this.#stage.keeper.setMine(id, null);
    }
    const say = (text, action) =>
      this.#stage.toast(`${text} ${notes}`.trim(), { plain: true, seconds: UNDO_S, action });
    if (!this.#stage.mayEdit) return void say(`${this.#noRight()} ${fill(SONGS.keptHere, { n: songs.length })}`);
    // In pieces a part of them would be added before the server refuses the rest.
    const excess = excessOf([...this.#songs(), ...songs]);
    if (excess) return void say(`${this.#stage.reason(excess)} ${fill(SONGS.keptHere, { n: songs.length })}`);
    const ops = [...songs.map((song) => ({ op: "add", song: bareSong(song) })), ...more];
    if (!(await this.#apply(ops))) return undefined;
    const named = songs
      .slice(0, 3)
      .map(({ title, from }) => (from && from !== "chordpro" ? `${title} (${formatName(from)})` : title));
    const names = named.join(", ") + (songs.length > 3 ? fill(SONGS.andMore, { n: songs.length - 3 }) : "");
    const run = () => this.#takeBack(songs.map(({ id }) => id));
    return void say(fill(SONGS.added, { names }), { text: SONGS.undo, run });
  }

  /** Removes songs that were just added. */
  #takeBack(ids) {
    const ops = ids
      .map((id) => this.#stage.songById(id))
      .filter(Boolean)
      .map(({ id, revision }) => ({ op: "remove", songId: id, was: revision }));
    this.#apply(ops);
  }

  #noRight() {
    const { leader } = this.#stage.band;
    return leader ? fill(SONGS.noRight, { leader: leader.displayName || SONGS.somebody }) : SONGS.noRightNoLeader;
  }

  /** Sends operations, in pieces if they are many. Resolves with whether all were applied. */
  async #apply(ops, options) {
    for (const piece of inPieces(ops)) {
      if (!(await this.#stage.command(this.#stage.band.editSetlist(piece), options))) return false;
    }
    return true;
  }

  // The sheet.

  #build() {
    const el = this.#el;
    el.title = h("button", {
      class: "setlist-title",
      data: { testid: "setlist-title" },
      onclick: () => this.#retitle(),
    });
    el.sum = h("p", { class: "setlist-sum", data: { testid: "setlist-sum" } });
    el.drafts = h("ul", { class: "song-drafts", hidden: true });
    el.list = h("ol", { class: "song-list", data: { testid: "song-list" } });
    el.empty = h("div", { class: "songs-empty", hidden: true });
    el.input = h("input", {
      type: "file",
      multiple: true,
      class: "unseen",
      id: "song-import",
      data: { testid: "song-import" },
      onchange: () => {
        const files = [...el.input.files];
        el.input.value = "";
        if (files.length > 0) this.importFiles(files);
      },
    });
    const button = (text, testid, run, props = {}) => h("button", { ...props, data: { testid }, onclick: run }, text);
    el.add = button(`+ ${SONGS.add}`, "song-add", () => this.add(), { class: "primary" });
    el.import = h("label", { class: "button", for: "song-import" }, el.input, h("span", {}, SONGS.import));
    el.save = button(SONGS.saveList, "setlist-save", () => this.#saveList());
    el.fresh = button(SONGS.newList, "setlist-new", () => this.#newList());
    el.more = button("", "songs-more", () => this.#more(), { class: "icon", "aria-label": SONGS.more });
    el.more.append(icon(DOTS));
    el.note = h("p", { class: "songs-note hint" });
    this.#root = h(
      "div",
      { class: "songs", data: { testid: "songs" } },
      h("header", { class: "setlist-head" }, el.title, el.sum),
      el.drafts,
      el.list,
      el.empty,
      el.note,
      h("footer", { class: "songs-bar" }, el.add, el.import, el.save, el.fresh, el.more),
    );
    new Reordering(el.list, {
      mayMove: () => this.#stage.mayEdit,
      onBegin: () => {
        this.#expanded = null;
        this.#drawNow();
      },
      onDrop: (songId, index) => this.#move(moveTo(this.#songs(), songId, index)),
    });
  }

  #draw() {
    if (this.#drawn || !this.#root.isConnected) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const { mayEdit, isLeader, setlist, band } = this.#stage;
    const el = this.#el;
    const songs = this.#songs();
    write(el.title, setlist?.title || SONGS.untitledList);
    el.title.disabled = !mayEdit;
    mark(el.title, "title", mayEdit ? SONGS.retitle : null);
    const { ms, isWhole } = totalDuration(songs);
    const length = ms < 60_000 ? clockText(ms) : fill(SONGS.minutes, { n: Math.round(ms / 60_000) });
    const minutes = ms > 0 ? (isWhole ? length : fill(SONGS.atLeast, { length })) : "";
    const count = fill(songs.length === 1 ? SONGS.oneSong : SONGS.countSongs, { n: songs.length });
    write(el.sum, [count, minutes].filter(Boolean).join(" · "));
    el.fresh.hidden = !isLeader;
    el.save.disabled = songs.length === 0;
    const offline = band.status === "online" ? "" : SONGS.offline;
    write(el.note, offline || (mayEdit ? "" : this.#noRight()));
    el.note.hidden = el.note.textContent === "";
    this.#drawRows(songs);
    el.empty.hidden = songs.length > 0;
    if (songs.length === 0) this.#drawEmpty();
  }

  #drawRows(songs) {
    const byId = new Map(songs.map((song) => [song.id, song]));
    const ids = this.#order?.filter((id) => byId.has(id)) ?? [...byId.keys()];
    for (const [id, row] of this.#rows) {
      if (byId.has(id)) continue;
      row.el.remove();
      this.#rows.delete(id);
    }
    const focused = document.activeElement;
    ids.forEach((id, i) => {
      const row = this.#rows.get(id) ?? this.#makeRow(id);
      this.#fillRow(row, byId.get(id), i);
      if (this.#el.list.children[i] !== row.el) this.#el.list.insertBefore(row.el, this.#el.list.children[i] ?? null);
    });
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  #drawEmpty() {
    const { empty } = this.#el;
    const { mayEdit, band } = this.#stage;
    const leader = band.leader?.displayName || SONGS.somebody;
    const text = mayEdit ? SONGS.empty : fill(SONGS.emptyFollower, { leader });
    if (empty.dataset.text === text) return;
    empty.dataset.text = text;
    const demo = h("button", { data: { testid: "song-demo" }, onclick: () => this.#stage.call("demo") }, SONGS.demo);
    empty.replaceChildren(h("p", {}, text), ...(mayEdit ? [demo] : []));
  }

  #makeRow(id) {
    const part = {};
    part.number = h("span", { class: "song-number" });
    part.grip = h(
      "button",
      { class: "song-grip", data: { testid: "song-grip" }, onkeydown: (event) => this.#gripKey(event, id) },
      part.number,
      icon(GRIP),
    );
    part.title = h("bdi", { class: "song-title" });
    part.artist = h("bdi", { class: "song-artist" });
    part.facts = h("span", { class: "song-facts" });
    part.look = h(
      "button",
      { class: "song-look", data: { testid: "song-look" }, onclick: () => this.#look(id) },
      h("span", { class: "song-names" }, part.title, part.artist),
      part.facts,
    );
    part.go = h("button", { class: "song-go", data: { testid: "song-go" } });
    guard(part.go, {
      run: () => this.#go(id),
      isGuarded: () => this.#stage.band.isPlaying && this.#stage.armed?.songId !== id,
      hint: SONGS.pressAgain,
    });
    part.more = h(
      "button",
      { class: "icon song-more", data: { testid: "song-more" }, onclick: () => this.#expand(id) },
      icon(DOTS),
    );
    const el = h(
      "li",
      { class: "song-row", data: { testid: "song-row", song: id } },
      h("div", { class: "song-main" }, part.grip, part.look, part.go, part.more),
    );
    const row = { el, actions: null, ...part };
    this.#rows.set(id, row);
    return row;
  }

  /** Makes the buttons below a row, when it is first expanded. */
  #makeActions(row, id) {
    const button = (text, testid, run, props = {}) => h("button", { ...props, data: { testid }, onclick: run }, text);
    row.edit = button(SONGS.edit, "song-edit", () => this.edit(id));
    row.up = button(SONGS.up, "song-up", () => this.#step(id, -1));
    row.down = button(SONGS.down, "song-down", () => this.#step(id, 1));
    row.save = button(SONGS.saveSong, "song-save", () => this.#saveSong(this.#stage.songById(id)));
    row.remove = button(SONGS.remove, "song-remove", () => this.#remove(id), { class: "danger" });
    row.actions = h("div", { class: "song-actions" }, row.edit, row.up, row.down, row.save, row.remove);
    row.el.append(row.actions);
  }

  #fillRow(row, song, index) {
    const { mayEdit, isLeader, armed } = this.#stage;
    const isOn = this.#stage.song?.id === song.id;
    const isArmed = armed?.kind === "song" && armed.songId === song.id;
    mark(row.el, "aria-current", isOn ? "true" : null);
    row.el.classList.toggle("looked", this.#stage.looked === song.id);
    row.el.classList.toggle("armed", isArmed);
    row.el.classList.toggle("fixed", !mayEdit);
    write(row.number, String(index + 1));
    row.grip.disabled = !mayEdit;
    mark(row.grip, "aria-label", fill(mayEdit ? SONGS.grip : SONGS.place, { title: song.title, n: index + 1 }));
    write(row.title, song.title);
    write(row.artist, song.artist ?? "");
    this.#fillFacts(row, song);
    row.go.hidden = !isLeader;
    write(row.go, isArmed ? SONGS.armed : isOn ? SONGS.on : SONGS.go);
    row.go.disabled = isOn && !isArmed;
    mark(row.go, "aria-label", fill(isArmed ? SONGS.cancelGo : isOn ? SONGS.isOn : SONGS.goTo, { title: song.title }));
    mark(row.more, "aria-label", fill(SONGS.moreOf, { title: song.title }));
    const isOpen = this.#expanded === song.id;
    mark(row.more, "aria-expanded", String(isOpen));
    if (isOpen && !row.actions) this.#makeActions(row, song.id);
    if (!row.actions) return;
    row.actions.hidden = !isOpen;
    for (const button of [row.up, row.down, row.remove]) button.hidden = !mayEdit;
    row.up.disabled = index === 0;
    row.down.disabled = index === this.#songs().length - 1;
  }

  /** What the chart of a song says of its timing; null until it is read. Charts are read while nothing else is to do. */
  #timing(song) {
    const known = this.#timings.get(song.id);
    if (known?.body === song.body) return known;
    if (song.body !== undefined && !this.#isReading) {
      this.#isReading = true;
      whenIdle(() => this.#readSome());
    }
    return known ?? null;
  }

  #readSome() {
    const until = performance.now() + READ_MS;
    for (const song of this.#songs()) {
      if (song.body === undefined || this.#timings.get(song.id)?.body === song.body) continue;
      if (performance.now() > until) return void whenIdle(() => this.#readSome());
      const { guessed = false, tempoGuessed = false, felt = 1 } = this.#stage.chartOf(song.id)?.map ?? {};
      this.#timings.set(song.id, { body: song.body, guessed, tempoGuessed, felt });
    }
    this.#isReading = false;
    return void this.#draw();
  }

  #fillFacts(row, song) {
    const timing = this.#timing(song);
    const ms = durationOf(song);
    const tempo = song.tempoBpm === undefined ? "" : tempoText(song, timing);
    const facts = [
      song.key && h("span", { class: "song-key" }, song.key),
      tempo && h("span", {}, tempo),
      ms !== null && h("span", {}, clockText(ms)),
      timing?.guessed &&
        h(
          "span",
          { class: "song-guessed", title: SONGS.guessed },
          h("span", { "aria-hidden": "true" }, "⚠"),
          h("span", { class: "unseen" }, SONGS.guessed),
        ),
      song.bandBody !== undefined && h("span", { class: "song-badge", title: SONGS.mineWhy }, SONGS.mine),
      this.#drafts.some(({ id }) => id === song.id) && h("span", { class: "song-badge" }, SONGS.draft),
    ].filter(Boolean);
    const key = facts.map((one) => one.textContent).join("|");
    if (row.facts.dataset.key === key) return;
    row.facts.dataset.key = key;
    row.facts.replaceChildren(...facts);
  }

  #expand(id) {
    this.#expanded = this.#expanded === id ? null : id;
    this.#drawNow();
    if (this.#expanded) this.#rows.get(id).el.scrollIntoView({ block: "nearest" });
  }

  /** Shows a song on this page only. Where the sheet covers the stage, it makes way. */
  #look(id) {
    this.#stage.look(this.#stage.looked === id ? null : id);
    if (matchMedia(`(max-width: ${BESIDE_PX - 1}px)`).matches) this.#stage.closeSheet(this.#root);
    if (this.#stage.looked)
      this.#stage.toast(fill(SONGS.looking, { title: this.#stage.songById(id).title }), { plain: true });
  }

  #go(id) {
    const { band, armed } = this.#stage;
    if (armed?.kind === "song" && armed.songId === id) return void this.#stage.command(band.cancel());
    const isPlaying = band.isPlaying;
    this.#stage.command(band.selectSong(id, isPlaying ? { at: "bar", play: true } : {})).then((isDone) => {
      if (isDone && !isPlaying) this.#stage.closeSheet(this.#root);
    });
    return undefined;
  }

  // Moving and removing.

  #gripKey(event, id) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.#step(id, step);
  }

  #step(id, step) {
    this.#move(moveBy(this.#songs(), id, step));
  }

  async #move(op) {
    if (!op) return;
    const ids = this.#songs()
      .map((song) => song.id)
      .filter((id) => id !== op.songId);
    const at = op.before === undefined ? ids.length : ids.indexOf(op.before);
    ids.splice(at, 0, op.songId);
    this.#order = ids;
    this.#drawNow();
    const { title } = this.#stage.songById(op.songId);
    if (await this.#apply([op])) remark(fill(SONGS.moved, { title, n: at + 1, of: ids.length }));
    if (this.#order === ids) this.#order = null;
    this.#drawNow();
  }

  async #remove(id) {
    const song = this.#stage.songById(id);
    const { band } = this.#stage;
    if (!song) return;
    const isOn = this.#stage.song?.id === id;
    if (isOn && band.isPlaying) {
      this.#stage.toast(fill(SONGS.playingStays, { title: song.title }));
      return;
    }
    const onError = (error) => {
      if (error.code !== "conflict" || !error.song) return error.code === "conflict";
      const run = () => this.#apply([{ op: "remove", songId: id, was: error.song.revision }]);
      const text = fill(SONGS.changedMeanwhile, { name: this.#editorOf(id), title: error.song.title });
      this.#stage.toast(text, { plain: true, seconds: UNDO_S, action: { text: SONGS.removeAnyway, run } });
      return true;
    };
    const undo = song.body === undefined ? null : restored(this.#songs(), id);
    if (!(await this.#apply([{ op: "remove", songId: id, was: song.revision }], { onError }))) return;
    const run = async () => {
      if ((await this.#apply(undo)) && isOn && this.#stage.isLeader && !band.timeline?.song)
        band.selectSong(id).catch(() => {});
    };
    const action = undo && { text: SONGS.undo, run };
    this.#stage.toast(fill(SONGS.removed, { title: song.title }), {
      plain: true,
      seconds: UNDO_S,
      ...(action && { action }),
    });
  }

  #editorOf(id) {
    return this.#stage.keeper.editorOf(id) || SONGS.somebody;
  }

  #retitle() {
    const { title } = this.#stage.setlist ?? { title: "" };
    const input = h("input", {
      class: "setlist-title-field",
      maxlength: 200,
      "aria-label": SONGS.listTitle,
      data: { testid: "setlist-title-field" },
    });
    input.value = title;
    let isDone = false;
    const end = (isKept) => {
      if (isDone) return;
      isDone = true;
      input.replaceWith(this.#el.title);
      const text = input.value.trim();
      if (isKept && text !== title) this.#apply([{ op: "retitle", title: text }]);
      this.#el.title.focus();
    };
    input.addEventListener("blur", () => end(true));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    this.#el.title.replaceWith(input);
    input.focus();
    input.select();
  }

  // Files and lists.

  async #sources() {
    const kept = new Map((await (await this.#library).songs()).map((song) => [song.id, song]));
    return ({ id, body }) => {
      const song = kept.get(id);
      return song?.body === body ? song.source : undefined;
    };
  }

  async #saveList() {
    const { title, songs } = this.#stage.setlist;
    const missing = songs.filter(({ body }) => body === undefined).length;
    if (missing > 0) return void this.#stage.toast(fill(SONGS.stillMissing, { n: missing }), { plain: true });
    return void save(listFile({ title, songs: songs.map(bandSong) }, await this.#sources()));
  }

  async #saveSong(song) {
    if (song?.body === undefined) return void this.#stage.toast(fill(SONGS.stillMissing, { n: 1 }), { plain: true });
    return void save(songFile(song, (await this.#sources())(song)));
  }

  /** Asks for a title, and replaces the list. The old one comes back for ten seconds, and stays in the library. */
  #newList() {
    if (this.#stage.band.isPlaying) return void this.#stage.toast(SONGS.stopFirst);
    const field = h("input", {
      maxlength: 200,
      required: true,
      placeholder: SONGS.listTitleExample,
      "aria-label": SONGS.listTitle,
      data: { testid: "new-list-title" },
    });
    const form = h(
      "form",
      { class: "songs-form" },
      h("label", {}, SONGS.listTitle, field),
      h("p", { class: "hint" }, SONGS.newListHint),
      h("button", { class: "primary", type: "submit", data: { testid: "new-list-make" } }, SONGS.makeList),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#stage.closeSheet(form);
      this.#load({ title: field.value.trim(), songs: [] }, SONGS.madeList);
    });
    this.#stage.openSheet(form, { title: SONGS.newList });
    return void field.focus();
  }

  /** Replaces the list of the session. */
  async #load({ title, songs }, text) {
    const { band } = this.#stage;
    if (band.isPlaying) return void this.#stage.toast(SONGS.stopFirst);
    const old = this.#stage.setlist;
    await this.#keep();
    if (!(await this.#stage.command(band.setSetlist({ title, songs: songs.map(bandSong) })))) return undefined;
    const run = () => this.#stage.command(band.setSetlist({ title: old.title, songs: old.songs.map(bandSong) }));
    const isUndoable = old?.songs.length > 0 && old.songs.every(({ body }) => body !== undefined);
    const action = isUndoable ? { action: { text: SONGS.undo, run } } : {};
    return void this.#stage.toast(fill(text, { title, n: songs.length }), { plain: true, seconds: UNDO_S, ...action });
  }

  async #more() {
    openShelf(this.#stage, await this.#library, {
      onLoad: (list) => this.#load(list, SONGS.loadedList),
      onAdd: (song) => this.#put([song]),
    });
  }

  // The library.

  #keepLater() {
    clearTimeout(this.#keeping);
    this.#keeping = setTimeout(() => this.#keep(), KEEP_MS);
  }

  /** Keeps the list and its songs in this browser. */
  async #keep() {
    const { setlist, band } = this.#stage;
    if (!setlist || this.#stage.isScreen || setlist.songs.length === 0) return;
    const songs = setlist.songs.filter(({ body }) => body !== undefined).map(bandSong);
    const library = await this.#library;
    await library.keepSongs(songs);
    if (songs.length === setlist.songs.length) await library.keepList(band.sessionId, { title: setlist.title, songs });
  }

  async #loadDrafts() {
    this.#drafts = await (await this.#library).drafts();
    const { drafts } = this.#el;
    const items = this.#drafts
      .filter(({ id }) => !this.#stage.songById(id))
      .map((draft) =>
        h(
          "li",
          { data: { testid: "song-draft" } },
          h(
            "span",
            { class: "song-names" },
            h("bdi", { class: "song-title" }, draft.title || SONGS.untitled),
            h("span", { class: "hint" }, SONGS.draft),
          ),
          h(
            "button",
            { data: { testid: "draft-open" }, onclick: () => this.#editor.open({ id: draft.id, isNew: true }) },
            SONGS.goOn,
          ),
          h("button", { class: "quiet", onclick: () => this.#editor.discard(draft.id) }, SONGS.discard),
        ),
      );
    drafts.replaceChildren(...items);
    drafts.hidden = items.length === 0;
    this.#draw();
  }

  /** Without the server: shows the last list of this session. */
  async #offerList() {
    const { band } = this.#stage;
    if (this.#stage.setlist !== null || band.status === "online") return;
    const lists = await (await this.#library).lists();
    this.#stage.keeper.offer(lists.find(({ sessionId }) => sessionId === band.sessionId));
  }

  /** After a reload: says that a draft is kept. */
  async #offerDraft() {
    if (this.#stage.isScreen) return;
    const [draft] = (await (await this.#library).drafts()).sort((a, b) => b.at - a.at);
    // A draft that is being written needs no offer, which would cover the buttons of the editor.
    if (this.#isOffered || !draft || this.#editor.isOpen || Date.now() - draft.at > DRAFT_AGE_MS) return;
    this.#isOffered = true;
    const run = () => {
      const song = this.#stage.songById(draft.id);
      this.#editor.open(song ? { id: draft.id, song } : { id: draft.id, isNew: true });
    };
    this.#stage.toast(fill(SONGS.draftKept, { title: draft.title || SONGS.untitled }), {
      plain: true,
      seconds: UNDO_S,
      action: { text: SONGS.goOn, run },
    });
  }
}

/** The sentences for files that were refused. */
function refusals(refused) {
  const texts = refused.slice(0, REFUSALS_SHOWN).map(({ file, text }) => `${file}: ${text}`);
  if (refused.length > REFUSALS_SHOWN) texts.push(fill(SONGS.moreRefused, { n: refused.length - REFUSALS_SHOWN }));
  return texts.join(" ");
}

/** The tempo as musicians say it: dotted quarters in 6/8, 9/8 and 12/8. */
function tempoText({ tempoBpm, timeSignature }, timing) {
  const isCompound =
    timeSignature?.denominator === 8 && timeSignature.numerator % 3 === 0 && timeSignature.numerator > 3;
  const isFelt = timing ? timing.felt === 3 : isCompound;
  const bpm = isFelt ? tempoBpm / 3 : tempoBpm;
  return `${noteOf(isFelt ? 3 : 1, timeSignature?.denominator ?? 4)} ${Number.isInteger(bpm) ? bpm : bpm.toFixed(1)}${timing?.tempoGuessed ? "?" : ""}`;
}

/** Safari has no idle callbacks. */
const whenIdle = (run) =>
  globalThis.requestIdleCallback ? requestIdleCallback(run, { timeout: 1000 }) : setTimeout(run, 50);
