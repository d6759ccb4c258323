//! Kinds of fields that clients send: a bound is written once, and both checks the field and
//! describes it.
//!
//! Each rejection names the field and says which values are accepted. An optional field that is
//! `null` counts as absent, and so does an optional text that is empty.

use super::json::Field;
use super::schema::{FieldInfo, Form, Nullable, Optional, Presence, Schema};
use super::texts::{Lines, cut_text, line};
use crate::speech::{
    Code, CueKind, Departure, LeaderRule, Message, Number, OnLeaderLoss, Quantize, Reject, Role,
    Secret, SongFormat, View,
};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::music::{self, Position, Tempo};
use crate::words::time::Micros;

/// The last beat of a song: 24 hours at 400 BPM.
const BEATS_MAX: f64 = 576_000.0;

/// Whole numbers below this one are exact in JavaScript.
const EXACT: i64 = 1 << 53;

/// A kind of field: the values that it may have, and their reader.
#[derive(Debug)]
pub struct Kind<T: 'static> {
    /// The values.
    pub schema: Schema,
    read: fn(Field<'_>, Form) -> Result<T, Reject>,
}

impl<T> Copy for Kind<T> {}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Kind<T> {
    pub(super) const fn new(
        schema: Schema,
        read: fn(Field<'_>, Form) -> Result<T, Reject>,
    ) -> Self {
        Self { schema, read }
    }

    /// Describes a field of this name that must be there.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        self.schema.info(name)
    }

    /// Reads a field that must be there.
    ///
    /// # Errors
    /// A rejection that names the field and the accepted values.
    pub fn read(self, field: Field<'_>) -> Result<T, Reject> {
        (self.read)(field, self.schema.form)
    }
}

impl<T> Optional<Kind<T>> {
    /// Describes a field of this name that may be absent.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { presence: Presence::Optional, ..self.0.info(name) }
    }

    /// Reads the field if it is there; `null` counts as absent.
    ///
    /// # Errors
    /// Those of [`Kind::read`].
    pub fn read(self, field: Field<'_>) -> Result<Option<T>, Reject> {
        field.optional(|field| self.0.read(field))
    }
}

impl<T> Nullable<Kind<T>> {
    /// Describes a field of this name that must be there and may be `null`.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { presence: Presence::Nullable, ..self.0.info(name) }
    }

    /// Reads the field, which must be there; `None` if it is `null`.
    ///
    /// # Errors
    /// Those of [`Kind::read`].
    pub fn read(self, field: Field<'_>) -> Result<Option<T>, Reject> {
        match field.value {
            Some(value) if value.is_absent() => Ok(None),
            _ => self.0.read(field).map(Some),
        }
    }
}

/// Marks a setting: if absent it stays, while `null` removes its value.
#[derive(Clone, Copy, Debug)]
pub struct Settable<T: 'static>(Kind<Option<T>>);

/// Creates a setting of this kind.
pub const fn settable<T>(kind: Kind<Option<T>>) -> Settable<T> {
    Settable(kind)
}

impl<T> Settable<T> {
    /// Describes a field of this name that may be absent.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { presence: Presence::Optional, ..self.0.info(name) }
    }

    /// Reads the field: `None` if it is absent, `Some(None)` if it removes the value.
    ///
    /// # Errors
    /// Those of [`Kind::read`].
    pub fn read(self, field: Field<'_>) -> Result<Option<Option<T>>, Reject> {
        match field.value {
            None => Ok(None),
            Some(value) if value.is_absent() => Ok(Some(None)),
            Some(_) => self.0.read(field).map(Some),
        }
    }
}

/// Marks a field that is read together with another one.
#[derive(Clone, Copy, Debug)]
pub struct Unread(Schema);

/// Creates a field that may be absent and is read together with another one.
pub const fn unread(schema: Schema) -> Unread {
    Unread(schema)
}

impl Unread {
    /// Describes a field of this name that may be absent.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { presence: Presence::Optional, ..self.0.info(name) }
    }

    /// Returns the field as it is.
    ///
    /// # Errors
    /// None.
    pub const fn read(self, field: Field<'_>) -> Result<Field<'_>, Reject> {
        Ok(field)
    }
}

/// A session's id. A missing one is `invalid_payload`, an impossible one `invalid_session_id`.
pub const SESSION: Kind<SessionId> = Kind::new(
    Schema::text("Session", 1, 128).about("at most 128 bytes of UTF-8 without control characters"),
    |field, _| {
        const RIGHT: &str = "must be a text of 1 to 128 bytes without control characters";
        let text = field.text().map_err(|_| field.wrong(RIGHT))?;
        SessionId::parse(&text)
            .ok_or_else(|| Reject { code: Code::InvalidSessionId, ..field.wrong(RIGHT) })
    },
);

/// A member's socket id.
pub const SOCKET_ID: Kind<MemberId> =
    Kind::new(Schema::like("SocketId", "^[A-Za-z0-9_-]{20}$"), |field, _| {
        let id = field.text().ok().and_then(|text| MemberId::parse(&text));
        id.ok_or_else(|| field.wrong("must be a member's socket id, a text of 20 characters"))
    });

/// The id that a client gives a command.
pub const COMMAND_ID: Kind<CommandId> = Kind::new(
    Schema {
        name: "CommandId",
        form: Form::Text {
            min: None,
            max: Some(CommandId::BYTES_MAX as u32),
            pattern: Some("^[A-Za-z0-9_-]+-[0-9]+$"),
        },
        about: Some(
            "Id of a command: <client>-<number>. The number, below 2^53, increases with each \
             command. A number that is not above the last applied one of this client changes \
             nothing, so an unanswered command may be sent again, also on another connection. The \
             client part must be hard to guess. A session remembers its latest 256 clients, at most four of \
             one member, until the server restarts.",
        ),
    },
    |field, _| {
        let read = field.text().ok().and_then(|text| CommandId::parse(&text));
        read.ok_or_else(|| {
            let right = "must be a text of letters, digits, _ and - that ends in - and a number \
                         below 2^53";
            field.wrong(format!("{right}, in all {} bytes at most", CommandId::BYTES_MAX))
        })
    },
);

/// A member's role.
pub const ROLE: Kind<Role> = Kind::new(words("Role", &["leader", "follower"]), |field, form| {
    one_of(field, form, [Role::Leader, Role::Follower])
});

/// The part that a client takes in a session.
pub const VIEW: Kind<View> = Kind::new(words("View", &["member", "screen"]), |field, form| {
    one_of(field, form, [View::Member, View::Screen])
});

/// The boundary to which a start moves the position back.
pub const QUANTIZE: Kind<Quantize> =
    Kind::new(words("Quantize", &["bar", "beat"]), |field, form| {
        one_of(field, form, [Quantize::Bar, Quantize::Beat])
    });

/// Playback after the leader is lost.
pub const ON_LEADER_LOSS: Kind<OnLeaderLoss> =
    Kind::new(words("OnLeaderLoss", &["continue", "pause"]), |field, form| {
        one_of(field, form, [OnLeaderLoss::Continue, OnLeaderLoss::Pause])
    });

/// The rule by which the lead is given.
pub const LEADER_RULE: Kind<LeaderRule> =
    Kind::new(words("LeaderRule", &["open", "ask", "pin"]), |field, form| {
        one_of(field, form, [LeaderRule::Open, LeaderRule::Ask, LeaderRule::Pin])
    });

/// The format of a song's body.
pub const FORMAT: Kind<SongFormat> =
    Kind::new(words("Format", &["chordpro", "text"]), |field, form| {
        one_of(field, form, [SongFormat::ChordPro, SongFormat::Text])
    });

/// A passcode or PIN, exactly as it was typed; `None` if it is empty.
pub const SECRET: Kind<Option<Secret>> = Kind::new(
    Schema::new("Secret", Form::Text { min: None, max: Some(128), pattern: None })
        .about("a new one has 8 characters or more where SECURITY_PROFILE is internet"),
    |field, form| {
        let (_, max) = chars(form);
        let text = field.text().ok().filter(|text| text.chars().count() <= max);
        let text =
            text.ok_or_else(|| field.wrong(format!("must be a text of at most {max} characters")))?;
        Ok((!text.is_empty()).then(|| Secret(text.into_owned())))
    },
);

/// The token of a seat.
pub const TOKEN: Kind<Secret> = Kind::new(
    Schema::like("Token", "^[A-Za-z0-9_-]{22,64}$")
        .about("a secret that the client makes once for a session, of at least 128 random bits"),
    |field, _| {
        let token = field.text().ok().map(|text| Secret(text.into_owned()));
        token
            .filter(Secret::is_token)
            .ok_or_else(|| field.wrong("must be a text of 22 to 64 letters, digits, _ and -"))
    },
);

/// The name of a member, an instrument or a cue's addressee; `None` if nothing is left of it. A
/// longer name is cut, as the original server did.
pub const LONG_NAME: Kind<Option<String>> =
    Kind::new(Schema::new("LongName", Form::Cut { min: None, chars: 64 }), |field, form| {
        let name = cut_text(field, chars(form).1, Lines::One)?;
        Ok(Some(name.text).filter(|name| !name.is_empty()))
    });

/// A message to all.
pub const LONG_TEXT: Kind<Message> =
    Kind::new(Schema::new("LongText", Form::Cut { min: None, chars: 500 }), |field, form| {
        cut_text(field, chars(form).1, Lines::Many)
    });

/// A message to all that is not empty.
pub const LONG_WORDS: Kind<Message> =
    Kind::new(Schema::new("LongWords", Form::Cut { min: Some(1), chars: 500 }), |field, form| {
        let message = cut_text(field, chars(form).1, Lines::Many)?;
        if message.text.is_empty() {
            return Err(field.wrong("must be a text that is not empty"));
        }
        Ok(message)
    });

/// The text of a stage message; `None` if it is empty.
pub const CUE_TEXT: Kind<Option<String>> = an_optional_line(Schema::text("CueText", 0, 200));

/// The kind of a stage message.
pub const CUE_KIND: Kind<CueKind> =
    Kind::new(words("CueKind", &CUE_KINDS), |field, form| one_of(field, form, CueKind::ALL));

const CUE_KINDS: [&str; CueKind::ALL.len()] = {
    let mut words = [""; CueKind::ALL.len()];
    let mut place = 0;
    while place < words.len() {
        words[place] = CueKind::ALL[place].as_str();
        place += 1;
    }
    words
};

/// Seconds for which a stage message is shown.
pub const CUE_SECONDS: Kind<Number> =
    Kind::new(Schema::new("CueSeconds", Form::Within(0.0, 60.0)), |field, form| {
        let seconds = field.number().ok().filter(|seconds| is_within(form, *seconds));
        let right = "must be a number from 0 to 60; 0 shows the cue until the next one";
        seconds.map(Number).ok_or_else(|| field.wrong(right))
    });

/// A song's id.
pub const SONG_ID: Kind<String> = a_line(Schema::text("SongId", 1, 64));

/// A short text, such as a checksum that a client holds; `None` if it is empty.
pub const SHORT_TEXT: Kind<Option<String>> = an_optional_line(Schema::text("ShortText", 0, 64));

/// The title of a set list, or an artist; `None` if it is empty.
pub const TITLE: Kind<Option<String>> = an_optional_line(Schema::text("Title", 0, 200));

/// The title of a song, which must not be empty.
pub const SONG_TITLE: Kind<String> =
    Kind::new(TITLE.schema, |field, form| line(field, 1, chars(form).1));

/// A musical key; `None` if it is empty.
pub const KEY: Kind<Option<String>> = an_optional_line(Schema::text("Key", 0, 16));

/// A boolean.
pub const BOOL: Kind<bool> =
    Kind::new(Schema::new("Bool", Form::Boolean), |field, _| field.boolean());

/// A number of the client's own, which is returned unchanged.
pub const NUMBER: Kind<Number> =
    Kind::new(Schema::new("Number", Form::Number), |field, _| field.number().map(Number));

/// A count, such as a version.
pub const COUNT: Kind<u64> =
    Kind::new(Schema::new("Count", Form::WholeWithin(0, EXACT - 1)), |field, _| {
        let exact = 0.0..EXACT as f64;
        let count = field.number().ok().filter(|n| n.fract() == 0.0 && exact.contains(n));
        count.map(|n| n as u64).ok_or_else(|| field.wrong("must be a whole number from 0 on"))
    });

/// Number of bars that are counted in.
pub const BARS: Kind<u32> = whole("Bars", 0, 8);

/// Ticks per second.
pub const TICK_HZ: Kind<u32> = whole("TickHz", 0, 125);

/// Maximum number of members that a session may be set to. The server's own bound is usually lower.
pub const MAX_MEMBERS: Kind<u32> = whole("MaxMembers", 1, 100_000);

/// Number of beats of a bar.
pub const NUMERATOR: Kind<u32> = whole("Numerator", 1, 32);

/// The note value of a beat.
pub const DENOMINATOR: Kind<u32> =
    Kind::new(Schema::new("Denominator", Form::WholeOf(&[1, 2, 4, 8, 16, 32])), |field, _| {
        let note = field.whole(32).ok().filter(|note| note.is_power_of_two());
        note.ok_or_else(|| field.wrong("must be 1, 2, 4, 8, 16 or 32"))
    });

/// Whole beats by which an edited chart moves the place in its song.
pub const SHIFT: Kind<i64> =
    Kind::new(Schema::new("Shift", Form::WholeWithin(-4_096, 4_096)), |field, _| {
        let beats = field.number().ok();
        let beats = beats.filter(|n| n.fract() == 0.0 && (-4_096.0..=4_096.0).contains(n));
        let right = "must be a whole number of beats from -4096 to 4096";
        beats.map(|n| n as i64).ok_or_else(|| field.wrong(right))
    });

/// A tempo in BPM, rounded to thousandths.
pub const TEMPO: Kind<Tempo> =
    Kind::new(Schema::new("Tempo", Form::Within(1.0, 400.0)), |field, form| {
        let bpm = field.number().ok().filter(|bpm| is_within(form, *bpm));
        let tempo = bpm.and_then(|bpm| Tempo::from_milli_bpm((bpm * 1_000.0).round() as u32));
        tempo.ok_or_else(|| field.wrong("must be a number from 1 to 400 BPM"))
    });

/// A position in milliseconds, rounded to microseconds.
pub const POSITION: Kind<Position> = Kind::new(
    Schema::new("Position", Form::Within(0.0, (Position::MAX.as_micros() / 1_000) as f64)),
    |field, form| {
        const RIGHT: &str = "from 0 to 86400000 ms, which is 24 hours";
        let micros = millis(field, form, RIGHT)?;
        Position::from_micros(micros.as_micros())
            .ok_or_else(|| field.wrong(format!("must be a number {RIGHT}")))
    },
);

/// A song beat, rounded to microbeats.
pub const BEAT: Kind<i64> = Kind::new(
    Schema::new("Beat", Form::Within(0.0, BEATS_MAX)).about("from the first beat of bar 1 as 0"),
    |field, form| {
        let beat = field.number().ok().filter(|beat| is_within(form, *beat));
        let micro_beats = beat.map(|beat| (beat * music::BEAT as f64).round() as i64);
        micro_beats.ok_or_else(|| field.wrong("must be a number of beats from 0 to 576000"))
    },
);

/// A whole song beat, at which a change can be armed.
pub const WHOLE_BEAT: Kind<i64> =
    Kind::new(Schema::new("WholeBeat", Form::WholeWithin(0, BEATS_MAX as i64)), |field, _| {
        let beat = field.whole(BEATS_MAX as u32);
        let right = "must be a whole number of beats from 0 to 576000";
        beat.map(|beat| i64::from(beat) * music::BEAT).map_err(|_| field.wrong(right))
    });

/// Number of beats by which the place is moved, in microbeats.
pub const NUDGE: Kind<i64> =
    Kind::new(Schema::new("Nudge", Form::WholeWithin(-64, 64)).about("not 0"), |field, _| {
        let within = |beats: &f64| beats.fract() == 0.0 && *beats != 0.0 && beats.abs() <= 64.0;
        let beats = field.number().ok().filter(within);
        beats
            .map(|beats| beats as i64 * music::BEAT)
            .ok_or_else(|| field.wrong("must be a whole number from -64 to 64, but not 0"))
    });

/// The line at which an armed change begins.
pub const LINE: Kind<Departure> = Kind::new(words("Line", &["beat", "bar"]), |field, form| {
    one_of(field, form, [Departure::Beat, Departure::Bar])
});

/// Duration of a tempo change in milliseconds, at most an hour.
pub const FADE: Kind<Micros> =
    Kind::new(Schema::new("Fade", Form::Within(0.0, 3_600_000.0)), |field, form| {
        millis(field, form, "from 0 to 3600000 ms, which is one hour")
    });

/// A time on the server's clock in milliseconds. The session decides whether it is near enough.
pub const SERVER_MS: Kind<Micros> =
    Kind::new(Schema::new("ServerMs", Form::NotNegative), |field, _| {
        let form = Form::Within(0.0, EXACT as f64 / 1_000.0);
        millis(field, form, "from 0 on, in milliseconds of the server's clock")
    });

pub(super) const fn words(name: &'static str, words: &'static [&'static str]) -> Schema {
    Schema::new(name, Form::Words(words))
}

const fn whole(name: &'static str, min: i64, max: i64) -> Kind<u32> {
    Kind::new(Schema::new(name, Form::WholeWithin(min, max)), |field, form| {
        let Form::WholeWithin(min, max) = form else { return field.whole(u32::MAX) };
        let whole = field.whole(max as u32).ok().filter(|whole| i64::from(*whole) >= min);
        whole.ok_or_else(|| field.wrong(format!("must be a whole number from {min} to {max}")))
    })
}

const fn a_line(schema: Schema) -> Kind<String> {
    Kind::new(schema, |field, form| {
        let (min, max) = chars(form);
        line(field, min, max)
    })
}

const fn an_optional_line(schema: Schema) -> Kind<Option<String>> {
    Kind::new(schema, |field, form| {
        let (min, max) = chars(form);
        Ok(Some(line(field, min, max)?).filter(|line| !line.is_empty()))
    })
}

/// Returns the bounds of a text in characters.
const fn chars(form: Form) -> (usize, usize) {
    let (min, max) = match form {
        Form::Text { min, max, .. } => (min, max),
        Form::Cut { min, chars } => (min, Some(chars)),
        _ => (None, None),
    };
    let min = if let Some(min) = min { min as usize } else { 0 };
    (min, if let Some(max) = max { max as usize } else { usize::MAX })
}

fn is_within(form: Form, number: f64) -> bool {
    matches!(form, Form::Within(min, max) if (min..=max).contains(&number))
}

/// Reads the value whose word the field has, in the order of the words in the schema.
pub(super) fn one_of<T: Copy, const N: usize>(
    field: Field<'_>,
    form: Form,
    values: [T; N],
) -> Result<T, Reject> {
    let Form::Words(words) = form else { return Err(field.wrong("is required")) };
    let text = field.text().unwrap_or_default();
    let index = words.iter().position(|word| *word == text);
    index.and_then(|index| values.get(index)).copied().ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        field.wrong(format!("must be {}", words.join(" or ")))
    })
}

/// Reads milliseconds with decimals, rounded to microseconds.
fn millis(field: Field<'_>, form: Form, right: &str) -> Result<Micros, Reject> {
    let millis = field.number().ok().filter(|millis| is_within(form, *millis));
    let micros = millis.map(|millis| Micros::from_micros((millis * 1_000.0).round() as u64));
    micros.ok_or_else(|| field.wrong(format!("must be a number {right}")))
}
