//! Requests of 2026-07-28 that may take several rounds (Multi Round-Trip Requests). A backend of that version
//! ends its rounds itself, and its messages are relayed. A backend with sessions asks during a call. The call
//! then stays pending here, the client receives the questions, and the call continues when the client returns
//! the answers.

use std::sync::Arc;

use vmcp_wire::server::{RequestError, input_required, read_input_responses};

use crate::http::response::Answer;
use crate::request::dispatch::{self, RequestFuture, RequestJob};
use crate::request::outcome::DispatchOutcome;
use crate::state::EdgeState;
use crate::v2026_07_28::pending_calls::{Lookup, OUTCOME_TTL, PendingCall, PendingCalls, StateBinding};
use crate::v2026_07_28::round_state::{RoundResult, RoundState};

/// Executes a request until the end of one round. `round_state` is the round state of the request's own client
/// port.
pub(crate) async fn run(task: RequestJob, round_state: Arc<RoundState>) -> Answer {
    let Some(request) = task.request.as_multi_round() else {
        return Box::pin(dispatch::run_to_answer(task)).await;
    };
    let lookup = match request.continuation.request_state.as_deref() {
        None => Lookup::Foreign,
        Some(state) => task.edge.pending_calls.find(state, &StateBinding::of(&task.ctx.caller, &request)),
    };
    match lookup {
        Lookup::Foreign => first_round(task, round_state).await,
        Lookup::Refused(why) => refuse(&task, why.to_owned()),
        Lookup::Found(call) => Box::pin(next_round(&task, &round_state, call)).await,
    }
}

fn refuse(task: &RequestJob, why: String) -> Answer {
    let (status, error) = RequestError::InvalidParams(why).answer(task.ctx.protocol);
    Answer::error(status, Some(&task.id), &error)
}

/// The first round: starts the call.
async fn first_round(task: RequestJob, round_state: Arc<RoundState>) -> Answer {
    // A closure, because few calls need the binding and the digest covers arguments of up to megabytes.
    let (caller, request) = (task.ctx.caller.clone(), task.request.clone());
    let binding = || request.as_multi_round().map(|request| StateBinding::of(&caller, &request));
    let (edge, id, protocol) = (Arc::clone(&task.edge), task.id.clone(), task.ctx.protocol);
    let mut request_future = dispatch::run(task);
    let outcome = tokio::select! {
        biased;
        outcome = &mut request_future => outcome,
        () = round_state.wait_for_question() => match detach(&edge, request_future, &round_state, binding()) {
            Ok(call) => {
                let outcome = Box::pin(run_round(&edge, &call)).await;
                return dispatch::write_answer(outcome, &edge, &id, protocol);
            }
            // The call cannot become pending, so its questions are refused and it continues without answers.
            Err(request_future) => {
                tracing::warn!("too many calls wait for their clients; a question is refused");
                round_state.close();
                request_future.await
            }
        },
    };
    dispatch::write_answer(outcome, &edge, &id, protocol)
}

/// Moves a call to its own task and makes it pending. Returns the call as the error if a limit is reached.
fn detach(
    edge: &Arc<EdgeState>,
    request_future: RequestFuture,
    round_state: &Arc<RoundState>,
    binding: Option<StateBinding>,
) -> Result<Arc<PendingCall>, RequestFuture> {
    let Some(binding) = binding else { return Err(request_future) };
    let mut waiting = Some(request_future);
    let call = edge.pending_calls.insert(binding, round_state, |key| {
        let (waits, round_state, edge) = (waiting.take(), Arc::clone(round_state), Arc::clone(edge));
        let tracker = edge.call_tracker.clone();
        let task = tracker.spawn(async move {
            let Some(request_future) = waits else { return };
            let outcome = tokio::select! {
                outcome = request_future => outcome,
                () = edge.abort.cancelled() => return,
            };
            round_state.finish(outcome);
            // Shutdown waits for in-flight calls, but not for clients to come back.
            tokio::select! {
                () = tokio::time::sleep(OUTCOME_TTL) => {}
                () = edge.stopping.cancelled() => {}
            }
            edge.pending_calls.remove(&key);
        });
        task.abort_handle()
    });
    call.ok_or_else(|| {
        waiting.take().unwrap_or_else(|| Box::pin(std::future::ready(DispatchOutcome::Failed)))
    })
}

/// A later round: the client returns with answers.
async fn next_round(task: &RequestJob, round_state: &RoundState, call: Arc<PendingCall>) -> Answer {
    let responses =
        task.request.as_multi_round().and_then(|request| request.continuation.input_responses.as_ref());
    let answers = match read_input_responses(responses) {
        Ok(answers) => answers,
        // The questions are still open, so the same state stays valid for another attempt.
        Err(fault) => {
            call.restore_round();
            let (status, error) = fault.answer(task.ctx.protocol);
            return Answer::error(status, Some(&task.id), &error);
        }
    };
    call.round_state.begin_round(round_state.output(), &answers);
    let outcome = run_round(&task.edge, &call).await;
    dispatch::write_answer(outcome, &task.edge, &task.id, task.ctx.protocol)
}

/// Waits for the end of a round. If the client disconnects meanwhile, the call is cancelled.
async fn run_round(edge: &EdgeState, call: &Arc<PendingCall>) -> DispatchOutcome {
    let mut guard = CancelOnDrop { pending_calls: &edge.pending_calls, call: Some(call) };
    let result = call.round_state.wait_for_result().await;
    guard.call = None;
    match result {
        RoundResult::Done(outcome) => {
            edge.pending_calls.remove(call.key());
            outcome
        }
        RoundResult::Questions(questions) => {
            call.round_state.end_round();
            match edge.pending_calls.next_state(call) {
                Some(state) => {
                    let questions = questions.iter().map(|(key, question)| (key.clone(), question));
                    DispatchOutcome::Prompt(Ok(input_required(questions, Some(&state))))
                }
                None => {
                    edge.pending_calls.cancel(call);
                    DispatchOutcome::Failed
                }
            }
        }
    }
}

struct CancelOnDrop<'a> {
    pending_calls: &'a PendingCalls,
    call: Option<&'a Arc<PendingCall>>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.pending_calls.cancel(call);
        }
    }
}
