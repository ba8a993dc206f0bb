//! Requests of 2026-07-28 that may take several rounds (Multi Round-Trip Requests). A backend of that revision ends its
//! rounds itself and everything is relayed. One of the session era asks in the middle of a call: then the call waits
//! here while the client is sent off with the questions, and goes on when the client comes back with the answers.

use std::sync::Arc;

use vmcp_wire::server::{RequestFault, input_required, read_input_responses};

use crate::dialogue::{Dialogue, Turn};
use crate::dispatch::{self, Said, Task, Work};
use crate::edge::Edge;
use crate::parking::{Claim, OUTCOME_WAIT, Parked, Parking, Ticket};
use crate::reply::Answer;

/// Works on a request to the end of one round. `dialogue` is that of the request's own port.
pub(crate) async fn answer(task: Task, dialogue: Arc<Dialogue>) -> Answer {
    let Some(request) = task.request.in_rounds() else {
        return Box::pin(dispatch::answer(task)).await;
    };
    let claim = match request.continuation.request_state.as_deref() {
        None => Claim::Foreign,
        Some(state) => task.edge.parking.claim(state, &Ticket::of(&task.ctx.caller, &request)),
    };
    match claim {
        Claim::Foreign => begin(task, dialogue).await,
        Claim::Refused(why) => refuse(&task, why.to_owned()),
        Claim::Call(parked) => Box::pin(go_on(&task, &dialogue, parked)).await,
    }
}

fn refuse(task: &Task, why: String) -> Answer {
    let (status, error) = RequestFault::InvalidParams(why).answer(task.ctx.protocol);
    Answer::error(status, Some(&task.id), &error)
}

/// The first round: the call begins.
async fn begin(task: Task, dialogue: Arc<Dialogue>) -> Answer {
    // Few calls need it, so it is made only then: arguments may be megabytes.
    let (caller, request) = (task.ctx.caller.clone(), task.request.clone());
    let ticket = || request.in_rounds().map(|request| Ticket::of(&caller, &request));
    let (edge, id, protocol) = (Arc::clone(&task.edge), task.id.clone(), task.ctx.protocol);
    let mut work = dispatch::work(task);
    let said = tokio::select! {
        biased;
        said = &mut work => said,
        () = dialogue.asked() => match park(&edge, work, &dialogue, ticket()) {
            Ok(parked) => return Box::pin(round(&edge, &parked)).await.written(&edge, &id, protocol),
            // Nobody can be asked, so the backend is told so, and the call goes on.
            Err(work) => {
                tracing::warn!("too many calls wait for their clients; a question is refused");
                dialogue.close();
                work.await
            }
        },
    };
    said.written(&edge, &id, protocol)
}

/// Lets a call go on by itself. Gives it back when there is no room.
fn park(
    edge: &Arc<Edge>,
    work: Work,
    dialogue: &Arc<Dialogue>,
    ticket: Option<Ticket>,
) -> Result<Arc<Parked>, Work> {
    let Some(ticket) = ticket else { return Err(work) };
    let mut waiting = Some(work);
    let parked = edge.parking.park(ticket, dialogue, |key| {
        let (waits, dialogue, edge) = (waiting.take(), Arc::clone(dialogue), Arc::clone(edge));
        let tracker = edge.calls.clone();
        let task = tracker.spawn(async move {
            let Some(work) = waits else { return };
            let said = tokio::select! {
                said = work => said,
                () = edge.kill.cancelled() => return,
            };
            dialogue.finish(said);
            // Shutdown waits for calls, not for clients that may never come back.
            tokio::select! {
                () = tokio::time::sleep(OUTCOME_WAIT) => {}
                () = edge.stopping.cancelled() => {}
            }
            edge.parking.forget(&key);
        });
        task.abort_handle()
    });
    parked.ok_or_else(|| waiting.take().unwrap_or_else(|| Box::pin(std::future::ready(Said::Nothing))))
}

/// A later round: the client comes back.
async fn go_on(task: &Task, dialogue: &Dialogue, parked: Arc<Parked>) -> Answer {
    let responses =
        task.request.in_rounds().and_then(|request| request.continuation.input_responses.as_ref());
    let answers = match read_input_responses(responses) {
        Ok(answers) => answers,
        // The questions still wait: the same state is good for another try.
        Err(fault) => {
            parked.give_round_back();
            let (status, error) = fault.answer(task.ctx.protocol);
            return Answer::error(status, Some(&task.id), &error);
        }
    };
    parked.dialogue.come_back(dialogue.route(), &answers);
    round(&task.edge, &parked).await.written(&task.edge, &task.id, task.ctx.protocol)
}

/// Waits for the end of a round. A client that hangs up meanwhile takes the call back.
async fn round(edge: &Edge, parked: &Arc<Parked>) -> Said {
    let mut guard = CancelOnDrop { parking: &edge.parking, parked: Some(parked) };
    let turn = parked.dialogue.turn().await;
    guard.parked = None;
    match turn {
        Turn::Done(said) => {
            edge.parking.forget(parked.key());
            said
        }
        Turn::Asks(questions) => {
            parked.dialogue.leave();
            match edge.parking.state(parked) {
                Some(state) => {
                    let questions = questions.iter().map(|(key, question)| (key.clone(), question));
                    Said::Reply(Ok(input_required(questions, Some(&state))))
                }
                None => {
                    edge.parking.cancel(parked);
                    Said::Nothing
                }
            }
        }
    }
}

struct CancelOnDrop<'a> {
    parking: &'a Parking,
    parked: Option<&'a Arc<Parked>>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(parked) = self.parked {
            self.parking.cancel(parked);
        }
    }
}
