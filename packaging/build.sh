#!/usr/bin/env bash
# Builds the adit that is shipped: one static program for this machine's kind of processor, which
# needs no library, no interpreter and no file of the system that it runs on.
#
#   packaging/build.sh          prints the path of the program; says on stderr what it is
#   packaging/build.sh --twice  builds it a second time, from a copy of the sources elsewhere, and
#                               fails unless the same bytes come out
#
# The bytes depend on the sources, on Cargo.lock and on the versions of Rust, of the C compiler and of
# the C library, and on nothing else: not on the time, nor on where sources and Cargo's files lie.
#
# Environment: CARGO_TARGET_DIR as for cargo.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/.." && pwd)
# shellcheck source=examples/lib.sh
source "$workspace/examples/lib.sh"

# The image must not grow without somebody noticing.
size_max=$((12 * 1024 * 1024))

twice=
case ${1:-} in
    '') ;;
    --twice) twice=yes ;;
    *) say "usage: ${0##*/} [--twice]" >&2; exit 2 ;;
esac

have cargo || die 'cargo is not installed: adit is built with Rust 1.95 or newer'
install_missing readelf >&2 || die 'the check that the program is static needs readelf'
processor=$(uname -m)
# The C library of GNU: musl's allocator and memory functions are slower, and mimalloc covers the first only.
target=$processor-unknown-linux-gnu

# static SOURCES TARGET_DIR: builds the sources into that directory and prints the program's path.
static() {
    local sources=$1 into=$2 cargo_home=${CARGO_HOME:-$HOME/.cargo} flags renamed
    # Panic messages and C's assertions hold names of source files.
    renamed=(
        "--remap-path-prefix=$into=/build"
        "--remap-path-prefix=$sources=/adit"
        "--remap-path-prefix=$cargo_home=/cargo"
    )
    # Static, and position-independent all the same: its addresses are random in each process.
    flags=(-C target-feature=+crt-static -C relocation-model=pic "${renamed[@]}")
    # A variable would reach build scripts and their results otherwise.
    env -u RUSTFLAGS \
        CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
        CARGO_TARGET_DIR="$into" \
        SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}" \
        CFLAGS="-ffile-prefix-map=$into=/build -ffile-prefix-map=$sources=/adit -ffile-prefix-map=$cargo_home=/cargo" \
        cargo build --quiet --locked --manifest-path "$sources/Cargo.toml" --package proxy --bin adit \
        --profile dist --target "$target" </dev/null >&2 || return 1
    printf '%s\n' "$into/$target/dist/adit"
}

# cargo gives the directory as it sees it, with links resolved.
target_dir=${CARGO_TARGET_DIR:-$workspace/target}
mkdir -p "$target_dir"
target_dir=$(realpath "$target_dir")
program=$(static "$workspace" "$target_dir") || die 'adit could not be built'

# A program that asks for an interpreter is not static, whatever the flags said.
headers=$(readelf --program-headers --wide "$program") || die "$program can't be read"
[[ $headers != *INTERP* ]] || die "$program is not static"
size=$(stat -c %s "$program")
((size <= size_max)) || die "$program has $size bytes, more than $size_max"

if [[ $twice ]]; then
    other=$(mktemp -d)
    trap 'rm -rf "$other"' EXIT
    trap 'exit 130' INT TERM
    git -C "$workspace" ls-files -z | tar -C "$workspace" --null -T - -cf - | tar -C "$other" -xf - ||
        die 'the sources could not be copied'
    second=$(static "$other" "$other/target") || die 'adit could not be built a second time'
    cmp "$program" "$second" || die 'the second build gave other bytes'
    say 'twice the same bytes' >&2
fi

say "$("$program" --version), static, $((size / 1024)) KiB, $(sha256sum "$program" | cut -d ' ' -f 1)" >&2
say "$program"
