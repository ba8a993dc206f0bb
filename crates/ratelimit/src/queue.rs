//! The waiting room: calls that a limit holds up, where its rule says to wait in place of being refused.
//!
//! Who may go on is `hall`'s to say, whose turn it is in one queue `queue`'s. A call that waits is one task with one
//! timer: only the first of a queue watches the time of its bucket, everybody else sleeps until told. Leaving is
//! dropping.

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

use crate::bucket::decide::BucketSnapshot;
use crate::bucket::memory_store::MemoryStore;
use crate::bucket::rate::{Level, Rate};
use crate::bucket::user_table::UserKey;
use crate::clock::{Clock, Micros};
use crate::plan::Plan;
use crate::plan::policy::{Mode, WaitBounds};

use crate::queue::fair_queue::Ticket;
pub(crate) use crate::queue::scheduler::Needs;
use crate::queue::scheduler::{LimitKey, Need, Now, QueueState, Scheduler, Supply};
pub(crate) use progress::WaitProgress;

/// Everybody who waits in this process.
pub(crate) struct WaitQueues {
    scheduler: Mutex<Scheduler>,
    count: AtomicUsize,
    bounds: WaitBounds,
}

/// What holds a call up.
#[derive(Debug)]
pub(crate) enum WaitReason {
    /// Something that waiting does not help against.
    Futile,
    /// Calls in flight, by the bound's place in the plan.
    Slots(usize),
    /// What the plan's buckets hold, in its order.
    Buckets(Box<[BucketSnapshot]>),
}

/// The thing of a plan that a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitIndex {
    /// A bucket, by its place.
    Bucket(usize),
    /// A bound on calls in flight, by its place.
    Slots(usize),
}

/// What a waiting call does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NextStep {
    /// Asks the store.
    AskStore,
    /// Waits for this, until then at most, or until the bell rings.
    Wait(LimitIndex, Micros),
    /// Gives up: this would take too long, so many microseconds if somebody can say.
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

/// Everything enforced that a call of a plan needs. It waits for none of it longer than `patience`, in microseconds.
pub(crate) fn needs(plan: &Plan, user: Option<UserKey>, patience: u64) -> Needs {
    let full = |rate: &Rate| Supply::Tokens(*rate, Level::full(rate, Micros(0)));
    let buckets = plan.buckets.iter().enumerate().filter(|(_, bucket)| bucket.mode == Mode::Enforce);
    let buckets = buckets.map(|(place, bucket)| Need {
        limit_key: LimitKey {
            id: bucket.id,
            user: bucket.owner.or_else(|| user.filter(|_| bucket.storage.is_per_user())),
        },
        index: place,
        scope_width: scope_width(bucket.scope) + 1,
        cost: bucket.cost.get(),
        wait_max: bucket.wait_max.min(patience),
        supply: full(&bucket.rate),
    });
    let slots = plan.slot_limits.iter().enumerate().filter(|(_, slots)| slots.mode == Mode::Enforce);
    let slots = slots.map(|(place, slots)| Need {
        limit_key: LimitKey { id: slots.id, user: user.filter(|_| slots.shared_count.is_none()) },
        index: place,
        scope_width: scope_width(slots.scope),
        cost: 1,
        wait_max: slots.wait_max.min(patience),
        supply: Supply::Slots(slots.count_max.get(), slots.shared_count.clone()),
    });
    let mut needs: Needs = buckets.chain(slots).collect();
    needs.sort_by_key(|need| (need.scope_width, need.limit_key.id));
    needs
}

/// Calls in flight before tokens of the same scope: whoever waits for a call to end holds back no tokens meanwhile.
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

    /// How many calls wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// True when others wait for something that these needs name.
    pub(crate) fn is_contended(&self, needs: &Needs) -> bool {
        self.scheduler.lock().is_contended(needs)
    }

    /// Takes a call in. Without room the error says what it would have waited for, and how long.
    pub(crate) fn enqueue<'a>(
        &'a self,
        view: WaitContext<'a>,
        user: UserKey,
        needs: Needs,
    ) -> Result<Waiter<'a>, (LimitIndex, Option<u64>)> {
        let now = view.clock.now();
        let mut hall = self.scheduler.lock();
        let entered = hall.enqueue(user, needs.clone(), now, self.bounds);
        let Some((ticket, bell)) = entered else {
            let (place, wait) = view.with_now(|present| hall.longest_forecast(user, &needs, present));
            return Err((needs.get(place).map_or(LimitIndex::Bucket(0), LimitIndex::of_need), wait));
        };
        self.count.store(hall.len(), Ordering::Release);
        Ok(Waiter {
            wait_queues: self,
            context: view,
            ticket,
            wake: bell,
            needs,
            started_at: now,
            is_admitted: false,
        })
    }

    /// Other replicas have all slots of the bound at this place of the plan that these needs are of.
    pub(crate) fn pause_full_slots(&self, view: WaitContext<'_>, needs: &Needs, place: usize) {
        let Some(need) = needs.iter().find(|need| LimitIndex::of_need(need) == LimitIndex::Slots(place))
        else {
            return;
        };
        let now = view.clock.now();
        // Not every replica pauses equally, so that they do not ask in step.
        let pause = view.retry_pause + now.0 % (view.retry_pause + 1);
        self.scheduler.lock().pause_full_slots(need.limit_key, pause, now);
    }

    /// A call with these needs has given something back: its place among the calls in flight, and tokens too if it says
    /// so. `shared` says that it held slots of which other replicas know.
    pub(crate) fn notify_release(&self, view: WaitContext<'_>, needs: &Needs, tokens: bool, shared: bool) {
        let mut hall = self.scheduler.lock();
        if shared {
            hall.resume_after_release(needs, view.retry_pause, view.clock.now());
        }
        view.with_now(|present| hall.release(needs, tokens, present));
    }
}

/// How the room sees time and calls in flight.
#[derive(Clone, Copy)]
pub(crate) struct WaitContext<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) memory: &'a MemoryStore,
    /// After a refusal that nobody here expected, because others spend from the same buckets, nobody asks again for
    /// so many microseconds.
    pub(crate) retry_pause: u64,
}

impl WaitContext<'_> {
    fn with_now<T>(&self, look: impl FnOnce(Now<'_>) -> T) -> T {
        let in_flight = |user, id| self.memory.in_flight(user, id);
        look(Now { time: self.clock.now(), in_flight: &in_flight })
    }
}

/// One call in the room. Dropping it leaves, and takes nothing along.
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
    /// The store has refused the call. False when what it needs would come too late.
    #[must_use]
    pub(crate) fn requeue(&mut self, held_up: &WaitReason) -> bool {
        let now = self.context.clock.now();
        let waited = now.since(self.started_at);
        let mut levels: SmallVec<[Supply; 4]> = SmallVec::new();
        let mut short: SmallVec<[usize; 4]> = SmallVec::new();
        let mut longest: Option<(usize, u64)> = None;
        for (place, need) in self.needs.iter().enumerate() {
            let reading = match (held_up, LimitIndex::of_need(need)) {
                (WaitReason::Buckets(readings), LimitIndex::Bucket(bucket)) => readings.get(bucket),
                (WaitReason::Slots(slots), LimitIndex::Slots(own)) if *slots == own => {
                    if waited >= need.wait_max {
                        return false;
                    }
                    longest = Some((place, 0));
                    None
                }
                (WaitReason::Futile, _) => return false,
                (WaitReason::Slots(_) | WaitReason::Buckets(_), _) => None,
            };
            let Some(reading) = reading else {
                levels.push(need.supply.clone());
                continue;
            };
            levels.push(Supply::Tokens(reading.rate, Level { units: reading.level, at: now }));
            if reading.level >= reading.cost {
                continue;
            }
            let wait = reading.rate.wait(reading.level, reading.cost);
            if reading.cost > reading.rate.capacity() || waited.saturating_add(wait) > need.wait_max {
                return false;
            }
            short.push(place);
            // The first of equals is the narrowest.
            if longest.is_none_or(|(_, other)| wait > other) {
                longest = Some((place, wait));
            }
        }
        let Some((need, _)) = longest else { return false };
        let levels = if matches!(held_up, WaitReason::Buckets(_)) { levels } else { SmallVec::new() };
        // Not everybody pauses equally, so that replicas do not ask in step.
        let pause = self.context.retry_pause
            + self.ticket.0.wrapping_mul(0x9e37_79b9) % (self.context.retry_pause + 1);
        let mut hall = self.wait_queues.scheduler.lock();
        self.context.with_now(|present| hall.requeue(self.ticket, (need, &short), &levels, pause, present));
        true
    }

    /// What to do now.
    pub(crate) fn next_step(&mut self) -> NextStep {
        let (standing, now) = {
            let mut hall = self.wait_queues.scheduler.lock();
            self.context.with_now(|present| (hall.advance(self.ticket, present), present.time))
        };
        match standing {
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

    /// How long until the call's turn, in microseconds, as things stand; `None` where nobody can say.
    pub(crate) fn forecast(&self) -> Option<u64> {
        let hall = self.wait_queues.scheduler.lock();
        self.context.with_now(|present| hall.forecast(self.ticket, present))
    }

    /// Sleeps until then, or until the bell rings.
    pub(crate) async fn sleep_until(&self, until: Micros) {
        let pause = Duration::from_micros(until.since(self.context.clock.now()));
        // Either end is a reason to look again.
        let _ = tokio::time::timeout(pause, self.wake.notified()).await;
    }

    /// The call has paid.
    pub(crate) fn mark_admitted(mut self) {
        self.is_admitted = true;
    }

    fn limit_index(&self, need: usize) -> LimitIndex {
        self.needs.get(need).map_or(LimitIndex::Bucket(0), LimitIndex::of_need)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut hall = self.wait_queues.scheduler.lock();
        self.context.with_now(|present| hall.remove(self.ticket, self.is_admitted, present));
        self.wait_queues.count.store(hall.len(), Ordering::Release);
    }
}
