//! Calls that were cancelled while the backend may still be working on them. A backend need not stop at a cancellation
//! (2025-11-25, Cancellation, "Behavior Requirements"), so what it says meanwhile may still be about such a call.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use vmcp_domain::ClientKey;

/// How long the backend may go on with a cancelled call, for all that is known, unless it answers before.
const WORK_WAIT: Duration = Duration::from_mins(2);
/// How many cancelled calls of one connection are remembered.
const CALLS_MAX: usize = 4096;

/// The cancelled calls of one connection, by their identifiers.
#[derive(Debug, Default)]
pub(crate) struct CancelledCalls {
    calls: HashMap<u64, Cancelled>,
    /// Calls that found no room count until then, and for an unknown client.
    overflow_ends: Option<Instant>,
}

#[derive(Debug)]
struct Cancelled {
    client: Option<ClientKey>,
    ends: Instant,
}

impl CancelledCalls {
    /// Remembers a call of `client` that nobody waits for any more.
    pub(crate) fn add(&mut self, id: u64, client: Option<ClientKey>) {
        let now = Instant::now();
        if self.calls.len() >= CALLS_MAX {
            self.expire(now);
        }
        let ends = now + WORK_WAIT;
        if self.calls.len() >= CALLS_MAX {
            self.overflow_ends = Some(ends);
        } else {
            self.calls.insert(id, Cancelled { client, ends });
        }
    }

    /// The backend has answered the call after all.
    pub(crate) fn answered(&mut self, id: u64) {
        if !self.calls.is_empty() {
            self.calls.remove(&id);
        }
    }

    /// True when every call that the backend may still be working on is of this client.
    pub(crate) fn are_all_of(&mut self, client: Option<&ClientKey>) -> bool {
        self.expire(Instant::now());
        let is_of_client = |call: &Cancelled| client.is_some() && call.client.as_ref() == client;
        self.overflow_ends.is_none() && self.calls.values().all(is_of_client)
    }

    fn expire(&mut self, now: Instant) {
        self.calls.retain(|_, call| call.ends > now);
        self.overflow_ends = self.overflow_ends.filter(|ends| *ends > now);
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::ClientLife;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_counts_until_it_is_answered_or_its_time_has_passed() {
        let (ann, bob) = (ClientLife::default().key(), ClientLife::default().key());
        let mut calls = CancelledCalls::default();
        assert!(calls.are_all_of(Some(&bob)) && calls.are_all_of(None));
        calls.add(1, Some(ann.clone()));
        assert!(calls.are_all_of(Some(&ann)) && !calls.are_all_of(Some(&bob)) && !calls.are_all_of(None));
        calls.answered(1);
        assert!(calls.are_all_of(Some(&bob)));
        calls.add(2, None);
        assert!(!calls.are_all_of(Some(&bob)) && !calls.are_all_of(None));
        tokio::time::advance(WORK_WAIT).await;
        assert!(calls.are_all_of(Some(&bob)) && calls.calls.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_without_room_count_for_an_unknown_client() {
        let ann = ClientLife::default();
        let mut calls = CancelledCalls::default();
        let count = u64::try_from(CALLS_MAX).unwrap();
        (0..count).for_each(|id| calls.add(id, Some(ann.key())));
        assert!(calls.are_all_of(Some(&ann.key())));
        calls.add(count, Some(ann.key()));
        assert!(!calls.are_all_of(Some(&ann.key())));
        tokio::time::advance(WORK_WAIT).await;
        assert!(calls.are_all_of(Some(&ann.key())));
    }
}
