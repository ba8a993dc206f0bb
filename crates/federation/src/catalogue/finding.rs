//! What an operator should know about the merged offer: names that were dropped, changed or will trouble clients.

use std::fmt;

use vmcp_domain::{BackendId, ListFailure, MalformedItem};

/// One remark about the catalogue, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Several backends offer the name and the strategy leaves it to none of them.
    Unresolved {
        /// The name.
        name: String,
        /// Who offers it.
        backends: Vec<BackendId>,
    },
    /// The name is already taken by another backend, so this one's is not offered.
    Shadowed {
        /// The name.
        name: String,
        /// Whose is not offered.
        backend: BackendId,
        /// Whose is.
        by: BackendId,
    },
    /// A backend offers the same name twice; the first counts.
    Duplicate {
        /// The name.
        name: String,
        /// The backend.
        backend: BackendId,
    },
    /// The name is longer than many clients accept.
    TooLong {
        /// The name.
        name: String,
        /// The backend.
        backend: BackendId,
    },
    /// The name has characters that many clients refuse.
    UnsafeCharacters {
        /// The name.
        name: String,
        /// The backend.
        backend: BackendId,
    },
    /// The name is empty, too long for MCP or has invisible characters, so it is not offered.
    InvalidName {
        /// The name.
        name: String,
        /// The backend.
        backend: BackendId,
    },
    /// Something in a form that clients refuse: it is mended or not offered.
    MalformedItem {
        /// The backend.
        backend: BackendId,
        /// What is odd about what.
        item: MalformedItem,
    },
    /// A list cannot be read, or not wholly.
    ListFailure {
        /// The backend.
        backend: BackendId,
        /// The list and why.
        failure: ListFailure,
    },
    /// A filter, rename or override names a tool that its backend does not offer.
    UnknownTool {
        /// The name in the configuration.
        name: String,
        /// The backend.
        backend: BackendId,
    },
}

/// The longest tool name that common clients accept.
pub(crate) const NAME_CHARS_MAX: usize = 64;

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
            Self::UnknownTool { name, backend } => {
                write!(
                    f,
                    "the configuration names tool `{name}` of backend `{backend}`, which does not offer it"
                )
            }
        }
    }
}

/// What a name will do to clients.
pub(crate) fn check_name(name: &str, backend: &BackendId) -> Option<Finding> {
    let (name_owned, backend) = (name.to_owned(), backend.clone());
    if name.chars().count() > NAME_CHARS_MAX {
        return Some(Finding::TooLong { name: name_owned, backend });
    }
    let safe = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (!safe).then_some(Finding::UnsafeCharacters { name: name_owned, backend })
}
