//! The metadata endpoint that Amazon ECS offers each container: one GET over plain HTTP, bounded in time and bytes.
//!
//! Versions 3 and 4 of the endpoint answer alike in what is read here. The agent behind it is trusted with who the
//! container is, not with well-formed answers.

use std::{io::Read, panic};

use serde::Deserialize;

use super::{ContainerIdentity, IdentityError, parse_id, parse_image, parse_name};
use crate::limits::ECS_METADATA_BYTES_MAX;

/// Why the endpoint told nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum EcsError {
    /// There was no answer, or not in time, or none in HTTP.
    #[error("asking ECS metadata at {url}")]
    Request { url: String, source: minreq::Error },
    /// The answer broke off or did not end in time.
    #[error("reading what ECS metadata at {url} answers")]
    Body { url: String, source: std::io::Error },
    /// The HTTP client gave up on the answer in its own way.
    #[error("ECS metadata at {url} answers in malformed HTTP")]
    Client { url: String },
    /// The endpoint refused.
    #[error("ECS metadata at {url} answers with status {status}")]
    Status { url: String, status: u16 },
    /// The answer is longer than any metadata.
    #[error("ECS metadata at {url} answers more than {ECS_METADATA_BYTES_MAX} bytes")]
    TooLong { url: String },
    /// The answer is no metadata.
    #[error("ECS metadata at {url} answers what is not the metadata of a container")]
    Json { url: String, source: serde_json::Error },
}

/// What is read of an answer.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    docker_id: String,
    docker_name: Option<String>,
    name: Option<String>,
    image: Option<String>,
}

impl Answer {
    /// The fields that are fit to use, and what is wrong with the others.
    pub(super) fn identity(&self) -> (ContainerIdentity, Vec<IdentityError>) {
        let mut refused = Vec::new();
        let mut check = |text: Option<&str>, parse: fn(&str) -> Result<String, IdentityError>| {
            text.and_then(|text| parse(text).map_err(|error| refused.push(error)).ok())
        };
        let is_told = |text: &&str| !text.is_empty();
        // On Fargate both names are that of the task definition. On EC2 the first is that of the runtime, which Falco
        // would show as well.
        let names = [&self.docker_name, &self.name];
        let identity = ContainerIdentity {
            id: check(Some(&self.docker_id), parse_id),
            name: check(names.into_iter().flatten().map(String::as_str).find(is_told), parse_name),
            image: check(self.image.as_deref().filter(is_told), parse_image),
        };
        (identity, refused)
    }
}

/// Asks the endpoint, which may take so many seconds.
pub(super) fn ask(url: &str, seconds_max: u64) -> Result<Answer, EcsError> {
    // minreq 3.0.0 subtracts the length of a header line from what is left of its bound, and counts two bytes for the
    // end of a line that may have one: with overflow checks it panics, without them it goes on.
    let body = panic::catch_unwind(|| fetch(url, seconds_max))
        .unwrap_or_else(|_| Err(EcsError::Client { url: url.to_owned() }))?;
    serde_json::from_slice(&body).map_err(|source| EcsError::Json { url: url.to_owned(), source })
}

fn fetch(url: &str, seconds_max: u64) -> Result<Vec<u8>, EcsError> {
    let own = || url.to_owned();
    // The time is for all of it, the reading of the body included.
    let response = minreq::get(url)
        .with_timeout(seconds_max)
        .with_follow_redirects(false)
        .send_lazy()
        .map_err(|source| EcsError::Request { url: own(), source })?;
    if response.status_code != 200 {
        return Err(EcsError::Status { url: own(), status: response.status_code });
    }
    let mut body = Vec::new();
    let read = response
        .take(ECS_METADATA_BYTES_MAX + 1)
        .read_to_end(&mut body)
        .map_err(|source| EcsError::Body { url: own(), source })?;
    if u64::try_from(read).is_ok_and(|read| read <= ECS_METADATA_BYTES_MAX) {
        Ok(body)
    } else {
        Err(EcsError::TooLong { url: own() })
    }
}
