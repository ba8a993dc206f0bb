//! Slots that other replicas take from as well: nobody here is told when one of theirs is free, so queues look, in bounds.

use super::{Hall, Needs, Stock, Thing};
use crate::clock::Micros;

/// How often the pause after asking in vain is doubled at most.
const DOUBLINGS_MAX: u32 = 1;
/// A queue that has passed shared slots on among its own calls for so long, in microseconds, …
const TURN: u64 = 1_000_000;
/// … leaves them alone for so long, in which the queue of every other replica asks once.
const YIELD: u64 = 50_000;

impl Hall {
    /// Other replicas have all slots of a bound: nobody is let past it for `pause` microseconds, and longer where that was
    /// found out again and again.
    pub(in crate::waiting) fn full_elsewhere(&mut self, thing: Thing, pause: u64, now: Micros) {
        let Some(queue) = self.queues.get_mut(&thing) else { return };
        if now >= queue.shut_until {
            queue.vain = (queue.vain + 1).min(DOUBLINGS_MAX + 1);
        }
        queue.shut_until = queue.shut_until.max(now.plus(pause << queue.vain.saturating_sub(1)));
    }

    /// A call of this replica that held shared slots has ended. The queues for them may go on soon, but not for ever: who
    /// has slots passes them on at once, and the queues of other replicas would never find one free.
    pub(in crate::waiting) fn slots_free(&mut self, needs: &Needs, pause: u64, now: Micros) {
        for need in needs.iter().filter(|need| matches!(need.stock, Stock::Slots(..))) {
            let Some(queue) = self.queues.get_mut(&need.thing) else { continue };
            if queue.vain > 0 {
                queue.vain = 0;
                queue.shut_until = queue.shut_until.min(now.plus(pause));
            }
            if now.since(*queue.turn.get_or_insert(now)) >= TURN {
                queue.turn = None;
                queue.shut_until = now.plus(YIELD);
            }
        }
    }
}
