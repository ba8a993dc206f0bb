//! Calls that backends go on with as tasks (tasks extension, SEP-2663): on the way out a task's identifier says whose
//! task it is, since backends give out identifiers that mean nothing to each other.

use vmcp_domain::{BackendId, CallContext, Cause, Error, Json, Reply, TaskHandle, ToolName};

/// The member that names a task.
const TASK_ID: &str = "taskId";

/// The reply with the identifier that leads back to `backend`.
///
/// # Errors
/// [`Error::BackendFailed`] when the client never said that it follows tasks, or the identifier is missing.
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
