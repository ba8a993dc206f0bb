//! A backend as the seam knows it.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;
use vmcp_domain::{
    Answer, Backend, BackendId, BackendListener, BackendPromptName, BackendState, BackendStatus,
    BackendToolName, BackendUri, CallContext, CallerScope, Continuation, Error, Inventory, Json, Members,
    Reply, Scope, TaskVerb, UriTemplate,
};
use vmcp_wire::method;

use crate::calls::{Asked, perform};
use crate::connection::Connection;
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::inventory;
use crate::life::Loss;
use crate::link::Request;
use crate::per_caller::{CallerConnections, ConnectionRef, Grouping};
use crate::policy::Isolation;
use crate::standing::Listening;
use crate::supervisor::{Phase, Shared, ready, refuse};

/// The most resources subscribed to at one backend.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// How much longer than one request a whole inventory may take.
const INVENTORY_SHARE: u32 = 10;

/// The backend.
pub(crate) struct Remote {
    shared: Arc<Shared>,
    /// Where callers have connections of their own; `shared` is then for requests that belong to no caller.
    callers: Option<Arc<CallerConnections>>,
}

impl Remote {
    /// Must be called on a tokio runtime.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let grouping = match (&shared.policy.credentials, shared.policy.isolation) {
            (Some(credentials), _) => Some(Grouping::Credentials(credentials.clone())),
            (None, Isolation::Shared) => None,
            (None, isolation) => Some(Grouping::Isolation(isolation)),
        };
        let callers = grouping.map(|grouping| CallerConnections::start(&shared, grouping));
        Self { shared, callers }
    }

    /// The connection that a caller's requests take.
    async fn connection(&self, ctx: &CallContext) -> Result<ConnectionRef, Error> {
        match &self.callers {
            None => Ok(ConnectionRef::of_main(&self.shared)),
            Some(callers) => callers.of(ctx).await.map_err(|failure| self.unconnected(failure)),
        }
    }

    fn unconnected(&self, failure: Failure) -> Error {
        if let Failure::NotSent(Class::Auth, cause) = &failure {
            return refuse(self.id(), cause);
        }
        failure.into_error(self.id())
    }

    fn timed_out(&self, after: Duration) -> Error {
        Error::BackendTimedOut { backend: self.id().clone(), after }
    }

    fn call_wait(&self) -> Duration {
        self.shared.policy.timeouts.call
    }

    async fn perform(
        &self,
        ctx: &CallContext,
        asked: Asked,
        continuation: Continuation,
    ) -> Result<Reply, Error> {
        let connection = self.connection(ctx).await?;
        perform(&connection, ctx, asked, continuation).await
    }

    async fn subscription(&self, name: &'static str, line: &Shared, uri: &BackendUri) -> Result<(), Error> {
        let changed = timeout(self.call_wait(), line.change_subscription(name, uri)).await;
        let changed = changed.map_err(|_| self.timed_out(self.call_wait()))?;
        changed.map_err(|failure| line.error(failure))
    }
}

impl Shared {
    async fn take_inventory(&self) -> Result<Inventory, Failure> {
        let wait = self.policy.timeouts.call;
        let connection = ready(self).await?;
        match inventory::take(&connection, wait, &self.last_lists).await {
            Err(Failure::Stale(..)) => {
                let connection = ready(self).await?;
                inventory::take(&connection, wait, &self.last_lists).await
            }
            taken => taken,
        }
    }

    /// Adds to what is wanted. False when that would be too much.
    fn want(&self, uri: &BackendUri) -> bool {
        let mut room = true;
        self.wanted.send_if_modified(|wanted| {
            room = wanted.contains(uri) || wanted.len() < SUBSCRIPTIONS_MAX;
            if !room || wanted.contains(uri) {
                return false;
            }
            Arc::<BTreeSet<_>>::make_mut(wanted).insert(uri.clone());
            true
        });
        room
    }

    fn forgo(&self, uri: &BackendUri) {
        self.wanted.send_if_modified(|wanted| {
            wanted.contains(uri) && Arc::<BTreeSet<_>>::make_mut(wanted).remove(uri)
        });
    }

    async fn change_subscription(&self, name: &'static str, uri: &BackendUri) -> Result<(), Failure> {
        let connection = ready(self).await?;
        if connection.has_session() {
            let request = Request::upkeep(name, connection.dialect.subscription(uri));
            connection.exchange(Purpose::Upkeep, |_| request).await.map(drop)
        } else {
            self.await_listening(&connection, uri, name == method::RESOURCES_SUBSCRIBE).await
        }
    }

    /// In 2026-07-28 the open stream is replaced by one that covers what is wanted now.
    async fn await_listening(
        &self,
        connection: &Connection,
        uri: &BackendUri,
        wanted: bool,
    ) -> Result<(), Failure> {
        let mut listening = connection.listening.subscribe();
        let settled = listening.wait_for(|listening| match listening {
            Listening::Opening => false,
            Listening::Open(covered) => covered.contains(uri) == wanted,
            Listening::Refused => true,
        });
        match settled.await.as_deref() {
            Ok(Listening::Refused) if wanted => {
                Err(Failure::broken(Class::Protocol, "the backend does not tell of changed resources"))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::broken(Class::Exited, "the connection ended")),
        }
    }
}

impl Backend for Remote {
    fn id(&self) -> &BackendId {
        &self.shared.policy.id
    }

    fn status(&self) -> BackendStatus {
        let (state, protocol) = match &*self.shared.phase.borrow() {
            Phase::Connecting => (BackendState::Connecting, None),
            Phase::Ready(connection) => (BackendState::Ready, Some(connection.dialect.version)),
            // It is there, and wants to see a caller's credential.
            Phase::Unavailable(Class::Auth) if self.shared.is_look() => (BackendState::Ready, None),
            Phase::Unavailable(_) => (BackendState::Unavailable, None),
            Phase::Stopped => (BackendState::Stopped, None),
        };
        let record = self.shared.record.lock();
        BackendStatus {
            state,
            transport: self.shared.transport(),
            protocol,
            last_error: record.last_error.map(Class::as_str),
            reconnect_count: record.connect_count.saturating_sub(1),
            auth_type: self.shared.policy.auth_type(),
            isolation: self.callers.as_ref().map_or("shared", |callers| callers.isolation()),
            caller_connections: self.callers.as_ref().map(|callers| callers.count()),
            starting: self.shared.starting(),
        }
    }

    fn listen(&self, listener: Weak<dyn BackendListener>) {
        self.shared.ears.listen(listener);
    }

    fn reconnect(&self) -> bool {
        if let Phase::Ready(connection) = &*self.shared.phase.borrow() {
            // A server that does one thing at a time answers no check while it works.
            if connection.link.flights().has_calls() {
                return false;
            }
            connection.link.life().lose(Loss::Failed(Class::HealthCheck));
        }
        true
    }

    fn is_personal(&self) -> bool {
        self.callers.as_ref().is_some_and(|callers| callers.is_personal())
    }

    fn isolates(&self) -> bool {
        self.callers.as_ref().is_some_and(|callers| !callers.is_personal())
    }

    fn context_of(&self, scope: CallerScope) -> Option<CallContext> {
        self.callers.as_ref()?.context_of(scope)
    }

    fn scope(&self, ctx: &CallContext) -> Result<Scope, Error> {
        match &self.callers {
            None => Ok(Scope::Shared),
            Some(callers) => callers.scope(ctx).map_err(|failure| self.unconnected(failure)),
        }
    }

    fn inventory<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Inventory> {
        Box::pin(async move {
            // A caller's lists do not open a connection of its own; without one they are everybody's.
            let line = match &self.callers {
                Some(callers) if !callers.is_personal() => {
                    callers.existing(ctx).unwrap_or_else(|| ConnectionRef::of_main(&self.shared))
                }
                Some(_) | None => self.connection(ctx).await?,
            };
            let wait = self.call_wait() * INVENTORY_SHARE;
            let taken = timeout(wait, line.take_inventory()).await.map_err(|_| self.timed_out(wait))?;
            taken.map_err(|failure| line.error(failure))
        })
    }

    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let asked = Asked::Tool(name, arguments, rest);
        Box::pin(self.perform(ctx, asked, continuation))
    }

    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let asked = Asked::Resource(uri, rest);
        Box::pin(self.perform(ctx, asked, continuation))
    }

    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let asked = Asked::Prompt(name, arguments, rest);
        Box::pin(self.perform(ctx, asked, continuation))
    }

    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let asked = Asked::PromptArgument(name, rest);
        Box::pin(self.perform(ctx, asked, Continuation::default()))
    }

    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        rest: Members,
    ) -> Answer<'a, Reply> {
        let asked = Asked::TemplateVariable(template, rest);
        Box::pin(self.perform(ctx, asked, Continuation::default()))
    }

    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskVerb,
        id: String,
        rest: Members,
    ) -> Answer<'a, Reply> {
        Box::pin(self.perform(ctx, Asked::Task(verb, id, rest), Continuation::default()))
    }

    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        Box::pin(async move {
            let line = self.connection(ctx).await?;
            if !line.want(&uri) {
                return Err(Error::Overloaded);
            }
            let subscribed = self.subscription(method::RESOURCES_SUBSCRIBE, &line, &uri).await;
            if subscribed.is_err() {
                line.forgo(&uri);
            }
            subscribed
        })
    }

    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        Box::pin(async move {
            let line = match &self.callers {
                None => ConnectionRef::of_main(&self.shared),
                Some(callers) => match (callers.existing(ctx), callers.scope(ctx)) {
                    (Some(line), _) => line,
                    (None, Ok(Scope::Shared)) => ConnectionRef::of_main(&self.shared),
                    // A connection that has ended has taken its subscriptions with it.
                    (None, _) => return Ok(()),
                },
            };
            line.forgo(&uri);
            self.subscription(method::RESOURCES_UNSUBSCRIBE, &line, &uri).await
        })
    }
}
