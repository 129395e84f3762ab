//! What Roadstead is held to: bounds on what was measured, and whether they are kept.

use crate::stats::{Spread, spread};

/// By how much a goal may be missed for its case to be measured once more, with twice the rounds.
const NOISE: f64 = 0.10;
/// What is the clock's (a rate, a latency) is held with this much slack: the machine is shared.
const SLACK: f64 = 2.0;

/// The numbers that are good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// This much or less.
    AtMost(f64),
    /// This much or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether a value keeps it.
    fn keeps(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    /// The same with a factor of room.
    fn widened(self, factor: f64) -> Self {
        match self {
            Self::AtMost(most) => Self::AtMost(most * factor),
            Self::AtLeast(least) => Self::AtLeast(least / factor),
        }
    }
}

/// What follows when a goal is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// CPU, counts, memory, size: the run fails.
    Must,
    /// What the clock says: the run fails when it is missed by more than the slack.
    Held,
    /// Nothing: it is what would be better still, in another unit than the goal.
    Wish,
}

/// How a goal came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Even the harder bound is kept.
    Stretch,
    /// Kept.
    Met,
    /// Missed as it is written, and within the slack that is given to what the clock says.
    Slack,
    /// Missed.
    Missed,
    /// Only wished for, and not reached.
    Short,
    /// Not measured in this run.
    Open,
}

/// One sentence of a goal, with what was measured for it.
#[derive(Clone, Debug)]
pub(crate) struct Criterion {
    /// The goal's number, such as `G3`.
    pub(crate) goal: &'static str,
    /// What is bounded.
    pub(crate) what: String,
    /// The unit of the numbers, or nothing for a ratio.
    pub(crate) unit: &'static str,
    /// What has to be.
    pub(crate) bound: Bound,
    /// What would be better still.
    pub(crate) stretch: Option<Bound>,
    /// What follows.
    pub(crate) weight: Weight,
    /// What was measured, a value for each round.
    pub(crate) values: Vec<f64>,
}

impl Criterion {
    /// A must: a ratio unless `unit` is set.
    pub(crate) fn must(goal: &'static str, what: impl Into<String>, bound: Bound, values: Vec<f64>) -> Self {
        Self { goal, what: what.into(), unit: "", bound, stretch: None, weight: Weight::Must, values }
    }

    /// What the clock says.
    pub(crate) fn held(goal: &'static str, what: impl Into<String>, bound: Bound, values: Vec<f64>) -> Self {
        Self { weight: Weight::Held, ..Self::must(goal, what, bound, values) }
    }

    /// What would be better still.
    pub(crate) fn wish(goal: &'static str, what: impl Into<String>, bound: Bound, values: Vec<f64>) -> Self {
        Self { weight: Weight::Wish, stretch: Some(bound), ..Self::must(goal, what, bound, values) }
    }

    /// With a harder bound beside it.
    pub(crate) fn stretch(self, stretch: Bound) -> Self {
        Self { stretch: Some(stretch), ..self }
    }

    /// With a unit.
    pub(crate) fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// The middle of what was measured.
    pub(crate) fn spread(&self) -> Option<Spread> {
        spread(&self.values)
    }

    /// How it came out, by the median.
    pub(crate) fn verdict(&self) -> Verdict {
        let Some(Spread { median, .. }) = self.spread() else { return Verdict::Open };
        if self.stretch.is_some_and(|stretch| stretch.keeps(median)) {
            Verdict::Stretch
        } else if self.bound.keeps(median) {
            Verdict::Met
        } else if self.weight == Weight::Held && self.bound.widened(SLACK).keeps(median) {
            Verdict::Slack
        } else if self.weight == Weight::Wish {
            Verdict::Short
        } else {
            Verdict::Missed
        }
    }

    /// Whether it is missed by so little that noise may be the cause.
    pub(crate) fn is_near(&self) -> bool {
        let held = if self.weight == Weight::Held { self.bound.widened(SLACK) } else { self.bound };
        self.verdict() == Verdict::Missed && self.spread().is_some_and(|found| held.widened(1.0 + NOISE).keeps(found.median))
    }
}

#[cfg(test)]
mod tests {
    use super::Bound::{AtLeast, AtMost};
    use super::*;

    fn must(bound: Bound, value: f64) -> Criterion {
        Criterion::must("G1", "CPU", bound, vec![value])
    }

    fn held(bound: Bound, value: f64) -> Criterion {
        Criterion::held("G1", "rate", bound, vec![value])
    }

    #[test]
    fn the_bound_itself_is_good() {
        assert_eq!(must(AtMost(1.25), 1.25).verdict(), Verdict::Met);
        assert_eq!(must(AtLeast(10.0), 10.0).verdict(), Verdict::Met);
    }

    #[test]
    fn what_keeps_the_harder_bound_is_a_stretch() {
        assert_eq!(must(AtMost(1.25), 1.1).stretch(AtMost(1.1)).verdict(), Verdict::Stretch);
        assert_eq!(must(AtMost(1.25), 1.11).stretch(AtMost(1.1)).verdict(), Verdict::Met);
    }

    #[test]
    fn a_must_has_no_slack() {
        assert_eq!(must(AtMost(1.25), 1.26).verdict(), Verdict::Missed);
    }

    #[test]
    fn the_clock_has_twice_the_room_and_no_more() {
        assert_eq!(held(AtMost(3.0), 5.9).verdict(), Verdict::Slack);
        assert_eq!(held(AtMost(3.0), 6.1).verdict(), Verdict::Missed);
        assert_eq!(held(AtLeast(10.0), 5.1).verdict(), Verdict::Slack);
        assert_eq!(held(AtLeast(10.0), 4.9).verdict(), Verdict::Missed);
    }

    #[test]
    fn the_median_decides_and_not_the_worst_round() {
        let criterion = Criterion::must("G1", "CPU", AtMost(1.0), vec![0.9, 0.8, 7.0]);
        assert_eq!(criterion.verdict(), Verdict::Met);
    }

    #[test]
    fn a_near_miss_is_measured_again_and_a_clear_one_is_not() {
        assert!(must(AtMost(1.0), 1.09).is_near());
        assert!(!must(AtMost(1.0), 1.11).is_near());
        assert!(!must(AtMost(1.0), 0.99).is_near());
        assert!(held(AtLeast(10.0), 4.8).is_near());
        assert!(!held(AtLeast(10.0), 5.2).is_near());
    }

    #[test]
    fn a_wish_is_never_missed() {
        let wish = |value| Criterion::wish("G12", "time", AtMost(0.3), vec![value]).verdict();
        assert_eq!((wish(0.2), wish(9.0)), (Verdict::Stretch, Verdict::Short));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let open = Criterion::must("G1", "CPU", AtMost(1.0), Vec::new());
        assert_eq!(open.verdict(), Verdict::Open);
        assert!(!open.is_near());
    }
}
