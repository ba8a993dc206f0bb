//! Limits on open streams of changes and on in-flight requests, over all clients and for each caller. The
//! limit for each caller ensures that one caller cannot take the slots of the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use vmcp_domain::Caller;
use vmcp_wire::server::Refusal;

use crate::request::admission::{CallerCountSketch, CallerHash, CallerPermit};

/// The maximum number of open streams of changes, over all clients.
pub(crate) const STREAM_COUNT_MAX: usize = 10_000;
/// The maximum number of open streams of changes of one caller.
pub(crate) const STREAMS_PER_CALLER_MAX: usize = 1_000;

/// The slots for in-flight requests. A request without a slot is refused and never waits, so plain counters
/// are enough.
#[derive(Debug)]
pub(crate) struct RequestSlots {
    slots_left: AtomicUsize,
    caller_counts: Arc<CallerCountSketch>,
}

/// The slot of one request, released when dropped.
#[derive(Debug)]
pub(crate) struct RequestSlot {
    slots: Arc<RequestSlots>,
    caller_permit: CallerPermit,
}

impl RequestSlot {
    /// The caller of the request.
    pub(crate) fn caller(&self) -> CallerHash {
        self.caller_permit.caller()
    }
}

impl RequestSlots {
    /// Creates `count` slots, of which one caller may hold `per_caller`.
    pub(crate) fn new(count: usize, per_caller: usize) -> Arc<Self> {
        Arc::new(Self {
            slots_left: AtomicUsize::new(count),
            caller_counts: CallerCountSketch::new(per_caller),
        })
    }

    pub(crate) fn acquire(self: &Arc<Self>, caller: CallerHash) -> Result<RequestSlot, Refusal> {
        let caller_permit = self.caller_counts.acquire(caller, 1).ok_or(Refusal::CallerRequestsFull)?;
        let taken =
            self.slots_left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map_err(|_| Refusal::Overloaded)?;
        Ok(RequestSlot { slots: Arc::clone(self), caller_permit })
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.slots.slots_left.fetch_add(1, Ordering::AcqRel);
    }
}

/// The slots for open streams of changes.
#[derive(Debug, Default)]
pub(crate) struct StreamSlots(Mutex<StreamCounts>);

#[derive(Debug, Default)]
struct StreamCounts {
    total: usize,
    by_caller: HashMap<CallerHash, usize>,
}

impl StreamSlots {
    fn lock(&self) -> MutexGuard<'_, StreamCounts> {
        self.0.lock()
    }

    /// Acquires the slot of one more stream, to be held while the stream is open.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        caller: &Caller,
        address: Option<IpAddr>,
    ) -> Result<StreamSlot, Refusal> {
        let caller = CallerHash::of(caller, address);
        let mut taken = self.lock();
        if taken.total >= STREAM_COUNT_MAX {
            return Err(Refusal::Overloaded);
        }
        let caller_count = taken.by_caller.entry(caller).or_default();
        if *caller_count >= STREAMS_PER_CALLER_MAX {
            return Err(Refusal::StreamsFull);
        }
        *caller_count += 1;
        taken.total += 1;
        drop(taken);
        Ok(StreamSlot { slots: Arc::clone(self), caller })
    }
}

/// The slot of one stream, released when dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    slots: Arc<StreamSlots>,
    caller: CallerHash,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(caller_count) = taken.by_caller.get_mut(&self.caller) {
            *caller_count = caller_count.saturating_sub(1);
            if *caller_count == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn each_has_its_share_and_all_together_have_an_end() {
        let slots = Arc::new(StreamSlots::default());
        let mut held = Vec::new();
        for last in 0..10 {
            for _ in 0..STREAMS_PER_CALLER_MAX {
                held.push(slots.acquire(&Caller::Anonymous, address(last)).unwrap());
            }
            let refused = slots.acquire(&Caller::Anonymous, address(last)).unwrap_err();
            assert_eq!(refused, if last < 9 { Refusal::StreamsFull } else { Refusal::Overloaded });
        }
        assert_eq!(slots.acquire(&Caller::Anonymous, address(10)).unwrap_err(), Refusal::Overloaded);
        held.pop();
        assert!(slots.acquire(&Caller::Anonymous, address(10)).is_ok());
        held.clear();
        let taken = slots.lock();
        assert_eq!((taken.total, taken.by_caller.len()), (0, 0));
    }
    #[test]
    fn the_addresses_of_one_network_share_a_bound() {
        let slots = Arc::new(StreamSlots::default());
        let host = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        let held: Vec<_> =
            (0..1_000).map(|last| slots.acquire(&Caller::Anonymous, host(last)).unwrap()).collect();
        assert_eq!(held.len(), STREAMS_PER_CALLER_MAX);
        assert_eq!(slots.acquire(&Caller::Anonymous, host(2_000)).unwrap_err(), Refusal::StreamsFull);
        let other = Some(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]));
        assert!(slots.acquire(&Caller::Anonymous, other).is_ok());
    }
}
