//! The waiting room: calls that a limit holds up, where its rule says to wait in place of being refused.
//!
//! Who may go on is `hall`'s to say, whose turn it is in one queue `queue`'s. A call that waits is one task with one
//! timer: only the first of a queue watches the time of its bucket, everybody else sleeps until told. Leaving is
//! dropping.

mod hall;
mod progress;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use vmcp_domain::LimitScope;

use crate::clock::{Clock, Micros};
use crate::decide::BucketReading;
use crate::memory::MemoryStore;
use crate::plan::Plan;
use crate::policy::{Mode, WaitBounds};
use crate::rate::{Level, Rate};
use crate::table::UserKey;

pub(crate) use hall::Needs;
use hall::{Hall, Need, Present, Standing, Stock, Thing};
pub(crate) use progress::Telling;
use queue::Ticket;

/// Everybody who waits in this process.
pub(crate) struct Room {
    hall: Mutex<Hall>,
    count: AtomicUsize,
    bounds: WaitBounds,
}

/// What holds a call up.
#[derive(Debug)]
pub(crate) enum HeldUp {
    /// Something that waiting does not help against.
    ForGood,
    /// Calls in flight, by the bound's place in the plan.
    BySlots(usize),
    /// What the plan's buckets hold, in its order.
    ByBuckets(Box<[BucketReading]>),
}

/// The thing of a plan that a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A bucket, by its place.
    Bucket(usize),
    /// A bound on calls in flight, by its place.
    Slots(usize),
}

/// What a waiting call does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Asks the store.
    Ask,
    /// Waits for this, until then at most, or until the bell rings.
    Wait(Place, Micros),
    /// Gives up: this would take too long, so many microseconds if somebody can say.
    GiveUp(Place, Option<u64>),
}

impl Place {
    fn of(need: &Need) -> Self {
        match need.stock {
            Stock::Tokens(..) => Self::Bucket(need.place),
            Stock::Slots(..) => Self::Slots(need.place),
        }
    }
}

/// Everything enforced that a call of a plan needs. It waits for none of it longer than `patience`, in microseconds.
pub(crate) fn needs(plan: &Plan, user: Option<UserKey>, patience: u64) -> Needs {
    let full = |rate: &Rate| Stock::Tokens(*rate, Level::full(rate, Micros(0)));
    let buckets = plan.buckets.iter().enumerate().filter(|(_, bucket)| bucket.mode == Mode::Enforce);
    let buckets = buckets.map(|(place, bucket)| Need {
        thing: Thing {
            id: bucket.id,
            user: bucket.whose.or_else(|| user.filter(|_| bucket.holder.is_per_user())),
        },
        place,
        width: width(bucket.scope) + 1,
        cost: bucket.cost.get(),
        wait_max: bucket.wait_max.min(patience),
        stock: full(&bucket.rate),
    });
    let slots = plan.slots.iter().enumerate().filter(|(_, slots)| slots.mode == Mode::Enforce);
    let slots = slots.map(|(place, slots)| Need {
        thing: Thing { id: slots.id, user: user.filter(|_| slots.shared.is_none()) },
        place,
        width: width(slots.scope),
        cost: 1,
        wait_max: slots.wait_max.min(patience),
        stock: Stock::Slots(slots.count_max.get(), slots.shared.clone()),
    });
    let mut needs: Needs = buckets.chain(slots).collect();
    needs.sort_by_key(|need| (need.width, need.thing.id));
    needs
}

/// Calls in flight before tokens of the same scope: whoever waits for a call to end holds back no tokens meanwhile.
fn width(scope: LimitScope) -> u8 {
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

impl Room {
    pub(crate) fn new(bounds: WaitBounds) -> Self {
        Self { hall: Mutex::default(), count: AtomicUsize::new(0), bounds }
    }

    /// How many calls wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// True when others wait for something that these needs name.
    pub(crate) fn is_contended(&self, needs: &Needs) -> bool {
        self.hall.lock().is_contended(needs)
    }

    /// Takes a call in. Without room the error says what it would have waited for, and how long.
    pub(crate) fn enter<'a>(
        &'a self,
        view: View<'a>,
        user: UserKey,
        needs: Needs,
    ) -> Result<Guest<'a>, (Place, Option<u64>)> {
        let now = view.clock.now();
        let mut hall = self.hall.lock();
        let entered = hall.enter(user, needs.clone(), now, self.bounds);
        let Some((ticket, bell)) = entered else {
            let (place, wait) = view.present(|present| hall.outlook(user, &needs, present));
            return Err((needs.get(place).map_or(Place::Bucket(0), Place::of), wait));
        };
        self.count.store(hall.len(), Ordering::Release);
        Ok(Guest { room: self, view, ticket, bell, needs, since: now, admitted: false })
    }

    /// Other replicas have all slots of the bound at this place of the plan that these needs are of.
    pub(crate) fn full_elsewhere(&self, view: View<'_>, needs: &Needs, place: usize) {
        let Some(need) = needs.iter().find(|need| Place::of(need) == Place::Slots(place)) else { return };
        let now = view.clock.now();
        // Not every replica pauses equally, so that they do not ask in step.
        let pause = view.pause + now.0 % (view.pause + 1);
        self.hall.lock().full_elsewhere(need.thing, pause, now);
    }

    /// A call with these needs has given something back: its place among the calls in flight, and tokens too if it says
    /// so. `shared` says that it held slots of which other replicas know.
    pub(crate) fn given_back(&self, view: View<'_>, needs: &Needs, tokens: bool, shared: bool) {
        let mut hall = self.hall.lock();
        if shared {
            hall.slots_free(needs, view.pause, view.clock.now());
        }
        view.present(|present| hall.given_back(needs, tokens, present));
    }
}

/// How the room sees time and calls in flight.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) memory: &'a MemoryStore,
    /// After a refusal that nobody here expected, because others spend from the same buckets, nobody asks again for
    /// so many microseconds.
    pub(crate) pause: u64,
}

impl View<'_> {
    fn present<T>(&self, look: impl FnOnce(Present<'_>) -> T) -> T {
        let in_flight = |user, id| self.memory.in_flight(user, id);
        look(Present { now: self.clock.now(), in_flight: &in_flight })
    }
}

/// One call in the room. Dropping it leaves, and takes nothing along.
pub(crate) struct Guest<'a> {
    room: &'a Room,
    view: View<'a>,
    ticket: Ticket,
    bell: Arc<Notify>,
    needs: Needs,
    since: Micros,
    admitted: bool,
}

impl Guest<'_> {
    /// The store has refused the call. False when what it needs would come too late.
    #[must_use]
    pub(crate) fn refused(&mut self, held_up: &HeldUp) -> bool {
        let now = self.view.clock.now();
        let waited = now.since(self.since);
        let mut levels: SmallVec<[Stock; 4]> = SmallVec::new();
        let mut short: SmallVec<[usize; 4]> = SmallVec::new();
        let mut longest: Option<(usize, u64)> = None;
        for (place, need) in self.needs.iter().enumerate() {
            let reading = match (held_up, Place::of(need)) {
                (HeldUp::ByBuckets(readings), Place::Bucket(bucket)) => readings.get(bucket),
                (HeldUp::BySlots(slots), Place::Slots(own)) if *slots == own => {
                    if waited >= need.wait_max {
                        return false;
                    }
                    longest = Some((place, 0));
                    None
                }
                (HeldUp::ForGood, _) => return false,
                (HeldUp::BySlots(_) | HeldUp::ByBuckets(_), _) => None,
            };
            let Some(reading) = reading else {
                levels.push(need.stock.clone());
                continue;
            };
            levels.push(Stock::Tokens(reading.rate, Level { units: reading.level, at: now }));
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
        let levels = if matches!(held_up, HeldUp::ByBuckets(_)) { levels } else { SmallVec::new() };
        // Not everybody pauses equally, so that replicas do not ask in step.
        let pause = self.view.pause + self.ticket.0.wrapping_mul(0x9e37_79b9) % (self.view.pause + 1);
        let mut hall = self.room.hall.lock();
        self.view.present(|present| hall.refused(self.ticket, (need, &short), &levels, pause, present));
        true
    }

    /// What to do now.
    pub(crate) fn next(&mut self) -> Next {
        let (standing, now) = {
            let mut hall = self.room.hall.lock();
            self.view.present(|present| (hall.go_on(self.ticket, present), present.now))
        };
        match standing {
            Standing::MayAsk => Next::Ask,
            Standing::TooLate { need, wait } => Next::GiveUp(self.place(need), Some(wait)),
            Standing::Waits { need, until } => {
                let allowed = self.needs.get(need).map_or(0, |need| need.wait_max);
                let end = self.since.plus(allowed);
                if now >= end || until.is_some_and(|until| until > end) {
                    return Next::GiveUp(self.place(need), self.forecast());
                }
                Next::Wait(self.place(need), until.unwrap_or(end))
            }
        }
    }

    /// How long until the call's turn, in microseconds, as things stand; `None` where nobody can say.
    pub(crate) fn forecast(&self) -> Option<u64> {
        let hall = self.room.hall.lock();
        self.view.present(|present| hall.forecast(self.ticket, present))
    }

    /// Sleeps until then, or until the bell rings.
    pub(crate) async fn sleep(&self, until: Micros) {
        let pause = Duration::from_micros(until.since(self.view.clock.now()));
        // Either end is a reason to look again.
        let _ = tokio::time::timeout(pause, self.bell.notified()).await;
    }

    /// The call has paid.
    pub(crate) fn admitted(mut self) {
        self.admitted = true;
    }

    fn place(&self, need: usize) -> Place {
        self.needs.get(need).map_or(Place::Bucket(0), Place::of)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut hall = self.room.hall.lock();
        self.view.present(|present| hall.leave(self.ticket, self.admitted, present));
        self.room.count.store(hall.len(), Ordering::Release);
    }
}
