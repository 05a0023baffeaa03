#!/bin/bash
# Kubernetes 1.20.2, whole: a control plane and two nodes, each a host of its own on one Ethernet. Node a has
# containerd, by the CRI; node b has dockerd, and its kubelet the flags that were taken out in 1.24. On both
# quantum-cni comes by the DaemonSet of config/samples.
#
# QUANTUM_KUBERNETES names the folder of its programs; `make e2e-kubernetes` builds them. PODS=N says how many
# pods the Deployment has, 30 unless it does.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# ---------------------------------------------------------------- a node

# be_node FOLDER: goes on as a host that does nothing by itself.
be_node() {
    own_host "$1" || exit 1
    mount --make-rshared / # as kubelets expect it
    # A kubelet sets these of the whole machine to what it wants, and here finds them so.
    local want
    for want in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        mkdir -p "$1/sysctl/${want%/*}" && echo "${want#*=}" >"$1/sysctl/${want%=*}" &&
            mount --bind "$1/sysctl/${want%=*}" "/proc/sys/${want%=*}" || exit 1
    done
    : >"$1/ready"
    exec sleep infinity
}
# no_trace: of no pod is anything left on the node.
no_trace() {
    nothing_left || return
    local left
    left=$(find /run/netns -mindepth 1 2>/dev/null) # dockerd's are not there
    [[ -z $left ]] || { echo "namespaces are left: $left"; return 1; }
    left=$(find /var/lib/cni -name '*-eth0') && [[ -z $left ]] || { echo "$left"; return 1; }
}
case ${1:-} in
node) be_node "$2" ;;
no_trace)
    no_trace
    exit
    ;;
esac

programs=${QUANTUM_KUBERNETES:-}
[[ -x $programs/kubelet ]] || skip "its programs are not built: make e2e-kubernetes"
needs etcd-server etcd containerd containerd docker.io dockerd runc runc kubernetes-client kubectl \
    busybox-static busybox conntrack conntrack iptables iptables openssl openssl binutils strip \
    iputils-ping ping procps pgrep
own_world "$@"

pods=${PODS:-30}
here=$root/tests/e2e/kubernetes
# The world's own namespaces are the control plane's host, and whoever is outside.
api=192.0.2.1
declare -A pid_of=() address_of=([a]=192.0.2.11 [b]=192.0.2.12)
on() { nsenter --target "${pid_of[$1]}" --net --mount -- "${@:2}"; }

# node NAME: a host on the same Ethernet as the control plane.
node() {
    local folder=$work/node-$1
    mkdir -p "$folder"
    unshare --net --mount --propagation private "$here/kubernetes.sh" node "$folder" &
    pid_of[$1]=$!
    eventually 10 test -e "$folder/ready" &&
        ip link add "to-$1" type veth peer name uplink netns "${pid_of[$1]}" &&
        ip link set "to-$1" master lan0 up &&
        on "$1" ip address add "${address_of[$1]}/24" dev uplink && on "$1" ip link set uplink up &&
        on "$1" ip route add default via "$api"
}
ip link add lan0 type bridge && ip address add "$api/24" dev lan0 && ip link set lan0 up || die "no Ethernet"
node a && node b || die "no nodes"

# ---------------------------------------------------------------- the control plane

kubectl() { timeout 100 kubectl --kubeconfig "$work/kubeconfig" "$@"; }
config() {
    cat <<END
{ "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
  "clusters": [{ "name": "e2e", "cluster": { "server": "https://$api:6443", "insecure-skip-tls-verify": true } }],
  "users": [{ "name": "e2e", "user": { "token": "secret" } }],
  "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }] }
END
}
started() { "${@:2}" >>"$work/$1.log" 2>&1 & }
config >"$work/kubeconfig"
echo 'secret,e2e,e2e,system:masters' >"$work/tokens"
openssl genrsa -out "$work/accounts.key" 2048 2>/dev/null || die "no key for service accounts"
started etcd etcd --data-dir "$work/etcd" --log-level error
started apiserver "$programs/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --cert-dir "$work/certificates" \
    --advertise-address "$api" --service-cluster-ip-range 10.96.0.0/16 --token-auth-file "$work/tokens" \
    --authorization-mode RBAC --allow-privileged --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$work/accounts.key" \
    --service-account-signing-key-file "$work/accounts.key"
step "the API server answers" eventually 60 kubectl get --raw /readyz
started manager "$programs/kube-controller-manager" --kubeconfig "$work/kubeconfig" --leader-elect=false \
    --service-account-private-key-file "$work/accounts.key" --use-service-account-credentials \
    --root-ca-file "$work/certificates/apiserver.crt" --cert-dir "$work/certificates" \
    --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 --node-cidr-mask-size 24
started scheduler "$programs/kube-scheduler" --kubeconfig "$work/kubeconfig" --leader-elect=false \
    --cert-dir "$work/certificates"

# ---------------------------------------------------------------- the nodes

image "$work/busybox.tar" && image "$work/pause.tar" docker.io/library/pause:test '["sleep","2147483647"]' &&
    "$root/dist/node-image.sh" "$work/quantum.tar" docker.io/library/quantum-cni:latest \
        "$bin/quantum-cnid" "$bin/quantumctl" "$plugin" || die "the images cannot be made"

cat >"$work/containerd.toml" <<END
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:test"
  restrict_oom_score_adj = true
END
# What root may not do in many a container, a lower oom_score_adj and one capability, dockerd asks for all the
# same, and runc fails. containerd does not, or has a setting for it.
cat >"$work/runc" <<'END'
#!/bin/bash
for ((i = 1; i < $#; i++)); do
    after=$((i + 1))
    case ${!i} in
    --bundle) file=${!after}/config.json ;;
    --process) file=${!after} ;;
    *) continue ;;
    esac
    sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/; s/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g' "$file"
done
exec runc "$@"
END
chmod +x "$work/runc"
started containerd on a containerd --config "$work/containerd.toml"
started dockerd on b dockerd --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs --iptables=false \
    --bridge none --cgroup-parent "$cgroup_parent/b" --add-runtime "here=$work/runc" --default-runtime here
dock() { on b /usr/bin/docker -H unix:///run/docker.sock "$@"; }
images_are_on_a() {
    local file
    for file in busybox pause quantum; do on a ctr --namespace k8s.io images import "$work/$file.tar" || return; done
}
images_are_on_b() {
    local file
    for file in busybox pause quantum; do dock load -i "$work/$file.tar" || return; done
}
step "containerd has images" eventually 30 images_are_on_a
step "dockerd has images" eventually 30 images_are_on_b

# Of the machine only these are left to a kubelet: its memory and processors, and the groups that it is given.
kubelet_config() { # NODE
    cat <<END
{ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "address": "${address_of[$1]}",
  "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
  "authorization": { "mode": "AlwaysAllow" }, "oomScoreAdj": 0, "failSwapOn": false, "resolvConf": "",
  "cgroupDriver": "cgroupfs", "cgroupRoot": "$cgroup_parent/$1", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
  "evictionHard": { "memory.available": "1Mi" }, "imageGCHighThresholdPercent": 100, "maxPods": 110,
  "syncFrequency": "5s", "volumePluginDir": "/var/lib/kubelet/plugins-by-exec", "eventRecordQPS": 0 }
END
}
cgroups() { # NODE
    local tree group
    for tree in /sys/fs/cgroup/*/; do
        group=$tree$cgroup_parent/$1
        mkdir -p "$group" || return
        [[ $tree != */cpuset/ ]] || (
            cd "$tree" || exit
            for part in ${cgroup_parent//\// } "$1"; do
                cat cpuset.cpus >"$part/cpuset.cpus" && cat cpuset.mems >"$part/cpuset.mems" && cd "$part" || exit
            done
        ) || return
    done
}
kubelet() { # NODE OPTION…
    kubelet_config "$1" >"$work/node-$1/kubelet.json" && cgroups "$1" || return
    started "kubelet-$1" on "$1" "$programs/kubelet" --kubeconfig "$work/kubeconfig" --hostname-override "node-$1" \
        --node-ip "${address_of[$1]}" --config "$work/node-$1/kubelet.json" --cert-dir /var/lib/kubelet/pki "${@:2}"
    started "proxy-$1" on "$1" "$programs/kube-proxy" --kubeconfig "$work/kubeconfig" \
        --hostname-override "node-$1" --proxy-mode iptables --cluster-cidr 10.244.0.0/16 \
        --conntrack-max-per-core 0 --oom-score-adj 0
}
kubelet a --container-runtime remote --container-runtime-endpoint unix:///run/containerd/containerd.sock \
    --image-service-endpoint unix:///run/containerd/containerd.sock &&
    kubelet b --container-runtime docker --docker-endpoint unix:///run/docker.sock \
        --pod-infra-container-image docker.io/library/pause:test \
        --network-plugin=cni --cni-conf-dir=/etc/cni/net.d --cni-bin-dir=/opt/cni/bin ||
    die "the kubelets cannot be started"

is_not_ready() { kubectl describe node "node-$1" | grep -iE 'Ready +False .*(cni|network plugin)'; }
step "node a is known, and has no network yet" eventually 60 is_not_ready a
step "node b is known, and has no network yet" eventually 60 is_not_ready b

# ---------------------------------------------------------------- the network

# The sample as it is, and what it says of the image is true here.
daemonset=$root/config/samples/kubernetes/quantum-cni.yaml
is_ready() { kubectl wait --for=condition=Ready --timeout=5s "node/node-$1"; }
subnet() { kubectl get node "node-$1" -o 'jsonpath={.spec.podCIDR}'; }
# What a cloud's route controller does, or whoever looks after the network: each host knows where pods are.
routes() {
    local one other
    for one in a b; do
        ip route replace "$(subnet "$one")" via "${address_of[$one]}" || return
        for other in a b; do
            [[ $one == "$other" ]] || on "$other" ip route replace "$(subnet "$one")" via "${address_of[$one]}" || return
        done
    done
}
step "the DaemonSet is applied" kubectl apply -f "$daemonset"
step "node a is ready" eventually 60 is_ready a
step "node b is ready" eventually 60 is_ready b
# is_confined NODE: its daemon has no token, and two capabilities, in a filter; what had the token is over.
is_confined() {
    local pod status
    pod=$(kubectl -n kube-system get pods -l app=quantum-cni --field-selector "spec.nodeName=node-$1" -o name) &&
        status=$(kubectl -n kube-system exec "$pod" -c quantum-cnid -- sh -c \
            'cat /proc/1/status; ! ls /var/run/secrets/kubernetes.io 2>/dev/null') || return
    grep -x 'CapBnd:	0000000000201000' <<<"$status" && grep -x 'NoNewPrivs:	1' <<<"$status" &&
        grep -x 'Seccomp:	2' <<<"$status" || { echo "$status"; return 1; }
}
step "the daemon of a has what it needs and no token" eventually 30 is_confined a
step "the daemon of b has what it needs and no token" eventually 30 is_confined b
step "hosts have routes to the pods of others" routes

# ---------------------------------------------------------------- pods

# fetch HOST PORT: what is served there, seen from here.
fetch() {
    timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "GET / HTTP/1.0\r\n\r\n" >&3 && sed "1,/^\r*$/d" <&3' - "$@"
}
export -f fetch # for a shell on another host
says() { # TEXT COMMAND…
    local said
    said=$("${@:2}") && [[ $said == "$1" ]] || { echo "it says: $said"; return 1; }
}
on_fetch() { on "$1" bash -c 'fetch "$@"' - "${@:2}"; }
in_pod() { kubectl exec "$1" -- "${@:2}"; }
pod_fetch() { in_pod "$1" timeout 5 wget -q -O - "http://$2/"; }

# template LABEL [KEY: VALUE…]: a pod that serves its name, which has more keys in its container.
template() {
    cat <<END
    metadata: { labels: { app: $1 } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: docker.io/library/busybox:test
        imagePullPolicy: Never
        command: [sh, -c, "hostname >/www/index.html; exec httpd -f -p 80 -h /www"]
        readinessProbe: { httpGet: { port: 80, path: / }, periodSeconds: 1 }
        $2
END
}
workload() {
    kubectl apply -f - <<END
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: $pods
  strategy: { rollingUpdate: { maxUnavailable: 50%, maxSurge: 50% } }
  selector: { matchLabels: { app: web } }
  template:
$(template web "")
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, ports: [{ port: 80, nodePort: 30080 }] }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: edge }
spec:
  selector: { matchLabels: { app: edge } }
  template:
$(template edge "ports: [{ containerPort: 80, hostPort: 8080 }]")
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: alone }
spec:
  selector: { matchLabels: { app: alone } }
  template:
$(template alone "")
---
apiVersion: v1
kind: Service
metadata: { name: alone }
spec: { selector: { app: alone }, ports: [{ port: 80 }] }
END
}
# list LABEL: a line "NAME ADDRESS NODE" of each pod that does not end.
list() {
    kubectl get pods -l "app=$1" -o 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{.status.podIP}} {{.spec.nodeName}}{{"\n"}}{{end}}{{end}}'
}
name_on() { list "$1" | sed -n "s/ .* node-$2\$//p" | sed -n 1p; }
address_on() { list "$1" | sed -n "s/^[^ ]* \(.*\) node-$2\$/\1/p" | sed -n 1p; }
service() { kubectl get service "$1" -o 'jsonpath={.spec.clusterIP}'; }
rolled_out() { kubectl rollout status --timeout=100s "$1"; }

# Each has an address of its own, of its node's subnet.
addresses_are_right() {
    local all node
    all=$(list web; list edge; list alone)
    (($(wc -l <<<"$all") == pods + 3)) && [[ -z $(cut -d' ' -f2 <<<"$all" | sort | uniq -d) ]] || { echo "$all"; return 1; }
    for node in a b; do
        node_prefix=$(subnet "$node")
        ! grep " node-$node\$" <<<"$all" | grep -vF " ${node_prefix%.0/24}." || return
    done
}
all_answer() { # LABEL
    local name address
    while read -r name address _; do
        says "$name" fetch "$address" 80 || { echo "$name at $address"; return 1; }
    done < <(list "$1")
}
# served COMMAND…: what it says comes from pods of both nodes, if it is asked often enough.
served() {
    local asked said seen=''
    for ((asked = 0; asked < 40; asked++)); do
        said=$("$@") || return
        seen+="$(list web | sed -n "s/^$said .* //p")"
        [[ $seen != *node-a* || $seen != *node-b* ]] || return 0
    done
    echo "all of one node: $seen"
    return 1
}
keeps_its_address() { # what a pod on a sends to one on b
    local from to
    from=$(address_on web a) to=$(address_on web b)
    says "$(name_on web b)" pod_fetch "$(name_on web a)" "$to" &&
        on b conntrack -L -s "$from" -d "$to" 2>/dev/null | grep "src=$from"
}

step "$pods pods of a Deployment, two of a DaemonSet and one alone, and Services for them" workload
step "all of the Deployment are there" rolled_out deployment/web
step "those of the DaemonSet, too" rolled_out daemonset/edge
step "and the one alone" rolled_out deployment/alone
step "each has an address of its own, in its node's subnet" addresses_are_right
step "each answers who has a route" all_answer web
step "a pod on a reaches one on b, which sees its address" keeps_its_address
for one in a b; do
    step "a Service, asked from a pod on $one, is served by both nodes" served pod_fetch "$(name_on web "$one")" "$(service web)"
    step "and from host $one" served on_fetch "$one" "$(service web)" 80
    step "and from outside at the NodePort of $one" served fetch "${address_of[$one]}" 30080
    step "the hostPort at $one" says "$(name_on edge "$one")" fetch "${address_of[$one]}" 8080
done
step "a pod reaches itself by its Service" says "$(list alone | cut -d' ' -f1)" \
    pod_fetch "$(list alone | cut -d' ' -f1)" "$(service alone)"

# ---------------------------------------------------------------- policy

# The daemon of a node, asked in its pod.
ctl() { # NODE WORD…
    local pod
    pod=$(kubectl -n kube-system get pods -l app=quantum-cni --field-selector "spec.nodeName=node-$1" -o name) &&
        kubectl -n kube-system exec "$pod" -- quantumctl "${@:2}"
}
vault() {
    kubectl create namespace vault && kubectl -n vault apply -f - <<END
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: gold }
spec:
  selector: { matchLabels: { app: gold } }
  template:
$(template gold "")
END
}
vault_on() { kubectl -n vault get pods --field-selector "spec.nodeName=node-$1" -o "jsonpath={.items[0].$2}"; }
closed() {
    kubectl -n kube-system create configmap quantum-policy --from-file vault.yaml=/dev/stdin <<END
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: vault }
spec: { podSelector: {}, policyTypes: [Ingress] }
END
}
is_told() { ctl "$1" policy show | grep -F vault/closed; }
explains() { # NODE
    local said # and the status is 1, as it is denied
    said=$(ctl "$1" policy explain "default/$(name_on web "$1")" "vault/$(vault_on "$1" metadata.name)" 80)
    grep -F 'NetworkPolicy vault/closed' <<<"$said"
}
step "another namespace, with a pod on each node" vault
step "both are there" kubectl -n vault rollout status --timeout=100s daemonset/gold
for one in a b; do
    step "a pod on $one reaches that" pod_fetch "$(name_on web "$one")" "$(vault_on "$one" status.podIP)"
done
step "a ConfigMap has a NetworkPolicy that closes the namespace" closed
for one in a b; do
    step "the daemon of $one has it" eventually 90 is_told "$one"
    step "the pod on $one does not reach it any more" fails pod_fetch "$(name_on web "$one")" "$(vault_on "$one" status.podIP)"
    step "and is told why" explains "$one"
done
step "the kubelets' probes still come through" kubectl -n vault rollout status --timeout=20s daemonset/gold
step "the namespace is deleted with all that is in it" kubectl delete namespace vault
step "and the ConfigMap" kubectl -n kube-system delete configmap quantum-policy

# ---------------------------------------------------------------- they come and go

some_are_deleted() { # they are gone when this returns
    list web | sed -n "1,$((pods / 3))s/ .*//p" | xargs timeout 100 /usr/bin/kubectl --kubeconfig "$work/kubeconfig" delete pod
}
daemon_of() { # NODE: its process, which is in a container
    local pid
    for pid in $(pgrep -x quantum-cnid); do
        [[ $(readlink "/proc/$pid/ns/net") != "$(readlink "/proc/${pid_of[$1]}/ns/net")" ]] || { echo "$pid"; return; }
    done
    return 1
}
daemons_are_killed() { kill -KILL "$(daemon_of a)" && kill -KILL "$(daemon_of b)"; }
daemons_are_back() { daemon_of a && daemon_of b && kubectl -n kube-system rollout status --timeout=5s daemonset/quantum-cni; }
all_is_well() { all_answer web && addresses_are_right; }
step "a third of the pods are deleted" some_are_deleted
step "others take their place" rolled_out deployment/web
step "each has an address of its own, and answers" eventually 20 all_is_well

step "the Deployment is rolled out anew" kubectl rollout restart deployment/web
step "both daemons are killed meanwhile" daemons_are_killed
step "the kubelets start them again" eventually 60 daemons_are_back
step "the new pods are there" rolled_out deployment/web
step "each has an address of its own, and answers" eventually 20 all_is_well
step "pods are deleted" some_are_deleted
step "a daemon is killed meanwhile" kill -KILL "$(daemon_of b)"
step "others take their place" rolled_out deployment/web
step "each has an address of its own, and answers" eventually 20 all_is_well

drained() { kubectl drain node-a --ignore-daemonsets --timeout=90s; }
only_on() { # NODE LABEL
    ! list "$2" | grep -v "node-$1\$"
}
attachments() { ctl "$1" status -o json | grep -o '"held": *[0-9]*' | grep -o '[0-9]*$'; }
step "node a is drained" drained
step "all pods of the Deployment are on b" only_on b web
step "and are there" rolled_out deployment/web
step "on a the DaemonSet's pod alone has an address" eventually 20 says 1 attachments a
step "the Service is served" fetch "${address_of[a]}" 30080
step "a may have pods again" kubectl uncordon node-a
step "fewer pods are asked for" kubectl scale deployment/web --replicas 2
step "that is what there is" rolled_out deployment/web
step "and more again" kubectl scale deployment/web --replicas "$pods"
step "they are there" rolled_out deployment/web
step "each has an address of its own, and answers" eventually 20 all_is_well

# ---------------------------------------------------------------- they go

no_pods() { local left; left=$(kubectl get pods -o name) && [[ -z $left ]] || { echo "$left"; return 1; }; }
step "everything is deleted" kubectl delete deployment,daemonset,service --all
step "no pod is stuck" eventually 60 no_pods
for one in a b; do
    step "nothing is left on $one" eventually 60 on "$one" "$here/kubernetes.sh" no_trace
done
