//! News on their way to the shards, in order within each shard. A full mailbox is tried again each
//! millisecond.

use std::collections::VecDeque;
use std::sync::Arc;

use bandsync_engine::io::NodeNews;
use bandsync_engine::words::ids::ShardId;
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::meters::{Meters, add};

/// Maximum messages of other nodes that wait for a shard.
const HEARD_MAX: usize = 4_096;

/// Maximum bytes of those messages.
const HEARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The way to the shards.
pub trait Shards: Send + Sync + 'static {
    /// Number of shards.
    fn count(&self) -> u16;

    /// Passes news to a shard without blocking.
    ///
    /// # Errors
    /// The news, if the shard's mailbox is full.
    fn send(&self, shard: ShardId, news: NodeNews) -> Result<(), NodeNews>;
}

/// Sends news, and keeps those for which a shard has no room.
pub struct Post {
    shards: Box<dyn Shards>,
    queues: Vec<Mutex<Queue>>,
    /// Wakes the thread that tries again.
    wake: Sender<()>,
    meters: Arc<Meters>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<NodeNews>,
    heard: usize,
    heard_bytes: usize,
}

impl Post {
    /// Creates the way to these shards. `wake` wakes the caller of [`Post::retry`].
    pub fn new(shards: impl Shards, wake: Sender<()>, meters: Arc<Meters>) -> Self {
        let queues = (0..shards.count().max(1)).map(|_| Mutex::default()).collect();
        Self { shards: Box::new(shards), queues, wake, meters }
    }

    /// Number of shards.
    pub fn count(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Wakes the thread that reports standings and tries full mailboxes again.
    pub fn wake(&self) {
        // A full channel has a wake-up already.
        let _ = self.wake.try_send(());
    }

    /// Sends news to a shard. If too many messages of nodes wait for it, another is dropped: the
    /// engine notices by its number. Answers are as many as its orders, which are bounded.
    pub fn send(&self, shard: ShardId, news: NodeNews) {
        let Some(queue) = self.queues.get(usize::from(shard.0)) else { return };
        let mut queue = queue.lock();
        let refused = match queue.waiting.is_empty() {
            true => self.shards.send(shard, news).err(),
            false => Some(news),
        };
        let Some(news) = refused else { return };
        if let NodeNews::Heard { body, .. } = &news {
            if queue.heard >= HEARD_MAX || queue.heard_bytes + body.len() > HEARD_BYTES_MAX {
                add(&self.meters.dropped_full, 1);
                return;
            }
            queue.heard += 1;
            queue.heard_bytes += body.len();
        }
        queue.waiting.push_back(news);
        drop(queue);
        self.wake();
    }

    /// Sends news to every shard.
    pub fn send_all(&self, news: &NodeNews) {
        (0..self.count()).for_each(|shard| self.send(ShardId(shard), news.clone()));
    }

    /// Sends a message of a node to the shard of the session with this tag.
    pub fn shard_of(&self, tag: u64) -> ShardId {
        ShardId(((u128::from(tag) * u128::from(self.count())) >> 64) as u16)
    }

    /// Tries full mailboxes again. Returns whether news are left.
    pub fn retry(&self) -> bool {
        let mut left = false;
        for (shard, queue) in self.queues.iter().enumerate() {
            let mut queue = queue.lock();
            while let Some(news) = queue.waiting.pop_front() {
                let bytes =
                    if let NodeNews::Heard { body, .. } = &news { Some(body.len()) } else { None };
                if let Err(news) = self.shards.send(ShardId(shard as u16), news) {
                    queue.waiting.push_front(news);
                    left = true;
                    break;
                }
                if let Some(bytes) = bytes {
                    queue.heard -= 1;
                    queue.heard_bytes -= bytes;
                }
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bandsync_engine::io::NodeId;
    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    struct Mailboxes(Vec<Sender<NodeNews>>);

    impl Shards for Mailboxes {
        fn count(&self) -> u16 {
            self.0.len() as u16
        }

        fn send(&self, shard: ShardId, news: NodeNews) -> Result<(), NodeNews> {
            self.0[usize::from(shard.0)].try_send(news).map_err(|error| error.into_inner())
        }
    }

    fn post(room: usize) -> (Post, Vec<Receiver<NodeNews>>, Receiver<()>) {
        let (senders, receivers) = (0..2).map(|_| bounded(room)).unzip();
        let (wake, woken) = bounded(1);
        (Post::new(Mailboxes(senders), wake, Arc::default()), receivers, woken)
    }

    fn heard(n: u64) -> NodeNews {
        let from = NodeId { number: 1, incarnation: n };
        NodeNews::Heard { from, body: Box::from([0; 8]) }
    }

    #[test]
    fn news_arrive_in_order_after_a_full_mailbox() {
        let (post, receivers, woken) = post(2);
        (0..5).for_each(|n| post.send(ShardId(1), heard(n)));
        assert!(woken.try_recv().is_ok());
        let mut got = Vec::new();
        while got.len() < 5 {
            got.extend(receivers[1].try_iter());
            post.retry();
        }
        assert_eq!(got, (0..5).map(heard).collect::<Vec<_>>());
        assert!(!post.retry() && receivers[0].try_recv().is_err());
    }

    #[test]
    fn messages_beyond_the_bound_are_dropped_and_answers_are_not() {
        let (post, receivers, _woken) = post(1);
        (0..=HEARD_MAX as u64 + 3).for_each(|n| post.send(ShardId(0), heard(n)));
        assert_eq!(post.meters.dropped_full.load(Ordering::Relaxed), 3);
        let news = NodeNews::Gone { node: NodeId { number: 9, incarnation: 9 } };
        post.send_all(&news);
        let mut got = Vec::new();
        while receivers[0].try_recv().is_ok_and(|news| {
            got.push(news);
            true
        }) {
            post.retry();
        }
        assert_eq!((got.len(), got.last()), (HEARD_MAX + 2, Some(&news)));
        assert_eq!(receivers[1].try_recv().ok().as_ref(), Some(&news));
    }

    #[test]
    fn a_message_reaches_the_shard_of_its_session() {
        let (post, ..) = post(1);
        for id in ["stage", "demo", "a", "b"] {
            let Some(session) = bandsync_engine::words::ids::SessionId::parse(id) else { continue };
            assert_eq!(post.shard_of(session.tag()), session.shard(2));
        }
    }
}
