//! What scripts use of the rest of the gateway.

use std::sync::Arc;

use vmcp_domain::{CallContext, GatewayFuture, SharedGateway, ToolName};
use vmcp_optimizer::policy::OptimizerPolicy;
use vmcp_optimizer::{NoopObserver, Optimizer};
use vmcp_script::{ScriptPolicy, ToolSearch, WorkerProgram};

use super::start_error::StartError;

/// The program that runs scripts, if there are any.
///
/// # Errors
/// If there is no such program.
pub(super) fn with_worker(
    scripts: Option<ScriptPolicy>,
    program: Option<WorkerProgram>,
) -> Result<Option<(ScriptPolicy, WorkerProgram)>, StartError> {
    let Some(policy) = scripts else { return Ok(None) };
    let program = program.or_else(crate::process::script_worker).ok_or(StartError::NoScriptWorker)?;
    Ok(Some((policy, program)))
}

/// Finds tools for scripts.
pub(crate) struct ScriptSearch {
    /// Lists what each caller may use.
    tools: SharedGateway,
    optimizer: Arc<Optimizer>,
}

impl ScriptSearch {
    /// Without an optimizer, words alone are compared.
    pub(crate) fn new(tools: SharedGateway, optimizer: Option<Arc<Optimizer>>) -> Self {
        let start = || Optimizer::start(OptimizerPolicy::default(), None, None, Arc::new(NoopObserver));
        Self { tools, optimizer: optimizer.unwrap_or_else(start) }
    }
}

impl ToolSearch for ScriptSearch {
    fn search<'a>(&'a self, ctx: &'a CallContext, query: &'a str) -> GatewayFuture<'a, Vec<ToolName>> {
        Box::pin(async move {
            let list = self.tools.list_tools(ctx).await?;
            let found = self.optimizer.find(ctx, &list, query, false).await?;
            Ok(found.tools.into_iter().map(|result| result.tool.name).collect())
        })
    }
}
