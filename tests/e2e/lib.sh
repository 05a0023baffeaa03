# shellcheck shell=bash
# What the stories of `make e2e` share: a world of their own to happen in, our daemon in it, an image
# made here, and how a story says how it ended.
#
# A story is a program tests/e2e/NAME.sh that begins with
#
#     . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#     needs podman podman          # package, command: is skipped where it cannot be had
#     own_world "$@"               # from here on nothing reaches the machine's network or files
#
# and then has steps: `step WORDS COMMAND…` prints `ok NAME: WORDS`, or `FAILED`, with what was
# printed. The first that fails ends the story. `skip WHY` ends it, too, and is no failure.
#
# QUANTUM_BIN_DIR and QUANTUM_PLUGIN name what was built; `make e2e` sets them.
set -uo pipefail
# The daemon uses no folder that others can write to.
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
self=$(basename "$0" .sh)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C.UTF-8
bin=${QUANTUM_BIN_DIR:?names the folder of quantum-cnid: run make e2e}
plugin=${QUANTUM_PLUGIN:?names the plugin: run make e2e}

say() { printf '%-7s %s: %s\n' "$1" "$self" "$2"; }
skip() { say skipped "$1"; exit 0; }
die() { say FAILED "$1"; exit 1; }

# step WORDS COMMAND…: does it, silently if it succeeds.
step() {
    local words=$1 said
    shift
    if said=$("$@" 2>&1 </dev/null); then say ok "$words"; return; fi
    say FAILED "$words"
    printf '        %s\n' "$*"
    sed 's/^/        | /' <<<"$said"
    if [[ -f ${work:-}/daemon.log ]]; then
        echo '        the end of the log of quantum-cnid:'
        tail -n 15 "$work/daemon.log" | sed 's/^/        | /'
    fi
    exit 1
}

# eventually SECONDS COMMAND…: until it succeeds; prints what the last try printed.
eventually() {
    local until=$((SECONDS + $1)) said
    shift
    while :; do
        if said=$("$@" 2>&1); then printf '%s\n' "$said"; return; fi
        if ((SECONDS >= until)); then printf '%s\n' "$said"; return 1; fi
        sleep 0.1
    done
}

# fails COMMAND…: it must not succeed.
fails() { ! "$@"; }

# needs PACKAGE COMMAND [PACKAGE COMMAND]…: installs what is missing; a path stands for a file of a
# package without commands. Called before own_world.
needs() {
    [[ -z ${E2E_INSIDE:-} ]] || return 0
    local packages=() why
    while (($#)); do
        command -v "$2" >/dev/null 2>&1 || [[ $2 == /* && -e $2 ]] || packages+=("$1")
        shift 2
    done
    ((${#packages[@]})) || return 0
    [[ $(id -u) == 0 ]] || skip "${packages[*]} not installed, and only root may"
    command -v apt-get >/dev/null || skip "${packages[*]} not installed, and there is no apt"
    # policy-rc.d is the machine's; a package must not start a service here.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    why=$(apt-get install -qq -y --no-install-recommends "${packages[@]}" </dev/null 2>&1) ||
        { why=$(apt-get update -qq 2>&1 && apt-get install -qq -y --no-install-recommends \
            "${packages[@]}" </dev/null 2>&1); } ||
        skip "${packages[*]} cannot be installed: $(tail -n 1 <<<"$why")"
}

# own_world "$@": goes on in namespaces of its own. All that runs there ends with the story, since the
# story is the first process there.
own_world() {
    if [[ -z ${E2E_INSIDE:-} ]]; then
        [[ $(id -u) == 0 ]] || skip "runtimes are run as root here"
        local unshare=(unshare --net --mount --pid --ipc --fork --kill-child=KILL --mount-proc
            --propagation private) why
        why=$("${unshare[@]}" true 2>&1) || skip "namespaces are not allowed here: $why"
        E2E_INSIDE=$(readlink /proc/self/ns/net) exec "${unshare[@]}" "$0" "$@"
    fi
    [[ $E2E_INSIDE != "$(readlink /proc/self/ns/net)" ]] || die "this is the machine's own namespace"
    # All that is written from here on is in memory: these are as they are on the machine, and what is
    # changed there is seen here only.
    work=/mnt
    mount -t tmpfs -o mode=755 e2e "$work" || skip "the machine lets nothing be mounted"
    local folder
    for folder in /etc /opt /var/lib /var/log; do
        mkdir -p "$work/over$folder" "$work/scratch$folder" && mount -t overlay \
            -o "lowerdir=$folder,upperdir=$work/over$folder,workdir=$work/scratch$folder" \
            e2e "$folder" || skip "the machine lets $folder not be made private"
    done
    own_host "$work" || skip "the machine lets no host be made"
    trap 'end_of_world' EXIT
}

# Folders that are empty on a host, whatever the machine has there.
private_folders=(/etc/cni /etc/containers /etc/containerd /etc/docker /etc/quantum /opt/cni/bin /var/lib/cni
    /var/lib/quantum /var/lib/containers /var/lib/containerd /var/lib/docker /var/lib/kubelet /var/log/pods)

# own_host FOLDER: in the namespaces of network and mounts that it is called in, all that runtimes keep is
# empty, and kept below FOLDER; and the network is up.
own_host() {
    local folder
    mount -t tmpfs -o mode=755 e2e /run || return
    for folder in "${private_folders[@]}"; do
        mkdir -p "$folder" "$1/empty$folder" && mount --bind "$1/empty$folder" "$folder" || return
    done
    # /sys shows the network of whoever mounted it; the control groups are below it and stay.
    mkdir -p "$1/cgroup" && mount --rbind /sys/fs/cgroup "$1/cgroup" && mount -t sysfs sysfs /sys &&
        mount --rbind "$1/cgroup" /sys/fs/cgroup || return
    ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward
}

# Control groups are the only thing of a world that is not in a namespace. Runtimes are given
# /quantum-e2e/STORY as a parent.
cgroup_parent=/quantum-e2e/$self
end_of_world() {
    local status=$? pid
    exec 2>/dev/null # or bash would report the end of each
    # Whatever a story started is below us, in our own process namespace.
    for pid in $(pids_inside); do kill -KILL "$pid" 2>/dev/null; done
    wait
    eventually 10 no_cgroups
    exit "$status"
}
# A group is busy until the last that was killed in it is gone.
no_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*$cgroup_parent*" -exec rmdir {} + 2>/dev/null
    rmdir /sys/fs/cgroup/*/"${cgroup_parent%/*}" /sys/fs/cgroup/"${cgroup_parent%/*}" 2>/dev/null
    local left
    left=$(find /sys/fs/cgroup -type d -path "*$cgroup_parent*") && [[ -z $left ]] || { echo "$left"; return 1; }
}
pids_inside() { for p in /proc/[0-9]*; do p=${p#/proc/}; ((p == 1 || p == $$)) || echo "$p"; done; }

# daemon [OPTION…]: starts quantum-cnid and waits until it answers; `daemon_pid` is its id.
daemon() {
    "$bin/quantum-cnid" "$@" >>"$work/daemon.log" 2>&1 &
    daemon_pid=$!
    eventually 10 "$bin/quantumctl" status >/dev/null ||
        die "quantum-cnid does not start: $(tail -n 3 "$work/daemon.log")"
}

# nothing_left: no attachment, no link of ours, no element that belongs to one.
nothing_left() {
    local said
    said=$("$bin/quantumctl" status) || { echo "$said"; return 1; }
    if ip -br link | grep -E '^q[cs]'; then echo 'is left of our links'; return 1; fi
    local table
    for table in inet bridge; do
        nft list table "$table" quantum | awk -v networks=" ${sets_of_networks[*]} " '
            $1 == "set" || $1 == "map" { name = $2 }
            $1 == "elements" && !index(networks, " " name " ") { print "is left in " name ": " $0; left = 1 }
            END { exit left }' || return
    done
}
# What is in these belongs to networks, which stay, or to the daemon.
sets_of_networks=(bridges closed strict guarded apart4 apart6 inward direct zero unprobed gate4 gate6 own4 own6 gatemac epoch stamp unmasq4 unmasq6)

# image FILE [NAME [COMMAND]]: an image of a static busybox, docker.io/library/busybox:test unless it is
# named. COMMAND is a list in JSON.
image() {
    local folder=$work/image busybox applet command='["sh"]'
    busybox=$(command -v busybox) || { echo 'there is no busybox'; return 1; }
    rm -rf "$folder" && mkdir -p "$folder/bin" "$folder/www" "$folder/etc" "$folder/tmp" || return
    cp "$busybox" "$folder/bin/busybox" || return
    for applet in sh httpd wget timeout mkdir grep sleep cat echo ip hostname nc ps true ls ping udhcpc; do
        ln -s busybox "$folder/bin/$applet"
    done
    echo 'root:x:0:0::/:/bin/sh' >"$folder/etc/passwd"
    "$root/dist/pack-image.sh" "$folder" "$1" "${2:-docker.io/library/busybox:test}" "${3:-$command}"
}
