//! Orders tools with similar scores so that available tools come before unavailable ones.

use vmcp_domain::Availability;

/// Two tools are similar when their scores differ by at most this fraction of the best score.
const SIMILAR_SCORE_RATIO: f32 = 0.05;

/// Orders tools by availability. The input is sorted from best to worst; an unavailable tool moves behind
/// available tools of similar score. Returns the indices in the new order. `scores` and `availabilities` have
/// equal length.
pub(crate) fn order_by_availability(scores: &[f32], availabilities: &[Availability]) -> Vec<usize> {
    let penalty = scores.first().copied().unwrap_or(0.0).max(0.0) * SIMILAR_SCORE_RATIO;
    let weight = |place: &usize| {
        let usable = availabilities.get(*place).is_none_or(|prospect| *prospect == Availability::Available);
        scores.get(*place).copied().unwrap_or(0.0) - if usable { 0.0 } else { penalty }
    };
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    indices.sort_by(|left, right| weight(right).total_cmp(&weight(left)));
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    const USABLE: Availability = Availability::Available;
    const GONE: Availability = Availability::Unavailable;

    #[test]
    fn an_unusable_tool_lets_near_equals_pass_and_no_others() {
        assert_eq!(order_by_availability(&[1.0, 0.97, 0.5], &[GONE, USABLE, USABLE]), [1, 0, 2]);
        assert_eq!(order_by_availability(&[1.0, 0.90, 0.5], &[GONE, USABLE, USABLE]), [0, 1, 2]);
    }

    #[test]
    fn without_a_difference_the_order_stays() {
        assert_eq!(order_by_availability(&[1.0, 1.0, 0.3], &[USABLE, USABLE, USABLE]), [0, 1, 2]);
        assert_eq!(order_by_availability(&[1.0, 1.0, 0.3], &[GONE, GONE, GONE]), [0, 1, 2]);
        assert_eq!(order_by_availability(&[], &[]), [] as [usize; 0]);
    }
}
