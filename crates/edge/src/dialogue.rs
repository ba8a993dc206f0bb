//! What a call and its client of 2026-07-28 say to each other over the rounds of one request: the questions that wait
//! for answers, where messages of the present round go, and what came of the call. When a round ends, and which request
//! is the next, is `rounds`'.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use vmcp_domain::{AskError, Json, Members, Question};

use crate::dispatch::Said;
use crate::port::Outlet;

/// How many questions of one call may wait at a time.
const QUESTIONS_MAX: usize = 32;

/// Where the messages of one round go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The token the client wants progress under.
    pub(crate) progress_token: Option<Json>,
    /// The way, if there is one.
    pub(crate) outlet: Option<Outlet>,
}

/// One call's conversation with its client.
#[derive(Debug)]
pub(crate) struct Dialogue {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    serial: u64,
    open: Vec<Open>,
    /// `None` between two rounds.
    route: Option<Route>,
    outcome: Option<Said>,
    closed: bool,
}

#[derive(Debug)]
struct Open {
    serial: u64,
    question: Question,
    answer: oneshot::Sender<Json>,
}

/// How a round goes on.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The call is done.
    Done(Said),
    /// The call waits for answers to these.
    Asks(Vec<(String, Question)>),
}

impl Dialogue {
    /// Begins with the first round.
    pub(crate) fn begin(route: Route) -> Self {
        let state = State { serial: 0, open: Vec::new(), route: Some(route), outcome: None, closed: false };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where messages go now.
    pub(crate) fn route(&self) -> Option<Route> {
        self.state().route.clone()
    }

    /// Ends a round: what is said before the next goes nowhere.
    pub(crate) fn leave(&self) {
        self.state().route = None;
    }

    /// Begins the next round, with the client's answers.
    pub(crate) fn come_back(&self, route: Option<Route>, answers: &Members) {
        let mut state = self.state();
        state.route = route;
        let open = std::mem::take(&mut state.open);
        for one in open {
            match answers.get(&one.serial.to_string()) {
                // Whoever asked may have gone meanwhile.
                Some(answer) => drop(one.answer.send(answer.clone())),
                None => state.open.push(one),
            }
        }
    }

    /// Asks, and waits for the answer of a later round.
    pub(crate) async fn ask(&self, question: Question) -> Result<Json, AskError> {
        let (serial, answer) = {
            let mut state = self.state();
            if state.closed || state.open.len() >= QUESTIONS_MAX {
                return Err(AskError::Unreachable);
            }
            let (sender, receiver) = oneshot::channel();
            state.serial += 1;
            let serial = state.serial;
            state.open.push(Open { serial, question, answer: sender });
            (serial, receiver)
        };
        self.news.notify_one();
        let _withdraws = Withdraws { dialogue: self, serial };
        answer.await.map_err(|_| AskError::Unreachable)
    }

    /// Refuses what is asked now and later.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.open = Vec::new();
    }

    /// The call is done.
    pub(crate) fn finish(&self, said: Said) {
        self.state().outcome = Some(said);
        self.news.notify_one();
    }

    /// Waits until the call asks something.
    pub(crate) async fn asked(&self) {
        loop {
            if !self.state().open.is_empty() {
                return;
            }
            self.news.notified().await;
        }
    }

    /// Waits until the call is done or asks something.
    pub(crate) async fn turn(&self) -> Turn {
        loop {
            {
                let mut state = self.state();
                if let Some(said) = state.outcome.take() {
                    return Turn::Done(said);
                }
                if !state.open.is_empty() {
                    let asks = state.open.iter().map(|open| (open.serial.to_string(), open.question.clone()));
                    return Turn::Asks(asks.collect());
                }
            }
            self.news.notified().await;
        }
    }
}

/// Takes a question back that nobody waits for any more.
struct Withdraws<'a> {
    dialogue: &'a Dialogue,
    serial: u64,
}

impl Drop for Withdraws<'_> {
    fn drop(&mut self) {
        self.dialogue.state().open.retain(|open| open.serial != self.serial);
    }
}
