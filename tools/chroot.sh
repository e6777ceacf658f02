#!/usr/bin/env bash
# Run a command in Debian unstable, for the CPythons that it has and this machine has not:
#
#   chroot.sh COMMAND [ARGUMENT...]
#
# The working copy has the same path there, and /tmp, the network and the certificates are this machine's. What was made once
# is left alone. Making it needs root and mmdebstrap: without them the exit status is 3.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
directory=${FASTWS_CHROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/fastws/debian-unstable}
mirror=http://deb.debian.org/debian
packages=ca-certificates,gcc,git,libc6-dev,make,python3.14-dev,python3.14-venv,python3.15-dev,python3.15-venv

if [ "$(id -u)" -ne 0 ]; then
    echo "a chroot is for root only" >&2
    exit 3
fi
if [ ! -e "$directory/usr/bin/python3.15" ]; then
    command -v mmdebstrap >/dev/null || { echo "there is no mmdebstrap" >&2; exit 3; }
    rm -rf "$directory"
    mkdir -p "$(dirname "$directory")"
    # A mirror may be older than it promises to be
    mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
        unstable "$directory.part" "$mirror" >&2
    mv "$directory.part" "$directory"
fi

# A namespace of its own, so that what is mounted goes with the command
export chroot_directory=$directory chroot_root=$root
exec unshare --mount bash -euo pipefail -c '
    mount -t proc proc "$chroot_directory/proc"
    for path in /dev /sys /tmp /etc/ssl/certs "$chroot_root"; do
        mkdir -p "$chroot_directory$path"
        mount --rbind "$path" "$chroot_directory$path"
    done
    cp /etc/resolv.conf "$chroot_directory/etc/resolv.conf"
    exec env -u PYTHONPATH -u LD_PRELOAD -u PIP_FIND_LINKS HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$chroot_directory" sh -c "cd \"\$0\" && exec \"\$@\"" "$chroot_root" "$@"
' bash "$@"
