//! `examples/call.rs` and `examples/login.rs`, run as programs.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use serde_json::Value;
use tokio::process::Command;

/// Runs `examples/call.rs` with these arguments; returns what it did, and the JSON that it printed.
pub async fn run_call(args: &[&str]) -> (Output, Value) {
    run_call_with(&[], args).await
}

/// The same, with this in the environment.
pub async fn run_call_with(environment: &[(&str, &str)], args: &[&str]) -> (Output, Value) {
    let output = Command::new(example("call"))
        .args(args)
        .env_remove("CLIENT_SECRET")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the example runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error} in {stdout:?}; {}", String::from_utf8_lossy(&output.stderr)));
    (output, report)
}

/// Where cargo puts an example: beside the folder of this test.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("cargo runs tests in target/<profile>/deps");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{name} isn't built: run `cargo build --examples` first (a plain `cargo test` does)");
    path
}
