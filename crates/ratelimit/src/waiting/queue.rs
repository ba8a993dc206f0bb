//! A queue that is fair between users, weighted by cost. No clock, no locks, no tokens: only whose turn it is.
//!
//! Every user has a line, first come, first served. A line carries the mark it has been served up to; the next call of
//! it ends at that mark plus its cost, and the call that ends earliest is next. A user who comes new begins where the
//! queue stands, so a long line costs its owner and nobody else.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::table::UserKey;

/// One waiting call, numbered in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Who waits for one thing.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    lines: HashMap<UserKey, Line>,
    /// The first call of every line, by the mark at which it ends.
    order: BTreeMap<(u64, Ticket), UserKey>,
    /// The highest mark that has been served.
    mark: u64,
    /// The cost of all calls.
    cost: u64,
}

/// The waiting calls of one user.
#[derive(Debug)]
struct Line {
    start: u64,
    cost: u64,
    calls: VecDeque<(Ticket, u32)>,
}

impl Line {
    fn key(&self) -> Option<(u64, Ticket)> {
        self.calls.front().map(|(ticket, cost)| (self.start + u64::from(*cost), *ticket))
    }
}

impl FairQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The cost of everybody who waits.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Whose turn it is, and the cost.
    pub(super) fn first(&self) -> Option<(Ticket, u32)> {
        let (key, user) = self.order.first_key_value()?;
        let (_, cost) = self.lines.get(user)?.calls.front()?;
        Some((key.1, *cost))
    }

    /// Joins the user's line, by age. Whoever had a turn here that came to nothing gets its mark back.
    pub(super) fn push(&mut self, user: UserKey, ticket: Ticket, cost: u32, had_turn: bool) {
        let mark = self.mark;
        self.change(user, |line| {
            let line = line.get_or_insert_with(|| Line { start: mark, cost: 0, calls: VecDeque::new() });
            if had_turn {
                line.start = line.start.saturating_sub(u64::from(cost));
            }
            let place =
                line.calls.iter().rposition(|(other, _)| *other < ticket).map_or(0, |place| place + 1);
            line.calls.insert(place, (ticket, cost));
            line.cost += u64::from(cost);
        });
        self.cost += u64::from(cost);
    }

    /// Takes out whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Ticket, u32)> {
        let (key, user) = self.order.first_key_value().map(|(key, user)| (*key, *user))?;
        self.mark = self.mark.max(key.0);
        let mut served = None;
        self.change(user, |line| {
            if let Some(line) = line {
                line.start = key.0;
                served = line.calls.pop_front();
                line.cost -= served.map_or(0, |(_, cost)| u64::from(cost));
            }
        });
        self.cost -= served.map_or(0, |(_, cost)| u64::from(cost));
        served
    }

    /// Takes out a call that leaves before its turn.
    pub(super) fn remove(&mut self, user: UserKey, ticket: Ticket) {
        let mut gone = None;
        self.change(user, |line| {
            if let Some(line) = line
                && let Some(place) = line.calls.iter().position(|(other, _)| *other == ticket)
            {
                gone = line.calls.remove(place);
                line.cost -= gone.map_or(0, |(_, cost)| u64::from(cost));
            }
        });
        self.cost -= gone.map_or(0, |(_, cost)| u64::from(cost));
    }

    /// The cost of what is served before a call of `user` that waits as `ticket`, or that comes now, if nobody else
    /// comes or leaves.
    pub(super) fn ahead(&self, user: UserKey, ticket: Option<Ticket>, cost: u32) -> u64 {
        let (start, own) = self.lines.get(&user).map_or((self.mark, 0), |line| {
            let before = line.calls.iter().take_while(|(other, _)| Some(*other) != ticket);
            (line.start, before.map(|(_, cost)| u64::from(*cost)).sum())
        });
        let end = start + own + u64::from(cost);
        let others = self.lines.iter().filter(|(other, _)| **other != user);
        others.map(|(_, line)| line.served_until(end)).fold(own, u64::saturating_add)
    }

    /// Changes one line and keeps the order in step.
    fn change(&mut self, user: UserKey, change: impl FnOnce(&mut Option<Line>)) {
        let mut line = self.lines.remove(&user);
        if let Some(key) = line.as_ref().and_then(Line::key) {
            self.order.remove(&key);
        }
        change(&mut line);
        if let Some(line) = line
            && let Some(key) = line.key()
        {
            self.order.insert(key, user);
            self.lines.insert(user, line);
        }
    }
}

impl Line {
    /// The cost of this line's calls that end by a mark.
    fn served_until(&self, end: u64) -> u64 {
        if self.start.saturating_add(self.cost) <= end {
            return self.cost;
        }
        let mut served = 0;
        for (_, cost) in &self.calls {
            let next = served + u64::from(*cost);
            if self.start + next > end {
                break;
            }
            served = next;
        }
        served
    }
}

#[cfg(test)]
mod tests;
