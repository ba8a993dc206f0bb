//! A scripted identity provider over HTTP that counts its requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{Signer, within_timeout};

pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(crate) const JWKS: &str = "/keys";
pub(crate) const INTROSPECTION: &str = "/introspect";

/// The response for a path.
#[derive(Clone)]
pub(crate) enum Reply {
    Json(Value),
    Status(u16),
    /// A valid document with another status.
    JsonWithStatus(u16, Value),
    Redirect(String),
    /// No response at all.
    NoResponse,
    /// A JSON object of this many bytes.
    Large(usize),
}

/// One received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

struct State {
    replies: Mutex<HashMap<String, Reply>>,
    requests: watch::Sender<Vec<ReceivedRequest>>,
}

/// The identity provider. It stops with the test's runtime.
pub(crate) struct Idp {
    pub(crate) issuer: String,
    state: Arc<State>,
}

impl Idp {
    /// Starts a provider that publishes the key of [`Signer::issuer`].
    pub(crate) async fn start() -> Self {
        Self::start_over(None).await
    }

    /// Starts it with TLS, with a certificate that `keys/authority.pem` signed.
    pub(crate) async fn start_over_tls() -> Self {
        let certificates = CertificateDer::pem_slice_iter(include_bytes!("../keys/server.pem"));
        let certificates = certificates.map(Result::unwrap).collect();
        let key = PrivatePkcs8KeyDer::from(include_bytes!("../keys/server.pk8").to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key.into())
            .unwrap();
        Self::start_over(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_over(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { replies: Mutex::default(), requests: watch::Sender::new(Vec::new()) });
        let idp = Self { issuer, state };
        idp.set_reply(DISCOVERY, Reply::Json(idp.discovery()));
        idp.publish(&[Signer::issuer()]);
        let state = idp.state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (state.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(state, stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(state, stream).await;
                            }
                        }
                    }
                });
            }
        });
        idp
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    /// The provider's discovery document.
    pub(crate) fn discovery(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.url(JWKS),
            "introspection_endpoint": self.url(INTROSPECTION),
        })
    }

    pub(crate) fn set_reply(&self, path: &str, reply: Reply) {
        self.state.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    pub(crate) fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.set_reply(JWKS, Reply::Json(json!({"keys": keys})));
    }

    /// The number of requests to `path`.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests_to(path).len()
    }

    /// All requests to `path`.
    pub(crate) fn requests_to(&self, path: &str) -> Vec<ReceivedRequest> {
        self.state.requests.borrow().iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Waits until `path` has received `count` requests.
    pub(crate) async fn wait_for_requests(&self, path: &str, count: usize) {
        let mut received = self.state.requests.subscribe();
        let enough =
            |all: &Vec<ReceivedRequest>| all.iter().filter(|received| received.path == path).count() >= count;
        within_timeout(received.wait_for(enough)).await.unwrap();
    }
}

async fn serve(state: Arc<State>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| handle(state.clone(), request));
    let http = hyper::server::conn::http1::Builder::new();
    // A client that disconnects is not an error.
    http.serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let header = head.headers.get("authorization");
    let received = ReceivedRequest {
        path: head.uri.path().to_owned(),
        authorization: header.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    };
    let reply = state.replies.lock().unwrap().get(&received.path).cloned();
    state.requests.send_modify(|all| all.push(received));
    let response = Response::builder();
    let response = match reply.unwrap_or(Reply::Status(404)) {
        Reply::Json(value) => response.body(value.to_string().into()),
        Reply::Status(status) => response.status(status).body(Full::default()),
        Reply::JsonWithStatus(status, value) => response.status(status).body(value.to_string().into()),
        Reply::Redirect(to) => response.status(302).header("location", to).body(Full::default()),
        Reply::Large(size) => {
            let text = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(size));
            response.body(text.into())
        }
        Reply::NoResponse => std::future::pending().await,
    };
    Ok(response.unwrap())
}
