//! Allocations of the engine: none for a tick, and few for an event.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use bandsync_engine::io::Settings;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;
use bandsync_perf::gig::{self, Bands};
use bandsync_testkit::frames;

/// The system's allocator, counted.
struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn allocations(act: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    act();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One test, because another thread's allocations would be counted too.
#[test]
fn the_steady_state_allocates_no_memory() {
    // Pings are too rare to occur here, and silent members stay: closing one costs about twenty
    // allocations for its notices.
    let rare = Micros::from_secs(3_600);
    let limits =
        Limits { stale_after: rare, silence_max: rare, inactivity_max: rare, ..Limits::PRODUCTION };
    let settings =
        Settings { ping_interval: rare, heartbeat_interval: rare, limits, ..gig::settings() };
    let mut bands = Bands::new(settings, 20, 8);
    bands.stop_tracing();
    bands.play();
    bands.harness.pass(Micros::from_secs(3));

    bands.take_messages();
    let ticking = allocations(|| bands.harness.pass(Micros::from_secs(10)));
    let ticks = bands.take_messages();
    assert!(ticks >= 20 * 8 * 620, "it plays: {ticks}");
    assert_eq!(ticking, 0, "allocations in {ticks} ticks");

    // Questions about clock and connection need no memory after the first. Other events allocate
    // for their parsed values and their notices, and not per receiver.
    let most = [
        (r#"42["latency_probe",{"timestamp":1}]"#, 0),
        (r#"42["clock_sync",{"t0":1}]"#, 0),
        (r#"42["pong",{"timestamp":1}]"#, 0),
        ("3", 0),
        (r#"42["chat_message",{"sessionId":"session 0","message":"hello"}]"#, 16),
        (r#"42["sync_request",{"sessionId":"session 0"}]"#, 16),
        (r#"42["seek",{"sessionId":"session 0","position":1000}]"#, 44),
    ];
    for (text, most) in most {
        let mut frame = Vec::new();
        frames::masked(&mut frame, text);
        let mut asked = 0;
        for _ in 0..3 {
            let mut bytes = frame.clone();
            asked = allocations(|| bands.harness.received(0, &mut bytes));
            // The notices of the batch window are sent within it.
            asked += allocations(|| bands.harness.pass(Micros::from_millis(20)));
            let later = allocations(|| bands.harness.pass(Micros::from_millis(1_480)));
            assert_eq!(later, 0, "allocations in the ticks after {text}");
        }
        assert!(asked <= most, "{text} asks {asked} times for memory");
    }
}
