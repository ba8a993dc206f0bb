//! A connection that has begun: the link, the revision spoken on it, and what the backend said it offers.

mod cancelled_calls;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BackendToolName, Json, LogLevel};
use vmcp_wire::client::{Dialect, Introduction, Mirrored, Offer};
use vmcp_wire::method;

pub(crate) use self::cancelled_calls::CancelledCalls;
pub(crate) use self::turns::Turns;
use crate::GatewayIdentity;
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::life::Loss;
use crate::link::{Link, Request};
use crate::standing::Listening;
use crate::sync::Guarded;

/// Which arguments of which tools are repeated as headers.
pub(crate) type Mirrors = HashMap<BackendToolName, Vec<Mirrored>>;

/// No level has been set.
const LEVEL_UNSET: u8 = u8::MAX;

/// The connection.
pub(crate) struct Connection {
    pub(crate) backend: BackendId,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) dialect: Dialect,
    pub(crate) introduction: Introduction,
    /// True when tool arguments are repeated as headers (2026-07-28 over HTTP).
    pub(crate) mirrors_arguments: bool,
    /// What `subscriptions/listen` covers (2026-07-28).
    pub(crate) listening: watch::Sender<Listening>,
    mirrors: Guarded<Arc<Mirrors>>,
    level: AtomicU8,
    standing: TaskTracker,
    retired: CancellationToken,
}

impl Connection {
    pub(crate) fn new(
        backend: BackendId,
        link: Arc<dyn Link>,
        introduction: Introduction,
        identity: &GatewayIdentity,
        over_http: bool,
    ) -> Self {
        let version = introduction.version;
        Self {
            backend,
            link,
            dialect: Dialect::new(version, &identity.name, &identity.version),
            introduction,
            mirrors_arguments: over_http && !version.has_sessions(),
            listening: watch::Sender::new(Listening::Opening),
            mirrors: Guarded::default(),
            level: AtomicU8::new(LEVEL_UNSET),
            standing: TaskTracker::new(),
            retired: CancellationToken::new(),
        }
    }

    /// Runs what stands open for as long as the connection lives.
    pub(crate) fn stand(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (retired, ended) = (self.retired.clone(), self.link.life().token());
        self.standing.spawn(async move {
            tokio::select! {
                () = work => {}
                () = retired.cancelled() => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Ends the connection in good order, within `grace`: first what stands open, then the link.
    pub(crate) async fn close(&self, grace: Duration) {
        self.retired.cancel();
        self.standing.close();
        if timeout(grace, self.standing.wait()).await.is_err() {
            tracing::debug!(backend = %self.backend, "what stood open did not end in time");
        }
        self.link.close(grace).await;
        self.link.life().lose(Loss::Failed(Class::Exited));
    }

    /// True when the backend keeps a session for this connection.
    pub(crate) fn has_session(&self) -> bool {
        self.dialect.version.has_sessions()
    }

    /// Makes one request and waits for its outcome. What the outcome says about the connection is noted.
    pub(crate) async fn exchange(
        &self,
        purpose: Purpose,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<Json, Failure> {
        let ticket = self.link.flights().enter(purpose)?;
        let outcome = self.link.exchange(&ticket, request(ticket.id())).await;
        if let Err(failure) = &outcome {
            self.note(failure);
        }
        // A backend that broke off without an answer may still be working on the request.
        if !matches!(outcome, Err(Failure::Broken(..))) {
            ticket.done();
        }
        outcome
    }

    /// Ends the connection when a failure says that it is of no further use.
    pub(crate) fn note(&self, failure: &Failure) {
        match failure {
            Failure::Stale(class, _) => self.link.life().lose(Loss::Forgotten(*class)),
            Failure::NotSent(Class::Connect, _) => self.link.life().lose(Loss::Failed(Class::Connect)),
            Failure::NotSent(..)
            | Failure::Broken(..)
            | Failure::Refused(_)
            | Failure::Overloaded
            | Failure::Full
            | Failure::Busy(..)
            | Failure::Paused(_) => {}
        }
    }

    /// Makes sure that the backend sends log messages of `wanted` and above, where levels are set for a session.
    /// The level of a connection only ever falls: other clients share it, and what is too much is dropped here.
    pub(crate) async fn lower_level(&self, wanted: Option<LogLevel>) {
        let Some(level) = wanted.filter(|_| self.has_session() && self.introduction.offers(Offer::Logging))
        else {
            return;
        };
        let rank = level as u8;
        if self.level.load(Ordering::Relaxed) <= rank {
            return;
        }
        let request = Request::upkeep(method::SET_LEVEL, self.dialect.set_level(level));
        match self.exchange(Purpose::Upkeep, |_| request).await {
            Ok(_) | Err(Failure::Refused(_)) => {
                self.level.fetch_min(rank, Ordering::Relaxed);
            }
            Err(failure) => {
                tracing::debug!(backend = %self.backend, %failure, "the log level could not be set");
            }
        }
    }

    /// Which arguments are repeated as headers, as of the last time tools were listed.
    pub(crate) fn mirrors(&self) -> Arc<Mirrors> {
        Arc::clone(&self.mirrors.lock())
    }

    /// Takes note of the tools listed.
    pub(crate) fn set_mirrors(&self, mirrors: Mirrors) {
        *self.mirrors.lock() = Arc::new(mirrors);
    }
}
