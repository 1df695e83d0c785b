//! A drawing: shapes and texts, which become an `<svg>` element.
//!
//! Each text leaves its box behind, so that a test can tell whether any two overlap. Colours are classes of the page's
//! style sheet, which knows light, dark and paper.

use std::fmt::{self, Write as _};

use super::text::{self, escape};

/// Height of a line of small text, in pixels.
pub(super) const LINE: f64 = 16.0;

/// Size of the text in drawings, in pixels.
pub(super) const SIZE: f64 = 12.0;

/// Where a text is, relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// The room that a text takes at most.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TextBox {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    pub(super) text: String,
}

/// A drawing of a fixed width that grows downwards.
#[derive(Debug)]
pub(super) struct Drawing {
    title: String,
    description: String,
    pub(super) width: f64,
    pub(super) height: f64,
    body: String,
    pub(super) texts: Vec<TextBox>,
}

impl Drawing {
    /// An empty drawing. What it is, and what is seen on it, are for those who do not see it.
    pub(super) fn new(title: &str, description: &str, width: f64) -> Self {
        let (title, description) = (title.to_owned(), description.to_owned());
        Self { title, description, width, height: 0.0, body: String::new(), texts: Vec::new() }
    }

    fn push(&mut self, element: fmt::Arguments<'_>) {
        self.body.write_fmt(element).expect("a string takes everything");
    }

    /// A text on this base line. An empty one is none.
    pub(super) fn text(&mut self, (x, base): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let wide = text::width(text, SIZE);
        let (name, left) = match anchor {
            Anchor::Start => ("start", x),
            Anchor::Middle => ("middle", x - wide / 2.0),
            Anchor::End => ("end", x - wide),
        };
        let escaped = escape(text);
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{base:.1}\" text-anchor=\"{name}\" class=\"{class}\">{escaped}</text>"
        ));
        let (top, bottom) = (base - SIZE * 0.8, base + SIZE * 0.25);
        self.texts.push(TextBox { left, right: left + wide, top, bottom, text: text.to_owned() });
    }

    /// A text that is cut to this width; the whole of it is shown to who points at it.
    pub(super) fn text_within(&mut self, (x, base): (f64, f64), room: f64, class: &str, text: &str) {
        let shown = text::fit(text, room, SIZE);
        let is_cut = shown != text;
        if is_cut {
            self.push(format_args!("<g><title>{}</title>", escape(text)));
        }
        self.text((x, base), Anchor::Start, class, &shown);
        if is_cut {
            self.push(format_args!("</g>"));
        }
    }

    /// A rectangle between two corners in any order, with what is said of it to who points at it.
    pub(super) fn rectangle(&mut self, (x, y): (f64, f64), (x2, y2): (f64, f64), class: &str, tip: &str) {
        let (left, top, wide, high) = (x.min(x2), y.min(y2), (x2 - x).abs(), (y2 - y).abs());
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        self.push(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" class=\"{class}\">{tip}</rect>"
        ));
    }

    /// A straight line.
    pub(super) fn line(&mut self, (x, y): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.push(format_args!(
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    /// A line through points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut places = String::new();
        for (x, y) in points {
            write!(places, "{x:.1},{y:.1} ").expect("a string takes everything");
        }
        self.push(format_args!("<polyline points=\"{}\" class=\"{class}\"/>", places.trim_end()));
    }

    /// A mark of one of several forms, so that who does not tell the colours apart tells the marks.
    pub(super) fn mark(&mut self, (x, y): (f64, f64), form: usize, class: &str, tip: &str) {
        let corners: &[(f64, f64)] = match form % 4 {
            0 => &[
                (-3.5, 0.0),
                (-2.5, -2.5),
                (0.0, -3.5),
                (2.5, -2.5),
                (3.5, 0.0),
                (2.5, 2.5),
                (0.0, 3.5),
                (-2.5, 2.5),
            ],
            1 => &[(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)],
            2 => &[(0.0, -4.0), (3.8, 3.0), (-3.8, 3.0)],
            _ => &[(0.0, -4.3), (4.3, 0.0), (0.0, 4.3), (-4.3, 0.0)],
        };
        let mut places = String::new();
        for (right, down) in corners {
            write!(places, "{:.1},{:.1} ", x + right, y + down).expect("a string takes everything");
        }
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        self.push(format_args!(
            "<polygon points=\"{}\" class=\"{class}\">{tip}</polygon>",
            places.trim_end()
        ));
    }

    /// The element. `number` tells it from the others of a page.
    pub(super) fn svg(&self, number: usize) -> String {
        let Self { width, height, body, .. } = self;
        let (title, description) = (escape(&self.title), escape(&self.description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             aria-labelledby=\"chart-{number}-title chart-{number}-text\" style=\"max-width:{width:.0}px\">\
             <title id=\"chart-{number}-title\">{title}</title><desc id=\"chart-{number}-text\">{description}</desc>\
             {body}</svg>"
        )
    }
}
