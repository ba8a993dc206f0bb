//! The buffer of one response stream, between the code that writes messages and the one connection that sends
//! them. It is bounded: lossy messages are dropped when the reader lags, while others are kept. In versions
//! with sessions, some sent messages are kept too, so that a client that lost its connection can resume.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// How many unread messages the buffer may hold before it drops lossy ones.
const UNREAD_MAX: usize = 64;
/// How many unread bytes the buffer may hold before it drops lossy messages.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// How many sent messages are kept for a client that resumes.
const REPLAY_MAX: usize = 32;
/// How many bytes of sent messages are kept for a client that resumes.
const REPLAY_BYTES_MAX: usize = 64 << 10;

/// The buffered messages of one stream.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    /// The stream's number within its session; 0 for a stream that cannot be resumed.
    pub(crate) number: u64,
    /// Whether sent messages are kept for a client that resumes.
    is_resumable: bool,
    inner: Mutex<BufferInner>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct BufferInner {
    messages: VecDeque<Bytes>,
    /// The index, within the stream, of the first message in `messages`.
    first_index: u64,
    /// The index, within the stream, of the first message that no reader has read.
    first_unread: u64,
    bytes: usize,
    unread_bytes: usize,
    is_ended: bool,
    reader: u64,
}

/// The result of reading at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadResult {
    /// A message and its index within the stream.
    Message(u64, Bytes),
    /// No message at this position yet.
    Nothing,
    /// The stream has ended.
    End,
    /// Another connection reads this stream now.
    TakenOver,
}

impl EventBuffer {
    /// A stream that keeps messages only until they are sent.
    pub(crate) fn non_resumable() -> Self {
        Self::new(0, false)
    }

    /// A stream that keeps sent messages within [`REPLAY_MAX`] and [`REPLAY_BYTES_MAX`], so that a client can
    /// resume it. `number` identifies the stream within its session.
    pub(crate) fn resumable(number: u64) -> Self {
        Self::new(number, true)
    }

    fn new(number: u64, is_resumable: bool) -> Self {
        Self { number, is_resumable, inner: Mutex::default(), notify: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BufferInner> {
        self.inner.lock()
    }

    /// Adds a message that may be dropped. Returns false if it was dropped.
    pub(crate) fn push_lossy(&self, message: Bytes) -> bool {
        {
            let mut inner = self.lock();
            let unread_count = inner.first_index + inner.messages.len() as u64 - inner.first_unread;
            if inner.is_ended
                || unread_count >= UNREAD_MAX as u64
                || inner.unread_bytes + message.len() > UNREAD_BYTES_MAX
            {
                return false;
            }
            inner.add(message);
        }
        self.notify.notify_one();
        true
    }

    /// Adds a message that must not be dropped. Returns false if the stream has ended.
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

    /// Ends the stream, after `last` if given. Has no effect on a stream that has ended.
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

    /// Starts reading at index `index`, or at the first kept message after it. The previous reader gets
    /// [`ReadResult::TakenOver`].
    pub(crate) fn attach(&self, index: u64) -> ReadPosition {
        let mut inner = self.lock();
        inner.reader += 1;
        let position = ReadPosition { reader: inner.reader, index: index.max(inner.first_index) };
        drop(inner);
        self.notify.notify_one();
        position
    }

    /// Reads the message at the reader's position and advances the position.
    pub(crate) fn next(&self, position: &mut ReadPosition) -> ReadResult {
        let mut inner = self.lock();
        if inner.reader != position.reader {
            drop(inner);
            // This reader consumed a wake-up that was meant for the new reader, so it is passed on.
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

    /// True if the stream has ended or holds a message.
    pub(crate) fn has_pending(&self) -> bool {
        let inner = self.lock();
        inner.is_ended || !inner.messages.is_empty()
    }

    /// Waits for a notification. It may be spurious, so the caller must read again.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// The position of one reader in the stream.
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

    /// Removes sent messages, except those that a resuming client may need.
    fn trim(&mut self, is_resumable: bool) {
        while self.first_index < self.first_unread {
            let sent = usize::try_from(self.first_unread - self.first_index).unwrap_or(usize::MAX);
            let sent_bytes = self.bytes - self.unread_bytes;
            let within = sent <= REPLAY_MAX && sent_bytes <= REPLAY_BYTES_MAX;
            // The last sent message is kept at any size, because it may be the answer.
            if is_resumable && (within || sent <= 1) {
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
