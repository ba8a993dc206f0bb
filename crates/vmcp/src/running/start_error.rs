//! Why a gateway cannot be started.

use std::io;

use vmcp_http_client::TlsError;

use vmcp_config::Report;

/// The reason why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused. The report names every problem with its line.
    #[error("{0}")]
    Config(#[from] Report),
    /// The configuration asks for audit records but names no file, and the program has given no output.
    #[error("`audit` names no `logFile`; name one, or give the builder an output with `audit_output`")]
    NoAuditOutput,
    /// Changed tools must be held back, and there is no state folder with the records of tools.
    #[error("`aggregation.pinTools: hold` needs a folder for the records of tools; set `stateFolder`")]
    NoRecords,
    /// TLS towards the token endpoints of backends cannot be set up.
    #[error("no TLS towards token endpoints: {0}")]
    TokenEndpointTls(TlsError),
    /// TLS towards the issuer of callers' tokens cannot be set up.
    #[error("no TLS towards the issuer: {0}")]
    IssuerTls(TlsError),
    /// Scripts need a program that runs them.
    #[error(
        "`codeMode` runs scripts in processes of this program, which must call `vmcp::process::prepare` first in its `main`"
    )]
    NoScriptWorker,
    /// The file for audit records cannot be opened.
    #[error("{0}")]
    AuditFile(#[from] io::Error),
}
