//! Scripts of what members do, and what everybody is told.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use super::*;
use crate::speech::{
    Join, Number, Quantize, Role, Secret, Setlist, SettingsChange, Song, SongChoice, SongFormat,
};
use crate::words::music::{Position, TimeSignature};

/// Plays a script, a line each, and compares what comes of it, a line each: the answer to the one who spoke,
/// then the effects. `+500` lets as many milliseconds pass.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        room.run(line, &mut said);
    }
    let tidy =
        |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(tidy(&said), tidy(expected), "\n{said}");
}

const RULES: Rules = Rules { members_max: 4, leader_grace: Micros::from_secs(10) };

/// A session and the time in it.
struct Room {
    session: Session,
    now: Moment,
}

impl Room {
    fn new(rules: Rules) -> Self {
        let now = Moment { at: Micros::from_secs(100), unix: UnixMillis(1_000_000) };
        Self { session: Session::new(SessionId::parse("s").unwrap(), &rules, 1, now), now }
    }

    fn run(&mut self, line: &str, said: &mut String) {
        if let Some(millis) = line.strip_prefix('+') {
            return self.pass(millis.parse().unwrap(), said);
        }
        let (who, what) = line.split_once(' ').unwrap();
        let (member, now, mut out) = (member(who), self.now, Vec::new());
        let words: Vec<&str> = what.split(' ').collect();
        let answer = match words[0] {
            "leaves" => {
                self.session.leave(now, member, LeaveReason::Left, &mut out);
                String::new()
            }
            "lost" => {
                self.session.lost(now, member, LeaveReason::TransportClosed, &mut out);
                String::new()
            }
            "joins" => answer(self.session.join(now, member, &join(&words[1..]), &mut out)),
            _ => answer(self.session.handle(now, member, command(&words, now), &mut out)),
        };
        self.print(line, &answer, &out, said);
    }

    /// Lets time pass, and whatever is due happen at its time.
    fn pass(&mut self, millis: u64, said: &mut String) {
        let end = self.now.at + Micros::from_millis(millis);
        for _ in 0..1_000 {
            let due = self.session.next_deadline().filter(|&due| due <= end);
            let Some(due) = due else { break };
            self.advance(due.max(self.now.at));
            let mut out = Vec::new();
            self.session.due(self.now, &mut out);
            let line = format!("+{}", self.now.at.since(Micros::from_secs(100)).as_millis());
            if !out.is_empty() {
                self.print(&line, "", &out, said);
            }
        }
        self.advance(end);
    }

    fn advance(&mut self, at: Micros) {
        self.now = Moment { at, unix: unix_at(self.now, at) };
    }

    fn print(&self, line: &str, answer: &str, out: &[Effect], said: &mut String) {
        self.session.check_invariants();
        let effects: Vec<String> = out.iter().map(effect).collect();
        let parts =
            [answer].into_iter().chain(effects.iter().map(String::as_str)).filter(|part| !part.is_empty());
        writeln!(said, "{line}: {}", parts.collect::<Vec<_>>().join(" | ")).unwrap();
    }
}

fn member(letter: &str) -> MemberId {
    MemberId::from_bytes([letter.as_bytes()[0]; 15])
}

fn letter(id: MemberId) -> String {
    let letters = ('a'..='z').map(String::from);
    letters.into_iter().find(|letter| member(letter) == id).unwrap()
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> Option<u64> {
    value(words, name).map(|text| text.parse().unwrap())
}

fn join(words: &[&str]) -> Join {
    let role = |word| words.contains(&word);
    Join {
        session: SessionId::parse("s").unwrap(),
        display_name: value(words, "name").map(String::from),
        role: match () {
            () if role("leader") => Some(Role::Leader),
            () if role("follower") => Some(Role::Follower),
            () => None,
        },
        instrument: None,
        passcode: value(words, "passcode").map(|text| Secret(text.into())),
        leader_pin: value(words, "pin").map(|text| Secret(text.into())),
        tick_hz: number(words, "hz").map(|hz| hz as u8),
        metronome: words.contains(&"metronome"),
    }
}

fn command(words: &[&str], now: Moment) -> SessionCommand {
    let at = number(words, "in").map(|millis| now.at + Micros::from_millis(millis));
    let tempo = |word: &str| Tempo::from_milli_bpm(word.parse::<u32>().unwrap() * 1_000).unwrap();
    let position = |word: &str| Position::from_micros(word.parse::<u64>().unwrap() * 1_000).unwrap();
    match words[0] {
        "leader" => SessionCommand::SetRole { role: Role::Leader, member: words.get(1).map(|w| member(w)) },
        "follower" => SessionCommand::SetRole { role: Role::Follower, member: None },
        "asks" => SessionCommand::RequestLeader,
        "approves" => SessionCommand::ApproveLeader { requester: member(words[1]) },
        "denies" => SessionCommand::DenyLeader { requester: member(words[1]) },
        "sync" => SessionCommand::Sync {
            checksum: words.get(1).map(|text| text.to_string()),
            version: number(words, "version"),
        },
        "message" => SessionCommand::UpdateMessage(words[1].into()),
        "says" => {
            SessionCommand::Chat { message: words[1].into(), username: value(words, "as").map(Into::into) }
        }
        "cue" => SessionCommand::Cue { text: words[1].into(), target: None },
        "play" => SessionCommand::Play {
            at,
            count_in_bars: number(words, "bars").unwrap_or(0) as u32,
            quantize: match () {
                () if words.contains(&"bar") => Some(Quantize::Bar),
                () if words.contains(&"beat") => Some(Quantize::Beat),
                () => None,
            },
        },
        "pause" => SessionCommand::Pause,
        "stop" => SessionCommand::Stop,
        "seek" => SessionCommand::Seek { position: position(words[1]), at },
        "set_tempo" => SessionCommand::SetTempo(tempo(words[1])),
        "tempo" => SessionCommand::ChangeTempo {
            tempo: tempo(words[1]),
            fade: Micros::from_millis(number(words, "fade").unwrap_or(0)),
            event: TempoEvent::Change,
        },
        "signature" => {
            let (numerator, denominator) = words[1].split_once('/').unwrap();
            let signature = TimeSignature::new(numerator.parse().unwrap(), denominator.parse().unwrap());
            SessionCommand::SetTimeSignature(signature.unwrap())
        }
        "at_beat" => SessionCommand::BeatSync {
            beat_position: Number(words[1].parse().unwrap()),
            master_time: Number(0.0),
        },
        "at" => SessionCommand::PositionSync { position: position(words[1]), timestamp: Number(7.0) },
        "songs" => SessionCommand::SetSetlist(setlist(&words[1..])),
        "song" => SessionCommand::SelectSong(match words[1] {
            "+1" => SongChoice::Step(true),
            "-1" => SongChoice::Step(false),
            id => SongChoice::Id(id.into()),
        }),
        "gets" => SessionCommand::GetSong(words[1].into()),
        "settings" => SessionCommand::UpdateSettings(settings(words)),
        other => panic!("no such command: {other}"),
    }
}

/// `id:bpm:numerator` each.
fn setlist(songs: &[&str]) -> Setlist {
    let song = |word: &&str| {
        let mut parts = word.split(':');
        let id = parts.next().unwrap();
        Song {
            id: id.into(),
            title: id.into(),
            artist: None,
            key: None,
            tempo: parts
                .next()
                .map(|bpm| Tempo::from_milli_bpm(bpm.parse::<u32>().unwrap() * 1_000).unwrap()),
            time_signature: parts.next().map(|beats| TimeSignature::new(beats.parse().unwrap(), 4).unwrap()),
            format: SongFormat::Text,
            body: "la".into(),
            duration: None,
        }
    };
    Setlist { title: "tonight".into(), songs: songs.iter().map(song).collect() }
}

fn settings(words: &[&str]) -> SettingsChange {
    let secret = |name| value(words, name).map(|text| (text != "none").then(|| Secret(text.into())));
    SettingsChange {
        max_members: number(words, "max").map(|max| max as u32),
        on_leader_loss: value(words, "loss").map(|word| match word {
            "pause" => OnLeaderLoss::Pause,
            _ => OnLeaderLoss::Continue,
        }),
        leader_rule: value(words, "rule").map(|word| match word {
            "ask" => LeaderRule::Ask,
            "pin" => LeaderRule::Pin,
            _ => LeaderRule::Open,
        }),
        passcode: secret("passcode"),
        leader_pin: secret("pin"),
        anyone_may_cue: value(words, "cues").map(|word| word == "all"),
    }
}

fn answer(answer: Result<Ack, Reject>) -> String {
    match answer {
        Ok(Ack::Joined { role, version, .. }) => format!("{role:?} v{version}"),
        Ok(Ack::Changed { version, .. }) => format!("v{version}"),
        Ok(Ack::Sync(response)) => format!("{}", response.position / 1_000),
        Ok(Ack::Song(song)) => song.body,
        Ok(ack) => format!("{ack:?}").to_lowercase(),
        Err(Reject { code, field: None, .. }) => format!("{code:?}!"),
        Err(Reject { code, field: Some(field), .. }) => format!("{code:?} {field}!"),
    }
}

fn effect(effect: &Effect) -> String {
    let to = |audience: &Audience| match audience {
        Audience::All => "all".into(),
        Audience::Others(id) => format!("not {}", letter(*id)),
        Audience::One(id) => letter(*id),
        Audience::Metronome => "listeners".into(),
    };
    match effect {
        Effect::Tell(audience, told) => format!("{} <- {}", to(audience), notice(told)),
        Effect::Snapshot(audience) => format!("{} <- snapshot", to(audience)),
        Effect::RoomStats => "stats".into(),
    }
}

fn notice(notice: &Notice) -> String {
    let milli_bpm = |tempo: &Tempo| f64::from(tempo.milli_bpm()) / 1e3;
    let name = |id: &Option<MemberId>| id.map_or_else(|| "nobody".into(), letter);
    match notice {
        Notice::UserJoined { member, member_count } => {
            format!("joined {} {:?} {member_count}", letter(member.id), member.role)
        }
        Notice::UserLeft { member, member_count, new_leader, .. } => {
            format!("left {} {member_count} {}", letter(*member), name(new_leader))
        }
        Notice::RoleChanged { member, role, reason, .. } => {
            format!("role {} {role:?} {}", letter(*member), reason.unwrap_or("-"))
        }
        Notice::LeaderRequestSent { current_leader } => format!("sent to {}", letter(*current_leader)),
        Notice::LeaderHandoffRequest { requester } => format!("request of {}", letter(requester.id)),
        Notice::LeaderRequestApproved => "approved".into(),
        Notice::LeaderRequestDenied { .. } => "denied".into(),
        Notice::LeaderHandoffCompleted { new_leader } => format!("handed to {}", letter(*new_leader)),
        Notice::LeaderChanged { new_leader, previous } => {
            format!("leader {} after {}", letter(new_leader.id), name(previous))
        }
        Notice::SyncResponse(response) => format!("sync {}", response.position / 1_000),
        Notice::Chat { username, message, .. } => format!("{username}: {message}"),
        Notice::Cue { from, text, .. } => format!("cue {text} of {}", letter(*from)),
        Notice::Play { tempo, position, timestamp, .. } => {
            format!("play {} {} at {}", position / 1_000, milli_bpm(tempo), timestamp.0 - 1_000_000)
        }
        Notice::Pause { position, .. } => format!("pause {}", position / 1_000),
        Notice::Stop { .. } => "stop".into(),
        Notice::Seek { position, timestamp, .. } => {
            format!("seek {} at {}", position / 1_000, timestamp.0 - 1_000_000)
        }
        Notice::TempoChange { old, new, fade, .. } => {
            format!("tempo {} to {} in {}", milli_bpm(old), milli_bpm(new), fade.as_millis())
        }
        Notice::BeatSync { drift, .. } => format!("beat off by {drift}"),
        Notice::PositionSync { position, .. } => format!("at {}", position / 1_000),
        Notice::DriftCorrection { correct, reported, .. } => {
            format!("correct {} not {}", correct / 1_000, reported / 1_000)
        }
        Notice::Tick(_) => "tick".into(),
        Notice::MetronomeTick { beat, bar, at, .. } => {
            format!("beat {bar}.{beat} at {}", at.since(Micros::from_secs(100)).as_millis())
        }
        Notice::Setlist(setlist) => format!("{} songs", setlist.songs.len()),
        Notice::SongChanged { song, index, .. } => format!("song {index} {song}"),
        Notice::SessionUpdate { settings, time_signature, .. } => match (settings, time_signature) {
            (Some(_), _) => "settings".into(),
            (None, Some((signature, _))) => {
                format!("signature {}/{}", signature.numerator, signature.denominator)
            }
            (None, None) => "nothing".into(),
        },
    }
}

#[test]
fn the_first_member_leads_and_the_next_one_follows() {
    check(
        "a joins
         b joins",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats",
    );
}

#[test]
fn only_the_leader_moves_the_transport() {
    check(
        "a joins
         b joins
         b play
         c play
         a play
         +1500
         b pause
         a pause
         a pause
         a stop
         a stop",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b play: NotLeader!
         c play: NotMember!
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         b pause: NotLeader!
         a pause: v3 | all <- pause 1500 | all <- snapshot
         a pause: v3
         a stop: v4 | all <- stop | all <- snapshot
         a stop: v4",
    );
}

mod at_random {
    use proptest::prelude::*;

    use super::*;

    /// A line of a script: what a member does, or time that passes.
    fn line() -> impl Strategy<Value = String> {
        let fixed = [
            "joins",
            "joins",
            "joins leader",
            "joins follower",
            "joins metronome",
            "joins leader pin=7",
            "joins leader pin=8 passcode=x",
            "joins passcode=x",
            "leaves",
            "lost",
            "lost",
            "leader",
            "leader",
            "follower",
            "asks",
            "asks",
            "play",
            "play",
            "play",
            "play bar",
            "play beat",
            "pause",
            "stop",
            "sync",
            "sync 0 version=3",
            "message m",
            "message n",
            "says hello",
            "cue now",
            "signature 3/4",
            "signature 4/4",
            "signature 7/8",
            "at_beat 17.5",
            "at 60000",
            "songs x:90 y:140:3 z",
            "songs y",
            "song +1",
            "song -1",
            "song y",
            "gets x",
            "settings max=2",
            "settings max=9",
            "settings rule=ask",
            "settings rule=open",
            "settings rule=pin",
            "settings rule=pin pin=7",
            "settings pin=none",
            "settings passcode=x",
            "settings passcode=none",
            "settings loss=pause",
            "settings cues=all",
        ];
        let letter = || prop::sample::select(vec!["a", "b", "c", "d", "e"]);
        let doing = prop_oneof![
            4 => prop::sample::select(fixed.to_vec()).prop_map(String::from),
            1 => (0..40_000_u32, 0..9_u8).prop_map(|(ms, bars)| format!("play in={ms} bars={bars}")),
            1 => (0..90_000_u32).prop_map(|to| format!("seek {to}")),
            1 => (0..90_000_u32, 0..20_000_u32).prop_map(|(to, ms)| format!("seek {to} in={ms}")),
            1 => (20..=400_u32).prop_map(|bpm| format!("set_tempo {bpm}")),
            1 => (20..=400_u32, 0..9_000_u32).prop_map(|(bpm, ms)| format!("tempo {bpm} fade={ms}")),
            1 => letter().prop_map(|other| format!("leader {other}")),
            1 => letter().prop_map(|other| format!("approves {other}")),
            1 => letter().prop_map(|other| format!("denies {other}")),
        ];
        prop_oneof![
            8 => (letter(), doing).prop_map(|(who, what)| format!("{who} {what}")),
            1 => (0..3_000_u32).prop_map(|ms| format!("+{ms}")),
            1 => (0..20_000_u32).prop_map(|ms| format!("+{ms}")),
        ]
    }

    /// A record without what passes by itself.
    fn decided(session: &Session) -> Record {
        let mut record = session.record();
        (record.last_active_at, record.last_active_unix) = (Micros::ZERO, UnixMillis(0));
        record
    }

    fn step(room: &mut Room, line: &str) -> String {
        let before = decided(&room.session);
        let (checksum, leader, now) = (room.session.checksum(), room.session.leader(), room.now.at);
        let mut said = String::new();
        room.run(line, &mut said);
        let after = decided(&room.session);
        let raised = after.timeline.version - before.timeline.version;
        let refused = said.contains("!");
        if refused {
            assert_eq!(before, after, "{line} was refused");
            assert_eq!(said.lines().count(), 1);
            assert!(!said.contains("<-"), "a refusal tells nobody: {said}");
        }
        assert_eq!(raised == 0, checksum == room.session.checksum(), "{line}");
        if let Some((who, what)) = line.split_once(' ') {
            assert!(raised <= 1, "{line} raised the version by {raised}");
            let presence = ["joins", "leaves", "lost"].iter().any(|word| what.starts_with(word));
            if raised == 0 && !presence {
                assert_eq!(before, after, "{line} changed something without a version");
            }
            let may_move = leader == Some(member(who)) || presence;
            assert!(
                may_move || before.timeline.segments == after.timeline.segments,
                "{line} moved the transport"
            );
        } else if raised == 0 {
            assert_eq!(before, after, "time changed something without a version");
            let (from, to) = (&before.timeline, room.now.at);
            assert!(
                !from.is_playing_at(now) || from.beat_at(to) >= from.beat_at(now),
                "{line}: the beat went back"
            );
        }
        said
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]

        #[test]
        fn whatever_members_do_the_room_stays_whole(lines in prop::collection::vec(line(), 1..120)) {
            let (mut room, mut again) = (Room::new(RULES), Room::new(RULES));
            for line in &lines {
                prop_assert_eq!(step(&mut room, line), step(&mut again, line), "not the same twice");
            }
        }

        #[test]
        fn a_stored_room_plays_on(lines in prop::collection::vec(line(), 1..60), away in 0..5_000_u64) {
            let mut room = Room::new(RULES);
            let mut said = String::new();
            lines.iter().for_each(|line| room.run(line, &mut said));
            room.run("+0", &mut said);
            let record = room.session.record();
            let (then, timeline) = (room.now.at, record.timeline.clone());

            let idle = room.now.at.since(record.last_active_at);
            let elsewhere = Moment {
                at: Micros::from_secs(5),
                unix: UnixMillis(record.last_active_unix.0 + (idle.as_millis() + away) as i64),
            };
            let opened = Session::from_record(record, &RULES, elsewhere, 9);
            opened.check_invariants();
            prop_assert!(opened.is_empty());
            for later in [0, 700, 9_000, 40_000].map(Micros::from_millis) {
                let here = then + Micros::from_millis(away) + later;
                let there = elsewhere.at + later;
                prop_assert_eq!(opened.is_playing(there), timeline.is_playing_at(here));
                let (was, is) = (timeline.position_at(here), opened.record().timeline.position_at(there));
                prop_assert_eq!(was, is);
                // The tempo in the middle of a fade is rounded where the record takes over.
                let beats = timeline.beat_at(here) - opened.record().timeline.beat_at(there);
                prop_assert!(beats.abs() < 100, "{} micro-beats off", beats);
            }
        }
    }
}
