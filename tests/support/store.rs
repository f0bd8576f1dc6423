//! What every store must do, whatever it is made of.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_bearer::store::{Lease, Swap, TokenStore};

/// Checks two views of one store, which is empty.
pub async fn conforms<S: TokenStore>(one: S, other: S) {
    compares_and_swaps(&one, &other).await;
    leases(&one, &other).await;
    tells_of_changes(&one, &other).await;
    lets_one_of_many_win(one, other).await;
}

async fn compares_and_swaps(one: &impl TokenStore, other: &impl TokenStore) {
    assert_eq!(one.load().await.unwrap(), None);
    assert_eq!(one.swap(1, b"never").await.unwrap(), Swap::Lost, "there is none to replace");
    assert_eq!(one.load().await.unwrap(), None);
    for (version, data) in [(0, &b"first\n\0\xff"[..]), (1, b""), (2, b"third")] {
        assert_eq!(one.swap(version, data).await.unwrap(), Swap::Done);
        let entry = other.load().await.unwrap().unwrap();
        assert_eq!((entry.version(), entry.data()), (version + 1, data));
    }
    for stale in [0, 2, 4, u64::MAX - 1] {
        assert_eq!(other.swap(stale, b"stale").await.unwrap(), Swap::Lost, "{stale}");
    }
    assert_eq!(one.load().await.unwrap().unwrap().data(), b"third");
}

async fn leases(one: &impl TokenStore, other: &impl TokenStore) {
    let long = Duration::from_secs(20);
    assert_eq!(one.lease("a-1", long).await.unwrap(), Lease::Granted);
    let Lease::Held(left) = other.lease("b-1", long).await.unwrap() else { panic!("two have it") };
    assert!(left <= long && left > long / 2, "{left:?}");
    assert_eq!(one.lease("a-1", long).await.unwrap(), Lease::Granted, "prolonged");
    other.release("b-1").await.unwrap();
    assert!(matches!(other.lease("b-1", long).await.unwrap(), Lease::Held(_)), "nobody gives back what is another's");
    one.release("a-1").await.unwrap();

    // One that ends by itself, and one that its holder has lost.
    let short = Duration::from_millis(50);
    assert_eq!(other.lease("b-1", short).await.unwrap(), Lease::Granted);
    let taken = async {
        while one.lease("a-2", long).await.unwrap() != Lease::Granted {
            sleep(short / 5).await;
        }
    };
    timeout(long, taken).await.expect("it never ended");
    assert!(matches!(other.lease("b-1", long).await.unwrap(), Lease::Held(_)));
    one.release("a-2").await.unwrap();
    assert_eq!(other.lease("b-2", short).await.unwrap(), Lease::Granted);
    other.release("b-2").await.unwrap();
}

async fn tells_of_changes(one: &impl TokenStore, other: &impl TokenStore) {
    let known = one.load().await.unwrap().unwrap().version();
    let long = Duration::from_secs(20);
    let changed = async {
        // It may say so for nothing.
        while other.load().await.unwrap().unwrap().version() == known {
            other.changed(known).await;
        }
    };
    let (told, swapped) = tokio::join!(timeout(long, changed), one.swap(known, b"new"));
    told.expect("it never told");
    assert_eq!(swapped.unwrap(), Swap::Done);
    timeout(long, other.changed(known)).await.expect("what changed before one asked is told as well");
}

async fn lets_one_of_many_win<S: TokenStore>(one: S, other: S) {
    let stores = [std::sync::Arc::new(one), std::sync::Arc::new(other)];
    let version = stores[0].load().await.unwrap().unwrap().version();
    let swaps = (0..20_u8).map(|number| {
        let store = stores[usize::from(number % 2)].clone();
        tokio::spawn(async move { store.swap(version, &[number]).await.unwrap() })
    });
    let mut won = 0;
    for swap in swaps.collect::<Vec<_>>() {
        won += usize::from(swap.await.unwrap() == Swap::Done);
    }
    assert_eq!(won, 1);
    assert_eq!(stores[1].load().await.unwrap().unwrap().version(), version + 1);
}
