//! A fast JSON validator (RFC 8259), which searches for the ends of strings at memory speed. It accepts
//! nothing that is not JSON. It gives no reason for a rejection; use [`Json::parse`](crate::Json::parse) for
//! that.

/// True when the text is one JSON value with optional white space around it, nested at most `depth_max` deep.
pub(super) fn is_json(text: &str, depth_max: usize) -> bool {
    let bytes = text.as_bytes();
    let mut validator = Validator { bytes, offset: 0 };
    validator.skip_whitespace();
    validator.validate_value(depth_max).is_some() && {
        validator.skip_whitespace();
        validator.offset == bytes.len()
    }
}

struct Validator<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// A container that was opened and not yet closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

impl Validator<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.offset).copied()
    }

    fn expect_byte(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.offset += 1)
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.offset += 1;
        }
    }

    /// Validates one value without recursion, because a peer chooses the depth.
    fn validate_value(&mut self, depth_max: usize) -> Option<()> {
        let mut open: Vec<Container> = Vec::new();
        loop {
            // A value begins here.
            match self.peek()? {
                first @ (b'{' | b'[') => {
                    if open.len() >= depth_max {
                        return None;
                    }
                    let (kind, last) =
                        if first == b'{' { (Container::Object, b'}') } else { (Container::Array, b']') };
                    self.offset += 1;
                    self.skip_whitespace();
                    if self.peek()? != last {
                        open.push(kind);
                        if kind == Container::Object {
                            self.validate_key()?;
                        }
                        continue;
                    }
                    self.offset += 1;
                }
                b'"' => self.validate_string()?,
                b't' => self.expect_literal(b"true")?,
                b'f' => self.expect_literal(b"false")?,
                b'n' => self.expect_literal(b"null")?,
                _ => self.validate_number()?,
            }
            // The value has ended.
            loop {
                let Some(last) = open.last().copied() else { return Some(()) };
                self.skip_whitespace();
                match (self.peek()?, last) {
                    (b',', Container::Object) => {
                        self.offset += 1;
                        self.skip_whitespace();
                        self.validate_key()?;
                        break;
                    }
                    (b',', Container::Array) => {
                        self.offset += 1;
                        self.skip_whitespace();
                        break;
                    }
                    (b'}', Container::Object) | (b']', Container::Array) => {
                        self.offset += 1;
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Validates a member's name, the colon, and the white space around it.
    fn validate_key(&mut self) -> Option<()> {
        self.validate_string()?;
        self.skip_whitespace();
        self.expect_byte(b':')?;
        self.skip_whitespace();
        Some(())
    }

    fn validate_string(&mut self) -> Option<()> {
        self.expect_byte(b'"')?;
        loop {
            let rest = self.bytes.get(self.offset..)?;
            let end = memchr::memchr2(b'"', b'\\', rest)?;
            let plain = rest.get(..end)?;
            if has_control(plain) {
                return None;
            }
            self.offset += end + 1;
            if rest.get(end) == Some(&b'"') {
                return Some(());
            }
            self.validate_escape()?;
        }
    }

    /// Validates the characters after a backslash.
    fn validate_escape(&mut self) -> Option<()> {
        let kind = self.peek()?;
        self.offset += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.offset..self.offset + 4)?;
                self.offset += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn expect_literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.offset..)?.starts_with(word).then(|| self.offset += word.len())
    }

    fn validate_number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.offset += 1;
        }
        match self.peek()? {
            b'0' => self.offset += 1,
            _ => self.expect_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.offset += 1;
            self.expect_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.offset += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.offset += 1;
            }
            self.expect_digits()?;
        }
        Some(())
    }

    /// Accepts one or more digits.
    fn expect_digits(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.offset..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| self.offset += count)
    }
}

/// True when one of the bytes is a control character, which is illegal inside a string. Takes the minimum of
/// 64 bytes at a time, which the compiler can vectorise.
fn has_control(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let least = |bytes: &[u8]| bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    chunks.iter().any(|chunk| least(chunk) < b' ') || least(rest) < b' '
}

#[cfg(test)]
mod tests;
