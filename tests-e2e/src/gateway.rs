//! The real `vmcp` in front of some backends, ready to be called.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{Process, binary};
use crate::{http, wait};

/// One backend of a generated config file.
pub struct Backend {
    /// Its name, which is also its prefix.
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

    /// A backend that the gateway starts itself, with the program and arguments of `command`.
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

    /// The same with further settings, as they stand in a config file: `timeout: 2s`.
    #[must_use]
    pub fn with(mut self, settings: &str) -> Self {
        self.extra.push_str(&format!(", {settings}"));
        self
    }

    fn yaml(&self) -> String {
        // Strings are written as JSON, which YAML contains.
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

/// How names of several backends are kept apart.
#[derive(Clone, Copy)]
pub enum NamePolicy {
    /// Every name gets its backend's name in front.
    Prefixed,
    /// As the backends spell them, as long as they do not collide.
    Unchanged,
}

/// The config file of a gateway in front of `backends`; `extra` is appended as it is.
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
    /// The process, for what it says and to kill it.
    pub process: Process,
    /// Its endpoint.
    pub url: String,
    // Kept so that the config file stays while the process may read it.
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts `vmcp serve` with this config and waits until it is ready.
    pub fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_binary(&binary("vmcp")?, config)
    }

    /// As [`Gateway::start`], with a certain binary.
    pub fn start_binary(vmcp: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start_command(Command::new(vmcp), config)
    }

    /// As [`Gateway::start`], with a command that runs the binary with the arguments that are added to it.
    pub fn start_command(mut command: Command, config: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("vmcp.yaml");
        std::fs::write(&file, config)?;
        // Nothing of a test is left in the folder of its user.
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
