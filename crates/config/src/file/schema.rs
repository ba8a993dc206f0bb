//! The JSON Schema of the config file, generated from the types in `file`. Editors check configs with it, and
//! so does `check`.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::file::File;

/// The schema (JSON Schema 2020-12).
pub(crate) fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(generate);
    &SCHEMA
}

fn generate() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>().into()
}

/// The schema as JSON text, with a line break at the end.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}
