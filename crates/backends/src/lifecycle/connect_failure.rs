//! Explains to an operator in one sentence why a backend could not be connected: the cause, the last line that
//! its process wrote, and the remedy.

use http::Uri;
use vmcp_domain::ConnectFailure;
use vmcp_http_client::ConnectFault;

use crate::failure::{Failure, FailureClass};
use crate::policy::{BackendPolicy, HttpPolicy, Transport};
use crate::transport::child::program;

/// A failed attempt to connect.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) failure: Failure,
    /// The last line that the process of a stdio backend wrote.
    pub(crate) last_line: Option<String>,
}

impl From<Failure> for FailedAttempt {
    fn from(failure: Failure) -> Self {
        Self { failure, last_line: None }
    }
}

impl FailedAttempt {
    /// Explains the failure for the settings of its backend.
    pub(crate) fn explain(&self, policy: &BackendPolicy) -> ConnectFailure {
        let (cause, remedy) = match &policy.transport {
            Transport::Stdio(_) => explain_stdio(self, policy),
            Transport::StreamableHttp(http) => explain_http(&self.failure, http, policy, false),
            Transport::Sse(http) => explain_http(&self.failure, http, policy, true),
        };
        let code = code_of(self.failure.class());
        ConnectFailure { code, cause, last_line: self.last_line.clone(), remedy }
    }
}

/// The codes of all failures to connect.
pub const CONNECT_FAILURE_CODES: [&str; 15] = [
    "server-program",
    "server-ended",
    "server-timeout",
    "server-unknown-host",
    "server-not-listening",
    "server-unreachable",
    "server-certificate",
    "server-no-tls",
    "server-not-mcp",
    "server-http-status",
    "server-redirect",
    "server-login",
    "server-token",
    "server-settings",
    "server-too-large",
];

fn code_of(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Spawn => "server-program",
        FailureClass::Exited => "server-ended",
        FailureClass::Timeout | FailureClass::HealthCheck => "server-timeout",
        FailureClass::Connect(ConnectFault::UnknownHost) => "server-unknown-host",
        FailureClass::Connect(ConnectFault::Refused) => "server-not-listening",
        FailureClass::Connect(ConnectFault::Unreachable | ConnectFault::TimedOut | ConnectFault::Other) => {
            "server-unreachable"
        }
        FailureClass::Connect(ConnectFault::Certificate) => "server-certificate",
        FailureClass::Connect(ConnectFault::NoTls) => "server-no-tls",
        FailureClass::Protocol | FailureClass::WebPage => "server-not-mcp",
        FailureClass::Status => "server-http-status",
        FailureClass::Redirect => "server-redirect",
        FailureClass::Auth => "server-login",
        FailureClass::Credential => "server-token",
        FailureClass::Settings => "server-settings",
        FailureClass::TooLarge => "server-too-large",
    }
}

/// The statuses of a server that has no MCP endpoint of this transport at the path.
const PATH_STATUSES: [&str; 5] = ["400", "404", "405", "406", "415"];

/// A cause and its remedy.
type Sentence = (String, Option<String>);

fn explain_stdio(attempt: &FailedAttempt, policy: &BackendPolicy) -> Sentence {
    let failure = &attempt.failure;
    let listens_elsewhere = attempt.last_line.as_deref().is_some_and(|line| line.contains("http://"));
    let remedy = match failure.class() {
        FailureClass::Spawn => return (plain_text(failure), spawn_remedy(failure)),
        _ if listens_elsewhere => {
            "it seems to listen at an address: give it its option for stdio, or set `url` instead of `command`"
                .to_owned()
        }
        FailureClass::Exited if attempt.last_line.is_some() => {
            "if it misses variables of the environment, add them to `env` or `inheritEnv`".to_owned()
        }
        FailureClass::Exited => {
            "run its command in a terminal to see why; if it works there, add the variables that it uses to `env` or \
             `inheritEnv`"
                .to_owned()
        }
        FailureClass::Timeout => format!(
            "if it is still installing itself, {}; else check that it is an MCP server",
            timeout_remedy(policy)
        ),
        FailureClass::Protocol => "check that `command` starts an MCP server".to_owned(),
        FailureClass::Connect(_)
        | FailureClass::WebPage
        | FailureClass::Auth
        | FailureClass::Credential
        | FailureClass::Status
        | FailureClass::Redirect
        | FailureClass::TooLarge
        | FailureClass::HealthCheck
        | FailureClass::Settings => return (plain_text(failure), None),
    };
    (plain_text(failure), Some(remedy))
}

/// The remedy for a process that could not be started. `None` if the operating system refused for a reason of
/// its own.
fn spawn_remedy(failure: &Failure) -> Option<String> {
    let text = failure.to_string();
    let remedies = [
        ("`cwd`", "correct `cwd`"),
        (program::NOT_IN_PATH, "install it, or write its whole path as `command`"),
        (program::NO_FILE, "correct `command`"),
        (program::NOT_EXECUTABLE, "make it executable, or correct `command`"),
    ];
    let found = remedies.into_iter().find(|(part, _)| text.contains(part));
    found.map(|(_, remedy)| remedy.to_owned())
}

fn timeout_remedy(policy: &BackendPolicy) -> String {
    format!("`startTimeout` allows more than {} s", policy.timeouts.connect.as_secs())
}

/// The text of a failure, without what HTTP libraries write around it.
fn plain_text(failure: &Failure) -> String {
    if let Failure::Refused(error) = failure {
        return format!("it refuses the handshake with error {}: {}", error.code, error.message);
    }
    let mut text = failure.to_string();
    for prefix in
        ["client error (Connect): ", "client error (SendRequest): ", "connection error: ", "the answer: "]
    {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.to_owned();
        }
    }
    // rustls ends some texts with a link to its manual.
    text.split(": https://docs.rs/").next().unwrap_or_default().to_owned()
}

fn explain_http(failure: &Failure, http: &HttpPolicy, policy: &BackendPolicy, is_sse: bool) -> Sentence {
    let address = Address::of(&http.url);
    let (url, text) = (&address.url, plain_text(failure));
    let (cause, remedy) = match failure.class() {
        FailureClass::Connect(fault) => return explain_connect(fault, &text, &address),
        FailureClass::WebPage => {
            (format!("{url} answers with a web page, not with MCP"), address.path_remedy())
        }
        FailureClass::Status if text.starts_with('5') => {
            (format!("{url} answers {text}"), "its own log says why".to_owned())
        }
        FailureClass::Status if PATH_STATUSES.iter().any(|status| text.starts_with(status)) => {
            (format!("{url} answers {text}"), with_transport_remedy(http, is_sse, address.path_remedy()))
        }
        // Such as a request for a pause.
        FailureClass::Status => return (format!("{url}: {text}"), None),
        FailureClass::Auth if policy.auth_type() == "unauthenticated" => (
            format!("{url} wants a login: {text}"),
            "set `headers` with its token, or `outgoingAuth`".to_owned(),
        ),
        FailureClass::Auth => (
            format!("{url} refuses the configured credential: {text}"),
            "renew the credential in `headers` or `outgoingAuth`".to_owned(),
        ),
        FailureClass::Protocol => (
            format!("{url} does not answer with MCP: {text}"),
            with_transport_remedy(http, is_sse, address.path_remedy()),
        ),
        FailureClass::Exited if !address.is_tls => (
            format!("{url} breaks the connection off: {text}"),
            "if the server uses TLS, write `https://` in `url`".to_owned(),
        ),
        FailureClass::Exited => return (format!("{url} breaks the connection off: {text}"), None),
        // A redirect that would change the method says so itself, because calls can meet it too.
        FailureClass::Redirect if text.contains("`url`") => return (text, None),
        FailureClass::Redirect => (text, "write the address that it names as `url`".to_owned()),
        FailureClass::Timeout => (format!("{url}: {text}"), timeout_remedy(policy)),
        FailureClass::Credential
        | FailureClass::Spawn
        | FailureClass::TooLarge
        | FailureClass::HealthCheck
        | FailureClass::Settings => return (text, None),
    };
    (cause, Some(remedy))
}

/// The remedy if the server may speak the other transport. With `transport` unset both have been tried.
fn with_transport_remedy(http: &HttpPolicy, is_sse: bool, otherwise: String) -> String {
    if is_sse {
        format!("if it speaks streamable HTTP, write `transport: streamable-http`; else {otherwise}")
    } else if http.may_be_sse {
        otherwise
    } else {
        format!("if it speaks HTTP+SSE, write `transport: sse`; else {otherwise}")
    }
}

fn explain_connect(fault: ConnectFault, text: &str, address: &Address) -> Sentence {
    let (place, url) = (&address.authority, &address.url);
    let (cause, remedy) = match fault {
        ConnectFault::UnknownHost => (
            format!("no such host: `{}`", address.host),
            "correct the `url`, or the name service of this machine",
        ),
        ConnectFault::Refused => {
            (format!("nothing listens at {place}"), "start the server, or correct the `url`")
        }
        ConnectFault::Unreachable => {
            (format!("no route leads to {place}"), "check the network, or correct the `url`")
        }
        ConnectFault::TimedOut => {
            (format!("{place} does not answer"), "check the network and its firewalls, or correct the `url`")
        }
        ConnectFault::Certificate => (
            format!("the certificate of {place} is refused: {text}"),
            "set `caBundlePath` to the authority that signed it, or correct the host in `url`",
        ),
        ConnectFault::NoTls => (format!("{place} does not speak TLS"), "write `http://` in `url`"),
        ConnectFault::Other => return (format!("{url} cannot be connected: {text}"), None),
    };
    (cause, Some(remedy.to_owned()))
}

/// The address of a backend for people: without credentials and query, and without parts of the path that may be a
/// secret.
#[must_use]
pub fn shown_url(url: &Uri) -> String {
    Address::of(url).url
}

/// The path with `…` for each long segment: hosted servers have keys of their users there.
fn shown_path(path: &str) -> String {
    const SEGMENT_CHARS_MAX: usize = 20;
    let shown = |segment| if str::chars(segment).count() > SEGMENT_CHARS_MAX { "…" } else { segment };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// The parts of a URL that messages show: neither credentials nor the query, which may hold a secret.
struct Address {
    host: String,
    authority: String,
    url: String,
    is_tls: bool,
    path: String,
}

impl Address {
    fn of(url: &Uri) -> Self {
        let host = url.host().unwrap_or_default().to_owned();
        let is_tls = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let authority = format!("{host}:{port}");
        let written = url.port_u16().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let scheme = if is_tls { "https" } else { "http" };
        let path = shown_path(url.path());
        Self { url: format!("{scheme}://{written}{path}"), host, authority, is_tls, path }
    }

    /// Names the path at which the server most likely has its endpoint.
    fn path_remedy(&self) -> String {
        let path = self.path.trim_end_matches('/');
        if ["/mcp", "/sse"].iter().any(|usual| path.ends_with(usual)) {
            return "correct the path of `url`; the documentation of the server names it".to_owned();
        }
        let origin = self.url.strip_suffix(&self.path).unwrap_or(&self.url);
        format!("correct the path of `url`; the usual one is {origin}/mcp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_no_secret_and_name_the_usual_path() {
        let address = |url: &str| Address::of(&url.parse().unwrap());
        let with_secret = address("https://user:secret@example.com/api?key=secret");
        assert_eq!(with_secret.url, "https://example.com/api");
        assert_eq!(with_secret.authority, "example.com:443");
        let key = "https://example.com/api/s/bm90LWEtcmVhbC1rZXktMTIzNA/mcp";
        assert_eq!(address(key).url, "https://example.com/api/s/…/mcp");
        assert!(with_secret.path_remedy().ends_with("https://example.com/mcp"));
        assert!(address("http://[::1]:8000/").path_remedy().ends_with(" http://[::1]:8000/mcp"));
        assert!(!address("http://host/mcp/").path_remedy().contains("usual"));
    }
}
