//! The process that runs one script, and the frames by which it speaks with the gateway.
//!
//! A script is untrusted, and so is the engine that runs it. The gateway starts itself again with the argument
//! [`WORKER_ARGUMENT`] for each script; [`run_if_requested`] locks that process in before it reads the script. It has no
//! files, no network and no environment: it can only compute, ask the gateway for what [`Request`] names, and end. The
//! gateway ends it at its deadline.

mod frame;
mod gateway;
mod identifier;
mod javascript;
mod language;
mod log;
mod message;
mod sandbox;
mod starlark;
mod worker;

pub use frame::{FRAME_BYTES_MAX, decode_length, encode_length, read as read_frame, write as write_frame};
pub use identifier::{is_identifier, sanitized};
pub use message::{Failure, FromWorker, Language, Outcome, Program, Request, ScriptError, ToWorker};
pub use sandbox::{Bounds, Sandbox};
pub use worker::{WORKER_ARGUMENT, run_if_requested, worker_arguments};
