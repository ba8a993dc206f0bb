//! The client as the calls of a run see it. Questions and log messages pass. Progress does not: the client's token
//! belongs to the run, which reports its own. A call never becomes a task.

use std::sync::Arc;

use vmcp_domain::{
    AskError, BoxFuture, ClientCapabilities, ClientKey, ClientPort, LogLevel, Question, QuestionKind,
};
use vmcp_json::{Json, Members};

use crate::clock::RunClock;

/// The client of the calls of a run.
#[derive(Debug)]
pub struct RunPort {
    client: Arc<dyn ClientPort>,
    capabilities: ClientCapabilities,
    /// The clocks that stop while a person is asked.
    clocks: Vec<Arc<RunClock>>,
}

impl RunPort {
    /// A client whose user's time does not count for these clocks.
    #[must_use]
    pub fn new(client: Arc<dyn ClientPort>, clocks: Vec<Arc<RunClock>>) -> Self {
        let mut declared = client.capabilities().declared.clone();
        declared.remove("extensions");
        Self { client, capabilities: ClientCapabilities { declared }, clocks }
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
            // Only people take their time. Other questions are answered by programs.
            let asks_person = question.kind == QuestionKind::Elicitation;
            let stopped = self.clocks.iter().filter(|_| asks_person);
            let _pauses: Vec<_> = stopped.map(|clock| clock.pause()).collect();
            self.client.ask(question).await
        })
    }
}
