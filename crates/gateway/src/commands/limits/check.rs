//! `vmcp limits check`: prints the levels of a tool's buckets for a user.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use vmcp::bucket_json;
use vmcp_domain::{CallContext, CallOrigin, Error};
use vmcp_ratelimit::SlotLimitView;

use super::{caller, describe_wait, parse_claims, start_gateway};
use crate::cli::{LimitsSubject, Source};
use crate::commands;
use crate::commands::limits::admin_client::{AdminClient, encode};
use crate::terminal;

/// How long the command waits for the shared store to answer.
const STORE_WAIT: Duration = Duration::from_secs(3);
/// The issuer of users if neither a flag nor a configuration names one.
const DEFAULT_ISSUER: &str = "local";

/// Prints levels from Redis, or from the memory of the gateway at `url`.
pub(super) async fn run(
    subject: &LimitsSubject,
    source: &Source,
    url: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let LimitsSubject { tool, user, issuer, claims } = subject;
    let claims = parse_claims(claims)?;
    let has_source = source.config.is_some() || source.mcp_json.is_some();
    let settings = (has_source || url.is_none())
        .then(|| commands::load(source, commands::overrides(source)))
        .transpose()?;
    let issuer = issuer.clone().or_else(|| settings.map(|settings| settings.admin.issuer));
    let user = user.clone().map(|user| (issuer.unwrap_or_else(|| DEFAULT_ISSUER.to_owned()), user));
    let Some(url) = url else {
        let ctx = CallContext::bare(caller(user, &claims), CallOrigin::Operator);
        return check_store(tool, ctx, source).await;
    };
    let mut path = format!("/limits/{}", encode(tool));
    if let Some((issuer, user)) = &user {
        path += &format!("/{}/{}", encode(issuer), encode(user));
        for (name, value) in &claims {
            path += &format!("/{}/{}", encode(name), encode(value));
        }
    }
    let answer = AdminClient::new(url)?.get(&path).await?;
    print_buckets(answer["buckets"].as_array().map(Vec::as_slice).unwrap_or_default(), &[], user.is_some())
}

async fn check_store(tool: &str, ctx: CallContext, source: &Source) -> anyhow::Result<ExitCode> {
    let (gateway, limiter, tools, _) = start_gateway(source, true).await?;
    if limiter.is_store_available().is_none() {
        gateway.stop().await;
        anyhow::bail!("the levels are in the memory of the running gateway; give its address with --url");
    }
    let name = tool.into();
    let peek = async || {
        let buckets = limiter.peek(&tools, &name, &ctx).await?;
        Ok((buckets, limiter.slot_limits_with_counts(&tools, &name, &ctx).await?))
    };
    let views = async {
        loop {
            match peek().await {
                // The connection to the store is not ready yet.
                Err(Error::LimitsUnavailable) => tokio::time::sleep(Duration::from_millis(50)).await,
                outcome => return outcome,
            }
        }
    };
    let views = tokio::time::timeout(STORE_WAIT, views).await;
    gateway.stop().await;
    let (buckets, slots) = views.context("the store does not answer")??;
    let is_known = matches!(ctx.caller, vmcp_domain::Caller::Known(_));
    print_buckets(&buckets.iter().map(bucket_json).collect::<Vec<_>>(), &slots, is_known)
}

/// Prints one line for each bucket. `names_user` says that a user was given; a hint then follows if all
/// buckets of this user are full.
pub(super) fn print_buckets(
    buckets: &[Value],
    slots: &[SlotLimitView],
    names_user: bool,
) -> anyhow::Result<ExitCode> {
    let binding_bucket = buckets
        .iter()
        .filter(|bucket| bucket["mode"] == "enforce" && bucket["waitMs"] != 0)
        .max_by_key(|bucket| bucket["waitMs"].as_u64().unwrap_or(u64::MAX));
    let mut out = String::new();
    for bucket in buckets {
        out += &bucket_line(bucket, binding_bucket == Some(bucket));
    }
    for view in slots {
        let SlotLimitView { rule, count_max, in_flight, wait_max, .. } = view;
        let free = in_flight.is_none_or(|count| count < *count_max);
        out += &format!(
            "{rule:<32} {:>6} of {count_max:<6} in flight at all replicas{}{}\n",
            in_flight.unwrap_or(0),
            describe_wait(*wait_max),
            if free { "" } else { "  <- binds" }
        );
    }
    if buckets.is_empty() && slots.is_empty() {
        out += "not limited\n";
    }
    let is_own = |bucket: &&Value| bucket["scope"].as_str().is_some_and(|scope| scope.starts_with("user"));
    let mut own_buckets = buckets.iter().filter(is_own).peekable();
    if names_user
        && own_buckets.peek().is_some()
        && own_buckets.all(|bucket| bucket["level"] == bucket["capacity"])
    {
        out += "no call of this user counts now; if there should be some, check --user and --issuer: they are `sub` and `iss` of \
                the user's tokens\n";
    }
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn bucket_line(bucket: &Value, binds: bool) -> String {
    let wait = match bucket["waitMs"].as_u64() {
        Some(0) => "can pay now".to_owned(),
        Some(millis) => format!("can pay in {:?}", Duration::from_millis(millis)),
        None => "can never pay".to_owned(),
    };
    let level = match bucket["owed"].as_u64() {
        Some(owed) if owed > 0 => format!("-{owed}"),
        _ => bucket["level"].to_string(),
    };
    let period = bucket["period"].as_str().map_or(String::new(), |period| format!(", each {period}"));
    format!(
        "{:<32} {level:>6} of {:<6} {wait}{period}{}{}{}\n",
        bucket["rule"].as_str().unwrap_or_default(),
        bucket["capacity"],
        describe_wait(Duration::from_millis(bucket["maxWaitMs"].as_u64().unwrap_or(0))),
        if bucket["mode"] == "shadow" { ", counted only" } else { "" },
        if binds { "  <- binds" } else { "" }
    )
}
