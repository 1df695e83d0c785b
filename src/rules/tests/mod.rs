//! Tests of the rules as a whole: what files come out as.

mod config;
mod corpus;
mod entries;
mod expansion;
mod mutations;
mod places;
mod stock;

use std::path::PathBuf;

use super::{
    Expr, RuleSet, Severity,
    condition::{Operand, Right},
    source::{Diagnostic, Located},
};

/// The rules of texts, as files `0.yaml`, `1.yaml`...
fn rules_of(files: &[&str]) -> RuleSet {
    let named = files.iter().enumerate();
    RuleSet::parse(
        named.map(|(index, text)| (PathBuf::from(format!("{index}.yaml")), (*text).to_owned())).collect(),
    )
}

/// `FILE:LINE:COLUMN: SEVERITY: MESSAGE` of a diagnostic.
fn told(rules: &RuleSet, diagnostic: &Diagnostic) -> String {
    let file = rules.sources.file(diagnostic.span.file).expect("a diagnostic is about a file");
    let before = &file.text[..usize::try_from(diagnostic.span.start).unwrap()];
    let (line, column) =
        (1 + before.matches('\n').count(), 1 + before.rsplit('\n').next().unwrap().chars().count());
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    format!("{}:{line}:{column}: {severity}: {}", file.path.display(), diagnostic.message)
}

/// The errors, one a line.
fn errors_of(rules: &RuleSet) -> Vec<String> {
    let errors = rules.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    errors.map(|diagnostic| told(rules, diagnostic)).collect()
}

/// Everything that is told.
fn all_told(rules: &RuleSet) -> Vec<String> {
    rules.diagnostics.iter().map(|diagnostic| told(rules, diagnostic)).collect()
}

/// A condition as a text, with brackets around everything.
fn written(expr: &Expr) -> String {
    let joined = |operands: &[Expr], with: &str| operands.iter().map(written).collect::<Vec<_>>().join(with);
    match expr {
        Expr::And(operands) => format!("({})", joined(operands, " and ")),
        Expr::Or(operands) => format!("({})", joined(operands, " or ")),
        Expr::Not(operand) => format!("not {}", written(operand)),
        Expr::Macro(name) => name.text.clone(),
        Expr::Check(check) => {
            let right = match &check.right {
                Right::Nothing => String::new(),
                Right::Value(word) => word.text.clone(),
                Right::List(words) => {
                    format!("[{}]", words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join("|"))
                }
                Right::Named(name) => format!("NAMED {}", name.text),
                Right::Operand(operand) => operand_written(operand),
            };
            format!(
                "{} {:?}{} {right}",
                operand_written(&check.left),
                check.operator,
                check.modifier.map_or(String::new(), |modifier| format!(" {modifier:?}"))
            )
        }
    }
}

fn operand_written(operand: &Operand) -> String {
    match operand {
        Operand::Field(field) => match &field.argument {
            Some(argument) => format!("{}[{argument}]", field.name),
            None => field.name.clone(),
        },
        other => format!("{other:?}"),
    }
}

/// The condition of a rule, as a text.
fn condition_of(rules: &RuleSet, name: &str) -> String {
    let rule = rules.rules.iter().find(|rule| rule.name == name);
    rule.map_or_else(|| panic!("no rule {name:?}: {:?}", all_told(rules)), |rule| written(&rule.condition))
}

/// The byte of the file at each byte of a located text.
fn behind(text: &Located, file: &str) -> String {
    let bytes = file.as_bytes();
    let places = &text.places[..text.text.len()];
    places
        .iter()
        .map(|&(_, place)| bytes.get(usize::try_from(place).unwrap()).map_or('$', |&byte| char::from(byte)))
        .collect()
}
