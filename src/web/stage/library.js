// The songs of this browser: those it saw or made, own versions of charts, drafts, and the last set lists.
//
// Everything is in IndexedDB, which plain HTTP has too. A private window may refuse it; then the library is in memory
// and says so (`isKept`), and all else works. No method rejects: a library that fails must not stop the music.

const NAME = "bandsync";
const VERSION = 1;
const SHELVES = ["songs", "mine", "drafts", "lists"];
/** Time after which a database that neither opens nor fails is given up. Guessed. */
const OPEN_MS = 2000;
/** Maximum number of set lists. Specified. */
const LISTS_MAX = 10;
/** Maximum number of songs that were only seen. Guessed: about 100 evenings. */
const SEEN_MAX = 2000;

/** Shelves in memory, for browsers and windows without IndexedDB. */
export class MemoryShelves {
  #shelves = new Map(SHELVES.map((name) => [name, new Map()]));
  isKept = false;

  async get(shelf, key) {
    return this.#shelves.get(shelf).get(key);
  }

  async all(shelf) {
    return [...this.#shelves.get(shelf).values()];
  }

  async change(shelf, { put = [], remove = [] }) {
    const values = this.#shelves.get(shelf);
    for (const value of put) values.set(value.id, structuredClone(value));
    for (const key of remove) values.delete(key);
  }
}

/** Shelves in IndexedDB. */
class DatabaseShelves {
  #database;
  isKept = true;

  constructor(database) {
    this.#database = database;
    // Another tab has a newer page: let it change the database.
    database.onversionchange = () => database.close();
  }

  get(shelf, key) {
    return done(this.#shelf(shelf).get(key));
  }

  all(shelf) {
    return done(this.#shelf(shelf).getAll());
  }

  change(shelf, { put = [], remove = [] }) {
    const store = this.#shelf(shelf, "readwrite");
    for (const value of put) store.put(value);
    for (const key of remove) store.delete(key);
    const { transaction } = store;
    // Does not wait for the answers, so that a page that ends at this moment loses nothing.
    transaction.commit?.();
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }

  #shelf(name, mode = "readonly") {
    return this.#database.transaction(name, mode).objectStore(name);
  }
}

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function openDatabase(factory) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("the database does not open")), OPEN_MS);
    const request = factory.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      for (const shelf of SHELVES) request.result.createObjectStore(shelf, { keyPath: "id" });
    };
    request.onsuccess = () => resolve(new DatabaseShelves(request.result));
    request.onerror = request.onblocked = () => reject(request.error);
  });
}

/** What two spellings of a title have in common. */
const plain = (text = "") => text.trim().toLowerCase().replace(/\s+/g, " ");

/** Two songs of one title are the same unless both name artists, and those differ. */
export function isSameSong(one, other) {
  const [a, b] = [plain(one.artist), plain(other.artist)];
  return plain(one.title) === plain(other.title) && (a === b || a === "" || b === "");
}

/** A song as the server takes it: without what only this browser knows. */
export function bareSong({
  id,
  title,
  artist,
  key,
  tempoBpm,
  timeSignature,
  format,
  body,
  durationMs,
  meter,
  endBeat,
}) {
  const song = { id, title, artist, key, tempoBpm, timeSignature, format, body, durationMs, meter, endBeat };
  return Object.fromEntries(Object.entries(song).filter(([, value]) => value !== undefined));
}

export class Library {
  #shelves;
  #now;

  constructor(shelves, now = Date.now) {
    this.#shelves = shelves;
    this.#now = now;
  }

  /** Opens the browser's library, or one in memory. */
  static async open(factory = globalThis.indexedDB) {
    try {
      return new Library(await openDatabase(factory));
    } catch {
      return new Library(new MemoryShelves());
    }
  }

  /** Whether the library survives the end of this page. */
  get isKept() {
    return this.#shelves.isKept;
  }

  /** All songs of this browser, by title. */
  async songs() {
    const songs = await this.#all("songs");
    return songs.sort((a, b) => a.title.localeCompare(b.title));
  }

  song(id) {
    return this.#get("songs", id);
  }

  /** A song of the library with this title, and the artist if both have one. */
  async findSong(song) {
    return (await this.#all("songs")).find((other) => isSameSong(song, other)) ?? null;
  }

  /**
   * Keeps songs with their charts. `source` is the text of the file that a song came from, if the chart differs from it
   * (line ends, another format). It stays until the chart changes.
   */
  async keepSongs(songs, { isMade = false } = {}) {
    const kept = new Map((await this.#all("songs")).map((song) => [song.id, song]));
    const at = this.#now();
    const put = [];
    for (const song of songs) {
      const old = kept.get(song.id);
      if (song.body === undefined || (old && !isMade && old.body === song.body && old.title === song.title)) continue;
      const source = song.source ?? (old?.body === song.body ? old.source : undefined);
      put.push({ ...bareSong(song), at, isMade: isMade || Boolean(old?.isMade), ...(source && { source }) });
    }
    if (put.length === 0) return;
    const seen = [...kept.values()].filter((song) => !song.isMade).sort((a, b) => a.at - b.at);
    const remove = seen.slice(0, Math.max(0, seen.length + put.length - SEEN_MAX)).map(({ id }) => id);
    await this.#change("songs", { put, remove });
  }

  removeSong(id) {
    return this.#change("songs", { remove: [id] });
  }

  /** This member's own versions of charts: `{ id, body, was, at }`, where `was` is the band's chart it began as. */
  mine() {
    return this.#all("mine");
  }

  keepMine(id, body, was) {
    return this.#change("mine", { put: [{ id, body, was, at: this.#now() }] });
  }

  dropMine(id) {
    return this.#change("mine", { remove: [id] });
  }

  /** A chart that is being edited, or undefined. */
  draft(id) {
    return this.#get("drafts", id);
  }

  drafts() {
    return this.#all("drafts");
  }

  keepDraft(draft) {
    return this.#change("drafts", { put: [{ ...draft, at: this.#now() }] });
  }

  dropDraft(id) {
    return this.#change("drafts", { remove: [id] });
  }

  /** The last set lists, newest first, with the charts that were known: `{ id, sessionId, title, songs, at }`. */
  async lists() {
    const lists = await this.#all("lists");
    return lists.sort((a, b) => b.at - a.at);
  }

  /** Keeps a set list. One of the same session with the same title, or with the same songs, is replaced. */
  async keepList(sessionId, { title, songs }) {
    if (songs.length === 0) return;
    const list = { id: JSON.stringify([sessionId, title]), sessionId, title, songs, at: this.#now() };
    const idsOf = (one) => one.songs.map(({ id }) => id).join(" ");
    const lists = (await this.lists()).filter(({ id }) => id !== list.id);
    const isRetitled = (one) => one.sessionId === sessionId && idsOf(one) === idsOf(list);
    const others = lists.filter((one) => !isRetitled(one));
    const dropped = [...lists.filter(isRetitled), ...others.slice(LISTS_MAX - 1)];
    await this.#change("lists", { put: [list], remove: dropped.map(({ id }) => id) });
  }

  async #get(shelf, key) {
    try {
      return await this.#shelves.get(shelf, key);
    } catch {
      return undefined;
    }
  }

  async #all(shelf) {
    try {
      return await this.#shelves.all(shelf);
    } catch {
      return [];
    }
  }

  /** Changes a shelf. Without room, or if the browser took the database away, the library goes on in memory. */
  async #change(shelf, change) {
    try {
      await this.#shelves.change(shelf, change);
    } catch {
      if (!this.#shelves.isKept) return;
      const memory = new MemoryShelves();
      for (const name of SHELVES) await memory.change(name, { put: await this.#all(name) });
      this.#shelves = memory;
      await memory.change(shelf, change);
    }
  }
}
