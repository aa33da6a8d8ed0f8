//! The grammar of JSON (RFC 8259), to the letter: a walk over one record's bytes.

use super::super::BadReason;
use super::number::Number;

/// How deep values may be nested where nothing is declared about them. Declared types are bounded by the
/// plan already.
pub(super) const MAX_DEPTH: u32 = 128;

/// Why a value could not be taken.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes are not JSON, or nested too deeply: the whole record is bad and reading ends here.
    Record(BadReason, &'static str),
    /// The value breaks its column's contract; what follows it can still be read.
    Contract(Box<Breach>),
}

/// Which contract was broken, and where.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) reason: BadReason,
    /// The field's path: `merchant.tags[3]`.
    pub(super) path: String,
    /// What was wanted and what was found.
    pub(super) message: String,
}

impl Fault {
    pub(super) fn contract(reason: BadReason, message: String) -> Self {
        Self::Contract(Box::new(Breach { reason, path: String::new(), message }))
    }
}

const fn syntax(message: &'static str) -> Fault {
    Fault::Record(BadReason::NotJson, message)
}

/// A position in a record's value.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte, which stays.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The bytes that are left.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Steps over `wanted` if it comes next.
    #[inline]
    pub(super) fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over `:` and the white space around it.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if !self.eat(b':') {
            return Err(syntax("`:` is missing after a field's name"));
        }
        self.skip_space();
        Ok(())
    }

    /// After a member or element: true when another follows, false when `close` did.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err(syntax("`,` or the closing bracket is missing")),
            None => Err(syntax("it is cut off")),
        }
    }

    /// Steps over the opening bracket that is next: true when something is inside, false when the closing
    /// one followed at once.
    #[inline]
    pub(super) fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        self.skip_space();
        !self.eat(close)
    }

    /// Steps over `word`, whose first byte is known to be next.
    pub(super) fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(syntax("a word that is not true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a text, whose quote is next, to its end and appends it, unescaped, to `out`.
    ///
    /// Half a surrogate pair is good JSON but no text: a breach of contract, `out` then holds a part.
    #[inline]
    pub(super) fn text_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = plain_run(rest);
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape_into(out)?,
                Some(_) => return Err(syntax("a control character stands in a text")),
                None => return Err(syntax("it is cut off in a text")),
            }
        }
    }

    /// Reads a text, whose quote is next, to its end: the record's own bytes when nothing in it is escaped, else `scratch`.
    #[inline]
    pub(super) fn text<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Fault>
    where
        'a: 's,
    {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let plain = plain_run(rest);
        if rest.get(plain) == Some(&b'"') {
            self.at += plain + 2;
            return Ok(&rest[..plain]);
        }
        scratch.clear();
        self.text_into(scratch)?;
        Ok(scratch)
    }

    fn escape_into(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let unit = match self.escape()? {
            Escape::Byte(byte) => {
                out.push(byte);
                return Ok(());
            }
            Escape::Unit(unit) => unit,
        };
        let code = match unit {
            0xd800..=0xdbff if self.rest().starts_with(b"\\u") => match self.escape()? {
                Escape::Unit(low @ 0xdc00..=0xdfff) => Some(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)),
                _ => None,
            },
            _ => Some(unit),
        };
        let Some(character) = code.and_then(char::from_u32) else {
            let message = "the text holds half of a surrogate pair".to_owned();
            return Err(Fault::contract(BadReason::InvalidUtf8, message));
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// Reads one escape, whose backslash is next.
    fn escape(&mut self) -> Result<Escape, Fault> {
        let kind = self.bytes.get(self.at + 1).copied();
        self.at += 2;
        Ok(Escape::Byte(match kind {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
                let mut unit = 0;
                for digit in digits {
                    let digit =
                        char::from(*digit).to_digit(16).ok_or(syntax("`\\u` without four hexadecimal digits"))?;
                    unit = unit * 16 + digit;
                }
                if digits.len() < 4 {
                    return Err(syntax("it is cut off in a text"));
                }
                self.at += 4;
                return Ok(Escape::Unit(unit));
            }
            Some(_) => return Err(syntax("an escape that JSON does not have")),
            None => return Err(syntax("it is cut off in a text")),
        }))
    }

    /// Reads a number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, Fault> {
        let (number, len) = Number::scan(self.rest()).map_err(syntax)?;
        self.at += len;
        Ok(number)
    }

    /// Steps over one value of any kind, checking its grammar.
    pub(super) fn skip_value(&mut self) -> Result<(), Fault> {
        // One bit a level that is open: whether it is an object.
        let mut objects: u128 = 0;
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(b'"') => self.skip_text()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                Some(open @ (b'{' | b'[')) => {
                    let object = open == b'{';
                    if self.open(if object { b'}' } else { b']' }) {
                        if depth == MAX_DEPTH {
                            return Err(Fault::Record(BadReason::TooDeep, "values are nested more than 128 deep"));
                        }
                        objects = objects << 1 | u128::from(object);
                        depth += 1;
                        if object {
                            self.skip_name()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                }
                Some(_) => return Err(syntax("something that begins no JSON value")),
                None => return Err(syntax("it is cut off")),
            }
            // A value has ended, and perhaps what it stands in, and what that stands in.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.another(if object { b'}' } else { b']' })? {
                    if object {
                        self.skip_name()?;
                    }
                    break;
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    /// Checks that a member's name is next.
    pub(super) fn expect_name(&self) -> Result<(), Fault> {
        if self.peek() == Some(b'"') { Ok(()) } else { Err(syntax("a field's name is missing")) }
    }

    fn skip_name(&mut self) -> Result<(), Fault> {
        self.expect_name()?;
        self.skip_text()?;
        self.colon()
    }

    fn skip_text(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = plain_run(rest);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape()?;
                }
                Some(_) => return Err(syntax("a control character stands in a text")),
                None => return Err(syntax("it is cut off in a text")),
            }
        }
    }
}

/// What an escape stands for.
enum Escape {
    Byte(u8),
    /// A UTF-16 code unit.
    Unit(u32),
}

/// How many leading bytes can stand in a text as they are: no quote, no backslash, no control character.
///
/// Eight bytes at a time: for each of the three, a word whose lowest set bit marks the first such byte.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut len = 0;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5c);
        let quote = quote.wrapping_sub(ONES) & !quote;
        let backslash = backslash.wrapping_sub(ONES) & !backslash;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | backslash | control) & HIGH;
        if found != 0 {
            return len + found.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = words.remainder();
    len + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_runs_end_at_the_first_special_byte() {
        for special in 0..=255_u8 {
            let ends = special == b'"' || special == b'\\' || special < 0x20;
            for at in 0..20 {
                let mut bytes = vec![b'a'; 24];
                bytes[at] = special;
                bytes[22] = b'"';
                assert_eq!(plain_run(&bytes), if ends { at } else { 22 }, "{special:#x} at {at}");
            }
        }
        assert_eq!(plain_run(b""), 0);
        assert_eq!(plain_run("ünïcödé…".as_bytes()), "ünïcödé…".len());
    }
}
