//! The sockets: accepts connections, reads requests, and does what the endpoint decided.

use std::{error::Error, fmt, future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::state::{Shared, State};
use crate::testing::{
    endpoints::{self, Route, api, authorize, discovery, introspect, revoke, signnow_check},
    recorded::token_request::TokenRequest,
    reply::{
        Reply,
        body::ReplyBody,
        error_response::ErrorResponse,
        outcome::{Action, Outcome},
    },
};

/// Accepts connections until `stopped`, then closes the port and the connections.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&shared)));
                }
                // Most likely there are no file descriptors left. Others may close some during a pause.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Serves one connection.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    // Otherwise a byte could wait for the peer's delayed acknowledgement. If the option fails, only the speed changes.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    // An error means that the peer or a fault has closed the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Reads a request, and answers it.
async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Cut> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(ReplyBody::whole(Reply::new(StatusCode::PAYLOAD_TOO_LARGE)));
        }
        Err(_) => return Err(Cut),
    };
    let Outcome { wait, action } = decide(&shared, head, body);
    if !wait.is_zero() {
        sleep(wait).await;
    }
    match action {
        Action::Hang => future::pending().await,
        Action::Close => Err(Cut),
        Action::Reply(reply, delivery) => Ok(ReplyBody::response(reply, delivery)),
    }
}

/// Finds the endpoint and asks it for the answer.
fn decide(shared: &Shared, head: Parts, body: Bytes) -> Outcome {
    let now = Instant::now();
    let path = head.uri.path().to_owned();
    let mut state = shared.lock();
    let route = endpoints::route(&head.method, &path, &state.rules);
    let State { rules, issued, .. } = &mut *state;
    let reply = match route {
        Route::Token => {
            drop(state);
            return shared.token_request(head, body, now);
        }
        Route::Api(rest) => return state.api_request(rest, &head, &body, now),
        Route::Authorize => Ok(authorize::answer(&head, &body, rules, issued, now)),
        Route::Introspect => introspect::answer(&TokenRequest::new(head, body, now), rules, issued, now),
        Route::Revoke => revoke::answer(&TokenRequest::new(head, body, now), rules, issued, now),
        Route::SignNowCheck => signnow_check::answer(&head.headers, rules, issued, now),
        Route::Discovery => Ok(discovery::document(rules)),
        Route::Redirect => Ok(api::redirect(head.uri.query())),
        Route::Nowhere => Ok(Reply::new(StatusCode::NOT_FOUND)),
    };
    Outcome::now(reply.unwrap_or_else(ErrorResponse::into_reply))
}

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection cut on purpose")
    }
}

impl Error for Cut {}

/// The largest request body. A test sends much less, and this much does no harm.
const MAX_BODY: usize = 64 << 20;

/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
