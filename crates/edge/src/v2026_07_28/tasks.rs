//! Identifiers of tasks as clients know them (tasks extension, SEP-2663): sealed, so that whoever comes by one cannot
//! follow the task of another caller, and nobody can make one up. They are good as long as this process runs.

use vmcp_domain::{
    CallContext, CallTool, Caller, Capability, Cause, Error, Json, Members, Reply, TaskHandle, TaskOperation,
    TaskRequest,
};

use crate::state::EdgeState;
use crate::v2026_07_28::pending_calls::caller_digest;
use crate::v2026_07_28::seal::Seal;

/// The member that names a task.
const TASK_ID: &str = "taskId";

/// Seals and opens identifiers of tasks.
pub(crate) struct TaskIds {
    /// `None` on a system without randomness: then no call goes on as a task.
    seal: Option<Seal>,
}

impl TaskIds {
    pub(crate) fn new() -> Self {
        Self { seal: Seal::new() }
    }

    /// The reply as its caller gets it: the identifier of a task that it tells of is sealed.
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

    /// Which task this caller means.
    fn open_id(&self, caller: &Caller, id: &str) -> Option<TaskHandle> {
        let handle = self.seal.as_ref()?.open(id, &associated_data(caller))?.ok()?;
        TaskHandle::parse(std::str::from_utf8(&handle).ok()?)
    }
}

fn associated_data(caller: &Caller) -> Vec<u8> {
    [&b"task"[..], &caller_digest(caller)].concat()
}

/// Calls a tool, which may go on as a task.
pub(crate) async fn call_tool(edge: &EdgeState, ctx: &CallContext, call: CallTool) -> Result<Reply, Error> {
    edge.task_ids.seal_id(&ctx.caller, edge.gateway.call_tool(ctx, call).await?)
}

/// Asks something of the task that the caller knows as `id`, and tells of it under that identifier.
pub(crate) async fn request_task(
    edge: &EdgeState,
    ctx: &CallContext,
    verb: TaskOperation,
    id: &str,
    rest: Members,
) -> Result<Reply, Error> {
    if !ctx.client.capabilities().supports_tasks() {
        return Err(Error::MissingCapability(Capability::Tasks));
    }
    let handle = edge.task_ids.open_id(&ctx.caller, id).ok_or(Error::UnknownTask)?;
    let mut reply = edge.gateway.task(ctx, TaskRequest { operation: verb, handle, extra: rest }).await?;
    if reply.members.get(TASK_ID).is_some() {
        reply.members.insert(TASK_ID, Json::string(id));
    }
    Ok(reply)
}
