//! The gateway decorator. Lists contain only what the caller may use. Every other request is checked before
//! the inner gateway receives it. A denied item and a missing item give the same error.

pub(crate) mod denial_log;
pub(crate) mod guard;

use std::sync::Arc;

use vmcp_domain::{
    CallContext, CallTool, Complete, CompletionReference, Error, Gateway, GatewayFuture, GetPrompt,
    PromptList, PromptName, ReadResource, Reply, ResourceList, ResourceUri, SharedGateway, TaskRequest,
    TemplateList, ToolList,
};

use crate::layer::guard::Guard;
use crate::policy::AuthzPolicy;
use crate::policy::names::AccessRequest;

/// The decorator that checks every request against the policies.
pub struct Authorized {
    inner: SharedGateway,
    guard: Guard,
}

impl Authorized {
    /// Wraps `inner` in the authorization check.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: Arc<AuthzPolicy>) -> SharedGateway {
        Arc::new(Self { inner, guard: Guard::new(policy) })
    }
}

impl Authorized {
    /// Refuses a prompt that the caller may not get.
    async fn check_prompt(&self, ctx: &CallContext, name: &PromptName) -> Result<(), Error> {
        let known = self.guard.resolve_principal(ctx);
        if !self.guard.needs_prompt_details() {
            let access = AccessRequest::GetPrompt { name: name.as_str(), contested_name: None };
            return self.guard.check(&known, &access);
        }
        let prompts = self.inner.list_prompts(ctx).await?;
        let prompt = self.guard.find_prompt(&prompts, name).ok_or(Error::Denied)?;
        self.guard.check(&known, &AccessRequest::get_prompt(prompt))
    }

    /// Refuses a URI that the caller may not read, or that no list or template visible to the caller
    /// contains.
    async fn check_uri(&self, ctx: &CallContext, uri: &ResourceUri) -> Result<(), Error> {
        let known = self.guard.resolve_principal(ctx);
        let access = AccessRequest::ReadResource { uri: uri.as_str() };
        self.guard.check(&known, &access)?;
        let is_permitted = |uri: &str| self.guard.is_permitted(&known, &AccessRequest::ReadResource { uri });
        match is_uri_offered(self, ctx, uri, is_permitted).await? {
            true => Ok(()),
            false => Err(self.guard.refuse_unlisted(&access)),
        }
    }
}

/// Whether a list or template in `gateway` contains the URI. `gateway` must show only what the caller may use.
///
/// A URI in the resource list is decided by its name. A URI that only matches a template must also pass
/// `is_permitted` for every interpretation that a careless server might give it.
///
/// # Errors
/// The errors of listing the resources or the templates.
pub async fn is_uri_offered<G: Gateway + ?Sized>(
    gateway: &G,
    ctx: &CallContext,
    uri: &ResourceUri,
    is_permitted: impl Fn(&str) -> bool + Send,
) -> Result<bool, Error> {
    if gateway.list_resources(ctx).await?.iter().any(|resource| resource.uri == *uri) {
        return Ok(true);
    }
    let templates = gateway.list_resource_templates(ctx).await?;
    let fits = templates.iter().any(|offered| offered.template.matches(uri));
    Ok(fits && uri.interpretations().all(|reading| is_permitted(&reading)))
}

/// Replaces "unknown tool, resource or prompt" by "denied", so that clients cannot distinguish them.
fn mask_not_found(outcome: Result<Reply, Error>) -> Result<Reply, Error> {
    match outcome {
        Err(Error::UnknownTool(_) | Error::UnknownResource(_) | Error::UnknownPrompt(_)) => {
            Err(Error::Denied)
        }
        other => other,
    }
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Authorized {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.guard.tools(ctx, self.inner.list_tools(ctx).await?)) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let known = self.guard.resolve_principal(ctx);
            let arguments = request.arguments.as_ref();
            let by_name = AccessRequest::CallTool {
                name: request.name.as_str(),
                contested_name: None,
                backend: None,
                hints: None,
                arguments,
            };
            if self.guard.needs_tool_details(&known, &by_name) {
                let tools = self.inner.list_tools(ctx).await?;
                // A missing tool has neither backend nor annotations. A decision without them could differ
                // from that of every existing tool, and so reveal that the tool is missing.
                let tool = self.guard.find_tool(&tools, &request.name).ok_or(Error::Denied)?;
                self.guard.check(&known, &AccessRequest::list_tool(tool).with_arguments(arguments))?;
            } else {
                self.guard.check(&known, &by_name)?;
            }
            mask_not_found(self.inner.call_tool(ctx, request).await)
        })
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.guard.resources(ctx, self.inner.list_resources(ctx).await?)) })
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.guard.templates(ctx, self.inner.list_resource_templates(ctx).await?)) })
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            self.check_uri(ctx, &request.uri).await?;
            mask_not_found(self.inner.read_resource(ctx, request).await)
        })
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.guard.prompts(ctx, self.inner.list_prompts(ctx).await?)) })
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            self.check_prompt(ctx, &request.name).await?;
            mask_not_found(self.inner.get_prompt(ctx, request).await)
        })
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            match &request.reference {
                CompletionReference::Prompt(name) => self.check_prompt(ctx, name).await?,
                CompletionReference::Template(template) => {
                    let access = AccessRequest::ReadResource { uri: template.as_str() };
                    self.guard.check(&self.guard.resolve_principal(ctx), &access)?;
                }
            }
            mask_not_found(self.inner.complete(ctx, request).await)
        })
    }

    /// Requires that the caller may still see the tool of the task. The arguments were checked at the call.
    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let tools = self.guard.tools(ctx, self.inner.list_tools(ctx).await?);
            if !tools.iter().any(|tool| tool.name == request.handle.tool) {
                return Err(Error::UnknownTask);
            }
            self.inner.task(ctx, request).await
        })
    }
}
