//! Text as the reports show it: numbers in few digits, what came from outside made harmless, and how wide it is at most.
//!
//! A page is laid out without a browser, so widths are estimates that no usual font exceeds. Nothing here may let a
//! character through that XML forbids or that hides others.

use crate::{overhead::figures::Spread, terminal};

/// What stands in the place of a figure that there is none of.
pub(super) const NONE: &str = "–";

/// A count as a number to draw with. Beyond 2^53 it is not exact, and no pixel shows that.
#[expect(clippy::cast_precision_loss, reason = "a place on a chart, or a figure of three digits")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// How many things there are, as a number to draw with.
pub(super) fn amount(count: usize) -> f64 {
    u64::try_from(count).map_or(f64::MAX, float)
}

/// A figure in three digits: `1,235`, `12.3`, `0.00123`, `1.23e-9`.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    match () {
        () if !value.is_finite() => NONE.to_owned(),
        () if value == 0.0 => "0".to_owned(),
        () if !(1e-4..1e12).contains(&size) => format!("{value:.2e}"),
        () if size >= 99.95 => grouped(&format!("{value:.0}")),
        () if size >= 9.995 => format!("{value:.1}"),
        () if size >= 0.9995 => format!("{value:.2}"),
        () if size >= 0.099_95 => format!("{value:.3}"),
        () if size >= 0.009_995 => format!("{value:.4}"),
        () => format!("{value:.5}"),
    }
}

/// A ratio in two decimals, or in two digits where that would be too few: `0.87`, `0.034`.
pub(super) fn ratio(value: f64) -> String {
    match () {
        () if !value.is_finite() => NONE.to_owned(),
        () if value.abs() >= 999.5 || (value != 0.0 && value.abs() < 1e-4) => figure(value),
        () if value.abs() >= 0.0995 || value == 0.0 => format!("{value:.2}"),
        () if value.abs() >= 0.00995 => format!("{value:.3}"),
        () if value.abs() >= 0.000_995 => format!("{value:.4}"),
        () => format!("{value:.5}"),
    }
}

/// The label of a tick, which is a round number.
pub(super) fn tick(value: f64) -> String {
    let size = value.abs();
    match () {
        () if !value.is_finite() => NONE.to_owned(),
        () if size >= 1e12 || (value != 0.0 && size < 1e-4) => format!("{value:.0e}"),
        () if size >= 1e9 => format!("{}G", trimmed(value / 1e9)),
        () if size >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        () if size >= 1e5 => format!("{}k", trimmed(value / 1e3)),
        () if size >= 1e3 => grouped(&format!("{value:.0}")),
        () => trimmed(value),
    }
}

/// A few decimals, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = if value.abs() < 1.0 { format!("{value:.4}") } else { format!("{value:.2}") };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A count: `65,536`.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Commas between groups of three digits.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Median and quartiles: `0.87 (0.85 to 0.90)`.
pub(super) fn spread(spread: Spread, show: fn(f64) -> String) -> String {
    format!("{} ({} to {})", show(spread.median), show(spread.lower), show(spread.upper))
}

/// A time in the unit that suits its median: the median with its unit, and the quartiles in the same.
pub(super) fn time(us: Spread) -> [String; 3] {
    let (unit, of_us) = match us.median {
        median if median >= 1e6 => ("s", 1e6),
        median if median >= 1e4 => ("ms", 1e3),
        _ => ("us", 1.0),
    };
    let [median, lower, upper] = [us.median, us.lower, us.upper].map(|time| figure(time / of_us));
    [format!("{median} {unit}"), lower, upper]
}

/// What XML forbids, what hides or turns other text, and the ends of lines, each as one visible character.
fn harmless(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|character| match character {
        '\t' | '\n' | '\r' => ' ',
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if terminal::is_hidden(character) => char::REPLACEMENT_CHARACTER,
        _ => character,
    })
}

/// Text for HTML and SVG, as content and within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in harmless(text) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Text for a cell of a Markdown table, where none of it means anything.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in harmless(text) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// How wide a text is at most, in pixels, in the fonts that the page asks for. These are the advances of DejaVu Sans, the
/// widest of them, rounded up by kinds of characters.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size
}

fn advance(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | '\'' | '|' => 0.34,
        ' ' | '.' | ',' | ':' | ';' | '!' | 'I' | 'f' | 't' | 'r' | '/' | '\\' | '(' | ')' | '[' | ']'
        | '-' => 0.42,
        'm' | 'M' | 'W' | '%' | '@' | '…' => 1.0,
        'w' | 'O' | 'Q' | 'G' | 'D' | 'H' | 'N' | 'U' | '+' | '=' | '<' | '>' | '~' | '#' | '&' | '^'
        | '–' => 0.85,
        'A'..='Z' => 0.73,
        ' '..='~' => 0.65,
        '\u{a1}'..='\u{17f}' => 1.0,
        _ => 1.4,
    }
}

/// The text, cut with an ellipsis where it is wider than this.
pub(super) fn fit(text: &str, room: f64, size: f64) -> String {
    let text: String = harmless(text).collect();
    if width(&text, size) <= room {
        return text;
    }
    let mut left = room - width("…", size);
    if left < 0.0 {
        return String::new();
    }
    let mut kept: String = text
        .chars()
        .take_while(|character| {
            left -= advance(*character) * size;
            left >= 0.0
        })
        .collect();
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

/// The text in lines of at most this width, broken at spaces where that can be; what `lines_max` lines do not hold is cut.
pub(super) fn wrap(text: &str, room: f64, size: f64, lines_max: usize) -> Vec<String> {
    let text: String = harmless(text).collect();
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && lines.len() < lines_max {
        if lines.len() + 1 == lines_max {
            lines.push(fit(rest, room, size));
            break;
        }
        let end = line_end(rest, room, size);
        let (line, after) = rest.split_at(end);
        lines.push(line.trim_end().to_owned());
        rest = after.trim_start();
    }
    lines
}

/// Where the first line of a text ends: at its last space, if there is one and the text goes on; never at its start.
fn line_end(text: &str, room: f64, size: f64) -> usize {
    let mut left = room;
    let mut space = None;
    for (at, character) in text.char_indices() {
        if character == ' ' {
            space = Some(at);
        }
        left -= advance(character) * size;
        if left < 0.0 && at > 0 {
            return space.filter(|space| *space > 0).unwrap_or(at);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_ratios_two() {
        let shown = [1234.5, 123.4, 12.34, 1.234, 0.1234, 0.012_34, 0.001_234, 1.2e-9, f64::NAN].map(figure);
        assert_eq!(shown, ["1,234", "123", "12.3", "1.23", "0.123", "0.0123", "0.00123", "1.20e-9", NONE]);
        let shown =
            [8.81, 25_093.4, 3_399_345.0].map(|median| time(Spread { lower: 0.0, median, upper: 1e6 }));
        assert_eq!(
            shown.map(|[median, _, upper]| (median, upper)),
            [
                ("8.81 us".to_owned(), "1,000,000".to_owned()),
                ("25.1 ms".to_owned(), "1,000".to_owned()),
                ("3.40 s".to_owned(), "1.00".to_owned()),
            ]
        );
        let shown = [1.0, 0.874, 0.0341, 0.003_41, 0.0, f64::INFINITY].map(ratio);
        assert_eq!(shown, ["1.00", "0.87", "0.034", "0.0034", "0.00", NONE]);
        let shown = [0.05, 1.0, 1000.0, 100_000.0, 2e6, 0.0].map(tick);
        assert_eq!(shown, ["0.05", "1", "1,000", "100k", "2M", "0"]);
    }

    #[test]
    fn text_is_broken_at_spaces_and_cut_where_it_does_not_fit() {
        let lines = wrap("create and delete a file", 90.0, 12.0, 3);
        assert!(lines.len() > 1 && lines.iter().all(|line| width(line, 12.0) <= 90.0), "{lines:?}");
        assert_eq!(lines.join(" "), "create and delete a file");
        let cut = fit("a name that is much too long", 60.0, 12.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 60.0, "{cut}");
        assert_eq!(wrap(&"x".repeat(40), 60.0, 12.0, 2).len(), 2);
    }

    #[test]
    fn what_comes_from_outside_means_nothing_in_a_page_or_a_table() {
        assert_eq!(escape("<b a='1'>&\u{0}\u{202e}\n"), "&lt;b a=&#39;1&#39;&gt;&amp;\u{fffd}\u{fffd} ");
        assert_eq!(markdown("a|b<c>\n[d](e)"), "a\\|b&lt;c&gt; \\[d\\](e)");
    }
}
