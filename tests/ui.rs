//! What a newcomer's mistakes are answered with. `tests/ui` has a file for each that doesn't compile, and beside it what the compiler says:
//! all of it, so that a note that gets lost is noticed, and so that it can be read. One more panics.
//!
//! ```console
//! cargo test --all-features --test ui
//! TOWER_BEARER_UI=write cargo test --all-features --test ui   # after a change of notes, or of `RUST`: then read what has changed
//! ```

use std::{
    cell::RefCell,
    env, fs, io,
    panic::{self, UnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tower_bearer::{AccessToken, BearerAuthLayer, LiveToken, Origin};

#[path = "ui/support/compiler.rs"]
mod compiler;
#[path = "ui/support/words.rs"]
mod words;
use compiler::Compiler;

/// Whose words are written down. Other versions say the same in others.
const RUST: &str = "1.95.0";

fn main() -> ExitCode {
    listen_to_panics();
    let mut arguments = Arguments::from_args();
    let rust = compiler::version();
    let is_other = rust != RUST;
    if is_other {
        println!("SKIPPED: in tests/ui is what rustc {RUST} says, and this is {rust}");
        // `--include-ignored` asks for tests that need a program, and here is none to install.
        (arguments.include_ignored, arguments.ignored) = (false, false);
    }
    let mut trials = vec![Trial::test("spawn_outside_of_a_runtime", spawn_outside_of_a_runtime)];
    for case in cases().expect("the directory of the cases is there") {
        let name = case.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        trials.push(Trial::test(name, move || compile(&case)).with_ignored_flag(is_other));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn cases() -> io::Result<Vec<PathBuf>> {
    let files = fs::read_dir("tests/ui")?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut cases: Vec<_> = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    cases.sort();
    Ok(cases)
}

fn compile(case: &Path) -> Result<(), Failed> {
    let Some(said) = Compiler::get()?.compile(case)? else { return Err("it compiles".into()) };
    let said = words::normal(&said);
    let written = case.with_extension("stderr");
    if env::var_os("TOWER_BEARER_UI").is_some_and(|what| what == "write") {
        return Ok(fs::write(written, said)?);
    }
    let expected = fs::read_to_string(&written).unwrap_or_default();
    if said == expected { Ok(()) } else { Err(format!("it says\n\n{said}\ninstead of\n\n{expected}").into()) }
}

fn spawn_outside_of_a_runtime() -> Result<(), Failed> {
    let source = || AccessToken::new("secret").expect("it is one");
    let origin = Origin::parse("https://api.test")?;
    let said = [
        said_by(|| drop(LiveToken::spawn(source()))),
        said_by(|| drop(LiveToken::builder(source()).name("api").spawn())),
        said_by(|| drop(BearerAuthLayer::spawn(source(), origin))),
    ];
    // Where it was called, and not somewhere in this crate or in tokio.
    let here = format!("panicked at {}:", file!());
    match said.iter().find(|said| !said.starts_with(&here) || !said.contains("`LiveToken::spawn` outside of a tokio")) {
        None => Ok(()),
        Some(said) => Err(format!("it says {said}").into()),
    }
}

thread_local! {
    /// What a panic on this thread says, where one is expected.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn listen_to_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_expected = SAID.with_borrow_mut(|said| said.as_mut().map(|said| *said = panic.to_string()).is_some());
        if !is_expected {
            usual(panic);
        }
    }));
}

/// The message of the panic, with its place.
fn said_by(panics: impl FnOnce() + UnwindSafe) -> String {
    SAID.set(Some(String::from("nothing")));
    let _ = panic::catch_unwind(panics);
    SAID.take().unwrap_or_default()
}
