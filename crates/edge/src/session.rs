//! A client's session, as the revisions up to 2025-11-25 have it. An idle one is a few hundred bytes and no task:
//! streams, subscriptions and requests take room only while there are any. Who may use it is the table's to say.

mod serve;
mod table;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use vmcp_domain::{Caller, Change, ClientCapabilities, ClientKey, ClientLife, LogLevel, ProtocolVersion};

pub(crate) use self::serve::{answer_question, delete, hear, introduce, listen, open, request, welcome};
pub(crate) use self::table::{SessionTable, Visit};
use crate::admission::CallerNumber;
use crate::changes::{Changes, Inbox, ListCounts, Wanted};
use crate::flight::{Flights, Questions};
use crate::port::Outlet;
use crate::spool::Spool;

/// How many streams without a connection a session may have.
const LEFT_STREAMS_MAX: usize = 4;
/// How long a stream without a connection waits for the client to come back, in milliseconds.
const LEFT_STREAM_MS_MAX: u64 = 60_000;

/// Who opens a session, and how it wants to be spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) caller: Caller,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: ClientCapabilities,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    key: u128,
    /// Whose it is, for the bound on one caller's sessions.
    owner: CallerNumber,
    pub(crate) caller: Caller,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: Arc<ClientCapabilities>,
    /// When the table was made; times are told from there.
    epoch: Instant,
    /// When it was last used, in milliseconds.
    used_ms: AtomicU64,
    /// How many requests and streams are using it.
    users: AtomicU32,
    log_level: AtomicU8,
    pub(crate) flights: Arc<Flights>,
    pub(crate) questions: Questions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    /// Made for the first request, and gone with the session.
    life: Option<ClientLife>,
    serial: u64,
    told: ListCounts,
    inbox: Option<Arc<Inbox>>,
    streams: VecDeque<Stream>,
}

/// A stream of the session, connected or waiting for its client.
#[derive(Debug)]
struct Stream {
    spool: Arc<Spool>,
    /// The call that writes it; a standalone stream has none.
    task: Option<AbortHandle>,
    left_ms: Option<u64>,
}

impl Stream {
    fn end(&self) {
        self.spool.end(None);
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Session {
    pub(crate) fn new(
        (key, owner): (u128, CallerNumber),
        client: Client,
        told: ListCounts,
        epoch: Instant,
    ) -> Self {
        let Client { caller, version, capabilities } = client;
        Self {
            key,
            owner,
            epoch,
            caller,
            version,
            capabilities: Arc::new(capabilities),
            used_ms: AtomicU64::new(ms_since(epoch)),
            users: AtomicU32::new(0),
            log_level: AtomicU8::new(index_of(LogLevel::Info)),
            flights: Arc::default(),
            questions: Questions::default(),
            state: Mutex::new(State { told, ..State::default() }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands for the client of this session.
    pub(crate) fn client_key(&self) -> ClientKey {
        let mut state = self.state();
        if state.ended {
            return ClientLife::default().key();
        }
        state.life.get_or_insert_default().key()
    }

    /// The least severe log message the client wants.
    pub(crate) fn log_level(&self) -> LogLevel {
        let index = usize::from(self.log_level.load(Ordering::Relaxed));
        LogLevel::ALL.get(index).copied().unwrap_or(LogLevel::Info)
    }

    /// Sets the least severe log message the client wants.
    pub(crate) fn set_log_level(&self, level: LogLevel) {
        self.log_level.store(index_of(level), Ordering::Relaxed);
    }

    /// The resources the client watches.
    pub(crate) fn inbox(&self, changes: &Arc<Changes>) -> Arc<Inbox> {
        let mut state = self.state();
        let client = state.life.get_or_insert_default().key();
        let inbox = state.inbox.get_or_insert_with(|| Inbox::new(changes, &self.caller, Some(client)));
        Arc::clone(inbox)
    }

    /// The list changes the client has not been told of; it counts as told now.
    pub(crate) fn catch_up(&self, now: ListCounts) -> Vec<Change> {
        self.state().told.catch_up(now, Wanted::ALL)
    }

    /// A new stream that the client can come back to.
    pub(crate) fn new_stream(&self) -> Arc<Spool> {
        let mut state = self.state();
        state.serial += 1;
        Arc::new(Spool::resumable(state.serial))
    }

    /// Remembers a stream for a client that may come back to it.
    pub(crate) fn keep(&self, spool: &Arc<Spool>, task: Option<AbortHandle>) {
        let stream = Stream { spool: Arc::clone(spool), task, left_ms: None };
        let mut state = self.state();
        if state.ended {
            stream.end();
        } else {
            state.streams.push_back(stream);
        }
    }

    /// Forgets a stream that has come to its end.
    pub(crate) fn forget(&self, spool: &Arc<Spool>) {
        let mut state = self.state();
        state.streams.retain(|stream| !Arc::ptr_eq(&stream.spool, spool));
        state.streams.shrink_to_fit();
    }

    /// The connection of a stream is gone; the client may come back to it for a while.
    pub(crate) fn leave(&self, spool: &Arc<Spool>) {
        let now = ms_since(self.epoch);
        let mut state = self.state();
        for stream in &mut state.streams {
            if Arc::ptr_eq(&stream.spool, spool) {
                stream.left_ms = Some(now);
            }
        }
        let left = state.streams.iter().filter(|stream| stream.left_ms.is_some());
        if left.count() > LEFT_STREAMS_MAX
            && let Some(oldest) = state.streams.iter().position(|stream| stream.left_ms.is_some())
            && let Some(stream) = state.streams.remove(oldest)
        {
            stream.end();
        }
    }

    /// Finds the stream an event came from, for a client that comes back to it.
    pub(crate) fn resume(&self, event_id: &str) -> Option<(Arc<Spool>, u64, bool)> {
        let (number, place) = event_id.split_once('-')?;
        let (number, place): (u64, u64) = (number.parse().ok()?, place.parse().ok()?);
        let mut state = self.state();
        let stream = state.streams.iter_mut().find(|stream| stream.spool.number == number)?;
        stream.left_ms = None;
        Some((Arc::clone(&stream.spool), place.saturating_add(1), stream.task.is_none()))
    }

    /// A stream the client holds open besides its requests, to ask it something.
    pub(crate) fn standalone(&self) -> Option<Outlet> {
        let state = self.state();
        let stream = state.streams.iter().find(|stream| stream.task.is_none() && stream.left_ms.is_none())?;
        Some(Outlet::Stream(Arc::clone(&stream.spool)))
    }

    fn has_left_streams(&self) -> bool {
        self.state().streams.iter().any(|stream| stream.left_ms.is_some())
    }

    /// Lets go of streams whose client did not come back.
    fn sweep(&self, now_ms: u64) {
        let mut state = self.state();
        state.streams.retain(|stream| {
            let stays = stream.left_ms.is_none_or(|left| now_ms.saturating_sub(left) <= LEFT_STREAM_MS_MAX);
            if !stays {
                stream.end();
            }
            stays
        });
    }

    /// Ends everything that belongs to the session.
    pub(crate) fn end(&self) {
        let streams = {
            let mut state = self.state();
            state.ended = true;
            state.inbox = None;
            state.life = None;
            std::mem::take(&mut state.streams)
        };
        self.flights.cancel_all();
        self.questions.close_all();
        for stream in streams {
            stream.end();
        }
    }
}

fn ms_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn index_of(level: LogLevel) -> u8 {
    let place = LogLevel::ALL.iter().position(|each| *each == level);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
