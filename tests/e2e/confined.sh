#!/bin/bash
# quantum-cnid in a container of the node image, with no more than the DaemonSet of config/samples grants it:
# its capabilities, the default seccomp profile, no new privileges, a read-only root, and the node's
# /proc/sys/net where the sample mounts it. Run by containerd's ctr and runc, as a kubelet has them do it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs containerd containerd runc runc kubernetes-client kubectl busybox-static busybox binutils strip \
    iproute2 ip iputils-ping ping
own_world "$@"

sample=$root/config/samples/kubernetes/quantum-cni.yaml
socket=/run/e2e-containerd/containerd.sock
image=docker.io/library/quantum-cni:latest
ctr() { command ctr --address "$socket" --namespace e2e "$@"; }
ctl() { "$bin/quantumctl" "$@"; }

# What the sample says.
granted=$(sed -n 's/.*capabilities: { drop: \[ALL\], add: \[\(.*\)\] }.*/\1/p' "$sample" | tr -d ,)
variable=$(sed -n 's/.*name: \(QUANTUM_PROC_SYS_NET\), value: \([^ ]*\) }.*/\1=\2/p' "$sample")
[[ -n $granted && -n $variable ]] || die "the sample grants nothing that is known here"
options=(--net-host --seccomp --read-only --cgroup "$cgroup_parent/q")
# ctr begins with these, where a kubelet begins with none.
for name in CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT \
    KILL AUDIT_WRITE; do
    options+=(--cap-drop "CAP_$name")
done
for name in $granted; do options+=(--cap-add "CAP_$name"); done
for folder in /run/quantum /var/lib/quantum /opt/cni/bin /etc/cni/net.d; do
    mkdir -p "$folder"
    options+=(--mount "type=bind,src=$folder,dst=$folder,options=rbind:rw")
done

mkdir -p "${socket%/*}"
cat >"$work/containerd.toml" <<END
version = 2
root = "$work/containerd"
state = "${socket%/*}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$socket"
END
containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
step "containerd starts" eventually 30 ctr version
"$root/dist/node-image.sh" "$work/quantum.tar" "$image" "$bin/quantum-cnid" "$bin/quantumctl" "$plugin" ||
    die "the image cannot be made"
step "it has the image" ctr images import "$work/quantum.tar"

# confined NAME [OPTION…]: the daemon in a container.
confined() {
    ctr run "${options[@]}" "${@:2}" "$image" "$1" quantum-cnid >>"$work/daemon.log" 2>&1 &
}
is_over() { ctr task kill -s KILL "$1"; eventually 10 fails ctr task exec --exec-id over "$1" ls; }
# Its status fails, as something is unmet.
lacks_settings() { ! ctl status >"$work/said" && grep -F 'unmet: cannot write /proc/sys/net' "$work/said"; }

confined bare
step "without the node's settings it says that it lacks them" eventually 10 lacks_settings
step "it is stopped" is_over bare

confined whole --env "$variable" --mount "type=bind,src=/proc/sys/net,dst=${variable#*=},options=rbind:rw"
step "with them it lacks nothing" eventually 10 ctl status
has_only() {
    local number=0 name
    for name in $granted; do
        case $name in
        NET_ADMIN) ((number |= 1 << 12)) ;;
        SYS_ADMIN) ((number |= 1 << 21)) ;;
        *) echo "the number of $name is not known here"; return 1 ;;
        esac
    done
    ctr task exec --exec-id status whole cat /proc/self/status >"$work/status" &&
        grep -x "CapBnd:	$(printf %016x "$number")" "$work/status" && grep -x 'NoNewPrivs:	1' "$work/status" &&
        grep -x 'Seccomp:	2' "$work/status"
}
step "it has the capabilities of the sample, and a filter" has_only
step "it installs the plugin and a conflist" ctr task exec --exec-id install whole quantumctl install --drop-in \
    --direct-access --subnet 10.244.1.0/24,fd00:244:1::/64 --cni-version 1.0.0

conf='{ "cniVersion": "1.0.0", "name": "quantum", "type": "quantum-cni", "bridge": "quantum0", "isGateway": true,
  "ipMasq": true, "sysctl": { "net.ipv4.conf.IFNAME.rp_filter": "2" },
  "ipam": { "type": "host-local", "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            "ranges": [[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:244:1::/64" }]] } }'
cni() {
    CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
        /opt/cni/bin/quantum-cni <<<"$conf"
}
inside() { ip netns exec c1 "$@"; }
has_setting() { [[ $(inside cat /proc/sys/net/ipv4/conf/eth0/rp_filter) == 2 ]]; }
ip netns add c1
step "a container is attached" cni ADD
step "it reaches its gateway" inside ping -c 1 -W 5 10.244.1.1
step "and by IPv6" inside ping -c 1 -W 5 fd00:244:1::1
step "it has its settings" has_setting
step "it is detached" cni DEL
step "nothing is left" nothing_left
