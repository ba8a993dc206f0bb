//! Tool calls that may become tasks, and operations on tasks (tasks extension, SEP-2663).

use vmcp_domain::{CallContext, CallTool, Capability, Error, Reply, TaskOperation, TaskRequest};
use vmcp_json::{Json, Members};

use crate::state::EdgeState;
use crate::v2026_07_28::task_ids::TASK_ID;

/// Calls a tool. The call may continue as a task.
pub(crate) async fn call_tool(edge: &EdgeState, ctx: &CallContext, call: CallTool) -> Result<Reply, Error> {
    edge.task_ids.seal_id(&ctx.caller, edge.gateway.call_tool(ctx, call).await?)
}

/// Executes an operation on the task that the caller knows as `id`. The reply contains the identifier `id`.
pub(crate) async fn request_task(
    edge: &EdgeState,
    ctx: &CallContext,
    operation: TaskOperation,
    id: &str,
    extra: Members,
) -> Result<Reply, Error> {
    if !ctx.client.capabilities().supports_tasks() {
        return Err(Error::MissingCapability(Capability::Tasks));
    }
    let handle = edge.task_ids.open_id(&ctx.caller, id).ok_or(Error::UnknownTask)?;
    let mut reply = edge.gateway.task(ctx, TaskRequest { operation, handle, extra }).await?;
    if reply.members.get(TASK_ID).is_some() {
        reply.members.insert(TASK_ID, Json::string(id));
    }
    Ok(reply)
}
