//! Statistics of the inputs of a matrix: the sums of their products, and the triangular factor that rounding
//! needs.

/// Sums over many inputs.
pub(crate) struct Inputs {
    pub(crate) width: usize,
    /// The sum of products for each pair of inputs, lower triangle.
    products: Vec<f32>,
}

impl Inputs {
    pub(crate) fn of(all: &[Vec<f32>]) -> Self {
        let width = all.first().map_or(0, Vec::len);
        let mut products = vec![0.0; width * width];
        // In chunks of 64 inputs, so that they stay in the cache while all rows are updated.
        for some in all.chunks(64) {
            for (index, row) in products.chunks_exact_mut(width).enumerate() {
                for one in some {
                    let factor = one[index];
                    for (sum, value) in row[..=index].iter_mut().zip(one) {
                        *sum += factor * value;
                    }
                }
            }
        }
        Self { width, products }
    }

    /// The upper triangular matrix U, row after row, with UᵀU the inverse of the products.
    ///
    /// It is the inverse of R in RRᵀ = products with R upper triangular. With rows and columns reversed, that
    /// is the usual Cholesky decomposition into a lower triangle.
    pub(crate) fn error_factors(&self, damping: f64) -> Vec<f64> {
        let n = self.width;
        let mean = (0..n).map(|index| f64::from(self.products[index * n + index])).sum::<f64>() / n as f64;
        let turned = |row: usize, column: usize| {
            let (row, column) = (n - 1 - row, n - 1 - column);
            let sum = f64::from(self.products[row.max(column) * n + row.min(column)]);
            if row == column { sum + damping * mean } else { sum }
        };
        let mut lower = vec![0.0; n * n];
        for row in 0..n {
            let (above, own) = lower.split_at_mut(row * n);
            for column in 0..row {
                let other = &above[column * n..][..=column];
                own[column] = (turned(row, column) - product(&own[..column], other)) / other[column];
            }
            own[row] = (turned(row, row) - product(&own[..row], &own[..row])).sqrt();
        }
        let mut inverse = vec![0.0; n * n];
        for row in 0..n {
            let (above, own) = inverse.split_at_mut(row * n);
            for (column, factor) in lower[row * n..][..row].iter().enumerate() {
                for (sum, value) in own.iter_mut().zip(&above[column * n..][..=column]) {
                    *sum -= factor * value;
                }
            }
            own[row] = 1.0;
            let diagonal = lower[row * n + row];
            own[..=row].iter_mut().for_each(|value| *value /= diagonal);
        }
        inverse.reverse();
        inverse
    }
}

/// The sum of products of two rows, over the length of the shorter one.
fn product(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (lefts, left) = left.as_chunks::<4>();
    let (rights, right) = right[..].as_chunks::<4>();
    for (left, right) in lefts.iter().zip(rights) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane += left * right;
        }
    }
    let right = if lefts.len() < rights.len() { &rights[lefts.len()][..] } else { right };
    lanes.iter().sum::<f64>() + left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>()
}
