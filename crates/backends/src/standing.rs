//! Streams that stand open for as long as a connection lives, so that the backend can tell what changes:
//! the GET stream of the session era, and `subscriptions/listen` of 2026-07-28. A backend that offers neither is fine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use vmcp_domain::{BackendEvent, BackendUri, BoxFuture};
use vmcp_wire::client::{Offer, read_notice};
use vmcp_wire::jsonrpc::Message;
use vmcp_wire::method;

use crate::backoff::Backoff;
use crate::body::{Events, hear_event};
use crate::connection::Connection;
use crate::ears::Ears;
use crate::endpoint::Endpoint;
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::http::{Carries, carries};
use crate::life::Loss;
use crate::link::Request;
use crate::question::{Inquiry, QUESTIONS_MAX};

/// A stream that stood this long is opened again without delay.
const STEADY: Duration = Duration::from_secs(10);
/// The shortest time between two openings of a stream.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

/// The resources whose changes are wanted.
pub(crate) type Wanted = Arc<BTreeSet<BackendUri>>;

/// What `subscriptions/listen` covers.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    /// Nothing has been agreed yet.
    Opening,
    /// The list changes, and these resources.
    Open(Wanted),
    /// Nothing: the backend does not offer it.
    Refused,
}

/// Keeps the GET stream of the session era open until the connection ends.
pub(crate) async fn keep_stream(connection: Arc<Connection>, endpoint: Arc<Endpoint>) {
    let mut backoff = Backoff::streaming();
    let (mut last_id, mut stood) = (None, false);
    loop {
        let opened = Instant::now();
        match endpoint.get(last_id.as_deref()).await {
            Ok((response, _)) if response.status().is_success() && carries(&response) == Carries::Events => {
                stood = true;
                let mut events = Events::new(response.into_body(), true);
                overhear(&connection, &endpoint, &mut events).await;
                last_id = events.last_id;
            }
            // A stream that stood before is refused because its session is gone.
            Ok((response, _))
                if stood && matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) =>
            {
                connection.link.life().lose(Loss::Forgotten(Class::Status));
                return;
            }
            // 405 is how the stream is declined; others say the same in their own way.
            Ok((response, _)) if !transient(response.status()) => return,
            Ok(_) => {}
            Err(failure) => connection.note(&failure),
        }
        if opened.elapsed() >= STEADY {
            backoff.reset();
        }
        sleep(backoff.wait().max(REOPEN_WAIT)).await;
    }
}

fn transient(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
}

/// Hears everything on a stream that belongs to no request.
async fn overhear(connection: &Connection, endpoint: &Arc<Endpoint>, events: &mut Events) {
    let flights = connection.link.flights();
    let mut replies: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(()) = replies.next(), if !replies.is_empty() => continue,
        };
        let Ok(Some(event)) = event else {
            return;
        };
        hear_event(event, |message| match message {
            Ok(Message::Notification { method, params }) => {
                flights.hear(read_notice(&method, params.as_ref()), None);
            }
            Ok(Message::Request { id, method, params }) => {
                let inquiry = Inquiry::read(&method, params, flights, None);
                if replies.len() >= QUESTIONS_MAX {
                    tracing::debug!(backend = %connection.backend, "dropped a request: too many are open");
                    return;
                }
                replies.push(Box::pin(async move {
                    let reply = inquiry.reply(id).await;
                    if let Err(failure) = endpoint.post_aside(reply).await {
                        tracing::debug!(%failure, "an answer to the backend was not taken");
                    }
                }));
            }
            Ok(Message::Response { .. }) => {}
            Err(unreadable) => {
                let why = unreadable.cause;
                tracing::debug!(backend = %connection.backend, why, "skipped an event that is no message");
            }
        });
    }
}

/// Keeps `subscriptions/listen` open, for the list changes and the resources wanted, until the connection ends.
pub(crate) async fn keep_listening(
    connection: Arc<Connection>,
    ears: Arc<Ears>,
    mut wanted: watch::Receiver<Wanted>,
) {
    let mut backoff = Backoff::streaming();
    let mut gap = false;
    loop {
        let resources = Arc::clone(&wanted.borrow_and_update());
        if resources.is_empty() && !connection.introduction.tells_list_changes() {
            connection.listening.send_replace(Listening::Open(resources));
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        let opened = Instant::now();
        let outcome = tokio::select! {
            outcome = listen(&connection, &resources, gap.then_some(&*ears)) => outcome,
            changed = wanted.changed() => match changed {
                // The stream is replaced without a gap worth mentioning.
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        gap = true;
        let refused = matches!(outcome, Err(Failure::Refused(_)));
        connection.listening.send_replace(if refused { Listening::Refused } else { Listening::Opening });
        if opened.elapsed() >= STEADY {
            backoff.reset();
        }
        let wait = backoff.wait().max(REOPEN_WAIT);
        tokio::select! {
            () = sleep(wait), if !refused => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// One stream, from its opening to its end. Everything that may have changed while none was open is told to `gap`.
async fn listen(connection: &Connection, resources: &Wanted, gap: Option<&Ears>) -> Result<(), Failure> {
    let uris: Vec<BackendUri> = resources.iter().cloned().collect();
    let (taken, mut acknowledged) = watch::channel(false);
    let request =
        Request { endless: true, ..Request::upkeep(method::LISTEN, connection.dialect.listen(&uris)) };
    let mut stream = Box::pin(connection.exchange(Purpose::Listen(taken), |_| request));
    // Nothing of the channel may be held while waiting for the stream.
    let taken_up = async { acknowledged.wait_for(|taken| *taken).await.is_ok() };
    let taken_up = tokio::select! {
        outcome = &mut stream => return outcome.map(drop),
        taken_up = taken_up => taken_up,
    };
    if !taken_up {
        return stream.await.map(drop);
    }
    connection.listening.send_replace(Listening::Open(Arc::clone(resources)));
    if let Some(ears) = gap {
        tell_everything(connection, ears);
    }
    stream.await.map(drop)
}

fn tell_everything(connection: &Connection, ears: &Ears) {
    for (offer, event) in [
        (Offer::Tools, BackendEvent::ToolsChanged),
        (Offer::Resources, BackendEvent::ResourcesChanged),
        (Offer::Prompts, BackendEvent::PromptsChanged),
    ] {
        if connection.introduction.offers(offer) {
            ears.tell(event);
        }
    }
}
