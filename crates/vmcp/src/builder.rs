//! Builds a running gateway from a configuration. A program that embeds vmcp starts here.

use std::path::PathBuf;

use vmcp_audit::Output;
use vmcp_config::{self as config, Overrides, Report, Settings};
use vmcp_domain::SharedGateway;

use crate::process;
use crate::running::start_error::StartError;
use crate::running::{Additions, RunningGateway};
use crate::stack::{AddedLayer, Position};

/// Collects the configuration and the additions of a gateway.
///
/// The configuration is the one that `vmcp serve` reads. References to variables (`${NAME}`) are resolved
/// from the environment of the process, unless [`environment`](Self::environment) names another source.
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    source: Source,
    environment: Box<VariableLookup>,
    overrides: Overrides,
    additions: Additions,
}

type VariableLookup = dyn Fn(&str) -> Option<String> + Send;

enum Source {
    File(PathBuf),
    Yaml(String),
}

impl Builder {
    /// Reads the configuration from a YAML file. [`settings`](Self::settings) and [`start`](Self::start) open
    /// the file.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self::from(Source::File(path.into()))
    }

    /// Uses `text` as a YAML configuration.
    pub fn from_yaml(text: impl Into<String>) -> Self {
        Self::from(Source::Yaml(text.into()))
    }

    fn from(source: Source) -> Self {
        let overrides = Overrides { user: Some(process::user()), ..Overrides::default() };
        Self {
            source,
            environment: Box::new(process::environment),
            overrides,
            additions: Additions::default(),
        }
    }

    /// Looks variables up with `lookup` instead of in the environment of the process.
    pub fn environment(mut self, lookup: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        self.environment = Box::new(lookup);
        self
    }

    /// Listens on this port and ignores the port of the configuration. 0 takes a free port.
    pub fn port(mut self, port: u16) -> Self {
        self.overrides.port = Some(port);
        self
    }

    /// Adds a layer. `wrap` receives the part of the stack inside the layer and returns that part with the
    /// layer around it. `/status` shows `name`. Layers at the same position are wrapped in the order in which
    /// they are added, so the last one added is the outermost.
    ///
    /// A layer may narrow lists and refuse requests. It must not call anything but `inner`, and it implements
    /// every method of [`Gateway`](vmcp_domain::Gateway). [`forward!`](vmcp_domain::forward) writes the
    /// methods that it passes through.
    pub fn layer(
        mut self,
        position: Position,
        name: &'static str,
        wrap: impl FnOnce(SharedGateway) -> SharedGateway + Send + 'static,
    ) -> Self {
        self.additions.layers.push(AddedLayer { position, name, wrap: Box::new(wrap) });
        self
    }

    /// Writes audit records to `output` if the configuration asks for records and names no file.
    pub fn audit_output(mut self, output: Output) -> Self {
        self.additions.audit = Some(output);
        self
    }

    /// Reads the configuration without starting anything.
    ///
    /// # Errors
    /// If the configuration is refused. The report lists all problems at once, with their lines.
    pub fn settings(&self) -> Result<Settings, Report> {
        match &self.source {
            Source::File(path) => config::load_file(path, &*self.environment, &self.overrides),
            Source::Yaml(text) => {
                config::load_text(text, "configuration", &*self.environment, &self.overrides)
            }
        }
    }

    /// Reads the configuration, starts connecting to every backend, and builds the stack. Logs the warnings
    /// about the configuration. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the configuration is refused, or the audit records have no output that can be opened. A backend
    /// that cannot be reached is no error: its tools appear when it answers.
    pub async fn start(self) -> Result<RunningGateway, StartError> {
        let settings = self.settings()?;
        for warning in &settings.warnings {
            tracing::warn!(%warning, "the configuration has a part without effect");
        }
        let mut additions = self.additions;
        if let Some(audit_settings) = &settings.audit {
            additions.audit = match vmcp_audit::open(audit_settings, false)? {
                Some(file) => Some(file),
                None => Some(additions.audit.ok_or(StartError::NoAuditOutput)?),
            };
        }
        RunningGateway::start(settings, additions).await
    }
}
