//! Figures as a table for a terminal: columns that are two blanks apart, so that they can be told apart by a program too.

use super::figures::{Cell, Figures, Percentiles, Row, Spread};

/// The text, with a line of the machine before it and reasons below it.
#[must_use]
pub fn text(figures: &Figures) -> String {
    let mut text = format!("creance {}, {}, {}\n", figures.version, figures.date, figures.machine.line());
    if let Some(foreign) = figures.machine.foreign_percent {
        text += &format!("share of the CPUs that others took: {} %\n", spread(foreign));
    }
    text += "median (lower to upper quartile); a speed of 1 is that without a tracer\n\n";
    let mut lines = vec![head(figures)];
    lines.extend(figures.rows.iter().filter(|row| row.skipped.is_none()).map(|row| line(figures, row)));
    text += &aligned(&lines);
    for (name, reason) in reasons(figures) {
        text += &format!("\n{name}: {reason}");
    }
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn head(figures: &Figures) -> Vec<String> {
    let mut words = vec!["row".to_owned(), "native us".to_owned()];
    for way in figures.ways.iter().skip(1) {
        words.push(format!("speed, {}", way.id));
        if is_detailed(figures) {
            words.extend(["added us", "stops/s", "p50 us", "p99.9 us"].map(str::to_owned));
        }
    }
    words.push("a unit".to_owned());
    words
}

fn line(figures: &Figures, row: &Row) -> Vec<String> {
    let mut words = vec![row.id.clone(), spread(row.native_us)];
    for way in figures.ways.iter().skip(1) {
        let cell = row.cells.iter().find(|cell| cell.way == way.id);
        words.push(told(cell.and_then(|cell| cell.speed).map(spread)));
        if is_detailed(figures) {
            words.extend(details(row, cell));
        }
    }
    words.push(row.title.clone());
    words
}

/// Many ways leave no room for more than their speeds.
fn is_detailed(figures: &Figures) -> bool {
    figures.ways.len() <= 2
}

/// What is not known is a dash.
fn told(figure: Option<String>) -> String {
    figure.unwrap_or_else(|| "-".into())
}

fn details(row: &Row, cell: Option<&Cell>) -> [String; 4] {
    let speed = cell.and_then(|cell| cell.speed);
    let latency = cell.and_then(|cell| cell.latency.as_ref());
    let pair = |of: fn(&Percentiles) -> f64| {
        told(latency.map(|both| format!("{} > {}", figure(of(&both.native)), figure(of(&both.watched)))))
    };
    [
        told(speed.map(|speed| figure(row.native_us.median / speed.median - row.native_us.median))),
        told(cell.and_then(|cell| cell.stops_per_s).map(|stops| format!("{stops:.0}"))),
        pair(|percentiles| percentiles.p50),
        pair(|percentiles| percentiles.p999),
    ]
}

fn reasons(figures: &Figures) -> impl Iterator<Item = (String, &str)> {
    figures.rows.iter().flat_map(|row| {
        let of_row = row.skipped.as_deref().map(|reason| (row.id.clone(), reason));
        let of_cells = row.cells.iter().filter_map(|cell| {
            cell.skipped.as_deref().map(|reason| (format!("{}, {}", row.id, cell.way), reason))
        });
        of_row.into_iter().chain(of_cells)
    })
}

fn spread(of: Spread) -> String {
    format!("{} ({} to {})", figure(of.median), figure(of.lower), figure(of.upper))
}

/// Three digits that tell something, more before the point.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        0.0..0.995 => 3,
        0.995..9.95 => 2,
        9.95..99.5 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |words: &Vec<String>| {
        let words: Vec<String> =
            words.iter().zip(&widths).map(|(word, width)| format!("{word:<width$}")).collect();
        words.join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_have_three_digits_that_tell_something() {
        for (value, expected) in [
            (0.12345, "0.123"),
            (0.9951, "1.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
            (-0.5, "-0.500"),
        ] {
            assert_eq!(figure(value), expected);
        }
    }
}
