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

use crate::sync::Guarded;

/// How long calls take turns after the last unclear question.
const TURNS_WAIT: Duration = Duration::from_mins(1);
/// From how many users on those who have no call any more are forgotten.
const USERS_SWEPT_FROM: usize = 64;

/// Whose calls take turns with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TurnKey {
    User(User),
    /// A client without an identity.
    Client(ClientKey),
}

impl TurnKey {
    /// `None` for a request that nothing connects with any other.
    fn of(caller: &Caller, client: Option<ClientKey>) -> Option<Self> {
        caller.user().map(Self::User).or_else(|| client.map(Self::Client))
    }
}

/// The turns of one connection.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// False most of the time, so that a call need not lock anything to learn it.
    are_taken: AtomicBool,
    ends: Guarded<Option<Instant>>,
    users: Guarded<HashMap<TurnKey, Arc<Mutex<()>>>>,
}

impl Turns {
    /// False most of the time: calls need not take turns.
    pub(crate) fn are_taken(&self) -> bool {
        self.are_taken.load(Ordering::Relaxed)
    }

    /// From now on calls take turns, for a while. True when they did not before.
    pub(crate) fn begin(&self) -> bool {
        let now = Instant::now();
        let before = self.ends.lock().replace(now + TURNS_WAIT);
        self.are_taken.store(true, Ordering::Relaxed);
        before.is_none_or(|ends| ends <= now)
    }

    /// Waits for the turn of a call, which has it until the guard is dropped. `None` where calls need not take turns.
    pub(crate) async fn take(
        &self,
        caller: &Caller,
        client: impl FnOnce() -> Option<ClientKey>,
    ) -> Option<OwnedMutexGuard<()>> {
        if !self.are_taken() || self.have_ended() {
            return None;
        }
        let key = TurnKey::of(caller, client())?;
        let turn = {
            let mut users = self.users.lock();
            if users.len() >= USERS_SWEPT_FROM {
                // A mutex that only the table holds is nobody's turn.
                users.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(users.entry(key).or_default())
        };
        Some(turn.lock_owned().await)
    }

    fn have_ended(&self) -> bool {
        let ends = self.ends.lock();
        let have_ended = ends.is_none_or(|ends| ends <= Instant::now());
        if have_ended {
            self.are_taken.store(false, Ordering::Relaxed);
        }
        have_ended
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::ClientLife;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_clients_calls_take_turns_for_a_while_and_another_does_not_wait() {
        let (ann, bob) = (ClientLife::default(), ClientLife::default());
        let turns = Turns::default();
        let take = |life: &ClientLife| {
            let key = life.key();
            tokio::time::timeout(Duration::from_secs(1), turns.take(&Caller::Anonymous, || Some(key)))
        };
        assert!(take(&ann).await.unwrap().is_none());
        assert!(turns.begin() && !turns.begin());
        let first = take(&ann).await.unwrap();
        assert!(first.is_some());
        assert!(take(&ann).await.is_err());
        assert!(take(&bob).await.unwrap().is_some());
        drop(first);
        let second = take(&ann).await.unwrap();
        assert!(second.is_some());
        tokio::time::advance(TURNS_WAIT).await;
        assert!(take(&ann).await.unwrap().is_none());
        assert!(turns.begin());
    }
}
