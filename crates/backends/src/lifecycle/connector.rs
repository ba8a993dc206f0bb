//! Opens one connection over the configured transport. The supervisor repeats this for as long as the backend
//! is configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vmcp_wire::client::InitializeInfo;

use crate::connection::Connection;
use crate::connection::close_signal::{CloseReason, CloseSignal};
use crate::connection::link::Link;
use crate::connection::pending_requests::PendingRequests;
use crate::failure::{Failure, FailureClass};
use crate::http::client::HttpClient;
use crate::lifecycle::probe;
use crate::lifecycle::subscription_streams::{run_get_stream, run_listen_stream};
use crate::lifecycle::supervisor::SupervisedConnection;
use crate::policy::{HttpPolicy, StdioPolicy, Timeouts, Transport};
use crate::transport::child;
use crate::transport::duplex::DuplexLink;
use crate::transport::sse;
use crate::transport::stdio::StdioContext;
use crate::transport::streamable::StreamableContext;

/// Time-out for opening HTTP+SSE at a server that refused streamable HTTP.
const SSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens connections to one backend.
pub(crate) struct Connector {
    supervised: Arc<SupervisedConnection>,
    /// Whether the handshake is made without a probe. The backend is known to have sessions, or its process
    /// ends when it is probed first, as some servers do.
    skip_probe: bool,
}

/// Closes a connection that is not completed.
struct AttemptGuard(Option<Arc<CloseSignal>>);

impl AttemptGuard {
    fn complete(mut self) {
        self.0 = None;
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if let Some(life) = &self.0 {
            life.close(CloseReason::Failed(FailureClass::Timeout));
        }
    }
}

impl Connector {
    pub(crate) fn new(shared: Arc<SupervisedConnection>) -> Self {
        Self { skip_probe: shared.has_sessions, supervised: shared }
    }

    /// Opens one connection within the connect time-out of the policy. Output of the backend extends that
    /// time-out.
    pub(crate) async fn connect(&mut self) -> Result<Arc<Connection>, Failure> {
        let Timeouts { connect, start, .. } = self.supervised.policy.timeouts;
        let signs = Arc::clone(&self.supervised.startup_activity);
        let _starting = signs.start();
        tokio::select! {
            connected = self.connect_by_transport() => connected,
            () = signs.wait_for_timeout(connect, start) => {
                let (connect, start) = (connect.as_secs(), start.as_secs());
                Err(Failure::not_sent(
                    FailureClass::Timeout,
                    format_args!(
                        "it was not ready {connect} s after its last sign of life, or {start} s after its start; \
                         `startTimeout` allows more"
                    ),
                ))
            }
        }
    }

    async fn connect_by_transport(&mut self) -> Result<Arc<Connection>, Failure> {
        let shared = Arc::clone(&self.supervised);
        match &shared.policy.transport {
            Transport::Stdio(policy) => Box::pin(self.connect_stdio(policy)).await,
            Transport::StreamableHttp(policy) if self.supervised.is_over_sse() => {
                let connected = Box::pin(self.connect_sse(policy)).await;
                if connected.is_err() {
                    // The server may have been replaced by one that speaks streamable HTTP.
                    self.supervised.clear_sse();
                }
                connected
            }
            Transport::StreamableHttp(policy) => Box::pin(self.connect_streamable_or_sse(policy)).await,
            Transport::Sse(policy) => Box::pin(self.connect_sse(policy)).await,
        }
    }

    async fn connect_stdio(&mut self, policy: &StdioPolicy) -> Result<Arc<Connection>, Failure> {
        let started = self.start_stdio(policy).await;
        let died = matches!(
            started,
            Err(Failure::Indeterminate(FailureClass::Exited, _) | Failure::NotSent(FailureClass::Exited, _))
        );
        if !died {
            return started;
        }
        if self.skip_probe {
            self.skip_probe = false;
            return started;
        }
        tracing::debug!(backend = %self.supervised.policy.id, "the process ended when probed; starting it without");
        self.skip_probe = true;
        let started = self.start_stdio(policy).await;
        self.skip_probe = started.is_ok();
        started
    }

    async fn start_stdio(&self, policy: &StdioPolicy) -> Result<Arc<Connection>, Failure> {
        let shared = &self.supervised;
        let timeouts = shared.policy.timeouts;
        let wiring =
            StdioContext::new(&shared.event_sender, &shared.tasks, &shared.startup_activity, timeouts.call);
        let attempt = AttemptGuard(Some(Arc::clone(&wiring.close_signal)));
        let link = child::start(policy, &shared.processes, &wiring).await?;
        let introduction = if self.skip_probe {
            probe::duplex::handshake(&link, &shared.client_info).await?
        } else {
            probe::duplex::negotiate(&link, &shared.client_info, &wiring.first_output, timeouts.connect)
                .await?
        };
        attempt.complete();
        Ok(self.duplex_connection(link, introduction))
    }

    async fn connect_sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let http = self.http_client(policy)?;
        let shared = &self.supervised;
        let life = Arc::default();
        let attempt = AttemptGuard(Some(Arc::clone(&life)));
        let link = sse::open(&http, &policy.url, &shared.event_sender, &life, &shared.tasks).await?;
        let introduction = probe::duplex::handshake(&link, &shared.client_info).await?;
        attempt.complete();
        Ok(self.duplex_connection(link, introduction))
    }

    /// Connects over streamable HTTP. If the server refuses that, connects over HTTP+SSE at the same address,
    /// unless the operator configured the transport.
    async fn connect_streamable_or_sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let failure = match self.connect_streamable(policy).await {
            Err(failure) if probe::streamable::may_be_sse(&failure) => failure,
            connected => return connected,
        };
        if !policy.may_be_sse {
            if let Failure::Indeterminate(class, cause) = &failure {
                let hint = format!("{cause}; if it speaks HTTP+SSE, write `transport: sse`");
                return Err(Failure::Indeterminate(*class, hint));
            }
            return Err(failure);
        }
        match timeout(SSE_TIMEOUT, self.connect_sse(policy)).await {
            Ok(Ok(connection)) => {
                self.supervised.mark_sse();
                Ok(connection)
            }
            Ok(Err(_)) | Err(_) => Err(failure),
        }
    }

    async fn connect_streamable(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let base = StreamableContext {
            http: self.http_client(policy)?,
            pending_requests: PendingRequests::new(Arc::clone(&self.supervised.event_sender)),
            tasks: self.supervised.tasks.clone(),
        };
        let shared = &self.supervised;
        let wait = shared.policy.timeouts.connect;
        let (link, introduction) = if self.skip_probe {
            let begun = probe::streamable::handshake(&base, &policy.url, &shared.client_info).await;
            // After a failure, the next attempt probes again.
            self.skip_probe = begun.is_ok();
            begun?
        } else {
            probe::streamable::negotiate(&base, &policy.url, &shared.client_info, wait).await?
        };
        let endpoint = Arc::clone(link.endpoint());
        let connection = self.build_connection(Arc::new(link), introduction, true);
        if connection.has_session() {
            connection.spawn_tracked(run_get_stream(Arc::clone(&connection), endpoint));
        }
        Ok(connection)
    }

    fn duplex_connection(&self, link: Arc<DuplexLink>, introduction: InitializeInfo) -> Arc<Connection> {
        self.build_connection(link, introduction, false)
    }

    fn build_connection(
        &self,
        link: Arc<dyn Link>,
        introduction: InitializeInfo,
        over_http: bool,
    ) -> Arc<Connection> {
        let shared = &self.supervised;
        let connection = Arc::new(Connection::new(
            shared.policy.id.clone(),
            link,
            introduction,
            &shared.client_info,
            over_http,
        ));
        if !connection.has_session() {
            connection.spawn_tracked(run_listen_stream(
                Arc::clone(&connection),
                Arc::clone(&shared.event_sender),
                shared.subscriptions.subscribe(),
            ));
        }
        connection
    }

    fn http_client(&self, policy: &HttpPolicy) -> Result<Arc<HttpClient>, Failure> {
        let shared = &self.supervised;
        if let Some(client) = shared.http_client.get() {
            return Ok(Arc::clone(client));
        }
        let agent = format!("{}/{}", shared.client_info.name, shared.client_info.version);
        let client = Arc::new(HttpClient::new(
            policy,
            &shared.policy.headers,
            shared.request_credentials.clone(),
            shared.policy.timeouts.connect,
            &agent,
        )?);
        Ok(Arc::clone(shared.http_client.get_or_init(|| client)))
    }
}
