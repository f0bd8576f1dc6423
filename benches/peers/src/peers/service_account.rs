//! A Google service account whose token endpoint is the one on loopback. Its key is made for the run.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
};
use base64::{Engine, prelude::BASE64_STANDARD};

/// The JSON that Google's console hands out.
pub(super) fn json(token_uri: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "1",
        "private_key": *KEY,
        "client_email": "bench@example.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    })
}

static KEY: LazyLock<String> = LazyLock::new(|| {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
    let der: Pkcs8V1Der<'static> = key.as_der().expect("a key can be encoded");
    let body = BASE64_STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
});
