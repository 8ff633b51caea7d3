# What run.sh and disturb.sh have in common: the two clusters of a run, its tickets and images. To be sourced
# after lib.sh and world.sh; runs nothing itself.
# shellcheck shell=bash disable=SC2034,SC2154
#
# Everything that cleanup has to find again is written into $world before it is made: `clusters` (lines `kind
# NAME` or `given NAME`), `images`, `settings` (see settings_save).

companies=(bank analysis)
namespace=adit-example
images=(localhost/adit-example/adit:1 localhost/adit-example/app:1 localhost/adit-example/postgres:1)

# Apart from those of the other example: only this one's cleanup knows what a cluster is.
world_prefix=${TMPDIR:-/tmp}/adit-kubernetes-

# The directory of the one run there is, finished or not. Fails when there is none.
find_run() {
    local found
    for found in "$world_prefix"*/; do
        [[ -d $found && -O $found && -f ${found}name ]] || continue
        printf '%s\n' "${found%/}"
        return
    done
    return 1
}

settings_save() {
    declare -p ADIT tool relay relay_port cluster_command form >"$world/settings"
}

# kube COMPANY ARGUMENT…: kubectl in that company's cluster, in the example's namespace. Always with a deadline: a
# cluster that does not answer is no reason to wait for ever.
kube() {
    kubectl --kubeconfig "$world/$1.kubeconfig" --namespace "$namespace" --request-timeout=30s "${@:2}"
}

# As the project's administrator, whose machine this is.
as_admin() { env ADIT_HOME="$world/home-admin" "$ADIT" "$@"; }

# give_ticket COMPANY FILE: puts the ticket in that file into the company's cluster. One `apply`, for the first ticket
# as well as for another under a pod that runs. By a file, because what stands in a command line everybody can read.
give_ticket() {
    kube "$1" create secret generic ticket --from-file=ticket="$2" --dry-run=client --output yaml |
        kube "$1" apply --filename - >/dev/null
}

# make_ticket COMPANY FLAG…: a ticket for that company's end of the portal, valid for ten minutes, once.
make_ticket() {
    local company=$1
    shift
    case $company in
        # Serves the relay address `postgres`, and connects to none.
        bank) set -- --name bank-outlet --attribute postgres-outlet=true --may-serve postgres "$@" ;;
        # Connects, and serves none.
        analysis) set -- --name analysis-inlet --attribute postgres-inlet=true "$@" ;;
    esac
    (umask 077; as_admin ticket create "$@" >"$world/$company.ticket")
}

# pod COMPANY: the name of its pod, of the newest one while another is ending.
pod() {
    kube "$1" get pods --selector "app=$1" --sort-by .metadata.creationTimestamp --output name | tail -n 1
}

# One round of the app's queries, over a connection of its own, in the app's container.
query() {
    local pod
    pod=$(pod analysis) && [[ $pod ]] || return 1
    kube analysis exec "$pod" --container app -- node app.js --once
}

# What the containers of a company's pod said last.
tell_logs() {
    local container pod
    pod=$(pod "$1" 2>/dev/null) || return 0
    for container in adit "${@:2}"; do
        printf '%s, container %s, said last:\n' "$1" "$container"
        kube "$1" logs "$pod" --container "$container" --tail 15 2>&1 | sed 's/^/    /'
    done >&2
}

# forget_clusters: takes away the clusters, or what the run made in given ones, and the images. What is already gone
# is fine, so it can be called at any point and again. world_end does the rest.
forget_clusters() {
    local kind name image result=0
    [[ -f $world/settings ]] || return 0
    # shellcheck source=/dev/null
    source "$world/settings"
    while read -r kind name <&3; do
        case $kind in
            kind)
                say "deleting cluster $name"
                kind delete cluster --name "adit-example-$name" --kubeconfig "$world/$name.kubeconfig" >/dev/null 2>&1 || result=1
                ;;
            given)
                say "deleting namespace $namespace in $name's cluster"
                kubectl --kubeconfig "$world/$name.kubeconfig" delete namespace "$namespace" \
                    --ignore-not-found --timeout=120s >/dev/null || result=1
                for image in "${images[@]}"; do
                    "$cluster_command" remove "$name" "$image" || result=1
                done
                ;;
        esac
    done 3< <(cat "$world/clusters" 2>/dev/null)
    while read -r image <&3; do
        if "$tool" image inspect "$image" >/dev/null 2>&1; then
            say "deleting image $image"
            "$tool" rmi --force "$image" >/dev/null || result=1
        fi
    done 3< <(cat "$world/images" 2>/dev/null)
    return $result
}
