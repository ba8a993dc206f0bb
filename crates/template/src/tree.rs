//! The tree of a parsed template.

use std::collections::BTreeMap;

use crate::error::Position;
use crate::functions::Function;
use crate::value::Value;

/// A parsed template with the templates that it defines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) root: Vec<Node>,
    pub(crate) definitions: BTreeMap<String, Vec<Node>>,
}

impl Tree {
    /// The text of a template without actions.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        match self.root.as_slice() {
            [] => Some(""),
            [Node::Text(text)] => Some(text),
            [_, ..] => None,
        }
    }

    /// The pipeline of a template that is one action and nothing else.
    pub(crate) fn single_action(&self) -> Option<&Pipeline> {
        match self.root.as_slice() {
            [Node::Action(pipeline)] if pipeline.variables.is_empty() => Some(pipeline),
            _ => None,
        }
    }
}

/// One part of a template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Text outside of actions.
    Text(String),
    /// `{{pipeline}}`
    Action(Pipeline),
    /// `{{if pipeline}} … {{else}} … {{end}}`
    If(Branch),
    /// `{{with pipeline}} … {{else}} … {{end}}`
    With(Branch),
    /// `{{range pipeline}} … {{else}} … {{end}}`
    Range(Branch),
    /// `{{template "name" pipeline}}`
    Template { position: Position, name: String, argument: Option<Pipeline> },
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// A condition with two bodies.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) condition: Pipeline,
    pub(crate) body: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

/// Commands whose results are passed on, and the variables that receive the last one.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) position: Position,
    /// Names with their `$`.
    pub(crate) variables: Vec<String>,
    /// Whether existing variables are set, by `=` and not by `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// An operand, or a function with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) operands: Vec<Operand>,
}

/// A term with its place.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) position: Position,
    pub(crate) term: Term,
}

/// What an operand is.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    /// `nil`
    Nil,
    /// A constant.
    Constant(Value),
    /// A function.
    Function(Function),
    /// A value, and the names of members to follow: `.a.b` and `.` follow the current value.
    Path(Base, Vec<String>),
}

/// Where a path begins.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// The current value.
    Dot,
    /// A variable, with its `$`. `$` alone is the data of the template.
    Variable(String),
    /// A pipeline in parentheses.
    Pipeline(Box<Pipeline>),
}
