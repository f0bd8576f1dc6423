//! Runs each program under callgrind and counts the instructions of its requests. What they may cost is judged by `judge.mjs`:
//! gungraun compares a program with its own past, and here programs are compared with each other.

use gungraun::{BinaryBenchmarkConfig, Callgrind, Command, EntryPoint, binary_benchmark, binary_benchmark_group, main};

#[binary_benchmark]
#[bench::bare(env!("CARGO_BIN_EXE_bare"))]
#[bench::tower_http(env!("CARGO_BIN_EXE_tower_http"))]
#[bench::off(env!("CARGO_BIN_EXE_off"))]
#[bench::never(env!("CARGO_BIN_EXE_never"))]
#[bench::default(env!("CARGO_BIN_EXE_default"))]
#[bench::head_copied(env!("CARGO_BIN_EXE_head_copied"))]
#[bench::bare_cloned(env!("CARGO_BIN_EXE_bare_cloned"))]
#[bench::tower_http_cloned(env!("CARGO_BIN_EXE_tower_http_cloned"))]
#[bench::off_cloned(env!("CARGO_BIN_EXE_off_cloned"))]
fn program(path: &str) -> Command {
    Command::new(path)
}

binary_benchmark_group!(name = programs, benchmarks = program);

// Of the environment programs see nothing, and addresses are the same each time: gungraun sees to both.
main!(
    config = BinaryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]).entry_point(EntryPoint::Custom("*measured_request*".to_owned())));
    binary_benchmark_groups = programs
);
