//! Builds the tree of a template from its tokens.

mod pipeline;

use std::collections::BTreeMap;

use crate::error::{ParseError, Position};
use crate::lexer::{self, Placed, Token};
use crate::tree::{Base, Branch, Command, Node, Operand, Pipeline, Term, Tree};
use crate::{NESTING_MAX, TEMPLATE_BYTES_MAX};

/// Parses a template.
pub(crate) fn parse(text: &str) -> Result<Tree, ParseError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        let message =
            format!("the template has {} bytes, and at most {TEMPLATE_BYTES_MAX} are allowed", text.len());
        return Err(ParseError { position: Position { line: 1, column: 1 }, message });
    }
    let mut parser = Parser {
        tokens: lexer::split(text)?,
        next: 0,
        definitions: BTreeMap::new(),
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
    };
    let (root, end) = parser.nodes()?;
    match end {
        End::Text => Ok(Tree { root, definitions: parser.definitions }),
        End::Keyword(keyword, position) => {
            Err(ParseError { position, message: format!("`{keyword}` without a beginning") })
        }
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    definitions: BTreeMap<String, Vec<Node>>,
    /// The variables that are defined here, with their `$`.
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
}

/// What ended a list of nodes.
enum End {
    Text,
    /// `end` or `else`. The tokens after the word are not read.
    Keyword(&'static str, Position),
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    /// The place of the next token, or of the last one at the end.
    fn position(&self) -> Position {
        let placed = self.tokens.get(self.next).or_else(|| self.tokens.last());
        placed.map_or(Position { line: 1, column: 1 }, |placed| placed.position)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { position: self.position(), message: message.into() })
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.next += 1;
        }
    }

    fn take(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        self.next += usize::from(is_next);
        is_next
    }

    /// Takes a word if it is next.
    fn take_word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect_close(&mut self, after: &str) -> Result<(), ParseError> {
        self.skip_space();
        if self.take(&Token::Close) { Ok(()) } else { self.error(format!("`}}}}` is missing after {after}")) }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == NESTING_MAX {
            return self.error(format!("blocks and parentheses are nested deeper than {NESTING_MAX}"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses up to the end of the text, or up to `end` or `else`.
    fn nodes(&mut self) -> Result<(Vec<Node>, End), ParseError> {
        let mut nodes = Vec::new();
        while let Some(Placed { token, position }) = self.tokens.get(self.next).cloned() {
            self.next += 1;
            if let Token::Text(text) = token {
                nodes.push(Node::Text(text));
                continue;
            }
            self.skip_space();
            for keyword in ["end", "else"] {
                if self.take_word(keyword) {
                    return Ok((nodes, End::Keyword(keyword, position)));
                }
            }
            if let Some(node) = self.action()? {
                nodes.push(node);
            }
        }
        Ok((nodes, End::Text))
    }

    /// Parses an action after `{{`. A definition leaves no node.
    fn action(&mut self) -> Result<Option<Node>, ParseError> {
        let keyword = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        self.next += 1;
        match &*keyword {
            "if" => self.branch("if").map(|branch| Some(Node::If(branch))),
            "with" => self.branch("with").map(|branch| Some(Node::With(branch))),
            "range" => self.branch("range").map(|branch| Some(Node::Range(branch))),
            "template" => self.template_call().map(Some),
            "block" => self.block().map(Some),
            "define" => self.definition().map(|()| None),
            "break" | "continue" => {
                if self.range_depth == 0 {
                    self.next -= 1;
                    return self.error(format!("`{keyword}` outside of `range`"));
                }
                self.expect_close(&format!("`{keyword}`"))?;
                Ok(Some(if keyword == "break" { Node::Break } else { Node::Continue }))
            }
            _ => {
                self.next -= 1;
                let pipeline = self.pipeline(false)?;
                self.expect_close("the action")?;
                Ok(Some(Node::Action(pipeline)))
            }
        }
    }

    /// Parses `if`, `with` or `range` after the keyword.
    fn branch(&mut self, keyword: &'static str) -> Result<Branch, ParseError> {
        let outside = self.variables.len();
        let parsed = self.nested(|parser| parser.branch_inside(keyword));
        self.variables.truncate(outside);
        parsed
    }

    fn branch_inside(&mut self, keyword: &'static str) -> Result<Branch, ParseError> {
        let start = self.position();
        let condition = self.pipeline(keyword == "range")?;
        self.expect_close(&format!("the condition of `{keyword}`"))?;
        self.range_depth += usize::from(keyword == "range");
        let inside = self.variables.len();
        let (body, end) = self.nodes()?;
        self.variables.truncate(inside);
        self.range_depth -= usize::from(keyword == "range");
        let unclosed =
            || ParseError { position: start, message: format!("`{keyword}` has no `{{{{end}}}}`") };
        let End::Keyword(word, _) = end else { return Err(unclosed()) };
        if word == "end" {
            self.expect_close("`end`")?;
            return Ok(Branch { condition, body, otherwise: Vec::new() });
        }
        self.skip_space();
        // `{{else if …}}` is `{{else}}{{if …}}` with a common end.
        for chained in ["if", "with"] {
            if keyword == chained && self.take_word(chained) {
                let branch = self.branch(chained)?;
                let node = if chained == "if" { Node::If(branch) } else { Node::With(branch) };
                return Ok(Branch { condition, body, otherwise: vec![node] });
            }
        }
        self.expect_close("`else`")?;
        let (otherwise, end) = self.nodes()?;
        match end {
            End::Keyword("end", _) => {
                self.expect_close("`end`")?;
                Ok(Branch { condition, body, otherwise })
            }
            End::Keyword(_, position) => Err(ParseError { position, message: "a second `else`".to_owned() }),
            End::Text => Err(unclosed()),
        }
    }

    /// The name of a template in quotes.
    fn template_name(&mut self) -> Result<String, ParseError> {
        self.skip_space();
        match self.peek() {
            Some(Token::String(name)) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => self.error("the name of the template in quotes is missing"),
        }
    }

    fn template_call(&mut self) -> Result<Node, ParseError> {
        let position = self.position();
        let name = self.template_name()?;
        self.skip_space();
        let argument = if self.peek() == Some(&Token::Close) { None } else { Some(self.pipeline(false)?) };
        self.expect_close("`template`")?;
        Ok(Node::Template { position, name, argument })
    }

    fn block(&mut self) -> Result<Node, ParseError> {
        let position = self.position();
        let name = self.template_name()?;
        let argument = self.pipeline(false)?;
        self.expect_close("`block`")?;
        self.define(name.clone())?;
        Ok(Node::Template { position, name, argument: Some(argument) })
    }

    fn definition(&mut self) -> Result<(), ParseError> {
        if self.depth > 0 {
            return self.error("`define` inside of another block");
        }
        let name = self.template_name()?;
        self.expect_close("`define`")?;
        self.define(name)
    }

    /// Parses the body of a definition up to its `end`.
    fn define(&mut self, name: String) -> Result<(), ParseError> {
        let start = self.position();
        let outside = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (body, end) = self.nested(Self::nodes)?;
        self.variables = outside;
        self.range_depth = ranges;
        match end {
            End::Keyword("end", _) => self.expect_close("`end`")?,
            End::Keyword(_, position) => {
                return Err(ParseError { position, message: "`else` without `if`".to_owned() });
            }
            End::Text => {
                let message = format!("the template `{name}` has no `{{{{end}}}}`");
                return Err(ParseError { position: start, message });
            }
        }
        self.definitions.insert(name, body);
        Ok(())
    }
}
