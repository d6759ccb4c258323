//! The machines of one connection, alone: without a table, a session, or a shard.
#![allow(clippy::unwrap_used)]

use super::client::{Client, Deferred, Dialect, EVENT_BYTES_MAX, Received};
use super::event::{Awaits, Layer, Payload};
use super::http_conn::{HttpConn, NextRequest, WAITING_BYTES_MAX};
use super::incoming::PendingPacket;
use crate::delivery::route::Encoding;
use crate::io::Settings;
use crate::wire::http::{Cors, Method};
use crate::wire::json;
use crate::wire::payload::Version;
use crate::words::ids::MemberId;
use crate::words::time::Micros;

const NOW: Micros = Micros::from_secs(1);

fn client(version: Version, layer: Layer) -> Client {
    let dialect = Dialect { version, base64: false, layer };
    Client::new(dialect, Encoding::Plain, None, NOW, &Settings::default())
}

fn connected() -> Client {
    let mut client = client(Version::V4, Layer::Events);
    client.connected_as(MemberId::from_bytes([7; 15]), None);
    client
}

/// Passes a text to a client, and returns its meaning in a word.
fn meaning(client: &mut Client, text: &str) -> String {
    let (mut reader, mut assembled) = (json::Reader::default(), None);
    let mut reading = reader.begin();
    match client.receive(text, &mut assembled, &mut reading, NOW, &Settings::default()) {
        Received::Nothing => "nothing".into(),
        Received::Ping => "ping".into(),
        Received::Goodbye => "goodbye".into(),
        Received::Connect(recovery) => format!("connect {}", recovery.is_some()),
        Received::NoNamespace(namespace) => format!("no {namespace}"),
        Received::Named { event, ack, payload: Payload::TooLong(bytes) } => {
            format!("{event} {ack:?} of {bytes} bytes")
        }
        Received::Named { event, ack, payload } => format!("{event} {ack:?} {}", payload.written()),
        Received::Disconnect => "disconnect".into(),
        Received::Broken(why, _) => why.into(),
        Received::Packet(packet, attachments) => {
            format!("packet to {} with {}", packet.namespace, attachments.len())
        }
        Received::Message(_) => "message".into(),
    }
}

#[test]
fn a_client_must_connect_exactly_once_before_its_first_event() {
    let mut client = client(Version::V4, Layer::Events);
    assert_eq!(meaning(&mut client, r#"42["play",{}]"#), "event before connect");
    assert_eq!(meaning(&mut client, "40/other,"), "no /other");
    assert_eq!(meaning(&mut client, "40"), "connect false");
    client.connected_as(MemberId::from_bytes([7; 15]), None);
    assert_eq!(meaning(&mut client, "40"), "second connect");
    assert_eq!(meaning(&mut client, r#"427["play",{"a":1}]"#), r#"play Some(7) {"a":1}"#);
    assert_eq!(meaning(&mut client, "41"), "disconnect");
}

#[test]
fn a_recovery_request_must_name_an_existing_shard() {
    let mut client = client(Version::V4, Layer::Events);
    let pid = MemberId::from_bytes([9; 15]);
    let connect =
        |shard: u16| format!(r#"40{{"pid":"{}","offset":"{shard}.1.0.5"}}"#, pid.as_str());
    assert_eq!(meaning(&mut client, &connect(0)), "connect true");
    assert_eq!(meaning(&mut client, &connect(1)), "connect false", "there is one shard");
}

#[test]
fn the_server_pings_in_version_4_and_the_client_in_version_3() {
    let mut new = client(Version::V4, Layer::Events);
    assert_eq!(meaning(&mut new, "3"), "nothing");
    assert_eq!(meaning(&mut new, "2"), "malformed Engine.IO packet");
    let mut old = client(Version::V3, Layer::Events);
    assert_eq!(meaning(&mut old, "2"), "ping");
    assert_eq!(meaning(&mut old, "3"), "malformed Engine.IO packet");
    assert_eq!(meaning(&mut old, "1"), "goodbye");
}

#[test]
fn a_long_event_is_reported_by_its_size_without_being_parsed() {
    let mut client = connected();
    let filling = "x".repeat(EVENT_BYTES_MAX);
    let chat = format!(r#"425["chat_message","{filling}"]"#);
    let bytes = chat.len() - 1;
    assert_eq!(meaning(&mut client, &chat), format!("chat_message Some(5) of {bytes} bytes"));
    assert_eq!(meaning(&mut client, &format!("42{filling}")), "packet longer than 64 KiB");
    for name in ["set_setlist", "edit_setlist"] {
        let songs = format!(r#"42["{name}","{filling}"]"#);
        assert!(meaning(&mut client, &songs).starts_with(&format!("{name} None \"xxx")));
    }
}

#[test]
fn a_binary_event_is_a_call_with_its_last_attachment() {
    let mut client = connected();
    let event = r#"451-["play",{"_placeholder":true,"num":0}]"#;
    assert_eq!(meaning(&mut client, event), "nothing");
    assert!(client.overdue(NOW, &Settings::default().limits).is_none());
    assert!(client.overdue(NOW + Micros::from_secs(3_600), &Settings::default().limits).is_some());
    assert_eq!(meaning(&mut client, event), "malformed Socket.IO packet", "bytes are due");
    assert_eq!(meaning(&mut client, "bAAEC"), r#"play None {"_placeholder":true,"num":0}"#);
}

#[test]
fn other_layers_see_packets_messages_and_frames() {
    let text = r#"42/x,["y"]"#;
    assert_eq!(meaning(&mut client(Version::V4, Layer::Packets), text), "packet to /x with 0");
    assert_eq!(meaning(&mut client(Version::V4, Layer::Messages), text), "message");
    assert_eq!(meaning(&mut client(Version::V4, Layer::Messages), "3"), "nothing");
    let mut bare = client(Version::V4, Layer::Frames);
    assert_eq!(meaning(&mut bare, "3"), "message");
    assert_eq!(bare.deadline(&Settings::default().limits), None);
}

#[test]
fn deferred_input_is_bounded() {
    let limits = Settings::default().limits;
    let mut deferred = Deferred::new(Awaits::Storage);
    deferred.push(PendingPacket::Text("x".into()));
    deferred.bytes = vec![0; limits.message_bytes_max as usize];
    assert!(deferred.overflow(&limits).is_none());
    deferred.push(PendingPacket::Binary(vec![0; 64 * 1024]));
    assert!(deferred.overflow(&limits).is_some());
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: band\r\n\r\n";

#[test]
fn requests_are_parsed_one_by_one_for_any_split() {
    let mut http = HttpConn::new(NOW);
    let post = b"POST /b HTTP/1.1\r\nHost: band\r\nContent-Length: 3\r\n\r\nxyzGET";
    let bytes = http.receive(&[GET, post].concat(), NOW);
    let NextRequest::Request { request, body, used } = http.next_request(&bytes) else { panic!() };
    assert_eq!((request.method, request.path, body), (Method::Get, "/a", Some(&b""[..])));
    let NextRequest::Request { request, body, used: second } = http.next_request(&bytes[used..])
    else {
        panic!()
    };
    assert_eq!((request.method, body), (Method::Post, Some(&b"xyz"[..])));
    assert!(matches!(http.next_request(&bytes[used + second..]), NextRequest::Incomplete));
    http.bytes = bytes[used + second..].to_vec();
    let rest = http.receive(&GET[3..], NOW);
    assert!(
        matches!(http.next_request(&rest), NextRequest::Request { used, .. } if used == GET.len())
    );
}

#[test]
fn a_request_with_an_incomplete_body_is_parsed_again() {
    let mut http = HttpConn::new(NOW);
    let bytes = http.receive(b"POST /b HTTP/1.1\r\nHost: band\r\nContent-Length: 3\r\n\r\nxy", NOW);
    assert!(matches!(http.next_request(&bytes), NextRequest::Request { body: None, .. }));
    assert!(matches!(http.next_request(&bytes), NextRequest::Request { body: None, .. }));
    assert!(matches!(http.next_request(b"\x01"), NextRequest::Rejected(_)));
}

#[test]
fn a_pending_request_blocks_the_next_one_and_bounds_the_kept_bytes() {
    let mut http = HttpConn::new(NOW);
    let limits = Settings::default().limits;
    assert_eq!(http.deadline(&limits, false), Some(NOW + limits.head_timeout));
    http.ask(false, true, Cors::Silent);
    assert_eq!(http.deadline(&limits, false), None);
    assert!(matches!(http.next_request(GET), NextRequest::Pending));
    assert!(matches!(http.next_request(&[b'x'; WAITING_BYTES_MAX + 1]), NextRequest::TooMuch));
    http.pending = None;
    http.request_read(NOW);
    assert_eq!(
        http.deadline(&limits, false),
        Some(NOW + limits.idle_timeout),
        "between two requests"
    );
    assert_eq!(http.deadline(&limits, true), Some(NOW + Micros::from_secs(1)), "or until the end");
}
