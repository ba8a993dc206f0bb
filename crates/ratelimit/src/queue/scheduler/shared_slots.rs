//! Slots that other replicas take as well. No replica is notified when another one releases a slot, so queues
//! poll the store, at a bounded rate.

use vmcp_timing::Micros;

use super::{LimitKey, Needs, Scheduler, Supply};

/// How often the pause after a refused attempt is doubled at most.
const DOUBLINGS_MAX: u32 = 1;
/// After reusing shared slots for its own calls for this long, in microseconds, a queue …
const LOCAL_USE_MAX: u64 = 1_000_000;
/// … leaves them alone for this long, in microseconds: the queue of every other replica asks once in that
/// time.
const YIELD_PAUSE: u64 = 50_000;

impl Scheduler {
    /// Other replicas hold all slots of a limit: no call is granted for `pause` microseconds, and for twice
    /// as long after repeated refusals.
    pub(in crate::queue) fn pause_full_slots(&mut self, limit_key: LimitKey, pause: u64, now: Micros) {
        let Some(queue) = self.queues.get_mut(&limit_key) else { return };
        if now >= queue.paused_until {
            queue.failed_attempts = (queue.failed_attempts + 1).min(DOUBLINGS_MAX + 1);
        }
        queue.paused_until =
            queue.paused_until.max(now.plus(pause << queue.failed_attempts.saturating_sub(1)));
    }

    /// A call of this replica that held shared slots has ended. The queues for them may continue soon, but
    /// not for ever: a replica that holds slots reuses them at once, and the queues of other replicas would
    /// never find one free.
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
