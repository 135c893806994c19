//! What keys cost, worked out beside the packets.
//!
//! One thread, made when the first key is wanted: two at once would take 128 MiB. Keys wait in a short queue; what does
//! not fit is refused, and whoever dialled is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use mio::Waker;
use wire::{PublicKey, Stretch};

/// Keys that wait: as many as are dealt with before a phone gives up.
const MAX_QUEUE: usize = 32;

/// A key, and what it costs; nothing if there is no memory to find out.
pub(crate) type Stretched = (PublicKey, Option<Stretch>);

struct Worker {
    wanted: SyncSender<PublicKey>,
    done: Receiver<Stretched>,
}

/// Works out what keys cost, and wakes the loop for each.
pub(crate) struct Stretcher {
    waker: Arc<Waker>,
    worker: Option<Worker>,
    /// Keys that the thread took, and did not answer yet.
    taken: VecDeque<PublicKey>,
}

impl Stretcher {
    /// Nothing is wanted yet.
    pub(crate) fn new(waker: Arc<Waker>) -> Stretcher {
        Stretcher { waker, worker: None, taken: VecDeque::new() }
    }

    /// Has a key worked out; `false` if too many wait already, or the system has no thread.
    pub(crate) fn want(&mut self, key: PublicKey) -> bool {
        if self.worker.is_none() {
            self.worker = start(Arc::clone(&self.waker));
        }
        let is_taken = self.worker.as_ref().is_some_and(|worker| worker.wanted.try_send(key).is_ok());
        if is_taken {
            self.taken.push_back(key);
        }
        is_taken
    }

    /// The next one that is worked out, or that never will be because the thread has died.
    pub(crate) fn done(&mut self) -> Option<Stretched> {
        let done = self.worker.as_ref().map(|worker| worker.done.try_recv());
        match done.unwrap_or(Err(TryRecvError::Disconnected)) {
            Ok(done) => {
                self.taken.pop_front();
                Some(done)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.worker = None;
                self.taken.pop_front().map(|lost| (lost, None))
            }
        }
    }
}

/// The thread ends when nobody can want anything any more.
fn start(waker: Arc<Waker>) -> Option<Worker> {
    let (wanted, keys) = sync_channel::<PublicKey>(MAX_QUEUE);
    let (sender, done) = channel();
    let body = move || {
        for key in keys {
            if sender.send((key, Stretch::of(&key))).is_err() {
                return;
            }
            let _ = waker.wake();
        }
    };
    thread::Builder::new().name("openvoip-numbers".into()).spawn(body).ok()?;
    Some(Worker { wanted, done })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};
    use wire::{KeyPair, Seed};

    use super::*;

    #[test]
    fn keys_that_a_dead_thread_had_taken_are_answered_and_the_next_gets_another_thread() {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(7)).unwrap();
        let mut stretcher = Stretcher::new(Arc::new(waker));
        let key = |n| KeyPair::from_seed(Seed::from_number(n)).public();
        let (wanted, taken) = sync_channel(MAX_QUEUE);
        let (answers, done) = channel();
        stretcher.worker = Some(Worker { wanted, done });
        assert!(stretcher.want(key(1)) && stretcher.want(key(2)));
        drop((taken, answers));
        assert_eq!([(); 3].map(|()| stretcher.done()), [Some((key(1), None)), Some((key(2), None)), None]);
        assert!(stretcher.want(key(1)));
    }

    #[test]
    fn a_key_is_worked_out_elsewhere_the_loop_is_woken_and_the_queue_is_bounded() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(7)).unwrap();
        let mut stretcher = Stretcher::new(Arc::new(waker));
        let key = |n| KeyPair::from_seed(Seed::from_number(n)).public();
        // One may be under way already, and out of the queue.
        let taken = (0..100).filter(|n| stretcher.want(key(*n))).count();
        assert!((MAX_QUEUE..=MAX_QUEUE + 1).contains(&taken), "{taken}");
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
        assert_eq!(events.iter().next().map(|e| e.token()), Some(Token(7)));
        assert_eq!(stretcher.done(), Some((key(0), Stretch::of(&key(0)))));
    }
}
