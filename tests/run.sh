#!/usr/bin/env bash
# Runs all tests of the workspace, with one build profile, and closes with one line of sums.
#
#   tests/run.sh            what CI runs
#   tests/run.sh --long     more seeds and the tests that are ignored because they take long
#
# Installs what tests need and this machine lacks: PostgreSQL, Node.js, iproute2, tcpdump. A test
# that can't run prints a line `SKIPPED: why`; it is counted as skipped and not as passed.
#
# Exit code: 0 when nothing failed and something passed.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=examples/lib.sh
source examples/lib.sh

long=
case ${1:-} in
    '') ;;
    --long) long=yes ;;
    *) say "usage: ${0##*/} [--long]" >&2; exit 2 ;;
esac

have cargo || die 'cargo is not installed: adit is built with Rust 1.95 or newer'
install_missing postgres node npm ip ss tcpdump nsenter unshare setpriv ||
    say 'going on: tests that need these programs say that they were skipped'

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# Tests read ADIT_LONG for how many seeds to try.
arguments=(--show-output)
if [[ $long ]]; then
    export ADIT_LONG=1
    # One at a time: thousands of connections of several tests would share the kernel's memory for TCP.
    arguments+=(--include-ignored --test-threads 1)
fi

step 'cargo test'
code=0
cargo test --workspace --locked --no-fail-fast -- "${arguments[@]}" 2>&1 </dev/null | tee "$output" || code=$?

# `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`, once per program that ran.
sum() { awk -v what="$1" '/^test result: / { for (i = 2; i <= NF; i++) if ($i ~ "^" what) n += $(i - 1) } END { print n + 0 }' "$output"; }
passed=$(sum passed) failed=$(sum failed) ignored=$(sum ignored)

mapfile -t skipped < <(grep -E '^SKIPPED\b' "$output" || true)
if ((${#skipped[@]} + ignored)); then
    step 'Skipped'
    ((${#skipped[@]} == 0)) || printf '%s\n' "${skipped[@]}"
    ((ignored == 0)) || say "SKIPPED: $ignored ignored tests (run them with --long)"
fi
((passed -= ${#skipped[@]})) || true

# A program that didn't compile or was killed ran no tests that could be counted.
((code == 0 || failed)) || failed=1
((passed)) || code=1
step 'Tests'
say "$passed passed, $failed failed, $((ignored + ${#skipped[@]})) skipped"
exit "$code"
