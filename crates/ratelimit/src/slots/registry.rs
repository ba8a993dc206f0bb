//! Which calls of this replica hold slots, what the store has heard of them, and what it is to hear next. No clock, no
//! store and no tasks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::clock::Micros;
use crate::remote::{CallName, RemoteSlots, SlotReport};

/// How many names one report holds: a server is busy with it for well under a millisecond.
const NAMES_MAX: usize = 256;

/// Whose place in a cluster bounds have.
type Home = Option<Arc<str>>;

/// Everything this replica holds.
#[derive(Default)]
pub(super) struct Registry {
    /// By the bound's key. None is empty.
    bounds: HashMap<Arc<str>, Bound>,
    /// Bounds under which calls have ended, so that not all must be looked through when one has.
    leaving: HashSet<Arc<str>>,
    /// How many calls have slots or ask for them.
    calls: usize,
    /// How many ended calls the store has not heard of, those included that are just being told.
    untold: usize,
    /// Whether a task looks after it.
    kept: bool,
}

#[derive(Default)]
struct Bound {
    home: Home,
    held: HashMap<CallName, Held>,
    /// Calls that the store may still count.
    ended: Vec<Ended>,
    /// Calls that ended while a report of them was under way. It must arrive first, or it would take their slots again.
    later: HashMap<CallName, Micros>,
}

#[derive(Clone, Copy)]
struct Held {
    /// When the last report was sent that the store has confirmed.
    heard: Option<Micros>,
    /// A report may have reached the store.
    reported: bool,
    /// A report is under way.
    under_way: bool,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) call: CallName,
    pub(super) at: Micros,
}

/// What is to be said of the bounds of one home at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) home: Home,
    pub(super) reports: Vec<SlotReport>,
    /// When each of the ended calls ended, in the order of the reports.
    ended: Vec<Micros>,
}

impl Bound {
    fn is_over(&self) -> bool {
        self.held.is_empty() && self.ended.is_empty() && self.later.is_empty()
    }
}

impl Registry {
    /// A call asks for slots. True when a task must be started that looks after them.
    pub(super) fn begin(&mut self) -> bool {
        self.calls += 1;
        !std::mem::replace(&mut self.kept, true)
    }

    /// True when there is nothing to look after: the task ends then.
    pub(super) fn is_over(&mut self) -> bool {
        self.kept = self.calls > 0 || !self.bounds.is_empty();
        !self.kept
    }

    /// How many calls have slots or ask for them.
    pub(super) fn count(&self) -> usize {
        self.calls
    }

    /// How many ended calls the store has not heard of.
    pub(super) fn untold(&self) -> usize {
        self.untold
    }

    /// A call holds a slot; `heard` is when the store was asked that gave it.
    pub(super) fn hold(&mut self, slots: &RemoteSlots, call: CallName, heard: Option<Micros>) {
        let bound = self.bounds.entry(slots.key.clone()).or_default();
        bound.home.clone_from(&slots.home);
        bound.held.entry(call).or_insert(Held { heard, reported: heard.is_some(), under_way: false });
    }

    /// How many calls other than this one hold a slot.
    pub(super) fn count_others(&self, key: &str, call: CallName) -> usize {
        self.bounds.get(key).map_or(0, |bound| bound.held.len() - usize::from(bound.held.contains_key(&call)))
    }

    /// A call is over. For each of its bounds the flag says whether the store may count it without any report. Returns
    /// whether there is something to tell the store.
    pub(super) fn end(&mut self, call: CallName, bounds: &[(RemoteSlots, bool)], at: Micros) -> bool {
        self.calls = self.calls.saturating_sub(1);
        let mut tells = false;
        for (slots, asked) in bounds {
            let bound = self.bounds.entry(slots.key.clone()).or_default();
            bound.home.clone_from(&slots.home);
            match bound.held.remove(&call) {
                Some(held) if held.under_way => {
                    bound.later.insert(call, at);
                    self.untold += 1;
                }
                held if *asked || held.is_some_and(|held| held.reported) => {
                    bound.ended.push(Ended { call, at });
                    self.leaving.insert(slots.key.clone());
                    self.untold += 1;
                    tells = true;
                }
                _ => {}
            }
            self.prune(&slots.key);
        }
        tells
    }

    /// Calls that have ended under a bound, for somebody who tells the store.
    pub(super) fn take_ended(&mut self, key: &Arc<str>, count_max: usize) -> Vec<Ended> {
        let Some(bound) = self.bounds.get_mut(key) else { return Vec::new() };
        let ended = bound.ended.drain(..bound.ended.len().min(count_max)).collect();
        self.prune(key);
        ended
    }

    /// The store may not have been told after all.
    pub(super) fn put_back(&mut self, slots: &RemoteSlots, ended: Vec<Ended>) {
        let bound = self.bounds.entry(slots.key.clone()).or_default();
        bound.home.clone_from(&slots.home);
        bound.ended.extend(ended);
        self.leaving.insert(slots.key.clone());
    }

    /// The store has heard of so many calls that have ended.
    pub(super) fn told(&mut self, count: usize) {
        self.untold = self.untold.saturating_sub(count);
    }

    /// Forgets calls whose leases are over by now, so long ago did they end.
    pub(super) fn forget_ended(&mut self, now: Micros, lease: u64) {
        let keys: Vec<Arc<str>> = self.leaving.iter().cloned().collect();
        for key in keys {
            let Some(bound) = self.bounds.get_mut(&key) else { continue };
            let count = bound.ended.len();
            bound.ended.retain(|ended| now.since(ended.at) < lease);
            self.untold = self.untold.saturating_sub(count - bound.ended.len());
            if bound.ended.is_empty() {
                self.leaving.remove(&key);
            }
            self.prune(&key);
        }
    }

    /// What the store is to hear now: every call that has ended and, where `stale` says so, every call in flight of which
    /// it has not heard since that moment.
    pub(super) fn batches(&mut self, stale: Option<Micros>) -> Vec<Batch> {
        let mut full = Vec::new();
        let mut open: HashMap<Home, (Batch, usize)> = HashMap::new();
        let leaving = std::mem::take(&mut self.leaving);
        let keys: Vec<Arc<str>> = if stale.is_some() {
            self.bounds.keys().cloned().collect()
        } else {
            leaving.into_iter().collect()
        };
        for key in keys {
            let Some(bound) = self.bounds.get_mut(&key) else { continue };
            let due = |held: &Held| {
                let silent = |stale| held.heard.is_none_or(|heard| heard <= stale);
                !held.under_way && stale.is_some_and(silent)
            };
            let mut held: Vec<CallName> = Vec::new();
            for (call, state) in bound.held.iter_mut().filter(|(_, state)| due(state)) {
                (state.under_way, state.reported) = (true, true);
                held.push(*call);
            }
            let mut ended = std::mem::take(&mut bound.ended);
            while !held.is_empty() || !ended.is_empty() {
                let (batch, names) = open
                    .entry(bound.home.clone())
                    .or_insert_with(|| (Batch { home: bound.home.clone(), ..Batch::default() }, 0));
                let room = NAMES_MAX - *names;
                let left: Vec<Ended> = ended.drain(..ended.len().min(room)).collect();
                let kept: Vec<CallName> = held.drain(..held.len().min(room - left.len())).collect();
                *names += left.len() + kept.len();
                batch.ended.extend(left.iter().map(|ended| ended.at));
                let ended = left.iter().map(|ended| ended.call).collect();
                batch.reports.push(SlotReport { key: key.clone(), held: kept, ended });
                if *names == NAMES_MAX {
                    full.extend(open.remove(&bound.home).map(|(batch, _)| batch));
                }
            }
        }
        full.extend(open.into_values().map(|(batch, _)| batch));
        full
    }

    /// Takes out of a batch that is about to be sent what has ended since it was made. What is left of it is under way.
    pub(super) fn confirm(&mut self, batch: &mut Batch) {
        for report in &mut batch.reports {
            let Some(bound) = self.bounds.get_mut(&report.key) else { continue };
            report.held.retain(|call| !bound.later.contains_key(call));
        }
    }

    /// The store's answer to a batch that was sent at a moment, or that there was none. Returns whether calls have ended
    /// meanwhile that the store can be told of now.
    pub(super) fn answered(&mut self, whole: &Batch, confirmed: bool, sent: Micros) -> bool {
        let mut moments = whole.ended.iter();
        let mut more = false;
        for report in &whole.reports {
            let bound = self.bounds.entry(report.key.clone()).or_default();
            bound.home.clone_from(&whole.home);
            for call in &report.held {
                match bound.held.get_mut(call) {
                    Some(held) => {
                        held.under_way = false;
                        if confirmed {
                            held.heard = Some(sent);
                        }
                    }
                    None => {
                        if let Some(at) = bound.later.remove(call) {
                            bound.ended.push(Ended { call: *call, at });
                            more = true;
                        }
                    }
                }
            }
            let ended = report.ended.iter().zip(&mut moments);
            let ended: Vec<Ended> = ended.map(|(call, at)| Ended { call: *call, at: *at }).collect();
            if confirmed {
                self.untold = self.untold.saturating_sub(ended.len());
            } else {
                bound.ended.extend(ended);
            }
            if !bound.ended.is_empty() {
                self.leaving.insert(report.key.clone());
            }
            self.prune(&report.key);
        }
        more
    }

    fn prune(&mut self, key: &Arc<str>) {
        if self.bounds.get(key).is_some_and(Bound::is_over) {
            self.bounds.remove(key);
        }
    }
}
