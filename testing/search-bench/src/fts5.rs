//! The baseline: SQLite's FTS5 with the Porter stemmer over name and description, queried as the reference
//! does.

use rusqlite::{Connection, params};
use vmcp_domain::Tool;

/// How a request is converted to an FTS5 expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryMode {
    /// As the reference does: the whole request is one phrase if it contains a common word or is a single
    /// word. Otherwise its words are alternatives.
    Reference,
    /// Common words are dropped, and the other words are alternatives.
    WithoutCommonWords,
}

/// The words that the reference treats as common.
const COMMON: [&str; 23] = [
    "column",
    "content",
    "data",
    "description",
    "field",
    "id",
    "index",
    "input",
    "key",
    "meta",
    "name",
    "output",
    "primary",
    "properties",
    "required",
    "schema",
    "server",
    "table",
    "text",
    "title",
    "tool",
    "type",
    "value",
];

pub(crate) struct Fts5(Connection);

impl Fts5 {
    pub(crate) fn build(tools: &[Tool]) -> anyhow::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE VIRTUAL TABLE tools USING fts5(name, description, tokenize='porter'); BEGIN;",
        )?;
        let mut insert =
            connection.prepare("INSERT INTO tools(rowid, name, description) VALUES (?1, ?2, ?3)")?;
        for (index, tool) in tools.iter().enumerate() {
            insert.execute(params![
                index as i64,
                tool.name.as_str(),
                tool.description.as_deref().unwrap_or_default()
            ])?;
        }
        drop(insert);
        connection.execute_batch("COMMIT;")?;
        Ok(Self(connection))
    }

    /// The indices of the best tools, best first.
    pub(crate) fn search(&self, request: &str, mode: QueryMode, count: usize) -> anyhow::Result<Vec<usize>> {
        let expression = match_expression(request, mode);
        if expression.is_empty() {
            return Ok(Vec::new());
        }
        let mut select = self
            .0
            .prepare_cached("SELECT rowid FROM tools WHERE tools MATCH ?1 ORDER BY rank, rowid LIMIT ?2")?;
        let rows = select.query_map(params![expression, count as i64], |row| row.get::<_, i64>(0))?;
        rows.map(|row| Ok(row? as usize)).collect()
    }
}

fn match_expression(request: &str, mode: QueryMode) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let common = |word: &&str| COMMON.contains(&word.to_lowercase().as_str());
    let mut words: Vec<&str> = request.split_whitespace().collect();
    match mode {
        QueryMode::Reference if words.len() == 1 || words.iter().any(common) => {
            return quoted(&words.join(" "));
        }
        QueryMode::Reference => {}
        QueryMode::WithoutCommonWords => words.retain(|word| !common(word)),
    }
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests;
