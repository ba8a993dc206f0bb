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
pub(crate) struct Spool {
    /// The stream's number within its session.
    pub(crate) number: u64,
    /// Whether what was sent is kept.
    replays: bool,
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Bytes>,
    /// The place of the first message kept.
    first: u64,
    /// The place of the first message nobody has read.
    unread: u64,
    bytes: usize,
    unread_bytes: usize,
    ended: bool,
    reader: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The message at a place.
    Message(u64, Bytes),
    /// Nothing yet.
    Nothing,
    /// The end.
    End,
    /// Another connection reads this stream now.
    TakenOver,
}

impl Spool {
    /// A stream whose messages are kept only until they are sent.
    pub(crate) fn once() -> Self {
        Self::new(0, false)
    }

    /// A stream that can be resumed within bounds.
    pub(crate) fn resumable(number: u64) -> Self {
        Self::new(number, true)
    }

    fn new(number: u64, replays: bool) -> Self {
        Self { number, replays, inner: Mutex::default(), news: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message that may be lost. False when it was.
    pub(crate) fn offer(&self, message: Bytes) -> bool {
        {
            let mut inner = self.lock();
            let waiting = inner.first + inner.messages.len() as u64 - inner.unread;
            if inner.ended
                || waiting >= UNREAD_MAX as u64
                || inner.unread_bytes + message.len() > UNREAD_BYTES_MAX
            {
                return false;
            }
            inner.add(message);
        }
        self.news.notify_one();
        true
    }

    /// Adds a message that must arrive. False when the stream has ended.
    pub(crate) fn push(&self, message: Bytes) -> bool {
        {
            let mut inner = self.lock();
            if inner.ended {
                return false;
            }
            inner.add(message);
        }
        self.news.notify_one();
        true
    }

    /// Ends the stream, with a last message if there is one.
    pub(crate) fn end(&self, last: Option<Bytes>) {
        {
            let mut inner = self.lock();
            if inner.ended {
                return;
            }
            if let Some(last) = last {
                inner.add(last);
            }
            inner.ended = true;
        }
        self.news.notify_one();
    }

    /// Starts reading at `place`, or at the first message still kept after it; whoever read before is sent away.
    pub(crate) fn attach(&self, place: u64) -> Position {
        let mut inner = self.lock();
        inner.reader += 1;
        let position = Position { reader: inner.reader, place: place.max(inner.first) };
        drop(inner);
        self.news.notify_one();
        position
    }

    /// What stands at the reader's position.
    pub(crate) fn read(&self, position: &mut Position) -> Next {
        let mut inner = self.lock();
        if inner.reader != position.reader {
            drop(inner);
            // The wake-up was the new reader's.
            self.news.notify_one();
            return Next::TakenOver;
        }
        position.place = position.place.max(inner.first);
        let place = position.place;
        let index = usize::try_from(place - inner.first).unwrap_or(usize::MAX);
        let Some(message) = inner.messages.get(index).cloned() else {
            return if inner.ended { Next::End } else { Next::Nothing };
        };
        position.place += 1;
        if place >= inner.unread {
            inner.unread = position.place;
            inner.unread_bytes -= message.len();
        }
        inner.trim(self.replays);
        Next::Message(place, message)
    }

    /// True when something is there to be read, or the end is.
    pub(crate) fn has_news(&self) -> bool {
        let inner = self.lock();
        inner.ended || !inner.messages.is_empty()
    }

    /// Waits until there may be something new.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

/// Where one reader is.
#[derive(Debug)]
pub(crate) struct Position {
    reader: u64,
    place: u64,
}

impl Inner {
    fn add(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.unread_bytes += message.len();
        self.messages.push_back(message);
    }

    /// Lets go of messages that were sent and need not be kept.
    fn trim(&mut self, replays: bool) {
        while self.first < self.unread {
            let sent = usize::try_from(self.unread - self.first).unwrap_or(usize::MAX);
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
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests;
