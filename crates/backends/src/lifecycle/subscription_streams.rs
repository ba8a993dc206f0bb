//! Long-lived streams on which a backend reports changes: the GET stream of versions with sessions, and
//! `subscriptions/listen` of 2026-07-28. A backend may offer neither.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use vmcp_domain::{BackendEvent, BackendUri, BoxFuture};
use vmcp_timing::Backoff;
use vmcp_wire::client::{ServerCapability, read_notification};
use vmcp_wire::jsonrpc::Message;
use vmcp_wire::method;

use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::connection::event_sender::EventSender;
use crate::connection::link::McpRequest;
use crate::connection::listen_state::{ListenState, ResourceSubscriptions};
use crate::connection::pending_requests::Purpose;
use crate::connection::server_request::{SERVER_REQUESTS_MAX, ServerRequest};
use crate::failure::{Failure, FailureClass};
use crate::http::client::{ContentKind, content_kind};
use crate::http::endpoint::Endpoint;
use crate::http::response_reader::{EventReader, for_each_message};

/// The first and the longest delay between attempts to open a background stream.
const REOPEN_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A stream that was open this long resets the back-off.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Minimum delay before a stream is opened again.
const REOPEN_DELAY_MIN: Duration = Duration::from_secs(1);

/// Keeps the GET stream of versions with sessions open until the connection closes, or until the backend
/// declines it.
pub(crate) async fn run_get_stream(connection: Arc<Connection>, endpoint: Arc<Endpoint>) {
    let mut backoff = Backoff::new(REOPEN_DELAYS.0, REOPEN_DELAYS.1);
    let (mut last_event_id, mut was_open) = (None, false);
    loop {
        let opened = Instant::now();
        match endpoint.get(last_event_id.as_deref()).await {
            Ok((response, _))
                if response.status().is_success() && content_kind(&response) == ContentKind::Events =>
            {
                was_open = true;
                let mut events = EventReader::new(response.into_body(), true);
                handle_unsolicited(&connection, &endpoint, &mut events).await;
                last_event_id = events.last_event_id;
            }
            // If a stream was open before, the backend now refuses it because its session is gone.
            Ok((response, _))
                if was_open
                    && matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) =>
            {
                connection.link.close_signal().close(CloseReason::SessionLost(FailureClass::Status));
                return;
            }
            // A server declines the stream with 405; some servers use another status.
            Ok((response, _)) if !is_transient(response.status()) => return,
            Ok(_) => {}
            Err(failure) => connection.close_on_failure(&failure),
        }
        if opened.elapsed() >= STABLE_AFTER {
            backoff.reset();
        }
        sleep(backoff.next_delay().max(REOPEN_DELAY_MIN)).await;
    }
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
}

/// Handles all messages on a stream that belongs to no request.
async fn handle_unsolicited(connection: &Connection, endpoint: &Arc<Endpoint>, events: &mut EventReader) {
    let pending_requests = connection.link.pending_requests();
    let mut replies: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        let event = tokio::select! {
            event = events.next_event() => event,
            Some(()) = replies.next(), if !replies.is_empty() => continue,
        };
        let Ok(Some(event)) = event else {
            return;
        };
        for_each_message(event, |message| match message {
            Ok(Message::Notification { method, params }) => {
                pending_requests.dispatch_notice(read_notification(&method, params.as_ref()), None);
            }
            Ok(Message::Request { id, method, params }) => {
                let server_request = ServerRequest::read(&method, params, pending_requests, None);
                if replies.len() >= SERVER_REQUESTS_MAX {
                    tracing::debug!(backend = %connection.backend, "dropped a request: too many are open");
                    return;
                }
                replies.push(Box::pin(async move {
                    let reply = server_request.reply(id).await;
                    if let Err(failure) = endpoint.post_one_way(reply).await {
                        tracing::debug!(%failure, "an answer to the backend was not taken");
                    }
                }));
            }
            Ok(Message::Response { .. }) => {}
            Err(unreadable) => {
                let why = unreadable.cause;
                tracing::debug!(backend = %connection.backend, why, "skipped an event that is not JSON-RPC");
            }
        });
    }
}

/// Keeps `subscriptions/listen` open until the connection closes. It covers the list changes and the wanted
/// resources.
pub(crate) async fn run_listen_stream(
    connection: Arc<Connection>,
    event_sender: Arc<EventSender>,
    mut subscriptions: watch::Receiver<ResourceSubscriptions>,
) {
    let mut backoff = Backoff::new(REOPEN_DELAYS.0, REOPEN_DELAYS.1);
    let mut gap = false;
    loop {
        let resources = Arc::clone(&subscriptions.borrow_and_update());
        if resources.is_empty() && !connection.initialize_info.has_list_changed() {
            connection.listen_state.send_replace(ListenState::Open(resources));
            if subscriptions.changed().await.is_err() {
                return;
            }
            continue;
        }
        let opened = Instant::now();
        let outcome = tokio::select! {
            outcome = listen_once(&connection, &resources, gap.then_some(&*event_sender)) => outcome,
            changed = subscriptions.changed() => match changed {
                // The stream is replaced at once; the gap is negligible.
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        gap = true;
        let refused = matches!(outcome, Err(Failure::Refused(_)));
        connection.listen_state.send_replace(if refused {
            ListenState::Refused
        } else {
            ListenState::Opening
        });
        if opened.elapsed() >= STABLE_AFTER {
            backoff.reset();
        }
        let wait = backoff.next_delay().max(REOPEN_DELAY_MIN);
        tokio::select! {
            () = sleep(wait), if !refused => {}
            changed = subscriptions.changed() => if changed.is_err() { return },
        }
    }
}

/// Runs one stream from its opening to its end. `gap` is the sender that reports everything that may have
/// changed while no stream was open; `None` if there was no gap.
async fn listen_once(
    connection: &Connection,
    resources: &ResourceSubscriptions,
    gap: Option<&EventSender>,
) -> Result<(), Failure> {
    let uris: Vec<BackendUri> = resources.iter().cloned().collect();
    let (is_open_sender, mut acknowledged) = watch::channel(false);
    let request = McpRequest {
        is_long_lived: true,
        ..McpRequest::maintenance(method::LISTEN, connection.dialect.listen(&uris))
    };
    let mut stream = Box::pin(connection.exchange(Purpose::Listen(is_open_sender), |_| request));
    // No borrow of the channel may be held while waiting for the stream.
    let is_open = async { acknowledged.wait_for(|is_open_sender| *is_open_sender).await.is_ok() };
    let is_open = tokio::select! {
        outcome = &mut stream => return outcome.map(drop),
        is_open = is_open => is_open,
    };
    if !is_open {
        return stream.await.map(drop);
    }
    connection.listen_state.send_replace(ListenState::Open(Arc::clone(resources)));
    if let Some(event_sender) = gap {
        announce_all_changes(connection, event_sender);
    }
    stream.await.map(drop)
}

fn announce_all_changes(connection: &Connection, event_sender: &EventSender) {
    for (offer, event) in [
        (ServerCapability::Tools, BackendEvent::ToolsChanged),
        (ServerCapability::Resources, BackendEvent::ResourcesChanged),
        (ServerCapability::Prompts, BackendEvent::PromptsChanged),
    ] {
        if connection.initialize_info.has_capability(offer) {
            event_sender.send(event);
        }
    }
}
