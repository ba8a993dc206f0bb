//! The pool of idle connections to one origin. The connection used last is reused first, so that surplus
//! connections expire and are closed. A connection is reused only on the thread that created it, because the
//! runtime of that thread receives its events.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Maximum number of idle connections of one thread.
const IDLE_PER_THREAD_MAX: usize = 256;
/// Minimum and maximum size of the next read, in bytes. Small answers get small buffers, so that the buffers
/// of many in-flight calls fit into the processor's cache.
const READ_BYTES_MIN: usize = 1 << 10;
const READ_BYTES_MAX: usize = 16 << 10;

/// A connection, and the input that was read and not yet used.
#[derive(Debug)]
pub(crate) struct Http1Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: BytesMut,
    /// Size of the next read in bytes, adapted to the previous reads.
    read_size: usize,
    idle_since: Instant,
    /// Index of the thread that created the connection; the runtime of that thread receives its events.
    thread_index: usize,
}

/// The outcome of a read that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TryRead {
    WouldBlock,
    Data,
    /// The peer has closed the connection, or it is broken.
    Closed,
}

impl Http1Connection {
    /// A connection that was established on the current thread.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            read_size: READ_BYTES_MIN,
            idle_since: Instant::now(),
            thread_index: thread_index(),
        }
    }

    /// Reads some bytes; 0 is the end of the stream.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(self.read_size);
        let capacity_left = self.input.capacity() - self.input.len();
        let read = self.stream.read_buf(&mut self.input).await?;
        if read == capacity_left {
            self.read_size = (self.read_size * 4).min(READ_BYTES_MAX);
        } else if read < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(READ_BYTES_MIN);
        }
        Ok(read)
    }

    /// Reads what has already arrived, without waiting.
    pub(crate) fn try_read(&mut self) -> TryRead {
        self.input.reserve(READ_BYTES_MIN);
        match self.stream.try_read_buf(&mut self.input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => TryRead::WouldBlock,
            Ok(0) | Err(_) => TryRead::Closed,
            Ok(_) => TryRead::Data,
        }
    }
}

/// The idle connections of one origin.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Idle>,
    idle_timeout: Duration,
    weak_self: Weak<Self>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The connections of each thread, by the thread's index.
    connections: Vec<Vec<Http1Connection>>,
    /// A task that closes expired connections is running.
    has_sweeper: bool,
}

impl Idle {
    /// The connections of one thread.
    fn of_thread(&mut self, thread_index: usize) -> Option<&mut Vec<Http1Connection>> {
        if self.connections.len() <= thread_index {
            self.connections.resize_with(thread_index + 1, Vec::new);
        }
        self.connections.get_mut(thread_index)
    }
}

/// The index of this thread, assigned on first use.
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
    pub(crate) fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { idle: Mutex::default(), idle_timeout, weak_self: own.clone() })
    }

    /// Takes an idle connection that appears to be open.
    pub(crate) fn take_idle(&self) -> Option<Http1Connection> {
        loop {
            let mut connection = self.idle.lock().of_thread(thread_index())?.pop()?;
            if connection.idle_since.elapsed() < self.idle_timeout
                && connection.try_read() == TryRead::WouldBlock
            {
                return Some(connection);
            }
        }
    }

    /// Returns a connection without in-flight request to the pool of the thread that created it. It is closed
    /// if that pool is full.
    pub(crate) fn return_idle(&self, mut connection: Http1Connection) {
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

    /// Closes expired connections. Returns false if no idle connection is left.
    fn close_expired(&self) -> bool {
        let mut idle = self.idle.lock();
        let mut expired = Vec::new();
        for own in &mut idle.connections {
            // The connections are in the order in which they became idle.
            let first_fresh = own.iter().position(|one| one.idle_since.elapsed() < self.idle_timeout);
            expired.extend(own.drain(..first_fresh.unwrap_or(own.len())));
        }
        idle.has_sweeper = idle.connections.iter().any(|own| !own.is_empty());
        let has_idle = idle.has_sweeper;
        drop(idle);
        drop(expired);
        has_idle
    }
}

/// Closes connections as they expire, until none is left.
async fn sweep(pool: Weak<Pool>, idle_timeout: Duration) {
    loop {
        sleep(idle_timeout / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_expired()) {
            return;
        }
    }
}
