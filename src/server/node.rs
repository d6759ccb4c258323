//! The server as a node of a cluster: its join, and the adapters between shards and the crate that
//! speaks with Redis.

use std::sync::Arc;
use std::time::Duration;

use bandsync_cluster::{Courier, JoinError, Member, Shards, Timepiece};
use bandsync_driver::{Asker, Clock, Host, Mailer, NodeOrder, Order, SharedMetrics, Steering};
use bandsync_engine::clock::Course;
use bandsync_engine::io::report::Counters;
use bandsync_engine::io::{Cluster, HttpRequest, HttpResponse, NodeNews, Settings};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use log::{info, warn};

use crate::config::Clustering;
use crate::http::Site;

/// Time that a join waits until its session is claimed.
const CLAIM_WAIT: Duration = Duration::from_secs(3);

/// Joins the cluster that the configuration asks for. Returns the member with the clock of the
/// cluster. `None`: the server is alone.
///
/// # Errors
/// If it cannot join and may not run alone.
pub(super) fn join(
    wish: Option<&Clustering>,
    metrics: &Arc<SharedMetrics<Counters>>,
) -> Result<Option<(Member, Clock)>, JoinError> {
    let Some(wish) = wish else { return Ok(None) };
    let steering = Steering::new();
    let timepiece = NodeClock { steering, metrics: Arc::clone(metrics) };
    match bandsync_cluster::join(wish.node.clone(), Arc::new(timepiece)) {
        Ok(member) => {
            steering.found(member.founded_unix_us());
            info!("this is node {} of the cluster, {:?}", member.node().number, wish.node.name);
            Ok(Some((member, steering.clock())))
        }
        Err(error) if wish.is_required => Err(error),
        Err(error) => {
            warn!("running alone, members on other servers do not share sessions: {error}");
            Ok(None)
        }
    }
}

/// The clock of the shards, which the cluster steers.
struct NodeClock {
    steering: Steering,
    metrics: Arc<SharedMetrics<Counters>>,
}

impl Timepiece for NodeClock {
    fn machine(&self) -> i64 {
        self.steering.machine()
    }

    fn steer(&self, course: Course) {
        self.steering.steer(course);
    }

    /// Returns true if there is no member: music plays to nobody then.
    fn is_quiet(&self) -> bool {
        let mut shards = (0..self.metrics.shards()).map(ShardId);
        shards.all(|shard| self.metrics.counters(shard).members == 0)
    }
}

/// Completes the settings of a shard whose node has joined.
pub(super) fn settings(member: &Member, wish: &Clustering, alone: Settings) -> Settings {
    let micros = |time: Duration| Micros::from_micros(time.as_micros() as u64);
    let cluster = Cluster {
        node: member.node(),
        buckets: member.buckets(),
        lease_ttl: micros(wish.node.lease_ttl),
    };
    Settings { cluster: Some(cluster), storage_wait: Some(micros(CLAIM_WAIT)), ..alone }
}

/// The host of a node: the pages of the site, and the way to other nodes.
pub(super) struct NodeHost {
    pub(super) site: Site,
    pub(super) courier: Courier,
}

impl Host for NodeHost {
    fn answer(&self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        self.site.answer(asker, request)
    }

    fn trim(&self) {
        self.site.trim();
    }

    /// Deletes sessions in the store that all nodes share. A node loads and stores none: it claims
    /// and commits.
    fn store(&self, shard: ShardId, order: Order<'_>) -> bool {
        match order {
            Order::Forget { session, epoch } => {
                self.courier.order(shard, bandsync_cluster::Order::Forget { session, epoch })
            }
            Order::Load(_) | Order::Store { .. } => false,
        }
    }

    fn tell_nodes(&self, shard: ShardId, order: NodeOrder<'_>) -> bool {
        use bandsync_cluster::Order as To;
        let order = match order {
            NodeOrder::Claim { session, expected, floor } => To::Claim { session, expected, floor },
            NodeOrder::Commit { session, epoch, version, record, branches, head, tail, to } => {
                To::Commit { session, epoch, version, record, branches, head, tail, to }
            }
            NodeOrder::Publish { session, to, body } => To::Publish { session, to, body },
            NodeOrder::Announce { to, body } => To::Announce { to, body },
            NodeOrder::Noted { revision } => To::Noted { revision },
            NodeOrder::Release { session, epoch } => To::Release { session, epoch },
        };
        self.courier.order(shard, order)
    }
}

/// Passes news from other nodes to the shards.
pub(super) struct NodeSink {
    pub(super) post: Mailer,
    pub(super) shards: u16,
}

impl Shards for NodeSink {
    fn count(&self) -> u16 {
        self.shards
    }

    fn send(&self, shard: ShardId, news: NodeNews) -> Result<(), NodeNews> {
        self.post.send_news(shard, news)
    }
}
