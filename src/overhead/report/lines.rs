//! Curves: latency by percentile, and how a cost grows with something.
//!
//! The list below a chart is its legend and its figures at once. At the right end each line has its letter, moved apart
//! where lines end close together; the chart is made high enough for all of them.

use super::{
    looks::{self, Look, cells},
    scale::{Kind, Scale},
    svg::{Anchor, Drawing, LINE, SIZE},
    text,
};
use crate::overhead::figures::{Curve, Figures, Percentiles, Row, Spread};

const WIDTH: f64 = 470.0;

/// What is left of the plot, for the labels of its axis; and right of it, for letters.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 446.0;

/// From the title of the y axis to the plot, and the least height of that.
const TOP: f64 = 50.0;
const HEIGHT: f64 = 200.0;

/// Letters at the ends of lines are so far apart at least.
const KEY_GAP: f64 = 14.0;

/// From so many times the least on, an axis is logarithmic.
const LOG_FROM: f64 = 12.0;

/// x, y, and the quartiles of y where it has some.
type Place = (f64, f64, Option<(f64, f64)>);

/// A line of a chart.
struct Series {
    look: Look,
    points: Vec<Place>,
    /// Its figures in the list below the chart.
    figures: Vec<String>,
}

/// What a chart says beside its lines.
struct Frame<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// The heads of the figures in the list.
    heads: &'a [&'a str],
    /// The labels of the x axis, where they are not those of its scale.
    x_ticks: Option<Vec<(f64, String)>>,
    x_kind: Kind,
    y_kind: Kind,
}

/// Latencies of all rows that have some.
pub(super) fn latencies(figures: &Figures) -> Vec<Drawing> {
    figures.rows.iter().filter_map(|row| latency(figures, row)).collect()
}

fn latency(figures: &Figures, row: &Row) -> Option<Drawing> {
    let mut natives: Vec<&Percentiles> = Vec::new();
    let mut watched: Vec<(Look, &Percentiles)> = Vec::new();
    for (look, cell) in cells(figures, row) {
        if let Some(latency) = &cell.latency {
            if !natives.contains(&&latency.native) {
                natives.push(&latency.native);
            }
            watched.push((look, &latency.watched));
        }
    }
    let native = figures.ways.first().map_or("native", |way| way.title.as_str());
    let native = Look { key: "N".to_owned(), title: native.to_owned(), number: 0 };
    let all = natives.into_iter().map(|native_of| (native.clone(), native_of)).chain(watched);
    let series: Vec<Series> = all.map(|(look, of)| percentiles(look, of)).collect();
    series.first()?;
    let mut ticks = PERCENTS.map(|(percent, label)| (nines(percent), label.to_owned())).to_vec();
    let has_slowest = series.iter().flat_map(|line| &line.points).any(|point| point.0 >= NINES_MAX);
    ticks.extend(has_slowest.then(|| (NINES_MAX, "max".to_owned())));
    let frame = Frame {
        title: &row.title,
        x: "percentile, %",
        y: "latency of one operation, us",
        heads: &["p50", "p99", "p99.9"],
        x_ticks: Some(ticks),
        x_kind: Kind::Linear,
        y_kind: Kind::Log,
    };
    Some(draw(&frame, &series))
}

/// The labels of the axis of percentiles.
const PERCENTS: [(f64, &str); 6] =
    [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")];

/// Where the slowest of all is drawn, and what is as rare.
const NINES_MAX: f64 = 5.0;

/// How many nines a share in per cent has: 90 has one, 99 has two.
fn nines(percent: f64) -> f64 {
    let rest = (1.0 - percent / 100.0).clamp(0.0, 1.0);
    if percent.is_finite() { (-rest.log10()).clamp(0.0, NINES_MAX) } else { f64::NAN }
}

fn percentiles(look: Look, of: &Percentiles) -> Series {
    let points = of.curve.iter().map(|(percent, us)| (nines(*percent), *us, None)).collect();
    Series { look, points, figures: [of.p50, of.p99, of.p999].map(text::figure).to_vec() }
}

/// How something grows.
pub(super) fn curve(figures: &Figures, curve: &Curve) -> Drawing {
    let looks = looks::of_lines(figures, curve.lines.iter().map(|line| line.title.as_str()));
    let series: Vec<Series> = looks
        .into_iter()
        .zip(&curve.lines)
        .map(|(look, line)| {
            let points = line.points.iter().map(|point| {
                let Spread { lower, median, upper } = point.y;
                (point.x, median, Some((lower, upper)))
            });
            let ends = [line.points.first(), line.points.last()];
            let figures =
                ends.map(|point| point.map_or(text::NONE.to_owned(), |point| text::figure(point.y.median)));
            Series { look, points: points.collect(), figures: figures.to_vec() }
        })
        .collect();
    let xs: Vec<f64> = series.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
    let ys: Vec<f64> = series.iter().flat_map(|line| line.points.iter().map(|point| point.1)).collect();
    let frame = Frame {
        title: &curve.title,
        x: &curve.x,
        y: &curve.y,
        heads: &["first", "last"],
        x_ticks: own_ticks(&xs),
        x_kind: kind(&xs),
        y_kind: kind(&ys),
    };
    draw(&frame, &series)
}

/// Logarithmic where the figures differ much and all have a logarithm.
fn kind(figures: &[f64]) -> Kind {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    if least > 0.0 && most > LOG_FROM * least { Kind::Log } else { Kind::Linear }
}

/// What was measured is labelled, where it is little enough: 1, 2, 4, 8 producers.
fn own_ticks(xs: &[f64]) -> Option<Vec<(f64, String)>> {
    let mut ticks: Vec<f64> = xs.iter().copied().filter(|x| x.is_finite()).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    (1..=8).contains(&ticks.len()).then(|| ticks.into_iter().map(|tick| (tick, text::tick(tick))).collect())
}

fn draw(frame: &Frame<'_>, series: &[Series]) -> Drawing {
    let description =
        format!("{} by {}; {} lines. {}", frame.y, frame.x, series.len(), as_words(frame, series));
    let mut chart = Drawing::new(frame.title, &description, WIDTH);
    let bottom = TOP + HEIGHT.max(text::amount(series.len()) * KEY_GAP);
    // In bold, which is wider than the estimate.
    chart.text_within((8.0, 14.0), (WIDTH - 16.0) * 0.85, "head", frame.title);
    chart.text_within((8.0, 34.0), WIDTH - 16.0, "axis", frame.y);
    let points = || series.iter().flat_map(|line| &line.points);
    let ticks_x = frame.x_ticks.iter().flatten().map(|(x, _)| *x);
    let x = Scale::over(frame.x_kind, points().map(|point| point.0).chain(ticks_x), (LEFT, RIGHT - 24.0));
    let ys = points().flat_map(|(_, y, quartiles)| {
        [Some(*y), quartiles.map(|(lower, _)| lower), quartiles.map(|(_, upper)| upper)]
    });
    let zero = (frame.y_kind == Kind::Linear).then_some(0.0);
    let y = Scale::over(frame.y_kind, ys.flatten().chain(zero), (bottom, TOP)).padded();
    axes(&mut chart, frame, (&x, &y), bottom);
    let mut keys = Vec::new();
    for line in series {
        let end = plot(&mut chart, line, &x, &y);
        keys.extend(end.map(|end| (end, &line.look)));
    }
    end_keys(&mut chart, keys, bottom);
    list(&mut chart, frame, series, bottom + 56.0);
    chart
}

/// The list below a chart in words, for who does not see it.
fn as_words(frame: &Frame<'_>, series: &[Series]) -> String {
    let figures = |line: &Series| {
        let figures = frame.heads.iter().zip(&line.figures).map(|(head, figure)| format!("{head} {figure}"));
        figures.collect::<Vec<_>>().join(", ")
    };
    series.iter().map(|line| format!("{}: {}.", line.look.title, figures(line))).collect::<Vec<_>>().join(" ")
}

fn axes(chart: &mut Drawing, frame: &Frame<'_>, (x, y): (&Scale, &Scale), bottom: f64) {
    let mut free_above = f64::INFINITY;
    for tick in y.ticks() {
        let at = y.at(tick);
        chart.line((LEFT, at), (RIGHT - 24.0, at), "grid");
        if at + LINE / 2.0 <= free_above {
            chart.text((LEFT - 6.0, at + 4.0), Anchor::End, "tick", &text::tick(tick));
            free_above = at - LINE / 2.0;
        }
    }
    let ticks = frame.x_ticks.clone();
    let ticks = ticks.unwrap_or_else(|| x.ticks().into_iter().map(|tick| (tick, text::tick(tick))).collect());
    let mut free_from = f64::NEG_INFINITY;
    for (tick, label) in ticks.into_iter().filter(|(tick, _)| x.takes(*tick)) {
        let (at, half) = (x.at(tick), text::width(&label, SIZE) / 2.0);
        chart.line((at, TOP), (at, bottom), "grid");
        if at - half >= free_from && at + half <= WIDTH {
            chart.text((at, bottom + 18.0), Anchor::Middle, "tick", &label);
            free_from = at + half + 6.0;
        }
    }
    chart.line((LEFT, bottom), (RIGHT - 24.0, bottom), "axis-line");
    let shown = text::fit(frame.x, WIDTH - 16.0, SIZE);
    chart.text((WIDTH / 2.0, bottom + 34.0), Anchor::Middle, "axis", &shown);
}

/// A line with its points; where it ends on the right.
fn plot(chart: &mut Drawing, line: &Series, x: &Scale, y: &Scale) -> Option<f64> {
    let class = line.look.class();
    let drawn = line.points.iter().filter(|point| x.takes(point.0) && y.takes(point.1));
    let places: Vec<_> = drawn.clone().map(|point| (x.at(point.0), y.at(point.1))).collect();
    let dash = line.look.dash();
    chart.path(&places, &format!("line dash-{dash} {class}"));
    for (point, place) in drawn.zip(&places) {
        let Some((lower, upper)) = point.2 else { continue };
        chart.line((place.0, y.at(lower)), (place.0, y.at(upper)), &format!("spread {class}"));
        let tip = format!("{}: {} at {}", line.look.title, text::figure(point.1), text::figure(point.0));
        chart.mark(*place, line.look.number, &format!("mark {class}"), &tip);
    }
    places.last().map(|place| place.1)
}

/// The letters of the lines right of their ends, from above, each at its place or below the one before it; then from
/// below, so that none is below the plot.
fn end_keys(chart: &mut Drawing, mut keys: Vec<(f64, &Look)>, bottom: f64) {
    keys.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut free = TOP;
    for (y, _) in &mut keys {
        *y = y.max(free);
        free = *y + KEY_GAP;
    }
    let mut free = bottom;
    for (y, look) in keys.into_iter().rev() {
        let y = y.min(free);
        free = y - KEY_GAP;
        chart.text((RIGHT - 18.0, y + 4.0), Anchor::Start, &format!("key {}-text", look.class()), &look.key);
    }
}

/// What the lines are, and their figures.
fn list(chart: &mut Drawing, frame: &Frame<'_>, series: &[Series], top: f64) {
    let columns = |at: usize| WIDTH - 8.0 - text::amount(frame.heads.len() - 1 - at) * FIGURE;
    let names = (56.0, columns(0) - FIGURE);
    for (at, head) in frame.heads.iter().enumerate() {
        chart.text((columns(at), top), Anchor::End, "tick", head);
    }
    let mut y = top;
    for line in series {
        y += LINE;
        let class = line.look.class();
        let dash = line.look.dash();
        chart.path(&[(8.0, y - 4.0), (32.0, y - 4.0)], &format!("line dash-{dash} {class}"));
        if line.points.iter().any(|point| point.2.is_some()) {
            chart.mark((20.0, y - 4.0), line.look.number, &format!("mark {class}"), "");
        }
        chart.text_within((38.0, y), 16.0, "key", &line.look.key);
        chart.text_within((names.0, y), names.1 - names.0, "name", &line.look.title);
        for (at, figure) in line.figures.iter().enumerate() {
            let shown = text::fit(figure, FIGURE - 6.0, SIZE);
            chart.text((columns(at), y), Anchor::End, "figure", &shown);
        }
    }
    chart.height = y + 12.0;
}

/// Room of a figure in the list: `1.23e-9` is the longest.
const FIGURE: f64 = 64.0;
