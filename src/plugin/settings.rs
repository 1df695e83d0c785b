//! What the plugin is told by Falco's configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::link;

/// What `init_config` or `open_params` say, whichever says it last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    link: Option<PathBuf>,
}

impl Settings {
    /// Reads a directory, or `key=value` pairs with commas between them. The one key so far is `link`.
    pub(super) fn read(&self, text: &str) -> anyhow::Result<Self> {
        let mut settings = self.clone();
        let text = text.trim();
        if text.starts_with(['/', '.']) {
            settings.link = Some(PathBuf::from(text));
            return Ok(settings);
        }
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let accepted = "a directory, as /run/creance, or link=DIRECTORY";
            let (key, value) =
                pair.split_once('=').with_context(|| format!("{pair:?}: expected {accepted}"))?;
            match (key.trim(), value.trim()) {
                ("link", "") => bail!("link: the directory is missing"),
                ("link", value) => settings.link = Some(PathBuf::from(value)),
                (key, _) => bail!("{key:?} is no setting: expected {accepted}"),
            }
        }
        Ok(settings)
    }

    /// The directory of the link.
    pub(super) fn link(&self) -> PathBuf {
        self.link.as_deref().map_or_else(link::default_directory, Path::to_path_buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_of(text: &str) -> PathBuf {
        Settings::default().read(text).unwrap().link()
    }

    #[test]
    fn a_directory_is_told_alone_or_by_its_key() {
        for text in ["/shared/creance", "link=/shared/creance", " link = /shared/creance , "] {
            assert_eq!(link_of(text), Path::new("/shared/creance"), "{text}");
        }
        assert_eq!(link_of("/a=b"), Path::new("/a=b"));
        assert_eq!(link_of(""), link::default_directory());
    }

    #[test]
    fn what_is_said_later_counts() {
        let first = Settings::default().read("link=/one").unwrap();
        assert_eq!(first.read("/two").unwrap().link(), Path::new("/two"));
        assert_eq!(first.read("").unwrap().link(), Path::new("/one"));
    }

    #[test]
    fn a_mistake_is_named_with_what_is_accepted() {
        for (text, wanted) in
            [("ring=/x", "\"ring\" is no setting"), ("somewhere", "expected"), ("link=", "missing")]
        {
            let error = Settings::default().read(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
