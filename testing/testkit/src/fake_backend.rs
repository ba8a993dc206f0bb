//! A fake backend with an inventory and a state that the test sets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use vmcp_domain::{
    Backend, BackendEvent, BackendId, BackendListener, BackendPromptName, BackendState, BackendStatus,
    BackendToolName, BackendUri, CallContext, CallOrigin, Caller, CallerScope, Cause, Continuation, Error,
    GatewayFuture, Identity, Inventory, IsolationScope, ListFailure, MalformedItem, OfferedPrompt,
    OfferedResource, OfferedTemplate, OfferedTool, ProtocolVersion, Reply, TaskOperation, ToolHints,
    UriTemplate,
};
use vmcp_json::{Json, Members};

/// How often a fake backend that is being connected looks whether it is.
const CONNECTING_POLL: Duration = Duration::from_millis(10);

/// A fake backend. It answers every request with a line that names the backend and the request.
pub struct FakeBackend {
    id: BackendId,
    state: Mutex<BackendState>,
    inventory: Mutex<Inventory>,
    listener: Mutex<Option<Weak<dyn BackendListener>>>,
    /// The inventory of each known caller by subject, if the backend distinguishes callers. Unknown callers
    /// are denied.
    callers: Option<Mutex<HashMap<String, Inventory>>>,
    /// Known callers have their own connections (`isolation`), and unknown callers are not denied.
    isolates: bool,
    /// The log of subscriptions; see [`FakeBackend::subscription_log`].
    subscription_log: Mutex<Vec<String>>,
    /// How often the inventory was requested.
    inventory_requests: AtomicUsize,
    /// How often a reconnect was requested because of failed health checks.
    reconnect_requests: AtomicUsize,
    inventory_fails: AtomicBool,
    /// The inventory that an earlier process saved.
    saved: Mutex<Option<Inventory>>,
}

impl FakeBackend {
    /// A connected backend with an empty inventory.
    #[must_use]
    pub fn new(id: &str) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            state: Mutex::new(BackendState::Ready),
            inventory: Mutex::new(Inventory::default()),
            listener: Mutex::new(None),
            callers: None,
            isolates: false,
            subscription_log: Mutex::default(),
            inventory_requests: AtomicUsize::new(0),
            reconnect_requests: AtomicUsize::new(0),
            inventory_fails: AtomicBool::new(false),
            saved: Mutex::default(),
        })
    }

    /// How often the inventory was requested.
    #[must_use]
    pub fn inventory_count(&self) -> usize {
        self.inventory_requests.load(Ordering::Relaxed)
    }

    /// Sets the tools that an earlier process saved.
    pub fn set_saved_tools(&self, tools: &[&str]) {
        *self.saved.lock().unwrap() = Some(self.inventory_of(tools));
    }

    fn inventory_of(&self, tools: &[&str]) -> Inventory {
        let tools = tools.iter().map(|name| self.tool_offer(name)).collect();
        Inventory { tools, ..Inventory::default() }
    }

    /// Makes requests for the inventory fail from now on, or succeed again.
    pub fn fail_inventory(&self, fails: bool) {
        self.inventory_fails.store(fails, Ordering::Relaxed);
    }

    /// Sets the repaired or omitted items of the inventory, and the lists that fail.
    pub fn set_faults(&self, remarks: Vec<MalformedItem>, failing: Vec<ListFailure>) {
        let mut inventory = self.inventory.lock().unwrap();
        (inventory.malformed_items, inventory.list_failures) = (remarks, failing);
    }

    /// How often a reconnect was requested because of failed health checks.
    #[must_use]
    pub fn reconnect_count(&self) -> usize {
        self.reconnect_requests.load(Ordering::Relaxed)
    }

    /// A connected backend that distinguishes callers and denies all of them until
    /// [`FakeBackend::set_tools_of`].
    #[must_use]
    pub fn personal(id: &str) -> Arc<Self> {
        let backend = Self::new(id);
        let mut own = Arc::into_inner(backend).unwrap();
        own.callers = Some(Mutex::default());
        Arc::new(own)
    }

    /// A connected backend that gives each known caller its own connection. A caller sees the shared
    /// inventory unless the caller's own tools are set.
    #[must_use]
    pub fn isolating(id: &str, tools: &[&str]) -> Arc<Self> {
        let mut own = Arc::into_inner(Self::personal(id)).unwrap();
        own.isolates = true;
        own.set_tools(tools);
        Arc::new(own)
    }

    /// Admits the caller with these tools; `None` denies the caller.
    pub fn set_tools_of(&self, subject: &str, tools: Option<&[&str]>) {
        let inventory = tools.map(|tools| self.inventory_of(tools));
        let mut callers = self.callers.as_ref().unwrap().lock().unwrap();
        match inventory {
            Some(inventory) => callers.insert(subject.to_owned(), inventory),
            None => callers.remove(subject),
        };
    }

    /// All subscription requests so far: `+uri` for a subscribe request, `-uri` for an unsubscribe request.
    #[must_use]
    pub fn subscription_log(&self) -> Vec<String> {
        self.subscription_log.lock().unwrap().clone()
    }

    /// The isolation scope of the caller with this subject.
    #[must_use]
    pub fn scope_of(subject: &str) -> IsolationScope {
        let mut digest = [0; 32];
        for (slot, byte) in digest.iter_mut().zip(subject.bytes()) {
            *slot = byte;
        }
        IsolationScope::Caller(CallerScope::new(digest))
    }

    /// A connected backend with these tools.
    #[must_use]
    pub fn with_tools(id: &str, tools: &[&str]) -> Arc<Self> {
        let backend = Self::new(id);
        backend.set_tools(tools);
        backend
    }

    /// Replaces the tools without an event.
    pub fn set_tools(&self, tools: &[&str]) {
        self.inventory.lock().unwrap().tools = tools.iter().map(|name| self.tool_offer(name)).collect();
    }

    fn tool_offer(&self, name: &str) -> OfferedTool {
        let definition = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}},"x":1.0}}"#);
        OfferedTool {
            name: name.into(),
            description: Some(format!("{name} of {}", self.id)),
            hints: ToolHints::default(),
            definition: members(&definition),
        }
    }

    /// Replaces the resources and templates, and declares the capability `resources`.
    pub fn set_resources(&self, uris: &[&str], templates: &[&str]) {
        let mut inventory = self.inventory.lock().unwrap();
        inventory.capabilities.insert("resources", Json::empty_object());
        let definition = |key: &str, value: &str| members(&format!(r#"{{"{key}":"{value}"}}"#));
        let resource =
            |uri: &&str| OfferedResource { uri: (*uri).into(), definition: definition("uri", uri) };
        inventory.resources = uris.iter().map(resource).collect();
        let template = |template: &&str| OfferedTemplate {
            template: (*template).into(),
            definition: definition("uriTemplate", template),
        };
        inventory.templates = templates.iter().map(template).collect();
    }

    /// Replaces the prompts.
    pub fn set_prompts(&self, names: &[&str]) {
        self.inventory.lock().unwrap().prompts = names
            .iter()
            .map(|name| OfferedPrompt {
                name: (*name).into(),
                definition: members(&format!(r#"{{"name":"{name}"}}"#)),
            })
            .collect();
    }

    /// Changes the state and emits the event for it.
    pub fn set_state(&self, state: BackendState) {
        *self.state.lock().unwrap() = state;
        self.emit(if state == BackendState::Ready {
            BackendEvent::Connected
        } else {
            BackendEvent::Disconnected
        });
    }

    /// Emits an event in the shared scope.
    pub fn emit(&self, event: BackendEvent) {
        self.emit_in_scope(IsolationScope::Shared, event);
    }

    /// Emits an event in one isolation scope.
    pub fn emit_in_scope(&self, scope: IsolationScope, event: BackendEvent) {
        let listener = self.listener.lock().unwrap().clone();
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            listener.on_event(&self.id, scope, event);
        }
    }

    fn reply<'a>(&'a self, line: String) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            self.check_ready()?;
            Ok(Reply::complete(
                [("said".to_owned(), Json::string(&format!("{}: {line}", self.id)))].into_iter().collect(),
            ))
        })
    }

    fn check_ready(&self) -> Result<(), Error> {
        if *self.state.lock().unwrap() == BackendState::Ready {
            return Ok(());
        }
        Err(Error::BackendUnavailable {
            backend: self.id.clone(),
            cause: Cause::new("down by script"),
            was_read: false,
        })
    }
}

fn members(text: &str) -> Arc<Members> {
    Arc::new(Json::parse(text).unwrap().members().unwrap())
}

impl Backend for FakeBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn status(&self) -> BackendStatus {
        BackendStatus {
            state: *self.state.lock().unwrap(),
            transport: "fake",
            protocol: Some(ProtocolVersion::V2026_07_28),
            connect_failure: None,
            last_error: None,
            reconnect_count: 0,
            auth_type: "unauthenticated",
            isolation: "shared",
            caller_connections: None,
            startup: None,
        }
    }

    fn saved_inventory(&self) -> Option<Inventory> {
        self.saved.lock().unwrap().clone()
    }

    fn set_listener(&self, listener: Weak<dyn BackendListener>) {
        *self.listener.lock().unwrap() = Some(listener);
    }

    fn reconnect(&self) -> bool {
        self.reconnect_requests.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn has_caller_credentials(&self) -> bool {
        self.callers.is_some() && !self.isolates
    }

    fn has_caller_connections(&self) -> bool {
        self.isolates
    }

    fn context_for(&self, scope: CallerScope) -> Option<CallContext> {
        // The scope is derived from the subject, so the subject is found by comparison.
        let issuer = "https://issuer".to_owned();
        let subjects: Vec<String> = self.callers.as_ref()?.lock().unwrap().keys().cloned().collect();
        let subject =
            subjects.into_iter().find(|one| Self::scope_of(one) == IsolationScope::Caller(scope))?;
        let identity = Arc::new(Identity { issuer, subject, claims: Members::new() });
        Some(CallContext::bare(Caller::Known(identity), CallOrigin::Gateway))
    }

    fn scope(&self, ctx: &CallContext) -> Result<IsolationScope, Error> {
        match (&self.callers, ctx.caller.identity()) {
            (None, _) => Ok(IsolationScope::Shared),
            (Some(_), known) if self.isolates => {
                Ok(known.map_or(IsolationScope::Shared, |identity| Self::scope_of(&identity.subject)))
            }
            (Some(_), Some(identity)) if ctx.token.is_some() => Ok(Self::scope_of(&identity.subject)),
            (Some(_), _) => Err(Error::Denied),
        }
    }

    fn fetch_inventory<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Inventory> {
        self.inventory_requests.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            // A real backend waits for its connection, up to its connect time-out.
            while *self.state.lock().unwrap() == BackendState::Connecting {
                tokio::time::sleep(CONNECTING_POLL).await;
            }
            self.check_ready()?;
            if self.inventory_fails.load(Ordering::Relaxed) {
                return Err(Error::BackendFailed {
                    backend: self.id.clone(),
                    cause: Cause::new("status: 500"),
                });
            }
            if let Some(callers) = &self.callers {
                let subject = ctx.caller.identity().map_or("", |identity| &identity.subject);
                let own = callers.lock().unwrap().get(subject).cloned();
                return match own {
                    Some(own) => Ok(own),
                    None if self.isolates => Ok(self.inventory.lock().unwrap().clone()),
                    None => Err(Error::Denied),
                };
            }
            Ok(self.inventory.lock().unwrap().clone())
        })
    }

    fn call_tool<'a>(
        &'a self,
        _ctx: &'a CallContext,
        name: BackendToolName,
        _arguments: Option<Json>,
        _continuation: Continuation,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("call {name}"))
    }

    fn read_resource<'a>(
        &'a self,
        _ctx: &'a CallContext,
        uri: BackendUri,
        _continuation: Continuation,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("read {uri}"))
    }

    fn get_prompt<'a>(
        &'a self,
        _ctx: &'a CallContext,
        name: BackendPromptName,
        _arguments: Option<Json>,
        _continuation: Continuation,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("prompt {name}"))
    }

    fn complete_prompt<'a>(
        &'a self,
        _ctx: &'a CallContext,
        name: BackendPromptName,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("complete prompt {name}"))
    }

    fn complete_template<'a>(
        &'a self,
        _ctx: &'a CallContext,
        template: UriTemplate,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("complete template {template}"))
    }

    fn task<'a>(
        &'a self,
        _ctx: &'a CallContext,
        verb: TaskOperation,
        id: String,
        _extra: Members,
    ) -> GatewayFuture<'a, Reply> {
        self.reply(format!("{verb:?} task {id}"))
    }

    fn subscribe<'a>(&'a self, _ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        Box::pin(async move {
            self.check_ready()?;
            self.subscription_log.lock().unwrap().push(format!("+{uri}"));
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, _ctx: &'a CallContext, uri: BackendUri) -> GatewayFuture<'a, ()> {
        Box::pin(async move {
            self.subscription_log.lock().unwrap().push(format!("-{uri}"));
            self.check_ready()
        })
    }
}
