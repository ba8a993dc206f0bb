//! The client as the calls of a run see it. Questions and log messages pass. Progress does not: the client's token
//! belongs to the run, which reports its own. A step never becomes a task.

use std::sync::Arc;

use vmcp_domain::{AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, LogLevel, Question};
use vmcp_json::{Json, Members};

use crate::run::clock::RunClock;

/// The client of the calls of one run.
#[derive(Debug)]
pub(crate) struct RunPort {
    client: Arc<dyn ClientPort>,
    capabilities: ClientCapabilities,
    clock: Arc<RunClock>,
}

impl RunPort {
    pub(crate) fn new(client: Arc<dyn ClientPort>, clock: Arc<RunClock>) -> Self {
        let mut declared = client.capabilities().declared.clone();
        declared.remove("extensions");
        Self { client, capabilities: ClientCapabilities { declared }, clock }
    }
}

impl ClientPort for RunPort {
    fn wants_progress(&self) -> bool {
        false
    }

    fn progress(&self, _params: Members) {}

    fn log_level(&self) -> Option<LogLevel> {
        self.client.log_level()
    }

    fn log(&self, level: LogLevel, params: Members) {
        self.client.log(level, params);
    }

    fn elicitation_complete(&self, params: Members) {
        self.client.elicitation_complete(params);
    }

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        self.client.client_key()
    }

    /// The time that a person needs is not the run's.
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        Box::pin(async move {
            let _pause = self.clock.pause();
            self.client.ask(question).await
        })
    }
}
