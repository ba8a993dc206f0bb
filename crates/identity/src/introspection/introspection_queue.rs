//! The queue for introspection requests about tokens that are not in the cache. It limits concurrent
//! requests, waiting requests, and waiting requests per address, so that invented tokens do not lock out
//! other callers. Tokens that were active recently have slots of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The most concurrent requests: for unknown tokens, and the additional slots for tokens that were active
/// recently.
const UNKNOWN_CONCURRENT_MAX: usize = 48;
const KNOWN_CONCURRENT_MAX: usize = 16;
/// The most requests in progress or waiting: over all, and per address.
pub(crate) const WAITING_MAX: usize = 2048;
const WAITING_PER_ADDRESS_MAX: usize = 256;
/// How long a request waits for a slot.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// The queue of one issuer.
#[derive(Debug)]
pub(crate) struct IntrospectionQueue {
    unknown_slots: Semaphore,
    known_slots: Semaphore,
    count_by_address: Mutex<HashMap<Option<IpAddr>, usize>>,
}

/// The slot of one request, held until it is dropped.
pub(crate) struct QueuePermit<'a> {
    _permit: SemaphorePermit<'a>,
    _waiting: WaitingCount<'a>,
}

struct WaitingCount<'a> {
    queue: &'a IntrospectionQueue,
    address: Option<IpAddr>,
}

impl IntrospectionQueue {
    pub(crate) fn new() -> Self {
        let count_by_address = Mutex::default();
        Self {
            unknown_slots: Semaphore::new(UNKNOWN_CONCURRENT_MAX),
            known_slots: Semaphore::new(KNOWN_CONCURRENT_MAX),
            count_by_address,
        }
    }

    /// Waits for a slot for a request from `address`. `None` when no slot becomes free in time, or when too
    /// many requests of the address are waiting.
    pub(crate) async fn acquire(&self, address: Option<IpAddr>, is_known: bool) -> Option<QueuePermit<'_>> {
        // A token that was active recently was not invented, so it does not count against its address.
        let waiting =
            if is_known { WaitingCount { queue: self, address: None } } else { self.count_waiting(address)? };
        // The semaphores are never closed.
        let permit = match self.unknown_slots.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let slots = if is_known { &self.known_slots } else { &self.unknown_slots };
                timeout(QUEUE_TIMEOUT, slots.acquire()).await.ok()?.ok()?
            }
        };
        Some(QueuePermit { _permit: permit, _waiting: waiting })
    }

    fn count_waiting(&self, address: Option<IpAddr>) -> Option<WaitingCount<'_>> {
        let mut count_by_address = self.count_by_address.lock();
        let count = count_by_address.entry(address).or_default();
        if address.is_some() && *count >= WAITING_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(WaitingCount { queue: self, address })
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        let mut count_by_address = self.queue.count_by_address.lock();
        if let Some(count) = count_by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                count_by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test(start_paused = true)]
    async fn questions_wait_for_their_turn_and_tokens_that_were_good_have_their_own() {
        let queue = IntrospectionQueue::new();
        let mut held = Vec::new();
        for _ in 0..UNKNOWN_CONCURRENT_MAX {
            held.push(queue.acquire(address(1), false).await.unwrap());
        }
        assert!(queue.acquire(address(2), true).await.is_some());
        assert!(queue.acquire(address(2), false).await.is_none(), "its turn did not come in time");
        let waiting = queue.acquire(address(2), false);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        held.pop();
        assert!(waiting.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_may_wait_with_so_many() {
        let queue = IntrospectionQueue::new();
        let waiting: Vec<_> =
            (0..WAITING_PER_ADDRESS_MAX).map(|_| queue.count_waiting(address(1)).unwrap()).collect();
        assert!(queue.count_waiting(address(1)).is_none() && queue.count_waiting(address(2)).is_some());
        drop(waiting);
        assert!(queue.count_waiting(address(1)).is_some());
        assert_eq!(queue.count_by_address.lock().len(), 0);
    }
}
