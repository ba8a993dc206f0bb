//! `subscriptions/listen` of 2026-07-28: a stream of changes that stays open until one side ends it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::Response;
use tokio::time::timeout;
use vmcp_domain::{
    CallContext, CallOrigin, Capability, ClientCapabilities, Error, ProtocolVersion, ResourceUri,
};
use vmcp_wire::error_response::{self, AnswerBody, RequestKind};
use vmcp_wire::jsonrpc::{Id, RpcError};
use vmcp_wire::server::{ListenFilter, Refusal, RequestMeta, outgoing, write_message};

use crate::http::authenticated_peer::AuthenticatedPeer;
use crate::http::body::ResponseBody;
use crate::http::event_buffer::EventBuffer;
use crate::http::event_stream::{EventStream, OnDisconnect};
use crate::http::guard::Accepts;
use crate::http::response::{self, Answer};
use crate::request::changes::change_stream::ChangeStream;
use crate::request::changes::{ListChangeFilter, PendingChanges, WATCHED_PER_CLIENT_MAX};
use crate::request::dispatch::AnswerWriter;
use crate::state::EdgeState;

/// The time-out for the subscription of each resource at its backend. The acknowledgment waits for the
/// subscriptions.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of concurrent subscriptions at backends for one stream.
const CONCURRENT_SUBSCRIBES_MAX: usize = 16;

/// The content of one open stream.
pub(crate) struct ListenStream {
    /// The changes that the stream sends.
    pub(crate) changes: ChangeStream,
    /// The first message.
    pub(crate) acknowledgment: Bytes,
    /// The last message, sent if the gateway ends the stream.
    pub(crate) end_message: Bytes,
}

impl ListenStream {
    /// Opens a stream for the part of `filter` that can be honoured. A resource is left out if its backend
    /// does not accept the subscription in time.
    ///
    /// # Errors
    ///
    /// If the caller may not open a stream now.
    pub(crate) async fn open(
        edge: &EdgeState,
        peer: &AuthenticatedPeer,
        id: &Id,
        filter: ListenFilter,
    ) -> Result<Self, Error> {
        let caller = &peer.caller;
        let mut ctx = CallContext::bare(caller.clone(), CallOrigin::Client);
        ctx.token.clone_from(&peer.token);
        ctx.peer_address = peer.address;
        edge.gateway_info.admit_listen(&ctx).await?;
        let pending = PendingChanges::new(&edge.changes, caller, None);
        let list_filter = ListChangeFilter {
            tools: filter.tools_list_changed,
            resources: filter.resources_list_changed,
            prompts: filter.prompts_list_changed,
        };
        let mut honoured = filter;
        let uris: BTreeSet<String> = if edge.gateway_info.overview(caller).subscriptions {
            std::mem::take(&mut honoured.resource_subscriptions).into_iter().collect()
        } else {
            BTreeSet::new()
        };
        let (ctx, pending_ref) = (&ctx, &pending);
        let subscribe = |uri: String| async move {
            let known: ResourceUri = uri.as_str().into();
            if !edge.gateway_info.can_subscribe(caller, &known) {
                return None;
            }
            let subscription =
                timeout(SUBSCRIBE_TIMEOUT, edge.gateway_info.subscribe(ctx, known.clone())).await.ok()?;
            pending_ref.watch(known, subscription.ok()?).then_some(uri)
        };
        // Resources beyond the limit of one client are not requested from backends.
        let subscribed = stream::iter(uris.into_iter().take(WATCHED_PER_CLIENT_MAX)).map(subscribe);
        honoured.resource_subscriptions =
            subscribed.buffered(CONCURRENT_SUBSCRIBES_MAX).filter_map(std::future::ready).collect().await;
        let end_message =
            write_message(id, 256, |out| edge.result_writer.write_listen_end(out, id.as_json()));
        Ok(Self {
            changes: ChangeStream::for_stream(&edge.changes, &edge.gateway_info, pending, list_filter),
            acknowledgment: outgoing::acknowledged(id, &honoured).into(),
            end_message: end_message.into(),
        })
    }
}

/// The error if `filter` names tasks but the client does not declare the tasks extension (tasks extension,
/// "Task Status Notifications"). The gateway sends no task notifications, and the acknowledgment says so; a
/// client polls its tasks.
pub(crate) fn check_tasks_supported(meta: &RequestMeta, filter: &ListenFilter) -> Option<RpcError> {
    let capabilities = ClientCapabilities { declared: meta.capabilities.clone().unwrap_or_default() };
    if filter.task_ids.is_empty() || capabilities.supports_tasks() {
        return None;
    }
    let error = Error::MissingCapability(Capability::Tasks);
    match error_response::answer(&error, ProtocolVersion::V2026_07_28, RequestKind::Other).body {
        AnswerBody::Error(error) => Some(error),
        AnswerBody::ToolResult(_) => None,
    }
}

/// The error answer if a stream is not opened.
pub(crate) fn refusal_answer(edge: &EdgeState, id: &Id, error: &Error) -> Answer {
    AnswerWriter { edge, protocol: ProtocolVersion::V2026_07_28, id }.write_error(error, RequestKind::Other)
}

/// Opens a stream over HTTP.
///
/// It ends when the credential that it was opened with expires.
pub(crate) async fn open_stream(
    edge: &Arc<EdgeState>,
    accepts: Accepts,
    id: &Id,
    (filter, meta): (ListenFilter, RequestMeta),
    peer: &AuthenticatedPeer,
) -> Response<ResponseBody> {
    if !accepts.events {
        return response::refusal_response(&Refusal::NotAcceptable("text/event-stream"), Some(id));
    }
    if let Some(refusal) = check_tasks_supported(&meta, &filter) {
        return response::json_response(Answer::error(400, Some(id), &refusal));
    }
    let slot = match edge.admit_stream(&peer.caller, peer.address) {
        Ok(slot) => slot,
        Err(refusal) => return response::refusal_response(&refusal, Some(id)),
    };
    let listen_stream = match ListenStream::open(edge, peer, id, filter).await {
        Ok(listen_stream) => listen_stream,
        Err(error) => return response::json_response(refusal_answer(edge, id, &error)),
    };
    let buffer = Arc::new(EventBuffer::non_resumable());
    buffer.push(listen_stream.acknowledgment);
    let events = EventStream::new(edge, buffer, 0, OnDisconnect::Ignore)
        .with_changes(listen_stream.changes, Some(id.clone()))
        .ending_at(edge.stopping.clone(), peer.expires_at, Some(listen_stream.end_message))
        .with_guard(slot)
        .into_events();
    response::event_stream_response(events)
}
