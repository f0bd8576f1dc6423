//! Services on real threads, pinned to cores, which come and go while tokens of milliseconds change under them: a second, or as many as
//! `TOWER_BEARER_STRESS_SECONDS` says. What the cell alone does under more pressure is tested beside it.

use std::{
    convert::Infallible,
    env,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::FutureExt;
use http::{Request, Response, header::AUTHORIZATION};
use tokio::runtime::{Builder, Handle};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, ErrorKind, FetchError, FetchRequest, LiveToken, Origin, TokenSource,
    replay::Auto,
};

/// Issues the tokens of one name, and is the API that takes them. Clones are the same.
#[derive(Clone)]
struct Party {
    name: char,
    issued: Arc<AtomicU64>,
    /// The API refuses tokens up to this number.
    revoked: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Party {
    fn new(name: char) -> Self {
        let zero = Arc::<AtomicU64>::default;
        Self { name, issued: zero(), revoked: zero(), accepted: zero(), refused: zero() }
    }

    fn origin(&self) -> String {
        format!("https://{}.test", self.name)
    }

    /// Long, so that one that is torn shows.
    fn secret(&self, number: u64) -> String {
        format!("{}{number}", self.name).repeat(16)
    }

    /// The number of the token in a header, which must be whole and ours.
    fn number(&self, header: &str) -> u64 {
        let parts: Vec<_> = header.strip_prefix("Bearer ").expect("the scheme").split(self.name).collect();
        let number = parts[1].parse().expect("a number");
        assert_eq!(header, format!("Bearer {}", self.secret(number)));
        assert!((1..=self.issued.load(SeqCst)).contains(&number), "{number} was never issued");
        number
    }
}

impl TokenSource for Party {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        let number = self.issued.fetch_add(1, SeqCst) + 1;
        let life = Duration::from_millis(5 + number * 7 % 40);
        Ok(AccessToken::new(self.secret(number))?.expires_in(life))
    }
}

/// The number of the token is in the answer.
impl Service<Request<String>> for Party {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert_eq!(request.uri().host(), Some(format!("{}.test", self.name).as_str()));
        let number = self.number(request.headers()[AUTHORIZATION].to_str().expect("text"));
        let mut response = Response::new(number.to_string());
        if number <= self.revoked.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        } else {
            self.accepted.fetch_add(1, SeqCst);
        }
        ready(Ok(response))
    }
}

type Client = BearerAuth<Party, Auto>;

/// What one thread does with one party's services.
struct User<'a> {
    handle: &'a Handle,
    party: &'a Party,
    first: &'a Client,
    kept: Vec<Client>,
    /// The newest token that it has seen, where none is refused.
    last: u64,
}

impl User<'_> {
    fn act(&mut self, rng: &mut Rng, revokes: bool) {
        match rng.u8(..8) {
            0 if self.kept.len() < 4 => self.kept.push(self.first.clone()),
            1 if !self.kept.is_empty() => drop(self.kept.swap_remove(rng.usize(..self.kept.len()))),
            2 | 3 => self.send(&mut self.first.clone(), rng, revokes),
            _ if !self.kept.is_empty() => {
                let mut client = self.kept.swap_remove(rng.usize(..self.kept.len()));
                (0..rng.u8(1..6)).for_each(|_| self.send(&mut client, rng, revokes));
                self.kept.push(client);
            }
            _ => {}
        }
    }

    fn send(&mut self, client: &mut Client, rng: &mut Rng, revokes: bool) {
        let fate = rng.u16(..1_000);
        let origin = if fate == 0 { "https://elsewhere.test".into() } else { self.party.origin() };
        let request = Request::get(format!("{origin}/a")).body(String::new()).expect("a request");
        let sent = client.ready().now_or_never().expect("it is always ready").expect("it never fails").call(request);
        if fate == 1 {
            // It is dropped where it waits.
            return drop(self.handle.block_on(async { sent.now_or_never() }));
        }
        let result = self.handle.block_on(sent);
        if fate == 0 {
            return assert_eq!(result.expect_err("it is foreign").kind(), ErrorKind::ForeignOrigin);
        }
        let response = result.expect("its source always works");
        let number: u64 = response.body().parse().expect("a number");
        if revokes {
            if fate < 20 {
                self.party.revoked.fetch_max(number, SeqCst);
            }
        } else {
            assert_eq!(response.status(), 200);
            assert!(number >= self.last, "token {number} after {}", self.last);
            self.last = number;
        }
    }
}

#[test]
fn services_on_threads_that_come_and_go_send_whole_tokens_in_their_order() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let seconds = env::var("TOWER_BEARER_STRESS_SECONDS").map_or(1.0, |seconds| seconds.parse().expect("seconds"));
    let end = now() + Duration::from_secs_f64(seconds);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    // Of the second, tokens are revoked.
    let parties = [Party::new('a'), Party::new('b')];
    let lives = AtomicU64::new(0);
    {
        let clients = parties.each_ref().map(|party| {
            let _runtime = runtime.enter();
            let token = LiveToken::spawn(party.clone());
            BearerAuthLayer::new(token, Origin::parse(&party.origin()).expect("an origin")).layer(party.clone())
        });
        let (handle, parties, clients, lives, cores) = (runtime.handle(), &parties, &clients, &lives, &cores());
        let live = |mut rng: Rng, place: usize| {
            pin_to(cores, place);
            let mut users: [User<'_>; 2] = std::array::from_fn(|number| User {
                handle,
                party: &parties[number],
                first: &clients[number],
                kept: Vec::new(),
                last: 0,
            });
            for _ in 0..rng.u32(1..200) {
                let number = rng.usize(..2);
                users[number].act(&mut rng, number == 1);
            }
            lives.fetch_add(1, SeqCst);
        };
        // More at a time than there are headers of one token.
        thread::scope(|scope| {
            for place in 0..11 {
                let mut rng = Rng::with_seed(seed + place as u64);
                scope.spawn(move || {
                    while now() < end {
                        let (rng, place) = (rng.fork(), place + rng.usize(..2));
                        thread::scope(|scope| scope.spawn(move || live(rng, place)).join())
                            .expect("a life without a fault");
                    }
                });
            }
        });
    }
    let count = |count: &Arc<AtomicU64>| count.load(SeqCst);
    for party in &parties {
        let (issued, accepted, refused) = (count(&party.issued), count(&party.accepted), count(&party.refused));
        println!("{}: {issued} tokens, {accepted} accepted, {refused} refused", party.name);
        assert!(issued > 5 && accepted > 500, "too few to mean anything");
    }
    assert_eq!(count(&parties[0].refused), 0);
    assert!(count(&parties[1].refused) > 0, "nothing was revoked");
    println!("{} threads", lives.into_inner());

    // All services are gone, so the tasks end, and with them the sources.
    let patience = now() + Duration::from_secs(60);
    while parties.iter().any(|party| Arc::strong_count(&party.issued) > 1) {
        assert!(now() < patience, "somebody still has a service or a source");
        thread::sleep(Duration::from_millis(1));
    }
}

#[allow(clippy::disallowed_methods, reason = "real threads run in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Those that this process may run on.
#[cfg(target_os = "linux")]
fn cores() -> Vec<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("what is allowed");
    (0..nix::sched::CpuSet::count()).filter(|core| allowed.is_set(*core).expect("a core")).collect()
}

/// Binds this thread to one of the cores.
#[cfg(target_os = "linux")]
fn pin_to(cores: &[usize], number: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cores[number % cores.len()]).expect("a core");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("one that is allowed");
}

#[cfg(not(target_os = "linux"))]
fn cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_: &[usize], _: usize) {}
