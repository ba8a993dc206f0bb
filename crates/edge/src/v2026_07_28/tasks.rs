//! Task identifiers as clients see them (tasks extension, SEP-2663). They are sealed, so that a caller cannot
//! use the task of another caller or invent an identifier. They are valid only while this process runs.

use vmcp_domain::{
    CallContext, CallTool, Caller, Capability, Cause, Error, Reply, TaskHandle, TaskOperation, TaskRequest,
};
use vmcp_json::{Json, Members};

use crate::state::EdgeState;
use crate::v2026_07_28::pending_calls::caller_digest;
use crate::v2026_07_28::seal::Seal;

/// The member with the task identifier.
const TASK_ID: &str = "taskId";

/// Seals and opens task identifiers.
pub(crate) struct TaskIds {
    /// `None` if the system has no random bytes; then a call that becomes a task fails.
    seal: Option<Seal>,
}

impl TaskIds {
    pub(crate) fn new() -> Self {
        Self { seal: Seal::new() }
    }

    /// Seals the task identifier in `reply`, if the reply is a task.
    fn seal_id(&self, caller: &Caller, mut reply: Reply) -> Result<Reply, Error> {
        if reply.is_task() {
            let handle = reply.members.get(TASK_ID).and_then(Json::decode_string).unwrap_or_default();
            let sealed =
                self.seal.as_ref().and_then(|seal| seal.seal(handle.as_bytes(), &associated_data(caller)));
            let cause = || Cause::new("a task identifier cannot be sealed: too long, or no randomness");
            let sealed = sealed.ok_or_else(|| Error::Internal(cause()))?;
            reply.members.insert(TASK_ID, Json::string(&sealed));
        }
        Ok(reply)
    }

    /// The task that `id` means for this caller; `None` if `id` is not valid for it.
    fn open_id(&self, caller: &Caller, id: &str) -> Option<TaskHandle> {
        let handle = self.seal.as_ref()?.open(id, &associated_data(caller))?.ok()?;
        TaskHandle::parse(std::str::from_utf8(&handle).ok()?)
    }
}

fn associated_data(caller: &Caller) -> Vec<u8> {
    [&b"task"[..], &caller_digest(caller)].concat()
}

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
