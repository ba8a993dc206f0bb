//! The consent of the user to a call.

use vmcp_json::Json;
use vmcp_runs::question::{self, Asked, Reaction};

use super::RunHost;

/// The most characters of arguments that a question shows.
const SHOWN_CHARS_MAX: usize = 600;

impl RunHost<'_> {
    /// Asks the user whether a call may be made.
    ///
    /// # Errors
    /// Why it may not, as a sentence for the script.
    pub(super) async fn require_consent(&self, name: &str, arguments: &Json) -> Result<(), String> {
        let text = question_text(name, arguments);
        let asked = Asked::new(&text, question::no_fields())?;
        let _one_at_a_time = self.question.lock().await;
        if self.record.was_declined(name, arguments) {
            return Err("the user declined".to_owned());
        }
        let pause = self.clock.pause();
        let reaction = asked.ask(&*self.outer.client).await;
        drop(pause);
        match reaction {
            Ok(Reaction::Accepted(_)) => Ok(()),
            Ok(Reaction::Declined | Reaction::Cancelled) => {
                self.record.keep_declined(name, arguments);
                Err("the user declined".to_owned())
            }
            Err(error) => Err(format!("this call needs the user's consent, and {error}")),
        }
    }
}

fn question_text(name: &str, arguments: &Json) -> String {
    let text = vmcp_domain::escape_controls(arguments.as_str());
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let rest = if shown.len() < text.len() { "… (cut)" } else { "" };
    format!("A script wants to call {name} with {shown}{rest}. Allow this call?")
}
