//! What it costs to read rule files: from their texts to conditions without macros and lists, and on to what a tracer
//! needs: what is trapped, and the predicates of triage.
//!
//! `cargo bench --bench rules`. The generated file is about as large as Falco's own three together. Those are measured
//! too if `CREANCE_FALCO_RULES` has their paths.

use std::{env, fs, hint::black_box, path::PathBuf};

use creance::{interest::Funnel, rules::RuleSet, triage::Triage};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../src/rules/tests/corpus.rs"]
mod corpus;

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    let mut measure = |name: &str, files: &[(PathBuf, String)]| {
        let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
        let rules = RuleSet::parse(files.to_vec());
        assert!(!rules.has_errors(), "{name}: {:?}", rules.diagnostics);
        group.throughput(Throughput::Bytes(
            u64::try_from(bytes).expect("the files are no longer than memory"),
        ));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || files.to_vec(),
                |files| RuleSet::parse(black_box(files)),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{name}, to the end"), |bencher| {
            bencher.iter_batched(
                || files.to_vec(),
                |files| {
                    let funnel = Funnel::of_rules(&RuleSet::parse(black_box(files)).rules);
                    let triage = Triage::compile(&funnel.interest);
                    (funnel, triage)
                },
                BatchSize::LargeInput,
            );
        });
    };
    measure("generated", &[(PathBuf::from("large.yaml"), corpus::large())]);
    let paths = env::var("CREANCE_FALCO_RULES").unwrap_or_default();
    let stock: Vec<_> = paths
        .split_whitespace()
        .filter(|path| !path.contains("sample"))
        .map(|path| (PathBuf::from(path), fs::read_to_string(path).expect("a rule file can be read")))
        .collect();
    if stock.is_empty() {
        println!("CREANCE_FALCO_RULES names no rule files: only generated ones are measured");
    } else {
        measure("stock", &stock);
    }
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
