//! The targets, each with the properties that it checks.

mod configuration;
mod cursors;
mod events;
mod headers;
mod http1;
mod json;
mod messages;
mod policies;
mod sealed_states;
mod templates;

/// A format, and the function that checks it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, which is also the name of its folder in `seeds/`.
    pub name: &'static str,
    /// Reads an input; panics if a property does not hold.
    pub check: fn(&[u8]),
    /// Texts that have a meaning in the format.
    pub tokens: &'static [&'static str],
    /// Files and folders of the repository that are seeds too, relative to its root.
    pub sources: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    configuration::TARGET,
    cursors::TARGET,
    events::TARGET,
    headers::TARGET,
    http1::TARGET,
    json::TARGET,
    messages::TARGET,
    policies::TARGET,
    sealed_states::TARGET,
    templates::TARGET,
];

/// Splits an input into a first part, whose length its first byte says, and the rest.
fn split_input(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = input.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(*length).min(rest.len()))
}

/// Divides `stream` into pieces of the lengths in `cuts`, and the rest.
fn divide<'a>(cuts: &[u8], stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::with_capacity(cuts.len() + 1);
    let mut rest = stream;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}
