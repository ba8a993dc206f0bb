//! The arguments of a call: JSON whose texts may be templates.

use std::collections::BTreeMap;

use serde_json::Value as Data;
use vmcp_json::Json;
use vmcp_template::{DataPath, EvaluateError, ParseError, Rendered, Segment, Template, Value};

use crate::fit::{self, Schema};
use crate::policy::MissingValues;

/// JSON whose texts may be templates.
#[derive(Clone, Debug)]
pub(crate) enum ArgumentTemplate {
    /// A value without templates.
    Constant(Json),
    /// A text with actions.
    Template(Template),
    List(Vec<ArgumentTemplate>),
    Object(Vec<(String, ArgumentTemplate)>),
}

impl ArgumentTemplate {
    /// Parses the templates inside `value`. Errors are added with their paths below `path`.
    pub(crate) fn parse(value: &Data, path: &str, errors: &mut Vec<(String, ParseError)>) -> Self {
        match value {
            Data::String(text) => match Template::parse(text) {
                Ok(template) if template.plain_text().is_none() => Self::Template(template),
                Ok(_) => Self::Constant(Json::string(text)),
                Err(error) => {
                    errors.push((path.to_owned(), error));
                    Self::Constant(Json::string(text))
                }
            },
            Data::Array(items) => {
                let items = items.iter().enumerate();
                Self::List(
                    items
                        .map(|(index, item)| Self::parse(item, &format!("{path}[{index}]"), errors))
                        .collect(),
                )
            }
            Data::Object(members) => Self::object(members, path, errors),
            Data::Null | Data::Bool(_) | Data::Number(_) => {
                Self::Constant(Json::encode(value).unwrap_or_else(|_| Json::empty_object()))
            }
        }
    }

    /// As [`Self::parse`], for the members of an object.
    pub(crate) fn object(
        members: &serde_json::Map<String, Data>,
        path: &str,
        errors: &mut Vec<(String, ParseError)>,
    ) -> Self {
        let each = |(name, value): (&String, &Data)| {
            (name.clone(), Self::parse(value, &format!("{path}[{name}]"), errors))
        };
        Self::Object(members.iter().map(each).collect())
    }

    /// The data that the templates read, each with the path of its template below `path`.
    pub(crate) fn data_paths(&self, path: &str, found: &mut Vec<(String, DataPath)>) {
        match self {
            Self::Constant(_) => {}
            Self::Template(template) => {
                found.extend(template.data_paths().into_iter().map(|one| (path.to_owned(), one)));
            }
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.data_paths(&format!("{path}[{index}]"), found);
                }
            }
            Self::Object(members) => {
                for (name, member) in members {
                    member.data_paths(&format!("{path}[{name}]"), found);
                }
            }
        }
    }

    /// Whether there are no templates.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Template(_) => false,
            Self::List(items) => items.iter().all(Self::is_constant),
            Self::Object(members) => members.iter().all(|(_, member)| member.is_constant()),
        }
    }

    /// Whether the templates read what steps yield, or data that is known only when they are evaluated.
    pub(crate) fn reads_results(&self) -> bool {
        let mut found = Vec::new();
        self.data_paths("", &mut found);
        let is_known = |path: &DataPath| match path.path.first() {
            Some(Segment::Member(root)) => root == "params",
            Some(Segment::Computed) | None => false,
        };
        !found.iter().all(|(_, path)| is_known(path))
    }

    /// Evaluates the templates and fits each value to `schema`, the JSON Schema of this value. `None` for a
    /// template that yields nothing, which is left out.
    pub(crate) fn render(
        &self,
        data: &Value,
        schema: Option<Schema<'_>>,
        missing: MissingValues,
    ) -> Result<Option<Json>, EvaluateError> {
        match self {
            Self::Constant(json) => Ok(Some(fit::constant(json, schema))),
            Self::Template(template) => match template.evaluate(data, missing.text())? {
                Rendered::Value(value) if value.is_missing() => Ok(match missing {
                    MissingValues::Omit => None,
                    MissingValues::Text => Some(Json::string(&template.render(data, missing.text())?)),
                }),
                Rendered::Value(value) => Ok(Some(fit::value(&value, schema))),
                Rendered::Text(text) => Ok(Some(fit::text(&text, schema))),
            },
            Self::List(items) => {
                let mut rendered = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let value = item.render(data, schema.and_then(|schema| schema.item(index)), missing)?;
                    // The place of an item has a meaning, so nothing is null.
                    rendered.push(value.unwrap_or_else(Json::null));
                }
                Ok(Some(Json::array(&rendered)))
            }
            Self::Object(members) => {
                let mut rendered = BTreeMap::new();
                for (name, member) in members {
                    if let Some(value) =
                        member.render(data, schema.and_then(|schema| schema.member(name)), missing)?
                    {
                        rendered.insert(name.clone(), value);
                    }
                }
                Ok(Some(Json::encode(&rendered).unwrap_or_else(|_| Json::empty_object())))
            }
        }
    }
}
