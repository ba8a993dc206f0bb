pub(crate) mod accounting;
mod bounds;
mod keys;
mod registry;
mod reports;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use vmcp_domain::BoxFuture;

use super::*;
use crate::limiter::tests::FakeStore;
use crate::shared::store::{SlotReport, SlotStore, SlotVerdict, StoreConnection};

/// The slots of a fake store that a test can break, slow down and empty.
#[derive(Default)]
pub(crate) struct FakeSlots {
    live: Mutex<HashMap<Arc<str>, HashMap<CallId, Micros>>>,
    connection: AtomicU64,
    restored: Mutex<Option<Micros>>,
    /// Requests are executed, and answered after this delay.
    pub(crate) delay: Mutex<Duration>,
    /// How long a report takes to arrive.
    pub(crate) report_delay: Mutex<Duration>,
    /// Requests are executed but not answered.
    pub(crate) loses_answers: Mutex<bool>,
    /// How many acquire requests were received.
    pub(crate) acquire_count: AtomicUsize,
    pub(crate) partitions: Mutex<Vec<Option<Arc<str>>>>,
    /// The partitions and keys of the received reports.
    reported: Mutex<Vec<(Option<String>, String)>>,
}

/// Why a call has no slot.
pub(super) enum AcquireError {
    SlotsFull(usize),
    StoreFailed(StoreFailure, SlotGuard),
}

impl SharedSlots {
    /// Takes slots under the limits of all batches for a call that is charged to no bucket.
    pub(super) async fn acquire_all(
        self: &Arc<Self>,
        batches: &[SlotBatch],
    ) -> Result<SlotGuard, AcquireError> {
        let (mut slot, begun) = (self.begin_call(), self.clock.now());
        let none = AdmitRequest { buckets: SmallVec::new() };
        for part in batches {
            match self.acquire(&mut slot, part, &none).await {
                Ok(AcquireOutcome::Admitted(_)) => {}
                Ok(AcquireOutcome::InsufficientTokens(_)) => panic!("no bucket was asked"),
                Ok(AcquireOutcome::SlotsFull(index)) => return Err(AcquireError::SlotsFull(index)),
                Err(failure) => return Err(AcquireError::StoreFailed(failure, slot)),
            }
        }
        match self.check_still_valid(begun) {
            Ok(()) => Ok(slot),
            Err(failure) => Err(AcquireError::StoreFailed(failure, slot)),
        }
    }
}

impl FakeStore {
    /// How many calls the store counts under all limits with `part` in their keys.
    pub(crate) fn in_flight(&self, part: &str) -> usize {
        let now = self.clock.now();
        let live = self.slots.live.lock();
        let fits = live.iter().filter(|(key, _)| key.contains(part));
        fits.map(|(_, calls)| calls.values().filter(|until| **until > now).count()).sum()
    }

    /// Comes back empty over a new connection.
    pub(crate) fn reconnect_empty(&self) {
        self.slots.live.lock().clear();
        self.slots.connection.fetch_add(1, Ordering::SeqCst);
        *self.slots.restored.lock() = Some(self.clock.now());
    }

    async fn reply_after_delay<T>(&self, value: impl FnOnce() -> T) -> Result<T, StoreFailure> {
        let answer = self.reply(value);
        let delay = *self.slots.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if *self.slots.loses_answers.lock() { Err(StoreFailure::Timeout) } else { answer }
    }

    fn hold_slots(&self, key: &Arc<str>, calls: &[CallId], lease: Duration) {
        let until = self.clock.now().plus(lease.as_micros() as u64);
        let mut live = self.slots.live.lock();
        live.entry(key.clone()).or_default().extend(calls.iter().map(|call| (*call, until)));
    }

    fn release_slots(&self, key: &Arc<str>, calls: &[CallId]) {
        let mut live = self.slots.live.lock();
        live.entry(key.clone()).or_default().retain(|call, _| !calls.contains(call));
    }
}

impl SlotStore for FakeStore {
    fn acquire<'a>(
        &'a self,
        request: &'a SlotRequest,
        buckets: &'a AdmitRequest,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>> {
        Box::pin(async move {
            self.slots.acquire_count.fetch_add(1, Ordering::SeqCst);
            self.slots.partitions.lock().extend(request.limits.iter().map(|slots| slots.partition.clone()));
            self.reply_after_delay(|| {
                let now = self.clock.now();
                let mut verdict =
                    SlotVerdict { admitted: true, counts: SmallVec::new(), holds: SmallVec::new() };
                for (slots, ended) in request.limits.iter().zip(&request.ended) {
                    self.release_slots(&slots.key, ended);
                    let mut live = self.slots.live.lock();
                    let calls = live.entry(slots.key.clone()).or_default();
                    calls.retain(|_, until| *until > now);
                    let count = calls.keys().filter(|call| **call != request.call).count() as u32;
                    verdict.counts.push(count);
                    verdict.holds.push(count < slots.count_max);
                    verdict.admitted &= count < slots.count_max || slots.mode == Mode::Shadow;
                }
                let full = !verdict.admitted;
                let paid = if full { self.preview(buckets) } else { self.decide(buckets) };
                verdict.admitted &= paid.admitted;
                for (slots, holds) in request.limits.iter().zip(&mut verdict.holds) {
                    *holds &= verdict.admitted;
                    if *holds {
                        self.hold_slots(&slots.key, &[request.call], request.lease);
                    }
                }
                (verdict, paid)
            })
            .await
        })
    }

    fn report<'a>(
        &'a self,
        partition: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let takes = *self.slots.report_delay.lock();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            self.reply_after_delay(|| {
                for report in reports {
                    let partition = partition.map(str::to_owned);
                    self.slots.reported.lock().push((partition, report.key.to_string()));
                    self.hold_slots(&report.key, &report.held, lease);
                    self.release_slots(&report.key, &report.ended);
                }
            })
            .await
        })
    }

    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlotLimit],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>> {
        Box::pin(async move {
            self.reply(|| slots.iter().map(|slots| self.in_flight(&slots.key) as u32).collect())
        })
    }

    fn connection(&self) -> StoreConnection {
        let restored = *self.slots.restored.lock();
        StoreConnection {
            generation: self.slots.connection.load(Ordering::SeqCst),
            reconnected_for: restored.map(|at| Duration::from_micros(self.clock.now().since(at))),
        }
    }
}
