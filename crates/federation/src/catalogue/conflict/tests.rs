use expect_test::{Expect, expect};

use super::*;
use crate::policy::PrefixFormat;

/// Resolves `claims` and compares the names and findings with `expected`. A claim has the form
/// `backend/name`; a hidden one has a leading `-`.
fn check(policy: &ConflictPolicy, claims: &[&str], expected: Expect) {
    let ids: Vec<(BackendId, &str, bool)> = claims
        .iter()
        .map(|text| {
            let (visible, text) = text.strip_prefix('-').map_or((true, *text), |text| (false, text));
            let (backend, name) = text.split_once('/').unwrap();
            (BackendId::from(backend), name, visible)
        })
        .collect();
    let list: Vec<NameClaim<'_>> =
        ids.iter().map(|(backend, name, visible)| NameClaim { backend, name, visible: *visible }).collect();
    let mut findings = Vec::new();
    let names = resolve_names(policy, &list, &mut findings);
    let mut text = String::new();
    for (claim, name) in claims.iter().zip(names) {
        text += &format!("{} -> {}\n", claim.escape_debug(), name.as_deref().unwrap_or("(none)"));
    }
    for finding in findings {
        text += &format!("! {finding}\n");
    }
    expected.assert_eq(&text);
}

fn auto() -> ConflictPolicy {
    ConflictPolicy::Auto { format: PrefixFormat::default() }
}

fn prefix(format: &str) -> ConflictPolicy {
    ConflictPolicy::Prefix { format: PrefixFormat::new(format) }
}

fn priority(order: &[&str]) -> ConflictPolicy {
    ConflictPolicy::Priority {
        order: order.iter().map(|id| (*id).into()).collect(),
        format: PrefixFormat::default(),
    }
}

#[test]
fn auto_prefixes_only_what_clashes() {
    check(
        &auto(),
        &["a/read", "a/search", "b/search", "b/write"],
        expect![[r"
        a/read -> read
        a/search -> a_search
        b/search -> b_search
        b/write -> write
    "]],
    );
}

#[test]
fn hidden_claims_cost_nobody_a_name() {
    check(
        &auto(),
        &["-a/search", "b/search"],
        expect![[r"
        -a/search -> a_search
        b/search -> search
    "]],
    );
    check(
        &ConflictPolicy::Manual,
        &["-a/search", "b/search", "-c/only"],
        expect![[r"
        -a/search -> (none)
        b/search -> search
        -c/only -> only
    "]],
    );
}

#[test]
fn prefix_renames_everything_and_the_first_keeps_a_residual_clash() {
    check(
        &prefix("{workload}_"),
        &["a/b_c", "a_b/c", "a/c"],
        expect![[r"
        a/b_c -> a_b_c
        a_b/c -> (none)
        a/c -> a_c
        ! `a_b_c` of backend `a_b` is not offered because backend `a` already has that name; rename it with an override
    "]],
    );
    check(
        &prefix("x.{workload}-"),
        &["a/t"],
        expect![[r"
        a/t -> x.a-t
    "]],
    );
}

#[test]
fn priority_gives_the_name_to_the_first_listed() {
    check(
        &priority(&["b", "a"]),
        &["a/t", "b/t", "c/t", "c/u", "d/u", "d/v"],
        expect![[r"
        a/t -> (none)
        b/t -> t
        c/t -> (none)
        c/u -> c_u
        d/u -> d_u
        d/v -> v
        ! `t` of backend `a` is not offered because backend `b` already has that name; rename it with an override
        ! `t` of backend `c` is not offered because backend `b` already has that name; rename it with an override
    "]],
    );
}

#[test]
fn manual_leaves_a_clash_to_nobody_and_the_rest_alone() {
    check(
        &ConflictPolicy::Manual,
        &["a/t", "b/t", "b/u"],
        expect![[r"
        a/t -> (none)
        b/t -> (none)
        b/u -> u
        ! `t` is offered by a, b and none of them gets it; rename all but one with an override
    "]],
    );
}

#[test]
fn a_name_listed_twice_counts_once() {
    check(
        &auto(),
        &["a/t", "a/t", "b/u"],
        expect![[r"
        a/t -> t
        a/t -> (none)
        b/u -> u
        ! backend `a` offers `t` twice; the first counts
    "]],
    );
}

#[test]
fn a_name_that_clients_cannot_be_given_is_left_out() {
    let long = format!("a/{}", "n".repeat(257));
    check(
        &auto(),
        &["a/fine", "a/", "a/x\ny", "a/e\u{1b}[2J", "b/fine", &long],
        expect![[r#"
            a/fine -> a_fine
            a/ -> (none)
            a/x\ny -> (none)
            a/e\u{1b}[2J -> (none)
            b/fine -> b_fine
            a/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn -> (none)
            ! "" of backend `a` is not offered: a name has 1 to 256 visible characters; rename it with an override
            ! "x\ny" of backend `a` is not offered: a name has 1 to 256 visible characters; rename it with an override
            ! "e\u{1b}[2J" of backend `a` is not offered: a name has 1 to 256 visible characters; rename it with an override
            ! "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" of backend `a` is not offered: a name has 1 to 256 visible characters; rename it with an override
        "#]],
    );
}
