//! Pipelines, commands and operands.

use super::{Base, Command, Operand, ParseError, Parser, Pipeline, Term, Token};
use crate::functions::Function;
use crate::value::Value;

impl Parser {
    /// Parses a pipeline. In `range` it may have two variables.
    pub(super) fn pipeline(&mut self, in_range: bool) -> Result<Pipeline, ParseError> {
        self.skip_space();
        let position = self.position();
        let (variables, assigns) = self.declaration(in_range)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            commands.push(self.command(commands.is_empty())?);
            self.skip_space();
            if !self.take(&Token::Sign('|')) {
                break;
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { position, variables, assigns, commands })
    }

    /// Parses `$a :=`, `$a =` and `$a, $b :=`, if one is next.
    fn declaration(&mut self, in_range: bool) -> Result<(Vec<String>, bool), ParseError> {
        let start = self.next;
        let mut variables = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            variables.push(name.clone());
            self.next += 1;
            self.skip_space();
            if self.take(&Token::Declare) {
                return self.declared(variables, in_range, false);
            }
            if self.take(&Token::Sign('=')) {
                return self.declared(variables, in_range, true);
            }
            if !self.take(&Token::Sign(',')) {
                break;
            }
            self.skip_space();
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn declared(
        &self,
        variables: Vec<String>,
        in_range: bool,
        assigns: bool,
    ) -> Result<(Vec<String>, bool), ParseError> {
        if variables.len() > if in_range { 2 } else { 1 } {
            return self.error("too many variables");
        }
        if let Some(unknown) = variables.iter().find(|name| assigns && !self.variables.contains(name)) {
            return self.error(format!("the variable `{unknown}` is not defined"));
        }
        Ok((variables, assigns))
    }

    fn command(&mut self, is_first: bool) -> Result<Command, ParseError> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None | Some(Token::Close | Token::Sign('|' | ')')) => break,
                Some(_) => operands.push(self.operand()?),
            }
            // Two operands need a space between them.
            match self.peek() {
                None | Some(Token::Space | Token::Close | Token::Sign('|' | ')')) => {}
                Some(_) => return self.error("a space is missing, or this has no meaning here"),
            }
        }
        let first = match operands.first() {
            None => return self.error("a value is missing"),
            Some(first) => first,
        };
        let takes_arguments = operands.len() > 1 || !is_first;
        let message = match first.term {
            Term::Nil => "`nil` is no value of its own",
            Term::Constant(_) if !is_first => "a constant cannot follow `|`",
            Term::Constant(_) | Term::Path(..) if takes_arguments => "only a function takes arguments",
            Term::Constant(_) | Term::Path(..) | Term::Function(_) => return Ok(Command { operands }),
        };
        Err(ParseError { position: first.position, message: message.to_owned() })
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        let position = self.position();
        let Some(token) = self.peek().cloned() else { return self.error("a value is missing") };
        self.next += 1;
        let term = match token {
            Token::Dot => Term::Path(Base::Dot, Vec::new()),
            Token::Field(name) => Term::Path(Base::Dot, vec![name]),
            Token::Variable(name) => {
                if !self.variables.contains(&name) {
                    self.next -= 1;
                    return self.error(format!("the variable `{name}` is not defined"));
                }
                Term::Path(Base::Variable(name), Vec::new())
            }
            Token::String(text) => Term::Constant(Value::string(text)),
            Token::Number(number) => Term::Constant(Value::Number(number)),
            Token::Word(word) => self.word(&word)?,
            Token::Sign('(') => {
                let pipeline = self.nested(|parser| parser.pipeline(false))?;
                self.skip_space();
                if !self.take(&Token::Sign(')')) {
                    return self.error("`)` is missing");
                }
                Term::Path(Base::Pipeline(Box::new(pipeline)), Vec::new())
            }
            Token::Text(_) | Token::Open | Token::Close | Token::Space | Token::Sign(_) | Token::Declare => {
                self.next -= 1;
                return self.error("a value is missing");
            }
        };
        self.members(position, term)
    }

    /// Parses the members that follow an operand without a space.
    fn members(&mut self, position: crate::error::Position, term: Term) -> Result<Operand, ParseError> {
        let Some(Token::Field(_)) = self.peek() else { return Ok(Operand { position, term }) };
        let Term::Path(base, mut names) = term else {
            return self.error("a constant or a function without parentheses has no members");
        };
        while let Some(Token::Field(name)) = self.peek() {
            names.push(name.clone());
            self.next += 1;
        }
        Ok(Operand { position, term: Term::Path(base, names) })
    }

    fn word(&self, word: &str) -> Result<Term, ParseError> {
        match word {
            "true" => Ok(Term::Constant(Value::Boolean(true))),
            "false" => Ok(Term::Constant(Value::Boolean(false))),
            "nil" => Ok(Term::Nil),
            _ => match Function::named(word) {
                Some(function) => Ok(Term::Function(function)),
                None => {
                    let position = self.tokens.get(self.next.saturating_sub(1)).map(|placed| placed.position);
                    let position = position.unwrap_or_else(|| self.position());
                    Err(ParseError { position, message: format!("there is no function `{word}`") })
                }
            },
        }
    }
}
