// Types of bandsync.js. Those of the protocol are in protocol.d.ts.

import type {
  Acknowledgements,
  ClientEvents,
  ErrorCode,
  Member,
  NewOperation,
  ServerEvents,
  Setlist,
  Song,
  Timeline,
} from "./protocol.d.ts";

/** Code of a rejection: the server's, or one of the client. */
export type RejectionCode = ErrorCode | "offline" | "timeout";

/** A rejection by the server, or by the client because there is no connection or no answer. */
export class BandSyncError extends Error {
  constructor(error?: {
    code?: RejectionCode;
    message?: string;
    field?: string;
    retryAfter?: number;
    bytes?: number;
    max?: number;
    revision?: number;
    songId?: string;
    song?: Song | null;
  });
  readonly name: "BandSyncError";
  code: RejectionCode;
  /** The field at fault. */
  field?: string;
  /** Milliseconds after which the event would be accepted, if it came too fast. */
  retryAfter?: number;
  /** The size that was too large, in bytes. */
  bytes?: number;
  /** The maximum of that size. */
  max?: number;
  /** The revision of the set list, of a conflict. */
  revision?: number;
  /** The song that another member changed meanwhile. */
  songId?: string;
  /** That song as it is now; null if it is gone. */
  song?: Song | null;
}

export interface Options {
  /** The server; default: the page's own origin. http(s) or ws(s). */
  url?: string | URL;
  sessionId?: string;
  /** Display name. */
  name?: string;
  role?: "leader" | "follower";
  /** Position ticks per second; 0 by default, because the timeline makes them unnecessary. */
  tickHz?: number;
  instrument?: string;
  passcode?: string;
  leaderPin?: string;
  /** The `token` of an earlier member of the session, to get its seat back. */
  token?: string;
  /** Where tokens are kept: by default the page's `localStorage`, or memory if there is none. Null for memory. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null;
  /** A screen shows an existing session. It is no member, and may only ask. */
  view?: "member" | "screen";
  /** Needed where there is no global one. */
  WebSocket?: typeof WebSocket;
  /** Monotonic milliseconds. */
  now?: () => number;
  /** Milliseconds between attempts to reconnect. */
  backoff?: { least: number; most: number };
}

/** An abort ends the wait for an answer. It does not take back what was sent. */
export interface Abortable {
  signal?: AbortSignal;
}

/**
 * The set list after an edit; null if the edit belongs to another revision, so that the list must be requested. Songs
 * that were added or replaced have their bodies.
 */
export function editedSetlist(setlist: Setlist, change: ServerEvents["setlist_changed"]): Setlist | null;

/** Fields of an event. The client adds `sessionId` and `commandId`. */
export type Fields<E extends keyof ClientEvents> = Omit<ClientEvents[E], "sessionId" | "commandId">;

/** Fields of an event besides those that a method has as parameters. */
export type More<E extends keyof ClientEvents> = Partial<Fields<E>> & Abortable;

export type Status = "idle" | "connecting" | "online" | "reconnecting" | "closed";

/** The position in the music. */
export interface Beat {
  /** Song beat: 0 is the first beat of bar 1. */
  songBeat: number;
  /** Song beat in whole microbeats. */
  microbeats: number;
  /** From 1; a count-in is bar 0 and below. */
  bar: number;
  /** Beat in the bar, from 1. */
  beat: number;
  /** Part of the beat, 0 to 1. */
  phase: number;
  /** Time signature. */
  num: number;
  den: number;
  tempoBpm: number;
  /** Pass of a loop, from 1; 0 outside of a loop. */
  pass: number;
  /** Whether the band counts in. */
  countIn: boolean;
}

export interface ClickTime {
  /** Song beat. */
  beat: number;
  atServerMs: number;
  isDownbeat: boolean;
}

/** An estimate of the server's clock, with a bound on its error, in milliseconds. */
export interface BandClock {
  /** The server's clock; null before the first answer. */
  now(): number | null;
  readonly ready: boolean;
  readonly samples: number;
  readonly offset: number | null;
  /** Maximum error; Infinity without an answer. */
  readonly bound: number;
  readonly roundTrip: number | null;
  readonly quality: "tight" | "good" | "loose" | "lost";
  estimate(at?: number): { offset: number; bound: number } | null;
}

/** The newest snapshot with later updates merged in. */
export type Snapshot = ServerEvents["snapshot"];

/** The client's own events, by name, with their `detail`. */
export interface OwnEvents {
  /** The connection changed. */
  status: Status;
  /** Timeline, members or session changed. */
  change: undefined;
  /** The server rejected a join or a rejoin. */
  refused: BandSyncError;
  /** Another connection with this member's token has its seat now. This member does not join again by itself. */
  replaced: BandSyncError;
}

export type EventName = keyof ServerEvents | keyof OwnEvents;

export type Detail<N extends EventName> = N extends keyof OwnEvents
  ? OwnEvents[N]
  : N extends keyof ServerEvents
    ? ServerEvents[N]
    : never;

export interface BandSyncEvent<N extends EventName> extends Event {
  readonly type: N;
  readonly detail: Detail<N>;
}

/** One member of one session. Each event of the server is dispatched under its own name, with the payload in `detail`. */
export class BandSync extends EventTarget {
  constructor(options?: Options);

  /** The newest timeline. */
  timeline: Timeline | null;
  snapshot: Snapshot | null;
  /** In the server's order; in a large session, the leader and a few others. */
  members: Member[];
  /** The number of members, whether or not `members` lists all of them. */
  memberCount: number;
  /** Socket id of the leader. */
  leaderId: string | null;
  /** The server's clock. */
  clock: BandClock;
  get status(): Status;
  get sessionId(): string;
  get name(): string;
  /** This connection's socket id; null while there is none. */
  get id(): string | null;
  /** The secret with which this member gets its seat back until it leaves; null before the first join. */
  get token(): string | null;
  get isLeader(): boolean;
  get leader(): Member | null;
  /** Whether the music runs at this moment. */
  get isPlaying(): boolean;

  /** Connects and joins, and stays joined through lost connections until `leave`. */
  join(options?: Options & Abortable): Promise<Acknowledgements["join_session"]>;
  /** Leaves the session for good, and closes the connection. The server forgets this member's token. */
  leave(): void;

  /** The server's clock in whole microseconds, as in the timeline; null before the first answer. */
  serverMicros(): number | null;
  /** Position in milliseconds, below zero during a count-in; null without timeline or clock. */
  position(): number | null;
  /** The position in the music; null without timeline or clock. */
  beat(): Beat | null;
  /** The start of the next bar, in milliseconds on the server's clock; null while nothing plays. */
  nextBarAt(): number | null;
  /** Whole beats from `sinceMs` until before `untilMs` on the server's clock. */
  beatsBetween(sinceMs: number, untilMs: number): ClickTime[];

  /** Sends any event of the protocol. Rejects with a BandSyncError, or with the reason of the signal. */
  request<E extends keyof ClientEvents>(event: E, fields?: Fields<E> & Abortable): Promise<Acknowledgements[E]>;

  play(options?: More<"play">): Promise<Acknowledgements["play"]>;
  pause(options?: More<"pause">): Promise<Acknowledgements["pause"]>;
  stop(options?: More<"stop">): Promise<Acknowledgements["stop"]>;
  /** Goes to a position in milliseconds. */
  seek(position: number, options?: More<"seek">): Promise<Acknowledgements["seek"]>;
  /** Goes to a song beat: at once, or armed with `at` or `atBeat`. */
  seekBeat(beat: number, options?: More<"seek">): Promise<Acknowledgements["seek"]>;
  /** Repeats the song from one beat to another until `releaseLoop`. */
  loop(from: number, to: number, options?: More<"loop">): Promise<Acknowledgements["loop"]>;
  /** Makes the present pass of the loop the last one. */
  releaseLoop(options?: Abortable): Promise<Acknowledgements["loop"]>;
  /** Cancels armed changes, but not the loop. */
  cancel(options?: More<"cancel">): Promise<Acknowledgements["cancel"]>;
  /** Moves the place by whole beats at once, -64 to 64. The click goes on. */
  nudge(beats: number, options?: More<"nudge">): Promise<Acknowledgements["nudge"]>;
  /** Moves the nearest bar line to a press, by the server's clock; by default now. */
  one(atServerMs?: number, options?: Abortable): Promise<Acknowledgements["one"]>;
  /** Sets the tempo in BPM, at once or by a ramp of `fadeTime` milliseconds. */
  setTempo(tempo: number, fadeTime?: number, options?: More<"tempo_change">): Promise<Acknowledgements["tempo_change"]>;
  setTimeSignature(
    numerator: number,
    denominator: Fields<"set_time_signature">["denominator"],
    options?: More<"set_time_signature">,
  ): Promise<Acknowledgements["set_time_signature"]>;

  /** Takes the lead, or asks for it if the session requires that; with the PIN if it requires one. */
  takeLead(leaderPin?: string, options?: Abortable): Promise<Acknowledgements["set_role"]>;
  /** Gives the lead up. */
  follow(options?: Abortable): Promise<Acknowledgements["set_role"]>;
  /** Gives the lead to another member. */
  handOver(memberId: string, options?: Abortable): Promise<Acknowledgements["set_role"]>;
  /** Asks the leader for the lead. */
  requestLead(options?: Abortable): Promise<Acknowledgements["request_leader"]>;
  approveLead(requesterId: string, options?: Abortable): Promise<Acknowledgements["approve_leader_request"]>;
  denyLead(requesterId: string, options?: Abortable): Promise<Acknowledgements["deny_leader_request"]>;

  /** Asks for the newest state. Rarely needed: a client that misses a change asks by itself. */
  sync(options?: More<"sync_request">): Promise<Acknowledgements["sync_request"]>;
  chat(message: string, options?: More<"chat_message">): Promise<Acknowledgements["chat_message"]>;
  /** Sets the message on everybody's screen; the empty text brings the automatic messages back. */
  setMessage(message: string, options?: Abortable): Promise<Acknowledgements["update_message"]>;
  /** Changes settings; null takes a secret away. */
  updateSettings(settings: Fields<"update_settings">, options?: Abortable): Promise<Acknowledgements["update_settings"]>;
  /** Lets a member edit the set list, or not. */
  setMember(
    memberId: string,
    rights: { mayEdit: boolean },
    options?: Abortable,
  ): Promise<Acknowledgements["set_member"]>;
  /** A short stage message. The text may be empty if there is a kind. */
  cue(text: string, options?: More<"cue">): Promise<Acknowledgements["cue"]>;

  /** Replaces the set list. A list that is longer than a message goes in pieces. */
  setSetlist(
    setlist: Fields<"set_setlist">["setlist"],
    options?: Abortable,
  ): Promise<Acknowledgements["set_setlist"] | Acknowledgements["edit_setlist"]>;
  /** Applies all operations to the set list, or none. Rejects with `conflict` if somebody changed a song meanwhile. */
  editSetlist(ops: NewOperation[], options?: Abortable): Promise<Acknowledgements["edit_setlist"]>;
  /** The set list, its songs without bodies. */
  setlist(options?: Abortable): Promise<Setlist>;
  /** Songs with their bodies; default: all, the selected one first. */
  songs(songIds?: string[], options?: Abortable): Promise<Song[]>;
  selectSong(songId: string, options?: More<"select_song">): Promise<Acknowledgements["select_song"]>;
  /** Selects the next song, or the one before. */
  stepSong(step?: 1 | -1, options?: More<"select_song">): Promise<Acknowledgements["select_song"]>;
  /** A song with its body. */
  song(songId: string, options?: Abortable): Promise<Song>;

  /** As leader: the beat, which is compared with the timeline and passed on. */
  reportBeat(beatPosition: number, masterTime?: number, options?: Abortable): Promise<Acknowledgements["beat_sync"]>;
  /** The position in milliseconds at which this member is. */
  reportPosition(positionMs: number, options?: Abortable): Promise<Acknowledgements["position_sync"]>;
  /** The round trip to the server, in milliseconds. */
  measureLatency(options?: Abortable): Promise<number>;
  /** The quality of this connection, as the server sees it. */
  connectionQuality(options?: Abortable): Promise<Acknowledgements["connection_quality"]>;

  addEventListener<N extends EventName>(
    type: N,
    listener: ((event: BandSyncEvent<N>) => void) | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<N extends EventName>(
    type: N,
    listener: ((event: BandSyncEvent<N>) => void) | null,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
