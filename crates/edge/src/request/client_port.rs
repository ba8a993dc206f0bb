//! The domain's `ClientPort` for one request. Notifications go into the request's stream. A question waits
//! for the answer that the client posts in the same session, or sends with the next round.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use vmcp_domain::{AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, LogLevel, Question};
use vmcp_json::{Json, Members};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::outgoing;

use crate::request::message_sender::MessageSender;
use crate::sessions::Session;
use crate::v2026_07_28::round_state::{RoundOutput, RoundState};

/// Where the minimum level of log messages comes from.
#[derive(Debug)]
pub(crate) enum LogLevelSource {
    /// The request itself (2026-07-28). `None` if the client wants no log messages.
    Request(Option<LogLevel>),
    /// The session.
    Session,
}

/// The domain's `ClientPort` for one request.
pub(crate) struct RequestClientPort {
    /// Where the minimum level of log messages comes from.
    pub(crate) log_level_source: LogLevelSource,
    /// The capabilities that the client declared.
    pub(crate) capabilities: Arc<ClientCapabilities>,
    /// How messages and questions reach the client.
    pub(crate) delivery: Delivery,
}

/// How messages and questions reach a client.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Notifications during the request; questions are sent as requests in the session.
    Session(RoundOutput, Arc<Session>),
    /// Notifications during each round; a question ends the round.
    Rounds(Arc<RoundState>),
}

impl RequestClientPort {
    fn output(&self) -> Option<RoundOutput> {
        match &self.delivery {
            Delivery::Session(output, _) => Some(output.clone()),
            Delivery::Rounds(round_state) => round_state.output(),
        }
    }

    fn sender(&self) -> Option<MessageSender> {
        self.output()?.sender
    }
}

impl fmt::Debug for RequestClientPort {
    /// Prints neither the client nor any payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("logs", &self.log_level_source).finish_non_exhaustive()
    }
}

impl ClientPort for RequestClientPort {
    fn wants_progress(&self) -> bool {
        self.output().is_some_and(|output| output.progress_token.is_some() && output.sender.is_some())
    }

    fn progress(&self, params: Members) {
        if let Some(RoundOutput { progress_token: Some(token), sender: Some(sender) }) = self.output() {
            sender.send_lossy(outgoing::progress(&token, &params).into());
        }
    }

    fn log_level(&self) -> Option<LogLevel> {
        self.sender()?;
        match (&self.log_level_source, &self.delivery) {
            (LogLevelSource::Request(level), _) => *level,
            (LogLevelSource::Session, Delivery::Session(_, session)) => Some(session.log_level()),
            (LogLevelSource::Session, Delivery::Rounds(_)) => None,
        }
    }

    fn log(&self, level: LogLevel, params: Members) {
        let wanted = self.log_level().is_some_and(|least| level >= least);
        if let Some(sender) = self.sender().filter(|_| wanted) {
            sender.send_lossy(outgoing::log_message(&params).into());
        }
    }

    fn elicitation_complete(&self, params: Members) {
        if let Delivery::Session(output, session) = &self.delivery {
            let message: Bytes = outgoing::elicitation_complete(&params).into();
            // The request may have been answered already. The session's standalone stream outlives it, so
            // that stream comes first.
            match session.standalone_sender().or_else(|| output.sender.clone()) {
                Some(MessageSender::Channel(channel, _)) => drop(channel.try_send(message)),
                Some(sender) => sender.send_lossy(message),
                None => tracing::debug!("a client that holds no stream is not told of a visited page"),
            }
        }
    }

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        match &self.delivery {
            Delivery::Session(_, session) => Some(session.client_key()),
            Delivery::Rounds(_) => None,
        }
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            if !self.capabilities.supports_question(&question) {
                return Err(AskError::Unsupported(question.kind));
            }
            let (output, session) = match &self.delivery {
                Delivery::Session(output, session) => (output, session),
                Delivery::Rounds(round_state) => return round_state.ask(question).await,
            };
            let sender = output.sender.clone().or_else(|| session.standalone_sender());
            let sender = sender.ok_or(AskError::Unreachable)?;
            let (serial, answer) = session.questions.open().ok_or(AskError::Unreachable)?;
            let question_guard = QuestionGuard { session, serial, sender: &sender };
            let message = outgoing::question(&Id::number(serial), &question);
            if !sender.send(message.into()).await {
                return Err(AskError::Unreachable);
            }
            let outcome = answer.await;
            drop(question_guard);
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

/// A question that has been sent. If it is dropped before the answer arrives, the client gets
/// `notifications/cancelled`.
struct QuestionGuard<'a> {
    session: &'a Session,
    serial: u64,
    sender: &'a MessageSender,
}

impl Drop for QuestionGuard<'_> {
    fn drop(&mut self) {
        if self.session.questions.close(self.serial) {
            self.sender.send_lossy(outgoing::cancelled(&Id::number(self.serial)).into());
        }
    }
}
