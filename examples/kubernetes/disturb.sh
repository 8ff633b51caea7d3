#!/usr/bin/env bash
# Disturbs what run.sh left running, and sees that the app works again after each disturbance.
#
#   examples/kubernetes/disturb.sh [N] [SEED]   N disturbances at random (50)
#   examples/kubernetes/disturb.sh revoke       ends Analysis Corp's membership, and brings it back by a new ticket
#
# A disturbance is one of:
#   kill CONTAINER    kill -9 of one container: adit, the app or PostgreSQL. The pod keeps its volumes, so the member
#                     stays a member and nobody has to do anything.
#   delete POD        with its grace period
#   crash POD         deleted without any, as when a node is lost
# A pod that was deleted has lost its state, and the ticket in its Secret is used: adit says so, stays alive and not
# ready, and one `kubectl apply` of a Secret with a new ticket is what brings it back.
#
# Exit code: 0 when the app worked again each time.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=examples/lib.sh
source "$here/../lib.sh"
# shellcheck source=examples/world.sh
source "$here/../world.sh"
# shellcheck source=examples/kubernetes/parts.sh
source "$here/parts.sh"

trap 'printf "%s: line %s failed\n" "$0" "$LINENO" >&2' ERR
world=$(find_run) || die "nothing runs: start with $here/run.sh"
# shellcheck source=/dev/null
source "$world/settings"

# A container that is killed again and again is started ever later, up to five minutes: that is Kubernetes' choice.
patience=420

# Where the pod's adit has a used ticket, gives it another. The log is the pod's own word for it.
tickets=0
mend() {
    local company=$1 pod log
    pod=$(pod "$company") && [[ $pod && $pod != "${mended[$company]:-}" ]] || return 0
    log=$(kube "$company" logs "$pod" --container adit 2>/dev/null) || return 0
    grep -q 'ADIT-2003' <<<"$log" || return 0
    # It must be alive for that: a pod that ends by a used ticket would be restarted for ever.
    kube "$company" exec "$pod" --container adit -- /adit health >/dev/null || return 0
    ! kube "$company" exec "$pod" --container adit -- /adit health --ready >/dev/null 2>&1 || return 0
    case $company in
        bank) make_ticket bank --replaces bank-outlet ;;
        analysis) make_ticket analysis --replaces analysis-inlet ;;
    esac
    give_ticket "$company" "$world/$company.ticket"
    rm -f "$world/$company.ticket"
    mended[$company]=$pod
    ((tickets += 1))
}
declare -A mended=()

# One pod in each cluster, ready, and the app's queries work. A pod that is deleted by force may go on answering for a
# moment; that one is not in the books any more.
works() {
    local company pods
    for company in "${companies[@]}"; do
        pods=$(kube "$company" get pods --selector "app=$company" --output \
            'jsonpath={range .items[*]}{.metadata.deletionTimestamp}{.status.conditions[?(@.type=="Ready")].status} {end}') || return 1
        [[ $pods == 'True ' ]] || return 1
    done
    query
}

# Waits until the app works, and mends meanwhile.
works_again() {
    local end=$((SECONDS + patience)) company
    until works >/dev/null 2>&1; do
        ((SECONDS < end)) || { tell_logs bank postgres; tell_logs analysis app; return 1; }
        for company in "${companies[@]}"; do mend "$company"; done
        sleep 0.5
    done
}

# The id of a container that runs, without the runtime's name before it.
container_id() {
    kube "$1" get "$(pod "$1")" --output \
        "jsonpath={.status.containerStatuses[?(@.name=='$2')].containerID}{.status.initContainerStatuses[?(@.name=='$2')].containerID}" |
        sed 's|^.*://||'
}

kill_container() {
    local id
    id=$(container_id "$1" "$2")
    [[ $id ]] || return 1
    if [[ $cluster_command ]]; then
        "$cluster_command" kill "$1" "$id"
    else
        docker exec "adit-example-$1-control-plane" ctr --namespace k8s.io tasks kill --signal SIGKILL "$id"
    fi
}

# The pod is gone from the cluster's books, so that what answers next is another.
delete_pod() {
    kube "$1" delete "$(pod "$1")" --timeout=120s --request-timeout=0 "${@:2}" >/dev/null 2>&1
}

disturb() {
    case $1 in
        kill) kill_container "$2" "$3" ;;
        delete) delete_pod "$2" ;;
        crash) delete_pod "$2" --grace-period=0 --force ;;
    esac
}

revoke() {
    step "The administrator ends Analysis Corp's membership"
    query >/dev/null || die 'the app does not work even before'
    as_admin member revoke analysis-inlet --reason 'the contract ended'
    local started=$SECONDS
    cut_off() { ! query; }
    wait_until 10 'the app to be cut off' cut_off || die 'the app still works'
    say "within $((SECONDS - started)) s the app is cut off; it says:"
    query 2>&1 | sed 's/^/    /' || true
    say 'and the open connection of the app that runs:'
    wait_until 20 'the app to say so' sh -c "kubectl --kubeconfig '$world/analysis.kubeconfig' --namespace $namespace logs \
        deployment/analysis --container app --tail 3 | grep failed" || die 'its open connection was not cut'
    kube analysis logs "$(pod analysis)" --container app --tail 1 | sed 's/^/    /'
    step 'A new ticket, and a pod without the old membership'
    make_ticket analysis
    give_ticket analysis "$world/analysis.ticket"
    rm -f "$world/analysis.ticket"
    delete_pod analysis
    works_again || die 'the app does not work again'
    say 'the app works again'
}

choices=(
    'kill bank adit' 'kill bank postgres' 'kill analysis adit' 'kill analysis app'
    'delete bank' 'delete analysis' 'crash bank' 'crash analysis'
)

case ${1:-50} in
    revoke) revoke ;;
    *[!0-9]* | '') say "usage: ${0##*/} [N [SEED] | revoke]" >&2; exit 2 ;;
    *)
        seed=${2:-$RANDOM}
        RANDOM=$seed
        say "seed $seed"
        works_again || die 'the app does not work even before'
        for ((round = 1; round <= ${1:-50}; round += 1)); do
            choice=${choices[RANDOM % ${#choices[@]}]}
            read -ra what <<<"$choice"
            before=$tickets started=$SECONDS
            disturb "${what[@]}" || die "could not: $choice"
            works_again || die "round $round ($choice, seed $seed): the app does not work again"
            note=
            ((tickets == before)) || note=', by a new ticket'
            say "$round. $choice: the app works again after $((SECONDS - started)) s$note"
        done
        say "$((round - 1)) disturbances, $tickets new tickets: the app worked again after each"
        ;;
esac
