#!/usr/bin/env bash
# Analysis Corp's Node.js app works with Bank Corp's PostgreSQL through adit.
#
#   examples/postgres/run.sh            installs what is missing, shows it, and removes everything
#   examples/postgres/run.sh --keep     leaves all of it running to be looked at
#   examples/postgres/run.sh cleanup    removes what --keep or a killed run left behind
#
#      bank                      public                      analysis
#   PostgreSQL <- outlet  ---->  adit serve  <----  inlet <- app.js
#   127.0.0.1:5432               10.71.0.1:7348     127.0.0.1:15432
#
# Three networks: bank and analysis each have one link, to public, which forwards nothing. As root
# they are network namespaces; else namespaces inside a user namespace; where neither is allowed
# everything runs on the loopback and the script says what could not be shown.
#
# Environment: ADIT_ENGINE (auto, uring, epoll) chooses the engine of all processes. ADIT_BIN names
# an adit to use instead of building one.
#
# Exit code: 0 when everything was shown, or could not be shown for a reason that was printed;
# 1 when something went wrong; 2 for wrong usage.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/../.." && pwd)
# shellcheck source=examples/lib.sh
source "$here/../lib.sh"
# shellcheck source=examples/world.sh
source "$here/../world.sh"

keep=
case ${1:-} in
    '') ;;
    --keep) keep=yes ;;
    cleanup) world_sweep :; exit ;;
    *) say "usage: ${0##*/} [--keep | cleanup]" >&2; exit 2 ;;
esac

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM
    if [[ $keep && $code == 0 ]]; then
        say "kept: $world (remove it with $0 cleanup)"
        exit 0
    fi
    world_end || { say 'a process had to be killed' >&2; ((code)) || code=1; }
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'printf "%s: line %s failed\n" "$0" "$LINENO" >&2' ERR

# Flags of adit that happen to be in the environment would change what is shown.
for variable in "${!ADIT_@}"; do
    [[ $variable == ADIT_ENGINE || $variable == ADIT_BIN ]] || unset "$variable"
done

# ---- while the Internet can be reached: programs, adit, the app's dependency ------------------------

if [[ ! ${WORLD:-} ]]; then
    step 'Programs'
    install_missing postgres node npm setpriv || die 'the example needs these programs'
    install_missing ip ss nsenter unshare tcpdump || say 'going on without; what needs them is not shown'
    ADIT=$(build_adit "$workspace") || die 'adit could not be built'
    export ADIT
    say "PostgreSQL $("$(postgres_programs)/postgres" --version | awk '{ print $3 }'), Node.js $(node --version), $("$ADIT" --version)"
    world_begin "${EXAMPLE_KIND:-$(world_find_kind)}"
    mkdir "$world/app"
    cp "$here"/{app.js,package.json,package-lock.json} "$world/app/"
    npm ci --prefix "$world/app" --no-audit --no-fund --loglevel error ||
        die "npm could not install pg, the app's one dependency"
    [[ $world_kind != user ]] || world_reenter "$0" "$@"
else
    world_resume
fi

not_shown=()
skip() { not_shown+=("$1"); say "NOT SHOWN: $1"; }
denied() { die "$1 (expected: $2; seen: $3)"; }

step 'Three networks: bank and analysis each reach public, and nothing else'
world_network public bank analysis
world_link public 10.71.1.1 bank 10.71.1.2
world_link public 10.71.2.1 analysis 10.71.2.2
if [[ $world_kind == none ]]; then
    relay=127.0.0.1
    read -r relay_port database_port inlet_port visitor_port < <(node "$here/net.js" ports 4)
    say 'this machine allows no network namespaces: everything runs on its loopback'
else
    relay=10.71.0.1 relay_port=7348 database_port=5432 inlet_port=15432 visitor_port=15433
    # The relay's public address belongs to no link, so that both sides reach it by the same name.
    ip -n "$world_name-public" address add "$relay/32" dev lo
    say "public has $relay; bank 10.71.1.2 and analysis 10.71.2.2 have one link each, to public"
fi

# Each company has its own state directory; a person there would have one too, under ~/.adit.
as() { env ADIT_HOME="$world/home-$1" "${@:2}"; }
in_company() { in_network "$1" env ADIT_HOME="$world/home-$1" "${@:2}"; }

# ---- Bank Corp's database ---------------------------------------------------------------------------

step 'Bank Corp: PostgreSQL, on its own loopback'
programs=$(postgres_programs)
mkdir "$world/database"
head -c 18 /dev/urandom | base64 >"$world/database/password"
# PostgreSQL refuses to run as root.
bank_user=()
if ((EUID == 0)); then
    chown -R postgres: "$world/database"
    bank_user=(setpriv --reuid=postgres --regid=postgres --init-groups --)
fi
start initdb bank TERM "${bank_user[@]}" "$programs/initdb" --pgdata "$world/database/cluster" --username bank \
    --auth scram-sha-256 --pwfile "$world/database/password" --encoding UTF8 --locale C --no-sync
wait $! || { cat "$world/initdb.log" >&2; die 'initdb failed'; }
# fsync off: the cluster lives as long as this run.
start postgres bank INT "${bank_user[@]}" "$programs/postgres" -D "$world/database/cluster" -p "$database_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
ready 20 postgres 'PostgreSQL to answer' in_network bank "$programs/pg_isready" -q -h 127.0.0.1 -p "$database_port"
password=$(head -c 18 /dev/urandom | base64)
in_network bank env PGPASSWORD="$(<"$world/database/password")" "$programs/psql" -qX -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$database_port" -U bank -d postgres <<SQL
CREATE ROLE analyst LOGIN PASSWORD '$password';
CREATE DATABASE accounts OWNER analyst;
SQL
say "listens at 127.0.0.1:$database_port; role analyst, database accounts"

# ---- the portal -------------------------------------------------------------------------------------

step 'On the public network: a project, its authority and its relay'
as public "$ADIT" project create acme --address "$relay:$relay_port"
start relay public TERM env ADIT_HOME="$world/home-public" "$ADIT" serve
ready 20 relay 'adit serve to be ready' in_company public "$ADIT" health --ready

step 'Two tickets, each redeemable once and for ten minutes'
ticket() { in_company public "$ADIT" ticket create "${@:2}" >"$world/$1.ticket"; }
ticket bank --name bank-outlet --attribute postgres-outlet=true --may-serve postgres
ticket analysis --name analysis-inlet --attribute postgres-inlet=true
say 'bank-outlet:    postgres-outlet=true, may serve the relay address postgres'
say 'analysis-inlet: postgres-inlet=true'

step 'Bank Corp: an outlet that lets in members with postgres-inlet=true'
start outlet bank TERM env ADIT_HOME="$world/home-bank" "$ADIT" outlet --ticket "$world/bank.ticket" \
    --at postgres --to "localhost:$database_port" --allow postgres-inlet=true
ready 20 outlet 'the outlet to be ready' in_company bank "$ADIT" health --ready

step 'Analysis Corp: an inlet that trusts outlets with postgres-outlet=true'
start inlet analysis TERM env ADIT_HOME="$world/home-analysis" "$ADIT" inlet --ticket "$world/analysis.ticket" \
    --via postgres --from "127.0.0.1:$inlet_port" --allow postgres-outlet=true
ready 20 inlet 'the inlet to be ready' in_company analysis "$ADIT" health --ready
in_company analysis "$ADIT" status

# ---- the app ----------------------------------------------------------------------------------------

# Everything that crosses the relay is captured, and for comparison what reaches the database.
capture() {
    local name=$1 network=$2 device=$3
    shift 3
    have tcpdump || return 1
    # As root it would change to a user of its own, who can't write here.
    start "$name" "$network" INT tcpdump -i "$device" -Z root -U -n -w "$world/$name.pcap" "$@"
    wait_until 5 'tcpdump to listen' grep -q 'listening on' "$world/$name.log"
}
captured=yes
if [[ $world_kind == none ]]; then
    { capture at-relay public lo tcp port "$relay_port" && capture at-bank bank lo tcp port "$database_port"; } 2>/dev/null || captured=
else
    { capture at-relay public any tcp && capture at-bank bank lo tcp; } || captured=
fi

step 'Analysis Corp: the app'
marker=marker-$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
run_app() {
    in_network analysis env PGPORT="$1" PGUSER=analyst PGPASSWORD="$password" PGDATABASE=accounts MARKER="$marker" \
        timeout 60 node "$world/app/app.js"
}
run_app "$inlet_port" || die 'the app could not work with the database'

# ---- what is not possible ---------------------------------------------------------------------------

step 'Neither company listens beyond its own loopback'
if [[ $world_kind == none ]]; then
    skip "that neither company listens beyond its loopback (they share this machine's)"
else
    for company in bank analysis; do
        listeners=$(in_network "$company" ss --no-header --listening --tcp --udp --numeric | awk '{ print $1, $5 }')
        [[ $listeners ]] || die "ss sees nobody listen in $company, not even what must be there"
        say "$company listens at:"
        say "$listeners" | sed 's/^/    /'
        beyond=$(grep -Ev ' (127\.[0-9.]+|\[::1\]|\[::ffff:127\.[0-9.]+\]):[0-9]+$' <<<"$listeners" || true)
        [[ ! $beyond ]] || denied "$company listens beyond its loopback" 'loopback only' "$beyond"
        say "$company is connected beyond its loopback with:"
        peers=$(in_network "$company" ss --no-header --tcp --numeric state established | awk '{ print $4 }' |
            { grep -Ev '^(127\.|\[::1\]|\[::ffff:127\.)' || true; } | sort | uniq -c | awk '{ print $2, "(" $1 " connections)" }')
        say "$peers" | sed 's/^/    /'
        strangers=$(grep -v "^$relay:$relay_port " <<<"$peers" || true)
        [[ ! $strangers ]] || denied "$company is connected to more than the relay" "$relay:$relay_port" "$strangers"
    done
fi

step 'Neither company can open a connection to the other'
if [[ $world_kind == none ]]; then
    skip 'that no connection between the companies can be opened (no namespaces)'
else
    try() { in_network "$1" node "$here/net.js" try "$2" "$3"; }
    for pair in 'bank analysis 10.71.2.2' 'analysis bank 10.71.1.2'; do
        read -r from to address <<<"$pair"
        # Somebody who does listen, so that it is the network and nothing else that refuses.
        start "listener-$to" "$to" TERM node "$here/net.js" listen 9000
        ready 10 "listener-$to" 'the listener' grep -q listening "$world/listener-$to.log"
        seen=$(try public "$address" 9000)
        [[ $seen == greeted* ]] || denied "the listener in $to does not work" greeted "$seen"
        seen=$(try "$from" "$address" 9000)
        say "$from -> $to ($address:9000): $seen"
        [[ $seen == 'no answer'* || $seen == E* ]] || denied "$from reached $to" 'no answer' "$seen"
        seen=$(try "$from" "$relay" "$relay_port")
        [[ $seen == open* || $seen == closed* || $seen == ECONNRESET* ]] || denied "$from does not reach the relay" open "$seen"
    done
fi

step 'A member without the attribute is denied'
# The visitor has a valid ticket and becomes a member. The bank's policy does not name it.
ticket visitor --name visitor
start visitor analysis TERM env ADIT_HOME="$world/home-visitor" "$ADIT" inlet --ticket "$world/visitor.ticket" \
    --via postgres --from "127.0.0.1:$visitor_port" --allow postgres-outlet=true
ready 20 visitor 'the visitor to learn that it is not authorized' grep -q 'ADIT-3' "$world/visitor.log"
seen=$(in_network analysis node "$here/net.js" try 127.0.0.1 "$visitor_port")
say "a connection through the visitor's inlet: $seen"
[[ $seen == ECONNRESET* ]] || denied 'the visitor was not refused with a reset' ECONNRESET "$seen"
if run_app "$visitor_port"; then
    die 'the app got through the inlet of a member that the policy does not allow'
fi
say 'the outlet says why:'
grep 'ADIT-3' "$world/outlet.log" | tail -n 1 | sed 's/^/    /' || die 'the outlet logged no denial'

step 'The relay sees ciphertext only'
if [[ ! $captured ]]; then
    skip 'that a capture at the relay holds no plaintext (tcpdump is not installed or not allowed)'
else
    wait_until 10 'the capture at the bank to hold the marker' grep -aq "$marker" "$world/at-bank.pcap" ||
        die "the marker is not even in the capture at the bank's own loopback: the capture proves nothing"
    say "the bank's loopback: the app's marker is there, as it must be"
    frames=$(tcpdump -n -r "$world/at-relay.pcap" 'tcp[tcpflags] & tcp-push != 0' 2>/dev/null | wc -l)
    ((frames > 10)) || denied 'the capture at the relay is empty' 'more than 10 frames with data' "$frames"
    for word in "$marker" risk_scores analyst accounts SELECT postgres-inlet; do
        if grep -aqi -- "$word" "$world/at-relay.pcap"; then
            denied 'plaintext crossed the relay' "no $word" "$word"
        fi
    done
    say "the relay's links: $frames frames with data, in none of them the marker, a table, a user or SQL"
fi

step 'Result'
for what in "${not_shown[@]}"; do
    say "NOT SHOWN: $what"
done
say 'The example run was successful'
