"""What runs a function: which identifiers there are, the environment each needs, and the program that is started.

A program that speaks the runtime API and marks its output (runtimes/lambda_) is ours; one that a package or a layer brings (`bootstrap`) only
speaks the API: what it says between taking an event and answering it is that invocation's.

Source: developer guide, "Lambda runtimes", "Building a custom runtime for AWS Lambda".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pilvi.compute.environments import Environment
from pilvi.compute.node_packages import node_of
from pilvi.services.lambda_.names import invalid

PYTHONS: Final = tuple(f"python3.{minor}" for minor in range(8, 15))
NODES: Final = ("nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x")
CUSTOM: Final = ("provided", "provided.al2", "provided.al2023")
DEPRECATED: Final = frozenset(
    {"python3.6", "python3.7", "python3.8", "python3.9", "nodejs12.x", "nodejs14.x", "nodejs16.x", "nodejs18.x", "provided"}
)
"""AWS says they end, or takes no new functions with them; here they run on what runs their successors, and their log says so."""
RUNTIMES: Final = tuple(dict.fromkeys((*PYTHONS, *NODES, *CUSTOM, *sorted(DEPRECATED))))
_RETIRED: Final = ("python2.7", "nodejs", "nodejs4.3", "nodejs6.10", "nodejs8.10", "nodejs10.x")
_TASK_ROOT: Final = "/var/task"
_RUNTIME_DIR: Final = "/var/runtime"


class Language(NamedTuple):
    name: str
    environment: str
    """'' where the package brings all it needs."""
    is_marked: bool
    """Its program says in its output where an invocation starts and ends."""


PYTHON: Final = Language("python", "lambda-python", True)
NODE: Final = Language("node", "lambda-node", True)
PROVIDED: Final = Language("provided", "", False)
IMAGE: Final = Language("image", "", False)
"""A container image brings everything, and says itself what is started."""


def language_of(record: Mapping[str, Any]) -> Language:
    if record["PackageType"] == "Image":
        return IMAGE
    runtime = str(record["Runtime"])
    if runtime.startswith("nodejs"):
        return NODE
    return PROVIDED if runtime.startswith("provided") else PYTHON


def check_runtime(runtime: str) -> None:
    if runtime in RUNTIMES:
        return
    if runtime in _RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    raise invalid(f"The runtime {runtime} is not available in this cloud; available are {', '.join(RUNTIMES)}.")


def deprecation_of(runtime: str) -> str:
    """What the log of a function says that is made for a runtime of old; '' otherwise."""
    if runtime not in DEPRECATED:
        return ""
    return f"WARNING: the runtime {runtime} is deprecated; this function runs on the one that runs its successors.\n"


def command_for(
    language: Language, environment: Environment | None, handler: str, memory_mib: int, roots: Mapping[str, Path]
) -> tuple[str, ...]:
    """The program to start. Raises MissingBootstrap where a package should bring it and does not."""
    if language is PYTHON:
        assert environment is not None
        return (str(environment.python), f"{_RUNTIME_DIR}/bootstrap.py", handler)
    if language is NODE:
        assert environment is not None
        heap = f"--max-old-space-size={max(64, memory_mib * 9 // 10)}"
        return (str(node_of(environment.path)), heap, f"{_RUNTIME_DIR}/bootstrap.mjs", handler)
    tried = [f"{root}/bootstrap" for root in (_TASK_ROOT, "/opt")]
    found = [path for path in tried if (root := os.path.dirname(path)) in roots and (roots[root] / "bootstrap").is_file()]
    if not found:
        raise MissingBootstrap(f"Couldn't find valid bootstrap(s): [{' '.join(tried)}]")
    if not os.access(roots[os.path.dirname(found[0])] / "bootstrap", os.X_OK):
        raise MissingBootstrap(f"fork/exec {found[0]}: permission denied")
    return (found[0],)


class MissingBootstrap(Exception):
    """AWS's Runtime.InvalidEntrypoint."""
