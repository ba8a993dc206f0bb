//! Tests of the config as a whole: which configs load, with which settings, and the messages of all others.

mod accepted;
mod errors;
mod mutation;
mod printed;
mod reference;
mod reference_page;
mod sizes;

use std::time::Duration;

use super::{Overrides, Report, Settings};

/// The environment of all tests.
fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("t0psecret".to_owned()),
        "HOST" => Some("github.internal".to_owned()),
        "PORT" => Some("9000".to_owned()),
        "BROKEN" => Some("two\nlines".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn overrides() -> Overrides {
    Overrides { user: Some("ada".to_owned()), ..Overrides::default() }
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Settings, Report> {
    super::load::load_text(text, "vmcp.yaml", &env, overrides)
}

fn load(text: &str) -> Settings {
    load_with(text, &overrides()).unwrap_or_else(|report| panic!("{report}\n{text}"))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
