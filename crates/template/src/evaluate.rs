//! Evaluates a template.

use crate::error::{EvaluateError, Position};
use crate::functions::Function;
use crate::tree::{Base, Branch, Command, Node, Operand, Pipeline, Term, Tree};
use crate::value::Value;
use crate::{MissingText, OUTPUT_BYTES_MAX, STEP_BYTES, STEPS_MAX, TEMPLATE_CALLS_MAX, print};

/// How much more a decoded byte costs than a copied one.
const DECODE_WEIGHT: usize = 8;
/// What Go prints for a value that does not exist.
const NO_VALUE: &str = "<no value>";

/// Evaluates a template and prints it.
pub(crate) fn render(tree: &Tree, data: &Value, missing: MissingText) -> Result<String, EvaluateError> {
    let mut evaluation = Evaluation::new(tree, data, missing);
    evaluation.nodes(&tree.root, data)?;
    Ok(evaluation.output)
}

/// Evaluates one pipeline of a template.
pub(crate) fn value_of(tree: &Tree, pipeline: &Pipeline, data: &Value) -> Result<Value, EvaluateError> {
    Evaluation::new(tree, data, MissingText::Empty).pipeline(pipeline, data)
}

struct Evaluation<'a> {
    tree: &'a Tree,
    missing: MissingText,
    output: String,
    /// The variables in scope, the innermost last.
    variables: Vec<(&'a str, Value)>,
    steps: usize,
    template_calls: usize,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Outcome<T> = Result<T, EvaluateError>;

fn fail<T>(position: Position, message: impl Into<String>) -> Outcome<T> {
    Err(EvaluateError { position, message: message.into() })
}

impl<'a> Evaluation<'a> {
    fn new(tree: &'a Tree, data: &Value, missing: MissingText) -> Self {
        Self {
            tree,
            missing,
            output: String::new(),
            variables: vec![("$", data.clone())],
            steps: 0,
            template_calls: 0,
        }
    }

    /// Counts one step.
    fn step(&mut self, position: Position) -> Outcome<()> {
        self.charge(position, 0)
    }

    /// Counts one step, and those of these bytes.
    fn charge(&mut self, position: Position, bytes: usize) -> Outcome<()> {
        self.steps = self.steps.saturating_add(1).saturating_add(bytes / STEP_BYTES);
        if self.steps > STEPS_MAX {
            return fail(position, format!("the template takes more than {STEPS_MAX} steps"));
        }
        if self.output.len() > OUTPUT_BYTES_MAX {
            return fail(position, format!("the output is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Outcome<Flow> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.output.push_str(text);
                    Flow::Next
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.print(pipeline.position, &value)?;
                    }
                    Flow::Next
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template { position, name, argument } => {
                    self.template(*position, name, argument.as_ref(), dot)?;
                    Flow::Next
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, position: Position, value: &Value) -> Outcome<()> {
        if value.is_missing() && self.missing == MissingText::NoValue {
            self.output.push_str(NO_VALUE);
        }
        let before = self.output.len();
        print::write_plain(value, &mut self.output);
        self.charge(position, self.output.len() - before)
    }

    fn branch(&mut self, branch: &'a Branch, dot: &Value, sets_dot: bool) -> Outcome<Flow> {
        let outside = self.variables.len();
        let value = self.pipeline(&branch.condition, dot)?;
        let flow = if value.is_true() {
            self.nodes(&branch.body, if sets_dot { &value } else { dot })
        } else {
            self.nodes(&branch.otherwise, dot)
        };
        self.variables.truncate(outside);
        flow
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Outcome<Flow> {
        let outside = self.variables.len();
        let pipeline = &branch.condition;
        let value = self.commands(pipeline, dot)?;
        let Some(pairs) = pairs_of(&value) else {
            return fail(pipeline.position, format!("`range` cannot go through {}", value.kind()));
        };
        let mut is_empty = true;
        for (key, item) in pairs {
            is_empty = false;
            self.step(pipeline.position)?;
            match pipeline.variables.as_slice() {
                [] => {}
                [only] => self.bind(only, pipeline.assigns, item.clone()),
                [first, second, ..] => {
                    self.bind(first, pipeline.assigns, key);
                    self.bind(second, pipeline.assigns, item.clone());
                }
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(outside);
            if flow == Flow::Break {
                break;
            }
        }
        let flow = if is_empty { self.nodes(&branch.otherwise, dot)? } else { Flow::Next };
        self.variables.truncate(outside);
        Ok(flow)
    }

    fn template(
        &mut self,
        position: Position,
        name: &str,
        argument: Option<&'a Pipeline>,
        dot: &Value,
    ) -> Outcome<()> {
        let Some(nodes) = self.tree.definitions.get(name) else {
            return fail(position, format!("there is no template `{name}`"));
        };
        if self.template_calls == TEMPLATE_CALLS_MAX {
            return fail(
                position,
                format!("templates call each other deeper than {TEMPLATE_CALLS_MAX} levels"),
            );
        }
        let data = match argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Missing,
        };
        self.step(position)?;
        self.template_calls += 1;
        let outside = std::mem::replace(&mut self.variables, vec![("$", data.clone())]);
        let outcome = self.nodes(nodes, &data);
        self.variables = outside;
        self.template_calls -= 1;
        outcome.map(|_| ())
    }

    /// Evaluates a pipeline and sets its variables.
    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Value) -> Outcome<Value> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.bind(name, pipeline.assigns, value.clone());
        }
        Ok(value)
    }

    fn bind(&mut self, name: &'a str, assigns: bool, value: Value) {
        match self.variables.iter_mut().rev().find(|(known, _)| assigns && *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.variables.push((name, value)),
        }
    }

    fn commands(&mut self, pipeline: &'a Pipeline, dot: &Value) -> Outcome<Value> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Missing))
    }

    /// Evaluates a command. `last` is the value of the command before `|`, the last argument of this one.
    fn command(&mut self, command: &'a Command, dot: &Value, last: Option<Value>) -> Outcome<Value> {
        let Some((first, rest)) = command.operands.split_first() else { return Ok(Value::Missing) };
        self.step(first.position)?;
        match first.term {
            Term::Function(function) => self.call(function, (first.position, rest), dot, last),
            Term::Nil | Term::Constant(_) | Term::Path(..) => self.operand(first, dot),
        }
    }

    fn call(
        &mut self,
        function: Function,
        (position, operands): (Position, &'a [Operand]),
        dot: &Value,
        last: Option<Value>,
    ) -> Outcome<Value> {
        let at = |message| EvaluateError { position, message };
        function.check_count(operands.len() + usize::from(last.is_some())).map_err(at)?;
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            let value = self.argument(operand, dot)?;
            let decides = function.short_circuit_truth() == Some(value.is_true());
            arguments.push(value);
            if decides {
                return Ok(arguments.pop().unwrap_or(Value::Missing));
            }
        }
        arguments.extend(last);
        let read: usize = arguments.iter().filter_map(Value::as_text).map(str::len).sum();
        // Decoding JSON takes several times as long as copying it.
        let weight = if function == Function::FromJson { DECODE_WEIGHT } else { 1 };
        self.charge(position, read.saturating_mul(weight))?;
        if read > OUTPUT_BYTES_MAX {
            return fail(position, format!("the texts are longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        let value = function.apply(&arguments).map_err(|message| {
            at(if message.starts_with('`') { message } else { format!("`{}`: {message}", function.name()) })
        })?;
        let written = if let Value::String(text) = &value { text.len() } else { 0 };
        self.charge(position, written)?;
        if written > OUTPUT_BYTES_MAX {
            return fail(position, format!("a text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        Ok(value)
    }

    /// Evaluates an argument. A function without parentheses is called without arguments.
    fn argument(&mut self, operand: &'a Operand, dot: &Value) -> Outcome<Value> {
        match operand.term {
            Term::Function(function) => self.call(function, (operand.position, &[]), dot, None),
            Term::Nil | Term::Constant(_) | Term::Path(..) => self.operand(operand, dot),
        }
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value) -> Outcome<Value> {
        match &operand.term {
            Term::Nil | Term::Function(_) => Ok(Value::Missing),
            Term::Constant(value) => Ok(value.clone()),
            Term::Path(base, names) => {
                let value = match base {
                    Base::Dot => dot.clone(),
                    Base::Variable(name) => {
                        let known = self.variables.iter().rev().find(|(known, _)| known == name);
                        known.map_or(Value::Missing, |(_, value)| value.clone())
                    }
                    Base::Pipeline(pipeline) => {
                        let outside = self.variables.len();
                        let value = self.pipeline(pipeline, dot)?;
                        self.variables.truncate(outside);
                        value
                    }
                };
                follow(value, names, operand.position)
            }
        }
    }
}

/// Follows the names of members.
fn follow(value: Value, names: &[String], position: Position) -> Outcome<Value> {
    names.iter().try_fold(value, |value, name| {
        value
            .member(name)
            .map_or_else(|| fail(position, format!("{} has no member `{name}`", value.kind())), Ok)
    })
}

/// The keys and items that `range` goes through. `None` for a value without items.
fn pairs_of(value: &Value) -> Option<Box<dyn Iterator<Item = (Value, Value)> + '_>> {
    if value.is_missing() {
        return Some(Box::new(std::iter::empty()));
    }
    if let Some(items) = value.as_list() {
        return Some(Box::new((0..).map(Value::integer).zip(items.iter().cloned())));
    }
    if let Some(object) = value.as_object() {
        let members = object.members().iter();
        return Some(Box::new(members.map(|(name, value)| (Value::String(name.clone()), value.clone()))));
    }
    let end = value.as_number()?.as_integer()?;
    Some(Box::new((0..end).map(|index| (Value::integer(index), Value::integer(index)))))
}
