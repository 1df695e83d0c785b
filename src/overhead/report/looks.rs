//! How each way looks in every chart: its letter, its colour, its mark. All three tell the same, so that one is enough.

use crate::overhead::figures::{Cell, Figures, Row};

/// Colours of the style sheet. Ways beyond them begin anew, with another mark.
const COLOURS: usize = 7;

/// How a way, or a line of a chart, is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// What stands beside its bars and lines.
    pub(super) key: String,
    /// Its name.
    pub(super) title: String,
    /// 0 is native; from 1 on the colours, by turns.
    pub(super) number: usize,
}

impl Look {
    /// The class that has its colour.
    pub(super) fn class(&self) -> String {
        match self.number.checked_sub(1) {
            None => "way-0".to_owned(),
            Some(number) => format!("way-{}", number % COLOURS + 1),
        }
    }

    /// How its line is broken: native and the first way not at all, the others by turns.
    pub(super) fn dash(&self) -> usize {
        self.number.saturating_sub(1) % 3
    }
}

/// Native is N; the others go by letters, and by numbers where there are more than anyone reads.
fn key(number: usize) -> String {
    match number.checked_sub(1) {
        None => "N".to_owned(),
        Some(at) => "ABCDEFGHIJKLM".get(at..=at).map_or_else(|| number.to_string(), str::to_owned),
    }
}

fn look(number: usize, title: &str) -> Look {
    Look { key: key(number), title: title.to_owned(), number }
}

/// The looks of all ways, in their order.
pub(super) fn looks(figures: &Figures) -> Vec<Look> {
    figures.ways.iter().enumerate().map(|(number, way)| look(number, &way.title)).collect()
}

/// The cells of a row in the order of the ways; those of a way that is not listed come last, under their ids.
pub(super) fn cells<'f>(figures: &'f Figures, row: &'f Row) -> Vec<(Look, &'f Cell)> {
    let number = |cell: &Cell| figures.ways.iter().position(|way| way.id == cell.way);
    let mut unlisted = figures.ways.len().max(1);
    let mut cells: Vec<(Look, &Cell)> = Vec::new();
    for cell in &row.cells {
        let found = match number(cell) {
            Some(at) => figures.ways.get(at).map(|way| look(at, &way.title)),
            None => {
                unlisted += 1;
                Some(look(unlisted - 1, &cell.way))
            }
        };
        cells.extend(found.map(|look| (look, cell)));
    }
    cells.sort_by_key(|(look, _)| look.number);
    cells
}

/// The looks of lines by their titles: a line that is called as a way, by its title or its id, looks like it.
pub(super) fn of_lines<'t>(figures: &Figures, titles: impl Iterator<Item = &'t str>) -> Vec<Look> {
    let mut next = figures.ways.len().max(1);
    let mut looks: Vec<Look> = Vec::new();
    for title in titles {
        let known = figures.ways.iter().position(|way| way.title == title || way.id == title);
        let number = known.filter(|number| looks.iter().all(|look| look.number != *number));
        looks.push(look(
            number.unwrap_or_else(|| {
                next += 1;
                next - 1
            }),
            title,
        ));
    }
    looks
}
