mod accounts;
mod bounds;
mod keys;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use vmcp_domain::BoxFuture;

use super::*;
use crate::limiter::tests::FakeStore;
use crate::remote::{Connection, SlotReport, SlotStore, SlotVerdict};

/// The slots of a store that a test breaks, slows down and makes forget.
#[derive(Default)]
pub(crate) struct FakeSlots {
    live: Mutex<HashMap<Arc<str>, HashMap<CallName, Micros>>>,
    connection: AtomicU64,
    restored: Mutex<Option<Micros>>,
    /// Questions are carried out, and answered so much later.
    pub(crate) delay: Mutex<Duration>,
    /// Reports take so long to arrive.
    pub(crate) reports_take: Mutex<Duration>,
    /// Questions are carried out, and not answered.
    pub(crate) loses_answers: Mutex<bool>,
    /// How often a slot was asked for.
    pub(crate) asked: AtomicUsize,
    pub(crate) homes: Mutex<Vec<Option<Arc<str>>>>,
    /// The homes and keys of which it was told.
    told: Mutex<Vec<(Option<String>, String)>>,
}

/// Why a call has no slot.
pub(super) enum NoSlot {
    Busy(usize),
    Failed(StoreFailure, Slot),
}

impl Slots {
    /// Takes slots under the bounds of all parts for a call that falls under no bucket.
    pub(super) async fn take(self: &Arc<Self>, parts: &[SlotPart]) -> Result<Slot, NoSlot> {
        let (mut slot, begun) = (self.begin(), self.clock.now());
        let none = Ask { buckets: SmallVec::new() };
        for part in parts {
            match self.enter(&mut slot, part, &none).await {
                Ok(Entered::Admitted(_)) => {}
                Ok(Entered::Short(_)) => panic!("no bucket was asked"),
                Ok(Entered::Busy(place)) => return Err(NoSlot::Busy(place)),
                Err(failure) => return Err(NoSlot::Failed(failure, slot)),
            }
        }
        match self.confirm(begun) {
            Ok(()) => Ok(slot),
            Err(failure) => Err(NoSlot::Failed(failure, slot)),
        }
    }
}

impl FakeStore {
    /// How many calls it counts under all bounds whose keys contain this.
    pub(crate) fn in_flight(&self, part: &str) -> usize {
        let now = self.clock.now();
        let live = self.slots.live.lock();
        let fits = live.iter().filter(|(key, _)| key.contains(part));
        fits.map(|(_, calls)| calls.values().filter(|until| **until > now).count()).sum()
    }

    /// Comes back empty over a new connection.
    pub(crate) fn forget(&self) {
        self.slots.live.lock().clear();
        self.slots.connection.fetch_add(1, Ordering::SeqCst);
        *self.slots.restored.lock() = Some(self.clock.now());
    }

    async fn say<T>(&self, value: impl FnOnce() -> T) -> Result<T, StoreFailure> {
        let answer = self.answer(value);
        let delay = *self.slots.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if *self.slots.loses_answers.lock() { Err(StoreFailure::Timeout) } else { answer }
    }

    fn stay(&self, key: &Arc<str>, calls: &[CallName], lease: Duration) {
        let until = self.clock.now().plus(lease.as_micros() as u64);
        let mut live = self.slots.live.lock();
        live.entry(key.clone()).or_default().extend(calls.iter().map(|call| (*call, until)));
    }

    fn leave(&self, key: &Arc<str>, calls: &[CallName]) {
        let mut live = self.slots.live.lock();
        live.entry(key.clone()).or_default().retain(|call, _| !calls.contains(call));
    }
}

impl SlotStore for FakeStore {
    fn enter<'a>(
        &'a self,
        ask: &'a SlotAsk,
        buckets: &'a Ask,
    ) -> BoxFuture<'a, Result<(SlotVerdict, RemoteVerdict), StoreFailure>> {
        Box::pin(async move {
            self.slots.asked.fetch_add(1, Ordering::SeqCst);
            self.slots.homes.lock().extend(ask.slots.iter().map(|slots| slots.home.clone()));
            self.say(|| {
                let now = self.clock.now();
                let mut verdict =
                    SlotVerdict { admitted: true, counts: SmallVec::new(), holds: SmallVec::new() };
                for (slots, ended) in ask.slots.iter().zip(&ask.ended) {
                    self.leave(&slots.key, ended);
                    let mut live = self.slots.live.lock();
                    let calls = live.entry(slots.key.clone()).or_default();
                    calls.retain(|_, until| *until > now);
                    let count = calls.keys().filter(|call| **call != ask.call).count() as u32;
                    verdict.counts.push(count);
                    verdict.holds.push(count < slots.count_max);
                    verdict.admitted &= count < slots.count_max || slots.mode == Mode::Shadow;
                }
                let full = !verdict.admitted;
                let paid = if full { self.look(buckets) } else { self.decide(buckets) };
                verdict.admitted &= paid.admitted;
                for (slots, holds) in ask.slots.iter().zip(&mut verdict.holds) {
                    *holds &= verdict.admitted;
                    if *holds {
                        self.stay(&slots.key, &[ask.call], ask.lease);
                    }
                }
                (verdict, paid)
            })
            .await
        })
    }

    fn report<'a>(
        &'a self,
        home: Option<&'a str>,
        reports: &'a [SlotReport],
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreFailure>> {
        Box::pin(async move {
            let takes = *self.slots.reports_take.lock();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            self.say(|| {
                for report in reports {
                    let home = home.map(str::to_owned);
                    self.slots.told.lock().push((home, report.key.to_string()));
                    self.stay(&report.key, &report.held, lease);
                    self.leave(&report.key, &report.ended);
                }
            })
            .await
        })
    }

    fn count<'a>(
        &'a self,
        slots: &'a [RemoteSlots],
    ) -> BoxFuture<'a, Result<SmallVec<[u32; 2]>, StoreFailure>> {
        Box::pin(async move {
            self.answer(|| slots.iter().map(|slots| self.in_flight(&slots.key) as u32).collect())
        })
    }

    fn connection(&self) -> Connection {
        let restored = *self.slots.restored.lock();
        Connection {
            number: self.slots.connection.load(Ordering::SeqCst),
            restored: restored.map(|at| Duration::from_micros(self.clock.now().since(at))),
        }
    }
}
