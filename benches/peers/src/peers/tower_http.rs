//! The least that a user can have today: a header that never changes.

use std::time::Duration;

use ::tower_http::auth::{AddAuthorization, AddAuthorizationLayer};
use tower::Layer;

use crate::{
    candidate::{About, Peer, Renews},
    endpoint::{Endpoint, Token},
    inner::{End, Inner, Tower},
};

pub struct TowerHttp;

impl Peer for TowerHttp {
    const ABOUT: About = About {
        name: "tower-http",
        crates: &["tower-http"],
        how: "`AddAuthorizationLayer::bearer(…).as_sensitive(true)`, a tower layer: the token never changes",
        life: Duration::MAX,
        usable: Duration::MAX,
        renews: Renews::Never,
    };

    type Client<I: Inner> = Tower<AddAuthorization<End<I>>>;
    type Bare<I: Inner> = Tower<End<I>>;

    async fn client<I: Inner>(_: &Endpoint, inner: I) -> Self::Client<I> {
        Tower(AddAuthorizationLayer::bearer(&Token::lasting()).as_sensitive(true).layer(End(inner)))
    }

    fn bare<I: Inner>(inner: I) -> Self::Bare<I> {
        Tower(End(inner))
    }
}
