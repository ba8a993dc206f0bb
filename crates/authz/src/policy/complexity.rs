//! Bounds on the form of policy texts. Cedar's parser and our readers of syntax trees call themselves for each
//! level of an expression, so an unbounded text would exhaust the stack and end the process.

/// The deepest nesting of brackets.
const DEPTH_MAX: usize = 32;
/// The most operators, member accesses and conditions of one policy. Each may add a level to its syntax tree.
const OPERATORS_MAX: usize = 2000;
/// The stack for parsing a text within these bounds, in bytes. Only what is used takes memory.
pub(crate) const STACK_BYTES: usize = 256 << 20;

/// Checks a policy text; the error says what is too much.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = skip_string(rest),
            b'/' if rest.starts_with(b"/") => {
                rest = rest.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &rest[end..]);
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                operators += 1;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => operators = 0,
            b'&' | b'|' | b'.' | b'+' | b'-' | b'*' | b'!' => operators += 1,
            b'i' if rest.starts_with(b"f") => operators += 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("a policy is nested deeper than {DEPTH_MAX} brackets"));
        }
        if operators > OPERATORS_MAX {
            return Err(format!("a policy has more than {OPERATORS_MAX} operators"));
        }
    }
    Ok(())
}

/// The text after a string literal, whose opening quote has been read.
fn skip_string(mut text: &[u8]) -> &[u8] {
    while let Some((byte, after)) = text.split_first() {
        text = after;
        match byte {
            b'"' => break,
            b'\\' => text = text.get(1..).unwrap_or_default(),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_long_policies_are_refused_and_texts_in_strings_are_not_counted() {
        let policy = |condition: &str| format!("permit(principal, action, resource) when {{ {condition} }};");
        let nested = |depth: usize| policy(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth)));
        assert!(check(&nested(30)).is_ok() && check(&nested(40)).is_err());
        let chain = |count: usize| policy(&format!("{}true", "true || ".repeat(count)));
        assert!(check(&chain(900)).is_ok() && check(&chain(1100)).is_err());
        assert!(check(&policy(&"true || ".repeat(900)).repeat(3)).is_ok(), "each policy has its own bound");
        assert!(check(&policy(&format!("\"{}\\\"\" == \"\"", "(".repeat(99)))).is_ok());
        assert!(check(&format!("// {}\n{}", "(".repeat(99), policy("true"))).is_ok());
    }
}
