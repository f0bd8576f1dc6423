//! `examples/web_app`, run as a program.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::call::example;

/// The running app: ends when this is dropped.
pub struct WebApp {
    url: String,
    _child: Child,
}

impl WebApp {
    /// Starts it with these settings, and none from the environment of the tests.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(example("web_app"))
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let line = line.expect("it starts within 30 s").expect("stdout can be read").expect("its stderr says why");
        let url = line.strip_prefix("listening on ").expect("the address").to_owned();
        Self { url, _child: child }
    }

    /// The address of a page.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}
