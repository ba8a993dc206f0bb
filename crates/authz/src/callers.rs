//! What is kept of callers between requests: who they are to the policies, and what they may see.
//!
//! An unchanged list seen by an unchanged caller is the same `Arc`, and callers who may see the same share one.
//! Everything here can be forgotten and found out again, so the bounds cost time and never change an answer.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use vmcp_domain::{Caller, Prompt, Resource, ResourceTemplate, Tool};

use crate::asker::Asker;
use crate::policy::AuthzPolicy;

/// How many callers are remembered. Who is asked about longest ago is forgotten first.
pub(crate) const CALLER_COUNT_MAX: usize = 1024;
/// How many different sides of one list are remembered.
const SIDE_COUNT_MAX: usize = 1024;
/// How many lists of one kind are remembered; more than one only where the inside shows callers different lists.
const LIST_COUNT_MAX: usize = 4;

/// One remembered caller.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) asker: Asker,
    pub(crate) tools: Seen<Tool>,
    pub(crate) resources: Seen<Resource>,
    pub(crate) templates: Seen<ResourceTemplate>,
    pub(crate) prompts: Seen<Prompt>,
}

/// The remembered callers.
#[derive(Debug)]
pub(crate) struct Callers {
    hasher: ahash::RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts look-ups, to tell who was asked about longest ago.
    turn: u64,
    places: ahash::HashMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    caller: Caller,
    known: Arc<Known>,
    turn: u64,
}

impl Default for Callers {
    fn default() -> Self {
        Self { hasher: ahash::RandomState::new(), table: Mutex::default() }
    }
}

impl Callers {
    /// The caller, found out now or remembered.
    pub(crate) fn recognise(&self, policy: &AuthzPolicy, caller: &Caller) -> Arc<Known> {
        let key = self.key(caller);
        if let Some(known) = self.table.lock().find(key, caller) {
            return known;
        }
        let known = Arc::new(Known {
            asker: policy.recognise(caller),
            tools: Seen::default(),
            resources: Seen::default(),
            templates: Seen::default(),
            prompts: Seen::default(),
        });
        self.table.lock().keep(key, caller.clone(), known)
    }

    /// A hash of everything that tells callers apart. Equal hashes are settled by comparing.
    fn key(&self, caller: &Caller) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        if let Some(identity) = caller.identity() {
            (&identity.issuer, &identity.subject).hash(&mut hasher);
            for (name, value) in identity.claims.iter() {
                (name, value.as_str()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.table.lock().places.len()
    }
}

impl Table {
    fn find(&mut self, key: u64, caller: &Caller) -> Option<Arc<Known>> {
        self.turn += 1;
        let place = self.places.get_mut(&key).filter(|place| place.caller == *caller)?;
        place.turn = self.turn;
        Some(place.known.clone())
    }

    /// Remembers `known`, unless somebody else was faster; then theirs counts, so that lists stay the same.
    fn keep(&mut self, key: u64, caller: Caller, known: Arc<Known>) -> Arc<Known> {
        if let Some(known) = self.find(key, &caller) {
            return known;
        }
        if self.places.len() >= CALLER_COUNT_MAX
            && let Some(oldest) = self.places.iter().min_by_key(|(_, place)| place.turn).map(|(key, _)| *key)
        {
            self.places.remove(&oldest);
        }
        self.places.insert(key, Place { caller, known: known.clone(), turn: self.turn });
        known
    }
}

/// What a caller saw last of one kind of list. Keeps neither list alive.
#[derive(Debug)]
pub(crate) struct Seen<T>(ArcSwapOption<Side<T>>);

#[derive(Debug)]
struct Side<T> {
    whole: Weak<Vec<T>>,
    shown: Weak<Vec<T>>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T> Seen<T> {
    /// The side of `whole` that was seen last. A weak pointer keeps its address from being used again.
    fn side_of(&self, whole: &Arc<Vec<T>>) -> Option<Arc<Vec<T>>> {
        let seen = self.0.load();
        let side = seen.as_ref()?;
        std::ptr::eq(side.whole.as_ptr(), Arc::as_ptr(whole)).then(|| side.shown.upgrade()).flatten()
    }
}

/// The lists of one kind, each with the sides of it that some caller sees.
#[derive(Debug)]
pub(crate) struct Lists<T> {
    kept: Mutex<Vec<Sides<T>>>,
}

#[derive(Debug)]
struct Sides<T> {
    /// A weak pointer keeps its address from being used again.
    whole: Weak<Vec<T>>,
    /// By which items are on it, a bit each.
    sides: HashMap<Box<[u64]>, Arc<Vec<T>>, ahash::RandomState>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

impl<T: Clone> Lists<T> {
    /// What of `whole` is shown to a caller who saw `seen` last. `shows` is asked only when that does not tell.
    pub(crate) fn side(&self, whole: Arc<Vec<T>>, seen: &Seen<T>, shows: impl Fn(&T) -> bool) -> Arc<Vec<T>> {
        if let Some(side) = seen.side_of(&whole) {
            return side;
        }
        let mut bits = vec![0_u64; whole.len().div_ceil(64)];
        for (items, bits) in whole.chunks(64).zip(&mut bits) {
            *bits = items.iter().rev().fold(0, |bits, item| bits << 1 | u64::from(shows(item)));
        }
        let shown = self.intern(&whole, bits.into_boxed_slice());
        let side = Side { whole: Arc::downgrade(&whole), shown: Arc::downgrade(&shown) };
        seen.0.store(Some(Arc::new(side)));
        shown
    }

    fn intern(&self, whole: &Arc<Vec<T>>, bits: Box<[u64]>) -> Arc<Vec<T>> {
        let count: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
        if usize::try_from(count).is_ok_and(|count| count == whole.len()) {
            return whole.clone();
        }
        let mut kept = self.kept.lock();
        let known = |sides: &Sides<T>| std::ptr::eq(sides.whole.as_ptr(), Arc::as_ptr(whole));
        let place = match kept.iter().position(known) {
            Some(place) => place,
            None => {
                // The inside has replaced the lists that are gone.
                kept.retain(|sides| sides.whole.strong_count() > 0);
                if kept.len() >= LIST_COUNT_MAX {
                    kept.remove(0);
                }
                kept.push(Sides { whole: Arc::downgrade(whole), sides: HashMap::default() });
                kept.len() - 1
            }
        };
        let Some(Sides { sides, .. }) = kept.get_mut(place) else { return Arc::default() };
        if sides.len() >= SIDE_COUNT_MAX && !sides.contains_key(&bits) {
            sides.clear();
        }
        sides.entry(bits).or_insert_with_key(|bits| cut(whole, bits)).clone()
    }
}

/// The items whose bits are set.
fn cut<T: Clone>(whole: &Arc<Vec<T>>, bits: &[u64]) -> Arc<Vec<T>> {
    let items = whole.chunks(64).zip(bits).flat_map(|(items, bits)| {
        items
            .iter()
            .enumerate()
            .filter(move |(place, _)| bits >> place & 1 == 1)
            .map(|(_, item)| item.clone())
    });
    Arc::new(items.collect())
}

#[cfg(test)]
mod tests;
