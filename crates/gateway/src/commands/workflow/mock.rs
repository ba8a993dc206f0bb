//! Results of steps from a file, so that a workflow runs without servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use vmcp_domain::{
    CallContext, CallTool, Complete, Error, Gateway, GatewayFuture, GetPrompt, PromptList, ReadResource,
    Reply, ResourceList, RoutingTarget, StepAction, TaskRequest, TemplateList, Tool, ToolHints, ToolList,
    ToolOverride,
};
use vmcp_json::Json;
use vmcp_workflow::Workflow;

use crate::commands::runs::questions::Answers;

/// The results of each step, in the order of its calls. The last one is repeated.
pub(super) type MockResults = BTreeMap<String, Vec<Value>>;

/// Reads a file with a member for each step: its result, or the list of its results.
pub(super) fn read(path: &Path) -> anyhow::Result<MockResults> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let members: BTreeMap<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} must be a JSON object with a member for each step", path.display()))?;
    let each = members.into_iter().map(|(step, results)| {
        let list = results.as_array().cloned();
        (step, list.unwrap_or_else(|| vec![results]))
    });
    Ok(each.collect())
}

/// The hints of tools that allow a workflow any annotations.
const HARMLESS: ToolHints = ToolHints {
    title: None,
    read_only: Some(true),
    destructive: Some(false),
    idempotent: Some(true),
    open_world: Some(false),
};

/// Refuses members of the file that no step can use.
pub(super) fn check(workflow: &Workflow, results: &MockResults) -> anyhow::Result<()> {
    for (step, of_step) in results {
        let kind = workflow.step_kinds().find(|(id, ..)| id == step).map(|(_, kind, _)| kind);
        let Some(kind) = kind else {
            let ids: Vec<&str> = workflow.step_kinds().map(|(id, ..)| id).collect();
            anyhow::bail!("the file of --mock: there is no step `{step}`; there are {}", ids.join(", "));
        };
        if kind == StepAction::Ask && !of_step.iter().all(|answer| answer["action"].is_string()) {
            anyhow::bail!(
                "the file of --mock: `{step}` asks a question; its answer has the form {{\"action\": \"accept\", \"content\": {{}}}}"
            );
        }
    }
    Ok(())
}

/// A gateway with the tools of one workflow, whose results come from a file.
pub(super) struct MockTools {
    tools: Arc<ToolList>,
    results: MockResults,
    call_counts: Mutex<BTreeMap<String, usize>>,
}

impl MockTools {
    /// The tools that `workflow` names.
    pub(super) fn of(workflow: &Workflow, results: MockResults) -> Arc<Self> {
        let mut names: Vec<&str> = workflow.tools().collect();
        names.sort_unstable();
        names.dedup();
        let tool = |name: &str| Tool {
            name: name.into(),
            contested_name: None,
            target: RoutingTarget { backend: "mock".into(), name: name.into() },
            description: None,
            // The annotations of the workflow are not checked: nothing of the tools is known.
            hints: HARMLESS,
            definition: Arc::default(),
            overrides: ToolOverride::default(),
        };
        let tools = Arc::new(names.into_iter().map(tool).collect());
        Arc::new(Self { tools, results, call_counts: Mutex::default() })
    }

    fn result(&self, step: &str) -> Result<Reply, Error> {
        let results = self.results.get(step).filter(|results| !results.is_empty());
        let results = results.ok_or_else(|| {
            Error::InvalidRequest(format!("the file of `--mock` has no result for the step `{step}`"))
        })?;
        let mut counts = self.call_counts.lock();
        let count = counts.entry(step.to_owned()).or_default();
        let result = results.get(*count).or_else(|| results.last());
        *count += 1;
        reply(result.unwrap_or(&Value::Null))
    }
}

/// The result that a member of the file means: a text, a result of `tools/call`, or structured content.
fn reply(result: &Value) -> Result<Reply, Error> {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    let is_whole = ["content", "structuredContent", "isError"].iter().any(|key| result.get(key).is_some());
    let whole = if let Some(content) = result.as_str() {
        json!({"content": text(content)})
    } else if is_whole {
        let mut whole = result.clone();
        if let Some(content) = result["content"].as_str() {
            whole["content"] = text(content);
        } else if result["content"].is_null() {
            whole["content"] = json!([]);
        }
        whole
    } else {
        json!({"content": text(&result.to_string()), "structuredContent": result})
    };
    let invalid = || Error::InvalidRequest("a result in the file of `--mock` cannot be read".to_owned());
    let members = Json::encode(&whole).ok().and_then(|json| json.members().ok()).ok_or_else(invalid)?;
    let is_error = whole["isError"] == true;
    Ok(Reply { is_error, ..Reply::complete(members) })
}

/// The answer to a request that workflows do not make.
fn not_mocked<'a, T: Send + 'a>() -> GatewayFuture<'a, T> {
    Box::pin(std::future::ready(Err(Error::InvalidRequest("`--mock` has tools only".to_owned()))))
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for MockTools {
    fn list_tools<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(std::future::ready(Ok(Arc::clone(&self.tools))))
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, _request: CallTool) -> GatewayFuture<'a, Reply> {
        let step = ctx.run.as_ref().and_then(|run| run.step.as_ref());
        let step = step.map_or_else(String::new, |step| step.step.to_string());
        Box::pin(std::future::ready(self.result(&step)))
    }

    fn list_resources<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        not_mocked()
    }

    fn list_resource_templates<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        not_mocked()
    }

    fn read_resource<'a>(
        &'a self,
        _ctx: &'a CallContext,
        _request: ReadResource,
    ) -> GatewayFuture<'a, Reply> {
        not_mocked()
    }

    fn list_prompts<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        not_mocked()
    }

    fn get_prompt<'a>(&'a self, _ctx: &'a CallContext, _request: GetPrompt) -> GatewayFuture<'a, Reply> {
        not_mocked()
    }

    fn complete<'a>(&'a self, _ctx: &'a CallContext, _request: Complete) -> GatewayFuture<'a, Reply> {
        not_mocked()
    }

    fn task<'a>(&'a self, _ctx: &'a CallContext, _request: TaskRequest) -> GatewayFuture<'a, Reply> {
        not_mocked()
    }
}

/// The members of a mock file that are answers to questions.
pub(super) fn mock_answers(results: &MockResults) -> Answers {
    let is_answer = |results: &[Value]| results.iter().all(|result| result["action"].is_string());
    let answers = results.iter().filter(|(_, results)| is_answer(results));
    answers.map(|(step, results)| (step.clone(), results.clone())).collect()
}
