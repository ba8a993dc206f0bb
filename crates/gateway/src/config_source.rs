//! Finds the configuration that a command reads: the file that the command line names, or the one at a usual place.

use std::path::{Path, PathBuf};

use vmcp::process::environment;

use crate::cli::Source;

/// The variable that names the configuration.
const VARIABLE: &str = "VMCP_CONFIG";
/// The name of the file at each usual place.
const FILE_NAME: &str = "vmcp.yaml";

/// A configuration that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConfigFile {
    /// A configuration file (YAML).
    Yaml(PathBuf),
    /// The `mcpServers` JSON file of a desktop client.
    McpJson(PathBuf),
}

impl ConfigFile {
    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Yaml(path) | Self::McpJson(path) => path,
        }
    }
}

/// The command line names no configuration, and there is none at a usual place.
#[derive(Debug, thiserror::Error)]
#[error(
    "no configuration: there is no {}; name one with --config FILE or --mcp-json FILE, or write one with \
     `vmcp init -o vmcp.yaml`",
    .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no ")
)]
pub(crate) struct NoConfig(Vec<PathBuf>);

/// Finds the configuration, and whether the command line names it.
pub(crate) fn find(source: &Source) -> Result<(ConfigFile, bool), NoConfig> {
    find_with(source, &environment, &|path| path.is_file())
}

fn find_with(
    source: &Source,
    variable: &dyn Fn(&str) -> Option<String>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<(ConfigFile, bool), NoConfig> {
    match (&source.config, &source.mcp_json) {
        (Some(path), _) => return Ok((ConfigFile::Yaml(path.clone()), true)),
        (None, Some(path)) => return Ok((ConfigFile::McpJson(path.clone()), true)),
        (None, None) => {}
    }
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A file that the variable names is used even if it does not exist: the error then names it.
    if let Some(path) = set(VARIABLE) {
        return Ok((ConfigFile::Yaml(path), false));
    }
    let user_folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let mut places = vec![Path::new(".").join(FILE_NAME)];
    places.extend(user_folder.map(|folder| folder.join("vmcp").join(FILE_NAME)));
    match places.iter().find(|path| exists(path)) {
        Some(path) => Ok((ConfigFile::Yaml(path.clone()), false)),
        None => Err(NoConfig(places)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(named: Option<&str>, variables: &[(&str, &str)], files: &[&str]) -> String {
        let source = Source { config: named.map(PathBuf::from), mcp_json: None, debug: false };
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = find_with(&source, &variable, &|path| files.iter().any(|file| path == Path::new(file)));
        match found {
            Ok((file, is_named)) => format!("{} {is_named}", file.path().display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_usual_places_are_searched_in_order() {
        let home = ("HOME", "/home/a");
        let user = "/home/a/.config/vmcp/vmcp.yaml";
        assert_eq!(find(Some("x"), &[("VMCP_CONFIG", "y")], &["./vmcp.yaml"]), "x true");
        assert_eq!(find(None, &[("VMCP_CONFIG", "y"), home], &["./vmcp.yaml"]), "y false");
        assert_eq!(find(None, &[("VMCP_CONFIG", ""), home], &["./vmcp.yaml", user]), "./vmcp.yaml false");
        assert_eq!(find(None, &[home], &[user]), format!("{user} false"));
        assert_eq!(
            find(None, &[("XDG_CONFIG_HOME", "/c"), home], &["/c/vmcp/vmcp.yaml"]),
            "/c/vmcp/vmcp.yaml false"
        );
        let missing = find(None, &[home], &[]);
        assert!(
            missing.contains("there is no ./vmcp.yaml and no /home/a/.config/vmcp/vmcp.yaml;"),
            "{missing}"
        );
    }
}
