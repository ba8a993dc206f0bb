//! Requests in flight, by their identifiers, so that a client can take one back; and questions in flight, so that a
//! client's answer finds who waits for it. One of each per client: what another client names is not found.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{AbortHandle, AbortRegistration};
use tokio::sync::oneshot;
use vmcp_domain::Json;
use vmcp_wire::jsonrpc::{Id, RpcError};

/// How many questions may wait for one client's answers.
const QUESTIONS_MAX: usize = 32;

/// The requests of one client that are being worked on.
#[derive(Debug, Default)]
pub(crate) struct InFlightRequests(Mutex<InFlightState>);

#[derive(Debug, Default)]
struct InFlightState {
    serial: u64,
    requests: Vec<(u64, Id, AbortHandle)>,
}

impl InFlightRequests {
    fn lock(&self) -> MutexGuard<'_, InFlightState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request; it is in flight until the landing is dropped.
    pub(crate) fn insert(self: &Arc<Self>, id: Id) -> (AbortRegistration, InFlightGuard) {
        let (handle, registration) = AbortHandle::new_pair();
        let mut flying = self.lock();
        flying.serial += 1;
        let serial = flying.serial;
        flying.requests.push((serial, id, handle));
        let landing = InFlightGuard { requests: Arc::clone(self), serial };
        (registration, landing)
    }

    /// Ends the request called `id`, if it is still in flight.
    pub(crate) fn cancel(&self, id: &Id) {
        for (_, flying, handle) in &self.lock().requests {
            if flying == id {
                handle.abort();
            }
        }
    }

    /// Ends every request.
    pub(crate) fn cancel_all(&self) {
        for (_, _, handle) in &self.lock().requests {
            handle.abort();
        }
    }
}

/// Takes a request off the list of those in flight when dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    requests: Arc<InFlightRequests>,
    serial: u64,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut flying = self.requests.lock();
        if let Some(place) = flying.requests.iter().position(|(serial, _, _)| *serial == self.serial) {
            flying.requests.swap_remove(place);
        }
        if flying.requests.is_empty() {
            // An idle session keeps no room for requests it once had.
            flying.requests = Vec::new();
        }
    }
}

/// What a client answered.
pub(crate) type QuestionResult = Result<Json, RpcError>;

/// The questions to one client that wait for its answers.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a question: its identifier, and where the answer arrives. `None` when too many wait already.
    pub(crate) fn open(&self) -> Option<(u64, oneshot::Receiver<QuestionResult>)> {
        let mut waiting = self.lock();
        if waiting.is_closed || waiting.senders.len() >= QUESTIONS_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.serial += 1;
        let serial = waiting.serial;
        waiting.senders.push((serial, sender));
        Some((serial, receiver))
    }

    /// Hands an answer to who waits for it. False when nobody does.
    pub(crate) fn answer(&self, id: &Id, outcome: QuestionResult) -> bool {
        let Some(sender) = id.as_number().and_then(|serial| self.take(serial)) else {
            return false;
        };
        sender.send(outcome).is_ok()
    }

    /// Closes a question. True when it was still open.
    pub(crate) fn close(&self, serial: u64) -> bool {
        self.take(serial).is_some()
    }

    /// Closes every question, now and later: the client is gone.
    pub(crate) fn close_all(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.senders = Vec::new();
    }

    fn take(&self, serial: u64) -> Option<oneshot::Sender<QuestionResult>> {
        let mut waiting = self.lock();
        let place = waiting.senders.iter().position(|(open, _)| *open == serial)?;
        let (_, sender) = waiting.senders.swap_remove(place);
        if waiting.senders.is_empty() {
            waiting.senders = Vec::new();
        }
        Some(sender)
    }
}
