//! What `call` and `login` share: the token endpoint, and how the client authenticates there.

use clap::ValueEnum;
use tower_bearer::{BoxError, oauth2::TokenEndpoint};

/// Where tokens come from.
#[derive(clap::Args)]
pub(crate) struct Endpoint {
    /// Where tokens come from
    #[arg(long, value_name = "URL")]
    token_url: String,
    #[arg(long, value_name = "ID", default_value = "", allow_hyphen_values = true)]
    client_id: String,
    #[arg(
        long,
        value_name = "SECRET",
        env = "CLIENT_SECRET",
        hide_env_values = true,
        default_value = "",
        allow_hyphen_values = true
    )]
    client_secret: String,
    /// How the client proves who it is
    #[arg(long, value_enum, default_value = "basic")]
    client_auth: ClientAuth,
    /// The Basic value that the provider hands out encoded already
    #[arg(long, value_name = "VALUE", env = "CLIENT_BASIC_VALUE", hide_env_values = true, allow_hyphen_values = true)]
    basic_value: Option<String>,
    /// How the token request is written
    #[arg(long, value_enum, default_value = "form")]
    body: Body,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ClientAuth {
    Basic,
    BasicRaw,
    BasicValue,
    Post,
    None,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Body {
    Form,
    Multipart,
}

impl Endpoint {
    pub(crate) fn open(&self) -> Result<TokenEndpoint, BoxError> {
        let endpoint = TokenEndpoint::new(&self.token_url)?;
        let (id, secret) = (self.client_id.as_str(), self.client_secret.clone());
        let endpoint = match (&self.basic_value, self.client_auth) {
            (Some(value), ClientAuth::Basic | ClientAuth::BasicValue) => endpoint.client_basic_value(value.clone()),
            (None, ClientAuth::BasicValue) => return Err("--client-auth basic-value needs --basic-value".into()),
            (_, ClientAuth::Basic) => endpoint.client_secret_basic(id, secret),
            (_, ClientAuth::BasicRaw) => endpoint.client_secret_basic_raw(id, secret),
            (_, ClientAuth::Post) => endpoint.client_secret_post(id, secret),
            (_, ClientAuth::None) => endpoint.public_client(id),
        };
        match self.body {
            Body::Form => Ok(endpoint),
            #[cfg(feature = "multipart")]
            Body::Multipart => Ok(endpoint.multipart()),
            #[cfg(not(feature = "multipart"))]
            Body::Multipart => Err("--body multipart needs the feature: cargo run --features multipart …".into()),
        }
    }
}
