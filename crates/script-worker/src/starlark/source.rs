//! The text of a script as the body of a function.

/// The name of the function.
pub(super) const FUNCTION: &str = "__main__";
/// How far code is moved to the right.
pub(super) const INDENT_COLUMNS: usize = 4;
const INDENT: &str = "    ";
/// What a tab at the beginning of a line is worth.
const TAB: &str = "        ";

/// A module that defines the function, and has it as its value. Lines inside of strings stay as they are.
pub(super) fn wrapped(script: &str) -> String {
    let script = script.replace("\r\n", "\n");
    let mut text = format!("def {FUNCTION}():\n");
    let (mut state, mut has_code) = (State::Code, false);
    for line in script.lines() {
        if state == State::Code {
            let code = line.trim_start_matches([' ', '\t']);
            let (blanks, _) = line.split_at(line.len() - code.len());
            text.push_str(INDENT);
            text.push_str(&blanks.replace('\t', TAB));
            text.push_str(code);
            has_code |= !code.is_empty() && !code.starts_with('#');
            state = after(code, state);
        } else {
            text.push_str(line);
            state = after(line, state);
        }
        text.push('\n');
    }
    if !has_code {
        text.push_str(INDENT);
        text.push_str("pass\n");
    }
    text.push_str(FUNCTION);
    text.push('\n');
    text
}

/// Whether a line begins in code or in a string of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Code,
    /// In a string that three of this quote end.
    In(char),
}

/// The state at the end of a line.
fn after(line: &str, mut state: State) -> State {
    let chars: Vec<char> = line.chars().collect();
    let is_triple = |at: usize, quote: char| chars[at..].starts_with(&[quote; 3]);
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match state {
            State::In(_) if c == '\\' => at += 1,
            State::In(quote) if c == quote && is_triple(at, quote) => {
                state = State::Code;
                at += 2;
            }
            State::In(_) => {}
            State::Code if c == '#' => return state,
            State::Code if c == '"' || c == '\'' => {
                if is_triple(at, c) {
                    state = State::In(c);
                    at += 2;
                } else {
                    at = end_of_string(&chars, at);
                }
            }
            State::Code => {}
        }
        at += 1;
    }
    state
}

/// Where a string of one line ends that begins at `start`.
fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => at += 1,
            c if c == chars[start] => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_indented_and_strings_are_not() {
        let script = "x = \"\"\"a\n  # b\n\"\"\" # c\r\n\ty = 'it\\'s \"\"\"'\nz = 1";
        let expected = "def __main__():\n    x = \"\"\"a\n  # b\n\"\"\" # c\n            y = 'it\\'s \"\"\"'\n    z = 1\n__main__\n";
        assert_eq!(wrapped(script), expected);
    }

    #[test]
    fn a_script_without_code_does_nothing() {
        for script in ["", "# nothing", "\n\n"] {
            assert!(wrapped(script).ends_with("    pass\n__main__\n"), "{script:?}");
        }
    }
}
