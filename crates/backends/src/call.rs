//! One call of a client: waits for the connection, sends the request, and repeats it only where the backend
//! certainly did nothing. It also drives the rounds of a backend that requires input.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use vmcp_domain::{
    BackendPromptName, BackendToolName, BackendUri, CallContext, Cause, ClientPort, Continuation, Error,
    Reply, ResultType, TaskOperation, UriTemplate,
};
use vmcp_json::{Ambiguity, Json, Members};
use vmcp_wire::client::{
    Dialect, HopMeta, build_continuation as next_round, read_input_required, read_reply,
    read_url_elicitations, relayable_capabilities, sanitize_tool_result,
};
use vmcp_wire::jsonrpc::RpcError;
use vmcp_wire::server::input_required;
use vmcp_wire::{code, method, trace};

use crate::call_hold::CallHold;
use crate::connection::Connection;
use crate::connection::inventory;
use crate::connection::link::McpRequest;
use crate::connection::pending_requests::Purpose;
use crate::connection::requester::Requester;
use crate::failure::{Failure, FailureClass};
use crate::http::client::{filter_passthrough_headers, set_header};
use crate::lifecycle::readiness::wait_until_ready;
use crate::lifecycle::supervised::SupervisedConnection;
use crate::time_budget::{TimeBudget, TimedClientPort};

/// Maximum number of rounds driven for one call.
const ROUNDS_MAX: usize = 10;

/// A client's request to a backend.
#[derive(Clone, Debug)]
pub(crate) enum BackendRequest {
    Tool(BackendToolName, Option<Json>, Members),
    Resource(BackendUri, Members),
    Prompt(BackendPromptName, Option<Json>, Members),
    CompletePromptArgument(BackendPromptName, Members),
    CompleteTemplateVariable(UriTemplate, Members),
    Task(TaskOperation, String, Members),
}

impl BackendRequest {
    fn method(&self) -> &'static str {
        match self {
            Self::Tool(..) => method::TOOLS_CALL,
            Self::Resource(..) => method::RESOURCES_READ,
            Self::Prompt(..) => method::PROMPTS_GET,
            Self::CompletePromptArgument(..) | Self::CompleteTemplateVariable(..) => method::COMPLETE,
            Self::Task(verb, ..) => method::task_method(*verb),
        }
    }

    /// The name repeated in a header (2026-07-28, Streamable HTTP, "Standard Request Headers").
    fn name(&self) -> Option<&str> {
        match self {
            Self::Tool(name, ..) => Some(name.as_str()),
            Self::Resource(uri, _) => Some(uri.as_str()),
            Self::Prompt(name, ..) => Some(name.as_str()),
            Self::Task(_, id, _) => Some(id),
            Self::CompletePromptArgument(..) | Self::CompleteTemplateVariable(..) => None,
        }
    }

    fn build_params(&self, dialect: &Dialect, continuation: Continuation, hop: &HopMeta) -> Json {
        match self.clone() {
            Self::Tool(name, arguments, extra) => {
                dialect.call_tool(&name, arguments, continuation, extra, hop)
            }
            Self::Resource(uri, extra) => dialect.read_resource(&uri, continuation, extra, hop),
            Self::Prompt(name, arguments, rest) => {
                dialect.get_prompt(&name, arguments, continuation, rest, hop)
            }
            Self::CompletePromptArgument(name, extra) => dialect.complete_prompt(&name, extra, hop),
            Self::CompleteTemplateVariable(template, extra) => {
                dialect.complete_template(&template, extra, hop)
            }
            Self::Task(_, id, rest) => dialect.task(&id, rest, hop),
        }
    }
}

/// One call in progress.
struct Call<'a> {
    supervised: &'a SupervisedConnection,
    ctx: &'a CallContext,
    request: BackendRequest,
    client: Arc<TimedClientPort>,
    time_budget: Arc<TimeBudget>,
}

/// Executes a request within the call's time budget.
///
/// # Errors
/// The backend's failure, or the time-out error of the budget once that has expired.
pub(crate) async fn execute(
    supervised: &SupervisedConnection,
    ctx: &CallContext,
    request: BackendRequest,
    continuation: Continuation,
) -> Result<Reply, Error> {
    let timeouts = supervised.policy.timeouts;
    let time_budget = TimeBudget::new(timeouts.call, timeouts.call_max, ctx.deadline);
    let client = TimedClientPort::new(Arc::clone(&ctx.client), Arc::clone(&time_budget));
    let call = Call { supervised, ctx, request, client, time_budget: Arc::clone(&time_budget) };
    // Dropping the `drive_rounds` future cancels the request at the backend.
    let reply = tokio::select! {
        biased;
        reply = Box::pin(call.drive_rounds(continuation)) => reply,
        () = time_budget.wait_until_expired() => Err(time_budget.timeout_error(&supervised.policy.id)),
    };
    call.explain_missing_capability(reply)
}

impl Call<'_> {
    /// Replaces the result of a failed call with `MissingCapability` if the backend asked for a capability
    /// that the client lacks. This applies to clients of 2026-07-28 only. A backend with sessions cannot see
    /// the capabilities of the client behind the gateway. A call that succeeds without the answer keeps its
    /// reply.
    fn explain_missing_capability(&self, reply: Result<Reply, Error>) -> Result<Reply, Error> {
        let failed = match &reply {
            Ok(reply) => reply.is_error,
            Err(error) => matches!(error, Error::BackendRefused { .. }),
        };
        match self.client.missing_capability().filter(|_| failed && !self.ctx.protocol.has_sessions()) {
            Some(kind) => Err(Error::MissingCapability(kind.into())),
            None => reply,
        }
    }

    /// Sends the request until there is a reply for the client. A client of 2026-07-28 receives
    /// `input_required` replies and drives the rounds itself. For a client with sessions, this function
    /// drives the rounds.
    async fn drive_rounds(&self, mut continuation: Continuation) -> Result<Reply, Error> {
        let is_driven_here = self.ctx.protocol.has_sessions();
        for _ in 0..ROUNDS_MAX {
            let reply = self.send_with_retry(continuation).await;
            let reply = reply.map_err(|failure| self.supervised.to_error(failure))?;
            if !(is_driven_here && reply.result_type == ResultType::InputRequired) {
                return Ok(reply);
            }
            continuation = Box::pin(self.collect_answers(&reply)).await?;
        }
        Err(self.backend_failed("it wants input again and again"))
    }

    /// Asks the client all questions of an `input_required` reply concurrently.
    async fn collect_answers(&self, reply: &Reply) -> Result<Continuation, Error> {
        let wanted = read_input_required(reply).map_err(|fault| self.backend_failed(fault))?;
        let mut asking: FuturesUnordered<_> = wanted
            .questions
            .into_iter()
            .map(|(key, question)| async {
                let kind = question.kind;
                (key, kind, self.client.ask(question).await)
            })
            .collect();
        let mut answers = Vec::with_capacity(asking.len());
        while let Some((key, kind, answer)) = asking.next().await {
            match answer {
                Ok(answer) => answers.push((key, answer)),
                Err(vmcp_domain::AskError::Unsupported(_)) => {
                    return Err(Error::MissingCapability(kind.into()));
                }
                Err(error) => {
                    return Err(self.backend_failed(format_args!("its question went unanswered: {error}")));
                }
            }
        }
        Ok(next_round(answers, wanted.request_state))
    }

    fn backend_failed(&self, cause: impl std::fmt::Display) -> Error {
        Error::BackendFailed { backend: self.supervised.policy.id.clone(), cause: Cause::new(cause) }
    }

    /// Sends the request, and repeats it once if the backend refused it unread. A header mismatch also leads
    /// to a repetition if the tool's mirrored arguments have changed.
    async fn send_with_retry(&self, continuation: Continuation) -> Result<Reply, Failure> {
        if let Some(remaining) = self.supervised.retry_after.remaining() {
            return Err(Failure::Paused(remaining));
        }
        let connection = wait_until_ready(self.supervised).await?;
        let outcome = self.send_once(&connection, continuation.clone()).await;
        if let Err(Failure::Busy(pause, _)) = &outcome {
            tracing::info!(backend = %self.supervised.policy.id, seconds = pause.as_secs(), "the backend asks for a pause");
            self.supervised.retry_after.set(*pause);
        }
        match outcome {
            Err(Failure::StaleConnection(..)) => {
                let connection = wait_until_ready(self.supervised).await?;
                Box::pin(self.send_once(&connection, continuation)).await
            }
            Err(Failure::Refused(error))
                if error.code == code::HEADER_MISMATCH && connection.mirrors_arguments =>
            {
                // The tool's definition may have changed (2026-07-28, Streamable HTTP, "Client Behavior").
                let before = connection.mirrored_arguments();
                Box::pin(inventory::refresh_mirrored_arguments(
                    &connection,
                    self.supervised.policy.timeouts.call,
                ))
                .await?;
                if before == connection.mirrored_arguments() {
                    return Err(Failure::Refused(error));
                }
                Box::pin(self.send_once(&connection, continuation)).await
            }
            outcome => outcome,
        }
    }

    async fn send_once(&self, connection: &Connection, continuation: Continuation) -> Result<Reply, Failure> {
        if connection.has_session() && continuation.request_state.is_some() {
            // A backend with sessions never issues a `requestState`, and the edge does not know this one.
            // Another replica issued it, or this replica before a restart. Calling again might repeat a side
            // effect.
            let text = "the request that `requestState` belongs to is not known here; begin it again";
            return Err(Failure::Refused(RpcError::new(code::INVALID_PARAMS, text)));
        }
        if connection.has_session() && matches!(self.request, BackendRequest::Task(..)) {
            let text = "the backend knows no tasks any more";
            return Err(Failure::Refused(RpcError::new(code::INVALID_PARAMS, text)));
        }
        // A backend with sessions asks no questions by `input_required`, so the answers to such questions are
        // dropped.
        let continuation = if connection.has_session() { Continuation::default() } else { continuation };
        connection.lower_log_level(self.client.log_level()).await;
        let client: Arc<dyn ClientPort> = Arc::<TimedClientPort>::clone(&self.client);
        let _turn_guard = if connection.has_session() {
            connection.link.pending_requests().wait_for_turn(&self.ctx.caller, &*client).await
        } else {
            None
        };
        let purpose = Purpose::Call(Arc::clone(&client), Requester::from_context(self.ctx, &*client));
        let mirrored_headers = self.mirrored_headers(connection).map_err(|fault| {
            let text = format!("an argument that is repeated as a header: {fault}");
            Failure::Refused(RpcError::new(code::INVALID_PARAMS, text))
        })?;
        let request = |id| self.build_request(connection, continuation, mirrored_headers, id);
        let outcome = connection.exchange(purpose, request).await;
        if let Err(Failure::Refused(error)) = &outcome
            && let Some(url_elicitations) = read_url_elicitations(error)
        {
            if self.ctx.protocol.has_sessions() {
                // The error itself sends the client to the page.
                url_elicitations.iter().for_each(|(_, question)| {
                    connection.link.pending_requests().url_elicitations().register(question, &client)
                });
            } else if url_elicitations.iter().all(|(_, question)| self.client.can_be_asked(question)) {
                // The error that 2025-11-25 defines for this does not exist in 2026-07-28, which uses
                // `input_required`.
                return Ok(input_required(
                    url_elicitations.iter().map(|(key, question)| (key.clone(), question)),
                    None,
                ));
            }
        }
        let result = outcome?;
        let reply = read_reply(connection.dialect.version, &result);
        let mut reply = reply.map_err(|fault| Failure::indeterminate(FailureClass::Protocol, fault))?;
        if matches!(self.request, BackendRequest::Tool(..)) {
            sanitize_tool_result(&mut reply);
        }
        Ok(reply)
    }

    fn build_request(
        &self,
        connection: &Connection,
        continuation: Continuation,
        mirrored_headers: Vec<(String, String)>,
        id: u64,
    ) -> McpRequest {
        let mut hop = HopMeta {
            forwarded: self.ctx.meta.clone(),
            progress_token: self.client.wants_progress().then_some(id),
            ..HopMeta::default()
        };
        if !connection.has_session() {
            hop.log_level = self.client.log_level();
            hop.capabilities =
                relayable_capabilities(&self.client.capabilities().declared, self.ctx.protocol);
        }
        let mut headers = filter_passthrough_headers(&self.ctx.passthrough_headers);
        for (name, value) in trace::to_headers(&self.ctx.meta) {
            set_header(&mut headers, name, &value);
        }
        for (name, value) in mirrored_headers {
            set_header(&mut headers, &name, &value);
        }
        McpRequest {
            method: self.request.method(),
            name: self.request.name().map(str::to_owned),
            params: self.request.build_params(&connection.dialect, continuation, &hop),
            headers,
            // A tool call may have side effects each time.
            is_idempotent: !matches!(self.request, BackendRequest::Tool(..)),
            is_long_lived: false,
            hold: self.ctx.hold.clone().map(|hold| CallHold::new(hold, Arc::clone(&self.time_budget))),
        }
    }

    /// The arguments that the backend wants repeated as headers, as pairs of header name and value.
    ///
    /// # Errors
    /// [`Ambiguity`] if a name on the path to an argument occurs twice or in another letter case. The backend
    /// could then read a header and an argument that differ.
    fn mirrored_headers(&self, connection: &Connection) -> Result<Vec<(String, String)>, Ambiguity> {
        let mut headers = Vec::new();
        let BackendRequest::Tool(name, Some(arguments), _) = &self.request else {
            return Ok(headers);
        };
        if !connection.mirrors_arguments {
            return Ok(headers);
        }
        for mirrored_headers in connection.mirrored_arguments().get(name).into_iter().flatten() {
            if let Some(value) = mirrored_headers.header_value(arguments)? {
                headers.push((mirrored_headers.header.clone(), value));
            }
        }
        Ok(headers)
    }
}
