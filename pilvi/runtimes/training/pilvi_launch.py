"""How the customer's program is started: once on this host, or as one of many ranks over all hosts.

The hyperparameters say which (the SDK's `distribution` becomes them):

    sagemaker_torch_distributed_enabled                         ranks as torchrun makes them
    sagemaker_pytorch_ddp_enabled ("pytorchddp")                the same
    sagemaker_distributed_dataparallel_enabled (smddp)          the same; smdistributed.dataparallel is a module of ours
    sagemaker_mpi_enabled                                       mpirun where the environment has it, else ranks by variables
    sagemaker_parameter_server_enabled, ..._multi_worker_...    TF_CONFIG
    nothing                                                     one process a host
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilvi_environment import Environment
from pilvi_source import ClientError

PORT = 7777
"""What SM_MASTER_PORT and AWS's launchers use; a store of ours that listens takes a port of the job's own."""
_TORCH = ("sagemaker_torch_distributed_enabled", "sagemaker_pytorch_ddp_enabled", "sagemaker_distributed_dataparallel_enabled")
_TENSORFLOW = ("sagemaker_parameter_server_enabled", "sagemaker_multi_worker_mirrored_strategy_enabled")
_KNOWN = {
    *_TORCH, *_TENSORFLOW, "sagemaker_mpi_enabled", "sagemaker_mpi_num_of_processes_per_host", "sagemaker_mpi_custom_mpi_options",
    "sagemaker_distributed_dataparallel_custom_mpi_options", "sagemaker_instance_type", "sagemaker_distribution_instance_groups",
    "sagemaker_estimator_class_name", "sagemaker_estimator_module", "sagemaker_mpi_num_processes", "sagemaker_communication_options",
    "sagemaker_pytorch_xla_multi_worker_enabled", "sagemaker_use_checkpointing", "sagemaker_s3_output",
}  # fmt: skip


def program_command(program: str, arguments: list[str], code: Path) -> list[str]:
    """The customer's program as one process: a script, a package, or anything that a shell runs."""
    if program.endswith(".sh"):
        return ["/bin/sh", "-c", f"./{program} {shlex.join(arguments)}"]
    if (code / "setup.py").exists():
        return [sys.executable, "-m", program.removesuffix(".py"), *arguments]
    if program.endswith(".py"):
        return [sys.executable, program, *arguments]
    return ["/bin/sh", "-c", f"./{program} {shlex.join(arguments)}"]


def launch_command(env: Environment, program: str, code: Path, variables: dict[str, str]) -> list[str]:
    """The command of this host; `variables` gets what the launcher adds to the environment."""
    asked = env.additional_framework_parameters
    command = program_command(program, env.arguments(), code)
    _warn_of_unknown(env)
    variables |= {"MASTER_ADDR": env.master_hostname, "MASTER_PORT": str(master_port())} if _is_torch(env) else {}
    if env.distribution_instance_groups and env.current_instance_group not in env.distribution_instance_groups:
        return command
    if asked.get("sagemaker_pytorch_xla_multi_worker_enabled"):
        raise ClientError("The distribution pytorchxla needs devices that no server of this kind has.")
    if any(asked.get(name) for name in _TENSORFLOW):
        variables["TF_CONFIG"] = json.dumps(tensorflow_cluster(env, bool(asked.get(_TENSORFLOW[0]))))
        return command
    if asked.get("sagemaker_mpi_enabled"):
        from pilvi_mpi import mpi_command

        return mpi_command(env, command, variables)
    if any(asked.get(name) for name in _TORCH):
        return _torchrun(env, program, code)
    return command


def processes_per_host(env: Environment) -> int:
    """One per GPU, else what was asked for, else one."""
    asked = env.additional_framework_parameters.get("sagemaker_mpi_num_of_processes_per_host")
    return int(asked or env.num_gpus or 1)


def master_port() -> int:
    """The job's own: jobs of one machine share its ports."""
    digest = hashlib.sha256((os.environ.get("TRAINING_JOB_ARN") or os.environ.get("TRAINING_JOB_NAME") or "").encode()).digest()
    return 12000 + int.from_bytes(digest[:4], "big") % 16000


def interface_of(host: str) -> str:
    """The network interface that leads to a host: loopback where all hosts are on one machine."""
    try:
        return "lo" if socket.gethostbyname(host).startswith("127.") else ""
    except OSError:
        return ""


# -- PyTorch --------------------------------------------------------------------------------------------------------------


def _is_torch(env: Environment) -> bool:
    return os.environ.get("PILVI_FRAMEWORK") == "torch" or any(env.additional_framework_parameters.get(name) for name in _TORCH)


def _torchrun(env: Environment, program: str, code: Path) -> list[str]:
    """What `torchrun --nnodes N --nproc_per_node M --node_rank K` does, without importing PyTorch for it."""
    if not program.endswith(".py") or (code / "setup.py").exists():
        raise ClientError("Python packages and shell scripts are not supported for torch_distributed. Please use a python script.")
    if importlib.util.find_spec("torch") is None:
        raise ClientError("The distribution asks for PyTorch's launcher, and this image has no PyTorch.")
    hosts, each = env.distribution_hosts, processes_per_host(env)
    first = hosts.index(env.current_host) * each
    launcher = [sys.executable, "-m", "pilvi_ranks", "torch", str(first), str(each), str(each * len(hosts)), "--"]
    return [*launcher, sys.executable, program, *env.arguments()]


# -- TensorFlow -----------------------------------------------------------------------------------------------------------


def tensorflow_cluster(env: Environment, has_parameter_servers: bool) -> dict[str, Any]:
    """TF_CONFIG. With parameter servers every host has one, and the first host is the master, as on AWS; else all are workers.

    Source: sagemaker-tensorflow-training-toolkit, training.py, _build_tf_config_for_ps and _build_tf_config_for_mwms.
    """
    hosts = env.distribution_hosts
    # TensorFlow listens at every address of the machine, which the hosts may share: each has ports of its own.
    worker = {host: f"{host}:{master_port() + 2 * number}" for number, host in enumerate(hosts)}
    server = {host: f"{host}:{master_port() + 2 * number + 1}" for number, host in enumerate(hosts)}
    if not has_parameter_servers:
        cluster: Mapping[str, list[str]] = {"worker": list(worker.values())}
        return {"cluster": cluster, "task": {"type": "worker", "index": hosts.index(env.current_host)}, "environment": "cloud"}
    masters, workers = hosts[:1], hosts[1:]
    cluster = {"master": [worker[host] for host in masters]}
    if workers:
        cluster |= {"ps": list(server.values()), "worker": [worker[host] for host in workers]}
    is_master = env.current_host in masters
    index = 0 if is_master else workers.index(env.current_host)
    return {"cluster": cluster, "environment": "cloud", "task": {"index": index, "type": "master" if is_master else "worker"}}


def _warn_of_unknown(env: Environment) -> None:
    """A setting that nobody reads would be a launch that is not the one that was meant."""
    if env.hyperparameters.get("mp_parameters") and not env.additional_framework_parameters.get("sagemaker_mpi_enabled"):
        print("Model parallelism is asked for without MPI: it is started once per host only.", flush=True)
    for name in sorted(set(env.additional_framework_parameters) - _KNOWN):
        print(f"The setting {name} is not known here and changes nothing.", flush=True)
