//! The innermost gateway: resolves names and sends each request to the backend that serves it. The module
//! [`refresh`] keeps the catalogue up to date.

mod info;
mod inspect;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use vmcp_domain::{
    Backend, BackendId, BackendListener, BackendState, CallContext, CallTool, Cause, Complete,
    CompletionReference, Error, Gateway, GatewayFuture, GetPrompt, Inventory, Overview, PromptList,
    ReadResource, Reply, ResourceList, StartupWait, TaskHandle, TaskRequest, TemplateList, ToolList,
};

use crate::catalogue::Catalogue;
use crate::catalogue::overview::{ItemFilter, overview};
use crate::health::refresh;
use crate::per_caller::caller_lists::CallerLists;
use crate::per_caller::caller_views::CallerViews;
use crate::pins::ToolPins;
use crate::policy::{AggregationPolicy, HealthPolicy};
use crate::state::FederationState;
use crate::views::CatalogueViews;

/// A gateway over many backends.
///
/// Requests wait until every backend has answered or failed for the first time, at most 15 seconds from the
/// start. A client that connects at once therefore does not receive a partial list.
#[derive(Clone)]
pub struct Federation {
    state: Arc<FederationState>,
    views: Arc<CatalogueViews>,
}

impl Federation {
    /// Federates `backends`, which are in the order of the configuration, and keeps their catalogue up to
    /// date until the last clone is dropped. It must be called within a Tokio runtime, because it spawns
    /// tasks.
    #[must_use]
    pub fn start(policy: AggregationPolicy, health: HealthPolicy, backends: Vec<Arc<dyn Backend>>) -> Self {
        Self::start_with_pins(policy, None, health, backends)
    }

    /// As [`Self::start`], and compares tools with their records.
    #[must_use]
    pub fn start_with_pins(
        policy: AggregationPolicy,
        pins: Option<ToolPins>,
        health: HealthPolicy,
        backends: Vec<Arc<dyn Backend>>,
    ) -> Self {
        let per_caller = backends.iter().enumerate().filter(|(_, backend)| backend.has_caller_credentials());
        let personal: Vec<usize> = per_caller.map(|(index, _)| index).collect();
        let isolating = backends.iter().enumerate().filter(|(_, backend)| backend.has_caller_connections());
        let isolating: Vec<usize> = isolating.map(|(index, _)| index).collect();
        let shared_indices = (0..backends.len()).filter(|index| !personal.contains(index)).collect();
        let state = Arc::new(FederationState::new(policy, pins, health, backends, shared_indices));
        state.publish_saved_lists();
        let views = Arc::new(CatalogueViews {
            shared: Arc::clone(&state),
            caller_views: CallerViews::new(personal),
            caller_lists: CallerLists::new(isolating),
        });
        let listener: Arc<dyn BackendListener> = views.clone();
        for member in &state.backends {
            member.backend.set_listener(Arc::downgrade(&listener));
        }
        refresh::spawn_workers(&views);
        Self { state, views }
    }

    /// Waits until every backend with shared lists has answered or failed for the first time, at most 15
    /// seconds from the start.
    pub async fn wait_for_discovery(&self) {
        let mut undiscovered = self.state.undiscovered.subscribe();
        // The sender lives in `self.state`, so the channel cannot close while this waits.
        let _ = undiscovered.wait_for(|count| *count == 0).await;
    }

    /// Joins the instructions and capabilities of the backends of which some item is visible. With `permits`,
    /// only backends of which it permits a visible item count. Without it, backends that have no items at all
    /// count too.
    #[must_use]
    pub fn overview_for(&self, permits: Option<ItemFilter<'_>>) -> Overview {
        let mut overview = overview(&self.state.policy, &self.state.catalogue.load(), permits);
        if !self.views.caller_views.is_empty() {
            // The capabilities of backends with callers' credentials are unknown until the caller's first
            // request, so the overview declares all of them.
            (overview.completions, overview.logging, overview.subscriptions) = (true, true, true);
            overview.tasks = true;
        }
        overview
    }

    /// Whether a call to this backend can be tried now: the backend is ready and its shared circuit admits a
    /// call. False for an unknown backend.
    #[must_use]
    pub fn is_reachable(&self, id: &BackendId) -> bool {
        let member = self
            .state
            .backend_indices
            .get(id)
            .and_then(|backend_index| self.state.backends.get(*backend_index));
        member.is_some_and(|member| {
            let closed = member.breaker.as_ref().is_none_or(|breaker| breaker.can_call(Instant::now()));
            closed && member.backend.status().state == BackendState::Ready
        })
    }

    async fn catalogue(&self, ctx: &CallContext) -> Arc<Catalogue> {
        if self.has_single_catalogue() {
            self.state.catalogue()
        } else {
            Box::pin(self.wait_for_catalogue(ctx)).await
        }
    }

    /// Applies `look` to the caller's catalogue.
    async fn inspect_catalogue<T>(&self, ctx: &CallContext, look: impl FnOnce(&Catalogue) -> T) -> T {
        if self.has_single_catalogue() {
            // `load` avoids an update of the reference count, which concurrent requests would contend for.
            return look(&self.state.catalogue.load());
        }
        look(&*Box::pin(self.wait_for_catalogue(ctx)).await)
    }

    /// True when all callers see the shared catalogue and discovery has ended: no backend uses callers'
    /// credentials, and no caller's lists differ.
    fn has_single_catalogue(&self) -> bool {
        self.state.is_discovered() && self.views.caller_views.is_empty() && self.views.caller_lists.is_empty()
    }

    async fn wait_for_catalogue(&self, ctx: &CallContext) -> Arc<Catalogue> {
        if !self.state.is_discovered() {
            self.wait_after_start(&ctx.startup_wait).await;
        }
        let own = self.views.caller_lists.listings_for(&self.state, ctx);
        if !own.is_empty() {
            let mut parts = self.views.caller_views.listings_for(&self.state, ctx).await;
            parts.extend(own);
            return self.state.catalogue_with(parts);
        }
        if self.views.caller_views.is_empty() {
            return self.state.catalogue();
        }
        self.views.caller_views.catalogue(&self.state, ctx).await
    }

    async fn wait_after_start(&self, wait: &StartupWait) {
        let is_known = || {
            let catalogue = self.state.catalogue.load();
            match wait {
                StartupWait::Complete | StartupWait::Brief => false,
                StartupWait::Tool(name) => catalogue.tool(name).is_some(),
                StartupWait::Prompt(name) => catalogue.prompt(name).is_some(),
                StartupWait::Resource(uri) => catalogue.resource_backend(uri).is_some(),
            }
        };
        if *wait == StartupWait::Brief {
            let mut unlisted = self.state.unlisted.subscribe();
            let waiting = unlisted.wait_for(BTreeSet::is_empty);
            // What is there by then is served, and the rest is announced as a change.
            let _ = timeout_at(self.state.started_at + self.state.health.startup_wait, waiting).await;
        } else {
            let mut undiscovered = self.state.undiscovered.subscribe();
            // The sender lives in `self.state`, so the channel cannot close while this waits.
            let _ = undiscovered.wait_for(|count| *count == 0 || is_known()).await;
        }
    }

    /// The error for an item that is not in the caller's catalogue although it may exist, because a backend
    /// could not be listed for this caller. `offers` checks an inventory of such a backend for the item.
    fn missing_error(
        &self,
        ctx: &CallContext,
        offers: impl Fn(&BackendId, &Inventory) -> bool,
    ) -> Option<Error> {
        self.views.caller_views.missing_error(&self.state, ctx, offers)
    }

    /// The error for an item of an unavailable backend, if `find` finds that backend in the shared catalogue.
    fn unavailable_error(&self, find: impl FnOnce(&Catalogue) -> Option<BackendId>) -> Option<Error> {
        let backend = find(&self.state.catalogue.load())?;
        let cause = Cause::new("withdrawn from the lists until it returns");
        Some(Error::BackendUnavailable { backend, cause, was_read: false })
    }

    /// True when some backend uses the callers' own credentials, so that its lists depend on the caller.
    #[must_use]
    pub fn has_caller_backends(&self) -> bool {
        !self.views.caller_views.is_empty()
    }

    /// Makes one call to a backend, if its circuit breaker admits the call.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] while the circuit is open, [`Error::Internal`] for an unknown backend,
    /// and the errors of `call`.
    async fn call_backend<'a>(
        &'a self,
        ctx: &CallContext,
        id: &BackendId,
        call: impl FnOnce(&'a dyn Backend) -> GatewayFuture<'a, Reply>,
    ) -> Result<Reply, Error> {
        let member = self
            .state
            .backend_indices
            .get(id)
            .and_then(|backend_index| self.state.backends.get(*backend_index));
        let unknown = || Cause::new(format_args!("the catalogue names unknown backend `{id}`"));
        let member = member.ok_or_else(|| Error::Internal(unknown()))?;
        let Some(breaker) = &member.breaker else { return call(&*member.backend).await };
        // Without a scope there is no credential for this caller, so the call fails before it reaches the
        // backend and the breaker must not count it.
        let Ok(scope) = member.backend.scope(ctx) else { return call(&*member.backend).await };
        let Some(pass) = breaker.admit(scope, Instant::now()) else {
            return Err(Error::BackendUnavailable {
                backend: id.clone(),
                cause: Cause::new("circuit open"),
                was_read: false,
            });
        };
        let outcome = call(&*member.backend).await;
        pass.finish(&outcome, Instant::now());
        outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Federation {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        // The layers above list the tools several times for each call, so the common case needs no async
        // block.
        if self.has_single_catalogue() {
            return Box::pin(std::future::ready(Ok(Arc::clone(&self.state.catalogue.load().tools))));
        }
        Box::pin(async move { Ok(self.inspect_catalogue(ctx, |all| Arc::clone(&all.tools)).await) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let target = self
                .inspect_catalogue(ctx, |all| all.tool(&request.name).map(|tool| tool.target.clone()))
                .await;
            let target = target.ok_or_else(|| {
                let missing = self.missing_error(ctx, |backend, offered| {
                    let mut names = offered
                        .tools
                        .iter()
                        .map(|tool| self.state.policy.unprefixed_name(backend, &tool.name));
                    // A name that clashes has a prefix, so only the end of the requested name is compared.
                    names.any(|name| request.name.as_str().ends_with(name.as_str()))
                });
                let absent = || self.unavailable_error(|all| all.unavailable_tool(&request.name).cloned());
                missing.or_else(absent).unwrap_or_else(|| Error::UnknownTool(request.name.clone()))
            })?;
            let reply = self.call_backend(ctx, &target.backend, |backend| {
                backend.call_tool(ctx, target.name, request.arguments, request.continuation, request.extra)
            });
            let reply = reply.await?;
            if reply.is_task() {
                crate::task::with_task_handle(ctx, target.backend, request.name, reply)
            } else {
                Ok(reply)
            }
        })
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.resources.clone()) })
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.templates.clone()) })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let served =
                catalogue.resolve_resource(&request.uri).map(|(backend, uri)| (backend.clone(), uri));
            drop(catalogue);
            let (backend, uri) = served.ok_or_else(|| {
                let missing = self.missing_error(ctx, |_, offered| {
                    offered.resources.iter().any(|one| request.uri == one.uri.as_str().into())
                        || offered.templates.iter().any(|one| one.template.matches(&request.uri))
                });
                missing.unwrap_or_else(|| Error::UnknownResource(request.uri.clone()))
            })?;
            self.call_backend(ctx, &backend, |backend| {
                backend.read_resource(ctx, uri, request.continuation, request.extra)
            })
            .await
        })
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.prompts.clone()) })
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let target = catalogue.prompt(&request.name).map(|prompt| prompt.target.clone());
            drop(catalogue);
            let target = target.ok_or_else(|| {
                let missing = self.missing_error(ctx, |_, offered| {
                    offered.prompts.iter().any(|one| request.name.as_str().ends_with(one.name.as_str()))
                });
                let absent = || self.unavailable_error(|all| all.unavailable_prompt(&request.name).cloned());
                missing.or_else(absent).unwrap_or_else(|| Error::UnknownPrompt(request.name.clone()))
            })?;
            self.call_backend(ctx, &target.backend, |backend| {
                backend.get_prompt(ctx, target.name, request.arguments, request.continuation, request.extra)
            })
            .await
        })
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            match request.reference {
                CompletionReference::Prompt(name) => {
                    let prompt = catalogue.prompt(&name).ok_or(Error::UnknownPrompt(name))?;
                    let target = prompt.target.clone();
                    self.call_backend(ctx, &target.backend, |backend| {
                        backend.complete_prompt(ctx, target.name, request.extra)
                    })
                    .await
                }
                CompletionReference::Template(template) => {
                    let served = catalogue.resolve_template(&template);
                    let served = served.map(|(backend, template)| (backend.clone(), template));
                    let unknown = || Error::UnknownResource(template.as_str().into());
                    let (backend, template) = served.ok_or_else(unknown)?;
                    self.call_backend(ctx, &backend, |backend| {
                        backend.complete_template(ctx, template, request.extra)
                    })
                    .await
                }
            }
        })
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let TaskHandle { backend, tool, id } = request.handle;
            let catalogue = self.catalogue(ctx).await;
            // Since the task began, the name may have become that of another backend's tool.
            let same = catalogue.tool(&tool).is_some_and(|tool| tool.target.backend == backend);
            drop(catalogue);
            if !same {
                return Err(Error::UnknownTask);
            }
            self.call_backend(ctx, &backend, |to| to.task(ctx, request.operation, id, request.extra)).await
        })
    }
}

#[cfg(test)]
mod tests;
