use super::*;

#[test]
fn the_tree_is_tidy() {
    let failures = failures(&root()).expect("tidy can read the tree");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn complaints(path: &str, text: &str) -> Vec<String> {
    lines::check(&[File { path: path.to_owned(), text: text.to_owned() }])
}

#[test]
fn a_tidy_file_gives_no_complaint() {
    assert_eq!(complaints("crates/x/src/a.rs", "//! What this is.\n\nfn quota() {}\n"), [""; 0]);
    assert_eq!(complaints("crates/x/src/a/tests.rs", "use super::*;\n"), [""; 0]);
}

#[test]
fn each_rule_complains() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(400));
    let cases = [
        ("crates/x/src/a.rs", "fn quota() {}\n".to_owned(), "opens with"),
        ("crates/x/src/a.rs", long, "401 lines"),
        ("crates/x/src/utils.rs", "//! What.\n".to_owned(), "`utils`"),
        ("crates/x/src/a.rs", "//! What.\nmod helpers;\n".to_owned(), "`helpers`"),
        ("crates/x/src/a.rs", "//! What.\nstruct SessionManager;\n".to_owned(), "`SessionManager`"),
        ("crates/x/src/a.rs", format!("//! What.\n// {}: later\n", "FIX".to_owned() + "ME"), "unfinished"),
        (
            "crates/x/src/a.rs",
            format!("//! What.\nfn f() {{ {}!() }}\n", "unimple".to_owned() + "mented"),
            "unimplemented",
        ),
        ("README.md", format!("see {}main\n", "/wo".to_owned() + "rk/"), "a path of one machine"),
        ("README.md", format!("from {}\n", "pypi".to_owned() + ".org"), "a registry"),
        ("crates/x/src/a.rs", "//! What.\nimpl Gateway for Layer {}\n".to_owned(), "missing_trait_methods"),
    ];
    for (path, text, expected) in cases {
        let complaints = complaints(path, &text).join("\n");
        assert!(complaints.contains(expected), "{path}: {expected:?} is not in {complaints:?}");
    }
}

#[test]
fn a_gateway_with_its_lint_or_in_a_test_is_fine() {
    let denied = "//! What.\n#[deny(clippy::missing_trait_methods)]\nimpl Gateway for Layer {}\n";
    assert_eq!(complaints("crates/x/src/a.rs", denied), [""; 0]);
    let plain = "//! What.\nimpl Gateway for Fake {}\n";
    assert_eq!(complaints("testing/testkit/src/a.rs", plain), [""; 0]);
    assert_eq!(complaints("crates/x/src/a/tests.rs", plain), [""; 0]);
}

#[test]
fn arrows_that_break_the_star_are_told() {
    let told = |from: &str, to: &str| dependencies::forbidden_reason(from, to).is_some();
    assert!(told("vmcp-domain", "tokio"));
    assert!(told("vmcp-domain", "vmcp-wire"));
    assert!(told("vmcp-federation", "vmcp-wire"));
    assert!(told("vmcp-ratelimit", "vmcp-authz"));
    assert!(told("vmcp-gateway", "vmcp-testkit"));
    assert!(!told("vmcp-gateway", "vmcp-federation"));
    assert!(!told("vmcp-ratelimit-redis", "vmcp-ratelimit"));
    assert!(!told("vmcp-edge", "vmcp-wire"));
}
