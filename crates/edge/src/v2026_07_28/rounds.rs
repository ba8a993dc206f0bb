//! Requests of 2026-07-28 that may take several rounds (Multi Round-Trip Requests). A backend of that version
//! ends its rounds itself, and its messages are relayed. A backend with sessions asks during a call. The call
//! then stays pending here, the client receives the questions, and the call continues when the client returns
//! the answers.

use std::sync::Arc;

use vmcp_wire::server::{RequestError, input_required, read_input_responses};

use crate::http::response::Answer;
use crate::request::dispatch::{self, DispatchOutcome, RequestFuture, RequestJob};
use crate::state::EdgeState;
use crate::v2026_07_28::pending_calls::{Lookup, OUTCOME_TTL, PendingCall, PendingCalls, StateBinding};
use crate::v2026_07_28::round_state::{RoundResult, RoundState};

/// Executes a request until the end of one round. `dialogue` is the round state of the request's own client
/// port.
pub(crate) async fn run(task: RequestJob, dialogue: Arc<RoundState>) -> Answer {
    let Some(request) = task.request.as_multi_round() else {
        return Box::pin(dispatch::run_to_answer(task)).await;
    };
    let claim = match request.continuation.request_state.as_deref() {
        None => Lookup::Foreign,
        Some(state) => task.edge.pending_calls.find(state, &StateBinding::of(&task.ctx.caller, &request)),
    };
    match claim {
        Lookup::Foreign => first_round(task, dialogue).await,
        Lookup::Refused(why) => refuse(&task, why.to_owned()),
        Lookup::Found(parked) => Box::pin(next_round(&task, &dialogue, parked)).await,
    }
}

fn refuse(task: &RequestJob, why: String) -> Answer {
    let (status, error) = RequestError::InvalidParams(why).answer(task.ctx.protocol);
    Answer::error(status, Some(&task.id), &error)
}

/// The first round: starts the call.
async fn first_round(task: RequestJob, dialogue: Arc<RoundState>) -> Answer {
    // A closure, because few calls need the binding and the digest covers arguments of up to megabytes.
    let (caller, request) = (task.ctx.caller.clone(), task.request.clone());
    let ticket = || request.as_multi_round().map(|request| StateBinding::of(&caller, &request));
    let (edge, id, protocol) = (Arc::clone(&task.edge), task.id.clone(), task.ctx.protocol);
    let mut work = dispatch::run(task);
    let said = tokio::select! {
        biased;
        said = &mut work => said,
        () = dialogue.wait_for_question() => match detach(&edge, work, &dialogue, ticket()) {
            Ok(parked) => return Box::pin(run_round(&edge, &parked)).await.into_answer(&edge, &id, protocol),
            // The call cannot become pending, so its questions are refused and it continues without answers.
            Err(work) => {
                tracing::warn!("too many calls wait for their clients; a question is refused");
                dialogue.close();
                work.await
            }
        },
    };
    said.into_answer(&edge, &id, protocol)
}

/// Moves a call to its own task and makes it pending. Returns the call as the error if a limit is reached.
fn detach(
    edge: &Arc<EdgeState>,
    work: RequestFuture,
    dialogue: &Arc<RoundState>,
    ticket: Option<StateBinding>,
) -> Result<Arc<PendingCall>, RequestFuture> {
    let Some(ticket) = ticket else { return Err(work) };
    let mut waiting = Some(work);
    let parked = edge.pending_calls.insert(ticket, dialogue, |key| {
        let (waits, dialogue, edge) = (waiting.take(), Arc::clone(dialogue), Arc::clone(edge));
        let tracker = edge.call_tracker.clone();
        let task = tracker.spawn(async move {
            let Some(work) = waits else { return };
            let said = tokio::select! {
                said = work => said,
                () = edge.abort.cancelled() => return,
            };
            dialogue.finish(said);
            // Shutdown waits for in-flight calls, but not for clients to come back.
            tokio::select! {
                () = tokio::time::sleep(OUTCOME_TTL) => {}
                () = edge.stopping.cancelled() => {}
            }
            edge.pending_calls.remove(&key);
        });
        task.abort_handle()
    });
    parked.ok_or_else(|| {
        waiting.take().unwrap_or_else(|| Box::pin(std::future::ready(DispatchOutcome::Failed)))
    })
}

/// A later round: the client returns with answers.
async fn next_round(task: &RequestJob, dialogue: &RoundState, parked: Arc<PendingCall>) -> Answer {
    let responses =
        task.request.as_multi_round().and_then(|request| request.continuation.input_responses.as_ref());
    let answers = match read_input_responses(responses) {
        Ok(answers) => answers,
        // The questions are still open, so the same state stays valid for another attempt.
        Err(fault) => {
            parked.restore_round();
            let (status, error) = fault.answer(task.ctx.protocol);
            return Answer::error(status, Some(&task.id), &error);
        }
    };
    parked.round_state.begin_round(dialogue.output(), &answers);
    run_round(&task.edge, &parked).await.into_answer(&task.edge, &task.id, task.ctx.protocol)
}

/// Waits for the end of a round. If the client disconnects meanwhile, the call is cancelled.
async fn run_round(edge: &EdgeState, parked: &Arc<PendingCall>) -> DispatchOutcome {
    let mut guard = CancelOnDrop { pending_calls: &edge.pending_calls, call: Some(parked) };
    let turn = parked.round_state.wait_for_result().await;
    guard.call = None;
    match turn {
        RoundResult::Done(said) => {
            edge.pending_calls.remove(parked.key());
            said
        }
        RoundResult::Questions(questions) => {
            parked.round_state.end_round();
            match edge.pending_calls.next_state(parked) {
                Some(state) => {
                    let questions = questions.iter().map(|(key, question)| (key.clone(), question));
                    DispatchOutcome::Prompt(Ok(input_required(questions, Some(&state))))
                }
                None => {
                    edge.pending_calls.cancel(parked);
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
        if let Some(parked) = self.call {
            self.pending_calls.cancel(parked);
        }
    }
}
