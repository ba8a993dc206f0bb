//! The validated settings of the shared store: its address, the credentials, the keys, and the deadline of a
//! decision. `vmcp` builds them from the configuration, and reads files and environment variables itself.

use std::fmt;
use std::time::Duration;

use redis::{ClientTlsConfig, TlsCertificates};
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, io::tcp::TcpSettings,
};
use vmcp_ratelimit::DECISION_DEADLINE;

/// The key prefix of the reference implementation.
const KEY_PREFIX: &str = "thv:rl:";
/// The default interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The longest deadline of a decision: a slower decision is useless to the caller.
const DEADLINE_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Why settings are rejected. No message repeats a URL or a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is not the URL of a server.
    #[error("must be a URL such as redis://host:6379/0, rediss://host:6379 or unix:///path/to/socket")]
    Url,
    /// The server's certificate would not be verified.
    #[error(
        "#insecure turns off the check of the server's certificate; trust its authority with a CA bundle instead"
    )]
    Insecure,
    /// There is no URL.
    #[error("needs at least one URL")]
    NoUrls,
    /// A unix socket where the servers of a cluster or of sentinels must be found over the network.
    #[error("a unix socket reaches one server only, not a cluster and not sentinels")]
    Socket,
    /// Some URLs use TLS and some do not.
    #[error("either all URLs must be rediss:// or none")]
    MixedTls,
    /// The URLs have different users, passwords or databases.
    #[error("all URLs must carry the same user, password and database")]
    MixedCredentials,
    /// The master's name is missing, by which sentinels find it.
    #[error("needs the name the sentinels have for the master")]
    NoMaster,
    /// A database other than 0 in a cluster, which has only that one.
    #[error("a cluster has only database 0")]
    ClusterDatabase,
    /// The database number is negative.
    #[error("must be a database number, 0 or more")]
    Database,
    /// TLS settings without a TLS URL.
    #[error("TLS settings have no effect unless the URL is rediss://")]
    UnusedTls,
    /// The text is not a PEM certificate or key.
    #[error("must be PEM: certificates, and for a client of its own a certificate chain and its key")]
    Pem,
    /// The text would change which part of a key is hashed, or could make two keys equal. The field names the
    /// setting.
    #[error(
        "{0} becomes part of the keys, so it must not be empty or contain braces, white space or control characters"
    )]
    KeyPart(&'static str),
    /// A colon in the namespace: `a:b` + `c` and `a` + `b:c` would be the same key.
    #[error("must not contain a colon")]
    Colon,
    /// The duration is zero or too long; the field is the maximum.
    #[error("must be longer than zero and at most {0:?}")]
    Duration(Duration),
}

/// The URL of one server. Its user and password do not appear in logs.
#[derive(Clone)]
pub struct ServerUrl(pub(crate) ConnectionInfo);

impl ServerUrl {
    /// Parses a URL: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database if needed.
    ///
    /// # Errors
    /// [`PolicyError::Url`] when it is none of these, [`PolicyError::Insecure`] when it turns off the
    /// certificate check, and [`PolicyError::Database`] when its database number is negative.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let info = text.into_connection_info().map_err(|_| PolicyError::Url)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(PolicyError::Insecure);
        }
        if info.redis_settings().db() < 0 {
            return Err(PolicyError::Database);
        }
        Ok(Self(info))
    }

    fn is_tls(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }

    fn is_socket(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::Unix(_))
    }

    fn credentials(&self) -> (Option<&str>, Option<&str>, i64) {
        let settings = self.0.redis_settings();
        (settings.username(), settings.password(), settings.db())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.addr())
    }
}

/// The location of the store.
#[derive(Clone, Debug)]
pub enum StoreTarget {
    /// One server.
    Single {
        /// The URL of the server.
        url: ServerUrl,
    },
    /// A cluster.
    Cluster {
        /// Some servers of the cluster; the others are discovered through them.
        urls: Vec<ServerUrl>,
    },
    /// The master that sentinels report. A user and password in a URL are those of the sentinels.
    Sentinel {
        /// The URLs of the sentinels.
        urls: Vec<ServerUrl>,
        /// The name that the sentinels have for the master.
        master: String,
    },
}

impl StoreTarget {
    fn urls(&self) -> &[ServerUrl] {
        match self {
            Self::Single { url } => std::slice::from_ref(url),
            Self::Cluster { urls } | Self::Sentinel { urls, .. } => urls,
        }
    }

    fn check(&self) -> Result<(), PolicyError> {
        let [first, rest @ ..] = self.urls() else { return Err(PolicyError::NoUrls) };
        if !matches!(self, Self::Single { .. }) && self.urls().iter().any(ServerUrl::is_socket) {
            return Err(PolicyError::Socket);
        }
        if rest.iter().any(|url| url.is_tls() != first.is_tls()) {
            return Err(PolicyError::MixedTls);
        }
        if rest.iter().any(|url| url.credentials() != first.credentials()) {
            return Err(PolicyError::MixedCredentials);
        }
        match self {
            Self::Cluster { .. } if first.credentials().2 != 0 => Err(PolicyError::ClusterDatabase),
            Self::Sentinel { master, .. } if master.is_empty() => Err(PolicyError::NoMaster),
            Self::Single { .. } | Self::Cluster { .. } | Self::Sentinel { .. } => Ok(()),
        }
    }
}

/// A password, which does not appear in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The trusted authorities and the client identity of a TLS connection.
#[derive(Clone, Debug)]
pub struct Tls(pub(crate) TlsCertificates);

impl Tls {
    /// Takes PEM text: the authorities trusted instead of the system's, and the client's certificate chain
    /// and key.
    ///
    /// # Errors
    /// [`PolicyError::Pem`] when one of them cannot be parsed.
    pub fn new(ca_bundle: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<Self, PolicyError> {
        let certificates = TlsCertificates {
            client_tls: identity.map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.to_vec(),
                client_key: key.to_vec(),
            }),
            root_cert: ca_bundle.map(<[u8]>::to_vec),
        };
        // Building a client parses the PEM text; it does not connect.
        let client = redis::Client::build_with_tls("rediss://localhost", certificates.clone());
        let holds = |text: &[u8]| text.windows(10).any(|part| part == b"-----BEGIN");
        if client.is_err() || ca_bundle.is_some_and(|text| !holds(text)) {
            return Err(PolicyError::Pem);
        }
        Ok(Self(certificates))
    }
}

/// The settings of the store.
#[derive(Clone, Debug)]
pub struct RedisPolicy {
    target: StoreTarget,
    username: Option<String>,
    password: Option<Password>,
    tls: Option<Tls>,
    db: Option<u32>,
    key_prefix: String,
    namespace: String,
    server: String,
    deadline: Duration,
    heartbeat: Duration,
}

impl RedisPolicy {
    /// The store at `target`, with the keys of one gateway: all its replicas use the same `namespace` and
    /// `server`.
    ///
    /// # Errors
    /// The errors of an invalid target; [`PolicyError::KeyPart`] or [`PolicyError::Colon`] for an invalid
    /// name.
    pub fn new(target: StoreTarget, namespace: &str, server: &str) -> Result<Self, PolicyError> {
        target.check()?;
        let namespace = checked_key_part("the namespace", namespace)?;
        if namespace.contains(':') {
            return Err(PolicyError::Colon);
        }
        Ok(Self {
            target,
            username: None,
            password: None,
            tls: None,
            db: None,
            key_prefix: KEY_PREFIX.to_owned(),
            namespace,
            server: checked_key_part("the gateway's `name`", server)?,
            deadline: DECISION_DEADLINE,
            heartbeat: HEARTBEAT,
        })
    }

    /// Logs in as this user, or with this password alone, whatever the URL says.
    #[must_use]
    pub fn with_credentials(self, username: Option<String>, password: Option<Password>) -> Self {
        Self { username, password, ..self }
    }

    /// Trusts these authorities and presents this identity.
    ///
    /// # Errors
    /// [`PolicyError::UnusedTls`] when the URLs are not `rediss://`.
    pub fn with_tls(self, tls: Tls) -> Result<Self, PolicyError> {
        if !self.is_tls() {
            return Err(PolicyError::UnusedTls);
        }
        Ok(Self { tls: Some(tls), ..self })
    }

    /// Uses this database, whatever the URL says.
    ///
    /// # Errors
    /// [`PolicyError::ClusterDatabase`] for a database of a cluster other than 0.
    pub fn with_db(self, db: u32) -> Result<Self, PolicyError> {
        if db != 0 && matches!(self.target, StoreTarget::Cluster { .. }) {
            return Err(PolicyError::ClusterDatabase);
        }
        Ok(Self { db: Some(db), ..self })
    }

    /// Begins keys with this prefix instead of `thv:rl:`.
    ///
    /// # Errors
    /// [`PolicyError::KeyPart`] when it contains what a part of a key must not.
    pub fn with_key_prefix(self, prefix: &str) -> Result<Self, PolicyError> {
        Ok(Self { key_prefix: checked_key_part("the key prefix", prefix)?, ..self })
    }

    /// Sets the deadline of each decision; the default is [`DECISION_DEADLINE`], 50 milliseconds.
    ///
    /// # Errors
    /// [`PolicyError::Duration`] when it is zero or more than ten seconds.
    pub fn with_deadline(self, deadline: Duration) -> Result<Self, PolicyError> {
        Ok(Self { deadline: checked_duration(deadline, DEADLINE_MAX)?, ..self })
    }

    /// Sets the interval of heartbeats; the default is one second. A replica that sends none for ten times
    /// this interval is no longer counted.
    ///
    /// # Errors
    /// [`PolicyError::Duration`] when it is zero or more than a minute.
    pub fn with_heartbeat(self, heartbeat: Duration) -> Result<Self, PolicyError> {
        Ok(Self { heartbeat: checked_duration(heartbeat, HEARTBEAT_MAX)?, ..self })
    }

    /// The deadline of one decision.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The interval of heartbeats.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// The prefix of every key. The part in braces is the hash tag: all keys with the same tag are in one
    /// hash slot. The scripts add the partition, if there is one, to the tag and append a key version such as
    /// `3:`. The reference's buckets have no such segment, so their keys are never equal to keys of this
    /// store.
    #[must_use]
    pub fn full_key_prefix(&self) -> String {
        format!("{}{{{}:{}}}:", self.key_prefix, self.namespace, self.server)
    }

    pub(crate) fn target(&self) -> &StoreTarget {
        &self.target
    }

    pub(crate) fn tls(&self) -> Option<&TlsCertificates> {
        self.tls.as_ref().map(|tls| &tls.0)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.target.urls().iter().any(ServerUrl::is_tls)
    }

    /// The connection settings of the servers themselves, with the credentials.
    pub(crate) fn servers(&self) -> Vec<ConnectionInfo> {
        let own = |url: &ServerUrl| {
            let settings = self.apply_credentials(url.0.redis_settings().clone());
            url.0.clone().set_redis_settings(settings).set_tcp_settings(tcp_settings())
        };
        self.target.urls().iter().map(own).collect()
    }

    /// Sets the credentials for the servers that hold the buckets.
    pub(crate) fn apply_credentials(&self, mut settings: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(Password(password)) = &self.password {
            settings = settings.set_password(password);
        }
        match self.db {
            Some(db) => settings.set_db(i64::from(db)),
            None => settings,
        }
    }
}

/// Sends small messages at once (`TCP_NODELAY`): a decision is one small message each way.
pub(crate) fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn checked_key_part(what: &'static str, text: &str) -> Result<String, PolicyError> {
    let forbidden = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(forbidden) {
        return Err(PolicyError::KeyPart(what));
    }
    Ok(text.to_owned())
}

fn checked_duration(duration: Duration, longest: Duration) -> Result<Duration, PolicyError> {
    if duration.is_zero() || duration > longest {
        return Err(PolicyError::Duration(longest));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests;
