//! Messages between nodes: one byte for the kind, then the fields in the format of
//! [postcard](https://postcard.jamesmunns.com/wire-format).
//!
//! Another program may have written them, so texts and sizes are checked like those of a client.
//! A message of an unknown kind is skipped: a later version of the program may send it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::speech::{LeaveReason, Member};
use crate::words::ids::{MemberId, SessionId};

/// Maximum size of a message in bytes. A record with its set list must fit.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Maximum number of entries in any list of a message.
pub const ENTRIES_MAX: usize = 4_096;

/// Maximum epoch: JSON carries integers up to here exactly.
const EPOCH_MAX: u64 = 1 << 53;

/// A message of another node.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// A branch names its members to the owner.
    Attach(Attach),
    /// A branch forwards a command.
    Say(Say<'a>),
    /// A branch forwards a `join_session`.
    Join(Say<'a>),
    /// A member of a branch has left.
    Part(Part),
    /// The owner's news for all branches.
    Bulletin(Bulletin<'a>),
    /// The owner's answer to one branch.
    Answer(Answer<'a>),
    /// A message is missing.
    Missing(Missing),
    /// The whole state, for one branch.
    State(State<'a>),
    /// A sign of life, with the newest bulletins.
    Pulse(Pulse),
    /// A new owner asks for the members of its sessions.
    RollCall(RollCall),
    /// A member of a branch came back on another connection.
    Evict(Evict),
    /// The owner gives a session up.
    Moved(Moved),
}

/// The members of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// The session.
    pub session: SessionId,
    /// The newest epoch that the branch knows.
    pub epoch: u64,
    /// The number before that of the branch's first command without an answer.
    pub up: u64,
    /// The members that are connected there.
    pub members: Vec<Present>,
    /// The screens that are connected there.
    pub screens: Vec<MemberId>,
}

/// A member that is connected to a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Present {
    /// The member.
    pub member: Member,
    /// Whether it may edit the set list.
    pub may_edit: bool,
    /// Whether it has shown the leader PIN.
    pub knows_pin: bool,
    /// Whether it wants `metronome_tick`.
    pub metronome: bool,
    /// Ticks per second that it wants. `None`: all.
    pub tick_hz: Option<u8>,
}

/// An event of a member of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Say<'a> {
    /// The session.
    pub session: SessionId,
    /// The number of the command on this branch.
    pub up: u64,
    /// The member.
    pub member: MemberId,
    /// The member's address.
    pub peer: IpAddr,
    /// The event's name.
    pub event: &'a str,
    /// The JSON of its first argument.
    pub payload: &'a str,
    /// Whether the client wants an acknowledgement.
    pub wants_ack: bool,
}

/// The leave of a member of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The session.
    pub session: SessionId,
    /// The number of the command on this branch.
    pub up: u64,
    /// The member.
    pub member: MemberId,
    /// The index of the reason in [`LeaveReason::ALL`].
    pub reason: u8,
}

impl Part {
    /// Returns the reason for which the member left.
    pub fn reason(&self) -> LeaveReason {
        let known = LeaveReason::ALL.get(usize::from(self.reason));
        known.copied().unwrap_or(LeaveReason::TransportClosed)
    }

    /// Returns the index of a reason.
    pub fn index_of(reason: LeaveReason) -> u8 {
        LeaveReason::ALL.iter().position(|other| *other == reason).unwrap_or(0) as u8
    }
}

/// The news of a session. The fields before and after the record are written separately, because
/// the record is also what is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bulletin<'a> {
    /// The session.
    pub session: SessionId,
    /// The session's epoch.
    pub epoch: u64,
    /// The number of the bulletin in this epoch, from 1 on.
    pub seq: u64,
    /// The session's record; empty if it did not change.
    pub record: &'a [u8],
    /// Outcomes of commands of all branches.
    #[serde(borrow)]
    pub outcomes: Vec<Outcome<'a>>,
    /// The packets, in order.
    #[serde(borrow)]
    pub packets: Vec<Packet<'a>>,
    /// The numbers of the last commands that the owner has handled, by node.
    pub heard: Vec<Heard>,
}

/// The fields of a bulletin before the record.
#[derive(Serialize)]
struct BulletinHead<'a> {
    session: &'a SessionId,
    epoch: u64,
    seq: u64,
    record_bytes: u32,
}

/// The number of the last command of a node that the owner has handled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// The node's number.
    pub number: u16,
    /// The node's incarnation.
    pub incarnation: u64,
    /// The number of the command.
    pub up: u64,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome<'a> {
    /// The number of the node whose command it was.
    pub node: u16,
    /// The number of the command.
    pub up: u64,
    /// Whether the command was carried out.
    pub ok: bool,
    /// The arguments of the acknowledgement as JSON, or the packet of an `error` if the client
    /// wanted none. Empty if there is nothing to send.
    pub text: &'a str,
}

/// The members that receive a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Hearers {
    /// All.
    All,
    /// All except this one.
    Others(MemberId),
    /// This one.
    One(MemberId),
}

/// A packet for members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packet<'a> {
    /// The members that receive it.
    pub to: Hearers,
    /// The packet's place in the replay log.
    pub place: PacketPlace,
    /// The packet.
    pub text: &'a str,
}

/// The place of a packet in the replay log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum PacketPlace {
    /// None: the packet has no offset.
    Nowhere,
    /// That of the newest packet: a snapshot contains all of them.
    Newest,
    /// A new one.
    Next,
}

/// The outcome of a command that changed nothing for others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<'a> {
    /// The session.
    pub session: SessionId,
    /// The session's epoch.
    pub epoch: u64,
    /// The outcome.
    #[serde(borrow)]
    pub outcome: Outcome<'a>,
}

/// A request to send messages again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// The session.
    pub session: SessionId,
    /// The session's epoch.
    pub epoch: u64,
    /// The number of the last message that arrived: of a bulletin if a branch asks, of a command if
    /// the owner asks.
    pub after: u64,
}

/// The whole state of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State<'a> {
    /// The session.
    pub session: SessionId,
    /// The session's epoch.
    pub epoch: u64,
    /// The number of the last bulletin.
    pub seq: u64,
    /// The record.
    pub record: &'a [u8],
    /// The packet of a snapshot.
    pub snapshot: &'a str,
    /// The numbers of the last commands that the owner has handled, by node.
    pub heard: Vec<Heard>,
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// Tag, epoch and last bulletin of sessions that the sender owns.
    pub sessions: Vec<(u64, u64, u64)>,
    /// Tags of sessions of which the sender has a branch with members.
    pub branches: Vec<u64>,
}

/// The sessions that a node has taken over, with their new epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollCall {
    /// The sessions.
    pub sessions: Vec<(SessionId, u64)>,
}

/// The end of a member's seat on a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evict {
    /// The session.
    pub session: SessionId,
    /// The member.
    pub member: MemberId,
}

/// The end of an ownership: the node that is named claims the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The session.
    pub session: SessionId,
    /// The epoch in which the sender owned it.
    pub epoch: u64,
    /// The number of the next owner.
    pub to: u16,
}

/// The reason why bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// The kind is unknown.
    Kind(u8),
    /// The fields are damaged or out of bounds.
    Fields,
}

const ATTACH: u8 = 1;
const SAY: u8 = 2;
const JOIN: u8 = 3;
const PART: u8 = 4;
const BULLETIN: u8 = 5;
const ANSWER: u8 = 6;
const MISSING: u8 = 7;
const STATE: u8 = 8;
const PULSE: u8 = 9;
const ROLL_CALL: u8 = 10;
const EVICT: u8 = 11;
const MOVED: u8 = 14;

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// If the kind is unknown, the fields are damaged, or a value is out of bounds.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let (kind, fields) = bytes.split_first().ok_or(Unreadable::Fields)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Unreadable::Fields);
        }
        let message = match *kind {
            ATTACH => Self::Attach(read(fields)?),
            SAY => Self::Say(read(fields)?),
            JOIN => Self::Join(read(fields)?),
            PART => Self::Part(read(fields)?),
            BULLETIN => Self::Bulletin(read(fields)?),
            ANSWER => Self::Answer(read(fields)?),
            MISSING => Self::Missing(read(fields)?),
            STATE => Self::State(read(fields)?),
            PULSE => Self::Pulse(read(fields)?),
            ROLL_CALL => Self::RollCall(read(fields)?),
            EVICT => Self::Evict(read(fields)?),
            MOVED => Self::Moved(read(fields)?),
            kind => return Err(Unreadable::Kind(kind)),
        };
        if message.is_sound() { Ok(message) } else { Err(Unreadable::Fields) }
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Attach(fields) => write(ATTACH, fields, out),
            Self::Say(fields) => write(SAY, fields, out),
            Self::Join(fields) => write(JOIN, fields, out),
            Self::Part(fields) => write(PART, fields, out),
            Self::Bulletin(fields) => write(BULLETIN, fields, out),
            Self::Answer(fields) => write(ANSWER, fields, out),
            Self::Missing(fields) => write(MISSING, fields, out),
            Self::State(fields) => write(STATE, fields, out),
            Self::Pulse(fields) => write(PULSE, fields, out),
            Self::RollCall(fields) => write(ROLL_CALL, fields, out),
            Self::Evict(fields) => write(EVICT, fields, out),
            Self::Moved(fields) => write(MOVED, fields, out),
        }
    }

    /// Whether all values are within the bounds that the rooms rely on.
    fn is_sound(&self) -> bool {
        let is_epoch = |epoch: u64| epoch < EPOCH_MAX;
        match self {
            Self::Attach(Attach { session, epoch, members, screens, .. }) => {
                is_session(session)
                    && is_epoch(*epoch)
                    && members.len() <= ENTRIES_MAX
                    && screens.len() <= ENTRIES_MAX
                    && screens.iter().all(|screen| is_member(*screen))
                    && members.iter().all(Present::is_sound)
            }
            Self::Say(say) | Self::Join(say) => is_session(&say.session) && is_member(say.member),
            Self::Part(Part { session, member, .. }) | Self::Evict(Evict { session, member }) => {
                is_session(session) && is_member(*member)
            }
            Self::Bulletin(bulletin) => {
                is_session(&bulletin.session)
                    && is_epoch(bulletin.epoch)
                    && bulletin.heard.len() <= ENTRIES_MAX
                    && bulletin.outcomes.iter().all(Outcome::is_sound)
                    && bulletin.packets.iter().all(|packet| is_event(packet.text))
            }
            Self::Answer(Answer { session, epoch, outcome }) => {
                is_session(session) && is_epoch(*epoch) && outcome.is_sound()
            }
            Self::Missing(Missing { session, epoch, .. })
            | Self::Moved(Moved { session, epoch, .. }) => is_session(session) && is_epoch(*epoch),
            Self::State(state) => {
                is_session(&state.session)
                    && is_epoch(state.epoch)
                    && state.heard.len() <= ENTRIES_MAX
                    && is_event(state.snapshot)
            }
            Self::Pulse(Pulse { sessions, branches }) => {
                sessions.len() <= ENTRIES_MAX
                    && branches.len() <= ENTRIES_MAX
                    && sessions.iter().all(|(_, epoch, _)| is_epoch(*epoch))
            }
            Self::RollCall(RollCall { sessions }) => {
                sessions.len() <= ENTRIES_MAX
                    && sessions
                        .iter()
                        .all(|(session, epoch)| is_session(session) && is_epoch(*epoch))
            }
        }
    }
}

impl Bulletin<'_> {
    /// Appends the part before the record to `head`, and the part after it to `tail`, for a record
    /// of `record_bytes` bytes.
    pub fn write_around(&self, record_bytes: usize, head: &mut Vec<u8>, tail: &mut Vec<u8>) {
        let Self { session, epoch, seq, outcomes, packets, heard, .. } = self;
        let record_bytes = record_bytes as u32;
        let before = BulletinHead { session, epoch: *epoch, seq: *seq, record_bytes };
        write(BULLETIN, &before, head);
        append(&(outcomes, packets, heard), tail);
    }
}

impl Present {
    fn is_sound(&self) -> bool {
        let short = |text: &str| text.chars().count() <= 64 && !text.contains(char::is_control);
        is_member(self.member.id)
            && short(&self.member.display_name)
            && self.member.instrument.as_deref().is_none_or(short)
            && self.tick_hz.is_none_or(|hz| hz <= 125)
    }
}

impl Outcome<'_> {
    fn is_sound(&self) -> bool {
        let is_array = self.text.starts_with('[') && self.text.ends_with(']');
        self.text.is_empty() || is_array || is_event(self.text)
    }
}

fn is_session(session: &SessionId) -> bool {
    SessionId::parse(session.as_str()).is_some_and(|parsed| parsed == *session)
}

fn is_member(member: MemberId) -> bool {
    MemberId::parse(member.as_str()).is_some()
}

/// Whether a text is a Socket.IO event in the main namespace, as far as its ends show.
fn is_event(text: &str) -> bool {
    text.starts_with("42[\"") && text.ends_with(']')
}

fn read<'a, T: Deserialize<'a>>(fields: &'a [u8]) -> Result<T, Unreadable> {
    // Fields that a later version appends are ignored.
    let read = postcard::take_from_bytes(fields);
    read.map(|(value, _)| value).map_err(|_| Unreadable::Fields)
}

fn write(kind: u8, fields: &impl Serialize, out: &mut Vec<u8>) {
    out.push(kind);
    append(fields, out);
}

fn append(fields: &impl Serialize, out: &mut Vec<u8>) {
    let written = postcard::to_extend(fields, std::mem::take(out));
    // Writing plain values to a vector cannot fail.
    *out = written.unwrap_or_default();
    assert!(!out.is_empty(), "plain values can be written");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::speech::Role;
    use crate::words::time::UnixMillis;
    use proptest::prelude::*;

    const ANN: MemberId = MemberId::from_bytes([1; 15]);

    fn session() -> SessionId {
        SessionId::parse("Gröndal 🎸").unwrap()
    }

    fn present() -> Present {
        let member = Member {
            id: ANN,
            display_name: "Ann".into(),
            role: Role::Leader,
            joined_at: UnixMillis(1),
            last_ping_at: UnixMillis(2),
            instrument: Some("oboe".into()),
            connected: true,
            may_edit: false,
        };
        Present { member, may_edit: true, knows_pin: true, metronome: false, tick_hz: Some(30) }
    }

    fn say(payload: &str) -> Say<'_> {
        let peer = [127, 0, 0, 1].into();
        let (session, event) = (session(), "play");
        Say { session, up: 7, member: ANN, peer, event, payload, wants_ack: true }
    }

    fn bulletin<'a>(record: &'a [u8], text: &'a str) -> Bulletin<'a> {
        Bulletin {
            session: session(),
            epoch: 1 << 52,
            seq: 9,
            record,
            outcomes: vec![Outcome { node: 2, up: 4, ok: true, text: "[{}]" }],
            packets: vec![
                Packet { to: Hearers::All, place: PacketPlace::Next, text },
                Packet { to: Hearers::One(ANN), place: PacketPlace::Newest, text },
            ],
            heard: vec![Heard { number: 2, incarnation: u64::MAX, up: 4 }],
        }
    }

    fn all() -> Vec<Message<'static>> {
        let (session, epoch) = (session(), 5);
        vec![
            Message::Attach(Attach {
                session: session.clone(),
                epoch,
                up: 3,
                members: vec![present()],
                screens: vec![ANN],
            }),
            Message::Say(say(r#"{"sessionId":"s"}"#)),
            Message::Join(say("{}")),
            Message::Part(Part { session: session.clone(), up: 8, member: ANN, reason: 2 }),
            Message::Bulletin(bulletin(b"record", r#"42["play",{}]"#)),
            Message::Answer(Answer {
                session: session.clone(),
                epoch,
                outcome: Outcome { node: 1, up: 2, ok: false, text: "" },
            }),
            Message::Missing(Missing { session: session.clone(), epoch, after: 4 }),
            Message::State(State {
                session: session.clone(),
                epoch,
                seq: 2,
                record: b"",
                snapshot: r#"42["snapshot",{}]"#,
                heard: Vec::new(),
            }),
            Message::Pulse(Pulse { sessions: vec![(u64::MAX, epoch, 1)], branches: vec![7] }),
            Message::RollCall(RollCall { sessions: vec![(session.clone(), epoch)] }),
            Message::Evict(Evict { session: session.clone(), member: ANN }),
            Message::Moved(Moved { session, epoch, to: 3 }),
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for message in all() {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::read(&bytes), Ok(message.clone()));
            for cut in 0..bytes.len() {
                assert!(Message::read(&bytes[..cut]).is_err(), "{message:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_later_version_may_append_fields_and_add_kinds() {
        let message = Message::Evict(Evict { session: session(), member: ANN });
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        bytes.extend_from_slice(b"more");
        assert_eq!(Message::read(&bytes), Ok(message));
        assert_eq!(Message::read(&[99, 1, 2]), Err(Unreadable::Kind(99)));
        assert_eq!(Message::read(&[]), Err(Unreadable::Fields));
    }

    #[test]
    fn texts_that_no_server_prints_are_rejected() {
        let rejected = |message: Message<'_>| {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(Message::read(&bytes), Err(Unreadable::Fields), "{message:?}");
        };
        rejected(Message::Bulletin(bulletin(b"", "2probe")));
        let outcome = Outcome { node: 1, up: 1, ok: true, text: "41" };
        rejected(Message::Answer(Answer { session: session(), epoch: 1, outcome }));
        let (session, far) = (session(), 1 << 53);
        rejected(Message::Missing(Missing { session: session.clone(), epoch: far, after: 0 }));
        let mut long = present();
        long.member.display_name = "x".repeat(65).into();
        let members = vec![long];
        let screens = Vec::new();
        rejected(Message::Attach(Attach { session, epoch: 1, up: 0, members, screens }));
    }

    proptest! {
        #[test]
        fn a_bulletin_around_its_record_is_the_bulletin(
            record in prop::collection::vec(any::<u8>(), 0..300),
            text in "42\\[\"[a-z]{1,9}\"\\]",
        ) {
            let whole = bulletin(&record, &text);
            let (mut head, mut tail, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            whole.write_around(record.len(), &mut head, &mut tail);
            Message::Bulletin(whole).write(&mut bytes);
            prop_assert_eq!([&head[..], &record, &tail].concat(), bytes);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&bytes);
        }

        #[test]
        fn a_changed_message_is_read_or_rejected(
            which in 0..12_usize,
            at in any::<prop::sample::Index>(),
            value: u8,
        ) {
            let mut bytes = Vec::new();
            all()[which].write(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = Message::read(&bytes);
        }
    }
}
