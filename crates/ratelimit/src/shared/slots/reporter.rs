//! The reporter task: it reports to the store which calls of this replica are in flight and which have ended.
//! It runs while there are any, and ends with the limiter.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use vmcp_timing::Micros;

use super::SharedSlots;
use super::registry::ReportBatch;

/// Report rounds in a lease. A round skips a call that the store has confirmed less than a round ago. So no
/// call stays unreported for half a lease, and a failed report can be repeated many times.
const ROUNDS_PER_LEASE: u32 = 5;
/// How often the task retries after a failure and checks the connection of the store.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The most reports that are pending at once.
const REPORTS_MAX: usize = 16;

/// The state of the task between two passes.
#[derive(Default)]
struct ReporterState {
    connection_generation: Option<u64>,
    /// When the next round reports every call that is due.
    next_round_at: Micros,
}

/// Reports slots until there are none.
pub(super) async fn run(slots: Weak<SharedSlots>, wake: Arc<Notify>) {
    let mut state = ReporterState::default();
    loop {
        let Some(slots) = slots.upgrade() else { return };
        if !slots.report_due(&mut state).await {
            return;
        }
        drop(slots);
        // The task wakes on the time-out or on a notification. Calls that end while a report is pending are
        // reported together.
        let _ = tokio::time::timeout(POLL_INTERVAL, wake.notified()).await;
    }
}

impl SharedSlots {
    /// Reports everything that is due now. Returns false if there is nothing left to report.
    async fn report_due(self: &Arc<Self>, state: &mut ReporterState) -> bool {
        let now = self.clock.now();
        let batches = {
            let mut registry = self.registry.lock();
            registry.expire_ended(now, self.lease_micros());
            if registry.stop_if_unused() {
                return false;
            }
            if !self.store.is_available() {
                // The store would not receive it, and a call that has only just begun need not be reported if
                // it has ended by then.
                state.next_round_at = now;
                return true;
            }
            registry.take_batches(self.stale_since(state, now))
        };
        if !self.send_reports(batches).await {
            state.next_round_at = now;
        }
        true
    }

    /// The moment since which in-flight calls must have been confirmed to be left out of this pass; `None` if
    /// no round is due.
    fn stale_since(&self, state: &mut ReporterState, now: Micros) -> Option<Micros> {
        let pause = self.lease_micros() / u64::from(ROUNDS_PER_LEASE);
        let connection = Some(self.store.connection().generation);
        if state.connection_generation.is_some_and(|known| Some(known) != connection) {
            // A store that has come back empty counts no call, so every call is reported now.
            state.next_round_at = now.plus(pause);
            state.connection_generation = connection;
            return Some(now);
        }
        state.connection_generation = connection;
        if now < state.next_round_at {
            return None;
        }
        state.next_round_at = now.plus(pause);
        Some(Micros(now.0.saturating_sub(pause)))
    }

    /// Sends reports, several at a time. Returns false if one of them was not answered.
    async fn send_reports(self: &Arc<Self>, mut batches: Vec<ReportBatch>) -> bool {
        if batches.len() <= 1 {
            // A single report is sent without spawning a task: the next call must not be faster than the
            // release of the slot that it is to get.
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
