//! HTTP+SSE: one event stream from the backend, and messages posted to the address that the stream announces.
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

use crate::connection::close_signal::{CloseReason, CloseSignal};
use crate::connection::event_sender::EventSender;
use crate::connection::pending_requests::PendingRequests;
use crate::failure::{Failure, FailureClass};
use crate::http::client::{ContentKind, HttpClient, content_kind};
use crate::http::endpoint::{Endpoint, ONE_WAY_TIMEOUT};
use crate::http::redirect;
use crate::http::response_reader::{self, ERROR_BODY_BYTES_MAX, EventReader, for_each_message};
use crate::transport::duplex::{DuplexLink, MessageSink, OutgoingMessage};

/// Maximum number of events before the address.
const EVENTS_BEFORE_ENDPOINT_MAX: usize = 16;
/// Maximum number of concurrent one-way messages.
const ONE_WAY_MAX: usize = 256;

/// Opens the stream and waits for the address.
pub(crate) async fn open(
    http: &Arc<HttpClient>,
    uri: &Uri,
    event_sender: &Arc<EventSender>,
    close_signal: &Arc<CloseSignal>,
    tasks: &TaskTracker,
) -> Result<Arc<DuplexLink>, Failure> {
    let (response, base) = Endpoint::new(http, uri.clone(), None, None).get(None).await?;
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Failure::not_sent(FailureClass::Auth, response.status()));
        }
        status if !status.is_success() => return Err(Failure::not_sent(FailureClass::Status, status)),
        _ if content_kind(&response) != ContentKind::Events => {
            return Err(Failure::not_sent(FailureClass::Protocol, "the response is not an event stream"));
        }
        _ => {}
    }
    let mut events = EventReader::new(response.into_body(), true);
    let address = wait_for_endpoint(&mut events, &base).await?;
    let closing = CancellationToken::new();
    let sink = Arc::new(SseSink {
        endpoint: Arc::new(Endpoint::new(http, address, None, None)),
        tasks: tasks.clone(),
        runtime: Handle::current(),
        permits: Arc::new(Semaphore::new(ONE_WAY_MAX)),
        closing: closing.clone(),
    });
    let pending_requests = PendingRequests::new(Arc::clone(event_sender));
    let duplex =
        DuplexLink::new(event_sender, Arc::clone(close_signal), pending_requests, sink, tasks.clone());
    tasks.spawn(read_loop(events, Arc::clone(&duplex), Arc::clone(close_signal), closing));
    Ok(duplex)
}

/// Waits for the address that messages are posted to. It must be on the stream's own origin.
async fn wait_for_endpoint(events: &mut EventReader, base: &Uri) -> Result<Uri, Failure> {
    for _ in 0..EVENTS_BEFORE_ENDPOINT_MAX {
        let event = events.next_event().await?;
        let event = event
            .ok_or_else(|| Failure::not_sent(FailureClass::Exited, "the stream ended before its address"))?;
        if event.kind == "endpoint" {
            return redirect::resolve_same_origin(base, event.data.trim()).ok_or_else(|| {
                Failure::not_sent(FailureClass::Redirect, "it names an address that is not on its own origin")
            });
        }
    }
    Err(Failure::not_sent(FailureClass::Protocol, "it names no address"))
}

async fn read_loop(
    mut events: EventReader,
    duplex: Arc<DuplexLink>,
    close_signal: Arc<CloseSignal>,
    closing: CancellationToken,
) {
    let closed = close_signal.token();
    let class = loop {
        let event = tokio::select! {
            event = events.next_event() => event,
            () = closing.cancelled() => break FailureClass::Exited,
            () = closed.cancelled() => break FailureClass::Exited,
        };
        match event {
            Ok(Some(event)) => for_each_message(event, |message| match message {
                Ok(message) => drop(duplex.handle_message(message)),
                Err(unreadable) if duplex.handle_unreadable(&unreadable) => {}
                Err(unreadable) => {
                    tracing::warn!(
                        why = unreadable.cause,
                        "the backend sent an event that is not a JSON-RPC message"
                    );
                }
            }),
            Ok(None) => break FailureClass::Exited,
            Err(failure) => break failure.class(),
        }
    };
    close_signal.close(CloseReason::Failed(class));
    duplex.abort_pending();
}

struct SseSink {
    endpoint: Arc<Endpoint>,
    tasks: TaskTracker,
    runtime: Handle,
    permits: Arc<Semaphore>,
    closing: CancellationToken,
}

impl MessageSink for SseSink {
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (response, _) = self.endpoint.post(message.bytes.into(), message.headers).await?;
            match response.status() {
                status if status.is_success() => {
                    // The response is read to its end, so that the connection returns to the pool.
                    let rest = response_reader::read_whole(response.into_body(), ERROR_BODY_BYTES_MAX);
                    let _ = timeout(ONE_WAY_TIMEOUT, rest).await;
                    Ok(())
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => {
                    Err(Failure::StaleConnection(FailureClass::Status, None))
                }
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    Err(Failure::not_sent(FailureClass::Auth, status))
                }
                status => Err(Failure::indeterminate(FailureClass::Status, status)),
            }
        })
    }

    fn try_send(&self, message: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        let endpoint = Arc::clone(&self.endpoint);
        let sending = async move {
            let _permit = permit;
            if let Err(failure) = endpoint.post_one_way(message).await {
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
