//! A client's session, in the versions up to 2025-11-25. An idle session takes a few hundred bytes and no
//! task. Streams, subscriptions and requests take memory only while they exist. `session_table` decides who
//! may use a session.

pub(crate) mod session_table;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use vmcp_domain::{
    Caller, Change, ClientCapabilities, ClientHandle, ClientKey, LogLevel, ProtocolVersion, ToolList,
};

use crate::http::event_buffer::EventBuffer;
use crate::request::admission::CallerHash;
use crate::request::changes::{ChangeDispatcher, ListChangeFilter, ListVersions, PendingChanges};
use crate::request::in_flight::{InFlightRequests, PendingQuestions};
use crate::request::message_sender::MessageSender;
pub(crate) use crate::sessions::session_table::SessionTable;

/// The maximum number of streams of a session that have no connection.
const DETACHED_STREAMS_MAX: usize = 4;
/// How long a stream without a connection waits for the client to resume it, in milliseconds.
const DETACHED_STREAM_MS_MAX: u64 = 60_000;

/// The client that opens a session, with the negotiated version and its capabilities.
#[derive(Clone, Debug)]
pub(crate) struct SessionClient {
    pub(crate) caller: Caller,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: ClientCapabilities,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    key: u128,
    /// The caller that the session counts for, in the limit of sessions per caller.
    owner: CallerHash,
    pub(crate) caller: Caller,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: Arc<ClientCapabilities>,
    /// When the session table was created. Times in milliseconds are relative to it.
    epoch: Instant,
    /// When the session was last used, in milliseconds since `epoch`.
    last_used_ms: AtomicU64,
    /// The number of requests and streams that use the session now.
    active_uses: AtomicU32,
    log_level: AtomicU8,
    pub(crate) in_flight: Arc<InFlightRequests>,
    pub(crate) questions: PendingQuestions,
    /// The list of tools that the session keeps, if lists are frozen.
    frozen_tools: OnceLock<Arc<ToolList>>,
    state: Mutex<SessionState>,
}

#[derive(Debug, Default)]
struct SessionState {
    is_ended: bool,
    /// Created on first use and dropped when the session ends.
    client_handle: Option<ClientHandle>,
    last_stream_number: u64,
    seen_versions: ListVersions,
    pending_changes: Option<Arc<PendingChanges>>,
    streams: VecDeque<SessionStream>,
}

/// A stream of the session, either connected or waiting to be resumed.
#[derive(Debug)]
struct SessionStream {
    buffer: Arc<EventBuffer>,
    /// The task of the call that writes the stream; `None` for a standalone stream.
    task: Option<AbortHandle>,
    detached_at_ms: Option<u64>,
}

impl SessionStream {
    fn end(&self) {
        self.buffer.end(None);
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Session {
    pub(crate) fn new(
        (key, owner): (u128, CallerHash),
        client: SessionClient,
        seen_versions: ListVersions,
        epoch: Instant,
    ) -> Self {
        let SessionClient { caller, version, capabilities } = client;
        Self {
            key,
            owner,
            epoch,
            caller,
            version,
            capabilities: Arc::new(capabilities),
            last_used_ms: AtomicU64::new(ms_since(epoch)),
            active_uses: AtomicU32::new(0),
            log_level: AtomicU8::new(level_index(LogLevel::Info)),
            in_flight: Arc::default(),
            questions: PendingQuestions::default(),
            frozen_tools: OnceLock::new(),
            state: Mutex::new(SessionState { seen_versions, ..SessionState::default() }),
        }
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// The key that identifies the client of this session. After the end of the session, a new key that no
    /// other client has.
    pub(crate) fn client_key(&self) -> ClientKey {
        let mut state = self.state();
        if state.is_ended {
            return ClientHandle::default().key();
        }
        state.client_handle.get_or_insert_default().key()
    }

    /// The minimum level of log messages that the client wants.
    pub(crate) fn log_level(&self) -> LogLevel {
        let index = usize::from(self.log_level.load(Ordering::Relaxed));
        LogLevel::ALL.get(index).copied().unwrap_or(LogLevel::Info)
    }

    /// Sets the minimum level of log messages that the client wants.
    pub(crate) fn set_log_level(&self, level: LogLevel) {
        self.log_level.store(level_index(level), Ordering::Relaxed);
    }

    /// The watched resources and pending changes of the client, created on first use.
    pub(crate) fn pending_changes(&self, changes: &Arc<ChangeDispatcher>) -> Arc<PendingChanges> {
        let mut state = self.state();
        let client = state.client_handle.get_or_insert_default().key();
        let pending = state
            .pending_changes
            .get_or_insert_with(|| PendingChanges::new(changes, &self.caller, Some(client)));
        Arc::clone(pending)
    }

    /// The list of tools that the session keeps, or `list`, which it keeps from now on if it `is_complete`.
    pub(crate) fn keep_tools(&self, list: Arc<ToolList>, is_complete: bool) -> Arc<ToolList> {
        match self.frozen_tools.get() {
            Some(frozen) => Arc::clone(frozen),
            None if is_complete => Arc::clone(self.frozen_tools.get_or_init(|| list)),
            None => list,
        }
    }

    /// The lists of whose changes the client is notified.
    pub(crate) fn list_filter(&self) -> ListChangeFilter {
        ListChangeFilter { tools: self.frozen_tools.get().is_none(), ..ListChangeFilter::ALL }
    }

    /// Takes the list changes that the client has not been notified of.
    pub(crate) fn take_list_changes(&self, now: ListVersions) -> Vec<Change> {
        let filter = self.list_filter();
        self.state().seen_versions.advance_to(now, filter)
    }

    /// Creates the buffer of a stream that the client can resume.
    pub(crate) fn new_stream(&self) -> Arc<EventBuffer> {
        let mut state = self.state();
        state.last_stream_number += 1;
        Arc::new(EventBuffer::resumable(state.last_stream_number))
    }

    /// Adds a stream, so that the client can resume it. `task` is the call that writes it. If the session has
    /// ended, the stream ends at once.
    pub(crate) fn add_stream(&self, buffer: &Arc<EventBuffer>, task: Option<AbortHandle>) {
        let stream = SessionStream { buffer: Arc::clone(buffer), task, detached_at_ms: None };
        let mut state = self.state();
        if state.is_ended {
            stream.end();
        } else {
            state.streams.push_back(stream);
        }
    }

    /// Removes a stream that has ended.
    pub(crate) fn remove_stream(&self, buffer: &Arc<EventBuffer>) {
        let mut state = self.state();
        state.streams.retain(|stream| !Arc::ptr_eq(&stream.buffer, buffer));
        state.streams.shrink_to_fit();
    }

    /// Records that the connection of a stream is gone, so that the client can resume it for a while. If too
    /// many streams have no connection, the oldest of them ends.
    pub(crate) fn detach_stream(&self, buffer: &Arc<EventBuffer>) {
        let now = ms_since(self.epoch);
        let mut state = self.state();
        for stream in &mut state.streams {
            if Arc::ptr_eq(&stream.buffer, buffer) {
                stream.detached_at_ms = Some(now);
            }
        }
        let left = state.streams.iter().filter(|stream| stream.detached_at_ms.is_some());
        if left.count() > DETACHED_STREAMS_MAX
            && let Some(oldest) = state.streams.iter().position(|stream| stream.detached_at_ms.is_some())
            && let Some(stream) = state.streams.remove(oldest)
        {
            stream.end();
        }
    }

    /// Finds the stream of the event `event_id`, for a client that resumes it. Returns the buffer, the index
    /// of the next event, and whether the stream is standalone.
    pub(crate) fn resume_stream(&self, event_id: &str) -> Option<(Arc<EventBuffer>, u64, bool)> {
        let (number, index) = event_id.split_once('-')?;
        let (number, index): (u64, u64) = (number.parse().ok()?, index.parse().ok()?);
        let mut state = self.state();
        let stream = state.streams.iter_mut().find(|stream| stream.buffer.number == number)?;
        stream.detached_at_ms = None;
        Some((Arc::clone(&stream.buffer), index.saturating_add(1), stream.task.is_none()))
    }

    /// A sender for a connected standalone stream, which can carry a question outside a request.
    pub(crate) fn standalone_sender(&self) -> Option<MessageSender> {
        let state = self.state();
        let stream =
            state.streams.iter().find(|stream| stream.task.is_none() && stream.detached_at_ms.is_none())?;
        Some(MessageSender::Stream(Arc::clone(&stream.buffer)))
    }

    fn has_detached_streams(&self) -> bool {
        self.state().streams.iter().any(|stream| stream.detached_at_ms.is_some())
    }

    /// Ends streams that the client did not resume in time.
    fn sweep(&self, now_ms: u64) {
        let mut state = self.state();
        state.streams.retain(|stream| {
            let stays = stream
                .detached_at_ms
                .is_none_or(|left| now_ms.saturating_sub(left) <= DETACHED_STREAM_MS_MAX);
            if !stays {
                stream.end();
            }
            stays
        });
    }

    /// Ends the session: its requests, unanswered questions, subscriptions and streams.
    pub(crate) fn end(&self) {
        let streams = {
            let mut state = self.state();
            state.is_ended = true;
            state.pending_changes = None;
            state.client_handle = None;
            std::mem::take(&mut state.streams)
        };
        self.in_flight.cancel_all();
        self.questions.close_all();
        for stream in streams {
            stream.end();
        }
    }
}

fn ms_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn level_index(level: LogLevel) -> u8 {
    let index = LogLevel::ALL.iter().position(|each| *each == level);
    index.and_then(|index| u8::try_from(index).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
