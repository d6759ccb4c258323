// Keeps the session's set list complete on this device: all songs, with their charts.
//
// The server sends the list without charts to a newcomer, and each edit with the songs that changed. The rest is
// requested in pieces, the selected song first. A missed edit shows by its revision, and the list is requested again.
// Charts that this device already holds are never requested twice.

import { editedSetlist } from "../bandsync.js";

/** Pauses between attempts to complete the list. Guessed. */
const RETRY_MS = { least: 500, most: 5000 };

/** Whether two versions of a song are the same but for the chart. */
const isSameVersion = (one, other) =>
  JSON.stringify({ ...one, body: undefined }) === JSON.stringify({ ...other, body: undefined });

/** The list with the charts that `held` has of the same versions of its songs. */
export function withKnownCharts(list, held) {
  const known = new Map((held?.songs ?? []).filter((song) => song.body !== undefined).map((song) => [song.id, song]));
  const songs = list.songs.map((song) => {
    const other = known.get(song.id);
    return song.body === undefined && other && isSameVersion(song, other) ? other : song;
  });
  return { ...list, songs };
}

/** The list with charts put in. Charts of other versions of a song are left out. */
export function withCharts(list, songs) {
  const arrived = new Map(songs.map((song) => [song.id, song]));
  const fill = (song) => {
    const other = arrived.get(song.id);
    return song.body === undefined && other?.revision === song.revision ? other : song;
  };
  return { ...list, songs: list.songs.map(fill) };
}

/** The ids of songs without a chart: `first`, if it is one of them, then in the order of the list. */
export function missingCharts({ songs }, first) {
  const ids = songs.filter((song) => song.body === undefined).map(({ id }) => id);
  return ids.includes(first) ? [first, ...ids.filter((id) => id !== first)] : ids;
}

/**
 * The set list of one client. Event `setlist`: the list or one of its charts changed; the `detail` is the list.
 * The songs are as this member sees them: a song of which it keeps a version of its own has that in `body`, and the
 * band's in `bandBody`.
 */
export class SetlistKeeper extends EventTarget {
  #band;
  /** The list as the band has it, or null. */
  #list = null;
  /** The same with the member's own versions, made when it is first read. */
  #shown = null;
  #byId = new Map();
  /** Own versions of charts, by song id. */
  #mine = new Map();
  /** The session that the list belongs to. */
  #sessionId = null;
  /** Names of the members who changed a song last, by song id. */
  #editors = new Map();
  /** Whether the list must be requested, because an edit was missed. */
  #isStale = false;
  /** Whether a request is under way. */
  #busy = false;
  #timer = null;
  #failures = 0;
  /** Whether the list comes from this device, because the server has not answered yet. */
  isCached = false;

  /** @param {import("../bandsync.js").BandSync} band */
  constructor(band) {
    super();
    this.#band = band;
    band.addEventListener("snapshot", ({ detail }) => this.#snapshot(detail));
    band.addEventListener("setlist", ({ detail }) => this.#replace(detail.setlist));
    band.addEventListener("setlist_changed", ({ detail }) => this.#edited(detail));
    band.addEventListener("status", ({ detail }) => detail === "online" && this.#complete());
    if (band.snapshot) this.#snapshot(band.snapshot);
  }

  /** `{ revision, title, songs }`, null before the first answer. `body` is missing while a chart is on its way. */
  get setlist() {
    if (this.#list !== null && this.#shown === null) this.#show();
    return this.#shown;
  }

  /** The song with this id, or null. */
  songById(id) {
    return this.setlist ? (this.#byId.get(id) ?? null) : null;
  }

  /** Whether all charts of the list are on this device. */
  get isComplete() {
    return this.#list !== null && missingCharts(this.#list).length === 0;
  }

  /** The name of the member that changed a song last, or "" if this device did not see it. */
  editorOf(songId) {
    return this.#editors.get(songId) ?? "";
  }

  /** Requests a song's chart at once, whatever else is under way. Rejects as `BandSync.request` does. */
  async fetch(songId) {
    const { songs } = await this.#band.request("get_songs", { songIds: [songId] });
    if (this.#list) this.#set(withCharts(this.#list, songs));
    this.#failures = 0;
    this.#complete();
  }

  /** Shows a list of this device until the server sends one. */
  offer(list) {
    if (this.#list !== null || !list) return;
    this.isCached = true;
    this.#set({ revision: -1, title: list.title, songs: list.songs });
  }

  /** Puts this member's own version of a chart in place of the band's; null takes it away. */
  setMine(songId, body) {
    if ((this.#mine.get(songId) ?? null) === body) return;
    if (body === null) this.#mine.delete(songId);
    else this.#mine.set(songId, body);
    if (this.#list !== null) this.#changed();
  }

  #show() {
    const songs = this.#list.songs.map((song) => {
      const mine = this.#mine.get(song.id);
      return mine === undefined || song.body === undefined ? song : { ...song, body: mine, bandBody: song.body };
    });
    this.#shown = { ...this.#list, songs };
    this.#byId = new Map(songs.map((song) => [song.id, song]));
  }

  #changed() {
    this.#shown = null;
    this.dispatchEvent(new CustomEvent("setlist", { detail: this.setlist }));
  }

  #set(list) {
    this.#list = list;
    this.#changed();
  }

  #snapshot({ setlist, setlistRevision = 0 }) {
    if (this.#sessionId !== this.#band.sessionId) {
      this.#sessionId = this.#band.sessionId;
      this.#editors.clear();
      if (!this.isCached) this.#list = null;
    }
    if (setlist) this.#replace(setlist);
    else if (setlistRevision === 0) this.#replace({ revision: 0, title: "", songs: [] });
    else if (this.isCached || this.#list?.revision !== setlistRevision) {
      this.#isStale = true;
      this.#complete();
    }
  }

  #replace(list) {
    if (!this.isCached && list.revision === 0 && this.#list?.revision === 0) return;
    this.isCached = false;
    this.#isStale = false;
    this.#set(withKnownCharts(list, this.#list));
    this.#complete();
  }

  #edited(change) {
    const editor = this.#band.members.find((member) => member.socketId === change.from);
    for (const { op, song, songId } of change.ops) {
      if (op === "replace" || op === "remove") this.#editors.set(songId ?? song.id, editor?.displayName ?? "");
    }
    const list = this.#list && editedSetlist(this.#list, change);
    if (list) this.#set(list);
    else if (!this.#list || change.revision !== this.#list.revision) this.#isStale = true;
    this.#complete();
  }

  /** Requests what is missing: the list if an edit was missed, then its charts. One request at a time. */
  async #complete() {
    if (this.#busy) return;
    clearTimeout(this.#timer);
    this.#busy = true;
    try {
      while (this.#band.status === "online" && this.#isBehind()) {
        await this.#step();
        this.#failures = 0;
      }
    } catch (error) {
      this.#later(error);
    } finally {
      this.#busy = false;
    }
  }

  #isBehind() {
    if (this.#band.snapshot === null) return false;
    return this.#isStale || (this.#list !== null && missingCharts(this.#list).length > 0);
  }

  async #step() {
    const { sessionId } = this.#band;
    const isHere = () => sessionId === this.#band.sessionId;
    if (this.#isStale) {
      this.#isStale = false;
      try {
        const list = await this.#band.setlist();
        if (!isHere()) return;
        this.isCached = false;
        this.#set(withKnownCharts(list, this.#list));
      } catch (error) {
        this.#isStale = true;
        throw error;
      }
      return;
    }
    const first = this.#band.timeline?.song ?? this.#band.snapshot.song?.id;
    const songIds = missingCharts(this.#list, first);
    const { songs } = await this.#band.request("get_songs", { songIds });
    if (!isHere()) return;
    this.#set(withCharts(this.#list, songs));
    // Nothing fits if the songs were edited meanwhile, and that edit was missed.
    if (missingCharts(this.#list).length === songIds.length) this.#isStale = true;
  }

  /** Tries again after a failure, later each time. */
  #later(error) {
    if (error?.code === "not_member") return;
    this.#failures += 1;
    const pause = error?.retryAfter ?? Math.min(RETRY_MS.most, RETRY_MS.least * 2 ** (this.#failures - 1));
    this.#timer = setTimeout(() => this.#complete(), pause);
  }
}
