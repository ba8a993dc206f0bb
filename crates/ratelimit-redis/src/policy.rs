//! The validated settings of the shared store: where it is, who we are to it, under which keys, and how long a
//! decision may take. Built by `vmcp` from the config file; files and variables are read there.

use std::fmt;
use std::time::Duration;

use redis::{ClientTlsConfig, TlsCertificates};
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, io::tcp::TcpSettings,
};
use vmcp_ratelimit::DECISION_DEADLINE;

/// The reference's prefix.
const KEY_PREFIX: &str = "thv:rl:";
/// How often a replica says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A decision that takes longer than this helps nobody.
const DEADLINE_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Why settings are refused. No message repeats a URL or a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the URL of a server.
    #[error("must be a URL such as redis://host:6379/0, rediss://host:6379 or unix:///path/to/socket")]
    Url,
    /// The certificate would not be checked.
    #[error(
        "#insecure turns off the check of the server's certificate; trust its authority with a CA bundle instead"
    )]
    Insecure,
    /// Nobody to ask.
    #[error("needs at least one URL")]
    NoUrls,
    /// Servers of a cluster and sentinels are found over the network.
    #[error("a unix socket reaches one server only, not a cluster and not sentinels")]
    Socket,
    /// Some servers with TLS and some without.
    #[error("either all URLs must be rediss:// or none")]
    MixedTls,
    /// URLs that name different users or passwords.
    #[error("all URLs must carry the same user, password and database")]
    MixedCredentials,
    /// Sentinels know masters by name.
    #[error("needs the name the sentinels have for the master")]
    NoMaster,
    /// A cluster has one database.
    #[error("a cluster has only database 0")]
    ClusterDatabase,
    /// Not a database.
    #[error("must be a database number, 0 or more")]
    Database,
    /// TLS settings without TLS.
    #[error("TLS settings have no effect unless the URL is rediss://")]
    UnusedTls,
    /// Not a certificate or key.
    #[error("must be PEM: certificates, and for a client of its own a certificate chain and its key")]
    Pem,
    /// It would change which part of a key is hashed, or run into its neighbour.
    #[error(
        "{0} becomes part of the keys, so it must not be empty or contain braces, white space or control characters"
    )]
    KeyPart(&'static str),
    /// `a:b` + `c` and `a` + `b:c` would be one.
    #[error("must not contain a colon")]
    Colon,
    /// No time at all, or too much.
    #[error("must be longer than zero and at most {0:?}")]
    Duration(Duration),
}

/// The URL of one server. Its user and password are kept out of logs.
#[derive(Clone)]
pub struct ServerUrl(pub(crate) ConnectionInfo);

impl ServerUrl {
    /// Reads a URL: `redis://`, `rediss://` (TLS), `unix://`, each with user, password and database if needed.
    ///
    /// # Errors
    /// When it is none of these.
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

/// Where the store is.
#[derive(Clone, Debug)]
pub enum StoreTarget {
    /// One server.
    Single {
        /// Its URL.
        url: ServerUrl,
    },
    /// A cluster.
    Cluster {
        /// Some of its servers; the others are found through them.
        urls: Vec<ServerUrl>,
    },
    /// The master that sentinels point to. A user and password in a URL are the sentinels' own.
    Sentinel {
        /// The sentinels.
        urls: Vec<ServerUrl>,
        /// The name they have for the master.
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

/// A password, kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password.
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

/// Whom a TLS connection trusts and who we are on it.
#[derive(Clone, Debug)]
pub struct Tls(pub(crate) TlsCertificates);

impl Tls {
    /// Takes PEM text: the authorities trusted in place of the system's, and our own certificate chain and key.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn new(ca_bundle: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<Self, PolicyError> {
        let certificates = TlsCertificates {
            client_tls: identity.map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.to_vec(),
                client_key: key.to_vec(),
            }),
            root_cert: ca_bundle.map(<[u8]>::to_vec),
        };
        // Building a client reads the PEM text; it connects to nothing.
        let client = redis::Client::build_with_tls("rediss://localhost", certificates.clone());
        let holds = |text: &[u8]| text.windows(10).any(|part| part == b"-----BEGIN");
        if client.is_err() || ca_bundle.is_some_and(|text| !holds(text)) {
            return Err(PolicyError::Pem);
        }
        Ok(Self(certificates))
    }
}

/// Everything the store needs to know.
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
    /// The store at `target`, with the keys of one gateway: all replicas of it name the same `namespace` and `server`.
    ///
    /// # Errors
    /// When the target or a name is impossible.
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

    /// Trusts these authorities and shows this identity.
    ///
    /// # Errors
    /// When the URLs are not `rediss://`.
    pub fn with_tls(self, tls: Tls) -> Result<Self, PolicyError> {
        if !self.is_tls() {
            return Err(PolicyError::UnusedTls);
        }
        Ok(Self { tls: Some(tls), ..self })
    }

    /// Uses this database, whatever the URL says.
    ///
    /// # Errors
    /// When a cluster is asked for another than 0.
    pub fn with_db(self, db: u32) -> Result<Self, PolicyError> {
        if db != 0 && matches!(self.target, StoreTarget::Cluster { .. }) {
            return Err(PolicyError::ClusterDatabase);
        }
        Ok(Self { db: Some(db), ..self })
    }

    /// Begins keys with this instead of `thv:rl:`.
    ///
    /// # Errors
    /// When it contains what a key part must not.
    pub fn with_key_prefix(self, prefix: &str) -> Result<Self, PolicyError> {
        Ok(Self { key_prefix: checked_key_part("the key prefix", prefix)?, ..self })
    }

    /// Gives each decision this long instead of 50 milliseconds.
    ///
    /// # Errors
    /// When it is zero or more than ten seconds.
    pub fn with_deadline(self, deadline: Duration) -> Result<Self, PolicyError> {
        Ok(Self { deadline: checked_duration(deadline, DEADLINE_MAX)?, ..self })
    }

    /// Says this often that the replica lives, instead of every two seconds. After five times this long without a
    /// sign, a replica is no longer counted.
    ///
    /// # Errors
    /// When it is zero or more than a minute.
    pub fn with_heartbeat(self, heartbeat: Duration) -> Result<Self, PolicyError> {
        Ok(Self { heartbeat: checked_duration(heartbeat, HEARTBEAT_MAX)?, ..self })
    }

    /// How long one decision may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How often the replica says that it lives.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// What every key begins with. The part in braces is the hash tag: all buckets of a call are in one slot. The `2`
    /// is the version of the values; the reference's buckets have no such segment and are never taken for ours.
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

    /// The URLs of the servers themselves, with who we are to them.
    pub(crate) fn servers(&self) -> Vec<ConnectionInfo> {
        let own = |url: &ServerUrl| {
            let settings = self.apply_credentials(url.0.redis_settings().clone());
            url.0.clone().set_redis_settings(settings).set_tcp_settings(tcp_settings())
        };
        self.target.urls().iter().map(own).collect()
    }

    /// Who we are to the servers that hold the buckets.
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

/// Small messages at once: a decision is one small message each way.
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
