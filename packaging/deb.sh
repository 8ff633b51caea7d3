#!/usr/bin/env bash
# Makes the Debian package of adit: the program, the units of systemd with the user they run as, the list of what the
# program is made of, and the container's seccomp filter.
#
#   packaging/deb.sh [PROGRAM]    prints the path of the package; PROGRAM is what packaging/build.sh made, and is
#                                 made if it isn't named
#
# The same program gives the same bytes: files are dated SOURCE_DATE_EPOCH, by default the time of the last commit.

set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/.." && pwd)
# shellcheck source=examples/lib.sh
source "$workspace/examples/lib.sh"

(($# < 2)) || { say "usage: ${0##*/} [PROGRAM]" >&2; exit 2; }
install_missing dpkg-deb python3 >&2 || die 'the package needs these programs'
program=${1:-$("$here/build.sh")}
[[ -x $program ]] || die "$program is not a program"

version=$("$program" --version)
version=${version#adit }
processor=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$workspace" log -1 --format=%ct 2>/dev/null || say 0)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
put() { install -D --mode="$1" "$2" "$root/$3"; }
put 0755 "$program" usr/bin/adit
put 0644 "$here/systemd/adit-serve.service" usr/lib/systemd/system/adit-serve.service
put 0644 "$here/systemd/adit@.service" usr/lib/systemd/system/adit@.service
put 0644 "$here/systemd/adit.sysusers" usr/lib/sysusers.d/adit.conf
put 0644 "$here/seccomp.json" usr/share/adit/seccomp.json
for page in README.md SECURITY.md CHANGELOG.md; do
    put 0644 "$workspace/$page" "usr/share/doc/adit/$page"
done
cat "$workspace/LICENSE-APACHE" "$workspace/LICENSE-MIT" >"$root/copyright"
put 0644 "$root/copyright" usr/share/doc/adit/copyright
rm "$root/copyright"
(cd "$workspace" && python3 packaging/sbom.py) >"$root/sbom"
put 0644 "$root/sbom" usr/share/doc/adit/sbom.cdx.json
rm "$root/sbom"
# Configurations, which name no secret, and tickets, which are one: for root and the group adit.
install -d --mode=0750 "$root/etc/adit"

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: adit
Version: $version
Architecture: $processor
Maintainer: the adit project <adit@localhost>
Section: net
Priority: optional
Recommends: systemd
Installed-Size: $(du --apparent-size --summarize --block-size=1024 "$root" | cut -f 1)
Description: end-to-end encrypted, mutually authorized portal for TCP
 adit carries one TCP service from one private network into another, by
 outgoing connections only, encrypted from end to end, with both ends
 authenticated and authorized.
CONTROL
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers adit.conf
        chgrp adit /etc/adit
    fi
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
POSTINST
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
# What runs without its program could not be started again.
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop adit-serve.service 'adit@*.service'
fi
PRERM
cat >"$root/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
# State and user stay: whoever removes a package has not left the project.
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
POSTRM
chmod 0755 "$root"/DEBIAN/{postinst,prerm,postrm}

into=${CARGO_TARGET_DIR:-$workspace/target}
package=$into/adit_${version}_$processor.deb
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
say "$package"
