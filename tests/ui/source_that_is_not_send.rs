//! A source that can't go to another thread.

use std::rc::Rc;

use tower_bearer::{AccessToken, FetchError, FetchRequest, LiveToken, TokenSource};

struct Vault(Rc<str>);

impl TokenSource for Vault {
    async fn fetch(&mut self, _: FetchRequest) -> Result<AccessToken, FetchError> {
        Ok(AccessToken::new(&*self.0)?)
    }
}

fn main() {
    LiveToken::spawn(Vault("secret".into()));
}
