//! kube-client: the auth layer of its own client, with a credential plugin.

use std::{convert::Infallible, env, time::Duration};

use kube_client::{
    Config,
    client::{ConfigExt, middleware::AuthLayer},
    config::{ExecConfig, ExecInteractiveMode},
};
use tower::{BoxError, Layer, ServiceExt, util::MapErr};

use crate::{
    candidate::{About, HttpRequest, ORIGIN, Peer, Renews},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

pub struct Kube;

/// The layer wants boxed errors below, as its own client has them.
type Boxed<I> = MapErr<End<I>, fn(Infallible) -> BoxError>;

fn boxed<I: Inner>(inner: I) -> Boxed<I> {
    let boxed: fn(Infallible) -> BoxError = |never| match never {};
    ServiceExt::<HttpRequest>::map_err(End(inner), boxed)
}

impl Peer for Kube {
    const ABOUT: About = About {
        name: "kube-client",
        crates: &["kube-client"],
        how: "`Config::auth_layer()`, the tower layer of its own client, with an exec credential: a small program \
              that asks the token endpoint",
        life: Duration::from_millis(60_500),
        usable: Duration::from_millis(500),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Tower<<AuthLayer as Layer<Boxed<I>>>::Service>;
    type Bare<I: Inner> = Tower<Boxed<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Self::Client<I> {
        let mut config = Config::new(ORIGIN.parse().expect("a URL"));
        config.auth_info.exec = Some(ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".into()),
            command: Some(plugin()),
            args: Some(vec![endpoint.exec_url()]),
            env: None,
            drop_env: None,
            install_hint: None,
            interactive_mode: Some(ExecInteractiveMode::Never),
            provide_cluster_info: false,
            cluster: None,
            other: Default::default(),
        });
        // It runs the program right away, and waits for it.
        let layer = tokio::task::spawn_blocking(move || config.auth_layer()).await.expect("no panic");
        Tower(layer.expect("the program prints a credential").expect("a credential is configured").layer(boxed(inner)))
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(boxed(inner))
    }
}

/// `src/bin/credential.rs`, which cargo puts beside the program that runs.
fn plugin() -> String {
    let beside = env::current_exe().expect("a program knows where it is").with_file_name("credential");
    assert!(beside.exists(), "{} is missing: build the whole package", beside.display());
    beside.to_str().expect("a path in UTF-8").to_owned()
}
