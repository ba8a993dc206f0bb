//! Does a URI belong to a resource template? Enough of RFC 6570 to route a read: literals must match, a simple
//! expression takes text without `/`, the reserved (`+`, `#`) and path (`/`) forms and exploded variables take any
//! text, and query forms (`?`, `&`) may be absent.

/// The longest URI that is held against templates, in bytes. A client may send megabytes, and there may be thousands
/// of templates; a longer URI is served where a list names it, or by the only backend that serves resources.
const URI_BYTES_MAX: usize = 16 << 10;

/// A template taken apart for matching.
#[derive(Clone, Debug)]
pub(crate) struct Matcher(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Segment,
    Anything,
    Optional,
}

impl Matcher {
    /// Takes a template apart. A template that is malformed matches itself only.
    pub(crate) fn new(template: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (literal, tail) = rest.split_at(open);
            let Some(close) = tail.find('}') else { break };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let expression = tail.get(1..close).unwrap_or_default();
            pieces.push(match expression.chars().next() {
                Some('+' | '#' | '/') => Piece::Anything,
                Some('?' | '&') => Piece::Optional,
                _ if expression.ends_with('*') => Piece::Anything,
                _ => Piece::Segment,
            });
            rest = tail.get(close + 1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Self(pieces)
    }

    /// True when `uri` can have come from the template. Linear in the URI for each piece: no expression is tried
    /// twice at one place, so a hostile URI cannot make it slow.
    pub(crate) fn matches(&self, uri: &str) -> bool {
        let bytes = uri.as_bytes();
        let begins = |literal: &String| uri.starts_with(literal.as_str());
        if bytes.len() > URI_BYTES_MAX
            || matches!(self.0.first(), Some(Piece::Literal(first)) if !begins(first))
        {
            return false;
        }
        // The places up to which the pieces so far can have consumed the URI.
        let mut reached = vec![false; bytes.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for piece in &self.0 {
            reached = piece.advance(bytes, &reached);
            if !reached.contains(&true) {
                return false;
            }
        }
        reached.last().copied().unwrap_or_default()
    }
}

impl Piece {
    fn advance(&self, bytes: &[u8], reached: &[bool]) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        if let Self::Literal(literal) = self {
            for (place, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
                if bytes.get(place..).is_some_and(|rest| rest.starts_with(literal.as_bytes()))
                    && let Some(slot) = next.get_mut(place + literal.len())
                {
                    *slot = true;
                }
            }
            return next;
        }
        let mut open = false;
        for (place, slot) in next.iter_mut().enumerate() {
            let here = reached.get(place).copied().unwrap_or_default();
            let stops = |byte: Option<&u8>| *self == Self::Segment && byte == Some(&b'/');
            if place > 0 && stops(bytes.get(place - 1)) {
                open = false;
            }
            *slot = open || (*self == Self::Optional && here);
            open = open || here;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::Matcher;

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
            assert_eq!(Matcher::new(template).matches(uri), expected, "{template} {uri}");
        }
    }
}
