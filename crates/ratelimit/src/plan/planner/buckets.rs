//! The buckets of one limit for one caller.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use smallvec::SmallVec;

use super::saved::SIZE_MARK;
use super::subject::{Due, Subject, Whose, of_value, period_name, rank};
use super::{Entry, Planner};
use crate::calendar::{Calendar, Period};
use crate::clock::Micros;
use crate::plan::{
    BucketId, FormerWindow, Holder, Plan, PlannedBucket, Resets, UNPAYABLE, Variation, Varies,
};
use crate::policy::{LeasePolicy, Mode, Window};
use crate::rate::Rate;
use crate::table::UserKey;

impl Planner {
    /// Adds what a limit is for one caller: a bucket for each window, or none where an override exempts the caller.
    pub(super) fn add_quota(
        &self,
        plan: &mut Plan,
        subject: &Subject<'_>,
        (call, now): (&Variation, Micros),
        due: &Due<'_>,
    ) {
        let Due { whose, quota, of, value, size: _ } = *due;
        plan.varies
            .percents
            .extend(quota.percent.filter(|_| quota.mode == Mode::Enforce).map(NonZeroU8::get));
        let (windows, is_blocked) = due.windows();
        if windows.is_empty() {
            return;
        }
        let rule = due.rule(subject);
        let mode = quota.mode_at(call.standing);
        let cost = cost(subject, call, due, mode, is_blocked);
        for (window, Window { rate, calendar }) in windows.iter().enumerate() {
            let lease = self.lease(subject, whose, rate);
            let kept = lease.map_or(*rate, |lease| lease.kept(rate));
            let excess = |lease: LeasePolicy| if lease.hold_back { 0 } else { lease.excess(rate) };
            let name = period_name(windows, window);
            let entry = self.sized_entry(subject, due, (&name, due.size), kept);
            let resets = calendar.as_ref().map(|calendar| present(calendar, &plan.varies, call));
            // Another period is another bucket in a shared store, and here the same one at a later time.
            let period = match &resets {
                None => name.clone(),
                Some(Resets { period: Period { start, .. }, .. }) => {
                    self.note_period(*start);
                    let mut starts = self.starts.write();
                    let newest = starts.entry(entry.id).or_default();
                    *newest = (*newest).max(*start);
                    format!("{name}.{}", start.0 / 1_000_000)
                }
            };
            let (holder, cell) = self.holder(&entry, (subject, due, &name), &kept, now);
            plan.buckets.push(PlannedBucket {
                id: entry.id,
                rank: rank(subject.rule, whose, window),
                key: of_value(&subject.key(&period, whose, of), value.map(|(_, value)| value)),
                window: FormerWindow {
                    place: u8::try_from(window).unwrap_or(u8::MAX),
                    count: u8::try_from(windows.len()).unwrap_or(u8::MAX),
                    period_from: u16::try_from(subject.stem(whose).len() + 1).unwrap_or(u16::MAX),
                },
                rule: rule.clone(),
                scope: subject.scope(whose),
                rate: kept,
                cost,
                cost_units: kept.units(u64::from(cost.get())),
                mode,
                trial: subject.trial,
                percent: quota.percent,
                holder,
                whose: cell,
                other_sizes: self.other_sizes(subject, due, (entry.id, &name)),
                is_blocked,
                // Nobody waits for the next period.
                wait_max: if resets.is_some() { 0 } else { subject.wait_max() },
                resets,
                leased: lease.map(excess),
            });
        }
        plan.may_wait |= subject.wait_max() > 0 && mode == Mode::Enforce;
        plan.needs_user |= whose == Whose::User;
        plan.keeps_user |= whose == Whose::User && quota.mode == Mode::Enforce;
        plan.tries_user |= whose == Whose::User && quota.mode == Mode::Shadow;
    }

    /// How replicas take tokens of it ahead. The bucket of a user or a group is hardly ever fast, and they are hardly ever
    /// at many replicas. What one call costs has no say: a bucket is the same one for all.
    fn lease(&self, subject: &Subject<'_>, whose: Whose, rate: &Rate) -> Option<LeasePolicy> {
        let lease = self.policy.consistency.leases();
        let is_shared = matches!(whose, Whose::Everybody | Whose::Unreserved);
        lease.filter(|lease| is_shared && lease.covers(rate, subject.cost_max))
    }

    /// The definition of a bucket in one of its sizes. Each size has its own, as levels are kept in units of the rate.
    fn sized_entry(
        &self,
        subject: &Subject<'_>,
        due: &Due<'_>,
        (period, size): (&str, Option<u16>),
        rate: Rate,
    ) -> Entry {
        let name = |subject: &Subject<'_>| {
            let key = subject.key(period, due.whose, due.of);
            match size.and_then(|place| due.quota.overrides.who(place)) {
                None => key,
                Some(who) => format!("{key}{SIZE_MARK}{who}").into(),
            }
        };
        self.entry(subject, &name, Some(rate))
    }

    /// The definitions of a user's bucket in all other sizes of the same period.
    fn other_sizes(
        &self,
        subject: &Subject<'_>,
        due: &Due<'_>,
        (own, period): (BucketId, &str),
    ) -> SmallVec<[BucketId; 2]> {
        if due.whose != Whose::User {
            return SmallVec::new();
        }
        // In the last process it may have had other sizes.
        let mut others = self.restored_sizes(own, &subject.key(period, due.whose, due.of));
        let overrides = &due.quota.overrides;
        let places = std::iter::once(None).chain((0..).map(Some).take(overrides.iter().count()));
        for place in places.filter(|place| *place != due.size) {
            // One that blocks has the windows of all, and nothing is ever paid there.
            let (windows, is_blocked) = Due { size: place, ..*due }.windows();
            let same = |index: &usize| !is_blocked && period_name(windows, *index) == period;
            if let Some(window) = (0..windows.len()).find(same).and_then(|index| windows.get(index)) {
                let id = self.sized_entry(subject, due, (period, place), window.rate).id;
                if !others.contains(&id) {
                    others.push(id);
                }
            }
        }
        others
    }

    /// Where the level is kept, and under which key if it is that of a value.
    fn holder(
        &self,
        entry: &Entry,
        (subject, due, period): (&Subject<'_>, &Due<'_>, &str),
        rate: &Rate,
        now: Micros,
    ) -> (Holder, Option<UserKey>) {
        match (due.whose, due.value) {
            (Whose::User, _) if due.quota.mode == Mode::Shadow => (Holder::UserOnTrial, None),
            (Whose::User, _) => (Holder::User, None),
            (Whose::Everybody | Whose::Unreserved, _) | (Whose::Value(..), None) => {
                (Holder::Shared(entry.level.clone()), None)
            }
            (Whose::Value(..), Some((place, value))) => {
                let most = self.policy.memory.user_count_max;
                let time = |id: BucketId| self.time(id, now);
                let mut cells = self.cells(due.quota.mode).lock();
                let wanted = (entry.id, value.key, value.owner);
                let (key, cell) = cells.cell(wanted, (place, most), rate, (now, &time));
                let base = subject.key(period, due.whose, due.of);
                self.take_former_value((entry.id, value.key), (rate, &base), &cell, &mut cells);
                (Holder::Shared(cell), Some(key))
            }
        }
    }
}

/// The period that a call falls into; one without an end in a plan that is not for one call.
fn present(calendar: &Arc<Calendar>, varies: &Varies, call: &Variation) -> Resets {
    let place = varies.calendars.iter().position(|known| known == calendar);
    let period = place.and_then(|place| call.periods.get(place)).copied().unwrap_or_default();
    Resets { period, calendar: calendar.clone() }
}

/// What one call costs in a limit, without looking at what it asks for.
fn cost(subject: &Subject<'_>, call: &Variation, due: &Due<'_>, mode: Mode, is_blocked: bool) -> NonZeroU32 {
    let lacks_claim = mode == Mode::Shadow && due.value.is_some_and(|(_, value)| value.is_refused);
    if is_blocked || lacks_claim { UNPAYABLE } else { call.costs.of(subject.trial, subject.cost) }
}
