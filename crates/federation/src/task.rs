//! Tool calls that a backend continues as tasks (tasks extension, SEP-2663). A backend's task identifiers are
//! unique only at that backend, so clients receive an identifier that also contains the backend and the tool.

use vmcp_domain::{BackendId, CallContext, Cause, Error, Reply, TaskHandle, ToolName};
use vmcp_json::Json;

/// The member of a reply that contains the task's identifier.
const TASK_ID: &str = "taskId";

/// Replaces the backend's task identifier in `reply` by one that leads back to `backend` and `tool`.
///
/// # Errors
/// [`Error::BackendFailed`] when the client did not declare support for tasks, or the reply has no `taskId`
/// string.
pub(crate) fn with_task_handle(
    ctx: &CallContext,
    backend: BackendId,
    tool: ToolName,
    mut reply: Reply,
) -> Result<Reply, Error> {
    if !ctx.client.capabilities().supports_tasks() {
        let cause = Cause::new("it made a task of a call of a client that follows none");
        return Err(Error::BackendFailed { backend, cause });
    }
    let Some(id) = reply.members.get(TASK_ID).and_then(Json::decode_string) else {
        return Err(Error::BackendFailed { backend, cause: Cause::new("its task has no `taskId`") });
    };
    reply.members.insert(TASK_ID, Json::string(&TaskHandle { backend, tool, id }.to_text()));
    Ok(reply)
}
