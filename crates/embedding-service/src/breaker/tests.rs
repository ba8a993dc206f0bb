use tokio::time::advance;

use super::*;

fn fail(breaker: &Breaker) {
    breaker.admit().unwrap().record_failure("status 500", None);
}

/// How long the breaker refuses requests, to the millisecond.
async fn rest(breaker: &Breaker) -> Duration {
    let mut rested = Duration::ZERO;
    while breaker.admit().is_err() {
        advance(Duration::from_millis(1)).await;
        rested += Duration::from_millis(1);
    }
    rested
}

#[tokio::test(start_paused = true)]
async fn opens_at_the_third_failure_in_a_row() {
    let breaker = Breaker::new();
    fail(&breaker);
    fail(&breaker);
    breaker.admit().unwrap().record_success();
    fail(&breaker);
    fail(&breaker);
    assert!(breaker.admit().is_ok());
    fail(&breaker);
    let refusal = breaker.admit().unwrap_err();
    assert!(refusal.contains("3 failures") && refusal.contains("status 500"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn rests_double_to_a_minute_and_start_over() {
    let breaker = Breaker::new();
    fail(&breaker);
    fail(&breaker);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        fail(&breaker);
        assert_eq!(rest(&breaker).await, Duration::from_secs(seconds));
    }
    breaker.admit().unwrap().record_success();
    fail(&breaker);
    fail(&breaker);
    assert!(breaker.admit().is_ok());
    fail(&breaker);
    assert_eq!(rest(&breaker).await, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn one_trial_at_a_time() {
    let breaker = Breaker::new();
    for _ in 0..3 {
        fail(&breaker);
    }
    advance(POLICY.open_min).await;
    let trial = breaker.admit().unwrap();
    assert!(breaker.admit().unwrap_err().contains("half open"));
    drop(trial);
    let trial = breaker.admit().expect("a dropped trial allows the next");
    trial.record_success();
    assert!(breaker.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn failures_that_were_under_way_do_not_lengthen_the_rest() {
    let breaker = Breaker::new();
    let under_way: Vec<BreakerPermit<'_>> = (0..10).map(|_| breaker.admit().unwrap()).collect();
    for turn in under_way {
        turn.record_failure("late", None);
    }
    assert_eq!(rest(&breaker).await, POLICY.open_min);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_to_be_left_alone_is() {
    let breaker = Breaker::new();
    breaker.admit().unwrap().record_failure("status 429", Some(Duration::from_secs(20)));
    assert_eq!(rest(&breaker).await, Duration::from_secs(20));
    breaker.admit().unwrap().record_failure("status 429", Some(Duration::from_secs(86_400)));
    assert_eq!(rest(&breaker).await, POLICY.open_max, "a day is not believed");
    breaker.admit().unwrap().record_success();
    assert!(breaker.admit().is_ok());
}
