//! Dying at a given step of refresh → store → publish: a store and a transport that know where they are, and kill their process there.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use nix::{
    sys::signal::{Signal, raise},
    unistd::pause,
};
use tower::Service;
use tower_bearer::store::{Account, Entry, Lease, StoreError, Swap, TokenStore};

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Before(What),
    After(What),
    /// The server has spent the refresh token, and its answer is on its way. The parent kills.
    Sent,
    /// Requests carry the new token.
    Published,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Look,
    Lease,
    LookAgain,
    Intent,
    /// The exchange, up to the head of the answer.
    Exchange,
    Store,
    Release,
}

pub(crate) const EVERYTHING: [What; 7] =
    [What::Look, What::Lease, What::LookAgain, What::Intent, What::Exchange, What::Store, What::Release];

impl Step {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let around = EVERYTHING.into_iter().flat_map(|what| [Self::Before(what), Self::After(what)]);
        around.chain([Self::Sent, Self::Published])
    }

    /// Whether it lies between the intent and the store.
    pub(crate) fn leaves_an_intent(self) -> bool {
        matches!(
            self,
            Self::After(What::Intent | What::Exchange) | Self::Before(What::Exchange | What::Store) | Self::Sent
        )
    }
}

impl FromStr for Step {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::all().find(|step| format!("{step:?}") == text).expect("a step, as its Debug shows it"))
    }
}

/// How far a process is.
pub(crate) struct Progress {
    dies: Option<Step>,
    late: Duration,
    pub(crate) armed: AtomicBool,
    leased: AtomicBool,
    sent: AtomicBool,
    pub(crate) store_calls: AtomicU64,
    /// Those that failed.
    pub(crate) store_errors: AtomicU64,
    pub(crate) exchanges: AtomicU64,
}

impl Progress {
    pub(crate) fn new(dies: Option<Step>, late: Duration, armed: bool) -> Arc<Self> {
        Arc::new(Self {
            dies,
            late,
            armed: armed.into(),
            leased: false.into(),
            sent: false.into(),
            store_calls: 0.into(),
            store_errors: 0.into(),
            exchanges: 0.into(),
        })
    }

    pub(crate) fn reach(&self, step: Step) {
        if self.dies != Some(step) || !self.armed.load(SeqCst) {
            return;
        }
        if !self.late.is_zero() {
            // In the middle of what comes now.
            let late = self.late;
            std::thread::spawn(move || {
                std::thread::sleep(late);
                die()
            });
            return;
        }
        die()
    }

    /// Whether the answer of the last exchange is stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.sent.load(SeqCst) && !self.leased.load(SeqCst)
    }

    fn note<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.store_errors.fetch_add(answer.is_err().into(), SeqCst);
        answer
    }

    async fn around<T>(&self, what: What, work: impl Future<Output = T>) -> T {
        self.reach(Step::Before(what));
        let done = work.await;
        self.reach(Step::After(what));
        done
    }
}

fn die() -> ! {
    raise(Signal::SIGKILL).unwrap();
    // Nothing happens after it.
    loop {
        pause();
    }
}

/// A store on whose steps a process dies.
pub(crate) struct Stepping<S> {
    pub(crate) store: S,
    pub(crate) progress: Arc<Progress>,
}

impl<S: TokenStore> TokenStore for Stepping<S> {
    fn bind(&mut self, account: &Account) {
        self.store.bind(account);
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        let what = if self.progress.leased.load(SeqCst) { What::LookAgain } else { What::Look };
        self.progress.note(self.progress.around(what, self.store.load()).await)
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        let swap = self.store.swap(expected, data);
        let swapped = match (self.progress.leased.load(SeqCst), self.progress.sent.load(SeqCst)) {
            // What the configuration begins with.
            (false, _) => swap.await,
            (true, false) => self.progress.around(What::Intent, swap).await,
            (true, true) => self.progress.around(What::Store, swap).await,
        };
        self.progress.note(swapped)
    }

    async fn lease(&self, holder: &str, time: Duration) -> Result<Lease, StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        let lease = self.store.lease(holder, time);
        if self.progress.leased.load(SeqCst) {
            return self.progress.note(lease.await);
        }
        self.progress.reach(Step::Before(What::Lease));
        let leased = self.progress.note(lease.await);
        if matches!(leased, Ok(Lease::Granted)) {
            self.progress.leased.store(true, SeqCst);
            self.progress.sent.store(false, SeqCst);
            self.progress.reach(Step::After(What::Lease));
        }
        leased
    }

    async fn lease_and_load(&self, holder: &str, time: Duration) -> Result<(Lease, Option<Entry>), StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        self.progress.reach(Step::Before(What::Lease));
        let leased = self.progress.note(self.store.lease_and_load(holder, time).await);
        if matches!(leased, Ok((Lease::Granted, _))) {
            self.progress.leased.store(true, SeqCst);
            self.progress.sent.store(false, SeqCst);
            // It is one call, so these are one moment.
            for step in [Step::After(What::Lease), Step::Before(What::LookAgain), Step::After(What::LookAgain)] {
                self.progress.reach(step);
            }
        }
        leased
    }

    async fn swap_and_release(
        &self,
        expected: u64,
        before: Option<&[u8]>,
        data: &[u8],
        holder: &str,
    ) -> Result<Swap, StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        let swap = self.store.swap_and_release(expected, before, data, holder);
        let swapped = self.progress.note(self.progress.around(What::Store, swap).await);
        if matches!(swapped, Ok(Swap::Done)) {
            for step in [Step::Before(What::Release), Step::After(What::Release)] {
                self.progress.reach(step);
            }
            self.progress.leased.store(false, SeqCst);
        }
        swapped
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.progress.store_calls.fetch_add(1, SeqCst);
        let released = self.progress.around(What::Release, self.store.release(holder)).await;
        self.progress.leased.store(false, SeqCst);
        released
    }

    async fn changed(&self, known: u64) {
        self.store.changed(known).await;
    }
}

/// A way to the token endpoint on which a process dies. It says which replica asks.
#[derive(Clone)]
pub(crate) struct SteppingTransport {
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) number: u32,
    pub(crate) progress: Arc<Progress>,
}

impl Service<Request<Full<Bytes>>> for SteppingTransport {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let Self { client, number, progress } = self.clone();
        request.headers_mut().insert("x-replica", HeaderValue::from(number));
        Box::pin(async move {
            progress.exchanges.fetch_add(1, SeqCst);
            progress.sent.store(true, SeqCst);
            progress.around(What::Exchange, client.request(request)).await
        })
    }
}
