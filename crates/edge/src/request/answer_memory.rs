//! Limits the memory of large answers that clients have not read yet, over all clients and for each caller. A
//! caller that reads nothing uses up only its own share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmcp_wire::code;
use vmcp_wire::jsonrpc::{Id, RpcError};

use crate::http::response::Answer;
use crate::request::admission::{CallerCountSketch, CallerHash};
use crate::request::memory_permit::{AnswerMemory, MemoryPermit};

/// Answers up to this size, in bytes, do not count.
pub(crate) const UNCOUNTED_BYTES_MAX: usize = 64 << 10;
/// The unit in which bytes are counted for a caller. A caller's counter has 32 bits.
const UNIT_BYTES: usize = 1 << 10;

impl AnswerMemory {
    /// Allows `bytes_max` bytes for all callers together and `per_caller_max` bytes for one caller.
    pub(crate) fn new(bytes_max: usize, per_caller_max: usize) -> Arc<Self> {
        let callers = CallerCountSketch::new(per_caller_max / UNIT_BYTES);
        Arc::new(Self { bytes_left: AtomicUsize::new(bytes_max), callers })
    }

    /// Attaches a memory permit to the answer. If no memory is left, returns an error that says that the
    /// request was executed but its answer was dropped.
    pub(crate) fn charge(self: &Arc<Self>, caller: CallerHash, id: &Id, answer: Answer) -> Answer {
        let bytes = answer.message.len();
        if bytes <= UNCOUNTED_BYTES_MAX {
            return answer;
        }
        match self.acquire(caller, bytes) {
            Some(permit) => {
                let message = answer.message.with_permit(&Arc::new(permit));
                Answer { message, ..answer }
            }
            None => {
                tracing::warn!(
                    bytes,
                    "an answer was dropped: its caller has too many bytes of answers to read"
                );
                let text = format!(
                    "the request was done, but its answer of {bytes} bytes was dropped: too many bytes of answers \
                     wait to be read by this caller; read them before asking for more"
                );
                Answer::error(503, Some(id), &RpcError::new(code::INTERNAL_ERROR, text))
            }
        }
    }

    fn acquire(self: &Arc<Self>, caller: CallerHash, bytes: usize) -> Option<MemoryPermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let caller_permit = self.callers.acquire(caller, units)?;
        let take = |left: usize| left.checked_sub(bytes);
        self.bytes_left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()?;
        Some(MemoryPermit { memory: Arc::clone(self), bytes, caller_permit })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;
    use vmcp_domain::Caller;

    use super::*;
    use crate::http::response::MessageBytes;

    fn answer(bytes: usize) -> Answer {
        Answer::result(MessageBytes::whole(vec![b'x'; bytes]))
    }

    fn caller(last: u8) -> CallerHash {
        CallerHash::of(&Caller::Anonymous, Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn what_one_caller_leaves_unread_takes_nothing_from_another() {
        let memory = AnswerMemory::new(10 << 20, 2 << 20);
        let id = Id::number(1);
        let hold = |last: u8, bytes: usize| memory.charge(caller(last), &id, answer(bytes));
        let unread: Vec<Answer> = (0..2).map(|_| hold(1, 1 << 20)).collect();
        let dropped = hold(1, 1 << 20);
        assert_eq!(dropped.status, 503);
        let text = String::from_utf8(dropped.message.into_bytes().to_vec()).unwrap();
        assert!(text.contains("answer of 1048576 bytes was dropped"), "{text}");
        // Small answers and other callers are not affected.
        assert_eq!((hold(1, 1000).status, hold(2, 1 << 20).status), (200, 200));
        // The permit is released only when the last slice of the answer is dropped.
        let bodies: Vec<Bytes> = unread.into_iter().map(|answer| answer.message.into_bytes()).collect();
        let slice = bodies[0].slice(10..20);
        drop(bodies);
        assert_eq!(hold(1, 1 << 20).status, 200);
        assert_eq!(hold(1, 2 << 20).status, 503);
        drop(slice);
        assert_eq!(memory.bytes_left.load(Ordering::Relaxed), 10 << 20);
    }
}
