//! `creance patch`: adds creance to a task definition of ECS or to a workload of Kubernetes.
//!
//! What is added is what the files in `taskdefinitions/` and `podspecs/` have for the same pattern, which tests compare.
//! The decisions are pure: a text and a request in, a text or a reason out ([`task_definition`], [`pods`]). Files and
//! flags are in `command`. Everything that is not added to stays as it was, byte for byte; what cannot be edited so is refused
//! with its place.

pub(super) mod command;
mod edit;
mod pod;
mod task;
#[cfg(test)]
mod tests;
mod tree;

pub use pod::pods;
pub use task::task_definition;

use tree::Value;

/// The directory of the link where a volume is shared.
const LINK: &str = "/run/creance";
/// The volume of the link.
const LINK_VOLUME: &str = "creance-link";
/// Words that tell what a user is told to have in an image of their own.
const COPY_LINE: &str = "COPY --from=creance-binaries:VERSION /creance/creance /usr/local/bin/creance";

/// A way to put creance beside a workload: `containerimages/README.md` tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Pattern {
    /// Workload, creance and Falco in one image, built for it
    EmbeddedBinaries,
    /// The image as it is, creance from a volume, Falco as a sidecar
    MountedBinaries,
    /// creance in the workload's image, Falco as a sidecar over the shared IPC of a pod
    SidecarPtrace,
    /// creance in the workload's image, Falco as a sidecar over a shared volume
    SidecarVolume,
    /// The container as it is, creance attaching from a sidecar with `SYS_PTRACE`, Falco as another
    SidecarAttach,
}

impl Pattern {
    /// Its name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmbeddedBinaries => "embeddedbinaries",
            Self::MountedBinaries => "mountedbinaries",
            Self::SidecarPtrace => "sidecarptrace",
            Self::SidecarVolume => "sidecarvolume",
            Self::SidecarAttach => "sidecarattach",
        }
    }

    /// What is put in front of the workload's own command.
    fn launcher(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::EmbeddedBinaries => &[
                "/usr/local/bin/creance",
                "run",
                "--link",
                LINK,
                "--consumer",
                "falco -c /etc/falco/falco.yaml",
                "--",
            ],
            Self::MountedBinaries => {
                &["/creance/creance", "run", "--link", LINK, "--wait-consumer", "30", "--"]
            }
            Self::SidecarVolume => {
                &["/usr/local/bin/creance", "run", "--link", LINK, "--wait-consumer", "30", "--"]
            }
            Self::SidecarPtrace => {
                &["/usr/local/bin/creance", "run", "--link", pod::SHARED_LINK, "--wait-consumer", "30", "--"]
            }
            Self::SidecarAttach => &[],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The pattern.
    pub pattern: Pattern,
    /// The container of the workload, where there are several.
    pub container: Option<String>,
    /// The object of Kubernetes, where there are several.
    pub object: Option<String>,
    /// What stands before the names of creance's images: a registry and a slash.
    pub image_prefix: Option<String>,
    /// Falco's image.
    pub falco_image: Option<String>,
    /// The image that brings creance in a volume.
    pub binaries_image: Option<String>,
    /// The image that attaches.
    pub attach_image: Option<String>,
    /// The workload's image with creance in it.
    pub workload_image: Option<String>,
    /// The entry point of the workload's image, where the file has none.
    pub entrypoint: Option<Vec<String>>,
    /// The command of the workload's image, where the file has none.
    pub command: Option<Vec<String>>,
    /// The name of the program that is attached to.
    pub program: Option<String>,
}

impl Request {
    /// A request for a pattern, with nothing else said.
    #[must_use]
    pub const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            container: None,
            object: None,
            image_prefix: None,
            falco_image: None,
            binaries_image: None,
            attach_image: None,
            workload_image: None,
            entrypoint: None,
            command: None,
            program: None,
        }
    }

    /// The image of this name, without `creance-` before it.
    fn image(&self, name: &str) -> Result<String, Refusal> {
        let own = match name {
            "falco" => &self.falco_image,
            "binaries" => &self.binaries_image,
            _ => &self.attach_image,
        };
        let made =
            || Some(format!("{}creance-{name}:{}", self.image_prefix.as_ref()?, env!("CARGO_PKG_VERSION")));
        own.clone().or_else(made).ok_or_else(|| {
            let flag = name.strip_prefix("sidecar").unwrap_or(name);
            Refusal::of_all(format!(
                "nothing says where the image creance-{name} is: give --image-prefix, as in \
                 ACCOUNT_ID.dkr.ecr.REGION.amazonaws.com/, or --{flag}-image"
            ))
        })
    }

    /// The workload's image, where the pattern wants one with creance in it.
    fn workload_image(&self) -> Result<Option<&str>, Refusal> {
        match (self.pattern, &self.workload_image) {
            (Pattern::MountedBinaries | Pattern::SidecarAttach, Some(_)) => Err(Refusal::of_all(format!(
                "{} leaves the workload's image as it is: leave out --workload-image",
                self.pattern.name()
            ))),
            (Pattern::MountedBinaries | Pattern::SidecarAttach, None) => Ok(None),
            (_, Some(image)) => Ok(Some(image)),
            (pattern, None) => {
                let line = if pattern == Pattern::EmbeddedBinaries {
                    "see containerimages/embeddedbinaries"
                } else {
                    COPY_LINE
                };
                Err(Refusal::of_all(format!(
                    "{} wants the workload's image with creance in it ({line}): give its name as --workload-image",
                    pattern.name()
                )))
            }
        }
    }
}

/// A file with creance in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Patched {
    /// The whole file.
    pub text: String,
    /// What whoever deploys it should know.
    pub notes: Vec<String>,
    /// Whether anything has changed.
    pub is_changed: bool,
}

/// Why a file is left as it is, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The place, as an offset in the file in bytes.
    pub at: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Refusal {
    fn at(at: usize, message: String) -> Self {
        Self { at: Some(at), message }
    }

    fn of_all(message: String) -> Self {
        Self { at: None, message }
    }
}

/// What has to be added to a container so that creance starts its command.
#[derive(Debug)]
struct Words {
    /// For the entry point, at its front.
    entrypoint: Vec<String>,
    /// For the command, which is not there.
    command: Option<Vec<String>>,
}

/// How the entry point and the command are called.
#[derive(Debug, Clone, Copy)]
struct Keys {
    entrypoint: &'static str,
    command: &'static str,
}

/// Finds what to add. An entry point that a task or pod names replaces that of the image, and drops the image's command: so
/// what is not in the file has to be given.
fn words(container: Value<'_>, keys: Keys, request: &Request) -> Result<Words, Refusal> {
    let list = |key: &str| match container.get(key) {
        None => Ok(None),
        Some(value) => match value.words() {
            Some(words) if !value.has_properties() => Ok(Some(words).filter(|words| !words.is_empty())),
            _ => Err(Refusal::at(value.start(), format!("{key} is no list of words: write it as one"))),
        },
    };
    let (entrypoint, command) = (list(keys.entrypoint)?, list(keys.command)?);
    let name = container.word("name");
    let mut added = Words { entrypoint: request.pattern.launcher(), command: None };
    let doubled = |flag: &str, key: &str| {
        Err(Refusal::at(
            container.start(),
            format!("the container {name} has its own {key}: leave out --{flag}"),
        ))
    };
    match (&entrypoint, &request.entrypoint) {
        (Some(_), Some(_)) => return doubled("entrypoint", keys.entrypoint),
        (Some(_), None) => {}
        (None, Some(words)) => added.entrypoint.extend(words.iter().cloned()),
        (None, None) => return Err(unknown_entrypoint(container, keys, command.is_some())),
    }
    match (&command, &request.command) {
        (Some(_), Some(_)) => return doubled("command", keys.command),
        // An entry point in the file has dropped the image's command already.
        (Some(_), None) => {}
        (None, Some(words)) => added.command = Some(words.clone()).filter(|words| !words.is_empty()),
        (None, None) if entrypoint.is_none() => return Err(unknown_entrypoint(container, keys, false)),
        (None, None) => {}
    }
    let has_program = entrypoint.is_some() || command.is_some() || added.command.is_some();
    if !has_program && request.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        return Err(Refusal::at(
            container.start(),
            format!("the container {name} has nothing to run: give its command"),
        ));
    }
    Ok(added)
}

fn unknown_entrypoint(container: Value<'_>, keys: Keys, has_command: bool) -> Refusal {
    let flags = if has_command { "--entrypoint '...'" } else { "--entrypoint '...' --command '...'" };
    Refusal::at(
        container.start(),
        format!(
            "the container {} has no {} of its own, and the one of its image, with the image's command, is replaced by \
             creance's: give {flags} as `docker image inspect --format '{{{{json .Config.Entrypoint}}}} {{{{json \
             .Config.Cmd}}}}' {}` tells them ('' where there is none)",
            container.word("name"),
            keys.entrypoint,
            container.word("image"),
        ),
    )
}

/// The container that is meant.
fn chosen<'a>(containers: Value<'a>, name: Option<&str>, own: &[&str]) -> Result<Value<'a>, Refusal> {
    let names = || {
        let names: Vec<_> = containers.items().map(|item| item.word("name")).collect();
        names.join(", ")
    };
    if let Some(name) = name {
        return containers.named(name).ok_or_else(|| {
            Refusal::at(containers.start(), format!("there is no container {name}, but {}", names()))
        });
    }
    let mut others = containers.items().filter(|item| !own.contains(&item.word("name")));
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Refusal::at(
            containers.start(),
            format!("which container is the workload's? Give --container, one of {}", names()),
        )),
    }
}

/// # Errors
/// A key that stands in a mapping twice, so that nobody knows which one counts.
fn is_unambiguous(mapping: Value<'_>) -> Result<(), Refusal> {
    match mapping.repeated() {
        Some(key) => Err(Refusal::at(
            key.start(),
            format!("{} stands here a second time: remove one", key.text().unwrap_or("this")),
        )),
        None => Ok(()),
    }
}

/// The refusal of a file that has another pattern in it.
fn other_pattern(is: Pattern, asked: Pattern) -> Refusal {
    Refusal::of_all(format!(
        "it has {} in it already: patch the file as it was before, or ask for --pattern {} instead of {}",
        is.name(),
        is.name(),
        asked.name()
    ))
}

/// The refusal of a second container where only one can be watched.
fn one_only(pattern: Pattern) -> Refusal {
    Refusal::of_all(format!(
        "another container has {} already, which is for one only: mountedbinaries or sidecarvolume are for several",
        pattern.name()
    ))
}

/// What is said where the file does not tell as which user the workload runs.
fn unknown_user(key: &str) -> String {
    format!(
        "the file does not tell the workload's user: if its image has another than root, give both the workload's \
         container and Falco's that user ({key}), since the link can be opened by the user who offers it"
    )
}

const MEMORY: &str =
    "Falco and its rules take some 100 to 200 MB: see that what the task or pod has is enough";
