//! URL elicitations that are not complete. A backend may report the visit of a page long after its question
//! was answered (2025-11-25, Elicitation, "Completion Notifications for URL Mode Elicitation"). This table
//! remembers which client to notify.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use vmcp_domain::{ClientPort, Question, QuestionKind};
use vmcp_json::Json;

/// Maximum number of URL elicitations remembered for one connection. The oldest is removed first.
const ELICITATIONS_MAX: usize = 256;

/// The URL elicitations that the backend of a connection may still report as complete.
#[derive(Debug, Default)]
pub(crate) struct PendingUrlElicitations(Mutex<VecDeque<(String, Arc<dyn ClientPort>)>>);

impl PendingUrlElicitations {
    /// Remembers the client of a question if the question is a URL elicitation and the client has a key. A
    /// client without a key is not notified.
    pub(crate) fn register(&self, question: &Question, client: &Arc<dyn ClientPort>) {
        if question.kind != QuestionKind::Elicitation || client.client_key().is_none() {
            return;
        }
        let id =
            question.params.members().ok().and_then(|params| params.get("elicitationId")?.decode_string());
        if let Some(id) = id {
            let mut expected = self.0.lock();
            if expected.len() >= ELICITATIONS_MAX {
                expected.pop_front();
            }
            expected.push_back((id, Arc::clone(client)));
        }
    }

    /// Notifies the client that was sent to the page that the elicitation is complete.
    pub(crate) fn complete(&self, id: &str) {
        let mut expected = self.0.lock();
        let index = expected.iter().position(|(known, _)| known == id);
        let found = index.and_then(|index| expected.remove(index));
        drop(expected);
        if let Some((id, client)) = found {
            client.elicitation_complete(
                [("elicitationId".to_owned(), Json::string(&id))].into_iter().collect(),
            );
        }
    }
}
