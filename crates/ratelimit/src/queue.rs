//! Wait queues: calls that a limit holds up, where its rule says to wait instead of refusing.
//!
//! `scheduler` decides which call may continue; `fair_queue` decides the order within one queue. A waiting
//! call is one task with one timer. Only the first call of a queue watches the time of its bucket; all others
//! sleep until they are notified. A call leaves its queue when its [`Waiter`] is dropped.

pub(crate) mod fair_queue;
mod progress;
pub(crate) mod scheduler;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use vmcp_domain::LimitScope;
use vmcp_timing::{Clock, Micros};

use crate::bucket::decide::BucketSnapshot;
use crate::bucket::memory_store::MemoryStore;
use crate::bucket::rate::{Level, Rate};
use crate::bucket::user_key::UserKey;
use crate::plan::Plan;
use crate::plan::policy::{Mode, WaitBounds};
use crate::queue::fair_queue::Ticket;
pub(crate) use crate::queue::scheduler::Needs;
use crate::queue::scheduler::{LimitKey, Need, Now, QueueState, Scheduler, Supply};
pub(crate) use progress::WaitProgress;

/// All calls that wait in this process.
pub(crate) struct WaitQueues {
    scheduler: Mutex<Scheduler>,
    count: AtomicUsize,
    bounds: WaitBounds,
}

/// Why a call cannot be admitted now.
#[derive(Debug)]
pub(crate) enum WaitReason {
    /// A reason that waiting cannot remove.
    Futile,
    /// A limit on calls in flight has no free slot; its index in the plan.
    Slots(usize),
    /// The buckets cannot pay; a snapshot of each bucket of the plan, in the plan's order.
    Buckets(Box<[BucketSnapshot]>),
}

/// The limit of a plan that a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitIndex {
    /// A bucket, by its index in the plan.
    Bucket(usize),
    /// A limit on calls in flight, by its index in the plan.
    Slots(usize),
}

/// What a waiting call does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NextStep {
    /// It asks the store.
    AskStore,
    /// It waits for this limit until the given moment at the latest, or until it is notified.
    Wait(LimitIndex, Micros),
    /// It gives up: this limit would take too long. The expected wait in microseconds, where it can be
    /// estimated.
    GiveUp(LimitIndex, Option<u64>),
}

impl LimitIndex {
    fn of_need(need: &Need) -> Self {
        match need.supply {
            Supply::Tokens(..) => Self::Bucket(need.index),
            Supply::Slots(..) => Self::Slots(need.index),
        }
    }
}

/// Every enforced limit that a call of a plan needs. The call waits for none of them longer than `time_left`
/// microseconds.
pub(crate) fn needs(plan: &Plan, user: Option<UserKey>, time_left: u64) -> Needs {
    let full = |rate: &Rate| Supply::Tokens(*rate, Level::full(rate, Micros(0)));
    let buckets = plan.buckets.iter().enumerate().filter(|(_, bucket)| bucket.mode == Mode::Enforce);
    let buckets = buckets.map(|(index, bucket)| Need {
        limit_key: LimitKey {
            id: bucket.id,
            user: bucket.owner.or_else(|| user.filter(|_| bucket.storage.is_per_user())),
        },
        index,
        scope_width: scope_width(bucket.scope) + 1,
        cost: bucket.cost.get(),
        wait_max: bucket.wait_max.min(time_left),
        supply: full(&bucket.rate),
    });
    let slots = plan.slot_limits.iter().enumerate().filter(|(_, slots)| slots.mode == Mode::Enforce);
    let slots = slots.map(|(index, slots)| Need {
        limit_key: LimitKey { id: slots.id, user: user.filter(|_| slots.shared_count.is_none()) },
        index,
        scope_width: scope_width(slots.scope),
        cost: 1,
        wait_max: slots.wait_max.min(time_left),
        supply: Supply::Slots(slots.count_max.get(), slots.shared_count.clone()),
    });
    let mut needs: Needs = buckets.chain(slots).collect();
    needs.sort_by_key(|need| (need.scope_width, need.limit_key.id));
    needs
}

/// The order in which limits are passed, narrow scopes first. Within one scope calls in flight come before
/// tokens: a call that waits for another call to end reserves no tokens meanwhile.
fn scope_width(scope: LimitScope) -> u8 {
    match scope {
        LimitScope::UserTool => 0,
        LimitScope::User => 2,
        LimitScope::ValueTool => 4,
        LimitScope::Value => 6,
        LimitScope::ClaimTool => 8,
        LimitScope::Claim => 10,
        LimitScope::Tool => 12,
        LimitScope::Server => 14,
    }
}

impl WaitQueues {
    pub(crate) fn new(bounds: WaitBounds) -> Self {
        Self { scheduler: Mutex::default(), count: AtomicUsize::new(0), bounds }
    }

    /// The number of calls that wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// True when other calls wait for a limit that these needs name.
    pub(crate) fn is_contended(&self, needs: &Needs) -> bool {
        self.scheduler.lock().is_contended(needs)
    }

    /// Takes a call into the wait queues. When they are full, the error has the limit that the call would
    /// have waited longest for, and the expected wait in microseconds.
    pub(crate) fn enqueue<'a>(
        &'a self,
        context: WaitContext<'a>,
        user: UserKey,
        needs: Needs,
    ) -> Result<Waiter<'a>, (LimitIndex, Option<u64>)> {
        let now = context.clock.now();
        let mut scheduler = self.scheduler.lock();
        let entered = scheduler.enqueue(user, needs.clone(), now, self.bounds);
        let Some((ticket, wake)) = entered else {
            let (index, wait) = context.with_now(|present| scheduler.longest_forecast(user, &needs, present));
            return Err((needs.get(index).map_or(LimitIndex::Bucket(0), LimitIndex::of_need), wait));
        };
        self.count.store(scheduler.len(), Ordering::Release);
        Ok(Waiter { wait_queues: self, context, ticket, wake, needs, started_at: now, is_admitted: false })
    }

    /// Other replicas hold all slots of this limit: pauses its queue. `index` is its index in the plan of
    /// these needs.
    pub(crate) fn pause_full_slots(&self, context: WaitContext<'_>, needs: &Needs, index: usize) {
        let Some(need) = needs.iter().find(|need| LimitIndex::of_need(need) == LimitIndex::Slots(index))
        else {
            return;
        };
        let now = context.clock.now();
        // The pause varies by time, so that replicas do not ask the store in step.
        let pause = context.retry_pause + now.0 % (context.retry_pause + 1);
        self.scheduler.lock().pause_full_slots(need.limit_key, pause, now);
    }

    /// A call with these needs has released something: its slots, and its tokens if `tokens` is true.
    /// `shared` is true when it held slots that other replicas share.
    pub(crate) fn notify_release(&self, context: WaitContext<'_>, needs: &Needs, tokens: bool, shared: bool) {
        let mut scheduler = self.scheduler.lock();
        if shared {
            scheduler.resume_after_release(needs, context.retry_pause, context.clock.now());
        }
        context.with_now(|present| scheduler.release(needs, tokens, present));
    }
}

/// The clock and the counters of calls in flight that the wait queues read.
#[derive(Clone, Copy)]
pub(crate) struct WaitContext<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) memory: &'a MemoryStore,
    /// The pause of a queue in microseconds after an unexpected refusal, when other replicas spend from the
    /// same buckets. No call of the queue asks the store again before it ends.
    pub(crate) retry_pause: u64,
}

impl WaitContext<'_> {
    fn with_now<T>(&self, look: impl FnOnce(Now<'_>) -> T) -> T {
        let in_flight = |user, id| self.memory.in_flight(user, id);
        look(Now { time: self.clock.now(), in_flight: &in_flight })
    }
}

/// One waiting call. Dropping it removes the call from the wait queues; what was granted to it and not spent
/// is available again.
pub(crate) struct Waiter<'a> {
    wait_queues: &'a WaitQueues,
    context: WaitContext<'a>,
    ticket: Ticket,
    wake: Arc<Notify>,
    needs: Needs,
    started_at: Micros,
    is_admitted: bool,
}

impl Waiter<'_> {
    /// Queues the call again after the store refused it. False when a limit that it needs would come too
    /// late.
    #[must_use]
    pub(crate) fn requeue(&mut self, wait_reason: &WaitReason) -> bool {
        let now = self.context.clock.now();
        let waited = now.since(self.started_at);
        let mut levels: SmallVec<[Supply; 4]> = SmallVec::new();
        let mut short: SmallVec<[usize; 4]> = SmallVec::new();
        let mut longest: Option<(usize, u64)> = None;
        for (index, need) in self.needs.iter().enumerate() {
            let snapshot = match (wait_reason, LimitIndex::of_need(need)) {
                (WaitReason::Buckets(snapshots), LimitIndex::Bucket(bucket)) => snapshots.get(bucket),
                (WaitReason::Slots(slots), LimitIndex::Slots(own)) if *slots == own => {
                    if waited >= need.wait_max {
                        return false;
                    }
                    longest = Some((index, 0));
                    None
                }
                (WaitReason::Futile, _) => return false,
                (WaitReason::Slots(_) | WaitReason::Buckets(_), _) => None,
            };
            let Some(snapshot) = snapshot else {
                levels.push(need.supply.clone());
                continue;
            };
            levels.push(Supply::Tokens(snapshot.rate, Level { units: snapshot.level, at: now }));
            if snapshot.level >= snapshot.cost {
                continue;
            }
            let wait = snapshot.rate.wait(snapshot.level, snapshot.cost);
            if snapshot.cost > snapshot.rate.capacity() || waited.saturating_add(wait) > need.wait_max {
                return false;
            }
            short.push(index);
            // Of equal waits the first one counts: needs are sorted, so it is the narrowest.
            if longest.is_none_or(|(_, other)| wait > other) {
                longest = Some((index, wait));
            }
        }
        let Some((need, _)) = longest else { return false };
        let levels = if matches!(wait_reason, WaitReason::Buckets(_)) { levels } else { SmallVec::new() };
        // The pause varies by ticket, so that replicas do not ask the store in step.
        let pause = self.context.retry_pause
            + self.ticket.0.wrapping_mul(0x9e37_79b9) % (self.context.retry_pause + 1);
        let mut scheduler = self.wait_queues.scheduler.lock();
        self.context
            .with_now(|present| scheduler.requeue(self.ticket, (need, &short), &levels, pause, present));
        true
    }

    /// What the call does now.
    pub(crate) fn next_step(&mut self) -> NextStep {
        let (state, now) = {
            let mut scheduler = self.wait_queues.scheduler.lock();
            self.context.with_now(|present| (scheduler.advance(self.ticket, present), present.time))
        };
        match state {
            QueueState::MayAskStore => NextStep::AskStore,
            QueueState::TooLate { need, wait } => NextStep::GiveUp(self.limit_index(need), Some(wait)),
            QueueState::Waiting { need, until } => {
                let allowed = self.needs.get(need).map_or(0, |need| need.wait_max);
                let end = self.started_at.plus(allowed);
                if now >= end || until.is_some_and(|until| until > end) {
                    return NextStep::GiveUp(self.limit_index(need), self.forecast());
                }
                NextStep::Wait(self.limit_index(need), until.unwrap_or(end))
            }
        }
    }

    /// The expected time until the call's turn, in microseconds; `None` where it cannot be estimated.
    pub(crate) fn forecast(&self) -> Option<u64> {
        let scheduler = self.wait_queues.scheduler.lock();
        self.context.with_now(|present| scheduler.forecast(self.ticket, present))
    }

    /// Sleeps until this moment, or until the call is notified.
    pub(crate) async fn sleep_until(&self, until: Micros) {
        let pause = Duration::from_micros(until.since(self.context.clock.now()));
        // A time-out and a notification both mean the same: check again.
        let _ = tokio::time::timeout(pause, self.wake.notified()).await;
    }

    /// Marks that the call has paid, and leaves the queue.
    pub(crate) fn mark_admitted(mut self) {
        self.is_admitted = true;
    }

    fn limit_index(&self, need: usize) -> LimitIndex {
        self.needs.get(need).map_or(LimitIndex::Bucket(0), LimitIndex::of_need)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut scheduler = self.wait_queues.scheduler.lock();
        self.context.with_now(|present| scheduler.remove(self.ticket, self.is_admitted, present));
        self.wait_queues.count.store(scheduler.len(), Ordering::Release);
    }
}
