//! What the providers' recipes share: settings from the environment, or a simulator of the provider if there are none.
#![allow(dead_code, reason = "each recipe uses its own part")]

use std::{env, io::BufRead, time::Duration};

use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, BoxError, LiveToken, Origin,
    testing::{AuthorizationServer, Builder, providers},
};

/// Where a provider is, and which client we are there.
pub(crate) struct Provider {
    prefix: &'static str,
    pub(crate) token_url: String,
    pub(crate) authorization_url: String,
    pub(crate) api_url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) redirect_uri: String,
    /// The simulator, if there are no settings.
    pub(crate) simulator: Option<AuthorizationServer>,
}

impl Provider {
    /// Reads `PREFIX_TOKEN_URL`, `PREFIX_AUTHORIZATION_URL`, `PREFIX_API_URL`, `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` and
    /// `PREFIX_REDIRECT_URI`; without the first, starts the simulator, which knows one client and one user.
    pub(crate) async fn open(prefix: &'static str, simulator: Builder) -> Result<Self, BoxError> {
        let setting = |name: &str| env::var(format!("{prefix}_{name}"));
        if let Ok(token_url) = setting("TOKEN_URL") {
            return Ok(Self {
                prefix,
                token_url,
                authorization_url: setting("AUTHORIZATION_URL").unwrap_or_default(),
                api_url: setting("API_URL")?,
                client_id: setting("CLIENT_ID").unwrap_or_default(),
                client_secret: setting("CLIENT_SECRET").unwrap_or_default(),
                redirect_uri: setting("REDIRECT_URI").unwrap_or_default(),
                simulator: None,
            });
        }
        println!("{prefix}_TOKEN_URL isn't set: a simulator takes the provider's place");
        let server = simulator.start().await?;
        Ok(Self {
            prefix,
            token_url: server.token_url(),
            authorization_url: server.authorization_url(),
            api_url: server.api_url("/documents"),
            client_id: providers::CLIENT_ID.into(),
            client_secret: providers::CLIENT_SECRET.into(),
            redirect_uri: providers::REDIRECT_URI.into(),
            simulator: Some(server),
        })
    }

    /// One more setting, or the value that the simulator expects.
    pub(crate) fn setting(&self, name: &str, simulated: &str) -> Result<String, BoxError> {
        match &self.simulator {
            Some(_) => Ok(simulated.into()),
            None => env::var(format!("{}_{name}", self.prefix)).map_err(Into::into),
        }
    }

    /// Sends a person to the authorization URL, and returns the URL that the provider sent the browser to.
    pub(crate) fn callback(&self, authorization_url: &str) -> Result<String, BoxError> {
        match &self.simulator {
            Some(server) => Ok(server.approve(authorization_url)),
            None => {
                println!("Agree here:\n{authorization_url}\nthen paste the URL that the browser ends at:");
                Ok(std::io::stdin().lock().lines().next().ok_or("nothing was pasted")??)
            }
        }
    }

    /// Calls the API five times, half a second apart, and prints the results.
    pub(crate) async fn call(&self, token: &LiveToken) -> Result<(), BoxError> {
        let origin = Origin::parse(&self.api_url.parse::<reqwest::Url>()?.origin().ascii_serialization())?;
        let mut client = BearerAuthLayer::new(token.clone(), origin).layer(reqwest::Client::new());
        for _ in 0..5 {
            let request = reqwest::Request::new(http::Method::GET, self.api_url.parse()?);
            let status = client.ready().await?.call(request).await?.status();
            println!("GET {} -> {status}, with token {}", self.api_url, token.status().generation());
            if !status.is_success() {
                return Err(format!("the API answered {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}
