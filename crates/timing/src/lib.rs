//! Time as an argument, and the small state machines that depend on it.
//!
//! [`Clock`] is how the crates read the time, so that tests and replays can use a [`ManualClock`]. [`Backoff`]
//! gives the delay before the next attempt. [`Circuit`] refuses requests to a service that keeps failing.
//! None of them has a timer, a lock or a task.

mod backoff;
mod circuit;
mod clock;

pub use backoff::Backoff;
pub use circuit::{Circuit, CircuitPermit, CircuitPolicy, CircuitState};
pub use clock::{Clock, ManualClock, Micros, SystemClock, time_of_day};
