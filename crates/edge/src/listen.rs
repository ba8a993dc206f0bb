//! `subscriptions/listen` of 2026-07-28: a stream of changes that stays open until one side ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use vmcp_domain::{Caller, ResourceUri};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::{ListenFilter, Refusal, notice, write_message};

use crate::body::EdgeBody;
use crate::changes::{Feed, Inbox, Wanted};
use crate::edge::Edge;
use crate::entrance::Entrant;
use crate::guard::Accepts;
use crate::reply;
use crate::spool::Spool;
use crate::stream::{Hold, Reader};

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
    /// Agrees to what of `filter` can be honoured.
    pub(crate) fn begin(edge: &Edge, caller: &Caller, id: &Id, filter: ListenFilter) -> Self {
        let inbox = Inbox::new(&edge.changes, caller);
        let wanted = Wanted {
            tools: filter.tools_list_changed,
            resources: filter.resources_list_changed,
            prompts: filter.prompts_list_changed,
        };
        let mut honoured = filter;
        let uris: BTreeSet<String> = if edge.directory.overview().subscriptions {
            std::mem::take(&mut honoured.resource_subscriptions).into_iter().collect()
        } else {
            BTreeSet::new()
        };
        let watches = |uri: ResourceUri| edge.directory.may_watch(caller, &uri) && inbox.watch(uri);
        honoured.resource_subscriptions =
            uris.into_iter().filter(|uri| watches(uri.as_str().into())).collect();
        let farewell = write_message(id, 256, |out| edge.face.write_listen_end(out, id.as_json()));
        Self {
            feed: Feed::of_stream(&edge.changes, inbox, wanted),
            acknowledgment: notice::acknowledged(id, &honoured).into(),
            farewell: farewell.into(),
        }
    }
}

/// Opens a stream over HTTP.
///
/// It ends with the credential it was opened with, if that ends.
pub(crate) fn open(
    edge: &Arc<Edge>,
    accepts: Accepts,
    id: &Id,
    filter: ListenFilter,
    entrant: &Entrant,
) -> Response<EdgeBody> {
    if !accepts.events {
        return reply::refuse(&Refusal::NotAcceptable("text/event-stream"), Some(id));
    }
    let permit = match edge.admit_stream() {
        Ok(permit) => permit,
        Err(refusal) => return reply::refuse(&refusal, Some(id)),
    };
    let listening = Listening::begin(edge, &entrant.caller, id, filter);
    let spool = Arc::new(Spool::once());
    spool.push(listening.acknowledgment);
    let events = Reader::new(edge, spool, 0, Hold::Nothing)
        .with_feed(listening.feed, Some(id.clone()))
        .until(edge.stopping.clone(), entrant.until, Some(listening.farewell))
        .holding(permit)
        .into_events();
    reply::events(events)
}
