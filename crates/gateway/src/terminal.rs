//! Prints the output of commands. Text from backends may contain terminal control characters, so it is
//! escaped.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use vmcp_domain::escape_controls;

/// Prints a result on standard output, escaped.
pub(crate) fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(escape_controls(text).as_bytes())
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
