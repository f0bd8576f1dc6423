//! Whose tokens a store hands out: never another tenant's, whatever is configured by mistake; and always the account's own, whatever of
//! its configuration has changed.
#![cfg(all(feature = "oauth2", unix))]

#[path = "support/authority.rs"]
mod authority;

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use authority::Wall;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::service_fn;
use tower_bearer::{
    BoxTokenSource, FetchError, LiveToken, State, Storage, TokenSource,
    clock::Clock,
    oauth2::{
        ClientCredentials, Form, Grant, LegacyPassword, RefreshToken, Stored, StoredHandle, TokenEndpoint, TokenSet,
    },
    store::{Account, Credentials, Entry, FileStore, Lease, StoreError, Swap, TokenStore},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tower-bearer-accounts-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> FileStore {
        FileStore::new(self.0.join("token"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authorization server for everybody. A token names whom it was issued to; a refresh token works for its owner only.
fn endpoint(url: &str, client: &str) -> TokenEndpoint {
    let service = service_fn(|request: Request<Full<Bytes>>| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
        let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let field = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        // Whatever the tenant is told by.
        let mut owner = match field("refresh_token") {
            Some(token) => token.split('.').next().unwrap().to_owned(),
            None => ["username", "assertion"].into_iter().find_map(field).unwrap_or_default(),
        };
        if field("refresh_token").is_none() && owner.is_empty() {
            let basic = head.headers["authorization"].to_str().unwrap().trim_start_matches("Basic ").to_owned();
            let pair = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            owner = format!("{}{}{}", head.uri, pair, field("tenant").unwrap_or_default());
        }
        let owner = owner.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let scope = field("scope").unwrap_or_default().replace(' ', "_");
        let body = format!(
            r#"{{"access_token":"{owner}.{scope}.{}","expires_in":60,"refresh_token":"{owner}.{}"}}"#,
            fastrand::u32(..),
            fastrand::u32(..)
        );
        Ok::<_, Infallible>(Response::new(Full::from(body)))
    });
    TokenEndpoint::new(url).unwrap().client_secret_basic(client, "secret").http_service(service)
}

/// RFC 7523 §2.1, as the documentation of `Grant` has it.
struct JwtBearer(TokenEndpoint, &'static str);

impl Grant for JwtBearer {
    async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        let form = Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer").param("assertion", self.1);
        self.0.exchange(form, limit).await
    }

    fn account(&self) -> Account {
        self.0.account().subject(self.1)
    }
}

/// The same by somebody who says nothing of users.
struct Careless(TokenEndpoint, &'static str);

impl Grant for Careless {
    async fn exchange(&self, _: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        self.0
            .exchange(Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer").param("assertion", self.1), limit)
            .await
    }

    fn account(&self) -> Account {
        self.0.account()
    }
}

const ID: &str = "https://id.test/token";

type Tenant = Box<dyn Fn(&Place, Wall) -> BoxTokenSource>;

fn tenant<G: Grant>(grant: impl Fn() -> G + 'static, held: Option<&'static str>) -> Tenant {
    Box::new(move |place, wall| place.keep(grant(), held, wall))
}

/// Where tokens are kept.
enum Place {
    Memory,
    File(Directory),
    Database(Database),
}

impl Place {
    fn keep(&self, grant: impl Grant, held: Option<&str>, wall: Wall) -> BoxTokenSource {
        fn holding<G: Grant, S: TokenStore>(stored: Stored<G, S>, held: Option<&str>) -> BoxTokenSource {
            match held {
                Some(held) => stored.holding(TokenSet::of_refresh_token(held)).boxed(),
                None => stored.boxed(),
            }
        }
        match self {
            Self::Memory => holding(Stored::new(grant).clock(wall), held),
            Self::File(directory) => holding(Stored::in_store(grant, directory.store()).clock(wall), held),
            Self::Database(database) => holding(Stored::in_store(grant, database.clone()).clock(wall), held),
        }
    }
}

/// A table with a row for each account, as `RedisStore` has keys.
#[derive(Clone, Default)]
struct Database {
    rows: Arc<Mutex<HashMap<String, Entry>>>,
    account: String,
}

impl TokenStore for Database {
    fn bind(&mut self, account: &Account) {
        self.account = account.id();
    }

    async fn load(&self) -> Result<Option<Entry>, StoreError> {
        Ok(self.rows.lock().unwrap().get(&self.account).cloned())
    }

    async fn swap(&self, expected: u64, data: &[u8]) -> Result<Swap, StoreError> {
        let mut rows = self.rows.lock().unwrap();
        if rows.get(&self.account).map_or(0, Entry::version) != expected {
            return Ok(Swap::Lost);
        }
        rows.insert(self.account.clone(), Entry::new(expected + 1, data.to_vec()));
        Ok(Swap::Done)
    }

    // One process at a time.
    async fn lease(&self, _: &str, _: Duration) -> Result<Lease, StoreError> {
        Ok(Lease::Granted)
    }

    async fn release(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self, _: u64) {
        sleep(SECOND).await;
    }
}

fn carried(token: &LiveToken) -> Option<String> {
    Some(token.authorization()?.to_str().unwrap().trim_start_matches("Bearer ").to_owned())
}

/// Two tenants, and the word that is in the tokens of each.
fn tenants() -> Vec<(&'static str, [(Tenant, &'static str); 2])> {
    let refresh = |url: &'static str, client: &'static str, subject: &'static str, held: &'static str| {
        tenant(move || RefreshToken::new(endpoint(url, client)).subject(subject), Some(held))
    };
    let nobody = |held: &'static str| tenant(move || RefreshToken::new(endpoint(ID, "app")), Some(held));
    let client = |url: &'static str, id: &'static str| tenant(move || ClientCredentials::new(endpoint(url, id)), None);
    let with =
        |value: &'static str| tenant(move || ClientCredentials::new(endpoint(ID, "app")).param("tenant", value), None);
    let realm = "https://id.test/realms/a/protocol/openid-connect/token";
    let other_realm = "https://id.test/realms/b/protocol/openid-connect/token";
    vec![
        ("two users", [(refresh(ID, "app", "ann", "ann.0"), "ann"), (refresh(ID, "app", "ben", "ben.0"), "ben")]),
        ("no subjects", [(nobody("ann.0"), "ann"), (nobody("ben.0"), "ben")]),
        (
            "the same name in two realms",
            [(refresh(realm, "app", "admin", "ann.0"), "ann"), (refresh(other_realm, "app", "admin", "ben.0"), "ben")],
        ),
        (
            "the same name at two servers",
            [
                (refresh("https://a.test/token", "app", "admin", "ann.0"), "ann"),
                (refresh("https://b.test/token", "app", "admin", "ben.0"), "ben"),
            ],
        ),
        (
            "the same name at two clients",
            [(refresh(ID, "a", "admin", "ann.0"), "ann"), (refresh(ID, "b", "admin", "ben.0"), "ben")],
        ),
        (
            "passwords",
            [
                (tenant(|| LegacyPassword::new(endpoint(ID, "app"), "ann", "p"), None), "ann"),
                (tenant(|| LegacyPassword::new(endpoint(ID, "app"), "ben", "p"), None), "ben"),
            ],
        ),
        ("two clients", [(client(ID, "ann"), "ann"), (client(ID, "ben"), "ben")]),
        (
            "two paths",
            [(client("https://id.test/ann/token", "app"), "ann"), (client("https://id.test/ben/token", "app"), "ben")],
        ),
        (
            "two queries",
            [
                (client("https://id.test/token?org=ann", "app"), "ann"),
                (client("https://id.test/token?org=ben", "app"), "ben"),
            ],
        ),
        (
            "two hosts",
            [(client("https://ann.test/token", "app"), "ann"), (client("https://ben.test/token", "app"), "ben")],
        ),
        ("a parameter", [(with("ann"), "ann"), (with("ben"), "ben")]),
        (
            "assertions",
            [
                (tenant(|| JwtBearer(endpoint(ID, "app"), "ann"), None), "ann"),
                (tenant(|| JwtBearer(endpoint(ID, "app"), "ben"), None), "ben"),
            ],
        ),
        (
            "assertions without subjects",
            [
                (tenant(|| Careless(endpoint(ID, "app"), "ann"), None), "ann"),
                (tenant(|| Careless(endpoint(ID, "app"), "ben"), None), "ben"),
            ],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn two_tenants_on_one_store_never_carry_each_others_tokens() {
    let all = |on_file| tenants().into_iter().map(move |(name, tenants)| (name, tenants, on_file));
    for (name, tenants, on_file) in all(true).chain(all(false)) {
        let place = if on_file { Place::File(Directory::new()) } else { Place::Database(Database::default()) };
        let wall = Wall::new();
        let mut seen = [false; 2];
        // One after the other, both at once, and both anew.
        for _ in 0..2 {
            let mut tokens = Vec::new();
            for (source, word) in &tenants {
                tokens.push((LiveToken::builder(source(&place, wall)).clock(wall).spawn(), *word));
                sleep(3 * SECOND).await;
            }
            for _ in 0..200 {
                sleep(SECOND).await;
                for (at, (token, word)) in tokens.iter().enumerate() {
                    let Some(carried) = carried(token) else { continue };
                    assert!(carried.contains(word), "{name}: {word} carries {carried}");
                    seen[at] = true;
                }
            }
            for (token, word) in &tokens {
                let status = token.status();
                if !status.is_usable() {
                    let error = status.last_error().unwrap_or_else(|| panic!("{name}: {word}: {status:?}")).to_string();
                    let says = ["choose another place", "authorize again", "nothing says whose tokens"];
                    assert!(says.iter().any(|says| error.contains(says)), "{name}: {word}: {error}");
                }
            }
        }
        let unsaid = name == "no subjects";
        assert!(unsaid || seen.contains(&true), "{name}: nobody has a token");
    }
}

/// What is stored by the first configuration, and what becomes of it in the second.
async fn reconfigured(first: RefreshToken, second: RefreshToken) -> (LiveToken, StoredHandle, Directory) {
    let (directory, wall) = (Directory::new(), Wall::new());
    let source = Stored::in_store(first, directory.store()).holding(TokenSet::of_refresh_token("ann.0")).clock(wall);
    let token = LiveToken::builder(source).clock(wall).spawn();
    token.ready().await.unwrap();
    token.shutdown().await;
    drop(token);
    let source = Stored::in_store(second, directory.store()).clock(wall);
    let account = source.handle();
    let token = LiveToken::builder(source).clock(wall).spawn();
    sleep(2 * SECOND).await;
    (token, account, directory)
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_goes_on_with_what_is_stored() {
    let grant = |url: &str| RefreshToken::new(endpoint(url, "app")).subject("ann");
    for (name, second) in [
        ("one more scope", grant(ID).scope("write")),
        ("one more parameter", grant(ID).param("audience", "api")),
        ("another path", grant("https://id.test/v2/token")),
        ("a gateway's key", grant("https://id.test/token?key=secret")),
        ("another secret", RefreshToken::new(endpoint(ID, "app").client_secret_post("app", "new")).subject("ann")),
    ] {
        let (token, _account, _directory) = reconfigured(grant(ID), second).await;
        let status = token.status();
        assert_eq!((status.state(), status.storage()), (State::Live, Storage::Sound), "{name}: {status:?}");
        let carried = carried(&token).unwrap();
        assert!(carried.starts_with("ann."), "{name}: {carried}");
        assert_eq!(
            carried.contains("write"),
            name == "one more scope",
            "{name}: what was asked for is what is carried"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_says_what_to_do_and_a_new_authorization_ends_it() {
    let grant = |url: &str, client: &str| RefreshToken::new(endpoint(url, client)).subject("ann");
    for second in [
        grant(ID, "new"),
        grant("https://moved.test/token", "app"),
        grant("https://id.test/realms/b/token", "app"),
        grant(ID, "app").subject("user/42"),
    ] {
        let (token, account, directory) = reconfigured(grant(ID, "app"), second).await;
        assert_eq!(token.status().state(), State::Rejected);
        let error = token.status().last_error().unwrap().to_string();
        assert!(
            error.contains("client `app` at https://id.test, for `ann`")
                && (error.contains("authorize again") || error.contains("moved_from")),
            "{error}"
        );
        account.adopt(TokenSet::of_refresh_token("ann.new")).await;
        let status = token.status();
        assert_eq!((status.state(), status.storage()), (State::Live, Storage::Sound), "{status:?}");
        assert!(fs::read_to_string(directory.0.join("token")).unwrap().contains("ann."));
    }
}

#[tokio::test(start_paused = true)]
async fn two_users_who_take_turns_on_one_file_never_carry_each_others_tokens() {
    let (directory, wall) = (Directory::new(), Wall::new());
    let begin = |subject: &str| {
        let grant = RefreshToken::new(endpoint(ID, "app")).subject(subject);
        let source = Stored::in_store(grant, directory.store()).clock(wall);
        (source.handle(), LiveToken::builder(source).clock(wall).spawn())
    };
    let (ann, ben) = (begin("ann"), begin("ben"));
    for (turn, (handle, _)) in [&ann, &ben, &ann, &ben].into_iter().enumerate() {
        let (user, other) = if turn % 2 == 0 { ("ann", &ben) } else { ("ben", &ann) };
        handle.adopt(TokenSet::of_refresh_token(format!("{user}.{turn}"))).await;
        for _ in 0..100 {
            sleep(SECOND).await;
            for (name, token) in [("ann", &ann.1), ("ben", &ben.1)] {
                assert!(carried(token).is_none_or(|carried| carried.contains(name)), "{turn}: {name}");
            }
        }
        assert!(fs::read_to_string(directory.0.join("token")).unwrap().contains(user), "the last one who logged in");
        let status = other.1.status();
        if turn > 0 && !status.is_usable() {
            assert!(status.last_error().unwrap().to_string().contains("choose another place"), "{status:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_under_another_name_is_moved_and_nothing_is_left_there() {
    let grant = |subject: &str| RefreshToken::new(endpoint(ID, "app")).subject(subject);
    for (in_one_place, dies) in [(true, false), (false, false), (false, true)] {
        let (before, after, wall) = (Directory::new(), Directory::new(), Wall::new());
        let new_place = if in_one_place { &before } else { &after };
        let old = || Stored::in_store(grant("ann"), before.store()).clock(wall);
        let new = || Stored::in_store(grant("ann/42"), new_place.store()).clock(wall);
        let token = LiveToken::builder(old().holding(TokenSet::of_refresh_token("ann.0"))).clock(wall).spawn();
        token.ready().await.unwrap();
        token.shutdown().await;
        let left = fs::read(before.0.join("token")).unwrap();

        // With every start, and nothing happens when it is done.
        for start in 0..3 {
            let source = new().moved_from(old()).await.unwrap();
            if dies && start == 0 {
                // Before the old one was removed.
                drop(source);
                fs::write(before.0.join("token"), &left).unwrap();
                continue;
            }
            let token = LiveToken::builder(source).clock(wall).spawn();
            token.ready().await.unwrap();
            token.refresh().await.unwrap();
            let status = token.status();
            assert_eq!((status.state(), status.storage()), (State::Live, Storage::Sound), "{in_one_place} {dies}");
            assert!(carried(&token).unwrap().starts_with("ann."));
            token.shutdown().await;
        }
        if !in_one_place {
            let old = fs::read_to_string(before.0.join("token")).unwrap();
            assert!(!old.contains("ann."), "{old}");
        }
        // And nobody else's entry is taken.
        let stranger = || Stored::in_store(grant("ben"), new_place.store()).clock(wall);
        Stored::in_store(grant("ben"), after.store()).clock(wall).moved_from(stranger()).await.unwrap_err();
    }
}

/// A server that knows one secret, and what it says to others.
#[derive(Clone)]
struct Provider {
    secret: Arc<Mutex<String>>,
    issued: Arc<AtomicU32>,
    refusal: (u16, &'static str),
}

impl Provider {
    fn endpoint(&self, secret: &str) -> TokenEndpoint {
        let provider = self.clone();
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let provider = provider.clone();
            async move {
                let basic =
                    request.headers()["authorization"].to_str().unwrap().trim_start_matches("Basic ").to_owned();
                let pair = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
                let is_right = pair == format!("app:{}", provider.secret.lock().unwrap());
                let number = provider.issued.fetch_add(u32::from(is_right), Ordering::Relaxed);
                let (status, body) = match is_right {
                    true => {
                        (200, format!(r#"{{"access_token":"a{number}","expires_in":60,"refresh_token":"r{number}"}}"#))
                    }
                    false => (provider.refusal.0, provider.refusal.1.to_owned()),
                };
                let answer = Response::builder().status(status).header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::from(body)).unwrap())
            }
        });
        let endpoint = TokenEndpoint::new(ID).unwrap();
        endpoint.client_secret_basic("app", secret).http_service(service)
    }
}

/// A refresh token grant whose secret is read anew each time, as from a mounted file.
struct Mounted {
    provider: Provider,
    file: PathBuf,
}

impl Mounted {
    fn grant(&self) -> RefreshToken {
        RefreshToken::new(self.provider.endpoint(&fs::read_to_string(&self.file).unwrap())).subject("ann")
    }
}

impl Grant for Mounted {
    async fn exchange(&self, held: Option<&TokenSet>, limit: Duration) -> Result<TokenSet, FetchError> {
        self.grant().exchange(held, limit).await
    }

    fn is_repeatable(&self, held: Option<&TokenSet>) -> bool {
        self.grant().is_repeatable(held)
    }

    fn account(&self) -> Account {
        self.grant().account()
    }

    fn credentials(&self) -> Option<Credentials> {
        self.grant().credentials()
    }
}

/// What servers say of a wrong secret; the last one says it of the refresh token.
const REFUSALS: [(u16, &str); 6] = [
    (401, r#"{"error":"invalid_client"}"#),
    (401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#),
    (401, r#"{"error":"unauthorized_client"}"#),
    (401, ""),
    (403, r#"{"error":"access_denied"}"#),
    (400, r#"{"error":"invalid_grant"}"#),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mended {
    File,
    Restart,
    Refresh,
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_mended_is_used_however_it_was_mended() {
    let cases = REFUSALS.into_iter().flat_map(|refusal| {
        [Mended::File, Mended::Restart, Mended::Refresh].into_iter().flat_map(move |mended| {
            let places = [Place::Memory, Place::File(Directory::new()), Place::Database(Database::default())];
            // What is in memory is gone with the process.
            let places = places.into_iter().skip(usize::from(mended == Mended::Restart));
            places.map(move |place| (refusal, mended, place))
        })
    });
    for (refusal, mended, place) in cases {
        // A server that calls the refresh token dead is believed until somebody, or another configuration, asks.
        let what = format!("{refusal:?} {mended:?}");
        let (directory, wall) = (Directory::new(), Wall::new());
        let provider = Provider { secret: Arc::new(Mutex::new("old".into())), issued: Arc::default(), refusal };
        let file = directory.0.join("secret");
        fs::write(&file, "old").unwrap();
        let start = || {
            let grant = Mounted { provider: provider.clone(), file: file.clone() };
            LiveToken::builder(place.keep(grant, Some("r"), wall)).clock(wall).spawn()
        };
        let token = start();
        token.ready().await.unwrap();
        *provider.secret.lock().unwrap() = "new".into();
        sleep(10 * MINUTE).await;
        assert!(!token.status().is_usable(), "{what}");
        assert_ne!(token.status().state(), State::Live, "{what}");
        let token = match mended {
            Mended::File => {
                fs::write(&file, "new").unwrap();
                // What is rejected is tried every five minutes.
                sleep(6 * MINUTE).await;
                token
            }
            Mended::Restart => {
                drop(token);
                fs::write(&file, "new").unwrap();
                let token = start();
                sleep(2 * MINUTE).await;
                token
            }
            Mended::Refresh => {
                *provider.secret.lock().unwrap() = "old".into();
                token.refresh().await.unwrap_or_else(|error| panic!("{what}: {error}"));
                token
            }
        };
        assert_eq!(token.status().state(), State::Live, "{what}: {:?}", token.status().last_error());
    }
}

/// Passwords that were refused are not sent again, by nobody: it locks accounts.
#[tokio::test(start_paused = true)]
async fn a_refused_password_is_sent_once_by_a_fleet_until_it_changes() {
    let (directory, wall) = (Directory::new(), Wall::new());
    let (sent, right) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let endpoint = || {
        let (sent, right) = (sent.clone(), right.clone());
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            sent.fetch_add(1, Ordering::Relaxed);
            let (status, body) = match right.load(Ordering::Relaxed) {
                true => (200, r#"{"access_token":"a","expires_in":60}"#),
                false => (401, r#"{"error_description":"access_denied","error":"server_error"}"#),
            };
            std::future::ready(Ok::<_, Infallible>(Response::builder().status(status).body(Full::from(body)).unwrap()))
        });
        TokenEndpoint::new(ID).unwrap().client_secret_basic("app", "secret").http_service(service)
    };
    let start = |password: &str| {
        let grant = LegacyPassword::new(endpoint(), "ann", password);
        LiveToken::builder(Stored::in_store(grant, directory.store()).clock(wall)).clock(wall).spawn()
    };
    let fleet: Vec<_> = (0..10).map(|_| start("wrong")).collect();
    sleep(10 * MINUTE).await;
    assert_eq!(sent.load(Ordering::Relaxed), 1, "ten replicas, ten minutes");
    assert!(fleet.iter().all(|token| token.status().state() == State::Rejected));
    drop(fleet);
    let again = start("wrong");
    sleep(10 * MINUTE).await;
    assert_eq!((sent.load(Ordering::Relaxed), again.status().state()), (1, State::Rejected), "a restart");
    again.refresh().await.unwrap_err();
    assert_eq!(sent.load(Ordering::Relaxed), 2, "somebody asks");
    let other = start("another");
    sleep(MINUTE).await;
    assert_eq!((sent.load(Ordering::Relaxed), other.status().state()), (3, State::Rejected), "another password, once");
    right.store(true, Ordering::Relaxed);
    let mended = start("right");
    mended.ready().await.unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 4);
    let stored = fs::read_to_string(directory.0.join("token")).unwrap();
    assert!(!stored.contains("wrong") && !stored.contains("another"));
}

/// Another secret, while the access token still serves: it is tried at once, and once.
#[tokio::test(start_paused = true)]
async fn another_configuration_asks_once_about_what_was_refused_while_the_token_serves() {
    let (directory, wall) = (Directory::new(), Wall::new());
    let sent = Arc::new(AtomicU32::new(0));
    let start = |secret: &str, held: Option<TokenSet>| {
        let sent = sent.clone();
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            sent.fetch_add(1, Ordering::Relaxed);
            let answer = Response::builder().status(400).header("content-type", "application/json");
            std::future::ready(Ok::<_, Infallible>(answer.body(Full::from(r#"{"error":"invalid_grant"}"#)).unwrap()))
        });
        let endpoint = TokenEndpoint::new(ID).unwrap().client_secret_basic("app", secret).http_service(service);
        let source = Stored::in_store(RefreshToken::new(endpoint).subject("ann"), directory.store()).clock(wall);
        let source = match held {
            Some(held) => source.holding(held),
            None => source,
        };
        LiveToken::builder(source).clock(wall).spawn()
    };
    let held =
        TokenSet::of_access_token("a").expires_in(60 * MINUTE).with_refresh_token("r").with_requested_at(wall.wall());
    let one = start("one", Some(held));
    one.ready().await.unwrap();
    one.refresh().await.unwrap_err();
    assert_eq!(sent.load(Ordering::Relaxed), 1);
    let other = start("two", None);
    other.ready().await.unwrap();
    sleep(10 * MINUTE).await;
    assert_eq!(sent.load(Ordering::Relaxed), 2, "each secret once");
    for token in [&one, &other] {
        assert_eq!((token.status().state(), token.status().is_usable()), (State::ReauthorizationRequired, true));
    }
    let (third, fourth) = (start("one", None), start("two", None));
    sleep(10 * MINUTE).await;
    assert_eq!(sent.load(Ordering::Relaxed), 2, "and no more after a restart");
    for token in [&third, &fourth] {
        assert_eq!((token.status().state(), token.status().is_usable()), (State::ReauthorizationRequired, true));
    }
}
