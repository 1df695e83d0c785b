//! An explanation as one JSON object. Its keys are promised in `docs/rules.md`: new ones may come, none goes.

use serde_json::{Value, json};

use super::{
    Call, Explanation, Keeps,
    words::{Predicate, Shown, Terms},
};
use crate::{
    cli::rules::Place,
    interest::{
        Condition, Test, Width,
        formula::{AddressTest, Atom, Form, Formula, Part, TextAtom, TextTest},
    },
    rules::{Diagnostic, RuleSet, Span},
};

/// The version of the keys.
const VERSION: u32 = 1;

/// The object, on one line.
pub(super) fn render(explanation: &Explanation<'_>) -> String {
    let Explanation { set, focus, calls, warnings, filter } = explanation;
    let rules = explanation.rules().map(|(index, rule)| {
        let is_focus = focus.is_some_and(|focus| focus.rule == index);
        let is_enabled = if is_focus { focus.is_some_and(|focus| focus.is_enabled) } else { rule.is_enabled };
        json!({
            "name": rule.name,
            "place": set.map(|set| place(set, rule.span)),
            "is_enabled": is_enabled,
            "source": rule.source,
            "condition": rule.condition.to_string(),
            "calls": explanation.shares(index).map(|(call, keeps)| json!({ "name": call, "kept": kept(keeps) }))
                .collect::<Vec<_>>(),
        })
    });
    let warnings = set.map(|set| {
        let all = set.diagnostics.iter().filter(|_| focus.is_none()).chain(warnings);
        all.map(|warning| diagnostic(set, warning)).collect::<Vec<_>>()
    });
    let listing = filter.to_string();
    let object = json!({
        "version": VERSION,
        "is_built_in": set.is_none(),
        "calls": calls.iter().map(|call| self::call(explanation, call)).collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
        "warnings": warnings.unwrap_or_default(),
        "filter": {
            "abi": filter.native().name(),
            "instructions": filter.instructions().len(),
            "listing": listing.lines().collect::<Vec<_>>(),
        },
        "summary": summary(explanation),
    });
    format!("{object}\n")
}

fn summary(explanation: &Explanation<'_>) -> Value {
    let count = |claim: fn(&Call) -> bool| explanation.calls.iter().filter(|call| claim(call)).count();
    let rules = explanation.set.map_or(&[][..], |set| &set.rules);
    // The rule in focus counts as it stands in the file.
    let hidden = explanation.focus.map_or(0, |focus| usize::from(!focus.is_enabled));
    let enabled = rules.iter().filter(|rule| rule.is_enabled).count().saturating_sub(hidden);
    json!({
        "rules": rules.len(),
        "rules_enabled": enabled,
        "calls": explanation.calls.len(),
        "calls_narrowed_by_registers": count(Call::is_narrowed_by_registers),
        "calls_narrowed_by_memory": count(Call::is_narrowed_by_memory),
        "calls_for_state_only": count(Call::is_state_only),
    })
}

fn call(explanation: &Explanation<'_>, call: &Call) -> Value {
    let terms = Terms::of(call.name);
    let registers = Formula::of_registers(&call.registers);
    let names = explanation.set.map_or(&[][..], |set| &set.rules);
    let shares = call.shares.iter().filter_map(|share| {
        Some(json!({
            "name": names.get(share.rule)?.name,
            "kept": kept(Keeps::of(&share.formula)),
            "when": terms.text(&share.formula, Shown::All),
            "formula": formula(&share.formula),
        }))
    });
    let stages = [("registers", call.is_narrowed_by_registers()), ("memory", call.is_narrowed_by_memory())];
    json!({
        "name": call.name,
        "number": call.nr.0,
        "trapped_when": terms.text(&registers, Shown::All),
        "registers": formula(&registers),
        "dropped_at": stages.iter().filter(|(_, is_one)| *is_one).map(|(stage, _)| stage).collect::<Vec<_>>(),
        "when": terms.text(&call.formula, Shown::All),
        "formula": formula(&call.formula),
        "memory_predicates": terms.memory_predicates(&call.formula).iter().map(predicate).collect::<Vec<_>>(),
        "state": call.state,
        "rules": shares.collect::<Vec<_>>(),
    })
}

const fn kept(keeps: Keeps) -> &'static str {
    match keeps {
        Keeps::All => "always",
        Keeps::ByNumbers => "by_numbers",
        Keeps::ByText => "by_text",
    }
}

fn predicate(predicate: &Predicate) -> Value {
    let Predicate { subject, verb, values, is_negated } = predicate;
    json!({ "subject": subject, "test": verb.asserted(), "values": values, "is_negated": is_negated })
}

fn place(set: &RuleSet, span: Span) -> Value {
    Place::of(set, span).map_or(
        Value::Null,
        |Place { file, line, column }| json!({ "file": file, "line": line, "column": column }),
    )
}

fn diagnostic(set: &RuleSet, diagnostic: &Diagnostic) -> Value {
    json!({
        "severity": diagnostic.severity.to_string(),
        "message": diagnostic.message,
        "help": diagnostic.help,
        "place": place(set, diagnostic.span),
    })
}

fn formula(formula: &Formula) -> Value {
    let several = |operands: &[Formula]| operands.iter().map(self::formula).collect::<Vec<_>>();
    match formula {
        Formula::False => json!(false),
        Formula::True => json!(true),
        Formula::All(operands) => json!({ "all": several(operands) }),
        Formula::Any(operands) => json!({ "any": several(operands) }),
        Formula::Atom(Atom::Register(condition)) => json!({ "register": comparison(condition) }),
        Formula::Atom(Atom::Word { offset, condition }) => {
            let mut word = comparison(condition);
            if let Value::Object(word) = &mut word {
                word.insert("offset".to_owned(), json!(offset));
            }
            json!({ "word": word })
        }
        Formula::Atom(Atom::Text(atom)) => json!({ "text": text(atom) }),
        Formula::Atom(Atom::Name { test, is_negated }) => {
            let (name, values) = text_test(test);
            json!({ "name": { "test": name, "values": values, "is_negated": is_negated } })
        }
        Formula::Atom(Atom::Address { argument, test, is_negated }) => {
            let (name, values) = address(test);
            json!({ "address":
                { "argument": argument, "test": name, "values": values, "is_negated": is_negated } })
        }
    }
}

fn comparison(condition: &Condition) -> Value {
    let Condition { argument, width, test, value } = condition;
    let bits = match width {
        Width::Low32 => 32,
        Width::Full64 => 64,
    };
    let (name, mask) = match test {
        Test::Eq => ("eq", None),
        Test::Ne => ("ne", None),
        Test::Lt => ("lt", None),
        Test::Le => ("le", None),
        Test::Gt => ("gt", None),
        Test::Ge => ("ge", None),
        Test::MaskedEq(mask) => ("masked_eq", Some(mask)),
    };
    json!({ "argument": argument, "bits": bits, "test": name, "mask": mask, "value": value })
}

/// The name of a test of a text, and what it compares with.
fn text_test(test: &TextTest) -> (&'static str, Vec<String>) {
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let several = |texts: &[Box<[u8]>]| texts.iter().map(|text| shown(text)).collect::<Vec<_>>();
    match test {
        TextTest::OneOf(values) => ("one_of", several(values)),
        TextTest::StartsWith(value) => ("starts_with", vec![shown(value)]),
        TextTest::EndsWith(value) => ("ends_with", vec![shown(value)]),
        TextTest::Contains(value) => ("contains", vec![shown(value)]),
        TextTest::ContainsIgnoringCase(value) => ("contains_ignoring_case", vec![shown(value)]),
        TextTest::Glob(value) => ("glob", vec![shown(value)]),
        TextTest::Below(values) => ("below", several(values)),
    }
}

fn text(atom: &TextAtom) -> Value {
    let TextAtom { subject, test, is_negated } = atom;
    let (name, values) = text_test(test);
    let form = match subject.form {
        Form::Written => "written",
        Form::Resolved => "resolved",
        Form::Either => "either",
    };
    let part = match subject.part {
        Part::Whole => "whole",
        Part::Directory => "directory",
        Part::FileName => "file_name",
    };
    json!({
        "argument": subject.argument,
        "form": form,
        "part": part,
        "test": name,
        "values": values,
        "is_negated": is_negated,
    })
}

fn address(test: &AddressTest) -> (&'static str, Value) {
    match test {
        AddressTest::FamilyIn(families) => ("family", json!(families)),
        AddressTest::PortIn(ranges) => ("port", json!(ranges)),
        AddressTest::HostIn(networks) => ("host", networks.iter().map(super::words::network).collect()),
    }
}
