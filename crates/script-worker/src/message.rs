//! The messages between the gateway and a worker. Each is the JSON of one frame.

use serde::{Deserialize, Serialize};
use vmcp_json::Json;

/// A message to the worker.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// The script, once at the start.
    Run(Program),
    /// The answer to a request.
    Answer {
        /// The identifier of the request.
        id: u64,
        /// The result, or what failed.
        outcome: Outcome,
    },
}

/// A script with what it may use.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Program {
    /// The language. `None` finds it out.
    pub language: Option<Language>,
    /// The text.
    pub script: String,
    /// An object, whose members the script reads.
    pub data: Json,
    /// The exact names of the tools that the script may call.
    pub tools: Vec<String>,
    /// Only checks that the script can be compiled.
    pub check_only: bool,
    /// The most bytes of memory of the engine.
    pub memory_bytes_max: usize,
    /// The most calls of functions and turns of loops of a script in Starlark.
    pub step_limit: u64,
    /// The longest result, in bytes of JSON.
    pub result_bytes_max: usize,
    /// The most bytes that the script may log. The rest is left out.
    pub log_bytes_max: usize,
}

/// The languages of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// JavaScript (ES2024, without modules).
    JavaScript,
    /// Starlark, as ToolHive runs it.
    Starlark,
}

impl Language {
    /// The name in arguments and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::Starlark => "starlark",
        }
    }
}

/// The result of a request of a script.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The result.
    Value(Json),
    /// Why there is none. The script can catch it.
    Failure(Failure),
}

/// Why a request of a script failed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Failure {
    /// A sentence for the author of the script.
    pub message: String,
    /// A code, such as 429 for a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// When a repetition can succeed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A message from the worker. Nothing in it can be trusted: it comes from the script.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// The worker has locked itself in, and waits for a script.
    Ready,
    /// The language that was found out, once before all else.
    Language(Language),
    /// The script asks for something and waits for the answer.
    Request {
        /// An identifier that no other request of the script has.
        id: u64,
        /// What the script asks for.
        request: Request,
    },
    /// A line of the script's log.
    Log {
        /// The line.
        text: String,
    },
    /// How far the script is.
    Progress {
        /// A sentence for the user.
        message: String,
        /// How much is done.
        done: Option<f64>,
        /// How much there is to do.
        total: Option<f64>,
    },
    /// A content item for the answer.
    Emit {
        /// The item, as in the content of a result.
        item: Json,
    },
    /// The script ended with a value.
    Done {
        /// The value.
        value: Json,
    },
    /// The script failed.
    Failed(ScriptError),
}

/// What a script asks for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The result of a tool.
    Call {
        /// The exact name.
        name: String,
        /// The arguments, an object.
        arguments: Json,
    },
    /// Tools by what they do.
    FindTools {
        /// What the tools should do.
        query: String,
        /// How many are wanted.
        limit: Option<u32>,
    },
    /// The description of a tool.
    DescribeTool {
        /// The exact name.
        name: String,
    },
    /// A question to the user.
    Ask {
        /// The question.
        message: String,
        /// The JSON Schema of the answer.
        schema: Option<Json>,
    },
    /// A pause.
    Sleep {
        /// Its length in milliseconds.
        ms: u64,
    },
}

/// Why a script failed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ScriptError {
    /// The name of the error, such as `TypeError`.
    pub name: String,
    /// A sentence.
    pub message: String,
    /// The line of the script, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The tool whose failure was not caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The identifier of the request whose failure was not caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
}
