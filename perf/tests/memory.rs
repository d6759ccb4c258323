//! Memory of the engine for members that have joined and do nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use bandsync_engine::io::Settings;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;
use bandsync_perf::gig::{self, Bands};
use bandsync_testkit::frames;

/// The system's allocator, counted.
struct Counted;

/// Bytes that are held now.
static HELD: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Bytes that an engine holds for this many sessions of eight, whose members do nothing.
fn held(sessions: u32, handshake: &[u8]) -> i64 {
    // No member answers pings here.
    let rare = Micros::from_secs(36_000);
    let limits = Limits {
        stale_after: rare,
        silence_max: rare,
        inactivity_max: rare,
        ..Settings::default().limits
    };
    let settings =
        Settings { limits, ping_interval: rare, heartbeat_interval: rare, ..gig::settings() };
    let before = HELD.load(Ordering::Relaxed);
    let mut bands = Bands::with_handshake(settings, sessions, 8, handshake);
    bands.stop_tracing();
    // Until the events kept for lost members are dropped.
    bands.harness.pass(Micros::from_secs(600));
    HELD.load(Ordering::Relaxed) - before
}

/// One test, because another thread's memory would be counted too.
#[test]
fn an_idle_member_uses_little_memory() {
    // Measured: 664. Of a session of eight, the automatic message takes six of these bytes, loops
    // and armed changes of the timeline take three, and its part in a cluster takes one.
    const BYTES_MAX: i64 = 664;
    for (what, compression) in [("plain", false), ("compressed", true)] {
        let handshake = frames::handshake("band", compression);
        // Measured per additional member: the timing wheel and the compressors belong to the shard.
        let each = (held(1_024, &handshake) - held(512, &handshake)) / (512 * 8);
        assert!(each <= BYTES_MAX, "{each} bytes for each further member, {what}");
    }
}
