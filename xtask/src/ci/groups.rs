//! The slow groups: tests that take minutes. CI runs one group for each commit, so that all groups run over
//! the commits of a week.

use anyhow::Context as _;
use clap::ValueEnum;

use super::Step;
use crate::{fuzz, matrix, mutants, odd_servers, packages, refusals, soak};

/// A named group of slow tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Every protocol feature between the clients and servers of several SDKs.
    Sdks,
    /// Fleets of processes on one Redis or Valkey, some of which are killed or stopped.
    Fleets,
    /// Minutes of mixed calls while backends stop and restart.
    Soak,
    /// Each crate packaged as for a registry, and the binary installed with `cargo install`.
    Packages,
    /// A part of the mutations of the limiter, each of which a unit test must detect.
    Mutants,
    /// Every fuzz target for a minute, guided by code coverage.
    Fuzz,
}

impl Group {
    pub(super) const ALL: [Self; 6] =
        [Self::Sdks, Self::Fleets, Self::Soak, Self::Packages, Self::Mutants, Self::Fuzz];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sdks => "sdks",
            Self::Fleets => "fleets",
            Self::Soak => "soak",
            Self::Packages => "packages",
            Self::Mutants => "mutants",
            Self::Fuzz => "fuzz",
        }
    }
}

const SDKS: [Step; 3] = [
    ("matrix", |_| matrix::run(true)),
    ("odd", |_| odd_servers::run(true)),
    ("refusals", |_| refusals::run(true)),
];
/// Slow tests are marked `#[ignore]` with the name of this group.
const FLEETS: [Step; 1] = [("fleets", |run| {
    run.run_cargo(&["test", "--workspace", "--no-fail-fast", "--tests", "--", "--ignored"])
})];
const SOAK: [Step; 1] = [("soak", |_| soak::run(2))];
const PACKAGES: [Step; 2] = [("package", |_| packages::dry_run()), ("install", |_| packages::install())];
const MUTANTS: [Step; 1] = [("mutants", |_| mutants::run_part_of_commit())];
const FUZZ: [Step; 1] = [("fuzz", |_| fuzz::run_group())];

pub(super) fn steps(group: Group) -> &'static [Step] {
    match group {
        Group::Sdks => &SDKS,
        Group::Fleets => &FLEETS,
        Group::Soak => &SOAK,
        Group::Packages => &PACKAGES,
        Group::Mutants => &MUTANTS,
        Group::Fuzz => &FUZZ,
    }
}

/// Selects the group of a commit from its hash in hexadecimal digits.
pub(super) fn group_of_commit(hash: &str) -> anyhow::Result<Group> {
    Ok(Group::ALL[digits_at(hash, 0)? % Group::ALL.len()])
}

/// Selects one of `count` parts of a group for a commit. It reads other digits than the selection of the
/// group, so the two are independent.
pub(crate) fn part_of_commit(hash: &str, count: usize) -> anyhow::Result<usize> {
    Ok(digits_at(hash, 8)? % count)
}

/// The number in the eight hexadecimal digits of a commit's hash from `start`.
fn digits_at(hash: &str, start: usize) -> anyhow::Result<usize> {
    let digits = hash.get(start..start + 8).and_then(|digits| usize::from_str_radix(digits, 16).ok());
    digits.with_context(|| format!("`{}` is no commit", hash.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_commits() {
        let group = |number: u32| group_of_commit(&format!("{number:08x}89abcdef")).unwrap();
        let chosen: Vec<Group> = (0..6).map(group).collect();
        assert_eq!(chosen, Group::ALL);
        assert!(group_of_commit("HEAD").is_err());
    }

    #[test]
    fn every_part_has_its_commits_in_every_group() {
        let part = |number: u32| part_of_commit(&format!("00000000{number:08x}"), 3).unwrap();
        assert_eq!((0..4).map(part).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert!(part_of_commit("00000000", 3).is_err());
    }

    /// Every slow test must name an existing group, or it would never run.
    #[test]
    fn names_are_those_of_the_command_line() {
        for group in Group::value_variants() {
            assert_eq!(group.to_possible_value().unwrap().get_name(), group.name());
            assert!(Group::ALL.contains(group));
        }
    }
}
