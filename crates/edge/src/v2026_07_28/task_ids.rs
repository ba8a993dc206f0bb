//! Task identifiers as clients see them (tasks extension, SEP-2663). They are sealed, so that a caller cannot
//! use the task of another caller or invent an identifier. They are valid only while this process runs.

use vmcp_domain::{Caller, Cause, Error, Reply, TaskHandle};
use vmcp_json::Json;

use crate::v2026_07_28::pending_calls::caller_digest;
use crate::v2026_07_28::seal::Seal;

/// The member with the task identifier.
pub(crate) const TASK_ID: &str = "taskId";

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
    pub(crate) fn seal_id(&self, caller: &Caller, mut reply: Reply) -> Result<Reply, Error> {
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
    pub(crate) fn open_id(&self, caller: &Caller, id: &str) -> Option<TaskHandle> {
        let handle = self.seal.as_ref()?.open(id, &associated_data(caller))?.ok()?;
        TaskHandle::parse(std::str::from_utf8(&handle).ok()?)
    }
}

fn associated_data(caller: &Caller) -> Vec<u8> {
    [&b"task"[..], &caller_digest(caller)].concat()
}
