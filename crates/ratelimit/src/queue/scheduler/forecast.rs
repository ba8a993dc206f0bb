//! How long a call would wait in a queue.

use super::{LimitQueue, Need, Now, Ticket, UserKey};

impl LimitQueue {
    /// How long until the turn of a call that waits or comes now, if nobody else comes: what is ahead of it has to be
    /// paid first. Told exactly only when that could be more than `enough`.
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
