//! What it costs to decide, on a standing thread, whether the path of an open can matter to any rule.
//!
//! `cargo bench --bench triage`. Elements per second are paths per second on one core, over a mix of paths that programs
//! open. The predicates are made up, as many and of the same kinds as in Falco's own rules; those are measured as well,
//! each file and all together, if `CREANCE_FALCO_RULES` has their paths. The groups `automaton` show what one automaton
//! over all literals would take for its search alone.

use std::{env, hint::black_box, path::PathBuf};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use creance::{
    abi::{self, Abi, SyscallNr},
    interest::{
        Condition, Funnel, Test, Width,
        formula::{Atom, Form, Formula, Part, Subject, TextAtom, TextTest},
    },
    rules::RuleSet,
    triage::{CallMemory, NameHits, Triage},
};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

/// Paths that no rule is about, as programs open them.
const PATHS: &[&str] = &[
    "/etc/ld.so.cache",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libselinux.so.1",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
    "/usr/lib/locale/C.utf8/LC_CTYPE",
    "/usr/share/zoneinfo/Europe/Berlin",
    "/usr/lib/python3.13/encodings/__pycache__/utf_8.cpython-313.pyc",
    "/proc/self/maps",
    "/proc/12345/status",
    "/sys/fs/cgroup/memory.max",
    "/dev/null",
    "/etc/nsswitch.conf",
    "/var/lib/postgresql/16/main/base/16384/2619",
    "/srv/app/node_modules/.pnpm/@babel+core@7.24.0/node_modules/@babel/core/lib/config/files/configuration.js",
    "/tmp/ccAbCdEf.o",
    "/usr/include/x86_64-linux-gnu/bits/types/../types.h",
];

/// Relative paths, that start from [`BASE`].
const RELATIVE: &[&str] = &["index.html", "static/css/main.css", "../include/config.h", "./src/lib.rs"];

const BASE: &[u8] = b"/srv/app/releases/42";

struct Path {
    text: &'static str,
}

impl CallMemory for Path {
    fn text(&mut self, _argument: u8) -> Option<&[u8]> {
        Some(self.text.as_bytes())
    }

    fn base(&mut self, _argument: u8) -> Option<&[u8]> {
        Some(BASE)
    }

    fn bytes(&mut self, _argument: u8) -> Option<&[u8]> {
        None
    }

    fn name(&mut self) -> Option<NameHits> {
        None
    }
}

/// How many predicates of each kind there are.
#[derive(Clone, Copy)]
struct Size {
    names: usize,
    starts: usize,
    ends: usize,
    needles: usize,
    globs: usize,
}

const STABLE: Size = Size { names: 20, starts: 8, ends: 3, needles: 4, globs: 2 };
const ALL: Size = Size { names: 60, starts: 40, ends: 15, needles: 10, globs: 4 };

const ROOTS: &[&str] = &["etc", "root", "var/lib", "usr/bin", "home", "boot", "opt", "usr/sbin"];

fn literals(size: Size) -> impl Iterator<Item = String> {
    let root = |index: usize| ROOTS.iter().cycle().nth(index).expect("there are roots");
    let names = (0..size.names).map(move |index| format!("/{}/secret{index}.conf", root(index)));
    let starts = (0..size.starts).map(move |index| format!("/{}/dir{index}/", root(index * 3)));
    let ends = (0..size.ends).map(|index| format!("_history{index}"));
    let needles = (0..size.needles).map(|index| format!("/.hidden{index}/"));
    names.chain(starts).chain(ends).chain(needles)
}

/// A formula like those of rules: each of them looks at flags, and at some texts.
fn formula(size: Size) -> Formula {
    let mut rules = Vec::new();
    let literals: Vec<_> = literals(size).collect();
    let (names, rest) = literals.split_at(size.names);
    let (starts, rest) = rest.split_at(size.starts);
    let (ends, needles) = rest.split_at(size.ends);
    let bytes = |text: &String| text.as_bytes().into();
    for chunk in names.chunks(10) {
        let names = TextTest::OneOf(chunk.iter().map(bytes).collect());
        let directories = TextTest::OneOf(chunk.iter().map(|name| parent(name).into()).collect());
        rules.push(Formula::any([
            Formula::all([text(TextTest::StartsWith(b"/etc"[..].into())), text(names)]),
            Formula::all([part(Part::FileName, one_of("shadow")), part(Part::Directory, directories)]),
        ]));
    }
    for chunk in starts.chunks(6) {
        rules.push(Formula::any(chunk.iter().map(|start| text(TextTest::StartsWith(bytes(start))))));
    }
    for chunk in ends.chunks(5) {
        rules.push(Formula::any(chunk.iter().map(|end| text(TextTest::EndsWith(bytes(end))))));
    }
    for chunk in needles.chunks(3) {
        rules.push(Formula::any(chunk.iter().map(|needle| text(TextTest::Contains(bytes(needle))))));
    }
    let globs = (0..size.globs).map(|index| format!("/home/*/.keys{index}/*"));
    rules.extend(globs.map(|glob| text(TextTest::Glob(bytes(&glob)))));
    let flags = |index: usize| if index.is_multiple_of(2) { is_read() } else { is_not_created() };
    Formula::any(rules.into_iter().enumerate().map(|(index, rule)| Formula::all([flags(index), rule])))
}

fn parent(path: &str) -> &[u8] {
    path.rsplit_once('/').map_or(b"/", |(parent, _)| parent.as_bytes())
}

fn one_of(name: &str) -> TextTest {
    TextTest::OneOf(vec![name.as_bytes().into()])
}

fn text(test: TextTest) -> Formula {
    part(Part::Whole, test)
}

fn part(part: Part, test: TextTest) -> Formula {
    let subject = Subject { argument: 1, form: Form::Resolved, part };
    Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated: false }))
}

fn is_read() -> Formula {
    flags(3, 0)
}

fn is_not_created() -> Formula {
    flags(0o100, 0)
}

fn flags(mask: u64, value: u64) -> Formula {
    let test = Test::MaskedEq(mask);
    Formula::Atom(Atom::Register(Condition { argument: 2, width: Width::Low32, test, value }))
}

fn openat() -> SyscallNr {
    abi::number(Abi::NATIVE, "openat").expect("every ABI has it")
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, triage: &Triage) {
    for (kind, paths) in [("absolute", PATHS), ("relative", RELATIVE), ("mix", &[PATHS, RELATIVE].concat())] {
        let nr = openat();
        // Read-only, close-on-exec.
        let arguments = [u64::MAX, 0x7ffd_0000, 0o2_000_000, 0, 0, 0];
        let kept = || {
            let kept = paths.iter().filter(|path| {
                let mut memory = Path { text: black_box(path) };
                triage.is_kept(Abi::NATIVE, nr, black_box(&arguments), &mut memory)
            });
            kept.count()
        };
        println!("{name}: {} of {} {kind} paths are kept", kept(), paths.len());
        group.throughput(Throughput::Elements(paths.len().try_into().expect("few paths")));
        group.bench_function(format!("{name}, {kind}"), |bench| bench.iter(kept));
    }
}

fn made_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("triage");
    for (name, size) in [("as many as stable", STABLE), ("as many as all", ALL)] {
        let formula = formula(size);
        measure(&mut group, name, &Triage::of_formulas([(openat(), &formula)]));
    }
    group.finish();
}

fn stock(criterion: &mut Criterion) {
    let files = env::var("CREANCE_FALCO_RULES").unwrap_or_default();
    let files: Vec<PathBuf> =
        files.split_whitespace().filter(|file| !file.contains("sample")).map(PathBuf::from).collect();
    if files.is_empty() {
        println!("CREANCE_FALCO_RULES names no rule files: only made-up predicates are measured");
        return;
    }
    let mut group = criterion.benchmark_group("stock");
    for count in 1..=files.len() {
        let (some, _) = files.split_at(count);
        let rules = RuleSet::read(some).expect("the rule files can be read");
        let funnel = Funnel::of_rules(&rules.rules);
        measure(&mut group, &format!("{count} files"), &Triage::compile(&funnel.interest));
    }
    group.finish();
}

fn automaton(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("automaton");
    for (name, size) in [("as many as stable", STABLE), ("as many as all", ALL)] {
        for kind in [AhoCorasickKind::DFA, AhoCorasickKind::ContiguousNFA] {
            let automaton = AhoCorasick::builder().kind(Some(kind)).build(literals(size));
            let automaton = automaton.expect("it is small");
            group.throughput(Throughput::Elements(PATHS.len().try_into().expect("few paths")));
            group.bench_function(format!("{name}, {kind:?}"), |bench| {
                bench.iter(|| {
                    let hits =
                        PATHS.iter().map(|path| automaton.find_overlapping_iter(black_box(path)).count());
                    hits.sum::<usize>()
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(3));
    targets = made_up, stock, automaton
}
criterion_main!(benches);
