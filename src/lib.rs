//! placeholder
#![forbid(unsafe_code)]

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

#[cfg(feature = "testing")]
pub mod testing;
