//! The state of the wait queues, without a clock and without tasks: which call waits for which limit, and
//! which call may continue.
//!
//! A bucket, or a limit on calls in flight, is contended as soon as one call waits for it. From then on only
//! calls that its queue has granted are charged to it, and the queue grants as many as it can certainly pay
//! for. A call takes what it needs from narrow to wide scope and asks the store only when everything is
//! granted. So a tool that has no tokens left holds up no call of another tool, and two calls never wait for
//! each other.
//!
//! The level of a bucket is known from the last refusal and from what was granted since. The store still
//! decides: a call that the store refuses after all gets its turn back.

mod forecast;
pub(crate) mod shared_slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;
use tokio::sync::Notify;
use vmcp_timing::Micros;

use crate::bucket::rate::{Level, Rate};
use crate::bucket::user_key::UserKey;
use crate::plan::BucketId;
use crate::plan::policy::WaitBounds;
use crate::queue::fair_queue::{FairQueue, Ticket};

/// The pause of a limit on calls in flight after a granted call was refused, in microseconds.
const SLOT_RETRY_PAUSE: u64 = 10_000;

/// What calls wait for: a limit definition, and the user where the limit counts for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LimitKey {
    pub(super) id: BucketId,
    pub(super) user: Option<UserKey>,
}

/// One limit that a call needs.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(super) limit_key: LimitKey,
    /// Its index among the plan's buckets, or among the plan's limits on calls in flight.
    pub(super) index: usize,
    /// The width of its scope: narrow limits are passed first.
    pub(super) scope_width: u8,
    pub(super) cost: u32,
    /// The longest that a call waits for it, in microseconds.
    pub(super) wait_max: u64,
    pub(super) supply: Supply,
}

/// What a limit can grant.
#[derive(Clone, Debug)]
pub(crate) enum Supply {
    /// Tokens: the rate and the level, as far as it is known.
    Tokens(Rate, Level),
    /// Slots: the most calls in flight, and the counter of a limit that counts all callers together. Without
    /// a counter the limit counts for each user.
    Slots(u32, Option<Arc<AtomicU32>>),
}

/// Every enforced limit that a call needs, the narrow scopes first.
pub(crate) type Needs = SmallVec<[Need; 4]>;

/// The present moment, with the counters of calls in flight.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) time: Micros,
    /// How many calls of a user are in flight under a limit.
    pub(super) in_flight: &'a dyn Fn(UserKey, BucketId) -> u32,
}

/// The queue of one limit.
#[derive(Debug)]
struct LimitQueue {
    supply: Supply,
    /// The cost of the calls that were granted and have not paid yet.
    granted_cost: u64,
    fair_queue: FairQueue,
    /// No call is granted before this moment.
    paused_until: Micros,
    /// How many granted calls in a row found no free slot, where slots are shared with other replicas.
    failed_attempts: u32,
    /// Since when this replica has reused shared slots for its own calls.
    local_use_since: Option<Micros>,
}

/// One waiting call.
#[derive(Debug)]
struct WaitingCall {
    user: UserKey,
    needs: Needs,
    /// For each need: whether it is granted.
    granted: SmallVec<[bool; 4]>,
    /// The index of the need that the call waits for.
    waiting_for: Option<usize>,
    started_at: Micros,
    wake: Arc<Notify>,
}

/// The state of a call in the wait queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueState {
    /// Everything is granted: the call may ask the store.
    MayAskStore,
    /// It waits for a need. `until` is set for the first call of the queue only; all others wait until they
    /// are notified.
    Waiting { need: usize, until: Option<Micros> },
    /// Its turn would come after `wait` microseconds, which is too late.
    TooLate { need: usize, wait: u64 },
}

/// All waiting calls and the queues that they wait in.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    queues: HashMap<LimitKey, LimitQueue>,
    calls: HashMap<Ticket, WaitingCall>,
    calls_by_user: HashMap<UserKey, usize>,
    next_ticket: u64,
}

impl LimitQueue {
    /// The time in microseconds until it can grant another `cost` beyond what is granted already; `None`
    /// where it cannot be estimated.
    fn time_until(&self, limit_key: LimitKey, cost: u64, now: Now<'_>) -> Option<u64> {
        let wait = match &self.supply {
            Supply::Tokens(rate, level) => {
                let price = rate.units(self.granted_cost.saturating_add(cost));
                rate.wait(rate.level_at(*level, now.time), price)
            }
            Supply::Slots(count_max, counter) => {
                let taken = match (counter, limit_key.user) {
                    (Some(counter), _) => counter.load(Ordering::Acquire),
                    (None, Some(user)) => (now.in_flight)(user, limit_key.id),
                    (None, None) => 0,
                };
                let wanted = u64::from(taken).saturating_add(self.granted_cost).saturating_add(cost);
                (wanted <= u64::from(*count_max)).then_some(0)?
            }
        };
        Some(wait.max(self.paused_until.since(now.time)))
    }

    /// When the first call of the queue can be paid for; `None` for every other call.
    fn ready_at(&self, ticket: Ticket, need: &Need, now: Now<'_>) -> Option<Micros> {
        self.fair_queue.first().filter(|(first, _)| *first == ticket)?;
        Some(now.time.plus(self.time_until(need.limit_key, need.cost.into(), now)?))
    }

    fn spend(&mut self, cost: u32, now: Micros) {
        if let Supply::Tokens(rate, level) = &mut self.supply {
            *level = level.updated(rate.level_at(*level, now).saturating_sub(rate.units(cost.into())), now);
        }
    }

    fn is_unused(&self) -> bool {
        self.fair_queue.is_empty() && self.granted_cost == 0
    }
}

impl Scheduler {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// True when calls wait for one of these limits.
    pub(super) fn is_contended(&self, needs: &Needs) -> bool {
        needs.iter().any(|need| self.queues.contains_key(&need.limit_key))
    }

    /// Takes a call in. `None` when all queues together are full, or this user has too many waiting calls.
    pub(super) fn enqueue(
        &mut self,
        user: UserKey,
        needs: Needs,
        started_at: Micros,
        bounds: WaitBounds,
    ) -> Option<(Ticket, Arc<Notify>)> {
        let own = self.calls_by_user.get(&user).copied().unwrap_or(0);
        if self.calls.len() >= bounds.count_max || own >= bounds.per_user_count_max {
            return None;
        }
        self.calls_by_user.insert(user, own + 1);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let wake = Arc::new(Notify::new());
        let granted = needs.iter().map(|_| false).collect();
        self.calls.insert(
            ticket,
            WaitingCall { user, needs, granted, waiting_for: None, started_at, wake: wake.clone() },
        );
        Some((ticket, wake))
    }

    /// Takes every need that is available now, in order, until one has to be waited for.
    pub(super) fn advance(&mut self, ticket: Ticket, now: Now<'_>) -> QueueState {
        if let Some(limit_key) = self.calls.get(&ticket).and_then(WaitingCall::waiting_for_key) {
            self.grant_ready(limit_key, Some(ticket), now);
        }
        let Some(call) = self.calls.get_mut(&ticket) else { return QueueState::MayAskStore };
        for (index, need) in call.needs.iter().enumerate() {
            let is_granted = call.granted.get_mut(index);
            let (Some(queue), Some(is_granted)) = (self.queues.get_mut(&need.limit_key), is_granted) else {
                continue;
            };
            if *is_granted {
                continue;
            }
            if call.waiting_for == Some(index) {
                return QueueState::Waiting { need: index, until: queue.ready_at(ticket, need, now) };
            }
            if queue.fair_queue.is_empty()
                && queue.time_until(need.limit_key, need.cost.into(), now) == Some(0)
            {
                queue.granted_cost += u64::from(need.cost);
                *is_granted = true;
                continue;
            }
            let allowed = need.wait_max.saturating_sub(now.time.since(call.started_at));
            if let Some(wait) = queue.forecast(need, call.user, None, allowed, now)
                && wait > allowed
            {
                return QueueState::TooLate { need: index, wait };
            }
            queue.fair_queue.push(call.user, ticket, need.cost, false);
            call.waiting_for = Some(index);
            return QueueState::Waiting { need: index, until: queue.ready_at(ticket, need, now) };
        }
        QueueState::MayAskStore
    }

    /// The store has refused the call. `levels` says what its buckets hold, `need` which need holds it up
    /// longest. The call waits for that one, keeps what is granted of narrower needs and returns what is
    /// granted of wider ones. For `pause` microseconds the queue grants nothing, if this call had been
    /// granted and was refused all the same.
    pub(super) fn requeue(
        &mut self,
        ticket: Ticket,
        (need, short): (usize, &[usize]),
        levels: &[Supply],
        pause: u64,
        now: Now<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        let mut moved: SmallVec<[LimitKey; 4]> = SmallVec::new();
        for (index, own) in call.needs.iter_mut().enumerate() {
            if let Some(supply) = levels.get(index) {
                own.supply = supply.clone();
            }
            if index == need {
                self.queues.entry(own.limit_key).or_insert_with(|| LimitQueue {
                    supply: own.supply.clone(),
                    granted_cost: 0,
                    fair_queue: FairQueue::default(),
                    // Other replicas have just reported that they hold all slots, so asking again at once is
                    // useless.
                    paused_until: now.time.plus(if matches!(own.supply, Supply::Slots(..)) {
                        pause
                    } else {
                        0
                    }),
                    failed_attempts: 0,
                    local_use_since: None,
                });
            }
            let Some(queue) = self.queues.get_mut(&own.limit_key) else { continue };
            if matches!(own.supply, Supply::Tokens(..)) {
                queue.supply = own.supply.clone();
            }
            let Some(is_granted) = call.granted.get_mut(index) else { continue };
            let had_turn = *is_granted && (index >= need || short.contains(&index));
            if had_turn {
                *is_granted = false;
                queue.granted_cost = queue.granted_cost.saturating_sub(own.cost.into());
                moved.push(own.limit_key);
            }
            if index == need {
                if had_turn {
                    queue.paused_until = match own.supply {
                        Supply::Tokens(..) => now.time.plus(pause),
                        Supply::Slots(..) => {
                            queue.paused_until.max(now.time.plus(pause.max(SLOT_RETRY_PAUSE)))
                        }
                    };
                }
                queue.fair_queue.push(call.user, ticket, own.cost, had_turn);
                call.waiting_for = Some(index);
            }
        }
        for limit_key in moved {
            self.grant_ready(limit_key, None, now);
        }
    }

    /// Removes a call, whether it was admitted or not.
    pub(super) fn remove(&mut self, ticket: Ticket, admitted: bool, now: Now<'_>) {
        let Some(call) = self.calls.remove(&ticket) else { return };
        if let Some(count) = self.calls_by_user.get_mut(&call.user) {
            *count -= 1;
            if *count == 0 {
                self.calls_by_user.remove(&call.user);
            }
        }
        for (index, need) in call.needs.iter().enumerate() {
            let Some(queue) = self.queues.get_mut(&need.limit_key) else { continue };
            if call.granted.get(index) == Some(&true) {
                queue.granted_cost = queue.granted_cost.saturating_sub(need.cost.into());
            }
            if admitted {
                queue.spend(need.cost, now.time);
                queue.failed_attempts = 0;
            } else if call.waiting_for == Some(index) {
                queue.fair_queue.remove(call.user, ticket);
            }
            self.grant_ready(need.limit_key, None, now);
        }
    }

    /// A call with these needs has released its slots, and its tokens if `tokens` is true.
    pub(super) fn release(&mut self, needs: &Needs, tokens: bool, now: Now<'_>) {
        for need in needs {
            let Some(queue) = self.queues.get_mut(&need.limit_key) else { continue };
            if let (Supply::Tokens(rate, level), true) = (&mut queue.supply, tokens) {
                let back = rate.level_at(*level, now.time).saturating_add(rate.units(need.cost.into()));
                *level = level.updated(back.min(rate.capacity()), now.time);
            }
            self.grant_ready(need.limit_key, None, now);
        }
    }

    /// The index of the need that a call arriving now would wait for longest, and that wait in microseconds.
    pub(super) fn longest_forecast(
        &self,
        user: UserKey,
        needs: &Needs,
        now: Now<'_>,
    ) -> (usize, Option<u64>) {
        let waits = needs.iter().enumerate().filter_map(|(index, need)| {
            let queue = self.queues.get(&need.limit_key)?;
            Some((index, queue.forecast(need, user, None, 0, now)))
        });
        waits.max_by_key(|(_, wait)| wait.unwrap_or(u64::MAX)).unwrap_or((0, None))
    }

    /// The expected time until the turn of a waiting call, in microseconds; `None` where it cannot be
    /// estimated.
    pub(super) fn forecast(&self, ticket: Ticket, now: Now<'_>) -> Option<u64> {
        let call = self.calls.get(&ticket)?;
        let need = call.needs.get(call.waiting_for?)?;
        let queue = self.queues.get(&need.limit_key)?;
        queue.forecast(need, call.user, Some(ticket), 0, now)
    }

    /// Grants the first calls that a queue can pay for. It then notifies the next call, so that this one
    /// watches the time, unless that is the call `watching`, which is running now.
    fn grant_ready(&mut self, limit_key: LimitKey, watching: Option<Ticket>, now: Now<'_>) {
        let Some(queue) = self.queues.get_mut(&limit_key) else { return };
        while let Some((first, cost)) = queue.fair_queue.first() {
            if queue.time_until(limit_key, cost.into(), now) != Some(0) {
                if let Some(call) = self.calls.get(&first).filter(|_| watching != Some(first)) {
                    call.wake.notify_one();
                }
                break;
            }
            queue.fair_queue.pop();
            queue.granted_cost += u64::from(cost);
            if let Some(call) = self.calls.get_mut(&first) {
                if let Some(is_granted) =
                    call.waiting_for.take().and_then(|index| call.granted.get_mut(index))
                {
                    *is_granted = true;
                }
                call.wake.notify_one();
            }
        }
        if queue.is_unused() {
            self.queues.remove(&limit_key);
        }
    }
}

impl WaitingCall {
    fn waiting_for_key(&self) -> Option<LimitKey> {
        self.waiting_for.and_then(|index| self.needs.get(index)).map(|need| need.limit_key)
    }
}
