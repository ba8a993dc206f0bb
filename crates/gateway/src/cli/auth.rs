//! The grammar of `vmcp auth` and `vmcp authz`.

use clap::{Args, Subcommand, ValueEnum};

use super::Source;

/// The commands of `vmcp auth`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Create an API key for a machine. The key is printed once; the configuration gets its hash.
    NewKey {
        /// Name the machine that presents the key. The name becomes the subject of the caller.
        name: String,
    },
}

/// The commands of `vmcp authz`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthzCommand {
    /// Report whether a caller may do something, and which policies decide.
    Explain(ExplainArgs),
}

/// The request for which `vmcp authz explain` evaluates the policies.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Select the action.
    #[arg(value_enum)]
    pub(crate) action: Action,
    /// Name the tool or the prompt, or give the URI of the resource.
    pub(crate) name: String,
    /// Name the caller as its issuer does [default: an anonymous caller].
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Name the issuer of the caller [default: the issuer that `incomingAuth` names].
    #[arg(long, requires = "user")]
    pub(crate) issuer: Option<String>,
    /// Set the claims of the caller, as a JSON object.
    #[arg(long, value_name = "JSON", requires = "user")]
    pub(crate) claims: Option<String>,
    /// Set the arguments of the call, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) arguments: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// The actions under their names in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Action {
    CallTool,
    GetPrompt,
    ReadResource,
}
