//! The compiler, with what the tests themselves were compiled with: so there is nothing to compile but the cases.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

/// The crates that cases use.
const CRATES: [&str; 7] = ["bytes", "http", "http_body_util", "reqwest", "tonic", "tower", "tower_bearer"];

pub(crate) struct Compiler {
    externs: Vec<String>,
    dependencies: PathBuf,
}

impl Compiler {
    /// The same for all cases.
    pub(crate) fn get() -> Result<&'static Self, String> {
        static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
        COMPILER.get_or_init(Self::find).as_ref().map_err(Clone::clone)
    }

    /// Asks cargo where things are. They are there, if these tests were compiled with all features, too.
    fn find() -> Result<Self, String> {
        let target = target();
        let target = target.to_str().ok_or("the target directory has no name in UTF-8")?;
        let told = run(program("CARGO", "cargo").args(["test", "--no-run", "--test", "ui", "--all-features"]).args([
            "--offline",
            "--message-format=json",
            "--target-dir",
            target,
        ]))?;
        if !told.status.success() {
            return Err(format!("cargo failed: {}", String::from_utf8_lossy(&told.stderr)));
        }
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let artifacts: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let files: Vec<PathBuf> = CRATES.iter().map(|name| library(&artifacts, name)).collect::<Result<_, _>>()?;
        let dependencies = files[0].parent().ok_or("a library lies nowhere")?.to_owned();
        let externs = CRATES.iter().zip(&files).map(|(name, file)| format!("{name}={}", file.display())).collect();
        Ok(Self { externs, dependencies })
    }

    /// What is said to a case; `None` if it compiles.
    pub(crate) fn compile(&self, case: &Path) -> Result<Option<String>, String> {
        let mut rustc = program("RUSTC", "rustc");
        rustc.args(["--edition=2024", "--emit=metadata", "--cap-lints=allow"]);
        rustc.args(["--color=never", "--diagnostic-width=140"]);
        rustc.arg("--out-dir").arg(env!("CARGO_TARGET_TMPDIR"));
        rustc.arg("-L").arg(format!("dependency={}", self.dependencies.display()));
        for library in &self.externs {
            rustc.args(["--extern", library]);
        }
        let told = run(rustc.arg(case))?;
        Ok((!told.status.success()).then(|| String::from_utf8_lossy(&told.stderr).into_owned()))
    }
}

/// The one library of this name among what cargo tells.
fn library(artifacts: &[Value], name: &str) -> Result<PathBuf, String> {
    let mut found = artifacts.iter().filter(|told| {
        let is_library = told["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
        is_library && told["target"]["name"].as_str().is_some_and(|told| told.replace('-', "_") == name)
    });
    let (Some(one), None) = (found.next(), found.next()) else {
        return Err(format!("there isn't one crate called {name}, but none or several"));
    };
    let files = one["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
    let metadata = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "rmeta"));
    metadata.ok_or_else(|| format!("cargo doesn't tell where the metadata of {name} is"))
}

/// Where this test was compiled to.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).to_owned()
}

/// Its version, as in "rustc 1.95.0 (59807616e 2026-04-14)".
pub(crate) fn version() -> String {
    let said = run(program("RUSTC", "rustc").arg("--version")).map(|told| told.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).split(' ').nth(1).unwrap_or("of no version").to_owned()
}

fn program(variable: &str, usual: &str) -> Command {
    Command::new(env::var_os(variable).unwrap_or_else(|| usual.into()))
}

fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))
}
