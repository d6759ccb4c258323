//! The set list that a client sends, song by song, and its edits, operation by operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fields::{
    BEAT, COUNT, DENOMINATOR, FORMAT, KEY, Kind, NUMERATOR, POSITION, SHIFT, SONG_ID, SONG_TITLE,
    TEMPO, TITLE, WHOLE_BEAT, one_of, words,
};
use super::json::{Field, Value, fields};
use super::schema::{FieldInfo, Form, Schema, optional};
use super::texts::{Lines, printable};
use crate::speech::{Code, Excess, Operation, Reject, Setlist, Song};
use crate::words::music::{MeterChange, TimeSignature, Timeline};

/// Maximum bytes of a set list as it was written.
const SETLIST_BYTES_MAX: usize = Setlist::TEXT_BYTES_MAX;

/// Maximum number of songs of a set list.
const SONGS_MAX: usize = Setlist::SONGS_MAX;

/// Maximum number of operations of an edit. Specified.
const OPERATIONS_MAX: usize = 100;

/// A set list, up to 1 MiB.
pub const NEW_SETLIST: Kind<Setlist> = Kind::new(
    Schema::new("NewSetlist", Form::Sent(&[TITLE.info("title"), NEW_SONGS.info("songs")])),
    |field, _| setlist(field),
);

const NEW_SONGS: Schema = Schema::new("NewSongs", Form::List(&NEW_SONG));

const NEW_SONG: Schema = Schema::new(
    "NewSong",
    Form::Sent(&[
        SONG_ID.info("id"),
        SONG_TITLE.info("title"),
        optional(TITLE).info("artist"),
        optional(KEY).info("key"),
        optional(TEMPO).info("tempoBpm"),
        optional(TIME_SIGNATURE).info("timeSignature"),
        FORMAT.info("format"),
        CHART.info("body"),
        optional(POSITION).info("durationMs"),
        optional(SONG_METER).info("meter"),
        optional(BEAT).info("endBeat"),
    ]),
);

/// The time signatures of a song, in order of their beats.
pub const SONG_METER: Kind<Vec<MeterChange>> =
    Kind::new(Schema::new("SongMeter", Form::List(&SONG_METER_ENTRY)), |field, _| meter(field));

const SONG_METER_ENTRY: Schema = Schema::new(
    "SongMeterEntry",
    Form::Received(&[WHOLE_BEAT.info("beat"), NUMERATOR.info("num"), DENOMINATOR.info("den")]),
);

/// The ids of songs.
pub const SONG_IDS: Kind<Vec<String>> =
    Kind::new(Schema::new("SongIds", Form::List(&SONG_ID.schema)), |field, _| {
        let array = field.value.filter(|value| value.is_array());
        let ids = array.and_then(|array| array.items(SONGS_MAX)).ok_or_else(|| {
            field.wrong(format!("must be an array of at most {SONGS_MAX} ids of songs"))
        })?;
        let item = |(index, value)| {
            let item = Field { name: field.name, value: Some(value) };
            SONG_ID.read(item).map_err(|reject| {
                let what = reject.message.trim_start_matches(field.name).to_owned();
                let message = format!("{}[{index}]{what}", field.name).into();
                Reject { message, ..reject }
            })
        };
        ids.into_iter().enumerate().map(item).collect()
    });

/// The operations of an edit, in order.
pub const OPERATIONS: Kind<Vec<Operation>> =
    Kind::new(Schema::new("NewOperations", Form::List(&NEW_OPERATION)), |field, _| {
        let array = field.value.filter(|value| value.is_array());
        let items = array.and_then(|array| array.items(OPERATIONS_MAX));
        let items = items.filter(|items| !items.is_empty()).ok_or_else(|| {
            field.wrong(format!("must be an array of 1 to {OPERATIONS_MAX} operations"))
        })?;
        let read = |(index, value)| {
            let place = format!("{}[{index}]", field.name);
            operation(value).map_err(|reject| within(field, &place, reject))
        };
        items.into_iter().enumerate().map(read).collect()
    });

const NEW_OPERATION: Schema = Schema::new(
    "NewOperation",
    Form::Sent(&[
        OP.info("op"),
        optional(NEW_SONG).info("song"),
        optional(SONG_ID).info("songId"),
        optional(SONG_ID).info("before"),
        optional(COUNT).info("was"),
        optional(SHIFT).info("shift"),
        optional(TITLE).info("title"),
    ]),
)
.about(
    "add has song and before; replace has song, was and shift; move has songId and before; remove \
     has songId and was; retitle has title. before is the id of a song; without it, or if that \
     song is gone, the end is meant. was is the revision of the song that the editor saw. shift \
     is the number of beats by which the place moves if the song is on.",
);

/// The kinds of operations.
#[derive(Clone, Copy)]
enum Op {
    Add,
    Replace,
    Move,
    Remove,
    Retitle,
}

/// The name of an operation.
pub const OP: Schema = words("Op", &["add", "replace", "move", "remove", "retitle"]);

const READ_OP: Kind<Op> = Kind::new(OP, |field, form| {
    one_of(field, form, [Op::Add, Op::Replace, Op::Move, Op::Remove, Op::Retitle])
});

/// A chart. Its spaces and tabs are kept, also at the beginning and the end of a line, because they
/// align chords with words.
pub const CHART: Kind<String> = Kind::new(
    Schema::new("Chart", Form::Text { min: None, max: None, pattern: None })
        .about("ChordPro or text, with its spaces and tabs"),
    |field, _| {
        let body = field.text().map_err(|_| field.wrong("must be a text"))?;
        Ok(printable(&body, Lines::Chart).into_owned())
    },
);

/// The fields of a time signature.
pub const SIGNATURE_FIELDS: &[FieldInfo] =
    &[NUMERATOR.info("numerator"), DENOMINATOR.info("denominator")];

/// A time signature as an object.
pub const TIME_SIGNATURE: Kind<TimeSignature> =
    Kind::new(Schema::new("TimeSignature", Form::Received(SIGNATURE_FIELDS)), |field, _| {
        let value = object(field, "numerator and denominator")?;
        let [numerator, denominator] = fields(value, ["numerator", "denominator"])?;
        let inside = |reject| within(field, field.name, reject);
        let numerator = NUMERATOR.read(numerator).map_err(inside)?;
        let denominator = DENOMINATOR.read(denominator).map_err(inside)?;
        Ok(signature(numerator, denominator))
    });

/// Returns the time signature of two checked fields.
pub const fn signature(numerator: u32, denominator: u32) -> TimeSignature {
    TimeSignature { numerator: numerator as u8, denominator: denominator as u8 }
}

fn setlist(list: Field<'_>) -> Result<Setlist, Reject> {
    let value = object(list, "title and songs")?;
    // Only a longer event is read as it was written.
    if let Some(bytes) = value.written().map(str::len).filter(|bytes| *bytes > SETLIST_BYTES_MAX) {
        let reject = too_large(list, format!("must be at most {SETLIST_BYTES_MAX} bytes in all"));
        return Err(Reject { excess: Some(Excess { bytes, max: SETLIST_BYTES_MAX }), ..reject });
    }
    let inside = |reject| within(list, list.name, reject);
    let [title, songs] = fields(value, ["title", "songs"]).map_err(inside)?;
    let title = TITLE.read(title).map_err(inside)?.unwrap_or_default();
    let array = songs.value.filter(|value| value.is_array());
    let array = array.ok_or_else(|| inside(songs.wrong("must be an array of songs")))?;
    // In a well-formed array only the number of items can be wrong.
    let songs = array
        .items(SONGS_MAX)
        .ok_or_else(|| too_large(list, format!("must have at most {SONGS_MAX} songs")))?;

    let mut ids = BTreeSet::new();
    let mut read = Vec::with_capacity(songs.len());
    for (index, value) in songs.into_iter().enumerate() {
        let place = || format!("{}.songs[{index}]", list.name);
        let song = song(value).map_err(|reject| within(list, &place(), reject))?;
        if !ids.insert(song.id.clone()) {
            return Err(Reject::field(
                list.name,
                format!("{}.id must be unlike those of the songs before it", place()),
            ));
        }
        read.push(Arc::new(song));
    }
    Ok(Setlist { title: title.into(), songs: read.into(), revision: 0 })
}

fn operation(operation: Value<'_>) -> Result<Operation, Reject> {
    let [op, song, id, before, was, shift, title] =
        fields(operation, ["op", "song", "songId", "before", "was", "shift", "title"])?;
    Ok(match READ_OP.read(op)? {
        Op::Add => {
            Operation::Add { song: whole_song(song)?, before: optional(SONG_ID).read(before)? }
        }
        Op::Replace => Operation::Replace {
            song: whole_song(song)?,
            was: COUNT.read(was)?,
            shift: optional(SHIFT).read(shift)?.unwrap_or(0),
        },
        Op::Move => {
            Operation::Move { id: SONG_ID.read(id)?, before: optional(SONG_ID).read(before)? }
        }
        Op::Remove => Operation::Remove { id: SONG_ID.read(id)?, was: COUNT.read(was)? },
        Op::Retitle => Operation::Retitle { title: TITLE.read(title)?.unwrap_or_default() },
    })
}

/// Reads the song of an operation.
fn whole_song(field: Field<'_>) -> Result<Arc<Song>, Reject> {
    let value = object(field, "the fields of a song")?;
    song(value).map(Arc::new).map_err(|reject| within(field, field.name, reject))
}

fn song(song: Value<'_>) -> Result<Song, Reject> {
    let [id, title, artist, key, bpm, signature, format, body, duration, meter, end] = fields(
        song,
        [
            "id",
            "title",
            "artist",
            "key",
            "tempoBpm",
            "timeSignature",
            "format",
            "body",
            "durationMs",
            "meter",
            "endBeat",
        ],
    )?;
    let (chart, max) = (CHART.read(body)?, Song::BODY_BYTES_MAX);
    if chart.len() > max {
        let reject = too_large(body, format!("must be at most {max} bytes"));
        return Err(Reject { excess: Some(Excess { bytes: chart.len(), max }), ..reject });
    }
    Ok(Song {
        id: SONG_ID.read(id)?,
        title: SONG_TITLE.read(title)?,
        artist: optional(TITLE).read(artist)?.flatten(),
        key: optional(KEY).read(key)?.flatten(),
        tempo: optional(TEMPO).read(bpm)?,
        time_signature: optional(TIME_SIGNATURE).read(signature)?,
        format: FORMAT.read(format)?,
        body: chart,
        duration: optional(POSITION).read(duration)?,
        meter: optional(SONG_METER).read(meter)?.unwrap_or_default(),
        end: optional(BEAT).read(end)?,
        revision: 0,
    })
}

fn meter(list: Field<'_>) -> Result<Vec<MeterChange>, Reject> {
    let array = list.value.filter(|value| value.is_array());
    let array = array.ok_or_else(|| list.wrong("must be an array of time signatures"))?;
    let entries = array.items(Timeline::METER_MAX).ok_or_else(|| {
        let what = format!("must have at most {} time signatures", Timeline::METER_MAX);
        Reject { code: Code::NotAllowed, ..list.wrong(what) }
    })?;
    let mut read: Vec<MeterChange> = Vec::with_capacity(entries.len());
    for (index, value) in entries.into_iter().enumerate() {
        let inside = |reject| within(list, &format!("{}[{index}]", list.name), reject);
        let [beat, num, den] = fields(value, ["beat", "num", "den"]).map_err(inside)?;
        let beat = WHOLE_BEAT.read(beat).map_err(inside)?;
        let numerator = NUMERATOR.read(num).map_err(inside)?;
        let denominator = DENOMINATOR.read(den).map_err(inside)?;
        if read.last().is_some_and(|last| last.beat >= beat) {
            return Err(list.wrong("must be in order of its beats, each once"));
        }
        read.push(MeterChange { beat, signature: signature(numerator, denominator) });
    }
    Ok(read)
}

/// Returns the field's value if it is an object.
fn object<'a>(field: Field<'a>, with: &str) -> Result<Value<'a>, Reject> {
    let object = field.value.filter(|value| value.is_object());
    object.ok_or_else(|| field.wrong(format!("must be an object with {with}")))
}

/// Moves the rejection of a nested value to the outermost field. The message names the whole path.
fn within(field: Field<'_>, place: &str, reject: Reject) -> Reject {
    let message = match reject.field {
        Some(_) => format!("{place}.{}", reject.message),
        None => format!("{place} must be an object"),
    };
    Reject { message: message.into(), field: Some(field.name), ..reject }
}

fn too_large(field: Field<'_>, what: String) -> Reject {
    Reject { code: Code::TooLarge, ..field.wrong(what) }
}
