//! What the two layers that compose calls share. A run is one execution of a workflow or of a script: its calls have one
//! clock, one client and one answer.

mod clock;
mod hints;
mod port;
pub mod question;
mod running_limit;
mod schema;
mod tool;

use vmcp_domain::Error;

pub use clock::{Pause, RunClock};
pub use hints::annotation_floor;
pub use port::RunPort;
pub use running_limit::{Permit, RunningLimit};
pub use schema::{compile, schema_problem};
pub use tool::virtual_tool;

/// Whether nothing can have happened: a limit refused the call, or it was not sent.
#[must_use]
pub fn was_not_made(error: &Error) -> bool {
    error.was_not_sent()
        || matches!(error, Error::RateLimited(_) | Error::Looping(_) | Error::LimitsUnavailable)
}

/// Whether a limit refused a call. The whole run may be repeated then, if nothing was called before.
#[must_use]
pub fn is_limit_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::RateLimited(_) | Error::IdentityRequired(_) | Error::LimitsUnavailable | Error::Overloaded
    )
}
