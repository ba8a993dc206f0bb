//! What clients see instead of the list: the two virtual tools, and the summary of the servers in the
//! description of `find_tool`. Pinned tools and their order are left to `layer`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use vmcp_domain::{ProtocolVersion, RoutingTarget, Tool, ToolHints, ToolOverride, VirtualNames};
use vmcp_json::Json;
use vmcp_wire::definitions;

use crate::search::text;

/// Maximum number of servers in the summary.
const SERVER_COUNT_MAX: usize = 40;
/// Maximum number of words about each server.
const WORD_COUNT: usize = 6;

const FIND_DEFINITION: &str = r#"{
"name":"find_tool",
"title":"Find tools",
"description":"Finds tools that can do a task. Only find_tool and call_tool are listed here; many more tools exist. Say what needs doing, get back the tools that fit best with their input schemas, then run one with call_tool. Search again with other words if nothing fits.",
"inputSchema":{"type":"object","properties":{
"tool_description":{"type":"string","description":"What the tool should do, in plain words: one task, for example 'create an issue in a repository'."},
"tool_keywords":{"type":"array","items":{"type":"string"},"description":"Further words to look for: a product, a server, a kind of object."}},
"required":["tool_description"]},
"annotations":{"title":"Find tools","readOnlyHint":true,"idempotentHint":true,"openWorldHint":false}}"#;

const CALL_DEFINITION: &str = r#"{
"name":"call_tool",
"title":"Call a tool",
"description":"Runs a tool that find_tool returned.",
"inputSchema":{"type":"object","properties":{
"tool_name":{"type":"string","description":"The tool's name, exactly as find_tool returned it."},
"parameters":{"type":"object","additionalProperties":true,"description":"The tool's arguments, as find_tool returned them."}},
"required":["tool_name","parameters"]},
"annotations":{"title":"Call a tool"}}"#;

/// The virtual tools with their built-in descriptions.
#[must_use]
pub fn virtual_tools(names: &VirtualNames) -> Vec<Tool> {
    let definitions = [FIND_DEFINITION, CALL_DEFINITION].into_iter();
    definitions.filter_map(|definition| parse_definition(&names.in_text(definition))).collect()
}

fn parse_definition(definition: &str) -> Option<Tool> {
    let offered = {
        let json = Json::parse(definition.replace('\n', "")).ok()?;
        definitions::read_tool(&json, ProtocolVersion::V2026_07_28).ok()?.item
    };
    Some(Tool {
        contested_name: None,
        name: offered.name.as_str().into(),
        target: RoutingTarget::for_virtual(offered.name),
        description: offered.description,
        hints: ToolHints { ..offered.hints },
        definition: offered.definition,
        overrides: ToolOverride::default(),
    })
}

/// The virtual tools, with the operator's description of `find_tool` if there is one, and with the summary of
/// the servers.
pub(crate) fn with_description(
    names: &VirtualNames,
    own_text: Option<&str>,
    summary: Option<&str>,
) -> Vec<Tool> {
    let mut tools = virtual_tools(names);
    if let Some(find) = tools.iter_mut().find(|tool| tool.name.as_str() == names.find) {
        let text = own_text.map_or_else(|| find.description.clone().unwrap_or_default(), str::to_owned);
        let text = match summary {
            Some(summary) => format!("{text}\n\n{summary}"),
            None => text,
        };
        find.description = Some(text.clone());
        find.overrides.description = Some(text);
    }
    tools
}

/// The summary of the servers: for each the number of its tools, and the words in their names that
/// distinguish it from other servers. `None` when there is no server.
pub(crate) fn summarise(tools: &[Tool]) -> Option<String> {
    let mut servers: BTreeMap<&str, (usize, HashMap<String, usize>)> = BTreeMap::new();
    for tool in tools {
        let (count, words) = servers.entry(tool.target.backend.as_str()).or_default();
        *count += 1;
        let mut names_words = HashSet::new();
        text::each_name_word(tool.name.as_str(), |word| {
            names_words.insert(word.to_owned());
        });
        for word in names_words {
            *words.entry(word).or_default() += 1;
        }
    }
    let mut server_counts: HashMap<&str, usize> = HashMap::new();
    for word in servers.values().flat_map(|(_, words)| words.keys()) {
        *server_counts.entry(word).or_default() += 1;
    }
    if servers.is_empty() {
        return None;
    }
    let mut summary = String::from("Servers:");
    for (server, (count, words)) in servers.iter().take(SERVER_COUNT_MAX) {
        let plural = if *count == 1 { "" } else { "s" };
        let _ = write!(summary, "\n- {server} ({count} tool{plural})");
        let words_of_server = distinctive_words(server, words, &server_counts);
        if !words_of_server.is_empty() {
            let _ = write!(summary, ": {}", words_of_server.join(", "));
        }
    }
    if let more @ 1.. = servers.len().saturating_sub(SERVER_COUNT_MAX) {
        let _ = write!(summary, "\n- and {more} more");
    }
    Some(summary)
}

/// The words that occur in many of a server's tool names and in few of other servers', the most distinctive
/// first. Words within the server's own name, and the plural or singular of a word that is already chosen,
/// are left out.
fn distinctive_words<'a>(
    server: &str,
    words: &'a HashMap<String, usize>,
    server_counts: &HashMap<&str, usize>,
) -> Vec<&'a str> {
    let weight = |(word, count): &(&String, &usize)| {
        // In thousandths, so that integer division keeps weights comparable.
        *count * 1000 / server_counts.get(word.as_str()).copied().unwrap_or(1).max(1)
    };
    let long = words.iter().filter(|(word, _)| {
        word.chars().count() > 2 && !server.contains(word.as_str()) && word.contains(char::is_alphabetic)
    });
    let mut ranked: Vec<(&String, &usize)> = long.collect();
    ranked.sort_by(|left, right| weight(right).cmp(&weight(left)).then_with(|| left.0.cmp(right.0)));
    let mut chosen: Vec<&str> = Vec::new();
    for (word, _) in ranked {
        let plural =
            |other: &&str| other.strip_suffix('s') == Some(word) || word.strip_suffix('s') == Some(other);
        if chosen.len() < WORD_COUNT && !chosen.iter().any(plural) {
            chosen.push(word);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use vmcp_testkit::tool;

    use super::*;

    #[test]
    fn the_built_in_definitions_can_be_read() {
        let usual = VirtualNames::default();
        let tools = virtual_tools(&usual);
        let names: Vec<String> = tools.iter().map(|tool| tool.name.to_string()).collect();
        assert_eq!(names, [usual.find, usual.call]);
        assert!(tools.iter().all(|tool| tool.target.is_virtual() && tool.description.is_some()));
    }

    #[test]
    fn the_summary_says_what_tells_servers_apart() {
        let tools = [
            tool("github", "create_issue", "github_create_issue"),
            tool("github", "list_issue", "github_list_issue"),
            tool("time", "list_zone", "time_list_zone"),
        ];
        let summary = summarise(&tools).unwrap();
        assert_eq!(summary, "Servers:\n- github (2 tools): issue, create, list\n- time (1 tool): zone, list");
        assert_eq!(summarise(&[]), None);
    }

    #[test]
    fn the_summary_is_bounded() {
        let many: Vec<Tool> =
            (0..1000).map(|n| tool(&format!("server{n:04}"), "run", &format!("t{n}"))).collect();
        let summary = summarise(&many).unwrap();
        assert!(summary.ends_with("- and 960 more"), "{summary}");
        assert_eq!(summary.lines().count(), SERVER_COUNT_MAX + 2);
    }

    #[test]
    fn an_operators_description_replaces_ours() {
        let tools = with_description(&VirtualNames::default(), Some("Look here."), Some("Servers:\n- a"));
        assert_eq!(tools[0].description.as_deref(), Some("Look here.\n\nServers:\n- a"));
        let written = definitions::write_tool(&tools[0]);
        assert!(written.as_str().contains("Look here."), "{}", written.as_str());
    }
}
