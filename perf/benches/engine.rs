//! Durations of the engine's parts: `cargo bench -p bandsync-perf`. For people; `perf/counted`
//! guards against growth by counting instructions.

use bandsync_engine::speech::{Command, Notice, SessionCommand, Tick};
use bandsync_engine::timers::wheel::Wheel;
use bandsync_engine::wire::events::ClientEvent;
use bandsync_engine::wire::frame::{self, Reader};
use bandsync_engine::wire::socket_packet::Assembler;
use bandsync_engine::wire::{engine_packet, json, notices};
use bandsync_engine::words::ids::SessionId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::music::Tempo;
use bandsync_engine::words::time::{Micros, UnixMillis};
use bandsync_perf::gig::{self, Bands};
use bandsync_testkit::frames;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const CHAT: &str =
    r#"42["chat_message",{"sessionId":"session 0","message":"Chorus twice, then the bridge"}]"#;

fn main() {
    divan::main();
}

/// 1 000 timers of 16 ms, set and fired once.
#[divan::bench]
fn wheel(bencher: Bencher<'_, '_>) {
    let mut wheel = Wheel::new(Micros::ZERO);
    let mut now = Micros::ZERO;
    for n in 0..1_000 {
        wheel.set(Micros::from_micros(n * 16), n);
    }
    bencher.counter(ItemsCount::new(1_000_u32)).bench_local(|| {
        now = now + Micros::from_millis(16);
        while let Some((deadline, what)) = wheel.fire(now) {
            wheel.set(deadline + Micros::from_millis(16), what);
        }
    });
}

/// Reads a client's frame of 88 bytes.
#[divan::bench]
fn read_frame(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    frames::masked(&mut bytes, CHAT);
    let mut reader = Reader::default();
    bencher.bench_local(|| {
        let mut at = 0;
        matches!(reader.next(&Limits::PRODUCTION, black_box(&mut bytes), &mut at), Ok(Some(_)))
    });
}

#[divan::bench]
fn packets(bencher: Bencher<'_, '_>) {
    let (mut assembler, mut reader) = (Assembler::default(), json::Reader::default());
    bencher.bench_local(|| match engine_packet::parse(black_box(CHAT)) {
        Ok(engine_packet::Packet::Message(text)) => {
            matches!(assembler.text(text, &mut reader.begin()), Ok(Some(_)))
        }
        _ => false,
    });
}

/// Reads an event of 58 bytes, one of 210, and a set list of 950 kB, from the array to the command:
/// with simd-json, and with serde_json.
#[divan::bench(args = [58, 210, 950_000], consts = [true, false])]
fn read_event<const ON_TAPE: bool>(bencher: Bencher<'_, '_>, bytes: usize) {
    let array = event_of(bytes);
    let mut reader = json::Reader::default();
    bencher.bench_local(|| {
        let array = black_box(&*array);
        let mut reading = reader.begin();
        let event = if ON_TAPE { reading.event(array) } else { json::event(array) };
        event.and_then(|event| {
            let argument = event.argument.unwrap_or(json::Value::NONE);
            ClientEvent::from_name(&event.name)?.read(argument).ok()
        })
    });
}

/// Prints a set list of 950 kB for all members.
#[divan::bench]
fn print_setlist(bencher: Bencher<'_, '_>) {
    let array = event_of(950_000);
    let Some(argument) = json::event(&array).and_then(|event| event.argument) else { return };
    let Ok(Command::Session(session, _, SessionCommand::SetSetlist(setlist))) =
        ClientEvent::SetSetlist.read(argument)
    else {
        return;
    };
    let notice = Notice::Setlist(setlist);
    let mut out = Vec::with_capacity(2_000_000);
    bencher.bench_local(|| {
        out.clear();
        notices::notice(&mut out, black_box(&session), &notice);
        out.len()
    });
}

/// An event of about this size.
fn event_of(bytes: usize) -> String {
    const LINE: &str = r#"[Em]Gröndal by the [C]river, and the lanterns are \"low\"\n"#;
    match bytes {
        58 => r#"["play",{"sessionId":"session 0","atServerMs":1795374685}]"#.into(),
        210 => {
            let message = "Chorus twice, then the bridge, and mind the fermata ".repeat(3);
            format!(r#"["chat_message",{{"sessionId":"session 0","message":"{message}"}}]"#)
        }
        _ => {
            let body = LINE.repeat(bytes / 130 / LINE.len());
            let song = |n| {
                format!(
                    r#"{{"id":"s{n}","title":"Song {n}","tempoBpm":96.5,"format":"chordpro","body":"{body}"}}"#
                )
            };
            let songs: Vec<String> = (0..130).map(song).collect();
            let list = format!(r#"{{"title":"Friday","songs":[{}]}}"#, songs.join(","));
            format!(r#"["set_setlist",{{"sessionId":"session 0","setlist":{list}}}]"#)
        }
    }
}

/// Prints a tick as a frame: once per session and interval.
#[divan::bench]
fn print_tick(bencher: Bencher<'_, '_>) {
    let (Some(session), Some(tempo)) =
        (SessionId::parse("session 0"), Tempo::from_milli_bpm(120_500))
    else {
        return;
    };
    let timestamp = UnixMillis(1_800_000_000_123);
    let tick = Notice::Tick(Tick {
        position: 12_345_678,
        tempo,
        timestamp,
        epoch: 1_800_000_000_000,
        version: 12,
    });
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        frame::text(&mut out, |out| notices::notice(out, black_box(&session), &tick));
        out.len()
    });
}

/// Ticks a room: the engine's work for each of `members` members.
#[divan::bench(args = [8, 100, 1_000])]
fn tick_a_room(bencher: Bencher<'_, '_>, members: u32) {
    let rare = Micros::from_secs(1_000_000);
    let settings = bandsync_engine::io::Settings {
        ping_interval: rare,
        heartbeat_interval: rare,
        ..gig::settings()
    };
    let mut bands = Bands::new(settings, 1, members);
    bands.stop_tracing();
    bands.play();
    bands.harness.pass(Micros::from_secs(1));
    bencher
        .counter(ItemsCount::new(members))
        .bench_local(|| bands.harness.pass(Micros::from_millis(16)));
}

/// Replays an evening of twelve seconds with twelve bands.
#[divan::bench(sample_count = 10)]
fn replay(bencher: Bencher<'_, '_>) {
    let trace = gig::evening(12, 8, 12);
    bencher.bench_local(|| gig::replay(black_box(&trace)));
}
