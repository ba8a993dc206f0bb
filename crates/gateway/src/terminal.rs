//! What commands print. Text of backends may hold characters that control a terminal, so it is escaped on the way.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use vmcp_domain::escape_controls;

/// Prints the answer of a command on standard output, escaped.
pub(crate) fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(escape_controls(text).as_bytes())
}

/// Prints what a tool returned on standard output: escaped for a person, exact for a program.
pub(crate) fn print_content(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() { print(text) } else { io::stdout().write_all(text.as_bytes()) }
}

/// Tells the person at the terminal something on standard error, escaped. What a person is told may have several lines.
pub(crate) fn print_error(text: impl Display) {
    // Nobody reads a standard error that is closed.
    let _ = writeln!(io::stderr(), "{}", escape_controls(&text.to_string()));
}
