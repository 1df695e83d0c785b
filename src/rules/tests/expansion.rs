//! Macros and lists, put into conditions.

use super::{all_told, condition_of, errors_of, rules_of};

/// A rule with this condition, named `r`.
fn rule(condition: &str) -> String {
    format!("- rule: r\n  desc: d\n  condition: {condition}\n  output: o\n  priority: info\n")
}

/// A macro.
fn a_macro(name: &str, condition: &str) -> String {
    format!("- macro: {name}\n  condition: {condition}\n")
}

/// A list.
fn list(name: &str, items: &str) -> String {
    format!("- list: {name}\n  items: [{items}]\n")
}

#[test]
fn macros_stand_for_their_conditions_as_a_whole() {
    let text =
        a_macro("a", "evt.num = 1 or evt.num = 2") + &rule("not a and b") + &a_macro("b", "a or evt.num = 3");
    let rules = rules_of(&[&text]);
    assert_eq!(all_told(&rules), [""; 0]);
    let a = "(evt.num Eq 1 or evt.num Eq 2)";
    assert_eq!(condition_of(&rules, "r"), format!("(not {a} and ({a} or evt.num Eq 3))"));
}

#[test]
fn a_macro_sees_those_before_it_and_a_rule_sees_all_of_its_file() {
    let text = a_macro("a", "b") + &a_macro("b", "evt.num = 1") + &rule("a and b");
    let rules = rules_of(&[&text]);
    assert_eq!(errors_of(&rules), ["0.yaml:2:14: error: there is no macro `b`"]);
    assert_eq!(
        rules.diagnostics[0].help.as_deref(),
        Some("it is defined further down: a macro sees only those above it")
    );
    assert!(rules.rules.is_empty(), "a rule without a part of its condition is none");
    let later =
        a_macro("a", "evt.num = 1") + &a_macro("b", "evt.num = 2") + &a_macro("a", "b") + &rule("a and b");
    assert_eq!(condition_of(&rules_of(&[&later]), "r"), "(evt.num Eq 2 and evt.num Eq 2)");
}

#[test]
fn a_macro_of_a_later_file_comes_too_late() {
    let rules = rules_of(&[&rule("late"), &a_macro("late", "evt.num = 1")]);
    assert_eq!(errors_of(&rules), ["0.yaml:3:14: error: there is no macro `late`"]);
    let help = "it is defined in a later file: give that file first with -r";
    assert_eq!(rules.diagnostics[0].help.as_deref(), Some(help));
    assert_eq!(errors_of(&rules_of(&[&a_macro("late", "evt.num = 1"), &rule("late")])), [""; 0]);
}

#[test]
fn an_unknown_macro_comes_with_the_nearest_name() {
    let rules = rules_of(&[&(a_macro("open_write", "evt.num = 1") + &rule("opne_write and bin_dir"))]);
    assert_eq!(
        errors_of(&rules),
        [
            "0.yaml:5:14: error: there is no macro `opne_write`",
            "0.yaml:5:29: error: there is no macro `bin_dir`"
        ]
    );
    let others = "is it defined in another rule file? give that file first with -r";
    let help: Vec<_> = rules.diagnostics.iter().filter_map(|diagnostic| diagnostic.help.clone()).collect();
    assert_eq!(help, [format!("did you mean `open_write`? or {others}"), others.to_owned()]);
}

#[test]
fn what_a_file_that_cannot_be_read_may_define_is_not_called_unknown() {
    let rules = rules_of(&["- macro: a\n  condition: [\n", &rule("a")]);
    assert_eq!(errors_of(&rules).len(), 1, "{:?}", errors_of(&rules));
    assert!(rules.rules.is_empty());
}

#[test]
fn a_macro_that_names_itself_is_an_error() {
    let text = a_macro("a", "evt.num = 1") + &a_macro("b", "a") + &a_macro("a", "b or evt.num = 2");
    assert_eq!(
        errors_of(&rules_of(&[&(text + &rule("a"))])),
        ["0.yaml:6:14: error: the macro `b` names itself, by way of others or at once",]
    );
    assert_eq!(errors_of(&rules_of(&[&a_macro("a", "a")])), ["0.yaml:2:14: error: there is no macro `a`"]);
}

#[test]
fn lists_stand_for_their_items_wherever_they_are_defined() {
    let text = rule("proc.name in (x, shells, none) and proc.pname = one and proc.name intersects (none)")
        + &list("shells", "bash, 'a b', \"'c d'\"")
        + &list("none", "")
        + &list("one", "only");
    let rules = rules_of(&[&text]);
    assert_eq!(all_told(&rules), [""; 0]);
    assert_eq!(
        condition_of(&rules, "r"),
        "(proc.name In [x|bash|a b|c d] and proc.pname Eq only and proc.name Intersects [])"
    );
}

#[test]
fn a_word_that_is_no_list_stays_a_word() {
    let rules = rules_of(&[&rule("proc.name in (nothing) and proc.name in nothing")]);
    assert_eq!(all_told(&rules), [""; 0]);
    assert_eq!(condition_of(&rules, "r"), "(proc.name In [nothing] and proc.name In [nothing])");
}

#[test]
fn lists_in_lists_are_put_in_as_falco_does_it() {
    let inner_first = list("c", "x, c") + &list("b", "c, y") + &rule("proc.name in (b)");
    assert_eq!(condition_of(&rules_of(&[&inner_first]), "r"), "proc.name In [x|c|y]");
    let outer_first = list("a", "b") + &list("b", "c, y") + &list("c", "x") + &rule("proc.name in (a)");
    assert_eq!(condition_of(&rules_of(&[&outer_first]), "r"), "proc.name In [x|y]");
    let three = list("c", "x") + &list("b", "c, y") + &list("a", "b") + &rule("proc.name in (a)");
    let rules = rules_of(&[&three]);
    assert_eq!(condition_of(&rules, "r"), "proc.name In [c|y]");
    assert_eq!(
        all_told(&rules),
        ["0.yaml:4:11: warning: `c` is the name of a list, but stays a mere word here"]
    );
}

#[test]
fn empty_lists_take_their_commas_with_them() {
    let empty = list("outer", "inner") + &list("inner", "");
    for (condition, items) in [
        ("(outer)", ""),
        ("(outer, x)", "x"),
        ("(x, outer)", "x"),
        ("(x, outer, y)", "x|y"),
        ("(inner, outer)", ""),
    ] {
        let rules = rules_of(&[&(empty.clone() + &rule(&format!("proc.name in {condition}")))]);
        assert_eq!(errors_of(&rules), [""; 0], "{condition}");
        assert_eq!(condition_of(&rules, "r"), format!("proc.name In [{items}]"), "{condition}");
    }
}

#[test]
fn lists_are_appended_and_replaced() {
    let text =
        list("l", "a") + "- list: l\n  items: [b]\n  override: {items: append}\n" + &rule("proc.name in (l)");
    assert_eq!(condition_of(&rules_of(&[&text]), "r"), "proc.name In [a|b]");
    assert_eq!(condition_of(&rules_of(&[&text, &list("l", "c")]), "r"), "proc.name In [c]");
}

#[test]
fn what_doubles_again_and_again_ends_at_the_bound() {
    let mut macros = a_macro("m0", "evt.num in (1, 2)");
    let mut lists = String::new();
    for level in 1..60 {
        macros += &a_macro(&format!("m{level}"), &format!("m{} or m{0}", level - 1));
        lists += &list(&format!("l{level}"), &format!("l{}, l{0}", level + 1));
    }
    let rules = rules_of(&[&(macros + &rule("m59"))]);
    assert!(
        errors_of(&rules)[0].contains("holds too much, with its macros put in"),
        "{:?}",
        errors_of(&rules)
    );
    for last in ["", "x"] {
        let rules = rules_of(&[&(lists.clone() + &list("l60", last) + &rule("proc.name in (l1)"))]);
        assert!(
            errors_of(&rules)[0].contains("holds too much, with its lists put in"),
            "{:?}",
            errors_of(&rules)
        );
    }
    let mut deep = a_macro("m0", "evt.num = 1");
    for level in 1..1000 {
        deep += &a_macro(&format!("m{level}"), &format!("not m{}", level - 1));
    }
    assert!(errors_of(&rules_of(&[&deep])).iter().any(|error| error.contains("with its macros put in")));
}

#[test]
fn an_alias_used_a_thousand_times_does_not_make_a_short_file_large() {
    let items = vec!["abcdefghijklmnopqrstuvwxyz"; 2000].join(",");
    let mut text = format!("- list: l\n  items: &i [{items}]\n");
    for index in 0..5000 {
        text += &format!("- {{list: l{index}, items: *i}}\n");
    }
    let errors = errors_of(&rules_of(&[&text]));
    assert!(errors[0].contains("everything that its aliases stand for"), "{}", errors[0]);
}

#[test]
fn what_nothing_uses_is_told() {
    let text =
        list("inner", "a") + &list("outer", "inner") + &a_macro("m", "evt.num = 1") + &rule("evt.num = 1");
    assert_eq!(
        all_told(&rules_of(&[&text])),
        [
            "0.yaml:3:9: warning: nothing uses the list `outer`",
            "0.yaml:5:10: warning: nothing uses the macro `m`",
        ]
    );
}

#[test]
fn fields_of_enter_events_are_told_once_wherever_they_are_used() {
    let text = a_macro("m", "evt.dir = <")
        + &rule("m and evt.latency > 1")
        + "- rule: s\n  desc: d\n  condition: m\n  output: '%evt.dir'\n  priority: info\n";
    assert_eq!(
        all_told(&rules_of(&[&text])),
        [
            "0.yaml:2:14: warning: `evt.dir` says nothing any more: there are no enter events",
            "0.yaml:5:20: warning: `evt.latency` says nothing any more: there are no enter events",
            "0.yaml:11:11: warning: the output shows `evt.dir`, which says nothing since there are no enter events",
        ]
    );
}

#[test]
fn rules_of_other_sources_do_not_make_falco_refuse_a_file() {
    let rules = rules_of(&[&format!("{}  source: k8s_audit\n", rule("nope"))]);
    assert_eq!(all_told(&rules), ["0.yaml:3:14: warning: there is no macro `nope`"]);
}
