"""Pods as the place of programs: their manifests, and the compute contract on a kubelet of our own that runs pods as processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute import Bind, Compute, Exit, Process, ProcessSpec
from pilvi.compute.kubernetes import KubernetesCompute, Place, end_of, group_of, pod_manifest, service_manifest, why_pending
from pilvi.compute.machine import own_address
from pilvi.compute.process import ProcessCompute
from pilvi.core.errors import Invalid, NotFound, Unavailable
from pilvi.testing.contracts import compute as promises
from pilvi.testing.contracts.compute import CONTRACT, Heard, run, shell


class Kubelet:
    """A cluster of one: pods are processes of this machine, made from their manifests and nothing else."""

    def __init__(self, pending: Sequence[Mapping[str, Any]] = ()) -> None:
        self._compute = ProcessCompute()
        self.pending = list(pending)
        self.made: dict[str, Mapping[str, Any]] = {}
        self.services: list[str] = []
        self._lines: dict[str, list[bytes]] = {}
        self._processes: dict[str, Process] = {}
        self._news = threading.Condition()

    def create(self, manifest: Mapping[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Service":
            self.services.append(name)
            return
        self.made[name] = manifest
        self._lines[name] = []
        self._processes[name] = self._compute.launch(process_of(manifest), lambda line: self._hear(name, line))

    def _hear(self, name: str, line: str) -> None:
        with self._news:
            self._lines[name].append(f"{line}\n".encode())
            self._news.notify_all()

    def pod(self, name: str) -> Mapping[str, Any]:
        if self.pending:
            return {"status": self.pending.pop(0)}
        if name not in self._processes:
            raise NotFound(name)
        ended = self._processes[name].poll()
        if ended is None:
            return {"status": {"phase": "Running"}}
        code = 128 - ended.code if ended.code < 0 else ended.code
        reason = "OOMKilled" if ended.reason == "memory" else "Completed" if code == 0 else "Error"
        return {
            "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": code, "reason": reason}}}]}
        }

    def pods(self, selector: str) -> Sequence[str]:
        return [name for name, pod in self.made.items() if f"pilvi/server={pod['metadata']['labels']['pilvi/server']}" == selector]

    def delete(self, kind: str, name: str, grace_s: int) -> None:
        if kind == "Service":
            self.services.remove(name)
            return
        if name not in self._processes:
            raise NotFound(name)
        if grace_s:
            self._processes[name].stop(grace_s)
        else:
            self._processes[name].kill()

    def log(self, name: str) -> Iterator[bytes]:
        seen = 0
        while True:
            ended = self._processes[name].poll() is not None
            with self._news:
                lines = self._lines[name][seen:]
                if not lines and not ended:
                    self._news.wait(0.05)
            seen += len(lines)
            yield from lines
            if ended and not lines:
                return

    def close(self) -> None:
        self._compute.close()


def process_of(manifest: Mapping[str, Any]) -> ProcessSpec:
    """What a kubelet makes of a pod."""
    (container,) = manifest["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in manifest["spec"]["volumes"]}
    binds = [
        Bind(Path(volumes[mount["name"]]["hostPath"]["path"]), mount["mountPath"], not mount["readOnly"])
        for mount in container["volumeMounts"]
        if "hostPath" in volumes[mount["name"]]
    ]
    limits = container["resources"]["limits"]
    return ProcessSpec(
        tuple(container["command"]),
        {entry["name"]: entry["value"] for entry in container["env"]},
        tuple(binds),
        cwd=container["workingDir"],
        hostname=manifest["spec"]["hostname"],
        memory_mib=int(limits["memory"].removesuffix("Mi")) if "memory" in limits else None,
        cpus=int(limits["cpu"]) if "cpu" in limits else None,
    )


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    made = Kubelet()
    yield made
    made.close()


@pytest.fixture
def compute(kubelet: Kubelet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    made = KubernetesCompute(kubelet, Place(), tmp_path_factory.mktemp("server"))
    yield made
    made.close()


NOT_HERE = {
    promises.memory_used_is_told: "the API does not tell it",
    promises.too_much_memory_ends_it: "asks for the peak; shown below without",
    promises.overlong_lines_are_cut_but_nothing_is_lost: "a container runtime cuts lines in its own way",
    promises.invalid_utf8_is_replaced: "the kubelet here has replaced it before",
    promises.nothing_is_inherited: "a pod's shell and the cluster have variables of their own",
    promises.close_ends_everything: "looks at this machine's processes at once; shown below",
    promises.exit_codes_and_signals_are_told: "a pod tells a signal as a shell does: SIGKILL and too little memory look alike; shown below",
    promises.stop_insists_after_the_grace: "expects a signal's number; shown below",
}
"""Promises that a cluster keeps in another way, and where that is shown."""


@pytest.mark.parametrize("promise", [one for one in CONTRACT if one not in NOT_HERE], ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    if compute.isolation == "none":
        pytest.skip("no namespaces here")
    promise(compute, tmp_path)


def test_exit_codes_and_signals_are_told(compute: Compute) -> None:
    assert run(compute, shell("exit 3"))[0] == Exit(3)
    assert run(compute, shell("kill -SEGV $$"))[0] == Exit(-11)


def test_too_much_memory_is_told(compute: Compute) -> None:
    hungry = promises.python("kept = []\nwhile True: kept.append(bytearray(b'x' * (8 << 20)))")
    assert run(compute, replace(hungry, memory_mib=128))[0].reason == "memory"


def test_stopped_pods_get_their_grace_and_are_told_so(compute: Compute) -> None:
    heard = Heard()
    process = compute.launch(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"), heard)
    heard.wait_for("ready")
    process.stop(0.1)
    ended = process.wait(30)
    assert ended is not None
    assert ended.reason == "stopped"


def test_close_ends_all_pods(compute: Compute) -> None:
    heard = Heard()
    process = compute.launch(shell("echo ready; sleep 600"), heard)
    heard.wait_for("ready")
    compute.close()
    assert process.poll() is not None
    with pytest.raises(Unavailable):
        compute.launch(shell("true"), Heard())


def test_pods_of_an_earlier_server_are_ended_at_the_start(kubelet: Kubelet, tmp_path: Path) -> None:
    before = KubernetesCompute(kubelet, Place(), tmp_path)
    process = before.launch(shell("sleep 600"), Heard())
    other = KubernetesCompute(kubelet, Place(), tmp_path / "other")
    running = other.launch(shell("sleep 600"), Heard())
    again = KubernetesCompute(kubelet, Place(), tmp_path)
    assert process.wait(30) is not None
    assert running.poll() is None
    for made in (before, other, again):
        made.close()


def test_a_pod_that_hears_nothing_of_its_server_ends(kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.compute import kubernetes

    monkeypatch.setattr(kubernetes, "_LIFE", kubernetes._LIFE.replace("sleep 20", "sleep 0.1"))
    made = KubernetesCompute(kubelet, Place(), tmp_path)
    heard = Heard()
    process = made.launch(shell("echo ready; sleep 600"), heard)
    heard.wait_for("ready")
    (tmp_path / "alive" / "alive").unlink()
    assert process.wait(30) == Exit(-9)
    made.close()


def test_why_a_pod_waits_is_said_once(tmp_path: Path) -> None:
    full = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}
        ],
    }
    kubelet = Kubelet([full, full])
    made = KubernetesCompute(kubelet, Place(), tmp_path)
    assert run(made, shell("echo on"))[1] == [
        "Waiting for the cluster: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "on",
    ]
    made.close()
    kubelet.close()
    assert why_pending({}) == ""


def test_an_image_that_is_not_there_ends_it(tmp_path: Path) -> None:
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    kubelet = Kubelet([{"phase": "Pending", "containerStatuses": [{"state": state}]}] * 2)
    made = KubernetesCompute(kubelet, Place(), tmp_path)
    ended, lines = run(made, shell("echo on"))
    assert ended == Exit(1, "lost")
    assert lines == ["The pod cannot start: ErrImagePull: not found"]
    made.close()
    kubelet.close()


def test_a_pod_without_its_node_is_lost() -> None:
    assert end_of({"phase": "Failed", "reason": "Evicted"}) == Exit(-9, "lost")
    assert end_of({"phase": "Running"}) is None


SPEC = ProcessSpec(
    ("train", "--now"),
    {"A": "1"},
    (
        Bind(Path("/data/jobs/x/root"), "/opt/ml", True),
        Bind(Path("/data/jobs/x/in"), "/opt/ml/in"),
        Bind(Path("/srv/run"), "/srv/run"),
    ),
    cwd="/opt/ml",
    hostname="algo-1",
    memory_mib=8192,
    cpus=2,
    gpus=("0", "1"),
)


def test_manifest_asks_for_what_the_program_needs() -> None:
    pod = pod_manifest("p", SPEC, Place("ml", "img", "data-claim", {"pool": "gpu"}), Path("/data"), "me")
    (container,) = pod["spec"]["containers"]
    wish = {"cpu": "2", "memory": "8192Mi", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": wish, "limits": wish}
    assert container["command"][-2:] == ["train", "--now"]
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pod["metadata"]["namespace"] == "ml"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-claim"}} in pod["spec"]["volumes"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/opt/ml"] == {"mountPath": "/opt/ml", "readOnly": False, "name": "data", "subPath": "jobs/x/root"}
    assert mounts["/opt/ml/in"]["readOnly"]
    assert mounts["/srv/run"]["name"].startswith("host-")
    assert [mount for mount in mounts if mount.startswith("/opt/ml")] == ["/opt/ml", "/opt/ml/in"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_hosts_of_a_job_find_each_other_by_a_service(compute: KubernetesCompute, kubelet: Kubelet) -> None:
    hosts = {"algo-1": "127.0.0.2", "algo-2": "127.0.0.3"}
    pod = pod_manifest("p", replace(SPEC, hosts=hosts), Place("ml"), Path("/data"), "me")
    group = group_of(replace(SPEC, hosts=hosts))
    assert pod["spec"]["subdomain"] == group
    assert pod["spec"]["dnsConfig"]["searches"] == [f"{group}.ml.svc.cluster.local"]
    assert "hostAliases" not in pod["spec"]
    assert service_manifest(group, Place("ml"), "me")["spec"]["selector"] == {"pilvi/group": group}
    heard = Heard()
    first = compute.launch(replace(shell("echo on; read x < /tmp/never"), hosts=hosts, hostname="algo-1"), heard)
    second = compute.launch(replace(shell("sleep 600"), hosts=hosts, hostname="algo-2"), heard)
    assert kubelet.services == [group]
    first.kill()
    second.kill()
    deadline = time.monotonic() + 30
    while kubelet.services and time.monotonic() < deadline:
        time.sleep(0.02)
    assert kubelet.services == []


def test_pods_are_led_to_the_server() -> None:
    spec = replace(SPEC, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"})
    pod = pod_manifest("p", spec, Place(server="10.0.0.5"), Path("/data"), "me")
    assert pod["spec"]["containers"][0]["env"] == [{"name": "AWS_ENDPOINT_URL", "value": "http://10.0.0.5:4566"}]


def test_what_a_pod_cannot_give_is_refused() -> None:
    with pytest.raises(Unavailable, match="network isolation"):
        pod_manifest("p", replace(SPEC, network=False), Place(), Path("/data"), "me")


def test_place_is_parsed() -> None:
    assert Place.parse("") == Place(server=own_address())
    assert Place.parse("ml?claim=c&image=reg/img:1&node=pool=gpu&server=10.0.0.5") == Place(
        "ml", "reg/img:1", "c", {"pool": "gpu"}, "10.0.0.5"
    )
    with pytest.raises(Invalid):
        Place.parse("ml?volume=x")
