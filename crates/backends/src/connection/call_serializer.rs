//! Serialises the calls of one user. While several calls are in flight, a question that names no call is
//! ambiguous. After such a question, the calls of each user whose client can be asked run one at a time for a
//! while. Calls of different users never wait for each other. A backend that has to ask several users needs a
//! connection for each of them (`isolation`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use vmcp_domain::{Caller, ClientKey, User};

/// How long calls are serialised after the last ambiguous question.
const ACTIVE_FOR: Duration = Duration::from_mins(1);
/// Number of locks from which unused locks are removed.
const LOCKS_SWEPT_FROM: usize = 64;

/// The user or client that owns the serialised calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LockKey {
    User(User),
    /// A client without an identity.
    Client(ClientKey),
}

impl LockKey {
    /// `None` for a request without user and client key: nothing relates it to another request.
    fn from_caller(caller: &Caller, client: Option<ClientKey>) -> Option<Self> {
        caller.user().map(Self::User).or_else(|| client.map(Self::Client))
    }
}

/// The locks that serialise the calls on one connection.
#[derive(Debug, Default)]
pub(crate) struct CallSerializer {
    /// False most of the time. It is atomic, so that a call needs no lock to check it.
    is_active: AtomicBool,
    active_until: Mutex<Option<Instant>>,
    locks: Mutex<HashMap<LockKey, Arc<tokio::sync::Mutex<()>>>>,
}

impl CallSerializer {
    /// False most of the time: calls then run concurrently.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Serialises calls for `ACTIVE_FOR` from now. Returns true if they were not serialised before.
    pub(crate) fn activate(&self) -> bool {
        let now = Instant::now();
        let previous = self.active_until.lock().replace(now + ACTIVE_FOR);
        self.is_active.store(true, Ordering::Relaxed);
        previous.is_none_or(|active_until| active_until <= now)
    }

    /// Waits until no other call of the same user runs. The call holds the lock until the guard is dropped.
    /// `None` if calls are not serialised, or if the request has neither user nor client key.
    pub(crate) async fn acquire(
        &self,
        caller: &Caller,
        client: impl FnOnce() -> Option<ClientKey>,
    ) -> Option<OwnedMutexGuard<()>> {
        if !self.is_active() || self.deactivate_if_expired() {
            return None;
        }
        let key = LockKey::from_caller(caller, client())?;
        let lock = {
            let mut locks = self.locks.lock();
            if locks.len() >= LOCKS_SWEPT_FROM {
                // No call holds or awaits a mutex that only the table refers to.
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(key).or_default())
        };
        Some(lock.lock_owned().await)
    }

    fn deactivate_if_expired(&self) -> bool {
        let active_until = self.active_until.lock();
        let has_expired = active_until.is_none_or(|active_until| active_until <= Instant::now());
        if has_expired {
            self.is_active.store(false, Ordering::Relaxed);
        }
        has_expired
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::ClientHandle;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_clients_calls_take_turns_for_a_while_and_another_does_not_wait() {
        let (ann, bob) = (ClientHandle::default(), ClientHandle::default());
        let turns = CallSerializer::default();
        let take = |life: &ClientHandle| {
            let key = life.key();
            tokio::time::timeout(Duration::from_secs(1), turns.acquire(&Caller::Anonymous, || Some(key)))
        };
        assert!(take(&ann).await.unwrap().is_none());
        assert!(turns.activate() && !turns.activate());
        let first = take(&ann).await.unwrap();
        assert!(first.is_some());
        assert!(take(&ann).await.is_err());
        assert!(take(&bob).await.unwrap().is_some());
        drop(first);
        let second = take(&ann).await.unwrap();
        assert!(second.is_some());
        tokio::time::advance(ACTIVE_FOR).await;
        assert!(take(&ann).await.unwrap().is_none());
        assert!(turns.activate());
    }
}
