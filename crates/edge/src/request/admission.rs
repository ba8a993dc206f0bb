//! Limits on what one caller may hold, so that one caller cannot use up what others need. A caller is
//! identified by identity, or by address if anonymous.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};
use vmcp_domain::{Caller, accounting_address};

/// The number of counters in each row of the sketch.
const COUNTERS_PER_ROW: usize = 4096;

/// A hash that identifies one caller within this process. Two callers have the same hash with a probability
/// of 2^-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallerHash(u64);

impl CallerHash {
    /// The hash of a caller. `address` counts only if the caller is anonymous.
    pub(crate) fn of(caller: &Caller, address: Option<IpAddr>) -> Self {
        // The hash key is random for each process, so that an attacker cannot choose an identity that shares
        // a counter with another caller's.
        static HASHER: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
        let hasher = HASHER.get_or_init(RandomState::new);
        Self(match caller.identity() {
            Some(identity) => hasher.hash_one((&identity.issuer, &identity.subject)),
            None => hasher.hash_one(address.map(accounting_address)),
        })
    }

    fn indices(self) -> [usize; 2] {
        let part = |shift: u32| {
            usize::try_from((self.0 >> shift) & (COUNTERS_PER_ROW as u64 - 1)).unwrap_or_default()
        };
        [part(0), part(32)]
    }
}

/// Counts what each caller holds, without an entry for each caller (a count-min sketch). A caller's count is
/// the smaller of two counters. Two callers share both counters, and then one limit, with a probability of
/// one in sixteen million.
#[derive(Debug)]
pub(crate) struct CallerCountSketch {
    rows: [Box<[AtomicU32]>; 2],
    count_max: u32,
}

/// The amount that one caller holds. Dropping it releases the amount.
#[derive(Debug)]
pub(crate) struct CallerPermit {
    sketch: Arc<CallerCountSketch>,
    caller: CallerHash,
    amount: u32,
}

impl CallerPermit {
    /// The caller that holds this permit.
    pub(crate) fn caller(&self) -> CallerHash {
        self.caller
    }
}

impl CallerCountSketch {
    /// Each caller may hold `count_max`.
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        let row = || (0..COUNTERS_PER_ROW).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { rows: [row(), row()], count_max: u32::try_from(count_max).unwrap_or(u32::MAX) })
    }

    /// Acquires `amount` for a caller; `None` if the caller would exceed the limit. A caller that holds
    /// nothing may acquire any amount.
    pub(crate) fn acquire(self: &Arc<Self>, caller: CallerHash, amount: u32) -> Option<CallerPermit> {
        let permit = CallerPermit { sketch: Arc::clone(self), caller, amount };
        let before = self.counters(caller).map(|counter| counter.fetch_add(amount, Ordering::AcqRel));
        let held = before.into_iter().min().unwrap_or_default();
        // If the amount is refused, dropping the permit releases it.
        (held == 0 || held.saturating_add(amount) <= self.count_max).then_some(permit)
    }

    fn counters(&self, caller: CallerHash) -> [&AtomicU32; 2] {
        static UNUSED: AtomicU32 = AtomicU32::new(0);
        let [first, second] = caller.indices();
        let [one, two] = &self.rows;
        [one.get(first).unwrap_or(&UNUSED), two.get(second).unwrap_or(&UNUSED)]
    }
}

/// Counts the entries that each caller has in a table. The table must report each removal, because an entry
/// holds no permit.
#[derive(Debug)]
pub(crate) struct CallerTotals(Arc<CallerCountSketch>);

impl Default for CallerTotals {
    fn default() -> Self {
        Self(CallerCountSketch::new(usize::MAX))
    }
}

impl CallerTotals {
    /// The number of entries that a caller has.
    pub(crate) fn count_of(&self, caller: CallerHash) -> u32 {
        let counts = self.0.counters(caller).map(|counter| counter.load(Ordering::Acquire));
        counts.into_iter().min().unwrap_or_default()
    }

    pub(crate) fn add(&self, caller: CallerHash) {
        for counter in self.0.counters(caller) {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn remove(&self, caller: CallerHash) {
        for counter in self.0.counters(caller) {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        for counter in self.sketch.counters(self.caller) {
            counter.fetch_sub(self.amount, Ordering::AcqRel);
        }
    }
}

/// Limits the number of connections of each client address.
#[derive(Debug)]
pub(crate) struct AddressLimiter {
    count_max: usize,
    table: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address. Dropping it releases the connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<AddressLimiter>,
    address: IpAddr,
}

impl AddressLimiter {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, table: Mutex::default() })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.table.lock()
    }

    /// Acquires one connection; `None` if the address has the maximum number.
    pub(crate) fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let address = accounting_address(address);
        let mut table = self.table();
        let count = table.entry(address).or_default();
        if *count >= self.count_max {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { limiter: Arc::clone(self), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut table = self.limiter.table();
        if let Some(count) = table.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_hash(last: u8) -> CallerHash {
        CallerHash::of(&Caller::Anonymous, Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn what_one_caller_holds_is_not_counted_for_another() {
        let counts = CallerCountSketch::new(3);
        let mut held: Vec<CallerPermit> =
            (0..3).map(|_| counts.acquire(caller_hash(1), 1).unwrap()).collect();
        assert!(counts.acquire(caller_hash(1), 1).is_none());
        for other in 2..100 {
            assert!(counts.acquire(caller_hash(other), 1).is_some());
        }
        held.pop();
        held.push(counts.acquire(caller_hash(1), 1).unwrap());
        assert!(counts.acquire(caller_hash(1), 1).is_none());
        held.clear();
        assert!(counts.rows.iter().flatten().all(|counter| counter.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn each_address_has_so_many_connections() {
        let counts = AddressLimiter::new(2);
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let held = [counts.acquire(one).unwrap(), counts.acquire(one).unwrap()];
        assert!(counts.acquire(one).is_none() && counts.acquire(other).is_some());
        drop(held);
        assert!(counts.table().is_empty());
        assert!(counts.acquire(one).is_some());
    }

    #[test]
    fn one_thing_larger_than_the_bound_may_be_held_alone() {
        let counts = CallerCountSketch::new(10);
        let large = counts.acquire(caller_hash(1), 50);
        assert!(large.is_some() && counts.acquire(caller_hash(1), 1).is_none());
        drop(large);
        assert!(counts.acquire(caller_hash(1), 10).is_some());
    }
}
