//! The figures as tables: in the page, and as Markdown.

use std::fmt::Write as _;

use super::{
    bars::reason,
    looks::{Look, cells, looks},
    text::{self, escape, figure, markdown},
};
use crate::overhead::figures::{Cell, Curve, Figures, Funnel, Group, Row, Spread};

/// Speeds at which a cell is shaded one step more: what is below the last is the slowest.
const SHADES: [f64; 5] = [0.95, 0.8, 0.5, 0.2, 0.05];

/// All speeds, a row a line and a way a column. `looks` of the columns are those of the charts.
pub(super) fn speeds(figures: &Figures) -> String {
    let ways = looks(figures);
    let room = 336 + ways.len().saturating_sub(1) * 104;
    let mut table =
        format!("<table class=\"speeds\" style=\"min-width:{room}px\"><thead><tr><th scope=\"col\">row</th>");
    table.push_str("<th scope=\"col\" class=\"number\">native</th>");
    for look in ways.iter().skip(1) {
        add(&mut table, &format!("<th scope=\"col\" class=\"number\">{}</th>", named(look)));
    }
    table.push_str("</tr></thead>");
    for (group, name) in [(Group::Micro, "one thing in a loop"), (Group::Macro, "real programs")] {
        let mut rows = figures.rows.iter().filter(|row| row.group == group).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let columns = ways.len().max(1) + 1;
        add(&mut table, &format!("<tbody><tr><th scope=\"rowgroup\" colspan=\"{columns}\">{name}</th></tr>"));
        for row in rows {
            add(&mut table, &speed_line(figures, row, &ways));
        }
        table.push_str("</tbody>");
    }
    table.push_str("</table>");
    table
}

fn add(text: &mut String, more: &str) {
    text.push_str(more);
}

/// A way's letter and name.
fn named(look: &Look) -> String {
    format!("<b class=\"key\">{}</b> {}", escape(&look.key), escape(&look.title))
}

fn speed_line(figures: &Figures, row: &Row, ways: &[Look]) -> String {
    let mut line = format!("<tr><th scope=\"row\">{}</th>", escape(&row.title));
    if let Some(reason) = &row.skipped {
        let columns = ways.len().max(1);
        add(&mut line, &format!("<td colspan=\"{columns}\" class=\"none\">{}</td></tr>", escape(reason)));
        return line;
    }
    add(&mut line, &format!("<td class=\"number\">{}</td>", time(row.native_us)));
    let cells = cells(figures, row);
    for look in ways.iter().skip(1) {
        let cell = cells.iter().find(|(other, _)| other.number == look.number).map(|(_, cell)| *cell);
        add(&mut line, &speed_cell(cell));
    }
    line.push_str("</tr>");
    line
}

fn speed_cell(cell: Option<&Cell>) -> String {
    match cell.map(|cell| (cell.speed, reason(cell))) {
        None => format!("<td class=\"none\">{}</td>", text::NONE),
        // Cut in the page where it is long: all of it is in the table of all figures.
        Some((None, reason)) => {
            format!("<td class=\"none\"><div class=\"cut\">{}</div></td>", escape(reason))
        }
        Some((Some(speed), _)) => {
            let shade = SHADES.iter().filter(|least| speed.median < **least).count();
            format!("<td class=\"number shade-{shade}\">{}</td>", two_lines(speed, text::ratio))
        }
    }
}

fn time(us: Spread) -> String {
    let [median, lower, upper] = text::time(us);
    format!("{median}<br/><small>{lower} to {upper}</small>")
}

/// The median, and the quartiles in small below it.
fn two_lines(spread: Spread, show: fn(f64) -> String) -> String {
    format!("{}<br/><small>{} to {}</small>", show(spread.median), show(spread.lower), show(spread.upper))
}

/// What else is known of each row in each way.
pub(super) fn details(figures: &Figures) -> String {
    let mut table = String::from("<table class=\"details\"><thead><tr>");
    let heads = [
        "row",
        "way",
        "speed",
        "stops/s",
        "records/s",
        "CPU of the tracer, s",
        "its memory, MiB",
        "p50, us",
        "p99, us",
        "p99.9, us",
    ];
    for (at, head) in heads.iter().enumerate() {
        let class = if at < 2 { "" } else { " class=\"number\"" };
        add(&mut table, &format!("<th scope=\"col\"{class}>{head}</th>"));
    }
    table.push_str("</tr></thead>");
    for row in figures.rows.iter().filter(|row| row.skipped.is_none() && !row.cells.is_empty()) {
        table.push_str("<tbody>");
        let cells = cells(figures, row);
        for (at, (look, cell)) in cells.iter().enumerate() {
            table.push_str("<tr>");
            if at == 0 {
                let (title, units) = (escape(&row.title), text::count(row.units));
                let lines = cells.len();
                let head = format!(
                    "<th scope=\"rowgroup\" rowspan=\"{lines}\">{title}<br/><small>{units} in a run</small></th>"
                );
                table.push_str(&head);
            }
            add(&mut table, &format!("<td>{}</td>{}</tr>", named(look), detail_cells(cell)));
        }
        table.push_str("</tbody>");
    }
    table.push_str("</table>");
    table
}

fn detail_cells(cell: &Cell) -> String {
    let Some(speed) = cell.speed else {
        return format!("<td colspan=\"8\" class=\"none\">{}</td>", escape(reason(cell)));
    };
    let shown = |value: Option<f64>| value.map_or(text::NONE.to_owned(), figure);
    let memory = cell.tracer_peak_kib.map(|kib| text::float(kib) / 1024.0);
    let mut cells = vec![two_lines(speed, text::ratio), shown(cell.stops_per_s), shown(cell.records_per_s)];
    cells.extend([shown(cell.tracer_cpu_s), shown(memory)]);
    match &cell.latency {
        None => cells.extend([text::NONE; 3].map(str::to_owned)),
        Some(latency) => {
            let (native, watched) = (&latency.native, &latency.watched);
            let pairs = [(watched.p50, native.p50), (watched.p99, native.p99), (watched.p999, native.p999)];
            let pairs = pairs.map(|(watched, native)| {
                format!("{}<br/><small>native {}</small>", figure(watched), figure(native))
            });
            cells.extend(pairs);
        }
    }
    cells.into_iter().map(|cell| format!("<td class=\"number\">{cell}</td>")).collect()
}

/// The points of a curve: a line for each x, a column for each of its lines.
pub(super) fn points(curve: &Curve) -> String {
    let mut xs: Vec<f64> = curve.lines.iter().flat_map(|line| &line.points).map(|point| point.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let mut table = format!("<table class=\"points\"><caption>{}</caption><thead><tr>", escape(&curve.title));
    add(&mut table, &format!("<th scope=\"col\" class=\"number\">{}</th>", escape(&curve.x)));
    for line in &curve.lines {
        let (title, unit) = (escape(&line.title), escape(&curve.y));
        add(
            &mut table,
            &format!("<th scope=\"col\" class=\"number\">{title}<br/><small>{unit}</small></th>"),
        );
    }
    table.push_str("</tr></thead><tbody>");
    for x in xs {
        add(&mut table, &format!("<tr><th scope=\"row\" class=\"number\">{}</th>", text::tick(x)));
        for line in &curve.lines {
            let point = line.points.iter().find(|point| point.x.total_cmp(&x).is_eq());
            let shown = point.map_or(text::NONE.to_owned(), |point| two_lines(point.y, figure));
            add(&mut table, &format!("<td class=\"number\">{shown}</td>"));
        }
        table.push_str("</tr>");
    }
    table.push_str("</tbody></table>");
    table
}

/// The ways, with their commands.
pub(super) fn ways(figures: &Figures) -> String {
    let mut list = String::from("<dl class=\"ways\">");
    for (look, way) in looks(figures).iter().zip(&figures.ways) {
        let command = match way.prefix.as_str() {
            "" => "the work itself".to_owned(),
            prefix => format!("<code>{}</code>", escape(prefix)),
        };
        let swatch = format!("<i class=\"swatch {}\"></i>", look.class());
        add(&mut list, &format!("<dt>{swatch}{}</dt><dd>{command}</dd>", named(look)));
    }
    list.push_str("</dl>");
    list
}

/// The letters and colours of the ways in a line, to stand above a chart.
pub(super) fn legend(figures: &Figures) -> String {
    let looks = looks(figures);
    let ways = looks
        .iter()
        .skip(1)
        .map(|look| format!("<li><i class=\"swatch {}\"></i>{}</li>", look.class(), named(look)));
    let ways: String = ways.collect();
    if ways.is_empty() { ways } else { format!("<ul class=\"legend\">{ways}</ul>") }
}

/// Where and when, for a line of text: each fact with its name.
pub(super) fn facts(figures: &Figures) -> Vec<(&'static str, String)> {
    let machine = &figures.machine;
    let mut facts = vec![
        ("creance", figures.version.clone()),
        ("date", figures.date.clone()),
        ("rounds", format!("{} of each row and way, by turns", figures.rounds)),
        ("CPUs", format!("{} of {}", machine.cpus, machine.cpu)),
    ];
    let quota = machine.quota_millicpus;
    facts.extend(quota.map(|quota| ("quota", format!("{} CPUs", text::tick(f64::from(quota) / 1000.0)))));
    facts.extend([
        ("memory", format!("{} MiB", text::count(machine.memory_mib))),
        ("kernel", format!("Linux {}", machine.kernel)),
    ]);
    let foreign = machine.foreign_percent;
    facts.extend(
        foreign
            .map(|foreign| ("taken by others", format!("{} % of the CPUs", text::spread(foreign, figure)))),
    );
    facts
}

/// The table for `docs/benchmarks.md`, with where it was made above it and what is not in it below.
pub(super) fn markdown_table(figures: &Figures) -> String {
    let facts = facts(figures);
    let facts: Vec<_> = facts.iter().map(|(name, fact)| format!("{name}: {}", markdown(fact))).collect();
    let ways = looks(figures);
    let mut table = format!("{}.\n\n| | native |", facts.join("; "));
    for look in ways.iter().skip(1) {
        write_to(&mut table, format_args!(" {} |", markdown(&look.title)));
    }
    write_to(&mut table, format_args!("\n|---|{}\n", "---|".repeat(ways.len().max(1))));
    let mut skips = Vec::new();
    for row in &figures.rows {
        let title = markdown(&row.title);
        if let Some(reason) = &row.skipped {
            skips.push(format!("- {title}: {}", markdown(reason)));
            continue;
        }
        let [median, lower, upper] = text::time(row.native_us);
        write_to(&mut table, format_args!("| {title} | {median} ({lower} to {upper}) |"));
        let cells = cells(figures, row);
        for look in ways.iter().skip(1) {
            let cell = cells.iter().find(|(other, _)| other.number == look.number).map(|(_, cell)| *cell);
            let speed = cell.and_then(|cell| cell.speed);
            let shown = speed.map_or(text::NONE.to_owned(), |speed| text::spread(speed, text::ratio));
            write_to(&mut table, format_args!(" {shown} |"));
            if let (Some(cell), None) = (cell, speed) {
                skips.push(format!("- {title}, {}: {}", markdown(&look.title), markdown(reason(cell))));
            }
        }
        table.push('\n');
    }
    if !skips.is_empty() {
        write_to(&mut table, format_args!("\nNot measured:\n\n{}\n", skips.join("\n")));
    }
    table.push_str(&funnels(figures));
    table
}

/// Where calls end, of the rows that counted them.
fn funnels(figures: &Figures) -> String {
    let lines: Vec<String> = figures
        .rows
        .iter()
        .filter_map(|row| Some((row, row.funnel?)))
        .map(|(row, Funnel { calls, trapped, kept })| {
            let counts = [calls, trapped, kept].map(text::count);
            format!("| {} | {} |\n", markdown(&row.title), counts.join(" | "))
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n| | calls | trapped | kept |\n|---|---|---|---|\n{}", lines.concat())
}

fn write_to(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}
