//! The words of a condition: each function takes one kind of word where the cursor stands, or leaves it there.
//!
//! What a word may hold is libsinsp's (`filter/parser.cpp` and `filter/escaping.cpp` of 0.25): read these before you
//! edit. It is not one grammar of words: which kind is tried depends on the place, and most kinds need no blank behind
//! them. Nothing here looks at a byte more than a few times, and nothing panics.

/// A place in the text of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    /// The offset of the next byte. It never stands inside a character.
    pub(super) at: usize,
}

/// Why a quoted text cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuoteError {
    /// The quote that is opened here is not closed.
    Unclosed {
        /// The offset of the quote.
        at: usize,
        /// Whether another quote of the kind stands behind it, with a backslash in front.
        has_escaped_quote: bool,
    },
    /// A backslash with a character behind it that it does not go with.
    Escape {
        /// The offset of the backslash.
        at: usize,
        /// The character behind it.
        escaped: char,
    },
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x08)
}

/// What POSIX calls a space, which is not the same.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Tells whether a byte may stand in a word without quotes.
pub(super) const fn is_bare(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b'(' | b')' | b'"' | b'\'' | b'=' | b',')
}

/// Tells whether a byte may stand in the argument of a field without quotes.
const fn is_bare_argument(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b'[' | b']' | b'"' | b'\'')
}

/// Tells whether a text is one word without quotes.
pub(super) fn is_bare_word(text: &str) -> bool {
    // A backspace at the start is taken for a blank.
    !text.is_empty() && !text.starts_with('\u{8}') && text.bytes().all(is_bare)
}

/// Tells whether a text is the argument of a field without quotes.
pub(super) fn is_bare_argument_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_bare_argument)
}

/// Tells whether the whole text is a number.
pub(super) fn is_number(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.number().is_some() && cursor.is_at_end()
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Moves over `length` bytes and returns them.
    fn take(&mut self, length: usize) -> &'t str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// Takes the bytes that are of a kind, if there are any.
    fn run(&mut self, is_one: fn(u8) -> bool) -> Option<&'t str> {
        let length = run_length(self.rest().as_bytes(), is_one);
        (length > 0).then(|| self.take(length))
    }

    /// Takes just this.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    /// Takes blanks, and tells whether there were any.
    pub(super) fn blank(&mut self) -> bool {
        self.run(is_blank).is_some()
    }

    /// Takes `not` with a blank behind it.
    pub(super) fn negation(&mut self) -> bool {
        let before = self.at;
        if self.eat("not") && self.run(is_space).is_some() {
            return true;
        }
        self.at = before;
        false
    }

    /// Takes the name of a macro or of a list.
    pub(super) fn identifier(&mut self) -> Option<&'t str> {
        let length = identifier_length(self.rest().as_bytes());
        (length > 0).then(|| self.take(length))
    }

    /// Takes the name of a field, which has a dot in it.
    pub(super) fn field_name(&mut self) -> Option<&'t str> {
        let bytes = self.rest().as_bytes();
        let first = identifier_length(bytes);
        let mut length = first;
        while let Some((b'.', behind)) = bytes.get(length..).and_then(<[u8]>::split_first) {
            match identifier_length(behind) {
                0 => break,
                part => length += 1 + part,
            }
        }
        (first > 0 && length > first).then(|| self.take(length))
    }

    /// Takes the argument of a field.
    pub(super) fn bare_argument(&mut self) -> Option<&'t str> {
        self.run(is_bare_argument)
    }

    /// Takes a word without quotes.
    pub(super) fn bare_word(&mut self) -> Option<&'t str> {
        self.run(is_bare)
    }

    /// Takes a number, and leaves what stands behind it.
    pub(super) fn number(&mut self) -> Option<&'t str> {
        let bytes = self.rest().as_bytes();
        let digits =
            |from: usize| run_length(bytes.get(from..).unwrap_or_default(), |byte| byte.is_ascii_digit());
        if let [b'0', b'x' | b'X', hex @ ..] = bytes {
            let length = run_length(hex, |byte| byte.is_ascii_hexdigit());
            if length > 0 {
                return Some(self.take(2 + length));
            }
        }
        let sign = usize::from(matches!(bytes, [b'+' | b'-', ..]));
        let whole = digits(sign);
        if whole == 0 {
            return None;
        }
        let mut length = sign + whole;
        if bytes.get(length) == Some(&b'.') {
            length += 1;
            length += digits(length);
        }
        // An exponent without a sign is none.
        if let Some([b'e' | b'E', b'+' | b'-', ..]) = bytes.get(length..) {
            let exponent = digits(length + 2);
            if exponent > 0 {
                length += 2 + exponent;
            }
        }
        Some(self.take(length))
    }

    /// Takes a text in quotes, and undoes its escapes. The cursor then stands behind it, even if an escape is wrong.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, QuoteError> {
        let bytes = self.rest().as_bytes();
        let Some((&quote @ (b'"' | b'\''), body)) = bytes.split_first() else { return Ok(None) };
        // A quote ends the text unless the byte in front of it is a backslash, even one that is itself escaped. So no
        // text ends with an escaped backslash.
        let mut before = quote;
        let mut has_escaped_quote = false;
        let mut length = None;
        // Just as a C string, it ends where there is a NUL.
        for (offset, &byte) in body.iter().enumerate().take_while(|(_, byte)| **byte != 0) {
            if byte == quote {
                if before != b'\\' {
                    length = Some(offset);
                    break;
                }
                has_escaped_quote = true;
            }
            before = byte;
        }
        let at = self.at;
        let Some(length) = length else { return Err(QuoteError::Unclosed { at, has_escaped_quote }) };
        let text = self.take(length + 2);
        let body = text.get(1..=length).unwrap_or_default();
        unescaped(body, char::from(quote), at + 1).map(Some)
    }
}

fn run_length(bytes: &[u8], is_one: fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !is_one(byte)).unwrap_or(bytes.len())
}

fn identifier_length(bytes: &[u8]) -> usize {
    match bytes {
        [first, ..] if first.is_ascii_alphabetic() => {
            run_length(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }
        _ => 0,
    }
}

/// What a quoted text says. `at` is the offset of its first byte.
fn unescaped(body: &str, quote: char, at: usize) -> Result<String, QuoteError> {
    let mut text = String::with_capacity(body.len());
    let mut chars = body.char_indices();
    while let Some((offset, c)) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some((_, escaped)) = chars.next() else { break };
        text.push(match escaped {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            // A blank goes away and leaves the backslash.
            '\\' | ' ' => '\\',
            '/' => '/',
            escaped if escaped == quote => quote,
            _ => return Err(QuoteError::Escape { at: at + offset, escaped }),
        });
    }
    Ok(text)
}
