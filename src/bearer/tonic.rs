//! For tonic: errors of this crate as a gRPC status, the live token as an interceptor, and the layer for a tonic client.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use tonic::{Code, Request, Status, service::Interceptor};

use crate::{Error, ErrorKind, LiveToken, TokenError};

mod layer;

pub use layer::{TonicAuth, TonicAuthLayer, TonicResponseFuture};

/// The status of a call that failed in a wrapped service. [`BearerAuthLayer::for_tonic`](crate::BearerAuthLayer::for_tonic) converts errors
/// in this way; use it with `map_err` above a [`BearerAuthLayer`](crate::BearerAuthLayer). Otherwise tonic says `Unknown` whenever there is
/// no token, and a retry for `Unavailable` doesn't apply.
///
/// | | |
/// |---|---|
/// | [`ErrorKind::Inner`] | the status that tonic makes of the wrapped service's error |
/// | [`ErrorKind::Timeout`], [`ErrorKind::Unavailable`] | `Unavailable` |
/// | [`ErrorKind::Rejected`], [`ErrorKind::ReauthorizationRequired`], [`ErrorKind::Stopped`] | `Unauthenticated` |
/// | [`ErrorKind::ForeignOrigin`] | `FailedPrecondition` |
///
/// The deadline of a call (`grpc-timeout`) limits its wait for a token. If it ends the wait before the first attempt, the status is
/// `Unavailable`; after a refusal, the refusal is returned. An attempt after a wait or a refusal gets the time that is left. (`Buffered`
/// and `Cloned` know when the call began. With other policies the deadline counts from the refusal.)
///
/// `UNAUTHENTICATED` is looked for in the headers, where servers put it that reject a call before it begins. If it comes in the trailers,
/// the call has begun: the response is returned and renews nothing. Call [`LiveToken::refresh`] then.
///
/// ```
/// use tonic::{Status, body::Body, transport::Channel};
/// use tower::ServiceBuilder;
/// use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin, replay::Buffered};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let token = LiveToken::spawn(AccessToken::new("secret")?);
/// let channel = Channel::from_static("https://api.example.com").connect_lazy();
/// let layer = BearerAuthLayer::new(token, Origin::parse("https://api.example.com")?);
/// let service = ServiceBuilder::new()
///     .map_err(Status::from)
///     .layer(layer.replay(Buffered::new(64 * 1024, Body::new)))
///     .service(channel); // DocumentsClient::new(service)
/// # fn is_grpc<S: tonic::client::GrpcService<Body>>(_: S) {}
/// # is_grpc(service);
/// # Ok(())
/// # }
/// ```
impl<E> From<Error<E>> for Status {
    fn from(error: Error<E>) -> Self {
        match error.into_inner_boxed() {
            Ok(inner) => Status::from_error(inner),
            Err(ours) => match ours.as_token() {
                Some(error) => error.clone().into(),
                None => Status::new(code(ours.kind()), ours.to_string()),
            },
        }
    }
}

/// As for [`Error`].
impl From<TokenError> for Status {
    fn from(error: TokenError) -> Self {
        let mut status = Status::new(code(error.kind()), error.to_string());
        status.set_source(Arc::new(error));
        status
    }
}

/// Puts the token on each call, and does nothing else: for clients that are made by `with_interceptor`, where no layer fits.
///
/// An interceptor can't wait. Without a valid token a call fails, with the status of the same error from a layer: so wait for
/// [`LiveToken::ready`] first. An interceptor sees no responses, so it doesn't recover from `UNAUTHENTICATED`. It sees no addresses, so
/// there is no fence: the token goes wherever the channel leads.
///
/// ```
/// use tonic::{Request, service::Interceptor};
/// use tower_bearer::{AccessToken, LiveToken};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut token = LiveToken::spawn(AccessToken::new("secret")?);
/// token.ready().await?;
/// let request = token.call(Request::new(()))?; // what DocumentsClient::with_interceptor(channel, token) does
/// assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
/// # Ok(())
/// # }
/// ```
impl Interceptor for LiveToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.authorization() {
            Some(header) => {
                request.metadata_mut().as_mut().insert(&AUTHORIZATION, header);
                Ok(request)
            }
            None => Err(self.absence().into()),
        }
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Inner => Code::Unknown,
        ErrorKind::Timeout | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Rejected | ErrorKind::ReauthorizationRequired | ErrorKind::Stopped => Code::Unauthenticated,
        ErrorKind::ForeignOrigin => Code::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;
    use crate::{BoxError, FetchError, source_fn};

    #[test]
    fn every_kind_has_its_code() {
        for (kind, expected) in [
            (ErrorKind::Timeout, Code::Unavailable),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::Rejected, Code::Unauthenticated),
            (ErrorKind::ReauthorizationRequired, Code::Unauthenticated),
            (ErrorKind::Stopped, Code::Unauthenticated),
        ] {
            let cause = FetchError::try_again("down");
            let status = Status::from(Error::<io::Error>::token(TokenError::new(kind, Some(cause))));
            assert_eq!(status.code(), expected, "{kind:?}");
            assert!(status.message().contains("down"), "{status}");
            assert!(status.source().unwrap().is::<TokenError>());
        }
        let status = Status::from(Error::<io::Error>::foreign_origin("https://elsewhere.test".into()));
        assert_eq!(status.code(), Code::FailedPrecondition);
    }

    #[test]
    fn the_inner_error_is_what_it_would_be_without_the_layer() {
        let status = Status::from(Error::<Status>::of_inner(Status::resource_exhausted("full")));
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "full"));
        let status = Status::from(Error::<BoxError>::of_inner("reset".into()));
        assert_eq!((status.code(), status.message()), (Code::Unknown, "reset"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interceptor_sends_the_token_of_the_moment_or_says_why_there_is_none() {
        let mut token = LiveToken::spawn(source_fn(async |_| {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Ok(crate::AccessToken::new("secret")?)
        }));
        assert_eq!(token.call(Request::new(())).unwrap_err().code(), Code::Unavailable);
        token.ready().await.unwrap();
        let request = token.call(Request::new(())).unwrap();
        let header = &request.metadata().as_ref()[AUTHORIZATION];
        assert!(header == "Bearer secret" && header.is_sensitive());

        let mut rejected = LiveToken::spawn(source_fn(async |_| Err(FetchError::rejected("unknown client"))));
        rejected.ready().await.unwrap_err();
        let status = rejected.call(Request::new(())).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("unknown client"));
    }
}
