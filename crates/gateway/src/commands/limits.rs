//! `vmcp limits`: which rules a tool falls under, what is left of them, and what they would have done to recorded calls.
//! No command spends anything.

mod explain;
pub(crate) mod replay;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use vmcp_domain::{CallContext, Caller, Error, Gateway, Identity, Json, Members, Origin, ToolList};
use vmcp_ratelimit::{Limiter, SlotsView};

use crate::cli::{LimitsCommand, Source};
use crate::terminal;
use vmcp::bucket;
use vmcp::{Additions, RunningGateway};

/// How long a bucket may take to be seen over the network.
const STORE_WAIT: Duration = Duration::from_secs(3);

/// Runs one of the commands.
pub(crate) async fn run(command: LimitsCommand) -> anyhow::Result<ExitCode> {
    match command {
        LimitsCommand::Explain { tool, source } => explain::run(tool.as_deref(), &source).await,
        LimitsCommand::Check { tool, user, issuer, claims, source, url } => {
            let claims = pairs(&claims)?;
            match (url, user) {
                (Some(url), None) => check_running(&url, &[&tool]).await,
                (Some(url), Some(user)) => {
                    let claims = claims.iter().flat_map(|(name, value)| [*name, *value]);
                    let parts: Vec<&str> = [&*tool, &*issuer, &*user].into_iter().chain(claims).collect();
                    check_running(&url, &parts).await
                }
                (None, user) => {
                    check_store(&tool, context(user.map(|user| (issuer, user)), &claims), &source).await
                }
            }
        }
        LimitsCommand::Replay { audit, source, json } => replay::run(&audit, &source, json),
    }
}

/// Connects to the backends and returns the tools with the limiter.
async fn open(
    source: &Source,
    shared: bool,
) -> anyhow::Result<(RunningGateway, Arc<Limiter>, Arc<ToolList>)> {
    let (gateway, limiter, tools, _) = open_with_lease(source, shared).await?;
    Ok((gateway, limiter, tools))
}

/// The same, with how long slots are held in a shared store, if the limits are kept in one.
async fn open_with_lease(
    source: &Source,
    shared: bool,
) -> anyhow::Result<(RunningGateway, Arc<Limiter>, Arc<ToolList>, Option<Duration>)> {
    let mut settings = super::load(source, super::overrides(source))?;
    let Some(limits) = settings.limits.as_mut() else {
        anyhow::bail!("nothing is limited: the configuration has no `rateLimiting`");
    };
    let lease = limits.redis.as_ref().map(|redis| redis.slot_lease);
    if !shared {
        limits.redis = None;
    }
    let gateway = RunningGateway::start(settings.without_vectors(), Additions::default()).await;
    let ctx = CallContext::bare(Caller::Anonymous, Origin::Operator);
    let tools = gateway.federation.list_tools(&ctx).await?;
    let limiter = gateway.limiter.clone().context("the limiter was not built")?;
    Ok((gateway, limiter, tools, lease))
}

/// How long a call waits, where it does.
fn waits(longest: Duration) -> String {
    if longest.is_zero() { String::new() } else { format!(", calls wait up to {longest:?}") }
}

async fn check_store(tool: &str, ctx: CallContext, source: &Source) -> anyhow::Result<ExitCode> {
    let (gateway, limiter, tools) = open(source, true).await?;
    if limiter.store_available().is_none() {
        gateway.stop().await;
        anyhow::bail!("these limits are kept in the memory of the gateway that runs; name it with --url");
    }
    let name = tool.into();
    let look = async || {
        let buckets = limiter.peek(&tools, &name, &ctx).await?;
        Ok((buckets, limiter.in_flight(&tools, &name, &ctx).await?))
    };
    let views = async {
        loop {
            match look().await {
                // The connection is still being made.
                Err(Error::LimitsUnavailable) => tokio::time::sleep(Duration::from_millis(50)).await,
                outcome => return outcome,
            }
        }
    };
    let views = tokio::time::timeout(STORE_WAIT, views).await;
    gateway.stop().await;
    let (buckets, slots) = views.context("the store does not answer")??;
    print(&buckets.iter().map(bucket).collect::<Vec<_>>(), &slots)
}

/// Asks a gateway on this machine for what it keeps in memory.
async fn check_running(url: &str, parts: &[&str]) -> anyhow::Result<ExitCode> {
    let path: String = parts.iter().map(|part| format!("/{}", encode(part))).collect();
    let base: http::Uri =
        url.parse().context("--url must be the gateway's admin listener, as http://127.0.0.1:4484")?;
    let authority = base.authority().context("--url has no host")?;
    let uri: http::Uri = format!("http://{authority}/limits{path}").parse()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(uri).await.with_context(|| format!("no gateway answers at {url}"))?;
    let found = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).context("that is no gateway with limits")?;
    match answer["buckets"].as_array().filter(|_| found) {
        Some(buckets) => print(buckets, &[]),
        None => anyhow::bail!("{}", answer["error"].as_str().unwrap_or("the gateway has no answer")),
    }
}

fn encode(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    part.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn print(buckets: &[Value], slots: &[SlotsView]) -> anyhow::Result<ExitCode> {
    let mut out = String::new();
    let longest = buckets
        .iter()
        .filter(|bucket| bucket["mode"] == "enforce")
        .max_by_key(|bucket| bucket["waitMs"].as_u64());
    for bucket in buckets {
        let wait = match bucket["waitMs"].as_u64() {
            Some(0) => "can pay now".to_owned(),
            Some(millis) => format!("can pay in {:?}", Duration::from_millis(millis)),
            None => "can never pay".to_owned(),
        };
        let binds = longest.is_some_and(|longest| longest == bucket && bucket["waitMs"] != 0);
        out += &format!(
            "{:<32} {:>6} of {:<6} {wait}{}{}\n",
            bucket["rule"].as_str().unwrap_or_default(),
            bucket["level"],
            bucket["capacity"],
            waits(Duration::from_millis(bucket["maxWaitMs"].as_u64().unwrap_or(0))),
            if binds { "  <- binds" } else { "" }
        );
    }
    for view in slots {
        let SlotsView { rule, count_max, in_flight, wait_max, .. } = view;
        let free = in_flight.is_none_or(|count| count < *count_max);
        out += &format!(
            "{rule:<32} {:>6} of {count_max:<6} in flight at all replicas{}{}\n",
            in_flight.unwrap_or(0),
            waits(*wait_max),
            if free { "" } else { "  <- binds" }
        );
    }
    if buckets.is_empty() && slots.is_empty() {
        out += "not limited\n";
    }
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// `NAME=VALUE`, each.
fn pairs(claims: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let split = claims
        .iter()
        .map(|text| text.split_once('=').with_context(|| format!("--claim {text} is no NAME=VALUE")));
    split.collect()
}

fn context(user: Option<(String, String)>, claims: &[(&str, &str)]) -> CallContext {
    let caller = match user {
        None => Caller::Anonymous,
        Some((issuer, subject)) => {
            let mut said = Members::new();
            for (name, value) in claims {
                said.set(name, Json::string(value));
            }
            Caller::Known(Arc::new(Identity { issuer, subject, claims: said }))
        }
    };
    CallContext::bare(caller, Origin::Operator)
}
