#!/usr/bin/python3
"""A client of the CRI, the interface by which a kubelet speaks to a runtime, for the stories of `make e2e`.

    cri.py SOCKET run NAME... [option=value]...     makes pods, all at once: a line "NAME ID ADDRESS" for each
    cri.py SOCKET start ID NAME COMMAND...          starts a container in a pod, prints its id
    cri.py SOCKET exec ID COMMAND...                runs a command in a container
    cri.py SOCKET status ID...                      prints "STATE ADDRESS..." of pods
    cri.py SOCKET result ID                         prints what the runtime keeps of CNI's result, in JSON
    cri.py SOCKET list                              prints the ids of all pods
    cri.py SOCKET stop|remove ID...                 stops or removes pods, all at once
    cri.py SOCKET delete ID                         removes a container, running or not
    cri.py SOCKET ready                             succeeds if the runtime and its network are ready

Options of `run`: port=HOST:CONTAINER[/PROTOCOL], annotation=KEY=VALUE, dns=SERVER, search=DOMAIN, each as
often as wanted. CRI_CGROUP names the parent of their control groups.

Nothing is generated and nothing fetched: the messages are told to protobuf as a table, with the fields
that are used. Their numbers are those of runtime.v1.
"""

import concurrent.futures
import json
import os
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: field=number:type, where * is "repeated" and Pair an entry of a map.
MESSAGES = """
Pair: key=1:string value=2:string
PodMetadata: name=1:string uid=2:string namespace=3:string attempt=4:uint32
Dns: servers=1:*string searches=2:*string options=3:*string
Port: protocol=1:int32 container_port=2:int32 host_port=3:int32 host_ip=4:string
LinuxPod: cgroup_parent=1:string
Pod: metadata=1:PodMetadata hostname=2:string log_directory=3:string dns_config=4:Dns port_mappings=5:*Port \
 labels=6:*Pair annotations=7:*Pair linux=8:LinuxPod
RunPodSandboxRequest: config=1:Pod runtime_handler=2:string
RunPodSandboxResponse: pod_sandbox_id=1:string
StopPodSandboxRequest: pod_sandbox_id=1:string
StopPodSandboxResponse:
RemovePodSandboxRequest: pod_sandbox_id=1:string
RemovePodSandboxResponse:
PodSandboxStatusRequest: pod_sandbox_id=1:string verbose=2:bool
PodIp: ip=1:string
Network: ip=1:string additional_ips=2:*PodIp
PodStatus: id=1:string metadata=2:PodMetadata state=3:int32 created_at=4:int64 network=5:Network
PodSandboxStatusResponse: status=1:PodStatus info=2:*Pair
ListPodSandboxRequest:
ListedPod: id=1:string metadata=2:PodMetadata state=3:int32
ListPodSandboxResponse: items=1:*ListedPod
ContainerMetadata: name=1:string attempt=2:uint32
Image: image=1:string
Container: metadata=1:ContainerMetadata image=2:Image command=3:*string args=4:*string
CreateContainerRequest: pod_sandbox_id=1:string config=2:Container sandbox_config=3:Pod
CreateContainerResponse: container_id=1:string
StartContainerRequest: container_id=1:string
StartContainerResponse:
RemoveContainerRequest: container_id=1:string
RemoveContainerResponse:
ExecSyncRequest: container_id=1:string cmd=2:*string timeout=3:int64
ExecSyncResponse: stdout=1:bytes stderr=2:bytes exit_code=3:int32
StatusRequest:
Condition: type=1:string status=2:bool reason=3:string message=4:string
RuntimeStatus: conditions=1:*Condition
StatusResponse: status=1:RuntimeStatus
"""

CGROUP = os.environ.get("CRI_CGROUP", "")
IMAGE = "docker.io/library/busybox:test"
PATIENCE = 120  # seconds a call may take, on a machine that is busy
PROTOCOLS = {"tcp": 0, "udp": 1, "sctp": 2}


def messages():
    """The classes of all messages, by name."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cri", package="cri", syntax="proto3")
    for line in MESSAGES.strip().splitlines():
        name, fields = line.split(":", 1)
        message = file.message_type.add(name=name)
        for one in fields.split():
            called, rest = one.split("=")
            number, kind = rest.split(":")
            label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            added = message.field.add(name=called, number=int(number), label=label)
            kind = kind.lstrip("*")
            if kind[0].isupper():
                added.type, added.type_name = field.TYPE_MESSAGE, f".cri.{kind}"
            else:
                added.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {m.name: factory.GetPrototype(pool.FindMessageTypeByName(f"cri.{m.name}")) for m in file.message_type}


class Runtime:
    """A runtime, asked by the names of the CRI's methods."""

    def __init__(self, socket):
        self.messages = messages()
        self.channel = grpc.insecure_channel(f"unix://{socket}")

    def ask(self, method, **fields):
        call = self.channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self.messages[f"{method}Response"].FromString,
        )
        return call(self.messages[f"{method}Request"](**fields), timeout=PATIENCE)

    def run(self, name, options):
        pod = {"metadata": {"name": name, "uid": f"uid-{name}", "namespace": "e2e"}, "hostname": name}
        pod["linux"] = {"cgroup_parent": CGROUP}
        for key, value in options:
            if key == "port":
                ports, _, protocol = value.partition("/")
                host, container = map(int, ports.split(":"))
                mapping = {"host_port": host, "container_port": container, "protocol": PROTOCOLS[protocol or "tcp"]}
                pod.setdefault("port_mappings", []).append(mapping)
            elif key == "annotation":
                key, _, value = value.partition("=")
                pod.setdefault("annotations", []).append({"key": key, "value": value})
            elif key in ("dns", "search"):
                key = {"dns": "servers", "search": "searches"}[key]
                pod.setdefault("dns_config", {}).setdefault(key, []).append(value)
            else:
                raise SystemExit(f"{key} is no option of run")
        found = self.ask("RunPodSandbox", config=pod).pod_sandbox_id
        return f"{name} {found} {self.status(found).network.ip}"

    def status(self, pod):
        return self.ask("PodSandboxStatus", pod_sandbox_id=pod).status

    def start(self, pod, name, command):
        metadata = self.status(pod).metadata
        kept = {key: getattr(metadata, key) for key in ("name", "uid", "namespace")}
        container = {"metadata": {"name": name}, "image": {"image": IMAGE}, "command": command}
        around = {"metadata": kept, "linux": {"cgroup_parent": CGROUP}}
        made = self.ask("CreateContainer", pod_sandbox_id=pod, config=container, sandbox_config=around)
        self.ask("StartContainer", container_id=made.container_id)
        return made.container_id

    def result(self, pod):
        info = self.ask("PodSandboxStatus", pod_sandbox_id=pod, verbose=True).info
        return json.dumps(json.loads({one.key: one.value for one in info}["info"])["cniResult"])

    def not_ready(self):
        conditions = self.ask("Status").status.conditions
        return [f"{one.type}: {one.reason}: {one.message}" for one in conditions if not one.status]


def at_once(work, items):
    """Does the work for all items at the same time. Prints each answer, and fails if one failed."""
    failed = False
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(items) or 1) as pool:
        for item, done in [(item, pool.submit(work, item)) for item in items]:
            try:
                if (answer := done.result()) is not None:
                    print(answer, flush=True)
            except grpc.RpcError as error:
                failed = True
                print(f"{item}: {error.code().name}: {error.details()}", file=sys.stderr)
    return 1 if failed else 0


def main(socket, verb, *words):
    runtime = Runtime(socket)
    if verb == "run":
        options = [tuple(word.split("=", 1)) for word in words if "=" in word]
        return at_once(lambda name: runtime.run(name, options), [word for word in words if "=" not in word])
    if verb == "status":
        states = ("ready", "notready")
        addresses = lambda network: [network.ip] + [one.ip for one in network.additional_ips]
        describe = lambda found: " ".join([states[found.state], *addresses(found.network)])
        return at_once(lambda pod: describe(runtime.status(pod)), words)
    if verb in ("stop", "remove"):
        method = {"stop": "StopPodSandbox", "remove": "RemovePodSandbox"}[verb]

        def end(pod):
            runtime.ask(method, pod_sandbox_id=pod)

        return at_once(end, words)
    if verb == "exec":
        said = runtime.ask("ExecSync", container_id=words[0], cmd=words[1:], timeout=PATIENCE)
        sys.stdout.buffer.write(said.stdout)
        sys.stderr.buffer.write(said.stderr)
        return said.exit_code
    if verb == "ready":
        for reason in (reasons := runtime.not_ready()):
            print(reason)
        return 1 if reasons else 0
    if verb == "list":
        for pod in runtime.ask("ListPodSandbox").items:
            print(pod.id)
    elif verb == "start":
        print(runtime.start(words[0], words[1], words[2:]))
    elif verb == "result":
        print(runtime.result(words[0]))
    elif verb == "delete":
        runtime.ask("RemoveContainer", container_id=words[0])
    else:
        raise SystemExit(f"{verb} is not known")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except grpc.RpcError as error:
        sys.exit(f"{' '.join(sys.argv[2:])}: {error.code().name}: {error.details()}")
