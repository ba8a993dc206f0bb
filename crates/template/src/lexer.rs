//! Splits a template into texts and tokens.

use crate::error::{ParseError, Position};
use crate::number::Number;

/// A token, or a text between actions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// Text outside of actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// White space between operands.
    Space,
    /// `.` alone.
    Dot,
    /// `.name`, without the dot.
    Field(String),
    /// `$name`, with the `$`.
    Variable(String),
    /// A word: a keyword, a function, or a constant.
    Word(String),
    /// A string or a raw string, decoded.
    String(String),
    /// A number, or a character as its code point.
    Number(Number),
    /// `(`, `)`, `|`, `,`, `=`
    Sign(char),
    /// `:=`
    Declare,
}

/// A token with its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) position: Position,
}

/// Splits `text` into tokens.
pub(crate) fn split(text: &str) -> Result<Vec<Placed>, ParseError> {
    let start = Position { line: 1, column: 1 };
    let mut lexer = Lexer { text, at: 0, known: (0, start), tokens: Vec::new() };
    while lexer.at < text.len() {
        lexer.text_and_action()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// A byte offset and its place. Places are counted on from there.
    known: (usize, Position),
    tokens: Vec<Placed>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The place of a byte offset that is not before the last one.
    fn position(&mut self, at: usize) -> Position {
        let (from, mut position) = self.known;
        for c in self.text.get(from..at).unwrap_or_default().chars() {
            if c == '\n' {
                position = Position { line: position.line.saturating_add(1), column: 1 };
            } else {
                position.column = position.column.saturating_add(1);
            }
        }
        self.known = (at, position);
        position
    }

    fn error(&mut self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError { position: self.position(at), message: message.into() }
    }

    fn push(&mut self, token: Token, length: usize) {
        let position = self.position(self.at);
        self.tokens.push(Placed { token, position });
        self.at += length;
    }

    /// Reads a text up to the next action, and that action.
    fn text_and_action(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let Some(length) = rest.find("{{") else {
            self.push(Token::Text(rest.to_owned()), rest.len());
            return Ok(());
        };
        let (before, action) = rest.split_at(length);
        let trims = action.get(2..).unwrap_or_default().starts_with('-')
            && action.get(3..).unwrap_or_default().starts_with(is_space);
        let text = if trims { before.trim_end_matches(is_space) } else { before };
        if !text.is_empty() {
            self.push(Token::Text(text.to_owned()), 0);
        }
        self.at += length;
        let marker = if trims { 3 } else { 2 };
        if action.get(marker..).unwrap_or_default().trim_start_matches(is_space).starts_with("/*") {
            return self.comment(marker);
        }
        self.push(Token::Open, marker);
        while !self.close() {
            self.token()?;
        }
        Ok(())
    }

    /// Skips a comment, which is an action of its own.
    fn comment(&mut self, marker: usize) -> Result<(), ParseError> {
        let rest = self.rest();
        let end = rest.get(marker..).and_then(|inside| inside.find("*/")).map(|end| marker + end + 2);
        let Some(end) = end else { return Err(self.error(self.at, "the comment is not closed")) };
        let start = self.at;
        self.at += end;
        let count = self.tokens.len();
        if !self.close() {
            return Err(self.error(start, "a comment ends right before `}}`"));
        }
        self.tokens.truncate(count);
        Ok(())
    }

    /// Reads the end of an action, if it is next.
    fn close(&mut self) -> bool {
        let rest = self.rest();
        let space = rest.len() - rest.trim_start_matches(is_space).len();
        let inside = rest.get(space..).unwrap_or_default();
        if space > 0 && inside.starts_with("-}}") {
            self.push(Token::Close, space + 3);
            let text = self.rest();
            self.at += text.len() - text.trim_start_matches(is_space).len();
            true
        } else if inside.starts_with("}}") {
            self.push(Token::Close, space + 2);
            true
        } else {
            false
        }
    }

    fn token(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Err(self.error(self.at, "the action is not closed"));
        };
        let next = rest.get(first.len_utf8()..).unwrap_or_default().chars().next();
        match first {
            _ if is_space(first) => {
                self.push(Token::Space, rest.len() - rest.trim_start_matches(is_space).len());
            }
            '(' | ')' | '|' | ',' | '=' => self.push(Token::Sign(first), 1),
            ':' if next == Some('=') => self.push(Token::Declare, 2),
            '"' => self.string()?,
            '`' => self.raw_string()?,
            '\'' => self.character()?,
            '.' if next.is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            '.' => {
                let name = word_of(rest.get(1..).unwrap_or_default());
                let token = if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) };
                self.word(token, name.len() + 1)?;
            }
            '$' => {
                let length = 1 + word_of(rest.get(1..).unwrap_or_default()).len();
                self.word(Token::Variable(rest.get(..length).unwrap_or("$").to_owned()), length)?;
            }
            '+' | '-' | '0'..='9' => self.number()?,
            _ if is_word(first) => {
                let word = word_of(rest);
                self.word(Token::Word(word.to_owned()), word.len())?;
            }
            _ => return Err(self.error(self.at, format!("`{first}` has no meaning here"))),
        }
        Ok(())
    }

    /// Reads a word, after which only a separator may follow.
    fn word(&mut self, token: Token, length: usize) -> Result<(), ParseError> {
        let after = self.rest().get(length..).unwrap_or_default();
        let ends = after.is_empty()
            || after.starts_with(|c: char| is_space(c) || "().|,:=$".contains(c))
            || after.starts_with("}}");
        if !ends {
            let c = after.chars().next().unwrap_or_default();
            let hint =
                if c == '-' { "; write (index .object \"name-with-dash\") for such a name" } else { "" };
            return Err(self.error(self.at + length, format!("`{c}` cannot be part of a name{hint}")));
        }
        self.push(token, length);
        Ok(())
    }

    fn string(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            match c {
                '"' => {
                    self.push(Token::String(text), index + 1);
                    return Ok(());
                }
                '\n' => break,
                '\\' => {
                    let Some(escaped) = escape(&mut chars, '"') else {
                        return Err(self.error(self.at + index, "there is no such escape"));
                    };
                    text.push(escaped);
                }
                _ => text.push(c),
            }
        }
        Err(self.error(self.at, "the string is not closed"))
    }

    fn raw_string(&mut self) -> Result<(), ParseError> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let Some(length) = inside.find('`') else {
            return Err(self.error(self.at, "the raw string is not closed"));
        };
        self.push(Token::String(inside.get(..length).unwrap_or_default().to_owned()), length + 2);
        Ok(())
    }

    /// Reads a character, whose value is its code point.
    fn character(&mut self) -> Result<(), ParseError> {
        let mut chars = self.rest().char_indices().skip(1);
        let value = match chars.next() {
            Some((_, '\\')) => escape(&mut chars, '\''),
            Some((_, c)) if c != '\'' && c != '\n' => Some(c),
            Some(_) | None => None,
        };
        match (value, chars.next()) {
            (Some(value), Some((end, '\''))) => {
                self.push(Token::Number(Number::Integer(i64::from(u32::from(value)))), end + 1);
                Ok(())
            }
            _ => Err(self.error(self.at, "a character is one character between single quotes")),
        }
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let is_part = |(index, c): &(usize, char)| {
            let before = rest.get(..*index).unwrap_or_default();
            let is_hex = before.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
            let after_exponent = before.ends_with(['e', 'E']) && !is_hex;
            c.is_ascii_alphanumeric()
                || "._".contains(*c)
                || "+-".contains(*c) && (*index == 0 || after_exponent)
        };
        let length = rest.char_indices().take_while(is_part).count();
        let text = rest.get(..length).unwrap_or_default();
        match literal(text) {
            Some(number) => self.push(Token::Number(number), length),
            None => return Err(self.error(self.at, format!("`{text}` is no number"))),
        }
        Ok(())
    }
}

/// Reads an escape sequence of a Go string after its backslash.
fn escape(chars: &mut impl Iterator<Item = (usize, char)>, quote: char) -> Option<char> {
    let (_, c) = chars.next()?;
    let mut code = |digits: usize, radix: u32, start: u32| {
        let code =
            (0..digits).try_fold(start, |code, _| Some(code * radix + chars.next()?.1.to_digit(radix)?));
        code.and_then(char::from_u32)
    };
    match c {
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        '\\' => Some('\\'),
        'x' => code(2, 16, 0),
        'u' => code(4, 16, 0),
        'U' => code(8, 16, 0),
        '0'..='3' => code(2, 8, c.to_digit(8)?),
        _ if c == quote => Some(quote),
        _ => None,
    }
}

/// The value of a number in the syntax of Go.
fn literal(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    // An underscore separates digits.
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let digits = digits.replace('_', "").to_ascii_lowercase();
    let with_radix = [("0x", 16), ("0b", 2), ("0o", 8)];
    if let Some((inside, radix)) =
        with_radix.iter().find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)))
    {
        return i64::from_str_radix(&format!("{sign}{inside}"), radix).ok().map(Number::Integer);
    }
    let is_octal =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_octal {
        return i64::from_str_radix(&format!("{sign}{digits}"), 8).ok().map(Number::Integer);
    }
    let is_decimal = digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
    if is_decimal { Number::parse(&format!("{sign}{digits}")) } else { None }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The longest word at the start of `text`.
fn word_of(text: &str) -> &str {
    let length = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    text.get(..length).unwrap_or_default()
}
