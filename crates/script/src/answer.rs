//! The results of runs as clients see them.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use vmcp_domain::{Error, Reply, ResultType, RunOutcome};
use vmcp_json::{Json, Members};
use vmcp_runs::is_limit_refusal;
use vmcp_script_worker::{Language, ScriptError};

use crate::host::{CallOutcome, CallRecord, LIMITED, RunHost, failure_of};
use crate::policy::ScriptPolicy;
use crate::serve::ScriptEnd;
use crate::worker::WorkerEnd;

/// The key of the run in `_meta`.
const META_KEY: &str = "vmcp/run";
/// The most calls that `_meta` and a failed result list.
const LISTED_CALLS_MAX: usize = 50;
/// The signal by which the system ends a process that used up its processor time, and by which the gateway ends one.
const KILLED: i32 = 9;
/// The signal of a process that gives up, as for lack of memory.
const ABORTED: i32 = 6;
/// What QuickJS says if its memory is used up.
const OUT_OF_MEMORY: &str = "out of memory";

/// A run that has ended.
pub(crate) struct Ran<'a> {
    pub(crate) id: &'a str,
    pub(crate) end: ScriptEnd,
    pub(crate) worker: WorkerEnd,
    /// How long it took, without the time that people needed to answer.
    pub(crate) took: Duration,
}

/// The answer to a script.
///
/// # Errors
/// The refusal of a limit, if no call was made before it.
pub(crate) fn answer(
    host: &RunHost<'_>,
    policy: &ScriptPolicy,
    ran: Ran<'_>,
) -> Result<(RunOutcome, Reply), Error> {
    let Ran { id, end, worker, took } = ran;
    let calls = host.record.calls();
    let (outcome, mut members) = match end {
        ScriptEnd::Value(value) => (RunOutcome::Completed, completed(host, &value)),
        ScriptEnd::Failed(error) if is_out_of_memory(&error) => {
            (RunOutcome::Failed, stopped(host, &calls, &out_of_memory(policy)))
        }
        ScriptEnd::Failed(error) => {
            let cause = error.request.and_then(|id| host.record.take_error(id));
            match cause {
                Some(cause) if is_limit_refusal(&cause) && !host.record.has_called() => return Err(cause),
                cause => (RunOutcome::Failed, failed(host, &calls, &error, cause.as_ref())),
            }
        }
        ScriptEnd::Exceeded(text) => {
            let is_late = took >= policy.timeout;
            let outcome = if is_late { RunOutcome::TimedOut } else { RunOutcome::Failed };
            (outcome, stopped(host, &calls, &text))
        }
        ScriptEnd::Lost => (RunOutcome::Failed, stopped(host, &calls, &lost(policy, worker))),
    };
    let mut meta = Members::new();
    meta.insert(META_KEY, report(host, (id, &calls), took, worker.cpu_time));
    members.insert("_meta", meta.to_json());
    let is_error = outcome != RunOutcome::Completed;
    Ok((outcome, Reply { members, is_error, result_type: ResultType::Complete, ttl: None }))
}

fn is_out_of_memory(error: &ScriptError) -> bool {
    error.name == "InternalError" && error.message == OUT_OF_MEMORY
}

fn out_of_memory(policy: &ScriptPolicy) -> String {
    format!("the script ran out of its {} MiB of memory", policy.memory_bytes_max >> 20)
}

/// Why a worker ended without a result.
fn lost(policy: &ScriptPolicy, worker: WorkerEnd) -> String {
    let used_up = worker.cpu_time.is_some_and(|time| time >= policy.cpu_time);
    match worker.signal {
        Some(KILLED) if used_up => {
            format!("the script used more than {} s of processor time", policy.cpu_time.as_secs())
        }
        Some(ABORTED) => out_of_memory(policy),
        Some(_) | None => "the script ended its engine".to_owned(),
    }
}

fn text_block(text: &str) -> Json {
    let mut block = Members::new();
    block.insert("type", Json::string("text"));
    block.insert("text", Json::string(text));
    block.to_json()
}

/// The value, the log, and what the script added.
fn completed(host: &RunHost<'_>, value: &Json) -> Members {
    let mut content = vec![text_block(value.as_str())];
    let log = host.record.take_log();
    if !log.is_empty() {
        content.push(text_block(&format!("Script logs:\n{log}")));
    }
    content.extend(host.record.take_items());
    let mut members = Members::new();
    members.insert("content", Json::array(&content));
    members
}

/// The result of a script that threw.
fn failed(host: &RunHost<'_>, calls: &[CallRecord], error: &ScriptError, cause: Option<&Error>) -> Members {
    let place = match (error.line, error.column) {
        (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
        (Some(line), None) => format!(" at line {line}"),
        (None, _) => String::new(),
    };
    let text = format!("Script failed{place}: {}: {}", error.name, error.message);
    let mut described = json!({"name": error.name, "message": error.message});
    let told = cause.map(failure_of).unwrap_or_default();
    let retry_after = told.retry_after_ms.map(|ms| ms.div_ceil(1000));
    for (name, value) in [
        ("line", error.line.map(Value::from)),
        ("column", error.column.map(Value::from)),
        ("tool", error.tool.as_deref().map(Value::from)),
        ("code", told.code.map(Value::from)),
        ("retryAfterSeconds", retry_after.map(Value::from)),
    ] {
        if let Some(value) = value {
            described[name] = value;
        }
    }
    let text = match (told.code, retry_after) {
        (Some(LIMITED), Some(seconds)) => format!("{text} (retry after {seconds} s)"),
        _ => text,
    };
    failure(host, calls, &text, &described)
}

/// The result of a script that was ended.
fn stopped(host: &RunHost<'_>, calls: &[CallRecord], text: &str) -> Members {
    let described = json!({"name": "Stopped", "message": text});
    failure(host, calls, text, &described)
}

fn failure(host: &RunHost<'_>, calls: &[CallRecord], text: &str, error: &Value) -> Members {
    let mut text = text.to_owned();
    for (title, wanted) in [
        ("Done before", &[Some(CallOutcome::Done)][..]),
        ("Failed", &[Some(CallOutcome::Failed), Some(CallOutcome::Refused)]),
        ("Not known", &[Some(CallOutcome::TimedOut), None]),
    ] {
        let counted = counted(calls, wanted);
        if !counted.is_empty() {
            // Writing into a string cannot fail.
            let _ = write!(text, ". {title}: {counted}");
        }
    }
    let mut content = vec![text_block(&text)];
    let log = host.record.take_log();
    if !log.is_empty() {
        content.push(text_block(&format!("Script logs:\n{log}")));
    }
    let structured = json!({"error": error, "calls": listed(calls)});
    let mut members = Members::new();
    members.insert("content", Json::array(&content));
    members.insert("structuredContent", Json::encode(&structured).unwrap_or_else(|_| Json::empty_object()));
    members.insert("isError", Json::boolean(true));
    members
}

/// The tools of the calls with one of these outcomes, each once, with the number of its calls.
fn counted(calls: &[CallRecord], wanted: &[Option<CallOutcome>]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for call in calls.iter().filter(|call| wanted.contains(&call.outcome)) {
        match counts.iter_mut().find(|(tool, _)| *tool == call.tool) {
            Some((_, count)) => *count += 1,
            None => counts.push((&call.tool, 1)),
        }
    }
    let texts =
        counts.iter().map(
            |(tool, count)| {
                if *count == 1 { (*tool).to_owned() } else { format!("{tool} ({count} calls)") }
            },
        );
    texts.collect::<Vec<_>>().join(", ")
}

fn listed(calls: &[CallRecord]) -> Vec<Value> {
    let listed = calls.iter().take(LISTED_CALLS_MAX).map(|call| {
        let outcome = call.outcome.map_or("interrupted", CallOutcome::as_str);
        json!({"tool": call.tool, "outcome": outcome, "ms": millis(call.took)})
    });
    listed.collect()
}

fn report(
    host: &RunHost<'_>,
    (id, calls): (&str, &[CallRecord]),
    took: Duration,
    cpu_time: Option<Duration>,
) -> Json {
    let mut report = json!({
        "id": id,
        "language": host.record.language().map(Language::as_str),
        "calls": listed(calls),
        "wallMs": millis(took),
    });
    if calls.len() > LISTED_CALLS_MAX {
        report["callCount"] = calls.len().into();
    }
    if let Some(cpu_time) = cpu_time {
        report["cpuMs"] = millis(cpu_time).into();
    }
    Json::encode(&report).unwrap_or_else(|_| Json::empty_object())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
