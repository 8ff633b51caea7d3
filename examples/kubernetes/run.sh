#!/usr/bin/env bash
# The mission in Kubernetes: an app in Analysis Corp's cluster works with PostgreSQL in Bank Corp's cluster.
# README.md tells the same as a walkthrough.
#
#   examples/kubernetes/run.sh            makes everything, shows the app's rows, and leaves it running
#   examples/kubernetes/run.sh cleanup    deletes the clusters (or what was made in yours), images and processes
#
#      Bank Corp's cluster             this machine             Analysis Corp's cluster
#   pod: postgres + adit outlet  --->  adit serve  <---  pod: adit inlet + app
#
# Ctrl-C at any point, or a failure, deletes what was made so far.
#
# With kind and Docker it makes the two clusters itself. To use two that are there already, set:
#
#   KUBECONFIG_BANK, KUBECONFIG_ANALYSIS   their kubeconfigs
#   RELAY_HOST                             this machine's address as pods of both reach it
#   CLUSTER_COMMAND                        a program that this script calls with a company's name (bank or analysis):
#                                            PROGRAM load COMPANY ARCHIVE     load the images of a `docker save`
#                                            PROGRAM remove COMPANY IMAGE     delete one; fine if it isn't there
#                                            PROGRAM kill COMPANY CONTAINER   kill -9 by id (for disturb.sh only)
#
# Further: RELAY_PORT (7348). CONTAINER_TOOL (docker or podman). ADIT_BIN: a static adit to use instead of building one.
# SIDECAR=native or plain: the manifests with sidecars of Kubernetes 1.29, or those for all versions; by default
# what the clusters can do.
#
# Exit code: 0 when everything was shown, 1 when something went wrong, 2 for wrong usage.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/../.." && pwd)
# shellcheck source=examples/lib.sh
source "$here/../lib.sh"
# shellcheck source=examples/world.sh
source "$here/../world.sh"
# shellcheck source=examples/kubernetes/parts.sh
source "$here/parts.sh"

case ${1:-} in
    '') ;;
    cleanup) world_sweep forget_clusters; exit ;;
    *) say "usage: ${0##*/} [cleanup]" >&2; exit 2 ;;
esac

finish() {
    local code=$?
    trap - EXIT
    # A second Ctrl-C does not leave half of it behind.
    trap '' INT TERM
    if ((code == 0)); then
        say "It is running. Look at it as README.md says; $0 cleanup takes it away."
        exit 0
    fi
    [[ ${world:-} ]] || exit "$code"
    step 'Taking away what was made'
    # A cluster that could not be deleted stays written down: `cleanup` tries again.
    { forget_clusters && world_end; } || say "not all of it could be taken away: run $0 cleanup" >&2
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'printf "%s: line %s failed\n" "$0" "$LINENO" >&2' ERR

# Flags of adit that happen to be in the environment would change what is shown.
for variable in "${!ADIT_@}"; do
    [[ $variable == ADIT_BIN ]] || unset "$variable"
done

step 'Programs'
if kept=$(find_run); then
    die "a run is there already, in $kept: take it away first with $0 cleanup"
fi
install_missing postgres node npm readelf || die 'the example needs these programs'
have kubectl || die 'kubectl is not installed'
if [[ ${KUBECONFIG_BANK:-} || ${KUBECONFIG_ANALYSIS:-} ]]; then
    clusters=given
    for variable in KUBECONFIG_BANK KUBECONFIG_ANALYSIS RELAY_HOST CLUSTER_COMMAND; do
        [[ ${!variable:-} ]] || die "to use clusters that are there already, set $variable as well (see the top of $0)"
    done
else
    clusters=kind
    have kind || die "kind is not installed (to use two clusters that are there already, see the top of $0)"
fi
tool=${CONTAINER_TOOL:-}
if [[ ! $tool ]]; then
    for tool in docker podman none; do
        [[ $tool == none ]] || ! "$tool" info >/dev/null 2>&1 || break
    done
    [[ $tool != none ]] || die 'neither docker nor podman works here'
fi
ADIT=${ADIT_BIN:-}
if [[ ! $ADIT ]]; then
    say 'building a static adit: some minutes the first time'
    ADIT=$("$workspace/packaging/build.sh") || die 'adit could not be built'
fi
ADIT=$(realpath "$ADIT")
# Nothing that it is linked to would be in the image.
install_missing readelf >&2 || die "can't tell whether $ADIT is static"
headers=$(readelf --program-headers --wide "$ADIT") || die "$ADIT is not a program"
[[ $headers != *INTERP* ]] || die "$ADIT is not static (see packaging/build.sh)"
relay=${RELAY_HOST:-} relay_port=${RELAY_PORT:-7348} cluster_command=${CLUSTER_COMMAND:-} form=${SIDECAR:-}
say "$("$ADIT" --version), $tool, $(kubectl version --client 2>/dev/null | head -n 1), clusters: $clusters"

world_begin none
settings_save

# ---- the two clusters -------------------------------------------------------------------------------

step 'Two clusters: Bank Corp has one, Analysis Corp has the other'
for company in "${companies[@]}"; do
    if [[ $clusters == kind ]]; then
        ! kind get clusters 2>/dev/null | grep -qx "adit-example-$company" ||
            die "there is a cluster adit-example-$company, which no run of this script has written down"
        say "kind $company" >>"$world/clusters"
        kind create cluster --name "adit-example-$company" --kubeconfig "$world/$company.kubeconfig" --wait 180s
    else
        variable=KUBECONFIG_${company^^}
        (umask 077; cp -- "${!variable}" "$world/$company.kubeconfig")
        # A namespace of that name that is somebody else's would be deleted by cleanup.
        found=$(kube "$company" get namespace "$namespace" --ignore-not-found --output name) ||
            die "can't tell whether $company's cluster has a namespace $namespace"
        [[ ! $found ]] || die "$company's cluster has a namespace $namespace already"
        say "given $company" >>"$world/clusters"
    fi
done
if [[ ! $relay ]]; then
    # From inside of kind's network, this machine is its gateway.
    relay=$(docker network inspect kind --format '{{range .IPAM.Config}}{{.Gateway}} {{end}}' |
        tr ' ' '\n' | grep -m 1 -F .) || die "can't tell this machine's address in kind's network: set RELAY_HOST"
fi
if [[ ! $form ]]; then
    form=native
    for company in "${companies[@]}"; do
        version=$(kube "$company" version --output json | node -e '
            const { serverVersion: v } = JSON.parse(require("fs").readFileSync(0));
            console.log(parseInt(v.major) * 1000 + parseInt(v.minor));')
        ((version >= 1029)) || form=plain
        say "$company: Kubernetes 1.$((version % 1000))"
    done
fi
settings_save
say "form of the pods: $form"

# ---- images -----------------------------------------------------------------------------------------

# closure ROOT PROGRAM…: copies programs and the libraries that they are linked to, with their paths.
closure() {
    local root=$1 program
    shift
    for program in "$@"; do
        # Programs that are one static file have no libraries.
        { printf '%s\n' "$program"; { ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' || true; } |
            while read -r file; do cp --parents --dereference --no-clobber -- "$file" "$root/"; done
    done
}

# image NAME DIRECTORY DOCKERFILE: builds it. Written down first. In a session of its own, so that Ctrl-C comes after
# it: a build that is broken off leaves things behind that have no name.
image() {
    say "$1" >>"$world/images"
    say "$1"
    setsid --wait "$tool" build --quiet --tag "$1" --file "$3" "$2" >/dev/null
}

step 'Images: adit from nothing, app and database from the programs of this machine'
mkdir -p "$world"/contexts/{adit,app/files/app,postgres/files/usr/bin,postgres/files/etc}
cp "$ADIT" "$world/contexts/adit/adit"
image "${images[0]}" "$world/contexts/adit" "$workspace/packaging/Dockerfile"

root=$world/contexts/app/files
cp "$here/images/app/app.js" "$here"/../postgres/package{,-lock}.json "$root/app/"
npm ci --prefix "$root/app" --no-audit --no-fund --loglevel error >/dev/null || die "npm could not install pg, the app's one dependency"
node=$(realpath "$(command -v node)")
closure "$root" "$node"
# Debian's Node.js keeps a part of what is built in elsewhere in files of their own.
for each in /usr/share/nodejs/{acorn,acorn-walk,cjs-module-lexer,minimatch,undici}; do
    [[ ! -d $each ]] || cp --parents --recursive --dereference "$each" "$root/"
done
[[ $node == /usr/bin/node ]] || install -D "$node" "$root/usr/bin/node"
image "${images[1]}" "$world/contexts/app" "$here/images/app/Dockerfile"

root=$world/contexts/postgres/files
programs=$(postgres_programs)
library=$("$programs/pg_config" --pkglibdir) share=$("$programs/pg_config" --sharedir)
closure "$root" "$programs"/{initdb,postgres,pg_isready} "$library"/{plpgsql,dict_snowball}.so \
    "$(realpath /bin/sh)" "$(realpath "$(command -v rm)")" "$(realpath "$(command -v mv)")"
cp --parents --recursive "$share"/{*.sql,*.bki,*.sample,*.txt,timezonesets,tsearch_data,extension} /usr/share/zoneinfo "$root/"
cp --parents --recursive "$share/catalog_version" "$root/" 2>/dev/null || true
mkdir -p "$root/bin" && cp --no-clobber --dereference /bin/sh "$root/bin/sh"
ln -s "$programs" "$root/usr/lib/postgresql/bin"
# initdb asks for the name of the user that it runs as.
say 'bank:x:65532:65532::/:/bin/sh' >"$root/etc/passwd"
cp "$here/images/postgres/postgres.sh" "$root/"
image "${images[2]}" "$world/contexts/postgres" "$here/images/postgres/Dockerfile"

step 'Loading the images into the clusters'
load() {
    local company=$1 archive=$world/images.tar
    shift
    rm -f "$archive"
    # One archive an image: not every tool can save several.
    for each in "$@"; do
        rm -f "$archive"
        "$tool" save --output "$archive" "$each" >/dev/null 2>&1 || die "$tool could not save $each"
        if [[ $clusters == kind ]]; then
            kind load image-archive "$archive" --name "adit-example-$company"
        else
            "$cluster_command" load "$company" "$archive"
        fi
        say "$company has $each"
    done
}
load bank "${images[0]}" "${images[2]}"
load analysis "${images[0]}" "${images[1]}"
rm -rf "$world/images.tar" "$world/contexts"

# ---- the project ------------------------------------------------------------------------------------

step 'This machine: the project acme, its authority and its relay, outside of both clusters'
as_admin project create acme --address "$relay:$relay_port"
start relay none TERM env ADIT_HOME="$world/home-admin" "$ADIT" serve --listen "$relay:$relay_port"
ready 20 relay 'adit serve to be ready' as_admin health --ready

step 'Two tickets, each redeemable once and for ten minutes, as Kubernetes Secrets'
password=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
(umask 077; printf '%s' "$password" >"$world/password")
for company in "${companies[@]}"; do
    kube "$company" apply --filename "$here/namespace.yaml" >/dev/null
    make_ticket "$company"
    give_ticket "$company" "$world/$company.ticket"
    # The database's password, which Bank Corp gave to Analysis Corp in some other way.
    kube "$company" create secret generic database --from-file=password="$world/password" --dry-run=client --output yaml |
        kube "$company" apply --filename - >/dev/null
done
rm -f "$world/password"
say 'bank:     Secrets ticket (postgres-outlet=true, may serve the relay address postgres) and database'
say 'analysis: Secrets ticket (postgres-inlet=true) and database'

# ---- the pods ---------------------------------------------------------------------------------------

step 'A Deployment and a NetworkPolicy in each cluster'
file=deployment.yaml
[[ $form == plain ]] || file=deployment-sidecar.yaml
for company in "${companies[@]}"; do
    kube "$company" apply --filename "$here/$company/$file"
    sed "s|203\.0\.113\.7/32|$relay/32|; s|port: 7348|port: $relay_port|" "$here/$company/network-policy.yaml" |
        kube "$company" apply --filename -
done
for company in "${companies[@]}"; do
    main=app
    [[ $company == analysis ]] || main=postgres
    kube "$company" rollout status "deployment/$company" --timeout=180s --request-timeout=0 ||
        { tell_logs "$company" "$main"; die "$company's pod did not become ready"; }
done

step 'Analysis Corp: what the app says'
app_has_rows() { kube analysis logs "$(pod analysis)" --container app | grep -q 'rows at Bank Corp'; }
wait_until 60 "the app's first rows" app_has_rows || { tell_logs analysis app; die 'the app could not work with the database'; }
kube analysis logs "$(pod analysis)" --container app --tail 20 | sed 's/^/    /'

step "Analysis Corp: what adit says of the portal"
kube analysis exec "$(pod analysis)" --container adit -- /adit status | sed 's/^/    /'

step 'Result'
say 'The example run was successful'
