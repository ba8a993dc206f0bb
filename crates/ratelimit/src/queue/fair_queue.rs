//! A fair queue: users take turns, weighted by cost. It has no clock, no locks and no tokens; it only decides
//! the order.
//!
//! Every user has a queue of its own, first come, first served. A user's queue has a virtual start: the
//! virtual time up to which it has been served. Its next call finishes at the virtual start plus the call's
//! cost. The call that finishes earliest is next. A new user starts at the current virtual time of the whole
//! queue, so a long queue delays only its own user.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::bucket::user_key::UserKey;

/// The number of one waiting call, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// The calls that wait for one limit.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    user_queues: HashMap<UserKey, UserQueue>,
    /// The first call of every user's queue, by the virtual time at which it finishes.
    by_finish: BTreeMap<(u64, Ticket), UserKey>,
    /// The highest virtual finish time that has been served.
    virtual_time: u64,
    /// The cost of all waiting calls, in tokens or slots.
    cost: u64,
}

/// The waiting calls of one user.
#[derive(Debug)]
struct UserQueue {
    virtual_start: u64,
    cost: u64,
    calls: VecDeque<(Ticket, u32)>,
}

impl UserQueue {
    fn finish_key(&self) -> Option<(u64, Ticket)> {
        self.calls.front().map(|(ticket, cost)| (self.virtual_start + u64::from(*cost), *ticket))
    }
}

impl FairQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.by_finish.is_empty()
    }

    /// The cost of all waiting calls.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// The next call and its cost.
    pub(super) fn first(&self) -> Option<(Ticket, u32)> {
        let (key, user) = self.by_finish.first_key_value()?;
        let (_, cost) = self.user_queues.get(user)?.calls.front()?;
        Some((key.1, *cost))
    }

    /// Puts a call into its user's queue, in the order of arrival. `had_turn` is true when the call had a
    /// turn that came to nothing: the user's virtual start is then moved back by its cost.
    pub(super) fn push(&mut self, user: UserKey, ticket: Ticket, cost: u32, had_turn: bool) {
        let virtual_time = self.virtual_time;
        self.update(user, |user_queue| {
            let user_queue = user_queue.get_or_insert_with(|| UserQueue {
                virtual_start: virtual_time,
                cost: 0,
                calls: VecDeque::new(),
            });
            if had_turn {
                user_queue.virtual_start = user_queue.virtual_start.saturating_sub(u64::from(cost));
            }
            let index =
                user_queue.calls.iter().rposition(|(other, _)| *other < ticket).map_or(0, |index| index + 1);
            user_queue.calls.insert(index, (ticket, cost));
            user_queue.cost += u64::from(cost);
        });
        self.cost += u64::from(cost);
    }

    /// Removes and returns the next call.
    pub(super) fn pop(&mut self) -> Option<(Ticket, u32)> {
        let (key, user) = self.by_finish.first_key_value().map(|(key, user)| (*key, *user))?;
        self.virtual_time = self.virtual_time.max(key.0);
        let mut served = None;
        self.update(user, |user_queue| {
            if let Some(user_queue) = user_queue {
                user_queue.virtual_start = key.0;
                served = user_queue.calls.pop_front();
                user_queue.cost -= served.map_or(0, |(_, cost)| u64::from(cost));
            }
        });
        self.cost -= served.map_or(0, |(_, cost)| u64::from(cost));
        served
    }

    /// Removes a call that leaves before its turn.
    pub(super) fn remove(&mut self, user: UserKey, ticket: Ticket) {
        let mut gone = None;
        self.update(user, |user_queue| {
            if let Some(user_queue) = user_queue
                && let Some(index) = user_queue.calls.iter().position(|(other, _)| *other == ticket)
            {
                gone = user_queue.calls.remove(index);
                user_queue.cost -= gone.map_or(0, |(_, cost)| u64::from(cost));
            }
        });
        self.cost -= gone.map_or(0, |(_, cost)| u64::from(cost));
    }

    /// The cost of what is served before a call of `user`, if no other call comes or leaves. `ticket` is the
    /// call if it waits already, `None` if it would come now.
    pub(super) fn cost_ahead(&self, user: UserKey, ticket: Option<Ticket>, cost: u32) -> u64 {
        let (start, own) = self.user_queues.get(&user).map_or((self.virtual_time, 0), |user_queue| {
            let before = user_queue.calls.iter().take_while(|(other, _)| Some(*other) != ticket);
            (user_queue.virtual_start, before.map(|(_, cost)| u64::from(*cost)).sum())
        });
        let end = start + own + u64::from(cost);
        let others = self.user_queues.iter().filter(|(other, _)| **other != user);
        others.map(|(_, user_queue)| user_queue.cost_finished_by(end)).fold(own, u64::saturating_add)
    }

    /// Changes the queue of one user and updates the order of finish times.
    fn update(&mut self, user: UserKey, change: impl FnOnce(&mut Option<UserQueue>)) {
        let mut user_queue = self.user_queues.remove(&user);
        if let Some(key) = user_queue.as_ref().and_then(UserQueue::finish_key) {
            self.by_finish.remove(&key);
        }
        change(&mut user_queue);
        if let Some(user_queue) = user_queue
            && let Some(key) = user_queue.finish_key()
        {
            self.by_finish.insert(key, user);
            self.user_queues.insert(user, user_queue);
        }
    }
}

impl UserQueue {
    /// The cost of this user's calls that finish by the virtual time `end`.
    fn cost_finished_by(&self, end: u64) -> u64 {
        if self.virtual_start.saturating_add(self.cost) <= end {
            return self.cost;
        }
        let mut served = 0;
        for (_, cost) in &self.calls {
            let next = served + u64::from(*cost);
            if self.virtual_start + next > end {
                break;
            }
            served = next;
        }
        served
    }
}

#[cfg(test)]
mod tests;
