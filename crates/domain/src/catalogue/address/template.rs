//! Matches URIs against resource templates, with as much of RFC 6570 as routing a read needs. Literals must
//! match. A simple expression matches text without `/`. The reserved (`+`, `#`) and path (`/`) forms and
//! exploded variables match any text. Query forms (`?`, `&`) may be absent.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::ResourceUri;

/// The longest URI that is matched against templates, in bytes. A client may send megabytes, and there may be
/// thousands of templates.
const URI_BYTES_MAX: usize = 16 << 10;

/// A URI template (RFC 6570) as its backend spells it. Clients refer to it in exactly this spelling.
#[derive(Clone)]
pub struct UriTemplate {
    text: Arc<str>,
    parts: Arc<[TemplatePart]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Literal(String),
    Segment,
    AnyText,
    OptionalText,
}

impl UriTemplate {
    /// The template's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Splits a template into parts. A malformed template matches only its own text.
    fn parse_parts(template: &str) -> Vec<TemplatePart> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (literal, tail) = rest.split_at(open);
            let Some(close) = tail.find('}') else { break };
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(encode_spaces(literal)));
            }
            let expression = tail.get(1..close).unwrap_or_default();
            parts.push(match expression.chars().next() {
                Some('+' | '#' | '/') => TemplatePart::AnyText,
                Some('?' | '&') => TemplatePart::OptionalText,
                _ if expression.ends_with('*') => TemplatePart::AnyText,
                _ => TemplatePart::Segment,
            });
            rest = tail.get(close + 1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Literal(encode_spaces(rest)));
        }
        parts
    }

    /// True when the normal form of `uri` can be an expansion of the template; never for an ambiguous URI.
    /// The cost is linear in the URI's length for each part: no part is tried twice at one index, so a
    /// hostile URI cannot make matching slow.
    #[must_use]
    pub fn matches(&self, uri: &ResourceUri) -> bool {
        !uri.is_ambiguous() && self.matches_text(uri.as_str())
    }

    fn matches_text(&self, uri: &str) -> bool {
        let bytes = uri.as_bytes();
        let begins = |literal: &String| uri.starts_with(literal.as_str());
        if bytes.len() > URI_BYTES_MAX
            || matches!(self.parts.first(), Some(TemplatePart::Literal(first)) if !begins(first))
        {
            return false;
        }
        // The byte indices up to which the parts so far can have consumed the URI.
        let mut reached = vec![false; bytes.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for piece in &*self.parts {
            reached = piece.advance(bytes, &reached);
            if !reached.contains(&true) {
                return false;
            }
        }
        reached.last().copied().unwrap_or_default()
    }
}

/// Encodes spaces in a literal. A normal form contains no space, but a template may.
fn encode_spaces(literal: &str) -> String {
    literal.replace(' ', "%20")
}

impl From<&str> for UriTemplate {
    fn from(text: &str) -> Self {
        Self { parts: Self::parse_parts(text).into(), text: text.into() }
    }
}

impl From<String> for UriTemplate {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl PartialEq for UriTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UriTemplate {}

impl std::hash::Hash for UriTemplate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for UriTemplate {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UriTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for UriTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

impl TemplatePart {
    fn advance(&self, bytes: &[u8], reached: &[bool]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        if let Self::Literal(literal) = self {
            for (index, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
                if bytes.get(index..).is_some_and(|rest| rest.starts_with(literal.as_bytes()))
                    && let Some(slot) = next.get_mut(index + literal.len())
                {
                    *slot = true;
                }
            }
            return next;
        }
        let mut open = false;
        for (index, slot) in next.iter_mut().enumerate() {
            let here = reached.get(index).copied().unwrap_or_default();
            let stops = |byte: Option<&u8>| *self == Self::Segment && byte == Some(&b'/');
            if index > 0 && stops(bytes.get(index - 1)) {
                open = false;
            }
            *slot = open || (*self == Self::OptionalText && here);
            open = open || here;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::UriTemplate;

    #[test]
    fn routes_what_can_have_come_from_the_template() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template/7/8/data", false),
            ("test://template/{id}/data", "test://template//data", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{path*}", "file:///a/b/c", true),
            ("db://{table}{?limit,offset}", "db://users", true),
            ("db://{table}{?limit,offset}", "db://users?limit=3", true),
            ("repo://{owner}/{repo}", "repo://a/b", true),
            ("repo://{owner}/{repo}", "repo://a", false),
            ("static://x", "static://x", true),
            ("static://x", "static://xy", false),
            ("broken://{x", "broken://{x", true),
            ("{a}{b}{c}{d}{e}x", &"y".repeat(5000), false),
            ("{+a}", &"y".repeat(16 << 10), true),
            ("{+a}", &"y".repeat((16 << 10) + 1), false),
        ] {
            assert_eq!(UriTemplate::from(template).matches_text(uri), expected, "{template} {uri}");
        }
    }
}
