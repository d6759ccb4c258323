// The BandSync client: joins a session, keeps its newest state and the server's clock, and computes the position.
//
//   import { BandSync } from "./bandsync.js";
//   const band = new BandSync({ sessionId: "stage", name: "Ada" });
//   await band.join();
//   band.addEventListener("change", () => console.log(band.members, band.isPlaying));
//   requestAnimationFrame(() => console.log(band.position(), band.beat()));
//   await band.play();          // rejects with a BandSyncError { code, message, field } if you do not lead
//
// Position and beat are computed here from the timeline and the clock. So the music needs no messages while it plays, and
// plays on through a lost connection. Runs in browsers, and in Node.js with a WebSocket implementation.

import { BandClock, ProbePlan } from "./clock.js";
import * as music from "./timeline.js";
import { SeatToken, stores } from "./tokens.js";

const REQUEST_TIMEOUT_MS = 5000;
const CONNECT_TIMEOUT_MS = 10_000;
const RESUME_PROBE_MS = 5000;
/** Time after which the server no longer applies a transport command, so that none takes effect as a surprise. */
const COMMAND_LIFE_MS = 2000;
const CATCH_UP_MS = 1000;
/**
 * Time for which the server holds a leader's seat. A leader that returns later finds another leader, and does not
 * replace it.
 */
const SEAT_KEPT_MS = 10_000;
/** Time within which an error of the clock that is too large to be slewed is stepped, also between beats. */
const STEP_WITHIN_MS = 800;
const CHANGING = new Set([
  "snapshot", "session_update", "user_joined", "user_left", "role_changed", "leader_changed", "setlist_changed",
]);
/** Maximum number of operations of one edit. */
const OPERATIONS_MAX = 100;
/** Bytes of a message that are left for all fields but the songs. */
const FRAME_BYTES = 4096;
/** Rejections of a join that the next connection may not get. */
const PASSING = new Set(["offline", "timeout", "draining", "rate_limited", "unavailable", "internal"]);
// events, by `tools docs`
/** Events that the server applies once, by their `commandId`. */
const APPLIED_ONCE = new Set([
  "set_role", "request_leader", "approve_leader_request", "deny_leader_request", "update_message",
  "chat_message", "update_settings", "set_member", "cue", "play", "pause", "stop", "seek",
  "set_tempo", "tempo_change", "tempo_changed", "set_time_signature", "loop", "cancel", "nudge",
  "one", "set_setlist", "edit_setlist", "select_song",
]);
/** Events with a time after which the server rejects them, `notAfterServerMs`. */
const TIMED = new Set([
  "play", "pause", "stop", "seek", "set_tempo", "tempo_change", "tempo_changed",
  "set_time_signature", "loop", "cancel", "nudge", "one", "beat_sync", "position_sync",
  "select_song",
]);
// end
/** With this growth a member is back within 2 s after a server that was away for 3 s. */
const BACKOFF_MS = { least: 300, most: 5000 };
const BACKOFF_GROWTH = 1.4;

/**
 * A rejection: the server's `code` and `message`, with `field`, `retryAfter` (milliseconds), `bytes` and `max` if it
 * sends them, or a code of the client: `offline`, `timeout`. A `conflict` has `revision`, `songId`, and `song` as it is
 * now, null if it is gone.
 */
export class BandSyncError extends Error {
  constructor({ code = "internal", message = code, ...more } = {}) {
    super(message);
    this.name = "BandSyncError";
    this.code = code;
    const { field, retryAfter, bytes, max, revision, songId, song } = more;
    for (const [key, value] of Object.entries({ field, retryAfter, bytes, max, revision, songId, song })) {
      if (value !== undefined) this[key] = value;
    }
  }
}

/**
 * The set list after an edit, from a payload of `setlist_changed`; null if the edit belongs to another revision, so that
 * the list must be requested. Songs of `add` and `replace` have their bodies.
 */
export function editedSetlist(setlist, { revision, base, ops }) {
  if (setlist.revision !== base) return null;
  let { title } = setlist;
  const songs = [...setlist.songs];
  const placeOf = (id) => songs.findIndex((song) => song.id === id);
  const insert = (song, before) => {
    const place = before === undefined ? -1 : placeOf(before);
    songs.splice(place < 0 ? songs.length : place, 0, song);
  };
  for (const { op, song, songId, before, title: newTitle } of ops) {
    const place = placeOf(songId ?? song?.id);
    if (op === "add") insert(song, before);
    else if (op === "replace" && place >= 0) songs[place] = song;
    else if (op === "move" && place >= 0 && before !== songId) insert(...songs.splice(place, 1), before);
    else if (op === "remove" && place >= 0) songs.splice(place, 1);
    else if (op === "retitle") title = newTitle;
  }
  return { ...setlist, revision, title, songs };
}

/** Carries the server's payload, or the client's own, in `detail`. */
class BandSyncEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/**
 * One member of one session.
 * Every event of the server is dispatched under its own name with the payload in `detail`. Further events: `status`
 * (the connection changed; `detail` is the new status), `change` (timeline, members or session changed), `refused` (the
 * server rejected a join or a rejoin; `detail` is the BandSyncError), `replaced` (another connection with this member's token has its
 * seat now; `detail` is the BandSyncError).
 */
export class BandSync extends EventTarget {
  #options;
  #socket;
  #plan = new ProbePlan();
  #probeTimer = null;
  #retryTimer = null;
  #retries = 0;
  #now;
  #status = "idle";
  #joined = null;
  /** Whether the next snapshot's timeline counts, whatever its version: it may come from another server. */
  #fresh = true;
  /** Whether the server's clock was heard on this connection. */
  #hearsClock = false;
  /** A timeline of a server that was started again, which waits for that server's clock. */
  #early = null;
  #resumedAt = -Infinity;
  #askedAt = -Infinity;
  #catchUpTimer = null;
  /**
   * A correction of the clock that waits for the next beat: the local times at which it was first and last needed, in
   * milliseconds, and the beat at the last.
   */
  #pendingStep = { since: 0, last: -Infinity, number: 0 };
  #awaySince = null;
  #unlisten = [];
  /** The prefix of this client's command ids, for all connections; a rising number follows. */
  #client = randomText();
  #commands = 0;
  /** Commands whose acknowledgements were lost with the connection. */
  #unanswered = new Set();
  /** The stores of tokens. */
  #stores;
  /** The SeatToken of this member in its session, and its key in the stores. */
  #seat = null;
  #seatKey = null;
  /** Resolves when the token is chosen; null if it is. */
  #claiming = null;

  /** The newest timeline, or null. */
  timeline = null;
  /** The newest snapshot with later updates merged in, or null. */
  snapshot = null;
  /**
   * `{ socketId, displayName, role, connected, … }` in the server's order; in a large session, the leader and a few
   * others.
   */
  members = [];
  /** The number of members, whether or not `members` lists all of them. */
  memberCount = 0;
  /** Socket id of the leader, or null. */
  leaderId = null;
  /** The server's clock, a BandClock. */
  clock;

  /**
   * @param {object} options
   * @param {string} [options.url] server, default the page's own origin; http(s) or ws(s)
   * @param {string} [options.sessionId]
   * @param {string} [options.name] display name
   * @param {"leader" | "follower"} [options.role]
   * @param {number} [options.tickHz] position ticks per second; 0 by default, because the timeline makes them unnecessary
   * @param {string} [options.instrument]
   * @param {"member" | "screen"} [options.view] a screen shows an existing session and is no member
   * @param {string} [options.passcode]
   * @param {string} [options.leaderPin]
   * @param {string} [options.token] the `token` of an earlier member of the session, to get its seat back
   * @param {Storage | null} [options.storage] where tokens are kept, with `getItem`, `setItem` and `removeItem`: by
   *   default the page's `localStorage`, or memory if there is none; null for memory
   * @param {typeof WebSocket} [options.WebSocket] needed where there is no global one
   * @param {() => number} [options.now] monotonic milliseconds
   * @param {{ least: number, most: number }} [options.backoff] milliseconds between attempts to reconnect
   */
  constructor(options = {}) {
    super();
    this.#options = { sessionId: "stage", name: "", role: "follower", tickHz: 0, backoff: BACKOFF_MS, ...options };
    this.#now = this.#options.now ?? (() => performance.now());
    this.#stores = stores(this.#options.storage);
    this.clock = new BandClock({ now: this.#now, mayStep: (miss) => this.#mayStep(miss) });
    this.#socket = new Socket({
      url: this.#options.url ?? globalThis.location?.origin,
      sessionId: this.#options.sessionId,
      WebSocket: this.#options.WebSocket ?? globalThis.WebSocket,
      now: this.#now,
      onConnect: (recovered) => this.#connected(recovered),
      onEvent: (name, payload, ack) => this.#heard(name, payload, ack),
      onClose: () => this.#disconnected(),
    });
  }

  /** `idle`, `connecting`, `online`, `reconnecting` or `closed`. */
  get status() {
    return this.#status;
  }

  get sessionId() {
    return this.#options.sessionId;
  }

  get name() {
    return this.#options.name;
  }

  /** This connection's socket id; null while there is none. */
  get id() {
    return this.#socket.id;
  }

  /**
   * The secret with which this member gets its seat back on any connection, until it leaves; null before the first
   * join. Where the page's storage does not keep it, keep it like a password.
   */
  get token() {
    return this.#seat?.token ?? null;
  }

  get isLeader() {
    return this.id !== null && this.leaderId === this.id;
  }

  get leader() {
    return this.members.find((m) => m.socketId === this.leaderId) ?? null;
  }

  /**
   * Connects and joins, and stays joined through lost connections until `leave`.
   * Resolves with the server's acknowledgement; rejects if the server rejects the join. Keeps trying while the server
   * cannot be reached, or until `signal` aborts.
   */
  join({ signal, ...options } = {}) {
    if (this.#joined) return this.#joined.promise;
    if (signal?.aborted) return Promise.reject(signal.reason);
    Object.assign(this.#options, options);
    this.#joined = deferred();
    this.#awaySince = null;
    this.#claimSeat();
    Object.assign(this, { timeline: null, snapshot: null, members: [], memberCount: 0, leaderId: null });
    this.#listen();
    this.#setStatus("connecting");
    this.#socket.open();
    return untilAborted(this.#joined.promise, signal, () => this.#leave());
  }

  /** Leaves the session for good, and closes the connection. The server forgets this member's token. */
  leave() {
    if (this.#joined) this.#seat?.forget();
    this.#leave();
  }

  #leave() {
    if (this.#socket.id !== null) this.#socket.emit("leave_session", { sessionId: this.sessionId });
    this.#end(new BandSyncError({ code: "offline", message: "left the session" }));
  }

  /**
   * Sends any event of the protocol, with `sessionId` added.
   * Resolves with the acknowledgement; rejects with a BandSyncError, or with the reason of `signal` if that aborts. An
   * abort only ends the wait: the server may apply the event nevertheless.
   * A command whose acknowledgement is lost with the connection is sent again if the connection is back in time; the
   * server applies it once. A command that was rejected is never sent again.
   */
  request(event, { signal, ...fields } = {}) {
    const payload = { sessionId: this.sessionId, ...this.#timeLimit(event), ...fields };
    if (APPLIED_ONCE.has(event)) {
      this.#commands += 1;
      payload.commandId = `${this.#client}-${this.#commands}`;
    }
    return this.#ask(event, payload, signal);
  }

  // One method for each event. All take further fields of the event, and `signal`, in `options`.

  /** @param {{ atServerMs?: number, countInBars?: number, quantize?: "bar" | "beat" }} [options] */
  play(options) {
    return this.request("play", options);
  }

  pause(options) {
    return this.request("pause", options);
  }

  stop(options) {
    return this.request("stop", options);
  }

  /** @param {number} position milliseconds into the song */
  seek(position, options) {
    return this.request("seek", { position, ...options });
  }

  /**
   * Goes to a song beat: at once, or while the music plays, at the next bar line or beat (`at`) or at the song beat
   * `atBeat`.
   * @param {{ at?: "bar" | "beat", atBeat?: number, atServerMs?: number }} [options]
   */
  seekBeat(beat, options) {
    return this.request("seek", { beat, ...options });
  }

  /** Repeats the song from one beat to another until `releaseLoop`. */
  loop(from, to, options) {
    return this.request("loop", { from, to, ...options });
  }

  /** Makes the present pass of the loop the last one. */
  releaseLoop(options) {
    return this.request("loop", { from: null, ...options });
  }

  /** Cancels armed changes, but not the loop. */
  cancel(options) {
    return this.request("cancel", options);
  }

  /** Moves the place by whole beats at once. The click goes on. @param {number} beats -64 to 64 */
  nudge(beats, options) {
    return this.request("nudge", { beats, ...options });
  }

  /** Moves the nearest bar line to a press, by the server's clock. @param {number} [atServerMs] default: now */
  one(atServerMs = this.clock.now(), options = {}) {
    return this.request("one", { atServerMs, ...options });
  }

  /** @param {number} tempo BPM, 1 to 400 @param {number} [fadeTime] duration of the ramp in milliseconds */
  setTempo(tempo, fadeTime = 0, options = {}) {
    const [event, fade] = fadeTime > 0 ? ["tempo_change", { fadeTime }] : ["set_tempo", {}];
    return this.request(event, { tempo, ...fade, ...options });
  }

  /** @param {number} numerator beats in a bar @param {number} denominator the note of a beat */
  setTimeSignature(numerator, denominator, options) {
    return this.request("set_time_signature", { numerator, denominator, ...options });
  }

  /** Takes the lead, or asks for it if the session requires that; with the PIN if it requires one. */
  async takeLead(leaderPin, options) {
    const { tickHz, view } = this.#options;
    // The server learns the PIN from a join. For a member that is already in the session, the join changes nothing
    // else.
    if (leaderPin !== undefined) await this.request("join_session", { leaderPin, tickHz, view, ...options });
    return this.request("set_role", { role: "leader", ...options });
  }

  /** Gives the lead up. */
  follow(options) {
    return this.request("set_role", { role: "follower", ...options });
  }

  /** Gives the lead to another member. */
  handOver(memberId, options) {
    return this.request("set_role", { role: "leader", memberId, ...options });
  }

  /** Asks the leader for the lead. */
  requestLead(options) {
    return this.request("request_leader", options);
  }

  approveLead(requesterId, options) {
    return this.request("approve_leader_request", { requesterId, ...options });
  }

  denyLead(requesterId, options) {
    return this.request("deny_leader_request", { requesterId, ...options });
  }

  /** Asks for the newest state. Rarely needed: a client that misses a change asks by itself. */
  sync(options) {
    return this.request("sync_request", options);
  }

  chat(message, options) {
    return this.request("chat_message", { message, ...options });
  }

  /** Sets the message on everybody's screen; the empty text brings the automatic messages back. */
  setMessage(message, options) {
    return this.request("update_message", { message, ...options });
  }

  /** @param {object} settings those that change; null takes a secret away */
  updateSettings(settings, options) {
    return this.request("update_settings", { ...settings, ...options });
  }

  /** Lets a member edit the set list, or not. @param {{ mayEdit: boolean }} rights */
  setMember(memberId, rights, options) {
    return this.request("set_member", { memberId, ...rights, ...options });
  }

  /**
   * A short stage message. The text may be empty if there is a kind.
   * @param {{ kind?: "go" | "hold" | "stop" | "info", seconds?: number, target?: string }} [options]
   */
  cue(text, options) {
    return this.request("cue", { text, ...options });
  }

  /**
   * Replaces the set list. A list that is longer than a message goes in pieces, which members receive one by one.
   * Resolves with the answer to the last piece.
   */
  async setSetlist({ songs = [], ...list }, options) {
    const [first, ...others] = this.#pieces(songs);
    let answer = await this.request("set_setlist", { setlist: { ...list, songs: first }, ...options });
    for (const piece of others) {
      answer = await this.editSetlist(piece.map((song) => ({ op: "add", song })), options);
    }
    return answer;
  }

  /**
   * Applies all operations to the set list, or none. If somebody else changed a song meanwhile, it rejects with
   * `conflict` and that song.
   * @param {object[]} ops `add {song, before?}`, `replace {song, was, shift?}`, `move {songId, before?}`,
   * `remove {songId, was}`, `retitle {title}`
   */
  editSetlist(ops, options) {
    return this.request("edit_setlist", { ops, ...options });
  }

  /** Resolves with the set list, its songs without bodies: `{ revision, title, songs }`. */
  async setlist(options) {
    const { revision, title, songs } = await this.request("get_setlist", options);
    return { revision, title, songs };
  }

  /** Resolves with songs and their bodies. @param {string[]} [songIds] default: all, the selected one first */
  async songs(songIds, options = {}) {
    const found = [];
    let wanted = songIds;
    do {
      const { songs, more } = await this.request("get_songs", { ...(wanted && { songIds: wanted }), ...options });
      found.push(...songs);
      wanted = more;
    } while (wanted.length > 0);
    return found;
  }

  selectSong(songId, options) {
    return this.request("select_song", { songId, ...options });
  }

  /** @param {1 | -1} [step] the next song, or the one before */
  stepSong(step = 1, options = {}) {
    return this.request("select_song", { step, ...options });
  }

  /** Resolves with a song and its body. */
  async song(songId, options) {
    return (await this.request("get_song", { songId, ...options })).song;
  }

  /** As leader: the beat, which is compared with the timeline and passed on. @param {number} masterTime Unix time */
  reportBeat(beatPosition, masterTime = Date.now(), options = {}) {
    return this.request("beat_sync", { beatPosition, masterTime, ...options });
  }

  /** The position in milliseconds at which this member is. A follower that is off receives `drift_correction`. */
  reportPosition(positionMs, options) {
    return this.request("position_sync", { positionMs, timestamp: Date.now(), ...options });
  }

  /** Measures the round trip to the server, in milliseconds. */
  async measureLatency(options) {
    const timestamp = this.#now();
    await this.request("latency_probe", { timestamp, ...options });
    return this.#now() - timestamp;
  }

  /** The quality of this connection, as the server sees it. */
  connectionQuality(options) {
    return this.request("connection_quality", options);
  }

  /** The server's clock in whole microseconds, as in the timeline; null before the first answer. */
  serverMicros() {
    const ms = this.clock.now();
    return ms === null ? null : Math.floor(ms * 1000);
  }

  /** The position in the song in milliseconds, below zero during a count-in; null without timeline or clock. */
  position() {
    const t = this.#ready();
    return t === null ? null : music.positionAt(this.timeline, t) / 1000;
  }

  /**
   * The position in the music: `{ microbeats, songBeat, bar, beat, phase, num, den, tempoBpm, pass, countIn }`; null
   * without timeline or clock.
   * `bar` and `beat` count from 1, as musicians do (a count-in is bar 0 and below); `phase` is the part of the beat,
   * 0 to 1. `songBeat` counts from the first beat of bar 1 as 0, and `pass` is the pass of a loop from 1, or 0.
   */
  beat() {
    const t = this.#ready();
    if (t === null) return null;
    const { beat: microbeats, bar, inBar, num, den, tempo, pass, countIn } = music.placeAt(this.timeline, t);
    const beat = Math.floor(inBar / music.BEAT);
    const phase = inBar / music.BEAT - beat;
    const songBeat = microbeats / music.BEAT;
    return { microbeats, songBeat, bar: bar + 1, beat: beat + 1, phase, num, den, tempoBpm: tempo / 1000, pass, countIn };
  }

  /** Whether the music runs at this moment. */
  get isPlaying() {
    const t = this.#ready();
    return t !== null && music.isPlayingAt(this.timeline, t);
  }

  /** The start of the next bar, in milliseconds on the server's clock; null while nothing plays. */
  nextBarAt() {
    const t = this.#ready();
    const at = t === null ? null : music.nextBarAt(this.timeline, t);
    return at === null ? null : at / 1000;
  }

  /**
   * Whole beats from `sinceMs` until before `untilMs` on the server's clock, as `{ beat, atServerMs, isDownbeat }`.
   */
  beatsBetween(sinceMs, untilMs) {
    if (!this.timeline) return [];
    const found = music.beatsBetween(this.timeline, Math.ceil(sinceMs * 1000), Math.ceil(untilMs * 1000));
    return found.map(({ beat, t, inBar }) => ({
      beat: beat / music.BEAT,
      atServerMs: t / 1000,
      isDownbeat: inBar < music.BEAT,
    }));
  }

  /** Splits songs so that each part fits into a message. */
  #pieces(songs) {
    const pieces = [[]];
    let room = this.#socket.maxPayload - FRAME_BYTES;
    for (const song of songs) {
      const bytes = new TextEncoder().encode(JSON.stringify(song)).length + 32;
      const { length } = pieces.at(-1);
      const isFull = bytes > room || (pieces.length > 1 && length === OPERATIONS_MAX);
      if (isFull && length > 0) {
        pieces.push([]);
        room = this.#socket.maxPayload - FRAME_BYTES;
      }
      pieces.at(-1).push(song);
      room -= bytes;
    }
    return pieces;
  }

  /** The time limit of a command, if the server's clock is known. */
  #timeLimit(event) {
    const now = TIMED.has(event) ? this.clock.now() : null;
    return now === null ? {} : { notAfterServerMs: Math.round(now) + COMMAND_LIFE_MS };
  }

  #ready() {
    return this.timeline ? this.serverMicros() : null;
  }

  #connected(recovered) {
    this.#hearsClock = false;
    this.#early = null;
    this.#plan.start(this.#now());
    this.#resumedAt = this.#now();
    this.#probeWhenDue();
    if (recovered) {
      this.#sendAgain();
      // The server held our seat and has replayed what we missed. Request the state anyway.
      this.request("sync_request").then(
        () => this.#online(),
        () => this.#enter(),
      );
    } else {
      this.#enter();
    }
  }

  /** Chooses the token of the seat in this session, once for all connections of a join. */
  #claimSeat() {
    const { url = globalThis.location?.origin, token, view } = this.#options;
    if (view === "screen") return; // has no seat
    const key = `bandsync.token ${new URL(url).host} ${this.sessionId}`;
    if (key !== this.#seatKey || token !== undefined) this.#seat = new SeatToken(key, this.#stores, token);
    this.#seatKey = key;
    this.#options.token = undefined;
    const claiming = this.#seat.claim().then(() => {
      if (this.#claiming === claiming) this.#claiming = null;
    });
    this.#claiming = claiming;
  }

  async #enter() {
    if (this.#claiming) await this.#claiming;
    const { sessionId, name, role, tickHz, instrument, passcode, leaderPin, view } = this.#options;
    const late = this.#awaySince !== null && this.#now() - this.#awaySince > SEAT_KEPT_MS;
    const fields = { sessionId, role: late ? undefined : role, tickHz, instrument, passcode, leaderPin, view };
    if (name) fields.displayName = name;
    if (view !== "screen") Object.assign(fields, { token: this.#seat.token, newToken: this.#seat.newToken ?? undefined });
    this.#fresh = true;
    try {
      const answered = this.#ask("join_session", fields);
      // These go before any newer command, or the server would treat the newer one as the last.
      this.#sendAgain();
      const answer = await answered;
      this.#seat?.confirm();
      this.#online();
      this.#joined?.resolve(answer);
    } catch (error) {
      // Temporary: the next connection tries again. A screen that comes back to a server that has lost its sessions
      // waits for a member that opens this one again.
      const isAwaited = error.code === "session_not_found" && this.#awaySince !== null;
      if (isAwaited || PASSING.has(error.code)) this.#socket.close();
      else {
        this.#end(error);
        this.#dispatch("refused", error);
      }
    }
  }

  #online() {
    this.#retries = 0;
    this.#awaySince = null;
    this.#setStatus("online");
  }

  #disconnected() {
    this.#plan.stop();
    clearTimeout(this.#probeTimer);
    if (!this.#joined) return;
    if (this.#status === "online") {
      this.#awaySince = this.#now();
      this.#setStatus("reconnecting");
    }
    const { least, most } = this.#options.backoff;
    const widest = Math.min(most, 2 * least * BACKOFF_GROWTH ** this.#retries);
    this.#retries += 1;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#socket.open(), (widest * (1 + Math.random())) / 2);
  }

  #end(error) {
    const joined = this.#joined;
    this.#joined = null;
    this.#seat?.close();
    for (const { fail } of this.#unanswered) fail();
    this.#plan.stop();
    clearTimeout(this.#probeTimer);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#catchUpTimer);
    for (const stop of this.#unlisten.splice(0)) stop();
    this.#socket.leave();
    this.#setStatus("closed");
    // A promise that is no longer awaited must not count as an unhandled rejection.
    joined?.promise.catch(() => {});
    joined?.reject(error);
  }

  #ask(event, payload, signal) {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#socket.id === null) return Promise.reject(new BandSyncError({ code: "offline", message: "not connected" }));
    const command = {};
    const asked = new Promise((resolve, reject) => {
      let isRejected = false;
      const rejectWith = (code, message) => {
        isRejected = true;
        reject(new BandSyncError({ code, message }));
      };
      const fail = () => {
        clearTimeout(timer);
        this.#unanswered.delete(command);
        rejectWith("offline", "the connection was lost");
      };
      const late = () => rejectWith("timeout", `${event} was not answered`);
      const timer = setTimeout(() => (this.#unanswered.has(command) ? fail() : late()), REQUEST_TIMEOUT_MS);
      const send = () => this.#socket.emit(event, payload, (answer) => {
        const mayRepeat = payload.commandId !== undefined && !isRejected && this.#joined;
        if (answer === undefined && mayRepeat) return this.#unanswered.add(command);
        if (answer === undefined) return fail();
        clearTimeout(timer);
        if (answer?.ok === false) reject(new BandSyncError(answer.error ?? {}));
        else {
          this.#take(answer);
          resolve(answer);
        }
        return undefined;
      });
      Object.assign(command, { send, fail });
      send();
    });
    return untilAborted(asked, signal, () => command.fail());
  }

  #sendAgain() {
    const commands = [...this.#unanswered];
    this.#unanswered.clear();
    for (const { send } of commands) send();
  }

  #heard(name, payload, ack) {
    if (isObject(payload)) {
      if (!payload.sessionId || payload.sessionId === this.sessionId) this.#apply(name, payload);
      if (name === "ping") this.#socket.emit("pong", { timestamp: payload.timestamp });
    }
    this.#dispatch(name, payload);
    ack?.();
    if (name === "error" && payload?.code === "replaced") this.#replaced(payload);
  }

  /**
   * Ends, because another connection has the seat. If this member joined again by itself, the two would replace each
   * other forever. If its user joins again, a new token keeps the other one out.
   */
  #replaced(payload) {
    if (!this.#joined) return;
    const error = new BandSyncError(payload);
    this.#seat.rotate();
    this.#end(error);
    this.#dispatch("replaced", error);
  }

  #apply(name, payload) {
    if (name === "snapshot") {
      this.snapshot = payload;
      if (Array.isArray(payload.members)) this.members = payload.members;
      this.memberCount = payload.memberCount ?? this.members.length;
      this.leaderId = payload.leaderSocketId ?? null;
      if (this.#fresh && music.isTimeline(payload.timeline)) {
        // By the clock of the server before, its times would be anywhere.
        const isEarly = !this.#hearsClock && this.clock.now() !== null && this.timeline && this.timeline.epoch !== payload.timeline.epoch;
        if (isEarly) this.#early = payload.timeline;
        else this.timeline = null;
        this.#fresh = false;
      }
    } else if (name === "session_update" && this.snapshot) {
      const { member, ...changes } = payload;
      this.snapshot = { ...this.snapshot, ...changes };
      // A right that was taken away is left out.
      if (isObject(member)) this.members = this.members.map((m) => (m.socketId === member.socketId ? member : m));
      if (Array.isArray(payload.members)) this.members = payload.members;
      if (payload.leaderSocketId !== undefined) this.leaderId = payload.leaderSocketId;
    } else if (name === "user_joined" && isObject(payload.member)) {
      const others = this.members.filter((m) => m.socketId !== payload.member.socketId);
      this.members = [...others, payload.member];
      this.memberCount = payload.memberCount ?? this.members.length;
    } else if (name === "user_left") {
      this.members = this.members.filter((m) => m.socketId !== payload.socketId);
      this.memberCount = payload.memberCount ?? this.members.length;
      if (payload.newLeader !== undefined && payload.newLeader !== null) this.#lead(idOf(payload.newLeader));
    } else if (name === "role_changed") {
      if (payload.role === "leader") this.#lead(payload.socketId);
      else this.members = this.members.map((m) => (m.socketId === payload.socketId ? { ...m, role: payload.role } : m));
    } else if (name === "setlist_changed" && this.snapshot) {
      this.snapshot = { ...this.snapshot, setlistRevision: payload.revision };
    } else if (name === "leader_changed") {
      this.#lead(payload.newLeaderId);
    }
    // In a large session only room_stats reports members that join and leave.
    const counted = name === "room_stats" && Number.isInteger(payload.memberCount) && payload.memberCount !== this.memberCount;
    if (counted) this.memberCount = payload.memberCount;
    this.#take(payload);
    this.#catchUp(payload);
    // After a lost connection, ask for the role that this member has now.
    if (!this.#fresh && this.id !== null) this.#options.role = this.isLeader ? "leader" : "follower";
    if (CHANGING.has(name) || counted) this.#dispatch("change");
  }

  #lead(id) {
    this.leaderId = id;
    this.members = this.members.map((m) => ({ ...m, role: m.socketId === id ? "leader" : "follower" }));
  }

  /** Keeps the newest timeline, from any message. */
  #take(payload) {
    const { timeline } = payload ?? {};
    if (!music.isTimeline(timeline) || !music.isNewer(timeline, this.#early ?? this.timeline)) return;
    if (this.#early) this.#early = timeline;
    else {
      this.timeline = timeline;
      this.#dispatch("change");
    }
  }

  /** The clock of this connection's server is known from now on. */
  #hearClock() {
    this.#hearsClock = true;
    if (!this.#early) return;
    this.timeline = this.#early;
    this.#early = null;
    this.#dispatch("change");
  }

  /**
   * A message with a newer (epoch, version) than ours means that a change was missed. Right after a question the next one
   * waits: the answer may not have this change, and perhaps no later message tells of it.
   */
  #catchUp({ epoch, version }) {
    if (this.#fresh || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(version)) return;
    if (!music.isNewer({ epoch, version }, this.#early ?? this.timeline)) return;
    const wait = this.#askedAt + CATCH_UP_MS - this.#now();
    clearTimeout(this.#catchUpTimer);
    if (wait > 0) {
      this.#catchUpTimer = setTimeout(() => this.#catchUp({ epoch, version }), wait);
      return;
    }
    this.#askedAt = this.#now();
    this.request("sync_request").catch(() => {});
  }

  #probeWhenDue() {
    clearTimeout(this.#probeTimer);
    if (this.#plan.next === Infinity) return;
    this.#probeTimer = setTimeout(() => {
      if (this.#plan.take(this.#now())) this.#probe();
      this.#probeWhenDue();
    }, Math.max(0, this.#plan.next - this.#now()));
  }

  #probe() {
    const c0 = this.#now();
    this.#socket.emit("clock_sync", { t0: c0 }, (answer, c3) => {
      if (!answer || answer.ok === false) return;
      const stepped = this.clock.add(c0, answer.t1, answer.t2, c3);
      this.#hearClock();
      if (!stepped) return;
      this.#plan.burst(c3);
      this.#probeWhenDue();
    });
  }

  /**
   * Whether the clock may step. A step is audible: in music only at a beat, or if the error is over 1 s or has lasted
   * for 0.8 s.
   */
  #mayStep(miss) {
    if (!this.timeline || Math.abs(miss) > 1000 || globalThis.document?.hidden) return true;
    const now = this.#now();
    const { beat, playing } = music.placeAt(this.timeline, Math.floor((now + this.clock.offset) * 1000));
    if (!playing) return true;
    // This is asked with every frame; after a gap it is about another correction.
    const { since, last, number } = this.#pendingStep;
    const isNew = now - last > STEP_WITHIN_MS;
    this.#pendingStep = { since: isNew ? now : since, last: now, number: Math.floor(beat / music.BEAT) };
    return !isNew && (number !== this.#pendingStep.number || now - since > STEP_WITHIN_MS);
  }

  /**
   * Handles a return from the background or a change of network: the clock may have slept, and the connection may be
   * dead.
   */
  #resume() {
    if (!this.#joined || this.#now() - this.#resumedAt < RESUME_PROBE_MS) return;
    this.#resumedAt = this.#now();
    if (this.#socket.id === null) {
      clearTimeout(this.#retryTimer);
      this.#socket.open();
    } else if (this.#socket.isSilent()) {
      this.#socket.close();
    } else {
      this.#plan.start(this.#now());
      this.#probeWhenDue();
    }
  }

  #listen() {
    const on = (target, type, handler) => {
      target?.addEventListener?.(type, handler);
      this.#unlisten.push(() => target?.removeEventListener?.(type, handler));
    };
    on(globalThis.document, "visibilitychange", () => {
      if (!globalThis.document.hidden) this.#resume();
    });
    on(globalThis.window, "online", () => this.#resume());
    on(globalThis.navigator?.connection, "change", () => this.#resume());
  }

  #setStatus(status) {
    if (status === this.#status) return;
    this.#status = status;
    this.#dispatch("status", status);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new BandSyncEvent(type, detail));
  }
}

/**
 * One Socket.IO v5 connection over a WebSocket, namespace `/`. Events carry one JSON value; binary events are not
 * supported.
 * It does not reconnect by itself: the owner calls `open` again.
 */
class Socket {
  #url;
  #WebSocket;
  #now;
  #hooks;
  #ws = null;
  #acks = new Map();
  #nextAck = 0;
  #pid = null;
  #offset = null;
  #patience = CONNECT_TIMEOUT_MS;
  #watchdog = null;
  #heardAt = 0;

  /** Maximum bytes of a message, as the server announces it. */
  maxPayload = 1_000_000;
  /** The id that the server gave to this connection; null unless connected. */
  id = null;

  constructor({ url, sessionId, WebSocket, now, ...hooks }) {
    if (!url) throw new TypeError("BandSync needs a url outside of a page");
    if (!WebSocket) throw new TypeError("BandSync needs a WebSocket implementation");
    const parsed = new URL("/socket.io/?EIO=4&transport=websocket", url);
    parsed.protocol = parsed.protocol.replace("http", "ws");
    // By this, a balancer sends all members of a session to one node.
    parsed.searchParams.set("sessionId", sessionId);
    this.#url = parsed.href;
    this.#WebSocket = WebSocket;
    this.#now = now;
    this.#hooks = hooks;
  }

  open() {
    if (this.#ws) return;
    const ws = new this.#WebSocket(this.#url);
    this.#ws = ws;
    this.#patience = CONNECT_TIMEOUT_MS;
    this.#alive();
    ws.onmessage = ({ data }) => {
      // The fourth timestamp of a clock probe, so it is read first.
      const at = this.#now();
      if (ws === this.#ws && typeof data === "string") this.#engine(data, at);
    };
    ws.onerror = () => {};
    ws.onclose = () => this.#closed(ws);
  }

  close() {
    const ws = this.#ws;
    if (!ws) return;
    this.#closed(ws);
    ws.close();
  }

  /** Closes and tells the server, so that the next connection is a new one instead of a recovery. */
  leave() {
    if (this.id !== null) this.#send("41");
    this.close();
    this.#pid = null;
    this.#offset = null;
  }

  /** Sends an event. `onAck(answer, receivedAt)` is called once, with undefined if the connection ends first. */
  emit(event, payload, onAck) {
    let id = "";
    if (onAck) {
      id = this.#nextAck;
      this.#nextAck += 1;
      this.#acks.set(id, onAck);
    }
    this.#send(`42${id}${JSON.stringify([event, payload])}`);
  }

  /** Whether the server has been silent for too long. Timers sleep in a background tab; this check does not. */
  isSilent() {
    return this.#now() - this.#heardAt > this.#patience;
  }

  #send(text) {
    if (this.#ws?.readyState === 1) this.#ws.send(text);
  }

  #alive() {
    this.#heardAt = this.#now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.close(), this.#patience);
  }

  #engine(text, at) {
    const body = text.slice(1);
    switch (text[0]) {
      case "0": {
        const open = parse(body);
        if (!isObject(open)) return this.close();
        this.maxPayload = Number(open.maxPayload) || 1_000_000;
        this.#patience = (Number(open.pingInterval) || 25_000) + (Number(open.pingTimeout) || 20_000);
        const auth = this.#pid && this.#offset ? JSON.stringify({ pid: this.#pid, offset: this.#offset }) : "";
        this.#send(`40${auth}`);
        return undefined;
      }
      case "1":
        return this.close();
      case "2":
        this.#alive();
        return this.#send(`3${body}`);
      case "4":
        return this.#packet(body, at);
      case "6":
        return undefined;
      default:
        return this.close();
    }
  }

  #packet(text, at) {
    const type = text[0];
    const [, id, json] = /^(\d*)([^]*)$/.exec(text.slice(1));
    const value = json === "" ? undefined : parse(json);
    if (type === "0" && isObject(value) && typeof value.sid === "string") {
      this.id = value.sid;
      const recovered = this.#pid !== null && value.pid === this.#pid;
      this.#pid = typeof value.pid === "string" ? value.pid : null;
      if (!recovered) this.#offset = null;
      this.#alive();
      return this.#hooks.onConnect(recovered);
    }
    if (type === "2" && Array.isArray(value) && typeof value[0] === "string") {
      if (this.#pid !== null && value.length > 2 && typeof value.at(-1) === "string") this.#offset = value.at(-1);
      const ack = id === "" ? null : (...answer) => this.#send(`43${id}${JSON.stringify(answer)}`);
      return this.#hooks.onEvent(value[0], value[1], ack);
    }
    if (type === "3" && Array.isArray(value)) {
      const onAck = this.#acks.get(Number(id));
      this.#acks.delete(Number(id));
      return onAck?.(value[0] ?? null, at);
    }
    // This client uses no binary events. Their attachments are dropped too.
    if (type === "5" || type === "6") return undefined;
    // A goodbye, a rejection or an invalid packet: the owner tries again.
    return this.close();
  }

  #closed(ws) {
    if (ws !== this.#ws) return;
    this.#ws = null;
    this.id = null;
    clearTimeout(this.#watchdog);
    const waiting = [...this.#acks.values()];
    this.#acks.clear();
    for (const onAck of waiting) onAck(undefined);
    this.#hooks.onClose();
  }
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The leader's id in a payload. The Node.js server sends an id, a member, or nothing. */
function idOf(leader) {
  return isObject(leader) ? (leader.socketId ?? null) : leader;
}

function randomText() {
  return Array.from(globalThis.crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(36).padStart(2, "0")).join("");
}

/** The promise, or a rejection with the reason of `signal` if that aborts first. Then `stop` is called. */
function untilAborted(promise, signal, stop) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason);
      stop();
    };
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}
