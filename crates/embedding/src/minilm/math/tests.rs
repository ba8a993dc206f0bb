use super::*;

#[test]
fn exp_is_close_everywhere_it_is_used() {
    for step in -8700..=8700_i16 {
        let x = f32::from(step) / 100.0;
        let exact = f64::from(x).exp();
        for found in [exp::<false>(x), exp::<true>(x)] {
            assert!((f64::from(found) / exact - 1.0).abs() < 5e-7, "{x}: {found} for {exact}");
        }
    }
    assert!(exp::<false>(f32::MIN) < 1e-37);
}

#[test]
fn gelu_has_its_known_values() {
    // x times the normal distribution function at x, from tables of that function.
    let known = [
        (0.0, 0.0),
        (1.0, 0.841_344_7),
        (-1.0, -0.158_655_25),
        (2.0, 1.954_499_7),
        (-3.0, -0.004_049_694),
        (8.0, 8.0),
        (-8.0, 0.0),
    ];
    for (x, expected) in known {
        assert!((gelu::<true>(x) - expected).abs() < 2e-6, "{x}: {}", gelu::<true>(x));
        assert!((gelu::<false>(x) - expected).abs() < 2e-6, "{x}: {}", gelu::<false>(x));
    }
}

#[test]
fn a_normalised_token_has_mean_0_and_variance_1() {
    let mut token: Vec<f32> = (0..384_u16).map(|index| f32::from(index % 17) * 0.3 + 5.0).collect();
    normalise::<false>(&mut token, &[1.0; 384], &[0.0; 384]);
    let mean = token.iter().sum::<f32>() / 384.0;
    let variance = token.iter().map(|value| value * value).sum::<f32>() / 384.0;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
}
