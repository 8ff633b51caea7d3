# The small world in which an example runs: networks that are apart from each other, processes, and
# one temporary directory, all of which world_end takes away again. Source lib.sh first.
# shellcheck shell=bash disable=SC2034,SC2153
#
# world_kind says how the networks are kept apart:
#   root   network namespaces, made as root
#   user   network namespaces inside a user namespace, made by anybody
#   none   they are not: everything shares this machine's loopback
#
# Everything that outlives a crash of the script is written down in $world first, so that a later
# world_sweep finds it: `owner` (the script's pid and start), `kind`, `name`, `processes` (pid,
# start, signal to end it with, what it is).

world_prefix=${TMPDIR:-/tmp}/adit-example-

# Which kind this machine allows. Leaves nothing behind.
world_find_kind() {
    local probe=adit-probe-$$
    if ((EUID == 0)) && have ip && have nsenter && ip netns add "$probe" 2>/dev/null; then
        ip netns delete "$probe"
        printf 'root\n'
    elif ((EUID)) && have ip && have nsenter && unshare --user --map-root-user --net --mount \
        sh -c 'mount -t tmpfs none /run && ip netns add probe' 2>/dev/null; then
        printf 'user\n'
    else
        printf 'none\n'
    fi
}

# world_begin KIND: makes $world, empty, and its name.
world_begin() {
    world_kind=$1
    world_name=adit-$$
    world=$(mktemp -d "${world_prefix}XXXXXX")
    # Programs that run as another user find their own directories in it, and can't list it.
    chmod 0711 "$world"
    printf '%s %s\n' $$ "$(started_at $$)" >"$world/owner"
    printf '%s\n' "$world_kind" >"$world/kind"
    printf '%s\n' "$world_name" >"$world/name"
    : >"$world/processes"
}

# world_reenter SCRIPT ARGUMENT…: becomes that script inside a user namespace, as the same process
# and user, with every capability over the networks that it makes there. It calls world_resume.
#
# The outer of the two namespaces looks like root, which mount(8) asks for; the inner one does not,
# as PostgreSQL asks. /run/netns is nobody's we are: a private one holds the names of the networks.
world_reenter() {
    local inner
    inner="mount -t tmpfs none /run && exec unshare --user --map-user=$(id -u) --map-group=$(id -g) \
        --keep-caps --net --mount \"\$0\" \"\$@\""
    WORLD=$world exec unshare --user --map-root-user --mount sh -c "$inner" "$@"
}

# Goes on in the world that world_reenter left.
world_resume() {
    world=$WORLD
    world_kind=$(<"$world/kind")
    world_name=$(<"$world/name")
}

# world_network NAME…: makes networks that have a loopback and nothing else.
world_network() {
    [[ $world_kind != none ]] || return 0
    local net
    for net in "$@"; do
        ip netns add "$world_name-$net"
        ip -n "$world_name-$net" link set lo up
    done
}

# world_link A ADDRESS_A B ADDRESS_B: a cable between two networks, with /30 addresses at its ends.
# A's end is named as B and B's end `uplink`, and everything that B doesn't know goes there. A
# forwards nothing.
world_link() {
    [[ $world_kind != none ]] || return 0
    local a=$world_name-$1 b=$world_name-$3
    ip -n "$a" link add "$3" type veth peer name uplink netns "$b"
    ip -n "$a" address add "$2/30" dev "$3"
    ip -n "$b" address add "$4/30" dev uplink
    ip -n "$a" link set "$3" up
    ip -n "$b" link set uplink up
    ip -n "$b" route add default via "$2"
    # A host that forwards may have handed that down to its new networks.
    in_network "$1" sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward' 2>/dev/null || true
    [[ $(in_network "$1" cat /proc/sys/net/ipv4/ip_forward) == 0 ]]
}

# Sets `into`: the words which, put before a command, run it in that network.
world_into() {
    into=()
    [[ $world_kind == none ]] || into=(nsenter "--net=/run/netns/$world_name-$1" --)
}

# in_network NAME COMMAND…: runs it there, to its end.
in_network() {
    local into
    world_into "$1"
    shift
    "${into[@]}" "$@"
}

# start NAME NETWORK SIGNAL COMMAND…: starts a process that world_end will end with SIGNAL. What it
# says goes to $world/NAME.log.
start() {
    local name=$1 signal=$3 into
    world_into "$2"
    shift 3
    "${into[@]}" "$@" >"$world/$name.log" 2>&1 </dev/null &
    printf '%s %s %s %s\n' $! "$(started_at $!)" "$signal" "$name" >>"$world/processes"
}

# ready SECONDS NAME WHAT COMMAND…: waits until the command succeeds, no longer than the started
# process NAME lives. On failure the end of that process's log is shown.
ready() {
    local seconds=$1 name=$2 what=$3 pid started
    shift 3
    read -r pid started < <(awk -v n="$name" '$4 == n { print $1, $2 }' "$world/processes")
    if wait_until "$seconds" "$what" succeeds_or_gone "$pid" "$started" "$@" && lives "$pid" "$started"; then
        return 0
    fi
    lives "$pid" "$started" || printf '%s has ended\n' "$name" >&2
    printf '%s said last:\n' "$name" >&2
    tail -n 15 "$world/$name.log" | sed 's/^/    /' >&2
    return 1
}

gone() { ! lives "$@"; }

succeeds_or_gone() {
    gone "$1" "$2" || "${@:3}"
}

# Ends all started processes, by pid. One that is still there after 15 s is killed, which is a
# failure.
stop_all() {
    local pid started signal name line killed=0
    local -a lines=()
    mapfile -t lines <"$world/processes"
    for line in "${lines[@]}"; do
        read -r pid started signal name <<<"$line"
        gone "$pid" "$started" || kill -s "$signal" "$pid" 2>/dev/null || true
    done
    for line in "${lines[@]}"; do
        read -r pid started signal name <<<"$line"
        if ! wait_until 15 "$name to end" gone "$pid" "$started"; then
            kill -s KILL "$pid" 2>/dev/null || true
            killed=1
        fi
    done
    return $killed
}

# Ends all processes, deletes the networks and the directory. Fails when a process had to be killed.
world_end() {
    local result=0 net
    [[ ${world:-} && -d $world ]] || return 0
    stop_all || result=1
    if [[ $world_kind == root ]]; then
        for net in $(ip netns list | awk '{ print $1 }' | grep "^$world_name-"); do
            ip netns delete "$net"
        done
    fi
    # What is written down about it goes last: a later sweep can finish what failed here.
    rm -rf "${world:?}"/*/ && rm -rf "$world" || result=1
    return $result
}

# world_sweep BEFORE: takes away what earlier runs of this user left behind: those that were told to
# keep everything and those that were killed. A run that is still going is left alone. BEFORE (: for
# nothing) is called for each first and takes away what world_end knows nothing of; where it fails, the
# rest stays, and so does what is written down.
world_sweep() {
    local before=$1 pid started result=0
    for world in "$world_prefix"*/; do
        world=${world%/}
        # The directory is a public one: what belongs to another user is not ours to act on.
        [[ -d $world && -O $world && -f $world/name ]] || continue
        read -r pid started <"$world/owner"
        if lives "$pid" "$started"; then
            say "left alone: $world (run $pid is still going)"
            continue
        fi
        world_kind=$(<"$world/kind")
        world_name=$(<"$world/name")
        say "removing $world, its processes and networks"
        { "$before" && world_end; } || result=1
    done
    return $result
}
