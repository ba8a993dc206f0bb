//! `cargo xtask ci`, which `./test` runs: the usual tests, the slow groups, or both. Each step is timed. The
//! first failure ends the run. The table of times and the list of skipped tests are printed in either case.

mod groups;
mod skipped;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use vmcp_e2e::{cache, process};

use crate::{conformance, root, tidy};

pub(crate) use groups::{Group, part_of_commit};
use skipped::SkippedTests;

/// The tests to run.
pub(crate) enum Selection {
    /// The usual tests.
    Usual,
    /// The usual tests and one slow group, which the hash of the checked-out commit selects.
    Commit,
    /// One slow group.
    Group(Group),
    /// The usual tests and every slow group.
    All,
}

/// A step with its name. The processes that it starts receive the environment of the run.
type Step = (&'static str, fn(&Environment) -> anyhow::Result<()>);

/// The environment of every command of a run.
struct Environment {
    skipped: SkippedTests,
}

/// The steps of the usual tests. Cheap steps come first, so that a simple mistake is reported early. The
/// binaries are built before the tests that start them, so that no test waits for the compiler.
const USUAL: [Step; 8] = [
    ("format", |run| run.run_cargo(&["fmt", "--all", "--", "--check"])),
    ("tidy", |_| tidy::run()),
    ("deny", |run| run.run_deny()),
    ("clippy", |run| run.run_cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("build", |run| run.run_cargo(&process::BUILD)),
    ("test", |run| run.run_cargo(&["test", "--workspace", "--no-fail-fast"])),
    ("doc", |run| run.run_doc()),
    ("conformance", |_| conformance::run(true)),
];

pub(crate) fn run(selection: &Selection) -> anyhow::Result<()> {
    let usual = USUAL.to_vec();
    let steps_of = |group: &Group| groups::steps(*group).to_vec();
    let build = ("build", USUAL[4].1);
    let steps = match selection {
        Selection::Usual => usual,
        Selection::Commit => {
            let group = groups::group_of_commit(&head()?)?;
            println!("This commit's slow group: {}", group.name());
            [usual, steps_of(&group)].concat()
        }
        Selection::Group(group) => [vec![build], steps_of(group)].concat(),
        Selection::All => [usual, Group::ALL.iter().flat_map(steps_of).collect()].concat(),
    };
    let environment = Environment { skipped: SkippedTests::collect()? };
    let mut times = String::new();
    let mut failed = None;
    for (name, step) in steps {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = step(&environment);
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        times.push_str(&format!("{name:<16} {:>7.1} s  {verdict}\n", start.elapsed().as_secs_f64()));
        if let Err(error) = result {
            failed = Some(error.context(format!("ci failed at: {name}")));
            break;
        }
    }
    println!("\n{times}\n{}", environment.skipped.report()?);
    failed.map_or(Ok(()), Err)
}

/// The hash of the checked-out commit.
pub(crate) fn head() -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]).current_dir(root());
    process::run(&mut git).context("the slow group is chosen by the commit, so this must be a git checkout")
}

impl Environment {
    fn run_cargo(&self, args: &[&str]) -> anyhow::Result<()> {
        self.run_cargo_with(args, &[])
    }

    fn run_cargo_with(&self, args: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut command = Command::new("cargo");
        command.args(args).envs(variables.iter().copied()).current_dir(root());
        self.skipped.set_environment(&mut command);
        let status = command.status().context("cargo does not start")?;
        ensure!(status.success(), "`cargo {}` failed; the reason is printed above", args.join(" "));
        Ok(())
    }

    /// Checks licences, duplicate and banned crates, and sources, by the rules of `deny.toml`.
    fn run_deny(&self) -> anyhow::Result<()> {
        let program = cache::installed("cargo", "deny")?.join("bin/cargo-deny");
        let mut command = Command::new(program);
        command.args(["--workspace", "check", "licenses", "bans", "sources"]).current_dir(root());
        let status = command.status().context("cargo-deny does not start; run ./test --install")?;
        ensure!(status.success(), "cargo-deny found what deny.toml does not allow; see above");
        Ok(())
    }

    fn run_doc(&self) -> anyhow::Result<()> {
        self.run_cargo_with(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
    }
}
