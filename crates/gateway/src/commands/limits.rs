//! `vmcp limits`: shows which rules apply to a tool, what is left of them, which users make the most calls,
//! and what the rules would have done to recorded calls. `reset`, `grant`, `block` and `unblock` change the
//! limits of a running gateway. The other commands change nothing and spend no tokens.

pub(crate) mod admin_client;
pub(crate) mod changes;
mod check;
mod explain;
pub(crate) mod replay;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use vmcp::{Additions, RunningGateway};
use vmcp_domain::{CallContext, CallOrigin, Caller, Gateway as _, Identity, ToolList};
use vmcp_json::{Json, Members};
use vmcp_ratelimit::Limiter;

use crate::cli::{LimitsCommand, Source};

/// Runs one of the commands.
pub(crate) async fn run(command: LimitsCommand) -> anyhow::Result<ExitCode> {
    match command {
        LimitsCommand::Explain { tool, source } => explain::run(tool.as_deref(), &source).await,
        LimitsCommand::Check { subject, source, url } => check::run(&subject, &source, url.as_deref()).await,
        LimitsCommand::Reset { subject, running } => changes::reset(&subject, &running).await,
        LimitsCommand::Grant { subject, tokens, running } => changes::grant(&subject, tokens, &running).await,
        LimitsCommand::Block { subject, lasts, running } => changes::block(&subject, lasts, &running).await,
        LimitsCommand::Unblock { subject, running } => changes::unblock(&subject, &running).await,
        LimitsCommand::Top { running } => changes::top(&running).await,
        LimitsCommand::Replay { audit, source, json } => replay::run(&audit, &source, json),
    }
}

/// Connects to the backends and returns the gateway, its limiter and its tools. The last value is how long a
/// shared store keeps slots of a dead replica, if the configuration keeps limits in one. Without `uses_shared_store` the
/// limiter does not connect to that store.
async fn start_gateway(
    source: &Source,
    uses_shared_store: bool,
) -> anyhow::Result<(RunningGateway, Arc<Limiter>, Arc<ToolList>, Option<Duration>)> {
    let mut settings = super::load(source, super::overrides(source))?;
    let Some(limits) = settings.limits.as_mut() else {
        anyhow::bail!("nothing is limited: the configuration has no `rateLimiting`");
    };
    let lease = limits.redis.as_ref().map(|redis| redis.slot_lease);
    if !uses_shared_store {
        limits.redis = None;
    }
    let gateway = RunningGateway::start(settings.without_embeddings(), Additions::default()).await?;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Operator);
    let tools = gateway.federation.list_tools(&ctx).await?;
    let limiter = gateway.limiter.clone().context("the limiter was not built")?;
    Ok((gateway, limiter, tools, lease))
}

/// Describes how long a call waits for a limit. Empty if it does not wait.
fn describe_wait(wait_max: Duration) -> String {
    if wait_max.is_zero() { String::new() } else { format!(", calls wait up to {wait_max:?}") }
}

/// Splits each `NAME=VALUE`.
fn parse_claims(claims: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let split = claims.iter().map(|text| {
        text.split_once('=').with_context(|| format!("--claim {text} does not have the form NAME=VALUE"))
    });
    split.collect()
}

/// Parses the value of a claim. A value that starts like a list or an object is JSON if it parses; any other
/// value is a string.
fn parse_claim_value(value: &str) -> Json {
    let is_json = value.starts_with(['[', '{']);
    let json = is_json.then(|| Json::parse(value.to_owned()).ok()).flatten();
    json.unwrap_or_else(|| Json::string(value))
}

fn caller(user: Option<(String, String)>, claims: &[(&str, &str)]) -> Caller {
    let Some((issuer, subject)) = user else { return Caller::Anonymous };
    let mut parsed_claims = Members::new();
    for (name, value) in claims {
        parsed_claims.insert(name, parse_claim_value(value));
    }
    Caller::Known(Arc::new(Identity { issuer, subject, claims: parsed_claims }))
}
