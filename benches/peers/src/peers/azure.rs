//! azure_core and azure_identity: the policy that Azure's clients put into their pipelines, with a client secret.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    http::{
        AsyncRawResponse, ClientOptions, Context, HttpClient, Method, Request, StatusCode, Transport, Url,
        headers::{AUTHORIZATION, HeaderName, Headers},
        new_http_client,
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};

use crate::{
    candidate::{About, Client, Failed, HEADERS, Peer, Renews, URL},
    endpoint::Endpoint,
    inner::Inner,
};

pub struct Azure;

/// The credential only speaks https. Its own tests replace what is below; here the request goes on to loopback.
#[derive(Debug)]
struct OverLoopback {
    http: Arc<dyn HttpClient>,
    url: Url,
}

#[async_trait]
impl HttpClient for OverLoopback {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        *request.url_mut() = self.url.clone();
        self.http.execute_request(&request).await
    }
}

/// The last policy of a pipeline is its transport; this one answers at once.
#[derive(Debug)]
struct Last<I>(I);

#[async_trait]
impl<I: Inner> Policy for Last<I> {
    async fn send(&self, _: &Context, request: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        self.0.receive(&*request, |request| request.headers().get_optional_str(&AUTHORIZATION));
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), ""))
    }
}

#[derive(Clone)]
pub struct Policies(Arc<[Arc<dyn Policy>]>);

impl Client for Policies {
    type Request = Request;

    fn request() -> Request {
        let mut request = Request::new(URL.parse().expect("a URL"), Method::Get);
        for (name, value) in HEADERS {
            request.insert_header(HeaderName::from_static(name), value);
        }
        request
    }

    async fn send(&mut self, mut request: Request) -> Result<(), Failed> {
        let (first, rest) = self.0.split_first().expect("there is a last one");
        first.send(&Context::new(), &mut request, rest).await?;
        Ok(())
    }
}

impl Peer for Azure {
    const ABOUT: About = About {
        name: "azure",
        crates: &["azure_core", "azure_identity"],
        how: "`BearerTokenAuthorizationPolicy` with a `ClientSecretCredential`. The requests are azure_core's; its \
              last policy responds",
        life: Duration::from_secs(301),
        usable: Duration::from_secs(1),
        renews: Renews::InARequest,
    };

    type Client<I: Inner> = Policies;
    type Bare<I: Inner> = Policies;

    async fn client<I: Inner>(endpoint: &Endpoint, inner: I) -> Policies {
        let http = OverLoopback { http: new_http_client(None), url: endpoint.url().parse().expect("a URL") };
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = "https://login.example.com".into();
        let options = ClientSecretCredentialOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(Arc::new(http))),
                cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
                ..ClientOptions::default()
            },
        };
        let credential = ClientSecretCredential::new("tenant", "client".into(), "secret".into(), Some(options));
        let policy =
            BearerTokenAuthorizationPolicy::new(credential.expect("a complete configuration"), ["api/.default"]);
        Policies(Arc::new([Arc::new(policy), Arc::new(Last(inner))]))
    }

    fn bare<I: Inner>(inner: I) -> Policies {
        Policies(Arc::new([Arc::new(Last(inner))]))
    }
}
