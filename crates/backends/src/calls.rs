//! One call of a client, from the seam to the wire: waiting for the connection, sending once, sending again only where
//! the backend certainly did nothing, and driving the rounds of a backend that wants input.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use vmcp_domain::{
    Ambiguity, BackendPromptName, BackendToolName, BackendUri, CallContext, Cause, ClientPort, Continuation,
    Error, Json, Members, Reply, Stage, TaskVerb, UriTemplate,
};
use vmcp_wire::client::{
    Dialect, Hop, continuation as next_round, mend_tool_result, read_input_required, read_reply, read_visits,
    relayable,
};
use vmcp_wire::jsonrpc::RpcError;
use vmcp_wire::server::input_required;
use vmcp_wire::{code, method, trace};

use crate::connection::Connection;
use crate::failure::{Class, Failure};
use crate::flights::{Asker, Purpose};
use crate::held::Held;
use crate::http::{passthrough, put};
use crate::inventory;
use crate::link::Request;
use crate::patience::{Patience, TimedPort};
use crate::supervisor::{Shared, ready};

/// The most rounds driven for one call.
const ROUNDS_MAX: usize = 10;

/// What a client asks of a backend.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Tool(BackendToolName, Option<Json>, Members),
    Resource(BackendUri, Members),
    Prompt(BackendPromptName, Option<Json>, Members),
    PromptArgument(BackendPromptName, Members),
    TemplateVariable(UriTemplate, Members),
    Task(TaskVerb, String, Members),
}

impl Asked {
    fn method(&self) -> &'static str {
        match self {
            Self::Tool(..) => method::TOOLS_CALL,
            Self::Resource(..) => method::RESOURCES_READ,
            Self::Prompt(..) => method::PROMPTS_GET,
            Self::PromptArgument(..) | Self::TemplateVariable(..) => method::COMPLETE,
            Self::Task(verb, ..) => method::of_task(*verb),
        }
    }

    /// The name repeated in a header (2026-07-28, Streamable HTTP, "Standard Request Headers").
    fn name(&self) -> Option<&str> {
        match self {
            Self::Tool(name, ..) => Some(name.as_str()),
            Self::Resource(uri, _) => Some(uri.as_str()),
            Self::Prompt(name, ..) => Some(name.as_str()),
            Self::Task(_, id, _) => Some(id),
            Self::PromptArgument(..) | Self::TemplateVariable(..) => None,
        }
    }

    fn params(&self, dialect: &Dialect, continuation: Continuation, hop: &Hop) -> Json {
        match self.clone() {
            Self::Tool(name, arguments, rest) => dialect.call_tool(&name, arguments, continuation, rest, hop),
            Self::Resource(uri, rest) => dialect.read_resource(&uri, continuation, rest, hop),
            Self::Prompt(name, arguments, rest) => {
                dialect.get_prompt(&name, arguments, continuation, rest, hop)
            }
            Self::PromptArgument(name, rest) => dialect.complete_prompt(&name, rest, hop),
            Self::TemplateVariable(template, rest) => dialect.complete_template(&template, rest, hop),
            Self::Task(_, id, rest) => dialect.task(&id, rest, hop),
        }
    }
}

/// One call under way.
struct Call<'a> {
    shared: &'a Shared,
    ctx: &'a CallContext,
    asked: Asked,
    client: Arc<TimedPort>,
    patience: Arc<Patience>,
}

/// Does what is asked, within the call's time.
pub(crate) async fn perform(
    shared: &Shared,
    ctx: &CallContext,
    asked: Asked,
    continuation: Continuation,
) -> Result<Reply, Error> {
    let timeouts = shared.policy.timeouts;
    let patience = Patience::new(timeouts.call, timeouts.call_max, ctx.deadline);
    let client = TimedPort::new(Arc::clone(&ctx.client), Arc::clone(&patience));
    let call = Call { shared, ctx, asked, client, patience: Arc::clone(&patience) };
    // Dropping the work takes the request back at the backend.
    let reply = tokio::select! {
        biased;
        reply = Box::pin(call.rounds(continuation)) => reply,
        () = patience.spent() => Err(patience.fault(&shared.policy.id)),
    };
    call.explain(reply)
}

impl Call<'_> {
    /// Names what the client lacks when a call failed for want of it. Of the session era a backend cannot know what the
    /// client behind the gateway can do; one that asks in vain and goes on without is none the worse.
    fn explain(&self, reply: Result<Reply, Error>) -> Result<Reply, Error> {
        let failed = match &reply {
            Ok(reply) => reply.failed,
            Err(error) => matches!(error, Error::BackendRefused { .. }),
        };
        match self.client.lacked().filter(|_| failed && !self.ctx.protocol.has_sessions()) {
            Some(kind) => Err(Error::MissingCapability(kind.into())),
            None => reply,
        }
    }

    /// Asks until there is a reply for the client. A client of 2026-07-28 goes the rounds itself; for one of the
    /// session era they are gone here.
    async fn rounds(&self, mut continuation: Continuation) -> Result<Reply, Error> {
        let drives = self.ctx.protocol.has_sessions();
        for _ in 0..ROUNDS_MAX {
            let reply = self.once_or_twice(continuation).await;
            let reply = reply.map_err(|failure| self.shared.error(failure))?;
            if !(drives && reply.stage == Stage::InputRequired) {
                return Ok(reply);
            }
            continuation = Box::pin(self.gather(&reply)).await?;
        }
        Err(self.broken("it wants input again and again"))
    }

    /// Asks the client everything that the backend wants to know.
    async fn gather(&self, reply: &Reply) -> Result<Continuation, Error> {
        let wanted = read_input_required(reply).map_err(|fault| self.broken(fault))?;
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
                Err(error) => return Err(self.broken(format_args!("its question went unanswered: {error}"))),
            }
        }
        Ok(next_round(answers, wanted.request_state))
    }

    fn broken(&self, cause: impl std::fmt::Display) -> Error {
        Error::BackendFailed { backend: self.shared.policy.id.clone(), cause: Cause::new(cause) }
    }

    /// Asks once; and once more when the backend refused the request unread.
    async fn once_or_twice(&self, continuation: Continuation) -> Result<Reply, Failure> {
        if let Some(left) = self.shared.pause.left() {
            return Err(Failure::Paused(left));
        }
        let connection = ready(self.shared).await?;
        let outcome = self.once(&connection, continuation.clone()).await;
        if let Err(Failure::Busy(pause, _)) = &outcome {
            tracing::info!(backend = %self.shared.policy.id, seconds = pause.as_secs(), "the backend asks for a pause");
            self.shared.pause.keep(*pause);
        }
        match outcome {
            Err(Failure::Stale(..)) => {
                let connection = ready(self.shared).await?;
                Box::pin(self.once(&connection, continuation)).await
            }
            Err(Failure::Refused(error))
                if error.code == code::HEADER_MISMATCH && connection.mirrors_arguments =>
            {
                // The tool's definition may have changed (2026-07-28, Streamable HTTP, "Client Behavior").
                let before = connection.mirrors();
                Box::pin(inventory::renew_mirrors(&connection, self.shared.policy.timeouts.call)).await?;
                if before == connection.mirrors() {
                    return Err(Failure::Refused(error));
                }
                Box::pin(self.once(&connection, continuation)).await
            }
            outcome => outcome,
        }
    }

    async fn once(&self, connection: &Connection, continuation: Continuation) -> Result<Reply, Failure> {
        if connection.has_session() && continuation.request_state.is_some() {
            // A state that no backend of the session era can have given, and the edge does not know: it was made by
            // another replica, or before a restart. Calling again might do something a second time.
            let text = "the request that `requestState` belongs to is not known here; begin it again";
            return Err(Failure::Refused(RpcError::new(code::INVALID_PARAMS, text)));
        }
        if connection.has_session() && matches!(self.asked, Asked::Task(..)) {
            let text = "the backend knows no tasks any more";
            return Err(Failure::Refused(RpcError::new(code::INVALID_PARAMS, text)));
        }
        // The answers are to questions that were no questions to a backend of the session era.
        let continuation = if connection.has_session() { Continuation::default() } else { continuation };
        connection.lower_level(self.client.log_level()).await;
        let client: Arc<dyn ClientPort> = Arc::<TimedPort>::clone(&self.client);
        let _turn = if connection.has_session() {
            connection.link.flights().turn(&self.ctx.caller, &*client).await
        } else {
            None
        };
        let purpose = Purpose::Call(Arc::clone(&client), Asker::of(self.ctx, &*client));
        let mirrored = self.mirrored(connection).map_err(|fault| {
            let text = format!("an argument that is repeated as a header: {fault}");
            Failure::Refused(RpcError::new(code::INVALID_PARAMS, text))
        })?;
        let request = |id| self.request(connection, continuation, mirrored, id);
        let outcome = connection.exchange(purpose, request).await;
        if let Err(Failure::Refused(error)) = &outcome
            && let Some(visits) = read_visits(error)
        {
            if self.ctx.protocol.has_sessions() {
                // The client is sent there by the error itself.
                visits
                    .iter()
                    .for_each(|(_, visit)| connection.link.flights().visits().expect(visit, &client));
            } else if visits.iter().all(|(_, visit)| self.client.can_be_asked(visit)) {
                // The error that 2025-11-25 has for it does not exist in 2026-07-28, which asks.
                return Ok(input_required(visits.iter().map(|(key, visit)| (key.clone(), visit)), None));
            }
        }
        let result = outcome?;
        let reply = read_reply(connection.dialect.version, &result);
        let mut reply = reply.map_err(|fault| Failure::broken(Class::Protocol, fault))?;
        if matches!(self.asked, Asked::Tool(..)) {
            mend_tool_result(&mut reply);
        }
        Ok(reply)
    }

    fn request(
        &self,
        connection: &Connection,
        continuation: Continuation,
        mirrored: Vec<(String, String)>,
        id: u64,
    ) -> Request {
        let mut hop = Hop {
            travelling: self.ctx.meta.clone(),
            progress_token: self.client.wants_progress().then_some(id),
            ..Hop::default()
        };
        if !connection.has_session() {
            hop.log_level = self.client.log_level();
            hop.capabilities = relayable(&self.client.capabilities().declared, self.ctx.protocol);
        }
        let mut headers = passthrough(&self.ctx.passthrough_headers);
        for (name, value) in trace::to_headers(&self.ctx.meta) {
            put(&mut headers, name, &value);
        }
        for (name, value) in mirrored {
            put(&mut headers, &name, &value);
        }
        Request {
            method: self.asked.method(),
            name: self.asked.name().map(str::to_owned),
            params: self.asked.params(&connection.dialect, continuation, &hop),
            headers,
            // A tool may do something every time it is called.
            repeatable: !matches!(self.asked, Asked::Tool(..)),
            endless: false,
            held: self.ctx.hold.clone().map(|hold| Held::new(hold, Arc::clone(&self.patience))),
        }
    }

    /// The arguments that the backend wants repeated as headers, by the headers' names.
    ///
    /// # Errors
    /// When an argument is given in two ways, so that header and argument may differ for the backend.
    fn mirrored(&self, connection: &Connection) -> Result<Vec<(String, String)>, Ambiguity> {
        let mut headers = Vec::new();
        let Asked::Tool(name, Some(arguments), _) = &self.asked else {
            return Ok(headers);
        };
        if !connection.mirrors_arguments {
            return Ok(headers);
        }
        for mirrored in connection.mirrors().get(name).into_iter().flatten() {
            if let Some(value) = mirrored.value(arguments)? {
                headers.push((mirrored.header.clone(), value));
            }
        }
        Ok(headers)
    }
}
