//! Puts the pure decision together with what is remembered between requests. Holds nothing that leads to a backend.

use std::sync::Arc;

use vmcp_domain::{
    BackendId, CallContext, Error, Prompt, PromptList, Resource, ResourceList, ResourceTemplate,
    TemplateList, Tool, ToolHints, ToolList, ToolName,
};

use crate::callers::{Callers, Known, Lists};
use crate::journal::Journal;
use crate::names::ToolNames;
use crate::policy::AuthzPolicy;
use crate::words::Ask;

/// The policies and everything that is remembered.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: Arc<AuthzPolicy>,
    journal: Journal,
    callers: Callers,
    names: ToolNames,
    tools: Lists<Tool>,
    resources: Lists<Resource>,
    templates: Lists<ResourceTemplate>,
    prompts: Lists<Prompt>,
}

impl Guard {
    pub(crate) fn new(policy: Arc<AuthzPolicy>) -> Self {
        Self {
            journal: Journal::new(&policy),
            policy,
            callers: Callers::default(),
            names: ToolNames::default(),
            tools: Lists::default(),
            resources: Lists::default(),
            templates: Lists::default(),
            prompts: Lists::default(),
        }
    }

    /// The caller of a request.
    pub(crate) fn recognise(&self, ctx: &CallContext) -> Arc<Known> {
        self.callers.recognise(&self.policy, &ctx.caller)
    }

    /// Refuses what the caller may not do.
    pub(crate) fn check(&self, known: &Known, ask: &Ask<'_>) -> Result<(), Error> {
        let decision = self.policy.decide_for(&known.asker, ask);
        if decision.allowed {
            return Ok(());
        }
        self.journal.refusal(&self.policy, ask, &decision);
        Err(Error::Denied)
    }

    /// The refusal of an address that nothing the caller sees leads to.
    pub(crate) fn refuse_unlisted(&self, ask: &Ask<'_>) -> Error {
        self.journal.unlisted(ask);
        Error::Denied
    }

    /// Whether more of a tool than its name makes a difference to the decision.
    pub(crate) fn reads_tool(&self, known: &Known, ask: &Ask<'_>) -> bool {
        self.policy.reads_tool(&known.asker, ask)
    }

    /// The backend and the annotations of the tool, if `tools` has it.
    pub(crate) fn find(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<(BackendId, ToolHints)> {
        self.names.find(tools, name)
    }

    /// The tools that the caller may call.
    pub(crate) fn tools(&self, ctx: &CallContext, whole: Arc<ToolList>) -> Arc<ToolList> {
        let known = self.recognise(ctx);
        self.tools.side(whole, &known.tools, |tool| {
            let ask = Ask::CallTool {
                name: tool.name.as_str(),
                backend: Some(tool.target.backend.as_str()),
                hints: Some(&tool.hints),
                arguments: None,
            };
            self.shows(&known, &ask)
        })
    }

    /// The resources that the caller may read.
    pub(crate) fn resources(&self, ctx: &CallContext, whole: Arc<ResourceList>) -> Arc<ResourceList> {
        let known = self.recognise(ctx);
        self.resources.side(whole, &known.resources, |resource| {
            self.shows(&known, &Ask::ReadResource { uri: resource.uri.as_str() })
        })
    }

    /// The templates that the caller may read, each taken as a resource whose URI is the template.
    pub(crate) fn templates(&self, ctx: &CallContext, whole: Arc<TemplateList>) -> Arc<TemplateList> {
        let known = self.recognise(ctx);
        self.templates.side(whole, &known.templates, |template| {
            self.shows(&known, &Ask::ReadResource { uri: template.template.as_str() })
        })
    }

    /// The prompts that the caller may get.
    pub(crate) fn prompts(&self, ctx: &CallContext, whole: Arc<PromptList>) -> Arc<PromptList> {
        let known = self.recognise(ctx);
        self.prompts.side(whole, &known.prompts, |prompt| {
            self.shows(&known, &Ask::GetPrompt { name: prompt.name.as_str() })
        })
    }

    /// Whether the caller may do something; what is denied is not logged.
    pub(crate) fn shows(&self, known: &Known, ask: &Ask<'_>) -> bool {
        let decision = self.policy.decide_for(&known.asker, ask);
        if !decision.failures.is_empty() {
            self.journal.failures(&self.policy, ask, &decision);
        }
        decision.allowed
    }
}
