//! Requests of 2026-07-28 that may take several rounds (Multi Round-Trip Requests). A backend of that revision ends its
//! rounds itself and everything is relayed. One of the session era asks in the middle of a call: then the call waits
//! here while the client is sent off with the questions, and goes on when the client comes back with the answers.

use std::sync::Arc;

use vmcp_wire::server::{RequestError, input_required, read_input_responses};

use crate::http::response::Answer;
use crate::request::dispatch::{self, DispatchOutcome, RequestFuture, RequestJob};
use crate::state::EdgeState;
use crate::v2026_07_28::pending_calls::{Lookup, OUTCOME_TTL, PendingCall, PendingCalls, StateBinding};
use crate::v2026_07_28::round_state::{RoundResult, RoundState};

/// Works on a request to the end of one round. `dialogue` is that of the request's own port.
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

/// The first round: the call begins.
async fn first_round(task: RequestJob, dialogue: Arc<RoundState>) -> Answer {
    // Few calls need it, so it is made only then: arguments may be megabytes.
    let (caller, request) = (task.ctx.caller.clone(), task.request.clone());
    let ticket = || request.as_multi_round().map(|request| StateBinding::of(&caller, &request));
    let (edge, id, protocol) = (Arc::clone(&task.edge), task.id.clone(), task.ctx.protocol);
    let mut work = dispatch::run(task);
    let said = tokio::select! {
        biased;
        said = &mut work => said,
        () = dialogue.wait_for_question() => match detach(&edge, work, &dialogue, ticket()) {
            Ok(parked) => return Box::pin(run_round(&edge, &parked)).await.into_answer(&edge, &id, protocol),
            // Nobody can be asked, so the backend is told so, and the call goes on.
            Err(work) => {
                tracing::warn!("too many calls wait for their clients; a question is refused");
                dialogue.close();
                work.await
            }
        },
    };
    said.into_answer(&edge, &id, protocol)
}

/// Lets a call go on by itself. Gives it back when there is no room.
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
            // Shutdown waits for calls, not for clients that may never come back.
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

/// A later round: the client comes back.
async fn next_round(task: &RequestJob, dialogue: &RoundState, parked: Arc<PendingCall>) -> Answer {
    let responses =
        task.request.as_multi_round().and_then(|request| request.continuation.input_responses.as_ref());
    let answers = match read_input_responses(responses) {
        Ok(answers) => answers,
        // The questions still wait: the same state is good for another try.
        Err(fault) => {
            parked.restore_round();
            let (status, error) = fault.answer(task.ctx.protocol);
            return Answer::error(status, Some(&task.id), &error);
        }
    };
    parked.round_state.begin_round(dialogue.output(), &answers);
    run_round(&task.edge, &parked).await.into_answer(&task.edge, &task.id, task.ctx.protocol)
}

/// Waits for the end of a round. A client that hangs up meanwhile takes the call back.
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
