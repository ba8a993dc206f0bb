//! `vmcp limits reset`, `grant` and `top`: at a gateway that runs on this machine.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, json};

use super::check::print;
use super::running::Running;
use super::{claim, pairs};
use crate::cli::{LimitsSubject, RunningSource};
use crate::terminal;

/// Fills buckets again.
pub(super) async fn reset(subject: &LimitsSubject, running: &RunningSource) -> anyhow::Result<ExitCode> {
    act("/limits/reset", subject, None, running).await
}

/// Gives tokens back.
pub(super) async fn grant(
    subject: &LimitsSubject,
    tokens: u32,
    running: &RunningSource,
) -> anyhow::Result<ExitCode> {
    act("/limits/grant", subject, Some(tokens), running).await
}

async fn act(
    path: &str,
    subject: &LimitsSubject,
    tokens: Option<u32>,
    running: &RunningSource,
) -> anyhow::Result<ExitCode> {
    let (running, settings) = Running::find(running, true)?;
    let LimitsSubject { tool, user, issuer, claims } = subject;
    let mut body = json!({"tool": tool});
    if let Some(user) = user {
        let issuer = issuer.clone().or_else(|| settings.map(|settings| settings.admin.issuer));
        let issuer = issuer
            .context("name who vouches for the user with --issuer, or the configuration with --config")?;
        let mut said = Map::new();
        for (name, value) in pairs(claims)? {
            said.insert(name.to_owned(), serde_json::from_str(claim(value).as_str())?);
        }
        body["user"] = json!({"issuer": issuer, "subject": user, "claims": said});
    }
    if let Some(tokens) = tokens {
        body["tokens"] = tokens.into();
    }
    let answer = running.post(path, &body).await?;
    let buckets = answer["buckets"].as_array().cloned().unwrap_or_default();
    if buckets.is_empty() {
        let whose = if user.is_some() { "kept for single users" } else { "shared by all users" };
        terminal::print(&format!("no bucket of `{tool}` is {whose}, so nothing was changed\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&buckets, &[], false)
}

/// Who calls limited tools most.
pub(super) async fn top(running: &RunningSource) -> anyhow::Result<ExitCode> {
    let (running, _) = Running::find(running, false)?;
    let answer = running.get("/limits").await?;
    let rows = answer["topCallers"].as_array().cloned().unwrap_or_default();
    let mut out = format!("{:>10} {:>10}  user\n", "calls", "refused");
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        // The calls of users who had the place before.
        let uncertain = match number("error") {
            0 => String::new(),
            error => format!("  (up to {error} fewer calls)"),
        };
        let who = format!("{} of {}", text("user"), text("issuer"));
        out += &format!("{:>10} {:>10}  {who}{uncertain}\n", number("asked"), number("refused"));
    }
    if rows.is_empty() {
        out = "no user has called a limited tool since the gateway was started\n".to_owned();
    }
    terminal::print(&out)?;
    Ok(ExitCode::SUCCESS)
}
