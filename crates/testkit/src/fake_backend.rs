//! A backend whose inventory and state a test sets by hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use vmcp_domain::{
    Answer, Backend, BackendEvent, BackendId, BackendListener, BackendPromptName, BackendState,
    BackendStatus, BackendToolName, BackendUri, CallContext, Caller, CallerScope, Cause, Continuation, Error,
    FailingList, Identity, Inventory, Json, Members, OfferRemark, OfferedPrompt, OfferedResource,
    OfferedTemplate, OfferedTool, Origin, ProtocolVersion, Reply, Scope, TaskVerb, ToolHints, UriTemplate,
};

/// Answers every request with a line that names the backend and what was asked.
pub struct FakeBackend {
    id: BackendId,
    state: Mutex<BackendState>,
    inventory: Mutex<Inventory>,
    listener: Mutex<Option<Weak<dyn BackendListener>>>,
    /// The tools of each caller by subject, where it tells callers apart; the others are not let in.
    callers: Option<Mutex<HashMap<String, Inventory>>>,
    /// Gives each known caller a connection of its own.
    isolates: bool,
    /// What it was asked to follow, and to follow no more.
    followed: Mutex<Vec<String>>,
    /// How often it was asked for its inventory.
    asked: AtomicUsize,
    /// How often its connection was ended because of failing checks.
    reconnects: AtomicUsize,
    inventory_fails: AtomicBool,
}

impl FakeBackend {
    /// A connected backend that offers nothing yet.
    #[must_use]
    pub fn new(id: &str) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            state: Mutex::new(BackendState::Ready),
            inventory: Mutex::new(Inventory::default()),
            listener: Mutex::new(None),
            callers: None,
            isolates: false,
            followed: Mutex::default(),
            asked: AtomicUsize::new(0),
            reconnects: AtomicUsize::new(0),
            inventory_fails: AtomicBool::new(false),
        })
    }

    /// How often it was asked for its inventory.
    #[must_use]
    pub fn inventory_count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on it cannot say what it offers, or can again.
    pub fn fail_inventory(&self, fails: bool) {
        self.inventory_fails.store(fails, Ordering::Relaxed);
    }

    /// What of its offer was mended or left out, and which of its lists fail.
    pub fn set_faults(&self, remarks: Vec<OfferRemark>, failing: Vec<FailingList>) {
        let mut inventory = self.inventory.lock().unwrap();
        (inventory.remarks, inventory.failing) = (remarks, failing);
    }

    /// How often its connection was ended because of failing checks.
    #[must_use]
    pub fn reconnect_count(&self) -> usize {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// A connected backend that tells callers apart and lets nobody in yet.
    #[must_use]
    pub fn personal(id: &str) -> Arc<Self> {
        let backend = Self::new(id);
        let mut own = Arc::into_inner(backend).unwrap();
        own.callers = Some(Mutex::default());
        Arc::new(own)
    }

    /// A connected backend that gives each known caller a connection of its own, on which it offers what everyone sees
    /// unless the caller's own tools are set.
    #[must_use]
    pub fn isolating(id: &str, tools: &[&str]) -> Arc<Self> {
        let mut own = Arc::into_inner(Self::personal(id)).unwrap();
        own.isolates = true;
        own.set_tools(tools);
        Arc::new(own)
    }

    /// Lets a caller in, who sees these tools; `None` shuts it out.
    pub fn set_tools_of(&self, subject: &str, tools: Option<&[&str]>) {
        let inventory = tools.map(|tools| Inventory {
            tools: tools.iter().map(|name| self.offer(name)).collect(),
            ..Inventory::default()
        });
        let mut callers = self.callers.as_ref().unwrap().lock().unwrap();
        match inventory {
            Some(inventory) => callers.insert(subject.to_owned(), inventory),
            None => callers.remove(subject),
        };
    }

    /// Every subscription up to now: `+uri` for one that was asked for, `-uri` for one that was taken back.
    #[must_use]
    pub fn followed(&self) -> Vec<String> {
        self.followed.lock().unwrap().clone()
    }

    /// The scope of a caller.
    #[must_use]
    pub fn scope_of(subject: &str) -> Scope {
        let mut digest = [0; 32];
        for (slot, byte) in digest.iter_mut().zip(subject.bytes()) {
            *slot = byte;
        }
        Scope::Caller(CallerScope::new(digest))
    }

    /// A connected backend with these tools.
    #[must_use]
    pub fn with_tools(id: &str, tools: &[&str]) -> Arc<Self> {
        let backend = Self::new(id);
        backend.set_tools(tools);
        backend
    }

    /// Replaces its tools, without telling anyone.
    pub fn set_tools(&self, tools: &[&str]) {
        self.inventory.lock().unwrap().tools = tools.iter().map(|name| self.offer(name)).collect();
    }

    fn offer(&self, name: &str) -> OfferedTool {
        let definition = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}},"x":1.0}}"#);
        OfferedTool {
            name: name.into(),
            description: Some(format!("{name} of {}", self.id)),
            hints: ToolHints::default(),
            definition: members(&definition),
        }
    }

    /// Replaces its resources and templates, and declares that it serves them.
    pub fn set_resources(&self, uris: &[&str], templates: &[&str]) {
        let mut inventory = self.inventory.lock().unwrap();
        inventory.capabilities.set("resources", Json::empty_object());
        inventory.resources = uris
            .iter()
            .map(|uri| OfferedResource {
                uri: (*uri).into(),
                definition: members(&format!(r#"{{"uri":"{uri}"}}"#)),
            })
            .collect();
        inventory.templates = templates
            .iter()
            .map(|template| OfferedTemplate {
                template: (*template).into(),
                definition: members(&format!(r#"{{"uriTemplate":"{template}"}}"#)),
            })
            .collect();
    }

    /// Replaces its prompts.
    pub fn set_prompts(&self, names: &[&str]) {
        self.inventory.lock().unwrap().prompts = names
            .iter()
            .map(|name| OfferedPrompt {
                name: (*name).into(),
                definition: members(&format!(r#"{{"name":"{name}"}}"#)),
            })
            .collect();
    }

    /// Changes its state and tells the listener of it.
    pub fn set_state(&self, state: BackendState) {
        *self.state.lock().unwrap() = state;
        self.tell(if state == BackendState::Ready { BackendEvent::Connected } else { BackendEvent::Lost });
    }

    /// Tells the listener something.
    pub fn tell(&self, event: BackendEvent) {
        self.tell_on(Scope::Shared, event);
    }

    /// Tells the listener something on the line of one scope.
    pub fn tell_on(&self, scope: Scope, event: BackendEvent) {
        let listener = self.listener.lock().unwrap().clone();
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            listener.heard(&self.id, scope, event);
        }
    }

    fn answer<'a>(&'a self, line: String) -> Answer<'a, Reply> {
        Box::pin(async move {
            self.check()?;
            Ok(Reply::complete(
                [("said".to_owned(), Json::string(&format!("{}: {line}", self.id)))].into_iter().collect(),
            ))
        })
    }

    fn check(&self) -> Result<(), Error> {
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
            last_error: None,
            reconnect_count: 0,
            auth_type: "unauthenticated",
            isolation: "shared",
            caller_connections: None,
            starting: None,
        }
    }

    fn listen(&self, listener: Weak<dyn BackendListener>) {
        *self.listener.lock().unwrap() = Some(listener);
    }

    fn reconnect(&self) -> bool {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn is_personal(&self) -> bool {
        self.callers.is_some() && !self.isolates
    }

    fn isolates(&self) -> bool {
        self.isolates
    }

    fn context_of(&self, scope: CallerScope) -> Option<CallContext> {
        // The scope is made of the subject.
        let issuer = "https://issuer".to_owned();
        let subjects: Vec<String> = self.callers.as_ref()?.lock().unwrap().keys().cloned().collect();
        let subject = subjects.into_iter().find(|one| Self::scope_of(one) == Scope::Caller(scope))?;
        let identity = Arc::new(Identity { issuer, subject, claims: Members::new() });
        Some(CallContext::bare(Caller::Known(identity), Origin::Gateway))
    }

    fn scope(&self, ctx: &CallContext) -> Result<Scope, Error> {
        match (&self.callers, ctx.caller.identity()) {
            (None, _) => Ok(Scope::Shared),
            (Some(_), known) if self.isolates => {
                Ok(known.map_or(Scope::Shared, |identity| Self::scope_of(&identity.subject)))
            }
            (Some(_), Some(identity)) if ctx.token.is_some() => Ok(Self::scope_of(&identity.subject)),
            (Some(_), _) => Err(Error::Denied),
        }
    }

    fn inventory<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Inventory> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if *self.state.lock().unwrap() == BackendState::Connecting {
                // Real ones wait for the connection, for as long as connecting may take.
                std::future::pending::<()>().await;
            }
            self.check()?;
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
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("call {name}"))
    }

    fn read_resource<'a>(
        &'a self,
        _ctx: &'a CallContext,
        uri: BackendUri,
        _continuation: Continuation,
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("read {uri}"))
    }

    fn get_prompt<'a>(
        &'a self,
        _ctx: &'a CallContext,
        name: BackendPromptName,
        _arguments: Option<Json>,
        _continuation: Continuation,
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("prompt {name}"))
    }

    fn complete_prompt<'a>(
        &'a self,
        _ctx: &'a CallContext,
        name: BackendPromptName,
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("complete prompt {name}"))
    }

    fn complete_template<'a>(
        &'a self,
        _ctx: &'a CallContext,
        template: UriTemplate,
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("complete template {template}"))
    }

    fn task<'a>(
        &'a self,
        _ctx: &'a CallContext,
        verb: TaskVerb,
        id: String,
        _rest: Members,
    ) -> Answer<'a, Reply> {
        self.answer(format!("{verb:?} task {id}"))
    }

    fn subscribe<'a>(&'a self, _ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.followed.lock().unwrap().push(format!("+{uri}"));
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, _ctx: &'a CallContext, uri: BackendUri) -> Answer<'a, ()> {
        Box::pin(async move {
            self.followed.lock().unwrap().push(format!("-{uri}"));
            self.check()
        })
    }
}
