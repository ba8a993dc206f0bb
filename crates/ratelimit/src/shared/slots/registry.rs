//! The registry of this replica's calls that hold slots: what the store has confirmed of them, and what to
//! report next. It has no clock, no store and no tasks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use vmcp_timing::Micros;

use crate::shared::store::{CallId, RemoteSlotLimit, SlotReport};

/// The most call identifiers in one report: the store handles it in well under a millisecond.
const CALL_IDS_PER_REPORT_MAX: usize = 256;

/// The partition of slot limits in a cluster; `None` for the common one.
type Partition = Option<Arc<str>>;

/// All slots that this replica holds.
#[derive(Default)]
pub(super) struct SlotRegistry {
    /// By the key of the slot limit. No entry is empty.
    bounds: HashMap<Arc<str>, SlotLimitState>,
    /// Slot limits under which calls have ended, so that the end of a call does not require a scan of all
    /// limits.
    limits_with_ended: HashSet<Arc<str>>,
    /// How many calls hold slots or request them.
    call_count: usize,
    /// How many ended calls the store has not confirmed, including those in a pending report.
    unreported_count: usize,
    /// Whether a reporter task runs.
    has_reporter: bool,
}

#[derive(Default)]
struct SlotLimitState {
    partition: Partition,
    held: HashMap<CallId, HeldSlot>,
    /// Ended calls that the store may still count.
    ended: Vec<EndedCall>,
    /// Calls that ended while a report of them as held was pending. That report must arrive before their end
    /// is reported, because otherwise it would take their slots again.
    ended_during_report: HashMap<CallId, Micros>,
}

#[derive(Clone, Copy)]
struct HeldSlot {
    /// When the last report that the store has confirmed was sent.
    confirmed_at: Option<Micros>,
    /// A report may have reached the store.
    may_be_reported: bool,
    /// A report is pending.
    is_report_pending: bool,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedCall {
    pub(super) call: CallId,
    pub(super) at: Micros,
}

/// The reports about slot limits of one partition that are sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportBatch {
    pub(super) partition: Partition,
    pub(super) reports: Vec<SlotReport>,
    /// When each of the ended calls ended, in the order of the reports.
    ended_at: Vec<Micros>,
}

impl SlotLimitState {
    fn is_unused(&self) -> bool {
        self.held.is_empty() && self.ended.is_empty() && self.ended_during_report.is_empty()
    }
}

impl SlotRegistry {
    /// A call requests slots. True if a reporter task must be started.
    pub(super) fn begin_call(&mut self) -> bool {
        self.call_count += 1;
        !std::mem::replace(&mut self.has_reporter, true)
    }

    /// True if there is nothing left to report: the reporter task ends then.
    pub(super) fn stop_if_unused(&mut self) -> bool {
        self.has_reporter = self.call_count > 0 || !self.bounds.is_empty();
        !self.has_reporter
    }

    /// How many calls hold slots or request them.
    pub(super) fn call_count(&self) -> usize {
        self.call_count
    }

    /// How many ended calls the store has not confirmed.
    pub(super) fn unreported_count(&self) -> usize {
        self.unreported_count
    }

    /// Records that a call holds a slot. The last argument is when the request was sent for which the store
    /// granted the slot; `None` if the store does not know of the call.
    pub(super) fn hold(&mut self, slots: &RemoteSlotLimit, call: CallId, heard: Option<Micros>) {
        let limit = self.bounds.entry(slots.key.clone()).or_default();
        limit.partition.clone_from(&slots.partition);
        limit.held.entry(call).or_insert(HeldSlot {
            confirmed_at: heard,
            may_be_reported: heard.is_some(),
            is_report_pending: false,
        });
    }

    /// How many calls other than this one hold a slot.
    pub(super) fn count_others(&self, key: &str, call: CallId) -> usize {
        self.bounds.get(key).map_or(0, |limit| limit.held.len() - usize::from(limit.held.contains_key(&call)))
    }

    /// Records that a call has ended. For each of its limits the flag says whether the store may count the
    /// call without any report. Returns whether there is something to report to the store.
    pub(super) fn end_call(&mut self, call: CallId, bounds: &[(RemoteSlotLimit, bool)], at: Micros) -> bool {
        self.call_count = self.call_count.saturating_sub(1);
        let mut tells = false;
        for (slots, asked) in bounds {
            let limit = self.bounds.entry(slots.key.clone()).or_default();
            limit.partition.clone_from(&slots.partition);
            match limit.held.remove(&call) {
                Some(held) if held.is_report_pending => {
                    limit.ended_during_report.insert(call, at);
                    self.unreported_count += 1;
                }
                held if *asked || held.is_some_and(|held| held.may_be_reported) => {
                    limit.ended.push(EndedCall { call, at });
                    self.limits_with_ended.insert(slots.key.clone());
                    self.unreported_count += 1;
                    tells = true;
                }
                _ => {}
            }
            self.prune(&slots.key);
        }
        tells
    }

    /// Removes ended calls under a limit, for a request that reports them to the store.
    pub(super) fn take_ended(&mut self, key: &Arc<str>, count_max: usize) -> Vec<EndedCall> {
        let Some(limit) = self.bounds.get_mut(key) else { return Vec::new() };
        let ended = limit.ended.drain(..limit.ended.len().min(count_max)).collect();
        self.prune(key);
        ended
    }

    /// Puts back ended calls, because their report may not have reached the store.
    pub(super) fn restore_ended(&mut self, slots: &RemoteSlotLimit, ended: Vec<EndedCall>) {
        let limit = self.bounds.entry(slots.key.clone()).or_default();
        limit.partition.clone_from(&slots.partition);
        limit.ended.extend(ended);
        self.limits_with_ended.insert(slots.key.clone());
    }

    /// Records that the store has confirmed this many ended calls.
    pub(super) fn mark_reported(&mut self, count: usize) {
        self.unreported_count = self.unreported_count.saturating_sub(count);
    }

    /// Removes ended calls if their leases have expired by now.
    pub(super) fn expire_ended(&mut self, now: Micros, lease: u64) {
        let keys: Vec<Arc<str>> = self.limits_with_ended.iter().cloned().collect();
        for key in keys {
            let Some(limit) = self.bounds.get_mut(&key) else { continue };
            let count = limit.ended.len();
            limit.ended.retain(|ended| now.since(ended.at) < lease);
            self.unreported_count = self.unreported_count.saturating_sub(count - limit.ended.len());
            if limit.ended.is_empty() {
                self.limits_with_ended.remove(&key);
            }
            self.prune(&key);
        }
    }

    /// The reports to send now: every ended call and, if `stale` is given, every in-flight call that the
    /// store has not confirmed since that moment.
    pub(super) fn take_batches(&mut self, stale: Option<Micros>) -> Vec<ReportBatch> {
        let mut full = Vec::new();
        let mut open: HashMap<Partition, (ReportBatch, usize)> = HashMap::new();
        let leaving = std::mem::take(&mut self.limits_with_ended);
        let keys: Vec<Arc<str>> = if stale.is_some() {
            self.bounds.keys().cloned().collect()
        } else {
            leaving.into_iter().collect()
        };
        for key in keys {
            let Some(limit) = self.bounds.get_mut(&key) else { continue };
            let due = |held: &HeldSlot| {
                let silent = |stale| held.confirmed_at.is_none_or(|heard| heard <= stale);
                !held.is_report_pending && stale.is_some_and(silent)
            };
            let mut held: Vec<CallId> = Vec::new();
            for (call, state) in limit.held.iter_mut().filter(|(_, state)| due(state)) {
                (state.is_report_pending, state.may_be_reported) = (true, true);
                held.push(*call);
            }
            let mut ended = std::mem::take(&mut limit.ended);
            while !held.is_empty() || !ended.is_empty() {
                let (batch, names) = open.entry(limit.partition.clone()).or_insert_with(|| {
                    (ReportBatch { partition: limit.partition.clone(), ..ReportBatch::default() }, 0)
                });
                let room = CALL_IDS_PER_REPORT_MAX - *names;
                let left: Vec<EndedCall> = ended.drain(..ended.len().min(room)).collect();
                let kept: Vec<CallId> = held.drain(..held.len().min(room - left.len())).collect();
                *names += left.len() + kept.len();
                batch.ended_at.extend(left.iter().map(|ended| ended.at));
                let ended = left.iter().map(|ended| ended.call).collect();
                batch.reports.push(SlotReport { key: key.clone(), held: kept, ended });
                if *names == CALL_IDS_PER_REPORT_MAX {
                    full.extend(open.remove(&limit.partition).map(|(batch, _)| batch));
                }
            }
        }
        full.extend(open.into_values().map(|(batch, _)| batch));
        full
    }

    /// Removes from a batch that is about to be sent the calls that have ended since it was made. The rest of
    /// it counts as pending.
    pub(super) fn remove_ended(&mut self, batch: &mut ReportBatch) {
        for report in &mut batch.reports {
            let Some(limit) = self.bounds.get_mut(&report.key) else { continue };
            report.held.retain(|call| !limit.ended_during_report.contains_key(call));
        }
    }

    /// Applies the store's reply to a batch that was sent at `sent`, or that there was none. Returns whether
    /// calls have ended meanwhile that can be reported now.
    pub(super) fn apply_reply(&mut self, whole: &ReportBatch, confirmed: bool, sent: Micros) -> bool {
        let mut moments = whole.ended_at.iter();
        let mut more = false;
        for report in &whole.reports {
            let limit = self.bounds.entry(report.key.clone()).or_default();
            limit.partition.clone_from(&whole.partition);
            for call in &report.held {
                match limit.held.get_mut(call) {
                    Some(held) => {
                        held.is_report_pending = false;
                        if confirmed {
                            held.confirmed_at = Some(sent);
                        }
                    }
                    None => {
                        if let Some(at) = limit.ended_during_report.remove(call) {
                            limit.ended.push(EndedCall { call: *call, at });
                            more = true;
                        }
                    }
                }
            }
            let ended = report.ended.iter().zip(&mut moments);
            let ended: Vec<EndedCall> = ended.map(|(call, at)| EndedCall { call: *call, at: *at }).collect();
            if confirmed {
                self.unreported_count = self.unreported_count.saturating_sub(ended.len());
            } else {
                limit.ended.extend(ended);
            }
            if !limit.ended.is_empty() {
                self.limits_with_ended.insert(report.key.clone());
            }
            self.prune(&report.key);
        }
        more
    }

    fn prune(&mut self, key: &Arc<str>) {
        if self.bounds.get(key).is_some_and(SlotLimitState::is_unused) {
            self.bounds.remove(key);
        }
    }
}
