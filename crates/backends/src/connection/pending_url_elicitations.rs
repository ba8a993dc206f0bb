//! Pages that clients were sent to: a backend may tell when one has been visited, long after its question was answered
//! (2025-11-25, Elicitation, "Completion Notifications for URL Mode Elicitation"). Who is told is remembered here.

use std::collections::VecDeque;
use std::sync::Arc;

use vmcp_domain::{ClientPort, Json, Question, QuestionKind};

use crate::sync::UnpoisonedMutex;

/// The most visits of one connection that are remembered; the oldest is forgotten first.
const ELICITATIONS_MAX: usize = 256;

/// The visits that a connection's backend may still tell of.
#[derive(Debug, Default)]
pub(crate) struct PendingUrlElicitations(UnpoisonedMutex<VecDeque<(String, Arc<dyn ClientPort>)>>);

impl PendingUrlElicitations {
    /// Remembers whom a question sends to a page, if it sends anybody and the client's protocol has a word for it.
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

    /// Tells whoever was sent to the page that it has been visited.
    pub(crate) fn complete(&self, id: &str) {
        let mut expected = self.0.lock();
        let place = expected.iter().position(|(known, _)| known == id);
        let visitor = place.and_then(|place| expected.remove(place));
        drop(expected);
        if let Some((id, client)) = visitor {
            client.elicitation_complete(
                [("elicitationId".to_owned(), Json::string(&id))].into_iter().collect(),
            );
        }
    }
}
