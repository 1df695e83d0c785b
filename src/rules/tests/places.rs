//! Places: every byte of a text that was taken out of a file is found in the file again.

use super::{behind, errors_of, rules_of};
use crate::rules::{
    source::{FileId, Located},
    yaml,
};

/// The value of the key `c` of the first entry.
fn value_of(text: &str) -> Located {
    let tree = yaml::parse(text, FileId(0)).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
    let value = tree.documents().next().and_then(|root| root.get("c")).map(yaml::Value::located);
    value.expect("the file has a value")
}

#[test]
fn every_kind_of_scalar_knows_its_places() {
    for (file, text, bytes) in [
        ("c: plain", "plain", "plain"),
        ("c: several words # no", "several words", "several words"),
        ("c: on\n   two\n\n   lines", "on two\nlines", "on\ntwo\nlines"),
        ("c: 'it''s  one'", "it's  one", "it's  one"),
        ("c: \"a \\\"b\\\" \\x41\\u00e9c\"", "a \"b\" A\u{e9}c", "a \\b\\ \\\\\\c"),
        ("c: \"one \\\n  two\"", "one two", "one two"),
        ("c: \"one\n  two\n\n  three\"", "one two\nthree", "one\ntwo\nthree"),
        ("c: |\n  one\n  two\n", "one\ntwo\n", "one\ntwo\n"),
        ("c: >-\n  one\n  two\n\n  three\n", "one two\nthree", "one\ntwo\nthree"),
        ("c: >  # why\n\n  one\n", "\none\n", "oone\n"),
        ("c: &name !!str \"one\"", "one", "one"),
        ("{a: b, c: 'd e', f: g}", "d e", "d e"),
    ] {
        let located = value_of(file);
        assert_eq!(located.text, text, "{file:?}");
        assert_eq!(located.places.len(), text.len() + 1, "{file:?}");
        assert_eq!(behind(&located, file), bytes, "{file:?}");
        assert!(located.places.is_sorted(), "{file:?}: {:?}", located.places);
    }
}

#[test]
fn places_count_bytes_even_behind_other_alphabets_and_windows_line_ends() {
    for file in
        ["\u{feff}# \u{fc}\u{1f985}\nc: >\n  \u{e9}a\n  z", "# \u{fc}\r\nc: |\r\n  \u{e9}a\r\n  z\r\n"]
    {
        let located = value_of(file);
        let found = |letter: char| {
            let at = located.text.find(letter).expect("the letter is in the text");
            file.get(usize::try_from(located.places[at].1).unwrap()..).unwrap().chars().next().unwrap()
        };
        assert_eq!((found('\u{e9}'), found('a'), found('z')), ('\u{e9}', 'a', 'z'), "{file:?}");
    }
}

#[test]
fn brackets_and_quotes_need_no_indentation() {
    let file = "- list: a\n  items: [\n  # it's\n  \"x y\", [\n  ] ]\n";
    let error = |file: &str| yaml::parse(file, FileId(0)).err();
    assert_eq!(error(file), None);
    assert_eq!(error("- c: [\na,\n'it''s\nb'\n]\n- d: [\n]\n"), None);
    assert_eq!(error("- e:\n    c: 'one\ntwo'\n"), None);
    let text = "- list: a\n  items: [\none,\n  two\n  ]\n- rule: r\n  condition: x y\n";
    let tree = yaml::parse(text, FileId(0)).expect("the file is read");
    let root: Vec<_> = tree.documents().next().and_then(yaml::Value::items).unwrap().collect();
    let two = root[0].get("items").and_then(yaml::Value::items).and_then(|mut items| items.nth(1)).unwrap();
    assert_eq!(behind(&two.located(), text), "two");
    assert_eq!(behind(&root[1].get("condition").unwrap().located(), text), "x y");
}

#[test]
fn what_is_no_yaml_is_told_at_its_place() {
    let rules = rules_of(&["- rule: a\n  desc: [\n"]);
    assert_eq!(errors_of(&rules).len(), 1);
    assert!(
        errors_of(&rules)[0].starts_with("0.yaml:3:1: error: this is no YAML: "),
        "{:?}",
        errors_of(&rules)
    );
    let rules = rules_of(&["- &a [*a]\n"]);
    assert_eq!(errors_of(&rules), ["0.yaml:1:7: error: an alias in the node that it names"]);
    let deep = format!("- {}", "[".repeat(100));
    assert!(errors_of(&rules_of(&[&deep]))[0].contains("deeper than 64"));
}

#[test]
fn an_unknown_macro_is_told_at_its_exact_place() {
    let condition = "  condition: >\n    evt.type = open and\n    (proc.name = a or\n     nothing_of_it)\n";
    let rules = rules_of(&[&format!("- macro: m\n{condition}")]);
    assert_eq!(errors_of(&rules), ["0.yaml:5:6: error: there is no macro `nothing_of_it`"]);
    let quoted = "- macro: m\n  condition: \"proc.name = \\\"a\\\" and\n    nothing_of_it\"\n";
    assert_eq!(errors_of(&rules_of(&[quoted])), ["0.yaml:3:5: error: there is no macro `nothing_of_it`"]);
}

#[test]
fn an_error_in_an_appended_condition_stands_in_the_file_of_the_appendix() {
    let first = "- macro: m\n  condition: proc.name = a\n";
    let second = "- macro: m\n  condition: and (nope)\n  override: {condition: append}\n";
    assert_eq!(errors_of(&rules_of(&[first, second])), ["1.yaml:2:19: error: there is no macro `nope`"]);
}

#[test]
fn many_places_without_indentation_are_read_in_a_few_attempts() {
    let list = "- list: a\n  items: [\n  x, y, # ]\n  ]\n- {list: b, items: [\n]}\n- list: c\n  items: {\r\n\r\n  }\r\n";
    assert!(yaml::parse(&list.repeat(2000), FileId(0)).is_ok());
    let hopeless = "- a: [\n]\n- b: 'x\n- c: [\n]\n".repeat(2000);
    assert!(yaml::parse(&hopeless, FileId(0)).is_err());
}
