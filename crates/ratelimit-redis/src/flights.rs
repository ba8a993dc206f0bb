//! Calls that ask the same question at the same moment: while one is on its way, the others queue and are answered by
//! one following decision for all of them, first come, first served.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use vmcp_ratelimit::{Ask, RemoteVerdict, StoreFailure};

use crate::script::WANT_MAX;

/// What somebody who queues is told.
pub(crate) type Answer = Result<RemoteVerdict, StoreFailure>;
type Waiter = oneshot::Sender<Answer>;

/// How many may queue behind one question. More could not be answered within a deadline.
const QUEUE_MAX: usize = 4096;
const SHARD_COUNT: usize = 16;

/// A question that is on its way, and who waits for the next one.
type Shard = HashMap<Ask, VecDeque<Waiter>, RandomState>;

/// All questions that are on their way.
pub(crate) struct Flights {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// What to do with a question.
pub(crate) enum Seat {
    /// Nobody asks it: ask. [`Flights::land`] must follow.
    Lead,
    /// Somebody asks it: the answer comes here.
    Follow(oneshot::Receiver<Answer>),
    /// Too many wait already.
    Full,
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARD_COUNT).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Joins those who ask this.
    pub(crate) fn board(&self, ask: &Ask) -> Seat {
        let mut shard = self.shard(ask).lock();
        match shard.entry(ask.clone()) {
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Seat::Lead
            }
            Entry::Occupied(mut taken) => {
                let queue = taken.get_mut();
                if queue.len() >= QUEUE_MAX {
                    // Those who gave up take no room.
                    queue.retain(|waiter| !waiter.is_closed());
                }
                if queue.len() >= QUEUE_MAX {
                    return Seat::Full;
                }
                let (waiter, answer) = oneshot::channel();
                queue.push_back(waiter);
                Seat::Follow(answer)
            }
        }
    }

    /// The leader is done. True when others wait, who then need a driver.
    #[must_use]
    pub(crate) fn land(&self, ask: &Ask) -> bool {
        let mut shard = self.shard(ask).lock();
        let waits = shard.get(ask).is_some_and(|queue| !queue.is_empty());
        if !waits {
            shard.remove(ask);
        }
        waits
    }

    /// The next to be answered together, in the order they came. `None` when nobody waits: the question is over.
    pub(crate) fn next(&self, ask: &Ask) -> Option<Vec<Waiter>> {
        let mut shard = self.shard(ask).lock();
        let mut batch = Vec::new();
        if let Some(queue) = shard.get_mut(ask) {
            while batch.len() < usize::from(WANT_MAX)
                && let Some(waiter) = queue.pop_front()
            {
                if !waiter.is_closed() {
                    batch.push(waiter);
                }
            }
        }
        if batch.is_empty() {
            shard.remove(ask);
            return None;
        }
        Some(batch)
    }

    /// Gives up a question: whoever waits is told so.
    pub(crate) fn abandon(&self, ask: &Ask) {
        self.shard(ask).lock().remove(ask);
    }

    fn shard(&self, ask: &Ask) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(ask) % SHARD_COUNT as u64).unwrap_or(0);
        &self.shards[hash]
    }
}
