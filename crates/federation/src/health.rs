//! How backends are doing: health checks, refreshes of their lists, circuit breakers, and what is reported of them.

pub(crate) mod circuit_breaker;
pub(crate) mod health_checks;
pub(crate) mod refresh;
pub(crate) mod report;
