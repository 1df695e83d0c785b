//! Makes bytes that a workload chose harmless on a terminal.

use std::io::Write;

use crate::terminal::is_hidden;

/// Appends `bytes` bare where nothing in them can be mistaken, else as a quoted string.
pub(super) fn push_word(line: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() && bytes.iter().copied().all(is_bare) {
        line.extend_from_slice(bytes);
    } else {
        push_quoted(line, bytes);
    }
}

/// Appends `bytes` in quotes. Control characters, invisible ones, and bytes that are not UTF-8 are written as `\n`,
/// `\x1b`, `\u{202e}`.
pub(super) fn push_quoted(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_character(line, character);
        }
        for byte in chunk.invalid() {
            // Writing to a Vec cannot fail.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line.push(b'"');
}

fn push_character(line: &mut Vec<u8>, character: char) {
    match character {
        '"' => line.extend_from_slice(b"\\\""),
        '\\' => line.extend_from_slice(b"\\\\"),
        '\n' => line.extend_from_slice(b"\\n"),
        '\r' => line.extend_from_slice(b"\\r"),
        '\t' => line.extend_from_slice(b"\\t"),
        _ if !is_hidden(character) => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        _ if character.is_ascii() => drop(write!(line, "\\x{:02x}", u32::from(character))),
        _ => drop(write!(line, "\\u{{{:x}}}", u32::from(character))),
    }
}

const fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'+' | b':' | b'@' | b'%' | b',' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8]) -> String {
        let mut line = Vec::new();
        push_word(&mut line, bytes);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_plain_word_is_bare_and_all_else_is_quoted() {
        assert_eq!(word(b"/usr/lib/x86_64-linux-gnu/libc.so.6"), "/usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(word(b""), r#""""#);
        assert_eq!(word(b"/a b"), r#""/a b""#);
        assert_eq!(word(b"say \"hi\"\\"), r#""say \"hi\"\\""#);
        assert_eq!(word("größe".as_bytes()), r#""größe""#);
    }

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(word(b"\x1b[2J\n\r\t\x07\x7f"), r#""\x1b[2J\n\r\t\x07\x7f""#);
        assert_eq!(word(b"\xff\xc3("), r#""\xff\xc3(""#);
        assert_eq!(word("\u{85}\u{9b}\u{202e}\u{2028}".as_bytes()), r#""\u{85}\u{9b}\u{202e}\u{2028}""#);
    }
}
