//! What stands between a program and its Redis, or its PostgreSQL, in production: a proxy that leads elsewhere after a failover, and leaves the
//! connections that it has as they are.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Ends with its connections when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    /// The port that new connections are led to; with none they are closed at once.
    target: Mutex<Option<u16>>,
    accepted: AtomicUsize,
    /// Counted up: the connections of before are cut, or hear and say nothing any more.
    cut: watch::Sender<u64>,
    silenced: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        Self::start(Some(port)).await
    }

    /// One that closes every connection at once.
    pub(crate) async fn to_nowhere() -> Self {
        Self::start(None).await
    }

    async fn start(target: Option<u16>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            accepted: AtomicUsize::new(0),
            cut: watch::channel(0).0,
            silenced: watch::channel(0).0,
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, shared.clone()));
        Self { port, shared, _accepting: accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The same, with a name and a password.
    pub(crate) fn url_for(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}/", self.port)
    }

    /// Where new connections lead from now on.
    pub(crate) fn lead_to(&self, port: u16) {
        *self.shared.target.lock().unwrap() = Some(port);
    }

    /// Closes the connections that there are.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    /// Lets the connections that there are stay open, and nothing pass on them any more.
    pub(crate) fn silence(&self) {
        self.shared.silenced.send_modify(|times| *times += 1);
    }

    /// How many connections were made through it.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let target = *shared.target.lock().unwrap();
        if let Some(target) = target {
            connections.spawn(pass(client, target, shared.cut.subscribe(), shared.silenced.subscribe()));
        }
    }
}

async fn pass(mut client: TcpStream, target: u16, mut cut: watch::Receiver<u64>, mut silenced: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let is_silenced = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => false,
        _ = cut.changed() => false,
        _ = silenced.changed() => true,
    };
    if is_silenced {
        // What arrives is taken, so that the client notices nothing.
        let mut taken = [0; 1024];
        let swallow = async { while client.read(&mut taken).await.is_ok_and(|read| read > 0) {} };
        tokio::select! {
            () = swallow => {}
            _ = cut.changed() => {}
        }
    }
    let _ = client.shutdown().await;
}
