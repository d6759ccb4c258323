//! Scripts of the members' actions, with the notices that each member receives.

#![allow(clippy::unwrap_used)]

mod at_random;
mod charts;
mod message;
mod plans;
mod playback;
mod seats;
mod setlists;
mod terms;

use std::fmt::Write as _;

use super::*;
use crate::speech::{
    CueKind, Departure, Join, Number, Operation, Quantize, Role, Secret, Setlist, SettingsChange,
    Song, SongChoice, SongFormat, SongSelection, Start, Target, View, When,
};
use crate::words::ids::CommandId;
use crate::words::music::{BEAT, Position, TimeSignature};

/// Plays a script, a line each, and compares what comes of it, a line each: the answer to the one
/// who spoke, then the effects. `+500` lets as many milliseconds pass; `late 500` too, but nothing
/// is done before they are over.
#[track_caller]
fn check(script: &str, expected: &str) {
    check_under(RULES, script, expected);
}

/// Runs a scene under other rules.
#[track_caller]
fn check_under(rules: Rules, script: &str, expected: &str) {
    let mut room = Room::new(rules);
    let mut said = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        room.run(line, &mut said);
    }
    let tidy = |text: &str| {
        text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(tidy(&said), tidy(expected), "\n{said}");
}

const RULES: Rules = Rules {
    members_max: 4,
    leader_grace: Micros::from_secs(10),
    claim_window: Micros::ZERO,
    members_listed_max: 4,
    secret_chars_min: 0,
};

/// A session and the time in it.
struct Room {
    session: Session,
    now: Moment,
}

impl Room {
    fn new(rules: Rules) -> Self {
        let now = Moment { at: Micros::from_secs(100), unix: UnixMillis(1_000_000) };
        Self {
            session: Session::new(SessionId::parse("s").unwrap(), &Arc::new(rules), 1, now),
            now,
        }
    }

    fn run(&mut self, line: &str, said: &mut String) {
        if let Some(millis) = line.strip_prefix("late ") {
            return self.sleep(millis.parse().unwrap(), said);
        }
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
            "quits" => {
                self.session.leave(now, member, LeaveReason::Disconnected, &mut out);
                String::new()
            }
            "joins" => {
                let joined = self.session.join(now, member, &join(&words[1..]), &mut out);
                let is_back = matches!(joined, Ok(Ack::Joined { is_back: true, .. }));
                let back = if is_back && what.contains("token=") { " back" } else { "" };
                answer(joined) + back
            }
            _ => {
                let terms = terms(&words, now);
                answer(self.session.handle(now, member, terms, command(&words, now), &mut out))
            }
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

    /// Lets time pass without a call: what is due happens late, all at once.
    fn sleep(&mut self, millis: u64, said: &mut String) {
        self.advance(self.now.at + Micros::from_millis(millis));
        let mut out = Vec::new();
        self.session.due(self.now, &mut out);
        self.print(&format!("late {millis}"), "", &out, said);
    }

    fn advance(&mut self, at: Micros) {
        self.now = Moment { at, unix: unix_at(self.now, at) };
    }

    fn print(&self, line: &str, answer: &str, out: &[Effect], said: &mut String) {
        self.session.check_invariants();
        self.check_news(out);
        let effects: Vec<String> = out.iter().map(effect).collect();
        let parts = [answer]
            .into_iter()
            .chain(effects.iter().map(String::as_str))
            .filter(|part| !part.is_empty());
        writeln!(said, "{line}: {}", parts.collect::<Vec<_>>().join(" | ")).unwrap();
    }

    /// Every notice about the state must carry the version that it led to, or members would not
    /// accept it.
    fn check_news(&self, out: &[Effect]) {
        let state = self.session.state.timeline();
        for effect in out {
            let Effect::Notify(_, notice) = effect else { continue };
            match notice {
                Notice::Play { timeline, .. }
                | Notice::Pause { timeline, .. }
                | Notice::Stop { timeline, .. }
                | Notice::Seek { timeline, .. }
                | Notice::TempoChange { timeline, .. }
                | Notice::SongChanged { timeline, .. }
                | Notice::SyncResponse(SyncResponse { timeline, .. }) => {
                    assert_eq!(timeline, state, "{notice:?}")
                }
                Notice::SetlistChanged { version, checksum, .. } => {
                    assert_eq!((*version, *checksum), (state.version, self.session.checksum()));
                }
                Notice::SessionUpdate { timeline, version, checksum, .. } => {
                    assert_eq!((*version, *checksum), (state.version, self.session.checksum()));
                    assert!(timeline.iter().all(|timeline| **timeline == *state));
                }
                _ => {}
            }
        }
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
        token: value(words, "token").map(token),
        new_token: value(words, "new").map(token),
        view: View::Member,
    }
}

/// A token that begins with this text.
fn token(text: &str) -> Secret {
    Secret(format!("{text:-<22}"))
}

/// `id=7` names the command, and `by=200` limits it to as many milliseconds from now.
fn terms(words: &[&str], now: Moment) -> Terms {
    let limit = |text: &str| {
        let micros = 1_000 * text.parse::<i64>().unwrap();
        Micros::from_micros(now.at.as_micros().saturating_add_signed(micros))
    };
    Terms {
        id: number(words, "id").map(|number| CommandId { client: 1, number }),
        not_after: value(words, "by").map(limit),
    }
}

fn command(words: &[&str], now: Moment) -> SessionCommand {
    let at = number(words, "in").map(|millis| now.at + Micros::from_millis(millis));
    let ago =
        number(words, "ago").map(|millis| Micros::ZERO + now.at.since(Micros::from_millis(millis)));
    let line = value(words, "at").map(|word| match word {
        "bar" => Departure::Bar,
        _ => Departure::Beat,
    });
    let at_beat = number(words, "at_beat").map(|beat| Departure::AtBeat(beat as i64 * BEAT));
    let departure = line.or(at_beat);
    let tempo = |word: &str| Tempo::from_milli_bpm(word.parse::<u32>().unwrap() * 1_000).unwrap();
    let position =
        |word: &str| Position::from_micros(word.parse::<u64>().unwrap() * 1_000).unwrap();
    match words[0] {
        "leader" => {
            SessionCommand::SetRole { role: Role::Leader, member: words.get(1).map(|w| member(w)) }
        }
        "follower" => SessionCommand::SetRole { role: Role::Follower, member: None },
        "asks" => SessionCommand::RequestLeader,
        "approves" => SessionCommand::ApproveLeader { requester: member(words[1]) },
        "denies" => SessionCommand::DenyLeader { requester: member(words[1]) },
        "sync" => SessionCommand::Sync {
            checksum: words.get(1).filter(|word| !word.contains('=')).map(ToString::to_string),
            version: number(words, "version"),
        },
        "message" => SessionCommand::UpdateMessage(text(words.get(1).unwrap_or(&""))),
        "says" => SessionCommand::Chat {
            message: text(words[1]),
            username: value(words, "as").map(Into::into),
        },
        "cue" => SessionCommand::Cue(Cue {
            text: words[1].into(),
            kind: CueKind::Info,
            seconds: Number(5.0),
            target: None,
        }),
        "lets" => SessionCommand::SetMember { member: member(words[1]), may_edit: true },
        "stops" => SessionCommand::SetMember { member: member(words[1]), may_edit: false },
        "play" => SessionCommand::Play(Start {
            at,
            count_in_bars: number(words, "bars").unwrap_or(0) as u32,
            quantize: match () {
                () if words.contains(&"bar") => Some(Quantize::Bar),
                () if words.contains(&"beat") => Some(Quantize::Beat),
                () => None,
            },
        }),
        "pause" => SessionCommand::Pause { pressed: ago },
        "stop" => SessionCommand::Stop,
        "seek" => SessionCommand::Seek {
            to: match number(words, "beat") {
                Some(beat) => Target::Beat(beat as i64 * BEAT),
                None => Target::Position(position(words[1])),
            },
            when: departure.map_or(at.map_or(When::Now, When::At), When::Armed),
        },
        "loop" => SessionCommand::Loop(
            number(words, "from")
                .zip(number(words, "to"))
                .map(|(from, to)| (from as i64 * BEAT, to as i64 * BEAT)),
        ),
        "cancel" => SessionCommand::Cancel,
        "nudge" => SessionCommand::Nudge(words[1].parse::<i64>().unwrap() * BEAT),
        "one" => SessionCommand::One(ago.unwrap_or(now.at)),
        "set_tempo" => SessionCommand::SetTempo(tempo(words[1])),
        "tempo" => SessionCommand::ChangeTempo(TempoChange {
            tempo: tempo(words[1]),
            fade: Micros::from_millis(number(words, "fade").unwrap_or(0)),
            at_beat: number(words, "at_beat").map(|beat| beat as i64 * BEAT),
            event: TempoEvent::Change,
        }),
        "signature" => {
            let (numerator, denominator) = words[1].split_once('/').unwrap();
            let signature =
                TimeSignature::new(numerator.parse().unwrap(), denominator.parse().unwrap());
            SessionCommand::SetTimeSignature(signature.unwrap())
        }
        "at_beat" => SessionCommand::BeatSync {
            beat_position: Number(words[1].parse().unwrap()),
            master_time: Number(0.0),
        },
        "at" => {
            SessionCommand::PositionSync { position: position(words[1]), timestamp: Number(7.0) }
        }
        "songs" => SessionCommand::SetSetlist(setlist(&words[1..])),
        "song" => SessionCommand::SelectSong(SongSelection {
            choice: match words[1] {
                "+1" => SongChoice::Step(true),
                "-1" => SongChoice::Step(false),
                id => SongChoice::Id(id.into()),
            },
            plays: words.contains(&"play"),
            departure,
        }),
        "edits" => {
            let operations = words[1..].iter().filter(|word| !word.starts_with("id="));
            SessionCommand::EditSetlist(operations.map(operation).collect())
        }
        "lists" => SessionCommand::GetSetlist,
        "reads" => SessionCommand::GetSongs(
            words.get(1).map(|_| words[1..].iter().map(ToString::to_string).collect()),
        ),
        "gets" => SessionCommand::GetSong(words[1].into()),
        "settings" => SessionCommand::UpdateSettings(settings(words)),
        other => panic!("no such command: {other}"),
    }
}

fn text(text: &str) -> Message {
    Message { text: text.into(), cut: false }
}

/// `id:bpm:numerator:end` each.
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
            time_signature: parts
                .next()
                .map(|beats| TimeSignature::new(beats.parse().unwrap(), 4).unwrap()),
            format: SongFormat::Text,
            body: "la".into(),
            duration: None,
            meter: Vec::new(),
            end: parts.next().map(|beat| beat.parse::<i64>().unwrap() * BEAT),
            revision: 0,
        }
    };
    let songs = songs.iter().map(song).map(Arc::new).collect();
    Setlist { title: "tonight".into(), songs, revision: 0 }
}

/// `+x` adds a song and `+x<y` inserts it before another; `x=Title@3` replaces revision 3 of a song
/// and `x=Title@3>-4` moves the place by as many beats; `x<y` and `x<` move a song, `-x@3` removes
/// one, and `"title` is the list's new title.
fn operation(word: &&str) -> Operation {
    let song = |id: &str, title: &str| {
        let mut song = Song::clone(&setlist(&[id]).songs[0]);
        song.title = title.into();
        Arc::new(song)
    };
    let before = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    if let Some(title) = word.strip_prefix('"') {
        return Operation::Retitle { title: title.into() };
    }
    if let Some(added) = word.strip_prefix('+') {
        let (id, other) = added.split_once('<').unwrap_or((added, ""));
        return Operation::Add { song: song(id, id), before: before(other) };
    }
    if let Some(removed) = word.strip_prefix('-') {
        let (id, was) = removed.split_once('@').unwrap();
        return Operation::Remove { id: id.into(), was: was.parse().unwrap() };
    }
    if let Some((id, rest)) = word.split_once('=') {
        let (title, was) = rest.split_once('@').unwrap();
        let (was, shift) = was.split_once('>').unwrap_or((was, "0"));
        let (was, shift) = (was.parse().unwrap(), shift.parse().unwrap());
        return Operation::Replace { song: song(id, title), was, shift };
    }
    let (id, other) = word.split_once('<').unwrap();
    Operation::Move { id: id.into(), before: before(other) }
}

fn settings(words: &[&str]) -> SettingsChange {
    let secret =
        |name| value(words, name).map(|text| (text != "none").then(|| Secret(text.into())));
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
        anyone_may_edit: value(words, "edits").map(|word| word == "all"),
    }
}

fn answer(answer: Result<Ack, Reject>) -> String {
    match answer {
        Ok(Ack::Joined { role, version, .. }) => format!("{role:?} v{version}"),
        Ok(Ack::Changed { version, .. }) => format!("v{version}"),
        Ok(Ack::Sync(response)) => format!("{}", response.position / 1_000),
        Ok(Ack::Song(song)) => song.body.clone(),
        Ok(Ack::Edited { version, revision, .. }) => format!("v{version} r{revision}"),
        Ok(Ack::Setlist(list)) => {
            format!("r{} {}: {}", list.revision, list.title, ids(&list.songs))
        }
        Ok(Ack::Songs { revision, songs, more }) => {
            format!("r{revision} {} more {}", ids(&songs), more.join(" "))
        }
        Ok(ack) => format!("{ack:?}").to_lowercase(),
        Err(Reject { conflict: Some(conflict), .. }) => {
            let song = conflict.song.map_or_else(|| "gone".into(), |song| song.title.clone());
            format!("Conflict r{} {} {song}!", conflict.revision, conflict.id)
        }
        Err(Reject { code, field: None, .. }) => format!("{code:?}!"),
        Err(Reject { code, field: Some(field), .. }) => format!("{code:?} {field}!"),
    }
}

/// The songs' ids, each with its revision.
fn ids(songs: &[Arc<Song>]) -> String {
    let one = |song: &Arc<Song>| format!("{}@{}", song.id, song.revision);
    songs.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn effect(effect: &Effect) -> String {
    let to = |audience: &Audience| match audience {
        Audience::All => "all".into(),
        Audience::Others(id) => format!("not {}", letter(*id)),
        Audience::One(id) => letter(*id),
        Audience::Sender(id) => format!("only {}", letter(*id)),
        Audience::Metronome => "listeners".into(),
    };
    match effect {
        Effect::Notify(audience, told) => format!("{} <- {}", to(audience), notice(told)),
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
        Notice::UserLeft { member, member_count, new_leader, reason, .. } => {
            let replaced = if *reason == LeaveReason::Replaced { " replaced" } else { "" };
            format!("left {} {member_count} {}{replaced}", letter(*member), name(new_leader))
        }
        Notice::RoleChanged { member, role, reason, .. } => {
            format!("role {} {role:?} {}", letter(*member), reason.unwrap_or("-"))
        }
        Notice::LeaderRequestSent { current_leader } => {
            format!("sent to {}", letter(*current_leader))
        }
        Notice::LeaderHandoffRequest { requester } => {
            format!("request of {}", letter(requester.id))
        }
        Notice::LeaderRequestApproved => "approved".into(),
        Notice::LeaderRequestDenied { .. } => "denied".into(),
        Notice::LeaderHandoffCompleted { new_leader } => {
            format!("handed to {}", letter(*new_leader))
        }
        Notice::LeaderChanged { new_leader, previous } => {
            format!("leader {} after {}", letter(new_leader.id), name(previous))
        }
        Notice::SyncResponse(response) => format!("sync {}", response.position / 1_000),
        Notice::Chat { username, message, .. } => format!("{username}: {message}"),
        Notice::Cue { from, cue, .. } => format!("cue {} of {}", cue.text, letter(*from)),
        Notice::Play { tempo, position, timestamp, .. } => {
            format!("play {} {} at {}", position / 1_000, milli_bpm(tempo), timestamp.0 - 1_000_000)
        }
        Notice::Pause { position, reason, .. } => {
            let reason = reason.map(|reason| format!(" by {reason}")).unwrap_or_default();
            format!("pause {}{reason}", position / 1_000)
        }
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
        Notice::SetlistChanged { revision, base, operations, from, .. } => {
            format!("{} edits of {} from r{base} to r{revision}", operations.len(), letter(*from))
        }
        Notice::SongChanged { song, index, .. } => format!("song {index} {song}"),
        Notice::SessionUpdate { member: Some(member), .. } => {
            format!("{} edits {}", letter(member.id), member.may_edit)
        }
        Notice::SessionUpdate { settings, time_signature, timeline, .. } => {
            match (settings, time_signature) {
                (Some(_), _) => "settings".into(),
                (None, Some(signature)) => {
                    format!("signature {}/{}", signature.numerator, signature.denominator)
                }
                (None, None) => timeline.as_ref().map_or("nothing", |_| "timeline").into(),
            }
        }
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
         a pause: v3 | only a <- pause 1500 | only a <- snapshot
         a stop: v4 | all <- stop | all <- snapshot
         a stop: v4 | only a <- stop | only a <- snapshot",
    );
}

#[test]
fn under_the_open_rule_any_member_that_asks_leads() {
    check(
        "a joins
         b joins leader
         c joins
         c leader
         c leader",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins leader: Leader v2 | b <- snapshot | all <- joined b Follower 2 | all <- role a Follower claimed | all <- role b Leader - | all <- leader b after a | all <- snapshot | stats
         c joins: Follower v2 | c <- snapshot | all <- joined c Follower 3 | stats
         c leader: v3 | all <- role b Follower claimed | all <- role c Leader - | all <- leader c after b | all <- snapshot
         c leader: v3 | only c <- role c Leader - | only c <- leader c after c | only c <- snapshot",
    );
}

#[test]
fn the_leader_hands_over_or_steps_down() {
    check(
        "a joins
         b joins
         c joins
         a leader c
         b leader a
         c leader d
         c follower
         a follower",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         a leader c: v2 | all <- role a Follower - | all <- role c Leader handed_over | all <- leader c after a | all <- snapshot
         b leader a: NotLeader!
         c leader d: InvalidPayload memberId!
         c follower: v3 | all <- role c Follower - | all <- role a Leader handed_over | all <- leader a after c | all <- snapshot
         a follower: v4 | all <- role a Follower - | all <- role b Leader handed_over | all <- leader b after a | all <- snapshot",
    );
}

/// In a session of more than two members, one member and the leader are named.
const CROWDED: Rules = Rules { members_max: 9, members_listed_max: 2, ..RULES };

#[test]
fn a_large_session_announces_only_the_members_in_its_snapshots() {
    check_under(
        CROWDED,
        "a joins
         b joins
         c joins
         d joins
         d joins name=Dora
         a joins name=Anna
         d leaves
         c lost
         b leaves
         b joins
         c joins
         d joins leader
         a leaves",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- snapshot | stats
         d joins: Follower v1 | d <- snapshot | stats
         d joins name=Dora: Follower v1 | d <- snapshot
         a joins name=Anna: Leader v1 | all <- snapshot
         d leaves: stats
         c lost: all <- snapshot | stats
         b leaves: all <- left b 1 nobody | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- snapshot | stats
         d joins leader: Leader v2 | d <- snapshot | all <- role a Follower claimed | all <- role d Leader - | all <- leader d after a | all <- snapshot | stats
         a leaves: all <- left a 3 nobody | stats",
    );
}

#[test]
fn all_members_receive_a_large_session_s_leader_change() {
    check_under(
        CROWDED,
        "a joins
         b joins
         c joins
         d joins
         d leader
         d lost
         +10000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- snapshot | stats
         d joins: Follower v1 | d <- snapshot | stats
         d leader: v2 | all <- role a Follower claimed | all <- role d Leader - | all <- leader d after a | all <- snapshot
         d lost: all <- snapshot | stats
         +10000: all <- left d 3 a | all <- role a Leader leader_disconnected | all <- leader a after d | all <- snapshot | stats",
    );
}

#[test]
fn snapshots_of_a_large_session_name_the_first_and_the_leader() {
    let mut room = Room::new(CROWDED);
    let named = |room: &Room| {
        let snapshot = room.session.snapshot(room.now);
        let names: String = snapshot.members.iter().map(|member| letter(member.id)).collect();
        (names, snapshot.member_count)
    };
    let mut said = String::new();
    for (line, names, count) in [
        ("a joins", "a", None),
        ("b joins", "ab", None),
        ("c joins", "a", Some(3)),
        ("c leader", "ac", Some(3)),
        ("d joins", "ac", Some(4)),
        ("a leaves", "bc", Some(3)),
        ("b leaves", "cd", None),
    ] {
        room.run(line, &mut said);
        assert_eq!(named(&room), (names.into(), count), "{line}");
    }
}

#[test]
fn a_heartbeat_is_recorded_after_its_member_s_seat_moved() {
    let mut room = Room::new(CROWDED);
    let (mut said, mut index) = (String::new(), 0);
    let heard = |room: &mut Room, index: &mut u32, unix| {
        room.session.touch_member(member("c"), index, UnixMillis(unix), None);
        room.session.state.seat(member("c")).map(|seat| seat.member.last_ping_at.0)
    };
    for (line, at, found) in [
        ("a joins", 0, None),
        ("b joins", 0, None),
        ("c joins", 2, Some(7)),
        ("a leaves", 1, Some(7)),
    ] {
        room.run(line, &mut said);
        assert_eq!(heard(&mut room, &mut index, 7), found, "{line}");
        assert_eq!(index, at, "{line}");
    }
    index = 99;
    assert_eq!(heard(&mut room, &mut index, 8), Some(8));
}

#[test]
fn a_lone_leader_that_steps_down_leaves_no_leader() {
    check(
        "a joins
         a follower
         a play
         b joins follower
         b pause
         b leader",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a follower: v2 | all <- role a Follower - | all <- snapshot
         a play: NotLeader!
         b joins follower: Follower v2 | b <- snapshot | all <- joined b Follower 2 | stats
         b pause: NotLeader!
         b leader: v3 | all <- role b Leader - | all <- leader b after nobody | all <- snapshot",
    );
}

#[test]
fn a_member_that_asked_to_follow_does_not_lead_by_joining_first() {
    check(
        "a joins follower
         a play
         b joins",
        "a joins follower: Follower v1 | a <- snapshot | all <- joined a Follower 1 | stats
         a play: NotLeader!
         b joins: Leader v2 | b <- snapshot | all <- joined b Follower 2 | all <- role b Leader - | all <- leader b after nobody | all <- snapshot | stats",
    );
}

#[test]
fn under_the_ask_rule_the_leader_decides() {
    check(
        "a joins
         b joins
         c joins
         a settings rule=ask
         b leader
         b leader
         c asks
         b approves c
         a denies c
         a denies c
         c leader
         a approves b",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         a settings rule=ask: v2 | all <- settings
         b leader: pending | a <- request of b | b <- sent to a
         b leader: pending | b <- sent to a
         c asks: pending | a <- request of c | c <- sent to a
         b approves c: NotLeader!
         a denies c: done | c <- denied
         a denies c: InvalidPayload requesterId!
         c leader: pending | a <- request of c | c <- sent to a
         a approves b: v3 | b <- approved | a <- handed to b | all <- role a Follower - | all <- role b Leader handed_over | all <- leader b after a | c <- denied | all <- snapshot",
    );
}

#[test]
fn a_returning_leader_receives_pending_requests() {
    check(
        "a joins
         b joins
         a settings rule=ask
         a lost
         b leader
         a joins
         b leaves",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a settings rule=ask: v2 | all <- settings
         a lost: all <- snapshot | stats
         b leader: pending | a <- request of b | b <- sent to a
         a joins: Leader v4 | all <- snapshot | a <- request of b | stats
         b leaves: all <- left b 1 nobody | stats",
    );
}

#[test]
fn under_the_pin_rule_only_members_with_the_pin_can_claim_the_lead() {
    check(
        "a joins pin=1234
         b joins leader
         c joins leader pin=1
         c joins leader pin=1234
         b leader
         c leaves
         c joins
         b joins pin=1234
         a settings pin=99
         b leader
         c leader
         a leaves
         b joins pin=99
         b leader",
        "a joins pin=1234: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins leader: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins leader pin=1: BadPasscode leaderPin!
         c joins leader pin=1234: Leader v2 | c <- snapshot | all <- joined c Follower 3 | all <- role a Follower claimed | all <- role c Leader - | all <- leader c after a | all <- snapshot | stats
         b leader: NotAllowed!
         c leaves: all <- left c 2 a | all <- role a Leader leader_left | all <- leader a after c | all <- snapshot | stats
         c joins: Follower v3 | c <- snapshot | all <- joined c Follower 3 | stats
         b joins pin=1234: Follower v3 | b <- snapshot
         a settings pin=99: v4 | all <- settings
         b leader: NotAllowed!
         c leader: NotAllowed!
         a leaves: all <- left a 2 nobody | all <- snapshot | stats
         b joins pin=99: Follower v5 | b <- snapshot
         b leader: v6 | all <- role b Leader - | all <- leader b after nobody | all <- snapshot",
    );
}

#[test]
fn the_music_continues_without_its_leader() {
    check(
        "a joins
         b joins
         c joins
         a play
         +1000
         a lost
         a pause
         +9999
         c sync
         +1
         c pause
         b pause",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a lost: all <- snapshot | stats
         a pause: NotMember!
         c sync: 10999 | c <- sync 10999
         +11000: all <- left a 2 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- snapshot | stats
         c pause: NotLeader!
         b pause: v5 | all <- pause 11000 | all <- snapshot",
    );
}

#[test]
fn a_leader_that_returns_in_time_leads_again() {
    check(
        "a joins
         b joins
         a play
         a lost
         +5000
         a joins name=Ada
         +20000
         a pause",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a lost: all <- snapshot | stats
         a joins name=Ada: Leader v4 | all <- snapshot | stats
         a pause: v5 | all <- pause 25000 | all <- snapshot",
    );
}

#[test]
fn a_newcomer_that_claims_the_lead_replaces_a_lost_leader() {
    check(
        "a joins
         b joins
         a lost
         c joins leader
         +20000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a lost: all <- snapshot | stats
         c joins leader: Leader v3 | c <- snapshot | all <- joined c Follower 3 | all <- left a 2 c | all <- role c Leader - | all <- leader c after a | all <- snapshot | stats",
    );
}

#[test]
fn a_session_can_pause_when_its_leader_is_lost() {
    check(
        "a joins
         a settings loss=pause
         b joins
         a play
         +2000
         a lost
         +10000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a settings loss=pause: v2 | all <- settings
         b joins: Follower v2 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v3 | all <- play 0 120 at 0 | all <- snapshot
         a lost: all <- snapshot | stats
         +12000: all <- left a 1 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- pause 12000 | all <- snapshot | stats",
    );
}

#[test]
fn a_leader_that_leaves_hands_over_at_once() {
    check(
        "a joins
         b joins
         c joins
         a play
         a leaves
         b leaves
         c leaves
         d joins
         +5000
         d sync",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a leaves: all <- left a 2 b | all <- role b Leader leader_left | all <- leader b after a | all <- snapshot | stats
         b leaves: all <- left b 1 c | all <- role c Leader leader_left | all <- leader c after b | all <- snapshot | stats
         c leaves: all <- left c 0 nobody | all <- pause 0 | all <- snapshot | stats
         d joins: Leader v6 | d <- snapshot | all <- joined d Leader 1 | stats
         d sync: 0 | d <- sync 0",
    );
}

#[test]
fn the_music_continues_after_the_last_member_is_lost() {
    check(
        "a joins
         a play
         a lost
         +15000
         b joins
         b sync",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a lost: all <- snapshot | stats
         +10000: all <- left a 0 nobody | all <- snapshot | stats
         b joins: Leader v5 | b <- snapshot | all <- joined b Leader 1 | stats
         b sync: 15000 | b <- sync 15000",
    );
}

#[test]
fn a_full_session_rejects_new_members() {
    check(
        "a joins
         a settings max=2
         b joins
         c joins
         a lost
         c joins
         a settings max=1
         +10000
         c joins
         b settings max=5
         b settings max=1
         b settings max=0",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a settings max=2: v2 | all <- settings
         b joins: Follower v2 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: SessionFull!
         a lost: all <- snapshot | stats
         c joins: SessionFull!
         a settings max=1: NotMember!
         +10000: all <- left a 1 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- snapshot | stats
         c joins: Follower v4 | c <- snapshot | all <- joined c Follower 2 | stats
         b settings max=5: InvalidPayload maxMembers!
         b settings max=1: InvalidPayload maxMembers!
         b settings max=0: InvalidPayload maxMembers!",
    );
}

/// A seat is no place to try secrets from, whatever the rule says of the PIN at that time.
#[test]
fn a_seated_member_with_a_wrong_secret_is_rejected() {
    check(
        "a joins passcode=x pin=1234
         b joins passcode=x
         b joins
         b joins pin=1
         b joins passcode=y pin=1234
         b joins leader pin=12345
         b leader
         a settings rule=open
         b joins name=Ben pin=1
         a settings rule=pin
         b leader
         a joins pin=0
         b joins pin=1234
         b leader",
        "a joins passcode=x pin=1234: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins passcode=x: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b joins: Follower v1 | b <- snapshot
         b joins pin=1: BadPasscode leaderPin!
         b joins passcode=y pin=1234: BadPasscode passcode!
         b joins leader pin=12345: BadPasscode leaderPin!
         b leader: NotAllowed!
         a settings rule=open: v2 | all <- settings
         b joins name=Ben pin=1: BadPasscode leaderPin!
         a settings rule=pin: v3 | all <- settings
         b leader: NotAllowed!
         a joins pin=0: BadPasscode leaderPin!
         b joins pin=1234: Follower v3 | b <- snapshot
         b leader: v4 | all <- role a Follower claimed | all <- role b Leader - | all <- leader b after a | all <- snapshot",
    );
}

#[test]
fn new_secrets_need_the_minimum_length() {
    check_under(
        Rules { secret_chars_min: 8, ..RULES },
        "a joins passcode=1234567
         a joins pin=ééééééé
         a joins passcode=12345678 pin=éééééééé
         a settings passcode=short
         a settings pin=short
         a settings passcode=none",
        "a joins passcode=1234567: InvalidPayload passcode!
         a joins pin=ééééééé: InvalidPayload leaderPin!
         a joins passcode=12345678 pin=éééééééé: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a settings passcode=short: InvalidPayload passcode!
         a settings pin=short: InvalidPayload leaderPin!
         a settings passcode=none: v2 | all <- settings",
    );
}

#[test]
fn a_passcode_closes_the_room() {
    check(
        "a joins passcode=x
         b joins
         b joins passcode=y
         b joins passcode=x
         a settings passcode=none
         c joins",
        "a joins passcode=x: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: BadPasscode passcode!
         b joins passcode=y: BadPasscode passcode!
         b joins passcode=x: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a settings passcode=none: v2 | all <- settings
         c joins: Follower v2 | c <- snapshot | all <- joined c Follower 3 | stats",
    );
}

#[test]
fn joining_again_changes_only_the_member_s_details() {
    check(
        "a joins
         b joins
         b joins name=Bo
         b joins
         a joins follower",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b joins name=Bo: Follower v1 | all <- snapshot
         b joins: Follower v1 | b <- snapshot
         a joins follower: Leader v1 | a <- snapshot",
    );
}

#[test]
fn all_members_receive_chat_cues_and_the_message() {
    check(
        "a joins
         b joins name=Bo
         b says hello
         b says hi as=B
         b message m
         a message m
         a says hello
         b cue now
         a cue go
         a settings cues=all
         a settings cues=all
         b cue now",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins name=Bo: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b says hello: done | all <- Bo: hello
         b says hi as=B: done | all <- B: hi
         b message m: v2 | all <- snapshot
         a message m: v2 | only a <- snapshot
         a says hello: done | all <- User YWFh: hello
         b cue now: NotLeader!
         a cue go: done | all <- cue go of a
         a settings cues=all: v3 | all <- settings
         a settings cues=all: v3 | only a <- settings
         b cue now: done | all <- cue now of b",
    );
}

#[test]
fn a_sync_request_with_another_state_is_answered_with_a_snapshot() {
    check(
        "a joins
         b joins
         a play
         +1250
         b sync
         b sync 00000000
         b sync version=2
         b sync version=1",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         b sync: 1250 | b <- sync 1250
         b sync 00000000: 1250 | b <- sync 1250 | b <- snapshot
         b sync version=2: 1250 | b <- sync 1250
         b sync version=1: 1250 | b <- sync 1250 | b <- snapshot",
    );
}
