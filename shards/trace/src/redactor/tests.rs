//! Covers secrets and nothing else, and an engine behaves the same with both.
#![allow(clippy::unwrap_used)]

use bandsync_engine::engine::Engine;
use bandsync_engine::io::{HttpResponse, Input, Output, Outputs, Settings};
use bandsync_engine::trace::{Digest, Outcome};
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::time::Micros;
use proptest::prelude::*;

use super::*;

const CONN: ConnId = ConnId { index: 0, generation: 0 };
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
                       Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked frame, whole or the first or last part of a message.
fn frame(first: u8, payload: &str) -> Vec<u8> {
    let mask = [7, 130, 0, 255];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn unmasked(frame: &[u8]) -> String {
    let start = if frame[1] & 0x7f == 126 { 4 } else { 2 };
    let (mask, payload) = frame[start..].split_at(4);
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    String::from_utf8(payload).unwrap()
}

/// Redacts what a connection sends in these reads.
fn redact(key: &RandomState, reads: &[&[u8]]) -> Vec<u8> {
    let mut stream = Stream::default();
    let mut redacted = Vec::new();
    for read in reads {
        let mut read = read.to_vec();
        stream.redact(key, &mut read);
        redacted.extend(read);
    }
    redacted
}

fn message(key: &RandomState, text: &str) -> String {
    let redacted = redact(key, &[UPGRADE.as_bytes(), &frame(0x81, text)]);
    assert_eq!(&redacted[..UPGRADE.len()], UPGRADE.as_bytes());
    unmasked(&redacted[UPGRADE.len()..])
}

#[test]
fn secrets_are_covered_and_everything_else_is_kept() {
    let key = RandomState::new();
    let input = r#"420["join_session",{"sessionId":"a","passcode":"hidden","x":"passcode","leaderPin" : "4711x","n":"token: 5"}]"#;
    let redacted = message(&key, input);
    assert!(!redacted.contains("hidden") && !redacted.contains("4711x"), "{redacted}");
    assert_eq!(redacted.len(), input.len());
    for part in [
        r#"420["join_session",{"sessionId":"a","passcode":""#,
        r#"","x":"passcode","leaderPin" : ""#,
    ] {
        assert!(redacted.contains(part), "{redacted}");
    }
    assert!(redacted.ends_with(r#"","n":"token: 5"}]"#), "{redacted}");
    for harmless in [r#"42["chat",{"message":"the \"passcode\":\"x\" of old"}]"#, "2probe", "40"] {
        assert_eq!(message(&key, harmless), harmless);
    }
}

#[test]
fn a_secret_that_is_no_string_is_covered_too() {
    let key = RandomState::new();
    let shape = |text: &str| message(&key, text);
    assert_eq!(shape(r#"{"passcode":-4711.5e3,"b":2}"#), r#"{"passcode":-1111.1e1,"b":2}"#);
    assert_eq!(shape(r#"{"passcode":null,"b":"c"}"#), r#"{"passcode":null,"b":"c"}"#);
    assert_eq!(shape(r#"{"passcode":"","b":"c"}"#), r#"{"passcode":"","b":"c"}"#);
    let nested = shape(r#"{"passcode":[{"a":"hidden\"} too"},12],"b":"c"}"#);
    assert!(!nested.contains("hidden") && !nested.contains("too"), "{nested}");
    assert!(nested.ends_with(r#""},11],"b":"c"}"#), "{nested}");
}

#[test]
fn secrets_written_with_escapes_are_covered() {
    let key = RandomState::new();
    let redacted = message(&key, r#"{"pass\u0063ode":"a\u0062\u0063\u0064\u0065c\\\"d","b":"c"}"#);
    assert!(!redacted.contains(r"\u0062\u0063\u0064\u0065"), "{redacted}");
    assert!(redacted.starts_with(r#"{"pass\u0063ode":""#) && redacted.ends_with(r#"","b":"c"}"#));
}

#[test]
fn covered_secrets_are_equal_only_if_the_secrets_were() {
    let key = RandomState::new();
    let secret = |text: &str| message(&key, &format!(r#"{{"passcode":"{text}"}}"#));
    assert_eq!(secret("Ünlösbar 🎸"), secret("Ünlösbar 🎸"));
    let all: Vec<String> = (0..500).map(|n| secret(&format!("{n:03}"))).collect();
    for (place, one) in all.iter().enumerate() {
        assert!(!all[..place].contains(one), "{place}");
    }
    let other = RandomState::new();
    assert_ne!(message(&other, r#"{"passcode":"a long secret"}"#), secret("a long secret"));
}

#[test]
fn heads_and_bodies_of_requests_are_redacted() {
    let key = RandomState::new();
    let input = "POST /x?a=b&token=hid%64en&c=d HTTP/1.1\r\nHost: hidden.example\r\nContent-Length: 41\r\nAuthorization: Bearer \
                hidden1\r\ncookie:k=hidden2\r\n\r\n42[\"join_session\",{\"passcode\":\"hidden3\"}]";
    let redacted = String::from_utf8(redact(&key, &[input.as_bytes()])).unwrap();
    for secret in ["hid%64en", "hidden1", "hidden2", "hidden3"] {
        assert!(!redacted.contains(secret), "{redacted}");
    }
    assert!(redacted.contains("?a=b&token=") && redacted.contains("&c=d HTTP"), "{redacted}");
    assert!(redacted.contains("Host: hidden.example\r\n"), "{redacted}");
    assert_eq!(redacted.len(), input.len());
}

#[test]
fn a_cookie_is_redacted_unless_it_names_a_session() {
    let input = "GET / HTTP/1.1\r\nCookie: hidden0; io=AbCdEfGhIjKlMnOpQrSt;iota=hidden1; xio=hidden2\r\n\
                COOKIE: hidden3=io=hidden4; io=second\r\nA: b\r\n\r\n";
    for _ in 0..200 {
        let redacted = String::from_utf8(redact(&RandomState::new(), &[input.as_bytes()])).unwrap();
        assert!(!redacted.contains("hidden"), "{redacted}");
        let shown = |line: &str| {
            let pairs = line.split(';').map(str::trim);
            pairs.filter(|pair| pair.starts_with("io=")).map(str::to_owned).collect::<Vec<_>>()
        };
        let lines: Vec<&str> = redacted.lines().collect();
        assert_eq!(shown(&lines[1]["Cookie:".len()..]), ["io=AbCdEfGhIjKlMnOpQrSt"], "{redacted}");
        assert_eq!(shown(&lines[2]["COOKIE:".len()..]), ["io=second"], "{redacted}");
        assert_eq!(lines[3], "A: b");
    }
}

#[test]
fn requests_after_a_rejected_upgrade_are_redacted() {
    let key = RandomState::new();
    let next = "GET /?token=hidden HTTP/1.1\r\n\r\n";
    let redacted =
        redact(&key, &[UPGRADE.as_bytes(), &next.as_bytes()[..1], &next.as_bytes()[1..]]);
    assert!(!String::from_utf8(redacted).unwrap().contains("hidden"));
}

#[test]
fn compressed_frames_are_overwritten_with_zeros() {
    let key = RandomState::new();
    let parts = [
        frame(0x41, "compressed"),
        frame(0x89, "ping"),
        frame(0x80, "the rest"),
        frame(0x81, "plain"),
    ];
    let redacted = redact(&key, &[UPGRADE.as_bytes(), &parts.concat()]);
    let mut rest = &redacted[UPGRADE.len()..];
    let covered = parts.each_ref().map(|part| {
        let (part, after) = rest.split_at(part.len());
        rest = after;
        unmasked(part)
    });
    assert_eq!(covered, ["\0".repeat(10), "ping".into(), "\0".repeat(8), "plain".into()]);
}

#[test]
fn entries_are_redacted_in_place() {
    let mut entries = Vec::new();
    let frame = frame(0x81, r#"{"leaderPin":"hidden"}"#);
    let inputs = [
        Recorded::Opened { conn: CONN, peer: [127, 0, 0, 1].into() },
        Recorded::Received { conn: CONN, bytes: UPGRADE.as_bytes() },
        Recorded::Received { conn: CONN, bytes: &frame },
    ];
    for input in &inputs {
        trace::write_input(&mut entries, Micros::ZERO, input);
        trace::write_outcome(&mut entries, Outcome::Nothing);
    }
    Redactor::new(RandomState::new()).redact(&mut entries);
    let mut rest = &entries[..];
    for input in &inputs[..2] {
        assert_eq!(trace::read_input(&mut rest).unwrap().1, *input);
        trace::read_outcome(&mut rest).unwrap();
    }
    let Recorded::Received { bytes, .. } = trace::read_input(&mut rest).unwrap().1 else {
        panic!()
    };
    assert!(!unmasked(bytes).contains("hidden"));
}

/// The digest of an engine's outputs for these reads.
fn digest<'a>(reads: impl IntoIterator<Item = (u32, &'a [u8])>) -> u32 {
    let settings = Settings { origins: Origins::Any, ..Settings::default() };
    let (mut engine, mut outputs, mut digest) =
        (Engine::new(settings), Outputs::default(), Digest::default());
    let (mut open, mut at) = (Vec::new(), Micros::from_millis(1));
    let mut turn = |at, input: Input<'_>| {
        engine.handle(at, input, &mut outputs);
        digest.add(&outputs, 0);
        let asked = outputs.list.iter().find_map(|output| match output {
            Output::Request { conn, .. } => Some(*conn),
            _ => None,
        });
        let closed = outputs.list.iter().any(|output| matches!(output, Output::Close { .. }));
        outputs.clear();
        (asked, closed)
    };
    for (index, bytes) in reads {
        at = at + Micros::from_secs(1);
        let conn = ConnId { index, generation: 0 };
        if !open.contains(&index) {
            open.push(index);
            turn(at, Input::Opened { conn, peer: [127, 0, 0, 1].into() });
        }
        let (asked, closed) = turn(at, Input::Received { conn, bytes: &mut bytes.to_vec() });
        if let Some(conn) = asked.filter(|_| !closed) {
            let body = b"page".to_vec().into();
            let response = HttpResponse { status: 200, headers: Vec::new(), body };
            turn(at, Input::Responded { conn, response });
        }
        turn(at, Input::TurnEnded);
    }
    digest.sum()
}

/// The id of the first polling session that an engine opens.
fn first_sid(handshake: &str) -> String {
    let settings = Settings { origins: Origins::Any, ..Settings::default() };
    let (mut engine, mut outputs) = (Engine::new(settings), Outputs::default());
    engine.handle(
        Micros::ZERO,
        Input::Opened { conn: CONN, peer: [127, 0, 0, 1].into() },
        &mut outputs,
    );
    let mut bytes = handshake.as_bytes().to_vec();
    engine.handle(Micros::ZERO, Input::Received { conn: CONN, bytes: &mut bytes }, &mut outputs);
    engine.handle(Micros::ZERO, Input::TurnEnded, &mut outputs);
    let text = String::from_utf8_lossy(&outputs.bytes);
    let (_, rest) = text.split_once("\"sid\":\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// The digest of an engine's outputs for the redacted reads.
fn digest_of_redacted(reads: &[(u32, Vec<u8>)]) -> u32 {
    let key = RandomState::new();
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    let redacted: Vec<(u32, Vec<u8>)> = reads
        .iter()
        .map(|(index, read)| {
            let mut read = read.clone();
            streams.entry(*index).or_default().redact(&key, &mut read);
            (*index, read)
        })
        .collect();
    digest(redacted.iter().map(|(index, read)| (*index, &read[..])))
}

fn check_replay(reads: &[(u32, Vec<u8>)]) -> Result<(), TestCaseError> {
    let before = digest(reads.iter().map(|(index, read)| (*index, &read[..])));
    prop_assert_eq!(digest_of_redacted(reads), before);
    Ok(())
}

/// Writes a text in one of its JSON spellings.
fn spell(text: &str, mut luck: u64) -> String {
    let mut spelled = String::new();
    for letter in text.chars() {
        let escape = matches!(letter, '"' | '\\') || luck & 1 == 1;
        let short = "\"\\/\n\t".find(letter).filter(|_| luck & 2 == 0);
        match short {
            Some(place) if escape => spelled.extend(['\\', char::from(b"\"\\/nt"[place])]),
            _ if escape || letter < ' ' => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    let digits =
                        if luck & 4 == 0 { format!("{unit:04x}") } else { format!("{unit:04X}") };
                    spelled += &format!("\\u{digits}");
                }
            }
            _ => spelled.push(letter),
        }
        luck = luck.rotate_right(3);
    }
    spelled
}

#[test]
fn text_that_looks_like_a_secret_is_kept() {
    let key = RandomState::new();
    for harmless in [
        r#"40/"passcode":"echoed","#,
        r#"42["chat_message",{"sessionId":"a","message":"really?token=abc&passcode=x"}]"#,
    ] {
        assert_eq!(message(&key, harmless), harmless);
        let head = format!("POST /a&token=b HTTP/1.1\r\nContent-Length: {}\r\n", harmless.len());
        let posted = format!("{head}X-Name: \"passcode\":\"x y\"\r\n\r\n{harmless}");
        let read = |posted: String| String::from_utf8(redact(&key, &[posted.as_bytes()])).unwrap();
        assert_eq!(read(posted.clone()), posted);
        let after = format!("{posted}\r\nGET /?token=hidden HTTP/1.1\r\n\r\n");
        assert!(read(after.clone()).starts_with(&posted) && !read(after).contains("hidden"));
    }
}

#[test]
fn a_covered_number_is_valid_json_only_if_the_original_was() {
    let key = RandomState::new();
    let shape = |text: &str| message(&key, &format!(r#"{{"leaderPin":{text},"b":2}}"#));
    for (plain, covered) in [
        ("00", "01"),
        ("0", "0"),
        ("0471", "0111"),
        ("-0", "-0"),
        ("-00", "-01"),
        ("0.0e0", "0.1e1"),
        ("905", "111"),
        ("[0,00,-0,905]", "[0,01,-0,111]"),
    ] {
        assert_eq!(shape(plain), format!(r#"{{"leaderPin":{covered},"b":2}}"#));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A secret is the same in every spelling.
    #[test]
    fn every_spelling_of_a_secret_is_covered_alike(secret in "[ -~ßд漢🎸\n\"\\\\/]{0,12}", luck: [u64; 2]) {
        let key = RandomState::new();
        let [one, other] = luck.map(|luck| {
            let covered = message(&key, &format!(r#"{{"passcode":"{}"}}"#, spell(&secret, luck)));
            serde_json::from_str::<serde_json::Value>(&covered).unwrap()["passcode"].as_str().unwrap().to_owned()
        });
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.chars().count(), secret.chars().count());
        let mut stored = secret.clone();
        cover_text(&key, SecretKind::Typed, &mut stored);
        prop_assert_eq!(stored, one);
    }

    /// A token has no other characters than the engine accepts, in the replay too.
    #[test]
    fn a_token_is_covered_by_a_token(
        token in "[A-Za-z0-9_-]{22,64}",
        name in "token|newToken",
        luck: [u64; 2],
    ) {
        let key = RandomState::new();
        let [one, other] = luck.map(|luck| {
            let covered = message(&key, &format!(r#"{{"{name}":"{}"}}"#, spell(&token, luck)));
            serde_json::from_str::<serde_json::Value>(&covered).unwrap()[&name].as_str().unwrap().to_owned()
        });
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.len(), token.len());
        prop_assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{}", one);
        prop_assert_ne!(&one, &token);
        let mut stored = token.clone();
        cover_text(&key, SecretKind::Token, &mut stored);
        prop_assert_eq!(stored, one);
    }

    /// A band behaves the same in the replay, whatever tokens its members have.
    #[test]
    fn redacted_tokens_are_replayed_alike(
        joins in prop::collection::vec((0_usize..12, 0_usize..12, any::<u64>(), 0_u32..4), 1..12),
    ) {
        const VALUES: [&str; 6] = ["null", "4711", "[]", "\"\"", "\"too short\"", "\"0123456789-123456789 12\""];
        const TOKENS: [&str; 6] = [
            "aaaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaab",
            "0123456789-ABCDEF_ghij-klm",
            "0123456789-abcdef_GHIJ-KLM",
            "@aaaaaaaaaaaaaaaaaaaaa",
            "0123456789-123456789:12",
        ];
        let value = |place: usize, luck| match VALUES.get(place) {
            Some(value) => (*value).to_owned(),
            None => format!("\"{}\"", spell(TOKENS[place - VALUES.len()], luck)),
        };
        let mut reads: Vec<(u32, Vec<u8>)> = Vec::new();
        for (token, new_token, luck, conn) in joins {
            if reads.iter().all(|(index, _)| *index != conn) {
                reads.push((conn, [UPGRADE.as_bytes(), &frame(0x81, "40")].concat()));
            }
            let (token, new_token) = (value(token, luck), value(new_token, luck.rotate_left(20)));
            let text = format!(
                r#"420["join_session",{{"sessionId":"s","passcode":"x","token":{token},"newToken" : {new_token}}}]"#
            );
            reads.push((conn, frame(0x81, &text)));
        }
        check_replay(&reads)?;
    }

    /// A band behaves the same in the replay, whatever its secrets are.
    #[test]
    fn redacted_joins_are_replayed_alike(
        joins in prop::collection::vec((0_usize..28, 0_usize..28, any::<u64>(), 0_u32..3), 1..8),
    ) {
        const VALUES: [&str; 22] = [
            "00", "0", "-0", "-01", "4711", "1e400", "0.0", "1.", "null", "true", "tru", "[]", "[0,01]",
            r#"{"passcode":"x"}"#, r#""""#, r#""\ud800""#, r#""\ud83c\u0041""#, r#""\u00"#, r#""\x""#, "", ",",
            "\"\u{7f}\u{0}\"",
        ];
        const SECRETS: [&str; 6] = ["a", "b", "Ünlösbar 🎸", "\"quoted\" \\ /", "漢字\t", "0"];
        let value = |place: usize, luck| match VALUES.get(place) {
            Some(value) => (*value).to_owned(),
            None => format!("\"{}\"", spell(SECRETS[place - VALUES.len()], luck)),
        };
        let mut reads: Vec<(u32, Vec<u8>)> = Vec::new();
        for (passcode, pin, luck, conn) in joins {
            if reads.iter().all(|(index, _)| *index != conn) {
                reads.push((conn, [UPGRADE.as_bytes(), &frame(0x81, "40")].concat()));
            }
            let (passcode, pin) = (value(passcode, luck), value(pin, luck.rotate_left(20)));
            let text = format!(
                r#"420["join_session",{{"sessionId":"s","passcode":{passcode},"leaderPin" : {pin}}}]"#
            );
            reads.push((conn, frame(0x81, &text)));
        }
        check_replay(&reads)?;
    }

    /// So does everything else that a client can send.
    #[test]
    fn redacted_attacks_are_replayed_alike(
        parts in prop::collection::vec((0_usize..40, 0_u32..2), 1..40),
        framed: [bool; 2],
    ) {
        const PARTS: [&str; 40] = [
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n",
            "GET /x&token=y HTTP/1.1\r\nHost: a\r\n",
            "get /health?token=y&token=z HTTP/1.1\r\nHost: a\r\n",
            "POST /socket.io/?EIO=3&transport=polling&sid=a?token=b HTTP/1.1\r\nHost: a\r\n",
            "Content-Length: 20\r\n",
            "Content-Length: 0\r\n",
            "Content-Length: x\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Cookie: a=b\r\n",
            "Upgrade: websocket\r\n",
            "Upgrade: web socket, x\r\n",
            "Connection: upgrade\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive\r\n",
            "X: \"passcode\":\"a b\"\r\n",
            "\r\n",
            "\n",
            "40",
            "40/\"passcode\":\"abc\",",
            "42[\"join_session\",{\"sessionId\":\"s\",",
            "42[\"chat_message\",{\"sessionId\":\"s\",\"message\":\"x?token=abc\"}]",
            "42[\"update_message\",{\"sessionId\":\"s\",\"message\":\"a\\\"passcode\\\":\\\"b\"}]",
            "42[\"clock_sync\",{\"t0\":1,\"token\":[0,{\"a\":00}]}]",
            "\"passcode\":",
            "\"leaderPin\" : ",
            "\"pass\\u0063ode\":",
            "\"secret\"",
            "\"a\\u0062c\"",
            "\"abc\"",
            "\"unknown event\"",
            "0",
            "-00.5e1",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\u{1e}",
            "\"",
        ];
        // A frame ends at an empty part, and a read at every part.
        let mut reads: Vec<(u32, Vec<u8>)> = Vec::new();
        for conn in 0..2 {
            let own = parts.iter().filter(|(_, of)| *of == conn).map(|(part, _)| PARTS[*part]);
            if framed[conn as usize] {
                reads.push((conn, [UPGRADE.as_bytes(), &frame(0x81, "40")].concat()));
                let text: String = own.collect();
                let join = r#"420["join_session",{"sessionId":"s","passcode":"abc"}]"#;
                reads.push((conn, frame(0x81, join)));
                reads.push((conn, text.split('\n').flat_map(|text| frame(0x81, text)).collect()));
            } else {
                reads.extend(own.map(|part| (conn, part.as_bytes().to_vec())));
            }
        }
        check_replay(&reads)?;
    }

    /// A member that knew the passcode of a stored session also knows it in the replay.
    #[test]
    fn stored_and_received_secrets_are_covered_alike(secret in "[ -~äß🎸]{4,12}") {
        let key = RandomState::new();
        let mut stored = secret.clone();
        cover_text(&key, SecretKind::Typed, &mut stored);
        let spell = |secret: &str| secret.replace('\\', "\\\\").replace('"', "\\\"");
        let spoken = message(&key, &format!(r#"{{"passcode":"{}"}}"#, spell(&secret)));
        prop_assert_eq!(spoken, format!(r#"{{"passcode":"{}"}}"#, spell(&stored)));
        prop_assert_eq!(stored.len(), secret.len());
    }

    /// Cuts and fragments change nothing.
    #[test]
    fn redaction_does_not_depend_on_where_reads_are_cut(secret in "[a-zé\"\\\\🎸]{0,12}", cuts in prop::collection::vec(0_usize..300, 0..6)) {
        let key = RandomState::new();
        let secret = secret.replace('\\', "\\\\").replace('"', "\\\"");
        let (first, second) = (format!(r#"{{"passcode":"{secret}","a":"#), r#""b"}"#);
        let mut bytes = UPGRADE.as_bytes().to_vec();
        bytes.extend(frame(0x01, &first));
        bytes.extend(frame(0x89, "ping"));
        bytes.extend(frame(0x80, second));
        let whole = redact(&key, &[&bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        prop_assert_eq!(redact(&key, &reads), whole.clone());
        let length = frame(0x01, &first).len();
        let text = unmasked(&whole[UPGRADE.len()..UPGRADE.len() + length]);
        let shown = text.contains(&format!("\"{secret}\""));
        prop_assert!(secret.chars().count() < 6 || secret.contains('\\') || !shown);
        prop_assert!(whole.ends_with(&frame(0x80, second)));
    }

    /// Nor do polling bodies, in both versions.
    #[test]
    fn redacted_polling_bodies_are_replayed_alike(bodies in prop::collection::vec(prop::collection::vec(0_usize..14, 1..8), 1..6), version in 3..5) {
        const PARTS: [&str; 14] = [
            r#"40"#,
            r#"420["join_session",{"sessionId":"s","passcode":"abc"}]"#,
            r#"421["join_session",{"sessionId":"s","passcode":"a\u0062c","leaderPin":00}]"#,
            r#"421["join_session",{"sessionId":"s","leaderPin":00}]"#,
            r#"422["chat_message",{"sessionId":"s","message":"x?token=abc&secret=x"}]"#,
            r#"42["update_message",{"sessionId":"s","message":"\"passcode\":\"b"}]"#,
            r#"42["update_settings",{"sessionId":"s","passcode":"abd"}]"#,
            r#"40/"passcode":"abc","#,
            r#"42["passcode":"x"]"#,
            "42[\"a\",{\"b\":\"\ncookie: abc\"}]",
            r#"423["token","x"]"#,
            r#"42["unknown ?token=x",{"token":"x"}]"#,
            r#"""#,
            r#"1"#,
        ];
        let handshake = format!("GET /socket.io/?EIO={version}&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n");
        let target = format!("/socket.io/?EIO={version}&transport=polling&sid={}", first_sid(&handshake));
        let poll = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut reads = vec![(0, handshake.into_bytes())];
        for body in bodies {
            let packets = body.iter().map(|part| PARTS[*part].to_owned());
            let body = match version {
                3 => packets.map(|packet| format!("{}:{packet}", packet.encode_utf16().count())).collect(),
                _ => packets.collect::<Vec<_>>().join("\u{1e}"),
            };
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            reads.push((0, (head + &body).into_bytes()));
            reads.push((1, poll.clone().into_bytes()));
        }
        check_replay(&reads)?;
    }
}
