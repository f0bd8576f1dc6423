//! When a token is renewed.

use super::scene::*;
use crate::{FetchReason, State};

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_75_to_85_percent_of_its_life_counted_from_when_it_was_asked_for() {
    let mut points = Vec::new();
    for seed in 0..40 {
        let scene = Scene::with(seed, [fresh(secs(1000)).taking(secs(25))], fresh(secs(1000)), |options| options);
        scene.until(secs(900)).await;
        assert_eq!(scene.count(), 2, "seed {seed}");
        assert_eq!(scene.last().reason, FetchReason::Due);
        assert_eq!(scene.sent().as_deref(), Some("t2"));
        points.push(scene.last().at);
    }
    points.sort();
    assert!(points[0] >= secs(750) && points[0] < secs(770), "{points:?}");
    assert!(points[39] > secs(830) && points[39] <= secs(850) + MILLI, "{points:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_is_asked_sooner_so_that_no_request_is_ever_without_a_token() {
    for (lifetime, takes) in [(secs(100), secs(40)), (secs(10), secs(4)), (millis(200), millis(90))] {
        let scene = Scene::with(1, [], fresh(lifetime).taking(takes), |options| options.fetch_timeout(secs(60)));
        within(secs(60), scene.token.ready()).await.unwrap();
        for _ in 0..200 {
            tokio::time::sleep(lifetime / 10).await;
            assert!(scene.sent().is_some(), "{lifetime:?} {takes:?}: nothing to send at {:?}", scene.script.now());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_spell_is_remembered_for_a_while_and_then_forgotten() {
    let scene = Scene::new([fresh(secs(100)).taking(secs(25))], fresh(secs(100)));
    scene.until(secs(2000)).await;
    let gaps: Vec<_> = scene.times().windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[..3].iter().all(|gap| *gap < 60.0), "twice 25 s would not fit into what is left: {gaps:?}");
    assert!(gaps[15..].iter().all(|gap| *gap >= 75.0), "one slow fetch must not matter for ever: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn between_fetches_lies_a_second_or_half_a_life() {
    for (lifetime, slow, distance) in [
        (secs(10), millis(9_900), 1.0),
        (secs(3), millis(2_990), 1.0),
        (millis(1500), millis(1490), 0.75),
        (millis(100), millis(99), 0.05),
    ] {
        // Slow once, so that renewal is wanted as soon as possible, and then at once.
        let scene = Scene::new([fresh(lifetime).taking(slow)], fresh(lifetime));
        scene.until(secs(30)).await;
        let times = scene.times();
        assert!(times.len() > 3);
        for two in times[1..].windows(2) {
            assert!(two[1] - two[0] >= distance - 1e-9, "{lifetime:?}: {two:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_lifetime_makes_a_busy_loop_or_an_idle_one() {
    for lifetime in [
        MILLI,
        millis(2),
        millis(7),
        millis(50),
        millis(999),
        secs(1),
        secs(2),
        secs(15),
        secs(300),
        HOUR,
        30 * DAY,
        9 * 365 * DAY,
    ] {
        let scene = Scene::always(fresh(lifetime));
        let run = (lifetime * 100).clamp(secs(1), 4 * DAY);
        scene.until(run).await;
        let lives = run.as_secs_f64() / lifetime.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let fetches = scene.count() as f64;
        // A timer fires on whole milliseconds, so the shortest lives can't be kept up without a gap.
        let most = if lifetime < millis(50) { lives * 2.0 } else { lives / 0.75 };
        let least = if lifetime < millis(50) { lives / 4.0 } else { lives / 0.86 - 1.0 };
        assert!(fetches <= most + 1.0 && fetches >= least, "{lifetime:?}: {fetches} fetches in {lives} lives");
    }
}

#[tokio::test(start_paused = true)]
async fn a_life_shorter_than_any_timer_makes_no_busy_loop() {
    for nanos in [1, 2, 1_000, 900_000] {
        let scene = Scene::always(fresh(std::time::Duration::from_nanos(nanos)));
        scene.until(millis(500)).await;
        assert!((100..=501).contains(&scene.count()), "{nanos} ns: {}", scene.count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_unknown_or_absurd_lifetime_has_no_timer() {
    let ten_years = 3650 * DAY;
    for act in [endless(), fresh(secs(0)), fresh(ten_years), fresh(std::time::Duration::MAX)] {
        let scene = Scene::always(act.clone());
        scene.until(400 * DAY).await;
        assert_eq!(scene.count(), 1, "{act:?}");
        assert_eq!(scene.sent().as_deref(), Some("t1"));
        let status = scene.token.status();
        assert_eq!((status.next_attempt_in(), status.time_left()), (None, None));
        assert_eq!(status.headroom(), std::time::Duration::MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn an_assumed_lifetime_is_that_of_tokens_that_come_without_one() {
    for (act, renewed) in [(endless(), true), (fresh(secs(0)), true), (fresh(DAY), false)] {
        let scene = Scene::with(1, [act], fresh(DAY), |options| options.assume_lifetime(HOUR));
        scene.until(HOUR / 2).await;
        let left = scene.token.status().time_left().unwrap();
        assert_eq!(left, if renewed { HOUR / 2 } else { DAY - HOUR / 2 });
        scene.until(HOUR).await;
        assert_eq!(scene.count() == 2, renewed, "{:?}", scene.times());
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_older_than_its_assumed_lifetime_is_dead_on_arrival() {
    let act = gives(token("old").age(2 * HOUR));
    let scene = Scene::with(1, [], act, |options| options.assume_lifetime(HOUR));
    let mut watch = scene.token.watch();
    scene.until(secs(600)).await;
    assert_eq!(scene.sent(), None);
    assert_eq!(watch.changed().await.unwrap().state(), State::Starting);
    assert!(scene.count() < 30, "it must back off: {:?}", scene.times());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_arrives_dead_is_a_failure_that_backs_off() {
    // Requested at 0 s with a lifetime of 3 s; it arrives after 5 s.
    let scene = Scene::new([fresh(secs(3)).taking(secs(5)), fresh(secs(3)).taking(secs(3))], fresh(secs(3)));
    scene.until(millis(5_100)).await;
    let status = scene.token.status();
    assert_eq!((scene.sent(), status.state(), status.failures()), (None, State::Starting, 1));
    assert!(status.last_error().unwrap().to_string().contains("expired when it arrived"));
    // A lifetime that ends exactly on arrival is over, too. Backoff: ½ to 1 s, then 1 to 2 s.
    scene.until(secs(12)).await;
    let times = scene.times();
    assert!((5.5..=6.0).contains(&times[1]), "{times:?}");
    assert!((1.0..=2.0).contains(&(times[2] - times[1] - 3.0)), "{times:?}");
    let status = scene.token.status();
    assert_eq!((status.state(), status.failures(), status.generation()), (State::Live, 0, scene.generation().0));
    assert!(status.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_brings_dead_tokens_is_asked_ever_more_slowly() {
    let scene = Scene::always(gives(token("dead").expires_in(HOUR).age(HOUR)));
    scene.until(HOUR).await;
    assert!((60..=130).contains(&scene.count()), "{}", scene.count());
    assert_eq!(scene.sent(), None);
}

#[tokio::test(start_paused = true)]
async fn a_token_from_a_cache_has_only_the_rest_of_its_life() {
    let scene = Scene::new([gives(token("cached").expires_in(secs(1000)).age(secs(600)))], fresh(HOUR));
    settle().await;
    let left = scene.token.status().time_left().unwrap();
    assert!(left > secs(399) && left <= secs(400), "{left:?}");
    let at = scene.until_call(2).await;
    assert!(at >= secs(150) && at <= secs(251), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_token_fetched_again_keeps_its_generation_and_gets_its_new_life() {
    let scene = Scene::always(gives(token("same").expires_in(secs(100)).age(secs(0))));
    scene.until(secs(1000)).await;
    assert!(scene.count() > 10);
    assert_eq!((scene.sent().as_deref(), scene.generation().0), (Some("same"), 1));
    assert_eq!(scene.token.status().generation(), 1);
    assert_eq!(scene.token.status().state(), State::Live);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_serves_again_when_its_life_was_extended_after_its_end() {
    let same = || gives(token("same").expires_in(secs(100)).age(secs(0)));
    let scene = Scene::new([same(), down(), down(), down(), down(), down(), down()], same());
    scene.until(secs(101)).await;
    assert_eq!(scene.sent(), None);
    scene.until(secs(180)).await;
    assert_eq!((scene.sent().as_deref(), scene.generation().0), (Some("same"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_asks_to_be_looked_at_again_is() {
    let file = |secret: &str| gives(token(secret).expires_in(HOUR).recheck_after(secs(60)));
    let scene = Scene::new([file("a"), file("a"), file("a")], file("b"));
    scene.until(secs(170)).await;
    assert_eq!((scene.count(), scene.sent().as_deref(), scene.generation().0), (3, Some("a"), 1));
    scene.until(secs(190)).await;
    assert_eq!((scene.count(), scene.sent().as_deref(), scene.generation().0), (4, Some("b"), 2));
    assert!(scene.script.calls()[1..].iter().all(|call| call.reason == FetchReason::Due));
}

#[tokio::test(start_paused = true)]
async fn looking_again_neither_postpones_a_renewal_nor_makes_a_busy_loop() {
    let scene = Scene::always(gives(token("a").expires_in(secs(100)).age(secs(0)).recheck_after(HOUR)));
    scene.until(secs(99)).await;
    assert_eq!(scene.count(), 2);

    let scene = Scene::always(gives(token("a").recheck_after(secs(0))));
    scene.until(millis(10_500)).await;
    assert!((10..=11).contains(&scene.count()), "{:?}", scene.times());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_told_why_and_how_long_it_may_take() {
    let scene = Scene::new([down(), fresh(secs(100))], fresh(HOUR));
    scene.until(secs(99)).await;
    let calls = scene.script.calls();
    assert_eq!(
        calls.iter().map(|call| call.reason).collect::<Vec<_>>(),
        [FetchReason::First, FetchReason::First, FetchReason::Due]
    );
    // Nobody has a token: the longest. Then half of what is left: 15 to 25 s.
    assert_eq!((calls[0].timeout, calls[1].timeout), (secs(30), secs(30)));
    assert!(calls[2].timeout >= secs(7) && calls[2].timeout <= secs(13), "{:?}", calls[2]);
    at_once(scene.token.refresh()).await.unwrap();
    assert_eq!((scene.last().reason, scene.last().timeout), (FetchReason::Asked, secs(30)));
}

#[tokio::test(start_paused = true)]
async fn the_same_token_with_the_same_life_again_ends_when_it_ends() {
    for (takes, told_before, end) in [(0, 0, 100), (10, 0, 100), (0, 30, 70)] {
        let act = gives(token("again").expires_in(secs(100))).taking(secs(takes));
        tokio::time::sleep(secs(told_before)).await;
        let scene = Scene::always(act.clone());
        scene.until(secs(end) - MILLI * 3).await;
        assert!(scene.sent().is_some(), "{act:?}: {:?} {:?}", scene.script.calls(), scene.token.status());
        assert!(scene.count() < 12, "{act:?}: {:?}", scene.times());
        scene.until(secs(end) + MILLI * 3).await;
        assert_eq!((scene.sent(), scene.token.status().state()), (None, State::Expired), "{act:?}");
        scene.until(HOUR).await;
        assert_eq!(scene.sent(), None, "{act:?}");
        assert!(scene.token.status().last_error().unwrap().to_string().contains("expired when it arrived"));
        assert!(scene.count() < 140, "{act:?}: {}", scene.count());
        // When the source brings another token, all is well again.
        scene.script.play([], fresh(HOUR));
        within(secs(61), scene.token.ready()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_its_own_source_ends_so_long_after_it_was_made() {
    let made = token("t").expires_in(secs(60));
    tokio::time::sleep(secs(20)).await;
    let live = crate::LiveToken::spawn(made);
    live.ready().await.unwrap();
    tokio::time::sleep(secs(39)).await;
    assert!(live.status().is_usable());
    tokio::time::sleep(secs(2)).await;
    assert!(!live.status().is_usable() && live.authorization().is_none());
    tokio::time::sleep(HOUR).await;
    assert!(!live.status().is_usable());
}

/// A source that keeps to its timeout, as real ones do.
#[tokio::test(start_paused = true)]
async fn whenever_a_life_is_longer_than_two_fetches_no_request_is_ever_without_a_token() {
    let mut tried = 0;
    for life in [secs(1), secs(2), secs(5), secs(16), secs(20), secs(60), secs(300), HOUR, DAY] {
        for share in [0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.49, 0.55, 0.6] {
            let takes = life.mul_f64(share).max(MILLI);
            for seed in 0..3 {
                let scene = Scene::with(seed, [], fresh(life).taking(takes), |options| {
                    // A user whose endpoint is slower than the default sets this.
                    if takes > secs(29) { options.fetch_timeout(takes + secs(1)) } else { options }
                });
                within(takes + secs(1), scene.token.ready()).await.unwrap();
                let begins = scene.script.now();
                let (mut gaps, mut looks) = (0, 0);
                while scene.script.now() < begins + life * 6 {
                    tokio::time::sleep((life / 41).max(MILLI)).await;
                    looks += 1;
                    gaps += u32::from(scene.sent().is_none());
                }
                let must = share < 0.5;
                assert!(!must || gaps == 0, "life {life:?}, fetch {takes:?}: {gaps} of {looks} looks found no token");
                // If gaps can't be avoided, they are no longer than they must be: in each fetch, the part of it that is longer than the
                // rest of the lifetime.
                let most = ((2.0 * share - 1.0) / share.max(0.01)).max(0.0) + 0.05;
                assert!(
                    f64::from(gaps) <= f64::from(looks) * most,
                    "life {life:?}, fetch {takes:?}: {gaps} of {looks}"
                );
                let calls = scene.script.calls();
                assert!(
                    calls.iter().all(|call| call.ended.is_none_or(|end| end - call.at + MILLI * 2 >= takes)),
                    "one was cut off"
                );
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 9 * 14 * 3);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_becomes_slower_costs_a_few_attempts_and_not_its_tokens() {
    for (life, slow) in [(secs(60), secs(20)), (secs(20), secs(8)), (HOUR, secs(25))] {
        let scene = Scene::new([fresh(life)], fresh(life).taking(slow));
        scene.until(life * 2).await;
        let (mut looks, mut gaps) = (0, 0);
        while scene.script.now() < life * 10 {
            tokio::time::sleep(life / 50).await;
            looks += 1;
            gaps += u32::from(scene.sent().is_none());
        }
        assert_eq!(gaps, 0, "{life:?} {slow:?}: of {looks}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_longer_than_a_request_waits_brings_a_token_nevertheless() {
    let scene = Scene::always(fresh(HOUR).taking(secs(12)));
    within(secs(13), scene.token.ready()).await.unwrap();
    assert_eq!(scene.count(), 1);
    let scene = Scene::always(fresh(HOUR).taking(secs(45)));
    scene.until(secs(40)).await;
    assert!(scene.token.status().last_error().unwrap().to_string().contains("30s"), "{:?}", scene.token.status());
    let scene = Scene::with(1, [], fresh(HOUR).taking(secs(45)), |options| options.fetch_timeout(secs(60)));
    within(secs(46), scene.token.ready()).await.unwrap();
}
