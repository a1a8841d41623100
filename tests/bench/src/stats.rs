//! What several rounds say together.

/// Least, middle and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The median: of an even number, the mean of the middle two.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of these figures; `None` if there are none or one of them is not a number.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        if sorted.is_empty() || sorted.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { min: sorted[0], median, max: sorted[sorted.len() - 1] })
    }

    /// The spread of `ours / theirs`, round by round; `None` unless every round has both.
    #[must_use]
    pub fn of_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Self> {
        if ours.len() != theirs.len() {
            return None;
        }
        let ratios: Option<Vec<f64>> = ours.iter().zip(theirs).map(|(a, b)| Some((*a)? / (*b)?)).collect();
        Self::of(ratios?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(figures.iter().copied()).map(|spread| (spread.min, spread.median, spread.max))
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[5.0]), Some((5.0, 5.0, 5.0)));
    }

    #[test]
    fn no_figures_and_no_numbers_have_no_spread() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[1.0, f64::NAN]), None);
        assert_eq!(spread(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn a_ratio_needs_both_sides_of_every_round() {
        let ratios = |a: &[Option<f64>], b: &[Option<f64>]| Spread::of_ratios(a, b).map(|spread| spread.median);
        assert_eq!(ratios(&[Some(1.0), Some(3.0)], &[Some(2.0), Some(2.0)]), Some(1.0));
        assert_eq!(ratios(&[Some(1.0), None], &[Some(2.0), Some(2.0)]), None);
        assert_eq!(ratios(&[Some(1.0)], &[]), None);
        assert_eq!(ratios(&[Some(1.0)], &[Some(0.0)]), None);
    }
}
