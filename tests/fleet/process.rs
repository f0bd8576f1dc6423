//! The processes of a fleet, seen from the parent.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::{sleep, timeout},
};
use tower_bearer::{
    oauth2::Grant,
    store::{StoreErrorKind, TokenStore},
    testing::AuthorizationServer,
};

use crate::{any_store::AnyStore, redis_server::signal, replica::Orders};

/// A replica that was started. Killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    reports: watch::Receiver<Value>,
}

impl Process {
    pub(crate) fn start(orders: &Orders) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(orders.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, reports) = watch::channel(Value::Null);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // A line that a kill cut off is none.
                if let Ok(report) = serde_json::from_str(&line) {
                    sender.send_replace(report);
                }
            }
        });
        Self { stdin: child.stdin.take(), child, reports }
    }

    pub(crate) fn report(&self) -> Value {
        self.reports.borrow().clone()
    }

    /// The first report that is like this.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let waited = timeout(PATIENCE, self.reports.wait_for(|report| !report.is_null() && is(report))).await;
        if let Ok(Ok(report)) = waited {
            return report.clone();
        }
        drop(waited);
        panic!("waited in vain until {what}; the last report: {}", self.report())
    }

    /// Waits until it has left its store alone for a second; returns the report after that.
    pub(crate) async fn settled(&self) -> Value {
        let settled = async {
            let mut last = self.report();
            loop {
                sleep(Duration::from_secs(1)).await;
                let next = self.report();
                if next["store_calls"] == last["store_calls"] {
                    return next;
                }
                last = next;
            }
        };
        timeout(PATIENCE, settled)
            .await
            .unwrap_or_else(|_| panic!("it never leaves its store alone: {}", self.report()))
    }

    /// Asks for a refresh.
    pub(crate) async fn order_refresh(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"refresh\n").await.unwrap();
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(self.child.id(), what);
    }

    /// Whether it was killed by now.
    pub(crate) async fn dies(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it lives on: {}", self.report())).unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}: {}", self.report());
    }

    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.dies().await;
    }

    /// Lets it end by itself, and returns its last report.
    pub(crate) async fn end(mut self) -> Value {
        drop(self.stdin.take());
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it doesn't end: {}", self.report())).unwrap();
        assert!(status.success(), "{status}: {}", self.report());
        // Its pipe is read to the end.
        while self.reports.changed().await.is_ok() {}
        self.report()
    }
}

pub(crate) fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// What is stored.
pub(crate) async fn stored(orders: &Orders) -> Value {
    let mut store = AnyStore::open(&orders.store);
    store.bind(&orders.grant(orders.endpoint()).account());
    let entry = loop {
        match store.load().await {
            // Every write is synced, and this may be a slow disk.
            Err(error) if error.kind() == StoreErrorKind::Unreachable => say(&error.to_string()),
            loaded => break loaded.unwrap(),
        }
    };
    entry.map_or(Value::Null, |entry| serde_json::from_slice(entry.data()).unwrap())
}

/// How many requests sent a refresh token that had been sent before.
pub(crate) fn replays(server: &AuthorizationServer) -> usize {
    let requests = server.recorded();
    assert_eq!(requests.len() as u64, server.token_requests(), "all are remembered");
    let mut sent: Vec<_> = requests.iter().filter_map(|request| request.field("refresh_token")).collect();
    let all = sent.len();
    sent.sort_unstable();
    sent.dedup();
    all - sent.len()
}

/// Says on stderr how far a test is.
pub(crate) fn say(text: &str) {
    eprintln!("fleet: {text}");
}

/// Waits, and says so now and then.
pub(crate) async fn wait(what: &str, time: Duration) {
    let step = Duration::from_secs(10);
    let mut left = time;
    while !left.is_zero() {
        say(&format!("{what}: {} s left", left.as_secs()));
        sleep(left.min(step)).await;
        left = left.saturating_sub(step);
    }
}

/// Far longer than anything here takes, on a busy machine as well.
const PATIENCE: Duration = Duration::from_secs(30);
