//! Five thousand users whose tokens are waited for cost nothing while nothing happens. It measures its own process, so it is alone here.
#![cfg(all(feature = "oauth2", target_os = "linux"))]

use std::{fs, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tower_bearer::store::{FileStore, Swap, TokenStore};

/// The processor time of this process in nanoseconds.
fn cpu() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn five_thousand_files_that_are_waited_for_cost_no_time_and_no_thread() {
    let directory = std::env::temp_dir().join(format!("tower-bearer-sleeping-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let before = threads();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().thread_keep_alive(Duration::from_millis(100)).build().unwrap();
    runtime.block_on(async {
        let files = FileStore::directory(&directory);
        let mut waiting = JoinSet::new();
        for user in 0..5_000 {
            let store = files.of(format!("user-{user}"));
            waiting.spawn(async move {
                store.changed(0).await;
                user
            });
        }
        // Until all have read their files, and the threads for that have ended.
        let mut last = cpu();
        let settled = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = cpu();
                if now - last < 1_000_000 && threads() == before {
                    return;
                }
                last = now;
            }
        };
        timeout(Duration::from_secs(60), settled).await.expect("they never come to rest");

        let began = cpu();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (spent, threads) = (Duration::from_nanos(cpu() - began), threads());
        eprintln!(
            "5 000 files that are waited for: {spent:.1?} of processor time in 10 s, {threads} threads, {before} before"
        );
        // What the kernel counts for processes is 10 ms.
        assert!(spent < Duration::from_millis(10), "{spent:?}");
        assert_eq!(threads, before);

        assert_eq!(files.of("user-4711").swap(0, b"new").await.unwrap(), Swap::Done);
        let heard = timeout(Duration::from_secs(30), waiting.join_next()).await.expect("somebody hears of it");
        assert_eq!(heard.unwrap().unwrap(), 4711);
        assert!(waiting.try_join_next().is_none(), "and nobody else");
    });
    fs::remove_dir_all(&directory).unwrap();
}
