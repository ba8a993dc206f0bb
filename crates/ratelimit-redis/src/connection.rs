//! The connection to the server, the cluster or the master of the sentinels, and the meaning of its errors.
//! Retries inside the client library are kept short or off, because a decision has its own deadline.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, TlsMode,
};
use redis::{RedisResult, Value};
use vmcp_ratelimit::StoreFailure;

use crate::policy::{RedisPolicy, StoreTarget, tcp_settings};

/// The time-out of one attempt to connect: enough for five round trips with TLS and a login.
pub(crate) const CONNECT_MAX: Duration = Duration::from_millis(500);
/// The most requests that wait inside the client library for the socket to accept them.
const PIPELINE_MAX: usize = 1024;

#[derive(Clone)]
enum RedisConnection {
    Direct(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One connection, shared by all callers.
#[derive(Clone)]
pub(crate) struct ServerConnection {
    /// The number of the attempt that opened it.
    pub(crate) generation: u64,
    connection: RedisConnection,
}

/// The meaning of a client library error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassifiedError {
    pub(crate) failure: StoreFailure,
    /// Whether the connection can no longer be used.
    pub(crate) is_connection_broken: bool,
}

impl ServerConnection {
    /// Connects as the policy says.
    pub(crate) async fn open(policy: &RedisPolicy, generation: u64) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            // Every caller has a shorter deadline of its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_MAX);
        let wire = match policy.target() {
            StoreTarget::Single { .. } => {
                let client = single(policy)?;
                RedisConnection::Direct(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            StoreTarget::Cluster { .. } => RedisConnection::Cluster(Box::pin(cluster(policy)).await?),
            StoreTarget::Sentinel { master, .. } => {
                let mut client = sentinel(policy, master)?;
                RedisConnection::Direct(Box::pin(client.get_async_connection_with_config(&config)).await?)
            }
        };
        Ok(Self { generation, connection: wire })
    }

    /// Sends one command. Dropping the future discards the reply; the command may still be executed.
    pub(crate) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        match &self.connection {
            RedisConnection::Direct(connection) => command.query_async(&mut connection.clone()).await,
            RedisConnection::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }

    /// The meaning of an error on this connection.
    pub(crate) fn classify(&self, error: &RedisError) -> ClassifiedError {
        let classified = ClassifiedError::classify(error);
        match self.connection {
            RedisConnection::Direct(_) => classified,
            // A cluster connection reconnects to its servers itself; only the keeper replaces it.
            RedisConnection::Cluster(_) => ClassifiedError { is_connection_broken: false, ..classified },
        }
    }
}

impl ClassifiedError {
    /// The meaning of an error. The server's text is never passed on, because it may quote keys.
    pub(crate) fn classify(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self { failure: StoreFailure::Timeout, is_connection_broken: false };
        }
        let kind = error.kind();
        let lost = matches!(kind, ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound);
        let failure = if lost { StoreFailure::Disconnected } else { StoreFailure::Refused };
        // A server that has become a replica stays one: a new connection may reach the new master.
        Self { failure, is_connection_broken: lost || kind == ErrorKind::Server(ServerErrorKind::ReadOnly) }
    }
}

/// Whether the error says that the server does not have the script.
pub(crate) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn single(policy: &RedisPolicy) -> RedisResult<Client> {
    let info = policy.servers().into_iter().next();
    let info = info.ok_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "no server")))?;
    match policy.tls() {
        Some(tls) => Client::build_with_tls(info, tls.clone()),
        None => Client::open(info),
    }
}

async fn cluster(policy: &RedisPolicy) -> RedisResult<ClusterConnection> {
    let mut builder = ClusterClientBuilder::new(policy.servers())
        .retries(3)
        .min_retry_wait(5)
        .max_retry_wait(50)
        .connection_timeout(CONNECT_MAX)
        .response_timeout(policy.deadline())
        .tcp_settings(tcp_settings());
    if let Some(tls) = policy.tls() {
        builder = builder.certs(tls.clone());
    }
    builder.build()?.get_async_connection().await
}

fn sentinel(policy: &RedisPolicy, master: &str) -> RedisResult<redis::sentinel::SentinelClient> {
    let urls = match policy.target() {
        StoreTarget::Sentinel { urls, .. } => urls.as_slice(),
        StoreTarget::Single { .. } | StoreTarget::Cluster { .. } => &[],
    };
    let addresses: Vec<ConnectionAddr> = urls.iter().map(|url| url.0.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_tcp_settings(tcp_settings());
    if policy.is_tls() {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(tls) = policy.tls() {
        builder = builder
            .set_client_to_redis_certificates(tls.clone())
            .set_client_to_sentinel_certificates(tls.clone());
    }
    let own = policy.apply_credentials(redis::RedisConnectionInfo::default());
    builder = builder.set_client_to_redis_db(own.db());
    if let Some(username) = own.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = own.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    // The sentinels have users of their own, which their URLs carry.
    if let Some(sentinel) = urls.first().map(|url| url.0.redis_settings()) {
        if let Some(username) = sentinel.username() {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = sentinel.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
    }
    builder.build()
}
