#!/bin/bash
# node-image.sh FILE NAME DAEMON QUANTUMCTL PLUGIN: the image that config/samples/kubernetes/quantum-cni.yaml
# runs on every node: our programs, the nft that the daemon calls, the kubectl that tells the node's subnets, a
# shell, and the libraries of all of them as this machine has them, with their notices in usr/share/doc. It has no
# base image and needs no registry.
set -euo pipefail

file=$1 name=$2 daemon=$3 quantumctl=$4 plugin=$5
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put PROGRAM PLACE: the program, and every library that the loader would look for.
put() {
    local program library
    program=$(command -v "$1") || { echo "$1 is missing" >&2; exit 1; }
    install -D -m 755 "$program" "$work/$2"
    notice "$program"
    # A static program has none, which ldd calls an error.
    for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
        [[ -e $work/$library ]] || install -D -m 755 "$library" "$work/$library"
        notice "$library"
    done
}

# notice FILE: what its package says of who wrote it and under which licence, and where its source is. A file
# of ours is of no package.
notice() {
    local file package version source folder
    file=$(realpath "$1")
    # Where /bin and /lib are links, the package may have the file by either name.
    package=$(dpkg -S "$file" "${file#/usr}" 2>/dev/null | head -1 | cut -d: -f1) || true
    [[ -n $package ]] || return 0
    folder=$work/usr/share/doc/$package
    [[ ! -e $folder ]] || return 0
    install -D -m 644 "$(realpath "/usr/share/doc/$package/copyright")" "$folder/copyright"
    read -r source version < <(dpkg-query -W -f='${source:Package} ${source:Version}\n' "$package")
    echo "$package: source package $source $version (Debian's: https://snapshot.debian.org/package/$source/$version/)" \
        >>"$work/usr/share/doc/SOURCES"
}

put "$daemon" usr/sbin/quantum-cnid
put "$quantumctl" usr/bin/quantumctl
put "$plugin" usr/bin/quantum-cni # quantumctl looks for it beside itself
strip "$work"/usr/sbin/quantum-cnid "$work"/usr/bin/quantumctl
put nft usr/sbin/nft
put kubectl usr/bin/kubectl
put busybox bin/busybox
for applet in sh sleep tr cat ls; do ln -s busybox "$work/bin/$applet"; done
for licence in LICENSE-APACHE LICENSE-MIT; do
    install -D -m 644 "$(dirname "$0")/../$licence" "$work/usr/share/doc/quantum-cni/$licence"
done
# The notices refer to these.
mkdir -p "$work/usr/share/common-licenses"
cp -L /usr/share/common-licenses/* "$work/usr/share/common-licenses/"
mkdir -p "$work/tmp" "$work/run" "$work/etc"
echo 'root:x:0:0::/:/bin/sh' >"$work/etc/passwd"
"$(dirname "$0")/pack-image.sh" "$work" "$file" "$name" '["quantum-cnid"]'
