//! Converts the keys of a backend that is a child process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vmcp_backends::policy::{Secret, StdioPolicy};

use super::Findings;
use crate::report::{item_path, join_path};

/// The keys of a backend that is a child process.
pub(super) struct StdioKeys {
    pub(super) command: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) inherit_env: Vec<String>,
    pub(super) cwd: Option<String>,
}

impl StdioKeys {
    /// The names of the keys that are written.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("command", self.command.is_some()),
            ("args", !self.args.is_empty()),
            ("env", !self.env.is_empty()),
            ("inheritEnv", !self.inherit_env.is_empty()),
            ("cwd", self.cwd.is_some()),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    /// The policy of the process; `None` if there are problems.
    pub(super) fn convert(self, path: &str, findings: &mut Findings<'_>) -> Option<StdioPolicy> {
        let Self { command, args, env, inherit_env, cwd } = self;
        let command = command?;
        let before = findings.problems.len();
        if command.trim().is_empty() || command.contains('\0') {
            findings.add_problem(join_path(path, "command"), "must name a program");
        } else if args.is_empty() && command.contains(char::is_whitespace) && !command.contains(['/', '\\']) {
            findings
                .add_problem(join_path(path, "command"), format!("`{command}` is a whole command line"))
                .hint = Some("write the program here and its arguments under `args`".to_owned());
        }
        for (index, arg) in args.iter().enumerate() {
            if arg.contains('\0') {
                findings.add_problem(item_path(&join_path(path, "args"), index), "must not contain NUL");
            }
        }
        let env_path = join_path(path, "env");
        for (name, value) in &env {
            if name.is_empty() || name.contains(['=', '\0']) {
                findings.add_problem(join_path(&env_path, name), "is not a variable's name");
            } else if value.contains('\0') {
                findings.add_problem(join_path(&env_path, name), "must not contain NUL");
            }
        }
        for (index, name) in inherit_env.iter().enumerate() {
            let is_valid = |name: &str| !name.contains(['=', '\0', '*', '$']) && name.trim() == name;
            if name.is_empty() || !is_valid(name.strip_suffix('*').unwrap_or(name)) {
                findings
                    .add_problem(
                        item_path(&join_path(path, "inheritEnv"), index),
                        format!("`{name}` is not a variable's name"),
                    )
                    .hint =
                    Some("write names like `GITHUB_TOKEN`, or `AWS_*` for all that begin so".to_owned());
            }
        }
        if cwd.as_ref().is_some_and(|cwd| cwd.is_empty() || cwd.contains('\0')) {
            findings.add_problem(join_path(path, "cwd"), "must name a folder");
        }
        (findings.problems.len() == before).then(|| StdioPolicy {
            command,
            args,
            env: env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            inherit_env,
            cwd: cwd.map(PathBuf::from),
        })
    }
}
