//! Checks the vectors of a service. An invalid vector would make every comparison with it meaningless.

/// Maximum dimension of a vector. Models in use have up to 8192.
pub(crate) const DIMENSION_MAX: usize = 16_384;

/// Vectors of unit length and of one dimension.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CheckedVectors {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) dimension: usize,
}

/// Checks the vectors of `count` texts, at least one, and normalises them to unit length. The error describes
/// the defect.
pub(crate) fn check_vectors(mut vectors: Vec<Vec<f32>>, count: usize) -> Result<CheckedVectors, String> {
    if vectors.len() != count {
        return Err(format!("{} vectors for {count} texts", vectors.len()));
    }
    let dimension = vectors.first().map_or(0, Vec::len);
    if dimension == 0 || dimension > DIMENSION_MAX {
        return Err(format!("vectors of {dimension} numbers"));
    }
    for vector in &mut vectors {
        if vector.len() != dimension {
            return Err(format!("vectors of {dimension} and of {} numbers", vector.len()));
        }
        // Squares of f32 neither overflow nor underflow in f64.
        let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return Err("a vector with an infinite number".to_owned());
        }
        if length == 0.0 {
            return Err("a vector of zeros".to_owned());
        }
        for number in vector {
            #[allow(clippy::cast_possible_truncation, reason = "the quotient is at most 1")]
            let normalised = (f64::from(*number) / length) as f32;
            *number = normalised;
        }
    }
    Ok(CheckedVectors { vectors, dimension })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_out_with_unit_length() {
        let checked = check_vectors(vec![vec![3.0, 4.0], vec![-1e-30, 0.0], vec![3e38, 3e38]], 3).unwrap();
        assert_eq!(checked.dimension, 2);
        assert_eq!(checked.vectors[0], [0.6, 0.8]);
        assert_eq!(checked.vectors[1], [-1.0, 0.0]);
        let length = checked.vectors[2].iter().map(|number| number * number).sum::<f32>();
        assert!((length - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for (vectors, count, says) in [
            (vec![vec![1.0]], 2, "1 vectors for 2 texts"),
            (vec![vec![1.0], vec![1.0, 2.0]], 2, "of 1 and of 2 numbers"),
            (vec![vec![]], 1, "of 0 numbers"),
            (vec![vec![1.0; DIMENSION_MAX + 1]], 1, "of 16385 numbers"),
            (vec![vec![0.0, -0.0]], 1, "zeros"),
            (vec![vec![1.0, f32::NAN]], 1, "infinite"),
            (vec![vec![1.0, f32::INFINITY]], 1, "infinite"),
        ] {
            let error = check_vectors(vectors, count).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
