//! The health of backends: periodic refreshes of their lists, which are also the health checks, circuit
//! breakers, and the report for operators.

pub(crate) mod circuit_breaker;
pub(crate) mod health_checks;
pub(crate) mod refresh;
pub(crate) mod report;
pub(crate) mod timing;
