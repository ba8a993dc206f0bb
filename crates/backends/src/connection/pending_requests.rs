//! The in-flight requests of one connection. The table matches answers to requests, and routes notifications
//! and questions of the backend to clients. The gateway numbers its requests itself and uses no number twice
//! on a connection, so that no answer reaches the wrong client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use tokio_util::sync::CancellationToken;
use vmcp_domain::{BackendEvent, Caller, ClientPort, QuestionKind};
use vmcp_json::Json;
use vmcp_wire::client::BackendNotification;

use crate::connection::event_sender::EventSender;
use crate::connection::pending_url_elicitations::PendingUrlElicitations;
use crate::connection::requester::Requester;
use crate::connection::{CallSerializer, CancelledCalls};
use crate::failure::Failure;

/// Maximum number of in-flight requests on one connection.
pub(crate) const PENDING_REQUESTS_MAX: usize = 4096;

/// The first identifier on a connection. Servers number their own requests and log lines from 0 or 1. None of
/// those numbers must be taken for an identifier of the gateway.
const FIRST_ID: u64 = 1_000_000;

/// The result of a request, or its failure.
pub(crate) type RequestOutcome = Result<Json, Failure>;

/// What a request is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A client's call.
    Call(Arc<dyn ClientPort>, Requester),
    /// A request of the gateway itself.
    Maintenance,
    /// A `subscriptions/listen`. The channel becomes true when the backend has acknowledged the stream.
    Listen(watch::Sender<bool>),
}

#[derive(Debug)]
struct PendingRequest {
    purpose: Purpose,
    response_sender: Option<oneshot::Sender<RequestOutcome>>,
    /// The answer has arrived, even if the caller has not read it yet. What the backend sends from now on
    /// does not belong to this request.
    is_answered: bool,
    /// Cancelled when the request is dropped, to end a question to its client. It is created on first use,
    /// because few requests need it.
    cancellation: Option<CancellationToken>,
}

/// The recipient of a question of a backend.
#[derive(Debug)]
pub(crate) enum Addressee {
    /// A client. The token is cancelled when its call ends.
    Client(Arc<dyn ClientPort>, CancellationToken),
    /// There is no in-flight call that the question can belong to.
    Nobody,
    /// The question may belong to calls of several clients.
    Ambiguous,
}

/// The table of in-flight requests of one connection.
#[derive(Debug)]
pub(crate) struct PendingRequests {
    next_id: AtomicU64,
    table: Mutex<RequestTable>,
    event_sender: Arc<EventSender>,
    call_serializer: CallSerializer,
    url_elicitations: PendingUrlElicitations,
}

#[derive(Debug, Default)]
struct RequestTable {
    requests: HashMap<u64, PendingRequest>,
    cancelled: CancelledCalls,
    /// Waiters for the answers of cancelled calls. A sender is dropped when the backend has ended the call.
    end_waiters: HashMap<u64, oneshot::Sender<()>>,
}

impl RequestTable {
    /// The newest in-flight call and its client, if every call that the backend may still be working on is
    /// from that client. A client that cannot be asked counts as well, because the backend does not know its
    /// capabilities.
    fn find_only_client(&mut self) -> Result<(u64, Arc<dyn ClientPort>), Addressee> {
        let mut calls = self.requests.iter().filter_map(|(id, request)| match &request.purpose {
            Purpose::Call(client, requester) if !request.is_answered => Some((*id, client, requester)),
            Purpose::Call(..) | Purpose::Maintenance | Purpose::Listen(_) => None,
        });
        let Some((mut newest, mut client, requester)) = calls.next() else { return Err(Addressee::Nobody) };
        for (id, other, other_requester) in calls {
            if requester.client.is_none() || other_requester.client != requester.client {
                return Err(Addressee::Ambiguous);
            }
            // A person most likely still looks at the call that was started last.
            if id > newest {
                (newest, client) = (id, other);
            }
        }
        let client = Arc::clone(client);
        if self.cancelled.are_all_from(requester) { Ok((newest, client)) } else { Err(Addressee::Ambiguous) }
    }
}

impl PendingRequests {
    pub(crate) fn new(event_sender: Arc<EventSender>) -> Arc<Self> {
        Arc::new(Self {
            next_id: AtomicU64::new(FIRST_ID),
            table: Mutex::default(),
            event_sender,
            call_serializer: CallSerializer::default(),
            url_elicitations: PendingUrlElicitations::default(),
        })
    }

    /// Registers a request. It is in flight until its handle is dropped. Fails if too many are in flight.
    pub(crate) fn register(self: &Arc<Self>, purpose: Purpose) -> Result<RequestHandle, Failure> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        if table.requests.len() >= PENDING_REQUESTS_MAX {
            return Err(Failure::Overloaded);
        }
        table.requests.insert(
            id,
            PendingRequest { purpose, response_sender: None, is_answered: false, cancellation: None },
        );
        Ok(RequestHandle { id, is_finished: false, pending_requests: Arc::clone(self) })
    }

    /// Delivers an answer that arrived on a shared channel. Returns false if no request waited for it.
    pub(crate) fn complete(&self, id: Option<u64>, outcome: RequestOutcome) -> bool {
        let response_sender = id.and_then(|id| {
            let mut table = self.table.lock();
            table.cancelled.remove(id);
            // Dropping the sender notifies the waiter.
            drop(table.end_waiters.remove(&id));
            let request = table.requests.get_mut(&id)?;
            let response_sender = request.response_sender.take();
            request.is_answered |= response_sender.is_some();
            response_sender
        });
        match response_sender {
            // The receiver may have been dropped at this very moment.
            Some(response_sender) => {
                drop(response_sender.send(outcome));
                true
            }
            None => {
                tracing::debug!(backend = %self.event_sender.backend(), id, "dropped a response that no request waits for");
                false
            }
        }
    }

    /// Returns a future that resolves when the backend has answered a cancelled request, or when no answer
    /// will come. Must be called before the request's handle is dropped.
    pub(crate) fn wait_for_end(&self, id: u64) -> impl Future<Output = ()> + Send + 'static {
        let (end_sender, end) = oneshot::channel();
        let mut table = self.table.lock();
        // Without an entry, the answer has arrived or is not wanted.
        if table.requests.get(&id).is_some_and(|request| !request.is_answered) {
            table.end_waiters.retain(|_, end_sender| !end_sender.is_closed());
            table.end_waiters.insert(id, end_sender);
        }
        async move {
            let _ = end.await;
        }
    }

    /// Closes the answer channel of every request, because no answer will come.
    pub(crate) fn abort_all(&self) {
        let mut table = self.table.lock();
        table.end_waiters.clear();
        for request in table.requests.values_mut() {
            request.response_sender = None;
        }
    }

    /// Fails the only waiting request, if there is exactly one: the failure then certainly belongs to it.
    /// Returns false otherwise.
    pub(crate) fn complete_only(&self, failure: Failure) -> bool {
        let only = {
            let table = self.table.lock();
            let mut response_sender =
                table.requests.iter().filter(|(_, request)| request.response_sender.is_some());
            match (response_sender.next(), response_sender.next()) {
                (Some((id, _)), None) => Some(*id),
                _ => None,
            }
        };
        only.is_some_and(|id| self.complete(Some(id), Err(failure)))
    }

    /// True while the request is in flight.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.table.lock().requests.contains_key(&id)
    }

    /// True while a client's call waits for its answer.
    pub(crate) fn has_calls(&self) -> bool {
        let waits =
            |request: &PendingRequest| matches!(request.purpose, Purpose::Call(..)) && !request.is_answered;
        self.table.lock().requests.values().any(waits)
    }

    /// Forwards a notification to the client or listener that it concerns. `request_id` is the request that owns the
    /// stream on which it arrived, if any.
    pub(crate) fn dispatch_notice(&self, notice: BackendNotification, request_id: Option<u64>) {
        match notice {
            BackendNotification::Progress { token, params } => {
                if let Some(client) = self.find_client(token) {
                    client.progress(params);
                }
            }
            BackendNotification::Log { level, params } => {
                let client = match request_id {
                    Some(id) => self.find_client(id),
                    None => self.table.lock().find_only_client().ok().map(|(_, client)| client),
                };
                if let Some(client) =
                    client.filter(|client| client.log_level().is_some_and(|least| level >= least))
                {
                    client.log(level, params);
                }
            }
            BackendNotification::ToolsChanged => self.event_sender.send(BackendEvent::ToolsChanged),
            BackendNotification::ResourcesChanged => self.event_sender.send(BackendEvent::ResourcesChanged),
            BackendNotification::PromptsChanged => self.event_sender.send(BackendEvent::PromptsChanged),
            BackendNotification::ResourceUpdated(uri) => {
                self.event_sender.send(BackendEvent::ResourceUpdated(uri))
            }
            BackendNotification::ListenAcknowledged(id) => {
                if let Some(is_open_sender) = self.find_listen_sender(id) {
                    is_open_sender.send_replace(true);
                }
            }
            BackendNotification::ListenEnded(id) => {
                if self.find_listen_sender(id).is_some()
                    && let Some(request) = self.table.lock().requests.get_mut(&id)
                {
                    request.response_sender = None;
                }
            }
            BackendNotification::ElicitationComplete(id) => self.url_elicitations.complete(&id),
            BackendNotification::Other => {}
        }
    }

    /// Finds the recipient of a question of the backend. A question on the stream of a request is for the
    /// client of that request. Any other question is for the client that owns every call on which the backend
    /// may still be working. If there are several such clients, the question is ambiguous. The calls of each
    /// user whose client can be asked are then serialised for a while.
    pub(crate) fn find_addressee(&self, request_id: Option<u64>) -> Addressee {
        let mut table = self.table.lock();
        let (id, client) = match request_id {
            None => match table.find_only_client() {
                Ok(found) => found,
                Err(addressee) => {
                    if matches!(addressee, Addressee::Ambiguous) && self.call_serializer.activate() {
                        tracing::warn!(
                            backend = %self.event_sender.backend(),
                            "a question of the backend was refused: several clients share its connection, so the \
                             call that it belongs to is unknown; `isolation: perCaller` gives each its own connection"
                        );
                    }
                    return addressee;
                }
            },
            Some(request_id) => match table.requests.get(&request_id) {
                Some(PendingRequest { purpose: Purpose::Call(client, _), is_answered: false, .. }) => {
                    (request_id, Arc::clone(client))
                }
                _ => return Addressee::Nobody,
            },
        };
        let cancellation =
            table.requests.get_mut(&id).map(|request| request.cancellation.get_or_insert_default().clone());
        Addressee::Client(client, cancellation.unwrap_or_default())
    }

    /// The URL elicitations that the backend may still report as complete.
    pub(crate) fn url_elicitations(&self) -> &PendingUrlElicitations {
        &self.url_elicitations
    }

    /// Waits until no other call of the same user runs, if calls are serialised and the client can be asked.
    pub(crate) async fn wait_for_turn(
        &self,
        caller: &Caller,
        client: &dyn ClientPort,
    ) -> Option<OwnedMutexGuard<()>> {
        if !self.call_serializer.is_active() {
            return None;
        }
        let kinds = [QuestionKind::Elicitation, QuestionKind::Sampling, QuestionKind::Roots];
        if !kinds.iter().any(|kind| client.capabilities().supports(*kind)) {
            return None;
        }
        self.call_serializer.acquire(caller, || client.client_key()).await
    }

    fn find_client(&self, id: u64) -> Option<Arc<dyn ClientPort>> {
        match &self.table.lock().requests.get(&id).filter(|request| !request.is_answered)?.purpose {
            Purpose::Call(client, _) => Some(Arc::clone(client)),
            Purpose::Maintenance | Purpose::Listen(_) => None,
        }
    }

    fn find_listen_sender(&self, id: u64) -> Option<watch::Sender<bool>> {
        match &self.table.lock().requests.get(&id)?.purpose {
            Purpose::Listen(is_open_sender) => Some(is_open_sender.clone()),
            Purpose::Call(..) | Purpose::Maintenance => None,
        }
    }
}

/// The registration of one request in the table. Dropping it removes the request.
#[derive(Debug)]
pub(crate) struct RequestHandle {
    id: u64,
    is_finished: bool,
    pending_requests: Arc<PendingRequests>,
}

impl RequestHandle {
    /// The request's identifier, which is also its progress token.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The channel on which the answer arrives, for links that receive all answers on one channel. It closes
    /// without a value if no answer will come.
    pub(crate) fn response_receiver(&self) -> oneshot::Receiver<RequestOutcome> {
        let (sender, receiver) = oneshot::channel();
        if let Some(request) = self.pending_requests.table.lock().requests.get_mut(&self.id) {
            request.response_sender = Some(sender);
        }
        receiver
    }

    /// Records that the backend has certainly finished the request, or never started it. The request then
    /// does not count as a cancelled call.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for RequestHandle {
    fn drop(&mut self) {
        let mut table = self.pending_requests.table.lock();
        let Some(request) = table.requests.remove(&self.id) else { return };
        if let Purpose::Call(_, requester) = &request.purpose
            && !self.is_finished
            && !request.is_answered
        {
            table.cancelled.add(self.id, requester.clone());
        }
        drop(table);
        if let Some(cancellation) = request.cancellation {
            cancellation.cancel();
        }
    }
}
