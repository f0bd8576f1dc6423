//! The vectors of `vectors/`: each is a test, and each of its expectations is shown to be one by bending it. Their README describes them.

mod answers;
mod api;
mod bend;
mod clock;
mod lifecycle;
mod read;
mod reports;
mod scene;
mod world;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};
use read::{File, Of};
use serde_json::Value;

fn main() -> ExitCode {
    let mut trials = vec![
        Trial::test("what_is_wrong_is_reported", || Ok(reports::what_is_wrong_is_reported()?)),
        Trial::test("what_is_no_vector_is_reported", || Ok(reports::what_is_no_vector_is_reported()?)),
    ];
    for folder in ["answers", "lifecycle"] {
        match File::all(folder) {
            Ok(files) => {
                trials.extend(files.into_iter().flat_map(|(name, file)| of_file(&format!("{folder}/{name}"), file)))
            }
            Err(error) => trials.push(Trial::test(folder, || Err(Failed::from(error)))),
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn of_file(file: &str, File { of, cases, .. }: File) -> Vec<Trial> {
    let trials = cases.into_iter().flat_map(|case| {
        let name = format!("{file}: {}", read::name_of(&case));
        let (case, again) = (Arc::new(case), name.clone() + ", bent");
        let bent = case.clone();
        [
            Trial::test(name, move || Ok(run(of, &case, SEEDS)?)),
            Trial::test(again, move || Ok(each_bend_is_noticed(of, &bent)?)),
        ]
    });
    trials.collect()
}

fn run(of: Of, case: &Value, seeds: u64) -> Result<(), String> {
    match of {
        Of::TokenEndpoint => answers::run(case),
        Of::Api => api::run(case),
        Of::Lifecycle => lifecycle::run(case, seeds),
    }
}

/// What is random must not matter.
const SEEDS: u64 = 10;

/// Bends what is expected, place by place.
fn each_bend_is_noticed(of: Of, case: &Value) -> Result<(), String> {
    let places = match of {
        Of::TokenEndpoint | Of::Api => bent_within(case, &["verdict"]),
        Of::Lifecycle => {
            let mut places = bent_within(case, &["fetches"]);
            for (at, step) in case["script"].as_array().into_iter().flatten().enumerate() {
                for (act, inputs) in ACTS {
                    let expected: Value = match step[act].as_object() {
                        Some(members) => members
                            .iter()
                            .filter(|(name, _)| !inputs.contains(&&***name))
                            .map(|(name, value)| (name.clone(), value.clone()))
                            .collect::<serde_json::Map<_, _>>()
                            .into(),
                        None => continue,
                    };
                    for (place, others) in bend::bent(&expected) {
                        let put = |with: Value| {
                            let mut case = case.clone();
                            let step = &mut case["script"][at][act];
                            with.as_object().into_iter().flatten().for_each(|(name, value)| step[name] = value.clone());
                            case
                        };
                        places.push((format!("script[{at}].{act}{place}"), others.into_iter().map(put).collect()));
                    }
                }
            }
            places
        }
    };
    if places.is_empty() {
        return Err("it expects nothing".into());
    }
    let unnoticed: Vec<_> =
        places.into_iter().filter(|(_, cases)| !is_noticed(of, cases)).map(|(place, _)| place).collect();
    if unnoticed.is_empty() { Ok(()) } else { Err(format!("bending these isn't noticed: {unnoticed:?}")) }
}

/// What is no expectation in a step.
const ACTS: [(&str, &[&str]); 4] = [
    ("request", &["path", "count", "once", "max_wait", "dropped_after"]),
    ("refresh", &["count"]),
    ("status", &[]),
    ("shutdown", &[]),
];

fn bent_within(case: &Value, names: &[&str]) -> Vec<(String, Vec<Value>)> {
    let mut places = Vec::new();
    for name in names {
        for (place, others) in bend::bent(&case[*name]) {
            let put = |with: Value| {
                let mut case = case.clone();
                case[*name] = with;
                case
            };
            places.push((format!("{name}{place}"), others.into_iter().map(put).collect()));
        }
    }
    places
}

/// Whether the first of these that can be read fails.
fn is_noticed(of: Of, cases: &[Value]) -> bool {
    cases.iter().find(|case| is_readable(of, case)).is_some_and(|case| run(of, case, 1).is_err())
}

fn is_readable(of: Of, case: &Value) -> bool {
    match of {
        Of::TokenEndpoint => answers::is_readable(case),
        Of::Api => api::is_readable(case),
        Of::Lifecycle => lifecycle::is_readable(case),
    }
}
