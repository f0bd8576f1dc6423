//! The same seed, the same life.

use super::scene::*;
use crate::{FetchError, State, live::Generation};

/// A long day with a bit of everything; gives everything that could be seen of it.
async fn day(seed: u64) -> (Vec<Call>, Vec<(State, u64, u32, Option<String>)>) {
    let mut rng = fastrand::Rng::with_seed(99);
    let acts: Vec<_> = (0..40)
        .map(|n| match n % 7 {
            2 => down(),
            4 => fails(FetchError::try_again("busy").retry_after(secs(17))),
            5 => hangs(),
            _ => fresh(secs(rng.u64(2..4000))).taking(millis(rng.u64(..2000))),
        })
        .collect();
    let scene = Scene::with(seed, acts, fresh(HOUR), |options| options);
    let mut seen = Vec::new();
    for step in 0..300_u64 {
        tokio::time::sleep(secs(60)).await;
        match step % 50 {
            7 => drop(tokio::time::timeout(secs(20), scene.token.refresh()).await),
            19 => scene.token.report_refused(scene.token.current().map_or(Generation(0), |(_, current)| current)),
            23 => scene.clock.suspend(secs(700)),
            _ => {}
        }
        let status = scene.token.status();
        seen.push((status.state(), status.generation(), status.failures(), scene.sent()));
    }
    (scene.script.calls(), seen)
}

#[test]
fn a_hundred_runs_with_one_seed_are_one_and_another_seed_is_another() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(day(seed))
    };
    let first = run(5);
    assert!(first.0.len() > 30, "{}", first.0.len());
    for _ in 0..100 {
        assert_eq!(run(5), first);
    }
    assert_ne!(run(6).0, first.0);
}
