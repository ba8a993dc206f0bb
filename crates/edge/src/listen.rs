//! `subscriptions/listen` of 2026-07-28: a stream of changes that stays open until one side ends it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::Response;
use tokio::time::timeout;
use vmcp_domain::{CallContext, Capability, ClientCapabilities, Error, Origin, ProtocolVersion, ResourceUri};
use vmcp_wire::fault::{self, Body, Verb};
use vmcp_wire::jsonrpc::{Id, RpcError};
use vmcp_wire::server::{ListenFilter, Refusal, RequestHead, notice, write_message};

use crate::body::EdgeBody;
use crate::changes::{Feed, Inbox, WATCHED_PER_CLIENT_MAX, Wanted};
use crate::dispatch::Answers;
use crate::edge::Edge;
use crate::entrance::Entrant;
use crate::guard::Accepts;
use crate::reply::{self, Answer};
use crate::spool::Spool;
use crate::stream::{Hold, Reader};

/// How long backends may take to take up the resources of one stream; the acknowledgment waits for that.
const FOLLOW_WAIT: Duration = Duration::from_secs(5);
/// How many resources of one stream are taken up at a time.
const FOLLOWS_AT_ONCE_MAX: usize = 16;

/// What one client listens to.
pub(crate) struct Listening {
    /// The changes it will be told of.
    pub(crate) feed: Feed,
    /// The first message.
    pub(crate) acknowledgment: Bytes,
    /// The last message, when the gateway ends the stream.
    pub(crate) farewell: Bytes,
}

impl Listening {
    /// Agrees to what of `filter` can be honoured. Resources whose backend does not take them up in time are not.
    ///
    /// # Errors
    /// When the caller may open no stream now.
    pub(crate) async fn begin(
        edge: &Edge,
        entrant: &Entrant,
        id: &Id,
        filter: ListenFilter,
    ) -> Result<Self, Error> {
        let caller = &entrant.caller;
        let mut ctx = CallContext::bare(caller.clone(), Origin::Client);
        ctx.token.clone_from(&entrant.token);
        ctx.peer = entrant.address;
        edge.directory.may_listen(&ctx).await?;
        let inbox = Inbox::new(&edge.changes, caller, None);
        let wanted = Wanted {
            tools: filter.tools_list_changed,
            resources: filter.resources_list_changed,
            prompts: filter.prompts_list_changed,
        };
        let mut honoured = filter;
        let uris: BTreeSet<String> = if edge.directory.overview(caller).subscriptions {
            std::mem::take(&mut honoured.resource_subscriptions).into_iter().collect()
        } else {
            BTreeSet::new()
        };
        let (ctx, inbox_of) = (&ctx, &inbox);
        let follow = |uri: String| async move {
            let known: ResourceUri = uri.as_str().into();
            if !edge.directory.may_watch(caller, &known) {
                return None;
            }
            let following = timeout(FOLLOW_WAIT, edge.directory.follow(ctx, known.clone())).await.ok()?;
            inbox_of.watch(known, following.ok()?).then_some(uri)
        };
        // More than a client may watch are not even asked for.
        let followed = stream::iter(uris.into_iter().take(WATCHED_PER_CLIENT_MAX)).map(follow);
        honoured.resource_subscriptions =
            followed.buffered(FOLLOWS_AT_ONCE_MAX).filter_map(std::future::ready).collect().await;
        let farewell = write_message(id, 256, |out| edge.face.write_listen_end(out, id.as_json()));
        Ok(Self {
            feed: Feed::of_stream(&edge.changes, &edge.directory, inbox, wanted),
            acknowledgment: notice::acknowledged(id, &honoured).into(),
            farewell: farewell.into(),
        })
    }
}

/// Why a stream is not opened: whoever asks for tasks has to say that it follows any (tasks extension, "Task Status
/// Notifications"). None are told of on a stream, and the acknowledgment says so: a client asks for them.
pub(crate) fn unfit(head: &RequestHead, filter: &ListenFilter) -> Option<RpcError> {
    let capabilities = ClientCapabilities { declared: head.capabilities.clone().unwrap_or_default() };
    if filter.task_ids.is_empty() || capabilities.follows_tasks() {
        return None;
    }
    let error = Error::MissingCapability(Capability::Tasks);
    match fault::answer(&error, ProtocolVersion::V2026_07_28, Verb::Other).body {
        Body::Error(error) => Some(error),
        Body::ToolResult(_) => None,
    }
}

/// The answer where no stream is opened.
pub(crate) fn refused(edge: &Edge, id: &Id, error: &Error) -> Answer {
    Answers { edge, protocol: ProtocolVersion::V2026_07_28, id }.error(error, Verb::Other)
}

/// Opens a stream over HTTP.
///
/// It ends with the credential it was opened with, if that ends.
pub(crate) async fn open(
    edge: &Arc<Edge>,
    accepts: Accepts,
    id: &Id,
    (filter, head): (ListenFilter, RequestHead),
    entrant: &Entrant,
) -> Response<EdgeBody> {
    if !accepts.events {
        return reply::refuse(&Refusal::NotAcceptable("text/event-stream"), Some(id));
    }
    if let Some(refusal) = unfit(&head, &filter) {
        return reply::json(Answer::error(400, Some(id), &refusal));
    }
    let permit = match edge.admit_stream(&entrant.caller, entrant.address) {
        Ok(permit) => permit,
        Err(refusal) => return reply::refuse(&refusal, Some(id)),
    };
    let listening = match Listening::begin(edge, entrant, id, filter).await {
        Ok(listening) => listening,
        Err(error) => return reply::json(refused(edge, id, &error)),
    };
    let spool = Arc::new(Spool::once());
    spool.push(listening.acknowledgment);
    let events = Reader::new(edge, spool, 0, Hold::Nothing)
        .with_feed(listening.feed, Some(id.clone()))
        .until(edge.stopping.clone(), entrant.until, Some(listening.farewell))
        .holding(permit)
        .into_events();
    reply::events(events)
}
