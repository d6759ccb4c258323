//! Connections: two streams of bytes, each with delay, pieces, stalls, holes and a window. Bytes
//! stay in order.

use std::collections::VecDeque;
use std::net::IpAddr;

use bandsync_engine::words::ids::ConnId;
use flate2::{Decompress, FlushDecompress};

use super::plan::{Net, Say};
use super::rng::SimRng;

/// Maximum number of pieces into which the bytes of one send are cut.
const PIECES_MAX: u32 = 24;

/// The stream in one direction.
#[derive(Debug, Default)]
pub struct Pipe {
    /// The bytes that were sent. Read ones are dropped later; arrived ones come first.
    bytes: Vec<u8>,
    /// Number of bytes at the front that were read.
    read: usize,
    /// Number of bytes after those that have arrived.
    arrived: usize,
    /// Times and sizes of the pieces under way.
    under_way: VecDeque<(u64, u32)>,
    /// The time at which the last piece arrives.
    last: u64,
    /// The time before which no bytes arrive.
    stalled_until: u64,
    /// Whether no bytes arrive from now on.
    hole: bool,
    /// Whether the sender has ended the stream.
    ended: bool,
    /// The time of the next scheduled look.
    look_at: Option<u64>,
    /// Delay in addition to that of the network.
    pub detour: u64,
}

impl Pipe {
    /// Sends bytes, and returns the time at which the first arrive.
    pub fn send(&mut self, now: u64, bytes: &[u8], net: &Net, luck: &mut SimRng) -> u64 {
        self.bytes.extend_from_slice(bytes);
        let mut left = bytes.len();
        let (mut first, mut cut) = (u64::MAX, 0);
        while left > 0 {
            cut += 1;
            let piece = match net.chop {
                0 => left,
                // Enough cuts to fall between any two fields of the first frames. More would only
                // cost time.
                _ if cut > PIECES_MAX => left,
                chop => left.min(luck.between(1, u64::from(chop)) as usize),
            };
            let jitter = if net.jitter == 0 { 0 } else { luck.below(net.jitter) };
            self.last =
                self.last.max(now + net.delay + self.detour + jitter).max(self.stalled_until);
            self.under_way.push_back((self.last, piece as u32));
            first = first.min(self.last);
            left -= piece;
        }
        first
    }

    /// Ends the stream after the bytes that were sent. Returns the time at which the end arrives.
    pub fn end(&mut self, now: u64, net: &Net) -> u64 {
        self.ended = true;
        self.last = self.last.max(now + net.delay + self.detour);
        self.last
    }

    /// Asks for a look at `at`. Returns the time, if no earlier look is scheduled.
    pub fn look(&mut self, at: u64) -> Option<u64> {
        let sooner = self.look_at.is_none_or(|planned| at < planned);
        sooner.then(|| *self.look_at.insert(at))
    }

    /// Lets due pieces arrive. Returns the time of the next look, if pieces are left.
    pub fn arrive(&mut self, now: u64) -> Option<u64> {
        self.look_at = self.look_at.filter(|at| *at > now);
        if self.hole {
            return None;
        }
        if now < self.stalled_until {
            return Some(self.stalled_until);
        }
        while let Some((at, length)) = self.under_way.front().copied() {
            if at > now {
                return Some(at);
            }
            self.arrived += length as usize;
            self.under_way.pop_front();
        }
        (self.ended && self.last > now).then_some(self.last)
    }

    /// Returns the bytes that have arrived and were not read.
    pub fn here(&self) -> &[u8] {
        &self.bytes[self.read..self.read + self.arrived]
    }

    /// Notes that `count` bytes were read.
    pub fn took(&mut self, count: usize) {
        assert!(count <= self.arrived);
        self.read += count;
        self.arrived -= count;
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        } else if self.read > 65_536 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
    }

    /// Returns the number of bytes that are under way or not read.
    pub fn full(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether all bytes were read and the end has arrived.
    pub fn is_over(&self, now: u64) -> bool {
        self.ended
            && !self.hole
            && self.full() == 0
            && self.last <= now
            && self.stalled_until <= now
    }

    /// Whether the end has arrived, perhaps after bytes that were not read.
    pub fn has_end_arrived(&self, now: u64) -> bool {
        let all_here = self.under_way.is_empty() && self.last <= now && self.stalled_until <= now;
        self.ended && !self.hole && all_here
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    pub fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Ends the stall. Returns the time of the next look.
    pub fn release(&mut self, now: u64) -> u64 {
        self.stalled_until = self.stalled_until.min(now);
        now
    }

    pub fn dig_hole(&mut self) {
        self.hole = true;
    }

    pub fn is_hole(&self) -> bool {
        self.hole
    }
}

/// Where the server's end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServerEnd {
    /// The connection waits to be accepted.
    Door,
    /// The connection is on this shard, under this id.
    Shard(u16, ConnId),
    /// The connection is on its way between two shards.
    Mail,
    /// The server has closed the connection.
    Gone,
}

/// A connection as the network knows it.
#[derive(Debug)]
pub struct Cable {
    /// The stream to the server.
    pub up: Pipe,
    /// The stream to the client.
    pub down: Pipe,
    pub end: ServerEnd,
    pub peer: IpAddr,
    /// Whether the connection is broken, which both ends will notice.
    pub reset: bool,
    /// The turn in which the connection accepts no more bytes, although there is room.
    pub full_in: u64,
    /// Whether room must be reported to the shard.
    pub awaits_writable: bool,
    /// Whether a report to the shard is waiting.
    pub reported: bool,
    /// Whether the end of the client's side was reported to the shard. Like epoll, the net reports
    /// it once.
    pub end_reported: bool,
    /// The last turn in which bytes were offered.
    pub offered_in: u64,
    /// Number of bytes accepted from the server, without ticks that were offered whole.
    pub taken: u64,
    /// Number of bytes that the server has read.
    pub read: u64,
    /// Places in the stream to the server at which reads end.
    pub cuts: VecDeque<u64>,
    pub luck: SimRng,
}

impl Cable {
    /// Creates a connection that waits to be accepted.
    pub fn new(peer: IpAddr, luck: SimRng) -> Self {
        Self {
            up: Pipe::default(),
            down: Pipe::default(),
            end: ServerEnd::Door,
            peer,
            reset: false,
            full_in: 0,
            awaits_writable: false,
            reported: false,
            end_reported: false,
            offered_in: 0,
            taken: 0,
            read: 0,
            cuts: VecDeque::new(),
            luck,
        }
    }

    /// Returns the number of bytes that the server may send in this turn.
    pub fn room(&self, habits: &Net, turn: u64) -> usize {
        let is_full = self.full_in == turn;
        if is_full { 0 } else { (habits.window as usize).saturating_sub(self.down.full()) }
    }
}

/// A connection as its client and the oracle know it.
#[derive(Debug)]
pub struct Wire {
    pub member: u16,
    /// The shard that has the connection, or had it last.
    pub shard: u16,
    /// Whether the client has ended its side.
    pub ended: bool,
    /// The poller that opened the connection, if it was a poller.
    pub poller: Option<u16>,
    /// Whether the client has abandoned the connection.
    pub left: bool,
    /// Whether the client has broken the protocol. Its later packets need not be answered.
    pub spoiled: bool,
    /// Whether the connection was opened for an attack, so that no member waits for it.
    pub stray: bool,
    pub opened: u64,
    /// The Socket.IO id that the server assigned.
    pub sid: String,
    /// The session of its member, as the server acknowledged.
    pub seat: Option<u16>,
    /// The newest version that the server sent in this session.
    pub version: (u64, u64),
    pub packing: Packing,
    /// The seat that the client tries to recover.
    pub hope: Option<RecoveryClaim>,
    /// Calls without an answer.
    pub asks: Vec<PendingCall>,
    /// The times at which events were rejected for their rate.
    pub rejected: VecDeque<u64>,
    /// Positions in the stream to the server at which the client disconnects, which has no answer.
    pub marks: VecDeque<u64>,
    /// Number of bytes that earlier turns must have sent, without ticks.
    pub owed: u64,
    /// Number of bytes sent to the server so far.
    pub sent_up: u64,
    /// Number of bytes read by the server so far.
    pub read_up: u64,
    /// The time of the server's last ping, while its answer is outstanding.
    pub pinged: Option<u64>,
    /// Whether the server has said goodbye.
    pub dismissed: bool,
    /// Whether the server has upgraded the connection.
    pub upgraded: bool,
    pub spent: Spent,
}

/// The traffic of a connection without that of sessions. A client must not cause much of it with
/// little.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Number of packets of the client.
    pub packets: u64,
    /// Number of these that ask for the connection quality.
    pub questions: u64,
    /// Number of ping frames of the client.
    pub pings: u64,
    /// Number of messages of the server that concern this client alone.
    pub messages: u64,
    pub needless: u64,
    /// Number of messages that report the connection quality.
    pub reports: u64,
    /// Number of frames of the server that answer pings.
    pub pongs: u64,
    /// Number of pings of the application.
    pub beats: u64,
    /// The time of the last of these pings.
    pub beaten: Option<u64>,
    /// The time from which on all this is counted, in microseconds.
    pub since: u64,
}

impl Wire {
    /// Creates a connection of a member or a poller to a shard.
    pub fn new(member: u16, shard: u16, now: u64, stray: bool) -> Self {
        Self {
            member,
            shard,
            ended: false,
            poller: None,
            left: stray,
            spoiled: stray,
            stray,
            opened: now,
            sid: String::new(),
            seat: None,
            version: (0, 0),
            packing: Packing::default(),
            hope: None,
            asks: Vec::new(),
            rejected: VecDeque::new(),
            marks: VecDeque::new(),
            owed: 0,
            sent_up: 0,
            read_up: 0,
            pinged: None,
            dismissed: false,
            upgraded: false,
            spent: Spent::default(),
        }
    }
}

/// The compression of a connection's messages.
#[derive(Debug, Default)]
pub struct Packing {
    /// Compressed frames that were not read: their digests, and those of the decompressed frames.
    pub deflated: VecDeque<(u64, u64)>,
    /// The decompressor if compression was negotiated, and whether messages are independent.
    pub inflater: Option<(Box<Decompress>, bool)>,
}

impl Packing {
    /// Notes the compression in the server's answer to the upgrade.
    pub fn agree(&mut self, answer: &str) {
        if answer.contains("permessage-deflate") {
            let alone = answer.contains("server_no_context_takeover");
            self.inflater = Some((Box::new(Decompress::new(false)), alone));
        }
    }

    /// Decompresses a message of the server. Returns `None` if that is impossible.
    pub fn inflate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (inflater, alone) = self.inflater.as_mut()?;
        if *alone {
            inflater.reset(false);
        }
        let mut plain = Vec::with_capacity(4 * payload.len() + 1_024);
        for mut input in [payload, &[0, 0, 0xff, 0xff]] {
            while !input.is_empty() {
                let before = inflater.total_in();
                inflater.decompress_vec(input, &mut plain, FlushDecompress::Sync).ok()?;
                input = &input[(inflater.total_in() - before) as usize..];
                if plain.len() == plain.capacity() {
                    plain.reserve(plain.len());
                }
            }
        }
        Some(plain)
    }
}

/// The claim of a returning client to its seat.
#[derive(Clone, Debug)]
pub struct RecoveryClaim {
    pub sid: String,
    pub session: u16,
    /// The newest version that the client has seen.
    pub held: (u64, u64),
    /// The offset of the last event that the client has seen.
    pub offset: String,
    /// The number in this offset.
    pub seen: u64,
    /// Numbers of the events that the server sends again.
    pub resent: Vec<u64>,
    /// The time at which the last event that the client has seen was first sent.
    pub sent_at: u64,
    /// Number of bytes that all sessions had sent by then.
    pub sent_bytes: u64,
}

/// A call of a member without an answer.
#[derive(Clone, Debug)]
pub struct PendingCall {
    pub id: u64,
    pub session: u16,
    pub what: CallContent,
    /// The client's name of its command: the client, by member and page, and a number.
    pub command: Option<((u16, u16), u64)>,
    pub sent: u64,
    /// The position in the stream to the server at which the call ends.
    pub end: u64,
    /// The time at which the server read it.
    pub came: Option<u64>,
    /// The time after which the server must reject it.
    pub not_after: Option<u64>,
}

impl PendingCall {
    /// Creates a call that is no command, for a session.
    pub fn new(session: u16, what: CallContent, sent: u64) -> Self {
        Self { id: 0, session, what, command: None, sent, end: 0, came: None, not_after: None }
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: u64) -> bool {
        self.not_after.is_some_and(|limit| limit < now)
    }

    /// Returns the kind of value that may wait for its rate, if it is one. One of each kind can
    /// wait.
    pub fn kind(&self) -> Option<&'static str> {
        match &self.what {
            CallContent::Report(_) => Some("position_sync"),
            CallContent::Say(Say::Tempo { .. }, ..) => Some("set_tempo"),
            CallContent::Say(Say::Fade { real: false, .. }, ..) => Some("tempo_change"),
            CallContent::Say(Say::Fade { real: true, .. }, ..) => Some("tempo_changed"),
            CallContent::Say(Say::Seek { ahead: None, .. }, ..) => Some("seek"),
            _ => None,
        }
    }

    /// Whether another waiting value supersedes this one, because it was sent later or is a later
    /// command of the client.
    pub fn gives_way_to(&self, other: &Self) -> bool {
        let later = self
            .command
            .zip(other.command)
            .is_some_and(|(own, other)| own.0 == other.0 && own.1 <= other.1);
        self.kind() == other.kind()
            && self.session == other.session
            && (other.id > self.id || later)
    }
}

/// The tokens of a join: that of the seat, and the one that takes its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    pub token: Option<String>,
    pub new_token: Option<String>,
}

impl Tokens {
    /// The token of the seat once the join is accepted.
    pub fn next(&self) -> Option<&String> {
        self.new_token.as_ref().or(self.token.as_ref())
    }
}

/// The content of a call.
#[derive(Clone, Debug)]
pub enum CallContent {
    /// A join with its tokens.
    Join(super::plan::Join, Tokens),
    Leave,
    /// A command, with the time and the member that it names.
    Say(Say, Option<u64>, String),
    /// A report of the position.
    Report(u64),
    /// A question for the server's time.
    Clock,
    /// A call that must be rejected.
    Nonsense,
}
