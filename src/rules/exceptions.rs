//! Exceptions of rules: what they may say, and the condition with them.
//!
//! An exception is folded into the text of the condition, before lists and macros, as Falco does it. So a value of an
//! exception may name a list, and a value that is no word of the language is an error, at its own place.

use super::{
    items::{error, with_help},
    lists::{Text, first_place, last_place, push_quoted},
    source::{Diagnostic, FileId, Located, Span},
    yaml::Value,
};

/// One exception of a rule.
#[derive(Debug, Clone)]
pub(super) struct Exception {
    /// Its name.
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Span,
    /// The fields: one, or a list of them.
    pub(super) fields: Entry,
    /// How they are compared: as many as there are fields.
    pub(super) comps: Entry,
    /// With what: of one field, values; of a list of fields, rows of values.
    pub(super) values: Vec<Entry>,
}

/// A text, or a list of entries.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// One text. It is empty where nothing stands.
    One(Located),
    /// Several.
    Many(Vec<Self>),
}

impl Entry {
    fn nothing(span: Span) -> Self {
        Self::One(Located { text: String::new(), places: vec![(span.file, span.start)] })
    }

    /// Reads an entry: texts, in lists at most `depth` deep.
    pub(super) fn read(value: Value<'_>, depth: usize, budget: &mut Budget) -> Result<Self, Diagnostic> {
        budget.spend(value)?;
        if let Some(text) = value.text() {
            return match text {
                "" => Err(error("this value must not be empty", value.span())),
                _ => Ok(Self::One(value.located())),
            };
        }
        match (value.items(), depth) {
            (Some(_), 0) => {
                Err(error("a list in a list in a list: no exception means anything by it", value.start()))
            }
            (Some(items), _) => items
                .map(|item| Self::read(item, depth - 1, budget))
                .collect::<Result<_, _>>()
                .map(Self::Many),
            (None, _) => Ok(Self::nothing(value.span())),
        }
    }

    /// Whether anything stands there.
    pub(super) fn is_given(&self) -> bool {
        match self {
            Self::One(text) => !text.text.is_empty(),
            Self::Many(items) => !items.is_empty(),
        }
    }

    fn one(&self) -> Option<&Located> {
        match self {
            Self::One(text) => Some(text),
            Self::Many(_) => None,
        }
    }
}

/// How much of a file may still be read into entries. An alias costs few bytes each time that it is used, but what it
/// stands for is read each time.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// Takes the size of one value.
    ///
    /// # Errors
    /// If there is no more.
    pub(super) fn spend(&mut self, value: Value<'_>) -> Result<(), Diagnostic> {
        let size = 1 + value.text().map_or(0, str::len);
        self.0 = self.0.checked_sub(size).ok_or_else(|| {
            error("the file holds too much, with everything that its aliases stand for", value.start())
        })?;
        Ok(())
    }
}

/// Operators that are given a list.
const LIST_OPERATORS: [&str; 3] = ["in", "intersects", "pmatch"];
/// Operators that may be given a list if `oneof`, `anyof` or `allof` stands behind them.
const TEXT_OPERATORS: [&str; 12] = [
    "=",
    "==",
    "!=",
    "contains",
    "icontains",
    "bcontains",
    "startswith",
    "bstartswith",
    "endswith",
    "glob",
    "iglob",
    "regex",
];
/// All others.
const OTHER_OPERATORS: [&str; 5] = ["exists", "<", "<=", ">", ">="];

fn is_operator(word: &str) -> bool {
    LIST_OPERATORS.contains(&word) || TEXT_OPERATORS.contains(&word) || OTHER_OPERATORS.contains(&word)
}

fn has_modifier(operator: &str) -> bool {
    let mut words = operator.split_ascii_whitespace();
    words.next().is_some_and(|word| TEXT_OPERATORS.contains(&word))
        && words.next().is_some_and(|word| matches!(word, "oneof" | "anyof" | "allof"))
        && words.next().is_none()
}

fn takes_list(operator: &str) -> bool {
    LIST_OPERATORS.contains(&operator) || has_modifier(operator)
}

/// Checks that an exception says which fields it compares, and how; what it does not say is filled in.
///
/// # Errors
/// What Falco would refuse.
pub(super) fn complete(exception: &mut Exception) -> Result<(), Diagnostic> {
    let name = &exception.name;
    if !exception.fields.is_given() {
        let message = format!("the exception {name:?} has no `fields`");
        return Err(error(message, exception.span));
    }
    match &exception.fields {
        Entry::One(field) => {
            let place = last_place(field);
            if !exception.comps.is_given() {
                exception.comps = word("in", place);
            }
            let operator = exception.comps.one().map(|operator| operator.text.trim());
            if !operator.is_some_and(takes_list) {
                let found = operator.unwrap_or("a list");
                return Err(with_help(
                    error(
                        format!("the exception {name:?} compares one field with a list, but by {found:?}"),
                        exception.span,
                    ),
                    "`in`, `pmatch`, `intersects`, or another operator with `oneof`, `anyof` or `allof` takes a list",
                ));
            }
        }
        Entry::Many(fields) => {
            let places: Vec<_> = fields.iter().map(|field| field.one().map(last_place)).collect();
            let place = (exception.span.file, exception.span.start);
            if !exception.comps.is_given() {
                let equal = places.iter().map(|end| word("=", end.unwrap_or(place)));
                exception.comps = Entry::Many(equal.collect());
            }
            check_operators(&exception.comps, places.len(), exception)?;
        }
    }
    Ok(())
}

fn word(text: &str, place: (FileId, u32)) -> Entry {
    Entry::One(Located { text: text.to_owned(), places: vec![place; text.len() + 1] })
}

fn check_operators(comps: &Entry, count: usize, exception: &Exception) -> Result<(), Diagnostic> {
    let name = &exception.name;
    let Entry::Many(operators) = comps else {
        return Err(error(
            format!("the exception {name:?} has a list of `fields`, but no list of `comps`"),
            exception.span,
        ));
    };
    if operators.len() != count {
        let message = format!("the exception {name:?} has {count} `fields`, but {} `comps`", operators.len());
        return Err(error(message, exception.span));
    }
    for operator in operators {
        let text = operator.one().map_or("", |operator| operator.text.trim());
        if !is_operator(text) && !has_modifier(text) {
            let span =
                operator.one().map_or(exception.span, |operator| operator.span(0, operator.text.len()));
            return Err(error(format!("{text:?} is no operator"), span));
        }
    }
    Ok(())
}

/// The exceptions of a rule after others were appended, or took their place.
///
/// # Errors
/// If one of them does not fit.
pub(super) fn changed(
    before: &[Exception],
    is_appended: bool,
    new: Vec<Exception>,
) -> Result<Vec<Exception>, Diagnostic> {
    let mut exceptions = if is_appended { before.to_vec() } else { Vec::new() };
    for mut exception in new {
        let before = exceptions.iter_mut().find(|before| before.name == exception.name);
        match before.filter(|_| is_appended) {
            Some(_) if exception.fields.is_given() || exception.comps.is_given() => {
                let message = format!("the exception {:?} has its fields and comps already", exception.name);
                return Err(with_help(error(message, exception.span), "only `values` can be appended to it"));
            }
            Some(before) => before.values.append(&mut exception.values),
            None if is_appended && exception.values.is_empty() => {
                let message = format!("the exception {:?} is new here and has no `values`", exception.name);
                return Err(error(message, exception.span));
            }
            None => {
                complete(&mut exception)?;
                exceptions.push(exception);
            }
        }
    }
    Ok(exceptions)
}

/// The condition of a rule with its exceptions.
///
/// # Errors
/// If the values of one do not fit its fields.
pub(super) fn fold(condition: &Located, exceptions: &[Exception]) -> Result<Located, Diagnostic> {
    let mut text = Text::default();
    text.push_str("(", first_place(condition));
    text.push_all(condition);
    text.push_str(")", last_place(condition));
    for exception in exceptions {
        match (&exception.fields, &exception.comps) {
            _ if exception.values.is_empty() => {}
            (Entry::One(field), Entry::One(operator)) => push_values(&mut text, field, operator, exception)?,
            (Entry::Many(fields), Entry::Many(operators)) => {
                push_rows(&mut text, fields, operators, exception)?
            }
            _ => return Err(error("the fields and the comps of this exception do not fit", exception.span)),
        }
    }
    Ok(text.finish(last_place(condition)))
}

fn start(exception: &Exception) -> (FileId, u32) {
    (exception.span.file, exception.span.start)
}

fn push_operator(text: &mut Text, operator: &Located) {
    let start = operator.text.len() - operator.text.trim_start().len();
    text.push(operator, start, start + operator.text.trim().len());
}

fn push_values(
    text: &mut Text,
    field: &Located,
    operator: &Located,
    exception: &Exception,
) -> Result<(), Diagnostic> {
    text.push_str(" and not (", start(exception));
    text.push_all(field);
    text.push_str(" ", last_place(field));
    push_operator(text, operator);
    text.push_str(" (", last_place(operator));
    let mut place = None;
    for value in &exception.values {
        let Entry::One(value) = value else {
            let message = format!(
                "the exception {:?} has one field, so each of its values is one text",
                exception.name
            );
            return Err(error(message, exception.span));
        };
        if let Some(place) = place {
            text.push_str(", ", place);
        }
        push_quoted(text, value);
        place = Some(last_place(value));
    }
    text.push_str("))", place.unwrap_or_else(|| start(exception)));
    Ok(())
}

fn push_rows(
    text: &mut Text,
    fields: &[Entry],
    operators: &[Entry],
    exception: &Exception,
) -> Result<(), Diagnostic> {
    text.push_str(" and not (", start(exception));
    for (index, row) in exception.values.iter().enumerate() {
        let cells = match row {
            Entry::Many(cells) if cells.len() == fields.len() => cells,
            Entry::Many(cells) => {
                let (name, have) = (&exception.name, cells.len());
                let message =
                    format!("the exception {name:?} has {} fields, but a row of {have} values", fields.len());
                return Err(error(message, row_span(row, exception)));
            }
            Entry::One(_) => {
                let message =
                    format!("the exception {:?} has several fields, so its values are rows", exception.name);
                return Err(error(message, row_span(row, exception)));
            }
        };
        text.push_str(if index == 0 { "(" } else { " or (" }, start(exception));
        for (index, ((field, operator), cell)) in fields.iter().zip(operators).zip(cells).enumerate() {
            let (Some(field), Some(operator)) = (field.one(), operator.one()) else {
                return Err(error("a list where the name of a field belongs", exception.span));
            };
            text.push_str(if index == 0 { " " } else { " and  " }, first_place(field));
            text.push_all(field);
            text.push_str(" ", last_place(field));
            push_operator(text, operator);
            text.push_str(" ", last_place(operator));
            push_cell(text, operator, cell, exception);
        }
        text.push_str(")", start(exception));
    }
    text.push_str(")", start(exception));
    Ok(())
}

fn push_cell(text: &mut Text, operator: &Located, cell: &Entry, exception: &Exception) {
    match cell {
        Entry::One(value) if takes_list(operator.text.trim()) => {
            let is_list = value.text.starts_with('(');
            text.push_str(if is_list { "" } else { "(" }, first_place(value));
            text.push_all(value);
            text.push_str(if is_list { "" } else { ")" }, last_place(value));
        }
        Entry::One(value) => push_quoted(text, value),
        Entry::Many(values) => {
            let mut place = start(exception);
            text.push_str("(", values.first().and_then(Entry::one).map_or(place, first_place));
            for (index, value) in values.iter().filter_map(Entry::one).enumerate() {
                text.push_str(if index == 0 { "" } else { ", " }, first_place(value));
                push_quoted(text, value);
                place = last_place(value);
            }
            text.push_str(")", place);
        }
    }
}

/// Where a row stands, as far as there is a text in it.
fn row_span(row: &Entry, exception: &Exception) -> Span {
    match row {
        Entry::One(text) => text.span(0, text.text.len()),
        Entry::Many(cells) => cells.first().map_or(exception.span, |cell| row_span(cell, exception)),
    }
}
