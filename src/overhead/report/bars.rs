//! Bars: how fast each row is in each way, relative to native; and how many calls come how far.
//!
//! A chart grows by its rows. Names, letters, bars and figures have a column each, so nothing can be on anything else.

use super::{
    looks::{Look, cells},
    scale::{Kind, Scale},
    svg::{Anchor, Drawing, LINE},
    text,
};
use crate::overhead::figures::{Cell, Figures, Funnel, Group, Row, Spread};

const WIDTH: f64 = 960.0;

/// The columns, in pixels.
const NAMES: (f64, f64) = (8.0, 236.0);
const KEYS: f64 = 256.0;
const BARS: (f64, f64) = (274.0, 762.0);
const FIGURES: f64 = 952.0;

/// Above and below the rows, for the labels of the axis.
const AXIS: f64 = 24.0;

/// Below a row.
const GAP: f64 = 10.0;

/// Rows of a drawing are not much higher together, so that it fits on a page of paper; one row may be.
const HEIGHT_MAX: f64 = 1000.0;

/// From here on the slowest way would be lost on a linear axis.
const LOG_BELOW: f64 = 0.25;

/// Lines of a row's name at most.
const NAME_LINES: usize = 4;

/// The speeds of the rows of a group in all ways, on as many drawings as they need.
pub(super) fn speeds(figures: &Figures, group: Group) -> Vec<Drawing> {
    let (kind, scale) = speed_scale(figures);
    let title = match group {
        Group::Micro => "Speed relative to native: one thing in a loop",
        Group::Macro => "Speed relative to native: real programs",
    };
    let axis = if kind == Kind::Log { "logarithmic" } else { "linear" };
    let description = format!(
        "A bar for each row and each way, from native speed, 1, to the median speed; a whisker from quartile to quartile; \
         {axis} axis. The same figures are in the table of speeds."
    );
    let rows = figures.rows.iter().filter(|row| row.group == group);
    let rows: Vec<(&Row, f64)> = rows.map(|row| (row, row_height(figures, row))).collect();
    panels((title, &description), (&scale, Some(1.0)), &rows, |chart, row, top| {
        speed_row(chart, figures, row, &scale, top);
    })
}

/// Rows with their heights, one below the other, with an axis above and below, and perhaps a line that all are compared
/// with; each drawing fits on a page of paper.
fn panels<R>(
    (title, description): (&str, &str),
    (scale, reference): (&Scale, Option<f64>),
    rows: &[(R, f64)],
    draw: impl Fn(&mut Drawing, &R, f64),
) -> Vec<Drawing> {
    let all: f64 = rows.iter().map(|(_, height)| height).sum();
    // Panels of about the same height: the last would be left with a row or two otherwise.
    let most = all / (all / HEIGHT_MAX).ceil().max(1.0);
    let mut panels: Vec<&[(R, f64)]> = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let mut height = 0.0;
        let fitting = rest.iter().take_while(|(_, more)| {
            height += more;
            height - more / 2.0 <= most
        });
        let (panel, after) = rest.split_at(fitting.count().max(1));
        panels.push(panel);
        rest = after;
    }
    let count = panels.len();
    let titled =
        |at: usize| if count > 1 { format!("{title} ({} of {count})", at + 1) } else { title.to_owned() };
    let drawn = panels.into_iter().enumerate().map(|(at, rows)| {
        let mut chart = Drawing::new(&titled(at), description, WIDTH);
        let bottom = AXIS + rows.iter().map(|(_, height)| height).sum::<f64>();
        let tops = rows.iter().scan(AXIS, |next, (row, height)| {
            let top = *next;
            *next += height;
            Some((row, top, *next))
        });
        let tops: Vec<_> = tops.collect();
        for (_, top, end) in tops.iter().step_by(2) {
            chart.rectangle((0.0, *top), (WIDTH, *end), "band", "");
        }
        axis_lines(&mut chart, scale, (AXIS, bottom), text::tick);
        if let Some(at) = reference.map(|reference| scale.at(reference)) {
            chart.line((at, AXIS), (at, bottom), "native-line");
        }
        for (row, top, _) in tops {
            draw(&mut chart, row, top + GAP / 2.0);
        }
        chart.height = bottom + AXIS;
        chart
    });
    drawn.collect()
}

/// One scale for all groups, so that they can be compared.
fn speed_scale(figures: &Figures) -> (Kind, Scale) {
    let speeds = figures.rows.iter().flat_map(|row| &row.cells).filter_map(|cell| cell.speed);
    let ends: Vec<f64> = speeds.flat_map(|speed| [speed.lower, speed.median, speed.upper]).collect();
    let least = ends.iter().copied().filter(|end| *end > 0.0).fold(1.0, f64::min);
    let (kind, more) = if least < LOG_BELOW { (Kind::Log, [1.0, 1.1]) } else { (Kind::Linear, [0.0, 1.05]) };
    (kind, Scale::over(kind, ends.into_iter().chain(more), BARS))
}

fn name_lines(row: &Row) -> Vec<String> {
    text::wrap(&row.title, NAMES.1 - NAMES.0, super::svg::SIZE, NAME_LINES)
}

fn row_height(figures: &Figures, row: &Row) -> f64 {
    let bars = if row.skipped.is_some() { 1 } else { cells(figures, row).len() };
    text::amount(name_lines(row).len().max(bars).max(1)) * LINE + GAP
}

fn name(chart: &mut Drawing, row: &Row, top: f64) {
    for (line, name) in name_lines(row).iter().enumerate() {
        chart.text((NAMES.0, base(top, line)), Anchor::Start, "name", name);
    }
}

/// The base line of a line of text.
fn base(top: f64, line: usize) -> f64 {
    top + text::amount(line) * LINE + 12.0
}

/// The labels of an axis above and below, and its grid between. A label that would be on the one before is left out.
fn axis_lines(chart: &mut Drawing, scale: &Scale, (top, bottom): (f64, f64), label: fn(f64) -> String) {
    let mut free_from = f64::NEG_INFINITY;
    for tick in scale.ticks() {
        let (x, shown) = (scale.at(tick), label(tick));
        chart.line((x, top), (x, bottom), "grid");
        let half = text::width(&shown, super::svg::SIZE) / 2.0;
        if x - half < free_from {
            continue;
        }
        free_from = x + half + 8.0;
        for y in [top - 8.0, bottom + 16.0] {
            chart.text((x, y), Anchor::Middle, "tick", &shown);
        }
    }
}

fn speed_row(chart: &mut Drawing, figures: &Figures, row: &Row, scale: &Scale, top: f64) {
    name(chart, row, top);
    if let Some(reason) = &row.skipped {
        skipped(chart, base(top, 0), reason);
        return;
    }
    for (line, (look, cell)) in cells(figures, row).iter().enumerate() {
        let y = base(top, line);
        chart.text((KEYS, y), Anchor::Middle, "key", &look.key);
        match cell.speed {
            Some(speed) => speed_bar(chart, (row, look, speed), scale, y),
            None => skipped(chart, y, reason(cell)),
        }
    }
}

/// Why a cell has no speed.
pub(super) fn reason(cell: &Cell) -> &str {
    cell.skipped.as_deref().unwrap_or("no figures")
}

fn skipped(chart: &mut Drawing, y: f64, reason: &str) {
    chart.text_within((BARS.0, y), BARS.1 - BARS.0, "skipped", reason);
}

fn speed_bar(chart: &mut Drawing, (row, look, speed): (&Row, &Look, Spread), scale: &Scale, y: f64) {
    let shown = text::spread(speed, text::ratio);
    let (middle, class) = (y - 4.0, look.class());
    if scale.takes(speed.median) {
        let tip = format!("{}, {}: {shown}", row.title, look.title);
        let (native, median) = (scale.at(1.0), scale.at(speed.median));
        chart.rectangle((native, middle - 5.0), (median, middle + 5.0), &format!("bar {class}"), &tip);
        chart.line((median, middle - 5.0), (median, middle + 5.0), &format!("bar-end {class}"));
        whisker(chart, (scale.at(speed.lower), scale.at(speed.upper)), middle);
    }
    chart.text(
        (FIGURES, y),
        Anchor::End,
        "figure",
        &text::fit(&shown, FIGURES - BARS.1 - 4.0, super::svg::SIZE),
    );
}

fn whisker(chart: &mut Drawing, (from, to): (f64, f64), y: f64) {
    chart.line((from, y), (to, y), "whisker");
    for end in [from, to] {
        chart.line((end, y - 3.0), (end, y + 3.0), "whisker");
    }
}

/// The stages of a funnel.
fn stages(funnel: &Funnel) -> [(&'static str, u64); 3] {
    [("calls", funnel.calls), ("trapped", funnel.trapped), ("kept", funnel.kept)]
}

/// Calls, trapped and kept, of the rows that counted them.
pub(super) fn funnels(figures: &Figures) -> Vec<Drawing> {
    let rows = figures.rows.iter().filter_map(|row| Some((row, row.funnel?)));
    let height = |row: &Row| text::amount(name_lines(row).len().max(3)) * LINE + GAP;
    let rows: Vec<((&Row, Funnel), f64)> = rows.map(|(row, funnel)| ((row, funnel), height(row))).collect();
    let counts = rows.iter().flat_map(|((_, funnel), _)| stages(funnel)).map(|(_, count)| text::float(count));
    let scale = Scale::over(Kind::Log, counts.chain([LEAST, 10.0]), FUNNEL);
    let description = "For each row three bars on a logarithmic axis: calls that the work makes, calls that the filter \
        trapped, calls that became a record. The figures stand at the right.";
    panels(("Where calls end", description), (&scale, None), &rows, |chart, (row, funnel), top| {
        funnel_row(chart, row, funnel, &scale, top);
    })
}

fn funnel_row(chart: &mut Drawing, row: &Row, funnel: &Funnel, scale: &Scale, top: f64) {
    name(chart, row, top);
    for (line, (stage, count)) in stages(funnel).into_iter().enumerate() {
        let y = base(top, line);
        chart.text((FUNNEL.0 - 10.0, y), Anchor::End, "key", stage);
        if count > 0 {
            let (from, to) = ((FUNNEL.0, y - 9.0), (scale.at(text::float(count)), y + 1.0));
            let tip = format!("{}: {} {stage}", row.title, text::count(count));
            chart.rectangle(from, to, &format!("stage-{line}"), &tip);
        }
        chart.text((FIGURES, y), Anchor::End, "figure", &text::count(count));
    }
}

/// Where the axis of a funnel begins: a bar of one call has a length.
const LEAST: f64 = 0.7;

/// The bars of a funnel, behind the names of its stages.
const FUNNEL: (f64, f64) = (312.0, 762.0);
