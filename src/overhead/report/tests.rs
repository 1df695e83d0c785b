//! What holds for the report of any figures: it can be read, says everything, and nothing in it is on anything else.

use proptest::{collection::vec, option, prelude::*};

use super::{svg::TextBox, *};
use crate::overhead::figures::{
    Cell, Curve, Funnel, Latency, Line, Machine, Percentiles, Point, Row, Spread, Way,
};

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 1e-3..1e6_f64,
        2 => 0.001..1.1_f64,
        1 => prop::num::f64::ANY,
        1 => prop::sample::select(vec![0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE]),
    ]
}

/// Names as they are, longer ones, and what nobody wants in a page.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z ,]{0,60}",
        1 => "[W@%m]{60}",
        1 => any::<String>(),
        1 => prop::sample::select(vec![
            "</title></svg><script>alert(1)</script>".to_owned(),
            "\" onload=\"x\" '".to_owned(),
            "]]>&#0;&lt;|`*_[x](javascript:y)\u{202e}\u{0}\u{fffe}\u{ffff}".to_owned(),
            "漢字🦅".repeat(20),
        ]),
    ]
}

fn spread() -> impl Strategy<Value = Spread> {
    (number(), number(), number()).prop_map(|(lower, median, upper)| Spread { lower, median, upper })
}

fn percentiles() -> impl Strategy<Value = Percentiles> {
    (number(), number(), number(), vec((number(), number()), 0..5))
        .prop_map(|(p50, p99, p999, curve)| Percentiles { p50, p99, p999, curve })
}

fn latency() -> impl Strategy<Value = Latency> {
    (percentiles(), percentiles()).prop_map(|(native, watched)| Latency { native, watched })
}

fn cell() -> impl Strategy<Value = Cell> {
    let way = prop_oneof![4 => (0..9_u8).prop_map(|number| format!("way-{number}")), 1 => name()];
    let rates = (option::of(number()), option::of(number()), option::of(number()), option::of(any::<u64>()));
    (way, option::of(spread()), rates, option::of(latency()), option::of(name())).prop_map(
        |(way, speed, (stops_per_s, records_per_s, tracer_cpu_s, tracer_peak_kib), latency, skipped)| Cell {
            way,
            speed,
            stops_per_s,
            records_per_s,
            tracer_cpu_s,
            tracer_peak_kib,
            latency,
            skipped,
        },
    )
}

fn funnel() -> impl Strategy<Value = Funnel> {
    (any::<u64>(), any::<u64>(), 0..3_u64).prop_map(|(calls, trapped, kept)| Funnel { calls, trapped, kept })
}

fn row() -> impl Strategy<Value = Row> {
    let group = prop::sample::select(vec![Group::Micro, Group::Macro]);
    let what = (name(), group, any::<u64>(), spread());
    (what, option::of(funnel()), vec(cell(), 0..9), option::weighted(0.2, name())).prop_map(
        |((title, group, units, native_us), funnel, cells, skipped)| Row {
            id: "row".to_owned(),
            title,
            group,
            units,
            native_us,
            funnel,
            cells,
            skipped,
        },
    )
}

fn curve() -> impl Strategy<Value = Curve> {
    let line = (name(), vec((number(), spread()), 0..6)).prop_map(|(title, points)| Line {
        title,
        points: points.into_iter().map(|(x, y)| Point { x, y }).collect(),
    });
    (name(), name(), name(), vec(line, 0..20)).prop_map(|(title, x, y, lines)| Curve {
        id: "curve".to_owned(),
        title,
        x,
        y,
        lines,
    })
}

fn machine() -> impl Strategy<Value = Machine> {
    (name(), any::<u32>(), option::of(any::<u32>()), name(), any::<u64>(), option::of(spread())).prop_map(
        |(cpu, cpus, quota_millicpus, kernel, memory_mib, foreign_percent)| Machine {
            cpu,
            cpus,
            quota_millicpus,
            kernel,
            memory_mib,
            foreign_percent,
        },
    )
}

fn any_figures() -> impl Strategy<Value = Figures> {
    let ways = vec((name(), name()), 0..9).prop_map(|names| {
        let names = names.into_iter().enumerate();
        names.map(|(number, (title, prefix))| Way { id: format!("way-{number}"), title, prefix }).collect()
    });
    // Few rows mostly: a test has many cases. Now and then as many as there may ever be.
    let rows = prop_oneof![9 => vec(row(), 0..5), 1 => vec(row(), 40)];
    (name(), name(), machine(), any::<u32>(), ways, rows, vec(curve(), 0..3)).prop_map(
        |(version, date, machine, rounds, ways, rows, curves)| Figures {
            version,
            date,
            machine,
            rounds,
            ways,
            rows,
            curves,
        },
    )
}

fn is_over(one: &TextBox, other: &TextBox) -> bool {
    one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom
}

/// A file of figures as small as one can be with a bit of everything.
fn sample() -> Figures {
    let spread = |median: f64| Spread { lower: median * 0.75, median, upper: median * 1.5 };
    let way =
        |id: &str, title: &str| Way { id: id.to_owned(), title: title.to_owned(), prefix: String::new() };
    let cell = |way: &str, speed: Option<f64>, skipped: Option<&str>| Cell {
        way: way.to_owned(),
        speed: speed.map(spread),
        stops_per_s: None,
        records_per_s: None,
        tracer_cpu_s: None,
        tracer_peak_kib: None,
        latency: None,
        skipped: skipped.map(str::to_owned),
    };
    let row = |title: &str, cells: Vec<Cell>, skipped: Option<&str>| Row {
        id: title.to_owned(),
        title: title.to_owned(),
        group: Group::Micro,
        units: 1000,
        native_us: spread(2.5),
        funnel: Some(Funnel { calls: 70_000, trapped: 1000, kept: 3 }).filter(|_| skipped.is_none()),
        cells,
        skipped: skipped.map(str::to_owned),
    };
    Figures {
        version: "1.2.3".to_owned(),
        date: "2026-11-29".to_owned(),
        machine: Machine {
            cpu: "A | CPU".to_owned(),
            cpus: 2,
            quota_millicpus: Some(250),
            kernel: "6.1".to_owned(),
            memory_mib: 2048,
            foreign_percent: Some(spread(1.0)),
        },
        rounds: 5,
        ways: vec![way("native", "native"), way("ptrace", "ptrace, one rule"), way("strace", "strace")],
        rows: vec![
            row("open", vec![cell("ptrace", Some(0.5), None), cell("strace", Some(0.033), None)], None),
            row(
                "fork",
                vec![cell("ptrace", Some(0.91), None), cell("strace", None, Some("no <strace>"))],
                None,
            ),
            row("web server", vec![], Some("no nginx in PATH")),
        ],
        curves: vec![],
    }
}

#[test]
fn the_table_tells_each_figure_and_each_reason() {
    insta::assert_snapshot!(markdown(&sample()), @r"
    creance: 1.2.3; date: 2026-11-29; rounds: 5 of each row and way, by turns; CPUs: 2 of A \| CPU; quota: 0.25 CPUs; memory: 2,048 MiB; kernel: Linux 6.1; taken by others: 1.00 (0.750 to 1.50) % of the CPUs.

    | | native | ptrace, one rule | strace |
    |---|---|---|---|
    | open | 2.50 us (1.88 to 3.75) | 0.50 (0.38 to 0.75) | 0.033 (0.025 to 0.050) |
    | fork | 2.50 us (1.88 to 3.75) | 0.91 (0.68 to 1.36) | – |

    Not measured:

    - fork, strace: no &lt;strace&gt;
    - web server: no nginx in PATH

    | | calls | trapped | kept |
    |---|---|---|---|
    | open | 70,000 | 1,000 | 3 |
    | fork | 70,000 | 1,000 | 3 |
    ");
}

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().join("made");
    write(&sample(), &directory).expect("it can be written");
    assert_eq!(read(&directory.join("figures.json")).expect("it can be read"), sample());
    for (name, text) in [("report.html", html(&sample())), ("report.md", markdown(&sample()))] {
        assert_eq!(fs::read_to_string(directory.join(name)).expect("it is there"), text);
    }
    let missing = read(&directory.join("missing.json"));
    assert!(matches!(missing, Err(ReportError::Read { .. })), "{missing:?}");
    let other = read(&directory.join("report.md"));
    assert!(matches!(other, Err(ReportError::Parse { .. })), "{other:?}");
}

#[test]
fn the_page_loads_nothing() {
    let page = html(&sample());
    for word in ["http:", "https:", "url(", "@import", "<script", "<img", "<link", " src="] {
        // The names of the two languages are addresses that nobody loads.
        let text = page.replace("xmlns=\"http://www.w3.org/", "");
        assert!(!text.contains(word), "{word}");
    }
}

/// All text of a page, and of the attributes that are read out.
fn words(page: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(page, options);
    let document = document.unwrap_or_else(|error| panic!("{error}:\n{page}"));
    document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_page_is_well_formed_and_tells_every_name(figures in any_figures()) {
        let page = html(&figures);
        let words = words(&page);
        let plain = |text: &str| -> String { words_of(text) };
        let names = figures.rows.iter().map(|row| &row.title).chain(figures.ways.iter().map(|way| &way.title));
        for name in names {
            prop_assert!(words.contains(&plain(name)), "{name:?}");
        }
        for row in &figures.rows {
            let reasons = row.cells.iter().filter(|cell| cell.speed.is_none()).filter_map(|cell| cell.skipped.as_ref());
            let reasons: Vec<_> = row.skipped.iter().collect::<Vec<_>>().into_iter().chain(reasons).collect();
            let shown = if row.skipped.is_some() { 1 } else { reasons.len() };
            for reason in reasons.into_iter().take(shown) {
                prop_assert!(words.contains(&plain(reason)), "{reason:?}");
            }
        }
    }

    #[test]
    fn no_text_of_a_drawing_is_on_another_or_outside(figures in any_figures()) {
        for drawing in drawings(&figures) {
            for (at, text) in drawing.texts.iter().enumerate() {
                let is_inside = text.left >= 0.0 && text.right <= drawing.width
                    && text.top >= 0.0 && text.bottom <= drawing.height;
                prop_assert!(is_inside, "{text:?} in {} by {}", drawing.width, drawing.height);
                for other in drawing.texts.iter().skip(at + 1) {
                    prop_assert!(!is_over(text, other), "{text:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn every_line_of_the_markdown_table_has_as_many_cells(figures in any_figures()) {
        let table = markdown(&figures);
        let cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let lines = table.lines().skip_while(|line| !line.starts_with("| |"));
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        for line in &lines {
            prop_assert_eq!(cells(line), figures.ways.len().max(1) + 2, "{}", line);
        }
        let shown = figures.rows.iter().filter(|row| row.skipped.is_none()).count();
        prop_assert_eq!(lines.len(), shown + 2);
    }
}

/// A text as a reader of XML gives it back.
fn words_of(text: &str) -> String {
    words(&format!("<p>{}</p>", escape(text)))
}
