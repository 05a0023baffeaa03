#!/bin/bash
# The demo: what quantum-cni does, told step by step, each step proved. `make demo` builds what is
# needed and runs this.
#
# It happens in network and mount namespaces of its own, with root or without: the machine's links,
# rules and files stay as they are. Everything that is written lies in a file system in memory that
# goes away with these namespaces. The exit status is 0 only if every step held.
#
# QUANTUM_BIN_DIR names a folder with quantum-cnid, quantumctl and quantum-cni; with it, nothing is
# built.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C.UTF-8

# ---------------------------------------------------------------- outside: find the programs, leave

if [[ ${1:-} != --inside ]]; then
    [[ -n ${QUANTUM_BIN_DIR:-} ]] || exec make -C "$root" --no-print-directory demo
    bin=$(cd "$QUANTUM_BIN_DIR" && pwd) || exit 1
    plugin=$bin/../plugin/quantum-cni
    [[ -x $plugin ]] || plugin=$bin/quantum-cni
    for program in "$bin/quantum-cnid" "$bin/quantumctl" "$plugin"; do
        [[ -x $program ]] || { echo "there is no $program: run \`make demo\`" >&2; exit 1; }
    done
    here=$(readlink /proc/self/ns/net)
    reasons=''
    for private in "unshare --net --mount" "unshare --user --map-root-user --net --mount"; do
        if why=$($private true 2>&1); then
            exec $private "${BASH_SOURCE[0]}" --inside "$here" "$bin" "$plugin"
        fi
        reasons+="  $why"$'\n'
    done
    cat >&2 <<END
The demo needs namespaces of its own, and they are not allowed here:
${reasons%$'\n'}
Run it as root, in a container with --privileged, or where users may make namespaces
(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0).
END
    exit 1
fi

# ------------------------------------------------------------------------------------------- inside

[[ $2 != "$(readlink /proc/self/ns/net)" ]] || { echo "this is the machine's own namespace" >&2; exit 1; }
bin=$3
plugin=$4
work=/run/demo
# The daemon uses no folder that others can write to.
umask 022
bridge_conf=$root/config/samples/net.d/10-quantum-bridge.conf
http_port=9641

bold='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

step_number=0
step() { printf '\n%s%d. %s%s\n' "$bold" $((++step_number)) "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
show() { sed 's/^/     | /'; }

# check SENTENCE COMMAND…: the sentence is true if the command succeeds. If it does not, the demo
# ends here, with what the command said.
check() {
    local sentence=$1 said
    shift
    if said=$("$@" 2>&1); then
        printf '   %s✓%s %s\n' "$green" "$plain" "$sentence"
    else
        fail "$sentence" "${said:-$*}"
    fi
}

fail() {
    printf '   %s✗ %s%s\n' "$red" "$1" "$plain"
    [[ -z ${2:-} ]] || show <<<"$2"
    if [[ -s $work/log ]]; then
        say "The daemon's log ends with:"
        tail -n 5 "$work/log" | cut -c -400 | show
    fi
    printf '\n%sThe demo ended at step %d: this did not hold.%s\n' "$red" "$step_number" "$plain"
    exit 1
}

daemon='' pinger='' shopkeeper=''
finish() {
    local status=$?
    for pid in $pinger $shopkeeper $daemon; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

inside() { nsenter --net="/run/netns/$1" -- "${@:2}"; } # inside NAMESPACE COMMAND…
not() { ! "$@"; }
contains() { [[ $1 == *"$2"* ]] || { printf '%s\n' "$1"; return 1; }; } # contains TEXT PART
pings() { inside "$1" ping -q -n -c 2 -i 0.1 -W 2 "$2"; } # pings FROM ADDRESS

# cni COMMAND CONTAINER INTERFACE CONFIGURATION: what a runtime does: variables, standard input.
cni() {
    CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=$3 \
        CNI_PATH=$(dirname "$plugin") "$plugin" <<<"$4"
}
add() { result[$1.$2]=$(cni ADD "$1" "$2" "$3") || { echo "${result[$1.$2]}"; return 1; }; }
with_result() { printf '%s,"prevResult":%s}' "${1%\}*}" "$2"; } # with_result CONFIGURATION RESULT
address() { sed -n 's/.*"address": *"\([0-9.]*\)\/.*/\1/p' <<<"$1" | head -n 1; }

http() { # http PATH: the daemon's page
    exec 3<>"/dev/tcp/127.0.0.1/$http_port" || return
    printf 'GET %s HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
    exec 3>&-
} 2>/dev/null

start_daemon() {
    # Should this script be killed, the kernel kills the daemon.
    setpriv --pdeathsig KILL "$bin/quantum-cnid" --log-format json --http-listen "127.0.0.1:$http_port" \
        --socket-path "$QUANTUM_CNI_SOCKET" --config-dir "$work/net.d" \
        --state-dir "$work/state" --spool-dir "$QUANTUM_CNI_SPOOL_DIR" 2>>"$work/log" &
    daemon=$!
}

is_ready() { # within ten seconds
    local page='' _
    for _ in {1..200}; do
        page=$(http /readyz)
        [[ $page == *'"ready":true'* ]] && return
        kill -0 "$daemon" 2>/dev/null || { echo "the daemon ended"; return 1; }
        sleep 0.05
    done
    echo "$page"
    return 1
}

# Breaks a JSON document into lines, for people.
pretty() {
    awk '{ doc = doc $0 } END {
        for (i = 1; i <= length(doc); i++) {
            c = substr(doc, i, 1)
            if (text) { out = out c; if (c == "\\") out = out substr(doc, ++i, 1); else if (c == "\"") text = 0 }
            else if (c == "\"") { text = 1; out = out c }
            else if (c ~ /[{[]/) { if (depth++ < 2) { out = out c; line() } else out = out c }
            else if (c ~ /[]}]/) { if (--depth < 2) line(); out = out c }
            else if (c == ",") { out = out c; if (depth <= 2) line(); else out = out " " }
            else if (c == ":") out = out ": "
            else if (c !~ /[ \t]/) out = out c
        }
        print out
    }
    function line() { print out; out = sprintf("%*s", 2 * depth, "") }'
}

# ---------------------------------------------------------------------------------------- the story

mount -t tmpfs -o mode=755 demo /run || exit 1
mkdir -p "$work/net.d" "$work/state" "$work/spool" /run/netns
export QUANTUM_CNI_SOCKET=$work/cni.sock QUANTUM_CNI_SPOOL_DIR=$work/spool
cp "$bridge_conf" "$work/net.d/"
bridge_net=$(<"$bridge_conf")
tiny_net='{ "cniVersion": "1.0.0", "name": "tiny", "type": "quantum-cni", "bridge": "quantum1",
            "ipam": { "type": "host-local", "subnet": "10.99.0.0/30" } }'
guest_net='{ "cniVersion": "1.0.0", "name": "guests", "type": "quantum-cni", "bridge": "quantum2",
             "isGateway": true, "ipMasq": true,
             "ipam": { "type": "host-local", "subnet": "10.98.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }] } }'
declare -A result

printf '%squantum-cni: a demo%s\n' "$bold" "$plain"
say "A runtime starts containers. Each needs an interface, an address, a way out, and must leave"
say "nothing behind when it goes. That is what a CNI plugin is asked for. This is ours at work."

step "A small world"
say "All of this happens in a network namespace of its own; we call it the host. A second one,"
say "\"outside\", is the rest of the world: it knows the host's address and nothing behind it."
ip link set lo up
ip netns add outside
ip link add uplink type veth peer name uplink netns outside
ip address add 192.0.2.1/24 dev uplink
ip link set uplink up
inside outside ip address add 192.0.2.2/24 dev uplink
inside outside ip link set uplink up
inside outside ip link set lo up
check "The host reaches the outside at 192.0.2.2." ping -q -c 1 -W 2 192.0.2.2
check "The outside has no route to the containers' network 172.20.0.0/16." \
    not inside outside ip route get 172.20.0.2

step "The daemon starts"
say "quantum-cnid holds the state: networks, addresses, attachments. The plugin only asks it."
start_daemon
check "It is ready for containers: /readyz says so." is_ready

step "Three containers are attached"
say "A container is a network namespace to us. A runtime execs the plugin for each, like this:"
show <<END
CNI_COMMAND=ADD CNI_CONTAINERID=web CNI_NETNS=/run/netns/web CNI_IFNAME=eth0 \\
  quantum-cni < ${bridge_conf#"$root"/}
END
containers=(web db client)
for name in "${containers[@]}"; do ip netns add "$name"; done
begun=${EPOCHREALTIME/./}
for name in "${containers[@]}"; do
    add "$name" eth0 "$bridge_net" || fail "ADD of $name succeeds." "${result[$name.eth0]}"
done
took=$(((${EPOCHREALTIME/./} - begun) / 1000))
say "Three ADDs took $took ms, the first of which made the bridge. What the first one answered:"
pretty <<<"${result[web.eth0]}" | show
web=$(address "${result[web.eth0]}") db=$(address "${result[db.eth0]}")
client=$(address "${result[client.eth0]}")
check "Each has an address of its own: $web, $db, $client." \
    test "$(printf '%s\n' "$web" "$db" "$client" | grep -c . )$(printf '%s\n' "$web" "$db" "$client" | sort -u | wc -l)" = 33

step "They have a network"
each_other() { pings web "$db" && pings db "$client" && pings client "$web"; }
check "web reaches its gateway, the bridge at 172.20.0.1." pings web 172.20.0.1
check "web reaches db, db reaches client, client reaches web." \
    each_other
check "client reaches the outside. Since that has no route back, the answer proves masquerade." \
    pings client 192.0.2.2

step "What it is made of"
say "The host's ends of the three cables are ports of the bridge quantum0, hairpin mode on:"
ports=$(bridge -d link show | grep -A 1 'master quantum0')
sed -n 's/^[0-9]*: \([^@:]*\).*/\1/p; s/.*\(hairpin [a-z]*\).*/\1/p' <<<"$ports" | paste -d ' ' - - | show
check "There are three ports, each with hairpin mode on." \
    test "$(grep -c 'hairpin on' <<<"$ports")" = 3
say "Their addresses are in the nftables set masq4, which decides who is masqueraded:"
masquerade=$(nft list set inet quantum masq4)
show <<<"$(tr -s ' \t\n' ' ' <<<"$masquerade" | sed -n 's/.*elements = \({[^}]*}\).*/masq4 = \1/p')"
for ip in "$web" "$db" "$client"; do
    contains "$masquerade" "$ip" >/dev/null || fail "$ip is in the set." "$masquerade"
done
check "All three addresses are in it." true

step "What an operator sees"
say "quantumctl status:"
status=$("$bin/quantumctl" status) || fail "quantumctl status succeeds." "$status"
show <<<"$status"
check "It knows the network." contains "$status" quantum-bridge
say "A few of the metrics at /metrics:"
metrics=$(http /metrics | tr -d '\r')
grep -E '^cni_(operations_total.*(ADD|DEL)|cache_hits_total|operation_duration_seconds_(sum|count).*ADD)' \
    <<<"$metrics" | show
check "Three ADDs were counted." contains "$metrics" 'cni_operations_total{command="ADD"} 3'
say "And one record of the log:"
record=$(grep '"command":"ADD"' "$work/log" | grep -F "\"ip_address\":\"$web\"" | head -n 1)
show <<<"$record"
has_fields() {
    local field
    for field in container_id network_name command interface ip_address; do
        contains "$record" "\"$field\":" || return
    done
}
check "It names container, network, command, interface and address." has_fields

step "The daemon is killed"
say "kill -9, in the middle of a conversation between two containers; then it is started again."
nsenter --net=/run/netns/client -- ping -q -n -i 0.1 -c 25 -W 2 "$web" >"$work/ping" 2>&1 &
pinger=$!
sleep 0.5
disown "$daemon" # or bash would report its end
kill -KILL "$daemon"
while kill -0 "$daemon" 2>/dev/null; do sleep 0.02; done
without_daemon() { not kill -0 "$daemon" && pings db "$client" && pings db 192.0.2.2; }
check "Without a daemon, db still reaches client, and the outside." without_daemon
start_daemon
check "The new one is ready." is_ready
wait "$pinger"
pinger=''
check "The conversation did not lose one of its 25 packets." contains "$(<"$work/ping")" " 25 received"
known() {
    local name
    for name in "${containers[@]}"; do
        cni CHECK "$name" eth0 "$(with_result "$bridge_net" "${result[$name.eth0]}")" || return
    done
}
check "The new daemon knows all three: CHECK compares its records with the kernel." known

step "Networks are apart, and ports lead in"
say "shop is a container of quantum-bridge too, with a port published: 8080 of the host is its port 80."
say "guest is in another network, \"guests\". Neither network's configuration speaks of a firewall."
ports='"runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] }'
shop_net="${bridge_net%\}*}, $ports }"
ip netns add shop
ip netns add guest
add shop eth0 "$shop_net" || fail "ADD of shop succeeds." "${result[shop.eth0]}"
add guest eth0 "$guest_net" || fail "ADD of guest succeeds." "${result[guest.eth0]}"
nsenter --net=/run/netns/shop -- perl -MIO::Socket::INET -e '
    my $door = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die "no door: $!";
    print "open\n"; $| = 1; while (my $guest = $door->accept) { print $guest "good day\n"; close $guest }' \
    >"$work/shop" 2>&1 &
shopkeeper=$!
visits() { inside "$1" timeout 3 bash -c "read -r line <'/dev/tcp/$2/8080' && [[ \$line == 'good day' ]]"; }
until_visited() { local _; for _ in {1..40}; do visits "$@" 2>/dev/null && return; sleep 0.05; done; visits "$@"; }
check "The outside comes to shop by the host's port 8080." until_visited outside 192.0.2.1
check "So does guest, from its own network." until_visited guest 192.0.2.1
apart() { not pings guest "$db" && not pings guest 172.20.0.1; }
check "guest does not reach db at $db, nor the gateway of db's network." apart
answer=$(cni ADD client eth2 "$shop_net") && fail "A second container cannot have the port." "$answer"
say "Another container asks for the same port. Before anything is made it is told whose it is:"
pretty <<<"$answer" | show
check "The answer names shop." contains "$answer" "container shop"
kill "$shopkeeper"
wait "$shopkeeper" 2>/dev/null
shopkeeper=''

step "A policy says who may speak to whom"
say "A NetworkPolicy, as it is written for Kubernetes: to db comes who is labelled role=front, nobody else."
cat >"$work/db.yaml" <<END
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db-only }
spec:
  podSelector: { matchLabels: { role: db } }
  ingress: [{ from: [{ podSelector: { matchLabels: { role: front } } }] }]
END
show <"$work/db.yaml"
ctl() { "$bin/quantumctl" policy "$@"; }
labelled() { ctl label default/db role=db && ctl label default/client role=front; }
check "db and client are labelled." labelled
check "client reaches db, and so does web: nothing forbids it yet." eval 'pings client "$db" && pings web "$db"'
check "The policy is applied." ctl apply "$work/db.yaml"
check "web does not reach db any more." not pings web "$db"
check "client does." pings client "$db"
say "Why not web? quantumctl policy explain default/web default/db 5432 says:"
why=$(ctl explain default/web default/db 5432) && fail "It is denied." "$why"
show <<<"$why"
check "It names the policy." contains "$why" db-only
check "Without the policy web reaches db again." \
    eval 'ctl delete NetworkPolicy default/db-only >/dev/null && pings web "$db"'

step "Something impossible is asked for"
say "The network \"tiny\" is a /30: its gateway takes one address, so one is left. Two want it."
add client eth1 "$tiny_net" || fail "client gets the one address." "${result[client.eth1]}"
check "client gets the one address: $(address "${result[client.eth1]}")." true
answer=$(cni ADD db eth1 "$tiny_net") && fail "db is refused." "$answer"
say "db is told what is wrong, in the form that every runtime understands:"
pretty <<<"$answer" | show
check "The error has code 7." contains "${answer//[[:space:]]/}" '"code":7'
check "Nothing was made by halves: db has no eth1." not inside db ip link show eth1

step "The containers go"
ip netns delete web
check "web: its namespace is gone already. DEL succeeds all the same." cni DEL web eth0 "$bridge_net"
check "db: DEL succeeds." cni DEL db eth0 "$bridge_net"
check "db: a second DEL succeeds too, as runtimes expect." cni DEL db eth0 "$bridge_net"
others() { cni DEL shop eth0 "$shop_net" && cni DEL guest eth0 "$guest_net"; }
check "shop and guest: DEL succeeds." others
both() { cni DEL client eth0 "$bridge_net" && cni DEL client eth1 "$tiny_net"; }
check "client: DEL of both interfaces succeeds." both
check "client's namespace is there and has only its loopback." \
    test "$(inside client ip -o link | wc -l)" = 1

step "Nothing is left"
check "No interface of ours but the three bridges." \
    test -z "$(ip -o link | grep -Ev ': (lo|uplink@[^:]*|quantum[012]):')"
check "No port on any bridge." test -z "$(bridge link show)"
no_elements() {
    local set
    for set in home4 masq4 hair4; do not grep elements <<<"$(nft list set inet quantum "$set")" || return; done
    not grep elements <<<"$(nft list map inet quantum port4)" && not grep '"qc[^*]' <<<"$(nft list ruleset)"
}
check "No container in any nftables set, and no port." no_elements
held=$("$bin/quantumctl" status -o json | grep -o '"held": *[0-9]*' | sort -u)
check "No address is leased: quantumctl counts $held for all networks." \
    test "${held//[[:space:]]/}" = '"held":0'
kill -TERM "$daemon"
wait "$daemon"
ended=$?
daemon=''
check "The daemon ends in peace." test "$ended" = 0

printf '\n%sEverything held.%s The namespaces of the demo go now, and the machine is as it was.\n' \
    "$green" "$plain"
