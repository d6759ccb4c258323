//! Shapes of the values that the server sends.

use super::fields::{
    BEAT, BOOL, COUNT, DENOMINATOR, FORMAT, KEY, LEADER_RULE, MAX_MEMBERS, NUMBER, NUMERATOR,
    ON_LEADER_LOSS, POSITION, ROLE, SERVER_MS, SESSION, SHIFT, SHORT_TEXT, SOCKET_ID, SONG_ID,
    TEMPO, TITLE,
};
use super::schema::{FieldInfo, Form, Schema, nullable, optional};
use super::setlist::{CHART, OP, SONG_METER, TIME_SIGNATURE};
use crate::speech::{Code, LeaveReason};

/// A text that the server composes.
pub const ANY_TEXT: Schema =
    Schema::new("AnyText", Form::Text { min: None, max: None, pattern: None });
/// A size in bytes.
pub const BYTES: Schema = Schema::new("Bytes", COUNT.schema.form);
/// CRC-32 of a session's state.
pub const CHECKSUM: Schema = Schema::like("Checksum", "^[0-9a-f]{8}$");
/// The constant false.
pub const FALSE: Schema = Schema::new("False", Form::Constant(false));
/// The constant true.
pub const TRUE: Schema = Schema::new("True", Form::Constant(true));
/// A whole number, which may be negative.
pub const INTEGER: Schema = Schema::new("Integer", Form::Whole);
/// A duration in milliseconds.
pub const MILLIS: Schema = Schema::new("Millis", Form::NotNegative);
/// The name of a member, an instrument or a cue's target.
pub const NAME: Schema = Schema::text("Name", 0, 64);
/// A percentage.
pub const PERCENT: Schema = Schema::new("Percent", Form::Within(0.0, 100.0));
/// A position in milliseconds.
pub const PLACE: Schema =
    Schema::new("Place", Form::Number).about("milliseconds into the song; below 0 in a count-in");
/// The rate of playback: 1 while it plays, 0 while it stands still.
pub const RATE: Schema = Schema::new("Rate", Form::WholeOf(&[0, 1]));
/// A message to all.
pub const TEXT: Schema = Schema::text("Text", 0, 500);
/// A message to all that is not empty.
pub const WORDS: Schema = Schema::text("Words", 1, 500);
/// A time on the wall clock.
pub const UNIX: Schema = Schema::new("Unix", Form::Whole).about("milliseconds since 1970");

/// Whether a join gave the member a new seat, or one that it had before.
pub const SEAT: Schema = Schema::new("Seat", Form::Words(&["new", "back"]));

/// The quality of a connection in a word.
pub const QUALITY: Schema =
    Schema::new("Quality", Form::Words(&["excellent", "good", "fair", "poor", "unknown"]));
/// The reason for which a member left.
pub const LEAVE_REASON: Schema = Schema::new("LeaveReason", Form::Words(&LEAVE_REASONS));
/// The protocol's error codes.
pub const ERROR_CODE: Schema = Schema::new("ErrorCode", Form::Words(&ERROR_CODES));

/// A rejection.
pub const ERROR: Schema = object(
    "Error",
    &[
        ERROR_CODE.info("code"),
        ANY_TEXT.info("message"),
        optional(SHORT_TEXT).info("field"),
        optional(MILLIS).info("retryAfter"),
        optional(BYTES).info("bytes"),
        optional(BYTES).info("max"),
        optional(COUNT).info("revision"),
        optional(SONG_ID).info("songId"),
        optional(nullable(SONG)).info("song"),
    ],
);
/// The acknowledgement of an event that was rejected.
pub const REJECTED: Schema = object("Refused", &[FALSE.info("ok"), ERROR.info("error")]);
/// The acknowledgement of a command that was applied before.
pub const REPEATED: Schema = object(
    "Repeated",
    &[TRUE.info("ok"), COUNT.info("epoch"), COUNT.info("version"), TRUE.info("repeated")],
);
/// The acknowledgement of a command that a newer one made needless.
pub const SUPERSEDED: Schema = object(
    "Superseded",
    &[TRUE.info("ok"), TRUE.info("superseded"), COUNT.info("epoch"), COUNT.info("version")],
);

/// A member.
pub const MEMBER: Schema = object(
    "Member",
    &[
        SOCKET_ID.info("socketId"),
        NAME.info("displayName"),
        ROLE.info("role"),
        UNIX.info("joinedAt"),
        UNIX.info("lastPingAt"),
        optional(NAME).info("instrument"),
        BOOL.info("connected"),
        optional(TRUE).info("mayEdit"),
    ],
);
/// Members in order of joining.
pub const MEMBERS: Schema = Schema::new("Members", Form::List(&MEMBER));
/// A member, as named when the lead changes hands.
pub const MEMBER_INFO: Schema =
    object("MemberInfo", &[NAME.info("displayName"), UNIX.info("joinedAt")]);

/// A session's settings.
pub const SETTINGS: Schema = object(
    "Settings",
    &[
        MAX_MEMBERS.info("maxMembers"),
        ON_LEADER_LOSS.info("onLeaderLoss"),
        LEADER_RULE.info("leaderRule"),
        BOOL.info("anyoneMayCue"),
        BOOL.info("anyoneMayEdit"),
        BOOL.info("hasPasscode"),
    ],
);

/// The selected song.
pub const CURRENT_SONG: Schema = object(
    "CurrentSong",
    &[
        SONG_ID.info("id"),
        TITLE.info("title"),
        optional(TITLE).info("artist"),
        optional(KEY).info("key"),
        COUNT.info("index"),
    ],
);
/// A song, with its body if that was asked for.
pub const SONG: Schema = object(
    "Song",
    &[
        SONG_ID.info("id"),
        TITLE.info("title"),
        optional(TITLE).info("artist"),
        optional(KEY).info("key"),
        optional(TEMPO).info("tempoBpm"),
        optional(TIME_SIGNATURE).info("timeSignature"),
        FORMAT.info("format"),
        optional(CHART).info("body"),
        optional(POSITION).info("durationMs"),
        optional(SONG_METER).info("meter"),
        optional(BEAT).info("endBeat"),
        COUNT.info("revision"),
    ],
);
/// Songs in order.
pub const SONGS: Schema = Schema::new("Songs", Form::List(&SONG));
/// The songs of the evening.
pub const SETLIST: Schema = object("Setlist", SETLIST_FIELDS);
/// The fields of a set list and of the acknowledgement of `get_setlist`.
pub const SETLIST_FIELDS: &[FieldInfo] =
    &[COUNT.info("revision"), TITLE.info("title"), SONGS.info("songs")];
/// The operations of an edit, in order.
pub const OPERATIONS: Schema = Schema::new("Operations", Form::List(&OPERATION));
const OPERATION: Schema = object(
    "Operation",
    &[
        OP.info("op"),
        optional(SONG).info("song"),
        optional(SONG_ID).info("songId"),
        optional(SONG_ID).info("before"),
        optional(COUNT).info("was"),
        optional(SHIFT).info("shift"),
        optional(TITLE).info("title"),
    ],
);

/// A timeline in whole microseconds, microbeats and milli-BPM.
pub const TIMELINE: Schema = object(
    "Timeline",
    &[
        COUNT.info("epoch"),
        COUNT.info("version"),
        nullable(SOCKET_ID).info("leader"),
        optional(SONG_ID).info("song"),
        Schema::new("Segments", Form::List(&SEGMENT)).info("segments"),
        METERS.info("meter"),
        optional(INTEGER).info("end"),
        INTEGER.info("quantum"),
        COUNT.info("countIn"),
        COUNT.info("madeAt"),
    ],
);
const SEGMENT: Schema = object(
    "Segment",
    &[
        COUNT.info("t0"),
        INTEGER.info("p0"),
        INTEGER.info("b0"),
        RATE.info("rate"),
        COUNT.info("bpm0"),
        COUNT.info("bpm1"),
        COUNT.info("ramp"),
        optional(LOOP).info("loop"),
        optional(INTEGER).info("start"),
        optional(INTEGER).info("cut"),
        optional(ARMED).info("armed"),
        optional(SONG_ID).info("song"),
        optional(METERS).info("meter"),
        optional(INTEGER).info("end"),
    ],
);
const LOOP: Schema = object("Loop", &[INTEGER.info("from"), INTEGER.info("to"), INTEGER.info("p")]);
/// The reason why a segment waits for the count `cut` of the one before.
const ARMED: Schema = Schema::new("Armed", Form::Words(&["jump", "song", "tempo", "meter", "end"]));
const METERS: Schema = Schema::new("Meters", Form::List(&METER));
const METER: Schema =
    object("Meter", &[INTEGER.info("beat"), NUMERATOR.info("num"), DENOMINATOR.info("den")]);

/// The fields of `sync_response` and of the acknowledgement of `sync_request`.
pub const SYNC: &[FieldInfo] = &[
    SESSION.info("sessionId"),
    PLACE.info("positionMs"),
    TEMPO.info("tempoBpm"),
    BOOL.info("isPlaying"),
    UNIX.info("serverTime"),
    UNIX.info("serverTimestamp"),
    COUNT.info("epoch"),
    COUNT.info("version"),
    CHECKSUM.info("checksum"),
    TIMELINE.info("timeline"),
];
/// The fields of `connection_quality`.
pub const QUALITY_FIELDS: &[FieldInfo] = &[
    SOCKET_ID.info("socketId"),
    MILLIS.info("latency"),
    PERCENT.info("packetLoss"),
    MILLIS.info("connectionDuration"),
    COUNT.info("pingCount"),
    COUNT.info("pongCount"),
    COUNT.info("timeouts"),
    QUALITY.info("quality"),
];
/// The fields of `heartbeat_response`.
pub const HEARTBEAT: &[FieldInfo] = &[
    nullable(NUMBER).info("timestamp"),
    nullable(NUMBER).info("clientTimestamp"),
    UNIX.info("serverTimestamp"),
    nullable(MILLIS).info("rtt"),
];
/// The fields of `latency_response`.
pub const LATENCY: &[FieldInfo] = &[
    NUMBER.info("clientTimestamp"),
    UNIX.info("serverTimestamp"),
    SERVER_MS.info("t1"),
    SERVER_MS.info("t2"),
];
/// The fields of `clock_sync`.
pub const CLOCK: &[FieldInfo] = &[NUMBER.info("t0"), SERVER_MS.info("t1"), SERVER_MS.info("t2")];

const LEAVE_REASONS: [&str; LeaveReason::ALL.len()] = {
    let mut words = [""; LeaveReason::ALL.len()];
    let mut place = 0;
    while place < words.len() {
        words[place] = LeaveReason::ALL[place].as_str();
        place += 1;
    }
    words
};

const ERROR_CODES: [&str; Code::ALL.len()] = {
    let mut words = [""; Code::ALL.len()];
    let mut place = 0;
    while place < words.len() {
        words[place] = Code::ALL[place].as_str();
        place += 1;
    }
    words
};

const fn object(name: &'static str, fields: &'static [FieldInfo]) -> Schema {
    Schema::new(name, Form::Received(fields))
}
