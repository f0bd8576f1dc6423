# Sourced by the other scripts: named, timed steps, and what installs the tools they need.
# shellcheck shell=bash

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null # nothing here asks questions

# `cargo install` puts tools here, which a fresh shell may not look into.
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

# Everything is compiled once here: what incremental compilation writes down for a next time is work for nothing.
export CARGO_INCREMENTAL=0

# Enough for a backtrace that names lines; what a debugger wants besides takes longer to write and link than most tests to run.
export CARGO_PROFILE_DEV_DEBUG=line-tables-only

current=""
reason=""
times=()
skipped=()
beside=""
beside_log=""
scratch=""

# step NAME COMMAND…: the command runs with `set -e` in force, so a function's first failing line ends it.
step() {
  current=$1
  shift
  printf '\n==> %s\n' "$current"
  local start=$SECONDS
  "$@"
  local took=$((SECONDS - start))
  printf -- '--- %s: %d s\n' "$current" "$took"
  times+=("$(printf '%5d s  %s' "$took" "$current")")
  current=""
}

# skipped NAME: a step could not look at anything, which must not read like a pass.
skipped() { skipped+=("$1"); }

fail() {
  reason=$*
  exit 1
}

# skip WHY: ends the script with 77, which says that this machine has not what the rest needs.
skip() {
  reason=$*
  exit 77
}

# may_skip COMMAND…: runs another script, whose 77 doesn't end this one.
may_skip() {
  local status=0
  "$@" || status=$?
  if [ "$status" -eq 77 ]; then skipped "$current"; else return "$status"; fi
}

# beside COMMAND…: runs with what the steps that follow leave of the machine, in a process group of its own.
beside() {
  beside_log=$(mktemp)
  set -m # not setsid: to the scheduler a session is a user of its own, and gets half of the machine however nice it is
  nice -n 19 "$@" >"$beside_log" 2>&1 &
  beside=$!
  set +m
}

# Waits for it, and shows what it printed.
join() {
  local status=0
  wait "$beside" || status=$?
  beside=""
  cat -- "$beside_log"
  rm -f -- "$beside_log"
  return "$status"
}

summary() {
  local status=$?
  if [ -n "$beside" ]; then
    kill -- "-$beside" 2>/dev/null || true
    rm -f -- "$beside_log"
  fi
  [ -z "$scratch" ] || rm -rf -- "$scratch"
  if [ "${#times[@]}" -gt 0 ]; then
    printf '\nTimes\n'
    printf '%s\n' "${times[@]}"
    printf '%5d s  in all\n' "$SECONDS"
  fi
  if [ "$status" -eq 77 ]; then
    printf '\nSKIPPED from step "%s" on: %s\n' "${current:-start}" "$reason"
  elif [ "$status" -ne 0 ]; then
    printf '\nFAILED in step "%s"%s\n' "${current:-start}" "${reason:+: $reason}" >&2
  elif [ "${#skipped[@]}" -gt 0 ]; then
    printf '\nPassed, but for what was SKIPPED:\n'
    printf '  %s\n' "${skipped[@]}"
  else
    printf '\nAll passed.\n'
  fi
}
trap summary EXIT
trap 'fail interrupted' INT TERM HUP

have() { command -v "$1" >/dev/null 2>&1; }

# debian WHY PACKAGE…: installs Debian packages where that is possible, otherwise says what is missing.
debian() {
  local why=$1
  shift
  if ! have apt-get || [ "$(id -u)" -ne 0 ]; then
    fail "$why is missing: install it (on Debian, as root: apt-get install $*)"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# cargo_tool NAME[@VERSION]: a cargo subcommand that is published as cargo-NAME.
cargo_tool() {
  have "cargo-${1%@*}" && return
  cargo install --locked "cargo-$1" ||
    fail "cargo-$1 could not be installed: run 'cargo install --locked cargo-$1' by hand and try again"
}

# cargo_component NAME: a part of the Rust toolchain that rustup installs apart.
cargo_component() {
  cargo "$1" --version >/dev/null 2>&1 && return
  have rustup || fail "cargo $1 is missing: install it with the Rust toolchain"
  rustup component add "$2"
}

# The name of a nightly toolchain, in $nightly; false if there is none.
find_nightly() {
  nightly=$({ rustup toolchain list 2>/dev/null || true; } | sed -n 's/^\(nightly[^ ]*\).*/\1/p' | sed 1q)
  [ -n "$nightly" ]
}

# nightly_for WHAT: the same where nothing can be done without one.
nightly_for() {
  find_nightly || skip "$1 needs a nightly toolchain (rustup toolchain install nightly --profile minimal)"
}

# An empty directory with nothing of the tree around it, in $scratch; it is gone when the script ends.
make_scratch() { scratch=$(mktemp -d); }

# Where cargo puts what it compiles.
target_directory() {
  cargo metadata --format-version 1 --no-deps | node -p 'JSON.parse(fs.readFileSync(0)).target_directory'
}

# copy_tree TO: the tree as it is, for tools that change it or must not see all of it.
copy_tree() {
  local target
  target=$(target_directory)
  rm -rf -- "$1"
  mkdir -p -- "$1"
  tar -cf - --exclude="./${target#"$PWD"/}" --exclude=./target --exclude=./.git --exclude=./fuzz --exclude=./benches/programs --exclude=./benches/peers \
    --exclude=node_modules . | tar -xf - -C "$1"
}

# cargo_hack ARGUMENT…: clippy over sets of features, in a copy of the tree without dev-dependencies: the
# features that the crate asks of itself there would hide what is missing. `--no-dev-deps` rewrites Cargo.toml
# while it works, so that an interrupted run would leave it rewritten; the copy shares what is compiled.
cargo_hack() {
  local target
  target=$(target_directory)
  copy_tree "$target/without-dev-deps"
  (cd -- "$target/without-dev-deps" && CARGO_TARGET_DIR=$target cargo hack clippy --no-dev-deps "$@" -- -D warnings)
}
