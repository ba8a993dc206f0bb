//! Reads a format: what is between `%` and its verb, and which argument it is for.

use std::iter::Peekable;
use std::str::Chars;

use crate::number::Number;
use crate::value::Value;

/// The largest width and precision.
const WIDTH_MAX: usize = 1000;

/// A directive between `%` and its verb.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Directive {
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) zero: bool,
    pub(super) space: bool,
    pub(super) sharp: bool,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
}

/// The format and its arguments while they are read.
pub(super) struct Reader<'a> {
    pub(super) chars: Peekable<Chars<'a>>,
    pub(super) values: &'a [Value],
    /// The index of the next argument.
    pub(super) next: usize,
    /// An index such as `[1]` was written. Arguments that are left over are not reported then.
    pub(super) has_index: bool,
    /// An index of the current directive names no argument.
    pub(super) has_bad_index: bool,
}

impl<'a> Reader<'a> {
    /// The next argument.
    pub(super) fn value(&mut self) -> Option<&'a Value> {
        let value = self.values.get(self.next);
        self.next += usize::from(value.is_some());
        value
    }

    /// Reads what is between `%` and its verb. A width that is no number is reported in `text`.
    pub(super) fn directive(&mut self, text: &mut String) -> Result<Directive, String> {
        self.has_bad_index = false;
        let mut directive = Directive::default();
        while let Some(flag) = self.chars.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '0' => directive.zero = true,
                ' ' => directive.space = true,
                _ => directive.sharp = true,
            }
        }
        let mut follows_index = self.index();
        let mut is_left = false;
        let (width, is_argument) = self.size(("%!(BADWIDTH)", &mut is_left), text)?;
        directive.minus |= is_left;
        // An index belongs to the verb or to `*`, and not to a number.
        self.has_bad_index |= follows_index && width.is_some() && !is_argument;
        follows_index &= !is_argument;
        directive.width = width.unwrap_or(0);
        if self.chars.next_if_eq(&'.').is_some() {
            self.has_bad_index |= follows_index;
            follows_index = self.index();
            let mut is_negative = false;
            let (precision, is_argument) = self.size(("%!(BADPREC)", &mut is_negative), text)?;
            if is_negative {
                text.push_str("%!(BADPREC)");
            }
            self.has_bad_index |= follows_index && precision.is_some() && !is_argument;
            follows_index &= !is_argument;
            directive.precision = (!is_negative).then_some(precision.unwrap_or(0));
        }
        if !follows_index {
            self.index();
        }
        Ok(directive)
    }

    /// Reads an index such as `[1]`. Returns whether there was one.
    fn index(&mut self) -> bool {
        if self.chars.next_if_eq(&'[').is_none() {
            return false;
        }
        self.has_index = true;
        let mut digits = String::new();
        let is_closed = loop {
            match self.chars.next() {
                None => break false,
                Some(']') => break true,
                Some(c) => digits.push(c),
            }
        };
        let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let index = number.and_then(|digits| digits.parse::<usize>().ok()?.checked_sub(1));
        match index.filter(|index| is_closed && *index < self.values.len()) {
            Some(index) => self.next = index,
            None => self.has_bad_index = true,
        }
        true
    }

    /// Reads a number, or `*` for the next argument. Returns too whether it was an argument.
    fn size(
        &mut self,
        (problem, negative): (&str, &mut bool),
        text: &mut String,
    ) -> Result<(Option<usize>, bool), String> {
        let is_argument = self.chars.next_if_eq(&'*').is_some();
        let size = if is_argument {
            let size = self.value().and_then(Value::as_number).and_then(Number::as_integer);
            // A negative width aligns to the left.
            *negative = size.is_some_and(|size| size < 0);
            let size = size.and_then(|size| usize::try_from(size.unsigned_abs()).ok());
            if size.is_none() {
                text.push_str(problem);
            }
            size
        } else {
            let mut size = None;
            while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
                self.chars.next();
                size = Some(size.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
            }
            size
        };
        if size.is_some_and(|size| size > WIDTH_MAX) {
            return Err(format!("a width or precision in the format is larger than {WIDTH_MAX}"));
        }
        Ok((size, is_argument))
    }
}
