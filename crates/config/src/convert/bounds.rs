//! Converts `listen.bounds`: the bounds of what clients can use.

use std::time::Duration;

use vmcp_edge::policy::EdgeLimits;

use super::Findings;
use crate::file::{GoDuration, ListenBounds};
use crate::report::join_path;

const PATH: &str = "listen.bounds";
/// The smallest `maxHeadBytes`: a head must have room for a bearer token, and HTTP/1 needs a buffer of this
/// size.
const HEAD_BYTES_MIN: u32 = 8 << 10;
/// The smallest `maxBodyBytes`: a body must have room for a handshake.
const BODY_BYTES_MIN: u32 = 16 << 10;
/// The smallest bound on unread answers, in bytes. With less, ordinary answers would be dropped.
const ANSWER_BYTES_MIN: u32 = 1 << 20;

/// The bounds of the client edge; a key that is left out has its default.
pub(super) fn convert(file: ListenBounds, findings: &mut Findings<'_>) -> EdgeLimits {
    let default = EdgeLimits::DEFAULT;
    let mut count = |key: &str, value: Option<u32>, min: u32, default: usize| match value {
        None => default,
        Some(value) if value < min => {
            let message = format!("must be {min} or more, but is {value}");
            findings.add_problem(join_path(PATH, key), message).hint =
                Some("leave the key out for the default".to_owned());
            default
        }
        Some(value) => usize::try_from(value).unwrap_or(default),
    };
    let mut limits = EdgeLimits {
        body_bytes_max: count("maxBodyBytes", file.max_body_bytes, BODY_BYTES_MIN, default.body_bytes_max),
        head_bytes_max: count("maxHeadBytes", file.max_head_bytes, HEAD_BYTES_MIN, default.head_bytes_max),
        session_count_max: count("maxSessions", file.max_sessions, 1, default.session_count_max),
        sessions_per_caller_max: count(
            "maxSessionsPerCaller",
            file.max_sessions_per_caller,
            1,
            default.sessions_per_caller_max,
        ),
        request_count_max: count("maxRequests", file.max_requests, 1, default.request_count_max),
        requests_per_caller_max: count(
            "maxRequestsPerCaller",
            file.max_requests_per_caller,
            1,
            default.requests_per_caller_max,
        ),
        connections_per_address_max: count(
            "maxConnectionsPerAddress",
            file.max_connections_per_address,
            1,
            default.connections_per_address_max,
        ),
        answer_bytes_max: count(
            "maxAnswerBytes",
            file.max_answer_bytes,
            ANSWER_BYTES_MIN,
            default.answer_bytes_max,
        ),
        answer_bytes_per_caller_max: count(
            "maxAnswerBytesPerCaller",
            file.max_answer_bytes_per_caller,
            ANSWER_BYTES_MIN,
            default.answer_bytes_per_caller_max,
        ),
        ..default
    };
    let mut time = |key: &str, value: Option<GoDuration>, bound: &mut Duration| {
        if let Some(value) = value.and_then(|value| findings.require_positive(&join_path(PATH, key), value)) {
            *bound = value;
        }
    };
    time("headTimeout", file.head_timeout, &mut limits.head_timeout);
    time("bodyTimeout", file.body_timeout, &mut limits.body_timeout);
    time("writeTimeout", file.write_timeout, &mut limits.write_stall_max);
    time("sessionIdleTimeout", file.session_idle_timeout, &mut limits.session_idle_max);
    time("shutdownGrace", file.shutdown_grace, &mut limits.shutdown_grace);
    limits
}
