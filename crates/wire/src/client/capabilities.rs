//! Capabilities on both sides of a backend connection: what the gateway can relay to clients, and what a
//! backend declares. Sources: 2025-11-25, Lifecycle, "Capability Negotiation"; 2026-07-28, Overview,
//! "`_meta`".

use vmcp_domain::{ProtocolVersion, QuestionKind};
use vmcp_json::{Json, Members};

use crate::client::response::InitializeInfo;

/// The client capabilities that are declared once for a whole session, independent of the clients that will
/// use it: everything that can be relayed. A question that the actual client cannot answer gets an error.
#[must_use]
pub fn session_capabilities() -> Members {
    let modes: Members =
        [("form".to_owned(), Json::empty_object()), ("url".to_owned(), Json::empty_object())]
            .into_iter()
            .collect();
    [
        (QuestionKind::Roots.capability().to_owned(), Json::empty_object()),
        (QuestionKind::Sampling.capability().to_owned(), Json::empty_object()),
        (QuestionKind::Elicitation.capability().to_owned(), modes.to_json()),
    ]
    .into_iter()
    .collect()
}

/// The part of a client's declared capabilities that can be relayed on a request of 2026-07-28.
///
/// For a client of a version with sessions these are only the kinds of questions. Its other capabilities have
/// another meaning in 2026-07-28.
#[must_use]
pub fn relayable_capabilities(declared: &Members, client: ProtocolVersion) -> Members {
    let mut relayable = declared.clone();
    if client.has_sessions() {
        relayable.retain(|key, _| {
            [QuestionKind::Roots, QuestionKind::Sampling, QuestionKind::Elicitation]
                .iter()
                .any(|kind| kind.capability() == key)
        });
    }
    relayable
}

/// A capability that a backend may declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCapability {
    /// The backend has tools.
    Tools,
    /// The backend has resources and resource templates.
    Resources,
    /// The backend has prompts.
    Prompts,
    /// The backend sends log messages, with a level per session.
    Logging,
}

impl ServerCapability {
    fn member_name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Prompts => "prompts",
            Self::Logging => "logging",
        }
    }
}

impl InitializeInfo {
    /// True when the backend declared `capability`.
    #[must_use]
    pub fn has_capability(&self, capability: ServerCapability) -> bool {
        self.capabilities
            .get(capability.member_name())
            .is_some_and(|declared| !declared.is_null() && declared.as_str() != "false")
    }

    /// True when the backend declared notifications for changes of one of its lists.
    #[must_use]
    pub fn has_list_changed(&self) -> bool {
        [ServerCapability::Tools, ServerCapability::Resources, ServerCapability::Prompts].iter().any(
            |capability| {
                self.capabilities
                    .get(capability.member_name())
                    .and_then(|declared| declared.members().ok())
                    .and_then(|declared| declared.get("listChanged").cloned())
                    .is_some_and(|flag| flag.as_str() == "true")
            },
        )
    }

    /// Builds the information for a backend that has not declared its capabilities: all of its lists may be
    /// requested.
    #[must_use]
    pub fn assume_all(version: ProtocolVersion) -> Self {
        let capabilities = [ServerCapability::Tools, ServerCapability::Resources, ServerCapability::Prompts]
            .iter()
            .map(|capability| (capability.member_name().to_owned(), Json::empty_object()));
        Self { version, capabilities: capabilities.collect(), instructions: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Members {
        Json::parse(text.to_owned()).unwrap().members().unwrap()
    }

    #[test]
    fn only_what_can_be_relayed_is_declared() {
        let declared = members(
            r#"{"roots":{"listChanged":true},"tasks":{},"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#,
        );
        assert_eq!(
            relayable_capabilities(&declared, ProtocolVersion::V2025_11_25).to_json().as_str(),
            r#"{"roots":{"listChanged":true},"elicitation":{}}"#
        );
        assert_eq!(
            relayable_capabilities(&declared, ProtocolVersion::V2026_07_28).to_json().as_str(),
            r#"{"roots":{"listChanged":true},"tasks":{},"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#
        );
    }

    #[test]
    fn offers_are_read() {
        let info = InitializeInfo {
            version: ProtocolVersion::V2025_11_25,
            capabilities: members(r#"{"tools":{"listChanged":true},"prompts":null,"logging":{}}"#),
            instructions: None,
        };
        assert!(
            info.has_capability(ServerCapability::Tools) && info.has_capability(ServerCapability::Logging)
        );
        assert!(
            !info.has_capability(ServerCapability::Prompts)
                && !info.has_capability(ServerCapability::Resources)
        );
        assert!(info.has_list_changed());
    }
}
