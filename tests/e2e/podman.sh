#!/bin/bash
# podman with its CNI back end: with our own conflist, and with those it writes itself, for which links
# to our plugin have the names of the reference plugins.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs podman podman busybox-static busybox runc runc
own_world "$@"

conf_dir=/etc/cni/net.d
bin_dir=$work/plugins
host=192.0.2.1
mkdir -p "$conf_dir" "$bin_dir" "$work/store" "$work/runroot" "$work/tmp"
cat >"$work/containers.conf" <<END
[network]
network_backend = "cni"
cni_plugin_dirs = ["$bin_dir"]
network_config_dir = "$conf_dir"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
[containers]
log_driver = "k8s-file"
cgroup_parent = "$cgroup_parent"
END
mkdir -p /etc/containers
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
export CONTAINERS_CONF=$work/containers.conf TMPDIR=$work/tmp
podman=(podman --root "$work/store" --runroot "$work/runroot" --tmpdir "$work/tmp")
podman() { timeout 60 "${podman[@]}" "$@"; }

# The host has an address that is not the bridge's.
ip link add up0 type veth peer name up1 && ip address add "$host/24" dev up0 && ip link set up0 up &&
    ip link set up1 up || die "no uplink"

web='mkdir -p /www; echo hello from $(hostname) >/www/index.html; httpd -p 80 -h /www; exec sleep 3600'
run() { podman run -d --name "$1" --hostname "$1" "${@:2}" docker.io/library/busybox:test sh -c "$web"; }
get() { timeout 3 busybox wget -qO- "$1" | grep "hello from $2"; }
get_from() { podman exec "$1" timeout 3 wget -qO- "$2" | grep "hello from $3"; }
address() { podman inspect -f "{{(index .NetworkSettings.Networks \"$2\").IPAddress}}" "$1"; }
remove() { podman rm -f -t 0 "$@"; }

# story NETWORK: one published, one that reaches it, a restart of podman's container, and nothing left.
story() {
    local network=$1 one
    step "$network: run with a published port" run one --network "$network" -p 8080:80
    one=$(address one "$network")
    step "$network: run another" run two --network "$network"
    step "$network: the port from the host's address" eventually 5 get "http://$host:8080/" one
    step "$network: one reaches the other at $one" eventually 5 get_from two "http://$one/" one
    step "$network: a container reaches the published port" eventually 5 get_from two "http://$host:8080/" one
    step "$network: stop and start" podman restart -t 0 one
    step "$network: the port afterwards" eventually 5 get "http://$host:8080/" one
    # conmon holds the port open meanwhile.
    step "$network: its network is made anew" podman network reload one
    step "$network: the port after that" eventually 5 get "http://$host:8080/" one
    step "$network: the port is refused to a second" fails run three --network "$network" -p 8080:80
    step "$network: it can be removed" remove three
    step "$network: the first still has it" get "http://$host:8080/" one
    kill -KILL "$daemon_pid"
    wait "$daemon_pid" 2>/dev/null
    step "$network: the port without a daemon" get "http://$host:8080/" one
    step "$network: removed without a daemon" remove two
    daemon
    step "$network: the port with the next daemon" get "http://$host:8080/" one
    step "$network: remove" remove one
    step "$network: the port is closed" fails get "http://$host:8080/" one
    step "$network: nothing is left" nothing_left
}

daemon
step "the back end is CNI" bash -c "$(printf '%q ' "${podman[@]}") info -f '{{.Host.NetworkBackend}}' | grep cni"
step "an image made here" image "$work/busybox.tar"
step "load it" podman load -i "$work/busybox.tar"
step "install" "$bin/quantumctl" install --drop-in --plugin "$plugin" --bin-dir "$bin_dir" \
    --conf-dir "$conf_dir" --name ours --bridge quantum0 --subnet 172.21.0.0/16
story ours

step "network create" podman network create --subnet 10.89.7.0/24 tales
step "the conflist is podman's own" grep -q '"type": "firewall"' "$conf_dir/tales.conflist"
story tales

step "an address and a hardware address" run asked --network tales --ip 10.89.7.77 --mac-address 02:11:22:33:44:55
step "the address" bash -c "[[ $(address asked tales) == 10.89.7.77 ]]"
step "the hardware address" bash -c "$(printf '%q ' "${podman[@]}") exec asked ip link show eth0 | grep -i 02:11:22:33:44:55"
step "connect to a second network" podman network connect ours asked
step "it has two interfaces" podman exec asked ip link show eth1
step "disconnect" podman network disconnect ours asked
step "it has one" fails podman exec asked ip link show eth1
step "uninstall takes the conflist away, and the plugin stays for those who run" fails "$bin/quantumctl" uninstall --bin-dir "$bin_dir" --conf-dir "$conf_dir" --name ours
step "the plugin" test -x "$bin_dir/quantum-cni"
step "the conflist" fails test -e "$conf_dir/10-ours.conflist"
step "remove" remove asked
step "network rm" podman network rm tales
step "nothing is left" nothing_left
step "uninstall" "$bin/quantumctl" uninstall --bin-dir "$bin_dir" --conf-dir "$conf_dir" --name ours
