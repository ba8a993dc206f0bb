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
use vmcp_wire::fault::{self, AnswerBody, RequestKind};
use vmcp_wire::jsonrpc::{Id, RpcError};
use vmcp_wire::server::{ListenFilter, Refusal, RequestMeta, notice, write_message};

use crate::http::authentication::AuthenticatedPeer;
use crate::http::body::ResponseBody;
use crate::http::event_buffer::EventBuffer;
use crate::http::event_stream::{EventStream, OnDisconnect};
use crate::http::guard::Accepts;
use crate::http::response::{self, Answer};
use crate::request::changes::{ChangeStream, ListChangeFilter, PendingChanges, WATCHED_PER_CLIENT_MAX};
use crate::request::dispatch::AnswerWriter;
use crate::state::EdgeState;

/// How long backends may take to take up the resources of one stream; the acknowledgment waits for that.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many resources of one stream are taken up at a time.
const CONCURRENT_SUBSCRIBES_MAX: usize = 16;

/// What one client listens to.
pub(crate) struct ListenStream {
    /// The changes it will be told of.
    pub(crate) changes: ChangeStream,
    /// The first message.
    pub(crate) acknowledgment: Bytes,
    /// The last message, when the gateway ends the stream.
    pub(crate) end_message: Bytes,
}

impl ListenStream {
    /// Agrees to what of `filter` can be honoured. Resources whose backend does not take them up in time are not.
    ///
    /// # Errors
    /// When the caller may open no stream now.
    pub(crate) async fn open(
        edge: &EdgeState,
        entrant: &AuthenticatedPeer,
        id: &Id,
        filter: ListenFilter,
    ) -> Result<Self, Error> {
        let caller = &entrant.caller;
        let mut ctx = CallContext::bare(caller.clone(), CallOrigin::Client);
        ctx.token.clone_from(&entrant.token);
        ctx.peer_address = entrant.address;
        edge.gateway_info.admit_listen(&ctx).await?;
        let inbox = PendingChanges::new(&edge.changes, caller, None);
        let wanted = ListChangeFilter {
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
        let (ctx, inbox_of) = (&ctx, &inbox);
        let follow = |uri: String| async move {
            let known: ResourceUri = uri.as_str().into();
            if !edge.gateway_info.can_subscribe(caller, &known) {
                return None;
            }
            let following =
                timeout(SUBSCRIBE_TIMEOUT, edge.gateway_info.subscribe(ctx, known.clone())).await.ok()?;
            inbox_of.watch(known, following.ok()?).then_some(uri)
        };
        // More than a client may watch are not even asked for.
        let followed = stream::iter(uris.into_iter().take(WATCHED_PER_CLIENT_MAX)).map(follow);
        honoured.resource_subscriptions =
            followed.buffered(CONCURRENT_SUBSCRIBES_MAX).filter_map(std::future::ready).collect().await;
        let farewell = write_message(id, 256, |out| edge.result_writer.write_listen_end(out, id.as_json()));
        Ok(Self {
            changes: ChangeStream::for_stream(&edge.changes, &edge.gateway_info, inbox, wanted),
            acknowledgment: notice::acknowledged(id, &honoured).into(),
            end_message: farewell.into(),
        })
    }
}

/// Why a stream is not opened: whoever asks for tasks has to say that it follows any (tasks extension, "Task Status
/// Notifications"). None are told of on a stream, and the acknowledgment says so: a client asks for them.
pub(crate) fn check_tasks_supported(head: &RequestMeta, filter: &ListenFilter) -> Option<RpcError> {
    let capabilities = ClientCapabilities { declared: head.capabilities.clone().unwrap_or_default() };
    if filter.task_ids.is_empty() || capabilities.supports_tasks() {
        return None;
    }
    let error = Error::MissingCapability(Capability::Tasks);
    match fault::answer(&error, ProtocolVersion::V2026_07_28, RequestKind::Other).body {
        AnswerBody::Error(error) => Some(error),
        AnswerBody::ToolResult(_) => None,
    }
}

/// The answer where no stream is opened.
pub(crate) fn refusal_answer(edge: &EdgeState, id: &Id, error: &Error) -> Answer {
    AnswerWriter { edge, protocol: ProtocolVersion::V2026_07_28, id }.write_error(error, RequestKind::Other)
}

/// Opens a stream over HTTP.
///
/// It ends with the credential it was opened with, if that ends.
pub(crate) async fn open_stream(
    edge: &Arc<EdgeState>,
    accepts: Accepts,
    id: &Id,
    (filter, head): (ListenFilter, RequestMeta),
    entrant: &AuthenticatedPeer,
) -> Response<ResponseBody> {
    if !accepts.events {
        return response::refusal_response(&Refusal::NotAcceptable("text/event-stream"), Some(id));
    }
    if let Some(refusal) = check_tasks_supported(&head, &filter) {
        return response::json_response(Answer::error(400, Some(id), &refusal));
    }
    let permit = match edge.admit_stream(&entrant.caller, entrant.address) {
        Ok(permit) => permit,
        Err(refusal) => return response::refusal_response(&refusal, Some(id)),
    };
    let listening = match ListenStream::open(edge, entrant, id, filter).await {
        Ok(listening) => listening,
        Err(error) => return response::json_response(refusal_answer(edge, id, &error)),
    };
    let spool = Arc::new(EventBuffer::non_resumable());
    spool.push(listening.acknowledgment);
    let events = EventStream::new(edge, spool, 0, OnDisconnect::Ignore)
        .with_changes(listening.changes, Some(id.clone()))
        .ending_at(edge.stopping.clone(), entrant.expires_at, Some(listening.end_message))
        .with_guard(permit)
        .into_events();
    response::event_stream_response(events)
}
