//! A person in front of the pages of the authorization server in `tests/interop`: follows redirects, keeps cookies, logs in and
//! agrees, or doesn't. `tests/interop/README.md` has the sequence.

use std::collections::BTreeMap;

use http::{Method, header};
use reqwest::{Client, Url, redirect::Policy};

pub struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new() -> Self {
        let client = Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { client, cookies: BTreeMap::new() }
    }

    /// Opens an authorization URL, logs in, decides, and returns the URL that leads back to the app.
    pub async fn decide(&mut self, authorization_url: &str, decision: &str) -> Url {
        let login = self.go(Method::GET, authorization_url.parse().expect("a URL"), "").await;
        let next = self.go(Method::POST, login, "login=alice&password=x&decision=login").await;
        let consent = self.go(Method::GET, next, "").await;
        let next = self.go(Method::POST, consent, &format!("decision={decision}")).await;
        self.go(Method::GET, next, "").await
    }

    /// Sends one request, and returns where it redirects to.
    async fn go(&mut self, method: Method, url: Url, form: &str) -> Url {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let request = self
            .client
            .request(method, url.clone())
            .header(header::COOKIE, cookies)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let response = request.send().await.expect("an answer");
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let status = response.status();
        let location = response.headers().get(header::LOCATION);
        let location = location.unwrap_or_else(|| panic!("{url} answered {status}, not a redirect"));
        url.join(location.to_str().expect("text")).expect("a URL")
    }
}
