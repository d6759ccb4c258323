//! A flag in front of a waker: a burst of mail wakes a shard once, and no mail is missed.
//!
//! A sender queues mail first and then sets the flag; the sender that finds it unset wakes the
//! shard. The shard clears the flag first and then takes mail. So mail that it did not see was
//! queued after the flag was cleared, and wakes it again. The tests run this code through every
//! interleaving.

use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that threads share. The tests use one whose interleavings loom explores.
pub trait Flag {
    /// Creates a flag that is not set.
    fn unset() -> Self;
    /// Sets the flag, and returns its former value.
    fn swap(&self, value: bool) -> bool;
    /// Returns the value of the flag.
    fn is_set(&self) -> bool;
}

impl Flag for AtomicBool {
    fn unset() -> Self {
        Self::new(false)
    }

    fn swap(&self, value: bool) -> bool {
        self.swap(value, Ordering::SeqCst)
    }

    fn is_set(&self) -> bool {
        self.load(Ordering::SeqCst)
    }
}

/// Whether a shard was woken and has not taken its mail yet.
#[derive(Debug, Default)]
pub(crate) struct Notifier<F>(F);

impl<F: Flag> Notifier<F> {
    /// Runs `wake`, unless the shard was woken and has not taken its mail yet.
    pub(crate) fn notify(&self, wake: impl FnOnce()) {
        if !self.0.swap(true) {
            wake();
        }
    }

    /// Runs `put` and, if it succeeds, wakes the shard. A full queue wakes no shard.
    pub(crate) fn post<E>(
        &self,
        put: impl FnOnce() -> Result<(), E>,
        wake: impl FnOnce(),
    ) -> Result<(), E> {
        put()?;
        self.notify(wake);
        Ok(())
    }

    /// Takes a shard's mail in a turn: rearms the notifier if the shard was woken, then calls
    /// `open` until it finds no mail, at most `most` times. Returns whether mail may be left, for
    /// which the shard will not be woken.
    pub(crate) fn take_mail(
        &self,
        woken: bool,
        most: usize,
        mut open: impl FnMut() -> bool,
    ) -> bool {
        if woken {
            self.rearm();
        }
        (0..most).all(|_| open())
    }

    /// Clears the flag: from now on new mail wakes the shard again.
    ///
    /// This is a swap and not a store, because it must see the mail of every sender that found the
    /// flag set.
    fn rearm(&self) {
        self.0.swap(false);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use loom::sync::atomic::AtomicBool as LoomBool;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;
    use std::collections::VecDeque;

    impl Flag for LoomBool {
        fn unset() -> Self {
            Self::new(false)
        }

        fn swap(&self, value: bool) -> bool {
            self.swap(value, Ordering::SeqCst)
        }

        /// Reads by a change that changes nothing, because loom does not order plain loads.
        fn is_set(&self) -> bool {
            self.fetch_or(false, Ordering::SeqCst)
        }
    }

    /// A mailbox like that of `mail`, with models of the queues and of the kernel's counter of
    /// wake-ups.
    pub(crate) struct Model<T = u8> {
        notifier: Notifier<LoomBool>,
        mail: Mutex<VecDeque<T>>,
        /// Events of the storage.
        events: Mutex<VecDeque<T>>,
        capacity: usize,
        wakeups: Mutex<u32>,
        woken: Condvar,
    }

    impl<T> Model<T> {
        pub(crate) fn new(capacity: usize) -> Arc<Self> {
            Arc::new(Self {
                notifier: Notifier(LoomBool::new(false)),
                mail: Mutex::new(VecDeque::new()),
                events: Mutex::new(VecDeque::new()),
                capacity,
                wakeups: Mutex::new(0),
                woken: Condvar::new(),
            })
        }

        pub(crate) fn notify(&self) {
            self.notifier.notify(|| self.wake());
        }

        fn wake(&self) {
            *self.wakeups.lock().unwrap() += 1;
            self.woken.notify_one();
        }

        /// Posts an item. Returns false if the mailbox is full.
        pub(crate) fn post(&self, item: T) -> bool {
            self.put(&self.mail, item)
        }

        fn send_event(&self, event: T) -> bool {
            self.put(&self.events, event)
        }

        fn put(&self, queue: &Mutex<VecDeque<T>>, item: T) -> bool {
            let put = || {
                let mut queue = queue.lock().unwrap();
                let fits = queue.len() < self.capacity;
                fits.then(|| queue.push_back(item)).ok_or(())
            };
            self.notifier.post(put, || self.wake()).is_ok()
        }

        fn take(&self) -> Option<T> {
            self.mail.lock().unwrap().pop_front()
        }

        fn take_event(&self) -> Option<T> {
            self.events.lock().unwrap().pop_front()
        }

        /// Sleeps like `poll`: all wake-ups so far count as one. A shard with mail left does not
        /// sleep.
        fn sleep(&self, mail_waits: bool) -> bool {
            let mut wakeups = self.wakeups.lock().unwrap();
            while *wakeups == 0 && !mail_waits {
                wakeups = self.woken.wait(wakeups).unwrap();
            }
            std::mem::take(&mut *wakeups) > 0
        }

        /// Runs a turn: sleeps until something is there, and takes at most `most` pieces of mail
        /// and of storage events.
        pub(crate) fn turn(&self, mail_waits: &mut bool, most: usize) -> Vec<T> {
            let woken = self.sleep(*mail_waits);
            let mut items = Vec::new();
            *mail_waits = self.notifier.take_mail(woken, most, || {
                let (mail, event) = (self.take(), self.take_event());
                let some = mail.is_some() || event.is_some();
                items.extend(mail.into_iter().chain(event));
                some
            });
            items
        }
    }

    /// Runs a shard until it has taken `count` items. Loom reports it if it sleeps for ever.
    fn receive(model: &Model, count: usize) -> Vec<u8> {
        let (mut items, mut mail_waits) = (Vec::new(), false);
        while items.len() < count {
            items.extend(model.turn(&mut mail_waits, usize::MAX));
        }
        items
    }

    /// Runs a shard that takes at most `most` pieces of mail per turn, until `is_over` and a last
    /// look after it.
    fn receive_until(model: &Model, most: usize, is_over: impl Fn() -> bool) -> Vec<u8> {
        let (mut items, mut mail_waits, mut over) = (Vec::new(), false, false);
        while !over || mail_waits {
            items.extend(model.turn(&mut mail_waits, most));
            if !over && is_over() {
                (over, mail_waits) = (true, true);
            }
        }
        items
    }

    /// Connections and storage events share a notifier, and a turn takes a limited number of both.
    /// Nothing stays behind.
    #[test]
    fn all_mail_and_storage_events_are_received() {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| {
            let model = Model::new(2);
            let senders = [true, false].map(|is_mail| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    assert!(if is_mail {
                        model.post(1) && model.post(2)
                    } else {
                        model.send_event(3)
                    })
                })
            });
            let (mut items, mut mail_waits) = (Vec::new(), false);
            while items.len() < 3 {
                items.extend(model.turn(&mut mail_waits, 1));
            }
            items.sort_unstable();
            assert_eq!(items, [1, 2, 3]);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// Two senders post two items each and announce that they have ended. The shard ends when
    /// both have, after a last look. It finds all four items, those of each sender in order.
    #[test]
    fn four_items_of_two_senders_arrive_before_the_end() {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| {
            let model = Model::new(4);
            let ended = Arc::new([LoomBool::new(false), LoomBool::new(false)]);
            let senders = [0, 1].map(|sender| {
                let (model, ended) = (Arc::clone(&model), Arc::clone(&ended));
                thread::spawn(move || {
                    assert!(model.post(10 * sender) && model.post(10 * sender + 1));
                    Flag::swap(&ended[usize::from(sender)], true);
                    model.notify();
                })
            });
            let items = receive_until(&model, 1, || ended.iter().all(Flag::is_set));
            for sender in [0, 10] {
                let of_sender: Vec<u8> =
                    items.iter().copied().filter(|item| item / 10 * 10 == sender).collect();
                assert_eq!(of_sender, [sender, sender + 1]);
            }
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// Storage events that find no capacity return to the storage, which posts them again. Each
    /// arrives once and in order.
    #[test]
    fn rejected_storage_events_are_retried_and_arrive_in_order() {
        loom::model(|| {
            let model = Model::new(1);
            let storage = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let (first, second) = (model.send_event(1), model.send_event(2));
                    assert!(first);
                    second
                })
            };
            let mut events = receive(&model, 1);
            if !storage.join().unwrap() {
                assert!(model.send_event(2), "there is room again");
            }
            if events.len() < 2 {
                events.extend(receive(&model, 1));
            }
            assert_eq!(events, [1, 2]);
        });
    }

    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let model = Model::new(2);
            let senders = [1, 2].map(|item| {
                let model = Arc::clone(&model);
                thread::spawn(move || assert!(model.post(item)))
            });
            let mut items = receive(&model, 2);
            items.sort_unstable();
            assert_eq!(items, [1, 2]);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// The shard ends when it is asked to, after a last look. It finds all mail that was posted
    /// before.
    #[test]
    fn mail_posted_before_the_end_is_received() {
        loom::model(|| {
            let model = Model::new(1);
            let ended = Arc::new(LoomBool::new(false));
            let sender = {
                let (model, ended) = (Arc::clone(&model), Arc::clone(&ended));
                thread::spawn(move || {
                    let posted = model.post(1);
                    ended.swap(true, Ordering::SeqCst);
                    model.notify();
                    posted
                })
            };
            let items = receive_until(&model, usize::MAX, || ended.is_set());
            assert_eq!(items.len(), usize::from(sender.join().unwrap()));
        });
    }

    /// A full mailbox rejects an item, which then arrives with the next try.
    #[test]
    fn a_full_mailbox_rejects_an_item_and_loses_none() {
        loom::model(|| {
            let model = Model::new(1);
            let sender = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    assert!(model.post(1));
                    model.post(2)
                })
            };
            let mut items = receive(&model, 1);
            if sender.join().unwrap() && items.len() == 1 {
                items.extend(receive(&model, 1));
            }
            assert!(items == [1] || items == [1, 2]);
        });
    }
}
