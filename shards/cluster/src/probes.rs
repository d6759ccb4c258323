//! Probes: the thread that asks the reference for its time, and answers other nodes.
//!
//! It has a connection of its own, so that no commit delays a stamp. Probes arrive at the inbox,
//! which stamps them before anything else.

use std::sync::Arc;
use std::time::Duration;

use bandsync_engine::io::NodeId;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, cmd};

use crate::clock::{Asked, Exchange, Keeper, Message};
use crate::frame::{self, Seal, Target};
use crate::line::{Fresh, Open};
use crate::meters::add;
use crate::names::Names;
use crate::reply::Trouble;
use crate::shared::Shared;

/// The bucket whose channel carries probes.
pub const BUCKET: u16 = 0;

/// Maximum number of probes of other nodes that wait for an answer. One more is dropped: the node
/// asks again.
pub const WAITING_MAX: usize = 256;

/// The longest sleep of the thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The parts of a node that messages about clocks are made from.
pub struct Sender<'a> {
    /// The clock.
    pub keeper: &'a Keeper,
    /// The names of channels.
    pub names: &'a Names,
    /// The keyed hash.
    pub seal: &'a Seal,
    /// This node.
    pub node: NodeId,
}

impl Sender<'_> {
    /// Returns the command that sends a message to a node.
    pub fn command(&self, publish: &str, to: u16, message: Message) -> Cmd {
        let sender = (self.node, self.keeper.next_counter());
        let frame = frame::frame(self.seal, sender, Target::Clock, BUCKET, &message.print());
        let mut command = cmd(publish);
        command.arg(self.names.inbox(BUCKET, to)).arg(frame);
        command
    }
}

/// Asks and answers until `asked` is closed or the node ends.
pub fn run(shared: &Arc<Shared>, asked: &Receiver<Option<Asked>>) {
    let mut line = shared.line(shared.routes.lane(BUCKET));
    while !shared.has_ended() {
        let machine = shared.clock.machine();
        let left = shared.clock.next_probe().map_or(i64::MAX, |at| at.saturating_sub(machine));
        let wait = Duration::from_nanos(left.max(0) as u64).min(SLEEP_MAX);
        let probe = match asked.recv_timeout(wait) {
            Ok(probe) => probe,
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        line.renew(shared.endpoint(shared.routes.lane(BUCKET)));
        let Ok((open, fresh)) = line.open() else { continue };
        if fresh == Fresh::Again {
            add(&shared.meters().reconnects, 1);
            shared.clock.refresh();
        }
        match send(shared, open, probe) {
            Ok(()) => line.works(),
            Err(Trouble::Elsewhere { .. }) => shared.learn(),
            Err(Trouble::Lost(_) | Trouble::NotPrimary(_)) => line.fail(),
            // Whoever asked asks again.
            Err(_) => {}
        }
    }
}

/// Answers a probe, and sends the own one that is due.
fn send(shared: &Shared, open: &mut Open, probe: Option<Asked>) -> Result<(), Trouble> {
    let sender = Sender {
        keeper: &shared.clock,
        names: &shared.names,
        seal: &shared.seal,
        node: shared.node,
    };
    let mut ask = |to: u16, message: Message| {
        let command = sender.command(open.publish(), to, message);
        let answer = open.ask_one(command).and_then(|answer| answer);
        answer.map(drop).map_err(|error| Trouble::of(&error))
    };
    // A node that is no reference may glide, and its time would not be that of the cluster.
    if let Some(Asked { from, c0, arrived }) = probe.filter(|_| shared.clock.is_reference()) {
        let (s1, s2) = (shared.clock.shown(arrived), shared.clock.shown(shared.clock.machine()));
        ask(from.number, Message::Echo { c0, s1, s2 })?;
    }
    match shared.clock.take_probe() {
        Some((node, c0)) => ask(node.number, Message::Probe { c0 }),
        None => Ok(()),
    }
}

/// Takes a message about clocks that arrived at a machine's time.
pub fn take(shared: &Shared, from: NodeId, body: &[u8], arrived: i64) {
    match Message::read(body) {
        Some(Message::Probe { c0 }) => {
            // A full channel has enough to answer.
            let _ = shared.asked.try_send(Some(Asked { from, c0, arrived }));
        }
        Some(Message::Echo { c0, s1, s2 }) => {
            shared.clock.answered(from, Exchange { c0, s1, s2, c3: arrived });
        }
        None => add(&shared.meters().dropped_malformed, 1),
    }
}
