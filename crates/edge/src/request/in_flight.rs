//! The in-flight requests of one client, so that the client can cancel one by its identifier. Also the
//! unanswered questions to one client, so that an answer reaches the call that waits for it. Each client has
//! its own tables, so it cannot address requests of another client.

use std::sync::Arc;

use futures_util::future::{AbortHandle, AbortRegistration};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use vmcp_json::Json;
use vmcp_wire::jsonrpc::{Id, RpcError};

/// The maximum number of unanswered questions to one client.
const QUESTIONS_MAX: usize = 32;

/// The in-flight requests of one client.
#[derive(Debug, Default)]
pub(crate) struct InFlightRequests(Mutex<InFlightState>);

#[derive(Debug, Default)]
struct InFlightState {
    serial: u64,
    requests: Vec<(u64, Id, AbortHandle)>,
}

impl InFlightRequests {
    fn lock(&self) -> MutexGuard<'_, InFlightState> {
        self.0.lock()
    }

    /// Registers a request. It is in flight until the returned guard is dropped.
    pub(crate) fn insert(self: &Arc<Self>, id: Id) -> (AbortRegistration, InFlightGuard) {
        let (handle, registration) = AbortHandle::new_pair();
        let mut flying = self.lock();
        flying.serial += 1;
        let serial = flying.serial;
        flying.requests.push((serial, id, handle));
        let guard = InFlightGuard { requests: Arc::clone(self), serial };
        (registration, guard)
    }

    /// Aborts every in-flight request with the identifier `id`.
    pub(crate) fn cancel(&self, id: &Id) {
        for (_, flying, handle) in &self.lock().requests {
            if flying == id {
                handle.abort();
            }
        }
    }

    /// Aborts every request.
    pub(crate) fn cancel_all(&self) {
        for (_, _, handle) in &self.lock().requests {
            handle.abort();
        }
    }
}

/// Removes a request from the table when dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    requests: Arc<InFlightRequests>,
    serial: u64,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut flying = self.requests.lock();
        if let Some(index) = flying.requests.iter().position(|(serial, _, _)| *serial == self.serial) {
            flying.requests.swap_remove(index);
        }
        if flying.requests.is_empty() {
            // Frees the allocation, so that an idle session uses no memory for earlier requests.
            flying.requests = Vec::new();
        }
    }
}

/// The client's answer to a question: a result or an error.
pub(crate) type QuestionResult = Result<Json, RpcError>;

/// The unanswered questions to one client.
#[derive(Debug, Default)]
pub(crate) struct PendingQuestions(Mutex<PendingQuestionsState>);

#[derive(Debug, Default)]
struct PendingQuestionsState {
    serial: u64,
    is_closed: bool,
    senders: Vec<(u64, oneshot::Sender<QuestionResult>)>,
}

impl PendingQuestions {
    fn lock(&self) -> MutexGuard<'_, PendingQuestionsState> {
        self.0.lock()
    }

    /// Registers a question. Returns its identifier and the receiver of its answer; `None` if there are
    /// [`QUESTIONS_MAX`] unanswered questions or the client is gone.
    pub(crate) fn open(&self) -> Option<(u64, oneshot::Receiver<QuestionResult>)> {
        let mut state = self.lock();
        if state.is_closed || state.senders.len() >= QUESTIONS_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.serial += 1;
        let serial = state.serial;
        state.senders.push((serial, sender));
        Some((serial, receiver))
    }

    /// Passes an answer to the call that waits for it. Returns false if no call does.
    pub(crate) fn answer(&self, id: &Id, outcome: QuestionResult) -> bool {
        let Some(sender) = id.as_number().and_then(|serial| self.take(serial)) else {
            return false;
        };
        sender.send(outcome).is_ok()
    }

    /// Removes a question. Returns true if it was unanswered.
    pub(crate) fn close(&self, serial: u64) -> bool {
        self.take(serial).is_some()
    }

    /// Removes every question and refuses new ones, because the client is gone.
    pub(crate) fn close_all(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.senders = Vec::new();
    }

    fn take(&self, serial: u64) -> Option<oneshot::Sender<QuestionResult>> {
        let mut state = self.lock();
        let index = state.senders.iter().position(|(open, _)| *open == serial)?;
        let (_, sender) = state.senders.swap_remove(index);
        if state.senders.is_empty() {
            state.senders = Vec::new();
        }
        Some(sender)
    }
}
