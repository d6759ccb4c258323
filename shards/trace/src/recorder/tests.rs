//! The recorder on disks that are slow, full and small.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use bandsync_engine::io::{Output, Span};
use bandsync_engine::words::ids::ConnId;
use parking_lot::{Mutex, MutexGuard};

use super::*;
use crate::format::tests::settings;
use crate::format::{Ending, SegmentReader};
use crate::store::SegmentFile;

const CONN: ConnId = ConnId { index: 0, generation: 1 };

/// Files in memory, with limited room, that can be blocked.
#[derive(Clone)]
struct Disk(Arc<Inside>);

struct Inside {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    room: usize,
    /// Held while writes are blocked.
    gate: Mutex<()>,
}

struct Page(Disk, String);

impl Disk {
    fn new(room: usize) -> Self {
        Self(Arc::new(Inside { files: Mutex::default(), room, gate: Mutex::default() }))
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.files.lock()
    }
}

impl SegmentStore for Disk {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        assert!(self.files().insert(name.to_owned(), Vec::new()).is_none(), "{name} is there");
        Ok(Box::new(Page(self.clone(), name.to_owned())))
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or(ErrorKind::NotFound.into())
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.0.0.gate.lock();
        let mut files = self.0.files();
        let free = self.0.0.room - files.values().map(Vec::len).sum::<usize>();
        if free == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(free);
        files.get_mut(&self.1).unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SegmentFile for Page {
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.0.files().get_mut(&self.1).unwrap().truncate(bytes as usize);
        Ok(())
    }
}

fn plan() -> RecordPlan {
    RecordPlan {
        directory: PathBuf::new(),
        name: "run".into(),
        program: "0.1.0".into(),
        run: 9,
        file_bytes_max: u64::MAX,
        file_span_max: Micros::from_secs(3_600),
        files_max: 10,
    }
}

/// One turn, in which `noise` arrives and an answer goes out.
fn turn(tap: &mut ShardRecorder, millis: u64, noise: &[u8]) {
    let at = Micros::from_millis(millis);
    tap.input(at, &Input::Received { conn: CONN, bytes: &mut noise.to_vec() });
    let mut outputs = Outputs::default();
    tap.outputs(&outputs, 0);
    tap.input(at, &Input::TurnEnded);
    outputs.list.push(Output::Send { to: CONN, bytes: Span { start: 0, end: 2 } });
    outputs.bytes.extend(b"hi");
    tap.outputs(&outputs, 0);
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut noise = vec![0; 4_000];
    bandsync_engine::words::rng::Rng::from_seed(seed).fill(&mut noise);
    // Binary frames of an unknown stream: nothing in them looks like a secret.
    noise.iter_mut().for_each(|byte| *byte = byte.rotate_left(1) & 0x7f | 0x80);
    noise
}

/// Index and time of every entry of a file, and its ending. Checks that blocks fit together.
fn read(file: &[u8]) -> (Vec<(u64, u64)>, Ending) {
    let mut reader = SegmentReader::new(file).unwrap();
    let mut entries: Vec<(u64, u64)> = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        for entry in block.entries() {
            let entry = entry.unwrap();
            assert!(entries.last().is_none_or(|(index, _)| index + 1 == entry.index));
            entries.push((entry.index, entry.at.as_millis()));
        }
    }
    (entries, reader.ending().clone())
}

#[test]
fn each_shard_is_recorded_in_its_own_file() {
    let disk = Disk::new(1 << 30);
    let recorder =
        Recorder::start_on(Box::new(disk.clone()), &plan(), &[settings(0), settings(1)]).unwrap();
    let mut taps = [recorder.tap(0), recorder.tap(1)];
    for millis in 0..5_000 {
        turn(&mut taps[0], millis, b"x");
    }
    turn(&mut taps[1], 3, b"y");
    drop(taps);
    recorder.finish();
    let files = disk.files();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["run-shard0-000000.trace", "run-shard1-000000.trace"]);
    let (entries, ending) = read(&files[names[0]]);
    assert_eq!(ending, Ending::Marked(End::Finished));
    assert_eq!(entries, (0..10_000).map(|index| (index, index / 2)).collect::<Vec<_>>());
    assert_eq!(read(&files[names[1]]).0, [(0, 3), (1, 3)]);
}

#[test]
fn a_recording_ends_with_the_input_that_caused_a_panic() {
    let disk = Disk::new(1 << 30);
    let recorder = Recorder::start_on(Box::new(disk.clone()), &plan(), &[settings(0)]).unwrap();
    let mut tap = recorder.tap(0);
    turn(&mut tap, 1, b"x");
    tap.input(Micros::from_millis(2), &Input::Drain);
    drop(tap);
    recorder.finish();
    let (entries, ending) = read(disk.files().values().next().unwrap());
    assert_eq!((entries.last(), ending), (Some(&(2, 2)), Ending::Marked(End::Panicked)));
}

#[test]
fn a_slow_disk_ends_the_recording_but_not_the_shard() {
    let disk = Disk::new(1 << 30);
    let recorder = Recorder::start_on(Box::new(disk.clone()), &plan(), &[settings(0)]).unwrap();
    let mut tap = recorder.tap(0);
    let gate = disk.0.gate.lock();
    let mut turns = 0;
    while tap.buffer.is_some() {
        turn(&mut tap, turns, &noise(turns));
        turns += 1;
        assert!(turns < 10_000, "buffers are bounded");
    }
    turn(&mut tap, turns, b"this is not recorded");
    drop(gate);
    drop(tap);
    recorder.finish();
    let (entries, ending) = read(disk.files().values().next().unwrap());
    assert_eq!(ending, Ending::Marked(End::Stopped("the disk is too slow".into())));
    assert!(
        entries.len() as u64 > 2 * turns - 3,
        "accepted entries are written: {} of {turns}",
        entries.len()
    );
}

#[test]
fn a_full_disk_leaves_a_marked_trace() {
    // The room is used up at every possible position in a block.
    for room in (20_000..400_000).step_by(17_001) {
        let disk = Disk::new(room);
        let recorder = Recorder::start_on(Box::new(disk.clone()), &plan(), &[settings(0)]).unwrap();
        let mut tap = recorder.tap(0);
        let mut turns = 0;
        while tap.buffer.is_some() {
            turn(&mut tap, turns, &noise(turns));
            turns += 1;
            assert!(turns < 100_000, "the writer says no");
            std::thread::yield_now();
        }
        drop(tap);
        recorder.finish();
        let (entries, ending) = read(disk.files().values().next().unwrap());
        // The disk rejected, or the shard was faster than the disk: both end the trace with a mark.
        assert!(matches!(ending, Ending::Marked(End::Stopped(_))), "{room}: {ending:?}");
        assert!(entries.len() as u64 <= 2 * turns);
    }
}

/// Wherever the disk is full, also between two files, no file without a header remains.
#[test]
fn a_disk_that_fills_up_between_two_files_leaves_readable_ones() {
    let mut files_left = 0;
    for room in (10_000..30_000).step_by(37) {
        let disk = Disk::new(room);
        let plan = RecordPlan { file_bytes_max: 9_000, ..plan() };
        let recorder = Recorder::start_on(Box::new(disk.clone()), &plan, &[settings(0)]).unwrap();
        let mut tap = recorder.tap(0);
        for turns in 0..40 {
            // Each turn fills a buffer, since its inputs are a second old.
            turn(&mut tap, 1_001 * turns, &noise(turns));
        }
        drop(tap);
        recorder.finish();
        let files = disk.files();
        let (entries, ending) = files.values().map(|file| read(file)).next_back().unwrap();
        let is_marked = matches!(ending, Ending::Marked(End::Stopped(_)));
        // After a header alone there is no block that a mark could replace.
        assert!(is_marked || entries.is_empty(), "{room}: {ending:?}");
        files_left = files_left.max(files.len());
    }
    assert!(files_left > 2, "{files_left}");
}

#[test]
fn files_are_rotated_and_the_oldest_are_deleted() {
    let disk = Disk::new(1 << 30);
    let plan = RecordPlan { file_span_max: Micros::from_secs(60), files_max: 3, ..plan() };
    for run in ["run1", "run2"] {
        let plan = RecordPlan { name: run.into(), ..plan.clone() };
        let recorder = Recorder::start_on(Box::new(disk.clone()), &plan, &[settings(0)]).unwrap();
        let mut tap = recorder.tap(0);
        for seconds in 0..if run == "run1" { 10 } else { 100 } {
            turn(&mut tap, 1_000 * seconds, b"x");
            turn(&mut tap, 1_000 * seconds + 7, b"x");
            while tap.empty.is_empty() {
                std::thread::yield_now();
            }
        }
        drop(tap);
        recorder.finish();
    }
    let names: Vec<String> = disk.files().keys().cloned().collect();
    assert_eq!(
        names,
        ["run1-shard0-000000.trace", "run2-shard0-000000.trace", "run2-shard0-000001.trace"]
    );
    let (first, ending) = read(&disk.files()[&names[1]]);
    assert_eq!(ending, Ending::Marked(End::Rotated));
    let (second, ending) = read(&disk.files()[&names[2]]);
    assert_eq!(ending, Ending::Marked(End::Finished));
    assert_eq!(first.last().map(|(index, _)| index + 1), second.first().map(|(index, _)| *index));
    assert_eq!(second.last().map(|(index, _)| *index), Some(399));
}
