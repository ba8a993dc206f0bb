//! Slots that other replicas take from as well: nobody here is told when one of theirs is free, so queues look, in bounds.

use super::{LimitKey, Needs, Scheduler, Supply};
use crate::clock::Micros;

/// How often the pause after asking in vain is doubled at most.
const DOUBLINGS_MAX: u32 = 1;
/// A queue that has passed shared slots on among its own calls for so long, in microseconds, …
const LOCAL_USE_MAX: u64 = 1_000_000;
/// … leaves them alone for so long, in which the queue of every other replica asks once.
const YIELD_PAUSE: u64 = 50_000;

impl Scheduler {
    /// Other replicas have all slots of a bound: nobody is let past it for `pause` microseconds, and longer where that was
    /// found out again and again.
    pub(in crate::queue) fn pause_full_slots(&mut self, thing: LimitKey, pause: u64, now: Micros) {
        let Some(queue) = self.queues.get_mut(&thing) else { return };
        if now >= queue.paused_until {
            queue.failed_attempts = (queue.failed_attempts + 1).min(DOUBLINGS_MAX + 1);
        }
        queue.paused_until =
            queue.paused_until.max(now.plus(pause << queue.failed_attempts.saturating_sub(1)));
    }

    /// A call of this replica that held shared slots has ended. The queues for them may go on soon, but not for ever: who
    /// has slots passes them on at once, and the queues of other replicas would never find one free.
    pub(in crate::queue) fn resume_after_release(&mut self, needs: &Needs, pause: u64, now: Micros) {
        for need in needs.iter().filter(|need| matches!(need.supply, Supply::Slots(..))) {
            let Some(queue) = self.queues.get_mut(&need.limit_key) else { continue };
            if queue.failed_attempts > 0 {
                queue.failed_attempts = 0;
                queue.paused_until = queue.paused_until.min(now.plus(pause));
            }
            if now.since(*queue.local_use_since.get_or_insert(now)) >= LOCAL_USE_MAX {
                queue.local_use_since = None;
                queue.paused_until = now.plus(YIELD_PAUSE);
            }
        }
    }
}
