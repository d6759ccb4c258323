//! How a shard is woken once for a burst of mail, and never missed: a flag in front of a waker.
//!
//! Whoever posts puts the mail first and rings then; whoever is woken hears first and looks then. So mail that was not
//! seen was posted after the hearing, and rang again. The tests run this very code through every interleaving.

use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that threads share.
pub(crate) trait Flag {
    /// One that is not set.
    fn unset() -> Self;
    /// Sets it and says what it was.
    fn swap(&self, value: bool) -> bool;
    /// Says what it is.
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

/// Whether a shard was woken and has not looked yet.
#[derive(Debug, Default)]
pub(crate) struct Bell<F>(F);

impl<F: Flag> Bell<F> {
    /// Wakes by `wake`, unless somebody did and the shard has not looked yet.
    pub(crate) fn ring(&self, wake: impl FnOnce()) {
        if !self.0.swap(true) {
            wake();
        }
    }

    /// To be called when woken, before looking: whatever is posted from now on wakes again.
    ///
    /// A swap rather than a store, because it sees what everybody did who rang in vain.
    pub(crate) fn heard(&self) {
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

        /// Loom knows no order of all loads, so a look is a change that changes nothing.
        fn is_set(&self) -> bool {
            self.fetch_or(false, Ordering::SeqCst)
        }
    }

    /// A mailbox as it is in `mail`, with models of the queues and of the kernel's counter of wake-ups.
    pub(crate) struct Model<T = u8> {
        bell: Bell<LoomBool>,
        mail: Mutex<VecDeque<T>>,
        /// The storage's.
        news: Mutex<VecDeque<T>>,
        room: usize,
        wakeups: Mutex<u32>,
        woken: Condvar,
    }

    impl<T> Model<T> {
        pub(crate) fn new(room: usize) -> Arc<Self> {
            Arc::new(Self {
                bell: Bell(LoomBool::new(false)),
                mail: Mutex::new(VecDeque::new()),
                news: Mutex::new(VecDeque::new()),
                room,
                wakeups: Mutex::new(0),
                woken: Condvar::new(),
            })
        }

        pub(crate) fn ring(&self) {
            self.bell.ring(|| {
                *self.wakeups.lock().unwrap() += 1;
                self.woken.notify_one();
            });
        }

        /// False if there is no room.
        pub(crate) fn post(&self, letter: T) -> bool {
            self.put(&self.mail, letter)
        }

        fn tell(&self, news: T) -> bool {
            self.put(&self.news, news)
        }

        fn put(&self, queue: &Mutex<VecDeque<T>>, letter: T) -> bool {
            let mut queue = queue.lock().unwrap();
            if queue.len() == self.room {
                return false;
            }
            queue.push_back(letter);
            drop(queue);
            self.ring();
            true
        }

        pub(crate) fn take(&self) -> Option<T> {
            self.mail.lock().unwrap().pop_front()
        }

        fn take_news(&self) -> Option<T> {
            self.news.lock().unwrap().pop_front()
        }

        pub(crate) fn heard(&self) {
            self.bell.heard();
        }

        /// As poll does: all wake-ups so far are one.
        pub(crate) fn sleep(&self) {
            let mut wakeups = self.wakeups.lock().unwrap();
            while *wakeups == 0 {
                wakeups = self.woken.wait(wakeups).unwrap();
            }
            *wakeups = 0;
        }
    }

    /// Connections and news share a bell, and a turn takes in only so many of both: nothing stays behind.
    #[test]
    fn mail_and_news_are_all_taken_in() {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| {
            let model = Model::new(2);
            let senders = [true, false].map(|is_mail| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    assert!(if is_mail { model.post(1) && model.post(2) } else { model.tell(3) })
                })
            });
            let (mut letters, mut mail_waits) = (Vec::new(), false);
            while letters.len() < 3 {
                if !mail_waits {
                    model.sleep();
                    model.heard();
                }
                let (mail, news) = (model.take(), model.take_news());
                mail_waits = mail.is_some() || news.is_some();
                letters.extend(mail.into_iter().chain(news));
            }
            letters.sort_unstable();
            assert_eq!(letters, [1, 2, 3]);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// News that find no room come back to the storage, which tells them again: each comes once, and in order.
    #[test]
    fn news_that_find_no_room_are_told_again() {
        loom::model(|| {
            let model = Model::new(1);
            let storage = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let (first, second) = (model.tell(1), model.tell(2));
                    assert!(first);
                    second
                })
            };
            let mut news = Vec::new();
            while news.is_empty() {
                model.sleep();
                model.heard();
                while let Some(one) = model.take_news() {
                    news.push(one);
                }
            }
            if !storage.join().unwrap() {
                assert!(model.tell(2), "there is room again");
            }
            while news.len() < 2 {
                model.sleep();
                model.heard();
                while let Some(one) = model.take_news() {
                    news.push(one);
                }
            }
            assert_eq!(news, [1, 2]);
        });
    }

    /// A shard that takes its mail in until it has so many letters; loom finds it if it sleeps for ever.
    fn receive(model: &Model, count: usize) -> Vec<u8> {
        let mut letters = Vec::new();
        while letters.len() < count {
            model.sleep();
            model.bell.heard();
            while let Some(letter) = model.take() {
                letters.push(letter);
            }
        }
        letters
    }

    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let model = Model::new(2);
            let senders = [1, 2].map(|letter| {
                let model = Arc::clone(&model);
                thread::spawn(move || assert!(model.post(letter)))
            });
            let mut letters = receive(&model, 2);
            letters.sort_unstable();
            assert_eq!(letters, [1, 2]);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// The shard ends after it was told to, with a last look: what was posted before the telling is there.
    #[test]
    fn nothing_is_lost_at_the_end() {
        loom::model(|| {
            let model = Model::new(1);
            let ended = Arc::new(LoomBool::new(false));
            let sender = {
                let (model, ended) = (Arc::clone(&model), Arc::clone(&ended));
                thread::spawn(move || {
                    let posted = model.post(1);
                    ended.store(true, Ordering::SeqCst);
                    model.ring();
                    posted
                })
            };
            let mut letters = 0;
            loop {
                model.sleep();
                model.bell.heard();
                let over = ended.load(Ordering::SeqCst);
                while model.take().is_some() {
                    letters += 1;
                }
                if over {
                    break;
                }
            }
            assert_eq!(letters, u32::from(sender.join().unwrap()));
        });
    }

    /// A full mailbox refuses, and the letter that did not fit comes with the next try.
    #[test]
    fn a_full_mailbox_loses_nothing() {
        loom::model(|| {
            let model = Model::new(1);
            let sender = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    assert!(model.post(1));
                    model.post(2)
                })
            };
            let mut letters = receive(&model, 1);
            if sender.join().unwrap() && letters.len() == 1 {
                letters.extend(receive(&model, 1));
            }
            assert!(letters == [1] || letters == [1, 2]);
        });
    }
}
