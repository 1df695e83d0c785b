//! Lexical path resolution: text in, text out, no file system.
//!
//! Like Falco, it follows no symbolic link: what a path *means* was settled in the kernel, this is what the program
//! *wrote*, made absolute.

use std::borrow::Cow;

/// Makes `path` absolute and removes `.`, `..`, doubled and trailing slashes.
///
/// `base` is the text of the directory that a relative path starts from. An empty path names `base` itself
/// (`AT_EMPTY_PATH`, openat(2)). `None` where a base is needed and none is known, or the known one is not a place in
/// the file tree (`pipe:[7]`, `(unreachable)/x`).
pub(super) fn resolve<'a>(base: Option<&'a [u8]>, path: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    if path.starts_with(b"/") {
        return Some(if is_clean(path) { Cow::Borrowed(path) } else { Cow::Owned(joined(&[], path)) });
    }
    let base = base.filter(|base| base.starts_with(b"/"))?;
    if path.is_empty() {
        return Some(Cow::Borrowed(base));
    }
    Some(Cow::Owned(joined(base, path)))
}

/// Whether an absolute path is already what [`joined`] would make of it.
fn is_clean(path: &[u8]) -> bool {
    path == b"/" || path.split(is_slash).skip(1).all(|part| !matches!(part, b"" | b"." | b".."))
}

fn joined(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(base.len() + path.len() + 2);
    for part in base.split(is_slash).chain(path.split(is_slash)) {
        match part {
            b"" | b"." => {}
            b".." => whole.truncate(whole.iter().rposition(is_slash).unwrap_or(0)),
            part => {
                whole.push(b'/');
                whole.extend_from_slice(part);
            }
        }
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

const fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(base: Option<&str>, path: &str) -> Option<String> {
        let resolved = resolve(base.map(str::as_bytes), path.as_bytes());
        resolved.map(|path| String::from_utf8(path.into_owned()).unwrap())
    }

    #[test]
    fn a_relative_path_starts_from_its_base() {
        assert_eq!(text(Some("/home/a"), "b/../c//d/.").unwrap(), "/home/a/c/d");
        assert_eq!(text(Some("/"), "etc").unwrap(), "/etc");
        assert_eq!(text(Some("/a/b"), "../../../..").unwrap(), "/");
    }

    #[test]
    fn an_absolute_path_needs_no_base() {
        assert_eq!(text(None, "/etc/shadow").unwrap(), "/etc/shadow");
        assert_eq!(text(None, "/etc/../etc/./shadow/").unwrap(), "/etc/shadow");
        assert_eq!(text(None, "/").unwrap(), "/");
        assert!(matches!(resolve(None, b"/etc/shadow"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn an_empty_path_names_its_base() {
        assert_eq!(text(Some("/memfd:x (deleted)"), "").unwrap(), "/memfd:x (deleted)");
        assert_eq!(text(None, ""), None);
    }

    #[test]
    fn a_base_outside_of_the_file_tree_resolves_nothing() {
        assert_eq!(text(None, "a"), None);
        assert_eq!(text(Some("pipe:[7]"), "a"), None);
        assert_eq!(text(Some("(unreachable)/x"), "a"), None);
    }

    proptest! {
        #[test]
        fn a_resolved_path_is_clean_and_stays_so(base in "/[a./]{0,20}", path in "[a./]{1,20}") {
            let once = resolve(Some(base.as_bytes()), path.as_bytes()).unwrap().into_owned();
            prop_assert!(is_clean(&once), "{:?}", once);
            prop_assert_eq!(resolve(None, &once).unwrap().into_owned(), once);
        }
    }
}
