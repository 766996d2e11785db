"""What a program of a job finds around itself: its environment variables, its files, its role's credentials."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.compute import Bind, ProcessSpec
from pilvi.compute.environments import Environment, Environments, interpreter
from pilvi.core.errors import Invalid, LimitExceeded, ServiceError, Unavailable
from pilvi.core.service import ClientSide
from pilvi.jobs.host import Host
from pilvi.jobs.image import Unpacked, unpack
from pilvi.jobs.record import service_context
from pilvi.jobs.spec import JobSpec

if TYPE_CHECKING:
    from pilvi.auth.identity import Identity
    from pilvi.core.service import Cloud

_LONG_SESSION_S = 43200
_SESSION_S = 3600
_PACKAGES = "/tmp/packages"
_SUPPORT = "/opt/pilvi"


class Surroundings:
    """One job's, the same for all its hosts but for what each has of its own."""

    def __init__(self, cloud: Cloud, spec: JobSpec, gpus: int = 0) -> None:
        """gpus: how many its hosts get, which chooses between the builds of an environment."""
        self._cloud = cloud
        self._spec = spec
        self._gpus = gpus
        self._environment: Environment | None = None
        self._image: Unpacked | None = None
        self._client: dict[str, str] | None = None

    def prepare(self) -> None:
        """Find the environment, or unpack the image. Unavailable, with what helps, when it is not there."""
        if not self._spec.image:
            self._environment = self._find_environment(self._spec.runtime)
            for name in self._spec.also_runtimes:
                self._find_environment(name)
            return
        if self._cloud.job_compute.isolation == "none":
            raise Unavailable("This machine has no namespaces, so a container image cannot be run here.")
        ctx = service_context(self._cloud, self._spec)
        as_role = ctx.as_role(self._spec.role_arn, self._spec.session_name) if self._spec.role_arn else ctx
        self._image = unpack(as_role, self._spec.image)

    def clean(self) -> None:
        """Nothing of the job runs any more."""
        if self._image is not None:
            self._image.lease.end()

    def process_spec(self, host: Host, hosts: Mapping[str, str], memory_mib: int | None) -> ProcessSpec:
        """The host's program. hosts: addresses of the job's hosts by name."""
        if self._image is not None:
            return self._image_spec(self._image, host, hosts, memory_mib)
        environment, spec = self._environment, self._spec
        assert environment is not None
        others = {name: self._find_environment(name) for name in spec.also_runtimes}
        ours = (*environment.binds, *(bind for other in others.values() for bind in other.binds))
        binds, paths = [*dict.fromkeys(ours), *self._client_side().binds, *host.binds()], [_PACKAGES]
        if spec.support:
            binds.append(Bind(Path(str(importlib.resources.files(spec.support))), _SUPPORT))
            paths.insert(0, _SUPPORT)
        env = {
            "PATH": f"{environment.bin}:{_SUPPORT}/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            # The environment is shared and read-only; what a job installs is its own.
            "PYTHONPATH": ":".join(paths),
            "PIP_TARGET": _PACKAGES,
            **{f"PILVI_PYTHON_{name}": str(other.python) for name, other in others.items()},
            **self._client_environment(),
            **spec.env,
            **host.member.env,
            **(spec.open_env if self._cloud.job_compute.isolation == "none" else {}),
        }
        return ProcessSpec(
            spec.command,
            env,
            tuple(binds),
            cwd=spec.cwd,
            hostname=host.name,
            hosts={**spec.hosts, **hosts},
            network=spec.network,
            memory_mib=memory_mib,
        )

    # -- private ------------------------------------------------------------------------------------------------------

    def _image_spec(self, image: Unpacked, host: Host, hosts: Mapping[str, str], memory_mib: int | None) -> ProcessSpec:
        """The host's program in its image: the image's environment, with what the job says above it, and nothing of ours inside."""
        spec = self._spec
        env = {
            **image.config.environment(image.user.home),
            **self._client_environment(),
            **spec.env,
            **host.member.env,
        }
        return ProcessSpec(
            image.config.command(spec.command, replaces_entry=spec.replaces_entry),
            env,
            (*self._client_side().binds, *host.binds()),
            cwd=image.config.working_dir,
            hostname=host.name,
            hosts={**spec.hosts, **hosts},
            network=spec.network,
            memory_mib=memory_mib,
            root=image.root(host.folder / "changes"),
        )

    def _find_environment(self, name: str) -> Environment:
        if not name:
            return interpreter()
        found = Environments(self._cloud.config.runtimes_dir).find_for(name, self._gpus)
        if found is None:
            raise Unavailable(f"The runtime {name} is not installed. Install it with: pilvi runtimes install {name}")
        return found

    def _client_environment(self) -> dict[str, str]:
        """How AWS clients inside find this server, as the job's role; the same keys for every host."""
        if not self._spec.network:
            return {"AWS_REGION": self._spec.region}
        if self._client is None:
            self._client = {**self._client_side().env, **self._keys()}
        return self._client

    def _client_side(self) -> ClientSide:
        """Where this server is, and what else clients inside need to know; nothing for who has no network."""
        spec = self._spec
        return self._cloud.client_side(spec.account, spec.region) if spec.network else ClientSide({}, ())

    def _keys(self) -> dict[str, str]:
        if not self._spec.role_arn:
            return {}
        identity = self._credentials()
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.session_token,
        }

    def _credentials(self) -> Identity:
        """The role's keys, for as long as the role allows."""
        caller = service_context(self._cloud, self._spec).principal
        assume = self._cloud.identities.assume_role
        try:
            return assume(caller, self._spec.role_arn, self._spec.session_name, duration_s=_LONG_SESSION_S)
        except (Invalid, LimitExceeded, ServiceError):
            return assume(caller, self._spec.role_arn, self._spec.session_name, duration_s=_SESSION_S)
