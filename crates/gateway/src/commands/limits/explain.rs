//! `vmcp limits explain`: prints what the rules of a configuration allow, in the configured numbers.

use std::process::ExitCode;
use std::time::Duration;

use vmcp_domain::{Error, LimitScope};
use vmcp_ratelimit::policy::{CallerSelector, LimitSize, Mode, Override, ValueKind, ValueSource, Window};
use vmcp_ratelimit::{BucketView, RulesView, SlotLimitView};

use super::{describe_wait, start_gateway};
use crate::cli::Source;
use crate::commands;
use crate::terminal;

/// The most tools that are named for one rule.
const NAMED_COUNT_MAX: usize = 8;

/// Prints the rules with the tools to which they apply, or the rules that apply to one tool.
pub(super) async fn run(tool: Option<&str>, source: &Source) -> anyhow::Result<ExitCode> {
    let (gateway, limiter, tools, lease) = start_gateway(source, false).await?;
    let mut groups = RuleGroups::default();
    let (mut unlimited, mut known) = (Vec::new(), false);
    for one in tools.iter().filter(|one| tool.is_none_or(|name| one.name.as_str() == name)) {
        known = true;
        let rules_text =
            limiter.rules(&tools, &one.name).map(|rules| describe_rules(&rules, lease)).unwrap_or_default();
        if rules_text.is_empty() {
            unlimited.push(one.name.to_string());
        }
        for part in rules_text {
            groups.add(part, one.name.as_str());
        }
    }
    // The gateway's own tools: workflows, and those of the search.
    for name in limiter.virtual_tools().into_iter().filter(|one| tool.is_none_or(|name| one.as_str() == name))
    {
        known = true;
        let rules = limiter.rules(&tools, &name);
        let rules_text = rules.map(|rules| describe_rules(&rules, lease)).unwrap_or_default();
        if rules_text.is_empty() && tool.is_some() {
            unlimited.push(name.to_string());
        }
        for part in rules_text {
            groups.add(part, name.as_str());
        }
    }
    for (name, rules) in limiter.method_rules().into_iter().filter(|_| tool.is_none()) {
        for part in describe_rules(&rules, lease) {
            groups.add(part, name);
        }
    }
    let mut out = match tool {
        None => groups.print(),
        Some(name) if known => {
            let target = tools.iter().find(|one| one.name.as_str() == name);
            let target =
                target.map_or(String::new(), |one| format!(" ({}/{})", one.target.backend, one.target.name));
            format!("{name}{target}\n{}", groups.print_alone())
        }
        Some(_) => String::new(),
    };
    if !unlimited.is_empty() {
        out += &match tool {
            None => format!("not limited\n  {}\n", join_names(&unlimited)),
            Some(_) => "  not limited\n".to_owned(),
        };
    }
    let is_missing = commands::report_missing_backends(&gateway);
    let listed = if is_missing { " of the backends that are listed" } else { "" };
    for rule in limiter.prepare(&tools) {
        out += &format!("no tool{listed} fits the rule `{rule}`\n");
    }
    gateway.stop().await;
    terminal::print(&out)?;
    match tool {
        Some(name) if !known => {
            anyhow::bail!("{}; `vmcp tools` lists them all", Error::UnknownTool(name.into()))
        }
        _ => Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
    }
}

/// The name of a rule, and its description for one tool in lines without indentation.
type RuleText = (String, Vec<String>);

/// Rules with their tools. Tools with the same description of a rule share one entry.
#[derive(Default)]
struct RuleGroups(Vec<(RuleText, Vec<String>)>);

impl RuleGroups {
    fn add(&mut self, part: RuleText, tool: &str) {
        match self.0.iter_mut().find(|(known, _)| *known == part) {
            Some((_, tools)) => tools.push(tool.to_owned()),
            None => self.0.push((part, vec![tool.to_owned()])),
        }
    }

    fn print(&self) -> String {
        let group = |((rule, lines), tools): &(RuleText, Vec<String>)| {
            let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
            format!("{rule}\n{lines}  on {}\n", join_names(tools))
        };
        self.0.iter().map(group).collect()
    }

    /// Like [`print`](Self::print), but for a single tool, which is not named.
    fn print_alone(&self) -> String {
        let group = |((rule, lines), _): &(RuleText, Vec<String>)| {
            let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
            format!("  {rule}\n{lines}")
        };
        self.0.iter().map(group).collect()
    }
}

fn join_names(tools: &[String]) -> String {
    let shown = tools.iter().take(NAMED_COUNT_MAX).cloned().collect::<Vec<_>>().join(", ");
    match tools.len().saturating_sub(NAMED_COUNT_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Describes the limits of one tool or method, rule by rule.
fn describe_rules(rules: &RulesView, lease: Option<Duration>) -> Vec<RuleText> {
    let RulesView { buckets, slot_limits: slots, overrides, value_sources: values, prices, settlements } =
        rules;
    let mut rules_text: Vec<RuleText> = Vec::new();
    let mut add =
        |rule: &str, lines: Vec<String>| match rules_text.iter_mut().find(|(known, _)| known == rule) {
            Some((_, known)) => known.extend(lines),
            None => rules_text.push((rule.to_owned(), lines)),
        };
    for view in buckets {
        add(&view.rule, describe_bucket(view, &describe_bucket_scope(view, values), !prices.is_empty()));
    }
    for (rule, overrides) in overrides {
        add(rule, overrides.iter().map(describe_override).collect());
    }
    for view in slots {
        add(&view.rule, vec![describe_concurrency(view, lease)]);
    }
    for text in prices {
        add("cost", vec![format!("a call costs `{text}`")]);
    }
    for text in settlements {
        add("settle", vec![format!("a call is settled by `{text}` when it has ended")]);
    }
    rules_text
}

/// Describes a bucket, and the most calls that it admits in the worst case.
fn describe_bucket(view: &BucketView, whom: &str, is_priced: bool) -> Vec<String> {
    let cost = match (view.cost, is_priced) {
        (1, _) => String::new(),
        (cost, false) => format!(", {cost} for one call"),
        (cost, true) => format!(", {cost} or more for one call"),
    };
    let shadow = match (view.percent, view.mode) {
        (_, Mode::Shadow) => ", counted only".to_owned(),
        (Some(percent), Mode::Enforce) => format!(", enforced for {percent} in 100 callers"),
        (None, Mode::Enforce) => String::new(),
    };
    let (tokens, period) = view.allowance;
    let worst_case = view.capacity.saturating_add(tokens);
    if let Some(period) = &view.period {
        let twice = tokens.saturating_mul(2);
        return vec![
            format!("{tokens} in each {period} {whom}{cost}{shadow}"),
            format!("all of them at once, so at most {twice} around a reset; then none until the next"),
        ];
    }
    let waits = describe_wait(view.wait_max);
    let mut lines = vec![
        format!("{tokens} in {period:?} {whom}{cost}{shadow}{waits}"),
        format!("{} at once, and at most {worst_case} in any {period:?}", view.capacity),
    ];
    lines.extend(describe_lease(view));
    lines
}

/// Describes the limits that some callers have instead of the rule's.
fn describe_override(one: &Override) -> String {
    let Override { selector: who, size } = one;
    let who = match who {
        CallerSelector::Subject { subject, issuer: None } => format!("subject {subject}"),
        CallerSelector::Subject { subject, issuer: Some(issuer) } => format!("subject {subject} of {issuer}"),
        CallerSelector::Group(group) => format!("group {group}"),
        CallerSelector::Claim { claim, value: Some(value) } => format!("{claim} {value}"),
        CallerSelector::Claim { claim, value: None } => format!("any {claim}"),
        CallerSelector::Others => "all others".to_owned(),
    };
    let window = |window: &Window| {
        let (tokens, period) = window.rate.configured();
        match &window.calendar {
            Some(calendar) => format!("{tokens} in each {calendar}"),
            None => format!("{tokens} in {period:?}, {} at once", window.rate.burst()),
        }
    };
    let size = match size {
        LimitSize::Windows(windows) => windows.iter().map(window).collect::<Vec<_>>().join(" and "),
        LimitSize::Blocked => "no call".to_owned(),
        LimitSize::Unlimited => "not limited".to_owned(),
    };
    format!("but {who}: {size}")
}

/// Describes a concurrency limit and its scope. The limit counts the in-flight calls of all replicas if
/// `lease` says that a shared store leases the slots.
fn describe_concurrency(view: &SlotLimitView, lease: Option<Duration>) -> String {
    let replica_note = lease.map_or(String::new(), |lease| {
        format!(", at all replicas; what a killed one held is free after {lease:?}")
    });
    let shadow = if view.mode == Mode::Shadow { ", counted only" } else { "" };
    format!(
        "{} in flight at once {}{replica_note}{shadow}{}",
        view.count_max,
        describe_scope(view.scope),
        describe_wait(view.wait_max)
    )
}

/// Describes how leasing tokens in advance affects the limits of a bucket.
fn describe_lease(view: &BucketView) -> Option<String> {
    let (tokens, period) = view.allowance;
    Some(match view.lease_excess? {
        0 => format!(
            "leased, and held back: the bucket holds {} for it, and no stretch of time sees more than the limit",
            view.capacity
        ),
        excess => format!(
            "leased: any stretch of time may see up to {excess} more than {} and {tokens} for every {period:?}; over the \
             long run not one more, with any number of replicas",
            view.capacity
        ),
    })
}

/// Describes which calls share a bucket.
fn describe_bucket_scope(view: &BucketView, values: &[ValueSource]) -> String {
    let of = values.iter().find(|of| view.rule.ends_with(&of.config_path()));
    match of.map(ValueSource::kind) {
        None if view.rule.ends_with("shared.unreserved") => "for all callers that have no part reserved",
        None => describe_scope(view.scope),
        Some(ValueKind::Claim) => "for each value of the claim",
        Some(kind) if kind.is_per_caller() => "for each value of each caller",
        Some(_) => "for each listed value, and for all others together",
    }
    .to_owned()
}

/// Describes the scope of a limit without looking at the source of its values.
fn describe_scope(scope: LimitScope) -> &'static str {
    match scope {
        LimitScope::Server | LimitScope::Tool => "for all callers together",
        LimitScope::Claim | LimitScope::ClaimTool | LimitScope::Value | LimitScope::ValueTool => {
            "for each value"
        }
        LimitScope::User | LimitScope::UserTool => "for each user",
    }
}
