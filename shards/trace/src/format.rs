//! The trace format: one line of text, then blocks, each with a checksum. `tools/README.md` draws
//! it byte by byte.

use std::io::{self, Read};

use bandsync_engine::io::Settings;
use bandsync_engine::trace::{self, Outcome, Recorded};
use bandsync_engine::words::time::Micros;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

/// The first line of a trace. The number is the version of everything after it.
pub const MAGIC: &[u8] = b"BANDSYNC TRACE 4\n";

/// The beginning of a trace of any version.
const ANY_MAGIC: &[u8] = b"BANDSYNC TRACE ";

/// The head of a block: kind, stored length, whole length, checksum.
const HEAD_BYTES: usize = 13;

/// Maximum length of a block. A reader rejects a greater one.
const BLOCK_BYTES_MAX: u32 = 64 << 20;

/// The first block of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the program that recorded.
    pub program: String,
    /// Number of the server's run, the same in all segments of all its shards.
    pub run: u64,
    /// Number of the segment in its shard's run, from zero. A run can only be replayed from its
    /// first segment.
    pub segment: u32,
    /// Settings of the shard's engine.
    pub settings: Settings,
}

/// Consecutive inputs, each with its outputs' digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct EntryBlock<'a> {
    /// Number of inputs of the run before these.
    pub first: u64,
    /// The time of the input before.
    pub at: Micros,
    /// The digest of all outputs before.
    pub digest: u32,
    /// The packed [`Entry`]s.
    pub entries: &'a [u8],
}

/// An input and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Number of the input in the run, from zero.
    pub index: u64,
    /// The time of the input.
    pub at: Micros,
    /// The input.
    pub input: Recorded<'a>,
    /// The outcome.
    pub outcome: Outcome,
}

/// The reason why a segment ends.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// The shard ended in order.
    Finished,
    /// The next segment continues the run.
    Rotated,
    /// The shard panicked at the last input.
    Panicked,
    /// Recording stopped before the server, for this reason.
    Stopped(String),
}

/// The reason why a trace cannot be read on.
#[derive(Debug)]
pub enum FormatError {
    /// The file does not begin as a trace does.
    NoTrace,
    /// The trace has another version of the format.
    OtherVersion,
    /// The file ends before the first entry: the disk was full, or the server was killed at the
    /// start.
    Headless,
    /// A block has a valid checksum but unknown content.
    Malformed,
    /// The file cannot be read.
    Io(io::Error),
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTrace => f.write_str("is not a trace"),
            Self::OtherVersion => {
                f.write_str("is a trace in the format of another version of bandsync")
            }
            Self::Headless => f.write_str("ends before anything was recorded"),
            Self::Malformed => f.write_str("has a block that this version does not understand"),
            Self::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for FormatError {}

const HEADER: u8 = b'H';
const ENTRIES: u8 = b'E';
const END: u8 = b'Z';

/// Packs blocks, and reuses its memory.
pub struct Packer {
    deflate: Compress,
    whole: Vec<u8>,
    packed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        // The fastest level: at the rates of a shard a trace is small, and the writer shares the
        // cores of the shards.
        Self {
            deflate: Compress::new(Compression::fast(), false),
            whole: Vec::new(),
            packed: Vec::new(),
        }
    }
}

impl Packer {
    /// Appends the first block of a segment.
    pub fn header(&mut self, out: &mut Vec<u8>, header: &Header) {
        out.extend_from_slice(MAGIC);
        self.plain(out, HEADER, header);
    }

    /// Appends a block of inputs.
    pub fn entries(&mut self, out: &mut Vec<u8>, entries: &EntryBlock<'_>) {
        self.whole.clear();
        put(&mut self.whole, entries);
        self.packed.clear();
        self.deflate.reset();
        loop {
            let used = self.deflate.total_in() as usize;
            self.packed.reserve(self.whole.len() / 2 + 64);
            let rest = &self.whole[used..];
            let status = self.deflate.compress_vec(rest, &mut self.packed, FlushCompress::Finish);
            // Compression fails only for flush modes out of order, and there is only one.
            assert!(
                matches!(status, Ok(Status::Ok | Status::BufError | Status::StreamEnd)),
                "{status:?}"
            );
            if matches!(status, Ok(Status::StreamEnd)) {
                break;
            }
        }
        block(out, ENTRIES, self.whole.len(), &self.packed);
    }

    /// Appends the last block of a segment.
    pub fn end(&mut self, out: &mut Vec<u8>, end: &End) {
        self.plain(out, END, end);
    }

    fn plain(&mut self, out: &mut Vec<u8>, kind: u8, value: &impl Serialize) {
        self.whole.clear();
        put(&mut self.whole, value);
        block(out, kind, self.whole.len(), &self.whole);
    }
}

fn put(bytes: &mut Vec<u8>, value: &impl Serialize) {
    let written = postcard::to_extend(value, std::mem::take(bytes));
    // Serializing plain values into a vector cannot fail.
    *bytes = written.unwrap_or_default();
    assert!(!bytes.is_empty());
}

fn block(out: &mut Vec<u8>, kind: u8, whole: usize, stored: &[u8]) {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    out.extend_from_slice(&(whole as u32).to_le_bytes());
    let checksum = checksum(&out[start..], stored);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(stored);
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(stored);
    hasher.finalize()
}

/// The way in which the reading of a segment ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// At this mark.
    Marked(End),
    /// Inside a block, or after one that is no end: the server was killed, or is still recording.
    Cut,
    /// At a block with a wrong checksum.
    Damaged,
}

/// Reads a segment block by block, up to its end or its last whole block.
pub struct SegmentReader<R> {
    from: R,
    header: Header,
    inflate: Decompress,
    stored: Vec<u8>,
    whole: Vec<u8>,
    ending: Option<Ending>,
    /// Bytes of the blocks read so far.
    bytes: u64,
}

enum Block {
    Whole { kind: u8, whole: u32 },
    Cut,
    Damaged,
}

impl<R: Read> SegmentReader<R> {
    /// Reads the first block.
    ///
    /// # Errors
    /// If the file is not a trace of this version.
    pub fn new(mut from: R) -> Result<Self, FormatError> {
        let mut stored = Vec::new();
        if !fill(&mut from, &mut stored, MAGIC.len())? && MAGIC.starts_with(&stored) {
            return Err(FormatError::Headless);
        }
        if stored != MAGIC {
            let is_trace = stored.starts_with(ANY_MAGIC);
            return Err(if is_trace { FormatError::OtherVersion } else { FormatError::NoTrace });
        }
        match read_block(&mut from, &mut stored)? {
            Block::Whole { kind: HEADER, .. } => {}
            Block::Cut => return Err(FormatError::Headless),
            Block::Whole { .. } | Block::Damaged => return Err(FormatError::NoTrace),
        }
        let header = postcard::from_bytes(&stored).map_err(|_| FormatError::Malformed)?;
        let bytes = (MAGIC.len() + HEAD_BYTES + stored.len()) as u64;
        let inflate = Decompress::new(false);
        Ok(Self { from, header, inflate, stored, whole: Vec::new(), ending: None, bytes })
    }

    /// Returns the first block.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the way in which reading ended, once [`SegmentReader::next_block`] returned `None`.
    pub fn ending(&self) -> &Ending {
        self.ending.as_ref().unwrap_or(&Ending::Cut)
    }

    /// Bytes of the whole blocks read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the next inputs; `None` at the end.
    ///
    /// # Errors
    /// If a block with a valid checksum has unknown content, or the file cannot be read.
    pub fn next_block(&mut self) -> Result<Option<EntryBlock<'_>>, FormatError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let (kind, whole) = match read_block(&mut self.from, &mut self.stored)? {
            Block::Whole { kind, whole } => (kind, whole),
            Block::Cut => return Ok(self.end(Ending::Cut)),
            Block::Damaged => return Ok(self.end(Ending::Damaged)),
        };
        self.bytes += (HEAD_BYTES + self.stored.len()) as u64;
        match kind {
            ENTRIES => self.unpack(whole).map(Some),
            END => {
                let end = postcard::from_bytes(&self.stored).map_err(|_| FormatError::Malformed)?;
                Ok(self.end(Ending::Marked(end)))
            }
            _ => Err(FormatError::Malformed),
        }
    }

    fn end(&mut self, ending: Ending) -> Option<EntryBlock<'_>> {
        self.ending = Some(ending);
        None
    }

    fn unpack(&mut self, whole: u32) -> Result<EntryBlock<'_>, FormatError> {
        self.whole.clear();
        self.whole.reserve_exact(whole as usize);
        self.inflate.reset(false);
        let unpacked =
            self.inflate.decompress_vec(&self.stored, &mut self.whole, FlushDecompress::Finish);
        let fits = matches!(unpacked, Ok(Status::StreamEnd)) && self.whole.len() == whole as usize;
        if !fits {
            return Err(FormatError::Malformed);
        }
        postcard::from_bytes(&self.whole).map_err(|_| FormatError::Malformed)
    }
}

/// Reads a block into `stored`.
fn read_block(from: &mut impl Read, stored: &mut Vec<u8>) -> Result<Block, FormatError> {
    if !fill(from, stored, HEAD_BYTES)? {
        return Ok(Block::Cut);
    }
    let number = |at: usize| {
        u32::from_le_bytes([stored[at], stored[at + 1], stored[at + 2], stored[at + 3]])
    };
    let (kind, length, whole, sum) = (stored[0], number(1), number(5), number(9));
    let head: [u8; 9] = std::array::from_fn(|at| stored[at]);
    if length > BLOCK_BYTES_MAX || whole > BLOCK_BYTES_MAX {
        return Ok(Block::Damaged);
    }
    if !fill(from, stored, length as usize)? {
        return Ok(Block::Cut);
    }
    let holds = checksum(&head, stored) == sum;
    Ok(if holds { Block::Whole { kind, whole } } else { Block::Damaged })
}

/// Reads `count` bytes. Returns false if there are fewer. Allocates only for bytes that exist.
fn fill(from: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<bool, FormatError> {
    bytes.clear();
    let read = from.take(count as u64).read_to_end(bytes).map_err(FormatError::Io)?;
    Ok(read == count)
}

impl<'a> EntryBlock<'a> {
    /// Returns the inputs in order. The last item is an error if its bytes are not valid.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, FormatError>> + use<'a> {
        let Self { first, mut at, mut entries, .. } = *self;
        let mut index = first;
        std::iter::from_fn(move || {
            if entries.is_empty() {
                return None;
            }
            let entry = read_entry(&mut entries, index, at);
            match &entry {
                Ok(entry) => (index, at) = (index + 1, entry.at),
                Err(_) => entries = &[],
            }
            Some(entry)
        })
    }
}

/// Appends the input of an entry. Its outcome follows through [`trace::write_outcome`].
pub(crate) fn write_input(bytes: &mut Vec<u8>, since: Micros, input: &Recorded<'_>) {
    trace::write_input(bytes, since, input);
}

fn read_entry<'a>(
    bytes: &mut &'a [u8],
    index: u64,
    before: Micros,
) -> Result<Entry<'a>, FormatError> {
    let (since, input) = trace::read_input(bytes).map_err(|_| FormatError::Malformed)?;
    let outcome = trace::read_outcome(bytes).map_err(|_| FormatError::Malformed)?;
    Ok(Entry { index, at: before + since, input, outcome })
}

/// Appends an entry that follows one at `before`.
pub fn write_entry(bytes: &mut Vec<u8>, before: Micros, entry: &Entry<'_>) {
    write_input(bytes, entry.at.since(before), &entry.input);
    trace::write_outcome(bytes, entry.outcome);
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use bandsync_engine::words::ids::{ConnId, ShardId};
    use bandsync_engine::words::limits::Limits;
    use bandsync_engine::words::origins::Origins;

    use super::*;

    pub(crate) fn settings(shard: u16) -> Settings {
        Settings {
            shard: ShardId(shard),
            shards: 2,
            seed: 7.into(),
            started_unix_ms: 1_700_000_000_000,
            limits: Limits::TINY,
            session_members_max: 8,
            origins: Origins::Any,
            ..Settings::default()
        }
    }

    const CONN: ConnId = ConnId { index: 1, generation: 2 };

    fn header() -> Header {
        Header { program: "0.1.0".into(), run: 9, segment: 0, settings: settings(1) }
    }

    fn entries() -> Vec<Entry<'static>> {
        let input =
            |at, input, outcome| Entry { index: 0, at: Micros::from_micros(at), input, outcome };
        let outputs = Outcome::Outputs { count: 2, digest: 5 };
        let mut entries = vec![
            input(
                5,
                Recorded::Received { conn: CONN, bytes: b"GET / HTTP/1.1\r\n\r\n" },
                Outcome::Nothing,
            ),
            input(5, Recorded::TurnEnded, outputs),
            input(9_000_000, Recorded::Drain, Outcome::Panic),
        ];
        for (number, entry) in entries.iter_mut().enumerate() {
            entry.index = 40 + number as u64;
        }
        entries
    }

    /// Returns a small trace: its bytes, and where each of its blocks ends.
    fn small() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut packer) = (Vec::new(), Vec::new(), Packer::default());
        packer.header(&mut bytes, &header());
        ends.push(bytes.len());
        let mut before = Micros::from_micros(3);
        for entry in entries() {
            let mut packed = Vec::new();
            write_entry(&mut packed, before, &entry);
            let entry_block =
                EntryBlock { first: entry.index, at: before, digest: 4, entries: &packed };
            packer.entries(&mut bytes, &entry_block);
            ends.push(bytes.len());
            before = entry.at;
        }
        packer.end(&mut bytes, &End::Stopped("the disk is full".into()));
        ends.push(bytes.len());
        (bytes, ends)
    }

    /// Returns the number of readable entries, and how reading ends.
    fn read(bytes: &[u8]) -> Result<(usize, Ending), FormatError> {
        let mut reader = SegmentReader::new(bytes)?;
        assert_eq!(*reader.header(), header());
        let (expected, mut count) = (entries(), 0);
        while let Some(entry_block) = reader.next_block()? {
            for entry in entry_block.entries() {
                assert_eq!(entry.unwrap(), expected[count]);
                count += 1;
            }
        }
        Ok((count, reader.ending().clone()))
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let (count, ending) = read(&small().0).unwrap();
        assert_eq!((count, ending), (3, Ending::Marked(End::Stopped("the disk is full".into()))));
    }

    #[test]
    fn a_trace_cut_at_any_byte_is_read_up_to_its_last_whole_block() {
        let (bytes, ends) = small();
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            match read(&bytes[..cut]) {
                Ok(found) => assert_eq!(found, (whole - 1, Ending::Cut), "cut at {cut}"),
                Err(FormatError::Headless) => assert_eq!(whole, 0, "cut at {cut}"),
                Err(error) => panic!("cut at {cut}: {error}"),
            }
        }
    }

    #[test]
    fn a_changed_byte_is_detected_and_all_blocks_before_it_are_read() {
        let (bytes, ends) = small();
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            let whole = ends.iter().filter(|end| **end <= index).count();
            match read(&bytes) {
                Ok((count, Ending::Damaged | Ending::Cut)) => {
                    assert_eq!(count, whole - 1, "byte {index}")
                }
                Err(FormatError::NoTrace | FormatError::OtherVersion | FormatError::Headless) => {
                    assert_eq!(whole, 0, "byte {index}");
                }
                other => panic!("byte {index}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_trace_of_another_version_is_recognized() {
        let mut bytes = small().0;
        bytes[ANY_MAGIC.len()] = b'1';
        let error = SegmentReader::new(&bytes[..]).map(|_| ()).unwrap_err();
        assert!(matches!(error, FormatError::OtherVersion), "{error}");
        let error = SegmentReader::new(&b"GET / HTTP/1.1\r\n"[..]).map(|_| ()).unwrap_err();
        assert!(matches!(error, FormatError::NoTrace), "{error}");
    }

    #[test]
    fn an_untrusted_length_allocates_no_memory() {
        let mut bytes = small().0[..small().1[0]].to_vec();
        bytes.push(ENTRIES);
        bytes.extend_from_slice(&(BLOCK_BYTES_MAX).to_le_bytes());
        bytes.extend_from_slice(&(BLOCK_BYTES_MAX).to_le_bytes());
        bytes.extend_from_slice(&[0; 10]);
        let mut reader = SegmentReader::new(&bytes[..]).unwrap();
        assert!(reader.next_block().unwrap().is_none());
        assert!(reader.stored.capacity() < 1_000);
    }

    #[test]
    fn invalid_blocks_with_valid_checksums_are_rejected() {
        let (trace, ends) = small();
        for content in [&b""[..], b"x", &[255; 40]] {
            for kind in [HEADER, ENTRIES, END, b'?'] {
                let mut bytes = trace[..ends[0]].to_vec();
                block(&mut bytes, kind, content.len(), content);
                let mut reader = SegmentReader::new(&bytes[..]).unwrap();
                assert!(reader.next_block().is_err(), "{kind} with {content:?}");
            }
        }
    }
}
