//! placeholder
#![warn(clippy::disallowed_methods)]

mod token;
pub use token::{AccessToken, InvalidToken};

mod error;
pub use error::{BoxError, Error, ErrorKind, FetchError, FetchErrorKind, TokenError};

pub mod clock;

mod source;
pub use source::{
    BoxTokenSource, FetchReason, FetchRequest, IntoTokenSource, SourceFn, TokenFile, TokenSource, source_fn,
};

mod live;
pub use live::{Builder, Driver, LiveToken, State, Status, StatusWatch};

mod bearer;
pub use bearer::{
    BearerAuth, BearerAuthLayer, HttpRequest, HttpResponse, InvalidOrigin, Origin, ResponseFuture, replay,
};

#[cfg(feature = "oauth2")]
pub mod oauth2;

#[cfg(feature = "oauth2")]
pub mod store;

#[cfg(feature = "testing")]
#[allow(clippy::disallowed_methods, reason = "a server has a clock of its own")]
pub mod testing;
