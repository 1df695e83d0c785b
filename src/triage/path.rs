//! Paths as libsinsp reads them: made absolute by their text alone, and cut into directory and file name.
//!
//! Nothing here may follow a link or ask the kernel: Falco compares names. Read libsinsp's `concatenate_paths` and the
//! fields `fd.directory` and `fd.filename` before you edit.

use crate::interest::formula::Part;

/// libsinsp's `SCAP_MAX_PATH_SIZE`: of a path that takes so many bytes, with the directory it starts from and a NUL, it
/// makes `/DIR_TOO_LONG/FILENAME_TOO_LONG`.
const RESOLVED_BYTES_MAX: usize = 1024;

/// What libsinsp makes of a path that is too long.
pub(super) const TOO_LONG: &[u8] = b"/DIR_TOO_LONG/FILENAME_TOO_LONG";

/// Tells whether libsinsp shows a text as it is: it has a visible character or a space in every place. An empty one has
/// no place for any, and what libsinsp shows for it differs from call to call.
pub(super) fn is_plain(text: &[u8]) -> bool {
    // Without an early end the compiler makes this a few wide comparisons.
    !text.is_empty() && text.iter().fold(true, |is_plain, byte| is_plain & matches!(byte, 0x20..=0x7e))
}

/// How many directories a relative path leaves first, and how it goes on from there.
pub(super) fn leave(mut path: &[u8]) -> (usize, &[u8]) {
    let mut left = 0;
    loop {
        match path {
            [b'.', b'/', rest @ ..] => path = rest,
            [b'.', b'.', b'/', rest @ ..] => (left, path) = (left + 1, rest),
            _ => return (left, path),
        }
    }
}

/// Tells whether a path is what resolving would make of it.
pub(super) fn is_resolved(path: &[u8]) -> bool {
    match path.split_first() {
        Some((b'/', rest)) => rest.is_empty() || (fits(b"", path) && is_straight(rest)),
        _ => false,
    }
}

/// Tells whether a relative path names no place twice: resolving it takes no component away.
pub(super) fn is_straight(path: &[u8]) -> bool {
    // Only behind a slash can be what is taken away. Most paths have neither a dot nor a slash there, which the compiler
    // makes a few wide comparisons of.
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    let is_smooth = pairs.fold(true, |is_smooth, (one, next)| {
        is_smooth & !((*one == b'/') & ((*next == b'/') | (*next == b'.')))
    });
    let has_ends = !matches!(path.first(), None | Some(b'/' | b'.')) && path.last() != Some(&b'/');
    (is_smooth && has_ends) || !path.split(|byte| *byte == b'/').any(is_detour)
}

/// Tells whether resolving a path takes this component away.
fn is_detour(component: &[u8]) -> bool {
    matches!(component, b"" | b"." | b"..")
}

/// Tells whether slashes do nothing in a text but to start it and to separate its components.
pub(super) fn has_single_slashes(text: &[u8]) -> bool {
    let pairs = text.iter().zip(text.get(1..).unwrap_or_default());
    text.first() == Some(&b'/')
        && pairs.fold(true, |is_so, (one, next)| is_so & !((*one == b'/') & (*next == b'/')))
}

/// Tells whether libsinsp finds a path behind a directory short enough.
pub(super) fn fits(base: &[u8], path: &[u8]) -> bool {
    // One byte is for a slash between them and one for the NUL.
    base.len() + path.len() + 2 <= RESOLVED_BYTES_MAX
}

/// The part of a text that a field of libsinsp shows.
pub(super) fn part_of(text: &[u8], part: Part) -> &[u8] {
    let slash = match part {
        Part::Whole => return text,
        Part::Directory | Part::FileName => memchr::memrchr(b'/', text),
    };
    match (part, slash) {
        (_, None) | (Part::Directory, Some(0)) => b"/",
        // Behind a slash at the end there is nothing to cut off.
        (_, Some(slash)) if slash + 1 == text.len() => text,
        (Part::Directory, Some(slash)) => text.get(..slash).unwrap_or(text),
        (_, Some(slash)) => text.get(slash + 1..).unwrap_or(text),
    }
}

/// Room for one resolved path, on the stack.
pub(super) struct Resolved {
    bytes: [u8; RESOLVED_BYTES_MAX],
    len: usize,
}

impl Resolved {
    /// No path yet: what it holds is the root.
    pub(super) const fn new() -> Self {
        Self { bytes: [0; RESOLVED_BYTES_MAX], len: 0 }
    }

    /// Starts from this directory. `None` if it is none that a path can be resolved against with certainty: it is no place
    /// in the file tree (`pipe:[7]`), may have been cut, or has no name any more.
    pub(super) fn start_from(&mut self, base: &[u8]) -> Option<()> {
        if !is_resolved(base) || !is_plain(base) || base.ends_with(b" (deleted)") {
            return None;
        }
        self.len = 0;
        if base != b"/" { self.push(base) } else { Some(()) }
    }

    /// Goes on from there as a path says. `None` if it becomes too long.
    pub(super) fn follow(&mut self, path: &[u8]) -> Option<()> {
        if !fits(self.bytes.get(..self.len)?, path) {
            return None;
        }
        let (left, path) = leave(path);
        (0..left).for_each(|_| self.leave_last());
        if is_straight(path) {
            self.push(b"/")?;
            return self.push(path);
        }
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => self.leave_last(),
                name => {
                    self.push(b"/")?;
                    self.push(name)?;
                }
            }
        }
        Some(())
    }

    fn leave_last(&mut self) {
        let path = self.bytes.get(..self.len).unwrap_or_default();
        self.len = memchr::memrchr(b'/', path).unwrap_or(0);
    }

    /// The path.
    pub(super) fn path(&self) -> &[u8] {
        match self.bytes.get(..self.len) {
            None | Some(b"") => b"/",
            Some(path) => path,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(base: &str, path: &str) -> Option<String> {
        let mut resolved = Resolved::new();
        if !path.starts_with('/') {
            resolved.start_from(base.as_bytes())?;
        }
        resolved.follow(path.as_bytes())?;
        Some(String::from_utf8(resolved.path().to_vec()).unwrap())
    }

    #[test]
    fn a_path_is_resolved_by_its_text_alone() {
        for (base, path, expected) in [
            ("/srv", "app", "/srv/app"),
            ("/", "app", "/app"),
            ("/srv", "./a/../b//c/.", "/srv/b/c"),
            ("/srv", "..", "/"),
            ("/srv/app", "../../../etc/shadow", "/etc/shadow"),
            ("/srv", "/etc//shadow/", "/etc/shadow"),
            ("/srv", "/../..", "/"),
            ("/srv", "...", "/srv/..."),
            ("/srv", "..a/.b", "/srv/..a/.b"),
            ("/srv", "//", "/"),
        ] {
            assert_eq!(resolved(base, path).as_deref(), Some(expected), "{base} {path}");
        }
    }

    #[test]
    fn nothing_is_resolved_against_what_is_no_plain_directory() {
        for base in [
            "",
            "srv",
            "(unreachable)/srv",
            "/srv/",
            "/srv/../x",
            "/s\u{e9}",
            "/s\0",
            "/srv (deleted)",
            "pipe:[7]",
        ] {
            assert_eq!(resolved(base, "app"), None, "{base}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_for_libsinsp_is_not_resolved() {
        let longest = format!("/{}", "x".repeat(1021));
        assert_eq!(resolved("", &longest), Some(longest.clone()));
        assert!(is_resolved(longest.as_bytes()));
        assert_eq!(resolved("", &(longest.clone() + "x")), None);
        assert!(!is_resolved((longest + "x").as_bytes()));
        assert_eq!(resolved(&format!("/{}", "x".repeat(500)), &"x".repeat(522)), None);
        // It is its length before `..` is undone that counts.
        assert_eq!(resolved("/", &"a/../".repeat(300)), None);
    }

    #[test]
    fn a_resolved_path_is_told_from_others() {
        for path in ["/", "/a", "/a/b.c", "/.a", "/..a", "/a/...", "/a/.b/..c"] {
            assert!(is_resolved(path.as_bytes()), "{path}");
        }
        for path in ["", "a", "//", "/a/", "/.", "/..", "/a/./b", "/a/../b", "/a//b", "/a/..", "/a/."] {
            assert!(!is_resolved(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn parts_are_cut_as_libsinsp_cuts_them() {
        for (text, directory, name) in [
            ("/etc/shadow", "/etc", "shadow"),
            ("/etc", "/", "etc"),
            ("/", "/", "/"),
            ("shadow", "/", "/"),
            ("a/b/", "a/b/", "a/b/"),
            ("a/b", "a", "b"),
        ] {
            assert_eq!(part_of(text.as_bytes(), Part::Directory), directory.as_bytes(), "{text}");
            assert_eq!(part_of(text.as_bytes(), Part::FileName), name.as_bytes(), "{text}");
        }
    }
}
