// The protocol of BandSync as types, for bandsync.js and for a stock socket:
//
//   import { io, type Socket } from "socket.io-client";
//   import type { ClientToServerEvents, ServerToClientEvents } from "./protocol.d.ts";
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://127.0.0.1:3001");
//
// Times named …ServerMs, t1 and t2 are milliseconds on the server's monotonic clock, others Unix milliseconds.

/** The acknowledgement of an event: accepted or rejected. */
export type Answer<E extends keyof ClientEvents> = Acknowledgements[E] | Refused;

/** The events that a stock socket sends. */
export type ClientToServerEvents = {
  [E in keyof ClientEvents]: (payload: ClientEvents[E], ack?: (answer: Answer<E>) => void) => void;
};

/** The events that a stock socket receives. */
export type ServerToClientEvents = {
  [E in keyof ServerEvents]: (payload: ServerEvents[E]) => void;
};

// events, by `tools docs`

/** Payloads of the events that clients send. */
export interface ClientEvents {
  /**
   * Joins a session, and creates it if it does not exist. If no member leads, the new member leads, unless it asks for
   * the role follower. The first member sets passcode and leaderPin; with a PIN, only members that know it may claim
   * the lead. A member of another session leaves that one when this one admits it. If the token belongs to a seat of
   * the session, the member gets that seat, and a connection that has the seat is replaced. With view screen the client
   * only shows an existing session: it is no member, and may send only sync_request, get_setlist, get_songs, get_song,
   * leave_session and events of its connection.
   */
  join_session: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text, cut to 64 characters */
    displayName?: string | null;
    role?: Role | null;
    /** text, cut to 64 characters */
    instrument?: string | null;
    /** text of up to 128 characters, a new one has 8 characters or more where SECURITY_PROFILE is internet */
    passcode?: string | null;
    /** text of up to 128 characters, a new one has 8 characters or more where SECURITY_PROFILE is internet */
    leaderPin?: string | null;
    /** whole, 0 to 125 */
    tickHz?: number | null;
    metronome?: boolean | null;
    /**
     * text like `^[A-Za-z0-9_-]{22,64}$`, a secret that the client makes once for a session, of at least 128 random
     * bits
     */
    token?: string | null;
    /**
     * text like `^[A-Za-z0-9_-]{22,64}$`, a secret that the client makes once for a session, of at least 128 random
     * bits
     */
    newToken?: string | null;
    view?: View | null;
  };
  /**
   * Leaves the session, and makes the server forget the sender's token. If the sender leads, the lead passes to another
   * member at once.
   */
  leave_session: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
  };
  /**
   * Claims the lead, gives it up, or, as the leader, hands it to memberId. Under leaderRule "ask" a claim becomes a
   * request to the leader, under "pin" it requires the PIN. Of two claims within one batch window the first is applied.
   */
  set_role: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    role: Role;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    memberId?: string | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Requests the lead. If no member leads, the sender leads at once. */
  request_leader: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Hands the lead to a member that requested it. */
  approve_leader_request: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    requesterId: string;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Denies a member's request for the lead. */
  deny_leader_request: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    requesterId: string;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /**
   * Requests position and timeline. If checksum or version differ from the session's, a snapshot follows. The answer
   * never waits for a batch window.
   */
  sync_request: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 64 characters */
    checksum?: string | null;
    /** whole number */
    version?: number | null;
  };
  /**
   * Sets the message that all members see. An empty text restores the automatic messages, which say whether a member
   * leads.
   */
  update_message: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text, cut to 500 characters */
    message: string;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Sends a chat message to all members. */
  chat_message: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text, cut to 500 characters */
    message: string;
    /** text, cut to 64 characters */
    username?: string | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Changes all named settings of the session, or none. null removes a passcode or PIN. */
  update_settings: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole, 1 to 100000 */
    maxMembers?: number | null;
    onLeaderLoss?: OnLeaderLoss | null;
    leaderRule?: LeaderRule | null;
    /** text of up to 128 characters, a new one has 8 characters or more where SECURITY_PROFILE is internet */
    passcode?: string | null;
    /** text of up to 128 characters, a new one has 8 characters or more where SECURITY_PROFILE is internet */
    leaderPin?: string | null;
    anyoneMayCue?: boolean | null;
    anyoneMayEdit?: boolean | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /** Gives a member the right to edit the set list, or takes it away. The right belongs to the member's seat. */
  set_member: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    memberId: string;
    mayEdit: boolean;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /**
   * Sends a short stage message to all members, with its server time. It has a text or a kind. seconds says how long it
   * is shown, 5 without it. Followers may send it if anyoneMayCue is set.
   */
  cue: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 200 characters */
    text?: string | null;
    kind?: CueKind | null;
    /** 0 to 60 */
    seconds?: number | null;
    /** text, cut to 64 characters */
    target?: string | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /**
   * Starts the song, at once or at atServerMs, and after a count-in if countInBars is set. quantize moves the position
   * back to the beginning of its bar or beat first.
   */
  play: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** number ≥ 0 */
    atServerMs?: number | null;
    /** whole, 0 to 8 */
    countInBars?: number | null;
    quantize?: Quantize | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /**
   * Stops at the present position, or at that of atServerMs if it is at most 500 ms ago, and cancels scheduled and
   * armed changes.
   */
  pause: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** number ≥ 0 */
    atServerMs?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Stops at the beginning of the song, and cancels scheduled and armed changes and the loop. */
  stop: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** number ≥ 0 */
    atServerMs?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /**
   * Moves to a position or a beat, also while playing: at once, at atServerMs, or at the next bar line or beat (at) or
   * song beat (atBeat). If the music is stopped, at and atBeat move it at once.
   */
  seek: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 0 to 86400000 */
    position?: number | null;
    /** 0 to 576000, from the first beat of bar 1 as 0 */
    beat?: number | null;
    /** number ≥ 0 */
    atServerMs?: number | null;
    at?: Line | null;
    /** whole, 0 to 576000 */
    atBeat?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Changes the tempo at once. Members receive tempo_changed. */
  set_tempo: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 1 to 400 */
    tempo: number;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Changes the tempo, at once or as a ramp over fadeTime, now or when the song reaches atBeat. */
  tempo_change: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 0 to 3600000 */
    fadeTime?: number | null;
    /** 1 to 400 */
    tempo: number;
    /** whole, 0 to 576000 */
    atBeat?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Like tempo_change; members receive it as tempo_changed. */
  tempo_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 0 to 3600000 */
    fadeTime?: number | null;
    /** 1 to 400 */
    tempo: number;
    /** whole, 0 to 576000 */
    atBeat?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Changes the time signature from the next bar on, or from the present bar if the music is stopped. */
  set_time_signature: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole, 1 to 32 */
    numerator: number;
    denominator: 1 | 2 | 4 | 8 | 16 | 32;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /**
   * Repeats the song between two beats until it is released by from: null. The present pass is then the last one. With
   * from, to is required, and lies whole beats after it.
   */
  loop: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 0 to 576000, from the first beat of bar 1 as 0 */
    from: number | null;
    /** 0 to 576000, from the first beat of bar 1 as 0 */
    to?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Cancels armed jumps, songs, tempos and signatures, but not the loop. */
  cancel: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Moves the position by whole beats at once. The click goes on. */
  nudge: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole, -64 to 64, not 0 */
    beats: number;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /**
   * Corrects the bar: the nearest bar line moves to atServerMs, the time of a press on beat one, which is at most 2 s
   * ago.
   */
  one: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** number ≥ 0 */
    atServerMs: number;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Reports the leader's beat. Members receive its distance from the timeline; the music does not move. */
  beat_sync: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    beatPosition: number;
    masterTime: number;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /**
   * Reports the sender's position. All members receive the leader's report, and if it is more than 25 ms off, the music
   * moves there. A follower whose report is more than 25 ms off receives drift_correction.
   */
  position_sync: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 0 to 86400000 */
    positionMs: number;
    timestamp: number;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Measures the round trip; answered at once. */
  latency_probe: {
    timestamp: number;
  };
  /** Measures the offset to the server's clock with four timestamps; answered at once. */
  clock_sync: {
    t0: number;
  };
  /**
   * Replaces the session's songs, at most 1 MiB in all. A longer list than a message holds is completed with
   * edit_setlist.
   */
  set_setlist: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    setlist: NewSetlist;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /**
   * Edits the set list by 1 to 100 operations; all apply, or none. The leader may do this, members with mayEdit, and
   * all members if anyoneMayEdit is set. replace and remove are rejected with conflict if the song's revision is not
   * was, with the song as it is now. A song that plays cannot be removed.
   */
  edit_setlist: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    ops: NewOperation[];
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
  };
  /**
   * Selects a song by songId, or the next (step 1) or previous one (step -1). The song is stopped at its beginning, or
   * with play it plays, in its tempo and signature. It begins at once, or while playing at the next bar line or beat
   * (at) or song beat (atBeat).
   */
  select_song: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of 1 to 64 characters */
    songId?: string | null;
    step?: 1 | -1 | null;
    play?: boolean | null;
    at?: Line | null;
    /** whole, 0 to 576000 */
    atBeat?: number | null;
    /**
     * text of up to 64 characters, Id of a command: <client>-<number>. The number, below 2^53, increases with each
     * command. A number that is not above the last applied one of this client changes nothing, so an unanswered command
     * may be sent again, also on another connection. The client part must be hard to guess. A session remembers its
     * latest 256 clients, at most four of one member, until the server restarts.
     */
    commandId?: string | null;
    /** number ≥ 0 */
    notAfterServerMs?: number | null;
  };
  /** Requests the set list without the bodies of its songs. Each song has the revision in which it last changed. */
  get_setlist: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
  };
  /**
   * Requests songs with their bodies: those of songIds, or the selected song and then all others in order. The answer
   * has at least one and ends after 256 KiB; more has the ids to request next. Songs that are gone are left out.
   */
  get_songs: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    songIds?: string[] | null;
  };
  /** Requests a song with its body. */
  get_song: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of 1 to 64 characters */
    songId: string;
  };
  /** Answers a ping. */
  pong: {
    timestamp?: number | null;
  };
  /** Sends a sign of life. The server answers with heartbeat_response. */
  heartbeat: {
    timestamp?: number | null;
  };
  /** Requests the measured quality of the connection. */
  connection_quality: Record<string, never>;
  /** Accepted and ignored, because old clients send it. */
  heartbeat_response: Record<string, never>;
  /** Accepted and ignored, because old clients send it. Roles change by set_role. */
  role_changed: Record<string, never>;
  /** Accepted and ignored, because old clients send it. */
  error: Record<string, never>;
}

/** Acknowledgements of events that were accepted. */
export interface Acknowledgements {
  join_session: {
    ok: true;
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    role: Role;
    /** whole number */
    protocol: number;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    restored?: boolean;
    seat: Seat;
  };
  leave_session: {
    ok: true;
  };
  set_role: {
    ok: true;
    /** whole number */
    epoch?: number;
    /** whole number */
    version?: number;
    pending?: boolean;
  } | Repeated;
  request_leader: {
    ok: true;
    /** whole number */
    epoch?: number;
    /** whole number */
    version?: number;
    pending?: boolean;
  } | Repeated;
  approve_leader_request: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  deny_leader_request: {
    ok: true;
  } | Repeated;
  sync_request: {
    ok: true;
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    positionMs: number;
    /** 1 to 400 */
    tempoBpm: number;
    isPlaying: boolean;
    /** whole number, milliseconds since 1970 */
    serverTime: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** text like `^[0-9a-f]{8}$` */
    checksum: string;
    timeline: Timeline;
  };
  update_message: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    cut?: true;
  } | Repeated;
  chat_message: {
    ok: true;
    cut?: true;
  } | Repeated;
  update_settings: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  set_member: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  cue: {
    ok: true;
  } | Repeated;
  play: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  pause: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  stop: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  seek: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated | Superseded;
  set_tempo: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated | Superseded;
  tempo_change: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated | Superseded;
  tempo_changed: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated | Superseded;
  set_time_signature: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  loop: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  cancel: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  nudge: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  one: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  beat_sync: {
    ok: true;
  };
  position_sync: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Superseded;
  latency_probe: {
    ok: true;
    clientTimestamp: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** number ≥ 0 */
    t1: number;
    /** number ≥ 0 */
    t2: number;
  };
  clock_sync: {
    ok: true;
    t0: number;
    /** number ≥ 0 */
    t1: number;
    /** number ≥ 0 */
    t2: number;
  };
  set_setlist: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  edit_setlist: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** whole number */
    revision: number;
  } | Repeated;
  select_song: {
    ok: true;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  } | Repeated;
  get_setlist: {
    ok: true;
    /** whole number */
    revision: number;
    /** text of up to 200 characters */
    title: string;
    songs: Song[];
  };
  get_songs: {
    ok: true;
    /** whole number */
    revision: number;
    songs: Song[];
    more: string[];
  };
  get_song: {
    ok: true;
    song: Song;
  };
  pong: {
    ok: true;
  };
  heartbeat: {
    ok: true;
    timestamp: number | null;
    clientTimestamp: number | null;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** number ≥ 0 */
    rtt: number | null;
  };
  connection_quality: {
    ok: true;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    /** number ≥ 0 */
    latency: number;
    /** 0 to 100 */
    packetLoss: number;
    /** number ≥ 0 */
    connectionDuration: number;
    /** whole number */
    pingCount: number;
    /** whole number */
    pongCount: number;
    /** whole number */
    timeouts: number;
    quality: Quality;
  };
  heartbeat_response: {
    ok: true;
  };
  role_changed: {
    ok: true;
  };
  error: {
    ok: true;
  };
}

/** Payloads of the events that the server sends. */
export interface ServerEvents {
  /**
   * The whole session. A new member receives it, and all members receive it after changes of playback, lead, message,
   * set list or names. If the session has more than 256 members, members lists only the leader and those that joined
   * first, and memberCount has the number of all.
   */
  snapshot: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 500 characters */
    message: string;
    /** 1 to 400 */
    tempo: number;
    /** 1 to 400 */
    tempoBpm: number;
    position: number;
    beat: number;
    isPlaying: boolean;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    leaderSocketId: string | null;
    members: Member[];
    /** whole number */
    memberCount?: number;
    /** whole number, milliseconds since 1970 */
    createdAt: number;
    /** whole number, milliseconds since 1970 */
    lastActiveAt: number;
    settings: Settings;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** text like `^[0-9a-f]{8}$` */
    checksum: string;
    timeline: Timeline;
    timeSignature: TimeSignature;
    song?: CurrentSong;
    setlist?: Setlist;
    /** whole number */
    setlistRevision?: number;
  };
  /**
   * Member counts and playback; the last event of a batch. In a session of more than 256 members at most once per
   * second.
   */
  room_stats: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole number */
    memberCount: number;
    /** whole number */
    connectedCount: number;
    isPlaying: boolean;
    /** 1 to 400 */
    tempo: number;
    position: number;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    leader: string | null;
    /** number ≥ 0 */
    uptime: number;
    /** whole number */
    screens: number;
  };
  /** The settings, the time signature, the loop, the armed changes or the rights of a member were changed. */
  session_update: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    settings?: Settings;
    timeSignature?: TimeSignature;
    timeline?: Timeline;
    member?: Member;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** text like `^[0-9a-f]{8}$` */
    checksum: string;
  };
  /** A member joined. In a session of more than 256 members only for members that snapshots list. */
  user_joined: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    member: Member;
    /** whole number */
    memberCount: number;
  };
  /** A member left or was lost. In a session of more than 256 members only for members that snapshots list. */
  user_left: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    /** whole number */
    memberCount: number;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    newLeader: string | null;
    disconnectReason: LeaveReason;
    /** whole number, milliseconds since 1970 */
    timestamp: number;
  };
  /** A member's role changed. If a command asks for the present role, only its sender receives this. */
  role_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    role: Role;
    previousRole: Role;
    /** text of up to 64 characters */
    reason?: string;
    /** whole number, milliseconds since 1970 */
    timestamp: number;
  };
  /** Sent to the requester: the request waits for the leader's answer. */
  leader_request_sent: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 64 characters */
    message: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    currentLeader: string;
  };
  /** Sent to the leader: a member requests the lead. */
  leader_handoff_request: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    requesterId: string;
    requesterInfo: MemberInfo;
  };
  /** Sent to the requester: it leads now. */
  leader_request_approved: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 64 characters */
    message: string;
  };
  /** Sent to the requester: the leader denied the request, or the lead was passed on or given up. */
  leader_request_denied: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 64 characters */
    reason: string;
  };
  /** Sent to the former leader: the requester leads now. */
  leader_handoff_completed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    newLeaderId: string;
    /** text of up to 64 characters */
    message: string;
  };
  /** The session has another leader. A leader that claims the lead again receives it alone. */
  leader_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    newLeaderId: string;
    newLeaderInfo: MemberInfo;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    previousLeader: string | null;
  };
  /** Answer to sync_request: position, tempo and timeline. */
  sync_response: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    positionMs: number;
    /** 1 to 400 */
    tempoBpm: number;
    isPlaying: boolean;
    /** whole number, milliseconds since 1970 */
    serverTime: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** text like `^[0-9a-f]{8}$` */
    checksum: string;
    timeline: Timeline;
  };
  /**
   * A chat message of a member. In a session of 32 members or more it may wait for up to four batch windows, so that
   * several are sent together.
   */
  chat_message: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of 1 to 500 characters */
    message: string;
    /** text of up to 64 characters */
    username: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    /** whole number, milliseconds since 1970 */
    timestamp: number;
  };
  /** A stage message. */
  cue: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of up to 200 characters */
    text: string;
    kind: CueKind;
    /** 0 to 60 */
    seconds: number;
    /** text of up to 64 characters */
    target?: string;
    /** text like `^[A-Za-z0-9_-]{20}$` */
    from: string;
    /** number ≥ 0 */
    atServerMs: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
  };
  /** The song starts; the timeline has the time. */
  play: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 1 to 400 */
    tempoBpm: number;
    position: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The song was stopped at this position. */
  pause: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    position: number;
    /** text of up to 64 characters */
    reason?: string;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The song was stopped at its beginning. */
  stop: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The position was changed. */
  seek: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    position: number;
    beat: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The tempo was changed by tempo_change. */
  tempo_change: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 1 to 400 */
    oldTempo: number;
    /** 1 to 400 */
    newTempo: number;
    /** whole number, milliseconds since 1970 */
    changeTime: number;
    /** number ≥ 0 */
    fadeTime: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The tempo was changed by set_tempo or tempo_changed. */
  tempo_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** 1 to 400 */
    oldTempo: number;
    /** 1 to 400 */
    newTempo: number;
    /** whole number, milliseconds since 1970 */
    changeTime: number;
    /** number ≥ 0 */
    fadeTime: number;
    isRealTime: boolean;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** The leader's beat, and its distance from the timeline's. */
  beat_sync: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole number, milliseconds since 1970 */
    masterTime: number;
    beatPosition: number;
    /** 1 to 400 */
    tempo: number;
    drift: number;
  };
  /** The leader's position. */
  position_sync: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    positionMs: number;
    /** whole number, milliseconds since 1970 */
    serverTime: number;
    clientTimestamp: number;
  };
  /** Sent to a follower whose reported position is more than 25 ms off. */
  drift_correction: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    correctPosition: number;
    reportedPosition: number;
    drift: number;
    /** whole number, milliseconds since 1970 */
    timestamp: number;
  };
  /** The position, with every tick while the music plays. A client that reads too slowly misses ticks. */
  scroll_tick: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    positionMs: number;
    /** 1 to 400 */
    tempoBpm: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
  };
  /** A beat, sent 200 ms before its time to members that joined with metronome set. */
  metronome_tick: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole number */
    beat: number;
    /** whole number */
    bar: number;
    /** number ≥ 0 */
    atServerMs: number;
    /** 1 to 400 */
    tempoBpm: number;
    isDownbeat: boolean;
  };
  /** The songs were changed; the list has their bodies. */
  setlist: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    setlist: Setlist;
  };
  /**
   * The set list was edited. A member that holds the revision base applies the operations in order; another one
   * requests the list.
   */
  setlist_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** whole number */
    revision: number;
    /** whole number */
    base: number;
    ops: Operation[];
    /** text like `^[A-Za-z0-9_-]{20}$` */
    from: string;
    /** whole number */
    epoch: number;
    /** whole number */
    version: number;
    /** text like `^[0-9a-f]{8}$` */
    checksum: string;
  };
  /** Another song was selected. */
  song_changed: {
    /** text of 1 to 128 characters, at most 128 bytes of UTF-8 without control characters */
    sessionId: string;
    /** text of 1 to 64 characters */
    songId: string;
    /** whole number */
    index: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    timeline: Timeline;
  };
  /** Answer to latency_probe. */
  latency_response: {
    clientTimestamp: number;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** number ≥ 0 */
    t1: number;
    /** number ≥ 0 */
    t2: number;
  };
  /** Answer to a clock_sync without acknowledgement. */
  clock_sync: {
    t0: number;
    /** number ≥ 0 */
    t1: number;
    /** number ≥ 0 */
    t2: number;
  };
  /** Heartbeat of the application, which the client answers with pong. */
  ping: {
    /** whole number, milliseconds since 1970 */
    timestamp: number;
  };
  /** Answer to heartbeat. */
  heartbeat_response: {
    timestamp: number | null;
    clientTimestamp: number | null;
    /** whole number, milliseconds since 1970 */
    serverTimestamp: number;
    /** number ≥ 0 */
    rtt: number | null;
  };
  /** Answer to connection_quality; also sent after every fifth pong. */
  connection_quality: {
    /** text like `^[A-Za-z0-9_-]{20}$` */
    socketId: string;
    /** number ≥ 0 */
    latency: number;
    /** 0 to 100 */
    packetLoss: number;
    /** number ≥ 0 */
    connectionDuration: number;
    /** whole number */
    pingCount: number;
    /** whole number */
    pongCount: number;
    /** whole number */
    timeouts: number;
    quality: Quality;
  };
  /**
   * The event exceeded its rate and was dropped. After ten such events within a minute the server closes the
   * connection. Of set_tempo, tempo_change, tempo_changed, position_sync and a seek without a time, the newest waits
   * instead.
   */
  rate_limit_exceeded: {
    eventType: string;
    /** number ≥ 0 */
    retryAfter: number;
  };
  /** An event without acknowledgement was rejected. */
  error: {
    message: string;
    code: ErrorCode;
    event: string;
    /** text of up to 64 characters */
    field?: string;
    /** number ≥ 0 */
    retryAfter?: number;
    /** whole number */
    bytes?: number;
    /** whole number */
    max?: number;
    /** whole number */
    revision?: number;
    /** text of 1 to 64 characters */
    songId?: string;
    song?: Song | null;
  };
}

export type Role = "leader" | "follower";

export type View = "member" | "screen";

export type Seat = "new" | "back";

export interface Repeated {
  ok: true;
  /** whole number */
  epoch: number;
  /** whole number */
  version: number;
  repeated: true;
}

export interface Loop {
  /** whole number */
  from: number;
  /** whole number */
  to: number;
  /** whole number */
  p: number;
}

export type Armed = "jump" | "song" | "tempo" | "meter" | "end";

export interface Meter {
  /** whole number */
  beat: number;
  /** whole, 1 to 32 */
  num: number;
  den: 1 | 2 | 4 | 8 | 16 | 32;
}

export interface Segment {
  /** whole number */
  t0: number;
  /** whole number */
  p0: number;
  /** whole number */
  b0: number;
  rate: 0 | 1;
  /** whole number */
  bpm0: number;
  /** whole number */
  bpm1: number;
  /** whole number */
  ramp: number;
  loop?: Loop;
  /** whole number */
  start?: number;
  /** whole number */
  cut?: number;
  armed?: Armed;
  /** text of 1 to 64 characters */
  song?: string;
  meter?: Meter[];
  /** whole number */
  end?: number;
}

export interface Timeline {
  /** whole number */
  epoch: number;
  /** whole number */
  version: number;
  /** text like `^[A-Za-z0-9_-]{20}$` */
  leader: string | null;
  /** text of 1 to 64 characters */
  song?: string;
  segments: Segment[];
  meter: Meter[];
  /** whole number */
  end?: number;
  /** whole number */
  quantum: number;
  /** whole number */
  countIn: number;
  /** whole number */
  madeAt: number;
}

export type OnLeaderLoss = "continue" | "pause";

export type LeaderRule = "open" | "ask" | "pin";

export type CueKind = "go" | "hold" | "stop" | "info";

export type Quantize = "bar" | "beat";

export type Line = "beat" | "bar";

export interface Superseded {
  ok: true;
  superseded: true;
  /** whole number */
  epoch: number;
  /** whole number */
  version: number;
}

export interface TimeSignature {
  /** whole, 1 to 32 */
  numerator: number;
  denominator: 1 | 2 | 4 | 8 | 16 | 32;
}

export type Format = "chordpro" | "text";

export interface SongMeterEntry {
  /** whole, 0 to 576000 */
  beat: number;
  /** whole, 1 to 32 */
  num: number;
  den: 1 | 2 | 4 | 8 | 16 | 32;
}

export interface NewSong {
  /** text of 1 to 64 characters */
  id: string;
  /** text of up to 200 characters */
  title: string;
  /** text of up to 200 characters */
  artist?: string | null;
  /** text of up to 16 characters */
  key?: string | null;
  /** 1 to 400 */
  tempoBpm?: number | null;
  timeSignature?: TimeSignature | null;
  format: Format;
  /** ChordPro or text, with its spaces and tabs */
  body: string;
  /** 0 to 86400000 */
  durationMs?: number | null;
  meter?: SongMeterEntry[] | null;
  /** 0 to 576000, from the first beat of bar 1 as 0 */
  endBeat?: number | null;
}

export interface NewSetlist {
  /** text of up to 200 characters */
  title: string;
  songs: NewSong[];
}

export type Op = "add" | "replace" | "move" | "remove" | "retitle";

/**
 * add has song and before; replace has song, was and shift; move has songId and before; remove has songId and was;
 * retitle has title. before is the id of a song; without it, or if that song is gone, the end is meant. was is the
 * revision of the song that the editor saw. shift is the number of beats by which the place moves if the song is on.
 */
export interface NewOperation {
  op: Op;
  song?: NewSong | null;
  /** text of 1 to 64 characters */
  songId?: string | null;
  /** text of 1 to 64 characters */
  before?: string | null;
  /** whole number */
  was?: number | null;
  /** whole, -4096 to 4096 */
  shift?: number | null;
  /** text of up to 200 characters */
  title?: string | null;
}

export interface Song {
  /** text of 1 to 64 characters */
  id: string;
  /** text of up to 200 characters */
  title: string;
  /** text of up to 200 characters */
  artist?: string;
  /** text of up to 16 characters */
  key?: string;
  /** 1 to 400 */
  tempoBpm?: number;
  timeSignature?: TimeSignature;
  format: Format;
  /** ChordPro or text, with its spaces and tabs */
  body?: string;
  /** 0 to 86400000 */
  durationMs?: number;
  meter?: SongMeterEntry[];
  /** 0 to 576000, from the first beat of bar 1 as 0 */
  endBeat?: number;
  /** whole number */
  revision: number;
}

export type Quality = "excellent" | "good" | "fair" | "poor" | "unknown";

export interface Member {
  /** text like `^[A-Za-z0-9_-]{20}$` */
  socketId: string;
  /** text of up to 64 characters */
  displayName: string;
  role: Role;
  /** whole number, milliseconds since 1970 */
  joinedAt: number;
  /** whole number, milliseconds since 1970 */
  lastPingAt: number;
  /** text of up to 64 characters */
  instrument?: string;
  connected: boolean;
  mayEdit?: true;
}

export interface Settings {
  /** whole, 1 to 100000 */
  maxMembers: number;
  onLeaderLoss: OnLeaderLoss;
  leaderRule: LeaderRule;
  anyoneMayCue: boolean;
  anyoneMayEdit: boolean;
  hasPasscode: boolean;
}

export interface CurrentSong {
  /** text of 1 to 64 characters */
  id: string;
  /** text of up to 200 characters */
  title: string;
  /** text of up to 200 characters */
  artist?: string;
  /** text of up to 16 characters */
  key?: string;
  /** whole number */
  index: number;
}

export interface Setlist {
  /** whole number */
  revision: number;
  /** text of up to 200 characters */
  title: string;
  songs: Song[];
}

export type LeaveReason =
  | "leave"
  | "client namespace disconnect"
  | "transport close"
  | "transport error"
  | "ping timeout"
  | "forced close"
  | "replaced"
  | "server shutting down";

export interface MemberInfo {
  /** text of up to 64 characters */
  displayName: string;
  /** whole number, milliseconds since 1970 */
  joinedAt: number;
}

export interface Operation {
  op: Op;
  song?: Song;
  /** text of 1 to 64 characters */
  songId?: string;
  /** text of 1 to 64 characters */
  before?: string;
  /** whole number */
  was?: number;
  /** whole, -4096 to 4096 */
  shift?: number;
  /** text of up to 200 characters */
  title?: string;
}

export type ErrorCode =
  | "invalid_payload"
  | "invalid_session_id"
  | "session_not_found"
  | "session_full"
  | "not_member"
  | "not_leader"
  | "not_allowed"
  | "bad_passcode"
  | "rate_limited"
  | "unknown_event"
  | "too_large"
  | "too_late"
  | "replaced"
  | "conflict"
  | "unavailable"
  | "draining"
  | "internal";

export interface Error {
  code: ErrorCode;
  message: string;
  /** text of up to 64 characters */
  field?: string;
  /** number ≥ 0 */
  retryAfter?: number;
  /** whole number */
  bytes?: number;
  /** whole number */
  max?: number;
  /** whole number */
  revision?: number;
  /** text of 1 to 64 characters */
  songId?: string;
  song?: Song | null;
}

export interface Refused {
  ok: false;
  error: Error;
}

// end
