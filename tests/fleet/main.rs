//! Rotation that survives crashes and replicas: real processes, killed and paused, on real stores.
//!
//! This program is the test and each of the processes: started as `replica`, it is one of a fleet (`replica`); otherwise it runs the
//! tests. All of them are flagged as ignored, because they need a Redis server (`redis-server` in the path) or take a minute;
//! asked for, they fail if it is missing.

mod crash;
mod example;
mod fleets;
mod process;
mod redis_server;
mod replica;
mod steps;
mod tls;

use std::{future::Future, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("replica") {
        return replica::main();
    }
    let mut arguments = Arguments::from_args();
    // They wait for most of the time; side by side they take no longer than the longest, and no test waits for another's end.
    arguments.test_threads = arguments.test_threads.or(Some(SIDE_BY_SIDE));
    let trials = vec![
        trial("a_fleet_on_redis_fetches_once_for_all", fleets::steady_on_redis),
        trial("two_processes_on_a_file_fetch_once_for_both", fleets::steady_on_a_file),
        trial("a_fleet_on_redis_outlives_kills_pauses_and_a_restart_of_redis", fleets::disturbed_on_redis),
        trial("two_processes_on_a_file_outlive_kills_and_pauses", fleets::disturbed_on_a_file),
        trial("fifty_replicas_that_start_at_once_make_one_token_request", fleets::mass_start),
        trial("an_idle_replica_leaves_the_store_alone", fleets::idle),
        trial("a_kill_at_any_step_loses_nothing_silently", crash::matrix),
        trial("redis_over_tls_with_a_password", tls::with_a_password),
        trial("a_second_run_of_call_goes_on_with_the_token_on_redis", example::called_twice),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    let run = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(true)
}

const SIDE_BY_SIDE: usize = 16;
