//! What a token endpoint sees of many replicas that lose it and get it back: the simulation that `benches/herd` runs with 10 000.
#![cfg(feature = "oauth2")]

#[path = "../benches/herd/simulation.rs"]
mod simulation;

use std::time::Duration;

use simulation::{DOWN, END, UP, run};

const REPLICAS: u32 = 200;

#[test]
fn a_herd_spreads_and_comes_back_within_a_minute() {
    let alone = run(REPLICAS.into(), false, |_| {});
    assert_eq!(alone.sum(Duration::ZERO, Duration::from_secs(1)), REPLICAS);
    // Two minutes into the outage everybody waits 30 to 60 s between attempts: 45 s on average.
    let settled = DOWN + Duration::from_secs(600);
    for minute in (settled.as_secs()..UP.as_secs()).step_by(60).map(Duration::from_secs) {
        let requests = alone.sum(minute, minute + Duration::from_secs(60));
        assert!((REPLICAS..REPLICAS * 3 / 2).contains(&requests), "{requests} in the minute after {minute:?}");
    }
    assert!(alone.recovered <= Duration::from_secs(61), "{:?}", alone.recovered);
    // Who came back together is not due together.
    assert!(alone.peak(UP + Duration::from_secs(120), END) <= REPLICAS / 10);
}

#[test]
fn a_herd_with_a_store_is_one_client() {
    let shared = run(REPLICAS.into(), true, |_| {});
    assert_eq!(shared.sum(Duration::ZERO, Duration::from_secs(60)), 1, "all start with one fetch");
    assert!(shared.peak(Duration::ZERO, END) <= 2);
    // Of 30 minutes, with at least 30 s between two attempts once it has lasted.
    assert!(shared.sum(DOWN, UP) <= 70, "{}", shared.sum(DOWN, UP));
    assert!(shared.recovered <= Duration::from_secs(61), "{:?}", shared.recovered);
    // Three renewals of ten-minute tokens in half an hour.
    assert!(shared.sum(UP + Duration::from_secs(120), END) <= 4);
}

#[test]
fn it_is_the_same_each_time() {
    for shared in [false, true] {
        let (one, again) = (run(20, shared, |_| {}), run(20, shared, |_| {}));
        let differs = one.requests.iter().zip(&again.requests).position(|(one, again)| one != again);
        assert_eq!(differs, None, "the second in which they differ, sharing: {shared}");
    }
}
