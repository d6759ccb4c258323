//! Every client event: good, each field wrong, each bound.
#![allow(clippy::unwrap_used)]

mod songs;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::speech::{
    Excess, LeaderRule, Message, OnLeaderLoss, Operation, Quantize, Role, Secret, Setlist, Song,
    SongFormat, View,
};
use crate::wire::json;
use crate::wire::texts::{Lines, printable, shown};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::music::{MeterChange, Position, Tempo, TimeSignature};
use crate::words::text::is_control;

/// Reads a payload with both readers of JSON, which must say the same.
fn command(event: ClientEvent, payload: &str) -> Result<Command, Reject> {
    let written = event.read(payload);
    let array = format!("[\"{}\",{payload}]", event.name());
    let mut reader = json::Reader::default();
    let mut reading = reader.begin();
    if let Some(found) = reading.event(&array) {
        let argument = found.argument.unwrap_or(json::Value::NONE);
        assert_eq!(event.read(argument), written, "{array}");
    }
    written
}

const BEN: &str = "BBBBBBBBBBBBBBBBBBBB";
const TOKEN: &str = "0123456789-abcdefghi_K";

/// The values that a field accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Number,
    Bool,
    Object,
    Array,
}
use self::Kind::{Array, Bool, Number as Num, Object, Text};

/// A field: its name, what it takes, and whether it must be there.
type Spec = (&'static str, Kind, bool);

/// Every event with a full payload and its fields.
fn table() -> Vec<(ClientEvent, Value, Vec<Spec>)> {
    const SESSION: Spec = ("sessionId", Text, true);
    let in_session = |event, mut payload: Value, specs: &[Spec]| {
        payload["sessionId"] = "stage".into();
        (event, payload, [&[SESSION], specs].concat())
    };
    let setlist = json!({"title": "Friday", "songs": [{"id": "s1", "title": "Harbour", "format": "text", "body": ""}]});
    vec![
        in_session(
            ClientEvent::JoinSession,
            json!({
                "displayName": "Ann", "role": "leader", "instrument": "bass", "passcode": "open", "leaderPin": "1234",
                "tickHz": 60, "metronome": true, "token": TOKEN, "newToken": TOKEN,
                "view": "member",
            }),
            &[
                ("displayName", Text, false),
                ("role", Text, false),
                ("instrument", Text, false),
                ("passcode", Text, false),
                ("leaderPin", Text, false),
                ("tickHz", Num, false),
                ("metronome", Bool, false),
                ("token", Text, false),
                ("newToken", Text, false),
                ("view", Text, false),
            ],
        ),
        in_session(ClientEvent::LeaveSession, json!({}), &[]),
        in_session(
            ClientEvent::SetRole,
            json!({"role": "follower", "memberId": BEN}),
            &[("role", Text, true), ("memberId", Text, false)],
        ),
        in_session(ClientEvent::RequestLeader, json!({}), &[]),
        in_session(
            ClientEvent::ApproveLeaderRequest,
            json!({"requesterId": BEN}),
            &[("requesterId", Text, true)],
        ),
        in_session(
            ClientEvent::DenyLeaderRequest,
            json!({"requesterId": BEN}),
            &[("requesterId", Text, true)],
        ),
        in_session(
            ClientEvent::SyncRequest,
            json!({"checksum": "0000beef", "version": 7}),
            &[("checksum", Text, false), ("version", Num, false)],
        ),
        in_session(
            ClientEvent::UpdateMessage,
            json!({"message": "hello"}),
            &[("message", Text, true)],
        ),
        in_session(
            ClientEvent::ChatMessage,
            json!({"message": "louder", "username": "Ann"}),
            &[("message", Text, true), ("username", Text, false)],
        ),
        in_session(
            ClientEvent::UpdateSettings,
            json!({
                "maxMembers": 8, "onLeaderLoss": "pause", "leaderRule": "pin", "passcode": "open", "leaderPin": "1234",
                "anyoneMayCue": true, "anyoneMayEdit": true,
            }),
            &[
                ("maxMembers", Num, false),
                ("onLeaderLoss", Text, false),
                ("leaderRule", Text, false),
                ("passcode", Text, false),
                ("leaderPin", Text, false),
                ("anyoneMayCue", Bool, false),
                ("anyoneMayEdit", Bool, false),
            ],
        ),
        in_session(
            ClientEvent::SetMember,
            json!({"memberId": BEN, "mayEdit": false}),
            &[("memberId", Text, true), ("mayEdit", Bool, true)],
        ),
        in_session(
            ClientEvent::Cue,
            json!({"text": "chorus x2", "seconds": 2.5, "target": "drums"}),
            &[
                ("text", Text, true),
                ("kind", Text, false),
                ("seconds", Num, false),
                ("target", Text, false),
            ],
        ),
        in_session(ClientEvent::Cue, json!({"kind": "go"}), &[]),
        in_session(
            ClientEvent::Play,
            json!({"atServerMs": 1500.25, "countInBars": 2, "quantize": "bar"}),
            &[("atServerMs", Num, false), ("countInBars", Num, false), ("quantize", Text, false)],
        ),
        in_session(ClientEvent::Pause, json!({"atServerMs": 7}), &[("atServerMs", Num, false)]),
        in_session(ClientEvent::Stop, json!({"atServerMs": 7}), &[("atServerMs", Num, false)]),
        in_session(
            ClientEvent::Seek,
            json!({"position": 1500.25, "atServerMs": 7}),
            &[("position", Num, true), ("atServerMs", Num, false)],
        ),
        in_session(ClientEvent::Seek, json!({"beat": 16, "atBeat": 32}), &[("atBeat", Num, false)]),
        in_session(ClientEvent::SetTempo, json!({"tempo": 90.5}), &[("tempo", Num, true)]),
        in_session(
            ClientEvent::TempoChange,
            json!({"tempo": 90.5, "fadeTime": 8000, "atBeat": 4}),
            &[("tempo", Num, true), ("fadeTime", Num, false), ("atBeat", Num, false)],
        ),
        in_session(
            ClientEvent::TempoChanged,
            json!({"tempo": 90.5, "fadeTime": 8000, "atBeat": 4}),
            &[("tempo", Num, true), ("fadeTime", Num, false), ("atBeat", Num, false)],
        ),
        in_session(
            ClientEvent::SetTimeSignature,
            json!({"numerator": 6, "denominator": 8}),
            &[("numerator", Num, true), ("denominator", Num, true)],
        ),
        in_session(ClientEvent::Loop, json!({"from": 0, "to": 8}), &[("to", Num, true)]),
        in_session(ClientEvent::Cancel, json!({}), &[]),
        in_session(ClientEvent::Nudge, json!({"beats": 4}), &[("beats", Num, true)]),
        in_session(ClientEvent::One, json!({"atServerMs": 7}), &[("atServerMs", Num, true)]),
        in_session(
            ClientEvent::BeatSync,
            json!({"beatPosition": 17.25, "masterTime": 99}),
            &[("beatPosition", Num, true), ("masterTime", Num, true)],
        ),
        in_session(
            ClientEvent::PositionSync,
            json!({"positionMs": 1500.25, "timestamp": 99}),
            &[("positionMs", Num, true), ("timestamp", Num, true)],
        ),
        (
            ClientEvent::LatencyProbe,
            json!({"timestamp": 99, "sessionId": "stage"}),
            vec![("timestamp", Num, true)],
        ),
        (ClientEvent::ClockSync, json!({"t0": 17.25}), vec![("t0", Num, true)]),
        in_session(
            ClientEvent::SetSetlist,
            json!({"setlist": setlist}),
            &[("setlist", Object, true)],
        ),
        in_session(
            ClientEvent::EditSetlist,
            json!({"ops": [{"op": "retitle", "title": "Saturday"}]}),
            &[("ops", Array, true)],
        ),
        in_session(
            ClientEvent::SelectSong,
            json!({"songId": "s1", "play": true, "at": "bar"}),
            &[("songId", Text, true), ("play", Bool, false), ("at", Text, false)],
        ),
        in_session(ClientEvent::SelectSong, json!({"step": -1}), &[]),
        in_session(ClientEvent::GetSetlist, json!({}), &[]),
        in_session(
            ClientEvent::GetSongs,
            json!({"songIds": ["s1", "s2"]}),
            &[("songIds", Array, false)],
        ),
        in_session(ClientEvent::GetSong, json!({"songId": "s1"}), &[("songId", Text, true)]),
        (ClientEvent::Pong, json!({"timestamp": 99}), vec![("timestamp", Num, false)]),
        (
            ClientEvent::Heartbeat,
            json!({"timestamp": 99, "sessionId": "stage"}),
            vec![("timestamp", Num, false)],
        ),
        (ClientEvent::ConnectionQuality, json!({}), vec![]),
        (ClientEvent::HeartbeatResponse, json!({"clientTimestamp": 99}), vec![]),
        (ClientEvent::RoleChanged, json!({"sessionId": "stage", "role": "leader"}), vec![]),
        (ClientEvent::Error, json!({"message": "?"}), vec![]),
    ]
}

fn with(payload: &Value, field: &str, value: Value) -> String {
    let mut payload = payload.clone();
    payload[field] = value;
    payload.to_string()
}

fn without(payload: &Value, field: &str) -> String {
    let mut payload = payload.as_object().unwrap().clone();
    payload.remove(field);
    Value::Object(payload).to_string()
}

/// A full payload of this event with one field set to something else, written as JSON.
fn set(event: ClientEvent, field: &str, json: &str) -> Result<Command, Reject> {
    let (_, payload, _) = table().into_iter().find(|(other, ..)| *other == event).unwrap();
    // Of a repeated name the last one counts.
    let payload = payload.to_string();
    command(event, &format!("{},\"{field}\":{json}}}", payload.strip_suffix('}').unwrap()))
}

#[track_caller]
fn takes(event: ClientEvent, field: &str, good: &[&str]) {
    for json in good {
        let read = set(event, field, json);
        assert!(read.is_ok(), "{event:?} {field}: {json:.80}: {read:?}");
    }
}

#[track_caller]
fn rejects(event: ClientEvent, field: &'static str, bad: &[&str], message: &str) {
    for json in bad {
        let expected = Reject::field(field, message.to_owned());
        assert_eq!(set(event, field, json), Err(expected), "{event:?}: {json:.80}");
    }
}

fn text_of(chars: usize) -> String {
    format!("\"{}\"", "ü".repeat(chars))
}

#[track_caller]
fn check(event: ClientEvent, payload: &str, expected: SessionCommand) {
    let session = SessionId::parse("stage").unwrap();
    assert_eq!(command(event, payload), Ok(Command::Session(session, Terms::default(), expected)));
}

#[track_caller]
fn check_client(event: ClientEvent, payload: &str, expected: ClientCommand) {
    assert_eq!(command(event, payload), Ok(Command::Client(expected)));
}

fn tempo_of(milli_bpm: u32) -> Tempo {
    Tempo::from_milli_bpm(milli_bpm).unwrap()
}

fn position_of(micros: u64) -> Position {
    Position::from_micros(micros).unwrap()
}

#[test]
fn names_and_events_are_one_to_one() {
    for (place, event) in ClientEvent::ALL.iter().enumerate() {
        assert_eq!(*event as usize, place);
        assert_eq!(ClientEvent::from_name(event.name()), Some(*event));
    }
    for name in ["", "Play", "play ", "scroll_tick", "snapshot", "ping", "__proto__"] {
        assert_eq!(ClientEvent::from_name(name), None, "{name:?}");
    }
}

/// The terms that an event is read with, if it has this field too.
fn terms(event: ClientEvent, field: &str, json: &str) -> Result<Terms, Reject> {
    set(event, field, json).map(|command| match command {
        Command::Session(_, terms, _) => terms,
        _ => Terms::default(),
    })
}

#[test]
fn commands_that_change_the_music_may_have_a_time_limit() {
    const TIMED: [ClientEvent; 15] = [
        ClientEvent::Play,
        ClientEvent::Pause,
        ClientEvent::Stop,
        ClientEvent::Seek,
        ClientEvent::SetTempo,
        ClientEvent::TempoChange,
        ClientEvent::TempoChanged,
        ClientEvent::SetTimeSignature,
        ClientEvent::Loop,
        ClientEvent::Cancel,
        ClientEvent::Nudge,
        ClientEvent::One,
        ClientEvent::BeatSync,
        ClientEvent::PositionSync,
        ClientEvent::SelectSong,
    ];
    const FIELD: &str = "notAfterServerMs";
    for event in TIMED {
        let limit = |json| terms(event, FIELD, json).map(|terms| terms.not_after);
        assert_eq!(limit("1500.25"), Ok(Some(Micros::from_micros(1_500_250))), "{event:?}");
        assert_eq!(limit("0"), Ok(Some(Micros::ZERO)), "{event:?}");
        assert_eq!(limit("null"), Ok(None), "{event:?}");
        let bad = ["-1", "\"9\"", "1e400", "9007199254741", "{}"];
        let right = "must be a number from 0 on, in milliseconds of the server's clock";
        rejects(event, FIELD, &bad, &format!("{FIELD} {right}"));
    }
    let commands = ClientEvent::ALL.iter().copied().filter(|event| event.is_command());
    for event in commands.filter(|event| !TIMED.contains(event)) {
        let read = terms(event, FIELD, "-1");
        assert_eq!(read.map(|terms| terms.not_after), Ok(None), "{event:?} ignores it");
    }
}

#[test]
fn a_command_has_the_terms_that_its_client_set() {
    let id = CommandId::parse("phone-7");
    let payload = r#"{"sessionId":"stage","commandId":"phone-7","notAfterServerMs":2}"#;
    let read = |event| match command(event, payload) {
        Ok(Command::Session(_, terms, _)) => terms,
        other => panic!("{other:?}"),
    };
    let not_after = Some(Micros::from_millis(2));
    assert_eq!(read(ClientEvent::Pause), Terms { id, not_after });
    assert_eq!(read(ClientEvent::RequestLeader), Terms { id, not_after: None });
    assert_eq!(read(ClientEvent::SyncRequest), Terms::default());
}

#[test]
fn the_table_has_every_event() {
    let mut events: Vec<ClientEvent> = table().into_iter().map(|(event, ..)| event).collect();
    events.dedup();
    assert_eq!(events.len(), ClientEvent::ALL.len());
}

#[test]
fn full_and_minimal_payloads_are_accepted() {
    for (event, payload, specs) in table() {
        assert!(command(event, &payload.to_string()).is_ok(), "{event:?}");
        let mut least = payload.clone();
        for (field, _, required) in specs {
            if !required && event != ClientEvent::UpdateSettings {
                least = serde_json::from_str(&without(&least, field)).unwrap();
            }
        }
        least["unknown"] = json!([{"x": null}]);
        assert!(command(event, &least.to_string()).is_ok(), "{event:?}: {least}");
    }
}

#[test]
fn a_missing_field_is_named() {
    for (event, payload, specs) in table() {
        for (field, _, required) in specs {
            for payload in [without(&payload, field), with(&payload, field, Value::Null)] {
                match command(event, &payload) {
                    Ok(_) => assert!(!required, "{event:?}: {payload}"),
                    Err(reject) => {
                        assert!(required, "{event:?}: {payload}");
                        assert_eq!(
                            (reject.code, reject.field),
                            (Code::InvalidPayload, Some(field))
                        );
                        assert!(reject.message.starts_with(field), "{}", reject.message);
                    }
                }
            }
        }
    }
}

#[test]
fn a_field_of_another_type_is_named() {
    let values = [
        (Bool, json!(true)),
        (Num, json!(1)),
        (Num, json!(-1.5)),
        (Num, json!(1e300)),
        (Num, json!(u64::MAX)),
        (Text, json!("")),
        (Text, json!("x")),
        (Text, json!("1")),
        (Text, json!("x".repeat(5_000))),
        (Text, json!("\u{0}\u{7f}")),
        (Object, json!({})),
        (Object, json!({"_placeholder": true, "num": 0})),
    ];
    let array = json!([1, "x", {}]);
    for (event, payload, specs) in table() {
        for (field, kind, _) in specs {
            for (other, value) in &values {
                match command(event, &with(&payload, field, value.clone())) {
                    Ok(_) => assert_eq!(kind, *other, "{event:?} {field}: {value:.80}"),
                    Err(reject) => assert_eq!(reject.field, Some(field), "{event:?}: {value:.80}"),
                }
            }
            let reject = command(event, &with(&payload, field, array.clone())).unwrap_err();
            assert_eq!(
                (reject.code, reject.field),
                (Code::InvalidPayload, Some(field)),
                "{event:?}"
            );
        }
    }
}

#[test]
fn a_payload_that_is_not_an_object_is_rejected_if_the_event_needs_one() {
    for (event, ..) in table() {
        for payload in ["", "null", "true", "7", "\"stage\"", "[]", "[{}]"] {
            let rejected = command(event, payload).map_err(|reject| (reject.code, reject.field));
            let ignored = matches!(
                event,
                ClientEvent::HeartbeatResponse | ClientEvent::RoleChanged | ClientEvent::Error
            );
            let empty = matches!(
                event,
                ClientEvent::Pong | ClientEvent::Heartbeat | ClientEvent::ConnectionQuality
            );
            if ignored || empty && matches!(payload, "" | "null") {
                assert!(rejected.is_ok(), "{event:?}: {payload}");
            } else {
                assert_eq!(rejected, Err((Code::InvalidPayload, None)), "{event:?}: {payload}");
            }
        }
    }
}

#[test]
fn a_payload_nested_too_deep_is_rejected() {
    let deep =
        format!(r#"{{"sessionId":"stage","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(command(ClientEvent::Play, &deep).unwrap_err().code, Code::InvalidPayload);
}

#[test]
fn a_session_id_is_checked() {
    takes(
        ClientEvent::Play,
        "sessionId",
        &[r#""x""#, r#""Gr\u00f6ndal 🎸""#, &format!("\"{}\"", "x".repeat(128))],
    );
    for bad in [
        r#""""#,
        r#""line\nbreak""#,
        r#""\u0000""#,
        r#""a\u202eb""#,
        &format!("\"{}\"", "x".repeat(129)),
        &text_of(65),
    ] {
        let reject = set(ClientEvent::Play, "sessionId", bad).unwrap_err();
        assert_eq!(
            (reject.code, reject.field),
            (Code::InvalidSessionId, Some("sessionId")),
            "{bad}"
        );
        assert_eq!(
            reject.message,
            "sessionId must be a text of 1 to 128 bytes without control characters"
        );
    }
    let lone_surrogate = set(ClientEvent::Play, "sessionId", r#""\ud800""#).unwrap_err();
    assert_eq!(lone_surrogate.code, Code::InvalidPayload);
}

#[test]
fn a_token_has_22_to_64_letters_digits_and_dashes() {
    for field in ["token", "newToken"] {
        let token = |length: usize| format!("\"{}\"", "aZ9_-".repeat(14).split_at(length).0);
        let message = format!("{field} must be a text of 22 to 64 letters, digits, _ and -");
        takes(ClientEvent::JoinSession, field, &[&token(22), &token(64), "null"]);
        let bad = [&*token(21), &token(65), "\"\"", "7", "[]", "\"aaaaaaaaaaaaaaaaaaaaa é\""];
        rejects(ClientEvent::JoinSession, field, &bad, &message);
        for letter in [" ", ".", ":", "@", "[", "`", "{", "\\n", "é"] {
            let json = format!("\"{}{letter}\"", "a".repeat(22));
            rejects(ClientEvent::JoinSession, field, &[&json], &message);
        }
    }
}

#[test]
fn a_join_is_read_with_all_fields() {
    let full = r#"{"sessionId":"stage","displayName":"  A\u202en\u2066n\u0007 ","role":"follower","instrument":"bass","passcode":" open ","leaderPin":"1234","tickHz":60,"metronome":true,"token":"0123456789-abcdefghi_K","newToken":"NNNNNNNNNNNNNNNNNNNNNN","view":"screen"}"#;
    let expected = Join {
        session: SessionId::parse("stage").unwrap(),
        display_name: Some("Ann".into()),
        role: Some(Role::Follower),
        instrument: Some("bass".into()),
        passcode: Some(Secret(" open ".into())),
        leader_pin: Some(Secret("1234".into())),
        tick_hz: Some(60),
        metronome: true,
        token: Some(Secret("0123456789-abcdefghi_K".into())),
        new_token: Some(Secret("N".repeat(22))),
        view: View::Screen,
    };
    assert_eq!(command(ClientEvent::JoinSession, full), Ok(Command::Join(expected)));

    let least = Join {
        session: SessionId::parse("stage").unwrap(),
        display_name: None,
        role: None,
        instrument: None,
        passcode: None,
        leader_pin: None,
        tick_hz: None,
        metronome: false,
        token: None,
        new_token: None,
        view: View::Member,
    };
    for payload in [
        r#"{"sessionId":"stage"}"#,
        r#"{"sessionId":"stage","displayName":" \n ","instrument":"","passcode":"","leaderPin":null,"role":null}"#,
    ] {
        assert_eq!(
            command(ClientEvent::JoinSession, payload),
            Ok(Command::Join(least.clone())),
            "{payload}"
        );
    }
}

#[test]
fn the_fields_of_a_join_are_bounded() {
    let event = ClientEvent::JoinSession;
    takes(event, "view", &["null", "\"member\"", "\"screen\""]);
    rejects(event, "view", &["\"tv\"", "1"], r#"view must be "member" or "screen""#);
    takes(event, "displayName", &[&text_of(64), &format!(r#""  {}\u0000 ""#, "x".repeat(64))]);
    rejects(event, "displayName", &["7", r#""\ud800""#], "displayName must be a text");
    rejects(event, "instrument", &["{}"], "instrument must be a text");
    takes(event, "tickHz", &["0", "125", "60.0"]);
    rejects(
        event,
        "tickHz",
        &["126", "-1", "0.5", "\"60\""],
        "tickHz must be a whole number from 0 to 125",
    );
    rejects(
        event,
        "role",
        &["\"conductor\"", "\"Leader\""],
        "role must be \"leader\" or \"follower\"",
    );
    takes(event, "passcode", &[&text_of(128)]);
    rejects(
        event,
        "passcode",
        &[&text_of(129), "1234"],
        "passcode must be a text of at most 128 characters",
    );
    rejects(
        event,
        "leaderPin",
        &[&text_of(129)],
        "leaderPin must be a text of at most 128 characters",
    );
    rejects(event, "metronome", &["1", "\"true\""], "metronome must be true or false");
}

#[test]
fn role_events_are_read() {
    let ben = MemberId::parse(BEN).unwrap();
    check(
        ClientEvent::SetRole,
        r#"{"sessionId":"stage","role":"leader"}"#,
        SessionCommand::SetRole { role: Role::Leader, member: None },
    );
    check(
        ClientEvent::SetRole,
        r#"{"sessionId":"stage","role":"follower","memberId":"BBBBBBBBBBBBBBBBBBBB"}"#,
        SessionCommand::SetRole { role: Role::Follower, member: Some(ben) },
    );
    check(ClientEvent::RequestLeader, r#"{"sessionId":"stage"}"#, SessionCommand::RequestLeader);
    let requester = r#"{"sessionId":"stage","requesterId":"BBBBBBBBBBBBBBBBBBBB"}"#;
    check(
        ClientEvent::ApproveLeaderRequest,
        requester,
        SessionCommand::ApproveLeader { requester: ben },
    );
    check(ClientEvent::DenyLeaderRequest, requester, SessionCommand::DenyLeader { requester: ben });
    let message = "requesterId must be a member's socket id, a text of 20 characters";
    rejects(
        ClientEvent::DenyLeaderRequest,
        "requesterId",
        &["\"\"", "\"BBBBBBBBBBBBBBBBBBB!\"", "5"],
        message,
    );
    let stage = SessionId::parse("stage").unwrap();
    assert_eq!(
        command(ClientEvent::LeaveSession, r#"{"sessionId":"stage"}"#),
        Ok(Command::Leave(stage))
    );
}

#[test]
fn a_sync_request_is_read() {
    check(
        ClientEvent::SyncRequest,
        r#"{"sessionId":"stage"}"#,
        SessionCommand::Sync { checksum: None, version: None },
    );
    check(
        ClientEvent::SyncRequest,
        r#"{"sessionId":"stage","checksum":"0000beef","version":9007199254740991}"#,
        SessionCommand::Sync {
            checksum: Some("0000beef".into()),
            version: Some(9_007_199_254_740_991),
        },
    );
    let message = "version must be a whole number from 0 on";
    rejects(
        ClientEvent::SyncRequest,
        "version",
        &["-1", "0.5", "9007199254740992", "1e400", "\"7\""],
        message,
    );
    takes(ClientEvent::SyncRequest, "checksum", &[&text_of(64)]);
    rejects(
        ClientEvent::SyncRequest,
        "checksum",
        &[&text_of(65)],
        "checksum must be a text of 0 to 64 characters",
    );
}

#[test]
fn long_texts_are_made_printable_at_every_place() {
    for length in [0, 1, 63, 64, 65, 127, 128, 129, 200] {
        let plain = "~ la".repeat(50)[..length].to_owned();
        assert_eq!(printable(&plain, Lines::One), plain);
        for place in 0..length {
            let with = |bad: &str| [&plain[..place], bad, &plain[place..]].concat();
            assert_eq!(printable(&with("\u{7f}"), Lines::One), plain, "{place} of {length}");
            assert_eq!(printable(&with("\n"), Lines::One), with(" "), "{place} of {length}");
            assert_eq!(printable(&with("é"), Lines::One), with("é"), "{place} of {length}");
        }
    }
}

#[test]
fn texts_are_made_printable() {
    let raw = r#""\u0000 one\r\n\ttwo\u001b[31m \u0085\u007f\n""#;
    let SessionCommand::UpdateMessage(message) = said(ClientEvent::UpdateMessage, "message", raw)
    else {
        panic!("another command")
    };
    assert_eq!(message, Message { text: "one\n two[31m".into(), cut: false });
    let SessionCommand::Cue(Cue { text, .. }) = said(ClientEvent::Cue, "text", raw) else {
        panic!("another command")
    };
    assert_eq!(text, "one  two[31m");
}

fn said(event: ClientEvent, field: &str, json: &str) -> SessionCommand {
    match set(event, field, json) {
        Ok(Command::Session(_, _, command)) => command,
        other => panic!("{other:?}"),
    }
}

fn whole(text: &str) -> Message {
    Message { text: text.into(), cut: false }
}

/// Characters are Unicode scalar values: a guitar of two surrogates is one, a family of five is
/// five.
#[test]
fn texts_are_cut_at_their_maximum_length() {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    for (letter, rest) in [("x", "x"), ("é", "é"), ("🎸", "🎸"), ("x", "\u{202e}x\0x")] {
        let (name, message) = (letter.repeat(64), letter.repeat(500));
        let (long_name, long_message) = (name.clone() + rest, message.clone() + rest);
        for (given, kept, cut) in [(&message, &message, false), (&long_message, &message, true)] {
            let text = Message { text: kept.clone(), cut };
            let said = |event| said(event, "message", &json(given));
            assert_eq!(
                said(ClientEvent::UpdateMessage),
                SessionCommand::UpdateMessage(text.clone())
            );
            let SessionCommand::Chat { message, .. } = said(ClientEvent::ChatMessage) else {
                panic!()
            };
            assert_eq!(message, text);
        }
        for given in [&name, &long_name] {
            for field in ["displayName", "instrument"] {
                let Ok(Command::Join(join)) = set(ClientEvent::JoinSession, field, &json(given))
                else {
                    panic!()
                };
                let read = if field == "displayName" { join.display_name } else { join.instrument };
                assert_eq!(read.as_ref(), Some(&name), "{field}");
            }
            let SessionCommand::Chat { username, .. } =
                said(ClientEvent::ChatMessage, "username", &json(given))
            else {
                panic!()
            };
            assert_eq!(username.as_ref(), Some(&name));
            let SessionCommand::Cue(Cue { target, .. }) =
                said(ClientEvent::Cue, "target", &json(given))
            else {
                panic!()
            };
            assert_eq!(target.as_ref(), Some(&name));
        }
    }
    // What is cut has no blank end, and blanks alone are not cut.
    let spaced = format!("{} and more", "x".repeat(63));
    let Ok(Command::Join(join)) = set(ClientEvent::JoinSession, "displayName", &json(&spaced))
    else {
        panic!()
    };
    assert_eq!(join.display_name, Some("x".repeat(63)));
    let padded = json(&format!("  {}\n\n", "x".repeat(500)));
    let expected = SessionCommand::UpdateMessage(whole(&"x".repeat(500)));
    assert_eq!(said(ClientEvent::UpdateMessage, "message", &padded), expected);
}

#[test]
fn names_of_the_other_dialect_map_to_ours() {
    for (theirs, ours) in [
        ("session:join", "join_session"),
        ("session:leave", "leave_session"),
        ("metronome:start", "play"),
        ("metronome:stop", "stop"),
        ("tempo:change", "tempo_change"),
        ("position:sync", "position_sync"),
        ("role:request", "set_role"),
        ("clock:sync_request", "clock_sync"),
    ] {
        assert_eq!(our_name_for(theirs), Some(ours));
        assert!(ClientEvent::from_name(ours).is_some() && ClientEvent::from_name(theirs).is_none());
    }
    assert_eq!(our_name_for("band:register"), None);
}

#[test]
fn text_fields_are_bounded() {
    takes(ClientEvent::UpdateMessage, "message", &["\"\"", &text_of(500)]);
    rejects(ClientEvent::UpdateMessage, "message", &["7", "{}"], "message must be a text");
    takes(ClientEvent::ChatMessage, "message", &["\"x\"", &text_of(500)]);
    rejects(ClientEvent::ChatMessage, "message", &["7", r#""\ud800""#], "message must be a text");
    let message = "message must be a text that is not empty";
    rejects(ClientEvent::ChatMessage, "message", &["\"\"", r#"" \u0000\n""#], message);
    rejects(ClientEvent::ChatMessage, "username", &["7"], "username must be a text");
    takes(ClientEvent::Cue, "text", &[&text_of(200)]);
    rejects(
        ClientEvent::Cue,
        "text",
        &[&text_of(201), "7"],
        "text must be a text of 0 to 200 characters",
    );
    let message = "text is required, or kind instead of it";
    rejects(ClientEvent::Cue, "text", &["null", "\"\"", r#"" \u0000""#], message);
    rejects(ClientEvent::Cue, "target", &["7"], "target must be a text");
    check(
        ClientEvent::ChatMessage,
        r#"{"sessionId":"stage","message":"louder","username":" "}"#,
        SessionCommand::Chat { message: whole("louder"), username: None },
    );
    check(
        ClientEvent::Cue,
        r#"{"sessionId":"stage","text":"cut","target":"drums"}"#,
        SessionCommand::Cue(Cue {
            text: "cut".into(),
            kind: CueKind::Info,
            seconds: Number(5.0),
            target: Some("drums".into()),
        }),
    );
    for (word, kind) in [("go", CueKind::Go), ("hold", CueKind::Hold), ("stop", CueKind::Stop)] {
        check(
            ClientEvent::Cue,
            &format!(r#"{{"sessionId":"stage","kind":"{word}","text":"","seconds":0}}"#),
            SessionCommand::Cue(Cue {
                text: String::new(),
                kind,
                seconds: Number(0.0),
                target: None,
            }),
        );
    }
    takes(ClientEvent::Cue, "seconds", &["0", "0.5", "60"]);
    let message = "seconds must be a number from 0 to 60; 0 shows the cue until the next one";
    rejects(ClientEvent::Cue, "seconds", &["-1", "60.5", "\"5\""], message);
    let message = r#"kind must be "go" or "hold" or "stop" or "info""#;
    rejects(ClientEvent::Cue, "kind", &["\"louder\"", "\"\"", "7"], message);
}

#[test]
fn settings_change_one_by_one() {
    let all = SettingsChange {
        max_members: Some(8),
        on_leader_loss: Some(OnLeaderLoss::Pause),
        leader_rule: Some(LeaderRule::Pin),
        passcode: Some(Some(Secret("open".into()))),
        leader_pin: Some(Some(Secret("1234".into()))),
        anyone_may_cue: Some(true),
        anyone_may_edit: Some(true),
    };
    let (_, payload, specs) =
        table().into_iter().find(|(event, ..)| *event == ClientEvent::UpdateSettings).unwrap();
    check(
        ClientEvent::UpdateSettings,
        &payload.to_string(),
        SessionCommand::UpdateSettings(all.clone()),
    );
    for (field, ..) in &specs[1..] {
        let one = json!({"sessionId": "stage", *field: payload[*field]}).to_string();
        let default = SettingsChange::default();
        let expected = match *field {
            "maxMembers" => SettingsChange { max_members: all.max_members, ..default },
            "onLeaderLoss" => SettingsChange { on_leader_loss: all.on_leader_loss, ..default },
            "leaderRule" => SettingsChange { leader_rule: all.leader_rule, ..default },
            "passcode" => SettingsChange { passcode: all.passcode.clone(), ..default },
            "leaderPin" => SettingsChange { leader_pin: all.leader_pin.clone(), ..default },
            "anyoneMayCue" => SettingsChange { anyone_may_cue: all.anyone_may_cue, ..default },
            _ => SettingsChange { anyone_may_edit: all.anyone_may_edit, ..default },
        };
        check(ClientEvent::UpdateSettings, &one, SessionCommand::UpdateSettings(expected));
    }
    for taken_away in ["null", "\"\""] {
        let payload =
            format!(r#"{{"sessionId":"stage","passcode":{taken_away},"leaderPin":{taken_away}}}"#);
        let open = SettingsChange {
            passcode: Some(None),
            leader_pin: Some(None),
            ..SettingsChange::default()
        };
        check(ClientEvent::UpdateSettings, &payload, SessionCommand::UpdateSettings(open));
    }
    for nothing in
        [r#"{"sessionId":"stage"}"#, r#"{"sessionId":"stage","maxmembers":8,"leaderRule":null}"#]
    {
        let reject = command(ClientEvent::UpdateSettings, nothing).unwrap_err();
        assert_eq!((reject.code, reject.field), (Code::InvalidPayload, None));
    }
}

#[test]
fn settings_are_bounded() {
    let event = ClientEvent::UpdateSettings;
    takes(event, "maxMembers", &["1", "100000"]);
    let message = "maxMembers must be a whole number from 1 to 100000";
    rejects(event, "maxMembers", &["0", "100001", "1.5", "-1", "\"8\""], message);
    takes(event, "leaderRule", &["\"open\"", "\"ask\"", "\"pin\""]);
    rejects(event, "leaderRule", &["\"\""], "leaderRule must be \"open\" or \"ask\" or \"pin\"");
    takes(event, "onLeaderLoss", &["\"continue\"", "\"pause\""]);
    rejects(event, "onLeaderLoss", &["\"stop\""], "onLeaderLoss must be \"continue\" or \"pause\"");
}

#[test]
fn playback_events_are_read() {
    let stage = r#"{"sessionId":"stage"}"#;
    check(
        ClientEvent::Play,
        stage,
        SessionCommand::Play(Start { at: None, count_in_bars: 0, quantize: None }),
    );
    check(
        ClientEvent::Play,
        r#"{"sessionId":"stage","atServerMs":1500.2504,"countInBars":2,"quantize":"beat"}"#,
        SessionCommand::Play(Start {
            at: Some(Micros::from_micros(1_500_250)),
            count_in_bars: 2,
            quantize: Some(Quantize::Beat),
        }),
    );
    check(ClientEvent::Pause, stage, SessionCommand::Pause { pressed: None });
    check(
        ClientEvent::Pause,
        r#"{"sessionId":"stage","atServerMs":1.5}"#,
        SessionCommand::Pause { pressed: Some(Micros::from_micros(1_500)) },
    );
    check(ClientEvent::Stop, stage, SessionCommand::Stop);
    check(
        ClientEvent::Seek,
        r#"{"sessionId":"stage","position":0.0005,"atServerMs":0}"#,
        SessionCommand::Seek { to: Target::Position(position_of(1)), when: When::At(Micros::ZERO) },
    );
    check(
        ClientEvent::Seek,
        r#"{"sessionId":"stage","beat":16.25}"#,
        SessionCommand::Seek { to: Target::Beat(16_250_000), when: When::Now },
    );
    check(
        ClientEvent::Seek,
        r#"{"sessionId":"stage","beat":16,"atBeat":32}"#,
        SessionCommand::Seek {
            to: Target::Beat(16_000_000),
            when: When::Armed(Departure::AtBeat(32_000_000)),
        },
    );
    check(
        ClientEvent::Loop,
        r#"{"sessionId":"stage","from":0.5,"to":8.5}"#,
        SessionCommand::Loop(Some((500_000, 8_500_000))),
    );
    check(ClientEvent::Loop, r#"{"sessionId":"stage","from":null}"#, SessionCommand::Loop(None));
    check(ClientEvent::Cancel, stage, SessionCommand::Cancel);
    check(
        ClientEvent::Nudge,
        r#"{"sessionId":"stage","beats":-64}"#,
        SessionCommand::Nudge(-64_000_000),
    );
    check(
        ClientEvent::One,
        r#"{"sessionId":"stage","atServerMs":7}"#,
        SessionCommand::One(Micros::from_millis(7)),
    );
    check(
        ClientEvent::SetTempo,
        r#"{"sessionId":"stage","tempo":132.3334}"#,
        SessionCommand::SetTempo(tempo_of(132_333)),
    );
    check(
        ClientEvent::TempoChange,
        r#"{"sessionId":"stage","tempo":9e1}"#,
        SessionCommand::ChangeTempo(TempoChange {
            tempo: tempo_of(90_000),
            fade: Micros::ZERO,
            at_beat: None,
            event: TempoEvent::Change,
        }),
    );
    check(
        ClientEvent::TempoChanged,
        r#"{"sessionId":"stage","tempo":90,"fadeTime":0.5,"atBeat":4}"#,
        SessionCommand::ChangeTempo(TempoChange {
            tempo: tempo_of(90_000),
            fade: Micros::from_micros(500),
            at_beat: Some(4_000_000),
            event: TempoEvent::Changed,
        }),
    );
    check(
        ClientEvent::SetTimeSignature,
        r#"{"sessionId":"stage","numerator":7,"denominator":8}"#,
        SessionCommand::SetTimeSignature(TimeSignature { numerator: 7, denominator: 8 }),
    );
}

/// Returns the field and the message of a refusal.
fn refusal_of(event: ClientEvent, fields: &str) -> (&'static str, String) {
    let payload = format!(r#"{{"sessionId":"stage"{fields}}}"#);
    match command(event, &payload) {
        Err(reject) => (reject.field.unwrap(), reject.message.into_owned()),
        Ok(command) => panic!("{command:?}"),
    }
}

#[test]
fn a_place_and_its_time_are_named_once() {
    for (event, fields, field, message) in [
        (ClientEvent::Seek, "", "position", "position must be a number from 0 to 86400000 ms"),
        (ClientEvent::Seek, r#","position":1,"beat":1"#, "beat", "beat must be left out"),
        (ClientEvent::Seek, r#","position":1,"at":"bar""#, "position", "position must be left out"),
        (ClientEvent::Seek, r#","beat":1,"at":"hour""#, "at", "at must be"),
        (ClientEvent::Seek, r#","beat":1.5,"at":"bar""#, "beat", "beat must be a whole number"),
        (ClientEvent::Seek, r#","beat":1,"at":"bar","atBeat":4"#, "at", "at must be left"),
        (
            ClientEvent::Seek,
            r#","beat":1,"at":"bar","atServerMs":4"#,
            "atServerMs",
            "atServerMs must",
        ),
        (ClientEvent::Seek, r#","beat":576001"#, "beat", "beat must be a number of beats"),
        (ClientEvent::Loop, "", "from", "from must be a number of beats"),
        (ClientEvent::Loop, r#","from":1"#, "to", "to must be a number of beats"),
        (ClientEvent::Loop, r#","from":4,"to":4"#, "to", "to must be one or more whole beats"),
        (ClientEvent::Loop, r#","from":4,"to":4.5"#, "to", "to must be one or more whole beats"),
        (ClientEvent::Nudge, r#","beats":0"#, "beats", "beats must be a whole number from -64"),
        (ClientEvent::Nudge, r#","beats":65"#, "beats", "beats must be a whole number from -64"),
        (ClientEvent::One, "", "atServerMs", "atServerMs must be a number"),
        (ClientEvent::SelectSong, r#","step":1,"play":1"#, "play", "play must be"),
        (ClientEvent::SelectSong, r#","step":1,"atBeat":-1"#, "atBeat", "atBeat must be a whole"),
        (ClientEvent::TempoChange, r#","tempo":90,"atBeat":0.5"#, "atBeat", "atBeat must be a"),
    ] {
        let found = refusal_of(event, fields);
        assert_eq!(found.0, field, "{fields}: {}", found.1);
        assert!(found.1.contains(message), "{fields}: {}", found.1);
    }
}

#[test]
fn the_fields_of_playback_events_are_bounded() {
    takes(ClientEvent::Seek, "position", &["0", "-0", "86400000", "86399999.9996"]);
    let message = "position must be a number from 0 to 86400000 ms, which is 24 hours";
    let bad =
        ["-0.001", "86400000.001", "1e400", "-1e400", "123456789012345678901234567890", "\"5\""];
    rejects(ClientEvent::Seek, "position", &bad, message);
    let message = "positionMs must be a number from 0 to 86400000 ms, which is 24 hours";
    rejects(ClientEvent::PositionSync, "positionMs", &bad, message);
    takes(ClientEvent::SetTempo, "tempo", &["1", "400", "120.0", "19.9999"]);
    let message = "tempo must be a number from 1 to 400 BPM";
    for event in [ClientEvent::SetTempo, ClientEvent::TempoChange, ClientEvent::TempoChanged] {
        rejects(
            event,
            "tempo",
            &["0.9999", "400.0001", "-120", "1e400", "\"120\"", "null"],
            message,
        );
    }
    takes(ClientEvent::TempoChange, "fadeTime", &["0", "3600000"]);
    let message = "fadeTime must be a number from 0 to 3600000 ms, which is one hour";
    rejects(ClientEvent::TempoChange, "fadeTime", &["-1", "3600000.1"], message);
    takes(ClientEvent::Play, "countInBars", &["0", "8"]);
    rejects(
        ClientEvent::Play,
        "countInBars",
        &["9", "-1", "1.5"],
        "countInBars must be a whole number from 0 to 8",
    );
    rejects(
        ClientEvent::Play,
        "quantize",
        &["\"half\"", "4"],
        "quantize must be \"bar\" or \"beat\"",
    );
    takes(ClientEvent::Play, "atServerMs", &["0", "9007199254740"]);
    let message = "atServerMs must be a number from 0 on, in milliseconds of the server's clock";
    rejects(ClientEvent::Play, "atServerMs", &["-1", "9007199254741", "1e300"], message);
    takes(ClientEvent::SetTimeSignature, "numerator", &["1", "32"]);
    rejects(
        ClientEvent::SetTimeSignature,
        "numerator",
        &["0", "33", "1.5"],
        "numerator must be a whole number from 1 to 32",
    );
    takes(ClientEvent::SetTimeSignature, "denominator", &["1", "2", "4", "8", "16", "32"]);
    rejects(
        ClientEvent::SetTimeSignature,
        "denominator",
        &["0", "3", "64", "4.5", "\"4\""],
        "denominator must be 1, 2, 4, 8, 16 or 32",
    );
}

#[test]
fn clock_events_are_read() {
    check(
        ClientEvent::BeatSync,
        r#"{"sessionId":"stage","beatPosition":-17.25,"masterTime":1e15}"#,
        SessionCommand::BeatSync { beat_position: Number(-17.25), master_time: Number(1e15) },
    );
    check(
        ClientEvent::PositionSync,
        r#"{"sessionId":"stage","positionMs":16.667,"timestamp":99}"#,
        SessionCommand::PositionSync { position: position_of(16_667), timestamp: Number(99.0) },
    );
    let timestamp = Number(99.5);
    check_client(
        ClientEvent::LatencyProbe,
        r#"{"timestamp":99.5}"#,
        ClientCommand::LatencyProbe { timestamp },
    );
    check_client(
        ClientEvent::ClockSync,
        r#"{"t0":99.5}"#,
        ClientCommand::ClockSync { t0: timestamp },
    );
    for event in [ClientEvent::LatencyProbe, ClientEvent::PositionSync] {
        rejects(
            event,
            "timestamp",
            &["1e400", "\"99\"", "{}"],
            "timestamp must be a finite number",
        );
    }
}

#[test]
fn connection_events_are_read() {
    let timestamp = Some(Number(99.0));
    check_client(ClientEvent::Pong, r#"{"timestamp":99}"#, ClientCommand::Pong { timestamp });
    check_client(ClientEvent::Pong, "", ClientCommand::Pong { timestamp: None });
    check_client(
        ClientEvent::Heartbeat,
        r#"{"timestamp":99}"#,
        ClientCommand::Heartbeat { timestamp },
    );
    check_client(ClientEvent::Heartbeat, "null", ClientCommand::Heartbeat { timestamp: None });
    check_client(ClientEvent::ConnectionQuality, "", ClientCommand::ConnectionQuality);
    check_client(ClientEvent::RoleChanged, "[7", ClientCommand::Ignored);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["stage", "leader", "bar", "text", BEN]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_name(), inner, 0..6)
                .prop_map(|map| Map::from_iter(map).into()),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let mut names: Vec<String> =
        vec!["title".into(), "songs".into(), "id".into(), "format".into(), "body".into()];
    names.extend(
        table().iter().flat_map(|(_, _, specs)| specs.iter().map(|(name, ..)| (*name).to_owned())),
    );
    prop_oneof![4 => prop::sample::select(names), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A rejection concerns the payload as a whole, or a field that the event has.
    #[test]
    fn any_payload_is_accepted_or_rejected(
        fields in prop::collection::btree_map(any_name(), any_json(), 0..8),
    ) {
        for (event, full, specs) in table() {
            let mut payload = full.as_object().unwrap().clone();
            payload.extend(fields.clone());
            for payload in [Value::Object(payload), Map::from_iter(fields.clone()).into()] {
                if let Err(reject) = command(event, &payload.to_string())
                    && let Some(field) = reject.field
                {
                    let known = specs.iter().any(|(name, ..)| *name == field);
                    // These have entries with one of their fields each.
                    let several = [
                        ClientEvent::Seek,
                        ClientEvent::Loop,
                        ClientEvent::SelectSong,
                        ClientEvent::Cue,
                    ];
                    prop_assert!(known || several.contains(&event), "{event:?}: {reject:?}");
                    prop_assert!(reject.message.starts_with(field), "{event:?}: {reject:?}");
                }
            }
        }
    }

    #[test]
    fn accepted_texts_are_printable_and_bounded(text: String) {
        let payload = json!({"sessionId": "stage", "message": text}).to_string();
        if let Ok(Command::Session(_, _, SessionCommand::Chat { message, .. })) = command(ClientEvent::ChatMessage, &payload) {
            let Message { text: message, .. } = message;
            prop_assert!(!message.is_empty() && message.chars().count() <= 500);
            prop_assert!(!message.chars().any(|c| is_control(c) && c != '\n'));
            prop_assert_eq!(message.trim(), &message);
        }
    }

    /// By stretches as character by character.
    #[test]
    fn a_text_is_made_printable_like_its_single_characters(
        text in "([a-z ]{0,40}|[\\x00-\\x20\\x7f-\\x9fö\u{2028}\u{2029}\u{202e}\u{2067}яש🎸]{0,6}){0,8}",
    ) {
        for lines in [Lines::One, Lines::Many, Lines::Chart] {
            let expected: String = text.chars().filter_map(|c| shown(c, lines)).collect();
            prop_assert_eq!(printable(&text, lines), expected);
        }
    }

    #[test]
    fn numbers_are_rounded_to_their_units(micros in 0..=86_400_000_000_u64, milli_bpm in 1_000..=400_000_u32) {
        let ms = micros as f64 / 1_000.0;
        prop_assert_eq!(said(ClientEvent::Seek, "position", &ms.to_string()), SessionCommand::Seek {
            to: Target::Position(position_of(micros)),
            when: When::At(Micros::from_millis(7)),
        });
        let bpm = f64::from(milli_bpm) / 1_000.0;
        let expected = SessionCommand::SetTempo(tempo_of(milli_bpm));
        prop_assert_eq!(said(ClientEvent::SetTempo, "tempo", &bpm.to_string()), expected);
    }
}
