//! Redis over TLS, with a password.

use std::{fs, time::Duration};

use redis::{Client, TlsCertificates};
use tokio::{process::Command, time::timeout};
use tower_bearer::store::{Account, Entry, RedisStore, StoreError, StoreErrorKind, Swap, TokenStore};

use crate::redis_server::{Directory, RedisServer};

pub(crate) async fn with_a_password() {
    let directory = Directory::new();
    let (certificate, key) = (directory.file("certificate.pem"), directory.file("key.pem"));
    self_signed(&certificate, &key).await;
    let more = ["--tls-port", "{port}", "--tls-cert-file", &certificate, "--tls-key-file", &key].into_iter().chain([
        "--tls-ca-cert-file",
        &certificate,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "marked-right",
    ]);
    let more: Vec<_> = more.map(str::to_owned).collect();
    let root = fs::read(&certificate).unwrap();
    let redis = RedisServer::start_with(directory, &more).await;
    let store = |password: &str, trusts: bool| {
        let url = format!("rediss://:{password}@localhost:{}/", redis.port());
        let root_cert = trusts.then(|| root.clone());
        let certificates = TlsCertificates { client_tls: None, root_cert };
        let mut store = RedisStore::new(Client::build_with_tls(url, certificates).unwrap(), "tls");
        store.bind(&Account::new("https://id.test", "tls").for_client());
        store
    };

    let (one, other) = (store("marked-right", true), store("marked-right", true));
    for store in [&one, &other] {
        assert_eq!(load(store).await.unwrap(), None);
    }
    assert_eq!(one.swap(0, b"first").await.unwrap(), Swap::Done);
    assert_eq!(other.load().await.unwrap().unwrap().data(), b"first");
    let news = async {
        other.changed(1).await;
        other.load().await.unwrap().unwrap().version()
    };
    let (swapped, heard) = tokio::join!(one.swap(1, b"second"), timeout(Duration::from_secs(30), news));
    assert_eq!((swapped.unwrap(), heard.expect("it is told over TLS, too")), (Swap::Done, 2));

    let wrong = load(&store("marked-wrong", true)).await.unwrap_err();
    says(&wrong, StoreErrorKind::Unusable, "assword");
    let none = RedisStore::connect(&format!("redis://localhost:{}/", redis.port()), "tls").unwrap();
    assert_eq!(none.load().await.unwrap_err().kind(), StoreErrorKind::Unreachable, "it speaks TLS only");
    let untrusted = load(&store("marked-right", false)).await.unwrap_err();
    says(&untrusted, StoreErrorKind::Unreachable, "ertificate");
}

/// What comes of a new connection. It takes some round trips, and when the machine stands still meanwhile, more than the second after
/// which the store says so instead: that is no answer yet.
async fn load(store: &RedisStore) -> Result<Option<Entry>, StoreError> {
    let answered = async {
        loop {
            match store.load().await {
                Err(error) if error.to_string().contains("timed out") => {}
                loaded => return loaded,
            }
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("an answer")
}

/// What went wrong, and no secret.
fn says(error: &StoreError, kind: StoreErrorKind, what: &str) {
    let mut text = format!("{error:?} {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(" {error:?} {error}");
        cause = error.source();
    }
    assert_eq!(error.kind(), kind, "{text}");
    assert!(error.to_string().contains(what), "{error}");
    assert!(!text.contains("marked"), "{text}");
}

async fn self_signed(certificate: &str, key: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate])
        .output()
        .await
        .expect("openssl is needed: scripts/test installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
