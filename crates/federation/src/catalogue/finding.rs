//! Findings about the merged catalogue for operators: names that were dropped or that clients reject, lists
//! that fail, and configuration that matches no tool.

use std::fmt;

use vmcp_domain::{BackendId, ListFailure, MalformedItem};

use crate::catalogue::tool_change::ToolChange;

/// One finding about the catalogue. Its text says what to do about it, where an override helps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Several backends offer the name and the strategy gives it to none of them.
    Unresolved {
        /// The contested name.
        name: String,
        /// The backends that offer it, in the order of the configuration.
        backends: Vec<BackendId>,
    },
    /// Another backend already has the name, so this backend's item is not offered.
    Shadowed {
        /// The contested name.
        name: String,
        /// The backend of the item that is not offered.
        backend: BackendId,
        /// The backend that has the name.
        by: BackendId,
    },
    /// A backend offers the same name twice. The first item is offered.
    Duplicate {
        /// The repeated name, before any prefix.
        name: String,
        /// The backend that offers it.
        backend: BackendId,
    },
    /// The name is longer than the 64 characters that many clients accept. It is offered all the same.
    TooLong {
        /// The advertised name.
        name: String,
        /// The backend that offers it.
        backend: BackendId,
    },
    /// The name has characters other than ASCII letters, digits, `_` and `-`, which many clients reject. It
    /// is offered all the same.
    UnsafeCharacters {
        /// The advertised name.
        name: String,
        /// The backend that offers it.
        backend: BackendId,
    },
    /// The name is empty, longer than 256 characters or has invisible characters, so the item is not offered.
    InvalidName {
        /// The invalid name.
        name: String,
        /// The backend that offers it.
        backend: BackendId,
    },
    /// An item in a form that clients reject. It is repaired or omitted.
    MalformedItem {
        /// The backend that offers it.
        backend: BackendId,
        /// The item, what is wrong with it, and whether it is omitted.
        item: MalformedItem,
    },
    /// A list of a backend could not be read to its end.
    ListFailure {
        /// The backend of the list.
        backend: BackendId,
        /// The list, with the class and the cause of the failure.
        failure: ListFailure,
    },
    /// A tool differs from its record.
    ToolChanged {
        /// The backend that offers it.
        backend: BackendId,
        /// Its name at the backend.
        tool: String,
        /// How it differs.
        change: ToolChange,
        /// Whether it is held back until an operator approves it.
        is_held: bool,
    },
    /// A filter, rename or override of the configuration names a tool that its backend does not offer.
    UnknownTool {
        /// The name in the configuration.
        name: String,
        /// The backend that the setting is for.
        backend: BackendId,
    },
}

/// The length of the longest tool name that common clients accept, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 64;

impl Finding {
    /// The codes of all findings.
    pub const CODES: [&str; 11] = [
        "name-unresolved",
        "name-shadowed",
        "name-duplicate",
        "name-too-long",
        "name-unsafe",
        "name-invalid",
        "item-malformed",
        "list-failure",
        "tool-unknown",
        "tool-changed",
        "tool-held",
    ];

    /// The code of the finding. `vmcp explain` has a page for each.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unresolved { .. } => "name-unresolved",
            Self::Shadowed { .. } => "name-shadowed",
            Self::Duplicate { .. } => "name-duplicate",
            Self::TooLong { .. } => "name-too-long",
            Self::UnsafeCharacters { .. } => "name-unsafe",
            Self::InvalidName { .. } => "name-invalid",
            Self::MalformedItem { .. } => "item-malformed",
            Self::ListFailure { .. } => "list-failure",
            Self::UnknownTool { .. } => "tool-unknown",
            Self::ToolChanged { is_held: false, .. } => "tool-changed",
            Self::ToolChanged { is_held: true, .. } => "tool-held",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved { name, backends } => {
                let list: Vec<&str> = backends.iter().map(BackendId::as_str).collect();
                write!(
                    f,
                    "`{name}` is offered by {} and none of them gets it; rename all but one with an override",
                    list.join(", ")
                )
            }
            Self::Shadowed { name, backend, by } => {
                write!(
                    f,
                    "`{name}` of backend `{backend}` is not offered because backend `{by}` already has that name; rename it with an override"
                )
            }
            Self::Duplicate { name, backend } => {
                write!(f, "backend `{backend}` offers `{name}` twice; the first counts")
            }
            Self::TooLong { name, backend } => write!(
                f,
                "`{name}` of backend `{backend}` has {} characters and many clients accept {NAME_CHARS_MAX}; shorten it with an override or a shorter prefix",
                name.chars().count()
            ),
            Self::UnsafeCharacters { name, backend } => write!(
                f,
                "`{name}` of backend `{backend}` has characters that many clients refuse (letters, digits, `_` and `-` are safe); rename it with an override"
            ),
            Self::InvalidName { name, backend } => {
                let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
                write!(
                    f,
                    "\"{}\" of backend `{backend}` is not offered: a name has 1 to 256 visible characters; rename it with an override",
                    shown.escape_debug()
                )
            }
            Self::MalformedItem {
                backend,
                item: MalformedItem { list, item, is_omitted: is_left_out, text },
            } => {
                let (item, text) = (item.escape_debug(), text.escape_debug());
                let outcome = if *is_left_out { "is not offered" } else { "is offered mended" };
                write!(f, "\"{item}\" in `{list}` of backend `{backend}` {outcome}: {text}")
            }
            Self::ListFailure { backend, failure: ListFailure { list, class, cause } } => {
                let cause = cause.escape_debug();
                write!(
                    f,
                    "`{list}` of backend `{backend}` cannot be read and is as far as known before ({class}: {cause})"
                )
            }
            Self::ToolChanged { backend, tool, change, is_held } => {
                let (tool, change) = (tool.escape_debug(), change.as_str());
                write!(f, "tool `{tool}` of backend `{backend}` {change} since it was recorded")?;
                if *is_held {
                    write!(
                        f,
                        ", and is held back; see it with `vmcp tools approve --dry-run`, and approve it with `vmcp tools approve`"
                    )?;
                }
                Ok(())
            }
            Self::UnknownTool { name, backend } => {
                write!(
                    f,
                    "the configuration names tool `{name}` of backend `{backend}`, which does not offer it"
                )
            }
        }
    }
}

/// Returns a finding if many clients reject the name: it is longer than [`NAME_CHARS_MAX`] or has characters
/// other than ASCII letters, digits, `_` and `-`.
pub(crate) fn check_name(name: &str, backend: &BackendId) -> Option<Finding> {
    let (name_owned, backend) = (name.to_owned(), backend.clone());
    if name.chars().count() > NAME_CHARS_MAX {
        return Some(Finding::TooLong { name: name_owned, backend });
    }
    let safe = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (!safe).then_some(Finding::UnsafeCharacters { name: name_owned, backend })
}
