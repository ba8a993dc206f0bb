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
use crate::lifecycle::connect_failure::FailedAttempt;
use crate::lifecycle::probe;
use crate::lifecycle::subscription_streams::{run_get_stream, run_listen_stream};
use crate::lifecycle::supervised::SupervisedConnection;
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
        if let Some(close_signal) = &self.0 {
            close_signal.close(CloseReason::Failed(FailureClass::Timeout));
        }
    }
}

impl Connector {
    pub(crate) fn new(supervised: Arc<SupervisedConnection>) -> Self {
        Self { skip_probe: supervised.has_sessions, supervised }
    }

    /// Opens one connection within the connect time-out of the policy. Output of the backend extends that
    /// time-out.
    pub(crate) async fn connect(&mut self) -> Result<Arc<Connection>, FailedAttempt> {
        let Timeouts { connect, start, .. } = self.supervised.policy.timeouts;
        let startup_activity = Arc::clone(&self.supervised.startup_activity);
        let _starting = startup_activity.start();
        let connected = tokio::select! {
            connected = self.connect_by_transport() => connected,
            () = startup_activity.wait_for_timeout(connect, start) => {
                Err(Failure::not_sent(FailureClass::Timeout, startup_activity.timeout_text(connect, start)))
            }
        };
        connected.map_err(|failure| FailedAttempt { last_line: startup_activity.last_line(), failure })
    }

    async fn connect_by_transport(&mut self) -> Result<Arc<Connection>, Failure> {
        let supervised = Arc::clone(&self.supervised);
        match &supervised.policy.transport {
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
        let has_exited = matches!(
            started,
            Err(Failure::Indeterminate(FailureClass::Exited, _) | Failure::NotSent(FailureClass::Exited, _))
        );
        if !has_exited {
            // A server that refuses the handshake may only speak a version without one.
            self.skip_probe &= !matches!(started, Err(Failure::Refused(_)));
            return started;
        }
        if self.skip_probe {
            return started;
        }
        tracing::debug!(backend = %self.supervised.policy.id, "the process ended when probed; starting it without");
        // A process that ends without a probe too is not probed again, so each attempt starts it only once.
        self.skip_probe = true;
        self.start_stdio(policy).await
    }

    async fn start_stdio(&self, policy: &StdioPolicy) -> Result<Arc<Connection>, Failure> {
        let supervised = &self.supervised;
        let timeouts = supervised.policy.timeouts;
        let context = StdioContext::new(
            &supervised.event_sender,
            &supervised.tasks,
            &supervised.startup_activity,
            timeouts.call,
        );
        let attempt_guard = AttemptGuard(Some(Arc::clone(&context.close_signal)));
        let link = child::start(policy, &supervised.processes, &context).await?;
        let negotiated = if self.skip_probe {
            probe::duplex::handshake(&link, &supervised.client_info).await
        } else {
            probe::duplex::negotiate(&link, &supervised.client_info, &context.first_output, timeouts.connect)
                .await
        };
        let initialize_info = match negotiated {
            Ok(initialize_info) => initialize_info,
            Err(failure) => return Err(child::explain_exit(failure, &context).await),
        };
        attempt_guard.complete();
        Ok(self.duplex_connection(link, initialize_info))
    }

    async fn connect_sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let http = self.http_client(policy)?;
        let supervised = &self.supervised;
        let close_signal = Arc::default();
        let attempt_guard = AttemptGuard(Some(Arc::clone(&close_signal)));
        let link =
            sse::open(&http, &policy.url, &supervised.event_sender, &close_signal, &supervised.tasks).await?;
        let initialize_info = probe::duplex::handshake(&link, &supervised.client_info).await?;
        attempt_guard.complete();
        Ok(self.duplex_connection(link, initialize_info))
    }

    /// Connects over streamable HTTP. If the server refuses that, connects over HTTP+SSE at the same address,
    /// unless the operator configured the transport.
    async fn connect_streamable_or_sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let failure = match self.connect_streamable(policy).await {
            Err(failure) if probe::streamable::may_be_sse(&failure) => failure,
            connected => return connected,
        };
        if !policy.may_be_sse {
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
        let context = StreamableContext {
            http: self.http_client(policy)?,
            pending_requests: PendingRequests::new(Arc::clone(&self.supervised.event_sender)),
            tasks: self.supervised.tasks.clone(),
        };
        let supervised = &self.supervised;
        let wait = supervised.policy.timeouts.connect;
        let (link, initialize_info) = if self.skip_probe {
            let negotiated =
                probe::streamable::handshake(&context, &policy.url, &supervised.client_info).await;
            // After a failure, the next attempt probes again.
            self.skip_probe = negotiated.is_ok();
            negotiated?
        } else {
            probe::streamable::negotiate(&context, &policy.url, &supervised.client_info, wait).await?
        };
        let endpoint = Arc::clone(link.endpoint());
        let connection = self.build_connection(Arc::new(link), initialize_info, true);
        if connection.has_session() {
            connection.spawn_tracked(run_get_stream(Arc::clone(&connection), endpoint));
        }
        Ok(connection)
    }

    fn duplex_connection(&self, link: Arc<DuplexLink>, initialize_info: InitializeInfo) -> Arc<Connection> {
        self.build_connection(link, initialize_info, false)
    }

    fn build_connection(
        &self,
        link: Arc<dyn Link>,
        initialize_info: InitializeInfo,
        over_http: bool,
    ) -> Arc<Connection> {
        let supervised = &self.supervised;
        let connection = Arc::new(Connection::new(
            supervised.policy.id.clone(),
            link,
            initialize_info,
            &supervised.client_info,
            over_http,
        ));
        if !connection.has_session() {
            connection.spawn_tracked(run_listen_stream(
                Arc::clone(&connection),
                Arc::clone(&supervised.event_sender),
                supervised.subscriptions.subscribe(),
            ));
        }
        connection
    }

    fn http_client(&self, policy: &HttpPolicy) -> Result<Arc<HttpClient>, Failure> {
        let supervised = &self.supervised;
        if let Some(client) = supervised.http_client.get() {
            return Ok(Arc::clone(client));
        }
        let agent = format!("{}/{}", supervised.client_info.name, supervised.client_info.version);
        let client = Arc::new(HttpClient::new(
            policy,
            &supervised.policy.headers,
            supervised.request_credentials.clone(),
            supervised.policy.timeouts.connect,
            &agent,
        )?);
        Ok(Arc::clone(supervised.http_client.get_or_init(|| client)))
    }
}
