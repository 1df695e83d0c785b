//! Entries of rule files, and what they make of those before them: what Falco's reader and collector do.
//!
//! An entry is taken whole or not at all, and one that is wrong does not keep the next from being read. Which keys may
//! be appended or replaced, and what counts of two entries with one name, is Falco's; read its `rule_loader_reader.cpp`
//! and `rule_loader_collector.cpp` before you edit. Nothing is looked up in conditions here.

use std::collections::{HashMap, HashSet};

use super::{
    exceptions::{Budget, Entry, Exception, changed, complete},
    items::{Item, check_flags, engine_version, error, plugin_versions, priority, warning, with_help},
    lists::last_place,
    source::{Diagnostic, Located, Span},
    yaml::Value,
};

/// Things with names, in the order of their first definitions.
#[derive(Debug)]
pub(super) struct Named<T> {
    all: Vec<T>,
    by_name: HashMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_name: HashMap::new() }
    }
}

impl<T> Named<T> {
    /// All of them.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = &T> {
        self.all.iter()
    }

    /// The one of this name.
    pub(super) fn find(&self, name: &str) -> Option<&T> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// At which place in [`Named::all`] the one of this name stands.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn find_mut(&mut self, name: &str) -> Option<&mut T> {
        self.all.get_mut(*self.by_name.get(name)?)
    }

    fn define(&mut self, name: &str, one: T) {
        match self.find_mut(name) {
            Some(before) => *before = one,
            None => {
                self.by_name.insert(name.to_owned(), self.all.len());
                self.all.push(one);
            }
        }
    }
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    /// Its name.
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Span,
    /// What is in it: values, and names of other lists.
    pub(super) items: Vec<Located>,
    /// The number of the entry that first defined it.
    pub(super) index: usize,
    /// The number of the entry that last changed it. It sees what was defined before.
    pub(super) visibility: usize,
}

/// A macro.
#[derive(Debug)]
pub(super) struct Macro {
    /// Its name.
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Span,
    /// What it stands for.
    pub(super) condition: Located,
    /// As of a list.
    pub(super) index: usize,
    /// As of a list.
    pub(super) visibility: usize,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its name.
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Span,
    /// The condition, without its exceptions.
    pub(super) condition: Located,
    /// The event source.
    pub(super) source: String,
    /// The output line.
    pub(super) output: String,
    /// Where the output line stands.
    pub(super) output_span: Span,
    /// The exceptions.
    pub(super) exceptions: Vec<Exception>,
    /// Whether it is evaluated.
    pub(super) is_enabled: bool,
    /// The number of the entry that last changed it.
    pub(super) visibility: usize,
}

/// All that was read so far.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The lists.
    pub(super) lists: Named<List>,
    /// The macros.
    pub(super) macros: Named<Macro>,
    /// The rules.
    pub(super) rules: Named<Rule>,
    /// Names of macros whose entries are wrong.
    pub(super) broken_macros: HashSet<String>,
    /// How many entries there were.
    pub(super) count: usize,
}

/// What one entry does to the condition, say, of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Append,
    Replace,
}

/// The keys under `override`, and what they say.
type Overrides = Vec<(String, Change)>;

/// Reads the entries of one file.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    /// What was read before, and what is added.
    pub(super) entries: &'r mut Entries,
    /// What is wrong.
    pub(super) diagnostics: &'r mut Vec<Diagnostic>,
    /// How much may still be read from this file.
    pub(super) budget: Budget,
}

const LIST_KEYS: &[&str] = &["list", "items", "append", "override"];
const MACRO_KEYS: &[&str] = &["macro", "condition", "append", "override"];
const RULE_KEYS: &[&str] = &[
    "rule",
    "condition",
    "output",
    "desc",
    "priority",
    "source",
    "enabled",
    "capture",
    "capture_duration",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "tags",
    "exceptions",
    "override",
    "append",
];
const RULE_APPENDABLE: &[&str] = &["condition", "output", "desc", "tags", "exceptions"];
const RULE_REPLACEABLE: &[&str] = &[
    "condition",
    "output",
    "desc",
    "priority",
    "capture",
    "capture_duration",
    "tags",
    "exceptions",
    "enabled",
    "warn_evttypes",
    "skip-if-unknown-filter",
];
impl Reader<'_> {
    /// Takes the entries of a document.
    pub(super) fn document(&mut self, document: Value<'_>) {
        if document.is_null() {
            return;
        }
        let Some(items) = document.items() else {
            let message = "a rule file is a list of entries";
            let help = "each entry starts with `- rule:`, `- macro:` or `- list:`";
            self.diagnostics.push(with_help(error(message, document.start()), help));
            return;
        };
        for item in items.filter(|item| !item.is_null()) {
            if let Err(diagnostic) = self.entry(item) {
                self.diagnostics.push(diagnostic);
                let name = item.get("macro").and_then(Value::text);
                self.entries.broken_macros.extend(name.map(str::to_owned));
            }
            self.entries.count += 1;
        }
    }

    fn entry(&mut self, value: Value<'_>) -> Result<(), Diagnostic> {
        if value.entries().is_none() {
            return Err(with_help(
                error("this is no entry", value.start()),
                "an entry starts with `rule:`, `macro:` or `list:`",
            ));
        }
        let expected = if value.get("required_engine_version").is_some() {
            engine_version(value)?;
            &["required_engine_version"]
        } else if let Some(plugins) = value.get("required_plugin_versions") {
            plugin_versions(plugins)?;
            &["required_plugin_versions"]
        } else if value.get("list").is_some() {
            self.list(Item::new(value, "list")?)?;
            LIST_KEYS
        } else if value.get("macro").is_some() {
            self.a_macro(Item::new(value, "macro")?)?;
            MACRO_KEYS
        } else if value.get("rule").is_some() {
            self.rule(Item::new(value, "rule")?)?;
            RULE_KEYS
        } else {
            let warned = warning("an entry of an unknown kind, which is ignored", value.start());
            self.diagnostics.push(with_help(warned, "an entry has the key `rule`, `macro` or `list`"));
            return Ok(());
        };
        self.warn_of_keys(value, expected);
        Ok(())
    }

    fn warn_of_keys(&mut self, value: Value<'_>, expected: &[&str]) {
        let mut seen: Vec<&str> = Vec::new();
        for (key, _) in value.entries().into_iter().flatten() {
            let name = key.text().unwrap_or_default();
            if !expected.contains(&name) {
                let nearest =
                    expected.iter().filter(|known| strsim::damerau_levenshtein(known, name) <= 2).min();
                let help = nearest.map(|known| format!("did you mean `{known}`?"));
                let message = format!("the key {name:?} is not known here and is ignored");
                self.diagnostics.push(Diagnostic { help, ..warning(message, key.span()) });
            } else if seen.contains(&name) {
                let message = format!("the key {name:?} stands here twice: the first one counts");
                self.diagnostics.push(warning(message, key.span()));
            } else {
                seen.push(name);
            }
        }
    }

    fn list(&mut self, item: Item<'_>) -> Result<(), Diagnostic> {
        if item.name.contains(|c: char| "()\"'=,".contains(c) || c.is_ascii_whitespace()) {
            let message = format!("{:?} is no name that a list should have", item.name);
            self.diagnostics.push(with_help(
                warning(message, item.span),
                "a name without blanks, quotes, brackets, `=` and `,`",
            ));
        }
        let values = item.value.get("items").ok_or_else(|| error("this list has no `items`", item.span))?;
        let items = self.texts(values, "items")?;
        let is_appended = self.is_appended(item, &["items"], "items")?;
        let number = self.entries.count;
        match self.entries.lists.find_mut(item.name) {
            Some(list) if is_appended => {
                list.items.extend(items);
                list.visibility = number;
            }
            None if is_appended => return Err(nothing_before("list", item)),
            before => {
                let index = before.map_or(number, |before| before.index);
                let (name, span) = (item.name.to_owned(), item.span);
                self.entries.lists.define(item.name, List { name, span, items, index, visibility: number });
            }
        }
        Ok(())
    }

    fn a_macro(&mut self, item: Item<'_>) -> Result<(), Diagnostic> {
        let mut letters = item.name.bytes();
        if !letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let message = format!("{:?} is no name that a macro should have", item.name);
            self.diagnostics
                .push(with_help(warning(message, item.span), "a letter, and then letters, digits and `_`"));
        }
        let condition = self.text(item.required("condition")?)?;
        let is_appended = self.is_appended(item, &["condition"], "condition")?;
        let number = self.entries.count;
        match self.entries.macros.find_mut(item.name) {
            Some(before) if is_appended => {
                append_text(&mut before.condition, &condition);
                before.visibility = number;
            }
            None if is_appended => return Err(nothing_before("macro", item)),
            before => {
                let index = before.map_or(number, |before| before.index);
                let (name, span) = (item.name.to_owned(), item.span);
                self.entries
                    .macros
                    .define(item.name, Macro { name, span, condition, index, visibility: number });
            }
        }
        Ok(())
    }

    fn rule(&mut self, item: Item<'_>) -> Result<(), Diagnostic> {
        let source = match item.value.get("source") {
            Some(source) if source.is_null() || source.text() == Some("") => None,
            _ => item.optional("source")?,
        };
        let is_appended = self.append_flag(item)?;
        let overrides = self.overrides(item, RULE_APPENDABLE, RULE_REPLACEABLE)?;
        if is_appended && !overrides.is_empty() {
            return Err(append_and_override(item));
        }
        if is_appended {
            let keys = ["condition", "exceptions"].into_iter().filter(|key| item.has(key));
            let changes: Overrides = keys.map(|key| (key.to_owned(), Change::Append)).collect();
            self.change_rule(item, &changes, source.and_then(Value::text))
        } else if !overrides.is_empty() {
            for key in RULE_KEYS.iter().filter(|key| RULE_REPLACEABLE.contains(key)) {
                let is_overridden = overrides.iter().any(|(overridden, _)| overridden == key);
                match item.value.get(key) {
                    Some(value) if !is_overridden => {
                        let message =
                            format!("`{key}` stands here, but `override` does not say what to do with it");
                        return Err(with_help(
                            error(message, value.start()),
                            format!("under `override`: `{key}: replace`"),
                        ));
                    }
                    None if is_overridden => {
                        let message = format!("`override` names `{key}`, but it does not stand here");
                        return Err(error(message, item.span));
                    }
                    _ => {}
                }
            }
            self.change_rule(item, &overrides, source.and_then(Value::text))
        } else if ["condition", "output", "desc", "priority"].into_iter().all(|key| !item.has(key)) {
            self.enable_rule(item)
        } else {
            self.define_rule(item)
        }
    }

    /// An entry with nothing but `enabled`.
    fn enable_rule(&mut self, item: Item<'_>) -> Result<(), Diagnostic> {
        let Some(is_enabled) = item.boolean("enabled")? else {
            let message = format!("the rule {:?} has neither a condition nor `enabled`", item.name);
            return Err(error(message, item.span));
        };
        let message = "an entry with nothing but `enabled` is an old way to say it";
        let help = format!("add under `override`: `enabled: replace` (and keep `enabled: {is_enabled}`)");
        self.diagnostics.push(with_help(warning(message, item.span), help));
        let rule = self.entries.rules.find_mut(item.name).ok_or_else(|| nothing_before("rule", item))?;
        rule.is_enabled = is_enabled;
        Ok(())
    }

    fn define_rule(&mut self, item: Item<'_>) -> Result<(), Diagnostic> {
        let condition = self.text(item.required("condition")?)?;
        let output = item.required("output")?;
        item.required("desc")?;
        priority(item.required("priority")?)?;
        let source = item.optional("source")?.and_then(Value::text).unwrap_or(super::SYSCALL_SOURCE);
        let is_enabled = item.boolean("enabled")?.unwrap_or(true);
        check_flags(item)?;
        let mut exceptions = self.exceptions(item, false)?;
        exceptions.iter_mut().try_for_each(complete)?;
        if self.entries.rules.find(item.name).is_some_and(|before| before.source != source) {
            return Err(other_source(item));
        }
        let rule = Rule {
            name: item.name.to_owned(),
            span: item.span,
            condition,
            source: source.to_owned(),
            output: output.text().unwrap_or_default().trim().to_owned(),
            output_span: output.span(),
            exceptions,
            is_enabled,
            visibility: self.entries.count,
        };
        self.entries.rules.define(item.name, rule);
        Ok(())
    }

    /// Appends to a rule, or replaces parts of it.
    fn change_rule(
        &mut self,
        item: Item<'_>,
        changes: &Overrides,
        source: Option<&str>,
    ) -> Result<(), Diagnostic> {
        let change_of = |key| changes.iter().find(|(changed, _)| changed == key).map(|&(_, change)| change);
        let condition = match change_of("condition") {
            Some(change) => Some((change, self.text(item.required("condition")?)?)),
            None => None,
        };
        let exceptions = match change_of("exceptions") {
            Some(change) => Some((change, self.exceptions(item, change == Change::Append)?)),
            None => None,
        };
        let output = match change_of("output") {
            Some(change) => Some((change, item.required("output")?)),
            None => None,
        };
        for key in ["desc", "priority"].into_iter().filter(|key| change_of(key).is_some()) {
            item.required(key)?;
        }
        if change_of("priority").is_some() {
            priority(item.required("priority")?)?;
        }
        if change_of("enabled").is_some() {
            item.required("enabled")?;
        }
        let is_enabled = change_of("enabled").and(item.boolean("enabled")?);
        check_flags(item)?;
        let number = self.entries.count;
        let rule = self.entries.rules.find_mut(item.name).ok_or_else(|| nothing_before("rule", item))?;
        if source.is_some_and(|source| source != rule.source) {
            return Err(other_source(item));
        }
        if changes.is_empty() {
            return Err(error("this entry appends neither a condition nor exceptions", item.span));
        }
        if let Some((change, new)) = exceptions {
            rule.exceptions = changed(&rule.exceptions, change == Change::Append, new)?;
        }
        match condition {
            Some((Change::Append, condition)) => append_text(&mut rule.condition, &condition),
            Some((Change::Replace, condition)) => rule.condition = condition,
            None => {}
        }
        if let Some((change, output)) = output {
            let text = output.text().unwrap_or_default();
            rule.output = match change {
                Change::Append => format!("{} {text}", rule.output),
                Change::Replace => text.to_owned(),
            };
            rule.output_span = output.span();
        }
        rule.is_enabled = is_enabled.unwrap_or(rule.is_enabled);
        rule.visibility = number;
        Ok(())
    }

    /// Whether a list or macro is appended, by `append: true` or by `override`.
    fn is_appended(&mut self, item: Item<'_>, keys: &[&str], key: &str) -> Result<bool, Diagnostic> {
        let is_appended = self.append_flag(item)?;
        let overrides = self.overrides(item, keys, keys)?;
        if is_appended && !overrides.is_empty() {
            return Err(append_and_override(item));
        }
        Ok(is_appended || overrides.iter().any(|(name, change)| name == key && *change == Change::Append))
    }

    fn append_flag(&mut self, item: Item<'_>) -> Result<bool, Diagnostic> {
        let is_appended = item.boolean("append")?.unwrap_or(false);
        if is_appended {
            let place = item.value.get("append").map_or(item.span, Value::span);
            let help = "say `append` under `override` for each key, as `condition: append`";
            self.diagnostics.push(with_help(warning("`append` is an old way to say it", place), help));
        }
        Ok(is_appended)
    }

    fn overrides(
        &mut self,
        item: Item<'_>,
        appendable: &[&str],
        replaceable: &[&str],
    ) -> Result<Overrides, Diagnostic> {
        let Some(value) = item.value.get("override") else { return Ok(Vec::new()) };
        let Some(pairs) = value.entries() else {
            if value.items().is_some_and(|mut items| items.next().is_some()) {
                return Err(error("`override` must be a mapping", value.start()));
            }
            self.diagnostics.push(warning("`override` says nothing and is ignored", item.span));
            return Ok(Vec::new());
        };
        let mut overrides = Overrides::new();
        for (key, value) in pairs {
            let name = key.text().ok_or_else(|| error("a key of `override` must be a name", key.start()))?;
            let change = match value.text() {
                Some("append") if appendable.contains(&name) => Change::Append,
                Some("replace") if replaceable.contains(&name) => Change::Replace,
                Some(how @ ("append" | "replace")) => {
                    let keys = if how == "append" { appendable } else { replaceable };
                    let message = format!("`{name}` cannot be changed by `{how}`");
                    return Err(with_help(
                        error(message, key.span()),
                        format!("what can: {}", keys.join(", ")),
                    ));
                }
                _ => return Err(error("a key is overridden by `append` or `replace`", value.start())),
            };
            overrides.push((name.to_owned(), change));
        }
        Ok(overrides)
    }

    fn exceptions(&mut self, item: Item<'_>, is_appended: bool) -> Result<Vec<Exception>, Diagnostic> {
        let Some(value) = item.value.get("exceptions").filter(|value| !value.is_null()) else {
            return Ok(Vec::new());
        };
        let values = value.items().ok_or_else(|| error("`exceptions` must be a list", value.start()))?;
        let mut exceptions: Vec<Exception> = Vec::new();
        for value in values {
            let exception = self.exception(value, is_appended)?;
            if exceptions.iter().any(|before| before.name == exception.name) {
                let message = format!("the exception {:?} stands here twice", exception.name);
                self.diagnostics.push(warning(message, exception.span));
            }
            exceptions.push(exception);
        }
        Ok(exceptions)
    }

    fn exception(&mut self, value: Value<'_>, is_appended: bool) -> Result<Exception, Diagnostic> {
        if value.entries().is_none() {
            return Err(error("an exception must be a mapping", value.start()));
        }
        let item = Item::new(value, "name")?;
        let budget = &mut self.budget;
        let mut entry = |key, depth| match value.get(key) {
            Some(value) => Entry::read(value, depth, budget),
            None => Ok(Entry::Many(Vec::new())),
        };
        let (fields, comps) = (entry("fields", 2)?, entry("comps", 2)?);
        if !is_appended && value.get("fields").is_none() {
            return Err(error(format!("the exception {:?} has no `fields`", item.name), item.span));
        }
        let mut values = Vec::new();
        match value.get("values") {
            Some(all) => {
                let rows = all.items().ok_or_else(|| error("`values` must be a list", item.span))?;
                for row in rows {
                    values.push(Entry::read(row, 2, &mut self.budget)?);
                }
            }
            None if is_appended => {
                let message =
                    format!("nothing is appended to the exception {:?}: it has no `values`", item.name);
                self.diagnostics.push(warning(message, item.span));
            }
            None => {}
        }
        Ok(Exception { name: item.name.to_owned(), span: item.span, fields, comps, values })
    }

    fn text(&mut self, value: Value<'_>) -> Result<Located, Diagnostic> {
        self.budget.spend(value)?;
        Ok(value.located())
    }

    fn texts(&mut self, value: Value<'_>, key: &str) -> Result<Vec<Located>, Diagnostic> {
        let items = value.items().ok_or_else(|| error(format!("`{key}` must be a list"), value.start()))?;
        let mut texts = Vec::new();
        for item in items {
            if item.text().is_none() {
                return Err(error(format!("what stands in `{key}` must be single values"), item.start()));
            }
            texts.push(self.text(item)?);
        }
        Ok(texts)
    }
}

/// Appends a condition to another, with a blank between them.
fn append_text(to: &mut Located, more: &Located) {
    to.text.push(' ');
    to.text.push_str(&more.text);
    if to.places.is_empty() {
        to.places.push(last_place(more));
    }
    to.places.extend_from_slice(&more.places);
}

fn nothing_before(kind: &str, item: Item<'_>) -> Diagnostic {
    let message =
        format!("this changes the {kind} {:?}, but there is none of this name before it", item.name);
    with_help(error(message, item.span), "is it defined in another file? give that file first with -r")
}

fn other_source(item: Item<'_>) -> Diagnostic {
    error(format!("the rule {:?} has another `source` where it was defined before", item.name), item.span)
}

fn append_and_override(item: Item<'_>) -> Diagnostic {
    let message = "`append` and `override` cannot stand in one entry";
    with_help(error(message, item.span), "say `append` under `override` instead, as `condition: append`")
}
