//! How the program of a stdio backend is launched: the variables that it inherits, and the launcher that
//! becomes it. `transport::child` starts and stops the processes.

mod environment;
mod launcher;

pub use environment::Environment;
pub use launcher::{Launcher, exec_child_if_requested};
