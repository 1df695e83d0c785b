//! What entries make of those before them.

use super::{all_told, condition_of, errors_of, rules_of};

/// A rule with this condition.
fn rule(condition: &str) -> String {
    format!("- rule: r\n  desc: d\n  condition: {condition}\n  output: o\n  priority: info\n")
}

#[test]
fn a_rule_has_its_name_its_source_and_its_output() {
    let rules = rules_of(&[
        "- rule: A rule\n  desc: d\n  condition: evt.num = 1\n  output: '  a %evt.num '\n  priority: Informational\n  source: k8s_audit\n  enabled: off\n",
    ]);
    assert_eq!(all_told(&rules), [""; 0]);
    let [rule] = rules.rules.as_slice() else { panic!("one rule: {:?}", rules.rules) };
    assert_eq!(
        (rule.name.as_str(), rule.source.as_str(), rule.output.as_str()),
        ("A rule", "k8s_audit", "a %evt.num")
    );
    assert!(!rule.is_enabled);
    assert_eq!((rule.span.start, rule.span.end), (8, 14));
}

#[test]
fn conditions_are_appended_with_a_blank_and_replaced_as_a_whole() {
    let base = rule("evt.num = 1");
    let append = "- rule: r\n  condition: and evt.num = 2\n  output: more\n  override: {condition: append, output: append}\n";
    let rules = rules_of(&[&base, append]);
    assert_eq!(all_told(&rules), [""; 0]);
    assert_eq!(condition_of(&rules, "r"), "(evt.num Eq 1 and evt.num Eq 2)");
    assert_eq!(rules.rules[0].output, "o more");
    let replace = "- rule: r\n  condition: evt.num = 3\n  enabled: false\n  override:\n    condition: replace\n    enabled: replace\n";
    let rules = rules_of(&[&base, append, replace]);
    assert_eq!(condition_of(&rules, "r"), "evt.num Eq 3");
    assert!(!rules.rules[0].is_enabled);
}

#[test]
fn the_old_ways_to_append_and_to_enable_still_work_and_are_told() {
    let base = rule("evt.num = 1");
    let old = "- rule: r\n  append: true\n  condition: or evt.num = 2\n- rule: r\n  enabled: false\n";
    let rules = rules_of(&[&base, old]);
    assert_eq!(condition_of(&rules, "r"), "(evt.num Eq 1 or evt.num Eq 2)");
    assert!(!rules.rules[0].is_enabled);
    assert_eq!(
        all_told(&rules),
        [
            "1.yaml:2:11: warning: `append` is an old way to say it",
            "1.yaml:4:9: warning: an entry with nothing but `enabled` is an old way to say it",
        ]
    );
}

#[test]
fn a_second_definition_replaces_the_first_one_in_its_place() {
    let again = format!(
        "- rule: s\n  desc: d\n  condition: evt.num = 9\n  output: o\n  priority: info\n{}",
        rule("evt.num = 2")
    );
    let rules = rules_of(&[&rule("evt.num = 1"), "- rule: r\n  enabled: false\n", &again]);
    assert_eq!(errors_of(&rules), [""; 0]);
    let names: Vec<_> = rules.rules.iter().map(|rule| (rule.name.as_str(), rule.is_enabled)).collect();
    assert_eq!(names, [("r", true), ("s", true)]);
    assert_eq!(condition_of(&rules, "r"), "evt.num Eq 2");
}

#[test]
fn of_a_key_that_stands_twice_the_first_one_counts() {
    let rules = rules_of(&[&format!("{}  condition: evt.num = 2\n", rule("evt.num = 1"))]);
    assert_eq!(condition_of(&rules, "r"), "evt.num Eq 1");
    assert_eq!(
        all_told(&rules),
        ["0.yaml:6:3: warning: the key \"condition\" stands here twice: the first one counts"]
    );
}

#[test]
fn unknown_keys_and_entries_are_told_and_ignored() {
    let rules = rules_of(&[&format!("- scap: 1\n- ~\n---\n{}  prioritty: 1\n  x: 2\n", rule("evt.num = 1"))]);
    assert_eq!(
        all_told(&rules),
        [
            "0.yaml:1:3: warning: an entry of an unknown kind, which is ignored",
            "0.yaml:9:3: warning: the key \"prioritty\" is not known here and is ignored",
            "0.yaml:10:3: warning: the key \"x\" is not known here and is ignored",
        ]
    );
    assert_eq!(rules.diagnostics[1].help.as_deref(), Some("did you mean `priority`?"));
}

#[test]
fn what_falco_refuses_is_an_error_at_its_place() {
    let base = rule("evt.num = 1");
    for (text, error) in [
        ("rules: []\n", "1:1: error: a rule file is a list of entries"),
        ("- text\n", "1:3: error: this is no entry"),
        ("- list: a\n", "1:9: error: this list has no `items`"),
        ("- list: a\n  items: [[b]]\n", "2:11: error: what stands in `items` must be single values"),
        ("- list: a\n  items: b\n", "2:10: error: `items` must be a list"),
        ("- macro: a\n", "1:10: error: this entry has no `condition`"),
        ("- macro: a\n  condition:\n", "1:10: error: `condition` is empty"),
        ("- macro:\n  condition: x\n", "1:3: error: `macro` is empty"),
        ("- macro: a\n  condition: [b]\n", "2:14: error: `condition` must be one value"),
        ("- rule: q\n  priority: info\n", "1:9: error: this entry has no `condition`"),
        ("- rule: q\n", "1:9: error: the rule \"q\" has neither a condition nor `enabled`"),
        (
            "- rule: q\n  enabled: true\n",
            "1:9: error: this changes the rule \"q\", but there is none of this name before it",
        ),
        (
            "- rule: q\n  append: true\n  condition: and a\n",
            "1:9: error: this changes the rule \"q\", but there is none of this name before it",
        ),
        ("- rule: r\n  append: true\n", "1:9: error: this entry appends neither a condition nor exceptions"),
        ("- rule: r\n  append: maybe\n", "2:11: error: `append` must be true or false"),
        (
            "- rule: r\n  append: true\n  condition: and a\n  override: {condition: append}\n",
            "1:9: error: `append` and `override` cannot stand in one entry",
        ),
        (
            "- rule: r\n  priority: info\n  override: {priority: append}\n",
            "3:14: error: `priority` cannot be changed by `append`",
        ),
        (
            "- rule: r\n  source: a\n  override: {source: replace}\n",
            "3:14: error: `source` cannot be changed by `replace`",
        ),
        (
            "- rule: r\n  desc: a\n  override: {desc: remove}\n",
            "3:20: error: a key is overridden by `append` or `replace`",
        ),
        (
            "- rule: r\n  override: {desc: append}\n",
            "1:9: error: `override` names `desc`, but it does not stand here",
        ),
        (
            "- rule: r\n  desc: a\n  tags: [b]\n  override: {desc: append}\n",
            "3:9: error: `tags` stands here, but `override` does not say what to do with it",
        ),
        (
            "- rule: q\n  desc: d\n  condition: evt.num = 1\n  output: o\n  priority: high\n",
            "5:13: error: \"high\" is no priority",
        ),
        (
            "- rule: q\n  desc: d\n  condition: evt.num = 1\n  output: o\n  priority: info\n  capture: 3\n",
            "6:12: error: `capture` must be true or false",
        ),
        (
            "- rule: r\n  desc: d\n  condition: evt.num = 1\n  output: o\n  priority: info\n  source: k8s_audit\n",
            "1:9: error: the rule \"r\" has another `source` where it was defined before",
        ),
        (
            "- required_engine_version: 63\n",
            "1:28: error: these rules want engine version 63, and Falco 0.44 has 0.62.0",
        ),
        (
            "- required_engine_version: 1.0.0\n",
            "1:28: error: these rules want engine version 1.0.0, and Falco 0.44 has 0.62.0",
        ),
        ("- required_engine_version: new\n", "1:28: error: \"new\" is no version"),
        (
            "- required_plugin_versions: [{name: a, version: 1}]\n",
            "1:49: error: this is no version of a plugin",
        ),
    ] {
        let rules = rules_of(&[&base, text]);
        assert_eq!(errors_of(&rules), [format!("1.yaml:{error}")], "{text}");
    }
    let accepted = "- required_engine_version: 0.62.0\n- required_engine_version: 57\n";
    assert_eq!(all_told(&rules_of(&[&base, accepted])), [""; 0]);
}

#[test]
fn one_broken_entry_hides_no_error_in_others() {
    let text = "- macro: a\n- rule: r\n  desc: d\n  condition: a and nope\n  output: o\n  priority: info\n- list: b\n";
    let rules = rules_of(&[text]);
    assert_eq!(
        errors_of(&rules),
        [
            "0.yaml:1:10: error: this entry has no `condition`",
            "0.yaml:4:20: error: there is no macro `nope`",
            "0.yaml:7:9: error: this list has no `items`",
        ],
    );
}

#[test]
fn exceptions_are_and_not_the_condition() {
    let exceptions = "  exceptions:
    - name: pair
      fields: [proc.name, fd.name]
      comps: [=, startswith]
      values:
        - [a, /x]
        - [\"b c\", /y]
    - name: equal
      fields: [proc.name, proc.pname]
      values: [[a, b]]
    - name: single
      fields: proc.name
      values: [p, q]
    - name: prefix
      fields: proc.name
      comps: startswith oneof
      values: [pre]
    - name: lists
      fields: [proc.name, fd.directory]
      comps: [in, pmatch]
      values: [[[m, n], /d], [names, '(/e, /f)']]
    - name: none
      fields: [evt.num]
- list: names
  items: [one, two]
";
    let rules = rules_of(&[&format!("{}{exceptions}", rule("evt.num = 1 or evt.num = 2"))]);
    assert_eq!(all_told(&rules), [""; 0]);
    assert_eq!(
        condition_of(&rules, "r"),
        "((evt.num Eq 1 or evt.num Eq 2) \
         and not ((proc.name Eq a and fd.name StartsWith /x) or (proc.name Eq b c and fd.name StartsWith /y)) \
         and not (proc.name Eq a and proc.pname Eq b) \
         and not proc.name In [p|q] \
         and not proc.name StartsWith OneOf [pre] \
         and not ((proc.name In [m|n] and fd.directory PMatch [/d]) or (proc.name In [one|two] and fd.directory PMatch [/e|/f])))"
    );
}

#[test]
fn values_are_appended_to_an_exception_that_is_there_and_new_ones_may_come() {
    let base = format!(
        "{}  exceptions:\n    - {{name: a, fields: proc.name, values: [x]}}\n    - {{name: b, fields: [evt.num]}}\n",
        rule("evt.num = 1")
    );
    let append = "- rule: r\n  exceptions:\n    - {name: a, values: [y]}\n    - {name: c, fields: [fd.name], values: [[/z]]}\n  override: {exceptions: append}\n";
    let rules = rules_of(&[&base, append]);
    assert_eq!(all_told(&rules), [""; 0]);
    assert_eq!(condition_of(&rules, "r"), "(evt.num Eq 1 and not proc.name In [x|y] and not fd.name Eq /z)");
    let replace = "- rule: r\n  exceptions:\n    - {name: d, fields: proc.name, values: [y]}\n  override: {exceptions: replace}\n";
    assert_eq!(condition_of(&rules_of(&[&base, replace]), "r"), "(evt.num Eq 1 and not proc.name In [y])");
}

#[test]
fn an_exception_that_does_not_fit_is_an_error() {
    for (exception, error) in [
        ("values: [x]", "6:13: error: this entry has no `name`"),
        ("name: a", "6:19: error: the exception \"a\" has no `fields`"),
        ("name: a, fields: []", "6:19: error: the exception \"a\" has no `fields`"),
        (
            "name: a, fields: [x.y], comps: =",
            "6:19: error: the exception \"a\" has a list of `fields`, but no list of `comps`",
        ),
        (
            "name: a, fields: [x.y, x.z], comps: [=]",
            "6:19: error: the exception \"a\" has 2 `fields`, but 1 `comps`",
        ),
        ("name: a, fields: [x.y], comps: [like]", "6:45: error: \"like\" is no operator"),
        (
            "name: a, fields: x.y, comps: =",
            "6:19: error: the exception \"a\" compares one field with a list, but by \"=\"",
        ),
        (
            "name: a, fields: x.y, values: [[1]]",
            "6:19: error: the exception \"a\" has one field, so each of its values is one text",
        ),
        (
            "name: a, fields: [x.y], values: [1]",
            "6:46: error: the exception \"a\" has several fields, so its values are rows",
        ),
        (
            "name: a, fields: [x.y], values: [[1, 2]]",
            "6:47: error: the exception \"a\" has 1 fields, but a row of 2 values",
        ),
        ("name: a, fields: [x.y], values: {b: c}", "6:19: error: `values` must be a list"),
        (
            "name: a, fields: [x.y], values: [[[[1]]]]",
            "6:48: error: a list in a list in a list: no exception means anything by it",
        ),
    ] {
        let rules = rules_of(&[&format!("{}  exceptions: [{{{exception}}}]\n", rule("evt.num = 1"))]);
        let place = error.replace("6:13", "6:16").replace("6:19", "6:22");
        assert_eq!(errors_of(&rules).len(), 1, "{exception}");
        assert!(
            errors_of(&rules)[0].ends_with(error.split_once(": ").unwrap().1),
            "{exception}: {:?} {place}",
            errors_of(&rules)
        );
    }
}
