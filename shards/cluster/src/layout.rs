//! The primaries of Redis and the buckets of each. A primary has a *lane*: its threads and its
//! queue. A single server and one behind Sentinel have one lane, a Redis Cluster one for each
//! primary that has buckets or the table.

use std::collections::BTreeSet;

use bandsync_redis::{Connect, Endpoint, Range, Topology, Wire, covers_all, lost, ranges, slot_of};
use redis::{ConnectionInfo, RedisResult, cmd};

use crate::names::{Names, TABLE};

/// The lanes.
#[derive(Clone, Debug)]
pub struct Layout {
    endpoint: Endpoint,
    is_cluster: bool,
    /// The servers of each lane.
    lanes: Vec<Endpoint>,
    /// The lane of each bucket.
    lane_of: Vec<usize>,
    /// The lane of the table.
    table: usize,
}

impl Layout {
    /// Finds the primaries.
    ///
    /// # Errors
    /// If no server of a Cluster knows all slots.
    pub fn find(endpoint: &Endpoint, is_cluster: bool, names: &Names) -> RedisResult<Self> {
        let buckets = usize::from(names.count());
        let mut layout = Self {
            endpoint: endpoint.clone(),
            is_cluster,
            lanes: vec![endpoint.clone()],
            lane_of: vec![0; buckets],
            table: 0,
        };
        if is_cluster {
            layout.lanes.clear();
            layout.learn(names)?;
        }
        Ok(layout)
    }

    /// Whether Redis is a Cluster, in which keys need the tag of their bucket.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The servers of a lane.
    pub fn endpoint(&self, lane: usize) -> &Endpoint {
        self.lanes.get(lane).unwrap_or(&self.endpoint)
    }

    /// The lane of each bucket.
    pub fn lane_of(&self) -> &[usize] {
        &self.lane_of
    }

    /// The lane of the table.
    pub fn table(&self) -> usize {
        self.table
    }

    /// Asks the known servers of a Cluster for the slots, and takes the first answer in which all
    /// slots have a primary. Returns whether anything changed.
    ///
    /// # Errors
    /// If no server has such an answer.
    pub fn learn(&mut self, names: &Names) -> RedisResult<bool> {
        if !self.is_cluster {
            return Ok(false);
        }
        let mut last = Err(lost());
        for node in self.known() {
            match slots(&node, &self.endpoint) {
                Ok(ranges) if covers_all(&ranges) => return Ok(self.take(&ranges, names)),
                Ok(_) => {}
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// The servers that may know the slots: those in use first.
    fn known(&self) -> Vec<ConnectionInfo> {
        let nodes = |topology: &Topology| match topology {
            Topology::Single(info) => vec![info.clone()],
            Topology::Cluster(nodes) => nodes.clone(),
            Topology::Sentinel { primary, .. } => vec![(**primary).clone()],
        };
        let lanes = self.lanes.iter().flat_map(|lane| nodes(&lane.topology));
        lanes.chain(nodes(&self.endpoint.topology)).collect()
    }

    /// Takes an answer. A lane keeps its server as long as it is a primary; that of a server which
    /// is none any more is reused.
    fn take(&mut self, ranges: &[Range], names: &Names) -> bool {
        let before = (self.lane_of.clone(), self.table, self.addresses());
        let primary = |slot: u16| {
            ranges
                .iter()
                .find(|(first, last, _)| (*first..=*last).contains(&slot))
                .map(|range| &range.2)
        };
        let wanted: Vec<Option<&ConnectionInfo>> = (0..names.count())
            .map(|bucket| primary(names.slot(bucket)))
            .chain([primary(slot_of(TABLE.as_bytes()))])
            .collect();
        let used: BTreeSet<String> =
            wanted.iter().flatten().map(|info| info.addr().to_string()).collect();
        let mut lanes = Vec::new();
        for info in wanted.into_iter().flatten() {
            lanes.push(self.lane_at(info, &used));
        }
        self.table = lanes.pop().unwrap_or_default();
        lanes.resize(usize::from(names.count()), 0);
        self.lane_of = lanes;
        before != (self.lane_of.clone(), self.table, self.addresses())
    }

    fn lane_at(&mut self, info: &ConnectionInfo, used: &BTreeSet<String>) -> usize {
        let addresses = self.addresses();
        let address = info.addr().to_string();
        let servers =
            Endpoint { topology: Topology::Single(info.clone()), ..self.endpoint.clone() };
        if let Some(lane) = addresses.iter().position(|known| *known == address) {
            return lane;
        }
        if let Some(free) = addresses.iter().position(|known| !used.contains(known)) {
            self.lanes[free] = servers;
            return free;
        }
        self.lanes.push(servers);
        self.lanes.len() - 1
    }

    fn addresses(&self) -> Vec<String> {
        let address = |lane: &Endpoint| match &lane.topology {
            Topology::Single(info) => info.addr().to_string(),
            _ => String::new(),
        };
        self.lanes.iter().map(address).collect()
    }
}

/// Asks a server for the slots.
fn slots(node: &ConnectionInfo, endpoint: &Endpoint) -> RedisResult<Vec<Range>> {
    let mut wire = Wire::connect(node, endpoint.timeout)?;
    let answer = wire.ask(cmd("CLUSTER").arg("SLOTS"))?;
    Ok(ranges(&answer, node))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn layout() -> (Layout, Names) {
        let topology = Topology::parse("redis+cluster://seed").unwrap();
        let endpoint = Endpoint { topology, replicas: 0, timeout: Duration::from_secs(1) };
        let lane_of = vec![0; 16];
        (Layout { endpoint, is_cluster: true, lanes: vec![], lane_of, table: 0 }, Names::new(16))
    }

    fn range(first: u16, last: u16, url: &str) -> Range {
        let Topology::Single(info) = Topology::parse(url).unwrap() else { panic!() };
        (first, last, info)
    }

    #[test]
    fn a_lane_keeps_its_server_and_that_of_a_former_primary_is_reused() {
        let (mut layout, names) = layout();
        let (a, b, c) = ("redis://a:1", "redis://b:1", "redis://c:1");
        assert!(layout.take(&[range(0, 8_191, a), range(8_192, 16_383, b)], &names));
        assert_eq!(layout.lane_of(), [[0; 8], [1; 8]].concat());
        assert_eq!(layout.table(), usize::from(slot_of(TABLE.as_bytes()) > 8_191));
        assert!(!layout.take(&[range(0, 8_191, a), range(8_192, 16_383, b)], &names));
        // Two buckets move.
        assert!(layout.take(&[range(0, 6_143, a), range(6_144, 16_383, b)], &names));
        assert_eq!(layout.lane_of(), [&[0; 6][..], &[1; 10]].concat());
        // A replica is promoted.
        assert!(layout.take(&[range(0, 6_143, c), range(6_144, 16_383, b)], &names));
        assert_eq!(layout.lane_of(), [&[0; 6][..], &[1; 10]].concat());
        assert_eq!(layout.addresses(), ["c:1", "b:1"]);
        // A third primary.
        let third = [range(0, 1_023, a), range(1_024, 6_143, c), range(6_144, 16_383, b)];
        assert!(layout.take(&third, &names));
        assert_eq!(layout.count(), 3);
        assert_eq!(layout.lane_of()[..2], [2, 0]);
    }
}
