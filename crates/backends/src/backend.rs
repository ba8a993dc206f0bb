//! `RemoteBackend` implements the `Backend` trait of `vmcp-domain`. It selects the connection of each request
//! and manages resource subscriptions; `call` executes the request on that connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;
use vmcp_domain::{
    Backend, BackendId, BackendListener, BackendPromptName, BackendState, BackendStatus, BackendToolName,
    BackendUri, CallContext, CallerScope, Continuation, Error, GatewayFuture, Inventory, IsolationScope,
    Reply, TaskOperation, UriTemplate,
};
use vmcp_json::{Json, Members};
use vmcp_wire::method;

use crate::call::{BackendRequest, execute};
use crate::connection::Connection;
use crate::connection::close_signal::CloseReason;
use crate::connection::inventory;
use crate::connection::link::McpRequest;
use crate::connection::listen_state::ListenState;
use crate::connection::pending_requests::Purpose;
use crate::failure::{Failure, FailureClass};
use crate::http::request_credentials::Credentials;
use crate::lifecycle::per_caller::{CallerConnections, ConnectionRef, Grouping};
use crate::lifecycle::readiness::wait_until_ready;
use crate::lifecycle::supervised::{Phase, SupervisedConnection, deny_caller};
use crate::policy::Isolation;
use crate::saved_lists::SavedListsFile;

/// Maximum number of resource subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Factor by which the time-out of a whole inventory exceeds the time-out of one request.
const INVENTORY_TIMEOUT_FACTOR: u32 = 10;

/// A configured backend with its connections.
pub(crate) struct RemoteBackend {
    main: Arc<SupervisedConnection>,
    /// Connections of single callers; `None` if all callers share `main`. If it is set, `main` serves the
    /// requests that `CallerConnections` assigns to no single caller.
    caller_connections: Option<Arc<CallerConnections>>,
    /// The lists as they were last read, for the next process.
    saved_lists: Option<SavedListsFile>,
}

impl RemoteBackend {
    /// Must run on a tokio runtime, because `CallerConnections::start` spawns tasks.
    pub(crate) fn new(
        supervised: Arc<SupervisedConnection>,
        credentials: Option<Credentials>,
        saved_lists: Option<SavedListsFile>,
    ) -> Self {
        let grouping = match (credentials, supervised.policy.isolation) {
            (Some(credentials), _) => Some(Grouping::Credentials(credentials)),
            (None, Isolation::Shared) => None,
            (None, isolation) => Some(Grouping::Isolation(isolation)),
        };
        let callers = grouping.map(|grouping| CallerConnections::start(&supervised, grouping));
        // Lists that depend on the caller are never saved.
        let saved_lists =
            saved_lists.filter(|_| !callers.as_ref().is_some_and(|callers| callers.is_personal()));
        Self { main: supervised, caller_connections: callers, saved_lists }
    }

    /// The connection that serves a request of this caller; it is opened if needed.
    async fn acquire_connection(&self, ctx: &CallContext) -> Result<ConnectionRef, Error> {
        match &self.caller_connections {
            None => Ok(ConnectionRef::main(&self.main)),
            Some(callers) => callers.get_or_open(ctx).await.map_err(|failure| self.connection_error(failure)),
        }
    }

    fn connection_error(&self, failure: Failure) -> Error {
        if let Failure::NotSent(FailureClass::Auth, cause) = &failure {
            return deny_caller(self.id(), cause);
        }
        failure.into_error(self.id())
    }

    fn timeout_error(&self, after: Duration) -> Error {
        Error::BackendTimedOut { backend: self.id().clone(), after }
    }

    fn call_timeout(&self) -> Duration {
        self.main.policy.timeouts.call
    }

    async fn execute_request(
        &self,
        ctx: &CallContext,
        request: BackendRequest,
        continuation: Continuation,
    ) -> Result<Reply, Error> {
        let connection = self.acquire_connection(ctx).await?;
        execute(&connection, ctx, request, continuation).await
    }

    /// Saves lists of the gateway's own connection in the background, if they were read completely.
    fn save_lists(&self, connection: &SupervisedConnection, inventory: &Inventory) {
        let Some(file) = &self.saved_lists else { return };
        let Phase::Ready(connected) = &*connection.phase.borrow() else { return };
        if connection.is_personal() || !inventory.list_failures.is_empty() {
            return;
        }
        let (file, inventory, version) = (file.clone(), inventory.clone(), connected.dialect.version);
        self.main.tasks.spawn_blocking(move || file.save(&inventory, version));
    }

    async fn update_subscription(
        &self,
        name: &'static str,
        connection: &SupervisedConnection,
        uri: &BackendUri,
    ) -> Result<(), Error> {
        let changed = timeout(self.call_timeout(), connection.change_subscription(name, uri)).await;
        let changed = changed.map_err(|_| self.timeout_error(self.call_timeout()))?;
        changed.map_err(|failure| connection.to_error(failure))
    }
}

impl SupervisedConnection {
    async fn fetch_inventory(&self) -> Result<Inventory, Failure> {
        let wait = self.policy.timeouts.call;
        let connection = wait_until_ready(self).await?;
        match inventory::fetch(&connection, wait, &self.last_lists).await {
            Err(Failure::StaleConnection(..)) => {
                let connection = wait_until_ready(self).await?;
                inventory::fetch(&connection, wait, &self.last_lists).await
            }
            fetched => fetched,
        }
    }

    /// Adds `uri` to the subscriptions. Returns false if there are already `SUBSCRIPTIONS_MAX` others.
    fn add_subscription(&self, uri: &BackendUri) -> bool {
        let mut has_room = true;
        self.subscriptions.send_if_modified(|wanted| {
            has_room = wanted.contains(uri) || wanted.len() < SUBSCRIPTIONS_MAX;
            if !has_room || wanted.contains(uri) {
                return false;
            }
            Arc::<BTreeSet<_>>::make_mut(wanted).insert(uri.clone());
            true
        });
        has_room
    }

    fn remove_subscription(&self, uri: &BackendUri) {
        self.subscriptions.send_if_modified(|wanted| {
            wanted.contains(uri) && Arc::<BTreeSet<_>>::make_mut(wanted).remove(uri)
        });
    }

    async fn change_subscription(&self, name: &'static str, uri: &BackendUri) -> Result<(), Failure> {
        let connection = wait_until_ready(self).await?;
        if connection.has_session() {
            let request = McpRequest::maintenance(name, connection.dialect.subscription(uri));
            connection.exchange(Purpose::Maintenance, |_| request).await.map(drop)
        } else {
            self.wait_for_listen_state(&connection, uri, name == method::RESOURCES_SUBSCRIBE).await
        }
    }

    /// Waits until the listen stream reflects a changed subscription. In 2026-07-28 `run_listen_stream`
    /// replaces the open stream by one that covers the current subscriptions.
    async fn wait_for_listen_state(
        &self,
        connection: &Connection,
        uri: &BackendUri,
        wanted: bool,
    ) -> Result<(), Failure> {
        let mut listen_state = connection.listen_state.subscribe();
        let settled = listen_state.wait_for(|listen_state| match listen_state {
            ListenState::Opening => false,
            ListenState::Open(covered) => covered.contains(uri) == wanted,
            ListenState::Refused => true,
        });
        match settled.await.as_deref() {
            Ok(ListenState::Refused) if wanted => Err(Failure::indeterminate(
                FailureClass::Protocol,
                "the backend sends no notifications of changed resources",
            )),
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::indeterminate(FailureClass::Exited, "the connection ended")),
        }
    }
}

impl Backend for RemoteBackend {
    fn id(&self) -> &BackendId {
        &self.main.policy.id
    }

    fn status(&self) -> BackendStatus {
        let (state, protocol) = match &*self.main.phase.borrow() {
            Phase::Connecting => (BackendState::Connecting, None),
            Phase::Ready(connection) => (BackendState::Ready, Some(connection.dialect.version)),
            // The backend is reachable. It only refuses the gateway's own connection, because it requires a
            // caller's credential.
            Phase::Unavailable(FailureClass::Auth) if self.main.is_gateway_probe() => {
                (BackendState::Ready, None)
            }
            Phase::Unavailable(_) => (BackendState::Unavailable, None),
            Phase::Stopped => (BackendState::Stopped, None),
        };
        let record = self.main.record.lock();
        BackendStatus {
            state,
            transport: self.main.transport_name(),
            protocol,
            last_error: record.last_error.map(FailureClass::as_str),
            connect_failure: record.connect_failure.clone(),
            reconnect_count: record.connect_count.saturating_sub(1),
            auth_type: self.main.policy.auth_type(),
            isolation: self.caller_connections.as_ref().map_or("shared", |callers| callers.isolation()),
            caller_connections: self.caller_connections.as_ref().map(|callers| callers.count()),
            startup: self.main.starting(),
        }
    }

    fn set_listener(&self, listener: Weak<dyn BackendListener>) {
        self.main.event_sender.set_listener(listener);
    }

    fn reconnect(&self) -> bool {
        if let Phase::Ready(connection) = &*self.main.phase.borrow() {
            // A server that handles one request at a time does not answer a health check during a call.
            if connection.link.pending_requests().has_calls() {
                return false;
            }
            connection.link.close_signal().close(CloseReason::Failed(FailureClass::HealthCheck));
        }
        true
    }

    fn has_caller_credentials(&self) -> bool {
        self.caller_connections.as_ref().is_some_and(|callers| callers.is_personal())
    }

    fn has_caller_connections(&self) -> bool {
        self.caller_connections.as_ref().is_some_and(|callers| !callers.is_personal())
    }

    fn context_for(&self, scope: CallerScope) -> Option<CallContext> {
        self.caller_connections.as_ref()?.context_of(scope)
    }

    fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, Error> {
        match &self.caller_connections {
            None => Ok(IsolationScope::Shared),
            Some(callers) => callers.scope(ctx).map_err(|failure| self.connection_error(failure)),
        }
    }

    fn fetch_inventory<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Inventory> {
        Box::pin(async move {
            // Fetching a caller's lists does not open a connection for it. Without one, the lists of the
            // shared connection apply: they are the same for all callers.
            let connection = match &self.caller_connections {
                Some(callers) if !callers.is_personal() => {
                    callers.acquire_existing(ctx).unwrap_or_else(|| ConnectionRef::main(&self.main))
                }
                Some(_) | None => self.acquire_connection(ctx).await?,
            };
            let wait = self.call_timeout() * INVENTORY_TIMEOUT_FACTOR;
            let fetched =
                timeout(wait, connection.fetch_inventory()).await.map_err(|_| self.timeout_error(wait))?;
            let inventory = fetched.map_err(|failure| connection.to_error(failure))?;
            self.save_lists(&connection, &inventory);
            Ok(inventory)
        })
    }

    fn saved_inventory(&self) -> Option<Inventory> {
        self.saved_lists.as_ref()?.load()
    }

    fn call_tool<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let request = BackendRequest::Tool(name, arguments, extra);
        Box::pin(self.execute_request(ctx, request, continuation))
    }

    fn read_resource<'a>(
        &'a self,
        ctx: &'a CallContext,
        uri: BackendUri,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let request = BackendRequest::Resource(uri, extra);
        Box::pin(self.execute_request(ctx, request, continuation))
    }

    fn get_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let request = BackendRequest::Prompt(name, arguments, extra);
        Box::pin(self.execute_request(ctx, request, continuation))
    }

    fn complete_prompt<'a>(
        &'a self,
        ctx: &'a CallContext,
        name: BackendPromptName,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let request = BackendRequest::CompletePromptArgument(name, extra);
        Box::pin(self.execute_request(ctx, request, Continuation::default()))
    }

    fn complete_template<'a>(
        &'a self,
        ctx: &'a CallContext,
        template: UriTemplate,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        let request = BackendRequest::CompleteTemplateVariable(template, extra);
        Box::pin(self.execute_request(ctx, request, Continuation::default()))
    }

    fn task<'a>(
        &'a self,
        ctx: &'a CallContext,
        verb: TaskOperation,
        id: String,
        extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        Box::pin(self.execute_request(ctx, BackendRequest::Task(verb, id, extra), Continuation::default()))
    }

    fn subscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        Box::pin(async move {
            let connection = self.acquire_connection(ctx).await?;
            if !connection.add_subscription(&uri) {
                return Err(Error::Overloaded);
            }
            let subscribed = self.update_subscription(method::RESOURCES_SUBSCRIBE, &connection, &uri).await;
            if subscribed.is_err() {
                connection.remove_subscription(&uri);
            }
            subscribed
        })
    }

    fn unsubscribe<'a>(&'a self, ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        Box::pin(async move {
            let connection = match &self.caller_connections {
                None => ConnectionRef::main(&self.main),
                Some(callers) => match (callers.acquire_existing(ctx), callers.scope(ctx)) {
                    (Some(connection), _) => connection,
                    (None, Ok(IsolationScope::Shared)) => ConnectionRef::main(&self.main),
                    // The subscriptions of a connection end when it closes.
                    (None, _) => return Ok(()),
                },
            };
            connection.remove_subscription(&uri);
            self.update_subscription(method::RESOURCES_UNSUBSCRIBE, &connection, &uri).await
        })
    }
}
