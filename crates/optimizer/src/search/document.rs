//! The searchable text of a tool: its fields, their words, and the text that a model embeds.
//!
//! A [`Document`] depends on its tool only, so it is built once and shared by every index that contains the
//! tool.

mod schema;

use vmcp_domain::Tool;
use vmcp_json::Json;

use crate::search::text;

/// The field in which a word occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The name of the server. It is a product in most cases.
    Server,
    /// The advertised name, without the prefix that names the server.
    Name,
    /// The display title.
    Title,
    /// The effective description.
    Description,
    /// Names and descriptions of the parameters.
    Parameters,
}

/// The number of fields.
pub(crate) const FIELDS: usize = 5;

/// The words of one tool, counted for each field. Any number of indexes can share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// All distinct stems, sorted and concatenated.
    stems: Box<str>,
    entries: Box<[Entry]>,
    /// The number of words in each field.
    lengths: [u16; FIELDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// The end of the stem in `stems`; it begins where the previous stem ends.
    end: u32,
    /// How often the stem occurs in each field.
    counts: [u8; FIELDS],
}

impl Document {
    /// The document of `tool`: its server, advertised name, title, effective description and input schema.
    #[must_use]
    pub fn from_tool(tool: &Tool) -> Self {
        let mut counter = WordCounter::new();
        counter.add(Field::Server, tool.target.backend.as_str());
        counter.add(Field::Name, name_without_server(tool));
        let title = tool.definition.get("title").and_then(Json::decode_string);
        if let Some(title) = title.as_deref().or(tool.hints.title.as_deref()) {
            counter.add(Field::Title, title);
        }
        if let Some(description) = &tool.description {
            counter.add(Field::Description, description);
        }
        if let Some(schema) = tool.definition.get("inputSchema") {
            schema::each_text(schema, &mut |text| counter.add(Field::Parameters, text));
        }
        counter.finish()
    }

    /// Every distinct stem and how often it occurs in each field, sorted by stem.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, [u8; FIELDS])> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let end = entry.end as usize;
            let stem = self.stems.get(start..end).unwrap_or_default();
            start = end;
            (stem, entry.counts)
        })
    }

    /// The number of words in each field.
    pub(crate) fn lengths(&self) -> [u16; FIELDS] {
        self.lengths
    }

    /// The memory that it occupies, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.stems.len() + size_of_val(&*self.entries)
    }
}

/// The advertised name without the prefix that names the server, as `conflictResolution: prefix` and many servers
/// write it. The words of a prefix are in the field [`Field::Server`].
pub(crate) fn name_without_server(tool: &Tool) -> &str {
    let name = tool.name.as_str();
    let server = tool.target.backend.as_str();
    let rest = name.get(..server.len()).filter(|start| start.eq_ignore_ascii_case(server));
    let rest = rest.map(|_| name.get(server.len()..).unwrap_or_default());
    let rest = rest.and_then(|rest| rest.strip_prefix(|c: char| !c.is_alphanumeric()));
    rest.map(|rest| rest.trim_start_matches(|c: char| !c.is_alphanumeric()))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name)
}

/// The text of `tool` that is embedded: the words of its name, a colon and the description, without line
/// breaks. Parameters are left out, because they cost a model more than they improve the vector.
#[must_use]
pub fn embedding_text(tool: &Tool) -> String {
    let mut text = String::new();
    let mut add = |word: &str| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    };
    text::each_name_word(tool.target.backend.as_str(), &mut add);
    text::each_name_word(name_without_server(tool), &mut add);
    let description = text::truncate(tool.description.as_deref().unwrap_or_default(), text::TEXT_BYTES_MAX);
    if !description.trim().is_empty() {
        text.push(':');
    }
    for word in description.split_whitespace() {
        text.push(' ');
        text.push_str(word);
    }
    text
}

/// Collects the words of one tool.
struct WordCounter {
    /// The stems in the order of their occurrence, concatenated.
    stems: String,
    /// The start, the end and the field of each stem.
    found: Vec<(u32, u32, Field)>,
    lengths: [u16; FIELDS],
}

impl WordCounter {
    fn new() -> Self {
        Self { stems: String::new(), found: Vec::new(), lengths: [0; FIELDS] }
    }

    fn add(&mut self, field: Field, text: &str) {
        text::each_word(text, |word| {
            // Stop words count in a name, because a name may consist of them alone: `who` does, `whoami` does
            // not.
            if field != Field::Name && text::is_stop_word(word) {
                return;
            }
            let start = self.stems.len() as u32;
            text::append_stem(word, &mut self.stems);
            self.found.push((start, self.stems.len() as u32, field));
            if let Some(length) = self.lengths.get_mut(field as usize) {
                *length = length.saturating_add(1);
            }
        });
    }

    fn finish(self) -> Document {
        let Self { stems: all, mut found, lengths, .. } = self;
        let stem =
            |&(start, end, _): &(u32, u32, Field)| all.get(start as usize..end as usize).unwrap_or_default();
        found.sort_unstable_by(|one, other| stem(one).cmp(stem(other)));
        let mut stems = String::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(found.len());
        let mut last = None;
        for word in &found {
            let text = stem(word);
            if last != Some(text) {
                stems.push_str(text);
                entries.push(Entry { end: stems.len() as u32, counts: [0; FIELDS] });
                last = Some(text);
            }
            if let Some(count) = entries.last_mut().and_then(|entry| entry.counts.get_mut(word.2 as usize)) {
                *count = count.saturating_add(1);
            }
        }
        Document { stems: stems.into(), entries: entries.into(), lengths }
    }
}

#[cfg(test)]
mod tests;
