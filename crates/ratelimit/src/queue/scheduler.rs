//! The waiting room's state, without time of its own and without tasks: who waits for what, and who may go on.
//!
//! A bucket, or a bound on calls in flight, is contended as soon as one call waits for it. From then on nobody is charged
//! to it but who has been let past its queue, and the queue lets past as many as it can certainly pay for. A call goes
//! past what it needs from the narrow to the wide and asks the store only when it is past everything: so a tool that
//! has nothing left holds up nobody who wants another, and two calls never wait for each other.
//!
//! What a bucket holds is known from the last refusal and from what was let past since. The store still decides: a call
//! that is refused after all gets its turn back.

mod forecast;
pub(crate) mod shared_slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::bucket::rate::{Level, Rate};
use crate::bucket::user_table::UserKey;
use crate::clock::Micros;
use crate::plan::BucketId;
use crate::plan::policy::WaitBounds;
use crate::queue::fair_queue::{FairQueue, Ticket};

/// How long nobody is let past a bound on calls in flight after somebody was in vain, in microseconds.
const SLOT_RETRY_PAUSE: u64 = 10_000;

/// What can be waited for: a definition, and the user it counts for, if it counts for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LimitKey {
    pub(super) id: BucketId,
    pub(super) user: Option<UserKey>,
}

/// One thing that a call needs.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(super) limit_key: LimitKey,
    /// Its place among the plan's buckets, or among its bounds on calls in flight.
    pub(super) index: usize,
    /// How wide it is: narrow things are passed first.
    pub(super) scope_width: u8,
    pub(super) cost: u32,
    /// The longest that a call waits for it, in microseconds.
    pub(super) wait_max: u64,
    pub(super) supply: Supply,
}

/// What a thing has to give.
#[derive(Clone, Debug)]
pub(crate) enum Supply {
    /// Tokens, as far as is known.
    Tokens(Rate, Level),
    /// Places among so many calls in flight, counted together or for each user.
    Slots(u32, Option<Arc<AtomicU32>>),
}

/// Everything a call needs that is enforced, the narrow first.
pub(crate) type Needs = SmallVec<[Need; 4]>;

/// The present moment.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) time: Micros,
    /// How many calls of a user are in flight under a bound.
    pub(super) in_flight: &'a dyn Fn(UserKey, BucketId) -> u32,
}

/// A thing that calls wait for.
#[derive(Debug)]
struct LimitQueue {
    supply: Supply,
    /// The cost of who has been let past and has not paid yet.
    granted_cost: u64,
    fair_queue: FairQueue,
    /// Nobody is let past before this moment.
    paused_until: Micros,
    /// How often in a row somebody was let past in vain, where slots are shared.
    failed_attempts: u32,
    /// Since when it has passed shared slots on among its own calls.
    local_use_since: Option<Micros>,
}

/// One waiting call.
#[derive(Debug)]
struct WaitingCall {
    user: UserKey,
    needs: Needs,
    /// For each need: whether the call is past it.
    granted: SmallVec<[bool; 4]>,
    /// The need it waits for.
    waiting_for: Option<usize>,
    started_at: Micros,
    wake: Arc<Notify>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueState {
    /// It may ask the store.
    MayAskStore,
    /// It waits for a need. Whose turn is next is told when; nobody else need look before the bell rings.
    Waiting { need: usize, until: Option<Micros> },
    /// Its turn would come so many microseconds from now, which is too late.
    TooLate { need: usize, wait: u64 },
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    queues: HashMap<LimitKey, LimitQueue>,
    calls: HashMap<Ticket, WaitingCall>,
    calls_by_user: HashMap<UserKey, usize>,
    next_ticket: u64,
}

impl LimitQueue {
    /// How long until it can let past another `cost`, beside who is past already; `None` where nobody can say.
    fn time_until(&self, thing: LimitKey, cost: u64, present: Now<'_>) -> Option<u64> {
        let wait = match &self.supply {
            Supply::Tokens(rate, level) => {
                let price = rate.units(self.granted_cost.saturating_add(cost));
                rate.wait(rate.level_at(*level, present.time), price)
            }
            Supply::Slots(count_max, counter) => {
                let taken = match (counter, thing.user) {
                    (Some(counter), _) => counter.load(Ordering::Acquire),
                    (None, Some(user)) => (present.in_flight)(user, thing.id),
                    (None, None) => 0,
                };
                let wanted = u64::from(taken).saturating_add(self.granted_cost).saturating_add(cost);
                (wanted <= u64::from(*count_max)).then_some(0)?
            }
        };
        Some(wait.max(self.paused_until.since(present.time)))
    }

    /// When a call that is the next can be paid for.
    fn ready_at(&self, ticket: Ticket, need: &Need, present: Now<'_>) -> Option<Micros> {
        self.fair_queue.first().filter(|(first, _)| *first == ticket)?;
        Some(present.time.plus(self.time_until(need.limit_key, need.cost.into(), present)?))
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

    /// True when calls wait for one of these.
    pub(super) fn is_contended(&self, needs: &Needs) -> bool {
        needs.iter().any(|need| self.queues.contains_key(&need.limit_key))
    }

    /// Takes a call in. `None` when there is no room, for anybody or for this user.
    pub(super) fn enqueue(
        &mut self,
        user: UserKey,
        needs: Needs,
        since: Micros,
        bounds: WaitBounds,
    ) -> Option<(Ticket, Arc<Notify>)> {
        let own = self.calls_by_user.get(&user).copied().unwrap_or(0);
        if self.calls.len() >= bounds.count_max || own >= bounds.per_user_count_max {
            return None;
        }
        self.calls_by_user.insert(user, own + 1);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let bell = Arc::new(Notify::new());
        let past = needs.iter().map(|_| false).collect();
        self.calls.insert(
            ticket,
            WaitingCall {
                user,
                needs,
                granted: past,
                waiting_for: None,
                started_at: since,
                wake: bell.clone(),
            },
        );
        Some((ticket, bell))
    }

    /// Goes on past everything that is contended, as far as the call gets.
    pub(super) fn advance(&mut self, ticket: Ticket, present: Now<'_>) -> QueueState {
        if let Some(thing) = self.calls.get(&ticket).and_then(WaitingCall::waiting_for_key) {
            self.grant_ready(thing, Some(ticket), present);
        }
        let Some(call) = self.calls.get_mut(&ticket) else { return QueueState::MayAskStore };
        for (place, need) in call.needs.iter().enumerate() {
            let is_past = call.granted.get_mut(place);
            let (Some(queue), Some(is_past)) = (self.queues.get_mut(&need.limit_key), is_past) else {
                continue;
            };
            if *is_past {
                continue;
            }
            if call.waiting_for == Some(place) {
                return QueueState::Waiting { need: place, until: queue.ready_at(ticket, need, present) };
            }
            if queue.fair_queue.is_empty()
                && queue.time_until(need.limit_key, need.cost.into(), present) == Some(0)
            {
                queue.granted_cost += u64::from(need.cost);
                *is_past = true;
                continue;
            }
            let allowed = need.wait_max.saturating_sub(present.time.since(call.started_at));
            if let Some(wait) = queue.forecast(need, call.user, None, allowed, present)
                && wait > allowed
            {
                return QueueState::TooLate { need: place, wait };
            }
            queue.fair_queue.push(call.user, ticket, need.cost, false);
            call.waiting_for = Some(place);
            return QueueState::Waiting { need: place, until: queue.ready_at(ticket, need, present) };
        }
        QueueState::MayAskStore
    }

    /// The store has refused the call: what its buckets hold, and which need holds it up longest. The call waits for
    /// that one, keeps what is narrower and gives back what is wider. `pause` is how long nobody is let past, where
    /// the call had been let past in vain.
    pub(super) fn requeue(
        &mut self,
        ticket: Ticket,
        (need, short): (usize, &[usize]),
        levels: &[Supply],
        pause: u64,
        present: Now<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        let mut moved: SmallVec<[LimitKey; 4]> = SmallVec::new();
        for (place, own) in call.needs.iter_mut().enumerate() {
            if let Some(stock) = levels.get(place) {
                own.supply = stock.clone();
            }
            if place == need {
                self.queues.entry(own.limit_key).or_insert_with(|| LimitQueue {
                    supply: own.supply.clone(),
                    granted_cost: 0,
                    fair_queue: FairQueue::default(),
                    // Who has just been told by others that they have all slots need not ask again at once.
                    paused_until: present.time.plus(if matches!(own.supply, Supply::Slots(..)) {
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
            let Some(is_past) = call.granted.get_mut(place) else { continue };
            let had_turn = *is_past && (place >= need || short.contains(&place));
            if had_turn {
                *is_past = false;
                queue.granted_cost = queue.granted_cost.saturating_sub(own.cost.into());
                moved.push(own.limit_key);
            }
            if place == need {
                if had_turn {
                    queue.paused_until = match own.supply {
                        Supply::Tokens(..) => present.time.plus(pause),
                        Supply::Slots(..) => {
                            queue.paused_until.max(present.time.plus(pause.max(SLOT_RETRY_PAUSE)))
                        }
                    };
                }
                queue.fair_queue.push(call.user, ticket, own.cost, had_turn);
                call.waiting_for = Some(place);
            }
        }
        for thing in moved {
            self.grant_ready(thing, None, present);
        }
    }

    /// The call leaves, with what it needs or without.
    pub(super) fn remove(&mut self, ticket: Ticket, admitted: bool, present: Now<'_>) {
        let Some(call) = self.calls.remove(&ticket) else { return };
        if let Some(count) = self.calls_by_user.get_mut(&call.user) {
            *count -= 1;
            if *count == 0 {
                self.calls_by_user.remove(&call.user);
            }
        }
        for (place, need) in call.needs.iter().enumerate() {
            let Some(queue) = self.queues.get_mut(&need.limit_key) else { continue };
            if call.granted.get(place) == Some(&true) {
                queue.granted_cost = queue.granted_cost.saturating_sub(need.cost.into());
            }
            if admitted {
                queue.spend(need.cost, present.time);
                queue.failed_attempts = 0;
            } else if call.waiting_for == Some(place) {
                queue.fair_queue.remove(call.user, ticket);
            }
            self.grant_ready(need.limit_key, None, present);
        }
    }

    /// Something was given back: a place among the calls in flight, or tokens, of a call with these needs.
    pub(super) fn release(&mut self, needs: &Needs, tokens: bool, present: Now<'_>) {
        for need in needs {
            let Some(queue) = self.queues.get_mut(&need.limit_key) else { continue };
            if let (Supply::Tokens(rate, level), true) = (&mut queue.supply, tokens) {
                let back = rate.level_at(*level, present.time).saturating_add(rate.units(need.cost.into()));
                *level = level.updated(back.min(rate.capacity()), present.time);
            }
            self.grant_ready(need.limit_key, None, present);
        }
    }

    /// What a call that comes now would wait for longest, and how long.
    pub(super) fn longest_forecast(
        &self,
        user: UserKey,
        needs: &Needs,
        present: Now<'_>,
    ) -> (usize, Option<u64>) {
        let waits = needs.iter().enumerate().filter_map(|(place, need)| {
            let queue = self.queues.get(&need.limit_key)?;
            Some((place, queue.forecast(need, user, None, 0, present)))
        });
        waits.max_by_key(|(_, wait)| wait.unwrap_or(u64::MAX)).unwrap_or((0, None))
    }

    /// How long until the turn of a call that waits, as things stand; `None` where nobody can say.
    pub(super) fn forecast(&self, ticket: Ticket, present: Now<'_>) -> Option<u64> {
        let call = self.calls.get(&ticket)?;
        let need = call.needs.get(call.waiting_for?)?;
        let queue = self.queues.get(&need.limit_key)?;
        queue.forecast(need, call.user, Some(ticket), 0, present)
    }

    /// Lets past whom a queue can pay for, and tells the next to keep watch, unless it is the one who looks.
    fn grant_ready(&mut self, thing: LimitKey, watching: Option<Ticket>, present: Now<'_>) {
        let Some(queue) = self.queues.get_mut(&thing) else { return };
        while let Some((first, cost)) = queue.fair_queue.first() {
            if queue.time_until(thing, cost.into(), present) != Some(0) {
                if let Some(call) = self.calls.get(&first).filter(|_| watching != Some(first)) {
                    call.wake.notify_one();
                }
                break;
            }
            queue.fair_queue.pop();
            queue.granted_cost += u64::from(cost);
            if let Some(call) = self.calls.get_mut(&first) {
                if let Some(is_past) = call.waiting_for.take().and_then(|place| call.granted.get_mut(place)) {
                    *is_past = true;
                }
                call.wake.notify_one();
            }
        }
        if queue.is_unused() {
            self.queues.remove(&thing);
        }
    }
}

impl WaitingCall {
    fn waiting_for_key(&self) -> Option<LimitKey> {
        self.waiting_for.and_then(|place| self.needs.get(place)).map(|need| need.limit_key)
    }
}
