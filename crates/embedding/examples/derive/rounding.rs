//! Rounds weights to 4 bits, in groups of 32 that share a scale.
//!
//! A matrix is rounded column by column. The error of a column is compensated in the following columns, as
//! far as their inputs correlate (the method known as GPTQ, after Frantar and others, 2022). The statistics
//! of the inputs are measured.

use crate::linear::Inputs;

pub(crate) const GROUP: usize = 32;

/// The fraction of the mean square of all inputs that is added to each. Otherwise inputs that rarely occur
/// would receive the whole error.
const DAMPING: f64 = 0.1;

/// A rounded matrix, row after row.
pub(crate) struct Rounded {
    /// A bfloat16 for each group.
    pub(crate) scales: Vec<u16>,
    /// Numbers from 0 to 15; the weight is the number minus 8, times the scale.
    pub(crate) numbers: Vec<[u8; GROUP]>,
}

impl Rounded {
    /// Rounds each group separately to the nearest values.
    pub(crate) fn nearest(weights: &[f32]) -> Self {
        let (scales, numbers) = weights.as_chunks::<GROUP>().0.iter().map(round).unzip();
        Self { scales, numbers }
    }

    /// Rounds so that products with such inputs change as little as possible.
    pub(crate) fn fitting(weights: &[f32], inputs: &Inputs) -> Self {
        let factors = inputs.error_factors(DAMPING);
        let mut rounded = Self { scales: Vec::new(), numbers: Vec::new() };
        for row in weights.chunks_exact(inputs.width) {
            let mut row: Vec<f64> = row.iter().copied().map(f64::from).collect();
            for start in (0..inputs.width).step_by(GROUP) {
                let group: [f32; GROUP] = std::array::from_fn(|index| row[start + index] as f32);
                let (scale, _) = round(&group);
                let mut numbers = [8; GROUP];
                for (index, number) in numbers.iter_mut().enumerate() {
                    let column = start + index;
                    *number = nearest(row[column] as f32, scale);
                    let factors = &factors[column * inputs.width..][column..inputs.width];
                    let error = (row[column] - f64::from(value(*number, scale))) / factors[0];
                    for (weight, factor) in row[column..].iter_mut().zip(factors) {
                        *weight -= error * factor;
                    }
                }
                rounded.scales.push(scale);
                rounded.numbers.push(numbers);
            }
        }
        rounded
    }

    /// The weights after rounding.
    pub(crate) fn values(&self) -> Vec<f32> {
        let groups = self.scales.iter().zip(&self.numbers);
        groups.flat_map(|(scale, numbers)| numbers.map(|number| value(number, *scale))).collect()
    }
}

/// The nearest bfloat16.
pub(crate) fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    ((bits + 0x7fff + even) >> 16) as u16
}

fn wide(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn value(number: u8, scale: u16) -> f32 {
    (f32::from(number) - 8.0) * wide(scale)
}

fn nearest(weight: f32, scale: u16) -> u8 {
    let scale = wide(scale);
    let factor = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    ((weight * factor).round().clamp(-8.0, 7.0) + 8.0) as u8
}

/// The scale and the 4-bit numbers with the smallest sum of squared errors for a group.
///
/// Tries the scales that map the largest weight to 4.5 to 9.5, with either sign, because the range from -8 to
/// 7 is not symmetric. Each scale is then fitted once more to the rounded numbers.
fn round(group: &[f32; GROUP]) -> (u16, [u8; GROUP]) {
    let largest = group.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let mut best = (f32::INFINITY, 0, [8; GROUP]);
    for quarters in 18..=38_u8 {
        for sign in [1.0, -1.0] {
            let first = half(sign * largest * 4.0 / f32::from(quarters));
            let (_, numbers) = error(group, first);
            for scale in [first, half(fitted(group, &numbers))] {
                let (error, numbers) = error(group, scale);
                if error < best.0 {
                    best = (error, scale, numbers);
                }
            }
        }
    }
    (best.1, best.2)
}

fn error(group: &[f32; GROUP], scale: u16) -> (f32, [u8; GROUP]) {
    let numbers = group.map(|weight| nearest(weight, scale));
    let errors = group.iter().zip(numbers).map(|(weight, number)| (weight - value(number, scale)).powi(2));
    (errors.sum(), numbers)
}

/// The scale with the smallest squared error for these 4-bit numbers.
fn fitted(group: &[f32; GROUP], numbers: &[u8; GROUP]) -> f32 {
    let pairs = || group.iter().zip(numbers).map(|(weight, number)| (weight, f32::from(*number) - 8.0));
    let squares: f32 = pairs().map(|(_, number)| number * number).sum();
    let products: f32 = pairs().map(|(weight, number)| weight * number).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}
