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

use crate::sync::Guarded;

/// The most idle connections kept by one thread.
const IDLE_MAX: usize = 256;
/// How much room is made for what is read next: for small answers little, so that many calls under way stay in the
/// processor's memory; never less, never more.
const READ_BYTES_MIN: usize = 1 << 10;
const READ_BYTES_MAX: usize = 16 << 10;

/// A connection, and what has been read of it and not yet used.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    /// How much the next read may bring, after what the ones before have brought.
    room: usize,
    idle_since: Instant,
    /// The thread whose runtime hears what happens on it, by its number.
    owner: usize,
}

/// What the other side has said without being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Something,
    /// It has hung up, or the connection is broken.
    End,
}

impl Connection {
    /// A connection that was made on this thread.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            room: READ_BYTES_MIN,
            idle_since: Instant::now(),
            owner: number(),
        }
    }

    /// Reads something; 0 is the end.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(self.room);
        let room = self.input.capacity() - self.input.len();
        let read = self.stream.read_buf(&mut self.input).await?;
        if read == room {
            self.room = (self.room * 4).min(READ_BYTES_MAX);
        } else if read < self.room / 8 {
            self.room = (self.room / 2).max(READ_BYTES_MIN);
        }
        Ok(read)
    }

    /// Reads what is there already.
    pub(super) fn hear(&mut self) -> Heard {
        self.input.reserve(READ_BYTES_MIN);
        match self.stream.try_read_buf(&mut self.input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Ok(0) | Err(_) => Heard::End,
            Ok(_) => Heard::Something,
        }
    }
}

/// The connections that are idle.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Guarded<Idle>,
    idle_wait: Duration,
    own: Weak<Self>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those of each thread, by its number.
    connections: Vec<Vec<Connection>>,
    /// Somebody closes those that grow old.
    swept: bool,
}

impl Idle {
    /// Those of one thread.
    fn of(&mut self, owner: usize) -> Option<&mut Vec<Connection>> {
        if self.connections.len() <= owner {
            self.connections.resize_with(owner + 1, Vec::new);
        }
        self.connections.get_mut(owner)
    }
}

/// The number of this thread among those that have asked for it.
fn number() -> usize {
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
        Arc::new_cyclic(|own| Self { idle: Guarded::default(), idle_wait, own: own.clone() })
    }

    /// A connection that is open, as far as anybody can tell.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().of(number())?.pop()?;
            if connection.idle_since.elapsed() < self.idle_wait && connection.hear() == Heard::Nothing {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection on which nothing is under way, for the thread that made it.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        let Some(own) = idle.of(connection.owner).filter(|own| own.len() < IDLE_MAX) else { return };
        own.push(connection);
        if !idle.swept {
            idle.swept = true;
            drop(idle);
            tokio::spawn(sweep(Weak::clone(&self.own), self.idle_wait));
        }
    }

    /// Closes what is too old. False when nothing is left to be closed later.
    fn close_old(&self) -> bool {
        let mut idle = self.idle.lock();
        let mut old = Vec::new();
        for own in &mut idle.connections {
            // Whoever was put back last stands last.
            let young = own.iter().position(|one| one.idle_since.elapsed() < self.idle_wait);
            old.extend(own.drain(..young.unwrap_or(own.len())));
        }
        idle.swept = idle.connections.iter().any(|own| !own.is_empty());
        let goes_on = idle.swept;
        drop(idle);
        drop(old);
        goes_on
    }
}

/// Closes connections as they grow old, until there are none.
async fn sweep(pool: Weak<Pool>, idle_wait: Duration) {
    loop {
        sleep(idle_wait / 4).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}
