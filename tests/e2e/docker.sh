#!/bin/bash
# Docker with our network driver and our IPAM driver: dockerd as Debian has it, its rules for packets
# included, with containers of an image made here.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs docker.io dockerd busybox-static busybox iproute2 ip nftables nft
own_world "$@"

# The client that came with dockerd: another program of the name may come first in PATH.
docker=$(dirname "$(command -v dockerd)")/../bin/docker
dock() { "$docker" -H "unix://$work/docker.sock" "$@"; }
socket=/run/docker/plugins/quantum.sock

dockerd_starts() {
    dockerd --data-root "$work/docker" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
        -H "unix://$work/docker.sock" --storage-driver overlay2 --cgroup-parent "$cgroup_parent" \
        --exec-opt native.cgroupdriver=cgroupfs "$@" >>"$work/dockerd.log" 2>&1 &
    eventually 40 dock info >/dev/null || {
        tail -n 20 "$work/dockerd.log"
        return 1
    }
}
# dockerd_ends SIGNAL: returns when it has. A step starts it in a shell of its own, so it is known by its file.
dockerd_ends() {
    local pid
    pid=$(cat "$work/docker.pid") && kill "-$1" "$pid" || return 1
    while [[ -e /proc/$pid ]] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
        sleep 0.05
    done
    rm -f "$work/docker.pid"
}
ours() { daemon --docker-socket "$socket"; }
ours_dies() {
    kill -KILL "$daemon_pid"
    wait "$daemon_pid" 2>/dev/null
    true
}

# web NAME NETWORK OPTION…: a container that serves its name at port 80.
web() {
    local name=$1 network=$2
    shift 2
    dock run -d --name "$name" --network "$network" "$@" busybox:test \
        sh -c "echo $name >/www/index.html; httpd -p 80 -h /www; exec sleep 3600"
}
# The host's busybox would segfault with a time limit of its own.
fetch() { timeout 5 busybox wget -qO- "http://$1/"; }
says() { eventually 10 same "$1" fetch "$2"; }
# inside NAME HOST: what the container hears from there.
inside() { dock exec "$1" timeout 5 wget -qO- "http://$2/"; }
same() { local wanted=$1; shift; [[ $("$@" 2>&1) == "$wanted" ]]; }
hears() { eventually 10 same "$1" inside "$2" "$3"; }
address() { dock inspect -f "{{(index .NetworkSettings.Networks \"$2\").IPAddress}}" "$1"; }
no_trace() {
    nothing_left || return 1
    ! ip -br link | grep -E '^q[pd]' || { echo 'is left of what Docker was given'; return 1; }
}

# A network of CNI's, which Docker's containers join.
mkdir -p /etc/quantum/cni/net.d
cat >/etc/quantum/cni/net.d/shop.conf <<'END'
{"cniVersion":"1.0.0","name":"shop","type":"quantum-cni","bridge":"shop0","isGateway":true,"ipMasq":true,
 "ipam":{"type":"host-local","subnet":"10.50.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}
END
cni() {
    CNI_COMMAND=$1 CNI_CONTAINERID=c CNI_IFNAME=eth0 CNI_NETNS=/run/netns/cni CNI_PATH=/nowhere \
        "$plugin" <<<'{"cniVersion":"1.0.0","name":"shop","type":"quantum-cni"}'
}

ours
step "$(dockerd --version | cut -d, -f1) starts" dockerd_starts
step 'an image is made and loaded' image "$work/image.tar"
step 'and loaded' dock load -i "$work/image.tar"

step 'a network with dockerd'"'"'s addresses' \
    dock network create -d quantum --subnet 10.90.0.0/24 -o name=one net1
step 'a network with our addresses' \
    dock network create -d quantum --ipam-driver quantum --subnet 10.92.0.0/24 net2
step 'a network for which we choose the subnet' \
    dock network create -d quantum --ipam-driver quantum net3
step 'an option that is none is refused' fails dock network create -d quantum -o colour=red net4
step 'docker run -p' web c1 net1 -p 8080:80
step 'it is reached at the port of the host' says c1 127.0.0.1:8080
step '--ip, --mac-address and --network-alias' \
    web c2 net1 --ip 10.90.0.77 --mac-address 02:11:22:33:44:55 --network-alias bob
step 'the address is the one' same 10.90.0.77 address c2 net1
step 'the hardware address is the one' \
    dock exec c2 sh -c 'ip link show eth0 | busybox grep -q 02:11:22:33:44:55'
step 'by its name' hears c2 c1 c2
step 'by its alias' hears c2 c1 bob
step 'and back' hears c1 c2 c1
step 'a port that is taken is refused' fails web c9 net1 -p 8080:80
step 'what is left of that one goes' dock rm -f c9
step 'our addresses' web c3 net2 -p 8083:80
step 'the first after the gateway' same 10.92.0.2 address c3 net2
step 'networks are apart' fails inside c1 10.92.0.2
step 'docker network connect' dock network connect net2 c1
step 'it is in both' hears c3 c1 c3
step 'docker network disconnect' dock network disconnect net2 c1
step 'it is in one' fails inside c1 10.92.0.2
step 'and its port is still there' says c1 127.0.0.1:8080
step 'docker restart' dock restart -t 0 c1
step 'its port is there again' says c1 127.0.0.1:8080

step 'a network of both families' dock network create -d quantum --ipv6 \
    --subnet 10.94.0.0/24 --subnet fd94::/64 net6
step 'a container with both' web c6 net6
step 'a second' web c7 net6
step 'it reaches the first by IPv6' eventually 10 same c6 inside c7 '[fd94::2]'
step 'both are removed' dock rm -f c6 c7
step 'and their network' dock network rm net6

step 'a network of CNI is joined' dock network create -d quantum --ipam-driver quantum \
    --ipam-opt network=shop -o network=shop shop
ip netns add cni || die 'no namespace for a container'
step 'a container of CNI in it' cni ADD
of_its_pool() { [[ $(address "$1" shop) == 10.50.0.* ]]; }
step 'one of Docker beside it' web c8 shop
step 'with an address of the same pool' of_its_pool c8
step 'which the other reaches' eventually 10 same c8 \
    nsenter --net=/run/netns/cni timeout 5 busybox wget -qO- "http://$(address c8 shop)/"

ours_dies
step 'without our daemon containers go on' says c1 127.0.0.1:8080
ours
step 'after its restart they do' says c1 127.0.0.1:8080
step 'and a stop is served' dock stop -t 0 c1
step 'its port is not there' fails fetch 127.0.0.1:8080
step 'and a start' dock start c1
step 'its port is there' says c1 127.0.0.1:8080

dockerd_ends KILL
step 'dockerd killed and started: its containers died' dockerd_starts
step 'they start again' dock start c1 c2 c3 c8
step 'one' says c1 127.0.0.1:8080
step 'one of our addresses' says c3 127.0.0.1:8083
step 'by name' hears c2 c1 bob
only() { [[ $(ip -br link | grep -c '^qc') == "$1" ]]; }
step 'nothing is left of those that died' eventually 30 only 5

dockerd_ends TERM
step 'dockerd with live-restore' dockerd_starts --live-restore
step 'containers start' dock start c1 c2 c3 c8
dockerd_ends KILL
step 'dockerd killed: they live' says c1 127.0.0.1:8080
ours_dies
ours
step 'and our daemon started again' says c1 127.0.0.1:8080
step 'and dockerd, too' dockerd_starts --live-restore
step 'they live' says c1 127.0.0.1:8080
step 'by name' hears c2 c1 bob
step 'one of the network of CNI lives' nsenter --net=/run/netns/cni timeout 5 busybox wget -qO- \
    "http://$(address c8 shop)/"
step 'a new one beside them' web c5 net2
step 'all are removed' dock rm -f c1 c2 c3 c5 c8
step 'the networks are removed' dock network rm net1 net2 net3 shop
step 'and that of CNI' cni DEL
step 'nothing is left' eventually 30 no_trace
