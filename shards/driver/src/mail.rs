//! The bounded queues into a shard: connections and messages from other shards, events of the
//! storage, news from other nodes, and answers that took longer than a turn.
//!
//! No sender waits. Mail that finds no room stays in the sender's [`Outbox`]; the others come back
//! to their sender.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bandsync_engine::io::{HttpResponse, NodeNews, StorageEvent};
use bandsync_engine::words::ids::{ConnId, ShardId};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;
use mio::net::TcpStream;

use crate::notifier::Notifier;
use crate::shutdown::LiveGuard;
use crate::unsent::Unsent;

/// A connection that moves to another shard. Input that was read and not used is in the machine's
/// state; input that arrives meanwhile stays in the kernel, which reports it to the next poll.
#[derive(Debug)]
pub struct HandOver<S> {
    /// The socket. No net watches it.
    pub socket: S,
    /// The peer's address.
    pub peer: IpAddr,
    /// Bytes that the kernel has not accepted yet.
    pub unsent: Unsent,
    /// The machine's state of the connection.
    pub state: Box<[u8]>,
    /// The connection's part in the count of live ones. None if it was accepted during the drain.
    pub live: Option<LiveGuard>,
}

/// Mail from one shard to another.
#[derive(Debug)]
pub enum Mail<S> {
    /// A connection that moves.
    HandOver(Box<HandOver<S>>),
    /// A message of the other shard's machine.
    ShardMessage(Box<[u8]>),
}

/// The receiving end of a shard's mail.
#[derive(Debug)]
pub(crate) struct Mailbox {
    mail: Receiver<Mail<TcpStream>>,
    events: Receiver<StorageEvent>,
    /// None if the server is alone: the queue would take memory for nothing.
    news: Option<Receiver<NodeNews>>,
    answers: Receiver<(ConnId, HttpResponse)>,
    notifier: Arc<Notifier<AtomicBool>>,
}

/// The sending end of a shard's mail.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    mail: Sender<Mail<TcpStream>>,
    events: Sender<StorageEvent>,
    news: Option<Sender<NodeNews>>,
    answers: Sender<(ConnId, HttpResponse)>,
    /// The flag through which a burst costs one system call.
    notifier: Arc<Notifier<AtomicBool>>,
    waker: Arc<Waker>,
}

/// Maximum number of late answers that wait for a shard. Guessed: operators ask a few times per
/// second.
const ANSWERS_CAPACITY: usize = 64;

/// Creates both ends of a shard's mail, for at most `capacity` connections and messages and as many
/// storage events. If the server belongs to a cluster, there is room for as many news from nodes.
/// `waker` wakes the shard.
pub(crate) fn mailbox(
    capacity: usize,
    is_clustered: bool,
    waker: Arc<Waker>,
) -> (Mailbox, Address) {
    let (sender, receiver) = bounded(capacity);
    let (event_sender, event_receiver) = bounded(capacity);
    let (news_sender, news_receiver) = is_clustered.then(|| bounded(capacity)).unzip();
    let (answer_sender, answer_receiver) = bounded(ANSWERS_CAPACITY);
    let notifier = Arc::<Notifier<AtomicBool>>::default();
    let mailbox = Mailbox {
        mail: receiver,
        events: event_receiver,
        news: news_receiver,
        answers: answer_receiver,
        notifier: Arc::clone(&notifier),
    };
    let address = Address {
        mail: sender,
        events: event_sender,
        news: news_sender,
        answers: answer_sender,
        notifier,
        waker,
    };
    (mailbox, address)
}

impl Mailbox {
    /// Returns the notifier through which the shard takes its mail.
    pub(crate) fn notifier(&self) -> Arc<Notifier<AtomicBool>> {
        Arc::clone(&self.notifier)
    }

    /// Returns the number of connections and messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.mail.len()
    }

    /// Takes the next connection or message.
    pub(crate) fn take(&self) -> Option<Mail<TcpStream>> {
        self.mail.try_recv().ok()
    }

    /// Takes the next event of the storage.
    pub(crate) fn take_event(&self) -> Option<StorageEvent> {
        self.events.try_recv().ok()
    }

    /// Takes the next news from another node.
    pub(crate) fn take_news(&self) -> Option<NodeNews> {
        self.news.as_ref()?.try_recv().ok()
    }

    /// Takes the next late answer, with its connection.
    pub(crate) fn take_answer(&self) -> Option<(ConnId, HttpResponse)> {
        self.answers.try_recv().ok()
    }
}

impl Address {
    /// Wakes the shard, unless it was woken and has not looked yet.
    pub(crate) fn wake(&self) {
        self.notifier.notify(|| self.wake_poll());
    }

    fn wake_poll(&self) {
        if let Err(error) = self.waker.wake() {
            // The kernel's counter of wake-ups is full, so a wake-up is already pending.
            log::debug!("a shard is not woken again: {error}");
        }
    }

    /// Posts an event of the storage, or returns it if the mailbox is full. An event for a shard
    /// that has ended is dropped.
    pub(crate) fn send_event(&self, event: StorageEvent) -> Result<(), StorageEvent> {
        match self.notifier.post(|| self.events.try_send(event), || self.wake_poll()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => Err(event),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Posts news from another node, or returns them if the mailbox is full. News for a shard that
    /// has ended are dropped, as are those for a server that is alone.
    pub(crate) fn send_news(&self, news: NodeNews) -> Result<(), NodeNews> {
        let Some(queue) = &self.news else { return Ok(()) };
        match self.notifier.post(|| queue.try_send(news), || self.wake_poll()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(news)) => Err(news),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Posts the answer to a question of a connection, or returns it if the mailbox is full. An
    /// answer for a shard that has ended is dropped.
    pub(crate) fn answer(&self, conn: ConnId, answer: HttpResponse) -> Result<(), HttpResponse> {
        match self.notifier.post(|| self.answers.try_send((conn, answer)), || self.wake_poll()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full((_, answer))) => Err(answer),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Posts mail, or returns it if the mailbox is full.
    fn post(&self, mail: Mail<TcpStream>) -> Result<(), Mail<TcpStream>> {
        match self.notifier.post(|| self.mail.try_send(mail), || self.wake_poll()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(mail)) => Err(mail),
            // The shard was cut off or panicked, so its sessions are gone. Dropping a connection
            // closes it.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

/// Mail to other shards that waits for room in their mailboxes.
#[derive(Debug)]
pub(crate) struct Outbox {
    addresses: Arc<[Address]>,
    waiting: VecDeque<(ShardId, Mail<TcpStream>)>,
}

impl Outbox {
    pub(crate) fn new(addresses: Arc<[Address]>) -> Self {
        Self { addresses, waiting: VecDeque::new() }
    }

    /// Queues mail for the next [`Outbox::post`].
    pub(crate) fn put(&mut self, to: ShardId, mail: Mail<TcpStream>) {
        assert!(usize::from(to.0) < self.addresses.len(), "there is no shard {}", to.0);
        self.waiting.push_back((to, mail));
    }

    /// Posts all mail for which there is room. Returns the number of pieces that still wait.
    pub(crate) fn post(&mut self) -> usize {
        for _ in 0..self.waiting.len() {
            let Some((to, mail)) = self.waiting.pop_front() else { break };
            if let Err(mail) = self.addresses[usize::from(to.0)].post(mail) {
                self.waiting.push_back((to, mail));
            }
        }
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Wakes all shards.
    pub(crate) fn wake_all(&self) {
        for address in &*self.addresses {
            address.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shutdown::Shutdown;
    use mio::{Events, Poll, Token};
    use std::fs::File;
    use std::net::Ipv4Addr;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    /// Returns a connection if `name` is even, and a message if it is odd.
    fn mail(name: u8) -> Mail<TcpStream> {
        if name % 2 == 1 {
            return Mail::ShardMessage(Box::new([name]));
        }
        Mail::HandOver(Box::new(HandOver {
            socket: OwnedFd::from(File::open("/dev/null").unwrap()).into(),
            peer: Ipv4Addr::LOCALHOST.into(),
            unsent: Unsent::default(),
            state: Box::new([name]),
            live: Some(Shutdown::new(1).enter()),
        }))
    }

    fn wakeups(poll: &mut Poll) -> usize {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().count()
    }

    #[test]
    fn mail_for_a_full_mailbox_waits_and_keeps_its_order() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(2, false, waker);
        let mut outbox = Outbox::new([address].into());
        for name in 0..5 {
            outbox.put(ShardId(0), mail(name));
        }
        let mut order = Vec::new();
        for left in [3, 1, 0] {
            assert_eq!(outbox.post(), left);
            while let Some(mail) = mailbox.take() {
                order.push(match mail {
                    Mail::HandOver(hand_over) => hand_over.state[0],
                    Mail::ShardMessage(message) => message[0],
                });
            }
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_burst_wakes_once_and_the_next_one_again() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(8, false, waker);
        for _ in 0..2 {
            assert_eq!(wakeups(&mut poll), 0);
            for name in 0..3 {
                assert!(address.post(mail(name)).is_ok());
            }
            assert_eq!(wakeups(&mut poll), 1);
            assert!(!mailbox.notifier().take_mail(true, usize::MAX, || mailbox.take().is_some()));
        }
    }

    #[test]
    fn storage_events_arrive_in_order_and_a_full_mailbox_rejects_more() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(2, false, waker);
        for (fits, woken) in [(true, 1), (true, 0), (false, 0)] {
            assert_eq!(address.send_event(StorageEvent::Returned).is_ok(), fits);
            assert_eq!(wakeups(&mut poll), woken);
        }
        assert_eq!(
            (mailbox.take_event(), mailbox.take_event()),
            (Some(StorageEvent::Returned), Some(StorageEvent::Returned))
        );
        assert_eq!(mailbox.take_event(), None);
        drop(mailbox);
        assert_eq!(address.send_event(StorageEvent::Returned), Ok(()));
    }

    #[test]
    fn news_from_nodes_arrive_in_order_and_a_full_mailbox_rejects_more() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(2, true, waker);
        let news = |revision| NodeNews::Table { revision, peers: Vec::new() };
        for (revision, fits, woken) in [(1, true, 1), (2, true, 0), (3, false, 0)] {
            assert_eq!(address.send_news(news(revision)).is_ok(), fits);
            assert_eq!(wakeups(&mut poll), woken);
        }
        let taken = [(); 3].map(|()| mailbox.take_news());
        assert_eq!(taken, [Some(news(1)), Some(news(2)), None]);
        drop(mailbox);
        assert_eq!(address.send_news(news(4)), Ok(()));
    }

    #[test]
    fn a_server_that_is_alone_drops_news() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(2, false, waker);
        assert_eq!(address.send_news(NodeNews::Table { revision: 1, peers: vec![] }), Ok(()));
        assert_eq!((wakeups(&mut poll), mailbox.take_news()), (0, None));
    }

    #[test]
    fn a_late_answer_wakes_the_shard_and_a_full_mailbox_rejects_more() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(1, false, waker);
        let conn = ConnId { index: 3, generation: 1 };
        let answer = HttpResponse { status: 200, headers: Vec::new(), body: b"late"[..].into() };
        for number in 0..ANSWERS_CAPACITY {
            assert_eq!(address.answer(conn, answer.clone()), Ok(()), "{number}");
        }
        assert_eq!(wakeups(&mut poll), 1);
        assert_eq!(address.answer(conn, answer.clone()), Err(answer.clone()));
        assert_eq!(mailbox.take_answer(), Some((conn, answer.clone())));
        drop(mailbox);
        assert_eq!(address.answer(conn, answer), Ok(()));
    }

    #[test]
    fn mail_for_an_ended_shard_is_accepted_and_dropped() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mailbox, address) = mailbox(1, false, waker);
        drop(mailbox);
        assert!(address.post(mail(0)).is_ok());
    }
}
