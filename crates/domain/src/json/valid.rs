//! Whether a text is JSON, as fast as memory is read: strings are passed over by searching for their ends. It says yes to
//! nothing that is not JSON (RFC 8259); who gets a no and wants to know why asks a parser that tells.

/// True when the text is one JSON value, white space around it aside, nested no deeper than `depth_max`.
pub(super) fn is_json(text: &str, depth_max: usize) -> bool {
    let bytes = text.as_bytes();
    let mut reader = Reader { bytes, place: 0 };
    reader.space();
    reader.value(depth_max).is_some() && {
        reader.space();
        reader.place == bytes.len()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
}

/// What was opened and not yet closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Array,
    Object,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.place).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.place += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.place += 1;
        }
    }

    /// One value, without recursion: a peer chooses how deep it goes.
    fn value(&mut self, depth_max: usize) -> Option<()> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            // A value begins here.
            match self.peek()? {
                first @ (b'{' | b'[') => {
                    if open.len() >= depth_max {
                        return None;
                    }
                    let (kind, last) = if first == b'{' { (Open::Object, b'}') } else { (Open::Array, b']') };
                    self.place += 1;
                    self.space();
                    if self.peek()? != last {
                        open.push(kind);
                        if kind == Open::Object {
                            self.key()?;
                        }
                        continue;
                    }
                    self.place += 1;
                }
                b'"' => self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // And has ended.
            loop {
                let Some(last) = open.last().copied() else { return Some(()) };
                self.space();
                match (self.peek()?, last) {
                    (b',', Open::Object) => {
                        self.place += 1;
                        self.space();
                        self.key()?;
                        break;
                    }
                    (b',', Open::Array) => {
                        self.place += 1;
                        self.space();
                        break;
                    }
                    (b'}', Open::Object) | (b']', Open::Array) => {
                        self.place += 1;
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    /// A member's name, with what stands between it and its value.
    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let rest = self.bytes.get(self.place..)?;
            let end = memchr::memchr2(b'"', b'\\', rest)?;
            let plain = rest.get(..end)?;
            if has_control(plain) {
                return None;
            }
            self.place += end + 1;
            if rest.get(end) == Some(&b'"') {
                return Some(());
            }
            self.escape()?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let kind = self.peek()?;
        self.place += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.place..self.place + 4)?;
                self.place += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.place..)?.starts_with(word).then(|| self.place += word.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.place += 1;
        }
        match self.peek()? {
            b'0' => self.place += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.place += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.place += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.place += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.place..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| self.place += count)
    }
}

/// True when one of the bytes is a control character, which stands in no string. Looks at many at a time.
fn has_control(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let least = |bytes: &[u8]| bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    chunks.iter().any(|chunk| least(chunk) < b' ') || least(rest) < b' '
}

#[cfg(test)]
mod tests;
