#!/bin/sh
# Sees that the tools of the purposes named on the command line are there, and says nothing if they
# are. What is missing is installed with apt where that is possible; where it is not, it is named.
#
#   build   cargo, a C compiler (SQLite is compiled along), the static C library
#   run     what the daemon, the demo and the tests call: nft, ip, ping, nsenter
#   peers   the reference plugins, and iptables, which they call
#   image   what goes into the image of a node beside our own programs
#   fuzz    cargo-fuzz, which is named only, and a compiler for C++
set -eu

packages=
missing=

# need PACKAGE COMMAND: the package that brings the command, if it is not there.
need() {
    command -v "$2" >/dev/null 2>&1 && return
    packages="$packages $1"
    missing="$missing $2"
}

for purpose in "$@"; do
    case $purpose in
    build)
        if ! command -v cargo >/dev/null 2>&1; then
            echo "cargo is missing: install Rust 1.89 or newer from https://rustup.rs" >&2
            exit 1
        fi
        need gcc cc
        # A compiler without headers and libraries links nothing.
        if command -v cc >/dev/null 2>&1 && [ "$(cc -print-file-name=libc.a)" = libc.a ]; then
            packages="$packages libc6-dev"
            missing="$missing libc.a"
        fi
        ;;
    run)
        need iproute2 ip
        need nftables nft
        need iputils-ping ping
        need util-linux nsenter
        ;;
    peers)
        need containernetworking-plugins /usr/lib/cni/bridge
        need iptables iptables
        ;;
    image)
        need kubernetes-client kubectl
        need busybox-static busybox
        need binutils strip
        ;;
    fuzz)
        need g++ c++
        if ! command -v cargo-fuzz >/dev/null 2>&1; then
            echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
            exit 1
        fi
        ;;
    *)
        echo "usage: $0 [build] [run] [peers] [image] [fuzz]" >&2
        exit 2
        ;;
    esac
done

[ -n "$missing" ] || exit 0

case $packages in
*gcc*) packages="$packages libc6-dev" ;;
esac
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing" >&2
    echo "in Debian, as root: apt-get install -y$packages" >&2
    exit 1
fi

echo "installing$packages (missing:$missing)"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
install() { apt-get install -qq -y --no-install-recommends $packages </dev/null >/dev/null; }
# A fresh machine has no package lists yet.
install 2>/dev/null || { apt-get update -qq && install; }
