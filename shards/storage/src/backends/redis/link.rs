//! Connections to Redis: one to a server or a primary, or one to each primary of a Cluster.
//!
//! Each command gets its own outcome, so that commands that were carried out count even if others
//! failed. A connection in trouble is closed: a late answer must not be taken for that of another
//! command.

use std::io;
use std::time::{Duration, Instant};

use bandsync_redis::{
    Answer, Endpoint, Range, SLOTS, Topology, covers_all, elsewhere, host_of, is_unreadable, lost,
    open, open_primary, ranges, receive, redirection, slot_of,
};
use log::info;
use redis::{Cmd, Connection, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value, cmd};

/// Time limit of a batch's answers, in time limits of one answer. It ends a server that sends a
/// byte now and then.
const BATCH_FACTOR: u32 = 3;

/// Maximum redirections that a command follows.
const REDIRECTS_MAX: usize = 3;

/// A command with its key.
pub struct Request {
    /// The key that chooses the node.
    pub key: String,
    /// The command.
    pub command: Cmd,
}

impl Request {
    /// Creates a request for this key.
    pub fn new(key: impl Into<String>, command: Cmd) -> Self {
        Self { key: key.into(), command }
    }
}

/// The connections for operations.
pub struct Link {
    endpoint: Endpoint,
    nodes: Vec<Node>,
    /// First slot, last slot and index of their node; empty if this is not a Cluster.
    slots: Vec<(u16, u16, usize)>,
    /// Whether the keys of one command must be in one slot.
    has_slots: bool,
}

struct Node {
    info: ConnectionInfo,
    connection: Option<Connection>,
}

impl Link {
    /// Connects to every node that accepts writes.
    pub fn open(endpoint: &Endpoint) -> RedisResult<Self> {
        let mut link = Self {
            endpoint: endpoint.clone(),
            nodes: Vec::new(),
            slots: Vec::new(),
            has_slots: false,
        };
        if let Topology::Cluster(_) = endpoint.topology {
            link.learn_slots()?;
        } else {
            let (info, connection) = open_primary(endpoint)?;
            link.nodes.push(Node { info, connection: Some(connection) });
            if let Topology::Single(_) = endpoint.topology {
                link.look_for_cluster()?;
            }
        }
        for node in &mut link.nodes {
            node.connected(endpoint.timeout)?;
        }
        Ok(link)
    }

    /// Asks the only known server whether it is a node of a Cluster, and finds the others if it is.
    /// A node that has all slots is used by itself: the others may know it under an address that is
    /// not reachable from here.
    fn look_for_cluster(&mut self) -> RedisResult<()> {
        let Some(node) = self.nodes.first_mut() else { return Ok(()) };
        let info = node.info.clone();
        let connection = node.connected(self.endpoint.timeout)?;
        let answer = match cmd("CLUSTER").arg("SLOTS").query::<Value>(connection) {
            Ok(answer) => answer,
            Err(error) => {
                // A server that does not know Clusters may close the connection over the question.
                if error.code().is_none() {
                    node.connection = None;
                }
                return Ok(());
            }
        };
        let ranges = ranges(&answer, &info);
        self.has_slots = !ranges.is_empty();
        let is_spread = ranges.iter().any(|(_, _, other)| other.addr() != ranges[0].2.addr());
        if !is_spread || !covers_all(&ranges) {
            return Ok(());
        }
        self.be_cluster(&info);
        self.take_slots(ranges);
        info!(
            "{} is a node of a Redis Cluster: using all its {} primaries",
            info.addr(),
            self.nodes.len()
        );
        Ok(())
    }

    /// Treats the only known server as one of many from now on.
    fn be_cluster(&mut self, seed: &ConnectionInfo) {
        self.endpoint.topology = Topology::Cluster(vec![seed.clone()]);
    }

    /// Returns the nodes of a Cluster that was found from a single named server.
    pub fn found_nodes(&self) -> Option<Vec<ConnectionInfo>> {
        let nodes = || self.nodes.iter().map(|node| node.info.clone()).collect();
        matches!(self.endpoint.topology, Topology::Cluster(_)).then(nodes)
    }

    /// Returns the key to which one command can move the data of a key: `quarantine:<key>`, or in a
    /// Cluster a similar key in the same slot.
    pub fn key_aside(&self, key: &str, same_slot: bool) -> String {
        let plain = format!("quarantine:{key}");
        if !same_slot && !self.has_slots && self.slots.is_empty() {
            return plain;
        }
        let slot = slot_of(key.as_bytes());
        let tagged = (0..).map(|n: u32| format!("quarantine:{{{n}}}:{key}"));
        let mut names = [plain, format!("quarantine:{{{key}}}")].into_iter().chain(tagged);
        // Among enough numbers, one lands in every slot.
        names.find(|name| slot_of(name.as_bytes()) == slot).unwrap_or_default()
    }

    /// Returns a key with this prefix for each node.
    pub fn key_on_each(&self, name: &str) -> Vec<String> {
        let on = |node: usize| {
            let numbered = |n| if n == 0 { name.to_owned() } else { format!("{name}:{n}") };
            (0..SLOTS).map(numbered).find(|key| self.node_of(key) == Some(node))
        };
        (0..self.nodes.len()).filter_map(on).collect()
    }

    /// Sends commands, those of a node at once, and returns their answers in the order of the
    /// commands. An answer counts once `replicas` replicas have everything that was written before
    /// it.
    pub fn ask(&mut self, requests: &[Request], replicas: u32) -> Vec<Answer> {
        let began = Instant::now();
        let mut answers: Vec<Answer> = requests.iter().map(|_| Err(lost())).collect();
        let mut open: Vec<usize> = (0..requests.len()).collect();
        // An unreadable answer ends its connection. The other commands are sent again, so that it
        // affects its own command only.
        while !open.is_empty() && began.elapsed() < self.endpoint.timeout * BATCH_FACTOR {
            open = self.ask_once(requests, &open, &mut answers, replicas, began);
        }
        for (request, answer) in requests.iter().zip(&mut answers) {
            self.follow(request, answer, replicas);
        }
        answers
    }

    /// Sends the commands that are still `open`, and receives their answers. Returns those that got
    /// none because another's answer was unreadable.
    fn ask_once(
        &mut self,
        requests: &[Request],
        open: &[usize],
        answers: &mut [Answer],
        replicas: u32,
        began: Instant,
    ) -> Vec<usize> {
        let at = open
            .iter()
            .map(|index| (*index, self.node_of(&requests[*index].key)))
            .collect::<Vec<_>>();
        let indices: Vec<Vec<usize>> = (0..self.nodes.len())
            .map(|n| {
                at.iter().filter(|(_, node)| *node == Some(n)).map(|(index, _)| *index).collect()
            })
            .collect();
        // Send to all nodes before waiting for the first.
        let sent: Vec<RedisResult<()>> = indices
            .iter()
            .zip(&mut self.nodes)
            .map(|(indices, node)| {
                let commands: Vec<&Cmd> =
                    indices.iter().map(|index| &requests[*index].command).collect();
                node.send(&commands, replicas, self.endpoint.timeout)
            })
            .collect();
        let mut unanswered = Vec::new();
        for ((indices, node), sent) in indices.iter().zip(&mut self.nodes).zip(sent) {
            let received = match sent {
                Ok(()) => node.receive(indices.len(), replicas, began, self.endpoint.timeout),
                Err(error) => indices.iter().map(|_| Some(Err(error.clone()))).collect(),
            };
            for (index, answer) in indices.iter().zip(received) {
                match answer {
                    Some(answer) => answers[*index] = answer,
                    None => unanswered.push(*index),
                }
            }
        }
        unanswered
    }

    /// Returns the index of the node that has a key.
    fn node_of(&self, key: &str) -> Option<usize> {
        if self.slots.is_empty() {
            return (!self.nodes.is_empty()).then_some(0);
        }
        let slot = slot_of(key.as_bytes());
        let range = self.slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.map(|(_, _, node)| *node)
    }

    /// Repeats a command at the node to which its slot has moved or is moving.
    fn follow(&mut self, request: &Request, answer: &mut Answer, replicas: u32) {
        for _ in 0..REDIRECTS_MAX {
            let Some((asking, host, port)) = answer.as_ref().err().and_then(redirection) else {
                return;
            };
            if let Topology::Single(info) = &self.endpoint.topology {
                let info = info.clone();
                info!("{} is a node of a Redis Cluster: following its redirections", info.addr());
                self.be_cluster(&info);
            }
            let Topology::Cluster(seeds) = &self.endpoint.topology else { return };
            let Some(seed) = seeds.first() else { return };
            // A node that does not know its own name is at the address that was asked.
            let host = if host.is_empty() { host_of(seed) } else { host };
            let node = self.node_at(elsewhere(seed, (host, port)));
            if !asking && self.learn_slots().is_err() {
                return;
            }
            let timeout = self.endpoint.timeout;
            let ask = cmd("ASKING");
            let commands: Vec<&Cmd> =
                asking.then_some(&ask).into_iter().chain([&request.command]).collect();
            // Learning slots keeps the indices of known nodes.
            let node = &mut self.nodes[node];
            let last = match node.send(&commands, replicas, timeout) {
                Ok(()) => {
                    node.receive(commands.len(), replicas, Instant::now(), timeout).pop().flatten()
                }
                Err(error) => Some(Err(error)),
            };
            *answer = last.unwrap_or_else(|| Err(lost()));
        }
    }

    /// Asks the first node that answers for the slots of all nodes.
    fn learn_slots(&mut self) -> RedisResult<()> {
        let Topology::Cluster(seeds) = &self.endpoint.topology else { return Ok(()) };
        let known: Vec<ConnectionInfo> = self.nodes.iter().map(|node| node.info.clone()).collect();
        let candidates: Vec<ConnectionInfo> =
            known.into_iter().chain(seeds.iter().cloned()).collect();
        let mut last = RedisError::from((ErrorKind::Client, "the Redis Cluster has no nodes"));
        for info in candidates {
            let asked = open(&info, self.endpoint.timeout).and_then(|mut connection| {
                cmd("CLUSTER").arg("SLOTS").query::<Value>(&mut connection)
            });
            match asked.map(|slots| ranges(&slots, &info)) {
                Ok(ranges) if covers_all(&ranges) => {
                    self.take_slots(ranges);
                    return Ok(());
                }
                Ok(_) => {
                    last = (ErrorKind::Client, "the Redis Cluster has slots that no node serves")
                        .into()
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn take_slots(&mut self, ranges: Vec<Range>) {
        self.slots.clear();
        for (first, last, info) in ranges {
            let node = self.node_at(info);
            self.slots.push((first, last, node));
        }
    }

    /// Returns the index of a node. Adds it if it is unknown.
    fn node_at(&mut self, info: ConnectionInfo) -> usize {
        let known = self.nodes.iter().position(|node| node.info.addr() == info.addr());
        known.unwrap_or_else(|| {
            self.nodes.push(Node { info, connection: None });
            self.nodes.len() - 1
        })
    }
}

impl Node {
    fn connected(&mut self, timeout: Duration) -> RedisResult<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.info, timeout)?,
        };
        Ok(self.connection.insert(connection))
    }

    fn send(&mut self, commands: &[&Cmd], replicas: u32, timeout: Duration) -> RedisResult<()> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut bytes));
        if replicas > 0 {
            // Slightly less than our own time limit for the answer.
            let most = (timeout.as_millis() * 4 / 5) as u64;
            cmd("WAIT").arg(replicas).arg(most).write_packed_command(&mut bytes);
        }
        let sent = self.connected(timeout)?.send_packed_command(&bytes);
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    /// Receives the answers to as many commands. After an unreadable answer the rest have none; if
    /// replicas must confirm them, neither do those before it.
    fn receive(
        &mut self,
        count: usize,
        replicas: u32,
        began: Instant,
        timeout: Duration,
    ) -> Vec<Option<Answer>> {
        let mut answers: Vec<Answer> = Vec::with_capacity(count);
        while answers.len() < count {
            match self.answer(began, timeout) {
                Ok(answer) => answers.push(answer),
                Err(error) if is_unreadable(&error) => {
                    let mut answers: Vec<Option<Answer>> = answers.into_iter().map(Some).collect();
                    if replicas > 0 {
                        answers.fill_with(|| None);
                    }
                    answers.push(Some(Err(error)));
                    answers.resize_with(count, || None);
                    return answers;
                }
                Err(error) => answers.resize_with(count, || Err(error.clone())),
            }
        }
        self.confirm(&mut answers, replicas, began, timeout);
        answers.into_iter().map(Some).collect()
    }

    /// Waits until `replicas` replicas have confirmed the writes. If they do not, no answer counts.
    fn confirm(
        &mut self,
        answers: &mut [Answer],
        replicas: u32,
        began: Instant,
        timeout: Duration,
    ) {
        let count = answers.len();
        if replicas > 0 && count > 0 {
            let confirmed = match self.answer(began, timeout) {
                Ok(Ok(Value::Int(confirmed))) => Ok(confirmed),
                Ok(Ok(_)) => Err(lost()),
                Ok(Err(error)) | Err(error) => Err(error),
            };
            let few = |confirmed| {
                let detail = format!("only {confirmed} of {replicas} replicas have confirmed");
                RedisError::from((ErrorKind::Client, "replicas", detail))
            };
            let missing = match confirmed {
                Ok(confirmed) if confirmed >= i64::from(replicas) => return,
                Ok(confirmed) => few(confirmed),
                Err(error) => error,
            };
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(missing.clone());
            }
        }
    }

    /// Receives the next answer. An error closes the connection.
    fn answer(&mut self, began: Instant, timeout: Duration) -> RedisResult<Answer> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        let received = if began.elapsed() > timeout * BATCH_FACTOR {
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        } else {
            receive(connection)
        };
        if received.is_err() {
            self.connection = None;
        }
        received
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_set_aside_keeps_its_slot() {
        let topology = Topology::parse("redis://stage").unwrap();
        let endpoint = Endpoint { topology, replicas: 0, timeout: Duration::from_secs(1) };
        let link = Link { endpoint, nodes: Vec::new(), slots: Vec::new(), has_slots: false };
        assert_eq!(link.key_aside("session:s", false), "quarantine:session:s");
        for key in [
            "session:s",
            "session:a{foo}b",
            "session:a}b",
            "session:{",
            "session:{}x",
            "session:x{y",
        ] {
            let aside = link.key_aside(key, true);
            assert_eq!(slot_of(aside.as_bytes()), slot_of(key.as_bytes()), "{aside}");
            assert!(aside.contains(key), "{aside}");
        }
    }
}
