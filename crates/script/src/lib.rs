//! Scripts: a tool by which a client runs a script that calls many tools in one go.
//!
//! [`Scripts`] is the layer that offers the tool. Each script runs in a worker process of its own
//! (`vmcp-script-worker`), which can only compute and ask. The layer answers: a call goes through the inner layers as if the
//! client had made it, so that it is authorised, limited and recorded by the tool that really runs.

mod answer;
mod arguments;
mod check;
mod definition;
mod events;
mod host;
mod layer;
mod mentions;
mod policy;
mod search;
mod serve;
mod signature;
mod tools;
mod worker;
mod workers;

pub use definition::plain_tool;
pub use layer::{ScriptPorts, Scripts, ScriptsStatus};
pub use policy::{Confirm, Description, Listing, ScriptPolicy};
pub use search::ToolSearch;
pub use signature::{Documentation, signature};
pub use vmcp_script_worker::{Language, Sandbox, run_if_requested as run_worker_if_requested};
pub use worker::WorkerProgram;
