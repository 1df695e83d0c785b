//! The texts that random rules compare with, and texts that nearly are these.

use crate::random::Random;

/// Directories of the paths.
const DIRECTORIES: [&str; 12] = [
    "/etc",
    "/root/.ssh",
    "/tmp",
    "/usr/bin",
    "/var/log",
    "/proc/1",
    "/dev",
    "/etc/pam.d",
    "/",
    "/srv/a b",
    "/home/Ann",
    "/lib64",
];

/// Their last components.
const NAMES: [&str; 14] = [
    "shadow",
    "passwd",
    "id_rsa",
    "authorized_keys",
    "environ",
    "ld.so.preload",
    ".bashrc",
    "x",
    "aa",
    "log.1",
    "sudo",
    "a-b_c",
    "Ab",
    "..x",
];

/// A path that rules compare with.
pub(crate) fn path(random: &mut Random) -> String {
    let directory = one(random, &DIRECTORIES);
    match random.below(8) {
        0 => directory.to_owned(),
        _ => format!("{}/{}", directory.trim_end_matches('/'), one(random, &NAMES)),
    }
}

/// A piece of a path, as `contains` or `startswith` compares it.
pub(crate) fn piece(random: &mut Random) -> String {
    match random.below(7) {
        0 => one(random, &DIRECTORIES).to_owned(),
        1 => one(random, &NAMES).to_owned(),
        // What resolving a path takes away.
        5 => one(random, &["/.", "/..", "//", "/", ".", "./", "/x/"]).to_owned(),
        2 => format!("{}/", one(random, &DIRECTORIES).trim_end_matches('/')),
        3 => format!("/{}", one(random, &NAMES)),
        4 => {
            let whole = path(random);
            let cut = 1 + random.below(whole.len());
            whole.chars().take(cut).collect()
        }
        _ => {
            let whole = path(random);
            let cut = random.below(whole.len());
            whole.chars().skip(cut).collect()
        }
    }
}

/// A pattern of `glob`.
pub(crate) fn pattern(random: &mut Random) -> String {
    let mut pattern = path(random).replace(' ', "?");
    match random.below(5) {
        0 => pattern.push('*'),
        1 => pattern = format!("*{}", piece(random).replace(' ', "*")),
        2 => pattern = pattern.replace('s', "?"),
        3 => pattern = pattern.replace("/e", "/*"),
        _ => pattern = format!("*{}*", one(random, &NAMES)),
    }
    pattern
}

pub(crate) fn directory(random: &mut Random) -> &'static str {
    one(random, &DIRECTORIES)
}

pub(crate) fn name(random: &mut Random) -> &'static str {
    one(random, &NAMES)
}

/// A path as a program writes it, and the directory that it starts from if it is relative: often one that rules compare
/// with, by a detour, or one that is nearly so.
pub(crate) fn written(random: &mut Random) -> (Vec<u8>, String) {
    let mut path = path(random);
    match random.below(16) {
        14 => path = format!("{path}/."),
        15 => path = format!("{path}/.."),
        0 => path = path.replacen('/', "//", 1),
        1 => path = format!("/srv/..{path}"),
        2 => path = path.replace("/s", "/./s"),
        3 => path.push('/'),
        4 => path.push('x'),
        5 => path = path.to_uppercase(),
        6 => path = path.chars().skip(1).collect(),
        7 => path = format!("{path}/{}", name(random)),
        8 => path = format!("{path}/../{}", name(random)),
        _ => {}
    }
    let mut base = directory(random).to_owned();
    if random.below(3) == 0 {
        (base, path) = split(random, &path, base);
    }
    let mut bytes = path.into_bytes();
    match random.below(40) {
        0 => bytes.clear(),
        1 => bytes.push(0xc3),
        2 => bytes.push(b'\n'),
        3 => bytes = b"..".to_vec(),
        4 => bytes = b".".to_vec(),
        5 => bytes.extend(std::iter::repeat_n(b'a', 900 + random.below(300))),
        _ => {}
    }
    (bytes, base)
}

/// A path in two: the directory that it starts from, and the rest.
fn split(random: &mut Random, path: &str, base: String) -> (String, String) {
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let Some(&at) = random.pick(&slashes) else { return (base, path.to_owned()) };
    let (head, tail) = path.split_at(at);
    let tail = tail.trim_start_matches('/');
    let head = if head.starts_with('/') { head.to_owned() } else { "/".to_owned() };
    match random.below(4) {
        0 => (format!("{}/sub", head.trim_end_matches('/')), format!("../{tail}")),
        1 => (head, format!("./{tail}")),
        _ => (head, tail.to_owned()),
    }
}

pub(crate) fn one<T: Copy + Default>(random: &mut Random, choices: &[T]) -> T {
    random.pick(choices).copied().unwrap_or_default()
}
