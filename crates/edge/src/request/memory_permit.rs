//! The memory of unread answers, and the permit by which one answer holds a part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::request::admission::{CallerCountSketch, CallerPermit};

/// The memory that is available for unread answers.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    pub(super) bytes_left: AtomicUsize,
    pub(super) callers: Arc<CallerCountSketch>,
}

/// The memory of one answer, released when the last piece of the answer is sent or dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    pub(super) memory: Arc<AnswerMemory>,
    pub(super) bytes: usize,
    #[expect(dead_code, reason = "it is released when it is dropped")]
    pub(super) caller_permit: CallerPermit,
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.memory.bytes_left.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// A piece of an answer that holds the answer's permit.
struct PermittedBytes {
    bytes: Bytes,
    _permit: Arc<MemoryPermit>,
}

/// Makes `bytes` hold the permit of its answer.
pub(crate) fn attach_permit(bytes: Bytes, permit: &Arc<MemoryPermit>) -> Bytes {
    if bytes.is_empty() {
        bytes
    } else {
        Bytes::from_owner(PermittedBytes { bytes, _permit: Arc::clone(permit) })
    }
}

impl AsRef<[u8]> for PermittedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
