//! Which variables of the gateway's environment a child process inherits. The gateway's own secrets are not
//! passed on. A child inherits what programs generally need, and what its operator names.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::Arc;

/// Variables that every child inherits if the gateway has them. The first six are those that the official
/// SDKs pass on. The rest are the locale, directories of the user, and network settings.
const INHERITED: [&str; 29] = [
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "USER",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    // Windows programs need these, also under a translation layer.
    "APPDATA",
    "LOCALAPPDATA",
    "SYSTEMROOT",
    "TEMP",
    "USERNAME",
    "USERPROFILE",
];

/// The gateway's environment. Values are kept out of logs.
#[derive(Clone, Default)]
pub struct Environment(Arc<[(OsString, OsString)]>);

impl Environment {
    /// Creates an environment of these variables.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The variables that a child inherits: the standard ones, and those in `extra_names`. A name that ends
    /// in `*` matches all names with that prefix.
    pub(crate) fn inherited<'a>(
        &'a self,
        extra_names: &'a [String],
    ) -> impl Iterator<Item = (&'a OsStr, &'a OsStr)> {
        self.matching(move |name| {
            let mut patterns = INHERITED.into_iter().chain(extra_names.iter().map(String::as_str));
            patterns.any(|pattern| is_match(pattern, name))
        })
    }

    /// The variables of [`Self::inherited`] that `extra_names` adds.
    pub(crate) fn named<'a>(
        &'a self,
        extra_names: &'a [String],
    ) -> impl Iterator<Item = (&'a OsStr, &'a OsStr)> {
        self.matching(move |name| extra_names.iter().any(|pattern| is_match(pattern, name)))
    }

    fn matching(&self, is_wanted: impl Fn(&OsStr) -> bool) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let variables = self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        // Shells export functions as variables. A vulnerable old shell under the child would execute such a
        // value.
        variables.filter(move |(name, value)| is_wanted(name) && !value.as_encoded_bytes().starts_with(b"()"))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

fn is_match(pattern: &str, name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited_names(extra_names: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let pairs = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let named: Vec<String> = extra_names.iter().map(|name| (*name).to_owned()).collect();
        let environment = Environment::new(pairs);
        environment.inherited(&named).map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_child_gets_what_is_usual_and_what_is_named() {
        let all = [
            ("HOME", "/h"),
            ("LC_TIME", "C"),
            ("XDG_CACHE_HOME", "/c"),
            ("https_proxy", "http://p"),
            ("GITHUB_TOKEN", "secret"),
            ("AWS_REGION", "eu"),
            ("AWS_PROFILE", "p"),
            ("PATHS", "no"),
            ("SHELL", "() { :; }; echo"),
        ];
        let usual = ["HOME", "LC_TIME", "XDG_CACHE_HOME", "https_proxy"];
        assert_eq!(inherited_names(&[], &all), usual);
        assert_eq!(inherited_names(&["AWS_*"], &all), [&usual[..], &["AWS_REGION", "AWS_PROFILE"]].concat());
        assert_eq!(
            inherited_names(&["GITHUB_TOKEN", "MISSING"], &all),
            [&usual[..], &["GITHUB_TOKEN"]].concat()
        );
        assert_eq!(inherited_names(&["*"], &all).len(), 8);
    }

    #[test]
    fn values_are_not_shown() {
        let environment = Environment::new([("A".into(), "secret".into())]);
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
