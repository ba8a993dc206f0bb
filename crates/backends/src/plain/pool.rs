//! Kept connections to one origin. The one used last is used next, so that those that are too many grow old and are
//! closed. A connection is used again on the thread that made it, whose runtime hears what happens on it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::sync::Guarded;

/// The most idle connections kept by one thread.
const IDLE_MAX: usize = 256;
/// How much room is made for what is read next.
const READ_BYTES: usize = 16 << 10;

/// A connection, and what has been read of it and not yet used.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    idle_since: Instant,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), idle_since: Instant::now() }
    }

    /// Reads something; 0 is the end.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.input).await
    }

    /// True when the other side says something, or has hung up, without being asked.
    pub(super) fn has_begun(&mut self) -> bool {
        self.input.reserve(READ_BYTES);
        !matches!(self.stream.try_read_buf(&mut self.input), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
    connections: HashMap<ThreadId, Vec<Connection>>,
    /// Somebody closes those that grow old.
    swept: bool,
}

impl Pool {
    pub(super) fn new(idle_wait: Duration) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { idle: Guarded::default(), idle_wait, own: own.clone() })
    }

    /// A connection that is open, as far as anybody can tell.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().connections.get_mut(&thread::current().id())?.pop()?;
            if connection.idle_since.elapsed() < self.idle_wait && !connection.has_begun() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        let own = idle.connections.entry(thread::current().id()).or_default();
        if own.len() >= IDLE_MAX {
            return;
        }
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
        for own in idle.connections.values_mut() {
            // Whoever was put back last stands last.
            let young = own.iter().position(|one| one.idle_since.elapsed() < self.idle_wait);
            old.extend(own.drain(..young.unwrap_or(own.len())));
        }
        idle.connections.retain(|_, own| !own.is_empty());
        idle.swept = !idle.connections.is_empty();
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
