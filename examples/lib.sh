# Functions that tests/run.sh, .ci/run and the examples share. To be sourced; runs nothing itself.
# shellcheck shell=bash

# Administrators' programs (ip, tcpdump) live here, and not everybody has it in PATH.
PATH=$PATH:/usr/sbin:/sbin

say()  { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die()  { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The directory of PostgreSQL's programs (Debian keeps initdb and postgres out of PATH); the newest
# release wins. Fails when there is none.
postgres_programs() {
    local initdb
    initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)
    [[ $initdb ]] || initdb=$(command -v initdb) || return 1
    [[ -x ${initdb%/*}/postgres ]] && printf '%s\n' "${initdb%/*}"
}

# Runs a command as root: directly, or through sudo where that asks for no password.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n -- "$@"
    else
        return 1
    fi
}

# The Debian packages of those programs that are not installed, one a line.
missing_packages() {
    local program
    for program in "$@"; do
        case $program in
            postgres) postgres_programs >/dev/null || printf 'postgresql\n' ;;
            node) have node || printf 'nodejs\n' ;;
            npm) have npm || printf 'npm\n' ;;
            readelf) have readelf || printf 'binutils\n' ;;
            ip | ss) have "$program" || printf 'iproute2\n' ;;
            setpriv | unshare | nsenter) have "$program" || printf 'util-linux\n' ;;
            *) have "$program" || printf '%s\n' "$program" ;;
        esac
    done | sort -u
}

# Installs what the named programs need and this machine lacks, saying so first. Returns 1, with
# the reason in the last line, when something is still missing afterwards.
install_missing() {
    local packages
    mapfile -t packages < <(missing_packages "$@")
    ((${#packages[@]})) || return 0
    if ! have apt-get; then
        say "not installed: ${packages[*]} (Debian's names; no apt-get here: install them by hand)"
        return 1
    fi
    if ! as_root true; then
        say "not installed: ${packages[*]} (neither root nor sudo without a password: install them by hand)"
        return 1
    fi
    say "installing with apt-get: ${packages[*]}"
    # RUNLEVEL=1 keeps the packages' scripts from starting services: nothing here needs
    # PostgreSQL's own service, each run has a server of its own.
    local log
    log=$(mktemp)
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get update &&
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log"
    fi
    rm -f "$log"
    mapfile -t packages < <(missing_packages "$@")
    ((${#packages[@]} == 0)) || { say "could not be installed: ${packages[*]}"; return 1; }
}

# wait_until SECONDS WHAT COMMAND…: runs the command again and again until it succeeds. Fails with
# WHAT in the message once the time is over.
wait_until() {
    local seconds=$1 what=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= end)); then
            printf 'waited %s s in vain for: %s\n' "$seconds" "$what" >&2
            return 1
        fi
        sleep 0.05
    done
}

# When a process started, in clock ticks since boot: with its pid it names that process and no later
# one. Prints nothing for a process that is gone.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The second field is the program's name in brackets and may hold anything.
    read -ra stat <<<"${stat##*) }"
    # A zombie has ended.
    [[ ${stat[0]} == Z ]] || printf '%s\n' "${stat[19]}"
}

# Is this very process still there?
lives() { [[ $2 && $(started_at "$1") == "$2" ]]; }

# Builds adit in the profile and with the features that the tests use, so that both are compiled once, and
# prints the path of the program. The workspace is the first argument. ADIT_BIN names a program that is there already.
build_adit() {
    if [[ ${ADIT_BIN:-} ]]; then
        [[ -x $ADIT_BIN ]] || { say "ADIT_BIN=$ADIT_BIN is not a program" >&2; return 1; }
        realpath "$ADIT_BIN"
        return
    fi
    have cargo || { say 'cargo is not installed: adit is built with Rust 1.95 or newer' >&2; return 1; }
    local messages
    messages=$(cargo build --quiet --locked --manifest-path "$1/Cargo.toml" --package proxy --bin adit \
        --features store-postgres --message-format json-render-diagnostics) || return 1
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$messages" | tail -n 1
}
