//! What is wrong with a config: problems and warnings, each with the place it stands at, and the nearest
//! known name for a mistyped one.

use std::fmt;

/// One thing that is wrong, or has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The key's path (`backends[0].url`); empty when the whole file is meant.
    pub path: String,
    /// The line it stands on, counted from 1, where that is known.
    pub line: Option<u64>,
    /// What is wrong: lower case, no full stop, no secrets.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// It names a backend that is not there. `/status` tells of it as a finding.
    pub names_missing_backend: bool,
}

impl Problem {
    /// A problem without hint; its line is found by its path later.
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            message: message.into(),
            hint: None,
            names_missing_backend: false,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the nearest of `known` names, if one is near.
    pub(crate) fn with_nearest<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(near) = nearest_name(name, known) {
            self.hint = Some(format!("did you mean `{near}`?"));
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything found in one config file that cannot be served.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's path as it was given.
    pub file: String,
    /// Why it is refused, in the order of the file.
    pub problems: Vec<Problem>,
    /// What has no effect.
    pub warnings: Vec<Problem>,
}

impl Report {
    /// `problem` as one line, after the file's path and the line.
    pub fn format_line(file: &str, problem: &Problem, kind: &str) -> String {
        match problem.line {
            Some(line) => format!("{file}:{line}: {kind}{problem}"),
            None => format!("{file}: {kind}{problem}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = self.problems.iter().map(|problem| (problem, ""));
        let warnings = self.warnings.iter().map(|warning| (warning, "warning: "));
        for (index, (problem, kind)) in problems.chain(warnings).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&Self::format_line(&self.file, problem, kind))?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// The known name nearest to a mistyped one, unless none is near. The beginning of a name is near to it.
pub(crate) fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = name.chars().count();
    let bound = (length / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|known| {
            let other = known.to_lowercase();
            let begins = length >= 4 && other.starts_with(&lower);
            let distance = strsim::damerau_levenshtein(&lower, &other);
            (if begins { distance.min(bound) } else { distance }, known)
        })
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Whether a problem at `path` only follows from one of those at `wrong`: it lies within, or concerns the map
/// right around.
pub(crate) fn is_consequence(path: &str, wrong: &[String]) -> bool {
    wrong.iter().any(|wrong| {
        let around = wrong.rfind(['.', '[']).map_or("", |end| &wrong[..end]);
        let within = path
            .strip_prefix(wrong.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        within || (!around.is_empty() && path == around)
    })
}

/// The path of `key` within `path`; keys that are not plain words are quoted.
pub(crate) fn join_path(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    match (path, plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// The path of the item at `index` within `path`.
pub(crate) fn item_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
