#!/bin/bash
# build.sh FOLDER: puts kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kube-proxy of
# Kubernetes 1.20.2 there, unless they are there. Debian 12 has no package of them, but its source package
# `kubernetes` holds all of Kubernetes, and is built with Debian's Go: some 6 minutes on two cores.
set -euo pipefail

programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
folder=$1
missing() { for one in "${programs[@]}"; do [[ -x $folder/$one ]] || return 0; done; return 1; }
missing || exit 0

[[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || { echo "needs apt, as root" >&2; exit 1; }
echo "builds Kubernetes into $folder, which takes some minutes once"
export DEBIAN_FRONTEND=noninteractive
needs() { apt-get install -qq -y --no-install-recommends golang-1.19-go dpkg-dev make rsync </dev/null >/dev/null; }
needs 2>/dev/null || { apt-get update -qq && needs; }

# The machine's own lists name no source packages.
work=$folder/work
rm -rf "$work" && mkdir -p "$work/lists/partial" "$work/cache" "$work/home"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb-src [signed-by=%s] http://deb.debian.org/debian bookworm main\n' "$keys" >"$work/sources.list"
apt=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update
(cd "$work" && apt-get "${apt[@]}" source --download-only kubernetes)
dpkg-source -x "$work"/kubernetes_*.dsc "$work/source" >/dev/null

# As debian/rules does it, and nothing is fetched: all modules are in the source's vendor folder.
mkdir -p "$work/source/.go/src/k8s.io"
ln -s ../../.. "$work/source/.go/src/k8s.io/kubernetes"
(
    cd "$work/source/.go/src/k8s.io/kubernetes"
    env -i PATH=/usr/lib/go-1.19/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME="$work/home" \
        GOPATH="$work/source/.go" GOCACHE="$work/cache/go" CGO_ENABLED=0 \
        make WHAT="$(printf 'cmd/%s ' "${programs[@]}")" >"$work/log" 2>&1
) || { tail -n 20 "$work/log" >&2; exit 1; }
for one in "${programs[@]}"; do
    install -m 755 "$work"/source/_output/local/bin/linux/*/"$one" "$folder/$one"
done
rm -rf "$work"
