//! The link over streamable HTTP: every request is its own exchange, answered with one message or with a stream of
//! events that ends in the answer. Sources: 2026-07-28, Streamable HTTP; 2025-11-25, Transports.

mod asides;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, Uri};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use vmcp_domain::{BoxFuture, Json, Members, ProtocolVersion};
use vmcp_wire::client::{BackendNotice, Dialect, read_notice};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::{header, method, sse};

use self::asides::Asides;
use crate::arriving::Arriving;
use crate::body::{self, Events, answers};
use crate::endpoint::{ASIDE_WAIT, Endpoint};
use crate::failure::{Class, Failure};
use crate::flights::{Flights, Purpose, Ticket};
use crate::held::Held;
use crate::http::{Carries, HttpClient, carries};
use crate::life::{Lifeline, Loss};
use crate::link::{Link, Request};
use crate::question::{self, Inquiry, QUESTIONS_MAX};
use crate::refusal::{self, Refusal};

const METHOD: HeaderName = HeaderName::from_static(header::METHOD);
const NAME: HeaderName = HeaderName::from_static(header::NAME);
/// How often a broken stream is taken up again, and after which wait.
const RESUMES_MAX: usize = 3;
const RESUME_WAIT: Duration = Duration::from_secs(1);

/// What all links to one backend share.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) http: Arc<HttpClient>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) tasks: TaskTracker,
}

/// The link.
#[derive(Clone)]
pub(crate) struct Streamable {
    endpoint: Arc<Endpoint>,
    version: Option<ProtocolVersion>,
    session: Option<HeaderValue>,
    flights: Arc<Flights>,
    life: Arc<Lifeline>,
    doubted: Arc<AtomicBool>,
    asides: Asides,
}

impl Streamable {
    /// A link spoken in `version`, once that is known, within `session`, if there is one.
    pub(crate) fn new(
        base: &Base,
        uri: Uri,
        version: Option<ProtocolVersion>,
        session: Option<HeaderValue>,
    ) -> Self {
        Self {
            endpoint: Arc::new(Endpoint::new(&base.http, uri, version, session.as_ref())),
            version,
            session,
            flights: Arc::clone(&base.flights),
            life: Arc::default(),
            doubted: Arc::default(),
            asides: Asides::new(base.tasks.clone()),
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// True when the link belongs to a session that can be forgotten.
    pub(crate) fn in_session(&self) -> bool {
        self.session.is_some()
    }

    /// True while it is the revision with neither handshake nor session.
    pub(crate) fn is_stateless(&self) -> bool {
        self.version.is_some_and(|version| !version.has_sessions())
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, name: &'static str) -> Result<StatusCode, Failure> {
        self.endpoint.post_aside(jsonrpc::notification(name, &Members::new())).await
    }

    /// Posts a request and waits for the head of the response, whatever its status.
    pub(crate) async fn open(&self, id: u64, request: Request) -> Result<(Response<Arriving>, Uri), Failure> {
        let mut headers = request.headers;
        if self.is_stateless() {
            headers.insert(METHOD, HeaderValue::from_static(request.method));
            if let Some(Ok(name)) = request.name.map(|name| HeaderValue::try_from(&*header::encode(&name))) {
                headers.insert(NAME, name);
            }
        }
        let message = Bytes::from(jsonrpc::request(&Id::number(id), request.method, &request.params));
        if !request.repeatable {
            let left = request.held.map(|held| held.left).unwrap_or_default();
            return self.endpoint.post_marked(message, headers, left).await;
        }
        match self.endpoint.post(message.clone(), headers.clone()).await {
            // A kept connection may close in the very moment it is used. Asking again is safe where asking twice is.
            Err(Failure::Broken(Class::Exited, _)) => self.endpoint.post(message, headers).await,
            first => first,
        }
    }

    /// Reads the outcome from a response of success.
    pub(crate) async fn read(
        &self,
        id: u64,
        response: Response<Arriving>,
        endless: bool,
    ) -> Result<Json, Failure> {
        let (carries, body) = body::look(response).await?;
        match carries {
            Carries::Events => {
                let events = Events::new(body, endless);
                Box::pin(self.follow(id, events, endless)).await
            }
            Carries::Message => body::outcome(body, id).await,
        }
    }

    async fn ask(&self, ticket: &Ticket, request: Request) -> Result<Json, Failure> {
        let id = ticket.id();
        // In 2026-07-28 closing the response is the cancellation, and dropping it closes it.
        let cancels = !self.is_stateless() && request.method != method::INITIALIZE;
        let mut cancel = CancelOnDrop { link: self, id: Some(id).filter(|_| cancels) };
        let outcome = match request.held.clone() {
            None => self.attempt(id, request).await,
            Some(held) => {
                let link = self.clone();
                let work = Box::pin(async move { link.attempt(id, request).await });
                Working { work: Some(work), held, goes_on: cancels }.outcome().await
            }
        };
        cancel.id = None;
        if matches!(outcome, Err(Failure::Broken(Class::Exited, _))) {
            self.doubt();
        }
        outcome
    }

    async fn attempt(&self, id: u64, request: Request) -> Result<Json, Failure> {
        let endless = request.endless;
        let method = request.method;
        let params = request.params.clone();
        let outcome: Result<Json, Refusal> = async {
            let (response, _) = self.open(id, request).await?;
            if response.status().is_success() {
                Ok(self.read(id, response, endless).await?)
            } else {
                Err(Box::pin(refusal::read(self, id, response)).await)
            }
        }
        .await;
        match outcome {
            Err(refusal) if self.in_session() => {
                Err(Box::pin(refusal::in_session(self, method, refusal)).await)
            }
            Err(refusal) => Err(Box::pin(refusal::in_revision(self, &params, refusal)).await),
            outcome => outcome.map_err(|refusal| refusal.failure),
        }
    }

    /// Finds out in the background whether the backend is still there, after it hung up on somebody.
    fn doubt(&self) {
        if self.doubted.swap(true, Ordering::Relaxed) {
            return;
        }
        let doubt = Doubt(Arc::clone(&self.doubted));
        let (endpoint, life) = (Arc::clone(&self.endpoint), Arc::clone(&self.life));
        let (flights, in_session) = (Arc::clone(&self.flights), self.in_session());
        self.asides.spawn(async move {
            let _doubt = doubt;
            if let Ok(ticket) = flights.enter(Purpose::Upkeep) {
                let ping = jsonrpc::request(&Id::number(ticket.id()), method::PING, &Json::empty_object());
                let asking = async {
                    match endpoint.post(ping.into(), HeaderMap::new()).await {
                        Err(Failure::NotSent(class, _)) => life.lose(Loss::Failed(class)),
                        Err(_) => {}
                        // Any answer is a sign of life, a refusal too: 2026-07-28 has no ping.
                        Ok((response, _)) => {
                            if refusal::denies_session(ticket.id(), response).await && in_session {
                                life.lose(Loss::Forgotten(Class::Status));
                            }
                        }
                    }
                };
                // Silence says nothing.
                let _ = timeout(ASIDE_WAIT, asking).await;
            }
        });
    }

    /// Follows the stream of one request to its answer.
    async fn follow(&self, id: u64, mut events: Events, endless: bool) -> Result<Json, Failure> {
        let mut replies = FuturesUnordered::new();
        let mut resumes = 0;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                Some(()) = replies.next(), if !replies.is_empty() => continue,
            };
            match event {
                Ok(Some(event)) => {
                    let heard = self.understand(id, event);
                    for asked in heard.asked {
                        if replies.len() < QUESTIONS_MAX {
                            replies.push(self.reply(id, asked));
                        } else {
                            self.asides.post(&self.endpoint, question::too_many(&asked.id));
                        }
                    }
                    if let Some(outcome) = heard.outcome {
                        self.asides.drain(events.into_body());
                        return outcome;
                    }
                }
                Ok(None) | Err(Failure::Broken(Class::Exited, _))
                    if !endless
                        && !self.is_stateless()
                        && resumes < RESUMES_MAX
                        && events.last_id.is_some() =>
                {
                    resumes += 1;
                    sleep(RESUME_WAIT).await;
                    events = self.resume(events.last_id.take()).await?;
                }
                Ok(None) => return Err(Failure::broken(Class::Exited, "the stream ended before the answer")),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Takes the messages of one event.
    fn understand(&self, id: u64, event: sse::Event) -> Heard {
        let mut heard = Heard::default();
        body::hear_event(event, |message| match message {
            Ok(Message::Response { id: of, outcome }) if answers(of.as_ref(), id, outcome.is_err()) => {
                heard.outcome.get_or_insert(outcome.map_err(Failure::Refused));
            }
            Ok(Message::Response { .. }) => {
                tracing::debug!("dropped an answer that belongs to another request");
            }
            Ok(Message::Notification { method, params }) => {
                let notice = read_notice(&method, params.as_ref());
                let is_end = matches!(notice, BackendNotice::ListeningEnded(ended) if ended == id);
                if is_end && self.is_stateless() {
                    let end = Failure::broken(Class::Exited, "the backend ended the stream");
                    heard.outcome.get_or_insert(Err(end));
                } else {
                    self.flights.hear(notice, Some(id));
                }
            }
            // 2026-07-28 allows no requests of the server, and no answers of the client.
            Ok(Message::Request { .. }) if self.is_stateless() => {}
            Ok(Message::Request { id, method, params }) => {
                heard.asked.push(Asked { id, name: method.to_string(), params });
            }
            Err(unreadable) if unreadable.id == Some(id) || unreadable.is_message => {
                heard.outcome.get_or_insert(Err(Failure::broken(Class::Protocol, unreadable.cause)));
            }
            Err(unreadable) => tracing::debug!(why = unreadable.cause, "skipped an event that is no message"),
        });
        heard
    }

    fn reply(&self, own: u64, asked: Asked) -> BoxFuture<'_, ()> {
        let inquiry = Inquiry::read(&asked.name, asked.params, &self.flights, Some(own));
        Box::pin(async move {
            let reply = inquiry.reply(asked.id).await;
            if let Err(failure) = self.endpoint.post_aside(reply).await {
                tracing::debug!(%failure, "an answer to the backend's question was not taken");
            }
        })
    }

    async fn resume(&self, last_id: Option<String>) -> Result<Events, Failure> {
        let (response, _) = self.endpoint.get(last_id.as_deref()).await?;
        if response.status().is_success() && carries(&response) == Carries::Events {
            let mut events = Events::new(response.into_body(), false);
            events.last_id = last_id;
            Ok(events)
        } else {
            Err(Failure::broken(Class::Exited, "the stream broke off before the answer"))
        }
    }
}

/// A request for which something is held. If its caller leaves, the answer is read all the same, since it tells when the backend
/// has ended with it; where closing the response is the cancellation, nothing tells, and its time counts.
struct Working {
    work: Option<BoxFuture<'static, Result<Json, Failure>>>,
    held: Held,
    /// A cancellation is a message of its own, and the response stays open.
    goes_on: bool,
}

impl Working {
    async fn outcome(mut self) -> Result<Json, Failure> {
        let Some(work) = &mut self.work else { return Err(Failure::Overloaded) };
        let outcome = work.await;
        self.work = None;
        outcome
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| self.held.left.is_set()) else { return };
        if self.goes_on {
            self.held.clone().keep_until(async move { drop(work.await) });
        } else {
            self.held.clone().keep_until(std::future::pending());
        }
    }
}

/// A doubt that is being looked into; the next may arise when this is dropped, whether or not anybody looked.
struct Doubt(Arc<AtomicBool>);

impl Drop for Doubt {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What an event means for the request on whose stream it came.
#[derive(Default)]
struct Heard {
    outcome: Option<Result<Json, Failure>>,
    asked: Vec<Asked>,
}

/// A request of the backend.
struct Asked {
    id: Id,
    name: String,
    params: Option<Json>,
}

/// Takes a request back when its future is dropped early: with sessions, closing the response says nothing (2025-11-25).
struct CancelOnDrop<'a> {
    link: &'a Streamable,
    id: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let params = Dialect::cancelled(&Id::number(id), "no longer wanted");
            let message = jsonrpc::notification(method::CANCELLED, &params);
            self.link.asides.post(&self.link.endpoint, message);
        }
    }
}

impl Link for Streamable {
    fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    fn life(&self) -> &Lifeline {
        &self.life
    }

    fn keeps_state(&self) -> bool {
        self.in_session()
    }

    fn exchange<'a>(&'a self, ticket: &'a Ticket, request: Request) -> BoxFuture<'a, Result<Json, Failure>> {
        Box::pin(self.ask(ticket, request))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.in_session() {
                // The server may refuse to end sessions (405); it will forget ours in time.
                let _ = timeout(grace.min(ASIDE_WAIT), self.endpoint.delete()).await;
            }
        })
    }
}
