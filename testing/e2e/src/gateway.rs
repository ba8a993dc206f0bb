//! Starts the real `vmcp` with a generated configuration of backends.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{Process, binary};
use crate::{http, wait};

/// One backend of a generated configuration file.
pub struct Backend {
    /// The name, which is also the prefix of its tools.
    pub name: String,
    kind: BackendKind,
    extra: String,
}

enum BackendKind {
    Url { transport: &'static str, url: String },
    Process { command: String, args: Vec<String>, env: Vec<(String, String)> },
}

impl Backend {
    /// A backend over streamable HTTP.
    pub fn http(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: BackendKind::Url { transport: "streamable-http", url: url.into() },
            extra: String::new(),
        }
    }

    /// A backend over the HTTP+SSE of 2024-11-05.
    pub fn sse(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: BackendKind::Url { transport: "sse", url: url.into() },
            extra: String::new(),
        }
    }

    /// A backend that the gateway starts itself, with the program, arguments and environment of `command`.
    pub fn stdio(name: impl Into<String>, command: &Command) -> Self {
        let text = |word: &std::ffi::OsStr| word.to_string_lossy().into_owned();
        let env = command.get_envs().filter_map(|(key, value)| Some((text(key), text(value?))));
        let kind = BackendKind::Process {
            command: text(command.get_program()),
            args: command.get_args().map(text).collect(),
            env: env.collect(),
        };
        Self { name: name.into(), kind, extra: String::new() }
    }

    /// Adds settings in the syntax of the configuration file, such as `timeout: 2s`.
    #[must_use]
    pub fn with(mut self, settings: &str) -> Self {
        self.extra.push_str(&format!(", {settings}"));
        self
    }

    fn yaml(&self) -> String {
        // Strings are written as JSON, which is valid YAML.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let name = quoted(&self.name);
        match &self.kind {
            BackendKind::Url { transport, url } => {
                format!("  - {{name: {name}, transport: {transport}, url: {}{}}}\n", quoted(url), self.extra)
            }
            BackendKind::Process { command, args, env } => {
                let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
                let env: Vec<String> =
                    env.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
                format!(
                    "  - {{name: {name}, transport: stdio, command: {}, args: [{}], env: {{{}}}{}}}\n",
                    quoted(command),
                    args.join(", "),
                    env.join(", "),
                    self.extra
                )
            }
        }
    }
}

/// How names of several backends are made unique.
#[derive(Clone, Copy)]
pub enum NamePolicy {
    /// Every name has its backend's name as a prefix.
    Prefixed,
    /// Names are as the backends spell them, unless they collide.
    Unchanged,
}

/// Generates the configuration of a gateway in front of `backends`; `extra` is appended unchanged.
#[must_use]
pub fn config(names: NamePolicy, backends: &[Backend], extra: &str) -> String {
    let resolution = match names {
        NamePolicy::Prefixed => "prefix",
        NamePolicy::Unchanged => "auto",
    };
    let mut text = format!(
        "name: e2e\nincomingAuth: {{type: anonymous}}\noutgoingAuth: {{source: inline}}\n\
         aggregation: {{conflictResolution: {resolution}}}\nbackends:\n"
    );
    for backend in backends {
        // Writing to a string cannot fail.
        write!(text, "{}", backend.yaml()).ok();
    }
    text.push_str(extra);
    text
}

/// A running gateway.
pub struct Gateway {
    /// The process, whose output can be read and which can be killed.
    pub process: Process,
    /// The URL of its MCP endpoint.
    pub url: String,
    // The folder must exist while the process may read the configuration file.
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts `vmcp serve` with this configuration and waits until it is ready.
    pub fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_binary(&binary("vmcp")?, config)
    }

    /// As [`Gateway::start`], with the binary at `vmcp`.
    pub fn start_binary(vmcp: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start_command(Command::new(vmcp), config)
    }

    /// As [`Gateway::start`], with a command that runs the binary and to which the arguments are appended.
    pub fn start_command(mut command: Command, config: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("vmcp.yaml");
        std::fs::write(&file, config)?;
        // A test must not leave files in the user's state folder.
        command.env("XDG_STATE_HOME", folder.path());
        command.arg("serve").arg("--config").arg(&file).args(["--port", "0"]);
        let mut process = Process::start(&mut command)?;
        let url = process.wait_for_url_not_in(config)?;
        let ready = url.replace("/mcp", "/readyz");
        let answered = wait::until("the gateway is ready", || {
            http::get(&ready, &[]).ok().filter(|response| response.status == 200)
        });
        answered.with_context(|| {
            format!("{ready} with this config:\n{config}\nit said:\n{}", process.output())
        })?;
        Ok(Self { process, url, _folder: folder })
    }
}
