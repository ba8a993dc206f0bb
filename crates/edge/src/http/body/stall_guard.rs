//! Drops HTTP/2 answers that their clients do not read. An HTTP/2 client may open a stream and give it no
//! flow-control window; over HTTP/1 the connection's write time-out covers this case. If an answer makes no
//! progress for too long, its rest is dropped and its stream ends with an error.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Answers up to this size, in bytes, fit into the initial window of a stream and are not tracked.
const UNTRACKED_BYTES_MAX: usize = 8 << 10;
/// The largest piece handed to hyper at a time, in bytes, so that the rest can still be dropped. It equals
/// HTTP/2's smallest maximum frame size.
const FRAME_BYTES: usize = 16 << 10;

/// The error that ends a body when its rest was dropped because the client read nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client has taken nothing of the answer for too long")
    }
}

impl std::error::Error for Stalled {}

/// Tracks large answers and drops those without progress.
#[derive(Debug)]
pub(crate) struct StallGuard {
    stall_max: Duration,
    epoch: Instant,
    tracked: Mutex<Vec<Weak<TrackedAnswer>>>,
}

/// The part of one answer that has not been handed to hyper.
#[derive(Debug)]
pub(crate) struct TrackedAnswer {
    epoch: Instant,
    progressed_at_ms: AtomicU64,
    /// `None` once the rest has been dropped.
    remaining: Mutex<Option<VecDeque<Bytes>>>,
}

impl StallGuard {
    pub(crate) fn new(stall_max: Duration) -> Self {
        Self { stall_max, epoch: Instant::now(), tracked: Mutex::default() }
    }

    /// Tracks an answer; `None` if it has at most [`UNTRACKED_BYTES_MAX`] bytes.
    pub(crate) fn track(&self, pieces: &[Bytes; 3]) -> Option<Arc<TrackedAnswer>> {
        if pieces.iter().map(Bytes::len).sum::<usize>() <= UNTRACKED_BYTES_MAX {
            return None;
        }
        let remaining = pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect();
        let tracked = Arc::new(TrackedAnswer {
            epoch: self.epoch,
            progressed_at_ms: AtomicU64::new(ms_since(self.epoch)),
            remaining: Mutex::new(Some(remaining)),
        });
        self.list().push(Arc::downgrade(&tracked));
        Some(tracked)
    }

    /// Drops the rest of answers without progress for `stall_max`, and forgets answers that have been sent.
    pub(crate) fn sweep(&self) {
        let now = ms_since(self.epoch);
        let wait = u64::try_from(self.stall_max.as_millis()).unwrap_or(u64::MAX);
        let mut given_up = 0_usize;
        self.list().retain(|tracked| {
            let Some(tracked) = tracked.upgrade() else { return false };
            let stalled = now.saturating_sub(tracked.progressed_at_ms.load(Ordering::Relaxed)) > wait;
            if stalled && tracked.remaining().take().is_some() {
                given_up += 1;
            }
            !stalled
        });
        if given_up > 0 {
            tracing::debug!(count = given_up, "gave up answers that their clients do not take");
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Weak<TrackedAnswer>>> {
        self.tracked.lock()
    }
}

impl TrackedAnswer {
    fn remaining(&self) -> MutexGuard<'_, Option<VecDeque<Bytes>>> {
        self.remaining.lock()
    }

    /// The next piece, of at most [`FRAME_BYTES`] bytes; `None` at the end.
    pub(crate) fn next(&self) -> Option<Result<Bytes, Stalled>> {
        self.progressed_at_ms.store(ms_since(self.epoch), Ordering::Relaxed);
        let mut remaining = self.remaining();
        let Some(remaining) = &mut *remaining else { return Some(Err(Stalled)) };
        let front = remaining.front_mut()?;
        // A copy: hyper keeps each piece until the window opens, and a slice would keep the whole answer
        // alive.
        let frame = Bytes::copy_from_slice(front.get(..FRAME_BYTES.min(front.len())).unwrap_or_default());
        front.advance(frame.len());
        if front.is_empty() {
            remaining.pop_front();
        }
        Some(Ok(frame))
    }

    /// How many bytes remain; `None` once the rest has been dropped.
    pub(crate) fn len(&self) -> Option<usize> {
        self.remaining().as_ref().map(|remaining| remaining.iter().map(Bytes::len).sum())
    }
}

fn ms_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: usize) -> [Bytes; 3] {
        [Bytes::from(vec![b'a'; bytes]), Bytes::from_static(b"bc"), Bytes::new()]
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_moves_is_sent_whole() {
        let guard = StallGuard::new(Duration::from_secs(60));
        assert!(guard.track(&pieces(100)).is_none());
        let tracked = guard.track(&pieces(40_000)).unwrap();
        let mut sent = Vec::new();
        while let Some(piece) = tracked.next() {
            sent.extend_from_slice(&piece.unwrap());
            tokio::time::advance(Duration::from_secs(50)).await;
            guard.sweep();
        }
        assert_eq!((sent.len(), tracked.len()), (40_002, Some(0)));
        drop(tracked);
        guard.sweep();
        assert!(guard.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stands_still_is_dropped() {
        let guard = StallGuard::new(Duration::from_secs(60));
        let tracked = guard.track(&pieces(40_000)).unwrap();
        tracked.next();
        tokio::time::advance(Duration::from_secs(61)).await;
        guard.sweep();
        assert_eq!((tracked.len(), tracked.next()), (None, Some(Err(Stalled))));
        assert!(guard.list().is_empty());
    }
}
