//! Names as different types, so that the name a client sees is never taken for the name a backend knows.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes over a name as it was written.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// The configured name of an MCP server behind the gateway.
    BackendId
}
name! {
    /// A tool as clients see it, after overrides and conflict resolution.
    ToolName
}
name! {
    /// A tool as its backend knows it.
    BackendToolName
}
name! {
    /// A prompt as clients see it.
    PromptName
}
name! {
    /// A prompt as its backend knows it.
    BackendPromptName
}
name! {
    /// The URI of a resource. Resources are not renamed, so clients and backends share it.
    ResourceUri
}

impl ResourceUri {
    /// This URI and every one it is a part of by its path, the longest first: a server may tell that a part of a
    /// resource has changed to whoever follows the whole (Resources, "Subscriptions").
    pub fn with_parents(&self) -> impl Iterator<Item = Self> + '_ {
        let text = self.as_str();
        let path = text.find("://").map_or_else(|| text.find(':').map_or(0, |end| end + 1), |end| end + 3);
        let parents = text.char_indices().rev().filter(move |(place, _)| *place >= path);
        let parents = parents.filter(|(_, c)| matches!(c, '/' | '?' | '#')).flat_map(move |(place, c)| {
            let with_slash = (c == '/' && place + 1 < text.len()).then(|| Self::from(&text[..=place]));
            let without = (place > path).then(|| Self::from(&text[..place]));
            with_slash.into_iter().chain(without)
        });
        std::iter::once(self.clone()).chain(parents)
    }
}

#[cfg(test)]
mod tests {
    use super::ResourceUri;

    #[test]
    fn parts_know_their_wholes() {
        let parents = |text: &str| -> Vec<String> {
            ResourceUri::from(text).with_parents().map(|uri| uri.as_str().to_owned()).collect()
        };
        assert_eq!(
            parents("file:///a/b.txt#l3"),
            ["file:///a/b.txt#l3", "file:///a/b.txt", "file:///a/", "file:///a", "file:///"]
        );
        assert_eq!(parents("x:y/z"), ["x:y/z", "x:y/", "x:y"]);
        assert_eq!(parents("demo://one"), ["demo://one"]);
        assert_eq!(parents(""), [""]);
    }
}
