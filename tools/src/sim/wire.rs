//! Connections: two streams of bytes, each with delay, pieces, stalls, holes and a window, and
//! nothing reordered.

use std::collections::VecDeque;
use std::net::IpAddr;

use bandsync_engine::words::ids::ConnId;
use flate2::{Decompress, FlushDecompress};

use super::plan::{Net, Say};
use super::rng::SimRng;

/// Pieces that what is sent at once is cut into.
const PIECES_MAX: u32 = 24;

/// What flows in one direction.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Everything that was sent and not read, what arrived in front.
    bytes: Vec<u8>,
    /// So much at the front was read already.
    read: usize,
    /// So much behind that has arrived.
    arrived: usize,
    /// When what follows arrives, in pieces.
    under_way: VecDeque<(u64, u32)>,
    /// When the last piece arrives.
    last: u64,
    /// Nothing arrives before.
    stalled_until: u64,
    /// Nothing arrives any more.
    hole: bool,
    /// The sender has ended the stream.
    ended: bool,
    /// When somebody is to look at it next.
    look_at: Option<u64>,
    /// How much longer than the network's delay it takes.
    pub detour: u64,
}

impl Pipe {
    /// Sends bytes; they will arrive at the time returned.
    pub fn send(&mut self, now: u64, bytes: &[u8], net: &Net, luck: &mut SimRng) -> u64 {
        self.bytes.extend_from_slice(bytes);
        let mut left = bytes.len();
        let (mut first, mut cut) = (u64::MAX, 0);
        while left > 0 {
            cut += 1;
            let piece = match net.chop {
                0 => left,
                // Enough to fall between any two fields of the first frames; what follows would
                // only cost time.
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

    /// Ends the stream behind what was sent.
    pub fn end(&mut self, now: u64, net: &Net) -> u64 {
        self.ended = true;
        self.last = self.last.max(now + net.delay + self.detour);
        self.last
    }

    /// Wants to be looked at by then. The time, if nobody would before.
    pub fn look(&mut self, at: u64) -> Option<u64> {
        let sooner = self.look_at.is_none_or(|planned| at < planned);
        sooner.then(|| *self.look_at.insert(at))
    }

    /// Lets arrive what is due. Returns when to look again, if something is left.
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

    /// What has arrived and was not read.
    pub fn here(&self) -> &[u8] {
        &self.bytes[self.read..self.read + self.arrived]
    }

    /// Notes that so much of it was read.
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

    /// Bytes that are under way or not read.
    pub fn full(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether everything was read and the end has arrived.
    pub fn is_over(&self, now: u64) -> bool {
        self.ended
            && !self.hole
            && self.full() == 0
            && self.last <= now
            && self.stalled_until <= now
    }

    /// Whether the end has arrived, perhaps behind bytes that were not read.
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

    /// The stall is over; returns when to look.
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
pub enum Place {
    /// Waits to be accepted.
    Door,
    /// On this shard, under this id.
    Shard(u16, ConnId),
    /// Between two shards.
    Mail,
    /// The server has closed it.
    Gone,
}

/// A connection, as the network knows it.
#[derive(Debug)]
pub struct Cable {
    /// To the server and to the client.
    pub up: Pipe,
    pub down: Pipe,
    pub place: Place,
    pub peer: IpAddr,
    /// Broken, as both ends will notice.
    pub reset: bool,
    /// The turn in which it takes no more, although there is room.
    pub full_in: u64,
    /// Whether its shard is to hear of room, and whether something is to be reported to it.
    pub awaits_room: bool,
    pub reported: bool,
    /// Whether its shard was told that the client's end has arrived. Like epoll, the net reports
    /// that once.
    pub end_reported: bool,
    /// The last turn in which bytes were offered.
    pub offered_in: u64,
    /// Bytes that were taken from the server, without ticks that were offered whole.
    pub taken: u64,
    /// Bytes that the server has read, and where reads end.
    pub read: u64,
    pub cuts: VecDeque<u64>,
    pub luck: SimRng,
}

impl Cable {
    /// A connection that waits to be accepted.
    pub fn new(peer: IpAddr, luck: SimRng) -> Self {
        Self {
            up: Pipe::default(),
            down: Pipe::default(),
            place: Place::Door,
            peer,
            reset: false,
            full_in: 0,
            awaits_room: false,
            reported: false,
            end_reported: false,
            offered_in: 0,
            taken: 0,
            read: 0,
            cuts: VecDeque::new(),
            luck,
        }
    }

    /// Bytes that the server may send in this turn.
    pub fn room(&self, habits: &Net, turn: u64) -> usize {
        let is_full = self.full_in == turn;
        if is_full { 0 } else { (habits.window as usize).saturating_sub(self.down.full()) }
    }
}

/// A connection, as its client and the oracle know it.
#[derive(Debug)]
pub struct Wire {
    pub member: u16,
    /// The shard that has it, or had it last.
    pub shard: u16,
    /// The client has ended its side.
    pub ended: bool,
    /// Whose it is, if that is somebody who polls.
    pub poller: Option<u16>,
    /// The client has let go of it.
    pub left: bool,
    /// The client has sent what is no protocol: what it says after that need not be answered.
    pub spoiled: bool,
    /// Opened for mischief; no member waits for it.
    pub stray: bool,
    pub opened: u64,
    /// The Socket.IO id that the server gave.
    pub sid: String,
    /// The session it is in, by what the server acknowledged.
    pub seat: Option<u16>,
    /// The newest state that the server sent it in this session.
    pub told: (u64, u64),
    pub packing: Packing,
    /// Whom the client hopes to be again.
    pub hope: Option<Hope>,
    /// Asked and not answered.
    pub asks: Vec<Ask>,
    /// When events were rejected for their rate.
    pub rejected: VecDeque<u64>,
    /// Where in the stream to the server something happens without an answer, and whether it is a
    /// disconnect.
    pub marks: VecDeque<u64>,
    /// Bytes that the server's driver was given for it in turns that are over, without ticks.
    pub owed: u64,
    /// Bytes sent to and read by the server so far.
    pub sent_up: u64,
    pub read_up: u64,
    /// When the server pinged last, and whether it waits.
    pub pinged: Option<u64>,
    /// The server has said goodbye.
    pub dismissed: bool,
    /// When the server is done with the head of a request.
    pub upgraded: bool,
    pub spent: Spent,
}

/// What was said on a connection, besides what sessions say: what costs a client nothing must not
/// cost much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// By the client: packets, of that questions for its quality, and frames that ping.
    pub packets: u64,
    pub questions: u64,
    pub pings: u64,
    /// By the server: what concerns this client alone, of that reports of its quality, and frames
    /// that answer pings.
    pub told: u64,
    pub needless: u64,
    pub reports: u64,
    pub pongs: u64,
    /// Pings of the application, and when the last was.
    pub beats: u64,
    pub beaten: Option<u64>,
    /// Since when, in microseconds.
    pub since: u64,
}

impl Wire {
    /// A connection that a member or a poller opens to a shard.
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
            told: (0, 0),
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

/// How a connection's messages are compressed.
#[derive(Debug, Default)]
pub struct Packing {
    /// The frames that are compressed and were not read: digests of them, and of them when
    /// unpacked.
    pub deflated: VecDeque<(u64, u64)>,
    /// Unpacks, since that was agreed on, and whether each message stands alone.
    pub inflater: Option<(Box<Decompress>, bool)>,
}

impl Packing {
    /// The server has upgraded the connection, with this answer.
    pub fn agree(&mut self, answer: &str) {
        if answer.contains("permessage-deflate") {
            let alone = answer.contains("server_no_context_takeover");
            self.inflater = Some((Box::new(Decompress::new(false)), alone));
        }
    }

    /// What the server has compressed, `None` if nobody could tell.
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

/// What a client that comes back says of who it was.
#[derive(Clone, Debug)]
pub struct Hope {
    pub sid: String,
    pub session: u16,
    /// The newest state that it has seen.
    pub held: (u64, u64),
    /// Where the last event that it has seen stands, the number of that, and those that it is told
    /// again.
    pub offset: String,
    pub seen: u64,
    pub told: Vec<u64>,
    /// When the last event that it has seen was first told, and what all sessions had told by then,
    /// in bytes.
    pub told_at: u64,
    pub told_bytes: u64,
}

/// What a member wants answered.
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: u64,
    pub session: u16,
    pub what: Asked,
    /// What a client calls its command: which client, by member and page, and the number.
    pub command: Option<((u16, u16), u64)>,
    pub sent: u64,
    /// Where it ends in the stream to the server, and when it was read there.
    pub end: u64,
    pub came: Option<u64>,
}

impl Ask {
    /// Which values may wait for room, one of each kind.
    pub fn kind(&self) -> Option<&'static str> {
        match &self.what {
            Asked::Report(_) => Some("position_sync"),
            Asked::Say(Say::Tempo { .. }, ..) => Some("set_tempo"),
            Asked::Say(Say::Fade { real: false, .. }, ..) => Some("tempo_change"),
            Asked::Say(Say::Fade { real: true, .. }, ..) => Some("tempo_changed"),
            Asked::Say(Say::Seek { ahead: None, .. }, ..) => Some("seek"),
            _ => None,
        }
    }

    /// Whether another one that waits makes this one needless: it was sent later, or is a later
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

/// What was asked.
#[derive(Clone, Debug)]
pub enum Asked {
    Join(super::plan::Join),
    Leave,
    /// With the instant and the member that it names.
    Say(Say, Option<u64>, String),
    /// A report of the place.
    Report(u64),
    /// The server's time.
    Clock,
    /// Something that no server may agree to.
    Nonsense,
}
