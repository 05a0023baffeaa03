#!/bin/bash
# node-image.sh FILE NAME DAEMON QUANTUMCTL PLUGIN: the image that config/samples/kubernetes/quantum-cni.yaml
# runs on every node: our programs, the nft that the daemon calls, the kubectl that tells the node's subnets, a
# shell, and the libraries of all of them as this machine has them. It has no base image and needs no registry.
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
    # A static program has none, which ldd calls an error.
    for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
        [[ -e $work/$library ]] || install -D -m 755 "$library" "$work/$library"
    done
}

put "$daemon" usr/sbin/quantum-cnid
put "$quantumctl" usr/bin/quantumctl
put "$plugin" usr/bin/quantum-cni # quantumctl looks for it beside itself
strip "$work"/usr/sbin/quantum-cnid "$work"/usr/bin/quantumctl
put nft usr/sbin/nft
put kubectl usr/bin/kubectl
put busybox bin/busybox
for applet in sh sleep tr cat ls; do ln -s busybox "$work/bin/$applet"; done
mkdir -p "$work/tmp" "$work/run" "$work/etc"
echo 'root:x:0:0::/:/bin/sh' >"$work/etc/passwd"
"$(dirname "$0")/pack-image.sh" "$work" "$file" "$name" '["quantum-cnid"]'
