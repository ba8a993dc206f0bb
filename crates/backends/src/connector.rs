//! Making one connection, by whichever transport: what the supervisor repeats for as long as the backend is wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vmcp_wire::client::Introduction;

use crate::child;
use crate::connection::Connection;
use crate::duplex::Duplex;
use crate::failure::{Class, Failure};
use crate::flights::Flights;
use crate::http::HttpClient;
use crate::life::{Lifeline, Loss};
use crate::link::Link;
use crate::policy::{HttpPolicy, StdioPolicy, Timeouts, Transport};
use crate::probe;
use crate::sse;
use crate::standing::{keep_listening, keep_stream};
use crate::stdio::Wiring;
use crate::streamable::Base;
use crate::supervisor::Shared;

/// How long a server that refused streamable HTTP may take to begin HTTP+SSE.
const SSE_WAIT: Duration = Duration::from_secs(10);

/// Makes connections to one backend.
pub(crate) struct Connector {
    shared: Arc<Shared>,
    /// The handshake is made without a probe: the backend is known to have sessions, or ends when it is probed first, as
    /// some servers do.
    unprobed: bool,
}

/// Ends a connection that is not completed.
struct Attempt(Option<Arc<Lifeline>>);

impl Attempt {
    fn completed(mut self) {
        self.0 = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(life) = &self.0 {
            life.lose(Loss::Failed(Class::Timeout));
        }
    }
}

impl Connector {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { unprobed: shared.has_sessions, shared }
    }

    /// Makes one connection, within the policy's time, to which signs of life add.
    pub(crate) async fn connect(&mut self) -> Result<Arc<Connection>, Failure> {
        let Timeouts { connect, start, .. } = self.shared.policy.timeouts;
        let signs = Arc::clone(&self.shared.signs);
        let _starting = signs.begin();
        tokio::select! {
            connected = self.attempt() => connected,
            () = signs.given_up(connect, start) => {
                let (connect, start) = (connect.as_secs(), start.as_secs());
                Err(Failure::not_sent(
                    Class::Timeout,
                    format_args!(
                        "it was not ready {connect} s after its last sign of life, or {start} s after its start; \
                         `startTimeout` allows more"
                    ),
                ))
            }
        }
    }

    async fn attempt(&mut self) -> Result<Arc<Connection>, Failure> {
        let shared = Arc::clone(&self.shared);
        match &shared.policy.transport {
            Transport::Stdio(policy) => Box::pin(self.stdio(policy)).await,
            Transport::StreamableHttp(policy) if self.shared.over_sse() => {
                let connected = Box::pin(self.sse(policy)).await;
                if connected.is_err() {
                    // It may have been replaced by one that speaks streamable HTTP.
                    self.shared.forget_sse();
                }
                connected
            }
            Transport::StreamableHttp(policy) => Box::pin(self.streamable_or_sse(policy)).await,
            Transport::Sse(policy) => Box::pin(self.sse(policy)).await,
        }
    }

    async fn stdio(&mut self, policy: &StdioPolicy) -> Result<Arc<Connection>, Failure> {
        let started = self.start(policy).await;
        let died =
            matches!(started, Err(Failure::Broken(Class::Exited, _) | Failure::NotSent(Class::Exited, _)));
        if !died {
            return started;
        }
        if self.unprobed {
            self.unprobed = false;
            return started;
        }
        tracing::debug!(backend = %self.shared.policy.id, "the process ended when probed; starting it without");
        self.unprobed = true;
        let started = self.start(policy).await;
        self.unprobed = started.is_ok();
        started
    }

    async fn start(&self, policy: &StdioPolicy) -> Result<Arc<Connection>, Failure> {
        let shared = &self.shared;
        let timeouts = shared.policy.timeouts;
        let wiring = Wiring::new(&shared.ears, &shared.tasks, &shared.signs, timeouts.call);
        let attempt = Attempt(Some(Arc::clone(&wiring.life)));
        let link = child::start(policy, &shared.processes, &wiring).await?;
        let introduction = if self.unprobed {
            probe::duplex::shake_hands(&link, &shared.identity).await?
        } else {
            probe::duplex::begin(&link, &shared.identity, &wiring.alive, timeouts.connect).await?
        };
        attempt.completed();
        Ok(self.shared_channel(link, introduction))
    }

    async fn sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let http = self.client(policy)?;
        let shared = &self.shared;
        let life = Arc::default();
        let attempt = Attempt(Some(Arc::clone(&life)));
        let link = sse::open(&http, &policy.url, &shared.ears, &life, &shared.tasks).await?;
        let introduction = probe::duplex::shake_hands(&link, &shared.identity).await?;
        attempt.completed();
        Ok(self.shared_channel(link, introduction))
    }

    /// Streamable HTTP; where it is refused, HTTP+SSE at the same address.
    async fn streamable_or_sse(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let failure = match self.streamable(policy).await {
            Err(failure) if probe::streamable::may_be_sse(&failure) => failure,
            connected => return connected,
        };
        if !policy.may_be_sse {
            if let Failure::Broken(class, cause) = &failure {
                let hint = format!("{cause}; if it speaks HTTP+SSE, write `transport: sse`");
                return Err(Failure::Broken(*class, hint));
            }
            return Err(failure);
        }
        match timeout(SSE_WAIT, self.sse(policy)).await {
            Ok(Ok(connection)) => {
                self.shared.found_sse();
                Ok(connection)
            }
            Ok(Err(_)) | Err(_) => Err(failure),
        }
    }

    async fn streamable(&mut self, policy: &HttpPolicy) -> Result<Arc<Connection>, Failure> {
        let base = Base {
            http: self.client(policy)?,
            flights: Flights::new(Arc::clone(&self.shared.ears)),
            tasks: self.shared.tasks.clone(),
        };
        let shared = &self.shared;
        let wait = shared.policy.timeouts.connect;
        let (link, introduction) = if self.unprobed {
            let begun = probe::streamable::shake_hands(&base, &policy.url, &shared.identity).await;
            // The next attempt finds out anew.
            self.unprobed = begun.is_ok();
            begun?
        } else {
            probe::streamable::begin(&base, &policy.url, &shared.identity, wait).await?
        };
        let endpoint = Arc::clone(link.endpoint());
        let connection = self.connection(Arc::new(link), introduction, true);
        if connection.has_session() {
            connection.stand(keep_stream(Arc::clone(&connection), endpoint));
        }
        Ok(connection)
    }

    fn shared_channel(&self, link: Arc<Duplex>, introduction: Introduction) -> Arc<Connection> {
        self.connection(link, introduction, false)
    }

    fn connection(
        &self,
        link: Arc<dyn Link>,
        introduction: Introduction,
        over_http: bool,
    ) -> Arc<Connection> {
        let shared = &self.shared;
        let connection = Arc::new(Connection::new(
            shared.policy.id.clone(),
            link,
            introduction,
            &shared.identity,
            over_http,
        ));
        if !connection.has_session() {
            connection.stand(keep_listening(
                Arc::clone(&connection),
                Arc::clone(&shared.ears),
                shared.wanted.subscribe(),
            ));
        }
        connection
    }

    fn client(&self, policy: &HttpPolicy) -> Result<Arc<HttpClient>, Failure> {
        let shared = &self.shared;
        if let Some(client) = shared.http.get() {
            return Ok(Arc::clone(client));
        }
        let agent = format!("{}/{}", shared.identity.name, shared.identity.version);
        let client = Arc::new(HttpClient::new(
            policy,
            &shared.policy.headers,
            shared.bearing.clone(),
            shared.policy.timeouts.connect,
            &agent,
        )?);
        Ok(Arc::clone(shared.http.get_or_init(|| client)))
    }
}
