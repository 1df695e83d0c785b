//! What is said where a condition cannot be understood: what was found, what was expected, and what may have been meant.
//!
//! Nothing here decides what is taken: the parser has already refused the text when it asks for a complaint, so that
//! these functions may look ahead as they like, once.

use super::{
    Operator, Transformer,
    lexer::{QuoteError, is_bare},
    parser::{FUNCTIONS, Kind, OPERATORS, Parser},
};
use crate::{
    limits::{BRACKETS_DEPTH_MAX, CONDITION_BYTES_MAX},
    rules::source::{Diagnostic, Severity},
};

/// Characters of the condition that a message repeats.
const QUOTED_CHARS_MAX: usize = 40;

/// What the parser took last.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behind<'c> {
    /// The name of a macro.
    Macro { name: &'c str, start: usize },
    /// A value without quotes.
    Bare { start: usize },
    /// A value in quotes.
    Quoted,
    /// A number that the operator wanted.
    Number,
    /// The name of a list.
    ListName { name: &'c str, start: usize },
    /// Brackets right behind this keyword.
    Tight(&'static str),
    /// Anything else.
    Other,
}

/// What stands in a place.
#[derive(Debug, Clone, Copy)]
struct Found<'c> {
    /// Empty at the end.
    text: &'c str,
    end: usize,
}

impl std::fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text {
            "" => f.write_str("the end of the condition"),
            text => write!(f, "`{}`", shortened(text)),
        }
    }
}

/// The start of a text, if it is long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The one of some names that is nearest to what was written, if it is near.
fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let written: String = written.chars().take(QUOTED_CHARS_MAX).collect::<String>().to_ascii_lowercase();
    let distance = |name: &'n str| (strsim::damerau_levenshtein(&written, name), name);
    let (distance, name) = names.into_iter().map(distance).min()?;
    (distance <= 2 && distance < name.len()).then_some(name)
}

fn operator_names() -> impl Iterator<Item = &'static str> {
    OPERATORS.into_iter().map(|(name, ..)| name)
}

fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.into_iter().map(Transformer::name)
}

fn all_operators() -> String {
    let names: Vec<_> = operator_names().map(|name| format!("`{name}`")).collect();
    format!("the operators are {}", names.join(", "))
}

fn all_functions() -> String {
    let names: Vec<_> = function_names().map(|name| format!("`{name}`")).collect();
    format!("the functions are {}", names.join(", "))
}

/// What other languages write for operators of this one.
fn translated(written: &str) -> Option<&'static str> {
    match written {
        "===" | "is" | "equals" | "eq" => Some("="),
        "!==" | "<>" | "ne" => Some("!="),
        "~" | "=~" | "matches" | "rlike" => Some("regex"),
        "like" => Some("glob"),
        "has" | "includes" => Some("contains"),
        "=<" => Some("<="),
        "=>" => Some(">="),
        _ => None,
    }
}

impl<'c> Parser<'c> {
    fn error(&self, start: usize, end: usize, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, message, span: self.source.span(start, end), help }
    }

    /// An error about what stands where the cursor does.
    fn error_here(&self, found: Found<'_>, message: String, help: Option<String>) -> Diagnostic {
        self.error(self.cursor.at, found.end, message, help)
    }

    /// What stands where the cursor does, with the blanks before it left out: a word, an operator or a single character.
    fn found(&mut self) -> Found<'c> {
        self.cursor.blank();
        let rest = self.cursor.rest();
        let is_sign = |c: char| matches!(c, '=' | '<' | '>' | '!' | '~' | '&' | '|');
        let length = match rest.chars().next() {
            None => 0,
            Some(first) if is_sign(first) => rest.find(|c| !is_sign(c)).unwrap_or(rest.len()),
            Some(first) if u8::try_from(first).is_ok_and(|byte| byte.is_ascii() && !is_bare(byte)) => 1,
            Some(_) => rest.bytes().position(|byte| !is_bare(byte)).unwrap_or(rest.len()),
        };
        Found { text: rest.get(..length).unwrap_or_default(), end: self.cursor.at + length }
    }

    pub(super) fn too_long(&self) -> Diagnostic {
        let length = self.source.text.len();
        let message = format!(
            "this condition is {length} bytes long, more than the {CONDITION_BYTES_MAX} that one may be"
        );
        self.error(0, 1, message, Some("make several rules of it".to_owned()))
    }

    pub(super) fn too_deep(&self, open: usize) -> Diagnostic {
        let message = format!("more than {BRACKETS_DEPTH_MAX} brackets are open here");
        self.error(open, open + 1, message, Some("put a part of the condition into a macro".to_owned()))
    }

    /// A comparison is missing.
    pub(super) fn no_operand(&mut self) -> Diagnostic {
        let found = self.found();
        if self.source.text.trim().is_empty() {
            let help = "for example `evt.type = open`, or `spawned_process`".to_owned();
            return self.error_here(found, "the condition is empty".to_owned(), Some(help));
        }
        let help = match found.text {
            "!" => "write `not` for `!`".to_owned(),
            "&&" | "||" => "the operators between comparisons are `and` and `or`".to_owned(),
            ")" => "something has to stand in front of the bracket".to_owned(),
            _ => "for example `evt.type = open`, or `spawned_process`".to_owned(),
        };
        let message = format!("expected a comparison, the name of a macro or `(`, found {found}");
        self.error_here(found, message, Some(help))
    }

    /// More text, where only `and`, `or` and the end of the condition or of its brackets may follow.
    pub(super) fn not_at_end(&mut self, open: Option<usize>) -> Diagnostic {
        let found = self.found();
        match (open, found.text) {
            (Some(open), "") => return self.never_closed(open),
            (None, ")") => return self.error_here(found, "this bracket closes none".to_owned(), None),
            _ => {}
        }
        if let (Behind::Macro { name, start }, "(") = (self.behind, found.text) {
            return self.no_function(name, start);
        }
        let end = if open.is_some() { "`)`" } else { "the end of the condition" };
        let message = format!("expected `and`, `or` or {end}, found {found}");
        let help = self.help_behind(found);
        self.error_here(found, message, help)
    }

    fn never_closed(&self, open: usize) -> Diagnostic {
        self.error(
            open,
            open + 1,
            "this bracket is never closed".to_owned(),
            Some("a `)` is missing".to_owned()),
        )
    }

    /// A name with a bracket behind it, which is not known.
    fn no_function(&self, name: &str, start: usize) -> Diagnostic {
        let has_blank = start + name.len() < self.cursor.at;
        let help = match name {
            "val" => "`val` stands only on the right side of a comparison".to_owned(),
            name if function_names().any(|known| known == name) && has_blank => {
                format!("no blank may stand between `{name}` and the bracket")
            }
            name => nearest(name, function_names())
                .map_or_else(all_functions, |nearest| format!("did you mean `{nearest}`?")),
        };
        let message = format!("`{}` is no function that may stand here", shortened(name));
        self.error(start, start + name.len(), message, Some(help))
    }

    /// What may have been meant by what follows the last thing.
    fn help_behind(&self, found: Found<'_>) -> Option<String> {
        let is_operator =
            |text: &str| operator_names().any(|name| name == text) || translated(text).is_some();
        match (self.behind, found.text) {
            (_, "&&") => Some("write `and`".to_owned()),
            (_, "||") => Some("write `or`".to_owned()),
            (Behind::Macro { name, .. }, text) if text.starts_with('[') || is_operator(text) => {
                let name = shortened(name);
                Some(format!(
                    "`{name}` is taken for a macro: the name of a field has a dot in it, as in `proc.name`"
                ))
            }
            (Behind::ListName { name: "oneof" | "anyof" | "allof", .. }, "(") => {
                Some("these words go with `=` and operators for texts".to_owned())
            }
            (Behind::ListName { name, start }, "(") if start + name.len() == self.cursor.at => {
                Some(all_functions())
            }
            (Behind::Bare { start }, "(") => {
                let word = self.source.text.get(start..self.cursor.at).unwrap_or_default();
                match word.trim_end() {
                    "oneof" | "anyof" | "allof" => {
                        Some("a blank has to stand on both sides of this word".to_owned())
                    }
                    word => Some(nearest(word, function_names()).map_or_else(all_functions, |nearest| {
                        format!(
                            "did you mean `{nearest}(`? A value with brackets in it has to stand in quotes"
                        )
                    })),
                }
            }
            (Behind::Bare { .. }, "") => None,
            (Behind::Bare { .. }, text) => {
                let what = match text.chars().next() {
                    Some('=' | ',' | '"' | '\'' | ')') => format!("`{}`", shortened(text)),
                    _ => "a blank".to_owned(),
                };
                Some(format!("a value with {what} in it has to stand in quotes"))
            }
            (Behind::Quoted, _) => Some("inside of quotes, `\\\"` stands for `\"`".to_owned()),
            (Behind::Number, _) => {
                Some("this operator takes a number, as in `1`, `-1.5` or `0xff`".to_owned())
            }
            (Behind::Tight(keyword), _) => {
                Some(format!("put a blank between `{keyword}` and the bracket behind it"))
            }
            _ => None,
        }
    }

    pub(super) fn no_blank_behind(&mut self, keyword: &str, start: usize) -> Diagnostic {
        if self.cursor.is_at_end() {
            return self.no_operand();
        }
        let found = self.found();
        let message = format!("expected a blank or `(` behind `{keyword}`, found {found}");
        self.error(start, found.end, message, None)
    }

    /// The argument in square brackets is missing.
    pub(super) fn no_argument(&mut self, of: &str, open: usize) -> Diagnostic {
        let of = shortened(of);
        let has_blank = self.cursor.blank();
        let found = self.found();
        let message = format!("expected an argument of `{of}` behind `[`, found {found}");
        let help =
            if has_blank { "no blank may stand in the brackets" } else { "for example `proc.aname[2]`" };
        self.error(open, found.end, message, Some(help.to_owned()))
    }

    pub(super) fn argument_not_closed(&mut self, of: &str, open: usize) -> Diagnostic {
        let of = shortened(of);
        let found = self.found();
        let message = format!("expected `]` behind the argument of `{of}`, found {found}");
        let help = "an argument with blanks, quotes or brackets in it has to stand in quotes";
        self.error(open, found.end, message, Some(help.to_owned()))
    }

    pub(super) fn bad_quoted(&self, error: QuoteError) -> Diagnostic {
        match error {
            QuoteError::Unclosed { at, has_escaped_quote } => {
                let help =
                    has_escaped_quote.then(|| "a quote with a backslash before it does not close".to_owned());
                self.error(at, at + 1, "this quote is never closed".to_owned(), help)
            }
            QuoteError::Escape { at, escaped } => {
                let message = format!("a backslash cannot stand before `{escaped}` here");
                let help = match escaped {
                    '"' | '\'' => {
                        format!("write `{escaped}` without it: the text is in quotes of the other kind")
                    }
                    _ => "the escapes are `\\\\`, `\\/`, `\\\"`, `\\'`, `\\b`, `\\f`, `\\n`, `\\r` and `\\t`"
                        .to_owned(),
                };
                self.error(at, at + 1 + escaped.len_utf8(), message, Some(help))
            }
        }
    }

    pub(super) fn arguments_not_closed(&mut self, of: Transformer, open: usize) -> Diagnostic {
        let found = self.found();
        if found.text.is_empty() {
            return self.never_closed(open);
        }
        let (expected, help) = match of {
            Transformer::Val => ("`)`", "`val` takes one field"),
            _ => ("`,` or `)`", "arguments stand between commas"),
        };
        let message = format!("expected {expected} behind the argument of `{}`, found {found}", of.name());
        self.error_here(found, message, Some(help.to_owned()))
    }

    pub(super) fn no_function_argument(&mut self, of: Transformer) -> Diagnostic {
        self.no_one_of(
            of,
            "expected an argument",
            "a field, a function, a text in quotes, a number or a list in brackets",
        )
    }

    pub(super) fn no_element(&mut self, of: Transformer) -> Diagnostic {
        self.no_one_of(
            of,
            "expected a value in the list",
            "a field, a function, a text in quotes or a number",
        )
    }

    pub(super) fn no_field_in_val(&mut self) -> Diagnostic {
        self.no_one_of(Transformer::Val, "expected the argument", "a field, and no function of one")
    }

    fn no_one_of(&mut self, of: Transformer, expected: &str, help: &str) -> Diagnostic {
        let found = self.found();
        let help = match found.text {
            "val" => "`val` cannot stand in a function: the field alone can".to_owned(),
            _ => help.to_owned(),
        };
        self.error_here(found, format!("{expected} of `{}`, found {found}", of.name()), Some(help))
    }

    pub(super) fn list_not_closed(&mut self, open: usize) -> Diagnostic {
        let found = self.found();
        let help = match found.text {
            "" => {
                return self.error(
                    open,
                    open + 1,
                    "this list is never closed".to_owned(),
                    Some("a `)` is missing".to_owned()),
                );
            }
            "(" => "a value in a list is no function and no list",
            "\"" | "'" | "=" => "a value with this in it has to stand in quotes as a whole",
            _ => "a value with a blank in it has to stand in quotes",
        };
        let message = format!("expected `,` or `)` in the list, found {found}");
        self.error_here(found, message, Some(help.to_owned()))
    }

    pub(super) fn no_list_value(&mut self) -> Diagnostic {
        let found = self.found();
        let help = match found.text {
            ")" => Some("no comma may stand behind the last value"),
            "(" => Some("lists do not stand in each other"),
            "," => Some("a value has to stand on both sides of a comma"),
            "=" => Some("a value with `=` in it has to stand in quotes"),
            _ => None,
        };
        self.error_here(
            found,
            format!("expected a value in the list, found {found}"),
            help.map(str::to_owned),
        )
    }

    /// The left side of a comparison, from `start` to `end`, stands alone.
    pub(super) fn no_operator(&mut self, start: usize, end: usize) -> Diagnostic {
        let left = self.source.text.get(start..end).unwrap_or_default();
        let what = if left.ends_with(')') { "" } else { "the field " };
        let left = shortened(left);
        let found = self.found();
        let word_operators =
            OPERATORS.iter().filter(|(.., kind)| *kind == Kind::Word).map(|(name, ..)| *name);
        // The longest one, so that `icontains` is not taken for `in`.
        let prefix = word_operators.filter(|name| found.text.starts_with(name)).max_by_key(|name| name.len());
        if prefix == Some(found.text) {
            self.cursor.at = found.end;
            let next = self.found();
            let message = match next.text {
                "" => format!("expected a value after `{}`, found {next}", found.text),
                _ => format!("expected a blank behind `{}`, found {next}", found.text),
            };
            return self.error_here(next, message, None);
        }
        let help = match (found.text, prefix) {
            ("not", _) => format!("`not` stands before the comparison: `not {left} in (...)`"),
            (text, _) if text.starts_with('[') => "no blank may stand before `[`".to_owned(),
            (text, _) if text.starts_with('.') => "each part of a name starts with a letter".to_owned(),
            (_, Some(prefix)) => format!("put a blank behind `{prefix}`"),
            (text, None) => translated(text)
                .or_else(|| nearest(text, operator_names()))
                .map_or_else(all_operators, |nearest| format!("did you mean `{nearest}`?")),
        };
        self.error_here(
            found,
            format!("expected a comparison after {what}`{left}`, found {found}"),
            Some(help),
        )
    }

    pub(super) fn no_number(&mut self, operator: Operator) -> Diagnostic {
        let found = self.found();
        let help = match found.text.strip_prefix('=') {
            Some(_) => all_operators(),
            None => "a number, as in `1`, `-1.5` or `0xff`, or a function as in `len(...)`, or `val(...)`"
                .to_owned(),
        };
        let message = format!("expected a number after `{}`, found {found}", operator.name());
        self.error_here(found, message, Some(help))
    }

    pub(super) fn no_value(&mut self, operator: Operator) -> Diagnostic {
        let found = self.found();
        let name = operator.name();
        let help = match found.text {
            "(" => Some(format!("for a list write `in (...)`, or `{name} oneof (...)`")),
            text if text.starts_with('=') => Some("a value with `=` in it has to stand in quotes".to_owned()),
            "," => Some("a value with `,` in it has to stand in quotes".to_owned()),
            _ => None,
        };
        self.error_here(found, format!("expected a value after `{name}`, found {found}"), help)
    }

    pub(super) fn no_list(&mut self, of: &str) -> Diagnostic {
        let found = self.found();
        let help = "values in brackets and between commas, as in `(a, b)`, or the name of a list";
        self.error_here(found, format!("expected a list after `{of}`, found {found}"), Some(help.to_owned()))
    }
}
