//! The report of a run: one page for a browser, and one table for a document, from [`Figures`] alone.
//!
//! The page holds everything that it shows: no script, no font, nothing from the network, and it forbids itself to load
//! any. It is HTML and well-formed XML at once, so that a test can read it. All that comes from outside (names of CPUs,
//! reasons, titles) goes through `text::escape`. Read `svg.rs` before you draw anything new.

mod bars;
mod lines;
mod looks;
mod scale;
mod svg;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use svg::Drawing;
use text::escape;

use super::figures::{Figures, Group};

/// The style sheet of the page.
const STYLE: &str = include_str!("page.css");

/// A report that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file of the figures cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no figures of a run")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        source: serde_json::Error,
    },
    /// The figures cannot be written as JSON.
    #[error("writing the figures as JSON")]
    Json {
        /// Why not.
        source: serde_json::Error,
    },
    /// A file of the report cannot be written.
    #[error("writing {path}")]
    Write {
        /// The file or the directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Reads the figures of an earlier run from their JSON file.
///
/// # Errors
///
/// The file cannot be read, or does not hold [`Figures`].
pub fn read(path: &Path) -> Result<Figures, ReportError> {
    let text = fs::read(path).map_err(|source| ReportError::Read { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| ReportError::Parse { path: path.into(), source })
}

/// Writes `figures.json`, `report.html` and `report.md` into a directory, which is made if it is missing.
///
/// # Errors
///
/// A file or the directory cannot be written.
pub fn write(figures: &Figures, directory: &Path) -> Result<(), ReportError> {
    let json = serde_json::to_string_pretty(figures).map_err(|source| ReportError::Json { source })?;
    let failed = |path: &Path, source| ReportError::Write { path: path.into(), source };
    fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
    let files = [("figures.json", json), ("report.html", html(figures)), ("report.md", markdown(figures))];
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

/// The table of speeds in Markdown: row, native, and each way as median (lower to upper quartile); what was skipped, with
/// the reason, and the counts of the funnel below.
#[must_use]
pub fn markdown(figures: &Figures) -> String {
    tables::markdown_table(figures)
}

/// The report as one self-contained page.
#[must_use]
pub fn html(figures: &Figures) -> String {
    let mut page =
        Page { sections: String::new(), contents: String::new(), legend: tables::legend(figures), charts: 0 };
    page.section("ways", "The ways", WAYS_TEXT, &tables::ways(figures));
    page.section("table", "Speed at a glance", TABLE_TEXT, &scrolled(&tables::speeds(figures)));
    for (id, group, title) in
        [("micro", Group::Micro, "One thing in a loop"), ("macro", Group::Macro, "Real programs")]
    {
        page.drawings((id, title), BARS_TEXT, true, &bars::speeds(figures, group));
    }
    page.drawings(("funnel", "Where calls end"), FUNNEL_TEXT, false, &bars::funnels(figures));
    page.drawings(("latency", "Latency"), LATENCY_TEXT, false, &lines::latencies(figures));
    page.drawings(("scaling", "How it grows"), SCALING_TEXT, false, &scaling(figures));
    let points: String = figures.curves.iter().map(|curve| scrolled(&tables::points(curve))).collect();
    if !points.is_empty() {
        page.section("points", "The points of the curves", "", &points);
    }
    page.section("details", "All figures", DETAILS_TEXT, &scrolled(&tables::details(figures)));
    page.finish(figures)
}

/// A wide table scrolls by itself, by keys too, and the page does not.
fn scrolled(table: &str) -> String {
    format!("<div class=\"scrolled\" tabindex=\"0\" role=\"region\" aria-label=\"table\">{table}</div>")
}

fn scaling(figures: &Figures) -> Vec<Drawing> {
    figures.curves.iter().map(|curve| lines::curve(figures, curve)).collect()
}

/// Every drawing of the page.
#[cfg(test)]
fn drawings(figures: &Figures) -> Vec<Drawing> {
    let bars = [Group::Micro, Group::Macro].into_iter().flat_map(|group| bars::speeds(figures, group));
    let bars = bars.chain(bars::funnels(figures));
    bars.chain(lines::latencies(figures)).chain(scaling(figures)).collect()
}

const WAYS_TEXT: &str = "Every row was done in each of these ways in each round, one after the other, so that what the \
    machine does meanwhile meets them all. N is native: nobody watches. The letters stand for the ways in every chart.";

const TABLE_TEXT: &str = "Speed relative to native in the same round: 1 is no cost, 0.5 is half as fast. The median of \
    all rounds, and their quartiles below it; darker is slower. Beside the names, the native time of one unit of work.";

const BARS_TEXT: &str = "A bar reaches from native speed, the line at 1, to the speed in this way: the longer, the slower. \
    The whisker spans the quartiles. At the right the same as text: median (lower to upper quartile).";

const FUNNEL_TEXT: &str = "Calls that the work makes; calls that the filter trapped, each of which stopped its thread; \
    calls that a rule may match, which became a record. The axis is logarithmic.";

const LATENCY_TEXT: &str = "How long one operation takes, in all rounds together: each step to the right is a tenth of the \
    operations that are left, up to the slowest of all. Both axes are logarithmic; native is the line N.";

const SCALING_TEXT: &str = "A cost against what makes it grow; points are medians, and the lines through them span the \
    quartiles. The list below each chart has the first and the last point; all of them stand in the next section.";

const DETAILS_TEXT: &str = "What else was counted. Stops and records are those of one run, by its time; CPU time and memory \
    are those of all processes of the tracer together, and not of the work; latencies are of one operation.";

/// The page while it is written.
struct Page {
    sections: String,
    /// Links to them.
    contents: String,
    /// The letters and colours of the ways.
    legend: String,
    charts: usize,
}

impl Page {
    fn section(&mut self, id: &str, title: &str, text: &str, content: &str) {
        let text = if text.is_empty() { String::new() } else { format!("<p>{text}</p>") };
        let section = format!("<section id=\"{id}\"><h2>{title}</h2>{text}{content}</section>\n");
        self.sections.push_str(&section);
        self.contents.push_str(&format!("<a href=\"#{id}\">{title}</a> "));
    }

    /// A section of drawings, if there are any.
    fn drawings(&mut self, (id, title): (&str, &str), text: &str, has_legend: bool, drawings: &[Drawing]) {
        let mut figures = String::new();
        for drawing in drawings {
            self.charts += 1;
            writeln!(figures, "<figure>{}</figure>", drawing.svg(self.charts))
                .expect("a string takes everything");
        }
        if drawings.is_empty() {
            return;
        }
        let class = if drawings.iter().any(|drawing| drawing.width > 600.0) { "wide" } else { "charts" };
        let legend = if has_legend { self.legend.clone() } else { String::new() };
        self.section(id, title, text, &format!("{legend}<div class=\"{class}\">{figures}</div>"));
    }

    /// The whole page.
    fn finish(self, figures: &Figures) -> String {
        let (version, date) = (escape(&figures.version), escape(&figures.date));
        // Both stand in the title.
        let facts =
            tables::facts(figures).into_iter().filter(|(name, _)| !matches!(*name, "creance" | "date"));
        let facts: String = facts
            .map(|(name, fact)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&fact)))
            .collect();
        let Self { sections, contents, .. } = self;
        format!(
            "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta charset=\"utf-8\"/>\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
             <meta name=\"color-scheme\" content=\"light dark\"/>\
             <title>creance {version}: overhead, {date}</title><style>{STYLE}</style></head>\n<body><main>\
             <header><h1>What tracing costs</h1><p>creance {version}, measured on {date}</p>\
             <dl class=\"facts\">{facts}</dl><nav>{contents}</nav></header>\n{sections}</main></body></html>\n"
        )
    }
}
