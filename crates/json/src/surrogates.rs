//! Lone surrogates in JSON strings.

use crate::Json;

impl Json {
    /// The value with U+FFFD for each lone surrogate. Half an emoji is legal in JSON's grammar (RFC 8259, section 8.2),
    /// but many parsers reject it.
    #[must_use]
    pub fn replace_lone_surrogates(&self) -> Self {
        replaced(self).unwrap_or_else(|| self.clone())
    }
}

/// `None` if nothing has to be replaced.
fn replaced(json: &Json) -> Option<Json> {
    let text = json.as_str();
    if !text.contains("\\u") {
        return None;
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(offset) = rest.find('\\') {
        let (before, escape) = rest.split_at(offset);
        out.push_str(before);
        let unit = |at: usize| {
            let digits = escape.get(at..)?.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let (taken, is_lone) = match (unit(0), unit(6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
            (Some(0xd800..=0xdfff), _) => (6, true),
            _ => (2, false),
        };
        let end = (taken..escape.len() + 1).find(|end| escape.is_char_boundary(*end)).unwrap_or(escape.len());
        out.push_str(if is_lone { "\\ufffd" } else { escape.get(..end).unwrap_or_default() });
        rest = escape.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    Json::parse(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &'static str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn a_lone_surrogate_is_decoded_as_the_replacement_character() {
        for (written, decoded) in [
            (r#""a\ud800""#, "a\u{fffd}"),
            (r#""\udc00b\n""#, "\u{fffd}b\n"),
            (r#""\ud83d\ude00\ud83d""#, "\u{1f600}\u{fffd}"),
            (r#""\\ud800""#, "\\ud800"),
        ] {
            assert_eq!(json(written).decode_string().as_deref(), Some(decoded), "{written}");
        }
    }

    #[test]
    fn a_key_with_a_lone_surrogate_keeps_its_value() {
        let members = json(r#"{"\ud800":1,"":2}"#).members().unwrap();
        let keys: Vec<_> =
            members.iter().map(|(key, value)| (key.into_owned(), value.as_str().to_owned())).collect();
        assert_eq!(keys, [("\u{fffd}".to_owned(), "1".to_owned()), (String::new(), "2".to_owned())]);
    }
}
