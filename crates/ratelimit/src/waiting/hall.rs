//! The waiting room's state, without time of its own and without tasks: who waits for what, and who may go on.
//!
//! A bucket, or a bound on calls in flight, is contended as soon as one call waits for it. From then on nobody is charged
//! to it but who has been let past its queue, and the queue lets past as many as it can certainly pay for. A call goes
//! past what it needs from the narrow to the wide and asks the store only when it is past everything: so a tool that
//! has nothing left holds up nobody who wants another, and two calls never wait for each other.
//!
//! What a bucket holds is known from the last refusal and from what was let past since. The store still decides: a call
//! that is refused after all gets its turn back.

mod elsewhere;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::queue::{FairQueue, Ticket};
use crate::clock::Micros;
use crate::plan::BucketId;
use crate::policy::WaitBounds;
use crate::rate::{Level, Rate};
use crate::table::UserKey;

/// How long nobody is let past a bound on calls in flight after somebody was in vain, in microseconds.
const SLOTS_PAUSE: u64 = 10_000;

/// What can be waited for: a definition, and the user it counts for, if it counts for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Thing {
    pub(super) id: BucketId,
    pub(super) user: Option<UserKey>,
}

/// One thing that a call needs.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(super) thing: Thing,
    /// Its place among the plan's buckets, or among its bounds on calls in flight.
    pub(super) place: usize,
    /// How wide it is: narrow things are passed first.
    pub(super) width: u8,
    pub(super) cost: u32,
    /// The longest that a call waits for it, in microseconds.
    pub(super) wait_max: u64,
    pub(super) stock: Stock,
}

/// What a thing has to give.
#[derive(Clone, Debug)]
pub(crate) enum Stock {
    /// Tokens, as far as is known.
    Tokens(Rate, Level),
    /// Places among so many calls in flight, counted together or for each user.
    Slots(u32, Option<Arc<AtomicU32>>),
}

/// Everything a call needs that is enforced, the narrow first.
pub(crate) type Needs = SmallVec<[Need; 4]>;

/// The present moment.
#[derive(Clone, Copy)]
pub(super) struct Present<'a> {
    pub(super) now: Micros,
    /// How many calls of a user are in flight under a bound.
    pub(super) in_flight: &'a dyn Fn(UserKey, BucketId) -> u32,
}

/// A thing that calls wait for.
#[derive(Debug)]
struct Queue {
    stock: Stock,
    /// The cost of who has been let past and has not paid yet.
    let_past: u64,
    line: FairQueue,
    /// Nobody is let past before this moment.
    shut_until: Micros,
    /// How often in a row somebody was let past in vain, where slots are shared.
    vain: u32,
    /// Since when it has passed shared slots on among its own calls.
    turn: Option<Micros>,
}

/// One waiting call.
#[derive(Debug)]
struct Call {
    user: UserKey,
    needs: Needs,
    /// For each need: whether the call is past it.
    past: SmallVec<[bool; 4]>,
    /// The need it waits for.
    at: Option<usize>,
    since: Micros,
    bell: Arc<Notify>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may ask the store.
    MayAsk,
    /// It waits for a need. Whose turn is next is told when; nobody else need look before the bell rings.
    Waits { need: usize, until: Option<Micros> },
    /// Its turn would come so many microseconds from now, which is too late.
    TooLate { need: usize, wait: u64 },
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Hall {
    queues: HashMap<Thing, Queue>,
    calls: HashMap<Ticket, Call>,
    users: HashMap<UserKey, usize>,
    arrivals: u64,
}

impl Queue {
    /// How long until it can let past another `cost`, beside who is past already; `None` where nobody can say.
    fn wait(&self, thing: Thing, cost: u64, present: Present<'_>) -> Option<u64> {
        let wait = match &self.stock {
            Stock::Tokens(rate, level) => {
                let price = rate.units(self.let_past.saturating_add(cost));
                rate.wait(rate.level_at(*level, present.now), price)
            }
            Stock::Slots(count_max, counter) => {
                let taken = match (counter, thing.user) {
                    (Some(counter), _) => counter.load(Ordering::Acquire),
                    (None, Some(user)) => (present.in_flight)(user, thing.id),
                    (None, None) => 0,
                };
                let wanted = u64::from(taken).saturating_add(self.let_past).saturating_add(cost);
                (wanted <= u64::from(*count_max)).then_some(0)?
            }
        };
        Some(wait.max(self.shut_until.since(present.now)))
    }

    /// When a call that is the next can be paid for.
    fn turn(&self, ticket: Ticket, need: &Need, present: Present<'_>) -> Option<Micros> {
        self.line.first().filter(|(first, _)| *first == ticket)?;
        Some(present.now.plus(self.wait(need.thing, need.cost.into(), present)?))
    }

    fn spend(&mut self, cost: u32, now: Micros) {
        if let Stock::Tokens(rate, level) = &mut self.stock {
            *level = level.moved(rate.level_at(*level, now).saturating_sub(rate.units(cost.into())), now);
        }
    }

    fn is_over(&self) -> bool {
        self.line.is_empty() && self.let_past == 0
    }
}

impl Hall {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// True when calls wait for one of these.
    pub(super) fn is_contended(&self, needs: &Needs) -> bool {
        needs.iter().any(|need| self.queues.contains_key(&need.thing))
    }

    /// Takes a call in. `None` when there is no room, for anybody or for this user.
    pub(super) fn enter(
        &mut self,
        user: UserKey,
        needs: Needs,
        since: Micros,
        bounds: WaitBounds,
    ) -> Option<(Ticket, Arc<Notify>)> {
        let own = self.users.get(&user).copied().unwrap_or(0);
        if self.calls.len() >= bounds.count_max || own >= bounds.per_user_count_max {
            return None;
        }
        self.users.insert(user, own + 1);
        let ticket = Ticket(self.arrivals);
        self.arrivals += 1;
        let bell = Arc::new(Notify::new());
        let past = needs.iter().map(|_| false).collect();
        self.calls.insert(ticket, Call { user, needs, past, at: None, since, bell: bell.clone() });
        Some((ticket, bell))
    }

    /// Goes on past everything that is contended, as far as the call gets.
    pub(super) fn go_on(&mut self, ticket: Ticket, present: Present<'_>) -> Standing {
        if let Some(thing) = self.calls.get(&ticket).and_then(Call::stands_at) {
            self.serve(thing, Some(ticket), present);
        }
        let Some(call) = self.calls.get_mut(&ticket) else { return Standing::MayAsk };
        for (place, need) in call.needs.iter().enumerate() {
            let is_past = call.past.get_mut(place);
            let (Some(queue), Some(is_past)) = (self.queues.get_mut(&need.thing), is_past) else { continue };
            if *is_past {
                continue;
            }
            if call.at == Some(place) {
                return Standing::Waits { need: place, until: queue.turn(ticket, need, present) };
            }
            if queue.line.is_empty() && queue.wait(need.thing, need.cost.into(), present) == Some(0) {
                queue.let_past += u64::from(need.cost);
                *is_past = true;
                continue;
            }
            let allowed = need.wait_max.saturating_sub(present.now.since(call.since));
            if let Some(wait) = queue.forecast(need, call.user, None, allowed, present)
                && wait > allowed
            {
                return Standing::TooLate { need: place, wait };
            }
            queue.line.push(call.user, ticket, need.cost, false);
            call.at = Some(place);
            return Standing::Waits { need: place, until: queue.turn(ticket, need, present) };
        }
        Standing::MayAsk
    }

    /// The store has refused the call: what its buckets hold, and which need holds it up longest. The call waits for
    /// that one, keeps what is narrower and gives back what is wider. `pause` is how long nobody is let past, where
    /// the call had been let past in vain.
    pub(super) fn refused(
        &mut self,
        ticket: Ticket,
        (need, short): (usize, &[usize]),
        levels: &[Stock],
        pause: u64,
        present: Present<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        let mut moved: SmallVec<[Thing; 4]> = SmallVec::new();
        for (place, own) in call.needs.iter_mut().enumerate() {
            if let Some(stock) = levels.get(place) {
                own.stock = stock.clone();
            }
            if place == need {
                self.queues.entry(own.thing).or_insert_with(|| Queue {
                    stock: own.stock.clone(),
                    let_past: 0,
                    line: FairQueue::default(),
                    // Who has just been told by others that they have all slots need not ask again at once.
                    shut_until: present.now.plus(if matches!(own.stock, Stock::Slots(..)) {
                        pause
                    } else {
                        0
                    }),
                    vain: 0,
                    turn: None,
                });
            }
            let Some(queue) = self.queues.get_mut(&own.thing) else { continue };
            if matches!(own.stock, Stock::Tokens(..)) {
                queue.stock = own.stock.clone();
            }
            let Some(is_past) = call.past.get_mut(place) else { continue };
            let had_turn = *is_past && (place >= need || short.contains(&place));
            if had_turn {
                *is_past = false;
                queue.let_past = queue.let_past.saturating_sub(own.cost.into());
                moved.push(own.thing);
            }
            if place == need {
                if had_turn {
                    queue.shut_until = match own.stock {
                        Stock::Tokens(..) => present.now.plus(pause),
                        Stock::Slots(..) => queue.shut_until.max(present.now.plus(pause.max(SLOTS_PAUSE))),
                    };
                }
                queue.line.push(call.user, ticket, own.cost, had_turn);
                call.at = Some(place);
            }
        }
        for thing in moved {
            self.serve(thing, None, present);
        }
    }

    /// The call leaves, with what it needs or without.
    pub(super) fn leave(&mut self, ticket: Ticket, admitted: bool, present: Present<'_>) {
        let Some(call) = self.calls.remove(&ticket) else { return };
        if let Some(count) = self.users.get_mut(&call.user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&call.user);
            }
        }
        for (place, need) in call.needs.iter().enumerate() {
            let Some(queue) = self.queues.get_mut(&need.thing) else { continue };
            if call.past.get(place) == Some(&true) {
                queue.let_past = queue.let_past.saturating_sub(need.cost.into());
            }
            if admitted {
                queue.spend(need.cost, present.now);
                queue.vain = 0;
            } else if call.at == Some(place) {
                queue.line.remove(call.user, ticket);
            }
            self.serve(need.thing, None, present);
        }
    }

    /// Something was given back: a place among the calls in flight, or tokens, of a call with these needs.
    pub(super) fn given_back(&mut self, needs: &Needs, tokens: bool, present: Present<'_>) {
        for need in needs {
            let Some(queue) = self.queues.get_mut(&need.thing) else { continue };
            if let (Stock::Tokens(rate, level), true) = (&mut queue.stock, tokens) {
                let back = rate.level_at(*level, present.now).saturating_add(rate.units(need.cost.into()));
                *level = level.moved(back.min(rate.capacity()), present.now);
            }
            self.serve(need.thing, None, present);
        }
    }

    /// What a call that comes now would wait for longest, and how long.
    pub(super) fn outlook(&self, user: UserKey, needs: &Needs, present: Present<'_>) -> (usize, Option<u64>) {
        let waits = needs.iter().enumerate().filter_map(|(place, need)| {
            let queue = self.queues.get(&need.thing)?;
            Some((place, queue.forecast(need, user, None, 0, present)))
        });
        waits.max_by_key(|(_, wait)| wait.unwrap_or(u64::MAX)).unwrap_or((0, None))
    }

    /// How long until the turn of a call that waits, as things stand; `None` where nobody can say.
    pub(super) fn forecast(&self, ticket: Ticket, present: Present<'_>) -> Option<u64> {
        let call = self.calls.get(&ticket)?;
        let need = call.needs.get(call.at?)?;
        let queue = self.queues.get(&need.thing)?;
        queue.forecast(need, call.user, Some(ticket), 0, present)
    }

    /// Lets past whom a queue can pay for, and tells the next to keep watch, unless it is the one who looks.
    fn serve(&mut self, thing: Thing, watching: Option<Ticket>, present: Present<'_>) {
        let Some(queue) = self.queues.get_mut(&thing) else { return };
        while let Some((first, cost)) = queue.line.first() {
            if queue.wait(thing, cost.into(), present) != Some(0) {
                if let Some(call) = self.calls.get(&first).filter(|_| watching != Some(first)) {
                    call.bell.notify_one();
                }
                break;
            }
            queue.line.pop();
            queue.let_past += u64::from(cost);
            if let Some(call) = self.calls.get_mut(&first) {
                if let Some(is_past) = call.at.take().and_then(|place| call.past.get_mut(place)) {
                    *is_past = true;
                }
                call.bell.notify_one();
            }
        }
        if queue.is_over() {
            self.queues.remove(&thing);
        }
    }
}

impl Queue {
    /// How long until the turn of a call that waits or comes now, if nobody else comes: what is ahead of it has to be
    /// paid first. Told exactly only when that could be more than `enough`.
    fn forecast(
        &self,
        need: &Need,
        user: UserKey,
        ticket: Option<Ticket>,
        enough: u64,
        present: Present<'_>,
    ) -> Option<u64> {
        let cost = u64::from(need.cost);
        let most = self.wait(need.thing, self.line.cost().saturating_add(cost), present)?;
        if most <= enough {
            return Some(most);
        }
        let ahead = self.line.ahead(user, ticket, need.cost);
        self.wait(need.thing, ahead.saturating_add(cost), present)
    }
}

impl Call {
    fn stands_at(&self) -> Option<Thing> {
        self.at.and_then(|place| self.needs.get(place)).map(|need| need.thing)
    }
}
