//! Sums, norms and the two nonlinear functions of the network, written so that the compiler vectorises them.
//!
//! All functions are inlined, so each is compiled for the target features of its caller.

/// `a * b + c`, fused if the caller is compiled for FMA. Without that feature, fusing would be a library
/// call.
#[inline(always)]
pub(super) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Adding and subtracting this number rounds a number of moderate size to the nearest integer.
pub(super) const ROUNDING: f32 = 12_582_912.0;

/// e to the power of `x`, with a relative error below 2e-7. `x` is clamped to -87 to 87; e^-87 is negligible.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let shifted = fused::<FUSED>(x, std::f32::consts::LOG2_E, ROUNDING);
    let whole = shifted - ROUNDING;
    // ln 2 in two parts, so that the product of the first with a small integer is exact.
    let part = fused::<FUSED>(whole, -0.693_359_4, x);
    let part = fused::<FUSED>(whole, 2.121_944_4e-4, part);
    let mut sum = 1.987_569_1e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = fused::<FUSED>(sum, part, factor);
    }
    let sum = fused::<FUSED>(sum * part, part, part) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    sum * power
}

/// The exact GELU, x times the normal distribution function at x, to 1e-6. The error function is that of
/// Abramowitz and Stegun, 7.1.26.
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fused::<FUSED>(z, 0.327_591_1, 1.0);
    let mut sum = 1.061_405_4;
    for factor in [-1.453_152_1, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = fused::<FUSED>(sum, t, factor);
    }
    let tail = 0.5 * sum * t * exp::<FUSED>(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// The sum over `values`, in 8 lanes. `term(value, sum)` adds a value to a sum.
#[inline(always)]
pub(super) fn sum_lanes<const FUSED: bool>(values: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0_f32; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = term(*value, *lane);
        }
    }
    rest.iter().fold(lanes.iter().sum(), |sum, value| term(*value, sum))
}

/// Normalises a token to mean 0 and variance 1, then scales and shifts each dimension.
#[inline(always)]
pub(super) fn normalise<const FUSED: bool>(token: &mut [f32], scale: &[f32], shift: &[f32]) {
    let count = token.len() as f32;
    let mean = sum_lanes::<FUSED>(token, |value, sum| sum + value) / count;
    let variance =
        sum_lanes::<FUSED>(token, |value, sum| fused::<FUSED>(value - mean, value - mean, sum)) / count;
    let factor = 1.0 / (variance + 1e-12).sqrt();
    for ((value, scale), shift) in token.iter_mut().zip(scale).zip(shift) {
        *value = fused::<FUSED>((*value - mean) * factor, *scale, *shift);
    }
}

#[cfg(test)]
mod tests;
