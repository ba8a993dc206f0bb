//! The innermost part of the stack: resolves names and hands requests to the backend that really serves them.
//! Keeping the catalogue fresh is `refresh`'s.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use vmcp_domain::{
    Answer, Backend, BackendId, BackendListener, BackendState, CallContext, CallTool, Caller, Cause,
    ChangeListener, Complete, CompletionSubject, Directory, Error, Following, Gateway, GetPrompt, Inventory,
    Overview, PromptList, ReadResource, Reply, ResourceList, ResourceUri, TaskHandle, TaskRequest,
    TemplateList, ToolList,
};

use crate::breaker::Breaker;
use crate::catalogue::{Catalogue, Part};
use crate::finding::Finding;
use crate::follow::Follows;
use crate::listed::{Listed, ListedNames};
use crate::overview::{Permits, overview};
use crate::own_lists::OwnLists;
use crate::personal::Personal;
use crate::policy::{AggregationPolicy, HealthPolicy};
use crate::refresh;
use crate::report::BackendReport;
use crate::shared::{Member, Shared};
use crate::task;

/// Many backends behind the one seam.
///
/// Requests that come before every backend has answered or failed for the first time wait for that, within
/// 15 seconds, so that a client that connects at once does not see half a list.
#[derive(Clone)]
pub struct Federation {
    shared: Arc<Shared>,
}

impl Federation {
    /// Federates `backends`, which stand in the order of the configuration, and keeps their catalogue fresh until
    /// the last clone is dropped. Must be called on a tokio runtime.
    #[must_use]
    pub fn start(policy: AggregationPolicy, health: HealthPolicy, backends: Vec<Arc<dyn Backend>>) -> Self {
        let count = backends.len();
        let apart = backends.iter().enumerate().filter(|(_, backend)| backend.is_personal());
        let personal: Vec<usize> = apart.map(|(place, _)| place).collect();
        let isolating = backends.iter().enumerate().filter(|(_, backend)| backend.isolates());
        let isolating: Vec<usize> = isolating.map(|(index, _)| index).collect();
        let unsettled = count - personal.len();
        let member = |backend| {
            let (wake, breaker) = (Notify::new(), health.breaker.map(Breaker::new));
            Arc::new(Member { backend, wake, breaker, checks: std::sync::Mutex::default() })
        };
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            policy,
            health,
            places: backends
                .iter()
                .enumerate()
                .map(|(place, backend)| (backend.id().clone(), place))
                .collect(),
            members: backends.into_iter().map(member).collect(),
            parts: Mutex::new((0..count).map(|_| None).collect()),
            catalogue: ArcSwap::from_pointee(Catalogue::default()),
            watchers: Mutex::new(Vec::new()),
            personal: Personal::new(personal),
            own_lists: OwnLists::new(isolating),
            listed: ListedNames::default(),
            follows: Follows::default(),
            unsettled: watch::Sender::new(unsettled),
            settled: AtomicBool::new(false),
            discoveries: Semaphore::new(refresh::DISCOVERY_COUNT_MAX),
        });
        let listener: Arc<dyn BackendListener> = shared.clone();
        for member in &shared.members {
            member.backend.listen(Arc::downgrade(&listener));
        }
        refresh::start(&shared);
        Self { shared }
    }

    /// Waits until every backend has answered or failed for the first time.
    pub async fn settled(&self) {
        let mut unsettled = self.shared.unsettled.subscribe();
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = unsettled.wait_for(|count| *count == 0).await;
    }

    /// How every backend is doing, in the order of the configuration.
    #[must_use]
    pub fn reports(&self) -> Vec<BackendReport> {
        let parts = self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let report = |(place, (member, part)): (usize, (&Arc<Member>, &Option<Part>))| {
            let caller_count =
                self.shared.personal.has(place).then(|| self.shared.personal.caller_count(place));
            let inventory = part.as_ref().map(|part| &part.inventory);
            BackendReport {
                id: member.backend.id().clone(),
                status: member.backend.status(),
                listed: caller_count.is_some_and(|count| count > 0)
                    || part.as_ref().is_some_and(|part| part.present),
                tool_count: inventory.map_or(0, |inventory| inventory.tools.len()),
                resource_count: inventory
                    .map_or(0, |inventory| inventory.resources.len() + inventory.templates.len()),
                prompt_count: inventory.map_or(0, |inventory| inventory.prompts.len()),
                caller_count,
                failing: inventory.map_or_else(Vec::new, |inventory| inventory.failing.clone()),
                checks: member.checks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                circuit: member.breaker.as_ref().map(|breaker| breaker.report(Instant::now())),
            }
        };
        self.shared.members.iter().zip(parts.iter()).enumerate().map(report).collect()
    }

    /// What there is to say about the merged offer now.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.shared.catalogue.load().findings.clone()
    }

    /// True for a name that has been on offer to some caller since the start. Only so many names are remembered.
    #[must_use]
    pub fn has_listed(&self, kind: Listed, name: &str) -> bool {
        self.shared.listed.has(kind, name)
    }

    /// What is on offer now of backends that show some item and, where `permits` is given, one that it permits.
    #[must_use]
    pub fn overview_of(&self, permits: Option<Permits<'_>>) -> Overview {
        let mut overview = overview(&self.shared.policy, &self.shared.catalogue.load(), permits);
        if !self.shared.personal.is_empty() {
            // What a caller's own backends can do is found out when the caller first asks for something.
            (overview.completions, overview.logging, overview.subscriptions) = (true, true, true);
            overview.tasks = true;
        }
        overview
    }

    /// Whether calls to a backend can be tried now: it is connected and its breaker is not open.
    #[must_use]
    pub fn reachable(&self, id: &BackendId) -> bool {
        let member = self.shared.places.get(id).and_then(|place| self.shared.members.get(*place));
        member.is_some_and(|member| {
            let closed = member.breaker.as_ref().is_none_or(|breaker| breaker.lets_through(Instant::now()));
            closed && member.backend.status().state == BackendState::Ready
        })
    }

    async fn catalogue(&self, ctx: &CallContext) -> Arc<Catalogue> {
        if self.is_ready() { self.shared.catalogue() } else { Box::pin(self.awaited_catalogue(ctx)).await }
    }

    /// Looks at a caller's catalogue.
    async fn look<T>(&self, ctx: &CallContext, look: impl FnOnce(&Catalogue) -> T) -> T {
        if self.is_ready() {
            // Without counting who looks: many do at once.
            return look(&self.shared.catalogue.load());
        }
        look(&*Box::pin(self.awaited_catalogue(ctx)).await)
    }

    /// True when the catalogue that everyone sees is everybody's whole one, and need not be waited for.
    fn is_ready(&self) -> bool {
        self.shared.is_settled() && self.shared.personal.is_empty() && self.shared.own_lists.is_empty()
    }

    async fn awaited_catalogue(&self, ctx: &CallContext) -> Arc<Catalogue> {
        if !self.shared.is_settled() {
            self.settled().await;
        }
        let own = self.shared.own_lists.parts(&self.shared, ctx);
        if !own.is_empty() {
            let mut parts = self.shared.personal.parts(&self.shared, ctx).await;
            parts.extend(own);
            return self.shared.own_catalogue(parts);
        }
        if self.shared.personal.is_empty() {
            return self.shared.catalogue();
        }
        self.shared.personal.catalogue(&self.shared, ctx).await
    }

    /// Why something that a caller does not see may exist all the same.
    fn missing(&self, ctx: &CallContext, offers: impl Fn(&BackendId, &Inventory) -> bool) -> Option<Error> {
        self.shared.personal.missing(&self.shared, ctx, offers)
    }

    /// Says that the backend of something is away, where it is.
    fn absent(&self, find: impl FnOnce(&Catalogue) -> Option<BackendId>) -> Option<Error> {
        let backend = find(&self.shared.catalogue.load())?;
        let cause = Cause::new("withdrawn from the lists until it returns");
        Some(Error::BackendUnavailable { backend, cause, was_read: false })
    }

    /// True when some backend offers different callers different things, so that no one list is everybody's.
    #[must_use]
    pub fn tells_callers_apart(&self) -> bool {
        !self.shared.personal.is_empty()
    }

    /// Makes one call to a backend, if its breaker lets calls through.
    async fn through<'a>(
        &'a self,
        ctx: &CallContext,
        id: &BackendId,
        call: impl FnOnce(&'a dyn Backend) -> Answer<'a, Reply>,
    ) -> Result<Reply, Error> {
        let member = self.shared.places.get(id).and_then(|place| self.shared.members.get(*place));
        let unknown = || Cause::new(format_args!("the catalogue names unknown backend `{id}`"));
        let member = member.ok_or_else(|| Error::Internal(unknown()))?;
        let Some(breaker) = &member.breaker else { return call(&*member.backend).await };
        // Where the scope fails, the call fails before it reaches the backend.
        let Ok(scope) = member.backend.scope(ctx) else { return call(&*member.backend).await };
        let Some(pass) = breaker.admit(scope, Instant::now()) else {
            return Err(Error::BackendUnavailable {
                backend: id.clone(),
                cause: Cause::new("circuit open"),
                was_read: false,
            });
        };
        let outcome = call(&*member.backend).await;
        pass.end(&outcome, Instant::now());
        outcome
    }
}

impl Directory for Federation {
    fn overview(&self, _caller: &Caller) -> Overview {
        self.overview_of(None)
    }

    fn watch(&self, listener: Weak<dyn ChangeListener>) {
        self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn may_watch(&self, _caller: &Caller, _uri: &ResourceUri) -> bool {
        true
    }

    fn may_listen<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn follow<'a>(&'a self, ctx: &'a CallContext, uri: ResourceUri) -> Answer<'a, Following> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let served = catalogue.serves(&uri).map(|(backend, spelling)| (backend.clone(), spelling));
            drop(catalogue);
            let member = served.and_then(|(backend, spelling)| {
                let place = self.shared.places.get(&backend).copied()?;
                Some((place, self.shared.members.get(place)?, spelling))
            });
            let (place, member, spelling) = member.ok_or_else(|| Error::UnknownResource(uri.clone()))?;
            self.shared.follows.follow(place, &member.backend, ctx, uri, spelling).await
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Federation {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        // Asked several times for each call.
        if self.is_ready() {
            return Box::pin(std::future::ready(Ok(Arc::clone(&self.shared.catalogue.load().tools))));
        }
        Box::pin(async move { Ok(self.look(ctx, |all| Arc::clone(&all.tools)).await) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            let target = self.look(ctx, |all| all.tool(&request.name).map(|tool| tool.target.clone())).await;
            let target = target.ok_or_else(|| {
                let missing = self.missing(ctx, |backend, offered| {
                    let mut names =
                        offered.tools.iter().map(|tool| self.shared.policy.own_name(backend, &tool.name));
                    // A name that clashes has a prefix.
                    names.any(|name| request.name.as_str().ends_with(name.as_str()))
                });
                let absent = || self.absent(|all| all.absent_tool(&request.name).cloned());
                missing.or_else(absent).unwrap_or_else(|| Error::UnknownTool(request.name.clone()))
            })?;
            let reply = self.through(ctx, &target.backend, |backend| {
                backend.call_tool(ctx, target.name, request.arguments, request.continuation, request.rest)
            });
            let reply = reply.await?;
            if reply.is_task() { task::named(ctx, target.backend, request.name, reply) } else { Ok(reply) }
        })
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.resources.clone()) })
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.templates.clone()) })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> Answer<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let served = catalogue.serves(&request.uri).map(|(backend, uri)| (backend.clone(), uri));
            drop(catalogue);
            let (backend, uri) = served.ok_or_else(|| {
                let missing = self.missing(ctx, |_, offered| {
                    offered.resources.iter().any(|one| request.uri == one.uri.as_str().into())
                        || offered.templates.iter().any(|one| one.template.matches(&request.uri))
                });
                missing.unwrap_or_else(|| Error::UnknownResource(request.uri.clone()))
            })?;
            self.through(ctx, &backend, |backend| {
                backend.read_resource(ctx, uri, request.continuation, request.rest)
            })
            .await
        })
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.catalogue(ctx).await.prompts.clone()) })
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> Answer<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            let target = catalogue.prompt(&request.name).map(|prompt| prompt.target.clone());
            drop(catalogue);
            let target = target.ok_or_else(|| {
                let missing = self.missing(ctx, |_, offered| {
                    offered.prompts.iter().any(|one| request.name.as_str().ends_with(one.name.as_str()))
                });
                let absent = || self.absent(|all| all.absent_prompt(&request.name).cloned());
                missing.or_else(absent).unwrap_or_else(|| Error::UnknownPrompt(request.name.clone()))
            })?;
            self.through(ctx, &target.backend, |backend| {
                backend.get_prompt(ctx, target.name, request.arguments, request.continuation, request.rest)
            })
            .await
        })
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        Box::pin(async move {
            let catalogue = self.catalogue(ctx).await;
            match request.subject {
                CompletionSubject::Prompt(name) => {
                    let prompt = catalogue.prompt(&name).ok_or(Error::UnknownPrompt(name))?;
                    let target = prompt.target.clone();
                    self.through(ctx, &target.backend, |backend| {
                        backend.complete_prompt(ctx, target.name, request.rest)
                    })
                    .await
                }
                CompletionSubject::Template(template) => {
                    let served = catalogue.template_backend(&template);
                    let served = served.map(|(backend, template)| (backend.clone(), template));
                    let unknown = || Error::UnknownResource(template.as_str().into());
                    let (backend, template) = served.ok_or_else(unknown)?;
                    self.through(ctx, &backend, |backend| {
                        backend.complete_template(ctx, template, request.rest)
                    })
                    .await
                }
            }
        })
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> Answer<'a, Reply> {
        Box::pin(async move {
            let TaskHandle { backend, tool, id } = request.handle;
            let catalogue = self.catalogue(ctx).await;
            // A name may have come to mean another backend's tool since.
            let same = catalogue.tool(&tool).is_some_and(|tool| tool.target.backend == backend);
            drop(catalogue);
            if !same {
                return Err(Error::UnknownTask);
            }
            self.through(ctx, &backend, |to| to.task(ctx, request.verb, id, request.rest)).await
        })
    }
}

#[cfg(test)]
mod tests;
