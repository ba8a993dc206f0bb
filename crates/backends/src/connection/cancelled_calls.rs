//! Calls that were cancelled while the backend may still be working on them. A backend need not stop at a cancellation
//! (2025-11-25, Cancellation, "Behavior Requirements"), so what it says meanwhile may still be about such a call.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::flights::Asker;

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
    asker: Asker,
    ends: Instant,
}

impl CancelledCalls {
    /// Remembers a call that nobody waits for any more.
    pub(crate) fn add(&mut self, id: u64, asker: Asker) {
        let now = Instant::now();
        if self.calls.len() >= CALLS_MAX {
            self.expire(now);
        }
        let ends = now + WORK_WAIT;
        if self.calls.len() >= CALLS_MAX {
            self.overflow_ends = Some(ends);
        } else {
            self.calls.insert(id, Cancelled { asker, ends });
        }
    }

    /// The backend has answered the call after all.
    pub(crate) fn answered(&mut self, id: u64) {
        if !self.calls.is_empty() {
            self.calls.remove(&id);
        }
    }

    /// True when every call that the backend may still be working on is of this client.
    pub(crate) fn are_all_of(&mut self, asker: &Asker) -> bool {
        self.expire(Instant::now());
        self.overflow_ends.is_none() && self.calls.values().all(|call| call.asker.is_one_with(asker))
    }

    fn expire(&mut self, now: Instant) {
        self.calls.retain(|_, call| call.ends > now);
        self.overflow_ends = self.overflow_ends.filter(|ends| *ends > now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vmcp_domain::{Caller, ClientLife};

    use super::*;

    fn of_client(life: &ClientLife) -> Asker {
        Asker { client: Some(life.key()), caller: Caller::Anonymous, address: None }
    }

    fn from(address: [u8; 4]) -> Asker {
        Asker { client: None, caller: Caller::Anonymous, address: Some(IpAddr::from(address)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_counts_until_it_is_answered_or_its_time_has_passed() {
        let lives = [ClientLife::default(), ClientLife::default()];
        let [ann, bob] = [0, 1].map(|index: usize| of_client(&lives[index]));
        let mut calls = CancelledCalls::default();
        assert!(calls.are_all_of(&bob));
        calls.add(1, ann.clone());
        assert!(
            calls.are_all_of(&ann) && !calls.are_all_of(&bob) && !calls.are_all_of(&from([127, 0, 0, 1]))
        );
        calls.answered(1);
        assert!(calls.are_all_of(&bob));
        calls.add(2, from([192, 0, 2, 1]));
        assert!(!calls.are_all_of(&bob) && !calls.are_all_of(&from([192, 0, 2, 1])));
        tokio::time::advance(WORK_WAIT).await;
        assert!(calls.are_all_of(&bob) && calls.calls.is_empty());
    }

    #[test]
    fn requests_without_a_session_are_one_callers_by_identity_or_on_this_machine() {
        let known = |subject: &str| {
            let (issuer, subject) = ("i".to_owned(), subject.to_owned());
            let identity = vmcp_domain::Identity { issuer, subject, claims: vmcp_domain::Members::new() };
            Asker { caller: Caller::Known(std::sync::Arc::new(identity)), ..from([192, 0, 2, 1]) }
        };
        assert!(known("ann").is_one_with(&known("ann")) && !known("ann").is_one_with(&known("bob")));
        assert!(from([127, 0, 0, 1]).is_one_with(&from([127, 0, 0, 1])));
        assert!(!from([192, 0, 2, 1]).is_one_with(&from([192, 0, 2, 1])), "they may be different people");
        let life = ClientLife::default();
        let in_session = Asker { client: Some(life.key()), ..known("ann") };
        assert!(!in_session.is_one_with(&known("ann")) && in_session.is_one_with(&in_session));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_without_room_count_for_an_unknown_client() {
        let life = ClientLife::default();
        let ann = of_client(&life);
        let mut calls = CancelledCalls::default();
        let count = u64::try_from(CALLS_MAX).unwrap();
        (0..count).for_each(|id| calls.add(id, ann.clone()));
        assert!(calls.are_all_of(&ann));
        calls.add(count, ann.clone());
        assert!(!calls.are_all_of(&ann));
        tokio::time::advance(WORK_WAIT).await;
        assert!(calls.are_all_of(&ann));
    }
}
