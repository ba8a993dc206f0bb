//! Calls that were cancelled while the backend may still be working on them. A backend need not stop at a
//! cancellation (2025-11-25, Cancellation, "Behavior Requirements"). Its later questions and log messages may
//! therefore still belong to such a call.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::requester::Requester;

/// How long a backend is assumed to continue with a cancelled call, unless it answers before.
const REMEMBERED_FOR: Duration = Duration::from_mins(2);
/// Maximum number of cancelled calls remembered for one connection.
const CALLS_MAX: usize = 4096;

/// The cancelled calls of one connection, by request identifier.
#[derive(Debug, Default)]
pub(crate) struct CancelledCalls {
    calls: HashMap<u64, CancelledCall>,
    /// Calls beyond `CALLS_MAX` count until then, as calls of an unknown client.
    overflow_expires_at: Option<Instant>,
}

#[derive(Debug)]
struct CancelledCall {
    requester: Requester,
    expires_at: Instant,
}

impl CancelledCalls {
    /// Remembers a call that was dropped before its answer.
    pub(crate) fn add(&mut self, id: u64, requester: Requester) {
        let now = Instant::now();
        if self.calls.len() >= CALLS_MAX {
            self.remove_expired(now);
        }
        let expires_at = now + REMEMBERED_FOR;
        if self.calls.len() >= CALLS_MAX {
            self.overflow_expires_at = Some(expires_at);
        } else {
            self.calls.insert(id, CancelledCall { requester, expires_at });
        }
    }

    /// Removes a call that the backend has answered after its cancellation.
    pub(crate) fn remove(&mut self, id: u64) {
        if !self.calls.is_empty() {
            self.calls.remove(&id);
        }
    }

    /// True if every cancelled call that the backend may still be working on is from this client.
    pub(crate) fn are_all_from(&mut self, requester: &Requester) -> bool {
        self.remove_expired(Instant::now());
        self.overflow_expires_at.is_none()
            && self.calls.values().all(|call| call.requester.is_same_client(requester))
    }

    fn remove_expired(&mut self, now: Instant) {
        self.calls.retain(|_, call| call.expires_at > now);
        self.overflow_expires_at = self.overflow_expires_at.filter(|expires_at| *expires_at > now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use vmcp_domain::{Caller, ClientHandle};

    use super::*;

    fn requester_of(life: &ClientHandle) -> Requester {
        Requester { client: Some(life.key()), caller: Caller::Anonymous, address: None }
    }

    fn requester_at(address: [u8; 4]) -> Requester {
        Requester { client: None, caller: Caller::Anonymous, address: Some(IpAddr::from(address)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_counts_until_it_is_answered_or_its_time_has_passed() {
        let lives = [ClientHandle::default(), ClientHandle::default()];
        let [ann, bob] = [0, 1].map(|index: usize| requester_of(&lives[index]));
        let mut calls = CancelledCalls::default();
        assert!(calls.are_all_from(&bob));
        calls.add(1, ann.clone());
        assert!(
            calls.are_all_from(&ann)
                && !calls.are_all_from(&bob)
                && !calls.are_all_from(&requester_at([127, 0, 0, 1]))
        );
        calls.remove(1);
        assert!(calls.are_all_from(&bob));
        calls.add(2, requester_at([192, 0, 2, 1]));
        assert!(!calls.are_all_from(&bob) && !calls.are_all_from(&requester_at([192, 0, 2, 1])));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(calls.are_all_from(&bob) && calls.calls.is_empty());
    }

    #[test]
    fn requests_without_a_session_are_one_callers_by_identity_or_on_this_machine() {
        let known = |subject: &str| {
            let (issuer, subject) = ("i".to_owned(), subject.to_owned());
            let identity = vmcp_domain::Identity { issuer, subject, claims: vmcp_json::Members::new() };
            Requester { caller: Caller::Known(std::sync::Arc::new(identity)), ..requester_at([192, 0, 2, 1]) }
        };
        assert!(known("ann").is_same_client(&known("ann")) && !known("ann").is_same_client(&known("bob")));
        assert!(requester_at([127, 0, 0, 1]).is_same_client(&requester_at([127, 0, 0, 1])));
        assert!(
            !requester_at([192, 0, 2, 1]).is_same_client(&requester_at([192, 0, 2, 1])),
            "they may be different people"
        );
        let life = ClientHandle::default();
        let in_session = Requester { client: Some(life.key()), ..known("ann") };
        assert!(!in_session.is_same_client(&known("ann")) && in_session.is_same_client(&in_session));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_without_room_count_for_an_unknown_client() {
        let life = ClientHandle::default();
        let ann = requester_of(&life);
        let mut calls = CancelledCalls::default();
        let count = u64::try_from(CALLS_MAX).unwrap();
        (0..count).for_each(|id| calls.add(id, ann.clone()));
        assert!(calls.are_all_from(&ann));
        calls.add(count, ann.clone());
        assert!(!calls.are_all_from(&ann));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(calls.are_all_from(&ann));
    }
}
