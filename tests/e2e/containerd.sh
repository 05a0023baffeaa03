#!/bin/bash
# containerd, asked by a client of the CRI as a kubelet asks it, and by its own ctr: pods and containers
# with an address, published ports, limits, DNS and labels; many at once; containerd and the daemon
# killed under them; and nothing left of anything.
#
# PODS=N says how many are there at once, 50 unless it does.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs containerd containerd runc runc python3-grpcio /usr/lib/python3/dist-packages/grpc
own_world "$@"

pods=${PODS:-50}
here=$root/tests/e2e
socket=/run/e2e-containerd/containerd.sock
# since MAJOR MINOR: containerd is of that version or newer.
[[ $(containerd --version) =~ \ v?([0-9]+)\.([0-9]+) ]] || die "its version is not known: $(containerd --version)"
version=("${BASH_REMATCH[@]:1}")
since() { ((version[0] > $1 || version[0] == $1 && version[1] >= $2)); }
plugins=$work/plugins
cri() { CRI_CGROUP=$cgroup_parent /usr/bin/python3 "$here/cri.py" "$socket" "$@"; }
ctr() { command ctr --address "$socket" --namespace e2e "$@"; }
ctl() { "$bin/quantumctl" "$@"; }

# runtime: starts containerd and waits until it answers; `runtime_pid` is its id.
runtime() {
    containerd --config "$work/containerd.toml" >>"$work/containerd.log" 2>&1 &
    runtime_pid=$!
    # Its CRI answers later than itself.
    eventually 30 ctr version >/dev/null && eventually 30 cri list >/dev/null ||
        die "containerd does not start: $(tail -n 3 "$work/containerd.log")"
}
# killed PID: it is killed, and gone.
killed() {
    disown "$1" # or bash would report its end
    kill -KILL "$1"
    while kill -0 "$1" 2>/dev/null; do sleep 0.02; done
}

# remove_all: every pod that containerd knows.
remove_all() {
    local all
    all=$(cri list) && cri remove $all
}

# run NAME… [OPTION…]: pods; a line "NAME ID ADDRESS" for each is kept.
run() {
    local said
    said=$(cri run "$@") || { echo "$said"; return 1; }
    tee -a "$work/pods" <<<"$said"
}
id() { sed -n "s/^$1 \([^ ]*\) .*/\1/p" "$work/pods" | tail -n 1; }
address() { sed -n "s/^$1 [^ ]* //p" "$work/pods" | tail -n 1; }

# serve NAME: a container in the pod NAME that serves its name on port 80.
serve() {
    cri start "$(id "$1")" serve sh -c "echo $1 >/www/index.html; exec httpd -f -p 80 -h /www" >"$work/serve.$1"
}
# inside NAME COMMAND…: in that container.
inside() { cri exec "$(<"$work/serve.$1")" "${@:2}"; }

# got TEXT HOST PORT: whoever listens there, seen from here, says TEXT.
got() {
    timeout 5 bash -c 'exec 3<>"/dev/tcp/$2/$3" && printf "GET / HTTP/1.0\r\n\r\n" >&3 && grep -x "$1" <&3' - "$@"
}
outside() { nsenter --net=/run/netns/outside "$@"; }
export -f got # for a shell that is outside
got_outside() { outside bash -c 'got "$@"' - "$@"; }

conflist() {
    cat <<END
{ "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "$1", "plugins": [{
  "type": "quantum-cni", "bridge": "$2", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "capabilities": { "portMappings": true, "bandwidth": true, "dns": true,
                    "io.kubernetes.cri.pod-annotations": true },
  "ipam": { "type": "host-local", "subnet": "$3.0/24", "routes": [{ "dst": "0.0.0.0/0" }] } }] }
END
}

# conflist_is NAME BRIDGE FIRST-THREE-BYTES: it is renamed into place, as containerd reads whatever it finds.
conflist_is() { conflist "$@" >/etc/cni/net.d/.new && mv /etc/cni/net.d/.new /etc/cni/net.d/10-quantum.conflist; }

# no_trace: nothing of ours, of containerd's or of CNI's is left of any pod or container.
no_trace() {
    nothing_left || return
    [[ $(ls /run/netns) == outside ]] || { echo "namespaces are left: $(ls /run/netns)"; return 1; }
    [[ -z $(ls /var/lib/cni/results 2>/dev/null) ]] || { ls /var/lib/cni/results; return 1; }
    held 0
}
# held N: so many addresses are somebody's, of all networks.
held() {
    local sum
    sum=$(metrics | awk '/^cni_pool_addresses_held\{/ { sum += $2 } END { print sum + 0 }')
    [[ $sum == "$1" ]] || { echo "$sum addresses are held"; return 1; }
}
metrics() {
    exec 3<>/dev/tcp/127.0.0.1/9641 && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 && tr -d '\r' <&3
}

# ---------------------------------------------------------------- the world

image "$work/busybox.tar" && image "$work/pause.tar" docker.io/library/pause:test '["sleep","2147483647"]' ||
    die "the images cannot be made"
mkdir -p "$plugins" /etc/cni/net.d /run/netns
# ctr looks for plugins in /opt/cni/bin, whatever it is told.
mount --bind "$plugins" /opt/cni/bin || die "cannot make /opt/cni/bin private"
cp "$plugin" "$plugins/quantum-cni" && ln -s quantum-cni "$plugins/loopback" || die "there is no plugin"

ip netns add outside && ip link add uplink type veth peer name uplink netns outside &&
    ip address add 192.0.2.1/24 dev uplink && ip link set uplink up &&
    outside ip address add 192.0.2.2/24 dev uplink && outside ip link set uplink up &&
    outside ip route add 10.81.0.0/24 via 192.0.2.1 || die "there is no outside"

# restrict_oom_score_adj: who may not lower the score of a process, as in many a container, cannot
# start a sandbox otherwise. containerd 2 reads this version of the configuration, too.
cat >"$work/containerd.toml" <<END
version = 2
root = "$work/containerd"
state = "/run/e2e-containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:test"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$plugins"
    conf_dir = "/etc/cni/net.d"
END

daemon
runtime
step "an image is imported, made here" ctr --namespace k8s.io images import "$work/busybox.tar"
step "a pause image is imported, made here" ctr --namespace k8s.io images import "$work/pause.tar"
step "$(containerd --version | cut -d' ' -f1-3) is not ready without a network" fails cri ready
conflist_is quantum quantum0 10.81.0
step "it is ready as soon as there is our conflist" eventually 20 cri ready

# Since 2.0 it asks for the STATUS of the plugins of a conflist that can be taken as 1.1.0.
says_who_is_gone() {
    local said
    said=$(cri ready) && { echo 'it is ready'; return 1; }
    grep '^NetworkReady: .*quantum-cnid does not answer at' <<<"$said" || { echo "$said"; return 1; }
}
if since 2 0; then
    killed "$daemon_pid"
    step "quantum-cnid is killed: it is not ready, and the reason is ours" says_who_is_gone
    daemon
    step "it starts again: it is ready" cri ready
fi

# ---------------------------------------------------------------- ctr

# ctr_run ID OPTION…: a container of ctr's that serves its name.
ctr_run() {
    ctr run --cni --cgroup "$cgroup_parent/$1" "${@:2}" docker.io/library/busybox:test "$1" \
        sh -c "mkdir -p /www; echo $1 >/www/index.html; exec httpd -f -p 80 -h /www" </dev/null
}
ctr_address() {
    local pid
    pid=$(ctr task list | sed -n "s/^$1  *\([0-9]*\)  *RUNNING/\1/p") && [[ -n $pid ]] &&
        nsenter --net="/proc/$pid/ns/net" ip -4 -o addr show eth0 | grep -o '10\.81\.0\.[0-9]*' | head -n 1
}
ctr_got() { got "$1" "$(ctr_address "$1")" 80; }
ctr_gone() { ctr task kill --signal KILL "$1" && eventually 20 ctr task delete "$1" && ctr container delete "$1"; }
# What ctr up to 1.6 does not say of a container that ran in the background.
del() {
    CNI_COMMAND=DEL CNI_CONTAINERID=$1 CNI_NETNS='' CNI_IFNAME=eth0 CNI_PATH=$plugins "$plugins/quantum-cni" \
        <<<'{ "cniVersion": "1.0.0", "name": "quantum", "type": "quantum-cni" }' &&
        rm -f /var/lib/cni/results/*"-$1-"* # libcni's, which it removes with a DEL
}

step "ctr imports the image" ctr images import "$work/busybox.tar"
ctr_run front --rm >"$work/front" 2>&1 &
front=$!
step "ctr run --cni: the host reaches the container by its address" eventually 20 ctr_got front
step "it is killed" ctr task kill --signal KILL front
wait "$front"
step "nothing is left of it" eventually 20 no_trace
step "ctr run --cni --detach" ctr_run back --detach
step "the host reaches that, too" eventually 20 ctr_got back
if since 1 7; then
    step "it is deleted" ctr_gone back
else
    step "it is deleted, of which this ctr tells no plugin" ctr_gone back
    step "its address is still held, therefore" held 1
    step "it can come again all the same" ctr_run back --detach
    step "and is reached" eventually 20 ctr_got back
    step "it is deleted once more" ctr_gone back
    step "a DEL by hand is what was missing" del e2e-back
fi
step "nothing is left of that" eventually 20 no_trace

# ---------------------------------------------------------------- one pod

has_address() {
    local seen
    seen=$(address "$1")
    [[ $seen == 10.81.0.* && $(cri status "$(id "$1")") == "ready $seen" ]] || { cat "$work/pods"; return 1; }
}
in_pod() { inside web ip -4 -o addr show eth0 | grep -F " $(address web)/24 "; }
loopback_is_kept() {
    local result
    result=$(cri result "$(id web)") && grep -E '"lo": \{' <<<"$result" || { echo "$result"; return 1; }
}
dns_is_kept() {
    local result
    result=$(cri result "$(id web)") || { echo "$result"; return 1; }
    grep -F 10.96.0.10 <<<"$result" | grep -F svc.cluster.local || { echo "$result"; return 1; }
    inside web cat /etc/resolv.conf | grep -F 'nameserver 10.96.0.10'
}

step "a pod is made" run web port=8080:80 dns=10.96.0.10 search=svc.cluster.local
step "its address is in PodSandboxStatus" has_address web
step "a container runs in it" serve web
step "the container has that address" in_pod
step "our plugin, called as loopback, told of lo" loopback_is_kept
step "the pod reaches itself by that" eventually 20 inside web wget -q -O - http://127.0.0.1/
step "the host reaches it by its address" got web "$(address web)" 80
step "the outside reaches it by its host port" got_outside web 192.0.2.1 8080
step "but not by its address, though it has a route there" fails got_outside web "$(address web)" 80
step "the DNS it was given is in the result that containerd keeps, and in the container" dns_is_kept

# ---------------------------------------------------------------- annotations

# At 16 Mbit/s, of which 1.6 Mbit pass at once, 4 MB take 1.9 s, and so do 2 MB at 8 Mbit/s. A busy machine
# only makes it longer.
has_limit() { # RATE BEGINNING-OF-A-LINK'S-NAME
    tc qdisc show | grep -E "^qdisc tbf .* dev $2.* rate $1 " || { tc qdisc show; return 1; }
}
takes_long() { # BYTES COMMAND…: so many arrive, and not too soon
    local begun=${EPOCHREALTIME/./} took arrived
    arrived=$("${@:2}" | wc -c)
    took=$((${EPOCHREALTIME/./} - begun))
    ((arrived >= $1 && took > 1500000)) || { echo "$arrived bytes took $took us"; return 1; }
}
to_slow() { inside slow wget -q -O - http://10.81.0.1:8000/big; }
from_slow() {
    timeout 60 bash -c 'exec 3<>"/dev/tcp/$1/80" && printf "GET /big HTTP/1.0\r\n\r\n" >&3 && cat <&3' - \
        "$(address slow)"
}
labelled() { ctl policy show | grep -E '^e2e/slow .*app=slow,.*tier=inner'; }
only_friends() {
    ctl policy apply - <<END
{ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "friends", "namespace": "e2e" },
  "spec": { "podSelector": { "matchLabels": { "app": "slow" } }, "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "friend": "yes" } } }] }] } }
END
}
visits() { inside "$1" busybox timeout 3 wget -q -O - "http://$(address "$2")/" | grep -x "$2"; }

mkdir -p "$work/www" && head -c 4000000 /dev/zero >"$work/www/big" && busybox httpd -p 10.81.0.1:8000 -h "$work/www"
step "a pod is made with annotations for bandwidth and labels" run slow \
    annotation=kubernetes.io/ingress-bandwidth=16M annotation=kubernetes.io/egress-bandwidth=8M \
    annotation=policy.quantum/labels=app=slow,tier=inner
step "a container runs in it, too" serve slow
step "and has something to send" inside slow busybox dd if=/dev/zero of=/www/big bs=100k count=20
step "the limit of what it receives is in the kernel" has_limit 16Mbit qc
step "and is kept" takes_long 4000000 to_slow
step "the limit of what it sends is in the kernel" has_limit 8Mbit qs
step "and is kept, too" takes_long 2000000 from_slow
step "policy knows the labels of its annotation" labelled
step "a third pod is a friend" run friend annotation=policy.quantum/labels=friend=yes
step "a container runs in that" serve friend
step "web reaches slow" visits web slow
step "a policy lets only friends come to slow" only_friends
step "web does not reach slow any more" fails visits web slow
step "friend does" visits friend slow
step "web still reaches friend" visits web friend
step "the policy goes" ctl policy delete NetworkPolicy e2e/friends
step "web reaches slow again" visits web slow

# ---------------------------------------------------------------- many at once

names=()
for ((i = 1; i <= pods; i++)); do names+=("many$i"); done
ids() { for name in "$@"; do id "$name"; done; }
addresses() { for name in "$@"; do address "$name"; done; }
all_differ() {
    local list
    list=$(addresses web slow friend "${names[@]}" | sort -u)
    (($(wc -l <<<"$list") == pods + 3)) || { cat "$work/pods"; return 1; }
    held $((pods + 3))
}
# The host's pings, all at once: each pod answers.
all_answer() { # NAME…
    local name pings=() ping
    for name in "$@"; do ping -q -c 1 -W 10 "$(address "$name")" >/dev/null & pings+=($!); done
    for ping in "${pings[@]}"; do wait "$ping" || { echo 'a pod does not answer'; return 1; }; done
}
all_are() { # STATE NAME…
    local said
    said=$(cri status $(ids "${@:2}")) || { echo "$said"; return 1; }
    (($(grep -c "^$1 " <<<"$said") == $# - 1)) || { echo "$said"; return 1; }
}
same_addresses() { [[ $(cri status $(ids "$@") | cut -d' ' -f2) == "$(addresses "$@")" ]]; }

made_early() { wait "$early" || { cat "$work/early"; return 1; }; }

step "$pods pods are made at once" run "${names[@]}"
step "each has an address of its own" all_differ
step "each answers" all_answer "${names[@]}"

# ---------------------------------------------------------------- both are killed

killed "$runtime_pid"
killed "$daemon_pid"
step "containerd and quantum-cnid are killed: every pod still answers" all_answer web slow friend "${names[@]}"
step "and web is still there for the outside" got_outside web 192.0.2.1 8080
runtime
step "containerd starts again, without the daemon: it knows every pod" all_are ready web slow friend "${names[@]}"
run early >"$work/early" 2>&1 &
early=$!
step "a pod is stopped meanwhile, and that succeeds" cri stop "$(id friend)"
daemon
step "the daemon starts again: the pods have the addresses they had" same_addresses web slow "${names[@]}"
step "a pod that was asked for meanwhile has waited for it" made_early
step "and is removed" cri remove "$(id early)"
step "the address of the pod that was stopped is free" eventually 20 held $((pods + 2))
step "a pod can be made" run late
step "and a container in it" serve late
step "it reaches an older one" visits late web

# ---------------------------------------------------------------- they go

third=$((pods / 3))
succeeded() { [[ -e $work/removed ]] || { cat "$work/removing"; return 1; }; }
step "a container is removed while it runs" cri delete "$(<"$work/serve.web")"
step "a third of the pods are stopped at once" cri stop $(ids "${names[@]:0:third}")
step "they are not ready, and still known" all_are notready "${names[@]:0:third}"
step "stopping them again succeeds" cri stop $(ids "${names[@]:0:third}")
step "and they are removed" cri remove $(ids "${names[@]:0:third}")
cri remove $(ids "${names[@]:third:third}") >"$work/removing" 2>&1 &
removing=$!
eventually 20 fails held $((pods - third + 2)) >"$work/begun" || die "nobody goes"
killed "$daemon_pid"
wait "$removing" && : >"$work/removed"
step "a third are removed while they run and the daemon is killed" succeeded
daemon
step "the others still answer" all_answer web slow late "${names[@]:2*third}"
cri remove $(cri list) >"$work/removing" 2>&1 &
removing=$!
eventually 20 fails held $((pods - third - third + 3)) >"$work/begun" || die "nobody goes"
killed "$runtime_pid"
wait "$removing"
runtime
step "containerd is killed while it removes the rest: it removes what it had not" remove_all
step "nothing is left of any pod" eventually 20 no_trace

# Twenty pods are made at once, and somebody is killed when the first of them has its address.
make_and_kill() {
    local names=() i making
    for ((i = 1; i <= 20; i++)); do names+=("torn-$1-$i"); done
    cri run "${names[@]}" >"$work/torn" 2>&1 &
    making=$!
    eventually 20 fails held 0 >"$work/begun" || die "nobody comes"
    killed "$2"
    "$1"
    wait "$making"
}
held_by_all() { held "$(cri list | wc -l)"; }
make_and_kill daemon "$daemon_pid"
step "20 pods are made at once while the daemon is killed: those that are there have an address, nobody else" \
    eventually 20 held_by_all
step "all of them are removed" remove_all
step "and nothing is left of those that were and those that were not" eventually 20 no_trace

logged=$(wc -l <"$work/daemon.log")
make_and_kill runtime "$runtime_pid"
step "20 pods are made at once while containerd is killed: what it knows of them it removes" remove_all
# A namespace that it had made and not written down it forgets. We were never asked for an address there.
for name in /run/netns/cni-*; do [[ ! -e $name ]] || { umount "$name" 2>/dev/null; rm "$name"; }; done
# If it is killed between an ADD and writing down what that said, containerd 1.7 removes the pod without a DEL
# (containerd/containerd#12923). All the others must be gone.
without_del() { comm -23 <(done_since ADD) <(done_since DEL); }
# done_since COMMAND: the containers for which it was done since the log had so many lines.
done_since() {
    tail -n "+$((logged + 1))" "$work/daemon.log" | grep -F ' INFO done, ' |
        grep -F "command: $1, network_name: quantum," | grep -o '[^ ]*$' | sort -u
}
held_without_del() { held "$(without_del | wc -l)"; }
released() { # N: so many were released because their interface was gone
    local count
    count=$(metrics | sed -n 's/^cni_orphans_released_total //p')
    [[ $count == "$1" ]] || { echo "$count were released, of $1"; return 1; }
}
if since 1 7 && ! since 2 0; then
    step "what is held is of pods that this containerd removed without a DEL" eventually 20 held_without_del
    lost=$(without_del)
    killed "$daemon_pid"
    daemon --orphan-seconds 1
    step "a daemon that waits a second for a DEL releases all $(wc -w <<<"$lost")" eventually 20 released "$(wc -w <<<"$lost")"
    for id in $lost; do rm -f /var/lib/cni/results/*"-$id-"*; done # libcni's, which it removes with a DEL
fi
step "and nothing is left of the others" eventually 20 no_trace

# ---------------------------------------------------------------- another name

step "a pod is made" run old
conflist_is renamed quantum1 10.82.0
# comes_to SUBNET NAME [OPTION…]: a pod that has its address there, or it goes again.
comes_to() {
    run "${@:2}" && [[ $(address "$2") == "$1".* ]] && return
    cri remove "$(id "$2")"
    return 1
}
step "its network is given another name, bridge and subnet: a new pod goes there" eventually 20 comes_to 10.82.0 new
step "the old one, of which containerd now tells the new name, is removed" cri remove "$(id old)"
rm /var/lib/cni/results/quantum-* # libcni's, which goes by the new name, too
step "so is the new one" cri remove "$(id new)"
step "and nothing is left of either" eventually 20 no_trace
# ---------------------------------------------------------------- containerd's own conflist

# As containerd's own script for this writes it: a chain of reference plugins, two families. The names are
# links to our plugin.
for name in bridge host-local portmap; do ln -s quantum-cni "$plugins/$name"; done
cat >/etc/cni/net.d/.new <<END
{ "cniVersion": "1.0.0", "name": "containerd-net", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "promiscMode": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }], [{ "subnet": "fd00:88::/64" }]],
              "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
END
mv /etc/cni/net.d/.new /etc/cni/net.d/10-quantum.conflist
sixth() { cri status "$(id both)" | grep -o 'fd00:88::.*'; }
step "the network is the chain of containerd's own conflist, by links of ours: a pod goes there" \
    eventually 20 comes_to 10.88 both port=8080:80
step "it has an IPv6 address, too, in PodSandboxStatus" sixth
step "a container runs in it" serve both
step "the host reaches it by IPv4" eventually 20 got both "$(address both)" 80
step "and by IPv6" got both "$(sixth)" 80
step "the outside reaches it by its host port, which web had before" got_outside both 192.0.2.1 8080
step "it is removed" cri remove "$(id both)"
step "and nothing is left of it" eventually 20 no_trace
