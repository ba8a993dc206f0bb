//! The client: pooled connections over HTTP/1.1 and HTTP/2, with and without TLS.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::runtime::Handle;

use crate::addresses::{AddressPolicy, GuardedResolver};
use crate::error::{RequestError, error_chain};
use crate::tls::{self, TlsError, Trust};

/// The `User-Agent` of requests that have none.
pub const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("vmcp/", env!("CARGO_PKG_VERSION")));

/// How long a connection may be idle if some are without TLS. Common servers close after 5 seconds (Node.js,
/// uvicorn). Closing earlier avoids that a request is sent on a closing connection. Reconnecting without TLS
/// is cheap.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a connection may be idle if all use TLS: less than the 60 seconds of common proxies.
pub const IDLE_TIMEOUT_TLS: Duration = Duration::from_secs(50);
/// How often an idle HTTP/2 connection is checked.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// A connector without TLS.
pub type TcpConnector = HttpConnector<GuardedResolver>;
/// A connector with or without TLS, by the scheme.
type Connector = HttpsConnector<TcpConnector>;

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Which certificate authorities are trusted.
    pub trust: Trust,
    /// Which addresses may be connected to.
    pub addresses: AddressPolicy,
    /// The time-out of a TCP connection.
    pub connect_timeout: Duration,
    /// The maximum number of idle connections to one host.
    pub idle_max: usize,
    /// How long a connection may be idle: [`IDLE_TIMEOUT`] or [`IDLE_TIMEOUT_TLS`].
    pub idle_timeout: Duration,
}

impl ClientSettings {
    /// A connector without TLS. It connects to allowed addresses only.
    #[must_use]
    pub fn tcp_connector(&self) -> TcpConnector {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(self.addresses));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(self.connect_timeout));
        tcp
    }
}

/// Where the background tasks of the connections run.
#[derive(Clone, Debug)]
pub struct RuntimeExecutor(Option<Handle>);

impl RuntimeExecutor {
    /// On the runtime of the task that opens the connection.
    #[must_use]
    pub fn of_caller() -> Self {
        Self(None)
    }

    /// On `runtime`, no matter which task opens the connection.
    #[must_use]
    pub fn on(runtime: Handle) -> Self {
        Self(Some(runtime))
    }
}

impl<F> Executor<F> for RuntimeExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, work: F) {
        match &self.0 {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        };
    }
}

/// The client, with its pool of connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    pool: Client<Connector, Full<Bytes>>,
    addresses: AddressPolicy,
    has_authority: bool,
}

impl HttpClient {
    /// Creates a client without connecting.
    ///
    /// # Errors
    /// When the CA bundle cannot be read, or TLS cannot be set up.
    pub fn new(settings: &ClientSettings, executor: RuntimeExecutor) -> Result<Self, TlsError> {
        let (config, has_authority) = tls::config(&settings.trust)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(settings.tcp_connector());
        let pool = Client::builder(executor)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.idle_max)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .build(connector);
        Ok(Self { pool, addresses: settings.addresses, has_authority })
    }

    /// Sends a request and waits for the head of its response. Adds [`USER_AGENT`] if the request has no
    /// `User-Agent`. Does not follow redirects, and has no time-out of its own.
    ///
    /// # Errors
    /// When there is no response. [`RequestError::was_not_sent`] says whether the server may have received
    /// the request.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, RequestError> {
        // A literal address needs no resolving, so the resolver would not check it.
        self.addresses.check_host(request.uri().host().unwrap_or_default())?;
        if !self.has_authority && request.uri().scheme_str() == Some("https") {
            return Err(RequestError::NoAuthority);
        }
        request.headers_mut().entry(header::USER_AGENT).or_insert(USER_AGENT);
        self.pool.request(request.map(Full::new)).await.map_err(|error| {
            if error.is_connect() {
                RequestError::from_connect_error(&error)
            } else {
                RequestError::Broken(error_chain(&error))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::error::ConnectFault;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn client(trust: Trust, addresses: AddressPolicy) -> HttpClient {
        let settings = ClientSettings {
            trust,
            addresses,
            connect_timeout: Duration::from_secs(5),
            idle_max: 1,
            idle_timeout: IDLE_TIMEOUT,
        };
        HttpClient::new(&settings, RuntimeExecutor::of_caller()).unwrap()
    }

    fn request(uri: &str) -> Request<Bytes> {
        Request::get(uri).body(Bytes::new()).unwrap()
    }

    #[tokio::test]
    async fn literal_addresses_and_names_are_guarded_alike() {
        let client = client(Trust::Nothing, AddressPolicy::Public);
        for uri in ["http://127.0.0.1:9/", "http://[::1]:9/", "http://localhost:9/", "http://10.0.0.1/"] {
            let error = client.send(request(uri)).await.unwrap_err();
            assert!(matches!(error, RequestError::ForbiddenAddress(_)) && error.was_not_sent(), "{uri}");
        }
    }

    #[tokio::test]
    async fn tls_without_an_authority_says_what_is_missing() {
        let client = client(Trust::Nothing, AddressPolicy::Anywhere);
        let error = client.send(request("https://127.0.0.1:9/")).await.unwrap_err();
        assert!(matches!(error, RequestError::NoAuthority), "{error}");
    }

    #[tokio::test]
    async fn only_a_request_that_was_not_sent_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            String::from_utf8(head[..length].to_vec()).unwrap()
        });
        let client = client(Trust::Nothing, AddressPolicy::Anywhere);
        let error = client.send(request(&uri)).await.unwrap_err();
        assert!(matches!(error, RequestError::Broken(_)) && !error.was_not_sent(), "{error}");
        let head = server.await.unwrap();
        assert!(head.contains(&format!("user-agent: {}", USER_AGENT.to_str().unwrap())), "{head}");
        // The listener is closed.
        let error = client.send(request(&uri)).await.unwrap_err();
        assert_eq!(
            (error.connect_fault(), error.was_not_sent()),
            (Some(ConnectFault::Refused), true),
            "{error}"
        );
    }

    #[tokio::test]
    async fn redirects_are_responses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let reply = b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(reply).await.unwrap();
            stream
        });
        let response = client(Trust::Nothing, AddressPolicy::Anywhere).send(request(&uri)).await.unwrap();
        assert_eq!(response.status(), 302);
    }
}
