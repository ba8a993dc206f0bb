//! Prints the output of commands. Text from backends may contain terminal control characters, so it is
//! escaped.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use vmcp::process::environment;
use vmcp_domain::escape_controls;

/// Prints a result on standard output, escaped.
pub(crate) fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(escape_controls(text).as_bytes())
}

/// The columns of the terminal. `None` if standard output is no terminal.
pub(crate) fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    // A terminal that does not know its size reports 0.
    Some(if columns == 0 { 80 } else { usize::from(columns) })
}

/// Whether output on this stream has colours: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && environment("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text in a colour, if standard output has colours. `colour` is a number of ANSI escape sequences.
pub(crate) fn coloured(text: &str, colour: Option<u8>) -> String {
    match colour.filter(|_| has_colours(&io::stdout())) {
        Some(colour) => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        None => text.to_owned(),
    }
}

/// Prints the result of a tool on standard output: escaped on a terminal, and unchanged otherwise.
pub(crate) fn print_content(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() { print(text) } else { io::stdout().write_all(text.as_bytes()) }
}

/// Prints a message on standard error, escaped. A message may have several lines.
pub(crate) fn print_error(text: impl Display) {
    // An error is ignored: if standard error is closed, there is no reader.
    let _ = writeln!(io::stderr(), "{}", escape_controls(&text.to_string()));
}
