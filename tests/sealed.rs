//! Sealed stores: nothing can be read without a key, keys change without a stop, and a wrong key damages nothing.
#![cfg(all(feature = "oauth2", feature = "reqwest", feature = "sealed", feature = "testing"))]

use std::{fs, path::PathBuf, time::Duration};

use tower_bearer::{
    ErrorKind, LiveToken, State, Storage,
    oauth2::{RefreshToken, Stored, TokenEndpoint, TokenSet},
    store::{FileStore, Keyring, Rewrapped, Sealed, SealingKey, StoreErrorKind, TokenStore},
    testing::{AuthorizationServer, Fault, StoreCheck},
};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-bearer-sealed-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> FileStore {
        FileStore::new(self.0.join(name))
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(id: &str, byte: u8) -> SealingKey {
    SealingKey::from_bytes(id, [byte; 32]).unwrap()
}

fn ring(id: &str, byte: u8) -> Keyring {
    Keyring::new(key(id, byte))
}

fn grant(server: &AuthorizationServer, user: &str) -> RefreshToken {
    let endpoint = TokenEndpoint::new(&server.token_url()).unwrap().client_secret_basic("client", "secret");
    RefreshToken::new(endpoint).subject(user)
}

fn first(server: &AuthorizationServer) -> TokenSet {
    TokenSet::of_refresh_token(server.issue_refresh_token("client", Some("read")))
}

/// A source that asks no server.
fn nowhere<S: TokenStore>(store: Sealed<S>) -> Stored<RefreshToken, Sealed<S>> {
    let endpoint = TokenEndpoint::new("http://127.0.0.1:1/token").unwrap().client_secret_basic("client", "secret");
    Stored::in_store(RefreshToken::new(endpoint).subject("anna"), store)
}

/// A server that takes a spent refresh token for stolen.
async fn strict() -> AuthorizationServer {
    AuthorizationServer::builder().refresh_grace(Duration::ZERO).start().await.unwrap()
}

#[tokio::test]
async fn a_sealed_store_keeps_every_promise_of_a_store() {
    let directory = Directory::new("check");
    let place = directory.0.clone();
    let check = StoreCheck::new(move |name| Sealed::new(FileStore::new(place.join(name)), ring("k", 1)));
    check.run().await.assert_sound();
}

#[tokio::test]
async fn nothing_of_a_token_is_in_the_file_and_the_next_run_goes_on() {
    let (directory, server) = (Directory::new("file"), strict().await);
    let mut stored_before = String::new();
    for run in 0..3 {
        let store = Sealed::new(directory.file("anna"), ring("k", 1));
        let source = Stored::in_store(grant(&server, "anna"), store);
        let source = if run == 0 { source.holding(first(&server)) } else { source };
        let account = source.handle();
        let token = LiveToken::spawn(source);
        token.ready().await.unwrap();
        token.refresh().await.unwrap();
        let text = directory.text("anna");
        let set = account.token_set().unwrap();
        for secret in [set.refresh_token().unwrap(), set.access_token().unwrap(), "anna", "refresh_token"] {
            assert!(!text.contains(secret), "{secret} is in the file");
        }
        assert!(text.contains(r#""sealed":1,"key":"k""#), "{text}");
        assert_ne!(text, stored_before);
        stored_before = text;
        token.shutdown().await;
    }
    assert_eq!(server.reuse_detections(), 0);
}

#[tokio::test]
async fn a_wrong_key_is_rejected_and_damages_nothing_and_the_right_one_goes_on() {
    let (directory, server) = (Directory::new("wrong"), strict().await);
    let spawn = |keyring: Keyring| {
        LiveToken::spawn(Stored::in_store(grant(&server, "anna"), Sealed::new(directory.file("anna"), keyring)))
    };
    let source = Stored::in_store(grant(&server, "anna"), Sealed::new(directory.file("anna"), ring("k", 1)));
    let token = LiveToken::spawn(source.holding(first(&server)));
    token.ready().await.unwrap();
    token.shutdown().await;
    let (before, requests) = (directory.text("anna"), server.token_requests());

    for (keyring, said) in [
        (ring("k", 2), "can't be opened with the key `k`"),
        (ring("another", 1), "sealed with the key `k`, which isn't in the keyring"),
    ] {
        let token = spawn(keyring);
        let error = token.ready_within(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        let chain = format!("{:#}", anyhow::Error::from(error));
        assert!(chain.contains(said) && !chain.contains("credentials"), "{chain}");
        assert_eq!(token.status().state(), State::Rejected);
        token.shutdown().await;
        assert_eq!(directory.text("anna"), before, "left as it was");
    }
    assert_eq!(server.token_requests(), requests, "and nothing is spent");

    let token = spawn(ring("k", 1));
    token.ready().await.unwrap();
    token.refresh().await.unwrap();
    assert_eq!((token.status().storage(), server.reuse_detections()), (Storage::Sound, 0));
}

/// Who may write to the database, and has no key.
#[tokio::test]
async fn an_entry_in_another_users_place_is_not_used() {
    let (directory, server) = (Directory::new("moved"), strict().await);
    let spawn = |user: &str, set: Option<TokenSet>| {
        let source = Stored::in_store(grant(&server, user), Sealed::new(directory.file(user), ring("k", 1)));
        LiveToken::spawn(if let Some(set) = set { source.holding(set) } else { source })
    };
    for user in ["anna", "ben"] {
        let token = spawn(user, Some(first(&server)));
        token.ready().await.unwrap();
        token.shutdown().await;
    }
    let requests = server.token_requests();
    fs::copy(directory.0.join("anna"), directory.0.join("ben")).unwrap();
    let token = spawn("ben", None);
    let error = token.ready_within(Duration::from_secs(10)).await.unwrap_err();
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("for `anna`, and this is") && chain.contains("for `ben`"), "{chain}");
    token.shutdown().await;
    assert_eq!(server.token_requests(), requests, "anna's refresh token isn't spent for ben");

    // Plain text in its place, with a token of the attacker's.
    let plain = Stored::in_store(grant(&server, "ben"), directory.file("plain")).holding(first(&server));
    let token = LiveToken::spawn(plain);
    token.ready().await.unwrap();
    token.shutdown().await;
    fs::copy(directory.0.join("plain"), directory.0.join("ben")).unwrap();
    let error = spawn("ben", None).ready_within(Duration::from_secs(10)).await.unwrap_err();
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("isn't sealed"), "{chain}");
}

#[tokio::test]
async fn a_plain_store_becomes_a_sealed_one_and_keys_change_while_it_is_in_use() {
    let (directory, server) = (Directory::new("rotation"), strict().await);
    let plain = Stored::in_store(grant(&server, "anna"), directory.file("anna")).holding(first(&server));
    let token = LiveToken::spawn(plain);
    token.ready().await.unwrap();
    token.shutdown().await;

    let sealed = |keyring: Keyring| Sealed::new(directory.file("anna"), keyring);
    let rewrap = async |store| Stored::in_store(grant(&server, "anna"), store).rewrap().await;
    let error = rewrap(sealed(ring("old", 1))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable, "it is plain");
    assert_eq!(rewrap(sealed(ring("old", 1)).accept_plain()).await.unwrap(), Rewrapped::Encrypted);
    assert_eq!(rewrap(sealed(ring("old", 1))).await.unwrap(), Rewrapped::UpToDate, "it is sealed already");

    let both = ring("new", 2).older(key("old", 1));
    let token = LiveToken::spawn(Stored::in_store(grant(&server, "anna"), sealed(both.clone())));
    token.ready().await.unwrap();
    assert!(directory.text("anna").contains(r#""key":"old""#), "nothing was written");
    // In the middle of a renewal.
    server.fault(Fault::delay(Duration::from_millis(300)));
    let (refreshed, rewrapped) = tokio::join!(token.refresh(), async {
        server.wait_for_token_requests(2).await;
        rewrap(sealed(both.clone())).await
    });
    refreshed.unwrap();
    rewrapped.unwrap();
    assert!(directory.text("anna").contains(r#""key":"new""#));
    assert_eq!(token.status().storage(), Storage::Sound);
    token.refresh().await.unwrap();
    token.shutdown().await;

    // Other bytes under the same id.
    let rotated = ring("new", 3).older(key("new", 2));
    assert_eq!(
        rewrap(sealed(rotated.clone())).await.unwrap(),
        Rewrapped::Encrypted,
        "it was sealed with the older one"
    );
    assert_eq!(rewrap(sealed(rotated)).await.unwrap(), Rewrapped::UpToDate);
    let back = ring("new", 2).older(key("new", 3));
    assert_eq!(rewrap(sealed(back)).await.unwrap(), Rewrapped::Encrypted);

    // The old key is removed.
    let token = LiveToken::spawn(Stored::in_store(grant(&server, "anna"), sealed(ring("new", 2))));
    token.ready().await.unwrap();
    token.refresh().await.unwrap();
    assert_eq!(server.reuse_detections(), 0);

    // A user who has logged out: what stays must be encrypted anew as well, or they couldn't log in again.
    token.shutdown().await;
    let next = ring("next", 4).older(key("new", 2));
    Stored::in_store(grant(&server, "anna"), sealed(next.clone())).remove().await.unwrap().expect("a set");
    assert_eq!(rewrap(sealed(next)).await.unwrap(), Rewrapped::UpToDate);
    assert_eq!(rewrap(Sealed::new(directory.file("ben"), ring("next", 4))).await.unwrap(), Rewrapped::NoEntry);
}

/// The bytes of a key were changed, and its id was not.
#[tokio::test]
async fn what_is_sealed_with_an_older_key_of_the_same_id_is_encrypted_anew() {
    let directory = Directory::new("same-id");
    let sealed = |keyring: Keyring| Sealed::new(directory.file("anna"), keyring);
    sealed(ring("k", 1)).swap(0, b"data").await.unwrap();
    let both = || sealed(ring("k", 2).older(key("k", 1)));
    assert_eq!(nowhere(both()).rewrap().await.unwrap(), Rewrapped::Encrypted);
    assert_eq!(nowhere(both()).rewrap().await.unwrap(), Rewrapped::UpToDate);
    // Now the old key can go.
    assert_eq!(sealed(ring("k", 2)).load().await.unwrap().unwrap().data(), b"data");
}

/// A database has cut it off. That is no plain entry.
#[tokio::test]
async fn what_is_damaged_is_not_sealed_as_if_it_were_plain() {
    let directory = Directory::new("damaged");
    let sealed = r#"{"sealed":1,"key":"k","account":"a","nonce":"AAAA","data":"AAAA"}"#;
    let damaged = (0..sealed.len()).map(|length| &sealed[..length]).chain(["{\"format\":2", "nonsense"]);
    for (number, damaged) in damaged.enumerate() {
        let database = directory.file(&format!("entry{number}"));
        database.swap(0, damaged.as_bytes()).await.unwrap();
        let store = Sealed::new(database, ring("k", 1)).accept_plain();
        match nowhere(store.clone()).rewrap().await {
            Ok(rewrapped) => panic!("{damaged} was encrypted: {rewrapped:?}"),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unusable, "{error}"),
        }
        assert_eq!(store.load().await.unwrap().unwrap().version(), 1, "left as it was");
    }
}

/// A process that was forgotten when all others were given the key. To move the entry away would cost the authorization.
#[tokio::test]
async fn who_finds_a_sealed_entry_without_a_key_is_told_so() {
    let (directory, server) = (Directory::new("unsealed"), strict().await);
    let source = Stored::in_store(grant(&server, "anna"), Sealed::new(directory.file("anna"), ring("k", 1)));
    let token = LiveToken::spawn(source.holding(first(&server)));
    token.ready().await.unwrap();
    token.shutdown().await;
    let token = LiveToken::spawn(Stored::in_store(grant(&server, "anna"), directory.file("anna")));
    let error = token.ready_within(Duration::from_secs(10)).await.unwrap_err();
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("`Sealed`") && !chain.contains("move it away"), "{chain}");
}
