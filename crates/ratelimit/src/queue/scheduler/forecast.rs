//! Estimates how long a call would wait in a queue.

use super::{LimitQueue, Need, Now, Ticket, UserKey};

impl LimitQueue {
    /// The time until the turn of a call that waits or comes now, in microseconds, if no other call comes:
    /// everything ahead of it must be paid first. The cheap upper bound is returned if it is at most
    /// `enough`; the exact time otherwise.
    pub(super) fn forecast(
        &self,
        need: &Need,
        user: UserKey,
        ticket: Option<Ticket>,
        enough: u64,
        present: Now<'_>,
    ) -> Option<u64> {
        let cost = u64::from(need.cost);
        let most = self.time_until(need.limit_key, self.fair_queue.cost().saturating_add(cost), present)?;
        if most <= enough {
            return Some(most);
        }
        let ahead = self.fair_queue.cost_ahead(user, ticket, need.cost);
        self.time_until(need.limit_key, ahead.saturating_add(cost), present)
    }
}
