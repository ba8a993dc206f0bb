//! Caches credentials until shortly before they expire. The cache is bounded, and concurrent requests for one
//! key share one exchange.
//!
//! An exchange runs as its own task, so that a cancelled request does not affect the others. The strategies
//! decide what a value is and how it is fetched.

pub(crate) mod dual_instant;

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;

use vmcp_timing::Clock;

use crate::cache::dual_instant::DualInstant;
use crate::error::{CredentialError, FetchFailure};

/// The most entries; the least recently used one is evicted.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// The most bytes of all cached credentials.
const BYTES_MAX: usize = 64 << 20;
/// The most exchanges in flight, per endpoint and over all. More are refused as overload.
const IN_FLIGHT_PER_ENDPOINT_MAX: usize = 1024;
const IN_FLIGHT_MAX: usize = 4096;
/// The lifetime of a credential when its issuer does not state one.
const LIFETIME_DEFAULT: Duration = Duration::from_mins(5);
/// The longest time for which a credential is cached, whatever its issuer states.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// A credential is renewed this long before its end, or after nine tenths of its lifetime if that is later.
const RENEWAL_MARGIN_MAX: Duration = Duration::from_mins(1);
/// How long a refusal is cached.
const REFUSAL_TTL: Duration = Duration::from_secs(1);
/// A credential that replaced a rejected one is not dropped again before this age, because the backend then
/// rejects all of them.
const REPLACEMENT_AGE_MIN: Duration = Duration::from_secs(30);

/// The key of a credential: a digest of the strategy with all request parameters, and the SHA-256 of the
/// caller's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) strategy: [u8; 32],
    pub(crate) subject: [u8; 32],
}

/// A fetched credential.
#[derive(Clone, Debug)]
pub(crate) struct FetchedCredential<V> {
    pub(crate) value: V,
    /// The lifetime, counted from the start of the request; `None` when the issuer does not state it.
    pub(crate) lifetime: Option<Duration>,
    /// The credential's size in memory.
    pub(crate) bytes: usize,
}

/// Identifies the fetched credential that a request used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CredentialVersion {
    key: CacheKey,
    number: u64,
}

type FetchOutcome<V> = Result<(V, CredentialVersion), CredentialError>;

/// The credentials of one kind.
pub(crate) struct CredentialCache<V>(Arc<CacheInner<V>>);

struct CacheInner<V> {
    clock: Arc<dyn Clock>,
    table: Mutex<CacheTable<V>>,
}

struct CacheTable<V> {
    entries: LruCache<CacheKey, CacheEntry<V>>,
    bytes: usize,
    in_flight: HashMap<CacheKey, InFlightFetch<V>>,
    last_number: u64,
}

enum CacheEntry<V> {
    Valid(CachedCredential<V>),
    Refused {
        error: CredentialError,
        expires_at: DualInstant,
    },
    /// A backend rejected the credential that was here.
    Invalidated,
}

struct CachedCredential<V> {
    value: V,
    number: u64,
    cached_at: DualInstant,
    expires_at: DualInstant,
    bytes: usize,
    /// It replaced a credential that a backend rejected.
    is_replacement: bool,
}

struct InFlightFetch<V> {
    number: u64,
    authority: Arc<str>,
    outcome: watch::Receiver<Option<FetchOutcome<V>>>,
}

enum CacheLookup<V> {
    Done(FetchOutcome<V>),
    InFlight(watch::Receiver<Option<FetchOutcome<V>>>),
}

impl<V: Clone + Send + Sync + 'static> CredentialCache<V> {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let table = CacheTable {
            entries: LruCache::new(ENTRIES_MAX),
            bytes: 0,
            in_flight: HashMap::new(),
            last_number: 0,
        };
        Self(Arc::new(CacheInner { clock, table: Mutex::new(table) }))
    }

    /// Returns the credential under `key`. It calls `fetch` unless the credential is cached or a fetch is in
    /// flight. Errors name the endpoint `authority`.
    pub(crate) async fn get<F, W>(&self, key: CacheKey, authority: &Arc<str>, fetch: F) -> FetchOutcome<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<FetchedCredential<V>, FetchFailure>> + Send + 'static,
    {
        let mut outcome = match self.find_or_start(key, authority, fetch) {
            CacheLookup::Done(outcome) => return outcome,
            CacheLookup::InFlight(outcome) => outcome,
        };
        let aborted = || FetchFailure::unavailable(authority, "the exchange was broken off").error;
        let completed = outcome.wait_for(Option::is_some).await.map_err(|_| aborted())?;
        completed.clone().unwrap_or_else(|| Err(aborted()))
    }

    fn find_or_start<F, W>(&self, key: CacheKey, authority: &Arc<str>, fetch: F) -> CacheLookup<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<FetchedCredential<V>, FetchFailure>> + Send + 'static,
    {
        let now = DualInstant::now(&*self.0.clock);
        let mut table = self.0.table.lock();
        if let Some(outcome) = table.cached(key, now) {
            return CacheLookup::Done(outcome);
        }
        if let Some(fetch_in_flight) = table.in_flight.get(&key) {
            return CacheLookup::InFlight(fetch_in_flight.outcome.clone());
        }
        if table.is_overloaded(authority) {
            let why = "too many exchanges are under way";
            return CacheLookup::Done(Err(FetchFailure::unavailable(authority, why).error));
        }
        table.last_number += 1;
        let number = table.last_number;
        let (sender, outcome) = watch::channel(None);
        table.in_flight.insert(
            key,
            InFlightFetch { number, authority: Arc::clone(authority), outcome: outcome.clone() },
        );
        drop(table);
        let completion = FetchCompletion {
            shared: Arc::clone(&self.0),
            version: CredentialVersion { key, number },
            started_at: now,
            sender,
        };
        let work = fetch();
        tokio::spawn(async move {
            let fetched = work.await;
            completion.complete(fetched);
        });
        CacheLookup::InFlight(outcome)
    }

    /// Drops a credential that a backend rejected. True when there is or will be a newer one.
    pub(crate) fn invalidate(&self, version: &CredentialVersion) -> bool {
        let now = DualInstant::now(&*self.0.clock);
        let mut table = self.0.table.lock();
        match table.entries.peek(&version.key) {
            Some(CacheEntry::Valid(cached)) if cached.number == version.number => {
                if cached.is_replacement && cached.cached_at.age(now) < REPLACEMENT_AGE_MIN {
                    return false;
                }
                table.insert(version.key, CacheEntry::Invalidated);
                true
            }
            // The credential was never cached, or another request dropped it: the next one is newer.
            Some(CacheEntry::Valid(_) | CacheEntry::Invalidated) | None => true,
            Some(CacheEntry::Refused { expires_at, .. }) => expires_at.is_past(now),
        }
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize, usize) {
        let table = self.0.table.lock();
        (table.entries.len(), table.bytes, table.in_flight.len())
    }
}

impl<V: Clone> CacheTable<V> {
    fn cached(&mut self, key: CacheKey, now: DualInstant) -> Option<FetchOutcome<V>> {
        let is_expired = match self.entries.get(&key)? {
            CacheEntry::Valid(cached) if !cached.expires_at.is_past(now) => {
                return Some(Ok((cached.value.clone(), CredentialVersion { key, number: cached.number })));
            }
            CacheEntry::Refused { error, expires_at } if !expires_at.is_past(now) => {
                return Some(Err(error.clone()));
            }
            CacheEntry::Valid(_) | CacheEntry::Refused { .. } => true,
            CacheEntry::Invalidated => false,
        };
        if is_expired {
            self.remove(&key);
        }
        None
    }

    fn is_overloaded(&self, authority: &Arc<str>) -> bool {
        let all = self.in_flight.len();
        let of_authority = || {
            self.in_flight.values().filter(|fetch_in_flight| fetch_in_flight.authority == *authority).count()
        };
        all >= IN_FLIGHT_MAX
            || all >= IN_FLIGHT_PER_ENDPOINT_MAX && of_authority() >= IN_FLIGHT_PER_ENDPOINT_MAX
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.pop(key) {
            self.bytes -= entry.bytes();
        }
    }

    fn insert(&mut self, key: CacheKey, entry: CacheEntry<V>) {
        self.bytes += entry.bytes();
        // Returns the entry that was replaced, or the least recently used one.
        if let Some((_, evicted)) = self.entries.push(key, entry) {
            self.bytes -= evicted.bytes();
        }
        while self.bytes > BYTES_MAX
            && let Some((_, evicted)) = self.entries.pop_lru()
        {
            self.bytes -= evicted.bytes();
        }
    }
}

impl<V> CacheEntry<V> {
    fn bytes(&self) -> usize {
        match self {
            Self::Valid(cached) => cached.bytes,
            Self::Refused { .. } | Self::Invalidated => 0,
        }
    }
}

/// Completes an exchange. If it is dropped before that, the waiting requests get a closed channel.
struct FetchCompletion<V: Clone> {
    shared: Arc<CacheInner<V>>,
    version: CredentialVersion,
    started_at: DualInstant,
    sender: watch::Sender<Option<FetchOutcome<V>>>,
}

impl<V: Clone> FetchCompletion<V> {
    fn complete(self, fetched: Result<FetchedCredential<V>, FetchFailure>) {
        let now = DualInstant::now(&*self.shared.clock);
        let mut table = self.shared.table.lock();
        let outcome = match fetched {
            Ok(fresh) => {
                let expires_at = self.started_at.after(cache_duration(fresh.lifetime));
                let is_replacement =
                    matches!(table.entries.peek(&self.version.key), Some(CacheEntry::Invalidated));
                if !expires_at.is_past(now) {
                    let cached = CachedCredential {
                        value: fresh.value.clone(),
                        number: self.version.number,
                        cached_at: now,
                        expires_at,
                        bytes: fresh.bytes,
                        is_replacement,
                    };
                    table.insert(self.version.key, CacheEntry::Valid(cached));
                }
                Ok((fresh.value, self.version))
            }
            Err(failure) => {
                if failure.is_cacheable {
                    let expires_at = now.after(REFUSAL_TTL);
                    table.insert(
                        self.version.key,
                        CacheEntry::Refused { error: failure.error.clone(), expires_at },
                    );
                }
                Err(failure.error)
            }
        };
        // Later requests find the entry; earlier ones are notified by the sender.
        table.in_flight.remove(&self.version.key);
        drop(table);
        self.sender.send_replace(Some(outcome));
    }
}

impl<V: Clone> Drop for FetchCompletion<V> {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        let key = self.version.key;
        if table
            .in_flight
            .get(&key)
            .is_some_and(|fetch_in_flight| fetch_in_flight.number == self.version.number)
        {
            table.in_flight.remove(&key);
        }
    }
}

/// How long a credential is cached: until shortly before its end.
fn cache_duration(lifetime: Option<Duration>) -> Duration {
    let lifetime = lifetime.unwrap_or(LIFETIME_DEFAULT).min(LIFETIME_MAX);
    lifetime.saturating_sub(RENEWAL_MARGIN_MAX.min(lifetime / 10))
}

#[cfg(test)]
mod tests;
