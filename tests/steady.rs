//! However long it runs: memory and tasks are those of the start. And what an idle token costs.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Ready, ready},
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tokio::{
    runtime::{self, Runtime},
    time::{sleep, timeout},
};
use tower::{Layer, Service};
use tower_bearer::{AccessToken, LiveToken, TokenSource, replay, source_fn};

mod support;
use support::{Still, get, layer, secs, send};

/// One test at a time: all tokens of a process are in one map, whose memory one test might take and another give back.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed before has left nothing behind in here.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread, so that the allocator's counts are those of everything; time moves only when everybody waits.
fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

const LIFETIME: Duration = Duration::from_secs(100);

/// Tokens of equal length, in rotation.
fn rotating() -> LiveToken {
    let mut number = 0;
    let source = source_fn(move |_| {
        number += 1;
        // So old that a 401 means what it says.
        let age = Duration::from_secs(5);
        async move { Ok(AccessToken::new(format!("token-{number:08}"))?.expires_in(LIFETIME + age).age(age)) }
    });
    LiveToken::builder(source).seed(1).clock(Still).spawn()
}

/// Answers at once: 401 if it was told to refuse the next one.
#[derive(Clone, Default)]
struct Static {
    refuses: Rc<Cell<bool>>,
}

impl Service<Request<Empty<Bytes>>> for Static {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let mut response = Response::new(());
        if self.refuses.take() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(response))
    }
}

/// Runs this once to warm up, then counts what the second run, usually longer, leaves behind.
fn left_behind(runtime: &Runtime, mut run: impl AsyncFnMut(u32), warm_up: u32, times: u32) -> AllocationInfo {
    runtime.block_on(run(warm_up));
    let tasks = runtime.metrics().num_alive_tasks();
    let counted = measure(|| runtime.block_on(run(times)));
    assert_eq!(runtime.metrics().num_alive_tasks(), tasks);
    println!("{times} times: {counted:?}");
    counted
}

#[test]
fn ten_thousand_rotations_and_a_million_requests_leave_nothing_behind() {
    let _alone = alone();
    let runtime = runtime();
    let (token, mut service) = runtime.block_on(async {
        let token = rotating();
        let service = layer(&token).replay(replay::Never).layer(Static::default());
        (token, service)
    });
    let rotate = async |rotations: u32| {
        let from = token.status().generation();
        while token.status().generation() < from + u64::from(rotations) {
            sleep(secs(80)).await;
            for number in 0..100 {
                let response = if number == 0 {
                    send(&mut service.clone(), get("/a")).await
                } else {
                    send(&mut service, get("/a")).await
                };
                assert_eq!(response.unwrap().status(), StatusCode::OK);
            }
        }
    };
    let counted = left_behind(&runtime, rotate, 100, 10_000);
    assert!(counted.count_total > 10_000 * 3, "the allocator counts");
    assert_eq!((counted.bytes_current, counted.count_current), (0, 0), "{counted:?}");
    assert!(counted.bytes_max < 16 * 1024, "{counted:?}");
}

#[test]
fn a_thousand_recoveries_and_requests_given_up_leave_nothing_behind() {
    let _alone = alone();
    let runtime = runtime();
    let refuses = Rc::<Cell<bool>>::default();
    let (token, mut service) = runtime.block_on(async {
        let token = rotating();
        token.ready().await.unwrap();
        (token.clone(), layer(&token).layer(Static { refuses: refuses.clone() }))
    });
    let recover = async |times: u32| {
        for number in 0..times {
            let before = token.status().generation();
            refuses.set(true);
            if number % 2 == 0 {
                assert_eq!(send(&mut service, get("/a")).await.unwrap().status(), StatusCode::OK);
            } else {
                // Given up while the token is renewed.
                timeout(Duration::from_millis(1), send(&mut service, get("/a"))).await.unwrap_err();
                token.refresh().await.unwrap();
                // Nobody saw that the new token helped: for a second, a 401 is nothing to act on.
                sleep(secs(2)).await;
            }
            assert_eq!(token.status().generation(), before + 1);
            token.watch().changed().await.unwrap();
        }
    };
    let counted = left_behind(&runtime, recover, 10, 1_000);
    assert_eq!((counted.bytes_current, counted.count_current), (0, 0), "{counted:?}");
}

#[test]
fn handles_services_and_tasks_go_without_a_trace() {
    let _alone = alone();
    let runtime = runtime();
    let come_and_go = async |times: u32| {
        for _ in 0..times {
            let token = rotating();
            let mut service = layer(&token).layer(Static::default());
            send(&mut service, get("/a")).await.unwrap();
            sleep(secs(90)).await;
            drop((token, service));
            sleep(secs(1)).await;
        }
    };
    let counted = left_behind(&runtime, come_and_go, 10, 1_000);
    assert_eq!((counted.bytes_current, counted.count_current), (0, 0), "{counted:?}");
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}

/// 100 tokens, each fetched, renewed once and idle since, in bytes for each beyond its header copies and its source.
#[test]
fn an_idle_token_costs_about_two_kib() {
    let _alone = alone();
    const TOKENS: usize = 100;
    let runtime = runtime();
    let token = AccessToken::new("a".repeat(1024)).unwrap().expires_in(LIFETIME).age(Duration::ZERO);
    let bytes = |counted: AllocationInfo| usize::try_from(counted.bytes_current).unwrap();
    let slots = std::thread::available_parallelism().map_or(1, |threads| 2 * threads.get()).min(8);

    let mut headers = None;
    let headers = bytes(measure(|| headers = Some((0..slots).map(|_| token.authorization()).collect::<Box<[_]>>())));
    let mut source = None;
    let source = bytes(measure(|| source = Some(token.clone().boxed())));

    let mut tokens = Vec::with_capacity(TOKENS);
    let idle = async |tokens: &mut Vec<LiveToken>, number: usize| {
        tokens.extend((0..number).map(|_| LiveToken::spawn(token.clone())));
        sleep(secs(90)).await;
        assert!(tokens.iter().all(|token| token.status().is_usable() && !token.status().is_fetching()));
    };
    runtime.block_on(idle(&mut tokens, 5));
    tokens.clear();
    runtime.block_on(async { sleep(secs(1)).await });
    let all = bytes(measure(|| runtime.block_on(idle(&mut tokens, TOKENS))));
    assert_eq!(runtime.metrics().num_alive_tasks(), TOKENS);

    let each = all / TOKENS;
    let beyond = each - headers - source;
    println!("{each} bytes each: {slots} headers {headers}, source {source}, beyond that {beyond}");
    // Two KiB, and what noticing use takes (`renew_while_used`): a cache line.
    assert!(beyond <= 2048 + 64, "{beyond}");
}
