//! The environment of the benches: the backends, the gateways and the other servers that are measured. All
//! run on this machine and end when the bench ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::identity::{Format, IdentityProvider};
use vmcp_e2e::process::Process;
use vmcp_e2e::redis::Redis;

use super::cargo;
use super::nginx::Nginx;
use crate::bench::request::{ProtocolFamily, Request, Target};
use crate::target;

/// The programs that are measured, built in release mode.
pub(crate) struct Programs {
    pub(crate) vmcp: PathBuf,
    pub(crate) fixture: PathBuf,
    /// The binary of `cargo xtask release`, measured in addition.
    pub(crate) released: Option<PathBuf>,
}

/// The arguments of cargo that build the measured programs. They include this program, so that everything is
/// compiled with one set of features and nothing is compiled twice.
pub(crate) const BUILD: [&str; 9] =
    ["build", "--quiet", "--release", "-p", "vmcp-gateway", "-p", "vmcp-fixtures", "-p", "xtask"];

impl Programs {
    /// Builds the programs. `VMCP_BIN` names another gateway to measure.
    pub(crate) fn build() -> anyhow::Result<Self> {
        cargo(&BUILD)?;
        let folder = target()?.join("release");
        let vmcp = std::env::var_os("VMCP_BIN").map_or_else(|| folder.join("vmcp"), PathBuf::from);
        Ok(Self { vmcp, fixture: folder.join("vmcp-fixture"), released: None })
    }

    /// Starts a gateway with this configuration.
    pub(crate) fn gateway(&self, config: &str) -> anyhow::Result<Gateway> {
        Gateway::start_binary(&self.vmcp, config)
    }
}

/// A running fast backend.
pub(crate) struct BenchServer {
    _process: Process,
    /// Host and port.
    pub(crate) address: String,
}

impl BenchServer {
    /// Starts a fast backend with `tools` tools.
    pub(crate) fn start(programs: &Programs, tools: usize, protocol: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(&programs.fixture);
        command.args(["fast", "--tools", &tools.to_string(), "--protocol", protocol]);
        let mut process = Process::start(&mut command)?;
        let address = authority(&process.wait_for_url()?)?;
        Ok(Self { _process: process, address })
    }

    /// Returns this server as `count` backends of a gateway. It answers on any path.
    pub(crate) fn backends(&self, count: usize) -> Vec<Backend> {
        let url = |number| format!("http://{}/{number}/mcp", self.address);
        (0..count).map(|number| Backend::http(format!("b{number}"), url(number))).collect()
    }
}

/// Returns host and port of a URL.
pub(crate) fn authority(url: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http URL"))?;
    Ok(rest.split('/').next().unwrap_or_default().to_owned())
}

/// One route to a tool: direct, through nginx, or through a gateway.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    /// The tool is called through `call_tool`.
    uses_call_tool: bool,
    gateway: Option<Gateway>,
}

impl Route {
    /// Builds a call on this route.
    pub(crate) fn call(&self, tool: &str, length_min: usize) -> Request {
        let call = if self.uses_call_tool { Request::call_through } else { Request::call };
        call(tool, "gateway", length_min)
    }

    /// Shuts the gateway of the route down cleanly, if it has one.
    pub(crate) fn shut_down(self) -> anyhow::Result<()> {
        self.gateway.map_or(Ok(()), |mut gateway| gateway.process.terminate().map(drop))
    }
}

/// All servers that calls are measured on.
pub(crate) struct BenchEnv {
    pub(crate) routes: Vec<Route>,
    _backend: BenchServer,
    _nginx: Nginx,
    _redis: Redis,
    _provider: IdentityProvider,
}

/// Name of the route that all others are compared with.
pub(crate) const DIRECT: &str = "direct";
/// Name of the route through nginx.
pub(crate) const NGINX: &str = "nginx";
/// The gateway with federation and no other layer configured.
pub(crate) const BARE: &str = "vmcp";
/// The gateway in the most common configuration.
pub(crate) const LIMITED: &str = "vmcp, four limits in memory";

/// The same gateway, as `cargo xtask release` builds it.
pub(crate) const RELEASED: &str = "vmcp as released, four limits in memory";

/// The audience and resource of the bench's tokens.
const RESOURCE: &str = "http://127.0.0.1:4483/mcp";
/// A limit high enough that no call is refused.
const LIMIT: &str = "{maxTokens: 1000000, refillPeriod: 1s}";

impl BenchEnv {
    /// Starts all servers.
    pub(crate) fn start(programs: &Programs, folder: &Path) -> anyhow::Result<Self> {
        let backend = BenchServer::start(programs, 6, "both")?;
        let nginx = Nginx::start(&backend.address, folder)?;
        let redis = Redis::start()?;
        let provider = IdentityProvider::start()?;
        let token = provider.user_token(Format::Signed, "ada", RESOURCE)?.to_string();
        let backends = backend.backends(1);
        let local = |more: &str| {
            config(NamePolicy::Unchanged, &backends, more)
                .replace("incomingAuth: {type: anonymous}", "incomingAuth: {type: local}")
        };
        let shared = |url: &str, consistency: &str| {
            format!(
                "  store: redis\n  consistency: {consistency}\n  redis: {{url: \"{url}\", deadline: 2s, replicas: 1}}\n"
            )
        };
        let four = four_limits();
        let two =
            format!("rateLimiting:\n  shared: {LIMIT}\n  tools: [{{name: json_200, shared: {LIMIT}}}]\n");
        let configs = [
            (BARE, local(""), false),
            (LIMITED, local(&four), false),
            ("vmcp, four limits in Redis", local(&format!("{four}{}", shared(&redis.url(), "exact"))), false),
            (
                "vmcp, two limits in Redis, leased",
                local(&format!("{two}{}", shared(&redis.url(), "lease"))),
                false,
            ),
            (
                "vmcp, four limits, token, policies",
                config(NamePolicy::Unchanged, &backends, &four)
                    .replace("incomingAuth: {type: anonymous}\n", &policies(&provider.issuer)),
                true,
            ),
            (BY_CALL_TOOL, local("optimizer: {embeddingProvider: none}\n"), false),
        ];
        let mut routes = vec![Route::direct(DIRECT, &backend.address), Route::direct(NGINX, nginx.address())];
        for (name, config, sends_token) in configs {
            let gateway = programs.gateway(&config).with_context(|| name)?;
            let mut route = Route::direct(name, &authority(&gateway.url)?);
            route.target.token = sends_token.then(|| token.clone());
            route.uses_call_tool = name == BY_CALL_TOOL;
            route.gateway = Some(gateway);
            routes.push(route);
        }
        if let Some(released) = &programs.released {
            let gateway = Gateway::start_binary(released, &local(&four))?;
            let mut route = Route::direct(RELEASED, &authority(&gateway.url)?);
            route.gateway = Some(gateway);
            routes.push(route);
        }
        Ok(Self { routes, _backend: backend, _nginx: nginx, _redis: redis, _provider: provider })
    }
}

/// The gateway whose tools are called through `call_tool`.
const BY_CALL_TOOL: &str = "vmcp, by `call_tool`";

impl Route {
    fn direct(name: &'static str, address: &str) -> Self {
        let target = Target::new(address, ProtocolFamily::Stateless);
        Self { name, target, uses_call_tool: false, gateway: None }
    }
}

/// Rate limits on the server, each tool, each user, and each user with each tool.
pub(crate) fn four_limits() -> String {
    let tool = |name: &str| format!("{{name: {name}, shared: {LIMIT}, perUser: {LIMIT}}}");
    let tools: Vec<String> =
        ["json_200", "json_10k", "json_1m", "sse_200", "sse_10k", "sse_1m"].map(tool).into();
    format!("rateLimiting:\n  shared: {LIMIT}\n  perUser: {LIMIT}\n  tools: [{}]\n", tools.join(", "))
}

/// A caller with a signed token, and 101 policies, one of which permits the call.
fn policies(issuer: &str) -> String {
    let mut text = format!(
        "incomingAuth:\n  type: oidc\n  oidc: {{issuer: \"{issuer}\", audience: \"{RESOURCE}\", scopes: [mcp], \
         protectedResourceAllowPrivateIp: true}}\n  authz:\n    type: cedar\n    policies:\n"
    );
    for number in 0..100 {
        text += &format!(
            "      - 'permit(principal, action == Action::\"call_tool\", resource == Tool::\"other_{number}\") when {{ \
             principal.claim_sub == \"ada\" }};'\n"
        );
    }
    text += "      - 'permit(principal, action == Action::\"call_tool\", resource) when { principal.claim_sub == \"ada\" };'\n";
    text
}
