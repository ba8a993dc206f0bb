//! The task that tells the store which calls of this replica are in flight and which have ended. It runs while there are
//! any, and ends with the limiter.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::SharedSlots;
use super::registry::ReportBatch;
use crate::clock::Micros;

/// How many rounds there are in a lease. A call of which the store has heard less than a round ago is left for the next one, so
/// that no call goes unheard for half a lease, and a report that fails can be made again many times.
const ROUNDS_PER_LEASE: u32 = 5;
/// How often the store is tried after a failure, and its connection is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How many reports are under way at once.
const REPORTS_MAX: usize = 16;

/// What the task has seen.
#[derive(Default)]
struct ReporterState {
    connection_generation: Option<u64>,
    /// When everything that is due is reported next.
    next_round_at: Micros,
}

/// Looks after the slots until there are none.
pub(super) async fn run(slots: Weak<SharedSlots>, wake: Arc<Notify>) {
    let mut seen = ReporterState::default();
    loop {
        let Some(slots) = slots.upgrade() else { return };
        if !slots.report_due(&mut seen).await {
            return;
        }
        drop(slots);
        // Either end is a reason to look again. What ends while the store is being told is told together.
        let _ = tokio::time::timeout(POLL_INTERVAL, wake.notified()).await;
    }
}

impl SharedSlots {
    /// Says what is to be said now. False when there is nothing left to look after.
    async fn report_due(self: &Arc<Self>, seen: &mut ReporterState) -> bool {
        let now = self.clock.now();
        let batches = {
            let mut registry = self.registry.lock();
            registry.expire_ended(now, self.lease_micros());
            if registry.stop_if_unused() {
                return false;
            }
            if !self.store.is_available() {
                // Nobody hears it, and what has only now begun need not be said if it is over by then.
                seen.next_round_at = now;
                return true;
            }
            registry.take_batches(self.stale_since(seen, now))
        };
        if !self.send_reports(batches).await {
            seen.next_round_at = now;
        }
        true
    }

    /// Of what the store has to hear that is in flight: of all since this moment.
    fn stale_since(&self, seen: &mut ReporterState, now: Micros) -> Option<Micros> {
        let pause = self.lease_micros() / u64::from(ROUNDS_PER_LEASE);
        let connection = Some(self.store.connection().generation);
        if seen.connection_generation.is_some_and(|known| Some(known) != connection) {
            // A store that has come back empty counts nobody.
            seen.next_round_at = now.plus(pause);
            seen.connection_generation = connection;
            return Some(now);
        }
        seen.connection_generation = connection;
        if now < seen.next_round_at {
            return None;
        }
        seen.next_round_at = now.plus(pause);
        Some(Micros(now.0.saturating_sub(pause)))
    }

    /// Sends reports, several at a time. False when one was not answered.
    async fn send_reports(self: &Arc<Self>, mut batches: Vec<ReportBatch>) -> bool {
        if batches.len() <= 1 {
            // At once: whoever comes next must not be faster than the release of the slot it is to have.
            return match batches.pop() {
                Some(batch) => self.clone().send_report(batch).await,
                None => true,
            };
        }
        let mut sending = JoinSet::new();
        let mut all_heard = true;
        for batch in batches {
            if sending.len() >= REPORTS_MAX {
                all_heard &= sending.join_next().await.is_none_or(|heard| heard.unwrap_or(false));
            }
            sending.spawn(self.clone().send_report(batch));
        }
        while let Some(heard) = sending.join_next().await {
            all_heard &= heard.unwrap_or(false);
        }
        all_heard
    }

    async fn send_report(self: Arc<Self>, batch: ReportBatch) -> bool {
        let mut said = batch.clone();
        let sent = self.clock.now();
        self.registry.lock().remove_ended(&mut said);
        let outcome = self.store.report(said.partition.as_deref(), &said.reports, self.lease).await;
        if self.registry.lock().apply_reply(&batch, outcome.is_ok(), sent) {
            self.wake.notify_one();
        }
        outcome.is_ok()
    }
}
