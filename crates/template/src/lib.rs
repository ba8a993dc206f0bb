//! Templates in the syntax of Go's `text/template`, with the functions `json`, `quote` and `fromJson` of ToolHive.
//!
//! A template is parsed once and evaluated many times. Parsing finds every syntax error, and [`Template::data_paths`]
//! lists the data that a template reads, so that a workflow can be checked before it runs. Evaluation is bounded in
//! steps, nesting and output.
//!
//! Numbers are JSON numbers: they are compared by value and printed without an exponent, and integers of any size
//! keep their digits. Lists and objects print as JSON. `tests/it/go_cases.rs` has every deliberate difference from Go.
//!
//! ```
//! use vmcp_json::Json;
//! use vmcp_template::{MissingText, Template, Value};
//!
//! let template = Template::parse("{{.user.name}} has {{.count}}")?;
//! let data = Value::decode(&Json::parse(r#"{"user": {"name": "Ann"}, "count": 9007199254740993}"#)?);
//! assert_eq!(template.render(&data, MissingText::Empty)?, "Ann has 9007199254740993");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data_paths;
mod error;
mod evaluate;
mod functions;
mod lexer;
mod number;
mod parser;
mod print;
mod printf;
mod tree;
mod value;

pub use data_paths::{DataPath, Segment};
pub use error::{EvaluateError, ParseError, Position};
pub use number::Number;
pub use value::{List, Object, Value};

use tree::Tree;

/// The longest template in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// The longest output of a template in bytes.
pub const OUTPUT_BYTES_MAX: usize = 10 << 20;
/// The most blocks and parentheses inside each other.
const NESTING_MAX: usize = 64;
/// The most calls of `template` inside each other.
const TEMPLATE_CALLS_MAX: usize = 100;
/// The most steps of one evaluation. A node, an iteration, and each [`STEP_BYTES`] that a function reads or writes are a
/// step.
const STEPS_MAX: usize = 1_000_000;
/// The bytes of one step.
const STEP_BYTES: usize = 64;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    tree: Tree,
}

/// What is printed for data that is missing or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingText {
    /// Nothing.
    #[default]
    Empty,
    /// `<no value>`, as Go prints.
    NoValue,
}

/// The result of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Rendered {
    /// The value of a template that is one action and nothing else. It keeps its type.
    Value(Value),
    /// The output of any other template.
    Text(String),
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// The first error of the syntax, an unknown function, an undefined variable, or a bound that is exceeded.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { tree: parser::parse(text)? })
    }

    /// The template as text, if it has no action.
    #[must_use]
    pub fn plain_text(&self) -> Option<&str> {
        self.tree.plain_text()
    }

    /// The data that the template reads, in the order of the text.
    #[must_use]
    pub fn data_paths(&self) -> Vec<DataPath> {
        data_paths::find(&self.tree)
    }

    /// Evaluates the template and prints the result.
    ///
    /// # Errors
    /// When an action cannot be evaluated, or a bound is exceeded.
    pub fn render(&self, data: &Value, missing: MissingText) -> Result<String, EvaluateError> {
        evaluate::render(&self.tree, data, missing)
    }

    /// As [`Template::render`], but the value of a template that is one action keeps its type.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn evaluate(&self, data: &Value, missing: MissingText) -> Result<Rendered, EvaluateError> {
        match self.tree.single_action() {
            Some(pipeline) => evaluate::value_of(&self.tree, pipeline, data).map(Rendered::Value),
            None => self.render(data, missing).map(Rendered::Text),
        }
    }
}
