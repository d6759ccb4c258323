// Keeps the token of a member's seat: the secret that brings the seat back after a reload or a crash.
//
// A page keeps tokens in `localStorage`, by server and session. A second tab finds the same token there. So each tab asks
// the others over a `BroadcastChannel` before it uses a kept token. If another tab uses it, the asking tab makes a token
// of its own, and keeps it in `sessionStorage`, which survives a reload of that tab.

/** Time for which a tab waits for the answers of others, in milliseconds. Guessed. A frozen tab does not answer. */
const ANSWER_MS = 100;

export class SeatToken {
  #key;
  /** The stores in which the token may be kept, the tab's own first. */
  #stores;
  /** The store that keeps the present token. */
  #store;
  #channel = null;
  /** A question to other tabs: `{ token, number, answer }`. Of two tabs that ask, the lower number gets the token. */
  #question = null;

  /** The token; null until `claim` has chosen one. */
  token;
  /** The token that takes its place once the server accepts a join with both; null for none. */
  newToken = null;

  /**
   * @param {string} key the place in the stores
   * @param {object[]} stores as the function `stores` returns them
   * @param {string} [token] a token that the caller keeps itself, instead of one from the stores
   */
  constructor(key, stores, token) {
    this.#key = key;
    this.#stores = token === undefined ? stores : [memory()];
    this.#store = this.#stores[0];
    this.token = token ?? null;
  }

  /** Chooses the token: a kept one that no other tab uses, or a new one. */
  async claim() {
    if (this.#stores.length > 1) this.#listen();
    const found = this.#stores.map((store) => ({ store, kept: this.#read(store) }));
    const all = found.filter(({ kept }) => kept !== null);
    // The stores may have refused the token of an earlier join.
    if (all.length === 0 && this.token !== null) all.push({ store: this.#store, kept: [this.token, this.newToken ?? undefined] });
    for (const { store, kept } of all) {
      if (this.#channel && (await this.#isInUse(kept[0]))) continue;
      [this.token, this.newToken = null] = kept;
      this.#store = store;
      return;
    }
    this.#store = (found.findLast(({ kept }) => kept === null) ?? found[0]).store;
    this.token = randomToken();
    this.newToken = null;
    this.#write();
  }

  /** Begins to change the token. It is kept beside the old one, because the answer to the next join may be lost. */
  rotate() {
    this.newToken ??= randomToken();
    this.#write();
  }

  /** Notes that the server has accepted a join. */
  confirm() {
    if (this.newToken === null) return;
    [this.token, this.newToken] = [this.newToken, null];
    this.#write();
  }

  /** Deletes the token, because the server has forgotten it. */
  forget() {
    attempt(() => this.#store.removeItem(this.#key));
    this.token = null;
    this.newToken = null;
    this.close();
  }

  /** Stops using the token, so that another tab may use it. */
  close() {
    this.#channel?.close();
    this.#channel = null;
  }

  #read(store) {
    const kept = attempt(() => store.getItem(this.#key))?.split(" ");
    return kept?.every((token) => /^[\w-]{22,64}$/.test(token)) ? kept : null;
  }

  #write() {
    const kept = [this.token, this.newToken].filter((token) => token !== null);
    attempt(() => this.#store.setItem(this.#key, kept.join(" ")));
  }

  #listen() {
    if (this.#channel || !globalThis.BroadcastChannel) return;
    this.#channel = new globalThis.BroadcastChannel("bandsync.token");
    // Only Node.js has it: the channel does not keep the process alive.
    this.#channel.unref?.();
    this.#channel.onmessage = ({ data }) => this.#heard(data);
  }

  /** Asks the other tabs whether one of them uses a token. */
  #isInUse(token) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#question.answer(false), ANSWER_MS);
      const answer = (isInUse) => {
        clearTimeout(timer);
        this.#question = null;
        resolve(isInUse);
      };
      this.#question = { token, number: Math.random(), answer };
      this.#channel.postMessage({ asks: token, number: this.#question.number });
    });
  }

  #heard({ asks, number, inUse }) {
    const question = this.#question;
    if (inUse !== undefined) {
      if (inUse === question?.number) question.answer(true);
    } else if (asks === this.token || (asks === question?.token && question.number < number)) {
      this.#channel.postMessage({ inUse: number });
    } else if (asks === question?.token) {
      question.answer(true);
    }
  }
}

/**
 * The stores of tokens: the given one, or those of the page. A store that is not given and not there is replaced by
 * memory.
 * @param {Storage | null} [given] null for memory
 */
export function stores(given) {
  if (given) return [given];
  const page = given === null ? undefined : globalThis.window;
  const found = ["sessionStorage", "localStorage"].map((name) => attempt(() => page?.[name])).filter(Boolean);
  return found.length === 2 ? found : [memory()];
}

/** A store in memory. */
export function memory() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
}

/** Storage may be blocked or full. Then a token lasts as long as the page. */
function attempt(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** A token of 128 random bits, in 22 letters, digits, `-` and `_`. */
function randomToken() {
  const bytes = String.fromCharCode(...globalThis.crypto.getRandomValues(new Uint8Array(16)));
  return btoa(bytes).slice(0, 22).replaceAll("+", "-").replaceAll("/", "_");
}
