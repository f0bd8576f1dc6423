//! A reverse proxy. Requests arrive without a token, or with one of the caller's. The proxy sends them on with ours.

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, StatusCode, Uri,
    header::{CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, replay::Buffered};

/// Sends each request to this host, with the layer's token. Bodies stream both ways. 64 KiB of each request body under way are kept, so
/// that it can be sent again after a 401.
pub(crate) fn reverse_proxy(layer: BearerAuthLayer, upstream: Authority) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = layer.replay(Buffered::new(64 * 1024, Body::new)).layer(client);
    Router::new().fallback(move |request| forward(client.clone(), upstream.clone(), request))
}

type Upstream = BearerAuth<Client<HttpConnector, Body>, Buffered<Body>>;

async fn forward(client: Upstream, upstream: Authority, mut request: Request) -> Response {
    remove_hop_by_hop(request.headers_mut());
    // The client below writes its own `Host`.
    request.headers_mut().remove(HOST);
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(upstream).path_and_query(path).build();
    *request.uri_mut() = uri.expect("all three parts are there");
    match client.oneshot(request).await {
        Ok(mut response) => {
            remove_hop_by_hop(response.headers_mut());
            response.map(Body::new)
        }
        // The reason is for the log of the proxy, not for its caller.
        Err(error) if error.kind().is_transient() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// The headers that concern one connection (RFC 9110 §7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let keep_alive = HeaderName::from_static("keep-alive");
    let always =
        [CONNECTION, keep_alive, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}
