//! The output of `vmcp config show`: the effective settings without secrets. It is written from [`Settings`],
//! not from the file, so that defaults and flags are visible, too.

mod audit;
mod isolation;
mod limits;
mod optimizer;

use std::time::Duration;

use http::Uri;
use serde_json::{Map, Value, json};
use vmcp_backends::policy::{BackendPolicy, HttpPolicy, Secret, StdioPolicy, Transport};
use vmcp_domain::{Challenge, ToolOverride};
use vmcp_edge::policy::{EdgePolicy, IncomingAuth};
use vmcp_federation::policy::{
    AggregationPolicy, BreakerPolicy, ConflictPolicy, HealthPolicy, ToolPolicy, Visibility,
};
use vmcp_identity::BearerPolicy;

use super::convert::UNSUPPORTED;
use super::duration::format;
use super::settings::Settings;

/// The text that replaces a secret.
const REDACTED: &str = "[redacted]";

/// The effective settings as YAML.
///
/// # Errors
/// If a text cannot be written as YAML.
pub fn effective_yaml(settings: &Settings) -> Result<String, serde_saphyr::SerializeError> {
    to_yaml(&effective_settings(settings))
}

/// `value` as YAML with a line break at the end.
pub(super) fn to_yaml(value: &Value) -> Result<String, serde_saphyr::SerializeError> {
    let mut yaml = serde_saphyr::to_string(value)?;
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    Ok(yaml)
}

/// The effective settings as JSON with a line break at the end.
pub fn effective_json(settings: &Settings) -> String {
    format!("{:#}\n", effective_settings(settings))
}

fn effective_settings(settings: &Settings) -> Value {
    let Settings {
        name,
        group,
        aggregation,
        backends,
        process_count_max: _,
        edge,
        admin,
        health,
        authz,
        limits: quotas,
        loop_breaker: loops,
        optimizer,
        audit,
        // The namespace comes from the environment, so it is no setting of the file.
        namespace: _,
        log_level,
        warnings: _,
    } = settings;
    let unsupported = UNSUPPORTED.iter().map(|row| (row.path.to_owned(), Value::from("not in this build")));
    json!({
        "name": name,
        "groupRef": group,
        "listen": show_listen(edge),
        "admin": json!({
            "listen": admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            "scrapeKey": edge.scrape_key.as_ref().map(|_| REDACTED),
            "metricsAreOpen": admin.is_metrics_public,
        }),
        "stateFolder": admin.state_folder.as_ref().map(|folder| folder.to_string_lossy().into_owned()),
        "incomingAuth": show_incoming(&edge.incoming),
        "authz": authz.as_ref().map(|policy| json!({"policies": policy.policy_count()})),
        "passthroughHeaders": edge.passthrough_headers,
        "limits": show_bounds(edge),
        "rateLimiting": limits::show(quotas.as_ref(), edge),
        "loopBreaker": loops.as_ref().map(|policy| json!({
            "repeats": policy.repeats,
            "within": format(policy.within),
            "tools": policy.tools.as_ref().map(|tools| {
                tools.iter().map(|pattern| Value::from(pattern.as_str())).collect::<Value>()
            }),
        })),
        "optimizer": optimizer::show(optimizer.as_ref()),
        "audit": audit::show(audit.as_ref()),
        "backends": backends.iter().map(show_backend).collect::<Value>(),
        "isolation": isolation::show(settings),
        "aggregation": show_aggregation(aggregation),
        "health": show_health(health),
        "logLevel": log_level.as_str(),
        "features": unsupported.collect::<Map<_, _>>(),
    })
}

fn show_listen(edge: &EdgePolicy<BearerPolicy>) -> Value {
    json!({
        "host": edge.listen.ip().to_string(),
        "port": edge.listen.port(),
        "path": edge.path,
        "allowedOrigins": edge.allowed_origins,
        "allowedHosts": edge.allowed_hosts,
        "trustedProxies": edge.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn show_incoming(auth: &IncomingAuth<BearerPolicy>) -> Value {
    match auth {
        IncomingAuth::Anonymous => json!({"type": "anonymous"}),
        IncomingAuth::Local(identity) => json!({"type": "local", "user": identity.subject}),
        IncomingAuth::Bearer(authenticator) => {
            let Challenge { realm, scopes, resource } = authenticator.challenge();
            json!({
                "type": "bearer",
                "realm": realm,
                "scopes": scopes,
                "resource": resource.as_ref().map(|resource| &resource.resource),
            })
        }
    }
}

fn show_bounds(edge: &EdgePolicy<BearerPolicy>) -> Value {
    let limits = &edge.limits;
    json!({
        "bodyBytesMax": limits.body_bytes_max,
        "headBytesMax": limits.head_bytes_max,
        "headTimeout": format(limits.head_timeout),
        "bodyTimeout": format(limits.body_timeout),
        "pageItemsMax": limits.page_items_max,
        "writeTimeout": format(limits.write_stall_max),
        "sessionCountMax": limits.session_count_max,
        "sessionsPerCallerMax": limits.sessions_per_caller_max,
        "sessionIdleMax": format(limits.session_idle_max),
        "requestCountMax": limits.request_count_max,
        "requestsPerCallerMax": limits.requests_per_caller_max,
        "connectionsPerAddressMax": limits.connections_per_address_max,
        "answerBytesMax": limits.answer_bytes_max,
        "answerBytesPerCallerMax": limits.answer_bytes_per_caller_max,
        "keepAlive": format(limits.keep_alive),
        "shutdownGrace": format(limits.shutdown_grace),
    })
}

fn show_backend(backend: &BackendPolicy) -> Value {
    let BackendPolicy { id, transport, timeouts, headers, isolation, caller_bounds: _, credentials } =
        backend;
    let mut out = Map::new();
    out.insert("name".to_owned(), id.as_str().into());
    out.insert("transport".to_owned(), transport.as_str().into());
    match transport {
        Transport::Stdio(stdio) => show_stdio(stdio, &mut out),
        Transport::StreamableHttp(http) | Transport::Sse(http) => show_http(http, headers, &mut out),
    }
    if let Some(credentials) = credentials {
        out.insert("outgoingAuth".to_owned(), format!("{credentials:?}").into());
    }
    out.insert("isolation".to_owned(), isolation.as_str().into());
    out.insert("connectTimeout".to_owned(), format(timeouts.connect).into());
    out.insert("timeout".to_owned(), format(timeouts.call).into());
    Value::Object(out)
}

fn show_stdio(stdio: &StdioPolicy, out: &mut Map<String, Value>) {
    let StdioPolicy { command, args, env, inherit_env, cwd } = stdio;
    let env = env.keys().map(|name| (name.as_str(), ())).collect::<Vec<_>>();
    out.insert("command".to_owned(), command.as_str().into());
    out.insert("args".to_owned(), redact_args(args));
    out.insert("env".to_owned(), redact(env));
    out.insert("inheritEnv".to_owned(), json!(inherit_env));
    if let Some(cwd) = cwd {
        out.insert("cwd".to_owned(), cwd.to_string_lossy().into());
    }
}

fn show_http(http: &HttpPolicy, headers: &[(String, Secret)], out: &mut Map<String, Value>) {
    let HttpPolicy { url, ca_bundle, may_be_sse: _ } = http;
    out.insert("url".to_owned(), redact_url(url).into());
    if let Some(file) = ca_bundle {
        out.insert("caBundlePath".to_owned(), file.to_string_lossy().into());
    }
    out.insert("headers".to_owned(), redact(headers.iter().map(|(name, _)| (name.as_str(), ()))));
}

fn redact<'a>(names: impl IntoIterator<Item = (&'a str, ())>) -> Value {
    let redacted = names.into_iter().map(|(name, ())| (name.to_owned(), REDACTED.into()));
    Value::Object(redacted.collect())
}

/// The arguments, without the values of flags such as `--api-key`.
fn redact_args(args: &[String]) -> Value {
    let mut secret_follows = false;
    let shown = args.iter().map(|arg| {
        let hidden = std::mem::take(&mut secret_follows) && !arg.starts_with("--");
        match arg.split_once('=') {
            _ if hidden => REDACTED.to_owned(),
            Some((flag, value)) if flag.starts_with('-') => match is_secret_flag(flag) {
                true => format!("{flag}={REDACTED}"),
                false => format!("{flag}={}", redact_text(value)),
            },
            None if arg.starts_with('-') && is_secret_flag(arg) => {
                secret_follows = true;
                arg.clone()
            }
            _ => redact_text(arg),
        }
    });
    shown.collect()
}

fn is_secret_flag(flag: &str) -> bool {
    let flag = flag.to_ascii_lowercase();
    let words = ["token", "secret", "password", "passwd", "key", "credential", "auth", "header"];
    words.iter().any(|word| flag.contains(word))
}

/// The argument without secrets: a URL loses its secret parts, and a text that may be a key is replaced as a
/// whole.
fn redact_text(arg: &str) -> String {
    match arg.parse::<Uri>() {
        Ok(url) if url.scheme().is_some() => redact_url(&url),
        _ if looks_like_secret(arg) => REDACTED.to_owned(),
        _ => arg.to_owned(),
    }
}

/// The longest run of letters and digits that is not taken for a secret, in bytes.
const PLAIN_WORD_LENGTH_MAX: usize = 19;

/// True if a part of the text could be a key: it is too long for a word, and has letters and digits. It hides
/// too much rather than too little, because the full text is still in the file.
fn looks_like_secret(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_+.=".contains(c)).any(|run| {
        run.len() > PLAIN_WORD_LENGTH_MAX
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// The URL without user, password and query, and without path segments that look like keys, as hosted servers
/// have them.
fn redact_url(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let (before, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{REDACTED}@"), host),
        None => (String::new(), authority),
    };
    let after = if url.query().is_some() { format!("?{REDACTED}") } else { String::new() };
    let segments = url.path().split('/').map(|part| if looks_like_secret(part) { REDACTED } else { part });
    let path = segments.collect::<Vec<_>>().join("/");
    format!("{scheme}://{before}{host}{path}{after}")
}

fn show_aggregation(policy: &AggregationPolicy) -> Value {
    let AggregationPolicy { conflicts, default_visibility, exclude_all_tools, backends } = policy;
    let (strategy, format, order) = match conflicts {
        ConflictPolicy::Prefix { format } => ("prefix", Some(format), None),
        ConflictPolicy::Priority { order, format } => ("priority", Some(format), Some(order)),
        ConflictPolicy::Manual => ("manual", None, None),
        ConflictPolicy::Auto { format } => ("auto", Some(format), None),
    };
    let mut details = Map::new();
    if let Some(format) = format {
        details.insert("prefixFormat".to_owned(), format.to_string().into());
    }
    if let Some(order) = order {
        details.insert("priorityOrder".to_owned(), order.iter().map(|id| id.as_str()).collect());
    }
    json!({
        "conflictResolution": strategy,
        "conflictResolutionConfig": details,
        "defaultToolVisibility": match default_visibility {
            Visibility::Show => "allow",
            Visibility::Hide => "deny",
        },
        "excludeAllTools": exclude_all_tools,
        "tools": backends.iter().map(|(id, policy)| show_tools(id.as_str(), policy)).collect::<Value>(),
    })
}

fn show_tools(backend: &str, policy: &ToolPolicy) -> Value {
    let ToolPolicy { exclude_all, filter, renames, overrides } = policy;
    let mut changes: Map<String, Value> = Map::new();
    for (tool, name) in renames {
        changes.insert(tool.as_str().to_owned(), json!({"name": name.as_str()}));
    }
    for (tool, change) in overrides {
        let entry = changes.entry(tool.as_str()).or_insert_with(|| json!({}));
        let ToolOverride { description, annotations } = change;
        if let Some(description) = description {
            entry["description"] = description.as_str().into();
        }
        if let Some(hints) = annotations {
            entry["annotations"] = json!({
                "title": hints.title,
                "readOnlyHint": hints.read_only,
                "destructiveHint": hints.destructive,
                "idempotentHint": hints.idempotent,
                "openWorldHint": hints.open_world,
            });
        }
    }
    json!({
        "workload": backend,
        "excludeAll": exclude_all,
        "filter": filter.as_ref().map(|names| names.iter().map(|name| name.as_str()).collect::<Value>()),
        "overrides": changes,
    })
}

fn show_health(health: &HealthPolicy) -> Value {
    let HealthPolicy { interval, timeout, unhealthy_threshold, breaker } = *health;
    let duration = |duration: Duration| Value::from(format(duration));
    json!({
        "interval": duration(interval),
        "timeout": duration(timeout),
        "unhealthyThreshold": unhealthy_threshold,
        "circuitBreaker": breaker.map_or_else(|| "off".into(), |breaker| {
            let BreakerPolicy { failure_threshold, timeout } = breaker;
            json!({"failureThreshold": failure_threshold, "timeout": duration(timeout)})
        }),
    })
}
