//! Feeds arbitrary texts to the reader of rule files.
//!
//! The input is one file or two of them, with a line `=====` between them: the second may change what the first defines.
//! Every error must have a place in its file, and an expanded condition no names of macros or lists.

#![no_main]

use std::path::PathBuf;

use creance::rules::{
    Expr, RuleSet,
    condition::{Check, Right},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let files = text.splitn(2, "\n=====\n").enumerate();
    let rules = RuleSet::parse(
        files.map(|(index, text)| (PathBuf::from(format!("{index}.yaml")), text.to_owned())).collect(),
    );
    for diagnostic in &rules.diagnostics {
        let file = rules.sources.file(diagnostic.span.file).expect("a diagnostic is about a file");
        let (start, end) = (diagnostic.span.start as usize, diagnostic.span.end as usize);
        assert!(file.text.get(start..end).is_some(), "a diagnostic is inside its file");
        assert!(!diagnostic.display(&rules.sources).to_string().is_empty());
    }
    for rule in &rules.rules {
        assert!(is_expanded(&rule.condition), "an expanded condition names no macro or list");
    }
});

fn is_expanded(condition: &Expr) -> bool {
    match condition {
        Expr::And(operands) | Expr::Or(operands) => operands.iter().all(is_expanded),
        Expr::Not(operand) => is_expanded(operand),
        Expr::Check(Check { right: Right::Named(_), .. }) | Expr::Macro(_) => false,
        Expr::Check(_) => true,
    }
}
