//! Explanations of funnels that were made by hand: what is told follows from the formulas alone.

use serde_json::{Value, json};

use super::*;
use crate::interest::{
    Condition, Test, Width,
    formula::{Atom, Form, Part, Subject, TextAtom, TextTest},
};

const RULES: &str = "
- rule: Reads of keys
  desc: a path decides
  condition: evt.type in (open, openat) and fd.name startswith /keys/
  output: o
  priority: INFO
- rule: Writes
  desc: flags decide
  condition: evt.type = openat and evt.is_open_write = true
  output: o
  priority: INFO
- rule: Asleep
  desc: it has no share
  condition: evt.type = bind
  output: o
  priority: INFO
  enabled: false
";

fn writes() -> Formula {
    let test = Test::MaskedEq(3);
    Formula::any([1, 2].map(|value| {
        Formula::Atom(Atom::Register(Condition { argument: 2, width: Width::Low32, test, value }))
    }))
}

fn how_writes() -> Formula {
    let condition = Condition { argument: 2, width: Width::Low32, test: Test::MaskedEq(3), value: 1 };
    Formula::Atom(Atom::Word { offset: 0, condition })
}

fn below(argument: u8, directory: &str) -> Formula {
    let subject = Subject { argument, form: Form::Either, part: Part::Whole };
    let test = TextTest::StartsWith(directory.as_bytes().into());
    Formula::Atom(Atom::Text(TextAtom { subject, test, is_negated: false }))
}

fn call(name: &'static str, registers: RegisterTest, shares: &[(usize, Formula)]) -> CallFunnel {
    let rules: Vec<_> =
        shares.iter().map(|(rule, formula)| RuleShare { rule: *rule, formula: formula.clone() }).collect();
    let formula = Formula::any(rules.iter().map(|share| share.formula.clone()));
    CallFunnel { name, registers, formula, rules, state: None }
}

/// The registers of a dup3 to one of the standard descriptors.
fn standard() -> RegisterTest {
    let condition = Condition { argument: 1, width: Width::Low32, test: Test::Le, value: 2 };
    RegisterTest::any_of(vec![vec![condition]])
}

fn calls() -> Vec<CallFunnel> {
    let state = CallFunnel {
        formula: Formula::True,
        state: Some("the working directory (proc.cwd)"),
        ..call("chdir", RegisterTest::ALWAYS, &[])
    };
    vec![
        state,
        call("connect", RegisterTest::ALWAYS, &[(1, Formula::True)]),
        call("dup3", standard(), &[(1, Formula::of_registers(&standard()))]),
        call("openat", RegisterTest::ALWAYS, &[(0, below(1, "/keys/")), (1, writes())]),
        call("openat2", RegisterTest::ALWAYS, &[(0, below(1, "/keys/")), (1, how_writes())]),
        // A call that this machine does not have is not told.
        call("no such call", RegisterTest::ALWAYS, &[(0, Formula::True)]),
    ]
}

fn set() -> RuleSet {
    let set = RuleSet::parse(vec![("rules.yaml".into(), RULES.to_owned())]);
    assert!(!set.has_errors(), "{:?}", set.diagnostics);
    set
}

/// What `show` makes of the funnel.
fn shown<T>(set: &RuleSet, focus: Option<Focus>, show: impl Fn(&Explanation<'_>) -> T) -> T {
    let names: Vec<_> = calls().iter().map(|call| call.name).filter(|name| *name != "no such call").collect();
    let interest = Interest::of_names(&names).unwrap();
    let filter = filter::compile(&interest, Abi::NATIVE, filter::Action::Trace).unwrap();
    let funnel = Funnel { interest, calls: calls(), warnings: Vec::new() };
    show(&Explanation::new(Some(set), funnel, filter, focus))
}

fn text(set: &RuleSet, focus: Option<Focus>) -> String {
    let options = text::Options { is_verbose: false, has_bpf: false };
    shown(set, focus, |explanation| text::render(explanation, options))
}

fn parsed(set: &RuleSet, focus: Option<Focus>) -> Value {
    serde_json::from_str(&shown(set, focus, json::render)).unwrap()
}

#[test]
fn the_text_tells_each_stage_and_what_it_rests_on() {
    insta::assert_snapshot!(text(&set(), None), @r#"
    call     trapped when  dropped at  rules
    connect  always        never       1: Writes
    dup3     newfd <= 2    registers   1: Writes
    openat   always        memory      2: Reads of keys; Writes
    openat2  always        memory      2: Reads of keys; Writes

    trapped for Falco's picture of processes, whatever the rules say of them:
      chdir: the working directory (proc.cwd)

    what memory must show, or else the call is dropped at its entry:
      openat
        path starts with /keys/
        (kept all the same when flags & 3 is any of [O_WRONLY, O_RDWR])
      openat2
        path starts with /keys/
        (kept all the same when how.flags & 3 is O_WRONLY)

    what rules cost, beside program starts: calls that they keep whatever path or address it is
      Writes: connect, dup3 (by numbers), openat (by numbers), openat2 (by numbers)

    2 rules enabled of 3: 5 calls trapped, of them 1 narrowed by registers, 2 by memory; 1 only for the picture of processes
    "#);
}

#[test]
fn one_rule_is_told_in_full() {
    insta::assert_snapshot!(text(&set(), Some(Focus { rule: 1, is_enabled: true })), @r#"
    Writes (rules.yaml:7)

    connect
      trapped when  always  (for all rules together)
      may match if  always
      dropped at    never

    dup3
      trapped when  newfd <= 2  (for all rules together)
      may match if  newfd <= 2
      dropped at    registers

    openat
      trapped when  always  (for all rules together)
      may match if  flags & 3 is any of [O_WRONLY, O_RDWR]
      dropped at    never

    openat2
      trapped when  always  (for all rules together)
      may match if  how.flags & 3 is O_WRONLY
      dropped at    memory

    the rule is enabled; it has a share in 4 calls
    "#);
}

#[test]
fn a_rule_without_a_share_is_told_to_have_none() {
    let text = text(&set(), Some(Focus { rule: 2, is_enabled: false }));
    assert!(
        text.contains("the rule is disabled, and explained as if it were not; it has no share"),
        "{text}"
    );
}

#[test]
fn what_keeps_a_call_is_found_in_its_formula() {
    assert_eq!(Keeps::of(&Formula::True), Keeps::All);
    assert_eq!(Keeps::of(&writes()), Keeps::ByNumbers);
    assert_eq!(Keeps::of(&how_writes()), Keeps::ByNumbers);
    assert_eq!(Keeps::of(&below(1, "/a")), Keeps::ByText);
    assert_eq!(Keeps::of(&Formula::all([below(1, "/a"), writes()])), Keeps::ByText);
    assert_eq!(Keeps::of(&Formula::any([below(1, "/a"), writes()])), Keeps::ByNumbers);
    assert_eq!(Keeps::of(&Formula::any([below(1, "/a"), Formula::True])), Keeps::All);
}

#[test]
fn the_json_has_the_promised_keys() {
    let object = parsed(&set(), None);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&object), "calls filter is_built_in rules summary version warnings");
    assert_eq!(object["version"], 1);
    assert_eq!(
        keys(&object["calls"][0]),
        "dropped_at formula memory_predicates name number registers rules state trapped_when when"
    );
    assert_eq!(keys(&object["rules"][0]), "calls condition is_enabled name place source");
    assert_eq!(keys(&object["filter"]), "abi instructions listing");
    assert_eq!(
        object["summary"],
        json!({
            "rules": 3, "rules_enabled": 2, "calls": 5, "calls_narrowed_by_registers": 1,
            "calls_narrowed_by_memory": 2, "calls_for_state_only": 1,
        })
    );
    assert_eq!(object["filter"]["listing"].as_array().unwrap().len(), object["filter"]["instructions"]);
}

#[test]
fn the_json_has_formulas_as_trees_and_in_words() {
    let object = parsed(&set(), None);
    let openat = &object["calls"][3];
    assert_eq!(openat["name"], "openat");
    assert_eq!(openat["dropped_at"], json!(["memory"]));
    assert_eq!(openat["when"], "path starts with /keys/ or flags & 3 is any of [O_WRONLY, O_RDWR]");
    let register = |value| json!({ "register": { "argument": 2, "bits": 32, "test": "masked_eq", "mask": 3, "value": value } });
    let path = json!({ "text": {
        "argument": 1, "form": "either", "part": "whole", "test": "starts_with", "values": ["/keys/"],
        "is_negated": false,
    } });
    assert_eq!(openat["formula"], json!({ "any": [path, register(1), register(2)] }));
    assert_eq!(
        openat["memory_predicates"],
        json!([{ "subject": "path", "test": "starts with", "values": ["/keys/"], "is_negated": false }])
    );
    assert_eq!(openat["rules"][1]["name"], "Writes");
    assert_eq!(openat["rules"][1]["kept"], "by_numbers");
    assert_eq!(object["calls"][2]["dropped_at"], json!(["registers"]));
    assert_eq!(object["calls"][2]["trapped_when"], "newfd <= 2");
    assert_eq!(object["calls"][0]["state"], "the working directory (proc.cwd)");
}

#[test]
fn the_json_of_one_rule_has_its_share_alone() {
    let object = parsed(&set(), Some(Focus { rule: 0, is_enabled: true }));
    let names: Vec<_> = object["calls"].as_array().unwrap().iter().map(|call| call["name"].clone()).collect();
    assert_eq!(names, ["openat", "openat2"]);
    assert_eq!(object["calls"][0]["when"], "path starts with /keys/");
    assert_eq!(object["rules"].as_array().unwrap().len(), 1);
    assert_eq!(object["summary"]["rules_enabled"], 2);
    let asleep = parsed(&set(), Some(Focus { rule: 2, is_enabled: false }));
    assert_eq!(asleep["rules"][0]["is_enabled"], false);
}

#[test]
fn the_built_in_table_is_a_funnel_without_rules() {
    let funnel = built_in();
    assert!(funnel.calls.iter().any(|call| call.name == "openat" && call.formula == Formula::True));
    assert!(funnel.calls.is_sorted_by_key(|call| call.name));
    assert!(funnel.calls.iter().all(|call| call.rules.is_empty()));
}
