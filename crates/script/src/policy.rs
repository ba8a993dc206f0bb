//! What an operator decides about scripts.

use std::time::Duration;

use vmcp_domain::{NamePattern, Tool};
use vmcp_script_worker::{Language, Sandbox};

/// The bounds of scripts, and what they may use.
#[derive(Clone, Debug)]
pub struct ScriptPolicy {
    /// The language of scripts that do not say it. `None` finds it out.
    pub language: Option<Language>,
    /// The most calls of functions and turns of loops of a script in Starlark.
    pub step_limit: u64,
    /// The most calls of one run in flight.
    pub parallel_calls_max: usize,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a run may take, without the time that people need to answer.
    pub timeout: Duration,
    /// The most processor time of a run.
    pub cpu_time: Duration,
    /// The most memory of the engine, in bytes.
    pub memory_bytes_max: usize,
    /// The most calls of a run.
    pub calls_max: usize,
    /// The longest script and the longest `data`, in bytes.
    pub script_bytes_max: usize,
    /// The longest result of a run, in bytes of JSON.
    pub result_bytes_max: usize,
    /// The most bytes that a run may log. The rest is left out.
    pub log_bytes_max: usize,
    /// The longest result of a call that a script gets, in bytes of JSON.
    pub reply_bytes_max: usize,
    /// The most runs at once, for all callers together.
    pub running_max: usize,
    /// The most runs at once of each caller.
    pub running_max_per_caller: usize,
    /// How many workers are started in advance.
    pub spare_workers: usize,
    /// Whether other tools are listed beside the script tool.
    pub listing: Listing,
    /// How much of the tools the description of the script tool has.
    pub description: Description,
    /// The tools that scripts may call. Empty: all.
    pub allowed: Vec<NamePattern>,
    /// The tools that scripts may not call.
    pub denied: Vec<NamePattern>,
    /// The calls that need the user's consent.
    pub confirm: Confirm,
    /// How workers are locked in.
    pub sandbox: Sandbox,
}

impl Default for ScriptPolicy {
    fn default() -> Self {
        Self {
            language: None,
            step_limit: 100_000,
            parallel_calls_max: 10,
            call_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(60),
            cpu_time: Duration::from_secs(5),
            memory_bytes_max: 64 << 20,
            calls_max: 200,
            script_bytes_max: 64 << 10,
            result_bytes_max: 256 << 10,
            log_bytes_max: 64 << 10,
            reply_bytes_max: 8 << 20,
            running_max: 16,
            running_max_per_caller: 4,
            spare_workers: 2,
            listing: Listing::Beside,
            description: Description::Full,
            allowed: Vec::new(),
            denied: Vec::new(),
            confirm: Confirm::Never,
            sandbox: if cfg!(target_os = "linux") { Sandbox::Required } else { Sandbox::Process },
        }
    }
}

impl ScriptPolicy {
    /// Whether scripts may call a tool.
    pub(crate) fn allows(&self, tool: &Tool) -> bool {
        let matches = |patterns: &[NamePattern]| {
            patterns.iter().any(|pattern| tool.has_name(|name| pattern.matches(name)))
        };
        (self.allowed.is_empty() || matches(&self.allowed)) && !matches(&self.denied)
    }

    /// Whether the user is asked before a call of a tool.
    pub(crate) fn asks_before(&self, tool: &Tool) -> bool {
        let writes = tool.hints.read_only != Some(true);
        match self.confirm {
            Confirm::Never => false,
            Confirm::Writes => writes,
            Confirm::Destructive => writes && tool.hints.destructive != Some(false),
        }
    }
}

/// Whether other tools are listed beside the script tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All tools and the script tool.
    Beside,
    /// The script tool only. The others can still be called.
    Only,
}

/// How much of the tools the description of the script tool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Description {
    /// The declarations of all tools, as long as they are short enough; else [`Self::Names`].
    Full,
    /// The names of all tools, as long as they are short enough; else [`Self::Search`].
    Names,
    /// Nothing: a script finds tools with `findTools`.
    Search,
}

/// The calls that need the user's consent. What a tool does not say about itself counts as the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// None.
    Never,
    /// Calls of tools that may destroy or overwrite something.
    Destructive,
    /// Calls of all tools that are not read-only.
    Writes,
}
