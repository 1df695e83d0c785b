//! From figures to places: linear and logarithmic axes with round ticks.
//!
//! Whatever figures come, also none, zeros, and what is no number: every place is finite and within the axis.

use std::{iter, ops::RangeInclusive};

/// How figures are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are equally far apart.
    Log,
}

/// Ticks of an axis at most, about.
const TICKS: f64 = 7.0;

/// No figure that is drawn is outside of this; what is, is drawn at its end.
const LINEAR: RangeInclusive<f64> = -1e15..=1e15;
const LOG: RangeInclusive<f64> = 1e-12..=1e15;

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    kind: Kind,
    /// The figures at its ends; logarithms of them where it is logarithmic.
    low: f64,
    high: f64,
    /// The places of its ends, in pixels; they fall where it goes up.
    from: f64,
    to: f64,
}

impl Scale {
    /// An axis over all these figures, from one place to another.
    pub(super) fn over(kind: Kind, figures: impl IntoIterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let figures = figures.into_iter().filter(|figure| kind.takes(*figure)).map(|figure| kind.of(figure));
        let (low, high) =
            figures.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
        let (low, high) = match high - low {
            width if width > 1e-9 => (low, high),
            // One figure, or none, is no axis: there is something around it.
            _ if low.is_finite() => (low - 0.5, low + 0.5),
            _ => (0.0, 1.0),
        };
        Self { kind, low, high, from, to }
    }

    /// With some room at its ends, but for one that is zero.
    pub(super) fn padded(self) -> Self {
        let room = (self.high - self.low) * 0.04;
        let is_kept = |end: f64| self.kind == Kind::Linear && end == 0.0;
        let low = if is_kept(self.low) { self.low } else { self.low - room };
        let high = if is_kept(self.high) { self.high } else { self.high + room };
        Self { low, high, ..self }
    }

    /// Whether a figure has a place of its own.
    pub(super) fn takes(&self, figure: f64) -> bool {
        self.kind.takes(figure)
    }

    /// The place of a figure; that of the lower end for what has none.
    pub(super) fn at(&self, figure: f64) -> f64 {
        let at = if self.kind.takes(figure) { self.kind.of(figure) } else { self.low };
        let share = ((at - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Round figures within the axis, rising.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.kind {
            Kind::Linear => steps(self.low, self.high, self.step()).collect(),
            Kind::Log => self.log_ticks(),
        }
    }

    /// The least of 1, 2, 5, 10, 20... of which there are not too many.
    fn step(&self) -> f64 {
        let least = (self.high - self.low) / TICKS;
        let decade = 10_f64.powf(least.log10().floor());
        [1.0, 2.0, 5.0]
            .map(|digit| digit * decade)
            .into_iter()
            .find(|step| *step >= least)
            .unwrap_or(decade * 10.0)
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let digits: &[f64] = match decades {
            ..1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            ..2.6 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let step = (decades / TICKS).ceil().max(1.0);
        let ticks: Vec<f64> = steps(self.low.floor(), self.high, step)
            .flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powf(decade)))
            .filter(|tick| (self.low - 1e-9..=self.high + 1e-9).contains(&tick.log10()))
            .collect();
        // An axis may be too short for a round figure: its ends tell what it is.
        if ticks.len() < 2 { vec![10_f64.powf(self.low), 10_f64.powf(self.high)] } else { ticks }
    }
}

impl Kind {
    fn takes(self, figure: f64) -> bool {
        figure.is_finite() && (self == Self::Linear || figure > 0.0)
    }

    fn of(self, figure: f64) -> f64 {
        match self {
            Self::Linear => figure.clamp(*LINEAR.start(), *LINEAR.end()),
            Self::Log => figure.clamp(*LOG.start(), *LOG.end()).log10(),
        }
    }
}

/// The multiples of `step` from `low` to `high`, of which there are few.
fn steps(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (low / step - 1e-9).ceil();
    iter::successors(Some(first), |multiple| Some(multiple + 1.0))
        .map(move |multiple| multiple * step)
        .take_while(move |tick| *tick <= high + step * 1e-9)
        .take(40)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |kind, figures: [f64; 2]| Scale::over(kind, figures, (0.0, 100.0)).ticks();
        assert_eq!(ticks(Kind::Linear, [0.0, 1.1]), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(Kind::Log, [0.01, 1.0]), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        assert_eq!(ticks(Kind::Log, [1.0, 1e5]), [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]);
    }

    proptest! {
        #[test]
        fn every_place_is_within_the_axis(
            figures in prop::collection::vec(prop::num::f64::ANY, 0..6), other in prop::num::f64::ANY, is_log: bool,
        ) {
            let kind = if is_log { Kind::Log } else { Kind::Linear };
            let scale = Scale::over(kind, figures.iter().copied(), (200.0, 10.0));
            let ticks = scale.ticks();
            prop_assert!(ticks.len() <= 40 && ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
            for figure in figures.into_iter().chain([other]).chain(ticks) {
                prop_assert!((10.0..=200.0).contains(&scale.at(figure)));
            }
        }
    }
}
