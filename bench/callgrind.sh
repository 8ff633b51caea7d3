#!/usr/bin/env bash
# Counts the instructions of each piece of work (`counts`, see bench/src/work.rs) under callgrind and
# compares them with bench/callgrind.txt: they repeat where times don't, so a regression shows on a
# noisy machine too.
#
#   bench/callgrind.sh            compares; more than BOUND percent above the recorded count fails
#   bench/callgrind.sh --record   writes the counts of now into bench/callgrind.txt
#
# The counts hold for one compiler and one kind of processor (ring chooses its code by it), which the
# file names. On another it prints `SKIPPED: why` and ends with 77; so it does without valgrind.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=examples/lib.sh
source examples/lib.sh

readonly FILE=bench/callgrind.txt BOUND=5 TIMES=20

record=
case ${1:-} in
    '') ;;
    --record) record=yes ;;
    *) say "usage: ${0##*/} [--record]" >&2; exit 2 ;;
esac

skip() { say "SKIPPED: $*"; exit 77; }

have cargo || die 'cargo is not installed: adit is built with Rust 1.95 or newer'
install_missing valgrind || skip 'valgrind is not installed'

# What the counts depend on besides the source.
basis="$(uname -m) $(rustc --version | cut -d ' ' -f 2) $(
    for flag in aes avx2 bmi2 pclmulqdq sha_ni; do grep -qw "$flag" /proc/cpuinfo && printf '%s ' "$flag"; done
)"
basis=${basis% }
if [[ ! $record ]]; then
    [[ -f $FILE ]] || skip "there is no $FILE; bench/callgrind.sh --record makes it"
    recorded=$(sed -n 's/^# basis: //p' "$FILE")
    [[ $basis == "$recorded" ]] || skip "counts were recorded for \"$recorded\", and this is \"$basis\""
fi

# The profile is the shipped program's; the workspace's target directory may be elsewhere.
program=$(cargo build --release --locked --package bench --bin counts --message-format=json |
    sed -n 's/.*"executable":"\([^"]*counts\)".*/\1/p' | tail -n 1)
[[ $program ]] || die 'the program that is counted was not built'

# instructions NAME TIMES: of the whole process.
instructions() {
    local log
    log=$(mktemp)
    if ! valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>"$log" >/dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    sed -n 's/^==[0-9]*== Collected : *\([0-9]*\).*/\1/p' "$log"
    rm -f "$log"
}

# Twice as often, less once: what starts and prepares falls out.
count() {
    local once twice
    once=$(instructions "$1" "$TIMES") && twice=$(instructions "$1" $((2 * TIMES))) || return 1
    printf '%s\n' $(((twice - once) / TIMES))
}

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
worse=0
mapfile -t names < <("$program")
for name in "${names[@]}"; do
    now=$(count "$name") || die "$name can't be counted"
    printf '%s %s\n' "$name" "$now" >>"$counts"
    before=
    [[ $record ]] || before=$(awk -v name="$name" '$1 == name { print $2 }' "$FILE")
    if [[ ! $before ]]; then
        note='not recorded'
    else
        note=$(awk -v now="$now" -v before="$before" 'BEGIN { printf "%+.2f %%", (now - before) * 100 / before }')
        if ((now * 100 > before * (100 + BOUND))); then
            note+=": WORSE than the bound of $BOUND %"
            ((worse += 1))
        elif ((now * 100 < before * (100 - BOUND))); then
            note+=': better; record it'
        fi
    fi
    printf '%-36s %10s instructions  %s\n' "$name" "$now" "$note"
done

if [[ $record ]]; then
    {
        say '# Instructions of one piece of work each (bench/src/work.rs), written by bench/callgrind.sh --record.'
        say "# basis: $basis"
        cat "$counts"
    } >"$FILE"
    say "recorded in $FILE"
fi
((worse == 0)) || { say "$worse pieces of work take more instructions than recorded"; exit 1; }
