//! The other nodes, as this one knows them: which live, which the shards have noted, and which have
//! noted this node (R12).
//!
//! While no other node lives, the engine announces decisions before they are stored. So a newcomer
//! may claim nothing until every living node has stopped doing that: each shard of it has noted the
//! newcomer, and its entry of the table says so.

use std::collections::BTreeMap;

use bandsync_engine::io::NodeId;

use crate::table::Table;

/// The other nodes.
#[derive(Debug)]
pub struct Roster {
    me: NodeId,
    /// Incarnations of the table, also of nodes whose lease has ended. Messages of others are
    /// dropped.
    known: BTreeMap<u16, u64>,
    /// The highest counter received, by sender and bucket.
    counters: BTreeMap<(NodeId, u16), u64>,
    peers: Vec<NodeId>,
    /// Whether a peer has no lease, which is no proof yet.
    awaits_lease: bool,
    revision: u64,
    /// The revision that each shard has noted.
    noted: Vec<u64>,
    /// The peers that all shards have noted: what the entry says.
    seen: Vec<NodeId>,
    admitted: bool,
}

/// The result of reading the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Nodes whose lease has ended since.
    pub gone: Vec<NodeId>,
    /// The peers with their new revision, if they changed.
    pub table: Option<(u64, Vec<NodeId>)>,
}

impl Roster {
    /// Creates a roster for as many shards. Nothing is known yet.
    pub fn new(me: NodeId, shards: u16) -> Self {
        Self {
            me,
            known: BTreeMap::new(),
            counters: BTreeMap::new(),
            peers: Vec::new(),
            awaits_lease: false,
            revision: 0,
            noted: vec![0; usize::from(shards.max(1))],
            seen: Vec::new(),
            admitted: false,
        }
    }

    /// Notes a table, and which of its nodes have a lease. Unless this node `is_senior`, a lease
    /// that is not there is no proof of an end: Redis was away, and that node may be back later
    /// than this one. It still counts as living then (R5).
    pub fn read(
        &mut self,
        table: &Table,
        has_lease: impl Fn(NodeId) -> bool,
        is_senior: bool,
    ) -> Change {
        // Redis may have forgotten nodes, which stay known: their messages count once they are back.
        self.known.extend(table.others().map(|(node, _)| (node.number, node.incarnation)));
        let known = &self.known;
        self.counters.retain(|(node, _), _| known.get(&node.number) == Some(&node.incarnation));
        let mut peers: Vec<NodeId> =
            table.others().map(|(node, _)| node).filter(|node| has_lease(*node)).collect();
        self.awaits_lease = false;
        if !is_senior {
            // A number has one holder: another incarnation proves the end of the former.
            let is_replaced = |node: &NodeId| peers.iter().any(|peer| peer.number == node.number);
            let kept: Vec<NodeId> =
                self.peers.iter().filter(|node| !is_replaced(node)).copied().collect();
            self.awaits_lease = !kept.is_empty();
            peers.extend(kept);
            peers.sort_unstable();
        }
        let has_noted = |node: &NodeId| {
            let entry = table.entries.get(&node.number);
            entry.is_some_and(|entry| {
                entry.node(node.number) == Some(*node) && entry.has_seen(self.me)
            })
        };
        self.admitted = peers.iter().all(has_noted);
        if peers == self.peers && self.revision > 0 {
            return Change::default();
        }
        let gone = self.peers.iter().filter(|node| !peers.contains(node)).copied().collect();
        self.peers = peers;
        self.revision += 1;
        // A node that went and comes back has to be noted again.
        self.seen.retain(|node| self.peers.contains(node));
        Change { gone, table: Some((self.revision, self.peers.clone())) }
    }

    /// Notes that a shard has taken in a revision. Returns whether the entry has to be written.
    pub fn note(&mut self, shard: u16, revision: u64) -> bool {
        if let Some(noted) = self.noted.get_mut(usize::from(shard)) {
            *noted = revision.max(*noted);
        }
        let all = self.noted.iter().all(|noted| *noted >= self.revision);
        if !all || self.seen == self.peers {
            return false;
        }
        self.seen = self.peers.clone();
        true
    }

    /// Notes that the own lease had ended: others may have forgotten this node.
    pub fn lapse(&mut self) {
        self.admitted = false;
    }

    /// Whether the table has to be read again soon.
    pub fn is_unsettled(&self) -> bool {
        !self.admitted || self.awaits_lease
    }

    /// The other nodes that live.
    pub fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// Whether every living node has noted this one.
    pub fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The nodes that all shards have noted.
    pub fn seen(&self) -> &[NodeId] {
        &self.seen
    }

    /// Whether the table names this node.
    pub fn knows(&self, node: NodeId) -> bool {
        node == self.me || self.known.get(&node.number) == Some(&node.incarnation)
    }

    /// Notes the counter of a message. Returns whether it is higher than all before from this
    /// sender in this bucket.
    pub fn is_next(&mut self, from: NodeId, bucket: u16, counter: u64) -> bool {
        let last = self.counters.entry((from, bucket)).or_default();
        let is_next = counter > *last;
        *last = counter.max(*last);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Entry;

    const ME: NodeId = NodeId { number: 1, incarnation: 10 };
    const YOU: NodeId = NodeId { number: 2, incarnation: 20 };

    fn table(seen: &[NodeId]) -> Table {
        let entry = |node: NodeId, seen: &[NodeId]| {
            let incarnation = node.incarnation.to_string();
            let seen = seen.iter().map(|node| (node.number, node.incarnation.to_string()));
            (node.number, Entry { incarnation, seen: seen.collect(), ..Entry::default() })
        };
        let entries = [entry(ME, &[]), entry(YOU, seen)].into();
        Table { number: 1, entries, ..Table::default() }
    }

    #[test]
    fn a_newcomer_is_admitted_once_every_living_node_has_noted_it() {
        let mut roster = Roster::new(ME, 2);
        let change = roster.read(&table(&[]), |_| true, true);
        assert_eq!(change, Change { gone: vec![], table: Some((1, vec![YOU])) });
        assert!(!roster.is_admitted());
        assert_eq!(roster.read(&table(&[ME]), |_| true, true), Change::default());
        assert!(roster.is_admitted());
        roster.lapse();
        assert!(!roster.is_admitted());
        // Another incarnation of this number was noted.
        roster.read(&table(&[NodeId { number: 1, incarnation: 9 }]), |_| true, true);
        assert!(!roster.is_admitted());
        // The other's lease has ended.
        let change = roster.read(&table(&[]), |_| false, true);
        assert_eq!(change, Change { gone: vec![YOU], table: Some((2, vec![])) });
        assert!(roster.is_admitted());
    }

    #[test]
    fn a_node_that_is_not_senior_calls_nobody_gone() {
        let mut roster = Roster::new(ME, 1);
        roster.read(&table(&[ME]), |_| true, false);
        assert!(roster.is_admitted());
        // Redis is back, and the other's lease is not: its beat may be on its way.
        assert_eq!(roster.read(&table(&[ME]), |_| false, false), Change::default());
        assert!(roster.is_admitted() && roster.peers() == [YOU]);
        // Redis has forgotten the other's entry too, so nothing says that it has noted this node.
        let empty = Table { number: 1, ..Table::default() };
        assert_eq!(roster.read(&empty, |_| true, false), Change::default());
        assert!(!roster.is_admitted() && roster.peers() == [YOU]);
        // Its number has another process: that is a proof.
        let next = NodeId { incarnation: 21, ..YOU };
        let mut replaced = table(&[ME]);
        replaced.entries.get_mut(&2).into_iter().for_each(|entry| entry.incarnation = "21".into());
        let change = roster.read(&replaced, |_| true, false);
        assert_eq!(change, Change { gone: vec![YOU], table: Some((2, vec![next])) });
        let change = roster.read(&table(&[ME]), |_| false, true);
        assert_eq!((change.gone, change.table), (vec![next], Some((3, vec![]))));
    }

    #[test]
    fn a_node_is_seen_once_all_shards_have_noted_it() {
        let mut roster = Roster::new(ME, 2);
        roster.read(&table(&[]), |_| true, true);
        assert!(!roster.note(0, 1) && roster.seen().is_empty());
        assert!(roster.note(1, 1));
        assert_eq!(roster.seen(), [YOU]);
        assert!(!roster.note(1, 1), "it is written already");
        roster.read(&table(&[]), |_| false, true);
        assert_eq!(roster.seen(), []);
        roster.read(&table(&[]), |_| true, true);
        assert!(!roster.note(0, 3) && roster.note(1, 3));
    }

    #[test]
    fn a_message_that_was_received_before_is_not_next() {
        let mut roster = Roster::new(ME, 1);
        roster.read(&table(&[]), |_| true, true);
        assert!(roster.knows(YOU) && !roster.knows(NodeId { number: 2, incarnation: 21 }));
        assert!(roster.is_next(YOU, 0, 5) && !roster.is_next(YOU, 0, 5));
        assert!(roster.is_next(YOU, 1, 5) && !roster.is_next(YOU, 0, 4));
        assert!(roster.is_next(YOU, 0, 6));
    }
}
