//! The values in effect of the section `codeMode`.

use serde_json::{Value, json};
use vmcp_script::{Confirm, Description, Language, Listing, ScriptPolicy};

use crate::file::duration::format;

/// The section without what is only as it is written.
pub(super) fn values_in_effect(policy: &ScriptPolicy) -> Value {
    let ScriptPolicy {
        language,
        step_limit,
        parallel_calls_max,
        call_timeout,
        timeout,
        cpu_time,
        memory_bytes_max,
        calls_max,
        script_bytes_max,
        result_bytes_max,
        log_bytes_max,
        reply_bytes_max,
        running_max,
        running_max_per_caller,
        spare_workers,
        listing,
        description,
        allowed: _,
        denied: _,
        confirm,
        sandbox,
    } = policy;
    json!({
        "enabled": true,
        "language": language.map_or("auto", Language::as_str),
        "stepLimit": (*language != Some(Language::JavaScript)).then_some(step_limit),
        "parallelMaxConcurrency": parallel_calls_max,
        "toolCallTimeout": format(*call_timeout),
        "timeout": format(*timeout),
        "cpuTime": format(*cpu_time),
        "maxMemoryBytes": memory_bytes_max,
        "maxCalls": calls_max,
        "maxScriptBytes": script_bytes_max,
        "maxResultBytes": result_bytes_max,
        "maxLogBytes": log_bytes_max,
        "maxReplyBytes": reply_bytes_max,
        "maxRuns": running_max,
        "maxRunsPerCaller": running_max_per_caller,
        "spareWorkers": spare_workers,
        "listing": match listing {
            Listing::Beside => "beside",
            Listing::Only => "only",
        },
        "describe": match description {
            Description::Full => "full",
            Description::Names => "names",
            Description::Search => "search",
        },
        "confirm": match confirm {
            Confirm::Never => "never",
            Confirm::Destructive => "destructive",
            Confirm::Writes => "writes",
        },
        "sandbox": sandbox.as_str(),
    })
}
