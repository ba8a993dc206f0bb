//! Credentials that were asked for and are still good: bounded, and one exchange per key however many wait for it.
//!
//! An exchange runs as a task of its own, so that a request that goes away takes nothing from the others. What a kept
//! value is and how it is fetched is the strategies'.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{Clock, Moment};
use crate::error::{CredentialError, Failure};

/// The most entries kept; the one used longest ago gives way.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// The most bytes all kept credentials may take.
const BYTES_MAX: usize = 64 << 20;
/// The most exchanges under way with one endpoint, and with all; more than that is a flood, and refused.
const FLIGHTS_PLACE_MAX: usize = 1024;
const FLIGHTS_MAX: usize = 4096;
/// How long a credential is good when its issuer does not say.
const LIFETIME_UNSAID: Duration = Duration::from_mins(5);
/// No credential is kept longer, whatever its issuer says.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// A credential is renewed this long before its end, or a tenth of its life when that is less.
const SKEW_MAX: Duration = Duration::from_mins(1);
/// How long a refusal is remembered.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// A credential that replaced a refused one is not dropped again before this time: the backend refuses them all.
const RENEWAL_WAIT: Duration = Duration::from_secs(30);

/// What a credential is kept under: the strategy with all that is asked for, and the SHA-256 of the caller's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) strategy: [u8; 32],
    pub(crate) subject: [u8; 32],
}

/// A credential as it was fetched.
#[derive(Clone, Debug)]
pub(crate) struct Fresh<V> {
    pub(crate) value: V,
    /// How long it is good, counted from when it was asked for; `None` when its issuer does not say.
    pub(crate) lifetime: Option<Duration>,
    /// How much memory it takes.
    pub(crate) bytes: usize,
}

/// Which fetched credential a request used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    key: Key,
    number: u64,
}

type Outcome<V> = Result<(V, Receipt), CredentialError>;

/// The credentials of one kind.
pub(crate) struct Cache<V>(Arc<Shared<V>>);

struct Shared<V> {
    clock: Arc<dyn Clock>,
    table: Mutex<Table<V>>,
}

struct Table<V> {
    slots: LruCache<Key, Slot<V>>,
    bytes: usize,
    flights: HashMap<Key, Flight<V>>,
    numbers: u64,
}

enum Slot<V> {
    Kept(Kept<V>),
    Refused {
        error: CredentialError,
        until: Moment,
    },
    /// A backend refused what was here.
    Dropped,
}

struct Kept<V> {
    value: V,
    number: u64,
    since: Moment,
    until: Moment,
    bytes: usize,
    /// It replaced one that a backend refused.
    is_renewal: bool,
}

struct Flight<V> {
    number: u64,
    place: Arc<str>,
    outcome: watch::Receiver<Option<Outcome<V>>>,
}

enum Found<V> {
    Outcome(Outcome<V>),
    Flight(watch::Receiver<Option<Outcome<V>>>),
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let table =
            Table { slots: LruCache::new(ENTRIES_MAX), bytes: 0, flights: HashMap::new(), numbers: 0 };
        Self(Arc::new(Shared { clock, table: Mutex::new(table) }))
    }

    /// The credential under `key`, fetched by `fetch` unless it is kept or on its way. `place` is named in errors.
    pub(crate) async fn get<F, W>(&self, key: Key, place: &Arc<str>, fetch: F) -> Outcome<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<Fresh<V>, Failure>> + Send + 'static,
    {
        let mut outcome = match self.find(key, place, fetch) {
            Found::Outcome(outcome) => return outcome,
            Found::Flight(outcome) => outcome,
        };
        let broken = || Failure::unavailable(place, "the exchange was broken off").error;
        let landed = outcome.wait_for(Option::is_some).await.map_err(|_| broken())?;
        landed.clone().unwrap_or_else(|| Err(broken()))
    }

    fn find<F, W>(&self, key: Key, place: &Arc<str>, fetch: F) -> Found<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<Fresh<V>, Failure>> + Send + 'static,
    {
        let now = Moment::now(&*self.0.clock);
        let mut table = self.0.table.lock();
        if let Some(outcome) = table.kept(key, now) {
            return Found::Outcome(outcome);
        }
        if let Some(flight) = table.flights.get(&key) {
            return Found::Flight(flight.outcome.clone());
        }
        if table.is_flooded(place) {
            let why = "too many exchanges are under way";
            return Found::Outcome(Err(Failure::unavailable(place, why).error));
        }
        table.numbers += 1;
        let number = table.numbers;
        let (sender, outcome) = watch::channel(None);
        table.flights.insert(key, Flight { number, place: Arc::clone(place), outcome: outcome.clone() });
        drop(table);
        let landing =
            Landing { shared: Arc::clone(&self.0), receipt: Receipt { key, number }, departed: now, sender };
        let work = fetch();
        tokio::spawn(async move {
            let fetched = work.await;
            landing.land(fetched);
        });
        Found::Flight(outcome)
    }

    /// Drops a credential that a backend refused. True when there is or will be a newer one.
    pub(crate) fn forget(&self, receipt: &Receipt) -> bool {
        let now = Moment::now(&*self.0.clock);
        let mut table = self.0.table.lock();
        match table.slots.peek(&receipt.key) {
            Some(Slot::Kept(kept)) if kept.number == receipt.number => {
                if kept.is_renewal && kept.since.age(now) < RENEWAL_WAIT {
                    return false;
                }
                table.put(receipt.key, Slot::Dropped);
                true
            }
            // Given out once and not kept, or dropped by another request: the next one is another.
            Some(Slot::Kept(_) | Slot::Dropped) | None => true,
            Some(Slot::Refused { until, .. }) => until.is_over(now),
        }
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize, usize) {
        let table = self.0.table.lock();
        (table.slots.len(), table.bytes, table.flights.len())
    }
}

impl<V: Clone> Table<V> {
    fn kept(&mut self, key: Key, now: Moment) -> Option<Outcome<V>> {
        let is_over = match self.slots.get(&key)? {
            Slot::Kept(kept) if !kept.until.is_over(now) => {
                return Some(Ok((kept.value.clone(), Receipt { key, number: kept.number })));
            }
            Slot::Refused { error, until } if !until.is_over(now) => return Some(Err(error.clone())),
            Slot::Kept(_) | Slot::Refused { .. } => true,
            Slot::Dropped => false,
        };
        if is_over {
            self.remove(&key);
        }
        None
    }

    fn is_flooded(&self, place: &Arc<str>) -> bool {
        let all = self.flights.len();
        let of_place = || self.flights.values().filter(|flight| flight.place == *place).count();
        all >= FLIGHTS_MAX || all >= FLIGHTS_PLACE_MAX && of_place() >= FLIGHTS_PLACE_MAX
    }

    fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.slots.pop(key) {
            self.bytes -= slot.bytes();
        }
    }

    fn put(&mut self, key: Key, slot: Slot<V>) {
        self.bytes += slot.bytes();
        // Gives back the slot that was there, or the one used longest ago.
        if let Some((_, gone)) = self.slots.push(key, slot) {
            self.bytes -= gone.bytes();
        }
        while self.bytes > BYTES_MAX
            && let Some((_, gone)) = self.slots.pop_lru()
        {
            self.bytes -= gone.bytes();
        }
    }
}

impl<V> Slot<V> {
    fn bytes(&self) -> usize {
        match self {
            Self::Kept(kept) => kept.bytes,
            Self::Refused { .. } | Self::Dropped => 0,
        }
    }
}

/// The end of an exchange. Dropped without landing, it wakes all who wait with a broken channel.
struct Landing<V: Clone> {
    shared: Arc<Shared<V>>,
    receipt: Receipt,
    departed: Moment,
    sender: watch::Sender<Option<Outcome<V>>>,
}

impl<V: Clone> Landing<V> {
    fn land(self, fetched: Result<Fresh<V>, Failure>) {
        let now = Moment::now(&*self.shared.clock);
        let mut table = self.shared.table.lock();
        let outcome = match fetched {
            Ok(fresh) => {
                let until = self.departed.after(time_kept(fresh.lifetime));
                let is_renewal = matches!(table.slots.peek(&self.receipt.key), Some(Slot::Dropped));
                if !until.is_over(now) {
                    let kept = Kept {
                        value: fresh.value.clone(),
                        number: self.receipt.number,
                        since: now,
                        until,
                        bytes: fresh.bytes,
                        is_renewal,
                    };
                    table.put(self.receipt.key, Slot::Kept(kept));
                }
                Ok((fresh.value, self.receipt))
            }
            Err(failure) => {
                if failure.is_answer {
                    let until = now.after(REFUSAL_WAIT);
                    table.put(self.receipt.key, Slot::Refused { error: failure.error.clone(), until });
                }
                Err(failure.error)
            }
        };
        // Who comes from here on finds the slot; who came before is told.
        table.flights.remove(&self.receipt.key);
        drop(table);
        self.sender.send_replace(Some(outcome));
    }
}

impl<V: Clone> Drop for Landing<V> {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        let key = self.receipt.key;
        if table.flights.get(&key).is_some_and(|flight| flight.number == self.receipt.number) {
            table.flights.remove(&key);
        }
    }
}

/// How long a credential is kept: until shortly before its end.
fn time_kept(lifetime: Option<Duration>) -> Duration {
    let lifetime = lifetime.unwrap_or(LIFETIME_UNSAID).min(LIFETIME_MAX);
    lifetime.saturating_sub(SKEW_MAX.min(lifetime / 10))
}

#[cfg(test)]
mod tests;
