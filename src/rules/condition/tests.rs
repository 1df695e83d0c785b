//! What conditions say, what is told of those that say nothing, and that a written one is read as it was. The snapshots
//! beside this file hold every complaint: read them as a user would when one changes.

use proptest::prelude::*;

use super::*;
use crate::{
    limits::{BRACKETS_DEPTH_MAX, CONDITION_BYTES_MAX},
    rules::source::{FileId, Sources},
};

const NOWHERE: Span = Span { file: FileId(0), start: 0, end: 0 };

fn located(text: &str) -> Located {
    let end = u32::try_from(text.len()).unwrap();
    Located { text: text.to_owned(), places: (0..=end).map(|at| (FileId(0), at)).collect() }
}

fn parsed(text: &str) -> Expr {
    parse(&located(text)).unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

/// What a user is told: the place, the message and the help.
fn refused(text: &str) -> String {
    let Err(error) = parse(&located(text)) else { panic!("{text:?} was taken") };
    let place = text.get(error.span.start as usize..error.span.end as usize).unwrap_or("");
    let help = error.help.map(|help| format!("\n    help: {help}")).unwrap_or_default();
    format!("    {}-{} {place:?}: {}{help}", error.span.start, error.span.end, error.message)
}

fn only_check(text: &str) -> Check {
    match parsed(text) {
        Expr::Check(check) => check,
        other => panic!("{text:?} is {other:?}"),
    }
}

fn value(text: &str) -> String {
    match only_check(text).right {
        Right::Value(word) => word.text,
        other => panic!("{text:?} has {other:?}"),
    }
}

/// The same tree with all places alike.
fn placeless(mut expr: Expr) -> Expr {
    fn operand(one: &mut Operand) {
        match one {
            Operand::Field(field) => field.span = NOWHERE,
            Operand::Word(word) => word.span = NOWHERE,
            Operand::Transformed { arguments: all, .. } | Operand::List(all) => {
                all.iter_mut().for_each(operand)
            }
        }
    }
    fn visit(expr: &mut Expr) {
        match expr {
            Expr::And(operands) | Expr::Or(operands) => operands.iter_mut().for_each(visit),
            Expr::Not(operand) => visit(operand),
            Expr::Macro(name) => name.span = NOWHERE,
            Expr::Check(check) => {
                check.span = NOWHERE;
                operand(&mut check.left);
                match &mut check.right {
                    Right::Nothing => {}
                    Right::Value(word) => word.span = NOWHERE,
                    Right::List(words) => words.iter_mut().for_each(|word| word.span = NOWHERE),
                    Right::Named(name) => name.span = NOWHERE,
                    Right::Operand(one) => operand(one),
                }
            }
        }
    }
    visit(&mut expr);
    expr
}

#[test]
fn and_binds_more_than_or_and_not_more_than_both() {
    for (text, brackets) in [
        ("a or b and c", "a or (b and c)"),
        ("a and b or c", "(a and b) or c"),
        ("not a and b", "(not a) and b"),
        ("not a.b = c or d", "(not (a.b = c)) or d"),
        ("a or not b and not c", "a or ((not b) and (not c))"),
    ] {
        assert_eq!(placeless(parsed(text)), placeless(parsed(brackets)), "{text}");
    }
    assert!(matches!(parsed("a and b and c"), Expr::And(operands) if operands.len() == 3));
    assert!(matches!(parsed("(a and b) and c"), Expr::And(operands) if operands.len() == 2));
}

#[test]
fn two_negations_in_a_row_are_none() {
    assert!(matches!(parsed("not not a"), Expr::Macro(_)));
    assert!(matches!(parsed("not not not(a)"), Expr::Not(_)));
    assert!(matches!(parsed("not (not a)"), Expr::Not(inner) if matches!(*inner, Expr::Not(_))));
}

#[test]
fn a_name_without_a_dot_is_a_macro_even_if_it_is_a_keyword() {
    for name in ["spawned", "not", "and", "or", "notable", "exists", "b64", "x_1"] {
        assert!(matches!(parsed(name), Expr::Macro(found) if found.text == name), "{name}");
    }
    assert_eq!(parsed("or or or and (not)").to_string(), "or or or and (not)");
    assert_eq!(only_check("not.a = 1").left.to_string(), "not.a");
}

#[test]
fn keywords_need_no_more_blanks_than_libsinsp_asks_for() {
    for text in [
        "(a)and(b)",
        "(a)or(b)",
        "a.b existsand c",
        "a.b existsor(c)",
        "not(a)and(not(b))",
        "a.b inlist",
        "a.b in(c,d)or e",
        "a.b > 1or c",
        "a.b<0xffor(c)",
        "a.b=val(c.d)and e",
        "\ta\r\nand\u{8}not\u{b}b ",
    ] {
        parsed(text);
    }
    for text in [
        "a andb",
        "aand b",
        "a or(b) and c",
        "a or(b)and(c)",
        "a.b containsx",
        "a\u{b}and b",
        "a.b [1] = c",
        "len (a.b) = 1",
    ] {
        refused(text);
    }
    parsed("a and(b) and c");
    parsed("a and(b) or c");
    parsed("a or(b) or c");
}

#[test]
fn every_operator_has_its_name() {
    for (name, operator, kind) in parser::OPERATORS {
        let right = match kind {
            parser::Kind::Unary => "",
            parser::Kind::Set => "(1, x)",
            parser::Kind::Numeric | parser::Kind::Textual | parser::Kind::Word => "1",
        };
        let check = only_check(&format!("a.b {name} {right}"));
        assert_eq!(check.operator, operator);
        assert_eq!(only_check(&check.to_string()).operator, operator);
    }
    for function in parser::FUNCTIONS {
        let text = format!("{}(a.b) = val(c.d)", function.name());
        assert_eq!(parsed(&text).to_string(), text);
    }
}

#[test]
fn quotes_come_off_and_escapes_are_undone() {
    for (written, meant) in [
        ("bare-word[]{}!*", "bare-word[]{}!*"),
        ("''", ""),
        (r#""a b""#, "a b"),
        (r#"'say "x"'"#, r#"say "x""#),
        (r#""a\"b\\c\/d""#, r#"a"b\c/d"#),
        (r"'it\'s'", "it's"),
        (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
        (r#""back\ slash""#, r"back\slash"),
        // The quote behind two backslashes does not close the text.
        (r"'a\\'b'", r"a\'b"),
        ("\"\u{e4}\nb\"", "\u{e4}\nb"),
        ("\u{a0}", "\u{a0}"),
    ] {
        assert_eq!(value(&format!("a.b = {written}")), meant, "{written}");
    }
    for written in [
        r"'a\\'",
        r#""\x41""#,
        r#""\q""#,
        r#""\'""#,
        r#"'\"'"#,
        "'",
        "\"a'",
        "'a\0'",
        "'a''",
        "a=b",
        "a b",
        "(a)",
        "",
    ] {
        refused(&format!("a.b = {written}"));
    }
}

#[test]
fn numbers_are_asked_for_only_by_operators_of_numbers() {
    for number in ["0", "+1", "-1", "1.", "1.5", "-0.12e+10", "1E-3", "0x1F", "0Xab"] {
        assert_eq!(value(&format!("a.b >= {number}")), number);
    }
    for text in ["a", "1e5", "0x", "0xg", "1.2.3", ".5", "- 1", "'1'", "1_000", "(1)"] {
        refused(&format!("a.b >= {text}"));
        assert!(
            text.contains([' ', '(']) || value(&format!("a.b = {text}")) == text.trim_matches('\''),
            "{text}"
        );
    }
}

#[test]
fn arguments_stand_in_square_brackets_right_behind_the_name() {
    for (written, meant) in [("[2]", "2"), ("[\"a b\"]", "a b"), ("['']", ""), ("[a.b(c)=,]", "a.b(c)=,")] {
        let Operand::Field(field) = only_check(&format!("a.b{written} exists")).left else {
            panic!("{written}")
        };
        assert_eq!((field.name.as_str(), field.argument.as_deref()), ("a.b", Some(meant)));
        let Operand::Transformed { index, .. } = only_check(&format!("len(c.d){written} exists")).left else {
            panic!()
        };
        assert_eq!(index.as_deref(), Some(meant));
    }
    for written in ["[]", "[ 2]", "[2 ]", "[a\"]", "[[]", "[2", "['a'b]"] {
        refused(&format!("a.b{written} exists"));
    }
}

#[test]
fn lists_hold_words_and_nothing_else() {
    let words = |text: &str| match only_check(text).right {
        Right::List(words) => words.into_iter().map(|word| (word.text, word.is_quoted)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(words("a.b in ()"), []);
    assert_eq!(
        words("a.b pmatch( a,'b c' , /d.e )"),
        [("a", false), ("b c", true), ("/d.e", false)].map(|(text, is_quoted)| (text.to_owned(), is_quoted))
    );
    for list in ["(a,)", "(,a)", "(,)", "(a b)", "((a))", "(a, (b))", "(len(c.d))", "(a", ")", "'a'", "1"] {
        refused(&format!("a.b in {list}"));
    }
    assert!(matches!(only_check("a.b intersects names").right, Right::Named(name) if name.text == "names"));
}

#[test]
fn a_wrong_escape_at_the_start_of_a_list_empties_it_as_in_libsinsp() {
    assert!(matches!(only_check(r#"a.b in ("\q")"#).right, Right::List(words) if words.is_empty()));
    for list in [r#"("\q" )"#, r#"("\q", a)"#, r#"(a, "\q")"#, r#"("\q)"#] {
        refused(&format!("a.b in {list}"));
    }
}

#[test]
fn a_modifier_is_one_only_before_a_list() {
    let modifier = |text: &str| only_check(text).modifier;
    assert_eq!(modifier("a.b = oneof (c, d)"), Some(Modifier::OneOf));
    assert_eq!(modifier("a.b contains anyof names"), Some(Modifier::AnyOf));
    assert_eq!(modifier("a.b != allof ()"), Some(Modifier::AllOf));
    assert_eq!(modifier("a.b = oneof oneof"), Some(Modifier::OneOf));
    for text in
        ["a.b = oneof", "a.b = 'oneof'", "a.b =oneof", "a.b = anyof ", "(a.b = allof )", "a.b = oneofx"]
    {
        assert_eq!(modifier(text), None, "{text}");
    }
    assert!(matches!(parsed("a.b = oneof and c"), Expr::And(_)));
    for text in [
        "a.b =oneof (c)",
        "a.b = oneof(c)",
        "a.b > oneof (1)",
        "a.b in oneof (c)",
        "a.b = oneof and_more",
        "a.b = oneof 1",
    ] {
        refused(text);
    }
}

#[test]
fn functions_take_arguments_and_val_a_field_on_the_right() {
    for text in [
        "tolower(a.b) exists",
        "b64(toupper(a.b[1])) = len(c.d)",
        r#"join(",", (a.b, len(c.d), "e", 1)) = x"#,
        r#"join("", ()) = x"#,
        r#"getopt(a.b, "nt:")[t] = x"#,
        "concat(a.b, -1, 0xff, 'c') in val(e.f[g])",
        "a.b < len(c.d)",
    ] {
        let printed = parsed(text).to_string();
        assert_eq!(printed, text.replace('\'', "\""));
    }
    parsed("len( a.b ,c.d ) > val( e.f )[1]");
    for text in [
        "val(a.b) = c",
        "len(val(a.b)) = 1",
        "a.b = val(len(c.d))",
        "a.b = val(c)",
        "a.b = val(c.d, e.f)",
        "len() = 1",
        "len(a) = 1",
        "len(a.b = 1",
        "len(a.b,) = 1",
        "len((a.b, (c.d))) = 1",
        "len((a.b,)) = 1",
        "len((a)) = 1",
        "len(a.b) and c",
        "foo(a.b) = 1",
    ] {
        refused(text);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_way_out() {
    let complaints = [
        "",
        "  ",
        "a.b",
        "a.b containz c",
        "a.b containsx",
        "a.b contains",
        "a.b contains\"x\"",
        "a.b === c",
        "a.b not in (c)",
        "a.b matches c",
        "a.b [1] = c",
        "a = 1",
        "a and",
        "a andb",
        "a && b",
        "a b",
        "a or(b) and c",
        "(a and b",
        "a)",
        "a.b = c d",
        "a.b = c,d",
        "a.b = (c, d)",
        "a.b = tolowr(c.d)",
        "a.b = 'c' 'd'",
        "a.b = 'c",
        r"a.b = 'c\'",
        r#"a.b = "c\q""#,
        r#"a.b = 'c\"'"#,
        "a.b > c",
        "a.b > 10k",
        "a.b in c.d",
        "a.b in 'c'",
        "a.b in (c d)",
        "a.b in (c,)",
        "a.b in ((c))",
        "a.b in (c",
        "a.b in oneof (c)",
        "a.b = oneof(c)",
        "a.b[] = c",
        "a.b[ 1 ] = c",
        "a.b[1 = c",
        "lem(a.b) = 1",
        "len (a.b) = 1",
        "val(a.b) = c",
        "len(val(a.b)) = c",
        "len(a) = c",
        "len(a.b = c",
        "join('', (a)) = c",
        "! a",
    ];
    let told: Vec<_> = complaints.iter().map(|text| format!("{text:?}\n{}", refused(text))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn an_error_in_a_file_is_shown_where_it_stands_there() {
    let file = "- macro: m\n  condition: >\n    evt.type = open\n    and proc.name containz sh\n";
    let mut sources = Sources::default();
    let id = sources.add("m.yaml".into(), file.to_owned());
    // As a YAML reader folds the two lines.
    let text = "evt.type = open and proc.name containz sh\n";
    let (first, second) = (file.find("evt").unwrap(), file.find("and").unwrap());
    let places = (0..=text.len()).map(|at| if at < 16 { first + at } else { second + at - 16 });
    let places = places.map(|at| (id, u32::try_from(at).unwrap())).collect();
    let error = parse(&Located { text: text.to_owned(), places }).unwrap_err();
    insta::assert_snapshot!(error.display(&sources));
}

#[test]
fn places_tell_where_each_part_stands() {
    let text = "not tolower(proc.aname[2]) in (a, 'b c') and m";
    let part = |span: Span| text.get(span.start as usize..span.end as usize).unwrap();
    let Expr::And(operands) = parsed(text) else { panic!() };
    let [Expr::Not(check), Expr::Macro(name)] = operands.as_slice() else { panic!() };
    let Expr::Check(check) = check.as_ref() else { panic!() };
    assert_eq!(part(name.span), "m");
    assert_eq!(part(check.span), "tolower(proc.aname[2]) in (a, 'b c')");
    let Operand::Transformed { arguments, .. } = &check.left else { panic!() };
    assert!(matches!(arguments.as_slice(), [Operand::Field(field)] if part(field.span) == "proc.aname[2]"));
    let Right::List(words) = &check.right else { panic!() };
    assert_eq!(words.iter().map(|word| part(word.span)).collect::<Vec<_>>(), ["a", "'b c'"]);
}

#[test]
fn brackets_are_bounded_and_so_is_the_length() {
    let nested =
        |depth: usize, open: &str, inner: &str| format!("{}{inner}{}", open.repeat(depth), ")".repeat(depth));
    parsed(&nested(BRACKETS_DEPTH_MAX, "(", "a"));
    parsed(&format!("{} = 1", nested(BRACKETS_DEPTH_MAX, "len(", "a.b")));
    for (open, inner) in [("(", "a"), ("not(", "a"), ("a and (", "b"), ("len(", "a.b")] {
        assert!(refused(&nested(BRACKETS_DEPTH_MAX + 1, open, inner)).contains("brackets are open"));
        assert!(refused(&open.repeat(100_000)).contains("brackets are open"));
    }
    let negated = format!("{}a", "not ".repeat(100_000));
    assert!(matches!(parsed(&negated), Expr::Macro(_)));
    let long = format!("a.b = '{}'", "x".repeat(CONDITION_BYTES_MAX));
    assert!(refused(&long).contains("bytes long"));
}

#[test]
fn every_check_is_found_from_left_to_right() {
    let names: Vec<_> = parsed("(a.a = 1 or not (b.b = 2 and m)) and c.c exists and not d.d in (e)")
        .checks()
        .map(|check| check.left.to_string())
        .collect();
    assert_eq!(names, ["a.a", "b.b", "c.c", "d.d"]);
}

#[test]
fn a_condition_is_written_with_as_few_quotes_and_brackets_as_can_be() {
    for (text, written) in [
        ("((a) and ((b or c)))", "a and (b or c)"),
        ("(a and b) or (c)", "a and b or c"),
        ("a and (b and c)", "a and (b and c)"),
        ("not(a.b==c)", "not a.b = c"),
        ("not (not (a))", "not (not a)"),
        ("a.b=\"c\" and a.b in( 'd',e )", "a.b = \"c\" and a.b in (\"d\", e)"),
        ("a.b['c'] = '\"'", "a.b[c] = '\"'"),
        (r#"a.b = "'\"\ ""#, r#"a.b = "'\"\ ""#),
        ("(not) and a", "(not) and a"),
    ] {
        assert_eq!(parsed(text).to_string(), written);
    }
}

/// Texts of the kinds that need quotes, and of those that do not.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("oneof".to_owned()),
        Just("and".to_owned()),
        Just("not".to_owned()),
        Just("val".to_owned()),
        "[a-z0-9/._*\\[\\]-]{1,6}",
        "[\\x01-\\x7f\u{e4}\u{2003}]{0,6}",
        "[\\\\\"'/ bn\\t]{0,6}",
    ]
}

fn words() -> impl Strategy<Value = Word> {
    (texts(), any::<bool>()).prop_map(|(text, is_quoted)| {
        // Without quotes there is only what can do without.
        let is_quoted = is_quoted || !lexer::is_bare_word(&text);
        Word { text, is_quoted, span: NOWHERE }
    })
}

fn numbers() -> impl Strategy<Value = Word> {
    "[+-]?[0-9]{1,4}(\\.[0-9]{0,2})?([eE][+-][0-9])?|0[xX][0-9a-fA-F]{1,4}".prop_map(|text| Word {
        text,
        is_quoted: false,
        span: NOWHERE,
    })
}

fn fields() -> impl Strategy<Value = Field> {
    ("[a-zA-Z][a-z0-9_]{0,3}(\\.[a-zA-Z][a-z0-9_]{0,3}){1,2}", prop::option::of(texts()))
        .prop_map(|(name, argument)| Field { name, argument, span: NOWHERE })
}

fn functions() -> impl Strategy<Value = Operand> {
    let leaf = prop_oneof![
        fields().prop_map(Operand::Field),
        numbers().prop_map(Operand::Word),
        texts().prop_map(|text| Operand::Word(Word { text, is_quoted: true, span: NOWHERE })),
    ];
    let function = |inner: BoxedStrategy<Operand>| {
        (
            prop::sample::select(&parser::FUNCTIONS),
            prop::collection::vec(inner, 1..3),
            prop::option::of(texts()),
        )
            .prop_map(|(transformer, arguments, index)| Operand::Transformed {
                transformer,
                arguments,
                index,
            })
    };
    let inner = leaf.prop_recursive(2, 8, 3, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..3);
        // A list stands in a function only.
        let with_list = prop_oneof![3 => inner.clone(), 1 => list.prop_filter_map("a list in a list", |all| {
            (!all.iter().any(|one| matches!(one, Operand::List(_)))).then_some(Operand::List(all))
        })];
        function(with_list.boxed()).boxed()
    });
    function(inner.boxed())
}

fn checks() -> impl Strategy<Value = Expr> {
    let left = prop_oneof![3 => fields().prop_map(Operand::Field), 1 => functions()];
    let val = (fields(), prop::option::of(texts())).prop_map(|(field, index)| Operand::Transformed {
        transformer: Transformer::Val,
        arguments: vec![Operand::Field(field)],
        index,
    });
    let right = prop_oneof![1 => val, 1 => functions()];
    let list = prop_oneof![
        prop::collection::vec(words(), 0..4).prop_map(Right::List),
        "[a-zA-Z][a-z_]{0,5}"
            .prop_filter("a keyword", |name| !["and", "or", "not"].contains(&name.as_str())
                && !name.starts_with("and_")
                && !name.starts_with("or_")
                && !name.starts_with("not_"))
            .prop_map(|text| Right::Named(Name { text, span: NOWHERE })),
    ];
    let modifier =
        prop::option::of(prop::sample::select(&[Modifier::OneOf, Modifier::AnyOf, Modifier::AllOf]));
    (left, prop::sample::select(&parser::OPERATORS), words(), numbers(), list, right, modifier, any::<bool>())
        .prop_map(|(left, (_, operator, kind), word, number, list, right, modifier, is_operand)| {
            let is_textual = matches!(kind, parser::Kind::Textual | parser::Kind::Word);
            let modifier = modifier.filter(|_| is_textual);
            let right = match kind {
                parser::Kind::Unary => Right::Nothing,
                _ if modifier.is_some() => list,
                _ if is_operand => Right::Operand(right),
                parser::Kind::Numeric => Right::Value(number),
                parser::Kind::Set => list,
                parser::Kind::Textual | parser::Kind::Word => Right::Value(word),
            };
            Expr::Check(Check { left, operator, modifier, right, span: NOWHERE })
        })
}

fn conditions() -> impl Strategy<Value = Expr> {
    let name = prop_oneof![4 => "[a-zA-Z][a-z0-9_]{0,5}", 1 => prop::sample::select(&["and", "or", "not", "b64"]).prop_map(str::to_owned)];
    let leaf = prop_oneof![
        3 => checks(),
        1 => name.prop_map(|text| Expr::Macro(Name { text, span: NOWHERE })),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|operand| Expr::Not(Box::new(operand))),
        ]
    })
}

/// What a condition may be made of, and what not, in any order.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(&[
        "and", "or", "not", " ", " ", " ", "(", ")", "a", "a.b", "=", "in", "exists", "contains", "'", "\"",
        "\\", ",", "[", "]", "1", "0x", "len(", "val(", "oneof", "\0", "\u{b}", "\u{e4}", "not(", "or(",
        "(c, d)", "!=", "x y",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_tree(expr in conditions()) {
        let text = expr.to_string();
        let read = parse(&located(&text)).map_err(|error| TestCaseError::fail(format!("{text:?}: {error:?}")))?;
        prop_assert_eq!(placeless(read), expr, "{}", text);
    }

    #[test]
    fn whatever_is_written_is_read_or_refused_in_its_place(text in prop_oneof![scraps(), "\\PC{0,40}"]) {
        match parse(&located(&text)) {
            Ok(expr) => {
                let again = parsed(&expr.to_string());
                prop_assert_eq!(placeless(again), placeless(expr));
            }
            Err(error) => {
                let mut sources = Sources::default();
                sources.add("x".into(), text.clone());
                prop_assert!(error.span.start <= error.span.end && error.span.start as usize <= text.len());
                prop_assert!(error.display(&sources).to_string().starts_with("x:"));
            }
        }
    }
}
