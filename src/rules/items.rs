//! What a single value of an entry may be: kinds, priorities, versions. What Falco would refuse is refused here, even
//! where the value decides nothing for us.

use super::{
    source::{Diagnostic, Severity, Span},
    yaml::Value,
};

/// The engine version that these rules are read as: Falco 0.44's.
const ENGINE_VERSION: [u32; 3] = [0, 62, 0];

const PRIORITIES: &[&str] =
    &["emergency", "alert", "critical", "error", "warning", "notice", "informational", "info", "debug"];

/// An error.
pub(super) fn error(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic { severity: Severity::Error, message: message.into(), span, help: None }
}

/// A warning.
pub(super) fn warning(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, message: message.into(), span, help: None }
}

pub(super) fn with_help(diagnostic: Diagnostic, help: impl Into<String>) -> Diagnostic {
    Diagnostic { help: Some(help.into()), ..diagnostic }
}

/// An entry of a rule file.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// The whole of it.
    pub(super) value: Value<'a>,
    /// Where its name stands.
    pub(super) span: Span,
    /// Its name.
    pub(super) name: &'a str,
}

impl<'a> Item<'a> {
    /// The entry whose name is the value of `key`.
    pub(super) fn new(value: Value<'a>, key: &str) -> Result<Self, Diagnostic> {
        let unnamed = Self { value, span: value.start(), name: "" };
        let name = unnamed.required(key)?;
        Ok(Self { value, span: name.span(), name: name.text().unwrap_or_default() })
    }

    /// The value of a key, which must be a text that is not empty.
    pub(super) fn required(&self, key: &str) -> Result<Value<'a>, Diagnostic> {
        self.optional(key)?.ok_or_else(|| error(format!("this entry has no `{key}`"), self.span))
    }

    /// The same of a key that need not be there.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Value<'a>>, Diagnostic> {
        let Some(value) = self.value.get(key) else { return Ok(None) };
        match value.text() {
            Some("") => Err(error(format!("`{key}` must not be empty"), value.span())),
            Some(_) => Ok(Some(value)),
            None if value.is_null() => Err(error(format!("`{key}` is empty"), self.span)),
            None => Err(error(format!("`{key}` must be one value"), value.start())),
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, Diagnostic> {
        let Some(value) = self.optional(key)? else { return Ok(None) };
        let message =
            || with_help(error(format!("`{key}` must be true or false"), value.span()), "`true` or `false`");
        boolean(value.text().unwrap_or_default()).ok_or_else(message).map(Some)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }
}

/// What yaml-cpp takes for a boolean: lower case, capitals, or the first letter a capital.
fn boolean(text: &str) -> Option<bool> {
    let rest = text.get(1..)?;
    let is_upper = text.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_upper && !rest.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn priority(value: Value<'_>) -> Result<(), Diagnostic> {
    let name = value.text().unwrap_or_default();
    if PRIORITIES.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(with_help(
        error(format!("{name:?} is no priority"), value.span()),
        format!("one of {}", PRIORITIES.join(", ")),
    ))
}

/// Checks the keys that decide nothing here, but that Falco would refuse.
pub(super) fn check_flags(item: Item<'_>) -> Result<(), Diagnostic> {
    for key in ["capture", "warn_evttypes", "skip-if-unknown-filter"] {
        item.boolean(key)?;
    }
    if let Some(value) = item.optional("capture_duration")? {
        number(value.text().unwrap_or_default())
            .ok_or_else(|| error("`capture_duration` must be a number", value.span()))?;
    }
    let Some(tags) = item.value.get("tags") else { return Ok(()) };
    let tags = tags.items().ok_or_else(|| error("`tags` must be a list", tags.start()))?;
    for tag in tags {
        tag.text().ok_or_else(|| error("a tag must be one value", tag.start()))?;
    }
    Ok(())
}

/// A number as yaml-cpp reads it: decimal, or hexadecimal or octal with their prefixes.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

pub(super) fn engine_version(value: Value<'_>) -> Result<(), Diagnostic> {
    let item = Item { value, span: value.start(), name: "" };
    let version = item.required("required_engine_version")?;
    let text = version.text().unwrap_or_default();
    let parts: Vec<Option<u32>> = text.splitn(3, '.').map(leading_number).collect();
    let wanted = match (number(text), parts.as_slice()) {
        (Some(minor), _) => [0, minor, 0],
        (None, &[Some(major), Some(minor), Some(patch)]) => [major, minor, patch],
        _ => {
            let message = format!("{text:?} is no version");
            return Err(with_help(error(message, version.span()), "a number, or three of them: `0.57.0`"));
        }
    };
    let [major, minor, patch] = ENGINE_VERSION;
    if wanted.first() != Some(&major) || wanted > ENGINE_VERSION {
        let message =
            format!("these rules want engine version {text}, and Falco 0.44 has {major}.{minor}.{patch}");
        return Err(error(message, version.span()));
    }
    Ok(())
}

/// The number that a text starts with.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

pub(super) fn plugin_versions(plugins: Value<'_>) -> Result<(), Diagnostic> {
    let list = |value: Value<'_>| error("required plugins must be a list", value.start());
    for plugin in plugins.items().ok_or_else(|| list(plugins))? {
        plugin_version(plugin)?;
        if let Some(alternatives) = plugin.get("alternatives") {
            for alternative in alternatives.items().ok_or_else(|| list(alternatives))? {
                plugin_version(alternative)?;
            }
        }
    }
    Ok(())
}

fn plugin_version(plugin: Value<'_>) -> Result<(), Diagnostic> {
    let item = Item::new(plugin, "name")?;
    let version = item.required("version")?;
    let parts = version.text().unwrap_or_default().splitn(3, '.').filter_map(leading_number).count();
    if parts < 3 {
        return Err(error("this is no version of a plugin", version.span()));
    }
    Ok(())
}
