//! Which container the workload runs in: its id, its name and its image.
//!
//! Falco's rules ask `container.id != host`, and its container plugin reads the id from the `cgroups` of a process.
//! In a private cgroup namespace that path is `/`, and on ECS Fargate it has a form which the plugin takes for the
//! host; then no rule on containers can match. So the identity is found here once, when creance starts, and told to
//! Falco in a form that it knows.
//!
//! Nothing here fails: what cannot be found is absent, and a source that should have known tells why in a warning.
//! Read `docs/container.md` before you change an order or a form: users write rules on what Falco shows.

mod announce;
mod cgroups;
mod ecs;
mod mounts;

use std::{
    env,
    error::Error,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};

pub use announce::{announcement_of, cgroups_of};

use crate::limits;

/// Digits of a full container id.
const ID_DIGITS: usize = 64;

/// Digits of a container id that Falco shows.
const SHORT_ID_DIGITS: usize = 12;

/// Digits of the id of an ECS task.
const TASK_DIGITS: usize = 32;

/// Who a container is. What is not known is absent.
///
/// It is checked wherever it comes from, a peer's bytes included: deserialising refuses what [`parse_id`],
/// [`parse_name`] and [`parse_image`] refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ContainerIdentity {
    /// 64 lower-case hexadecimal digits, of which Falco shows the first 12.
    pub id: Option<String>,
    /// What its runtime or orchestrator calls it.
    pub name: Option<String>,
    /// The image that it was started from, as `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
    pub image: Option<String>,
}

/// [`ContainerIdentity`] as a peer sent it.
#[derive(Deserialize)]
struct Unchecked {
    id: Option<String>,
    name: Option<String>,
    image: Option<String>,
}

impl TryFrom<Unchecked> for ContainerIdentity {
    type Error = IdentityError;

    fn try_from(unchecked: Unchecked) -> Result<Self, IdentityError> {
        Ok(Self {
            id: unchecked.id.as_deref().map(parse_id).transpose()?,
            name: unchecked.name.as_deref().map(parse_name).transpose()?,
            image: unchecked.image.as_deref().map(parse_image).transpose()?,
        })
    }
}

/// What is wrong with a value that names a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an id in any form.
    #[error(
        "{given:?} is not a container id: that is {ID_DIGITS} hexadecimal digits, or the first {SHORT_ID_DIGITS} \
         or more of them, or an ECS runtime id ({TASK_DIGITS} hexadecimal digits, `-`, and 1 to \
         {SHORT_ID_DIGITS} decimal digits)"
    )]
    Id {
        /// How the value begins.
        given: String,
    },
    /// Not fit to be a name or an image.
    #[error("{given:?} is not {what}: that is 1 to {bytes_max} printable ASCII characters without spaces")]
    Text {
        /// What it should have been.
        what: &'static str,
        /// How the value begins.
        given: String,
        /// How many characters are taken.
        bytes_max: usize,
    },
}

/// Reads a container id and brings it to 64 lower-case hexadecimal digits.
///
/// It takes all 64 digits, or 12 and more of them, which get zeros behind them: Falco shows the same 12. An ECS runtime
/// id `TASK-NUMBER` becomes its number, filled to 12 digits with `e`, then its task, then zeros. The map can be undone,
/// as a number has no `e`; and since the containers of a task differ in their numbers, they differ in what Falco shows.
///
/// # Errors
/// Anything else is refused.
pub fn parse_id(text: &str) -> Result<String, IdentityError> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (SHORT_ID_DIGITS..=ID_DIGITS).contains(&text.len()) {
        return Ok(format!("{:0<ID_DIGITS$}", text.to_ascii_lowercase()));
    }
    ecs_id(text).ok_or_else(|| IdentityError::Id { given: beginning(text) })
}

/// Checks the name of a container.
///
/// # Errors
/// It has to be 1 to [`limits::CONTAINER_NAME_BYTES_MAX`] printable ASCII characters without spaces.
pub fn parse_name(text: &str) -> Result<String, IdentityError> {
    checked(text, "a container name", limits::CONTAINER_NAME_BYTES_MAX)
}

/// Checks the name of an image.
///
/// # Errors
/// It has to be 1 to [`limits::CONTAINER_IMAGE_BYTES_MAX`] printable ASCII characters without spaces.
pub fn parse_image(text: &str) -> Result<String, IdentityError> {
    checked(text, "the name of a container image", limits::CONTAINER_IMAGE_BYTES_MAX)
}

fn checked(text: &str, what: &'static str, bytes_max: usize) -> Result<String, IdentityError> {
    if (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(IdentityError::Text { what, given: beginning(text), bytes_max })
}

/// As much of a refused value as an error shows.
fn beginning(text: &str) -> String {
    text.chars().take(limits::CONTAINER_ERROR_CHARS_MAX).collect()
}

/// A full id, in any case of letters.
fn full_id(text: &str) -> Option<String> {
    let is_full = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_full.then(|| text.to_ascii_lowercase())
}

/// The id that stands for an ECS runtime id.
fn ecs_id(text: &str) -> Option<String> {
    let (task, number) = text.split_once('-')?;
    let is_task = task.len() == TASK_DIGITS && task.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number =
        (1..=SHORT_ID_DIGITS).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_task && is_number).then(|| {
        let task = task.to_ascii_lowercase();
        format!("{:0<ID_DIGITS$}", format!("{number:e<SHORT_ID_DIGITS$}{task}"))
    })
}

/// Where the id of a container was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The user gave it.
    Given,
    /// The metadata endpoint of Amazon ECS.
    EcsMetadata,
    /// A path in `/proc/self/cgroup`.
    Cgroup,
    /// A file that the container's runtime mounted over one under `/etc`.
    Mounts,
    /// As `Mounts`, but what is named is the sandbox of a Kubernetes pod, which all its containers share.
    PodMounts,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "as given",
            Self::EcsMetadata => "from ECS metadata",
            Self::Cgroup => "from /proc/self/cgroup",
            Self::Mounts => "from /proc/self/mountinfo",
            Self::PodMounts => "its pod's sandbox, from /proc/self/mountinfo",
        })
    }
}

/// What [`find`] found. It displays as `container 0123456789ab (from /proc/self/cgroup)`, or as `no container`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Who the container is.
    pub identity: ContainerIdentity,
    /// Where its id comes from, if there is one. Name and image may come from elsewhere.
    pub id_source: Option<Source>,
    /// Why a source that should have known something did not tell it, a sentence each.
    pub warnings: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((id, source)) = self.identity.id.as_ref().zip(self.id_source) else {
            return f.write_str("no container");
        };
        write!(f, "container {} ({source})", short_id(id))
    }
}

/// The part of an id that Falco shows.
fn short_id(id: &str) -> &str {
    id.get(..SHORT_ID_DIGITS).unwrap_or(id)
}

/// Finds out in which container this process runs. What the user gave stands; for the rest, in this order, the first
/// source that knows a field counts: the ECS metadata endpoint, `/proc/self/cgroup`, `/proc/self/mountinfo`.
///
/// It takes at most about [`limits::ECS_METADATA_SECONDS_MAX`], and that only where an endpoint is set that does not
/// answer.
#[must_use]
pub fn find(given: &ContainerIdentity) -> Found {
    let metadata_url = ["ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|url| url.to_string_lossy().into_owned())
        .find(|url| !url.is_empty());
    let around = Surroundings {
        metadata_url,
        cgroup: Path::new("/proc/self/cgroup"),
        mountinfo: Path::new("/proc/self/mountinfo"),
    };
    around.find(given)
}

/// Where [`find`] looks.
struct Surroundings<'a> {
    metadata_url: Option<String>,
    cgroup: &'a Path,
    mountinfo: &'a Path,
}

impl Surroundings<'_> {
    fn find(&self, given: &ContainerIdentity) -> Found {
        let mut found = Found::default();
        found.add(Source::Given, given.clone());
        if let Some(url) = self.metadata_url.as_ref().filter(|_| !found.is_complete()) {
            match ecs::ask(url, limits::ECS_METADATA_SECONDS_MAX) {
                Ok(answer) => {
                    let (identity, refused) = answer.identity();
                    found.add(Source::EcsMetadata, identity);
                    found.warnings.extend(refused.iter().map(|error| format!("ECS metadata: {error}")));
                }
                Err(error) => found.warn(&error),
            }
        }
        if found.identity.id.is_none() {
            let text = found.read(self.cgroup);
            found.add(Source::Cgroup, ContainerIdentity { id: cgroups::id_in(&text), ..Default::default() });
        }
        if found.identity.id.is_none() || found.identity.name.is_none() {
            let mounts = mounts::read(&found.read(self.mountinfo));
            let source = if mounts.is_in_pod { Source::PodMounts } else { Source::Mounts };
            found.add(source, ContainerIdentity { id: mounts.id, name: mounts.name, image: None });
        }
        found
    }
}

impl Found {
    fn is_complete(&self) -> bool {
        let ContainerIdentity { id, name, image } = &self.identity;
        id.is_some() && name.is_some() && image.is_some()
    }

    /// Takes what is not yet known.
    fn add(&mut self, source: Source, new: ContainerIdentity) {
        if self.identity.id.is_none() && new.id.is_some() {
            self.identity.id = new.id;
            self.id_source = Some(source);
        }
        self.identity.name = self.identity.name.take().or(new.name);
        self.identity.image = self.identity.image.take().or(new.image);
    }

    /// Reads a text under `/proc`; one that cannot be read says nothing, and a warning tells so.
    fn read(&mut self, path: &Path) -> Vec<u8> {
        read_text(path).unwrap_or_else(|error| {
            self.warnings.push(format!("reading {}: {error}", path.display()));
            Vec::new()
        })
    }

    fn warn(&mut self, error: &dyn Error) {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        self.warnings.push(format!("{error}{cause}"));
    }
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(limits::CONTAINER_TEXT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
