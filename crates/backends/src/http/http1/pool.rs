//! Kept connections to one origin. The one used last is used next, so that those that are too many grow old and are
//! closed. A connection is used again on the thread that made it, whose runtime hears what happens on it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::sync::UnpoisonedMutex;

/// The most idle connections kept by one thread.
const IDLE_PER_THREAD_MAX: usize = 256;
/// How much room is made for what is read next: for small answers little, so that many calls under way stay in the
/// processor's memory; never less, never more.
const READ_BYTES_MIN: usize = 1 << 10;
const READ_BYTES_MAX: usize = 16 << 10;

/// A connection, and what has been read of it and not yet used.
#[derive(Debug)]
pub(super) struct Http1Connection {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    /// How much the next read may bring, after what the ones before have brought.
    read_size: usize,
    idle_since: Instant,
    /// The thread whose runtime hears what happens on it, by its number.
    thread_index: usize,
}

/// What the other side has said without being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryRead {
    WouldBlock,
    Data,
    /// It has hung up, or the connection is broken.
    Closed,
}

impl Http1Connection {
    /// A connection that was made on this thread.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            read_size: READ_BYTES_MIN,
            idle_since: Instant::now(),
            thread_index: thread_index(),
        }
    }

    /// Reads something; 0 is the end.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(self.read_size);
        let room = self.input.capacity() - self.input.len();
        let read = self.stream.read_buf(&mut self.input).await?;
        if read == room {
            self.read_size = (self.read_size * 4).min(READ_BYTES_MAX);
        } else if read < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(READ_BYTES_MIN);
        }
        Ok(read)
    }

    /// Reads what is there already.
    pub(super) fn try_read(&mut self) -> TryRead {
        self.input.reserve(READ_BYTES_MIN);
        match self.stream.try_read_buf(&mut self.input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => TryRead::WouldBlock,
            Ok(0) | Err(_) => TryRead::Closed,
            Ok(_) => TryRead::Data,
        }
    }
}

/// The connections that are idle.
#[derive(Debug)]
pub(super) struct Pool {
    idle: UnpoisonedMutex<Idle>,
    idle_timeout: Duration,
    weak_self: Weak<Self>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those of each thread, by its number.
    connections: Vec<Vec<Http1Connection>>,
    /// Somebody closes those that grow old.
    has_sweeper: bool,
}

impl Idle {
    /// Those of one thread.
    fn of_thread(&mut self, owner: usize) -> Option<&mut Vec<Http1Connection>> {
        if self.connections.len() <= owner {
            self.connections.resize_with(owner + 1, Vec::new);
        }
        self.connections.get_mut(owner)
    }
}

/// The number of this thread among those that have asked for it.
fn thread_index() -> usize {
    thread_local! {
        static NUMBER: usize = {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            NEXT.fetch_add(1, Ordering::Relaxed)
        };
    }
    NUMBER.with(|number| *number)
}

impl Pool {
    pub(super) fn new(idle_wait: Duration) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            idle: UnpoisonedMutex::default(),
            idle_timeout: idle_wait,
            weak_self: own.clone(),
        })
    }

    /// A connection that is open, as far as anybody can tell.
    pub(super) fn take_idle(&self) -> Option<Http1Connection> {
        loop {
            let mut connection = self.idle.lock().of_thread(thread_index())?.pop()?;
            if connection.idle_since.elapsed() < self.idle_timeout
                && connection.try_read() == TryRead::WouldBlock
            {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection on which nothing is under way, for the thread that made it.
    pub(super) fn return_idle(&self, mut connection: Http1Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        let Some(own) = idle.of_thread(connection.thread_index).filter(|own| own.len() < IDLE_PER_THREAD_MAX)
        else {
            return;
        };
        own.push(connection);
        if !idle.has_sweeper {
            idle.has_sweeper = true;
            drop(idle);
            tokio::spawn(sweep(Weak::clone(&self.weak_self), self.idle_timeout));
        }
    }

    /// Closes what is too old. False when nothing is left to be closed later.
    fn close_expired(&self) -> bool {
        let mut idle = self.idle.lock();
        let mut old = Vec::new();
        for own in &mut idle.connections {
            // Whoever was put back last stands last.
            let young = own.iter().position(|one| one.idle_since.elapsed() < self.idle_timeout);
            old.extend(own.drain(..young.unwrap_or(own.len())));
        }
        idle.has_sweeper = idle.connections.iter().any(|own| !own.is_empty());
        let goes_on = idle.has_sweeper;
        drop(idle);
        drop(old);
        goes_on
    }
}

/// Closes connections as they grow old, until there are none.
async fn sweep(pool: Weak<Pool>, idle_wait: Duration) {
    loop {
        sleep(idle_wait / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_expired()) {
            return;
        }
    }
}
