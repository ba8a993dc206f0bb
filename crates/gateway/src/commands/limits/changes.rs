//! `vmcp limits reset`, `grant`, `block`, `unblock` and `top`, on a gateway that runs on this machine.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::check::print_buckets;
use super::{parse_claim_value, parse_claims};
use crate::cli::{LimitsSubject, RunningSource};
use crate::commands::limits::admin_client::AdminClient;
use crate::terminal;

/// Refills buckets.
pub(super) async fn reset(subject: &LimitsSubject, target: &RunningSource) -> anyhow::Result<ExitCode> {
    let answer = post_change("/limits/reset", subject, &json!({}), target).await?;
    print_changed_buckets(subject, &answer)
}

/// Adds tokens to buckets.
pub(super) async fn grant(
    subject: &LimitsSubject,
    tokens: u32,
    target: &RunningSource,
) -> anyhow::Result<ExitCode> {
    let answer = post_change("/limits/grant", subject, &json!({"tokens": tokens}), target).await?;
    print_changed_buckets(subject, &answer)
}

/// Blocks a tool.
pub(super) async fn block(
    subject: &LimitsSubject,
    lasts: Option<Duration>,
    target: &RunningSource,
) -> anyhow::Result<ExitCode> {
    // Rounds up to whole seconds, so that a block is never shorter than requested.
    let seconds = lasts.map(|lasts| lasts.as_secs() + u64::from(lasts.subsec_nanos() > 0));
    let extra = seconds.map_or(json!({}), |seconds| json!({"seconds": seconds}));
    post_change("/limits/block", subject, &extra, target).await?;
    let lasts = lasts.map_or("until the block is lifted".to_owned(), |lasts| format!("for {lasts:?}"));
    terminal::print(&format!("`{}` is blocked for {} {lasts}\n", subject.tool, describe_user(subject)))?;
    Ok(ExitCode::SUCCESS)
}

/// Lifts a block.
pub(super) async fn unblock(subject: &LimitsSubject, target: &RunningSource) -> anyhow::Result<ExitCode> {
    post_change("/limits/unblock", subject, &json!({}), target).await?;
    terminal::print(&format!("`{}` is not blocked for {}\n", subject.tool, describe_user(subject)))?;
    Ok(ExitCode::SUCCESS)
}

fn describe_user(subject: &LimitsSubject) -> String {
    subject.user.as_ref().map_or("all users".to_owned(), |user| format!("user {user}"))
}

/// Requests a change. `extra` has the members of the request other than the tool and the user.
async fn post_change(
    path: &str,
    subject: &LimitsSubject,
    extra: &Value,
    target: &RunningSource,
) -> anyhow::Result<Value> {
    let (target, settings) = AdminClient::from_args(target, true)?;
    let LimitsSubject { tool, user, issuer, claims } = subject;
    let mut body = extra.clone();
    body["tool"] = tool.as_str().into();
    if let Some(user) = user {
        let issuer = issuer.clone().or_else(|| settings.map(|settings| settings.admin.issuer));
        let issuer = issuer
            .context("name who vouches for the user with --issuer, or the configuration with --config")?;
        let mut claim_values = Map::new();
        for (name, value) in parse_claims(claims)? {
            claim_values.insert(name.to_owned(), serde_json::from_str(parse_claim_value(value).as_str())?);
        }
        body["user"] = json!({"issuer": issuer, "subject": user, "claims": claim_values});
    }
    target.post(path, &body).await
}

/// Prints the changed buckets.
fn print_changed_buckets(subject: &LimitsSubject, answer: &Value) -> anyhow::Result<ExitCode> {
    let buckets = answer["buckets"].as_array().cloned().unwrap_or_default();
    if buckets.is_empty() {
        let bucket_kind =
            if subject.user.is_some() { "kept for single users" } else { "shared by all users" };
        terminal::print(&format!(
            "no bucket of `{}` is {bucket_kind}, so nothing was changed\n",
            subject.tool
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_buckets(&buckets, &[], false)
}

/// Prints the users with the most calls of limited tools.
pub(super) async fn top(target: &RunningSource) -> anyhow::Result<ExitCode> {
    let (target, _) = AdminClient::from_args(target, false)?;
    let answer = target.get("/limits").await?;
    let rows = answer["topCallers"].as_array().cloned().unwrap_or_default();
    let mut out = format!("{:>10} {:>10}  user\n", "calls", "refused");
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        // The count may include calls of a user who had the same entry of the table before.
        let error_note = match number("error") {
            0 => String::new(),
            error => format!("  (up to {error} fewer calls)"),
        };
        let who = format!("{} of {}", text("user"), text("issuer"));
        out += &format!("{:>10} {:>10}  {who}{error_note}\n", number("asked"), number("refused"));
    }
    if rows.is_empty() {
        out = "no user has called a limited tool since the gateway was started\n".to_owned();
    }
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}
