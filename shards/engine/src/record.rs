//! The stored form of a session: all its decisions, plain and versioned.
//!
//! Its bytes are the number of the format (two bytes, little-endian), the CRC-32 of the rest (four
//! bytes), and in the format of [postcard](https://postcard.jamesmunns.com/wire-format) that number
//! again, the fields of [`Record`], and from format 2 on its [`Additions`] and the [`Tokens`] of
//! its seats. A record without these is written in format 1.

mod additions;
mod tokens;

pub use additions::{Additions, SetlistAdditions};

use serde::{Deserialize, Serialize};

use crate::speech::{LeaderRule, Member, OnLeaderLoss, Role, Secret, Setlist, Song};
use crate::words::ids::SessionId;
use crate::words::music::{
    Armed, BEAT, Change, Loop, MeterChange, Segment, Tempo, TimeSignature, Timeline,
};
use crate::words::time::{Micros, UnixMillis};

pub use tokens::{AbsentSeat, Tokens};

/// A session as it is stored. The session works on this value itself, so the stored state is the
/// played state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The session.
    pub session: SessionId,
    /// The time at which the session was created.
    pub created_at: UnixMillis,
    /// The time of the last activity, on the clock of the timeline.
    pub last_active_at: Micros,
    /// That moment on the wall clock, which relates it to the clock of another server.
    pub last_active_unix: UnixMillis,
    /// The message to all. An automatic one begins with [`Record::AUTOMATIC`].
    pub message: String,
    /// Maximum number of members of the session.
    pub max_members: u32,
    /// The effect on playback when the leader is lost.
    pub on_leader_loss: OnLeaderLoss,
    /// The rule by which the lead is given.
    pub leader_rule: LeaderRule,
    /// Whether followers may send cues.
    pub anyone_may_cue: bool,
    /// Whether all members may edit the set list.
    #[serde(skip)]
    pub anyone_may_edit: bool,
    /// The passcode for joining, if there is one.
    pub passcode: Option<Secret>,
    /// The PIN for leading under [`LeaderRule::Pin`].
    pub leader_pin: Option<Secret>,
    /// The members in order of joining.
    pub seats: Vec<Seat>,
    /// Playback and the leader, with the epoch and version of the session's state.
    pub timeline: Timeline,
    /// The songs of the evening.
    pub setlist: Option<Setlist>,
    /// Index of the selected song in the set list.
    pub song: Option<u32>,
    /// The tokens of the seats, and the seats of absent members. Of these not all are stored.
    #[serde(skip)]
    pub tokens: Tokens,
}

impl Record {
    /// The number of the newest format. It rises when a field is added or changes its meaning.
    pub const FORMAT: u16 = 2;

    /// The format without additions and tokens.
    const FORMAT_PLAIN: u16 = 1;

    /// Maximum epoch of a stored record. Guessed: JSON carries epochs above 2^52 exactly, and no
    /// wall clock in milliseconds comes near it.
    pub const EPOCH_MAX: u64 = 1 << 52;

    /// The first character of an automatic message. Members' texts never have it.
    pub const AUTOMATIC: char = '\u{1}';

    /// Returns the message as members see it.
    pub fn message(&self) -> &str {
        self.message.strip_prefix(Self::AUTOMATIC).unwrap_or(&self.message)
    }

    /// Whether a member has set the message.
    pub fn is_message_set(&self) -> bool {
        !self.message.is_empty() && !self.message.starts_with(Self::AUTOMATIC)
    }

    /// Returns the index of a song in the set list.
    pub fn index_of_song(&self, id: &str) -> Option<u32> {
        let songs = &self.setlist.as_ref()?.songs;
        songs.iter().position(|song| song.id == id).map(|index| index as u32)
    }

    /// Returns the song at an index of the set list.
    pub fn song_at(&self, index: u32) -> Option<&Song> {
        self.setlist.as_ref()?.songs.get(index as usize).map(|song| &**song)
    }

    /// Returns the number of the format in which the record is written: the oldest one that has a
    /// place for all its values.
    pub fn format(&self) -> u16 {
        let is_plain = self.additions().is_none() && self.tokens.is_empty();
        if is_plain { Self::FORMAT_PLAIN } else { Self::FORMAT }
    }

    /// Returns the values that format 1 has no place for, `None` if there are none.
    pub fn additions(&self) -> Option<Additions> {
        Additions::of(self)
    }

    /// Returns these values without those of the set list.
    pub fn additions_without_setlist(&self) -> Option<Additions> {
        Additions::without_setlist(self)
    }

    /// Returns these values of the set list alone.
    pub fn setlist_additions(&self) -> Option<SetlistAdditions> {
        self.setlist.as_ref().and_then(SetlistAdditions::of)
    }

    /// Appends the record as bytes.
    pub fn print(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(self.setlist.as_ref().map_or(0, Setlist::size));
        let (format, additions) = (self.format(), self.additions());
        bytes.extend_from_slice(&format.to_le_bytes());
        let sum_at = bytes.len();
        bytes.extend_from_slice(&[0; SUM_BYTES]);
        let bare = postcard::to_extend(&(format, self), std::mem::take(bytes));
        let written = bare.and_then(|bare| match format {
            Self::FORMAT_PLAIN => Ok(bare),
            _ => postcard::to_extend(&(&additions, &self.tokens), bare),
        });
        // Writing plain values to a vector fails only if one of them refuses, which none of ours
        // does.
        *bytes = written.unwrap_or_default();
        assert!(bytes.len() > sum_at + SUM_BYTES);
        let sum = crc32fast::hash(&bytes[sum_at + SUM_BYTES..]);
        bytes[sum_at..sum_at + SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads a record that another program may have changed.
    ///
    /// # Errors
    /// If the bytes are not as they were printed, or their contents contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let (format, rest) = bytes.split_first_chunk::<FORMAT_BYTES>().ok_or(Damage::Malformed)?;
        let format = u16::from_le_bytes(*format);
        if format > Self::FORMAT {
            return Err(Damage::Newer(format));
        }
        let (sum, body) = rest.split_first_chunk::<SUM_BYTES>().ok_or(Damage::Malformed)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(Damage::Checksum);
        }
        let ((repeated, mut record), mut rest) =
            postcard::take_from_bytes::<(u16, Self)>(body).map_err(|_| Damage::Malformed)?;
        let mut additions = Additions::default();
        if format > Self::FORMAT_PLAIN {
            let (stored, after) = postcard::take_from_bytes::<(Option<Additions>, Tokens)>(rest)
                .map_err(|_| Damage::Malformed)?;
            (rest, record.tokens) = (after, stored.1);
            additions = stored.0.unwrap_or_default();
        }
        if !additions.give_to(&mut record) {
            return Err(Damage::Malformed);
        }
        match rest.is_empty() && repeated == format && record.is_sound() {
            true => Ok(record),
            false => Err(Damage::Malformed),
        }
    }

    /// Returns the checksum in printed bytes.
    pub fn checksum(bytes: &[u8]) -> u32 {
        let sum = bytes.get(FORMAT_BYTES..FORMAT_BYTES + SUM_BYTES);
        sum.and_then(|sum| sum.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// Replaces the secrets in a record's bytes by texts of the same length, which `cover` chooses.
    /// The bytes remain a record. Bytes that are no record are overwritten and remain damaged in
    /// the same way; a record that would be printed at another length is overwritten and becomes
    /// malformed.
    pub fn cover_secrets(bytes: &mut [u8], mut cover: impl FnMut(SecretKind, &mut String)) {
        let damage = match Self::parse(bytes) {
            Ok(mut record) => {
                for secret in [&mut record.passcode, &mut record.leader_pin].into_iter().flatten() {
                    cover(SecretKind::Typed, &mut secret.0);
                }
                for token in record.tokens.secrets_mut() {
                    cover(SecretKind::Token, &mut token.0);
                }
                let mut covered = Vec::with_capacity(bytes.len());
                record.print(&mut covered);
                if covered.len() == bytes.len() {
                    return bytes.copy_from_slice(&covered);
                }
                Damage::Malformed
            }
            Err(damage) => damage,
        };
        let Some((sum, body)) =
            bytes.get_mut(FORMAT_BYTES..).and_then(<[u8]>::split_first_chunk_mut)
        else {
            return;
        };
        body.fill(WIPED);
        let of_body = crc32fast::hash(body);
        *sum = if damage == Damage::Checksum { !of_body } else { of_body }.to_le_bytes();
    }

    /// Whether all values are within the bounds that a session relies on. The checksum detects
    /// accidents; this check detects values that another program wrote.
    fn is_sound(&self) -> bool {
        let timeline = &self.timeline;
        let leaders = self.seats.iter().filter(|seat| seat.member.role == Role::Leader);
        let led = leaders.map(|seat| seat.member.id).eq(timeline.leader);
        let unique = |(place, seat): (usize, &Seat)| {
            self.seats[..place].iter().all(|other| other.member.id != seat.member.id)
        };
        let songs = self.setlist.as_ref().map_or(0, |setlist| setlist.songs.len());
        SessionId::parse(self.session.as_str()).is_some()
            && (self.leader_rule != LeaderRule::Pin || self.leader_pin.is_some())
            // Members that return with their tokens may exceed `max_members`.
            && self.seats.len() <= self.max_members as usize + Tokens::ABSENT_MAX
            && self.seats.iter().enumerate().all(unique)
            && self.tokens.is_sound(&self.seats)
            && led
            && self.song.is_none_or(|song| (song as usize) < songs)
            && self.setlist.iter().flat_map(|list| &*list.songs).all(|song| is_song(song))
            && self.setlist.as_ref().is_none_or(has_sound_revisions)
            && [self.created_at, self.last_active_unix]
                .iter()
                .all(|at| (0..UNIX_MAX).contains(&at.0))
            && timeline.epoch <= Self::EPOCH_MAX
            && timeline.version < FAR
            && (1..=Timeline::SEGMENTS_MAX).contains(&timeline.segments.len())
            && timeline.segments.is_sorted_by(|a, b| a.t0 < b.t0)
            && timeline.segments.iter().all(is_sound)
            && timeline.segments.first().is_some_and(|first| first.armed.is_none())
            && is_meter(&timeline.meter)
            && timeline.end.is_none_or(is_near)
            && timeline.song.as_deref().is_none_or(is_song_id)
            && [timeline.made_at, self.last_active_at].iter().all(|at| at.as_micros() < FAR)
            && (0..=FAR as i64).contains(&timeline.quantum)
            && timeline.count_in <= COUNT_IN_MAX
    }
}

/// The kinds of secrets in a record, which may have different characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretKind {
    /// A passcode or PIN, as a person types it.
    Typed,
    /// The token of a seat.
    Token,
}

/// The reason why bytes are no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// A later version of the program wrote it, in this format.
    Newer(u16),
    /// The checksum does not match.
    Checksum,
    /// The checksum matches, but the contents are no session.
    Malformed,
}

const FORMAT_BYTES: usize = 2;
const SUM_BYTES: usize = 4;

/// A byte that follows no record's checksum: the format is repeated there, in at most three bytes.
const WIPED: u8 = 0xff;

/// Three centuries in microseconds. Arithmetic beyond it could overflow, and no real session
/// reaches it.
const FAR: u64 = 1 << 53;

/// The year 5138, in milliseconds.
const UNIX_MAX: i64 = 100_000_000_000_000;

/// A bound on the beats of a count-in, above any real one.
const COUNT_IN_MAX: u32 = 4_096;

fn is_sound(segment: &Segment) -> bool {
    let tempo = |tempo: Tempo| Tempo::from_milli_bpm(tempo.milli_bpm()).is_some();
    let looped = |looped: &Loop| {
        looped.from < looped.to
            && (looped.to - looped.from) % BEAT == 0
            && [looped.from, looped.to, looped.p]
                .iter()
                .all(|place| (0..FAR as i64).contains(place))
    };
    let armed = |armed: &Armed| {
        let song = match &armed.change {
            Change::Song { id, end } => is_song_id(id) && end.is_none_or(is_near),
            _ => true,
        };
        is_near(armed.cut) && armed.meter.as_deref().is_none_or(is_meter) && song
    };
    let still = segment.ramp == 0 && segment.bpm0 == segment.bpm1 && segment.p0 >= 0;
    segment.t0.as_micros() < FAR
        && is_near(segment.p0)
        && is_near(segment.b0)
        && segment.ramp <= RAMP_MAX
        && tempo(segment.bpm0)
        && tempo(segment.bpm1)
        && (segment.playing || still)
        && segment.looped.as_ref().is_none_or(looped)
        && segment.start.is_none_or(is_near)
        && segment.armed.as_deref().is_none_or(armed)
}

/// Maximum duration of a fade, in microseconds: an hour.
const RAMP_MAX: u64 = 3_600_000_000;

fn is_near(value: i64) -> bool {
    value.unsigned_abs() < FAR
}

fn is_meter(meter: &[MeterChange]) -> bool {
    (1..=Timeline::METER_MAX).contains(&meter.len())
        && meter.is_sorted_by(|a, b| a.beat < b.beat)
        && meter.iter().all(|entry| is_near(entry.beat) && is_signature(entry.signature))
}

fn is_song(song: &Song) -> bool {
    (song.meter.is_empty() || is_meter(&song.meter)) && song.end.is_none_or(is_near)
}

/// Whether each song changed in a revision that the list has had.
fn has_sound_revisions(list: &Setlist) -> bool {
    (1..FAR).contains(&list.revision)
        && list.songs.iter().all(|song| (1..=list.revision).contains(&song.revision))
}

/// Whether a text may be the id of a song, which has 64 characters at most.
fn is_song_id(id: &str) -> bool {
    (1..=64).contains(&id.chars().count())
}

fn is_signature(signature: TimeSignature) -> bool {
    TimeSignature::new(signature.numerator.into(), signature.denominator.into()).is_some()
}

/// A member with the values that only the server needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// The member as all members see it.
    pub member: Member,
    /// Ticks per second that the member wants. `None`: all of them.
    pub tick_hz: Option<u8>,
    /// Whether the member wants `metronome_tick`.
    pub metronome: bool,
    /// Whether the member has shown the leader PIN.
    pub knows_pin: bool,
    /// The p95 of the member's round trips in milliseconds; 0 until one was measured. Not stored.
    #[serde(skip)]
    pub latency_ms: u16,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::speech::SongFormat;
    use crate::words::ids::MemberId;
    use crate::words::music::TempoEvent;
    use proptest::prelude::*;

    fn record() -> Record {
        let leader = MemberId::from_bytes([1; 15]);
        let member = Member {
            id: leader,
            display_name: "Ann".into(),
            role: Role::Leader,
            joined_at: UnixMillis(5),
            last_ping_at: UnixMillis(6),
            instrument: None,
            connected: true,
            may_edit: false,
        };
        let segment = Segment {
            t0: Micros::from_secs(1),
            p0: 0,
            b0: 0,
            playing: true,
            bpm0: Tempo::DEFAULT,
            bpm1: Tempo::DEFAULT,
            ramp: 0,
            looped: None,
            start: None,
            armed: None,
        };
        Record {
            session: SessionId::parse("Gröndal 🎸").unwrap(),
            created_at: UnixMillis(1_800_000_000_000),
            last_active_at: Micros::from_secs(2),
            last_active_unix: UnixMillis(1_800_000_000_500),
            message: "hello".into(),
            max_members: 8,
            on_leader_loss: OnLeaderLoss::Continue,
            leader_rule: LeaderRule::Open,
            anyone_may_cue: true,
            anyone_may_edit: false,
            passcode: Some(Secret("open sesame".into())),
            leader_pin: None,
            seats: vec![Seat {
                member,
                tick_hz: None,
                metronome: false,
                knows_pin: false,
                latency_ms: 0,
            }],
            timeline: Timeline {
                epoch: 1_800_000_000_000,
                version: 7,
                leader: Some(leader),
                song: None,
                segments: vec![segment],
                meter: vec![MeterChange::COMMON],
                end: None,
                quantum: 0,
                count_in: 0,
                made_at: Micros::from_secs(1),
            },
            setlist: None,
            song: None,
            tokens: Tokens::default(),
        }
    }

    /// A record with the tokens of a present and an absent member.
    fn with_tokens() -> Record {
        let mut record = record();
        let mut gone = record.seats[0].clone();
        gone.member.id = MemberId::from_bytes([2; 15]);
        gone.member.role = Role::Follower;
        for (member, token) in [(gone.member.id, "b"), (record.seats[0].member.id, "a")] {
            record.tokens.give(member, &Secret(format!("{token}-token-of-24-characters")));
        }
        record.tokens.remember(gone, UnixMillis(7));
        record
    }

    fn printed(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.print(&mut bytes);
        bytes
    }

    /// Returns the bytes of a record under the number of another format.
    fn of_format(format: u16) -> Vec<u8> {
        let mut bytes = printed(&record());
        bytes[..2].copy_from_slice(&format.to_le_bytes());
        bytes[6] = format as u8;
        let sum = crc32fast::hash(&bytes[6..]).to_le_bytes();
        bytes[2..6].copy_from_slice(&sum);
        bytes
    }

    fn song(id: &str) -> Song {
        Song {
            id: id.into(),
            title: id.into(),
            artist: None,
            key: None,
            tempo: None,
            time_signature: None,
            format: SongFormat::Text,
            body: "la".into(),
            duration: None,
            meter: Vec::new(),
            end: None,
            revision: 1,
        }
    }

    /// A record with everything that format 1 has no place for.
    fn with_additions() -> Record {
        let mut record = with_songs();
        let meter = vec![MeterChange { beat: 8 * BEAT, ..MeterChange::COMMON }];
        let list = record.setlist.as_mut().unwrap();
        list.revision = 3;
        let rain = list.songs_mut().nth(1).unwrap();
        (rain.meter, rain.end, rain.revision) = (meter.clone(), Some(BEAT), 2);
        record.anyone_may_edit = true;
        record.seats[0].member.may_edit = true;
        let timeline = &mut record.timeline;
        (timeline.song, timeline.end) = (Some("harbour".into()), Some(64 * BEAT));
        timeline.segments[0].looped = Some(Loop { from: 0, to: 8 * BEAT, p: 0 });
        timeline.segments[0].start = Some(0);
        let change = Change::Song { id: "rain".into(), end: Some(BEAT) };
        let armed = Armed { cut: 4 * BEAT, change, meter: Some(meter) };
        let later = Segment {
            t0: Micros::from_secs(3),
            armed: Some(Box::new(armed)),
            ..timeline.segments[0].clone()
        };
        let change = Change::Tempo(TempoEvent::Changed);
        let armed = Armed { cut: 12 * BEAT, change, meter: None };
        let last = Segment {
            t0: Micros::from_secs(9),
            armed: Some(Box::new(armed)),
            ..timeline.segments[0].clone()
        };
        timeline.segments.extend([later, last]);
        record
    }

    #[test]
    fn a_record_without_additions_is_written_in_format_1() {
        assert_eq!(printed(&record())[..2], 1_u16.to_le_bytes());
        let both = Record { tokens: with_tokens().tokens, ..with_additions() };
        for record in [with_additions(), with_tokens(), both] {
            let bytes = printed(&record);
            assert_eq!(bytes[..2], 2_u16.to_le_bytes());
            assert_eq!(Record::parse(&bytes), Ok(record));
            for cut in 0..bytes.len() {
                assert!(Record::parse(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    /// [`record`] as a server of version 1 printed it.
    const FIRST: &str = "\
        0100ef7a37bc010d4772c3b66e64616c20f09f8eb880c0e285e36880897ae8c7e285e3680568656c6c6f0800\
        0001010b6f70656e20736573616d650001415145424151454241514542415145424151454203416e6e000a0c\
        000100000080a0f1c2b1340701415145424151454241514542415145424151454201c0843d000001c0a907c0\
        a90700010004040000c0843d0000";

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let digits = FIRST.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        assert_eq!(Record::parse(&bytes), Ok(record()));
        assert_eq!(printed(&record()), bytes);
    }

    /// A record with a set list of two songs in its first revision.
    fn with_songs() -> Record {
        let songs = ["harbour", "rain"].map(song).map(Arc::new).into();
        let setlist = Some(Setlist { title: "tonight".into(), songs, revision: 1 });
        Record { setlist, ..record() }
    }

    #[test]
    fn a_set_list_in_its_first_revision_is_written_in_format_1() {
        let bytes = printed(&with_songs());
        assert_eq!(bytes[..2], 1_u16.to_le_bytes());
        assert_eq!(Record::parse(&bytes), Ok(with_songs()));
    }

    #[test]
    fn revisions_and_rights_are_additions() {
        let changes: [fn(&mut Record); 3] = [
            |record| record.anyone_may_edit = true,
            |record| record.seats[0].member.may_edit = true,
            |record| {
                let list = record.setlist.as_mut().unwrap();
                list.revision = 5;
                list.songs_mut().next().unwrap().revision = 4;
            },
        ];
        for change in changes {
            let mut changed = with_songs();
            change(&mut changed);
            let bytes = printed(&changed);
            assert_eq!(bytes[..2], 2_u16.to_le_bytes());
            assert_eq!(Record::parse(&bytes), Ok(changed));
        }
    }

    #[test]
    fn impossible_revisions_are_malformed() {
        let breaks: [fn(&mut Setlist); 4] = [
            |list| list.revision = 0,
            |list| list.revision = u64::MAX,
            |list| list.songs_mut().for_each(|song| song.revision = 0),
            |list| list.songs_mut().for_each(|song| song.revision = 3),
        ];
        for (case, make) in breaks.into_iter().enumerate() {
            let mut broken = with_songs();
            make(broken.setlist.as_mut().unwrap());
            // Without this, the revisions would not be written.
            let list = broken.setlist.as_mut().unwrap();
            list.revision = if list.revision == 1 { 2 } else { list.revision };
            assert_eq!(Record::parse(&printed(&broken)), Err(Damage::Malformed), "case {case}");
        }
    }

    #[test]
    fn additions_that_contradict_themselves_are_malformed() {
        fn rain(record: &mut Record) -> &mut Song {
            record.setlist.as_mut().unwrap().songs_mut().nth(1).unwrap()
        }
        let breaks: [fn(&mut Record); 8] = [
            |record| rain(record).end = Some(i64::MAX),
            |record| rain(record).meter = vec![MeterChange::COMMON; 2],
            |record| record.timeline.segments[0].looped = Some(Loop { from: 4, to: 4, p: 0 }),
            |record| record.timeline.segments[0].looped = Some(Loop { from: 0, to: 5, p: 0 }),
            |record| record.timeline.segments[0].start = Some(i64::MAX),
            |record| record.timeline.segments[0].armed = record.timeline.segments[1].armed.clone(),
            |record| record.timeline.song = Some(String::new()),
            |record| record.timeline.end = Some(i64::MIN),
        ];
        for (case, make) in breaks.into_iter().enumerate() {
            let mut broken = with_additions();
            make(&mut broken);
            assert_eq!(Record::parse(&printed(&broken)), Err(Damage::Malformed), "case {case}");
        }
    }

    #[test]
    fn a_printed_record_is_read_back() {
        let mut bytes = b"before".to_vec();
        record().print(&mut bytes);
        assert_eq!(Record::parse(&bytes[6..]), Ok(record()));
        assert_eq!(Record::checksum(&bytes[6..]), crc32fast::hash(&bytes[12..]));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let whole = printed(&record());
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(&bytes).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert!(Record::parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn covering_secrets_removes_them_and_keeps_everything_else() {
        let cover = |kind, secret: &mut String| {
            let cover = if kind == SecretKind::Token { "-" } else { "*" };
            *secret = cover.repeat(secret.len());
        };
        let mut bytes = printed(&with_tokens());
        Record::cover_secrets(&mut bytes, cover);
        let mut covered = Record { passcode: Some(Secret("***********".into())), ..with_tokens() };
        covered.tokens.secrets_mut().for_each(|token| token.0 = "-".repeat(24));
        assert_eq!(Record::parse(&bytes), Ok(covered));
        assert!(!bytes.windows(6).any(|text| text == b"-token"));
    }

    #[test]
    fn bytes_that_are_not_a_record_are_wiped_and_stay_damaged() {
        let whole = printed(&record());
        let mut flipped = whole.clone();
        flipped[9] ^= 1;
        let mut longer = whole.clone();
        longer.push(0);
        let sum = crc32fast::hash(&longer[6..]).to_le_bytes();
        longer[2..6].copy_from_slice(&sum);
        let newer = of_format(Record::FORMAT + 1);
        for mut bytes in [flipped, longer, newer, whole[..5].to_vec(), Vec::new()] {
            let (length, damage) = (bytes.len(), Record::parse(&bytes).unwrap_err());
            Record::cover_secrets(&mut bytes, |_, _| {
                panic!("there are no secrets in what is no record")
            });
            assert_eq!((bytes.len(), Record::parse(&bytes)), (length, Err(damage)));
            assert!(!bytes.windows(11).any(|text| text == b"open sesame"), "{damage:?}");
        }
    }

    #[test]
    fn a_record_in_a_non_canonical_encoding_is_wiped() {
        let mut bytes = printed(&record());
        // The last field but one, `None`, as it is, and before it `made_at` with a zero too many.
        let at = bytes.len() - 3;
        bytes[at] |= 0x80;
        bytes.insert(at + 1, 0);
        let sum = crc32fast::hash(&bytes[6..]).to_le_bytes();
        bytes[2..6].copy_from_slice(&sum);
        assert_eq!(Record::parse(&bytes), Ok(record()));
        Record::cover_secrets(&mut bytes, |_, _| ());
        assert_eq!(Record::parse(&bytes), Err(Damage::Malformed));
        assert!(!bytes.windows(11).any(|text| text == b"open sesame"));
    }

    #[test]
    fn a_newer_format_is_distinguished_from_damage() {
        let newer = of_format(Record::FORMAT + 1);
        assert_eq!(Record::parse(&newer), Err(Damage::Newer(Record::FORMAT + 1)));
    }

    #[test]
    fn a_contradictory_record_is_malformed() {
        let breaks: [fn(&mut Record); 13] = [
            |record| record.timeline.segments.clear(),
            |record| record.timeline.segments[0].t0 = Micros::from_micros(u64::MAX),
            |record| record.timeline.segments[0].p0 = i64::MIN,
            |record| record.timeline.meter[0].signature.numerator = 0,
            |record| record.timeline.leader = None,
            |record| record.timeline.epoch = u64::MAX,
            |record| record.timeline.epoch = (1 << 53) + 1,
            |record| record.timeline.epoch = Record::EPOCH_MAX + 1,
            |record| record.timeline.version = (1 << 53) + 1,
            |record| record.seats.push(record.seats[0].clone()),
            |record| record.song = Some(0),
            |record| record.leader_rule = LeaderRule::Pin,
            |record| record.tokens.give(MemberId::from_bytes([3; 15]), &Secret("t".repeat(24))),
        ];
        for (case, make) in breaks.into_iter().enumerate() {
            let mut broken = record();
            make(&mut broken);
            assert_eq!(Record::parse(&printed(&broken)), Err(Damage::Malformed), "case {case}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Record::FORMAT.to_le_bytes().to_vec();
            bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
            let _ = Record::parse(&bytes);
            let _ = Record::parse(&body);
        }
    }
}
