//! The decorator: lists show what the caller may use, and everything else is refused before the inside hears of it.
//! What is denied and what does not exist cannot be told apart.

use std::sync::Arc;

use vmcp_domain::{
    Answer, CallContext, CallTool, Complete, CompletionSubject, Error, Gateway, GetPrompt, PromptList,
    ReadResource, Reply, ResourceList, ResourceUri, SharedGateway, TaskRequest, TemplateList, ToolList,
};

use crate::guard::Guard;
use crate::policy::AuthzPolicy;
use crate::words::Ask;

/// The layer that asks the policies.
pub struct Authorized {
    inner: SharedGateway,
    guard: Guard,
}

impl Authorized {
    /// Puts the layer around `inner`.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: Arc<AuthzPolicy>) -> SharedGateway {
        Arc::new(Self { inner, guard: Guard::new(policy) })
    }
}

impl Authorized {
    /// Refuses an address that the caller may not read, or that nothing the caller sees leads to.
    async fn check_address(&self, ctx: &CallContext, uri: &ResourceUri) -> Result<(), Error> {
        let known = self.guard.recognise(ctx);
        let ask = Ask::ReadResource { uri: uri.as_str() };
        self.guard.check(&known, &ask)?;
        let permits = |uri: &str| self.guard.shows(&known, &Ask::ReadResource { uri });
        match leads_to(self, ctx, uri, permits).await? {
            true => Ok(()),
            false => Err(self.guard.refuse_unlisted(&ask)),
        }
    }
}

/// Whether something in `offer`, which shows what the caller may use, leads to an address. What a list names is judged by
/// its name; an address that only fits a template, also by what a careless server takes it for: `permits` is asked for
/// each of these readings.
///
/// # Errors
/// Those of the lists.
pub async fn leads_to<G: Gateway + ?Sized>(
    offer: &G,
    ctx: &CallContext,
    uri: &ResourceUri,
    permits: impl Fn(&str) -> bool + Send,
) -> Result<bool, Error> {
    if offer.list_resources(ctx).await?.iter().any(|resource| resource.uri == *uri) {
        return Ok(true);
    }
    let templates = offer.list_resource_templates(ctx).await?;
    let fits = templates.iter().any(|offered| offered.template.matches(uri));
    Ok(fits && uri.readings().all(|reading| permits(&reading)))
}

/// What does not exist answers as what is denied.
fn alike(outcome: Result<Reply, Error>) -> Result<Reply, Error> {
    match outcome {
        Err(Error::UnknownTool(_) | Error::UnknownResource(_) | Error::UnknownPrompt(_)) => {
            Err(Error::Denied)
        }
        other => other,
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Authorized {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.guard.tools(ctx, self.inner.list_tools(ctx).await?)) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            let known = self.guard.recognise(ctx);
            let arguments = request.arguments.as_ref();
            let ask =
                |backend, hints| Ask::CallTool { name: request.name.as_str(), backend, hints, arguments };
            if self.guard.reads_tool(&known, &ask(None, None)) {
                let tools = self.inner.list_tools(ctx).await?;
                // Without its backend and annotations a tool that does not exist would be judged as no tool that does is.
                let (backend, hints) = self.guard.find(&tools, &request.name).ok_or(Error::Denied)?;
                self.guard.check(&known, &ask(Some(backend.as_str()), Some(&hints)))?;
            } else {
                self.guard.check(&known, &ask(None, None))?;
            }
            alike(self.inner.call_tool(ctx, request).await)
        })
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.guard.resources(ctx, self.inner.list_resources(ctx).await?)) })
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.guard.templates(ctx, self.inner.list_resource_templates(ctx).await?)) })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> Answer<'a, Reply> {
        Box::pin(async move {
            self.check_address(ctx, &request.uri).await?;
            alike(self.inner.read_resource(ctx, request).await)
        })
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.guard.prompts(ctx, self.inner.list_prompts(ctx).await?)) })
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> Answer<'a, Reply> {
        Box::pin(async move {
            self.guard.check(&self.guard.recognise(ctx), &Ask::GetPrompt { name: request.name.as_str() })?;
            alike(self.inner.get_prompt(ctx, request).await)
        })
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        Box::pin(async move {
            let ask = match &request.subject {
                CompletionSubject::Prompt(name) => Ask::GetPrompt { name: name.as_str() },
                CompletionSubject::Template(template) => Ask::ReadResource { uri: template.as_str() },
            };
            self.guard.check(&self.guard.recognise(ctx), &ask)?;
            alike(self.inner.complete(ctx, request).await)
        })
    }

    /// The arguments were judged when the call was made; here it counts that the caller may still see the tool.
    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> Answer<'a, Reply> {
        Box::pin(async move {
            let tools = self.guard.tools(ctx, self.inner.list_tools(ctx).await?);
            if !tools.iter().any(|tool| tool.name == request.handle.tool) {
                return Err(Error::UnknownTask);
            }
            self.inner.task(ctx, request).await
        })
    }
}
