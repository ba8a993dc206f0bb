//! The messages of one response stream between those who write them and the one connection that sends them.
//! Bounded: what may be lost is dropped when the reader lags, what must arrive is kept. In the session era what was
//! sent is kept for a while too, so that a client that lost its connection can go on where it broke off.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// How many messages that may be lost wait for a reader that lags.
const UNREAD_MAX: usize = 64;
/// How many bytes of them wait.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// How many messages that were sent are kept for a client that comes back.
const REPLAY_MAX: usize = 32;
/// How many bytes of them are kept.
const REPLAY_BYTES_MAX: usize = 64 << 10;

/// One stream's messages.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    /// The stream's number within its session.
    pub(crate) number: u64,
    /// Whether what was sent is kept.
    is_resumable: bool,
    inner: Mutex<BufferInner>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct BufferInner {
    messages: VecDeque<Bytes>,
    /// The place of the first message kept.
    first_index: u64,
    /// The place of the first message nobody has read.
    first_unread: u64,
    bytes: usize,
    unread_bytes: usize,
    is_ended: bool,
    reader: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadResult {
    /// The message at a place.
    Message(u64, Bytes),
    /// Nothing yet.
    Nothing,
    /// The end.
    End,
    /// Another connection reads this stream now.
    TakenOver,
}

impl EventBuffer {
    /// A stream whose messages are kept only until they are sent.
    pub(crate) fn non_resumable() -> Self {
        Self::new(0, false)
    }

    /// A stream that can be resumed within bounds.
    pub(crate) fn resumable(number: u64) -> Self {
        Self::new(number, true)
    }

    fn new(number: u64, replays: bool) -> Self {
        Self { number, is_resumable: replays, inner: Mutex::default(), notify: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BufferInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message that may be lost. False when it was.
    pub(crate) fn push_lossy(&self, message: Bytes) -> bool {
        {
            let mut inner = self.lock();
            let waiting = inner.first_index + inner.messages.len() as u64 - inner.first_unread;
            if inner.is_ended
                || waiting >= UNREAD_MAX as u64
                || inner.unread_bytes + message.len() > UNREAD_BYTES_MAX
            {
                return false;
            }
            inner.add(message);
        }
        self.notify.notify_one();
        true
    }

    /// Adds a message that must arrive. False when the stream has ended.
    pub(crate) fn push(&self, message: Bytes) -> bool {
        {
            let mut inner = self.lock();
            if inner.is_ended {
                return false;
            }
            inner.add(message);
        }
        self.notify.notify_one();
        true
    }

    /// Ends the stream, with a last message if there is one.
    pub(crate) fn end(&self, last: Option<Bytes>) {
        {
            let mut inner = self.lock();
            if inner.is_ended {
                return;
            }
            if let Some(last) = last {
                inner.add(last);
            }
            inner.is_ended = true;
        }
        self.notify.notify_one();
    }

    /// Starts reading at `place`, or at the first message still kept after it; whoever read before is sent away.
    pub(crate) fn attach(&self, place: u64) -> ReadPosition {
        let mut inner = self.lock();
        inner.reader += 1;
        let position = ReadPosition { reader: inner.reader, index: place.max(inner.first_index) };
        drop(inner);
        self.notify.notify_one();
        position
    }

    /// What stands at the reader's position.
    pub(crate) fn next(&self, position: &mut ReadPosition) -> ReadResult {
        let mut inner = self.lock();
        if inner.reader != position.reader {
            drop(inner);
            // The wake-up was the new reader's.
            self.notify.notify_one();
            return ReadResult::TakenOver;
        }
        position.index = position.index.max(inner.first_index);
        let place = position.index;
        let index = usize::try_from(place - inner.first_index).unwrap_or(usize::MAX);
        let Some(message) = inner.messages.get(index).cloned() else {
            return if inner.is_ended { ReadResult::End } else { ReadResult::Nothing };
        };
        position.index += 1;
        if place >= inner.first_unread {
            inner.first_unread = position.index;
            inner.unread_bytes -= message.len();
        }
        inner.trim(self.is_resumable);
        ReadResult::Message(place, message)
    }

    /// True when something is there to be read, or the end is.
    pub(crate) fn has_pending(&self) -> bool {
        let inner = self.lock();
        inner.is_ended || !inner.messages.is_empty()
    }

    /// Waits until there may be something new.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// Where one reader is.
#[derive(Debug)]
pub(crate) struct ReadPosition {
    reader: u64,
    index: u64,
}

impl BufferInner {
    fn add(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.unread_bytes += message.len();
        self.messages.push_back(message);
    }

    /// Lets go of messages that were sent and need not be kept.
    fn trim(&mut self, replays: bool) {
        while self.first_index < self.first_unread {
            let sent = usize::try_from(self.first_unread - self.first_index).unwrap_or(usize::MAX);
            let sent_bytes = self.bytes - self.unread_bytes;
            let within = sent <= REPLAY_MAX && sent_bytes <= REPLAY_BYTES_MAX;
            // The last message is kept whatever its size: it may be the answer.
            if replays && (within || sent <= 1) {
                return;
            }
            let Some(message) = self.messages.pop_front() else {
                return;
            };
            self.bytes -= message.len();
            self.first_index += 1;
        }
    }
}

#[cfg(test)]
mod tests;
