//! The tile for x86-64 processors with AVX2 and FMA, which nearly every one since 2015 has.
//!
//! One instruction multiplies 32 pairs of bytes and adds neighbours. Weights are at most 15 and inputs at
//! most 127, so the 8 steps of a group stay below 2^15. They are summed in 16 bits before they are widened.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi16, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_sub_epi32,
};

use bytemuck::must_cast;

use super::activations::Group;
use super::multiply::{Sums, UnpackedGroup};
use super::shape::LANES;
use super::shape::TILE;

// Do not use closures in these functions. A library function that takes a closure is not compiled for AVX2,
// so it would be called for each step instead of being inlined.

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn tile(panel: &[UnpackedGroup], groups: &[Group], tokens: usize, bias: &[f32; LANES]) -> Sums {
    match tokens {
        4 => tile_of::<4>(panel, groups, bias),
        3 => tile_of::<3>(panel, groups, bias),
        2 => tile_of::<2>(panel, groups, bias),
        _one => tile_of::<1>(panel, groups, bias),
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn tile_of<const TOKENS: usize>(panel: &[UnpackedGroup], groups: &[Group], bias: &[f32; LANES]) -> Sums {
    let ones = _mm256_set1_epi16(1);
    let mut sums: [__m256; TOKENS] = [must_cast(*bias); TOKENS];
    for (weights, groups) in panel.iter().zip(groups.as_chunks::<TOKENS>().0) {
        let mut pairs: [__m256i; TOKENS] = [_mm256_setzero_si256(); TOKENS];
        for (step, four) in weights.packed.iter().enumerate() {
            let four: __m256i = must_cast(*four);
            for (pairs, group) in pairs.iter_mut().zip(groups) {
                let products = _mm256_maddubs_epi16(four, _mm256_set1_epi32(group.packed[step]));
                *pairs = _mm256_add_epi16(*pairs, products);
            }
        }
        let scales: __m256 = must_cast(weights.scales);
        for ((sum, pairs), group) in sums.iter_mut().zip(&pairs).zip(groups) {
            let whole = _mm256_sub_epi32(
                _mm256_madd_epi16(*pairs, ones),
                _mm256_set1_epi32(group.zero_point_correction),
            );
            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(group.scale));
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scale, *sum);
        }
    }
    let mut outputs = [[0.0; LANES]; TILE];
    for (output, sum) in outputs.iter_mut().zip(&sums) {
        *output = must_cast(*sum);
    }
    outputs
}
