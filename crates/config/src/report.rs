//! Problems and warnings of a config, each with its path and line, and the nearest known name for a mistyped
//! one.

use std::fmt;

/// The kind of a problem. `vmcp explain` has a page for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProblemCode {
    /// The file cannot be read, is too large, or is not UTF-8.
    File,
    /// The file is not YAML, or not JSON.
    Syntax,
    /// The file is a configuration of another kind than was named.
    WrongFile,
    /// A key is not known.
    UnknownKey,
    /// A required key is missing.
    MissingKey,
    /// A value has another type than the key needs.
    WrongType,
    /// The value of a key cannot be used.
    #[default]
    InvalidValue,
    /// A reference to the environment cannot be replaced.
    Variable,
    /// The key belongs to a feature that this build does not have.
    NotBuilt,
    /// A key names a backend that does not exist. `/status` shows such a warning as a finding.
    NoSuchBackend,
    /// A setting has no effect, or is accepted and risky.
    Warning,
}

impl ProblemCode {
    /// All codes.
    pub const ALL: [Self; 11] = [
        Self::File,
        Self::Syntax,
        Self::WrongFile,
        Self::UnknownKey,
        Self::MissingKey,
        Self::WrongType,
        Self::InvalidValue,
        Self::Variable,
        Self::NotBuilt,
        Self::NoSuchBackend,
        Self::Warning,
    ];

    /// The code as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "config-file",
            Self::Syntax => "config-syntax",
            Self::WrongFile => "config-wrong-file",
            Self::UnknownKey => "config-unknown-key",
            Self::MissingKey => "config-missing-key",
            Self::WrongType => "config-wrong-type",
            Self::InvalidValue => "config-value",
            Self::Variable => "config-variable",
            Self::NotBuilt => "config-not-built",
            Self::NoSuchBackend => "config-no-such-backend",
            Self::Warning => "config-warning",
        }
    }
}

/// One thing that is wrong with a config, or has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `backends[0].url`; empty for the whole file.
    pub path: String,
    /// The line of the key, counted from 1; `None` if it is not known.
    pub line: Option<u64>,
    /// The description: it begins in lower case, has no full stop at its end, and contains no secret.
    pub message: String,
    /// The advice how to solve it.
    pub hint: Option<String>,
    /// The kind of the problem.
    pub code: ProblemCode,
}

impl Problem {
    /// A problem without a hint. Its line is found later, by its path.
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            message: message.into(),
            hint: None,
            code: ProblemCode::InvalidValue,
        }
    }

    /// Sets the kind.
    pub(crate) fn with_code(mut self, code: ProblemCode) -> Self {
        self.code = code;
        self
    }

    /// Sets the hint.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the hint to the nearest of the `known` names, if one is near.
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

/// The problems and warnings of a config file that cannot be served.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The path of the file as the caller gave it.
    pub file: String,
    /// The reasons why the file is refused, in the order of the file.
    pub problems: Vec<Problem>,
    /// Settings that have no effect, in the order of the file.
    pub warnings: Vec<Problem>,
}

impl Report {
    /// Formats `problem` as one line: `FILE:LINE: KIND PATH: MESSAGE; HINT`, where `kind` is empty or such as
    /// `warning: `.
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

/// The known name that is nearest to a mistyped one; `None` if none is near. A known name that begins with
/// `name` is near if `name` has at least four characters.
pub(crate) fn nearest_name<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = name.chars().count();
    let bound = (length / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|known| {
            let other = known.to_lowercase();
            let is_prefix = length >= 4 && other.starts_with(&lower);
            let distance = strsim::damerau_levenshtein(&lower, &other);
            (if is_prefix { distance.min(bound) } else { distance }, known)
        })
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// True if a problem at `path` only follows from one of the problems at the paths `problem_paths`: it is at or below
/// such a path, or at the map right around it.
pub(crate) fn is_consequence(path: &str, problem_paths: &[String]) -> bool {
    problem_paths.iter().any(|problem_paths| {
        let parent_path = problem_paths.rfind(['.', '[']).map_or("", |end| &problem_paths[..end]);
        let is_within = path
            .strip_prefix(problem_paths.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        is_within || (!parent_path.is_empty() && path == parent_path)
    })
}

/// The path of `key` within `path`. A key with other characters than letters, digits, `_` and `-` is quoted.
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
