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
            revision: 0,
            noted: vec![0; usize::from(shards.max(1))],
            seen: Vec::new(),
            admitted: false,
        }
    }

    /// Notes a table, and which of its nodes have a lease.
    pub fn read(&mut self, table: &Table, has_lease: impl Fn(NodeId) -> bool) -> Change {
        // Redis may have forgotten nodes, which stay known: their messages count once they are back.
        self.known.extend(table.others().map(|(node, _)| (node.number, node.incarnation)));
        let known = &self.known;
        self.counters.retain(|(node, _), _| known.get(&node.number) == Some(&node.incarnation));
        let living: Vec<_> = table.others().filter(|(node, _)| has_lease(*node)).collect();
        self.admitted = living.iter().all(|(_, entry)| entry.has_seen(self.me));
        let peers: Vec<NodeId> = living.iter().map(|(node, _)| *node).collect();
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
        let change = roster.read(&table(&[]), |_| true);
        assert_eq!(change, Change { gone: vec![], table: Some((1, vec![YOU])) });
        assert!(!roster.is_admitted());
        assert_eq!(roster.read(&table(&[ME]), |_| true), Change::default());
        assert!(roster.is_admitted());
        roster.lapse();
        assert!(!roster.is_admitted());
        // Another incarnation of this number was noted.
        roster.read(&table(&[NodeId { number: 1, incarnation: 9 }]), |_| true);
        assert!(!roster.is_admitted());
        // The other's lease has ended.
        let change = roster.read(&table(&[]), |_| false);
        assert_eq!(change, Change { gone: vec![YOU], table: Some((2, vec![])) });
        assert!(roster.is_admitted());
    }

    #[test]
    fn a_node_is_seen_once_all_shards_have_noted_it() {
        let mut roster = Roster::new(ME, 2);
        roster.read(&table(&[]), |_| true);
        assert!(!roster.note(0, 1) && roster.seen().is_empty());
        assert!(roster.note(1, 1));
        assert_eq!(roster.seen(), [YOU]);
        assert!(!roster.note(1, 1), "it is written already");
        roster.read(&table(&[]), |_| false);
        assert_eq!(roster.seen(), []);
        roster.read(&table(&[]), |_| true);
        assert!(!roster.note(0, 3) && roster.note(1, 3));
    }

    #[test]
    fn a_message_that_was_received_before_is_not_next() {
        let mut roster = Roster::new(ME, 1);
        roster.read(&table(&[]), |_| true);
        assert!(roster.knows(YOU) && !roster.knows(NodeId { number: 2, incarnation: 21 }));
        assert!(roster.is_next(YOU, 0, 5) && !roster.is_next(YOU, 0, 5));
        assert!(roster.is_next(YOU, 1, 5) && !roster.is_next(YOU, 0, 4));
        assert!(roster.is_next(YOU, 0, 6));
    }
}
