//! What a run has done so far, for its answer.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmcp_domain::Error;
use vmcp_json::Json;
use vmcp_script_worker::Language;

/// The most content items that a script may add to its answer.
const ITEMS_MAX: usize = 100;
/// The types of content items (Tools, "Tool Result").
const ITEM_TYPES: [&str; 5] = ["text", "image", "audio", "resource", "resource_link"];

/// A call of a script.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    pub(crate) tool: String,
    /// `None` while it is in flight.
    pub(crate) outcome: Option<CallOutcome>,
    pub(crate) took: Duration,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// The tool did what it should.
    Done,
    /// The tool or its backend failed.
    Failed,
    /// The call was not made: by a limit, a policy, or the user.
    Refused,
    /// No answer came in time. It is not known whether the tool did something.
    TimedOut,
}

impl CallOutcome {
    /// The word in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
        }
    }
}

/// The record of a run.
#[derive(Default)]
pub(crate) struct RunRecord {
    state: Mutex<State>,
    /// The most bytes of content items.
    item_bytes_max: usize,
}

#[derive(Default)]
struct State {
    language: Option<Language>,
    calls: Vec<CallRecord>,
    /// The errors of calls by the identifiers of their requests.
    errors: HashMap<u64, Error>,
    log: String,
    items: Vec<Json>,
    item_bytes: usize,
    progress: f64,
    has_own_progress: bool,
    /// Calls that the user declined: their tools and arguments.
    declined: HashSet<(String, String)>,
}

impl RunRecord {
    pub(crate) fn new(item_bytes_max: usize, language: Option<Language>) -> Self {
        Self { item_bytes_max, state: Mutex::new(State { language, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the language that was found out.
    pub(super) fn keep_language(&self, language: Language) {
        self.state().language.get_or_insert(language);
    }

    /// The language, as far as it is known.
    pub(crate) fn language(&self) -> Option<Language> {
        self.state().language
    }

    /// Notes a call, and returns its number, from 1.
    pub(super) fn start_call(&self, tool: &str) -> usize {
        let mut state = self.state();
        state.calls.push(CallRecord { tool: tool.to_owned(), outcome: None, took: Duration::ZERO });
        state.calls.len()
    }

    /// Notes the end of a call.
    pub(super) fn end_call(&self, number: usize, outcome: CallOutcome, took: Duration) {
        if let Some(call) = self.state().calls.get_mut(number - 1) {
            (call.outcome, call.took) = (Some(outcome), took);
        }
    }

    /// Keeps the error of a call, for the case that the script does not catch it.
    pub(super) fn keep_error(&self, id: u64, error: Error) {
        self.state().errors.insert(id, error);
    }

    pub(super) fn log(&self, line: &str) {
        let mut state = self.state();
        if !state.log.is_empty() {
            state.log.push('\n');
        }
        state.log.push_str(line);
    }

    pub(super) fn emit(&self, item: Json) -> Result<(), String> {
        let kind = item.members().ok().and_then(|item| item.get("type").and_then(Json::decode_string));
        if !kind.is_some_and(|kind| ITEM_TYPES.contains(&kind.as_str())) {
            return Err("emitted what is no content item".to_owned());
        }
        let mut state = self.state();
        state.item_bytes = state.item_bytes.saturating_add(item.as_str().len());
        if state.item_bytes > self.item_bytes_max || state.items.len() >= ITEMS_MAX {
            let most = self.item_bytes_max;
            return Err(format!("emitted more than {ITEMS_MAX} items, or more than {most} bytes of them"));
        }
        state.items.push(item);
        Ok(())
    }

    pub(super) fn note_own_progress(&self) {
        self.state().has_own_progress = true;
    }

    pub(super) fn has_own_progress(&self) -> bool {
        self.state().has_own_progress
    }

    /// The next number of progress: `done` if it is larger than the last one, else one more than that.
    pub(super) fn next_progress(&self, done: Option<f64>) -> f64 {
        let mut state = self.state();
        let next = done.filter(|done| done.is_finite() && *done > state.progress);
        state.progress = next.unwrap_or(state.progress + 1.0);
        state.progress
    }

    pub(super) fn keep_declined(&self, tool: &str, arguments: &Json) {
        self.state().declined.insert((tool.to_owned(), arguments.as_str().to_owned()));
    }

    pub(super) fn was_declined(&self, tool: &str, arguments: &Json) -> bool {
        self.state().declined.contains(&(tool.to_owned(), arguments.as_str().to_owned()))
    }

    /// The calls in the order in which they started.
    pub(crate) fn calls(&self) -> Vec<CallRecord> {
        self.state().calls.clone()
    }

    /// Whether a call may have had an effect.
    pub(crate) fn has_called(&self) -> bool {
        self.state().calls.iter().any(|call| call.outcome != Some(CallOutcome::Refused))
    }

    /// The error of the call of this request.
    pub(crate) fn take_error(&self, id: u64) -> Option<Error> {
        self.state().errors.remove(&id)
    }

    /// The lines of the log.
    pub(crate) fn take_log(&self) -> String {
        std::mem::take(&mut self.state().log)
    }

    /// The content items for the answer.
    pub(crate) fn take_items(&self) -> Vec<Json> {
        std::mem::take(&mut self.state().items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_only_grows() {
        let record = RunRecord::new(100, None);
        let told: Vec<f64> = [None, Some(5.0), Some(3.0), Some(f64::NAN), None, Some(9.5)]
            .map(|done| record.next_progress(done))
            .to_vec();
        assert_eq!(told, [1.0, 5.0, 6.0, 7.0, 8.0, 9.5]);
    }

    #[test]
    fn a_declined_call_is_remembered_with_its_arguments() {
        let record = RunRecord::new(100, None);
        let arguments = |text: &str| Json::parse(text.to_owned()).unwrap();
        record.keep_declined("delete", &arguments("{\"id\":1}"));
        assert!(record.was_declined("delete", &arguments("{\"id\":1}")));
        assert!(!record.was_declined("delete", &arguments("{\"id\":2}")));
        assert!(!record.was_declined("other", &arguments("{\"id\":1}")));
    }

    #[test]
    fn items_are_bounded() {
        let record = RunRecord::new(40, None);
        let item = |kind: &str| Json::parse(format!("{{\"type\":\"{kind}\",\"text\":\"\"}}")).unwrap();
        assert!(record.emit(item("text")).is_ok());
        assert!(record.emit(item("other")).unwrap_err().contains("no content item"));
        assert!(record.emit(item("text")).unwrap_err().contains("more than 40 bytes"));
    }
}
