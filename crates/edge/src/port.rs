//! The way back to the client during one request, as the domain's `ClientPort`: what is said goes into the request's
//! stream; what is asked waits for the answer that the client posts under the same session, or brings with the next round.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use vmcp_domain::{
    AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, Json, LogLevel, Members, Question,
};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::notice;

use crate::dialogue::{Dialogue, Route};
use crate::session::Session;
use crate::spool::Spool;

/// Where messages to a client go.
#[derive(Clone, Debug)]
pub(crate) enum Outlet {
    /// Into one HTTP response.
    Stream(Arc<Spool>),
    /// Into the one channel of a process, until the request is answered.
    Channel(mpsc::Sender<Bytes>, Arc<AtomicBool>),
}

impl Outlet {
    /// Sends what may be lost.
    pub(crate) fn offer(&self, message: Bytes) {
        match self {
            Self::Stream(spool) => {
                spool.offer(message);
            }
            Self::Channel(_, answered) if answered.load(Ordering::Acquire) => {}
            Self::Channel(channel, _) => {
                // A full channel is a slow client; what may be lost is.
                let _ = channel.try_send(message);
            }
        }
    }

    /// Sends what must arrive. False when there is no client any more.
    pub(crate) async fn push(&self, message: Bytes) -> bool {
        match self {
            Self::Stream(spool) => spool.push(message),
            Self::Channel(_, answered) if answered.load(Ordering::Acquire) => false,
            Self::Channel(channel, _) => channel.send(message).await.is_ok(),
        }
    }
}

/// Which log messages the client wants.
#[derive(Debug)]
pub(crate) enum Logs {
    /// As the request says (2026-07-28).
    Request(Option<LogLevel>),
    /// As the session says.
    Session,
}

/// The way back to the client during one request.
pub(crate) struct Port {
    /// Which log messages the client wants.
    pub(crate) logs: Logs,
    /// What the client can be asked.
    pub(crate) capabilities: Arc<ClientCapabilities>,
    /// How messages and questions reach the client.
    pub(crate) way: Way,
}

/// How messages and questions reach a client.
#[derive(Debug)]
pub(crate) enum Way {
    /// Messages during the request, questions as requests under the session.
    Session(Route, Arc<Session>),
    /// Messages during each round, questions by ending a round.
    Rounds(Arc<Dialogue>),
}

impl Port {
    fn route(&self) -> Option<Route> {
        match &self.way {
            Way::Session(route, _) => Some(route.clone()),
            Way::Rounds(dialogue) => dialogue.route(),
        }
    }

    fn outlet(&self) -> Option<Outlet> {
        self.route()?.outlet
    }
}

impl fmt::Debug for Port {
    /// Names no client and no payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("logs", &self.logs).finish_non_exhaustive()
    }
}

impl ClientPort for Port {
    fn wants_progress(&self) -> bool {
        self.route().is_some_and(|route| route.progress_token.is_some() && route.outlet.is_some())
    }

    fn progress(&self, params: Members) {
        if let Some(Route { progress_token: Some(token), outlet: Some(outlet) }) = self.route() {
            outlet.offer(notice::progress(&token, &params).into());
        }
    }

    fn log_level(&self) -> Option<LogLevel> {
        self.outlet()?;
        match (&self.logs, &self.way) {
            (Logs::Request(level), _) => *level,
            (Logs::Session, Way::Session(_, session)) => Some(session.log_level()),
            (Logs::Session, Way::Rounds(_)) => None,
        }
    }

    fn log(&self, level: LogLevel, params: Members) {
        let wanted = self.log_level().is_some_and(|least| level >= least);
        if let Some(outlet) = self.outlet().filter(|_| wanted) {
            outlet.offer(notice::log_message(&params).into());
        }
    }

    fn visited(&self, params: Members) {
        if let Way::Session(route, session) = &self.way {
            let message: Bytes = notice::elicitation_complete(&params).into();
            // The request may have been answered long ago; the session's own stream outlives it.
            match session.standalone().or_else(|| route.outlet.clone()) {
                Some(Outlet::Channel(channel, _)) => drop(channel.try_send(message)),
                Some(outlet) => outlet.offer(message),
                None => tracing::debug!("a client that holds no stream is not told of a visited page"),
            }
        }
    }

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        match &self.way {
            Way::Session(_, session) => Some(session.client_key()),
            Way::Rounds(_) => None,
        }
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            if !self.capabilities.allows_question(&question) {
                return Err(AskError::Unsupported(question.kind));
            }
            let (route, session) = match &self.way {
                Way::Session(route, session) => (route, session),
                Way::Rounds(dialogue) => return dialogue.ask(question).await,
            };
            let outlet = route.outlet.clone().or_else(|| session.standalone());
            let outlet = outlet.ok_or(AskError::Unreachable)?;
            let (serial, answer) = session.questions.open().ok_or(AskError::Unreachable)?;
            let asked = Asked { session, serial, outlet: &outlet };
            let message = notice::question(&Id::number(serial), &question);
            if !outlet.push(message.into()).await {
                return Err(AskError::Unreachable);
            }
            let outcome = answer.await;
            drop(asked);
            match outcome {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(error)) => {
                    Err(AskError::Refused { code: error.code, message: error.message, data: error.data })
                }
                Err(_) => Err(AskError::Unreachable),
            }
        })
    }
}

/// A question that has been asked. When nobody waits for its answer any more, the client is told.
struct Asked<'a> {
    session: &'a Session,
    serial: u64,
    outlet: &'a Outlet,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.session.questions.close(self.serial) {
            self.outlet.offer(notice::cancelled(&Id::number(self.serial)).into());
        }
    }
}
