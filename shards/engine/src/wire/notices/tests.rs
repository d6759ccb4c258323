//! Every packet, to the byte.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::speech::{
    Ack, Checksum, Code, Cue, CueKind, LeaderRule, LeaveReason, Member, Number, OnLeaderLoss,
    Operation, Quality, Reject, Role, Setlist, Settings, Song, SongFormat, SyncResponse,
};
use crate::wire::print::{ack, rejection};
use crate::words::music::{
    Armed, Change, Loop, MeterChange, Position, Segment, Tempo, TimeSignature, Timeline,
};
use crate::words::time::{Moment, UnixMillis};

const ANN: &str = "AAAAAAAAAAAAAAAAAAAA";
const BEN: &str = "BBBBBBBBBBBBBBBBBBBB";
const NOW: UnixMillis = UnixMillis(1_700_000_000_123);
const TIMELINE: &str = concat!(
    r#"{"epoch":3,"version":7,"leader":"AAAAAAAAAAAAAAAAAAAA","segments":["#,
    r#"{"t0":5000000,"p0":-2000000,"b0":-4000000,"rate":1,"bpm0":120000,"bpm1":90500,"ramp":8000000},"#,
    r#"{"t0":90000001,"p0":83000001,"b0":0,"rate":0,"bpm0":90500,"bpm1":90500,"ramp":0}],"#,
    r#""meter":[{"beat":0,"num":4,"den":4},{"beat":8000000,"num":6,"den":8}],"#,
    r#""quantum":4000000,"countIn":4,"madeAt":4999999}"#,
);

fn session() -> SessionId {
    SessionId::parse("stage").unwrap()
}

fn id(text: &str) -> MemberId {
    MemberId::parse(text).unwrap()
}

fn tempo(milli_bpm: u32) -> Tempo {
    Tempo::from_milli_bpm(milli_bpm).unwrap()
}

fn ann() -> Member {
    Member {
        id: id(ANN),
        display_name: "Ann".into(),
        role: Role::Leader,
        joined_at: UnixMillis(1_000),
        last_ping_at: UnixMillis(2_000),
        instrument: Some("bass".into()),
        connected: true,
        may_edit: false,
    }
}

fn ben() -> Member {
    Member {
        id: id(BEN),
        display_name: "Ben".into(),
        role: Role::Follower,
        joined_at: UnixMillis(3_000),
        last_ping_at: UnixMillis(4_000),
        instrument: None,
        connected: false,
        may_edit: true,
    }
}

fn timeline() -> Timeline {
    let signature = |numerator, denominator| TimeSignature { numerator, denominator };
    Timeline {
        epoch: 3,
        version: 7,
        leader: Some(id(ANN)),
        song: None,
        segments: vec![
            Segment {
                t0: Micros::from_secs(5),
                p0: -2_000_000,
                b0: -4_000_000,
                playing: true,
                bpm0: tempo(120_000),
                bpm1: tempo(90_500),
                ramp: 8_000_000,
                looped: None,
                start: None,
                armed: None,
            },
            Segment {
                t0: Micros::from_micros(90_000_001),
                p0: 83_000_001,
                b0: 0,
                playing: false,
                bpm0: tempo(90_500),
                bpm1: tempo(90_500),
                ramp: 0,
                looped: None,
                start: None,
                armed: None,
            },
        ],
        meter: vec![
            MeterChange { beat: 0, signature: signature(4, 4) },
            MeterChange { beat: 8_000_000, signature: signature(6, 8) },
        ],
        end: None,
        quantum: 4_000_000,
        count_in: 4,
        made_at: Micros::from_micros(4_999_999),
    }
}

fn settings() -> Settings {
    Settings {
        max_members: 8,
        on_leader_loss: OnLeaderLoss::Continue,
        leader_rule: LeaderRule::Open,
        anyone_may_cue: false,
        anyone_may_edit: true,
        has_passcode: true,
    }
}

fn sync() -> SyncResponse {
    SyncResponse {
        position: 1_500_250,
        tempo: tempo(90_500),
        playing: true,
        timestamp: NOW,
        checksum: Checksum(0xbeef),
        timeline: timeline(),
    }
}

fn setlist() -> Setlist {
    let full = Song {
        id: "s1".into(),
        title: "Harbour".into(),
        artist: Some("Us".into()),
        key: Some("Em".into()),
        tempo: Some(tempo(96_000)),
        time_signature: Some(TimeSignature { numerator: 6, denominator: 8 }),
        format: SongFormat::ChordPro,
        body: "[Em]One\ntwo".into(),
        duration: Position::from_micros(180_000_500),
        meter: Vec::new(),
        end: None,
        revision: 3,
    };
    let bare = Song {
        id: "s2".into(),
        title: "Jam".into(),
        artist: None,
        key: None,
        tempo: None,
        time_signature: None,
        format: SongFormat::Text,
        body: String::new(),
        duration: None,
        meter: Vec::new(),
        end: None,
        revision: 2,
    };
    Setlist { title: "Friday".into(), songs: [full, bare].map(Arc::new).into(), revision: 4 }
}

fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
    // Whatever is there already stays: several packets are gathered in one buffer.
    let mut out = b"before".to_vec();
    print(&mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

/// `fields` is what follows the session's id; `$T` stands for [`TIMELINE`].
#[track_caller]
fn check(value: Notice, name: &str, fields: &str) {
    let fields = fields.replace("$T", TIMELINE);
    let expected = format!(r#"42["{name}",{{"sessionId":"stage",{fields}}}]"#);
    assert_eq!(printed(|out| notice(out, &session(), &value)), expected);
}

#[track_caller]
fn check_client(value: ClientNotice<'_>, name: &str, fields: &str) {
    assert_eq!(printed(|out| client(out, &value)), format!(r#"42["{name}",{{{fields}}}]"#));
}

#[track_caller]
fn check_ack(value: Ack, fields: &str) {
    let fields = fields.replace("$T", TIMELINE);
    let expected = format!(r#"4317[{{"ok":true{fields}}}]"#);
    assert_eq!(printed(|out| ack(out, 17, Some(&session()), &value)), expected);
}

#[test]
fn join_and_leave_notices_are_printed() {
    check(
        Notice::UserJoined { member: ann(), member_count: 2 },
        "user_joined",
        r#""member":{"socketId":"AAAAAAAAAAAAAAAAAAAA","displayName":"Ann","role":"leader","joinedAt":1000,"lastPingAt":2000,"instrument":"bass","connected":true},"memberCount":2"#,
    );
    check(
        Notice::UserLeft {
            member: id(ANN),
            member_count: 1,
            new_leader: Some(id(BEN)),
            reason: LeaveReason::TransportClosed,
            timestamp: NOW,
        },
        "user_left",
        r#""socketId":"AAAAAAAAAAAAAAAAAAAA","memberCount":1,"newLeader":"BBBBBBBBBBBBBBBBBBBB","disconnectReason":"transport close","timestamp":1700000000123"#,
    );
    check(
        Notice::UserLeft {
            member: id(BEN),
            member_count: 0,
            new_leader: None,
            reason: LeaveReason::Left,
            timestamp: NOW,
        },
        "user_left",
        r#""socketId":"BBBBBBBBBBBBBBBBBBBB","memberCount":0,"newLeader":null,"disconnectReason":"leave","timestamp":1700000000123"#,
    );
}

#[test]
fn leadership_notices_are_printed() {
    let changed = |reason| Notice::RoleChanged {
        member: id(BEN),
        role: Role::Leader,
        previous: Role::Follower,
        reason,
        timestamp: NOW,
    };
    check(
        changed(Some("leader_left")),
        "role_changed",
        r#""socketId":"BBBBBBBBBBBBBBBBBBBB","role":"leader","previousRole":"follower","reason":"leader_left","timestamp":1700000000123"#,
    );
    check(
        changed(None),
        "role_changed",
        r#""socketId":"BBBBBBBBBBBBBBBBBBBB","role":"leader","previousRole":"follower","timestamp":1700000000123"#,
    );
    check(
        Notice::LeaderRequestSent { current_leader: id(ANN) },
        "leader_request_sent",
        r#""message":"The leader has been asked to hand over.","currentLeader":"AAAAAAAAAAAAAAAAAAAA""#,
    );
    check(
        Notice::LeaderHandoffRequest { requester: ben() },
        "leader_handoff_request",
        r#""requesterId":"BBBBBBBBBBBBBBBBBBBB","requesterInfo":{"displayName":"Ben","joinedAt":3000}"#,
    );
    check(Notice::LeaderRequestApproved, "leader_request_approved", r#""message":"You lead now.""#);
    check(
        Notice::LeaderRequestDenied { reason: "Not tonight" },
        "leader_request_denied",
        r#""reason":"Not tonight""#,
    );
    check(
        Notice::LeaderHandoffCompleted { new_leader: id(BEN) },
        "leader_handoff_completed",
        r#""newLeaderId":"BBBBBBBBBBBBBBBBBBBB","message":"You have handed over the lead.""#,
    );
    check(
        Notice::LeaderChanged { new_leader: ben(), previous: Some(id(ANN)) },
        "leader_changed",
        r#""newLeaderId":"BBBBBBBBBBBBBBBBBBBB","newLeaderInfo":{"displayName":"Ben","joinedAt":3000},"previousLeader":"AAAAAAAAAAAAAAAAAAAA""#,
    );
    check(
        Notice::LeaderChanged { new_leader: ann(), previous: None },
        "leader_changed",
        r#""newLeaderId":"AAAAAAAAAAAAAAAAAAAA","newLeaderInfo":{"displayName":"Ann","joinedAt":1000},"previousLeader":null"#,
    );
}

#[test]
fn chat_and_cue_notices_are_printed() {
    check(
        Notice::Chat {
            from: id(BEN),
            username: "Ben".into(),
            message: "louder".into(),
            timestamp: NOW,
        },
        "chat_message",
        r#""message":"louder","username":"Ben","socketId":"BBBBBBBBBBBBBBBBBBBB","timestamp":1700000000123"#,
    );
    let moment = Moment { at: Micros::from_micros(12_345_678), unix: NOW };
    let cue = |kind, target| {
        let (text, seconds) = ("chorus x2".into(), Number(5.0));
        Notice::Cue { from: id(ANN), cue: Cue { text, kind, seconds, target }, moment }
    };
    check(
        cue(CueKind::Info, Some("drums".into())),
        "cue",
        r#""text":"chorus x2","kind":"info","seconds":5,"target":"drums","from":"AAAAAAAAAAAAAAAAAAAA","atServerMs":12345.678,"serverTimestamp":1700000000123"#,
    );
    check(
        cue(CueKind::Hold, None),
        "cue",
        r#""text":"chorus x2","kind":"hold","seconds":5,"from":"AAAAAAAAAAAAAAAAAAAA","atServerMs":12345.678,"serverTimestamp":1700000000123"#,
    );
}

#[test]
fn a_timeline_is_printed_with_its_song_its_loop_and_what_is_armed() {
    let mut armed = timeline();
    (armed.song, armed.end) = (Some("harbour".into()), Some(64_000_000));
    armed.segments[0].looped = Some(Loop { from: 8_000_000, to: 16_000_000, p: 4_000_000 });
    armed.segments[0].start = Some(0);
    let meter = vec![MeterChange::COMMON];
    let change = Change::Song { id: "rain".into(), end: Some(32_000_000) };
    armed.segments[1].armed = Some(Box::new(Armed { cut: 24_000_000, change, meter: Some(meter) }));
    let notice = Notice::Stop { timestamp: NOW, timeline: armed };
    let text = printed(|out| super::notice(out, &session(), &notice));
    for part in [
        r#""leader":"AAAAAAAAAAAAAAAAAAAA","song":"harbour","segments":["#,
        r#""ramp":8000000,"loop":{"from":8000000,"to":16000000,"p":4000000},"start":0},"#,
        r#""ramp":0,"cut":24000000,"armed":"song","song":"rain","meter":[{"beat":0,"num":4,"den":4}],"end":32000000}]"#,
        r#""num":6,"den":8}],"end":64000000,"quantum":4000000"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn playback_notices_carry_the_timeline() {
    check(
        Notice::Play {
            tempo: tempo(120_000),
            position: -2_000_000,
            timestamp: NOW,
            timeline: timeline(),
        },
        "play",
        r#""tempoBpm":120,"position":-2000,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        Notice::Pause { position: 1_500_250, reason: None, timestamp: NOW, timeline: timeline() },
        "pause",
        r#""position":1500.25,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        Notice::Pause { position: 7, reason: Some("end"), timestamp: NOW, timeline: timeline() },
        "pause",
        r#""position":0.007,"reason":"end","serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        Notice::Stop { timestamp: NOW, timeline: timeline() },
        "stop",
        r#""serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        Notice::Seek { position: 0, beat: 500_000, timestamp: NOW, timeline: timeline() },
        "seek",
        r#""position":0,"beat":0.5,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
    let change = |event| Notice::TempoChange {
        event,
        old: tempo(120_000),
        new: tempo(90_500),
        fade: Micros::from_secs(8),
        timestamp: NOW,
        timeline: timeline(),
    };
    check(
        change(TempoEvent::Change),
        "tempo_change",
        r#""oldTempo":120,"newTempo":90.5,"changeTime":1700000000123,"fadeTime":8000,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        change(TempoEvent::Changed),
        "tempo_changed",
        r#""oldTempo":120,"newTempo":90.5,"changeTime":1700000000123,"fadeTime":8000,"isRealTime":true,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
    check(
        Notice::SyncResponse(sync()),
        "sync_response",
        r#""positionMs":1500.25,"tempoBpm":90.5,"isPlaying":true,"serverTime":1700000000123,"serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0000beef","timeline":$T"#,
    );
}

#[test]
fn clock_and_tick_notices_are_printed() {
    check(
        Notice::BeatSync {
            master_time: NOW,
            beat_position: Number(17.25),
            tempo: tempo(90_500),
            drift: -250_001,
        },
        "beat_sync",
        r#""masterTime":1700000000123,"beatPosition":17.25,"tempo":90.5,"drift":-0.250001"#,
    );
    check(
        Notice::PositionSync { position: 16_667, server_time: NOW, client_timestamp: Number(99.0) },
        "position_sync",
        r#""positionMs":16.667,"serverTime":1700000000123,"clientTimestamp":99"#,
    );
    check(
        Notice::DriftCorrection { correct: 1_030_000, reported: 1_000_000, timestamp: NOW },
        "drift_correction",
        r#""correctPosition":1030,"reportedPosition":1000,"drift":-30,"timestamp":1700000000123"#,
    );
    check(
        Notice::Tick(Tick {
            position: 16_001,
            tempo: tempo(132_333),
            timestamp: NOW,
            epoch: 1,
            version: 9,
        }),
        "scroll_tick",
        r#""positionMs":16.001,"tempoBpm":132.333,"serverTimestamp":1700000000123,"epoch":1,"version":9"#,
    );
    let click = |beat, bar| Notice::MetronomeTick {
        beat,
        bar,
        at: Micros::from_micros(1_000_500),
        tempo: tempo(120_000),
    };
    check(
        click(1, -1),
        "metronome_tick",
        r#""beat":1,"bar":-1,"atServerMs":1000.5,"tempoBpm":120,"isDownbeat":true"#,
    );
    check(
        click(4, 12),
        "metronome_tick",
        r#""beat":4,"bar":12,"atServerMs":1000.5,"tempoBpm":120,"isDownbeat":false"#,
    );
}

#[test]
fn song_notices_are_printed() {
    check(
        Notice::Setlist(setlist()),
        "setlist",
        r#""setlist":{"revision":4,"title":"Friday","songs":[{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"[Em]One\ntwo","durationMs":180000.5,"revision":3},{"id":"s2","title":"Jam","format":"text","body":"","revision":2}]}"#,
    );
    check(
        Notice::SongChanged { song: "s2".into(), index: 1, timestamp: NOW, timeline: timeline() },
        "song_changed",
        r#""songId":"s2","index":1,"serverTimestamp":1700000000123,"timeline":$T"#,
    );
}

#[test]
fn an_update_has_only_what_changed() {
    let update = |settings, time_signature, timeline| Notice::SessionUpdate {
        settings,
        time_signature,
        timeline,
        member: None,
        epoch: 3,
        version: 8,
        checksum: Checksum(u32::MAX),
    };
    check(
        update(None, None, None),
        "session_update",
        r#""epoch":3,"version":8,"checksum":"ffffffff""#,
    );
    check(
        update(Some(settings()), None, None),
        "session_update",
        r#""settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"anyoneMayEdit":true,"hasPasscode":true},"epoch":3,"version":8,"checksum":"ffffffff""#,
    );
    check(
        update(
            None,
            Some(TimeSignature { numerator: 6, denominator: 8 }),
            Some(Box::new(timeline())),
        ),
        "session_update",
        r#""timeSignature":{"numerator":6,"denominator":8},"timeline":$T,"epoch":3,"version":8,"checksum":"ffffffff""#,
    );
}

#[test]
fn an_update_of_a_right_has_the_member() {
    let update = Notice::SessionUpdate {
        settings: None,
        time_signature: None,
        timeline: None,
        member: Some(Box::new(ben())),
        epoch: 3,
        version: 8,
        checksum: Checksum(1),
    };
    check(
        update,
        "session_update",
        r#""member":{"socketId":"BBBBBBBBBBBBBBBBBBBB","displayName":"Ben","role":"follower","joinedAt":3000,"lastPingAt":4000,"connected":false,"mayEdit":true},"epoch":3,"version":8,"checksum":"00000001""#,
    );
}

#[test]
fn an_edit_has_the_songs_of_add_and_replace_only() {
    let [full, bare] = [0, 1].map(|index| Arc::clone(&setlist().songs[index]));
    let operations = [
        Operation::Add { song: bare.clone(), before: Some("s1".into()) },
        Operation::Add { song: bare.clone(), before: None },
        Operation::Replace { song: full, was: 2, shift: -8 },
        Operation::Replace { song: bare, was: 2, shift: 0 },
        Operation::Move { id: "s1".into(), before: None },
        Operation::Move { id: "s1".into(), before: Some("s2".into()) },
        Operation::Remove { id: "s2".into(), was: 7 },
        Operation::Retitle { title: "Saturday".into() },
    ];
    let jam = r#"{"id":"s2","title":"Jam","format":"text","body":"","revision":2}"#;
    let expected = [
        r#""revision":5,"base":4,"ops":["#,
        &format!(r#"{{"op":"add","song":{jam},"before":"s1"}},"#),
        &format!(r#"{{"op":"add","song":{jam}}},"#),
        r#"{"op":"replace","song":{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"[Em]One\ntwo","durationMs":180000.5,"revision":3},"was":2,"shift":-8},"#,
        &format!(r#"{{"op":"replace","song":{jam},"was":2}},"#),
        r#"{"op":"move","songId":"s1"},{"op":"move","songId":"s1","before":"s2"},"#,
        r#"{"op":"remove","songId":"s2","was":7},{"op":"retitle","title":"Saturday"}],"#,
        r#""from":"BBBBBBBBBBBBBBBBBBBB","epoch":3,"version":8,"checksum":"0000beef""#,
    ];
    let changed = Notice::SetlistChanged {
        revision: 5,
        base: 4,
        operations: operations.into(),
        from: id(BEN),
        epoch: 3,
        version: 8,
        checksum: Checksum(0xbeef),
    };
    check(changed, "setlist_changed", &expected.concat());
}

#[test]
fn every_rule_is_printed_as_its_name() {
    let mut words = Vec::new();
    for leader_rule in [LeaderRule::Open, LeaderRule::Ask, LeaderRule::Pin] {
        for on_leader_loss in [OnLeaderLoss::Continue, OnLeaderLoss::Pause] {
            let view = SettingsView::new(&Settings { leader_rule, on_leader_loss, ..settings() });
            words.push((view.leader_rule, view.on_leader_loss));
        }
    }
    let expected = ["open", "ask", "pin"].map(|rule| [(rule, "continue"), (rule, "pause")]);
    assert_eq!(words, expected.concat());
}

#[test]
fn a_full_snapshot_has_everything_but_bodies() {
    let (session, ann, ben, timeline, setlist) = (session(), ann(), ben(), timeline(), setlist());
    let full = Snapshot {
        session: &session,
        message: "hello",
        tempo: tempo(90_500),
        position: 1_500_250,
        beat: 3_250_000,
        playing: true,
        members: vec![&ann, &ben],
        member_count: None,
        created_at: UnixMillis(500),
        last_active_at: UnixMillis(600),
        settings: settings(),
        timestamp: NOW,
        checksum: Checksum(0x0123_abcd),
        time_signature: TimeSignature { numerator: 6, denominator: 8 },
        song: Some((0, &*setlist.songs[0])),
        setlist: Some(&setlist),
        setlist_revision: Some(4),
        timeline: &timeline,
    };
    let expected = [
        r#"42["snapshot",{"sessionId":"stage","message":"hello","tempo":90.5,"tempoBpm":90.5,"position":1500.25,"beat":3.25,"isPlaying":true,"leaderSocketId":"AAAAAAAAAAAAAAAAAAAA","#,
        r#""members":[{"socketId":"AAAAAAAAAAAAAAAAAAAA","displayName":"Ann","role":"leader","joinedAt":1000,"lastPingAt":2000,"instrument":"bass","connected":true},"#,
        r#"{"socketId":"BBBBBBBBBBBBBBBBBBBB","displayName":"Ben","role":"follower","joinedAt":3000,"lastPingAt":4000,"connected":false,"mayEdit":true}],"#,
        r#""createdAt":500,"lastActiveAt":600,"settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"anyoneMayEdit":true,"hasPasscode":true},"#,
        r#""serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0123abcd","timeline":"#,
        TIMELINE,
        r#","timeSignature":{"numerator":6,"denominator":8},"song":{"id":"s1","title":"Harbour","artist":"Us","key":"Em","index":0},"#,
        r#""setlist":{"revision":4,"title":"Friday","songs":[{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","durationMs":180000.5,"revision":3},"#,
        r#"{"id":"s2","title":"Jam","format":"text","revision":2}]},"setlistRevision":4}]"#,
    ];
    assert_eq!(printed(|out| snapshot(out, &full)), expected.concat());

    let of_many = Snapshot { member_count: Some(10_000), ..full };
    let expected = expected.concat().replace("true}],", r#"true}],"memberCount":10000,"#);
    assert_eq!(printed(|out| snapshot(out, &of_many)), expected);
}

#[test]
fn an_empty_snapshot_has_no_leader_and_no_songs() {
    let session = session();
    let timeline = Timeline { leader: None, segments: vec![], meter: vec![], ..timeline() };
    let empty = Snapshot {
        session: &session,
        message: "",
        tempo: Tempo::DEFAULT,
        position: 0,
        beat: 0,
        playing: false,
        members: vec![],
        member_count: None,
        created_at: NOW,
        last_active_at: NOW,
        settings: settings(),
        timestamp: NOW,
        checksum: Checksum(0),
        time_signature: TimeSignature::COMMON,
        song: None,
        setlist: None,
        setlist_revision: None,
        timeline: &timeline,
    };
    let expected = [
        r#"42["snapshot",{"sessionId":"stage","message":"","tempo":120,"tempoBpm":120,"position":0,"beat":0,"isPlaying":false,"leaderSocketId":null,"members":[],"#,
        r#""createdAt":1700000000123,"lastActiveAt":1700000000123,"settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"anyoneMayEdit":true,"hasPasscode":true},"#,
        r#""serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"00000000","timeline":{"epoch":3,"version":7,"leader":null,"segments":[],"meter":[],"quantum":4000000,"countIn":4,"madeAt":4999999},"#,
        r#""timeSignature":{"numerator":4,"denominator":4}}]"#,
    ];
    assert_eq!(printed(|out| snapshot(out, &empty)), expected.concat());
}

#[test]
fn room_stats_are_printed() {
    let stats = RoomStats {
        member_count: 3,
        connected_count: 2,
        playing: true,
        tempo: tempo(90_500),
        position: 250,
        leader: Some(id(ANN)),
        uptime: Micros::from_millis(61_000),
        screens: 2,
    };
    assert_eq!(
        printed(|out| room_stats(out, &session(), &stats)),
        r#"42["room_stats",{"sessionId":"stage","memberCount":3,"connectedCount":2,"isPlaying":true,"tempo":90.5,"position":0.25,"leader":"AAAAAAAAAAAAAAAAAAAA","uptime":61000,"screens":2}]"#
    );
    let nobody = RoomStats { leader: None, ..stats };
    assert!(printed(|out| room_stats(out, &session(), &nobody)).contains(r#""leader":null,"#));
}

fn quality() -> Quality {
    Quality {
        member: id(ANN),
        latency: Some(Micros::from_micros(12_345)),
        ping_count: 4,
        pong_count: 2,
        timeouts: 1,
        connection_duration: Micros::from_secs(20),
    }
}

const QUALITY: &str = r#""socketId":"AAAAAAAAAAAAAAAAAAAA","latency":12.345,"packetLoss":33.333,"connectionDuration":20000,"pingCount":4,"pongCount":2,"timeouts":1,"quality":"poor""#;
const MOMENT: Moment = Moment { at: Micros::from_micros(12_345_678), unix: NOW };

#[test]
fn connection_notices_are_printed() {
    check_client(
        ClientNotice::LatencyResponse { client_timestamp: Number(1.5), moment: MOMENT },
        "latency_response",
        r#""clientTimestamp":1.5,"serverTimestamp":1700000000123,"t1":12345.678,"t2":12345.679"#,
    );
    check_client(
        ClientNotice::ClockSync { t0: Number(7.0), at: MOMENT.at },
        "clock_sync",
        r#""t0":7,"t1":12345.678,"t2":12345.679"#,
    );
    check_client(ClientNotice::Ping { timestamp: NOW }, "ping", r#""timestamp":1700000000123"#);
    let heartbeat = |client_timestamp, rtt| ClientNotice::HeartbeatResponse {
        client_timestamp,
        timestamp: NOW,
        rtt,
    };
    check_client(
        heartbeat(Some(Number(5.0)), Some(Micros::from_micros(3_210))),
        "heartbeat_response",
        r#""timestamp":5,"clientTimestamp":5,"serverTimestamp":1700000000123,"rtt":3.21"#,
    );
    check_client(
        heartbeat(None, None),
        "heartbeat_response",
        r#""timestamp":null,"clientTimestamp":null,"serverTimestamp":1700000000123,"rtt":null"#,
    );
    check_client(ClientNotice::ConnectionQuality(quality()), "connection_quality", QUALITY);
    let fresh = Quality { latency: None, ping_count: 1, pong_count: 0, timeouts: 0, ..quality() };
    check_client(
        ClientNotice::ConnectionQuality(fresh),
        "connection_quality",
        r#""socketId":"AAAAAAAAAAAAAAAAAAAA","latency":0,"packetLoss":0,"connectionDuration":20000,"pingCount":1,"pongCount":0,"timeouts":0,"quality":"unknown""#,
    );
    check_client(
        ClientNotice::RateLimitExceeded { event: "seek", retry_after: Micros::from_millis(200) },
        "rate_limit_exceeded",
        r#""eventType":"seek","retryAfter":200"#,
    );
    check_client(
        ClientNotice::Error { event: "seek", reject: &Reject::field("position", "too far") },
        "error",
        r#""message":"too far","code":"invalid_payload","event":"seek","field":"position""#,
    );
    check_client(
        ClientNotice::Error {
            event: "say \"hi\"",
            reject: &Reject::new(Code::UnknownEvent, "No such event."),
        },
        "error",
        r#""message":"No such event.","code":"unknown_event","event":"say \"hi\"""#,
    );
    check_client(
        ClientNotice::Error {
            event: "seek",
            reject: &Reject::too_large("too long", 70_000, 65_536),
        },
        "error",
        r#""message":"too long","code":"too_large","event":"seek","bytes":70000,"max":65536"#,
    );
}

#[test]
fn acknowledgements_carry_the_requested_values() {
    check_ack(Ack::Done, "");
    check_ack(
        Ack::Joined {
            member: id(ANN),
            role: Role::Follower,
            epoch: 3,
            version: 7,
            restored: None,
            is_back: false,
        },
        r#","sessionId":"stage","socketId":"AAAAAAAAAAAAAAAAAAAA","role":"follower","protocol":2,"epoch":3,"version":7,"seat":"new""#,
    );
    check_ack(
        Ack::Joined {
            member: id(ANN),
            role: Role::Leader,
            epoch: 3,
            version: 8,
            restored: Some(true),
            is_back: true,
        },
        r#","sessionId":"stage","socketId":"AAAAAAAAAAAAAAAAAAAA","role":"leader","protocol":2,"epoch":3,"version":8,"restored":true,"seat":"back""#,
    );
    check_ack(Ack::Changed { epoch: 3, version: 8 }, r#","epoch":3,"version":8"#);
    check_ack(
        Ack::Superseded { epoch: 3, version: 8 },
        r#","superseded":true,"epoch":3,"version":8"#,
    );
    check_ack(Ack::Cut(Some((3, 8))), r#","epoch":3,"version":8,"cut":true"#);
    check_ack(Ack::Cut(None), r#","cut":true"#);
    check_ack(Ack::Pending, r#","pending":true"#);
    check_ack(
        Ack::Sync(sync()),
        r#","sessionId":"stage","positionMs":1500.25,"tempoBpm":90.5,"isPlaying":true,"serverTime":1700000000123,"serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0000beef","timeline":$T"#,
    );
    check_ack(
        Ack::Song(setlist().songs[0].clone()),
        r#","song":{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"[Em]One\ntwo","durationMs":180000.5,"revision":3}"#,
    );
    check_ack(
        Ack::Edited { epoch: 3, version: 8, revision: 5 },
        r#","epoch":3,"version":8,"revision":5"#,
    );
    check_ack(Ack::Setlist(Setlist::default()), r#","revision":0,"title":"","songs":[]"#);
    let jam = r#"{"id":"s2","title":"Jam","format":"text","revision":2}"#;
    let list = Setlist { songs: [Arc::clone(&setlist().songs[1])].into(), ..setlist() };
    check_ack(Ack::Setlist(list), &format!(r#","revision":4,"title":"Friday","songs":[{jam}]"#));
    let jam = r#"{"id":"s2","title":"Jam","format":"text","body":"","revision":2}"#;
    check_ack(
        Ack::Songs {
            revision: 4,
            songs: vec![Arc::clone(&setlist().songs[1])],
            more: vec!["s1".into()],
        },
        &format!(r#","revision":4,"songs":[{jam}],"more":["s1"]"#),
    );
    check_ack(
        Ack::Clock { t0: Number(7.5), at: MOMENT.at },
        r#","t0":7.5,"t1":12345.678,"t2":12345.679"#,
    );
    check_ack(
        Ack::Latency { client_timestamp: Number(7.0), moment: MOMENT },
        r#","clientTimestamp":7,"serverTimestamp":1700000000123,"t1":12345.678,"t2":12345.679"#,
    );
    check_ack(
        Ack::Heartbeat { client_timestamp: Some(Number(5.0)), timestamp: NOW, rtt: None },
        r#","timestamp":5,"clientTimestamp":5,"serverTimestamp":1700000000123,"rtt":null"#,
    );
    check_ack(Ack::Quality(quality()), &format!(",{QUALITY}"));
}

#[test]
fn a_rejection_names_its_field_if_it_has_one() {
    assert_eq!(
        printed(|out| rejection(out, u64::MAX, &Reject::field("tempo", "1 to 400 BPM"))),
        r#"4318446744073709551615[{"ok":false,"error":{"code":"invalid_payload","message":"1 to 400 BPM","field":"tempo"}}]"#
    );
    assert_eq!(
        printed(|out| rejection(out, 0, &Reject::new(Code::NotLeader, "Only the leader may."))),
        r#"430[{"ok":false,"error":{"code":"not_leader","message":"Only the leader may."}}]"#
    );
}

#[test]
fn a_conflict_shows_the_song_as_it_is_now() {
    let jam = r#"{"id":"s2","title":"Jam","format":"text","body":"","revision":2}"#;
    for (song, printed_song) in [(Some(Arc::clone(&setlist().songs[1])), jam), (None, "null")] {
        let reject = Reject::conflict(4, "s2".into(), song);
        let message = &reject.message;
        assert_eq!(
            printed(|out| rejection(out, 0, &reject)),
            format!(
                r#"430[{{"ok":false,"error":{{"code":"conflict","message":"{message}","revision":4,"songId":"s2","song":{printed_song}}}}}]"#
            )
        );
        check_client(
            ClientNotice::Error { event: "edit_setlist", reject: &reject },
            "error",
            &format!(
                r#""message":"{message}","code":"conflict","event":"edit_setlist","revision":4,"songId":"s2","song":{printed_song}"#
            ),
        );
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn numbers_are_printed_in_their_shortest_form() {
    for (count, expected) in [
        (0, "0"),
        (1, "0.001"),
        (-1, "-0.001"),
        (1_000, "1"),
        (999_999, "999.999"),
        (86_400_000_001, "86400000.001"),
        (999_999_999_999_999, "999999999999.999"),
        (i64::MAX - 807, "9223372036854775"),
    ] {
        assert_eq!(text(&Thousandths(count)), expected, "{count}");
    }
    assert_eq!(text(&Millionths(-1)), "-1e-6");
    assert_eq!(text(&Millionths(2_500_000)), "2.5");
    for (number, expected) in [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (9_007_199_254_740_991.0, "9007199254740991"),
        (-9_007_199_254_740_991.0, "-9007199254740991"),
        (1e300, "1e+300"),
    ] {
        assert_eq!(text(&NumberView(Number(number))), expected);
    }
}

/// Reads a printed event back with serde_json: its name and its payload.
fn read_back(packet: &str) -> (String, Value) {
    serde_json::from_str(packet.strip_prefix("42").unwrap()).unwrap()
}

/// A number of a printed event, read to the last bit, which serde_json by itself does not.
fn number(packet: &str, field: &str) -> f64 {
    let (_, rest) = packet.split_once(&format!("\"{field}\":")).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_tick_is_printed_like_any_notice(
        name in "[^\\p{Cc}\u{202a}-\u{202e}\u{2066}-\u{2069}]{1,32}", position in -90_000_000_000..90_000_000_000_i64, milli_bpm in 1_000..400_000_u32,
        at in any::<i64>(), epoch in any::<u64>(), version in any::<u64>(),
    ) {
        let session = SessionId::parse(&name).unwrap();
        let tick = Tick { position, tempo: tempo(milli_bpm), timestamp: UnixMillis(at), epoch, version };
        let notice = Notice::Tick(tick);
        let plain = printed(|out| print_notice(out, &session, &notice));
        prop_assert_eq!(printed(|out| super::notice(out, &session, &notice)), plain);
    }

    #[test]
    fn any_text_is_read_back_unchanged(
        name in "[^\\p{Cc}\u{202a}-\u{202e}\u{2066}-\u{2069}]{1,32}", message in "\\PC{0,40}|[\\x00-\\x7f\"\\\\]{0,40}", target in any::<Option<String>>(),
    ) {
        let session = SessionId::parse(&name).unwrap();
        let chat = Notice::Chat {
            from: id(ANN),
            username: target.clone().unwrap_or_default(),
            message: message.clone(),
            timestamp: NOW,
        };
        let (event, payload) = read_back(&printed(|out| notice(out, &session, &chat)));
        prop_assert_eq!(event, "chat_message");
        prop_assert_eq!(&payload["sessionId"], &name);
        prop_assert_eq!(&payload["message"], &message);
        prop_assert_eq!(&payload["username"], target.as_deref().unwrap_or(""));
        let reject = Reject::new(Code::Internal, message.clone());
        let packet = printed(|out| client(out, &ClientNotice::Error { event: &name, reject: &reject }));
        let (_, payload) = read_back(&packet);
        prop_assert_eq!(&payload["event"], &name);
        prop_assert_eq!(&payload["message"], &message);
    }

    #[test]
    fn any_number_is_json(position in -(1_i64 << 53)..1 << 53, tempo in 1_000_u32..=400_000, epoch: u64, t0: f64, at: u64) {
        let tick = Tick {
            position,
            tempo: Tempo::from_milli_bpm(tempo).unwrap(),
            timestamp: NOW,
            epoch,
            version: epoch,
        };
        let packet = printed(|out| notice(out, &session(), &Notice::Tick(tick)));
        prop_assert_eq!(number(&packet, "positionMs"), position as f64 / 1_000.0);
        prop_assert_eq!(number(&packet, "tempoBpm"), f64::from(tempo) / 1_000.0);
        prop_assert_eq!(&read_back(&packet).1["epoch"], epoch);

        prop_assume!(t0.is_finite());
        let clock = ClientNotice::ClockSync { t0: Number(t0), at: Micros::from_micros(at) };
        let packet = printed(|out| client(out, &clock));
        prop_assert_eq!(number(&packet, "t0"), t0);
        prop_assert!(read_back(&packet).1["t1"].is_number());
    }
}
