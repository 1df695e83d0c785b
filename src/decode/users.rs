//! Names of users, from one reading of a passwd(5) file.

use std::{collections::HashMap, fs::File, io::Read, sync::Arc};

use crate::limits;

/// The names of users by their number.
///
/// It is a snapshot of the machine (or container) that the decoder runs in. A workload in a container of its own may
/// call the same number otherwise.
#[derive(Debug, Clone, Default)]
pub struct Users {
    names: HashMap<u32, Arc<str>>,
}

impl Users {
    /// Reads `/etc/passwd`. Without that file, no user has a name.
    #[must_use]
    pub fn load() -> Self {
        let mut text = Vec::new();
        match File::open("/etc/passwd")
            .and_then(|file| file.take(limits::PASSWD_BYTES_MAX).read_to_end(&mut text))
        {
            Ok(_) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    /// Takes the names from the text of a passwd(5) file. As in getpwuid(3), the first name of a number counts;
    /// lines that are not well formed are passed over.
    #[must_use]
    pub fn parse(passwd: &[u8]) -> Self {
        let mut names = HashMap::new();
        for line in passwd.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let Some(uid) = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok()) else { continue };
            names.entry(uid).or_insert_with(|| Arc::from(&*String::from_utf8_lossy(name)));
        }
        Self { names }
    }

    /// The name of a user.
    #[must_use]
    pub fn name(&self, uid: u32) -> Option<&Arc<str>> {
        self.names.get(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_bad_lines_do_not() {
        let users =
            Users::parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n#\n\nx:y\nbad:x:many:\nalice:x:1000:1\n");
        assert_eq!(users.name(0).map(AsRef::as_ref), Some("root"));
        assert_eq!(users.name(1000).map(AsRef::as_ref), Some("alice"));
        assert!(users.name(1).is_none());
    }
}
