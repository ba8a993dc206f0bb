//! Turns of one user's calls. A question that names no call cannot be told apart while several calls are under way, so
//! for a while after such a question the calls of each user that may be asked are made one after the other. Calls of
//! different users never wait for each other; a backend that several users need to be asked by needs its own
//! connection for each (`isolation`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use vmcp_domain::{Caller, ClientKey, User};

use crate::sync::UnpoisonedMutex;

/// How long calls take turns after the last unclear question.
const ACTIVE_FOR: Duration = Duration::from_mins(1);
/// From how many users on those who have no call any more are forgotten.
const LOCKS_SWEPT_FROM: usize = 64;

/// Whose calls take turns with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LockKey {
    User(User),
    /// A client without an identity.
    Client(ClientKey),
}

impl LockKey {
    /// `None` for a request that nothing connects with any other.
    fn from_caller(caller: &Caller, client: Option<ClientKey>) -> Option<Self> {
        caller.user().map(Self::User).or_else(|| client.map(Self::Client))
    }
}

/// The turns of one connection.
#[derive(Debug, Default)]
pub(crate) struct CallSerializer {
    /// False most of the time, so that a call need not lock anything to learn it.
    is_active: AtomicBool,
    active_until: UnpoisonedMutex<Option<Instant>>,
    locks: UnpoisonedMutex<HashMap<LockKey, Arc<Mutex<()>>>>,
}

impl CallSerializer {
    /// False most of the time: calls need not take turns.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// From now on calls take turns, for a while. True when they did not before.
    pub(crate) fn activate(&self) -> bool {
        let now = Instant::now();
        let before = self.active_until.lock().replace(now + ACTIVE_FOR);
        self.is_active.store(true, Ordering::Relaxed);
        before.is_none_or(|ends| ends <= now)
    }

    /// Waits for the turn of a call, which has it until the guard is dropped. `None` where calls need not take turns.
    pub(crate) async fn acquire(
        &self,
        caller: &Caller,
        client: impl FnOnce() -> Option<ClientKey>,
    ) -> Option<OwnedMutexGuard<()>> {
        if !self.is_active() || self.deactivate_if_expired() {
            return None;
        }
        let key = LockKey::from_caller(caller, client())?;
        let turn = {
            let mut users = self.locks.lock();
            if users.len() >= LOCKS_SWEPT_FROM {
                // A mutex that only the table holds is nobody's turn.
                users.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(users.entry(key).or_default())
        };
        Some(turn.lock_owned().await)
    }

    fn deactivate_if_expired(&self) -> bool {
        let ends = self.active_until.lock();
        let have_ended = ends.is_none_or(|ends| ends <= Instant::now());
        if have_ended {
            self.is_active.store(false, Ordering::Relaxed);
        }
        have_ended
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
