//! One figure of several measurements of the same thing.

/// The middle one of the values, or the mean of the two in the middle; `NAN` of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (len, middle) if len % 2 == 1 => sorted[middle],
        (_, middle) => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// How far two measurements of one and the same thing lie apart as a rule, as a ratio less one:
/// the median over the rounds, or how far the medians themselves lie apart if that is more.
pub fn noise(ratios: &[f64]) -> f64 {
    let distances: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
    median(&distances).max((median(ratios) - 1.0).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn noise_does_not_cancel_out_over_the_rounds() {
        assert!((noise(&[0.9, 1.0, 1.1]) - 0.1).abs() < 1e-9);
        assert!((noise(&[1.05, 1.05, 1.05]) - 0.05).abs() < 1e-9);
        assert_eq!(noise(&[1.0, 1.0]), 0.0);
    }
}
