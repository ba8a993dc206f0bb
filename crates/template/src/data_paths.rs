//! Finds the data that a template reads, without evaluating it.

use crate::error::Position;
use crate::functions::Function;
use crate::tree::{Base, Branch, Command, Node, Operand, Pipeline, Term, Tree};
use crate::value::Value;

/// A path into the data of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPath {
    /// Where it is.
    pub position: Position,
    /// The names from the data on.
    pub path: Vec<Segment>,
    /// Whether it is written as a path, such as `.steps.a.output`, and not by `index`, `with` or a variable.
    pub is_direct: bool,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A member of an object.
    Member(String),
    /// An item of a list, or a member whose name is not known before the template runs.
    Computed,
}

/// The data paths of a template, in the order of its text. Paths below a value that is not known, such as the
/// item of `range`, are left out.
pub(crate) fn find(tree: &Tree) -> Vec<DataPath> {
    let mut finder = Finder { found: Vec::new(), is_direct: false, variables: vec![("$", Some(Vec::new()))] };
    finder.nodes(&tree.root, Some(&[]));
    // The data of a defined template is what its callers pass.
    for nodes in tree.definitions.values() {
        finder.variables = vec![("$", None)];
        finder.nodes(nodes, None);
    }
    finder.found
}

/// The path of a value from the data on. `None` if it is not known.
type Path = Option<Vec<Segment>>;

struct Finder<'a> {
    found: Vec<DataPath>,
    /// Whether the last path was written as such.
    is_direct: bool,
    variables: Vec<(&'a str, Path)>,
}

impl<'a> Finder<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: Option<&[Segment]>) {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => {
                    self.pipeline(pipeline, dot, true);
                }
                Node::If(branch) => self.branch(branch, dot, |_| dot.map(<[Segment]>::to_vec)),
                Node::With(branch) => self.branch(branch, dot, |value| value),
                Node::Range(branch) => self.range(branch, dot),
                Node::Template { argument, .. } => {
                    if let Some(pipeline) = argument {
                        self.pipeline(pipeline, dot, true);
                    }
                }
            }
        }
    }

    fn branch(&mut self, branch: &'a Branch, dot: Option<&[Segment]>, inside: impl FnOnce(Path) -> Path) {
        let outside = self.variables.len();
        let value = self.pipeline(&branch.condition, dot, true);
        let body_dot = inside(value);
        self.bodies(branch, body_dot, dot, outside);
    }

    /// The current value in the body of `range`, and its last variable, are an item.
    fn range(&mut self, branch: &'a Branch, dot: Option<&[Segment]>) {
        let outside = self.variables.len();
        let list = self.pipeline(&branch.condition, dot, true);
        let item = list.map(|mut path| {
            path.push(Segment::Computed);
            path
        });
        self.variables.truncate(outside);
        let variables = &branch.condition.variables;
        for (index, name) in variables.iter().enumerate() {
            let is_item = index + 1 == variables.len();
            self.variables.push((name, item.clone().filter(|_| is_item)));
        }
        self.bodies(branch, item, dot, outside);
    }

    fn bodies(&mut self, branch: &'a Branch, body_dot: Path, dot: Option<&[Segment]>, outside: usize) {
        self.nodes(&branch.body, body_dot.as_deref());
        self.nodes(&branch.otherwise, dot);
        self.variables.truncate(outside);
    }

    /// Finds the data paths of a pipeline, and returns the path of its value.
    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: Option<&[Segment]>, records: bool) -> Path {
        let mut path = None;
        for command in &pipeline.commands {
            path = self.command(command, dot, records && pipeline.commands.len() == 1);
            if pipeline.commands.len() > 1 {
                self.record(command, path.clone());
            }
        }
        let path = if pipeline.commands.len() == 1 { path } else { None };
        for name in &pipeline.variables {
            self.variables.push((name, path.clone()));
        }
        path
    }

    fn command(&mut self, command: &'a Command, dot: Option<&[Segment]>, records: bool) -> Path {
        let [first, rest @ ..] = command.operands.as_slice() else { return None };
        let path = match first.term {
            Term::Function(Function::Index) => self.index(rest, dot),
            Term::Function(_) => {
                for operand in rest {
                    let path = self.operand(operand, dot);
                    self.push(operand.position, path);
                }
                None
            }
            Term::Nil | Term::Constant(_) | Term::Path(..) => self.operand(first, dot),
        };
        if records {
            self.push(first.position, path.clone());
        }
        path
    }

    /// `index value "name" 0` is a path too.
    fn index(&mut self, operands: &'a [Operand], dot: Option<&[Segment]>) -> Path {
        let (value, keys) = operands.split_first()?;
        let mut path = self.operand(value, dot);
        for key in keys {
            let segment = if let Term::Constant(Value::String(name)) = &key.term {
                Segment::Member(name.to_string())
            } else {
                let inner = self.operand(key, dot);
                self.push(key.position, inner);
                Segment::Computed
            };
            if let Some(path) = &mut path {
                path.push(segment);
            }
        }
        self.is_direct = false;
        path
    }

    fn operand(&mut self, operand: &'a Operand, dot: Option<&[Segment]>) -> Path {
        let Term::Path(base, names) = &operand.term else { return None };
        self.is_direct = matches!(base, Base::Dot) && dot.is_some_and(<[Segment]>::is_empty);
        let mut path = match base {
            Base::Dot => dot.map(<[Segment]>::to_vec),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.and_then(|(_, path)| path.clone())
            }
            Base::Pipeline(pipeline) => {
                let outside = self.variables.len();
                let path = self.pipeline(pipeline, dot, false);
                self.variables.truncate(outside);
                path
            }
        };
        if let Some(path) = &mut path {
            path.extend(names.iter().cloned().map(Segment::Member));
        }
        path
    }

    fn record(&mut self, command: &Command, path: Path) {
        if let Some(first) = command.operands.first() {
            self.push(first.position, path);
        }
    }

    fn push(&mut self, position: Position, path: Path) {
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            let is_direct = std::mem::take(&mut self.is_direct);
            self.found.push(DataPath { position, path, is_direct });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Template;

    fn paths(text: &str) -> Vec<String> {
        let template = Template::parse(text).unwrap();
        let segment = |segment: &super::Segment| match segment {
            super::Segment::Member(name) => name.clone(),
            super::Segment::Computed => "*".to_owned(),
        };
        let found = template.data_paths().into_iter();
        found.map(|one| one.path.iter().map(segment).collect::<Vec<_>>().join(".")).collect()
    }

    #[test]
    fn every_form_of_a_path_is_found() {
        for (text, expected) in [
            ("{{.params.a}} {{ $.steps.b }}", vec!["params.a", "steps.b"]),
            (r#"{{(index .steps "my-step").output.text}}"#, vec!["steps.my-step.output.text"]),
            (r#"{{index .steps "a" "output" 0}}"#, vec!["steps.a.output.*"]),
            ("{{index .a .b}}", vec!["b", "a.*"]),
            ("{{.a | printf \"%s %v\" .b | json}}", vec!["a", "b"]),
            ("{{with .a}}{{.b}}{{$.c}}{{else}}{{.d}}{{end}}", vec!["a", "a.b", "c", "d"]),
            ("{{range $i, $e := .list}}{{$e.x}}{{.y}}{{end}}", vec!["list", "list.*.x", "list.*.y"]),
            (
                "{{range $e := .list}}{{$e.x}}{{end}}{{range .list}}{{.z}}{{end}}",
                vec!["list", "list", "list.*.x", "list.*.z"],
            ),
            ("{{$x := .a}}{{$x.b}}", vec!["a", "a.b"]),
            ("{{if eq .a.b 1}}{{.c}}{{else if .d}}x{{end}}", vec!["a.b", "c", "d"]),
            ("{{(fromJson .a).b}}", vec!["a"]),
            ("{{not (and .a (or .b .c))}}", vec!["b", "c", "a"]),
            ("{{json .}}", vec![]),
        ] {
            let mut found = paths(text);
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{text}");
        }
    }
}
