//! HTTP+SSE: one stream of events from the backend, messages posted to the address it names first.
//! Source: 2024-11-05, Transports, "HTTP with SSE".

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::BoxFuture;

use crate::body::{self, ERROR_BYTES_MAX, Events, hear_event};
use crate::duplex::{Duplex, Outbox, Outgoing};
use crate::ears::Ears;
use crate::endpoint::{ASIDE_WAIT, Endpoint};
use crate::failure::{Class, Failure};
use crate::flights::Flights;
use crate::http::{Carries, HttpClient, carries};
use crate::life::{Lifeline, Loss};
use crate::redirect;

/// Events that may come before the address.
const PREAMBLE_MAX: usize = 16;
/// Messages on their way that nobody waits for.
const ASIDES_MAX: usize = 256;

/// Opens the stream and waits for the address.
pub(crate) async fn open(
    http: &Arc<HttpClient>,
    uri: &Uri,
    ears: &Arc<Ears>,
    life: &Arc<Lifeline>,
    tasks: &TaskTracker,
) -> Result<Arc<Duplex>, Failure> {
    let (response, base) = Endpoint::new(http, uri.clone(), None, None).get(None).await?;
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Failure::not_sent(Class::Auth, response.status()));
        }
        status if !status.is_success() => return Err(Failure::not_sent(Class::Status, status)),
        _ if carries(&response) != Carries::Events => {
            return Err(Failure::not_sent(Class::Protocol, "the answer is no stream of events"));
        }
        _ => {}
    }
    let mut events = Events::new(response.into_body(), true);
    let address = address(&mut events, &base).await?;
    let closing = CancellationToken::new();
    let outbox = Arc::new(SseOutbox {
        endpoint: Arc::new(Endpoint::new(http, address, None, None)),
        tasks: tasks.clone(),
        runtime: Handle::current(),
        permits: Arc::new(Semaphore::new(ASIDES_MAX)),
        closing: closing.clone(),
    });
    let flights = Flights::new(Arc::clone(ears));
    let duplex = Duplex::new(ears, Arc::clone(life), flights, outbox, tasks.clone());
    tasks.spawn(read(events, Arc::clone(&duplex), Arc::clone(life), closing));
    Ok(duplex)
}

/// The address that messages are posted to. It must be on the stream's own origin.
async fn address(events: &mut Events, base: &Uri) -> Result<Uri, Failure> {
    for _ in 0..PREAMBLE_MAX {
        let event = events.next().await?;
        let event =
            event.ok_or_else(|| Failure::not_sent(Class::Exited, "the stream ended before its address"))?;
        if event.kind == "endpoint" {
            return redirect::target(base, event.data.trim()).ok_or_else(|| {
                Failure::not_sent(Class::Redirect, "it names an address that is not on its own origin")
            });
        }
    }
    Err(Failure::not_sent(Class::Protocol, "it names no address"))
}

async fn read(mut events: Events, duplex: Arc<Duplex>, life: Arc<Lifeline>, closing: CancellationToken) {
    let ended = life.token();
    let class = loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = closing.cancelled() => break Class::Exited,
            () = ended.cancelled() => break Class::Exited,
        };
        match event {
            Ok(Some(event)) => hear_event(event, |message| match message {
                Ok(message) => drop(duplex.receive(message)),
                Err(unreadable) if duplex.receive_unreadable(&unreadable) => {}
                Err(unreadable) => {
                    tracing::warn!(why = unreadable.cause, "the backend sent an event that is no message");
                }
            }),
            Ok(None) => break Class::Exited,
            Err(failure) => break failure.class(),
        }
    };
    life.lose(Loss::Failed(class));
    duplex.abandon();
}

struct SseOutbox {
    endpoint: Arc<Endpoint>,
    tasks: TaskTracker,
    runtime: Handle,
    permits: Arc<Semaphore>,
    closing: CancellationToken,
}

impl Outbox for SseOutbox {
    fn send(&self, message: Outgoing) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (response, _) = self.endpoint.post(message.bytes.into(), message.headers).await?;
            match response.status() {
                status if status.is_success() => {
                    // Read to its end, so that the connection can serve again.
                    let rest = body::whole(response.into_body(), ERROR_BYTES_MAX);
                    let _ = timeout(ASIDE_WAIT, rest).await;
                    Ok(())
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failure::Stale(Class::Status, None)),
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    Err(Failure::not_sent(Class::Auth, status))
                }
                status => Err(Failure::broken(Class::Status, status)),
            }
        })
    }

    fn send_soon(&self, message: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        let endpoint = Arc::clone(&self.endpoint);
        let sending = async move {
            let _permit = permit;
            if let Err(failure) = endpoint.post_aside(message).await {
                tracing::debug!(%failure, "a message was not taken");
            }
        };
        self.tasks.spawn_on(sending, &self.runtime);
    }

    fn close(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        self.closing.cancel();
        Box::pin(std::future::ready(()))
    }
}
