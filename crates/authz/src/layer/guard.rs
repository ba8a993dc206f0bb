//! Combines the pure decision with the caches between requests. Holds no reference to a backend.

use std::sync::Arc;

use vmcp_domain::{
    CallContext, Error, Prompt, PromptList, PromptName, Resource, ResourceList, ResourceTemplate,
    TemplateList, Tool, ToolList, ToolName,
};

use crate::layer::denial_log::DenialLog;
use crate::policy::AuthzPolicy;
use crate::policy::name_index::NameIndex;
use crate::policy::names::{AccessRequest, Action};
use crate::principal::principal_cache::{CachedPrincipal, PrincipalCache, ViewCache};

/// The policies and all caches.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: Arc<AuthzPolicy>,
    denial_log: DenialLog,
    principals: PrincipalCache,
    tool_index: NameIndex<Tool, ToolName>,
    prompt_index: NameIndex<Prompt, PromptName>,
    tools: ViewCache<Tool>,
    resources: ViewCache<Resource>,
    templates: ViewCache<ResourceTemplate>,
    prompts: ViewCache<Prompt>,
}

impl Guard {
    pub(crate) fn new(policy: Arc<AuthzPolicy>) -> Self {
        Self {
            denial_log: DenialLog::new(&policy),
            policy,
            principals: PrincipalCache::default(),
            tool_index: NameIndex::default(),
            prompt_index: NameIndex::default(),
            tools: ViewCache::default(),
            resources: ViewCache::default(),
            templates: ViewCache::default(),
            prompts: ViewCache::default(),
        }
    }

    /// The principal of the caller of a request.
    pub(crate) fn resolve_principal(&self, ctx: &CallContext) -> Arc<CachedPrincipal> {
        self.principals.get_or_resolve(&self.policy, &ctx.caller)
    }

    /// Refuses a request that the caller may not make, and logs the refusal.
    pub(crate) fn check(&self, principal: &CachedPrincipal, access: &AccessRequest<'_>) -> Result<(), Error> {
        let decision = self.policy.decide_for(&principal.principal, access);
        if decision.allowed {
            return Ok(());
        }
        self.denial_log.log_denial(&self.policy, access, &decision);
        Err(Error::Denied)
    }

    /// The error for a URI that no list or template visible to the caller contains. Logs the refusal.
    pub(crate) fn refuse_unlisted(&self, access: &AccessRequest<'_>) -> Error {
        self.denial_log.log_unlisted(access);
        Error::Denied
    }

    /// Whether the decision depends on more of the tool than its advertised name.
    pub(crate) fn needs_tool_details(&self, principal: &CachedPrincipal, access: &AccessRequest<'_>) -> bool {
        self.policy.needs_tool_details(&principal.principal, access)
    }

    /// Whether the decision depends on more of a prompt than its advertised name.
    pub(crate) fn needs_prompt_details(&self) -> bool {
        self.policy.forbids_by_item(Action::GetPrompt)
    }

    /// The tool of this name; `None` if `tools` does not contain it.
    pub(crate) fn find_tool<'l>(&self, tools: &'l Arc<ToolList>, name: &ToolName) -> Option<&'l Tool> {
        self.tool_index.find(tools, name, |tool| &tool.name)
    }

    /// The prompt of this name; `None` if `prompts` does not contain it.
    pub(crate) fn find_prompt<'l>(
        &self,
        prompts: &'l Arc<PromptList>,
        name: &PromptName,
    ) -> Option<&'l Prompt> {
        self.prompt_index.find(prompts, name, |prompt| &prompt.name)
    }

    /// The tools that the caller may call.
    pub(crate) fn tools(&self, ctx: &CallContext, full: Arc<ToolList>) -> Arc<ToolList> {
        let principal = self.resolve_principal(ctx);
        self.tools.view(full, &principal.tools, |tool| {
            self.is_permitted(&principal, &AccessRequest::list_tool(tool))
        })
    }

    /// The resources that the caller may read.
    pub(crate) fn resources(&self, ctx: &CallContext, full: Arc<ResourceList>) -> Arc<ResourceList> {
        let principal = self.resolve_principal(ctx);
        self.resources.view(full, &principal.resources, |resource| {
            self.is_permitted(&principal, &AccessRequest::ReadResource { uri: resource.uri.as_str() })
        })
    }

    /// The templates that the caller may read. Each is decided as a resource with the URI template as its
    /// URI.
    pub(crate) fn templates(&self, ctx: &CallContext, full: Arc<TemplateList>) -> Arc<TemplateList> {
        let principal = self.resolve_principal(ctx);
        self.templates.view(full, &principal.templates, |template| {
            self.is_permitted(&principal, &AccessRequest::ReadResource { uri: template.template.as_str() })
        })
    }

    /// The prompts that the caller may get.
    pub(crate) fn prompts(&self, ctx: &CallContext, full: Arc<PromptList>) -> Arc<PromptList> {
        let principal = self.resolve_principal(ctx);
        self.prompts.view(full, &principal.prompts, |prompt| {
            self.is_permitted(&principal, &AccessRequest::get_prompt(prompt))
        })
    }

    /// Whether the caller is allowed. Used to filter lists, so a denial is not logged; a failure is.
    pub(crate) fn is_permitted(&self, principal: &CachedPrincipal, access: &AccessRequest<'_>) -> bool {
        let decision = self.policy.decide_for(&principal.principal, access);
        if !decision.failures.is_empty() {
            self.denial_log.log_failures(&self.policy, access, &decision);
        }
        decision.allowed
    }
}
