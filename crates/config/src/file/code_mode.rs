//! The section `codeMode`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// Code mode: one tool, `execute_tool_script`, which runs a script that calls other tools. Each script runs in a locked
/// process of its own, and each of its calls is authorised, limited and recorded like a call of the client.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CodeMode {
    /// Turns code mode on. Left out: false.
    pub(crate) enabled: Option<bool>,
    /// The language of scripts that do not say it: `auto` finds it out, `javascript`, or `starlark`, which ToolHive's
    /// scripts are written in. It decides the description of the tool too, which is about JavaScript with `auto`. Left out:
    /// `auto`.
    pub(crate) language: Option<ScriptLanguage>,
    /// The largest number of function calls and loop turns of a script in Starlark. Zero and negative numbers are the
    /// default. Without effect, with a warning, with `language: javascript`. Left out: 100000.
    pub(crate) step_limit: Option<i64>,
    /// The largest number of calls that a script may have in flight, at most 100. Zero and negative numbers are the
    /// default. Left out: 10.
    pub(crate) parallel_max_concurrency: Option<i64>,
    /// The time-out of each call that a script makes. Zero is the default. Left out: 30s.
    pub(crate) tool_call_timeout: Option<GoDuration>,
    /// The time-out of a script, 1s to 10m, without the time that people need to answer its questions. Left out: 60s.
    pub(crate) timeout: Option<GoDuration>,
    /// The processor time of a script, 1s to 60s, in whole seconds. Left out: 5s.
    pub(crate) cpu_time: Option<GoDuration>,
    /// The memory of a script in bytes, 8388608 to 536870912. Left out: 67108864.
    pub(crate) max_memory_bytes: Option<u32>,
    /// The largest number of calls of a script, 1 to 1000. Left out: 200.
    pub(crate) max_calls: Option<u32>,
    /// The longest script in bytes, 1024 to 1048576. Left out: 65536.
    pub(crate) max_script_bytes: Option<u32>,
    /// The longest result of a script in bytes, 1024 to 8388608. Left out: 262144.
    pub(crate) max_result_bytes: Option<u32>,
    /// The longest log of a script in bytes, at most 1048576. Left out: 65536.
    pub(crate) max_log_bytes: Option<u32>,
    /// The longest result of a call that a script gets, in bytes, 1024 to 8388608. Left out: 8388608.
    pub(crate) max_reply_bytes: Option<u32>,
    /// The largest number of scripts that run at once, 1 to 1000. Left out: 16.
    pub(crate) max_runs: Option<u32>,
    /// The largest number of scripts of one caller that run at once. Left out: 4.
    pub(crate) max_runs_per_caller: Option<u32>,
    /// How many processes are started ahead, so that a script need not wait for one; at most 16. Left out: 2.
    pub(crate) spare_workers: Option<u32>,
    /// `beside` lists the script tool beside all other tools; `only` lists the script tool and no other, though they can
    /// still be called. Left out: `beside`.
    pub(crate) listing: Option<ScriptListing>,
    /// What the description of the script tool says about the tools: `full` has their declarations in TypeScript up to
    /// 12 KiB, else `names`; `names` has their names up to 12 KiB, else `search`; `search` tells scripts to search. Left
    /// out: `full`, and with the optimizer `search`.
    pub(crate) describe: Option<ScriptDescription>,
    /// The tools that scripts may call. Left out: all tools of the caller.
    pub(crate) tools: Option<ScriptToolFilter>,
    /// The calls of scripts that need the user's consent: `never`; `destructive` for tools that are not read-only and are
    /// not annotated as not destructive; `writes` for tools that are not read-only. A client that cannot ask its user
    /// cannot make such calls. Left out: `never`.
    pub(crate) confirm: Option<ScriptConfirm>,
    /// `required` locks the process of a script in with a list of system calls (seccomp), and refuses scripts where the
    /// system does not allow it; `process` does without the list. Left out: `required` on Linux, else `process`.
    pub(crate) sandbox: Option<ScriptSandbox>,
}

/// The tools that scripts may call, by the names that clients see. `*` matches any characters.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScriptToolFilter {
    /// The only tools that scripts may call. Left out: all.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    /// The tools that scripts may not call, even if `allow` names them. Left out: none.
    #[serde(default)]
    pub(crate) deny: Vec<String>,
}

/// The language of scripts.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptLanguage {
    Auto,
    Javascript,
    Starlark,
}

/// Whether other tools are listed beside the script tool.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptListing {
    Beside,
    Only,
}

/// What the description of the script tool says about the tools.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptDescription {
    Full,
    Names,
    Search,
}

/// The calls of scripts that need the user's consent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptConfirm {
    Never,
    Destructive,
    Writes,
}

/// How the process of a script is locked in.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptSandbox {
    Required,
    Process,
}
