//! The state of one call over its rounds in 2026-07-28: the open questions, the output of the current round,
//! and the outcome of the call. `rounds` decides when a round ends and which request starts the next one.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use vmcp_domain::{AskError, Question};
use vmcp_json::{Json, Members};

use crate::request::message_sender::MessageSender;
use crate::request::outcome::DispatchOutcome;

/// The maximum number of open questions of one call.
const QUESTIONS_MAX: usize = 32;

/// Where the messages of one round are sent.
#[derive(Clone, Debug)]
pub(crate) struct RoundOutput {
    /// The progress token of the round's request.
    pub(crate) progress_token: Option<Json>,
    /// The sender; `None` if the client does not accept events.
    pub(crate) sender: Option<MessageSender>,
}

/// The state that a call shares with the rounds of its client.
#[derive(Debug)]
pub(crate) struct RoundState {
    state: Mutex<RoundInner>,
    notify: Notify,
}

#[derive(Debug)]
struct RoundInner {
    serial: u64,
    questions: Vec<OpenQuestion>,
    /// `None` between two rounds.
    output: Option<RoundOutput>,
    outcome: Option<DispatchOutcome>,
    is_closed: bool,
}

#[derive(Debug)]
struct OpenQuestion {
    serial: u64,
    question: Question,
    answer_sender: oneshot::Sender<Json>,
}

/// The result of waiting for the end of a round.
#[derive(Debug)]
pub(crate) enum RoundResult {
    /// The call is done.
    Done(DispatchOutcome),
    /// The call waits for answers to these questions, each with its key.
    Questions(Vec<(String, Question)>),
}

impl RoundState {
    /// Starts with the first round.
    pub(crate) fn new(output: RoundOutput) -> Self {
        let state = RoundInner {
            serial: 0,
            questions: Vec::new(),
            output: Some(output),
            outcome: None,
            is_closed: false,
        };
        Self { state: Mutex::new(state), notify: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, RoundInner> {
        self.state.lock()
    }

    /// The output of the current round.
    pub(crate) fn output(&self) -> Option<RoundOutput> {
        self.state().output.clone()
    }

    /// Ends a round. Messages before the next round are dropped.
    pub(crate) fn end_round(&self) {
        self.state().output = None;
    }

    /// Begins the next round and passes the client's answers to the waiting questions.
    pub(crate) fn begin_round(&self, output: Option<RoundOutput>, answers: &Members) {
        let mut state = self.state();
        state.output = output;
        let open = std::mem::take(&mut state.questions);
        for question in open {
            match answers.get(&question.serial.to_string()) {
                // The call may have stopped waiting for the answer.
                Some(answer) => drop(question.answer_sender.send(answer.clone())),
                None => state.questions.push(question),
            }
        }
    }

    /// Asks a question and waits for the answer, which arrives with a later round.
    pub(crate) async fn ask(&self, question: Question) -> Result<Json, AskError> {
        let (serial, answer) = {
            let mut state = self.state();
            if state.is_closed || state.questions.len() >= QUESTIONS_MAX {
                return Err(AskError::Unreachable);
            }
            let (sender, receiver) = oneshot::channel();
            state.serial += 1;
            let serial = state.serial;
            state.questions.push(OpenQuestion { serial, question, answer_sender: sender });
            (serial, receiver)
        };
        self.notify.notify_one();
        let _withdraw_on_drop = WithdrawOnDrop { round_state: self, serial };
        answer.await.map_err(|_| AskError::Unreachable)
    }

    /// Refuses open and future questions.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.questions = Vec::new();
    }

    /// Records the outcome of the call.
    pub(crate) fn finish(&self, outcome: DispatchOutcome) {
        self.state().outcome = Some(outcome);
        self.notify.notify_one();
    }

    /// Waits until the call has an open question.
    pub(crate) async fn wait_for_question(&self) {
        loop {
            if !self.state().questions.is_empty() {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Waits until the call is done or has an open question.
    pub(crate) async fn wait_for_result(&self) -> RoundResult {
        loop {
            {
                let mut state = self.state();
                if let Some(outcome) = state.outcome.take() {
                    return RoundResult::Done(outcome);
                }
                if !state.questions.is_empty() {
                    let questions =
                        state.questions.iter().map(|open| (open.serial.to_string(), open.question.clone()));
                    return RoundResult::Questions(questions.collect());
                }
            }
            self.notify.notified().await;
        }
    }
}

/// Removes a question when the call stops waiting for its answer.
struct WithdrawOnDrop<'a> {
    round_state: &'a RoundState,
    serial: u64,
}

impl Drop for WithdrawOnDrop<'_> {
    fn drop(&mut self) {
        self.round_state.state().questions.retain(|open| open.serial != self.serial);
    }
}
