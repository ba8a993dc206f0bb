//! URIs of resources. Policies, visibility, limits, subscriptions and routing all compare one normal form, so
//! that no other spelling of a URI bypasses them.

pub(crate) mod normalize;
mod template;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use template::UriTemplate;

/// The URI of a resource.
///
/// Two URIs are equal when their normal forms are (WHATWG URL; RFC 3986, section 6.2.2). The normal form has
/// the scheme in lower case, and the host too for web schemes. It has no default port and no dot segments,
/// and percent-encodes only what needs it. The original spelling is kept, to be echoed to the client.
///
/// A URI that two readers could take for different resources has no normal form, for example one with control
/// characters, backslashes or encoded slashes. It equals only the identical text, and
/// [`is_ambiguous`](Self::is_ambiguous) is true.
#[derive(Clone)]
pub struct ResourceUri {
    normalized: Arc<str>,
    original: Arc<str>,
    /// There is no normal form. `normalized` then holds the original spelling.
    is_ambiguous: bool,
}

impl ResourceUri {
    /// The normal form, or the original spelling of an ambiguous URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.normalized
    }

    /// The original spelling.
    #[must_use]
    pub fn original(&self) -> &str {
        &self.original
    }

    /// True when the URI has no normal form. It then leads to a resource only when a list contains exactly
    /// this spelling.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    /// The normal form, and what careless readers may take it for: the URI without its fragment, without
    /// trailing slashes, and with the host in lower case. A caller must have permission to read each of them.
    pub fn interpretations(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let whole = self.as_str();
        let bare = whole.split_once('#').map_or(whole, |(bare, _)| bare);
        let path = normalize::path_start(bare);
        let kept = bare.get(path..).unwrap_or_default().trim_end_matches('/').len().max(1);
        let file = bare.get(..path + kept).unwrap_or(bare);
        let lowered = match file.get(..path) {
            Some(head) if head.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Some(format!("{}{}", head.to_ascii_lowercase(), file.get(path..).unwrap_or_default()))
            }
            Some(_) | None => None,
        };
        let further = [bare, file].into_iter().scan(whole, |last, next| {
            let differs = next.len() < last.len();
            *last = next;
            Some(differs.then_some(Cow::Borrowed(next)))
        });
        std::iter::once(Cow::Borrowed(whole)).chain(further.flatten()).chain(lowered.map(Cow::Owned))
    }

    /// This URI and every prefix of its path, the longest first. A server may notify clients that follow a
    /// whole resource that a part of it changed (Resources, "Subscriptions").
    pub fn with_parents(&self) -> impl Iterator<Item = Self> + '_ {
        let text = self.as_str();
        let path = text.find("://").map_or_else(|| text.find(':').map_or(0, |end| end + 1), |end| end + 3);
        let parents = text.char_indices().rev().filter(move |(index, _)| *index >= path);
        let parents = parents.filter(|(_, c)| matches!(c, '/' | '?' | '#')).flat_map(move |(index, c)| {
            let with_slash = (c == '/' && index + 1 < text.len()).then(|| Self::from(&text[..=index]));
            let without = (index > path).then(|| Self::from(&text[..index]));
            with_slash.into_iter().chain(without)
        });
        std::iter::once(self.clone()).chain(parents)
    }
}

impl From<&str> for ResourceUri {
    fn from(original: &str) -> Self {
        Self::from(original.to_owned())
    }
}

impl From<String> for ResourceUri {
    fn from(original: String) -> Self {
        let normal = normalize::normal_form(&original);
        let is_ambiguous = normal.is_none();
        // Most URIs are already normal, so one shared copy serves for both.
        let other = normal.filter(|normal| *normal != original);
        let original: Arc<str> = original.into();
        Self { normalized: other.map_or_else(|| original.clone(), Into::into), original, is_ambiguous }
    }
}

impl PartialEq for ResourceUri {
    fn eq(&self, other: &Self) -> bool {
        self.normalized == other.normalized
    }
}

impl Eq for ResourceUri {}

impl PartialOrd for ResourceUri {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceUri {
    fn cmp(&self, other: &Self) -> Ordering {
        self.normalized.cmp(&other.normalized)
    }
}

impl Hash for ResourceUri {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.normalized.hash(state);
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.original)
    }
}

impl fmt::Debug for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests;
