//! Runs every target on its seeds and on random changes of them, five seconds each. The environment variable
//! `VMCP_FUZZ_SECONDS` sets another duration.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use vmcp_fuzz::{TARGETS, Target, apply, edits, folder, seeds};

/// How many inputs are tried between two looks at the time.
const BATCH: u32 = 64;

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target).unwrap_or_else(|error| panic!("{error:#}"));
    seeds.iter().for_each(|seed| (target.check)(seed));
    #[allow(clippy::disallowed_methods, reason = "a test has no `vmcp::process`")]
    let seconds = std::env::var("VMCP_FUZZ_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let (start, duration) = (Instant::now(), Duration::from_secs(seconds));
    let mut tried = 0;
    while start.elapsed() < duration {
        run_batch(target, &seeds);
        tried += BATCH;
    }
    println!("{name}: {tried} inputs");
}

fn run_batch(target: &Target, seeds: &[Vec<u8>]) {
    let config = Config { cases: BATCH, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&(any::<Index>(), edits()), |(first, edits)| {
        let input = apply(seeds, &first, target.tokens, &edits);
        // An input that ends the process, such as by a stack overflow, is found here.
        fs::write(input_file(target), &input).unwrap();
        (target.check)(&input);
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, (first, edits))) = outcome {
        let input = apply(seeds, &first, target.tokens, &edits);
        let path = input_file(target);
        fs::write(&path, &input).unwrap();
        let start = input.get(..input.len().min(400)).unwrap_or_default().escape_ascii();
        panic!(
            "{}: {reason}\nthe input begins with \"{start}\"; copy it to {} to try it in every run: {}",
            target.name,
            folder(target).display(),
            path.display()
        );
    }
    outcome.unwrap();
}

/// The last input of a target.
fn input_file(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", target.name))
}

macro_rules! tests {
    ($($name:ident),*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| tested.contains(&target.name)));
        }
    };
}

tests!(configuration, cursors, events, headers, http1, json, messages, policies, sealed_states, templates);
