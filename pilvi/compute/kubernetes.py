"""Kubernetes as the place where programs run: each program is a pod; the cluster decides where, and queues.

    KubernetesCompute -- Api (the official client) -- pods
         +- Pod: one thread that follows the pod's log and then asks how it ended

Needs the extra `pilvi[kubernetes]` and a kubeconfig, or to run in the cluster itself. The pods use the server's folders in place: by a
persistent volume claim that is mounted as the data directory here, or by folders that every node has at the same path.
A pod whose server gives no sign of life for some minutes ends itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import parse_qsl

from pilvi.compute import Bind, Exit, Node, ProcessSpec
from pilvi.compute.machine import own_address
from pilvi.core.errors import Invalid, NotFound, Unavailable

log = logging.getLogger("pilvi.compute")

IMAGE = "python:3.11-slim-bookworm"
"""What a pod has beside its binds: a C library, a shell, and the base interpreter of the runtimes."""
_ALIVE = "/run/pilvi"
_SIGN_S = 30.0
_LOOK_S = 0.5
_MEMORY_CODE = 137
_LIFE = f"""
program=
trap 'asked=1; [ -z "$program" ] || kill -TERM -$program 2>/dev/null' TERM
setsid "$@" &
program=$!
[ -z "$asked" ] || kill -TERM $program
( while sleep 20; do
    [ -n "$(find {_ALIVE}/alive -mmin -3 2>/dev/null)" ] || kill -KILL -$program
  done ) &
while :; do
  wait $program
  code=$?
  kill -0 $program 2>/dev/null || break
done
wait $program 2>/dev/null
again=$?
[ $again = 127 ] || code=$again
exit $code
"""
"""The pod's first process, with which all others go: passes on SIGTERM, ends the program when the server's sign of life grows old, and
tells the program's exit status. It signals nobody but the program's group: it must be harmless outside a pod too."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the cluster, and how the pods come to the server's files."""

    namespace: str = "default"
    image: str = IMAGE
    claim: str = ""
    """The persistent volume claim that is the data directory; "" where nodes have the server's folders themselves."""
    node_selector: Mapping[str, str] | None = None
    server: str = ""
    """Where pods reach the server's machine."""

    @classmethod
    def parse(cls, text: str) -> Place:
        """`NAMESPACE?image=...&claim=...&node=LABEL=VALUE&server=ADDRESS`, all of it optional."""
        namespace, _, query = text.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := options.keys() - {"image", "claim", "node", "server"}:
            raise Invalid(f"--compute kubernetes knows image, claim, node and server, not {', '.join(sorted(unknown))}.")
        label, _, value = options.get("node", "").partition("=")
        return cls(
            namespace or "default",
            options.get("image") or IMAGE,
            options.get("claim", ""),
            {label: value} if label else None,
            options.get("server") or own_address(),
        )


class Api(Protocol):
    """What is asked of the cluster, in the API's own JSON. NotFound for what is not there, Unavailable when it does not answer."""

    def create(self, manifest: Mapping[str, Any]) -> None: ...

    def pod(self, name: str) -> Mapping[str, Any]: ...

    def pods(self, selector: str) -> Sequence[str]: ...

    def delete(self, kind: str, name: str, grace_s: int) -> None: ...

    def log(self, name: str) -> Iterator[bytes]:
        """Everything the pod says, as it comes, until its end."""


# -- manifests: pure ------------------------------------------------------------------------------------------------------


def pod_manifest(name: str, spec: ProcessSpec, place: Place, data_dir: Path, server: str) -> dict[str, Any]:
    """The pod that runs a program. Unavailable for what a pod cannot give."""
    if not spec.network:
        raise Unavailable("Jobs in network isolation run on this machine only, not on Kubernetes.")
    if spec.root is not None:
        raise Unavailable("Own container images run on this machine only, not on Kubernetes.")
    binds = (*spec.binds, Bind(data_dir / "alive", _ALIVE))
    volumes, mounts = _volumes(binds, place, data_dir)
    group = group_of(spec)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "hostname": spec.hostname.split(".")[0],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
        "containers": [
            {
                "name": "program",
                "image": place.image,
                "command": ["/bin/sh", "-c", _LIFE, "pilvi", *spec.command],
                "workingDir": spec.cwd,
                "env": [{"name": key, "value": _from_there(value, place.server)} for key, value in spec.env.items()],
                "resources": _resources(spec),
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [*mounts, {"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
        "volumes": [*volumes, {"name": "shm", "emptyDir": {"medium": "Memory"}}],
    }
    if place.node_selector:
        pod["nodeSelector"] = dict(place.node_selector)
    if group:
        pod["subdomain"] = group
        pod["dnsConfig"] = {"searches": [f"{group}.{place.namespace}.svc.cluster.local"]}
    elif aliases := [{"ip": address, "hostnames": [host]} for host, address in spec.hosts.items() if host != spec.hostname]:
        pod["hostAliases"] = aliases
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": place.namespace, "labels": _labels(server, group)},
        "spec": pod,
    }


def _from_there(text: str, server: str) -> str:
    """In a pod, the loopback address is not this machine's."""
    return text.replace("//127.0.0.1:", f"//{server}:") if server else text


def service_manifest(group: str, place: Place, server: str) -> dict[str, Any]:
    """The names of a job's hosts: a service without an address of its own, before its pods are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": group, "namespace": place.namespace, "labels": _labels(server, group)},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"pilvi/group": group}},
    }


def group_of(spec: ProcessSpec) -> str:
    """One name for all hosts of a job, which share their table of hosts; '' for a job on a single one."""
    if len(spec.hosts) < 2:
        return ""
    text = "\n".join(f"{name} {address}" for name, address in sorted(spec.hosts.items()))
    return f"pilvi-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _labels(server: str, group: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "pilvi", "pilvi/server": server, **({"pilvi/group": group} if group else {})}


def _resources(spec: ProcessSpec) -> dict[str, Any]:
    """The wish is the limit too: what is not asked for cannot be used."""
    found: dict[str, str] = {}
    if spec.cpus is not None:
        found["cpu"] = str(spec.cpus)
    if spec.memory_mib is not None:
        found["memory"] = f"{spec.memory_mib}Mi"
    if spec.gpus:
        found["nvidia.com/gpu"] = str(len(spec.gpus))
    return {"requests": found, "limits": dict(found)}


def _volumes(binds: Sequence[Bind], place: Place, data_dir: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parents are mounted before what lies in them. What the image has as well as this machine is taken from the image."""
    volumes: dict[str, dict[str, Any]] = {}
    mounts = []
    for bind in sorted(binds, key=lambda bind: len(PurePosixPath(bind.target).parts)):
        if bind.target.startswith(("/usr/", "/sys/")):
            continue
        mount: dict[str, Any] = {"mountPath": bind.target, "readOnly": not bind.writable}
        if place.claim and bind.source.is_relative_to(data_dir):
            volumes["data"] = {"name": "data", "persistentVolumeClaim": {"claimName": place.claim}}
            mount |= {"name": "data", "subPath": str(bind.source.relative_to(data_dir))}
        else:
            name = f"host-{len(volumes)}"
            volumes[name] = {"name": name, "hostPath": {"path": str(bind.source)}}
            mount["name"] = name
        mounts.append(mount)
    return list(volumes.values()), mounts


# -- the adapter ----------------------------------------------------------------------------------------------------------


class KubernetesCompute:
    def __init__(self, api: Api, place: Place, data_dir: Path) -> None:
        self._api = api
        self._place = place
        self._data_dir = data_dir
        self._sign = data_dir / "alive" / "alive"
        self._sign.parent.mkdir(parents=True, exist_ok=True)
        self.server = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]
        self._pods: set[Pod] = set()
        self._groups: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        # What an earlier server left: its jobs have been told lost.
        for name in api.pods(f"pilvi/server={self.server}"):
            with contextlib.suppress(NotFound):
                api.delete("Pod", name, 0)
        self._sign.touch()
        threading.Thread(target=self._live, name="pilvi-kubernetes", daemon=True).start()

    @property
    def isolation(self) -> str:
        return "kubernetes"

    def nodes(self) -> Sequence[Node]:
        return ()

    def launch(self, spec: ProcessSpec, on_line: Callable[[str], None]) -> Pod:
        name = f"pilvi-{re.sub(r'[^a-z0-9-]', '-', spec.hostname.lower())[:30].strip('-')}-{uuid.uuid4().hex[:12]}"
        manifest = pod_manifest(name, spec, self._place, self._data_dir, self.server)
        with self._lock:
            if self._closed.is_set():
                raise Unavailable("The server is stopping.")
            group = group_of(spec)
            self._hold(group)
        try:
            self._api.create(manifest)
        except Exception:
            self._let_go(group)
            raise
        pod = Pod(self._api, name, on_line, lambda pod: self._ended(pod, group))
        with self._lock:
            self._pods.add(pod)
        pod.start()
        return pod

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            left = list(self._pods)
        for pod in left:
            pod.kill()
        for pod in left:
            pod.wait(10.0)
        self._sign.unlink(missing_ok=True)

    # -- private ------------------------------------------------------------------------------------------------------

    def _hold(self, group: str) -> None:
        """With the lock held: the service of a job's hosts, made for the first of them."""
        if group:
            if group not in self._groups:
                self._api.create(service_manifest(group, self._place, self.server))
            self._groups[group] = self._groups.get(group, 0) + 1

    def _let_go(self, group: str) -> None:
        with self._lock:
            if group and self._groups.get(group):
                self._groups[group] -= 1
                if not self._groups[group]:
                    del self._groups[group]
                    with contextlib.suppress(NotFound, Unavailable):
                        self._api.delete("Service", group, 0)

    def _ended(self, pod: Pod, group: str) -> None:
        self._let_go(group)
        with self._lock:
            self._pods.discard(pod)

    def _live(self) -> None:
        while not self._closed.wait(_SIGN_S):
            self._sign.touch()


class Pod:
    """A program in the cluster."""

    def __init__(self, api: Api, name: str, on_line: Callable[[str], None], at_end: Callable[[Pod], None]) -> None:
        self.pid = 0
        self.name = name
        self._api = api
        self._on_line = on_line
        self._at_end = at_end
        self._exit: Exit | None = None
        self._ended = threading.Event()
        self._reason = "exit"
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._follow, name=f"pilvi-{self.name}", daemon=True).start()

    def poll(self) -> Exit | None:
        return self._exit

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        self._ended.wait(timeout_s)
        return self._exit

    def stop(self, grace_s: float) -> None:
        self._delete(max(1, round(grace_s)))

    def kill(self) -> None:
        self._delete(0)

    def peak_memory_mib(self) -> int:
        """Not told by the API: a cluster's metrics are its own."""
        return 0

    # -- private ------------------------------------------------------------------------------------------------------

    def _delete(self, grace_s: int) -> None:
        with self._lock:
            if self._exit is not None:
                return
            self._reason = "stopped"

        def delete() -> None:
            with contextlib.suppress(NotFound, Unavailable):
                self._api.delete("Pod", self.name, grace_s)

        threading.Thread(target=delete, name="pilvi-delete", daemon=True).start()

    def _follow(self) -> None:
        """Wait for the pod, hear it out, ask how it ended, take it away."""
        ended = Exit(-9, "lost")
        try:
            if self._waited_for_start():
                self._hear()
            ended = self._end_of_pod()
        except NotFound:
            ended = Exit(-9, self._reason if self._reason == "stopped" else "lost")
        except Unavailable as error:
            self._say(f"The cluster does not answer any more: {error}")
        finally:
            with contextlib.suppress(NotFound, Unavailable):
                self._api.delete("Pod", self.name, 0)
            with self._lock:
                self._exit = ended
            self._ended.set()
            self._at_end(self)

    def _waited_for_start(self) -> bool:
        """False when it ended without ever running. Says why it waits, each reason once."""
        said = set()
        while True:
            status = self._api.pod(self.name).get("status") or {}
            phase = status.get("phase", "Pending")
            if phase != "Pending":
                return True
            if (reason := why_pending(status)) and reason not in said:
                said.add(reason)
                self._say(f"Waiting for the cluster: {reason}")
            if (fatal := _fatal(status)) is not None:
                self._say(fatal)
                return False
            time.sleep(_LOOK_S)

    def _hear(self) -> None:
        rest = b""
        for piece in self._api.log(self.name):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._say(line.decode(errors="replace"))
        if rest:
            self._say(rest.decode(errors="replace"))

    def _end_of_pod(self) -> Exit:
        while True:
            status = self._api.pod(self.name).get("status") or {}
            if _fatal(status) is not None:
                return Exit(1, "lost")
            if (ended := end_of(status)) is not None:
                return Exit(ended.code, self._reason) if self._reason == "stopped" else ended
            time.sleep(_LOOK_S)

    def _say(self, line: str) -> None:
        try:
            self._on_line(line)
        except Exception:  # one listener's bug must not end the pod's thread
            log.exception("a listener to the output of pod %s failed", self.name)


def end_of(status: Mapping[str, Any]) -> Exit | None:
    """How a pod's program ended, as its status tells; None while it runs."""
    for container in status.get("containerStatuses") or ():
        if (ended := (container.get("state") or {}).get("terminated")) is not None:
            code = int(ended.get("exitCode", -9))
            if ended.get("reason") == "OOMKilled":
                return Exit(_MEMORY_CODE, "memory")
            return Exit(128 - code if 128 < code <= 128 + 64 else code)
    if status.get("phase") == "Failed":
        # Evicted, or its node is gone.
        return Exit(-9, "lost")
    return None


def why_pending(status: Mapping[str, Any]) -> str:
    """Why a pod does not run yet, in the cluster's words."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def _fatal(status: Mapping[str, Any]) -> str | None:
    """A pod that will never start."""
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"):
            return f"The pod cannot start: {waiting.get('reason')}: {waiting.get('message', '')}"
    return None


# -- the official client --------------------------------------------------------------------------------------------------


def kubernetes_compute(where: str, data_dir: Path) -> KubernetesCompute:
    """Unavailable when the client is not installed, or no cluster is configured."""
    place = Place.parse(where)
    return KubernetesCompute(ClientApi(place.namespace), place, data_dir)


class ClientApi:
    """The cluster by its official Python client."""

    def __init__(self, namespace: str, configuration: Any = None) -> None:
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise Unavailable(
                "Programs run on Kubernetes only where its client is installed: pip install 'pilvi[kubernetes]'"
            ) from error
        if configuration is None:
            try:
                config.load_config()
            except config.ConfigException as error:
                raise Unavailable(f"There is no Kubernetes cluster to be found: {error}") from error
        self._client = client.ApiClient(configuration)
        self._core = client.CoreV1Api(self._client)
        self._namespace = namespace
        self._error: type[Exception] = client.ApiException

    def create(self, manifest: Mapping[str, Any]) -> None:
        call = self._core.create_namespaced_pod if manifest["kind"] == "Pod" else self._core.create_namespaced_service
        with self._told():
            call(self._namespace, dict(manifest))

    def pod(self, name: str) -> Mapping[str, Any]:
        with self._told():
            found: Mapping[str, Any] = self._client.sanitize_for_serialization(
                self._core.read_namespaced_pod(name, self._namespace)
            )
            return found

    def pods(self, selector: str) -> Sequence[str]:
        with self._told():
            return [pod.metadata.name for pod in self._core.list_namespaced_pod(self._namespace, label_selector=selector).items]

    def delete(self, kind: str, name: str, grace_s: int) -> None:
        call = self._core.delete_namespaced_pod if kind == "Pod" else self._core.delete_namespaced_service
        with self._told():
            call(name, self._namespace, grace_period_seconds=grace_s)

    def log(self, name: str) -> Iterator[bytes]:
        with self._told():
            stream = self._core.read_namespaced_pod_log(name, self._namespace, follow=True, _preload_content=False)
        yield from stream.stream(65536)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors in our words."""
        try:
            yield
        except self._error as error:
            if getattr(error, "status", 0) == 404:
                raise NotFound(str(error)) from error
            raise Unavailable(f"Kubernetes answers {getattr(error, 'status', '?')} {getattr(error, 'reason', '')}") from error
        except OSError as error:
            raise Unavailable(f"Kubernetes cannot be reached: {error}") from error
