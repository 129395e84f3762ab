//! The statistics of rounds: median and quartiles, and ratios that are formed within each round.

/// Where the middle of some values lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The first quartile.
    pub(crate) low: f64,
    /// The third quartile.
    pub(crate) high: f64,
}

/// The median and the quartiles of some values, between neighbours by their distance; nothing of none.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    Some(Spread { median: at(&sorted, 2)?, low: at(&sorted, 1)?, high: at(&sorted, 3)? })
}

/// The value at so many quarters of the way through sorted values.
fn at(sorted: &[f64], quarters: usize) -> Option<f64> {
    let place = sorted.len().checked_sub(1)? * quarters;
    let (index, rest) = (place / 4, place % 4);
    let low = *sorted.get(index)?;
    let high = sorted.get(index + 1).copied().unwrap_or(low);
    Some(low + (high - low) * float(rest as u64) / 4.0)
}

/// Each round's value over that of another server in the same round.
pub(crate) fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "no count here has more than 53 bits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A number of things as a number that can be divided.
pub(crate) fn count(things: usize) -> f64 {
    float(things as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN]), None);
    }

    #[test]
    fn one_value_is_its_own_median_and_quartiles() {
        assert_eq!(spread(&[3.0]), Some(Spread { median: 3.0, low: 3.0, high: 3.0 }));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let found = spread(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!(close(found.median, 2.5) && close(found.low, 1.75) && close(found.high, 3.25), "{found:?}");
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        let found = spread(&[1.0, 2.0, 3.0, 4.0, 1000.0]).unwrap();
        assert!(close(found.median, 3.0) && close(found.low, 2.0) && close(found.high, 4.0), "{found:?}");
    }

    #[test]
    fn a_ratio_is_formed_within_its_round() {
        // The machine is half as fast in the second round: the ratio does not see it.
        assert_eq!(ratios(&[10.0, 20.0], &[2.0, 4.0]), [5.0, 5.0]);
    }

    proptest! {
        #[test]
        fn the_quartiles_enclose_the_median(values in proptest::collection::vec(0.0..1e6_f64, 1..40)) {
            let found = spread(&values).unwrap();
            prop_assert!(found.low <= found.median && found.median <= found.high);
            let below = values.iter().filter(|value| **value <= found.median + 1e-9).count();
            prop_assert!(below * 2 >= values.len());
        }
    }
}
