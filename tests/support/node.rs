//! The servers in `tests/interop`, started and stopped.

use std::{ops::Index, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A running server: ends when this is dropped, because its stdin closes then.
pub struct Node {
    facts: Value,
    _child: Child,
}

impl Node {
    /// Starts a script of `tests/interop` and waits until it answers.
    ///
    /// # Panics
    /// With what to do, if something is missing.
    pub async fn start(script: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        assert!(folder.join("node_modules").exists(), "the servers aren't installed: run `npm ci` in tests/interop");
        let mut child = Command::new("node")
            .arg(script)
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("Node.js 20 or later is needed: {error}"));
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line())
            .await
            .unwrap_or_else(|_| panic!("{script} didn't start within 30 s"))
            .expect("stdout can be read")
            .unwrap_or_else(|| panic!("{script} ended; its stderr says why"));
        Self { facts: serde_json::from_str(&line).expect("a line of JSON"), _child: child }
    }

    /// What it has counted.
    pub async fn counts(&self) -> Value {
        let url = self["counts_url"].as_str().expect("a URL");
        let text = reqwest::get(url).await.expect("it answers").text().await.expect("a text");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// What it said when it was ready.
impl Index<&str> for Node {
    type Output = Value;

    fn index(&self, fact: &str) -> &Value {
        &self.facts[fact]
    }
}
