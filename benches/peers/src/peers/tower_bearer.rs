//! This crate, with what it does about 401s and without.

use std::time::Duration;

use ::tower_bearer::{
    BearerAuth, BearerAuthLayer, LiveToken, Origin,
    oauth2::{ClientCredentials, TokenEndpoint},
    replay::{Auto, Off},
};
use tower::Layer;

use crate::{
    candidate::{About, ORIGIN, Peer, Renews},
    endpoint::Endpoint,
    inner::{End, Inner, Tower},
};

/// As it comes: a request is copied, without its body, so that it can be sent again after a 401.
pub struct Default;

/// Like all others here, which do nothing about a 401 either.
pub struct WithoutRecovery;

const ABOUT: About = About {
    name: "",
    crates: &["tower-bearer"],
    how: "",
    life: Duration::from_millis(500),
    usable: Duration::from_millis(500),
    renews: Renews::InTheBackground,
};

impl Peer for Default {
    const ABOUT: About = About {
        name: "tower-bearer",
        how: "`BearerAuthLayer::new(token, origin)`, a tower layer: after a 401 it renews the token and sends the \
              request again",
        ..ABOUT
    };

    type Client<I: Inner> = Tower<BearerAuth<End<I>, Auto>>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Self::Client<I> {
        Tower(layer(endpoint).layer(End(inner)))
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}

impl Peer for WithoutRecovery {
    const ABOUT: About = About {
        name: "tower-bearer-without-recovery",
        how: "the same layer `.without_recovery()`: a 401 is returned to the caller, as by all others here",
        ..ABOUT
    };

    type Client<I: Inner> = Tower<BearerAuth<End<I>, Off>>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Self::Client<I> {
        Tower(layer(endpoint).without_recovery().layer(End(inner)))
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}

fn layer(endpoint: &Endpoint) -> BearerAuthLayer {
    let endpoint = TokenEndpoint::new(&endpoint.url()).expect("a URL").client_secret_basic("client", "secret");
    let token = LiveToken::spawn(ClientCredentials::new(endpoint));
    BearerAuthLayer::new(token, Origin::parse(ORIGIN).expect("an origin"))
}
