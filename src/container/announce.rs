//! An identity in the forms that Falco's container plugin reads. They were read in its versions 0.4.1 to 0.7.1.

use serde_json::json;

use super::{ContainerIdentity, short_id};

/// The text of a `/proc/PID/cgroup` that stands for a process of this container.
///
/// The id has to be one of [`ContainerIdentity::id`]. Of the forms that the container plugin knows this is the
/// shortest: a last directory that is named by the 64 digits alone, as Docker has without systemd.
#[must_use]
pub fn cgroups_of(id: &str) -> Vec<u8> {
    format!("0::/docker/{id}\n").into_bytes()
}

/// The `data` of an event `asyncevent` with the name `container`, by which the container plugin learns the name and
/// image of a container that it cannot ask a runtime for. There is none without an id, and none that would tell but
/// the id.
///
/// The data ends with a NUL: the plugin reads up to there. It has the key `container`: without that the plugin's
/// behaviour is undefined.
#[must_use]
pub fn announcement_of(identity: &ContainerIdentity) -> Option<Vec<u8>> {
    let id = identity.id.as_deref()?;
    if identity.name.is_none() && identity.image.is_none() {
        return None;
    }
    let image = identity.image.as_deref().unwrap_or_default();
    let (repository, tag, digest) = split_image(image);
    // A key that is missing has its default there, but one that is null is an error.
    let container = json!({ "container": {
        "id": short_id(id),
        "full_id": id,
        "name": identity.name.as_deref().unwrap_or_default(),
        "image": image,
        "imagerepo": repository,
        "imagetag": tag,
        "imagedigest": digest,
    }});
    let mut data = container.to_string().into_bytes();
    data.push(0);
    Some(data)
}

/// `REPOSITORY[:TAG][@DIGEST]` in its three parts. A colon before the last slash is that of a registry's port.
fn split_image(image: &str) -> (&str, &str, &str) {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (rest, ""),
    };
    (repository, tag, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_split_as_a_registry_would() {
        for (image, parts) in [
            ("nginx", ("nginx", "", "")),
            ("nginx:1.27", ("nginx", "1.27", "")),
            ("localhost:5000/a/b", ("localhost:5000/a/b", "", "")),
            ("localhost:5000/a/b:c", ("localhost:5000/a/b", "c", "")),
            ("r.example/a:b@sha256:00", ("r.example/a", "b", "sha256:00")),
            ("r.example/a@sha256:00", ("r.example/a", "", "sha256:00")),
            ("", ("", "", "")),
            (":", ("", "", "")),
        ] {
            assert_eq!(split_image(image), parts, "{image}");
        }
    }

    #[test]
    fn an_announcement_is_json_and_a_nul() {
        let mut identity = ContainerIdentity { id: Some("ab".repeat(32)), ..Default::default() };
        assert_eq!(announcement_of(&identity), None);
        identity.image = Some("r.example:80/web:\"2\"".to_owned());
        let data = announcement_of(&identity).unwrap();
        let (nul, text) = data.split_last().unwrap();
        assert_eq!(*nul, 0);
        let value: serde_json::Value = serde_json::from_slice(text).unwrap();
        assert_eq!(value["container"]["id"], "abababababab");
        assert_eq!(value["container"]["full_id"], identity.id.as_deref().unwrap());
        assert_eq!(value["container"]["name"], "");
        assert_eq!(value["container"]["imagerepo"], "r.example:80/web");
        assert_eq!(value["container"]["imagetag"], "\"2\"");
        assert!(value["container"].as_object().unwrap().values().all(|value| !value.is_null()));
    }
}
