//! Converts `rateLimiting.redis`: the server with the limits that replicas share.

use std::path::PathBuf;
use std::time::Duration;

use vmcp_backends::policy::Secret;
use vmcp_ratelimit::DECISION_DEADLINE;
use vmcp_ratelimit_redis::{Password, PolicyError, RedisPolicy, ServerUrl, StoreTarget, Tls};

use super::PATH;
use crate::convert::{Findings, namespace};
use crate::file::{LimitRedis, SessionStorage, StorageProvider};
use crate::settings::{RedisSettings, RedisTarget};

/// The default variable with the password, the same as in ToolHive.
const PASSWORD_ENV: &str = "THV_SESSION_REDIS_PASSWORD";
/// The default key prefix, the same as in ToolHive.
const KEY_PREFIX: &str = "thv:rl:";

/// The settings of the shared store.
pub(super) fn convert_redis(
    file: LimitRedis,
    session: Option<&SessionStorage>,
    server: &str,
    findings: &mut Findings<'_>,
) -> RedisSettings {
    let before = findings.problems.len();
    let path = format!("{PATH}.redis");
    let LimitRedis {
        url,
        cluster,
        sentinels,
        master,
        username,
        password_env,
        password_file,
        ca_bundle_path,
        key_prefix,
        deadline,
        replicas,
    } = file;
    let session = session.filter(|session| session.provider == StorageProvider::Redis);
    let (address, db) =
        (session.and_then(|session| session.address.clone()), session.and_then(|session| session.db));
    let target = match (url, cluster.is_empty(), sentinels.is_empty(), address) {
        (Some(url), true, true, _) => RedisTarget::Single { url },
        (None, false, true, _) => RedisTarget::Cluster { urls: cluster },
        (None, true, false, _) => {
            if master.is_none() {
                findings.add_problem(format!("{path}.master"), "is required with `sentinels`");
            }
            RedisTarget::Sentinel { urls: sentinels, master: master.unwrap_or_default() }
        }
        (None, true, true, Some(address)) => {
            RedisTarget::Single { url: format!("redis://{address}/{}", db.unwrap_or(0)) }
        }
        (None, true, true, None) => {
            findings.add_problem(&path, "no Redis is configured for the limits").hint = Some(
                "write `rateLimiting.redis.url` or `sessionStorage.address`, or use `store: memory`"
                    .to_owned(),
            );
            RedisTarget::Single { url: String::new() }
        }
        _ => {
            findings.add_problem(&path, "needs exactly one of `url`, `cluster` and `sentinels`");
            RedisTarget::Single { url: String::new() }
        }
    };
    if replicas == Some(0) {
        findings.add_problem(format!("{path}.replicas"), "must be at least 1");
    }
    let mut settings = RedisSettings {
        target,
        username,
        password: password(password_env, password_file, findings),
        ca_bundle: ca_bundle_path.map(PathBuf::from),
        key_prefix: key_prefix.unwrap_or_else(|| KEY_PREFIX.to_owned()),
        namespace: namespace(findings),
        deadline: deadline
            .and_then(|deadline| findings.require_positive(&format!("{path}.deadline"), deadline))
            .inspect(|deadline| check_deadline(*deadline, &path, findings))
            .unwrap_or(DECISION_DEADLINE)
            .max(Duration::from_millis(1)),
        replica_count: replicas,
        slot_lease: vmcp_ratelimit::SLOT_LEASE,
        policy: None,
    };
    if findings.problems.len() == before {
        match redis_policy(&settings, server) {
            Ok(policy) => settings.policy = Some(policy),
            Err((of_name, text)) => {
                findings.add_problem(if of_name { "name" } else { &path }, text);
            }
        }
    }
    settings
}

/// Warns about a long deadline: while the store does not answer, every limited call waits for that long.
fn check_deadline(deadline: Duration, path: &str, findings: &mut Findings<'_>) {
    if deadline > Duration::from_secs(1) {
        let message =
            "is long: while Redis does not answer, calls wait for it before `onStoreFailure` decides";
        findings.add_warning(format!("{path}.deadline"), message);
    }
}

/// The policy of the store. It is made here, so that a setting that the store refuses is reported before
/// anything is started. The first part of the error is true if the gateway's name is the problem; the second
/// is the message.
fn redis_policy(settings: &RedisSettings, server: &str) -> Result<RedisPolicy, (bool, String)> {
    let text =
        |error: PolicyError| (error == PolicyError::KeyPart("the gateway's `name`"), error.to_string());
    let parse = |urls: &[String]| urls.iter().map(|url| ServerUrl::parse(url)).collect::<Result<Vec<_>, _>>();
    let target = match &settings.target {
        RedisTarget::Single { url } => StoreTarget::Single { url: ServerUrl::parse(url).map_err(text)? },
        RedisTarget::Cluster { urls } => StoreTarget::Cluster { urls: parse(urls).map_err(text)? },
        RedisTarget::Sentinel { urls, master } => {
            StoreTarget::Sentinel { urls: parse(urls).map_err(text)?, master: master.clone() }
        }
    };
    let password = settings.password.as_ref().map(|password| Password::new(password.expose().to_owned()));
    // The namespace and the name are those of ToolHive, so that all replicas of one server use the same keys.
    let mut policy = RedisPolicy::new(target, &settings.namespace, server)
        .and_then(|policy| policy.with_key_prefix(&settings.key_prefix))
        .and_then(|policy| policy.with_deadline(settings.deadline))
        .map_err(text)?
        .with_credentials(settings.username.clone(), password);
    if let Some(path) = &settings.ca_bundle {
        let bundle = std::fs::read(path)
            .map_err(|error| (false, format!("`caBundlePath` cannot be read: {error}")))?;
        policy = Tls::new(Some(&bundle), None).and_then(|tls| policy.with_tls(tls)).map_err(text)?;
    }
    Ok(policy)
}

fn password(env: Option<String>, file: Option<String>, findings: &mut Findings<'_>) -> Option<Secret> {
    let path = format!("{PATH}.redis");
    match (env, file) {
        (Some(_), Some(_)) => {
            findings
                .add_problem(format!("{path}.passwordFile"), "cannot be used together with `passwordEnv`");
            None
        }
        (Some(name), None) => {
            let value = (findings.env)(&name);
            if value.is_none() {
                findings
                    .add_problem(format!("{path}.passwordEnv"), format!("the variable `{name}` is not set"));
            }
            value.map(Secret::new)
        }
        (None, Some(file)) => match std::fs::read_to_string(&file) {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => {
                findings.add_problem(format!("{path}.passwordFile"), format!("cannot be read: {error}"));
                None
            }
        },
        (None, None) => (findings.env)(PASSWORD_ENV).map(Secret::new),
    }
}
