//! Room for streams of changes: bounded over all clients, and for each caller, so that nobody can take the room of
//! everybody else. Callers without a name are told apart by the address they come from. And room for requests in work,
//! bounded in the same way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmcp_domain::Caller;
use vmcp_wire::server::Refusal;

use crate::admission::{CallerCounts, CallerNumber, CallerPlace};

/// How many streams of changes may be open at once, over all clients.
pub(crate) const STREAM_COUNT_MAX: usize = 10_000;
/// How many of them one caller may hold.
pub(crate) const STREAMS_PER_CALLER_MAX: usize = 1_000;

/// Room for requests in work. Nobody waits for it, so it is but numbers.
#[derive(Debug)]
pub(crate) struct RequestRoom {
    left: AtomicUsize,
    callers: Arc<CallerCounts>,
}

/// One request's room, until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestPlace {
    room: Arc<RequestRoom>,
    caller: CallerPlace,
}

impl RequestPlace {
    /// Whose request it is.
    pub(crate) fn caller(&self) -> CallerNumber {
        self.caller.caller()
    }
}

impl RequestRoom {
    /// Room for `count` requests, and for `per_caller` of one caller.
    pub(crate) fn new(count: usize, per_caller: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(count), callers: CallerCounts::new(per_caller) })
    }

    pub(crate) fn admit(self: &Arc<Self>, caller: CallerNumber) -> Result<RequestPlace, Refusal> {
        let place = self.callers.take(caller, 1).ok_or(Refusal::CallerRequestsFull)?;
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map_err(|_| Refusal::Overloaded)?;
        Ok(RequestPlace { room: Arc::clone(self), caller: place })
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.room.left.fetch_add(1, Ordering::AcqRel);
    }
}

/// Who holds a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// A user: issuer and subject.
    User(String, String),
    /// Somebody without a name; over standard streams without an address too.
    Address(Option<IpAddr>),
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct StreamRoom(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_holder: HashMap<Holder, usize>,
}

impl StreamRoom {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more stream of `caller`, to be held while it is open.
    pub(crate) fn admit(
        self: &Arc<Self>,
        caller: &Caller,
        address: Option<IpAddr>,
    ) -> Result<StreamPlace, Refusal> {
        let holder = match caller.identity() {
            Some(identity) => Holder::User(identity.issuer.clone(), identity.subject.clone()),
            None => Holder::Address(address),
        };
        let mut taken = self.lock();
        if taken.total >= STREAM_COUNT_MAX {
            return Err(Refusal::Overloaded);
        }
        let own = taken.by_holder.entry(holder.clone()).or_default();
        if *own >= STREAMS_PER_CALLER_MAX {
            return Err(Refusal::StreamsFull);
        }
        *own += 1;
        taken.total += 1;
        drop(taken);
        Ok(StreamPlace { room: Arc::clone(self), holder })
    }
}

/// The place of one stream; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    room: Arc<StreamRoom>,
    holder: Holder,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_holder.get_mut(&self.holder) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_holder.remove(&self.holder);
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
        let room = Arc::new(StreamRoom::default());
        let mut held = Vec::new();
        for last in 0..10 {
            for _ in 0..STREAMS_PER_CALLER_MAX {
                held.push(room.admit(&Caller::Anonymous, address(last)).unwrap());
            }
            let refused = room.admit(&Caller::Anonymous, address(last)).unwrap_err();
            assert_eq!(refused, if last < 9 { Refusal::StreamsFull } else { Refusal::Overloaded });
        }
        assert_eq!(room.admit(&Caller::Anonymous, address(10)).unwrap_err(), Refusal::Overloaded);
        held.pop();
        assert!(room.admit(&Caller::Anonymous, address(10)).is_ok());
        held.clear();
        let taken = room.lock();
        assert_eq!((taken.total, taken.by_holder.len()), (0, 0));
    }
}
