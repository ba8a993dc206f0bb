//! The task that tells the store which calls of this replica are in flight and which have ended. It runs while there are
//! any, and ends with the limiter.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Slots;
use super::registry::Batch;
use crate::clock::Micros;

/// How many rounds there are in a lease. A call of which the store has heard less than a round ago is left for the next one, so
/// that no call goes unheard for half a lease, and a report that fails can be made again many times.
const ROUNDS: u32 = 5;
/// How often the store is tried after a failure, and its connection is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How many reports are under way at once.
const REPORTS_MAX: usize = 16;

/// What the task has seen.
#[derive(Default)]
struct Seen {
    connection: Option<u64>,
    /// When everything that is due is reported next.
    round: Micros,
}

/// Looks after the slots until there are none.
pub(super) async fn keep(slots: Weak<Slots>, wake: Arc<Notify>) {
    let mut seen = Seen::default();
    loop {
        let Some(slots) = slots.upgrade() else { return };
        if !slots.tend(&mut seen).await {
            return;
        }
        drop(slots);
        // Either end is a reason to look again. What ends while the store is being told is told together.
        let _ = tokio::time::timeout(LOOK_PAUSE, wake.notified()).await;
    }
}

impl Slots {
    /// Says what is to be said now. False when there is nothing left to look after.
    async fn tend(self: &Arc<Self>, seen: &mut Seen) -> bool {
        let now = self.clock.now();
        let batches = {
            let mut registry = self.registry.lock();
            registry.forget_ended(now, self.lease_micros());
            if registry.is_over() {
                return false;
            }
            if !self.store.is_available() {
                // Nobody hears it, and what has only now begun need not be said if it is over by then.
                seen.round = now;
                return true;
            }
            registry.batches(self.stale(seen, now))
        };
        if !self.send(batches).await {
            seen.round = now;
        }
        true
    }

    /// Of what the store has to hear that is in flight: of all since this moment.
    fn stale(&self, seen: &mut Seen, now: Micros) -> Option<Micros> {
        let pause = self.lease_micros() / u64::from(ROUNDS);
        let connection = Some(self.store.connection().number);
        if seen.connection.is_some_and(|known| Some(known) != connection) {
            // A store that has come back empty counts nobody.
            seen.round = now.plus(pause);
            seen.connection = connection;
            return Some(now);
        }
        seen.connection = connection;
        if now < seen.round {
            return None;
        }
        seen.round = now.plus(pause);
        Some(Micros(now.0.saturating_sub(pause)))
    }

    /// Sends reports, several at a time. False when one was not answered.
    async fn send(self: &Arc<Self>, mut batches: Vec<Batch>) -> bool {
        if batches.len() <= 1 {
            // At once: whoever comes next must not be faster than the release of the slot it is to have.
            return match batches.pop() {
                Some(batch) => self.clone().report(batch).await,
                None => true,
            };
        }
        let mut sending = JoinSet::new();
        let mut all_heard = true;
        for batch in batches {
            if sending.len() >= REPORTS_MAX {
                all_heard &= sending.join_next().await.is_none_or(|heard| heard.unwrap_or(false));
            }
            sending.spawn(self.clone().report(batch));
        }
        while let Some(heard) = sending.join_next().await {
            all_heard &= heard.unwrap_or(false);
        }
        all_heard
    }

    async fn report(self: Arc<Self>, batch: Batch) -> bool {
        let mut said = batch.clone();
        let sent = self.clock.now();
        self.registry.lock().confirm(&mut said);
        let outcome = self.store.report(said.home.as_deref(), &said.reports, self.lease).await;
        if self.registry.lock().answered(&batch, outcome.is_ok(), sent) {
            self.wake.notify_one();
        }
        outcome.is_ok()
    }
}
