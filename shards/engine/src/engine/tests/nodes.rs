//! Several nodes that share sessions, around a model of the store's scripts.

use std::collections::BTreeMap;

use super::*;
use crate::io::node::{ClaimOutcome, CommitOutcome, Standing, Stored};
use crate::io::{Cluster, NodeId, NodeNews};

/// Time to live of a node's lease.
const LEASE: Micros = Micros::from_secs(2);

const BUCKETS: u16 = 64;

/// A session as the store has it.
#[derive(Clone, Default)]
struct Hash {
    epoch: u64,
    version: u64,
    owner: Option<NodeId>,
    record: Vec<u8>,
    branches: Vec<u8>,
}

/// Nodes with one shard each, and the store that they share.
struct Band {
    nodes: Vec<World>,
    /// Nodes that do nothing: they are dead or stopped.
    stopped: Vec<bool>,
    /// The end of each node's lease.
    leases: Vec<Micros>,
    /// The time since which each node's lease has stood, that of its last beat, and the standing
    /// that it knows.
    since: Vec<Micros>,
    beaten: Vec<Micros>,
    standing: Vec<Standing>,
    /// Whether the others know that a node's lease has lapsed.
    gone: Vec<bool>,
    hashes: BTreeMap<SessionId, Hash>,
    /// Orders that have not reached the store, in order.
    orders: Vec<(usize, Output, Vec<Vec<u8>>)>,
    /// News that have not reached their node, in order.
    news: Vec<(usize, NodeNews)>,
    /// Whether the store does nothing.
    is_frozen: bool,
    /// Number of messages that are lost next.
    loses: usize,
    commits: usize,
    refused: usize,
    k: u64,
}

fn node(index: usize) -> NodeId {
    NodeId { number: index as u16 + 1, incarnation: 1_000 + index as u64 }
}

impl Band {
    fn new(count: usize) -> Self {
        let of = |index| {
            let cluster = Cluster { node: node(index), buckets: BUCKETS, lease_ttl: LEASE };
            World::new(Settings {
                cluster: Some(cluster),
                storage_wait: Some(Micros::from_secs(3)),
                seed: (index as u64 + 1).into(),
                ..settings()
            })
        };
        let mut band = Self {
            nodes: (0..count).map(of).collect(),
            stopped: vec![false; count],
            leases: vec![Micros::from_secs(3); count],
            since: vec![Micros::ZERO; count],
            beaten: vec![Micros::ZERO; count],
            standing: vec![Standing::Full; count],
            gone: vec![false; count],
            hashes: BTreeMap::new(),
            orders: Vec::new(),
            news: Vec::new(),
            is_frozen: false,
            loses: 0,
            commits: 0,
            refused: 0,
            k: 1_800_000_000_000,
        };
        for index in 0..count {
            band.table(index, count);
        }
        band.settle();
        band
    }

    /// Tells a node that the first `count` nodes live.
    fn table(&mut self, index: usize, count: usize) {
        let peers = (0..count).filter(|other| *other != index).map(node).collect();
        self.news.push((index, NodeNews::Table { revision: count as u64, peers }));
    }

    fn now(&self) -> Micros {
        self.nodes[0].now
    }

    /// Carries orders and news until there are none, without time passing.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            for index in 0..self.nodes.len() {
                if !self.stopped[index] {
                    self.nodes[index].turn();
                }
                let orders = std::mem::take(&mut self.nodes[index].to_nodes);
                let orders = orders.into_iter().map(|(_, output, bytes)| (index, output, bytes));
                self.orders.extend(orders);
            }
            if !self.is_frozen {
                for (from, output, bytes) in std::mem::take(&mut self.orders) {
                    self.carry_out(from, output, bytes);
                }
            }
            let (later, now): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.news).into_iter().partition(|(to, _)| self.stopped[*to]);
            self.news = later;
            if now.is_empty() {
                return;
            }
            for (to, news) in now {
                self.nodes[to].input(0, Input::Node { news: &news });
            }
        }
        panic!("the nodes never come to rest");
    }

    /// Lets time pass in steps of 5 ms. Nodes that run beat.
    fn pass(&mut self, span: Micros) {
        let end = self.now() + span;
        while self.now() < end {
            let now = self.now() + MS(5);
            for index in 0..self.nodes.len() {
                if self.stopped[index] {
                    self.nodes[index].now = now;
                    self.lapse(index, now);
                    continue;
                }
                self.gone[index] = false;
                let step = now - self.nodes[index].now;
                self.nodes[index].pass(step);
                self.beat(index, now);
            }
            self.settle();
        }
    }

    /// Renews the lease of a node, and tells the node its standing.
    fn beat(&mut self, index: usize, now: Micros) {
        if !self.is_frozen {
            if self.leases[index] < now {
                self.since[index] = now;
            }
            (self.leases[index], self.beaten[index]) = (now + LEASE, now);
        }
        let standing = if self.beaten[index] + MS(1_000) <= now {
            Standing::Alone
        } else if self.since[index] + LEASE > now && self.since[index] > Micros::ZERO {
            Standing::New
        } else {
            Standing::Full
        };
        if std::mem::replace(&mut self.standing[index], standing) != standing {
            self.stand(index, standing);
        }
    }

    /// Tells a node its standing.
    fn stand(&mut self, index: usize, standing: Standing) {
        self.news.push((index, NodeNews::Standing { first: 0, last: BUCKETS - 1, standing }));
    }

    /// Tells the others that the lease of a node has lapsed.
    fn lapse(&mut self, index: usize, now: Micros) {
        if self.is_frozen || now < self.leases[index] || self.gone[index] {
            return;
        }
        self.gone[index] = true;
        let others = (0..self.nodes.len()).filter(|other| *other != index);
        let news = others.map(|other| (other, NodeNews::Gone { node: node(index) }));
        self.news.extend(news);
    }

    /// The scripts, as the store carries them out.
    fn carry_out(&mut self, from: usize, output: Output, bytes: Vec<Vec<u8>>) {
        let own = node(from);
        match output {
            Output::Claim { session, expected, floor } => {
                let lives = |owner: NodeId| {
                    let now = self.nodes[0].now;
                    self.leases.get(usize::from(owner.number) - 1).is_some_and(|end| now < *end)
                };
                let hash = self.hashes.entry(session.clone()).or_default();
                let stored = (!hash.record.is_empty()).then(|| Stored {
                    record: hash.record.clone().into(),
                    branches: hash.branches.clone().into(),
                });
                let is_young = self.standing[from] != Standing::Full;
                let outcome = match hash.owner {
                    _ if expected.is_some() && is_young => ClaimOutcome::Unknown,
                    Some(owner) if owner != own && (expected != Some(owner) || lives(owner)) => {
                        ClaimOutcome::Theirs { owner, epoch: hash.epoch, stored }
                    }
                    _ => {
                        self.k = self.k.max(hash.epoch.max(floor) / 2_048) + 1;
                        hash.epoch = self.k * 2_048 + u64::from(own.number);
                        (hash.owner, hash.version) = (Some(own), 0);
                        ClaimOutcome::Mine { epoch: hash.epoch, stored }
                    }
                };
                self.news.push((from, NodeNews::Claimed { session, outcome }));
            }
            Output::Commit { session, epoch, version, to, .. } => {
                let hash = self.hashes.entry(session.clone()).or_default();
                let [record, branches, head, tail] = &bytes[..] else { panic!("four parts") };
                let is_lost = hash.epoch > epoch || hash.epoch == epoch && hash.owner != Some(own);
                let outcome = if is_lost {
                    self.refused += 1;
                    CommitOutcome::Lost { epoch: hash.epoch, owner: hash.owner }
                } else {
                    if hash.epoch < epoch || hash.version <= version {
                        (hash.epoch, hash.version, hash.owner) = (epoch, version, Some(own));
                        hash.record.clone_from(record);
                        hash.branches.clone_from(branches);
                        self.commits += 1;
                        self.publish(from, &to, &[&head[..], record, tail].concat());
                    }
                    CommitOutcome::Done { deaf: Vec::new() }
                };
                let committed = NodeNews::Committed { session, epoch, version, outcome };
                self.news.push((from, committed));
            }
            Output::Publish { to, .. } | Output::Announce { to, .. } => {
                self.publish(from, &to, &bytes[0]);
            }
            Output::Release { session, epoch } => {
                let hash = self.hashes.entry(session).or_default();
                hash.owner = hash.owner.filter(|owner| *owner != own || hash.epoch != epoch);
            }
            _ => {}
        }
    }

    fn publish(&mut self, from: usize, to: &[u16], body: &[u8]) {
        for number in to {
            if self.loses > 0 {
                self.loses -= 1;
                continue;
            }
            let to = usize::from(*number) - 1;
            self.news.push((to, NodeNews::Heard { from: node(from), body: body.into() }));
        }
    }

    /// Kills a node, with its connections.
    fn kill(&mut self, index: usize) {
        self.settle();
        self.stopped[index] = true;
        self.nodes[index].to_nodes.clear();
    }

    fn client(&mut self, index: usize) -> (usize, ConnId) {
        (index, self.nodes[index].client(0))
    }

    fn say(&mut self, (index, id): (usize, ConnId), text: &str) {
        self.nodes[index].say(id, text);
        self.settle();
    }

    fn received(&mut self, (index, id): (usize, ConnId)) -> Vec<String> {
        self.nodes[index].received(id)
    }

    fn session(&self, index: usize) -> &crate::session::Session {
        self.nodes[index].shards[0].session(&SessionId::parse("s").unwrap()).unwrap()
    }

    /// Joins a member, and returns it with the messages that it received.
    fn joined(&mut self, index: usize, name: &str) -> (usize, ConnId) {
        let client = self.client(index);
        self.say(client, &join("s", name).replacen("42[", "421[", 1));
        self.pass(MS(20));
        let received = self.received(client);
        assert!(received[0].starts_with("431[{\"ok\":true"), "{name}: {received:?}");
        assert!(received.iter().any(|text| text.starts_with("42[\"snapshot\"")), "{received:?}");
        client
    }

    /// Returns a leader and two followers on three nodes. The leader's node owns the session.
    fn trio(&mut self) -> [(usize, ConnId); 3] {
        let members = [(0, "Ann"), (1, "Bob"), (2, "Cat")];
        let members = members.map(|(index, name)| self.joined(index, name));
        self.pass(MS(50));
        for member in members {
            self.received(member);
        }
        members
    }
}

fn has(received: &[String], part: &str) -> bool {
    received.iter().any(|text| text.contains(part))
}

/// Returns a field of the last message that has it.
fn last_field(received: &[String], field: &str) -> Option<String> {
    let name = format!("\"{field}\":");
    let text = received.iter().rev().find(|text| text.contains(&name))?;
    let value = &text[text.find(&name)? + name.len()..];
    let end = value.find([',', '}'])?;
    Some(value[..end].to_owned())
}

/// Returns the epoch and version that a message carries, if any.
fn state_in(text: &str) -> Option<(u64, u64)> {
    let number = |field: &str| {
        let name = format!("\"{field}\":");
        let value = &text[text.find(&name)? + name.len()..];
        value[..value.find(|c: char| !c.is_ascii_digit())?].parse().ok()
    };
    Some((number("epoch")?, number("version")?))
}

#[test]
fn members_on_three_nodes_share_a_session() {
    let mut band = Band::new(3);
    let [ann, bob, cat] = band.trio();
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(20));
    let all = [ann, bob, cat].map(|member| band.received(member));
    assert!(has(&all[0], "437[{\"ok\":true"), "{:?}", all[0]);
    let snapshots = all
        .each_ref()
        .map(|received| received.iter().rfind(|text| text.starts_with("42[\"snapshot\"")).unwrap());
    assert!(snapshots[0] == snapshots[1] && snapshots[1] == snapshots[2], "{snapshots:?}");
    for name in ["Ann", "Bob", "Cat", "\"isPlaying\":true"] {
        assert!(snapshots[0].contains(name), "{}", snapshots[0]);
    }
    assert!(all.iter().all(|received| has(received, "42[\"play\"")), "{all:?}");
    let state = |index: usize| {
        let session = band.session(index);
        let mut record = Vec::new();
        session.state().print(&mut record);
        (session.epoch(), session.version(), session.checksum(), record)
    };
    assert_eq!(state(0), state(1));
    assert_eq!(state(1), state(2));
}

#[test]
fn commands_from_any_node_are_obeyed_in_one_order() {
    let mut band = Band::new(3);
    let [ann, bob, cat] = band.trio();
    band.say(bob, r#"421["join_session",{"sessionId":"s"}]"#);
    let mut received = band.received(bob);
    received.retain(|text| text.starts_with("431"));
    let id = last_field(&received, "socketId").unwrap();
    band.say(
        ann,
        &format!(r#"422["set_role",{{"sessionId":"s","role":"leader","memberId":{id}}}]"#),
    );
    band.pass(MS(20));
    assert!(has(&band.received(ann), "432[{\"ok\":true"));
    band.say(bob, r#"423["play",{"sessionId":"s"}]"#);
    band.say(cat, r#"424["play",{"sessionId":"s"}]"#);
    band.say(ann, r#"425["chat_message",{"sessionId":"s","message":"one"}]"#);
    band.say(cat, r#"426["chat_message",{"sessionId":"s","message":"two"}]"#);
    band.pass(MS(50));
    let all = [ann, bob, cat].map(|member| band.received(member));
    assert!(has(&all[1], "433[{\"ok\":true"), "{:?}", all[1]);
    assert!(has(&all[2], "434[{\"ok\":false,\"error\":{\"code\":\"not_leader\""), "{:?}", all[2]);
    for received in &all {
        let place = |part: &str| received.iter().position(|text| text.contains(part)).unwrap();
        assert!(place("42[\"play\"") < place("\"one\"") && place("\"one\"") < place("\"two\""));
        assert_eq!(received.iter().filter(|text| text.contains("\"two\"")).count(), 1);
    }
    let acknowledged = all[1].iter().position(|text| text.starts_with("433")).unwrap();
    let told = all[1].iter().position(|text| text.starts_with("42[\"play\"")).unwrap();
    assert!(acknowledged < told, "{:?}", all[1]);
}

#[test]
fn nobody_learns_of_a_decision_that_is_not_stored() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(50));
    band.received(ann);
    band.received(bob);
    band.is_frozen = true;
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(100));
    assert_eq!(band.received(ann), [""; 0]);
    band.is_frozen = false;
    band.pass(MS(20));
    for member in [ann, bob] {
        assert!(has(&band.received(member), "42[\"play\""));
    }
}

#[test]
fn a_command_that_decides_nothing_is_answered_with_the_decision_before_it() {
    let mut band = Band::new(2);
    let (ann, _) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(50));
    band.received(ann);
    band.is_frozen = true;
    band.say(ann, r#"427["set_tempo",{"sessionId":"s","tempo":99}]"#);
    band.say(ann, r#"428["set_tempo",{"sessionId":"s","tempo":99}]"#);
    band.say(ann, r#"429["chat_message",{"sessionId":"s","message":"hi"}]"#);
    assert_eq!(band.received(ann), [""; 0]);
    band.is_frozen = false;
    band.pass(MS(20));
    let received = band.received(ann);
    for part in ["437[", "438[", "439[", "\"hi\""] {
        assert!(has(&received, part), "{received:?}");
    }
}

#[test]
fn a_node_that_is_alone_waits_for_no_store() {
    let mut band = Band::new(1);
    let ann = band.joined(0, "Ann");
    band.is_frozen = true;
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(10));
    let received = band.received(ann);
    assert!(has(&received, "437[{\"ok\":true") && has(&received, "42[\"play\""), "{received:?}");
    band.is_frozen = false;
    band.pass(MS(10));
    let stored = band.hashes.values().next().unwrap().version;
    assert_eq!(stored, band.session(0).version());
}

#[test]
fn a_store_that_is_away_leaves_shared_sessions_as_they_are() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.is_frozen = true;
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.say(bob, r#"428["chat_message",{"sessionId":"s","message":"hi"}]"#);
    band.pass(MS(1_200));
    assert!(has(&band.received(ann), "437[{\"ok\":false,\"error\":{\"code\":\"unavailable\""));
    assert!(has(&band.received(bob), "438[{\"ok\":false,\"error\":{\"code\":\"unavailable\""));
    for member in [ann, bob] {
        band.say(member, r#"429["set_tempo",{"sessionId":"s","tempo":77}]"#);
        band.pass(MS(50));
        let received = band.received(member);
        assert!(has(&received, "439[{\"ok\":false,\"error\":{\"code\":\"unavailable\""));
    }
    // The copy answers questions.
    band.say(bob, r#"4211["sync_request",{"sessionId":"s"}]"#);
    assert!(has(&band.received(bob), "4311[{\"ok\":true"));
    band.is_frozen = false;
    band.pass(MS(20));
    band.say(ann, r#"4210["play",{"sessionId":"s"}]"#);
    band.pass(MS(1_500));
    assert!(has(&band.received(ann), "4310[{\"ok\":true"));
    assert_eq!(band.refused, 0);
}

#[test]
fn a_command_that_was_given_up_is_not_carried_out_later() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(50));
    band.loses = usize::MAX;
    band.say(bob, r#"427["chat_message",{"sessionId":"s","message":"late"}]"#);
    band.stand(1, Standing::Alone);
    band.pass(MS(60));
    assert!(has(&band.received(bob), "437[{\"ok\":false,\"error\":{\"code\":\"unavailable\""));
    band.loses = 0;
    band.stand(1, Standing::Full);
    band.pass(MS(3_000));
    band.say(bob, r#"428["chat_message",{"sessionId":"s","message":"next"}]"#);
    band.pass(MS(600));
    assert!(has(&band.received(bob), "438[{\"ok\":true"));
    let received = band.received(ann);
    assert!(has(&received, "\"next\"") && !has(&received, "\"late\""), "{received:?}");
}

#[test]
fn a_store_that_lost_its_data_gets_it_back() {
    let mut band = Band::new(2);
    let (ann, _) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(600));
    let known = (band.session(0).epoch(), band.session(0).version());
    band.hashes.clear();
    band.is_frozen = true;
    band.pass(MS(3_000));
    band.received(ann);
    band.is_frozen = false;
    band.pass(MS(50));
    let stored = band.hashes.values().next().map(|hash| (hash.epoch, hash.version));
    assert_eq!(stored, Some(known), "the owner stores what it has told");
    // It decides nothing new while somebody else may have taken the session over.
    band.say(ann, r#"428["pause",{"sessionId":"s"}]"#);
    band.pass(MS(500));
    assert!(!has(&band.received(ann), "438["));
    band.pass(MS(1_000));
    assert!(has(&band.received(ann), "438[{\"ok\":true"));
}

#[test]
fn a_take_over_that_the_store_forgot_wins() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(600));
    let old = band.hashes.clone();
    band.stopped[0] = true;
    band.pass(MS(5_000));
    let taken = band.session(1).epoch();
    assert!(taken > band.session(0).epoch());
    // The store loses the take-over, and the former owner wakes first.
    (band.hashes, band.is_frozen) = (old, true);
    band.stopped[0] = false;
    band.pass(MS(3_000));
    band.is_frozen = false;
    band.pass(MS(3_000));
    for index in [0, 1] {
        assert!(band.session(index).epoch() >= taken);
    }
    assert_eq!(band.session(0).checksum(), band.session(1).checksum());
    assert!(band.received(bob).iter().filter_map(|text| state_in(text)).is_sorted());
}

#[test]
fn a_drained_node_gives_its_sessions_to_others() {
    let mut band = Band::new(3);
    let [ann, bob, cat] = band.trio();
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(600));
    band.received(bob);
    band.nodes[0].input(0, Input::Drain);
    band.pass(MS(50));
    assert!(has(&band.received(ann), "\"code\":\"draining\""));
    let owned = |index: &usize| band.nodes[*index].shards[0].counters().nodes.owned;
    assert_eq!([1, 2].iter().map(owned).sum::<u32>(), 1, "another node owns the session at once");
    band.say(bob, r#"428["chat_message",{"sessionId":"s","message":"hi"}]"#);
    band.pass(MS(50));
    assert!(has(&band.received(bob), "438[{\"ok\":true"));
    assert!(has(&band.received(cat), "\"hi\""));
    assert_eq!(band.session(1).checksum(), band.session(2).checksum());
    assert!(band.session(1).is_playing(band.now()), "the music goes on");
}

#[test]
fn a_command_of_a_member_that_was_given_up_is_carried_out() {
    let mut band = Band::new(2);
    let (_, bob, cat) = (band.joined(0, "Ann"), band.joined(1, "Bob"), band.client(1));
    band.pass(MS(600));
    band.received(bob);
    band.news.push((0, NodeNews::Gone { node: node(1) }));
    band.pass(MS(10));
    // The node is known by another member again.
    band.say(cat, &join("s", "Cat"));
    band.say(bob, r#"427["chat_message",{"sessionId":"s","message":"hi"}]"#);
    band.pass(MS(600));
    let received = band.received(bob);
    assert!(has(&received, "437[{\"ok\":true"), "{received:?}");
    assert_eq!(band.session(0).members().count(), 3);
}

#[test]
fn a_lost_bulletin_is_repaired_and_shown_once() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(600));
    band.received(bob);
    band.loses = 1;
    band.say(ann, r#"42["chat_message",{"sessionId":"s","message":"one"}]"#);
    band.pass(MS(20));
    assert_eq!(band.loses, 0);
    assert!(!has(&band.received(bob), "\"one\""));
    band.pass(MS(600));
    band.say(ann, r#"42["chat_message",{"sessionId":"s","message":"two"}]"#);
    band.pass(MS(600));
    let received = band.received(bob);
    for text in ["\"one\"", "\"two\""] {
        assert_eq!(received.iter().filter(|one| one.contains(text)).count(), 1, "{received:?}");
    }
}

#[test]
fn a_command_is_carried_out_once_however_often_it_is_sent() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(600));
    for member in [ann, bob] {
        band.received(member);
    }
    // The command arrives, and the answer is lost.
    band.nodes[1].say(bob.1, r#"427["chat_message",{"sessionId":"s","message":"hi"}]"#);
    let orders = std::mem::take(&mut band.nodes[1].to_nodes);
    for (_, output, bytes) in orders {
        band.carry_out(1, output, bytes);
    }
    band.loses = 1;
    band.pass(MS(1_000));
    let received = band.received(bob);
    assert_eq!(received.iter().filter(|text| text.contains("437[{\"ok\":true")).count(), 1);
    for received in [received, band.received(ann)] {
        assert_eq!(received.iter().filter(|text| text.contains("\"hi\"")).count(), 1);
    }
}

#[test]
fn another_node_takes_over_and_the_leader_keeps_its_seat() {
    let mut band = Band::new(3);
    // Bob leads from the second node, and the first one owns the session.
    let (eve, bob, cat) = (band.client(0), band.client(1), band.client(2));
    band.say(eve, r#"421["join_session",{"sessionId":"s","role":"follower"}]"#);
    band.say(bob, r#"421["join_session",{"sessionId":"s","role":"leader"}]"#);
    band.say(cat, r#"421["join_session",{"sessionId":"s"}]"#);
    band.pass(MS(50));
    band.say(bob, r#"422["play",{"sessionId":"s"}]"#);
    band.pass(MS(600));
    let before = (band.session(1).epoch(), band.session(1).version());
    for member in [bob, cat] {
        band.received(member);
    }
    band.kill(0);
    // Ticks go on.
    band.pass(MS(1_000));
    for member in [bob, cat] {
        let ticks = band.received(member);
        let ticks = ticks.iter().filter(|text| text.contains("scroll_tick")).count();
        assert!(ticks >= 60, "{ticks} ticks");
    }
    band.pass(MS(1_900));
    band.say(bob, r#"423["pause",{"sessionId":"s"}]"#);
    band.pass(MS(100));
    let (of_bob, of_cat) = (band.received(bob), band.received(cat));
    assert!(has(&of_bob, "433[{\"ok\":true"), "{of_bob:?}");
    assert!(has(&of_cat, "42[\"pause\""), "{of_cat:?}");
    assert!((band.session(1).epoch(), band.session(1).version()) > before);
    assert_eq!(band.session(1).checksum(), band.session(2).checksum());
    // The members of the dead node are gone after the roll call.
    band.pass(MS(1_500));
    let of_cat = band.received(cat);
    assert_eq!(last_field(&of_cat, "connectedCount").as_deref(), Some("2"), "{of_cat:?}");
    assert_eq!(band.session(1).members().count(), 2);
}

#[test]
fn a_stopped_owner_wakes_as_a_branch() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(600));
    band.stopped[0] = true;
    band.pass(MS(20_000));
    band.received(bob);
    assert!(band.session(1).epoch() > band.session(0).epoch(), "the second node has taken over");
    // Its first words are those of the new owner, and the command is forwarded.
    band.received(ann);
    band.nodes[0].say(ann.1, r#"426["update_message",{"sessionId":"s","message":"new"}]"#);
    band.nodes[0].say(ann.1, r#"427["chat_message",{"sessionId":"s","message":"hello"}]"#);
    band.stopped[0] = false;
    band.pass(MS(1_000));
    let received = band.received(ann);
    let states = received.iter().filter_map(|text| state_in(text));
    let newest = band.session(1).epoch();
    assert!(states.clone().count() > 0 && states.clone().all(|(epoch, _)| epoch == newest));
    assert!(has(&received, "436[{\"ok\":true") && has(&received, "437[{\"ok\":true"));
    assert_eq!(received.iter().filter(|text| text.contains("\"hello\"")).count(), 1);
    assert!(has(&band.received(bob), "\"hello\""));
    assert_eq!(band.session(1).state().message(), "new");
    band.say(ann, r#"428["chat_message",{"sessionId":"s","message":"back"}]"#);
    band.pass(MS(600));
    assert!(has(&band.received(ann), "438[{\"ok\":true"));
    assert!(has(&band.received(bob), "\"back\""));
    assert!(band.refused > 0, "the old owner's commit is refused");
    assert_eq!(band.session(0).epoch(), band.session(1).epoch());
}

#[test]
fn a_stopped_owner_sends_no_tick_of_the_old_epoch() {
    let mut band = Band::new(2);
    let (ann, _) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    band.pass(MS(600));
    let old = format!("\"epoch\":{}", band.session(0).epoch());
    band.stopped[0] = true;
    band.pass(MS(20_000));
    band.received(ann);
    band.stopped[0] = false;
    band.pass(MS(1_000));
    let received = band.received(ann);
    assert!(received.iter().any(|text| text.contains("scroll_tick")), "{received:?}");
    assert!(!received.iter().any(|text| text.contains(&old)), "{received:?}");
}

#[test]
fn members_of_a_node_that_was_given_up_are_back_when_it_returns() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(600));
    band.news.push((0, NodeNews::Gone { node: node(1) }));
    band.pass(MS(10));
    assert_eq!(band.session(0).members().count(), 1);
    band.pass(MS(2_600));
    assert_eq!(band.session(0).members().count(), 2, "a pulse names the branch");
    band.news.push((0, NodeNews::Gone { node: node(1) }));
    band.pass(MS(10));
    band.received(bob);
    band.say(bob, r#"427["chat_message",{"sessionId":"s","message":"hi"}]"#);
    band.pass(MS(600));
    assert!(has(&band.received(bob), "437[{\"ok\":true"), "the command is sent again");
    assert!(has(&band.received(ann), "\"hi\""));
}

#[test]
fn a_take_over_heals_although_every_message_is_lost_meanwhile() {
    let mut band = Band::new(3);
    let [_, bob, cat] = band.trio();
    band.pass(MS(600));
    band.kill(0);
    band.loses = usize::MAX;
    band.pass(MS(4_000));
    band.loses = 0;
    // The grace of the dead node's leader ends, too.
    band.pass(MS(12_000));
    let state = |index: usize| {
        let session = band.session(index);
        let members: Vec<_> = session.members().map(|member| member.id).collect();
        (session.epoch(), session.version(), session.checksum(), members)
    };
    assert_eq!(state(1), state(2));
    assert_eq!(state(1).3.len(), 2);
    for member in [bob, cat] {
        band.received(member);
        band.say(member, r#"427["chat_message",{"sessionId":"s","message":"hi"}]"#);
    }
    band.pass(MS(600));
    for member in [bob, cat] {
        let received = band.received(member);
        let heard = received.iter().filter(|text| text.contains("\"hi\"")).count();
        assert_eq!(heard, 2, "{received:?}");
    }
}

#[test]
fn joins_at_one_moment_make_one_owner() {
    let mut band = Band::new(3);
    let clients = [0, 1, 2].map(|index| band.client(index));
    for (index, id) in clients {
        band.nodes[index].say(id, r#"421["join_session",{"sessionId":"s"}]"#);
    }
    band.pass(MS(100));
    let all = clients.map(|client| band.received(client));
    assert!(all.iter().all(|received| has(received, "431[{\"ok\":true")), "{all:?}");
    let leads = |received: &&Vec<String>| has(received, "\"role\":\"leader\",\"protocol\"");
    assert_eq!(all.iter().filter(leads).count(), 1, "{all:?}");
    let owned = |index: &usize| band.nodes[*index].shards[0].counters().nodes.owned;
    assert_eq!([0, 1, 2].iter().map(owned).sum::<u32>(), 1);
}

#[test]
fn a_member_leaves_on_another_node() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.joined(0, "Ann"), band.joined(1, "Bob"));
    band.pass(MS(50));
    band.received(ann);
    band.say(bob, r#"427["leave_session",{"sessionId":"s"}]"#);
    band.pass(MS(50));
    assert!(has(&band.received(bob), "437[{\"ok\":true"));
    let received = band.received(ann);
    assert!(has(&received, "42[\"user_left\"") && has(&received, "\"connectedCount\":1"));
    assert_eq!(band.session(0).members().count(), 1);
}

#[test]
fn passcodes_hold_on_every_node() {
    let mut band = Band::new(2);
    let (ann, bob) = (band.client(0), band.client(1));
    band.say(ann, r#"421["join_session",{"sessionId":"s","passcode":"open sesame"}]"#);
    band.say(bob, r#"421["join_session",{"sessionId":"s","passcode":"wrong"}]"#);
    band.pass(MS(50));
    assert!(has(&band.received(bob), "431[{\"ok\":false,\"error\":{\"code\":\"bad_passcode\""));
    band.say(bob, r#"422["join_session",{"sessionId":"s","passcode":"open sesame"}]"#);
    band.pass(MS(50));
    assert!(has(&band.received(bob), "432[{\"ok\":true"));
}

#[test]
fn nonsense_from_other_nodes_is_counted_and_ignored() {
    let mut band = Band::new(2);
    let ann = band.joined(0, "Ann");
    for body in [&b""[..], b"\x63", b"\x05nonsense", &[5; 300]] {
        band.news.push((0, NodeNews::Heard { from: node(1), body: body.into() }));
    }
    let stranger = NodeId { number: 9, incarnation: 9 };
    band.news.push((0, NodeNews::Heard { from: stranger, body: [9, 0, 0].into() }));
    let standing = NodeNews::Standing { first: 0, last: u16::MAX, standing: Standing::Full };
    band.news.push((0, standing));
    band.settle();
    assert_eq!(band.nodes[0].shards[0].counters().nodes.unreadable, 4);
    band.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    assert!(has(&band.received(ann), "437[{\"ok\":true"));
}

/// A run in which messages are lost, the store freezes, and nodes stop and die.
fn random_run(seed: u64) {
    let mut random =
        crate::words::rng::Rng::from_key(crate::words::rng::Seed::from(seed).of_shard(ShardId(0)));
    let mut draw = |below: u64| random.next_u64() % below;
    let mut band = Band::new(3);
    let mut members = band.trio().to_vec();
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); members.len()];
    let (mut dead, mut said) = (None, Vec::new());
    for step in 0..60 {
        let (index, id) = members[draw(members.len() as u64) as usize];
        let command = match draw(6) {
            0 => r#"["play",{"sessionId":"s"}]"#.to_owned(),
            1 => r#"["pause",{"sessionId":"s"}]"#.to_owned(),
            2 => r#"["set_role",{"sessionId":"s","role":"leader"}]"#.to_owned(),
            _ => format!(r#"["chat_message",{{"sessionId":"s","message":"no {step}."}}]"#),
        };
        if !band.stopped[index] {
            band.nodes[index].say(id, &format!("42{step}{command}"));
            said.push((index, id, step));
        }
        match draw(30) {
            0 => band.is_frozen = true,
            1 => band.loses = draw(4) as usize,
            2 if dead.is_none() => {
                let node = draw(3) as usize;
                band.kill(node);
                dead = Some(node);
            }
            3 if dead.is_none() => {
                let node = draw(3) as usize;
                band.stopped[node] = true;
                band.pass(MS(draw(6_000)));
                band.stopped[node] = false;
            }
            _ => band.is_frozen = false,
        }
        band.pass(MS(draw(300)));
        for (member, seen) in members.iter().zip(&mut seen) {
            seen.extend(band.received(*member));
        }
    }
    (band.is_frozen, band.loses) = (false, 0);
    // The grace of a leader that is gone ends, too.
    band.pass(MS(14_000));
    for (member, seen) in members.iter().zip(&mut seen) {
        seen.extend(band.received(*member));
    }
    for (index, id, step) in said.into_iter().filter(|(index, ..)| Some(*index) != dead) {
        let member = members.iter().position(|one| *one == (index, id)).unwrap();
        let answer = format!("43{step}[");
        let answers = seen[member].iter().filter(|text| text.starts_with(&answer)).count();
        assert_eq!(answers, 1, "seed {seed}: answers to command {step}");
    }
    members.retain(|(index, _)| Some(*index) != dead);
    let states: Vec<_> = members
        .iter()
        .map(|(index, _)| {
            let session = band.session(*index);
            let names: Vec<_> = session.members().map(|member| member.id).collect();
            (session.epoch(), session.version(), session.checksum(), names)
        })
        .collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {states:?}");
    assert_eq!(states[0].3.len(), members.len(), "seed {seed}: members");
    let owned: u32 = (0..3)
        .filter(|index| Some(*index) != dead)
        .map(|index| band.nodes[index].shards[0].counters().nodes.owned)
        .sum();
    assert_eq!(owned, 1, "seed {seed}: owners");
    for seen in &seen {
        let mut newest = (0, 0);
        for text in seen.iter().filter(|text| text.starts_with("42")) {
            if let Some(state) = state_in(text) {
                assert!(state >= newest, "seed {seed}: {state:?} after {newest:?}: {text}");
                newest = state;
            }
        }
        for step in 0..60 {
            let chat = format!("\"message\":\"no {step}.\"");
            let heard = seen.iter().filter(|text| text.contains(&chat)).count();
            assert!(heard <= 1, "seed {seed}: {chat} {heard} times");
        }
    }
}

#[test]
fn random_runs_end_in_agreement() {
    for seed in 0..4 {
        random_run(seed);
    }
}

/// After the death of all others no table names the owner any more.
#[test]
fn the_last_node_takes_over_what_dead_nodes_owned() {
    let mut band = Band::new(2);
    band.joined(0, "Ann");
    band.pass(MS(50));
    band.kill(0);
    band.pass(LEASE + MS(500));
    band.news.push((1, NodeNews::Table { revision: 9, peers: Vec::new() }));
    band.pass(MS(500));
    let bob = band.client(1);
    band.say(bob, &join("s", "Bob").replacen("42[", "421[", 1));
    band.pass(MS(2_900));
    let received = band.received(bob);
    assert!(has(&received, "431[{\"ok\":true"), "{received:?}");
    assert_eq!(band.session(1).epoch() % 2_048, 2);
}
