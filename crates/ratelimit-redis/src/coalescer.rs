//! Coalescing of equal requests: while one is in flight, equal requests queue behind it. One following
//! decision then answers all that wait, in the order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use vmcp_ratelimit::{AdmitRequest, RemoteVerdict, StoreFailure};

use crate::script::WANT_MAX;

/// The result that each waiting caller receives.
pub(crate) type AdmitResult = Result<RemoteVerdict, StoreFailure>;
type ResultSender = oneshot::Sender<AdmitResult>;

/// The most callers that wait for one request: sixteen times as many as one decision answers.
const QUEUE_MAX: usize = 4096;
const SHARD_COUNT: usize = 16;

/// The requests in flight, and the callers that wait for the next decision.
type Shard = HashMap<Arc<AdmitRequest>, VecDeque<ResultSender>, RandomState>;

/// All requests in flight.
pub(crate) struct Coalescer {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// The role of a caller that asks for a decision.
pub(crate) enum Role {
    /// No equal request is in flight: send it. [`Coalescer::leave`] must follow.
    Leader(Arc<AdmitRequest>),
    /// An equal request is in flight: the result arrives on this channel.
    Follower(oneshot::Receiver<AdmitResult>),
    /// Too many callers wait already.
    Full,
}

impl Coalescer {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARD_COUNT).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Joins the callers of an equal request, or becomes their leader.
    pub(crate) fn join(&self, request: &AdmitRequest) -> Role {
        let mut shard = self.shard(request).lock();
        let Some(queue) = shard.get_mut(request) else {
            let request = Arc::new(request.clone());
            shard.insert(request.clone(), VecDeque::new());
            return Role::Leader(request);
        };
        if queue.len() >= QUEUE_MAX {
            // Cancelled callers take no capacity.
            queue.retain(|sender| !sender.is_closed());
        }
        if queue.len() >= QUEUE_MAX {
            return Role::Full;
        }
        let (sender, receiver) = oneshot::channel();
        queue.push_back(sender);
        Role::Follower(receiver)
    }

    /// The leader is done. True when other callers wait, who then need a driver.
    #[must_use]
    pub(crate) fn leave(&self, request: &AdmitRequest) -> bool {
        let mut shard = self.shard(request).lock();
        let waits = shard.get(request).is_some_and(|queue| !queue.is_empty());
        if !waits {
            shard.remove(request);
        }
        waits
    }

    /// The next callers to be answered together, in the order of arrival. `None` when no caller waits: the
    /// request is then removed.
    pub(crate) fn next_batch(&self, request: &AdmitRequest) -> Option<Vec<ResultSender>> {
        let mut shard = self.shard(request).lock();
        let mut batch = Vec::new();
        if let Some(queue) = shard.get_mut(request) {
            while batch.len() < usize::from(WANT_MAX)
                && let Some(sender) = queue.pop_front()
            {
                if !sender.is_closed() {
                    batch.push(sender);
                }
            }
        }
        if batch.is_empty() {
            shard.remove(request);
            return None;
        }
        Some(batch)
    }

    /// Removes a request; the callers that wait for it receive a failure.
    pub(crate) fn abandon(&self, request: &AdmitRequest) {
        self.shard(request).lock().remove(request);
    }

    fn shard(&self, request: &AdmitRequest) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(request) % SHARD_COUNT as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_served_in_order() {
        let (coalescer, request) = (Coalescer::new(), AdmitRequest { buckets: smallvec::SmallVec::new() });
        let Role::Leader(shared) = coalescer.join(&request) else { panic!("nobody else asks") };
        let mut answers = Vec::new();
        for _ in 0..QUEUE_MAX {
            let Role::Follower(receiver) = coalescer.join(&request) else { panic!("somebody asks") };
            answers.push(receiver);
        }
        assert!(matches!(coalescer.join(&request), Role::Full));
        // A cancelled caller frees its capacity and is skipped.
        answers.drain(..3);
        assert!(matches!(coalescer.join(&request), Role::Follower(_)));
        assert!(coalescer.leave(&shared));
        let mut served = 0;
        while let Some(batch) = coalescer.next_batch(&request) {
            assert!(batch.len() <= usize::from(WANT_MAX));
            for sender in batch {
                sender.send(Err(StoreFailure::CircuitOpen)).unwrap();
                assert_eq!(answers[served].try_recv().unwrap(), Err(StoreFailure::CircuitOpen));
                served += 1;
            }
        }
        assert_eq!(served, answers.len());
        assert!(matches!(coalescer.join(&request), Role::Leader(_)), "the question is over");
        assert!(!coalescer.leave(&request));
    }
}
