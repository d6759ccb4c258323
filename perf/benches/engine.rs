//! How long the engine's parts take: `cargo bench -p bandsync-perf`. For people; what must not grow is counted in
//! instructions by `perf/counted`.

use bandsync_engine::engine::wheel::Wheel;
use bandsync_engine::speech::{Notice, Tick};
use bandsync_engine::wire::frame::{self, Reader};
use bandsync_engine::wire::parse::{self, Event};
use bandsync_engine::wire::socket_packet::Assembler;
use bandsync_engine::wire::{engine_packet, print};
use bandsync_engine::words::ids::SessionId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::music::Tempo;
use bandsync_engine::words::time::{Micros, UnixMillis};
use bandsync_perf::frames;
use bandsync_perf::gig::{self, Stage};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const CHAT: &str =
    r#"42["chat_message",{"sessionId":"session 0","message":"Chorus twice, then the bridge"}]"#;

fn main() {
    divan::main();
}

/// A thousand timers of 16 ms, set and fired once round.
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

/// A client's frame of 88 bytes.
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
    let mut assembler = Assembler::default();
    bencher.bench_local(|| match engine_packet::parse(black_box(CHAT)) {
        Ok(engine_packet::Packet::Message(text)) => matches!(assembler.text(text), Ok(Some(_))),
        _ => false,
    });
}

#[divan::bench]
fn parse_chat() -> bool {
    let payload = r#"{"sessionId":"session 0","message":"Chorus twice, then the bridge"}"#;
    parse::command(Event::ChatMessage, black_box(payload)).is_ok()
}

/// A tick, framed: once for each session and interval.
#[divan::bench]
fn print_tick(bencher: Bencher<'_, '_>) {
    let (Some(session), Some(tempo)) = (SessionId::parse("session 0"), Tempo::from_milli_bpm(120_500)) else {
        return;
    };
    let timestamp = UnixMillis(1_800_000_000_123);
    let tick =
        Notice::Tick(Tick { position: 12_345_678, tempo, timestamp, epoch: 1_800_000_000_000, version: 12 });
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        frame::text(&mut out, |out| print::notice(out, black_box(&session), &tick));
        out.len()
    });
}

/// One tick of a room: what the engine does for each of so many members.
#[divan::bench(args = [8, 100, 1_000])]
fn tick_a_room(bencher: Bencher<'_, '_>, members: u32) {
    let rare = Micros::from_secs(1_000_000);
    let settings =
        bandsync_engine::io::Settings { ping_interval: rare, heartbeat_interval: rare, ..gig::settings() };
    let mut stage = Stage::new(settings, 1, members);
    stage.stop_tracing();
    stage.play();
    stage.pass(Micros::from_secs(1));
    bencher.counter(ItemsCount::new(members)).bench_local(|| stage.pass(Micros::from_millis(16)));
}

/// A whole evening of twelve seconds with twelve bands, replayed.
#[divan::bench(sample_count = 10)]
fn replay(bencher: Bencher<'_, '_>) {
    let trace = gig::evening(12, 8, 12);
    bencher.bench_local(|| gig::replay(black_box(&trace)));
}
