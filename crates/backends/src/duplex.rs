//! A link over one channel that all requests share: stdio, and HTTP+SSE. Answers find their request by identifier;
//! how bytes go out is the transport's [`Outbox`], and what comes in is given to [`Duplex::receive`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BoxFuture, Json, Members, ProtocolVersion};
use vmcp_wire::client::{Dialect, read_notice};
use vmcp_wire::jsonrpc::{self, Id, Message, Unreadable};
use vmcp_wire::method;

use crate::ears::Ears;
use crate::failure::{Class, Failure};
use crate::flights::{Flights, Ticket};
use crate::held::Held;
use crate::life::{Lifeline, Loss};
use crate::link::{Link, Request};
use crate::question::{self, Inquiry, QUESTIONS_MAX};

/// One message on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// The message.
    pub(crate) bytes: Vec<u8>,
    /// The request it is, if it is one: a request that nobody waits for any more need not be sent.
    pub(crate) id: Option<u64>,
    /// Further headers, for transports that have headers.
    pub(crate) headers: HeaderMap,
}

impl Outgoing {
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, id: None, headers: HeaderMap::new() }
    }
}

/// How messages go out.
pub(crate) trait Outbox: Send + Sync {
    /// Sends, waiting for room.
    fn send(&self, message: Outgoing) -> BoxFuture<'_, Result<(), Failure>>;
    /// Sends if that is possible at once, else forgets it.
    fn send_soon(&self, message: Vec<u8>);
    /// Ends the channel in good order.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}

/// The link.
pub(crate) struct Duplex {
    backend: BackendId,
    flights: Arc<Flights>,
    life: Arc<Lifeline>,
    outbox: Arc<dyn Outbox>,
    tasks: TaskTracker,
    questions: Arc<Semaphore>,
    answers: AtomicBool,
}

impl Duplex {
    pub(crate) fn new(
        ears: &Arc<Ears>,
        life: Arc<Lifeline>,
        flights: Arc<Flights>,
        outbox: Arc<dyn Outbox>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend: ears.backend().clone(),
            flights,
            life,
            outbox,
            tasks,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            answers: AtomicBool::new(true),
        })
    }

    /// Fixes the revision: in 2026-07-28 backends send no requests, and clients no answers.
    pub(crate) fn speak(&self, version: ProtocolVersion) {
        self.answers.store(version.has_sessions(), Ordering::Relaxed);
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, name: &'static str) -> Result<(), Failure> {
        let message = jsonrpc::notification(name, &Members::new());
        self.outbox.send(Outgoing::plain(message)).await
    }

    /// Takes a message of the backend. True for an answer that somebody waited for.
    pub(crate) fn receive(&self, message: Message) -> bool {
        match message {
            Message::Response { id, outcome } => {
                let id = id.and_then(|id| id.as_number());
                return self.flights.answer(id, outcome.map_err(Failure::Refused));
            }
            Message::Notification { method, params } => {
                self.flights.hear(read_notice(&method, params.as_ref()), None);
            }
            Message::Request { id, method, params } => self.respond(id, &method, params),
        }
        false
    }

    /// Takes something that is no message. True where a request ends with it.
    pub(crate) fn receive_unreadable(&self, unreadable: &Unreadable) -> bool {
        let failure = Failure::broken(Class::Protocol, format_args!("the answer: {}", unreadable.cause));
        match unreadable.id {
            Some(id) => self.flights.answer(Some(id), Err(failure)),
            None if unreadable.is_message => self.flights.answer_only(failure),
            None => false,
        }
    }

    /// Tells everybody who waits that no answer will come.
    pub(crate) fn abandon(&self) {
        self.flights.abandon();
    }

    /// A message was larger than allowed: it is the answer to the only request that waits, if there is only one.
    pub(crate) fn receive_too_large(&self) {
        self.flights.answer_only(Failure::broken(Class::TooLarge, "the answer is larger than allowed"));
    }

    pub(crate) fn backend(&self) -> &BackendId {
        &self.backend
    }

    fn respond(&self, id: Id, name: &str, params: Option<Json>) {
        if !self.answers.load(Ordering::Relaxed) {
            tracing::debug!(backend = %self.backend, "ignored a request that this revision does not allow");
            return;
        }
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            self.outbox.send_soon(question::too_many(&id));
            return;
        };
        let inquiry = Inquiry::read(name, params, &self.flights, None);
        let (outbox, ended) = (Arc::clone(&self.outbox), self.life.token());
        self.tasks.spawn(async move {
            let _permit = permit;
            let answering = async {
                let reply = inquiry.reply(id).await;
                outbox.send(Outgoing::plain(reply)).await
            };
            tokio::select! {
                // A link that cannot send is told so by its own tasks.
                _ = answering => {}
                () = ended.cancelled() => {}
            }
        });
    }

    async fn ask(&self, ticket: &Ticket, request: Request) -> Result<Json, Failure> {
        let answer = ticket.wait();
        if let Some(loss) = self.life.loss() {
            return Err(ended_before(loss));
        }
        let id = Id::number(ticket.id());
        let bytes = jsonrpc::request(&id, request.method, &request.params);
        // 2025-11-25, Cancellation: `initialize` must not be cancelled.
        let handshake = matches!(request.method, method::INITIALIZE | method::DISCOVER);
        let held = request.held;
        let mut cancel =
            CancelOnDrop { duplex: self, id: Some(id).filter(|_| !handshake), ticket: ticket.id(), held };
        let message = Outgoing { bytes, id: Some(ticket.id()), headers: request.headers };
        if let Err(failure) = self.outbox.send(message).await {
            cancel.id = None;
            return Err(failure);
        }
        let outcome = answer.await;
        cancel.id = None;
        match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(match self.life.loss() {
                Some(Loss::Failed(class) | Loss::Forgotten(class)) => {
                    Failure::broken(class, "the connection ended before the answer")
                }
                None => Failure::broken(Class::TooLarge, "the answer could not be taken"),
            }),
        }
    }
}

fn ended_before(loss: Loss) -> Failure {
    match loss {
        Loss::Failed(class) => Failure::not_sent(class, "the connection has ended"),
        Loss::Forgotten(class) => Failure::Stale(class, None),
    }
}

/// Takes a request back when its future is dropped before the answer.
struct CancelOnDrop<'a> {
    duplex: &'a Duplex,
    id: Option<Id>,
    ticket: u64,
    held: Option<Held>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            let params = Dialect::cancelled(id, "no longer wanted");
            self.duplex.outbox.send_soon(jsonrpc::notification(method::CANCELLED, &params));
            if let Some(held) = self.held.take() {
                let (answered, lost) = (self.duplex.flights.end_of(self.ticket), self.duplex.life.token());
                held.keep_until(async move {
                    tokio::select! {
                        () = answered => {}
                        () = lost.cancelled() => {}
                    }
                });
            }
        }
    }
}

impl Link for Duplex {
    fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    fn life(&self) -> &Lifeline {
        &self.life
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn exchange<'a>(&'a self, ticket: &'a Ticket, request: Request) -> BoxFuture<'a, Result<Json, Failure>> {
        Box::pin(self.ask(ticket, request))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.outbox.close(grace)
    }
}
