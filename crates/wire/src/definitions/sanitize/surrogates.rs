//! Lone surrogates in JSON strings.

use vmcp_json::Json;

/// Replaces lone surrogates by U+FFFD. Half an emoji is legal in JSON's grammar, but many parsers reject it.
pub(super) fn replace_lone_surrogates(json: &Json) -> Json {
    let text = json.as_str();
    if !text.contains("\\u") {
        return json.clone();
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
    Json::parse(out).unwrap_or_else(|_| json.clone())
}
