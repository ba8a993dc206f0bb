//! Converts `codeMode` into the policy of scripts.

use std::time::Duration;

use vmcp_domain::{EXECUTE_TOOL_SCRIPT, NamePattern};
use vmcp_script::{Confirm, Description, Language, Listing, Sandbox, ScriptPolicy};

use super::Findings;
use crate::file::duration::format;
use crate::file::{
    CodeMode, GoDuration, ScriptConfirm, ScriptDescription, ScriptLanguage, ScriptListing, ScriptSandbox,
    ScriptToolFilter,
};
use crate::report::{item_path, join_path};

const PATH: &str = "codeMode";
/// The most calls in flight that an operator may allow.
const PARALLEL_MAX: i64 = 100;

/// The other tools of the gateway itself.
pub(super) struct Others<'a> {
    /// Whether clients see the tools of the optimizer.
    pub(super) has_optimizer: bool,
    /// The tools of the optimizer and the workflows.
    pub(super) names: &'a [String],
}

/// The policy; `None` if code mode is off.
pub(super) fn convert(
    file: Option<CodeMode>,
    others: &Others<'_>,
    findings: &mut Findings<'_>,
) -> Option<ScriptPolicy> {
    let file = file.filter(|file| file.enabled == Some(true))?;
    if others.names.iter().any(|name| name == EXECUTE_TOOL_SCRIPT) {
        let message = format!("another tool of the gateway has the name `{EXECUTE_TOOL_SCRIPT}`");
        findings.add_problem(PATH, message).hint = Some("give that tool another name".to_owned());
    }
    if file.step_limit.is_some() && file.language == Some(ScriptLanguage::Javascript) {
        let message = "has no effect: scripts are JavaScript, and `cpuTime` bounds them";
        findings.add_warning(join_path(PATH, "stepLimit"), message);
    }
    let mut checks = Bounds { findings };
    let policy = bounds(&file, &mut checks);
    // As in ToolHive, zero is the default.
    let call_timeout = file.tool_call_timeout.map(|given| given.0).filter(|given| !given.is_zero());
    let ScriptToolFilter { allow, deny } = file.tools.unwrap_or_default();
    // As in ToolHive, what is not positive is the default.
    let step_limit = file.step_limit.and_then(|given| u64::try_from(given).ok()).filter(|given| *given > 0);
    Some(ScriptPolicy {
        language: match file.language {
            None | Some(ScriptLanguage::Auto) => None,
            Some(ScriptLanguage::Javascript) => Some(Language::JavaScript),
            Some(ScriptLanguage::Starlark) => Some(Language::Starlark),
        },
        step_limit: step_limit.unwrap_or(policy.step_limit),
        call_timeout: call_timeout.unwrap_or(policy.call_timeout),
        listing: match file.listing {
            None | Some(ScriptListing::Beside) => Listing::Beside,
            Some(ScriptListing::Only) => Listing::Only,
        },
        description: match file.describe {
            None if others.has_optimizer => Description::Search,
            None | Some(ScriptDescription::Full) => Description::Full,
            Some(ScriptDescription::Names) => Description::Names,
            Some(ScriptDescription::Search) => Description::Search,
        },
        allowed: checks.patterns("allow", allow),
        denied: checks.patterns("deny", deny),
        confirm: match file.confirm {
            None | Some(ScriptConfirm::Never) => Confirm::Never,
            Some(ScriptConfirm::Destructive) => Confirm::Destructive,
            Some(ScriptConfirm::Writes) => Confirm::Writes,
        },
        sandbox: match file.sandbox {
            None => policy.sandbox,
            Some(ScriptSandbox::Required) => Sandbox::Required,
            Some(ScriptSandbox::Process) => Sandbox::Process,
        },
        ..policy
    })
}

/// The numbers of the section.
fn bounds(file: &CodeMode, checks: &mut Bounds<'_, '_>) -> ScriptPolicy {
    const KIB: u32 = 1 << 10;
    const MIB: u32 = 1 << 20;
    let default = ScriptPolicy::default();
    let mut count = |key, given, range, default| checks.count(key, given, range, default);
    ScriptPolicy {
        memory_bytes_max: count(
            "maxMemoryBytes",
            file.max_memory_bytes,
            (8 * MIB, 512 * MIB),
            default.memory_bytes_max,
        ),
        calls_max: count("maxCalls", file.max_calls, (1, 1000), default.calls_max),
        script_bytes_max: count(
            "maxScriptBytes",
            file.max_script_bytes,
            (KIB, MIB),
            default.script_bytes_max,
        ),
        result_bytes_max: count(
            "maxResultBytes",
            file.max_result_bytes,
            (KIB, 8 * MIB),
            default.result_bytes_max,
        ),
        log_bytes_max: count("maxLogBytes", file.max_log_bytes, (0, MIB), default.log_bytes_max),
        reply_bytes_max: count(
            "maxReplyBytes",
            file.max_reply_bytes,
            (KIB, 8 * MIB),
            default.reply_bytes_max,
        ),
        running_max: count("maxRuns", file.max_runs, (1, 1000), default.running_max),
        running_max_per_caller: count(
            "maxRunsPerCaller",
            file.max_runs_per_caller,
            (1, 1000),
            default.running_max_per_caller,
        ),
        spare_workers: count("spareWorkers", file.spare_workers, (0, 16), default.spare_workers),
        parallel_calls_max: checks.parallel(file.parallel_max_concurrency, default.parallel_calls_max),
        timeout: checks.time("timeout", file.timeout, (1, 600), default.timeout),
        cpu_time: checks.time("cpuTime", file.cpu_time, (1, 60), default.cpu_time),
        ..default
    }
}

/// Checks values against their bounds.
struct Bounds<'a, 'b> {
    findings: &'a mut Findings<'b>,
}

impl Bounds<'_, '_> {
    /// As in ToolHive, a number that is not positive is the default.
    fn parallel(&mut self, given: Option<i64>, default: usize) -> usize {
        let Some(given) = given.filter(|given| *given > 0) else { return default };
        if given > PARALLEL_MAX {
            let path = join_path(PATH, "parallelMaxConcurrency");
            self.findings.add_problem(path, format!("must be at most {PARALLEL_MAX}"));
        }
        usize::try_from(given).unwrap_or(default)
    }

    fn count(&mut self, key: &str, given: Option<u32>, (least, most): (u32, u32), default: usize) -> usize {
        let Some(given) = given else { return default };
        if !(least..=most).contains(&given) {
            self.findings.add_problem(join_path(PATH, key), format!("must be from {least} to {most}"));
        }
        usize::try_from(given).unwrap_or(default)
    }

    fn time(
        &mut self,
        key: &str,
        given: Option<GoDuration>,
        (least, most): (u64, u64),
        default: Duration,
    ) -> Duration {
        let Some(GoDuration(given)) = given else { return default };
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
        if !(least..=most).contains(&given) {
            let message = format!("must be from {} to {}", format(least), format(most));
            self.findings.add_problem(join_path(PATH, key), message);
        }
        given
    }

    fn patterns(&mut self, key: &str, names: Vec<String>) -> Vec<NamePattern> {
        let path = format!("{PATH}.tools.{key}");
        for (index, _) in names.iter().enumerate().filter(|(_, name)| name.trim().is_empty()) {
            self.findings.add_problem(item_path(&path, index), "must not be empty");
        }
        names.into_iter().map(NamePattern::new).collect()
    }
}
