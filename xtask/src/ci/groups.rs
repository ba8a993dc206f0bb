//! The slow groups: tests that take minutes. CI runs one of them for each commit, so that all of them run over the
//! commits of a week.

use anyhow::Context as _;
use clap::ValueEnum;

use super::Step;
use crate::{matrix, odd, packages, refusals, soak};

/// A named group of slow tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Every protocol feature between the clients and servers of several SDKs.
    Sdks,
    /// Fleets of processes on one Redis or Valkey, some of them killed or stopped.
    Fleets,
    /// Minutes of mixed calls while backends die and return.
    Soak,
    /// Each crate packaged as for a registry, and the binary installed with `cargo install`.
    Packages,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [Self::Sdks, Self::Fleets, Self::Soak, Self::Packages];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sdks => "sdks",
            Self::Fleets => "fleets",
            Self::Soak => "soak",
            Self::Packages => "packages",
        }
    }
}

const SDKS: [Step; 3] =
    [("matrix", |_| matrix::run(true)), ("odd", |_| odd::run(true)), ("refusals", |_| refusals::run(true))];
/// Slow tests are marked `#[ignore]` with the name of this group.
const FLEETS: [Step; 1] =
    [("fleets", |run| run.cargo(&["test", "--workspace", "--no-fail-fast", "--tests", "--", "--ignored"]))];
const SOAK: [Step; 1] = [("soak", |_| soak::run(2))];
const PACKAGES: [Step; 2] = [("package", |_| packages::dry_run()), ("install", |_| packages::install())];

pub(super) fn steps(group: Group) -> &'static [Step] {
    match group {
        Group::Sdks => &SDKS,
        Group::Fleets => &FLEETS,
        Group::Soak => &SOAK,
        Group::Packages => &PACKAGES,
    }
}

/// The group of a commit, by its hash in hexadecimal digits.
pub(super) fn of_commit(hash: &str) -> anyhow::Result<Group> {
    let digits = hash.get(..8).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let number = digits.with_context(|| format!("`{}` is no commit", hash.trim()))?;
    Ok(Group::ALL[number % Group::ALL.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_commits() {
        let group = |number: u32| of_commit(&format!("{number:08x}89abcdef")).unwrap();
        let chosen: Vec<Group> = (0..4).map(group).collect();
        assert_eq!(chosen, Group::ALL);
        assert!(of_commit("HEAD").is_err());
    }

    /// A slow test that names another group than the one it is run in would never be found.
    #[test]
    fn names_are_those_of_the_command_line() {
        for group in Group::value_variants() {
            assert_eq!(group.to_possible_value().unwrap().get_name(), group.name());
            assert!(Group::ALL.contains(group));
        }
    }
}
